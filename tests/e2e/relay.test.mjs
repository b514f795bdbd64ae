// A balancer that sends each request of a client to any server of the cluster: the one that has the session is asked.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBalancer } from '../support/balancer.mjs';
import { makeAuthority } from '../support/certificates.mjs';
import { agentOf, connect } from '../support/client.mjs';
import { startMember } from '../support/cluster.mjs';
import { assertAll, call, join, send, told } from '../support/numbers.mjs';
import { startRedis } from '../support/redis.mjs';
import { freePort } from '../support/tcp.mjs';
import { SECRET, token } from '../support/tokens.mjs';
import { trust } from '../support/trust.mjs';
import { until } from '../support/wait.mjs';

/** A member that others pass requests on to. */
async function startRelay(t, redis, { scheme = 'http', env, ...options } = {}) {
  const listen = `127.0.0.1:${await freePort()}`;
  const own = { MIXLAB_CLUSTER__ADDRESS: `${scheme}://${listen}`, MIXLAB_CLUSTER__SECRET: SECRET };
  return startMember(t, redis, { listen, env: { ...own, ...env }, ...options });
}

/** A client with a new connection for each request. */
const roam = (t, server, options) => connect(t, server, { agent: agentOf(server, {}), ...options });

const here = async (server) => (await server.api('GET', '/api/v1/clients/count')).body.here;

/** What these servers together have passed on, by a metric whose name goes on like this. */
async function passedOn(servers, rest) {
  const shown = await Promise.all(servers.map((server) => server.api('GET', '/metrics', undefined, null)));
  const line = `mixlab_cluster_passed_on${rest} `;
  const values = shown.map(({ body }) => body.split('\n').find((text) => text.startsWith(line))?.slice(line.length));
  return values.reduce((sum, value) => sum + Number(value), 0);
}

/** Events there and back, one after the other and large ones. */
async function talk(socket, times = 20) {
  const before = told(socket).length;
  for (let number = 0; number < times; number++) {
    await call(socket, { call: 'emit', event: 'told', data: `${number}${'x'.repeat(number * 100)}` });
  }
  await until(() => told(socket).length === before + times);
  assert.deepEqual(told(socket).slice(before).map((data) => parseInt(data, 10)), Array.from({ length: times }, (_, number) => number));
}

for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
  test(`clients whose requests go to any server work: ${transports}`, async (t) => {
    const redis = await startRedis(t);
    const servers = [await startRelay(t, redis), await startRelay(t, redis)];
    const balancer = await startBalancer(t, servers);
    for (let round = 0; round < 3; round++) {
      const socket = await roam(t, balancer, { transports, token: token({ sub: `${round}` }) });
      await until(() => socket.io.engine.transport.name === transports.at(-1));
      await talk(socket);
    }
    const counts = await Promise.all(servers.map(here));
    assert.equal(counts[0] + counts[1], 3);
    // Who begins with a websocket has its session where that came.
    assert.equal((await passedOn(servers, '_total{outcome="ok"}')) > 0, transports[0] === 'polling');
    assert.equal(await passedOn(servers, '_total{outcome="failed"}'), 0);
  });
}

test('a client of a server that is killed goes on at another, with polling through a balancer that is not sticky', async (t) => {
  const redis = await startRedis(t);
  const servers = [await startRelay(t, redis), await startRelay(t, redis)];
  const balancer = await startBalancer(t, servers);
  const socket = await join(t, balancer, { transports: ['polling'] });
  const [dying, staying] = (await here(servers[0])) === 1 ? servers : servers.toReversed();
  const sender = send(await connect(t, staying));
  await sender.more(20);
  await until(() => told(socket).length > 10);
  await dying.kill();
  await sender.more(20);
  await assertAll([socket], await sender.stop());
});

test('websockets that come by a server which leaves go on elsewhere', async (t) => {
  const redis = await startRedis(t);
  const servers = [await startRelay(t, redis), await startRelay(t, redis)];
  const balancer = await startBalancer(t, servers);
  const sockets = [];
  assert.equal(await passedOn(servers, '_websockets'), 0);
  for (let round = 0; round < 6; round++) sockets.push(await join(t, balancer, { transports: ['polling', 'websocket'] }));
  await until(() => sockets.every((socket) => socket.io.engine.transport.name === 'websocket'));
  const sender = send(await connect(t, servers[1]));
  await sender.more(20);
  assert.equal(await servers[0].stop(), 0);
  await sender.more(20);
  await assertAll(sockets, await sender.stop());
});

test('nobody pretends to be a server, and who asks for sessions that are nowhere is told so', async (t) => {
  const redis = await startRedis(t);
  const server = await startRelay(t, redis);
  const poll = async (sid, headers) => {
    const response = await fetch(`${server.url}/socket.io/?EIO=4&transport=polling&sid=${sid}`, { headers });
    return [response.status, (await response.json()).message];
  };
  const opened = await (await fetch(`${server.url}/socket.io/?EIO=4&transport=polling`)).text();
  const { sid } = JSON.parse(opened.slice(1));
  const [key, name] = sid.split('.');
  assert.match(name, /^[0-9a-f]{16}$/);
  const unknown = [400, 'Session ID unknown'];
  for (const other of [key, `${key}.${'0'.repeat(16)}`, `${key}.`, `${key}.../..`, `.${name}`, `x.${name}`]) {
    assert.deepEqual(await poll(other), unknown, other);
  }
  assert.equal(await passedOn([server], '_total{outcome="failed"}'), 1);
  const forged = `${Date.now()} ${'0'.repeat(32)} ${'A'.repeat(43)}`;
  for (const proof of [forged, '', 'x']) {
    assert.deepEqual(await poll(sid, { 'x-mixlab-passed-on': proof }), [403, 'Forbidden'], proof);
  }
  await server.waitForLog(/was not passed on by a server/);
  // Who can write to Redis has nothing sent to where he likes.
  const listener = await startRelay(t, redis, { env: { MIXLAB_CLUSTER__SECRET: `${SECRET}another` } });
  const strange = await (await fetch(`${listener.url}/socket.io/?EIO=4&transport=polling`)).text();
  assert.deepEqual(await poll(JSON.parse(strange.slice(1)).sid), unknown);
});

test('servers pass requests on over TLS', async (t) => {
  const redis = await startRedis(t);
  const authority = makeAuthority(t);
  trust(authority);
  const { paths } = authority.issue();
  const env = { MIXLAB_TLS__CERTIFICATE: paths.certificate, MIXLAB_TLS__KEY: paths.key, SSL_CERT_FILE: authority.path };
  const servers = [await startRelay(t, redis, { scheme: 'https', env }), await startRelay(t, redis, { scheme: 'https', env })];
  const { url } = await startBalancer(t, servers);
  const balancer = { url: url.replace('http:', 'https:') };
  for (let round = 0; round < 2; round++) {
    const socket = await roam(t, balancer, { transports: ['polling', 'websocket'] });
    await until(() => socket.io.engine.transport.name === 'websocket');
    await talk(socket);
  }
});
