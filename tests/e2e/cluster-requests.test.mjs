// What servers of a cluster, MixLab's and Node's, ask each other: who is there, and what clients answer.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { PLUGIN, startMember, startNodeMember } from '../support/cluster.mjs';
import { ask, connect } from '../support/client.mjs';
import { startRedis } from '../support/redis.mjs';
import { token } from '../support/tokens.mjs';
import { until, within } from '../support/wait.mjs';

const shared = { after: (hook) => hooks.push(hook) };
const hooks = [];
let redis, mixlab, node;
before(async () => {
  redis = await startRedis(shared);
  mixlab = [await startMember(shared, redis), await startMember(shared, redis)];
  node = [await startNodeMember(shared, redis), await startNodeMember(shared, redis)];
  const asker = await connect(shared, mixlab[0]);
  const all = await Promise.all([...mixlab, ...node].map((server) => connect(shared, server)));
  await heard(asker, all);
});
test.after(async () => {
  for (const hook of hooks.reverse()) await hook();
});

/** Waits until the servers of these clients are heard by that of `asker`. */
const heard = (asker, all) =>
  until(async () => {
    const found = await call(asker, { call: 'find', rooms: [] });
    return all.every(({ id }) => found.some((it) => it.id === id));
  });

/** One client of each server, MixLab's first. */
const clients = (t, options) => Promise.all([...mixlab, ...node].map((server) => connect(t, server, options)));

/** What the plugin of a client's server answers. */
const calls = async (socket, what) => (await ask(socket, 'capabilities', [what]))[0];

const call = async (socket, what) => {
  const answer = await calls(socket, what);
  assert.ok('granted' in answer, JSON.stringify(answer));
  return answer.granted;
};

/** A room's name that no other test has. */
let rooms = 0;
const room = () => `room-${rooms++}`;

const joined = async (sockets, name) => {
  for (const [index, socket] of sockets.entries()) {
    await (index < 2 ? call(socket, { call: 'join', room: name }) : ask(socket, 'join', name));
  }
};

const ids = (sockets) => sockets.map(({ id }) => id).sort();

test('a plugin finds and counts the sockets of all servers', async (t) => {
  const asker = await connect(t, mixlab[0]);
  const all = await clients(t);
  const name = room();
  await joined(all, name);
  await call(all[0], { call: 'set_data', data: { mine: 1 } });
  await call(all[1], { call: 'set_data', data: { mine: 2 } });
  await ask(all[2], 'keep', { mine: 3 });
  const found = await call(asker, { call: 'find', rooms: [name] });
  assert.deepEqual(ids(found), ids(all));
  for (const [index, socket] of all.entries()) {
    const its = found.find(({ id }) => id === socket.id);
    assert.deepEqual(its.rooms, [name]);
    assert.equal(its.address.replace('::ffff:', ''), '127.0.0.1');
    assert.deepEqual(its.data ?? {}, index < 3 ? { mine: index + 1 } : {});
  }
  assert.equal(await call(asker, { call: 'count', rooms: [name] }), all.length);
  assert.equal(await call(asker, { call: 'count', rooms: [name], except: [all[3].id] }), all.length - 1);
  assert.deepEqual(ids(await call(asker, { call: 'find', sockets: [all[1].id, all[2].id] })), ids(all.slice(1, 3)));
});

test('a plugin finds whose the sockets of other servers are', async (t) => {
  const asker = await connect(t, mixlab[0]);
  const credentials = { token: token({ sub: '8', roles: ['admin'] }) };
  const [one, other] = await Promise.all(mixlab.map((server) => connect(t, server, credentials)));
  const found = await call(asker, { call: 'find', users: ['8'] });
  assert.deepEqual(ids(found), ids([one, other]));
  assert.deepEqual(found.map(({ user }) => user), ['8', '8']);
});

test('a plugin asks the clients of all servers, and is told who did not answer', async (t) => {
  const asker = await connect(t, mixlab[0]);
  const all = await clients(t);
  const silent = await clients(t);
  const name = room();
  await joined(all, name);
  await joined(silent, name);
  for (const [index, socket] of all.entries()) socket.on('question', (data, ack) => ack([index, data]));
  const { given, missing } = await call(asker, { call: 'ask', rooms: [name], event: 'question', data: 'x', timeout_ms: 4000 });
  assert.deepEqual([...given].sort(), all.map(({ id }, index) => [id, [index, 'x']]).sort());
  assert.deepEqual(missing.sort(), ids(silent));
});

test("Node's fetchSockets tells of the clients of all servers, and of no secret", async (t) => {
  const credentials = { auth: { token: token({ sub: '9', roles: ['guest'] }) }, query: { colour: 'red', token: 'hidden' } };
  const all = await clients(t, credentials);
  const name = room();
  await joined(all, name);
  await call(all[0], { call: 'set_data', data: { mine: 1 } });
  for (const server of node) {
    const found = await server.tell('fetch', { rooms: [name] });
    assert.deepEqual(ids(found), ids(all));
    const its = found.find(({ id }) => id === all[0].id);
    assert.deepEqual(its.rooms.sort(), [its.id, name, 'role:guest', 'user:9'].sort());
    assert.deepEqual(its.data, { capabilities: { mine: 1 } });
    const { address, time, issued, query, headers, auth } = its.handshake;
    assert.equal(address, '127.0.0.1');
    assert.ok(Math.abs(new Date(time) - issued) < 1000 && issued > 1_700_000_000_000, time);
    assert.equal(query.colour, 'red');
    assert.ok(!('token' in query));
    assert.deepEqual([headers.authorization, auth], [undefined, {}]);
  }
});

test("Node's emits with acks reach the clients of all servers", async (t) => {
  const all = await clients(t);
  const name = room();
  await joined(all, name);
  for (const [index, socket] of all.entries()) socket.on('question', (data, ack) => ack({ index, data, bytes: Buffer.from([index]) }));
  const { late, answers } = await node[0].tell('ask', { rooms: [name], timeout: 5000 }, 'question', 'x');
  assert.equal(late, false);
  assert.deepEqual(answers.map(({ index }) => index).sort(), [0, 1, 2, 3]);
  all[0].off('question');
  const again = await node[1].tell('ask', { rooms: [name], timeout: 3000 }, 'question', 'x');
  assert.deepEqual([again.late, again.answers.map(({ index }) => index).sort()], [true, [1, 2, 3]]);
});

test("Node's serverSideEmit waits for no server of MixLab's", async () => {
  await node[1].tell('answerServers', 'hello', 'world');
  const answers = await node[0].tell('askServers', 'hello');
  assert.deepEqual(answers.sort(), ['world', null, null].sort());
});

test('the sockets of a namespace are found on all servers that have it open', async (t) => {
  const asker = await connect(t, mixlab[0]);
  await node[0].tell('open', '/chat');
  const member = await startMember(t, redis, { plugins: [{ ...PLUGIN, config: { namespaces: ['/chat'] } }] });
  const options = { namespace: '/chat' };
  const all = [await connect(t, member, options), await connect(t, node[0], options)];
  await until(async () => (await call(asker, { call: 'count', namespace: '/chat', rooms: [] })) === 2);
  assert.deepEqual(ids(await call(asker, { call: 'find', namespace: '/chat', rooms: [] })), ids(all));
  assert.equal((await node[0].tell('fetch', { namespace: '/chat' })).length, 2);
});

test('servers with version 0.2 of the adapter ask and are asked, in the stream', async (t) => {
  const mixed = await startRedis(t);
  const elder = await startNodeMember(t, mixed, { adapter: '0.2' });
  const servers = [await startMember(t, mixed), await startMember(t, mixed), elder, await startNodeMember(t, mixed)];
  const all = await Promise.all(servers.map((server) => connect(t, server)));
  for (const [index, socket] of all.entries()) socket.on('question', (data, ack) => ack([index, data]));
  await heard(all[0], all);
  assert.deepEqual(ids(await call(all[1], { call: 'find', rooms: [] })), ids(all));
  const { given, missing } = await call(all[0], { call: 'ask', rooms: [], event: 'question', data: 'x', timeout_ms: 4000 });
  assert.deepEqual([given.map(([id]) => id).sort(), missing], [ids(all.slice(1)), []]);
  // It counts those that it has heard of, of those that it can ask: MixLab's.
  const mine = ids(all.slice(0, 3));
  const fetched = await until(async () => {
    const found = await elder.tell('fetch', {}).catch(() => []);
    return mine.every((id) => found.some((it) => it.id === id)) && found;
  });
  assert.ok(fetched.length >= mine.length);
  const { answers } = await elder.tell('ask', { rooms: mine, timeout: 5000 }, 'question', 'x');
  assert.deepEqual(answers.map(([index]) => index).sort(), [0, 1, 2]);
});

const counted = async (server) => (await server.api('GET', '/api/v1/clients/count')).body;

test('the number of clients is that of all servers, and falls when one is killed', async (t) => {
  const alone = await startRedis(t);
  const members = [await startMember(t, alone), await startMember(t, alone)];
  const server = await startNodeMember(t, alone);
  const all = await Promise.all([members[0], members[0], members[1], server].map((it) => connect(t, it)));
  const everywhere = (count) => async () => {
    const heard = await Promise.all(members.map(counted));
    return heard.every((it) => it.count === count);
  };
  await until(everywhere(4), { message: 'Node and MixLab count' });
  assert.deepEqual((await Promise.all(members.map(counted))).map(({ here }) => here), [2, 1]);
  assert.equal(await call(all[0], { call: 'connected_clients_count' }), 4);
  await server.kill();
  await until(everywhere(3), { message: "Node's client is gone" });
  await members[1].kill();
  await until(async () => (await counted(members[0])).count === 2, { message: 'the killed server is gone' });
});

test('a server that holds still is waited for no longer than until it is dead', async (t) => {
  const asker = await connect(t, mixlab[0]);
  const server = await startNodeMember(t, redis);
  const [here, there] = [await connect(t, mixlab[1]), await connect(t, server)];
  await heard(asker, [here, there]);
  await server.kill('SIGSTOP');
  const finding = call(asker, { call: 'find', sockets: [here.id, there.id] });
  await server.kill();
  assert.deepEqual(ids(await within(finding, 'it is answered')), [here.id]);
});

test('what is asked while Redis is away is refused, and answered when it is back', async (t) => {
  const away = await startRedis(t);
  const members = [await startMember(t, away), await startMember(t, away)];
  const [asker, other] = await Promise.all(members.map((server) => connect(t, server)));
  await heard(asker, [other]);
  await away.stop();
  await until(async () => /Redis is away/.test((await calls(asker, { call: 'count', rooms: [] })).other));
  await away.start();
  await until(async () => (await calls(asker, { call: 'count', rooms: [] })).granted === 2);
});
