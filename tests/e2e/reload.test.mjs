// Files and mixlab.toml change while clients are connected and busy: new answers come, no
// connection and no event is lost, and what is wrong changes nothing.
import assert from 'node:assert/strict';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { ask, connect, disconnected, nextEvent, open, received, TRANSPORTS } from '../support/client.mjs';
import {
  assertFailed,
  editConfig,
  notReady,
  plugin,
  ready,
  reload,
  replaceFile,
  stamped,
  status,
} from '../support/plugins.mjs';
import { pluginTable, startServer, wasm } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { PATIENCE, until } from '../support/wait.mjs';
import { annotated } from '../support/wasm.mjs';

const CUSTOM_EVENT = { wasm: 'custom-event', grants: ['emit:custom_response'] };
const CONFIG = '[budget]\ncpu = "500ms"\n';

/** How long a version may take that nobody has compiled before. */
const COMPILING = 6 * PATIENCE;

/** What ACK packets are to the client. */
const ACKS = [3, 6];

/**
 * A client that emits `stamped` with a number all the time. Each event has to be answered exactly
 * once, in order, over one and the same connection.
 */
async function startTraffic(t, server, { pace = 2, ...options } = {}) {
  const socket = await connect(t, server, options);
  const { id } = socket;
  const answers = [];
  const acks = [];
  let sent = 0;
  let ended = false;
  let end;
  socket.once('disconnect', (reason) => (end = reason));
  socket.io.on('packet', (packet) => ACKS.includes(packet.type) && acks.push(packet.id));
  const run = async () => {
    while (!ended) {
      const number = sent;
      sent += 1;
      socket.emit('stamped', number, (answer) => answers.push({ number, answer }));
      await pause(pace);
    }
  };
  const running = run();
  t.after(() => (ended = true));
  return {
    socket,
    /** Waits for an answer of this version. */
    sees: (version) =>
      until(() => answers.at(-1)?.answer.version === version, {
        timeout: COMPILING,
        message: () => `version ${version}; the last answer was ${JSON.stringify(answers.at(-1))}\n${server.log()}`,
      }),
    /** Waits for one more answer, whatever it is. */
    async goesOn() {
      const before = sent;
      await until(() => answers.length > before, { message: 'the answer to an event sent after that' });
    },
    /** Ends it and checks all of it; the versions that answered, each change once. */
    async end() {
      ended = true;
      await running;
      await until(() => answers.length === sent, { message: () => `${sent} answers and not ${answers.length}` });
      assert.equal(end, undefined, 'it was never disconnected');
      assert.equal(socket.id, id);
      assert.deepEqual(answers.map(({ number }) => number), Array.from({ length: sent }, (_, index) => index));
      assert.equal(new Set(acks).size, acks.length, 'no ack came twice');
      const failed = answers.filter(({ number, answer }) => answer.data !== number);
      assert.deepEqual(failed, []);
      const versions = answers.map(({ answer }) => answer.version);
      return versions.filter((version, index) => version !== versions[index - 1]);
    },
  };
}

// A plugin in a folder of its own, which is not there yet.
const home = { wasm: 'stamped', path: 'live/stamped.wasm' };
const server = await startServer({ after }, { config: CONFIG, plugins: [CUSTOM_EVENT, home] });
const file = join(server.folder, home.path);
/** The version that the file holds. */
let current = 0;

/** Waits until a plugin's file is refused for this reason; resolves to its state. */
async function refusedWith(reason, on = server, name = 'stamped') {
  let state;
  await until(async () => reason.test((state = await plugin(on, name)).refusal), {
    message: () => `${reason} of ${name}: ${JSON.stringify(state)}`,
  });
  return state;
}

/** Writes a version into the file as it is, a tenth at a time. */
async function writeInChunks(version, gap) {
  const content = stamped(version);
  const size = Math.ceil(content.length / 10);
  const descriptor = openSync(file, 'w');
  for (let at = 0; at < content.length; at += size) {
    writeSync(descriptor, content.subarray(at, at + size));
    // Time is the subject: as slow as a copy over a bad line.
    await pause(gap);
  }
  closeSync(descriptor);
}

/** Each way in which a file becomes another version. */
const WAYS = {
  'renamed over it': (version) => replaceFile(file, stamped(version)),
  'written in place': (version) => writeFileSync(file, stamped(version)),
  'written in place in ten chunks': (version) => writeInChunks(version, 20),
  'written in place in ten chunks, each slower than the debounce time': (version) => writeInChunks(version, 150),
  'a link swapped for it': (version) => {
    const target = join(server.folder, `version-${version}.wasm`);
    writeFileSync(target, stamped(version));
    symlinkSync(target, `${file}.link`);
    renameSync(`${file}.link`, file);
  },
  'the target of the link written': (version) =>
    writeFileSync(join(server.folder, `version-${version - 1}.wasm`), stamped(version)),
  'deleted and put back': async (version) => {
    rmSync(file);
    const { state } = await refusedWith(/live\/stamped\.wasm: no such file$/);
    assert.equal(state, 'serving-old');
    assert.deepEqual(await notReady(server), ['stamped']);
    writeFileSync(file, stamped(version));
  },
  'its folder removed and made again': async (version) => {
    rmSync(dirname(file), { recursive: true });
    await refusedWith(/live\/stamped\.wasm: no such file$/);
    mkdirSync(dirname(file));
    writeFileSync(file, stamped(version));
  },
  'its folder swapped for another': (version) => {
    const other = join(server.folder, `folder-${version}`);
    mkdirSync(other);
    writeFileSync(join(other, basename(file)), stamped(version));
    renameSync(dirname(file), `${other}-former`);
    renameSync(other, dirname(file));
  },
  'older than the one before': (version) => {
    writeFileSync(`${file}.new`, stamped(version));
    utimesSync(`${file}.new`, 1, 1);
    renameSync(`${file}.new`, file);
  },
};

test('a plugin whose file is not there yet comes in when it is', async (t) => {
  const socket = await connect(t, server);
  assert.deepEqual(await notReady(server), ['stamped']);
  assert.equal((await ask(socket, 'stamped', 0)).error.code, 'unknown_event');
  mkdirSync(dirname(file));
  writeFileSync(file, stamped((current += 1)));
  await ready(server);
  assert.deepEqual(await ask(socket, 'stamped', 0), { version: current, data: 0 });
  assert.equal(await ask(socket, 'custom_event', 1), 1);
});

for (const [way, replace] of Object.entries(WAYS)) {
  test(`a new version is served without losing anything: ${way}`, async (t) => {
    const clients = await Promise.all(
      TRANSPORTS.map((transport) => startTraffic(t, server, { transports: [transport], pace: 5 })),
    );
    for (const client of clients) await client.sees(current);
    const { generation } = await plugin(server, 'stamped');
    await replace(current + 1);
    current += 1;
    for (const client of clients) await client.sees(current);
    for (const client of clients) assert.deepEqual(await client.end(), [current - 1, current]);
    await until(async () => (await plugin(server, 'stamped')).generation !== generation);
    assert.equal((await plugin(server, 'stamped')).generation, generation + 1, 'loaded once');
    assert.deepEqual(await notReady(server), []);
  });
}

test('of many versions in quick succession the last one is served', async (t) => {
  const traffic = await startTraffic(t, server);
  await traffic.sees(current);
  for (let count = 0; count < 20; count += 1) {
    replaceFile(file, stamped((current += 1)));
    await pause(5);
  }
  await traffic.sees(current);
  const versions = await traffic.end();
  assert.deepEqual(versions, [...versions].sort((one, other) => one - other), 'never an older one again');
});

test('of twenty files that change at once every one is loaded, and loaded once', async (t) => {
  const names = Array.from({ length: 20 }, (_, index) => `named-${index}`);
  const own = await startServer(t, {
    config: CONFIG,
    plugins: [
      'stamped',
      ...names.map((name) => ({
        wasm: 'named',
        name,
        path: `${name}.wasm`,
        grants: ['emit'],
        config: { event: name, limit: '1000/1s' },
      })),
    ],
  });
  const component = readFileSync(wasm('named'));
  const write = (version) => names.forEach((name, index) => replaceFile(join(own.folder, `${name}.wasm`), annotated(component, `${version} of ${index}`)));
  const allAre = (expected) =>
    until(async () => (await status(own)).plugins.slice(1).every(({ state, generation }) => state === 'serving' && generation === expected), {
      timeout: COMPILING,
      message: () => `generation ${expected} of all:\n${own.log()}`,
    });
  write('first');
  await allAre(1);
  const traffic = await startTraffic(t, own);
  await traffic.sees(1);
  write('second');
  await allAre(2);
  for (const name of names) assert.equal(await ask(traffic.socket, name, name), name);
  // Whatever would be loaded twice has been by now.
  await reload(own);
  await allAre(2);
  assert.deepEqual(await traffic.end(), [1]);
});

test('a file and the keys of its plugin that change together are one change', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped', { wasm: 'versioned', config: { version: 1 } }] });
  const traffic = await startTraffic(t, own);
  await traffic.sees(1);
  replaceFile(join(own.folder, 'stamped.wasm'), stamped(2));
  editConfig(own, (toml) =>
    toml.replace('path = "stamped.wasm"', 'path = "stamped.wasm"\nbudget = { wall = "600ms" }').replace('"version" = 1', '"version" = 2'),
  );
  await traffic.sees(2);
  await until(async () => (await ask(traffic.socket, 'versioned')).version === 2);
  const { error } = await ask(traffic.socket, 'stamped:slow', 60_000);
  assert.equal(error.code, 'plugin_timeout', 'with its new budget');
  await reload(own);
  const generations = (await status(own)).plugins.map(({ generation }) => generation);
  assert.deepEqual(generations, [2, 2], 'each was loaded once');
  assert.deepEqual(await traffic.end(), [1, 2]);
});

test('a file that is touched or written with the same content is not loaded again', async (t) => {
  const traffic = await startTraffic(t, server);
  await traffic.sees(current);
  const { generation } = await plugin(server, 'stamped');
  for (const change of [
    () => utimesSync(file, new Date(), new Date()),
    () => utimesSync(file, 1, 1),
    () => writeFileSync(file, stamped(current)),
    () => replaceFile(file, stamped(current)),
    () => rmSync(file),
    () => writeFileSync(file, stamped(current)),
  ]) {
    change();
    await reload(server);
    assert.equal((await plugin(server, 'stamped')).generation, generation);
  }
  assert.deepEqual(await notReady(server), []);
  replaceFile(file, stamped((current += 1)));
  await traffic.sees(current);
  await until(async () => (await plugin(server, 'stamped')).generation !== generation);
  assert.equal((await plugin(server, 'stamped')).generation, generation + 1, 'the watcher loaded none of it either');
  assert.deepEqual(await traffic.end(), [current - 1, current]);
});

test('a version with the size and the time of the one before is a new version all the same', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped'] });
  const path = join(own.folder, 'stamped.wasm');
  // Builds that are to be reproducible give all their files one time.
  utimesSync(path, 1, 1);
  await reload(own);
  writeFileSync(path, stamped(2));
  utimesSync(path, 1, 1);
  await reload(own);
  const socket = await connect(t, own);
  assert.deepEqual(await ask(socket, 'stamped', 0), { version: 2, data: 0 });
});

test('garbage leaves the old version serving and says why, until something good comes', async (t) => {
  const traffic = await startTraffic(t, server);
  await traffic.sees(current);
  const good = readFileSync(file);
  const { generation } = await plugin(server, 'stamped');
  for (const [garbage, reason] of [
    ['garbage', /it is not WebAssembly/],
    [good.subarray(0, good.length - 100), /not a valid component/],
    // On a busy machine its time is over first.
    [readFileSync(wasm('describe_loops')), /describe failed: the budget (cpu = 500ms|wall = 5s) is used up/],
    [readFileSync(wasm('ungranted')), /broadcast-payment-update.*"payments"/],
  ]) {
    writeFileSync(file, garbage);
    const { state, generation: still, events, last_failure: last } = await refusedWith(reason);
    assert.deepEqual([state, still], ['serving-old', generation]);
    assert.deepEqual(events, ['stamped', 'stamped:ping', 'stamped:slow', 'stamped:limited']);
    assert.equal(last.during, 'load');
    assert.match(last.reason, reason);
    assert.deepEqual(await notReady(server), ['stamped']);
    await server.waitForLog(new RegExp(`the old version goes on serving: .*${reason.source}`));
    const { stdout } = await server.mixlab('plugin', 'list');
    assert.match(stdout, /^stamped {2}serving-old {2}version 1\.0\.0/m);
    assert.match(stdout, new RegExp(`^ {4}refused {7}.*${reason.source}`, 'm'));
    await traffic.goesOn();
  }
  writeFileSync(file, good);
  await ready(server);
  const { state, refusal } = await plugin(server, 'stamped');
  assert.deepEqual([state, refusal], ['serving', null]);
  assert.deepEqual(await traffic.end(), [current]);
});

test('garbage is still garbage when it is touched, or deleted and put back', async (t) => {
  const good = readFileSync(file);
  t.after(() => reload(server));
  t.after(() => writeFileSync(file, good));
  writeFileSync(file, 'garbage');
  await reload(server);
  const stays = async (after) => {
    await reload(server);
    const { state, refusal } = await plugin(server, 'stamped');
    assert.deepEqual([state, refusal?.slice(0, 21)], ['serving-old', 'it is not WebAssembly'], after);
    assert.deepEqual(await notReady(server), ['stamped'], after);
  };
  utimesSync(file, new Date(), new Date());
  await stays('touched');
  rmSync(file);
  await reload(server);
  writeFileSync(file, 'garbage');
  await stays('put back');
});

test('a plugin that never served says what is wrong with its file now, not what once was', async (t) => {
  const own = await startServer(t, { plugins: [{ wasm: 'traps', path: 'garbage.wasm' }] });
  const path = join(own.folder, 'garbage.wasm');
  for (const [change, reason] of [
    [() => {}, /no such file/],
    [() => writeFileSync(path, 'garbage'), /it is not WebAssembly/],
    [() => rmSync(path), /no such file/],
    [() => writeFileSync(path, 'garbage'), /it is not WebAssembly/],
  ]) {
    change();
    await reload(own);
    assert.match((await plugin(own, 'traps')).refusal, reason);
  }
});

test('an event that the new version no longer has is unknown, and known again with the next', async (t) => {
  const socket = await connect(t, server);
  writeFileSync(file, readFileSync(wasm('echo')));
  await until(async () => (await plugin(server, 'stamped')).events.includes('echo'));
  assert.equal((await ask(socket, 'stamped', 0)).error.code, 'unknown_event');
  socket.emit('stamped', 0);
  assert.equal((await nextEvent(socket, 'mixlab:error'))[0].error.code, 'unknown_event');
  assert.equal(await ask(socket, 'echo', 'x'), 'x');
  writeFileSync(file, stamped((current += 1)));
  await until(async () => (await plugin(server, 'stamped')).events.includes('stamped'));
  assert.deepEqual(await ask(socket, 'stamped', 0), { version: current, data: 0 });
  assert.equal((await ask(socket, 'echo', 'x')).error.code, 'unknown_event');
});

test('a call under way ends on the version where it began, all later ones on the new', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped'] });
  const path = join(own.folder, 'stamped.wasm');
  const [busy, other] = [await connect(t, own), await startTraffic(t, own)];
  replaceFile(path, stamped(2));
  await other.sees(2);
  const order = [];
  const record = (answer) => order.push(answer.version);
  const slow = ask(busy, 'stamped:slow', 2500).then(record);
  const behind = ask(busy, 'stamped', 1).then(record);
  // One that was compiled before, so that it is served long before the slow call ends.
  replaceFile(path, stamped(1));
  await other.sees(1);
  assert.deepEqual(order, [], 'the slow call is still under way');
  await Promise.all([slow, behind]);
  assert.deepEqual(order, [2, 1]);
  assert.deepEqual(await other.end(), [1, 2, 1]);
});

test('a call that outlives the drain time of its version is told so', async (t) => {
  const own = await startServer(t, {
    config: '[budget]\ncpu = "500ms"\nwall = "1m"\n[reload]\ndrain = "200ms"',
    plugins: ['stamped'],
  });
  const [busy, other] = [await connect(t, own), await connect(t, own)];
  const slow = ask(busy, 'stamped:slow', 50_000);
  // It has begun once a later event of another client was answered.
  await ask(other, 'stamped', 0);
  replaceFile(join(own.folder, 'stamped.wasm'), stamped(2));
  assert.match(await assertFailed(own, await slow, 'plugin_unavailable'), /replaced, and the call did not end in time/);
  assert.deepEqual(await ask(busy, 'stamped', 1), { version: 2, data: 1 });
});

test("a reload refills nobody's rate limit", async (t) => {
  const socket = await connect(t, server);
  const limited = () => ask(socket, 'stamped:limited', 0);
  assert.deepEqual(await limited(), { version: current, data: 0 });
  assert.deepEqual(await limited(), { version: current, data: 0 });
  replaceFile(file, stamped((current += 1)));
  await until(async () => (await ask(socket, 'stamped', 0)).version === current);
  assert.deepEqual(await limited(), { version: current, data: 0 }, 'the third of three');
  assert.equal((await limited()).error.code, 'rate_limited');
  replaceFile(file, stamped((current += 1)));
  await until(async () => (await ask(socket, 'stamped', 0)).version === current);
  assert.equal((await limited()).error.code, 'rate_limited');
});

test('metrics tell events by plugin, and end with the events and plugins that are gone', async (t) => {
  const contracts = (name, ...events) => ({ wasm: 'contracts', name, config: { events: events.map((name) => ({ name })) } });
  const own = await startServer(t, { config: CONFIG, plugins: [contracts('one', 'stays', 'goes'), contracts('two', 'other-event')] });
  const metrics = async () => (await own.api('GET', '/metrics', undefined, null)).body;
  const socket = await connect(t, own);
  for (const event of ['stays', 'goes', 'other-event', 'nobodys']) await ask(socket, event);
  const before = await metrics();
  for (const [event, plugin, outcome] of [
    ['stays', 'one', 'ok'],
    ['goes', 'one', 'ok'],
    ['other-event', 'two', 'ok'],
    ['other', '', 'unknown_event'],
  ]) {
    const series = `mixlab_events_total{event="${event}",outcome="${outcome}",plugin="${plugin}"} 1\n`;
    assert.ok(before.includes(series), `${series} in ${before}`);
  }
  editConfig(own, (toml) => toml.replace(', { "name" = "goes" }', '').replace('name = "two"', 'name = "two"\nenabled = false'));
  await reload(own);
  const after = await metrics();
  assert.match(after, /mixlab_events_total\{event="stays",outcome="ok",plugin="one"\} 1\n/);
  assert.match(after, /mixlab_events_total\{event="other",outcome="unknown_event",plugin=""\} 1\n/);
  const gone = after.split('\n').filter((line) => /"goes"|"other-event"|="two"/.test(line));
  const gauges = gone.filter((line) => /^mixlab_plugin_(paused|paused_addresses|memory_bytes|state)\{/.test(line));
  assert.deepEqual(gone, gauges, 'only the state of a plugin that is switched off is shown');
});

test('rooms, users and subscriptions outlast a reload', async (t) => {
  const own = await startServer(t, {
    config: CONFIG,
    plugins: [{ wasm: 'greets', grants: ['emit', 'room:greets'] }, 'stamped'],
  });
  const stayer = await connect(t, own, { token: token({ sub: '7', role: 'admin' }) });
  await ask(stayer, 'subscribe:payments');
  editConfig(own, (toml) => toml.replace('"room:greets"', '"room:*"'));
  replaceFile(join(own.folder, 'stamped.wasm'), stamped(2));
  await reload(own);
  assert.deepEqual(await ask(stayer, 'stamped', 0), { version: 2, data: 0 });
  await own.api('POST', '/api/v1/payments/updates', 1);
  await own.api('POST', '/api/v1/roles/admin/events/news', 2);
  await own.api('POST', '/api/v1/users/7/notifications', { title: 'x' });
  for (const event of ['payment_update', 'news', 'notification']) await nextEvent(stayer, event);
  assert.equal(received(stayer, 'greets:welcome').length, 1, 'it did not connect again');
  const leaver = await connect(t, own);
  leaver.disconnect();
  await nextEvent(stayer, 'greets:left');
});

test('a plugin is switched off and on in mixlab.toml', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped', 'echo'] });
  const traffic = await startTraffic(t, own);
  await traffic.sees(1);
  const socket = await connect(t, own);
  const on = editConfig(own, (toml) => toml.replace('name = "echo"', 'name = "echo"\nenabled = false'));
  await until(async () => (await plugin(own, 'echo')).state === 'disabled');
  assert.equal((await ask(socket, 'echo', 1)).error.code, 'unknown_event');
  assert.deepEqual(await notReady(own), [], 'what is switched off is no problem');
  await own.waitForLog(/the plugin was switched off plugin="echo"/);
  replaceFile(own.configPath, on);
  await until(async () => (await plugin(own, 'echo')).state === 'serving');
  assert.equal(await ask(socket, 'echo', 1), 1);
  assert.equal((await plugin(own, 'echo')).generation, 2, 'no two loads have one number');
  // One that was not in the file before, and one that is taken out of it.
  editConfig(own, (toml) => toml.replace(/\[\[plugins\]\]\nname = "echo"[^[]*/, pluginTable({ wasm: 'traps' })));
  writeFileSync(join(own.folder, 'traps.wasm'), readFileSync(wasm('traps')));
  await until(async () => (await ask(socket, 'traps:ping')) === 'pong');
  assert.equal((await ask(socket, 'echo', 1)).error.code, 'unknown_event');
  assert.deepEqual(await traffic.end(), [1]);
});

test('a namespace comes and goes with the plugin that serves it', async (t) => {
  const own = await startServer(t, {
    config: CONFIG,
    plugins: [
      CUSTOM_EVENT,
      { wasm: 'contracts', grants: ['namespace:/studio'], config: { namespaces: ['/studio'], events: [{ name: 'x' }], answer: 1 } },
    ],
  });
  const main = await connect(t, own);
  const studio = await connect(t, own, { namespace: '/studio' });
  assert.equal(await ask(studio, 'x'), 1);
  const end = disconnected(studio);
  const on = editConfig(own, (toml) => toml.replace('name = "contracts"', 'name = "contracts"\nenabled = false'));
  assert.equal(await end, 'io server disconnect');
  await assert.rejects(connect(t, own, { namespace: '/studio' }));
  assert.equal(await ask(main, 'custom_event', 1), 1);
  replaceFile(own.configPath, on.replace('"answer" = 1', '"answer" = 2'));
  await until(async () => (await plugin(own, 'contracts')).state === 'serving');
  const again = await connect(t, own, { namespace: '/studio' });
  assert.equal(await ask(again, 'x'), 2);
  // A change of the plugin alone leaves its namespace alone.
  editConfig(own, (toml) => toml.replace('"answer" = 2', '"answer" = 3'));
  await until(async () => (await ask(again, 'x')) === 3);
  assert.ok(again.connected && main.connected);
});

test('grants, limits, budgets and config of plugins change while clients stay', async (t) => {
  const own = await startServer(t, {
    config: '[budget]\ncpu = "100ms"\nwall = "20s"\n',
    plugins: [
      'stamped',
      { wasm: 'versioned', config: { version: 1 } },
      { wasm: 'leaves', grants: ['room:a'] },
      { wasm: 'contracts', config: { events: [{ name: 'limited', limits: [{ scope: 'socket', rate: '1/1h' }] }] } },
      'slow',
    ],
  });
  const traffic = await startTraffic(t, own);
  const { socket } = traffic;
  const edit = (from, to) => editConfig(own, (toml) => toml.replace(from, to));
  await traffic.goesOn();

  assert.deepEqual(await ask(socket, 'versioned'), { version: 1 });
  edit('"version" = 1', '"version" = 2');
  await until(async () => (await ask(socket, 'versioned')).version === 2);

  assert.equal((await ask(socket, 'leaves', 'b')).error.code, 'plugin_error');
  await own.waitForLog(/does not grant "room:b"/);
  edit('"room:a"', '"room:b"');
  await until(async () => (await ask(socket, 'leaves', 'b')) === undefined);
  assert.equal((await ask(socket, 'leaves', 'a')).error.code, 'plugin_error');
  await own.waitForLog(/does not grant "room:a"/);

  await ask(socket, 'limited');
  assert.equal((await ask(socket, 'limited')).error.code, 'rate_limited');
  edit('1/1h', '1000/1s');
  await until(async () => !(await ask(socket, 'limited'))?.error);

  assert.equal((await ask(socket, 'slow', 9000)).error.code, 'plugin_timeout');
  edit('cpu = "100ms"', 'cpu = "900ms"');
  await until(async () => (await ask(socket, 'slow', 300)) === 300);

  // One with a wrong config is refused; the old one goes on with the old config.
  edit('"version" = 2', '"version" = "two"');
  const { state } = await refusedWith(/config\.version: invalid type: string "two", expected u32/, own, 'versioned');
  assert.equal(state, 'serving-old');
  assert.deepEqual(await ask(socket, 'versioned'), { version: 2 });
  assert.deepEqual(await notReady(own), ['versioned']);
  edit('"version" = "two"', '"version" = 3');
  await until(async () => (await ask(socket, 'versioned')).version === 3);
  await ready(own);
  assert.deepEqual(await traffic.end(), [1]);
});

test('what is no longer granted is no longer done', async (t) => {
  const own = await startServer(t, {
    config: CONFIG,
    plugins: [{ wasm: 'ungranted', grants: ['payments'] }],
  });
  const socket = await connect(t, own, { token: token({ sub: '1' }) });
  await ask(socket, 'subscribe:payments');
  await ask(socket, 'ungranted');
  await nextEvent(socket, 'payment_update');
  editConfig(own, (toml) => toml.replace('grants = ["payments"]', ''));
  await reload(own);
  assert.match((await plugin(own, 'ungranted')).refusal, /which needs a grant: add "payments"/);
  await ask(socket, 'ungranted');
  assert.equal(received(socket, 'payment_update').length, 1);
});

test('a plugin that another one stood in the way of comes in when the way is free', async (t) => {
  const events = (...names) => names.map((name) => ({ name }));
  const own = await startServer(t, {
    config: CONFIG,
    plugins: [
      { wasm: 'contracts', name: 'first', config: { events: events('x'), answer: 'first' } },
      { wasm: 'contracts', name: 'second', config: { events: events('x'), answer: 'second' } },
    ],
  });
  const socket = await connect(t, own);
  assert.equal(await ask(socket, 'x'), 'first');
  editConfig(own, (toml) => toml.replace('name = "first"', 'name = "first"\nenabled = false'));
  await reload(own);
  assert.equal(await ask(socket, 'x'), 'second');
  assert.deepEqual(await notReady(own), []);
});

test('the order of mixlab.toml counts from the moment it changes', async (t) => {
  const greets = { wasm: 'greets', grants: ['emit', 'room:greets'] };
  const own = await startServer(t, { config: CONFIG, plugins: ['on_connect_refuses', greets] });
  const refused = () =>
    new Promise((resolve) => open(t, own, { auth: { room: 'closed' } }).once('connect_error', resolve));
  await refused();
  assert.equal((await plugin(own, 'greets')).calls, 0, 'the first said no');
  replaceFile(own.configPath, CONFIG + pluginTable(greets) + pluginTable({ wasm: 'on_connect_refuses' }));
  await reload(own);
  assert.deepEqual((await status(own)).plugins.map(({ name }) => name), ['greets', 'on-connect-refuses']);
  await refused();
  // It is asked first now, and hears of the end of whom it let in.
  await until(async () => (await plugin(own, 'greets')).calls === 2);
});

test('a broken mixlab.toml leaves everything as it was, and everybody is told the line', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped'] });
  const traffic = await startTraffic(t, own);
  await traffic.goesOn();
  const good = readFileSync(own.configPath, 'utf8');
  const lines = good.split('\n').length;
  for (const [broken, line, reason] of [
    [`${good}\nnonsense`, lines + 1, 'invalid TOML'],
    [good.replace('cpu', 'cpus'), 2, 'budget: unknown key "cpus" (did you mean "cpu"?)'],
    [good.replace('"500ms"', '500'), 2, 'budget.cpu: invalid duration 500'],
    [good.replace('stamped.wasm"', 'stamped.wasm"\ngrants = ["rooms:a"]'), 7, 'plugins.stamped.grants[0]: unknown grant'],
  ]) {
    replaceFile(own.configPath, broken);
    const expected = `${own.configPath}:${line}: ${reason}`;
    let shown;
    await until(async () => (shown = (await status(own)).config_error)?.startsWith(expected), {
      message: () => `${expected}; it was ${shown}`,
    });
    await until(() => own.log().includes(`the old configuration stays in force: ${expected}`));
    assert.deepEqual(await notReady(own), ['mixlab.toml']);
    await traffic.goesOn();
  }
  rmSync(own.configPath);
  await until(async () => (await status(own)).config_error.startsWith(`${own.configPath}: no such file`));
  await traffic.goesOn();
  writeFileSync(own.configPath, good);
  await ready(own);
  assert.equal((await status(own)).config_error, null);
  assert.deepEqual(await traffic.end(), [1]);
});

test('a plugin is replaced even while mixlab.toml is broken', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped'] });
  const traffic = await startTraffic(t, own);
  await traffic.sees(1);
  replaceFile(own.configPath, 'nonsense');
  replaceFile(join(own.folder, 'stamped.wasm'), stamped(2));
  await traffic.sees(2);
  assert.deepEqual(await traffic.end(), [1, 2]);
});

test('mixlab plugin list shows why mixlab.toml is not in force', async (t) => {
  const own = await startServer(t, { plugins: ['stamped'] });
  replaceFile(own.configPath, `${readFileSync(own.configPath, 'utf8')}\nnonsense = 1`);
  await reload(own);
  const { code, stdout, stderr } = await own.mixlab('plugin', 'list');
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^mixlab\.toml is not in force: .*mixlab\.toml:\d+: .*unknown key "nonsense"/);
  assert.match(stdout, /^stamped {2}serving/m);
});

test('keys that need a restart are named, and the others apply', async (t) => {
  const own = await startServer(t, { config: '[payments]\nsubscribe = "authenticated"', plugins: [CUSTOM_EVENT] });
  const socket = await connect(t, own);
  assert.equal((await ask(socket, 'subscribe:payments')).error.code, 'unauthorized');
  const former = editConfig(own, (toml) => `
[payments]
subscribe = "anyone"
[auth]
anonymous = false
[log]
level = "debug"
[cors]
allowed_origins = ["https://app.example.com"]
[socket]
ping_interval = "20s"
[web]
root = "."
[runtime]
threads = 1
${toml.slice(toml.indexOf('[[plugins]]'))}`);
  const [, keys] = await own.waitForLog(/these changes need a restart keys="(.*)"/);
  await own.waitForLog(/the configuration was reloaded/);
  assert.deepEqual(keys.split(', '), [
    'log.level',
    'socket.ping_interval',
    'web.root',
    'runtime.threads',
  ]);
  assert.deepEqual(await ask(socket, 'subscribe:payments'), { success: true });
  await assert.rejects(connect(t, own), /unauthorized/);
  assert.deepEqual(await notReady(own), []);

  const before = own.log().length;
  replaceFile(own.configPath, former);
  await until(() => own.log().indexOf('the configuration was reloaded', before) > 0);
  assert.doesNotMatch(own.log().slice(before), /need a restart/, 'what runs is what the file says again');
});

test('the largest body of a request applies at once, or its key is named', async (t) => {
  const own = await startServer(t, { config: '[api]\nmax_body = "1KB"' });
  const push = async () => (await own.api('POST', '/api/v1/payments/updates', { text: 'x'.repeat(500) })).status;
  assert.equal(await push(), 200);
  editConfig(own, (toml) => toml.replace('1KB', '100B'));
  await reload(own);
  if (/need a restart.*api\.max_body/.test(own.log())) return;
  assert.equal(await push(), 413);
});

test('SIGHUP and mixlab plugin reload look at all files at once', async (t) => {
  const own = await startServer(t, { config: '[reload]\ndebounce = "1h"', plugins: ['stamped'] });
  const path = join(own.folder, 'stamped.wasm');
  const traffic = await startTraffic(t, own);
  await traffic.sees(1);
  replaceFile(path, stamped(2));
  own.signal('SIGHUP');
  await traffic.sees(2);

  replaceFile(path, stamped(3));
  const { code, stdout } = await own.mixlab('plugin', 'reload');
  assert.equal(code, 0);
  assert.match(stdout, /^stamped {2}serving {2}version 1\.0\.0 {2}generation 3 /m);
  await traffic.sees(3);

  replaceFile(path, 'garbage');
  const { stdout: json } = await own.mixlab('plugin', 'reload', '--format', 'json');
  const [{ state, refusal }] = JSON.parse(json).plugins;
  assert.equal(state, 'serving-old');
  assert.match(refusal, /it is not WebAssembly/);
  assert.deepEqual(await traffic.end(), [1, 2, 3]);
});

test('how long it takes from the last write to the first new answer', async (t) => {
  const own = await startServer(t, { plugins: ['stamped'] });
  const socket = await connect(t, own);
  const path = join(own.folder, 'stamped.wasm');
  const times = [];
  // Versions that no other test has made: nothing of them is in the cache of compiled plugins.
  const first = (Date.now() % 10_000_000) + 10_000_000;
  for (let version = first; version < first + 5; version += 1) {
    replaceFile(path, stamped(version));
    const written = performance.now();
    await until(async () => (await ask(socket, 'stamped', 0)).version === version, { timeout: COMPILING });
    times.push(performance.now() - written);
  }
  const [, , median] = times.sort((one, other) => one - other);
  t.diagnostic(`median of ${times.length}: ${median.toFixed(0)} ms, of them 100 ms of debounce`);
});
