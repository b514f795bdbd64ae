// What the examples show: the client wrapper with the guide's API, and backends that push.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import { nextArgument } from '../support/plugins.mjs';
import { API_KEY, ROOT, startServer } from '../support/server.mjs';
import { seconds, sign, token } from '../support/tokens.mjs';
import { until, within } from '../support/wait.mjs';

const require = createRequire(import.meta.url);
const { SocketClient, socketClient } = require(join(ROOT, 'examples/web/socket-client.js'));
const BACKEND = join(ROOT, 'examples/backend');

const OPTIONS = {
  // As it is by default.
  recovery: true,
  plugins: [
    { wasm: 'custom-event', grants: ['emit:custom_response'] },
    { wasm: 'booking', grants: ['role:admin:new_booking', 'notify'] },
  ],
};
const server = await startServer({ after }, OPTIONS);

const HANDLERS = ['onConnect', 'onDisconnect', 'onAuthenticated', 'onPaymentUpdate', 'onNotification', 'onError'];

/** A wrapper whose six handlers write down what they are called with; closed when `t` ends. */
function wrapper(t) {
  const client = new SocketClient();
  client.calls = Object.fromEntries(HANDLERS.map((name) => [name, []]));
  for (const name of HANDLERS) client[name] = (...args) => client.calls[name].push(...(args.length ? args : [true]));
  client.called = async (name, times = 1) => {
    await until(() => client.calls[name].length >= times, {
      message: () => `${name} is called: ${JSON.stringify(client.calls)}`,
    });
    return client.calls[name].at(-1);
  };
  t.after(() => client.disconnect());
  return client;
}

const ADA = { sub: 123, username: 'ada', role: 'admin' };

async function connected(t, claims = ADA, to = server) {
  const client = wrapper(t);
  client.connect(claims && token(claims), to.url);
  await client.called(claims ? 'onAuthenticated' : 'onConnect');
  return client;
}

const pay = async (data, to = server) => (await to.api('POST', '/api/v1/payments/updates', data)).body.delivered;

test('there is one client for the page, as the guide has it', () => {
  assert.ok(socketClient instanceof SocketClient);
  for (const name of [
    ...HANDLERS,
    'connect',
    'disconnect',
    'subscribeToPayments',
    'unsubscribeFromPayments',
    'emit',
    'on',
    'off',
    'authenticate',
  ]) {
    assert.equal(typeof socketClient[name], 'function', name);
  }
  assert.equal(socketClient.connected, false);
});

test('connect tells of the connection and of the user', async (t) => {
  const client = await connected(t);
  assert.deepEqual(client.calls.onAuthenticated, [{ id: 123, username: 'ada', role: 'admin', roles: ['admin'] }]);
  assert.deepEqual(client.calls.onConnect, [true]);
  assert.equal(client.connected, true);
  assert.deepEqual(client.calls.onError, []);
});

test("the guide's payment flow works", async (t) => {
  const client = await connected(t);
  client.subscribeToPayments();
  await until(async () => (await pay({ invoiceId: 'inv_123', status: 'paid', amount: 1000, userId: 5 })) === 1);
  const update = await client.called('onPaymentUpdate');
  assert.equal(update.type, 'payment_update');
  assert.deepEqual(update.data, { invoiceId: 'inv_123', status: 'paid', amount: 1000, userId: 5 });
  assert.ok(Date.parse(update.timestamp));
  client.unsubscribeFromPayments();
  await until(async () => (await pay({})) === 0);
});

test("the guide's notification flow works", async (t) => {
  const client = await connected(t);
  const notification = {
    title: 'Booking Reminder',
    message: 'Your studio session starts in 1 hour',
    type: 'info',
    actionUrl: '/bookings/123',
  };
  await server.api('POST', '/api/v1/users/123/notifications', notification);
  const { timestamp, ...rest } = await client.called('onNotification');
  assert.deepEqual(rest, notification);
});

test("the guide's custom events work, and handlers can be taken away", async (t) => {
  const client = await connected(t);
  const responses = [];
  const handler = (data) => responses.push(data);
  client.on('custom_response', handler);
  client.emit('custom_event', { data: 'some data' });
  await until(() => responses.length === 1);
  assert.deepEqual(responses, [{ data: 'some data' }]);
  client.off('custom_response', handler);
  const reply = await new Promise((resolve) => client.emit('custom_event', { data: 'more' }, resolve));
  assert.deepEqual(reply, { data: 'more' });
  assert.equal(responses.length, 1);
});

test('a role is told of a booking', async (t) => {
  const admin = await connected(t);
  const bookings = [];
  admin.on('new_booking', (booking) => bookings.push(booking));
  const student = await connected(t, { sub: 5, role: 'student' });
  student.emit('booking:create', { studio: 'A', start: '2026-12-24T18:00', hours: 2 });
  assert.equal((await student.called('onNotification')).title, 'Booking Confirmed');
  await until(() => bookings.length === 1);
  assert.equal(bookings[0].userId, '5');
});

test('a subscription may be asked for before connecting', async (t) => {
  const client = wrapper(t);
  client.subscribeToPayments();
  client.connect(token(ADA), server.url);
  await until(async () => (await pay({ early: true })) === 1);
  assert.deepEqual((await client.called('onPaymentUpdate')).data, { early: true });
});

test('a subscription that an anonymous client was refused is made up for after authenticate', async (t) => {
  const client = await connected(t, null);
  client.subscribeToPayments();
  assert.equal((await client.called('onError')).code, 'unauthorized');
  const reply = await new Promise((resolve) => client.authenticate(token(ADA), resolve));
  assert.deepEqual(reply, { success: true, user: { id: 123, username: 'ada', role: 'admin', roles: ['admin'] } });
  await until(async () => (await pay({})) === 1);
});

for (const [name, bad, code] of [
  ['garbage', 'garbage', 'unauthorized'],
  ['expired', sign({ ...ADA, exp: seconds(-60) }), 'token_expired'],
]) {
  test(`a bad token is told once and not tried again: ${name}`, async (t) => {
    const client = wrapper(t);
    client.connect(bad, server.url);
    assert.equal((await client.called('onError')).code, code);
    assert.equal(client.active, false);
    assert.throws(() => client.emit('custom_event', 1), /not connected/);
    assert.deepEqual(client.calls.onConnect, []);
  });

  test(`a bad token for authenticate is told once, and the identity stays: ${name}`, async (t) => {
    const client = await connected(t);
    const reply = await new Promise((resolve) => client.authenticate(bad, resolve));
    assert.equal(reply.error.code, code);
    await client.called('onError');
    await server.api('POST', '/api/v1/users/123/notifications', { title: 'still you' });
    assert.equal((await client.called('onNotification')).title, 'still you');
    assert.deepEqual(
      client.calls.onError.map((error) => error.code),
      [code],
    );
  });
}

test('an event that fails without an ack is told to onError', async (t) => {
  const client = await connected(t);
  client.emit('nobody:knows');
  const error = await client.called('onError');
  assert.deepEqual(error, { code: 'unknown_event', message: error.message, temporary: false });
});

test('disconnect is told, and what is sent after it is an error', async (t) => {
  const client = await connected(t);
  client.disconnect();
  assert.deepEqual(client.calls.onDisconnect, ['io client disconnect']);
  assert.equal(client.connected, false);
  assert.throws(() => client.emit('custom_event', 1), /not connected/);
});

test('connect closes the connection that was open', async (t) => {
  const client = await connected(t, { sub: 'first' });
  client.connect(token({ sub: 'second' }), server.url);
  await client.called('onAuthenticated', 2);
  await until(async () => (await server.api('POST', '/api/v1/users/first/notifications', {})).body.delivered === 0);
  assert.deepEqual((await server.api('POST', '/api/v1/users/second/notifications', {})).body, { delivered: 1 });
});

test('after a restart of the server, identity, subscription and handlers are back', async (t) => {
  const first = await startServer(t, OPTIONS);
  const client = await connected(t, null, first);
  const responses = [];
  client.on('custom_response', (data) => responses.push(data));
  await new Promise((resolve) => client.authenticate(token(ADA), resolve));
  client.subscribeToPayments();
  await until(async () => (await pay({}, first)) === 1);

  assert.equal(await first.stop(), 0);
  assert.equal(await client.called('onDisconnect'), 'transport close');
  assert.deepEqual(await client.called('onError').then(({ code, temporary }) => [code, temporary]), [
    'connection_failed',
    true,
  ]);
  assert.equal(client.active, true);

  const second = await startServer(t, { ...OPTIONS, listen: first.address });
  await client.called('onAuthenticated', 2);
  await until(async () => (await pay({ after: 'restart' }, second)) === 1);
  client.emit('custom_event', 'again');
  await until(() => responses.length === 1);
  assert.deepEqual(responses, ['again']);
});

// Backends

/** Runs a program of examples/backend; resolves to `{ code, stdout, stderr }`. */
async function run(command, args, env = {}) {
  const child = spawn(command, args, {
    cwd: BACKEND,
    env: { PATH: process.env.PATH, MIXLAB_URL: server.url, MIXLAB_API_KEY: API_KEY, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'])
    child[stream].setEncoding('utf8').on('data', (text) => (output[stream] += text));
  const code = await within(
    new Promise((resolve, reject) => child.once('error', reject).once('close', resolve)),
    `the end of ${command}`,
  );
  return { code, ...output };
}

const pushSh = (...args) => run('./push.sh', args);
const pushMjs = (env) => run(process.execPath, ['push.mjs'], env);

/** A user 123 with role admin who subscribed to payments, and nobody else. */
async function everybody(t) {
  await nobody();
  const socket = await connect(t, server, { token: token(ADA) });
  assert.deepEqual(await ask(socket, 'subscribe:payments'), { success: true });
  return socket;
}

/** Waits until the clients of earlier tests are gone. */
const nobody = () =>
  until(async () => (await server.api('GET', '/api/v1/clients/count')).body.count === 0, {
    message: 'earlier clients are gone',
  });

test('push.mjs pushes a payment and says how many got it', async (t) => {
  await nobody();
  assert.deepEqual(await pushMjs(), { code: 0, stdout: 'delivered to 0 sockets\n', stderr: '' });
  const socket = await everybody(t);
  assert.deepEqual(await pushMjs(), { code: 0, stdout: 'delivered to 1 socket\n', stderr: '' });
  assert.deepEqual((await nextArgument(socket, 'payment_update')).data, {
    invoiceId: 'inv_123',
    status: 'paid',
    amount: 1000,
  });
});

for (const [name, env, reason] of [
  ['a wrong key', { MIXLAB_API_KEY: 'wrong' }, /^not pushed: unauthorized: /],
  ['no key', { MIXLAB_API_KEY: '' }, /^not pushed: MIXLAB_API_KEY /],
  ['no server', { MIXLAB_URL: 'http://127.0.0.1:9' }, /^not pushed: /],
]) {
  test(`push.mjs with ${name} says why and fails`, async () => {
    const { code, stdout, stderr } = await pushMjs(env);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, reason);
  });
}

test("push.mjs's functions are the guide's", async (t) => {
  const saved = { ...process.env };
  t.after(() => (process.env = saved));
  Object.assign(process.env, { MIXLAB_URL: server.url, MIXLAB_API_KEY: API_KEY });
  const push = await import(join(BACKEND, 'push.mjs'));

  const socket = await everybody(t);
  const odd = await connect(t, server, { token: token({ sub: 'a/b ü', role: 'c/d' }) });
  assert.equal(await push.broadcastPaymentUpdate({ invoiceId: 'inv_1' }), 1);
  assert.equal((await nextArgument(socket, 'payment_update')).data.invoiceId, 'inv_1');
  assert.equal(await push.sendUserNotification(123, { title: 'Booking Confirmed', message: 'x', type: 'success' }), 1);
  assert.equal((await nextArgument(socket, 'notification')).title, 'Booking Confirmed');
  assert.equal(await push.broadcastToRole('admin', 'new_booking', { bookingId: 456, userId: 123 }), 1);
  assert.deepEqual(await nextArgument(socket, 'new_booking'), { bookingId: 456, userId: 123 });
  assert.equal(await push.sendUserNotification('a/b ü', { title: 'odd' }), 1);
  assert.equal(await push.broadcastToRole('c/d', 'e/f', 0), 1);
  assert.equal(await nextArgument(odd, 'e/f'), 0);
  const booked = { users: ['123'], event: 'booked', arguments: [1, 2] };
  assert.equal(await push.emit(booked, { idempotencyKey: 'b1' }), 1);
  assert.equal(await push.emit(booked, { idempotencyKey: 'b1' }), 1);
  assert.deepEqual(await push.emit([booked, { ...booked, users: ['nobody'] }]), [1, 0]);
  assert.deepEqual((await nextEvent(socket, 'booked')).slice(0, 2), [1, 2]);
  await ask(socket, 'subscribe:payments');
  assert.equal(received(socket, 'booked').length, 2, 'the same key is one emit');
  await assert.rejects(push.emit({ ...booked, users: [] }, { idempotencyKey: 'b1' }), { status: 422 });
  assert.equal(await push.getConnectedClientsCount(), (await server.api('GET', '/api/v1/clients/count')).body.count);

  await assert.rejects(push.broadcastToRole('admin', 'connect', {}), {
    name: 'PushError',
    status: 400,
    code: 'invalid_payload',
  });
  process.env.MIXLAB_API_KEY = 'wrong';
  await assert.rejects(push.getConnectedClientsCount(), { name: 'PushError', status: 401, code: 'unauthorized' });
});

test('push.sh makes all five calls', async (t) => {
  const socket = await everybody(t);
  const { code, stdout, stderr } = await pushSh();
  assert.equal(code, 0, stderr);
  const answers = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(answers.slice(0, 4), Array(4).fill({ delivered: 1 }));
  assert.ok(answers[4].count >= 1);
  assert.equal(answers.length, 5);
  assert.equal((await nextArgument(socket, 'payment_update')).data.invoiceId, 'inv_123');
  assert.equal((await nextArgument(socket, 'notification')).title, 'Booking Reminder');
  assert.deepEqual(await nextArgument(socket, 'new_booking'), { bookingId: 456, userId: 123 });
});

test('push.sh makes one call with the data that it is given', async (t) => {
  const socket = await everybody(t);
  for (const [args, answer] of [
    [['payment', '{"own":"data"}'], { delivered: 1 }],
    [['notification', '123', '{"title":"Hello"}'], { delivered: 1 }],
    [['notification', 'nobody', '{"title":"Hello"}'], { delivered: 0 }],
    [['role', 'admin', 'own_event', '[1]'], { delivered: 1 }],
    [['emit', '{"roles":["admin"],"event":"own_emit"}', 'key of mine'], { delivered: 1 }],
    [['emit', '{"roles":["admin"],"event":"own_emit"}', 'key of mine'], { delivered: 1 }],
  ]) {
    const { code, stdout, stderr } = await pushSh(...args);
    assert.equal(code, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), answer);
  }
  assert.deepEqual((await nextArgument(socket, 'payment_update')).data, { own: 'data' });
  assert.deepEqual(await nextArgument(socket, 'own_event'), [1]);
  assert.equal(received(socket, 'notification').length, 1);
  assert.equal(received(socket, 'own_emit').length, 1);
});

test('push.sh fails where the server says no', async () => {
  const refused = await run('./push.sh', ['count'], { MIXLAB_API_KEY: 'wrong' });
  assert.ok(refused.code > 0);
  assert.equal(JSON.parse(refused.stdout).error.code, 'unauthorized');
  assert.ok((await pushSh('payment', 'no json')).code > 0);
  assert.equal((await pushSh('nonsense')).code, 2);
  assert.ok((await run('./push.sh', [], { MIXLAB_API_KEY: '' })).code > 0);
  assert.ok((await run('./push.sh', ['count'], { MIXLAB_URL: 'http://127.0.0.1:9' })).code > 0);
});
