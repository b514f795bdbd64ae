// Plain TCP connections, for requests that no HTTP client would send.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { connect as connectSecurely } from 'node:tls';
import { within } from './wait.mjs';

/** A socket to the server, with TLS where it speaks that; and the name of the event when it is open. */
export function dial(server, options) {
  const isSecure = server.url?.startsWith('https:');
  return isSecure
    ? { socket: connectSecurely({ port: server.port, ...options }), opened: 'secureConnect' }
    : { socket: connect({ port: server.port, ...options }), opened: 'connect' };
}

/** Waits for the end of a connection; an error, which is one as well, is none here. */
export const closing = (socket) => new Promise((resolve) => socket.once('close', resolve));

/**
 * A connection to the server, destroyed when `t` ends, over which `text` was sent: to an address of this
 * machine, and from one if that is said.
 */
export async function tcp(t, server, text = '', { host = '127.0.0.1', localAddress } = {}) {
  const { socket, opened } = dial(server, { host, localAddress });
  t.after(() => socket.destroy());
  let received = '';
  const state = { ended: false };
  socket.setEncoding('latin1').on('data', (data) => (received += data));
  socket.on('error', () => {});
  const closed = closing(socket).then(() => (state.ended = true));
  await within(once(socket, opened), 'the server accepts the connection');
  if (text) socket.write(text);
  return {
    socket,
    write: (more) => socket.write(more),
    /** What has come back so far. */
    received: () => received,
    hasEnded: () => state.ended,
    /** Waits until the server has closed it; resolves to what came back. */
    async end() {
      await within(closed, 'the server closes the connection');
      return received;
    },
  };
}

/** Below the ports that Linux gives to whoever asks for any: whoever wants one of these names it. */
const NAMED_PORTS = { from: 10_000, count: 22_000 };

/** A port of this machine that nobody has right now, nor gets by chance before it is used. */
export async function freePort() {
  for (;;) {
    const port = NAMED_PORTS.from + Math.floor(Math.random() * NAMED_PORTS.count);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(() => true, () => false);
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** The text of a request without its body. */
export const head = (method, path, ...headers) =>
  [`${method} ${path} HTTP/1.1`, 'host: x', ...headers, '', ''].join('\r\n');
