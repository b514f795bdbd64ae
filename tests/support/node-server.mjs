// Socket.IO's own server on Node, to compare with: it has the events of the guest `conformance`.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Server } from 'socket.io';

/** What MixLab tells a client of an event that nobody handles; here it stands for "was accepted". */
const UNKNOWN = { error: { code: 'unknown_event' } };

/**
 * A server, closed when `t` ends. `options` are those of Socket.IO's `Server`; `port` is for one that
 * follows another.
 */
export async function startNode(t, { port = 0, ...options } = {}) {
  const web = createServer();
  const io = new Server(web, options);
  for (const namespace of ['/', '/custom']) io.of(namespace).on('connection', (socket) => {
    socket.emit('auth', socket.handshake.auth);
    serve(socket);
  });
  io.of('/foo').on('connection', serve);
  web.listen(port, '127.0.0.1');
  await once(web, 'listening');
  const close = () => io.close();
  t.after(close);
  const { port: bound } = web.address();
  return { io, port: bound, url: `http://127.0.0.1:${bound}`, address: `127.0.0.1:${bound}`, close };
}

function serve(socket) {
  const handled = {
    // The ack, if one is wanted, is no argument.
    message: (...args) => socket.emit('message-back', ...args.filter((arg) => typeof arg !== 'function')),
    'message-with-ack': (...args) => args.pop()(...args),
    join: (room, ack) => ack(socket.join(room)),
    tell: (room, text) => socket.nsp.to(room).emit('told', text),
  };
  for (const [name, handler] of Object.entries(handled)) socket.on(name, handler);
  socket.onAny((name, ...args) => {
    if (Object.hasOwn(handled, name)) return;
    const ack = args.pop();
    if (typeof ack === 'function') ack(UNKNOWN);
    else socket.emit('mixlab:error', UNKNOWN);
  });
}
