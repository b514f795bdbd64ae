// What operators see and do: the routes with their rights, roll backs while clients are connected, and the console in
// a real browser.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { keepScreenshot, launch, openPage } from '../support/browser.mjs';
import { ask, connect } from '../support/client.mjs';
import { startMember } from '../support/cluster.mjs';
import { editConfig, notReady } from '../support/plugins.mjs';
import { startRedis } from '../support/redis.mjs';
import { startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const KEYS = { reader: ['inspect'], operator: ['inspect', 'operate'], doer: ['operate'], admin: ['admin'], other: ['payments', 'clients', 'find'] };
const CONFIG = `
[console]
enabled = true
[breaker]
failures = 1000
${Object.entries(KEYS)
  .map(([name, rights]) => `[[api.keys]]\nname = "${name}"\nkey = "key-of-${name}"\nrights = ${JSON.stringify(rights)}\n`)
  .join('')}`;

/** A shop of this version, whose prices are these. */
const shop = (version, price, more = '') => `import { event, plugin, t } from "mixlab";
export default plugin({ version: ${JSON.stringify(version)} }, {
    price: event({ access: "anyone", args: [t.integer()] }, (cx, count) => ({ price: ${price} * count, version: ${JSON.stringify(version)} })),
    fail: event({ access: "anyone" }, (cx, words) => { console.warn("about to fail"); throw new Error(words); }),
    ${more}
});
`;
const SHOP = { script: 'shop.ts', text: shop('1.0.0', 2) };

const start = (t, options = {}) => startServer(t, { config: CONFIG, plugins: [SHOP], ...options });
const save = (server, text, name = 'shop.ts') => writeFileSync(join(server.folder, 'scripts', name), text);
const as = (name) => (server, method, path) => server.api(method, path, undefined, name && `key-of-${name}`);
const [reader, operator] = [as('reader'), as('operator')];

async function one(server, name = 'shop') {
  const { status, body } = await reader(server, 'GET', `/api/v1/plugins/${name}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

/** Waits until a plugin is in this state and of this version. */
async function stands(server, state, version, name = 'shop') {
  let seen;
  await until(async () => ((seen = await one(server, name)), seen.state === state && seen.version === version), {
    message: () => `${state} ${version}: ${JSON.stringify(seen)}\n${server.log().slice(-2000)}`,
  });
  return seen;
}

async function rollBack(server, name = 'shop') {
  const { status, body } = await operator(server, 'POST', `/api/v1/plugins/${name}/rollback`);
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

function assertRefused({ status, body }, expected, code, message = /\w/) {
  assert.deepEqual([status, body.error?.code], [expected, code], JSON.stringify(body));
  assert.match(body.error.message, message);
}

const READ = [['GET', '/api/v1/plugins'], ['GET', '/api/v1/plugins/shop'], ['GET', '/api/v1/plugins/shop/log'], ['GET', '/api/v1/timers'], ['GET', '/api/v1/server']];
const DO = [['POST', '/api/v1/plugins/reload'], ['POST', '/api/v1/plugins/shop/reload']];

test('inspect reads, operate reloads and rolls back, admin does both, and nobody else does anything', async (t) => {
  const server = await start(t);
  for (const [name, rights] of Object.entries(KEYS)) {
    const [reads, does] = ['inspect', 'operate'].map((right) => rights.includes(right) || rights.includes('admin'));
    for (const [routes, may, right] of [[READ, reads, '"inspect"'], [DO, does, '"operate"']]) {
      for (const [method, path] of routes) {
        const answer = await as(name)(server, method, path);
        if (may) assert.equal(answer.status, 200, `${name} ${path} ${JSON.stringify(answer.body)}`);
        else assertRefused(answer, 403, 'permission_denied', new RegExp(right));
      }
    }
    assertRefused(await as(name)(server, 'POST', '/api/v1/plugins/shop/rollback'), ...(does ? [409, 'conflict'] : [403, 'permission_denied']));
    assertRefused(await as(name)(server, 'POST', '/api/v1/plugins/none/rollback'), ...(does ? [404, 'not_found'] : [403, 'permission_denied']));
  }
  for (const [method, path] of [...READ, ...DO, ['POST', '/api/v1/plugins/shop/rollback']]) {
    assertRefused(await as(null)(server, method, path), 401, 'unauthorized');
  }
});

test('what is not there, is switched off or has another method is said', async (t) => {
  const server = await start(t, { plugins: [SHOP, { script: 'off.ts', text: shop('1.0.0', 1), enabled: false }] });
  for (const name of ['none', '%2e%2e', 'shop%2F', 'a'.repeat(1000)]) {
    assertRefused(await reader(server, 'GET', `/api/v1/plugins/${name}`), 404, 'not_found');
    for (const what of ['reload', 'rollback']) assertRefused(await operator(server, 'POST', `/api/v1/plugins/${name}/${what}`), 404, 'not_found');
  }
  assertRefused(await reader(server, 'GET', '/api/v1/plugins/%ff'), 400, 'invalid_payload');
  assert.equal((await one(server, 'off')).state, 'disabled');
  for (const what of ['reload', 'rollback']) assertRefused(await operator(server, 'POST', `/api/v1/plugins/off/${what}`), 409, 'conflict', /switched off/);
  for (const [method, path] of [['GET', '/api/v1/plugins/reload'], ['POST', '/api/v1/plugins/shop'], ['GET', '/api/v1/plugins/shop/rollback'], ['DELETE', '/api/v1/plugins/shop/reload'], ['POST', '/api/v1/server'], ['POST', '/mixlab/console']]) {
    assertRefused(await operator(server, method, path), 405, 'method_not_allowed');
  }
});

/** A client that asks for the price all the time; each question is answered exactly once. */
async function buyer(t, server) {
  const socket = await connect(t, server);
  const { id } = socket;
  const answers = [];
  let [sent, ended] = [0, false];
  const buying = (async () => {
    while (!ended) {
      sent += 1;
      socket.emit('price', sent, (answer) => answers.push(answer));
      await pause(3);
    }
  })();
  t.after(() => (ended = true));
  return {
    sees: (version) => until(() => answers.at(-1)?.version === version, { message: () => `version ${version} and not ${JSON.stringify(answers.at(-1))}` }),
    async end(prices) {
      ended = true;
      await buying;
      await until(() => answers.length === sent, { message: () => `${sent} answers and not ${answers.length}` });
      assert.deepEqual([socket.id, socket.endReason], [id, undefined], 'it was never disconnected');
      answers.forEach(({ price, version }, index) => assert.equal(price, (index + 1) * prices[version], `${index} of ${version}`));
      const versions = answers.map(({ version }) => version);
      return versions.filter((version, index) => version !== versions[index - 1]);
    },
  };
}

test('a wrong version is rolled back while clients are connected, and they lose nothing', async (t) => {
  const server = await start(t);
  const clients = await Promise.all([buyer(t, server), buyer(t, server)]);
  const all = (version) => Promise.all(clients.map((client) => client.sees(version)));
  await all('1.0.0');
  save(server, shop('2.0.0', 200));
  await all('2.0.0');
  const before = await stands(server, 'serving', '2.0.0');
  assert.deepEqual(before.rollback_to, { version: '1.0.0', generation: 1 });

  const answer = await rollBack(server);
  assert.deepEqual([answer.state, answer.version, answer.generation, answer.rollback_to], ['rolled-back', '1.0.0', 3, null]);
  await all('1.0.0');
  assert.deepEqual(await notReady(server), [], 'it is as somebody wanted it');
  assert.match((await server.api('GET', '/readyz', undefined, null)).body, /^ready\nrolled back: shop\n$/);
  const { stdout } = await server.mixlab('plugin', 'list');
  assert.match(stdout, /^shop {2}rolled-back {2}version 1\.0\.0 {2}generation 3 /m);
  assert.match(stdout, /rolled back +until its file changes; mixlab plugin reload shop/);
  assert.match((await server.api('GET', '/metrics', undefined, null)).body, /mixlab_plugin_state\{plugin="shop",state="rolled-back"\} 1/);
  const [load, former] = (await one(server)).loads;
  assert.deepEqual([load.outcome, load.by, load.version, former.outcome, former.by], ['rolled-back', 'operator', '1.0.0', 'served', null]);
  assert.ok(load.changes.some(({ what }) => what === 'version 2.0.0 -> 1.0.0'), JSON.stringify(load.changes));
  await server.waitForLog(/done for an operator: the plugin shop is rolled back.*by="operator"/);

  // Once more there is nothing to go back to.
  assertRefused(await operator(server, 'POST', '/api/v1/plugins/shop/rollback'), 409, 'conflict', /no former version/);
  assert.deepEqual(await Promise.all(clients.map((client) => client.end({ '1.0.0': 2, '2.0.0': 200 }))), Array(2).fill(['1.0.0', '2.0.0', '1.0.0']));
});

test('a roll back of other versions than are meant is refused, and so is one that a new file overtakes', async (t) => {
  const server = await start(t);
  const back = (body) => server.api('POST', '/api/v1/plugins/shop/rollback', body, 'key-of-operator');
  for (const version of ['2.0.0', '3.0.0']) {
    save(server, shop(version, 3));
    await stands(server, 'serving', version);
  }
  for (const step of [{ from: 2, to: 1 }, { from: 2 }, { to: 1 }]) {
    assertRefused(await back(step), 409, 'conflict', /generation 3 serves, and would be rolled back to generation 2$/);
  }
  for (const body of [{ form: 3 }, { from: -1 }, { from: '3' }, [3, 2]]) assertRefused(await back(body), 400, 'invalid_payload');
  assert.equal((await one(server)).generation, 3, 'nothing was done');

  // A file is saved while the request is under way.
  server.signal('SIGSTOP');
  save(server, shop('4.0.0', 5));
  const answer = back({ from: 3, to: 2 });
  server.signal('SIGCONT');
  assertRefused(await answer, 409, 'conflict', /changed meanwhile|other versions/);
  const { generation, rollback_to: former } = await stands(server, 'serving', '4.0.0');
  const done = await back({ from: generation, to: former.generation });
  assert.deepEqual([done.status, done.body.state, done.body.version], [200, 'rolled-back', former.version]);
});

test('a roll back lasts until the file changes or is reloaded, whatever else is', async (t) => {
  const server = await start(t);
  const twice = async (version) => {
    save(server, shop(version, 3));
    await stands(server, 'serving', version);
    await rollBack(server);
    return stands(server, 'rolled-back', '1.0.0');
  };
  const { generation } = await twice('2.0.0');
  // Somebody looks at all files, the file is touched, and is written again as it is.
  for (const touch of [() => operator(server, 'POST', '/api/v1/plugins/reload'), () => save(server, shop('2.0.0', 3)), () => server.mixlab('plugin', 'reload')]) {
    await touch();
    await operator(server, 'POST', '/api/v1/plugins/reload');
    assert.equal((await one(server)).generation, generation);
    await stands(server, 'rolled-back', '1.0.0');
  }
  // Other grants load what was rolled back to once more.
  editConfig(server, (text) => text.replace('path = "scripts/shop.ts"', 'path = "scripts/shop.ts"\ngrants = ["clients"]'));
  await until(async () => (await one(server)).grants.includes('clients'));
  const regranted = await stands(server, 'rolled-back', '1.0.0');
  assert.equal(regranted.generation, generation + 1);

  // A reload by name ends it.
  const answer = await operator(server, 'POST', '/api/v1/plugins/shop/reload');
  assert.deepEqual([answer.status, answer.body.state, answer.body.version], [200, 'serving', '2.0.0'], JSON.stringify(answer.body));
  assert.equal(answer.body.rollback_to.version, '1.0.0');
  const { code, stdout, stderr } = await server.mixlab('plugin', 'rollback', 'shop');
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^shop {2}rolled-back {2}version 1\.0\.0 /);
  assert.equal((await one(server)).loads[0].by, "this machine's command line");

  // So does a new file.
  save(server, shop('3.0.0', 4));
  const newest = await stands(server, 'serving', '3.0.0');
  assert.equal(newest.rollback_to.version, '1.0.0');
  // And the same one, if it comes back after another.
  save(server, shop('2.0.0', 3));
  assert.equal((await stands(server, 'serving', '2.0.0')).rollback_to.version, '3.0.0');
});

test('what cannot be loaded is said to whoever asks for it, and what serves goes on', async (t) => {
  const server = await start(t);
  save(server, 'export default');
  await stands(server, 'serving-old', '1.0.0');
  const answer = await operator(server, 'POST', '/api/v1/plugins/shop/reload');
  assertRefused(answer, 409, 'plugin_refused', /shop\.ts/);
  const client = await connect(t, server);
  assert.deepEqual(await ask(client, 'price', 2), { price: 4, version: '1.0.0' });
  const { loads } = await one(server);
  assert.deepEqual(loads.map(({ outcome, by }) => [outcome, by]), [['refused', 'operator'], ['refused', null], ['served', null]]);
  const failed = await server.mixlab('plugin', 'rollback', 'shop');
  assert.notEqual(failed.code, 0);
  assert.match(failed.stderr, /no former version is kept/);
});

test('a version that has migrated what is stored stays: the roll back is refused, and all goes on', async (t) => {
  const keeps = (version, more = '') => `import { event, plugin } from "mixlab";
export default plugin({ version: "${version}" }, {
    put: event({ access: "anyone" }, (cx) => { cx.store.set("key", 1); return "${version}"; }),
})${more};`;
  const server = await start(t, { plugins: [{ script: 'shop.ts', text: keeps('1.0.0'), grants: ['store'] }] });
  const client = await connect(t, server);
  assert.equal(await ask(client, 'put'), '1.0.0');
  save(server, keeps('2.0.0', '.migration(1, (cx, from) => {})'));
  const { generation } = await stands(server, 'serving', '2.0.0');
  assertRefused(await operator(server, 'POST', '/api/v1/plugins/shop/rollback'), 409, 'plugin_refused', /data version/);
  const plugin = await stands(server, 'serving', '2.0.0');
  assert.deepEqual([plugin.generation, plugin.refusal, plugin.rollback_to.version], [generation, null, '1.0.0']);
  assert.deepEqual([plugin.loads[0].outcome, plugin.loads[0].by], ['refused', 'operator']);
  assert.equal(await ask(client, 'put'), '2.0.0');
  assert.deepEqual(await notReady(server), []);
});

test('no more than the last 20 loads are kept, and of one no more than 50 changes, those that break clients first', async (t) => {
  const server = await start(t);
  const events = Array.from({ length: 60 }, (_, index) => `e${index}: event({ access: "anyone" }, () => ${index}),`).join('\n');
  save(server, shop('2.0.0', 3, events));
  await stands(server, 'serving', '2.0.0');
  save(server, shop('3.0.0', 3));
  const [{ changes, more_changes: more }] = (await stands(server, 'serving', '3.0.0')).loads;
  assert.deepEqual([changes.length, more, changes.every(({ breaking }) => breaking)], [50, 11, true]);
  for (let count = 0; count < 22; count++) assert.equal((await operator(server, 'POST', '/api/v1/plugins/shop/reload')).status, 200);
  const { loads, generation, rollback_to: former } = await one(server);
  assert.deepEqual([loads.length, loads[0].generation, loads[0].by], [20, generation, 'operator']);
  assert.equal(former.version, '2.0.0', 'the same content again is no other version');
});

test('a plugin is shown with its grants, budgets, counts, store and last failure', async (t) => {
  const text = `import { event, plugin } from "mixlab";
export default plugin({ version: "1.0.0" }, {
    put: event({ access: "anyone", limit: { socket: "2/1h" } }, (cx, key) => { cx.store.set(key, "12345"); }),
    fail: event({ access: "anyone" }, () => { throw new Error("no such luck"); }),
});`;
  const server = await start(t, { plugins: [{ script: 'shop.ts', text, grants: ['store', 'clients'], budget: { cpu: '70ms', instances: 2 } }] });
  const client = await connect(t, server);
  for (const key of ['a', 'bc']) await ask(client, 'put', key);
  assert.equal((await ask(client, 'put', 'd')).error.code, 'rate_limited');
  const { error } = await ask(client, 'fail');
  const plugin = await one(server);
  assert.deepEqual(plugin.grants, ['store', 'clients']);
  assert.deepEqual([plugin.budget.cpu_ms, plugin.budget.instances, plugin.budget.wall_ms], [70, 2, 5000]);
  assert.equal(plugin.code_bytes, text.length);
  assert.deepEqual(plugin.outcomes, { put: { ok: 2, rate_limited: 1 }, fail: { gave_up: 1 } });
  assert.equal(Object.values(plugin.failures_by_reason).reduce((sum, count) => sum + count, 0), 1);
  assert.deepEqual(plugin.stored, { keys: 2, bytes: 17, max_keys: 1_000_000, max_bytes: 256 << 20 });
  assert.equal(plugin.last_failure.trace_id, error.trace_id);
  assert.match(plugin.last_failure.reason, /no such luck/);
  const { body } = await reader(server, 'GET', '/api/v1/server');
  assert.deepEqual([body.limits.rate_limited, body.store, body.cluster, body.clients.here, body.phase], [{ socket: 1 }, { on: 'disk', failure: null }, null, 1, 'serving']);
  assert.deepEqual([body.problems, body.key], [[], { name: 'reader', operate: false }]);
  assert.match(body.started, /^\d{4}-.*Z$/);
});

test('the servers of a cluster are told of, and those that do not answer', async (t) => {
  const redis = await startRedis(t);
  const [asked, held] = await Promise.all([0, 1].map(() => startMember(t, redis, { config: CONFIG })));
  const cluster = async () => (await reader(asked, 'GET', '/api/v1/server')).body.cluster;
  await connect(t, held);
  await until(async () => (await cluster())?.others?.[0]?.sockets === 1, { message: 'the other one is told of' });
  const { name, others } = await cluster();
  const told = (await reader(held, 'GET', '/api/v1/server')).body.cluster;
  assert.deepEqual([told.name, told.others[0].name], [others[0].name, name]);
  held.signal('SIGSTOP');
  t.after(() => held.signal('SIGCONT'));
  const { others: left, silent, connected } = await cluster();
  assert.deepEqual([left, silent.servers, connected], [[], 1, true]);
  held.signal('SIGCONT');
  await redis.stop();
  await until(async () => (await cluster()).unheard, { message: 'it is said that Redis is away' });
});

test('without [console] enabled there is no page', async (t) => {
  const server = await startServer(t, { plugins: [SHOP] });
  for (const path of ['', '/console.js', '/views.js', '/text.js', '/console.css', '/page.css']) {
    assertRefused(await server.api('GET', `/mixlab/console${path}`, undefined, null), 404, 'not_found');
  }
});

// The page.

const browser = await launch({ after });

async function signIn(t, server, name, options) {
  const page = await openPage(t, browser, `${server.url}/mixlab/console`, options);
  await page.getByLabel('API key').fill(`key-of-${name}`);
  await page.getByRole('button', { name: 'Sign in' }).click();
  return page;
}

/** Waits until what is seen of an element matches. */
async function shows(page, selector, pattern) {
  let text;
  await until(async () => pattern.test((text = (await page.locator(selector).allInnerTexts()).join('\n'))), {
    timeout: 30_000,
    message: () => `${selector} shows ${pattern} and not ${JSON.stringify(text)}; errors: ${page.errors}`,
  });
}

const noErrors = (page) => assert.deepEqual(page.errors, []);
const calls = async (page) => Number((await page.locator('#facts').innerText()).match(/Calls\s+([\d,]+)/)[1].replaceAll(',', ''));

test('an operator signs in, sees counters move and a trap, and rolls back', async (t) => {
  const server = await start(t, { config: `${CONFIG}[cors]\ncheck_origins = true\n` });
  save(server, shop('2.0.0', 3, 'more: event({ access: "anyone" }, () => 1),'));
  await stands(server, 'serving', '2.0.0');
  const page = await signIn(t, server, 'operator', { colorScheme: 'light' });
  await shows(page, '#name', /^shop$/);
  await shows(page, '#state', /^serving$/);
  const before = await calls(page);
  const client = await connect(t, server);
  for (let count = 0; count < 20; count++) await ask(client, 'price', 1);
  await until(async () => (await calls(page)) >= before + 20, { message: 'the counter moves' });
  await shows(page, '#events', /price\s+20/);

  const { error } = await ask(client, 'fail', 'out of stock');
  await shows(page, '#failure', new RegExp(`in fail, trace ${error.trace_id}[^]*out of stock`));
  await page.getByRole('button', { name: 'Show its lines' }).click();
  await shows(page, '#lines', /about to fail[^]*out of stock/);
  await shows(page, '#loads', /loaded version 2\.0\.0, generation 2[^]*event more is new/);
  await shows(page, '#server', /Clients\s+1\b/);
  await keepScreenshot(page, 'console-light');

  await page.getByRole('button', { name: 'Roll back to 1.0.0' }).click();
  await page.getByRole('button', { name: 'Cancel' }).click();
  assert.equal((await one(server)).version, '2.0.0', 'who thinks again changes nothing');
  await page.getByRole('button', { name: 'Roll back to 1.0.0' }).click();
  await page.locator('dialog').getByRole('button', { name: 'Roll back' }).click();
  await shows(page, '#outcome', /^Version 1\.0\.0 serves again\.$/);
  await shows(page, '#state', /^rolled back$/);
  await shows(page, '#loads', /rolled back version 1\.0\.0, generation 3[^]*by operator[^]*breaks clients: event more is gone/);
  assert.deepEqual(await ask(client, 'price', 2), { price: 4, version: '1.0.0' });
  assert.equal(await page.getByRole('button', { name: 'Roll back', exact: true }).isDisabled(), true);

  await page.getByRole('button', { name: 'Reload' }).click();
  await shows(page, '#outcome', /^Version 2\.0\.0 of the file serves\.$/);
  await shows(page, '#state', /^serving$/);
  noErrors(page);
});

test('a question whether to roll back is withdrawn when another version serves, and names what it is about', async (t) => {
  const server = await start(t);
  save(server, shop('2.0.0', 3));
  await stands(server, 'serving', '2.0.0');
  const page = await signIn(t, server, 'operator');
  await page.getByRole('button', { name: 'Roll back to 1.0.0' }).click();
  await shows(page, '#question', /from version 2\.0\.0 to 1\.0\.0/);
  save(server, shop('3.0.0', 3));
  await shows(page, '#outcome', /^Nothing was rolled back: the plugin has been loaded anew meanwhile\.$/);
  assert.equal(await page.locator('dialog').isVisible(), false);
  assert.equal((await one(server)).version, '3.0.0');

  await page.getByRole('button', { name: 'Roll back to 2.0.0' }).click();
  const asked = page.waitForRequest((request) => request.url().endsWith('/shop/rollback'));
  await page.locator('dialog').getByRole('button', { name: 'Roll back' }).click();
  assert.deepEqual((await asked).postDataJSON(), { from: 3, to: 2 });
  await shows(page, '#outcome', /^Version 2\.0\.0 serves again\.$/);
});

/** Plugins of these names, each with an event of its name that logs a number. */
const talkers = (...names) => names.map((name) => ({
  script: `${name}.js`,
  text: `import { event, plugin } from "mixlab";
export default plugin({ version: "1.0.0" }, { ${name}: event({ access: "anyone" }, (cx, number) => { console.log("line of ${name} " + number); return number; }) });`,
}));

/** Has a plugin log these numbers. */
async function talk(client, name, ...numbers) {
  for (const number of numbers) await ask(client, name, number);
}

const shownLines = (page) => page.locator('#lines li').allInnerTexts();
const ends = (lines) => lines.map((line) => line.match(/line of .*$/)?.[0]);

test('lines of a log are those of the plugin that is shown', async (t) => {
  const server = await start(t, { plugins: talkers('aaa', 'zzz') });
  const client = await connect(t, server);
  await talk(client, 'zzz', 1, 2, 3, 4);
  await talk(client, 'aaa', 1);
  const page = await signIn(t, server, 'operator');
  await page.getByRole('button', { name: 'zzz' }).click();
  await page.locator('#log summary').click();
  await shows(page, '#lines', /line of zzz 4/);

  // The chosen one leaves, and comes again.
  const whole = editConfig(server, (text) => text.replace(/\[\[plugins\]\]\nname = "zzz"[^]*$/, ''));
  await shows(page, '#name', /^aaa$/);
  await shows(page, '#lines', /line of aaa 1/);
  assert.deepEqual(ends(await shownLines(page)), ['line of aaa 1']);
  editConfig(server, () => whole);
  await page.getByRole('button', { name: 'zzz' }).click();
  await talk(client, 'zzz', 5);
  await shows(page, '#lines', /line of zzz 5/);
  assert.deepEqual(ends(await shownLines(page)), ['line of zzz 5']);

  // Nothing stays for who signs in next, nor comes of what was asked before.
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route('**/api/v1/plugins', (route) => held.then(() => route.continue()));
  const asked = page.waitForRequest('**/api/v1/plugins');
  await asked;
  await page.getByRole('button', { name: 'Sign out' }).click();
  const nothing = async () => assert.doesNotMatch(await page.locator('body').evaluate((body) => body.textContent), /aaa|zzz|1\.0\.0/);
  await nothing();
  const answered = page.waitForResponse('**/api/v1/plugins');
  release();
  await (await answered).finished();
  await page.evaluate(() => new Promise((resolve) => setTimeout(resolve)));
  await nothing();
  await page.unrouteAll({ behavior: 'wait' });
  await page.getByLabel('API key').fill('key-of-reader');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await shows(page, '#name', /^aaa$/);
  await shows(page, '#lines', /line of aaa 1/);
  assert.deepEqual(ends(await shownLines(page)), ['line of aaa 1']);
});

test('lines of a server that was started again are shown from the first one', async (t) => {
  const server = await start(t, { plugins: talkers('aaa') });
  await talk(await connect(t, server), 'aaa', 1, 2, 3, 4);
  const page = await signIn(t, server, 'reader');
  await page.locator('#log summary').click();
  await shows(page, '#lines', /line of aaa 4/);
  const journal = async () => (await reader(server, 'GET', '/api/v1/plugins/aaa/log')).body.journal;
  const before = await journal();
  await server.stop();
  const again = server.start('up', '--listen', new URL(server.url).host);
  await until(() => /listening/.test(again.stdout()), { timeout: 60_000, message: 'it is there again' });
  await talk(await connect(t, server), 'aaa', 11, 12);
  await shows(page, '#lines', /line of aaa 12/);
  assert.deepEqual(ends(await shownLines(page)), ['line of aaa 11', 'line of aaa 12']);
  assert.notEqual(await journal(), before);
});

test('with a slow network, each line of a log is shown once and in order', async (t) => {
  const server = await start(t, { plugins: talkers('aaa') });
  const client = await connect(t, server);
  const page = await signIn(t, server, 'reader');
  await shows(page, '#name', /^aaa$/);
  await page.route('**/log?*', async (route) => {
    const response = await route.fetch();
    await pause(100);
    await route.fulfill({ response });
  });
  const count = 150;
  const talking = (async () => {
    for (let number = 1; number <= count; number++) await talk(client, 'aaa', number).then(() => pause(20));
  })();
  const toggle = () => page.evaluate(() => (document.getElementById('log').open ^= true));
  let done = false;
  talking.finally(() => (done = true));
  while (!done) await toggle().then(() => pause(30));
  await talking;
  await page.evaluate(() => (document.getElementById('log').open = true));
  await shows(page, '#lines', new RegExp(`line of aaa ${count}$`));
  assert.deepEqual(ends(await shownLines(page)), Array.from({ length: count }, (_, index) => `line of aaa ${index + 1}`));
  await page.unrouteAll({ behavior: 'ignoreErrors' });
});

test('a key that may only look has no buttons, and the server refuses it anyway', async (t) => {
  const server = await start(t);
  save(server, shop('2.0.0', 3));
  await stands(server, 'serving', '2.0.0');
  const page = await signIn(t, server, 'reader', { colorScheme: 'dark' });
  await shows(page, '#state', /^serving$/);
  assert.equal(await page.getByRole('button', { name: /Reload|Roll back/ }).count(), 0);
  // Whoever shows them all the same gets no further.
  const answered = page.waitForResponse((response) => response.url().endsWith('/shop/reload'));
  await page.evaluate(() => document.getElementById('reload').click());
  assert.equal((await answered).status(), 403);
  assert.deepEqual([(await one(server)).version, (await one(server)).generation], ['2.0.0', 2]);
});

test('who has no key with the right sees nothing, and a key is kept in its tab only', async (t) => {
  const server = await start(t);
  for (const [name, refusal] of [['nobody', /not known/], ['other', /"inspect"/], ['doer', /"inspect"/], ['ä', /ASCII/]]) {
    const page = await signIn(t, server, name);
    await shows(page, '#refusal', refusal);
    assert.equal(await page.locator('#signed-in').isVisible(), false);
    assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0, name);
  }
  const page = await signIn(t, server, 'reader');
  await shows(page, '#name', /^shop$/);
  await page.reload();
  await shows(page, '#name', /^shop$/);
  assert.deepEqual(await page.evaluate(() => [sessionStorage.length, localStorage.length, document.cookie, location.href]), [1, 0, '', `${server.url}/mixlab/console`]);
  const other = await page.context().newPage();
  await other.goto(`${server.url}/mixlab/console`);
  await shows(other, '#sign-in', /Sign in/);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await shows(page, '#sign-in', /Sign in/);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.locator('#plugins').isVisible(), false);

  // The key is taken away while somebody looks.
  const looking = await signIn(t, server, 'reader');
  await shows(looking, '#name', /^shop$/);
  editConfig(server, (text) => text.replace('key-of-reader', 'another-key-of-reader'));
  await shows(looking, '#refusal', /not known/);
});

test('names and words of plugins and clients stay text', async (t) => {
  const evil = '<img src=x onerror=alert(1)><script>alert(2)</script>\u202e"\'&amp;';
  const name = JSON.stringify(evil);
  const text = `import { event, plugin } from "mixlab";
export default plugin({ version: "1.0.0-a.b" }, {
    [${name}]: event({ access: "anyone" }, () => { console.error(${name}); throw new Error(${name}); }),
});`;
  const server = await start(t, { plugins: [{ script: 'shop.ts', text }] });
  const page = await signIn(t, server, 'operator');
  page.on('dialog', () => assert.fail('a script ran'));
  const client = await connect(t, server);
  const { error } = await ask(client, evil);
  await shows(page, '#failure', /<img src=x onerror=alert\(1\)><script>alert\(2\)<\/script>\\u\{202e\}/);
  await page.getByRole('button', { name: 'Show its lines' }).click();
  await shows(page, '#lines', /<script>alert\(2\)<\/script>/);
  await shows(page, '#events', /<img src=x/);
  save(server, text.replace('new Error', '(').replace('1.0.0', '1.0.1'));
  await shows(page, '#facts', /The file is refused/);
  assert.equal(await page.locator('#plugin img, #plugin script, #lines img').count(), 0);
  assert.ok(error.trace_id);
  noErrors(page);
});

test('the page runs nothing but its own files, in no frame, and asks again while the server is away', async (t) => {
  const server = await start(t);
  for (const [path, type] of [['', 'text/html'], ['/console.js', 'text/javascript'], ['/views.js', 'text/javascript'], ['/text.js', 'text/javascript'], ['/console.css', 'text/css'], ['/page.css', 'text/css']]) {
    const { status, headers } = await server.api('GET', `/mixlab/console${path}`, undefined, null);
    assert.equal(status, 200, path);
    assert.ok(headers.get('content-type').startsWith(type));
    assert.match(headers.get('content-security-policy'), /default-src 'none'; script-src 'self'; .*frame-ancestors 'none'; require-trusted-types-for 'script'/);
    assert.deepEqual(['cache-control', 'x-content-type-options', 'referrer-policy'].map((name) => headers.get(name)), ['no-store', 'nosniff', 'no-referrer']);
  }
  const page = await signIn(t, server, 'reader', { colorScheme: 'dark' });
  await shows(page, '#freshness', /^As of /);
  await keepScreenshot(page, 'console-dark');
  await server.kill();
  await shows(page, '#freshness', /^Not up to date: the server does not answer/);
  assert.equal(await page.locator('#name').isVisible(), true, 'what was seen last stays');
});
