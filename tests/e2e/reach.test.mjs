// Whom plugins reach: users and roles with events of their own name, other namespaces, and how many there are.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, disconnected, received } from '../support/client.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const GRANTS = ['payments', 'notify', 'role:*', 'user:*', 'clients', 'room:*', 'socket', 'everyone', 'emit', 'ask', 'handshake', 'find', 'disconnect', 'namespace:/staff'];

const server = await startServer(
  { after },
  { plugins: [{ wasm: 'capabilities', grants: GRANTS, config: { namespaces: ['/', '/staff'] } }] },
);

/** Calls functions of the host that must be granted; resolves to what they returned. */
async function granted(socket, ...calls) {
  const answers = await ask(socket, 'capabilities', calls);
  return answers.map((answer) => ('granted' in answer ? answer.granted : assert.fail(JSON.stringify(answer))));
}

/** Everybody has got what was sent to them before. */
const settled = (sockets) => Promise.all(sockets.map((socket) => ask(socket, 'capabilities:ping')));

const user = (t, sub, role, options = {}) => connect(t, server, { token: token({ sub, role }), ...options });

/** Who got an event of this name, by the names of `sockets`, and how often. */
const who = (sockets, event) =>
  Object.entries(sockets).flatMap(([name, socket]) => received(socket, event).map(() => name));

/** Clients, and nobody of another test any more. */
async function crowd(t) {
  await until(async () => (await server.api('GET', '/api/v1/clients/count')).body.count === 0, { message: 'the clients of other tests are gone' });
  return {
    ada: await user(t, 'ada', 'admin'),
    tab: await user(t, 'ada', 'admin'),
    bob: await user(t, 'bob', 'agent'),
    eve: await user(t, 'urn:eve', 'agent'),
    staff: await user(t, 'ada', 'admin', { namespace: '/staff' }),
    anonymous: await connect(t, server),
  };
}

test('users and roles get events of a name of the plugin\'s own, each socket once', async (t) => {
  const sockets = await crowd(t);
  const { ada, bob } = sockets;
  await granted(bob, { call: 'join', room: 'hall' });
  const selections = {
    user: { users: ['ada'] },
    colons: { users: ['urn:eve'] },
    role: { roles: ['agent'] },
    several: { users: ['ada', 'bob', 'ada'], roles: ['admin', 'agent'], rooms: ['hall'], sockets: [bob.id] },
    'all-but-a-user': { rooms: [], except: ['user:ada'] },
    'all-but-a-role': { rooms: [], except: ['role:agent'] },
    'user-elsewhere': { namespace: '/staff', users: ['ada', 'bob'] },
    'role-elsewhere': { namespace: '/staff', roles: ['admin', 'agent'] },
    'socket-elsewhere': { namespace: '/staff', sockets: [sockets.staff.id, ada.id] },
    'everyone-elsewhere': { namespace: '/staff', rooms: [] },
    'not-open': { namespace: '/nowhere', users: ['ada'] },
    nobody: { users: ['nobody'] },
  };
  const { 'not-open': _, ...open } = selections;
  await granted(ada, ...Object.entries(open).map(([event, whom]) => ({ call: 'emit', event, ...whom, data: 1 })));
  await settled(Object.values(sockets));
  assert.deepEqual(Object.fromEntries(Object.keys(open).map((event) => [event, who(sockets, event)])), {
    user: ['tab'],
    colons: ['eve'],
    role: ['bob', 'eve'],
    several: ['tab', 'bob', 'eve'],
    'all-but-a-user': ['bob', 'eve', 'anonymous'],
    'all-but-a-role': ['tab', 'anonymous'],
    'user-elsewhere': ['staff'],
    'role-elsewhere': ['staff'],
    'socket-elsewhere': ['staff'],
    'everyone-elsewhere': ['staff'],
    nobody: [],
  });
});

test('another namespace reaches the first one, from every kind of target', async (t) => {
  const sockets = await crowd(t);
  const namespace = '/';
  await granted(
    sockets.staff,
    { call: 'emit', event: 'user', namespace, users: ['ada'], data: 1 },
    { call: 'emit', event: 'role', namespace, roles: ['agent'], data: 1 },
    { call: 'emit', event: 'socket', namespace, sockets: [sockets.eve.id], data: 1 },
    { call: 'join_sockets', namespace, users: ['bob'], room: 'moved' },
    { call: 'emit', event: 'room', namespace, rooms: ['moved'], data: 1 },
    { call: 'disconnect', namespace, users: ['urn:eve'], close: false },
  );
  assert.equal(await disconnected(sockets.eve), 'io server disconnect');
  const { eve: _, ...left } = sockets;
  await settled(Object.values(left));
  const events = ['user', 'role', 'socket', 'room'];
  assert.deepEqual(events.map((event) => who(sockets, event)), [['ada', 'tab'], ['bob', 'eve'], ['eve'], ['bob']]);
});

test('users and roles are asked, found, counted and moved', async (t) => {
  const sockets = await crowd(t);
  const { ada, tab, bob, eve } = sockets;
  for (const socket of [tab, bob]) socket.once('question', (_, ack) => ack('yes'));
  const [, , ids, ofRole, counts] = await granted(
    ada,
    { call: 'ask', event: 'question', users: ['ada', 'bob'], data: 1, timeout_ms: 4000 },
    { call: 'join_sockets', roles: ['agent'], room: 'agents' },
    { call: 'find', users: ['ada'] },
    { call: 'find', roles: ['agent'] },
    { call: 'count', users: ['ada', 'bob'], sockets: [eve.id] },
  );
  assert.deepEqual([received(tab, 'question').length, received(bob, 'question').length], [1, 1]);
  const sorted = (list) => list.map(({ id }) => id).sort();
  assert.deepEqual(sorted(ids), [ada.id, tab.id].sort());
  assert.deepEqual(sorted(ofRole), [bob.id, eve.id].sort());
  assert.equal(counts, 4);
  assert.deepEqual(
    await granted(
      ada,
      { call: 'count', rooms: ['agents'] },
      { call: 'count', rooms: ['agents'], except: [eve.id] },
      { call: 'count', rooms: [] },
      { call: 'count', namespace: '/staff', rooms: [] },
      { call: 'count', namespace: '/staff', users: ['bob'] },
      { call: 'count', users: ['nobody'] },
      { call: 'disconnect', users: ['bob'], close: true },
    ),
    [2, 1, 5, 1, 0, 0, null],
  );
  await disconnected(bob);
  assert.deepEqual(await granted(ada, { call: 'count', rooms: ['agents'] }), [1]);
});

test('what is no id and no role is said', async (t) => {
  const socket = await connect(t, server);
  const long = 'x'.repeat(257);
  const answers = await ask(socket, 'capabilities', [
    { call: 'emit', event: 'x', users: [''], data: 1 },
    { call: 'count', users: ['a\u0000b'] },
    { call: 'find', roles: [long] },
  ]);
  assert.deepEqual(answers, [
    { invalid: 'users: "" is no user id' },
    { invalid: 'users: "a\\0b" is no user id' },
    { invalid: `roles: "${long}" is no role` },
  ]);
});
