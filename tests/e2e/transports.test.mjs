// Transports that are not allowed, the cookie of a session and compressed polls, beside Node's own server.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import { gunzipSync, gzipSync, inflateSync } from 'node:zlib';
import { ask, connect, TRANSPORTS } from '../support/client.mjs';
import { frameSocket, upgrade } from '../support/frames.mjs';
import { startNode } from '../support/node-server.mjs';
import { rawPolling } from '../support/raw.mjs';
import { CONFORMANCE, EMBED, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const serve = (t, socket, options) => startServer(t, { config: `[socket]\n${socket}\n`, plugins: [CONFORMANCE], ...options });

/** What a GET is answered: status, headers and body, as they are. */
const fetched = (url, headers = {}, method = 'GET', body) =>
  new Promise((resolve, reject) => {
    const sent = request(url, { method, headers }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }));
    });
    sent.on('error', reject).end(body);
  });

/** Ends the session that began with this answer: Node's server waits for those that poll as it closes. */
async function leave(server, { status, body }) {
  const sid = status === 200 && JSON.parse(body.toString().slice(1)).sid;
  if (sid) await fetched(endpoint(server, 'polling', `&sid=${sid}`), {}, 'POST', '1');
}

const endpoint = (server, transport, more = '') => `${server.url}/socket.io/?EIO=4&transport=${transport}${more}`;

// Transports

for (const allowed of TRANSPORTS) {
  const other = TRANSPORTS.find((name) => name !== allowed);

  test(`with ${allowed} alone, requests are answered as by Node`, async (t) => {
    const server = await serve(t, `allowed_transports = ["${allowed}"]`);
    const node = await startNode(t, { transports: [allowed] });
    for (const [name, ask] of [
      ['polling', (to) => fetched(endpoint(to, 'polling'))],
      ['polling of a session', (to) => fetched(endpoint(to, 'polling', '&sid=x'))],
      ['websocket without an upgrade', (to) => fetched(endpoint(to, 'websocket'))],
    ]) {
      const [ours, theirs] = await Promise.all([server, node].map(ask));
      await leave(node, theirs);
      assert.equal(ours.status, theirs.status, name);
      const told = ({ body }) => body.toString().replace(/"sid":"[^"]*"/, '').replace(/"maxPayload":\d+/, '');
      assert.equal(told(ours), told(theirs), name);
    }
    const status = async (to) => {
      const { head, tcp } = await frameSocket(t, to, upgrade(to));
      tcp.destroy();
      return head.split('\r\n')[0];
    };
    const [ours, theirs] = [await status(server), await status(node)];
    assert.equal(ours, theirs);
    assert.match(ours, allowed === 'websocket' ? / 101 / : / 400 /);
  });

  test(`with ${allowed} alone, stock clients come over it and over nothing else`, async (t) => {
    const server = await serve(t, `allowed_transports = ["${allowed}"]`);
    const socket = await connect(t, server, { transports: [allowed] });
    assert.equal(await ask(socket, 'message-with-ack', 1), 1);
    await assert.rejects(connect(t, server, { transports: [other] }));
    // A client that would try both goes on with what there is.
    const both = await connect(t, server, { transports: ['polling', 'websocket'], tryAllTransports: true });
    assert.equal(await ask(both, 'message-with-ack', 2), 2);
    assert.equal(both.io.engine.transport.name, allowed);
    assert.deepEqual(both.io.engine.upgrades ?? [], []);
  });

  test(`with ${allowed} alone, native handlers have it alone, too`, async (t) => {
    const server = await serve(t, `allowed_transports = ["${allowed}"]`, { embedding: EMBED, plugins: [] });
    const path = '/native.io';
    const socket = await connect(t, server, { path, transports: [allowed] });
    assert.equal(await ask(socket, 'echo', 1), 1);
    await assert.rejects(connect(t, server, { path, transports: [other] }));
  });
}

// The cookie

for (const [name, written, options] of [
  ['a name', 'cookie = "io"', true],
  [
    'all attributes',
    'cookie = { name = "lb", path = "/chat", http_only = false, secure = true, same_site = "none", domain = "example.com", max_age = "1h" }',
    { name: 'lb', path: '/chat', httpOnly: false, secure: true, sameSite: 'none', domain: 'example.com', maxAge: 3600 },
  ],
  ['a strict one', 'cookie = { name = "io", same_site = "strict" }', { sameSite: 'strict' }],
]) {
  test(`the cookie of a session is as Node writes it: ${name}`, async (t) => {
    const server = await serve(t, written);
    const node = await startNode(t, { cookie: options });
    const [ours, theirs] = await Promise.all(
      [server, node].map(async (to) => {
        const { headers, body } = await fetched(endpoint(to, 'polling'));
        const { sid } = JSON.parse(body.toString().slice(1));
        const [cookie, ...more] = headers['set-cookie'];
        assert.deepEqual(more, []);
        assert.ok(cookie.includes(sid));
        const later = await fetched(endpoint(to, 'polling', `&sid=${sid}`), {}, 'POST', '1');
        assert.equal(later.headers['set-cookie'], undefined, 'with the first answer only');
        const { head, tcp } = await frameSocket(t, to, upgrade(to));
        tcp.destroy();
        return { cookie: cookie.replace(sid, 'SID'), ofWebsocket: /set-cookie/i.test(head) };
      }),
    );
    assert.deepEqual(ours, theirs);
    assert.equal(ours.ofWebsocket, false);
  });
}

test('no cookie is sent unless one is named', async (t) => {
  const server = await serve(t, '');
  assert.equal((await fetched(endpoint(server, 'polling'))).headers['set-cookie'], undefined);
});

// Caches

test('nobody keeps what polls and posts are answered, as with Node', async (t) => {
  const server = await serve(t, '');
  const node = await startNode(t);
  for (const to of [server, node]) {
    const opened = await fetched(endpoint(to, 'polling'));
    const url = endpoint(to, 'polling', `&sid=${JSON.parse(opened.body.toString().slice(1)).sid}`);
    const posted = await fetched(url, {}, 'POST', '40');
    const polled = await fetched(url);
    const said = [opened, posted, polled].map(({ headers }) => headers['cache-control']);
    assert.deepEqual(said, ['no-store', 'no-store', 'no-store']);
    await leave(to, opened);
  }
});

// Compressed polls

const LONG = 'all work and no play makes a dull event. '.repeat(100);

/** A session that polls with these headers. */
async function poller(server) {
  const { url, sid } = await rawPolling(server);
  await fetched(url, {}, 'POST', '40');
  const poll = (headers) => fetched(url, headers);
  // The plugin's word to who has come is the last, and need not be in the answer that lets it in.
  await until(async () => /42\["auth"/.test((await poll({})).body.toString()), { message: 'it has joined' });
  return { url, sid, poll, post: (body, headers) => fetched(url, headers, 'POST', body) };
}

const decoded = ({ headers, body }) =>
  ({ gzip: gunzipSync, deflate: inflateSync })[headers['content-encoding']]?.(body).toString() ?? body.toString();

test('polls are compressed for the same requests as by Node', async (t) => {
  const server = await serve(t, 'http_compression = true');
  const node = await startNode(t, { httpCompression: { threshold: 1024 } });
  for (const [accepted, coding] of [
    ['gzip, deflate, br, zstd', 'gzip'],
    ['deflate, gzip', 'deflate'],
    ['gzip;q=0.5, deflate;q=0.8', 'deflate'],
    ['*', 'gzip'],
    ['gzip;q=0', undefined],
    ['identity', undefined],
    ['br', undefined],
    [undefined, undefined],
  ]) {
    const headers = accepted === undefined ? {} : { 'accept-encoding': accepted };
    const answers = await Promise.all(
      [server, node].map(async (to) => {
        const client = await poller(to);
        await client.post(`427["message-with-ack","${LONG}"]`);
        let answer;
        await until(async () => /437\[/.test(decoded((answer = await client.poll(headers)))));
        assert.equal(decoded(answer), `437["${LONG}"]`);
        await client.post('1');
        return { coding: answer.headers['content-encoding'], type: answer.headers['content-type'], status: answer.status };
      }),
    );
    assert.deepEqual(answers[0], answers[1], accepted);
    assert.equal(answers[0].coding, coding, accepted);
  }
});

test('what is small is not compressed, nor is anything unless it is switched on', async (t) => {
  const headers = { 'accept-encoding': 'gzip' };
  for (const [config, length, coding] of [
    ['http_compression = true', 100, undefined],
    ['http_compression = "50B"', 100, 'gzip'],
    ['http_compression = false', 10_000, undefined],
  ]) {
    const client = await poller(await serve(t, config));
    await client.post(`427["message-with-ack","${'x'.repeat(length)}"]`);
    let answer;
    await until(async () => /437\[/.test(decoded((answer = await client.poll(headers)))));
    assert.equal(answer.headers['content-encoding'], coding, config);
  }
});

test('stock clients that poll get them', async (t) => {
  const server = await serve(t, 'http_compression = true');
  const socket = await connect(t, server, { transports: ['polling'], extraHeaders: { 'accept-encoding': 'identity' } });
  assert.equal(await ask(socket, 'message-with-ack', LONG), LONG);
});

test('max_payload holds for what a request carries, and a compressed one is no packet', async (t) => {
  const server = await serve(t, 'http_compression = true\nmax_payload = 2000');
  const client = await poller(server);
  const small = gzipSync('427["message-with-ack",1]');
  const answer = await client.post(small, { 'content-encoding': 'gzip' });
  assert.equal(answer.status, 400);
  // As with any other body that is none: the session is over.
  assert.equal((await client.poll()).status, 400);
  const other = await poller(server);
  const bomb = gzipSync(Buffer.alloc(5_000_000, 'x'));
  assert.ok(bomb.length > 2000);
  assert.equal((await other.post(bomb, { 'content-encoding': 'gzip' })).status, 413);
});
