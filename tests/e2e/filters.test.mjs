// Filters: plugins that see events of others before their handlers do. What they do is part of the event.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, connect, received } from '../support/client.mjs';
import { assertFailed, editConfig, notReady, plugin, reload, status } from '../support/plugins.mjs';
import { makeFolder, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const range = (count) => Array.from({ length: count }, (_, index) => index);
const CONFIG = '[budget]\ncpu = "30ms"\nwall = "2s"\n';
const ECHO = 'echo';
const REMEMBERS = { wasm: 'remembers', grants: ['store', 'store:tally', 'emit', 'ask', 'everyone'] };

/** A plugin that filters events of these patterns by these steps. */
const filter = (name, filters, { namespaces, ...keys } = {}) => ({
  wasm: 'filters',
  name,
  grants: [...Object.keys(filters).map((event) => `filter:${event}`), 'store:tally', 'emit', 'ask', 'room:*', ...(keys.grants ?? [])],
  config: { filters, ...(namespaces && { namespaces }), ...(keys.event && { event: keys.event }) },
  ...(keys.filter && { filter: keys.filter }),
  ...(keys.budget && { budget: keys.budget }),
  ...(keys.on_failure && { on_failure: keys.on_failure }),
});
const ALLOW = { filter: { on_failure: 'allow' } };

async function start(t, ...plugins) {
  const server = await startServer(t, { config: CONFIG, plugins });
  return { server, socket: await connect(t, server) };
}

const tally = async (socket, key) => (await ask(socket, 'remembers', 'tally', [{ get: key }]))[0];

test('filters see an event in the order of mixlab.toml, and its handler what they made of it', async (t) => {
  const { socket } = await start(t, ECHO, filter('one', { echo: [{ append: '1' }] }), filter('two', { 'e*o': [{ append: '2' }] }));
  assert.equal(await ask(socket, 'echo', 'x'), 'x12');
  assert.equal(await ask(socket, 'echo:ping'), 'pong', 'the pattern has to match');
});

test('a filter passes, answers, rejects, or says that nothing is to be answered', async (t) => {
  const steps = {
    echo: [
      { if: ['done', ['done']] },
      { if: ['reply', [{ reply: [1, { a: 2 }] }]] },
      { if: ['reject', [{ emit: 'never' }, { reject: 'not_today' }]] },
      { if: ['no ack', [{ emit: 'seen' }, 'no_ack']] },
      { if: ['ask', ['ask']] },
    ],
  };
  const { socket } = await start(t, ECHO, filter('decides', steps));
  assert.equal(await ask(socket, 'echo', 'pass'), 'pass');
  assert.equal(await ask(socket, 'echo', 'done'), undefined);
  const reply = await new Promise((resolve) => socket.emit('echo', 'reply', (...args) => resolve(args)));
  assert.deepEqual(reply, [1, { a: 2 }]);
  const { error } = await ask(socket, 'echo', 'reject');
  assert.equal(error.code, 'not_today');
  assert.match(await ask(socket, 'echo', 'ask'), /NoConnection|Denied|Unavailable|Invalid/, 'ask is not for filters');
  let acked = false;
  socket.emit('echo', 'no ack', () => (acked = true));
  await until(() => received(socket, 'seen').length === 1);
  assert.equal(await ask(socket, 'echo', 'after'), 'after');
  assert.equal(acked, false);
  assert.deepEqual(received(socket, 'never'), []);
});

test('what a filter emits and joins happens before what the handler does, and not if that rejects', async (t) => {
  const filters = { 'remembers*': [{ emit: 'first' }, { join: 'filtered' }, { increment: 'seen' }] };
  const { socket } = await start(t, REMEMBERS, filter('counts', filters));
  await ask(socket, 'remembers', null, [{ emit: 'second' }]);
  await until(() => received(socket, 'second').length === 1);
  const names = () => socket.collected.map(({ name }) => name).filter((name) => ['first', 'second'].includes(name));
  assert.deepEqual(names(), ['first', 'second']);
  const rejected = await ask(socket, 'remembers', null, [{ set: ['k', 1] }, 'reject']);
  assert.equal(rejected.error.code, 'no');
  // This one is counted, and sees the number with itself.
  assert.equal(await tally(socket, 'seen'), 2);
  assert.equal(received(socket, 'first').length, 2, 'nothing of the event that was rejected');
});

test('what a filter has written, the handler sees, and both are committed together', async (t) => {
  const { socket } = await start(t, REMEMBERS, filter('counts', { remembers: [{ increment: 'n' }] }));
  const said = await ask(socket, 'remembers', 'tally', [{ get: 'n' }, { add: ['n', 10] }, { get: 'n' }]);
  assert.deepEqual(said, [1, null, 11]);
  assert.equal(await tally(socket, 'n'), 12);
});

test('a filter that reads and writes loses no write under load, and neither does the handler', async (t) => {
  const filters = { 'remembers:*': [{ increment: 'filtered' }] };
  const server = await startServer(t, { plugins: [REMEMBERS, filter('one', filters), filter('two', filters)] });
  const socket = await connect(t, server);
  const clients = await Promise.all(range(20).map(() => connect(t, server)));
  const calls = clients.map(async (client) => {
    for (const _ of range(20)) await ask(client, 'remembers:increment', 'n').then((n) => assert.ok(n > 0, JSON.stringify(n)));
  });
  await Promise.all(calls);
  assert.equal((await ask(socket, 'remembers', null, [{ get: 'n' }]))[0], 400);
  assert.equal(await tally(socket, 'filtered'), 800);
});

test('a filter that fails refuses the event, with nothing of it done', async (t) => {
  const filters = { 'remembers:*': [{ increment: 'n' }, { emit: 'never' }, 'trap'] };
  const { server, socket } = await start(t, REMEMBERS, filter('breaks', filters));
  const line = await assertFailed(server, await ask(socket, 'remembers:increment', 'n'), 'plugin_error');
  assert.match(line, /plugin="?breaks/);
  assert.match(line, /a filter panics on purpose/);
  assert.equal(await tally(socket, 'n'), null);
  assert.deepEqual(await ask(socket, 'remembers', null, [{ exists: 'n' }]), [false]);
  assert.deepEqual(received(socket, 'never'), []);
  assert.equal((await plugin(server, 'breaks')).failures, 1);
  assert.equal((await plugin(server, 'remembers')).failures, 0, 'its handler is not to blame');
});

for (const [how, steps] of [
  ['panics', ['trap']],
  ['never ends', ['loop']],
  ['breaks the contract', [{ replace: [1, 2, 3] }]],
  ['answers with too much', [{ fill: 9_000_000 }]],
  ['rejects with no code', [{ reject: 'No Code' }]],
]) {
  test(`a filter that ${how} and may fail alone lets the event on as if it were not there`, async (t) => {
    const filters = (steps) => ({ 'remembers:*': [{ increment: 'n' }, { emit: 'seen' }, ...steps] });
    const { server, socket } = await start(
      t,
      REMEMBERS,
      filter('works', filters([])),
      filter('breaks', filters(steps), ALLOW),
      filter('works-too', filters([])),
    );
    for (const n of [1, 2]) assert.equal(await ask(socket, 'remembers:increment', 'n'), n);
    assert.equal(await tally(socket, 'n'), 4, 'of the two that work');
    assert.equal(received(socket, 'seen').length, 4);
    assert.equal((await plugin(server, 'breaks')).failures, 2);
  });
}

test('a filter that keeps failing is paused, and allows or refuses meanwhile', async (t) => {
  const config = `${CONFIG}[breaker]\nfailures = 2\npause = "1h"\nmax_pause = "1h"\n`;
  const breaks = filter('breaks', { echo: ['trap'] });
  const server = await startServer(t, { config, plugins: [ECHO, breaks] });
  const socket = await connect(t, server);
  for (const _ of range(2)) await assertFailed(server, await ask(socket, 'echo', 'x'), 'plugin_error');
  const { error } = await ask(socket, 'echo', 'x');
  assert.equal(error.code, 'plugin_unavailable');
  assert.ok(error.retry_after_ms > 0);
  assert.equal(await ask(socket, 'echo:ping'), 'pong');
  editConfig(server, (text) => text.replace('filter:echo"', 'filter:echo"').concat('[plugins.filter]\non_failure = "allow"\n'));
  await until(async () => (await plugin(server, 'breaks')).generation === 2);
  for (const _ of range(4)) assert.equal(await ask(socket, 'echo', 'x'), 'x');
  assert.equal((await plugin(server, 'breaks')).paused_addresses, 1);
});

test('what a filter puts in place of arguments has to keep the contract, and its ack as well', async (t) => {
  const events = [
    { name: 'short', max_bytes: 20, arguments: '{"items":{"type":"string"},"minItems":1}', reply: '{"items":{"type":"integer"}}' },
  ];
  const steps = [
    { if: ['long', [{ replace: ['x'.repeat(30)] }]] },
    { if: ['number', [{ replace: [7] }]] },
    { if: ['text', [{ reply: ['a text'] }]] },
    { if: ['fine', [{ reply: [8] }]] },
  ];
  const contracts = { wasm: 'contracts', config: { events, answer: 7 } };
  const { server, socket } = await start(t, contracts, filter('replaces', { short: steps }));
  assert.equal(await ask(socket, 'short', 'x'), 7);
  assert.equal(await ask(socket, 'short', 'fine'), 8);
  for (const [sent, reason] of [
    ['long', /the payload has 34 bytes; 20 are allowed/],
    ['number', /breaks the contract: .*string/],
    ['text', /its reply breaks its contract/],
  ]) {
    const line = await assertFailed(server, await ask(socket, 'short', sent), 'plugin_error');
    assert.match(line, reason);
    assert.match(line, /plugin="?replaces/);
  }
  // What its client sends is the client's own fault, and no filter sees it.
  assert.equal((await ask(socket, 'short', 7)).error.code, 'invalid_payload');
  assert.equal((await plugin(server, 'replaces')).failures, 3);
});

test('a handler whose calls run one after the other does so by what a filter has made of the event', async (t) => {
  const filters = { 'remembers:serial': [{ replace: ['n'] }] };
  const { server, socket } = await start(t, REMEMBERS, filter('one-key', filters));
  const clients = await Promise.all(range(20).map(() => connect(t, server)));
  await Promise.all(
    clients.map(async (client, index) => {
      for (const time of range(20)) await ask(client, 'remembers:serial', `key-${(index + time) % 7}`);
    }),
  );
  assert.equal((await ask(socket, 'remembers', null, [{ get: 'n' }]))[0], 400);
  const { body } = await server.api('GET', '/metrics');
  assert.doesNotMatch(body, /mixlab_repeated_calls_total\S* [1-9]/, 'no call ran again');
});

for (const [how, keys, answer] of [
  ['refuses the event', {}, undefined],
  ['is left out, if it may fail alone', ALLOW, 1],
]) {
  test(`a filter whose bucket is full ${how}`, async (t) => {
    // The handler's bucket has room for its one key, and the filter's for none of two.
    const filters = { 'remembers:*': [{ own: 'a' }, { own: 'b' }] };
    const server = await startServer(t, {
      config: `${CONFIG}[store]\nbucket_keys = 1\n`,
      plugins: [REMEMBERS, filter('hoards', filters, { ...keys, grants: ['store'] })],
    });
    const socket = await connect(t, server);
    const said = await ask(socket, 'remembers:increment', 'n');
    if (answer === undefined) await assertFailed(server, said, 'plugin_error');
    else assert.equal(said, answer);
    assert.match((await plugin(server, 'hoards')).last_failure.reason, /bucket_keys = 1 of the bucket plugin\/hoards is used up/);
    assert.equal((await plugin(server, 'remembers')).failures, 0, 'its handler is not to blame');
    assert.deepEqual(await ask(socket, 'remembers', null, [{ exists: 'n' }]), [answer === 1]);
  });
}

for (const [what, config, steps, why] of [
  ['a bucket that others share is full', 'bucket_keys = 1', [{ increment: 'a' }, { increment: 'b' }], /bucket_keys = 1 of the bucket tally/],
  ['all shared buckets are full', 'shared_bytes = "150"', [{ increment: 'a' }, { increment: 'b' }], /shared_bytes = 150/],
  ['what it adds to is no number', '', [{ add: 'text' }], /"text" cannot be added to/],
]) {
  test(`a filter that may fail alone is left out where ${what}`, async (t) => {
    const server = await startServer(t, {
      config: `${CONFIG}[store]\n${config}\n`,
      plugins: [REMEMBERS, filter('writes', { 'remembers:*': steps }, ALLOW), filter('passes', { 'remembers:*': ['pass'] }, ALLOW)],
    });
    const socket = await connect(t, server);
    if (config === '') assert.deepEqual(await ask(socket, 'remembers', 'tally', [{ set: ['text', 'none'] }]), [null]);
    assert.equal(await ask(socket, 'remembers:increment', 'n'), 1);
    assert.match((await plugin(server, 'writes')).last_failure.reason, why);
    for (const name of ['remembers', 'passes']) assert.equal((await plugin(server, name)).failures, 0, name);
    // Where the handler wants too much itself, it is to blame, and so is who has written there before it.
    if (config === 'bucket_keys = 1') {
      const both = [{ set: ['c', 1] }, { set: ['d', 1] }];
      await assertFailed(server, await ask(socket, 'remembers', 'tally', both), 'plugin_error');
      assert.match((await plugin(server, 'remembers')).last_failure.reason, why);
    }
  });
}

for (const [what, config, why] of [
  ['a bucket that others share', 'bucket_keys = 1', /bucket_keys = 1 of the bucket tally/],
  ['all shared buckets', 'shared_bytes = "150"', /shared_bytes = 150/],
]) {
  test(`a filter without which there is no event is to blame where it overfills ${what}, and nobody else`, async (t) => {
    const steps = [{ increment: 'a' }, { increment: 'b' }];
    const ends = filter('ends', { 'remembers:add': [...steps, { reply: ['ended'] }] });
    const server = await startServer(t, {
      config: `${CONFIG}[store]\n${config}\n`,
      plugins: [REMEMBERS, filter('passes', { 'remembers:*': ['pass'] }), filter('writes', { 'remembers:increment': steps }), ends],
    });
    const socket = await connect(t, server);
    for (const [event, name] of [['remembers:increment', 'writes'], ['remembers:add', 'ends']]) {
      await assertFailed(server, await ask(socket, event, 'n'), 'plugin_error');
      assert.match((await plugin(server, name)).last_failure?.reason ?? '', why, name);
    }
    for (const name of ['remembers', 'passes']) assert.equal((await plugin(server, name)).failures, 0, name);
  });
}

test('two plugins that filter events of each other do not wait for each other', async (t) => {
  const one = { budget: { instances: 1, asks: 1 } };
  const plugins = [
    filter('a', { b: ['pass'] }, { ...one, event: 'a' }),
    filter('b', { a: ['pass'] }, { ...one, event: 'b' }),
  ];
  const server = await startServer(t, { plugins });
  const clients = await Promise.all(range(10).map(() => connect(t, server)));
  const calls = clients.map((client, index) => Promise.all(range(20).map(() => ask(client, 'ab'[index % 2], index))));
  const answers = (await Promise.all(calls)).map((answers) => new Set(answers));
  assert.deepEqual(answers, range(10).map((index) => new Set([index])));
});

test('a filter sees the namespaces that it names, also where others serve them by a pattern', async (t) => {
  const serve = (namespaces) => ({ wasm: 'contracts', config: { namespaces, events: [{ name: 'e' }], answer: 'handled' } });
  const tag = (name, namespaces) =>
    filter(name, { e: [{ reply: [name] }] }, { namespaces, grants: namespaces.map((path) => `namespace:${path}`) });
  const server = await startServer(t, {
    config: CONFIG,
    plugins: [
      { ...serve(['/a', '/room-*']), grants: ['namespace:/a', 'namespace:/room-*'] },
      tag('first', ['/room-1', '/elsewhere']),
      tag('second', ['/room-2*']),
    ],
  });
  for (const [namespace, answer] of [
    ['/a', 'handled'],
    ['/room-1', 'first'],
    ['/room-2', 'handled'],
    ['/room-22', 'second'],
    ['/room-3', 'handled'],
  ]) {
    const socket = await connect(t, server, { namespace });
    assert.equal(await ask(socket, 'e'), answer, namespace);
  }
  await assert.rejects(connect(t, server, { namespace: '/elsewhere' }), 'a filter alone serves nothing');
});

test('an event of any name is filtered by its own', async (t) => {
  const star = { wasm: 'contracts', config: { events: [{ name: '*' }], answer: 'handled' } };
  const { socket } = await start(t, star, filter('some', { 'a:*': [{ reply: ['filtered'] }] }));
  assert.equal(await ask(socket, 'a:7'), 'filtered');
  assert.equal(await ask(socket, 'b:7'), 'handled');
  assert.equal((await ask(socket, 'authenticate', {})).error.code === undefined, false, 'the host answers its own');
});

test('a plugin that filters what it is not granted, or cannot, is refused', async (t) => {
  const ungranted = filter('ungranted', { 'booking:*': ['pass'] });
  ungranted.grants[0] = 'filter:booking:created';
  const empty = filter('empty', { '': ['pass'] });
  empty.grants[0] = 'filter:*';
  const none = filter('none', {});
  const server = await startServer(t, { config: CONFIG, plugins: [ECHO, ungranted, empty, none] });
  const refusal = async (name) => (await plugin(server, name)).refusal;
  assert.match(await refusal('ungranted'), /it filters the event booking:\*, which needs a grant: add "filter:booking:\*"/);
  assert.match(await refusal('empty'), /it filters "", which is no event/);
  assert.match(await refusal('none'), /it handles and filters no event/);
});

test('a grant that is taken away is gone at once, and a filter that is switched off, too', async (t) => {
  const { server, socket } = await start(t, ECHO, filter('loud', { echo: [{ append: '!' }] }));
  assert.equal(await ask(socket, 'echo', 'x'), 'x!');
  const former = editConfig(server, (text) => text.replace('"filter:echo", ', ''));
  await until(async () => (await ask(socket, 'echo', 'x')) === 'x');
  await until(async () => /needs a grant/.test((await plugin(server, 'loud')).refusal));
  editConfig(server, () => former.replace('name = "loud"', 'name = "loud"\nenabled = false'));
  await reload(server);
  assert.equal(await ask(socket, 'echo', 'x'), 'x');
  editConfig(server, () => former);
  await until(async () => (await ask(socket, 'echo', 'x')) === 'x!');
});

test('events that a plugin is to filter are refused until it has loaded, unless it may fail alone', async (t) => {
  const guards = filter('guards', { echo: [{ append: '!' }] });
  const server = await startServer(t, { config: CONFIG, plugins: [ECHO, { ...guards, config: {} }] });
  const socket = await connect(t, server);
  const unavailable = {
    code: 'plugin_unavailable',
    message: 'a plugin that sees this event first is not loaded',
    temporary: true,
  };
  const refused = async () => assert.deepEqual((await ask(socket, 'echo', 'x')).error, unavailable);
  await refused();
  assert.equal(await ask(socket, 'echo:ping'), 'pong', 'what it is not granted to see');
  assert.deepEqual(await notReady(server), ['guards']);
  await server.waitForLog(/it does not serve, and what it is to filter is refused/);

  const strict = editConfig(server, (text) => `${text}[plugins.filter]\non_failure = "allow"\n`);
  await until(async () => (await ask(socket, 'echo', 'x')) === 'x');
  editConfig(server, () => strict);
  await reload(server);
  await refused();
  editConfig(server, (text) => text.replace('config = {  }', 'config = { filters = { echo = [{ append = "!" }] } }'));
  await reload(server);
  assert.equal(await ask(socket, 'echo', 'x'), 'x!');
  editConfig(server, () => strict);
  await reload(server);
  assert.equal(await ask(socket, 'echo', 'x'), 'x!', 'the old version goes on');
  editConfig(server, (text) => text.replace('name = "guards"', 'name = "guards"\nenabled = false'));
  await reload(server);
  assert.equal(await ask(socket, 'echo', 'x'), 'x', 'nothing is to be seen by a plugin that is switched off');
});

test('the command line shows what a plugin filters, and what changes of that', async (t) => {
  const folder = makeFolder(t, { config: CONFIG, plugins: [filter('shown', { 'booking:*': ['pass'], paid: ['pass'] })] });
  const file = `${folder.folder}/filters.wasm`;
  const config = JSON.stringify({ filters: { 'booking:*': ['pass'], paid: ['pass'] } });
  const { stdout, stderr } = await folder.mixlab('plugin', 'inspect', file, '--plugin-config', config);
  assert.match(stdout, /filters {6}booking:\*, paid/, stderr);
  assert.match(stdout, /needs .*filter:booking:\*/);
  const server = await startServer(t, { config: CONFIG, plugins: [filter('shown', { 'booking:*': ['pass'], paid: ['pass'] })] });
  const [shown] = (await status(server)).plugins;
  assert.deepEqual(shown.filters, ['booking:*', 'paid']);
});
