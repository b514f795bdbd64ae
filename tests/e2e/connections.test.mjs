// What connections may cost: requests that never end, clients that are gone, floods of both.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ask, connect, FOR_NOW, open } from '../support/client.mjs';
import { upgrade } from '../support/frames.mjs';
import { editConfig, plugin, reload, replaceFile } from '../support/plugins.mjs';
import { poller } from '../support/protocol.mjs';
import { rawPolling, rawSocket } from '../support/raw.mjs';
import { API_KEY, CONFORMANCE, startServer } from '../support/server.mjs';
import { head, tcp } from '../support/tcp.mjs';
import { token } from '../support/tokens.mjs';
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

describe('connections of one address that are no websockets', () => {
  const SHARE = 5;
  // The tests' own requests come from 127.0.0.1, and some of their connections stay.
  const CROWD = { localAddress: '127.0.0.2' };
  const OTHER = { localAddress: '127.0.0.3' };
  const PROXY = { localAddress: '127.0.0.4' };
  const serve = (t, options) =>
    startServer(t, {
      config: `[socket]\nmax_connections_per_address = ${SHARE}\n[limits]\ntrusted_proxies = ["${PROXY.localAddress}"]`,
      plugins: [CONFORMANCE],
      ...options,
    });
  const HEALTH = head('GET', '/healthz');
  /** What a connection is told that ends with the answer. */
  const answer = async (t, server, from) => (await tcp(t, server, head('GET', '/healthz', 'connection: close'), from)).end();
  const isRefused = (answer) => /^HTTP\/1.1 503 [^]*\r\nRetry-After: 5\r\n/.test(answer);
  const isServed = (answer) => answer.startsWith('HTTP/1.1 200 ');

  /** What takes a place without being of any use, and what the server has said when it has it. */
  const IDLE = {
    'that have said nothing': ['', null],
    'with half a head': ['GET /healthz HTTP/1.1\r\nhost: x\r\n', null],
    'that stay behind an answer': [HEALTH, isServed],
    'with half a body': [`${head('POST', '/api/v1/payments/updates', `authorization: Bearer ${API_KEY}`, 'content-length: 9')}{`, null],
  };

  for (const [what, [text, isThere]] of Object.entries(IDLE)) {
    test(`${what} are so many at most, and leave others room`, async (t) => {
      const server = await serve(t);
      const idle = [];
      for (let count = 0; count < SHARE; count += 1) idle.push(await tcp(t, server, text, CROWD));
      if (isThere) await until(() => idle.every(({ received }) => isThere(received())));
      assert.ok(isRefused(await answer(t, server, CROWD)));
      await server.waitForLog(/WARN .*an address has as many connections as it may.* max_connections_per_address=5/);
      assert.ok(isServed(await answer(t, server, OTHER)));
      assert.ok(idle.every(({ hasEnded }) => !hasEnded()), 'those that are there stay');
      idle[0].socket.destroy();
      await until(async () => isServed(await answer(t, server, CROWD)), { message: 'there is room again' });
    });
  }

  test('make room when they become websockets', async (t) => {
    const server = await serve(t);
    const query = 'EIO=4&transport=websocket';
    for (let count = 0; count < 2 * SHARE; count += 1) {
      const websocket = await tcp(t, server, upgrade(server, { query }), CROWD);
      await until(() => websocket.received().includes('"sid"'), { message: `websocket ${count} is open` });
    }
    assert.ok(isServed(await answer(t, server, CROWD)));
  });

  test('make room when they move from polling', async (t) => {
    const server = await serve(t);
    for (let count = 0; count < 2 * SHARE; count += 1) {
      const socket = await connect(t, server, { transports: ['polling', 'websocket'], localAddress: CROWD.localAddress });
      await until(() => socket.io.engine.transport.name === 'websocket');
    }
    await until(async () => isServed(await answer(t, server, CROWD)));
  });

  test('may be any number of a trusted proxy, whose clients have nothing in common', async (t) => {
    const server = await serve(t);
    for (let count = 0; count < 4 * SHARE; count += 1) await tcp(t, server, '', PROXY);
    assert.ok(isServed(await answer(t, server, PROXY)));
  });

  test('are counted for one client by IPv6, and for another by an IPv4 address that is written as IPv6', async (t) => {
    const server = await serve(t, { listen: '[::]:0' });
    const ipv6 = { host: '::1' };
    for (let count = 0; count < SHARE; count += 1) await tcp(t, server, '', ipv6);
    assert.ok(isRefused(await answer(t, server, ipv6)));
    for (let count = 0; count < SHARE; count += 1) await tcp(t, server, '', CROWD);
    assert.ok(isRefused(await answer(t, server, CROWD)));
    assert.ok(isServed(await answer(t, server, OTHER)));
    for (let count = 0; count < 4 * SHARE; count += 1) await tcp(t, server, '', PROXY);
    assert.ok(isServed(await answer(t, server, PROXY)));
  });
});

// Clients that do not read

const ROLE = 'crowd';
const member = (sub) => ({ auth: { token: token({ sub, role: ROLE }) } });
const LOAD = JSON.stringify('x'.repeat(100_000));
const push = async (server, event = 'load', body = LOAD) =>
  (await server.api('POST', `/api/v1/roles/${ROLE}/events/${event}`, body)).body.delivered;

/** Clients that are connected and read nothing, and what they read once they do. */
const STALLED = {
  async websocket(t, server) {
    const client = await rawSocket(t, server, member(1));
    client.ws.pause();
    return async (pattern) => {
      client.ws.resume();
      return (await client.frame(pattern)).input;
    };
  },
  async polling(t, server) {
    const session = await poller(server);
    await session.join(`40${JSON.stringify(member(1).auth)}`);
    return async (pattern) => {
      for (;;) {
        const found = (await session.packets()).find((packet) => pattern.test(packet));
        if (found) return found;
      }
    };
  },
};

const memory = (server) => Number(readFileSync(`/proc/${server.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+) kB/)[1]) / 1024;
const count = async (server) => (await server.api('GET', '/api/v1/clients/count')).body.count;

for (const [transport, stall] of Object.entries(STALLED)) {
  for (const policy of ['disconnect', 'drop']) {
    test(`bytes that wait for a client that reads nothing are bounded: ${policy}, ${transport}`, async (t) => {
      const server = await startServer(t, {
        config: `[socket]\nsend_buffer_bytes = "2MB"\nwrite_timeout = "60s"\nping_interval = "60s"\nslow_client = "${policy}"`,
      });
      const read = await stall(t, server);
      assert.equal(await push(server), 1);
      const before = memory(server);
      let taken = 0;
      // What the kernel takes comes on top.
      while (await push(server)) assert.ok((taken += 1) < 200, 'it takes all');
      assert.ok(taken > 10, `${taken}`);
      if (policy === 'drop') for (let i = 0; i < 500; i++) assert.equal(await push(server), 0);
      assert.ok(memory(server) - before < 40, `${before} MiB, then ${memory(server)} MiB`);
      await server.waitForLog(/WARN .*their send buffers are full/);
      const dropped = (await (await fetch(`${server.url}/metrics`)).text()).match(/^mixlab_dropped_emits_total (\d+)$/m)[1];
      assert.equal(Number(dropped), policy === 'drop' ? 501 : 1);
      if (policy === 'disconnect') {
        await until(async () => (await count(server)) === 0);
      } else {
        // It is still there, and gets what comes when there is room again.
        const end = read(/^42\["end"/);
        await until(() => push(server, 'end', '1'));
        assert.match(await end, /^42\["end"/);
      }
    });
  }
}

test('answers that nobody reads are bounded', async (t) => {
  const server = await startServer(t, {
    config: '[socket]\nsend_buffer_bytes = "1MB"\nwrite_timeout = "60s"\nping_interval = "60s"',
  });
  const before = memory(server);
  const socket = await rawSocket(t, server);
  socket.ws.pause();
  const connect = `40/${'x'.repeat(100_000)},`;
  const sending = setInterval(() => socket.ws.bufferedAmount < 2_000_000 && socket.send(connect), 1);
  t.after(() => clearInterval(sending));
  await until(async () => (await count(server)) === 0);

  const session = await poller(server);
  await session.join();
  assert.equal(await count(server), 1);
  const posted = [];
  await until(async () => posted.push((await session.post(connect)).status) && posted.at(-1) === 400);
  // Answers have twice the room that events have.
  assert.ok(posted.length < 25, `${posted}`);
  await until(async () => (await count(server)) === 0);
  assert.ok(memory(server) - before < 40, `${before} MiB, then ${memory(server)} MiB`);
});

test('namespaces that are none and acks that nobody asked for leave nothing behind', async (t) => {
  const server = await startServer(t, { config: '[socket]\nping_interval = "60s"', plugins: ['echo'] });
  const socket = await rawSocket(t, server);
  const storm = async (round) => {
    for (let i = 0; i < 20_000; i++) {
      const path = `/none${round}-${i},`;
      socket.send(`40${path}{"a":1}`, `43${path}${i}["x"]`, `43${i}["x"]`, `41${path}`);
    }
    socket.send(`42${round}["echo:ping"]`);
    await socket.frame(new RegExp(`^43${round}\\["pong"\\]$`));
    socket.frames.length = 0;
  };
  await storm(1);
  const before = memory(server);
  for (const round of [2, 3, 4]) await storm(round);
  assert.ok(memory(server) - before < 10, `${before} MiB, then ${memory(server)} MiB`);
});

// Clients that are gone without a word: the connection is open, and nobody is there.

// Long enough for all to be there before the first of them ends.
const HEARTBEAT = '[socket]\nping_interval = "300ms"\nping_timeout = "2s"';

test('half-open connections end when their ping stays without an answer', async (t) => {
  const server = await startServer(t, { config: HEARTBEAT });
  const gone = {
    'a websocket': (await rawSocket(t, server, { pong: false })).ws,
    'a websocket in the middle of a frame': (await rawSocket(t, server, { pong: false })).ws,
    'a websocket in the middle of a message': (await rawSocket(t, server, { pong: false })).ws,
  };
  // 100 bytes announced, and some of them sent.
  gone['a websocket in the middle of a frame']._socket.write(Buffer.from([0x81, 0xe4, 0, 0, 0, 0, 0x34, 0x32]));
  gone['a websocket in the middle of a message'].send('42["ech', { fin: false });
  for (const ws of Object.values(gone)) ws._socket.pause();

  const session = await poller(server);
  await session.join();
  const poll = await tcp(t, server, head('GET', `/socket.io/?${new URLSearchParams(session.query)}`));
  poll.socket.pause();
  assert.equal(await count(server), 4);
  await until(async () => (await count(server)) === 0);
});

test('nobody enters what a plugin guards before it has loaded, and everybody else enters the rest', async (t) => {
  const gate = {
    wasm: 'places',
    name: 'gate',
    grants: ['namespace:/inside', 'namespace:/room-*'],
    guards: ['/inside', '/room-*'],
    config: { name: 'gate', namespaces: ['/inside', '/room-*'], no_such_key: true },
  };
  const server = await startServer(t, { plugins: ['echo', gate] });
  const told = (namespace) => connect(t, server, { namespace }).then(() => 'it is in', ({ message }) => message);
  const ready = async () => (await server.api('GET', '/readyz', undefined, null)).body;
  assert.match((await plugin(server, 'gate')).refusal, /no_such_key/);
  await server.waitForLog(/nobody enters what it guards/);
  assert.equal(await ready(), 'not ready: gate\nnobody enters without: gate\n');
  for (const namespace of ['/inside', '/room-7']) assert.equal(await told(namespace), FOR_NOW, namespace);
  assert.equal(await told('/outside'), 'Invalid namespace');
  assert.equal(await ask(await connect(t, server), 'echo', 'x'), 'x', 'others go on');

  editConfig(server, (toml) => toml.replace(', "no_such_key" = true', ''));
  await reload(server);
  assert.equal(await ready(), 'ready\n');
  for (const namespace of ['/inside', '/room-7']) assert.equal(await told(namespace), 'it is in', namespace);
  // What serves goes on to be asked, whatever its file is now.
  replaceFile(join(server.folder, 'places.wasm'), 'no component');
  await reload(server);
  assert.equal((await plugin(server, 'gate')).state, 'serving-old');
  assert.equal(await told('/inside'), 'it is in');
});

test('a client that is refused since a guard is not there tries again, and is in when it is', async (t) => {
  const gate = { wasm: 'places', grants: [], guards: ['/'], config: { name: 'gate', namespaces: ['/'], no: 1 } };
  const server = await startServer(t, { plugins: ['echo', gate] });
  const waiting = open(t, server, { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 });
  let refused = 0;
  waiting.io.on('close', () => refused++);
  await until(() => refused > 1);
  assert(!waiting.connected);
  editConfig(server, (toml) => toml.replace(', "no" = 1', ''));
  await reload(server);
  await until(() => waiting.connected);
  assert.equal(await ask(waiting, 'echo', 'x'), 'x');
});

test('a version that would not be asked about what it guards is refused, and guards nothing less', async (t) => {
  const gate = { wasm: 'places', grants: ['namespace:/*'], guards: ['/inside'], config: { name: 'gate', namespaces: ['/inside'] } };
  const server = await startServer(t, { plugins: ['echo', gate] });
  const told = () => connect(t, server, { namespace: '/inside' }).then(() => 'it is in', ({ message }) => message);
  assert.equal(await told(), 'it is in');
  editConfig(server, (toml) => toml.replace('"namespaces" = ["/inside"]', '"namespaces" = ["/insight"]'));
  await reload(server);
  assert.match((await plugin(server, 'places')).refusal, /guards the namespace \/inside, and it does not serve that/);
  assert.equal(await told(), 'it is in', 'the old version is asked');
  const other = await startServer(t, { plugins: [{ wasm: 'echo', guards: ['/'] }] });
  assert.match((await plugin(other, 'echo')).refusal, /it does not export mixlab:plugin\/connections/);
  assert.equal(await connect(t, other).then(() => 'it is in', ({ message }) => message), FOR_NOW);
  // Whoever takes the word out does without.
  editConfig(other, (toml) => toml.replace('guards = ["/"]', 'guards = []'));
  await reload(other);
  assert.equal(await ask(await connect(t, other), 'echo', 'x'), 'x');
});
