// What /metrics shows, as Prometheus takes it, and the dashboard and alerts of examples/deploy.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from '../support/client.mjs';
import { FILES, promtool, startPrometheus } from '../support/prometheus.mjs';
import { startServer, ROOT } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const read = (...path) => readFileSync(join(ROOT, ...path), 'utf8');
const namesIn = (text, pattern) => new Set([...text.matchAll(pattern)].map(([, name]) => name));

/** The metrics that the host has, by its source. */
const SOURCES = ['metrics.rs', ...readdirSync(join(ROOT, 'host/src/metrics')).map((file) => `metrics/${file}`)];
const METRICS = namesIn(SOURCES.map((file) => read('host/src', file)).join('\n'), /"((?:mixlab|process)_[a-z_]+)"/g);

/** The expressions of the dashboard, for all servers and plugins. */
const DASHBOARD = JSON.parse(read('examples/deploy/grafana/mixlab.json'));
const PANELS = DASHBOARD.panels.filter(({ type }) => type !== 'row');
const EXPRESSIONS = [...PANELS.flatMap(({ targets }) => targets), ...DASHBOARD.annotations.list].map(({ expr }) => expr);
const filled = (expression) => expression.replaceAll(/\$(instance|plugin)\b/g, '.*').replaceAll('$__rate_interval', '1m');

/** The alerts, each with its expression. */
const ALERTS = read('examples/deploy/prometheus/alerts.yml').split('- alert: ').slice(1).map((rule) => {
  const [, name, block, line] = rule.match(/^(\w+)\n\s+expr: (?:\|\n((?:\s{10,}.*\n)+)|(.*)\n)/);
  return { name, expression: (block ?? line).replaceAll(/\s+/g, ' ').trim() };
});

/** Metrics of which nothing is to be seen where nothing of the kind has happened, or is configured. */
const SILENT = /cluster|tls_certificate|key_fetches|http_requests|call_failures|rate_limited|outcome!="ok"/;

test('the documents have every metric, and no other', () => {
  assert.ok(METRICS.size > 30);
  const rows = read('host/docs/running/monitoring.md').split('\n').filter((line) => line.startsWith('| `'));
  const documented = namesIn(rows.map((line) => line.split('|')[1]).join('\n'), /`((?:mixlab|process)_[a-z_]+)`/g);
  assert.deepEqual([...documented].sort(), [...METRICS].sort());
});

test('the dashboard and the alerts ask for metrics that there are', () => {
  assert.ok(EXPRESSIONS.length > 20 && ALERTS.length > 10);
  for (const expression of [...EXPRESSIONS, ...ALERTS.map((alert) => alert.expression)]) {
    const asked = namesIn(expression, /\b((?:mixlab|process)_[a-z_]+)/g);
    for (const name of asked) assert.ok(METRICS.has(name.replace(/(_seconds)_(bucket|count|sum)$/, '$1')), `${name} in ${expression}`);
    assert.ok(asked.size > 0 || expression.startsWith('up{'), expression);
  }
});

test('each alert speaks when it should, and is silent when not', () => {
  promtool(['check', 'rules', join(FILES, 'alerts.yml')]);
  promtool(['test', 'rules', 'alerts.test.yml'], { cwd: FILES });
  const cases = read('examples/deploy/prometheus/alerts.test.yml').split('input_series:').slice(1);
  for (const { name } of ALERTS) {
    const its = cases.filter((text) => text.includes(`alertname: ${name}\n`));
    assert.deepEqual(its.map((text) => text.includes('exp_alerts: []')), [false, true], name);
  }
});

test('a real Prometheus understands the server, the dashboard and the alerts', async (t) => {
  const server = await startServer(t, { plugins: ['echo'] });
  await (await connect(t, server)).emitWithAck('echo', 1);
  const { body } = await server.api('GET', '/metrics', undefined, null);
  assert.equal(promtool(['check', 'metrics'], { input: body }), '');

  const prometheus = await startPrometheus(t, [server]);
  await until(async () => (await prometheus.query('up{job="mixlab"}'))[0]?.value[1] === '1');
  // A rate needs two looks.
  await until(async () => (await prometheus.query('rate(mixlab_events_total[1m])')).length > 0);
  for (const expression of EXPRESSIONS) {
    const result = await prometheus.query(filled(expression));
    if (!SILENT.test(expression) && expression !== DASHBOARD.annotations.list[0].expr) assert.ok(result.length > 0, expression);
  }
  for (const { expression } of ALERTS) assert.deepEqual(await prometheus.query(expression), [], expression);

  const [resident] = await prometheus.query('process_resident_memory_bytes');
  assert.ok(resident.value[1] > 1e6 && resident.value[1] < 1e10, JSON.stringify(resident));
  const [started] = await prometheus.query('time() - process_start_time_seconds{job="mixlab"}');
  assert.ok(started.value[1] > 0 && started.value[1] < 600, JSON.stringify(started));
  const [files] = await prometheus.query('process_open_fds{job="mixlab"} < process_max_fds{job="mixlab"}');
  assert.ok(files.value[1] > 5);

  writeFileSync(server.configPath, `nonsense = 1\n${readFileSync(server.configPath, 'utf8')}`);
  const refused = await until(async () => (await prometheus.alerts()).find(({ labels }) => labels.alertname === 'MixLabReloadRefused'));
  assert.deepEqual([refused.state, refused.labels.what], ['firing', 'mixlab.toml']);
});
