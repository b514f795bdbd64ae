// What plugins and backends keep is kept by all servers of a cluster, at the same positions.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { ask, connect, nextEvent } from '../support/client.mjs';
import { startMember } from '../support/cluster.mjs';
import { notReady } from '../support/plugins.mjs';
import { badMachine } from '../support/preload.mjs';
import { startRedis } from '../support/redis.mjs';
import { until } from '../support/wait.mjs';

const LOBBY = { wasm: 'lobby', grants: ['presence:*', 'history:*', 'room:*', 'user:*', 'emit'] };
const start = (t, redis, options) => startMember(t, redis, { plugins: [LOBBY], ...options });
const startTwo = (t, redis) => Promise.all([start(t, redis), start(t, redis)]);

async function granted(socket, call) {
  const [answer] = await ask(socket, 'lobby', [call]);
  return 'granted' in answer ? answer.granted : assert.fail(JSON.stringify(answer));
}
const say = (socket, message, topic = 'chat') => granted(socket, { call: 'say', room: topic, topic, message });
const since = (socket, position, limit = 50) => granted(socket, { call: 'since', topic: 'chat', position, limit });
const texts = ({ events }) => events.map(({ arguments: [text] }) => text);
/** Waits until a client's server has kept so many. */
const kept = (socket, count) =>
  until(async () => (await since(socket)).events.length === count, { message: `${count} are kept` });
const connected = (server, is) => until(async () => (await notReady(server)).some((it) => it.includes('cluster')) !== is);

test('what one server keeps is read on any, in one order, at the same positions', async (t) => {
  const redis = await startRedis(t);
  const servers = await startTwo(t, redis);
  const [one, other] = await Promise.all(servers.map((server) => connect(t, server)));
  const begin = (await since(one)).position;
  await Promise.all(Array.from({ length: 20 }, (_, n) => say(n % 2 ? one : other, n)));
  await say(one, 'elsewhere', 'other-topic');
  for (const socket of [one, other]) await kept(socket, 20);
  const page = await since(one);
  assert.deepEqual(page.events, (await since(other)).events, 'positions and times, too');
  assert.equal(page.gap, false);
  for (const { position } of [{ position: begin }, ...page.events, page]) {
    assert.deepEqual(await since(one, position), await since(other, position));
    assert.equal((await since(other, position)).gap, false);
  }
  assert.equal((await since(other, page.events[4].position, 3)).more, true);
  // A server that has just started.
  const third = await connect(t, await start(t, redis));
  await kept(third, 20);
  assert.deepEqual((await since(third, page.events[9].position)).events, page.events.slice(10));
  assert.equal((await since(third, begin)).gap, false);
  // A backend, and who gets an event finds it kept.
  await granted(other, { call: 'enter', room: 'chat', data: null });
  const body = { rooms: ['chat'], event: 'said', arguments: ['from a backend'], keep: 'chat' };
  assert.equal((await servers[0].api('POST', '/api/v1/emit', body)).status, 200);
  await nextEvent(other, 'said');
  assert.deepEqual(texts(await since(other, page.position)), ['from a backend']);
});

test('what is kept while Redis is away is read here at once, and everywhere in one order when it is back', async (t) => {
  const redis = await startRedis(t, { keep: true });
  const servers = await startTwo(t, redis);
  const [one, other] = await Promise.all(servers.map((server) => connect(t, server)));
  await say(one, 'before');
  for (const socket of [one, other]) await kept(socket, 1);
  const { position: before } = await since(one);
  await redis.stop();
  for (const server of servers) await connected(server, false);
  await say(one, 'a');
  await say(other, 'b');
  await say(one, 'c');
  // One that was just sending finds out a moment later.
  await until(async () => (await since(one, before)).events.length === 2 && (await since(other, before)).events.length === 1);
  const alone = await since(one, before);
  assert.deepEqual([texts(alone), alone.gap, alone.more], [['a', 'c'], false, false]);
  assert.deepEqual(texts(await since(one, alone.events[0].position)), ['c']);
  assert.deepEqual([texts(await since(one, before, 1)), (await since(one, before, 1)).more], [['a'], true]);
  assert.deepEqual(texts(await since(one, undefined, 2)), ['a', 'c']);
  assert.deepEqual(texts(await since(other, before)), ['b']);
  await redis.start();
  for (const server of servers) await connected(server, true);
  for (const socket of [one, other]) await kept(socket, 4);
  // Each has the others', and a moment later its own where all have them.
  const page = await until(async () => {
    const [its, others] = [await since(one, before), await since(other, before)];
    return isDeepStrictEqual(its, others) && its;
  }, { message: 'both have them in one order' });
  assert.deepEqual([texts(page).toSorted(), page.gap], [['a', 'b', 'c'], false]);
  assert.ok(texts(page).indexOf('a') < texts(page).indexOf('c'));
  for (const socket of [one, other]) {
    const behind = await since(socket, alone.position);
    assert.deepEqual([texts(behind).length, behind.gap], [4, true], 'that position was of the time alone');
  }
});

for (const seconds of [3600, -3600]) {
  test(`a server whose clock is wrong by ${seconds} s keeps what all keep, and they what it keeps`, async (t) => {
    const machine = badMachine(t);
    if (!machine) return;
    machine.setClock(seconds);
    const redis = await startRedis(t);
    const config = '[history]\nmax_age = "1m"\n';
    const servers = [await start(t, redis, { config, env: machine.env }), await start(t, redis, { config })];
    const [wrong, right] = await Promise.all(servers.map((server) => connect(t, server)));
    for (const server of servers) await connected(server, true);
    for (const [n, socket] of [right, wrong, right, wrong].entries()) {
      await say(socket, n);
      await until(async () => texts(await since(right)).includes(n) && texts(await since(wrong)).includes(n), { message: `${n} is kept` });
    }
    const page = await since(wrong);
    assert.deepEqual(page, await since(right));
    assert.deepEqual([texts(page), page.gap], [[0, 1, 2, 3], false]);
    const late = await connect(t, await start(t, redis, { config, env: machine.env }));
    await kept(late, 4);
  });
}

test('when Redis has lost what it had, nobody takes a part for the whole', async (t) => {
  const redis = await startRedis(t);
  const servers = await startTwo(t, redis);
  const [one, other] = await Promise.all(servers.map((server) => connect(t, server)));
  await say(one, 1);
  for (const socket of [one, other]) await kept(socket, 1);
  const { position } = await since(one);
  await redis.stop();
  for (const server of servers) await connected(server, false);
  await redis.start();
  for (const server of servers) await connected(server, true);
  await say(other, 2);
  for (const socket of [one, other]) {
    await until(async () => texts(await since(socket, position)).includes(2), { message: 'the new one is there' });
    assert.equal((await since(socket, position)).gap, true);
    assert.equal((await since(socket, (await since(socket)).position)).gap, false);
  }
});
