// The events and the HTTP API that MixLab serves, on Node's Socket.IO server: what a team would
// write that follows the guide.
import { createServer } from 'node:http';
import jwt from 'jsonwebtoken';
import { Server } from 'socket.io';

const { JWT_SECRET, MIXLAB_API_KEY, RECOVERY } = process.env;
if (!JWT_SECRET || !MIXLAB_API_KEY) {
  console.error('JWT_SECRET and MIXLAB_API_KEY must be set');
  process.exit(2);
}

/** The HTTP server, which does not listen yet. */
export const http = createServer(answer);

/** The Socket.IO server on it. */
export const io = new Server(http, {
  serveClient: false,
  ...(RECOVERY === 'true' && { connectionStateRecovery: {} }),
});

if (process.env.ADAPTER) {
  const { default: Redis } = await import('ioredis');
  const client = () => new Redis(process.env.REDIS_URL);
  if (process.env.ADAPTER === 'streams') {
    const { createAdapter } = await import('@socket.io/redis-streams-adapter');
    io.adapter(createAdapter(client()));
  } else {
    const { createAdapter } = await import('@socket.io/redis-adapter');
    io.adapter(createAdapter(client(), client()));
  }
}

/** The user that a token names. */
function verify(token) {
  const claims = jwt.verify(token, JWT_SECRET, { algorithms: ['HS256'] });
  const roles = [claims.role, ...(claims.roles ?? [])].filter(Boolean);
  return { id: String(claims.sub), username: claims.username, role: roles[0], roles };
}

/** Makes the socket the user's and says so. */
function authenticate(socket, user) {
  socket.data.user = user;
  socket.join([`user:${user.id}`, ...user.roles.map((role) => `role:${role}`)]);
  const authenticated = { success: true, user };
  socket.emit('authenticated', authenticated);
  return authenticated;
}

const refusal = (code, message) => ({ error: { code, message, temporary: false } });

io.use((socket, next) => {
  const { token } = socket.handshake.auth;
  if (token === undefined) return next();
  try {
    socket.data.user = verify(token);
    next();
  } catch (error) {
    next(new Error(error.name === 'TokenExpiredError' ? 'token_expired' : 'unauthorized'));
  }
});

io.on('connection', (socket) => {
  if (socket.data.user) authenticate(socket, socket.data.user);
  socket.on('authenticate', (token, ack) => {
    try {
      const authenticated = authenticate(socket, verify(token));
      ack?.(authenticated);
    } catch {
      const refused = refusal('unauthorized', 'the token is not valid');
      socket.emit('authenticated', { success: false, ...refused });
      ack?.(refused);
    }
  });
  socket.on('subscribe:payments', (ack) => {
    if (!socket.data.user) return ack?.(refusal('unauthorized', 'payments need an authenticated user'));
    socket.join('payments');
    ack?.({ success: true });
  });
  socket.on('unsubscribe:payments', (ack) => {
    socket.leave('payments');
    ack?.({ success: true });
  });
  socket.on('custom_event', (data, ack) => {
    socket.emit('custom_response', data);
    ack?.(data);
  });
});

/** How many sockets of this process are in a room; without one, how many clients it has. */
export const countHere = (room) =>
  room === undefined ? io.engine.clientsCount : (io.of('/').adapter.rooms.get(room)?.size ?? 0);

/** Set by whoever runs more than one process: the counts of the others. */
export const others = { counts: async () => [] };

/** The same of all processes. */
async function count(room) {
  const counts = [countHere(room), ...(await others.counts(room))];
  return counts.reduce((sum, part) => sum + part);
}

/** Emits to a room; how many sockets are in it. */
async function push(room, event, data) {
  io.to(room).emit(event, data);
  return { delivered: await count(room) };
}

const routes = [
  ['POST', /^\/api\/v1\/payments\/updates$/, ([], data) =>
    push('payments', 'payment_update', { type: 'payment_update', data, timestamp: new Date().toISOString() })],
  ['POST', /^\/api\/v1\/users\/([^/]+)\/notifications$/, ([id], data) =>
    push(`user:${id}`, 'notification', { ...data, timestamp: new Date().toISOString() })],
  ['POST', /^\/api\/v1\/roles\/([^/]+)\/events\/([^/]+)$/, ([role, event], data) =>
    push(`role:${role}`, event, data)],
  ['GET', /^\/api\/v1\/clients\/count$/, async () => ({ count: await count() })],
];

/** The HTTP API of backends. */
async function answer(request, response) {
  const reply = (status, body) => {
    const text = JSON.stringify(body);
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
    response.end(text);
  };
  if (request.headers.authorization !== `Bearer ${MIXLAB_API_KEY}`) {
    return reply(401, refusal('unauthorized', 'an API key is needed'));
  }
  const { pathname } = new URL(request.url, 'http://localhost');
  for (const [method, path, handle] of routes) {
    const match = request.method === method && pathname.match(path);
    if (!match) continue;
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk;
    try {
      return reply(200, await handle(match.slice(1).map(decodeURIComponent), text && JSON.parse(text)));
    } catch (error) {
      return reply(400, refusal('invalid_payload', error.message));
    }
  }
  reply(404, refusal('not_found', 'there is nothing at this path'));
}
