// The stock Socket.IO client, with its events collected so that none is missed.
import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import * as newest from 'socket.io-client';
import { PATIENCE, until, within } from './wait.mjs';

/** For tests of what must be the same over both. */
export const TRANSPORTS = ['websocket', 'polling'];

/** What a client hears that is refused for a passing reason: its transport closes, so that it tries again. */
export const FOR_NOW = 'transport close';

/**
 * A connected socket, disconnected when `t` ends; rejects with the `connect_error` if it is
 * refused, and with [`FOR_NOW`] if it is refused for a passing reason. `token` and `auth` make up the handshake's auth object; `client` is the package to
 * connect with if it is not the newest; everything else is an option of the client. Connections
 * are not shared and not renewed unless the options say so.
 */
export async function connect(t, server, options = {}) {
  const socket = open(t, server, options);
  await new Promise((resolve, reject) => {
    // Refused, the client closes its transport itself before it says so.
    const closed = (reason) => reason === 'forced close' || reject(new Error(reason));
    socket.io.on('close', closed);
    socket.once('connect', () => resolve(socket.io.off('close', closed)));
    socket.once('connect_error', reject);
  });
  return socket;
}

/** The same at another address of this machine: another client to limits and pauses. */
export const connectFrom = (t, server, localAddress, options) =>
  connect(t, server, { agent: agentOf(server, { localAddress }), ...options });

/** What the connections of a client to this server come from. */
export const agentOf = (server, options) =>
  server.url.startsWith('https:') ? new SecureAgent(options) : new Agent(options);

/** The same without waiting: a socket that is about to connect. */
export function open(
  t,
  server,
  { client = newest, token, auth, transports = ['websocket'], namespace = '/', ...options } = {},
) {
  const credentials = token === undefined ? auth : { token, ...auth };
  const socket = client.io(server.url + namespace, {
    auth: credentials,
    transports,
    forceNew: true,
    reconnection: false,
    ...options,
  });
  socket.collected = [];
  socket.onAny((name, ...args) => socket.collected.push({ name, args, taken: false }));
  socket.on('disconnect', (reason) => (socket.endReason = reason));
  t.after(() => socket.disconnect());
  return socket;
}

/** The arguments of every event of this name so far. */
export const received = (socket, name) =>
  socket.collected.filter((event) => event.name === name).map((event) => event.args);

/**
 * The arguments of the next event of this name: the first that no earlier call has returned,
 * whether it is here already or is yet to come.
 */
export async function nextEvent(socket, name, { timeout = PATIENCE } = {}) {
  const find = () => socket.collected.find((event) => event.name === name && !event.taken);
  const event = await until(find, {
    timeout,
    message: () => `event ${name}; there were ${JSON.stringify(socket.collected.map((event) => event.name))}`,
  });
  event.taken = true;
  return event.args;
}

/** Emits and resolves to the first argument of the ack. */
export const ask = (socket, event, ...args) => socket.timeout(PATIENCE).emitWithAck(event, ...args);

/** Emits and resolves to all arguments of the ack. */
export const askAll = (socket, event, ...args) =>
  within(new Promise((resolve) => socket.emit(event, ...args, (...reply) => resolve(reply))), `the ack of ${event}`);

/** Waits until the socket is disconnected; resolves to the reason. */
export const disconnected = (socket) => until(() => socket.endReason, { message: 'the socket is disconnected' });
