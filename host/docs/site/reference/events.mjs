// The host's own events, as it tells them to those who write clients.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { code, mixlab, plain } from './repository.mjs';

export function hostEvents() {
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-docs-'));
  try {
    // Of a server without plugins.
    writeFileSync(join(folder, 'mixlab.toml'), '');
    mixlab(['docs', 'out'], folder);
    const { operations } = JSON.parse(readFileSync(join(folder, 'out/asyncapi.json'), 'utf8'));
    const rows = Object.values(operations).map(({ title, action, description }) => {
      const who = action === 'send' ? 'the server' : 'a client';
      return `| \`${title}\` | ${who} | ${plain(description)} |`;
    });
    const types = readFileSync(join(folder, 'out/events.d.ts'), 'utf8');
    const table = `| event | sent by | |\n|---|---|---|\n${rows.join('\n')}\n`;
    return `${table}\n## Their types\n\nWhat \`mixlab types\` writes for a server without plugins:\n\n${code('ts', types)}`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
