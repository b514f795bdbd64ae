// Plugins hear of the end of each connection that they have let in, once, also where its server was killed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { startMember, written } from '../support/cluster.mjs';
import { startRedis } from '../support/redis.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

/** Keeps a book of who has come and who has left, for all servers. */
const BOOK = {
  script: 'book.js',
  name: 'book',
  grants: ['store', 'room:*', 'namespace:/*'],
  text: `
import { event, plugin } from "mixlab";

export default plugin({ namespaces: ["/", "/held-*"] }, () => ({
    joins: event({ access: "anyone" }, (cx, room) => { cx.join(room); cx.data = { in: room }; }),
    book: event({ access: "anyone" }, async (cx) => (await cx.store.scan("", { limit: 1000 })).map(({ key, value }) => [key, value])),
}))
    .onConnect((cx) => cx.store.add(\`came:\${cx.id}\`, 1))
    .onDisconnect((cx, reason) => {
        cx.store.add(\`left:\${cx.id}\`, 1);
        cx.store.set(\`how:\${cx.id}\`, [reason, cx.namespace, cx.rooms, cx.data, cx.user]);
    });
`,
};

/** A server that is gone is known to be after ten seconds. */
const GONE = { timeout: 40_000 };

const range = (count) => Array.from({ length: count }, (_, index) => index);

const start = (t, redis, options) => startMember(t, redis, { plugins: [BOOK], ...options });

const book = async (socket) => Object.fromEntries(await ask(socket, 'book'));

/** Those of these ids that the book says of, and how often. */
const noted = (pages, what, ids) => ids.map((id) => pages[`${what}:${id}`]).filter((count) => count !== undefined);

test('plugins hear of the ends of connections whose server was killed, once, from another server', async (t) => {
  const redis = await startRedis(t);
  const [killed, ...others] = await Promise.all(range(3).map(() => start(t, redis)));
  const user = { id: '7', username: 'seven', roles: ['admin', 'editor'] };
  const lost = await Promise.all(range(60).map((n) => connect(t, killed, n === 0 ? { token: token({ sub: '7', username: 'seven', roles: user.roles }) } : {})));
  const held = await connect(t, killed, { namespace: '/held-1' });
  await Promise.all(lost.map((socket, n) => ask(socket, 'joins', `room-${n}`)));
  await Promise.all(lost.map((socket, n) => written(redis, socket, `room-${n}`)));
  const witnesses = await Promise.all(others.map((server) => connect(t, server)));
  const ids = [...lost, held].map((socket) => socket.id);
  await until(async () => noted(await book(witnesses[0]), 'came', ids).length === ids.length);

  await killed.kill();
  await until(async () => noted(await book(witnesses[0]), 'left', ids).length === ids.length, GONE);
  const pages = await book(witnesses[1]);
  assert.deepEqual(noted(pages, 'left', ids), ids.map(() => 1));
  const [reason, namespace, rooms, data, its] = pages[`how:${ids[0]}`];
  assert.deepEqual([reason, namespace, rooms, data], ['transport close', '/', ['room-0'], { in: 'room-0' }]);
  assert.deepEqual({ id: its.id, username: its.username, roles: its.roles }, user);
  assert.equal(pages[`how:${ids.at(-1)}`][1], '/held-1');
  // Those who are here are not among them.
  assert.deepEqual(noted(pages, 'left', witnesses.map(({ id }) => id)), []);
});

test('who comes back from a server that was killed has left and come, in this order', async (t) => {
  const redis = await startRedis(t);
  const [killed, other] = await Promise.all(range(2).map(() => start(t, redis)));
  const socket = await connect(t, killed, { reconnection: true, reconnectionDelay: 50 });
  await ask(socket, 'joins', 'its-room');
  await written(redis, socket, 'its-room');
  const { id } = socket;
  socket.io.uri = other.url;
  const back = new Promise((resolve) => socket.once('connect', resolve));
  await killed.kill();
  await back;
  assert.deepEqual([socket.recovered, socket.id], [true, id]);
  const pages = await book(socket);
  assert.deepEqual([pages[`came:${id}`], pages[`left:${id}`]], [2, 1]);
  assert.deepEqual(pages[`how:${id}`].slice(0, 4), ['transport close', '/', ['its-room'], { in: 'its-room' }]);
  // And when it leaves for good it is once more.
  const witness = await connect(t, other);
  socket.disconnect();
  await until(async () => (await book(witness))[`left:${id}`] === 2);
});

test('a server that held still while its clients went elsewhere says nothing of them any more', async (t) => {
  const redis = await startRedis(t);
  const [still, other] = await Promise.all(range(2).map(() => start(t, redis)));
  const stays = await connect(t, still);
  const moves = await connect(t, still, { reconnection: true, reconnectionDelay: 50 });
  await Promise.all([stays, moves].map((socket) => ask(socket, 'joins', 'its-room')));
  await Promise.all([stays, moves].map((socket) => written(redis, socket, 'its-room')));
  const witness = await connect(t, other);
  const [stayed, moved] = [stays.id, moves.id];
  moves.io.uri = other.url;
  const back = new Promise((resolve) => moves.once('connect', resolve));
  still.signal('SIGSTOP');
  moves.io.engine.close();
  await back;
  assert.deepEqual([moves.recovered, moves.id], [true, moved]);
  await until(async () => (await book(witness))[`left:${stayed}`] === 1, GONE);
  still.signal('SIGCONT');
  // It finds that its client was taken for gone, and has it connect anew.
  await until(() => !stays.connected);
  const late = await connect(t, still);
  await until(async () => noted(await book(late), 'came', [late.id]).length === 1);
  const pages = await book(witness);
  assert.deepEqual([pages[`left:${stayed}`], pages[`left:${moved}`], pages[`came:${moved}`]], [1, 1, 2]);
});
