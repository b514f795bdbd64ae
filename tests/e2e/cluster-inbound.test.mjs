// Programs that are no servers send events over Redis in forms of their own: redis-emitter, python-socketio, emitters
// of the stream. What they send reaches the clients of all servers, once.
import assert from 'node:assert/strict';
import { Emitter } from '@socket.io/redis-emitter';
import Redis from 'ioredis';
import { before, test } from 'node:test';
import { startMember, startNodeMember } from '../support/cluster.mjs';
import { ask, connect, disconnected, nextEvent, received } from '../support/client.mjs';
import { startRedisEmitter } from '../support/python.mjs';
import { startRedis } from '../support/redis.mjs';
import { until } from '../support/wait.mjs';

const config = '[cluster]\naccept = ["redis-emitter", "python-socketio"]\n';
const shared = { after: (hook) => hooks.push(hook) };
const hooks = [];
let redis, mixlab, node, speaks, emitter, python;
before(async () => {
  redis = await startRedis(shared);
  mixlab = [await startMember(shared, redis, { config }), await startMember(shared, redis, { config })];
  node = [await startNodeMember(shared, redis)];
  speaks = new Redis(redis.port, '127.0.0.1');
  shared.after(() => speaks.disconnect());
  emitter = new Emitter(speaks);
  python = startRedisEmitter(shared, redis.url);
  // Both servers hear it.
  await until(async () => (await speaks.call('PUBSUB', 'NUMSUB', 'socketio'))[1] >= 2);
});
test.after(async () => {
  for (const hook of hooks.reverse()) await hook();
});

/** One client of each server, MixLab's first. */
const clients = (t) => Promise.all([...mixlab, ...node].map((server) => connect(t, server)));

/** A room's name that no other test has. */
let rooms = 0;
const room = () => `room-${rooms++}`;

const joined = async (sockets, name) => {
  for (const [index, socket] of sockets.entries()) {
    if (index >= 2) await ask(socket, 'join', name);
    else assert.deepEqual(await ask(socket, 'capabilities', [{ call: 'join', room: name }]), [{ granted: null }]);
  }
};

/** What a client got, without the place behind it. */
const heard = async (socket, event) => (await nextEvent(socket, event)).slice(0, -1);

/** How each of them says it. */
const SAYS = {
  'redis-emitter': {
    emit: (to, event, ...args) => emitter.to(to).emit(event, ...args),
    emitExcept: (except, event, ...args) => emitter.except(except.id).emit(event, ...args),
    join: (sockets, name) => emitter.in(sockets.map(({ id }) => id)).socketsJoin(name),
    leave: (sockets, name) => emitter.in(sockets.map(({ id }) => id)).socketsLeave(name),
    disconnect: (sockets) => emitter.in(sockets.map(({ id }) => id)).disconnectSockets(),
    bytes: Buffer.from([1, 2, 255]),
  },
  'python-socketio': {
    emit: (to, event, data) => python('emit', [event, data], { room: to }),
    emitExcept: (except, event, data) => python('emit', [event, data], { skip_sid: except.id }),
    join: (sockets, name) => Promise.all(sockets.map(({ id }) => python('enter_room', [id, '/', name]))),
    leave: (sockets, name) => Promise.all(sockets.map(({ id }) => python('leave_room', [id, '/', name]))),
    disconnect: (sockets) => Promise.all(sockets.map(({ id }) => python('disconnect', [id, '/']))),
    bytes: { bytes: [1, 2, 255] },
  },
};

for (const [kind, says] of Object.entries(SAYS)) {
  test(`what ${kind} emits reaches the clients of all servers, once and in order`, async (t) => {
    const all = await clients(t);
    const outside = await clients(t);
    const name = room();
    await joined(all, name);
    for (const data of [1, { text: 'é' }, 1, 1, 2]) await says.emit(name, 'told', data);
    await says.emit(name, 'bytes', says.bytes);
    for (const socket of all) {
      assert.deepEqual(await heard(socket, 'bytes'), [Buffer.from([1, 2, 255])]);
      const told = received(socket, 'told').map(([data]) => data);
      assert.deepEqual(told, [1, { text: 'é' }, 1, 1, 2]);
    }
    for (const socket of outside) assert.deepEqual(received(socket, 'told'), []);
  });

  test(`sockets of all servers join, leave and end as ${kind} says`, async (t) => {
    const all = await clients(t);
    const name = room();
    await says.join(all, name);
    await says.emit(name, 'told', 'in');
    for (const socket of all) assert.deepEqual(await heard(socket, 'told'), ['in']);
    await says.leave(all.slice(0, 2), name);
    await says.emit(name, 'told', 'out');
    assert.deepEqual(await heard(all[2], 'told'), ['out']);
    await says.emitExcept(all[1], 'told', 'end');
    for (const socket of [all[0], all[2]]) assert.deepEqual(await heard(socket, 'told'), ['end']);
    for (const socket of all.slice(0, 2)) assert.ok(received(socket, 'told').every(([data]) => data !== 'out'));
    assert.ok(received(all[1], 'told').every(([data]) => data !== 'end'));
    await says.disconnect(all);
    for (const socket of all) assert.equal(await disconnected(socket), 'io server disconnect');
  });
}

test('what an emitter sends to the stream reaches the clients of all servers', async (t) => {
  const all = await clients(t);
  const data = { packet: { type: 2, data: ['told', 'x'], nsp: '/' }, opts: { rooms: [], except: [], flags: {} } };
  await speaks.xadd('socket.io', '*', 'uid', 'emitter', 'nsp', '/', 'type', '3', 'data', JSON.stringify(data));
  for (const socket of all) assert.deepEqual(await heard(socket, 'told'), ['x']);
});

test('what emitters send is recovered by clients that were away', async (t) => {
  const socket = await connect(t, mixlab[0], { reconnection: true, reconnectionDelay: 50 });
  const name = room();
  await joined([socket], name);
  emitter.to(name).emit('told', 1);
  assert.deepEqual(await heard(socket, 'told'), [1]);
  const back = new Promise((resolve) => socket.once('connect', resolve));
  socket.io.engine.close();
  emitter.to(name).emit('told', 2);
  await back;
  assert.equal(socket.recovered, true);
  assert.deepEqual(await heard(socket, 'told'), [2]);
});

test('what emitters send is neither lost nor doubled when the server dies that puts it into the stream', async (t) => {
  const own = await startRedis(t);
  const says = new Redis(own.port, '127.0.0.1');
  t.after(() => says.disconnect());
  const emits = new Emitter(says);
  const start = async (_, index) => {
    const server = await startMember(t, own, { config });
    const socket = await connect(t, server);
    await ask(socket, 'capabilities', [{ call: 'emit', event: 'hello', rooms: [], data: index }]);
    return { server, socket };
  };
  const members = await Promise.all(Array.from({ length: 3 }, start));
  await until(async () => (await says.call('PUBSUB', 'NUMSUB', 'socketio'))[1] >= members.length);
  const entries = async () => (await says.xrange('socket.io', '-', '+')).map(([, fields]) => fields.join(' '));
  const holder = async () => (await says.get('socket.io:mixlab:inbound'))?.split(':')[0];
  /** Which of them has this name in the cluster, as what it has emitted says. */
  const named = async (name) => {
    const hello = (await entries()).find((entry) => entry.includes(`uid ${name} `) && entry.includes('"hello"'));
    return Number(/"hello",(\d)/.exec(hello)[1]);
  };
  let sent = 0;
  const emit = (count) => {
    for (let number = 0; number < count; number++) emits.emit('told', sent++);
  };
  const dead = new Set();
  for (let kills = 0; kills < 2; kills++) {
    emit(20);
    const name = await until(holder, { message: 'one holds the lease' });
    const index = await named(name);
    assert.ok(!dead.has(index));
    emit(100);
    members[index].server.kill();
    dead.add(index);
    emit(100);
    await until(async () => ![undefined, name].includes(await holder()), { message: 'another one holds it' });
  }
  const [{ socket }] = members.filter((_, index) => !dead.has(index));
  await until(() => received(socket, 'told').length >= sent, { message: 'all has come' });
  emits.emit('end');
  await nextEvent(socket, 'end');
  assert.deepEqual(received(socket, 'told').map(([number]) => number), Array.from({ length: sent }, (_, number) => number));
});

test('pickle is refused with a line that says what to change', async () => {
  for (let times = 0; times < 2; times++) await python('pickle', [], {});
  for (const server of mixlab) {
    const lines = () => server.log().match(/sends pickle, which is refused/g) ?? [];
    await until(() => lines().length > 0);
    assert.equal(lines().length, 1);
  }
});
