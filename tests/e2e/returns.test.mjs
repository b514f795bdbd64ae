// A crowd that drops together and is back together: nobody is refused for another's return, and
// nobody else waits for it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket from 'ws';
import { ask, connect } from '../support/client.mjs';
import { percentile, startEcho } from '../support/echo.mjs';
import { FULL } from '../support/full.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { until, within } from '../support/wait.mjs';

const CROWD = FULL ? 10_000 : 300;
const ROOMS = CROWD / 50;
/** Broadcasts to each room while the crowd is away. */
const MISSED = 10;
/** Connections that are opened at once. */
const AT_ONCE = 200;
const PATIENCE = 120_000;

/** One of the crowd: hears numbers in its room, and keeps the place of the last one. */
class Visitor {
  heard = [];

  constructor(server, room) {
    Object.assign(this, { server, room });
  }

  /** Connects with what it has kept; whether it has its connection back. */
  async connect() {
    const { host } = new URL(this.server.url);
    this.socket = new WebSocket(`ws://${host}/socket.io/?EIO=4&transport=websocket`, { perMessageDeflate: false });
    this.socket.on('error', () => {});
    const connected = new Promise((resolve) => (this.onConnected = resolve));
    this.socket.on('message', (data) => this.receive(data.toString()));
    await within(once(this.socket, 'open'), 'a websocket opens', PATIENCE);
    this.socket.send(`40${JSON.stringify({ pid: this.pid, offset: this.offset })}`);
    const { pid } = await within(connected, 'a connection', PATIENCE);
    const recovered = pid === this.pid;
    this.pid = pid;
    return recovered;
  }

  async join() {
    const joined = new Promise((resolve) => (this.onJoined = resolve));
    this.socket.send(`421["join",${JSON.stringify(this.room)}]`);
    await within(joined, 'a room', PATIENCE);
  }

  receive(packet) {
    if (packet === '2') this.socket.send('3');
    else if (packet.startsWith('40')) this.onConnected(JSON.parse(packet.slice(2)));
    else if (packet.startsWith('431')) this.onJoined();
    else if (packet.startsWith('42')) {
      const [event, number, place] = JSON.parse(packet.slice(2));
      if (event === 'told') this.heard.push(Number(number));
      this.offset = place;
    }
  }
}

/** Does something with all of them, so many at once. */
async function each(all, act) {
  const rest = all.values();
  const worker = async () => {
    for (const one of rest) await act(one);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

test('a crowd that drops together is back together, and nobody else waits for it', { timeout: 600_000 }, async (t) => {
  const server = await startServer(t, {
    plugins: [{ ...CONFORMANCE, config: { quiet: true } }],
    recovery: true,
  });
  const crowd = Array.from({ length: CROWD }, (_, number) => new Visitor(server, `room ${number % ROOMS}`));
  t.after(() => crowd.forEach((visitor) => visitor.socket?.terminate()));
  await each(crowd, async (visitor) => {
    await visitor.connect();
    await visitor.join();
  });
  const speaker = await connect(t, server);
  let told = 0;
  const tell = async () => {
    told += 1;
    for (let room = 0; room < ROOMS; room++) await ask(speaker, 'tell', `room ${room}`, String(told));
  };
  await tell();
  await until(() => crowd.every(({ heard }) => heard.length === 1), { timeout: PATIENCE });

  const isAlone = async () => (await server.api('GET', '/api/v1/clients/count')).body.count === 1;
  crowd.forEach(({ socket }) => socket.terminate());
  await until(isAlone, { timeout: PATIENCE });
  const quiet = await startEcho(server);
  for (let count = 0; count < MISSED; count++) await tell();
  const before = await quiet.stop();

  const echo = await startEcho(server);
  let isBack = false;
  const goesOn = (async () => {
    while (!isBack) await tell();
  })();
  const start = performance.now();
  const recovered = [];
  await each(crowd, async (visitor) => recovered.push(await visitor.connect()));
  const took = performance.now() - start;
  isBack = true;
  const times = await echo.stop();
  await goesOn;
  await until(() => crowd.every(({ heard }) => heard.length >= told), { timeout: PATIENCE });

  const figures = (times) => [50, 99].map((percent) => `${percent}% within ${percentile(times, percent).toFixed(1)} ms`);
  t.diagnostic(
    `${CROWD} are back in ${Math.round(took)} ms, with ${told} broadcasts to each of ${ROOMS} rooms; ` +
      `${times.length} answers to another client meanwhile: ${figures(times)}; while all were away: ${figures(before)}`,
  );
  assert.equal(recovered.filter(Boolean).length, CROWD);
  const numbers = Array.from({ length: told }, (_, index) => index + 1);
  for (const { heard } of crowd) assert.deepEqual(heard, numbers);
});
