// Who is present in rooms is known to all servers of a cluster, and told to everybody once and in order.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { startMember, startNodeMember } from '../support/cluster.mjs';
import { notReady } from '../support/plugins.mjs';
import { startRedis } from '../support/redis.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const LOBBY = { wasm: 'lobby', grants: ['presence:*', 'history:*', 'room:*', 'user:*', 'emit', 'namespace:/*'] };
const start = (t, redis, presence = '', options = {}) =>
  startMember(t, redis, { plugins: [LOBBY], config: `[presence]\nbatch = "20ms"\n${presence}\n`, ...options });
const startMany = (t, redis, count, ...more) => Promise.all(Array.from({ length: count }, () => start(t, redis, ...more)));

/** A server that is gone is known to be after ten seconds. */
const GONE = { timeout: 40_000 };

const call = (socket, ...calls) => ask(socket, 'lobby', calls);
async function granted(socket, what) {
  const [answer] = await call(socket, what);
  return 'granted' in answer ? answer.granted : assert.fail(JSON.stringify(answer));
}
const enter = (socket, room, data = null) => granted(socket, { call: 'enter', room, data });
const members = (socket, room) => granted(socket, { call: 'members', room });
const user = (t, server, sub, options = {}) => connect(t, server, { token: token({ sub }), ...options });
const counts = (list) => Object.fromEntries(list.map(({ id, connections }) => [id, connections]).sort());
const sorted = (object) => Object.fromEntries(Object.entries(object).sort());
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** Waits until these clients' servers, and they themselves, know this of a room. */
async function known(room, expected, sockets, followers = []) {
  for (const socket of sockets) {
    let said;
    await until(async () => same((said = counts(await members(socket, room))), expected), {
      timeout: 20_000,
      message: () => `a server's ${JSON.stringify(said)} becomes ${JSON.stringify(expected)}`,
    });
  }
  for (const follower of followers) {
    await until(() => same(counts([...follower.members.values()]), expected), {
      timeout: 20_000,
      message: () => `${JSON.stringify(counts([...follower.members.values()]))} becomes ${JSON.stringify(expected)}`,
    });
  }
}

/** A user on each of these servers who is present in a room, by these names, and what each knows of it. */
async function watch(t, servers, room, names = servers.map((_, n) => `w${n}`)) {
  const watchers = await Promise.all(servers.map((server, n) => user(t, server, names[n])));
  const followers = watchers.map((socket) => follow(socket, room, names));
  for (const socket of watchers) await enter(socket, room);
  const all = sorted(Object.fromEntries(names.map((name) => [name, 1])));
  await known(room, all, watchers);
  // Whoever entered before they did is in what the server has answered, and may be told once more.
  for (const { members } of followers) for (const id of names) if (!members.has(id)) members.set(id, { id, connections: 1 });
  return [watchers, followers];
}

/** What a client knows of a room by its events, and all changes in their order but those of these `known` ones. */
function follow(socket, room, known = []) {
  const follower = { members: new Map(), changes: [] };
  socket.on('presence', (change) => {
    if (change.room !== room) return;
    for (const member of change.joined.filter(({ id }) => !known.includes(id))) {
      assert.ok(!follower.members.has(member.id), `${member.id} has joined twice`);
      follower.changes.push(`+${member.id}`);
    }
    for (const member of [...change.joined, ...change.updated]) follower.members.set(member.id, member);
    for (const { id } of change.left) {
      assert.ok(follower.members.delete(id), `${id} has left and was not there`);
      follower.changes.push(`-${id}`);
    }
  });
  return follower;
}

const drop = (socket) => socket.io.engine.close();
const moving = { reconnection: true, reconnectionDelay: 50 };
const moved = async (socket, server, lose) => {
  socket.io.uri = server.url;
  const back = new Promise((resolve) => socket.once('connect', resolve));
  await lose();
  await back;
  assert.ok(socket.recovered);
};
const connected = (server, is) => until(async () => (await notReady(server)).some((it) => it.includes('cluster')) !== is);

test('a user is present once, with the connections of all servers, and everybody hears of each change once', async (t) => {
  const redis = await startRedis(t);
  const servers = await startMany(t, redis, 3);
  const node = await startNodeMember(t, redis);
  const [watchers, followers] = await watch(t, servers, 'r');
  const w = { w0: 1, w1: 1, w2: 1 };
  const tabs = [];
  for (const [n, server] of servers.entries()) {
    const tab = await user(t, server, 'ada');
    await enter(tab, 'r', n);
    tabs.push(tab);
  }
  await known('r', { ada: 3, ...w }, watchers, followers);
  for (const follower of followers) {
    assert.deepEqual(follower.members.get('ada').data, 2, 'what was said last counts');
    assert.deepEqual(follower.changes.toSorted(), ['+ada']);
  }
  const guest = await connect(t, servers[1]);
  await enter(guest, 'r', { name: 'guest' });
  const { id } = guest;
  await known('r', sorted({ ada: 3, [guest.id]: 1, ...w }), watchers, followers);
  tabs[0].disconnect();
  await granted(tabs[1], { call: 'exit', room: 'r' });
  await known('r', sorted({ ada: 1, [guest.id]: 1, ...w }), watchers, followers);
  tabs[2].disconnect();
  guest.disconnect();
  await known('r', w, watchers, followers);
  for (const follower of followers) assert.deepEqual(follower.changes.toSorted(), ['+ada', `+${id}`, '-ada', `-${id}`].toSorted());
  // Node's servers are not disturbed.
  assert.equal(typeof (await node.tell('count')), 'number');
});

test('changes come in the same order everywhere, also beside what else is emitted', async (t) => {
  const redis = await startRedis(t);
  const servers = await startMany(t, redis, 2);
  const watchers = await Promise.all(servers.map((server, n) => user(t, server, `w${n}`)));
  const speaker = await connect(t, servers[0]);
  for (const socket of watchers) await enter(socket, 'r');
  await known('r', { w0: 1, w1: 1 }, watchers);
  const orders = watchers.map((socket) => {
    const order = [];
    socket.on('presence', ({ joined, left }) => order.push(...joined.map(({ id }) => `+${id}`), ...left.map(({ id }) => `-${id}`)));
    socket.on('said', (text) => order.push(text));
    return order;
  });
  for (let round = 0; round < 10; round++) {
    const guest = await user(t, servers[round % 2], `g${round}`);
    await enter(guest, 'r');
    await granted(speaker, { call: 'say', room: 'r', topic: 'r', message: `a${round}` });
    await until(() => orders.every((order) => order.includes(`+g${round}`)));
    guest.disconnect();
  }
  await until(() => orders.every((order) => order.includes('-g9')));
  // Of those who watch, each may have been told before it was listened to.
  const [first, second] = orders.map((order) => order.filter((it) => !it.startsWith('+w')));
  assert.deepEqual(first, second);
});

test('a client that comes back on another server, and a page that is loaded again there, leaves nobody', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = await startMany(t, redis, 2);
  const [watchers, followers] = await watch(t, [one, other], 'r', ['w1', 'w2']);
  const moves = await user(t, one, 'moves', moving);
  const page = await user(t, one, 'page');
  await enter(moves, 'r', 'kept');
  await enter(page, 'r', 'v1');
  const all = { moves: 1, page: 1, w1: 1, w2: 1 };
  await known('r', all, watchers, followers);
  drop(page);
  await known('r', { ...all, page: 0 }, watchers, followers);
  const again = await user(t, other, 'page');
  await enter(again, 'r', 'v2');
  await known('r', all, watchers, followers);
  await moved(moves, other, () => drop(moves));
  await known('r', all, watchers, followers);
  assert.equal((await members(watchers[0], 'r')).find(({ id }) => id === 'moves').data, 'kept');
  for (const follower of followers) assert.deepEqual(follower.changes.toSorted(), ['+moves', '+page']);
  // It is one of the other server's now.
  moves.disconnect();
  again.disconnect();
  await known('r', { w1: 1, w2: 1 }, watchers, followers);
});

test('who misses events while away gets them, once, also on a server that started meanwhile', async (t) => {
  const redis = await startRedis(t);
  const [one, other] = await startMany(t, redis, 2);
  const away = await user(t, one, 'away', moving);
  const follower = follow(away, 'r');
  await enter(away, 'r');
  const stays = await user(t, other, 'stays');
  await enter(stays, 'r');
  await known('r', { away: 1, stays: 1 }, [away], [follower]);
  // Each server tells of its own.
  assert.deepEqual(follower.changes.splice(0).toSorted(), ['+away', '+stays']);
  away.io.reconnection(false);
  drop(away);
  await known('r', { away: 0, stays: 1 }, [stays]);
  const guest = await user(t, other, 'guest');
  await enter(guest, 'r');
  await known('r', { away: 0, guest: 1, stays: 1 }, [stays]);
  const late = await start(t, redis);
  const witness = await connect(t, late);
  await known('r', { away: 0, guest: 1, stays: 1 }, [witness]);
  away.io.reconnection(true);
  away.io.uri = late.url;
  away.connect();
  await known('r', { away: 1, guest: 1, stays: 1 }, [stays, witness], [follower]);
  assert.deepEqual([away.recovered, follower.changes], [true, ['+guest']]);
  // What was read from another server goes on here.
  stays.disconnect();
  guest.disconnect();
  await known('r', { away: 1 }, [witness, away], [follower]);
});

test('what two servers tell at the same moment comes once, also from a server that has started since', async (t) => {
  const redis = await startRedis(t);
  const one = await start(t, redis);
  const away = await user(t, one, 'away', moving);
  const follower = follow(away, 'r');
  await enter(away, 'r');
  await until(() => follower.members.has('away'), { timeout: 20_000 });
  away.io.reconnection(false);
  const told = { room: 'r', joined: [{ id: 'away', connections: 1, data: null }], left: [], updated: [] };
  const data = JSON.stringify({ packet: { type: 2, data: ['presence', told] }, opts: { rooms: ['r'] }, tells: true });
  await redis.send('XADD', 'socket.io', '*', 'uid', 'another', 'nsp', '/', 'type', 3, 'data', data);
  drop(away);
  const late = await start(t, redis);
  away.io.reconnection(true);
  away.io.uri = late.url;
  away.connect();
  await until(() => away.connected);
  const guest = await user(t, late, 'guest');
  await enter(guest, 'r');
  await until(() => follower.members.has('guest'), { timeout: 20_000 });
  assert.deepEqual([away.recovered, follower.changes], [true, ['+away', '+guest']]);
});

test('those of a server that is killed leave when it is known to be gone and their grace is over, once', async (t) => {
  const redis = await startRedis(t);
  const [killed, ...others] = await startMany(t, redis, 3, 'grace = "1s"');
  const [watchers, followers] = await watch(t, others, 'r');
  const [moves, ...lost] = await Promise.all(['moves', 'a', 'b', 'w0'].map((sub) => user(t, killed, sub, sub === 'moves' ? moving : {})));
  for (const socket of [moves, ...lost]) await enter(socket, 'r');
  await known('r', { a: 1, b: 1, moves: 1, w0: 2, w1: 1 }, watchers, followers);
  await until(async () => (await redis.send('EXISTS', `sio:session:${moves._pid}`)).startsWith(':1'));
  await moved(moves, others[1], () => killed.kill());
  // A server that is started in the place of the one that was killed knows them all.
  const late = await start(t, redis, 'grace = "1s"');
  await known('r', { a: 1, b: 1, moves: 1, w0: 2, w1: 1 }, [...watchers, await connect(t, late)]);
  for (const follower of followers) await until(() => same(counts([...follower.members.values()]), { moves: 1, w0: 1, w1: 1 }), GONE);
  await known('r', { moves: 1, w0: 1, w1: 1 }, [...watchers, await connect(t, late)], followers);
  for (const follower of followers) {
    assert.deepEqual(follower.changes.filter((it) => it.startsWith('-')).toSorted(), ['-a', '-b']);
  }
});

test('while Redis is away each server knows its own, and then all are told how it is', async (t) => {
  const redis = await startRedis(t, { keep: true });
  const servers = await startMany(t, redis, 2);
  const [watchers, followers] = await watch(t, servers, 'r');
  const tabs = await Promise.all(servers.map((server) => user(t, server, 'ada')));
  for (const tab of tabs) await enter(tab, 'r');
  await known('r', { ada: 2, w0: 1, w1: 1 }, watchers, followers);
  await redis.stop();
  for (const server of servers) await connected(server, false);
  tabs[0].disconnect();
  tabs[1].disconnect();
  const late = await user(t, servers[0], 'late');
  await enter(late, 'r');
  await known('r', { ada: 1, late: 1, w0: 1, w1: 1 }, [watchers[0]], [followers[0]]);
  await known('r', { ada: 1, w0: 1, w1: 1 }, [watchers[1]], [followers[1]]);
  await redis.start();
  await known('r', { late: 1, w0: 1, w1: 1 }, watchers, followers);
  for (const follower of followers) assert.deepEqual(follower.changes.toSorted(), ['+ada', '+late', '-ada']);
});

test('when Redis has lost what it had, the servers tell each other anew', async (t) => {
  const redis = await startRedis(t);
  const servers = await startMany(t, redis, 3);
  const [watchers, followers] = await watch(t, servers, 'r');
  const gone = await user(t, servers[1], 'gone');
  await enter(gone, 'r');
  await known('r', { gone: 1, w0: 1, w1: 1, w2: 1 }, watchers, followers);
  await redis.stop();
  for (const server of servers) await connected(server, false);
  gone.disconnect();
  const comes = await user(t, servers[2], 'comes');
  await enter(comes, 'r');
  await redis.start();
  await known('r', { comes: 1, w0: 1, w1: 1, w2: 1 }, watchers, followers);
  const late = await start(t, redis);
  await known('r', { comes: 1, w0: 1, w1: 1, w2: 1 }, [await connect(t, late)]);
  for (const follower of followers) assert.deepEqual(follower.changes.toSorted(), ['+comes', '+gone', '-gone']);
});

test('a server that is held up for long has its clients connect anew, and they are present again', async (t) => {
  const redis = await startRedis(t);
  const [still, other] = await startMany(t, redis, 2, 'grace = "30s"');
  const [[watcher], [follower]] = await watch(t, [other], 'r', ['watcher']);
  const stays = await user(t, still, 'stays', moving);
  // As an application does it.
  stays.on('connect', () => stays.recovered || enter(stays, 'r'));
  await enter(stays, 'r');
  await known('r', { stays: 1, watcher: 1 }, [watcher], [follower]);
  still.signal('SIGSTOP');
  await until(async () => same(counts(await members(watcher, 'r')), { stays: 0, watcher: 1 }), GONE);
  still.signal('SIGCONT');
  await known('r', { stays: 1, watcher: 1 }, [watcher, stays], [follower]);
  assert.deepEqual(follower.changes.toSorted(), ['+stays']);
});

test('a server that is stopped leaves its clients in their grace, after which they have left', async (t) => {
  const redis = await startRedis(t);
  const [stopped, other] = await startMany(t, redis, 2, 'grace = "2s"');
  const [[watcher], [follower]] = await watch(t, [other], 'r', ['watcher']);
  await enter(await user(t, stopped, 'leaves'), 'r');
  await known('r', { leaves: 1, watcher: 1 }, [watcher], [follower]);
  await stopped.stop();
  await known('r', { watcher: 1 }, [watcher], [follower]);
  assert.deepEqual(follower.changes.toSorted(), ['+leaves', '-leaves']);
});

test('a room has room for as many users over all servers as one may have', async (t) => {
  const redis = await startRedis(t);
  const servers = await startMany(t, redis, 2, 'users = 3');
  const sockets = await Promise.all([0, 1, 0, 1].map((n, index) => user(t, servers[n], `u${index}`)));
  for (const socket of sockets.slice(0, 3)) await enter(socket, 'r');
  await known('r', { u0: 1, u1: 1, u2: 1 }, sockets);
  const go = async () => (await call(sockets[3], { call: 'enter', room: 'r', data: null }))[0];
  assert.deepEqual(await go(), { over_budget: 'presence.users = 3' });
  await granted(sockets[0], { call: 'exit', room: 'r' });
  await until(async () => 'granted' in (await go()));
  await known('r', { u1: 1, u2: 1, u3: 1 }, sockets);
});

test('100 tabs of 30 users reload at random over three servers, and in the end every count is exact everywhere', async (t) => {
  const redis = await startRedis(t);
  const servers = await startMany(t, redis, 3);
  const [watchers, followers] = await watch(t, servers, 'crowd');
  const open = async (sub, n) => {
    const socket = await user(t, servers[n % 3], sub);
    await enter(socket, 'crowd', sub);
    return { sub, socket };
  };
  let tabs = await Promise.all(Array.from({ length: 100 }, (_, index) => open(`u${index % 30}`, index)));
  for (let round = 0; round < 3; round++) {
    tabs = await Promise.all(
      tabs.map(async (tab, index) => {
        if ((index * 7 + round) % 3 !== 0) return tab;
        drop(tab.socket);
        return open(tab.sub, index + round);
      }),
    );
  }
  const expected = { w0: 1, w1: 1, w2: 1 };
  for (const { sub } of tabs) expected[sub] = (expected[sub] ?? 0) + 1;
  await known('crowd', sorted(expected), watchers, followers);
  for (const { changes } of followers) assert.equal(changes.length, 30, 'each joined once, and nobody left');
  for (const { sub, socket } of tabs) if (sub !== 'u0') socket.disconnect();
  const rest = { u0: expected.u0, w0: 1, w1: 1, w2: 1 };
  await known('crowd', rest, watchers, followers);
});

test('what would wait for Redis beyond the bound is refused as temporary, and who leaves is not held up', async (t) => {
  const redis = await startRedis(t);
  const server = await start(t, redis, '[cluster]\nqueue_bytes = "4KiB"');
  const socket = await user(t, server, 'ada');
  await enter(socket, 'hall');
  await redis.stop();
  await until(async () => (await notReady(server)).some((it) => it.includes('Redis')));
  const entered = [];
  for (let number = 0; number < 100; number++) entered.push(...(await call(socket, { call: 'enter', room: 'hall', data: number })));
  assert.match(entered.at(-1).other ?? 'granted', /Redis does not take what goes to other servers/);
  await granted(socket, { call: 'leave', room: 'hall' });
  await until(async () => (await members(socket, 'hall')).length === 0);
  await redis.start();
  await until(async () => !(await notReady(server)).some((it) => it.includes('Redis')));
  await until(async () => 'granted' in (await call(socket, { call: 'enter', room: 'hall', data: 'again' }))[0]);
});

test('however often clients that are present say something while Redis is away, no more waits than may', async (t) => {
  const redis = await startRedis(t);
  const server = await start(t, redis, '[cluster]\nqueue_bytes = "8KiB"\non_loss = "hold"');
  const socket = await user(t, server, 'ada', moving);
  await enter(socket, 'hall');
  await redis.stop();
  await connected(server, false);
  const bytes = async () => Number((await server.api('GET', '/metrics', undefined, null)).body.match(/^mixlab_cluster_waiting_bytes (\d+)/m)[1]);
  for (let time = 0; time < 200; time++) {
    await granted(socket, { call: 'leave', room: 'elsewhere' });
    await ask(socket, 'authenticate', token({ sub: `u${time % 2}` }));
  }
  assert.match((await ask(socket, 'authenticate', token({ sub: 'u7' }))).error?.code ?? 'ok', /^cluster_unavailable$/);
  for (let time = 0; time < 50; time++) {
    const back = new Promise((resolve) => socket.once('connect', resolve));
    drop(socket);
    await back;
  }
  assert.ok((await bytes()) < 16 << 10, `${await bytes()} bytes wait`);
  await redis.start();
  await connected(server, true);
  await until(() => granted(socket, { call: 'members', room: 'hall' }).then(() => true, () => false));
});

test('a server is ready when it knows who is present by others, or they do not say', async (t) => {
  const redis = await startRedis(t);
  const held = await start(t, redis);
  await connected(held, true);
  await enter(await user(t, held, 'ada'), 'r');
  const asks = (server) => until(async () => (await notReady(server)).includes('who is present by other servers'));
  held.signal('SIGSTOP');
  const second = await start(t, redis);
  await asks(second);
  held.signal('SIGCONT');
  await until(async () => (await notReady(second)).length === 0);
  assert.deepEqual(counts(await members(await connect(t, second), 'r')), { ada: 1 });
  await second.stop();
  held.signal('SIGSTOP');
  const third = await start(t, redis);
  await asks(third);
  await until(async () => (await notReady(third)).length === 0, { timeout: 30_000, message: 'it does not wait for ever' });
  held.signal('SIGCONT');
});

test('entries that no server would send harm nobody, and with a secret change nothing', async (t) => {
  for (const secret of [undefined, 'a-secret-of-the-cluster-that-is-long-enough']) {
    const redis = await startRedis(t);
    const env = secret && { MIXLAB_CLUSTER__SECRET: secret };
    const servers = await startMany(t, redis, 2, '', { env: env ?? {} });
    const [watchers, followers] = await watch(t, servers, 'r');
    const entered = { namespace: '/', room: 'r', connection: 'forged', who: { user: 'forged' }, data: '1' };
    const its = { namespace: '/', rooms: ['r'], connection: 'forged' };
    const steps = [
      'Nonsense', 7, null, { Enter: 7 }, { Enter: [{ ...entered, data: '{' }] }, { Enter: [{ ...entered, data: '['.repeat(5000) }] },
      { Drop: [its, 4294967296] }, { Drop: [its, 1] }, { Leave: its }, { Back: its }, { Become: [its, { robot: 'x' }] },
      { Gone: { server: '', mark: 1 } }, { Only: { connections: [], mark: 1 } }, { Ask: { whom: 'nobody', id: 1 } },
      { Table: { id: 1, pieces: [{ namespace: '/', room: 'r', members: [], connections: [], told: [] }], is_last: true, is_whole: true } },
      { Expire: [{ ...entered, mark: 1 }] }, { Enter: [entered] }, { Leave: its },
    ];
    for (const [number, step] of steps.entries()) {
      const data = JSON.stringify({ opts: {}, presence: { server: 'forger', number, step } });
      await redis.send('XADD', 'socket.io', '*', 'uid', 'forger', 'nsp', '/', 'type', 66, 'data', data);
    }
    const told = { room: 'r', joined: [{ id: 'x', connections: -1, data: {} }], left: [], updated: [] };
    for (const packet of [['presence', told], ['presence'], ['presence', 7]]) {
      const data = JSON.stringify({ packet: { type: 2, data: packet }, opts: { rooms: ['r'] }, tells: true });
      await redis.send('XADD', 'socket.io', '*', 'uid', 'forger', 'nsp', '/', 'type', 3, 'data', data);
    }
    const guest = await user(t, servers[0], 'guest');
    await enter(guest, 'r');
    await known('r', { guest: 1, w0: 1, w1: 1 }, watchers, secret ? followers : []);
    if (secret) for (const { changes } of followers) assert.deepEqual(changes, ['+guest']);
  }
});
