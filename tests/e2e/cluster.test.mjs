// Servers of one cluster, MixLab's and Node's, around a real Redis: what one sends reaches the clients of all.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { startMember, startNodeMember } from '../support/cluster.mjs';
import { ask, connect, disconnected, nextEvent, received } from '../support/client.mjs';
import { startRedis } from '../support/redis.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const shared = { after: (hook) => hooks.push(hook) };
const hooks = [];
let redis, mixlab, node;
before(async () => {
  redis = await startRedis(shared);
  mixlab = [await startMember(shared, redis), await startMember(shared, redis)];
  node = [await startNodeMember(shared, redis), await startNodeMember(shared, redis)];
});
test.after(async () => {
  for (const hook of hooks.reverse()) await hook();
});

/** One client of each server, MixLab's first. */
const clients = (t, options) => Promise.all([...mixlab, ...node].map((server) => connect(t, server, options)));

/** Has the plugin of a client's server do something. */
const call = async (socket, what) => {
  const answers = await ask(socket, 'capabilities', [what]);
  assert.ok(Array.isArray(answers), JSON.stringify(answers));
  const [answer] = answers;
  assert.ok('granted' in answer, JSON.stringify(answer));
  return answer.granted;
};

/** What a client got, without the place behind it. */
const heard = async (socket, event) => (await nextEvent(socket, event)).slice(0, -1);

/** A room's name that no other test has. */
let rooms = 0;
const room = () => `room-${rooms++}`;

const joined = async (sockets, name) => {
  for (const [index, socket] of sockets.entries()) {
    await (index < 2 ? call(socket, { call: 'join', room: name }) : ask(socket, 'join', name));
  }
};

/** What the plugin does, and how a Node server is told the same. */
const MIXLAB = {
  emit: (all, { event, args: [data], ...to }) => call(all[0], { call: 'emit', ...to, event, data }),
  join: (all, to, name) => call(all[0], { call: 'join_sockets', ...to, room: name }),
  leave: (all, to, name) => call(all[0], { call: 'leave_sockets', ...to, room: name }),
  disconnect: (all, to) => call(all[0], { call: 'disconnect', ...to, close: false }),
};
const NODE = {
  emit: (_, { event, args, ...to }) => node[0].tell('emit', to, event, ...args),
  join: (_, to, name) => node[0].tell('join', to, [name]),
  leave: (_, to, name) => node[0].tell('leave', to, [name]),
  disconnect: (_, to) => node[0].tell('disconnect', to, false),
};

for (const [kind, does] of Object.entries({ MixLab: MIXLAB, Node: NODE })) {
  // The sender is none of those that are looked at: an event leaves it out.
  const withSender = async (t) => [[await connect(t, mixlab[0])], await clients(t)];

  test(`an event to a room reaches the clients of all servers, from ${kind}`, async (t) => {
    const [sender, all] = await withSender(t);
    const outside = await clients(t);
    const name = room();
    await joined(all, name);
    const data = { text: 'héllo', number: 1.5, none: null };
    await does.emit(sender, { rooms: [name], event: 'told', args: [data] });
    for (const socket of all) assert.deepEqual(await heard(socket, 'told'), [data]);
    for (const socket of outside) assert.deepEqual(received(socket, 'told'), []);
  });

  test(`an event to everybody but some reaches the clients of all servers, from ${kind}`, async (t) => {
    const [sender, all] = await withSender(t);
    const left = await clients(t);
    const name = room();
    await joined(left, name);
    await does.emit(sender, { rooms: [], except: [name], event: 'told', args: [1] });
    for (const socket of all) assert.deepEqual(await heard(socket, 'told'), [1]);
    // What comes behind it has come.
    await does.emit(sender, { rooms: [name], event: 'told', args: [2] });
    for (const socket of left) assert.deepEqual(await heard(socket, 'told'), [2]);
  });

  test(`an event to a socket of another server reaches it, from ${kind}`, async (t) => {
    const [sender, all] = await withSender(t);
    for (const [number, socket] of all.entries()) {
      const to = kind === 'Node' ? { rooms: [socket.id] } : { sockets: [socket.id] };
      await does.emit(sender, { ...to, event: 'told', args: [number] });
      assert.deepEqual(await heard(socket, 'told'), [number]);
    }
  });

  test(`selected sockets of all servers join, leave and end, from ${kind}`, async (t) => {
    const [sender, all] = await withSender(t);
    const [name, more] = [room(), room()];
    await joined(all, name);
    await does.join(sender, { rooms: [name] }, more);
    await does.emit(sender, { rooms: [more], event: 'told', args: ['in'] });
    for (const socket of all) assert.deepEqual(await heard(socket, 'told'), ['in']);
    await does.leave(sender, { rooms: [name] }, more);
    await does.emit(sender, { rooms: [more], event: 'told', args: ['out'] });
    await does.emit(sender, { rooms: [name], event: 'told', args: ['end'] });
    for (const socket of all) assert.deepEqual(await heard(socket, 'told'), ['end']);
    await does.disconnect(sender, { rooms: [name] });
    for (const socket of all) assert.equal(await disconnected(socket), 'io server disconnect');
  });
}

test('binary data reaches the clients of all servers, from Node', async (t) => {
  const all = await clients(t);
  const name = room();
  await joined(all, name);
  await node[1].tell('emit', { rooms: [name] }, 'told', { bytes: [1, 2, 255] }, 'text');
  for (const socket of all) assert.deepEqual(await heard(socket, 'told'), [Buffer.from([1, 2, 255]), 'text']);
});

test('a backend, each of the four primitives and the end of a user reach the clients of all servers', async (t) => {
  const credentials = { token: token({ sub: '7', roles: ['admin'] }) };
  const all = await Promise.all(mixlab.map((server) => connect(t, server, credentials)));
  for (const socket of all) await ask(socket, 'subscribe:payments');
  const [one, other] = mixlab;
  for (const [path, body, event] of [
    ['/api/v1/emit', { users: ['7'], event: 'told', arguments: [1] }, 'told'],
    ['/api/v1/payments/updates', { id: 1 }, 'payment_update'],
    ['/api/v1/users/7/notifications', { text: 'x' }, 'notification'],
    ['/api/v1/roles/admin/events/booked', { id: 2 }, 'booked'],
  ]) {
    const { status, body: answer } = await one.api('POST', path, body);
    assert.deepEqual([status, answer], [200, { delivered: null }], path);
    for (const socket of all) await nextEvent(socket, event);
  }
  await other.api('POST', '/api/v1/users/7/disconnect');
  for (const socket of all) assert.equal(await disconnected(socket), 'io server disconnect');
});

test('all clients get what several servers send at once in the same order', async (t) => {
  const all = await clients(t);
  const senders = await Promise.all(mixlab.map((server) => connect(t, server)));
  const name = room();
  await joined(all, name);
  const COUNT = 100;
  const sends = [];
  for (let number = 0; number < COUNT; number++) {
    for (const [index, sender] of senders.entries()) {
      sends.push(call(sender, { call: 'emit', rooms: [name], event: 'told', data: `${index}:${number}` }));
    }
  }
  await Promise.all(sends);
  const complete = (socket) => received(socket, 'told').length === senders.length * COUNT;
  await until(() => all.every(complete), { message: 'all of them get all' });
  const [first, ...others] = all.map((socket) => received(socket, 'told').map(([data, place]) => [data, place]));
  for (const other of others) assert.deepEqual(other, first);
  for (const index of senders.keys()) {
    const its = first.map(([data]) => data).filter((data) => data.startsWith(`${index}:`));
    assert.deepEqual(its, Array.from({ length: COUNT }, (_, number) => `${index}:${number}`));
  }
});
