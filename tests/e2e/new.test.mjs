// `mixlab new`: from an empty folder to the first event that is served.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { CARGO, COMPILING } from '../support/cargo.mjs';
import { ask, connect } from '../support/client.mjs';
import { FULL } from '../support/full.mjs';
import { PYTHON } from '../support/python.mjs';
import { makeFolder, ROOT } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const TEMPLATES = ['chat', 'counter', 'webhook', 'timer', 'filter'];

/** componentize-py is beside Python. */
const PATH = `${dirname(PYTHON)}:${process.env.PATH}`;

/** The first event of a template, and its ack; none where it takes no events of clients. */
const FIRST = { chat: ['first:join'], counter: ['first:count', { by: 2 }] };
const ACKS = { chat: undefined, counter: { count: 2 } };

function empty(t) {
  const home = makeFolder(t, { env: { ...CARGO, PATH } });
  rmSync(home.configPath);
  return home;
}

async function run(home, ...args) {
  const process = home.start(...args);
  const code = await process.exited;
  assert.equal(code, 0, process.stdout() + process.stderr());
  return process.stdout();
}

/** Makes a plugin, builds it if that is needed, tests and serves it. */
async function firstEvent(t, lang, template) {
  const home = empty(t);
  const began = Date.now();
  const wrote = await run(home, 'new', 'first', '--lang', lang, '--template', template);
  for (const [, path] of wrote.matchAll(/^wrote (.*)$/gm)) assert.ok(existsSync(path), path);
  if (lang === 'rust') {
    // The versions of this repository, which are fetched already.
    cpSync(join(ROOT, 'Cargo.lock'), join(home.folder, 'plugins/first/Cargo.lock'));
  }
  if (/^next: mixlab build/m.test(wrote)) await run(home, 'build', 'first');
  assert.match(await run(home, 'test'), /^1 case passed$/m);
  assert.doesNotMatch((await home.mixlab('check')).stderr, /looks as if it needs/);
  const readme = readFileSync(join(home.folder, 'plugins/first/README.md'), 'utf8');
  assert.doesNotMatch(readme, /\{\{/);
  const server = home.start('up', '--listen', '127.0.0.1:0');
  const [, url] = await until(() => server.stdout().match(/listening on (\S+)\n/), { message: server.stderr });
  const client = await connect(t, { url });
  if (FIRST[template]) assert.deepEqual(await ask(client, ...FIRST[template]), ACKS[template]);
  console.log(`${lang} ${template}: first event served after ${((Date.now() - began) / 1000).toFixed(1)} s`);
  if (lang === 'ts' || lang === 'js') runInNode(home);
  if (lang === 'python') {
    const tested = spawnSync(PYTHON, ['-m', 'pytest', '-q', 'plugins/first'], { cwd: home.folder, encoding: 'utf8' });
    assert.match(tested.stdout, /^1 passed/m, tested.stdout + tested.stderr);
  }
  if (lang === 'rust') {
    const folder = join(home.folder, 'plugins/first');
    const tested = spawnSync('cargo', ['test', '--offline'], { cwd: folder, env: { ...process.env, ...CARGO }, encoding: 'utf8' });
    assert.match(tested.stdout, /test result: ok\. 1 passed/, tested.stderr);
  }
}

/** Runs the test of a script's handlers, as an author does who has Node. */
function runInNode(home) {
  const folder = join(home.folder, 'plugins');
  const installed = spawnSync('npm', ['install', '--offline', '--no-audit', '--no-fund'], { cwd: folder, encoding: 'utf8' });
  assert.equal(installed.status, 0, installed.stderr);
  const knowsTypes = ['--import', join(ROOT, 'tests/support/typescript.mjs')];
  // Not a part of this test.
  const { NODE_TEST_CONTEXT, ...env } = process.env;
  const tested = spawnSync(process.execPath, [...knowsTypes, '--test', '--test-reporter=tap'], { cwd: folder, env, encoding: 'utf8' });
  assert.match(tested.stdout, /^# pass 1$/m, tested.stdout + tested.stderr);
}

/** A component of Python takes a minute to be built and compiled. */
const OF_PYTHON = FULL ? TEMPLATES : ['chat'];

for (const lang of ['ts', 'js', 'rust', 'c', 'python']) {
  describe(`a plugin in ${lang} works as it is written`, () => {
    for (const template of lang === 'python' ? OF_PYTHON : TEMPLATES) {
      test(template, { timeout: 10 * COMPILING }, (t) => firstEvent(t, lang, template));
    }
  });
}

test('what a plugin in Python may not do is denied, and what it is built with is said', { timeout: 10 * COMPILING }, async (t) => {
  const home = empty(t);
  await run(home, 'new', 'first', '--lang', 'python');
  const folder = join(home.folder, 'plugins/first');
  const asked = {
    emit: 'cx.emit("x", 1)',
    join: 'cx.join("room")',
    'emit to a room': 'cx.to("room").emit("x")',
    'emit to everybody': 'cx.broadcast.emit("x")',
    'emit to a user': 'cx.to_user("7").emit("x")',
    ask: 'cx.ask("x")',
    count: 'cx.broadcast.count()',
    disconnect: 'cx.disconnect()',
    read: 'cx.store.get("key")',
    write: 'cx.store.set("key", 1)',
    'read a bucket': 'cx.bucket("other").get("key")',
    'set a timer': 'cx.timers.set("name")',
    'be present': 'cx.presence("room").enter({})',
    'who is present': 'cx.presence("room").members()',
    history: 'cx.history("topic")',
    // Needs no grant.
    data: 'cx.data',
  };
  const tries = Object.entries(asked).map(([what, call]) => `    ${JSON.stringify(what)}: lambda cx: ${call},`);
  writeFileSync(
    join(folder, 'first.py'),
    `from mixlab import Context, HostError, Plugin

plugin = Plugin("first", "0.1.0")
TRIES = {
${tries.join('\n')}
}


@plugin.event("try", anyone=True)
def attempt(cx: Context, what: str) -> str:
    try:
        TRIES[what](cx)
    except HostError as error:
        return error.code
    return "done"
`,
  );
  const without = makeFolder(t, { env: { PATH: '/usr/bin:/bin' } });
  cpSync(join(home.folder, 'plugins'), join(without.folder, 'plugins'), { recursive: true });
  cpSync(home.configPath, without.configPath);
  const { code, stderr } = await without.mixlab('build');
  assert.equal(code, 1);
  assert.match(stderr, /"componentize-py" cannot be run: install it: pip install componentize-py==\d/);

  await run(home, 'build', 'first');
  const ungranted = readFileSync(home.configPath, 'utf8').replace(/^grants = .*$/m, 'grants = []');
  writeFileSync(home.configPath, ungranted);
  const server = home.start('up', '--listen', '127.0.0.1:0');
  const [, url] = await until(() => server.stdout().match(/listening on (\S+)\n/), { message: server.stderr, timeout: COMPILING });
  const client = await connect(t, { url });
  const answers = {};
  for (const what of Object.keys(asked)) answers[what] = await ask(client, 'try', what);
  const denied = Object.fromEntries(Object.keys(asked).map((what) => [what, 'denied']));
  assert.deepEqual(answers, { ...denied, data: 'done' });
});

test('what is there already is left as it is', async (t) => {
  const home = makeFolder(t, { config: '[log]\nlevel = "warn" # quiet\n' });
  await run(home, 'new', 'one', '--lang', 'js');
  await run(home, 'new', 'two', '--lang', 'ts');
  const config = readFileSync(home.configPath, 'utf8');
  assert.ok(config.startsWith('[log]\nlevel = "warn" # quiet\n'), config);
  assert.deepEqual([...config.matchAll(/^name = "(.*)"$/gm)].map(([, name]) => name), ['one', 'two']);
  assert.match(await run(home, 'check'), /^one .*\ntwo /m);
  for (const [args, expected] of [
    [['one', '--lang', 'js'], /has a plugin "one" already/],
    [['Two', '--lang', 'js'], /"Two": expected 1 to 64 of a-z/],
    [['three', '--lang', 'cobol'], /invalid value 'cobol'.*\n.*rust, ts, js, c, python/],
    [['json', '--lang', 'python'], /"json": Python has another meaning for it/],
  ]) {
    const { code, stderr } = await home.mixlab('new', ...args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, expected);
  }
  assert.equal(readFileSync(home.configPath, 'utf8'), config);
});

test('several that are made at once are all there', async (t) => {
  const home = makeFolder(t);
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  await Promise.all(names.map((name) => run(home, 'new', name, '--lang', 'js')));
  const config = readFileSync(home.configPath, 'utf8');
  assert.deepEqual([...config.matchAll(/^name = "(.*)"$/gm)].map(([, name]) => name).sort(), names);
});

test('a configuration that no table can follow is said, and left as it is', async (t) => {
  const config = 'plugins = []\n';
  const home = makeFolder(t, { config });
  const { code, stderr } = await home.mixlab('new', 'one', '--lang', 'js');
  assert.equal(code, 1, stderr);
  assert.match(stderr, /a plugin cannot be added to .*mixlab\.toml/);
  assert.equal(readFileSync(home.configPath, 'utf8'), config);
  assert.ok(!existsSync(join(home.folder, 'plugins')));
});
