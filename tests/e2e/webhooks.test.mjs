// Webhooks: other services call plugins by HTTP, with signatures that the host checks, and each delivery acts
// once.
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { connect as connectTo } from 'node:net';
import { test } from 'node:test';
import { ask, connect, received } from '../support/client.mjs';
import { plugin } from '../support/plugins.mjs';
import { startRedis } from '../support/redis.mjs';
import { makeFolder, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const range = (count) => Array.from({ length: count }, (_, index) => index);
const CONFIG = '[budget]\ncpu = "30ms"\nwall = "1s"\n';
const GRANTS = ['store', 'emit', 'everyone'];
const raw = randomBytes(24);
const FORMER = randomBytes(24);
const ENV = {
  STANDARD: `whsec_${raw.toString('base64')}`,
  STANDARD_FORMER: `whsec_${FORMER.toString('base64')}`,
  GITHUB: 'a secret of github',
  STRIPE: 'whsec_of_stripe',
};
const hooked = (name, webhook, grants = []) => ({
  wasm: 'hooked',
  name,
  grants: [...GRANTS, ...grants],
  ...(webhook && { webhook }),
});
const STANDARD = hooked('standard', { verify: 'standard', secret_env: ['STANDARD', 'STANDARD_FORMER'] });

const seconds = () => Math.floor(Date.now() / 1000);
const hmac = (key, text, encoding) => createHmac('sha256', key).update(text).digest(encoding);
const body = (...steps) => JSON.stringify({ steps });

/** The headers of a delivery, as each sender signs it. */
const signed = {
  standard: (text, { id = `msg_${randomBytes(8).toString('hex')}`, time = seconds(), key = raw } = {}) => ({
    'webhook-id': id,
    'webhook-timestamp': String(time),
    'webhook-signature': `v1,${hmac(key, `${id}.${time}.${text}`, 'base64')}`,
  }),
  github: (text, { id = randomBytes(8).toString('hex'), key = ENV.GITHUB } = {}) => ({
    'x-github-delivery': id,
    'x-github-event': 'push',
    'x-hub-signature-256': `sha256=${hmac(key, text, 'hex')}`,
  }),
  stripe: (text, { time = seconds(), key = ENV.STRIPE } = {}) => ({
    'stripe-signature': `t=${time},v1=${'0'.repeat(64)},v1=${hmac(key, `${time}.${text}`, 'hex')},v0=old`,
  }),
};

async function post(server, path, text, headers = {}) {
  const response = await fetch(`${server.url}/hooks/${path}`, { method: 'POST', body: text, headers });
  const answered = await response.text();
  const json = response.headers.get('content-type') === 'application/json' ? JSON.parse(answered) : undefined;
  return { status: response.status, text: answered, json, headers: response.headers };
}

async function start(t, plugins, config = CONFIG) {
  const server = await startServer(t, { config, env: ENV, plugins });
  return { server, socket: await connect(t, server) };
}

/** How often the plugin has counted. */
const counted = async (socket) => (await ask(socket, 'hooked', 'n')) ?? 0;

for (const scheme of ['standard', 'github', 'stripe']) {
  test(`${scheme}: a delivery acts once, however often it comes, and others do not act`, async (t) => {
    const { server, socket } = await start(t, [hooked(scheme, { verify: scheme, secret_env: scheme.toUpperCase() })]);
    const text = JSON.stringify({ id: 'evt_7', steps: [{ increment: 'n' }, { emit: 'paid' }] });
    const headers = signed[scheme](text);
    const first = await post(server, `${scheme}/orders`, text, headers);
    assert.equal(first.status, 200, first.text);
    await until(() => received(socket, 'hooked:told').length === 1);
    const again = await post(server, `${scheme}/orders`, text, headers);
    assert.deepEqual([again.status, again.text], [200, first.text], 'the first answer');
    assert.equal(await counted(socket), 1);
    assert.equal(received(socket, 'hooked:told').length, 1);
    for (const [tampered, with_] of [
      [`${text} `, headers],
      [text, {}],
      [text, signed[scheme](text, { key: 'another secret' })],
      ...(scheme === 'github' ? [] : [[text, signed[scheme](text, { time: seconds() - 301 })]]),
      ...(scheme === 'github' ? [] : [[text, signed[scheme](text, { time: seconds() + 310 })]]),
    ]) {
      const { status, json } = await post(server, `${scheme}/orders`, tampered, with_);
      assert.deepEqual([status, json?.error.code], [401, 'invalid_signature'], JSON.stringify(with_));
    }
    assert.equal(await counted(socket), 1);
  });
}

test('a secret that was replaced is good as long as it is named', async (t) => {
  const { server } = await start(t, [STANDARD]);
  for (const [key, status] of [[raw, 200], [FORMER, 200], [randomBytes(24), 401]]) {
    assert.equal((await post(server, 'standard', body(), signed.standard(body(), { key }))).status, status);
  }
});

test('deliveries that come many times at once act once', async (t) => {
  const { server, socket } = await start(t, [STANDARD]);
  const text = body({ increment: 'n' }, { emit: 1 });
  const deliveries = range(5).map(() => signed.standard(text));
  const answers = await Promise.all(range(50).map((n) => post(server, 'standard', text, deliveries[n % 5])));
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  assert.equal(new Set(answers.map((answer) => answer.text)).size, 5);
  assert.equal(await counted(socket), 5);
  await until(() => received(socket, 'hooked:told').length === 5);
});

test('deliveries that come to several servers of a cluster act once', async (t) => {
  const redis = await startRedis(t);
  const options = { config: `${CONFIG}[cluster]\n`, env: { ...ENV, MIXLAB_CLUSTER__URL: redis.url }, plugins: [STANDARD] };
  const servers = await Promise.all(range(2).map(() => startServer(t, options)));
  const socket = await connect(t, servers[0]);
  const text = body({ increment: 'n' });
  const deliveries = range(5).map(() => signed.standard(text));
  const deliver = async (n) => {
    const answer = await post(servers[n % 2], 'standard', text, deliveries[n % 5]);
    // One that is under way elsewhere may be told to come again.
    return answer.status === 200 ? answer : deliver(n);
  };
  const answers = await Promise.all(range(20).map(deliver));
  assert.equal(new Set(answers.map((answer) => answer.text)).size, 5);
  assert.equal(await counted(socket), 5);
});

test('what was answered is there after the server was killed, and acts once still', async (t) => {
  const folder = makeFolder(t, { config: CONFIG, env: ENV, plugins: [STANDARD] });
  const text = body({ increment: 'n' });
  const deliveries = range(20).map(() => signed.standard(text));
  for (const round of range(3)) {
    const process = folder.start('up', '--listen', '127.0.0.1:0');
    const [, url] = await until(() => process.stdout().match(/listening on (\S+)\n/), { message: process.stderr });
    const sending = deliveries.map((headers) => post({ url }, 'standard', text, headers).catch(() => undefined));
    if (round < 2) {
      // In the middle of them, and after the first that was answered.
      await Promise.any(sending.map(async (sent) => (await sent)?.status === 200 || Promise.reject()));
      await process.kill();
      await Promise.all(sending);
      continue;
    }
    const answers = await Promise.all(sending);
    assert.ok(answers.every(({ status }) => status === 200));
    assert.equal(await counted(await connect(t, { url })), 20);
  }
});

test('a call that fails or says no has done nothing, and its sender may try again', async (t) => {
  const { server, socket } = await start(t, [STANDARD]);
  const first = { increment: 'n' };
  const cases = [
    [{ answer: [500, []] }, 500],
    [{ answer: [410, []] }, 410],
    [{ reject: ['no_such_order', false] }, 400, 'no_such_order'],
    [{ reject: ['later', true] }, 503, 'later', '7'],
    ['trap', 500, 'plugin_error'],
    ['loop', 503, 'plugin_timeout', '5'],
    [{ answer: [302, []] }, 500, 'plugin_error'],
    [{ answer: [200, [['set-cookie', 'a=b']]] }, 500, 'plugin_error'],
    [{ answer: [200, [['content-type', 'a\r\nb']]] }, 500, 'plugin_error'],
    [{ answer: [200, [['content-type', 'a/b'], ['Content-Type', 'c/d']]] }, 500, 'plugin_error'],
    [{ fill: 70_000 }, 500, 'plugin_error'],
  ];
  for (const [step, status, code, retry] of cases) {
    const text = body(first, { emit: 1 }, step);
    const headers = signed.standard(text);
    for (const time of range(2)) {
      const answer = await post(server, 'standard', text, headers);
      assert.deepEqual([answer.status, answer.json?.error.code], [status, code], `${time}: ${text} ${answer.text}`);
      assert.equal(answer.headers.get('retry-after'), retry ?? null, text);
    }
  }
  const { calls, failures } = await plugin(server, 'standard');
  assert.deepEqual([calls, failures], [2 * cases.length, 14], 'it was called each time');
  assert.equal(await counted(socket), 0);
  const text = body(first);
  assert.equal((await post(server, 'standard', text, signed.standard(text))).status, 200);
  assert.equal(await counted(socket), 1);
  assert.deepEqual(received(socket, 'hooked:told'), []);
});

test('a plugin gets the request, and of its headers what it needs or is granted', async (t) => {
  const granted = hooked('granted', { verify: 'standard', secret_env: 'STANDARD' }, ['header:x-shop']);
  const { server } = await start(t, [STANDARD]);
  const id = 'msg_7';
  const headers = { ...signed.standard(body(), { id }), 'content-type': 'application/json', 'x-shop': 'one', cookie: 'a=b' };
  const { json, headers: answered } = await post(server, 'standard/a/b%2Fc?x=1&x=2', body(), headers);
  const { method, path, query, bytes, delivery } = json;
  assert.deepEqual([method, path, query], ['POST', '/a/b%2Fc', [['x', '1'], ['x', '2']]]);
  assert.deepEqual([bytes, delivery], [body().length, id]);
  const names = (seen) => seen.headers.map(([name]) => name).sort();
  assert.deepEqual(names(json), ['content-type', 'webhook-id', 'webhook-timestamp']);
  assert.match(answered.get('content-security-policy'), /sandbox/);
  const { server: other } = await start(t, [granted]);
  const more = await post(other, 'granted', body(), headers);
  assert.deepEqual(names(more.json), ['content-type', 'webhook-id', 'webhook-timestamp', 'x-shop']);
});

test('the names of headers in an answer are written in any case', async (t) => {
  const { server } = await start(t, [STANDARD]);
  const text = body({ answer: [201, [['Content-Type', 'text/plain'], ['RETRY-AFTER', '7']]] });
  const { status, headers } = await post(server, 'standard', text, signed.standard(text));
  assert.deepEqual([status, headers.get('content-type'), headers.get('retry-after')], [201, 'text/plain', '7']);
});

test('nobody learns which plugins there are, and a path takes no other method', async (t) => {
  const { server } = await start(t, [STANDARD, 'echo']);
  const answers = await Promise.all(['echo', 'nobody', 'nobody/standard', '%00'].map((path) => post(server, path, '')));
  assert.deepEqual(answers.map(({ status, text }) => [status, text]), range(4).map(() => [404, answers[0].text]));
  const { status } = await fetch(`${server.url}/hooks/standard`);
  assert.equal(status, 405);
});

test('too large and too many requests are refused', async (t) => {
  const limited = hooked('limited', { verify: 'standard', secret_env: 'STANDARD', max_body: '1KiB', limit: '3/1h' });
  const { server } = await start(t, [limited]);
  const large = JSON.stringify({ steps: [], text: 'x'.repeat(1024) });
  assert.equal((await post(server, 'limited', large, signed.standard(large))).status, 413);
  for (const _ of range(2)) assert.equal((await post(server, 'limited', body(), signed.standard(body()))).status, 200);
  const { status, headers } = await post(server, 'limited', body(), signed.standard(body()));
  assert.equal(status, 429);
  assert.ok(Number(headers.get('retry-after')) > 0);
});

test('a body that does not come in time is not said to be too large', async (t) => {
  const { server, socket } = await start(t, [STANDARD], `${CONFIG}[socket]\nrequest_timeout = "100ms"\n`);
  const text = body({ increment: 'n' });
  const head = Object.entries({ ...signed.standard(text), host: server.address, 'content-length': text.length + 1 });
  const sent = connectTo(server.port, '127.0.0.1');
  t.after(() => sent.destroy());
  sent.write(`POST /hooks/standard HTTP/1.1\r\n${head.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${text}`);
  let answered = '';
  sent.on('data', (data) => (answered += data));
  await until(() => answered.includes('\r\n\r\n'));
  assert.match(answered, /^HTTP\/1\.1 400 [^]*"code":"invalid_payload","message":"the body did not arrive whole"/);
  assert.equal(await counted(socket), 0);
});

test('a plugin that takes webhooks of anybody has to be granted that', async (t) => {
  const { server, socket } = await start(t, [hooked('open', undefined, ['webhook:unverified'])]);
  const text = body({ increment: 'n' });
  for (const n of [1, 2]) {
    assert.equal((await post(server, 'open', text)).status, 200);
    assert.equal(await counted(socket), n);
  }
  const other = await startServer(t, { config: CONFIG, env: ENV, plugins: [hooked('refused')] });
  assert.match((await plugin(other, 'refused')).refusal, /"webhook:unverified"/);
  assert.equal((await post(other, 'refused', text)).status, 404);
});
