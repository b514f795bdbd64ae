// What is installed where there is no Rust: the archive, the Debian package and the npm package serve the shipped
// plugins, and the unit of systemd hears how far the server is.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { ask, connect, nextEvent } from '../support/client.mjs';
import { PYTHON } from '../support/python.mjs';
import { PROGRAM, ROOT, startServer } from '../support/server.mjs';
import { SECRET } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const work = mkdtempSync(join(tmpdir(), 'mixlab-packages-'));
after(() => rmSync(work, { recursive: true, force: true, maxRetries: 10 }));
const OUTPUT = join(work, 'packages');
execFileSync(join(ROOT, 'host/packaging/package'), [PROGRAM, OUTPUT], { stdio: ['ignore', 'ignore', 'inherit'] });
const made = (pattern) => join(OUTPUT, readdirSync(OUTPUT).find((name) => pattern.test(name)));

/** Where nothing of this machine's is known but what is said. */
const ENV = { PATH: process.env.PATH, HOME: work, JWT_SECRET: SECRET, PAYMENTS_SECRET: 'whsec_c2VjcmV0' };

/** Serves by this command line, and has a client's event answered by a shipped plugin. */
async function assertServes(t, folder, [program, ...args], env = {}) {
  const child = spawn(program, [...args, '--listen', '127.0.0.1:0'], { cwd: folder, env: { ...ENV, ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  const ended = new Promise((resolve) => child.once('exit', resolve));
  // Not SIGKILL, which npm's launcher could not pass on.
  t.after(() => child.kill('SIGTERM'));
  const url = await until(() => output.match(/MixLab is listening on (\S+)/)?.[1], { timeout: 120_000, message: () => output });
  const client = await connect(t, { url });
  client.emit('custom_event', { text: 'hello' });
  assert.deepEqual((await nextEvent(client, 'custom_response', { timeout: 60_000 }))[0], { text: 'hello' });
  const page = await fetch(`${url}/socket-example.html`);
  assert.equal(page.status, 200);
  assert.equal((await fetch(`${url}/socket.io/socket.io.min.js`)).status, 200);
  client.disconnect();
  child.kill('SIGTERM');
  assert.equal(await ended, 0, output);
}

test('what was made has checksums', () => {
  const checked = execFileSync('sha256sum', ['-c', 'SHA256SUMS'], { cwd: OUTPUT, encoding: 'utf8' });
  assert.equal(checked.match(/: OK$/gm).length, 3);
});

test('the archive serves where it is unpacked', async (t) => {
  execFileSync('tar', ['xzf', made(/\.tar\.gz$/), '-C', work]);
  const folder = made(/\.tar\.gz$/).replace(/\.tar\.gz$/, '').replace(OUTPUT, work);
  await assertServes(t, folder, ['./mixlab', 'up']);
  assert.ok(existsSync(join(folder, 'man/mixlab-up.1')));
});

test('the Debian package is installed and serves in a system that has nothing else', async (t) => {
  if (process.getuid() !== 0) return t.skip('it needs root');
  const root = join(work, 'root');
  // A shell for what the package does when it is installed, and the libraries that it names.
  const programs = ['/bin/sh', PROGRAM];
  const libraries = programs.flatMap((program) => execFileSync('ldd', [program], { encoding: 'utf8' }).match(/\/\S+(?= \()/g));
  for (const file of ['/bin/sh', ...new Set(libraries)]) {
    mkdirSync(join(root, dirname(file)), { recursive: true });
    cpSync(file, join(root, file), { dereference: true });
  }
  for (const folder of ['var/lib/dpkg/info', 'var/lib/dpkg/updates', 'var/lib/mixlab', 'tmp', 'proc', 'dev']) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  writeFileSync(join(root, 'var/lib/dpkg/status'), '');
  // The libraries are there without their package.
  execFileSync('dpkg', ['--root', root, '--force-depends', '-i', made(/\.deb$/)], { stdio: 'ignore' });
  assert.match(readFileSync(join(root, 'etc/mixlab/environment'), 'utf8'), /JWT_SECRET/);
  const env = { HOME: '/tmp', MIXLAB_STORE__PATH: '/var/lib/mixlab/store.redb', MIXLAB_RUNTIME__CACHE: '/tmp/cache' };
  await assertServes(t, '/', ['chroot', root, '/usr/bin/mixlab', 'up', '-c', '/etc/mixlab/mixlab.toml'], env);
  execFileSync('dpkg', ['--root', root, '-r', 'mixlab'], { stdio: 'ignore' });
  assert.ok(!existsSync(join(root, 'usr/bin/mixlab')) && existsSync(join(root, 'etc/mixlab/mixlab.toml')));
});

test('the npm package serves from an empty folder, and what is configured there', async (t) => {
  const folder = join(work, 'app');
  mkdirSync(folder);
  const npm = ['install', '--offline', '--no-audit', '--no-fund', '--no-save', made(/\.tgz$/)];
  execFileSync('npm', npm, { cwd: folder, stdio: 'ignore', env: { ...ENV, JWT_SECRET: '' } });
  const program = [process.execPath, join(folder, 'node_modules/.bin/mixlab'), 'up'];
  await assertServes(t, folder, program);
  writeFileSync(join(folder, 'mixlab.toml'), '[[plugins]]\nname = "custom-event"\npath = "gone.wasm"\n');
  const { stderr } = await new Promise((resolve) => {
    const child = spawn(program[0], [program[1], 'check'], { cwd: folder, env: ENV });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
    child.once('exit', () => resolve({ stderr }));
  });
  assert.match(stderr, /gone\.wasm/);
  const tried = `import { event, plugin } from 'mixlab';
    import { host } from 'mixlab/test';
    const fake = host(plugin({ greet: event((cx, name) => cx.emit('greeted', name)) }));
    await fake.send('greet', 'Ada');
    console.log(fake.takeEmitted()[0].arguments[0]);`;
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', tried], { cwd: folder, encoding: 'utf8' });
  assert.equal(printed, 'Ada\n');
});

test('the unit of systemd is one that systemd takes', (t) => {
  if (!existsSync('/usr/bin/systemd-analyze')) return t.skip('there is no systemd');
  const unit = join(work, 'mixlab.service');
  writeFileSync(unit, readFileSync(join(ROOT, 'host/packaging/mixlab.service'), 'utf8').replace('/usr/bin/mixlab', PROGRAM));
  execFileSync('systemd-analyze', ['verify', '--man=no', unit], { stdio: 'pipe' });
});

test('systemd hears that the server is ready, and that it ends', async (t) => {
  const path = join(work, 'notify');
  const script = `import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\ns.bind(sys.argv[1])\nprint("bound", flush=True)\nwhile True: print(s.recv(4096).decode(), flush=True)`;
  const listener = spawn(PYTHON, ['-c', script, path]);
  t.after(() => listener.kill());
  let heard = '';
  listener.stdout.setEncoding('utf8').on('data', (text) => (heard += text));
  await until(() => heard.includes('bound'), { timeout: 60_000 });
  const server = await startServer(t, { plugins: ['echo'], env: { NOTIFY_SOCKET: path } });
  await until(() => heard.includes('READY=1'));
  assert.equal(await ask(await connect(t, server), 'echo', 1), 1);
  assert.equal(await server.stop(), 0);
  await until(() => heard.includes('STOPPING=1'));
});

test('a shell completes commands and options', () => {
  const folder = join(work, 'shell');
  mkdirSync(folder);
  writeFileSync(join(folder, 'mixlab.bash'), execFileSync(PROGRAM, ['completions', 'bash']));
  const complete = 'source mixlab.bash; COMP_WORDS=(mixlab pl); COMP_CWORD=1; _mixlab mixlab pl mixlab; echo "${COMPREPLY[@]}"';
  assert.equal(execFileSync('bash', ['-c', complete], { cwd: folder, encoding: 'utf8' }).trim(), 'plugin');
});
