// The log, where it cannot be written or is not read: nothing else depends on it.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { assertFailed, editConfig, notReady } from '../support/plugins.mjs';
import { makeFolder, PROGRAM, startServer } from '../support/server.mjs';
import { tcp } from '../support/tcp.mjs';
import { PATIENCE, until } from '../support/wait.mjs';

/** More than a pipe holds. */
const FLOOD = 200;
const LONG_NAME = 'x'.repeat(1000);

/** How many lines the server could not write so far. */
async function lostLines(server) {
  const { body } = await server.api('GET', '/metrics', undefined, null);
  return Number(body.match(/^mixlab_log_lines_lost_total (\d+)$/m)[1]);
}

test('a server whose log is on a full disk starts, answers, accepts and follows its files', async (t) => {
  const server = await startServer(t, {
    config: '[socket]\nmax_connections = 4',
    plugins: ['traps', 'echo'],
    shell: 'exec "$@" 2>/dev/full',
  });
  await until(async () => (await lostLines(server)) > 0, { message: 'lines are lost' });

  const socket = await connect(t, server);
  assert.equal((await ask(socket, 'traps')).error.code, 'plugin_error');
  assert.equal(await ask(socket, 'echo', 'a call that does not fail'), 'a call that does not fail');

  const others = [await tcp(t, server), await tcp(t, server), await tcp(t, server), await tcp(t, server)];
  await others.at(-1).end();
  for (const other of others) other.socket.destroy();
  await until(async () => (await fetch(`${server.url}/healthz`).catch(() => null))?.ok, {
    message: 'a connection is accepted again',
  });

  const former = editConfig(server, (text) => text.replace('max_connections', 'max_connection'));
  await until(async () => (await notReady(server)).includes('mixlab.toml'), { message: 'the mistake is seen' });
  editConfig(server, () => former);
  await until(async () => (await notReady(server)).length === 0, { message: 'its correction is seen' });
});

/** A pipe that nobody reads yet, as the server's standard error. */
function pipe(t) {
  const folder = makeFolder(t).folder;
  const path = join(folder, 'log');
  execFileSync('mkfifo', [path]);
  return { path, shell: `exec "$@" 2<>${path}` };
}

test('a server whose log nobody reads goes on, and says how many lines were lost when it is read', async (t) => {
  const { path, shell } = pipe(t);
  const server = await startServer(t, { config: '[log]\nlevel = "debug"', plugins: ['echo'], shell });
  const socket = await connect(t, server);
  const flood = () => Promise.all(Array.from({ length: FLOOD }, () => ask(socket, LONG_NAME)));
  while ((await lostLines(server)) === 0) {
    const answers = await flood();
    assert.ok(answers.every((answer) => answer.error.code === 'unknown_event'));
  }

  let log = '';
  const reader = createReadStream(path, 'utf8').on('data', (text) => (log += text));
  t.after(() => reader.destroy());
  const said = await until(() => log.match(/ERROR.*lines of the log were lost.* lines=(\d+)\n/), {
    message: 'the losses are said',
  });
  assert.equal(Number(said[1]), await lostLines(server));
  assert.equal((await ask(socket, 'afterwards')).error.code, 'unknown_event');
  await until(() => log.includes('afterwards'), { message: 'later lines are written' });
});

test('a server whose log nobody reads ends all the same, with its last words where they can be written', async (t) => {
  const { shell } = pipe(t);
  const server = await startServer(t, { config: '[log]\nlevel = "debug"', plugins: ['echo'], shell });
  const socket = await connect(t, server);
  for (let i = 0; i < FLOOD; i++) socket.emit(LONG_NAME);
  assert.equal((await ask(socket, LONG_NAME)).error.code, 'unknown_event');
  assert.equal(await server.stop(), 0);

  const other = await startServer(t, { plugins: ['echo'] });
  assert.equal(await other.stop(), 0);
  assert.match(other.log(), /shutting down\n/);
});

test('what plugins say begins no line of the log and does nothing to a terminal', async (t) => {
  const grants = ['payments', 'notify', 'role:*', 'clients', 'room:*', 'emit', 'ask', 'find', 'disconnect', 'handshake'];
  const server = await startServer(t, { plugins: [{ wasm: 'capabilities', grants }] });
  const socket = await connect(t, server);
  const forged = '2026-01-01T00:00:00.000000Z  INFO mixlab::server: forged';
  const message = `one\n${forged}\r${forged}\x1b[2J\u009b2J\x0b`;
  await ask(socket, 'capabilities', [{ call: 'log', message }]);
  await server.waitForLog(/forged/);
  const lines = server.log().split('\n');
  assert.deepEqual(
    lines.filter((line) => line.includes('forged')).map((line) => line.slice(0, 8)),
    ['    2026'],
  );
  assert.doesNotMatch(server.log(), /[\0-\x08\x0b-\x1f\x7f-\x9f]/);
});

test('each line of a failure has its trace id, and none is about the host, whatever RUST_BACKTRACE says', async (t) => {
  const server = await startServer(t, {
    config: '[breaker]\nfailures = 1',
    plugins: ['traps'],
    env: { RUST_BACKTRACE: 'full', RUST_LIB_BACKTRACE: '1' },
  });
  const socket = await connect(t, server);
  const answer = await ask(socket, 'traps');
  const failure = await assertFailed(server, answer, 'plugin_error');
  const lines = failure.trimEnd().split('\n');
  assert.ok(lines.length > 5, failure);
  for (const line of lines) assert.ok(line.includes(answer.error.trace_id), `${line}\n${failure}`);
  assert.match(failure, /traps panics on purpose/);
  assert.doesNotMatch(failure, /Stack backtrace|wasmtime::|tokio::/);
  const paused = await server.waitForLog(/.*the plugin is paused.*/);
  assert.ok(paused[0].includes(answer.error.trace_id), paused[0]);

  const list = await server.mixlab('plugin', 'list');
  for (const line of list.stdout.trimEnd().split('\n').slice(1)) assert.match(line, /^ {4}/);
});

test('whoever reads what a command prints may stop at any time', async (t) => {
  const deaf = makeFolder(t, { plugins: ['echo'], shell: '("$@"; echo "code $?" >&2) | true' });
  for (const [args, code] of [
    [['check'], 0],
    [['token', 'gen', '--user', '1'], 0],
    [['plugin', 'inspect', 'echo.wasm'], 0],
    [['plugin', 'inspect', 'echo.wasm', '--format', 'json'], 0],
    [['plugin', 'diff', 'echo.wasm', 'echo.wasm'], 0],
  ]) {
    const { stderr } = await deaf.mixlab(...args);
    assert.equal(stderr, `code ${code}\n`, args.join(' '));
  }
  const full = makeFolder(t, { plugins: ['echo'], shell: 'exec "$@" >/dev/full' });
  for (const args of [['check'], ['token', 'gen', '--user', '1'], ['plugin', 'inspect', 'echo.wasm']]) {
    const { code, stderr } = await full.mixlab(...args);
    assert.deepEqual([code, stderr], [1, 'error: No space left on device (os error 28)\n'], args.join(' '));
  }
});

test('up serves whether somebody reads where or not', async (t) => {
  for (const shell of ['exec "$@" >/dev/full', 'exec "$@" >&-', 'exec "$@" > >(true)']) {
    const folder = makeFolder(t, { plugins: ['echo'], shell });
    const server = folder.start('up', '--listen', '127.0.0.1:0');
    const list = (filter) => {
      const command = `"${PROGRAM}" plugin list -c "${folder.configPath}" ${filter}; exit "\${PIPESTATUS[0]}"`;
      const env = { ...process.env, XDG_RUNTIME_DIR: join(folder.folder, 'run') };
      return spawnSync('bash', ['-c', command], { env, encoding: 'utf8' });
    };
    const listed = await until(
      () => {
        assert.ok(!server.hasEnded(), `${shell}: ${server.stderr()}`);
        const { status, stdout } = list('');
        return status === 0 && stdout;
      },
      { timeout: 6 * PATIENCE, message: 'it can be asked' },
    );
    assert.match(listed, /^echo {2}serving /);
    for (const filter of ['| head -1', '| true']) {
      const { status, stderr } = list(filter);
      assert.deepEqual([status, stderr], [0, ''], filter);
    }
  }
});
