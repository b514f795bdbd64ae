// Real proxies in front of servers, with the files of examples/deploy.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './server.mjs';
import { freePort } from './tcp.mjs';
import { until } from './wait.mjs';

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

const PROXIES = {
  nginx: {
    file: (name) => `nginx/${name}.conf`,
    listen: ['listen 80;', (port) => `listen 127.0.0.1:${port};`],
    /** What is around the file in Debian. */
    around: (folder, site) => {
      const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
      const paths = kinds.map((kind) => `${kind}_temp_path ${folder}/${kind};`);
      return `pid ${folder}/pid; events { worker_connections 1024; } http { access_log off; ${paths.join(' ')}\n${site}\n}`;
    },
    command: (folder, path) => ['nginx', '-p', folder, '-e', join(folder, 'error.log'), '-c', path, '-g', 'daemon off;'],
  },
  haproxy: {
    file: (name) => `haproxy/${name}.cfg`,
    listen: ['bind :80', (port) => `bind 127.0.0.1:${port}`],
    around: (_, site) => `global\n    maxconn 1000\n\n${site}`,
    command: (_, path) => ['haproxy', '-db', '-f', path],
  },
};

/** `nginx` or `haproxy`, as its file `any` or `sticky` has it, in front of two servers until `t` ends. */
export async function startDeployed(t, proxy, name, servers) {
  const { file, listen, around, command } = PROXIES[proxy];
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-deploy-'));
  // Its workers may be of a user of their own.
  chmodSync(folder, 0o755);
  const port = await freePort();
  let site = readFileSync(join(ROOT, 'examples/deploy', file(name)), 'utf8');
  for (const [from, to] of [
    [listen[0], listen[1](port)],
    ['10.0.0.5:3000', servers[0].address],
    ['10.0.0.6:3000', servers[1].address],
  ]) {
    if (!site.includes(from)) throw new Error(`${from} is not in ${file(name)}`);
    site = site.replaceAll(from, to);
  }
  const path = join(folder, 'config');
  writeFileSync(path, around(folder, site));
  const [program, ...args] = command(folder, path);
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  running.add(child);
  let output = '';
  child.stderr.on('data', (text) => (output += text));
  const ended = once(child, 'exit').then(() => running.delete(child));
  t.after(async () => {
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  await until(() => answers(port), { message: () => `${proxy} answers: ${output}` });
  return { url: `http://127.0.0.1:${port}`, port };
}

const answers = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true) ?? socket.destroy());
    socket.once('error', () => resolve(false));
  });
