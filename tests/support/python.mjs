// The client of another language, python-socketio, driven line by line.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ROOT } from './server.mjs';
import { until, within } from './wait.mjs';

export const PYTHON = process.env.MIXLAB_PYTHON ?? join(ROOT, 'target/python/bin/python');
const PROGRAM = join(ROOT, 'tests/python/client.py');
const EMITTER = join(ROOT, 'tests/python/emitter.py');

const encode = (_, value) =>
  value?.type === 'Buffer' ? { $bytes: Buffer.from(value.data).toString('base64') } : value;
const decode = (_, value) => (typeof value?.$bytes === 'string' ? Buffer.from(value.$bytes, 'base64') : value);

/** What has python-socketio's manager, without a server, do something by the names of its methods; see emitter.py. */
export function startRedisEmitter(t, url) {
  const child = spawn(PYTHON, [EMITTER, url], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const waiting = [];
  createInterface({ input: child.stdout }).on('line', () => waiting.shift()());
  return (method, args, keywords = {}) => {
    const done = new Promise((resolve) => waiting.push(resolve));
    child.stdin.write(`${JSON.stringify([method, args, keywords])}\n`);
    return within(done, `python has done ${method}`);
  };
}

/** A client that is not connected yet, ended when `t` ends. */
export function pythonClient(t, server, transports) {
  const child = spawn(PYTHON, [PROGRAM, server.url, transports.join()], { stdio: ['pipe', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  const events = [];
  const waiting = new Map();
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
  // Whoever waits for it then says what was on stderr.
  child.stdin.on('error', () => {});
  child.on('error', (error) => (errors += error.message));
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { id, result, error, ...event } = JSON.parse(line, decode);
    if (id === undefined) return events.push(event);
    const { resolve, reject } = waiting.get(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  });

  let count = 0;
  async function run(what, parameters = {}) {
    const id = count++;
    const answered = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
    child.stdin.write(`${JSON.stringify({ id, do: what, with: parameters }, encode)}\n`);
    try {
      return await within(answered, `the python client's answer to ${what}`);
    } catch (error) {
      throw new Error(`${error.message}\n${errors}`);
    }
  }

  return {
    connect: ({ namespaces = ['/'], auth = {} } = {}) => run('connect', { namespaces, auth }),
    /** Emits and resolves to all arguments of the ack. */
    call: (event, args = [], namespace = '/') => run('call', { event, args, namespace }),
    /** The name of the transport in use. */
    transport: () => run('transport'),
    sid: (namespace = '/') => run('sid', { namespace }),
    disconnect: () => run('disconnect'),
    /** Sends an engine.io message as it is. */
    send: (message) => run('send', { message }),
    /** Stops the process, as a machine that sleeps, until `wake`. */
    sleep: () => child.kill('SIGSTOP'),
    wake: () => child.kill('SIGCONT'),
    /** The arguments of the next event of this name that no earlier call has returned. */
    async next(name, namespace = '/') {
      const find = () => events.findIndex((event) => event.event === name && event.namespace === namespace);
      await until(() => find() >= 0, { message: () => `python gets ${name}; there were ${JSON.stringify(events)}` });
      return events.splice(find(), 1)[0].args;
    },
  };
}
