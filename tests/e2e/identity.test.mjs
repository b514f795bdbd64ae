// Who a connection belongs to: tokens in the handshake, tokens later, and tokens that are no good.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, nextEvent, open, received, TRANSPORTS } from '../support/client.mjs';
import { editConfig, reload } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { seconds, sign, signText, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const server = await startServer({ after }, { config: '[log]\nlevel = "trace"' });
const closed = await startServer({ after }, { config: '[auth]\nanonymous = false' });

const ADA = { sub: '1', username: 'ada', role: 'admin' };
const GRACE = { sub: '2', username: 'grace', roles: ['student', 'tutor'] };

/** How many sockets a push to the room of a user or a role reaches. */
const notified = async (id, on = server) =>
  (await on.api('POST', `/api/v1/users/${id}/notifications`, { title: id })).body.delivered;
const inRole = async (role, on = server) =>
  (await on.api('POST', `/api/v1/roles/${role}/events/hello`, { role })).body.delivered;

const accepted = (id, username, roles) => ({
  success: true,
  user: { id, username, role: roles[0] ?? null, roles },
});

// Claims and what the client is told of them.
const CLAIMS = {
  'a string as sub': [{ sub: '42', username: 'ada', role: 'admin' }, accepted('42', 'ada', ['admin'])],
  'a number as sub': [{ sub: 42, username: 'ada', role: 'admin' }, accepted(42, 'ada', ['admin'])],
  'a number as id': [{ id: 7, name: 'ada', roles: ['a', 'b'] }, accepted(7, 'ada', ['a', 'b'])],
  'a string as userId': [{ userId: 'u-7' }, accepted('u-7', null, [])],
  'digits in a string': [{ id: '007' }, accepted('007', null, [])],
  'sub before id before userId': [{ userId: 3, id: 2, sub: 1 }, accepted(1, null, [])],
  'id before userId': [{ userId: 3, id: 2 }, accepted(2, null, [])],
  'username before name': [{ sub: 1, name: 'b', username: 'a' }, accepted(1, 'a', [])],
  'role and roles': [{ sub: 1, role: 'a', roles: ['b', 'a'] }, accepted(1, null, ['a', 'b'])],
  'a list as role': [{ sub: 1, role: ['a', 'b'] }, accepted(1, null, ['a', 'b'])],
  'no role': [{ sub: 1, role: null, roles: [] }, accepted(1, null, [])],
  'names in any script': [{ sub: 'ü/日本', username: '😀 "x"', role: 'ré' }, accepted('ü/日本', '😀 "x"', ['ré'])],
};

for (const transport of TRANSPORTS) {
  for (const [name, [claims, expected]] of Object.entries(CLAIMS)) {
    test(`a handshake's token is answered with authenticated: ${name}, ${transport}`, async (t) => {
      const socket = await connect(t, server, { token: token(claims), transports: [transport] });
      assert.deepEqual(await nextEvent(socket, 'authenticated'), [expected]);
    });
  }
}

for (const [name, [claims, expected]] of Object.entries(CLAIMS)) {
  test(`authenticate answers as the handshake does: ${name}`, async (t) => {
    const socket = await connect(t, server);
    assert.deepEqual(await ask(socket, 'authenticate', token(claims)), expected);
    assert.deepEqual(await nextEvent(socket, 'authenticated'), [expected]);
  });
}

test('authenticate works without an ack', async (t) => {
  const socket = await connect(t, server);
  socket.emit('authenticate', token(ADA));
  assert.deepEqual(await nextEvent(socket, 'authenticated'), [accepted('1', 'ada', ['admin'])]);
});

test('a user is reached by number and by text alike', async (t) => {
  const number = await connect(t, server, { token: token({ sub: 4711 }) });
  const text = await connect(t, server, { token: token({ id: '4711' }) });
  assert.equal(await notified(4711), 2);
  for (const socket of [number, text]) assert.equal((await nextEvent(socket, 'notification'))[0].title, 4711);
});

test('the claims that are read can be configured', async (t) => {
  const config = `[auth]
    id_claims = ["https://example.com/id", "uid"]
    username_claims = ["preferred_username"]
    role_claims = ["groups"]
    issuer = "https://login.example.com"
    audience = "mixlab"`;
  const other = await startServer(t, { config });
  const good = { iss: 'https://login.example.com', aud: ['mixlab', 'more'], uid: 5, sub: 6 };
  const socket = await connect(t, other, {
    token: token({ ...good, preferred_username: 'ada', groups: ['staff'], role: 'admin' }),
  });
  assert.deepEqual(await nextEvent(socket, 'authenticated'), [accepted(5, 'ada', ['staff'])]);
  for (const claims of [
    { ...good, iss: 'https://evil.example.com' },
    { ...good, aud: 'other' },
    { ...good, aud: undefined },
    { ...good, iss: undefined },
    { ...good, uid: undefined },
  ]) {
    await assert.rejects(
      connect(t, other, { token: token(claims) }),
      { message: 'unauthorized' },
      JSON.stringify(claims),
    );
  }
});

// Changes of identity

test('a socket may authenticate again in place, and is in its rooms once', async (t) => {
  const socket = await connect(t, server, { token: token({ sub: 'again', role: 'againer' }) });
  for (let i = 0; i < 3; i++) {
    assert.equal((await ask(socket, 'authenticate', token({ sub: 'again', role: 'againer' }))).success, true);
  }
  assert.equal(await notified('again'), 1);
  assert.equal(await inRole('againer'), 1);
  await nextEvent(socket, 'hello');
  assert.equal(received(socket, 'notification').length, 1);
});

for (const transport of TRANSPORTS) {
  test(`another identity leaves the rooms of the old one, ${transport}`, async (t) => {
    // Of their own: clients of another test may not be gone yet.
    const [former, next, ex, kept, fresh] = ['old', 'new', 'ex', 'kept', 'fresh'].map((name) => `${name}-${transport}`);
    const socket = await connect(t, server, {
      token: token({ sub: former, roles: [ex, kept] }),
      transports: [transport],
    });
    const other = await connect(t, server, { token: token({ sub: former, roles: [ex] }) });
    assert.equal(await notified(former), 2);
    assert.equal((await nextEvent(socket, 'notification'))[0].title, former);

    assert.equal((await ask(socket, 'authenticate', token({ sub: next, roles: [kept, fresh] }))).success, true);
    assert.deepEqual(await Promise.all([notified(former), inRole(ex)]), [1, 1], 'the other socket alone');
    assert.deepEqual([await notified(next), await inRole(kept), await inRole(fresh)], [1, 1, 1]);

    assert.equal((await nextEvent(socket, 'notification'))[0].title, next, 'nothing for the old user came between');
    assert.deepEqual(
      [await nextEvent(socket, 'hello'), await nextEvent(socket, 'hello')],
      [[{ role: kept }], [{ role: fresh }]],
    );
    assert.equal((await nextEvent(other, 'notification'))[0].title, former);
  });
}

test('a refused authenticate keeps the identity', async (t) => {
  const socket = await connect(t, server, { token: token({ sub: 'keeper', role: 'keeps' }) });
  for (const bad of [
    'garbage',
    token({ sub: 'thief', exp: seconds(-60) }),
    sign({ sub: 'thief' }, { secret: 'wrong' }),
  ]) {
    assert.ok((await ask(socket, 'authenticate', bad)).error);
  }
  assert.deepEqual([await notified('keeper'), await inRole('keeps'), await notified('thief')], [1, 1, 0]);
  assert.equal(socket.connected, true);
});

test('a user that leaves is reached no more', async (t) => {
  const socket = await connect(t, server, { token: token({ sub: 'leaver' }) });
  assert.equal(await notified('leaver'), 1);
  socket.disconnect();
  await until(async () => (await notified('leaver')) === 0);
});

test('a token has at most 256 roles of at most 256 bytes', async (t) => {
  const roles = (count) => Array.from({ length: count }, (_, role) => `r${role}`);
  const socket = await connect(t, server, { token: token({ sub: 'many', roles: [...roles(256), ...roles(256)] }) });
  assert.deepEqual((await nextEvent(socket, 'authenticated'))[0].user.roles, roles(256));
  for (const refused of [roles(257), roles(30_000), ['r'.repeat(257)]]) {
    const { error } = await ask(socket, 'authenticate', token({ sub: 'many', roles: refused }));
    assert.deepEqual([error.code, error.message], ['unauthorized', 'the token is not valid']);
  }
  assert.equal(await notified('many'), 1, 'it is still who it was');
});

// Anonymous connections

test('without a token a client is anonymous, and is told of no identity', async (t) => {
  const socket = await connect(t, server);
  // What the host says of the identity would come before its answer to this.
  await ask(socket, 'unsubscribe:payments');
  assert.deepEqual(socket.collected, []);
});

const NO_TOKEN = {
  nothing: undefined,
  'an empty object': {},
  null: { token: null },
};

for (const [name, auth] of Object.entries(NO_TOKEN)) {
  const options = { auth: (answer) => answer(auth) };
  test(`${name} as auth is no token: let in where anonymous clients are`, async (t) => {
    assert.equal((await connect(t, server, options)).connected, true);
  });
  test(`${name} as auth is no token: refused where they are not`, async (t) => {
    await assert.rejects(connect(t, closed, options), { message: 'unauthorized' });
  });
}

for (const [name, auth] of Object.entries({ 'a bare text': 'x', 'a list': ['x'] })) {
  test(`${name} as auth is no CONNECT, as in Node: nobody is let in for it`, async (t) => {
    await assert.rejects(connect(t, server, { auth: (answer) => answer(auth) }), { message: 'transport close' });
  });
}

test('a server that refuses anonymous clients takes good tokens', async (t) => {
  const socket = await connect(t, closed, { token: token(ADA) });
  assert.deepEqual(await nextEvent(socket, 'authenticated'), [accepted('1', 'ada', ['admin'])]);
  assert.equal(await notified('1', closed), 1);
});

// Bad tokens

const [header, payload, signature] = token(ADA).split('.');
const claims = { exp: seconds(3600), ...ADA };

const BAD_TOKENS = {
  expired: [sign({ ...claims, exp: seconds(-60) }), 'token_expired'],
  'another key': [sign(claims, { secret: 'other-secret' }), 'unauthorized'],
  'an empty key': [sign(claims, { secret: '' }), 'unauthorized'],
  'expired and another key': [sign({ ...claims, exp: seconds(-60) }, { secret: 'other-secret' }), 'unauthorized'],
  'alg none': [sign(claims, { alg: 'none' }), 'unauthorized'],
  'alg none over a good signature': [
    `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.${signature}`,
    'unauthorized',
  ],
  HS384: [sign(claims, { alg: 'HS384' }), 'unauthorized'],
  HS512: [sign(claims, { alg: 'HS512' }), 'unauthorized'],
  'HS512 in the header only': [sign(claims, { header: { alg: 'HS512', typ: 'JWT' } }), 'unauthorized'],
  'an algorithm that nobody knows': [sign(claims, { header: { alg: 'XS1' } }), 'unauthorized'],
  'no algorithm': [sign(claims, { header: { typ: 'JWT' } }), 'unauthorized'],
  'no expiry': [sign(ADA), 'unauthorized'],
  'an expiry that is no number': [sign({ ...claims, exp: 'tomorrow' }), 'unauthorized'],
  'an expiry in milliseconds': [sign({ ...claims, exp: seconds(3600) * 1000 }), 'unauthorized'],
  'a negative expiry': [sign({ ...claims, exp: -1 }), 'unauthorized'],
  'an expiry that is null': [sign({ ...claims, exp: null }), 'unauthorized'],
  'a start that is no number': [sign({ ...claims, nbf: 'now' }), 'unauthorized'],
  'an extension that must be understood': [
    sign(claims, { header: { alg: 'HS256', crit: ['b64'], b64: true } }),
    'unauthorized',
  ],
  'no extension that must be understood': [sign(claims, { header: { alg: 'HS256', crit: [] } }), 'unauthorized'],
  'a name that is no text': [sign({ ...claims, username: { first: 'ada' } }), 'unauthorized'],
  'a role that is no text': [sign({ ...claims, role: { admin: true } }), 'unauthorized'],
  'roles of which one is no text': [sign({ ...claims, roles: ['admin', 7] }), 'unauthorized'],
  'a line break in a role': [sign({ ...claims, role: 'a\nb' }), 'unauthorized'],
  'a thousand roles': [sign({ ...claims, roles: Array.from({ length: 1000 }, (_, i) => `r${i}`) }), 'unauthorized'],
  'a claim that stands twice': [signText(`{"sub":"1","role":"user","role":"admin","exp":${seconds(60)}}`), 'unauthorized'],
  'not valid yet': [sign({ ...claims, nbf: seconds(600) }), 'unauthorized'],
  'no user id': [sign({ ...claims, sub: undefined }), 'unauthorized'],
  'an empty user id': [sign({ ...claims, sub: '' }), 'unauthorized'],
  'a fraction as user id': [sign({ ...claims, sub: 1.5 }), 'unauthorized'],
  'an object as user id': [sign({ ...claims, sub: { id: 1 } }), 'unauthorized'],
  'a line break in the user id': [sign({ ...claims, sub: 'a\nb' }), 'unauthorized'],
  'a user id of a kilobyte': [sign({ ...claims, sub: 'x'.repeat(1024) }), 'unauthorized'],
  'claims that are no object': [sign([1]), 'unauthorized'],
  'changed claims': [
    `${header}.${Buffer.from(JSON.stringify({ ...claims, sub: '2' })).toString('base64url')}.${signature}`,
    'unauthorized',
  ],
  'no signature': [`${header}.${payload}.`, 'unauthorized'],
  'two parts': [`${header}.${payload}`, 'unauthorized'],
  'Bearer before it': [`Bearer ${header}.${payload}.${signature}`, 'unauthorized'],
  garbage: ['garbage', 'unauthorized'],
  dots: ['...', 'unauthorized'],
  'an empty text': ['', 'unauthorized'],
  'a megabyte of text': ['x'.repeat(900_000), 'unauthorized'],
};

for (const [name, [bad, code]] of Object.entries(BAD_TOKENS)) {
  test(`a handshake's bad token is refused with ${code}: ${name}`, async (t) => {
    await assert.rejects(connect(t, server, { token: bad }), { message: code });
  });

  test(`authenticate refuses a bad token with ${code}: ${name}`, async (t) => {
    const socket = await connect(t, server);
    const { error } = await ask(socket, 'authenticate', bad);
    assert.deepEqual(error, { code, message: error.message, temporary: false });
    assert.match(error.message, /^the token /);
    assert.deepEqual(await nextEvent(socket, 'authenticated'), [{ success: false, error }]);
    assert.equal(await notified('1'), 0, 'nobody');

    socket.emit('authenticate', bad);
    assert.deepEqual(await nextEvent(socket, 'authenticated'), [{ success: false, error }], 'without an ack, too');
    await ask(socket, 'unsubscribe:payments');
    assert.deepEqual(socket.collected.map(({ name }) => name), ['authenticated', 'authenticated'], 'and nothing else');
  });
}

for (const bad of [42, true, {}, ['x']]) {
  test(`a token that is no text is refused: ${JSON.stringify(bad)}`, async (t) => {
    await assert.rejects(connect(t, server, { token: bad }), { message: 'unauthorized' });
  });
}

for (const args of [[], [42], [null], [{ token: token(ADA) }], [token(ADA), 'and more']]) {
  test(`authenticate takes one text and not ${JSON.stringify(args).slice(0, 20)}`, async (t) => {
    const socket = await connect(t, server);
    const { error } = await ask(socket, 'authenticate', ...args);
    assert.equal(error.code, 'invalid_payload');
    assert.deepEqual(await nextEvent(socket, 'authenticated'), [{ success: false, error }]);
  });
}

test('a refusal over polling has the same code', async (t) => {
  const options = { transports: ['polling'] };
  await assert.rejects(connect(t, server, { ...options, token: sign({ sub: 1, exp: seconds(-60) }) }), {
    message: 'token_expired',
  });
  await assert.rejects(connect(t, server, { ...options, token: 'garbage' }), { message: 'unauthorized' });
});

for (const transport of TRANSPORTS) {
  test(`a refused client does not try again by itself, ${transport}`, async (t) => {
    const socket = open(t, server, {
      token: 'garbage',
      transports: [transport],
      reconnection: true,
      reconnectionDelay: 1,
    });
    let connections = 0;
    socket.io.on('open', () => connections++);
    socket.io.on('reconnect_attempt', () => connections++);
    const refusal = await new Promise((resolve) => socket.once('connect_error', resolve));
    assert.equal(refusal.message, 'unauthorized');
    assert.equal(socket.active, false);
    await until(() => socket.io.engine.readyState === 'closed');
    // Long enough for a hundred attempts: a whole other client comes and goes.
    const other = await connect(t, server, { token: token(ADA) });
    await ask(other, 'authenticate', token(GRACE));
    other.disconnect();
    assert.equal(connections, 1);
  });
}

test('a refused client is in no room, and may come with a better token', async (t) => {
  const socket = open(t, server, { auth: { token: sign({ sub: 'late' }) } });
  await new Promise((resolve) => socket.once('connect_error', resolve));
  assert.equal(await notified('late'), 0);
  socket.auth = { token: token({ sub: 'late' }) };
  socket.connect();
  await nextEvent(socket, 'authenticated');
  assert.equal(await notified('late'), 1);
});

// Leeway

for (const [leeway, age, good] of [
  ['5s', 2, true],
  ['5s', 30, false],
  ['0s', 2, false],
  ['1h', 1800, true],
  ['1h', 7200, false],
]) {
  test(`with a leeway of ${leeway} a token that expired ${age} s ago is ${good ? 'good' : 'expired'}`, async (t) => {
    const lenient = await startServer(t, { config: `[auth]\nleeway = "${leeway}"` });
    const late = sign({ sub: 1, exp: seconds(-age) });
    if (good) assert.equal((await connect(t, lenient, { token: late })).connected, true);
    else await assert.rejects(connect(t, lenient, { token: late }), { message: 'token_expired' });
  });
}

test('where that is configured, a token need not expire', async (t) => {
  const lasting = await startServer(t, { config: '[auth]\nrequire_exp = false' });
  const socket = await connect(t, lasting, { token: sign(ADA) });
  assert.deepEqual(await nextEvent(socket, 'authenticated'), [accepted('1', 'ada', ['admin'])]);
  for (const exp of [seconds(-60), 'never', null]) {
    await assert.rejects(connect(t, lasting, { token: sign({ ...ADA, exp }) }), Error, `${exp}`);
  }
});

test('where that is configured, a connection outlives its token', async (t) => {
  const strict = await startServer(t, { config: '[auth]\nleeway = "0s"\nexpire_connections = false' });
  const short = sign({ sub: 'short', exp: seconds(4) });
  const socket = await connect(t, strict, { token: short });
  await until(() =>
    connect(t, strict, { token: short }).then(
      (again) => void again.disconnect(),
      (error) => error.message === 'token_expired',
    ),
  );
  await until(async () => (await notified('short', strict)) === 1);
  assert.equal(socket.connected, true);
});

// Tokens that are the plugins' business

test('where tokens are not checked, plugins get them, and nobody is anybody', async (t) => {
  const own = await startServer(t, {
    config: '[auth]\nenabled = false\n',
    env: { JWT_SECRET: undefined },
    plugins: [{ wasm: 'greets', grants: ['emit', 'room:greets'] }],
  });
  for (const auth of [{ token: '123' }, { token: token(ADA) }, { token: 7, more: [1] }, {}]) {
    const socket = await connect(t, own, { auth });
    assert.deepEqual(await nextEvent(socket, 'greets:welcome'), [auth]);
    const { error } = await ask(socket, 'authenticate', token(ADA));
    assert.equal(error.code, 'unknown_event');
    assert.deepEqual(received(socket, 'authenticated'), []);
  }
  assert.equal(await notified('1', own), 0);
  assert.doesNotMatch(own.output(), /token/, 'there are none to show');
});

test('whether tokens are checked changes with the file', async (t) => {
  const own = await startServer(t, { config: '[auth]\nenabled = true\n' });
  await assert.rejects(connect(t, own, { token: '123' }), { message: 'unauthorized' });
  editConfig(own, (text) => text.replace('true', 'false'));
  await reload(own);
  await connect(t, own, { token: '123' });
});

// The log

test('no token ever appears in the log', async (t) => {
  const used = [];
  const use = (text) => (used.push(text), text);
  const socket = await connect(t, server, { token: use(token({ sub: 'log-1' })) });
  await ask(socket, 'authenticate', use(token({ sub: 'log-2' })));
  for (const [bad] of Object.values(BAD_TOKENS)) {
    await ask(socket, 'authenticate', use(bad));
    await connect(t, server, { token: use(bad) }).catch(() => {});
  }
  socket.emit('authenticate', use('s3cret-without-ack'));
  socket.emit('authenticate', [use('s3cret-in-a-list')]);
  socket.emit('no-such-event', use('s3cret-elsewhere'));
  await ask(socket, 'unsubscribe:payments');
  await server.waitForLog(/authentication refused/);
  await server.waitForLog(/connection refused/);
  for (const text of used.filter((text) => text.length > 3)) {
    // Nor a part of it.
    for (const part of text
      .split('.')
      .filter((part) => part.length > 20 || part.startsWith('s3cret') || part === 'garbage')) {
      assert.ok(!server.log().includes(part), `${part.slice(0, 80)} is in the log`);
    }
  }
  assert.ok(!server.log().includes('test-secret') && !server.log().includes('test-key'));
});
