// WebSocket frames as bytes, for what no library sends or shows.
import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { closing, dial } from './tcp.mjs';
import { until, within } from './wait.mjs';

export const CONTINUATION = 0;
export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

const bytesOf = (payload) => (Buffer.isBuffer(payload) ? payload : Buffer.from(payload));

/**
 * A frame of a client. `rsv` are the three reserved bits, `form` the bytes that its length is written
 * with (0, 2 or 8; the shortest if it is left out), `length` one that is not that of the payload.
 */
export function frame(opcode, payload = '', { fin = true, rsv = 0, masked = true, mask = [7, 200, 0, 91], form, length } = {}) {
  const bytes = bytesOf(payload);
  const size = BigInt(length ?? bytes.length);
  const width = form ?? (size < 126n ? 0 : size < 65536n ? 2 : 8);
  const extended = Buffer.alloc(width);
  if (width === 2) extended.writeUInt16BE(Number(size));
  if (width === 8) extended.writeBigUInt64BE(size);
  const short = width === 0 ? Number(size) : width === 2 ? 126 : 127;
  const start = Buffer.from([(fin ? 0x80 : 0) | (rsv << 4) | opcode, (masked ? 0x80 : 0) | short]);
  if (!masked) return Buffer.concat([start, extended, bytes]);
  const hidden = bytes.map((byte, i) => byte ^ mask[i % 4]);
  return Buffer.concat([start, extended, Buffer.from(mask), hidden]);
}

/** A Close with a code, and words behind it. */
export function close(code, reason = '') {
  const start = Buffer.alloc(2);
  start.writeUInt16BE(code);
  return frame(CLOSE, Buffer.concat([start, bytesOf(reason)]));
}

/** A message in as many fragments as there are parts. */
export const fragments = (opcode, ...parts) =>
  parts.map((part, i) => frame(i ? CONTINUATION : opcode, part, { fin: i === parts.length - 1 }));

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

/** The request for a websocket, with more headers and with others for those that it has. */
export function upgrade(server, { headers = {}, query = 'EIO=4&transport=websocket', method = 'GET', version = '1.1' } = {}) {
  const all = {
    host: `127.0.0.1:${server.port}`,
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': KEY,
    ...headers,
  };
  const lines = Object.entries(all).flatMap(([name, value]) => [value ?? []].flat().map((one) => `${name}: ${one}`));
  return [`${method} /socket.io/?${query} HTTP/${version}`, ...lines, '', ''].join('\r\n');
}

/** A TCP connection over which `request` went, closed when `t` ends. What comes behind a 101 is read as frames. */
export async function frameSocket(t, server, request = upgrade(server)) {
  const { socket: tcp, opened } = dial(server, { host: '127.0.0.1' });
  tcp.setNoDelay();
  t.after(() => tcp.destroy());
  let received = Buffer.alloc(0);
  tcp.on('error', () => {});
  const closed = closing(tcp).then(() => (socket.ended = true));
  const socket = {
    tcp,
    /** The status line and the headers. */
    head: undefined,
    /** Every frame so far: `{ opcode, payload }`. */
    frames: [],
    /** Whether the server has ended the TCP connection. */
    ended: false,
    write: (...parts) => tcp.write(Buffer.concat(parts.flat(Infinity).map(bytesOf))),
    /** Writes pieces of so many bytes, each by itself. */
    async chop(size, ...parts) {
      const bytes = Buffer.concat(parts.flat(Infinity).map(bytesOf));
      for (let at = 0; at < bytes.length; at += size) {
        if (!tcp.write(bytes.subarray(at, at + size))) await Promise.race([new Promise((resolve) => tcp.once('drain', resolve)), closed]);
        await setImmediate();
      }
    },
    texts: () => socket.frames.filter(({ opcode }) => opcode === TEXT).map(({ payload }) => payload.toString()),
    /** The server's Close, as its payload. */
    close: () => socket.frames.find(({ opcode }) => opcode === CLOSE)?.payload,
    /** Waits for a text frame. */
    async text(pattern) {
      const find = () => socket.texts().find((text) => pattern.test(text));
      await until(() => find() !== undefined || socket.ended, { message: () => `${pattern} among ${socket.texts()}` });
      if (find() === undefined) throw new Error(`the connection ended without ${pattern} among ${socket.texts()}`);
      return find();
    },
    end: (timeout) => within(closed, 'the server ends the TCP connection', timeout),
  };
  tcp.on('end', () => (socket.ended = true));
  tcp.on('data', (data) => {
    received = Buffer.concat([received, data]);
    if (socket.head === undefined) {
      const end = received.indexOf('\r\n\r\n');
      if (end < 0) return;
      socket.head = received.subarray(0, end).toString('latin1');
      received = received.subarray(end + 4);
    }
    if (/^HTTP\/1.1 101 /.test(socket.head)) received = takeFrames(received, socket.frames, /^sec-websocket-extensions: permessage-deflate/im.test(socket.head));
  });
  await within(once(tcp, opened), 'the server accepts the connection');
  tcp.write(request);
  await until(() => socket.head !== undefined || socket.ended, { message: 'the head of an answer' });
  return socket;
}

/** Adds the frames that are complete, `deflated` where the server `deflates` and says so; returns the bytes behind them. */
function takeFrames(bytes, frames, deflates) {
  let rest = bytes;
  for (;;) {
    if (rest.length < 2) return rest;
    const [first, second] = rest;
    const deflated = deflates && (first & 0x40) !== 0;
    if ((first & (deflates ? 0x30 : 0x70)) !== 0 || (second & 0x80) !== 0) throw new Error(`a server sends no such frame: ${rest.toString('hex', 0, 20)}`);
    const width = { 126: 2, 127: 8 }[second] ?? 0;
    if (rest.length < 2 + width) return rest;
    const length = width === 0 ? second : width === 2 ? rest.readUInt16BE(2) : Number(rest.readBigUInt64BE(2));
    const end = 2 + width + length;
    if (rest.length < end) return rest;
    const payload = rest.subarray(2 + width, end);
    frames.push({ fin: first >= 0x80, opcode: first & 0x0f, payload, ...(deflated && { deflated }) });
    rest = rest.subarray(end);
  }
}

/** The same, with the session opened and namespace `/` joined; `frames` holds what came after that. */
export async function joinedFrames(t, server, request) {
  const socket = await frameSocket(t, server, request);
  await socket.text(/^0\{/);
  socket.write(frame(TEXT, '40'));
  await socket.text(/^42\["auth"/);
  socket.frames.length = 0;
  return socket;
}
