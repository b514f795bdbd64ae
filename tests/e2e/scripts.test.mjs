// Plugins that are scripts: a file that is saved is live, and whatever goes wrong has its line.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { ask, connect, nextEvent } from '../support/client.mjs';
import { blocks } from '../support/documents.mjs';
import { plugin, reload, status } from '../support/plugins.mjs';
import { makeFolder, ROOT, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

/** A server with one script, which can be saved again. */
async function serve(t, script, text, { files = {}, ...keys } = {}) {
  const server = await startServer(t, { plugins: [{ script, text, grants: ['emit'], ...keys }] });
  const save = (name, content) => {
    const path = join(server.folder, 'scripts', name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  };
  for (const [name, content] of Object.entries(files)) save(name, content);
  if (Object.keys(files).length > 0) await reload(server);
  return { ...server, save };
}

const HELLO = `import { plugin, event } from "mixlab";
export default plugin({
    hello: event({ access: "anyone" }, (cx, name) => {
        cx.emit("greeted", name);
        return \`Hello, \${name}\`;
    }),
});
`;

test('a script that is saved is live, without any build', async (t) => {
  const server = await serve(t, 'hello.js', HELLO);
  const client = await connect(t, server);
  assert.equal(await ask(client, 'hello', 'Ada'), 'Hello, Ada');
  assert.deepEqual(await nextEvent(client, 'greeted'), ['Ada']);
  server.save('hello.js', HELLO.replace('Hello,', 'Good morning,'));
  await until(async () => (await ask(client, 'hello', 'Ada')) === 'Good morning, Ada');
});

test('a script with a fault is refused with its line, and the old one goes on', async (t) => {
  const server = await serve(t, 'hello.js', HELLO);
  const client = await connect(t, server);
  server.save('hello.js', HELLO.replace('return', 'let let ='));
  await until(async () => (await plugin(server, 'hello')).state === 'serving-old');
  assert.match((await plugin(server, 'hello')).refusal, /^SyntaxError: .*\n\s+at hello\.js:5:13/);
  assert.equal(await ask(client, 'hello', 'Ada'), 'Hello, Ada');
  server.save('hello.js', HELLO);
  await until(async () => (await plugin(server, 'hello')).state === 'serving');
});

const TYPED = `import { plugin, event, t } from "mixlab";
import { greeting, type Greeting } from "./lib/words.js";

interface Config {
    mark: string;
}
export default plugin((config: Config) => ({
    hello: event({ access: "anyone", args: [t.string({ max: 5 })] }, (cx, name: string): Greeting => {
        return greeting(name as string) + config.mark;
    }),
    fail: event({ access: "anyone" }, () => {
        const nothing = undefined as unknown as { here(): void };
        nothing.here();
    }),
}));
`;
const WORDS = 'export type Greeting = string;\nexport const greeting = (name: string): Greeting => `Hello, ${name}`;\n';

test('TypeScript runs as it is, its lines are the author’s, and what it imports is watched, too', async (t) => {
  const server = await serve(t, 'hello.ts', TYPED, { config: { mark: '!' }, files: { 'lib/words.ts': WORDS } });
  const client = await connect(t, server);
  assert.equal(await ask(client, 'hello', 'Ada'), 'Hello, Ada!');
  assert.equal((await ask(client, 'hello', 'Charles')).error.code, 'invalid_payload');
  const failed = await ask(client, 'fail');
  assert.equal(failed.error.code, 'plugin_error');
  await server.waitForLog(/TypeError: .*'here'.*\n.* at <anonymous> \(hello\.ts:13:9\)/);

  server.save('lib/words.ts', WORDS.replace('Hello', 'Good morning'));
  await until(async () => (await ask(client, 'hello', 'Ada')) === 'Good morning, Ada!');
  server.save('lib/words.ts', `${WORDS}export const broken: = 1;\n`);
  await until(async () => (await plugin(server, 'hello')).state === 'serving-old');
  assert.match((await plugin(server, 'hello')).refusal, /lib\/words\.ts:3:22: /);
});

const SCORES = `import { event, plugin } from "mixlab";
import words from "./words.json" with { type: "json" };
import { shout } from "./shout.mjs";
export default plugin({
    add: event({ access: "anyone" }, async (cx, points) => cx.store.set(\`score:\${points}\`, points)),
    all: event({ access: "anyone" }, async (cx) => (await cx.store.scan("score:")).map(({ value }) => value)),
    title: event({ access: "anyone" }, () => shout(words.title)),
})`;
const MIGRATES = `.migration(1, async (cx, from, after) => {
    if (from !== 0) throw new Error("from what?");
    const some = await cx.store.scan("score:", { after, limit: 2 });
    for (const { key, value } of some) cx.store.set(key, { points: value });
    return some.at(-1)?.key;
})`;

test('a new version of a script brings what the former has stored into its own form, or the former goes on', async (t) => {
  const server = await serve(t, 'scores.mjs', `${SCORES};\n`, {
    grants: ['store'],
    files: { 'words.json': '{ "title": "Scores" }', 'shout.mjs': 'export const shout = (text) => `${text}!`;' },
  });
  const client = await connect(t, server);
  assert.equal(await ask(client, 'title'), 'Scores!');
  for (const points of [1, 2, 3]) await ask(client, 'add', points);
  server.save('scores.mjs', `${SCORES}${MIGRATES.replace('!== 0', '=== 0')};\n`);
  await until(async () => (await plugin(server, 'scores')).state === 'serving-old');
  assert.match((await plugin(server, 'scores')).refusal, /from what\?[^]*scores\.mjs:9:31/);
  assert.deepEqual(await ask(client, 'all'), [1, 2, 3]);
  server.save('scores.mjs', `${SCORES}${MIGRATES};\n`);
  await until(async () => (await plugin(server, 'scores')).state === 'serving');
  assert.deepEqual(await ask(client, 'all'), [{ points: 1 }, { points: 2 }, { points: 3 }]);
  assert.equal((await plugin(server, 'scores')).generation, 2);
});

test('a script says what memory it needs at least, and what its hooks did wrong', async (t) => {
  const hooks = 'import { plugin } from "mixlab";\nexport default plugin({}).onDisconnect((cx) => {\n    cx.user.name;\n});\n';
  const server = await startServer(t, {
    plugins: [
      { script: 'small.js', text: HELLO, grants: [], budget: { memory: '1MiB' } },
      { script: 'hooks.js', text: hooks, grants: [] },
    ],
  });
  assert.match((await plugin(server, 'small')).refusal, /memory = 1\.0 MiB/);
  (await connect(t, server)).disconnect();
  await server.waitForLog(/TypeError: cannot read property 'name' of undefined\n.*hooks\.js:3:/);
});

/** So that memory ends before time on the slowest machine. */
const PATIENT = { cpu: '20s', wall: '60s' };

/** Scripts that cannot be served: what is said of them has the line. */
const REFUSED = {
  syntax: ['wrong.js', 'import { plugin } from "mixlab";\nexport default plugin({}};', /SyntaxError: .*\n\s+at wrong\.js:2:25/],
  'syntax of types': ['wrong.ts', 'const a: = 1;', /^wrong\.ts:1:10: /],
  'types that are more than types': ['wrong.ts', 'enum Color { Red }', /^wrong\.ts:1:1: .*enum.*strip-only/],
  'no export': ['wrong.js', 'import "mixlab";\n', /there is no default export: write export default plugin/],
  'another export': ['wrong.js', 'export default { hello() {} };', /the default export is \{hello: \[Function hello\]\}: write/],
  'an event that is none': ['wrong.js', 'import { plugin } from "mixlab";\nexport default plugin({ hello: () => 1 });', /"hello": \[Function hello\] is no event/],
  'an event that is lost as __proto__': ['wrong.js', 'import { event, plugin } from "mixlab";\nexport default plugin({ "__proto__": event(() => 1) });', /plugin: the object inherits .* \["__proto__"\][^]*wrong\.js:2:/],
  'an event that is lost so in a function': ['wrong.js', 'import { event, plugin } from "mixlab";\nexport default plugin(() => ({\n    __proto__: event(() => 1),\n}));', /plugin: the object inherits [^]*wrong\.js:3:/],
  'an emitted event that is lost so': ['wrong.js', 'import { plugin, t } from "mixlab";\nexport default plugin({ emits: { __proto__: [t.string()] } }, {});', /emits: the object inherits [^]*wrong\.js:2:/],
  'a field that is lost so': ['wrong.js', 'import { event, plugin, t } from "mixlab";\nexport default plugin({ a: event({ args: [t.object({ __proto__: t.string() })] }, () => 1) });', /t\.object: the object inherits [^]*wrong\.js:2:/],
  'an option that is none': ['wrong.js', 'import { event, plugin } from "mixlab";\nexport default plugin({\n    hello: event({ acess: "anyone" }, () => 1),\n});', /event knows no "acess"; it knows args[^]*at .*wrong\.js:3:12/],
  'a schema that is none': ['wrong.js', 'import { event, plugin, t } from "mixlab";\nexport default plugin({ hello: event({ args: [t.schema({ type: "txt" })] }, () => 1) });', /"txt" is not valid|schema/],
  'an argument without a type': ['wrong.js', 'import { event, plugin, t } from "mixlab";\n\nexport default plugin({ hello: event({ args: [t.string] }, () => 1) });', /args, number 1: not a type; make one with t[^]*wrong\.js:3:47/],
  'a rate that is none': ['wrong.js', 'import { event, plugin } from "mixlab";\nexport default plugin({ hello: event({ limit: { user: "often" } }, () => 1) });', /"often" is no rate; write it like "100\/10s"[^]*wrong\.js:2:32/],
  'a throw': ['wrong.js', 'const config = undefined;\nconfig.name;', /TypeError: cannot read property 'name' of undefined\n\s+at .*wrong\.js:2:/],
  'a throw of its function': ['wrong.ts', 'import { plugin } from "mixlab";\nexport default plugin((config: { a: { b: string } }) => {\n    config.a.b;\n    return {};\n});', /TypeError: .*'b'.*\n\s+at .*wrong\.ts:3:/],
  'a wait without end': ['wrong.js', 'import { plugin } from "mixlab";\n\nawait new Promise(() => {});\nexport default plugin({});', /the script waits for a promise that nothing will settle\n\s+at wrong\.js:3:/],
  'a loop without end': ['wrong.js', 'import { plugin } from "mixlab";\nlet n = [];\nfor (;;) n.slice();\nexport default plugin({});', /CPU time is used up, here:\n\s+at .*wrong\.js:3:/],
  'memory without end': ['wrong.js', 'import { plugin } from "mixlab";\nconst all = [];\nfor (;;) all.push(new Uint8Array(1e6));\n', /out of memory\n\s+at .*wrong\.js:3:/, PATIENT],
  'an array of 100 MB': ['wrong.js', 'import { plugin } from "mixlab";\nnew Uint8Array(100e6).fill(1);\n', /memory.*\n\s+at .*wrong\.js:2:/, PATIENT],
  'a package of npm': ['wrong.ts', 'import _ from "lodash";\n', /wrong\.ts:1:15: "lodash" is no file beside the script\. .* npx esbuild lodash --bundle --format=esm/],
  'a part of Node': ['wrong.js', '\nimport { readFile } from "node:fs";\n', /wrong\.js:2:26: "node:fs" is a part of Node/],
  'a file that is not there': ['wrong.js', 'import "./gone.js";', /wrong\.js:1:8: "\.\/gone\.js" is not there: gone\.js or gone\.ts/],
  'a file above the folder': ['wrong.js', 'import "../mixlab.toml";', /wrong\.js:1:8: .* is not below the script's folder/],
  'an import of what is inside': ['wrong.js', 'import "mixlab:natives";', /wrong\.js:1:8: "mixlab:natives" cannot be imported/],
  'a name that is not exported': ['wrong.js', 'import { plugn } from "mixlab";', /SyntaxError: .*plugn/],
  require: ['wrong.js', 'import "mixlab";\nrequire("fs");', /require is not there: scripts are modules[^]*wrong\.js:2:/],
  'a timer of Node’s': ['wrong.js', 'import "mixlab";\nsetTimeout(() => {}, 100);', /setTimeout is not there: .*cx\.timers\.set[^]*wrong\.js:2:/],
  eval: ['wrong.js', 'import "mixlab";\n\neval("1");', /EvalError: there is no code from text[^]*wrong\.js:3:/],
  'new Function': ['wrong.js', 'import "mixlab";\n(() => {}).constructor("return 1")();', /EvalError: there is no code from text[^]*wrong\.js:2:/],
  'a type that nothing fits': ['wrong.js', 'import { event, plugin, t } from "mixlab";\nconst kinds = [];\nexport default plugin({ put: event({ args: [t.union(...kinds)] }, () => {}) });', /TypeError: t\.union: it takes one at least\n\s+at .*wrong\.js:3:/],
  'a choice among nothing': ['wrong.js', 'import { t } from "mixlab";\nt.enum();', /TypeError: t\.enum: it takes one at least\n\s+at .*wrong\.js:2:/],
  'a change of what it imports': ['wrong.js', 'import { plugin, t } from "mixlab";\nt.string = () => t.any();', /TypeError: .*\n\s+at .*wrong\.js:2:/],
  'a rejection that nobody hears': ['wrong.js', 'import { plugin } from "mixlab";\nPromise.reject(new Error("lost"));\nexport default plugin({});', /Error: lost\n\s+at .*wrong\.js:2:/],
  'a getter that throws': ['wrong.js', 'import { plugin } from "mixlab";\nexport default plugin({ get hello() { throw new Error("got"); } });', /Error: got\n\s+at .*wrong\.js:2:/],
  'a proxy that throws': ['wrong.js', 'const trap = () => { throw new Error("trapped"); };\nexport default new Proxy({}, { ownKeys: trap, getPrototypeOf: trap, get: trap });', /Error: trapped\n\s+at .*wrong\.js:1:/],
  'a proxy that loops': ['wrong.js', 'import { event, plugin } from "mixlab";\nconst trap = () => { for (;;) [].at(0); };\nexport default plugin({ hello: event(new Proxy({}, { ownKeys: trap }), () => {}) });', /CPU time is used up, here:\n\s+at .*wrong\.js:2:/],
  'a pattern that loops': ['wrong.js', 'import { event, plugin, t } from "mixlab";\nconst pattern = { toJSON() { while (true) [].at(0); } };\nexport default plugin({ hello: event({ args: [t.string({ pattern })] }, () => {}) });', /CPU time is used up, here:\n\s+at .*wrong\.js:2:/],
  'a pattern that takes too long': ['wrong.js', 'import { event, plugin, t } from "mixlab";\nexport default plugin({ hello: event({ args: [t.string({ pattern: "((a{1000}){1000}){1000}" })] }, () => {}) });', /hello.*pattern/],
  'a pattern that looks back': ['wrong.js', 'import { event, plugin, t } from "mixlab";\nexport default plugin({ hello: event({ args: [t.string({ pattern: /(a)\\1/ })] }, () => {}) });', /hello.*pattern/],
  'a schema that holds itself': ['wrong.js', 'import { event, plugin, t } from "mixlab";\nconst schema = {};\nschema.items = schema;\nexport default plugin({ hello: event({ args: [t.schema(schema)] }, () => {}) });', /TypeError: circular reference\n[^]*wrong\.js:4:/],
  'a schema of a hundred thousand levels': ['wrong.js', 'import { event, plugin, t } from "mixlab";\nlet schema = {};\nfor (let i = 0; i < 1e5; i++) schema = { items: schema };\nexport default plugin({ hello: event({ args: [t.schema(schema)] }, () => {}) });', /RangeError: (the stack is used up within|Maximum call stack)/, PATIENT],
  'a generator without end': ['wrong.js', 'import "mixlab";\n[...(function* () { for (;;) yield 1; })()];', /(out of memory|CPU time is used up, here:)\n[^]*wrong\.js:2:/, PATIENT],
  'promises without end': ['wrong.js', 'import { plugin } from "mixlab";\nconst again = () => Promise.resolve().then(again);\nawait again();\nexport default plugin({});', /the script has used up the budget of CPU time in promises\n\s+at .*wrong\.js:2:/],
  'promises without end that nobody waits for': ['wrong.js', 'import { plugin } from "mixlab";\nconst again = () => Promise.resolve().then(again);\nagain();\nawait new Promise(() => {});\nexport default plugin({});', /the script has used up the budget of CPU time in promises\n\s+at .*wrong\.js:2:/],
  'a text without end': ['wrong.js', 'import "mixlab";\nlet text = "x";\nfor (;;) text += text;', /(out of memory|too long)\n\s+at .*wrong\.js:3:/, PATIENT],
  'JSON of a million levels': ['wrong.js', 'import "mixlab";\nJSON.parse("[".repeat(1e6));', /RangeError: the stack is used up within a function of the engine's own/],
  'a wait for another thread': ['wrong.js', 'import "mixlab";\nAtomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);', /(TypeError|ReferenceError): .*\n[^]*wrong\.js:2:/],
  'an error that loops when it is looked at': ['wrong.js', 'import "mixlab";\nthrow Object.defineProperty(new Error("x"), "stack", { get() { for (;;); } });', /./],
  'ten megabytes': ['wrong.js', `import { plugin } from "mixlab";\n${'// as long as this line is\n'.repeat(400_000)}export default plugin({});`, /^describe failed: out of memory: its files, .* do not fit into the budget memory$|^out of memory/, { memory: '8MiB', ...PATIENT }],
  'bytes that are no text': ['wrong.js', Buffer.from([0x2f, 0x2f, 0xff]), /wrong\.js: it is not text in UTF-8/],
};

test('a script that cannot be served is refused, with its line', async (t) => {
  const plugins = Object.values(REFUSED).map(([script, text, , budget = {}], index) => ({
    script: `${index}/${script}`,
    text,
    name: `wrong-${index}`,
    grants: [],
    budget,
  }));
  const server = await startServer(t, { plugins: [...plugins, { script: 'hello.js', text: HELLO, grants: ['emit'] }] });
  const { plugins: statuses } = await status(server);
  const wrong = [];
  for (const [index, [kind, [, , said]]] of Object.entries(REFUSED).entries()) {
    const { state, refusal } = statuses.find(({ name }) => name === `wrong-${index}`);
    if (state !== 'refused' || !said.test(refusal)) wrong.push(`${kind}: ${state}: ${refusal}`);
  }
  assert.deepEqual(wrong, []);
  const client = await connect(t, server);
  assert.equal(await ask(client, 'hello', 'Ada'), 'Hello, Ada');
});

const CONTAINED = `import { event, plugin, t, reject } from "mixlab";

const open = { access: "anyone" };
let calls = 0;
const deep = (n) => deep(n + 1) + 1;
async function waits() {
    await new Promise(() => {});
}
Object.prototype.access = "anyone";
Object.prototype.roles = ["nobody"];
globalThis.fetch = undefined;
JSON.stringify = () => "{}";
export default plugin({
    calls: event(open, () => ++calls),
    echo: event(open, (cx, value) => [value, {}.admin, Object.keys(value)]),
    secured: event({ args: [t.object({ __proto__: null, name: t.string() })] }, () => "never"),
    "fail:throw": event(open, () => { null.name; }),
    "fail:async": event(open, async () => { await 1; null.name; }),
    "fail:loop": event(open, () => { for (;;); }),
    "fail:memory": event(open, () => { const all = []; for (;;) all.push("x".repeat(1e6) + all.length); }),
    "fail:array": event(open, () => { new Uint8Array(1e8).fill(0); }),
    "fail:recursion": event(open, () => deep(0)),
    "fail:json": event(open, () => { const a = {}; a.a = a; return a; }),
    "fail:bigint": event(open, () => 1n),
    "fail:regex": event(open, () => /^(a+)+$/.test("a".repeat(50) + "!")),
    "fail:sort": event(open, () => { const all = Array.from({ length: 1e5 }, (_, i) => i); for (;;) all.sort(() => 1); }),
    "fail:wait": event(open, waits),
    "fail:lost": event(open, () => { Promise.reject(new Error("lost")); }),
    "fail:microtasks": event(open, () => { const again = () => queueMicrotask(again); again(); }),
    "fail:denied": event(open, (cx) => cx.join("room")),
    "fail:denied later": event(open, async (cx) => { await cx.store.get("a"); }),
    "fail:catch": event(open, () => { for (;;) { try { for (;;); } catch {} } }),
    "fail:proxy": event(open, () => { throw new Proxy(new Error("p"), { get() { throw new Error("trap"); } }); }),
    "fail:value": event(open, () => { throw "a text"; }),
    "fail:fill": event(open, () => { new Array(1e8).fill(0); }),
    "fail:getter": event(open, () => ({ get a() { return this.a; } }).a),
    "fail:promises": event(open, async function again() { await again(); }),
    "fail:callback": event(open, function again() { return [1].map(again); }),
    "fail:trap": event(open, () => new Proxy({}, { ownKeys() { throw new Error("trapped"); } })),
    "fail:trap that loops": event(open, () => new Proxy([], { get() { for (;;); } })),
    "fail:answer": event(open, () => ({ get a() { throw new Error("got"); } })),
    "fail:toJSON": event(open, () => ({ toJSON() { throw new Error("asked"); } })),
    "fail:toJSON that loops": event(open, () => ({ toJSON() { for (;;); } })),
    "fail:toJSON of itself": event(open, () => ({ toJSON() { return { again: this }; } })),
    "fail:species": event(open, () => { class All extends Array { static get [Symbol.species]() { for (;;); } } return new All(1, 2).map(String); }),
    "fail:generator": event(open, () => { const all = new Set(); for (const one of (function* () { for (let i = 0; ; i++) yield i; })()) all.add(one); }),
    "fail:chain": event(open, () => { const again = () => Promise.resolve().then(again); return again(); }),
    "fail:text": event(open, () => { let text = "x"; for (;;) text += text; }),
    "fail:parse": event(open, () => JSON.parse("[".repeat(1e6))),
    "fail:nested": event(open, () => { let deep = []; for (let i = 0; i < 2e4; i++) deep = [deep]; return deep; }),
    "fail:thread": event(open, () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)),
    "fail:details": event(open, () => reject("no", "No", { details: { toJSON() { throw new Error("asked"); } } })),
    "fail:stack": event(open, () => { throw Object.defineProperty(new Error("x"), "stack", { get() { for (;;); } }); }),
    "fail:message": event(open, () => { throw Object.defineProperty(new Error(), "message", { get() { throw new Error("asked"); } }); }),
    "fail:text of an error": event(open, () => { throw { toString() { for (;;); } }; }),
    "fail:thenable": event(open, async () => ({ then() { for (;;); } })),
    "fail:kind of promise": event(open, () => new (class extends Promise { then() { for (;;); } })(() => {})),
    "fail:finally": event(open, () => { try { return 1; } finally { for (;;); } }),
    "fail:emit": event(open, (cx) => cx.emit("greeted", { get a() { throw new Error("got"); } })),
    "fail:iterator": event(open, () => Object.fromEntries({ [Symbol.iterator]: () => ({ next: () => ({ value: ["a", 1] }) }) })),
});
`;

/** What the log says of each, with the line of the script. */
const SAID = {
  throw: /TypeError: cannot read property 'name' of null\n.*script\.js:17:/,
  async: /TypeError: cannot read property 'name' of null\n.*script\.js:18:/,
  loop: /CPU time is used up, here:\n.*script\.js:19:/,
  memory: /(out of memory|CPU time is used up, here:)\n.*script\.js:20:/,
  array: /memory.*\n[^]*script\.js:21:/,
  recursion: /RangeError: Maximum call stack size exceeded\n.*at deep \(script\.js:5:/,
  json: /TypeError: circular reference/,
  bigint: /TypeError: .*[bB]ig[iI]nt/,
  regex: /CPU time is used up, here:\n[^]*script\.js:25:/,
  sort: /CPU time is used up, here:\n[^]*script\.js:26:/,
  wait: /the handler of "fail:wait" waits for a promise that nothing will settle\n.*script\.js:27:/,
  lost: /Error: lost\n.*script\.js:28:/,
  microtasks: /the handler of "fail:microtasks" has used up the budget of CPU time in promises\n.*script\.js:29:/,
  denied: /HostError: .*room:room.*\n[^]*script\.js:30:/,
  'denied later': /HostError: .*"store".*\n[^]*script\.js:31:/,
  catch: /CPU time is used up, here:\n.*script\.js:32:/,
  proxy: /./,
  value: /a text/,
  getter: /RangeError: Maximum call stack size exceeded\n.*script\.js:36:/,
  promises: /RangeError: Maximum call stack size exceeded\n.*script\.js:37:/,
  callback: /RangeError: Maximum call stack size exceeded\n.*script\.js:38:/,
  trap: /Error: trapped\n.*script\.js:39:/,
  'trap that loops': /CPU time is used up, here:\n[^]*script\.js:40:/,
  answer: /Error: got\n.*script\.js:41:/,
  toJSON: /Error: asked\n.*script\.js:42:/,
  'toJSON that loops': /CPU time is used up, here:\n[^]*script\.js:43:/,
  'toJSON of itself': /RangeError: the stack is used up|CPU time is used up, here:\n[^]*script\.js:44:/,
  species: /CPU time is used up, here:\n[^]*script\.js:45:/,
  generator: /(out of memory|CPU time is used up, here:)\n[^]*script\.js:46:/,
  chain: /the handler of "fail:chain" has used up the budget of CPU time in promises\n.*script\.js:47:/,
  text: /(out of memory|too long|CPU time is used up, here:)\n.*script\.js:48:/,
  parse: /RangeError: the stack is used up within a function of the engine's own/,
  nested: /RangeError: the stack is used up|CPU time is used up, here:\n/,
  thread: /(TypeError|ReferenceError): .*\n[^]*script\.js:51:/,
  details: /Error: asked\n.*script\.js:52:/,
  stack: /./,
  message: /./,
  'text of an error': /./,
  thenable: /CPU time is used up|has used up the budget of CPU time in promises/,
  'kind of promise': /waits for a promise that nothing will settle\n.*script\.js:57:/,
  finally: /CPU time is used up, here:\n.*script\.js:58:/,
  emit: /Error: got\n.*script\.js:59:/,
  iterator: /CPU time is used up, here:\n[^]*script\.js:60:/,
  // The engine asks nobody while it is within one of its own functions, unless that takes memory.
  fill: /(the budget (cpu|wall) = .* is used up|(out of memory|CPU time is used up, here:)\n.*script\.js:35:).*event="fail:fill"/,
};

test('whatever an event does to its script ends with that event, and the log has the line', async (t) => {
  const server = await startServer(t, {
    config: '[breaker]\nfailures = 1000\n',
    plugins: [{ script: 'script.js', text: CONTAINED, grants: ['emit'], budget: { cpu: '150ms', wall: '8s' } }],
  });
  const client = await connect(t, server);
  const wrong = [];
  for (const [kind, said] of Object.entries(SAID)) {
    const before = server.log().length;
    const answer = await ask(client, `fail:${kind}`, 1);
    if (!/^plugin_(error|timeout)$/.test(answer?.error?.code)) wrong.push(`${kind}: ${JSON.stringify(answer)}`);
    const since = () => server.log().slice(before);
    const message = () => `${kind}: ${said} in ${since()}`;
    await until(() => since().includes('a call failed'), { message });
    await until(() => said.test(since()), { message }).catch(({ message }) => wrong.push(message));
    assert.ok((await ask(client, 'calls')) > 0);
  }
  assert.deepEqual(wrong, []);
  const [echoed, admin, keys] = await ask(client, 'echo', JSON.parse('{"__proto__":{"admin":true}}'));
  assert.deepEqual([Object.keys(echoed), admin ?? null, keys], [['__proto__'], null, ['__proto__']]);
  assert.equal((await ask(client, 'secured', {})).error.code, 'unauthorized', 'whatever the script does to all objects');
});

test('events and fields of scripts may be called as what all objects have', async (t) => {
  const NAMES = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf'];
  const text = `
import { event, plugin, t } from "mixlab";
const fields = t.object({ ["__proto__"]: t.string(), constructor: t.number() });
export default plugin({ emits: { ["__proto__"]: [t.string()] } }, {
${NAMES.map((name) => `    [${JSON.stringify(name)}]: event({ access: "anyone", args: [fields] }, () => ${JSON.stringify(name)}),`).join('\n')}
});`;
  const server = await startServer(t, { plugins: [{ script: 'names.js', text, grants: [] }] });
  const client = await connect(t, server);
  const fits = JSON.parse('{"__proto__":"a","constructor":1}');
  for (const name of NAMES) {
    assert.equal(await ask(client, name, fits), name);
    const wrong = JSON.parse('{"__proto__":1,"constructor":1}');
    assert.equal((await ask(client, name, wrong)).error?.code, 'invalid_payload', name);
  }
});

/** What a script may do to what is built in, for all calls that follow in its instance. */
const PATCHES = {
  'JSON.parse': 'JSON.parse = () => { throw new Error("patched"); };',
  'JSON.stringify': 'JSON.stringify = () => "patched";',
  'Promise.prototype.then': 'Promise.prototype.then = () => "patched";',
  'Array.prototype': 'for (const name of Object.getOwnPropertyNames(Array.prototype)) if (name !== "length") Array.prototype[name] = () => { throw new Error("patched"); };',
  'Array.prototype[Symbol.iterator]': 'Array.prototype[Symbol.iterator] = function* () {};',
  'Object.prototype.__proto__': 'Object.defineProperty(Object.prototype, "__proto__", { get() { throw new Error("patched"); }, set() { throw new Error("patched"); } });',
  'Object.prototype': 'for (const name of ["kind", "args", "code", "0", "_placeholder", "num"]) Object.defineProperty(Object.prototype, name, { value: "patched", writable: true, configurable: true });',
  'functions of Object': 'for (const name of ["defineProperty", "keys", "entries", "fromEntries", "hasOwn", "freeze"]) Object[name] = () => { throw new Error("patched"); };',
  'String.prototype': 'for (const name of ["split", "trim", "trimEnd", "replace", "slice", "startsWith"]) String.prototype[name] = () => { throw new Error("patched"); };',
  globals: 'for (const name of ["Uint8Array", "Error", "Map", "URLSearchParams", "Headers", "console", "Date"]) globalThis[name] = undefined;',
};

/** Those by which a script answers something else, and nobody but itself. */
const OWN_ANSWERS = {
  'Promise[Symbol.hasInstance]': 'Object.defineProperty(Promise, Symbol.hasInstance, { value: () => false });',
  'Array.prototype.toJSON': 'Array.prototype.toJSON = () => "patched";',
  'Object.prototype.toJSON': 'Object.prototype.toJSON = () => { for (;;); };',
};

const PATCHED = (index, patch) => `import { event, plugin, reject } from "mixlab";
const bytes = new Uint8Array([1, 2]);
const open = { access: "anyone" };
export default plugin({
    "${index}:patch": event(open, () => { ${patch} }),
    "${index}:plain": event(open, (cx, value) => value),
    "${index}:later": event(open, async (cx, value) => { await 1; cx.emit("told", value, bytes); return value; }),
    "${index}:no": event(open, () => reject("no", "No")),
    "${index}:locked": event(() => "open"),
});
`;

test('what a script does to what is built in changes nothing between the host and its handlers', async (t) => {
  const kinds = Object.entries({ ...PATCHES, ...OWN_ANSWERS });
  const plugins = kinds.map(([, patch], index) => ({ script: `${index}/patched.js`, text: PATCHED(index, patch), name: `patched-${index}`, grants: ['emit'], budget: { instances: 1 } }));
  const server = await startServer(t, { plugins });
  const client = await connect(t, server);
  const value = { text: 'x', list: [1, { deep: [] }] };
  const wrong = [];
  for (const [index, [kind]] of kinds.entries()) {
    const sees = async () => {
      const plain = await ask(client, `${index}:plain`, value);
      const later = await ask(client, `${index}:later`, value);
      const told = later.error ? [] : await nextEvent(client, 'told');
      const [no, locked] = [await ask(client, `${index}:no`), await ask(client, `${index}:locked`)];
      return { plain, later, told, no: no?.error?.code, locked: locked?.error?.code };
    };
    const before = await sees();
    assert.deepEqual(before, { plain: value, later: value, told: [value, Buffer.from([1, 2])], no: 'no', locked: 'unauthorized' });
    await ask(client, `${index}:patch`);
    const after = await sees();
    const isAsBefore = isDeepStrictEqual(after, before) || (kind in OWN_ANSWERS && after.locked === 'unauthorized');
    if (!isAsBefore) wrong.push(`${kind}: ${JSON.stringify(after)}`);
  }
  assert.deepEqual(wrong, []);
});

test('files that import each other, with a byte order mark and ends of lines of Windows, are served, and their lines are right', async (t) => {
  const windows = (text) => `\uFEFF${text.replaceAll('\n', '\r\n')}`;
  const main = 'import { event, plugin } from "mixlab";\nimport { name } from "./a.ts";\nexport const mark: string = "!";\nexport default plugin({\n    hello: event({ access: "anyone" }, () => name() + mark),\n    fail: event({ access: "anyone" }, () => { null!.name; }),\n});\n';
  const files = {
    'a.ts': windows('import { other } from "./b.ts";\nexport const name = (): string => "a" + other();\n'),
    'b.ts': windows('import { name } from "./a.ts";\nexport const other = (): string => typeof name;\n'),
  };
  const server = await serve(t, 'cycle.ts', windows(main), { files });
  const client = await connect(t, server);
  assert.equal(await ask(client, 'hello'), 'afunction!');
  assert.equal((await ask(client, 'fail')).error.code, 'plugin_error');
  await server.waitForLog(/TypeError: .*'name'.*\n.*cycle\.ts:6:/);
  server.save('b.ts', windows('import { name } from "./a.ts";\nexport const other = name();\n'));
  await until(async () => (await plugin(server, 'cycle')).state === 'serving-old');
  assert.match((await plugin(server, 'cycle')).refusal, /ReferenceError: .*\n[^]*b\.ts:2:/);
});

test('mixlab plugin inspect shows a script’s contract, and the grants that its code may need', async (t) => {
  const home = makeFolder(t);
  cpSync(join(ROOT, 'plugins/chat.ts'), join(home.folder, 'chat.ts'));
  const { code, stdout, stderr } = await home.mixlab('plugin', 'inspect', 'chat.ts', '--plugin-config', '{"page":3}', '--format', 'json');
  assert.equal(code, 0, stderr);
  const { version, events, emits, requests, may_request: mayRequest } = JSON.parse(stdout);
  assert.deepEqual([version, requests], ['0.1.0', []]);
  assert.deepEqual(mayRequest, ['emit:EVENT', 'room:ROOM', 'presence:ROOM', 'history:TOPIC']);
  assert.deepEqual(emits.map(({ name }) => name), ['chat:message', 'chat:typing']);
  const say = events.find(({ name }) => name === 'chat:say');
  assert.deepEqual([say.limits, say.max_bytes, say.arguments.prefixItems[0].required], [['10/5s by socket'], 8192, ['room', 'id', 'text']]);
});

/** What tsc says of a script, as `LINE: MESSAGE`. */
function typeErrors(t, text) {
  const { folder } = makeFolder(t);
  for (const name of ['mixlab.d.ts', 'tsconfig.json']) copyFileSync(join(ROOT, 'plugins', name), join(folder, name));
  writeFileSync(join(folder, 'script.ts'), text);
  const tsc = spawnSync(process.execPath, [join(ROOT, 'tests/node_modules/typescript/bin/tsc'), '-p', folder], { encoding: 'utf8', cwd: folder });
  const lines = tsc.stdout.matchAll(/^(\S+)\((\d+),\d+\): error TS\d+: (.*)$/gm);
  return [...lines].map(([, file, line, message]) => (file === 'script.ts' ? `${line}: ${message}` : `${file}:${line}: ${message}`));
}

test('TypeScript knows what scripts import, and what clients send', (t) => {
  for (const name of readdirSync(join(ROOT, 'plugins')).filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))) {
    assert.deepEqual(typeErrors(t, readFileSync(join(ROOT, 'plugins', name), 'utf8')), [], name);
  }
  for (const { text, where } of blocks('host/docs/plugins/scripts.md').filter(({ language }) => language === 'ts')) {
    assert.deepEqual(typeErrors(t, text), [], where);
  }
  const errors = typeErrors(
    t,
    `import { event, plugin, t } from "mixlab";
const send = event({ args: [t.object({ text: t.string(), tag: t.optional(t.integer()) }), t.optional(t.bytes())], reply: t.boolean() }, (cx, { text, tag }, bytes) => {
    const length: number = text.length + (tag ?? 0) + (bytes?.length ?? 0);
    text.nothing;
    tag.toFixed();
    cx.emti("a");
    cx.store.get("a").length;
    return "no";
});
event({ limit: { socket: "1/s" }, acess: "anyone" }, () => {});
export default plugin((config: { max: number }) => ({ send })).onConnect((cx) => {
    cx.config.min;
    setTimeout(() => {}, 5);
});
`,
  );
  const lines = errors.map((error) => Number(error.split(':')[0]));
  assert.deepEqual([...new Set(lines)].toSorted((a, b) => a - b), [2, 4, 5, 6, 7, 10, 12, 13], errors.join('\n'));
});

const FOUND = `import * as mixlab from "mixlab";
const names = (value) => Object.getOwnPropertyNames(Object.getPrototypeOf(value)).filter((name) => name !== "constructor");
export default mixlab.plugin({
    found: mixlab.event({ access: "anyone" }, (cx, globals) => ({
        exports: Object.keys(mixlab),
        types: Object.keys(mixlab.t),
        context: names(cx), selection: names(cx.to("a")), store: names(cx.store), timers: names(cx.timers), presence: names(cx.presence("a")),
        plugin: names(mixlab.plugin({})),
        missing: globals.filter((path) => path.split(".").reduce((value, name) => value?.[name], globalThis) === undefined),
    })),
});
`;

/** The names of the members of an interface of mixlab.d.ts, or of what is between two other lines of it. */
function declared(begin) {
  const text = readFileSync(join(ROOT, 'plugins/mixlab.d.ts'), 'utf8');
  const body = text.slice(text.indexOf(begin)).split('\n').slice(1);
  const end = body.findIndex((line) => /^ {4}\};?$/.test(line));
  const members = body.slice(0, end).map((line) => line.match(/^ {8}(?:readonly )?(\w+)[?(<:]/)?.[1]);
  return [...new Set(members.filter(Boolean))].toSorted();
}

test('what is there is what mixlab.d.ts and the documents say', async (t) => {
  const server = await serve(t, 'found.js', FOUND);
  const client = await connect(t, server);
  const documented = readFileSync(join(ROOT, 'host/docs/plugins/scripts.md'), 'utf8').match(/Beside it: ([^]*?)\n\n/)[1];
  const globals = [...documented.matchAll(/`([\w.]+)`/g)].map(([, name]) => name);
  assert.ok(globals.includes('structuredClone') && globals.includes('crypto.randomUUID'));
  const found = await ask(client, 'found', globals);
  assert.deepEqual(found.missing, []);
  const types = readFileSync(join(ROOT, 'plugins/mixlab.d.ts'), 'utf8');
  const exported = [...types.matchAll(/^ {4}export (?:const|class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(found.exports.toSorted(), [...new Set(exported)].toSorted());
  assert.deepEqual(found.types.toSorted(), declared('export const t: {'));
  const selecting = declared('interface Selecting {');
  assert.deepEqual(found.context.toSorted(), [...declared('export interface Context<'), ...selecting].toSorted());
  assert.deepEqual(found.selection.toSorted(), [...declared('export interface Selection '), ...selecting].toSorted());
  assert.deepEqual(found.store.toSorted(), declared('export interface Store {'));
  assert.deepEqual(found.timers.toSorted(), declared('export interface Timers {'));
  assert.deepEqual(found.presence.toSorted(), declared('export interface Presence {'));
  assert.deepEqual(found.plugin.toSorted(), declared('export interface Plugin<'));
});

test('a script and what it imports, saved half and whole twenty times a second, serve all the time', { timeout: 120_000 }, async (t) => {
  const main = (version) => `import { event, plugin, t } from "mixlab";
import { shout } from "./shout.ts";
export default plugin({ say: event({ access: "anyone", args: [t.string()] }, (cx, text) => ({ version: ${version}, said: shout(text) })) });
`;
  const lib = (marks) => `export const shout = (text: string): string => text + "!".repeat(${marks});\n`;
  const server = await startServer(t, { plugins: [{ script: 'typed.ts', text: main(0) }], files: { 'scripts/shout.ts': lib(1) } });
  const [script, imported] = ['typed.ts', 'shout.ts'].map((name) => join(server.folder, 'scripts', name));
  const sockets = await Promise.all(Array.from({ length: 4 }, () => connect(t, server)));
  const ends = [];
  for (const socket of sockets) socket.on('disconnect', (reason) => ends.push(reason));
  const answers = [];
  let typing = true;
  const load = sockets.map(async (socket) => {
    while (typing) answers.push(await ask(socket, 'say', 'x'));
  });
  /** What an editor and its author do to the two files, one after the other. */
  const saves = [
    (text, number) => writeFileSync(script, text.slice(0, (text.length * (number % 17)) / 17)),
    (text) => writeFileSync(script, text),
    () => rmSync(imported),
    (text) => writeFileSync(script, `${text}// without its import\n`),
    () => writeFileSync(imported, lib(2).slice(0, 20)),
    () => writeFileSync(imported, ''),
    () => writeFileSync(imported, lib(3)),
    (text) => {
      writeFileSync(`${script}.tmp`, text);
      renameSync(`${script}.tmp`, script);
    },
    () => rmSync(script),
    () => writeFileSync(script, ''),
  ];
  for (let number = 1; number <= 10 * saves.length; number += 1) {
    saves[number % saves.length](main(number), number);
    await sleep(50);
  }
  writeFileSync(imported, lib(2));
  writeFileSync(script, main('"last"'));
  await until(async () => isDeepStrictEqual(await ask(sockets[0], 'say', 'y'), { version: 'last', said: 'y!!' }), { message: server.log });
  typing = false;
  await Promise.all(load);
  assert.deepEqual(ends, []);
  assert.deepEqual(answers.filter(({ said }) => !/^x!+$/.test(said)), []);
  assert.ok(new Set(answers.map(({ version }) => version)).size > 3, 'versions came and went');
});

test('what runs scripts was built from the sources that are here', () => {
  const folder = join(ROOT, 'host/scripts');
  const lines = readFileSync(join(folder, 'built.sha256'), 'utf8').trim().split('\n');
  const built = new Map(lines.map((line) => line.split(/ [ *]/).toReversed()));
  for (const [name, hash] of built) {
    const found = createHash('sha256').update(readFileSync(join(folder, name))).digest('hex');
    assert.equal(found, hash, `${name} has changed: run host/scripts/build`);
  }
  for (const part of ['wit', 'runtime', 'types', 'encoder']) {
    for (const entry of readdirSync(join(folder, part), { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name).slice(folder.length + 1);
      assert.ok(!entry.isFile() || built.has(path), `${path} is new: run host/scripts/build`);
    }
  }
});

test('check doubts that a script has the grants that its code looks to need', async (t) => {
  const text = `${HELLO.replace('cx.emit("greeted", name);', 'cx.emit("greeted", name);\n        cx.store.set("last", name);\n        cx.to("hall").emit("greeted", name);')}`;
  const doubts = async (grants) => {
    const { code, stderr } = await makeFolder(t, { plugins: [{ script: 'hello.ts', text, grants }] }).mixlab('check');
    assert.equal(code, 0);
    return stderr;
  };
  const said = (...kinds) => `warning: the script of "hello" looks as if it needs ${kinds.map((it) => `"${it}"`).join(', ')}, and has no grant of that kind\n`;
  assert.equal(await doubts([]), said('emit:EVENT', 'room:ROOM', 'store'));
  assert.equal(await doubts(['room:hall']), said('store'));
  assert.equal(await doubts(['emit:greeted', 'room:*', 'store:names:read']), '');
});
