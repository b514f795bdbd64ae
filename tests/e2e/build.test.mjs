// `mixlab build` and `up --watch` for plugins that are no crates: whatever builds them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { blocks } from '../support/documents.mjs';
import { rawSocket } from '../support/raw.mjs';
import { makeFolder, pluginTable, ROOT, startServer, wasm } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const TABLE = { wasm: 'echo', path: 'built/echo.wasm', source: 'source' };

/** A folder with a plugin that is built from `files`. What stands for its compiler's result is in `component.wasm`. */
function withSource(t, files, { env, ...keys } = {}) {
  const home = makeFolder(t, { plugins: [{ ...TABLE, ...keys }], env });
  mkdirSync(join(home.folder, 'source'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(home.folder, 'source', name), text);
  cpSync(wasm('echo'), join(home.folder, 'component.wasm'));
  return home;
}

const COPY = 'cp ../component.wasm "$MIXLAB_OUT"';

for (const [kind, files, build] of [
  ['the line in mixlab.toml', { Makefile: 'no rule\n' }, `cp "$MIXLAB_WIT/mixlab.wit" . && ${COPY}`],
  ['its Makefile', { Makefile: `all:\n\tcp "$$MIXLAB_WIT/mixlab.wit" .\n\t${COPY.replaceAll('$', () => '$$')}\n` }],
  ['its package.json', { 'package.json': JSON.stringify({ scripts: { build: `cp "$MIXLAB_WIT/mixlab.wit" . && ${COPY}` } }) }],
]) {
  test(`a plugin is built as ${kind} says, in its source and with the contract`, async (t) => {
    const home = withSource(t, files, build && { build });
    const { code, stderr } = await home.mixlab('build');
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^built echo -> \S*built\/echo\.wasm$/m);
    assert.deepEqual(readFileSync(join(home.folder, 'built/echo.wasm')), readFileSync(wasm('echo')));
    const contract = readFileSync(join(home.folder, 'source/mixlab.wit'));
    assert.deepEqual(contract, readFileSync(join(ROOT, 'wit/mixlab.wit')));
  });
}

test('what a build lacks is said, and what was built before stays', async (t) => {
  const home = withSource(t, {}, { build: COPY });
  assert.equal((await home.mixlab('build')).code, 0);
  const config = readFileSync(home.configPath, 'utf8');
  const bare = join(home.folder, 'bin');
  mkdirSync(bare);
  symlinkSync('/bin/sh', join(bare, 'sh'));
  for (const [build, files, expected] of [
    ['exit 3', {}, /plugin "echo" is not built: "exit 3" ended with exit status: 3/],
    [': > "$MIXLAB_OUT"', {}, /plugin "echo" makes no component: the file is empty/],
    ['echo text > "$MIXLAB_OUT"', {}, /plugin "echo" makes no component: it is not WebAssembly/],
    ['true', {}, /plugin "echo" is not built: "true" has not written \$MIXLAB_OUT \(.*echo\.wasm\)/],
    [undefined, {}, /in \S*source is no Cargo\.toml, .*Makefile; say in mixlab\.toml with `build`/],
    [undefined, { Makefile: '' }, /"make" cannot be run: install make/],
    [undefined, { 'pyproject.toml': '' }, /there is no echo\.py, the module of the plugin/],
    [undefined, { 'pyproject.toml': '', 'echo.py': '' }, /"componentize-py" cannot be run: install it: pip install componentize-py==/],
    [undefined, { 'package.json': '{}' }, /"npm run build" cannot be run: install Node\.js/],
  ]) {
    const other = withSource(t, files, build ? { build, env: { PATH: bare } } : { env: { PATH: bare } });
    cpSync(join(home.folder, 'built'), join(other.folder, 'built'), { recursive: true });
    const { code, stderr } = await other.mixlab('build');
    assert.equal(code, 1, stderr);
    assert.match(stderr, expected);
    assert.deepEqual(readFileSync(join(other.folder, 'built/echo.wasm')), readFileSync(wasm('echo')));
  }
  assert.equal(readFileSync(home.configPath, 'utf8'), config);
  const lost = makeFolder(t, { plugins: [TABLE] });
  const { code, stderr } = await lost.mixlab('build');
  assert.deepEqual([code, stderr], [1, `error: plugin "echo": its source ${join(lost.folder, 'source')} is no folder\n`]);
});

test('a plugin is built again when an author writes, and not because of what its build writes', async (t) => {
  // It counts its builds, and writes into its source what is another text each time.
  const build = `echo built >> ../builds; wc -l < ../builds > product; echo > temporary.$$; rm temporary.$$; ${COPY}`;
  const own = await startServer(t, { plugins: ['stamped'], args: ['--watch'] });
  const source = join(own.folder, 'source');
  mkdirSync(source);
  cpSync(wasm('echo'), join(own.folder, 'component.wasm'));
  const config = readFileSync(own.configPath, 'utf8');
  const table = `\n[[plugins]]\nname = "echo"\npath = "built/echo.wasm"\nsource = "source"\nbuild = ${JSON.stringify(build)}\n`;
  writeFileSync(own.configPath, config + table);
  const socket = await connect(t, own);
  await until(async () => (await ask(socket, 'echo', 'x')) === 'x', { message: () => own.log() });
  const builds = () => readFileSync(join(own.folder, 'builds'), 'utf8').length;
  /** Builds follow each other at once; how many there were when no other one has come for a while. */
  const settled = async () => {
    let [last, looks] = [0, 0];
    await until(() => (last === (last = builds()) ? ++looks : (looks = 0)) > 300, { message: () => `the builds end: ${own.log()}` });
    return last;
  };
  let before = await settled();
  for (const [name, text] of [['a.c', 'one'], ['a.c', 'two!'], ['product', 'by hand']]) {
    writeFileSync(join(source, name), text);
    await until(() => builds() > before, { message: () => `${name}: ${own.log()}` });
    before = await settled();
  }
});

test('a source that is written to all the time is built all the same', async (t) => {
  const home = await startServer(t, { plugins: ['stamped'], args: ['--watch'] });
  const source = join(home.folder, 'source');
  mkdirSync(source);
  cpSync(wasm('echo'), join(home.folder, 'component.wasm'));
  const table = { ...TABLE, build: `cat state >> ../builds; ${COPY}` };
  writeFileSync(join(source, 'state'), 'first\n');
  writeFileSync(home.configPath, readFileSync(home.configPath, 'utf8') + pluginTable(table));
  const built = (what) => until(() => readFileSync(join(home.folder, 'builds'), 'utf8').includes(what), { message: () => home.log() });
  await until(() => existsSync(join(home.folder, 'builds')));
  await built('first');
  let writes = 0;
  const writing = setInterval(() => writeFileSync(join(source, 'state'), `write ${(writes += 1)}\n`), 30);
  t.after(() => clearInterval(writing));
  await built('write');
  assert.ok(writes > 1);
});

test('the plugin in C of the documents is built, and does what it says', { timeout: 120_000 }, async (t) => {
  const home = makeFolder(t);
  const process = home.start('new', 'greeter', '--lang', 'c');
  assert.equal(await process.exited, 0, process.stderr());
  const [{ text }] = blocks('host/docs/plugins/c.md').filter(({ language }) => language === 'c');
  writeFileSync(join(home.folder, 'plugins/greeter/greeter.c'), text);
  const config = readFileSync(home.configPath, 'utf8').replace(/^grants = .*$/m, 'grants = ["emit", "everyone"]');
  writeFileSync(home.configPath, config);
  const build = home.start('build');
  assert.equal(await build.exited, 0, build.stderr());
  const { code, stdout, stderr } = await home.mixlab('call', 'target/plugins/greeter.wasm', 'greet', '"Ada"', '--grant', 'emit', '--grant', 'everyone');
  assert.equal(code, 0, stderr);
  assert.match(stdout, /Hello, Ada/);
});

test('a module whose allocator is not there before it has begun, as that of Go, is made a component', { timeout: 120_000 }, async (t) => {
  const build = 'clang-19 --target=wasm32 -nostdlib -Wl,--no-entry -O1 -o "$MIXLAB_OUT" early.c';
  const home = withSource(t, { 'early.c': readFileSync(join(ROOT, 'tests/fixtures/early.c')) }, { build });
  const process = home.start('build');
  assert.equal(await process.exited, 0, process.stderr());
  const { code, stdout, stderr } = await home.mixlab('call', 'built/echo.wasm', 'early', '"x"');
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^ack +"x"$/m);
});

test('what a plugin in C prints overwrites nothing that its call has', { timeout: 120_000 }, async (t) => {
  const home = makeFolder(t);
  const made = home.start('new', 'prints', '--lang', 'c');
  assert.equal(await made.exited, 0, made.stderr());
  const source = `#include <stdio.h>
#include <string.h>
#include "mixlab.h"
static mx_answer print(const char *arguments) {
    enum { PARTS = 300, SIZE = 1000 };
    unsigned char *parts[PARTS];
    for (int i = 0; i < PARTS; i++) parts[i] = memset(mx_memory(SIZE), 0xa5, SIZE);
    printf("%s\\n", arguments);
    fflush(stdout);
    for (int i = 0; i < PARTS; i++)
        for (int j = 0; j < SIZE; j++)
            if (parts[i][j] != 0xa5) mx_fail("the memory of the call was overwritten");
    return mx_done();
}
static const mx_event events[] = {{.name = "print", .access = MX_ANYONE, .handle = print}, {0}};
MX_PLUGIN(.name = "prints", .version = "0.1.0", .events = events);
`;
  writeFileSync(join(home.folder, 'plugins/prints/prints.c'), source);
  const step = '[[case.step]]\nfrom = "ann"\nsend = ["print", 1]\nack = []\n';
  writeFileSync(join(home.folder, 'plugins/prints/prints.test.toml'), `[[case]]\nname = "prints"\nclients.ann = {}\n${step.repeat(5)}`);
  const build = home.start('build');
  assert.equal(await build.exited, 0, build.stderr());
  const { code, stdout, stderr } = await home.mixlab('test');
  assert.equal(code, 0, stdout + stderr);
});

/** A plugin in C of this source, built as `mixlab new` has it. */
async function builtOfC(t, name, source, { grants = [], path = `target/plugins/${name}.wasm` } = {}) {
  const home = makeFolder(t);
  const made = home.start('new', name, '--lang', 'c');
  assert.equal(await made.exited, 0, made.stderr());
  writeFileSync(join(home.folder, `plugins/${name}/${name}.c`), source);
  const keys = { grants: JSON.stringify(grants), path: JSON.stringify(path) };
  const config = readFileSync(home.configPath, 'utf8').replace(/^(grants|path) = .*$/gm, (_, key) => `${key} = ${keys[key]}`);
  writeFileSync(home.configPath, config);
  const build = home.start('build');
  assert.equal(await build.exited, 0, build.stderr());
  return home;
}

test('a plugin in C whose stack overflows is stopped, and has overwritten nothing', { timeout: 120_000 }, async (t) => {
  const home = await builtOfC(t, 'deep', `#include "mixlab.h"
static char kept[40000] = "kept";
static mx_answer deep(const char *arguments) {
    (void)arguments;
    volatile char local[90000];
    for (int i = 0; i < 90000; i++) local[i] = '!';
    return mx_done();
}
static mx_answer see(const char *arguments) { (void)arguments; return mx_reply(mx_json("%s", kept)); }
static const mx_event events[] = {
    {.name = "deep", .access = MX_ANYONE, .handle = deep}, {.name = "see", .access = MX_ANYONE, .handle = see}, {0}};
MX_PLUGIN(.name = "deep", .version = "0.1.0", .events = events);
`);
  const steps = '[[case.step]]\nfrom = "ann"\nsend = ["deep"]\nrefused = "plugin_error"\n[[case.step]]\nfrom = "ann"\nsend = ["see"]\nack = ["kept"]\n';
  writeFileSync(join(home.folder, 'plugins/deep/deep.test.toml'), `[[case]]\nname = "deep"\nclients.ann = {}\n${steps}`);
  const { code, stdout, stderr } = await home.mixlab('test');
  assert.equal(code, 0, stdout + stderr);
});

test('a plugin in C that lacks an export or a handler is refused, and so is NULL for a name or a value', { timeout: 120_000 }, async (t) => {
  const head = '#include "mixlab.h"\nstatic mx_answer no(const char *auth) { (void)auth; return mx_reject("no", "No"); }\n';
  const events = (handle) => `static const mx_event events[] = {{.name = "a", .access = MX_ANYONE${handle}}, {0}};\n`;
  const plugin = (more) => `MX_PLUGIN(.name = "lacks", .version = "0.1.0", .events = events${more});\n`;
  const build = async (source, grants) => builtOfC(t, 'lacks', head + source, { grants });
  for (const [source, reason] of [
    [events(', .handle = no') + plugin(', .connect = no'), /`\.connect` or `\.disconnect`, and MX_EXPORT_CONNECTIONS; in the same file/],
    [`${events(', .handle = no') + plugin('')}MX_EXPORT_TIMERS;\n`, /`\.timer`, and MX_EXPORT_TIMERS; in the same file/],
    [events('') + plugin(''), /the event "a" has no `\.handle`/],
  ]) {
    const { code, stderr } = await (await build(source)).mixlab('check');
    assert.equal(code, 1, source);
    assert.match(stderr, reason);
  }
  const sets = 'static mx_answer set(const char *arguments) { mx_set(NULL, "k", mx_text_at(arguments, "/0/text"), 0); return mx_done(); }\n';
  const home = await build(sets + events(', .handle = set') + plugin(''), ['store']);
  const { stdout } = await home.mixlab('call', 'target/plugins/lacks.wasm', 'a', '{}', '--grant', 'store');
  assert.match(stdout, /^error +set: the value is NULL$/m);
  assert.doesNotMatch(stdout, /^store/m);
});

test('a plugin in C finds what the host has checked, whatever else stands beside it', { timeout: 120_000 }, async (t) => {
  const path = 'with blanks/strict.wasm';
  const grants = ['room:*'];
  const home = await builtOfC(t, 'strict', `#include "mixlab.h"
static mx_answer pay(const char *arguments) {
    const char *to = mx_text_at(arguments, "/0/to");
    return mx_reply(mx_json("[%f,%s]", mx_number_at(arguments, "/0/amount", -1), to));
}
static mx_answer close(const char *arguments) { (void)arguments; return mx_reply("\\"closed\\""); }
static mx_answer any(const char *arguments) { (void)arguments; return mx_reply("\\"any\\""); }
static mx_answer reply(const char *arguments) { return mx_reply(mx_at(arguments, "/0/nothing")); }
static mx_answer greet(const char *arguments) { return mx_reply(mx_json("%s", mx_text("Hello, %s", mx_text_at(arguments, "/0")))); }
#define PAY MX_JSON({"type": "array", "minItems": 1, "maxItems": 1, "prefixItems": [{"type": "object", \
    "properties": {"amount": {"type": "integer", "maximum": 10}, "to": {"type": "string", "maxLength": 5}}, "required": ["amount", "to"]}]})
static const char *const roles[] = {"admin", NULL};
static const mx_event events[] = {
    {.name = "pay", .access = MX_ANYONE, .arguments = PAY, .handle = pay},
    {.name = "close", .roles = roles, .handle = close},
    {.name = "reply", .access = MX_ANYONE, .handle = reply},
    {.name = "greet", .access = MX_ANYONE, .handle = greet},
    {.name = "*", .access = MX_ANYONE, .handle = any},
    {0}};
MX_PLUGIN(.name = "strict", .version = "0.1.0", .events = events);
`, { path, grants });
  const server = await startServer(t, { config: readFileSync(home.configPath, 'utf8').replace(path, join(home.folder, path)) });
  const socket = await rawSocket(t, server);
  for (const [name, json, answer] of [
    ['pay', '{"amount":99,"to":"mallory","amount":1,"to":"ann"}', '[1,"ann"]'],
    ['pay', '{"amount\\u0000":99,"to\\u0000":"mallory","amount":1,"to":"ann"}', '[1,"ann"]'],
    ['pay', '{"amount":1,"to":"a\\u0000b"}', '[1,"a\ufffdb"]'],
    ['close\\u0000x', '1', '"any"'],
  ]) {
    socket.frames.length = 0;
    socket.send(`421["${name}",${json}]`);
    const [, ack] = await socket.frame(/^431\[(.*)\]$/);
    assert.equal(ack, answer, json);
  }
  // What was not found is no value of an answer or a format.
  for (const event of ['reply', 'greet']) {
    socket.frames.length = 0;
    socket.send(`422["${event}",{}]`);
    await socket.frame(/^432\[\{"error":\{"code":"plugin_error"/);
  }
});

test('a core module that is no plugin is said to be none', { timeout: 120_000 }, async (t) => {
  const home = withSource(t, {}, { build: 'printf "\\000asm\\001\\000\\000\\000" > "$MIXLAB_OUT"' });
  const process = home.start('build');
  assert.equal(await process.exited, 1, process.stderr());
  assert.match(process.stderr(), /plugin "echo" makes no component: it does not export mixlab:plugin\/lifecycle@\S+, so it is no plugin/);
});

test('what plugins in C are built with was made of the contract as it is', () => {
  const [, made] = readFileSync(join(ROOT, 'plugins/c/bindings.h'), 'utf8').match(/sha256 ([0-9a-f]{64})/);
  const contract = createHash('sha256').update(readFileSync(join(ROOT, 'wit/mixlab.wit'))).digest('hex');
  assert.equal(made, contract, 'run plugins/c/generate');
});

test('the plugin in Python of the documents passes its test, on a host that is none', (t) => {
  const home = makeFolder(t);
  const [plugin, cases] = blocks('host/docs/plugins/python.md').filter(({ language }) => language === 'python');
  writeFileSync(join(home.folder, 'greeter.py'), plugin.text);
  const wrong = 'try:\n    fake.send("greet", "Ada", "fr")\n    raise SystemExit("not refused")\nexcept Exception as error:\n    assert error.code == "unknown_language"\n';
  const schema = 'assert plugin.events["greet"].signature.schema() == {"type": "array", "prefixItems": [{"type": "string", "minLength": 1, "maxLength": 50}, {"type": "string"}], "minItems": 1, "maxItems": 2}\n';
  writeFileSync(join(home.folder, 'cases.py'), `${cases.text}\n\ntest_greets()\nfake = Fake(plugin)\n${wrong}${schema}`);
  const env = { PYTHONPATH: join(ROOT, 'plugins/python'), PYTHONDONTWRITEBYTECODE: '1' };
  execFileSync(process.env.MIXLAB_PYTHON ?? 'python3', ['cases.py'], { cwd: home.folder, env, stdio: 'pipe' });
});
