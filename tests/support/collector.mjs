// Collectors of OpenTelemetry: one that takes OTLP over HTTP and keeps what comes, and Rotel, which is one of others.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PYTHON } from './python.mjs';
import { freePort } from './tcp.mjs';
import { until } from './wait.mjs';

/** An attribute's value. */
const valueOf = ({ stringValue, intValue, doubleValue, boolValue }) =>
  stringValue ?? (intValue === undefined ? undefined : Number(intValue)) ?? doubleValue ?? boolValue;

/** Attributes as an object. */
export const attributes = (list) => Object.fromEntries((list ?? []).map(({ key, value }) => [key, valueOf(value)]));

const KINDS = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'];

/**
 * A collector at a free port, ended when `t` ends. `answer` decides what a request is answered with:
 * `{ status, body, headers, isCut }`, or nothing to leave it without an answer. One that is cut ends before its body does.
 */
export async function startCollector(t, { answer = () => ({ status: 200, body: '{}' }) } = {}) {
  const requests = [];
  const collector = { answer, requests };
  const server = createServer(async (request, response) => {
    const chunks = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return;
    }
    const taken = { path: request.url, headers: request.headers, body: JSON.parse(Buffer.concat(chunks)) };
    requests.push(taken);
    const answered = collector.answer(taken);
    taken.isTaken = answered?.status === 200;
    if (!answered) return;
    response.writeHead(answered.status, { 'content-type': 'application/json', ...answered.headers });
    if (answered.isCut) response.write(answered.body, () => response.destroy());
    else response.end(answered.body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  collector.port = server.address().port;
  collector.url = `http://127.0.0.1:${collector.port}`;
  collector.close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  t.after(collector.close);

  /** All spans that were taken, flat, each with the attributes of its resource. */
  collector.spans = () =>
    requests
      .filter(({ path, isTaken }) => path === '/v1/traces' && isTaken)
      .flatMap(({ body }) => body.resourceSpans)
      .flatMap(({ resource, scopeSpans }) =>
        scopeSpans.flatMap(({ spans }) => spans.map((span) => ({
          ...span,
          kind: KINDS[span.kind],
          attributes: attributes(span.attributes),
          resource: attributes(resource.attributes),
        }))));

  /** Waits for a span that fits. */
  collector.span = (fits, what = String(fits)) =>
    until(() => collector.spans().find(fits), {
      message: () => `${what} among ${JSON.stringify(collector.spans().map(({ name, kind, traceId, spanId, parentSpanId }) => ({ name, kind, traceId, spanId, parentSpanId })), null, 1)}`,
    });

  /** Waits for the span of this name that is a part of another one. */
  collector.child = (parent, name) =>
    collector.span(
      (span) => span.parentSpanId === parent.spanId && span.traceId === parent.traceId && span.name === name,
      `${name} within ${parent.name} ${parent.spanId}`,
    );

  /** The metrics of the last request with some, by their names. */
  collector.metrics = () => {
    const last = requests.findLast(({ path }) => path === '/v1/metrics');
    const all = last?.body.resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics).flatMap(({ metrics }) => metrics) ?? [];
    return new Map(all.map((metric) => [metric.name, metric]));
  };
  return collector;
}

/** Rotel, which prints what it has understood: `spans()` has ids, names and parents, `metrics()` names. */
export async function startRotel(t) {
  const where = spawnSync(PYTHON, ['-c', 'import os, rotel; print(os.path.dirname(rotel.__file__))'], { encoding: 'utf8' });
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-rotel-'));
  const [http, grpc] = [await freePort(), await freePort()];
  const child = spawn(join(where.stdout.trim(), 'rotel-agent'), [
    'start', '--exporter', 'blackhole', '--debug-log', 'traces', '--debug-log', 'metrics', '--debug-log-verbosity', 'detailed',
    '--otlp-http-endpoint', `127.0.0.1:${http}`, '--otlp-grpc-endpoint', `127.0.0.1:${grpc}`,
    '--pid-file', join(folder, 'pid'), '--log-file', join(folder, 'log'),
  ], { env: { NO_COLOR: '1' } });
  t.after(() => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  let printed = '';
  for (const output of [child.stdout, child.stderr]) output.setEncoding('utf8').on('data', (text) => (printed += text));
  const url = `http://127.0.0.1:${http}`;
  await until(() => fetch(url).then(() => true, () => false), { message: () => `Rotel answers:\n${printed}` });
  const field = (block, name) => block.match(new RegExp(`^ +${name} *: (.*)$`, 'm'))?.[1];
  return {
    url,
    printed: () => printed,
    spans: () =>
      printed.split(/^Span #\d+$/m).slice(1).map((block) => ({
        traceId: field(block, 'Trace ID'),
        parentSpanId: field(block, 'Parent ID'),
        spanId: field(block, 'ID'),
        name: field(block, 'Name'),
        kind: field(block, 'Kind'),
      })),
  };
}
