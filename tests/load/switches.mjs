// What the features cost that are switched on by mixlab.toml, and that they cost nothing when they are off:
// `MIXLAB_BIN=target/release/mixlab node tests/load/switches.mjs` prints the table of results/switches.md. Each round has
// all of them, one after the other, so that a noisy machine is noisy for all.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { connect } from '../support/client.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';

// Its packages are those of the tests.
const require = createRequire(fileURLToPath(new URL('../package.json', import.meta.url)));
const msgpack = require('socket.io-msgpack-parser');
const bcrypt = require('bcryptjs');

const ROUNDS = Number(process.env.ROUNDS ?? 5);
const ASKING = 16; // clients that ask, each for the next when it has the answer
const QUESTIONS = 400; // of each
const LISTENING = 100; // clients that are told
const BROADCASTS = 100;
const CONNECTS = 200;
const TICK = 10_000; // µs: what /proc counts CPU time in

// As lists of bookings, messages and the like are: 2 KB of JSON that repeats itself.
const TOLD = Array.from({ length: 20 }, (_, id) => ({ id, studio: 'north', user: `user-${id}`, from: '2030-01-31T12:00:00Z', paid: true }));

// Takes what it is sent, and does nothing with it.
const collector = createServer((request, response) => request.resume().on('end', () => response.end('{}')));
await new Promise((resolve) => collector.listen(0, '127.0.0.1', resolve));
const telemetry = (sample) => `[telemetry]\nendpoint = "http://127.0.0.1:${collector.address().port}"\nmetrics = false\nsample = ${sample}\n`;

const ADMIN = { username: 'admin', password: 'looks at it' };
const admin = (mode) => `[admin]\nusername = "${ADMIN.username}"\npassword = "${bcrypt.hashSync(ADMIN.password, 4)}"\nmode = "${mode}"\n`;

/** `[what is switched on, its configuration, what clients have of it]`. The first is what all are held against. */
const SWITCHES = [
  ['nothing', ''],
  ['nothing, again', ''],
  ['`per_message_deflate`, of clients that do not take it', '[socket]\nper_message_deflate = true\n'],
  ['`per_message_deflate`', '[socket]\nper_message_deflate = true\n', { perMessageDeflate: { serverNoContextTakeover: true, clientNoContextTakeover: true } }],
  ['`parser = "msgpack"`', '[socket]\nparser = "msgpack"\n', { parser: msgpack }],
  ['`cookie`', '[socket]\ncookie = "io"\n'],
  ['`[audit]`', '[audit]\npath = "audit.jsonl"\n'],
  ['`[telemetry]`, a hundredth of the traces', telemetry(0.01)],
  ['`[telemetry]`, all traces', telemetry(1)],
  ['`[admin]`, nobody looks', admin('development')],
  ['`[admin]`, a page looks', admin('production'), { page: true }],
  ['`[admin]`, a page looks at single sockets', admin('development'), { page: true }],
  ['nothing, over polling', '', { transports: ['polling'] }],
  ['`http_compression`, over polling', '[socket]\nhttp_compression = true\n', { transports: ['polling'] }],
];

/** CPU time that a process has used, in µs. */
function used(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK;
}

/** CPU time that the server takes for each of `count`, in µs. */
async function cost(server, count, work) {
  const before = used(server.pid);
  await work();
  return (used(server.pid) - before) / count;
}

/** What one server with a switch takes for a connect, an echo, and a copy of a broadcast. */
async function measure([, config, { page = false, ...options } = {}]) {
  const ends = [];
  const t = { after: (end) => ends.push(end) };
  try {
    const limits = '[limits]\nconnections = "1000000/1s"\nsocket = "1000000/1s"\n[log]\nlevel = "warn"\n';
    const server = await startServer(t, { config: `${config}${limits}`, plugins: [CONFORMANCE], recovery: true });
    if (page) await connect(t, server, { namespace: '/admin', auth: ADMIN });
    const open = () => connect(t, server, { perMessageDeflate: false, ...options, token: token({ sub: '1' }) });
    const asking = await Promise.all(Array.from({ length: ASKING }, open));
    const ask = async (socket, count) => {
      for (let number = 0; number < count; number++) await socket.emitWithAck('message-with-ack', number, 'a few words');
    };
    await Promise.all(asking.map((socket) => ask(socket, 50)));
    const echo = await cost(server, ASKING * QUESTIONS, () => Promise.all(asking.map((socket) => ask(socket, QUESTIONS))));
    const listening = [];
    const connecting = await cost(server, CONNECTS, async () => {
      for (let count = 0; count < CONNECTS; count += 20) listening.push(...(await Promise.all(Array.from({ length: 20 }, open))));
    });
    for (const socket of [...asking, ...listening.splice(LISTENING)]) socket.disconnect();
    let got = 0;
    const all = new Promise((resolve) => {
      for (const socket of listening) socket.on('told', () => (got += 1) === LISTENING * BROADCASTS && resolve());
    });
    const copy = await cost(server, LISTENING * BROADCASTS, async () => {
      for (let count = 0; count < BROADCASTS; count++) {
        const { status } = await server.api('POST', '/api/v1/emit', { everyone: true, event: 'told', arguments: [TOLD] });
        if (status !== 200) throw new Error(`a broadcast was answered with ${status}`);
      }
      await all;
    });
    await server.stop();
    return [connecting, echo, copy];
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

collector.unref();
const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
const found = SWITCHES.map(() => []);
for (let round = 0; round < ROUNDS; round++) {
  for (const [index, one] of SWITCHES.entries()) found[index].push(await measure(one));
}
console.log('| switched on | connect | echo with ack | copy of a broadcast of 2 KB |\n|---|---|---|---|');
for (const [index, [name]] of SWITCHES.entries()) {
  const figures = [0, 1, 2].map((column) => median(found[index].map((one) => one[column])).toFixed(1));
  console.log(`| ${name} | ${figures.join(' | ')} |`);
}
