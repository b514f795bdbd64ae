// What an author of a script is told of a wrong argument, and of what a handler throws: the function, the argument and
// the line.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { plugin } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

/** Calls with a wrong argument, and what is said of them. */
const WRONG = [
  ['cx.emit()', 'cx.emit: event must be a string, not undefined'],
  ['cx.emit({ event: "a" })', 'cx.emit: event must be a string, not an object'],
  ['cx.emit(5)', 'cx.emit: event must be a string, not 5'],
  ['cx.volatileEmit(null)', 'cx.volatileEmit: event must be a string, not null'],
  ['cx.ask(undefined)', 'cx.ask: event must be a string, not undefined'],
  ['cx.timeout("1s").ask(1n)', 'cx.ask: event must be a string, not a bigint'],
  ['cx.timeout("soon")', 'cx.timeout: duration: "soon" is no duration: write milliseconds as a number, or "250ms", "5s", "10m", "1h", "2d"'],
  ['cx.timeout()', 'cx.timeout: duration: undefined is no duration'],
  ['cx.timeout("60d")', 'cx.timeout: duration: "60d" is too long'],
  ['cx.timeout(Infinity)', 'cx.timeout: duration: Infinity is no duration'],
  ['cx.timeout(["5s"])', 'cx.timeout: duration: an array is no duration'],
  ['cx.broadcast.timeout(-1)', 'selection.timeout: duration: -1 is no duration'],
  ['cx.join(undefined)', 'cx.join: room must be a string, not undefined'],
  ['cx.join("a", 5)', 'cx.join: room must be a string, not 5'],
  ['cx.join(["a", "b"])', 'cx.join: room must be a string, not an array'],
  ['cx.leave(null)', 'cx.leave: room must be a string, not null'],
  ['cx.to(undefined)', 'cx.to: room must be a string, not undefined'],
  ['cx.to(["a", "b"])', 'cx.to: room must be a string, not an array'],
  ['cx.to()', 'cx.to: it takes one room at least'],
  ['cx.toUser(undefined)', 'cx.toUser: id must be a string or a number, not undefined'],
  ['cx.toUser(cx.user)', 'cx.toUser: id must be a string or a number, not an object'],
  ['cx.toRole({})', 'cx.toRole: role must be a string, not an object'],
  ['cx.toSocket(undefined)', 'cx.toSocket: id must be a string, not undefined'],
  ['cx.of()', 'cx.of: namespace must be a string, not undefined'],
  ['cx.to("a").to(undefined)', 'selection.to: room must be a string, not undefined'],
  ['cx.to("a").except(undefined)', 'selection.except: room must be a string, not undefined'],
  ['cx.to("a").of(1)', 'selection.of: namespace must be a string, not 1'],
  ['cx.to("a").keep()', 'selection.keep: topic must be a string, not undefined'],
  ['cx.to("a").emit()', 'selection.emit: event must be a string, not undefined'],
  ['cx.to("a").ask({})', 'selection.ask: event must be a string, not an object'],
  ['cx.to("a").join()', 'selection.join: room must be a string, not undefined'],
  ['cx.to("a").leave()', 'selection.leave: room must be a string, not undefined'],
  ['cx.store.get()', 'cx.store.get: key must be a string, not undefined'],
  ['cx.store.getBytes(5)', 'cx.store.getBytes: key must be a string, not 5'],
  ['cx.store.exists({})', 'cx.store.exists: key must be a string, not an object'],
  ['cx.store.scan()', 'cx.store.scan: prefix must be a string, not undefined'],
  ['cx.store.scan("a", { after: 5 })', 'cx.store.scan: after must be a string, not 5'],
  ['cx.store.scan("a", { limit: "10" })', 'cx.store.scan: limit must be a whole number from 0 to 4294967295, not "10"'],
  ['cx.store.scan("a", { limit: -1 })', 'cx.store.scan: limit must be a whole number from 0 to 4294967295, not -1'],
  ['cx.store.scan("a", 10)', 'cx.store.scan: options must be an object, not 10'],
  ['cx.store.set("k")', 'cx.store.set: value must be JSON or a Uint8Array, not undefined'],
  ['cx.store.set("k", () => 1)', 'cx.store.set: value must be JSON or a Uint8Array, not a function'],
  ['cx.store.set("k", cx.store.get("a"))', 'cx.store.set: value must be JSON or a Uint8Array, not a promise'],
  ['cx.store.set(undefined, 1)', 'cx.store.set: key must be a string, not undefined'],
  ['cx.store.set("k", 1, { ttl: "5 s" })', 'cx.store.set: ttl: "5 s" is no duration'],
  ['cx.store.set("k", 1, { ttl: "soon" })', 'cx.store.set: ttl: "soon" is no duration'],
  ['cx.store.set("k", 1, { tll: "5s" })', 'cx.store.set knows no "tll"; it knows ttl'],
  ['cx.store.set("k", 1, "5s")', 'cx.store.set: options must be an object, not "5s"'],
  ['cx.store.delete()', 'cx.store.delete: key must be a string, not undefined'],
  ['cx.store.add()', 'cx.store.add: key must be a string, not undefined'],
  ['cx.store.add("k", "1")', 'cx.store.add: delta must be a whole number, not "1"'],
  ['cx.store.add("k", 1.5)', 'cx.store.add: delta must be a whole number, not 1.5'],
  ['cx.store.update("k")', 'cx.store.update: change must be a function, not undefined'],
  ['cx.store.update("k", () => 1, { ttl: "5 s" })', 'cx.store.update: ttl: "5 s" is no duration'],
  ['cx.store.update("k", () => {})', 'cx.store.update: what change returns must be JSON or a Uint8Array, not undefined', null],
  ['cx.bucket()', 'cx.bucket: name must be a string, not undefined'],
  ['cx.bucket("shared").get()', 'cx.bucket("shared").get: key must be a string, not undefined'],
  ['cx.timers.set()', 'cx.timers.set: name must be a string, not undefined'],
  ['cx.timers.set("t", () => 1)', 'cx.timers.set: payload must be JSON, not a function'],
  ['cx.timers.set("t", 1, "5s")', 'cx.timers.set: options must be an object, not "5s"'],
  ['cx.timers.set("t", 1, { in: "5s" })', 'cx.timers.set knows no "in"; it knows after, at, every, serial'],
  ['cx.timers.set("t", 1, { after: "5 s" })', 'cx.timers.set: after: "5 s" is no duration'],
  ['cx.timers.set("t", 1, { every: "soon" })', 'cx.timers.set: every: "soon" is no duration'],
  ['cx.timers.set("t", 1, { after: 1, at: 1 })', 'cx.timers.set: either after or at'],
  ['cx.timers.set("t", 1, { at: "tomorrow" })', 'cx.timers.set: at must be a Date or milliseconds since 1970, not "tomorrow"'],
  ['cx.timers.set("t", 1, { at: new Date("x") })', 'cx.timers.set: at must be a Date or milliseconds since 1970, not an invalid Date'],
  ['cx.timers.set("t", 1, { at: -1 })', 'cx.timers.set: at must be a Date or milliseconds since 1970, not -1'],
  ['cx.timers.set("t", 1, { after: 1e300 })', 'cx.timers.set: after: 1e+300 is too long'],
  ['cx.timers.set("t", 1, { serial: 5 })', 'cx.timers.set: serial must be a string, not 5'],
  ['cx.timers.cancel()', 'cx.timers.cancel: name must be a string, not undefined'],
  ['cx.presence()', 'cx.presence: room must be a string, not undefined'],
  ['cx.presence("a").enter(Symbol("x"))', 'presence.enter: data must be JSON, not a symbol'],
  ['cx.data = () => 1', 'cx.data: what it is set to must be JSON, not a function'],
  ['cx.history()', 'cx.history: topic must be a string, not undefined'],
  ['cx.history("t", { position: 5 })', 'cx.history: position must be a string, not 5'],
  ['cx.history("t", { limit: NaN })', 'cx.history: limit must be a whole number from 0 to 4294967295, not NaN'],
  ['cx.broadcastToRole(undefined, "e", 1)', 'cx.broadcastToRole: role must be a string, not undefined'],
  ['cx.broadcastToRole("r", undefined, 1)', 'cx.broadcastToRole: event must be a string, not undefined'],
  ['cx.broadcastPaymentUpdate(() => 1)', 'cx.broadcastPaymentUpdate: data must be JSON, not a function'],
  ['cx.sendUserNotification(undefined, {})', 'cx.sendUserNotification: userId must be a string or a number, not undefined'],
  ['reject()', 'reject: code must be a string, not undefined'],
  ['reject(404)', 'reject: code must be a string, not 404'],
  ['reject("a", { why: 1 })', 'reject: message must be a string, not an object'],
  ['reject("a", "b", "5s")', 'reject: options must be an object, not "5s"'],
  ['reject("a", "b", { retryAfter: "5 s" })', 'reject: retryAfter: "5 s" is no duration'],
  ['reject("a", "b", { temporary: "yes" })', 'reject: temporary must be a boolean, not "yes"'],
  ['reject("a", "b", { retry: "5s" })', 'reject knows no "retry"; it knows temporary, retryAfter, details'],
  ['new Rejection()', 'Rejection: code must be a string, not undefined'],
  ['new Refusal()', 'Refusal: message must be a string, not undefined'],
  ['fetch()', 'fetch: url must be a string or a URL, not undefined'],
  ['fetch("http://x", { method: 5 })', 'fetch: method must be a string, not 5'],
  ['cx.emit("😀".slice(0, 1))', 'cx.emit: event has half a surrogate pair, which is no character: "\\ud83d"'],
  ['cx.to("😀".slice(1)).emit("a")', 'cx.to: room has half a surrogate pair'],
  ['cx.store.get("😀".slice(0, 1))', 'cx.store.get: key has half a surrogate pair'],
  ['fetch("http://x", { timeout: "5 s" })', 'fetch: timeout: "5 s" is no duration'],
];

/** A script of an event for each, one a line from the second on, which answers what was thrown. */
const script = (cases) => `import { event, plugin, Refusal, reject, Rejection } from "mixlab"; const told = (does) => event({ access: "anyone" }, async (cx) => { try { await does(cx); } catch (error) { return [error.name, error.message, error.stack]; } }); export default plugin({
${cases.map(([call], number) => `"${number}": told((cx) => { return ${call}; }),`).join('\n')}
}).onTimer(() => {});
`;
const GRANTS = ['emit', 'everyone', 'room:*', 'user:*', 'role:*', 'socket', 'namespace:/other', 'ask', 'store', 'store:shared', 'timers', 'presence:*', 'history:*', 'payments', 'notify', 'handshake', 'http:http://x'];
const ADA = { sub: 'ada', roles: [] };

test('a wrong argument is told with the function, the argument and the line', async (t) => {
  const server = await startServer(t, { plugins: [{ script: 'wrong.js', text: script(WRONG), grants: GRANTS }] });
  const client = await connect(t, server, { token: token(ADA) });
  const wrong = [];
  for (const [number, [call, said, place = `wrong.js:${number + 2}:`]] of WRONG.entries()) {
    const answer = await ask(client, `${number}`);
    const [name, message = '', stack = ''] = Array.isArray(answer) ? answer : [JSON.stringify(answer)];
    const isPlaced = place === null || stack.includes(place);
    if (name !== 'TypeError' || !message.startsWith(said) || !isPlaced) wrong.push(`${call}: ${name}: ${message}${isPlaced ? '' : `\n${stack}`}`);
  }
  assert.deepEqual(wrong, []);
});

/** What handlers throw, and what the log says of it; the line of the script is that of the call in it. */
const THROWN = [
  ['throw undefined', /it gave up: undefined was thrown, which is no Error\n.* at thrown\.js:LINE:/],
  ['throw null', /it gave up: null was thrown, which is no Error\n.* at thrown\.js:LINE:/],
  ['throw "a text"', /it gave up: "a text" was thrown, which is no Error\n.* at thrown\.js:LINE:/],
  ['return Promise.reject()', /it gave up: undefined was thrown, which is no Error\n.* at thrown\.js:LINE:/],
  ['throw new Error("outer", { cause: null })', /it gave up: Error: outer\n.* at .*thrown\.js:LINE:.*\n.*Caused by: null/],
  ['const error = new Error("itself"); error.cause = error; throw error', /it gave up: Error: itself\n.* at .*thrown\.js:LINE:.*\n.*Caused by: Error: itself …/],
  ['return Promise.any([Promise.reject(new Error("one")), Promise.reject("two")])', /it gave up: AggregateError.*\n.*Error 1 of 2: Error: one\n.* at .*thrown\.js:LINE:.*\n.*Error 2 of 2: "two"/],
  ['throw new AggregateError([new Error("in", { cause: new Error("deep") })], "all")', /it gave up: AggregateError: all\n.* at .*thrown\.js:LINE:.*\n.*Error 1 of 1: Error: in\n.*\n.*Caused by: Error: deep\n.* at .*thrown\.js:LINE:/],
  ['throw new AggregateError(Array.from({ length: 1000 }, (_, i) => new Error(`number ${i}`)), "many")', /it gave up: AggregateError: many\n[^]*Error 19 of 1000: Error: number 18\n(?![^]*Error 2\d of)/],
  ['throw Object.assign(new AggregateError([]), { errors: 5 })', /it gave up: AggregateError\n.* at .*thrown\.js:LINE:/],
  ['cx.store.update("k", () => {}).then()', /it gave up: TypeError: cx\.store\.update: what change returns must be JSON or a Uint8Array, not undefined\n.* at thrown\.js:LINE:/],
];

/** A rejection with other properties than it was made with, and what the client is told. */
const REJECTED = [
  ['throw Object.assign(new Rejection("full"), { temporary: "yes", retryAfter: "soon" })', { code: 'full', message: '', temporary: false }],
  ['throw Object.assign(new Rejection("full"), { code: 5, message: 7 })', { code: '5', message: '7', temporary: false }],
  ['reject("cut", "😀".slice(0, 1))', null],
  ['throw Object.assign(new Rejection("cut"), { message: "😀".slice(0, 1) })', { code: 'cut', message: '\ufffd', temporary: false }],
];

test('what is thrown is told as it is, with the errors within and the line', async (t) => {
  const cases = [...THROWN, ...REJECTED];
  const text = `import { event, plugin, reject, Rejection } from "mixlab"; const open = { access: "anyone" }; export default plugin({
${cases.map(([does], number) => `"${number}": event(open, (cx) => { ${does}; }),`).join('\n')}
"says": event(open, () => { console.log("half", "😀".slice(0, 1)); return [...new TextEncoder().encode("😀".slice(0, 1))]; }),
});
`;
  const server = await startServer(t, { config: '[breaker]\nfailures = 1000\n', plugins: [{ script: 'thrown.js', text, grants: ['store'] }] });
  const client = await connect(t, server);
  for (const [number, [does, said]] of THROWN.entries()) {
    const before = server.log().length;
    assert.equal((await ask(client, `${number}`)).error.code, 'plugin_error', does);
    const since = () => server.log().slice(before);
    await until(() => new RegExp(said.source.replaceAll('LINE', number + 2)).test(since()), { message: () => `${does}: ${said} in ${since()}` });
  }
  for (const [number, [does, told]] of REJECTED.entries()) {
    const { error } = await ask(client, `${THROWN.length + number}`);
    if (told === null) assert.equal(error.code, 'plugin_error', does);
    else assert.deepEqual(error, told, does);
  }
  await server.waitForLog(/reject: message has half a surrogate pair/);
  assert.deepEqual(await ask(client, 'says'), [0xef, 0xbf, 0xbd]);
  await server.waitForLog(/half \ufffd/);
});

/** What scripts say of themselves that is wrong, from the second line on, and what is said of it. */
const DECLARED = [
  ['plugin({ name: 5 }, {})', 'plugin: name must be a string, not 5'],
  ['plugin({ version: 5 }, {})', 'plugin: version must be a string, not 5'],
  ['plugin({ namespaces: [5] }, {})', 'plugin: a namespace must be a string, not 5'],
  ['plugin({ emits: 5 }, {})', 'plugin: emits must be an object, not 5'],
  ['plugin({ a: event() })', 'event: options must be an object, not undefined'],
  ['plugin({ a: event({}) })', 'event: handler must be a function, not undefined'],
  ['plugin({ a: event({ maxBytes: "5kb" }, () => 1) })', 'event: maxBytes must be a whole number from 0 to 4294967295, not "5kb"'],
  ['plugin({ a: event({ repeatable: "yes" }, () => 1) })', 'event: repeatable must be a boolean, not "yes"'],
  ['plugin({ a: event({ roles: "admin" }, () => 1) })', 'event: roles must be an array, not "admin"'],
  ['plugin({ a: event({ roles: [undefined] }, () => 1) })', 'event: a role must be a string, not undefined'],
  ['plugin({ a: event({ limit: "5/s" }, () => 1) })', 'event: limit: it must be an object, not "5/s"'],
  ['plugin({ a: event({ args: [t.string({ min: "3" })] }, () => 1) })', 't.string: min must be a whole number from 0 to 4294967295, not "3"'],
  ['plugin({ a: event({ args: [t.string(5)] }, () => 1) })', 't.string: options must be an object, not 5'],
  ['plugin({ a: event({ args: [t.number({ max: "3" })] }, () => 1) })', 't.number: max must be a number, not "3"'],
  ['plugin({ a: event({ args: [t.object()] }, () => 1) })', 't.object: fields must be an object, not undefined'],
  ['plugin({ a: event({ args: [t.enum(["a", "b"])] }, () => 1) })', 't.enum: value must be a string, a number, a boolean or null, not an array'],
  ['plugin({ a: event({ args: [t.literal(undefined)] }, () => 1) })', 't.literal: value must be a string, a number, a boolean or null, not undefined'],
  ['plugin({}).filter(undefined, () => {})', 'filter: event must be a string, not undefined'],
  ['plugin({}).every(undefined, "1h", () => {})', 'every: name must be a string, not undefined'],
  ['plugin({}).every("a", "1 h", () => {})', 'every: interval: "1 h" is no duration'],
  ['plugin({}).every("a", "1h", () => {}, "once")', 'every: options must be an object, not "once"'],
  ['plugin({}).cron("a", undefined, () => {})', 'cron: expression must be a string, not undefined'],
  ['plugin({}).migration("1", () => {})', 'migration: version must be a whole number from 0 to 4294967295, not "1"'],
  ['plugin({}).migration(5e9, () => {})', 'migration: version must be a whole number from 0 to 4294967295, not 5000000000'],
];

test('what a script says of itself is refused with the function, the argument and the line', async (t) => {
  const text = (declared) => `import { event, plugin, t } from "mixlab"; export default\n${declared};\n`;
  const plugins = DECLARED.map(([declared], number) => ({ script: `declared-${number}.js`, text: text(declared), grants: ['timers', 'filter:*'] }));
  const server = await startServer(t, { plugins });
  const wrong = [];
  for (const [number, [declared, said]] of DECLARED.entries()) {
    const { state, refusal } = await plugin(server, `declared-${number}`);
    const isSaid = state === 'refused' && refusal.startsWith(`TypeError: ${said}`) && refusal.includes(`declared-${number}.js:2:`);
    if (!isSaid) wrong.push(`${declared}: ${state}: ${refusal}`);
  }
  assert.deepEqual(wrong, []);
});

test('what a webhook answers is told where it is none', async (t) => {
  const answers = { text: ['"ok"', 'what it answers must be an object, not "ok"'], status: ['{ status: "201" }', 'the status of its answer must be a whole number from 100 to 599, not "201"'], body: ['{ body: { ok: true } }', 'the body of its answer must be a string or a Uint8Array, not an object'] };
  const text = `import { plugin } from "mixlab";
const answers = { ${Object.entries(answers).map(([name, [answer]]) => `"/${name}": ${answer}`)} };
export default plugin({}).onWebhook((cx, request) => answers[request.path]);
`;
  const server = await startServer(t, { plugins: [{ script: 'hooked.js', text, grants: ['webhook:unverified'] }] });
  for (const [name, [, said]] of Object.entries(answers)) {
    assert.equal((await fetch(`${server.url}/hooks/hooked/${name}`, { method: 'POST' })).status, 500, name);
    await server.waitForLog(new RegExp(`TypeError: onWebhook: ${said}`));
  }
});
