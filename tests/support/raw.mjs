// Packets as they are on the wire, for what the stock client does not send or hides.
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { closing } from './tcp.mjs';
import { PATIENCE, until, within } from './wait.mjs';

const PING = '2';
const PONG = '3';

/**
 * A WebSocket to the Socket.IO endpoint at `path` that has joined namespace `/`, closed when `t` ends.
 * `auth` goes with it, `query` into the URL; `join: false` leaves the joining, `pong: false` the heartbeat to the test.
 */
export async function rawSocket(t, server, { path = '/socket.io', auth, query = '', join = true, pong = true } = {}) {
  const ws = new WebSocket(`${server.url.replace('http', 'ws')}${path}/?EIO=4&transport=websocket${query}`, {
    perMessageDeflate: false,
  });
  t.after(() => ws.terminate());
  const socket = {
    ws,
    /** Every frame so far but for pings: a text, or a Buffer. */
    frames: [],
    get closed() {
      return ws.readyState === WebSocket.CLOSED;
    },
    /** The frames for a message. */
    get shown() {
      return JSON.stringify(socket.frames).slice(0, 2000);
    },
    /** Sends frames as they are. */
    send(...frames) {
      for (const frame of frames) if (ws.readyState === WebSocket.OPEN) ws.send(frame);
    },
    /** Waits for a text frame that matches, and returns the match. */
    async frame(pattern, { timeout = PATIENCE } = {}) {
      const find = () => socket.frames.map((frame) => typeof frame === 'string' && frame.match(pattern)).find(Boolean);
      // What has not come when the connection is closed will not come.
      await until(() => find() || socket.closed, { timeout, message: () => `${pattern} among ${socket.shown}` });
      const found = find();
      if (!found) throw new Error(`the connection was closed without ${pattern} among ${socket.shown}`);
      return found;
    },
    /** Waits for the end; resolves to the close code. */
    async end() {
      if (!socket.closed) await within(closing(ws), 'the server closes the connection');
      return socket.code;
    },
  };
  ws.on('message', (data, isBinary) => {
    const frame = isBinary ? data : data.toString();
    if (frame !== PING) socket.frames.push(frame);
    else if (pong) socket.send(PONG);
  });
  ws.on('close', (code) => (socket.code = code));
  // A connection that is cut off is closed, too; the test looks at that.
  ws.on('error', () => {});
  await socket.frame(/^0\{/);
  if (join) {
    socket.send(`40${auth ? JSON.stringify(auth) : ''}`);
    await socket.frame(/^40/);
  }
  return socket;
}

/** Between the packets of a payload of long polling. */
const SEPARATOR = '\x1e';

/** A long-polling session without a client, of the endpoint at `path`: what each request is answered with. */
export async function rawPolling(server, { path = '/socket.io' } = {}) {
  const base = `${server.url}${path}/?EIO=4&transport=polling`;
  const opened = await fetch(base);
  const { sid } = JSON.parse((await opened.text()).slice(1));
  const url = `${base}&sid=${sid}`;
  const answer = async (response) => ({ status: response.status, text: await response.text() });
  const get = async (options) => answer(await fetch(url, options));
  return {
    url,
    sid,
    post: async (body) => answer(await fetch(url, { method: 'POST', body })),
    get,
    /** Polls until a packet matches `pattern`: others, and pings, may come in answers before its. */
    async packet(pattern) {
      const heard = [];
      await until(async () => {
        const { status, text } = await get();
        assert.equal(status, 200, `instead of ${pattern}, after ${heard}: ${text}`);
        heard.push(...text.split(SEPARATOR));
        return heard.some((packet) => pattern.test(packet));
      }, { message: () => `a packet ${pattern} in ${heard}` });
    },
  };
}
