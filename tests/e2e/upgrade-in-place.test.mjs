// `mixlab upgrade`: a new process follows the running server, and no client finds nobody there.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { kill } from 'node:process';
import { test } from 'node:test';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import { PYTHON } from '../support/python.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { freePort, head, tcp } from '../support/tcp.mjs';
import { until } from '../support/wait.mjs';

const AUTO = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };
const REMEMBERS = { wasm: 'remembers', grants: ['store', 'emit', 'ask', 'everyone'] };
const PATIENCE = { timeout: 120_000 };

/** The id of the process that serves, by the run file; none between two of them. */
function process(server) {
  const folder = join(server.folder, 'run/mixlab/run');
  const file = readdirSync(folder).find((name) => name.endsWith('.json'));
  try {
    return file && JSON.parse(readFileSync(join(folder, file), 'utf8')).process;
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

const isAlive = (pid) => existsSync(`/proc/${pid}`);

/** Upgrades by the command; resolves to what it said. */
async function upgrade(server) {
  const { code, stdout, stderr } = await server.mixlab('upgrade');
  assert.deepEqual([code, stderr], [0, ''], server.log());
  const [, pid] = stdout.match(/^process (\d+) serves\n$/);
  server.isFollowedBy(Number(pid));
  return Number(pid);
}

/** Connects again and again; `ended` resolves to what came of each attempt. */
function knock(server) {
  const answers = [];
  let stops = false;
  const once = () =>
    new Promise((resolve) => {
      const socket = connectTcp(server.port, '127.0.0.1');
      let text = '';
      socket.on('error', (error) => resolve(error.code));
      socket.on('data', (data) => (text += data));
      socket.on('close', () => resolve(text.split('\r\n')[0]));
      socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
    });
  const ended = (async () => {
    while (!stops) answers.push(await once());
    return answers;
  })();
  return { answers, stop: () => ((stops = true), ended) };
}

test('a new process has the clients, the port and the store of the running one, and nobody is refused', async (t) => {
  const server = await startServer(t, { plugins: [CONFORMANCE, REMEMBERS], recovery: true });
  const sockets = await Promise.all(
    [['websocket'], ['polling']].map((transports) => connect(t, server, { ...AUTO, transports })),
  );
  for (const socket of sockets) {
    await nextEvent(socket, 'auth');
    await ask(socket, 'join', 'studio');
  }
  const ids = sockets.map((socket) => socket.id);
  // Not every one may have noticed yet that the former process has ended, when the next one serves.
  const returns = sockets.map(() => 0);
  sockets.forEach((socket, index) => socket.on('connect', () => (returns[index] += 1)));
  const knocking = knock(server);
  const pids = [server.pid];
  for (let round = 0; round < 2; round++) {
    pids.push(await upgrade(server));
    await until(() => returns.every((times) => times > round), PATIENCE);
    assert.deepEqual(sockets.map((socket) => [socket.recovered, socket.id]), ids.map((id) => [true, id]));
    const { body } = await server.api('POST', '/api/v1/emit', { rooms: ['studio'], event: 'told', arguments: [round] });
    assert.deepEqual(body, { delivered: 2 });
    const steps = [{ add: ['rounds', 1] }, { get: 'rounds' }];
    assert.equal((await ask(sockets[0], 'remembers', null, steps)).at(-1), round + 1);
  }
  assert.equal(new Set(pids).size, 3);
  const answers = await knocking.stop();
  assert.deepEqual([...new Set(answers)], ['HTTP/1.1 200 OK']);
  await until(() => sockets.every((socket) => received(socket, 'told').length === 2));
  await server.stop();
});

test('a client that takes its time with an answer keeps nobody waiting, and gets all of it', async (t) => {
  const size = 40_000_000;
  const files = { 'web/large.txt': 'x'.repeat(size) };
  const server = await startServer(t, { plugins: [CONFORMANCE], recovery: true, config: '[web]\nroot = "web"\n', files });
  const slow = await tcp(t, server);
  slow.socket.pause();
  slow.write(head('GET', '/large.txt', 'connection: close'));
  const client = await connect(t, server, AUTO);
  await nextEvent(client, 'auth');
  const { id } = client;
  // More than the system keeps for it is on its way.
  await until(() => slow.socket.readableLength > 0);
  const before = server.pid;
  const after = await upgrade(server);
  await until(() => client.connected && client.recovered, PATIENCE);
  assert.equal(client.id, id);
  assert.doesNotMatch(server.log(), /in time|start afresh/);
  assert.ok(isAlive(before) && isAlive(after), 'the answer is sent by the process that began to');
  slow.socket.resume();
  const { length } = await slow.end();
  assert.ok(length > size, `${length} bytes`);
  await until(() => !isAlive(before), { message: 'it has nothing left to do' });
  await server.stop();
});

test('SIGUSR2 does the same', async (t) => {
  const server = await startServer(t, { plugins: [CONFORMANCE], recovery: true });
  const socket = await connect(t, server, AUTO);
  await nextEvent(socket, 'auth');
  server.signal('SIGUSR2');
  const [, pid] = await server.waitForLog(/another process follows this one.*process=(\d+)/, PATIENCE);
  server.isFollowedBy(Number(pid));
  await until(() => process(server) === Number(pid), PATIENCE);
  await until(() => socket.connected && socket.recovered, PATIENCE);
  await server.stop();
});

const BAD = {
  'whose configuration is none': [(path) => writeFileSync(path, 'nonsense = 7'), /nonsense/],
  'whose plugin does not load': [
    (path) => writeFileSync(path, readFileSync(path, 'utf8').replace(/grants = .*/, 'grants = []')),
    /conformance: /,
  ],
};
for (const [what, [spoil, reason]] of Object.entries(BAD)) {
  test(`a process ${what} follows nobody: the running one goes on`, async (t) => {
    const server = await startServer(t, { plugins: [CONFORMANCE], recovery: true });
    const socket = await connect(t, server);
    spoil(server.configPath);
    const { code, stdout, stderr } = await server.mixlab('upgrade');
    assert.deepEqual([code, stdout], [1, ''], server.log());
    assert.match(stderr, /^error: no process follows the running server: /);
    assert.match(stderr, reason);
    assert.ok(socket.connected);
    assert.equal(await ask(socket, 'id'), socket.id);
    assert.equal(process(server), server.pid);
    assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
  });
}

/** A server whose program can be replaced while it runs, by a script of a shell. */
async function startReplaceable(t, config = '') {
  const shell = 'if [ "$2" = up ]; then cp "$1" ./program; shift; exec ./program "$@"; else exec "$@"; fi';
  const server = await startServer(t, { plugins: ['echo'], shell, config, recovery: true });
  const program = join(server.folder, 'program');
  const replace = (script) => {
    renameSync(program, join(server.folder, 'former'));
    writeFileSync(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  };
  return { ...server, replace };
}

/** One whose next processes go no further than to their program before `letGo` is called. */
async function startHeld(t, config) {
  const server = await startReplaceable(t, config);
  const go = join(server.folder, 'go');
  server.replace(`while [ ! -e ${go} ]; do sleep 0.02; done; exec ./former "$@"`);
  return { ...server, letGo: () => writeFileSync(go, '') };
}

/** The process that is to follow, until it serves. */
function successor(server) {
  const isOne = (line) => line.includes(server.configPath) && line.includes('--take-over');
  const found = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).find((pid) => {
    try {
      return isOne(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
    } catch {
      return false;
    }
  });
  return found && Number(found);
}

test('a process that ends before it is ready follows nobody', async (t) => {
  const server = await startReplaceable(t);
  const socket = await connect(t, server);
  server.replace('exit 7');
  const { code, stderr } = await server.mixlab('upgrade');
  assert.equal(code, 1);
  assert.match(stderr, /no process follows the running server: it ended before it was ready: exit status: 7/);
  assert.equal(await ask(socket, 'echo', 1), 1);
});

test('who waits for a process that was ready and has ended since hears of it', async (t) => {
  const server = await startReplaceable(t);
  server.replace(String.raw`printf '"ready"\n' >&0; sleep 0.5; exit 1`);
  const { code, stderr } = await server.mixlab('upgrade');
  await server.kill();
  assert.equal(code, 1);
  assert.match(stderr, /^error: process \d+ was to follow and has ended: its log says why\n$/);
});

test('many who ask at once get one process, and all hear of the same', async (t) => {
  const key = 'key-of-those-who-deploy';
  const server = await startHeld(t, `[[api.keys]]\nname = "deploy"\nkey = "${key}"\nrights = ["admin"]\nin_flight = 20\n`);
  const socket = await connect(t, server, AUTO);
  const first = server.mixlab('upgrade');
  const pid = await until(() => successor(server), PATIENCE);
  const once = (method, path) => server.api(method, path, undefined, key);
  const insist = async () => {
    const answer = await once('POST', '/api/v1/upgrade');
    return answer.status === 429 ? insist() : answer;
  };
  const others = Array.from({ length: 20 }, insist);
  await until(async () => (await once('GET', '/api/v1/clients/count')).status === 429, PATIENCE);
  server.letGo();
  const { code, stdout, stderr } = await first;
  assert.deepEqual([code, stdout], [0, `process ${pid} serves\n`], stderr);
  server.isFollowedBy(pid);
  const answers = (await Promise.all(others)).map(({ body }) => body);
  assert.deepEqual(answers, answers.map(() => ({ process: pid })));
  await until(() => socket.connected && socket.recovered, PATIENCE);
  assert.equal(await ask(socket, 'echo', 1), 1);
});

test('a process that is killed while it loads follows nobody, and the next one does', async (t) => {
  const server = await startHeld(t);
  const socket = await connect(t, server, AUTO);
  const first = server.mixlab('upgrade');
  kill(await until(() => successor(server), PATIENCE), 'SIGKILL');
  const { code, stderr } = await first;
  assert.deepEqual([code, stderr], [1, 'error: no process follows the running server: it ended before it was ready: signal: 9 (SIGKILL)\n']);
  assert.equal(await ask(socket, 'echo', 1), 1);
  server.letGo();
  await upgrade(server);
  await until(() => socket.connected && socket.recovered, PATIENCE);
});

test('a server that is stopped while a process loads that is to follow ends with it', async (t) => {
  const server = await startHeld(t);
  const asked = server.mixlab('upgrade');
  await until(() => successor(server), PATIENCE);
  assert.equal(await server.stop(), 0);
  const { code, stderr } = await asked;
  assert.deepEqual([code, stderr], [1, 'error: no process follows the running server: it is about to leave\n']);
  await until(() => !successor(server), PATIENCE);
});

test('the system hears which process serves by now, in the order in which it wants to', async (t) => {
  const server = await startHeard(t);
  const first = server.pid;
  await until(() => server.heard().includes('READY=1'));
  const pid = await upgrade(server);
  await until(() => server.heard().split('READY=1').length === 3, PATIENCE);
  assert.deepEqual(
    server.heard().match(/(READY|MAINPID|STOPPING)=\d+/g),
    ['READY=1', `MAINPID=${pid}`, 'READY=1'],
  );
  assert.notEqual(pid, first);
  await server.stop();
  await until(() => server.heard().includes('STOPPING=1'));
});

test('the system hears by a name that is no path, too', async (t) => {
  const server = await startHeard(t, '@');
  await until(() => server.heard().includes('READY=1'));
  await server.stop();
  await until(() => server.heard().includes('STOPPING=1'));
});

/** A server that tells the system how far it is, at a path or at a name in Linux' abstract namespace. */
async function startHeard(t, kind = '/tmp/') {
  const path = `${kind}mixlab-notify-${Math.random().toString(36).slice(2)}`;
  const script = [
    'import os, socket, sys',
    's = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)',
    's.bind(sys.argv[1].replace("@", "\\0"))',
    'print("bound", flush=True)',
    'while True: print(s.recv(4096).decode(), flush=True)',
  ].join('\n');
  const listener = spawn(PYTHON, ['-c', script, path]);
  t.after(() => listener.kill());
  let heard = '';
  listener.stdout.setEncoding('utf8').on('data', (text) => (heard += text));
  await until(() => heard.includes('bound'), PATIENCE);
  const server = await startServer(t, { plugins: ['echo'], recovery: true, env: { NOTIFY_SOCKET: path } });
  return { ...server, heard: () => heard };
}

test('a socket that the system has opened is served on, also by the process that follows', async (t) => {
  const port = await freePort();
  const script = [
    'import os, socket, sys',
    's = socket.socket()',
    `s.bind(("127.0.0.1", ${port}))`,
    's.listen(16)',
    'os.dup2(s.fileno(), 3)',
    'os.set_inheritable(3, True)',
    'os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))',
    'os.execv(sys.argv[1], sys.argv[1:])',
  ].join('; ');
  const shell = `if [ "$2" = up ]; then exec ${PYTHON} -c '${script}' "$@"; else exec "$@"; fi`;
  const server = await startServer(t, { plugins: ['echo'], recovery: true, shell, listen: `127.0.0.1:${port}` });
  const socket = await connect(t, server, AUTO);
  assert.equal(await ask(socket, 'echo', 1), 1);
  await upgrade(server);
  await until(() => socket.connected && socket.recovered, PATIENCE);
  assert.equal(await ask(socket, 'echo', 2), 2);
  await server.stop();
});
