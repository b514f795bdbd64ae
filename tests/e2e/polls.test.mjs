// Polls that wait: their connections go on as if they had been answered at once.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { frame, TEXT, upgrade } from '../support/frames.mjs';
import { rawPolling } from '../support/raw.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { head, tcp } from '../support/tcp.mjs';
import { until } from '../support/wait.mjs';

/** Longer than a connection keeps what serves it, ms. */
const RESTED = 1200;
const PAGE = 'http://page.example';
const server = await startServer({ after }, { config: `[cors]\nallowed_origins = ["${PAGE}"]`, plugins: [CONFORMANCE] });

/** A session that has heard all, and the path of its polls. */
async function connected(on = server) {
  const session = await rawPolling(on);
  await session.post('40');
  // The plugin's word to who has come is the last.
  await session.packet(/^42\["auth"/);
  const { pathname, search } = new URL(session.url);
  return { ...session, path: pathname + search };
}

/** A connection with a poll that waits, and what was sent right behind it. */
async function waiting(t, session, { behind = '', headers = [], on = server } = {}) {
  const connection = await tcp(t, on, head('GET', session.path, ...headers) + behind);
  // What was sent later is answered: so this is likely to wait by now, and if not, the tests hold as well.
  await on.api('GET', '/healthz');
  return connection;
}

/** How many responses there are in what came back. */
const responses = (text) => text.match(/HTTP\/1.1 \d{3}/g) ?? [];

test('what comes right behind a poll that waits is answered behind it', async (t) => {
  const session = await connected();
  const connection = await waiting(t, session, { behind: head('GET', '/healthz').repeat(3) });
  assert.equal(connection.received(), '');
  await session.post('42["message","a"]');
  await until(() => responses(connection.received()).length === 4);
  const [poll, ...others] = connection.received().split('HTTP/1.1 200 OK').slice(1);
  assert.match(poll, /42\["message-back","a"/);
  for (const other of others) assert.doesNotMatch(other, /message-back/);
});

test('so is much more than one would read ahead, in the order in which it came', async (t) => {
  const session = await connected();
  const pages = Array.from({ length: 300 }, (_, i) => head('GET', `/none/${i % 2 ? '' : '../healthz'}`, `x: ${'x'.repeat(400)}`));
  const connection = await waiting(t, session, { behind: pages.join('') });
  await session.post('42["message","a"]');
  await until(() => responses(connection.received()).length === pages.length + 1);
  assert.equal(responses(connection.received())[0], 'HTTP/1.1 200');
});

test('a poll waits again and again on one connection', async (t) => {
  const session = await connected();
  const connection = await tcp(t, server);
  for (let i = 0; i < 5; i++) {
    connection.write(head('GET', session.path));
    await session.post(`42["message",${i}]`);
    await until(() => connection.received().includes(`42["message-back",${i}`));
  }
  assert.equal(responses(connection.received()).length, 5);
});

test('a websocket may follow on its connection', async (t) => {
  const session = await connected();
  const connection = await waiting(t, session, { behind: upgrade(server) });
  connection.socket.write(frame(TEXT, '40'));
  await session.post('42["message","a"]');
  await until(() => /HTTP\/1.1 101[^]*40\{/.test(connection.received()));
});

test('a session is over when the client of its poll goes away', async (t) => {
  const session = await connected();
  const connection = await waiting(t, session);
  connection.socket.destroy();
  await until(async () => (await session.post('3')).status === 400);
});

test('a connection that has rested takes the next request, and another while it is served', async (t) => {
  const connection = await tcp(t, server);
  for (const count of [1, 2, 3]) {
    connection.write(head('GET', '/healthz'));
    await until(() => responses(connection.received()).length === count);
    await setTimeout(RESTED);
  }
  // In two pieces, of which the first one is there while it rests.
  const [first, second] = [head('GET', '/healthz').slice(0, 9), head('GET', '/healthz').slice(9)];
  connection.write(first);
  await setTimeout(RESTED);
  connection.write(second);
  await until(() => responses(connection.received()).length === 4);
});

test('what is left of a body that nobody wanted is no request', async (t) => {
  const request = head('GET', '/healthz');
  for (const path of ['/socket.io/?EIO=4&transport=polling&sid=none', '/none']) {
    const connection = await tcp(t, server, head('POST', path, `content-length: ${2 * request.length}`));
    await until(() => responses(connection.received()).length === 1);
    await setTimeout(RESTED);
    connection.write(request);
    await setTimeout(RESTED);
    connection.write(request);
    await connection.end();
    assert.equal(responses(connection.received()).length, 1, path);
  }
});

test('the page of another site may read what came late', async (t) => {
  const session = await connected();
  const connection = await waiting(t, session, { headers: [`origin: ${PAGE}`] });
  await session.post('42["message","a"]');
  await until(() => connection.received().includes('message-back'));
  const answer = connection.received().toLowerCase();
  assert.match(answer, new RegExp(`access-control-allow-origin: ${PAGE}`));
  assert.equal(answer.match(/content-length/g).length, 1);
  assert.equal(answer.match(/\r\ndate: /g).length, 1);
});

test('the end of the server is told to polls that wait, and ends their connections', async (t) => {
  const own = await startServer(t, { plugins: [CONFORMANCE] });
  const session = await connected(own);
  const connection = await waiting(t, session, { on: own });
  await own.stop();
  const answer = await connection.end();
  assert.match(answer, /Session ID unknown/);
  assert.equal(responses(answer).length, 1);
});
