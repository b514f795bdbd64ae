// What a cluster of MixLab servers costs, by a model of what was measured: `node tests/load/scale.mjs` prints the
// tables of SCALE.md.

// Measured (results/compare.md; the cluster's stream with a client in Rust; entries of 230 bytes).
const HANDLE = 13; // µs of CPU for an event of a client with its answer, alone on its way
const COPY = 7.4; // µs of CPU for a copy of a broadcast
const READ = 22; // µs of CPU for an entry of a stream: 45,000 a second at most for a reader
const PING = 10; // µs of CPU for a ping and its answer: less than an echo
const CONNECTION = 3.8; // KiB of an idle websocket
const XADD = 65_000; // entries a second that one Redis takes at most
const ENTRY = 290; // bytes of an entry in Redis
const WIRE = 230; // bytes of an entry on its way

// Assumed.
const CORES = 8; // of a server
const USED = 0.6; // of what is there, so that a server more or less, and a busy moment, do no harm
const SESSION = 1_500; // bytes of a session in Redis, with rooms and some data
const RECOVERY = 120; // seconds for which entries are kept
const PING_INTERVAL = 25; // seconds
const NETWORK = 1.25e9; // bytes a second out of a Redis: 10 Gbit/s
const MOST = 250_000; // connections of a server: to have them all back elsewhere costs the others 28 s of CPU
const STREAMS = 1_024; // in the designs with several

/** Numbers between 0 and 1, the same in each run. */
function random(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** On how many servers the clients of a room are, on average, if each is anywhere: by trying it out. */
export function servers(size, count, tries = 200) {
  const next = random(size * 31 + count);
  let all = 0;
  for (let room = 0; room < tries; room++) {
    const on = new Set();
    for (let client = 0; client < size && on.size < count; client++) on.add(Math.floor(next() * count));
    all += on.size;
  }
  return all / tries;
}

/** How many of the entries a server reads, of `events` a second to rooms of this size. */
const DESIGNS = {
  'one stream': ({ events }) => ({ reads: events, streams: 1 }),
  'streams by room, clients anywhere': ({ events, clients, size }, count) => {
    // A server reads each stream that one of its rooms is in.
    const rooms = Math.min(clients / count, clients / size);
    const share = 1 - (1 - 1 / STREAMS) ** rooms;
    return { reads: events * share, streams: STREAMS };
  },
  'streams by room, clients of a room together': ({ events }, count) => ({ reads: events / count, streams: STREAMS }),
  'only who has somebody in the room': ({ events, size }, count) => ({
    reads: (events * servers(size, count)) / count,
    streams: STREAMS,
  }),
};

/** How many servers and Redis servers it takes; none if no number of servers is enough. */
export function cost(design, load) {
  const { clients, events, size, own = 0 } = load;
  const budget = CORES * USED * 1e6;
  for (let count = 2; count <= 100_000; count = Math.ceil(count * 1.05)) {
    if (clients / count > MOST) continue;
    const { reads, streams } = DESIGNS[design](load, count);
    if (events / streams > USED / (READ / 1e6)) return undefined;
    const handled = (events + own) * HANDLE;
    const copied = events * size * COPY;
    const pinged = (clients / PING_INTERVAL) * PING;
    const each = (handled + copied + pinged) / count + reads * READ;
    if (each > budget) continue;
    const out = reads * count * WIRE;
    return {
      servers: count,
      reading: (reads * READ) / budget,
      memory: (clients / count) * CONNECTION * 1024,
      redis: Math.max(Math.ceil(events / (XADD * USED)), Math.ceil(out / (NETWORK * USED))),
      kept: events * RECOVERY * ENTRY + clients * SESSION,
    };
  }
  return undefined;
}

/** Clients, events a second that go to rooms, the clients in a room, and events that are answered on the spot. */
export const LOADS = {
  'chat: rooms of 20, each client speaks once a minute': (clients) => ({ clients, events: clients / 60, size: 20, own: clients / 60 }),
  'game: rooms of 8, each client says two things a second': (clients) => ({ clients, events: clients * 2, size: 8 }),
  'feed: ten events a second for everybody': (clients) => ({ clients, events: 10, size: clients }),
};

const bytes = (number) => (number < 1e9 ? `${Math.round(number / 1e6)} MB` : `${Math.round(number / 1e8) / 10} GB`);
const percent = (number) => `${Math.round(number * 100)} %`;

/** The tables. */
export function tables() {
  const lines = [];
  for (const [name, load] of Object.entries(LOADS)) {
    lines.push(`### ${name[0].toUpperCase()}${name.slice(1)}`, '');
    lines.push('| clients | design | entries/s | servers | of their CPU for reading | memory of connections, each | Redis | kept in it |');
    lines.push('|---|---|---|---|---|---|---|---|');
    for (const clients of [1e5, 1e6, 1e7]) {
      for (const design of Object.keys(DESIGNS)) {
        const found = cost(design, load(clients));
        const entries = Math.round(load(clients).events).toLocaleString('en');
        const cells = found
          ? [found.servers, percent(found.reading), bytes(found.memory), found.redis, bytes(found.kept)]
          : ['not possible', '', '', '', ''];
        lines.push(`| ${clients.toLocaleString('en')} | ${design} | ${entries} | ${cells.join(' | ')} |`);
      }
    }
    lines.push('');
  }
  return lines.join('\n');
}

if (process.argv[1] === import.meta.filename) console.log(tables());
