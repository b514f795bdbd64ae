// Redis goes, and comes back with what it had or without; servers are held up: every client gets every event once
// and in its sender's order, or starts afresh.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { startMember } from '../support/cluster.mjs';
import { ask, connect, open, received } from '../support/client.mjs';
import { FULL } from '../support/full.mjs';
import { notReady } from '../support/plugins.mjs';
import { startProxy } from '../support/proxy.mjs';
import { startRedis } from '../support/redis.mjs';
import { freePort, tcp } from '../support/tcp.mjs';
import { until } from '../support/wait.mjs';

const told = (socket) => received(socket, 'told').map(([data]) => data);

/** Two members, each with a client in room `r` and one that sends to it. */
async function pair(t, redis, config = '') {
  const options = { config: `[cluster]\n${config}` };
  const servers = [await startMember(t, redis, options), await startMember(t, redis, options)];
  const clients = await Promise.all(servers.map((server) => connect(t, server)));
  const senders = await Promise.all(servers.map((server) => connect(t, server)));
  for (const socket of clients) await call(socket, { call: 'join', room: 'r' });
  return { servers, clients, emit: (index, data) => call(senders[index], { call: 'emit', rooms: ['r'], event: 'told', data }) };
}

const call = async (socket, what) => {
  const [answer] = await ask(socket, 'capabilities', [what]);
  return 'granted' in answer ? answer.granted : Promise.reject(new Error(JSON.stringify(answer)));
};

/** Waits until no server, or each, misses its cluster. */
const lost = (servers, isLost) =>
  until(async () => {
    const missing = await Promise.all(servers.map((server) => notReady(server)));
    return missing.every((names) => names.some((name) => name.includes('Redis')) === isLost);
  });

/** Numbers that are missing, or come twice. */
const missing = (got, count, sender) => {
  const had = new Map();
  for (const data of got) had.set(data, (had.get(data) ?? 0) + 1);
  const wrong = Array.from({ length: count }, (_, number) => number).filter((number) => had.get(`${sender}:${number}`) !== 1);
  return { sent: count, got: got.length, wrong: wrong.length, first: wrong.slice(0, 3), last: wrong.slice(-3) };
};

/** What comes from one of them. */
const of = (all, sender) => all.filter((data) => data.startsWith(`${sender}:`));

test('what is sent while Redis is away reaches clients of the same server at once, and of others when it is back', async (t) => {
  const redis = await startRedis(t);
  const { servers, clients, emit } = await pair(t, redis);
  await emit(0, 'before');
  await until(() => clients.every((socket) => told(socket).length === 1));
  await redis.stop();
  await lost(servers, true);
  await emit(0, 'a');
  await emit(0, 'b');
  await until(() => told(clients[0]).length === 3);
  assert.deepEqual(told(clients[1]), ['before']);
  await redis.start();
  await lost(servers, false);
  await emit(1, 'after');
  await until(() => clients.every((socket) => told(socket).includes('after')));
  await emit(0, 'last');
  await until(() => clients.every((socket) => told(socket).includes('last')));
  assert.deepEqual(told(clients[0]), ['before', 'a', 'b', 'after', 'last']);
  assert.deepEqual(told(clients[1]).filter((data) => data !== 'after'), ['before', 'a', 'b', 'last']);
});

test('with on_loss = "hold" all clients get it when Redis is back, and answers go on meanwhile', async (t) => {
  const redis = await startRedis(t, { keep: true });
  const { servers, clients, emit } = await pair(t, redis, 'on_loss = "hold"');
  await redis.stop();
  await lost(servers, true);
  for (const data of ['a', 'b', 'c']) await emit(0, data);
  await call(clients[0], { call: 'emit', event: 'own', data: 1 });
  await until(() => received(clients[0], 'own').length === 1);
  assert.deepEqual(told(clients[0]), []);
  await redis.start();
  await until(() => clients.every((socket) => told(socket).length === 3));
  for (const socket of clients) assert.deepEqual(told(socket), ['a', 'b', 'c']);
});

for (const [what, config, outage] of [
  ['is killed and has lost what it had', '', async (redis) => (await redis.stop(), await redis.start())],
  ['is killed and has lost what it had, nothing being local', 'on_loss = "hold"', async (redis) => (await redis.stop(), await redis.start())],
  ['holds still for longer than anybody waits', '', async (redis, servers) => {
    redis.pause();
    await lost(servers, true);
    redis.resume();
  }],
]) {
  test(`nothing is lost and nothing comes twice while Redis ${what}`, async (t) => {
    const redis = await startRedis(t);
    const { servers, clients, emit } = await pair(t, redis, config);
    const sent = [0, 0];
    let before = [0, 0];
    let isOver = false;
    // All that waits has to fit into the stream, however fast this machine is.
    const hasMore = (sender) => sent[sender] - before[sender] < 1000;
    const sending = [0, 1].map(async (sender) => {
      while (!isOver) {
        await emit(sender, `${sender}:${sent[sender]++}`);
        await until(() => isOver || hasMore(sender), { timeout: 60_000 });
      }
    });
    for (let round = 0; round < (FULL ? 20 : 3); round++) {
      before = [...sent];
      await until(() => sent.every((count, sender) => count > before[sender] + 20));
      await outage(redis, servers);
      await lost(servers, false);
    }
    isOver = true;
    await Promise.all(sending);
    const complete = (socket) => told(socket).length >= sent[0] + sent[1];
    await until(() => clients.every(complete), { timeout: 30_000, message: () => JSON.stringify(clients.map((socket) => [0, 1].map((sender) => missing(of(told(socket), sender), sent[sender], sender)))) + servers.map((server) => server.log().slice(-3000)).join('\n---\n') });
    for (const socket of clients) {
      for (const sender of [0, 1]) {
        const all = Array.from({ length: sent[sender] }, (_, number) => `${sender}:${number}`);
        assert.deepEqual(of(told(socket), sender), all);
      }
    }
  });
}

test('what is sent again after Redis has lost what it had waits no longer when it is in', async (t) => {
  const redis = await startRedis(t);
  const { servers, clients, emit } = await pair(t, redis);
  await emit(0, 'once');
  await until(() => clients.every((socket) => told(socket).length === 1));
  await redis.stop();
  await redis.start();
  await until(async () => (await redis.send('XRANGE', 'socket.io', '-', '+')).includes('once'));
  const waiting = async () => (await servers[0].api('GET', '/metrics', undefined, null)).body.match(/^mixlab_cluster_waiting_entries (\d+)/m)[1];
  await until(async () => (await waiting()) === '0');
  for (const socket of clients) assert.deepEqual(told(socket), ['once']);
});

test('what Redis refuses to take is said once, and is sent when it does', async (t) => {
  const redis = await startRedis(t);
  const { servers, clients, emit } = await pair(t, redis, 'on_loss = "hold"');
  await redis.send('CONFIG', 'SET', 'maxmemory', '1');
  await emit(0, 'a');
  await servers[0].waitForLog(/Redis does not take what goes to other servers/);
  await redis.send('CONFIG', 'SET', 'maxmemory', '0');
  await until(() => clients.every((socket) => told(socket).length === 1));
  assert.equal(servers[0].log().match(/Redis does not take/g).length, 1);
});

test('what would wait beyond the bound is refused as temporary', async (t) => {
  const redis = await startRedis(t);
  const { servers, emit } = await pair(t, redis, 'queue_bytes = "4KiB"');
  await redis.stop();
  await lost(servers, true);
  await assert.rejects(async () => {
    for (let number = 0; number < 100; number++) await emit(0, number);
  }, /Redis does not take what goes to other servers/);
  const { status, body } = await servers[0].api('POST', '/api/v1/emit', { rooms: ['r'], event: 'told', arguments: [1] });
  assert.deepEqual([status, body.error.code, body.error.temporary], [503, 'cluster_unavailable', true]);
  await redis.start();
  await lost(servers, false);
  await until(() => emit(0, 'again').then(() => true, () => false));
});

test('clients of a server that was behind for longer than entries are kept start afresh', async (t) => {
  const redis = await startRedis(t);
  const { servers, clients, emit } = await pair(t, redis, 'max_entries = 10');
  const ids = clients.map((socket) => socket.id);
  clients[1].io.reconnection(true);
  process.kill(servers[1].pid, 'SIGSTOP');
  // Redis trims whole nodes of 100 entries.
  for (let number = 0; number < 500; number++) {
    await emit(0, number);
    // The other server is never behind by as many as are kept.
    await until(() => told(clients[0]).length > number - 5);
  }
  await until(() => told(clients[0]).length === 500);
  process.kill(servers[1].pid, 'SIGCONT');
  await until(() => clients[1].connected && clients[1].id !== ids[1], {
    timeout: 30_000,
    message: () => `it starts afresh: ${clients[1].connected} ${clients[1].endReason} ${told(clients[1]).length}\n${servers[1].log()}`,
  });
  assert.equal(clients[1].recovered, false);
  assert.equal(clients[0].id, ids[0]);
});

test('clients that miss some of what waited for Redis, as it was more than entries are kept, start afresh', async (t) => {
  const redis = await startRedis(t);
  const { servers, clients, emit } = await pair(t, redis, 'max_entries = 10');
  const ids = clients.map((socket) => socket.id);
  for (const socket of clients) socket.io.reconnection(true);
  await redis.stop();
  await lost(servers, true);
  for (let number = 0; number < 3000; number++) await emit(0, number);
  await until(() => told(clients[0]).length === 3000);
  await redis.start();
  await lost(servers, false);
  await until(() => clients[1].connected && clients[1].id !== ids[1], { timeout: 30_000, message: 'it starts afresh' });
  assert.equal(clients[1].recovered, false);
  // Who had it all is not told again.
  await until(async () => (await servers[0].api('GET', '/metrics', undefined, null)).body.includes('mixlab_cluster_waiting_entries 0'));
  assert.deepEqual(told(clients[0]), Array.from({ length: 3000 }, (_, number) => number));
});

test('a client that got something before it was in the stream begins afresh elsewhere, and has it once', async (t) => {
  const redis = await startRedis(t, { keep: true });
  const { servers, emit } = await pair(t, redis);
  const socket = await connect(t, servers[0], { reconnection: true, reconnectionDelay: 50 });
  await call(socket, { call: 'join', room: 'r' });
  await redis.stop();
  await lost(servers, true);
  await emit(0, 'early');
  await until(() => told(socket).includes('early'));
  // While its server holds still, something comes into the stream before that.
  process.kill(servers[0].pid, 'SIGSTOP');
  await redis.start();
  await until(() => emit(1, 'first').then(() => true, () => false));
  await until(async () => (await redis.send('XRANGE', 'socket.io', '-', '+')).includes('first'));
  process.kill(servers[0].pid, 'SIGCONT');
  await until(() => told(socket).includes('first'));
  await until(async () => (await redis.send('XRANGE', 'socket.io', '-', '+')).includes('early'));
  socket.io.uri = servers[1].url;
  const { id } = socket;
  socket.io.engine.close();
  await until(() => socket.connected && socket.id !== id || socket.recovered);
  await emit(1, 'last');
  if (!socket.recovered) await call(socket, { call: 'emit', event: 'told', data: 'last' });
  await until(() => told(socket).includes('last'));
  assert.deepEqual([told(socket), socket.recovered], [['early', 'first', 'last'], false]);
});

test('clients that came to a server before it had Redis start afresh when it has', async (t) => {
  const redis = await startRedis(t);
  const other = await startMember(t, redis);
  await redis.stop();
  const late = await startMember(t, redis, { connects: false });
  const early = await connect(t, late, { reconnection: true, reconnectionDelay: 50 });
  const { id } = early;
  await redis.start();
  await until(() => early.connected && early.id !== id, { message: () => `it starts afresh:\n${late.log()}` });
  assert.equal(early.recovered, false);
  await lost([late, other], false);
  await call(await connect(t, other), { call: 'emit', rooms: [], event: 'told', data: 'all' });
  await until(() => told(early).includes('all'));
});

test('a client that comes to a server as it starts misses nothing of what others send from then on', async (t) => {
  const redis = await startRedis(t);
  const sender = await connect(t, await startMember(t, redis));
  // It does not find Redis at once.
  const way = await startProxy(t, redis);
  way.cut();
  const port = await freePort();
  const starting = startMember(t, { url: way.url.replace('http:', 'redis:') }, { listen: `127.0.0.1:${port}`, connects: false });
  const client = open(t, { url: `http://127.0.0.1:${port}` }, { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 20 });
  let [sent, from, isOver] = [0, 0, false];
  client.on('connect', () => (from = client.recovered ? from : sent + 1));
  const sending = (async () => {
    while (!isOver) await call(sender, { call: 'emit', rooms: [], event: 'told', data: sent }).then(() => (sent += 1));
  })();
  const isOpen = () => tcp(t, { port }).then(() => true, () => false);
  await until(isOpen, { message: 'the server listens' });
  // As long as it may wait for Redis, or what comes of it if it does not.
  await Promise.race([once(client, 'connect'), new Promise((resolve) => setTimeout(resolve, 300))]);
  way.mend();
  const server = await starting;
  await until(() => client.connected);
  const begun = sent;
  await until(() => sent > begun + 50);
  isOver = true;
  await sending;
  await until(() => told(client).includes(sent - 1), { message: () => server.log() });
  const numbers = Array.from({ length: sent - from }, (_, index) => from + index);
  assert.deepEqual(told(client).filter((number) => number >= from), numbers);
});
