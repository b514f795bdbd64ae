// [audit]: who changed what, and who was refused, in a file of one JSON object a line.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { open } from '../support/client.mjs';
import { editConfig, plugin, reload, replaceFile } from '../support/plugins.mjs';
import { makeFolder, startServer, wasm } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const PATH = 'logs/audit.jsonl';
const DEPLOY = 'key-of-those-who-deploy';
const key = (name, value, rights, more = '') => `[[api.keys]]\nname = "${name}"\nkey = "${value}"\nrights = ${JSON.stringify(rights)}\n${more}\n`;
const AUDIT = `[audit]\npath = "${PATH}"\n`;
const hash = (path) => createHash('sha256').update(readFileSync(path)).digest('hex');

/** Lines of the file, without their times, which are times. */
function lines(server, path = PATH) {
  const text = readFileSync(join(server.folder, path), 'utf8');
  assert.ok(text.endsWith('\n') || text === '', text);
  return text.trim().split('\n').filter(Boolean).map((line) => {
    const { time, ...entry } = JSON.parse(line);
    assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    return entry;
  });
}

/** Resolves to the lines behind the first `from`, when there are `count`. */
async function more(server, from, count) {
  await until(() => lines(server).length >= from + count, { message: () => JSON.stringify(lines(server).slice(from)) });
  const behind = lines(server).slice(from);
  assert.equal(behind.length, count, JSON.stringify(behind));
  return behind;
}

test('the file says who may do what, from start to stop', async (t) => {
  const server = await startServer(t, {
    plugins: [{ wasm: 'echo', grants: ['emit', 'room:a'] }],
    config: `${AUDIT}${key('deploy', DEPLOY, ['admin'])}`,
  });
  assert.equal(statSync(join(server.folder, PATH)).mode & 0o777, 0o600);
  const [serves, started] = await more(server, 0, 2);
  const { version } = await plugin(server, 'echo');
  assert.deepEqual(serves, {
    action: 'plugin_serves', plugin: 'echo', version, generation: 1, sha256: hash(wasm('echo')), grants: ['emit', 'room:a'],
  });
  assert.deepEqual(started, { action: 'started', version: started.version, process: server.pid });

  // Grants more and less, a key more, and another key with other rights.
  const changed = key('deploy', 'another-key-of-those', ['move', 'clients']) + key('billing', 'key-of-billing-here', ['payments']);
  editConfig(server, (toml) => toml.replace(key('deploy', DEPLOY, ['admin']), changed).replace('room:a', 'store'));
  assert.deepEqual((await more(server, 2, 5)), [
    { action: 'config_serves', tables: ['api', 'plugins'] },
    { action: 'grants_changed', plugin: 'echo', added: ['store'], removed: ['room:a'] },
    { action: 'key_changed', key: 'deploy', added: ['move', 'clients'], removed: ['admin'], replaced: true },
    { action: 'key_added', key: 'billing', rights: ['payments'] },
    { action: 'plugin_serves', plugin: 'echo', version, generation: 2, sha256: hash(wasm('echo')), grants: ['emit', 'store'] },
  ]);

  // A limit of a key, a key less, a file that is none, a configuration that is none.
  editConfig(server, (toml) => toml.replace(changed, key('deploy', 'another-key-of-those', ['move', 'clients'], 'limit = "9/1s"')));
  assert.deepEqual(await more(server, 7, 3), [
    { action: 'config_serves', tables: ['api'] },
    { action: 'key_removed', key: 'billing' },
    { action: 'key_changed', key: 'deploy', added: [], removed: [], replaced: false },
  ]);
  replaceFile(join(server.folder, 'echo.wasm'), 'nonsense');
  const [refused] = await more(server, 10, 1);
  assert.deepEqual([refused.action, refused.plugin], ['plugin_refused', 'echo']);
  const good = editConfig(server, (toml) => `nonsense = 7\n${toml}`);
  const [wrong] = await more(server, 11, 1);
  assert.equal(wrong.action, 'config_refused');
  assert.match(wrong.reason, /nonsense/);
  editConfig(server, () => good.replace('[[plugins]]', '[[plugins]]\nenabled = false'));
  assert.deepEqual(await more(server, 12, 2), [
    { action: 'config_serves', tables: ['plugins'] },
    { action: 'plugin_off', plugin: 'echo' },
  ]);
  await server.stop();
  assert.deepEqual(lines(server).slice(14), [{ action: 'stopped', process: server.pid }]);
  const text = readFileSync(join(server.folder, PATH), 'utf8');
  for (const secret of [DEPLOY, 'another-key-of-those', 'key-of-billing-here']) assert.ok(!text.includes(secret));
});

test('what needs a restart is told as that, and not as what is in force', async (t) => {
  const server = await startServer(t, { plugins: ['echo'], config: AUDIT });
  editConfig(server, (toml) => toml.replace(PATH, 'elsewhere.jsonl'));
  assert.deepEqual(await more(server, 2, 1), [{ action: 'config_serves', tables: [], restart: ['audit.path'] }]);
  editConfig(server, (toml) => `${toml}\n[console]\nenabled = true\n[payments]\nsubscribe = "anyone"\n`);
  assert.deepEqual(await more(server, 3, 1), [{ action: 'config_serves', tables: ['payments'], restart: ['audit.path', 'console.enabled'] }]);
});

test('what backends have a server do is in it, and events are not', async (t) => {
  const server = await startServer(t, { plugins: ['echo'], config: `${AUDIT}${key('deploy', DEPLOY, ['admin', 'emit', 'everyone', 'disconnect', 'move', 'room:*', 'revoke', 'find', 'clients'])}` });
  const from = lines(server).length;
  const post = (path, body) => server.api('POST', path, body, DEPLOY);
  const requested = [
    ['/api/v1/plugins/reload'],
    ['/api/v1/users/42/disconnect', { close: true }],
    ['/api/v1/sockets/join', { everyone: true, join: ['a'] }],
    ['/api/v1/revocations', { user: '42' }],
  ];
  for (const [path, body] of requested) {
    assert.equal((await post(path, body)).status, 200, path);
    assert.equal((await post('/api/v1/emit', { everyone: true, event: 'x' })).status, 200);
    assert.equal((await server.api('GET', '/api/v1/clients/count', undefined, DEPLOY)).status, 200);
  }
  assert.equal((await server.mixlab('plugin', 'reload')).code, 0);
  const asked = { action: 'requested', address: '127.0.0.1', method: 'POST', status: 200 };
  const by = { key: 'deploy' };
  assert.deepEqual(await more(server, from, 5), [
    ...requested.map(([path, body]) => ({ ...asked, by, path, ...(body && { body }) })),
    { ...asked, by: 'local', path: '/api/v1/plugins/reload' },
  ]);
  // A body that is long is not repeated; what is refused for what it says is not a refusal of who says it.
  const rooms = Array.from({ length: 60 }, (_, index) => `${index}-${'x'.repeat(90)}`);
  assert.equal((await post('/api/v1/sockets/join', { everyone: true, join: rooms })).status, 200);
  assert.equal((await post('/api/v1/sockets/join', { everyone: true, join: [] })).status, 400);
  const path = '/api/v1/sockets/join';
  assert.deepEqual(await more(server, from + 5, 2), [
    { ...asked, by, path },
    { ...asked, by, path, status: 400, body: { everyone: true, join: [] } },
  ]);
});

test('whoever is refused is in it: backends, clients, webhooks', async (t) => {
  const webhook = { verify: 'github', secret_env: 'HOOK' };
  const server = await startServer(t, {
    plugins: [{ wasm: 'hooked', grants: ['store', 'emit:hooked', 'everyone'], webhook }],
    config: `${AUDIT}${key('weak', DEPLOY, ['clients'], 'limit = "2/1h"')}\n[auth]\nanonymous = false\n`,
    env: { HOOK: 'a-secret-of-webhooks-that-is-long' },
  });
  const from = lines(server).length;
  const long = `/api/v1/${'x'.repeat(5000)}`;
  for (const [path, used, status] of [
    ['/api/v1/drain', 'no-key-that-is-known', 401],
    ['/api/v1/drain', DEPLOY, 403],
    ['/api/v1/emit', DEPLOY, 403],
    ['/api/v1/drain', DEPLOY, 429],
    [long, DEPLOY, 404],
  ]) {
    const body = path.endsWith('emit') ? { everyone: true, event: 'x' } : undefined;
    assert.equal((await server.api('POST', path, body, used)).status, status);
  }
  const refused = { action: 'request_refused', address: '127.0.0.1', method: 'POST' };
  assert.deepEqual(await more(server, from, 4), [
    { ...refused, by: 'unknown', path: '/api/v1/drain', status: 401 },
    { ...refused, by: { key: 'weak' }, path: '/api/v1/drain', status: 403 },
    { ...refused, by: { key: 'weak' }, path: '/api/v1/emit', status: 403 },
    { ...refused, by: { key: 'weak' }, path: '/api/v1/drain', status: 429 },
  ]);
  const errors = [open(t, server), open(t, server, { token: 'no.token.at-all' })].map(
    (socket) => new Promise((resolve) => socket.once('connect_error', ({ message }) => resolve(message))),
  );
  assert.deepEqual(await Promise.all(errors), ['unauthorized', 'unauthorized']);
  const client = { action: 'client_refused', address: '127.0.0.1', namespace: '/', outcome: 'unauthorized' };
  assert.deepEqual(await more(server, from + 4, 2), [client, client]);
  const hooked = await fetch(`${server.url}/hooks/hooked`, { method: 'POST', body: '{}', headers: { 'x-hub-signature-256': `sha256=${'0'.repeat(64)}` } });
  assert.equal(hooked.status, 401);
  assert.deepEqual(await more(server, from + 6, 1), [
    { action: 'webhook_refused', address: '127.0.0.1', plugin: 'hooked', code: 'invalid_signature' },
  ]);
  const text = readFileSync(join(server.folder, PATH), 'utf8');
  for (const secret of [DEPLOY, 'no-key-that-is-known', 'no.token', 'a-secret-of']) assert.ok(!text.includes(secret), secret);
});

test('whoever hangs up, or hides what is asked behind blanks, is in it all the same', async (t) => {
  const server = await startServer(t, { plugins: ['echo'], config: `${AUDIT}${key('deploy', DEPLOY, ['clients', 'move', 'everyone', 'room:*'], 'in_flight = 1')}` });
  const from = lines(server).length;
  const padded = `{"everyone":true,${' '.repeat(5_000)}"join":["a"]}`;
  assert.equal((await server.api('POST', '/api/v1/sockets/join', padded, DEPLOY)).status, 200);
  const [joined] = await more(server, from, 1);
  assert.deepEqual(joined.body, { everyone: true, join: ['a'] });
  // It is under way when its key may do no more, and ends before it is answered.
  const hangup = connectTcp(server.port, '127.0.0.1');
  hangup.write(`POST /api/v1/sockets/join HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${DEPLOY}\r\ncontent-length: 9\r\n\r\n{`);
  await until(async () => (await server.api('GET', '/api/v1/clients/count', undefined, DEPLOY)).status === 429);
  hangup.resetAndDestroy();
  const requested = () => lines(server).slice(from + 1).filter(({ action }) => action === 'requested');
  const [hungUp] = await until(() => requested().length > 0 && requested());
  assert.deepEqual([hungUp.path, hungUp.by], ['/api/v1/sockets/join', { key: 'deploy' }]);
  assert.notEqual(hungUp.status, 200);
});

test('what clients name freely is shortened, and a line that a process left half is ended', async (t) => {
  const files = { [PATH]: '{"time":"2026-01-01T00:00:00.000Z","action":"star' };
  const server = await startServer(t, { plugins: ['echo'], config: AUDIT, files });
  const [half, ...others] = readFileSync(join(server.folder, PATH), 'utf8').trim().split('\n');
  assert.equal(half, files[PATH]);
  assert.ok(others.map((line) => JSON.parse(line)).some(({ action }) => action === 'started'));
  const from = others.length;
  const refused = open(t, server, { namespace: `/${'x'.repeat(7_000)}` });
  await new Promise((resolve) => refused.once('connect_error', resolve));
  const written = () => readFileSync(join(server.folder, PATH), 'utf8').trim().split('\n').slice(1 + from);
  const [line] = await until(() => written().length > 0 && written());
  assert.ok(line.length < 1_000, `${line.length}`);
  assert.match(JSON.parse(line).namespace, /^\/xxx/);
});

test('of many refusals a hundred a second are in it, and how many are not', async (t) => {
  const server = await startServer(t, { plugins: ['echo'], config: AUDIT });
  const from = lines(server).length;
  const knock = () => server.api('POST', '/api/v1/drain', undefined, 'no-key-that-is-known');
  const knocks = 1_000;
  for (let sent = 0; sent < knocks; sent += 50) await Promise.all(Array.from({ length: 50 }, knock));
  // One that comes later says of those before it.
  const told = () => {
    const refusals = lines(server).slice(from);
    return refusals.length + refusals.reduce((sum, { omitted = 0 }) => sum + omitted, 0);
  };
  let later = 0;
  await until(async () => (await knock(), (later += 1), told() === knocks + later), { message: () => `${told()} of ${knocks + later}` });
  assert.ok(lines(server).slice(from).some(({ omitted }) => omitted > 0), 'some were omitted');
});

test('the file may be moved away, and a disk that is full loses lines that are counted', async (t) => {
  const server = await startServer(t, { plugins: ['echo'], config: AUDIT });
  const path = join(server.folder, PATH);
  renameSync(path, `${path}.1`);
  await reload(server);
  const [requested] = await until(() => existsSync(path) && lines(server).length === 1 && lines(server));
  assert.equal(requested.action, 'requested');
  assert.equal(lines(server, `${PATH}.1`).at(-1).action, 'started');
  rmSync(dirname(path), { recursive: true });
  await reload(server);
  await until(() => existsSync(path) && lines(server).length === 1);
  // No file can be where a folder is.
  rmSync(path);
  mkdirSync(path);
  await reload(server);
  const metrics = async () => (await fetch(`${server.url}/metrics`)).text();
  await until(async () => (await metrics()).includes('mixlab_audit_lines_lost_total 1'), { message: metrics });
  rmdirSync(path);
  await reload(server);
  await server.waitForLog(/lines of the audit log were lost: they could not be written.*lines=1/);
  assert.equal(lines(server).length, 1);
});

test('without it nothing is written or counted; where it cannot be written, no server starts', async (t) => {
  const server = await startServer(t, { plugins: ['echo'] });
  assert.ok(!(await (await fetch(`${server.url}/metrics`)).text()).includes('audit'));
  const folder = makeFolder(t, { config: AUDIT, files: { logs: 'a file' }, plugins: ['echo'] });
  const inTheWay = makeFolder(t, { config: AUDIT, files: { [`${PATH}/x`]: 'its folder is where the file should be' }, plugins: ['echo'] });
  for (const home of [folder, inTheWay]) {
    for (const command of [['check'], ['up', '--listen', '127.0.0.1:0']]) {
      const { code, stderr } = await home.mixlab(...command);
      assert.equal(code, 1, command[0]);
      assert.match(stderr, /error: the audit log .*logs\/audit\.jsonl: /);
    }
  }
  const good = makeFolder(t, { config: AUDIT, plugins: ['echo'] });
  assert.equal((await good.mixlab('check')).code, 0);
  assert.ok(!existsSync(join(good.folder, dirname(PATH))), 'a look makes nothing');
  const empty = makeFolder(t, { config: '[audit]\npath = ""\n' });
  assert.match((await empty.mixlab('check')).stderr, /audit\.path: must not be empty/);
});
