// Calls with a common key run one after the other over all servers of a cluster, where that is configured.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../support/client.mjs';
import { startMember } from '../support/cluster.mjs';
import { notReady } from '../support/plugins.mjs';
import { startRedis } from '../support/redis.mjs';
import { PATIENCE, until } from '../support/wait.mjs';

// A call reads, lets its client go on when it likes, and writes one more than it has read.
const TEXT = `
import { event, plugin, t } from "mixlab";
export default plugin({
  turn: event({ access: "anyone", args: [t.string(), t.any()], serialBy: "/0" }, async (cx, key, name) => {
    const number = (await cx.store.get(key)) ?? 0;
    await cx.timeout("60s").ask("go-on", name);
    await cx.store.set(key, number + 1);
    return number + 1;
  }),
});`;
const PLUGIN = {
  script: 'turns.ts', text: TEXT, name: 'turns', grants: ['store', 'ask'], budget: { wall: '120s', cpu: '2s', instances: 4, asks: 200 },
};
const SERIAL = '[cluster]\nserial = "cluster"\n';

/** Two servers that have found each other: until then each takes turns by itself. */
async function startServers(t, redis, { config = SERIAL } = {}) {
  const servers = await Promise.all([1, 2].map(() => startMember(t, redis, { plugins: [PLUGIN], config })));
  for (const server of servers) await until(async () => (await notReady(server)).length === 0);
  return servers;
}

/** A socket that is asked: `has` are the names of its calls that were, and `goOn` lets them. */
async function player(t, server, asked) {
  const socket = await connect(t, server);
  socket.on('go-on', (name, answer) => asked.push({ name, goOn: answer }));
  const turn = (key, name) => socket.timeout(4 * PATIENCE).emitWithAck('turn', key, name);
  return { socket, turn };
}

const inLine = async (redis, key) => Number((await redis.send('ZCARD', `socket.io:mixlab:{turn:turns:${key}}:line`)).slice(1));
/** Waits until so many stand in line for a key, among all servers. */
const waiting = (redis, key, count) =>
  until(async () => (await inLine(redis, key)) === count, { message: `${count} wait for ${key}` });

const names = (asked) => asked.map(({ name }) => name);

test('calls with the same key run in order of arrival over two servers, each after the former one is committed', async (t) => {
  const redis = await startRedis(t);
  const servers = await startServers(t, redis);
  const asked = [];
  const players = await Promise.all(servers.map((server) => player(t, server, asked)));
  const extra = await Promise.all(servers.map((server) => player(t, server, asked)));
  const answers = [];
  const order = [players[0], players[1], extra[0], extra[1]];
  for (const [index, { turn }] of order.entries()) {
    answers.push(turn('k', index));
    await waiting(redis, 'k', index + 1);
  }
  // Another key has its own turns.
  const other = await player(t, servers[1], asked);
  const apart = other.turn('other', 'apart');
  await until(() => names(asked).includes('apart'));
  asked.find(({ name }) => name === 'apart').goOn('yes');
  assert.equal(await apart, 1);
  for (const index of order.keys()) {
    await until(() => names(asked).includes(index), { message: `${index} has its turn` });
    assert.deepEqual(names(asked).filter((name) => name !== 'apart'), [...Array(index + 1).keys()], 'and nobody else');
    asked.find(({ name }) => name === index).goOn('yes');
    assert.equal(await answers[index], index + 1);
  }
  await waiting(redis, 'k', 0);
});

test('many calls of both servers at once meet no conflict, and nobody waits for ever', async (t) => {
  const redis = await startRedis(t);
  const servers = await startServers(t, redis);
  let atWork = 0;
  const go = async (socket) => {
    socket.on('go-on', (_, answer) => {
      assert.equal(++atWork, 1, 'one at a time');
      setImmediate(() => {
        atWork--;
        answer('yes');
      });
    });
    return socket;
  };
  const sockets = await Promise.all(Array.from({ length: 20 }, async (_, n) => go(await connect(t, servers[n % 2]))));
  const calls = sockets.flatMap((socket) => [1, 2, 3].map(() => socket.timeout(4 * PATIENCE).emitWithAck('turn', 'k', 0)));
  const numbers = await Promise.all(calls);
  assert.deepEqual(numbers.toSorted((a, b) => a - b), Array.from({ length: 60 }, (_, n) => n + 1));
});

test('the turn of a server that was killed goes to another one, over those that waited there', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = await startServers(t, redis);
  const asked = [];
  const [dies, tooDies] = [await player(t, one, asked), await player(t, one, asked)];
  const lives = await player(t, other, asked);
  const lost = [dies.turn('k', 'dies').catch(() => 'lost')];
  await until(() => names(asked).includes('dies'));
  lost.push(tooDies.turn('k', 'dies too').catch(() => 'lost'));
  await waiting(redis, 'k', 2);
  const answer = lives.turn('k', 'lives');
  await waiting(redis, 'k', 3);
  for (const { socket } of [dies, tooDies]) socket.disconnect();
  await one.stop({ signal: 'SIGKILL' });
  await until(() => names(asked).includes('lives'), { timeout: 4 * PATIENCE, message: 'it has its turn' });
  asked.at(-1).goOn('yes');
  assert.equal(await answer, 1, 'what was not committed has not happened');
  assert.deepEqual(names(asked), ['dies', 'lives']);
  await Promise.all(lost);
});

test('a call that waits for another server goes on when Redis is away, and they take turns again when it is back', async (t) => {
  const redis = await startRedis(t, { keep: true });
  const servers = await startServers(t, redis);
  const asked = [];
  const [one, other] = await Promise.all(servers.map((server) => player(t, server, asked)));
  const first = one.turn('k', 'first');
  await until(() => names(asked).includes('first'));
  const second = other.turn('k', 'second');
  await waiting(redis, 'k', 2);
  await redis.stop();
  // Its store fails at once: it does not wait for its turn any more.
  assert.equal((await second).error.temporary, true);
  asked[0].goOn('yes');
  assert.equal((await first).error.temporary, true);
  await redis.start();
  for (const server of servers) await until(async () => (await notReady(server)).length === 0);
  await until(async () => {
    const key = `k${Math.random()}`;
    const from = asked.length;
    const calls = [one.turn(key, 'a'), other.turn(key, 'b')];
    await until(() => asked.length > from);
    const line = await inLine(redis, key);
    let settled = false;
    const all = Promise.all(calls).then((answers) => {
      settled = true;
      return answers;
    });
    await until(() => {
      for (const { goOn } of asked.slice(from)) goOn('yes');
      return settled;
    });
    const answers = await all;
    return line === 2 && answers.includes(1) && answers.includes(2);
  }, { timeout: 4 * PATIENCE, message: 'they take turns' });
});

test('without that setting calls of several servers run at once, and one of them is refused', async (t) => {
  const servers = await startServers(t, await startRedis(t), { config: '' });
  const asked = [];
  const players = await Promise.all(servers.map((server) => player(t, server, asked)));
  const answers = Promise.all(players.map(({ turn }, index) => turn('k', index)));
  await until(() => asked.length === 2, { message: 'both are at work' });
  for (const { goOn } of asked) goOn('yes');
  const codes = (await answers).map((answer) => answer.error?.code ?? answer);
  assert.deepEqual(new Set(codes), new Set([1, 'conflict']));
});
