// Plugins that send requests to other servers.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { assertFailed, editConfig, plugin, reload, replaceFile } from '../support/plugins.mjs';
import { badMachine } from '../support/preload.mjs';
import { startServer, wasm } from '../support/server.mjs';
import { authority, startUpstream } from '../support/upstream.mjs';
import { until } from '../support/wait.mjs';

const CONFIG = '[budget]\ncpu = "500ms"\n';

const upstream = await startUpstream({ after });
const server = await startServer(
  { after },
  { config: CONFIG, plugins: [{ wasm: 'requests', grants: [`http:${upstream.url}`] }] },
);

/** What came of requests, given as URLs or as all that the guest takes. */
const send = (socket, ...requests) =>
  ask(
    socket,
    'requests',
    requests.map((request) => (typeof request === 'string' ? { url: request } : request)),
  );

/** What the upstream's echo says it was sent. */
const echoed = ({ answered }) => JSON.parse(answered.body);

/** A server whose plugin has these grants, and a client of it. */
async function serving(t, keys, options = {}) {
  const own = await startServer(t, { config: CONFIG, ...options, plugins: [{ wasm: 'requests', ...keys }] });
  return { own, socket: await connect(t, own) };
}

const IN_REQUEST = { message: 'the request came' };

test('a plugin sends requests and sees what was answered', async (t) => {
  const socket = await connect(t, server);
  const headers = [
    ['X-One', 'a, b'],
    ['x-two', '1'],
    ['x-two', '2'],
  ];
  const [answer, missing, nothing] = await send(
    socket,
    { method: 'PUT', url: `${upstream.url}/echo?q=ü#part`, headers, body: 'hellö' },
    `${upstream.url}/status/404`,
    `${upstream.url}/status/500`,
  );
  const { method, url, body, headers: sent } = echoed(answer);
  assert.deepEqual([method, url, body], ['PUT', '/echo?q=%C3%BC', 'hellö']);
  const pairs = sent.flatMap((name, index) => (index % 2 ? [] : [[name.toLowerCase(), sent[index + 1]]]));
  assert.deepEqual(
    pairs.sort(),
    [
      ['content-length', '6'],
      ['host', `127.0.0.1:${upstream.port}`],
      ['user-agent', pairs.find(([name]) => name === 'user-agent')[1]],
      ['x-one', 'a, b'],
      ['x-two', '1'],
      ['x-two', '2'],
    ],
    'and nothing else',
  );
  assert.match(pairs.find(([name]) => name === 'user-agent')[1], /^mixlab\/\d/);
  assert.deepEqual([missing.answered.status, missing.answered.body], [404, 'no more']);
  assert.ok(missing.answered.headers.some(([name, value]) => name === 'x-status' && value === '404'));
  assert.equal(nothing.answered.status, 500);
});

test('a value goes out as JSON and comes back as one', async (t) => {
  const socket = await connect(t, server);
  const answer = await ask(socket, 'requests:json', [`${upstream.url}/echo`, { a: [1, 'ü'] }]);
  assert.deepEqual([answer.method, answer.body], ['POST', '{"a":[1,"ü"]}']);
  assert.ok(answer.headers.includes('application/json'));
  const busy = await ask(socket, 'requests:json', [`${upstream.url}/status/503`, 1]);
  assert.deepEqual(busy.error, {
    code: 'plugin_unavailable',
    message: 'A server that the plugin needs does not answer, try again',
    temporary: true,
  });
  const wrong = await ask(socket, 'requests:json', [`${upstream.url}/status/404`, 1]);
  assert.match(await assertFailed(server, wrong, 'plugin_error'), /The server answered with status 404/);
});

test('without a grant for it a plugin that sends requests is refused, naming it', async (t) => {
  const own = await startServer(t, { plugins: [{ wasm: 'requests', grants: [] }] });
  const { state, refusal } = await plugin(own, 'requests');
  assert.equal(state, 'refused');
  assert.match(refusal, /^it imports mixlab:plugin\/http.send, which needs a grant: add "http:URL" to its grants/);
  const { stdout } = await own.mixlab('plugin', 'inspect', join(own.folder, 'requests.wasm'));
  assert.match(stdout, /needs +http:URL\n/);
});

test('a request goes to what is granted only, however it is written', async (t) => {
  const { port } = upstream;
  const { socket } = await serving(t, { grants: [`http:${upstream.url}/echo/v1/*`] });
  const before = upstream.requests.length;
  const good = await send(
    socket,
    `${upstream.url}/echo/v1/x`,
    `HTTP://127.0.0.1:${port}/echo/v2/../v1/x`,
    `http://127.1:${port}/echo/%761/x`,
    `http://[::ffff:127.0.0.1]:${port}/echo/v1/x%2fy`,
  );
  const urls = good.map((answer) => echoed(answer).url);
  assert.deepEqual(urls, ['/echo/v1/x', '/echo/v1/x', '/echo/v1/x', '/echo/v1/x%2Fy']);
  const elsewhere = [
    `${upstream.url}/echo/v1`,
    `${upstream.url}/echo/v2/x`,
    `${upstream.url}/echo/v1/../v2/x`,
    `${upstream.url}/echo/v1/%2e%2E/v2/x`,
    `http://127.0.0.1:${port + 1}/echo/v1/x`,
    `https://127.0.0.1:${port}/echo/v1/x`,
    `http://127.0.0.2:${port}/echo/v1/x`,
    `http://localhost:${port}/echo/v1/x`,
    `http://[::1]:${port}/echo/v1/x`,
  ];
  for (const [index, answer] of (await send(socket, ...elsewhere)).entries()) {
    assert.match(answer.denied ?? JSON.stringify(answer), /^mixlab\.toml does not grant "http:http/, elsewhere[index]);
  }
  const none = [
    [`http://user:word@127.0.0.1:${port}/echo/v1/x`, /^url: it names a user/],
    [`${upstream.url}/echo/v1/..%2fv2/x`, /^url: its path has dot segments/],
    [`${upstream.url}/echo/v1/x\r\nx-a: b`, /^url: it has spaces or control characters/],
    ['/echo/v1/x', /^url: relative URL without a base/],
    ['file:///etc/passwd', /^url: the scheme "file" is neither http nor https/],
  ];
  const answers = await send(socket, ...none.map(([url]) => url));
  for (const [index, { invalid }] of answers.entries()) assert.match(invalid ?? '', none[index][1]);
  assert.equal(upstream.requests.length, before + good.length, 'nothing else came');
});

test('what is taken away from a plugin is denied at its next request', async (t) => {
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`] });
  assert.ok((await send(socket, `${upstream.url}/echo`))[0].answered);
  editConfig(own, (text) => text.replace(`http:${upstream.url}`, 'http:https://other.example'));
  await reload(own);
  assert.match((await send(socket, `${upstream.url}/echo`))[0].denied, /does not grant/);
});

test('the internet is granted without what is on this machine and beside it', async (t) => {
  const { socket } = await serving(t, { grants: ['http'] });
  const { port } = upstream;
  const before = upstream.connections;
  const hosts = [
    '127.0.0.1',
    '127.1',
    '0177.0.0.1',
    '0x7f.1',
    '2130706433',
    '0.0.0.0',
    '[::1]',
    '[::]',
    '[::ffff:127.0.0.1]',
    '[::127.0.0.1]',
    '[64:ff9b::7f00:1]',
    '127.0.0.1.',
    'localhost',
    'LOCALHOST.',
    '10.0.0.1',
    '169.254.169.254',
    '[fd00:ec2::254]',
    '100.64.0.1',
    '224.0.0.1',
  ];
  const answers = await send(socket, ...hosts.map((host) => `http://${host}:${port}/echo`));
  for (const [index, { denied }] of answers.entries()) {
    assert.match(denied ?? '', /is not on the internet: mixlab.toml does not say private = true/, hosts[index]);
  }
  assert.equal(upstream.connections, before);
});

test('names of private addresses are for plugins whose mixlab.toml says so', async (t) => {
  const url = `http://localhost:${upstream.port}`;
  const ask = [`${url}/echo`, `http://127.0.0.1:${upstream.port}/echo`];
  const granted = await serving(t, { grants: ['http'], http: { [url]: { private: true } } });
  const [byName, byAddress] = await send(granted.socket, ...ask);
  assert.equal(echoed(byName).url, '/echo');
  assert.match(byAddress.denied, /is not on the internet/, 'it says so of the name only');
  // Connections of the one are not for the other.
  const other = await serving(t, { grants: [`http:${url}`] });
  assert.match((await send(other.socket, ask[0]))[0].denied, /is not on the internet/);
});

test('a name whose address changes from one look-up to the next gains nothing by it', async (t) => {
  const machine = badMachine(t);
  if (!machine) return;
  const url = `http://rebinds.test:${upstream.port}`;
  const grants = [`http:${url}`];
  const before = upstream.connections;
  const denied = /^rebinds\.test (has no address that requests may go to|is not on the internet)/;
  // What may be reached by those who may reach this machine, and what nobody may, in turns.
  machine.setAddresses('169.254.169.254', '127.0.0.1', '169.254.169.254', '127.0.0.1', '0.0.0.0');
  const private_ = await serving(t, { grants, http: { [url]: { private: true } } }, { env: machine.env });
  for (const may of [false, true, false, true, false]) {
    // A connection that stays would be used again, without a look-up.
    const [answer] = await send(private_.socket, `${url}/last`);
    if (may) assert.equal(answer.answered?.status, 204, JSON.stringify(answer));
    else assert.match(answer.denied ?? JSON.stringify(answer), denied);
  }
  assert.equal(upstream.connections, before + 2);
  const public_ = await serving(t, { grants }, { env: machine.env });
  machine.setAddresses('127.0.0.1', '::1', '10.0.0.1', '169.254.169.254', '::ffff:127.0.0.1');
  for (let number = 0; number < 6; number += 1) {
    assert.match((await send(public_.socket, `${url}/echo`))[0].denied, denied);
  }
  assert.equal(upstream.connections, before + 2, 'nobody was connected to');
});

test('a redirect is not followed', async (t) => {
  const socket = await connect(t, server);
  const before = upstream.requests.length;
  for (const to of [`${upstream.url}/echo`, 'http://169.254.169.254/latest/meta-data', '/echo']) {
    const [{ answered }] = await send(socket, `${upstream.url}/redirect/${encodeURIComponent(encodeURIComponent(to))}`);
    assert.equal(answered.status, 302);
  }
  assert.equal(upstream.requests.length, before + 3);
});

test('the host puts secrets in, where they belong, and shows them to nobody', async (t) => {
  const other = await startUpstream(t);
  const env = { CRM_TOKEN: 's3cret-t0ken', WIDE: 'w1de-t0ken' };
  const http = {
    [upstream.url]: { header: { authorization: 'Bearer env:WIDE', 'x-wide': 'env:WIDE' } },
    [`${upstream.url}/echo/crm/*`]: { header: { authorization: 'Bearer env:CRM_TOKEN' } },
  };
  const grants = [`http:${upstream.url}`, `http:${other.url}`];
  const { own, socket } = await serving(t, { grants, http }, { env });
  const headers = [['Authorization', 'mine']];
  await send(socket, ...[`${upstream.url}/crm`, `${upstream.url}/echo/crm/7`, `${other.url}/crm`].map((url) => ({ url, headers })));
  const [wide, narrow] = upstream.requests.slice(-2).map(({ headers }) => headers);
  assert.deepEqual([wide.authorization, wide['x-wide']], ['Bearer w1de-t0ken', 'w1de-t0ken']);
  assert.deepEqual([narrow.authorization, narrow['x-wide']], ['Bearer s3cret-t0ken', 'w1de-t0ken']);
  assert.deepEqual([other.requests[0].headers.authorization, other.requests[0].headers['x-wide']], ['mine', undefined]);

  const failed = await ask(socket, 'requests:json', [`${upstream.url}/status/404`, 1]);
  await assertFailed(own, failed, 'plugin_error');
  const { stdout } = await own.mixlab('plugin', 'list');
  const metrics = await own.api('GET', '/metrics', undefined, null);
  for (const text of [own.log(), own.output(), stdout, metrics.body]) assert.doesNotMatch(text, /t0ken/);
  assert.match(
    metrics.body,
    /mixlab_plugin_http_requests_total\{outcome="4xx",plugin="requests"\} 1\n/,
  );
});

test('a secret that is not there is told by its name, and the old configuration stays', async (t) => {
  const header = { authorization: 'env:NOT_THERE' };
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`] });
  editConfig(own, (text) => `${text}[plugins.http."${upstream.url}".header]\nauthorization = "${header.authorization}"\n`);
  await reload(own);
  const named = new RegExp(
    `plugins\\.requests\\.http\\.${upstream.url}\\.header\\.authorization: the environment variable NOT_THERE is not set`,
  );
  await own.waitForLog(named);
  assert.ok((await send(socket, `${upstream.url}/echo`))[0].answered);
  const { code, stderr } = await own.mixlab('check');
  assert.equal(code, 2);
  assert.match(stderr, named);
});

test('headers and methods that would make another request are refused', async (t) => {
  const socket = await connect(t, server);
  const url = `${upstream.url}/echo`;
  const before = upstream.requests.length;
  const wrong = [
    [{ headers: [['host', 'other.example']] }, /^headers: "host" is set by the host alone/],
    [{ headers: [['Content-Length', '0']] }, /^headers: "Content-Length" is set by the host alone/],
    [{ headers: [['transfer-encoding', 'chunked']] }, /is set by the host alone/],
    [{ headers: [['connection', 'keep-alive, authorization']] }, /is set by the host alone/],
    [{ headers: [['upgrade', 'websocket']] }, /is set by the host alone/],
    [{ headers: [['x-a', 'b\r\nhost: other.example']] }, /^headers: "x-a" has a value that no header may have/],
    [{ headers: [['x-a\r\nhost', 'b']] }, /is no name of a header/],
    [{ method: 'GET / HTTP/1.1\r\nhost: other.example\r\n\r\nGET' }, /^method: /],
    [{ method: 'CONNECT' }, /^method: "CONNECT" is none that a plugin may send/],
    [{ method: 'TRACE' }, /^method: "TRACE" is none/],
  ];
  const answers = await send(socket, ...wrong.map(([request]) => ({ url, ...request })));
  for (const [index, { invalid }] of answers.entries()) assert.match(invalid ?? '', wrong[index][1]);
  assert.equal(upstream.requests.length, before);
});

test('answers are taken within the budget, however large they are', async (t) => {
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`], budget: { boundary: '256KiB' } });
  const over = { over_budget: 'boundary = 256.0 KiB' };
  const [fits, vast, endless, again] = await send(
    socket,
    `${upstream.url}/bytes/100000`,
    `${upstream.url}/bytes/1000000`,
    `${upstream.url}/endless`,
    `${upstream.url}/bytes/100000`,
  );
  assert.equal(fits.answered.body.length, 100_000);
  assert.deepEqual([vast, endless], [over, over]);
  assert.equal(again.answered.body.length, 100_000, 'what was not taken does not count');
  await until(() => upstream.requests.filter(({ url }) => url === '/endless').every(({ ended }) => ended));
  assert.equal((await plugin(own, 'requests')).failures, 0, 'it is no fault of the plugin');
  // What it sends itself is.
  const failed = await ask(socket, 'requests', [{ url: `${upstream.url}/echo`, body: 'x'.repeat(200_000), times: 2 }]);
  assert.match(await assertFailed(own, failed, 'plugin_error'), /the budget boundary = 256.0 KiB is used up/);
});

test('a plugin waits no longer than it says, and no longer than its budget leaves', async (t) => {
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`] }, { config: `${CONFIG}wall = "2s"\n` });
  const before = upstream.requests.length;
  assert.deepEqual(
    await send(socket, { url: `${upstream.url}/held`, timeout_ms: 50 }, { url: `${upstream.url}/drip`, timeout_ms: 50 }),
    ['timed_out', 'timed_out'],
  );
  assert.deepEqual(await send(socket, `${upstream.url}/drip`), ['timed_out'], 'the call has time to say so');
  assert.deepEqual(await send(socket, { url: `${upstream.url}/held`, timeout_ms: 4_000_000_000 }), ['timed_out']);
  const late = upstream.requests.slice(before);
  assert.ok(late.length > 0);
  await until(() => late.every(({ ended }) => ended), { message: 'the requests end' });
  assert.equal((await plugin(own, 'requests')).failures, 0);
});

test('what is no answer is told as such', async (t) => {
  let close;
  const gone = await startUpstream({ after: (hook) => (close = hook) });
  close();
  // No name server has to be asked to know that there is none of this name.
  const nowhere = `http://${'x'.repeat(64)}.invalid`;
  const { socket } = await serving(t, { grants: [upstream.url, gone.url, nowhere].map((url) => `http:${url}`) });
  const [broken, refused, unknown] = await send(socket, `${upstream.url}/broken`, `${gone.url}/`, `${nowhere}/`);
  assert.match(broken.unreachable, /^127\.0\.0\.1: /);
  assert.match(refused.unreachable, /^127\.0\.0\.1: Connection refused/);
  assert.match(unknown.unreachable, /^x+\.invalid: /);
});

/** What servers write that are none, or bad ones: once, or again and again for as long as it is taken. */
const ODD = {
  'thousands of headers': [`HTTP/1.1 200 OK\r\n${'x-a: b\r\n'.repeat(5_000)}\r\n`],
  'a header without end': ['HTTP/1.1 200 OK\r\nx-a: ', 'x'.repeat(1_000)],
  'hints without end': ['', 'HTTP/1.1 103 Early Hints\r\n\r\n'],
  'chunks with extensions without end': ['HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;a=', 'y'.repeat(1_000)],
  'trailers without end': ['HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n', 'x-a: b\r\n'],
  'no HTTP': ['SSH-2.0-OpenSSH\r\n\r\n'],
};

for (const [what, [once, again]] of Object.entries(ODD)) {
  test(`a server that answers with ${what} is one without an answer`, async (t) => {
    const odd = createServer((connection) => {
      const write = () => {
        while (again && connection.writable && connection.write(again.repeat(100)));
      };
      connection.on('error', () => {}).on('drain', write);
      connection.once('data', () => {
        connection.write(once);
        write();
      });
    });
    await new Promise((resolve) => odd.listen(0, '127.0.0.1', resolve));
    t.after(() => odd.close());
    const url = `http://127.0.0.1:${odd.address().port}`;
    const { own, socket } = await serving(t, { grants: [`http:${url}`, `http:${upstream.url}`] });
    const [answer, good] = await send(socket, { url, timeout_ms: 1_000 }, `${upstream.url}/echo`);
    assert.ok(answer === 'timed_out' || answer.unreachable, JSON.stringify(answer));
    assert.equal(echoed(good).url, '/echo');
    assert.equal((await plugin(own, 'requests')).failures, 0);
  });
}

test('what a server writes behind its answer is no answer to the next request', async (t) => {
  const answer = (body) => `HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  const odd = createServer((connection) => {
    connection.on('error', () => {});
    connection.on('data', () => connection.write(answer('its own') + answer('another')));
  });
  await new Promise((resolve) => odd.listen(0, '127.0.0.1', resolve));
  t.after(() => odd.close());
  const url = `http://127.0.0.1:${odd.address().port}`;
  const { socket } = await serving(t, { grants: [`http:${url}`] });
  for (let number = 0; number < 20; number += 1) {
    const [{ answered }] = await send(socket, url);
    assert.equal(answered.body, 'its own');
  }
});

test('a call that is killed ends its request', async (t) => {
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`] });
  const before = upstream.requests.length;
  const held = send(socket, `${upstream.url}/held`);
  held.catch(() => {});
  await until(() => upstream.requests.length > before, IN_REQUEST);
  // A version that is gone for good takes its calls with it.
  editConfig(own, (text) => `[reload]\ndrain = "10ms"\n${text}`);
  await reload(own);
  replaceFile(join(own.folder, 'requests.wasm'), readFileSync(wasm('echo')));
  await reload(own);
  await until(() => upstream.requests[before].ended, { message: 'the request ends' });
  assert.equal((await held).error.code, 'plugin_unavailable');
});

test('a version that is replaced sees the answers to what it asked', async (t) => {
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`] });
  const before = upstream.requests.length;
  const held = send(socket, `${upstream.url}/held`);
  await until(() => upstream.requests.length > before, IN_REQUEST);
  editConfig(own, (text) => text.replace('grants', 'config = {}\non_failure = "disable"\ngrants'));
  await reload(own);
  assert.equal((await plugin(own, 'requests')).generation, 2);
  upstream.requests[before].response.end('late');
  assert.equal((await held)[0].answered.body, 'late');
});

test('what an event has requested is requested, whatever becomes of it', async (t) => {
  const socket = await connect(t, server);
  const before = upstream.requests.length;
  assert.equal((await ask(socket, 'requests:fails', `${upstream.url}/echo`)).error.code, 'too_late');
  assert.equal(upstream.requests.length, before + 1);
});

/** A plugin that reads, asks the upstream and writes what it read with one more; and events that it filters. */
async function charging(t, { filters = [], ...keys } = {}) {
  const config = { filters, url: `${upstream.url}/held` };
  const grants = ['store', 'timers', `http:${upstream.url}`, 'webhook:unverified', ...filters.map((event) => `filter:${event}`)];
  const own = await startServer(t, {
    config: `[budget]\nwall = "20s"\n`,
    env: { HOOKS: 'a secret' },
    plugins: ['echo', { wasm: 'charges', grants, config, ...keys }],
  });
  return { own, socket: await connect(t, own), other: await connect(t, own) };
}

/** Has another client change what a call has read, while the call waits for the upstream. */
async function meanwhile({ other }, number, start) {
  const before = upstream.requests.length;
  const result = start();
  await until(() => upstream.requests.length > before, IN_REQUEST);
  await ask(other, 'charges:set', number);
  upstream.requests[before].response.end();
  return { result, before };
}

for (const [who, start] of [
  ['an event', ({ socket }) => ask(socket, 'charges', `${upstream.url}/held`)],
  ['a filter', ({ socket }) => ask(socket, 'echo', 'x')],
  [
    'a webhook',
    async ({ own }) => {
      const body = JSON.stringify(`${upstream.url}/held`);
      const answer = await fetch(`${own.url}/hooks/charges`, { method: 'POST', body });
      assert.equal(answer.status, 503);
      assert.ok(Number(answer.headers.get('retry-after')) > 0);
      return answer.json();
    },
  ],
]) {
  test(`${who} that sent a request is not run again when what it read has changed: its client is told`, async (t) => {
    const all = await charging(t, { filters: who === 'a filter' ? ['echo'] : [] });
    const { result, before } = await meanwhile(all, 40, () => start(all));
    const { code, temporary } = (await result).error;
    assert.deepEqual([code, temporary], ['conflict', true]);
    assert.equal(upstream.requests.length, before + 1, 'nobody is charged twice');
    assert.equal(await ask(all.socket, 'charges:get'), 40, 'what it would have written is not there');
    assert.equal((await plugin(all.own, 'charges')).failures, 0, 'it is no fault of the plugin');
  });
}

test('a timer that sent a request has failed when what it read has changed, and asks again as its next attempt', async (t) => {
  const all = await charging(t);
  const start = () => ask(all.socket, 'charges:later', `${upstream.url}/held`);
  const { before } = await meanwhile(all, 40, start);
  await until(() => upstream.requests.length === before + 2, { message: 'the second request', timeout: 30_000 });
  upstream.requests[before + 1].response.end();
  await until(async () => (await ask(all.socket, 'charges:get')) === 41);
  assert.deepEqual(upstream.requests.slice(before).map(({ url }) => url), ['/held?attempt=1', '/held?attempt=2']);
});

test('a sender that hangs up finds what came of its delivery when it comes again', async (t) => {
  const { own, socket } = await charging(t, { webhook: { verify: 'github', secret_env: 'HOOKS' } });
  const body = JSON.stringify(`${upstream.url}/held`);
  const signature = createHmac('sha256', 'a secret').update(body).digest('hex');
  const headers = { 'x-github-delivery': '7', 'x-hub-signature-256': `sha256=${signature}` };
  const deliver = (signal) => fetch(`${own.url}/hooks/charges`, { method: 'POST', body, headers, signal });
  const before = upstream.requests.length;
  const hangUp = new AbortController();
  const first = deliver(hangUp.signal);
  await until(() => upstream.requests.length > before, IN_REQUEST);
  hangUp.abort();
  await assert.rejects(first);
  const again = deliver();
  assert.equal(await ask(socket, 'charges:get'), 0);
  upstream.requests[before].response.end();
  const answer = await again;
  assert.deepEqual([answer.status, await answer.text()], [200, '1']);
  assert.equal(upstream.requests.length, before + 1, 'nobody is charged twice');
  assert.equal(await ask(socket, 'charges:get'), 1);
});

test('an event that may be repeated asks again, on what is there now', async (t) => {
  const all = await charging(t);
  const start = () => ask(all.socket, 'charges:again', `${upstream.url}/held`);
  const { result, before } = await meanwhile(all, 40, start);
  await until(() => upstream.requests.length === before + 2, { message: 'the second request' });
  upstream.requests[before + 1].response.end();
  assert.equal(await result, 41);
  assert.equal(await ask(all.socket, 'charges:get'), 41);
});

test('connections are used again, by all plugins', async (t) => {
  const own = await startUpstream(t);
  const grants = [`http:${own.url}`];
  const { socket } = await serving(t, { grants });
  const answers = await send(socket, { url: `${own.url}/echo`, times: 20 });
  assert.ok(answers.every(({ answered }) => answered.status === 200));
  assert.equal(own.connections, 1);
});

test('slow servers leave a plugin to the others', async (t) => {
  const { own, socket } = await serving(
    t,
    { grants: [`http:${upstream.url}`], budget: { instances: 2, requests: 3 } },
    { config: `${CONFIG}wall = "20s"\n` },
  );
  const before = upstream.requests.length;
  const waiting = await Promise.all(Array.from({ length: 6 }, () => connect(t, own)));
  const answers = waiting.map((one) => send(one, { url: `${upstream.url}/held`, timeout_ms: 15_000 }));
  // Three wait for the server, two for their turn, and for one more there is no place.
  const refused = await Promise.race(answers);
  assert.deepEqual(refused, [{ busy: 'requests: too many calls of the plugin wait for servers' }]);
  await until(() => upstream.requests.length === before + 3);
  for (let number = 0; number < 20; number += 1) assert.equal(await ask(socket, 'requests:ping'), 'pong');
  const release = (index) => upstream.requests[before + index].response.end();
  [0, 1, 2].forEach(release);
  await until(() => upstream.requests.length === before + 5, { message: 'those whose turn it is' });
  [3, 4].forEach(release);
  const all = (await Promise.all(answers)).flat();
  assert.equal(all.filter((answer) => answer.answered).length, 5);
  assert.equal((await plugin(own, 'requests')).failures, 0);
});

test('a request that finds no place is refused in time for its event', async (t) => {
  const { own, socket } = await serving(
    t,
    { grants: [`http:${upstream.url}`], budget: { instances: 2, requests: 1 } },
    { config: `${CONFIG}wall = "20s"\n` },
  );
  const other = await connect(t, own);
  const before = upstream.requests.length;
  const held = send(other, `${upstream.url}/held`);
  await until(() => upstream.requests.length > before, IN_REQUEST);
  const [answer] = await send(socket, { url: `${upstream.url}/echo`, timeout_ms: 50 });
  assert.deepEqual(answer, { busy: 'requests: too many calls of the plugin wait for servers' });
  upstream.requests[before].response.end();
  assert.ok((await held)[0].answered);
});

test('a plugin with one instance says that a server may stop it', async (t) => {
  const single = await startServer(t, {
    config: CONFIG,
    plugins: [
      { wasm: 'requests', name: 'refused', grants: ['http'], budget: { instances: 1 } },
      { wasm: 'requests', name: 'allowed', grants: [`http:${upstream.url}`], budget: { instances: 1, requests: 1 } },
    ],
  });
  const { refusal } = await plugin(single, 'refused');
  assert.match(refusal, /instances = 1 leaves none that may wait for servers: add requests = 1 to its budget/);
  const socket = await connect(t, single);
  assert.ok((await send(socket, `${upstream.url}/echo`))[0].answered);
});

test('a server may be asked whom to let in, and not before there is anybody', async (t) => {
  const grants = [`http:${upstream.url}`];
  const config = (when, path) => ({ when, url: `${upstream.url}${path}` });
  await serving(t, { grants, config: config('connect', '/') });
  await assert.rejects(serving(t, { grants, config: config('connect', '/status/503') }), { message: 'not_yet' });
  const early = await startServer(t, { plugins: [{ wasm: 'requests', grants, config: config('describe', '/') }] });
  const { refusal } = await plugin(early, 'requests');
  assert.match(refusal, /requests cannot be sent before the plugin has described itself/);
});

test('over TLS a server has to show that it is the one', async (t) => {
  const { file, tls } = authority(t, ['DNS:localhost', 'IP:127.0.0.1']);
  const good = await startUpstream(t, { tls });
  const byName = `https://localhost:${good.port}`;
  const keys = { grants: [`http:${good.url}`, `http:${byName}`], http: { [byName]: { private: true } } };
  const { socket } = await serving(t, keys, { env: { SSL_CERT_FILE: file } });
  const answers = await send(socket, { url: `${good.url}/echo`, times: 3 }, { url: `${byName}/echo`, times: 3 });
  assert.deepEqual(new Set(answers.map((answer) => echoed(answer).url)), new Set(['/echo']));
  assert.equal(good.connections, 2, 'one by each name');

  const other = await startUpstream(t, { tls: authority(t, ['IP:127.0.0.1']).tls });
  const misnamed = await startUpstream(t, { tls, host: '127.0.0.2' });
  const wary = await serving(
    t,
    { grants: [other, misnamed, upstream].map(({ url }) => `http:${url.replace(/^http:/, 'https:')}`) },
    { env: { SSL_CERT_FILE: file } },
  );
  const refused = await send(
    wary.socket,
    `${other.url}/echo`,
    `${misnamed.url}/echo`,
    `${upstream.url.replace('http:', 'https:')}/echo`,
  );
  const [unknown, wrongName, clear] = refused.map(({ unreachable }) => unreachable ?? '');
  assert.match(unknown, /^127\.0\.0\.1: invalid peer certificate: UnknownIssuer/);
  assert.match(wrongName, /certificate not valid for name "127\.0\.0\.2"/);
  assert.match(clear, /^127\.0\.0\.1: received corrupt message/);
  assert.deepEqual([other.requests, misnamed.requests], [[], []], 'nothing was sent');
});
