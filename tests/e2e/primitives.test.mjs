// The four primitives: what backends and plugins push, and who gets it.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, nextEvent, received, TRANSPORTS } from '../support/client.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const NAMESPACES = ['/rooms', '/other'];

const server = await startServer(
  { after },
  {
    plugins: [
      { wasm: 'capabilities', grants: ['payments', 'notify', 'role:*', 'clients', 'room:own', 'emit:own', 'ask:own', 'handshake', 'find', 'disconnect'] },
      { wasm: 'contracts', grants: ['namespace:/*'], config: { namespaces: NAMESPACES, events: [{ name: 'here' }], answer: 'here' } },
    ],
  },
);

// The same push by both doors. Each resolves to what is known of the delivery.
const DOORS = {
  HTTP: {
    payment: async (data) => (await server.api('POST', '/api/v1/payments/updates', JSON.stringify(data))).body,
    notify: async (user, data) =>
      (await server.api('POST', `/api/v1/users/${encodeURIComponent(user)}/notifications`, data)).body,
    role: async (role, event, data) =>
      (await server.api('POST', `/api/v1/roles/${encodeURIComponent(role)}/events/${event}`, JSON.stringify(data)))
        .body,
  },
  'a plugin': {
    payment: (data) => call({ call: 'broadcast_payment_update', data }),
    notify: (user, notification) => call({ call: 'send_user_notification', user, notification }),
    role: (role, event, data) => call({ call: 'broadcast_to_role', role, event, data }),
  },
};

const caller = await connect({ after }, server);

async function call(what) {
  const [answer] = await ask(caller, 'capabilities', [what]);
  assert.deepEqual(Object.keys(answer), ['granted'], JSON.stringify(answer));
  return answer.granted;
}

const count = async () => (await server.api('GET', '/api/v1/clients/count')).body.count;

/** Waits until the clients of earlier tests are gone, and resolves to the count: the caller stays. */
const settled = () => until(async () => (await count()) === 1 && 1, { message: 'earlier clients are gone' });

/** A plugin is not told of a delivery; a backend is. */
const delivered = (answer, count) => answer === null || assert.deepEqual(answer, { delivered: count });

/** The time of a push: now, as JavaScript writes it. */
function assertTimestamp(timestamp, since) {
  assert.equal(new Date(timestamp).toISOString(), timestamp);
  assert.ok(Date.parse(timestamp) >= since - 1 && Date.parse(timestamp) <= Date.now() + 1, timestamp);
}

const user = (t, sub, claims = {}, options = {}) =>
  connect(t, server, { token: token({ sub, ...claims }), ...options });

async function subscriber(t, sub, options) {
  const socket = await user(t, sub, {}, options);
  assert.deepEqual(await ask(socket, 'subscribe:payments'), { success: true });
  return socket;
}

const VALUES = [
  { invoiceId: 'inv_123', status: 'paid', amount: 1000 },
  {},
  [],
  null,
  'text with "quotes", \\ and \n and 😀',
  0,
  -1.5e-7,
  { nested: { deeply: [[[{ a: [] }]]] }, '': '', __proto__x: 1 },
  { type: 'mine', timestamp: 'mine', data: 'mine' },
];

for (const [door, { payment, notify, role }] of Object.entries(DOORS)) {
  for (const count of [0, 1, 3]) {
    test(`a payment update by ${door} reaches ${count} subscribers and nobody else`, async (t) => {
      await settled();
      const sockets = [];
      for (let i = 0; i < count; i++) sockets.push(await subscriber(t, i, { transports: [TRANSPORTS[i % 2]] }));
      const bystander = await user(t, 'bystander');
      const since = Date.now();
      delivered(await payment({ invoiceId: 'inv_123', status: 'paid', amount: 1000 }), count);
      for (const socket of sockets) {
        const [update, ...more] = await nextEvent(socket, 'payment_update');
        assertTimestamp(update.timestamp, since);
        assert.deepEqual(update, {
          type: 'payment_update',
          data: { invoiceId: 'inv_123', status: 'paid', amount: 1000 },
          timestamp: update.timestamp,
        });
        assert.deepEqual(more, []);
      }
      await ask(bystander, 'unsubscribe:payments');
      assert.deepEqual(received(bystander, 'payment_update'), []);
    });

    test(`a notification by ${door} reaches the ${count} sockets of its user`, async (t) => {
      await settled();
      const sockets = [];
      for (let i = 0; i < count; i++) sockets.push(await user(t, 'target', {}, { transports: [TRANSPORTS[i % 2]] }));
      const bystander = await user(t, 'bystander');
      const since = Date.now();
      const notification = {
        title: 'Booking Confirmed',
        message: 'Your studio booking',
        type: 'success',
        actionUrl: '/b/1',
      };
      delivered(await notify('target', notification), count);
      for (const socket of sockets) {
        const [payload, ...more] = await nextEvent(socket, 'notification');
        assertTimestamp(payload.timestamp, since);
        assert.deepEqual(payload, { ...notification, timestamp: payload.timestamp });
        assert.deepEqual(more, []);
      }
      await ask(bystander, 'unsubscribe:payments');
      assert.deepEqual(received(bystander, 'notification'), []);
    });

    test(`a role's event by ${door} reaches the ${count} sockets of the role, data as given`, async (t) => {
      await settled();
      const sockets = [];
      for (let i = 0; i < count; i++)
        sockets.push(await user(t, i, { role: 'crew' }, { transports: [TRANSPORTS[i % 2]] }));
      const bystander = await user(t, 'bystander', { role: 'crew2' });
      delivered(await role('crew', 'new_booking', { bookingId: 456, userId: 123 }), count);
      for (const socket of sockets) {
        assert.deepEqual(await nextEvent(socket, 'new_booking'), [{ bookingId: 456, userId: 123 }]);
      }
      await ask(bystander, 'unsubscribe:payments');
      assert.deepEqual(received(bystander, 'new_booking'), []);
    });
  }

  test(`any JSON goes through unchanged by ${door}`, async (t) => {
    const socket = await user(t, 'any', { role: 'any' });
    await ask(socket, 'subscribe:payments');
    for (const value of VALUES) {
      await payment(value);
      assert.deepEqual((await nextEvent(socket, 'payment_update'))[0].data, value);
      await role('any', 'value', value);
      assert.deepEqual(await nextEvent(socket, 'value'), [value]);
    }
  });

  test(`a notification's own timestamp by ${door} gives way to the server's`, async (t) => {
    const socket = await user(t, 'clock');
    const since = Date.now();
    await notify('clock', { timestamp: '1999-01-01T00:00:00.000Z', title: 'x' });
    const [payload] = await nextEvent(socket, 'notification');
    assertTimestamp(payload.timestamp, since);
    assert.deepEqual(Object.keys(payload), ['timestamp', 'title'], 'and stays where it was');
  });

  test(`a user with several roles gets the events of each by ${door}`, async (t) => {
    await settled();
    const socket = await user(t, 'many', { role: 'one', roles: ['two', 'drei/3', 'two'] });
    for (const name of ['one', 'two', 'drei/3']) {
      delivered(await role(name, 'hello', { name }), 1);
      assert.deepEqual(await nextEvent(socket, 'hello'), [{ name }]);
    }
    delivered(await role('four', 'hello', {}), 0);
  });

  test(`all sockets of one user are notified by ${door}, and none of another`, async (t) => {
    await settled();
    const first = [await user(t, 11), await user(t, '11', {}, { transports: ['polling'] }), await user(t, 11)];
    const second = await user(t, 1);
    delivered(await notify('11', { title: 'eleven' }), 3);
    delivered(await notify('1', { title: 'one' }), 1);
    for (const socket of first) assert.equal((await nextEvent(socket, 'notification'))[0].title, 'eleven');
    assert.equal((await nextEvent(second, 'notification'))[0].title, 'one');
  });

  test(`pushes by ${door} arrive in the order they were made`, async (t) => {
    const socket = await user(t, 'ordered', { role: 'ordered' });
    const polling = await user(t, 'ordered', { role: 'ordered' }, { transports: ['polling'] });
    for (let i = 0; i < 50; i++) await role('ordered', 'n', i);
    for (const one of [socket, polling]) {
      await until(() => received(one, 'n').length === 50);
      assert.deepEqual(
        received(one, 'n').map(([i]) => i),
        [...Array(50).keys()],
      );
    }
  });

  test(`pushes by ${door} do not reach other namespaces`, async (t) => {
    await settled();
    const elsewhere = await user(t, 'ns', { role: 'ns' }, { namespace: '/rooms' });
    delivered(await notify('ns', { title: 'x' }), 0);
    delivered(await role('ns', 'hello', {}), 0);
    const here = await user(t, 'ns', { role: 'ns' });
    delivered(await notify('ns', { title: 'x' }), 1);
    await nextEvent(here, 'notification');
    assert.equal(await ask(elsewhere, 'here'), 'here');
    assert.deepEqual(received(elsewhere, 'notification'), []);
  });
}

// Subscriptions

for (const transport of TRANSPORTS) {
  test(`who unsubscribes gets no more payments, ${transport}`, async (t) => {
    await settled();
    const { payment } = DOORS.HTTP;
    const socket = await subscriber(t, 'sub', { transports: [transport] });
    assert.deepEqual(await ask(socket, 'subscribe:payments'), { success: true }, 'again is fine');
    assert.deepEqual(await payment(1), { delivered: 1 });
    assert.deepEqual(await ask(socket, 'unsubscribe:payments'), { success: true });
    assert.deepEqual(await ask(socket, 'unsubscribe:payments'), { success: true }, 'again is fine');
    assert.deepEqual(await payment(2), { delivered: 0 });
    assert.deepEqual(await ask(socket, 'subscribe:payments'), { success: true });
    assert.deepEqual(await payment(3), { delivered: 1 });
    assert.equal((await nextEvent(socket, 'payment_update'))[0].data, 1);
    assert.equal((await nextEvent(socket, 'payment_update'))[0].data, 3);
  });
}

test('a subscription needs no ack and takes any arguments', async (t) => {
  await settled();
  const socket = await user(t, 'quiet');
  socket.emit('subscribe:payments', { some: 'thing' }, 1);
  await until(async () => (await DOORS.HTTP.payment({})).delivered === 1);
  assert.deepEqual(received(socket, 'mixlab:error'), []);
});

test('a subscription ends with the connection', async (t) => {
  const socket = await subscriber(t, 'gone');
  socket.disconnect();
  await until(async () => (await DOORS.HTTP.payment({})).delivered === 0);
});

const ANONYMOUS = undefined;
const STUDENT = { sub: 1, role: 'student' };
const ADMIN = { sub: 1, role: 'admin' };
const BOTH = { sub: 1, roles: ['student', 'accounting'] };

for (const [access, rows] of Object.entries({
  '': [
    [ANONYMOUS, 'unauthorized'],
    [STUDENT, null],
    [{ sub: 1 }, null],
  ],
  '"authenticated"': [
    [ANONYMOUS, 'unauthorized'],
    [STUDENT, null],
    [ADMIN, null],
  ],
  '"anyone"': [
    [ANONYMOUS, null],
    [STUDENT, null],
  ],
  '["admin", "accounting"]': [
    [ANONYMOUS, 'unauthorized'],
    [STUDENT, 'permission_denied'],
    [{ sub: 1 }, 'permission_denied'],
    [ADMIN, null],
    [BOTH, null],
  ],
})) {
  test(`who may subscribe to payments: ${access || 'by default'}`, async (t) => {
    const other = await startServer(t, { config: access && `[payments]\nsubscribe = ${access}` });
    let subscribed = 0;
    for (const [claims, code] of rows) {
      const socket = await connect(t, other, { token: claims && token(claims) });
      const reply = await ask(socket, 'subscribe:payments');
      if (code === null) {
        assert.deepEqual(reply, { success: true }, JSON.stringify(claims));
        subscribed += 1;
      } else {
        const { message } = reply.error;
        assert.deepEqual(reply, { error: { code, message, temporary: false } }, JSON.stringify(claims));
        assert.match(message, /payments/);
        socket.emit('subscribe:payments');
        assert.deepEqual(await nextEvent(socket, 'mixlab:error'), [reply], 'without an ack it comes as an event');
      }
      assert.deepEqual((await other.api('POST', '/api/v1/payments/updates', {})).body, { delivered: subscribed });
    }
  });
}

test('an anonymous client may subscribe once it has authenticated', async (t) => {
  const socket = await connect(t, server);
  assert.equal((await ask(socket, 'subscribe:payments')).error.code, 'unauthorized');
  await ask(socket, 'authenticate', token({ sub: 'now' }));
  assert.deepEqual(await ask(socket, 'subscribe:payments'), { success: true });
});

// The count

for (const transport of TRANSPORTS) {
  test(`clients are counted as they come and go, ${transport}`, async (t) => {
    const before = await settled();
    const sockets = [];
    for (let i = 1; i <= 4; i++) {
      sockets.push(await connect(t, server, { transports: [transport] }));
      await until(async () => (await count()) === before + i);
    }
    assert.equal(await call({ call: 'connected_clients_count' }), before + 4, 'plugins count the same');
    for (const socket of sockets) socket.disconnect();
    await until(async () => (await count()) === before);
    assert.equal(await call({ call: 'connected_clients_count' }), before);
  });
}

test('a client that upgrades its transport counts once', async (t) => {
  const before = await settled();
  const socket = await connect(t, server, { transports: ['polling', 'websocket'] });
  await until(() => socket.io.engine.transport.name === 'websocket');
  assert.equal(await ask(socket, 'capabilities:ping'), 'pong');
  assert.equal(await count(), before + 1);
});

test('a client in several namespaces counts once, until it has left the last', async (t) => {
  const before = await settled();
  const root = await connect(t, server, { forceNew: true });
  const more = NAMESPACES.map((namespace) => root.io.socket(namespace));
  for (const socket of more) {
    socket.connect();
    assert.equal(await ask(socket, 'here'), 'here');
  }
  assert.equal(await count(), before + 1);
  root.disconnect();
  assert.equal(await ask(more[0], 'here'), 'here');
  assert.equal(await count(), before + 1);
  more[0].disconnect();
  assert.equal(await ask(more[1], 'here'), 'here');
  assert.equal(await count(), before + 1);
  more[1].disconnect();
  await until(async () => (await count()) === before);
});

test('a client that vanishes without a word is not counted', async (t) => {
  const before = await settled();
  const socket = await connect(t, server);
  await until(async () => (await count()) === before + 1);
  socket.io.engine.transport.ws.terminate();
  await until(async () => (await count()) === before);
});

test('a refused client is not counted', async (t) => {
  const before = await settled();
  await assert.rejects(connect(t, server, { token: 'garbage' }));
  assert.equal(await count(), before);
});
