// What a Redis has lost, or what somebody has put there, harms nobody but those whom it is about.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ask, connect, received } from '../support/client.mjs';
import { startMember, written } from '../support/cluster.mjs';
import { notReady } from '../support/plugins.mjs';
import { badMachine } from '../support/preload.mjs';
import { startRedis } from '../support/redis.mjs';
import { token } from '../support/tokens.mjs';
import { PATIENCE, until } from '../support/wait.mjs';

const range = (count) => Array.from({ length: count }, (_, index) => index);

const NO_TEXT = Buffer.from([0xff, 0xfe, 0x00, 0xc3]);

/** Two servers that have found each other. */
async function startTwo(t, redis, options) {
  const servers = await Promise.all([1, 2].map(() => startMember(t, redis, options)));
  for (const server of servers) await until(async () => (await notReady(server)).length === 0);
  return servers;
}

/** Whether a process does nothing until it gets a SIGCONT: all its threads. */
const isStopped = (pid) =>
  readdirSync(`/proc/${pid}/task`).every((thread) => / T [^)]*$/.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')));

/** The only key that matches. */
const keyOf = (redis, pattern) =>
  until(async () => {
    const keys = (await redis.send('KEYS', pattern)).split('\r\n').slice(2);
    return keys[0];
  }, { message: `a key ${pattern}` });

const PUSHES = {
  script: 'pushes.ts', name: 'pushes', grants: ['role:staff', 'notify', 'payments', 'presence:hall', 'room:hall', 'emit'],
  text: `
import { event, plugin } from "mixlab";
const half = (text) => text.slice(0, 1);
const calls = {
  role: (cx, text) => cx.broadcastToRole("staff", "pushed", half(text)),
  user: (cx, text) => cx.sendUserNotification("42", { title: half(text) }),
  payment: (cx, text) => cx.broadcastPaymentUpdate({ text: half(text) }),
  enter: (cx, text) => cx.presence("hall").enter({ text: half(text) }),
};
export default plugin({
  push: event({ access: "anyone" }, async (cx, call, text) => {
    try {
      await calls[call](cx, text);
      return "pushed";
    } catch (error) {
      return error.message;
    }
  }),
});`,
};

test('an entry that nobody can read is passed over, and what its sender sends next is the next', async (t) => {
  const redis = await startRedis(t);
  const servers = await startTwo(t, redis, { recovery: true });
  const sockets = await Promise.all(servers.map((server) => connect(t, server)));
  const told = (number) => JSON.stringify({ packet: { type: 2, data: ['told', number] }, opts: { rooms: [], except: [], flags: {} } });
  const unreadable = [
    '{"packet":{"type":2,"data":["told","\\ud800"]},"opts":{}}',
    `{"packet":{"type":2,"data":["told",${'['.repeat(200)}${']'.repeat(200)}]},"opts":{}}`,
    'no base64', '{}}', 'wQ==',
  ];
  let sequence = 0;
  const add = (data) => redis.send('XADD', 'socket.io', '*', 'uid', 'a-member', 'nsp', '/', 'type', '3', 'data', data, 'seq', String((sequence += 1)));
  await add(told(0));
  for (const data of unreadable) await add(data);
  await add(told(1));
  await until(() => sockets.every((socket) => received(socket, 'told').length === 2));
  for (const [index, server] of servers.entries()) {
    assert.deepEqual(received(sockets[index], 'told').map(([number]) => number), [0, 1]);
    const passedOver = () => server.log().match(/an entry of the stream is passed over/g)?.length ?? 0;
    await until(() => passedOver() >= unreadable.length);
    assert.equal(passedOver(), unreadable.length);
    assert.doesNotMatch(server.log(), /entries of the stream are gone/);
  }
  assert.ok(sockets.every((socket) => socket.connected));
});

const RELAY = {
  script: 'relay.ts', name: 'relay', grants: ['emit', 'everyone'],
  text: `
import { event, plugin } from "mixlab";
export default plugin({ say: event({ access: "anyone" }, (cx, what) => cx.broadcast.includeSender().emit("told", what)) });`,
};

test('whatever a client may send, all servers can read', async (t) => {
  const redis = await startRedis(t);
  const servers = await startTwo(t, redis, { plugins: [RELAY], recovery: true });
  const sockets = await Promise.all(servers.map((server) => connect(t, server)));
  const nested = (levels) => Array.from({ length: levels }).reduce((inner) => [inner], Buffer.from('x'));
  // The arguments, and the placeholder at the bottom, are levels, too.
  for (const levels of [60, 64, 100, 125]) sockets[0].emit('say', nested(levels));
  sockets[0].emit('say', 'last');
  await until(() => sockets.every((socket) => received(socket, 'told').some(([what]) => what === 'last')));
  for (const socket of sockets) {
    assert.equal(received(socket, 'told').length, 5);
    assert.ok(socket.connected);
  }
  for (const server of servers) assert.doesNotMatch(server.log(), /passed over|panicked/);
});

test('whatever a backend or a plugin may push, all servers can read', async (t) => {
  const redis = await startRedis(t);
  const servers = await startTwo(t, redis, { plugins: [PUSHES], recovery: true });
  const role = { token: token({ sub: '42', role: 'staff' }) };
  const sockets = await Promise.all(servers.map((server) => connect(t, server, role)));
  const nested = (levels) => '['.repeat(levels) + ']'.repeat(levels);
  const refused = ['"\\ud800"', '{"a":["x\\udc00"]}', nested(126), nested(500)];
  for (const path of ['roles/staff/events/pushed', 'users/42/notifications', 'payments/updates', 'emit']) {
    for (const body of refused) {
      const { status, body: answer } = await servers[0].api('POST', `/api/v1/${path}`, body);
      assert.deepEqual([status, answer.error.code], [400, 'invalid_payload'], `${path} ${body.slice(0, 20)}`);
    }
  }
  assert.equal((await servers[0].api('POST', '/api/v1/roles/staff/events/pushed', nested(125))).status, 200);
  // What a plugin cuts within a character is not pushed.
  for (const call of ['role', 'user', 'payment', 'enter']) {
    assert.match(await ask(sockets[0], 'push', call, '😀'), /surrogate/, call);
  }
  assert.equal((await servers[1].api('POST', '/api/v1/roles/staff/events/pushed', '"last"')).status, 200);
  await until(() => sockets.every((socket) => received(socket, 'pushed').length === 2));
  assert.ok(sockets.every((socket) => socket.connected));
  for (const server of servers) assert.doesNotMatch(server.log(), /passed over|panicked/);
});

const LIMITED = {
  wasm: 'contracts', name: 'users', shared_limits: true,
  config: { events: [{ name: 'users', limits: [{ scope: 'user', rate: '6/1000h' }] }], answer: 'ok' },
};

test('a bucket that is none is a full one, and others are counted together meanwhile', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = await startTwo(t, redis, { plugins: [LIMITED] });
  const count = async (socket, times) => {
    let letIn = 0;
    for (let time = 0; time < times; time++) letIn += (await ask(socket, 'users')) === 'ok';
    return letIn;
  };
  const damages = [['SET', 'abc'], ['SET', 'nan'], ['SET', '-1e300'], ['SET', NO_TEXT], ['RPUSH', 'abc'], ['HSET', 'a', 'b']];
  for (const [number, [command, ...words]] of damages.entries()) {
    const [ada, bob] = [`ada-${number}`, `bob-${number}`].map((sub) => ({ token: token({ sub }) }));
    assert.equal(await count(await connect(t, one, ada), 1), 1);
    const damaged = await keyOf(redis, `*limit*ada-${number}*`);
    const [bobs, too] = [await connect(t, one, bob), await connect(t, other, bob)];
    assert.equal(await count(bobs, 6), 6);
    await redis.send('DEL', damaged);
    await redis.send(command, damaged, ...words);
    assert.equal(await count(await connect(t, other, ada), 1), 1, `${words[0]} lets in`);
    assert.equal(await count(too, 1), 0, 'what another user has spent is known still');
  }
});

// A call is asked to go on before it writes one more than it has read.
const TURNS = {
  script: 'turns.ts', name: 'turns', grants: ['store', 'ask'], budget: { wall: '120s', cpu: '2s', instances: 4, asks: 200 },
  text: `
import { event, plugin, t } from "mixlab";
export default plugin({
  turn: event({ access: "anyone", args: [t.string(), t.any()], serialBy: "/0" }, async (cx, key, name) => {
    const number = (await cx.store.get(key)) ?? 0;
    await cx.timeout("60s").ask("go-on", name);
    await cx.store.set(key, number + 1);
    return number + 1;
  }),
});`,
};

/** Two servers, with a client each; `asked` are the calls that have their turn. */
async function players(t, redis) {
  const servers = await startTwo(t, redis, { plugins: [TURNS], config: '[cluster]\nserial = "cluster"\n' });
  const asked = [];
  const sockets = await Promise.all(servers.map((server) => connect(t, server)));
  for (const socket of sockets) socket.on('go-on', (name, answer) => asked.push({ name, goOn: answer }));
  const turn = (index, name) => sockets[index].timeout(4 * PATIENCE).emitWithAck('turn', 'k', name);
  const has = (name) => until(() => asked.find((it) => it.name === name), { timeout: 2 * PATIENCE, message: `${name} has its turn` });
  return { asked, turn, has };
}

const LINE = 'socket.io:mixlab:{turn:turns:k}';
const inLine = (redis, count) => until(async () => (await redis.send('ZCARD', `${LINE}:line`)) === `:${count}\r\n`, { message: `${count} in line` });

test('calls that wait for their turn have it after Redis has lost the line', async (t) => {
  const redis = await startRedis(t);
  const { asked, turn, has } = await players(t, redis);
  const first = turn(0, 'first');
  await has('first');
  const second = turn(1, 'second');
  await inLine(redis, 2);
  await redis.send('DEL', `${LINE}:line`, `${LINE}:last`, `${LINE}:leases`);
  await inLine(redis, 2);
  (await has('first')).goOn('yes');
  (await has('second')).goOn('yes');
  // Where the second one's server was the first to put its ticket back, both had their turn.
  for (const answer of [await first, await second]) assert.ok(answer > 0 || answer.error.code === 'conflict', JSON.stringify(answer));
  const third = turn(1, 'third');
  (await has('third')).goOn('yes');
  assert.ok((await third) > 1);
  await inLine(redis, 0);
  assert.equal(asked.length, 3);
});

test('calls do not wait for tickets that are nobody\'s', async (t) => {
  const redis = await startRedis(t);
  const { turn, has } = await players(t, redis);
  await redis.send('ZADD', `${LINE}:line`, -5, 'nonsense', -4, NO_TEXT, -3, 'nobody 1', -2, 'gone 1', -1, 'odd 1');
  await redis.send('HSET', `${LINE}:leases`, 'gone', '99999999999999', 'odd', 'nan');
  const answer = turn(0, 'first');
  (await has('first')).goOn('yes');
  assert.equal(await answer, 1);
});

const body = (number) => ({ everyone: true, event: 'told', arguments: [number] });
const emit = (server, key, number) =>
  server.api('POST', '/api/v1/emit', JSON.stringify(body(number)), undefined, { 'idempotency-key': key });

/** The numbers that a client was told by now: what a server has sent before has come when it is told its last one. */
async function told(servers, socket) {
  const all = () => received(socket, 'told').map(([number]) => number);
  for (const server of servers) {
    const last = `last-${Math.random()}`;
    await server.api('POST', '/api/v1/emit', body(last));
    await until(() => all().includes(last), { message: 'the last one comes' });
  }
  return all().filter((number) => typeof number === 'number');
}

test('what is kept of a request and cannot be read is no reason to do others twice', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = await startTwo(t, redis);
  const socket = await connect(t, one);
  assert.equal((await emit(one, 'a', 1)).status, 200);
  const requests = await keyOf(redis, '*once*requests');
  const bytes = requests.replace(/requests$/, 'bytes');
  const twice = async (key, number) => {
    for (const server of [other, one]) assert.equal((await emit(server, key, number)).status, 200, `${key} ${number}`);
  };
  for (const [n, damage] of ['done', 'done x', 'way', 'way a b', 'junk', NO_TEXT].entries()) {
    await redis.send('HSET', requests, `damaged-${n}`, damage);
    await twice(`damaged-${n}`, 100 + n);
  }
  // In the way of those that come later: it is the oldest, and is thrown away.
  await redis.send('HSET', requests, 'old', 'done old');
  await redis.send('ZADD', requests.replace(/requests$/, 'came'), 1, 'old');
  await twice('b', 2);
  for (const [n, damage] of ['abc', '1.5', '9223372036854775807', '-9223372036854775808'].entries()) {
    await redis.send('SET', bytes, damage);
    assert.equal((await emit(one, `c${n}`, 200 + n)).status, 200);
    await twice(`d${n}`, 300 + n);
  }
  const all = await told([one, other], socket);
  assert.deepEqual(all.filter((number, at) => all.indexOf(number) !== at), [], 'nothing twice');
});

test('a request is not done by a server that was held up while another one has done it', async (t) => {
  const machine = badMachine(t);
  if (!machine) return;
  const redis = await startRedis(t, { env: machine.env });
  const [held, other] = await startTwo(t, redis);
  const socket = await connect(t, other);
  // Redis has the script from then on.
  assert.equal((await emit(held, 'before', 0)).status, 200);
  const requests = await keyOf(redis, '*once*requests');
  const had = async (what, options) => until(async () => (await redis.send('HGET', requests, key)).includes(what), options);
  let [number, key, first, isHeld] = [0];
  while (!isHeld) {
    number += 1;
    key = `held-${number}`;
    redis.pause();
    first = emit(held, key, number).catch(() => 'the connection is lost');
    // It waits for Redis by then, mostly.
    await new Promise((resolve) => setTimeout(resolve, 300));
    held.signal('SIGSTOP');
    // Else it would have the answer, and do what it is asked for, before it is held up.
    await until(() => isStopped(held.pid), { message: 'it is held up' });
    redis.resume();
    isHeld = await had('way', { timeout: 1000 }).then(() => true, () => false);
    if (!isHeld) held.signal('SIGCONT');
    if (!isHeld) await first;
  }
  // The time for the first one is over.
  machine.setClock(60);
  await new Promise((resolve) => setTimeout(resolve, 6000));
  await until(async () => (await emit(other, key, number)).status === 200);
  await had('done', { message: 'Redis knows that it is done' });
  held.signal('SIGCONT');
  await first;
  machine.setClock(0);
  await until(async () => (await notReady(held)).length === 0, { timeout: 4 * PATIENCE });
  assert.deepEqual(await told([held, other], socket), [0, ...range(number).map((before) => before + 1)]);
});

test('what a server has done while Redis was away is not done again, whoever had begun it before', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = await startTwo(t, redis);
  const socket = await connect(t, other);
  assert.equal((await emit(one, 'before', 1)).status, 200);
  const requests = await keyOf(redis, '*once*requests');
  const [, body] = /done \d+ ([0-9a-f]+) /.exec(await redis.send('HGET', requests, 'before'));
  // By a server that is gone.
  await redis.send('HSET', requests, 'a', `way gone ${Date.now() + 25_000} ${body}`);
  await redis.send('CLIENT', 'PAUSE', '60000', 'WRITE');
  assert.equal((await emit(one, 'a', 1)).status, 200);
  await redis.send('CLIENT', 'UNPAUSE');
  await until(async () => (await redis.send('HGET', requests, 'a')).includes('done'), { message: 'Redis hears of it' });
  assert.equal((await emit(other, 'a', 1)).status, 200);
  assert.deepEqual(await told([one, other], socket), [1, 1]);
});

// Keeps a book of who has come and who has left, for all servers.
const BOOK = {
  script: 'book.js', name: 'book', grants: ['store', 'room:*'],
  text: `
import { event, plugin } from "mixlab";
export default plugin(() => ({
    joins: event({ access: "anyone" }, (cx, room) => { cx.join(room); }),
    book: event({ access: "anyone" }, async (cx) => (await cx.store.scan("", { limit: 1000 })).map(({ key, value }) => [key, value])),
}))
    .onConnect((cx) => cx.store.add(\`came:\${cx.id}\`, 1))
    .onDisconnect((cx) => cx.store.add(\`left:\${cx.id}\`, 1));
`,
};
const book = async (socket) => Object.fromEntries(await ask(socket, 'book'));
/** A server that is gone is known to be after ten seconds. */
const GONE = { timeout: 40_000 };

test('plugins hear of all other ends of a killed server\'s connections where one of them is damaged', async (t) => {
  const redis = await startRedis(t);
  const [killed, other] = await startTwo(t, redis, { plugins: [BOOK] });
  const sockets = await Promise.all([...'abcd'].map(() => connect(t, killed)));
  await Promise.all(sockets.map((socket) => ask(socket, 'joins', 'r')));
  await Promise.all(sockets.map((socket) => written(redis, socket, 'r')));
  const witness = await connect(t, other);
  const owed = await keyOf(redis, '*:ends:*');
  await redis.send('HSET', owed, NO_TEXT, 'x', 'no-visit', '-7', 'a.b', NO_TEXT);
  const [first, second, ...others] = sockets;
  await redis.send('SET', `sio:session:${first._pid}`, NO_TEXT);
  await redis.send('DEL', `sio:session:${second._pid}`);
  await redis.send('RPUSH', `sio:session:${second._pid}`, 'x');
  const ids = others.map(({ id }) => id);
  await killed.kill();
  await until(async () => {
    const pages = await book(witness);
    return ids.every((id) => pages[`left:${id}`] === 1);
  }, GONE);
});

test('nobody is taken for gone since Redis\' clock was set ahead', async (t) => {
  const machine = badMachine(t);
  if (!machine) return;
  const redis = await startRedis(t, { env: machine.env });
  const [held, other] = await startTwo(t, redis, { plugins: [BOOK] });
  const socket = await connect(t, held);
  await ask(socket, 'joins', 'r');
  await written(redis, socket, 'r');
  const witness = await connect(t, other);
  // Long enough for the other one to be sure of who is there.
  await until(async () => (await other.api('GET', '/metrics', undefined, null)).status === 200);
  await new Promise((resolve) => setTimeout(resolve, 11_000));
  held.signal('SIGSTOP');
  // Not by so much that all is forgotten.
  machine.setClock(60);
  await new Promise((resolve) => setTimeout(resolve, 4000));
  held.signal('SIGCONT');
  await new Promise((resolve) => setTimeout(resolve, 2000));
  assert.equal((await book(witness))[`left:${socket.id}`], undefined);
  assert.ok(socket.connected);
});

test('what is under the keys of one connection does not hold up what is written of others', async (t) => {
  const redis = await startRedis(t);
  const [server] = await startTwo(t, redis, { plugins: [BOOK] });
  const [damaged, other] = [await connect(t, server), await connect(t, server)];
  for (const socket of [damaged, other]) {
    await ask(socket, 'joins', 'before');
    await written(redis, socket, 'before');
  }
  for (const what of ['events', 'server']) {
    await redis.send('DEL', `socket.io:mixlab:${what}:${damaged._pid}`);
    await redis.send('HSET', `socket.io:mixlab:${what}:${damaged._pid}`, 'a', 'b');
  }
  await ask(damaged, 'joins', 'after');
  await ask(other, 'joins', 'after');
  for (const socket of [other, damaged]) await written(redis, socket, 'after');
  assert.ok(damaged.connected);
});

const STORE = 'socket.io:mixlab:{store}';

// What `turns` does, without turns, and what lasts for a while.
const COUNTS = {
  script: 'counts.ts', name: 'counts', grants: ['store', 'ask', 'emit', 'everyone'], budget: { wall: '120s', cpu: '2s', asks: 200, instances: 10 },
  text: `
import { event, plugin, t } from "mixlab";
export default plugin({
  read: event({ access: "anyone", args: [t.string()] }, async (cx, key) => (await cx.store.get(key)) ?? null),
  names: event({ access: "anyone" }, async (cx) => (await cx.store.scan("", { limit: 1000 })).map(({ key }) => key)),
  brief: event({ access: "anyone", args: [t.string()] }, (cx, key) => cx.store.set(key, 1, { ttl: "1s" })),
  slow: event({ access: "anyone", args: [t.string(), t.any()] }, async (cx, key, name) => {
    const number = (await cx.store.get(key)) ?? 0;
    await cx.timeout("60s").ask("go-on", name);
    await cx.store.set(key, number + 1);
    return number + 1;
  }),
  says: event({ access: "anyone", args: [t.any()] }, async (cx, number) => {
    await cx.store.add("said", 1);
    cx.broadcast.includeSender().emit("said", number);
    cx.broadcast.includeSender().emit("said-too", number);
    return number;
  }),
});`,
};

test('what others have written since is seen by a call that has read before another Redis took over, without the last writes', async (t) => {
  const redis = await startRedis(t);
  const servers = await startTwo(t, redis, { plugins: [COUNTS] });
  const sockets = await Promise.all(servers.map((server) => connect(t, server)));
  const asked = [];
  for (const socket of sockets) socket.on('go-on', (name, answer) => asked.push({ name, goOn: answer }));
  const begin = async (index, name) => {
    const answer = sockets[index].timeout(4 * PATIENCE).emitWithAck('slow', 'k', name);
    const { goOn } = await until(() => asked.find((it) => it.name === name));
    return () => (goOn('yes'), answer);
  };
  assert.equal(await (await begin(0, 'first'))(), 1);
  const rows = `${STORE}:values:plugin/counts`;
  const text = async (...command) => (await redis.send(...command)).split('\r\n')[1];
  const [row, last] = [await text('HGET', rows, 'k'), await text('GET', `${STORE}:last`)];
  assert.equal(await (await begin(0, 'second'))(), 2);
  const goOn = await begin(0, 'holds two');
  // As a replica has it that has not got the last write.
  await redis.send('HSET', rows, 'k', row);
  await redis.send('SET', `${STORE}:last`, last);
  assert.equal(await (await begin(1, 'another second'))(), 2);
  const answer = await goOn();
  assert.equal(answer.error?.code, 'conflict', JSON.stringify(answer));
  assert.equal(await ask(sockets[1], 'read', 'k'), 2);
});

test('the store goes on beside rows and notes that are none, and what has a time goes when that is over', async (t) => {
  const redis = await startRedis(t);
  const [server] = await startTwo(t, redis, { plugins: [COUNTS] });
  const socket = await connect(t, server);
  await ask(socket, 'brief', 'kept');
  const [rows, keys] = ['values', 'keys'].map((what) => `${STORE}:${what}:plugin/counts`);
  const noted = [NO_TEXT, 'nonsense', 'plugin/counts\0no-row', 'plugin/counts\0damaged'];
  for (let n = 0; n < 600; n++) noted.push(`plugin/gone\0${n}`);
  await redis.send('HSET', rows, 'damaged', 'nonsense', 'far', '99999999999999999999999 0 1', 'text', NO_TEXT);
  await redis.send('ZADD', keys, 0, 'damaged', 0, 'far', 0, 'text', 0, 'no-row');
  await redis.send('ZADD', `${STORE}:expiries`, ...noted.flatMap((key) => [1, key]));
  await redis.send('HSET', `${STORE}:bytes`, 'plugin/counts', 'nonsense');
  await until(async () => (await redis.send('ZCARD', `${STORE}:expiries`)) === ':0\r\n', { message: 'nothing has a time any more' });
  assert.equal(await redis.send('HEXISTS', rows, 'kept'), ':0\r\n');
  await ask(socket, 'brief', 'another');
  assert.deepEqual((await ask(socket, 'names')).filter((key) => key !== 'another'), []);
  assert.equal(await ask(socket, 'read', 'damaged'), null);
  for (const what of ['last', 'news', 'expiries', 'bytes']) {
    await redis.send('DEL', `${STORE}:${what}`);
    await redis.send('HSET', `${STORE}:${what}`, 'a', 'b');
    if (what === 'bytes' || what === 'last') assert.equal(await ask(socket, 'says', what), what, `${what} is nothing of the store's`);
    else await redis.send('DEL', `${STORE}:${what}`);
  }
  assert.doesNotMatch(server.log(), /the store's Redis is away/);
});

test('what Redis refuses to store is said now and then, and not each time', async (t) => {
  const redis = await startRedis(t);
  const [server] = await startTwo(t, redis, { plugins: [COUNTS] });
  const socket = await connect(t, server);
  await redis.send('CONFIG', 'SET', 'maxmemory', '1');
  const answers = await Promise.all(range(50).map((number) => ask(socket, 'says', number)));
  assert.deepEqual(new Set(answers.map(({ error }) => error.code)), new Set(['plugin_unavailable']));
  await server.waitForLog(/the store's Redis refuses commits/);
  assert.ok(server.log().match(/refuses commits/g).length < 10);
  await redis.send('CONFIG', 'SET', 'maxmemory', '0');
  assert.equal(await ask(socket, 'says', 'again'), 'again');
});

for (const [what, resume, isStored] of [
  ['is held up', async (redis) => redis.resume(), true],
  ['is killed', async (redis) => (await redis.stop(), redis.start()), false],
]) {
  test(`of calls of which nobody knows what became, as Redis ${what}, clients get all that they emit or nothing, as they are stored`, async (t) => {
    const redis = await startRedis(t, { keep: true });
    const [one, other] = await startTwo(t, redis, { plugins: [COUNTS], config: '[store]\ncommit_timeout = "500ms"\n[cluster]\non_loss = "hold"\n' });
    const sockets = await Promise.all(range(10).map(() => connect(t, one)));
    const witness = await connect(t, other);
    let codes = [];
    while (codes.length === 0) {
      // A machine that does much else may not commit it in time.
      await until(async () => (await ask(sockets[0], 'says', 'warm')) === 'warm');
      redis.pause();
      const answers = await Promise.all(sockets.map((socket, number) => ask(socket, 'says', number)));
      // Others waited for an instance, or for what their server had just asked Redis for, and have done nothing.
      codes = answers.map(({ error }) => error.code).filter((code) => code !== 'plugin_unavailable');
      if (codes.length === 0) redis.resume();
    }
    assert.deepEqual(new Set(codes), new Set(['outcome_unknown']));
    await resume(redis);
    await until(async () => (await ask(sockets[0], 'says', 'last')) === 'last', { timeout: 4 * PATIENCE });
    const heard = (name) => received(witness, name).map(([data]) => data);
    await until(() => heard('said-too').includes('last'));
    await until(async () => (await notReady(other)).length === 0);
    const stored = (await ask(witness, 'read', 'said')) - heard('said').filter((data) => data === 'last' || data === 'warm').length;
    const numbers = heard('said').filter((data) => typeof data === 'number');
    assert.deepEqual(heard('said'), heard('said-too'));
    assert.equal(numbers.length, stored, `${stored} are stored`);
    assert.equal(stored, isStored ? codes.length : 0);
  });
}
