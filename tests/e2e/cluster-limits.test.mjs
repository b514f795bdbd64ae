// Rate limits that the servers of a cluster count together, around a real Redis that may be away.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { startMember } from '../support/cluster.mjs';
import { notReady } from '../support/plugins.mjs';
import { startRedis } from '../support/redis.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const RATE = '6/1000h';
/** Declares one event of its name, by users, by addresses and by all together. */
const limited = (name, scope, keys = {}) => ({
  wasm: 'contracts',
  name,
  config: { events: [{ name, limits: [{ scope, rate: RATE }] }], answer: 'ok' },
  ...keys,
});
const SHARED = { shared_limits: true };
const PLUGINS = [limited('users', 'user', SHARED), limited('all', 'event', SHARED), limited('own', 'user')];

const startTwo = (t, redis, options) => Promise.all([1, 2].map(() => startMember(t, redis, { plugins: PLUGINS, ...options })));

/** Asks so many times, one after the other; what of it was let in. */
async function count(socket, event, times) {
  let letIn = 0;
  for (let time = 0; time < times; time++) {
    const answer = await ask(socket, event);
    if (answer === 'ok') letIn++;
    else {
      assert.equal(answer.error?.code, 'rate_limited', JSON.stringify(answer));
      assert.ok(answer.error.retry_after_ms > 0);
    }
  }
  return letIn;
}

const userOf = (t, server, sub) => connect(t, server, { token: token({ sub }) });

test('limits of a plugin that shares them are counted over all servers, and those of others by each', async (t) => {
  const [one, other] = await startTwo(t, await startRedis(t));
  const [ada, too] = [await userOf(t, one, 'ada'), await userOf(t, other, 'ada')];
  assert.deepEqual([await count(ada, 'users', 4), await count(too, 'users', 4)], [4, 2]);
  assert.equal(await count(ada, 'users', 2), 0, 'nobody has any left');
  assert.equal(await count(await userOf(t, other, 'bob'), 'users', 7), 6, 'another user has its own');
  assert.deepEqual([await count(too, 'own', 7), await count(ada, 'own', 7)], [6, 6]);
  // At once, by all.
  const sockets = [ada, too, await userOf(t, one, 'bob'), await connect(t, other)];
  const counts = await Promise.all(sockets.map((socket) => count(socket, 'all', 5)));
  assert.equal(counts.reduce((a, b) => a + b), 6, counts.join());
});

test('what was refused for what other servers let in has not been counted', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = await startTwo(t, redis);
  const [ada, too] = [await userOf(t, one, 'ada'), await userOf(t, other, 'ada')];
  assert.deepEqual([await count(ada, 'users', 6), await count(too, 'users', 9)], [6, 0]);
  // As when time has passed: what was refused has taken nothing, here neither.
  await redis.send('FLUSHALL');
  assert.equal(await count(too, 'users', 7), 6);
});

test('[limits] of users are counted over all servers if that is configured', async (t) => {
  const config = `[limits]\nuser = "${RATE}"\nshared = true`;
  const [one, other] = await startTwo(t, await startRedis(t), { config });
  const [ada, too] = [await userOf(t, one, 'ada'), await userOf(t, other, 'ada')];
  assert.deepEqual([await count(ada, 'own', 4), await count(too, 'own', 4)], [4, 2]);
  assert.equal((await ask(ada, 'unsubscribe:payments')).error.code, 'rate_limited');
});

test('while Redis is away or hangs each server counts by itself, and together again when it is back', async (t) => {
  const redis = await startRedis(t, { keep: true });
  const [one, other] = await startTwo(t, redis);
  const [ada, too] = [await userOf(t, one, 'ada'), await userOf(t, other, 'ada')];
  assert.equal(await count(ada, 'users', 4), 4);
  redis.pause();
  assert.equal(await count(ada, 'users', 1), 1, 'it is answered');
  redis.resume();
  await redis.stop();
  await until(async () => (await notReady(one)).length > 0 && (await notReady(other)).length > 0);
  assert.deepEqual([await count(ada, 'users', 4), await count(too, 'users', 4)], [1, 4], 'each by its own count');
  await redis.start();
  await until(async () => (await notReady(one)).length === 0 && (await notReady(other)).length === 0);
  // They ask again a moment after it is back.
  let users = 0;
  const together = async () => {
    const sub = `user-${users++}`;
    const sockets = [await userOf(t, one, sub), await userOf(t, other, sub)];
    return (await count(sockets[0], 'users', 4)) + (await count(sockets[1], 'users', 4)) === 6;
  };
  await until(together, { message: 'they count together' });
});
