// OpenTelemetry: what happens arrives at a collector as traces whose parts hang together, also over servers and
// with what others trace; and nothing waits for the collector.
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { SpanKind } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { BasicTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { ask, connect, nextEvent } from '../support/client.mjs';
import { startCollector, startRotel } from '../support/collector.mjs';
import { startMember, startNodeMember } from '../support/cluster.mjs';
import { notReady } from '../support/plugins.mjs';
import { startRedis } from '../support/redis.mjs';
import { makeFolder, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

/** A script that does what is traced. */
const TRACED = `import { plugin, event } from "mixlab";
const does = (handler) => event({ access: "anyone" }, handler);
export default plugin({
    hello: does((cx, name) => {
        console.log("says hello");
        cx.emit("greeted", name);
        cx.broadcast.includeSender().emit("heard", name);
        return "Hello";
    }),
    count: does((cx) => cx.store.update("n", (n = 0) => n + 1)),
    throws: does(() => { throw new Error("on purpose"); }),
    get: does(async (cx, url) => (await fetch(url)).status),
    later: does((cx) => cx.timers.set("bell", null, { after: "10ms" })),
    never: does((cx) => cx.timers.set("endless", null, { after: "10ms" })),
})
    .onTimer((cx, { name }) => {
        while (name === "endless");
        cx.broadcast.emit("rang");
    })
    .onWebhook((cx) => { cx.broadcast.emit("hooked"); return { status: 200 }; })
    .onConnect(() => {});
`;
const TIMES = '[budget]\ncpu = "1s"\nwall = "5s"\n';
const GRANTS = ['emit', 'everyone', 'store', 'timers'];
const traced = ({ grants = [], ...more } = {}) => {
  const unverified = more.webhook ? [] : ['webhook:unverified'];
  return { script: 'traced.js', text: TRACED, ...more, grants: [...GRANTS, ...unverified, ...grants] };
};

const section = (collector, more = 'sample = 1') => `${TIMES}[telemetry]\nendpoint = "${collector.url}"\nmetrics = false\n${more}\n`;

async function start(t, { more, plugin = traced(), ...options } = {}) {
  const collector = await startCollector(t);
  const server = await startServer(t, { config: section(collector, more), plugins: [plugin], ...options });
  return { collector, server, client: await connect(t, server) };
}

/** What Prometheus is shown of spans, by their outcome. */
async function counted(server) {
  const { body } = await server.api('GET', '/metrics', undefined, null);
  const of = (outcome) => Number(body.match(new RegExp(`^mixlab_telemetry_spans_total\\{outcome="${outcome}"\\} (\\d+)$`, 'm'))?.[1]);
  return { sent: of('sent'), dropped: of('dropped'), failed: of('failed') };
}

/** How many data points of metrics the collector has not taken. */
async function failedDataPoints(server) {
  const { body } = await server.api('GET', '/metrics', undefined, null);
  return Number(body.match(/^mixlab_telemetry_data_points_total\{outcome="failed"\} (\d+)$/m)?.[1]);
}

const OK = { status: 200, body: '{}' };
const withMetrics = (collector, interval = '1s') => `${TIMES}[telemetry]\nendpoint = "${collector.url}"\nsample = 1\ninterval = "${interval}"\n`;
const AUTO = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };

const nanos = ({ startTimeUnixNano, endTimeUnixNano }) => [BigInt(startTimeUnixNano), BigInt(endTimeUnixNano)];

test('an event is a trace: admission, the call, what it sends', async (t) => {
  const { collector, server, client } = await start(t);
  assert.equal(await ask(client, 'hello', 'Ada'), 'Hello');
  const root = await collector.span(({ name }) => name === 'process hello');
  assert.equal(root.kind, 'CONSUMER');
  assert.equal(root.parentSpanId, undefined);
  assert.match(root.traceId, /^[0-9a-f]{32}$/);
  assert.match(root.spanId, /^[0-9a-f]{16}$/);
  const { attributes } = root;
  assert.equal(attributes['messaging.system'], 'socket.io');
  assert.equal(attributes['messaging.destination.name'], '/');
  assert.equal(attributes['messaging.socket.io.event_name'], 'hello');
  assert.equal(attributes['mixlab.socket.id'], client.id);
  assert.equal(root.resource['service.name'], 'mixlab');
  assert.match(root.resource['service.version'], /^\d+\.\d+\.\d+/);
  assert.ok(root.resource['service.instance.id']);
  assert.equal(root.status, undefined);
  const call = await collector.child(root, 'call traced');
  assert.equal(call.attributes['mixlab.plugin.name'], 'traced');
  assert.equal(call.attributes['mixlab.plugin.generation'], 1);
  assert.equal(call.attributes['mixlab.outcome'], 'ok');
  assert.ok(call.attributes['mixlab.call.cpu_time'] > 0);
  const admission = await collector.child(root, 'admission');
  const sent = await Promise.all(['send greeted', 'send heard'].map((name) => collector.child(root, name)));
  assert.ok(sent.every(({ kind }) => kind === 'PRODUCER'));
  assert.equal(sent[1].attributes['mixlab.delivered'], 1);
  const [began, ended] = nanos(root);
  for (const part of [admission, call, ...sent]) {
    const [partBegan, partEnded] = nanos(part);
    // Clocks of the parts are read one after the other.
    assert.ok(partBegan >= began && partBegan <= partEnded, part.name);
    assert.ok(partEnded <= ended + 1_000_000n, part.name);
  }
  assert.ok(nanos(admission)[1] <= nanos(call)[0] + 1_000_000n);
  await server.waitForLog(new RegExp(`says hello.*trace_id=${root.traceId}|trace_id=${root.traceId}.*says hello`));
  for (const { body, headers } of collector.requests) {
    assert.equal(headers['content-type'], 'application/json');
    assert.match(body.resourceSpans[0].schemaUrl, /^https:\/\/opentelemetry\.io\/schemas\/\d/);
  }
});

test('a call that fails has the id of its trace for the client, the log and the collector', async (t) => {
  const { collector, server, client } = await start(t);
  const { error } = await ask(client, 'throws');
  const root = await collector.span(({ name }) => name === 'process throws');
  assert.equal(error.trace_id, root.traceId);
  assert.equal(root.status.code, 2);
  const call = await collector.child(root, 'call traced');
  assert.deepEqual([call.status.code, call.attributes['error.type']], [2, 'gave_up']);
  await server.waitForLog(new RegExp(`${error.trace_id} a call failed`));
});

test('an event that is refused says why', async (t) => {
  const { collector, client } = await start(t);
  assert.equal((await ask(client, 'nobody:knows')).error.code, 'unknown_event');
  // Clients do not choose what spans are called.
  const refused = await collector.span(({ attributes }) => attributes['messaging.socket.io.event_name'] === 'nobody:knows');
  assert.equal(refused.name, 'process');
  assert.equal(refused.attributes['mixlab.outcome'], 'unknown_event');
});

test('a commit that waits for the disk, timers, and clients that come are traced', async (t) => {
  const { collector, client } = await start(t);
  assert.equal(await ask(client, 'count'), 1);
  await collector.child(await collector.span(({ name }) => name === 'process count'), 'commit');
  const came = await collector.span(({ name }) => name === 'connect');
  await collector.child(came, 'call traced');
  client.emit('later');
  await nextEvent(client, 'rang');
  const timer = await collector.span(({ name }) => name === 'timer traced');
  assert.equal(timer.parentSpanId, undefined);
  assert.equal(timer.attributes['mixlab.timer.name'], 'bell');
  for (const name of ['call traced', 'commit', 'send rang']) await collector.child(timer, name);
  client.emit('never');
  const failed = await collector.span(({ attributes }) => attributes['mixlab.timer.name'] === 'endless');
  assert.equal(failed.status.code, 2);
  const ended = await collector.child(failed, 'call traced');
  assert.deepEqual([ended.status, ended.attributes['error.type']], [failed.status, failed.attributes['error.type']]);
});

test('a request to another server is told of the trace, but for what it asks', async (t) => {
  const asked = [];
  const other = createServer((request, response) => {
    asked.push(request.headers);
    response.writeHead(404).end();
  });
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
  t.after(() => other.close());
  const site = `http://localhost:${other.address().port}`;
  const { collector, client } = await start(t, { plugin: traced({ grants: [`http:${site}`], http: { [site]: { private: true } } }) });
  assert.equal(await ask(client, 'get', `${site}/a?token=secret`), 404);
  const call = await collector.child(await collector.span(({ name }) => name === 'process get'), 'call traced');
  const request = await collector.child(call, 'GET');
  assert.equal(request.kind, 'CLIENT');
  assert.equal(asked[0].traceparent, `00-${call.traceId}-${request.spanId}-01`);
  assert.equal(request.attributes['http.response.status_code'], 404);
  assert.equal(request.attributes['url.full'], `${site}/a`);
  assert.equal(request.status.code, 2);
});

/** Node's own OpenTelemetry, which sends to the same collector. */
function foreign(t, collector) {
  const exporter = new OTLPTraceExporter({ url: `${collector.url}/v1/traces` });
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  t.after(() => provider.shutdown());
  const span = provider.getTracer('backend').startSpan('backend', { kind: SpanKind.CLIENT });
  const { traceId, spanId } = span.spanContext();
  return { span, traceId, spanId, traceparent: `00-${traceId}-${spanId}-01`, name: 'backend' };
}

const SECRET = randomBytes(24);
function signed(text) {
  const [id, time] = [`msg_${randomBytes(8).toString('hex')}`, Math.floor(Date.now() / 1000)];
  const signature = createHmac('sha256', SECRET).update(`${id}.${time}.${text}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': String(time), 'webhook-signature': `v1,${signature}` };
}

test("requests of backends and webhooks are parts of their senders' traces, whatever is sampled here", async (t) => {
  const { collector, server, client } = await start(t, {
    more: 'sample = 0',
    plugin: traced({ webhook: { verify: 'standard', secret_env: 'HOOKS' } }),
    env: { HOOKS: `whsec_${SECRET.toString('base64')}` },
  });
  const backend = foreign(t, collector);
  const { status } = await server.api('POST', '/api/v1/emit', { everyone: true, event: 'news', arguments: [1] }, undefined, { traceparent: backend.traceparent });
  assert.equal(status, 200);
  await nextEvent(client, 'news');
  const text = '{}';
  const hooked = await fetch(`${server.url}/hooks/traced/x`, {
    method: 'POST', body: text, headers: { ...signed(text), traceparent: backend.traceparent },
  });
  assert.equal(hooked.status, 200);
  backend.span.end();
  const root = await collector.span(({ name }) => name === 'backend');
  const emit = await collector.child(root, 'POST /api/v1/emit');
  assert.deepEqual([emit.kind, emit.attributes['http.response.status_code']], ['SERVER', 200]);
  assert.equal((await collector.child(emit, 'send news')).attributes['mixlab.delivered'], 1);
  const hook = await collector.child(root, 'POST /hooks/traced');
  assert.equal(hook.kind, 'SERVER');
  for (const name of ['call traced', 'commit', 'send hooked']) await collector.child(hook, name);
  // What begins here is not sampled, and neither is what a stranger asks for.
  assert.equal(await ask(client, 'hello', 'Ada'), 'Hello');
  const unknown = await server.api('POST', '/api/v1/emit', {}, 'no such key', { traceparent: backend.traceparent });
  assert.equal(unknown.status, 401);
  const forged = { ...signed(text), 'webhook-signature': 'v1,AAAA', traceparent: backend.traceparent };
  assert.equal((await fetch(`${server.url}/hooks/traced/x`, { method: 'POST', body: text, headers: forged })).status, 401);
  assert.equal(await server.stop(), 0);
  const known = new Set([backend.traceId]);
  assert.deepEqual(collector.spans().filter(({ traceId }) => !known.has(traceId)), []);
  const names = collector.spans().map(({ name }) => name);
  assert.equal(names.filter((name) => name === 'POST /api/v1/emit').length, 1);
  assert.equal(names.filter((name) => name === 'POST /hooks/traced').length, 1);
});

test('the span of a webhook that anybody may send is linked, and no parent', async (t) => {
  const { collector, server } = await start(t);
  const stranger = foreign(t, collector);
  const traceparent = stranger.traceparent.replace(/01$/, '00');
  assert.equal((await fetch(`${server.url}/hooks/traced/x`, { method: 'POST', headers: { traceparent } })).status, 200);
  const hook = await collector.span(({ name }) => name === 'POST /hooks/traced');
  assert.notEqual(hook.traceId, stranger.traceId);
  assert.deepEqual(hook.links, [{ traceId: stranger.traceId, spanId: stranger.spanId }]);
});

test('the span of the page that a client connects from is linked, and no parent', async (t) => {
  const collector = await startCollector(t);
  const server = await startServer(t, { config: section(collector), plugins: [traced()] });
  const page = foreign(t, collector);
  const client = await connect(t, server, { extraHeaders: { traceparent: page.traceparent.replace(/01$/, '00') } });
  await ask(client, 'hello', 'Ada');
  const root = await collector.span(({ name }) => name === 'process hello');
  assert.notEqual(root.traceId, page.traceId);
  assert.deepEqual(root.links, [{ traceId: page.traceId, spanId: page.spanId }]);
});

test('with sample = 0 nothing is sent, and without an endpoint nothing is traced', async (t) => {
  const { collector, server, client } = await start(t, { more: 'sample = 0' });
  await ask(client, 'hello', 'Ada');
  assert.match((await ask(client, 'throws')).error.trace_id, /^[0-9a-f]{32}$/);
  assert.deepEqual(await counted(server), { sent: 0, dropped: 0, failed: 0 });
  assert.equal(await server.stop(), 0);
  assert.deepEqual(collector.requests, []);
  const off = await startServer(t, { config: TIMES, plugins: [traced()] });
  const other = await connect(t, off);
  assert.match((await ask(other, 'throws')).error.trace_id, /^[0-9a-f]{32}$/);
  assert.ok(!(await off.api('GET', '/metrics', undefined, null)).body.includes('mixlab_telemetry'));
});

test('an event is one trace over two servers, and Node in between is not disturbed', async (t) => {
  const redis = await startRedis(t);
  const collector = await startCollector(t);
  const member = () => startMember(t, redis, { config: `${section(collector)}[cluster]\n`, plugins: [traced()] });
  const servers = await Promise.all([member(), member()]);
  const node = await startNodeMember(t, redis);
  for (const server of servers) await until(async () => (await notReady(server)).length === 0);
  const [one, other] = await Promise.all(servers.map((server) => connect(t, server)));
  const third = await connect(t, node);
  assert.equal(await ask(one, 'hello', 'Ada'), 'Hello');
  for (const client of [other, third]) assert.equal((await nextEvent(client, 'heard'))[0], 'Ada');
  const root = await collector.span(({ name }) => name === 'process hello');
  const sent = await collector.child(root, 'send heard');
  const delivered = await until(() => {
    const found = collector.spans().filter(({ name, parentSpanId }) => name === 'deliver heard' && parentSpanId === sent.spanId);
    return found.length === 2 && found;
  });
  assert.ok(delivered.every(({ traceId, kind }) => traceId === root.traceId && kind === 'CONSUMER'));
  assert.deepEqual(delivered.map(({ attributes }) => attributes['mixlab.delivered']), [1, 1]);
  const instances = new Set(delivered.map(({ resource }) => resource['service.instance.id']));
  assert.equal(instances.size, 2);
  assert.ok(instances.has(root.resource['service.instance.id']));
});

test('a collector of others understands an event over two servers, and the metrics', async (t) => {
  const [redis, rotel] = await Promise.all([startRedis(t), startRotel(t)]);
  const config = `${section(rotel).replace('metrics = false', 'interval = "1s"')}[cluster]\n`;
  const servers = await Promise.all([1, 2].map(() => startMember(t, redis, { config, plugins: [traced()] })));
  for (const server of servers) await until(async () => (await notReady(server)).length === 0);
  const [one, other] = await Promise.all(servers.map((server) => connect(t, server)));
  assert.equal(await ask(one, 'hello', 'Ada'), 'Hello');
  await nextEvent(other, 'heard');
  assert.equal(await ask(one, 'count'), 1);
  const named = (name, parent, count = 1) =>
    until(() => {
      const found = rotel.spans().filter((span) => span.name === name && (parent?.spanId ?? '') === span.parentSpanId);
      return found.length === count && found;
    }, { message: () => `${name} in ${rotel.printed()}` });
  const [hello] = await named('process hello');
  const [sent] = await named('send heard', hello);
  const parts = [...(await named('admission', hello)), ...(await named('call traced', hello)), sent, ...(await named('deliver heard', sent, 2))];
  assert.deepEqual(new Set(parts.map(({ traceId }) => traceId)), new Set([hello.traceId]));
  assert.deepEqual([hello.kind, sent.kind], ['SPAN_KIND_CONSUMER', 'SPAN_KIND_PRODUCER']);
  const [counted] = await named('process count');
  await named('commit', counted);
  await until(() => /mixlab_events_total/.test(rotel.printed()) && /mixlab_plugin_call_seconds/.test(rotel.printed()), { message: rotel.printed });
});

test('what waits is sent when the server ends, with the attributes and secret headers of mixlab.toml', async (t) => {
  const more = 'sample = 1\n[telemetry.headers]\nAuthorization = "Bearer env:COLLECTOR"\n[telemetry.resource]\n"deployment.environment.name" = "test"\n"service.name" = "chat"';
  const { collector, server, client } = await start(t, { more, env: { COLLECTOR: 'a-secret-of-mine', MIXLAB_LOG__LEVEL: 'trace' } });
  await ask(client, 'hello', 'Ada');
  assert.equal(await server.stop(), 0);
  const root = collector.spans().find(({ name }) => name === 'process hello');
  assert.ok(root, 'it is there when the server has ended');
  assert.equal(root.resource['deployment.environment.name'], 'test');
  assert.equal(root.resource['service.name'], 'chat');
  assert.equal(collector.requests[0].headers.authorization, 'Bearer a-secret-of-mine');
  assert.ok(!`${server.log()}${server.output()}`.includes('a-secret-of-mine'));
});

test('a collector that is away, hangs or fails holds up no event, and what it lacks is counted', async (t) => {
  const collector = await startCollector(t, { answer: ({ path }) => path === '/v1/traces' && undefined });
  const server = await startServer(t, { config: section(collector), plugins: [traced()] });
  const client = await connect(t, server);
  // It hangs: the queue is full after a while, and events go on.
  const range = Array.from({ length: 100 }, (_, index) => index);
  await until(async () => {
    assert.ok((await Promise.all(range.map(() => ask(client, 'hello', 'Ada')))).every((answer) => answer === 'Hello'));
    return (await counted(server)).dropped > 0;
  }, { timeout: 60_000 });
  await server.waitForLog(/spans are dropped/);
  const sent = collector.requests.length;
  assert.ok(sent >= 1 && sent < 10, `${sent} requests`);
  // What is not taken for good is not sent again.
  collector.answer = () => ({ status: 400, body: '{}' });
  await until(async () => (await counted(server)).failed > 0, { timeout: 60_000 });
  // Nor is what may be taken later lost at once.
  let refused = 0;
  collector.answer = () => (refused++ < 2 ? { status: 503, body: '' } : { status: 200, body: '{}' });
  await until(async () => (await counted(server)).sent > 0, { timeout: 60_000 });
  assert.ok(refused >= 3);
  await server.waitForLog(/the collector of \[telemetry\] does not take traces/);
  await server.waitForLog(/takes traces again/);
  await collector.close();
  await ask(client, 'hello', 'Ada');
  assert.equal(await server.stop({ timeout: 20_000 }), 0);
});

test('who follows waits for no collector: clients and the port are left to it before the last is sent', async (t) => {
  const collector = await startCollector(t);
  const server = await startServer(t, { config: withMetrics(collector, '1h'), plugins: [traced()], recovery: true });
  const client = await connect(t, server, AUTO);
  const handedOver = () => readdirSync(server.folder, { recursive: true }).some((name) => name.endsWith('store.handover'));
  const last = new Promise((resolve) => {
    // It leaves the last request without an answer.
    collector.answer = ({ path }) => (path === '/v1/metrics' ? resolve(handedOver()) : OK);
  });
  const ended = server.stop();
  assert.equal(await last, true, 'what clients need is there before the last metrics are sent');
  await assert.rejects(fetch(`${server.url}/healthz`));
  assert.equal(await ended, 0);
  const again = server.start('up', '--listen', server.address);
  await until(() => client.connected && client.recovered, { message: () => again.stderr() });
});

test('a collector that hangs makes the gap of an upgrade no longer', async (t) => {
  const collector = await startCollector(t, { answer: () => undefined });
  const server = await startServer(t, { config: withMetrics(collector, '1h'), plugins: [traced()], recovery: true });
  const client = await connect(t, server, AUTO);
  const { code, stdout, stderr } = await server.mixlab('upgrade');
  assert.equal(code, 0, stderr);
  server.isFollowedBy(Number(stdout.match(/^process (\d+) serves\n$/)[1]));
  await until(() => client.connected && client.recovered);
  const [, gap] = await server.waitForLog(/gap_ms=(\d+)/);
  // A server that waits for the last metrics has one of 5 seconds.
  assert.ok(Number(gap) < 4000, gap);
});

test('what a collector asks for in Retry-After is waited for, and not by the other signal', async (t) => {
  const refuse = { status: 503, headers: { 'retry-after': '60' }, body: '' };
  const collector = await startCollector(t, { answer: ({ path }) => (path === '/v1/traces' ? refuse : OK) });
  const server = await startServer(t, { config: withMetrics(collector), plugins: [traced()] });
  const client = await connect(t, server);
  await ask(client, 'hello', 'Ada');
  await server.waitForLog(/does not take traces: it answers with status 503/);
  const of = (wanted) => collector.requests.filter(({ path }) => path === wanted).length;
  const before = of('/v1/metrics');
  await until(async () => {
    await ask(client, 'hello', 'Ada');
    return of('/v1/metrics') >= before + 4;
  });
  assert.equal(of('/v1/traces'), 1);
  // Nor is it tried at the end.
  assert.equal(await server.stop(), 0);
  assert.equal(of('/v1/traces'), 1);
});

test('a success whose body is too large, cut or late is one: nothing is sent twice', async (t) => {
  const answers = [
    { status: 200, body: JSON.stringify({ x: 'x'.repeat(100_000) }) },
    { status: 200, headers: { 'content-length': '1000' }, body: '{}', isCut: true },
    { status: 200, headers: { 'content-length': '1000' }, body: '{}' },
  ];
  const collector = await startCollector(t);
  const server = await startServer(t, { config: section(collector), plugins: [traced()] });
  const client = await connect(t, server);
  for (const answer of answers) {
    const before = collector.requests.length;
    collector.answer = () => answer;
    const { sent } = await counted(server);
    await ask(client, 'hello', 'Ada');
    await until(async () => (await counted(server)).sent > sent, { message: () => `${collector.requests.length - before} requests` });
  }
  assert.equal((await counted(server)).failed, 0);
  const ids = collector.spans().map(({ spanId }) => spanId);
  assert.equal(new Set(ids).size, ids.length);
});

test('a collector that takes no metrics is said to take none, once, and traces go on', async (t) => {
  const collector = await startCollector(t, { answer: ({ path }) => (path === '/v1/metrics' ? { status: 404, body: '' } : OK) });
  const server = await startServer(t, { config: withMetrics(collector), plugins: [traced()] });
  const client = await connect(t, server);
  const of = (wanted) => collector.requests.filter(({ path }) => path === wanted).length;
  await until(async () => {
    await ask(client, 'hello', 'Ada');
    return of('/v1/metrics') >= 3 && of('/v1/traces') >= 3;
  });
  const said = () => server.log().match(/.*the collector of \[telemetry\].*/g);
  assert.equal(said().length, 1, said().join('\n'));
  assert.match(said()[0], /does not take metrics: it answers with status 404/);
  assert.ok((await failedDataPoints(server)) > 0);
  collector.answer = () => OK;
  await server.waitForLog(/takes metrics again/);
});

test('a collector says how much it has not taken, and why, in one harmless line', async (t) => {
  const partly = (rejected) => ({ status: 200, body: JSON.stringify({ partialSuccess: { ...rejected, errorMessage: 'too\nold\u001b[2J' } }) });
  const collector = await startCollector(t, {
    answer: ({ path }) => partly(path === '/v1/traces' ? { rejectedSpans: '1' } : { rejectedDataPoints: '2' }),
  });
  const server = await startServer(t, { config: withMetrics(collector), plugins: [traced()] });
  await ask(await connect(t, server), 'hello', 'Ada');
  await until(async () => (await counted(server)).failed === 1 && (await counted(server)).sent > 0);
  await until(async () => (await failedDataPoints(server)) >= 4);
  for (const name of ['traces', 'metrics']) {
    await until(() => server.log().includes(`says of ${name}: `));
    const lines = server.log().split('\n').filter((line) => line.includes(`says of ${name}: too\\nold\\u001b[2J`));
    assert.equal(lines.length, 1, server.log());
    assert.match(lines[0], /WARN.*rejected=/);
  }
});

test('metrics go to the collector as /metrics shows them', async (t) => {
  const collector = await startCollector(t);
  const config = `${TIMES}[telemetry]\nendpoint = "${collector.url}/"\nsample = 0\ninterval = "1s"\n`;
  const server = await startServer(t, { config, plugins: [traced()] });
  const client = await connect(t, server);
  await ask(client, 'hello', 'Ada');
  const events = await until(() => collector.metrics().get('mixlab_events_total')?.sum.dataPoints.find(({ asDouble }) => asDouble === 1));
  const labels = Object.fromEntries(events.attributes.map(({ key, value }) => [key, value.stringValue]));
  assert.deepEqual(labels, { event: 'hello', outcome: 'ok', plugin: 'traced' });
  const clients = collector.metrics().get('mixlab_clients');
  assert.equal(clients.gauge.dataPoints[0].asDouble, 1);
  const { dataPoints: [calls], aggregationTemporality } = collector.metrics().get('mixlab_plugin_call_seconds').histogram;
  assert.equal(aggregationTemporality, 2);
  assert.equal(calls.bucketCounts.length, calls.explicitBounds.length + 1);
  assert.equal(calls.bucketCounts.reduce((sum, count) => sum + Number(count), 0), Number(calls.count));
  const { body } = await server.api('GET', '/metrics', undefined, null);
  const names = new Set([...body.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name));
  assert.deepEqual(new Set(collector.metrics().keys()), names);
  assert.ok(!collector.requests.some(({ path }) => path === '/v1/traces'));
});

test('what mixlab.toml says wrong of it is refused with its line', async (t) => {
  const check = async (text, env) => makeFolder(t, { config: `[telemetry]\n${text}\n`, env }).mixlab('check');
  for (const [text, reason] of [
    ['endpoint = "127.0.0.1:4318"', /:2:.*telemetry\.endpoint/s],
    ['endpoint = "http://127.0.0.1:4318?a=b"', /query/],
    ['endpoint = "http://user:password@127.0.0.1"', /names a user/],
    ['endpoint = "http://collector:4318"\nheaders = { Authorization = "Bearer x" }', /others could read/],
    ['headers = { "a b" = "x" }', /no name of a header/],
    ['headers = { Authorization = "Bearer env:NOT_THERE" }', /NOT_THERE is not set/],
    ['sample = 1.5', /0 to 1/],
    ['interval = "1ms"', /1s to 1h/],
    ['endpont = "http://127.0.0.1"', /endpoint/],
  ]) {
    const { code, stderr } = await check(text);
    assert.notEqual(code, 0, text);
    assert.match(stderr, reason, text);
  }
  // What cannot work is doubted.
  for (const [endpoint, doubt] of [
    ['http://127.0.0.1:4318/v1/traces', /ends with \/v1\/traces/],
    ['http://127.0.0.1:4317', /gRPC/],
    ['http://169.254.1.1:4318', /no request is sent to/],
  ]) {
    const { stdout, stderr } = await check(`endpoint = "${endpoint}"`);
    assert.match(stdout + stderr, doubt, endpoint);
  }
  assert.equal((await check('endpoint = "https://collector.example.com"\nheaders = { Authorization = "Bearer env:OF_ENV" }', { OF_ENV: 'x' })).code, 0);
});
