// POST /api/v1/emit: what backends may emit, to whom, several at once, and again without doing it twice.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, received } from '../support/client.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const RIGHTS = {
  nothing: [],
  event: ['emit:news', 'everyone'],
  room: ['emit', 'room:hall'],
  user: ['emit', 'user:ada:news'],
  role: ['emit', 'role:agent:n*'],
  socket: ['emit', 'socket'],
  everyone: ['emit', 'everyone'],
  namespace: ['emit', 'everyone', 'namespace:/st*'],
};
const keys = Object.entries(RIGHTS).map(
  ([name, rights]) => `[[api.keys]]\nname = "${name}"\nkey = "key-of-${name}"\nrights = ${JSON.stringify(rights)}\n`,
);

const server = await startServer(
  { after },
  {
    config: keys.join(''),
    plugins: [
      {
        wasm: 'capabilities',
        grants: ['payments', 'notify', 'role:*', 'clients', 'room:*', 'socket', 'everyone', 'emit', 'ask', 'handshake', 'find', 'disconnect', 'namespace:/staff'],
        config: { namespaces: ['/', '/staff'] },
      },
    ],
  },
);

const EMIT = '/api/v1/emit';
const emit = (body, { as, key } = {}) =>
  server.api('POST', EMIT, typeof body === 'string' ? body : JSON.stringify(body), as && `key-of-${as}`, key && { 'idempotency-key': key });

/** Waits until the clients of earlier tests are gone, who would get what everybody gets. */
const alone = () => until(async () => (await server.api('GET', '/api/v1/clients/count')).body.count === 0, { message: 'earlier clients are gone' });

async function crowd(t) {
  await alone();
  const user = (sub, role, options) => connect(t, server, { token: token({ sub, role }), ...options });
  const sockets = {
    ada: await user('ada', 'admin'),
    tab: await user('ada', 'admin'),
    bob: await user('bob', 'agent'),
    staff: await user('ada', 'admin', { namespace: '/staff' }),
  };
  await ask(sockets.bob, 'capabilities', [{ call: 'join', room: 'hall' }]);
  return sockets;
}

/** Who got an event of this name by now, and how often. */
async function who(sockets, event) {
  await Promise.all(Object.values(sockets).map((socket) => ask(socket, 'capabilities:ping')));
  return Object.entries(sockets).flatMap(([name, socket]) => received(socket, event).map(() => name));
}

function assertRefused({ status, body }, expected, code, message) {
  assert.equal(status, expected, JSON.stringify(body));
  assert.equal(body.error.code, code);
  assert.match(body.error.message, message);
}

test('a backend emits to rooms, users, roles, sockets and everybody, and hears how many got it', async (t) => {
  const sockets = await crowd(t);
  const cases = {
    room: [{ rooms: ['hall'] }, ['bob']],
    user: [{ users: ['ada'] }, ['ada', 'tab']],
    role: [{ roles: ['agent', 'none'] }, ['bob']],
    socket: [{ sockets: [sockets.tab.id] }, ['tab']],
    several: [{ users: ['ada'], rooms: ['hall'], roles: ['admin'] }, ['ada', 'tab', 'bob']],
    except: [{ everyone: true, except: ['user:ada'] }, ['bob']],
    everyone: [{ everyone: true }, ['ada', 'tab', 'bob']],
    'user-elsewhere': [{ namespace: '/staff', users: ['ada'] }, ['staff']],
    'everyone-elsewhere': [{ namespace: '/staff', everyone: true, volatile: true }, ['staff']],
    'not-open': [{ namespace: '/nowhere', everyone: true }, []],
    nobody: [{ users: ['nobody'] }, []],
  };
  for (const [event, [whom, expected]] of Object.entries(cases)) {
    const { status, headers, body } = await emit({ ...whom, event, arguments: [{ id: 7 }, 'ü'] });
    assert.deepEqual([status, body], [200, { delivered: expected.length }], event);
    assert.equal(headers.get('content-type'), 'application/json');
    assert.deepEqual(await who(sockets, event), expected, event);
  }
  assert.deepEqual(received(sockets.tab, 'socket')[0].slice(0, 2), [{ id: 7 }, 'ü']);
});

test('arguments travel as they were written, none and binary ones too', async (t) => {
  await alone();
  const socket = await connect(t, server);
  const text = '[12345678901234567890.10, {"b":1,"a":2}]';
  assert.equal((await emit(`{"everyone":true,"event":"as-written","arguments":${text}}`)).status, 200);
  await emit({ everyone: true, event: 'none' });
  const binary = { _placeholder: true, num: 0 };
  await emit({ everyone: true, event: 'binary', arguments: ['x', binary], attachments: ['AP8='] });
  await who({ socket }, 'binary');
  assert.deepEqual(received(socket, 'as-written')[0][1], { b: 1, a: 2 });
  assert.deepEqual(received(socket, 'none')[0].filter((one) => typeof one !== 'string'), []);
  assert.deepEqual(received(socket, 'binary')[0].slice(0, 2), ['x', Buffer.from([0, 255])]);
});

// Each key may do this and nothing else of it.
const CALLS = {
  'emit:news': [{ everyone: true, event: 'news' }, ['event', 'everyone', 'namespace']],
  'emit:olds': [{ everyone: true, event: 'olds' }, ['everyone', 'namespace']],
  'room:hall': [{ rooms: ['hall'], event: 'news' }, ['room']],
  'room:other': [{ rooms: ['hall', 'other'], event: 'news' }, []],
  'room:user:ada': [{ rooms: ['user:ada'], event: 'news' }, []],
  'user:ada:news': [{ users: ['ada'], event: 'news' }, ['user']],
  'user:ada:olds': [{ users: ['ada'], event: 'olds' }, []],
  'role:agent:news': [{ roles: ['agent'], event: 'news' }, ['role']],
  'role:admin:news': [{ roles: ['agent', 'admin'], event: 'news' }, []],
  socket: [{ sockets: ['x'], event: 'news' }, ['socket']],
  'namespace:/staff': [{ namespace: '/staff', everyone: true, event: 'news' }, ['namespace']],
};

for (const [right, [body, may]] of Object.entries(CALLS)) {
  test(`to emit ${JSON.stringify(body)} needs the right ${right}`, async () => {
    await alone();
    for (const as of Object.keys(RIGHTS)) {
      const answer = await emit(body, { as });
      if (may.includes(as)) assert.deepEqual([as, answer.body], [as, { delivered: 0 }]);
      else assertRefused(answer, 403, 'permission_denied', /this API key does not have the right "/);
    }
    // Who has all but this right hears of it.
    const all = (await emit(body)).status;
    assert.equal(all, right === 'room:user:ada' ? 403 : 200);
  });
}

const INVALID = {
  'a word': ['"news"', /not a JSON object/],
  'no event': [{ everyone: true }, /missing field `event`/],
  'a key that is none': [{ everyone: true, event: 'x', romms: [] }, /unknown field `romms`/],
  'nobody named': [{ event: 'x' }, /name "rooms", "users", "roles" or "sockets", or say "everyone": true/],
  'empty lists': [{ event: 'x', rooms: [], users: [] }, /or say "everyone": true/],
  'everybody and somebody': [{ event: 'x', everyone: true, rooms: ['a'] }, /"everyone" is for nobody in particular/],
  'arguments that are no list': [{ event: 'x', everyone: true, arguments: { a: 1 } }, /arguments: .*not a JSON array/],
  'half a surrogate pair': ['{"event":"x","everyone":true,"arguments":["\\ud800"]}', /surrogate/],
  'a reserved event': [{ event: 'disconnect', everyone: true }, /reserved/],
  "an event of the host's": [{ event: 'mixlab:error', everyone: true }, /reserved/],
  'no user id': [{ event: 'x', users: [''] }, /users: "" is no user id/],
  'no role': [{ event: 'x', roles: ['a\n'] }, /roles: "a\\n" is no role/],
  'no base64': [{ event: 'x', everyone: true, arguments: [{ _placeholder: true, num: 0 }], attachments: ['?'] }, /attachments: 0 is not base64/],
  'a placeholder of no attachment': [{ event: 'x', everyone: true, arguments: [{ _placeholder: true, num: 1 }], attachments: ['AP8='] }, /placeholders .* do not fit/],
  'very many attachments': [{ event: 'x', everyone: true, attachments: Array(11).fill('AP8=') }, /11 attachments, and there may be 10/],
};

for (const [name, [body, message]] of Object.entries(INVALID)) {
  test(`an emit with ${name} is refused`, async () => {
    assertRefused(await emit(body), 400, 'invalid_payload', message);
  });
}

test('of a list all are emitted, in order, with an answer for each', async (t) => {
  const sockets = await crowd(t);
  const { status, body } = await emit([
    { users: ['ada'], event: 'one', arguments: [1] },
    { users: ['nobody'], event: 'two' },
    { rooms: ['hall'], event: 'three' },
    { users: ['ada'], event: 'one', arguments: [2] },
  ]);
  assert.deepEqual([status, body], [200, [{ delivered: 2 }, { delivered: 0 }, { delivered: 1 }, { delivered: 2 }]]);
  assert.deepEqual(await who(sockets, 'three'), ['bob']);
  await who(sockets, 'one');
  assert.deepEqual(received(sockets.ada, 'one').map(([first]) => first), [1, 2]);
  assert.deepEqual((await emit([])).body, []);
});

test('of a list none is emitted if one is refused, and each refusal is told', async (t) => {
  const sockets = await crowd(t);
  const { status, body } = await emit(
    [
      { everyone: true, event: 'news' },
      { everyone: true, event: 'olds' },
      { event: 'news' },
    ],
    { as: 'event' },
  );
  assert.equal(status, 403);
  const { code, message, temporary, details } = body.error;
  assert.deepEqual(
    [code, message, temporary],
    ['permission_denied', 'none is emitted: of 3 events, 2 are refused', false],
  );
  assert.deepEqual(details.map((detail) => detail?.code ?? null), [null, 'permission_denied', 'invalid_payload']);
  assert.match(details[1].message, /"emit:olds"/);
  assert.deepEqual(await who(sockets, 'news'), []);
  const one = { everyone: true, event: 'news' };
  assert.equal((await emit(Array(1000).fill({ ...one, users: undefined, volatile: true }))).status, 200);
  assertRefused(await emit(Array(1001).fill(one)), 413, 'payload_too_large', /1001 events, and there may be 1000/);
  assertRefused(await emit('[1]'), 400, 'invalid_payload', /of 1 events, 1 are refused/);
});

test('a request that comes again with its key is answered, and not done again', async (t) => {
  const sockets = await crowd(t);
  const { ada } = sockets;
  const body = { everyone: true, event: 'once', arguments: [1] };
  const answers = [await emit(body, { key: 'k1' })];
  sockets.tab.disconnect();
  delete sockets.tab;
  answers.push(await emit(body, { key: 'k1' }), await emit(body, { key: 'k1' }));
  for (const { status, headers, body } of answers) {
    assert.deepEqual([status, headers.get('content-type'), body], [200, 'application/json', { delivered: 3 }]);
  }
  assertRefused(await emit({ ...body, arguments: [2] }, { key: 'k1' }), 422, 'idempotency_key_reused', /another body/);
  await who(sockets, 'once');
  assert.equal(received(ada, 'once').length, 1);

  // Another backend's key is another one, and so is no key.
  await emit(body, { key: 'k1', as: 'everyone' });
  await emit(body);
  await who(sockets, 'once');
  assert.equal(received(ada, 'once').length, 3);
});

test('what was refused may be sent again with the same key', async (t) => {
  const sockets = await crowd(t);
  assert.equal((await emit({ event: 'mended' }, { key: 'k2' })).status, 400);
  assert.equal((await emit([{ everyone: true, event: 'mended' }], { key: 'k2' })).status, 200);
  assert.deepEqual((await emit([{ everyone: true, event: 'mended' }], { key: 'k2' })).body, [{ delivered: 3 }]);
  assert.deepEqual(await who(sockets, 'mended'), ['ada', 'tab', 'bob']);
});

test('many at once with one key do it once', async (t) => {
  await alone();
  const socket = await connect(t, server);
  const body = Array(100).fill({ everyone: true, event: 'together' });
  const answers = await Promise.all(Array.from({ length: 20 }, () => emit(body, { key: 'k3' })));
  for (const { status, body } of answers) {
    if (status === 409) assert.deepEqual([body.error.code, body.error.temporary], ['conflict', true]);
    else assert.deepEqual([status, body[99]], [200, { delivered: 1 }]);
  }
  await who({ socket }, 'together');
  assert.equal(received(socket, 'together').length, 100);
});

for (const [name, headers] of Object.entries({
  'an empty one': { 'idempotency-key': '' },
  'a long one': { 'idempotency-key': 'x'.repeat(256) },
  'one that is not ASCII': { 'idempotency-key': 'é' },
})) {
  test(`${name} is no Idempotency-Key`, async () => {
    const answer = await server.api('POST', EMIT, '{"event":"x","everyone":true}', undefined, headers);
    assertRefused(answer, 400, 'invalid_payload', /send one Idempotency-Key of 1 to 255 visible characters/);
  });
}

test('whatever sends an event happens once with an Idempotency-Key', async (t) => {
  const { ada, bob } = await crowd(t);
  const post = (path, body, key) => server.api('POST', `/api/v1/${path}`, body, undefined, { 'idempotency-key': key });
  await ask(bob, 'subscribe:payments');
  for (const [path, other, event] of [
    ['users/bob/notifications', 'users/ada/notifications', 'notification'],
    ['roles/agent/events/hired', 'roles/admin/events/hired', 'hired'],
    ['payments/updates', 'emit', 'payment_update'],
  ]) {
    for (let times = 0; times < 3; times++) {
      const { status, headers, body } = await post(path, { n: 1 }, event);
      assert.deepEqual([status, headers.get('content-type'), body], [200, 'application/json', { delivered: 1 }]);
    }
    // The path says whom it is for.
    for (const [where, body] of [[path, { n: 2 }], [other, { n: 1 }]]) assertRefused(await post(where, body, event), 422, 'idempotency_key_reused', /another body or path/);
    assertRefused(await post(path, { n: 1 }, ''), 400, 'invalid_payload', /send one Idempotency-Key/);
    await who({ ada, bob }, event);
    assert.deepEqual([received(ada, event).length, received(bob, event).length], [0, 1], path);
    await post(path, { n: 1 }, `${event} again`);
    await who({ bob }, event);
    assert.equal(received(bob, event).length, 2, path);
  }
});

test('a body that is compressed is refused, and how it is taken is said', async () => {
  const send = (path, encoding) => server.api('POST', path, { everyone: true, event: 'x' }, undefined, { 'content-encoding': encoding });
  for (const path of [EMIT, '/api/v1/payments/updates', '/api/v1/users/1/disconnect']) {
    for (const encoding of ['gzip', 'br', 'gzip, identity', 'x']) {
      const answer = await send(path, encoding);
      assertRefused(answer, 415, 'unsupported_encoding', /without Content-Encoding/);
      assert.equal(answer.headers.get('accept-encoding'), 'identity');
    }
  }
  assert.equal((await send(EMIT, 'Identity')).status, 200);
});

test('what can be no namespace is not taken for one where nobody is', async () => {
  for (const namespace of ['', 'staff', '/a,b', '/a?b', '/a\nb']) {
    assertRefused(await emit({ namespace, everyone: true, event: 'x' }), 400, 'invalid_payload', /namespace: expected a path like "\/staff"/);
  }
  assert.deepEqual((await emit({ namespace: '/nowhere', everyone: true, event: 'x' })).body, { delivered: 0 });
});
