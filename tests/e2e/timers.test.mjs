// Calls at times of the plugins' own: over reloads and restarts, each exactly once in the store.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import { FULL } from '../support/full.mjs';
import { editConfig, plugin, reload, replaceFile } from '../support/plugins.mjs';
import { badMachine } from '../support/preload.mjs';
import { GUESTS, makeFolder, startServer } from '../support/server.mjs';
import { startUpstream } from '../support/upstream.mjs';
import { until } from '../support/wait.mjs';

const ALARMS = { wasm: 'alarms', grants: ['timers', 'store', 'emit', 'everyone'] };
const range = (count) => Array.from({ length: count }, (_, index) => index);
const set = (socket, name, after, plan = {}, reject = false) => ask(socket, 'alarms', name, after, plan, reject);
const fired = (socket, name) => ask(socket, 'alarms:fired', name);
const untilFired = (socket, name, times) =>
  until(async () => (await fired(socket, name)) === times, { message: `${name} fired ${times} times`, timeout: 30_000 });

/** The server again, in the same folder. */
async function restart(t, server) {
  const again = server.start('up', '--listen', '127.0.0.1:0');
  const url = await until(() => again.stdout().match(/listening on (http:\/\/\S+)\n/)?.[1], { timeout: 60_000 });
  const stop = async (signal = 'SIGTERM') => {
    again.signal(signal);
    return again.exited;
  };
  return { url, stop, start: server.start, folder: server.folder };
}

test('a timer fires once, when it is due, with what it was set with', async (t) => {
  const server = await startServer(t, { plugins: [ALARMS] });
  const client = await connect(t, server);
  const began = Date.now();
  // Late enough for the other one to come before it, on a slow machine, too.
  await set(client, 'soon', 3000);
  await set(client, 'at once', 0);
  assert.deepEqual((await nextEvent(client, 'alarms:fired')).slice(0, 2), ['at once', 1]);
  const [name, attempt] = await nextEvent(client, 'alarms:fired');
  assert.deepEqual([name, attempt], ['soon', 1]);
  assert.ok(Date.now() - began >= 3000);
  await untilFired(client, 'soon', 1);
  assert.equal((await server.api('GET', '/api/v1/timers')).body.timers.length, 0, 'and is gone');
});

test('what sets a timer and is rejected sets none; what is cancelled or replaced does not fire', async (t) => {
  const server = await startServer(t, { plugins: [ALARMS] });
  const client = await connect(t, server);
  assert.equal((await set(client, 'rejected', 0, {}, true)).error.code, 'no');
  // Late enough to be cancelled before, on a slow machine, too.
  await set(client, 'cancelled', 3000);
  await ask(client, 'alarms:cancel', 'cancelled');
  await set(client, 'replaced', 1);
  await set(client, 'replaced', 500);
  await set(client, 'last', 3500);
  await untilFired(client, 'last', 1);
  const names = received(client, 'alarms:fired').map(([name]) => name);
  assert.ok(!names.includes('rejected') && !names.includes('cancelled'), `${names}`);
  assert.ok(names.filter((name) => name === 'replaced').length <= 2, `${names}`);
});

test('one that comes again and again does so by the time that was meant', async (t) => {
  const server = await startServer(t, { plugins: [ALARMS] });
  const client = await connect(t, server);
  await set(client, 'tick', 100, { every: 100 });
  await untilFired(client, 'tick', 10);
  await ask(client, 'alarms:cancel', 'tick');
  const times = await fired(client, 'tick');
  await set(client, 'later', 500);
  await untilFired(client, 'later', 1);
  assert.equal(await fired(client, 'tick'), times, 'no more after it was cancelled');
});

test('one that comes every second is due by the second, and is no later in the end than in the beginning', async (t) => {
  const config = { every: { tick: 1_000 } };
  const server = await startServer(t, { plugins: [{ ...ALARMS, config }] });
  const client = await connect(t, server);
  const ticks = FULL ? 600 : 5;
  const fired = () => received(client, 'alarms:fired');
  await until(() => fired().length >= ticks, { timeout: 3_000 * ticks + 30_000 });
  const dues = fired().map(([, , , due]) => due);
  const [first] = dues;
  assert.ok(dues.every((due) => (due - first) % 1_000 === 0), `${dues}`);
  assert.ok(dues.every((due, n) => n === 0 || due > dues[n - 1]), `no time comes twice: ${dues}`);
  if (!FULL) return;
  // A machine that is busy makes single ones late; a clock that drifts would all of the last minute.
  const late = fired().map(([, , late]) => late);
  const least = (part) => Math.min(...part);
  t.diagnostic(`late by ${least(late.slice(0, 60))} ms in the first minute, ${least(late.slice(-60))} ms in the last`);
  assert.ok(least(late.slice(-60)) < 50, `${late.slice(-60)}`);
  assert.deepEqual(dues, range(dues.length).map((n) => first + n * 1_000), 'none was lost');
});

test('a timer that fails is tried again, nothing of what it did has happened, and is given up at last', async (t) => {
  const server = await startServer(t, { plugins: [ALARMS] });
  const client = await connect(t, server);
  await set(client, 'rejects', 0, { fails: true });
  await set(client, 'traps', 0, { traps: true });
  await server.waitForLog(/timer="rejects".*attempt=2/, { timeout: 30_000 });
  await server.waitForLog(/attempt=2|a call failed[^]*a call failed/, { timeout: 30_000 });
  assert.equal(await fired(client, 'rejects'), 0);
  const { timers } = (await server.api('GET', '/api/v1/timers')).body;
  assert.deepEqual(timers.map(({ plugin, name, given_up }) => [plugin, name, given_up]), [
    ['alarms', 'rejects', false],
    ['alarms', 'traps', false],
  ]);
  assert.ok(timers.every(({ failures }) => failures >= 1), JSON.stringify(timers));
  await ask(client, 'alarms:heal', true);
  await untilFired(client, 'rejects', 1);
  await untilFired(client, 'traps', 1);
  assert.equal((await server.api('GET', '/api/v1/timers')).body.timers.length, 0);
});

test('a timer whose bucket is full has failed, is tried again, and fires when there is room', async (t) => {
  const config = '[store]\nbucket_keys = 1\n';
  const server = await startServer(t, { config, plugins: [ALARMS] });
  const client = await connect(t, server);
  await ask(client, 'alarms:heal', true);
  await set(client, 'full', 0);
  const timer = async () => (await server.api('GET', '/api/v1/timers')).body.timers[0];
  await until(async () => (await timer()).failures === 2, { timeout: 30_000 });
  assert.match((await plugin(server, 'alarms')).last_failure.reason, /bucket_keys = 1 of the bucket plugin\/alarms is used up/);
  await server.stop();
  writeFileSync(server.configPath, readFileSync(server.configPath, 'utf8').replace('= 1', '= 2'));
  const again = await restart(t, server);
  await untilFired(await connect(t, again), 'full', 1);
});

/** A timer for a time that fails, and fills its bucket to the last byte. */
const FILLS = (name, fails) => `import { event, plugin, reject } from "mixlab";
export default plugin({ fill: event({ access: "anyone" }, (cx) => {
    const at = Date.now();
    const row = (payload) => JSON.stringify({ due: at, at, payload: JSON.stringify(payload), failures: 0, given_up: false });
    const room = 1024 - ${JSON.stringify(name)}.length - row("").length;
    cx.timers.set(${JSON.stringify(name)}, "x".repeat(room), { at });
}) }).onTimer(() => { ${fails} });
`;

test('a timer for a time that fills its bucket is tried again later and later when it fails, too', async (t) => {
  const plugins = Object.entries({ rejects: 'reject("no", "not now");', throws: 'throw new Error("no");' }).map(([name, fails]) => ({
    script: `${name}.js`,
    text: FILLS(name, fails).replace('fill:', `fill_${name}:`),
    grants: ['timers'],
  }));
  const server = await startServer(t, { config: '[store]\nbucket_bytes = "1KiB"\n', plugins });
  const client = await connect(t, server);
  for (const name of ['rejects', 'throws']) assert.equal(await ask(client, `fill_${name}`), undefined);
  const timers = async () => (await server.api('GET', '/api/v1/timers')).body.timers;
  const pauses = async () => (await timers()).map(({ at, due, failures }) => failures >= 2 && at > due);
  await until(async () => (await pauses()).filter(Boolean).length === 2, { timeout: 30_000 });
});

test('timers with the same key fire one after the other', async (t) => {
  const server = await startServer(t, { plugins: [ALARMS] });
  const client = await connect(t, server);
  await Promise.all(range(50).map((n) => set(client, `t${n}`, 0, { serial: 'turn' })));
  await until(() => received(client, 'alarms:fired').length === 50, { timeout: 30_000 });
  const { body } = await server.api('GET', '/metrics');
  assert.doesNotMatch(body, /mixlab_repeated_calls_total\S* [1-9]/, 'none ran again for another');
});

test('a timer that sets itself goes on', async (t) => {
  const server = await startServer(t, { plugins: [ALARMS] });
  const client = await connect(t, server);
  await set(client, 'again', 0, { again: [5, 20] });
  await untilFired(client, 'again', 21);
});

test('timers over reloads fire each once', async (t) => {
  const server = await startServer(t, { plugins: [ALARMS] });
  const client = await connect(t, server);
  const path = join(server.folder, 'alarms.wasm');
  const content = readFileSync(join(GUESTS, 'alarms.wasm'));
  const names = range(40).map((n) => `t${n}`);
  const [reloads, apart] = FULL ? [100, 800] : [8, 50];
  await Promise.all(names.map((name, n) => set(client, name, n * apart)));
  for (const number of range(reloads)) {
    const mark = Buffer.from(`v${number}`);
    replaceFile(path, Buffer.concat([content, Buffer.from([0, mark.length + 1, mark.length]), mark]));
    await reload(server);
  }
  assert.ok((await plugin(server, 'alarms')).generation > 5);
  for (const name of names) await untilFired(client, name, 1);
  await set(client, 'last', 0);
  await untilFired(client, 'last', 1);
  assert.deepEqual(await Promise.all(names.map((name) => fired(client, name))), names.map(() => 1));
});

for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`timers outlive a server that ends by ${signal}, and each fires once`, async (t) => {
    const config = '[store]\ndurability = "commit"';
    const server = await startServer(t, { config, plugins: [ALARMS] });
    let client = await connect(t, server);
    const [restarts, apart] = FULL ? [20, 250] : [3, 60];
    const names = range(30 + restarts * 5).map((n) => `t${n}`);
    await Promise.all(names.map((name, n) => set(client, name, n * apart)));
    let again = server;
    for (const round of range(restarts)) {
      await until(async () => (await fired(client, names[round * 5])) === 1);
      client.disconnect();
      if (again === server && signal === 'SIGKILL') await server.kill();
      else await (again === server ? server.stop() : again.stop(signal));
      again = await restart(t, server);
      client = await connect(t, again);
    }
    for (const name of names) await untilFired(client, name, 1);
    assert.equal((await again.stop()) ?? 0, 0);
  });
}

for (const [what, jump] of [['goes a day back', -86_400], ['jumps a day forward', 86_400]]) {
  test(`over a clock that ${what}, no timer is lost and none fires twice`, async (t) => {
    const machine = badMachine(t);
    if (!machine) return;
    // Written beforehand: it is read at every look at the clock.
    machine.setClock(0);
    const config = { every: { tick: 200 } };
    const server = await startServer(t, { plugins: [{ ...ALARMS, config }], env: machine.env });
    const client = await connect(t, server);
    await set(client, 'again', 200, { every: 200 });
    const names = range(20).map((n) => `t${n}`);
    await Promise.all(names.map((name, n) => set(client, name, 1_000 + n * 100)));
    await until(async () => (await fired(client, 'again')) >= 3 && (await fired(client, 'tick')) >= 3);
    machine.setClock(jump);
    for (const name of names) await untilFired(client, name, 1);
    for (const name of ['again', 'tick']) {
      const times = await fired(client, name);
      await until(async () => (await fired(client, name)) >= times + 5, { message: `${name} goes on`, timeout: 30_000 });
    }
    machine.setClock(0);
    await set(client, 'last', 100);
    await untilFired(client, 'last', 1);
    for (const name of ['again', 'tick']) {
      const times = await fired(client, name);
      await until(async () => (await fired(client, name)) >= times + 5, { message: `${name} goes on`, timeout: 30_000 });
    }
    assert.deepEqual(await Promise.all(names.map((name) => fired(client, name))), names.map(() => 1));
  });
}

test('a timer that is under way when the clock goes back comes again as soon as was meant', async (t) => {
  const machine = badMachine(t);
  if (!machine) return;
  machine.setClock(0);
  const upstream = await startUpstream(t);
  const text = `import { event, plugin } from "mixlab";
export default plugin({
    begin: event({ access: "anyone" }, (cx, url) => cx.timers.set("again", url, { after: "1ms", every: "200ms" })),
}).onTimer((cx, { payload }) => fetch(payload));
`;
  const plugin = { script: 'asks.js', text, grants: ['timers', `http:${upstream.url}`], http: { [upstream.url]: { private: true } }, budget: { wall: '20s' } };
  const server = await startServer(t, { plugins: [plugin], env: machine.env });
  await ask(await connect(t, server), 'begin', `${upstream.url}/held`);
  await until(() => upstream.requests.length === 1, { message: 'it is under way' });
  machine.setClock(-86_400);
  upstream.requests[0].response.end();
  await until(() => upstream.requests.length === 2, { message: 'it comes again' });
});

test('timers are listed one in a line, however they are named and however late they are', async (t) => {
  const server = await startServer(t, { plugins: [ALARMS] });
  const client = await connect(t, server);
  for (const [name, after, every] of [
    ['soon', 3_600_000],
    ['behind all years', 260_000_000_000_000],
    ['the last', 18_000_000_000_000_000_000, 18_000_000_000_000_000_000],
    ['two\nlines\u001b[2J', 3_600_000],
  ]) {
    assert.equal(await set(client, name, after, { every }), undefined);
  }
  // One that has been due comes again when it may.
  await set(client, 'rare', 0, { every: 18_000_000_000_000_000_000 });
  await untilFired(client, 'rare', 1);
  const { code, stdout, stderr } = await server.mixlab('timers', 'list');
  assert.equal(code, 0, stderr);
  const lines = stdout.trimEnd().split('\n');
  const time = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/.source;
  assert.deepEqual(lines.map((line) => line.replace(new RegExp(time), 'TIME').replace(/ {2,}/g, '  ')), [
    'alarms  behind all years  never',
    'alarms  rare  never  every 18000000000000000000 ms',
    'alarms  soon  TIME',
    'alarms  the last  never  every 18000000000000000000 ms',
    'alarms  two\\nlines\\u001b[2J  TIME',
  ]);
});

test('timers that set themselves at once, for ever, leave others their turn', async (t) => {
  const server = await startServer(t, { plugins: [ALARMS, 'echo'] });
  const client = await connect(t, server);
  const seen = new Set();
  client.on('alarms:fired', (name) => seen.add(name));
  // More than are called at once.
  const names = range(40).map((n) => `endless${n}`);
  // Late enough for all of them to be set before the first of them begins.
  await Promise.all(names.map((name) => set(client, name, 2000, { again: [0, 4_000_000_000] })));
  for (const n of range(5)) {
    assert.equal(await ask(client, 'echo', n), n);
    await set(client, `other${n}`, 0);
    await until(() => seen.has(`other${n}`), { message: `other${n} fired` });
  }
  await until(() => names.every((name) => seen.has(name)), { message: 'each of them fired' });
});

test('declared timers come and go with what the plugin declares', async (t) => {
  const config = { every: { tick: 100 }, cron: { noon: '0 12 * * * Europe/Berlin' } };
  const server = await startServer(t, { plugins: [{ ...ALARMS, config }] });
  const client = await connect(t, server);
  await until(async () => (await fired(client, 'tick')) >= 5);
  const { timers } = (await server.api('GET', '/api/v1/timers')).body;
  assert.deepEqual(timers.map(({ name, rule }) => [name, rule]).sort(), [
    ['noon', '0 12 * * * Europe/Berlin'],
    ['tick', 'every 100 ms'],
  ]);
  const { stdout } = await server.mixlab('timers', 'list');
  assert.match(stdout, /alarms +noon/);
  const hour = new Date(timers.find(({ name }) => name === 'noon').due);
  assert.ok([10, 11].includes(hour.getUTCHours()) && hour.getUTCMinutes() === 0, `${hour.toISOString()}`);
  editConfig(server, (text) => text.replace('tick', 'tock').replace('noon', 'midday'));
  await reload(server);
  const names = async () => (await server.api('GET', '/api/v1/timers')).body.timers.map(({ name }) => name).sort();
  await until(async () => (await names()).join() === 'midday,tock', { message: 'no others are there' });
  await until(async () => (await fired(client, 'tock')) >= 2);
  const ticks = await fired(client, 'tick');
  const tocks = await fired(client, 'tock');
  await until(async () => (await fired(client, 'tock')) >= tocks + 3);
  assert.equal(await fired(client, 'tick'), ticks);
});

for (const [config, why] of [
  [{ cron: { bad: 'every day' } }, /its schedule "bad" is not valid: /],
  [{ cron: { bad: '0 9 * * * Mars\/Base' } }, /its schedule "bad" is not valid: /],
  [{ cron: { bad: '0 0 30 2 *' } }, /its schedule "bad" is not valid: it is never due/],
  [{ every: { bad: 0 } }, /its schedule "bad" is not valid: it is due every 0 ms/],
]) {
  test(`a schedule that is none is refused: ${JSON.stringify(config)}`, async (t) => {
    const folder = makeFolder(t, { plugins: [{ ...ALARMS, config }] });
    const { code, stdout, stderr } = await folder.mixlab('check');
    assert.notEqual(code, 0);
    assert.match(stdout + stderr, why);
  });
}

test('without the grant it is not loaded', async (t) => {
  const folder = makeFolder(t, { plugins: [{ ...ALARMS, grants: ['store', 'emit', 'everyone'] }] });
  const { code, stdout, stderr } = await folder.mixlab('check');
  assert.notEqual(code, 0);
  assert.match(stdout + stderr, /mixlab:plugin\/timers\.\w+, which needs a grant: add "timers"/);
});

test('as many timers as one call may set fire once each, and one more sets none', async (t) => {
  const many = FULL ? 5000 : 1000;
  const server = await startServer(t, {
    plugins: [
      {
        wasm: 'misbehaves',
        grants: ['store', 'store:shared-*', 'timers', 'emit', 'everyone', 'webhook:unverified', 'http'],
        // It counts and emits beside.
        budget: { effects: many + 2, host_calls: 1_000_000, cpu: '10s', wall: '20s' },
      },
    ],
  });
  const client = await connect(t, server);
  const done = async () => (await ask(client, 'misbehaves:seen', 'done')) ?? 0;
  const refused = await ask(client, 'misbehaves', { timers: [many + 1, 0] });
  // The guest is told of the one too many, and goes on: it fails if it asks for anything more.
  assert.equal(refused, 'done');
  await until(async () => (await done()) === many + 1, { message: 'each has counted once', timeout: 120_000 });
  assert.deepEqual((await server.api('GET', '/api/v1/timers')).body.timers, []);
  const { error } = await ask(client, 'misbehaves', { timers: [many + 2, 0] });
  assert.equal(error.code, 'plugin_error');
  assert.match((await plugin(server, 'misbehaves')).last_failure.reason, /the budget effects = \d+ is used up/);
  assert.deepEqual((await server.api('GET', '/api/v1/timers')).body.timers, []);
  assert.equal(await done(), many + 1);
});

test('what was due while its plugin was away fires once when that is back', async (t) => {
  const server = await startServer(t, { plugins: [ALARMS, 'echo'] });
  const client = await connect(t, server);
  await set(client, 'due meanwhile', 1000);
  await set(client, 'again and again', 1000, { every: 200 });
  const name = 'name = "alarms"\n';
  editConfig(server, (toml) => toml.replace(name, `${name}enabled = false\n`));
  await reload(server);
  const due = Date.now() + 2000;
  await until(() => Date.now() > due);
  assert.equal((await ask(client, 'alarms:fired', 'due meanwhile')).error.code, 'unknown_event');
  editConfig(server, (toml) => toml.replace(`${name}enabled = false\n`, name));
  await reload(server);
  await untilFired(client, 'due meanwhile', 1);
  await until(async () => (await fired(client, 'again and again')) >= 2, { message: 'it goes on' });
  assert.equal(await fired(client, 'due meanwhile'), 1);
});
