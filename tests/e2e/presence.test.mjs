// Who is present in rooms: each user once, exact counts over reloads, changes in batches, bounds and grants.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, disconnected, received } from '../support/client.mjs';
import { editConfig, plugin, reload } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const GRANTS = ['presence:*', 'history:*', 'room:*', 'user:*', 'emit'];
// However slow the machine is, it is never the time that ends a call.
const LOBBY = { wasm: 'lobby', grants: GRANTS, budget: { cpu: '2s', wall: '20s' } };
const start = (t, presence, options = {}) =>
  startServer(t, { config: `[presence]\n${presence}\n`, plugins: [LOBBY], ...options });

/** How often clients are told of changes at most, ms. */
const BATCH = 50;
const patient = await start({ after }, `batch = "${BATCH}ms"`, { recovery: true });
// Long enough to come back in, on a slow machine, too.
const impatient = await start({ after }, 'grace = "3s"\nbatch = "20ms"');

const call = (socket, ...calls) => ask(socket, 'lobby', calls);

/** Calls functions of the host that must be granted; resolves to what they returned. */
async function granted(socket, ...calls) {
  const answers = await call(socket, ...calls);
  return answers.map((answer) => ('granted' in answer ? answer.granted : assert.fail(JSON.stringify(answer))));
}

const enter = (socket, room, data = null) => granted(socket, { call: 'enter', room, data });
const members = async (socket, room) => (await granted(socket, { call: 'members', room }))[0];
const user = (t, server, sub, options = {}) => connect(t, server, { token: token({ sub }), ...options });

/** What a client knows of a room by its events alone: the members by id, and how often each came and went. */
function follow(socket, room) {
  const known = { members: new Map(), joined: [], left: [], events: 0 };
  socket.on('presence', (change) => {
    if (change.room !== room) return;
    known.events += 1;
    for (const member of [...change.joined, ...change.updated]) known.members.set(member.id, member);
    for (const { id } of change.left) known.members.delete(id);
    known.joined.push(...change.joined.map(({ id }) => id));
    known.left.push(...change.left.map(({ id }) => id));
  });
  return known;
}

const drop = (socket) => socket.io.engine.close();

test('a user is present once, with the number of its connections and its data', async (t) => {
  const ada = await user(t, patient, 'ada');
  const known = follow(ada, 'once');
  await enter(ada, 'once', { name: 'Ada' });
  const tab = await user(t, patient, 'ada');
  await enter(tab, 'once', { name: 'Ada L.' });
  const guest = await connect(t, patient);
  await enter(guest, 'once');
  const expected = [
    { id: 'ada', anonymous: false, connections: 2, data: { name: 'Ada L.' } },
    { id: guest.id, anonymous: true, connections: 1, data: null },
  ];
  assert.deepEqual(await members(guest, 'once'), expected);
  assert.deepEqual(await granted(guest, { call: 'count', room: 'once' }, { call: 'count', room: 'other' }), [2, 0]);
  await until(() => known.members.size === 2 && known.members.get('ada').connections === 2);
  assert.deepEqual(known.members.get('ada'), { id: 'ada', connections: 2, data: { name: 'Ada L.' } });
  assert.deepEqual(known.members.get(guest.id), { id: guest.id, anonymous: true, connections: 1, data: null });
  assert.deepEqual([...known.joined].sort(), ['ada', guest.id].sort(), 'each joined once');
});

test('who says goodbye, leaves the room or is sent out is gone at once', async (t) => {
  const watcher = await user(t, patient, 'watcher');
  const known = follow(watcher, 'exits');
  await enter(watcher, 'exits');
  const [a, b, c, twice] = await Promise.all(['a', 'b', 'c', 'twice'].map((sub) => user(t, patient, sub)));
  const second = await user(t, patient, 'twice');
  for (const socket of [a, b, c, twice, second]) await enter(socket, 'exits', 1);
  await until(() => known.members.get('twice')?.connections === 2);
  await granted(a, { call: 'exit', room: 'exits' });
  await granted(b, { call: 'leave', room: 'exits' });
  c.disconnect();
  second.disconnect();
  await until(() => known.members.get('twice')?.connections === 1 && known.members.size === 2);
  assert.deepEqual([...known.left].sort(), ['a', 'b', 'c']);
  assert.deepEqual((await members(watcher, 'exits')).map(({ id }) => id), ['twice', 'watcher']);
  await patient.api('POST', '/api/v1/users/twice/disconnect');
  await until(() => known.left.length === 4);
  await granted(a, { call: 'exit', room: 'exits' }, { call: 'exit', room: 'never' });
});

test('a page that is loaded again leaves nobody, and a client that is back is as it was', async (t) => {
  const watcher = await user(t, patient, 'watcher');
  const known = follow(watcher, 'reloads');
  await enter(watcher, 'reloads');
  const page = await user(t, patient, 'page');
  await enter(page, 'reloads', 'v1');
  const lost = await user(t, patient, 'lost', { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 20 });
  await enter(lost, 'reloads', 'kept');
  await until(() => known.members.size === 3);

  drop(page);
  await until(() => known.members.get('page').connections === 0);
  const [, away] = [null, (await members(watcher, 'reloads')).find(({ id }) => id === 'page')];
  assert.deepEqual(away, { id: 'page', anonymous: false, connections: 0, data: 'v1' });
  const again = await user(t, patient, 'page');
  await enter(again, 'reloads', 'v2');
  await until(() => known.members.get('page').data === 'v2');

  const { id } = lost;
  drop(lost);
  await until(() => lost.connected && lost.recovered);
  assert.equal(lost.id, id);
  await until(async () => (await members(watcher, 'reloads')).every(({ connections }) => connections === 1));
  await until(() => known.members.get('lost').connections === 1);
  assert.deepEqual([known.left, [...known.joined].sort()], [[], ['lost', 'page', 'watcher']]);
  // It is a connection that can leave as before.
  lost.disconnect();
  await until(() => known.left.length === 1);
});

test('who does not come back in time has left, once', async (t) => {
  const watcher = await user(t, impatient, 'watcher');
  const known = follow(watcher, 'gone');
  await enter(watcher, 'gone');
  const [gone, back] = [await user(t, impatient, 'gone'), await user(t, impatient, 'back')];
  await enter(gone, 'gone');
  await enter(back, 'gone');
  await until(() => known.members.size === 3);
  drop(gone);
  drop(back);
  await enter(await user(t, impatient, 'back'), 'gone');
  await until(() => known.left.length > 0);
  // Time for the other one, whose grace began at the same moment.
  await until(async () => (await members(watcher, 'gone')).every(({ connections }) => connections === 1));
  assert.deepEqual(known.left, ['gone']);
  assert.deepEqual((await members(watcher, 'gone')).map(({ id }) => id), ['back', 'watcher']);
});

test('a connection that authenticates as somebody else is present as that one', async (t) => {
  const watcher = await user(t, patient, 'watcher');
  const known = follow(watcher, 'identity');
  await enter(watcher, 'identity');
  const socket = await connect(t, patient);
  await enter(socket, 'identity', 'same');
  await until(() => known.members.has(socket.id));
  socket.emit('authenticate', token({ sub: 'somebody' }));
  await until(() => known.members.has('somebody') && !known.members.has(socket.id));
  assert.equal(known.members.get('somebody').data, 'same');
});

test('100 tabs of 30 users reload at random, and in the end every count is exact', async (t) => {
  const watcher = await user(t, patient, 'watcher');
  const known = follow(watcher, 'crowd');
  const began = performance.now();
  await enter(watcher, 'crowd');
  const open = async (sub) => {
    const socket = await user(t, patient, sub);
    await enter(socket, 'crowd', sub);
    return { sub, socket };
  };
  let tabs = await Promise.all(Array.from({ length: 100 }, (_, index) => open(`u${index % 30}`)));
  await until(() => known.members.size === 31);
  for (let round = 0; round < 3; round++) {
    tabs = await Promise.all(
      tabs.map(async (tab, index) => {
        // Another third of them in each round, by no pattern of users.
        if ((index * 7 + round) % 3 !== 0) return tab;
        drop(tab.socket);
        return open(tab.sub);
      }),
    );
  }
  const counts = (list) => Object.fromEntries(list.map(({ id, connections }) => [id, connections]).sort());
  const expected = { watcher: 1 };
  for (const { sub } of tabs) expected[sub] = (expected[sub] ?? 0) + 1;
  const exact = Object.fromEntries(Object.entries(expected).sort());
  await until(async () => JSON.stringify(counts(await members(watcher, 'crowd'))) === JSON.stringify(exact), {
    message: () => 'the host counts exactly',
  });
  await until(() => JSON.stringify(counts([...known.members.values()])) === JSON.stringify(exact), {
    message: () => 'so does who only listens',
  });
  assert.deepEqual(known.left, [], 'nobody left within the grace');
  assert.equal(known.joined.length, 31, 'each joined once');
  const batches = (performance.now() - began) / BATCH + 1;
  assert.ok(known.events <= batches, `${known.events} events for 200 changes and more: they come in batches`);

  for (const { sub, socket } of tabs) if (sub !== 'u0') socket.disconnect();
  await until(() => known.members.size === 2);
  assert.deepEqual(Object.keys(counts([...known.members.values()])), ['u0', 'watcher']);
  assert.equal(new Set(known.left).size, 29);
  assert.equal(known.left.length, 29);
});

const BOUNDS = {
  rooms: ['rooms = 2', { over_budget: 'presence.rooms = 2' }],
  users: ['users = 2', { over_budget: 'presence.users = 2' }],
  bytes: ['bytes = "2KB"', { over_budget: 'presence.bytes = 2000' }],
};

for (const [bound, [config, refused]] of Object.entries(BOUNDS)) {
  test(`no more can be present than presence.${bound} says, and there is room again`, async (t) => {
    const server = await start(t, `${config}\nbatch = "10ms"`);
    const sockets = await Promise.all(['a', 'b', 'c'].map((sub) => user(t, server, sub)));
    const room = (index) => (bound === 'rooms' ? `r${index}` : 'same');
    const go = (index) => call(sockets[index], { call: 'enter', room: room(index), data: 'x'.repeat(200) });
    const answers = [];
    for (const index of [0, 1, 2]) answers.push(...(await go(index)));
    assert.deepEqual(answers, [{ granted: null }, { granted: null }, refused]);
    assert.deepEqual(await granted(sockets[0], { call: 'count', room: room(2) }), [bound === 'rooms' ? 0 : 2]);
    // Who is there may still say other things, and who leaves makes room.
    if (bound !== 'bytes') assert.deepEqual(await go(0), [{ granted: null }]);
    await granted(sockets[0], { call: 'exit', room: room(0) });
    await until(async () => 'granted' in (await go(2))[0]);
  });
}

test('data is JSON of a bounded size', async (t) => {
  const server = await start(t, 'data = "100B"');
  const socket = await connect(t, server);
  assert.deepEqual(
    await call(
      socket,
      { call: 'enter', room: 'a', data: 'x'.repeat(98) },
      { call: 'enter', room: 'a', data: 'x'.repeat(99) },
    ),
    [{ granted: null }, { over_budget: 'presence.data = 100B' }],
  );
});

test('what is not granted is denied, and the rooms of the host know no presence', async (t) => {
  const server = await start(t, '', { plugins: [{ ...LOBBY, grants: ['presence:a*', 'presence:*', 'history:x', 'room:b', 'user:*', 'emit'] }] });
  const socket = await user(t, server, 'ada');
  for (const room of ['user:ada', 'role:admin', 'payments']) {
    const denied = { denied: `mixlab.toml does not grant "presence:${room}"` };
    const calls = ['exit', 'members', 'count'].map((name) => ({ call: name, room }));
    assert.deepEqual(await call(socket, { call: 'enter', room, data: 1 }, ...calls), Array(4).fill(denied));
  }
  const other = await start(t, '', { plugins: [{ ...LOBBY, grants: ['presence:a*', 'history:x', 'room:*', 'user:*', 'emit'] }] });
  const narrow = await user(t, other, 'ada');
  const at = (room) => [{ call: 'enter', room, data: 1 }, ...['exit', 'members', 'count'].map((name) => ({ call: name, room }))];
  assert.deepEqual(await call(narrow, ...at('b')), Array(4).fill({ denied: 'mixlab.toml does not grant "presence:b"' }));
  assert.deepEqual(await granted(narrow, ...at('ab')), [null, null, [], 0]);
});

test('a call that fails enters nothing', async (t) => {
  const socket = await user(t, patient, 'failing');
  // The answer would be larger than what may cross the boundary: the call fails behind its effects.
  const many = Array.from({ length: 11_000 }, () => ({ call: 'count', room: 'failed' }));
  const { error } = await call(socket, { call: 'enter', room: 'failed', data: 1 }, ...many);
  assert.equal(error.code, 'plugin_error');
  assert.deepEqual(await members(socket, 'failed'), []);
  assert.deepEqual(received(socket, 'presence'), []);
});

test('who is present stays so while the plugin is replaced, also by one that may not ask', async (t) => {
  const server = await start(t, 'batch = "10ms"');
  const [watcher, gone] = [await user(t, server, 'watcher'), await user(t, server, 'gone')];
  const known = follow(watcher, 'a');
  await enter(watcher, 'a');
  await enter(gone, 'a', 'kept');
  await until(() => known.members.size === 2);
  const former = editConfig(server, (text) => text.replace('"presence:*"', '"presence:b"'));
  await reload(server);
  assert.equal((await plugin(server, 'lobby')).generation, 2);
  assert.deepEqual(await call(watcher, { call: 'count', room: 'a' }), [{ denied: 'mixlab.toml does not grant "presence:a"' }]);
  gone.disconnect();
  await until(() => known.left.length === 1);
  editConfig(server, () => former);
  await reload(server);
  assert.deepEqual((await members(watcher, 'a')).map(({ id }) => id), ['watcher']);
  assert.deepEqual(known.left, ['gone']);
});

test('a server that ends takes nobody with it, and begins with nobody', async (t) => {
  const server = await start(t, '', { recovery: true });
  const options = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 20 };
  const socket = await user(t, server, 'ada', options);
  const other = await user(t, server, 'bob');
  await enter(socket, 'a');
  await enter(other, 'a');
  const ended = disconnected(other);
  assert.equal(await server.stop(), 0);
  assert.equal(await ended, 'transport close');
  const again = await start(t, '', { recovery: true, listen: server.address });
  await until(() => socket.connected);
  assert.deepEqual(await members(socket, 'a'), []);
  await enter(socket, 'a');
  const [{ id, connections }, ...others] = await members(await user(t, again, 'eve'), 'a');
  assert.deepEqual([id, connections, others], ['ada', 1, []]);
});
