// Clients of the plugin `capabilities` in one room, and numbers that are sent to it: all are to come, once and in order.
import assert from 'node:assert/strict';
import { agentOf, ask, connect, received } from './client.mjs';
import { until } from './wait.mjs';

/** Has the plugin do something for a client; what it was granted. */
export const call = async (socket, what) => {
  const [answer] = await ask(socket, 'capabilities', [what]);
  assert.ok('granted' in answer, JSON.stringify(answer));
  return answer.granted;
};

/** What a client was told, without places. */
export const told = (socket) => received(socket, 'told').map(([data]) => data);

export const numbers = (count) => Array.from({ length: count }, (_, number) => number);

/** A client in the room that comes back by itself, and opens a connection for each request. */
export async function join(t, server, options) {
  const back = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200, retries: 50, ackTimeout: 5_000 };
  const socket = await connect(t, server, { agent: agentOf(server, {}), ...back, ...options });
  await call(socket, { call: 'join', room: 'r' });
  socket.afresh = 0;
  socket.on('connect', () => (socket.afresh += socket.recovered ? 0 : 1));
  return socket;
}

/** Sends numbers to the room, each when the one before was answered, until it is told to stop. */
export function send(socket) {
  let sent = 0;
  let stops = false;
  const ended = (async () => {
    while (!stops) {
      const [answer] = await socket.emitWithAck('capabilities', [{ call: 'emit', rooms: ['r'], event: 'told', data: sent }]);
      assert.ok('granted' in answer, JSON.stringify(answer));
      sent += 1;
    }
    return sent;
  })();
  return {
    sent: () => sent,
    /** Waits until it has sent so many more. */
    more: (count, from = sent) => until(() => sent > from + count, { timeout: 30_000 }),
    stop: () => ((stops = true), ended),
  };
}

/** How a client stands, for who wonders why it has not all. */
const state = (socket) => {
  const { connected, active, afresh, endReason } = socket;
  return [told(socket).length, { connected, active, afresh, endReason, state: socket.io._readyState }];
};

/** Waits until all have all numbers, and checks that they have them once and in order, and lost no connection. */
export async function assertAll(sockets, count) {
  await until(() => sockets.every((socket) => told(socket).includes(count - 1)), {
    timeout: 60_000,
    message: () => `${count} at all: ${JSON.stringify(sockets.map(state))}`,
  });
  for (const socket of sockets) assert.deepEqual(told(socket), numbers(count));
  assert.deepEqual(sockets.map((socket) => socket.afresh), sockets.map(() => 0));
}
