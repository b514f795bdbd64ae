// What becomes of a plugin before and between its calls: files that are none, grants, contracts,
// configuration, budgets, connections.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { ask, connect, nextEvent, open, received } from '../support/client.mjs';
import { assertFailed, nextArgument, notReady, plugin, reload, status } from '../support/plugins.mjs';
import { rawSocket } from '../support/raw.mjs';
import { makeFolder, startServer, wasm } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until, within } from '../support/wait.mjs';

const CUSTOM_EVENT = { wasm: 'custom-event', grants: ['emit:custom_response'] };

/** Guests are slow when they are started on a busy machine. */
const CONFIG = '[budget]\ncpu = "500ms"\n';

const HEADER = [0x00, 0x61, 0x73, 0x6d];
const component = readFileSync(wasm('custom-event'));

// Each kind of file that is no plugin: how it is made, and why it is refused.
const NO_PLUGINS = {
  missing: [() => {}, /missing\.wasm: no such file$/],
  folder: [(path) => mkdirSync(path), /folder\.wasm: Is a directory$/],
  // Reading it would wait for ever.
  pipe: [(path) => execFileSync('mkfifo', [path]), /pipe\.wasm: not a file$/],
  empty: [(path) => writeFileSync(path, ''), /the file is empty/],
  text: [(path) => writeFileSync(path, '(component)'), /it is not WebAssembly/],
  'core-module': [
    (path) => writeFileSync(path, Buffer.from([...HEADER, 1, 0, 0, 0])),
    /a core module and not a component.*wasm32-wasip2/,
  ],
  'no-version': [(path) => writeFileSync(path, Buffer.from(HEADER)), /not a valid component/],
  'next-version': [(path) => writeFileSync(path, Buffer.from([...HEADER, 0xff, 0, 1, 0])), /not a valid component/],
  'no-exports': [
    (path) => writeFileSync(path, Buffer.from([...HEADER, 0x0d, 0, 1, 0])),
    /does not export mixlab:plugin\/lifecycle@0\.2\.0: it is a component, but not a plugin/,
  ],
  truncated: [
    (path) => writeFileSync(path, component.subarray(0, component.length / 2)),
    /not a valid component/,
  ],
  'no-last-byte': [(path) => writeFileSync(path, component.subarray(0, -1)), /not a valid component/],
  'broken-inside': [
    (path) => writeFileSync(path, Buffer.from(component).fill(0xff, 20_000, 20_100)),
    /not a valid component/,
  ],
  'too-large': [
    (path) => writeFileSync(path, component),
    new RegExp(`it has ${component.length} bytes; the budget file = 64KiB allows no more`),
    { budget: { file: '64KiB' } },
  ],
};
const noPlugins = Object.entries(NO_PLUGINS).map(([name, [, , keys]]) => ({
  name,
  wasm: 'custom-event',
  path: `${name}.wasm`,
  ...keys,
}));

const ALL_GRANTS = ['payments', 'notify', 'role:*', 'clients', 'room:*', 'everyone', 'emit', 'ask', 'handshake', 'find', 'disconnect'];
const without = (name) => ALL_GRANTS.filter((grant) => grant !== name);

// What each function needs at load: [the guest, its grants, the function, the grant it lacks].
const UNGRANTED = [
  ['capabilities', without('payments'), 'broadcast.broadcast-payment-update', 'payments'],
  ['capabilities', without('notify'), 'broadcast.send-user-notification', 'notify'],
  ['capabilities', without('role:*'), 'broadcast.broadcast-to-role', 'role:ROLE'],
  ['capabilities', without('clients'), 'broadcast.connected-clients-count', 'clients'],
  ['capabilities', without('room:*'), 'rooms.join', 'room:ROOM'],
  ['leaves', without('room:*'), 'rooms.leave', 'room:ROOM'],
  ['host_call_flood', without('room:*'), 'rooms.joined', 'room:ROOM'],
  ['capabilities', without('emit'), 'emit.emit', 'emit'],
  ['capabilities', without('ask'), 'ask.ask', 'ask'],
  ['votes', without('ask'), 'ask.ask-sockets', 'ask'],
  ['requests', [], 'http.send', 'http:URL'],
  ['capabilities', without('handshake'), 'sockets.handshake', 'handshake'],
  ['capabilities', without('find'), 'sockets.find', 'find'],
  ['counts', [], 'sockets.count', 'find'],
  ['capabilities', without('disconnect'), 'sockets.disconnect', 'disconnect'],
];

// What each function does at a call: [arguments, a grant that covers them, grants that do not,
// the grant that is named as missing].
const CALLS = {
  'notify a user': [
    { call: 'send_user_notification', user: '7', notification: { title: 'x' } },
    ['notify:7'],
    ['notify:8'],
    'notify:7',
  ],
  'broadcast to a role': [
    { call: 'broadcast_to_role', role: 'admin', event: 'news', data: 1 },
    ['role:admin:news'],
    ['role:staff', 'role:admin:olds'],
    'role:admin:news',
  ],
  'join a room': [{ call: 'join', room: 'a' }, ['room:a'], ['room:b'], 'room:a'],
  'leave a room': [{ call: 'leave', room: 'a' }, ['room:a'], ['room:b'], 'room:a'],
  'emit to the sender': [{ call: 'emit', event: 'news', data: 1 }, ['emit:news'], ['emit:olds'], 'emit:news'],
  'emit to a room': [
    { call: 'emit', event: 'news', rooms: ['a'], data: 1 },
    ['emit:news', 'room:a'],
    ['emit:news', 'room:b'],
    'room:a',
  ],
  'emit an event that is not granted to a room': [
    { call: 'emit', event: 'news', rooms: ['a'], data: 1 },
    ['emit:n*', 'room:*'],
    ['emit:olds', 'room:a'],
    'emit:news',
  ],
  'emit to two rooms': [
    { call: 'emit', event: 'news', rooms: ['a', 'c'], data: 1 },
    ['emit', 'room:a', 'room:c'],
    ['emit', 'room:a'],
    'room:c',
  ],
  'emit to everyone': [
    { call: 'emit', event: 'news', rooms: [], data: 1 },
    ['emit', 'everyone'],
    ['emit', 'room:*'],
    'everyone',
  ],
  'emit to one by its id': [
    { call: 'emit', event: 'news', sockets: ['x'], data: 1 },
    ['emit', 'socket'],
    ['emit', 'room:*', 'everyone'],
    'socket',
  ],
  'emit to a user': [
    { call: 'emit', event: 'news', users: ['7'], data: 1 },
    ['emit', 'user:7:news'],
    ['emit', 'user:8', 'user:7:olds', 'notify', 'room:*', 'everyone'],
    'user:7:news',
  ],
  'emit to any user': [
    { call: 'emit', event: 'news', users: ['7'], data: 1 },
    ['emit', 'user:*'],
    ['emit', 'user:8*'],
    'user:7:news',
  ],
  'emit what is not granted to a user': [
    { call: 'emit', event: 'news', users: ['7'], data: 1 },
    ['emit:news', 'user:*:n*'],
    ['emit:olds', 'user:7'],
    'emit:news',
  ],
  'emit to a role': [
    { call: 'emit', event: 'news', roles: ['admin'], data: 1 },
    ['emit', 'role:admin:news'],
    ['emit', 'role:staff', 'role:admin:olds', 'user:admin'],
    'role:admin:news',
  ],
  'emit to a user and a role': [
    { call: 'emit', event: 'news', users: ['7'], roles: ['admin'], data: 1 },
    ['emit', 'user:7', 'role:admin'],
    ['emit', 'user:7'],
    'role:admin:news',
  ],
  'emit to a user in another namespace': [
    { call: 'emit', event: 'news', namespace: '/staff', users: ['7'], data: 1 },
    ['emit', 'user:7', 'namespace:/staff'],
    ['emit', 'user:7', 'namespace:/other'],
    'namespace:/staff',
  ],
  'ask a user': [
    { call: 'ask', event: 'news', users: ['7'], data: 1 },
    ['ask', 'user:7:news'],
    ['ask', 'user:7:olds', 'emit'],
    'user:7:news',
  ],
  'find a user': [{ call: 'find', users: ['7'] }, ['user:7'], ['user:7:news', 'user:8'], 'user:7'],
  'find a role': [{ call: 'find', roles: ['admin'] }, ['role:admin:*'], ['role:admin:news'], 'role:admin'],
  'count a user': [{ call: 'count', users: ['7'] }, ['user:*'], ['user:*:news'], 'user:7'],
  'count a room': [{ call: 'count', rooms: ['a'] }, ['room:a'], ['everyone'], 'room:a'],
  'count everyone': [{ call: 'count', rooms: [] }, ['everyone'], ['room:*'], 'everyone'],
  'count everyone in another namespace': [
    { call: 'count', namespace: '/staff', rooms: [] },
    ['everyone', 'namespace:/staff'],
    ['everyone'],
    'namespace:/staff',
  ],
  'put a user into a room': [
    { call: 'join_sockets', users: ['7'], room: 'b' },
    ['user:7', 'room:b'],
    ['user:7:news', 'room:b'],
    'user:7',
  ],
  'disconnect a role': [
    { call: 'disconnect', roles: ['admin'], close: false },
    ['role:admin'],
    ['role:admin:news', 'everyone'],
    'role:admin',
  ],
  'move a room to another': [
    { call: 'join_sockets', rooms: ['a'], room: 'b' },
    ['room:a', 'room:b'],
    ['room:a'],
    'room:b',
  ],
  'take everyone out of a room': [
    { call: 'leave_sockets', rooms: [], room: 'b' },
    ['everyone', 'room:b'],
    ['room:*'],
    'everyone',
  ],
  'find a room': [{ call: 'find', rooms: ['a'] }, ['room:a'], ['everyone'], 'room:a'],
  'emit into another namespace': [
    { call: 'emit', event: 'news', namespace: '/staff', rooms: ['a'], data: 1 },
    ['emit', 'room:a', 'namespace:/st*'],
    ['emit', 'room:a', 'everyone', 'namespace:/other'],
    'namespace:/staff',
  ],
  'find everyone in another namespace': [
    { call: 'find', namespace: '/staff', rooms: [] },
    ['everyone', 'namespace:/staff'],
    ['everyone'],
    'namespace:/staff',
  ],
  'find everyone': [{ call: 'find', rooms: [] }, ['everyone'], ['room:*'], 'everyone'],
  'ask the sender': [{ call: 'ask', event: 'news', data: 1 }, ['ask:news'], ['ask:olds', 'emit'], 'ask:news'],
  'ask a room': [
    { call: 'ask', event: 'news', rooms: ['a'], data: 1 },
    ['ask:n*', 'room:a'],
    ['ask:news', 'room:b'],
    'room:a',
  ],
  'ask a room for an event that is not granted': [
    { call: 'ask', event: 'news', rooms: ['a'], data: 1 },
    ['ask', 'room:*'],
    ['ask:olds', 'room:a', 'emit'],
    'ask:news',
  ],
  'ask everyone': [
    { call: 'ask', event: 'news', rooms: [], data: 1 },
    ['ask', 'everyone'],
    ['ask', 'room:*'],
    'everyone',
  ],
  'disconnect a room': [
    { call: 'disconnect', rooms: ['a'], close: false },
    ['room:a'],
    ['room:b', 'everyone'],
    'room:a',
  ],
  'disconnect two rooms': [
    { call: 'disconnect', rooms: ['a', 'c'], close: true },
    ['room:a', 'room:c'],
    ['room:a'],
    'room:c',
  ],
  'disconnect everyone': [{ call: 'disconnect', rooms: [], close: true }, ['everyone'], ['room:*'], 'everyone'],
  'disconnect the room of a user': [
    { call: 'disconnect', rooms: ['user:7'], close: true },
    null,
    ['room:*', 'everyone'],
    'room:user:7',
  ],
  'join the room of a user': [{ call: 'join', room: 'user:7' }, null, ['room:*'], 'room:user:7'],
  'join the room of a role': [{ call: 'join', room: 'role:admin' }, null, ['room:*'], 'room:role:admin'],
  'join the room of payments': [{ call: 'join', room: 'payments' }, null, ['room:*'], 'room:payments'],
  'leave the room of payments': [{ call: 'leave', room: 'payments' }, null, ['room:*'], 'room:payments'],
  'emit to the room of payments': [
    { call: 'emit', event: 'payment_update', rooms: ['payments'], data: 1 },
    null,
    ['emit', 'room:*', 'everyone'],
    'room:payments',
  ],
  'emit to the room of a user': [
    { call: 'emit', event: 'news', rooms: ['user:7'], data: 1 },
    null,
    ['emit', 'room:*'],
    'room:user:7',
  ],
};
/** A grant of every kind, so that the guest is loaded, and of no use to any call above. */
const OF_NO_USE = [
  'payments',
  'notify:none',
  'role:none',
  'clients',
  'room:none',
  'emit:none',
  'ask:none',
  'handshake',
  'find',
  'disconnect',
];

// The contracts that are tested below, all of one plugin.
const hoursUpTo = (maximum) => ({
  type: 'object',
  required: ['hours'],
  properties: { hours: { type: 'integer', maximum } },
});
const EVENTS = [
  { name: 'for-anyone' },
  { name: 'for-users', access: 'authenticated' },
  { name: 'for-staff', access: ['admin', 'staff'] },
  { name: 'per-socket', limits: [{ scope: 'socket', rate: '2/4s' }] },
  { name: 'per-user', limits: [{ scope: 'user', rate: '2/4s' }] },
  { name: 'per-ip', limits: [{ scope: 'ip', rate: '2/4s' }] },
  { name: 'per-event', limits: [{ scope: 'event', rate: '2/4s' }] },
  { name: 'in-bursts', limits: [{ scope: 'socket', rate: '2/2s', burst: 5 }] },
  {
    name: 'twice-limited',
    limits: [
      { scope: 'socket', rate: '5/2s' },
      { scope: 'event', rate: '2/2s' },
    ],
  },
  { name: 'small', max_bytes: 20 },
  {
    name: 'shaped',
    arguments: JSON.stringify({ type: 'array', prefixItems: [hoursUpTo(12)], minItems: 1, maxItems: 1 }),
  },
];
/** What is no contract, and why. */
const NO_CONTRACTS = {
  'no-name': [{ name: '' }, /event "" is not valid: a name has 1 to 128 bytes/],
  'long-name': [{ name: 'x'.repeat(129) }, /a name has 1 to 128 bytes/],
  'protocol-name': [{ name: 'disconnect' }, /event "disconnect" is not valid: the name is reserved/],
  'host-name': [{ name: 'subscribe:payments' }, /event "subscribe:payments" is not valid: the name is reserved/],
  'schema-no-json': [{ name: 'x', arguments: '{' }, /event "x" is not valid: its schema of the arguments/],
  'schema-no-schema': [{ name: 'x', reply: '{"type":"text"}' }, /event "x" is not valid: its schema of the reply/],
  'schema-too-long': [
    { name: 'x', arguments: `{"title":"${'x'.repeat(300_000)}"}` },
    /300012 bytes; 262144 are allowed/,
  ],
  'schema-of-a-file': [{ name: 'x', arguments: '{"$ref":"file:///etc/passwd"}' }, /its schema of the arguments: /],
  'schema-of-a-site': [{ name: 'x', arguments: '{"$ref":"http://127.0.0.1:1/x"}' }, /its schema of the arguments: /],
  'too-many-roles': [
    { name: 'x', access: Array.from({ length: 257 }, (_, role) => `r${role}`) },
    /"x" is not valid: it names 257 roles; 256 are allowed$/,
  ],
  'long-role': [
    { name: 'x', access: ['r'.repeat(257)] },
    /"x" is not valid: a role has 257 bytes; 256 are allowed$/,
  ],
  'rate-of-none': [{ name: 'x', limits: [{ scope: 'ip', rate: '0/1s' }] }, /event x: rate "0\/1s"/],
  'burst-of-none': [
    { name: 'x', limits: [{ scope: 'ip', rate: '1/1s', burst: 0 }] },
    /event "x".* invalid burst 0: expected 1 or more/,
  ],
};
const ANSWER = { text: 'ü', list: [1, 2.5, true], nested: { table: { key: 'value' } } };

const refusing = await startServer({ after }, { plugins: [CUSTOM_EVENT, ...noPlugins] });
const ungranting = await startServer(
  { after },
  {
    config: CONFIG,
    plugins: [
      ...UNGRANTED.map(([guest, grants], index) => ({ wasm: guest, name: `lacking-${index}`, grants })),
      { wasm: 'capabilities', grants: ALL_GRANTS },
    ],
  },
);
const contracts = await startServer(
  { after },
  { config: CONFIG, plugins: [{ wasm: 'contracts', config: { events: EVENTS, answer: ANSWER } }] },
);

const uncontracted = await startServer(
  { after },
  {
    config: CONFIG,
    plugins: Object.entries(NO_CONTRACTS).map(([name, [event]]) => ({
      wasm: 'contracts',
      name,
      config: { events: [{ name: `${name}-good` }, event] },
    })),
  },
);

test('files that are no plugins are refused by what they are, and come in when they are', async (t) => {
  for (const [name, [make]] of Object.entries(NO_PLUGINS)) make(join(refusing.folder, `${name}.wasm`));
  const { plugins } = await reload(refusing);
  for (const [name, [, reason]] of Object.entries(NO_PLUGINS)) {
    const { state, refusal, events } = plugins.find((plugin) => plugin.name === name);
    assert.deepEqual([name, state, events], [name, 'refused', []]);
    assert.match(refusal, reason);
    await refusing.waitForLog(new RegExp(`the plugin was refused, it does not serve: .*plugin="${name}"`));
  }
  assert.deepEqual(await notReady(refusing), Object.keys(NO_PLUGINS));
  const socket = await connect(t, refusing);
  assert.equal(await ask(socket, 'custom_event', 1), 1);
});

test('custom_event has the limit and the schema of its configuration', async (t) => {
  const config = { limit: '1/1h', arguments: { type: 'array', items: { type: 'number' } } };
  const server = await startServer(t, { plugins: [{ ...CUSTOM_EVENT, config }] });
  const socket = await connect(t, server);
  assert.equal(await ask(socket, 'custom_event', 1), 1);
  const limited = await ask(socket, 'custom_event', 1);
  assert.equal(limited.error.code, 'rate_limited');
  const other = await ask(await connect(t, server), 'custom_event', 'one');
  assert.equal(other.error.code, 'invalid_payload');
});

test('mixlab check names what is wrong with each file', async () => {
  const { code, stderr } = await refusing.mixlab('check');
  assert.equal(code, 1);
  const lines = stderr.trimEnd().split(/^(?=error: )/m);
  assert.equal(lines.length, noPlugins.length);
  for (const [index, [name, [, reason]]] of Object.entries(NO_PLUGINS).entries()) {
    assert.ok(lines[index].startsWith(`error: ${name}: `), lines[index]);
    assert.match(lines[index].trimEnd(), reason);
  }
});

test('a file over its budget is refused without being read', async (t) => {
  const server = await startServer(t, {
    config: '[budget]\nfile = "1MiB"',
    plugins: [CUSTOM_EVENT, { wasm: 'custom-event', name: 'vast', path: 'vast.wasm' }],
  });
  const file = join(server.folder, 'vast.wasm');
  const peak = () => Number(readFileSync(`/proc/${server.pid}/status`, 'utf8').match(/VmHWM:\s*(\d+) kB/)[1]) << 10;
  const before = peak();
  // It takes no room on the disk.
  writeFileSync(file, '');
  truncateSync(file, 512 << 20);
  await reload(server);
  assert.match((await plugin(server, 'vast')).refusal, /it has 536870912 bytes; the budget file = 1MiB/);
  assert.ok(peak() - before < 64 << 20, `${(peak() - before) >> 20} MiB were taken for it`);
});

test('of two plugins for one event the first in the file serves, and the other is told who', async (t) => {
  const answer = (answer, ...names) => ({ events: names.map((name) => ({ name })), answer });
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [
      { wasm: 'contracts', name: 'first', config: answer('first', 'a', 'shared') },
      { wasm: 'contracts', name: 'second', config: answer('second', 'shared', 'b') },
      { wasm: 'contracts', name: 'elsewhere', grants: ['namespace:/other'], config: { namespaces: ['/other'], ...answer('elsewhere', 'shared') } },
      { wasm: 'contracts', name: 'any', config: answer('any', '*') },
      { wasm: 'contracts', name: 'any-too', config: answer('any-too', '*') },
    ],
  });
  const reasons = (await status(server)).plugins.map(({ name, refusal }) => [name, refusal]);
  const taken = (event, by) => `event "${event}" of namespace / is already handled by plugin "${by}"`;
  assert.deepEqual(reasons, [
    ['first', null],
    ['second', taken('shared', 'first')],
    ['elsewhere', null],
    ['any', null],
    ['any-too', taken('*', 'any')],
  ]);
  const socket = await connect(t, server);
  assert.equal(await ask(socket, 'shared'), 'first');
  assert.equal(await ask(socket, 'b'), 'any', 'a refused plugin serves none of its events');
  const other = await connect(t, server, { namespace: '/other' });
  assert.equal(await ask(other, 'shared'), 'elsewhere');
  const { code, stderr } = await server.mixlab('check');
  assert.deepEqual([code, stderr.split('\n')[0]], [1, `error: second: ${taken('shared', 'first')}`]);
});

for (const [index, [guest, , imported, grant]] of UNGRANTED.entries()) {
  test(`without a grant for ${imported} a plugin is refused at load, naming it`, async () => {
    const { state, refusal } = await plugin(ungranting, `lacking-${index}`);
    assert.equal(state, 'refused', guest);
    assert.equal(
      refusal,
      `it imports mixlab:plugin/${imported}, which needs a grant: add "${grant}" to its grants in mixlab.toml`,
    );
  });
}

test('a plugin with all grants does all that it may', async (t) => {
  const sender = await connect(t, ungranting, { token: token({ sub: '7', role: 'admin' }) });
  const other = await connect(t, ungranting, { token: token({ sub: '8', role: 'staff' }) });
  const stranger = await connect(t, ungranting);
  const call = async (socket, ...calls) => ask(socket, 'capabilities', calls);
  const done = { granted: null };
  await ask(other, 'subscribe:payments');

  assert.deepEqual(await call(sender, { call: 'broadcast_payment_update', data: { id: 1 } }), [done]);
  const [{ timestamp, ...update }] = await nextEvent(other, 'payment_update');
  assert.deepEqual(update, { type: 'payment_update', data: { id: 1 } });
  assert.ok(!Number.isNaN(Date.parse(timestamp)));

  const notification = { title: 'Hello', type: 'info' };
  assert.deepEqual(await call(sender, { call: 'send_user_notification', user: '8', notification }), [done]);
  const [{ timestamp: at, ...notified }] = await nextEvent(other, 'notification');
  assert.deepEqual(notified, notification);
  assert.ok(!Number.isNaN(Date.parse(at)));

  assert.deepEqual(await call(sender, { call: 'broadcast_to_role', role: 'staff', event: 'news', data: [1] }), [done]);
  assert.deepEqual(await nextArgument(other, 'news'), [1]);

  assert.deepEqual(await call(sender, { call: 'connected_clients_count' }), [{ granted: 3 }]);

  assert.deepEqual(await call(other, { call: 'join', room: 'a' }), [done]);
  assert.deepEqual(
    await call(
      sender,
      { call: 'join', room: 'a' },
      { call: 'join', room: 'b' },
      { call: 'joined' },
      { call: 'leave', room: 'b' },
      { call: 'joined' },
    ),
    [done, done, { granted: ['a', 'b'] }, done, { granted: ['a'] }],
    'a call sees its own joins and leaves',
  );
  assert.deepEqual(await call(sender, { call: 'joined' }), [{ granted: ['a'] }], 'and they last');
  assert.deepEqual(await call(sender, { call: 'emit', event: 'to-a', rooms: ['a'], data: 1 }), [done]);
  assert.equal(await nextArgument(other, 'to-a'), 1);
  await call(other, { call: 'leave', room: 'a' });
  await call(sender, { call: 'emit', event: 'to-a', rooms: ['a'], data: 2 });
  await call(sender, { call: 'emit', event: 'to-all', rooms: [], data: 3 });
  for (const socket of [other, stranger]) assert.equal(await nextArgument(socket, 'to-all'), 3);
  assert.deepEqual(await call(sender, { call: 'emit', event: 'to-me', data: 4 }), [done]);
  assert.equal(await nextArgument(sender, 'to-me'), 4);
  assert.equal(received(other, 'to-a').length, 1, 'nothing more after it left');
  assert.deepEqual(stranger.collected.map(({ name }) => name), ['to-all']);
  assert.deepEqual(sender.collected.map(({ name }) => name), ['authenticated', 'to-me']);

  assert.deepEqual(await call(sender, { call: 'log', message: 'a line of its own' }), [done]);
  await ungranting.waitForLog(/INFO plugin: a line of its own plugin="capabilities" socket="[\w-]+"/);
});

test('arguments that the host cannot take are told as such, and change nothing', async (t) => {
  const socket = await connect(t, ungranting, { token: token({ sub: '7', role: 'admin' }) });
  for (const [call, reason] of [
    [{ call: 'emit', event: 'connect', data: 1 }, /^event: the name "connect" is reserved/],
    [{ call: 'ask', event: 'connect', data: 1 }, /^event: the name "connect" is reserved/],
    [{ call: 'ask', event: 'mixlab:error', rooms: [], data: 1 }, /^event: the name "mixlab:error" is reserved/],
    [{ call: 'emit', event: 'mixlab:error', data: 1 }, /^event: the name "mixlab:error" is reserved/],
    [{ call: 'broadcast_to_role', role: 'admin', event: 'disconnect', data: 1 }, /^event: .* reserved/],
    [{ call: 'send_user_notification', user: '', notification: {} }, /^user-id: "" is no user id/],
    [{ call: 'send_user_notification', user: '7', notification: [1] }, /^notification: not a JSON object/],
  ]) {
    const [answer] = await ask(socket, 'capabilities', [call]);
    assert.deepEqual(Object.keys(answer), ['invalid'], JSON.stringify(answer));
    assert.match(answer.invalid, reason);
  }
  await ask(socket, 'capabilities', []);
  assert.deepEqual(socket.collected.map(({ name }) => name), ['authenticated']);
});

for (const [what, [call, enough, wrong, missing]] of Object.entries(CALLS)) {
  test(`to ${what} needs the grant for it, at the call`, async (t) => {
    const server = await startServer(t, {
      config: CONFIG,
      plugins: [{ wasm: 'capabilities', grants: [...OF_NO_USE, ...wrong] }],
    });
    const socket = await connect(t, server, { token: token({ sub: '7', role: 'admin' }) });
    const [denied] = await ask(socket, 'capabilities', [call]);
    assert.deepEqual(denied, { denied: `mixlab.toml does not grant "${missing}"` });
    assert.deepEqual(socket.collected.map(({ name }) => name), ['authenticated'], 'and nothing happened');
    if (enough === null) return;

    const toml = readFileSync(server.configPath, 'utf8');
    const grants = JSON.stringify([...OF_NO_USE, ...enough]);
    writeFileSync(server.configPath, toml.replace(/^grants = .*$/m, `grants = ${grants}`));
    await reload(server);
    const [answer] = await ask(socket, 'capabilities', [call]);
    assert.deepEqual(Object.keys(answer), ['granted'], JSON.stringify(answer));
  });
}

test('rooms that no grant covers are not shown', async (t) => {
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [{ wasm: 'capabilities', grants: [...OF_NO_USE, 'room:a'] }],
  });
  const socket = await connect(t, server, { token: token({ sub: '7', role: 'admin' }) });
  await ask(socket, 'subscribe:payments');
  await ask(socket, 'capabilities', [{ call: 'join', room: 'a' }]);
  assert.deepEqual(await ask(socket, 'capabilities', [{ call: 'joined' }]), [{ granted: ['a'] }]);
});

for (const [name, [, reason]] of Object.entries(NO_CONTRACTS)) {
  test(`what is no contract is refused at load: ${name}`, async () => {
    const { state, refusal, events } = await plugin(uncontracted, name);
    assert.deepEqual([state, events], ['refused', []]);
    assert.match(refusal, reason);
  });
}

test('who may send an event is as its contract says', async (t) => {
  const anonymous = await connect(t, contracts);
  const user = await connect(t, contracts, { token: token({ sub: '1', role: 'student' }) });
  const staff = await connect(t, contracts, { token: token({ sub: '2', roles: ['student', 'staff'] }) });
  const table = [
    [anonymous, 'for-anyone', 'ok'],
    [user, 'for-anyone', 'ok'],
    [anonymous, 'for-users', 'unauthorized'],
    [user, 'for-users', 'ok'],
    [anonymous, 'for-staff', 'unauthorized'],
    [user, 'for-staff', 'permission_denied'],
    [staff, 'for-staff', 'ok'],
  ];
  for (const [socket, event, expected] of table) {
    const answer = await ask(socket, event);
    assert.equal(answer.error?.code ?? 'ok', expected, event);
  }
  await ask(anonymous, 'authenticate', token({ sub: '3', role: 'admin' }));
  assert.deepEqual(await ask(anonymous, 'for-staff'), ANSWER, 'from the moment it authenticates');
});

// Whose events a limit counts together: two that share a bucket, and one that does not.
const address = (localAddress) => ({ agent: new Agent({ localAddress }) });
const SCOPES = {
  'per-socket': { other: {} },
  'per-user': { first: { sub: 'u1' }, same: { sub: 'u1' }, other: { sub: 'u2' } },
  'per-ip': { same: {}, otherOptions: address('127.0.0.2') },
  'per-event': { same: {}, sameOptions: address('127.0.0.3') },
};
for (const [event, { first, same, sameOptions, other, otherOptions }] of Object.entries(SCOPES)) {
  test(`a limit ${event} counts those together, and whoever waits as told gets through`, async (t) => {
    const client = (claims, options = {}) =>
      connect(t, contracts, { ...options, ...(claims?.sub && { token: token(claims) }) });
    const socket = await client(first);
    const sharing = same || sameOptions ? await client(same, sameOptions) : socket;
    assert.deepEqual(await ask(socket, event), ANSWER);
    assert.deepEqual(await ask(sharing, event), ANSWER);
    const { error } = await ask(sharing, event);
    const told = performance.now();
    assert.deepEqual([error.code, error.temporary], ['rate_limited', true]);
    assert.ok(Number.isInteger(error.retry_after_ms) && error.retry_after_ms > 0, `${error.retry_after_ms}`);
    assert.ok(error.retry_after_ms <= 2000, `one of two in 4 s: ${error.retry_after_ms}`);
    if (other || otherOptions) {
      assert.deepEqual(await ask(await client(other, otherOptions), event), ANSWER, 'others have their own');
    }
    // Time is the subject. A timer may be early by a millisecond.
    const left = () => error.retry_after_ms - (performance.now() - told);
    while (left() > 0) await wait(left());
    assert.deepEqual(await ask(socket, event), ANSWER);
  });
}

test('an anonymous connection counts as a user of its own', async (t) => {
  for (const socket of [await connect(t, contracts), await connect(t, contracts)]) {
    const answers = [await ask(socket, 'per-user'), await ask(socket, 'per-user'), await ask(socket, 'per-user')];
    assert.deepEqual(answers.map((answer) => answer.error?.code), [undefined, undefined, 'rate_limited']);
  }
});

test('as many as the burst come at once, with several limits the strictest counts', async (t) => {
  for (const [event, allowed] of [
    ['in-bursts', 5],
    ['twice-limited', 2],
  ]) {
    const socket = await connect(t, contracts);
    const answers = await Promise.all(Array.from({ length: 10 }, () => ask(socket, event)));
    const passed = answers.filter((answer) => !answer.error).length;
    // The bucket is refilled while they come.
    assert.ok(passed >= allowed && passed <= allowed + 1, `${event}: ${passed}`);
  }
});

test('a client that is limited hears of it once where it asked for no ack', async (t) => {
  const socket = await connect(t, contracts);
  for (let count = 0; count < 3; count += 1) socket.emit('per-socket');
  const [{ error }] = await nextEvent(socket, 'mixlab:error');
  assert.equal(error.code, 'rate_limited');
  await ask(socket, 'for-anyone');
  assert.equal(received(socket, 'mixlab:error').length, 1);
});

test('events over a limit are dropped where the plugin or [limits] says so, and counted', async (t) => {
  const limited = (name, keys) => ({
    wasm: 'contracts',
    name,
    config: { events: [{ name, limits: [{ scope: 'socket', rate: '1/1000h' }] }], answer: 'ok' },
    ...keys,
  });
  const server = await startServer(t, {
    config: `${CONFIG}[limits]\nsocket = "12/1000h"\non_excess = "drop"`,
    plugins: [limited('dropping'), limited('answering', { on_excess: 'answer' })],
  });
  const count = async (series) => {
    const metrics = (await server.api('GET', '/metrics', undefined, null)).body;
    return Number(metrics.match(new RegExp(`^mixlab_events_total\\{${series}\\} (\\d+)$`, 'm'))?.[1] ?? 0);
  };
  const socket = await connect(t, server);
  const send = (event, times) => Array.from({ length: times }).forEach(() => socket.emit(event));
  send('dropping', 4);
  assert.equal((await ask(socket, 'dropping')).error.code, 'rate_limited', 'who asks for an ack is told');
  assert.deepEqual(socket.collected, []);
  assert.equal(await count('event="dropping",outcome="dropped",plugin="dropping"'), 3);
  assert.equal(await count('event="dropping",outcome="rate_limited",plugin="dropping"'), 1);

  send('answering', 3);
  assert.equal((await ask(socket, 'answering')).error.code, 'rate_limited');
  const told = () => received(socket, 'mixlab:error').map(([{ error }]) => error.code);
  assert.deepEqual(told(), ['rate_limited', 'rate_limited']);

  // Nine so far: the limit of all events counts those that nobody handles, and the host's own.
  send('unknown', 1);
  await ask(socket, 'unsubscribe:payments');
  assert.deepEqual(told().slice(2), ['unknown_event']);
  assert.deepEqual(await ask(socket, 'unsubscribe:payments'), { success: true });
  assert.equal((await ask(socket, 'unsubscribe:payments')).error.code, 'rate_limited');
  send('unknown', 2);
  send('answering', 1);
  await nextEvent(socket, 'mixlab:error');
  await until(async () => (await count('event="other",outcome="dropped",plugin=""')) === 2);
  await until(() => told().length === 4);
  assert.deepEqual(told().slice(2), ['unknown_event', 'rate_limited'], 'only that of a plugin that answers');
});

test('a contract says what becomes of its event over a limit, and the plugin in mixlab.toml has the last word', async (t) => {
  const limits = [{ scope: 'socket', rate: '1/1000h' }];
  const declaring = (on_excess, keys) => {
    const name = `${on_excess}-${keys?.on_excess ?? 'unsaid'}`;
    return { wasm: 'contracts', name, config: { events: [{ name, limits, on_excess }], answer: 'ok' }, ...keys };
  };
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [declaring('drop'), declaring('drop', { on_excess: 'answer' }), declaring('answer', { on_excess: 'drop' })],
  });
  const socket = await connect(t, server);
  const outcomes = async (event) => {
    for (let count = 0; count < 3; count += 1) socket.emit(event);
    assert.equal((await ask(socket, event)).error.code, 'rate_limited', 'who asks for an ack is told');
    const metrics = (await server.api('GET', '/metrics', undefined, null)).body;
    const series = new RegExp(`^mixlab_events_total\\{event="${event}",outcome="(\\w+)",plugin="${event}"\\} (\\d+)$`, 'gm');
    return Object.fromEntries([...metrics.matchAll(series)].map(([, outcome, count]) => [outcome, Number(count)]));
  };
  const dropped = { ok: 1, dropped: 2, rate_limited: 1 };
  assert.deepEqual(await outcomes('drop-unsaid'), dropped);
  assert.deepEqual(await outcomes('answer-drop'), dropped);
  assert.deepEqual(received(socket, 'mixlab:error'), []);
  assert.deepEqual(await outcomes('drop-answer'), { ok: 1, rate_limited: 3 });
  await until(() => received(socket, 'mixlab:error').length > 0);
});

test('a limit that no clock can count is no reason to end', async (t) => {
  const limits = [{ scope: 'socket', rate: '1/1000h', burst: 100_000 }];
  const config = { events: [{ name: 'x', limits }] };
  const folder = makeFolder(t, { config: CONFIG, plugins: [CUSTOM_EVENT, { wasm: 'contracts', config }] });
  const { code, stderr } = await folder.mixlab('check');
  assert.doesNotMatch(stderr, /panicked/);
  assert.ok([0, 1].includes(code), `code ${code}`);
});

test('a limit that comes with a reload and that no clock can count leaves the server reloading', async (t) => {
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [{ wasm: 'contracts', config: { events: [{ name: 'x' }], answer: 1 } }],
  });
  const toml = readFileSync(server.configPath, 'utf8');
  const limited = '{ "name" = "x", "limits" = [{ "scope" = "socket", "rate" = "1/1000h", "burst" = 100000 }] }';
  writeFileSync(server.configPath, toml.replace('{ "name" = "x" }', limited));
  await reload(server);
  writeFileSync(server.configPath, toml.replace('"answer" = 1', '"answer" = 2'));
  await reload(server);
  const socket = await connect(t, server);
  assert.equal(await ask(socket, 'x'), 2);
});

test('a payload may be as large as its contract says and not a byte larger', async (t) => {
  const socket = await connect(t, contracts);
  // 20 bytes: the array with its brackets and quotes.
  assert.deepEqual(await ask(socket, 'small', 'x'.repeat(16)), ANSWER);
  const { error } = await ask(socket, 'small', 'x'.repeat(17));
  assert.deepEqual([error.code, error.temporary], ['payload_too_large', false]);
  assert.match(error.message, /21 bytes; 20 are allowed/);
  assert.equal((await ask(socket, 'small', 'ü'.repeat(9))).error?.code, 'payload_too_large', 'bytes, not characters');
  const binary = await ask(socket, 'small', Buffer.alloc(30));
  assert.equal(binary.error?.code, 'payload_too_large', 'attachments count');
});

test('a payload of the wrong shape is refused with the path to what is wrong', async (t) => {
  const socket = await connect(t, contracts);
  assert.deepEqual(await ask(socket, 'shaped', { hours: 12 }), ANSWER);
  const long = 'x'.repeat(10_000);
  for (const [args, path, expected, found, reason] of [
    [[{ hours: 13 }], '/0/hours', 'number <= 12', '13', /13 is greater than the maximum of 12/],
    [[{ hours: 'two' }], '/0/hours', 'integer', '"two"', /"two" is not of type "integer"/],
    [[{}], '/0', 'property "hours"', '{}', /"hours" is a required property/],
    [[7], '/0', 'object', '7', /7 is not of type "object"/],
    [[], 'arguments', 'at least 1 item', '[]', /less than 1 item/],
    [[{ hours: 1 }, 2], 'arguments', 'at most 1 item', '[{"hours":1},2]', /more than 1 item/],
    [[long], '/0', 'object', `"${long.slice(0, 99)}…`, /^.{201}$/],
  ]) {
    const { error } = await ask(socket, 'shaped', ...args);
    assert.deepEqual([error.code, error.temporary], ['invalid_payload', false]);
    const { message, ...details } = error.details;
    assert.deepEqual(details, { path, expected, found });
    assert.match(message, reason);
    assert.equal(error.message, `${error.details.path}: ${error.details.message}`);
  }
});

test('arguments are nested no deeper than 127 levels, schema or none', async (t) => {
  const socket = await connect(t, contracts);
  // The array of arguments is the first level.
  const nested = (depth) => Array.from({ length: depth - 1 }).reduce((inner) => [inner], 0);
  assert.deepEqual(await ask(socket, 'for-anyone', nested(127)), ANSWER);
  assert.equal((await ask(socket, 'shaped', nested(127))).error.details.expected, 'object');
  const message = 'nested deeper than 127 levels';
  for (const event of ['for-anyone', 'shaped', 'nobody:knows']) {
    const { error } = await ask(socket, event, nested(128));
    assert.deepEqual(error, { code: 'invalid_payload', message, temporary: false });
  }
  const raw = await rawSocket(t, contracts);
  // Any recursion would end the server.
  raw.send(`421["for-anyone",${'['.repeat(400_000)}${']'.repeat(400_000)}]`);
  await raw.frame(new RegExp(`^431.*${message}`));
  assert.deepEqual(await ask(socket, 'for-anyone'), ANSWER);
});

test('a schema whose check takes for ever stops nobody else', async (t) => {
  // Every level of nesting is checked twice by the level around it.
  const twice = { items: { $ref: '#' } };
  const schema = { anyOf: [{ ...twice, contains: { const: 1 } }, { ...twice, contains: { const: 2 } }] };
  const events = [{ name: 'endless', arguments: JSON.stringify(schema) }];
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [CUSTOM_EVENT, { wasm: 'contracts', config: { events } }],
  });
  const deep = Array.from({ length: 60 }).reduce((inner) => [inner], 0);
  const sockets = await Promise.all(Array.from({ length: availableParallelism() + 2 }, () => connect(t, server)));
  const socket = await connect(t, server);
  for (const attacker of sockets) attacker.emit('endless', deep);
  const answered = within(ask(socket, 'custom_event', 1), 'the answer to somebody else', 5000);
  // One that does not answer does not end at a polite word either.
  answered.catch(() => server.kill());
  assert.equal(await answered, 1);
});

test('the config table of a plugin reaches it, and what it says of it reaches the admin', async (t) => {
  const socket = await connect(t, contracts);
  assert.deepEqual(await ask(socket, 'for-anyone'), ANSWER);
  const folder = makeFolder(t, {
    config: CONFIG,
    plugins: [{ wasm: 'versioned', config: { version: 'seven' } }],
  });
  const { code, stderr } = await folder.mixlab('check');
  assert.equal(code, 1);
  assert.match(stderr, /^error: versioned: .*config\.version: invalid type: string "seven", expected u32\n$/);
});

// For each budget: [a plugin's own keys, what it may do, what is too much, the reason].
const call = (count, call) => [Array.from({ length: count }, () => call)];
const emit = (bytes) => ({ call: 'emit', event: 'x', data: 'x'.repeat(bytes) });
const BUDGETS = {
  cpu: ['slow', { cpu: '200ms', wall: '20s' }, [50], [9000], /the budget cpu = 200ms is used up/],
  wall: ['sleeps', { wall: '200ms', cpu: '100ms' }, null, [], /the budget wall = 200ms is used up/],
  memory: ['memory_grow_then_ok', { memory: '32MiB' }, [20], [40], /the budget memory = 32.* is used up/],
  host_calls: [
    'capabilities',
    { host_calls: 5 },
    call(5, { call: 'joined' }),
    call(6, { call: 'joined' }),
    /the budget host_calls = 5 is used up/,
  ],
  boundary: [
    'capabilities',
    { boundary: '64KiB' },
    // They cross it twice: in the event, and as emits.
    call(1, emit(20_000)),
    call(2, emit(20_000)),
    /the budget boundary = 64/,
  ],
  effects: ['capabilities', { effects: 3 }, call(3, emit(1)), call(5, emit(1)), /the budget effects = 3 is used up/],
  log: [
    'capabilities',
    { log: '100B' },
    call(2, { call: 'log', message: 'x'.repeat(50) }),
    call(3, { call: 'log', message: 'x'.repeat(50) }),
    /the budget log = 100.* is used up/,
  ],
};
for (const [key, [guest, own, enough, tooMuch, reason]] of Object.entries(BUDGETS)) {
  test(`a plugin's own budget ${key} counts, for it alone`, async (t) => {
    const grants = { capabilities: ALL_GRANTS };
    const server = await startServer(t, {
      config: '[budget]\ncpu = "1s"\nwall = "20s"\n',
      plugins: [CUSTOM_EVENT, { wasm: guest, grants: grants[guest] ?? [], budget: own }, 'handler_loops'],
    });
    const socket = await connect(t, server);
    if (enough) {
      const answer = await ask(socket, guest, ...enough);
      assert.ok(!answer?.error, JSON.stringify(answer));
    }
    const seen = () => received(socket, 'x').length;
    await ask(socket, 'custom_event', 0);
    const before = seen();
    const failed = await ask(socket, guest, ...tooMuch);
    assert.match(await assertFailed(server, failed, /cpu|wall/.test(key) ? 'plugin_timeout' : 'plugin_error'), reason);
    assert.equal(await ask(socket, `${guest}:ping`), 'pong');
    assert.equal(await ask(socket, 'custom_event', 1), 1);
    assert.equal(seen(), before, 'nothing of the failed call was seen');
    if (key === 'cpu') {
      const other = await ask(socket, 'handler_loops');
      assert.match(await assertFailed(server, other, 'plugin_timeout'), /the budget cpu = 1s is used up/);
    }
  });
}

test('a plugin is told of an effect over its budget and may leave it at that', async (t) => {
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [{ wasm: 'capabilities', grants: ALL_GRANTS, budget: { effects: 2 } }],
  });
  const socket = await connect(t, server);
  const calls = [emit(1), { call: 'join', room: 'a' }, { call: 'leave', room: 'a' }];
  assert.deepEqual(await ask(socket, 'capabilities', calls), [
    { granted: null },
    { granted: null },
    { over_budget: 'effects = 2' },
  ]);
  assert.equal(await nextArgument(socket, 'x'), 'x');
});

test('the event itself counts for the budget boundary', async (t) => {
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [{ wasm: 'echo', budget: { boundary: '64KiB' } }],
  });
  const socket = await connect(t, server);
  assert.equal(await ask(socket, 'echo:ping', 'x'.repeat(50_000)), 'pong');
  const answer = await ask(socket, 'echo:ping', 'x'.repeat(100_000));
  assert.ok(['plugin_error', 'payload_too_large'].includes(answer.error?.code), JSON.stringify(answer));
});

test('a plugin with one instance has one memory', async (t) => {
  const server = await startServer(t, { plugins: [{ wasm: 'traps_at_1000', budget: { instances: 1 } }] });
  const sockets = await Promise.all(Array.from({ length: 10 }, () => connect(t, server)));
  const answers = await Promise.all(
    Array.from({ length: 500 }, (_, index) => ask(sockets[index % sockets.length], 'traps_at_1000')),
  );
  const sorted = answers.sort((one, other) => one - other);
  assert.deepEqual(sorted, sorted.map((_, index) => index + 1));
});

test('the plugins that watch connections are asked in the order of the file, up to the first no', async (t) => {
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [
      { wasm: 'on_connect_refuses' },
      { wasm: 'greets', grants: ['emit', 'room:greets'] },
      { wasm: 'on_connect_traps', enabled: false },
    ],
  });
  const witness = await connect(t, server, { token: token({ sub: '1' }), auth: { hello: 1 } });
  assert.deepEqual(await nextArgument(witness, 'greets:welcome'), { hello: 1 });
  assert.deepEqual(
    witness.collected.map(({ name }) => name),
    ['authenticated', 'greets:welcome'],
    'first who it is, then what plugins want',
  );

  const refused = open(t, server, { auth: { room: 'closed' } });
  const message = await new Promise((resolve) => refused.once('connect_error', (error) => resolve(error.message)));
  assert.equal(message, 'room_closed');
  assert.deepEqual(refused.collected, [], 'nothing of a connection that was refused is done');
  assert.equal((await server.api('GET', '/api/v1/clients/count')).body.count, 1);
  assert.equal((await plugin(server, 'greets')).calls, 1, 'the later plugin was not asked');

  for (const [leave, reason] of [
    [(socket) => socket.disconnect(), 'client namespace disconnect'],
    [(socket) => socket.io.engine.close(), 'transport close'],
  ]) {
    const leaver = await connect(t, server);
    const id = await ask(leaver, 'greets');
    leave(leaver);
    const [left, why] = await nextEvent(witness, 'greets:left');
    assert.deepEqual([left, why], [id, reason]);
  }
  await until(async () => (await server.api('GET', '/api/v1/clients/count')).body.count === 1);
  assert.equal(received(witness, 'greets:left').length, 2, 'a client that was refused never left');
});

test('a trap on the way in undoes what the plugins before it wanted', async (t) => {
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [{ wasm: 'greets', grants: ['emit', 'room:greets'] }, 'on_connect_traps'],
  });
  const refused = open(t, server);
  const message = await new Promise((resolve) => refused.once('connect_error', (error) => resolve(error.message)));
  assert.equal(message, 'plugin_error');
  assert.deepEqual(refused.collected, []);
  await until(async () => (await plugin(server, 'greets')).calls === 2, { message: 'it is told of the end' });
});
