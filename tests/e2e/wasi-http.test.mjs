// Plugins that send requests by WASI's own interface: the same grants, the same client.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { assertFailed, editConfig, plugin, reload, replaceFile } from '../support/plugins.mjs';
import { startServer, wasm } from '../support/server.mjs';
import { startUpstream } from '../support/upstream.mjs';
import { until } from '../support/wait.mjs';

const CONFIG = '[budget]\ncpu = "500ms"\nwall = "20s"\n';
const IN_REQUEST = { message: 'the request came' };

const upstream = await startUpstream({ after });
const authority = `127.0.0.1:${upstream.port}`;

/** A server whose plugin has these grants and may store, and a client of it. */
async function serving(t, { grants, ...keys }, options = {}) {
  const guest = { wasm: 'wasi_requests', grants: ['store', ...grants], ...keys };
  const own = await startServer(t, { config: CONFIG, ...options, plugins: [guest] });
  return { own, socket: await connect(t, own) };
}

const to = (path, more) => ({ authority, path, ...more });
const send = (socket, ...requests) => ask(socket, 'wasi_requests', requests);
const echoed = ({ answered }) => JSON.parse(answered.body);

test('a plugin sends requests by wasi:http where it is granted, with what the host puts in', async (t) => {
  const grants = [`http:${upstream.url}`];
  const http = { [upstream.url]: { header: { authorization: 'Bearer env:CRM_TOKEN' } } };
  const { own, socket } = await serving(t, { grants, http }, { env: { CRM_TOKEN: 's3cret-t0ken' } });
  const headers = [
    ['x-one', 'a, b'],
    ['content-length', '6'],
    ['authorization', 'mine'],
  ];
  const [answer, missing] = await send(
    socket,
    to('/echo?q=%C3%BC', { method: 'PUT', headers, body: 'hellö' }),
    to('/status/404'),
  );
  const { method, url, body, headers: raw } = echoed(answer);
  assert.deepEqual([method, url, body], ['PUT', '/echo?q=%C3%BC', 'hellö']);
  const sent = Object.fromEntries(raw.flatMap((name, index) => (index % 2 ? [] : [[name.toLowerCase(), raw[index + 1]]])));
  assert.match(sent['user-agent'], /^mixlab\/\d/);
  delete sent['user-agent'];
  assert.deepEqual(sent, { 'x-one': 'a, b', 'content-length': '6', host: authority, authorization: 'Bearer s3cret-t0ken' });
  assert.deepEqual([missing.answered.status, missing.answered.body], [404, 'no more']);
  assert.ok(missing.answered.headers.some(([name, value]) => name === 'x-status' && value === '404'));
  const metrics = await own.api('GET', '/metrics', undefined, null);
  for (const outcome of ['2xx', '4xx']) {
    assert.match(metrics.body, new RegExp(`mixlab_plugin_http_requests_total{outcome="${outcome}",plugin="wasi-requests"} 1\n`));
  }
  for (const text of [own.log(), own.output(), metrics.body]) assert.doesNotMatch(text, /t0ken/);
});

test('without a grant a plugin with wasi:http loads, and each of its requests is refused', async (t) => {
  const { own, socket } = await serving(t, { grants: [] });
  const before = upstream.connections;
  const refused = { refused: 'ErrorCode::HttpRequestDenied' };
  assert.deepEqual(await send(socket, to('/echo'), to('/echo', { scheme: 'https' })), [refused, refused]);
  assert.equal(upstream.connections, before);
  await own.waitForLog(new RegExp(`wasi:http: mixlab.toml does not grant "http:http://${authority}/echo"`));
  const metrics = await own.api('GET', '/metrics', undefined, null);
  assert.match(metrics.body, /mixlab_plugin_http_requests_total{outcome="denied",plugin="wasi-requests"} 2\n/);
  const { stdout } = await own.mixlab('plugin', 'inspect', join(own.folder, 'wasi_requests.wasm'));
  assert.match(stdout, /may need +http:URL\n/);
  // A grant that comes later counts at once.
  editConfig(own, (text) => text.replace('"store"', `"store", "http:${upstream.url}"`));
  await reload(own);
  assert.equal(echoed((await send(socket, to('/echo')))[0]).url, '/echo');
});

test('a request by wasi:http goes to what is granted only, however its parts are written', async (t) => {
  const { port } = upstream;
  const { socket } = await serving(t, { grants: [`http:${upstream.url}/echo/v1/*`] });
  const before = upstream.requests.length;
  const good = await send(
    socket,
    to('/echo/v1/x'),
    to('/echo/v2/../v1/x'),
    { authority: `[::ffff:127.0.0.1]:${port}`, path: '/echo/v1/x%2fy' },
  );
  assert.deepEqual(good.map((answer) => echoed(answer).url), ['/echo/v1/x', '/echo/v1/x', '/echo/v1/x%2Fy']);
  const denied = [
    to('/echo/v1'),
    to('/echo/v1/../v2/x'),
    to(undefined),
    to('?x=/echo/v1/x'),
    { authority: `127.0.0.1:${port + 1}`, path: '/echo/v1/x' },
    { authority: `127.0.0.2:${port}`, path: '/echo/v1/x' },
    { authority: `localhost:${port}`, path: '/echo/v1/x' },
    to('/echo/v1/x', { scheme: 'https' }),
  ];
  const refused = (code) => ({ refused: `ErrorCode::${code}` });
  for (const [index, answer] of (await send(socket, ...denied)).entries()) {
    assert.deepEqual(answer, refused('HttpRequestDenied'), JSON.stringify(denied[index]));
  }
  const none = [
    [{ path: '/echo/v1/x' }, 'HttpRequestUriInvalid'],
    [{ authority: `user:word@${authority}`, path: '/echo/v1/x' }, 'HttpRequestUriInvalid'],
    [to('/echo/v1/..%2fv2/x'), 'HttpRequestUriInvalid'],
    [to('/echo/v1/x', { scheme: 'file' }), 'HttpRequestUriInvalid'],
    [to('/echo/v1/x', { method: 'CONNECT' }), 'HttpRequestMethodInvalid'],
    [to('/echo/v1/x', { method: 'TRACE' }), 'HttpRequestMethodInvalid'],
  ];
  const answers = await send(socket, ...none.map(([request]) => request));
  assert.deepEqual(answers, none.map(([, code]) => refused(code)));
  for (const name of ['host', 'connection', 'transfer-encoding', 'te', 'proxy-authorization']) {
    const [answer] = await send(socket, to('/echo/v1/x', { headers: [[name, 'x']] }));
    assert.deepEqual(answer, { unsent: 'HeaderError::Forbidden' }, name);
  }
  assert.equal(upstream.requests.length, before + good.length, 'nothing else came');
});

test('the internet is granted to wasi:http without what is on this machine', async (t) => {
  const byName = `localhost:${upstream.port}`;
  const grants = ['http'];
  const { socket } = await serving(t, { grants });
  const before = upstream.connections;
  const hosts = ['127.0.0.1', 'localhost', '[::1]', '169.254.169.254', '10.0.0.1'];
  const answers = await send(socket, ...hosts.map((host) => ({ authority: `${host}:${upstream.port}`, path: '/echo' })));
  for (const answer of answers) assert.deepEqual(answer, { refused: 'ErrorCode::HttpRequestDenied' });
  assert.equal(upstream.connections, before);
  const allowed = await serving(t, { grants, http: { [`http://${byName}`]: { private: true } } });
  assert.equal(echoed((await send(allowed.socket, { authority: byName, path: '/echo' }))[0]).url, '/echo');
});

test('answers by wasi:http are taken within the budget, and what is sent, too', async (t) => {
  const grants = [`http:${upstream.url}`];
  const { own, socket } = await serving(t, { grants, budget: { boundary: '256KiB' } });
  const over = { refused: 'ErrorCode::HttpResponseBodySize(None)' };
  const [fits, vast, endless, again, redirect] = await send(
    socket,
    to('/bytes/100000'),
    to('/bytes/1000000'),
    to('/endless'),
    to('/bytes/100000'),
    to('/redirect/%2Fecho'),
  );
  assert.equal(fits.answered.body.length, 100_000);
  assert.deepEqual([vast, endless], [over, over]);
  assert.equal(again.answered.body.length, 100_000, 'what was not taken does not count');
  assert.equal(redirect.answered.status, 302);
  const body = 'x'.repeat(100_000);
  const [large] = await send(socket, to('/echo', { body: body.slice(0, 80_000) }));
  assert.equal(echoed(large).body.length, 80_000);
  const [echo] = await send(socket, to('/echo', { body }));
  assert.deepEqual(echo, over, 'the event, what was sent and what comes back are one budget');
  assert.equal((await plugin(own, 'wasi-requests')).failures, 0, 'it is no fault of the plugin');
});

test('a guest keeps no more of answers, call after call, than one call may have', async (t) => {
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`], budget: { boundary: '256KiB', instances: 2 } });
  const kept = [];
  for (let number = 0; number < 12; number += 1) kept.push(await ask(socket, 'wasi_requests:keep', to('/bytes/60000')));
  assert.ok(kept.some((answer) => JSON.stringify(answer).includes('HttpResponseBodySize')), JSON.stringify(kept));
  // Headers and requests are things of the host, of which it may hold so many.
  await assertFailed(own, await ask(socket, 'wasi_requests:hoard'), 'plugin_error');
  assert.equal(await ask(socket, 'wasi_requests:ping'), 'pong');
});

test('a plugin with wasi:http waits no longer than it says', async (t) => {
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`] });
  const before = upstream.requests.length;
  const timedOut = { refused: 'ErrorCode::HttpResponseTimeout' };
  assert.deepEqual(
    await send(socket, to('/held', { timeout_ms: 50 }), to('/drip', { timeout_ms: 50 })),
    [timedOut, timedOut],
  );
  await until(() => upstream.requests.slice(before).every(({ ended }) => ended), { message: 'the requests end' });
  const [broken] = await send(socket, to('/broken'));
  assert.deepEqual(broken, { refused: 'ErrorCode::DestinationUnavailable' });
  assert.equal((await plugin(own, 'wasi-requests')).failures, 0);
});

test('a call that is killed ends its request by wasi:http', async (t) => {
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`] });
  const before = upstream.requests.length;
  const held = send(socket, to('/held'));
  held.catch(() => {});
  await until(() => upstream.requests.length > before, IN_REQUEST);
  editConfig(own, (text) => `[reload]\ndrain = "10ms"\n${text}`);
  await reload(own);
  replaceFile(join(own.folder, 'wasi_requests.wasm'), readFileSync(wasm('echo')));
  await reload(own);
  await until(() => upstream.requests[before].ended, { message: 'the request ends' });
  assert.equal((await held).error.code, 'plugin_unavailable');
});

test('a request that its call does not wait for ends with it', async (t) => {
  const { socket } = await serving(t, { grants: [`http:${upstream.url}`], budget: { instances: 1, requests: 1 } });
  const before = upstream.requests.length;
  for (let number = 0; number < 20; number += 1) assert.equal(await ask(socket, 'wasi_requests:leave', to('/held')), undefined);
  await until(() => upstream.requests.slice(before).every(({ ended }) => ended), { message: 'the requests end' });
  const left = await ask(socket, 'wasi_requests:left');
  assert.equal(left.length, 20);
  for (const answer of left) assert.deepEqual(answer, { refused: 'ErrorCode::ConnectionTerminated' });
  assert.equal(echoed((await send(socket, to('/echo')))[0]).url, '/echo', 'and leaves its place');
});

test('requests that a call sends together are sent one after the other', async (t) => {
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`] });
  const other = await connect(t, own);
  const before = upstream.requests.length;
  const answers = ask(socket, 'wasi_requests:together', [to('/held'), to('/echo', { method: 'POST', body: 'b' }), to('/status/404')]);
  await until(() => upstream.requests.length > before, IN_REQUEST);
  assert.equal(await ask(other, 'wasi_requests:ping'), 'pong', 'others go on');
  assert.equal(upstream.requests.length, before + 1);
  upstream.requests[before].response.end('late');
  const [held, echo, missing] = await answers;
  assert.deepEqual([held.answered.body, echoed(echo).body, missing.answered.status], ['late', 'b', 404]);
});

test('requests that a call sends together go out in the order in which they were sent', async (t) => {
  const { socket } = await serving(t, { grants: [`http:${upstream.url}`] });
  for (let round = 0; round < 20; round += 1) {
    const before = upstream.requests.length;
    const paths = [200, 201, 202, 203, 205, 206].map((status) => `/status/${status}`);
    await ask(socket, 'wasi_requests:together', paths.map((path) => to(path)));
    assert.deepEqual(upstream.requests.slice(before).map(({ url }) => url), paths);
  }
});

test('a call that sent a request by wasi:http is not run again when what it read has changed', async (t) => {
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`] });
  const other = await connect(t, own);
  const before = upstream.requests.length;
  const counting = ask(socket, 'wasi_requests:count', to('/held'));
  await until(() => upstream.requests.length > before, IN_REQUEST);
  assert.equal(await ask(other, 'wasi_requests:count', to('/echo')), 1);
  upstream.requests[before].response.end();
  const { code, temporary } = (await counting).error;
  assert.deepEqual([code, temporary], ['conflict', true]);
  assert.equal(upstream.requests.length, before + 2, 'nobody is charged twice');
});

test('a plugin with one instance says that a server may stop it, where it may send requests', async (t) => {
  const single = await startServer(t, {
    plugins: [
      { wasm: 'wasi_requests', name: 'refused', grants: ['store', 'http'], budget: { instances: 1 } },
      { wasm: 'wasi_requests', name: 'silent', grants: ['store'], budget: { instances: 1 } },
    ],
  });
  assert.match((await plugin(single, 'refused')).refusal, /leaves none that may wait for servers: add requests = 1 to its budget/);
  assert.equal((await plugin(single, 'silent')).state, 'serving');
});

test('a component that imports everything may send by wasi:http what it may by http.send, as it is granted', async (t) => {
  const own = await startServer(t, {
    plugins: [
      { wasm: 'offers', grants: [`http:${upstream.url}/status/*`] },
      { wasm: 'offers', name: 'single', grants: ['http'], budget: { instances: 1 } },
    ],
  });
  assert.match((await plugin(own, 'single')).refusal, /leaves none that may wait for servers/);
  const socket = await connect(t, own);
  assert.deepEqual(await ask(socket, 'offers', authority, '/status/201'), ['201', '201']);
  const [sent, byWasi] = await ask(socket, 'offers', authority, '/echo');
  assert.match(sent, /Denied/);
  assert.equal(byWasi, 'ErrorCode::HttpRequestDenied');
  editConfig(own, (text) => text.replace(`"http:${upstream.url}/status/*"`, ''));
  await reload(own);
  assert.equal((await ask(socket, 'offers', authority, '/status/201'))[1], 'ErrorCode::HttpRequestDenied');
});

test('bodies that are none harm nobody, and an answer is there once', async (t) => {
  const budget = { instances: 1, requests: 1, boundary: '256KiB' };
  const { own, socket } = await serving(t, { grants: [`http:${upstream.url}`], budget });
  const odd = (what) => ask(socket, 'wasi_requests:odd', authority, what);
  const before = upstream.requests.length;
  assert.deepEqual(await odd('endless'), { refused: 'ErrorCode::HttpRequestBodySize(None)' });
  for (const what of ['unfinished', 'short']) {
    assert.deepEqual(await odd(what), { refused: 'ErrorCode::HttpProtocolError' }, what);
  }
  assert.ok((await odd('unwanted')).unsent, 'the call goes on');
  assert.equal((await odd('left')).unsent, 'left');
  assert.match((await odd('continued')).unsent, /^0 /, 'a request ends with its call');
  assert.deepEqual(await ask(socket, 'wasi_requests:left'), [{ refused: 'ErrorCode::ConnectionTerminated' }]);
  assert.equal(upstream.requests.length, before, 'none of them was sent');
  assert.equal((await odd('again')).unsent, '200 true');
  assert.equal((await plugin(own, 'wasi-requests')).failures, 0);
});
