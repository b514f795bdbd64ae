// A client of another language: python-socketio, over every transport.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { askAll, connect } from '../support/client.mjs';
import { editConfig } from '../support/plugins.mjs';
import { startProxy } from '../support/proxy.mjs';
import { pythonClient } from '../support/python.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const OPTIONS = {
  recovery: true,
  plugins: [
    CONFORMANCE,
    { wasm: 'custom-event', grants: ['emit:custom_response'] },
  ],
};

const server = await startServer({ after }, OPTIONS);

for (const [way, transports] of Object.entries({
  websocket: ['websocket'],
  polling: ['polling'],
  upgrade: ['polling', 'websocket'],
})) {
  describe(`python-socketio, ${way}`, () => {
    async function connected(t, { via = server, ...options } = {}) {
      const client = pythonClient(t, via, transports);
      await client.connect(options);
      assert.equal(await client.transport(), transports.at(-1));
      return client;
    }

    test('connects with a token, and hears why not', async (t) => {
      const user = await connected(t, { auth: { token: token({ sub: '7' }) } });
      const [authenticated] = await user.next('authenticated');
      assert.equal(authenticated.user.id, '7');
      const stranger = pythonClient(t, server, transports);
      await assert.rejects(stranger.connect({ auth: { token: 'no token' } }));
      const [error] = await stranger.next('connect_error');
      assert.deepEqual([error.message, error.data.code], ['unauthorized', 'unauthorized']);
    });

    test('sends and gets events, acks and binary', async (t) => {
      const client = await connected(t);
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      for (const sent of [
        [{ some: 'data' }, 'ünï😀', 1.5, null, [[]]],
        [bytes, { deep: [{ bytes: Buffer.alloc(0) }, 'text'] }, Buffer.alloc(70_000, 7)],
      ]) {
        assert.deepEqual(await client.call('custom_event', sent), sent);
        // The event's place in the recovery log may follow.
        assert.deepEqual((await client.next('custom_response')).slice(0, sent.length), sent);
      }
    });

    test('is reached in rooms and as a user', async (t) => {
      const client = await connected(t, { auth: { token: token({ sub: `python-${way}` }) } });
      await client.call('join', [way]);
      const sender = await connect(t, server);
      await askAll(sender, 'tell', way, 'hello');
      assert.equal((await client.next('told'))[0], 'hello');
      await server.api('POST', `/api/v1/users/python-${way}/notifications`, { title: 'hi' });
      assert.equal((await client.next('notification'))[0].title, 'hi');
    });

    test('is in two namespaces over one connection', async (t) => {
      const client = await connected(t, { namespaces: ['/', '/custom'], auth: { a: 'b' } });
      for (const namespace of ['/', '/custom']) {
        assert.deepEqual((await client.next('auth', namespace))[0], { a: 'b' });
        assert.deepEqual(await client.call('id', [], namespace), [await client.sid(namespace)]);
      }
      const lost = pythonClient(t, server, transports);
      await assert.rejects(lost.connect({ namespaces: ['/random'] }));
      assert.deepEqual(await lost.next('connect_error', '/random'), [{ message: 'Invalid namespace' }]);
    });

    test('comes back after its connection was cut', async (t) => {
      const proxy = await startProxy(t, server);
      const client = await connected(t, { via: proxy });
      await client.next('connect');
      if (way === 'polling') await until(proxy.hasPoll, { message: 'a poll waits' });
      proxy.cut();
      await client.next('disconnect');
      proxy.mend();
      await client.next('connect');
      assert.deepEqual(await client.call('id'), [await client.sid()]);
      await client.disconnect();
      assert.deepEqual(await client.next('disconnect'), ['client disconnect']);
    });

    test('is told when its namespace goes', async (t) => {
      const server = await startServer(t, OPTIONS);
      const client = await connected(t, { via: server, namespaces: ['/', '/custom'] });
      editConfig(server, (toml) => toml.replace('path = "conformance.wasm"', '$&\nenabled = false'));
      assert.deepEqual(await client.next('disconnect', '/custom'), ['server disconnect']);
      assert.deepEqual(await client.call('custom_event', [1]), [1]);
    });
  });
}
