// A server leaves that has clients: they go on elsewhere, and nothing is lost.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBalancer } from '../support/balancer.mjs';
import { ask, connect } from '../support/client.mjs';
import { startMember } from '../support/cluster.mjs';
import { assertAll, join, numbers, send } from '../support/numbers.mjs';
import { startRedis } from '../support/redis.mjs';
import { startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const CONFIG = '[shutdown]\nnotice = "300ms"\ndrain = "1s"\n';

const count = async (server) => (await server.api('GET', '/api/v1/clients/count')).body.here;

test('clients of a server that is drained go on at another, and get every event once and in order', async (t) => {
  const redis = await startRedis(t);
  const one = await startMember(t, redis, { config: CONFIG });
  const servers = [one];
  const balancer = await startBalancer(t, servers);
  const sockets = await Promise.all(numbers(30).map(() => join(t, balancer)));
  assert.equal(await count(one), 30);
  const other = await startMember(t, redis, { config: CONFIG });
  servers.push(other);
  const sender = send(await connect(t, other));
  await sender.more(20);

  const drained = one.mixlab('drain');
  await until(async () => (await fetch(`${one.url}/readyz`)).status === 503);
  assert.match(await (await fetch(`${one.url}/readyz`)).text(), /not ready: the server leaves/);
  const { code, stdout, stderr } = await drained;
  assert.deepEqual([code, stderr], [0, '']);
  assert.match(stdout, /^30 clients\n(\d+ clients\n)*0 clients\n$/);
  await until(async () => (await count(other)) === 31);
  await until(() => sockets.every((socket) => socket.connected));
  await assertAll(sockets, await sender.stop());

  // It is there still, and takes nobody.
  assert.equal((await fetch(`${one.url}/healthz`)).status, 200);
  const refused = await fetch(`${one.url}/socket.io/?EIO=4&transport=polling`);
  assert.deepEqual([refused.status, (await refused.json()).message], [503, 'Forbidden']);
  assert.equal(await one.stop(), 0);
});

test('all servers are replaced, one after the other, and nothing is lost of what clients send and get', async (t) => {
  const redis = await startRedis(t);
  const start = () => startMember(t, redis, { config: CONFIG });
  const servers = [await start(), await start()];
  const balancer = await startBalancer(t, servers);
  const sockets = await Promise.all(numbers(10).map(() => join(t, balancer)));
  const sender = send(await join(t, balancer));
  for (const former of [...servers]) {
    await sender.more(20);
    servers.push(await start());
    assert.equal(await former.stop({ timeout: 30_000 }), 0);
    servers.splice(servers.indexOf(former), 1);
  }
  await sender.more(20);
  await assertAll(sockets, await sender.stop());
});

test('a second SIGTERM, and Ctrl-C, end a server at once that sends its clients away', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    const server = await startServer(t, { plugins: ['echo'], config: '[shutdown]\nnotice = "1h"' });
    await connect(t, server);
    server.signal('SIGTERM');
    await server.waitForLog(/the server is to leave/);
    await connect(t, server);
    assert.equal(await server.stop({ signal }), 0);
  }
});

test('what a client has asked for is answered before it is sent away', async (t) => {
  const server = await startServer(t, {
    plugins: [{ wasm: 'slow', budget: { cpu: '5s', wall: '10s' } }],
    config: '[shutdown]\ndrain = "1s"',
  });
  const sockets = [await connect(t, server), await connect(t, server, { transports: ['polling'] })];
  const answers = sockets.map((socket) => ask(socket, 'slow', 700));
  await until(() => sockets.every((socket) => socket.io.engine.writeBuffer.length === 0));
  await server.api('GET', '/healthz');
  const drained = server.mixlab('drain');
  assert.deepEqual(await Promise.all(answers), [700, 700]);
  assert.equal((await drained).code, 0);
  await until(() => sockets.every((socket) => socket.disconnected));
});
