// What a plugin's schemas may cost, and what checks of a client's events take from others.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { after, test } from 'node:test';
import { ask, connect, connectFrom } from '../support/client.mjs';
import { plugin } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';

const CONFIG = '[budget]\ncpu = "500ms"\n';

const contracts = (name, events, answer = 'ok') => ({ wasm: 'contracts', name, config: { events, answer } });
const withArguments = (name, schema) => ({ name, arguments: JSON.stringify(schema) });
const withPattern = (name, pattern) => withArguments(name, { items: { pattern } });

/** Each takes a check or a load long enough to be one, or has no bound. */
const TOO_HEAVY = {
  'repeated-pattern': [[withPattern('x', '^(?:a?){20000}b')], /the pattern "\^\(\?:a\?\)\{20000\}b" is not taken: it is too large/],
  'class-pattern': [[withPattern('x', '^\\p{L}{300}$')], /is not taken: it is too large/],
  'look-around': [[withPattern('x', '^(?=a)')], /is not taken: look-around/],
  'long-pattern': [[withPattern('x', '\\cA'.repeat(400))], /a pattern has 1200 bytes; 1024 are allowed/],
  'property-pattern': [
    [withArguments('x', { items: { patternProperties: { '^(?:a?){3000}b': true } } })],
    /more than 4096 subschemas and states of patterns/,
  ],
  'many-patterns': [
    Array.from({ length: 200 }, (_, event) => withPattern(`x${event}`, `^\\p{L}{4}${event}`)),
    /event "x\d+" .*the plugin's schemas have too many or too large patterns/,
  ],
  'large-enum': [[withArguments('x', { items: { enum: Array.from({ length: 5000 }, (_, n) => n) } })], /too heavy/],
  'large-const': [[withArguments('x', { items: { const: Array.from({ length: 5000 }, () => 0) } })], /too heavy/],
  'hidden-enum': [
    [withArguments('x', { properties: { enum: { enum: Array.from({ length: 5000 }, (_, n) => n) } } })],
    /too heavy/,
  ],
  'own-name': [
    [withArguments('x', { items: { $id: 'http://x/', $ref: '#/$defs/a', $defs: { a: { items: { $ref: '#/$defs/a' } } } } })],
    /\$id is for the schema as a whole only/,
  ],
  'long-chain': [
    [
      withArguments('x', {
        $ref: '#/$defs/a0',
        $defs: Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`a${n}`, n < 499 ? { $ref: `#/$defs/a${n + 1}` } : {}])),
      }),
    ],
    /nested deeper than 96 subschemas/,
  ],
  'unevaluated': [
    [
      withArguments(
        'x',
        Array.from({ length: 9 }).reduce((inner) => ({ anyOf: [inner], unevaluatedProperties: false }), {}),
      ),
    ],
    /too heavy/,
  ],
  'many-events': [Array.from({ length: 1025 }, (_, event) => ({ name: `x${event}` })), /it declares 1025 events; 1024 are allowed/],
  'many-limits': [
    [{ name: 'x', limits: Array.from({ length: 17 }, () => ({ scope: 'socket', rate: '1/1s' })) }],
    /it has 17 rate limits; 16 are allowed/,
  ],
};

const peakOf = ({ pid }) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmHWM:\s*(\d+) kB/)[1]) << 10;

const refusing = await startServer(
  { after },
  { config: CONFIG, plugins: Object.entries(TOO_HEAVY).map(([name, [events]]) => contracts(name, events)) },
);

for (const [name, [, reason]] of Object.entries(TOO_HEAVY)) {
  test(`what costs too much is refused at load: ${name}`, async () => {
    const { state, refusal } = await plugin(refusing, name);
    assert.equal(state, 'refused');
    assert.match(refusal, reason);
    assert.ok(refusal.length < 600, refusal);
  });
}

// About as heavy as a schema may be, with as much as may be checked against it.
const HEAVY = { items: { pattern: '^(?:a?){4000}b' } };
const LONG = 'a'.repeat(16_000);

for (const [what, event, arguments_, outcome] of [
  ['arguments', 'heavy', [LONG], 'invalid_payload'],
  ['replies', 'heavy-reply', [], 'plugin_error'],
]) {
  test(`the heaviest check of ${what} keeps nobody else waiting`, async (t) => {
    const server = await startServer(t, {
      config: CONFIG,
      plugins: [
        contracts('heavy', [withArguments('heavy', HEAVY), { name: 'heavy-reply', reply: JSON.stringify(HEAVY) }], LONG),
        contracts('light', [{ name: 'light' }]),
      ],
    });
    const light = await connect(t, server);
    // More than there are threads that read sockets.
    const clients = Array.from({ length: availableParallelism() + 1 }, (_, n) => connectFrom(t, server, `127.0.0.${n + 2}`));
    const answers = (await Promise.all(clients)).map((client) => ask(client, event, ...arguments_));
    let checked = 0;
    for (const answer of answers) answer.then(() => (checked += 1));
    for (let echo = 0; echo < 5; echo += 1) assert.deepEqual([await ask(light, 'light'), checked], ['ok', 0]);
    for (const answer of answers) assert.equal((await answer).error.code, outcome);
  });
}

test('a large event is checked all the same, in the order of its connection', async (t) => {
  const schema = { items: { maxLength: 400_000 } };
  const server = await startServer(t, { config: CONFIG, plugins: [contracts('large', [withArguments('large', schema), { name: 'small' }])] });
  const socket = await connect(t, server);
  const order = [];
  const asked = [
    ask(socket, 'large', 'x'.repeat(400_000)).then((answer) => order.push(answer)),
    ask(socket, 'small').then(() => order.push('small')),
    ask(socket, 'large', 'x'.repeat(400_001)).then(({ error }) => order.push(error.details)),
    ask(socket, 'small').then(() => order.push('small')),
  ];
  await Promise.all(asked);
  const { path, expected } = order[2];
  assert.deepEqual([order[0], order[1], path, expected, order[3]], ['ok', 'small', '/0', 'at most 400000 characters', 'small']);
});

test('what is wrong with all alternatives of a large event is not collected', async (t) => {
  const branches = Array.from({ length: 20 }, () => ({ items: { type: 'string' } }));
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [contracts('branches', [withArguments('branches', { items: { anyOf: branches } })])],
  });
  const socket = await connect(t, server);
  const small = await ask(socket, 'branches', [1]);
  assert.equal(small.error.details.path, '/0');
  const before = peakOf(server);
  const { error } = await ask(socket, 'branches', Array.from({ length: 50_000 }, () => 0));
  assert.equal(error.code, 'invalid_payload');
  assert.match(error.message, /too many to say where/);
  assert.ok(peakOf(server) - before < 150 << 20, `${(peakOf(server) - before) >> 20} MiB were taken for it`);
});

test('an answer repeats no more than the beginning of what is wrong', async (t) => {
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [contracts('short', [withArguments('short', { items: { additionalProperties: { additionalProperties: { type: 'null' } } } })])],
  });
  const socket = await connect(t, server);
  const long = 'x'.repeat(100_000);
  const { error } = await ask(socket, 'short', { [long]: { [long]: long } });
  assert.equal(error.code, 'invalid_payload');
  assert.ok(JSON.stringify(error).length < 2000, `${JSON.stringify(error).length} characters`);
});

test('the log repeats no more than the beginning of a name that a client chose', async (t) => {
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [contracts('any', [{ name: '*', reply: JSON.stringify({ maxItems: 0 }) }])],
  });
  const socket = await connect(t, server);
  const { error } = await ask(socket, 'x'.repeat(100_000));
  assert.equal(error.code, 'plugin_error');
  await server.waitForLog(new RegExp(`a call failed: .*${error.trace_id}`));
  assert.ok(server.log().length < 5000, `${server.log().length} characters`);
  assert.ok(JSON.stringify(await plugin(server, 'any')).length < 2000);
});

test('as deep as schema and arguments may be', async (t) => {
  const schema = Array.from({ length: 94 }).reduce((inner) => ({ items: inner }), { type: 'string' });
  const server = await startServer(t, { config: CONFIG, plugins: [contracts('deep', [withArguments('deep', schema)])] });
  const socket = await connect(t, server);
  const nested = (depth, inner) => Array.from({ length: depth }).reduce((inner) => [inner], inner);
  assert.equal(await ask(socket, 'deep', nested(93, 'x')), 'ok');
  assert.equal((await ask(socket, 'deep', nested(93, 1))).error.code, 'invalid_payload');
  assert.equal((await ask(socket, 'deep', nested(125, []))).error.code, 'invalid_payload');
});
