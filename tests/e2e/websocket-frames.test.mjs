// RFC 6455 by the byte: the cases of the public WebSocket test suites that need no echo server, played on
// the Socket.IO endpoint. The same cases are played on Socket.IO's own server on Node.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import WebSocket from 'ws';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import {
  BINARY,
  CLOSE,
  close,
  CONTINUATION,
  fragments,
  frame,
  frameSocket,
  joinedFrames,
  PING,
  PONG,
  TEXT,
  upgrade,
} from '../support/frames.mjs';
import { startNode } from '../support/node-server.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { PATIENCE, until } from '../support/wait.mjs';

const MAX_PAYLOAD = 1_000_000;
const server = await startServer({ after }, { plugins: [CONFORMANCE] });
const node = await startNode({ after }, { maxHttpBufferSize: MAX_PAYLOAD });

/** Is told what the cases say behind a bad frame, if it is handled. */
const observer = await connect({ after }, server);
await ask(observer, 'join', 'observers');
const speaker = await connect({ after }, server);

// What cases send, and what comes back

const each = (values, make) => Object.fromEntries(values.map(make));
const hex = (text) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const packet = (text, id = 7) => `42${id}["message-with-ack","${text}"]`;
const event = (text, id) => frame(TEXT, packet(text, id));
const ack = (text, id = 7) => `43${id}["${text}"]`;
const pong = (payload) => `pong ${Buffer.from(payload).toString('hex')}`;
const ping = (payload) => frame(PING, payload);
/** An event whose packet has so many bytes. */
const sized = (length) => 'x'.repeat(length - packet('').length);
/** Splits bytes at these places. */
function cut(bytes, ...places) {
  const all = Buffer.from(bytes);
  return [0, ...places].map((place, i) => all.subarray(place, places[i] ?? all.length));
}
/** Splits bytes into pieces of one size. */
const pieces = (bytes, size) => cut(bytes, ...Array.from({ length: Math.ceil(bytes.length / size) - 1 }, (_, i) => (i + 1) * size));
const raw = (...parts) => Buffer.concat(parts.map((part) => Buffer.from(part)));
/** An event with bytes in its text. */
const bytesEvent = (bytes) => raw('427["message-with-ack","', bytes, '"]');

/** Not as it should be: nothing of it is handled. */
const bad = (frames, end, before, more) => ({ send: [frames].flat(), end, before, ...more });
/** Handled, and the connection goes on. */
const good = (frames, answers, more) => ({ send: [frames].flat(), answers: [answers].flat(), end: 'open', ...more });

/**
 * `send`: frames; `answers`: texts and pongs that come back; `before`: an answer to what was good in it,
 * if it came in time; `end`: `open`, or the code of the server's Close (`none` without one, `empty`
 * without a code), or several that will do; `chop`: the size of the pieces in which it is written.
 */
const CASES = {
  // Lengths
  ...each([125, 126, 127, 128, 65_535, 65_536, 65_537, 900_000], (length) => [
    `a text of ${length} bytes`,
    good(event(sized(length)), ack(sized(length))),
  ]),
  'a text in pieces of 997 bytes': good(event(sized(65_536)), ack(sized(65_536)), { chop: 997 }),
  'a text byte by byte': good(event(sized(200)), ack(sized(200)), { chop: 1 }),
  ...each([0, 1, 125, 126, 127, 128, 65_535, 65_536], (length) => [
    `an attachment of ${length} bytes`,
    good(
      [frame(TEXT, '451-7["message-with-ack",{"_placeholder":true,"num":0}]'), frame(BINARY, Buffer.alloc(length, 0xfe))],
      ['461-7[{"_placeholder":true,"num":0}]', `binary ${length}`],
    ),
  ]),
  'two texts in one piece': good([event('a', 1), event('b', 2)], [ack('a', 1), ack('b', 2)]),
  'a length in two bytes where none is needed': bad(frame(TEXT, packet('x'), { form: 2 }), [1002, 'open'], ack('x')),
  'a length in eight bytes where none is needed': bad(frame(TEXT, packet('x'), { form: 8 }), [1002, 'open'], ack('x')),
  'a length with its highest bit': bad(frame(TEXT, '', { length: 1n << 63n }), [1002, 1009]),
  'a length of 2^53': bad(frame(TEXT, '', { length: 1n << 53n }), 1009),

  // Pings and pongs
  'a ping': good(ping(''), pong('')),
  'a ping with a text': good(ping('Hello, world!'), pong('Hello, world!')),
  'a ping with bytes': good(ping(hex('00 ff fe fd fc fb 00 ff')), pong(hex('00 ff fe fd fc fb 00 ff'))),
  'a ping of 125 bytes': good(ping(Buffer.alloc(125, 0xfe)), pong(Buffer.alloc(125, 0xfe))),
  'a ping of 125 bytes, byte by byte': good(ping(Buffer.alloc(125, 0xfe)), pong(Buffer.alloc(125, 0xfe)), { chop: 1 }),
  'a ping of 126 bytes': bad(ping(Buffer.alloc(126, 0xfe)), 1002),
  'a ping with a length in two bytes': bad(frame(PING, 'x', { form: 2 }), 1002),
  'a pong that nobody asked for': good(frame(PONG, ''), []),
  'a pong with a text that nobody asked for': good(frame(PONG, 'unsolicited'), []),
  'a pong that nobody asked for, and a ping': good([frame(PONG, 'x'), ping('y')], pong('y')),
  'a pong of 126 bytes': bad(frame(PONG, Buffer.alloc(126)), 1002),
  'ten pings': good([...Array(10).keys()].map((i) => ping(`${i}`)), [...Array(10).keys()].map((i) => pong(`${i}`))),
  'ten pings, byte by byte': good([...Array(10).keys()].map((i) => ping(`${i}`)), [...Array(10).keys()].map((i) => pong(`${i}`)), { chop: 1 }),

  // Reserved bits
  ...each([1, 2, 3, 4, 5, 6, 7], (rsv) => [`reserved bits ${rsv} on a text`, bad(frame(TEXT, packet('x'), { rsv }), 1002)]),
  ...each([1, 2, 4], (rsv) => [`reserved bits ${rsv} on an attachment`, bad(frame(BINARY, 'x', { rsv }), 1002)]),
  ...each([1, 2, 4], (rsv) => [`reserved bits ${rsv} on a ping`, bad(frame(PING, 'x', { rsv }), 1002)]),
  ...each([1, 2, 4], (rsv) => [`reserved bits ${rsv} on a Close`, bad(frame(CLOSE, '', { rsv }), 1002)]),
  ...each([1, 2, 4], (rsv) => [
    `reserved bits ${rsv} on a continuation`,
    bad([frame(TEXT, packet('x'), { fin: false }), frame(CONTINUATION, '', { rsv })], 1002),
  ]),
  'reserved bits behind a good text': bad([event('x'), frame(TEXT, packet('y'), { rsv: 2 }), ping('')], 1002, ack('x')),

  // Opcodes
  ...each([3, 4, 5, 6, 7, 11, 12, 13, 14, 15], (opcode) => [`opcode ${opcode}`, bad(frame(opcode), 1002)]),
  ...each([3, 4, 5, 6, 7, 11, 12, 13, 14, 15], (opcode) => [
    `opcode ${opcode} with a payload`,
    bad([frame(opcode, 'reserved'), ping('')], 1002),
  ]),
  'an unknown opcode behind a good text': bad([event('x'), frame(5, 'x'), ping('')], 1002, ack('x')),
  'an unknown opcode between fragments': bad([frame(TEXT, packet('x'), { fin: false }), frame(3), frame(CONTINUATION)], 1002),

  // Masks
  'a text without a mask': bad(frame(TEXT, packet('x'), { masked: false }), 1002),
  'an attachment without a mask': bad(frame(BINARY, 'x', { masked: false }), 1002),
  'a ping without a mask': bad(frame(PING, 'x', { masked: false }), 1002),
  'a Close without a mask': bad(frame(CLOSE, '', { masked: false }), 1002),
  'a continuation without a mask': bad([frame(TEXT, packet('x'), { fin: false }), frame(CONTINUATION, '', { masked: false })], 1002),
  'a mask of zeros': good(frame(TEXT, packet('x'), { mask: [0, 0, 0, 0] }), ack('x')),

  // Fragments
  'a ping in two fragments': bad([frame(PING, 'x', { fin: false }), frame(CONTINUATION, 'y')], 1002),
  'a pong in two fragments': bad([frame(PONG, 'x', { fin: false }), frame(CONTINUATION, 'y')], 1002),
  'a Close in two fragments': bad([frame(CLOSE, hex('03e8'), { fin: false }), frame(CONTINUATION, 'y')], 1002),
  'a text in two fragments': good(fragments(TEXT, ...cut(packet('xyz'), 9)), ack('xyz')),
  'a text in two fragments, byte by byte': good(fragments(TEXT, ...cut(packet('xyz'), 9)), ack('xyz'), { chop: 1 }),
  'a text in fragments of one byte': good(fragments(TEXT, ...pieces(packet('xyz'), 1)), ack('xyz')),
  'empty fragments around a text': good(fragments(TEXT, '', '', packet('x'), '', ''), ack('x')),
  'an attachment in fragments': good(
    [frame(TEXT, '451-7["message-with-ack",{"_placeholder":true,"num":0}]'), ...fragments(BINARY, 'ab', '', 'c')],
    ['461-7[{"_placeholder":true,"num":0}]', 'binary 3'],
  ),
  'a ping between fragments': good(inside(ping('hi')), [pong('hi'), ack('xyz')]),
  'a ping between fragments, byte by byte': good(inside(ping('hi')), [pong('hi'), ack('xyz')], { chop: 1 }),
  'pings between many fragments': good(
    [
      frame(TEXT, packet('').slice(0, 5), { fin: false }),
      ping('1'),
      frame(CONTINUATION, packet('').slice(5, 9), { fin: false }),
      ping('2'),
      frame(CONTINUATION, packet('').slice(9)),
    ],
    [pong('1'), pong('2'), ack('')],
  ),
  'a continuation of nothing': bad([frame(CONTINUATION, 'x'), event('y')], 1002),
  'a continuation of nothing that goes on': bad([frame(CONTINUATION, 'x', { fin: false }), event('y')], 1002),
  'an empty continuation of nothing': bad([frame(CONTINUATION), event('y')], 1002),
  'a continuation of what is complete': bad([...fragments(TEXT, ...cut(packet('x'), 9)), frame(CONTINUATION, 'y')], 1002, ack('x')),
  'a text within a text': bad([frame(TEXT, packet('x'), { fin: false }), event('y')], 1002),
  'an attachment within a text': bad([frame(TEXT, packet('x'), { fin: false }), frame(BINARY, 'y')], 1002),
  'a text within an attachment': bad([frame(BINARY, 'x', { fin: false }), event('y')], 1002),
  'fragments of 64 bytes': good(fragments(TEXT, ...pieces(packet(sized(65_536)), 64)), ack(sized(65_536))),
  'fragments of 1,300 bytes': good(fragments(TEXT, ...pieces(packet(sized(65_536)), 1300)), ack(sized(65_536))),
  'fragments of 64 KiB': good(fragments(TEXT, ...pieces(packet(sized(900_000)), 65_536)), ack(sized(900_000))),

  // UTF-8
  'a text of three scripts': good(event('κόσμε Hello-µ@ßöäüàá-UTF-8!! 日本語 😀'), ack('κόσμε Hello-µ@ßöäüàá-UTF-8!! 日本語 😀')),
  'characters cut by fragments': good(fragments(TEXT, ...pieces(packet('κόσμε 日本語 😀'), 1)), ack('κόσμε 日本語 😀')),
  'characters cut by packets': good(event('κόσμε 日本語 😀'), ack('κόσμε 日本語 😀'), { chop: 1 }),
  ...each(
    ['\u007f', '\u0080', '\u07ff', '\u0800', '\uffff', '\u{10000}', '\u{10ffff}', '\ud7ff', '\ue000', '\ufffd', '\ufffe', '\u{1fffe}', '\ufdd0'],
    (text) => [`U+${text.codePointAt(0).toString(16)}`, good(event(text), ack(text))],
  ),
  ...each(
    [
      'ce ba e1 bd b9 cf 83 ce bc ce b5 ed a0 80 65', 'ce ba e1 bd b9 cf 83 ce bc ce b5 f4 90 80 80', 'f8 88 80 80 80', 'fc 84 80 80 80 80',
      'f7 bf bf bf', 'fb bf bf bf bf', 'fd bf bf bf bf bf', 'f4 90 80 80', '80', 'bf', '80 bf', '80 bf 80 bf', 'c0 20', 'c1 20', 'df 20', 'e0 20',
      'ef 20', 'f0 20', 'f7 20', 'c0', 'e0 80', 'f0 80 80', 'df', 'ef bf', 'f7 bf bf', 'c2', 'e2 82', 'f0 9f 98', 'fe', 'ff', 'fe fe ff ff',
      'c0 af', 'e0 80 af', 'f0 80 80 af', 'f8 80 80 80 af', 'c1 bf', 'e0 9f bf', 'f0 8f bf bf', 'c0 80', 'e0 80 80', 'f0 80 80 80',
      'ed a0 80', 'ed ad bf', 'ed ae 80', 'ed af bf', 'ed b0 80', 'ed be 80', 'ed bf bf', 'ed a0 80 ed b0 80', 'ed af bf ed bf bf',
    ],
    (bytes) => [`bytes ${bytes} in a text`, bad(frame(TEXT, bytesEvent(hex(bytes))), 1007)],
  ),
  'a text that ends within a character': bad(frame(TEXT, raw(packet('x'), hex('e2 82'))), 1007),
  'bytes that are no UTF-8 in the first of two fragments': bad(
    fragments(TEXT, raw('427["message-with-ack","', hex('f4 90 80 80')), '"]'),
    1007,
  ),
  'bytes that are no UTF-8 in the second of two fragments': bad(fragments(TEXT, '427["message-with-ack","', raw(hex('f4 90 80 80'), '"]')), 1007),
  'an overlong character over two fragments': bad(fragments(TEXT, raw('427["message-with-ack","', hex('c0')), raw(hex('af'), '"]')), 1007),
  'a text that is no UTF-8, byte by byte': bad(frame(TEXT, bytesEvent(hex('ff'))), 1007, undefined, { chop: 1 }),
  'a packet of one byte that is no UTF-8': bad(frame(TEXT, hex('ff')), 1007),

  // Close
  'a Close without a code': bad(frame(CLOSE), ['empty', 1000]),
  'a Close with one byte': bad(frame(CLOSE, 'x'), 1002),
  'a Close with a code and words': bad(close(1000, 'Hello World!'), 1000),
  'a Close with 123 bytes of words': bad(close(1000, '*'.repeat(123)), 1000),
  'a Close with 124 bytes of words': bad(close(1000, '*'.repeat(124)), 1002),
  'a Close byte by byte': bad(close(1001, 'bye'), 1001, undefined, { chop: 1 }),
  'a Close with words that are no UTF-8': bad(close(1000, hex('ce ba e1 bd b9 cf 83 ce bc ce b5 ed a0 80 65')), 1007),
  'a Close with words that end within a character': bad(close(1000, hex('e2 82')), 1007),
  'two Closes': bad([close(1000), close(1001)], 1000),
  'a ping behind a Close': bad([close(1000), ping('x')], 1000),
  'a text behind a Close': bad([close(1000), event('x')], 1000),
  'a bad frame behind a Close': bad([close(1000), frame(3)], 1000),
  'a Close between fragments': bad([frame(TEXT, packet('x'), { fin: false }), close(1000), frame(CONTINUATION)], 1000),
  'a text, and a Close': bad([event('x'), close(1000)], 1000, ack('x')),
  'a long text, and a Close': bad([event(sized(256_000)), close(1000)], 1000, ack(sized(256_000))),
  ...each([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999], (code) => [
    `a Close with code ${code}`,
    bad(close(code), code),
  ]),
  // Registered later than the others; not every library knows it.
  'a Close with code 1014': bad(close(1014), [1014, 1002]),
  ...each([0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535], (code) => [`a Close with code ${code}`, bad(close(code), 1002)]),

  // Sizes
  'a text that is too long': bad(event(sized(MAX_PAYLOAD + 100)), 1009),
  'an attachment that is too long': bad(
    [frame(TEXT, '451-7["message-with-ack",{"_placeholder":true,"num":0}]'), frame(BINARY, Buffer.alloc(MAX_PAYLOAD + 1))],
    1009,
  ),
  'a text that says it is too long': bad(frame(TEXT, 'x', { length: MAX_PAYLOAD + 1 }), 1009),
  'fragments that are too long together': bad(fragments(TEXT, ...pieces(packet(sized(MAX_PAYLOAD + 100)), 65_536)), 1009),
  'a fragment that says it is too long for those before': bad(
    [frame(TEXT, Buffer.alloc(600_000, 'x'), { fin: false }), frame(CONTINUATION, 'x', { length: 600_000 })],
    1009,
  ),
};


/** A text in two fragments with something in between. */
function inside(other) {
  const [start, end] = fragments(TEXT, ...cut(packet('xyz'), 9));
  return [start, other, end];
}

/** What the words behind a Close that the server began may be. */
const WORDS = /^[\p{L}\p{N}\p{P}\p{S} ]*$/u;
/** Sent behind every case: whether it is answered tells whether the connection goes on. */
const MARKER = packet('marker', 999);
const MARKED = ack('marker', 999);

/** Plays a case: `{ answers, end }`. `behind` goes between it and the marker. */
async function play(t, on, { send, chop }, behind = []) {
  const socket = await joinedFrames(t, on);
  if (chop) await socket.chop(chop, ...send);
  else socket.write(...send);
  socket.write(...behind, frame(TEXT, MARKER));
  await until(() => socket.close() || socket.ended || socket.texts().includes(MARKED), {
    message: () => `a Close, or an answer: ${socket.texts().join().slice(0, 500)}`,
  });
  const closed = socket.close();
  if (closed) {
    // The other half of the closing handshake.
    socket.write(frame(CLOSE, closed));
    await socket.end();
    assert.equal(socket.frames.at(-1).opcode, CLOSE, 'nothing comes behind a Close');
    assert.notEqual(closed.length, 1, 'a code has two bytes');
    assert.match(new TextDecoder('utf-8', { fatal: true }).decode(closed.subarray(2)), WORDS);
  }
  const shown = {
    [TEXT]: ({ payload }) => payload.toString(),
    [BINARY]: ({ payload }) => `binary ${payload.length}`,
    [PONG]: ({ payload }) => pong(payload),
    [PING]: () => 'a ping',
  };
  const answers = socket.frames.filter(({ opcode }) => opcode !== CLOSE).map((frame) => brief(shown[frame.opcode](frame)));
  const isOpen = answers.at(-1) === MARKED;
  if (!closed) return isOpen ? { answers: answers.slice(0, -1), end: 'open' } : { answers, end: 'none' };
  return { answers, end: closed.length === 0 ? 'empty' : closed.readUInt16BE() };
}

/** Checks what came of a case. */
function assertPlayed(played, { answers = [], before, end }) {
  const ends = [end].flat();
  assert.ok(ends.includes(played.end), `the end is ${ends.join(' or ')}, and not ${played.end}`);
  if (before && played.answers.length > 0) assert.deepEqual(played.answers, [brief(before)]);
  else assert.deepEqual(played.answers, answers.map(brief));
}

/** A text that fits into a message. */
const brief = (text) => (text.length < 200 ? text : `${text.slice(0, 50)}… of ${text.length} characters`);

for (const [name, expected] of Object.entries(CASES)) {
  test(`frames: ${name}`, async (t) => {
    const forbidden = frame(TEXT, JSON.stringify(['tell', 'observers', name]).replace(/^/, '42'));
    const isClosed = ![expected.end].flat().includes('open');
    assertPlayed(await play(t, server, expected, isClosed ? [forbidden] : []), expected);
    if (!isClosed) return;
    await ask(speaker, 'tell', 'observers', `after ${name}`);
    await until(() => received(observer, 'told').some(([text]) => text === `after ${name}`));
    assert.ok(!received(observer, 'told').some(([text]) => text === name), 'what is behind it is not handled');
  });
}

test("Node's server makes the same of every case", async (t) => {
  const differing = [];
  for (const [name, expected] of Object.entries(CASES)) {
    try {
      assertPlayed(await play(t, node, expected), expected);
    } catch (error) {
      differing.push(`${name}: ${error.message}`);
    }
  }
  assert.deepEqual(differing, []);
});

// The end

test('a client that does not answer a Close is cut off all the same', async (t) => {
  const socket = await joinedFrames(t, server);
  socket.write(frame(3));
  await until(() => socket.close());
  // Node waits for thirty seconds.
  await socket.end(40_000);
});

/** With TLS there is no handle to reset a connection by: it is cut off without a word of TLS. */
const reset = (tcp) => (tcp.encrypted ? tcp.destroy() : tcp.resetAndDestroy());

test('the end of a TCP connection without a Close is the end of the session', async (t) => {
  for (const hangUp of [(tcp) => tcp.end(), reset]) {
    const own = await startServer(t, { plugins: [CONFORMANCE] });
    const socket = await joinedFrames(t, own);
    hangUp(socket.tcp);
    await until(async () => (await own.api('GET', '/api/v1/clients/count')).body.count === 0);
    await socket.end();
  }
});

test('half a frame is waited for, and holds up nobody', async (t) => {
  const socket = await joinedFrames(t, server);
  const bytes = event('late');
  for (const byte of bytes.subarray(0, -1)) {
    socket.write(Buffer.from([byte]));
    await ask(speaker, 'message-with-ack', byte);
  }
  assert.deepEqual(socket.texts(), []);
  socket.write(bytes.subarray(-1));
  await socket.text(/^437\["late"\]$/);
});

test('a Close of the server carries what the client sent as its reason, or nothing', async (t) => {
  for (const reason of ['', 'bye', 'ü'.repeat(60)]) {
    const socket = await joinedFrames(t, server);
    socket.write(close(4321, reason));
    await socket.end();
    const payload = socket.close();
    assert.equal(payload.readUInt16BE(), 4321);
    assert.ok(['', reason].includes(payload.subarray(2).toString()), payload.toString('hex'));
  }
});

// Memory

const megabytes = ({ pid }) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+) kB/)[1]) / 1024;

const HEAPS = {
  'fragments of one byte': { opcode: TEXT, part: frame(CONTINUATION, 'x', { fin: false }), count: 500_000 },
  'fragments of one byte of an attachment': { opcode: BINARY, part: frame(CONTINUATION, 'x', { fin: false }), count: 500_000 },
  'empty fragments': { opcode: TEXT, part: frame(CONTINUATION, '', { fin: false }), count: 1_000_000 },
};

for (const [what, { opcode, part, count }] of Object.entries(HEAPS)) {
  test(`${what} take no more memory than their bytes`, async (t) => {
    const own = await startServer(t, { plugins: [CONFORMANCE] });
    const other = await connect(t, own);
    const before = megabytes(own);
    const sockets = await Promise.all(Array.from({ length: 10 }, () => joinedFrames(t, own)));
    const some = Buffer.concat(Array(1000).fill(part));
    await Promise.all(
      sockets.map(async (socket) => {
        socket.write(frame(opcode, '', { fin: false }));
        for (let i = 0; i < count / 1000 && !socket.ended && !socket.close(); i++) await socket.chop(some.length, some);
      }),
    );
    // What was written has been read when the server answers what came behind it.
    await Promise.all(
      sockets.map((socket) => {
        socket.write(ping('read'));
        // Five million frames, of a server that is not optimised.
        return until(() => socket.close() || socket.ended || socket.frames.some(({ opcode }) => opcode === PONG), { timeout: 6 * PATIENCE });
      }),
    );
    const codes = sockets.map((socket) => socket.close()?.readUInt16BE());
    assert.ok(codes.every((code) => [undefined, 1008, 1009].includes(code)), `${codes}`);
    assert.equal(await ask(other, 'message-with-ack', 'still'), 'still');
    const grown = megabytes(own) - before;
    assert.ok(grown < 100, `${grown} MB more for ${(10 * count) / 1e6} million bytes`);
  });
}

test('a message in pieces of one byte takes no more memory than its bytes', async (t) => {
  const own = await startServer(t, { plugins: [CONFORMANCE] });
  const socket = await joinedFrames(t, own);
  const before = megabytes(own);
  await socket.chop(1, event(sized(50_000)));
  await socket.text(/^437/);
  assert.ok(megabytes(own) - before < 50, `${megabytes(own) - before} MB more`);
});

// The handshake

test('a client that offers subprotocols gets the first of them, as with Node', async (t) => {
  for (const on of [node, server]) {
    const socket = new WebSocket(`${on.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`, ['mqtt', 'chat']);
    t.after(() => socket.terminate());
    await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
    assert.equal(socket.protocol, 'mqtt');
  }
});

/** The status of a handshake, and its headers. */
async function handshake(t, on, options) {
  const { head } = await frameSocket(t, on, upgrade(on, options));
  const headers = Object.fromEntries(
    head.split('\r\n').slice(1).map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
  );
  return { status: Number(head.split(' ')[1]), headers };
}

/** Headers of a handshake: its status, and Node's where it is another one. */
const HANDSHAKES = {
  'as browsers send it': [{ connection: 'Upgrade' }, 101],
  'in lower case': [{ connection: 'upgrade', upgrade: 'websocket' }, 101],
  'in capitals': [{ connection: 'UPGRADE', upgrade: 'WEBSOCKET' }, 101],
  'as Firefox sends it': [{ connection: 'keep-alive, Upgrade' }, 101],
  'with spaces': [{ connection: ' keep-alive ,  Upgrade ,' }, 101],
  'in two Connection headers': [{ connection: ['keep-alive', 'Upgrade'] }, 101],
  'without Connection': [{ connection: undefined }, 400],
  'with another Connection': [{ connection: 'keep-alive' }, 400],
  'with half a token': [{ connection: 'Upgrades' }, 400],
  'without Upgrade': [{ upgrade: undefined }, 400],
  'with another Upgrade': [{ upgrade: 'h2c' }, 400],
  'with half a word': [{ upgrade: 'websockets' }, 400],
  'without a version': [{ 'sec-websocket-version': undefined }, 426, 400],
  'with version 12': [{ 'sec-websocket-version': '12' }, 426, 400],
  'with version 13 in other digits': [{ 'sec-websocket-version': '0x0d' }, 426, 101],
  'with version 8': [{ 'sec-websocket-version': '8' }, 426, 101],
  'without a key': [{ 'sec-websocket-key': undefined }, 400],
  'with an empty key': [{ 'sec-websocket-key': '' }, 400],
  'with a short key': [{ 'sec-websocket-key': 'dGhlIHNhbXBsZQ==' }, 400],
  'with a long key': [{ 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZSBpcyBsb25n' }, 400],
  'with a key that is no base64': [{ 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZ!==' }, 400],
  'with a key without padding': [{ 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ' }, 400],
  'with two keys': [{ 'sec-websocket-key': ['dGhlIHNhbXBsZSBub25jZQ==', 'AAAAAAAAAAAAAAAAAAAAAA=='] }, 400],
  'with a subprotocol': [{ 'sec-websocket-protocol': 'chat' }, 101],
  'with subprotocols in two headers': [{ 'sec-websocket-protocol': ['chat', 'mqtt'] }, 101],
  'with a subprotocol twice': [{ 'sec-websocket-protocol': 'chat, chat' }, 400],
  'with an empty subprotocol': [{ 'sec-websocket-protocol': 'chat,,mqtt' }, 400],
  'with a subprotocol that is no token': [{ 'sec-websocket-protocol': 'chat room' }, 400],
  'with an extension': [{ 'sec-websocket-extensions': 'permessage-deflate; client_max_window_bits' }, 101],
  'with an extension that is none': [{ 'sec-websocket-extensions': '=;,' }, 101],
};

for (const [what, [headers, status, nodeStatus = status]] of Object.entries(HANDSHAKES)) {
  test(`a handshake ${what} is answered with ${status}`, async (t) => {
    assert.equal((await handshake(t, node, { headers })).status, nodeStatus, 'by Node');
    const answer = await handshake(t, server, { headers });
    assert.equal(answer.status, status);
    if (status === 426) assert.equal(answer.headers['sec-websocket-version'], '13');
    if (status !== 101) return;
    assert.equal(answer.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
    assert.equal(answer.headers['sec-websocket-extensions'], undefined);
    assert.equal(answer.headers['sec-websocket-protocol'], headers['sec-websocket-protocol'] && 'chat');
  });
}

test('a handshake is a GET of HTTP/1.1', async (t) => {
  assert.equal((await handshake(t, server, { method: 'POST', headers: { 'content-length': '0' } })).status, 400);
  const { status } = await handshake(t, server, { version: '1.0' });
  assert.ok([400, 426, 505].includes(status), `${status}`);
});

test('what comes in one piece with the handshake is handled', async (t) => {
  // Node answers the ping and loses the packet, as nobody listens yet.
  const socket = await frameSocket(t, server, Buffer.concat([Buffer.from(upgrade(server)), frame(TEXT, '40'), ping('x')]));
  await socket.text(/^40\{/);
  await until(() => socket.frames.some(({ opcode, payload }) => opcode === PONG && `${payload}` === 'x'));
});
