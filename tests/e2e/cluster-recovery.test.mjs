// A client that loses its server, or the way to it, has its connection back on any other of the cluster.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PLUGIN, startMember, startNodeMember, written } from '../support/cluster.mjs';
import { ask, connect, received } from '../support/client.mjs';
import { assertAll, numbers, send } from '../support/numbers.mjs';
import { startRedis } from '../support/redis.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

/** A client that comes back by itself, to whatever server it is told. */
async function join(t, server, options) {
  const socket = await connect(t, server, { reconnection: true, reconnectionDelay: 50, ...options });
  socket.connects = 1;
  socket.on('connect', () => socket.connects++);
  return socket;
}

/** Has it lose its transport, without a word, and come back to this server. */
async function moveTo(socket, server, { lose = () => socket.io.engine.close() } = {}) {
  const before = socket.connects;
  socket.io.uri = server.url;
  await lose();
  await until(() => socket.connects > before, { message: 'it is back' });
}

/** Has it come to this server, who did not look for one. */
function comeBack(socket, server) {
  socket.io.reconnection(true);
  socket.io.uri = server.url;
  socket.connect();
}

/** Has it lose its transport, and come to this server when something has happened meanwhile. */
async function move(socket, server, meanwhile) {
  socket.io.reconnection(false);
  socket.io.engine.close();
  await meanwhile();
  comeBack(socket, server);
}

const call = async (socket, what) => {
  const [answer] = await ask(socket, 'capabilities', [what]);
  assert.ok('granted' in answer, JSON.stringify(answer));
  return answer.granted;
};

/** What a client was told, without places. */
const told = (socket) => received(socket, 'told').map(([data]) => data);

for (const [what, transports] of Object.entries({ websocket: ['websocket'], polling: ['polling'] })) {
  test(`a client has its connection back on another server: ${what}`, async (t) => {
    const redis = await startRedis(t);
    const [one, other] = [await startMember(t, redis), await startMember(t, redis)];
    const credentials = { token: token({ sub: '7', roles: ['admin'] }) };
    const socket = await join(t, one, { transports, ...credentials });
    const sender = await connect(t, other);
    await call(socket, { call: 'join', room: 'r' });
    await call(socket, { call: 'set_data', data: { kept: true } });
    await call(socket, { call: 'emit', event: 'told', data: 'own' });
    const emit = (data) => call(sender, { call: 'emit', rooms: ['r'], event: 'told', data });
    await emit(1);
    await until(() => told(socket).length === 2);
    const { id } = socket;

    await move(socket, other, async () => {
      await emit(2);
      await emit(3);
    });
    await until(() => socket.connected && told(socket).length === 4);

    assert.deepEqual(told(socket), ['own', 1, 2, 3]);
    assert.equal(socket.id, id);
    assert.equal(socket.recovered, true);
    assert.deepEqual(await call(socket, { call: 'joined' }), ['r']);
    assert.deepEqual(await call(socket, { call: 'data' }), { kept: true });
    await emit(4);
    await until(() => told(socket).length === 5);
    // And back again.
    await moveTo(socket, one);
    assert.equal(socket.recovered, true);
    await emit(5);
    await until(() => told(socket).length === 6);
    assert.deepEqual(told(socket), ['own', 1, 2, 3, 4, 5]);
  });
}

test('a client of a server that is killed has its connection back on another', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = [await startMember(t, redis), await startMember(t, redis)];
  const socket = await join(t, one);
  const sender = await connect(t, other);
  await call(socket, { call: 'join', room: 'its-room' });
  for (const data of ['a', 'b']) await call(socket, { call: 'emit', event: 'told', data });
  await call(sender, { call: 'emit', rooms: ['its-room'], event: 'told', data: 'c' });
  await until(() => told(socket).length === 3);
  await written(redis, socket, 'its-room');
  const { id } = socket;
  await moveTo(socket, other, { lose: () => one.kill() });
  assert.deepEqual([socket.recovered, socket.id], [true, id]);
  await call(sender, { call: 'emit', rooms: ['its-room'], event: 'told', data: 'd' });
  await until(() => told(socket).length === 4);
  assert.deepEqual(told(socket), ['a', 'b', 'c', 'd']);
});

test('a client of a server that is stopped has its connection back on one that has just started', async (t) => {
  const redis = await startRedis(t);
  const one = await startMember(t, redis);
  const sender = await connect(t, await startMember(t, redis));
  const socket = await join(t, one);
  await call(socket, { call: 'join', room: 'r' });
  await call(sender, { call: 'emit', rooms: ['r'], event: 'told', data: 1 });
  await until(() => told(socket).length === 1);
  socket.io.reconnection(false);
  await one.stop();
  for (const data of [2, 3]) await call(sender, { call: 'emit', rooms: ['r'], event: 'told', data });
  const late = await startMember(t, redis);
  comeBack(socket, late);
  await until(() => told(socket).length === 3);
  assert.deepEqual([socket.recovered, told(socket)], [true, [1, 2, 3]]);
});

test('a client that has seen no event yet has its connection back on a server that has just started', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = [await startMember(t, redis), await startMember(t, redis)];
  const sender = await connect(t, other);
  const emit = (room, data) => call(sender, { call: 'emit', rooms: [room], event: 'told', data });
  const [early, later] = [await join(t, one), await join(t, one)];
  await call(early, { call: 'join', room: 'r' });
  await emit('elsewhere', 1);
  await call(later, { call: 'join', room: 'r' });
  const late = await startMember(t, redis);
  const ids = [early, later].map((socket) => socket.id);
  for (const socket of [early, later]) socket.io.reconnection(false);
  await one.kill();
  for (const data of [2, 3]) await emit('r', data);
  for (const [n, socket] of [early, later].entries()) {
    comeBack(socket, late);
    await until(() => socket.connected && told(socket).length === 2, { message: () => JSON.stringify([socket.recovered, told(socket)]) });
    assert.deepEqual([socket.recovered, socket.id, told(socket)], [true, ids[n], [2, 3]]);
  }
});

for (const [from, to] of [['Node', 'MixLab'], ['MixLab', 'Node']]) {
  test(`a session begun on ${from} goes on at ${to}`, async (t) => {
    const redis = await startRedis(t);
    const mixlab = await startMember(t, redis);
    const servers = { MixLab: mixlab, Node: await startNodeMember(t, redis) };
    const sender = await connect(t, mixlab);
    const emit = (data) => call(sender, { call: 'emit', rooms: ['r'], event: 'told', data });
    const socket = await join(t, servers[from]);
    await (from === 'Node' ? ask(socket, 'join', 'r') : call(socket, { call: 'join', room: 'r' }));
    await emit(1);
    await until(() => told(socket).length === 1);
    const { id } = socket;
    await move(socket, servers[to], () => emit(2));
    await until(() => told(socket).length === 2);
    assert.deepEqual([socket.recovered, socket.id], [true, id]);
    await emit(3);
    await until(() => told(socket).length === 3);
    assert.deepEqual(told(socket), [1, 2, 3]);
  });
}

test("Node's servers are stopped one by one under load, and their clients go on at MixLab's with nothing lost", async (t) => {
  const redis = await startRedis(t);
  const [one, other] = [await startMember(t, redis), await startMember(t, redis)];
  const nodes = [await startNodeMember(t, redis), await startNodeMember(t, redis)];
  // As long as a stock client waits at first: Node writes a session when it ends.
  const back = { reconnectionDelay: 1000, randomizationFactor: 0 };
  const groups = await Promise.all(nodes.map((node) => Promise.all(numbers(10).map(() => join(t, node, back)))));
  const sockets = groups.flat();
  for (const socket of sockets) {
    await ask(socket, 'join', 'r');
    socket.afresh = 0;
    socket.on('connect', () => (socket.afresh += socket.recovered ? 0 : 1));
  }
  const ids = sockets.map(({ id }) => id);
  const sender = send(await connect(t, other));
  for (const [stopped, node] of nodes.entries()) {
    await sender.more(50);
    for (const socket of groups[stopped]) socket.io.uri = one.url;
    await node.tell('close');
    await node.kill();
    await until(() => groups[stopped].every(({ connects }) => connects === 2), { message: 'they are back' });
  }
  await sender.more(50);
  await assertAll(sockets, await sender.stop());
  assert.deepEqual(sockets.map(({ id }) => id), ids);
  // With the next beat of the other one.
  await until(async () => (await other.api('GET', '/api/v1/clients/count')).body.count === 21);
});

test('a client has its connection back on a server where nobody had opened its namespace', async (t) => {
  const redis = await startRedis(t);
  const plugins = [{ ...PLUGIN, config: { namespaces: ['/', '/room-*'] } }];
  const [one, other] = [await startMember(t, redis, { plugins }), await startMember(t, redis, { plugins })];
  const namespace = '/room-7';
  const socket = await join(t, one, { namespace });
  const sender = await connect(t, one, { namespace });
  await call(socket, { call: 'join', room: 'r' });
  const emit = (data) => call(sender, { call: 'emit', rooms: ['r'], event: 'told', data });
  await emit(1);
  await until(() => told(socket).length === 1);
  const { id } = socket;
  await move(socket, other, async () => {
    await emit(2);
    await emit(3);
  });
  await until(() => socket.connected);
  assert.deepEqual([socket.recovered, socket.id], [true, id]);
  await until(() => told(socket).length === 3);
  assert.deepEqual(told(socket), [1, 2, 3]);
});
