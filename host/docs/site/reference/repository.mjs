// What references are made of.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));

export const read = (path) => readFileSync(join(ROOT, path), 'utf8');

/** Runs `mixlab` with these arguments, and returns what it prints. */
export function mixlab(args, cwd = ROOT) {
  const manifest = ['run', '--quiet', '--manifest-path', join(ROOT, 'Cargo.toml'), '--'];
  const [program, before] = process.env.MIXLAB_BIN ? [resolve(process.env.MIXLAB_BIN), []] : ['cargo', manifest];
  return execFileSync(program, [...before, ...args], { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}

/** Text that Markdown takes as it is, but for code in backticks. It may stand in a table. */
export const plain = (text) =>
  text
    .split(/(`[^`]+`)/)
    .map((part) => (part.startsWith('`') ? part.replaceAll('|', '\\|') : part.replace(/[\\*_[\]<>|{}]/g, '\\$&')))
    .join('');

/** A block of code. */
export const code = (language, text) => `\`\`\`${language}\n${text.trimEnd()}\n\`\`\`\n`;
