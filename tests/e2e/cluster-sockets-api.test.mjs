// Backends ask one server of a cluster who is connected to any of them, and move and end sockets of all.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { PLUGIN, startMember, startNodeMember } from '../support/cluster.mjs';
import { ask, connect, disconnected } from '../support/client.mjs';
import { startRedis } from '../support/redis.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const shared = { after: (hook) => hooks.push(hook) };
const hooks = [];
let redis, mixlab, node;
before(async () => {
  redis = await startRedis(shared);
  mixlab = [await startMember(shared, redis), await startMember(shared, redis)];
  node = await startNodeMember(shared, redis);
  for (const server of mixlab) await until(async () => (await server.api('GET', '/readyz')).status === 200);
});
test.after(async () => {
  for (const hook of hooks.reverse()) await hook();
});

const get = async (server, path) => {
  const { status, body } = await server.api('GET', `/api/v1/${path}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body;
};
const post = (server, path, body) => server.api('POST', `/api/v1/sockets/${path}`, body);
const ids = (rows) => rows.map(({ id }) => id).sort();

/** What all pages of a list have, each page of another server. */
async function all(path, limit = 1000) {
  const [name, rows] = [path.split('?')[0], []];
  for (let cursor = '', page = 0; cursor !== null; page++) {
    const body = await get(mixlab[page % 2], `${path}${path.includes('?') ? '&' : '?'}limit=${limit}${cursor && `&cursor=${cursor}`}`);
    assert.equal(body.silent, null);
    rows.push(...body[name]);
    cursor = body.next;
  }
  return rows;
}

/** Two clients of each server, MixLab's first, that all servers hear of. */
async function clients(t, options) {
  const sockets = [];
  for (const server of [...mixlab, node, ...mixlab, node]) sockets.push(await connect(t, server, options));
  const heard = async () => ids(await all('sockets')).filter((id) => sockets.some((socket) => socket.id === id)).length === sockets.length;
  await until(heard, { message: 'all are heard of' });
  return sockets;
}

const of = (sockets) => sockets.map(({ id }) => `socket=${id}`).join('&');

test('sockets, users and rooms of all servers are listed, page by page', async (t) => {
  const credentials = { token: token({ sub: 'ada', role: 'admin' }) };
  const sockets = await clients(t, credentials);
  for (const limit of [1, 2, 5, 1000]) {
    const rows = await all(`sockets?${of(sockets)}`, limit);
    assert.deepEqual(rows.map(({ id }) => id), ids(sockets), 'in one order');
  }
  const rows = await all(`sockets?${of(sockets)}`);
  for (const [index, socket] of sockets.entries()) {
    const its = rows.find(({ id }) => id === socket.id);
    // Node's servers know no users.
    assert.equal(its.user?.id, index % 3 < 2 ? 'ada' : undefined);
    assert.ok(Math.abs(Date.parse(its.since) - Date.now()) < 60_000, its.since);
  }
  const users = await all('users');
  assert.deepEqual(users.map(({ id, roles, sockets: count }) => [id, roles, count]), [['ada', ['admin'], 4]]);
  assert.equal((await get(mixlab[0], 'users/ada')).sockets, 4);
  for (const server of mixlab) {
    for (const socket of sockets) assert.equal((await get(server, `sockets/${socket.id}`)).id, socket.id);
  }
});

test('sockets of all servers join and leave rooms, and end', async (t) => {
  const sockets = await clients(t);
  const some = sockets.slice(0, 3);
  const [here] = mixlab;
  assert.deepEqual((await post(here, 'join', { sockets: ids(some), join: ['hall', 'desk'] })).body, { selected: null });
  const inRoom = async (room) => ids(await all(`sockets?room=${room}`));
  await until(async () => (await inRoom('hall')).length === 3);
  assert.deepEqual(await inRoom('hall'), ids(some));
  await post(here, 'join', { sockets: [sockets[4].id], join: ['desk'] });
  await until(async () => (await inRoom('desk')).length === 4);
  for (const limit of [1, 1000]) {
    const rooms = (await all('rooms', limit)).map(({ name, sockets: count }) => [name, count]);
    assert.deepEqual(rooms, [['desk', 4], ['hall', 3]], 'their sizes are of all servers');
  }
  assert.deepEqual((await all('rooms?prefix=ha')).map(({ name }) => name), ['hall']);
  await post(here, 'leave', { rooms: ['hall'], leave: ['desk'] });
  await until(async () => (await inRoom('desk')).length === 1);
  await post(here, 'disconnect', { rooms: ['hall'] });
  for (const socket of some) assert.equal(await disconnected(socket), 'io server disconnect');
  assert.ok(sockets.slice(3).every((socket) => socket.connected));
});

test('what a plugin keeps and what a Node server keeps is told where it is asked for', async (t) => {
  const sockets = await clients(t);
  await ask(sockets[1], 'capabilities', [{ call: 'set_data', data: { mine: 1 } }]);
  await ask(sockets[2], 'keep', { theirs: 2 });
  const data = async (socket) => (await get(mixlab[0], `sockets/${socket.id}?data=true`)).data;
  assert.deepEqual([await data(sockets[1]), await data(sockets[2])], [{ capabilities: { mine: 1 } }, { theirs: 2 }]);
  assert.ok(!('data' in (await get(mixlab[0], `sockets/${sockets[1].id}`))));
});

test('an answer says which servers have not answered, and says nothing that may be wrong', async (t) => {
  const held = await startMember(t, redis, { plugins: [PLUGIN] });
  await until(async () => (await held.api('GET', '/readyz')).status === 200);
  const there = await connect(t, held);
  const [asked] = mixlab;
  const here = await connect(t, asked);
  await until(async () => (await get(asked, `sockets?${of([here, there])}`)).sockets.length === 2);
  held.signal('SIGSTOP');
  t.after(() => held.signal('SIGCONT'));
  const began = performance.now();
  const { sockets, silent } = await get(asked, `sockets?${of([here, there])}`);
  const waited = performance.now() - began;
  assert.deepEqual(ids(sockets), [here.id]);
  assert.equal(silent.servers, 1);
  assert.ok(silent.names.length <= 1, `${silent.names}`);
  const live = await connect(t, mixlab[1]);
  const next = performance.now();
  for (const { id } of [here, live]) assert.equal((await get(asked, `sockets/${id}`)).id, id, 'one that is found is told all the same');
  const named = await get(asked, `sockets?${of([here, live])}`);
  assert.deepEqual([ids(named.sockets), named.silent], [ids([here, live]), null]);
  const found = await ask(here, 'capabilities', [{ call: 'find', sockets: [here.id, live.id] }]);
  assert.ok(JSON.stringify(found).includes(live.id), JSON.stringify(found));
  // All four together take less than one that waits.
  assert.ok(performance.now() - next < waited, 'and nobody waits for the others');
  const { status, body } = await asked.api('GET', `/api/v1/sockets/${there.id}`);
  assert.deepEqual([status, body.error.code, body.error.temporary, body.error.details.servers], [503, 'cluster_unavailable', true, 1]);
  held.signal('SIGCONT');
  await until(async () => (await get(asked, `sockets?${of([there])}`)).sockets.length === 1);
});

test('without Redis nobody knows of the others, and that is said', async (t) => {
  const own = await startRedis(t);
  const server = await startMember(t, own);
  await until(async () => (await server.api('GET', '/readyz')).status === 200);
  assert.equal((await server.api('GET', '/api/v1/sockets')).status, 200);
  await own.stop();
  const lost = async () => (await server.api('GET', '/api/v1/sockets')).body.error?.code === 'cluster_unavailable';
  await until(lost, { message: 'it is said' });
});
