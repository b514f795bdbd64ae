// What the Socket.IO protocol, version 5, asks of a server.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { TRANSPORTS, ask, connect, nextEvent } from '../support/client.mjs';
import { joined, poller, websocket } from '../support/protocol.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const server = await startServer(
  { after },
  {
    plugins: [CONFORMANCE],
  },
);

async function opened(t) {
  const client = await websocket(t, server);
  await client.next();
  return client;
}

test('a client connects to the main namespace, with and without a payload', async (t) => {
  for (const payload of ['', '{}', '{"a":"b"}']) {
    const client = await opened(t);
    client.send(`40${payload}`);
    const answer = await client.next();
    assert.match(answer, /^40\{"sid":"[\w-]{20}"\}$/);
    assert.equal(await client.next(), `42["auth",${payload || '{}'}]`);
  }
});

test('a client connects to another namespace, and to several', async (t) => {
  const client = await joined(t, server);
  client.send('40/custom,{"a":1}');
  assert.match(await client.next(), /^40\/custom,\{"sid":"[\w-]{20}"\}$/);
  assert.equal(await client.next(), '42/custom,["auth",{"a":1}]');
  // One after the other: events of two namespaces have no order among each other.
  client.send('42/custom,["message","there"]');
  assert.equal(await client.next(), '42/custom,["message-back","there"]');
  client.send('42["message","here"]');
  assert.equal(await client.next(), '42["message-back","here"]');
});

test('a namespace that is not there is refused, and the connection lives on', async (t) => {
  const client = await joined(t, server);
  client.send('40/random');
  assert.equal(await client.next(), '44/random,{"message":"Invalid namespace"}');
  client.send('42["message",1]');
  assert.equal(await client.next(), '42["message-back",1]');
});

test('a connection error names its reason', async (t) => {
  const client = await opened(t);
  client.send('40{"token":"no token"}');
  const refusal = JSON.parse((await client.next()).replace(/^44/, ''));
  assert.equal(refusal.message, 'unauthorized');
  assert.equal(refusal.data.code, 'unauthorized');
  assert.equal(refusal.data.temporary, false);
  assert.doesNotMatch(JSON.stringify(refusal), /no token/, 'what was sent is not repeated');
});

test('a client leaves one namespace and stays in the other', async (t) => {
  const client = await joined(t, server);
  client.send('40/custom');
  await client.next();
  await client.next();
  client.send('41/custom', '42["message",1]');
  assert.equal(await client.next(), '42["message-back",1]');
  client.send('41', '40/custom');
  assert.match(await client.next(), /^40\/custom,/);
});

test('an event for a namespace that the client is not in closes the connection', async (t) => {
  const client = await joined(t, server);
  client.send('42/custom,["message",1]');
  await client.closed();
});

test('a client that leaves a namespace may join it again, under a new id', async (t) => {
  const client = await joined(t, server);
  client.send('41', '40');
  const answer = await client.next();
  assert.match(answer, /^40\{"sid":"[\w-]{20}"\}$/);
  assert.notEqual(answer, client.answer);
});

test('socket.id is what plugins know the connection by, and no engine.io session', async (t) => {
  for (const transports of [...TRANSPORTS.map((name) => [name]), ['polling', 'websocket']]) {
    const socket = await connect(t, server, { transports });
    assert.equal(await ask(socket, 'id'), socket.id);
    assert.notEqual(socket.id, socket.io.engine.id);
    const custom = await connect(t, server, { transports, namespace: '/custom' });
    assert.equal(await ask(custom, 'id'), custom.id);
  }
  const client = await poller(server);
  const packets = await client.join();
  assert.ok(packets.some((packet) => /^40\{"sid":"[\w-]{20}"\}$/.test(packet)), String(packets));
});

const MESSAGES = [
  ['plain values', '[1,"2",{"3":[true]}]', []],
  ['binary attachments', '[{"_placeholder":true,"num":0},"a",{"_placeholder":true,"num":1}]', [[1, 2, 3], []]],
];
for (const [what, args, attachments] of MESSAGES) {
  test(`${what} come back as they were sent`, async (t) => {
    const client = await joined(t, server);
    const inner = args.slice(1, -1);
    const [type, ackType] = attachments.length ? [`45${attachments.length}-`, `46${attachments.length}-`] : ['42', '43'];
    const binary = attachments.map((bytes) => Buffer.from(bytes));
    client.send(`${type}["message",${inner}]`, ...binary);
    assert.equal(await client.next(), `${type}["message-back",${inner}]`);
    for (const bytes of binary) assert.deepEqual(await client.next(), bytes);
    client.send(`${type}456["message-with-ack",${inner}]`, ...binary);
    assert.equal(await client.next(), `${ackType}456${args}`);
    for (const bytes of binary) assert.deepEqual(await client.next(), bytes);
  });
}

const BAD = ['4', '4abc', '47', '42{}', '42abc["message"]', '42["message"', '45["message"]', '451-["message"]'];
for (const packet of BAD) {
  test(`an invalid packet ${packet} closes the connection`, async (t) => {
    const client = await joined(t, server);
    // The last one announces an attachment; a text follows instead.
    client.send(packet, '42["message",1]');
    await client.closed();
  });
}

const ODD = 'quote" backslash\\ newline\n bell\u0007 ünï😀';

test('an event may have any name', async (t) => {
  for (const transports of [...TRANSPORTS.map((name) => [name]), ['polling', 'websocket']]) {
    const socket = await connect(t, server, { transports });
    assert.deepEqual(await ask(socket, ODD, { a: [1, 'x"y'] }), { a: [1, 'x"y'] });
    assert.deepEqual(await nextEvent(socket, ODD), [{ a: [1, 'x"y'] }]);
    const bytes = Buffer.from([1, 2, 3]);
    assert.deepEqual(Buffer.from(await ask(socket, ODD, bytes)), bytes);
    for (const name of ['mixlab:escaped', '"', '\\', '\\"', '\u2028', '[', '","', ' ']) {
      const refused = await ask(socket, name, 1);
      assert.equal(refused.error.code, 'unknown_event', name);
      assert.ok(refused.error.message.includes(JSON.stringify(name).slice(1, -1)) || refused.error.message.length > 0);
    }
    assert.equal(await ask(socket, 'message-with-ack', 'still connected'), 'still connected');
  }
});

test('a packet that arrives in small pieces is one packet', async (t) => {
  const client = await joined(t, server);
  const { _socket: tcp } = client.socket;
  const payload = Buffer.from(JSON.stringify(['message-with-ack', ODD]));
  const body = Buffer.concat([Buffer.from('427'), payload]);
  const odd = Buffer.concat([Buffer.from('428'), Buffer.from(JSON.stringify([ODD, 1]))]);
  for (const packet of [body, odd, body]) {
    const mask = Buffer.from([1, 2, 3, 4]);
    const masked = packet.map((byte, index) => byte ^ mask[index % 4]);
    const frame = Buffer.concat([Buffer.from([0x81, 0x80 | packet.length]), mask, masked]);
    for (const byte of frame) {
      tcp.write(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
  }
  assert.equal(await client.nextMessage(), `437${JSON.stringify([ODD])}`);
  assert.equal(await client.nextMessage(), `42${JSON.stringify([ODD, 1])}`);
  assert.equal(await client.nextMessage(), '438[1]');
  assert.equal(await client.nextMessage(), `437${JSON.stringify([ODD])}`);
});

test('events are handled in the order they were sent', async (t) => {
  for (const transports of TRANSPORTS.map((name) => [name])) {
    const socket = await connect(t, server, { transports });
    const count = 500;
    const answers = Array.from({ length: count }, (_, index) => socket.emitWithAck('message-with-ack', index));
    const order = [];
    await Promise.all(answers.map((answer) => answer.then((index) => order.push(index))));
    assert.deepEqual(order, Array.from({ length: count }, (_, index) => index));
  }
});

for (const [policy, buffer] of [
  ['disconnect', 'send_buffer = 16'],
  ['drop', 'send_buffer = 16'],
  ['disconnect', 'send_buffer_bytes = "200KiB"'],
]) {
  test(`a client that reads too slowly: ${policy}, ${buffer}`, async (t) => {
    const strict = await startServer(t, {
      config: `[socket]\n${buffer}\nslow_client = "${policy}"`,
      plugins: [CONFORMANCE],
    });
    const slow = await joined(t, strict);
    slow.send('421["join","studio"]');
    await slow.nextMessage();
    const other = await connect(t, strict);
    const quick = await connect(t, strict);
    await ask(quick, 'join', 'studio');
    slow.socket.pause();
    let sent = 0;
    const full = () => /missed an event/.test(strict.log());
    while (!full() && sent < 10_000) {
      await ask(other, 'tell', 'studio', `${sent++} ${'x'.repeat(50_000)}`);
      await nextEvent(quick, 'told');
    }
    assert.ok(full(), `${sent} events were sent`);
    // What fits into the kernel's buffers beside it is less than the default of 16 MiB.
    assert.ok(sent < 330, `${sent} events were sent`);
    slow.socket.resume();
    if (policy === 'disconnect') return slow.closed();
    // What is sent while its buffer is still full is dropped as well.
    await until(() => {
      slow.send('42["message","still there"]');
      return slow.waiting.some((packet) => packet.includes('still there'));
    });
  });
}
