// Socket.IO's own server on Node as a member of a cluster, in a process of its own. Its parent tells it what
// to do: `[number, name, ...arguments]`, answered with `[number, error, result]`.
import Redis from 'ioredis';
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const adapter = process.argv[3] === '0.2' ? 'redis-streams-adapter-0.2' : '@socket.io/redis-streams-adapter';
const { createAdapter } = await import(adapter);
const web = createServer();
const io = new Server(web, {
  connectionStateRecovery: { maxDisconnectionDuration: 120_000 },
  adapter: createAdapter(new Redis(Number(process.argv[2]), '127.0.0.1')),
});

io.on('connection', (socket) => {
  socket.on('join', (room, ack) => ack(socket.join(room)));
  socket.on('keep', (data, ack) => ack((socket.data = data)));
  socket.on('say', (room, event, ...args) => io.to(room).emit(event, ...args));
});

/** The sockets that are meant. */
function selected({ namespace = '/', rooms = [], except = [], volatile = false, timeout }) {
  let sockets = io.of(namespace);
  if (rooms.length > 0) sockets = sockets.to(rooms);
  if (except.length > 0) sockets = sockets.except(except);
  if (volatile) sockets = sockets.volatile;
  return timeout ? sockets.timeout(timeout) : sockets;
}

const tasks = {
  emit: (to, event, ...args) => void selected(to).emit(event, ...args.map(revived)),
  ask: (to, event, ...args) =>
    new Promise((resolve) => selected(to).emit(event, ...args, (error, answers) => resolve({ late: Boolean(error), answers }))),
  fetch: async (to) =>
    (await selected(to).fetchSockets()).map(({ id, rooms, data, handshake }) => ({ id, rooms: [...rooms], data, handshake })),
  open: (namespace) => void io.of(namespace),
  answerServers: (event, answer) => void io.on(event, (ack) => ack(answer)),
  askServers: (event, ...args) => io.serverSideEmitWithAck(event, ...args),
  join: (to, rooms) => void selected(to).socketsJoin(rooms),
  leave: (to, rooms) => void selected(to).socketsLeave(rooms),
  disconnect: (to, close) => void selected(to).disconnectSockets(close),
  count: () => io.engine.clientsCount,
  // Its clients are cut off, and their sessions written.
  close: () => io.close(),
};

/** Bytes come as `{ bytes: […] }`. */
const revived = (value) => (Array.isArray(value?.bytes) ? Buffer.from(value.bytes) : value);

process.on('message', async ([number, name, ...args]) => {
  try {
    process.send([number, null, await tasks[name](...args)]);
  } catch (error) {
    process.send([number, error.message]);
  }
});
process.on('disconnect', () => process.exit());
web.listen(0, '127.0.0.1', () => process.send(web.address().port));
