// How the server ends, and under which conditions it does not start.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { ask, connect, disconnected, nextEvent, open, received, TRANSPORTS } from '../support/client.mjs';
import { plugin } from '../support/plugins.mjs';
import { rawPolling, rawSocket } from '../support/raw.mjs';
import { API_KEY, makeFolder, ROOT, startServer } from '../support/server.mjs';
import { head, tcp } from '../support/tcp.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

/** Ends the server, and checks that it waited for nothing in vain. */
async function stopCleanly(server, options) {
  assert.equal(await server.stop(options), 0);
  assert.doesNotMatch(server.log(), /did not end in time|panicked/);
}

/** Not `io server disconnect`, after which a client stays away. */
function assertCutOff(reason, transport) {
  // A client that is just between two polls finds nobody there.
  const reasons = transport === 'polling' ? ['transport close', 'transport error'] : ['transport close'];
  assert.ok(reasons.includes(reason), reason);
}

for (const signal of ['SIGTERM', 'SIGINT']) {
  test(`${signal} ends an idle server with exit code 0`, async (t) => {
    const server = await startServer(t, { plugins: ['echo'] });
    await stopCleanly(server, { signal });
    await assert.rejects(fetch(`${server.url}/healthz`), 'the port is closed');
  });
}

for (const transport of TRANSPORTS) {
  test(`clients see the transport close and come back to the next server, ${transport}`, async (t) => {
    const options = { plugins: ['echo'] };
    const first = await startServer(t, options);
    const socket = open(t, first, {
      token: token({ sub: 'loyal' }),
      transports: [transport],
      reconnection: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 50,
    });
    await nextEvent(socket, 'authenticated');
    const id = socket.id;

    await stopCleanly(first);
    assertCutOff(await disconnected(socket), transport);
    assert.equal(socket.active, true, 'it goes on trying');

    const second = await startServer(t, { ...options, listen: first.address });
    await nextEvent(socket, 'authenticated');
    assert.notEqual(socket.id, id);
    assert.equal(await ask(socket, 'echo', 'back'), 'back');
    assert.deepEqual((await second.api('POST', '/api/v1/users/loyal/notifications', {})).body, { delivered: 1 });
  });
}

test('many clients at once do not hold up the end', async (t) => {
  const server = await startServer(t, { plugins: ['echo'] });
  const transport = (i) => TRANSPORTS[i % 2];
  const sockets = await Promise.all(
    [...Array(60).keys()].map((i) => connect(t, server, { transports: [transport(i)] })),
  );
  await stopCleanly(server);
  for (const [i, socket] of sockets.entries()) assertCutOff(await disconnected(socket), transport(i));
});

test('a long poll that is open does not hold up the end', async (t) => {
  const server = await startServer(t, { plugins: ['echo'] });
  const session = await rawPolling(server);
  await session.post('40');
  await session.packet(/^40\{/);
  const poll = session.get().catch((error) => error);
  await stopCleanly(server);
  const answer = await poll;
  // Clients in other languages take the packet `1` for the server's will, and stay away.
  assert.ok(answer instanceof Error || answer.status === 400, JSON.stringify(answer));
});

const HALF_REQUESTS = {
  nothing: '',
  'a request, and then nothing': head('GET', '/healthz'),
  'half a head': 'GET /healthz HT',
  'a request, and half of another': `${head('GET', '/healthz')}GET /healthz HT`,
  'half a body': `${head('POST', '/api/v1/payments/updates', `authorization: Bearer ${API_KEY}`, 'content-length: 9')}{"a"`,
  'half a polling request': head('POST', '/socket.io/?EIO=4&transport=polling', 'content-length: 9'),
};

for (const [what, text] of Object.entries(HALF_REQUESTS)) {
  test(`a connection that sends ${what} does not hold up the end`, async (t) => {
    const server = await startServer(t);
    const connection = await tcp(t, server, text);
    // Accepted after the other, as the kernel hands them over in order.
    await server.api('GET', '/healthz');
    if (text.includes('/healthz HTTP')) await until(() => connection.received());
    await stopCleanly(server);
  });
}

test('an event under way is finished and answered before the end', async (t) => {
  const server = await startServer(t, { plugins: [{ wasm: 'slow', budget: { cpu: '5s', wall: '10s' } }] });
  const socket = await connect(t, server);
  const answer = ask(socket, 'slow', 700);
  await until(async () => (await plugin(server, 'slow')).calls === 1, { message: 'the call has begun' });
  await stopCleanly(server);
  assert.equal(await answer, 700);
  assert.equal(await disconnected(socket), 'transport close');
});

test('the hooks of plugins run for every connection that the end cuts off', async (t) => {
  const server = await startServer(t, { plugins: [{ wasm: 'greets', grants: ['emit', 'room:greets'] }] });
  const sockets = [await connect(t, server), await connect(t, server), await connect(t, server)];
  const ids = await Promise.all(sockets.map((socket) => ask(socket, 'greets')));
  await stopCleanly(server);
  for (const id of ids) assert.match(server.log(), new RegExp(`${id} has left: server shutting down`));
  // Those that leave first are announced to those that are still there.
  for (const [id, reason] of sockets.flatMap((socket) => received(socket, 'greets:left'))) {
    assert.ok(ids.includes(id) && reason === 'server shutting down', `${id}: ${reason}`);
  }
});

test('a hook that never returns does not hold up the end', async (t) => {
  const server = await startServer(t, { plugins: ['on_disconnect_loops'] });
  await connect(t, server);
  await connect(t, server, { transports: ['polling'] });
  await stopCleanly(server);
  assert.equal(server.log().match(/on-disconnect"/g)?.length, 2, server.log());
});

test('a plugin that loops does not hold up the end', async (t) => {
  const server = await startServer(t, { plugins: ['handler_loops'] });
  const socket = await connect(t, server);
  const answer = ask(socket, 'handler_loops').catch((error) => ({ error }));
  await until(() => socket.io.engine.writeBuffer.length === 0);
  await stopCleanly(server);
  assert.ok((await answer).error);
});

test('a client that stops reading does not hold up the end', async (t) => {
  const server = await startServer(t, { config: '[socket]\nwrite_timeout = "300ms"' });
  const stalled = await rawSocket(t, server, { auth: { token: token({ sub: 1, role: 'crowd' }) } });
  stalled.ws.pause();
  const load = JSON.stringify('x'.repeat(900_000));
  for (let i = 0; i < 20; i++) await server.api('POST', '/api/v1/roles/crowd/events/load', load);
  await stopCleanly(server);
});

// Conditions to start

const PUBLIC = ['0.0.0.0:0', '[::]:0'];

for (const address of PUBLIC) {
  for (const [name, secret] of [
    ['no', undefined],
    ['an empty', ''],
    ['a short', 'x'.repeat(31)],
    ['a blank', ' '.repeat(40)],
    ['a line break for a', '\n'],
  ]) {
    test(`with ${name} secret the server refuses to listen on ${address}`, async (t) => {
      const home = makeFolder(t, { env: { JWT_SECRET: secret } });
      const { code, stdout, stderr } = await home.mixlab('up', '--listen', address);
      assert.ok(code > 0, `${code}`);
      assert.equal(stdout, '');
      assert.match(stderr, /^error: .*JWT_SECRET/m);
      assert.doesNotMatch(stderr, /panicked|stack backtrace/);
    });
  }
}

test('the same address in mixlab.toml or the environment is refused alike', async (t) => {
  for (const options of [{ config: 'listen = "0.0.0.0:0"' }, { env: { MIXLAB_LISTEN: '0.0.0.0:0' } }]) {
    const home = makeFolder(t, { ...options, env: { ...options.env, JWT_SECRET: undefined } });
    const { code, stderr } = await home.mixlab('up');
    assert.ok(code > 0, `${code}`);
    assert.match(stderr, /^error: .*0\.0\.0\.0:0.*JWT_SECRET/m);
  }
});

test('with a secret the server listens on all addresses', async (t) => {
  const server = await startServer(t, { listen: '0.0.0.0:0' });
  const local = { ...server, url: `http://127.0.0.1:${server.port}` };
  assert.equal((await fetch(`${local.url}/healthz`)).status, 200);
  const socket = await connect(t, local, { token: token({ sub: 1 }) });
  await nextEvent(socket, 'authenticated');
  assert.ok(!server.output().includes('eyJ'), 'and prints no tokens');
});

test('a port that is taken is said, with exit code 1', async (t) => {
  const other = createServer().listen(0, '127.0.0.1');
  t.after(() => other.close());
  await once(other, 'listening');
  const address = `127.0.0.1:${other.address().port}`;
  const { code, stderr } = await makeFolder(t).mixlab('up', '--listen', address);
  assert.equal(code, 1);
  assert.ok(stderr.includes(`cannot listen on ${address}`), stderr);
});

const WEB = `[web]\nroot = ${JSON.stringify(`${ROOT}examples/web`)}`;
const tryOut = (t) => startServer(t, { config: WEB, env: { JWT_SECRET: undefined, MIXLAB_API_KEY: undefined } });

/** What a server without a secret prints: users with their links and tokens, and the key. */
async function printed(server) {
  const output = await until(() => server.output().match(/backends\n +key +\S+\n/) && server.output());
  const users = [...output.matchAll(/^ +(\w+) \((\w+)\)\n +page +(\S+)\n +token +(\S+)$/gm)];
  return {
    users: users.map(([, name, role, page, userToken]) => ({ name, role, page, userToken })),
    key: output.match(/backends\n +key +(\S+)\n/)[1],
  };
}

test('without a secret, on this machine, the server prints tokens, links and a key that work', async (t) => {
  const server = await tryOut(t);
  const { users, key } = await printed(server);
  assert.deepEqual(
    users.map(({ name, role }) => [name, role]),
    [
      ['ada', 'admin'],
      ['grace', 'student'],
    ],
  );
  for (const { name, role, page, userToken } of users) {
    const socket = await connect(t, server, { token: userToken });
    const [{ success, user }] = await nextEvent(socket, 'authenticated');
    assert.deepEqual([success, user.username, user.roles], [true, name, [role]]);
    assert.deepEqual(await ask(socket, 'subscribe:payments'), { success: true });

    const link = new URL(page);
    assert.equal(link.origin, server.url);
    const fragment = new URLSearchParams(link.hash.slice(1));
    assert.deepEqual(Object.fromEntries(fragment), { token: userToken, key });
    const response = await fetch(link);
    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-type'), /^text\/html/);
  }
  const push = await server.api('POST', '/api/v1/payments/updates', {}, key);
  assert.deepEqual(push.body, { delivered: 2 });
  assert.equal((await server.api('GET', '/api/v1/plugins', undefined, key)).status, 200);
  for (const secret of [key, ...users.map((user) => user.userToken)]) assert.ok(!server.log().includes(secret));
});

test('the secret of one run is not that of the next', async (t) => {
  const [first, second] = [await tryOut(t), await tryOut(t)];
  const [{ users, key }, other] = [await printed(first), await printed(second)];
  assert.notEqual(key, other.key);
  await assert.rejects(connect(t, second, { token: users[0].userToken }), { message: 'unauthorized' });
  assert.equal((await second.api('GET', '/api/v1/clients/count', undefined, key)).status, 401);
  await assert.rejects(connect(t, second, { token: token({ sub: 1 }) }), { message: 'unauthorized' });
});
