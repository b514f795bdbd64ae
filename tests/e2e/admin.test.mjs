// Socket.IO's official admin page (npm @socket.io/admin-ui): its protocol beside Node's own server, and the page itself.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { instrument } from '@socket.io/admin-ui';
import {
  CREDENTIALS,
  HASH,
  PASSWORD,
  USERNAME,
  adminConfig,
  openAdmin,
  outcome,
  serveOfficialPage,
} from '../support/admin.mjs';
import { keepScreenshot, launch, openPage } from '../support/browser.mjs';
import { connect, connectFrom, nextEvent, received } from '../support/client.mjs';
import { startNode } from '../support/node-server.mjs';
import { CONFORMANCE, PROGRAM, makeFolder, startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const INVALID = 'invalid credentials';

/** Node's own server with the same account. */
async function startReference(t, options = {}) {
  const node = await startNode(t);
  instrument(node.io, { auth: { type: 'basic', username: USERNAME, password: HASH }, mode: 'production', ...options });
  return node;
}

const reads = await startServer({ after }, { config: adminConfig(), plugins: [CONFORMANCE] });
const writes = await startServer({ after }, { config: adminConfig({ readonly: false }), plugins: [CONFORMANCE] });
const off = await startServer({ after }, { plugins: [CONFORMANCE] });
const SINGLE = { mode: 'development', readonly: false };
const single = await startServer({ after }, { config: adminConfig(SINGLE), plugins: [CONFORMANCE] });
const reference = await startReference({ after }, { readonly: true });
const nodeWrites = await startReference({ after });
const nodeSingle = await startReference({ after }, { mode: 'development' });

for (const [name, server, start] of [
  ['MixLab', reads, (t) => startServer(t, { config: adminConfig() })],
  ['Node', reference, (t) => startReference(t, { readonly: true })],
]) {
  test(`${name} lets pages in by the password, and by the session that it gave`, async (t) => {
    const first = openAdmin(t, server);
    assert.equal(await outcome(first), 'connected');
    const [session] = await nextEvent(first, 'session');
    assert.match(session, /^[\w-]{16,}$/);
    assert.deepEqual(await nextEvent(first, 'config'), [{ supportedFeatures: ['AGGREGATED_EVENTS'] }]);
    assert.equal(await outcome(openAdmin(t, server, { sessionId: session })), 'connected');

    for (const auth of [
      {},
      { ...CREDENTIALS, password: 'correct horses' },
      { ...CREDENTIALS, username: 'root' },
      { sessionId: `${session.slice(0, -1)}~` },
      { sessionId: 'x'.repeat(1000), username: 'root' },
    ]) {
      assert.equal(await outcome(openAdmin(t, server, auth)), INVALID, JSON.stringify(auth));
    }
  });

  test(`${name} tells pages how it stands, again and again`, async (t) => {
    const server = await start(t);
    const client = await connect(t, server);
    const polling = await connect(t, server, { transports: ['polling'] });
    const page = openAdmin(t, server);
    const stands = () => received(page, 'server_stats').map(([stats]) => stats).find((stats) => stats.pollingClientsCount === 1);
    const stats = await until(stands);
    assert.equal(stats.clientsCount, 3);
    assert.ok(stats.uptime > 0 && stats.pid > 0 && stats.hostname.length > 0 && stats.serverId.startsWith(stats.hostname));
    const sockets = Object.fromEntries(stats.namespaces.map(({ name, socketsCount }) => [name, socketsCount]));
    assert.equal(sockets['/'], 2);
    assert.equal(sockets['/admin'], 1);

    polling.disconnect();
    client.disconnect();
    await until(() => received(page, 'server_stats').some(([{ clientsCount }]) => clientsCount === 1));
    const events = received(page, 'server_stats').flatMap(([{ aggregatedEvents }]) => aggregatedEvents);
    const count = (wanted) => events.filter(({ type }) => type === wanted).reduce((sum, { count }) => sum + count, 0);
    assert.equal(count('rawDisconnection'), 2);
    assert.ok(events.every(({ timestamp }) => timestamp % 1000 === 0 && Math.abs(timestamp - Date.now()) < 60_000));
  });
}

test('what is no auth object of a page is refused, and the server goes on', async (t) => {
  // Node's server never answers the first.
  for (const auth of [{ username: USERNAME }, { sessionId: 7 }, { username: ['admin'], password: {} }, { username: null, password: null }]) {
    assert.equal(await outcome(openAdmin(t, reads, auth)), INVALID, JSON.stringify(auth));
  }
});

test('without [admin] there is no such namespace', async (t) => {
  assert.equal(await outcome(openAdmin(t, off)), 'Invalid namespace');
});

test('one address may try ten passwords, and then has to wait; sessions and other addresses do not', async (t) => {
  const server = await startServer(t, { config: adminConfig() });
  const page = openAdmin(t, server);
  assert.equal(await outcome(page), 'connected');
  const [sessionId] = await nextEvent(page, 'session');
  const wrong = { ...CREDENTIALS, password: 'wrong' };
  const outcomes = [];
  while (outcomes.at(-1) !== 'rate_limited' && outcomes.length < 12) outcomes.push(await outcome(openAdmin(t, server, wrong)));
  assert.ok(outcomes.length >= 10, `${outcomes}`);
  const refused = openAdmin(t, server);
  let error;
  refused.once('connect_error', (its) => (error = its));
  assert.equal(await outcome(refused), 'rate_limited', `after ${outcomes}`);
  const { code, temporary, retry_after_ms: wait } = error.data;
  assert.deepEqual({ code, temporary }, { code: 'rate_limited', temporary: true });
  assert.ok(wait > 0 && wait <= 6000, `${wait}`);
  assert.equal(await outcome(openAdmin(t, server, { sessionId })), 'connected');
  await assert.doesNotReject(connectFrom(t, server, '127.0.0.2', { namespace: '/admin', auth: CREDENTIALS }));
});

test('neither passwords nor sessions reach the log', async (t) => {
  const server = await startServer(t, { config: adminConfig(), env: { MIXLAB_LOG__LEVEL: 'trace' } });
  const page = openAdmin(t, server);
  assert.equal(await outcome(page), 'connected');
  const [sessionId] = await nextEvent(page, 'session');
  assert.equal(await outcome(openAdmin(t, server, { ...CREDENTIALS, password: 'a wrong one' })), INVALID);
  assert.equal(await outcome(openAdmin(t, server, { sessionId })), 'connected');
  await server.waitForLog(/an admin page is let in/);
  await server.waitForLog(/a wrong name or password/);
  for (const secret of [PASSWORD, 'a wrong one', sessionId, HASH]) assert.ok(!server.log().includes(secret), secret);
});

test('who is refused, let in, and what pages change is in the audit log', async (t) => {
  const config = `[audit]\npath = "audit.jsonl"\n${adminConfig({ readonly: false })}`;
  const server = await startServer(t, { config });
  const text = () => readFileSync(join(server.folder, 'audit.jsonl'), 'utf8');
  const from = text().trim().split('\n').length;
  const client = await connect(t, server);
  const { id } = client;
  assert.equal(await outcome(openAdmin(t, server, { ...CREDENTIALS, password: 'a wrong one' })), INVALID);
  const page = openAdmin(t, server);
  assert.equal(await outcome(page), 'connected');
  const [sessionId] = await nextEvent(page, 'session');
  assert.equal(await outcome(openAdmin(t, server, { sessionId })), 'connected');
  page.emit('join', '/', 'user:7', id);
  page.emit('x'.repeat(1000));
  page.emit('emit', '/', undefined, 'hello', 'a message');
  page.emit('join', '/', 'vip', id);
  page.emit('_disconnect', '/', true);
  const entries = () => text().trim().split('\n').slice(from).map((line) => JSON.parse(line));
  const written = await until(() => entries().length >= 7 && entries(), { message: text });
  const other = written[2].page;
  const commanded = { action: 'page_commanded', page: page.id, namespace: '/' };
  assert.deepEqual(written.map(({ time, ...entry }) => entry), [
    { action: 'client_refused', address: '127.0.0.1', namespace: '/admin', outcome: 'unauthorized' },
    { action: 'page_admitted', page: page.id, address: '127.0.0.1', by: 'password' },
    { action: 'page_admitted', page: other, address: '127.0.0.1', by: 'session' },
    { action: 'page_refused', page: page.id, command: 'join', reason: 'the server keeps the room itself' },
    { action: 'page_refused', page: page.id, command: `${'x'.repeat(200)}…`, reason: 'no command' },
    { ...commanded, command: 'join', filter: id, room: 'vip' },
    { ...commanded, command: 'disconnect', filter: null },
  ]);
  for (const secret of ['a wrong one', PASSWORD, sessionId, 'a message']) assert.ok(!text().includes(secret), secret);
});

test('pages are nobody to plugins, backends and counts, and no plugin serves their namespace', async (t) => {
  const page = openAdmin(t, reads);
  assert.equal(await outcome(page), 'connected');
  assert.equal((await reads.api('GET', '/api/v1/clients/count')).body.count, 0);
  const namespace = encodeURIComponent('/admin');
  assert.deepEqual((await reads.api('GET', `/api/v1/sockets?namespace=${namespace}`)).body.sockets, []);
  const emitted = await reads.api('POST', '/api/v1/emit', { namespace: '/admin', everyone: true, event: 'session', arguments: ['x'] });
  assert.equal(emitted.status, 200);
  await nextEvent(page, 'server_stats');
  await nextEvent(page, 'server_stats');
  assert.equal(received(page, 'session').length, 1);
});

test('a page that may only look changes nothing', async (t) => {
  const client = await connect(t, reads);
  const page = openAdmin(t, reads);
  assert.equal(await outcome(page), 'connected');
  page.emit('emit', '/', undefined, 'hello');
  page.emit('_disconnect', '/', true, client.id);
  page.emit('join', '/', 'vip', client.id);
  // What was sent before has been dealt with when the page hears again.
  const told = received(page, 'server_stats').length;
  await until(() => received(page, 'server_stats').length > told + 1);
  assert.ok(client.connected);
  assert.deepEqual(received(client, 'hello'), []);
  const { rooms } = (await reads.api('GET', `/api/v1/sockets/${client.id}`)).body;
  assert.deepEqual(rooms, []);
});

for (const [name, server, rooms] of [
  ['MixLab', writes, async (id) => (await writes.api('GET', `/api/v1/sockets/${id}`)).body.rooms],
  [
    'Node',
    nodeWrites,
    (id) => [...(nodeWrites.io.of('/').sockets.get(id)?.rooms ?? [])].filter((room) => room !== id),
  ],
]) {
  test(`${name} does what a page wants with sockets, by room and by id`, async (t) => {
    const [one, two] = [await connect(t, server), await connect(t, server)];
    const page = openAdmin(t, server);
    assert.equal(await outcome(page), 'connected');
    const [{ supportedFeatures }] = await nextEvent(page, 'config');
    assert.deepEqual(supportedFeatures, [
      'EMIT',
      'JOIN',
      'LEAVE',
      'DISCONNECT',
      'MJOIN',
      'MLEAVE',
      'MDISCONNECT',
      'AGGREGATED_EVENTS',
    ]);
    page.emit('emit', '/', undefined, 'to-all', 1, { a: [2] });
    for (const client of [one, two]) assert.deepEqual(await nextEvent(client, 'to-all'), [1, { a: [2] }]);
    page.emit('join', '/', 'vip', one.id);
    await until(async () => (await rooms(one.id)).includes('vip'));
    assert.deepEqual(await rooms(two.id), []);
    page.emit('emit', '/', 'vip', 'to-vip', Buffer.from('bytes'));
    const [bytes] = await nextEvent(one, 'to-vip');
    assert.equal(Buffer.from(bytes).toString(), 'bytes');
    page.emit('leave', '/', 'vip', 'vip');
    await until(async () => (await rooms(one.id)).length === 0);
    page.emit('_disconnect', '/', false, one.id);
    await until(() => one.endReason === 'io server disconnect');
    assert.ok(two.connected);
    assert.deepEqual(received(two, 'to-vip'), []);
    page.emit('_disconnect', '/', true);
    await until(() => two.endReason);
    assert.ok(page.connected, 'whoever is nowhere but in /admin stays');
  });
}

test('commands that are none are passed over, and so are rooms of the host', async (t) => {
  const client = await connect(t, writes);
  const page = openAdmin(t, writes);
  assert.equal(await outcome(page), 'connected');
  for (const args of [
    ['join', '/', 'payments', client.id],
    ['join', '/', 'user:7'],
    ['join', '/', 7],
    ['join'],
    ['join', '/', 'x', client.id, 'more'],
    ['_disconnect', '/'],
    ['_disconnect', '/', 'yes', client.id],
    ['_disconnect', '/', true, 7],
    ['_disconnect', '/', true, Buffer.from('x')],
    ['emit', '/', undefined, 'disconnect'],
    ['emit', '/', undefined],
    ['shutdown', '/'],
    ['emit', '/nowhere', undefined, 'hello'],
  ]) {
    page.emit(...args);
  }
  page.emit('emit', '/', client.id, 'last');
  await nextEvent(client, 'last');
  assert.deepEqual(received(client, 'hello'), []);
  assert.deepEqual((await writes.api('GET', `/api/v1/sockets/${client.id}`)).body.rooms, []);
});

test('a plugin that names the namespace of pages is refused, and serves another one', async (t) => {
  const config = adminConfig({ namespace: '/custom' });
  const server = await startServer(t, { config, plugins: [CONFORMANCE] });
  await server.waitForLog(/serves "\/custom", which is the namespace of \[admin\]/);
  assert.equal(await outcome(openAdmin(t, server, CREDENTIALS, { namespace: '/custom' })), 'connected');
});

test('mixlab admin password makes the hash of what it reads', async (t) => {
  const hash = async (password) => {
    const child = spawn(PROGRAM, ['admin', 'password'], { stdio: ['pipe', 'pipe', 'pipe'] });
    const texts = { out: '', err: '' };
    child.stdout.on('data', (text) => (texts.out += text));
    child.stderr.on('data', (text) => (texts.err += text));
    child.stdin.end(password);
    const [code] = await once(child, 'close');
    return { code, ...texts };
  };
  const made = await hash('correct horse battery\n');
  assert.equal(made.code, 0, made.err);
  assert.match(made.out, /^\$2b\$12\$[./\w]{53}\n$/);
  const home = await startServer(t, { config: adminConfig({ password: made.out.trim() }) });
  assert.equal(await outcome(openAdmin(t, home, { ...CREDENTIALS, password: 'correct horse battery' })), 'connected');
  for (const [bad, reason] of [
    ['', /empty/],
    ['\n', /empty/],
    ['x'.repeat(72), /more than 71 bytes/],
    ['a\0b', /zero/],
  ]) {
    const refused = await hash(bad);
    assert.equal(refused.code, 2, bad);
    assert.match(refused.err, reason);
    assert.equal(refused.out, '');
  }
});

test('a password in the clear is refused at start, and is not shown', async (t) => {
  const { code, stderr } = await makeFolder(t, { config: adminConfig({ password: PASSWORD }) }).mixlab('up', '--listen', '127.0.0.1:0');
  assert.equal(code, 2);
  assert.match(stderr, /admin\.password: expected a bcrypt hash/);
  assert.ok(!stderr.includes(PASSWORD));
});

/** The official page, logged in. */
async function officialPage(t, server, site, browser) {
  // A page that has loaded nothing from other machines: fonts and icons come from there.
  const page = await openPage(t, browser, 'about:blank');
  await page.route(/googleapis|jsdelivr/, (route) => route.fulfill({ contentType: 'text/css', body: '' }));
  await page.goto(site);
  await page.getByLabel('Server URL').fill(server.url);
  await page.getByLabel('Username').fill(USERNAME);
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Connect' }).click();
  return page;
}

test('the official page logs in and shows how the server stands', async (t) => {
  const site = await serveOfficialPage(t);
  const cors = `[cors]\nallowed_origins = ["${site}"]\ncheck_origins = true\n`;
  const server = await startServer(t, { config: cors + adminConfig(), plugins: [CONFORMANCE] });
  await connect(t, server);
  await connect(t, server, { transports: ['polling'] });
  const browser = await launch(t);
  const page = await officialPage(t, server, site, browser);
  const shown = page.locator('main');
  await until(async () => /WebSocket\s+2\b[^]*HTTP long-polling\s+1\b/.test(await shown.innerText()), {
    message: () => `the counts; errors: ${page.errors}`,
  });
  await keepScreenshot(page, 'admin-dashboard');
  assert.match(await shown.innerText(), /\/admin\s+1\b/);

  await page.reload();
  await until(async () => /WebSocket\s+2\b/.test(await shown.innerText()), { message: 'the page is back by its session' });
  assert.deepEqual(page.errors, []);
});

for (const [name, server] of Object.entries({ MixLab: single, Node: nodeSingle })) {
  test(`in development, ${name} tells pages of single sockets and of what happens on them`, async (t) => {
    const before = await connect(t, server, { transports: ['polling'], upgrade: false });
    const page = openAdmin(t, server);
    assert.equal(await outcome(page), 'connected');
    const [{ supportedFeatures }] = await nextEvent(page, 'config');
    assert.ok(supportedFeatures.includes('ALL_EVENTS'));
    const [all] = await nextEvent(page, 'all_sockets');
    const row = all.find(({ id }) => id === before.id);
    assert.equal(row.nsp, '/');
    assert.equal(row.transport, 'polling');
    assert.deepEqual(row.rooms, [before.id]);
    assert.equal(row.clientId.length, 12);
    assert.match(row.handshake.address, /127\.0\.0\.1$/);
    assert.ok(Math.abs(row.handshake.issued - Date.now()) < 60_000);

    const client = await connect(t, server);
    const told = (event, of) => until(() => received(page, event).find((args) => of(args)), { message: event });
    const [{ transport, nsp }, at] = await told('socket_connected', ([socket]) => socket.id === client.id);
    assert.deepEqual([transport, nsp], ['websocket', '/']);
    assert.ok(Math.abs(Date.parse(at) - Date.now()) < 60_000);
    // It has none once it is disconnected.
    const { id } = client;
    page.emit('join', '/', 'vip', id);
    await told('room_joined', ([path, room, its]) => path === '/' && room === 'vip' && its === id);
    client.emit('something', 1, { a: [] });
    const [, , args] = await told('event_received', ([path, its, [event]]) => path === '/' && its === id && event === 'something');
    assert.deepEqual(args, ['something', 1, { a: [] }]);
    page.emit('leave', '/', 'vip', client.id);
    await told('room_left', ([, room, its]) => room === 'vip' && its === id);
    page.emit('_disconnect', '/', false, id);
    const [, , reason] = await told('socket_disconnected', ([path, its]) => path === '/' && its === id);
    assert.equal(reason, 'server namespace disconnect');
  });
}

test('pages see no token of a handshake or an event, and of headers the harmless ones', async (t) => {
  const config = adminConfig(SINGLE);
  const server = await startServer(t, { config, plugins: [CONFORMANCE] });
  const client = await connect(t, server, {
    auth: { key: 'in-auth' },
    query: { token: 'in-query', jwt: 'in-query', ticket: 'in-query', sig: 'in-query', code: 'in-query', as: token({ sub: 'in-query' }), lang: 'de' },
    extraHeaders: { authorization: 'Bearer in-header', cookie: 'sid=in-cookie', 'x-api-key': 'in-key', 'user-agent': 'a browser' },
  });
  const page = openAdmin(t, server);
  assert.equal(await outcome(page), 'connected');
  const [all] = await nextEvent(page, 'all_sockets');
  const { handshake } = all.find(({ id }) => id === client.id);
  assert.deepEqual(handshake.query, { lang: 'de' });
  assert.deepEqual(handshake.headers, { host: server.address, 'user-agent': 'a browser' });
  assert.doesNotMatch(JSON.stringify(all), /in-(auth|query|header|cookie|key)/);

  client.emit('authenticate', 'a token of some form');
  client.emit('login', { name: 'me', password: 'in-event' }, token({ id: '1' }));
  const sent = (name) => until(() => received(page, 'event_received').map(([, , args]) => args).find(([event]) => event === name));
  // No program can hold this number. The page takes an array, whatever it has.
  client.io.engine.write('2["large",1e999]');
  assert.deepEqual(await sent('large'), ['large', '[7 bytes]']);
  assert.deepEqual(await sent('authenticate'), ['authenticate', '[redacted]']);
  assert.deepEqual(await sent('login'), ['login', { name: 'me', password: '[redacted]' }, '[redacted]']);
});

test('of very many sockets a thousand are shown, and of long events their size', async (t) => {
  const server = await startServer(t, { config: adminConfig(SINGLE), plugins: [CONFORMANCE] });
  const page = openAdmin(t, server);
  assert.equal(await outcome(page), 'connected');
  await nextEvent(page, 'all_sockets');
  const clients = await Promise.all(Array.from({ length: 501 }, () => connect(t, server)));
  clients[0].emit('long', 'x'.repeat(20_000));
  const [, , args] = await until(() => received(page, 'event_received').find(([, , [event]]) => event === 'long'));
  assert.deepEqual(args, ['long', '[20004 bytes]']);

  const more = clients.map((client) => client.io.socket('/custom').connect());
  await Promise.all(more.map((socket) => socket.connected || once(socket, 'connect')));
  const late = openAdmin(t, server);
  assert.equal(await outcome(late), 'connected');
  const [all] = await nextEvent(late, 'all_sockets');
  assert.equal(all.length, 1000);
  const [{ namespaces }] = await nextEvent(late, 'server_stats');
  const count = (path) => namespaces.find(({ name }) => name === path).socketsCount;
  assert.deepEqual([count('/'), count('/custom')], [501, 501]);
});

test('the official page lists single sockets, and its button ends one', async (t) => {
  const site = await serveOfficialPage(t);
  const cors = `[cors]\nallowed_origins = ["${site}"]\n`;
  const server = await startServer(t, { config: cors + adminConfig(SINGLE), plugins: [CONFORMANCE] });
  const [one, two] = [await connect(t, server), await connect(t, server)];
  const browser = await launch(t);
  const page = await officialPage(t, server, site, browser);
  await until(async () => /WebSocket\s+3\b/.test(await page.locator('main').innerText()), { message: 'the dashboard' });
  await page.goto(`${site}/#/sockets/`);
  // A socket has no id once it is disconnected.
  const id = one.id;
  const row = (id) => page.locator('main tr', { hasText: id });
  await row(id).waitFor();
  await row(two.id).waitFor();
  await keepScreenshot(page, 'admin-sockets');
  await row(id).getByRole('button').click();
  await until(() => one.endReason === 'io server disconnect');
  assert.ok(two.connected);
  // A click on the button is one on its row, too, which opens the socket's own view.
  await page.getByText('Creation date').waitFor();
  await page.goto(`${site}/#/sockets/`);
  const listed = page.locator('main tr', { hasText: 'WebSocket' });
  await until(async () => (await listed.count()) === 1, { message: 'one socket in the list' });
  await row(two.id).locator('td').first().click();
  await page.getByText('Creation date').waitFor();
  await keepScreenshot(page, 'admin-socket');
  assert.deepEqual(page.errors, []);
});
