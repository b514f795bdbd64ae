// Everything that a script can do, through the doors: what Rust plugins can, and what is there of the web's.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { startUpstream } from '../support/upstream.mjs';
import { until } from '../support/wait.mjs';

const SCRIPT = `
import { done, event, HostError, noAck, pass, plugin, reject, Refusal, Rejection, replace, reply, t } from "mixlab";

const open = { access: "anyone" } as const;
const does = (handler: (cx: any, ...args: any[]) => unknown) => event(open, handler);

export default plugin(
    { version: "1.2.3", namespaces: ["/", "/other"], emits: { checked: [t.integer()], empty: [] } },
    (config: { mark: string }) => ({
        // Messages
        several: does((cx, ...args) => reply(...args, config.mark)),
        silent: does(() => noAck),
        nothing: does(() => {}),
        bytes: event({ ...open, args: [t.object({ file: t.bytes() })] }, (cx, { file }) => {
            cx.emit("bytes", { back: file, first: [file.slice(0, 1)] });
            return { size: file.length, reversed: file.toReversed() };
        }),
        rejected: does(() => reject("full", "Come back later", { retryAfter: "2s", details: { seats: 0 } })),
        rejection: does(async () => { throw new Rejection("gone"); }),
        noArguments: event({ ...open, args: [] }, (cx) => cx.emit("empty")),
        emptyTuple: event({ ...open, args: [t.tuple()], reply: t.tuple() }, (cx, nothing) => nothing),
        checked: does((cx, value) => cx.emit("checked", value)),
        roles: event({ roles: ["admin", "editor"], limit: { user: ["100/1s", "1000/1m burst 50"], event: "5000/s" }, onExcess: "drop", maxBytes: 2000, serialBy: "/0/key", repeatable: true }, () => "in"),
        limited: event({ ...open, limit: { socket: "1/1h" } }, () => "once"),
        who: does((cx) => ({ id: cx.id, user: cx.user, namespace: cx.namespace, address: cx.address, recovered: cx.recovered, event: cx.event, mark: cx.config.mark })),
        // Whom
        rooms: does((cx, ...rooms) => { cx.join(...rooms); return cx.rooms; }),
        leave: does((cx, room) => { cx.leave(room); return cx.rooms; }),
        say: does((cx, how, target, text) => {
            const selections: Record<string, () => any> = {
                room: () => cx.to(target), all: () => cx.broadcast, user: () => cx.toUser(target), role: () => cx.toRole(target),
                socket: () => cx.toSocket(target), except: () => cx.to("a").except(target), mine: () => cx.to(target).includeSender(),
                other: () => cx.of("/other"), volatile: () => cx.to(target).volatile(),
            };
            selections[how]!().emit("said", text);
        }),
        move: does(async (cx, id, room) => {
            cx.toSocket(id).join(room);
            return { count: await cx.to("a").includeSender().count() };
        }),
        unmove: does((cx, id, room) => cx.toSocket(id).leave(room)),
        find: does(async (cx) => (await cx.to("a").includeSender().find()).map(({ id, user, rooms, data }: any) => ({ id, user: user?.id, rooms, data }))),
        data: does((cx, value) => { const former = cx.data; cx.data = value; return [former, cx.data]; }),
        handshake: does((cx) => [cx.handshake.query.get("color"), cx.handshake.headers.get("X-Team")]),
        kick: does((cx, id) => cx.toSocket(id).disconnect()),
        bye: does((cx) => { cx.close(); return "bye"; }),
        ask: does(async (cx, wait) => {
            try {
                return await (wait ? cx.timeout(wait) : cx).ask("question", 1);
            } catch (error) {
                return { isHostError: error instanceof HostError, code: (error as HostError).code };
            }
        }),
        askAll: does(async (cx) => cx.to("a").includeSender().timeout("500ms").ask("question", 2)),
        // What is kept
        store: does(async (cx) => {
            const { store } = cx;
            store.set("a:1", { n: 1 });
            store.set("a:2", "text");
            store.set("a:3", new Uint8Array([1, 255]));
            store.add("n", 2);
            store.add("n");
            store.set("gone", 1, { ttl: "1h" });
            store.delete("gone");
            const updated = await store.update("u", (value = 0) => value + 1);
            const shared = cx.bucket("shared");
            shared.set("x", null);
            return {
                one: await store.get("a:1"), none: await store.get("none"), exists: [await store.exists("a:1"), await store.exists("gone")],
                bytes: [...(await store.getBytes("a:3"))], scan: (await store.scan("a:", { after: "a:1", limit: 1 })), updated, n: await store.get("n"),
                shared: await shared.get("x"),
            };
        }),
        stored: does(async (cx, key) => cx.store.get(key)),
        keep: does((cx, text) => cx.to("a").includeSender().keep("topic").emit("kept", text)),
        history: does(async (cx, position) => cx.history("topic", { position, limit: 2 })),
        enter: does(async (cx, room, data) => { cx.presence(room).enter(data); return [await cx.presence(room).count(), await cx.presence(room).members()]; }),
        exit: does((cx, room) => cx.presence(room).leave()),
        timer: does((cx, name, payload, when) => cx.timers.set(name, payload, when)),
        cancel: does((cx, name) => cx.timers.cancel(name)),
        // Others
        fetch: does(async (cx, url) => {
            const response = await fetch(url, { method: "post", headers: { "X-A": "b" }, body: JSON.stringify({ hello: "you" }), timeout: "3s" });
            return { status: response.status, ok: response.ok, type: response.headers.get("Content-Type"), body: await response.text() };
        }),
        primitives: does(async (cx, user) => {
            cx.broadcastPaymentUpdate({ id: 1 });
            cx.sendUserNotification(user, { title: "Hi" });
            cx.broadcastToRole("admin", "news", [1]);
            return cx.connectedClientsCount();
        }),
        filtered: does((cx, text) => text),
        log: does(() => {
            console.debug("debugged");
            console.log("logged", { a: [1, "x", new Map([["k", 1n]])] }, new Date(0), undefined);
            console.warn("warned");
            console.error(new Error("shown"));
        }),
        later: does((cx) => { globalThis.former ??= cx; return (globalThis as any).former.id; }),
    }),
)
    .onConnect((cx, auth) => {
        if (auth.refuse) throw new Refusal("Not you", { why: auth.refuse });
        if (auth.reject) reject("full", "No room");
        if (auth.fail) auth.fail.nothing.here();
        cx.data = null;
        cx.emit("welcome", auth.name ?? "nobody");
    })
    .onDisconnect((cx, reason) => cx.of("/").toRole("watcher").emit("left", cx.id, reason))
    .onTimer((cx, timer) => {
        if (timer.payload === "again" && timer.attempt < 2) throw new Error("once more");
        cx.store.set(\`fired:\${timer.name}\`, { payload: timer.payload, attempt: timer.attempt, isDate: timer.due instanceof Date });
    })
    .every("beat", "50ms", (cx, { name }) => cx.store.add(name), { missed: "once" })
    .cron("daily", "0 9 * * * Europe/Berlin", () => {})
    .onWebhook(async (cx, request) => {
        if (request.path === "/no") reject("no", "No");
        const { text } = request.json();
        cx.store.set("hook", text);
        cx.toRole("watcher").emit("hooked", text);
        return { status: 201, headers: { "cache-control": "no-store" }, json: { path: request.path, query: request.query.get("q"), type: request.headers.get("content-type"), isBytes: request.body instanceof Uint8Array, method: request.method } };
    });
`;

const FILTER = `
import { done, noAck, pass, plugin, reject, replace, reply } from "mixlab";
export default plugin({}).filter("filter*", (cx, text) => {
    if (text === "pass") return pass;
    if (text === "replace") return replace(\`\${cx.event} was replaced\`);
    if (text === "done") return done;
    if (text === "reply") return reply("from the filter");
    if (text === "reject") reject("filtered", "No");
    if (text === "wrong") return "wrong" as any;
});
`;

const hooks = [];
const shared = { after: (hook) => hooks.push(hook) };
after(async () => {
  for (const hook of hooks.toReversed()) await hook();
});
const upstream = await startUpstream(shared);
const site = `http://localhost:${upstream.port}`;
const GRANTS = [
  'emit', 'room:*', 'everyone', 'user:*', 'role:*', 'socket', 'namespace:/other', 'find', 'handshake', 'header:x-team', 'disconnect', 'ask',
  'store', 'store:shared', 'history:*', 'presence:*', 'timers', `http:${site}`, 'payments', 'notify', 'clients', 'webhook:unverified',
];
const server = await startServer(shared, {
  plugins: [
    { script: 'filters.ts', text: FILTER, grants: ['filter:*'] },
    { script: 'all.ts', text: SCRIPT, grants: GRANTS, config: { mark: '!' }, http: { [site]: { private: true } } },
  ],
});
const ADA = { sub: 'ada', username: 'Ada', roles: ['admin'] };

test('arguments and answers of every kind', async (t) => {
  const client = await connect(t, server);
  assert.equal(await client.emitWithAck('nothing'), undefined);
  assert.deepEqual(await new Promise((resolve) => client.emit('several', 1, { a: [null] }, (...args) => resolve(args))), [1, { a: [null] }, '!']);
  await assert.rejects(client.timeout(300).emitWithAck('silent'));
  const { size, reversed } = await ask(client, 'bytes', { file: Buffer.from([1, 2, 3]) });
  assert.deepEqual([size, [...reversed]], [3, [3, 2, 1]]);
  const [{ back, first }] = await nextEvent(client, 'bytes');
  assert.deepEqual([[...back], [...first[0]]], [[1, 2, 3], [1]]);
  assert.equal((await ask(client, 'bytes', { file: 'none' })).error.code, 'invalid_payload');
  assert.deepEqual((await ask(client, 'rejected')).error, { code: 'full', message: 'Come back later', temporary: true, retry_after_ms: 2000, details: { seats: 0 } });
  assert.equal((await ask(client, 'rejection')).error.code, 'gone');
  assert.equal(await client.emitWithAck('noArguments'), undefined);
  assert.deepEqual(await nextEvent(client, 'empty'), []);
  assert.equal((await ask(client, 'noArguments', 1)).error.code, 'invalid_payload');
  assert.deepEqual(await ask(client, 'emptyTuple', []), []);
  assert.equal((await ask(client, 'emptyTuple', [1])).error.code, 'invalid_payload');
  assert.equal(await ask(client, 'checked', 1), undefined);
  assert.equal((await ask(client, 'checked', 'text')).error.code, 'plugin_error');
});

test('who sends it, who may, and how often', async (t) => {
  const [ada, anybody] = await Promise.all([connect(t, server, { token: token(ADA) }), connect(t, server)]);
  const { id, address, ...who } = await ask(ada, 'who');
  assert.deepEqual(who, { user: { id: 'ada', username: 'Ada', roles: ['admin'] }, namespace: '/', recovered: false, event: 'who', mark: '!' });
  assert.deepEqual([id, address], [ada.id, '127.0.0.1']);
  assert.equal((await ask(anybody, 'who')).user, undefined);
  const other = await connect(t, server, { namespace: '/other' });
  assert.equal((await ask(other, 'who')).namespace, '/other');
  assert.equal(await ask(ada, 'roles', { key: 'a' }), 'in');
  assert.equal((await ask(anybody, 'roles', { key: 'a' })).error.code, 'unauthorized');
  assert.equal((await ask(ada, 'roles', { key: 'a', more: 'x'.repeat(2000) })).error.code, 'payload_too_large');
  assert.equal(await ask(anybody, 'limited'), 'once');
  assert.equal((await ask(anybody, 'limited')).error.code, 'rate_limited');
});

test('rooms, selections, and what is kept with a connection', async (t) => {
  const [ada, bob, eve] = await Promise.all([connect(t, server, { token: token(ADA) }), connect(t, server), connect(t, server)]);
  const other = await connect(t, server, { namespace: '/other' });
  assert.deepEqual((await ask(ada, 'rooms', 'a', 'b')).toSorted(), ['a', 'b']);
  await Promise.all([ask(bob, 'rooms', 'a', 'c'), ask(eve, 'rooms', 'd')]);
  const all = { ada, bob, eve, other };
  for (const [how, target, whom] of [
    ['room', 'a', ['bob']],
    ['mine', 'a', ['ada', 'bob']],
    ['all', '', ['bob', 'eve']],
    ['user', 'ada', []],
    ['role', 'admin', []],
    ['socket', eve.id, ['eve']],
    ['except', 'c', []],
    ['other', '', ['other']],
    ['volatile', 'd', ['eve']],
  ]) {
    await ask(ada, 'say', how, target, `${how} of Ada`);
    await Promise.all(Object.values(all).map((client) => ask(client, 'nothing')));
    const got = Object.keys(all).filter((name) => received(all[name], 'said').some(([text]) => text === `${how} of Ada`));
    assert.deepEqual(got, whom, how);
  }
  await ask(bob, 'say', 'user', 'ada', 'to the user');
  assert.deepEqual(await nextEvent(ada, 'said').then(() => received(ada, 'said').at(-1)), ['to the user']);
  assert.deepEqual(await ask(ada, 'data', { n: 1 }), [null, { n: 1 }]);
  const found = await ask(ada, 'find');
  assert.deepEqual(found.find(({ id }) => id === ada.id).data, { n: 1 });
  assert.deepEqual(found.map(({ user }) => user ?? null).toSorted(), ['ada', null]);
  assert.deepEqual(await ask(bob, 'move', eve.id, 'a'), { count: 2 });
  assert.equal((await ask(ada, 'find')).length, 3);
  await ask(bob, 'unmove', eve.id, 'a');
  assert.equal((await ask(ada, 'find')).length, 2);
  assert.deepEqual(await ask(ada, 'leave', 'a'), ['b']);
  await ask(ada, 'kick', eve.id);
  await until(() => eve.endReason === 'io server disconnect');
  assert.equal(await ask(bob, 'bye'), 'bye');
  await until(() => bob.endReason);
});

test('what a client said when it connected, and whether it is let in', async (t) => {
  const client = await connect(t, server, { auth: { name: 'Ada' }, query: { color: 'red' }, extraHeaders: { 'X-Team': 'blue' } });
  assert.deepEqual(await nextEvent(client, 'welcome'), ['Ada']);
  assert.deepEqual(await ask(client, 'handshake'), ['red', 'blue']);
  await assert.rejects(connect(t, server, { auth: { refuse: 'late' } }), (error) => error.message === 'Not you' && error.data.why === 'late');
  await assert.rejects(connect(t, server, { auth: { reject: true } }), (error) => error.message === 'full' && error.data.message === 'No room');
  await assert.rejects(connect(t, server, { auth: { fail: true } }), { message: 'plugin_error' });
  await server.waitForLog(/TypeError: .*'here'[^]*?at <anonymous> \(all\.ts:\d+:\d+\)/);
  const watcher = await connect(t, server, { token: token({ sub: 'w', roles: ['watcher'] }) });
  const { id } = client;
  client.disconnect();
  // Clients of tests before this one may leave now, too.
  const left = () => received(watcher, 'left').find(([gone]) => gone === id);
  await until(left, { message: () => `${id} among ${JSON.stringify(watcher.collected)}` });
  assert.deepEqual(left(), [id, 'client namespace disconnect']);
});

test('clients that are asked', async (t) => {
  const client = await connect(t, server);
  client.on('question', (number, answer) => answer({ number }));
  assert.deepEqual(await ask(client, 'ask'), { number: 1 });
  client.off('question');
  assert.deepEqual(await ask(client, 'ask', '100ms'), { isHostError: true, code: 'timed-out' });
  const others = await Promise.all([connect(t, server), connect(t, server)]);
  for (const one of [client, ...others]) await ask(one, 'rooms', 'a');
  others[0].on('question', (number, answer) => answer(number));
  const { answers, missing } = await ask(client, 'askAll');
  assert.deepEqual(answers, [{ socket: others[0].id, reply: 2 }]);
  assert.deepEqual(missing.toSorted(), [client.id, others[1].id].toSorted());
});

test('the store, the history and who is present', async (t) => {
  const client = await connect(t, server, { token: token({ sub: 'keeper' }) });
  const expected = { one: { n: 1 }, exists: [true, false], bytes: [1, 255], scan: [{ key: 'a:2', value: 'text' }], updated: 1, n: 3, shared: null };
  assert.deepEqual(await ask(client, 'store'), expected);
  assert.deepEqual(await ask(client, 'store'), { ...expected, updated: 2, n: 6 });
  await ask(client, 'rooms', 'a');
  for (const text of ['one', 'two', 'three']) await ask(client, 'keep', text);
  const { events, position, gap, more } = await ask(client, 'history');
  assert.deepEqual([events.map(({ arguments: [text] }) => text), gap, more], [['two', 'three'], true, false]);
  assert.deepEqual((await ask(client, 'history', position)).events, []);
  assert.deepEqual(await ask(client, 'enter', 'hall', { color: 'red' }), [0, []]);
  assert.deepEqual(await ask(client, 'enter', 'hall', { color: 'red' }), [1, [{ id: 'keeper', anonymous: false, connections: 1, data: { color: 'red' } }]]);
  await ask(client, 'exit', 'hall');
  assert.deepEqual((await ask(client, 'enter', 'hall', 1))[0], 0);
});

test('timers and schedules', async (t) => {
  const client = await connect(t, server);
  await ask(client, 'timer', 'soon', { a: 1 }, { after: '10ms' });
  await ask(client, 'timer', 'at', 2, { at: Date.now() });
  await ask(client, 'timer', 'retried', 'again');
  await ask(client, 'timer', 'never', 3, { after: '1h', every: '1d', serial: 'key' });
  await ask(client, 'cancel', 'never');
  for (const [name, payload, attempt] of [['soon', { a: 1 }, 1], ['at', 2, 1], ['retried', 'again', 2]]) {
    await until(() => ask(client, 'stored', `fired:${name}`));
    assert.deepEqual(await ask(client, 'stored', `fired:${name}`), { payload, attempt, isDate: true }, name);
  }
  await until(async () => (await ask(client, 'stored', 'beat')) > 1);
});

test('other servers, webhooks, filters and the broadcasts of backends', async (t) => {
  const watcher = await connect(t, server, { token: token({ sub: 'w', roles: ['watcher', 'admin'] }) });
  const { status, ok, type, body } = await ask(watcher, 'fetch', `${site}/echo?a=b`);
  const { method, headers, body: sent } = JSON.parse(body);
  assert.deepEqual([status, ok, type, method, sent], [200, true, 'application/json', 'POST', '{"hello":"you"}']);
  assert.ok(headers.join().toLowerCase().includes('x-a,b'));

  const hook = await fetch(`${server.url}/hooks/all/paid?q=1`, { method: 'POST', headers: { 'content-type': 'text/x-json' }, body: '{"text":"paid"}' });
  assert.deepEqual([hook.status, hook.headers.get('cache-control')], [201, 'no-store']);
  assert.deepEqual(await hook.json(), { path: '/paid', query: '1', type: 'text/x-json', isBytes: true, method: 'POST' });
  assert.deepEqual(await nextEvent(watcher, 'hooked'), ['paid']);
  assert.equal(await ask(watcher, 'stored', 'hook'), 'paid');
  assert.ok((await fetch(`${server.url}/hooks/all/no`, { method: 'POST', body: '{}' })).status >= 400);

  assert.equal(await ask(watcher, 'filtered', 'pass'), 'pass');
  assert.equal(await ask(watcher, 'filtered', 'other'), 'other');
  assert.equal(await ask(watcher, 'filtered', 'replace'), 'filtered was replaced');
  assert.equal(await watcher.emitWithAck('filtered', 'done'), undefined);
  assert.equal(await ask(watcher, 'filtered', 'reply'), 'from the filter');
  assert.equal((await ask(watcher, 'filtered', 'reject')).error.code, 'filtered');
  assert.equal((await ask(watcher, 'filtered', 'wrong')).error.code, 'plugin_error');
  await server.waitForLog(/a filter answered "wrong"/);

  // Clients of tests before this one may be leaving still.
  await until(async () => (await server.api('GET', '/api/v1/clients/count')).body.count === 1);
  assert.equal(await ask(watcher, 'primitives', 'w'), 1);
  assert.equal((await nextEvent(watcher, 'notification'))[0].title, 'Hi');
  assert.deepEqual(await nextEvent(watcher, 'news'), [[1]]);
});

test('the console writes into the log, and a context is of its call only', async (t) => {
  const client = await connect(t, server);
  await ask(client, 'log');
  await server.waitForLog(/INFO plugin: logged \{a: \[1, "x", Map \{"k" => 1n\}\]\} 1970-01-01T00:00:00\.000Z undefined plugin="all"/);
  await server.waitForLog(/WARN plugin: warned/);
  await server.waitForLog(/ERROR plugin: Error: shown/);
  const answers = [];
  for (let i = 0; i < 20; i++) answers.push(await ask(client, 'later'));
  assert.ok(answers.some((answer) => answer.error?.code === 'plugin_error'));
  await server.waitForLog(/this cx is of a call that has ended/);
});
