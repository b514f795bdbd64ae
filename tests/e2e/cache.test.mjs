// The cache of compiled plugins: native code, which is run only if this server's user wrote it and nobody
// changed it since; and a folder that is cleaned up without touching anything else.
import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { ask, connect } from '../support/client.mjs';
import { editConfig, plugin, reload, replaceFile, stamped } from '../support/plugins.mjs';
import { startServer, wasm } from '../support/server.mjs';
import { until } from '../support/wait.mjs';
import { CODE, FUNCTIONS, number, TYPES, withEntries } from '../support/wasm.mjs';

/** A folder for the cache of a test's servers. */
function cacheFolder(t) {
  const cache = mkdtempSync(join(tmpdir(), 'mixlab-cache-'));
  t.after(() => rmSync(cache, { recursive: true, force: true, maxRetries: 10 }));
  return cache;
}

const start = (t, cache, options) => startServer(t, { env: { MIXLAB_RUNTIME__CACHE: cache }, plugins: ['echo'], ...options });

const components = (cache) => join(cache, 'components');
const entries = (cache) => (existsSync(components(cache)) ? readdirSync(components(cache)).filter((name) => name.endsWith('.code')) : []);

/** The server answers, whatever became of its cache. */
async function assertServes(t, server) {
  assert.equal(await ask(await connect(t, server), 'echo', 'x'), 'x');
}

test('cleaning up compiled plugins touches nothing else', async (t) => {
  const cache = cacheFolder(t);
  const file = (folder, name) => {
    mkdirSync(join(cache, folder), { recursive: true });
    writeFileSync(join(cache, folder, name), 'precious');
    return join(cache, folder, name);
  };
  const foreign = [file('', 'file.txt'), file('folder', 'file.txt'), file('modules', 'file.txt')];
  const strays = [file('components', 'stray.txt'), file('components/modules', 'stray.txt')];
  symlinkSync(join(cache, 'folder'), join(cache, 'components/link'));
  await start(t, cache);
  await until(() => !strays.some((path) => existsSync(path)), { message: 'the folder of compiled plugins has been cleaned up' });
  for (const path of foreign) assert.ok(existsSync(path), path);
  assert.deepEqual(readdirSync(cache).sort(), ['components', 'file.txt', 'folder', 'modules']);
});

test('a compiled plugin is used again, and only its owner can read it and its key', async (t) => {
  const cache = cacheFolder(t);
  await start(t, cache);
  const [entry, ...others] = entries(cache);
  assert.deepEqual(others, []);
  const path = join(components(cache), entry);
  const modes = [components(cache), path, join(components(cache), 'key')].map((path) => statSync(path).mode & 0o777);
  assert.deepEqual(modes, [0o700, 0o600, 0o600]);
  const { ino } = statSync(path);
  utimesSync(path, 1, 1);
  const again = await start(t, cache);
  assert.equal(statSync(path).ino, ino, 'it was not written again');
  assert.ok(statSync(path).mtimeMs > 1000, 'it was used');
  await assertServes(t, again);
});

test('a compiled plugin that was changed is thrown away, and compiled again', async (t) => {
  const cache = cacheFolder(t);
  await start(t, cache);
  const [entry] = entries(cache);
  const path = join(components(cache), entry);
  const good = readFileSync(path);
  const other = cacheFolder(t);
  await start(t, other);
  const changed = (edit) => {
    const bytes = Buffer.from(good);
    edit(bytes);
    return bytes;
  };
  for (const [what, bytes] of [
    ['a bit of the code', changed((bytes) => (bytes[bytes.length >> 1] ^= 1))],
    ['the time it took', changed((bytes) => (bytes[32] ^= 1))],
    ['its end', good.subarray(0, good.length - 1)],
    ['all but its beginning', good.subarray(0, 10)],
    ['everything', Buffer.alloc(0)],
    ['the folder that it comes from', readFileSync(join(components(other), entry))],
  ]) {
    writeFileSync(path, bytes);
    const server = await start(t, cache);
    await server.waitForLog(/a compiled plugin is not what this server wrote: it is thrown away/);
    await assertServes(t, server);
    assert.ok(!readFileSync(path).equals(bytes), what);
    await server.stop();
  }
});

test('a compiled plugin under the name of another is thrown away', async (t) => {
  const cache = cacheFolder(t);
  await start(t, cache);
  const [echo] = entries(cache);
  await start(t, cache, { plugins: ['stamped'] });
  const other = entries(cache).find((name) => name !== echo);
  copyFileSync(join(components(cache), other), join(components(cache), echo));
  const server = await start(t, cache);
  await server.waitForLog(/is not what this server wrote/);
  await assertServes(t, server);
});

test('what a key vouched for that others could read is compiled again', async (t) => {
  for (const spoil of [
    (key) => chmodSync(key, 0o644),
    (key) => writeFileSync(key, 'short'),
    (key) => {
      copyFileSync(key, `${key}.elsewhere`);
      rmSync(key);
      symlinkSync(`${key}.elsewhere`, key);
    },
    (key) => rmSync(key),
  ]) {
    const cache = cacheFolder(t);
    await start(t, cache);
    const [entry] = entries(cache);
    const before = readFileSync(join(components(cache), entry));
    const key = join(components(cache), 'key');
    spoil(key);
    const server = await start(t, cache);
    await server.waitForLog(/is not what this server wrote/);
    await assertServes(t, server);
    assert.deepEqual([statSync(key).mode & 0o777, statSync(key).size], [0o600, 32]);
    assert.ok(!readFileSync(join(components(cache), entry)).equals(before));
  }
});

const isRoot = process.getuid() === 0;

test('a folder where others could put code is not used', async (t) => {
  for (const [what, spoil, reason] of [
    ['everybody may write to it', (cache) => chmodSync(cache, 0o777), /others may write to \S+ \(mode 777\)/],
    ['its group may', (cache) => chmodSync(cache, 0o770), /others may write to \S+ \(mode 770\)/],
    ['others may write to the folder in it', (cache) => mkdirSync(components(cache)) ?? chmodSync(components(cache), 0o1777), /others may write to \S+components \(mode 777\)/],
    ['it is a file', (cache) => rmSync(cache, { recursive: true }) ?? writeFileSync(cache, ''), /is not a folder/],
    ['it belongs to another', (cache) => chownSync(cache, 65534, 65534), /belongs to user 65534/],
    ['a link of another leads to it', (cache) => rmSync(cache, { recursive: true }) ?? linkOfAnother(cacheFolder(t), cache), /belongs to user 65534/],
    ['a link leads to a folder of all', (cache) => rmSync(cache, { recursive: true }) ?? linkToAll(cacheFolder(t), cache), /others may write to \S+ \(mode 777\)/],
  ]) {
    if (!isRoot && what.includes('another')) continue;
    const cache = cacheFolder(t);
    spoil(cache);
    const server = await start(t, cache);
    await server.waitForLog(new RegExp(`compiled plugins are not cached: .*${reason.source}`));
    await assertServes(t, server);
    assert.deepEqual(entries(cache), [], what);
  }
});

/** A link that belongs to somebody else. */
function linkOfAnother(target, path) {
  symlinkSync(target, path);
  lchownSync(path, 65534, 65534);
}

/** A link into a folder to which everybody may write. */
function linkToAll(folder, path) {
  mkdirSync(join(folder, 'all'));
  chmodSync(join(folder, 'all'), 0o777);
  mkdirSync(join(folder, 'all/own'), { mode: 0o700 });
  symlinkSync(join(folder, 'all/own'), path);
}

/** A function without parameters or results, of so many instructions that do nothing. */
const idle = (length) => Buffer.concat([Buffer.from([0]), Buffer.alloc(length * 3, '\x41\x00\x1a', 'latin1'), Buffer.from([0x0b])]);

/** The guest echo with so many functions more, which nobody calls and the compiler has to see. */
const withFunctions = (functions) =>
  withEntries(readFileSync(wasm('echo')), {
    [TYPES]: [Buffer.from([0x60, 0, 0])],
    [FUNCTIONS]: (count) => Array.from({ length: functions }, () => number(count(TYPES))),
    [CODE]: Array.from({ length: functions }, () => idle(300)).map((body) => Buffer.concat([number(body.length), body])),
  });

test('what took the compiler too long is refused also when it is compiled, until it may take so long', async (t) => {
  const cache = cacheFolder(t);
  const tight = { wasm: 'echo', budget: { compile: '50ms' } };
  const options = { plugins: [{ ...tight, path: 'large.wasm' }, 'stamped'] };
  const server = await start(t, cache, options);
  const file = (server) => join(server.folder, 'large.wasm');
  writeFileSync(file(server), withFunctions(3000));
  const refused = (server) =>
    until(async () => /does not compile within the budget compile = 50ms/.test((await plugin(server, 'echo')).refusal), { message: () => server.log() });
  await refused(server);
  await until(() => entries(cache).length === 2, { message: 'the compiler has ended' });
  // Other keys: the same content is looked at again.
  editConfig(server, (toml) => toml.replace('large.wasm"', 'large.wasm"\ngrants = ["emit"]'));
  await reload(server);
  await refused(server);
  await server.stop();

  const later = await start(t, cache, options);
  writeFileSync(file(later), withFunctions(3000));
  await refused(later);
  editConfig(later, (toml) => toml.replace('50ms', '5m'));
  await until(async () => (await plugin(later, 'echo')).state === 'serving', { message: () => later.log() });
});

test('a machine that has no time for the compiler makes no plugin slow', async (t) => {
  const budget = { compile: '3s' };
  const server = await start(t, cacheFolder(t), { plugins: [{ wasm: 'echo', budget, path: 'large.wasm' }, 'stamped'] });
  const tasks = `/proc/${server.pid}/task`;
  /** Whether a thread of the compiler's is there. */
  const compiles = () =>
    readdirSync(tasks).some((task) => {
      try {
        return readFileSync(join(tasks, task, 'comm'), 'utf8') === 'compile\n';
      } catch {
        return false; // It has just ended.
      }
    });
  const started = until(compiles, { message: 'the compiler runs' });
  writeFileSync(join(server.folder, 'large.wasm'), withFunctions(3000));
  await started;
  // The whole server stands still for longer than the compiler may work.
  server.signal('SIGSTOP');
  await pause(3500); // Time is the subject.
  server.signal('SIGCONT');
  await until(async () => (await plugin(server, 'echo')).state === 'serving', { timeout: 60_000, message: () => server.log() });
  assert.doesNotMatch(server.log(), /does not compile within/);
});

test('of a plugin one content is compiled at a time', async (t) => {
  const cache = cacheFolder(t);
  const server = await start(t, cache, { plugins: [{ wasm: 'echo', budget: { compile: '200ms' }, path: 'large.wasm' }, 'stamped'] });
  const file = join(server.folder, 'large.wasm');
  writeFileSync(file, withFunctions(20_000));
  const refusedWith = (reason) => until(async () => reason.test((await plugin(server, 'echo')).refusal), { message: () => `${reason}\n${server.log()}` });
  await refusedWith(/does not compile within the budget compile = 200ms/);
  replaceFile(file, readFileSync(wasm('echo')));
  await refusedWith(/the compiler is still busy with what the file held before/);
  // For slow machines.
  editConfig(server, (toml) => toml.replace('200ms', '5m'));
  // Others do not wait.
  replaceFile(join(server.folder, 'stamped.wasm'), stamped(2));
  await until(async () => (await plugin(server, 'stamped')).generation === 2, { timeout: 60_000, message: () => server.log() });
  await until(async () => (await plugin(server, 'echo')).state === 'serving', { timeout: 120_000, message: () => server.log() });
  await assertServes(t, server);
});
