// Clients and backends under load, while the server on its own is replaced again and again: nothing is lost,
// nothing comes twice, and everybody comes back as who they were. MIXLAB_TESTS=full: 1,000 clients, 20 times.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import { FULL } from '../support/full.mjs';
import { API_KEY, CONFORMANCE, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const CLIENTS = FULL ? 1_000 : 40;
const ROUNDS = FULL ? 20 : 3;
/** A few come at a time: it is not the crowd that is tried here. */
const AT_ONCE = 20;
const PATIENCE = { timeout: 180_000 };
const AUTO = { reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 1_000, retries: 100, ackTimeout: 10_000 };

/** A backend that sends numbers to the room, each until it is answered with 200, with a key of its own. */
function backend(address) {
  let sent = 0;
  let stops = false;
  let repeated = 0;
  const push = async (number) => {
    const response = await fetch(`${address()}/api/v1/emit`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${API_KEY}`, 'idempotency-key': `number-${number}` },
      body: JSON.stringify({ rooms: ['studio'], event: 'told', arguments: [number] }),
    }).catch(() => undefined);
    const { status } = response ?? {};
    await response?.text().catch(() => '');
    if (status === 200) return;
    assert.ok([undefined, 409, 503].includes(status), `status ${status}`);
    repeated += 1;
    await new Promise((resolve) => setTimeout(resolve, 20));
    await push(number);
  };
  const ended = (async () => {
    for (; !stops; sent++) await push(sent);
    return sent;
  })();
  return {
    sent: () => sent,
    repeated: () => repeated,
    more: (count, from = sent) => until(() => sent >= from + count, PATIENCE),
    stop: () => ((stops = true), ended),
  };
}

/** A client in the room, which has numbers of its own answered, one after the other. */
async function enter(t, server, index) {
  const transports = index % 3 === 0 ? ['polling'] : ['websocket'];
  const socket = await connect(t, server, { ...AUTO, transports, agent: new Agent({ keepAlive: index % 2 === 0 }) });
  await nextEvent(socket, 'auth');
  await ask(socket, 'join', 'studio');
  socket.afresh = 0;
  socket.returns = 0;
  socket.answered = [];
  socket.on('connect', () => {
    socket.returns += 1;
    socket.afresh += socket.recovered ? 0 : 1;
  });
  socket.talk = async (stops) => {
    for (let number = 0; !stops(); number++) {
      socket.answered.push(await socket.emitWithAck('message-with-ack', number));
      await new Promise((resolve) => setTimeout(resolve, 50 + (index % 50)));
    }
  };
  return socket;
}

async function crowd(t, server) {
  const sockets = [];
  for (let index = 0; index < CLIENTS; index += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, CLIENTS - index) }, (_, more) => enter(t, server, index + more));
    sockets.push(...(await Promise.all(some)));
  }
  return sockets;
}

/** Replaces the server so often, under load, and counts. */
async function replaceOften(t, first, next) {
  let server = first;
  const sockets = await crowd(t, server);
  const ids = sockets.map((socket) => socket.id);
  let quiet = false;
  const talking = sockets.map((socket) => socket.talk(() => quiet));
  const numbers = backend(() => server.url);
  for (let round = 1; round <= ROUNDS; round++) {
    await numbers.more(20);
    server = await next(server);
    await until(() => sockets.every((socket) => socket.returns === round && socket.connected), {
      ...PATIENCE,
      message: () => `all are back: ${sockets.filter((socket) => socket.returns === round && socket.connected).length}`,
    });
  }
  await numbers.more(20);
  const count = await numbers.stop();
  quiet = true;
  await Promise.all(talking);
  const all = Array.from({ length: count }, (_, number) => number);
  const told = (socket) => received(socket, 'told').map(([number]) => number);
  await until(() => sockets.every((socket) => told(socket).includes(count - 1)), PATIENCE);
  for (const socket of sockets) {
    assert.deepEqual(told(socket), all);
    assert.deepEqual(socket.answered, socket.answered.map((_, number) => number));
  }
  assert.deepEqual(sockets.map((socket) => socket.id), ids);
  assert.equal(sockets.reduce((sum, socket) => sum + socket.afresh, 0), 0);
  const answered = sockets.reduce((sum, socket) => sum + socket.answered.length, 0);
  t.diagnostic(
    `${CLIENTS} clients, ${ROUNDS} times, ${count} broadcasts (${numbers.repeated()} requests again), ${answered} acks`,
  );
  return server;
}

test('clients and backends lose nothing while the server is stopped and started again', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-load-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const start = (listen) =>
    startServer(t, {
      listen,
      plugins: [CONFORMANCE],
      recovery: true,
      env: { MIXLAB_STORE__PATH: join(folder, 'store.redb') },
    });
  const last = await replaceOften(t, await start(), async (server) => {
    assert.equal(await server.stop({ timeout: 60_000 }), 0);
    return start(server.address);
  });
  assert.equal(await last.stop({ timeout: 60_000 }), 0);
});

test('clients and backends lose nothing while a new process follows in place', async (t) => {
  const server = await startServer(t, { plugins: [CONFORMANCE], recovery: true });
  const gaps = [];
  const last = await replaceOften(t, server, async () => {
    const { code, stdout, stderr } = await server.mixlab('upgrade');
    assert.deepEqual([code, stderr], [0, ''], server.log());
    server.isFollowedBy(Number(stdout.match(/^process (\d+) serves\n$/)[1]));
    return server;
  });
  for (const [, gap] of last.log().matchAll(/gap_ms=(\d+)/g)) gaps.push(Number(gap));
  assert.equal(gaps.length, ROUNDS);
  t.diagnostic(`nobody accepted connections for ${Math.min(...gaps)} to ${Math.max(...gaps)} ms`);
  assert.equal(await last.stop({ timeout: 60_000 }), 0);
});
