// The stock client, old and new, over every transport: nothing here may depend on its version.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { askAll, connect, disconnected, nextEvent, received } from '../support/client.mjs';
import { editConfig, nextArgument } from '../support/plugins.mjs';
import { http } from '../support/protocol.mjs';
import { startProxy } from '../support/proxy.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until, within } from '../support/wait.mjs';

/** The versions, by their names in package.json. */
const CLIENTS = {
  '4.0': await import('socket.io-client-4.0'),
  '4.4': await import('socket.io-client-4.4'),
  '4.7.5': await import('socket.io-client-4.7'),
  newest: await import('socket.io-client'),
};

/** Those that know connection state recovery. */
const RECOVER = ['4.7.5', 'newest'];

const WAYS = { websocket: ['websocket'], polling: ['polling'], upgrade: ['polling', 'websocket'] };

/** With recovery, so that old clients see what it adds. */
const OPTIONS = {
  recovery: true,
  plugins: [
    CONFORMANCE,
    { wasm: 'custom-event', grants: ['emit:custom_response'] },
  ],
};

const server = await startServer({ after }, OPTIONS);

/** A connected socket that has upgraded if it is to. */
async function settled(t, server, options) {
  const socket = await connect(t, server, options);
  const { transports } = options;
  await until(() => socket.io.engine.transport.name === transports.at(-1), { message: 'the upgrade' });
  return socket;
}

/** Waits until the server knows that nobody is connected. */
const gone = () => until(async () => (await server.api('GET', '/api/v1/clients/count')).body.count === 0);

/** The next event's first `count` arguments; its place in the recovery log may follow. */
const nextArguments = async (socket, name, count) => (await nextEvent(socket, name)).slice(0, count);

for (const [version, client] of Object.entries(CLIENTS)) {
  for (const [way, transports] of Object.entries(WAYS)) {
    describe(`client ${version}, ${way}`, () => {
      const options = { client, transports };

      test('connects with a token, and hears why not', async (t) => {
        const socket = await settled(t, server, { ...options, token: token({ sub: '7', role: 'admin' }) });
        const { success, user } = await nextArgument(socket, 'authenticated');
        assert.deepEqual([success, user.id], [true, '7']);
        await assert.rejects(connect(t, server, { ...options, token: 'no token' }), { message: 'unauthorized' });
      });

      test('sends events and gets events and acks', async (t) => {
        const socket = await settled(t, server, options);
        const sent = [{ some: 'data' }, 'ünï😀', 1.5, null, [[]]];
        assert.deepEqual(await askAll(socket, 'custom_event', ...sent), sent);
        assert.deepEqual(await nextArguments(socket, 'custom_response', sent.length), sent);
        assert.deepEqual(await askAll(socket, 'custom_event'), []);
      });

      test('sends and gets binary, nested and in acks', async (t) => {
        const socket = await settled(t, server, options);
        const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
        const sent = [bytes, { deep: [{ bytes: Buffer.alloc(0) }, 'text'] }, Buffer.alloc(70_000, 7)];
        assert.deepEqual(await askAll(socket, 'custom_event', ...sent), sent);
        assert.deepEqual(await nextArguments(socket, 'custom_response', sent.length), sent);
      });

      test('is reached in rooms and as a user', async (t) => {
        const member = await settled(t, server, { ...options, token: token({ sub: `${version}-${way}` }) });
        const sender = await settled(t, server, options);
        const room = `studio ${version} ${way}`;
        await askAll(member, 'join', room);
        await askAll(sender, 'join', room);
        await askAll(sender, 'tell', room, 'hello');
        assert.equal(await nextArgument(member, 'told'), 'hello');
        const user = encodeURIComponent(`${version}-${way}`);
        const { body } = await server.api('POST', `/api/v1/users/${user}/notifications`, { title: 'hi' });
        assert.deepEqual(body, { delivered: 1 });
        assert.equal((await nextArgument(member, 'notification')).title, 'hi');
        await askAll(sender, 'id');
        assert.deepEqual([received(sender, 'told'), received(sender, 'notification')], [[], []]);
      });

      test('is in two namespaces over one connection', async (t) => {
        const main = await settled(t, server, options);
        const custom = main.io.socket('/custom', { auth: { from: 'custom' } });
        t.after(() => custom.disconnect());
        const [auth] = await within(
          new Promise((resolve) => custom.once('auth', (...args) => resolve(args))),
          'the greeting of /custom',
        );
        assert.deepEqual(auth, { from: 'custom' });
        assert.deepEqual(await askAll(custom, 'id'), [custom.id]);
        assert.notEqual(custom.id, main.id);
        custom.disconnect();
        assert.deepEqual(await askAll(main, 'id'), [main.id]);
        await assert.rejects(connect(t, server, { ...options, namespace: '/random' }), {
          message: 'Invalid namespace',
        });
      });

      test('comes back after its connection was cut', async (t) => {
        const proxy = await startProxy(t, server);
        await gone();
        const socket = await settled(t, proxy, { ...options, reconnection: true, reconnectionDelay: 10 });
        await nextEvent(socket, 'auth');
        const { id } = socket;
        assert.deepEqual(await askAll(socket, 'id'), [id]);
        if (way === 'polling') await until(proxy.hasPoll);
        proxy.cut();
        assert.match(await disconnected(socket), /^transport (close|error)$/);
        await gone();
        proxy.mend();
        await until(() => socket.connected, { message: 'it is back' });
        assert.equal(socket.recovered ?? false, RECOVER.includes(version));
        assert.equal(socket.id === id, RECOVER.includes(version));
        assert.deepEqual(await askAll(socket, 'id'), [socket.id]);
        socket.disconnect();
        await gone();
      });

      test('says goodbye', async (t) => {
        const socket = await settled(t, server, options);
        socket.disconnect();
        assert.equal(socket.endReason, 'io client disconnect');
      });
    });
  }
}

test('every client is told when its namespace goes, and when the server does', async (t) => {
  const server = await startServer(t, OPTIONS);
  const everywhere = (namespace) =>
    Promise.all(
      Object.values(CLIENTS).flatMap((client) =>
        Object.values(WAYS).map((transports) => settled(t, server, { client, transports, namespace })),
      ),
    );
  const [main, custom] = [await everywhere('/'), await everywhere('/custom')];
  editConfig(server, (toml) => toml.replace('path = "conformance.wasm"', '$&\nenabled = false'));
  for (const socket of custom) assert.equal(await disconnected(socket), 'io server disconnect');
  for (const socket of main) assert.equal(socket.endReason, undefined);
  await server.stop();
  for (const socket of main) assert.match(await disconnected(socket), /^transport (close|error)$/);
});

describe('a client of Socket.IO 2', async () => {
  const { default: io } = await import('socket.io-client-2');

  for (const transport of ['polling', 'websocket']) {
    test(`is refused over ${transport}, and not left waiting`, async (t) => {
      const socket = io(server.url, { transports: [transport], forceNew: true, reconnection: false });
      t.after(() => socket.close());
      const refusal = new Promise((resolve, reject) => {
        socket.once('connect_error', resolve);
        socket.once('connect', () => reject(new Error('it is connected')));
      });
      const { type, description } = await within(refusal, 'the refusal');
      assert.equal(type, 'TransportError');
      if (transport === 'polling') assert.equal(description, 400);
      else assert.match(description.message, /400/);
    });
  }

  test('can read why', async () => {
    const { status, body } = await http(server, { EIO: 3, transport: 'polling' });
    assert.equal(status, 400);
    assert.deepEqual(JSON.parse(body), { code: 5, message: 'Unsupported protocol version' });
  });
});
