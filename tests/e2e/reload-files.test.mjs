// Files that cannot be read for a moment, or are being written: nothing is taken for done that was not,
// and nobody is served a half of something.
import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { ask, connect } from '../support/client.mjs';
import { takeDescriptors } from '../support/limits.mjs';
import { editConfig, notReady, plugin, ready, reload, replaceFile, stamped, status } from '../support/plugins.mjs';
import { makeFolder, pluginTable, startServer, wasm } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const CONFIG = '[budget]\ncpu = "500ms"\n';

test('a plugin that changes while no file can be opened is served when one can', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped'] });
  const socket = await connect(t, own, { transports: ['websocket'] });
  const giveBack = takeDescriptors(own);
  replaceFile(join(own.folder, 'stamped.wasm'), stamped(2));
  await own.waitForLog(/the old version goes on serving: .*stamped\.wasm: Too many open files/);
  assert.deepEqual(await ask(socket, 'stamped', 0), { version: 1, data: 0 });
  giveBack();
  await until(async () => (await ask(socket, 'stamped', 0)).version === 2, { message: () => own.log() });
  await ready(own);
  assert.equal(own.log().match(/stamped\.wasm: Too many open files/g).length, 1, 'it is said once');
});

test('a mixlab.toml that changes while no file can be opened is in force when one can', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: [{ wasm: 'versioned', config: { version: 1 } }] });
  const socket = await connect(t, own, { transports: ['websocket'] });
  const giveBack = takeDescriptors(own);
  editConfig(own, (toml) => toml.replace('"version" = 1', '"version" = 2'));
  await own.waitForLog(/the old configuration stays in force: .*mixlab\.toml.*Too many open files/);
  giveBack();
  await until(async () => (await ask(socket, 'versioned')).version === 2, { message: () => own.log() });
  await ready(own);
});

test('SIGHUP reads all files, also those that look as they did when they could not be read', async (t) => {
  const own = await startServer(t, {
    // Nobody looks at them by himself.
    config: '[reload]\ndebounce = "1h"\n',
    plugins: ['stamped', { wasm: 'versioned', config: { version: 1 } }],
  });
  const socket = await connect(t, own, { transports: ['websocket'] });
  const giveBack = takeDescriptors(own);
  replaceFile(join(own.folder, 'stamped.wasm'), stamped(2));
  editConfig(own, (toml) => toml.replace('"version" = 1', '"version" = 2'));
  own.signal('SIGHUP');
  await own.waitForLog(/mixlab\.toml.*Too many open files/);
  await own.waitForLog(/stamped\.wasm: Too many open files/);
  giveBack();
  own.signal('SIGHUP');
  await until(async () => (await ask(socket, 'stamped', 0)).version === 2, { message: () => own.log() });
  await until(async () => (await ask(socket, 'versioned')).version === 2, { message: () => own.log() });
});

test('a folder in the place of a file, or one on the way that is gone, is no reason to give up', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: [{ wasm: 'stamped', path: 'in/stamped.wasm' }] });
  const [folder, file] = [join(own.folder, 'in'), join(own.folder, 'in/stamped.wasm')];
  const refused = (reason) => until(async () => reason.test((await plugin(own, 'stamped')).refusal), { message: () => own.log() });
  mkdirSync(file, { recursive: true });
  await refused(/stamped\.wasm: Is a directory/);
  rmdirSync(file);
  writeFileSync(file, stamped(1));
  const socket = await connect(t, own);
  await until(async () => (await ask(socket, 'stamped', 0)).version === 1);
  renameSync(folder, `${folder}-away`);
  writeFileSync(folder, 'a file');
  await refused(/stamped\.wasm: Not a directory/);
  renameSync(folder, `${folder}-file`);
  renameSync(`${folder}-away`, folder);
  await ready(own);
  assert.equal((await plugin(own, 'stamped')).generation, 1, 'the same content is not loaded again');
});

test('what changes in mixlab.toml while the server starts is in force as well', async (t) => {
  // A compiler in whose time somebody edits the file.
  const bin = mkdtempSync(join(tmpdir(), 'mixlab-bin-'));
  t.after(() => rmSync(bin, { recursive: true, force: true, maxRetries: 10 }));
  const program = (name, lines) => writeFileSync(join(bin, name), ['#!/bin/sh', ...lines, ''].join('\n'), { mode: 0o755 });
  const home = makeFolder(t, {
    config: CONFIG,
    plugins: [{ wasm: 'versioned', config: { version: 1 }, source: '.' }],
    env: { PATH: `${bin}:${process.env.PATH}` },
  });
  const manifest = join(home.folder, 'Cargo.toml');
  writeFileSync(manifest, '');
  const edited = join(home.folder, 'edited.toml');
  writeFileSync(edited, readFileSync(home.configPath, 'utf8').replace('"version" = 1', '"version" = 2'));
  const artifact = { reason: 'compiler-artifact', manifest_path: manifest, filenames: [wasm('versioned')] };
  program('cargo', [`mv ${edited} ${home.configPath}`, `echo '${JSON.stringify(artifact)}'`]);
  program('rustup', ['echo wasm32-wasip2']);
  const server = home.start('up', '--build', '--listen', '127.0.0.1:0');
  const listening = () => server.stdout().match(/MixLab is listening on (http:\/\/\S+)\n/);
  await until(() => listening() || server.hasEnded(), { message: () => server.stderr() });
  const socket = await connect(t, { url: listening()[1] });
  await until(async () => (await ask(socket, 'versioned')).version === 2, { message: () => server.stderr() });
});

test('an empty mixlab.toml is waited for: it may be about to be written', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped', 'echo'] });
  const socket = await connect(t, own);
  const good = readFileSync(own.configPath, 'utf8');
  truncateSync(own.configPath);
  await own.waitForLog(/mixlab\.toml is waited for: it is empty, and is in force if it stays so for 5s/);
  await until(async () => /^it is empty/.test((await status(own)).config_waiting), { message: () => own.log() });
  assert.equal((await status(own)).config_error, null);
  assert.deepEqual(await notReady(own), [], 'the former one goes on, and nothing is wrong yet');
  const { stdout } = await own.mixlab('plugin', 'list', '--listen', own.address);
  assert.match(stdout, /^mixlab\.toml is waited for: it is empty/);
  // Time is the subject: it is written bit by bit, as a slow program does.
  for (const part of good.match(/[^]{1,40}/g)) {
    await pause(150);
    appendFileSync(own.configPath, part);
    assert.deepEqual(await ask(socket, 'stamped', 0), { version: 1, data: 0 });
    assert.equal(await ask(socket, 'echo', 1), 1);
  }
  await until(async () => (await status(own)).config_waiting === null, { message: () => own.log() });
  assert.deepEqual((await status(own)).plugins.map(({ state, generation }) => [state, generation]), [['serving', 1], ['serving', 1]]);
  assert.doesNotMatch(own.log(), /switched off/);
});

test('a mixlab.toml that takes plugins away is in force when it has stayed so, or somebody asks', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped', 'echo'] });
  const tables = { stamped: pluginTable({ wasm: 'stamped' }), echo: pluginTable({ wasm: 'echo' }) };
  for (const [content, reason] of [
    [CONFIG + tables.stamped, 'it does not name the plugin "echo" any more'],
    [CONFIG, 'it takes away every plugin'],
    [CONFIG + tables.stamped.replace('name', 'enabled = false\nname'), 'it takes away every plugin'],
    ['# nothing yet\n', 'it takes away every plugin'],
  ]) {
    replaceFile(own.configPath, content);
    await until(async () => (await status(own)).config_waiting?.startsWith(reason), { message: () => `${reason}\n${own.log()}` });
    assert.deepEqual((await status(own)).plugins.map(({ state }) => state), ['serving', 'serving']);
  }
  // One of them is there again.
  replaceFile(own.configPath, CONFIG + tables.stamped);
  await own.waitForLog(/the plugin was switched off plugin="echo"/);
  await until(async () => (await status(own)).config_waiting === null);
  writeFileSync(own.configPath, '');
  await reload(own);
  assert.deepEqual((await status(own)).plugins, [], 'whoever asks means it');

  // What is in force is not waited for when the file is looked at again.
  const waitedFor = /mixlab\.toml is waited for: it is empty/g;
  const before = own.log().match(waitedFor)?.length;
  const reloads = async () =>
    Number((await own.api('GET', '/metrics')).body.match(/^mixlab_reloads_total\{result="ok",what="mixlab\.toml"\} (\d+)$/m)[1]);
  const looks = await reloads();
  writeFileSync(own.configPath, '');
  await until(async () => (await reloads()) > looks, { message: () => own.log() });
  assert.equal((await status(own)).config_waiting, null);
  assert.equal(own.log().match(waitedFor)?.length, before);
});

test('a .wasm file without a byte is waited for, and then refused', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped'] });
  const path = join(own.folder, 'stamped.wasm');
  const waits = () => until(async () => (await plugin(own, 'stamped')).waiting, { message: () => own.log() });
  writeFileSync(path, '');
  assert.match(await waits(), /^the file is empty, and is refused if it stays so for 5s$/);
  const { state, failures, refusal } = await plugin(own, 'stamped');
  assert.deepEqual([state, failures, refusal], ['serving', 0, null]);
  assert.deepEqual(await notReady(own), []);
  const { stdout } = await own.mixlab('plugin', 'list');
  assert.match(stdout, /^ {4}waiting {7}the file is empty/m);
  writeFileSync(path, stamped(2));
  await until(async () => (await plugin(own, 'stamped')).generation === 2, { message: () => own.log() });
  assert.equal((await plugin(own, 'stamped')).waiting, null);

  writeFileSync(path, '');
  await until(async () => (await plugin(own, 'stamped')).refusal === 'the file is empty', { message: () => own.log() });
  assert.equal((await plugin(own, 'stamped')).state, 'serving-old');
  writeFileSync(path, stamped(2));
  await ready(own);
  writeFileSync(path, '');
  await reload(own);
  assert.equal((await plugin(own, 'stamped')).refusal, 'the file is empty', 'whoever asks gets an answer');
});

test('a .wasm file that was refused without a byte is not waited for when it is looked at again', async (t) => {
  const own = await startServer(t, { config: CONFIG, plugins: ['stamped', 'echo'] });
  const [path, next] = ['stamped.wasm', 'echo.wasm'].map((name) => join(own.folder, name));
  writeFileSync(path, '');
  await reload(own);
  writeFileSync(path, '');
  writeFileSync(next, '(component)');
  await until(async () => /it is not WebAssembly/.test((await plugin(own, 'echo')).refusal), { message: () => own.log() });
  const { state, refusal, waiting } = await plugin(own, 'stamped');
  assert.deepEqual([state, refusal, waiting], ['serving-old', 'the file is empty', null]);
});
