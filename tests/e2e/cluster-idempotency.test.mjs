// A backend that sends a request again, with the same Idempotency-Key, may send it to any server of a cluster.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, received } from '../support/client.mjs';
import { startMember } from '../support/cluster.mjs';
import { notReady } from '../support/plugins.mjs';
import { startRedis } from '../support/redis.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const startTwo = (t, redis) => Promise.all([1, 2].map(() => startMember(t, redis)));

const body = (number) => ({ everyone: true, event: 'told', arguments: [number] });

const emit = (server, key, number) =>
  server.api('POST', '/api/v1/emit', JSON.stringify(body(number)), undefined, { 'idempotency-key': key });

/** Asks until it is answered: the same request may be under way. */
async function persist(server, key, number) {
  const { status, body: answer } = await emit(server, key, number);
  if (status === 200) return answer;
  assert.deepEqual([status, answer.error.code, answer.error.temporary], [409, 'conflict', true]);
  return persist(server, key, number);
}

/** Waits until one server knows what another one has done: they ask Redis again a moment after it is back. */
const share = (one, other) =>
  until(
    async () => {
      const key = `key-${Math.random()}`;
      await persist(one, key, null);
      const { status } = await emit(other, key, 'another body');
      return status === 422;
    },
    { message: 'they share what they know' },
  );

/** Waits until Redis has been told what came of the request with this key. */
const untilTold = (redis, key) =>
  until(
    async () => {
      const [requests] = (await redis.send('KEYS', '*once*requests')).match(/\S+:requests/) ?? [];
      return requests && /\bdone /.test(await redis.send('HGET', requests, key));
    },
    { message: 'the others can know' },
  );

/** The numbers that a client was told by now: what a server has sent before has come when it is told its last one. */
async function told(servers, socket) {
  const all = () => received(socket, 'told').map(([number]) => number);
  for (const server of servers) {
    const last = `last-${Math.random()}`;
    const { status } = await server.api('POST', '/api/v1/emit', body(last));
    assert.equal(status, 200);
    await until(() => all().includes(last), { message: 'the last one comes' });
  }
  return all().filter((number) => typeof number === 'number');
}

test('a request that comes again on another server has the same answer and is done once', async (t) => {
  const [one, other] = await startTwo(t, await startRedis(t));
  const socket = await connect(t, other);
  const first = await emit(one, 'a', 1);
  assert.deepEqual([first.status, first.body], [200, { delivered: null }]);
  for (const server of [other, one, other]) assert.deepEqual((await emit(server, 'a', 1)).body, first.body);
  const reused = await emit(other, 'a', 2);
  assert.deepEqual([reused.status, reused.body.error.code], [422, 'idempotency_key_reused']);
  const refused = await other.api('POST', '/api/v1/emit', '{"event":1}', undefined, { 'idempotency-key': 'b' });
  assert.equal(refused.status, 400);
  assert.equal((await emit(one, 'b', 3)).status, 200, 'what was refused has done nothing');
  assert.deepEqual(await told([one, other], socket), [1, 3]);
});

test('a notification that comes again on another server is told once', async (t) => {
  const [one, other] = await startTwo(t, await startRedis(t));
  const socket = await connect(t, other, { token: token({ sub: 'ada' }) });
  await share(one, other);
  const notify = (server, user, key) =>
    server.api('POST', `/api/v1/users/${user}/notifications`, { title: key }, undefined, { 'idempotency-key': key });
  for (const server of [one, other, one]) assert.deepEqual((await notify(server, 'ada', 'a')).body, { delivered: null });
  assert.equal((await notify(other, 'bob', 'a')).status, 422);
  await notify(one, 'ada', 'last');
  const titles = () => received(socket, 'notification').map(([{ title }]) => title);
  await until(() => titles().includes('last'));
  assert.deepEqual(titles(), ['a', 'last']);
});

test('of requests that come to both servers at once each is done once', async (t) => {
  const servers = await startTwo(t, await startRedis(t));
  const socket = await connect(t, servers[0]);
  const numbers = Array.from({ length: 50 }, (_, number) => number);
  await Promise.all(numbers.flatMap((number) => servers.map((server) => persist(server, `key-${number}`, number))));
  const all = await told(servers, socket);
  assert.deepEqual(all.toSorted((a, b) => a - b), numbers);
});

test('what was done while Redis was away is not done again when it is back', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = await startTwo(t, redis);
  const socket = await connect(t, other);
  await redis.stop();
  await until(async () => (await notReady(one)).length > 0);
  const first = await emit(one, 'a', 1);
  assert.equal(first.status, 200);
  assert.deepEqual((await emit(one, 'a', 1)).body, first.body, 'the same server knows it');
  await redis.start();
  await untilTold(redis, 'a');
  await share(one, other);
  assert.deepEqual((await emit(other, 'a', 1)).body, first.body);
  assert.deepEqual(await told([one, other], socket), [1]);
});

test('a request whose Redis hangs is answered soon, and done once', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = await startTwo(t, redis);
  const socket = await connect(t, other);
  assert.equal((await emit(one, 'a', 1)).status, 200);
  redis.pause();
  assert.equal((await emit(one, 'b', 2)).status, 200);
  redis.resume();
  await untilTold(redis, 'b');
  await share(one, other);
  await persist(other, 'b', 2);
  assert.deepEqual(await told([one, other], socket), [1, 2]);
});
