// What plugins know of other connections and do with them: by id, by room, and what they keep with them.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, disconnected, open, received } from '../support/client.mjs';
import { editConfig, nextArgument, plugin, reload } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const GRANTS = ['payments', 'notify', 'role:*', 'clients', 'room:*', 'socket', 'everyone', 'emit', 'ask', 'handshake', 'find', 'disconnect'];
const CAPABILITIES = { wasm: 'capabilities', grants: GRANTS };

const server = await startServer({ after }, { recovery: true, plugins: [CAPABILITIES] });

/** Calls functions of the host in one event; resolves to what each of them said. */
const call = (socket, ...calls) => ask(socket, 'capabilities', calls);

/** The same for functions that must be granted; resolves to what they returned. */
async function granted(socket, ...calls) {
  const answers = await call(socket, ...calls);
  return answers.map((answer) => ('granted' in answer ? answer.granted : assert.fail(JSON.stringify(answer))));
}

/** Everybody has got what was sent to them before. */
const settled = (...sockets) => Promise.all(sockets.map((socket) => ask(socket, 'capabilities:ping')));

const members = (t, number, on = server) => Promise.all(Array.from({ length: number }, () => connect(t, on)));

test('one connection is reached by its id, and left out by it', async (t) => {
  const [sender, one, other] = await members(t, 3);
  await granted(
    sender,
    { call: 'join', room: 'lobby' },
    { call: 'emit', event: 'direct', sockets: [one.id], data: 1 },
    { call: 'emit', event: 'both', sockets: [one.id, other.id, one.id, sender.id], data: 2 },
    { call: 'emit', event: 'but-one', rooms: [], except: [one.id], data: 3 },
    { call: 'emit', event: 'nobody', sockets: ['0123456789abcdefghij'], data: 4 },
    { call: 'emit', event: 'not-it', sockets: [one.id], except: [one.id], data: 5 },
  );
  await settled(sender, one, other);
  const names = (socket) => socket.collected.map(({ name }) => name);
  assert.deepEqual(names(one), ['direct', 'both']);
  assert.deepEqual(names(other), ['both', 'but-one']);
  assert.deepEqual(names(sender), [], 'the sender is never among the others');
});

test('a room and an id select the sockets of both, each once', async (t) => {
  const [sender, inRoom, byId] = await members(t, 3);
  await granted(inRoom, { call: 'join', room: 'mixed' });
  await granted(byId, { call: 'join', room: 'quiet' });
  await granted(
    sender,
    { call: 'emit', event: 'e', rooms: ['mixed'], sockets: [inRoom.id, byId.id], data: 1 },
    { call: 'emit', event: 'f', rooms: ['mixed'], sockets: [byId.id], except: ['quiet'], data: 1 },
  );
  await settled(inRoom, byId);
  assert.deepEqual([received(inRoom, 'e').length, received(byId, 'e').length], [1, 1]);
  assert.deepEqual([received(inRoom, 'f').length, received(byId, 'f').length], [1, 0]);
});

test('without the grant nobody is reached by an id', async (t) => {
  const own = await startServer(t, { plugins: [{ ...CAPABILITIES, grants: GRANTS.filter((grant) => grant !== 'socket') }] });
  const [sender, other] = await members(t, 2, own);
  const denied = { denied: 'mixlab.toml does not grant "socket"' };
  const sockets = [other.id];
  assert.deepEqual(
    await call(
      sender,
      { call: 'emit', event: 'x', sockets, data: 1 },
      { call: 'ask', event: 'x', sockets, data: 1 },
      { call: 'find', sockets },
      { call: 'join_sockets', sockets, room: 'a' },
      { call: 'leave_sockets', sockets, room: 'a' },
      { call: 'disconnect', sockets, close: false },
      // A room beside it makes no difference.
      { call: 'emit', event: 'x', rooms: ['a'], sockets, data: 1 },
    ),
    Array(7).fill(denied),
  );
  await settled(other);
  assert.deepEqual(other.collected, []);
});

test('sockets are moved from room to room', async (t) => {
  const [sender, a, b] = await members(t, 3);
  await granted(a, { call: 'join', room: 'waiting' });
  await granted(b, { call: 'join', room: 'waiting' });
  await granted(sender, { call: 'join_sockets', rooms: ['waiting'], room: 'table' });
  assert.deepEqual(await granted(a, { call: 'joined' }), [['table', 'waiting']]);
  await granted(
    sender,
    { call: 'leave_sockets', sockets: [a.id], room: 'table' },
    { call: 'emit', event: 'served', rooms: ['table'], data: 1 },
  );
  await settled(a, b);
  assert.deepEqual([received(a, 'served').length, received(b, 'served').length], [0, 1]);
  assert.deepEqual(await granted(sender, { call: 'joined' }), [[]], 'the sender stayed outside');
});

test('a room that is not granted can be neither joined nor left for others', async (t) => {
  const own = await startServer(t, {
    plugins: [{ ...CAPABILITIES, grants: [...GRANTS.filter((grant) => grant !== 'room:*'), 'room:ours'] }],
  });
  const [sender] = await members(t, 1, own);
  const rooms = ['ours'];
  const denied = (room) => ({ denied: `mixlab.toml does not grant "room:${room}"` });
  assert.deepEqual(
    await call(
      sender,
      { call: 'join_sockets', rooms, room: 'theirs' },
      { call: 'leave_sockets', rooms, room: 'user:7' },
      { call: 'join_sockets', rooms: ['theirs'], room: 'ours' },
      { call: 'join_sockets', rooms, room: 'payments' },
      { call: 'join_sockets', rooms, room: 'ours' },
      { call: 'find', rooms: ['theirs'] },
    ),
    [denied('theirs'), denied('user:7'), denied('theirs'), denied('payments'), { granted: null }, denied('theirs')],
  );
});

test('who is in a room is told, with their users, rooms and data', async (t) => {
  const own = await startServer(t, {
    plugins: [{ ...CAPABILITIES, grants: [...GRANTS.filter((grant) => grant !== 'room:*'), 'room:studio:*'] }],
  });
  const ada = await connect(t, own, { token: token({ sub: '1', username: 'ada', role: 'admin' }) });
  const [guest, other] = await members(t, 2, own);
  await granted(ada, { call: 'join', room: 'studio:7' }, { call: 'set_data', data: { seat: 1 } });
  await granted(guest, { call: 'join', room: 'studio:7' });
  const [found, one, nobody] = await granted(
    other,
    { call: 'find', rooms: ['studio:7'] },
    { call: 'find', sockets: [ada.id] },
    { call: 'find', rooms: ['studio:8'] },
  );
  const rooms = ['studio:7'];
  const expected = [
    { id: ada.id, address: '127.0.0.1', user: '1', rooms, data: { seat: 1 }, recovered: false },
    { id: guest.id, address: '127.0.0.1', user: null, rooms, data: null, recovered: false },
  ];
  const byId = (a, b) => (a.id < b.id ? -1 : 1);
  assert.deepEqual(found.sort(byId), expected.sort(byId));
  assert.deepEqual(one.map(({ id }) => id), [ada.id]);
  assert.deepEqual(nobody, []);
  const [everyone] = await granted(other, { call: 'find', rooms: [] });
  assert.equal(everyone.length, 3, 'the sender, too');
  guest.disconnect();
  await until(async () => (await granted(other, { call: 'find', rooms: ['studio:7'] }))[0].length === 1);
});

test('more sockets than fit are none, and the call goes on', async (t) => {
  const own = await startServer(t, { plugins: [{ ...CAPABILITIES, budget: { boundary: '64KiB' } }] });
  const sockets = await members(t, 8, own);
  for (const socket of sockets) await granted(socket, { call: 'set_data', data: 'x'.repeat(10_000) });
  const over = { over_budget: 'boundary = 64.0 KiB' };
  const answers = await call(sockets[0], { call: 'find', rooms: [] }, { call: 'find', sockets: [sockets[1].id] });
  assert.deepEqual(answers[0], over);
  // What the first one was given counts, although the guest did not get it.
  assert.deepEqual(answers[1], over);
  assert.equal((await granted(sockets[0], { call: 'find', sockets: [sockets[1].id] }))[0].length, 1);
});

test('the names that a plugin selects count, and very many hurt nobody', async (t) => {
  const names = (count) => Array.from({ length: count }, (_, index) => `${index}`);
  const own = await startServer(t, {
    config: '[budget]\ncpu = "5s"\nwall = "9s"\n',
    plugins: [{ ...CAPABILITIES, budget: { boundary: '256KiB' } }, 'echo'],
  });
  const [socket, other] = await members(t, 2, own);
  const few = { call: 'emit', event: 'e', rooms: names(1000), sockets: [other.id], except: names(1000), data: 1 };
  await granted(socket, few);
  await nextArgument(other, 'e');
  // 5,000 names take some 25 KiB as they come, and 140 as strings.
  for (const many of [
    { call: 'emit', event: 'e', sockets: names(5000), data: 1 },
    { call: 'emit', event: 'e', rooms: names(5000), data: 1 },
    { call: 'emit', event: 'e', rooms: [], except: names(5000), data: 1 },
    { call: 'ask', event: 'e', sockets: names(5000), data: 1 },
    { call: 'emit', event: 'e', users: names(5000), data: 1 },
    { call: 'emit', event: 'e', roles: names(5000), data: 1 },
    { call: 'find', sockets: names(5000) },
    { call: 'count', sockets: names(5000) },
    { call: 'join_sockets', sockets: names(5000), room: 'a' },
    { call: 'leave_sockets', sockets: names(5000), room: 'a' },
    { call: 'disconnect', sockets: names(5000), close: false },
  ]) {
    const { error } = await call(socket, many, many);
    assert.equal(error?.code, 'plugin_error', many.call);
    await own.waitForLog(/the budget boundary = 256/);
  }
  assert.equal(await ask(other, 'echo', 1), 1);
});

test('what is kept with a connection is there in every instance, and after a reload', async (t) => {
  const own = await startServer(t, { plugins: [CAPABILITIES] });
  const [socket, other] = await members(t, 2, own);
  const data = { text: 'ü"\\', number: 12345678901234567890n.toString(), list: [1, null] };
  assert.deepEqual(
    await granted(socket, { call: 'data' }, { call: 'set_data', data: 1 }, { call: 'set_data', data }, { call: 'data' }),
    [null, null, null, data],
    'a call sees its own writes',
  );
  for (let i = 0; i < 10; i++) assert.deepEqual(await granted(socket, { call: 'data' }), [data]);
  assert.deepEqual(await granted(other, { call: 'data' }), [null], 'it is of one connection');
  const { generation } = await plugin(own, 'capabilities');
  editConfig(own, (text) => `${text}\nbudget = { instances = 2 }\n`);
  await reload(own);
  assert.ok((await plugin(own, 'capabilities')).generation > generation);
  assert.deepEqual(await granted(socket, { call: 'data' }), [data]);
});

test('what is too much to keep, or nested too deep, is not kept', async (t) => {
  const own = await startServer(t, { plugins: [{ ...CAPABILITIES, budget: { data: '1KiB' } }] });
  const [socket] = await members(t, 1, own);
  const fits = 'x'.repeat(1022);
  let deep = 1;
  for (let i = 0; i < 120; i++) deep = [deep];
  assert.deepEqual(
    await call(socket, { call: 'set_data', data: fits }, { call: 'set_data', data: `${fits}x` }, { call: 'set_data', data: deep }),
    [{ granted: null }, { over_budget: 'data = 1.0 KiB' }, { granted: null }],
  );
  assert.deepEqual(await granted(socket, { call: 'data' }), [deep]);
});

test('one connection is asked, and ended, by its id', async (t) => {
  const [sender, one, other] = await members(t, 3);
  one.once('question', (data, ack) => ack('yes'));
  await granted(sender, { call: 'ask', event: 'question', sockets: [one.id], data: 1, timeout_ms: 4000 });
  assert.equal(await nextArgument(one, 'question'), 1);
  await granted(sender, { call: 'disconnect', sockets: [one.id], close: false });
  assert.equal(await disconnected(one), 'io server disconnect');
  await settled(other);
});

test('who was away has its data, its rooms and what was sent to its id', async (t) => {
  const [sender, other] = await members(t, 2);
  const socket = await connect(t, server, { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 20 });
  const { id } = socket;
  await granted(socket, { call: 'set_data', data: 'mine' }, { call: 'emit', event: 'first', data: 0 });
  await granted(sender, { call: 'join_sockets', sockets: [id], room: 'moved' });
  await nextArgument(socket, 'first');
  socket.io.reconnection(false);
  socket.io.engine.close();
  await until(() => !socket.connected);
  await granted(
    sender,
    { call: 'emit', event: 'direct', sockets: [id], data: 1 },
    { call: 'emit', event: 'direct', sockets: [other.id], data: 2 },
    { call: 'emit', event: 'direct', rooms: ['moved'], data: 3 },
    { call: 'emit', event: 'direct', rooms: [], except: [id], data: 4 },
    { call: 'emit', event: 'direct', rooms: ['moved'], sockets: [id], data: 5 },
  );
  socket.io.reconnection(true);
  socket.connect();
  await until(() => socket.connected);
  assert.deepEqual([socket.recovered, socket.id], [true, id]);
  await granted(sender, { call: 'emit', event: 'direct', sockets: [id], data: 6 });
  await until(() => received(socket, 'direct').some(([data]) => data === 6));
  assert.deepEqual(received(socket, 'direct').map(([data]) => data), [1, 3, 5, 6]);
  assert.deepEqual(await granted(socket, { call: 'data' }, { call: 'joined' }), ['mine', ['moved']]);
  const [found] = await granted(sender, { call: 'find', sockets: [id] });
  assert.deepEqual(found, [{ id, address: '127.0.0.1', user: null, rooms: ['moved'], data: 'mine', recovered: true }]);
});

test('a plugin refuses clients with words and data of its own', async (t) => {
  const own = await startServer(t, { plugins: ['on_connect_refuses'] });
  const refused = async (auth) => {
    const socket = open(t, own, { auth });
    return new Promise((resolve) => socket.once('connect_error', resolve));
  };
  for (const reason of ['not authorized', 'Zutritt nur für "Mitglieder" 🙂', '', 'unauthorized', 'ok']) {
    const error = await refused({ room: 'a', reason });
    assert.deepEqual([error.message, error.data], [reason, 'a']);
  }
  const error = await refused({ reason: 'no room' });
  assert.deepEqual([error.message, error.data], ['no room', null]);
  const rejected = await refused({ room: 'closed' });
  const data = { code: 'room_closed', message: 'The room is closed', temporary: false };
  assert.deepEqual([rejected.message, rejected.data], ['room_closed', data]);
  const metrics = (await own.api('GET', '/metrics', undefined, null)).body;
  assert.doesNotMatch(metrics, /mixlab_connections_total\{outcome="ok"\}/, 'nobody was let in');
});
