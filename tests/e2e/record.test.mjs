// Calls that a server has written down, run again: `up --record`, `mixlab replay`, and `mixlab logs`.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { editConfig, reload } from '../support/plugins.mjs';
import { makeFolder, startServer } from '../support/server.mjs';
import { token as tokenOf } from '../support/tokens.mjs';
import { startUpstream } from '../support/upstream.mjs';
import { until } from '../support/wait.mjs';

/** Reads the clock, random numbers and the store, remembers something between calls, and does what one can see. */
const VOTES = `
import { event, plugin, reject, t } from "mixlab";

let calls = 0;

export default plugin({ version: "1.0.0" }, (config) => ({
    vote: event({ access: "anyone", args: [t.object({ for: t.string() })] }, async (cx, choice) => {
        calls += 1;
        if (choice.for === "nobody") reject("no_choice", "Somebody has to win");
        const votes = await cx.store.update(choice.for, (votes = 0) => votes + 1);
        cx.store.set("last", { for: choice.for, at: Date.now() }, { ttl: "1d" });
        cx.join("voters");
        cx.to("voters").emit("voted", { for: choice.for, votes, by: cx.user?.id ?? null });
        cx.timers.set("count", null, { after: "10m" });
        const all = await cx.store.scan("");
        return { votes, calls, keys: all.length, id: crypto.randomUUID(), dice: Math.random(), at: Date.now(), rooms: cx.rooms };
    }),
    pay: event({ access: "anyone", args: [t.any()] }, async (cx, order) => {
        cx.store.set("order", order);
        return order;
    }),
    crash: event({ access: "anyone", args: [t.any()] }, async (cx, what) => {
        console.log("about to crash", what);
        const votes = await cx.store.get("cats");
        if (votes > 1) throw new Error(\`\${votes} are too many\`);
    }),
})).onConnect((cx, auth) => { if (auth.password === "wrong") throw new Error("no"); });
`;

const PLUGIN = { script: 'votes.ts', text: VOTES, grants: ['emit', 'room:voters', 'store', 'timers'] };

/** A server that records its calls. */
function recording(t, { args = [], plugins = [PLUGIN], ...options } = {}) {
  return startServer(t, { plugins, args: ['--record', 'calls.jsonl', ...args], ...options });
}

/** The lines of its record, when it has stopped. */
async function recorded(server) {
  assert.equal(await server.stop(), 0);
  const text = readFileSync(join(server.folder, 'calls.jsonl'), 'utf8');
  return text.trimEnd().split('\n').map((line) => JSON.parse(line));
}

const calls = (lines) => lines.flatMap(({ call }) => call ?? []);

/** Some votes of two clients. */
async function vote(t, server) {
  const ann = await connect(t, server, { auth: { token: tokenOf({ sub: '1', role: 'member' }) } });
  const bob = await connect(t, server);
  const acks = [];
  for (const [socket, choice] of [[ann, 'cats'], [bob, 'dogs'], [ann, 'nobody'], [bob, 'cats'], [bob, 'cats']]) {
    acks.push(await ask(socket, 'vote', { for: choice }));
  }
  assert.deepEqual(acks.map(({ votes, error }) => votes ?? error.code), [1, 1, 'no_choice', 2, 3]);
  return { ann, bob };
}

/** What a replay with this script says. */
async function replay(server, text, ...args) {
  writeFileSync(join(server.folder, 'new.ts'), text);
  return server.mixlab('replay', 'calls.jsonl', '--plugin', 'new.ts', ...args);
}

describe('a record', () => {
  test('is run again with the same plugin, and nothing differs', async (t) => {
    const server = await recording(t);
    await vote(t, server);
    const lines = await recorded(server);
    assert.equal(lines[0].record.version, 1);
    assert.equal(statSync(join(server.folder, 'calls.jsonl')).mode & 0o777, 0o600);
    assert.equal(calls(lines).filter(({ given }) => given.event?.event === 'vote').length, 5);
    for (const args of [[], ['--plugin', 'scripts/votes.ts']]) {
      const { code, stdout, stderr } = await server.mixlab('replay', 'calls.jsonl', ...args);
      assert.deepEqual([code, stderr], [0, ''], stdout);
      assert.match(stdout, /^\d+ calls, 0 differ\n$/);
    }
  });

  test('shows exactly what another version does otherwise', async (t) => {
    const server = await recording(t);
    await vote(t, server);
    await recorded(server);
    const changed = VOTES.replace('"voted", { for', '"votes", { for').replace('votes + 1', 'votes + 10');
    const { code, stdout, stderr } = await replay(server, changed, '--format', 'json');
    assert.equal(code, 1, stderr);
    const { differing } = JSON.parse(stdout);
    assert.equal(differing.length, 4);
    assert.ok(differing.every(({ what }) => what === 'event vote'));
    assert.deepEqual(differing[0].differences.map(({ place, expected, found }) => [place, expected, found]), [
      ['effects[1].event', 'voted', 'votes'],
      ['effects[1].value[0].votes', 1, 10],
      ['outcome.ack[0].votes', 1, 10],
      ['writes[1].value', 1, 10],
    ]);
    assert.deepEqual(differing[0].unrecorded, []);
    const text = await replay(server, changed);
    assert.equal(text.code, 1);
    assert.match(text.stdout, /^call \d+ {2}event vote {2}\S+Z\n {2}effects\[1\]\.event\n {6}expected {2}"voted"\n {6}found {5}"votes"$/m);
    assert.match(text.stderr, /^error: 4 calls differ$/m);
  });

  test('names what another version asks and the record does not have', async (t) => {
    const server = await recording(t);
    const socket = await connect(t, server);
    await ask(socket, 'vote', { for: 'cats' });
    assert.equal(await ask(socket, 'crash', 'not yet'), undefined);
    await recorded(server);
    const { code, stdout } = await replay(server, VOTES.replace('store.get("cats")', 'store.get("dogs")'));
    assert.equal(code, 1);
    assert.match(stdout, /^call \d+ {2}event crash .*\n[^]*\n {2}not in the record\n {6}store\.get plugin\/votes "dogs"\n\d+ calls, 1 differ$/m);
  });

  test('has no secrets, and nothing that it is told to leave out', async (t) => {
    const server = await recording(t, { args: ['--record-redact', 'payload.card.*', '--record-redact', 'auth.pin'] });
    const token = tokenOf({ sub: '1' });
    const socket = await connect(t, server, { auth: { token, password: 'hunter2', pin: 'pin-1234', name: 'Ann' } });
    const order = { item: 'lamp', card: { number: '4111-1111', cvc: 'cvc-123' }, access_token: 'tkn-1' };
    assert.deepEqual(await ask(socket, 'pay', order), order);
    const lines = await recorded(server);
    const text = JSON.stringify(lines);
    for (const secret of [token, 'hunter2', 'pin-1234', '4111-1111', 'cvc-123', 'tkn-1']) {
      assert.ok(!text.includes(secret), secret);
    }
    assert.ok(text.includes('lamp') && text.includes('Ann'));
    const { code, stdout } = await server.mixlab('replay', 'calls.jsonl');
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^2 had something left out of the record, and ran without it$/m);
  });

  test('has no secrets in names, URLs and bytes as others write them, and compares nothing that is made of what was left out', async (t) => {
    const text = VOTES.replace('(cx, auth) => {', '(cx, auth) => { cx.data = { kept: auth.pin };');
    const server = await recording(t, { args: ['--record-redact', 'auth.pin'], plugins: [{ ...PLUGIN, text }] });
    const socket = await connect(t, server, { auth: { pin: 'pin-1234' } });
    const order = { newPassword: 'secret-1', csrfToken: 'secret-2', home: 'https://ann:secret-3@shop.example/#id_token=secret-4' };
    assert.deepEqual(await ask(socket, 'pay', order), order);
    await ask(socket, 'pay', Buffer.from('{"password":"secret-5"}'));
    const lines = JSON.stringify(await recorded(server));
    assert.doesNotMatch(lines, /secret-\d/);
    assert.ok(!lines.includes(Buffer.from('{"password":"secret-5"}').toString('base64')));
    // The plugin has made something else of it, which no path names.
    assert.match(lines, /"kept":"pin-1234"/);
    const { code, stdout } = await server.mixlab('replay', 'calls.jsonl');
    assert.equal(code, 0, stdout);
  });

  test('stops growing at its bound, with one line in the log', async (t) => {
    const server = await recording(t, { args: ['--record-size', '20KB'] });
    const socket = await connect(t, server);
    for (let number = 0; number < 100; number += 1) await ask(socket, 'vote', { for: `number ${number}` });
    const lines = await recorded(server);
    assert.equal(lines.at(-1), 'full');
    assert.ok(statSync(join(server.folder, 'calls.jsonl')).size <= 20_000);
    await server.waitForLog(/the record is full/);
    assert.equal(server.log().match(/the record is full: nothing more is recorded/g).length, 1);
    const { code, stdout } = await server.mixlab('replay', 'calls.jsonl');
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^the record was full before the server stopped$/m);
  });

  test('of calls that trap is run again with a component in Rust', async (t) => {
    const plugins = [{ wasm: 'remembers', grants: ['store', 'emit', 'ask', 'everyone'] }];
    const server = await recording(t, { plugins });
    const socket = await connect(t, server);
    const steps = (...steps) => ask(socket, 'remembers', null, steps);
    await steps({ set: ['a', 1] }, { get: 'a' }, { add: ['n', 2] });
    await steps({ scan: ['', null, 10] }, { exists: 'b' }, { set_for: [60_000, 'b', 'x'] });
    assert.equal((await steps({ get: 'a' }, 'trap')).error.code, 'plugin_error');
    await steps({ delete: 'a' }, { scan: ['', null, 1] }, { emit: 'done' });
    const lines = await recorded(server);
    assert.deepEqual(calls(lines).map(({ came }) => came.outcome.failed).filter(Boolean), ['trap']);
    const { code, stdout, stderr } = await server.mixlab('replay', 'calls.jsonl');
    assert.deepEqual([code, stderr], [0, ''], stdout);
  });

  test('is not begun over another file, nor by a path that is none', async (t) => {
    const home = makeFolder(t, { plugins: [PLUGIN], files: { 'calls.jsonl': 'mine' } });
    const { code, stderr } = await home.mixlab('up', '--listen', '127.0.0.1:0', '--record', 'calls.jsonl');
    assert.equal(code, 1);
    assert.match(stderr, /calls\.jsonl: the file is there already/);
    assert.equal(readFileSync(join(home.folder, 'calls.jsonl'), 'utf8'), 'mine');
    const other = await home.mixlab('up', '--record', 'x.jsonl', '--record-redact', 'password');
    assert.equal(other.code, 2);
    assert.match(other.stderr, /a path begins with auth\., payload\. or config\./);
    assert.ok(!existsSync(join(home.folder, 'x.jsonl')));
    const none = await home.mixlab('replay', 'calls.jsonl');
    assert.equal(none.code, 2);
    assert.match(none.stderr, /calls\.jsonl is no record/);
  });
});

/** Asks the host whatever it answers. */
const CURIOUS = `
import { event, plugin } from "mixlab";

export default plugin({ version: "1.0.0" }, () => ({
    look: event({ access: "anyone" }, async (cx, url) => {
        const before = cx.data;
        cx.data = { looks: (before?.looks ?? 0) + 1 };
        cx.presence("hall").enter({ at: Date.now() });
        const sockets = await cx.of("/").find();
        const history = await cx.history("news");
        cx.of("/").includeSender().keep("news").emit("looked", sockets.length);
        return {
            before,
            rooms: cx.rooms,
            agent: cx.handshake.headers.get("x-agent"),
            sockets: sockets.map(({ id, rooms, data }) => ({ id, rooms, data })),
            count: await cx.of("/").count(),
            clients: await cx.connectedClientsCount(),
            members: await cx.presence("hall").members(),
            present: await cx.presence("hall").count(),
            kept: history.events.map(({ event, arguments: args }) => [event, args]),
            ack: await cx.ask("sure", 1),
            acks: await cx.of("/").ask("sure", 2),
            http: url ? await (await fetch(url, { method: "POST", body: "{}" })).text() : null,
            passed: performance.now() >= 0,
        };
    }),
}));
`;

test('a record has whatever the host answers', async (t) => {
  const upstream = await startUpstream(t);
  const grants = ['emit', 'ask', 'find', 'everyone', 'clients', 'handshake', 'header:x-agent', 'room:*', 'presence:hall', 'history:news'];
  const server = await recording(t, {
    plugins: [{ script: 'curious.ts', text: CURIOUS, grants: [...grants, `http:${upstream.url}`], http: { [upstream.url]: { private: true } } }],
  });
  const open = async () => {
    const socket = await connect(t, server, { extraHeaders: { 'x-agent': 'test' } });
    socket.on('sure', (number, ack) => ack(number * 10));
    return socket;
  };
  const [ann, bob] = [await open(), await open()];
  const first = await ask(ann, 'look', `${upstream.url}/echo/x?access_token=s3cret`);
  assert.equal(first.ack, 10, JSON.stringify(first));
  const second = await ask(bob, 'look');
  assert.deepEqual([second.count, second.kept.length, second.acks.answers.length], [1, 1, 1], JSON.stringify(second));
  await Promise.all(Array.from({ length: 20 }, () => ask(ann, 'look')));
  ann.disconnect();
  const lines = await recorded(server);
  assert.equal(calls(lines).length, 22);
  const asked = new Set(calls(lines).flatMap(({ answers = [] }) => answers.map(({ ask }) => ask)));
  for (const name of ['sockets.find', 'sockets.count', 'sockets.handshake', 'presence.members', 'presence.count', 'history.since', 'ask.ask', 'ask.ask-sockets', 'http.send', 'broadcast.connected-clients-count', 'clock']) {
    assert.ok(asked.has(name), name);
  }
  assert.ok(!JSON.stringify(calls(lines).map(({ answers }) => answers.filter(({ ask }) => ask === 'http.send').map((it) => it.with))).includes('s3cret'));
  const sent = upstream.requests.length;
  const { code, stdout, stderr } = await server.mixlab('replay', 'calls.jsonl');
  assert.deepEqual([code, stderr], [0, ''], stdout);
  assert.match(stdout, /^22 calls, 0 differ$/m);
  assert.equal(upstream.requests.length, sent);
});

describe('requests by wasi:http', () => {
  /** What a guest asks by them, and ends with. */
  const requesting = async (t, upstream, options = {}) => {
    const guest = {
      wasm: 'wasi_requests',
      grants: ['store', `http:${upstream.url}`],
      http: { [upstream.url]: { private: true } },
      budget: { instances: 1, requests: 1, boundary: '256KiB' },
    };
    const server = await recording(t, { plugins: [guest], config: '[budget]\ncpu = "500ms"\nwall = "20s"\n', ...options });
    const authority = `127.0.0.1:${upstream.port}`;
    return { server, socket: await connect(t, server), authority, to: (path, more) => ({ authority, path, ...more }) };
  };
  const toldAgain = async (server, upstream) => {
    const sent = upstream.requests.length;
    const { code, stdout, stderr } = await server.mixlab('replay', 'calls.jsonl');
    assert.deepEqual([code, stderr], [0, ''], stdout);
    assert.equal(upstream.requests.length, sent, 'nothing is sent');
  };

  test('are told again: status, headers, body, and why there was none', async (t) => {
    const upstream = await startUpstream(t);
    const { server, socket, to } = await requesting(t, upstream, { args: ['--record-redact', 'payload.card.*'] });
    const body = JSON.stringify({ item: 'lamp', card: { number: '4111-1111' } });
    const answers = await ask(socket, 'wasi_requests', [
      to('/echo?access_token=tkn-1', { method: 'POST', body }),
      to('/status/404', { headers: [['x-one', 'a']] }),
      to('/bytes/70000'),
      to('/cookie'),
      to('/broken'),
      to('/held', { timeout_ms: 50 }),
      to('/bytes/1000000'),
      to('/echo', { authority: '127.0.0.2:1' }),
      to('/echo', { authority: undefined }),
      to('/echo', { method: 'CONNECT' }),
    ]);
    assert.deepEqual(answers.map(({ answered, refused }) => answered?.status ?? refused), [
      200, 404, 200, 200,
      'ErrorCode::DestinationUnavailable',
      'ErrorCode::HttpResponseTimeout',
      'ErrorCode::HttpResponseBodySize(None)',
      'ErrorCode::HttpRequestDenied',
      'ErrorCode::HttpRequestUriInvalid',
      'ErrorCode::HttpRequestMethodInvalid',
    ]);
    const [call] = calls(await recorded(server));
    assert.equal(call.answers.filter(({ ask }) => ask === 'wasi:http').length, 10);
    const text = JSON.stringify([call.answers, call.came]);
    for (const secret of ['4111-1111', 's3cret-c00kie']) assert.ok(!text.includes(secret), secret);
    assert.ok(!JSON.stringify(call.answers.map((it) => it.with)).includes('tkn-1'));
    assert.ok(text.includes('lamp'));
    await toldAgain(server, upstream);
  });

  test('that a call sends together or leaves have each what came of it', async (t) => {
    const upstream = await startUpstream(t);
    const { server, socket, authority, to } = await requesting(t, upstream);
    const came = (number) => until(() => upstream.requests[number], { message: 'the request came' });
    const together = ask(socket, 'wasi_requests:together', [to('/held'), to('/held'), to('/echo', { method: 'POST', body: 'b' })]);
    for (const [number, text] of ['one', 'two'].entries()) (await came(number)).response.end(text);
    assert.deepEqual((await together).slice(0, 2).map(({ answered }) => answered.body).toSorted(), ['one', 'two']);
    assert.equal(await ask(socket, 'wasi_requests:leave', to('/held')), undefined);
    assert.deepEqual(await ask(socket, 'wasi_requests:left'), [{ refused: 'ErrorCode::ConnectionTerminated' }]);
    for (const what of ['endless', 'unfinished', 'short', 'again']) await ask(socket, 'wasi_requests:odd', authority, what);
    assert.equal(await ask(socket, 'wasi_requests:count', to('/echo')), 1);
    assert.equal(calls(await recorded(server)).length, 8);
    await toldAgain(server, upstream);
  });

  test('come as late again as they came', async (t) => {
    const upstream = await startUpstream(t);
    const { server, socket, to } = await requesting(t, upstream);
    const late = ask(socket, 'wasi_requests:race', to('/held'), 1);
    await server.waitForLog(/ready: \[1\]/);
    (await until(() => upstream.requests[0], { message: 'the request came' })).response.end('late');
    assert.deepEqual(await late.then(([ready, { answered }]) => [ready, answered.body]), [[1], 'late']);
    assert.deepEqual((await ask(socket, 'wasi_requests:race', to('/status/201'), 10_000))[0], [0]);
    const [first] = calls(await recorded(server));
    assert.deepEqual(first.answers.find(({ ask }) => ask === 'poll'), { ask: 'poll', with: 2, answer: [1] });
    await toldAgain(server, upstream);
  });

  test('that the record does not have are named, and so are other bodies', async (t) => {
    const upstream = await startUpstream(t);
    const { server, socket, to } = await requesting(t, upstream);
    await ask(socket, 'wasi_requests', [to('/echo/a', { method: 'POST', body: 'sent' })]);
    await ask(socket, 'wasi_requests', [to('/status/404')]);
    await recorded(server);
    const path = join(server.folder, 'calls.jsonl');
    const other = readFileSync(path, 'utf8').replace(`"${upstream.url}/status/404"`, `"${upstream.url}/status/500"`);
    writeFileSync(path, other.replace('"body":"sent","came"', '"body":"other","came"'));
    const { code, stdout } = await server.mixlab('replay', 'calls.jsonl');
    assert.equal(code, 1);
    assert.match(stdout, /^ {2}not in the record\n {6}wasi:http \["POST","http:\S+\/echo\/a"\] with this body$/m);
    assert.match(stdout, /^ {2}not in the record\n {6}wasi:http \["GET","http:\S+\/status\/404"\]$/m);
    assert.match(stdout, /^2 calls, 2 differ$/m);
  });
});

test('calls that run again for a conflict, on several instances, are run again as they were', async (t) => {
  const plugins = [{ wasm: 'remembers', grants: ['store', 'emit', 'ask', 'everyone'] }];
  const server = await recording(t, { plugins });
  const sockets = await Promise.all(Array.from({ length: 8 }, () => connect(t, server)));
  await Promise.all(sockets.flatMap((socket) => Array.from({ length: 20 }, () => ask(socket, 'remembers:increment', 'n'))));
  await recorded(server);
  const { code, stdout, stderr } = await server.mixlab('replay', 'calls.jsonl');
  assert.deepEqual([code, stderr], [0, ''], stdout);
});

test('a migration is run again batch by batch, each with what those before it have read and written', async (t) => {
  const migrates = (version) => ({ wasm: 'migrates', grants: ['store', 'emit', 'everyone'], config: { data_version: version } });
  const server = await recording(t, { plugins: [migrates(0)] });
  const socket = await connect(t, server);
  for (let number = 10; number < 35; number += 1) await ask(socket, 'migrates', `k${number}`);
  editConfig(server, (text) => text.replace('"data_version" = 0', '"data_version" = 1'));
  await reload(server);
  assert.deepEqual(await ask(socket, 'migrates', 'k10'), { by: [0, 1], n: 2 });
  const batches = calls(await recorded(server)).filter(({ given }) => given.migrate);
  assert.deepEqual(batches.map(({ given, came }) => [given.migrate.from, given.migrate.cursor, came.writes?.length ?? 0]), [
    [0, null, 10], [0, 'n:k19', 10], [0, 'n:k29', 5], [0, 'n:k34', 0],
  ]);
  const { code, stdout, stderr } = await server.mixlab('replay', 'calls.jsonl');
  assert.deepEqual([code, stderr], [0, ''], stdout);
  const path = join(server.folder, 'calls.jsonl');
  writeFileSync(path, readFileSync(path, 'utf8').replace('{"next":"n:k29"}', '{"next":"n:k28"}'));
  const differing = await server.mixlab('replay', 'calls.jsonl');
  assert.equal(differing.code, 1);
  assert.match(differing.stdout, /^call \d+ {2}migrate 0 "n:k19" .*\n {2}outcome\.next\n/m);
  assert.match(differing.stdout, /calls, 1 differ$/m);
});

describe('a call that failed', () => {
  test('is a case for mixlab test, which shows the failure', async (t) => {
    const server = await recording(t);
    const { bob } = await vote(t, server);
    const { error } = await ask(bob, 'crash', { why: null });
    assert.equal(error.code, 'plugin_error');
    await recorded(server);
    const { code, stdout, stderr } = await server.mixlab('replay', 'calls.jsonl', '--trace', error.trace_id, '--as-case');
    assert.equal(code, 0, stderr);
    writeFileSync(join(server.folder, 'scripts/votes.test.toml'), stdout);
    const failing = await server.mixlab('test');
    assert.equal(failing.code, 1, `${stdout}${failing.stdout}${failing.stderr}`);
    assert.match(failing.stdout, /refused\n +expected {2}nothing\n +found {5}\{.*"code":"plugin_error"/);
    assert.match(failing.stdout, /3 are too many/);
    writeFileSync(join(server.folder, 'scripts/votes.ts'), VOTES.replace('votes > 1', 'votes > 3'));
    const mended = await server.mixlab('test');
    assert.equal(mended.code, 0, mended.stdout);
    const unknown = await server.mixlab('replay', 'calls.jsonl', '--trace', 'f'.repeat(32), '--as-case');
    assert.equal(unknown.code, 2);
  });

  test('is told by mixlab logs with what it logged, and by plugin list', async (t) => {
    const server = await startServer(t, { config: '[log]\nlevel = "error"', plugins: [PLUGIN] });
    const { bob } = await vote(t, server);
    const { error } = await ask(bob, 'crash', 1);
    await ask(bob, 'crash', 2);
    const logs = (...args) => server.mixlab('logs', '--plugin', 'votes', ...args);
    const all = await logs();
    assert.deepEqual([all.code, all.stderr], [0, '']);
    assert.equal(all.stdout.match(/about to crash/g).length, 2, all.stdout);
    const one = await logs('--trace', error.trace_id);
    assert.match(one.stdout, new RegExp(`^\\S+Z {2}info {4}${error.trace_id} {2}about to crash 1\n\\S+Z {2}failed {2}${error.trace_id} {2}in crash: .*3 are too many`));
    assert.ok(!one.stdout.includes('about to crash 2'));
    const json = await logs('--trace', error.trace_id, '--format', 'json');
    assert.deepEqual(json.stdout.trimEnd().split('\n').map((line) => JSON.parse(line).level), ['info', 'failed']);
    const none = await logs('--trace', 'f'.repeat(32));
    assert.equal(none.code, 1);
    assert.equal((await server.mixlab('logs', '--plugin', 'nobody')).code, 1);

    const { plugins: [plugin] } = JSON.parse((await server.mixlab('plugin', 'list', '--format', 'json')).stdout);
    assert.equal(plugin.calls >= 8, true);
    assert.ok(plugin.p99_ms > 0);
    assert.match(plugin.last_failure.trace_id, /^[0-9a-f]{32}$/);
    const { stdout } = await server.mixlab('plugin', 'list');
    assert.match(stdout, /^votes {2}serving .* \d+ calls {2}2 failures {2}p99 [\d.]+ ms$/m);
    assert.match(stdout, new RegExp(`^ {4}its lines {5}mixlab logs --plugin votes --trace ${plugin.last_failure.trace_id}$`, 'm'));
  });

  test('is followed while it happens', async (t) => {
    const server = await startServer(t, { plugins: [PLUGIN] });
    const socket = await connect(t, server);
    const following = server.start('logs', '--plugin', 'votes', '--follow');
    await ask(socket, 'crash', 'one');
    await until(() => following.stdout().includes('about to crash one'), { message: 'the first line' });
    await ask(socket, 'crash', 'two');
    await until(() => following.stdout().includes('about to crash two'), { message: 'the second line' });
    assert.equal(following.stdout().match(/about to crash one/g).length, 1);
    await following.kill();
  });
});
