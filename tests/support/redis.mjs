// A real Redis of a test's own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './tcp.mjs';
import { until } from './wait.mjs';

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/**
 * A Redis that listens, ended when `t` ends. What it holds is lost when it ends, unless it is told to keep it. `env` are
 * variables that it has; `tls`
 * is what it shows clients that come by TLS, which it has another port for (`secure`).
 */
export async function startRedis(t, { keep = false, env, tls } = {}) {
  const redis = new Redis(await freePort(), keep, await secured(tls), env);
  t.after(() => redis.remove());
  await redis.start();
  return redis;
}

/** The options of a Redis that also takes TLS, among its like, too: with `{ path }` of an authority and `{ paths }` of a certificate. */
async function secured(tls) {
  if (!tls) return [];
  const files = ['--tls-cert-file', tls.paths.certificate, '--tls-key-file', tls.paths.key, '--tls-ca-cert-file', tls.path];
  return ['--tls-port', await freePort(), ...files, '--tls-auth-clients', 'no', '--tls-replication', 'yes'];
}

/** More of them, with these options beside those of all. */
async function startMore(t, count, options) {
  const more = [];
  for (let started = 0; started < count; started++) more.push(new Redis(await freePort(), false, await options()));
  t.after(() => Promise.all(more.map((redis) => redis.remove())));
  await Promise.all(more.map((redis) => redis.start()));
  return more;
}

/** A Redis with a replica, and three sentinels that have the replica take its place when it dies. */
export async function startWatchedRedis(t, tls) {
  const [master, replica] = await startMore(t, 2, async () => ['--repl-diskless-sync-delay', '0', ...(await secured(tls))]);
  await replica.send('REPLICAOF', '127.0.0.1', master.secure ?? master.port);
  await until(async () => (await replica.send('ROLE')).includes('connected'), { message: 'the replica has all' });
  const watch = `sentinel monitor main 127.0.0.1 ${master.secure ?? master.port} 2\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 2000\n`;
  const sentinels = await startMore(t, 3, async () => Object.assign(await secured(tls), { sentinel: watch }));
  const knows = async (sentinel) => /\nnum-slaves\r\n\$1\r\n1\r\n[^]*num-other-sentinels\r\n\$1\r\n2\r\n/.test(await sentinel.send('SENTINEL', 'MASTER', 'main'));
  await until(async () => (await Promise.all(sentinels.map(knows))).every(Boolean), { timeout: 60_000, message: 'the sentinels know each other' });
  const hosts = sentinels.map(({ port, secure }) => `127.0.0.1:${secure ?? port}`);
  return withTurns(`${tls ? 'rediss' : 'redis'}+sentinel://${hosts}/main`, master, replica, () => sentinels[0].send('SENTINEL', 'FAILOVER', 'main'));
}

/** A master and its replica. `turn` has them change places, as for maintenance. */
function withTurns(url, master, replica, turn) {
  // One that changes its place ends connections.
  const is = (redis, role) => redis.send('ROLE').then((said) => said.includes(role), () => false);
  return {
    url,
    master,
    replica,
    async turn() {
      await turn(this.replica);
      [this.master, this.replica] = [this.replica, this.master];
      const isDone = async () => (await is(this.master, 'master')) && (await is(this.replica, 'connected'));
      await until(isDone, { timeout: 60_000, message: 'they have changed places' });
    },
  };
}

/** A Redis Cluster of three nodes, each of which has a third of the slots, and a replica of the one with `key`. */
export async function startRedisCluster(t, key, tls) {
  // The port that nodes use among themselves is by default 10,000 above the other one, which there may not be.
  const options = async () => {
    const own = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '1000', '--cluster-port', await freePort()];
    return tls ? [...own, ...(await secured(tls)), '--tls-cluster', 'yes'] : own;
  };
  const nodes = await startMore(t, 4, options);
  const [first, ...others] = nodes;
  const bus = (node) => node.option('--cluster-port');
  for (const other of others) await first.send('CLUSTER', 'MEET', '127.0.0.1', other.secure ?? other.port, bus(other));
  const [last, ...middle] = [16383, 10922, 5460];
  for (const [n, to] of [...middle.toReversed(), last].entries()) {
    await nodes[n].send('CLUSTER', 'ADDSLOTSRANGE', [0, 5461, 10923][n], to);
  }
  const slot = Number((await first.send('CLUSTER', 'KEYSLOT', key)).slice(1));
  const owner = nodes[Math.floor(slot / 5461.4)];
  const knowsAll = async (node) => (await node.send('CLUSTER', 'INFO')).includes('cluster_known_nodes:4');
  await until(async () => (await Promise.all(nodes.map(knowsAll))).every(Boolean), { message: 'the nodes know each other' });
  const replica = nodes[3];
  const id = (await owner.send('CLUSTER', 'MYID')).split('\r\n')[1];
  await until(async () => (await replica.send('CLUSTER', 'REPLICATE', id)).startsWith('+OK'));
  const isReady = async (node) => (await node.send('CLUSTER', 'INFO')).includes('cluster_state:ok');
  await until(async () => (await Promise.all(nodes.map(isReady))).every(Boolean) && (await replica.send('ROLE')).includes('connected'), {
    timeout: 30_000,
    message: 'the cluster is ready',
  });
  // Not the one that has the keys: they are to be found.
  const seeds = nodes.filter((node) => node !== owner && node !== replica).map(({ port, secure }) => `127.0.0.1:${secure ?? port}`);
  return withTurns(`${tls ? 'rediss' : 'redis'}+cluster://${seeds}`, owner, replica, (replica) => replica.send('CLUSTER', 'FAILOVER'));
}

class Redis {
  #folder = mkdtempSync(join(tmpdir(), 'mixlab-redis-'));
  #child;
  #keep;
  #more;
  #env;

  constructor(port, keep, more = [], env = {}) {
    this.port = port;
    this.url = `redis://127.0.0.1:${port}`;
    this.socket = join(this.#folder, 'redis.sock');
    this.#keep = keep;
    this.#more = more;
    this.#env = env;
  }

  /** The value of an option that it was given. */
  option = (name) => (this.#more.includes(name) ? this.#more[this.#more.indexOf(name) + 1] : undefined);

  /** Its port for TLS, if it has one. */
  get secure() {
    return this.option('--tls-port');
  }

  async start() {
    const keep = this.#keep ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--appendonly', 'no'];
    const port = ['--port', this.port, '--bind', '127.0.0.1', '--dir', this.#folder];
    const { sentinel } = this.#more;
    const file = join(this.#folder, 'sentinel.conf');
    if (sentinel) writeFileSync(file, sentinel);
    const options = sentinel ? [file, '--sentinel', ...port, ...this.#more] : [...port, '--unixsocket', this.socket, '--save', '', ...keep, ...this.#more];
    this.#child = spawn('redis-server', options.map(String), { stdio: 'ignore', env: { ...process.env, ...this.#env } });
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

  /** Sends it a command, whose words may be texts, numbers or bytes. */
  send = (...words) =>
    new Promise((resolve, reject) => {
      const socket = connect(this.port, '127.0.0.1', () => socket.write(command(words)));
      socket.once('data', (answer) => resolve(String(answer)) ?? socket.destroy());
      socket.once('error', reject);
      socket.once('close', () => reject(new Error(`${words[0]} was not answered`)));
    });

  async remove() {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** A command as Redis reads it. */
function command(words) {
  const parts = words.map((word) => (Buffer.isBuffer(word) ? word : Buffer.from(String(word))));
  const lines = parts.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from('\r\n')]);
  return Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...lines]);
}

/** Whether it has loaded what it keeps. */
const answers = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    const end = (answer) => resolve(answer) ?? socket.destroy();
    socket.once('data', (text) => end(String(text).startsWith('+PONG')));
    socket.once('error', () => end(false));
  });
