// A client of the recovery log, packet by packet: it can be cut off in the middle of anything.
import { Agent, request } from 'node:http';
import { once } from 'node:events';
import WebSocket from 'ws';
import { connect } from './client.mjs';
import { until, within } from './wait.mjs';

const SEPARATOR = '\x1e';

/** Broadcasts that may be under way, so that the server and this machine keep up. */
const AHEAD = 20;

/**
 * A member of a room that hears numbers: `told` to the room, and `message-back` to itself for each
 * `message`. It asks for the next one when it has one, and checks that each comes once and in order.
 */
export class Member {
  /** What was wrong with what it got. */
  faults = [];
  /** Numbers of either kind that never came. */
  lost = 0;

  /** A connected member, cut off when `t` ends. */
  static async join(t, server, transport, room) {
    const member = new Member(server, transport, room);
    t.after(() => member.destroy());
    await member.connect();
    return member;
  }

  constructor(server, transport, room) {
    Object.assign(this, { server, room, open: transport === 'polling' ? openPolling : openWebSocket });
    this.asked = 0;
    this.answered = 0;
    this.heard = undefined;
  }

  /** Connects with what it knows of its former connection; whether it has that one back. */
  async connect() {
    const auth = this.pid && this.offset ? { pid: this.pid, offset: this.offset } : {};
    const connected = new Promise((resolve) => (this.onConnected = resolve));
    this.connection = await this.open(this.server, (packet) => this.receive(packet));
    this.connection.send(`40${JSON.stringify(auth)}`);
    const { pid } = await within(connected, 'the connection');
    const recovered = pid === this.pid;
    this.pid = pid;
    if (!recovered) await this.begin();
    return recovered;
  }

  /** Joins the room anew, and takes the first number that comes as it is. */
  async begin() {
    this.heard = undefined;
    this.answered = this.asked;
    const joined = new Promise((resolve) => (this.onJoined = resolve));
    this.connection.send(`421["join",${JSON.stringify(this.room)}]`);
    await within(joined, 'the room');
    this.ask();
  }

  /** Destroys the connection, without any goodbye. */
  async destroy() {
    await this.connection?.destroy();
    this.connection = undefined;
  }

  /** Connects again; whether it has recovered. An answer to what never arrived cannot come. */
  async comeBack() {
    const recovered = await this.connect();
    if (recovered) this.ask();
    return recovered;
  }

  /** Waits until it has heard everything up to `last`. */
  async catchUp(last) {
    const deadline = performance.now() + 10_000;
    while (this.heard !== undefined && this.heard < last && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    if (this.heard !== undefined && this.heard < last) {
      this.lost += last - this.heard;
      this.faults.push(`heard ${this.heard} of ${last}`);
    }
  }

  ask() {
    this.connection?.send(`42["message",${++this.asked}]`);
  }

  receive(packet) {
    if (packet === '2') this.connection.send('3');
    else if (packet.startsWith('40')) this.onConnected(JSON.parse(packet.slice(2)));
    else if (packet.startsWith('431')) this.onJoined();
    else if (packet.startsWith('42')) this.hear(...JSON.parse(packet.slice(2)));
  }

  hear(event, ...args) {
    this.offset = args.at(-1);
    if (event === 'told') this.heard = this.follow('told', this.heard, Number(args[0]));
    if (event === 'message-back') {
      // Questions may be lost on the way, answers may not: they come in order, and none twice.
      if (args[0] <= this.answered) this.faults.push(`answer ${args[0]} after ${this.answered}`);
      this.answered = args[0];
      if (args[0] === this.asked) this.ask();
    }
  }

  follow(event, last, number) {
    if (last === undefined || number === last + 1) return number;
    this.faults.push(`${event} ${number} after ${last}`);
    this.lost += Math.max(0, number - last - 1);
    return number;
  }
}

async function openWebSocket(server, receive) {
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`, {
    perMessageDeflate: false,
  });
  let isOpen = true;
  socket.on('message', (data) => isOpen && receive(data.toString()));
  socket.on('error', () => {});
  await within(once(socket, 'open'), 'the websocket opens');
  return {
    send: (packet) => socket.readyState === WebSocket.OPEN && socket.send(packet),
    async destroy() {
      isOpen = false;
      socket.terminate();
    },
  };
}

async function openPolling(server, receive) {
  const agent = new Agent({ keepAlive: true, maxSockets: 2 });
  const base = `${server.url}/socket.io/?EIO=4&transport=polling`;
  const exchange = (url, body) =>
    new Promise((resolve, reject) => {
      const sent = request(url, { agent, method: body === undefined ? 'GET' : 'POST' }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part) => (text += part));
        response.on('end', () => resolve({ status: response.statusCode, text }));
        response.on('error', reject);
      });
      sent.on('error', reject);
      sent.end(body);
    });
  const opened = await exchange(base);
  const url = `${base}&sid=${JSON.parse(opened.text.slice(1)).sid}`;
  let isOpen = true;
  let posted = Promise.resolve();
  (async () => {
    while (isOpen) {
      const { status, text } = await exchange(url);
      if (status !== 200) return;
      for (const packet of text.split(SEPARATOR)) if (isOpen) receive(packet);
    }
  })().catch(() => {});
  return {
    // One POST at a time, as the protocol wants it.
    send: (packet) => (posted = posted.then(() => isOpen && exchange(url, packet)).catch(() => {})),
    async destroy() {
      isOpen = false;
      agent.destroy();
    },
  };
}

/** Tells a room one number after the other, as fast as it is heard. */
export async function speak(t, server, room) {
  const socket = await connect(t, server);
  let lost;
  socket.on('disconnect', (reason) => (lost = reason));
  let last = 0;
  let answered = 0;
  let goesOn = true;
  const speaker = {
    socket,
    get told() {
      return last;
    },
    async stop() {
      goesOn = false;
      await done;
      await until(() => answered === last, { timeout: 60_000 });
      return last;
    },
  };
  const done = (async () => {
    while (goesOn) {
      socket.emit('tell', room, String(++last), () => answered++);
      await until(() => lost || last - answered < AHEAD, { timeout: 60_000 });
      if (lost) throw new Error(`the speaker has lost its connection: ${lost}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  return speaker;
}
