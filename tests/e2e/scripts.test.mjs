// Plugins that are scripts: a file that is saved is live, and whatever goes wrong has its line.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { ask, connect, nextEvent } from '../support/client.mjs';
import { blocks } from '../support/documents.mjs';
import { plugin, reload } from '../support/plugins.mjs';
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
  for (const { text, where } of blocks('plugins/SCRIPTS.md').filter(({ language }) => language === 'ts')) {
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

test('what runs scripts was built from the sources that are here', () => {
  const folder = join(ROOT, 'host/scripts');
  const lines = readFileSync(join(folder, 'built.sha256'), 'utf8').trim().split('\n');
  const built = new Map(lines.map((line) => line.split(/ [ *]/).toReversed()));
  for (const [name, hash] of built) {
    const found = createHash('sha256').update(readFileSync(join(folder, name))).digest('hex');
    assert.equal(found, hash, `${name} has changed: run host/scripts/build`);
  }
  for (const part of ['wit', 'runtime', 'types']) {
    for (const entry of readdirSync(join(folder, part), { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name).slice(folder.length + 1);
      assert.ok(!entry.isFile() || built.has(path), `${path} is new: run host/scripts/build`);
    }
  }
});
