// The playground in a real browser: events by forms as any user, what comes of them, and what is saved meanwhile.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { keepScreenshot, launch, openPage } from '../support/browser.mjs';
import { ROOT, startServer, wasm } from '../support/server.mjs';
import { tcp } from '../support/tcp.mjs';
import { until } from '../support/wait.mjs';

const WEB = `[web]\nclient = ${JSON.stringify(`${ROOT}examples/web/node_modules/socket.io-client/dist`)}\n`;
const TRYING_OUT = { JWT_SECRET: undefined, MIXLAB_API_KEY: undefined };

const SHOP = `import { event, plugin, t } from "mixlab";
const order = t.object({
    item: t.string({ min: 1, max: 40 }),
    count: t.integer({ min: 1, max: 9 }),
    size: t.enum("small", "large"),
    gift: t.boolean(),
    note: t.optional(t.string({ max: 500 })),
    tags: t.array(t.string(), { max: 3 }),
    pay: t.schema({ oneOf: [
        { title: "cash", type: "object", properties: { kind: { const: "cash" } }, required: ["kind"] },
        { title: "card", type: "object", properties: { kind: { const: "card" }, number: { type: "string" } }, required: ["kind", "number"] },
    ] }),
    nothing: t.null(),
    extra: t.any(),
});
export default plugin({ emits: { ordered: [t.any(), t.any()] } }, {
    "order:place": event({ roles: ["buyer"], args: [order, t.optional(t.bytes())] }, (cx, order, bytes) => {
        console.log("an order of", order.item);
        cx.broadcast.includeSender().emit("ordered", order, bytes?.length ?? 0);
        return { placed: order, by: cx.user, bytes: bytes?.length ?? 0 };
    }),
    echo: event({ access: "anyone" }, (cx, ...values) => values),
});
`;

const browser = await launch({ after });
const start = (t, options = {}) =>
  startServer(t, { config: WEB, env: TRYING_OUT, recovery: true, plugins: [{ script: 'shop.ts', text: SHOP, grants: ['emit', 'everyone'] }], ...options });

/** The link to the playground that a server has printed. */
const link = (server) => until(() => server.output().match(/^ +play +(\S+)$/m)?.[1]);

async function open(t, server, options) {
  const page = await openPage(t, browser, await link(server), options);
  await shows(page, '#connection', /^Connected as ada \(admin\)$/);
  return page;
}

/** Waits until an element's text matches. */
async function shows(page, selector, pattern) {
  let text;
  await until(async () => pattern.test((text = (await page.locator(selector).allInnerTexts()).join('\n'))), {
    timeout: 30_000,
    message: () => `${selector} shows ${pattern} and not ${JSON.stringify(text)}; errors: ${page.errors}`,
  });
}

/** The newest entry of a kind. */
const entry = (page, kind, name) => page.locator(`#feed li[data-kind="${kind}"][data-name="${name}"]`).first();
const told = async (page, kind, name) => JSON.parse(await entry(page, kind, name).locator('pre').innerText());
const choose = (page, event) => page.getByRole('button', { name: event, exact: true }).click();
const save = (server, name, text) => writeFileSync(join(server.folder, 'scripts', name), text);
const noErrors = (page) => assert.deepEqual(page.errors, []);

async function connectAs(page, id, roles) {
  await page.getByLabel('User id').fill(id);
  await page.getByLabel('Name', { exact: true }).fill('');
  await page.getByLabel('Roles').fill(roles);
  await page.getByRole('button', { name: 'Connect' }).click();
  await shows(page, '#connection', new RegExp(`^Connected as ${id}`));
}

async function fillOrder(page) {
  await choose(page, 'order:place');
  await page.getByLabel('item', { exact: true }).fill('tea');
  await page.getByLabel('count', { exact: true }).fill('2');
  await page.getByLabel('size', { exact: true }).selectOption('large');
  await page.getByLabel('gift', { exact: true }).check();
  await page.getByLabel('with note', { exact: true }).check();
  await page.getByLabel('note', { exact: true }).fill('<b>soon</b>');
  await page.getByRole('button', { name: 'Add to tags' }).click();
  await page.getByLabel('tags 1', { exact: true }).fill('hot');
  await page.getByLabel('Kind of pay').selectOption('card');
  await page.getByLabel('number', { exact: true }).fill('4242');
  await page.getByLabel('extra', { exact: true }).fill('[1, {}]');
}

const ORDER = {
  item: 'tea',
  count: 2,
  size: 'large',
  gift: true,
  note: '<b>soon</b>',
  tags: ['hot'],
  pay: { kind: 'card', number: '4242' },
  nothing: null,
  extra: [1, {}],
};

test('an event is sent by its form as a user with roles, and others get what it emits', async (t) => {
  const server = await start(t);
  const other = await open(t, server);
  const page = await open(t, server);
  assert.equal(page.url(), `${server.url}/mixlab/play`, 'the key has left the address');

  await fillOrder(page);
  await page.getByRole('button', { name: 'Send' }).click();
  await shows(page, '#outcome', /^permission_denied: /);
  await connectAs(page, '7', 'clerk, buyer');
  await page.getByRole('button', { name: 'Send' }).click();
  await shows(page, '#outcome', /^Handled\.$/);
  const [ack] = await told(page, 'ack', 'order:place');
  assert.deepEqual(ack.placed, ORDER);
  assert.deepEqual([ack.by.id, ack.by.roles], ['7', ['clerk', 'buyer']]);
  await entry(other, 'got', 'ordered').waitFor();
  assert.deepEqual((await told(other, 'got', 'ordered')).slice(0, 2), [ORDER, 0]);
  await entry(page, 'got', 'ordered').waitFor();
  await shows(other, '#feed li[data-group="log"]', /an order of tea/);

  // With bytes.
  await page.getByLabel('with Argument 2').check();
  await page.getByRole('button', { name: 'Send' }).click();
  await shows(page, '#outcome', /choose a file/);
  await page.getByLabel('Argument 2 (bytes)').setInputFiles({ name: 'a', mimeType: 'text/plain', buffer: Buffer.from('abc') });
  await page.getByRole('button', { name: 'Send' }).click();
  await until(async () => (await told(page, 'ack', 'order:place'))[0].bytes === 3);
  await keepScreenshot(page, 'playground');
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.setViewportSize({ width: 390, height: 800 });
  await keepScreenshot(page, 'playground-small-dark');
  const isWide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  assert.ok(!isWide);
  noErrors(page);
  noErrors(other);
});

test('what is no value is said where it was entered; any event is sent as JSON, and without a token', async (t) => {
  const server = await start(t);
  const page = await open(t, server);
  await choose(page, 'order:place');
  await page.getByLabel('count', { exact: true }).fill('');
  await page.getByRole('button', { name: 'Send' }).click();
  await shows(page, '#outcome', /^count is no number$/);
  assert.equal(await page.getByLabel('count', { exact: true }).getAttribute('aria-invalid'), 'true');

  await page.getByLabel('without a token').check();
  await page.getByRole('button', { name: 'Connect' }).click();
  await shows(page, '#connection', /^Connected without a token$/);
  await choose(page, 'echo');
  await page.getByLabel('Arguments, a list').fill('{');
  await page.getByRole('button', { name: 'Send' }).click();
  await shows(page, '#outcome', /is no JSON/);
  await page.getByLabel('Arguments, a list').fill('[{"__proto__": 1}, "two"]');
  await page.getByRole('button', { name: 'Send' }).click();
  await shows(page, '#outcome', /^Handled\.$/);
  assert.match(await entry(page, 'sent', 'echo').innerText(), /"__proto__": 1/);

  await page.getByRole('button', { name: 'Another event' }).click();
  await page.getByLabel('Event', { exact: true }).fill('nobody:knows');
  await page.getByRole('button', { name: 'Send' }).click();
  await shows(page, '#outcome', /^unknown_event: /);
  noErrors(page);
});

test('what is wrong with what was saved stands on top until it is mended', async (t) => {
  const server = await start(t);
  const page = await open(t, server);
  await page.getByRole('button', { name: 'order:place', exact: true }).waitFor();
  save(server, 'shop.ts', SHOP.replace('console.log(', 'console log('));
  await shows(page, '#problems', /shop was refused; what was there before goes on serving[\s\S]*shop\.ts:18:17: Expected/);
  await entry(page, 'refused', 'shop').waitFor();
  await keepScreenshot(page, 'playground-problem');
  save(server, 'shop.ts', SHOP.replace('echo: event', '"echo:more": event'));
  await page.getByRole('button', { name: 'echo:more', exact: true }).waitFor();
  await page.locator('#problems').waitFor({ state: 'hidden' });
  await entry(page, 'reloaded', 'shop').waitFor();
  assert.equal(await page.getByRole('button', { name: 'echo', exact: true }).count(), 0);

  // Nothing serves of one that never did, and mixlab.toml is a file, too.
  const config = (more) => writeFileSync(server.configPath, `${WEB}${more}`);
  save(server, 'late.ts', 'export default 7;');
  config('[[plugins]]\nname = "shop"\npath = "scripts/shop.ts"\ngrants = ["emit", "everyone"]\n[[plugins]]\nname = "late"\npath = "scripts/late.ts"\n');
  await shows(page, '#problems', /late was refused, and does not serve/);
  config('[[plugins]\n');
  await shows(page, '#problems', /mixlab\.toml was refused/);
  noErrors(page);
});

const HOSTILE = '</p><img src=x onerror=alert(1)><script>document.title="owned"</script>${x}\u202e';

test('texts of plugins, clients and the log are texts', async (t) => {
  const text = `import { event, plugin, t } from "mixlab";
const text = ${JSON.stringify(HOSTILE)};
const of = (schema) => ({ title: text, description: text, ...schema });
const many = Object.fromEntries(Array.from({ length: 250 }, (_, number) => ["field " + number, { type: "string" }]));
const all = t.schema(of({ type: "object", required: [text, "__proto__", "many"], properties: {
    [text]: of({ enum: [text] }),
    ["__proto__"]: of({ const: text }),
    many: { type: "object", required: Object.keys(many), properties: many },
} }));
export default plugin({ name: text, emits: { [text.slice(0, 100)]: [t.any()] } }, {
    [text.slice(0, 100)]: event({ access: "anyone", args: [all] }, () => {}),
    say: event({ access: "anyone" }, (cx, said) => {
        console.error(text, said);
        cx.emit(text.slice(0, 100), said);
        return said;
    }),
});`;
  const server = await start(t, { plugins: [{ script: 'hostile.ts', text, grants: ['emit'] }] });
  const page = await open(t, server);
  await page.locator('#events li button').first().click();
  await page.locator('#arguments').getByText('onerror').first().waitFor();
  // What is too much for a form is JSON.
  await page.getByLabel('many', { exact: true }).fill('{}');
  await choose(page, 'say');
  await page.getByLabel('Arguments, a list').fill(JSON.stringify([HOSTILE]));
  await page.getByRole('button', { name: 'Send' }).click();
  await shows(page, '#outcome', /^Handled\.$/);
  await shows(page, '#feed li[data-kind="error"] pre', /onerror/);
  await shows(page, '#feed li[data-kind="got"] .name', /onerror/);
  save(server, 'hostile.ts', `throw new Error(${JSON.stringify(HOSTILE)});`);
  await shows(page, '#problems', /onerror/);
  assert.equal(await page.locator('img, body script, iframe').count(), 0);
  assert.equal(await page.title(), 'MixLab · playground');
  assert.ok(!(await page.locator('body').innerText()).includes('\u202e'));
  noErrors(page);
});

test('tokens and news are for the pages of this server that have its key', async (t) => {
  const server = await start(t);
  const key = new URLSearchParams(new URL(await link(server)).hash.slice(1)).get('key');
  const answer = async (method, path, headers, body = '') => {
    const lines = { host: server.address, connection: 'close', 'content-length': body.length, ...headers };
    const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}`);
    const { end } = await tcp(t, server, [`${method} ${path} HTTP/1.1`, ...head, '', body].join('\r\n'));
    return Number((await end()).split(' ', 2)[1]);
  };
  const bearer = { authorization: `Bearer ${key}` };
  const user = JSON.stringify({ id: '7', username: null, roles: ['admin'] });
  for (const [headers, expected] of [
    [bearer, 200],
    [{ ...bearer, origin: server.url }, 200],
    [{}, 401],
    [{ authorization: `Bearer ${key.slice(1)}0` }, 401],
    [{ ...bearer, origin: 'http://evil.example.com' }, 403],
    [{ ...bearer, origin: 'http://127.0.0.1:1' }, 403],
    [{ ...bearer, origin: 'null' }, 403],
    [{ ...bearer, host: 'evil.example.com' }, 404],
    [{ ...bearer, host: 'evil.example.com', origin: 'http://evil.example.com' }, 404],
    [{ ...bearer, 'x-forwarded-for': '203.0.113.9' }, 404],
  ]) {
    assert.equal(await answer('POST', '/mixlab/play/token', headers, user), expected, JSON.stringify(headers));
    if (expected !== 200) assert.equal(await answer('GET', '/mixlab/play/news/0', headers), expected, JSON.stringify(headers));
  }
  for (const wrong of ['', '[]', '{"id":""}', '{"id":"7","roles":[""]}', '{"id":"7","exp":1}', '{"id":"\\n"}']) {
    assert.equal(await answer('POST', '/mixlab/play/token', bearer, wrong), 400, wrong);
  }
  for (const path of ['', '/play.js', '/form.js', '/play.css']) {
    assert.equal(await answer('GET', `/mixlab/play${path}`, {}), 200);
    assert.equal(await answer('GET', `/mixlab/play${path}`, { host: 'evil.example.com' }), 404);
  }
  const { headers } = await server.api('GET', '/mixlab/play', undefined, null);
  assert.match(headers.get('content-security-policy'), /^default-src 'none'; script-src 'self';.* frame-ancestors 'none'/);

  // A page without the key is told where it is.
  const page = await openPage(t, browser, `${server.url}/mixlab/play`);
  await shows(page, '#notice', /the link to the playground that `mixlab up` has printed/);
  // Nor does the server wait for who looks on.
  await open(t, server);
  assert.equal(await server.stop(), 0);
});

test('a server that others reach, or that has a secret, has no playground', async (t) => {
  const secret = { JWT_SECRET: 'a secret of more than thirty-two bytes, for tests' };
  for (const options of [
    { listen: '0.0.0.0:0', env: secret },
    { env: secret },
    { env: TRYING_OUT, config: `${WEB}[limits]\ntrusted_proxies = ["127.0.0.1"]\n` },
    { env: TRYING_OUT, config: `${WEB}[auth]\nenabled = false\n` },
  ]) {
    const server = await start(t, options);
    for (const [method, path] of [['GET', ''], ['GET', '/play.js'], ['GET', '/news/0'], ['POST', '/token']]) {
      const { status } = await fetch(`http://127.0.0.1:${server.port}/mixlab/play${path}`, { method });
      assert.equal(status, 404, `${JSON.stringify(options)} ${method} ${path}`);
    }
    assert.doesNotMatch(server.output(), /\/mixlab\/play/);
  }
  // A configuration that gives tokens to others ends it.
  const server = await start(t);
  const playground = await link(server);
  assert.equal((await fetch(playground)).status, 200);
  writeFileSync(server.configPath, `${WEB}[auth]\nenabled = false\n[[plugins]]\nname = "shop"\npath = "scripts/shop.ts"\n`);
  await until(async () => (await fetch(playground)).status === 404);
});

test('a build that fails stands on top, and what was built before goes on', async (t) => {
  const server = await start(t, { args: ['--watch'] });
  const page = await open(t, server);
  const source = join(server.folder, 'source');
  mkdirSync(source);
  cpSync(wasm('echo'), join(server.folder, 'component.wasm'));
  const build = 'printf "\\033[1ma.c:3: a \\342\\200\\256fault\\033[0m\\n" >&2; ! grep -q fault a.c && cp ../component.wasm "$MIXLAB_OUT"';
  writeFileSync(join(source, 'a.c'), 'good');
  writeFileSync(server.configPath, `${WEB}[[plugins]]\nname = "built"\npath = "built/built.wasm"\nsource = "source"\nbuild = ${JSON.stringify(build)}\n`);
  await page.locator('#events h3', { hasText: 'built' }).waitFor();
  writeFileSync(join(source, 'a.c'), 'fault');
  await shows(page, '#problems', /built was refused; what was there before goes on serving\s+plugin "built" is not built: .* ended with exit status: 1\s+a\.c:3: a \\u\{202e\}fault$/);
  await keepScreenshot(page, 'playground-build');
  assert.equal(await page.locator('#events h3', { hasText: 'built' }).count(), 1);
  writeFileSync(join(source, 'a.c'), 'good again');
  await page.locator('#problems').waitFor({ state: 'hidden' });
  noErrors(page);
});
