// What connections may cost: requests that never end, clients that are gone, floods of both.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { poller } from '../support/protocol.mjs';
import { rawPolling } from '../support/raw.mjs';
import { API_KEY, startServer } from '../support/server.mjs';
import { head, tcp } from '../support/tcp.mjs';
import { until } from '../support/wait.mjs';

const REQUEST_TIMEOUT = 400;
const hasty = await startServer({ after }, { config: `[socket]\nrequest_timeout = "${REQUEST_TIMEOUT}ms"` });

const HALF_REQUESTS = {
  nothing: '',
  'half a request line': 'GET /healthz HT',
  'half a head': 'GET /healthz HTTP/1.1\r\nhost: x\r\n',
  'half a websocket handshake': head('GET', '/socket.io/?EIO=4&transport=websocket', 'upgrade: websocket').slice(0, -2),
  'half the preface of HTTP/2': 'PRI * HTTP/2.0',
};

for (const [what, text] of Object.entries(HALF_REQUESTS)) {
  test(`a connection that sends ${what} is closed`, async (t) => {
    const connection = await tcp(t, hasty, text);
    await connection.end();
  });
}

test('a head that trickles in is no excuse', async (t) => {
  const connection = await tcp(t, hasty, 'GET /healthz HTTP/1.1\r\n');
  const trickle = setInterval(() => connection.write('x: y\r\n'), REQUEST_TIMEOUT / 20);
  t.after(() => clearInterval(trickle));
  await connection.end();
});

test('a connection without a further request is closed', async (t) => {
  const connection = await tcp(t, hasty, head('GET', '/healthz'));
  assert.match(await connection.end(), /^HTTP\/1.1 200 OK/);
});

test('a body that trickles in is no excuse, and ends the polling session it is for', async (t) => {
  const session = await rawPolling(hasty);
  await session.post('40');
  const path = new URL(session.url);
  const connection = await tcp(t, hasty, head('POST', path.pathname + path.search, 'content-length: 1000'));
  const trickle = setInterval(() => connection.write('4'), REQUEST_TIMEOUT / 20);
  t.after(() => clearInterval(trickle));
  assert.match(await connection.end(), /^HTTP\/1.1 400 /);
  await until(async () => (await session.post('3')).status === 400);
});

test("half a body for a backend's request is refused", async (t) => {
  const path = '/api/v1/payments/updates';
  const connection = await tcp(t, hasty, `${head('POST', path, `authorization: Bearer ${API_KEY}`, 'content-length: 9')}{"a"`);
  assert.match(await connection.end(), /^HTTP\/1.1 4\d\d /);
});

test('a poll may wait for longer than a request may take', async () => {
  const session = await poller(hasty);
  await session.join();
  const started = performance.now();
  const poll = session.get();
  await until(() => performance.now() - started > 2 * REQUEST_TIMEOUT);
  assert.equal((await session.post('41')).status, 200);
  assert.equal((await session.post('1')).status, 200);
  assert.equal((await poll).status, 200);
});

test('connections over the number that there may be are told so, and counted', async (t) => {
  const server = await startServer(t, { config: '[socket]\nmax_connections = 20' });
  const connections = [];
  const isRefused = ({ received }) => received().startsWith('HTTP/1.1 503 ');
  await until(async () => {
    connections.push(await tcp(t, server, head('GET', '/healthz')));
    await until(() => connections.at(-1).received());
    return isRefused(connections.at(-1));
  });
  assert.ok(connections.length <= 21, `${connections.length}`);
  assert.match(await connections.at(-1).end(), /\r\nRetry-After: 5\r\n/);
  await server.waitForLog(/WARN .*all connections are taken.* max_connections=20/);

  for (const { socket } of connections) socket.destroy();
  await until(() => fetch(`${server.url}/healthz`).then(({ ok }) => ok));
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  assert.ok(Number(metrics.match(/^mixlab_refused_connections_total (\d+)$/m)[1]) >= 1);
});
