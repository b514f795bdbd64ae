// What plugins learn of the request with which a client connected.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TRANSPORTS, ask, connect } from '../support/client.mjs';
import { editConfig, nextArgument, reload } from '../support/plugins.mjs';
import { http } from '../support/protocol.mjs';
import { startServer } from '../support/server.mjs';
import { signText, seconds, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const OTHERS = ['payments', 'notify', 'role:*', 'clients', 'room:*', 'emit', 'ask', 'find', 'disconnect'];

/** Without it, no plugin may read cookies of clients that need no token. */
const config = '[cors]\ncheck_origins = true\n';

const serve = (t, ...grants) =>
  startServer(t, { config, plugins: [{ wasm: 'capabilities', grants: [...OTHERS, 'handshake', ...grants] }] });

const setGrants = async (server, grants) => {
  editConfig(server, (toml) => toml.replace(/^grants = .*$/m, `grants = ${JSON.stringify(grants)}`));
  await reload(server);
};

const handshake = async (socket) => (await ask(socket, 'capabilities', [{ call: 'handshake' }]))[0];

const HEADERS = {
  'X-Tenant': 'studio',
  'x-trace': 'a',
  'user-agent': 'test',
  authorization: 'Bearer secret',
  cookie: 'id=secret',
};

for (const transport of [...TRANSPORTS.map((name) => [name]), ['polling', 'websocket']]) {
  test(`the query is known, without the protocol's own: ${transport}`, async (t) => {
    const server = await serve(t);
    const query = { room: 'a b', '&c': '&=?ü', empty: '', b64: 1 };
    const socket = await connect(t, server, { transports: transport, query, extraHeaders: HEADERS });
    await until(() => socket.io.engine.transport.name === transport.at(-1));
    const { granted } = await handshake(socket);
    assert.deepEqual(granted.query, [['room', 'a b'], ['&c', '&=?ü'], ['empty', '']]);
    assert.deepEqual(granted.headers, [], 'no header is granted');
  });

  test(`headers are known as far as they are granted: ${transport}`, async (t) => {
    const server = await serve(t, 'header:X-*', 'header:*o*');
    const socket = await connect(t, server, { transports: transport, extraHeaders: HEADERS });
    const { granted } = await handshake(socket);
    const headers = Object.fromEntries(granted.headers);
    assert.deepEqual([headers['x-tenant'], headers['x-trace']], ['studio', 'a']);
    assert.equal(headers.host, new URL(server.url).host);
    assert.ok(!('user-agent' in headers), 'it is not granted');
    assert.ok(!('authorization' in headers) && !('cookie' in headers), 'no star covers what identifies a client');
  });
}

test('what identifies a client is granted by its name', async (t) => {
  const server = await serve(t, 'header:Authorization', 'header:cookie');
  const socket = await connect(t, server, { extraHeaders: HEADERS });
  const { granted } = await handshake(socket);
  assert.deepEqual(granted.headers.toSorted(), [
    ['authorization', 'Bearer secret'],
    ['cookie', 'id=secret'],
  ]);
});

test('what is taken away is denied at the next call', async (t) => {
  const server = await serve(t, 'header:x-tenant');
  const socket = await connect(t, server, { query: { a: 1 }, extraHeaders: HEADERS });
  assert.deepEqual(await handshake(socket), { granted: { query: [['a', '1']], headers: [['x-tenant', 'studio']] } });
  await setGrants(server, [...OTHERS, 'handshake']);
  assert.deepEqual(await handshake(socket), { granted: { query: [['a', '1']], headers: [] } });
});

test('nothing is kept for which no plugin has the grant', async (t) => {
  const server = await serve(t, 'header:x-trace');
  const before = await connect(t, server, { query: { a: 1 }, extraHeaders: HEADERS });
  await setGrants(server, [...OTHERS, 'handshake', 'header:x-*']);
  assert.deepEqual(await handshake(before), { granted: { query: [['a', '1']], headers: [['x-trace', 'a']] } });
  const after = await connect(t, server, { extraHeaders: HEADERS });
  assert.deepEqual((await handshake(after)).granted.headers.length, 2);
});

test('a plugin without the grant for it learns of no header that another one may read', async (t) => {
  const server = await startServer(t, {
    config,
    plugins: [
      { wasm: 'capabilities', grants: [...OTHERS, 'handshake'] },
      { wasm: 'dismisses', grants: ['emit', 'handshake', 'disconnect', 'header:*', 'header:cookie'] },
    ],
  });
  const socket = await connect(t, server, { query: { a: 1 }, extraHeaders: HEADERS });
  assert.deepEqual(await nextArgument(socket, 'dismisses:query'), [['a', '1']], 'in on-connect, too');
  assert.deepEqual(await handshake(socket), { granted: { query: [['a', '1']], headers: [] } });
});

test('more than is kept is refused', async (t) => {
  const server = await serve(t);
  const open = (size) => http(server, { EIO: 4, transport: 'polling', x: 'x'.repeat(size) });
  assert.equal((await open(16_000)).status, 200);
  const { status, body } = await open(17_000);
  assert.equal(status, 431);
  assert.deepEqual(JSON.parse(body), { code: 3, message: 'Bad request' });
  editConfig(server, (toml) => toml.replace(/^name = .*$/m, '$&\nenabled = false'));
  await reload(server);
  assert.equal((await open(17_000)).status, 200, 'nothing is kept, so nothing is too large');
});

/** The claims that the plugin reads, by their names. */
const claims = async (socket) => {
  const { granted } = await handshake(socket);
  return Object.fromEntries(granted.headers.filter(([name]) => name.startsWith('claim:')));
};

for (const transport of TRANSPORTS) {
  test(`claims are known as far as they are granted, to the letter: ${transport}`, async (t) => {
    const server = await serve(t, 'claim:tenant', 'claim:https://example.com/*', 'header:*');
    const json = `{"sub":"1","exp":${seconds(60)},"tenant":{"b":1.10, "a":[null]},"https://example.com/plan":"é","secret":1}`;
    const socket = await connect(t, server, { transports: [transport], token: signText(json) });
    assert.deepEqual(await claims(socket), {
      'claim:tenant': '{"b":1.10, "a":[null]}',
      'claim:https://example.com/plan': '"é"',
    });
    assert.deepEqual(await claims(await connect(t, server, { transports: [transport] })), {}, 'it is nobody');
  });
}

test('a new token brings new claims, and another user has none of the former', async (t) => {
  const server = await serve(t, 'claim:tenant', 'claim:plan');
  const socket = await connect(t, server, { token: token({ sub: '1', tenant: 'a', plan: 1 }) });
  assert.deepEqual(await claims(socket), { 'claim:tenant': '"a"', 'claim:plan': '1' });
  await ask(socket, 'authenticate', token({ sub: '2', tenant: 'b' }));
  assert.deepEqual(await claims(socket), { 'claim:tenant': '"b"' });
});

test('no client and no star of headers makes a claim', async (t) => {
  const server = await serve(t, 'claim:tenant', 'header:*');
  const query = { 'claim:tenant': '"forged"' };
  const socket = await connect(t, server, { query, auth: { 'claim:tenant': '"forged"' } });
  assert.deepEqual(await claims(socket), {});
  const narrow = await serve(t, 'header:*');
  assert.deepEqual(await claims(await connect(t, narrow, { token: token({ sub: '1', tenant: 'a' }) })), {});
});

test('claims that are granted later come with the next token, and those that are taken away go at once', async (t) => {
  const server = await serve(t);
  const mine = token({ sub: '1', tenant: 'a' });
  const socket = await connect(t, server, { token: mine });
  await setGrants(server, [...OTHERS, 'handshake', 'claim:tenant']);
  assert.deepEqual(await claims(socket), {});
  await ask(socket, 'authenticate', mine);
  assert.deepEqual(await claims(socket), { 'claim:tenant': '"a"' });
  await setGrants(server, [...OTHERS, 'handshake']);
  assert.deepEqual(await claims(socket), {});
});

test('a client that is back has the claims of the token that it came back with', async (t) => {
  const server = await startServer(t, { config, recovery: true, plugins: [{ wasm: 'capabilities', grants: [...OTHERS, 'handshake', 'claim:tenant'] }] });
  let tenant = 'before';
  const auth = (answer) => answer({ token: token({ sub: '1', tenant }) });
  const socket = await connect(t, server, { auth, reconnection: true, reconnectionDelay: 10 });
  assert.deepEqual(await claims(socket), { 'claim:tenant': '"before"' });
  tenant = 'after';
  socket.io.engine.transport.ws.terminate();
  await until(() => !socket.connected);
  await until(() => socket.connected);
  assert.equal(socket.recovered, true);
  assert.deepEqual(await claims(socket), { 'claim:tenant': '"after"' });
});

test('a token with more granted claims than are kept is refused', async (t) => {
  const server = await serve(t, 'claim:tenant');
  // The name and two quotes count.
  const of = (length) => token({ sub: '1', tenant: 'x'.repeat(length), other: 'x'.repeat(6000) });
  await connect(t, server, { token: of(4096 - 8) });
  await assert.rejects(connect(t, server, { token: of(4096 - 7) }), /unauthorized/);
});
