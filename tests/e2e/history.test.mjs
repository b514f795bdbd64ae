// Events that plugins and backends keep: read from a position on, with gaps told, within bounds.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, nextEvent } from '../support/client.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const GRANTS = ['presence:*', 'history:*', 'room:*', 'user:*', 'emit'];
const LOBBY = { wasm: 'lobby', grants: GRANTS };
const start = (t, history, grants = GRANTS) =>
  startServer(t, { config: `[history]\n${history}\n`, plugins: [{ ...LOBBY, grants }] });

const server = await start({ after }, '');

const call = (socket, ...calls) => ask(socket, 'lobby', calls);
async function granted(socket, ...calls) {
  const answers = await call(socket, ...calls);
  return answers.map((answer) => ('granted' in answer ? answer.granted : assert.fail(JSON.stringify(answer))));
}

const say = (socket, topic, message) => granted(socket, { call: 'say', room: topic, topic, message });
const since = async (socket, topic, position, limit = 50) =>
  (await granted(socket, { call: 'since', topic, position, limit }))[0];
const texts = ({ events }) => events.map(({ arguments: [text] }) => text);

test('what is kept is read by a newcomer, and from a position on by who was there', async (t) => {
  const [a, b] = [await connect(t, server), await connect(t, server)];
  const nothing = await since(a, 'chat');
  assert.deepEqual({ ...nothing, position: null }, { events: [], position: null, gap: false, more: false });
  const before = Date.now();
  for (const text of ['one', 'two', 'three']) await say(a, 'chat', { text });
  const last = await since(b, 'chat', undefined, 2);
  assert.deepEqual(texts(last), [{ text: 'two' }, { text: 'three' }]);
  assert.equal(last.gap, true, 'there was one before them');
  const [{ event, at_ms: at, position }] = last.events;
  assert.equal(event, 'said');
  assert.ok(at >= before && at <= Date.now(), `${at}`);
  assert.deepEqual(texts(await since(b, 'chat', position)), [{ text: 'three' }]);
  const first = await since(b, 'chat', nothing.position, 2);
  assert.deepEqual([texts(first), first.gap, first.more], [[{ text: 'one' }, { text: 'two' }], false, true]);
  const rest = await since(b, 'chat', first.position, 2);
  assert.deepEqual([texts(rest), rest.gap, rest.more], [[{ text: 'three' }], false, false]);
  await say(b, 'chat', { text: 'four' });
  assert.deepEqual(texts(await since(a, 'chat', rest.position)), [{ text: 'four' }]);
  assert.deepEqual(texts(await since(a, 'other')), []);
});

test('a call does not see what it keeps itself, and a call that fails keeps nothing', async (t) => {
  const socket = await connect(t, server);
  const read = { call: 'since', topic: 'atomic', limit: 9 };
  const [, page] = await granted(socket, { call: 'say', room: 'x', topic: 'atomic', message: 1 }, read);
  assert.deepEqual(texts(page), []);
  const many = Array.from({ length: 11_000 }, () => ({ call: 'count', room: 'x' }));
  const { error } = await call(socket, { call: 'say', room: 'x', topic: 'atomic', message: 2 }, ...many);
  // Whichever budget is used up first: the calls or, on a busy machine, the time.
  assert.ok(['plugin_error', 'plugin_timeout'].includes(error.code), error.code);
  assert.deepEqual(texts(await since(socket, 'atomic')), [1]);
});

test('what goes to a user is kept as well, and who gets an event finds it kept', async (t) => {
  const ada = await connect(t, server, { token: token({ sub: 'ada' }) });
  await granted(ada, { call: 'note', topic: 'inbox:ada', message: 'hello' });
  await nextEvent(ada, 'noted');
  const { events } = await since(ada, 'inbox:ada');
  assert.deepEqual(events.map(({ event, arguments: args }) => [event, args]), [['noted', ['hello']]]);
});

test('a backend keeps what it emits', async (t) => {
  const socket = await connect(t, server);
  const emit = (body) => server.api('POST', '/api/v1/emit', JSON.stringify({ event: 'news', everyone: true, ...body }));
  assert.equal((await emit({ arguments: ['x', 1], keep: 'news' })).status, 200);
  assert.deepEqual((await since(socket, 'news')).events[0].arguments, ['x', 1]);
  const { status, body } = await emit({ keep: '' });
  assert.deepEqual([status, body.error.message], [400, 'keep: a topic has 1 to 256 bytes and no control characters']);
});

test('what is gone is told: too many, too large, too many topics', async (t) => {
  const own = await start(t, 'events = 3\ntopics = 2\ntopic_bytes = "2KB"');
  const socket = await connect(t, own);
  const begin = (await since(socket, 'a')).position;
  for (let number = 0; number < 5; number++) await say(socket, 'a', number);
  const page = await since(socket, 'a', begin);
  assert.deepEqual([texts(page), page.gap], [[2, 3, 4], true]);
  assert.deepEqual((await since(socket, 'a', page.events[0].position)).gap, false);
  await say(socket, 'a', 'x'.repeat(1700));
  const large = await since(socket, 'a', begin);
  assert.deepEqual([large.events.length, large.gap], [1, true], 'it leaves no room for others');
  assert.equal((await since(socket, 'a', large.position)).gap, false, 'and it had them all');
  for (const topic of ['b', 'c', 'd']) await say(socket, topic, 1);
  const b = await since(socket, 'b', begin);
  assert.deepEqual([texts(b), b.gap], [[], true]);
  assert.deepEqual(texts(await since(socket, 'd')), [1]);
});

test('what is too old is gone, which is told to who has not had it', async (t) => {
  const own = await start(t, 'max_age = "1s"');
  const socket = await connect(t, own);
  const { position: begin } = await since(socket, 'a');
  await say(socket, 'a', 1);
  const { position } = await since(socket, 'a', begin);
  await until(async () => (await since(socket, 'a', begin)).events.length === 0);
  assert.equal((await since(socket, 'a', begin)).gap, true, 'old ones went');
  assert.equal((await since(socket, 'a', position)).gap, false, 'and it had them all');
});

test('a position of another run is a gap, and what never was a position is said', async (t) => {
  const own = await start(t, '');
  const here = await connect(t, server);
  await say(here, 'run', 1);
  const { position } = await since(here, 'run');
  const there = await connect(t, own);
  await say(there, 'run', 2);
  const page = await since(there, 'run', position);
  assert.deepEqual([texts(page), page.gap], [[2], true]);
  assert.equal((await since(there, 'run', page.position)).gap, false);
  for (const wrong of ['', '7', 'x-1', `${position}0x`]) {
    const answers = await call(there, { call: 'since', topic: 'run', position: wrong, limit: 1 });
    assert.deepEqual(answers, [{ invalid: 'position: it is none' }], wrong);
  }
});

test('no more is read than the boundary holds, and the rest is there for the next call', async (t) => {
  const own = await startServer(t, { plugins: [{ ...LOBBY, budget: { boundary: '64KiB' } }] });
  const socket = await connect(t, own);
  const begin = (await since(socket, 'large')).position;
  for (let number = 0; number < 10; number++) await say(socket, 'large', `${number}${'x'.repeat(10_000)}`);
  let position = begin;
  const read = [];
  let calls = 0;
  for (let more = true; more; calls++) {
    const page = await since(socket, 'large', position);
    assert.equal(page.gap, false);
    read.push(...texts(page).map((text) => Number(text[0])));
    ({ position, more } = page);
  }
  assert.deepEqual(read, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.ok(calls > 1);
});

test('what is not granted is neither kept nor read', async (t) => {
  const own = await start(t, '', ['presence:*', 'history:chat:*', 'room:*', 'user:*', 'emit']);
  const socket = await connect(t, own);
  const denied = (topic) => ({ denied: `mixlab.toml does not grant "history:${topic}"` });
  assert.deepEqual(
    await call(
      socket,
      { call: 'say', room: 'a', topic: 'other', message: 1 },
      { call: 'since', topic: 'other', limit: 1 },
      { call: 'since', topic: 'chat', limit: 1 },
      { call: 'say', room: 'a', topic: `chat:${'x'.repeat(252)}`, message: 1 },
      { call: 'say', room: 'a', topic: 'chat:1', message: 1 },
    ),
    [
      denied('other'),
      denied('other'),
      denied('chat'),
      { invalid: 'topic: a name has 1 to 256 bytes and no control characters' },
      { granted: null },
    ],
  );
  assert.deepEqual(texts(await since(socket, 'chat:1')), [1]);
});
