// One instance is one at a time: a call begins when all that the calls before it wanted has been done.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FOR_NOW, ask, connect, nextEvent, open, received } from '../support/client.mjs';
import { nextArgument, plugin } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const CLIENTS = 60;
const GATHERS = { wasm: 'gathers', grants: ['find', 'emit', 'room:gathers'], budget: { instances: 1, wall: '20s' } };
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** Who came as the nth saw all that came before, and everybody was told of them in their order. */
async function assertInOrder(witness, arrived) {
  const sorted = arrived.toSorted((one, other) => one.number - other.number);
  assert.deepEqual(sorted, range(2, CLIENTS + 1).map((number) => ({ number, there: number - 1 })));
  await until(() => received(witness, 'gathers:joined').length === CLIENTS);
  assert.deepEqual(received(witness, 'gathers:joined').flat(), range(2, CLIENTS + 1));
}

test('a call on the only instance sees what all calls before it did, and its events come in their order', async (t) => {
  const server = await startServer(t, { plugins: [GATHERS] });
  const witness = await connect(t, server);
  assert.deepEqual(await ask(witness, 'gathers'), { number: 1, there: 0 });
  const sockets = await Promise.all(range(1, CLIENTS).map(() => connect(t, server)));
  const arrived = await Promise.all(sockets.map((socket) => ask(socket, 'gathers')));
  await assertInOrder(witness, arrived);
});

test('so does a call that lets a client in', async (t) => {
  const server = await startServer(t, { plugins: [GATHERS, 'on_connect_refuses'] });
  const auth = { gather: true };
  const witness = await connect(t, server, { auth });
  assert.deepEqual(await nextArgument(witness, 'gathers:arrived'), { number: 1, there: 0 });
  const arrived = range(1, CLIENTS).map(async () => nextArgument(await connect(t, server, { auth }), 'gathers:arrived'));
  await assertInOrder(witness, await Promise.all(arrived));
});

/** The message of the `connect_error` that refuses a client, or why its transport closes. */
const refusal = (socket) =>
  new Promise((resolve) => {
    socket.once('connect_error', ({ message }) => resolve(message));
    socket.io.on('close', (reason) => reason === 'forced close' || resolve(reason));
  });

for (const [what, later, auth, told] of [
  ['refuses', 'on_connect_refuses', { room: 'closed' }, 'room_closed'],
  ['fails', 'on_connect_traps', {}, 'plugin_error'],
  ['is stopped', 'on_connect_loops', {}, FOR_NOW],
]) {
  test(`a plugin that let a client in hears of its end if a later one ${what}`, async (t) => {
    const server = await startServer(t, { plugins: [GATHERS, { wasm: later, budget: { cpu: '30ms' } }] });
    const refused = open(t, server, { auth: { gather: true, ...auth } });
    assert.equal(await refusal(refused), told);
    await until(async () => (await plugin(server, 'gathers')).calls === 2, { message: 'its on-disconnect ran' });
    assert.deepEqual(refused.collected, [], 'and nothing of it reached the client');
    assert.equal((await plugin(server, 'gathers')).failures, 0);
  });
}

test('the end of a client that was refused is seen by those who are there', async (t) => {
  const server = await startServer(t, { plugins: [GATHERS, 'on_connect_refuses'] });
  const witness = await connect(t, server, { auth: { gather: true } });
  await nextEvent(witness, 'gathers:arrived');
  const refused = open(t, server, { auth: { gather: true, room: 'closed' } });
  assert.equal(await refusal(refused), 'room_closed');
  assert.equal(await nextArgument(witness, 'gathers:left'), 'refused');
  assert.deepEqual(received(witness, 'gathers:joined'), [], 'it never joined');
  assert.deepEqual(await ask(witness, 'gathers'), { number: 3, there: 0 }, 'and is in no room');
  const next = await connect(t, server, { auth: { gather: true } });
  assert.deepEqual(await nextArgument(next, 'gathers:arrived'), { number: 4, there: 1 }, 'the instance is free again');
});

test('a client that is gone before it is let in has left, too', async (t) => {
  const places = { wasm: 'places', grants: [], config: { name: 'slow', namespaces: ['/'] }, budget: { cpu: '5s' } };
  const server = await startServer(t, { plugins: [GATHERS, places] });
  const witness = await connect(t, server, { auth: { gather: true } });
  await nextEvent(witness, 'gathers:arrived');
  const leaver = open(t, server, { auth: { gather: true, ms: 300 } });
  await until(() => server.log().match(/somebody comes to/g)?.length === 2, { message: 'the second plugin is asked' });
  leaver.disconnect();
  await nextEvent(witness, 'gathers:left');
  assert.deepEqual(await ask(witness, 'gathers'), { number: 3, there: 0 });
});
