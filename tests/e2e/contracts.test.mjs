// What the plugins' contracts become: types of TypeScript, AsyncAPI, a page; and the HTTP API as OpenAPI.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import Ajv from 'ajv';
import Ajv2020 from 'ajv/dist/2020.js';
import { keepScreenshot, launch, openPage } from '../support/browser.mjs';
import { connect, nextEvent } from '../support/client.mjs';
import { API_KEY, makeFolder, ROOT, startServer } from '../support/server.mjs';
import { tcp } from '../support/tcp.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const ASYNCAPI = createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0.json');
const TSC = join(ROOT, 'tests/node_modules/typescript/bin/tsc');

const PLUGINS = [
  { wasm: 'custom-event', grants: ['emit:custom_response'] },
  { wasm: 'booking', grants: ['role:admin:new_booking', 'notify'] },
  { wasm: 'chat', grants: ['room:chat:*', 'emit:chat:*', 'presence:chat:*', 'history:chat:*'], config: { page: 50 } },
];

const HOSTILE = '*/ }; "`\'</code></script><script>document.title="owned"</script><img src=x onerror=alert(1)>\u202e\u2028\n${x}';

/** A script that says this wherever it may say something. */
const hostileScript = `
import { event, plugin, t } from "mixlab";
const text = ${JSON.stringify(HOSTILE)};
const of = (schema) => t.schema({ title: text, description: text, ...schema });
const type = of({ type: "object", required: [text], properties: { [text]: { enum: [text], description: text } } });
export default plugin({ name: text, emits: { [text]: [type] } }, {
  [text.slice(0, 100)]: event({ args: [type], reply: type, roles: [text], limit: { user: "1/1s" } }, () => ({})),
});
`;

const ORDERS = `
import { event, plugin, t } from "mixlab";
const order = t.object({ item: t.string({ min: 1, max: 40 }), count: t.integer({ min: 1 }) });
export default plugin({ emits: { ordered: [order, t.bytes()] } }, {
  "order:place": event({ access: "anyone", args: [order, t.optional(t.bytes())], reply: order }, (cx, order) => order),
});
`;

/** Names that could be taken for what is made of others, and a list whose lengths multiply. */
const TANGLED = `
import { event, plugin, t } from "mixlab";
let lists = t.string();
for (let depth = 0; depth < 5; depth += 1) lists = t.array(lists, { max: 16 });
const open = (args, reply) => event({ access: "anyone", args, reply }, () => 1);
export default plugin({ emits: { "x": [t.string()], "x:reply": [t.number()] } }, {
  "x": open([t.string()], t.boolean()),
  "x:reply": open([t.number()], t.string()),
  "x:failure": open([t.null()]),
  "failure": open([t.boolean()]),
  lists: open([lists]),
});
`;

const server = await startServer(
  { after },
  {
    config: '[[api.keys]]\nname = "none"\nkey = "key-of-nothing"\nrights = []\n',
    plugins: [...PLUGINS, { script: 'orders.js', text: ORDERS }, { script: 'hostile.js', text: hostileScript }, { script: 'tangled.js', text: TANGLED }],
  },
);
const get = (path, headers) => server.api('GET', path, undefined, null, headers);

/** A folder in which tsc finds Socket.IO's client. */
function workspace(t) {
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-types-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  symlinkSync(join(ROOT, 'tests/node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  return {
    folder,
    /** What tsc says of these files, as `FILE:LINE TSCODE`. */
    tsc(files) {
      for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
      const options = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'nodenext', '--skipLibCheck', 'false'];
      const lib = ['--lib', 'es2022,dom', '--types', 'node'];
      const { stdout } = spawnSync(process.execPath, [TSC, ...options, ...lib, ...Object.keys(files)], { cwd: folder, encoding: 'utf8' });
      return [...stdout.matchAll(/^(\S+?)\((\d+),\d+\): error (TS\d+)/gm)].map(([, file, line, code]) => `${file}:${line} ${code}`);
    },
  };
}

const CLIENT = `
import { io, type Socket } from "socket.io-client";
import type { ClientToServerEvents, MixlabFailure, ServerToClientEvents } from "./events.js";

const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io();
socket.emit("authenticate", "token");
socket.emit("subscribe:payments");
socket.emit("custom_event", 1, "two");
socket.on("new_booking", (booking) => booking.studio.toUpperCase());
socket.on("mixlab:error", ({ error }) => console.log(error.code, error.retry_after_ms?.toFixed()));
socket.on("notification", (notification) => console.log(notification.timestamp, notification.title));
socket.on("presence", ({ room, joined }) => console.log(room, joined.map((member) => member.id)));
socket.emit("booking:create", { studio: "A", start: "2026-12-24T18:00", hours: 2 }, (reply) => {
  if ("error" in reply) return console.log(reply.error.message);
  return console.log(reply.id, reply.hours.toFixed());
});
const booked = await socket.timeout(1000).emitWithAck("booking:create", { studio: "A", start: "2026-12-24T18:00", hours: 2 });
const failure: MixlabFailure | undefined = "error" in booked ? booked : undefined;
socket.emit("chat:leave", { room: "hall" });
console.log(failure);
`;

test('tsc takes a client that keeps the contracts, and none that does not', async (t) => {
  const { tsc } = workspace(t);
  const home = makeFolder(t, { plugins: PLUGINS });
  const { code, stdout, stderr } = await home.mixlab('types', 'events.d.ts');
  assert.equal(code, 0, stderr);
  assert.equal(stdout, 'wrote events.d.ts\n');
  const types = readFileSync(join(home.folder, 'events.d.ts'), 'utf8');
  const begin = CLIENT.split('\n').slice(0, 5).join('\n');
  assert.deepEqual(
    tsc({
      'events.d.ts': types,
      'right.ts': CLIENT,
      // Line 6 of each: another type, another field, an event that is none.
      'wrong-type.ts': `${begin}\nsocket.emit("booking:create", { studio: "A", start: "now", hours: "2" }, () => {});`,
      'wrong-field.ts': `${begin}\nsocket.on("new_booking", (booking) => booking.price);`,
      'wrong-event.ts': `${begin}\nsocket.emit("booking:creat", { studio: "A", start: "now", hours: 2 }, () => {});`,
      'wrong-namespace.ts': `${begin}\nconst other: ServerToClientEvents<"/none"> = {};`,
      'wrong-reply.ts': `${begin}\n(await socket.emitWithAck("chat:join", { room: "hall" })).members;`,
    }),
    ['wrong-event.ts:6 TS2345', 'wrong-field.ts:6 TS2339', 'wrong-namespace.ts:6 TS2344', 'wrong-reply.ts:6 TS2339', 'wrong-type.ts:6 TS2322'],
  );
  // What it is called by decides nothing.
  const { stdout: printed } = await home.mixlab('types');
  assert.equal(printed, types);
});


test('what is served is what the command writes, for the plugins that serve now', async (t) => {
  const { code, stderr } = await server.mixlab('docs', 'docs');
  assert.equal(code, 0, stderr);
  for (const [file, path, type] of [
    ['index.html', '', 'text/html; charset=utf-8'],
    ['events.d.ts', 'events.d.ts', 'text/plain; charset=utf-8'],
    ['asyncapi.json', 'asyncapi.json', 'application/json'],
    ['openapi.json', 'openapi.json', 'application/json'],
  ]) {
    const { status, headers, body } = await get(`/mixlab/${path}`);
    assert.equal(status, 200, path);
    assert.equal(headers.get('content-type'), type);
    const written = readFileSync(join(server.folder, 'docs', file), 'utf8');
    assert.deepEqual(body, type === 'application/json' ? JSON.parse(written) : written, path);
  }
  const { status, headers } = await get('/mixlab');
  assert.deepEqual([status, headers.get('location')], [307, '/mixlab/']);

  const live = await startServer(t, { plugins: [{ script: 'orders.js', text: ORDERS }] });
  const types = async () => (await live.api('GET', '/mixlab/events.d.ts', undefined, null)).body;
  assert.match(await types(), /"order:place": \(.*item/s);
  writeFileSync(join(live.folder, 'scripts/orders.js'), ORDERS.replace('"order:place"', '"order:take"'));
  await until(async () => /"order:take"/.test(await types()));
});

test('without one of the plugins nothing is written', async (t) => {
  const home = makeFolder(t, { plugins: [{ script: 'orders.js', text: ORDERS }, { script: 'broken.js', text: 'export default' }] });
  for (const args of [['types', 'events.d.ts'], ['docs', 'docs']]) {
    const { code, stdout, stderr } = await home.mixlab(...args);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, /^error: broken: /m);
  }
  assert.ok(!existsSync(join(home.folder, 'events.d.ts')));
});

test('on this machine only', async (t) => {
  const answer = async (to, ...lines) => {
    const { end } = await tcp(t, to, ['GET /mixlab/ HTTP/1.1', ...lines, 'connection: close', '', ''].join('\r\n'));
    return Number((await end()).split(' ', 2)[1]);
  };
  for (const [lines, expected] of [
    [['host: localhost:3000'], 200],
    [['host: [::1]'], 200],
    [['host: 127.1.2.3'], 200],
    [['host: chat.example.com'], 404],
    [['host: localhost.example.com'], 404],
    [['host: 10.0.0.1'], 404],
    [['host: localhost', 'x-forwarded-for: 203.0.113.9'], 404],
    [['host: localhost', 'forwarded: for=203.0.113.9'], 404],
    [['host: localhost', 'via: 1.1 proxy'], 404],
  ]) {
    assert.equal(await answer(server, ...lines), expected, lines.join());
  }
  const secret = { JWT_SECRET: 'a secret of more than thirty-two bytes, for tests' };
  const open = await startServer(t, { listen: '0.0.0.0:0', env: secret });
  assert.equal(await answer({ ...open, address: `127.0.0.1:${open.port}` }, 'host: localhost'), 404);
  const behind = await startServer(t, { config: '[limits]\ntrusted_proxies = ["127.0.0.1"]\n' });
  assert.equal(await answer(behind, 'host: localhost'), 404);
  // The links of who tries it out lead somewhere.
  const trying = await startServer(t, { env: { JWT_SECRET: undefined } });
  const [, page] = await until(() => trying.output().match(/^ +docs +(\S+)$/m));
  assert.equal((await fetch(page)).status, 200);
});

test('the AsyncAPI document is one, and the host keeps its own contracts in it', async (t) => {
  const { body: document } = await get('/mixlab/asyncapi.json');
  // Draft 7 is a part of it.
  const ajv = new Ajv({ strict: false, validateFormats: false, meta: false, validateSchema: false });
  const isValid = ajv.validate(ASYNCAPI, document);
  assert.ok(isValid, JSON.stringify(ajv.errors, null, 1));

  const payload = (reference) => {
    const at = (path) => path.slice(2).split('/').reduce((value, key) => value[key], document);
    return at(at(reference.$ref).payload.$ref).schema;
  };
  const schemas = new Ajv2020({ strict: false, validateFormats: false });
  const named = (title, action) =>
    Object.values(document.operations).find((operation) => operation.title === title && operation.action === action);
  const keeps = (schema, value) => assert.ok(schemas.validate(schema, value), JSON.stringify([value, schemas.errors]));

  const socket = await connect(t, server);
  const told = (event) => nextEvent(socket, event);
  const authenticated = told('authenticated');
  const authenticate = named('authenticate', 'receive');
  const [reply, failure] = authenticate.reply.messages.map(payload);
  keeps(reply, [await socket.emitWithAck('authenticate', token({ sub: 7, role: 'admin' }))]);
  keeps(payload(named('authenticated', 'send').messages[0]), await authenticated);
  keeps(failure, [await socket.emitWithAck('authenticate', 'none')]);
  const error = told('mixlab:error');
  socket.emit('order:place', 7);
  keeps(payload(named('mixlab:error', 'send').messages[0]), await error);
  const subscribe = named('subscribe:payments', 'receive');
  keeps(payload(subscribe.reply.messages[0]), [await socket.emitWithAck('subscribe:payments')]);
  const update = told('payment_update');
  await server.api('POST', '/api/v1/payments/updates', { id: 1 });
  keeps(payload(named('payment_update', 'send').messages[0]), await update);
  const notification = told('notification');
  await server.api('POST', '/api/v1/users/7/notifications', { title: 'x' });
  keeps(payload(named('notification', 'send').messages[0]), await notification);
  const presence = told('presence');
  await socket.emitWithAck('chat:join', { room: 'hall' });
  keeps(payload(named('presence', 'send').messages[0]), await presence);
  assert.equal(schemas.validate(payload(named('presence', 'send').messages[0]), [{}]), false);
});

test('each operation has messages of its own, and the same schema stands there once', async () => {
  const { body: document } = await get('/mixlab/asyncapi.json');
  const at = ({ $ref }) => $ref.slice(2).split('/').reduce((value, key) => value[key], document);
  for (const { title, messages, reply } of Object.values(document.operations)) {
    for (const message of messages) assert.equal(at(message).name, title);
    for (const message of reply?.messages ?? []) assert.equal(at(message).name, 'ack', title);
  }
  const { messages, reply } = Object.values(document.operations).find(({ title, action }) => title === 'x' && action === 'receive');
  const first = (message) => at(at(message).payload).schema.prefixItems[0].type;
  assert.deepEqual([first(messages[0]), first(reply.messages[0])], ['string', 'boolean']);
  const schemas = Object.values(document.components.schemas).map(({ schema }) => JSON.stringify(schema));
  const failures = schemas.filter((schema) => schema.includes('"retry_after_ms"') && !schema.includes('"success"'));
  assert.equal(failures.length, 1);
});

test('a type that several events have is declared once, and no list is written out endlessly', async (t) => {
  const { body: types } = await get('/mixlab/events.d.ts');
  const declared = (pattern) => [...types.matchAll(/^export type (\w+) = /gm)].map(([, name]) => name).filter((name) => pattern.test(name));
  assert.deepEqual(declared(/Booking$/), ['Booking']);
  assert.deepEqual(declared(/Room(_\d+)?$/).filter((name) => !/InRoom$/.test(name)), ['Room']);
  assert.match(types, /"booking:create": \(data: \w+, ack: \(data: Booking \| MixlabFailure\) => void\) => void;/);
  assert.match(types, /"new_booking": \(data: Booking\) => void;/);
  assert.ok(types.length < 100_000, `${types.length}`);
  const { tsc } = workspace(t);
  assert.deepEqual(tsc({ 'events.d.ts': types }), []);
});

test('what a plugin says is no code in TypeScript', async (t) => {
  const { body: types } = await get('/mixlab/events.d.ts');
  const { tsc } = workspace(t);
  const client = `
import { io, type Socket } from "socket.io-client";
import type { ClientToServerEvents, ServerToClientEvents } from "./events.js";
const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io();
const text = ${JSON.stringify(HOSTILE)} as const;
socket.on(text, (data) => data[text]);
socket.emit("order:place", { item: "tea", count: 1 }, new Uint8Array(2), (order) => "error" in order || order.item);
socket.on("ordered", (order, bytes) => console.log(order.count, bytes.byteLength));
`;
  assert.deepEqual(tsc({ 'events.d.ts': types, 'client.ts': client }), []);
});

test('the page can be read, and nothing in it runs', async (t) => {
  const browser = await launch(t);
  const page = await openPage(t, browser, `${server.url}/mixlab/`);
  await keepScreenshot(page, 'contracts');
  assert.equal(await page.title(), 'Events of this MixLab server');
  assert.equal(await page.locator('script, img').count(), 0);
  await page.locator('nav a', { hasText: 'booking:create' }).click();
  const section = page.locator('section:target');
  assert.match(await section.innerText(), /Who may send it: authenticated\.\s+How often: 10\/1m by user\./);
  await section.locator('summary').first().click();
  assert.match(await section.locator('details pre').first().innerText(), /"prefixItems"/);
  await page.setViewportSize({ width: 390, height: 800 });
  await keepScreenshot(page, 'contracts-small');
  const isWide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  assert.ok(!isWide);
  assert.deepEqual(page.errors, []);
});

// The HTTP API.

const OPENAPI = JSON.parse(readFileSync(join(ROOT, 'host/openapi.json'), 'utf8'));
const operations = Object.entries(OPENAPI.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
);

/** What `$ref` names, or the value itself. */
const resolved = (value) => (value.$ref ? value.$ref.slice(2).split('/').reduce((at, key) => at[key], OPENAPI) : value);

const bodies = new Ajv2020({ strict: false, validateFormats: false });
bodies.addSchema({ $id: 'openapi', ...OPENAPI });

/** Fails unless an answer is one that the operation says it gives. */
function assertDocumented(operation, { status, headers, body }) {
  const of = `${operation.method} ${operation.path}: ${status} ${JSON.stringify(body)}`;
  const response = operation.responses[status];
  assert.ok(response, of);
  const [[type, { schema }]] = Object.entries(resolved(response).content);
  assert.equal(headers.get('content-type').split(';')[0], type, of);
  if (type !== 'application/json') return;
  const isValid = bodies.validate(JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"openapi#/')), body);
  assert.ok(isValid, `${of}\n${JSON.stringify(bodies.errors)}`);
}

/** A request as its example is, with a path that leads somewhere. */
function call(operation, { key = API_KEY, body = operation.requestBody?.content['application/json'].example, path, headers } = {}) {
  const to = path ?? operation.path.replaceAll(/\{(\w+)\}/g, (_, name) => ({ id: '7', role: 'admin', event: 'news', plugin: 'chat' })[name]);
  return server.api(operation.method, to, body, key, headers);
}

test('the OpenAPI document is one, and has the routes that the server has', async () => {
  const { valid, errors } = await new Validator({ strict: false }).validate(structuredClone(OPENAPI));
  assert.ok(valid, JSON.stringify(errors));
  const source = readFileSync(join(ROOT, 'host/src/api/mod.rs'), 'utf8');
  const routes = [...source.matchAll(/\(\s*"(\/[^"]+)",\s*(get|post)\(/g)].map(([, path, method]) => `${method} ${path}`);
  assert.ok(routes.length > 10, `${routes}`);
  assert.deepEqual(operations.map(({ method, path }) => `${method.toLowerCase()} ${path}`).sort(), routes.sort());
});

for (const operation of operations.filter(({ operationId }) => !['drain', 'upgrade', 'rollBackPlugin'].includes(operationId))) {
  test(`OpenAPI: ${operation.operationId} answers as it says`, async (t) => {
    const client = await connect(t, server, { token: token({ sub: '7' }) });
    const path = operation.operationId === 'getSocket' ? `/api/v1/sockets/${client.id}` : undefined;
    const answer = await call(operation, { path });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    assertDocumented(operation, answer);
    const refused = await server.api(operation.method === 'GET' ? 'POST' : 'GET', operation.path.replaceAll(/[{}]/g, ''));
    assert.equal(refused.status, 405);
    if (operation.security) return;
    for (const [key, status] of [[null, 401], ['key-of-nothing', 403]]) {
      const refusal = await call(operation, { key });
      assert.equal(refusal.status, status, operation.path);
      assertDocumented(operation, refusal);
    }
    if (!operation.requestBody) return;
    for (const [body, status] of [['{', 400], [`"${'x'.repeat(2 << 20)}"`, 413]]) {
      const refusal = await call(operation, { body });
      assert.equal(refusal.status, status, operation.path);
      assertDocumented(operation, refusal);
    }
  });
}

test('OpenAPI: what else can be wrong with a push is there', async () => {
  const emit = operations.find(({ operationId }) => operationId === 'emit');
  const notify = operations.find(({ operationId }) => operationId === 'sendUserNotification');
  const headers = { 'idempotency-key': 'once' };
  const one = { everyone: true, event: 'news', arguments: [1] };
  for (const [operation, options, status] of [
    [emit, { body: [one, one] }, 200],
    [emit, { body: one, headers }, 200],
    [emit, { body: { ...one, arguments: [2] }, headers }, 422],
    [emit, { body: { event: 'news' } }, 400],
    [emit, { body: { ...one, more: 1 } }, 400],
    [emit, { body: Array(1001).fill(one) }, 413],
    [notify, { path: `/api/v1/users/${'7'.repeat(200)}/notifications` }, 400],
  ]) {
    const answer = await call(operation, options);
    assert.equal(answer.status, status, JSON.stringify(answer.body));
    assertDocumented(operation, answer);
  }
  // What the server refuses, the document does not allow.
  const allows = (body) => bodies.validate({ $ref: 'openapi#/components/schemas/Emit' }, body);
  assert.deepEqual([allows(one), allows({ ...one, more: 1 }), allows({ everyone: true })], [true, false, false]);
});

test('OpenAPI: a server that no process can follow says why', async (t) => {
  const recorded = await startServer(t, { args: ['--record', 'calls.jsonl'] });
  const upgrade = operations.find(({ operationId }) => operationId === 'upgrade');
  assertDocumented(upgrade, await recorded.api('POST', '/api/v1/upgrade', undefined, null));
  const answer = await recorded.api('POST', '/api/v1/upgrade');
  assert.deepEqual([answer.status, answer.body], [200, { refused: 'it was started with --record' }]);
  assertDocumented(upgrade, answer);
});

test('OpenAPI: a server that leaves says so', async (t) => {
  const leaving = await startServer(t, {});
  const drain = operations.find(({ operationId }) => operationId === 'drain');
  const ready = operations.find(({ operationId }) => operationId === 'ready');
  assertDocumented(drain, await leaving.api('POST', '/api/v1/drain', undefined, null));
  const answer = await leaving.api('POST', '/api/v1/drain');
  assert.equal(answer.status, 200);
  assertDocumented(drain, answer);
  const unready = await leaving.api('GET', '/readyz', undefined, null);
  assert.equal(unready.status, 503);
  assertDocumented(ready, unready);
});
