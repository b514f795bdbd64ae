// Connections that plugins end.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { TRANSPORTS, ask, connect, disconnected, nextEvent, received } from '../support/client.mjs';
import { editConfig, replaceFile } from '../support/plugins.mjs';
import { poller, websocket } from '../support/protocol.mjs';
import { startServer } from '../support/server.mjs';
import { until, within } from '../support/wait.mjs';

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
const DISMISSED = '437["dismissed"]';
const END = ['42["dismisses:before",1]', '42["dismisses:after",2]', DISMISSED, '41'];
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

for (const transport of TRANSPORTS) {
  for (const first of ['slow', 'dismisses:ping']) {
    test(`events behind the end are dropped, whether they wait or come: ${first}, ${transport}`, async (t) => {
      const witness = await connect(t, server);
      const socket = await connect(t, server, { transports: [transport] });
      const emit = (event) => [{ call: 'emit', event, rooms: [], data: 1 }];
      socket.emit(first, 100);
      socket.emit('capabilities', emit('in-time'));
      socket.emit('dismisses', false);
      socket.emit('capabilities', emit('late'));
      assert.equal(await disconnected(socket), REASON);
      await nextEvent(witness, 'in-time');
      assert.equal(await ask(witness, 'dismisses:ping'), 'pong');
      assert.deepEqual(received(witness, 'late'), []);
    });
  }
}

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

for (const transport of TRANSPORTS) {
  test(`events that come behind the end do not hide it: ${transport}`, async (t) => {
    const socket = await connect(t, server, { transports: [transport], ...COMING_BACK });
    for (let i = 0; i < 5; i += 1) socket.emit('dismisses', false);
    assert.equal(await disconnected(socket), REASON);
    assert.equal(received(socket, 'dismisses:after').length, 1);
    assert.equal(socket.active, false);
  });
}

/** What a client may send to a connection. */
const ATTACHMENT = Buffer.from('MixLab');
const SENT = {
  'an event': ['42["dismisses",false]'],
  'an event with an attachment': ['451-["dismisses",{"_placeholder":true,"num":0}]', ATTACHMENT],
  'an ack': ['430["answer"]'],
  'an ack with an attachment': ['461-0[{"_placeholder":true,"num":0}]', ATTACHMENT],
  'its own end': ['41'],
};

/** How a client may send it. With an upgrade, what comes later comes over the websocket. */
const WAYS = [...TRANSPORTS, 'upgrade'];

/** A client that is in `/` and `/other`, packet by packet. */
async function client(t, server, way) {
  const polling = way === 'websocket' ? undefined : await poller(server);
  let socket = polling ? undefined : await websocket(t, server);
  // Its server may be gone.
  t.after(() => socket ?? polling.post('1').catch(() => {}));
  const waiting = [];
  const more = async (what) => {
    if (!socket) {
      const { status, body } = await polling.get();
      assert.equal(status, 200, `the session ended before ${what}`);
      return body.split('\x1e');
    }
    await until(() => socket.waiting.length > 0 || socket.isClosed(), { message: what });
    assert.ok(socket.waiting.length > 0, `the session ended before ${what}`);
    return socket.waiting.splice(0);
  };
  const self = {
    async send(...packets) {
      if (socket) return socket.send(...packets);
      const encode = (packet) => (Buffer.isBuffer(packet) ? `b${packet.toString('base64')}` : packet);
      assert.equal((await polling.post(packets.map(encode).join('\x1e'))).body, 'ok');
    },
    /** The messages up to this one, which may be a pattern. */
    async until(last) {
      const messages = [];
      const isLast = (message) => message !== undefined && (last.test?.(message) ?? message === last);
      while (!isLast(messages.at(-1))) {
        if (waiting.length === 0) waiting.push(...(await more(`${last} behind ${messages}`)));
        const packet = waiting.shift();
        if (packet.startsWith('4')) messages.push(packet);
      }
      return messages;
    },
    /** Returns when the server has read what was sent. */
    async isRead() {
      if (!socket) return;
      const answered = once(socket.socket, 'pong');
      socket.socket.ping();
      await within(answered, 'the answer to a ping');
    },
    /** With an upgrade, this is the time for it. */
    async goOn() {
      if (way !== 'upgrade') return;
      socket = await websocket(t, server, { sid: polling.sid });
      socket.send('2probe');
      assert.equal(await socket.next(), '3probe');
      socket.send('5');
    },
    /** What is sent in the other namespace is answered, also when the server has dealt with all before. */
    async isInOther() {
      for (const id of [1, 2]) {
        await self.send(`42/other,${id}["dismisses:ping"]`);
        await self.until(`43/other,${id}["pong"]`);
      }
    },
  };
  if (socket) await socket.next();
  await self.send('40');
  await self.until(/dismisses:query/);
  await self.send('40/other,');
  await self.until(/\/other,\["dismisses:query/);
  return self;
}

for (const way of WAYS) {
  for (const [what, packets] of Object.entries(SENT)) {
    test(`${what} behind the end of a connection is dropped, and nothing else ends: ${way}`, async (t) => {
      const raw = await client(t, server, way);
      await raw.send('427["dismisses",false]', ...packets);
      // A client that leaves while its event is under way has left before it is sent away.
      if (packets.includes('41')) await raw.until(DISMISSED);
      else assert.deepEqual(seen(await raw.until('41')), END);
      await raw.send(...packets);
      await raw.goOn();
      await raw.send(...packets, ...packets);
      await raw.isInOther();
      await raw.send('40');
      await raw.until(/^40/);
      await raw.send('422["dismisses:ping"]');
      await raw.until('432["pong"]');
    });
  }

  for (const [what, [packet, attachment]] of Object.entries(SENT).filter(([, packets]) => packets.length > 1)) {
    test(`a connection ends in the middle of ${what}, and nothing else: ${way}`, async (t) => {
      const witness = await connect(t, server);
      const raw = await client(t, server, way);
      await raw.send('428["capabilities",[{"call":"join","room":"middle"}]]');
      await raw.until(/^438/);
      await raw.send(packet);
      await raw.isRead();
      await call(witness, { call: 'disconnect', rooms: ['middle'], close: false });
      await raw.until('41');
      await raw.goOn();
      await raw.send(attachment);
      await raw.isInOther();
      await raw.send('40');
      await raw.until(/^40/);
    });

    test(`${what} is dropped in two parts: ${way}`, async (t) => {
      const raw = await client(t, server, way);
      await raw.send('427["dismisses",false]');
      await raw.until('41');
      await raw.send(packet);
      await raw.goOn();
      await raw.send(attachment);
      await raw.isInOther();
    });
  }

  test(`a client leaves a connection as it is ended, and comes back in one go: ${way}`, async (t) => {
    const raw = await client(t, server, way);
    await raw.goOn();
    await raw.send('427["dismisses",false]', ...SENT['an ack'], '41', '40');
    // The answer to an event that is under way may come behind the next connection.
    const messages = await raw.until(DISMISSED);
    if (!messages.some((message) => message.startsWith('40'))) await raw.until(/^40/);
    await raw.isInOther();
  });

  test(`what is sent to a namespace that was gone for a while ends nothing: ${way}`, async (t) => {
    const own = await startServer(t, {
      plugins: [
        { wasm: 'dismisses', grants: ['emit', 'handshake', 'disconnect', 'namespace:/*'], config: { namespaces: ['/other'] } },
        { wasm: 'dismisses', name: 'main', grants: ['emit', 'handshake', 'disconnect'] },
      ],
    });
    const raw = await client(t, own, way);
    const former = editConfig(own, (toml) => toml.replace('"/other"', '"/third"'));
    await raw.until('41/other,');
    replaceFile(own.configPath, former);
    await until(async () => (await poller(own).then((other) => other.join('40/other,')))[0].startsWith('40'));
    for (const packets of Object.values(SENT)) {
      await raw.send(...packets.map((packet) => packet.replace?.(/^4(\d(?:\d-)?)/, '4$1/other,') ?? packet));
    }
    await raw.goOn();
    await raw.send('421["dismisses:ping"]');
    await raw.until('431["pong"]');
    await raw.send('40/other,');
    await raw.until(/^40\/other/);
    await raw.isInOther();
  });
}

test('what is sent to a namespace that the client was never in ends the transport, as in Node', async (t) => {
  for (const packets of Object.values(SENT)) {
    const raw = await websocket(t, server);
    await raw.next();
    raw.send('40/other,');
    await raw.nextMessage();
    raw.send(...packets);
    await raw.closed();
  }
  const polling = await poller(server);
  await polling.join('40/other,');
  await polling.post('42["dismisses",false]');
  assert.equal((await polling.get()).status, 400);
});

test('a client that has no room for more events still learns of the end of its connection', async (t) => {
  const narrow = await startServer(t, {
    config: '[socket]\nsend_buffer = 1\nslow_client = "drop"\n',
    plugins: [{ wasm: 'dismisses', grants: ['emit', 'handshake', 'disconnect'] }],
  });
  const client = await poller(narrow);
  await client.join();
  assert.equal((await client.post('427["dismisses",false]')).body, 'ok');
  await narrow.waitForLog(/missed an event/);
  const packets = [];
  while (packets.at(-1) !== '41') packets.push(...(await client.packets()));
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
