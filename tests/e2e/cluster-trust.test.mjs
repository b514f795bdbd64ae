// Who is believed in a cluster, and what its servers need of Redis.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { PLUGIN, settled, startMember, startNodeMember } from '../support/cluster.mjs';
import { assertAll, call, join, send, told } from '../support/numbers.mjs';
import { startRedis } from '../support/redis.mjs';
import { ROOT } from '../support/server.mjs';
import { SECRET } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const SIGNED = { env: { MIXLAB_CLUSTER__SECRET: SECRET } };

/** What somebody who can write to Redis has all clients told. */
const forge = (redis, data, ...more) => {
  const json = JSON.stringify({ packet: { type: 2, data: ['told', data] }, opts: { rooms: [], except: [], flags: {} } });
  return redis.send('XADD', 'socket.io', '*', 'uid', 'emitter', 'nsp', '/', 'type', '3', 'data', json, ...more);
};

/** Servers do all that they do over Redis: broadcasts, what they ask each other, and clients that come back. */
async function works(t, one, other) {
  const sockets = [await join(t, one), await join(t, other)];
  const sender = send(await connect(t, one));
  await sender.more(20);
  await settled(async () => {
    const [found] = await ask(sockets[1], 'capabilities', [{ call: 'find', rooms: ['r'] }]);
    return found.granted?.length === 2;
  });
  const [moving] = sockets;
  moving.io.uri = other.url;
  moving.io.engine.close();
  await until(() => moving.connected && moving.io.uri === other.url);
  await call(moving, { call: 'emit', event: 'own', data: 1 });
  await sender.more(20);
  await assertAll(sockets, await sender.stop());
  return sockets;
}

test('servers with a secret take nothing that is not signed', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = [await startMember(t, redis, SIGNED), await startMember(t, redis, SIGNED)];
  const sockets = await works(t, one, other);
  const before = told(sockets[0]).length;
  await forge(redis, 'forged');
  await forge(redis, 'forged', 'mac', 'A'.repeat(43));
  await forge(redis, 'forged', 'seq', '0', 'mac', '-');
  await one.waitForLog(/not signed with the cluster's secret/);
  await call(sockets[0], { call: 'emit', rooms: ['r'], event: 'told', data: 'good' });
  await until(() => told(sockets[1]).includes('good'));
  assert.equal(told(sockets[0]).length, before);
  assert.ok(!told(sockets[1]).includes('forged'));
  // One with another secret is no member.
  const stranger = await startMember(t, redis, { env: { MIXLAB_CLUSTER__SECRET: `${SECRET}x` } });
  const alone = await connect(t, stranger);
  // It has just started, and may not hear others yet.
  const find = () => call(alone, { call: 'find', rooms: ['r'] }).catch(() => {});
  const found = await until(find);
  assert.equal(found.length, 0);
});

test('Node servers are members of a signed cluster where that is configured', async (t) => {
  const redis = await startRedis(t);
  const mixlab = await startMember(t, redis, { config: '[cluster]\nunsigned = "accept"\n', ...SIGNED });
  const node = await startNodeMember(t, redis);
  const here = await join(t, mixlab);
  const there = await connect(t, node);
  await ask(there, 'join', 'r');
  await call(await connect(t, mixlab), { call: 'emit', rooms: ['r'], event: 'told', data: 1 });
  await until(() => told(here).length === 1 && told(there).length === 1);
  await forge(redis, 2);
  await until(() => told(here).length === 2);
  await forge(redis, 3, 'mac', 'A'.repeat(43));
  await forge(redis, 4);
  await until(() => told(here).length === 3);
  assert.deepEqual(told(here), [1, 2, 4]);
});

/** What the documents have a user of Redis be allowed. */
const RULES = readFileSync(joinPath(ROOT, 'host/docs/running/redis.md'), 'utf8').match(/ACL SETUSER servers on >PASSWORD ([^`]*)```/)[1].split(/\s+/).filter(Boolean);

test('a user of Redis who may no more than the documents say is enough', async (t) => {
  const redis = await startRedis(t);
  assert.match(await redis.send('ACL', 'SETUSER', 'mixlab', 'on', '>password', ...RULES), /OK/);
  assert.match(await redis.send('ACL', 'SETUSER', 'default', '-@all', '+ping', '+acl|log'), /OK/);
  const url = redis.url.replace('//', '//mixlab:password@');
  const options = {
    env: { MIXLAB_CLUSTER__URL: url, ...SIGNED.env },
    config: '[cluster]\naccept = ["redis-emitter", "python-socketio"]\n',
    plugins: [PLUGIN, { wasm: 'remembers', grants: ['store', 'emit', 'ask', 'everyone'] }],
  };
  const servers = [await startMember(t, redis, options), await startMember(t, redis, options)];
  await works(t, ...servers);
  await until(async () => (await servers[0].api('GET', '/api/v1/clients/count')).body.count > 2);
  const client = await connect(t, servers[0]);
  const steps = (...taken) => ask(client, 'remembers', null, taken);
  await steps({ set: ['a', 1] }, { set_for: [100, 'b', 2] }, { add: ['n', 3] });
  assert.deepEqual(await steps({ get: 'a' }, { get: 'n' }, { delete: 'a' }, { scan: ['n', null, 10] }), [1, 3, null, ['n']]);
  await until(async () => (await steps({ scan: ['', null, 10] }))[0].length === 1, { message: 'what is over is gone' });
  await servers[1].stop();
  // Whatever was refused is there, whoever went on without it.
  assert.equal(await redis.send('ACL', 'LOG'), '*0\r\n');
});

test('a client of one cluster is nobody in another one with the same Redis', async (t) => {
  const redis = await startRedis(t);
  const start = (prefix) => startMember(t, redis, { config: `[cluster]\nprefix = "${prefix}"\n` });
  const [one, other] = await Promise.all([start('one'), start('other')]);
  const socket = await connect(t, one, { reconnection: true, reconnectionDelay: 50 });
  await call(socket, { call: 'join', room: 'secret' });
  const { id, _pid: pid } = socket;
  const written = async () => {
    const [, session = ''] = (await redis.send('GET', `sio:session:${pid}`)).split('\r\n');
    return Buffer.from(session, 'base64').includes('secret');
  };
  await until(written, { message: 'other servers know of it' });
  socket.io.uri = other.url;
  const back = new Promise((resolve) => socket.once('connect', resolve));
  socket.io.engine.close();
  await back;
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
  assert.deepEqual(await call(await connect(t, other), { call: 'find', rooms: ['secret'] }), []);
  assert.ok(await written(), 'and it is there still for its own');
});
