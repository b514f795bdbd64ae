// What is installed where there is no Rust: the archive, the Debian package, the npm package and the container image serve
// the shipped plugins, and the unit of systemd hears how far the server is.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { after, test } from 'node:test';
import Ajv from 'ajv';
import { parse as parseToml } from 'smol-toml';
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

/** Serves by this command line, and has a client's event answered by a shipped plugin; `meanwhile` is done while it serves. */
async function assertServes(t, folder, [program, ...args], env = {}, meanwhile = () => {}) {
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
  meanwhile();
  client.disconnect();
  child.kill('SIGTERM');
  assert.equal(await ended, 0, output);
}

test('what was made has checksums', () => {
  const checked = execFileSync('sha256sum', ['-c', 'SHA256SUMS'], { cwd: OUTPUT, encoding: 'utf8' });
  assert.equal(checked.match(/: OK$/gm).length, 5);
});

test('the archive serves where it is unpacked', async (t) => {
  execFileSync('tar', ['xzf', made(/\.tar\.gz$/), '-C', work]);
  const folder = made(/\.tar\.gz$/).replace(/\.tar\.gz$/, '').replace(OUTPUT, work);
  await assertServes(t, folder, ['./mixlab', 'up']);
  assert.ok(existsSync(join(folder, 'man/mixlab-up.1')));
});

test('cargo binstall finds the archive by its name, and the program in it', () => {
  const { package: host } = parseToml(readFileSync(join(ROOT, 'host/Cargo.toml'), 'utf8'));
  const { workspace } = parseToml(readFileSync(join(ROOT, 'Cargo.toml'), 'utf8'));
  const { arch } = process;
  const values = {
    repo: workspace.package.repository,
    version: workspace.package.version,
    'target-arch': { x64: 'x86_64', arm64: 'aarch64' }[arch],
    bin: 'mixlab',
    'binary-ext': '',
  };
  const filled = (template) => template.replace(/\{ ([\w-]+) \}/g, (_, name) => values[name] ?? assert.fail(name));
  const { 'pkg-url': url, 'bin-dir': program, 'pkg-fmt': format } = host.metadata.binstall;
  assert.equal(format, 'tgz');
  assert.equal(filled(url), `${workspace.package.repository}/releases/download/v${values.version}/${basename(made(/\.tar\.gz$/))}`);
  const listed = execFileSync('tar', ['tzf', made(/\.tar\.gz$/)], { encoding: 'utf8' }).split('\n');
  assert.ok(listed.includes(filled(program)), filled(program));
});

test('what the packages are made of is written as CycloneDX has it', () => {
  const schema = (name) => JSON.parse(readFileSync(join(ROOT, `tests/node_modules/@cyclonedx/cyclonedx-library/res/schema/${name}.SNAPSHOT.schema.json`), 'utf8'));
  const ajv = new Ajv({ strict: false, validateFormats: false });
  for (const name of ['spdx', 'jsf-0.82']) ajv.addSchema({ ...schema(name), $id: `http://cyclonedx.org/schema/${name}.SNAPSHOT.schema.json` });
  const bom = JSON.parse(readFileSync(made(/\.cdx\.json$/), 'utf8'));
  const isValid = ajv.compile(schema('bom-1.5'));
  assert.ok(isValid(bom), JSON.stringify(isValid.errors));
  const purls = bom.components.map(({ purl }) => purl);
  const has = (pattern) => purls.some((purl) => pattern.test(purl));
  for (const part of [/^pkg:cargo\/wasmtime@/, /^pkg:cargo\/mixlab-plugin@/, /^pkg:cargo\/rquickjs@/, /^pkg:npm\/socket\.io-client@/]) assert.ok(has(part), `${part}`);
  // What only tests have is not in a package.
  for (const part of [/proptest/, /tempfile/, /playwright/, /windows-sys/]) assert.ok(!has(part), `${part}`);
  assert.equal(new Set(purls).size, purls.length);
  const bare = bom.components.filter(({ name, hashes }) => !hashes && name !== 'mixlab-plugin');
  assert.deepEqual(bare, []);
});

test('the container file is one that hadolint takes', () => {
  execFileSync(join(dirname(PYTHON), 'hadolint'), [join(ROOT, 'host/packaging/container/Containerfile')], { stdio: 'pipe' });
});

test('the container image serves as a user who may write to two folders only, without a shell', async (t) => {
  if (process.getuid() !== 0) return t.skip('it needs root');
  const archive = made(/\.oci\.tar$/);
  const layout = join(work, 'layout');
  execFileSync('skopeo', ['copy', '--quiet', '--insecure-policy', `oci-archive:${archive}`, `oci:${layout}:latest`]);
  // Docker reads it by the manifest that it always had.
  execFileSync('skopeo', ['inspect', `docker-archive:${archive}`], { stdio: 'ignore' });
  execFileSync('umoci', ['unpack', '--image', `${layout}:latest`, join(work, 'bundle')], { stdio: 'ignore' });
  const root = join(work, 'bundle/rootfs');
  // Others have to find it.
  for (const folder of [work, join(work, 'bundle')]) chmodSync(folder, 0o755);
  // As it stands there: what is Docker's own, the health check, skopeo leaves out.
  const blob = ({ digest }) => JSON.parse(readFileSync(join(layout, 'blobs', digest.replace(':', '/')), 'utf8'));
  const [manifest] = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')).manifests;
  const { config } = blob(blob(manifest).config);
  assert.ok(!existsSync(join(root, 'bin/sh')) && !existsSync(join(root, 'usr/bin/sh')));
  assert.match(config.User, /^[1-9]\d+:[1-9]\d+$/);
  const writable = execFileSync('/usr/sbin/chroot', [`--userspec=${config.User}`, '/', 'find', root, '-writable', '-not', '-type', 'l', '-printf', '%P\n'], { encoding: 'utf8' });
  assert.deepEqual(writable.trim().split('\n').sort(), ['tmp', 'var/cache/mixlab', 'var/lib/mixlab']);
  assert.deepEqual(Object.keys(config.Volumes).sort(), ['/var/cache/mixlab', '/var/lib/mixlab']);
  const env = Object.fromEntries(config.Env.map((variable) => variable.split(/=(.*)/s)));
  const within = ['/usr/sbin/chroot', `--userspec=${config.User}`, root];
  const healthy = () => execFileSync(within[0], [...within.slice(1), ...config.Healthcheck.Test.slice(1)], { env: { ...ENV, ...env }, stdio: 'pipe' });
  const [entry, ...command] = [...config.Entrypoint, ...config.Cmd];
  assert.deepEqual(command.slice(-2), ['--listen', '0.0.0.0:3000']);
  await assertServes(t, '/', [...within, entry, ...command.slice(0, -2)], env, healthy);
  assert.throws(healthy, 'who does not serve is not healthy');
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
