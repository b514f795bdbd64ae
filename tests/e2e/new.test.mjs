// `mixlab new`: from an empty folder to the first event that is served.
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { CARGO, COMPILING } from '../support/cargo.mjs';
import { ask, connect } from '../support/client.mjs';
import { makeFolder, ROOT } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const TEMPLATES = ['chat', 'counter', 'webhook', 'timer', 'filter'];

/** The first event of a template, and its ack; none where it takes no events of clients. */
const FIRST = { chat: ['first:join'], counter: ['first:count', { by: 2 }] };
const ACKS = { chat: undefined, counter: { count: 2 } };

function empty(t) {
  const home = makeFolder(t, { env: CARGO });
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
  const readme = readFileSync(join(home.folder, 'plugins/first/README.md'), 'utf8');
  assert.doesNotMatch(readme, /\{\{/);
  const server = home.start('up', '--listen', '127.0.0.1:0');
  const [, url] = await until(() => server.stdout().match(/listening on (\S+)\n/), { message: server.stderr });
  const client = await connect(t, { url });
  if (FIRST[template]) assert.deepEqual(await ask(client, ...FIRST[template]), ACKS[template]);
  console.log(`${lang} ${template}: first event served after ${((Date.now() - began) / 1000).toFixed(1)} s`);
}

for (const lang of ['ts', 'js', 'rust', 'c']) {
  describe(`a plugin in ${lang} works as it is written`, () => {
    for (const template of TEMPLATES) {
      test(template, { timeout: 3 * COMPILING }, (t) => firstEvent(t, lang, template));
    }
  });
}

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
    [['three', '--lang', 'cobol'], /invalid value 'cobol'.*\n.*rust, ts, js, c/],
  ]) {
    const { code, stderr } = await home.mixlab('new', ...args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, expected);
  }
  assert.equal(readFileSync(home.configPath, 'utf8'), config);
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
