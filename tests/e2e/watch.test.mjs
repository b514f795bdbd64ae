// `mixlab up --watch` with a compiler that does as the test says: what is being built is waited for.
import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { takeDescriptors } from '../support/limits.mjs';
import { editConfig, notReady, plugin, reload, status } from '../support/plugins.mjs';
import { pluginTable, startServer, wasm } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

/** A folder of programs that stand before all others in a server's PATH; `cargo` is the first of them. */
function programs(cargo) {
  const bin = mkdtempSync(join(tmpdir(), 'mixlab-bin-'));
  // Only then has every server ended that calls them.
  process.on('exit', () => rmSync(bin, { recursive: true, force: true }));
  const program = (name, text) => writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  program('rustup', 'echo wasm32-wasip2');
  program('cargo', cargo(bin));
  return { bin, env: { PATH: `${bin}:${process.env.PATH}` } };
}

/** What cargo says of a component that it has made. */
const artifact = (folder, file) =>
  JSON.stringify({ reason: 'compiler-artifact', manifest_path: join(folder, 'Cargo.toml'), filenames: [file] });

test('a plugin that is new in mixlab.toml is waited for while it is built, and not called missing', async (t) => {
  // `cargo build` ends when there is a file `go`, and fails if there is a file `fail`.
  const { bin, env } = programs(
    (bin) => `[ "$1" = build ] || exit 1
touch ${bin}/begun
while [ -d ${bin} ] && [ ! -e ${bin}/go ]; do sleep 0.05; done
[ ! -e ${bin}/fail ] || exit 101
cat ${bin}/artifact`,
  );
  const file = (name) => join(bin, name);
  const own = await startServer(t, { plugins: ['stamped'], env, args: ['--watch'] });
  const source = join(own.folder, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'Cargo.toml'), '');
  writeFileSync(file('artifact'), artifact(source, wasm('echo')));

  const table = pluginTable({ wasm: 'echo', path: 'built/echo.wasm', source: 'source' });
  editConfig(own, (toml) => toml + table);
  await until(() => existsSync(file('begun')), { message: () => own.log() });
  await until(async () => (await reload(own)).plugins.length === 2);
  const { state, waiting, refusal } = await plugin(own, 'echo');
  assert.deepEqual([state, waiting, refusal], ['waiting', 'it is being built', null]);
  assert.deepEqual(await notReady(own), ['echo'], 'it does not serve yet');

  writeFileSync(file('fail'), '');
  writeFileSync(file('go'), '');
  const failed = /built\/echo\.wasm: no such file; plugin "echo" does not compile/;
  await until(async () => failed.test((await plugin(own, 'echo')).refusal), { message: () => own.log() });

  rmSync(file('fail'));
  writeFileSync(join(source, 'Cargo.toml'), '# mended');
  await until(async () => (await plugin(own, 'echo')).state === 'serving', { message: () => own.log() });
  assert.equal(await ask(await connect(t, own), 'echo', 'x'), 'x');
});

test('a plugin that is built at once has no failure to show', async (t) => {
  const { bin, env } = programs((bin) => `[ "$1" = build ] && sleep 0.5 && cat ${bin}/artifact`);
  const own = await startServer(t, { plugins: ['stamped'], env, args: ['--watch'] });
  const source = join(own.folder, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'Cargo.toml'), '');
  writeFileSync(join(bin, 'artifact'), artifact(source, wasm('echo')));
  editConfig(own, (toml) => toml + pluginTable({ wasm: 'echo', path: 'built/echo.wasm', source: 'source' }));
  const serves = async () => (await reload(own)).plugins[1]?.state === 'serving';
  await until(serves, { timeout: 60_000, message: () => own.log() });
  const { failures, last_failure: last } = await plugin(own, 'echo');
  assert.deepEqual([failures, last], [0, null]);
  assert.doesNotMatch(own.log(), /no such file/);
});

for (const changed of ['source', 'dependency']) {
  test(`a change in the first moment is seen, before cargo has said what a plugin is made from: ${changed}`, async (t) => {
    const { bin, env } = programs(
      (bin) => `case "$1" in
build) echo built >> ${bin}/builds; cat ${bin}/artifact;;
metadata)
  touch ${bin}/asked
  while [ -d ${bin} ] && [ ! -e ${bin}/told ]; do sleep 0.05; done
  cat ${bin}/metadata;;
esac`,
    );
    const file = (...names) => join(bin, ...names);
    for (const name of ['source', 'dependency']) {
      mkdirSync(file(name, 'src'), { recursive: true });
      writeFileSync(file(name, 'Cargo.toml'), '');
      writeFileSync(file(name, 'src', 'lib.rs'), '');
    }
    const ids = { packages: ['source', 'dependency'].map((id) => ({ id, source: null, manifest_path: file(id, 'Cargo.toml') })) };
    const nodes = [{ id: 'source', dependencies: ['dependency'] }, { id: 'dependency', dependencies: [] }];
    const places = { workspace_root: file('source'), target_directory: file('source', 'target') };
    writeFileSync(file('metadata'), JSON.stringify({ ...ids, resolve: { nodes }, ...places }));
    writeFileSync(file('artifact'), artifact(file('source'), wasm('echo')));
    const plugins = [{ wasm: 'echo', path: 'built/echo.wasm', source: file('source') }];
    const own = await startServer(t, { plugins, env, args: ['--watch'] });
    await until(() => existsSync(file('asked')), { message: () => own.log() });
    const builds = () => readFileSync(file('builds'), 'utf8').trim().split('\n').length;
    assert.equal(builds(), 1);

    writeFileSync(file(changed, 'src', 'lib.rs'), '// changed');
    writeFileSync(file('told'), '');
    await until(() => builds() === 2, { message: () => own.log() });
    // From now on it is watched.
    writeFileSync(file(changed, 'src', 'lib.rs'), '// changed again');
    await until(() => builds() === 3, { message: () => own.log() });
  });
}

test('what an author saves during one build, and again during the next one, is built', async (t) => {
  // Each build ends when it is let go.
  const { bin, env } = programs(
    (bin) => `[ "$1" = build ] || exit 1
echo built >> ${bin}/builds
while [ -d ${bin} ] && [ ! -e ${bin}/go-$(wc -l < ${bin}/builds) ]; do sleep 0.02; done
cat ${bin}/artifact`,
  );
  const source = join(bin, 'source');
  mkdirSync(join(source, 'src'), { recursive: true });
  writeFileSync(join(source, 'Cargo.toml'), '');
  const save = (text) => writeFileSync(join(source, 'src', 'lib.rs'), text);
  save('');
  writeFileSync(join(bin, 'artifact'), artifact(source, wasm('echo')));
  const builds = () => readFileSync(join(bin, 'builds'), 'utf8').trim().split('\n').length;
  const go = (build) => writeFileSync(join(bin, `go-${build}`), '');
  go(1);
  const own = await startServer(t, { plugins: [{ wasm: 'echo', path: 'built/echo.wasm', source }], env, args: ['--watch'] });
  const built = (count) => until(() => builds() === count, { message: () => `build ${count}: ${own.log()}` });
  save('// changed');
  await built(2);
  for (const build of [2, 3]) {
    save(`// during ${build}`);
    go(build);
    await built(build + 1);
  }
  go(4);
});

test('a plugin that is new in mixlab.toml in the first moment is built, before cargo has said what others are made from', async (t) => {
  const { bin, env } = programs(
    (bin) => `case "$1" in
build) cat ${bin}/artifacts;;
metadata)
  touch ${bin}/asked
  while [ -d ${bin} ] && [ ! -e ${bin}/told ]; do sleep 0.05; done
  exit 1;;
esac`,
  );
  const source = (name) => {
    const folder = join(bin, name);
    mkdirSync(folder);
    writeFileSync(join(folder, 'Cargo.toml'), '');
    appendFileSync(join(bin, 'artifacts'), `${artifact(folder, wasm(name))}\n`);
    return folder;
  };
  const plugins = [{ wasm: 'stamped', path: 'built/stamped.wasm', source: source('stamped') }];
  const echo = pluginTable({ wasm: 'echo', path: 'built/echo.wasm', source: source('echo') });
  const own = await startServer(t, { plugins, env, args: ['--watch'] });
  await until(() => existsSync(join(bin, 'asked')), { message: () => own.log() });
  editConfig(own, (toml) => toml + echo);
  writeFileSync(join(bin, 'told'), '');
  await until(async () => (await status(own)).plugins[1]?.state === 'serving', { message: () => own.log() });
});

test('a plugin that is new in mixlab.toml while no file can be opened is built when one can', async (t) => {
  const { bin, env } = programs((bin) => `[ "$1" = build ] && cat ${bin}/artifact`);
  const own = await startServer(t, { plugins: ['stamped'], env, args: ['--watch'] });
  const source = join(own.folder, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'Cargo.toml'), '');
  writeFileSync(join(bin, 'artifact'), artifact(source, wasm('echo')));
  const socket = await connect(t, own, { transports: ['websocket'] });
  const giveBack = takeDescriptors(own);
  editConfig(own, (toml) => toml + pluginTable({ wasm: 'echo', path: 'built/echo.wasm', source: 'source' }));
  await own.waitForLog(/mixlab\.toml.*Too many open files/);
  giveBack();
  await until(async () => (await ask(socket, 'echo', 'x')) === 'x', { message: () => own.log() });
});

test('a source that is still to come is built when it has', async (t) => {
  const { bin, env } = programs((bin) => `[ "$1" = build ] && [ -e ${bin}/artifact ] && cat ${bin}/artifact`);
  const own = await startServer(t, { plugins: ['stamped'], env, args: ['--watch'] });
  const source = join(own.folder, 'source');
  editConfig(own, (toml) => toml + pluginTable({ wasm: 'echo', path: 'built/echo.wasm', source: 'source' }));
  await own.waitForLog(/a source cannot be watched yet/);
  mkdirSync(source);
  writeFileSync(join(source, 'Cargo.toml'), '');
  writeFileSync(join(bin, 'artifact'), artifact(source, wasm('echo')));
  await until(async () => (await status(own)).plugins[1]?.state === 'serving', { message: () => own.log() });
});
