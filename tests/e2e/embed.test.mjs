// A program that embeds the server (examples/embed.rs): native handlers and routes beside plugins.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import WebSocket from 'ws';
import { ask, connect, connectFrom, disconnected, nextEvent, open, received, TRANSPORTS } from '../support/client.mjs';
import { rawPolling, rawSocket } from '../support/raw.mjs';
import { EMBED, startServer } from '../support/server.mjs';
import { seconds, sign, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const PLUGINS = [
  'echo',
  { wasm: 'capabilities', grants: ['payments', 'notify', 'role:*', 'clients', 'room:own', 'emit:own', 'ask:own', 'handshake', 'find', 'disconnect'] },
];

const start = (t, options) => startServer(t, { embedding: EMBED, plugins: PLUGINS, ...options });

const server = await start({ after });

/** A client of the native endpoint. */
const NATIVE = { path: '/native.io' };
const native = (t, options, of = server) => connect(t, of, { ...NATIVE, ...options });

/** Clients of both endpoints, with the same token, over all transports. */
async function both(t, claims, of = server) {
  const connecting = [{}, NATIVE].flatMap((endpoint) =>
    TRANSPORTS.map((transport) =>
      connect(t, of, { ...endpoint, token: claims && token(claims), transports: [transport] }),
    ),
  );
  return Promise.all(connecting);
}

const count = async () => (await server.api('GET', '/api/v1/clients/count')).body.count;

/** Waits until the clients of earlier tests are gone. */
const settled = () => until(async () => (await count()) === 0, { message: 'earlier clients are gone' });

/** Refused by the native endpoint with this error. */
const refused = (t, options, of) => native(t, options, of).then(assert.fail, (error) => error);

for (const transport of [...TRANSPORTS, 'upgrade']) {
  const transports = transport === 'upgrade' ? ['polling', 'websocket'] : [transport];

  test(`native handlers answer, ${transport}`, async (t) => {
    const socket = await native(t, { token: token({ sub: 7, role: 'admin' }), transports });
    if (transport === 'upgrade') await until(() => socket.io.engine.transport.name === 'websocket');
    for (const value of ['text', { a: [1, null] }, 0]) assert.deepEqual(await ask(socket, 'echo', value), value);
    const user = { id: 7, username: null, role: 'admin', roles: ['admin'] };
    assert.deepEqual(await ask(socket, 'who'), { user });
    assert.deepEqual(await nextEvent(socket, 'authenticated'), [{ success: true, user }]);
  });
}

test('plugins, files and the API are there as without native handlers', async (t) => {
  const socket = await connect(t, server);
  assert.equal(await ask(socket, 'echo', 'plugin'), 'plugin');
  assert.equal((await server.api('GET', '/healthz')).status, 200);
  assert.equal((await server.api('GET', '/api/v1/plugins')).body.plugins.length, 2);
  assert.equal((await server.api('GET', '/nothing')).body.error.code, 'not_found');
});

test('a client without a token is anonymous, if that is allowed', async (t) => {
  const socket = await native(t);
  assert.deepEqual(await ask(socket, 'who'), { user: null });
  assert.deepEqual(received(socket, 'authenticated'), []);
  const strict = await start(t, { config: '[auth]\nanonymous = false\n' });
  assert.equal((await refused(t, {}, strict)).message, 'unauthorized');
  await native(t, { token: token({ sub: 1 }) }, strict);
});

for (const transport of TRANSPORTS) {
  test(`clients with bad tokens are refused with the host's codes, ${transport}`, async (t) => {
    for (const [given, code] of [
      [sign({ sub: 1, exp: seconds(60) }, { secret: 'another-secret-of-more-than-32-bytes' }), 'unauthorized'],
      [sign({ sub: 1 }), 'unauthorized'],
      ['none', 'unauthorized'],
      [7, 'unauthorized'],
      [sign({ sub: 1, exp: seconds(-60) }), 'token_expired'],
    ]) {
      for (const endpoint of [{}, NATIVE]) {
        const attempt = connect(t, server, { ...endpoint, token: given, transports: [transport] });
        await assert.rejects(attempt, { message: code }, `${given}`);
      }
    }
    await settled();
  });
}

test('a namespace that was not added is not there', async (t) => {
  assert.equal((await refused(t, { namespace: '/other' })).message, 'Invalid namespace');
});

// The primitives

const VALUES = [{ status: 'paid', amount: 1000 }, [], [1, 'a'], null, 'text with "quotes", \\ and \n and 😀', -1.5e-7];

/** The same pushes by each door; a backend and a Rust program are told of the deliveries. */
const DOORS = {
  HTTP: {
    payment: async (data) => (await server.api('POST', '/api/v1/payments/updates', JSON.stringify(data))).body.delivered,
    notify: async (user, data) => (await server.api('POST', `/api/v1/users/${user}/notifications`, data)).body.delivered,
    role: async (role, event, data) =>
      (await server.api('POST', `/api/v1/roles/${role}/events/${event}`, JSON.stringify(data))).body.delivered,
  },
  'a plugin': {
    payment: (data) => call({ call: 'broadcast_payment_update', data }),
    notify: (user, notification) => call({ call: 'send_user_notification', user, notification }),
    role: (role, event, data) => call({ call: 'broadcast_to_role', role, event, data }),
  },
};

/** A plugin is called by a client of its own. */
async function call(what) {
  const caller = await connect({ after }, server);
  const [answer] = await ask(caller, 'capabilities', [what]);
  caller.disconnect();
  assert.deepEqual(Object.keys(answer), ['granted'], JSON.stringify(answer));
  return undefined;
}

for (const [door, { payment, notify, role }] of Object.entries(DOORS)) {
  test(`payment updates by ${door} reach subscribers of both endpoints`, async (t) => {
    const sockets = await both(t, { sub: 'payer' });
    const bystanders = await both(t, { sub: 'payer' });
    for (const socket of sockets) assert.deepEqual(await ask(socket, 'subscribe:payments'), { success: true });
    for (const data of VALUES) {
      assert.ok([4, undefined].includes(await payment(data)));
      for (const socket of sockets) {
        const [update, ...more] = await nextEvent(socket, 'payment_update');
        assert.deepEqual(update, { type: 'payment_update', data, timestamp: update.timestamp });
        assert.deepEqual(more, []);
      }
    }
    for (const socket of [...sockets, ...bystanders]) await ask(socket, 'unsubscribe:payments');
    await payment('late');
    for (const socket of sockets) assert.equal(received(socket, 'payment_update').length, VALUES.length);
    for (const socket of bystanders) assert.deepEqual(received(socket, 'payment_update'), []);
  });

  test(`notifications by ${door} reach their user at both endpoints`, async (t) => {
    const sockets = await both(t, { sub: 'target' });
    const others = await both(t, { sub: 'other' });
    assert.ok([4, undefined].includes(await notify('target', { title: 'for you', list: [1] })));
    for (const socket of sockets) {
      const [payload] = await nextEvent(socket, 'notification');
      assert.deepEqual(payload, { title: 'for you', list: [1], timestamp: payload.timestamp });
    }
    for (const socket of others) assert.deepEqual(received(socket, 'notification'), []);
  });

  test(`events to a role by ${door} reach it at both endpoints`, async (t) => {
    const sockets = await both(t, { sub: 1, roles: ['crew', 'more'] });
    const others = await both(t, { sub: 1, role: 'admin' });
    for (const data of VALUES) {
      assert.ok([4, undefined].includes(await role('crew', 'news', data)));
      for (const socket of sockets) assert.deepEqual(await nextEvent(socket, 'news'), [data]);
    }
    for (const socket of others) assert.deepEqual(received(socket, 'news'), []);
  });
}

test("a route of the program's own pushes from Rust to both endpoints, and counts both", async (t) => {
  await settled();
  const sockets = await both(t, { sub: 'buyer', role: 'admin' });
  for (const socket of sockets) await ask(socket, 'subscribe:payments');
  const order = { total: 12.5 };
  const { status, body } = await server.api('POST', '/orders/buyer/paid', order, null);
  assert.deepEqual([status, body], [200, { delivered: [4, 4, 4], clients: 4 }]);
  for (const socket of sockets) {
    assert.deepEqual((await nextEvent(socket, 'payment_update'))[0].data, order);
    assert.equal((await nextEvent(socket, 'notification'))[0].total, order.total);
    assert.deepEqual(await nextEvent(socket, 'order:paid'), [order]);
  }
  assert.equal((await server.api('POST', '/orders/buyer/paid', '[]', null)).status, 400);
});

test('clients of both endpoints are counted while they are connected', async (t) => {
  await settled();
  const sockets = await both(t);
  assert.equal(await count(), 4);
  assert.match((await server.api('GET', '/metrics')).body, /^mixlab_clients 4$/m);
  const [answer] = await ask(sockets[0], 'capabilities', [{ call: 'connected_clients_count' }]);
  assert.deepEqual(answer, { granted: 4 });
  sockets[2].disconnect();
  sockets[3].io.engine.close();
  await until(async () => (await count()) === 2);
});

// Who a client is

test('a native client becomes a user later, and another one', async (t) => {
  const socket = await native(t);
  const notified = async (id) => (await server.api('POST', `/api/v1/users/${id}/notifications`, {})).body.delivered;
  const { error } = await ask(socket, 'authenticate', 'no token');
  assert.equal(error.code, 'unauthorized');
  assert.equal((await nextEvent(socket, 'authenticated'))[0].error.code, 'unauthorized');
  assert.equal((await ask(socket, 'authenticate', 1)).error.code, 'invalid_payload');
  for (const [sub, former] of [['first', 'nobody'], ['second', 'first']]) {
    assert.equal((await ask(socket, 'authenticate', token({ sub }))).user.id, sub);
    assert.equal((await ask(socket, 'who')).user.id, sub);
    assert.deepEqual([await notified(sub), await notified(former)], [1, 0]);
  }
});

test('[payments] says who may subscribe, at both endpoints', async (t) => {
  const own = await start(t, { config: '[payments]\nsubscribe = ["cashier"]\n' });
  for (const endpoint of [{}, NATIVE]) {
    const nobody = await connect(t, own, endpoint);
    assert.equal((await ask(nobody, 'subscribe:payments')).error.code, 'unauthorized');
    nobody.emit('subscribe:payments');
    assert.equal((await nextEvent(nobody, 'mixlab:error'))[0].error.code, 'unauthorized');
    const other = await connect(t, own, { ...endpoint, token: token({ sub: 1, role: 'cook' }) });
    assert.equal((await ask(other, 'subscribe:payments')).error.code, 'permission_denied');
    const cashier = await connect(t, own, { ...endpoint, token: token({ sub: 1, role: 'cashier' }) });
    assert.deepEqual(await ask(cashier, 'subscribe:payments'), { success: true });
    // A subscription does not outlive the right to it.
    await ask(cashier, 'authenticate', token({ sub: 1, role: 'cook' }));
  }
  const { body } = await own.api('POST', '/api/v1/payments/updates', {});
  assert.deepEqual(body, { delivered: 0 });
});

describe('tokens of native clients expire', { concurrency: true }, async () => {
  const expiring = await start({ after }, { config: '[auth]\nleeway = "0s"\nexpiry_warning = "1s"\n' });
  for (const transport of [...TRANSPORTS, 'upgrade']) {
    const transports = transport === 'upgrade' ? ['polling', 'websocket'] : [transport];

    test(`they are told, and then their transport is cut, ${transport}`, async (t) => {
      const socket = await native(t, { token: sign({ sub: transport, exp: seconds(5) }), transports }, expiring);
      const [{ error }] = await nextEvent(socket, 'mixlab:error');
      assert.equal(error.code, 'token_expired');
      // Not "io server disconnect", after which a stock client stays away.
      assert.match(await disconnected(socket), /^transport /);
      assert.equal((await refused(t, { token: sign({ sub: transport, exp: seconds(-1) }) }, expiring)).message, 'token_expired');
    });

    test(`one that authenticates again in time stays, ${transport}`, async (t) => {
      const socket = await native(t, { token: sign({ sub: 1, exp: seconds(5) }), transports }, expiring);
      const witness = await native(t, { token: sign({ sub: 2, exp: seconds(6) }) }, expiring);
      await nextEvent(socket, 'mixlab:error');
      assert.equal((await ask(socket, 'authenticate', token({ sub: 1 }))).success, true);
      await disconnected(witness);
      assert.equal(await ask(socket, 'echo', 'still here'), 'still here');
    });
  }
});

for (const transport of TRANSPORTS) {
  test(`a backend ends the connections of a user at both endpoints, ${transport}`, async (t) => {
    const sub = `ends-${transport}`;
    const end = async (body) => (await server.api('POST', `/api/v1/users/${sub}/disconnect`, body)).body;
    const connected = () => [{}, NATIVE].map((endpoint) =>
      connect(t, server, { ...endpoint, token: token({ sub }), transports: [transport] }));
    for (const close of [false, true]) {
      const sockets = await Promise.all(connected());
      assert.deepEqual(await end({ close }), { disconnected: 2 });
      for (const socket of sockets) {
        assert.equal(await disconnected(socket), 'io server disconnect');
        if (close) await until(() => socket.io.engine.readyState === 'closed');
      }
    }
    assert.deepEqual(await end(), { disconnected: 0 });
  });
}

test('a client that stays is cut off when its user is, where that is asked for', async (t) => {
  const sub = 'stubborn';
  const { ws, frames } = await rawSocket(t, server, { ...NATIVE, auth: { token: token({ sub }) } });
  const polling = await rawPolling(server, NATIVE);
  await polling.post(`40${JSON.stringify({ token: token({ sub }) })}`);
  await polling.packet(/^40\{/);
  const { body } = await server.api('POST', `/api/v1/users/${sub}/disconnect`, { close: true });
  assert.deepEqual(body, { disconnected: 2 });
  await until(() => ws.readyState === WebSocket.CLOSED);
  assert.equal(frames.at(-1), '41', 'it is told before');
  await until(async () => (await polling.get()).status === 400);
});

// Bounds

test('pages of other sites are refused where the host checks origins', async (t) => {
  const own = await start(t, { config: '[cors]\nallowed_origins = ["https://app.example.com"]\ncheck_origins = true\n' });
  for (const path of ['/socket.io/', '/native.io/', '/native.io']) {
    for (const [origin, status] of [['https://evil.example.com', 403], ['https://app.example.com', 200]]) {
      const response = await fetch(`${own.url}${path}?EIO=4&transport=polling`, { headers: { origin } });
      assert.equal(response.status, status, `${path} ${origin}`);
      const allowed = response.headers.get('access-control-allow-origin');
      assert.equal(allowed, status === 200 ? origin : null);
    }
  }
});

test('sessions of both endpoints are bounded together, and come back', async (t) => {
  const own = await start(t, { config: '[socket]\nmax_sessions = 3\nmax_sessions_per_address = 2\n' });
  const first = await native(t, {}, own);
  await connect(t, own);
  for (const transport of TRANSPORTS) {
    const { description } = await refused(t, { transports: [transport] }, own);
    if (transport === 'polling') assert.equal(description, 503);
  }
  const other = await connectFrom(t, own, '127.0.0.2', NATIVE);
  await assert.rejects(connectFrom(t, own, '127.0.0.3', {}), 'all are taken');
  first.disconnect();
  other.io.engine.close();
  await until(() => native(t, {}, own).then(() => true, () => false));
  await until(() => connectFrom(t, own, '127.0.0.3', {}).then(() => true, () => false));
});

test('new sessions are limited by address as at the plugins\' endpoint', async (t) => {
  const own = await start(t, { config: '[limits]\nconnections = "1/1h"\n' });
  await native(t, {}, own);
  for (const path of ['/socket.io/', '/native.io/']) {
    const response = await fetch(`${own.url}${path}?EIO=4&transport=polling`);
    assert.equal(response.status, 429, path);
    assert.ok(response.headers.has('retry-after'));
  }
});

for (const transport of TRANSPORTS) {
  test(`what is larger than max_payload is not taken, ${transport}`, async (t) => {
    const own = await start(t, { config: '[socket]\nmax_payload = "10kB"\n' });
    const socket = await native(t, { transports: [transport] }, own);
    const value = 'x'.repeat(9_900);
    assert.equal(await ask(socket, 'echo', value), value);
    socket.emit('echo', 'x'.repeat(10_001));
    assert.match(await disconnected(socket), /^transport /);
  });
}

test('the handshake says what mixlab.toml does', async (t) => {
  const own = await start(t, { config: '[socket]\nping_interval = "3s"\nping_timeout = "2s"\nmax_payload = "10kB"\n' });
  const response = await fetch(`${own.url}/native.io/?EIO=4&transport=polling`);
  const { pingInterval, pingTimeout, maxPayload, upgrades } = JSON.parse((await response.text()).slice(1));
  assert.deepEqual([pingInterval, pingTimeout, maxPayload, upgrades], [3000, 2000, 10_000, ['websocket']]);
  assert.equal(response.headers.get('cache-control'), 'no-store');
});

test('a client that stops reading is evicted', async (t) => {
  const own = await start(t, { config: '[socket]\nwrite_timeout = "300ms"\n' });
  const count = async () => (await own.api('GET', '/api/v1/clients/count')).body.count;
  const stalled = await rawSocket(t, own, { ...NATIVE, auth: { token: token({ sub: 1, role: 'crowd' }) } });
  stalled.ws.pause();
  const load = JSON.stringify('x'.repeat(900_000));
  await until(async () => {
    await own.api('POST', '/api/v1/roles/crowd/events/load', load);
    return (await count()) === 0;
  });
});

test('requests that make no sense are refused', async () => {
  for (const [query, status] of [
    ['EIO=3&transport=polling', 400],
    ['transport=polling', 400],
    ['EIO=4', 400],
    ['EIO=4&transport=websocket', 400],
    ['EIO=4&transport=carrier-pigeon', 400],
    ['EIO=4&transport=polling&sid=nobody', 400],
    ['EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA', 400],
  ]) {
    const response = await fetch(`${server.url}/native.io/?${query}`);
    assert.equal(response.status, status, query);
  }
});

test('a client that never asks for a namespace goes, and one whose upgrade fails', async (t) => {
  const own = await start(t, { config: '[socket]\nconnect_timeout = "300ms"\nmax_sessions = 2\n' });
  const silent = await rawPolling(own, NATIVE);
  await until(async () => (await silent.get()).status === 400);
  const failing = await rawPolling(own, NATIVE);
  await failing.post('40');
  const upgrade = new WebSocket(failing.url.replace('http', 'ws').replace('polling', 'websocket'));
  upgrade.on('open', () => upgrade.send('nonsense')).on('error', () => {});
  await until(async () => (await failing.get()).status === 400);
  await until(async () => (await own.api('GET', '/api/v1/clients/count')).body.count === 0);
});

// The end

/** Ends the program, and checks that it waited for nothing in vain. */
async function stopCleanly(own) {
  assert.equal(await own.stop({ signal: 'SIGINT' }), 0);
  assert.doesNotMatch(own.log(), /did not end in time|panicked/);
}

for (const transport of [...TRANSPORTS, 'upgrade']) {
  const transports = transport === 'upgrade' ? ['polling', 'websocket'] : [transport];

  test(`native clients see the transport close and come back to the next server, ${transport}`, async (t) => {
    const first = await start(t);
    const socket = open(t, first, { ...NATIVE, transports, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
    await until(() => socket.connected);
    if (transport === 'upgrade') await until(() => socket.io.engine.transport.name === 'websocket');
    assert.equal(await ask(socket, 'echo', 'first'), 'first');
    await stopCleanly(first);
    assert.match(await disconnected(socket), /^transport /);
    assert.equal(socket.active, true, 'it goes on trying');
    await start(t, { listen: first.address });
    await until(() => socket.connected);
    assert.equal(await ask(socket, 'echo', 'second'), 'second');
  });
}

test('the handlers of native clients hear of the end before the program ends', async (t) => {
  const own = await start(t);
  const sockets = [];
  for (let i = 0; i < 20; i++) {
    const transports = [['websocket'], ['polling'], ['polling', 'websocket']][i % 3];
    sockets.push(await native(t, { transports }, own));
  }
  await stopCleanly(own);
  assert.equal(own.output().match(/^a client left: /gm)?.length, sockets.length, own.output());
});

test('native sessions of any kind do not hold up the end', async (t) => {
  const own = await start(t);
  for (let i = 0; i < 20; i++) await native(t, { transports: [TRANSPORTS[i % 2]] }, own);
  const silent = await rawPolling(own, NATIVE);
  // The first ping comes at once here, and nothing after it.
  assert.equal((await silent.get()).text, '2');
  const poll = silent.get().catch((error) => error);
  await own.api('GET', '/healthz');
  await stopCleanly(own);
  await poll;
});
