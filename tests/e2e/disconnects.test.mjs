// Connections that plugins end.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { TRANSPORTS, ask, connect, disconnected, nextEvent, received } from '../support/client.mjs';
import { poller, websocket } from '../support/protocol.mjs';
import { startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const REASON = 'io server disconnect';
const COMING_BACK = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 20 };

const server = await startServer(
  { after },
  {
    config: '[budget]\ncpu = "1s"\n',
    recovery: true,
    plugins: [
      {
        wasm: 'dismisses',
        grants: ['emit', 'handshake', 'disconnect', 'namespace:/*'],
        config: { namespaces: ['/', '/other'] },
      },
      {
        wasm: 'capabilities',
        grants: ['payments', 'notify', 'role:*', 'clients', 'room:*', 'everyone', 'emit', 'ask', 'handshake', 'find', 'disconnect'],
      },
      'slow',
    ],
  },
);

const call = (socket, ...calls) => ask(socket, 'capabilities', calls);
const clients = async () => (await server.api('GET', '/api/v1/clients/count')).body.count;

/** What a client sees of `dismisses`, without the places of events in the log. */
const seen = (packets) => packets.map((packet) => packet.replace(/,"[^"]*"\]$/, ']'));
const END = ['42["dismisses:before",1]', '42["dismisses:after",2]', '437["dismissed"]', '41'];
/** How a websocket ends that the server closes. */
const isGoodbye = (packet) => packet === '1';

for (const close of [false, true]) {
  const what = close ? 'transport' : 'connection';

  test(`a ${what} ends behind what was sent and behind the ack, over websocket`, async (t) => {
    const client = await websocket(t, server);
    await client.next();
    client.send('40');
    assert.match(await client.nextMessage(), /^40/);
    assert.match(await client.nextMessage(), /^42\["dismisses:query"/);
    client.send(`427["dismisses",${close}]`);
    const packets = [];
    while (packets.at(-1) !== '41') packets.push(await client.nextMessage());
    assert.deepEqual(seen(packets), END);
    if (close) {
      await client.closed();
      assert.deepEqual(client.waiting.filter((packet) => !isGoodbye(packet)), []);
    } else {
      client.send('40');
      assert.match(await client.nextMessage(), /^40/, 'the transport is still there');
    }
  });

  test(`a ${what} ends behind what was sent and behind the ack, over polling`, async () => {
    const client = await poller(server);
    const packets = await client.join();
    // No poll waits as it ends.
    assert.equal((await client.post(`427["dismisses",${close}]`)).body, 'ok');
    while (packets.at(-1) !== '41') packets.push(...(await client.packets()));
    const isWelcome = (packet) => packet.startsWith('40') || packet.includes('dismisses:query');
    assert.deepEqual(seen(packets.filter((packet) => !isWelcome(packet))), END);
    if (close) {
      assert.equal((await client.post('40')).body, 'ok', 'nobody listens');
      assert.deepEqual(await client.packets(), ['1']);
      await until(async () => (await client.get()).status === 400, { message: 'the end of the session' });
    } else {
      assert.match((await client.join())[0], /^40/, 'the transport is still there');
      assert.equal((await client.post('1')).body, 'ok');
    }
  });

  for (const transport of TRANSPORTS) {
    test(`the stock client knows that its ${what} was ended, and recovers nothing: ${transport}`, async (t) => {
      const socket = await connect(t, server, { transports: [transport], ...COMING_BACK });
      const { id } = socket;
      assert.equal(await ask(socket, 'dismisses', close), 'dismissed');
      assert.equal(await disconnected(socket), REASON);
      assert.deepEqual(received(socket, 'dismisses:after').length, 1);
      assert.equal(socket.active, false, 'it does not come back by itself');
      await server.waitForLog(new RegExp(`${id} has ended: server namespace disconnect`));
      socket.connect();
      await until(() => socket.connected);
      assert.equal(socket.recovered, false);
      assert.notEqual(socket.id, id);
      assert.equal(await ask(socket, 'dismisses:ping'), 'pong');
    });

    test(`with the ${what} end those of other namespaces${close ? '' : ', or not'}: ${transport}`, async (t) => {
      const socket = await connect(t, server, { transports: [transport], ...COMING_BACK });
      const other = socket.io.socket('/other');
      t.after(() => other.disconnect());
      other.on('disconnect', (reason) => (other.endReason = reason));
      await until(() => other.connected);
      assert.equal(await ask(socket, 'dismisses', close), 'dismissed');
      assert.equal(await disconnected(socket), REASON);
      if (close) assert.equal(await disconnected(other), REASON);
      else assert.equal(await ask(other, 'dismisses:ping'), 'pong');
    });
  }
}

test('what ends after a connection does not end the one that came after it', async (t) => {
  const socket = await connect(t, server);
  const other = socket.io.socket('/other');
  t.after(() => other.disconnect());
  await until(() => other.connected);
  const { id } = socket;
  socket.disconnect();
  socket.connect();
  await until(() => socket.connected);
  // By now its plugin has asked for another end.
  await server.waitForLog(new RegExp(`${id} has ended: client namespace disconnect`));
  assert.equal(await ask(socket, 'dismisses:ping'), 'pong');
  assert.equal(await ask(other, 'dismisses:ping'), 'pong');
  assert.equal(socket.endReason, 'io client disconnect');
});

test('a selection of sockets is ended', async (t) => {
  const [host, guest, muted, stranger] = await Promise.all([1, 2, 3, 4].map(() => connect(t, server)));
  for (const socket of [host, guest, muted]) await call(socket, { call: 'join', room: 'studio' });
  const room = (name, close) => ({ call: 'disconnect', rooms: [name], close });
  await call(muted, { call: 'disconnect', rooms: ['nobody'], close: true });
  assert.deepEqual(await call(host, { call: 'emit', event: 'bye', rooms: ['studio'], data: 1 }, room('studio', false)), [
    { granted: null },
    { granted: null },
  ]);
  for (const socket of [guest, muted]) {
    assert.equal(await disconnected(socket), REASON);
    assert.equal(received(socket, 'bye').length, 1, 'what was sent before arrives');
  }
  assert.ok(host.connected && stranger.connected, 'not the sender, nor others');
  await call(host, { call: 'disconnect', rooms: [], close: true });
  assert.equal(await disconnected(stranger), REASON);
  assert.equal(await ask(host, 'dismisses:ping'), 'pong');
});

test('events that wait for their turn behind the end are dropped', async (t) => {
  const witness = await connect(t, server);
  const socket = await connect(t, server);
  const late = [{ call: 'emit', event: 'late', rooms: [], data: 1 }];
  socket.emit('slow', 100);
  socket.emit('capabilities', [{ call: 'emit', event: 'in-time', rooms: [], data: 1 }]);
  socket.emit('dismisses', false);
  socket.emit('capabilities', late);
  assert.equal(await disconnected(socket), REASON);
  await nextEvent(witness, 'in-time');
  assert.equal(await ask(witness, 'dismisses:ping'), 'pong');
  assert.deepEqual(received(witness, 'late'), []);
});

for (const transport of TRANSPORTS) {
  for (const how of ['leave', 'close']) {
    test(`a client can be let in and dismissed at once: ${how}, ${transport}`, async (t) => {
      const socket = await connect(t, server, { transports: [transport], query: { dismiss: how }, ...COMING_BACK });
      assert.equal(await disconnected(socket), REASON);
      assert.deepEqual(await nextEvent(socket, 'dismisses:query').then(([query]) => query), [['dismiss', how]]);
      assert.equal(socket.active, false);
    });
  }
}

test('events that come behind the end do not hide it', async (t) => {
  const socket = await connect(t, server, COMING_BACK);
  for (let i = 0; i < 5; i += 1) socket.emit('dismisses', false);
  assert.equal(await disconnected(socket), REASON);
  assert.equal(received(socket, 'dismisses:after').length, 1);
  assert.equal(socket.active, false);
});

test('a client that has no room for the end of its connection loses the transport', async (t) => {
  const narrow = await startServer(t, {
    config: '[socket]\nsend_buffer = 1\nslow_client = "drop"\n',
    plugins: [{ wasm: 'dismisses', grants: ['emit', 'handshake', 'disconnect'] }],
  });
  const client = await poller(narrow);
  await client.join();
  assert.equal((await client.post('427["dismisses",false]')).body, 'ok');
  await narrow.waitForLog(/ has ended: /);
  await until(async () => (await client.get()).status === 400, { message: 'the end of the session' });
});

test('a failed call ends nothing', async (t) => {
  const socket = await connect(t, server);
  const { error } = await ask(socket, 'dismisses:fails');
  assert.equal(error.code, 'not_now');
  assert.equal(await ask(socket, 'dismisses:ping'), 'pong');
});

test('nobody who was dismissed is left', async () => {
  await until(async () => (await clients()) === 0);
});
