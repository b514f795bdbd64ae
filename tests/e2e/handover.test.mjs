// A server on its own that ends and is started again: its clients come back to the next process as if it had
// never ended.
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { seconds, sign, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const AUTO = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 50, randomizationFactor: 0 };
const ALL = { websocket: ['websocket'], polling: ['polling'], upgrade: ['polling', 'websocket'] };

/** Processes that follow each other: the same address and the same store, until `t` ends. */
function processes(t, { env, ...options } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-handover-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  let listen = '127.0.0.1:0';
  return {
    /** What one leaves to the next. */
    path: join(folder, 'store.handover'),
    async start(more = {}) {
      const server = await startServer(t, {
        listen,
        plugins: [CONFORMANCE],
        recovery: true,
        env: { MIXLAB_STORE__PATH: join(folder, 'store.redb'), ...env },
        ...options,
        ...more,
      });
      listen = server.address;
      return server;
    },
  };
}

/** A socket that has joined a room, and comes back by itself. */
async function member(t, server, options = {}) {
  const socket = await connect(t, server, { ...AUTO, ...options });
  await nextEvent(socket, 'auth');
  if (options.transports?.length === 2) await until(() => socket.io.engine.transport.name === 'websocket');
  await ask(socket, 'join', 'studio');
  return socket;
}

let requests = 0;
/** A backend tells a room, or whom `to` says. */
async function tell(server, text, to = { rooms: ['studio'] }) {
  const key = { 'idempotency-key': `key-${requests++}` };
  const body = { ...to, event: 'told', arguments: [text] };
  const { status, body: answer } = await server.api('POST', '/api/v1/emit', body, undefined, key);
  assert.equal(status, 200, JSON.stringify(answer));
}

const texts = (socket) => received(socket, 'told').map(([text]) => text);

/** Has the socket stay away from now on, until it is told to come `back`. */
function stayAway(socket) {
  socket.io.reconnection(false);
  return async () => {
    await until(() => !socket.connected);
    socket.io.reconnection(true);
    socket.connect();
    await until(() => socket.connected);
  };
}

/** Cuts the connection without a goodbye. */
async function cut(socket) {
  socket.io.reconnection(false);
  socket.io.engine.close();
  await until(() => !socket.connected);
}

for (const [name, transports] of Object.entries(ALL)) {
  test(`a client over ${name} comes back to the next process as itself and gets what it missed, once and in order`, async (t) => {
    const all = processes(t);
    const first = await all.start();
    const socket = await member(t, first, { transports });
    const { id } = socket;
    await tell(first, 'before');
    await until(() => texts(socket).length === 1);
    await cut(socket);
    await tell(first, 'while away');
    await tell(first, 'not for it', { rooms: ['elsewhere'] });
    await tell(first, 'for it alone', { sockets: [id] });
    await tell(first, 'for all', { everyone: true });

    assert.equal(await first.stop(), 0);
    assert.equal(statSync(all.path).mode & 0o777, 0o600);
    const second = await all.start();
    assert.ok(!existsSync(all.path), 'it is gone once it is taken');
    await second.waitForLog(/taken over from the process before.*connections=1/);
    await tell(second, 'later');
    socket.io.reconnection(true);
    socket.connect();
    await until(() => socket.connected);
    assert.equal(socket.recovered, true);
    assert.equal(socket.id, id);
    await tell(second, 'after');
    await until(() => texts(socket).includes('after'));
    assert.deepEqual(texts(socket), ['before', 'while away', 'for it alone', 'for all', 'later', 'after']);
    assert.deepEqual(await ask(socket, 'rooms'), ['studio']);

    // And once more: the numbers go on.
    assert.equal(await second.stop(), 0);
    const third = await all.start();
    await until(() => socket.connected);
    assert.equal(socket.recovered, true);
    await tell(third, 'at last');
    await until(() => texts(socket).includes('at last'));
    assert.deepEqual(texts(socket).slice(-2), ['after', 'at last']);
  });
}

test('a user comes back with the rooms and roles of its token, and the next process has no part of the token', async (t) => {
  const all = processes(t);
  const first = await all.start();
  const shown = token({ sub: '7', role: 'admin' });
  const socket = await member(t, first, { token: shown });
  const other = await member(t, first, { namespace: '/custom' });
  await first.stop();
  const left = readFileSync(all.path, 'latin1');
  assert.ok(!left.includes(shown) && !left.includes(shown.split('.')[2]));
  const second = await all.start();
  await until(() => socket.connected && other.connected);
  assert.deepEqual([socket.recovered, other.recovered], [true, true]);
  const pushed = await second.api('POST', '/api/v1/roles/admin/events/told', JSON.stringify('role'));
  assert.deepEqual(pushed.body, { delivered: 1 });
  await until(() => texts(socket).includes('role'));
});

test('somebody else, and whose token is over or revoked, has nobody back', async (t) => {
  const all = processes(t);
  const first = await all.start();
  const stolen = await member(t, first, { token: token({ sub: '1' }) });
  const revoked = await member(t, first, { token: token({ sub: '2', iat: seconds(-10) }) });
  const expired = await member(t, first, { token: token({ sub: '3' }) });
  const { id } = stolen;
  // A revocation cuts off who is there: it stays away until the next process is there.
  const sockets = [stolen, revoked, expired];
  sockets.forEach((socket) => socket.io.reconnection(false));
  assert.equal((await first.api('POST', '/api/v1/revocations', { user: '2' })).status, 200);
  await first.stop();
  await until(() => sockets.every((socket) => !socket.connected));
  await all.start();
  stolen.auth = { token: token({ sub: '9' }) };
  expired.auth = { token: sign({ sub: '3', exp: seconds(-60) }) };
  const refusals = [revoked, expired].map(
    (socket) =>
      new Promise((resolve) => {
        socket.once('connect_error', ({ message }) => resolve(message));
        socket.once('connect', () => resolve('let in'));
      }),
  );
  sockets.forEach((socket) => socket.connect());
  assert.deepEqual(await Promise.all(refusals), ['token_revoked', 'token_expired']);
  await until(() => stolen.connected);
  assert.equal(stolen.recovered, false);
  assert.notEqual(stolen.id, id);
});

test('who was present in a room still is, and who does not come back leaves when the time is over', async (t) => {
  const grants = ['presence:*', 'history:*', 'room:*', 'user:*', 'emit'];
  const plugins = [{ wasm: 'lobby', grants }];
  const all = processes(t, { plugins, config: '[presence]\ngrace = "5s"\nbatch = "20ms"' });
  const first = await all.start();
  const lobby = async (socket, call) => (await ask(socket, 'lobby', [call]))[0].granted;
  const ids = async (socket) => (await lobby(socket, { call: 'members', room: 'r' })).map((it) => [it.id, it.connections]);
  const sockets = [];
  for (const sub of ['ada', 'bob']) {
    const socket = await connect(t, first, { ...AUTO, token: token({ sub }) });
    await lobby(socket, { call: 'enter', room: 'r', data: { name: sub } });
    sockets.push(socket);
  }
  const [ada, bob] = sockets;
  bob.io.reconnection(false);
  await first.stop();
  await all.start();
  await until(() => ada.connected);
  assert.equal(ada.recovered, true);
  assert.deepEqual(await ids(ada), [['ada', 1], ['bob', 0]]);
  await until(async () => (await ids(ada)).length === 1);
  const [change] = (await until(() => received(ada, 'presence').filter(([{ left }]) => left.length > 0)))[0];
  assert.deepEqual(change.left.map(({ id, data }) => [id, data]), [['bob', { name: 'bob' }]]);
});

test('a request of a backend that comes again to the next process is done once', async (t) => {
  const all = processes(t);
  const first = await all.start();
  const socket = await member(t, first);
  const emit = (server, key, text) =>
    server.api('POST', '/api/v1/emit', { rooms: ['studio'], event: 'told', arguments: [text] }, undefined, { 'idempotency-key': key });
  const answer = await emit(first, 'a', 'once');
  await first.stop();
  const second = await all.start();
  await until(() => socket.connected);
  const again = await emit(second, 'a', 'once');
  assert.deepEqual([again.status, again.body], [answer.status, answer.body]);
  assert.equal((await emit(second, 'a', 'other')).status, 422);
  await tell(second, 'end');
  await until(() => texts(socket).includes('end'));
  assert.deepEqual(texts(socket), ['once', 'end']);
});

test('after SIGKILL nothing is left, and clients start afresh', async (t) => {
  const all = processes(t);
  const first = await all.start();
  const socket = await member(t, first);
  const { id } = socket;
  await first.kill();
  assert.ok(!existsSync(all.path));
  await all.start();
  await until(() => socket.connected);
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
});

const flip = (at) => (path) => {
  const bytes = readFileSync(path);
  bytes[at < 0 ? bytes.length + at : at] ^= 1;
  writeFileSync(path, bytes);
};
const DAMAGE = {
  'cut short': [(path) => writeFileSync(path, readFileSync(path).subarray(0, -1)), /it is damaged/],
  'with a byte too many': [(path) => writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.from('x')])), /it is damaged/],
  'with a byte changed': [flip(-40), /it is damaged/],
  empty: [(path) => writeFileSync(path, ''), /it is damaged/],
  'of another version': [flip(11), /it is of format 0, and this version knows format 1 only/],
  'that others can read': [(path) => chmodSync(path, 0o640), /others than this user can read or write it/],
  'that is too large': [
    (path) => writeFileSync(path, Buffer.alloc(40 << 20)),
    /it has 41943040 bytes, and \[recovery\] max_bytes is/,
  ],
};
for (const [what, [damage, reason]] of Object.entries(DAMAGE)) {
  test(`what is left ${what} is refused as a whole, and gone`, async (t) => {
    const all = processes(t);
    const first = await all.start();
    const socket = await member(t, first);
    const back = stayAway(socket);
    await first.stop();
    damage(all.path);
    const second = await all.start();
    await second.waitForLog(reason);
    assert.ok(!existsSync(all.path));
    await back();
    assert.equal(socket.recovered, false);
  });
}

test('what is left for longer than clients may be away is refused', async (t) => {
  const all = processes(t, { config: '[recovery]\nmax_age = "1s"' });
  const first = await all.start();
  const socket = await member(t, first);
  const back = stayAway(socket);
  await first.stop();
  const since = Date.now();
  await until(() => Date.now() - since > 1500);
  const second = await all.start();
  await second.waitForLog(/it is \d+ ms old, and \[recovery\] max_age is over/);
  await back();
  assert.equal(socket.recovered, false);
});

test('no more is left than `max_bytes`: connections first, then the newest broadcasts, and nobody gets over a gap', async (t) => {
  // What is broadcast has as much room in memory as what connections are sent alone; in the file, both together.
  const all = processes(t, { config: '[recovery]\nmax_bytes = "256KiB"' });
  const first = await all.start();
  const [early, late] = [await member(t, first), await member(t, first)];
  await cut(early);
  const text = 'x'.repeat(20_000);
  for (let count = 0; count < 8; count++) await tell(first, `${count}${text}`);
  for (let count = 0; count < 8; count++) late.emit('message', text);
  await until(() => texts(late).length === 8 && received(late, 'message-back').length === 8);
  await cut(late);
  await tell(first, 'the last one');
  await first.stop();
  await first.waitForLog(/not all is left to the process that follows/);
  assert.ok(statSync(all.path).size <= 256 * 1024 + 44);
  await all.start();
  for (const socket of [early, late]) {
    socket.io.reconnection(true);
    socket.connect();
    await until(() => socket.connected);
  }
  assert.deepEqual([early.recovered, late.recovered], [false, true]);
  await until(() => texts(late).includes('the last one'));
  assert.deepEqual([texts(late).length, received(late, 'message-back').length], [9, 8]);
});

test('a disk that is full keeps nothing of what it could not take', async (t) => {
  // There is room for files of 100 KiB.
  const all = processes(t, { shell: 'ulimit -f 100; exec "$@"' });
  const first = await all.start();
  const back = stayAway(await member(t, first));
  for (let count = 0; count < 8; count++) await tell(first, 'x'.repeat(20_000));
  await first.stop();
  await first.waitForLog(/nothing is left to the process that follows: clients start afresh .*File too large/);
  assert.deepEqual(readdirSync(dirname(all.path)).filter((name) => name.includes('handover')), []);
  await all.start();
  await back();
});

test('with `durability = "memory"` and without recovery nothing is left', async (t) => {
  const kinds = [{ config: '[store]\ndurability = "memory"' }, { recovery: false }];
  for (const options of kinds) {
    const all = processes(t, options);
    const first = await all.start();
    await connect(t, first);
    await first.stop();
    assert.ok(!existsSync(all.path));
  }
});
