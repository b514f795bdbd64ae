// Who knocks is answered: while the server starts, and from pages of other sites.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { connect, nextEvent, open } from '../support/client.mjs';
import { CONFORMANCE, makeFolder, startServer } from '../support/server.mjs';
import { freePort, head, tcp } from '../support/tcp.mjs';
import { until } from '../support/wait.mjs';

/** Takes seconds to compile where nothing is cached. */
const MANY = [CONFORMANCE, 'echo', 'slow', 'sleeps', 'named', 'asks', 'votes', 'places'].map((plugin) =>
  typeof plugin === 'string' ? { wasm: plugin, grants: [], enabled: ['echo', 'slow', 'sleeps'].includes(plugin) } : plugin,
);

test('until the server is ready, its port is closed or says so', async (t) => {
  const home = makeFolder(t, { plugins: MANY, env: { MIXLAB_RUNTIME__CACHE: undefined, XDG_CACHE_HOME: undefined } });
  const port = await freePort();
  const server = home.start('up', '--listen', `127.0.0.1:${port}`);
  const isReady = () => /MixLab is listening/.test(server.stdout());

  const started = performance.now();
  const answers = [];
  let longest = 0;
  // One request after the other, until one is answered by a server that is ready.
  while (answers.at(-1) !== 200) {
    assert.ok(!server.hasEnded(), server.stderr());
    const asked = performance.now();
    const answer = await fetch(`http://127.0.0.1:${port}/healthz`).then(
      ({ status, headers }) => (status === 503 && !headers.has('retry-after') ? '503 without Retry-After' : status),
      (error) => error.cause?.code ?? error.message,
    );
    longest = Math.max(longest, performance.now() - asked);
    if (answers.at(-1) !== answer) answers.push(answer);
    await pause(10);
  }
  const took = performance.now() - started;
  await until(isReady);
  assert.ok(answers.every((answer) => [200, 503, 'ECONNREFUSED'].includes(answer)), `${answers}`);
  // A request that is held until the plugins are compiled waits for nearly all of the start.
  assert.ok(longest < took / 2, `a request was held for ${longest} of the ${took} ms that the start took`);
});

test('a client that comes before the server is ready is in when it is', async (t) => {
  const home = makeFolder(t, { plugins: MANY, env: { MIXLAB_RUNTIME__CACHE: undefined, XDG_CACHE_HOME: undefined } });
  const port = await freePort();
  const server = home.start('up', '--listen', `127.0.0.1:${port}`);
  const early = ['websocket', 'polling'].map((transport) =>
    open(t, { url: `http://127.0.0.1:${port}` }, { transports: [transport], reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 }),
  );
  await until(() => /MixLab is listening/.test(server.stdout()) || server.hasEnded(), { timeout: 120_000, message: () => server.stderr() });
  for (const socket of early) await nextEvent(socket, 'auth');
});

// Pages of other sites

const SITE = 'https://app.example.com';
const ASKED = ['authorization', 'content-type', 'x-tenant', 'x-requested-with', 'if-none-match'];

const preflight = (server, path, headers) =>
  fetch(server.url + path, {
    method: 'OPTIONS',
    headers: { origin: SITE, 'access-control-request-method': 'GET', ...headers },
  });

test('a page of a listed site may send whatever headers it asks for', async (t) => {
  const server = await startServer(t, { config: `[cors]\nallowed_origins = ["${SITE}"]` });
  for (const path of ['/socket.io/?EIO=4&transport=polling', '/api/v1/clients/count']) {
    for (const asked of [ASKED, ['x-one']]) {
      const { status, headers } = await preflight(server, path, { 'access-control-request-headers': asked.join() });
      assert.ok(status === 200 || status === 204, `${status}`);
      const allowed = (headers.get('access-control-allow-headers') ?? '').toLowerCase().split(/ *, */);
      for (const name of asked) assert.ok(allowed.includes(name), `${name} among ${allowed}`);
      assert.equal(headers.get('access-control-allow-origin'), SITE);
    }
    const { headers } = await preflight(server, path, { origin: 'https://evil.example.com', 'access-control-request-headers': 'x-one' });
    assert.equal(headers.get('access-control-allow-origin'), null, 'others may not');
  }
});

test('a header that a page sends reaches the plugin that is granted it', async (t) => {
  const server = await startServer(t, {
    config: `[cors]\nallowed_origins = ["${SITE}"]`,
    plugins: [{ ...CONFORMANCE, grants: [...CONFORMANCE.grants, 'header:x-tenant'] }],
  });
  const socket = await connect(t, server, { transports: ['polling'], extraHeaders: { origin: SITE, 'x-tenant': 'studio' } });
  const known = await socket.emitWithAck('getHandshake');
  assert.equal(known.headers['x-tenant'], 'studio');
});

test('a request that is no preflight of anybody is answered', async (t) => {
  const server = await startServer(t);
  const connection = await tcp(t, server, head('OPTIONS', '/socket.io/?EIO=4&transport=polling', 'connection: close'));
  assert.match(await connection.end(), /^HTTP\/1.1 [245]\d\d /);
});
