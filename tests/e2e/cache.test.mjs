// The cache of compiled plugins: a folder that the host cleans up, and what else may lie around there.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

test('cleaning up compiled plugins touches nothing else', async (t) => {
  const cache = mkdtempSync(join(tmpdir(), 'mixlab-cache-'));
  t.after(() => rmSync(cache, { recursive: true, force: true }));
  const file = (folder, name) => {
    mkdirSync(join(cache, folder), { recursive: true });
    writeFileSync(join(cache, folder, name), 'precious');
    return join(cache, folder, name);
  };
  const foreign = [file('', 'file.txt'), file('folder', 'file.txt'), file('modules', 'file.txt')];
  const stray = file('components', 'stray.txt');
  await startServer(t, { env: { MIXLAB_RUNTIME__CACHE: cache }, plugins: ['echo'] });
  await until(() => !existsSync(stray), { message: 'the folder of compiled plugins has been cleaned up' });
  for (const path of foreign) assert.ok(existsSync(path), path);
  assert.deepEqual(readdirSync(cache).sort(), ['components', 'file.txt', 'folder', 'modules']);
});
