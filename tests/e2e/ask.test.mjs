// Plugins that ask clients: acks from the client to the server.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { TRANSPORTS, ask, askAll, connect, nextEvent, received } from '../support/client.mjs';
import { nextArgument, plugin, status } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const GRANTS = ['ask', 'emit'];
const CONFIG = '[budget]\ncpu = "500ms"\n';
const CUSTOM_EVENT = { wasm: 'custom-event', grants: ['emit:custom_response'] };

const server = await startServer(
  { after },
  {
    // Asks are never part of what is recovered.
    config: CONFIG,
    recovery: true,
    plugins: [
      { wasm: 'asks', grants: GRANTS },
      { wasm: 'votes', grants: ['ask:question', 'room:*'] },
      CUSTOM_EVENT,
    ],
  },
);

/** A question for the guest `asks`; it waits long unless the test is about that. */
const question = (event, args = [], wait = 4_000) => ({ event, arguments: args, wait_ms: wait });

/** What is said of an ask for which there is no place. */
const BUSY = 'asks: too many calls of the plugin wait for clients';

/** Answers every question with what `answer` makes of its arguments. */
const answering = (socket, answer, event = 'question') =>
  socket.on(event, (...args) => args.pop()(...[answer(...args)].flat()));

test('a client answers what a plugin asks', async (t) => {
  for (const transports of TRANSPORTS.map((name) => [name])) {
    const socket = await connect(t, server, { transports });
    answering(socket, (...args) => ['got', args]);
    assert.deepEqual(await ask(socket, 'asks', [question('question', [{ a: [1, 'ü'] }, 2.5, null])]), [
      { answered: ['got', [{ a: [1, 'ü'] }, 2.5, null]] },
    ]);
    assert.deepEqual(await ask(socket, 'asks', [question('question')]), [{ answered: ['got', []] }]);
  }
});

test('one call asks several times, one after the other', async (t) => {
  const socket = await connect(t, server);
  const order = [];
  answering(socket, (number) => (order.push(number), number * 2));
  const questions = [1, 2, 3].map((number) => question('question', [number]));
  assert.deepEqual(await ask(socket, 'asks', questions), [{ answered: [2] }, { answered: [4] }, { answered: [6] }]);
  assert.deepEqual(order, [1, 2, 3]);
});

test('questions and answers may be binary', async (t) => {
  for (const transports of TRANSPORTS.map((name) => [name])) {
    const socket = await connect(t, server, { transports });
    answering(socket, (...args) => [...args, { nested: [Buffer.from([9, 8])] }, 'end']);
    const [first, text, nested, end] = await askAll(socket, 'asks:binary', Buffer.from([1, 2, 3]), 'text');
    assert.deepEqual(Buffer.from(first), Buffer.from([1, 2, 3]));
    assert.equal(text, 'text');
    assert.deepEqual(Buffer.from(nested.nested[0]), Buffer.from([9, 8]));
    assert.equal(end, 'end');
  }
});

test('a client that does not answer is not waited for any longer than the plugin said', async (t) => {
  const socket = await connect(t, server);
  const before = await plugin(server, 'asks');
  const questions = [question('never', [], 50), question('question', [1])];
  answering(socket, (number) => number);
  const began = performance.now();
  assert.deepEqual(await ask(socket, 'asks', questions), ['timed_out', { answered: [1] }]);
  assert.ok(performance.now() - began >= 50);
  const { failures, state } = await plugin(server, 'asks');
  assert.deepEqual([failures, state], [before.failures, 'serving'], 'it is no fault of the plugin');
});

test('an answer that comes too late is not taken for that of the next question', async (t) => {
  const socket = await connect(t, server);
  let late;
  socket.on('slow', (reply) => (late = reply));
  socket.on('question', (reply) => {
    late('late');
    reply('in time');
  });
  const questions = [question('slow', [], 50), question('question')];
  assert.deepEqual(await ask(socket, 'asks', questions), ['timed_out', { answered: ['in time'] }]);
});

test('the wait ends with the connection', async (t) => {
  const socket = await connect(t, server);
  const log = server.log().length;
  socket.on('question', () => socket.io.engine.close());
  socket.emit('asks', [question('question', [], 4_000)]);
  const began = performance.now();
  // What the guest says at the end of a connection comes behind the event.
  await until(() => server.log().slice(log).includes('clients can be asked only while one of their events is handled'));
  assert.ok(performance.now() - began < 3_000, 'long before the time was over');
});

test('later events of the client wait for the end of the call, and acks do not', async (t) => {
  const socket = await connect(t, server);
  const order = [];
  let reply;
  socket.on('question', (answer) => (reply = answer));
  const asked = ask(socket, 'asks', [question('question'), question('again', [], 4_000)]).then(() => order.push('asks'));
  socket.on('again', (answer) => answer());
  await until(() => reply, { message: 'the question' });
  const later = ask(socket, 'custom_event', 1).then(() => order.push('later'));
  const other = await connect(t, server);
  await ask(other, 'custom_event', 2);
  assert.deepEqual(order, [], 'other clients do not wait, this one does');
  reply('now');
  await Promise.all([asked, later]);
  assert.deepEqual(order, ['asks', 'later']);
});

test('a question comes before what the call emitted, and even if the call fails', async (t) => {
  const socket = await connect(t, server);
  answering(socket, () => []);
  await ask(socket, 'asks:first');
  await nextEvent(socket, 'asks:emitted');
  assert.deepEqual(socket.collected.map(({ name }) => name), ['question', 'asks:emitted']);
  socket.collected.length = 0;
  assert.equal((await ask(socket, 'asks:fails')).error.code, 'too_late');
  await ask(socket, 'custom_event', 1);
  assert.deepEqual(socket.collected.map(({ name }) => name), ['question', 'custom_response']);
});

test('an ack that no client sends is no answer', async (t) => {
  const socket = await connect(t, server);
  socket.on('question', () => {
    // One that nobody asked for, and one that names no question.
    socket.io.engine.write('399["nobody asked"]');
    socket.io.engine.write('3["nobody asked"]');
  });
  assert.deepEqual(await ask(socket, 'asks', [question('question')]), ['timed_out']);
  assert.equal(await ask(socket, 'custom_event', 1), 1);
});

test('a wait that the budget does not leave is refused before anything is sent', async (t) => {
  const socket = await connect(t, server);
  const [answer] = await ask(socket, 'asks', [question('question', [], 6_000)]);
  assert.match(answer.over_budget, /^wall: it leaves 4s \d+ms to wait for clients$/);
  assert.deepEqual(received(socket, 'question'), []);
});

test('an answer larger than what may come in is refused, and no fault of the plugin', async (t) => {
  const strict = await startServer(t, {
    config: CONFIG,
    plugins: [{ wasm: 'asks', grants: GRANTS, budget: { boundary: '4KiB' } }],
  });
  const socket = await connect(t, strict);
  answering(socket, () => 'x'.repeat(5_000));
  assert.deepEqual(await ask(socket, 'asks', [question('question')]), [{ over_budget: 'boundary = 4.0 KiB' }]);
  assert.equal((await plugin(strict, 'asks')).failures, 0);
});

test('every socket of a room is asked, and those that do not answer are named', async (t) => {
  const asker = await connect(t, server);
  const room = 'hundred';
  await ask(asker, 'votes:join', room);
  const voters = await Promise.all(
    Array.from({ length: 100 }, async (_, index) => {
      const socket = await connect(t, server);
      await ask(socket, 'votes:join', room);
      if (index % 10 === 0) return { socket };
      if (index % 10 === 1) {
        socket.on('question', () => socket.disconnect());
        return { socket, id: socket.id };
      }
      answering(socket, (what) => `${what} ${index}`);
      return { socket, answer: `vote ${index}` };
    }),
  );
  const ids = voters.map(({ socket, id }) => id ?? socket.id);
  const { given, missing } = await ask(asker, 'votes', room, 3_500);
  const expected = voters.map(({ answer }, index) => [ids[index], answer]).filter(([, answer]) => answer);
  assert.deepEqual(given.sort(), expected.sort());
  assert.deepEqual(missing.sort(), ids.filter((_, index) => !voters[index].answer).sort());
  assert.deepEqual(received(asker, 'question'), [], 'the sender is not among those who are asked');
});

test('the wait for a room ends when all have answered or are gone', async (t) => {
  const asker = await connect(t, server);
  const [here, gone] = [await connect(t, server), await connect(t, server)];
  for (const socket of [here, gone]) await ask(socket, 'votes:join', 'two');
  const id = gone.id;
  answering(here, () => 'yes');
  gone.on('question', () => gone.disconnect());
  const began = performance.now();
  assert.deepEqual(await ask(asker, 'votes', 'two', 4_500), { given: [[here.id, 'yes']], missing: [id] });
  assert.ok(performance.now() - began < 4_000);
});

test('clients of another namespace are asked there', async (t) => {
  const custom = await startServer(t, {
    config: CONFIG,
    plugins: [{ wasm: 'asks', grants: [...GRANTS, 'namespace:/custom'], config: { namespaces: ['/', '/custom'] } }],
  });
  const main = await connect(t, custom);
  const socket = await connect(t, custom, { namespace: '/custom' });
  answering(main, () => 'main');
  answering(socket, () => 'custom');
  assert.deepEqual(await ask(socket, 'asks', [question('question')]), [{ answered: ['custom'] }]);
  assert.deepEqual(await ask(main, 'asks', [question('question')]), [{ answered: ['main'] }]);
});

test('a client that is not connected yet cannot be asked', async (t) => {
  const early = await startServer(t, {
    config: CONFIG,
    plugins: [{ wasm: 'asks', grants: GRANTS, config: { when: 'connect' } }],
  });
  await assert.rejects(connect(t, early), { message: 'not_now' });
});

test('clients that never answer leave a plugin to the others', async (t) => {
  const patient = await startServer(t, {
    config: `${CONFIG}wall = "30s"\n`,
    plugins: [{ wasm: 'asks', grants: GRANTS, budget: { instances: 4 } }],
  });
  const questions = [question('question', [], 8_000)];
  const silent = await Promise.all(Array.from({ length: 7 }, () => connect(t, patient)));
  const answers = silent.map((socket) => ask(socket, 'asks', questions));
  const asked = () => silent.filter((socket) => received(socket, 'question').length > 0);
  // Half of the instances wait for clients, as many calls as there are instances for them.
  const refused = await Promise.race(answers);
  assert.deepEqual(refused, [{ busy: BUSY }]);
  // What they are asked goes other ways than the refusal.
  await until(() => asked().length === 2, { message: 'two are asked' });

  const other = await connect(t, patient);
  for (let number = 0; number < 20; number += 1) assert.equal(await ask(other, 'asks:ping'), 'pong');
  assert.equal(asked().length, 2);
  // Those that disconnect get no ack.
  for (const answer of answers) answer.catch(() => {});
  for (const socket of asked()) socket.disconnect();
  await until(() => asked().length === 4, { message: 'two more are asked' });
  for (const socket of silent) socket.disconnect();
  answering(other, () => 'yes');
  await until(async () => (await ask(other, 'asks', questions))[0].answered);
  assert.equal((await plugin(patient, 'asks')).failures, 0);
});

test('an ask that finds no place waits for one, and for no longer than the budget allows', async (t) => {
  const narrow = await startServer(t, {
    config: `${CONFIG}wall = "4s"\n`,
    plugins: [{ wasm: 'asks', grants: GRANTS, budget: { instances: 2 } }],
  });
  const [first, second, third] = await Promise.all([1, 2, 3].map(() => connect(t, narrow)));
  let reply;
  first.on('question', (ack) => (reply = ack));
  const held = ask(first, 'asks', [question('question', [], 3_000)]);
  await until(() => reply, { message: 'the first is asked' });
  answering(second, () => 'second');
  const waiting = ask(second, 'asks', [question('question', [], 100)]);
  assert.equal(await ask(third, 'asks:ping'), 'pong', 'both instances wait, and a third serves');
  assert.deepEqual(received(second, 'question'), []);
  reply('first');
  assert.deepEqual(await held, [{ answered: ['first'] }]);
  assert.deepEqual(await waiting, [{ answered: ['second'] }]);

  // One that keeps the only place for longer than others may wait.
  first.removeAllListeners('question');
  first.emit('asks', [question('question', [], 3_000)]);
  await until(() => received(first, 'question').length === 2);
  assert.deepEqual(await ask(second, 'asks', [question('question', [], 1_500)]), [{ busy: BUSY }]);
});

test('an ask that is refused for now is worth another try to the client', async (t) => {
  const narrow = await startServer(t, {
    config: `${CONFIG}wall = "4s"\n`,
    plugins: [{ wasm: 'asks', grants: GRANTS, budget: { instances: 2 } }],
  });
  const [first, second] = [await connect(t, narrow), await connect(t, narrow)];
  first.emit('asks', [question('question', [], 3_000)]);
  await until(() => received(first, 'question').length === 1);
  const { error } = await ask(second, 'asks:first');
  assert.deepEqual(error, { code: 'plugin_unavailable', message: 'The plugin is busy, try again', temporary: true });
  assert.equal((await plugin(narrow, 'asks')).failures, 0);
});

test('a plugin whose every instance would wait is refused at load', async (t) => {
  const single = await startServer(t, {
    config: CONFIG,
    plugins: [
      { wasm: 'asks', name: 'refused', grants: GRANTS, budget: { instances: 1 } },
      { wasm: 'asks', name: 'allowed', grants: GRANTS, budget: { instances: 1, asks: 1 } },
    ],
  });
  const [refused, allowed] = (await status(single)).plugins;
  assert.match(refused.refusal, /instances = 1 leaves none that may wait for clients: add asks = 1 to its budget/);
  assert.equal(allowed.state, 'serving');
  const socket = await connect(t, single);
  answering(socket, () => 'yes');
  assert.deepEqual(await ask(socket, 'asks', [question('question')]), [{ answered: ['yes'] }]);
});

test('a client acks in time for its own timeout, or its emit fails', async (t) => {
  const socket = await connect(t, server);
  assert.equal(await socket.timeout(5_000).emitWithAck('custom_event', 7), 7);
  const never = socket.timeout(100).emitWithAck('asks', [question('never', [], 3_000)]);
  await assert.rejects(never, /operation has timed out/);
  assert.equal(await nextArgument(await connected(t), 'custom_response'), 8);
});

/** Another client, that has sent a `custom_event`. */
async function connected(t) {
  const socket = await connect(t, server);
  socket.emit('custom_event', 8);
  return socket;
}
