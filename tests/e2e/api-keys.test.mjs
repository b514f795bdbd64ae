// API keys: their hashes in mixlab.toml, how they are replaced, when they end, and how often they may be used.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, statSync } from 'node:fs';
import { once } from 'node:events';
import { request } from 'node:http';
import { test } from 'node:test';
import { editConfig, reload } from '../support/plugins.mjs';
import { makeFolder, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const hash = (key) => `sha256:${createHash('sha256').update(key).digest('hex')}`;
const GOOD = 'mixlab_0123456789abcdef';
const count = (server, key) => server.api('GET', '/api/v1/clients/count', undefined, key);
const moment = (seconds) => new Date(Date.now() + seconds * 1000).toISOString();

/** One table; `more` are its other lines. */
const table = (name, key, more = '') => `[[api.keys]]\nname = "${name}"\nkey = "${key}"\nrights = ["clients", "emit", "everyone"]\n${more}\n`;

function assertRefused({ status, body }, expected, code, message) {
  assert.deepEqual([status, body.error.code], [expected, code], JSON.stringify(body));
  assert.match(body.error.message, message);
}

test('a key is known by its hash, which is no key itself', async (t) => {
  const server = await startServer(t, {
    config: table('hashed', hash(GOOD)) + table('upper', hash('other-key').toUpperCase()) + '[[api.keys]]\nname = "by-environment"\nkey_env = "HASH"\nrights = ["clients"]\n',
    env: { HASH: hash('third-key') },
  });
  for (const key of [GOOD, 'other-key', 'third-key']) assert.equal((await count(server, key)).status, 200, key);
  for (const key of [hash(GOOD), `${GOOD}x`, GOOD.slice(1), hash(GOOD).slice(7)]) {
    const answer = await count(server, key);
    assertRefused(answer, 401, 'unauthorized', /not known/);
    assert.equal(answer.headers.get('www-authenticate'), 'Bearer');
  }
  assertRefused(await server.api('GET', '/api/v1/plugins', undefined, GOOD), 403, 'permission_denied', /"inspect"/);
  assert.ok(!server.log().includes(GOOD));
});

test('a key is replaced while both are good, the former one until a time', async (t) => {
  const server = await startServer(t, { config: table('billing', hash('old-old-old-old-1')) });
  assert.equal((await count(server, 'old-old-old-old-1')).status, 200);
  const former = (until) => table('billing', hash('new-new-new-new-1'), `former_keys = [{ key = "${hash('old-old-old-old-1')}", until = "${until}" }]`);
  editConfig(server, () => former(moment(3600)));
  await reload(server);
  for (const key of ['old-old-old-old-1', 'new-new-new-new-1']) assert.equal((await count(server, key)).status, 200);
  // What was answered to the one is nobody else's.
  const emit = (key) => server.api('POST', '/api/v1/emit', { everyone: true, event: 'x' }, key, { 'idempotency-key': 'same' });
  for (const key of ['old-old-old-old-1', 'new-new-new-new-1']) assert.equal((await emit(key)).status, 200);
  editConfig(server, () => former(moment(2)));
  await reload(server);
  await until(async () => (await count(server, 'old-old-old-old-1')).status === 401, { message: 'it is good no more, without a reload' });
  assertRefused(await count(server, 'old-old-old-old-1'), 401, 'key_expired', /has expired/);
  assert.equal((await count(server, 'new-new-new-new-1')).status, 200);
  editConfig(server, () => table('billing', hash('new-new-new-new-1'), `until = "${moment(-1)}"`));
  await reload(server);
  assertRefused(await count(server, 'new-new-new-new-1'), 401, 'key_expired', /has expired/);
  assertRefused(await count(server, 'old-old-old-old-1'), 401, 'unauthorized', /not known/);
});

for (const [name, lines, message] of [
  ['a hash that is none', table('a', 'sha256:12'), /api\.keys\.a\.key: expected sha256: and 64 hexadecimal digits/],
  ['a time that is none', table('a', GOOD, 'until = "tomorrow"'), /api\.keys\.a\.until: .*"tomorrow" is no time like 2030-01-31T12:00:00Z/],
  ['a former key for ever', table('a', GOOD, `former_keys = [{ key = "${hash('b')}" }]`), /missing key "until"/],
  ['a former key that is the key', table('a', GOOD, `former_keys = [{ key = "${hash(GOOD)}", until = "2030-01-31T12:00:00Z" }]`), /is there already/],
  ['four former keys', table('a', GOOD, `former_keys = [${[1, 2, 3, 4].map((it) => `{ key = "${hash(`${it}`)}", until = "2030-01-31T12:00:00Z" }`)}]`), /at most 3/],
  ['one key twice, by its hash', table('a', GOOD) + table('b', hash(GOOD)), /has the same key as "a"/],
  ['no request at once', table('a', GOOD, 'in_flight = 0'), /api\.keys\.a\.in_flight: must be more than 0/],
  ['no rate', table('a', GOOD, 'limit = "0/1s"'), /the count must be 1 or more/],
]) {
  test(`mixlab.toml with ${name} is refused`, async (t) => {
    const { code, stderr } = await makeFolder(t, { config: lines }).mixlab('check');
    assert.equal(code, 2);
    assert.match(stderr, message);
    assert.ok(!stderr.includes(GOOD));
  });
}

test('mixlab key new prints a key once, and lines that a server takes', async (t) => {
  const folder = makeFolder(t);
  const args = ['key', 'new', 'billing', '--right', 'clients', '--right', 'emit:news', '--until', '2999-01-31T12:00:00Z', '--limit', '5/1s'];
  const { code, stdout } = await folder.mixlab(...args);
  assert.equal(code, 0);
  const key = stdout.match(/^# (mixlab_[\w-]{43})$/m)[1];
  const lines = ['[[api.keys]]', 'name = "billing"', `key = "${hash(key)}"`, 'until = "2999-01-31T12:00:00Z"', 'rights = ["clients", "emit:news"]', 'limit = "5/1s"'];
  assert.ok(stdout.endsWith(`\n${lines.join('\n')}\n`), stdout);
  const again = JSON.parse((await folder.mixlab(...args, '--format', 'json')).stdout);
  assert.notEqual(again.key, key);
  assert.equal(again.hash, hash(again.key));
  const server = await startServer(t, { config: stdout });
  assert.equal((await count(server, key)).status, 200);
  for (const [wrong, message] of [
    [['key', 'new', 'a'], /--right/],
    [['key', 'new', 'a', '--right', 'paymens'], /did you mean "payments"/],
    [['key', 'new', 'a', '--right', 'find', '--until', 'x'], /is no time like/],
    [['key', 'new', 'a', '--right', 'find', '--until', '2001-01-31T12:00:00Z'], /this time is over/],
    [['key', 'new', '', '--right', 'find'], /a value is required for '<NAME>'/],
  ]) {
    const { code: refused, stderr } = await folder.mixlab(...wrong);
    assert.equal(refused, 2);
    assert.match(stderr, message);
  }
});

test('mixlab check warns of a key in a file that others can read, and of no hash', async (t) => {
  const folder = makeFolder(t, { config: table('clear', GOOD) + table('hashed', hash('b')) });
  const warnings = async () => (await folder.mixlab('check')).stderr.match(/^warning: .*API key.*$/gm) ?? [];
  for (const [mode, expected] of [[0o644, 1], [0o640, 1], [0o600, 0]]) {
    chmodSync(folder.configPath, mode);
    assert.equal(statSync(folder.configPath).mode & 0o777, mode);
    const found = await warnings();
    assert.equal(found.length, expected, `${found}`);
    assert.ok(found.every((line) => line.includes('"clear"') && !line.includes(GOOD)));
  }
});

test('a key may be used as often as its limit says, and its backend hears when again', async (t) => {
  const config = table('limited', GOOD, 'limit = "3/9s"') + table('free', 'another-key-of-mine');
  const server = await startServer(t, { config });
  for (let times = 0; times < 3; times++) assert.equal((await count(server, GOOD)).status, 200);
  const refused = await count(server, GOOD);
  assertRefused(refused, 429, 'rate_limited', /too many requests with this API key/);
  const { retry_after_ms: wait, temporary } = refused.body.error;
  assert.ok(temporary && wait > 0 && wait <= 3000, `${wait}`);
  assert.equal(refused.headers.get('retry-after'), String(Math.ceil(wait / 1000)));
  for (let times = 0; times < 10; times++) assert.equal((await count(server, 'another-key-of-mine')).status, 200);
  // A reload fills nobody's bucket.
  editConfig(server, (toml) => `${toml}\n# the same\n`);
  await reload(server);
  assert.equal((await count(server, GOOD)).status, 429);
  await until(async () => (await count(server, GOOD)).status === 200);
});

test('so many requests of a key are under way at once, whoever is slow', async (t) => {
  const server = await startServer(t, { config: table('slow', GOOD, 'in_flight = 2') + table('other', 'another-key-of-mine') });
  const slow = () => {
    const headers = { authorization: `Bearer ${GOOD}`, 'content-type': 'application/json', 'transfer-encoding': 'chunked' };
    const open = request(`${server.url}/api/v1/emit`, { method: 'POST', headers });
    open.write('{"everyone":true,');
    t.after(() => open.destroy());
    open.on('error', () => {});
    open.on('response', ({ statusCode }) => (open.status = statusCode));
    return open;
  };
  const open = [slow(), slow()];
  const areUnderWay = async () => {
    // Whoever asks takes a place for that moment, and may have had one of these refused.
    for (const [index, { status }] of open.entries()) if (status === 429) open[index] = slow();
    return (await count(server, GOOD)).status === 429 && open.every(({ status }) => status === undefined);
  };
  await until(areUnderWay, { message: 'both are under way' });
  const refused = await count(server, GOOD);
  assertRefused(refused, 429, 'rate_limited', /2 requests with this API key are under way already/);
  assert.equal(refused.headers.get('retry-after'), '1');
  assert.equal((await count(server, 'another-key-of-mine')).status, 200);
  // One ends, and one hangs up.
  const answer = once(open[0], 'response');
  open[0].end('"event":"x"}');
  const [{ statusCode }] = await answer;
  assert.equal(statusCode, 200);
  await until(async () => (await count(server, GOOD)).status === 200);
  open[1].destroy();
  const both = async () => (await Promise.all([count(server, GOOD), count(server, GOOD)])).every(({ status }) => status === 200);
  await until(both);
});
