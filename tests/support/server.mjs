// The real server binary, with a folder and a configuration of its own.
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeAuthority } from './certificates.mjs';
import { SECRET } from './tokens.mjs';
import { trust } from './trust.mjs';
import { PATIENCE, until, within } from './wait.mjs';

/** The repository's folder. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** MIXLAB_API_KEY of every test server: a key with all rights. */
export const API_KEY = 'test-key-of-a-backend';

export const PROGRAM = resolve(process.env.MIXLAB_BIN ?? join(ROOT, 'target/debug/mixlab'));
/** The program of examples/embed.rs. */
export const EMBED = join(dirname(PROGRAM), 'examples/embed');
export const LOAD = resolve(process.env.MIXLAB_LOAD ?? join(ROOT, 'target/debug/mixlab-load'));
export const GUESTS = resolve(process.env.MIXLAB_GUESTS ?? join(ROOT, 'target/wasm32-wasip2/release/examples'));
/** The plugin that tests of the protocol need, with what it may do. */
export const CONFORMANCE = {
  wasm: 'conformance',
  grants: ['emit', 'ask', 'room:*', 'namespace:/*', 'handshake', 'disconnect'],
};

const SHIPPED = join(ROOT, 'target/plugins');

/** Compiled guests are reused by all servers of all test files, in a folder that is nobody else's. */
const CACHE = join(ROOT, 'tests/node_modules/.cache/mixlab');

/**
 * Where all servers of a test file that say nothing of TLS speak it: MIXLAB_TESTS_TLS=1. Clients trust the
 * authority.
 */
const TLS = process.env.MIXLAB_TESTS_TLS === '1' ? everywhere() : {};

function everywhere() {
  const authority = makeAuthority({ after: (remove) => process.on('exit', remove) });
  const { paths } = authority.issue();
  trust(authority);
  return { MIXLAB_TLS__CERTIFICATE: paths.certificate, MIXLAB_TLS__KEY: paths.key };
}

/** A server listens when its plugins are compiled: forty of them, where nothing is cached yet. */
const START_PATIENCE = 120_000;

// What is left if a test file ends before its hooks have run.
const running = new Set();
const folders = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/** The file of a guest (tests/fixtures) or of a shipped plugin. */
export function wasm(name) {
  for (const folder of [GUESTS, SHIPPED]) {
    const file = join(folder, `${name}.wasm`);
    if (existsSync(file)) return file;
  }
  throw new Error(`no ${name}.wasm in ${GUESTS} (MIXLAB_GUESTS) or ${SHIPPED}`);
}

/**
 * A folder with `mixlab.toml` and .wasm files, removed when `t` ends. `t` is a test's context, or
 * node:test's `{ after }` for what all tests of a file share.
 *
 * - `config`: the TOML text without plugins.
 * - `files`: texts of more files, by name; `links`: what links lead to, by name.
 * - `plugins`: for each one the name of its .wasm, or `{ wasm, name, …keys of [[plugins]] }`. The
 *   file is copied to FOLDER/NAME.wasm; the plugin's name has "-" for every "_". A script is
 *   `{ script, text, name, …keys of [[plugins]] }`, written to FOLDER/scripts/SCRIPT.
 * - `env`: variables over the defaults; `undefined` takes one away.
 * - `shell`: what bash does with the command line instead, which is its "$@":
 *   `'exec "$@" 2>/dev/full'`.
 * - `recovery`: whether clients get their connections back. It adds an argument to events.
 * - `embedding`: a program that embeds the server, and takes nothing but the path of `mixlab.toml`.
 */
export function makeFolder(t, { config = '', files: more = {}, links = {}, plugins = [], env = {}, shell, recovery = false, embedding } = {}) {
  const tables = plugins.map((plugin) => (typeof plugin === 'string' ? { wasm: plugin } : plugin));
  const components = tables.filter((table) => table.wasm);
  const files = new Map(components.map(({ wasm: name }) => [`${name}.wasm`, wasm(name)]));

  const folder = mkdtempSync(join(tmpdir(), 'mixlab-test-'));
  folders.add(folder);
  const processes = [];
  const remove = async () => {
    await Promise.all(processes.map((process) => process.kill()));
    rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
    folders.delete(folder);
  };
  t.after(async () => {
    // A server that nobody stopped has to be there still.
    const crashed = processes.filter((process) => process.mustLive && process.hasEnded());
    await remove();
    for (const process of crashed) throw new Error(`the server ended by itself:\n${process.stderr()}`);
  });

  for (const [name, source] of files) cpSync(source, join(folder, name));
  for (const { script, text } of tables.filter((table) => table.script)) {
    mkdirSync(dirname(join(folder, 'scripts', script)), { recursive: true });
    writeFileSync(join(folder, 'scripts', script), text);
  }
  for (const [name, text] of Object.entries(more)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text, { mode: 0o600 });
  }
  for (const [name, target] of Object.entries(links)) symlinkSync(target, join(folder, name));
  const configPath = join(folder, 'mixlab.toml');
  writeFileSync(configPath, [config, ...tables.map(pluginTable)].join('\n'));
  const runtime = join(folder, 'run');
  mkdirSync(runtime, { mode: 0o700 });
  mkdirSync(CACHE, { mode: 0o700, recursive: true });
  const environment = {
    PATH: process.env.PATH,
    HOME: folder,
    XDG_RUNTIME_DIR: runtime,
    MIXLAB_RUNTIME__CACHE: CACHE,
    MIXLAB_RECOVERY__ENABLED: String(recovery),
    JWT_SECRET: SECRET,
    MIXLAB_API_KEY: API_KEY,
    NO_COLOR: '1',
    ...TLS,
    ...env,
  };
  for (const key of Object.keys(environment)) {
    if (environment[key] === undefined) delete environment[key];
  }

  return {
    folder,
    configPath,
    /** Ends its processes and removes it, before `t` ends. */
    remove,
    /** Starts the command line; see [`start`]. */
    start: (...args) => {
      const line = embedding ? [embedding, configPath] : [PROGRAM, ...args, '-c', configPath];
      const process = start(line, { env: environment, cwd: folder }, shell);
      processes.push(process);
      return process;
    },
    /** Runs the command line to its end; resolves to `{ code, stdout, stderr }`. */
    async mixlab(...args) {
      const process = this.start(...args);
      const code = await within(process.exited, `the end of mixlab ${args.join(' ')}`, START_PATIENCE);
      return { code, stdout: process.stdout(), stderr: process.stderr() };
    },
  };
}

/** One [[plugins]] table as TOML; what `name` and `path` are not given follows from `wasm` or `script`. */
export function pluginTable({ wasm: source, script, text, ...keys }) {
  const named = script
    ? { name: basename(script, extname(script)), path: `scripts/${script}` }
    : { name: source.replaceAll('_', '-'), path: `${source}.wasm` };
  const table = { ...named, ...keys };
  const lines = Object.entries(table).map(([key, value]) => `${key} = ${toml(value)}`);
  return ['[[plugins]]', ...lines, ''].join('\n');
}

function toml(value) {
  if (Array.isArray(value)) return `[${value.map(toml).join(', ')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const fields = Object.entries(value).map(([key, field]) => `${JSON.stringify(key)} = ${toml(field)}`);
  return `{ ${fields.join(', ')} }`;
}

/** False if there is no such process. */
function killed(pid, signal) {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

/** A process whose output is kept. */
function start(line, options, shell) {
  const [program, ...rest] = shell ? ['bash', '-c', shell, 'bash', ...line] : line;
  const child = spawn(program, rest, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr']) {
    child[stream].setEncoding('utf8').on('data', (text) => (output[stream] += text));
  }
  const exited = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal));
  }).finally(() => running.delete(child));
  // Whoever waits for the end hears of the error; nobody else has to.
  exited.catch(() => {});
  // Processes that follow it hold its output open, so it has not ended before they have.
  let last = child;
  return {
    pid: child.pid,
    exited,
    hasEnded: () => !running.has(child),
    signal: (name) => last.kill(name),
    kill() {
      last.kill('SIGKILL');
      child.kill('SIGKILL');
      return exited.catch(() => {});
    },
    isFollowedBy(pid) {
      last = { kill: (signal) => killed(pid, signal) };
      running.add(last);
      exited.finally(() => running.delete(last)).catch(() => {});
    },
    stdout: () => output.stdout,
    stderr: () => output.stderr,
  };
}

/**
 * A serving server with the folder of [`makeFolder`], stopped when `t` ends. `listen` is an
 * address for a server that needs the port of another; `args` are more arguments for `up`.
 */
export async function startServer(t, { listen = '127.0.0.1:0', args = [], env, ...options } = {}) {
  const home = makeFolder(t, { env: options.embedding ? { MIXLAB_LISTEN: listen, ...env } : env, ...options });
  const child = home.start('up', '--listen', listen, ...args);
  const listening = () => child.stdout().match(/MixLab is listening on (https?:\/\/\S+)\n/);
  try {
    await until(() => listening() || child.hasEnded(), {
      timeout: START_PATIENCE,
      message: 'the server listens',
    });
    if (!listening()) throw new Error(`the server ended with ${await child.exited}`);
    // It is bound; only when it answers does it listen to signals, too.
    await fetch(`${listening()[1]}/healthz`);
  } catch (error) {
    // A test file that fails while it is loaded runs no hooks.
    await home.remove();
    throw new Error(`${error.message}\n${child.stdout()}${child.stderr()}`);
  }
  const url = listening()[1];
  child.mustLive = true;

  return {
    ...home,
    url,
    address: new URL(url).host,
    port: Number(new URL(url).port),
    pid: child.pid,
    /** What it has written to standard error so far. */
    log: child.stderr,
    /** What it has written to standard output so far. */
    output: child.stdout,
    /** Waits until its log matches; resolves to the match. */
    waitForLog: (pattern, { timeout = PATIENCE } = {}) =>
      until(() => child.stderr().match(pattern), {
        timeout,
        message: () => `${pattern} in the log:\n${child.stderr().slice(-4000)}`,
      }),
    /**
     * A request of a backend: `{ status, headers, body }`. The body goes as JSON unless it is a
     * text or bytes, and comes back parsed if it is JSON. `key: null` sends no key.
     */
    api: (method, path, body, key = API_KEY, headers = {}) => request(url, { method, path, body, key, headers }),
    /** SIGTERM; resolves to the exit code. */
    async stop({ signal = 'SIGTERM', timeout = 15_000 } = {}) {
      child.mustLive = false;
      child.signal(signal);
      return within(child.exited, `the server ends:\n${child.stderr().slice(-4000)}`, timeout);
    },
    /** SIGKILL; resolves when it is gone. */
    async kill() {
      child.mustLive = false;
      await child.kill();
    },
    /** Sends it a signal, e.g. SIGHUP. */
    signal: child.signal,
    /** Signals go to this process from now on, which has the server's output, too. */
    isFollowedBy: child.isFollowedBy,
  };
}

async function request(url, { method, path, body, key, headers }) {
  const raw = body === undefined || typeof body === 'string' || body instanceof Uint8Array;
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...headers,
    },
    body: raw ? body : JSON.stringify(body),
    redirect: 'manual',
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json');
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}
