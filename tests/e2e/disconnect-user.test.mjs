// Backends end the connections of a user.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { connect, disconnected, nextEvent, TRANSPORTS } from '../support/client.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const server = await startServer({ after }, { plugins: [CONFORMANCE], recovery: true });

const end = (id, body) => server.api('POST', `/api/v1/users/${encodeURIComponent(id)}/disconnect`, body);

for (const transport of TRANSPORTS) {
  test(`all connections of a user end, and nobody else's, ${transport}`, async (t) => {
    const sub = `ends-${transport}`;
    const options = { transports: [transport], reconnection: true, reconnectionDelay: 1 };
    const its = [await connect(t, server, { token: token({ sub }), ...options })];
    its.push(await connect(t, server, { token: token({ sub }), ...options }));
    its.push(await connect(t, server, { token: token({ sub }), namespace: '/custom', ...options }));
    const other = await connect(t, server, { token: token({ sub: `${sub}-not` }), ...options });
    const nobody = await connect(t, server, options);
    const { status, body } = await end(sub);
    assert.deepEqual([status, body], [200, { disconnected: 3 }]);
    for (const socket of its) {
      assert.equal(await disconnected(socket), 'io server disconnect');
      assert.equal(socket.active, false, 'a stock client stays away');
    }
    assert.deepEqual((await end(sub)).body, { disconnected: 0 });
    assert.ok(other.connected && nobody.connected);
    // With a token that is good it may come back, but not to what it had.
    const { id } = its[0];
    its[0].connect();
    await until(() => its[0].connected);
    assert.ok(its[0].id !== id && !its[0].recovered);
  });

  test(`the transport of its clients ends where that is asked for, ${transport}`, async (t) => {
    const sub = `closes-${transport}`;
    const options = { transports: [transport], forceNew: false, multiplex: true };
    const main = await connect(t, server, { token: token({ sub }), ...options });
    const beside = main.io.socket('/custom', {});
    beside.on('disconnect', (reason) => (beside.endReason = reason));
    beside.connect();
    await until(() => beside.connected);
    assert.deepEqual((await end(sub, { close: true })).body, { disconnected: 1 });
    assert.equal(await disconnected(main), 'io server disconnect');
    assert.ok(await disconnected(beside), 'the anonymous connection over the same transport');
    await until(() => main.io.engine.readyState === 'closed');
  });
}

test('a connection that dropped is not given back either', async (t) => {
  for (const ended of [false, true]) {
    const sub = `dropped-${ended}`;
    const socket = await connect(t, server, { token: token({ sub }) });
    await nextEvent(socket, 'authenticated');
    const { id } = socket;
    socket.io.engine.close();
    await until(async () => (await server.api('POST', `/api/v1/users/${sub}/notifications`, {})).body.delivered === 0);
    if (ended) assert.deepEqual((await end(sub)).body, { disconnected: 0 });
    socket.connect();
    await until(() => socket.connected);
    assert.deepEqual([socket.recovered ?? false, socket.id === id], [!ended, !ended]);
  }
});

test('a user is the same by number and by text', async (t) => {
  const sockets = [await connect(t, server, { token: token({ sub: 4712 }) })];
  sockets.push(await connect(t, server, { token: token({ id: '4712' }) }));
  assert.deepEqual((await end(4712)).body, { disconnected: 2 });
  await Promise.all(sockets.map(disconnected));
});

test('what was sent before the end arrives before it', async (t) => {
  const socket = await connect(t, server, { token: token({ sub: 'last' }) });
  await server.api('POST', '/api/v1/users/last/notifications', { title: 'bye' });
  await end('last');
  assert.equal((await nextEvent(socket, 'notification'))[0].title, 'bye');
  await disconnected(socket);
});

test('the body is an object with what is known, or nothing', async () => {
  for (const body of ['', '{}', ' {} ', '{"close":true}', '{"close":false}']) {
    assert.equal((await end('nobody', body)).status, 200, body);
  }
  for (const body of [' ', '[]', '[true]', 'true', 'null', '{"close":1}', '{"close":null}', '{"clsoe":true}', '{"close":true,"close":false}', '{']) {
    const { status, body: answer } = await end('nobody', body);
    assert.deepEqual([status, answer.error.code], [400, 'invalid_payload'], body);
  }
});
