// The protocols packet by packet: raw websockets and raw HTTP requests.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';
import { until, within } from './wait.mjs';

const endpoint = (server, query) => `${server.url}/socket.io/?${new URLSearchParams(query)}`;

/** A GET or POST of the endpoint: `{ status, body, headers }`. */
export async function http(server, query, options) {
  const response = await fetch(endpoint(server, query), options);
  return { status: response.status, body: await response.text(), headers: response.headers };
}

/** A polling session. */
export async function poller(server) {
  const opened = await http(server, { EIO: 4, transport: 'polling' });
  assert.equal(opened.status, 200);
  assert.equal(opened.body[0], '0');
  const handshake = JSON.parse(opened.body.slice(1));
  const query = { EIO: 4, transport: 'polling', sid: handshake.sid };
  return {
    handshake,
    sid: handshake.sid,
    query,
    get: (options) => http(server, query, options),
    post: (body) => http(server, query, { method: 'POST', body }),
    /** The packets of one poll. */
    packets: async () => (await http(server, query)).body.split('\x1e'),
    /** Connects to a namespace; resolves to the answer. */
    async join(packet = '40') {
      assert.equal((await this.post(packet)).body, 'ok');
      const packets = [];
      while (!packets.some((answer) => answer.startsWith('40') || answer.startsWith('44'))) {
        packets.push(...(await this.packets()));
      }
      return packets;
    },
  };
}

/** A websocket; its packets are collected as they come. */
export async function websocket(t, server, query = {}) {
  const socket = new WebSocket(endpoint(server, { EIO: 4, transport: 'websocket', ...query }).replace('http', 'ws'));
  t.after(() => socket.terminate());
  const packets = [];
  const state = { closed: false };
  socket.on('message', (data, isBinary) => packets.push(isBinary ? data : data.toString()));
  socket.on('close', () => (state.closed = true));
  socket.on('error', () => {});
  await within(once(socket, 'open'), 'the websocket opens');
  return {
    socket,
    send: (...sent) => sent.forEach((packet) => socket.send(packet)),
    /** The next packet. */
    async next() {
      await until(() => packets.length > 0, { message: 'a packet' });
      return packets.shift();
    },
    /** The next packet that is no ping; pings are answered. */
    async nextMessage() {
      for (;;) {
        const packet = await this.next();
        if (packet !== '2') return packet;
        socket.send('3');
      }
    },
    waiting: packets,
    closed: () => until(() => state.closed, { message: 'the websocket is closed' }),
    isClosed: () => state.closed,
  };
}

/** A websocket that is connected to a namespace, after the event `auth`. */
export async function joined(t, server, packet = '40') {
  const client = await websocket(t, server);
  await client.next();
  client.send(packet);
  const answer = await client.nextMessage();
  await client.nextMessage();
  return { ...client, answer };
}
