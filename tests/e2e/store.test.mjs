// What plugins remember: a call that reads and writes is a transaction, and what was acked is there after
// whatever ends the server.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect, FOR_NOW, received } from '../support/client.mjs';
import { FULL } from '../support/full.mjs';
import { assertFailed, notReady, plugin, reload, replaceFile } from '../support/plugins.mjs';
import { badMachine } from '../support/preload.mjs';
import { startRedis } from '../support/redis.mjs';
import { GUESTS, makeFolder, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const GRANTS = ['store', 'emit', 'ask', 'everyone'];
const REMEMBERS = { wasm: 'remembers', grants: GRANTS };
const range = (count) => Array.from({ length: count }, (_, index) => index);
const durability = (what) => `[store]\ndurability = "${what}"`;

/** Where a store can be, each with a server's options for it. */
const PLACES = {
  commit: () => ({ config: durability('commit') }),
  'interval:20ms': () => ({ config: durability('interval:20ms') }),
  memory: () => ({ config: durability('memory') }),
  redis: async (t) => ({
    config: '[store]\non = "redis"',
    env: { MIXLAB_CLUSTER__URL: (await startRedis(t)).url },
  }),
};

/** A server whose store is there, with more lines of `[store]`. */
async function startAt(t, place, { more = '', plugins = [REMEMBERS] } = {}) {
  const { config, env } = await PLACES[place](t);
  return startServer(t, { config: `${config}\n${more}`, env, plugins });
}

/** One call that takes these steps; resolves to what each of them said. */
const steps = (socket, ...taken) => ask(socket, 'remembers', null, taken);
const stepsIn = (bucket, socket, ...taken) => ask(socket, 'remembers', bucket, taken);
const get = async (socket, key) => (await steps(socket, { get: key }))[0];

/** Does this until it is not refused for a passing reason: on a slow machine calls take too long. Those have done nothing. */
async function insist(action) {
  for (;;) {
    const answer = await action();
    if (!answer?.error?.temporary) return answer;
  }
}

/** Each of so many sockets does this so many times, one after the other. */
async function race(t, server, sockets, times, action) {
  const clients = await Promise.all(range(sockets).map(() => connect(t, server)));
  const answers = clients.map(async (client) => {
    const answered = [];
    for (const time of range(times)) answered.push(await insist(() => action(client, time)));
    return answered;
  });
  return (await Promise.all(answers)).flat();
}

for (const what of Object.keys(PLACES)) {
  test(`${what}: calls that read and write one key at the same time lose no write`, async (t) => {
    const server = await startAt(t, what);
    const numbers = await race(t, server, 50, 20, (client) => ask(client, 'remembers:increment', 'n'));
    assert.deepEqual(numbers.toSorted((a, b) => a - b), range(1000).map((n) => n + 1), 'each number once');
    const client = await connect(t, server);
    assert.equal(await get(client, 'n'), 1000);
  });

  test(`${what}: what was added is the sum`, async (t) => {
    const server = await startAt(t, what);
    await race(t, server, 50, 20, (client) => ask(client, 'remembers:add', 'n'));
    const client = await connect(t, server);
    assert.equal(await get(client, 'n'), 1000);
    const { body } = await server.api('GET', '/metrics');
    assert.doesNotMatch(body, /mixlab_repeated_calls_total\S* [1-9]/, 'no call ran again for it');
  });

  test(`${what}: calls with the same key run one after the other, and never again`, async (t) => {
    const server = await startAt(t, what);
    const keys = ['a', 'b', 'c'];
    await race(t, server, 30, 20, (client, time) => ask(client, 'remembers:serial', keys[time % 3]));
    const client = await connect(t, server);
    const held = await steps(client, ...keys.map((key) => ({ get: key })));
    assert.equal(held.reduce((a, b) => a + b), 600);
    const { body } = await server.api('GET', '/metrics');
    assert.doesNotMatch(body, /mixlab_repeated_calls_total\S* [1-9]/, 'no call ran again');
  });

  test(`${what}: nobody takes what another one has taken`, async (t) => {
    const server = await startAt(t, what);
    const client = await connect(t, server);
    const waiting = FULL ? 10_000 : 200;
    for (const from of range(waiting / 200)) {
      const numbers = range(200).map((n) => from * 200 + n);
      await steps(client, ...numbers.map((n) => ({ set: [`q:${String(n).padStart(6, '0')}`, n] })));
    }
    const assign = (client) => ask(client, 'remembers:assign', 'q', 'somebody');
    const taken = await race(t, server, 40, waiting / 40 + 1, assign);
    const customers = taken.filter((customer) => customer !== null);
    assert.equal(new Set(customers).size, customers.length, 'nobody twice');
    assert.equal(customers.length, waiting);
  });

  test(`${what}: events leave in the order of the commits`, async (t) => {
    const server = await startAt(t, what);
    const witness = await connect(t, server);
    await race(t, server, 20, 10, (client) => ask(client, 'remembers:emit', 'n'));
    await until(() => received(witness, 'remembers:number').length === 200);
    assert.deepEqual(received(witness, 'remembers:number').flat(), range(200).map((n) => n + 1));
  });

  test(`${what}: a call that fails has written nothing`, async (t) => {
    const server = await startAt(t, what);
    const client = await connect(t, server);
    const rejected = await steps(client, { set: ['k', 1] }, { add: ['n', 1] }, 'reject');
    assert.equal(rejected.error.code, 'no');
    await assertFailed(server, await steps(client, { set: ['k', 1] }, 'trap'), 'plugin_error');
    assert.deepEqual(await steps(client, { get: 'k' }, { exists: 'n' }), [null, false]);
  });

  test(`${what}: a sum of accounts that many move between stays what it is`, async (t) => {
    const server = await startAt(t, what);
    const client = await connect(t, server);
    const accounts = range(5).map((n) => `account:${n}`);
    await steps(client, ...accounts.map((account) => ({ set: [account, 100] })));
    await race(t, server, 20, 20, (client, time) => {
      const [from, to] = [accounts[(time * 7) % 5], accounts[(time * 7 + 1 + (time % 3)) % 5]];
      return ask(client, 'remembers:transfer', from, to, 1 + (time % 30));
    });
    const held = await steps(client, ...accounts.map((account) => ({ get: account })));
    assert.equal(held.reduce((a, b) => a + b), 500);
    assert.ok(held.every((amount) => amount >= 0), `${held}`);
  });
}

for (const what of ['commit', 'redis']) {
  test(`${what}: a call sees its own writes, and others see them when it is done`, async (t) => {
    const server = await startAt(t, what);
    const client = await connect(t, server);
    assert.deepEqual(
      await steps(
        client,
        { set: ['a', { x: 1 }] },
        { get: 'a' },
        { add: ['n', 5] },
        { add: ['n', -2] },
        { get: 'n' },
        { scan: ['', null, 10] },
        { delete: 'a' },
        { exists: 'a' },
        { scan: ['', null, 10] },
        { set: ['a', 7] },
        { add: ['a', 1] },
      ),
      [null, { x: 1 }, null, null, 3, ['a', 'n'], null, false, ['n'], null, null],
    );
    assert.deepEqual(await steps(client, { get: 'a' }, { get: 'n' }), [8, 3]);
  });

  test(`${what}: keys are listed in order, from where one wants`, async (t) => {
    const server = await startAt(t, what);
    const client = await connect(t, server);
    const keys = range(30).map((n) => `k:${String(n).padStart(2, '0')}`);
    await steps(client, ...keys.map((key) => ({ set: [key, key] })), { set: ['j', 1] }, { set: ['l', 1] });
    assert.deepEqual((await steps(client, { scan: ['k:', null, 1000] }))[0], keys);
    assert.deepEqual((await steps(client, { scan: ['k:', 'k:09', 5] }))[0], keys.slice(10, 15));
    assert.deepEqual((await steps(client, { delete: 'k:11' }, { scan: ['k:', 'k:09', 2] }))[1], ['k:10', 'k:12']);
    assert.deepEqual((await steps(client, { scan: ['k:', 'k:09', 2] }))[0], ['k:10', 'k:12']);
    assert.deepEqual((await steps(client, { scan: ['nothing', null, 5] }))[0], []);
    assert.match((await steps(client, { scan: ['', null, 1001] }))[0].invalid, /1000/);
  });

  test(`${what}: what has a time to live is gone then, and its place in the bucket is free`, async (t) => {
    const server = await startAt(t, what, { more: 'bucket_keys = 2' });
    const client = await connect(t, server);
    // Long enough for what is asked before it is over, on a slow machine, too.
    await steps(client, { set_for: [3000, 'short', 1] }, { set_for: [600_000, 'long', 2] });
    assert.deepEqual(await steps(client, { get: 'short' }, { get: 'long' }), [1, 2]);
    await assertFailed(server, await steps(client, { set: ['third', 3] }), 'plugin_error');
    await until(async () => (await get(client, 'short')) === null);
    await until(async () => Array.isArray(await steps(client, { set: ['third', 3] })), { message: 'there is room' });
    assert.deepEqual((await steps(client, { scan: ['', null, 10] }))[0], ['long', 'third']);
  });

  test(`${what}: what is too much is said`, async (t) => {
    const server = await startAt(t, what, { more: 'bucket_bytes = "10kB"\nmax_value = "4kB"' });
    const client = await connect(t, server);
    const [fits, tooLarge] = await steps(client, { fill: ['a', 4000] }, { fill: ['b', 4001] });
    assert.equal(fits, null);
    assert.match(tooLarge.over_budget, /max_value = 4kB/);
    await steps(client, { fill: ['b', 4000] });
    const line = await assertFailed(server, await steps(client, { fill: ['c', 4000] }), 'plugin_error');
    assert.match(line, /bucket_bytes = 10kB of the bucket plugin\/remembers/);
    assert.deepEqual(await steps(client, { fill: ['b', 10] }, { fill: ['c', 4000] }), [null, null]);
    for (const key of ['', 'x'.repeat(513), 'a\0b']) {
      const [got, set, added] = await steps(client, { get: key }, { set: [key, 1] }, { add: [key, 1] });
      for (const said of [got, set, added]) assert.match(said.invalid, /^key: /, JSON.stringify(key));
    }
    await steps(client, { set: ['text', 'no number'] }, { set: ['most', 2 ** 53] });
    const noNumber = await assertFailed(server, await steps(client, { add: ['text', 1] }), 'plugin_error');
    assert.match(noNumber, /"text" cannot be added to: its value is no whole number/);
  });

  test(`${what}: shared buckets take so much together, however many they are`, async (t) => {
    const plugins = [{ wasm: 'remembers', grants: [...GRANTS, 'store:many-*'] }];
    const server = await startAt(t, what, { more: 'shared_bytes = "10kB"', plugins });
    const client = await connect(t, server);
    for (const bucket of ['many-1', 'many-2']) await stepsIn(bucket, client, { fill: ['k', 4000] });
    const line = await assertFailed(server, await stepsIn('many-3', client, { fill: ['k', 4000] }), 'plugin_error');
    assert.match(line, /shared_bytes = 10kB/);
    assert.deepEqual(await stepsIn('many-1', client, { delete: 'k' }), [null]);
    assert.deepEqual(await stepsIn('many-3', client, { fill: ['k', 4000] }), [null]);
  });
}

test('a bucket of many keys is listed page by page, and who lists it again and again holds nobody up', async (t) => {
  const [keys, at_once] = [FULL ? 1_000_000 : 20_000, 500];
  const budget = { host_calls: 1000, boundary: '1MiB', cpu: '30s', wall: '60s' };
  const config = `${durability('commit')}\nbucket_keys = 2000000\n[breaker]\nfailures = 100000`;
  const server = await startServer(t, { config, plugins: [{ ...REMEMBERS, budget }, 'echo'] });
  const [lists, other, third] = await Promise.all(range(3).map(() => connect(t, server)));
  const key = (number) => `key:${String(number).padStart(7, '0')}`;
  for (const from of range(keys / at_once)) {
    assert.equal(await ask(lists, 'remembers:many', from * at_once, at_once), undefined);
  }
  let found = 0;
  for (let after = null; ; found += 1000, after = key(found - 1)) {
    const [page] = await steps(lists, { scan: ['', after, 1000] });
    assert.deepEqual(page, range(Math.min(1000, keys - found)).map((n) => key(found + n)));
    if (page.length < 1000) break;
  }
  assert.equal(found, keys);
  assert.deepEqual((await steps(lists, { scan: [key(keys - 1).slice(0, -2), null, 1000] }))[0].length, 100);
  assert.deepEqual(await steps(lists, { scan: ['kez', null, 1000] }, { scan: ['a', null, 1] }), [[], []]);
  const all = range(100).map(() => ({ scan: ['', null, 1000] }));
  let goes = true;
  const listing = range(4).map(async () => {
    const client = await connect(t, server);
    while (goes) assert.equal((await steps(client, ...all)).error.code, 'plugin_error');
  });
  for (const n of range(20)) {
    assert.equal(await ask(other, 'echo', n), n);
    assert.deepEqual(await steps(third, { set: ['own', n] }, { get: key(7) }), [null, 7]);
  }
  goes = false;
  await Promise.all(listing);
  const { last_failure: last } = await plugin(server, 'remembers');
  assert.match(last.reason, /the budget boundary = 1.0 MiB is used up/);
});

test('buckets are granted one by one, to read or to write', async (t) => {
  const buckets = { wasm: 'remembers', grants: ['store:shared', 'store:look:read', 'store:many-*', 'emit', 'ask', 'everyone'] };
  const other = { ...REMEMBERS, wasm: 'remembers', name: 'other', path: 'remembers.wasm', enabled: false };
  const server = await startServer(t, { plugins: [buckets, other] });
  const client = await connect(t, server);
  const said = async (bucket) =>
    (await stepsIn(bucket, client, { get: 'k' }, { set: ['k', 1] }, { delete: 'x' }, { scan: ['', null, 1] })).map(
      (one) => one?.denied ?? 'granted',
    );
  const missing = (grant) => `mixlab.toml does not grant "${grant}"`;
  assert.deepEqual(await said('shared'), range(4).fill('granted'));
  assert.deepEqual(await said('many-7'), range(4).fill('granted'));
  assert.deepEqual(await said('look'), ['granted', missing('store:look'), missing('store:look'), 'granted']);
  const [read, write] = [missing('store:else:read'), missing('store:else')];
  assert.deepEqual(await said('else'), [read, write, write, read]);
  assert.deepEqual(await said(null), range(4).fill(missing('store')));
});

test('a plugin without the grant is not loaded', async (t) => {
  const folder = makeFolder(t, { plugins: [{ ...REMEMBERS, grants: ['emit', 'ask', 'everyone'] }] });
  const { code, stdout, stderr } = await folder.mixlab('check');
  assert.notEqual(code, 0);
  assert.match(stdout + stderr, /mixlab:plugin\/store\.\S+, which needs a grant: add "store"/);
});

for (const [what, event, answers] of [
  ['a call that has asked its client does not run again by itself', 'remembers:ask', (answer) => answer.error?.code === 'conflict'],
  ['one that may be repeated asks again', 'remembers:ask-again', (answer) => answer === 2],
]) {
  test(what, async (t) => {
    const server = await startServer(t, { plugins: [REMEMBERS] });
    const [client, other] = [await connect(t, server), await connect(t, server)];
    const asked = [];
    client.on('go-on', async (number, ack) => {
      asked.push(number);
      if (asked.length === 1) await ask(other, 'remembers:increment', 'n');
      ack(true);
    });
    const answer = await ask(client, event, 'n');
    assert.ok(answers(answer), JSON.stringify(answer));
    assert.deepEqual(asked, event === 'remembers:ask' ? [0] : [0, 1]);
    assert.equal(await get(other, 'n'), event === 'remembers:ask' ? 1 : 2);
  });
}

test('an event without the value that calls have in common is refused', async (t) => {
  const server = await startServer(t, { plugins: [{ wasm: 'remembers', grants: GRANTS }] });
  const client = await connect(t, server);
  const { error } = await ask(client, 'remembers:serial', 'x'.repeat(300));
  assert.equal(error.code, 'invalid_payload');
  assert.match(error.message, /^\/0: is too long/);
});

test('who waits too long for a turn is told, and others have it', async (t) => {
  const slow = { ...REMEMBERS, budget: { wall: '700ms' } };
  const server = await startServer(t, { plugins: [slow] });
  const clients = await Promise.all(range(6).map(() => connect(t, server)));
  // Nobody answers what the calls ask, so each of them takes its whole time.
  const answers = await Promise.all(clients.map((client) => ask(client, 'remembers:ask-in-turn', 'n')));
  const codes = answers.map(({ error }) => error.code);
  const refused = answers.filter(({ error }) => error.code === 'rate_limited');
  assert.ok(refused.length >= 3, `${codes}`);
  assert.match(refused[0].error.message, /calls with the same key take too long/);
  clients[0].on('go-on', (number, ack) => ack(true));
  assert.equal(await ask(clients[0], 'remembers:ask-in-turn', 'n'), 1, 'the turn is free');
});

test('what an on-connect wrote is there before the client is let in, and its end is counted once', async (t) => {
  const server = await startServer(t, { plugins: [REMEMBERS] });
  for (const number of [1, 2, 3]) {
    const client = await connect(t, server, { auth: { remember: true } });
    assert.equal(await get(client, 'connects'), number);
    client.disconnect();
  }
  const witness = await connect(t, server);
  await until(async () => (await get(witness, 'disconnects')) === 3);
});

/** Starts the server of a folder again; resolves to its address and its process. */
async function startAgain(folder) {
  const process = folder.start('up', '--listen', '127.0.0.1:0');
  const url = await until(() => process.stdout().match(/listening on (http:\/\/\S+)\n/)?.[1], { timeout: 60_000 });
  return { url, process };
}

/**
 * How long ago what is lost may have been acked when a server is killed, in ms. A disk and a machine that are
 * busy make it longer than what is configured.
 */
const LOST_WITHIN = { commit: 0, 'interval:50ms': 50 + 2_000 };

for (const [what, within] of Object.entries(LOST_WITHIN)) {
  test(`${what}: after kill -9 there is what was acked, and what was written together is there together`, async (t) => {
    const folder = makeFolder(t, { config: durability(what), plugins: [REMEMBERS] });
    let longest = 0;
    /** When each number was acked that is not known to be there, by the number. */
    let acked = new Map();
    let killed;
    for (const round of range(FULL ? 300 : 4)) {
      const { url, process } = await startAgain(folder);
      const clients = await Promise.all(range(4).map(() => connect(t, { url })));
      const [one, other] = await steps(clients[0], { get: 'one' }, { get: 'other' });
      assert.equal(one, other, `round ${round}`);
      const there = one ?? 0;
      if (there > 0) assert.equal(await get(clients[0], `entry:${there}`), there);
      const ages = [...acked].filter(([number]) => number > there).map(([, at]) => killed - at);
      const oldest = Math.max(0, ...ages);
      longest = Math.max(longest, oldest);
      if (within === 0) assert.equal(ages.length, 0, `round ${round}: ${ages.length} are lost that were acked`);
      else assert.ok(oldest <= within, `round ${round}: what was acked ${oldest} ms before is lost`);
      acked = new Map();
      const began = performance.now();
      const writing = clients.map(async (client) => {
        for (;;) acked.set(await ask(client, 'remembers:entry'), performance.now());
      });
      const settled = Promise.allSettled(writing);
      await until(() => acked.size > 10 + (round % 7) * 5);
      // In one round for longer than what may be lost.
      if (round === 1) await until(() => performance.now() - began > 2 * within);
      killed = performance.now();
      await process.kill();
      clients.forEach((client) => client.disconnect());
      await settled;
    }
    t.diagnostic(`what is lost was acked ${longest.toFixed()} ms before at most`);
  });
}

test('reloads while sockets race lose nothing', async (t) => {
  const server = await startServer(t, { plugins: [REMEMBERS] });
  const path = join(server.folder, 'remembers.wasm');
  const content = readFileSync(join(GUESTS, 'remembers.wasm'));
  let goes = true;
  const reloading = (async () => {
    for (let number = 0; goes; number++) {
      // Another content each time: a custom section at the end.
      const name = Buffer.from(`v${number % 10}`);
      replaceFile(path, Buffer.concat([content, Buffer.from([0, name.length + 1, name.length]), name]));
      await reload(server);
    }
  })();
  const numbers = [];
  do {
    numbers.push(...(await race(t, server, 40, 25, (client) => ask(client, 'remembers:increment', 'n'))));
  } while ((await plugin(server, 'remembers')).generation <= 3);
  goes = false;
  await reloading;
  const failed = numbers.filter((number) => number.error).slice(0, 3);
  assert.equal(new Set(numbers).size, numbers.length, JSON.stringify(failed));
  assert.equal(await get(await connect(t, server), 'n'), numbers.length);
});

for (const [event, how] of [
  ['remembers:once', 'exactly'],
  ['remembers:once-in-turn', 'exactly, and without a conflict where they take turns'],
]) {
  test(`sockets that race over reloads and restarts are counted ${how}`, async (t) => {
    const folder = makeFolder(t, { config: durability('commit'), plugins: [REMEMBERS] });
    const path = join(folder.folder, 'remembers.wasm');
    const content = readFileSync(join(GUESTS, 'remembers.wasm'));
    const [sockets, restarts, total] = FULL ? [200, 5, 20_000] : [40, 2, 1_000];
    const todo = range(total);
    const numbers = [];
    const work = async (client) => {
      while (todo.length > 0) {
        const id = todo.pop();
        // What is refused or not answered is asked for again, by somebody.
        try {
          const number = await ask(client, event, 'n', id.toString());
          if (!number.error) {
            numbers.push(number);
            continue;
          }
          assert.ok(number.error.temporary, JSON.stringify(number.error));
          todo.push(id);
        } catch (error) {
          todo.push(id);
          if (error instanceof assert.AssertionError) throw error;
          return;
        }
      }
    };
    for (const round of range(restarts + 1)) {
      const { url, process } = await startAgain(folder);
      const clients = await Promise.all(range(sockets).map(() => connect(t, { url })));
      const working = Promise.all(clients.map(work));
      for (const part of [1, 2, 3]) {
        const left = total * (1 - (round + part / 3) / (restarts + 1));
        await until(() => todo.length <= left, { timeout: 120_000 });
        const mark = Buffer.from(`v${round}${part}`);
        if (part < 3) replaceFile(path, Buffer.concat([content, Buffer.from([0, mark.length + 1, mark.length]), mark]));
      }
      if (event === 'remembers:once-in-turn') {
        const metrics = await fetch(`${url}/metrics`);
        assert.doesNotMatch(await metrics.text(), /mixlab_repeated_calls_total\S* [1-9]/, 'no call ran again');
      }
      if (round === restarts) {
        await working;
        const client = await connect(t, { url });
        assert.deepEqual(await steps(client, { get: 'n' }, { get: 'n:sum' }), [total, total]);
        assert.deepEqual(numbers.toSorted((a, b) => a - b), range(total).map((n) => n + 1), 'each number once');
        return;
      }
      if (round % 2 === 0) await process.kill();
      else process.signal('SIGTERM');
      await process.exited;
      await working;
    }
  });
}

test('a file that is no store, and one that another process has, are said and do no harm', async (t) => {
  const folder = makeFolder(t, { plugins: [REMEMBERS, 'echo'] });
  const path = join(folder.folder, 'data/store.redb');
  const first = await startServer(t, { plugins: [REMEMBERS] });
  const home = { config: `[store]\npath = "${join(first.folder, 'data/store.redb')}"`, plugins: [REMEMBERS, 'echo'] };
  const second = await startServer(t, home);
  await second.waitForLog(/it uses the store, which cannot be opened: the store \S+ is used by another process/);
  assert.equal(await ask(await connect(t, second), 'echo', 'x'), 'x', 'others serve');
  await first.stop();
  await until(async () => (await plugin(second, 'remembers')).state === 'serving', { timeout: 30_000 });
  assert.ok(!existsSync(path));

  const third = await startServer(t, { plugins: [REMEMBERS, 'echo'], config: '[store]\npath = "no-store"' });
  assert.equal(await get(await connect(t, third), 'k'), null);
  await third.stop();
  writeFileSync(join(third.folder, 'no-store'), 'this is no store'.repeat(1000));
  const again = third.start('up', '--listen', '127.0.0.1:0');
  await until(() => /listening on http/.test(again.stdout()), { timeout: 60_000 });
  assert.match(again.stderr(), /the store \S+no-store is damaged, or no store: /);
  again.signal('SIGTERM');
  assert.equal(await again.exited, 0);
  assert.equal(readFileSync(join(third.folder, 'no-store'), 'utf8').slice(0, 16), 'this is no store');
});

/** A disk of a few megabytes that can be made larger; none if the test is skipped, as nobody but root may have one. */
function smallDisk(t) {
  const path = mkdtempSync(join(tmpdir(), 'mixlab-test-disk-'));
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m,mode=700', 'tmpfs', path]).status !== 0) {
    t.skip('nothing can be mounted: this needs root');
    return null;
  }
  t.after(() => {
    execFileSync('umount', ['-l', path]);
    rmdirSync(path);
  });
  return { path, grow: () => execFileSync('mount', ['-o', 'remount,size=64m', path]) };
}

for (const what of ['commit', 'interval:20ms']) {
  test(`${what}: on a full disk nothing is promised, other events go on, and it recovers by itself`, async (t) => {
    const disk = smallDisk(t);
    if (!disk) return;
    const config = `${durability(what)}\npath = "${disk.path}/store.redb"`;
    const server = await startServer(t, { config, plugins: [REMEMBERS, 'echo'] });
    const client = await connect(t, server);
    let acked = 0;
    let refused;
    while (!refused) {
      const answer = await ask(client, 'remembers', null, [{ fill: [`k${acked}`, 20_000] }, { set: ['last', acked] }]);
      if (answer.error) refused = answer.error;
      else acked++;
      assert.ok(acked < 4000, 'the disk is full by now');
    }
    assert.deepEqual([refused.code, refused.temporary], ['plugin_unavailable', true]);
    assert.deepEqual(await notReady(server), ['the store cannot be written']);
    assert.equal(await ask(client, 'echo', 'others'), 'others');
    if (what === 'commit') {
      await until(async () => (await steps(client, { get: 'last' }))[0] === acked - 1, { message: 'what was acked is there' });
    }
    disk.grow();
    await until(async () => (await notReady(server)).length === 0, { timeout: 30_000 });
    await until(async () => Array.isArray(await steps(client, { set: ['again', 1] })), { message: 'it is written again' });
    const [last, again] = await steps(client, { get: 'last' }, { get: 'again' });
    assert.deepEqual([last >= acked - 1, again], [true, 1]);
    assert.equal(await server.stop(), 0);
  });
}

for (const what of ['commit', 'interval:20ms']) {
  test(`${what}: a disk that is full in the midst of load loses nothing and counts nothing twice`, async (t) => {
    const disk = smallDisk(t);
    if (!disk) return;
    const config = `${durability(what)}\npath = "${disk.path}/store.redb"`;
    const server = await startServer(t, { config, plugins: [REMEMBERS] });
    const clients = await Promise.all(range(20).map(() => connect(t, server)));
    const numbers = [];
    let [refused, goes] = [0, true];
    const working = clients.map(async (client, n) => {
      for (let time = 0; goes; time++) {
        const filled = await steps(client, { fill: [`k:${n}:${time}`, 10_000] }, { add: ['sum', 1] });
        const number = filled.error ? filled : await ask(client, 'remembers:increment', 'n');
        if (Array.isArray(filled)) numbers.push(['sum']);
        if (number.error) {
          assert.deepEqual([number.error.code, number.error.temporary], ['plugin_unavailable', true]);
          refused++;
        } else {
          numbers.push(['n', number]);
        }
      }
    });
    await until(() => refused > 200, { message: 'the disk is full', timeout: 60_000 });
    disk.grow();
    await until(async () => (await notReady(server)).length === 0, { timeout: 30_000 });
    const before = numbers.length;
    await until(() => numbers.length > before + 200, { message: 'it goes on' });
    goes = false;
    await Promise.all(working);
    const counted = numbers.filter(([key]) => key === 'n').map(([, number]) => number);
    const [sum, n] = await steps(clients[0], { get: 'sum' }, { get: 'n' });
    assert.deepEqual(counted.toSorted((a, b) => a - b), range(n).map((each) => each + 1), 'each number once');
    assert.equal(sum, numbers.length - counted.length);
    assert.equal(await server.stop(), 0);
  });
}

for (const what of ['commit', 'interval:20ms']) {
  test(`${what}: while the disk hangs, nothing is promised, other events go on, and it recovers by itself`, async (t) => {
    const disk = badMachine(t);
    if (!disk) return;
    const config = `${durability(what)}\ncommit_timeout = "300ms"`;
    const server = await startServer(t, { config, plugins: [REMEMBERS, 'echo'], env: disk.env });
    const [client, other] = [await connect(t, server), await connect(t, server)];
    await steps(client, { set: ['a', 1] });
    disk.hang();
    const answer = await steps(client, { set: ['b', 2] }, { emit: 'told' });
    if (what === 'commit') {
      assert.deepEqual([answer.error.code, answer.error.temporary], ['outcome_unknown', true]);
      assert.deepEqual(received(client, 'told'), [], 'nothing of it is told yet');
    } else {
      assert.deepEqual(answer, [null, null]);
    }
    await until(async () => (await notReady(server)).includes('the store cannot be written'));
    for (const socket of [client, other]) {
      assert.equal(await ask(socket, 'echo', 'others'), 'others');
      assert.equal(await get(socket, 'a'), 1, 'what is there can be read');
      const { error } = await steps(socket, { set: ['c', 3] });
      assert.deepEqual([error.code, error.temporary], ['plugin_unavailable', true]);
    }
    disk.answer();
    await until(async () => (await notReady(server)).length === 0);
    await until(async () => Array.isArray(await steps(other, { set: ['d', 4] })));
    assert.deepEqual(await steps(other, { get: 'b' }, { exists: 'c' }, { get: 'd' }), [2, false, 4]);
    await until(() => received(client, 'told').length === 1, { message: 'what was written is told' });
    assert.equal(await server.stop(), 0);
  });
}

test('a client that is refused since the disk hangs has come and gone, if what it came with is written', async (t) => {
  const disk = badMachine(t);
  if (!disk) return;
  const config = `${durability('commit')}\ncommit_timeout = "300ms"`;
  const server = await startServer(t, { config, plugins: [REMEMBERS], env: disk.env });
  const witness = await connect(t, server, { auth: { remember: true } });
  disk.hang();
  await assert.rejects(connect(t, server, { auth: { remember: true } }), { message: FOR_NOW });
  disk.answer();
  const counted = () => steps(witness, { get: 'connects' }, { get: 'disconnects' });
  await until(async () => (await counted()).join() === '2,1');
});

test('a server ends while its disk hangs', async (t) => {
  const disk = badMachine(t);
  if (!disk) return;
  const config = `${durability('commit')}\ncommit_timeout = "300ms"`;
  const server = await startServer(t, { config, plugins: [REMEMBERS], env: disk.env });
  const client = await connect(t, server, { auth: { remember: true } });
  disk.hang();
  const { error } = await steps(client, { set: ['b', 2] });
  assert.equal(error.code, 'outcome_unknown');
  assert.equal(await server.stop(), 0);
});
