// A real Redis of a test's own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './tcp.mjs';
import { until } from './wait.mjs';

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** A Redis that listens, ended when `t` ends. What it holds is lost when it ends, unless it is told to keep it. */
export async function startRedis(t, { keep = false } = {}) {
  const redis = new Redis(await freePort(), keep);
  t.after(() => redis.remove());
  await redis.start();
  return redis;
}

class Redis {
  #folder = mkdtempSync(join(tmpdir(), 'mixlab-redis-'));
  #child;
  #keep;

  constructor(port, keep) {
    this.port = port;
    this.url = `redis://127.0.0.1:${port}`;
    this.#keep = keep;
  }

  async start() {
    const keep = this.#keep ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--appendonly', 'no'];
    const options = ['--port', this.port, '--bind', '127.0.0.1', '--dir', this.#folder, '--save', '', ...keep];
    this.#child = spawn('redis-server', options.map(String), { stdio: 'ignore' });
    running.add(this.#child);
    this.#child.once('exit', () => running.delete(this.#child));
    await until(() => answers(this.port), { message: 'Redis answers' });
  }

  /** Ends it, by default without a word. */
  async stop(signal = 'SIGKILL') {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill(signal);
    await ended;
  }

  /** It holds still: nobody is told, and nobody is answered. */
  pause = () => this.#child.kill('SIGSTOP');

  resume = () => this.#child.kill('SIGCONT');

  /** Sends it a command without spaces in its words. */
  send = (...words) =>
    new Promise((resolve, reject) => {
      const socket = connect(this.port, '127.0.0.1', () => socket.write(`${words.join(' ')}\r\n`));
      socket.once('data', (answer) => resolve(String(answer)) ?? socket.destroy());
      socket.once('error', reject);
    });

  async remove() {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Whether it has loaded what it keeps. */
const answers = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    const end = (answer) => resolve(answer) ?? socket.destroy();
    socket.once('data', (text) => end(String(text).startsWith('+PONG')));
    socket.once('error', () => end(false));
  });
