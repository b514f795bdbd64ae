// Namespaces as plugins declare them, through the stock client.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, disconnected, open, TRANSPORTS } from '../support/client.mjs';
import { editConfig, plugin, replaceFile } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

/** A plugin that answers `places` with its name and the connection's namespace. */
const places = (name, ...namespaces) => ({
  wasm: 'places',
  name,
  grants: ['namespace:/*'],
  config: { name, namespaces },
});

const PLUGINS = [places('one', '/', '/first', '/both'), { wasm: 'conformance', grants: ['emit', 'room:*', 'namespace:/*'] }];

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
    assert.equal(error.message, 'auth_failed');
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
