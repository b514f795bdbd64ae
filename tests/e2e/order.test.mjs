// One socket's events are handled, and answered, in the order in which they were sent.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, nextEvent, received, TRANSPORTS } from '../support/client.mjs';
import { rawSocket } from '../support/raw.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const MANY = 3000;

const server = await startServer(
  { after },
  {
    plugins: [
      'echo',
      { wasm: 'custom-event', grants: ['emit:custom_response'] },
      { wasm: 'booking', grants: ['role:admin:new_booking', 'notify'] },
      { wasm: 'slow', budget: { cpu: '5s', wall: '10s' } },
      { wasm: 'handler_loops', budget: { cpu: '100ms', wall: '200ms' } },
      'traps',
      { wasm: 'capabilities', grants: ['payments', 'notify', 'role:*', 'clients', 'room:own', 'emit:own', 'ask:own', 'handshake', 'find', 'disconnect'] },
    ],
  },
);

/** Sends all events at once, `[name, …arguments]`; resolves to their acks as they came: `[index, reply]`. */
/** The socket, once nothing of its connection's beginning stands in its queue's way: an event is answered. */
async function begun(socket) {
  await ask(socket, 'echo', 'ready');
  return socket;
}

async function sendAll(socket, events) {
  const acks = [];
  events.forEach(([name, ...args], index) => socket.emit(name, ...args, (reply) => acks.push([index, reply])));
  await until(() => acks.length === events.length, {
    timeout: 30_000,
    message: () => `${acks.length} of ${events.length} acks`,
  });
  return acks;
}

const numbers = (count) => [...Array(count).keys()];
const echo = (i) => ['echo', i];
const assertInOrder = (acks) =>
  assert.deepEqual(
    acks.map(([index]) => index),
    numbers(acks.length),
  );

for (const transport of TRANSPORTS) {
  test(`${MANY} events at once are answered in order, by ack and by event, ${transport}`, async (t) => {
    const socket = await connect(t, server, { transports: [transport] });
    const acks = await sendAll(
      socket,
      numbers(MANY).map((i) => ['custom_event', { i }]),
    );
    assert.deepEqual(
      acks,
      numbers(MANY).map((i) => [i, { i }]),
    );
    assert.deepEqual(
      received(socket, 'custom_response'),
      numbers(MANY).map((i) => [{ i }]),
    );
    assert.equal(socket.collected.length, MANY, 'and nothing else came');
  });

  test(`binary and text events keep their order among each other, ${transport}`, async (t) => {
    const socket = await connect(t, server, { transports: [transport] });
    const value = (i) =>
      [i, Buffer.from([i % 256]), { i, file: Buffer.alloc(i * 3, i) }, [Buffer.alloc(0), String(i)]][i % 4];
    const acks = await sendAll(
      socket,
      numbers(500).map((i) => ['custom_event', value(i)]),
    );
    assert.deepEqual(
      acks,
      numbers(500).map((i) => [i, value(i)]),
    );
    assert.deepEqual(
      received(socket, 'custom_response'),
      numbers(500).map((i) => [value(i)]),
    );
  });

  test(`events behind a slow one wait for it and keep their order, ${transport}`, async (t) => {
    const socket = await connect(t, server, { transports: [transport] });
    const events = numbers(200).map(echo);
    events[50] = ['slow', 150];
    events[100] = ['slow', 0];
    events[101] = ['slow', 30];
    const acks = await sendAll(socket, events);
    assert.deepEqual(
      acks,
      events.map(([, value], i) => [i, value]),
    );
  });

  test(`large and small events keep their order, ${transport}`, async (t) => {
    const socket = await connect(t, server, { transports: [transport] });
    const size = (i) => (i % 5 ? 1 : 200_000);
    const acks = await sendAll(
      socket,
      numbers(60).map((i) => ['echo', 'x'.repeat(size(i))]),
    );
    assert.deepEqual(
      acks.map(([i, text]) => [i, text.length]),
      numbers(60).map((i) => [i, size(i)]),
    );
  });
}

test('events behind one that fails are handled in order', async (t) => {
  const socket = await connect(t, server);
  const events = numbers(60).map(echo);
  events[10] = ['handler_loops'];
  events[20] = ['traps'];
  events[30] = ['nobody:knows'];
  events[31] = ['booking:create', 'nonsense'];
  const acks = await sendAll(socket, events);
  assertInOrder(acks);
  const codes = Object.fromEntries(acks.flatMap(([i, reply]) => (reply.error ? [[i, reply.error.code]] : [])));
  assert.deepEqual(codes, { 10: 'plugin_timeout', 20: 'plugin_error', 30: 'unknown_event', 31: 'unauthorized' });
});

test("the host's own events stand in the same order as those of plugins", async (t) => {
  const socket = await connect(t, server);
  const booking = { studio: 'A', start: '2026-12-24T18:00', hours: 2 };
  const acks = await sendAll(socket, [
    ['booking:create', booking],
    ['slow', 50],
    ['subscribe:payments'],
    ['authenticate', token({ sub: 'in-order' })],
    ['booking:create', booking],
    ['subscribe:payments'],
    ['slow', 50],
    ['authenticate', token({ sub: 'another' })],
    ['booking:create', booking],
  ]);
  assertInOrder(acks);
  const outcomes = acks.map(
    ([, reply]) => reply.error?.code ?? reply.userId ?? reply.user?.id ?? reply.success ?? reply,
  );
  assert.deepEqual(outcomes, [
    'unauthorized',
    50,
    'unauthorized',
    'in-order',
    'in-order',
    true,
    50,
    'another',
    'another',
  ]);
});

test('several sockets have their own order each', async (t) => {
  const sockets = await Promise.all(numbers(6).map((i) => connect(t, server, { transports: [TRANSPORTS[i % 2]] })));
  const all = await Promise.all(
    sockets.map((socket, s) =>
      sendAll(
        socket,
        numbers(500).map((i) => (i === 100 + s ? ['slow', 20] : ['echo', s * 1000 + i])),
      ),
    ),
  );
  for (const [s, acks] of all.entries()) {
    assert.deepEqual(
      acks,
      numbers(500).map((i) => [i, i === 100 + s ? 20 : s * 1000 + i]),
    );
  }
});

test('a slow event holds up its own socket and no other', async (t) => {
  const slow = await connect(t, server);
  const other = await connect(t, server);
  const happened = [];
  const slowDone = ask(slow, 'slow', 1500).then((ms) => happened.push(`slow ${ms}`));
  const behind = ask(slow, 'echo', 1).then(() => happened.push('behind'));
  // Some 50 round trips, one after the other.
  for (let i = 0; i < 50; i++) assert.equal(await ask(other, 'echo', i), i);
  happened.push('other');
  await Promise.all([slowDone, behind]);
  assert.deepEqual(happened, ['other', 'slow 1500', 'behind']);
});

test('what a handler emits arrives in that order, before its ack', async (t) => {
  const socket = await rawSocket(t, server, { auth: { token: token({ sub: 'effects', role: 'effects' }) } });
  const emit = (data) => ({ call: 'emit', event: 'own', data });
  const role = (data) => ({ call: 'broadcast_to_role', role: 'effects', event: 'own', data });
  const calls = [
    emit(1),
    role(2),
    emit(3),
    { call: 'send_user_notification', user: 'effects', notification: { n: 4 } },
    emit(5),
  ];
  socket.send(`421["capabilities",${JSON.stringify(calls)}]`, '422["echo:ping"]');
  await socket.frame(/^432/);
  const shown = socket.frames
    .filter((frame) => /^4[23]/.test(frame) && !frame.includes('authenticated'))
    .map((frame) => frame.replace(/,"timestamp":".*?"/, ''));
  assert.deepEqual(shown, [
    '42["own",1]',
    '42["own",2]',
    '42["own",3]',
    '42["notification",{"n":4}]',
    '42["own",5]',
    `431[[${Array(5).fill('{"granted":null}').join()}]]`,
    '432["pong"]',
  ]);
});

for (const transport of TRANSPORTS) {
  for (const [name, first] of [
    ['', []],
    [', behind a slow one too', [['slow', 100]]],
  ]) {
    test(`events that were sent before the client left are handled${name}, ${transport}`, async (t) => {
      const watcher = await connect(t, server, { token: token({ sub: 1, role: 'watcher' }) });
      const socket = await connect(t, server, { transports: [transport] });
      for (const [event, ...args] of first) socket.emit(event, ...args);
      for (const i of numbers(100)) {
        socket.emit('capabilities', [{ call: 'broadcast_to_role', role: 'watcher', event: 'seen', data: i }]);
      }
      socket.disconnect();
      await until(() => received(watcher, 'seen').length === 100, {
        message: () => `${received(watcher, 'seen').length} of 100 events`,
      });
      assert.deepEqual(
        received(watcher, 'seen'),
        numbers(100).map((i) => [i]),
      );
    });
  }
}

test('when too much waits behind a slow event, what is over the limit is refused', async (t) => {
  const narrow = await startServer(t, {
    config: '[socket]\nqueue_bytes = "10kB"',
    plugins: ['echo', { wasm: 'slow', budget: { cpu: '5s', wall: '10s' } }],
  });
  const socket = await begun(await connect(t, narrow));
  for (const size of [3000, 20_000]) {
    const acks = await sendAll(socket, [['slow', 400], ...numbers(5).map(() => echo('x'.repeat(size)))]);
    const refused = acks.filter(([, reply]) => reply?.error?.code === 'rate_limited');
    assert.equal(refused.length, size === 3000 ? 2 : 4);
  }
});

test('when too many wait behind a slow event, those over the limit are refused and nothing is lost', async (t) => {
  const narrow = await startServer(t, {
    config: '[socket]\nqueue = 5\n[budget]\nwall = "30s"',
    plugins: ['echo', { wasm: 'asks', grants: ['ask', 'emit'] }],
  });
  const socket = await begun(await connect(t, narrow));
  // An event of this guest is under way until its client answers.
  const slow = ['asks', [{ event: 'question', arguments: [], wait_ms: 20_000 }]];
  let answer;
  socket.on('question', (ack) => (answer = ack));
  const acks = [];
  [slow, ...numbers(20).map(echo)].forEach(([name, ...args], index) =>
    socket.emit(name, ...args, (reply) => acks.push([index, reply])),
  );
  await until(() => acks.length === 15 && answer, { message: () => `15 and no more: ${JSON.stringify(acks)}` });
  answer('at last');
  await until(() => acks.length === 21);
  const served = acks.filter(([, reply]) => !reply?.error);
  const refused = acks.filter(([, reply]) => reply?.error);
  assert.deepEqual(served, [[0, [{ answered: ['at last'] }]], ...numbers(5).map((i) => [i + 1, i])], 'in order');
  assert.equal(refused.length, 15);
  for (const [, { error }] of refused) {
    assert.deepEqual(error, { code: 'rate_limited', message: error.message, temporary: true, retry_after_ms: 1000 });
  }
  assert.deepEqual(
    await sendAll(socket, numbers(5).map(echo)),
    numbers(5).map((i) => [i, i]),
    'and the socket goes on',
  );
  socket.emit(...slow);
  for (const i of numbers(6)) socket.emit('echo', i);
  assert.equal((await nextEvent(socket, 'mixlab:error'))[0].error.code, 'rate_limited');
});
