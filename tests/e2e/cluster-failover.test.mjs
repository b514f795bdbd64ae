// The Redis of a cluster is found by Sentinel, in a Redis Cluster or by a Unix socket; and when it dies, its replica.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PLUGIN, startMember } from '../support/cluster.mjs';
import { makeAuthority } from '../support/certificates.mjs';
import { ask, connect } from '../support/client.mjs';
import { assertAll, call, join, send } from '../support/numbers.mjs';
import { notReady } from '../support/plugins.mjs';
import { startRedis, startRedisCluster, startWatchedRedis } from '../support/redis.mjs';
import { makeFolder } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const PLUGINS = [PLUGIN, { wasm: 'remembers', grants: ['store', 'emit', 'ask', 'everyone'] }];
/** What is sent while Redis is away is to come in one order. */
const HOLD = { config: '[cluster]\non_loss = "hold"\n', plugins: PLUGINS };

const steps = (socket, ...taken) => ask(socket, 'remembers', null, taken);

const startTwo = (t, redis, options) => Promise.all([1, 2].map(() => startMember(t, redis, { ...HOLD, ...options })));

/** All that servers do over Redis: broadcasts, the store, what they ask each other, clients that come back. */
async function works(t, [one, other]) {
  for (const server of [one, other]) await until(async () => (await notReady(server)).length === 0);
  const sockets = [await join(t, one), await join(t, other)];
  const numbers = send(await connect(t, one));
  await numbers.more(20);
  sockets[0].io.uri = other.url;
  sockets[0].io.engine.close();
  await numbers.more(20);
  await assertAll(sockets, await numbers.stop());
  await until(async () => (await call(sockets[0], { call: 'find', rooms: ['r'] })).length === 2);
  await steps(await connect(t, one), { set: ['kept', 7] });
  assert.deepEqual(await steps(sockets[1], { get: 'kept' }), [7]);
  await until(async () => (await one.api('GET', '/api/v1/clients/count')).body.count >= 4);
}

const WAYS = {
  'that Sentinel watches': (t) => startWatchedRedis(t),
  'Cluster': (t) => startRedisCluster(t, 'socket.io'),
};

for (const [what, start] of Object.entries(WAYS)) {
  test(`servers share a Redis ${what}, and its replica when it dies`, async (t) => {
    const redis = await start(t);
    const servers = await startTwo(t, redis);
    await works(t, servers);

    const sockets = [await join(t, servers[0]), await join(t, servers[1])];
    const [writer, sender] = [await connect(t, servers[0]), await connect(t, servers[1])];
    await steps(writer, { add: ['sum', 1] });
    let sent = 0;
    const emit = async (count) => {
      for (const until = sent + count; sent < until; sent++) await call(sender, { call: 'emit', rooms: ['r'], event: 'told', data: sent });
    };
    const ready = () =>
      until(async () => (await Promise.all(servers.map(notReady))).every((names) => names.length === 0), { timeout: 30_000, message: 'ready' });
    await emit(20);
    await assertAll(sockets, sent);
    await redis.turn();
    await emit(20);
    await assertAll(sockets, sent);
    await ready();

    // Replication is asynchronous: what the replica has not is lost with its master.
    await until(async () => (await redis.master.send('WAIT', 1, 5000)) === ':1\r\n');
    await redis.master.stop();
    await emit(20);
    await assertAll(sockets, sent);
    await ready();
    // Of an attempt of which nobody knows what became, it may be stored.
    let unknown = 0;
    const add = async () => {
      const { error } = await steps(writer, { add: ['sum', 1] });
      unknown += error?.code === 'outcome_unknown' ? 1 : 0;
      return error === undefined;
    };
    await until(add, { timeout: 30_000 });
    const [sum] = await steps(sender, { get: 'sum' });
    assert.ok(sum >= 2 && sum <= 2 + unknown, `${sum}, and of ${unknown} nobody knows`);

    // Clients come back by what the replica has of them.
    sockets[0].io.uri = servers[1].url;
    sockets[0].io.engine.close();
    await emit(1);
    await assertAll(sockets, sent);
    await until(async () => (await call(sender, { call: 'find', rooms: ['r'] })).length >= 2, { timeout: 30_000 });
  });
}

test('servers share a Redis by its Unix socket', async (t) => {
  const redis = await startRedis(t);
  await works(t, await startTwo(t, { url: `unix://${redis.socket}` }));
});

const BY_TLS = {
  'one Redis': async (t, tls) => ({ url: `rediss://127.0.0.1:${(await startRedis(t, { tls })).secure}` }),
  'a Redis that Sentinel watches': startWatchedRedis,
  'a Redis Cluster': (t, tls) => startRedisCluster(t, 'socket.io', tls),
};

for (const [what, start] of Object.entries(BY_TLS)) {
  test(`servers share ${what} by TLS, whose certificate they check`, async (t) => {
    const authority = makeAuthority(t);
    const redis = await start(t, { ...authority, ...authority.issue() });
    const servers = await startTwo(t, redis, { env: { SSL_CERT_FILE: authority.path } });
    await works(t, servers);
    if (redis.turn) {
      const [socket, sender] = [await join(t, servers[1]), await connect(t, servers[0])];
      await redis.turn();
      await call(sender, { call: 'emit', rooms: ['r'], event: 'told', data: 0 });
      await assertAll([socket], 1);
    }
    const [mistrusts] = await startTwo(t, redis, { connects: false });
    await mistrusts.waitForLog(/UnknownIssuer|invalid peer certificate|is lost/);
    assert.ok((await notReady(mistrusts)).some((it) => it.includes('Redis')));
  });
}

test('what is no URL of a Redis is refused, and how it is written is said', async (t) => {
  for (const [url, says] of [
    ['redis-cluster://:hidden@a,b', /redis\+cluster:\/\/HOST,HOST/],
    ['redis://:hidden@a,b', /several servers/],
    ['redis+sentinel://:hidden@a,b', /name of the master is missing/],
    ['redis+sentnel://:hidden@a/main', /did you mean "redis\+sentinel"/],
  ]) {
    const folder = makeFolder(t, { config: `[cluster]\nurl = "${url}"\n` });
    const { code, stdout, stderr } = await folder.mixlab('check');
    assert.equal(code, 2, stdout + stderr);
    assert.match(stdout + stderr, says);
    assert.doesNotMatch(stdout + stderr, /hidden/);
  }
});
