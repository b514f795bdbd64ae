// What was pulled from a registry and is kept: by nobody else's hand, and not for ever.
import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { startRegistry } from '../support/registry.mjs';
import { makeFolder, startServer, wasm } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const COMPONENT = { mediaType: 'application/wasm', bytes: readFileSync(wasm('echo')) };
const env = { MIXLAB_RUNTIME__CACHE: 'own-cache' };
const ofRegistry = (reference) => `[[plugins]]\nname = "echo"\npath = "${reference}"\n`;
const digitsOf = (reference) => reference.split('sha256:')[1];

test('what others may have put into the folder of what was pulled is not taken for it', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const file = `${digitsOf(reference)}.wasm`;
  const config = ofRegistry(reference);
  const home = makeFolder(t, { config, env, files: { [`own-cache/pulled/${file}`]: readFileSync(wasm('traps')) } });
  const pulled = join(home.folder, 'own-cache/pulled');
  for (const mode of [0o777, 0o775]) {
    chmodSync(pulled, mode);
    const { code, stdout, stderr } = await home.mixlab('check');
    assert.equal(code, 1, stdout);
    assert.match(stderr, /echo: others may write to .*own-cache.*chmod go-w/);
  }
});

test('a file that others may write to is not taken either', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const home = makeFolder(t, { config: ofRegistry(reference), env });
  assert.equal((await home.mixlab('check')).code, 0);
  const file = join(home.folder, 'own-cache/pulled', `${digitsOf(reference)}.wasm`);
  chmodSync(file, 0o666);
  const { code, stderr } = await home.mixlab('check');
  assert.equal(code, 1);
  assert.match(stderr, /echo: others may write to .*\.wasm \(mode 666\)/);
  chmodSync(file, 0o644);
  assert.equal((await home.mixlab('check')).code, 0);
});

const asRoot = { skip: process.getuid() === 0 ? false : 'only root may give a file away' };

test('a file or a folder of another user is not taken either', asRoot, async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const home = makeFolder(t, { config: ofRegistry(reference), env });
  assert.equal((await home.mixlab('check')).code, 0);
  const pulled = join(home.folder, 'own-cache/pulled');
  for (const path of [pulled, join(pulled, `${digitsOf(reference)}.wasm`)]) {
    chownSync(path, 65_534, 65_534);
    const { code, stderr } = await home.mixlab('check');
    assert.equal(code, 1);
    assert.ok(stderr.includes(`${path} belongs to user 65534`), stderr);
    chownSync(path, 0, 0);
    assert.equal((await home.mixlab('check')).code, 0);
  }
});

test('what was pulled and is used no more makes room, and what was used lately stays', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const home = makeFolder(t);
  const pulled = join(home.folder, 'own-cache/pulled');
  mkdirSync(pulled, { recursive: true });
  const hoursAgo = (hours) => Date.now() / 1000 - hours * 3600;
  const put = (name, hours, bytes = 0) => {
    writeFileSync(join(pulled, name), '');
    truncateSync(join(pulled, name), bytes);
    utimesSync(join(pulled, name), hoursAgo(hours), hoursAgo(hours));
    return name;
  };
  const half = 600 << 20;
  const oldest = put(`${'0'.repeat(64)}.wasm`, 100, half);
  const older = put(`${'1'.repeat(64)}.wasm`, 90, half);
  const old = put(`${'2'.repeat(64)}.wasm`, 80, half);
  const abandoned = put(`${'3'.repeat(64)}.wasm.x.part`, 1);
  const begun = put(`${'4'.repeat(64)}.wasm.x.part`, 0);
  const foreign = put('notes.txt', 1000);
  const server = await startServer(t, { config: ofRegistry(reference), env: { MIXLAB_RUNTIME__CACHE: join(home.folder, 'own-cache') } });
  const client = await connect(t, server);
  await until(async () => (await ask(client, 'echo', 1).catch(() => {})) === 1);
  // It serves as soon as its file is there, and that is when room is made.
  const gone = (name) => !readdirSync(pulled).includes(name);
  await until(() => [oldest, older, abandoned].every(gone), { message: () => `${readdirSync(pulled)}` });
  const left = readdirSync(pulled);
  for (const name of [old, begun, foreign, `${digitsOf(reference)}.wasm`]) assert.ok(left.includes(name), name);
});

test('a plugin that is used is not the one that makes room, however long ago it was pulled', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const home = makeFolder(t, { config: ofRegistry(reference), env });
  assert.equal((await home.mixlab('check')).code, 0);
  const file = join(home.folder, 'own-cache/pulled', `${digitsOf(reference)}.wasm`);
  utimesSync(file, 1, 1);
  assert.equal((await home.mixlab('check')).code, 0);
  assert.ok(Date.now() - statSync(file).mtimeMs < 60_000);
});
