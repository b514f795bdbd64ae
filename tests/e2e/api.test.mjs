// The HTTP door for backends: keys and rights, errors in their one shape, health, and CORS.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect as dial } from 'node:net';
import { after, test } from 'node:test';
import { connect, nextEvent } from '../support/client.mjs';
import { editConfig, reload } from '../support/plugins.mjs';
import { API_KEY, startServer } from '../support/server.mjs';
import { head, tcp } from '../support/tcp.mjs';
import { SECRET, token } from '../support/tokens.mjs';

const ALLOWED = 'https://app.example.com';

const RIGHTS = {
  nothing: [],
  payments: ['payments'],
  notify: ['notify'],
  'notify-7': ['notify:7'],
  'notify-staff': ['notify:staff-*'],
  'role-admin': ['role:admin'],
  'role-event': ['role:admin:new_booking'],
  'role-pattern': ['role:st*:new_*'],
  clients: ['clients'],
  admin: ['admin'],
  disconnect: ['disconnect'],
  several: ['payments', 'clients', 'notify:7'],
};

const keys = Object.entries(RIGHTS).map(
  ([name, rights]) => `[[api.keys]]\nname = "${name}"\nkey = "key-of-${name}"\nrights = ${JSON.stringify(rights)}\n`,
);

const server = await startServer(
  { after },
  {
    config: `
    [cors]
    allowed_origins = ["${ALLOWED}", "http://127.0.0.1:8080"]
    [api]
    max_body = "2KB"
    ${keys.join('')}
    [[api.keys]]
    name = "by-environment"
    key_env = "BILLING_KEY"
    rights = ["payments"]`,
    env: { BILLING_KEY: 'from-the-environment' },
    plugins: [{ wasm: 'custom-event', grants: ['emit:custom_response'] }],
  },
);

const PAYMENTS = '/api/v1/payments/updates';
const COUNT = '/api/v1/clients/count';
const notifications = (user) => `/api/v1/users/${user}/notifications`;
const disconnect = (user) => `/api/v1/users/${user}/disconnect`;
const roleEvent = (role, event) => `/api/v1/roles/${role}/events/${event}`;

/** The one error shape, and nothing more. */
function assertError({ status, headers, body }, expectedStatus, code) {
  assert.equal(status, expectedStatus, JSON.stringify(body));
  assert.equal(headers.get('content-type'), 'application/json');
  const { message } = body.error ?? {};
  assert.deepEqual(body, { error: { code, message, temporary: false } });
  assert.match(message, /\w+ \w+/);
}

const ENDPOINTS = [
  ['POST', PAYMENTS, {}],
  ['POST', notifications('7'), {}],
  ['POST', roleEvent('admin', 'new_booking'), {}],
  ['GET', COUNT],
  ['GET', '/api/v1/plugins'],
  ['POST', '/api/v1/plugins/reload'],
  ['POST', disconnect('7')],
];

const BAD_CREDENTIALS = {
  'no key': [null],
  'a wrong key': ['wrong-key'],
  'an empty key': [''],
  'the key and more': [`${API_KEY}x`],
  'a part of the key': [API_KEY.slice(0, -1)],
  'the name of a key': ['MIXLAB_API_KEY'],
  'the key of JWT_SECRET': [SECRET],
  "a user's token": [token({ sub: 1, role: 'admin' })],
  'the key without Bearer': [null, { authorization: API_KEY }],
  'the key as Basic': [null, { authorization: `Basic ${Buffer.from(`x:${API_KEY}`).toString('base64')}` }],
  'Bearer alone': [null, { authorization: 'Bearer' }],
  'the key in another header': [null, { 'x-api-key': API_KEY }],
};

for (const [method, path, body] of ENDPOINTS) {
  test(`${method} ${path} needs a key`, async () => {
    for (const [name, [key, headers]] of Object.entries(BAD_CREDENTIALS)) {
      const answer = await server.api(method, path, body, key, headers);
      assertError(answer, 401, 'unauthorized');
      assert.equal(answer.headers.get('www-authenticate'), 'Bearer', name);
    }
    const answer = await server.api(method, path, body);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'application/json');
  });
}

test('of two keys none counts', async (t) => {
  const one = `authorization: Bearer ${API_KEY}`;
  for (const [keys, status] of [[[one], 200], [[one, one], 401], [[one, 'authorization: Bearer x'], 401]]) {
    const { end } = await tcp(t, server, head('GET', COUNT, ...keys, 'connection: close'));
    assert.match(await end(), new RegExp(`^HTTP/1.1 ${status} `), `${keys.length}`);
  }
});

const HOSTS = {
  none: [[], 400],
  one: [['host: example.com'], 200],
  'one with a port': [['host: [::1]:3000'], 200],
  'an empty one': [['host:'], 400],
  two: [['host: a', 'host: b'], 400],
  'the same one twice': [['host: a', 'host: a'], 400],
  'two in one': [['host: a, b'], 400],
  'a path': [['host: a/b'], 400],
  'a user': [['host: me@a'], 400],
};

for (const [name, [hosts, status]] of Object.entries(HOSTS)) {
  test(`a request needs one host, and with ${name} it gets ${status}`, async (t) => {
    for (const path of ['/healthz', '/nothing/x', '/socket.io/?EIO=4&transport=polling']) {
      const request = [`GET ${path} HTTP/1.1`, ...hosts, 'connection: close', '', ''].join('\r\n');
      const { end } = await tcp(t, server, request);
      const found = path === '/nothing/x' && status === 200 ? 404 : status;
      assert.match(await end(), new RegExp(`^HTTP/1.1 ${found} `), path);
    }
  });
}

test('HTTP/1.0 knows no hosts', async (t) => {
  const { end } = await tcp(t, server, 'GET /healthz HTTP/1.0\r\n\r\n');
  assert.match(await end(), /^HTTP\/1.0 200 /);
});

test('a key in the query is no key', async () => {
  assertError(
    await server.api('GET', `${COUNT}?key=${API_KEY}&access_token=${API_KEY}`, undefined, null),
    401,
    'unauthorized',
  );
});

test('the word Bearer may be written in any case', async () => {
  const answer = await server.api('GET', COUNT, undefined, null, { authorization: `bEARER ${API_KEY}` });
  assert.deepEqual(answer.body, { count: 0, here: 0 });
});

test('a key can come from an environment variable that mixlab.toml names', async () => {
  assert.equal((await server.api('POST', PAYMENTS, {}, 'from-the-environment')).status, 200);
  assertError(await server.api('POST', PAYMENTS, {}, 'BILLING_KEY'), 401, 'unauthorized');
});

// What each key may do; everything else is 403, with the right that is missing.
const CALLS = {
  payments: ['POST', PAYMENTS, {}],
  'notify:7': ['POST', notifications('7'), {}],
  'notify:8': ['POST', notifications('8'), {}],
  'notify:staff-1': ['POST', notifications('staff-1'), {}],
  'role:admin:new_booking': ['POST', roleEvent('admin', 'new_booking'), {}],
  'role:admin:other': ['POST', roleEvent('admin', 'other'), {}],
  'role:student:new_booking': ['POST', roleEvent('student', 'new_booking'), {}],
  'role:student:old_booking': ['POST', roleEvent('student', 'old_booking'), {}],
  clients: ['GET', COUNT],
  inspect: ['GET', '/api/v1/plugins'],
  disconnect: ['POST', disconnect('7')],
};

const MAY = {
  nothing: [],
  payments: ['payments'],
  notify: ['notify:7', 'notify:8', 'notify:staff-1'],
  'notify-7': ['notify:7'],
  'notify-staff': ['notify:staff-1'],
  'role-admin': ['role:admin:new_booking', 'role:admin:other'],
  'role-event': ['role:admin:new_booking'],
  'role-pattern': ['role:student:new_booking'],
  clients: ['clients'],
  admin: ['inspect'],
  disconnect: ['disconnect'],
  several: ['payments', 'notify:7', 'clients'],
};

for (const [name, rights] of Object.entries(RIGHTS)) {
  test(`a key with the rights ${JSON.stringify(rights)} may do that and nothing else`, async () => {
    for (const [right, call] of Object.entries(CALLS)) {
      const answer = await server.api(...call, ...(call.length === 2 ? [undefined] : []), `key-of-${name}`);
      if (MAY[name].includes(right)) {
        assert.equal(answer.status, 200, right);
      } else {
        assertError(answer, 403, 'permission_denied');
        assert.ok(answer.body.error.message.includes(`"${right}"`), answer.body.error.message);
      }
    }
    const reload = await server.api('POST', '/api/v1/plugins/reload', undefined, `key-of-${name}`);
    assert.equal(reload.status, name === 'admin' ? 200 : 403);
  });
}

// Bodies

const NOT_JSON = {
  nothing: '',
  spaces: ' \n ',
  'a word': 'paid',
  'an open object': '{"invoiceId":"inv_123"',
  'an open text': '"paid',
  'two values': '{} {}',
  'a comma at the end': '{"a":1,}',
  'single quotes': "{'a':1}",
  NaN: 'NaN',
  'a number with a zero before it': '01',
  'a comment': '{} // paid',
  'a form': 'status=paid&amount=1000',
  'a byte order mark': '\ufeff{}',
  'half a surrogate pair in bytes': Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]),
  'bytes that are no UTF-8': Buffer.from([0x22, 0xff, 0x22]),
  'a NUL': Buffer.from([0]),
};

for (const [name, body] of Object.entries(NOT_JSON)) {
  test(`a body that is not JSON is refused: ${name}`, async () => {
    for (const path of [PAYMENTS, notifications('7'), roleEvent('admin', 'x')]) {
      assertError(await server.api('POST', path, body), 400, 'invalid_payload');
    }
  });
}

for (const body of ['[]', '1', '"text"', 'null', 'true', '[{"title":"x"}]']) {
  test(`a notification is an object and not ${body}`, async () => {
    assertError(await server.api('POST', notifications('7'), body), 400, 'invalid_payload');
  });
}

for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=utf-8', 'nonsense']) {
  test(`the body counts and not its Content-Type: ${type}`, async () => {
    const answer = await server.api('POST', PAYMENTS, '{}', API_KEY, { 'content-type': type });
    assert.deepEqual(answer.body, { delivered: 0 });
  });
}

const MAX = 2000;
const ofSize = (bytes) => JSON.stringify('x'.repeat(bytes - 2));

test('a body of the largest size is taken, one byte more is refused', async () => {
  assert.equal((await server.api('POST', PAYMENTS, ofSize(MAX))).status, 200);
  for (const size of [MAX + 1, 500_000]) {
    for (const path of [PAYMENTS, roleEvent('admin', 'x')]) {
      const answer = await server.api('POST', path, ofSize(size));
      assertError(answer, 413, 'payload_too_large');
      assert.match(answer.body.error.message, /2000/);
    }
  }
});

test('a body far too large is not read to its end', async () => {
  // The server answers and closes; a client that is still busy sending may see only the latter.
  const answer = await server.api('POST', PAYMENTS, ofSize(50_000_000)).catch((error) => error);
  if (answer instanceof Error)
    assert.ok(['EPIPE', 'ECONNRESET', 'UND_ERR_SOCKET'].includes(answer.cause?.code), answer.cause);
  else assertError(answer, 413, 'payload_too_large');
  assert.equal((await server.api('GET', COUNT)).status, 200);
});

test('a body without a length that turns out too large is refused', async () => {
  const call = request(server.url + PAYMENTS, { method: 'POST', headers: { authorization: `Bearer ${API_KEY}` } });
  for (let i = 0; i < 3; i++) call.write('x'.repeat(1000));
  call.end();
  const [answer] = await once(call, 'response');
  assert.equal(answer.statusCode, 413);
  assert.equal(JSON.parse(await text(answer)).error.code, 'payload_too_large');
});

async function text(stream) {
  let all = '';
  for await (const part of stream) all += part;
  return all;
}

test('a body that ends early does no harm', async (t) => {
  const socket = dial(server.port, '127.0.0.1');
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  socket.write(
    `POST ${PAYMENTS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${API_KEY}\r\ncontent-length: 100\r\n\r\n{"a":1}`,
  );
  socket.end();
  socket.resume();
  await once(socket, 'close');
  assert.equal((await server.api('GET', COUNT)).status, 200);
});

test('nothing of a refused push is delivered', async (t) => {
  const socket = await connect(t, server, { token: token({ sub: '7', role: 'admin' }) });
  await server.api('POST', notifications('7'), '{"title":"x"');
  await server.api('POST', notifications('7'), '{"title":"x"}', 'key-of-payments');
  await server.api('POST', notifications('7'), '{"title":"x"}', 'wrong');
  assert.deepEqual((await server.api('POST', notifications('7'), { title: 'good' })).body, { delivered: 1 });
  assert.equal((await nextEvent(socket, 'notification'))[0].title, 'good');
});

test('a body nested a thousand times deep is an answer and no crash', async () => {
  const deep = '['.repeat(990) + ']'.repeat(990);
  assert.ok([200, 400].includes((await server.api('POST', PAYMENTS, deep)).status));
  assertError(await server.api('POST', PAYMENTS, '['.repeat(1990)), 400, 'invalid_payload');
});

// Paths and methods

for (const path of [
  '/api',
  '/api/',
  '/api/v1',
  '/api/v1/',
  '/api/v2/clients/count',
  '/api/v1/clients',
  '/api/v1/users/7/none',
  '/api/v1/roles/admin/events/',
  '/api/v1/payments/updates/',
  '/nothing',
  '/',
  '/socket-example.html',
  '/favicon.ico',
  '/%2e%2e/etc/passwd',
]) {
  test(`there is nothing at ${path}`, async () => {
    for (const key of [API_KEY, null]) assertError(await server.api('GET', path, undefined, key), 404, 'not_found');
  });
}

for (const [path, allowed] of [
  [PAYMENTS, 'POST'],
  [notifications('7'), 'POST'],
  [roleEvent('admin', 'x'), 'POST'],
  [COUNT, 'GET'],
  ['/api/v1/plugins', 'GET'],
  ['/api/v1/plugins/reload', 'POST'],
  [disconnect('7'), 'POST'],
  ['/healthz', 'GET'],
  ['/readyz', 'GET'],
]) {
  test(`${path} takes ${allowed} and no other method`, async () => {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'].filter((method) => method !== allowed)) {
      const answer = await server.api(method, path, method === 'GET' ? undefined : {});
      assertError(answer, 405, 'method_not_allowed');
      assert.ok(answer.headers.get('allow')?.includes(allowed), `${method}: Allow is ${answer.headers.get('allow')}`);
    }
  });
}

for (const event of [
  'connect',
  'connect_error',
  'disconnect',
  'disconnecting',
  'newListener',
  'removeListener',
  'mixlab:error',
  'mixlab:',
  'mixlab%3Ax',
]) {
  test(`a role cannot be sent the reserved event ${event}`, async () => {
    const answer = await server.api('POST', roleEvent('admin', event), {});
    assertError(answer, 400, 'invalid_payload');
    assert.match(answer.body.error.message, /reserved/);
  });
}

// Names in paths

const NAMES = [
  'ada@example.com',
  'auth0|5f7c',
  'a/b',
  '../admin',
  'a b',
  'a+b',
  '100%',
  '%41',
  'a?b=c',
  'a#b',
  '"quoted"',
  "it's",
  '日本語',
  '😀',
  'e\u0301',
  'a:b',
  '*',
  '{id}',
  ';',
  '\u00a0',
  'x'.repeat(128),
];

for (const name of NAMES) {
  test(`a user, a role and an event can be called ${JSON.stringify(name).slice(0, 30)}`, async (t) => {
    const socket = await connect(t, server, { token: token({ sub: name, role: name }) });
    const encoded = encodeURIComponent(name);
    assert.deepEqual((await server.api('POST', notifications(encoded), { title: 'x' })).body, { delivered: 1 });
    await nextEvent(socket, 'notification');
    assert.deepEqual((await server.api('POST', roleEvent(encoded, encoded), { data: name })).body, { delivered: 1 });
    assert.deepEqual(await nextEvent(socket, name), [{ data: name }]);
  });
}

for (const [name, id] of Object.entries({
  empty: '',
  'a line break': '%0A',
  'a NUL': '%00',
  '129 bytes': 'x'.repeat(129),
  '129 bytes of emoji': encodeURIComponent('😀'.repeat(33)),
})) {
  test(`a user id cannot be ${name}`, async () => {
    assertError(await server.api('POST', notifications(id), {}), 400, 'invalid_payload');
    assertError(await server.api('POST', disconnect(id)), 400, 'invalid_payload');
  });
}

for (const [name, role] of Object.entries({
  empty: '',
  'a line break': '%0A',
  'a NUL': '%00',
  '257 bytes': 'x'.repeat(257),
})) {
  test(`a role cannot be ${name}`, async () => {
    assertError(await server.api('POST', roleEvent(role, 'x'), {}), 400, 'invalid_payload');
  });
}

test('a path that is no UTF-8 is refused in the one error shape', async () => {
  for (const path of [notifications('%FF'), roleEvent('%C3', 'x'), roleEvent('x', '%ff')]) {
    assertError(await server.api('POST', path, {}), 400, 'invalid_payload');
  }
});

test('users whose names differ only in their writing are different users', async (t) => {
  await connect(t, server, { token: token({ sub: 'Ada' }) });
  for (const id of ['ada', 'ADA', 'Ada%20', '%20Ada', 'user:Ada', 'Ad%61%CC%81']) {
    assert.deepEqual((await server.api('POST', notifications(id), {})).body, { delivered: 0 }, id);
  }
  assert.deepEqual((await server.api('POST', notifications('%41%64a'), {})).body, { delivered: 1 });
});

// Health

for (const path of ['/healthz', '/readyz']) {
  test(`${path} needs no key`, async () => {
    const answer = await server.api('GET', path, undefined, null);
    assert.equal(answer.status, 200);
    assert.equal(answer.body, path === '/healthz' ? 'ok\n' : 'ready\n');
  });
}

test('a server with a plugin that is refused is healthy but not ready, and names it', async (t) => {
  const half = await startServer(t, { plugins: ['echo', { wasm: 'traps', name: 'broken', path: 'nowhere.wasm' }] });
  assert.equal((await half.api('GET', '/healthz', undefined, null)).status, 200);
  const ready = await half.api('GET', '/readyz', undefined, null);
  assert.equal(ready.status, 503);
  assert.equal(ready.body, 'not ready: broken\n');
});

// CORS

const cors = (answer) => Object.fromEntries([...answer.headers].filter(([name]) => name.startsWith('access-control-')));
const get = (path, origin) => server.api('GET', path, undefined, API_KEY, origin && { origin });

const OPEN_PATHS = [COUNT, '/healthz', '/nothing', '/socket.io/?EIO=4&transport=polling'];

for (const path of OPEN_PATHS) {
  test(`pages of a listed site may read ${path}`, async () => {
    for (const origin of [ALLOWED, 'http://127.0.0.1:8080']) {
      const answer = await get(path, origin);
      assert.deepEqual(cors(answer), {
        'access-control-allow-credentials': 'true',
        'access-control-allow-origin': origin,
      });
      assert.match(answer.headers.get('vary'), /origin/i, 'what a cache has to know');
    }
  });

  test(`pages of other sites may not read ${path}`, async () => {
    for (const origin of [
      'https://evil.example.com',
      `${ALLOWED}.evil.com`,
      'http://app.example.com',
      `${ALLOWED}:8443`,
      'null',
      undefined,
    ]) {
      const answer = await get(path, origin);
      assert.equal(answer.headers.get('access-control-allow-origin'), null, origin);
      assert.match(answer.headers.get('vary'), /origin/i);
    }
  });
}

const preflight = (path, origin, headers = 'authorization,content-type') =>
  server.api('OPTIONS', path, undefined, null, {
    origin,
    'access-control-request-method': 'POST',
    'access-control-request-headers': headers,
  });

for (const path of [PAYMENTS, '/socket.io/?EIO=4&transport=polling']) {
  test(`a browser may ask ahead for a listed site, without a key: ${path}`, async () => {
    const answer = await preflight(path, ALLOWED);
    assert.equal(answer.status, 200);
    const headers = cors(answer);
    assert.equal(headers['access-control-allow-origin'], ALLOWED);
    assert.equal(headers['access-control-allow-credentials'], 'true');
    assert.match(headers['access-control-allow-methods'], /\bPOST\b/);
    assert.match(headers['access-control-allow-headers'], /\bauthorization\b/i);
    assert.match(headers['access-control-allow-headers'], /\bcontent-type\b/i);
  });

  test(`a browser that asks ahead for another site hears of no permission: ${path}`, async () => {
    for (const origin of ['https://evil.example.com', 'null', undefined]) {
      assert.deepEqual(cors(await preflight(path, origin, 'x-tenant')), {}, `${origin}`);
    }
  });

  test(`a page of a listed site may send any header: ${path}`, async () => {
    const answer = await preflight(path, ALLOWED, 'x-tenant,x-trace');
    assert.equal(answer.headers.get('access-control-allow-headers'), 'x-tenant,x-trace');
    assert.match(answer.headers.get('vary'), /access-control-request-headers/i, 'what a cache has to know');
  });
}

test('a refusal can be read by pages of a listed site', async () => {
  const answer = await server.api('GET', COUNT, undefined, null, { origin: ALLOWED });
  assert.equal(answer.status, 401);
  assert.equal(answer.headers.get('access-control-allow-origin'), ALLOWED);
});

test('a client on a listed site connects over polling', async (t) => {
  const socket = await connect(t, server, { transports: ['polling'], extraHeaders: { origin: ALLOWED } });
  assert.equal(socket.connected, true);
});

test('a site that is listed while the server runs may call from then on', async (t) => {
  const own = await startServer(t, { config: '[cors]\nallowed_origins = ["https://other.example.com"]\n' });
  const allowed = async () =>
    (await own.api('GET', COUNT, undefined, null, { origin: ALLOWED })).headers.get('access-control-allow-origin');
  assert.equal(await allowed(), null);
  editConfig(own, (toml) => toml.replace('https://other.example.com', ALLOWED));
  await reload(own);
  assert.equal(await allowed(), ALLOWED);
});

test('by default no other site is listed', async (t) => {
  const plain = await startServer(t);
  const answer = await plain.api('GET', '/healthz', undefined, null, { origin: ALLOWED });
  assert.equal(answer.headers.get('access-control-allow-origin'), null);
});
