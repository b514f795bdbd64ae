// Servers of one cluster: MixLab's, and Node's in processes of their own.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { notReady } from './plugins.mjs';
import { startServer } from './server.mjs';
import { until } from './wait.mjs';

const PROGRAM = fileURLToPath(new URL('node-member.mjs', import.meta.url));

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** The plugin that does what its client says, with everything that it may be granted. */
export const PLUGIN = {
  wasm: 'capabilities',
  grants: [
    'payments', 'notify', 'role:*', 'clients', 'room:*', 'everyone', 'socket', 'user:*', 'emit', 'ask:*', 'find', 'disconnect', 'handshake',
    'namespace:/*',
  ],
};

/**
 * A MixLab server of the cluster around a Redis, when it is connected to that: before, it counts, keeps and takes turns by
 * itself. `connects: false` is for one that will never be.
 */
export async function startMember(t, redis, { config = '', env, connects = true, ...options } = {}) {
  const server = await startServer(t, {
    plugins: [PLUGIN],
    recovery: true,
    config: config.includes('[cluster]') ? config : `${config}\n[cluster]\n`,
    env: { MIXLAB_CLUSTER__URL: redis.url, ...env },
    ...options,
  });
  const isConnected = async () => !(await notReady(server)).some((it) => it.includes('Redis'));
  if (connects) await until(isConnected, { message: () => `it is connected to Redis:\n${server.log()}` });
  return server;
}

/** A Node server of it, with this version of the adapter. */
export async function startNodeMember(t, redis, { adapter = '0.3' } = {}) {
  const child = fork(PROGRAM, [String(redis.port), adapter]);
  running.add(child);
  child.once('exit', () => running.delete(child));
  const open = new Map();
  let next = 0;
  const [port] = await once(child, 'message');
  child.on('message', ([number, error, result]) => {
    const { resolve, reject } = open.get(number);
    open.delete(number);
    if (error) reject(new Error(error));
    else resolve(result);
  });
  const kill = async (signal = 'SIGKILL') => {
    if (!running.has(child)) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    if (signal !== 'SIGSTOP') await ended;
  };
  t.after(() => kill());
  return {
    url: `http://127.0.0.1:${port}`,
    kill,
    /** Has it do something, by the names in node-member.mjs; what came of it. */
    tell: (name, ...args) =>
      new Promise((resolve, reject) => {
        open.set(next, { resolve, reject });
        child.send([next++, name, ...args]);
      }),
  };
}

/** Waits until all of these servers hear of each other: `heard` says whether the last one was. */
export const settled = (heard) => until(heard, { message: 'the members hear of each other' });

/** Waits until other servers know of a client that it is in this room: they do a moment after it is. */
export const written = (redis, socket, room) =>
  until(async () => {
    const [, session = ''] = (await redis.send('GET', `sio:session:${socket._pid}`)).split('\r\n');
    return Buffer.from(session, 'base64').includes(room);
  }, { message: `it is written that it is in ${room}` });
