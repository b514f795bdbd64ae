// The machine takes away what the server needs, one thing after the other: it serves the clients that it
// has, recovers by itself, or ends with a reason.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { notReady, plugin, stamped } from '../support/plugins.mjs';
import { makeFolder, startServer } from '../support/server.mjs';
import { freePort, tcp } from '../support/tcp.mjs';
import { PATIENCE, until } from '../support/wait.mjs';

const can = (program, ...args) => {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

/** Sets a limit of a running server, as `prlimit` writes it. */
const limit = (server, what) => execFileSync('prlimit', ['--pid', String(server.pid), what]);

const PRLIMIT = can('prlimit', '--version') ? false : 'prlimit is not there';

test('without file descriptors it serves who is here, says so once, and accepts again', { skip: PRLIMIT }, async (t) => {
  const server = await startServer(t, { plugins: ['stamped', 'echo'] });
  const socket = await connect(t, server);
  const open = () => readdirSync(`/proc/${server.pid}/fd`).length;

  limit(server, `--nofile=${open() + 2}:`);
  const waiting = [];
  const failed = () => server.log().match(/cannot accept connections/);
  while (!failed()) waiting.push(await tcp(t, server));
  assert.equal(await ask(socket, 'echo', 'still here'), 'still here');
  // A new version cannot even be read.
  writeFileSync(join(server.folder, 'stamped.wasm'), stamped(7));
  const since = server.log().length;
  for (let i = 0; i < 20; i++) assert.equal(await ask(socket, 'echo', i), i);

  limit(server, '--nofile=1024:');
  for (const { socket } of waiting) socket.destroy();
  await until(async () => (await plugin(server, 'stamped')).generation === 2, {
    timeout: 6 * PATIENCE,
    message: () => `the new version is loaded:\n${server.log().slice(since)}`,
  });
  assert.equal(await ask(await connect(t, server), 'echo', 'a new client'), 'a new client');
  assert.equal(server.log().match(/cannot accept connections/g).length, 1);
});

test('at the start it warns of fewer file descriptors than connections', async (t) => {
  const server = await startServer(t, { plugins: ['echo'], shell: 'ulimit -n 512; exec "$@"' });
  await server.waitForLog(/WARN .*raise its limit.* files=512 max_connections=100000/);
  const enough = await startServer(t, {
    config: '[socket]\nmax_connections = 500',
    plugins: ['echo'],
    shell: 'ulimit -n 512; exec "$@"',
  });
  assert.doesNotMatch(enough.log(), /raise its limit/);
});

test('with too few file descriptors to start it ends with a reason, or serves', async (t) => {
  const ends = [];
  for (let files = 12; files <= 24; files += 1) {
    const folder = makeFolder(t, { plugins: ['echo'], shell: `ulimit -n ${files}; exec "$@"` });
    const server = folder.start('up', '--listen', '127.0.0.1:0');
    await until(() => server.hasEnded() || /is listening/.test(server.stdout()));
    assert.doesNotMatch(server.stderr(), /panicked/, `${files} files`);
    if (server.hasEnded()) ends.push([await server.exited, server.stderr()]);
    await folder.remove();
  }
  assert.ok(ends.length > 0);
  for (const [code, log] of ends) {
    assert.equal(code, 1);
    assert.match(log, /^error: .*Too many open files/m);
  }
});

test('with files that may not grow it serves, and begins the store when they may', { skip: PRLIMIT }, async (t) => {
  const server = await startServer(t, {
    plugins: ['echo', { wasm: 'remembers', grants: ['store', 'emit', 'ask', 'everyone'] }],
    shell: 'ulimit -Sf 8; exec "$@"',
  });
  assert.equal(await ask(await connect(t, server), 'echo', 1), 1);
  assert.deepEqual(await notReady(server), ['remembers']);
  await server.waitForLog(/the store .* File too large/);
  limit(server, '--fsize=unlimited:');
  await until(async () => (await notReady(server)).length === 0, { timeout: 6 * PATIENCE, message: 'the store is there' });
});

test('without address space it says what is missing, and loads the plugin when it is there', { skip: PRLIMIT }, async (t) => {
  const server = await startServer(t, { plugins: ['echo'], shell: 'ulimit -Sv 4000000; exec "$@"' });
  assert.deepEqual(await notReady(server), ['echo']);
  const { refusal } = await plugin(server, 'echo');
  assert.match(refusal, /4 GiB of addresses .*`ulimit -v`/);
  assert.doesNotMatch(refusal, /it trapped/);

  limit(server, '--as=unlimited:');
  await until(async () => (await notReady(server)).length === 0, {
    timeout: 6 * PATIENCE,
    message: () => `it is loaded:\n${server.log()}`,
  });
  assert.equal(await ask(await connect(t, server), 'echo', 'loaded'), 'loaded');
});

test('without memory it fails the call that wants it and serves on, or ends with a reason', { skip: PRLIMIT }, async (t) => {
  const home = makeFolder(t, { config: '[budget]\nmemory = "4GiB"\ncpu = "5s"', plugins: ['echo', 'memory_linear'] });
  const child = home.start('up', '--listen', '127.0.0.1:0');
  const listening = await until(() => child.stdout().match(/listening on (http:\S+)/), { timeout: 12 * PATIENCE });
  const server = { url: listening[1], pid: child.pid };
  const socket = await connect(t, server);
  assert.equal(await ask(socket, 'echo', 'before'), 'before');

  const reserved = Number(readFileSync(`/proc/${child.pid}/status`, 'utf8').match(/VmData:\s+(\d+) kB/)[1]);
  limit(server, `--data=${(reserved + 64 * 1024) * 1024}:`);
  const answer = await ask(socket, 'memory_linear').catch(() => 'it ended');
  if (child.hasEnded() || answer === 'it ended') {
    await child.exited;
    assert.match(child.stderr(), /memory allocation of \d+ bytes failed|Cannot allocate memory/);
    return;
  }
  assert.ok(answer.error, JSON.stringify(answer));
  assert.equal(await ask(socket, 'echo', 'still here'), 'still here');
});

test('with a cache folder that takes nothing it compiles, serves and warns', async (t) => {
  for (const cache of ['/dev/full', '/proc/1/mixlab']) {
    const server = await startServer(t, { plugins: ['echo'], env: { MIXLAB_RUNTIME__CACHE: cache } });
    await server.waitForLog(/WARN .*cache/);
    assert.equal(await ask(await connect(t, server), 'echo', 'served'), 'served');
  }
});

test('on a disk that is full it compiles, serves and ends as always', async (t) => {
  const disk = join(makeFolder(t).folder, 'disk');
  execFileSync('mkdir', ['-m', '700', disk]);
  if (!can('mount', '-t', 'tmpfs', '-o', 'size=64k,mode=700', 'tmpfs', disk)) {
    t.skip('nothing can be mounted: this needs root');
    return;
  }
  try {
    const server = await startServer(t, {
      plugins: ['echo'],
      env: { MIXLAB_RUNTIME__CACHE: disk, XDG_RUNTIME_DIR: disk },
      shell: `exec "$@" 2>${disk}/log`,
    });
    const socket = await connect(t, server);
    // The rest of it.
    can('dd', 'if=/dev/zero', `of=${disk}/rest`, 'bs=1k');
    for (let i = 0; i < 20; i++) assert.equal((await ask(socket, `unknown ${i}`)).error.code, 'unknown_event');
    assert.equal(await ask(socket, 'echo', 'served'), 'served');
    assert.equal(await server.stop(), 0);
    assert.match(readFileSync(join(disk, 'log'), 'utf8'), /mixlab/);
  } finally {
    execFileSync('umount', [disk]);
  }
});

test('while it starts nobody can connect', async (t) => {
  const port = await freePort();
  const config = '[budget]\ncpu = "1h"\nwall = "1h"';
  const folder = makeFolder(t, { config, plugins: ['describe_loops'] });
  const child = folder.start('up', '--listen', `127.0.0.1:${port}`);
  // It asks the plugin what it does, for an hour; by then it has its port.
  const hundredths = () => Number(readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1].split(' ')[11]);
  await until(() => hundredths() > 50, { timeout: 6 * PATIENCE, message: 'it is busy' });
  await assert.rejects(fetch(`http://127.0.0.1:${port}/healthz`), (error) => error.cause.code === 'ECONNREFUSED');
});
