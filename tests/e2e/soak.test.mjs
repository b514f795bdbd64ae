// Everything at once and for long: connects, drops, reloads, slow readers and bad packets.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { FULL } from '../support/full.mjs';
import { Member, speak } from '../support/member.mjs';
import { plugin, reload, replaceFile, stamped } from '../support/plugins.mjs';
import { rawPolling, rawSocket } from '../support/raw.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const DURATION = 1000 * Number(process.env.MIXLAB_SOAK_SECONDS ?? (FULL ? 600 : 8));
const ROOM = 'studio';
const CONFIG = `
[socket]
ping_interval = "1s"
ping_timeout = "5s"
send_buffer = 256
connect_timeout = "3s"
[recovery]
max_age = "10s"
max_events = 2000
max_bytes = "2MiB"
`;

/** Plugins from this version on are in no cache: an earlier run would have spared this one the compiler. */
const FIRST_VERSION = Date.now() % 90_000_000;

/** Members that stay from the first phase to the last. */
const MEMBERS = 20;
/** How many do in a phase what it is about. */
const CROWD = 20;

/** What memory may grow by after the first round. */
const SLACK_KIB = 8 << 10;

/**
 * Has the allocator give back what is free, as far as it can: what it keeps for itself varies by
 * megabytes, and would hide a leak of a connection in each round.
 */
const THRIFTY = { MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '65536', MALLOC_MMAP_THRESHOLD_: '65536' };

/** After so many rounds memory has grown as far as a crowd and the compiler take it. */
const WARM_UP = 5;
/** What each later round may add, by a line through them; with fewer of them a line says nothing. */
const KIB_A_ROUND = 16;
const ROUNDS_FOR_A_LINE = 50;

const BAD_FRAMES = [
  '',
  '9',
  '4',
  '49',
  '42',
  '42{}',
  '42[',
  '42[]',
  '42[1]',
  '42["message"',
  '42/nowhere,["message"]',
  '40/nowhere,',
  '43',
  '431',
  '43999999999999999999["a"]',
  '451-["message",{"_placeholder":true,"num":0}]',
  '45999999-["message"]',
  `42["message",${'['.repeat(5000)}`,
  Buffer.alloc(64, 255),
];

test('the server stays as it was through rounds of everything', async (t) => {
  const server = await startServer(t, {
    config: CONFIG,
    recovery: true,
    env: THRIFTY,
    plugins: [CONFORMANCE, 'stamped'],
  });
  const members = await Promise.all(
    Array.from({ length: MEMBERS }, (_, index) => Member.join(t, server, index % 2 ? 'polling' : 'websocket', ROOM)),
  );
  const counts = { rounds: 0, recovered: 0, refused: 0, slow: 0 };
  const phases = {
    connects: () => connects(t, server),
    drops: (speaker) => drops(members, speaker, counts),
    reloads: () => reloads(t, server, counts),
    'slow readers': () => slowReaders(t, server, counts),
    'bad packets': () => badPackets(t, server),
  };

  const kib = Object.fromEntries(Object.keys(phases).map((name) => [name, []]));
  const start = performance.now();
  do {
    for (const [name, phase] of Object.entries(phases)) {
      for (const member of members) member.heard = 0;
      const speaker = await speak(t, server, ROOM);
      await phase(speaker);
      const last = await speaker.stop();
      for (const member of members) await member.catchUp(last);
      speaker.socket.disconnect();
      await counted(server, members.length, name);
      const faults = members.flatMap((member) => member.faults);
      assert.deepEqual(faults.slice(0, 5), [], name);
      assert.doesNotMatch(server.log(), /panicked/, name);
      kib[name].push(memory(server));
    }
    counts.rounds++;
  } while (performance.now() - start < DURATION);

  await Promise.all(members.map((member) => member.destroy()));
  await counted(server, 0, 'the end');
  t.diagnostic(`${JSON.stringify(counts)}, KiB at the end: ${memory(server)}`);
  for (const [name, after] of Object.entries(kib)) t.diagnostic(`KiB after ${name}: ${after}`);
  const rounds = Object.values(kib).at(-1);
  const limit = rounds[0] + SLACK_KIB;
  await until(() => memory(server) < limit, { message: () => `${memory(server)} KiB are less than ${limit}` });
  if (rounds.length >= WARM_UP + ROUNDS_FOR_A_LINE) {
    const growth = slope(rounds.slice(WARM_UP));
    t.diagnostic(`KiB that each round adds: ${growth.toFixed(1)}`);
    assert.ok(growth < KIB_A_ROUND, `${growth} KiB a round are less than ${KIB_A_ROUND}`);
  }
});

/** Waits until the server counts so many clients. */
async function counted(server, truth, phase) {
  const count = async () => (await server.api('GET', '/api/v1/clients/count')).body.count;
  let last;
  await until(async () => (last = await count()) === truth, {
    message: () => `${truth} clients after ${phase}: ${last}`,
  });
}

/** The server's resident memory in KiB. */
const memory = ({ pid }) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+) kB/)[1]);

/** The slope of the line that fits `values` best. */
function slope(values) {
  const middle = (values.length - 1) / 2;
  const offsets = values.map((_, index) => index - middle);
  const sum = (terms) => terms.reduce((total, term) => total + term, 0);
  return sum(offsets.map((offset, index) => offset * values[index])) / sum(offsets.map((offset) => offset ** 2));
}

const crowd = (start) => Promise.all(Array.from({ length: CROWD }, (_, index) => start(index)));

/** Clients come, say something, and go politely, by the transport or not at all. */
async function connects(t, server) {
  await crowd(async (index) => {
    const transports = [['websocket'], ['polling'], ['polling', 'websocket']][index % 3];
    const socket = await connect(t, server, { transports });
    assert.equal(await ask(socket, 'message-with-ack', index), index);
    if (index % 2) socket.disconnect();
    else socket.io.engine.close();
  });
}

/** All members lose their connections, and come back. */
async function drops(members, speaker, counts) {
  await Promise.all(
    members.map(async (member) => {
      await member.destroy();
      const { told } = speaker;
      await until(() => speaker.told > told + 2, { message: 'events go on' });
      counts[(await member.comeBack()) ? 'recovered' : 'refused']++;
    }),
  );
}

/** A plugin is replaced while clients call it. */
async function reloads(t, server, counts) {
  const socket = await connect(t, server);
  for (let step = 1; step <= 3; step++) {
    const { generation } = await plugin(server, 'stamped');
    replaceFile(join(server.folder, 'stamped.wasm'), stamped(FIRST_VERSION + 3 * counts.rounds + step));
    await reload(server);
    assert.equal((await plugin(server, 'stamped')).generation, generation + 1);
    assert.equal(await ask(socket, 'message-with-ack', step), step);
  }
  socket.disconnect();
}

/** Clients that read nothing are told more than their buffers hold, until they are disconnected. */
async function slowReaders(t, server, counts) {
  const room = 'slow';
  const slow = await crowd(async () => {
    const socket = await rawSocket(t, server);
    socket.send(`421["join","${room}"]`);
    await socket.frame(/^431/);
    socket.ws.pause();
    return socket;
  });
  const speaker = await connect(t, server);
  const before = (await server.api('GET', '/api/v1/clients/count')).body.count;
  const text = 'x'.repeat(64 << 10);
  const gone = async () => (await server.api('GET', '/api/v1/clients/count')).body.count === before - slow.length;
  await until(
    async () => {
      for (let times = 0; times < 50; times++) await ask(speaker, 'tell', room, text);
      return gone();
    },
    { timeout: 60_000, message: 'slow readers are disconnected' },
  );
  counts.slow += slow.length;
  speaker.disconnect();
  for (const socket of slow) socket.ws.terminate();
}

/** What no client sends, over both transports. */
async function badPackets(t, server) {
  for (const frame of BAD_FRAMES) {
    const socket = await rawSocket(t, server);
    socket.send(frame);
    socket.send('421["message-with-ack",1]');
    // It is refused, or else the connection works still.
    await until(() => socket.closed || socket.frames.some((frame) => /^431/.test(frame)), {
      message: () => `${String(frame).slice(0, 80)}: ${socket.shown}`,
    });
    socket.ws.terminate();
    if (frame.length > 0) {
      const poll = await rawPolling(server);
      await poll.post(frame);
      await poll.post('1');
    }
  }
}
