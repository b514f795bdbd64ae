// Websockets whose messages are deflated (RFC 7692), beside `ws` of Node as server and as client.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { deflateRaw, inflateRawSync, constants } from 'node:zlib';
import WebSocket, { WebSocketServer } from 'ws';
import { launch, openPage, STOCK_CLIENT } from '../support/browser.mjs';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import { BINARY, close, CONTINUATION, frame, frameSocket, joinedFrames, PING, TEXT, upgrade } from '../support/frames.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const MAX_PAYLOAD = 1_000_000;
const CONFIG = `
[socket]
per_message_deflate = true
max_payload = ${MAX_PAYLOAD}
`;
const server = await startServer({ after }, { config: CONFIG, plugins: [CONFORMANCE] });
const plain = await startServer({ after }, { plugins: [CONFORMANCE] });

const OFFER = 'permessage-deflate; client_max_window_bits';
const AGREED = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
const offering = (offer = OFFER) => upgrade(server, { headers: { 'sec-websocket-extensions': offer } });

/** The answer to an offer: the status, and what was agreed on. */
function answerOf({ head }) {
  const [, status] = head.match(/^HTTP\/1.1 (\d+)/);
  return { status: Number(status), agreed: head.match(/^sec-websocket-extensions: (.*)\r?$/im)?.[1] };
}

const TAIL = Buffer.from([0, 0, 255, 255]);
const { Z_SYNC_FLUSH } = constants;
/** A message as a client deflates it. */
const deflated = async (message) => {
  const bytes = await promisify(deflateRaw)(Buffer.from(message), { finishFlush: Z_SYNC_FLUSH });
  return bytes.subarray(0, bytes.length - TAIL.length);
};
const inflated = (payload) => inflateRawSync(Buffer.concat([payload, TAIL]), { finishFlush: Z_SYNC_FLUSH }).toString();

/** A message that becomes much smaller. */
const LONG = 'all work and no play makes a dull event. '.repeat(1000);

/** How many bytes a stock client over a websocket has read so far. */
const bytesRead = (socket) => socket.io.engine.transport.ws._socket.bytesRead;
const extensions = (socket) => socket.io.engine.transport.ws.extensions;

/** ws with the options that keep nothing between messages, as MixLab has it. */
async function reference(t) {
  const web = createServer();
  const perMessageDeflate = { serverNoContextTakeover: true, clientNoContextTakeover: true };
  const sockets = new WebSocketServer({ server: web, perMessageDeflate, maxPayload: MAX_PAYLOAD });
  sockets.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  web.listen(0, '127.0.0.1');
  await once(web, 'listening');
  t.after(() => {
    sockets.close();
    for (const socket of sockets.clients) socket.terminate();
    web.close();
  });
  return { port: web.address().port };
}

test('offers are answered as by ws with the same options', async (t) => {
  const node = await reference(t);
  for (const offer of [
    undefined,
    'permessage-deflate',
    OFFER,
    'permessage-deflate; server_no_context_takeover',
    'permessage-deflate; client_no_context_takeover; server_no_context_takeover',
    'permessage-deflate;server_max_window_bits=15',
    'permessage-deflate; server_max_window_bits="15"; client_max_window_bits',
    'x-webkit-deflate-frame, permessage-deflate',
    'x-webkit-deflate-frame',
    'permessage-deflate; ',
    'permessage-deflate=1',
    ',',
  ]) {
    const headers = offer === undefined ? {} : { 'sec-websocket-extensions': offer };
    const request = (to) => upgrade(to, { headers });
    const [ours, theirs] = [server, node].map(async (to) => answerOf(await frameSocket(t, to, request(to))));
    const parameters = ({ agreed, status }) => ({ status, agreed: agreed?.split('; ').toSorted() });
    assert.deepEqual(parameters(await ours), parameters(await theirs), offer);
  }
});

test('offers that cannot be taken as they are are declined, where ws refuses the websocket or has another window', async (t) => {
  for (const [offer, agreed] of [
    ['permessage-deflate; server_max_window_bits=9', undefined],
    ['permessage-deflate; server_max_window_bits=9, permessage-deflate', AGREED],
    ['permessage-deflate; unknown', undefined],
    ['permessage-deflate; client_max_window_bits=20', undefined],
  ]) {
    const socket = await frameSocket(t, server, offering(offer));
    assert.deepEqual(answerOf(socket), { status: 101, agreed }, offer);
    await socket.text(/^0\{/);
  }
});

test('nothing is agreed on unless it is switched on', async (t) => {
  const request = upgrade(plain, { headers: { 'sec-websocket-extensions': OFFER } });
  assert.deepEqual(answerOf(await frameSocket(t, plain, request)), { status: 101, agreed: undefined });
});

test('messages of the threshold and more are deflated, and no others', async (t) => {
  const socket = await joinedFrames(t, server, offering());
  const answer = async (length) => {
    socket.frames.length = 0;
    socket.write(frame(TEXT, `427["message-with-ack","${'x'.repeat(length)}"]`));
    await until(() => socket.frames.length > 0, { message: 'an answer' });
    return socket.frames[0];
  };
  const short = await answer(100);
  assert.deepEqual([short.deflated, short.payload.toString()], [undefined, `437["${'x'.repeat(100)}"]`]);
  const long = await answer(2000);
  assert.deepEqual([long.deflated, inflated(long.payload)], [true, `437["${'x'.repeat(2000)}"]`]);
  assert.ok(long.payload.length < 100);
});

for (const transports of [['websocket'], ['polling', 'websocket']]) {
  test(`a stock client sends and gets them: ${transports}`, async (t) => {
    const socket = await connect(t, server, { transports });
    await until(() => socket.io.engine.transport.name === 'websocket');
    assert.match(extensions(socket), /^permessage-deflate/);
    const before = bytesRead(socket);
    const bytes = Buffer.alloc(50_000, 'ab');
    for (let round = 0; round < 3; round++) {
      assert.equal(await ask(socket, 'message-with-ack', LONG), LONG);
      const { data, word } = await ask(socket, 'message-with-ack', { data: bytes, word: 'é' });
      assert.deepEqual([Buffer.from(data), word], [bytes, 'é']);
    }
    assert.ok(bytesRead(socket) - before < 20_000, `${bytesRead(socket) - before} bytes for ${3 * (LONG.length + bytes.length)}`);
  });
}

test('a broadcast reaches those that agreed and those that did not', async (t) => {
  const [agreed, without, polls, other] = await Promise.all([
    connect(t, server),
    connect(t, server, { perMessageDeflate: false }),
    connect(t, server, { transports: ['polling'] }),
    connect(t, server),
  ]);
  assert.equal(extensions(without), '');
  const all = [agreed, without, polls, other];
  const before = bytesRead(agreed);
  for (const socket of all) await ask(socket, 'join', 'deflated');
  const body = { rooms: ['deflated'], event: 'told', arguments: [LONG] };
  assert.equal((await server.api('POST', '/api/v1/emit', body)).body.delivered, 4);
  for (const socket of all) assert.deepEqual(await nextEvent(socket, 'told'), [LONG]);
  assert.ok(bytesRead(agreed) - before < 5_000);
  assert.ok(bytesRead(without) > LONG.length);
});

test('who comes back gets what was missed, deflated or not', async (t) => {
  const server = await startServer(t, { config: CONFIG, recovery: true, plugins: [CONFORMANCE] });
  const socket = await connect(t, server, { reconnection: true, reconnectionDelay: 10 });
  await ask(socket, 'join', 'missed');
  const told = async (data) => server.api('POST', '/api/v1/emit', { rooms: ['missed'], event: 'told', arguments: [data] });
  await told('first');
  await nextEvent(socket, 'told');
  socket.io.engine.transport.ws.terminate();
  await until(() => !socket.connected);
  for (let index = 0; index < 3; index++) await told(LONG);
  await until(() => received(socket, 'told').length === 4);
  assert.equal(socket.recovered, true);
  for (const [text] of received(socket, 'told').slice(1)) assert.equal(text, LONG);
});

test('what is wrong closes the websocket as ws does', async (t) => {
  const node = await reference(t);
  const bomb = await deflated(Buffer.alloc(MAX_PAYLOAD + 1, 'x'));
  assert.ok(bomb.length < 2000);
  const good = await deflated('2probe');
  for (const [name, frames, code] of [
    ['more than max_payload when it is inflated', frame(TEXT, bomb, { rsv: 4 }), 1009],
    ['the same in fragments', [frame(TEXT, bomb.subarray(0, 100), { rsv: 4, fin: false }), frame(CONTINUATION, bomb.subarray(100))], 1009],
    ['more than max_payload as it is', frame(BINARY, '', { rsv: 4, length: MAX_PAYLOAD + 1 }), 1009],
    ['no deflated data', frame(TEXT, Buffer.from([0xff, 0xff, 0xff]), { rsv: 4 }), 1007],
    ['no UTF-8 in it', frame(TEXT, await deflated(Buffer.from([0xff])), { rsv: 4 }), 1007],
    ['a mark on a control frame', frame(PING, 'x', { rsv: 4 }), 1002],
    ['a mark on a continuation', [frame(TEXT, good.subarray(0, 2), { rsv: 4, fin: false }), frame(CONTINUATION, good.subarray(2), { rsv: 4 })], 1002],
    ['another mark', frame(TEXT, good, { rsv: 6 }), 1002],
  ]) {
    const codes = await Promise.all(
      [server, node].map(async (to) => {
        const socket = await frameSocket(t, to, upgrade(to, { headers: { 'sec-websocket-extensions': OFFER } }));
        if (to === server) await socket.text(/^0\{/);
        socket.write(frames);
        await until(() => socket.close(), { message: () => `${name}: a Close of ${to === server ? 'MixLab' : 'ws'}` });
        const told = socket.close().readUInt16BE(0);
        socket.write(close(told));
        await socket.end();
        return told;
      }),
    );
    assert.deepEqual(codes, [code, code], name);
  }
  // The server goes on.
  assert.equal(await ask(await connect(t, server), 'message-with-ack', 1), 1);
});

test('a message of exactly max_payload is taken, in one frame and in many', async (t) => {
  const socket = await joinedFrames(t, server, offering());
  const head = '42["nothing","';
  const text = `${head}${'x'.repeat(MAX_PAYLOAD - head.length - 2)}"]`;
  const bytes = await deflated(text);
  socket.write(frame(TEXT, bytes, { rsv: 4 }));
  const half = bytes.length >> 1;
  socket.write(frame(TEXT, bytes.subarray(0, half), { rsv: 4, fin: false }), frame(CONTINUATION, bytes.subarray(half)));
  socket.write(frame(TEXT, await deflated('427["message-with-ack",1]'), { rsv: 4 }));
  await socket.text(/^437\[1\]$/);
});

test('messages that become very large are all answered, in their order, however many come at once', async (t) => {
  const socket = await joinedFrames(t, server, offering());
  const arguments_ = `${'1,'.repeat(MAX_PAYLOAD / 2 - 100)}1`;
  const events = await Promise.all([...Array(20).keys()].map((i) => deflated(`42${i}["nothing",${arguments_}]`)));
  assert.ok(Buffer.concat(events).length < 65_536, 'they are read in a row');
  socket.write(events.map((event) => frame(TEXT, event, { rsv: 4 })), frame(TEXT, '4220["message-with-ack",1]'));
  await socket.text(/^4320\[1\]$/);
  const acks = socket.texts().map((text) => text.match(/^43(\d+)\[/)?.[1]).filter(Boolean);
  assert.deepEqual(acks, [...Array(21).keys()].map(String));
});

test('Chromium agrees on it and understands', async (t) => {
  const browser = await launch(t);
  const page = await openPage(t, browser, `${server.url}/healthz`);
  await page.addScriptTag({ path: STOCK_CLIENT });
  const answer = await page.evaluate(async (long) => {
    const socket = window.io(location.origin, { transports: ['websocket'], forceNew: true });
    const back = await socket.timeout(20_000).emitWithAck('message-with-ack', long, new Uint8Array(5000).fill(7));
    const { extensions } = socket.io.engine.transport.ws;
    socket.disconnect();
    return { back, extensions };
  }, LONG);
  assert.equal(answer.back, LONG);
  assert.match(answer.extensions, /^permessage-deflate; server_no_context_takeover; client_no_context_takeover/);
});

test('a stock websocket of ws that wants no context kept is served', async (t) => {
  const perMessageDeflate = { serverNoContextTakeover: true, clientNoContextTakeover: true, serverMaxWindowBits: 15, threshold: 0 };
  const ws = new WebSocket(`${server.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`, { perMessageDeflate });
  t.after(() => ws.terminate());
  const heard = [];
  ws.on('message', (data) => heard.push(data.toString()));
  await once(ws, 'open');
  for (const packet of ['40', `421["message-with-ack","${LONG}"]`]) ws.send(packet);
  await until(() => heard.some((packet) => packet === `431["${LONG}"]`));
});
