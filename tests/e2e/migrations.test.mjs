// A new version of a plugin rewrites what the former has stored: once, before it serves, all or nothing.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect, nextEvent } from '../support/client.mjs';
import { editConfig, plugin, reload } from '../support/plugins.mjs';
import { makeFolder, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

/** Two and a half batches of ten. */
const KEYS = Array.from({ length: 25 }, (_, index) => `k${String(index).padStart(2, '0')}`);
const migrates = (config = {}) => ({ wasm: 'migrates', grants: ['store', 'emit', 'everyone'], config });

/** What `mixlab.toml` says of the plugin's form from now on; the text of all its settings. */
const setConfig = (server, config) => {
  const pairs = Object.entries(config).map(([key, value]) => `${JSON.stringify(key)} = ${JSON.stringify(value)}`);
  editConfig(server, (text) => text.replace(/^config = .*$/m, `config = { ${pairs.join(', ')} }`));
};

const count = (socket, key) => ask(socket, 'migrates', key);
const everything = async (socket) => Object.fromEntries(await ask(socket, 'migrates:all'));
/** All counts but that of who has left. */
const all = async (socket) => {
  const { 'n:left': _left, ...counts } = await everything(socket);
  return counts;
};
const said = (...by) => Object.fromEntries(KEYS.map((key) => [`n:${key}`, { by, n: 1 }]));

/** A server where version 0 has counted each key once. */
async function counted(t, options) {
  const server = await startServer(t, { plugins: [migrates({ data_version: 0 })], ...options });
  const socket = await connect(t, server);
  for (const key of KEYS) await count(socket, key);
  return { server, socket };
}

/** A server that is started anew in the same folder. */
async function again(t, home) {
  const process = home.start('up', '--listen', '127.0.0.1:0');
  const [, url] = await until(() => process.stdout().match(/listening on (\S+)\n/), {
    timeout: 60_000,
    message: process.stderr,
  });
  const end = async () => {
    process.signal('SIGTERM');
    assert.equal(await process.exited, 0);
  };
  return { url, process, end };
}

const migrations = (log) => [...log.matchAll(/was migrated .*from=(\d+) to=(\d+) batches=(\d+)/g)];

test('a new version migrates what is stored, once, in batches, over reloads and starts', async (t) => {
  const { server, socket } = await counted(t);
  for (const data_version of [1, 3]) {
    setConfig(server, { data_version });
    await reload(server);
  }
  assert.deepEqual(await all(socket), said(0, 1, 3));
  assert.deepEqual(await count(socket, KEYS[0]), { by: [0, 1, 3], n: 2 });
  setConfig(server, { data_version: 3, batch_ms: 1 });
  await reload(server);
  assert.equal((await plugin(server, 'migrates')).state, 'serving');
  await until(() => migrations(server.log()).length >= 2);
  assert.deepEqual(migrations(server.log()).map(([, ...numbers]) => numbers), [['0', '1', '4'], ['1', '3', '4']]);

  await server.stop();
  setConfig(server, { data_version: 4 });
  for (const expected of [1, 0]) {
    const { url, process, end } = await again(t, server);
    assert.deepEqual((await all(await connect(t, { url })))[`n:${KEYS[0]}`], { by: [0, 1, 3, 4], n: 2 });
    assert.equal(migrations(process.stderr()).length, expected, 'at the first start only');
    await end();
  }
});

test('what fails leaves the former version serving, with what it has stored', async (t) => {
  const { server, socket } = await counted(t, {
    config: '[budget]\ncpu = "30ms"\nwall = "300ms"\nmigration = "2s"\n[store]\nbucket_bytes = "1MB"\n',
  });
  const { generation } = await plugin(server, 'migrates');
  let calls = 0;
  for (const [fault, reason] of [
    ['rejects', /bad_count: A count makes no sense/],
    ['traps', /it trapped/],
    // On a busy machine its time is over first.
    ['loops', /the budget (cpu = 30ms|wall = 300ms) is used up/],
    ['sleeps', /the budget wall = 300ms is used up/],
    ['never ends', /the budget migration = 2s is used up/],
    ['emits', /something else than to store and set timers/],
    ['floods', /more than bucket_bytes = 1MB|budget/],
  ]) {
    setConfig(server, { data_version: 1, fault });
    await reload(server);
    const { state, refusal, ...now } = await plugin(server, 'migrates');
    assert.match(refusal, /from the data version 0 to 1 failed, and what is stored is as it was/, fault);
    assert.match(refusal, reason);
    assert.deepEqual([state, now.generation], ['serving-old', generation], fault);
    assert.deepEqual(await count(socket, 'after'), { by: [0], n: ++calls }, fault);
    const { 'n:after': after, ...others } = await all(socket);
    assert.deepEqual([after.n, others], [calls, said(0)], fault);
    await server.waitForLog(new RegExp(`the plugin was refused, the old version goes on serving: .*${reason.source}`));
  }
});

test('a server that is killed in the midst of a migration has migrated nothing', async (t) => {
  const { server } = await counted(t);
  setConfig(server, { data_version: 1, batch_ms: 500 });
  await server.waitForLog(/migrates from Some\("n:k19"\)/);
  await server.kill();
  setConfig(server, { data_version: 0 });
  const former = await again(t, server);
  assert.deepEqual(await all(await connect(t, former)), said(0));
  await former.end();
  setConfig(server, { data_version: 1 });
  const migrated = await again(t, server);
  assert.deepEqual(await all(await connect(t, migrated)), said(0, 1));
  await migrated.end();
});

test('calls wait while a migration is under way, and none is lost or done twice', async (t) => {
  const { server } = await counted(t);
  const sockets = await Promise.all([1, 2, 3, 4, 5, 6].map(() => connect(t, server)));
  const leaver = await connect(t, server);
  let stop = false;
  const answers = sockets.map(async (socket, index) => {
    const told = [];
    while (!stop) told.push(await ask(socket, index % 2 ? 'migrates' : 'migrates:serial', KEYS[index % 3]));
    return told;
  });
  setConfig(server, { data_version: 1, batch_ms: 200 });
  const reloaded = reload(server);
  // It is waited for, too, and handled by the version that serves then.
  await until(() => /the configuration was reloaded/.test(server.log()));
  leaver.disconnect();
  await reloaded;
  const late = await connect(t, server);
  await until(async () => (await count(late, 'late')).by.at(-1) === 1);
  stop = true;
  const told = (await Promise.all(answers)).flat();
  assert.deepEqual(told.filter((answer) => answer?.error), [], 'nobody was refused');
  const counts = await all(late);
  const sum = KEYS.slice(0, 3).reduce((sum, key) => sum + counts[`n:${key}`].n, 0);
  assert.equal(sum, told.length + 3);
  assert.ok(told.some(({ by }) => by.at(-1) === 0) && told.some(({ by }) => by.at(-1) === 1));
  await until(async () => (await everything(late))['n:left']?.n === 1);
});

test('a call that has waited is held against the contract of the version that handles it', async (t) => {
  const { server, socket } = await counted(t);
  const others = await Promise.all([1, 2].map(() => connect(t, server)));
  const schema = '{ "type": "array", "prefixItems": [{ "type": "string", "minLength": 4 }] }';
  setConfig(server, { data_version: 1, batch_ms: 300, arguments: schema });
  const reloaded = reload(server);
  await server.waitForLog(/migrates from Some/);
  const waiting = [count(others[0], 'k00'), count(others[1], 'long')];
  await reloaded;
  const [short, long] = await Promise.all(waiting);
  assert.equal(short.error?.code, 'invalid_payload');
  assert.deepEqual(long, { by: [1], n: 1 });
  assert.deepEqual((await all(socket))['n:k00'], { by: [0, 1], n: 1 });
});

test('what a filter has written is not stored behind a migration, if the event ends after it', async (t) => {
  const grants = ['store', 'emit', 'everyone', 'filter:asks'];
  const filtering = { ...migrates({ data_version: 0, filters: 'asks' }), grants };
  const server = await startServer(t, { plugins: [filtering, { wasm: 'asks', grants: ['ask', 'emit'] }] });
  const socket = await connect(t, server);
  await count(socket, KEYS[0]);
  const asked = ask(socket, 'asks', [{ event: 'question', arguments: [], wait_ms: 4_000 }]);
  const [give] = await nextEvent(socket, 'question');
  setConfig(server, { data_version: 1, filters: 'asks' });
  await reload(server);
  assert.equal((await plugin(server, 'migrates')).state, 'serving');
  give('late');
  assert.equal((await asked).error.code, 'conflict');
  const other = await connect(t, server);
  assert.deepEqual(await all(other), { [`n:${KEYS[0]}`]: { by: [0, 1], n: 1 } });
});

test('a version that knows only earlier forms is refused, at a reload and at a start', async (t) => {
  const { server, socket } = await counted(t);
  setConfig(server, { data_version: 2 });
  await reload(server);
  setConfig(server, { data_version: 1 });
  await reload(server);
  const refused = /what is stored has the data version 2, and it knows none after 1/;
  assert.match((await plugin(server, 'migrates')).refusal, refused);
  assert.deepEqual(await count(socket, KEYS[0]), { by: [0, 2], n: 2 }, 'the later version goes on');
  await server.stop();
  const early = await again(t, server);
  await until(() => refused.test(early.process.stderr()));
  assert.equal((await count(await connect(t, early), KEYS[0])).error.code, 'unknown_event');
  await early.end();
  setConfig(server, { data_version: 2 });
  const late = await again(t, server);
  assert.deepEqual(await count(await connect(t, late), KEYS[0]), { by: [0, 2], n: 3 });
  await late.end();
});

test('a component says which form it stores in', async (t) => {
  const home = makeFolder(t, { plugins: [migrates({ data_version: 7 })] });
  const { stdout } = await home.mixlab('plugin', 'inspect', `${home.folder}/migrates.wasm`);
  assert.match(stdout, /^ +data +version 7$/m);
  const inspected = await home.mixlab('plugin', 'inspect', `${home.folder}/migrates.wasm`, '--format', 'json');
  assert.equal(JSON.parse(inspected.stdout).data_version, 7);
});

test('check and inspect say which data version is stored and rehearse its migration, and change nothing', async (t) => {
  const { server } = await counted(t);
  const file = join(server.folder, 'data/store.redb');
  const check = () => server.mixlab('check');
  const inspect = async () => (await server.mixlab('plugin', 'inspect', join(server.folder, 'migrates.wasm'))).stdout;
  const beside = await check();
  assert.equal(beside.code, 0, beside.stderr);
  assert.match(beside.stderr, /warning: what plugins have stored was not looked at: the store \S+ is used by another process/);

  // Whoever starts it next repairs the file first.
  await server.kill();
  setConfig(server, { data_version: 1 });
  const stored = readFileSync(file);
  const rehearsed = /the data version 0 becomes 1 in 4 batches, which write \d+ keys/;
  assert.match((await check()).stdout, new RegExp(`^    what is stored: ${rehearsed.source}$`, 'm'));
  assert.match(await inspect(), new RegExp(`^    stored       ${rehearsed.source}$`, 'm'));
  const { plugins } = JSON.parse((await server.mixlab('check', '--format', 'json')).stdout);
  const { keys, ...migration } = plugins[0].migration;
  assert.deepEqual([migration, plugins[0].data_version], [{ from: 0, to: 1, batches: 4 }, 1]);
  assert.ok(keys >= KEYS.length);
  setConfig(server, { data_version: 1, fault: 'rejects' });
  const failed = await check();
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /from the data version 0 to 1 failed, and what is stored is as it was: bad_count/);
  assert.match(await inspect(), /^ {4}stored +its migration from the data version 0 to 1 failed/m);
  assert.ok(readFileSync(file).equals(stored), 'the file is as it was');

  setConfig(server, { data_version: 1 });
  await (await again(t, server)).end();
  assert.match((await check()).stdout, /^ {4}what is stored: data version 1$/m);
  assert.match(await inspect(), /^ {4}stored +version 1$/m);
  setConfig(server, { data_version: 0 });
  assert.match((await check()).stderr, /what is stored has the data version 1, and it knows none after 0/);

  writeFileSync(file, Buffer.alloc(stored.length, 'no store'));
  const damaged = await check();
  assert.equal(damaged.code, 1);
  assert.match(damaged.stderr, /migrates: it uses the store, which cannot be opened: the store \S+ is damaged, or no store/);
  assert.match(await inspect(), /^ {4}stored +the store \S+ is damaged, or no store/m);
});
