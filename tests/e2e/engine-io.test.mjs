// What the Engine.IO protocol, version 4, asks of a server.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { after, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { http, joined, poller, websocket } from '../support/protocol.mjs';
import { head, tcp } from '../support/tcp.mjs';
import { until } from '../support/wait.mjs';

const INTERVAL = 300;
/** Long enough for a machine that does much else. */
const TIMEOUT = 2000;

const CONFIG = `
[socket]
ping_interval = "${INTERVAL}ms"
ping_timeout = "${TIMEOUT}ms"
max_payload = "100kB"`;
const PLUGINS = [CONFORMANCE];
const server = await startServer({ after }, { config: CONFIG, plugins: PLUGINS });
/** For tests that must not be cut short by a heartbeat. */
const calm = await startServer({ after }, { plugins: PLUGINS });

const REFUSALS = [
  ['no transport', { EIO: 4 }, {}, 0, 'Transport unknown'],
  ['an unknown transport', { EIO: 4, transport: 'carrier-pigeon' }, {}, 0, 'Transport unknown'],
  ['an unknown session', { EIO: 4, transport: 'polling', sid: 'AAAAAAAAAAAAAAAA' }, {}, 1, 'Session ID unknown'],
  ['a session id of bad characters', { EIO: 4, transport: 'polling', sid: '%/é' }, {}, 1, 'Session ID unknown'],
  ['an unknown session in a POST', { EIO: 4, transport: 'polling', sid: 'x' }, { method: 'POST', body: '3' }, 1, 'Session ID unknown'],
  ['a handshake by POST', { EIO: 4, transport: 'polling' }, { method: 'POST', body: '' }, 2, 'Bad handshake method'],
  ['a handshake by PUT', { EIO: 4, transport: 'polling' }, { method: 'PUT', body: '' }, 2, 'Bad handshake method'],
  ['a websocket that is none', { EIO: 4, transport: 'websocket' }, {}, 3, 'Bad request'],
  ['version 3', { EIO: 3, transport: 'polling' }, {}, 5, 'Unsupported protocol version'],
  ['no version', { transport: 'polling' }, {}, 5, 'Unsupported protocol version'],
  ['version abc', { EIO: 'abc', transport: 'polling' }, {}, 5, 'Unsupported protocol version'],
];

for (const [what, query, options, code, message] of REFUSALS) {
  test(`${what} is refused as the Node server does`, async () => {
    const { status, body, headers } = await http(server, query, options);
    assert.equal(status, 400);
    assert.match(headers.get('content-type'), /^application\/json/);
    assert.deepEqual(JSON.parse(body), { code, message });
  });
}

/** The status of a websocket handshake with these headers. */
async function handshake(headers, query = 'EIO=4&transport=websocket', method = 'GET') {
  const all = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    ...headers,
  };
  for (const name of Object.keys(all)) if (all[name] === undefined) delete all[name];
  const sent = request(`${server.url}/socket.io/?${query}`, { method, headers: all }).end();
  const answered = new Promise((resolve, reject) => {
    sent.on('error', reject);
    sent.on('response', (response) => (response.resume(), resolve([response])));
    sent.on('upgrade', (response, socket) => (socket.destroy(), resolve([response])));
  });
  const [response] = await answered;
  return response;
}

test('a websocket handshake is checked', async () => {
  const accepted = await handshake({});
  assert.equal(accepted.statusCode, 101);
  assert.equal(accepted.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
  assert.equal((await handshake({ upgrade: 'WebSocket', connection: 'keep-alive, upgrade' })).statusCode, 101);
  const outdated = await handshake({ 'sec-websocket-version': '12' });
  assert.equal(outdated.statusCode, 426);
  assert.equal(outdated.headers['sec-websocket-version'], '13');
  for (const headers of [
    { 'sec-websocket-key': undefined },
    { 'sec-websocket-key': 'short' },
    { upgrade: 'h2c' },
    { connection: 'close' },
  ]) {
    assert.equal((await handshake(headers)).statusCode, 400, JSON.stringify(headers));
  }
  assert.equal((await handshake({}, 'EIO=3&transport=websocket')).statusCode, 400);
  assert.equal((await handshake({}, 'EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAA')).statusCode, 400);
});

test('a session opens over polling', async () => {
  const { handshake } = await poller(server);
  const { sid, ...rest } = handshake;
  assert.match(sid, /^[\w-]+$/);
  assert.deepEqual(rest, { upgrades: ['websocket'], pingInterval: INTERVAL, pingTimeout: TIMEOUT, maxPayload: 100_000 });
});

test('a session opens over a websocket', async (t) => {
  const { sid, ...rest } = JSON.parse((await (await websocket(t, server)).next()).slice(1));
  assert.match(sid, /^[\w-]+$/);
  assert.deepEqual(rest, { upgrades: [], pingInterval: INTERVAL, pingTimeout: TIMEOUT, maxPayload: 100_000 });
});

test('the first ping comes after an interval, and then one after each', async (t) => {
  const started = performance.now();
  const elapsed = () => performance.now() - started;
  const client = await websocket(t, server);
  await client.next();
  for (let round = 1; round <= 3; round++) {
    assert.equal(await client.next(), '2');
    assert.ok(elapsed() >= round * INTERVAL, `ping ${round} after ${elapsed()} ms`);
    client.send('3');
  }
});

test('so it is over polling', async () => {
  const started = performance.now();
  const elapsed = () => performance.now() - started;
  const client = await poller(server);
  for (let round = 1; round <= 3; round++) {
    assert.deepEqual(await client.packets(), ['2']);
    assert.ok(elapsed() >= round * INTERVAL, `ping ${round} after ${elapsed()} ms`);
    assert.equal((await client.post('3')).body, 'ok');
  }
});

test('who does not answer a ping is closed, and nobody before', async (t) => {
  const started = performance.now();
  const client = await websocket(t, server);
  const silent = await poller(server);
  await client.closed();
  const elapsed = performance.now() - started;
  assert.ok(elapsed >= INTERVAL + TIMEOUT, `${elapsed} ms`);
  await until(async () => (await silent.post('')).status === 400);
});

test('pings come in time from a server that has little of a processor', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: PLUGINS });
  const client = await websocket(t, own);
  await client.next();
  // It stands still nearly all of the time, for longer each time than what it may be late.
  let goesOn = true;
  const stuttering = (async () => {
    while (goesOn) {
      own.signal('SIGSTOP');
      await setTimeout(500);
      own.signal('SIGCONT');
      await setTimeout(5);
    }
  })();
  t.after(() => (goesOn = false));
  for (let round = 1; round <= 5; round++) {
    assert.equal(await client.next(), '2', `ping ${round}`);
    client.send('3');
  }
  goesOn = false;
  await stuttering;
});

test('a polling client may take longer than the ping timeout for its first poll', async (t) => {
  const hasty = await startServer(t, { config: '[socket]\nping_timeout = "50ms"' });
  const client = await poller(hasty);
  const opened = performance.now();
  await until(() => performance.now() - opened > 100);
  assert.match((await client.join())[0], /^40/);
});

test('a websocket client closes the session', async (t) => {
  const client = await joined(t, server);
  client.send('1');
  await client.closed();
});

test('a polling client closes the session, and a poll that waits comes back', async () => {
  const client = await poller(calm);
  const poll = client.get();
  await until(async () => (await client.post('')).status === 200);
  assert.equal((await client.post('1')).body, 'ok');
  const { status, body } = await poll;
  assert.deepEqual([status, body], [200, '6']);
  assert.equal((await client.get()).status, 400);
});

test('two polls at once end the session', async () => {
  // The first is told so if it waits by the time the second comes, which a busy server does not promise.
  await until(async () => {
    const client = await poller(calm);
    const polls = await Promise.all([client.get(), client.get()]);
    const [first, second] = polls.sort((a, b) => a.status - b.status);
    assert.equal(second.status, 400);
    assert.equal(JSON.parse((await client.get()).body).code, 1);
    return first.status === 200 && first.body === '1';
  });
});

test('two requests with packets at once end the session', async (t) => {
  const client = await poller(calm);
  const path = `/socket.io/?${new URLSearchParams(client.query)}`;
  const first = await tcp(t, calm, `${head('POST', path, 'content-length: 2')}4`);
  await until(async () => {
    const { status, body } = await client.post('3');
    return status === 400 && JSON.parse(body).code === 3;
  });
  await until(async () => {
    const { status, body } = await client.get();
    return status === 400 && JSON.parse(body).code === 1;
  });
  await until(() => first.received().startsWith('HTTP/1.1 400 '));
});

test('a poll that is sent together with the end of the session ends with it', async () => {
  // Over connections that are open: a session that is over is known for a moment only.
  await Promise.all([1, 2, 3].map(() => fetch(`${calm.url}/healthz`).then((response) => response.text())));
  for (let round = 0; round < 20; round++) {
    const client = await poller(calm);
    const [end, poll] = await Promise.all([client.post('1'), client.get()]);
    assert.deepEqual([end.status, end.body], [200, 'ok']);
    assert.deepEqual([poll.status, poll.body], [200, '6']);
  }
});

test('an aborted poll ends the session', async () => {
  const client = await poller(calm);
  const abort = new AbortController();
  const poll = client.get({ signal: abort.signal });
  await client.post('');
  abort.abort();
  await assert.rejects(poll);
  await until(async () => (await client.post('')).status === 400);
});

for (const bad of ['abc', '9', '4\x1ex', '']) {
  test(`an invalid packet ${JSON.stringify(bad)} ends a websocket's session`, async (t) => {
    const client = await websocket(t, calm);
    await client.next();
    client.send(bad);
    await client.closed();
  });
}

test('an invalid payload ends a polling session', async () => {
  const client = await poller(calm);
  assert.equal((await client.post('abc')).status, 400);
  assert.equal((await client.get()).status, 400);
});

test('a message over the limit is refused', async (t) => {
  const client = await poller(server);
  assert.equal((await client.post(`4${'x'.repeat(100_000)}`)).status, 413);
  const socket = await joined(t, server);
  socket.send(`42["message","${'x'.repeat(100_000)}"]`);
  await socket.closed();
});

test('several packets travel in one payload, and binary ones as base64', async () => {
  const client = await poller(calm);
  await client.join();
  await client.post('42["message","€ 😀"]\x1e451-["message",{"_placeholder":true,"num":0}]\x1ebAQIDBA==\x1e42["message",3]');
  const packets = [];
  while (packets.filter((packet) => packet.includes('message-back')).length < 3) packets.push(...(await client.packets()));
  assert.deepEqual(
    packets.filter((packet) => !packet.includes('auth')),
    ['42["message-back","€ 😀"]', '451-["message-back",{"_placeholder":true,"num":0}]', 'bAQIDBA==', '42["message-back",3]'],
  );
});

/** Probes a websocket for a polling session. */
async function probed(t, client) {
  const socket = await websocket(t, calm, { sid: client.sid });
  socket.send('2probe');
  assert.equal(await socket.next(), '3probe');
  return socket;
}

test('a session moves from polling to a websocket', async (t) => {
  const client = await poller(calm);
  await client.join();
  const poll = client.get();
  const socket = await probed(t, client);
  await poll;
  assert.deepEqual((await client.packets()).at(-1), '6', 'polls come back at once');
  socket.send('5', '42["message","over the websocket"]');
  assert.equal(await socket.nextMessage(), '42["message-back","over the websocket"]');
  assert.equal(JSON.parse((await client.get()).body).code, 3, 'polling is over');
  assert.equal(JSON.parse((await client.post('3')).body).code, 3);

  const second = await websocket(t, calm, { sid: client.sid });
  await second.closed();
  socket.send('42["message","still there"]');
  assert.equal(await socket.nextMessage(), '42["message-back","still there"]');
});

test('a poll that comes right behind the end of an upgrade is refused', async (t) => {
  for (let round = 0; round < 20; round++) {
    const client = await poller(calm);
    const socket = await websocket(t, calm, { sid: client.sid });
    socket.send('2probe');
    assert.equal(await socket.next(), '3probe');
    socket.send('5');
    assert.equal((await client.get()).status, 400);
    socket.send('40');
    assert.match(await socket.nextMessage(), /^40/);
    socket.socket.close();
  }
});

test('packets on their way during an upgrade arrive once and in order', async (t) => {
  const client = await poller(calm);
  await client.join();
  const got = [];
  const numbers = (packets) => packets.flatMap((packet) => packet.match(/^42\["number",(\d+)\]$/)?.[1] ?? []).map(Number);
  await client.post('42["count",500]');
  got.push(...numbers(await client.packets()));
  const socket = await probed(t, client);
  await client.post('42["count",500]');
  got.push(...numbers(await client.packets()));
  await client.post('42["count",500]');
  socket.send('5', '42["count",500]');
  await until(() => numbers(socket.waiting).length + got.length >= 2000);
  got.push(...numbers(socket.waiting));
  const expected = Array.from({ length: 2000 }, (_, index) => (index % 500) + 1);
  assert.deepEqual(got, expected);
});

test('what did not fit into the last poll is not lost in the upgrade', async (t) => {
  const client = await poller(server);
  await client.join();
  const big = 'x'.repeat(60_000);
  await client.post(`42["message",1,"${big}"]`);
  await client.post(`42["message",2,"${big}"]`);
  const first = [];
  while (first.length === 0) first.push(...(await client.packets()).filter((packet) => packet.includes('message-back')));
  assert.deepEqual(first.map((packet) => packet[18]), ['1']);
  const socket = await websocket(t, server, { sid: client.sid });
  socket.send('2probe');
  assert.equal(await socket.next(), '3probe');
  socket.send('5');
  assert.equal((await socket.nextMessage())[18], '2');
});

test('a failed upgrade leaves the session with polling', async (t) => {
  const client = await poller(calm);
  await client.join();
  const bad = await websocket(t, calm, { sid: client.sid });
  bad.send('4hello');
  await bad.closed();
  const gone = await probed(t, client);
  const rival = await websocket(t, calm, { sid: client.sid });
  await rival.closed();
  gone.socket.terminate();
  await client.post('42["message","hello"]');
  const packets = [];
  while (!packets.some((packet) => packet.includes('hello'))) packets.push(...(await client.packets()));
  await until(async () => {
    const again = await websocket(t, calm, { sid: client.sid });
    again.send('2probe', '5', '42["message","again"]');
    await until(() => again.isClosed() || again.waiting.length > 1);
    return again.waiting.includes('42["message-back","again"]');
  });
});

test('nothing is left of a session whose client is gone as its upgrade ends', async (t) => {
  const own = await startServer(t, { plugins: PLUGINS });
  for (let round = 0; round < 20; round++) {
    const client = await poller(own);
    await client.join();
    // What waits for it goes out over the websocket first, and that fails.
    await client.post('42["count",100]');
    const socket = await websocket(t, own, { sid: client.sid });
    socket.send('2probe');
    assert.equal(await socket.next(), '3probe');
    socket.send('5');
    socket.socket._socket.resetAndDestroy();
  }
  let left;
  await until(async () => (left = (await own.api('GET', '/api/v1/clients/count')).body.count) === 0, {
    message: () => `no client is there any more, but ${left}`,
  });
});

test('sessions without a namespace are closed in time', async (t) => {
  const hasty = await startServer(t, { config: '[socket]\nconnect_timeout = "200ms"' });
  const client = await websocket(t, hasty);
  await client.closed();
  const silent = await poller(hasty);
  await until(async () => (await silent.post('')).status === 400);
});
