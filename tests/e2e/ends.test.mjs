// How sessions end, and whose clients come back: those of JavaScript, which reconnect after a packet "1",
// and those of other languages, which take it for a farewell.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { nextEvent, open } from '../support/client.mjs';
import { CLOSE, close, frame, joinedFrames, TEXT } from '../support/frames.mjs';
import { startNode } from '../support/node-server.mjs';
import { pythonClient } from '../support/python.mjs';
import { rawPolling } from '../support/raw.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const HEARTBEAT = '[socket]\nping_interval = "300ms"\nping_timeout = "300ms"';

const serve = (t, options) => startServer(t, { plugins: [CONFORMANCE], ...options });

const clientsOf = async (server) => (await server.api('GET', '/api/v1/clients/count')).body.count;

const WAYS = {
  websocket: ['websocket'],
  polling: ['polling'],
  upgrade: ['polling', 'websocket'],
};

/** A stock client that reconnects at once, and has connected. */
async function stock(t, server, transports, options) {
  const socket = open(t, server, { transports, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50, ...options });
  await nextEvent(socket, 'auth');
  await until(() => socket.io.engine.transport.name === transports.at(-1));
  return { socket, back: () => nextEvent(socket, 'auth') };
}

/** A python-socketio client that reconnects at once, and has connected. */
async function python(t, server, transports) {
  const client = pythonClient(t, server, transports);
  await client.connect();
  await client.next('connect');
  await client.next('auth');
  return { client, back: () => client.next('connect') };
}

const CLIENTS = { 'socket.io-client': stock, 'python-socketio': python };

for (const [way, transports] of Object.entries(WAYS)) {
  for (const [name, connected] of Object.entries(CLIENTS)) {
    describe(`${name}, ${way}`, () => {
      test('comes back after the server was restarted', async (t) => {
        const first = await serve(t);
        const { back } = await connected(t, first, transports);
        assert.equal(await first.stop(), 0);
        await serve(t, { listen: first.address });
        await back();
      });

      test('comes back after the server was killed', async (t) => {
        const first = await serve(t);
        const { back } = await connected(t, first, transports);
        await first.kill();
        await serve(t, { listen: first.address });
        await back();
      });
    });
  }

  test(`python-socketio comes back after it slept for too long, ${way}`, async (t) => {
    const server = await serve(t, { config: HEARTBEAT });
    const { client, back } = await python(t, server, transports);
    client.sleep();
    await until(async () => (await clientsOf(server)) === 0, { message: 'the server gives it up' });
    client.wake();
    await back();
  });

  test(`python-socketio comes back after it sent what is no packet, ${way}`, async (t) => {
    const server = await serve(t);
    const { client, back } = await python(t, server, transports);
    await client.send('7');
    await back();
  });
}

test('socket.io-client comes back after it slept for too long', async (t) => {
  const server = await serve(t, { config: HEARTBEAT });
  const { socket, back } = await stock(t, server, ['websocket']);
  const tcp = socket.io.engine.transport.ws._socket;
  tcp.pause();
  // Its own clock sleeps, too: else it might be back before anybody saw it away.
  clearTimeout(socket.io.engine._pingTimeoutTimer);
  await until(async () => (await clientsOf(server)) === 0, { message: 'the server gives it up' });
  tcp.resume();
  await back();
});

for (const transport of ['websocket', 'polling']) {
  test(`socket.io-client comes back after it sent what is no packet, ${transport}`, async (t) => {
    const server = await serve(t);
    const { socket, back } = await stock(t, server, [transport]);
    socket.io.engine.send('7');
    await back();
  });
}

// By the packet

/** A websocket on a server of its own, and how it is ended. */
const ENDS = {
  SIGTERM: {
    codes: [undefined, 1000, 1001, 1012],
    end: ({ server }) => server.stop(),
    node: ({ server }) => server.close(),
  },
  'a ping timeout': {
    config: HEARTBEAT,
    options: { pingInterval: 300, pingTimeout: 300 },
  },
  'a packet that is none': { end: ({ socket }) => socket.write(frame(TEXT, '47')) },
  'an engine.io packet that is none': { end: ({ socket }) => socket.write(frame(TEXT, 'x')) },
  'an event for a namespace that it is not in': { end: ({ socket }) => socket.write(frame(TEXT, '42/custom,["message"]')) },
};

for (const [what, { config, options, end = () => {}, node = end, codes }] of Object.entries(ENDS)) {
  test(`nothing but a Close tells a websocket of its end: ${what}`, async (t) => {
    for (const [server, finish] of [
      [await startNode(t, options), node],
      [await serve(t, { config }), end],
    ]) {
      const socket = await joinedFrames(t, server);
      const finished = finish({ server, socket });
      await until(() => socket.close() || socket.ended);
      assert.deepEqual(socket.texts().filter((text) => text !== '2'), []);
      const payload = socket.close();
      assert.ok(payload, 'there is a Close');
      const code = payload.length ? payload.readUInt16BE() : undefined;
      if (codes) assert.ok(codes.includes(code), `code ${code}`);
      socket.write(frame(CLOSE, payload));
      await socket.end();
      assert.equal(socket.frames.at(-1).opcode, CLOSE);
      await finished;
    }
  });
}

test('a client that answers nothing holds up the end of its websocket no longer than the server', async (t) => {
  const server = await serve(t);
  const socket = await joinedFrames(t, server);
  assert.equal(await server.stop(), 0);
  assert.ok(socket.close());
  await socket.end();
});

test('a poll that waits when the server ends is answered with no "1"', async (t) => {
  // Node answers it with "1", after which python-socketio stays away.
  const server = await serve(t);
  const session = await rawPolling(server);
  await session.post('40');
  await session.packet(/^40/);
  const poll = session.get().catch((error) => ({ error }));
  // Behind the poll, in the order in which the server accepts connections.
  await session.post('42["message-with-ack"]');
  assert.equal(await server.stop(), 0);
  const { text = '' } = await poll;
  assert.ok(!text.split('\x1e').includes('1'), text);
});

test('a client that says goodbye is not answered with more than its Close', async (t) => {
  for (const server of [await startNode(t), await serve(t)]) {
    const socket = await joinedFrames(t, server);
    socket.write(frame(TEXT, '41'), close(1000));
    await socket.end();
    assert.deepEqual(socket.texts(), []);
    assert.ok(socket.close());
  }
});
