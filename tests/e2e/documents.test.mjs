// The code in the documents does what they say, for a reader who copies it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { CARGO, COMPILING, withSdk, writeCrate } from '../support/cargo.mjs';
import { makeAuthority } from '../support/certificates.mjs';
import { ask, connect, nextEvent } from '../support/client.mjs';
import { blocks, commands, DOCUMENTS } from '../support/documents.mjs';
import { LOAD, makeFolder, PROGRAM, ROOT, wasm } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const BLOCKS = DOCUMENTS.flatMap(blocks);
const written = (...languages) => BLOCKS.filter(({ language }) => languages.includes(language));

/** Of a page that first-plugin.test.mjs follows to the letter. */
const isFollowed = ({ where }) => where.startsWith('host/docs/start/');

const isManifest = ({ text }) => /^\[(package\]|profile\.)/.test(text);
const isOfTalk = ({ text }) => /^name = "talk"$/m.test(text);

test('every block of code is in a language that is checked', () => {
  const checked = written('rust', 'toml', 'js', 'ts', 'html', 'sh', 'bash', 'c', 'python');
  const drawings = written('');
  // What a reader is shown, held by first-plugin.test.mjs, and the ACL that cluster-trust.test.mjs has Redis hold.
  const output = written('text');
  assert.equal(checked.length + drawings.length + output.length, BLOCKS.length);
  assert.ok(checked.length > 20, 'the documents are found');
  assert.ok(drawings.every(({ where }) => where.startsWith('ARCHITECTURE.md')));
  assert.ok(output.every((block) => isFollowed(block) || block.where.startsWith('host/docs/running/redis.md')));
});

/** What the tests of a file are called; `…` stands for what differs from one to the next. */
function testNames(path) {
  const CALLED = /\b(?:test|it)\(\s*(['"`])((?:\\.|(?!\1)[^])*)\1|#\[test\]\s+fn (\w+)\(/g;
  const source = readFileSync(join(ROOT, path), 'utf8');
  // What a text has behind the beginning of a placeholder is JavaScript, and ends with its last brace.
  const names = [...source.matchAll(CALLED)].map(([, , text, name]) => name ?? text.replace(/\$\{[^`]*?\}(?=[^}]|$)/g, '…').replace(/\\(.)/g, '$1'));
  return new Set(names);
}

test('each promise of the threat model is held by a test that is there', () => {
  const text = readFileSync(join(ROOT, 'host/docs/running/threats.md'), 'utf8').replace(/\s+/g, ' ');
  const [, ...promised] = text.split(/(?= - \*\*| ## )/);
  let names = [];
  let held = 0;
  for (const [word, name, path] of text.matchAll(/\*\*[^*]+\*\*|\*([^*]+)\*|\(`((?:tests|host)\/[^`]+)`\)/g)) {
    if (name) names.push(name);
    if (!path) continue;
    assert.ok(names.length > 0, `${word} stands behind a test`);
    const there = testNames(path);
    for (const name of names) assert.ok(there.has(name), `${path} has the test ${JSON.stringify(name)}`);
    held += names.length;
    names = [];
  }
  assert.deepEqual(names, [], 'each test has its file');
  assert.ok(held > 60);
  const bare = promised.filter((promise) => promise.startsWith(' - **') && !/\(`(tests|host)\//.test(promise));
  assert.deepEqual(bare, []);
});

/** The document that has the plugin's manifest. */
const FIRST = 'host/docs/plugins/rust.md';
const [manifest] = written('toml').filter(isManifest);

test('the first plugin is of the workspace, in the folder that is written', (t) => {
  const { folder } = makeFolder(t);
  const isOurs = (path) => !/\/(node_modules|target|\.git)$/.test(path);
  cpSync(ROOT, folder, { recursive: true, filter: isOurs });
  const [{ text: source }] = written('rust');
  writeCrate(join(folder, 'plugins/talk'), manifest.text, source);
  const args = ['metadata', '--no-deps', '--offline', '--format-version', '1'];
  const options = { cwd: join(folder, 'plugins/talk'), encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] };
  const { packages } = JSON.parse(execFileSync('cargo', args, options));
  assert.ok(packages.some(({ name }) => name === 'talk'));
});

describe('the first plugin, outside the repository, with nothing but what is written', () => {
  for (const document of ['README.md', FIRST]) {
    test(document, { timeout: 3 * COMPILING }, async (t) => {
      const ofDocument = ({ where }) => where.startsWith(`${document}:`);
      const [source] = written('rust').filter(ofDocument);
      const [config] = written('toml').filter((block) => ofDocument(block) && isOfTalk(block) && !isManifest(block));
      const home = makeFolder(t, { config: config.text, env: CARGO });
      writeCrate(join(home.folder, 'plugins/talk'), withSdk(manifest.text), source.text);

      const build = home.start('build', 'talk');
      assert.equal(await build.exited, 0, build.stderr());
      const check = await home.mixlab('check');
      assert.equal(check.code, 0, check.stderr);
      assert.match(check.stdout, /^talk 1\.0\.0: talk:send\n/);

      const server = home.start('up', '--listen', '127.0.0.1:0');
      const [, url] = await until(() => server.stdout().match(/listening on (\S+)\n/), { message: server.stderr });
      const ada = await connect(t, { url }, { token: token({ sub: 'ada' }) });
      const grace = await connect(t, { url }, { token: token({ sub: 'grace' }) });
      assert.equal(await ask(ada, 'talk:send', { text: 'hello' }), undefined);
      assert.deepEqual(await nextEvent(grace, 'talk:message'), [{ text: 'hello' }]);
      assert.equal((await ask(ada, 'talk:send', { text: '' })).error.code, 'invalid_payload');
    });
  }
});

const isPlugin = ({ text, where }) => where.startsWith('host/docs/plugins/') && text.includes('export!(plugin');

/** The component of a plugin that is written in Rust. */
async function built(t, { text, where }) {
  const table = '[[plugins]]\nname = "talk"\npath = "talk.wasm"\nsource = "plugins/talk"\n';
  const home = makeFolder(t, { config: table, env: CARGO });
  writeCrate(join(home.folder, 'plugins/talk'), withSdk(manifest.text), text);
  const build = home.start('build', 'talk');
  assert.equal(await build.exited, 0, `${where}: ${build.stderr()}`);
  return join(home.folder, 'talk.wasm');
}

test('the other plugins are built from what is written', { timeout: 6 * COMPILING }, async (t) => {
  const others = written('rust').filter((block) => isPlugin(block) && !block.where.startsWith(FIRST));
  assert.ok(others.length > 0);
  for (const block of others) await built(t, block);
});

/** A plugin that a configuration names: one that there is, or the one that calls itself so. */
async function component(t, name) {
  const own = written('rust').find((block) => isPlugin(block) && block.text.includes(`Plugin::new("${name}"`));
  return own ? built(t, own) : wasm(name);
}

/** The script that a document has under its path. */
function script(path) {
  const block = written('ts', 'js').find(({ before }) => before.endsWith(`\`${path}\`:`));
  assert.ok(block, `${path} is written`);
  return block.text;
}

/** What configurations have from the environment. */
const SECRETS = { PAYMENTS_SECRET: `whsec_${Buffer.alloc(32, 7).toString('base64')}` };

const isOfCases = ({ text }) => /^\[\[case\]\]$/m.test(text);

describe('cases pass that are written for a script', () => {
  for (const { text, where, before } of written('toml').filter(isOfCases)) {
    test(where, async (t) => {
      const [, path] = before.match(/`(\S+)\.test\.toml`:$/);
      const files = { [`${path}.ts`]: script(`${path}.ts`), [`${path}.test.toml`]: text };
      const { code, stdout, stderr } = await makeFolder(t, { files }).mixlab('test', `${path}.test.toml`);
      assert.equal(code, 0, stdout + stderr);
    });
  }
});

const isOfTls = ({ text }) => /^\[tls\]$/m.test(text);

/** In place of the one that a document names. */
function certificate(t) {
  const { paths } = makeAuthority(t).issue();
  return { MIXLAB_TLS__CERTIFICATE: paths.certificate, MIXLAB_TLS__KEY: paths.key };
}

describe('TOML is a configuration that serves, where its plugins are', () => {
  for (const block of written('toml').filter((block) => ![isManifest, isOfTalk, isOfCases, isFollowed].some((is) => is(block)))) {
    test(block.where, { timeout: 2 * COMPILING }, async (t) => {
      const home = makeFolder(t, { config: block.text, env: { ...SECRETS, ...(isOfTls(block) && certificate(t)) } });
      for (const [, path] of block.text.matchAll(/^path = "(.*\.wasm)"$/gm)) {
        mkdirSync(dirname(join(home.folder, path)), { recursive: true });
        cpSync(await component(t, basename(path, '.wasm')), join(home.folder, path));
      }
      for (const [, path] of block.text.matchAll(/^path = "(.*\.m?[jt]s)"$/gm)) {
        mkdirSync(dirname(join(home.folder, path)), { recursive: true });
        writeFileSync(join(home.folder, path), script(path));
      }
      const { code, stderr } = await home.mixlab('check');
      assert.equal(code, 0, stderr);
    });
  }
});

/** Runs a program that says what is wrong with `input` on standard error. */
const parse = (program, args, input) => execFileSync(program, args, { input, stdio: ['pipe', 'ignore', 'pipe'] });

describe('JavaScript is parsed', () => {
  const check = (source) => parse('node', ['--check', '--input-type=module'], source);
  for (const { text, where } of written('js')) test(where, () => check(text));
  for (const { text, where } of written('html')) {
    test(where, () => {
      const scripts = [...text.matchAll(/<script>(.*?)<\/script>/gs)];
      assert.ok(scripts.length > 0);
      for (const [, source] of scripts) check(source);
    });
  }
});

describe('shell is parsed', () => {
  for (const { text, where } of written('sh', 'bash')) test(where, () => parse('bash', ['-n'], text));
});

describe('commands take the arguments that documents give them', () => {
  const programs = { mixlab: PROGRAM, 'mixlab-load': LOAD };
  for (const document of DOCUMENTS) {
    for (const { program, args } of commands(document)) {
      // What is wrong with arguments is said before help is given.
      test(`${document}: ${program} ${args.join(' ')}`, () => parse(programs[program], [...args, '--help']));
    }
  }
});
