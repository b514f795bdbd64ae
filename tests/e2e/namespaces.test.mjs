// Namespaces as plugins declare them, through the stock client.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { FOR_NOW, TRANSPORTS, ask, connect, connectFrom, disconnected, open, received } from '../support/client.mjs';
import { editConfig, nextArgument, plugin, reload, replaceFile } from '../support/plugins.mjs';
import { rawSocket } from '../support/raw.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

/** A plugin that answers `places` with its name and the connection's namespace. */
const places = (name, ...namespaces) => ({
  wasm: 'places',
  name,
  grants: ['namespace:/*'],
  config: { name, namespaces },
});

const ALL_BUT_NAMESPACES = ['payments', 'notify', 'role:*', 'clients', 'room:*', 'everyone', 'socket', 'emit', 'ask', 'find', 'handshake', 'disconnect'];

const PLUGINS = [places('one', '/', '/first', '/both'), CONFORMANCE];

const server = await startServer({ after }, { plugins: PLUGINS });

/** What clients of a namespace are answered. */
async function answer(t, server, namespace, options) {
  const socket = await connect(t, server, { namespace, ...options });
  const found = await ask(socket, 'places');
  socket.disconnect();
  return found;
}

/** Switches a plugin off; returns the configuration before. */
const switchOff = (server, name) =>
  editConfig(server, (toml) => toml.replace(`name = "${name}"`, '$&\nenabled = false'));

for (const transport of TRANSPORTS) {
  const options = { transports: [transport] };

  test(`a client is in several namespaces over one connection, over ${transport}`, async (t) => {
    const main = await connect(t, server, options);
    const sockets = [main];
    for (const path of ['/first', '/both']) {
      const socket = main.io.socket(path);
      await new Promise((resolve) => socket.once('connect', resolve).connect());
      sockets.push(socket);
    }
    const answers = await Promise.all(sockets.map((socket) => ask(socket, 'places')));
    assert.deepEqual(answers, [['one', '/'], ['one', '/first'], ['one', '/both']]);
    assert.equal(new Set(sockets.map((socket) => socket.id)).size, 3);
    sockets[1].disconnect();
    assert.deepEqual(await ask(sockets[2], 'places'), ['one', '/both'], 'it leaves one of them');
    assert.deepEqual(await ask(main, 'places'), ['one', '/']);
  });

  test(`an unknown namespace is refused as in Node, over ${transport}`, async (t) => {
    for (const namespace of ['/nowhere', '/first/x', '/First', '/*']) {
      await assert.rejects(connect(t, server, { ...options, namespace }), { message: 'Invalid namespace' });
    }
  });

  test(`a plugin refuses connections to one of its namespaces, over ${transport}`, async (t) => {
    const main = await connect(t, server, options);
    const refused = main.io.socket('/no');
    const error = await new Promise((resolve) => refused.once('connect_error', resolve).connect());
    assert.equal(error.message, 'Auth failed (custom namespace)');
    assert.equal(error.data, undefined);
    assert.deepEqual(await ask(main, 'places'), ['one', '/'], 'the others are not concerned');
  });
}

test('namespaces come and go with what plugins declare', async (t) => {
  const own = await startServer(t, { plugins: [places('one', '/first', '/both'), places('two', '/second')] });
  const first = await connect(t, own, { namespace: '/first' });
  const both = await connect(t, own, { namespace: '/both' });
  const second = await connect(t, own, { namespace: '/second' });
  const ended = disconnected(both);
  editConfig(own, (toml) => toml.replace('"/both"', '"/third"'));
  assert.equal(await ended, 'io server disconnect');
  await assert.rejects(connect(t, own, { namespace: '/both' }), { message: 'Invalid namespace' });
  assert.deepEqual(await answer(t, own, '/third'), ['one', '/third']);
  assert.deepEqual(await ask(first, 'places'), ['one', '/first']);
  assert.deepEqual(await ask(second, 'places'), ['two', '/second']);
  const on = switchOff(own, 'two');
  assert.equal(await disconnected(second), 'io server disconnect');
  assert.deepEqual(await ask(first, 'places'), ['one', '/first']);
  replaceFile(own.configPath, on);
  await until(async () => (await plugin(own, 'two')).state === 'serving');
  second.connect();
  await until(() => second.connected);
  assert.deepEqual(await ask(second, 'places'), ['two', '/second'], 'a client may come back by itself');
});

test('a client that comes in while its namespace ends is told', async (t) => {
  const own = await startServer(t, {
    config: '[budget]\ncpu = "10s"\nwall = "30s"',
    plugins: [places('one', '/first'), places('two', '/second')],
  });
  const witness = await connect(t, own, { namespace: '/second' });
  const late = open(t, own, { namespace: '/second', auth: { ms: 2000 } });
  const outcome = new Promise((resolve) => {
    late.once('connect', () => resolve('connect'));
    late.once('connect_error', (error) => resolve(error.message));
  });
  await own.waitForLog(/(somebody comes to \/second[^]*){2}/);
  switchOff(own, 'two');
  // The end of the others is past before the plugin has let it in.
  assert.equal(await disconnected(witness), 'io server disconnect');
  assert.equal(await outcome, 'plugin_unavailable');
  assert.deepEqual(await answer(t, own, '/first'), ['one', '/first']);
});

test('a plugin serves the namespaces that it is granted, and `/`', async (t) => {
  const own = await startServer(t, {
    plugins: [
      { ...places('one', '/', '/first', '/second'), grants: ['namespace:/first'] },
      { ...places('two', '/third'), grants: [] },
    ],
  });
  const refusal = (path) => new RegExp(`namespace ${path}, which needs a grant: add "namespace:${path}" to its grants`);
  assert.match((await plugin(own, 'one')).refusal, refusal('/second'));
  assert.match((await plugin(own, 'two')).refusal, refusal('/third'));
  await assert.rejects(connect(t, own, { namespace: '/first' }), { message: 'Invalid namespace' }, 'all or nothing');
  editConfig(own, (toml) => toml.replace('"namespace:/first"', '$&, "namespace:/second"'));
  await reload(own);
  assert.equal((await plugin(own, 'one')).state, 'serving');
  const sockets = [];
  for (const namespace of ['/', '/first', '/second']) sockets.push(await connect(t, own, { namespace }));
  const [main, first, second] = sockets;

  // What is no longer granted ends, although the plugin is refused as a whole and goes on as it was.
  editConfig(own, (toml) => toml.replace('"namespace:/first", ', ''));
  assert.equal(await disconnected(first), 'io server disconnect');
  const { state, refusal: reason, namespaces } = await until(async () => {
    const one = await plugin(own, 'one');
    return one.refusal && one;
  });
  assert.equal(state, 'serving-old');
  assert.match(reason, refusal('/first'));
  assert.deepEqual(namespaces, ['/', '/second']);
  await assert.rejects(connect(t, own, { namespace: '/first' }), { message: 'Invalid namespace' });
  assert.deepEqual(await ask(main, 'places'), ['one', '/']);
  assert.deepEqual(await ask(second, 'places'), ['one', '/second']);
});

/** How many namespaces are open. */
async function openNamespaces(server) {
  const { body } = await server.api('GET', '/metrics');
  return Number(body.match(/^mixlab_namespaces (\d+)$/m)[1]);
}

/** Waits until so many namespaces are open. */
const openNamespacesAre = (server, count) =>
  until(async () => (await openNamespaces(server)) === count, { message: `${count} namespaces are open` });

const rooms = await startServer(
  { after },
  {
    config: '[socket]\nmax_namespaces = 20\nmax_namespaces_per_address = 20',
    plugins: [
      places('rooms', '/room-*'),
      places('rooms-eu', '/room-*-eu'),
      places('one-room', '/room-1'),
      places('start', '/same*'),
      places('end', '/*-end'),
      places('halls', '/halls/*/chat'),
    ],
  },
);

for (const transport of TRANSPORTS) {
  const options = { transports: [transport] };

  test(`clients meet in namespaces that a plugin serves by a pattern, over ${transport}`, async (t) => {
    const own = await startServer(t, { plugins: [places('rooms', '/room-*')] });
    assert.equal(await openNamespaces(own), 1);
    // At once, for each namespace must be opened once for all who ask.
    const join = (namespace) => connect(t, own, { ...options, namespace });
    const crowd = await Promise.all(Array.from({ length: 20 }, (_, index) => join(`/room-${index % 2}`)));
    assert.equal(await openNamespaces(own), 3);
    const answers = await Promise.all(crowd.map((socket) => ask(socket, 'places')));
    answers.forEach((answer, index) => assert.deepEqual(answer, ['rooms', `/room-${index % 2}`]));
    crowd.slice(1).forEach((socket) => socket.disconnect());
    await openNamespacesAre(own, 2);
    assert.deepEqual(await ask(crowd[0], 'places'), ['rooms', '/room-0'], 'it stays while somebody is there');
    crowd[0].disconnect();
    await openNamespacesAre(own, 1);
    assert.deepEqual(await answer(t, own, '/room-0', options), ['rooms', '/room-0'], 'it comes back');
  });

  test(`the pattern that says most decides, over ${transport}`, async (t) => {
    for (const [namespace, name] of [
      ['/room-1', 'one-room'],
      ['/room-2', 'rooms'],
      ['/room-7-eu', 'rooms-eu'],
      ['/room--eu', 'rooms'],
      ['/room-1-end', 'rooms'],
      ['/same-end', 'start'],
      ['/ünï-😀-end', 'end'],
      ['/halls/a/chat', 'halls'],
    ]) {
      assert.deepEqual(await answer(t, rooms, namespace, options), [name, namespace]);
    }
  });

  test(`what no pattern matches is no namespace, over ${transport}`, async (t) => {
    for (const namespace of ['/room', '/room-', '/room-a/b', '/halls//chat', `/room-${'x'.repeat(129)}`]) {
      await assert.rejects(connect(t, rooms, { ...options, namespace }), { message: 'Invalid namespace' });
    }
  });

  test(`too many namespaces are refused until others are empty, over ${transport}`, async (t) => {
    const own = await startServer(t, {
      config: '[socket]\nmax_namespaces = 4',
      plugins: [places('rooms', '/named', '/room-*')],
    });
    const join = (namespace) => connect(t, own, { ...options, namespace });
    const [first] = [await join('/room-1'), await join('/room-2')];
    await assert.rejects(join('/room-3'), { message: FOR_NOW });
    await assert.rejects(join('/nowhere'), { message: 'Invalid namespace' });
    assert.deepEqual(await answer(t, own, '/room-1', options), ['rooms', '/room-1']);
    assert.deepEqual(await answer(t, own, '/named', options), ['rooms', '/named']);
    assert.equal(await openNamespaces(own), 4);
    first.disconnect();
    await openNamespacesAre(own, 3);
    assert.deepEqual(await answer(t, own, '/room-3', options), ['rooms', '/room-3']);
  });
}

test('clients of one address open no more namespaces than are their share, and leave room for others', async (t) => {
  const own = await startServer(t, {
    config: '[socket]\nmax_namespaces = 8\nmax_namespaces_per_address = 2',
    plugins: [places('rooms', '/named', '/room-*')],
  });
  const join = (namespace, address = '127.0.0.1') => connectFrom(t, own, address, { namespace });
  const [first] = [await join('/room-1'), await join('/room-2')];
  await assert.rejects(join('/room-3'), { message: FOR_NOW });
  for (const namespace of ['/room-4', '/room-5']) await join(namespace, '127.0.0.2');
  await assert.rejects(join('/room-6', '127.0.0.2'), { message: FOR_NOW });
  for (const namespace of ['/named', '/room-2', '/room-4']) await join(namespace);
  first.disconnect();
  await openNamespacesAre(own, 5);
  await assert.rejects(join('/room-6', '127.0.0.2'), { message: FOR_NOW });
  await join('/room-3');
});

test('who may not come in opens no namespace', async (t) => {
  const own = await startServer(t, {
    config: '[auth]\nanonymous = false\n[socket]\nmax_namespaces = 3',
    plugins: [places('rooms', '/room-*')],
  });
  const stranger = await rawSocket(t, own, { join: false });
  for (const auth of ['', '{"token":"bad"}']) {
    for (let index = 0; index < 5; index += 1) stranger.send(`40/room-${index},${auth}`);
  }
  await until(() => stranger.frames.filter((frame) => /^44\/room-/.test(frame)).length === 10, { message: () => stranger.shown });
  stranger.send('40/nowhere,');
  await stranger.frame(/^44\/nowhere,.*Invalid namespace/);
  assert.equal(await openNamespaces(own), 1);
  const member = await connect(t, own, { namespace: '/room-9', auth: { token: token({ id: '1' }) } });
  assert.deepEqual(await ask(member, 'places'), ['rooms', '/room-9']);
});

test('a flood of namespaces opens no more than are allowed', async (t) => {
  await openNamespacesAre(rooms, 2);
  const socket = await rawSocket(t, rooms);
  for (let index = 0; index < 2000; index += 1) socket.send(`40/room-flood-${index},`);
  const answers = (pattern) => socket.frames.filter((frame) => pattern.test(frame)).length;
  await until(() => answers(/^4[04]\/room-flood-/) === 2000, { message: 'all are answered' });
  assert.equal(answers(/^40/), 1 + 20 - 2, '`/` and `/room-1` were open, and this client is in one of them');
  assert.ok(answers(/^44.*"rate_limited"/) > 0);
  assert.equal(await openNamespaces(rooms), 20);
  socket.ws.terminate();
  await openNamespacesAre(rooms, 2);
});

test('a namespace of a pattern ends with it, and moves to a plugin that names it', async (t) => {
  const own = await startServer(t, {
    plugins: [places('rooms', '/room-*'), { ...places('named', '/room-1', '/named'), enabled: false }],
  });
  const first = await connect(t, own, { namespace: '/room-1' });
  const second = await connect(t, own, { namespace: '/room-2' });
  editConfig(own, (toml) => toml.replace('enabled = false', ''));
  await until(async () => (await ask(first, 'places'))[0] === 'named');
  assert.ok(first.connected);
  switchOff(own, 'rooms');
  assert.equal(await disconnected(second), 'io server disconnect');
  assert.deepEqual(await ask(first, 'places'), ['named', '/room-1']);
  await assert.rejects(connect(t, own, { namespace: '/room-2' }), { message: 'Invalid namespace' });
});

test('a namespace stays open for a client that may come back', async (t) => {
  const own = await startServer(t, {
    config: '[recovery]\nmax_age = "6s"',
    recovery: true,
    plugins: [places('rooms', '/room-*')],
  });
  const dropped = await rawSocket(t, own, { join: false });
  dropped.send('40/room-1,');
  await dropped.frame(/^40\/room-1,/);
  const left = await rawSocket(t, own, { join: false });
  left.send('40/room-2,');
  await left.frame(/^40\/room-2,/);
  dropped.ws.terminate();
  left.send('41/room-2,');
  await openNamespacesAre(own, 2);
  assert.deepEqual(await answer(t, own, '/room-1'), ['rooms', '/room-1']);
  await openNamespacesAre(own, 1);
});

test('a pattern with two stars is refused', async (t) => {
  const own = await startServer(t, { plugins: [places('bad', '/a-*-*'), places('good', '/a-*')] });
  assert.match((await plugin(own, 'bad')).refusal, /"\/a-\*-\*" is not a namespace: one begins with \/, has one \* at most/);
  assert.equal((await plugin(own, 'good')).state, 'serving');
});

test('a plugin reaches clients of another namespace that it is granted', async (t) => {
  const own = await startServer(t, {
    plugins: [
      {
        wasm: 'capabilities',
        grants: [...ALL_BUT_NAMESPACES, 'namespace:/staff', 'namespace:/closed'],
        config: { namespaces: ['/', '/staff'] },
      },
      places('elsewhere', '/elsewhere'),
    ],
  });
  const call = (socket, ...calls) => ask(socket, 'capabilities', calls);
  const at = (namespace) => connect(t, own, { namespace });
  const [main, staff, other, elsewhere] = [await at('/'), await at('/staff'), await at('/staff'), await at('/elsewhere')];
  const done = { granted: null };
  const everybody = { rooms: [] };

  // From the main namespace to another one, with all that works on selections.
  const there = { namespace: '/staff', ...everybody };
  assert.deepEqual(await call(main, { call: 'join_sockets', ...there, room: 'desk' }), [done]);
  const desk = { namespace: '/staff', rooms: ['desk'] };
  const [{ granted: found }] = await call(main, { call: 'find', ...desk });
  assert.deepEqual(found.map(({ id, rooms }) => [id, rooms]).sort(), [staff, other].map(({ id }) => [id, ['desk']]).sort());
  for (const socket of [staff, other]) socket.on('question', (_, ack) => ack('yes'));
  const [{ granted: answers }] = await call(main, { call: 'ask', event: 'question', ...desk, data: 1, timeout_ms: 4000 });
  assert.deepEqual(answers.given.sort(), [staff, other].map(({ id }) => [id, 'yes']).sort());
  assert.deepEqual(answers.missing, []);
  assert.deepEqual(await call(main, { call: 'emit', event: 'news', ...desk, data: 1 }), [done]);
  for (const socket of [staff, other]) {
    assert.equal(await nextArgument(socket, 'question'), 1);
    assert.equal(await nextArgument(socket, 'news'), 1);
  }
  assert.deepEqual(await call(main, { call: 'leave_sockets', ...desk, room: 'desk' }), [done]);
  assert.deepEqual(await call(main, { call: 'find', ...desk }), [{ granted: [] }]);

  // From there to the main namespace, which needs no grant, and to its own by name.
  assert.deepEqual(await call(staff, { call: 'emit', event: 'main', namespace: '/', ...everybody, data: 2 }), [done]);
  assert.equal(await nextArgument(main, 'main'), 2);
  assert.deepEqual(await call(staff, { call: 'emit', event: 'own', ...there, data: 3 }), [done]);
  assert.equal(await nextArgument(other, 'own'), 3);

  // Nobody is in one that is not open, and one that is not granted is refused.
  assert.deepEqual(await call(main, { call: 'emit', event: 'x', namespace: '/closed', ...everybody, data: 4 }), [done]);
  assert.deepEqual(await call(main, { call: 'find', namespace: '/closed', ...everybody }), [{ granted: [] }]);
  assert.deepEqual(await call(main, { call: 'emit', event: 'x', namespace: '/elsewhere', ...everybody, data: 5 }), [
    { denied: 'mixlab.toml does not grant "namespace:/elsewhere"' },
  ]);

  assert.deepEqual(await call(main, { call: 'disconnect', ...there, close: false }), [done]);
  assert.equal(await disconnected(staff), 'io server disconnect');
  assert.equal(await disconnected(other), 'io server disconnect');
  assert.deepEqual(received(staff, 'own'), [], 'the sender is left out in its own namespace');
  assert.deepEqual(elsewhere.collected, []);
});

test('a plugin is told of the connection what it asks for', async (t) => {
  const own = await startServer(t, {
    plugins: [{ wasm: 'capabilities', grants: [...ALL_BUT_NAMESPACES, 'namespace:/staff'], config: { namespaces: ['/', '/staff'] } }],
  });
  const main = await connect(t, own, { token: token({ sub: 7, roles: ['a', 'b'] }) });
  const staff = await connect(t, own, { namespace: '/staff' });
  const told = async (socket) => (await ask(socket, 'capabilities', [{ call: 'connection' }]))[0].granted;
  const same = { address: '127.0.0.1', recovered: false };
  assert.deepEqual(await told(main), { ...same, id: main.id, namespace: '/', user: '7', roles: ['a', 'b'] });
  assert.deepEqual(await told(staff), { ...same, id: staff.id, namespace: '/staff', user: null, roles: null });
});
