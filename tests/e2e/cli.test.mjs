// The command line: what it says, and with which code it ends.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CARGO, COMPILING, withSdk, writeCrate } from '../support/cargo.mjs';
import { ask, connect, nextEvent } from '../support/client.mjs';
import { editConfig } from '../support/plugins.mjs';
import { makeFolder, pluginTable, ROOT, startServer } from '../support/server.mjs';
import { seconds, SECRET, sign } from '../support/tokens.mjs';
import { PATIENCE, until, within } from '../support/wait.mjs';

const CUSTOM_EVENT = { wasm: 'custom-event', grants: ['emit:custom_response'] };

const PLUGIN = '[[plugins]]\nname = "a"\npath = "a.wasm"\n';

// Configurations that are wrong: the text, and the line that is printed after "error: FOLDER/".
const WRONG = {
  'an unknown key': ['lisen = "127.0.0.1:0"', 'mixlab.toml:1: unknown key "lisen" (did you mean "listen"?)'],
  'an unknown key in a section': [
    '\n[socket]\npingInterval = "1s"',
    'mixlab.toml:3: socket: unknown key "pingInterval" (did you mean "ping_interval"?)',
  ],
  'an unknown section': ['[sockets]', 'mixlab.toml:1: unknown key "sockets" (did you mean "socket"?)'],
  'an unknown key of a plugin': [
    `${PLUGIN}grant = []`,
    'mixlab.toml:4: plugins.a: unknown key "grant" (did you mean "grants"?)',
  ],
  'a wrong type': ['[auth]\nanonymous = "no"', 'mixlab.toml:2: auth.anonymous: expected true or false, found a string'],
  'a duration without a unit': [
    '[budget]\ncpu = 30',
    'mixlab.toml:2: budget.cpu: invalid duration 30: expected a number with a unit, like "30s"',
  ],
  'a duplicate name': [
    `${PLUGIN}\n${PLUGIN}`,
    'mixlab.toml:6: plugins.a.name: duplicate plugin name "a"; the first is in line 2',
  ],
  'an unknown grant': [
    `${PLUGIN}grants = ["rooms:a"]`,
    'mixlab.toml:4: plugins.a.grants[0]: unknown grant "rooms:a" (did you mean "room:a"?)',
  ],
  'no TOML': ['listen = 127', 'mixlab.toml:1: '],
};

/** Exactly one line on standard error, nothing on standard output. */
function assertOneLine({ code, stdout, stderr }, expectedCode, expected) {
  assert.deepEqual([stdout, stderr.trimEnd().split('\n').length], ['', 1], stderr);
  if (expected instanceof RegExp) assert.match(stderr, expected);
  else assert.ok(stderr.startsWith(expected), `${expected}\n${stderr}`);
  assert.equal(code, expectedCode);
}

for (const [what, [config, line]] of Object.entries(WRONG)) {
  test(`every command ends with code 2 and one line that names file and line: ${what}`, async (t) => {
    const folder = makeFolder(t, { config });
    for (const command of [['check'], ['up'], ['build'], ['plugin', 'list'], ['token', 'gen', '--user', '1']]) {
      assertOneLine(await folder.mixlab(...command), 2, `error: ${folder.folder}/${line}`);
    }
  });
}

test('a file that is not there is named, with what to do', async (t) => {
  const folder = makeFolder(t);
  rmSync(folder.configPath);
  for (const command of ['check', 'up', 'build']) {
    const expected = `error: ${folder.configPath}: no such file; name another with --config\n`;
    assertOneLine(await folder.mixlab(command), 2, expected);
  }
});

test('a wrong variable or option is named as it was given', async (t) => {
  const folder = makeFolder(t, { env: { MIXLAB_SOCKET__PING_INTERVALL: '1s' } });
  assertOneLine(
    await folder.mixlab('check'),
    2,
    'error: MIXLAB_SOCKET__PING_INTERVALL: unknown key (did you mean MIXLAB_SOCKET__PING_INTERVAL?)\n',
  );
  const other = makeFolder(t);
  assertOneLine(await other.mixlab('up', '--listen', '3000'), 2, 'error: --listen: invalid address "3000"');
});

test('a command line that is wrong is answered with usage and code 2', async (t) => {
  const folder = makeFolder(t);
  for (const args of [['chekc'], ['up', '--nonsense'], ['plugin'], ['token', 'gen'], ['token', 'gen', '--user', '']]) {
    const { code, stdout, stderr } = await folder.mixlab(...args);
    assert.deepEqual([code, stdout], [2, ''], args.join(' '));
    assert.match(stderr, /--help/);
  }
});

test('check says what each plugin serves, and with code 1 what would be refused', async (t) => {
  const good = makeFolder(t, {
    config: '[budget]\ncpu = "500ms"',
    plugins: [CUSTOM_EVENT, 'echo', { wasm: 'traps', enabled: false }],
  });
  const { code, stdout, stderr } = await good.mixlab('check');
  assert.deepEqual([code, stderr], [0, '']);
  assert.deepEqual(stdout.split('\n'), [
    'custom-event 0.1.0: custom_event',
    'echo 1.0.0: echo, echo:ping',
    'traps: switched off',
    `${good.configPath} is good`,
    '',
  ]);

  const bad = makeFolder(t, { plugins: [{ wasm: 'custom-event' }, { wasm: 'echo', path: 'nowhere.wasm' }, 'traps'] });
  const refused = await bad.mixlab('check');
  assert.equal(refused.code, 1);
  assert.equal(refused.stdout, 'traps 1.0.0: traps, traps:ping\n');
  assert.deepEqual(refused.stderr.split('\n'), [
    'error: custom-event: it imports mixlab:plugin/emit.emit, which needs a grant: add "emit" to its grants in mixlab.toml',
    `error: echo: ${bad.folder}/nowhere.wasm: no such file`,
    '',
  ]);
});

test('check prints the same as JSON', async (t) => {
  const folder = makeFolder(t, {
    plugins: ['echo', { wasm: 'custom-event' }, { wasm: 'traps', enabled: false }],
  });
  const refused = await folder.mixlab('check', '--format', 'json');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /^error: custom-event: it imports /);
  const { config_error: error, warnings, plugins } = JSON.parse(refused.stdout);
  assert.deepEqual([error, warnings], [null, []]);
  assert.deepEqual(
    plugins.map(({ name, state, events, refusal }) => [name, state, events, refusal?.slice(0, 10)]),
    [
      ['echo', 'serving', ['echo', 'echo:ping'], undefined],
      ['custom-event', 'refused', [], 'it imports'],
      ['traps', 'disabled', [], undefined],
    ],
  );

  const broken = makeFolder(t, { config: 'nonsense = 1' });
  const { code, stdout, stderr } = await broken.mixlab('check', '--format', 'json');
  assert.equal(code, 2);
  assert.match(JSON.parse(stdout).config_error, /mixlab\.toml:1: unknown key "nonsense"/);
  assert.match(stderr, /unknown key "nonsense"/);
});

test('check says of a plugin that it is compiled too slowly, and ends', async (t) => {
  const folder = makeFolder(t, {
    plugins: [{ wasm: 'echo', budget: { compile: '1ms' } }],
    // Nothing was compiled before.
    env: { MIXLAB_RUNTIME__CACHE: undefined },
  });
  const { code, stderr } = await folder.mixlab('check');
  assert.deepEqual([code, stderr], [1, 'error: echo: it does not compile within the budget compile = 1ms\n']);
});

test('a version that is none is refused', async (t) => {
  const contracts = (version) => ({ wasm: 'contracts', config: { version, events: [{ name: 'x' }] } });
  const bad = makeFolder(t, { plugins: [contracts('one')] });
  const { code, stderr } = await bad.mixlab('check');
  assert.deepEqual([code, stderr], [1, 'error: contracts: its version "one" is not a semantic version, like 1.2.3\n']);
  const good = makeFolder(t, { plugins: [contracts('1.2.3-rc.1+build')] });
  assert.equal((await good.mixlab('check')).code, 0);
});

test('inspect takes what mixlab.toml says of the plugin, unless it is told otherwise', async (t) => {
  const folder = makeFolder(t, {
    plugins: ['echo', { wasm: 'contracts', config: { version: '1.5.0', events: [{ name: 'x' }], namespaces: ['/n'] } }],
  });
  const file = join(folder.folder, 'contracts.wasm');
  const inspected = await folder.mixlab('plugin', 'inspect', file);
  assert.equal(inspected.code, 0, inspected.stderr);
  assert.match(inspected.stdout, /^contracts 1\.5\.0\n {4}namespaces {3}\/n\n {4}needs {8}namespace:\/n\n/);

  const told = await folder.mixlab('plugin', 'inspect', file, '--plugin-config', '{"events":[{"name":"y"}]}');
  assert.match(told.stdout, /^contracts 1\.0\.0\n[^]*^event y$/m);

  // Another version of it has the same config.
  const newer = join(folder.folder, 'newer.wasm');
  cpSync(file, newer);
  for (const pair of [[file, newer], [newer, file]]) {
    const same = await folder.mixlab('plugin', 'diff', ...pair);
    assert.deepEqual([same.code, same.stdout], [0, 'nothing changes\n'], same.stderr);
  }

  rmSync(folder.configPath);
  const alone = await folder.mixlab('plugin', 'inspect', join(folder.folder, 'echo.wasm'));
  assert.equal(alone.code, 0, alone.stderr);
});

test('inspect lists the grants that a component needs, and those that its calls may', async (t) => {
  const folder = makeFolder(t, { plugins: ['conformance', 'emit_breaks_schema'] });
  const inspect = async (name) => {
    const { code, stdout, stderr } = await folder.mixlab('plugin', 'inspect', join(folder.folder, `${name}.wasm`), '--format', 'json');
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  const { requests, may_request: may } = await inspect('conformance');
  const expected = ['room:ROOM', 'emit', 'ask', 'handshake', 'disconnect'];
  assert.deepEqual(requests.slice(0, expected.length), expected);
  assert.ok(requests.slice(expected.length).every((grant) => grant.startsWith('namespace:/')), requests);
  assert.deepEqual(may, ['user:ID', 'role:ROLE', 'socket', 'everyone', 'history:TOPIC', 'header:NAME', 'claim:NAME']);

  const declared = await inspect('emit_breaks_schema');
  const emits = declared.emits.map(({ name }) => `emit:${name}`);
  assert.ok(emits.length > 0);
  assert.deepEqual(declared.requests, emits, 'what it says it emits');
  assert.ok(declared.may_request.includes('emit:EVENT'));
});

test('inspect takes compiled plugins from the cache, and leaves them there', async (t) => {
  const folder = makeFolder(t, { plugins: ['echo'], env: { MIXLAB_RUNTIME__CACHE: 'cache' } });
  const entries = () => readdirSync(join(folder.folder, 'cache/components')).filter((name) => name.endsWith('.code'));
  const inspect = async () => assert.equal((await folder.mixlab('plugin', 'inspect', join(folder.folder, 'echo.wasm'))).code, 0);
  await inspect();
  const [entry] = entries();
  const path = join(folder.folder, 'cache/components', entry);
  const { ino } = statSync(path);
  await inspect();
  assert.deepEqual([entries(), statSync(path).ino], [[entry], ino], 'nothing was compiled again');
});

test('token gen prints a token and nothing else, and it connects', async (t) => {
  const server = await startServer(t, { plugins: [CUSTOM_EVENT] });
  const { code, stdout, stderr } = await server.mixlab(
    ...['token', 'gen', '--user', '42', '--username', 'ada', '--role', 'admin', '--role', 'staff'],
  );
  assert.deepEqual([code, stderr], [0, '']);
  assert.match(stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
  const token = stdout.trim();
  const socket = await connect(t, server, { token });
  const [{ user }] = await nextEvent(socket, 'authenticated');
  assert.deepEqual(user, { id: '42', username: 'ada', role: 'admin', roles: ['admin', 'staff'] });

  const checked = await server.mixlab('token', 'check', token);
  assert.deepEqual([checked.code, JSON.parse(checked.stdout)], [0, user]);
  const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
  assert.equal(claims.exp - claims.iat, 24 * 3600);
});

test('token gen says how long a token is good', async (t) => {
  const folder = makeFolder(t);
  const { stdout } = await folder.mixlab('token', 'gen', '--user', '1', '--expires', '90s');
  const claims = JSON.parse(Buffer.from(stdout.split('.')[1], 'base64url'));
  assert.equal(claims.exp - claims.iat, 90);
  const { code, stderr } = await folder.mixlab('token', 'gen', '--user', '1', '--expires', '90');
  assert.equal(code, 2);
  assert.match(stderr, /invalid duration "90".*like "30s"/);
});

test('token check says what is wrong with a token and shows nothing of it', async (t) => {
  const folder = makeFolder(t);
  const claims = { sub: '1', exp: seconds(60) };
  for (const [token, reason] of [
    [sign({ ...claims, exp: seconds(-60) }), 'the token has expired'],
    [sign(claims, { secret: 'other' }), 'the token is not valid: its signature was made with another key'],
    [sign(claims, { alg: 'HS512' }), 'the token is not valid: it is not signed with HS256'],
    [sign(claims, { alg: 'none' }), 'the token is not valid: '],
    [sign({ exp: seconds(60) }), 'the token is not valid: no claim of '],
    ['garbage', 'the token is not valid: it does not have three parts'],
    ['a.b.c', 'the token is not valid: '],
  ]) {
    const checked = await folder.mixlab('token', 'check', token);
    assertOneLine(checked, 1, `error: ${reason}`);
    assert.ok(!checked.stderr.includes(token));
  }
  const good = sign(claims);
  const { code, stdout } = await folder.mixlab('token', 'check', good);
  assert.deepEqual([code, JSON.parse(stdout).id], [0, '1']);
});

test('token warns of a secret that is likely a mistake, beside the token', async (t) => {
  const folder = makeFolder(t, { env: { JWT_SECRET: `${SECRET}\n` } });
  const made = await folder.mixlab('token', 'gen', '--user', '1');
  assert.equal(made.code, 0);
  assert.match(made.stdout, /^eyJ\S+\n$/);
  assert.match(made.stderr, /^warning: JWT_SECRET begins or ends with white space.*\n$/);
  const checked = await folder.mixlab('token', 'check', sign({ sub: '1', exp: seconds(60) }));
  assert.equal(checked.code, 1);
  assert.match(checked.stderr, /^warning: JWT_SECRET .*\nerror: the token is not valid: its signature was made with another key/);
});

test('no token is made that would be refused', async (t) => {
  const folder = makeFolder(t);
  for (const role of ['', 'a\nb', 'x'.repeat(257)]) {
    const { code, stdout, stderr } = await folder.mixlab('token', 'gen', '--user', '1', '--role', role);
    assert.deepEqual([code, stdout], [2, '']);
    assert.match(stderr, /a role has 1 to 256 bytes and no control characters/);
  }
});

test('without JWT_SECRET there are no tokens to make or check', async (t) => {
  const folder = makeFolder(t, { env: { JWT_SECRET: undefined } });
  for (const args of [['gen', '--user', '1'], ['check', 'x']]) {
    assertOneLine(await folder.mixlab('token', ...args), 2, 'error: JWT_SECRET is not set: ');
  }
  const empty = makeFolder(t, { env: { JWT_SECRET: '' } });
  assertOneLine(await empty.mixlab('token', 'gen', '--user', '1'), 2, 'error: JWT_SECRET: is set, but empty');
});

test('plugin list shows the state of every plugin, as text and as JSON', async (t) => {
  const server = await startServer(t, {
    plugins: [CUSTOM_EVENT, 'traps', { wasm: 'ungranted' }, { wasm: 'echo', enabled: false }],
  });
  const socket = await connect(t, server);
  await ask(socket, 'custom_event', 1);
  await ask(socket, 'traps');
  const { code, stdout, stderr } = await server.mixlab('plugin', 'list');
  assert.deepEqual([code, stderr], [0, '']);
  assert.match(
    stdout,
    /^custom-event {2}serving {2}version 0\.1\.0 {2}generation 1 {2}1 calls {2}0 failures {2}p99 [\d.]+ ms\n {4}events {8}custom_event\n/,
  );
  assert.match(stdout, /^traps {2}serving {2}version 1\.0\.0 {2}generation 1 {2}1 calls {2}1 failures {2}p99 [\d.]+ ms$/m);
  assert.match(stdout, /^ {4}events {8}traps, traps:ping\n {4}last failure {2}\S+Z in traps: it trapped: /m);
  assert.match(stdout, /^ungranted {2}refused {2}version - {2}generation 0 .*\n.*\n {4}refused {7}it imports /m);
  assert.match(stdout, /^echo {2}disabled /m);

  const { stdout: json } = await server.mixlab('plugin', 'list', '--format', 'json');
  const { config_error: error, plugins } = JSON.parse(json);
  assert.equal(error, null);
  assert.deepEqual(
    plugins.map(({ name, state, calls, failures }) => [name, state, calls, failures]),
    [
      ['custom-event', 'serving', 1, 0],
      ['traps', 'serving', 1, 1],
      ['ungranted', 'refused', 0, 1],
      ['echo', 'disabled', 0, 0],
    ],
  );
  assert.equal(plugins[1].last_failure.during, 'traps');
  assert.equal(plugins[0].path, join(server.folder, 'custom-event.wasm'));
});

test('the order of plugin list is the order of mixlab.toml', async (t) => {
  const server = await startServer(t, {
    plugins: [{ wasm: 'echo', enabled: false }, 'traps', { wasm: 'sleeps', enabled: false }, CUSTOM_EVENT],
  });
  const { stdout } = await server.mixlab('plugin', 'list', '--format', 'json');
  assert.deepEqual(JSON.parse(stdout).plugins.map(({ name }) => name), ['echo', 'traps', 'sleeps', 'custom-event']);
});

test('plugin list finds its server without any key, and nobody else can use that way', async (t) => {
  const server = await startServer(t, { plugins: [CUSTOM_EVENT], env: { MIXLAB_API_KEY: undefined } });
  assert.equal((await server.mixlab('plugin', 'list')).code, 0);
  const [file] = execFileSync('find', [join(server.folder, 'run'), '-name', '*.json'], { encoding: 'utf8' })
    .trim()
    .split('\n');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(await server.stop(), 0);
  assert.throws(() => statSync(file), /ENOENT/, 'it goes with the server');
});

test('without a running server plugin list and reload say so', async (t) => {
  const folder = makeFolder(t, { plugins: [CUSTOM_EVENT], env: { MIXLAB_API_KEY: undefined } });
  for (const command of ['list', 'reload']) {
    assertOneLine(
      await folder.mixlab('plugin', command),
      1,
      `error: no server is running with ${folder.configPath}; for one elsewhere, give --listen and MIXLAB_API_KEY\n`,
    );
  }
  const server = await startServer(t, { env: { MIXLAB_API_KEY: undefined } });
  await server.kill();
  assertOneLine(await server.mixlab('plugin', 'list'), 1, `error: the server at ${server.address} does not answer`);
});

test('a server elsewhere is found by its address and a key', async (t) => {
  const server = await startServer(t, { plugins: [CUSTOM_EVENT] });
  const elsewhere = makeFolder(t);
  const { code, stdout } = await elsewhere.mixlab('plugin', 'list', '--listen', server.address);
  assert.equal(code, 0);
  assert.match(stdout, /^custom-event {2}serving/);
  const stranger = makeFolder(t, { env: { MIXLAB_API_KEY: 'wrong' } });
  assertOneLine(
    await stranger.mixlab('plugin', 'list', '--listen', server.address),
    1,
    `error: the server at ${server.address} refused: this API key is not known\n`,
  );
});

test('up says in one line that its address is taken, and does not harm who has it', async (t) => {
  const server = await startServer(t, { plugins: [CUSTOM_EVENT] });
  const folder = makeFolder(t);
  const second = await folder.mixlab('up', '--listen', server.address);
  assertOneLine(second, 1, `error: cannot listen on ${server.address}: Address already in use`);
  // Also with the very configuration of the server that runs: it is still found afterwards.
  const same = await server.mixlab('up', '--listen', server.address);
  assert.equal(same.code, 1);
  assert.equal((await server.mixlab('plugin', 'list')).code, 0);
});

test('up refuses an address that others can reach, unless there is a secret', async (t) => {
  const folder = makeFolder(t, { env: { JWT_SECRET: undefined } });
  for (const [address, shown] of [
    ['0.0.0.0:0', '0.0.0.0:0'],
    ['[::]:0', '[::]:0'],
  ]) {
    assertOneLine(
      await folder.mixlab('up', '--listen', address),
      1,
      `error: ${shown} can be reached from other machines and JWT_SECRET is not set: set it, or listen on 127.0.0.1\n`,
    );
  }
  const open = await startServer(t, { listen: '0.0.0.0:0' });
  assert.match(open.output(), /^MixLab is listening on http:\/\/0\.0\.0\.0:\d+\n$/);
  assert.ok(!open.output().includes(SECRET));
});

test('check refuses the addresses that up refuses', async (t) => {
  for (const [secret, reason] of [
    [undefined, 'JWT_SECRET is not set'],
    ['x'.repeat(31), 'JWT_SECRET has less than 32 bytes'],
    [SECRET, null],
  ]) {
    const folder = makeFolder(t, { env: { JWT_SECRET: secret } });
    const { code, stderr } = await folder.mixlab('check', '--listen', '0.0.0.0:0');
    assert.equal(code, reason === null ? 0 : 1, stderr);
    if (reason) assert.match(stderr, new RegExp(`^error: 0\\.0\\.0\\.0:0 can be reached .* ${reason}`, 'm'));
  }
});

test('up without a secret prints tokens and a key that work', async (t) => {
  const server = await startServer(t, {
    plugins: [CUSTOM_EVENT],
    env: { JWT_SECRET: undefined, MIXLAB_API_KEY: undefined },
  });
  await until(() => /^ {4}key {4}\S+$/m.test(server.output()));
  const tokens = [...server.output().matchAll(/^ {4}token {2}(\S+)$/gm)].map(([, token]) => token);
  assert.equal(tokens.length, 2);
  const names = [];
  for (const token of tokens) {
    const [{ user }] = await nextEvent(await connect(t, server, { token }), 'authenticated');
    names.push(`${user.username} ${user.role}`);
  }
  assert.deepEqual(names, ['ada admin', 'grace student']);
  const [, key] = server.output().match(/^ {4}key {4}(\S+)$/m);
  const pushed = await server.api('POST', '/api/v1/roles/admin/events/news', 1, key);
  assert.deepEqual([pushed.status, pushed.body], [200, { delivered: 1 }]);
});

test('up without a secret shows the page where there is one', async (t) => {
  const env = { JWT_SECRET: undefined };
  const bare = await startServer(t, { env });
  await until(() => /^ {4}key {4}\S+$/m.test(bare.output()));
  assert.doesNotMatch(bare.output(), / {4}page /);
  const web = await startServer(t, { env, config: `[web]\nroot = ${JSON.stringify(join(ROOT, 'examples/web'))}` });
  await until(() => /^ {4}key {4}\S+$/m.test(web.output()));
  const pages = [...web.output().matchAll(/^ {4}page {3}(\S+)$/gm)].map(([, page]) => page);
  assert.equal(pages.length, 2);
  for (const page of pages) assert.equal((await fetch(page)).status, 200);
});

/** The manifest of a tiny plugin crate. It says nothing of how it is compiled. */
const MANIFEST = withSdk(`[package]
name = "mixlab-tests-tiny"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
mixlab-plugin = { path = "" }

[workspace]
`);

/** Its source: it answers `tiny` with `answer`. */
const source = (answer) => `use mixlab_plugin::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    let tiny = Event::new("tiny").anyone();
    let divide = Event::new("tiny:divide").anyone();
    let double = Event::new("tiny:double").anyone();
    Ok(Plugin::new("tiny", "0.1.0")
        .event(tiny.handle_message(|_: &Context, _| Ok(${JSON.stringify(answer)})))
        .event(divide.handle(divide_ten))
        .event(double.handle(|_: &Context, byte: u8| Ok(byte + byte))))
}

fn divide_ten(_: &Context, by: i32) -> Result<i32, Rejection> {
    Ok(split(10, by))
}

#[inline(never)]
fn split(whole: i32, parts: i32) -> i32 {
    if parts == 0 {
        std::process::abort();
    }
    whole / parts
}
`;

test('a plugin is built from its crate, and built again while the server runs', { timeout: 5 * COMPILING }, async (t) => {
  const tiny = { wasm: 'tiny', path: 'built/tiny.wasm', source: 'crate' };
  const folder = makeFolder(t, { config: pluginTable(tiny), env: CARGO });
  const path = join(folder.folder, tiny.path);
  const lib = join(folder.folder, 'crate/src/lib.rs');
  let server;

  await t.test('build puts the component where mixlab.toml says', async () => {
    writeCrate(join(folder.folder, 'crate'), MANIFEST, source('one'));
    const process = folder.start('build');
    assert.equal(await process.exited, 0, process.stderr());
    assert.match(process.stderr(), new RegExp(`built tiny -> ${path}\n$`));
    assert.equal(process.stdout(), '');
    const { code, stdout, stderr } = await folder.mixlab('check');
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^tiny 0\.1\.0: tiny, tiny:divide, tiny:double\n/);
  });

  await t.test('build leaves a file alone that would stay the same', async () => {
    const before = statSync(path);
    const process = folder.start('build', 'tiny');
    assert.equal(await process.exited, 0, process.stderr());
    assert.deepEqual([statSync(path).mtimeMs, statSync(path).ino], [before.mtimeMs, before.ino]);
  });

  await t.test('a crate that does not compile is an error, and the old file stays', async () => {
    const before = readFileSync(path);
    writeFileSync(lib, source('two').replace('Ok(Plugin', 'Okay(Plugin'));
    const process = folder.start('build');
    assert.equal(await process.exited, 1);
    assert.match(process.stderr(), /cannot find function.*`Okay`[^]*-->.*lib\.rs:9/, "the compiler's words");
    assert.match(process.stderr(), /\nerror: plugin "tiny" does not compile\n$/);
    assert.ok(readFileSync(path).equals(before));
    writeFileSync(lib, source('one'));
  });

  await t.test('build knows only plugins with a source', async () => {
    for (const name of ['nothing', 'custom-event']) {
      const { code, stderr } = await folder.mixlab('build', name);
      assert.deepEqual([code, stderr], [1, `error: ${folder.configPath} names no plugin "${name}" with a source\n`]);
    }
  });

  await t.test('up --watch builds what was changed, and clients get the new answer', async (t) => {
    server = folder.start('up', '--watch', '--listen', '127.0.0.1:0');
    const listening = () => server.stdout().match(/MixLab is listening on (http:\/\/\S+)\n/);
    await until(() => listening() || server.hasEnded(), { timeout: COMPILING, message: () => server.stderr() });
    assert.ok(listening(), server.stderr());
    const socket = await connect(t, { url: listening()[1] });
    assert.equal(await ask(socket, 'tiny'), 'one');

    assert.equal(await ask(socket, 'tiny:divide', 5), 2);
    const { error } = await ask(socket, 'tiny:divide', 0);
    await until(() => server.stderr().includes(error.trace_id));
    const line = source('one').split('\n').findIndex((line) => line.includes('abort()')) + 1;
    assert.match(server.stderr(), new RegExp(`tiny\\S*::split\\b[^]*src/lib\\.rs:${line}\\b`), 'names, files and lines of frames');

    assert.equal(await ask(socket, 'tiny:double', 100), 200);
    const overflow = await ask(socket, 'tiny:double', 200);
    assert.equal(overflow.error?.code, 'plugin_error', `an error and not ${JSON.stringify(overflow)}`);
    await until(() => server.stderr().includes('attempt to add with overflow'));

    writeFileSync(lib, 'no Rust at all');
    await until(() => /plugin "tiny" does not compile/.test(server.stderr()), {
      timeout: COMPILING,
      message: () => server.stderr(),
    });
    assert.equal(await ask(socket, 'tiny'), 'one');

    writeFileSync(lib, source('two'));
    await until(async () => (await ask(socket, 'tiny')) === 'two', { timeout: COMPILING, message: () => server.stderr() });
    assert.ok(socket.connected);
  });

  await t.test('up --watch builds again what depends by a path on what was changed', async (t) => {
    const [, url] = server.stdout().match(/MixLab is listening on (http:\/\/\S+)\n/);
    const socket = await connect(t, { url });
    const answers = (answer) =>
      until(async () => (await ask(socket, 'tiny')) === answer, { timeout: COMPILING, message: () => server.stderr() });
    const words = join(folder.folder, 'words');
    const word = (text) => `pub const WORD: &str = ${JSON.stringify(text)};\n`;
    writeCrate(words, '[package]\nname = "words"\nversion = "0.1.0"\nedition = "2024"\n', word('first'));
    writeFileSync(lib, source('?').replace('"?"', 'words::WORD'));
    const manifest = join(folder.folder, 'crate/Cargo.toml');
    writeFileSync(manifest, MANIFEST.replace('[dependencies]', '[dependencies]\nwords = { path = "../words" }'));
    await answers('first');
    writeFileSync(join(words, 'src/lib.rs'), word('second'));
    await answers('second');
    writeFileSync(manifest, MANIFEST);
    writeFileSync(lib, source('two'));
    await answers('two');
  });

  await t.test('up --watch builds what is new in mixlab.toml, and follows it from then on', async (t) => {
    const [, url] = server.stdout().match(/MixLab is listening on (http:\/\/\S+)\n/);
    const socket = await connect(t, { url });
    // The same crate under another name: what is compiled is compiled already.
    const later = join(folder.folder, 'later');
    cpSync(join(folder.folder, 'crate'), later, { recursive: true });
    const renamed = (answer) => source(answer).replaceAll('"tiny', '"later');
    writeFileSync(join(later, 'src/lib.rs'), renamed('three'));
    editConfig(folder, (toml) => toml + pluginTable({ wasm: 'later', path: 'built/later.wasm', source: 'later' }));
    const answers = (answer) =>
      until(async () => (await ask(socket, 'later')) === answer, { timeout: COMPILING, message: () => server.stderr() });
    await answers('three');
    writeFileSync(join(later, 'src/lib.rs'), renamed('four'));
    await answers('four');
    assert.equal(await ask(socket, 'tiny'), 'two');
  });

  await t.test('up --watch ends when it is told to', async () => {
    server.signal('SIGTERM');
    assert.equal(await within(server.exited, 'the end of up --watch', 20_000), 0);
  });
});

test('build says so where there is nothing to build from', async (t) => {
  const folder = makeFolder(t, { config: pluginTable({ wasm: 'tiny', source: 'nowhere' }), env: CARGO });
  const { code, stderr } = await folder.mixlab('build');
  assert.equal(code, 1);
  assert.match(stderr, /nowhere/);
});
