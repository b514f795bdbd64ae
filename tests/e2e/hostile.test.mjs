// Every guest of tests/fixtures does its bad thing in a server that has other things to do. The
// client is told a code, the admin why, and nobody else notices.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { FOR_NOW, ask, connect, connectFrom, nextEvent, open } from '../support/client.mjs';
import {
  assertFailed,
  editConfig,
  nextArgument,
  notReady,
  plugin,
  reload,
  replaceFile,
  status,
} from '../support/plugins.mjs';
import { CONFORMANCE, ROOT, startServer, wasm } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';
import { CODE, FUNCTIONS, MEMORIES, number, TABLES, TYPES, withDoubles, withEntries, withGlobals } from '../support/wasm.mjs';

/** A text of many lines, however the command line sets the later ones in. */
const flat = (text) => text.replace(/\n\s*/g, '\n');

const GUESTS = join(ROOT, 'tests/fixtures');

/** Small, so that the tests are quick, but for the time on the clock, of which a busy machine gives a guest little. */
const CONFIG = `
[budget]
cpu = "100ms"
wall = "10s"
memory = "16MiB"
`;

const CUSTOM_EVENT = { wasm: 'custom-event', grants: ['emit:custom_response'] };
/** Tells which rooms its sender is in. */
const CAPABILITIES = {
  wasm: 'capabilities',
  grants: ['payments', 'notify', 'role:*', 'clients', 'room:*', 'emit', 'ask', 'handshake', 'find', 'disconnect'],
};

/** What allocators may keep. Calls that leaked what they took would soon have more. */
const MEMORY_SLACK = 48 << 20;

const NUMBERS = Array.from({ length: 1000 }, (_, index) => index + 1);

/**
 * What each guest is for.
 *
 * - `refused`: why it is refused at load with the keys `without` in mixlab.toml.
 * - `fails`: arguments of its event, with the code that the client is told and the reason for the log.
 * - `works`: what else is to be seen of it, given `{ server, socket, witness }`.
 * - `connects`: a test of its own, since it looks at every connection.
 *
 * All other keys are those of [[plugins]].
 */
const TABLE = {
  // Loading
  describe_fails: { refused: /it refused its configuration: config\.studio: there is no such studio/ },
  describe_traps: { refused: /describe failed: [^]*unreachable/, log: /describe_traps panics on purpose/ },
  describe_loops: { refused: /describe failed: the budget cpu = 100ms is used up/ },
  start_loops: { refused: /the budget cpu = 100ms is used up/ },
  empty_description: { refused: /no event/ },
  reserved_event: { refused: /"mixlab:x".*reserved/ },
  bad_schema: { refused: /"bad_schema".*schema of the arguments/ },
  bad_rate: { refused: /"bad_rate".*invalid rate/ },
  wrong_version: { refused: /mixlab:plugin@0\.3\.0.*mixlab:plugin@0\.2\.0/ },
  former_version: { refused: /it is built for mixlab:plugin@0\.1\.0; this host offers mixlab:plugin@0\.2\.0/ },
  other_types: {
    refused:
      /it is built for a mixlab:plugin@0\.2\.0 that is not the mixlab:plugin@0\.2\.0 which this host, mixlab \S+, offers: .*; build it again with the wit\/ of this host/,
  },
  unknown_import: { refused: /elsewhere:studio\/teleport/ },
  ungranted: {
    refused: /broadcast-payment-update.*"payments"/,
    group: 'events',
    grants: ['payments'],
    async works({ socket, witness }) {
      await ask(socket, 'ungranted');
      const [update] = await nextEvent(witness, 'payment_update');
      assert.equal(update.data, 'unwanted');
    },
  },
  versioned: {
    refused: /config: missing field `version`/,
    group: 'events',
    config: { version: 7 },
    works: async ({ socket }) => assert.deepEqual(await ask(socket, 'versioned'), { version: 7 }),
  },
  contracts: {
    refused: /config: missing field `events`/,
    group: 'events',
    config: { events: [{ name: 'contracts' }, { name: 'contracts:ping' }], answer: 'pong' },
    works: async ({ socket }) => assert.equal(await ask(socket, 'contracts'), 'pong'),
  },
  remembers: { refused: /which needs a grant/ },
  // Behind each door: hostile-doors.test.mjs.
  misbehaves: { refused: /which needs a grant/ },
  stores: { refused: /which needs a grant/ },
  charges: { refused: /which needs a grant/ },
  hooked: { refused: /which needs a grant/ },
  migrates: { refused: /which needs a grant/ },
  alarms: { refused: /which needs a grant/ },
  offers: {
    group: 'events',
    async works({ socket }) {
      const [sent, byWasi] = await ask(socket, 'offers', '127.0.0.1:1', '/');
      assert.match(sent, /Denied\("mixlab.toml does not grant/);
      assert.equal(byWasi, 'ErrorCode::HttpRequestDenied');
    },
  },
  filters: { refused: /which needs a grant/ },
  stamped: {
    group: 'events',
    works: async ({ socket }) => assert.deepEqual(await ask(socket, 'stamped', 'x'), { version: 1, data: 'x' }),
  },

  // Events
  echo: {
    group: 'events',
    async works({ socket }) {
      const sent = [{ a: [1.5, 'x', null] }, Buffer.from([0, 255]), 'ü'];
      const answer = await new Promise((resolve) => socket.emit('echo', ...sent, (...args) => resolve(args)));
      assert.deepEqual(answer, sent);
    },
  },
  named: {
    refused: /needs a grant/,
    group: 'events',
    grants: ['emit:custom_response'],
    config: { event: 'named', limit: '1/1h' },
    async works({ socket }) {
      const [response, answer] = await Promise.all([nextArgument(socket, 'custom_response'), ask(socket, 'named', 'x')]);
      assert.deepEqual([response, answer], ['x', 'x']);
      const { error } = await ask(socket, 'named', 'x');
      assert.equal(error.code, 'rate_limited');
    },
  },
  handler_loops: { group: 'events', fails: [{ code: 'plugin_timeout', reason: /the budget cpu = 100ms is used up/ }] },
  sleeps: {
    group: 'events',
    budget: { wall: '300ms', instances: 1 },
    fails: [{ code: 'plugin_timeout', reason: /the budget wall = 300ms is used up/ }],
  },
  slow: {
    group: 'events',
    // It counts time on the clock, in which a busy machine may give it little CPU.
    budget: { wall: '20s' },
    fails: [{ args: [9000], code: 'plugin_timeout', reason: /the budget cpu = 100ms is used up/ }],
    works: async ({ socket }) => assert.equal(await ask(socket, 'slow', 5), 5),
  },
  slow_under_load: {
    group: 'events',
    async works({ socket, witness }) {
      let answered = 0;
      const calls = NUMBERS.slice(0, 40).map(() => ask(socket, 'slow_under_load').then(() => (answered += 1)));
      assert.equal(await ask(witness, 'custom_event', 1), 1);
      assert.ok(answered < calls.length, 'another plugin does not wait for all of them');
      await Promise.all(calls);
    },
  },
  traps: { group: 'events', fails: [{ code: 'plugin_error', reason: /traps panics on purpose/ }] },
  trips: { group: 'events', fails: [{ code: 'plugin_error', reason: /trips panics on purpose/ }] },
  traps_at_1000: {
    group: 'events',
    budget: { instances: 1 },
    async works({ server, socket }) {
      const answers = await Promise.all([...NUMBERS, 1001].map(() => ask(socket, 'traps_at_1000')));
      const [failed] = answers.splice(999, 1);
      assert.deepEqual(answers, [...NUMBERS.slice(0, 999), 1]);
      assert.match(await assertFailed(server, failed, 'plugin_error'), /traps_at_1000 panics on purpose/);
    },
  },
  traps_after_emits: {
    group: 'events',
    grants: ['payments', 'emit', 'room:traps_after_emits'],
    fails: [{ code: 'plugin_error', reason: /traps_after_emits panics on purpose/ }],
  },
  rejects: {
    group: 'events',
    grants: ['payments', 'emit', 'room:rejects'],
    async works({ server, socket, witness }) {
      const error = {
        code: 'slot_taken',
        message: 'The slot is taken',
        temporary: true,
        retry_after_ms: 1500,
        details: ['10:00', '11:00'],
      };
      assert.deepEqual(await ask(socket, 'rejects'), { error });
      socket.emit('rejects');
      assert.deepEqual(await nextArgument(socket, 'mixlab:error'), { error });
      await assertNothingSeen(socket, witness);
      assert.equal((await plugin(server, 'rejects')).failures, 0, 'a rejection is no failure');
    },
  },

  // Memory and size
  memory_linear: { group: 'memory', fails: [{ code: 'plugin_error', reason: /the budget memory = 16.* is used up/ }] },
  memory_grow_then_ok: {
    group: 'memory',
    fails: [{ args: [32], code: 'plugin_error', reason: /the budget memory = 16.* is used up/ }],
    async works({ socket }) {
      for (let round = 0; round < 5; round += 1) assert.equal(await ask(socket, 'memory_grow_then_ok', 8), 8);
    },
  },
  hoards_handles: {
    group: 'memory',
    fails: [{ code: 'plugin_error', reason: /cannot allocate another handle|resource table has no free keys/ }],
  },
  random_flood: {
    group: 'memory',
    // Long enough to fill what may not be asked for.
    budget: { cpu: '5s', wall: '10s' },
    fails: ['safe', 'fast'].map((which) => ({
      args: [which, 50_000_000],
      code: 'plugin_error',
      reason: /the budget boundary = 8.* is used up/,
    })),
    async works({ socket }) {
      for (const which of ['safe', 'fast']) assert.equal(await ask(socket, 'random_flood', which, 1_000_000), 1_000_000);
    },
  },
  stack_overflow: { group: 'memory', fails: [{ code: 'plugin_error', reason: /stack_overflow\.rs:\d+:\d+[^]*call stack exhausted/ }] },
  huge_string: {
    group: 'memory',
    fails: [
      { code: 'plugin_error', reason: /the budget memory = 16.* is used up/ },
      { args: [9_000_000], code: 'plugin_error', reason: /the budget boundary = 8.* is used up/ },
    ],
    works: async ({ socket }) => assert.equal((await ask(socket, 'huge_string', 1_000_000)).length, 1_000_000),
  },
  million_items: {
    group: 'memory',
    budget: { cpu: '500ms', memory: '64MiB' },
    fails: [{ code: 'plugin_error', reason: /the budget boundary = 8.* is used up/ }],
    works: async ({ socket }) => assert.equal(await ask(socket, 'million_items', 3), undefined),
  },
  host_call_flood: {
    group: 'memory',
    grants: ['room:*'],
    budget: { host_calls: 500 },
    fails: [{ code: 'plugin_error', reason: /the budget host_calls = 500 is used up/ }],
  },
  emit_storm: {
    group: 'memory',
    grants: ['emit'],
    budget: { effects: 10, host_calls: 1_000_000, cpu: '1s' },
    fails: [{ code: 'plugin_error', reason: /the budget effects = 10 is used up/ }],
  },
  log_flood: {
    group: 'memory',
    budget: { log: '4KiB' },
    fails: [{ code: 'plugin_error', reason: /the budget log = 4.* is used up\s+(?:[0-9a-f]{32} )?its last log lines:(\n\s*(?:[0-9a-f]{32} )?(debug|info|warn|error): .*){10}/ }],
    works: (clients) => assertLogIsBounded(clients, 'log_flood', 4096),
  },
  stdout_flood: {
    group: 'memory',
    budget: { log: '4KiB' },
    fails: [{ code: 'plugin_error', reason: /the budget log = 4.* is used up/ }],
    works: (clients) => assertLogIsBounded(clients, 'stdout_flood', 4096),
  },

  // Answers that are none
  invalid_reply_json: {
    group: 'answers',
    fails: ['', 'null', '{}', '"x"', '[', '[1,]', '[1] 2', '[1][2]', '[NaN]', "['x']"].map((text) => ({
      args: [text],
      code: 'plugin_error',
      reason: /its reply is not a JSON array/,
    })),
    async works({ socket }) {
      assert.equal(await ask(socket, 'invalid_reply_json', ' [ 1 , "x" ] '), 1);
      assert.equal(await ask(socket, 'invalid_reply_json', '[]'), undefined);
    },
  },
  emit_invalid_json: {
    group: 'answers',
    grants: ['emit'],
    fails: ['', '{}', '[1', '[NaN]'].map((text) => ({
      args: [text],
      code: 'plugin_error',
      reason: /it gave up: message: not a JSON array/,
    })),
    async works({ socket, witness }) {
      await assertNothingSeen(socket, witness);
      await ask(socket, 'emit_invalid_json', '["x",1]');
      const [text, number] = await nextEvent(socket, 'emit_invalid_json:seen');
      assert.deepEqual([text, number], ['x', 1]);
    },
  },
  nan_and_deep: {
    group: 'answers',
    fails: [
      { args: [0], code: 'plugin_error', reason: /its reply is not a JSON array/ },
      { args: [128], code: 'plugin_error', reason: /its reply is nested deeper than 127 levels/ },
      { args: [100_000], code: 'plugin_error', reason: /its reply is nested deeper than 127 levels/ },
    ],
    async works({ socket }) {
      for (const depth of [1, 100, 126]) {
        let found = 1;
        for (let value = await ask(socket, 'nan_and_deep', depth); Array.isArray(value); value = value[0]) found += 1;
        assert.equal(found, depth);
      }
    },
  },
  invalid_utf8: { group: 'answers', fails: [{ code: 'plugin_error', reason: /invalid utf-?8/i }] },
  reply_breaks_schema: {
    group: 'answers',
    fails: [{ code: 'plugin_error', reason: /its reply breaks its contract: \/0: / }],
  },
  emit_breaks_schema: {
    group: 'answers',
    grants: ['emit'],
    fails: [{ code: 'plugin_error', reason: /its emit of "emit_breaks_schema:seen" breaks its contract: \/0: / }],
  },
  broken_attachments: { group: 'answers', fails: [{ code: 'plugin_error', reason: /attachment/ }] },

  // Reaching out
  capabilities: {
    refused: /which needs a grant/,
    group: 'answers',
    grants: CAPABILITIES.grants,
    async works({ socket }) {
      const calls = [{ call: 'join', room: 'lobby' }, { call: 'joined' }];
      assert.deepEqual(await ask(socket, 'capabilities', calls), [{ granted: null }, { granted: ['lobby'] }]);
    },
  },
  asks: {
    refused: /needs a grant/,
    group: 'answers',
    grants: ['ask', 'emit'],
    async works({ socket }) {
      const questions = [{ event: 'never-answered', arguments: [], wait_ms: 20 }];
      assert.deepEqual(await ask(socket, 'asks', questions), ['timed_out']);
    },
  },
  requests: {
    refused: /needs a grant/,
    group: 'answers',
    grants: ['http'],
    budget: { host_calls: 500 },
    fails: [
      {
        args: [[{ url: 'http://127.0.0.1:1/', times: 1000 }]],
        code: 'plugin_error',
        reason: /the budget host_calls = 500 is used up/,
      },
    ],
    async works({ socket }) {
      const [{ denied }] = await ask(socket, 'requests', [{ url: 'http://127.0.0.1:1/' }]);
      assert.match(denied, /127\.0\.0\.1 is not on the internet/);
    },
  },
  wasi_requests: {
    refused: /needs a grant/,
    group: 'answers',
    grants: ['store'],
    async works({ socket }) {
      const answers = await ask(socket, 'wasi_requests', [{ authority: '127.0.0.1:1' }]);
      assert.deepEqual(answers, [{ refused: 'ErrorCode::HttpRequestDenied' }]);
    },
  },
  votes: {
    refused: /needs a grant/,
    group: 'answers',
    grants: ['ask', 'room:*'],
    async works({ socket }) {
      assert.deepEqual(await ask(socket, 'votes', 'nobody', 20), { given: [], missing: [] });
    },
  },
  lobby: {
    refused: /which needs a grant/,
    group: 'answers',
    grants: ['presence:a', 'history:a', 'room:a', 'user:*', 'emit'],
    async works({ socket }) {
      const calls = [{ call: 'members', room: 'a' }, { call: 'members', room: 'b' }];
      assert.deepEqual(await ask(socket, 'lobby', calls), [
        { granted: [] },
        { denied: 'mixlab.toml does not grant "presence:b"' },
      ]);
    },
  },
  counts: {
    refused: /mixlab:plugin\/sockets\.count.*"find"/,
    group: 'answers',
    grants: ['find', 'room:a'],
    fails: [{ args: ['b'], code: 'plugin_error', reason: /it gave up: mixlab\.toml does not grant "room:b"/ }],
    works: async ({ socket }) => assert.equal(await ask(socket, 'counts', 'a'), 0),
  },
  leaves: {
    refused: /mixlab:plugin\/rooms\.leave.*"room:ROOM"/,
    group: 'answers',
    grants: ['room:a'],
    fails: [{ args: ['b'], code: 'plugin_error', reason: /it gave up: mixlab\.toml does not grant "room:b"/ }],
    works: async ({ socket }) => assert.equal(await ask(socket, 'leaves', 'a'), undefined),
  },
  reads_file: { group: 'answers', works: ({ socket }) => assertRefusedInside(socket, 'reads_file') },
  opens_socket: { group: 'answers', works: ({ socket }) => assertRefusedInside(socket, 'opens_socket') },
  reads_env: {
    group: 'answers',
    works: async ({ socket }) =>
      assert.deepEqual(await ask(socket, 'reads_env'), { variables: [], command_line: [] }),
  },

  // Connections
  greets: {
    async connects(t, server) {
      const first = await connect(t, server, { auth: { hello: ['x'] } });
      assert.deepEqual(await nextArgument(first, 'greets:welcome'), { hello: ['x'] });
      const second = await connect(t, server, { token: token({ sub: '1' }) });
      assert.deepEqual(await nextArgument(second, 'greets:welcome'), {}, 'without the token');
      const id = await ask(second, 'greets');
      second.disconnect();
      const [left, reason] = await nextEvent(first, 'greets:left');
      assert.deepEqual([left, reason], [id, 'client namespace disconnect']);
    },
    grants: ['emit', 'room:greets'],
  },
  gathers: {
    refused: /needs a grant/,
    grants: ['find', 'emit', 'room:gathers'],
    async connects(t, server) {
      const [first, second] = [await connect(t, server), await connect(t, server, { auth: { gather: true } })];
      assert.deepEqual(await nextArgument(second, 'gathers:arrived'), { number: 1, there: 0 });
      assert.equal(await ask(first, 'gathers:ping'), 'pong');
    },
  },
  dismisses: {
    refused: /needs a grant/,
    grants: ['emit', 'handshake', 'disconnect'],
    async connects(t, server) {
      const [leaver, stayer] = [await connect(t, server), await connect(t, server)];
      assert.equal(await ask(leaver, 'dismisses', true), 'dismissed');
      await until(async () => (await server.api('GET', '/api/v1/clients/count')).body.count === 1);
      assert.equal(await ask(stayer, 'dismisses:ping'), 'pong');
    },
  },
  conformance: {
    grants: CONFORMANCE.grants,
    async connects(t, server) {
      const socket = await connect(t, server, { auth: { hello: 1 } });
      assert.deepEqual(await nextArgument(socket, 'auth'), { hello: 1 });
      assert.equal(await ask(socket, 'message-with-ack', 7), 7);
    },
  },
  on_connect_refuses: {
    async connects(t, server) {
      assert.equal(await refusal(t, server, { auth: { room: 'closed' } }), 'room_closed');
      assert.equal(await refusal(t, server, { auth: { room: 7 } }), 'invalid_payload');
      for (const auth of [undefined, {}, { room: 'open' }]) {
        const socket = await connect(t, server, { auth });
        assert.equal(await ask(socket, 'on_connect_refuses:ping'), 'pong');
      }
      assert.equal((await plugin(server, 'on-connect-refuses')).failures, 0, 'a rejection is no failure');
    },
  },
  places: {
    config: { name: 'here', namespaces: ['/'] },
    async connects(t, server) {
      const socket = await connect(t, server);
      assert.deepEqual(await ask(socket, 'places'), ['here', '/']);
      await server.waitForLog(/somebody comes to \//);
    },
  },
  on_connect_loops: {
    connects: (t, server) =>
      assertConnectFails(t, server, {
        name: 'on-connect-loops',
        code: 'plugin_timeout',
        reason: /the budget cpu = 100ms is used up/,
      }),
  },
  on_connect_traps: {
    connects: (t, server) =>
      assertConnectFails(t, server, {
        name: 'on-connect-traps',
        code: 'plugin_error',
        reason: /on_connect_traps panics on purpose/,
      }),
  },
  on_disconnect_loops: {
    // Long enough to see that nobody waits for it.
    budget: { cpu: '1s', wall: '20s' },
    async connects(t, server) {
      const [leaver, stayer] = [await connect(t, server), await connect(t, server)];
      leaver.disconnect();
      await until(async () => (await server.api('GET', '/api/v1/clients/count')).body.count === 1);
      assert.equal(await ask(stayer, 'custom_event', 1), 1);
      assert.equal(await ask(stayer, 'on_disconnect_loops:ping'), 'pong');
      assert.doesNotMatch(server.log(), /is used up/, 'it loops on, and nobody waited');
      const [line] = await server.waitForLog(/.*the budget cpu = 1s is used up.*/);
      assert.match(line, /event="on-disconnect".*trace_id=/);
      const { during, reason } = (await plugin(server, 'on-disconnect-loops')).last_failure;
      assert.deepEqual([during, reason], ['on-disconnect', 'the budget cpu = 1s is used up']);
      assert.equal(await ask(stayer, 'on_disconnect_loops:ping'), 'pong');
    },
  },
};

/** A function without parameters or results, of so many instructions that do nothing. */
const idle = (length) => Buffer.concat([Buffer.from([0]), Buffer.alloc(length * 3, '\x41\x00\x1a', 'latin1'), Buffer.from([0x0b])]);
const repeat = (count, entry) => Array.from({ length: count }, () => entry);

/**
 * What no compiler makes: entries that are added to the module inside a good component, or what makes
 * it of a good one, why it is refused then, and keys of [[plugins]].
 */
const MADE = {
  'a-table-bomb': [
    { [TABLES]: [Buffer.concat([Buffer.from([0x70, 0]), number(4 << 20)])] },
    /the budget memory = 16.* is used up/,
  ],
  'a-memory-bomb-in-parts': [
    { [MEMORIES]: repeat(10, Buffer.concat([Buffer.from([0]), number(32)])) },
    /the budget memory = 16.* is used up/,
  ],
  // Each takes gigabytes of addresses.
  'many-empty-memories': [{ [MEMORIES]: repeat(50, Buffer.from([0, 0])) }, /resource limit exceeded: memory count too high/],
  // Each of them is kept by the host, for each instance.
  'a-global-bomb': [(component) => withGlobals(component, 200_000, 90), /the budget memory = 16.* is used up/],
  'a-module-by-the-hundred': [(component) => withGlobals(component, 1, 300), /it has more than 256 instances of modules inside/],
  'a-component-of-doubles': [(component) => withDoubles(component, 11), /it has more than 256 instances of modules inside/],
  'a-huge-module': [
    {
      [TYPES]: [Buffer.from([0x60, 0, 0])],
      [FUNCTIONS]: (count) => repeat(3001, number(count(TYPES))),
      // One of them is another each time, or the cache of compiled plugins would have it.
      [CODE]: [...repeat(3000, idle(300)), idle(1 + (Date.now() % 10_000))].map((body) => Buffer.concat([number(body.length), body])),
    },
    /it does not compile within the budget compile = 50ms/,
    { budget: { compile: '50ms' } },
  ],
};

const made = (component, entries) => (typeof entries === 'function' ? entries(component) : withEntries(component, entries));

const entries = Object.entries(TABLE);
const nameOf = (guest) => guest.replaceAll('_', '-');
const table = (guest, { refused, log, fails, works, connects, group, ...keys }) => ({ wasm: guest, ...keys });

/** How long other clients had to wait while a guest did its thing. */
const noticed = [];

/** Sends one event after the other until `work` is done; the longest that any of them took, in ms. */
async function worstLatency(socket, work) {
  let done = false;
  const working = Promise.resolve(work()).finally(() => (done = true));
  let worst = 0;
  do {
    const sent = performance.now();
    assert.equal(await ask(socket, 'custom_event', 3), 3);
    worst = Math.max(worst, performance.now() - sent);
    // It looks on, and is no load of its own.
    await pause(1);
  } while (!done);
  await working;
  return worst;
}

/** The memory of a server that stands on nothing else, in bytes. */
const resident = ({ pid }) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/RssAnon:\s*(\d+) kB/)[1]) << 10;
/** What each server had when it was first looked at. */
const atFirst = new Map();

/** A server has about the memory that it had before all guests of it. */
async function assertMemoryReturns(server) {
  if (!atFirst.has(server)) atFirst.set(server, resident(server));
  const grown = () => resident(server) - atFirst.get(server);
  await until(() => grown() < MEMORY_SLACK, { message: () => `it has ${grown() >> 20} MiB more than at first` });
}

/** One call writes no more than so many bytes into the log. */
async function assertLogIsBounded({ server, socket }, guest, bytes) {
  const written = () => {
    const lines = server.log().matchAll(new RegExp(`^.* INFO plugin: ([^]*?) plugin="${nameOf(guest)}"`, 'gm'));
    return [...lines].reduce((sum, [, text]) => sum + text.length, 0);
  };
  const before = written();
  await assertFailed(server, await ask(socket, guest), 'plugin_error');
  const added = written() - before;
  assert.ok(added <= bytes, `${added} bytes`);
}

async function assertRefusedInside(socket, event) {
  const { refused, ...rest } = await ask(socket, event);
  assert.deepEqual(rest, {});
  assert.ok(refused.length > 0);
}

/** Neither of both, nor anybody in a room, has seen anything but answers. */
async function assertNothingSeen(socket, witness) {
  assert.deepEqual(await ask(socket, 'capabilities', [{ call: 'joined' }]), [{ granted: [] }]);
  // What was emitted before comes before an answer.
  await ask(witness, 'custom_event', 0);
  for (const { collected } of [socket, witness]) {
    const names = new Set(collected.map(({ name }) => name));
    for (const name of ['custom_response', 'mixlab:error', 'authenticated']) names.delete(name);
    assert.deepEqual([...names], []);
  }
}

/** The message of the `connect_error` that refuses a client, or why its transport closes. */
const refusal = async (t, server, options = {}) =>
  new Promise((resolve, reject) => {
    const socket = open(t, server, options);
    socket.once('connect', () => reject(new Error('it was let in')));
    socket.once('connect_error', ({ message }) => resolve(message));
    socket.io.on('close', (reason) => reason === 'forced close' || resolve(reason));
  });

/** What a client hears that is refused with a code: of passing ones, that it has to try again. */
const heard = (code) => (['plugin_timeout', 'plugin_unavailable'].includes(code) ? FOR_NOW : code);

async function assertConnectFails(t, server, { name, code, reason }) {
  assert.equal(await refusal(t, server), heard(code));
  assert.equal(await refusal(t, server, { transports: ['polling'] }), heard(code));
  const [line] = await server.waitForLog(/^.*event="on-connect".*trace_id=[0-9a-f]{32}$/m);
  await server.waitForLog(reason);
  assert.match(line, new RegExp(`plugin="${name}"`));
  const { failures, last_failure: last } = await plugin(server, name);
  assert.deepEqual([failures, last.during], [2, 'on-connect']);
  assert.match(last.reason, reason);
  assert.equal((await server.api('GET', '/api/v1/clients/count')).body.count, 0);
  // The server is as alive as ever: without the plugin everybody gets in.
  editConfig(server, (toml) => toml.replace(`name = "${name}"`, `name = "${name}"\nenabled = false`));
  await reload(server);
  const socket = await connect(t, server);
  assert.equal(await ask(socket, 'custom_event', 1), 1);
}

// In a few servers, so that none of them has to compile all; started before the first test, as
// node:test takes a pause between tests for their end.
const groups = [...new Set(entries.map(([, { group }]) => group).filter(Boolean))].map((name) => [
  name,
  entries.filter(([, { group }]) => group === name),
]);
const servers = new Map();
for (const [group, members] of groups) {
  const needed = members.some(([guest]) => guest === 'capabilities') ? [] : [CAPABILITIES];
  const plugins = [CUSTOM_EVENT, ...needed, ...members.map(([guest, entry]) => table(guest, entry))];
  servers.set(group, await startServer({ after }, { config: CONFIG, plugins }));
}

/** Of guests that are not let in, all at once. */
const intruders = entries.filter(([, { refused }]) => refused);
const refusing = await startServer(
  { after },
  { config: CONFIG, plugins: [CUSTOM_EVENT, ...intruders.map(([guest]) => guest)] },
);

/** For what no compiler makes. */
const making = await startServer(
  { after },
  {
    config: CONFIG,
    plugins: [
      CUSTOM_EVENT,
      ...Object.entries(MADE).map(([name, [, , keys]]) => ({ wasm: 'echo', name, path: `${name}.wasm`, ...keys })),
    ],
  },
);

/** For how many milliseconds a plugin that keeps failing is paused. */
const PAUSE = 3000;

/** For the plugin that keeps failing. */
const pausing = await startServer(
  { after },
  {
    // Long enough to look at it in all places meanwhile.
    config: `${CONFIG}\n[breaker]\nfailures = 3\npause = "${PAUSE}ms"`,
    plugins: [CUSTOM_EVENT, 'traps'],
  },
);

test('every guest has an entry here and a row in README.md', () => {
  const guests = readdirSync(join(GUESTS, 'examples'))
    .filter((file) => file.endsWith('.rs'))
    .map((file) => file.slice(0, -'.rs'.length));
  assert.deepEqual(Object.keys(TABLE).sort(), guests.sort());
  const readme = readFileSync(join(GUESTS, 'README.md'), 'utf8');
  assert.deepEqual(guests.filter((guest) => !readme.includes(`| \`${guest}\` |`)), []);
  const untested = entries.filter(([, { refused, fails, works, connects }]) => !(refused || fails || works || connects));
  assert.deepEqual(untested, []);
  assert.ok(guests.length + Object.keys(MADE).length >= 40);
});

for (const [group, members] of groups) {
  const server = servers.get(group);

  test(`all guests of the group ${group} are loaded`, async () => {
    const { plugins } = await status(server);
    const refused = plugins.filter(({ state }) => state !== 'serving');
    assert.deepEqual(refused.map(({ name, refusal }) => `${name}: ${refusal}`), []);
    assert.deepEqual(await notReady(server), []);
  });

  for (const [guest, { fails = [], works }] of members) {
    const clients = async (t) => {
      const socket = await connect(t, server);
      const witness = await connect(t, server, { token: token({ sub: 'witness' }) });
      assert.deepEqual(await ask(witness, 'subscribe:payments'), { success: true });
      return { server, socket, witness };
    };

    for (const { args = [], code, reason } of fails) {
      test(`${guest}(${args.map((arg) => JSON.stringify(arg))}) fails with ${code} and nobody else notices`, async (t) => {
        const { socket, witness } = await clients(t);
        const order = [];
        const send = async (who, event, ...args) => {
          const answer = await ask(who, event, ...args);
          if (who === socket) order.push(event);
          return answer;
        };
        const failing = send(socket, guest, ...args);
        const bystander = await connect(t, server);
        const [worst, failed, ...others] = await Promise.all([
          worstLatency(bystander, () => failing),
          failing,
          send(socket, 'custom_event', 1),
          send(socket, `${guest}:ping`),
          send(witness, 'custom_event', 2),
        ]);
        const line = await assertFailed(server, failed, code);
        assert.match(line, reason);
        assert.match(line, new RegExp(`plugin="${nameOf(guest)}" version="\\S+" generation=1 event="${guest}" socket="\\S+" trace_id=`));
        assert.deepEqual(others, [1, 'pong', 2]);
        assert.deepEqual(order, [guest, 'custom_event', `${guest}:ping`], 'in the order they were sent');

        socket.emit(guest, ...args);
        const [told] = await nextEvent(socket, 'mixlab:error');
        assert.match(await assertFailed(server, told, code), reason);
        assert.equal(await ask(socket, `${guest}:ping`), 'pong');
        await assertNothingSeen(socket, witness);

        const { state, memory_bytes: bytes, last_failure: last } = await plugin(server, nameOf(guest));
        assert.deepEqual([state, last.during], ['serving', guest]);
        assert.ok(bytes < 8 << 20, `its instances hold ${bytes} bytes`);
        noticed.push({ guest, worst, server });
        await assertMemoryReturns(server);
        assert.match(last.reason, reason);
        const { stdout } = await server.mixlab('plugin', 'list');
        assert.ok(flat(stdout).includes(flat(`last failure  ${last.at} in ${guest}: ${last.reason}`)), stdout);
      });
    }

    if (works) {
      test(`${guest} does what it may`, async (t) => {
        const all = await clients(t);
        const worst = await worstLatency(await connect(t, server), () => works(all));
        noticed.push({ guest, worst, server });
        await assertMemoryReturns(server);
        assert.equal(await ask(all.socket, 'custom_event', 1), 1);
        assert.equal(await ask(all.socket, `${guest}:ping`), 'pong');
      });
    }
  }

  if (group === 'events') {
    test('a call that finds no instance free in time is told so, and not blamed for the time', async (t) => {
      const sockets = await Promise.all([1, 2, 3].map(() => connect(t, server)));
      const answers = await Promise.all(sockets.map((socket) => ask(socket, 'sleeps')));
      const codes = answers.map(({ error }) => error.code);
      assert.ok(codes.includes('plugin_timeout'), `the one that sleeps: ${codes}`);
      assert.ok(codes.includes('plugin_unavailable'), `those that waited for it: ${codes}`);
      assert.equal(await ask(sockets[0], 'sleeps:ping'), 'pong');
    });
  }
}

for (const [guest, { refused, log = refused }] of intruders) {
  test(`${guest} is refused at load with the reason`, async (t) => {
    const { state, refusal, generation, events, last_failure: last } = await plugin(refusing, nameOf(guest));
    assert.deepEqual([state, generation, events], ['refused', 0, []], refusal);
    assert.match(refusal, refused);
    assert.deepEqual([last.during, last.reason], ['load', refusal]);
    await refusing.waitForLog(refused);
    await refusing.waitForLog(log);
    const { stdout } = await refusing.mixlab('plugin', 'list');
    assert.ok(flat(stdout).includes(flat(`refused       ${refusal}`)), stdout);
    const socket = await connect(t, refusing);
    assert.equal((await ask(socket, guest)).error.code, 'unknown_event');
    assert.equal(await ask(socket, 'custom_event', 1), 1);
  });
}

for (const [name, [entries, reason, keys]] of Object.entries(MADE)) {
  test(`${name.replaceAll('-', ' ')} is refused at load, and nobody else notices`, async (t) => {
    const bystander = await connect(t, making);
    const worst = worstLatency(bystander, async () => {
      writeFileSync(join(making.folder, `${name}.wasm`), made(readFileSync(wasm('echo')), entries));
      await reload(making);
    });
    noticed.push({ guest: name, worst: await worst, server: making });
    const { state, refusal } = await plugin(making, name);
    assert.equal(state, 'refused');
    assert.match(refusal, reason);
    await assertMemoryReturns(making);
    // Without what was added, and with time to be compiled, it is a good one.
    if (keys) editConfig(making, (toml) => toml.replace('"compile" = "50ms"', '"compile" = "1m"'));
    writeFileSync(join(making.folder, `${name}.wasm`), withEntries(readFileSync(wasm('echo')), {}));
    await reload(making);
    const isServing = async () => (await plugin(making, name)).state === 'serving';
  await until(isServing, { message: 'it serves, when the compiler is done with what was there before' });
    assert.equal(await ask(bystander, 'echo', 'x'), 'x');
    rmSync(join(making.folder, `${name}.wasm`));
    editConfig(making, (toml) => toml.replace(`name = "${name}"`, `name = "${name}"\nenabled = false`));
    await reload(making);
  });
}

test('what the host keeps of an instance counts as its memory', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['echo'] });
  const { memory_bytes: before } = await plugin(own, 'echo');
  replaceFile(join(own.folder, 'echo.wasm'), withGlobals(readFileSync(wasm('echo')), 50_000, 10));
  await reload(own);
  const { memory_bytes: bytes, generation } = await plugin(own, 'echo');
  assert.equal(generation, 2);
  assert.ok(bytes - before >= 50_000 * 10 * 16, `${bytes} bytes, and ${before} before`);
});

test('a server that refused plugins serves the others and is not ready', async () => {
  assert.deepEqual(await notReady(refusing), intruders.map(([guest]) => nameOf(guest)));
  assert.equal((await refusing.api('GET', '/healthz', undefined, null)).status, 200);
});

test('mixlab check tells of every plugin that would be refused', async () => {
  const { code, stdout, stderr } = await refusing.mixlab('check');
  assert.equal(code, 1);
  assert.match(stdout, /^custom-event 0\.1\.0: custom_event$/m);
  for (const [guest, { refused }] of intruders) {
    assert.match(stderr, new RegExp(`^error: ${nameOf(guest)}: .*${refused.source}`, 'm'));
  }
});

const PAUSED = { code: 'plugin_unavailable', message: 'the plugin is paused', temporary: true };
const SWITCHED_OFF = { code: 'plugin_unavailable', message: 'the plugin is switched off', temporary: false };

/** Waits as long as the client was told to; returns how long that was. */
async function assertPaused(socket, event) {
  const { error } = await ask(socket, event);
  const told = performance.now();
  const { retry_after_ms: wait, ...rest } = error;
  assert.deepEqual(rest, PAUSED);
  assert.ok(wait > 0 && wait <= PAUSE, `${wait}`);
  return {
    // Time is the subject. A timer may be early by a millisecond.
    async over() {
      const left = () => wait - (performance.now() - told);
      while (left() > 0) await pause(left());
    },
  };
}

/** For whom `plugin list`, health and /metrics say that a plugin is paused. */
async function assertShownPaused(server, name, { everybody = false, addresses = 0 }) {
  const { paused, paused_addresses: found } = await plugin(server, name);
  assert.deepEqual([paused, found], [everybody, addresses]);
  const { body: metrics } = await server.api('GET', '/metrics', undefined, null);
  for (const [metric, value] of [
    ['mixlab_plugin_paused', Number(everybody)],
    ['mixlab_plugin_paused_addresses', addresses],
  ]) {
    assert.ok(metrics.includes(`${metric}{plugin="${name}"} ${value}\n`), `${metric} ${value}:\n${metrics}`);
  }
  const { status, body: health } = await server.api('GET', '/readyz', undefined, null);
  const told = everybody ? `paused: ${name}\n` : addresses ? `paused for some addresses: ${name}\n` : '';
  assert.deepEqual([status, health], [200, `ready\n${told}`]);
  const { stdout } = await server.mixlab('plugin', 'list');
  const [lines] = stdout.match(new RegExp(`^${name} [^]*?(?=^\\S|$(?![^]))`, 'm'));
  const [, shown] = lines.match(/^ +paused +(.*)$/m) ?? [];
  const expected = everybody ? 'for everybody' : addresses ? `for ${addresses} of the clients' addresses` : undefined;
  assert.equal(shown, expected, stdout);
}

test('a plugin that keeps failing is paused for who makes it fail, and comes back when it is good again', async (t) => {
  const [socket, neighbour] = [await connect(t, pausing), await connect(t, pausing)];
  const other = await connectFrom(t, pausing, '127.0.0.2');
  for (let count = 0; count < 3; count += 1) await assertFailed(pausing, await ask(socket, 'traps'), 'plugin_error');
  const paused = await assertPaused(socket, 'traps:ping');
  await assertPaused(neighbour, 'traps:ping');
  await pausing.waitForLog(/the plugin is paused for a client: its calls keep failing plugin="traps" .*address=127\.0\.0\.1/);
  await assertShownPaused(pausing, 'traps', { addresses: 1 });
  const { calls } = await plugin(pausing, 'traps');
  await ask(socket, 'traps:ping');
  assert.equal((await plugin(pausing, 'traps')).calls, calls, 'it is not called');
  assert.equal(await ask(socket, 'custom_event', 1), 1);
  assert.equal(await ask(other, 'traps:ping'), 'pong', 'another client is served as ever');

  await paused.over();
  assert.equal(await ask(socket, 'traps:ping'), 'pong');
  await assertShownPaused(pausing, 'traps', {});
  await assertFailed(pausing, await ask(socket, 'traps'), 'plugin_error');
});

test('a plugin that fails for several clients is paused for everybody', async (t) => {
  const sockets = [await connect(t, pausing), await connectFrom(t, pausing, '127.0.0.2')];
  const uninvolved = await connectFrom(t, pausing, '127.0.0.3');
  assert.equal(await ask(uninvolved, 'traps:ping'), 'pong');
  for (const socket of [...sockets, sockets[0]]) {
    await assertFailed(pausing, await ask(socket, 'traps'), 'plugin_error');
  }
  await pausing.waitForLog(/the plugin is paused: its calls keep failing plugin="traps"/);
  for (const socket of sockets) await assertPaused(socket, 'traps:ping');
  const paused = await assertPaused(uninvolved, 'traps:ping');
  await assertShownPaused(pausing, 'traps', { everybody: true });
  await paused.over();
  assert.equal(await ask(uninvolved, 'traps:ping'), 'pong');
  for (const socket of sockets) assert.equal(await ask(socket, 'traps:ping'), 'pong');
  await assertShownPaused(pausing, 'traps', {});
});

test('behind a trusted proxy it is its clients that are told apart', async (t) => {
  const proxied = await startServer(t, {
    config: `${CONFIG}\n[breaker]\nfailures = 3\npause = "1m"\n[limits]\ntrusted_proxies = ["127.0.0.1"]`,
    plugins: ['traps'],
  });
  const client = (address) => connect(t, proxied, { extraHeaders: { 'x-forwarded-for': address } });
  const [bad, good] = [await client('192.0.2.1'), await client('192.0.2.2')];
  for (let count = 0; count < 3; count += 1) await ask(bad, 'traps');
  assert.equal((await ask(bad, 'traps:ping')).error.message, 'the plugin is paused');
  assert.equal(await ask(good, 'traps:ping'), 'pong');
});

test('a plugin that keeps failing may be switched off, until it changes', async (t) => {
  const server = await startServer(t, {
    config: `${CONFIG}\n[breaker]\nfailures = 3\npause = "1ms"`,
    plugins: [{ wasm: 'asks', grants: ['ask', 'emit'], budget: { wall: '20s', host_calls: 2 }, on_failure: 'disable' }],
  });
  const [socket, other] = [await connect(t, server), await connectFrom(t, server, '127.0.0.2')];
  // A good call that is under way all the time.
  const holder = await connect(t, server);
  let answer;
  holder.once('hold', (ack) => (answer = ack));
  const held = ask(holder, 'asks', [{ event: 'hold', arguments: [], wait_ms: 9_000 }]);
  await until(() => answer, { message: 'the plugin asks' });

  const calls = Array.from({ length: 3 }, () => ({ event: 'unanswered', arguments: [], wait_ms: 1 }));
  const fails = async (who) => assertFailed(server, await ask(who, 'asks', calls), 'plugin_error');
  for (const who of [socket, socket, other]) {
    assert.equal((await plugin(server, 'asks')).paused, false);
    await fails(who);
  }
  assert.deepEqual(await ask(socket, 'asks:ping'), { error: SWITCHED_OFF });
  await server.waitForLog(/the plugin is switched off until it changes: its calls keep failing plugin="asks"/);
  answer('now');
  assert.deepEqual(await held, [{ answered: ['now'] }]);
  await assertShownPaused(server, 'asks', { everybody: true });
  for (const who of [socket, other]) assert.deepEqual(await ask(who, 'asks:ping'), { error: SWITCHED_OFF });

  editConfig(server, (toml) => toml.replace('"host_calls" = 2', '"host_calls" = 20'));
  await reload(server);
  assert.equal(await ask(socket, 'asks:ping'), 'pong');
  assert.equal((await plugin(server, 'asks')).generation, 2);
});

for (const [guest, entry] of entries.filter(([, { connects }]) => connects)) {
  test(`${guest} hears of connections, and the server goes on`, async (t) => {
    const server = await startServer(t, { config: CONFIG, plugins: [CUSTOM_EVENT, table(guest, entry)] });
    await entry.connects(t, server);
    assert.deepEqual(await notReady(server), []);
  });
}

test('a guest that loops is stopped on a server that has rested', async (t) => {
  const server = await startServer(t, { config: CONFIG, plugins: ['handler_loops'] });
  const threads = `/proc/${server.pid}/task`;
  const ticker = readdirSync(threads).find((id) => readFileSync(`${threads}/${id}/comm`, 'utf8') === 'epoch-ticker\n');
  const wakes = () => readFileSync(`${threads}/${ticker}/status`, 'utf8').match(/voluntary_ctxt_switches:\s*(\d+)/)[1];
  const socket = await connect(t, server);
  for (let round = 0; round < 3; round += 1) {
    await until(
      async () => {
        const before = wakes();
        // As long as a hundred ticks.
        await pause(100);
        return wakes() === before;
      },
      { message: 'it counts no time of guests while none runs' },
    );
    await assertFailed(server, await ask(socket, 'handler_loops'), 'plugin_timeout');
    assert.equal(await ask(socket, 'handler_loops:ping'), 'pong');
  }
});

test('how long others waited while guests did their thing', (t) => {
  const worst = new Map();
  for (const { guest, worst: ms } of noticed) worst.set(guest, Math.max(ms, worst.get(guest) ?? 0));
  const sorted = [...worst].sort(([, one], [, other]) => other - one);
  for (const [guest, ms] of sorted) t.diagnostic(`${ms.toFixed(1).padStart(8)} ms  ${guest}`);
  const grown = [...atFirst].map(([server, bytes]) => ((resident(server) - bytes) / (1 << 20)).toFixed(1));
  t.diagnostic(`MiB that servers have more than after their first guest: ${grown.join(', ')}`);
});
