// Servers of a cluster remember together: what plugins store is in Redis, and a call is a transaction over
// all servers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, connect, received } from '../support/client.mjs';
import { startMember } from '../support/cluster.mjs';
import { editConfig, notReady, reload } from '../support/plugins.mjs';
import { startRedis } from '../support/redis.mjs';
import { makeFolder } from '../support/server.mjs';
import { PATIENCE, until } from '../support/wait.mjs';

/** With time for a machine that does much else. */
const REMEMBERS = {
  wasm: 'remembers', grants: ['store', 'store:shared', 'emit', 'ask', 'everyone'], budget: { cpu: '1s', wall: '15s' },
};
const ALARMS = { wasm: 'alarms', grants: ['timers', 'store', 'emit', 'everyone'] };
const range = (count) => Array.from({ length: count }, (_, index) => index);

/** One call that takes these steps; resolves to what each of them said. */
const steps = (socket, ...taken) => ask(socket, 'remembers', null, taken);

const startTwo = (t, redis, options) =>
  Promise.all(range(2).map(() => startMember(t, redis, { plugins: [REMEMBERS], ...options })));

/** So many sockets of these servers in turn. */
const sockets = (t, servers, count) => Promise.all(range(count).map((n) => connect(t, servers[n % servers.length])));

/** Has this done. Who has met too many conflicts, or waited too long for a turn, an instance or Redis, is told, and has done nothing. */
async function persist(client, ...event) {
  const answer = await ask(client, ...event);
  if (answer?.error === undefined) return answer;
  assert.ok(['conflict', 'rate_limited', 'plugin_unavailable', 'plugin_timeout'].includes(answer.error.code), JSON.stringify(answer));
  return persist(client, ...event);
}

/** Each of these sockets does this so many times, one after the other. */
const race = (clients, times, action) =>
  Promise.all(
    clients.map(async (client) => {
      const answers = [];
      for (const time of range(times)) answers.push(await action(client, time));
      return answers;
    }),
  ).then((answers) => answers.flat());

test('what one server has stored, the other one finds, and a restart loses nothing', async (t) => {
  const redis = await startRedis(t);
  const servers = await startTwo(t, redis);
  const [one, other] = await sockets(t, servers, 2);
  await steps(one, { set: ['a', { x: 1 }] }, { add: ['n', 5] });
  assert.deepEqual(await steps(other, { get: 'a' }, { add: ['n', 2] }, { scan: ['', null, 10] }), [
    { x: 1 }, null, ['a', 'n'],
  ]);
  assert.deepEqual(await steps(one, { get: 'n' }, { delete: 'a' }), [7, null]);
  assert.deepEqual(await steps(other, { exists: 'a' }), [false]);
  const third = await startMember(t, redis, { plugins: [REMEMBERS] });
  assert.deepEqual(await steps(await connect(t, third), { get: 'n' }), [7]);
});

test('200 sockets of two servers count exactly, by adding and by reading and writing', async (t) => {
  const servers = await startTwo(t, await startRedis(t));
  const clients = await sockets(t, servers, 200);
  const times = 5;
  await race(clients, times, (client) => persist(client, 'remembers:add', 'added'));
  assert.deepEqual(await steps(clients[0], { get: 'added' }), [200 * times]);
  await race(clients, times, (client, time) => persist(client, 'remembers:serial', `s${time % 3}`));
  const sums = await steps(clients[1], { get: 's0' }, { get: 's1' }, { get: 's2' });
  assert.equal(sums.reduce((a, b) => a + b), 200 * times);
  const counted = await race(clients, 1, (client) => persist(client, 'remembers:increment', 'n'));
  assert.deepEqual(counted.toSorted((a, b) => a - b), range(200).map((n) => n + 1), 'each number once');
});

test('nobody takes what another one has taken, on whichever server', async (t) => {
  const servers = await startTwo(t, await startRedis(t));
  const clients = await sockets(t, servers, 20);
  const waiting = range(100).map((n) => ({ set: [`q:${String(n).padStart(3, '0')}`, n] }));
  await steps(clients[0], ...waiting);
  const assign = (client) => persist(client, 'remembers:assign', 'q', 'somebody');
  const taken = (await race(clients, 6, assign)).filter((customer) => customer !== null);
  assert.equal(taken.length, 100, 'all of them');
  assert.equal(new Set(taken).size, 100, 'nobody twice');
});

test('while Redis is away, what stores fails and says so, and everything else goes on', async (t) => {
  const redis = await startRedis(t, { keep: true });
  const [server] = await startTwo(t, redis);
  const client = await connect(t, server);
  await steps(client, { set: ['a', 1] });
  await redis.stop();
  await until(async () => (await steps(client, { get: 'a' }))[0]?.error?.includes('does not answer'), {
    message: 'reading fails',
  });
  const written = await steps(client, { set: ['a', 2] });
  assert.equal(written.error.code, 'plugin_unavailable');
  assert.equal(written.error.temporary, true);
  assert.ok((await notReady(server)).includes('the store cannot be written'));
  assert.deepEqual(await steps(client), [], 'an event without the store is handled');
  const { count } = await server.api('GET', '/api/v1/clients/count').then(({ body }) => body);
  assert.equal(count, 1, 'the server answers');
  await redis.start();
  await until(async () => (await steps(client, { get: 'a' }))[0] === 1, { message: 'it is back with what it had' });
  await until(async () => Array.isArray(await steps(client, { set: ['a', 3] })));
  assert.deepEqual(await steps(client, { get: 'a' }), [3]);
});

test('what was acked is there, and nothing twice, when Redis is killed and held up meanwhile', async (t) => {
  const redis = await startRedis(t, { keep: true });
  const servers = await startTwo(t, redis);
  const clients = await sockets(t, servers, 20);
  let isOver = false;
  const acked = [];
  let unknown = 0;
  const counting = clients.map(async (client) => {
    while (!isOver) {
      const number = await ask(client, 'remembers:increment', 'n');
      if (typeof number === 'number') acked.push(number);
      else {
        assert.equal(number.error.temporary, true, JSON.stringify(number));
        unknown += number.error.code === 'outcome_unknown' ? 1 : 0;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  });
  const more = async (count) => {
    const wanted = acked.length + count;
    await until(() => acked.length >= wanted, { timeout: 4 * PATIENCE, message: 'they go on' });
  };
  await more(100);
  redis.pause();
  await new Promise((resolve) => setTimeout(resolve, 2500));
  redis.resume();
  await more(100);
  await redis.stop();
  await redis.start();
  await more(100);
  isOver = true;
  await Promise.all(counting);
  assert.equal(new Set(acked).size, acked.length, 'no number twice');
  const [held] = await steps(clients[0], { get: 'n' });
  assert.ok(held >= Math.max(...acked), `${held} is there, and ${Math.max(...acked)} was acked`);
  assert.ok(held <= acked.length + unknown, `${held} is there, ${acked.length} were acked, of ${unknown} nobody knows`);
});

const set = (socket, name, after, plan = {}) => ask(socket, 'alarms', name, after, plan, false);
const fired = (socket, name) => ask(socket, 'alarms:fired', name);

test('a timer fires on one server, once, and so do those that a plugin declares', async (t) => {
  const redis = await startRedis(t);
  const plugins = [{ ...ALARMS, config: { every: { declared: 500 } } }];
  const servers = await startTwo(t, redis, { plugins });
  const [one, other] = await sockets(t, servers, 2);
  const names = range(30).map((n) => `t${n}`);
  // Those that are due later are known to both servers by then.
  await Promise.all(names.map((name, n) => set(n % 2 ? one : other, name, n < 10 ? 0 : 4000)));
  const all = async () => (await Promise.all(names.map((name) => fired(one, name)))).every((times) => times === 1);
  await until(all, { message: 'each has fired', timeout: 4 * PATIENCE });
  await until(async () => (await fired(one, 'declared')) >= 4, { timeout: 4 * PATIENCE });
  const told = (client) => received(client, 'alarms:fired').map(([name]) => name);
  // What one server tells may come behind what another one has told later.
  await until(() => [one, other].every((client) => names.every((name) => told(client).includes(name))));
  const before = await fired(one, 'declared');
  await until(() => [one, other].every((client) => told(client).filter((name) => name === 'declared').length >= before));
  for (const name of names) {
    for (const client of [one, other]) {
      assert.equal(told(client).filter((it) => it === name).length, 1, `${name} is told of once`);
    }
    assert.equal(await fired(other, name), 1);
  }
});

test('timers of a server that was killed fire on another one', async (t) => {
  const redis = await startRedis(t);
  const servers = await startTwo(t, redis, { plugins: [ALARMS] });
  const [one, other] = await sockets(t, servers, 2);
  const names = range(10).map((n) => `t${n}`);
  await Promise.all(names.map((name) => set(one, name, 3000)));
  one.disconnect();
  await servers[0].stop({ signal: 'SIGKILL' });
  const all = async () => (await Promise.all(names.map((name) => fired(other, name)))).every((times) => times === 1);
  await until(all, { message: 'each has fired', timeout: 4 * PATIENCE });
});

test('a version that stores in a former form writes nothing any more once another server has migrated', async (t) => {
  const redis = await startRedis(t);
  const plugins = [{ wasm: 'migrates', grants: ['store', 'emit', 'everyone'], config: { data_version: 0 } }];
  const servers = await startTwo(t, redis, { plugins });
  const [one, other] = await sockets(t, servers, 2);
  const count = (socket, key) => ask(socket, 'migrates', key);
  for (const socket of [one, other]) await count(socket, 'a');
  const migrate = (server) => {
    editConfig(server, (text) => text.replace('"data_version" = 0', '"data_version" = 1'));
    return reload(server);
  };
  await migrate(servers[0]);
  assert.deepEqual(await count(one, 'a'), { by: [0, 1], n: 3 });
  const { error } = await count(other, 'b');
  assert.deepEqual([error.code, error.temporary], ['conflict', true]);
  await migrate(servers[1]);
  assert.deepEqual(await count(other, 'a'), { by: [0, 1], n: 4 });
});

test('what is tried without a server stores nothing in Redis, though mixlab.toml names one', async (t) => {
  const redis = await startRedis(t);
  const env = { MIXLAB_CLUSTER__URL: redis.url };
  const folder = makeFolder(t, { config: '[cluster]', env, plugins: [REMEMBERS] });
  const { code, stdout, stderr } = await folder.mixlab('call', 'remembers.wasm', 'remembers:increment', '"n"');
  assert.equal(code, 0, stdout + stderr);
  assert.match(await redis.send('DBSIZE'), /^:0\r\n/);
});

test('a cluster whose servers have data of their own is told so', async (t) => {
  const redis = await startRedis(t);
  const config = '[store]\non = "disk"\n[cluster]';
  const env = { MIXLAB_CLUSTER__URL: redis.url };
  const { code, stderr } = await makeFolder(t, { config, env, plugins: [REMEMBERS] }).mixlab('check');
  assert.equal(code, 0);
  assert.match(stderr, /each server of the cluster has data of its own/);
});
