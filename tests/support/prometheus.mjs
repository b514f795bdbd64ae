// A real Prometheus, with the files of examples/deploy.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './server.mjs';
import { freePort } from './tcp.mjs';
import { until } from './wait.mjs';

/** Its files. */
export const FILES = join(ROOT, 'examples/deploy/prometheus');

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** What promtool says; throws if it does not agree. */
export const promtool = (args, options) => execFileSync('promtool', args, { encoding: 'utf8', stdio: 'pipe', ...options });

/**
 * A Prometheus that looks at these servers once a second, until `t` ends. `query` resolves to the result of an
 * expression, and `alerts` to the alerts that speak or are about to.
 */
export async function startPrometheus(t, servers) {
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-prometheus-'));
  cpSync(FILES, folder, { recursive: true });
  const targets = JSON.stringify(servers.map(({ address }) => address));
  let config = readFileSync(join(FILES, 'prometheus.yml'), 'utf8');
  for (const [from, to] of [
    ['scrape_interval: 15s', 'scrape_interval: 1s\n  evaluation_interval: 1s'],
    ['["10.0.0.5:3000", "10.0.0.6:3000"]', targets],
  ]) {
    if (!config.includes(from)) throw new Error(`${from} is not in prometheus.yml`);
    config = config.replace(from, to);
  }
  writeFileSync(join(folder, 'prometheus.yml'), config);
  const url = `http://127.0.0.1:${await freePort()}`;
  const options = [`--config.file=${join(folder, 'prometheus.yml')}`, `--storage.tsdb.path=${join(folder, 'data')}`, `--web.listen-address=${new URL(url).host}`];
  const child = spawn('prometheus', options, { stdio: ['ignore', 'ignore', 'pipe'] });
  running.add(child);
  let output = '';
  child.stderr.on('data', (text) => (output += text));
  const ended = once(child, 'exit').then(() => running.delete(child));
  t.after(async () => {
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  const isReady = async () => (await fetch(`${url}/-/ready`).catch(() => ({}))).ok;
  await until(isReady, { timeout: 60_000, message: () => `Prometheus is ready: ${output}` });

  const get = async (path, query = {}) => {
    const response = await fetch(`${url}${path}?${new URLSearchParams(query)}`);
    const { status, data, error } = await response.json();
    if (status !== 'success') throw new Error(`${error}: ${JSON.stringify(query)}`);
    return data;
  };
  return {
    query: async (expression) => (await get('/api/v1/query', { query: expression })).result,
    alerts: async () => (await get('/api/v1/alerts')).alerts,
  };
}
