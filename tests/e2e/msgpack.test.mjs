// Packets in msgpack: the stock client with socket.io-msgpack-parser, on MixLab and on Node's own server with it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import parser from 'socket.io-msgpack-parser';
import WebSocket from 'ws';
import { ask, askAll, connect, disconnected, nextEvent, open, received } from '../support/client.mjs';
import { startNode } from '../support/node-server.mjs';
import { rawPolling } from '../support/raw.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const PLUGINS = [CONFORMANCE, { wasm: 'capabilities', grants: ['payments', 'notify', 'role:*', 'clients', 'room:own', 'emit:own', 'ask:own', 'handshake', 'find', 'disconnect'] }];
const server = await startServer({ after }, { config: '[socket]\nparser = "msgpack"\n', plugins: PLUGINS });
const node = await startNode({ after }, { parser });

const both = (make) => Promise.all([server, node].map(make));

/** What values become whose bytes are compared by their hex. */
const shown = (value) =>
  JSON.stringify(value, (_, it) => (it instanceof ArrayBuffer ? `bytes ${Buffer.from(it).toString('hex')}` : it?.type === 'Buffer' ? `bytes ${Buffer.from(it.data).toString('hex')}` : it instanceof Uint8Array ? `bytes ${Buffer.from(it).toString('hex')}` : it));

const MESSAGES = [
  [],
  [1, -1, 1.5, 2 ** 40, -(2 ** 40), 0],
  ['', 'é', '\u0000"\\', 'x'.repeat(70_000)],
  [null, true, false],
  [{ a: [1, { b: null }], c: {} }, []],
  [Buffer.from([1, 2, 3])],
  [{ deep: [{ bytes: Buffer.alloc(300, 7) }], more: 1 }, 'text', Buffer.alloc(0)],
  [new Date(0), { at: new Date(1_700_000_000_123) }, undefined],
  [new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]), new Uint8Array(70_000).buffer],
  [Array.from({ length: 100 }).reduce((inner) => [inner], Buffer.from('deep'))],
];

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  test(`events and acks are what they are with Node: ${transports}`, async (t) => {
    const seen = await both(async (to) => {
      const socket = await connect(t, to, { parser, transports });
      await until(() => socket.io.engine.transport.name === transports.at(-1));
      const seen = [];
      for (const message of MESSAGES) {
        seen.push(shown(await askAll(socket, 'message-with-ack', ...message)));
        socket.emit('message', ...message);
        seen.push(shown(await nextEvent(socket, 'message-back')));
      }
      return seen;
    });
    assert.deepEqual(seen[0], seen[1]);
    for (const [index, message] of MESSAGES.entries()) {
      assert.equal(seen[0][2 * index], shown(message));
      assert.equal(seen[0][2 * index + 1], shown(message));
    }
  });
}

test('numbers that no double holds are what they are in JSON', async (t) => {
  const socket = await connect(t, server, { parser });
  const emit = (text) => server.api('POST', '/api/v1/emit', `{"everyone":true,"event":"told","arguments":${text}}`);
  assert.equal((await emit('[1e999,-1e999,{"a":[1e-999,-0]}]')).status, 200);
  assert.deepEqual(await nextEvent(socket, 'told'), [Infinity, -Infinity, { a: [0, -0] }]);
});

test('a message of very many values takes memory in proportion, and one of too many attachments is none', async (t) => {
  const rss = () => Number(readFileSync(`/proc/${server.pid}/status`, 'utf8').match(/VmHWM:\s+(\d+)/)[1]);
  const send = async (data) => {
    const socket = await connect(t, server, { parser });
    socket.io.engine.write(data);
    return socket;
  };
  // {"type":2,"nsp":"/","data":["x",[…]]}
  const event = (values) => Buffer.concat([Buffer.from('83a47479706502a36e7370a12fa46461746192a178dd', 'hex'), values]);
  const many = (value, count) => {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(count);
    return event(Buffer.concat([head, Buffer.alloc(count * value.length, value)]));
  };
  await (await send(many(Buffer.from([0xc0]), 10))).emitWithAck('message-with-ack', 1);
  const before = rss();
  const socket = await send(many(Buffer.from([0xc0]), 900_000));
  assert.equal((await ask(socket, 'message-with-ack', 2)), 2);
  assert.ok(rss() - before < 100_000, `${rss() - before} KiB more`);
  const ended = await send(many(Buffer.from([0xc4, 0]), 450_000));
  await disconnected(ended);
  assert.ok(rss() - before < 100_000, `${rss() - before} KiB more`);
});

test('namespaces, their ends and what is said on connecting are as with Node', async (t) => {
  const seen = await both(async (to) => {
    const auth = { word: 'x', list: [1] };
    const main = await connect(t, to, { parser, auth });
    const custom = main.io.socket('/custom', { auth });
    custom.connect();
    const [said] = await new Promise((resolve) => custom.once('auth', (...said) => resolve(said)));
    const answer = await ask(custom, 'message-with-ack', 'here');
    custom.disconnect();
    const rest = await ask(main, 'message-with-ack', 'still');
    return { said, answer, rest, auth: received(main, 'auth')[0] };
  });
  assert.deepEqual(seen[0], seen[1]);
  assert.deepEqual(seen[0].said, { word: 'x', list: [1] });
});

test('what is nested too deep is answered, and its client stays', async (t) => {
  const socket = await connect(t, server, { parser });
  const nested = (levels) => Array.from({ length: levels }).reduce((inner) => [inner], 1);
  assert.deepEqual(await askAll(socket, 'message-with-ack', nested(100)), [nested(100)]);
  for (const levels of [128, 129, 1000]) {
    const { error } = await ask(socket, 'message-with-ack', nested(levels));
    assert.deepEqual([error?.code, error?.message], ['invalid_payload', 'nested deeper than 127 levels'], `${levels}`);
  }
  assert.ok(socket.connected);
});

test('a client without the parser is sent away, as by Node', async (t) => {
  const ends = await both(async (to) => {
    const socket = open(t, to, {});
    return new Promise((resolve) => {
      socket.io.on('close', resolve);
      socket.on('connect', () => resolve('connected'));
    });
  });
  assert.deepEqual(ends, ['transport close', 'transport close']);
});

test('what is no packet ends the session, as with Node', async (t) => {
  for (const [name, bytes] of [
    ['no msgpack', Buffer.from([0xc1])],
    ['no map', Buffer.from([0x93, 1, 2, 3])],
    ['more behind it', Buffer.from([0x80, 0x80])],
    ['a text', '40'],
  ]) {
    await both(async (to) => {
      const ws = new WebSocket(`${to.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
      t.after(() => ws.terminate());
      ws.on('open', () => ws.send(bytes));
      await until(() => ws.readyState === WebSocket.CLOSED, { message: () => `${name} ends it on ${to === node ? 'Node' : 'MixLab'}` });
    });
  }
  assert.equal(await ask(await connect(t, server, { parser }), 'message-with-ack', 1), 1);
});

/** A packet whose id is a float, which the stock encoder writes of fractions alone. */
function withFloat(packet, id) {
  const half = Buffer.from('cb3fe0000000000000', 'hex');
  const written = Buffer.from(new parser.Encoder().encode({ ...packet, id: 0.5 })[0]);
  const at = written.indexOf(half);
  assert.ok(at > 0);
  written.writeDoubleBE(id, at + 1);
  return written;
}

test('ids are whole numbers however they are written, and an ack of nothing is no fault, as with Node', async (t) => {
  const unpacked = (bytes) => new Promise((resolve) => {
    const decoder = new parser.Decoder();
    decoder.on('decoded', resolve);
    decoder.add(bytes);
  });
  const [joins] = new parser.Encoder().encode({ type: 0, nsp: '/', data: {} });
  const seen = await both(async (to) => {
    const ws = new WebSocket(`${to.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
    t.after(() => ws.terminate());
    const packets = [];
    ws.on('message', async (data, isBinary) => isBinary && packets.push(await unpacked(data)));
    await new Promise((resolve) => ws.once('message', resolve));
    ws.send(joins);
    await until(() => packets.length > 0);
    const nothing = { type: 3, nsp: '/', data: [1] };
    for (const id of [-1, 2 ** 60]) ws.send(new parser.Encoder().encode({ ...nothing, id })[0]);
    for (const id of [7, -3, 1e300]) ws.send(withFloat(nothing, id));
    ws.send(withFloat({ type: 2, nsp: '/', data: ['message-with-ack', 'x'] }, 7));
    const answer = () => packets.find(({ type }) => type === 3);
    await until(() => answer() || ws.readyState === WebSocket.CLOSED);
    const { nsp, data, id } = answer() ?? {};
    ws.send(withFloat(nothing, 1.5));
    await until(() => ws.readyState === WebSocket.CLOSED, { message: () => 'a fraction ends it' });
    return { nsp, data, id };
  });
  assert.deepEqual(seen, [{ nsp: '/', data: ['x'], id: 7 }, { nsp: '/', data: ['x'], id: 7 }]);
});

test('polls have packets as base64', async (t) => {
  const polls = await rawPolling(server);
  const [packed] = new parser.Encoder().encode({ type: 0, nsp: '/' });
  assert.equal((await polls.post(`b${Buffer.from(packed).toString('base64')}`)).text, 'ok');
  await polls.packet(/^b/);
});

test('tokens, rooms and emits of backends reach it', async (t) => {
  const socket = await connect(t, server, { parser, token: token({ sub: '7' }) });
  assert.equal((await nextEvent(socket, 'authenticated'))[0].user.id, '7');
  await ask(socket, 'join', 'packed');
  await server.api('POST', '/api/v1/emit', { rooms: ['packed'], event: 'told', arguments: [{ a: [1, 'é'] }] });
  assert.deepEqual(await nextEvent(socket, 'told'), [{ a: [1, 'é'] }]);
  const refused = await connect(t, server, { parser, token: 'bad' }).catch((error) => error);
  assert.deepEqual([refused.message, refused.data.code], ['unauthorized', 'unauthorized']);
  const nowhere = await both((to) => connect(t, to, { parser, namespace: '/nowhere' }).catch((error) => error.message));
  assert.deepEqual(nowhere, ['Invalid namespace', 'Invalid namespace']);
});

test('who comes back gets what was missed, and messages may be deflated, too', async (t) => {
  const config = '[socket]\nparser = "msgpack"\nper_message_deflate = true\n';
  const server = await startServer(t, { config, recovery: true, plugins: [CONFORMANCE] });
  const socket = await connect(t, server, { parser, reconnection: true, reconnectionDelay: 10 });
  const long = { bytes: Buffer.alloc(2000, 1), text: 'again and again '.repeat(500) };
  assert.equal(shown(await ask(socket, 'message-with-ack', long)), shown(long));
  await ask(socket, 'join', 'missed');
  const tell = (data) => server.api('POST', '/api/v1/emit', { rooms: ['missed'], event: 'told', arguments: [data] });
  await tell(0);
  await nextEvent(socket, 'told');
  socket.io.engine.transport.ws.terminate();
  await until(() => !socket.connected);
  for (const data of [1, 2, long.text]) await tell(data);
  await until(() => received(socket, 'told').length === 4);
  assert.equal(socket.recovered, true);
  assert.deepEqual(received(socket, 'told').map(([data]) => data), [0, 1, 2, long.text]);
  const { bytesRead } = socket.io.engine.transport.ws._socket;
  assert.ok(bytesRead < 6000, `${bytesRead}`);
});

test('a client leaves, and is sent away, as with JSON', async (t) => {
  const socket = await connect(t, server, { parser, token: token({ sub: 'sent-away' }) });
  await server.api('POST', '/api/v1/users/sent-away/disconnect');
  assert.match(await disconnected(socket), /^(io server disconnect|transport close)$/);
});
