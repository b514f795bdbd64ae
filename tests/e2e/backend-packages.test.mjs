// The packages for backends, in Node and Python: against a real server, and against one that fails as servers do.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import typescript from 'typescript';
import { MixLab, MixLabError } from '../../host/backend/node/index.js';
import { ask, connect, disconnected, nextEvent, received } from '../support/client.mjs';
import { blocks } from '../support/documents.mjs';
import { PYTHON } from '../support/python.mjs';
import { API_KEY, ROOT, startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until, within } from '../support/wait.mjs';

const PLUGIN = {
  wasm: 'capabilities',
  grants: ['room:*', 'emit', 'namespace:/staff', 'find', 'socket', 'everyone', 'ask', 'payments', 'notify', 'role:*', 'clients', 'handshake', 'disconnect'],
  config: { namespaces: ['/', '/staff'] },
};
const server = await startServer({ after }, { plugins: [PLUGIN] });

/** The package for Python, as lines of JSON: `[path of calls, options]`; see tests/python/backend.py. */
function python(url) {
  const child = spawn(PYTHON, [join(ROOT, 'tests/python/backend.py'), url, API_KEY], { stdio: ['pipe', 'pipe', 'inherit'] });
  return async (calls, options = {}) => {
    child.stdin.end(JSON.stringify({ calls, options }));
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part) => (text += part));
    await within(once(child, 'close'), 'the end of python');
    const { result, error } = JSON.parse(text);
    if (error) throw Object.assign(new Error(error.message), error);
    return result;
  };
}

/** The same in Node. */
const node = (url) => async (calls, options = {}) => {
  let at = new MixLab({ url, key: API_KEY, ...options });
  for (const [name, ...args] of calls) {
    if (name === 'emitAll') args[0] = args[0].map(([room, event]) => at.to(room).event(event));
    at = args.length === 0 && name === 'volatile' ? at.volatile : at[name](...args);
    if (at?.[Symbol.asyncIterator]) at = await collected(at);
  }
  return at;
};

async function collected(iterator) {
  const all = [];
  for await (const one of iterator) all.push(one);
  return all;
}

const PACKAGES = { Node: node, Python: python };
const ids = (rows) => rows.map(({ id }) => id).sort();

for (const [name, start] of Object.entries(PACKAGES)) {
  /** What comes of calls, one after the other, each of what the last one returned. */
  const does = (...calls) => start(server.url)(calls);

  test(`emits reach whom they are for: ${name}`, async (t) => {
    const ada = await connect(t, server, { token: token({ sub: `ada-${name}`, role: 'admin' }) });
    const bob = await connect(t, server, { token: token({ sub: `bob-${name}`, role: 'guest' }) });
    const staff = await connect(t, server, { namespace: '/staff' });
    await ask(bob, 'capabilities', [{ call: 'join', room: 'hall' }]);
    assert.equal(await does(['to', 'hall'], ['emit', 'told', { n: 1 }, 'ü', null]), 1);
    assert.deepEqual(await nextEvent(bob, 'told'), [{ n: 1 }, 'ü', null]);
    assert.equal(await does(['toUser', `ada-${name}`], ['toRole', 'guest'], ['emit', 'both']), 2);
    assert.equal(await does(['toSocket', ada.id], ['emit', 'one']), 1);
    assert.equal(await does(['except', 'hall'], ['volatile'], ['emit', 'all']), 1);
    assert.equal(await does(['of', '/staff'], ['emit', 'elsewhere']), 1);
    for (const [socket, event] of [[ada, 'both'], [bob, 'both'], [ada, 'one'], [ada, 'all'], [staff, 'elsewhere']]) await nextEvent(socket, event);
    assert.deepEqual([received(bob, 'one'), received(bob, 'all'), received(ada, 'told')], [[], [], []]);
    assert.deepEqual(await does(['emitAll', [['hall', 'first'], ['none', 'second']]]), [1, 0]);
    assert.equal(await does(['broadcastToRole', 'guest', 'booked', { id: 7 }]), 1);
    assert.equal(await does(['sendUserNotification', `ada-${name}`, { title: 'x' }]), 1);
    assert.equal(await does(['broadcastPaymentUpdate', { id: 1 }]), 0);
    assert.equal(await does(['clientsCount']), 3);
  });

  test(`sockets, users and rooms are seen and moved: ${name}`, async (t) => {
    const sub = `eve-${name}`;
    const sockets = await Promise.all([1, 2, 3].map(() => connect(t, server, { token: token({ sub, name: 'Eve', role: 'admin' }) })));
    assert.equal(await does(['toUser', sub], ['socketsJoin', `${name}-a`]), 3);
    assert.deepEqual(ids(await does(['to', `${name}-a`], ['fetchSockets'])), ids(sockets));
    assert.deepEqual(ids(await does(['to', `${name}-a`], ['sockets', { limit: 1 }])), ids(sockets), 'page by page');
    assert.deepEqual((await does(['rooms', { prefix: `${name}-` }])).map(({ name: room, kind, sockets: size }) => [room, kind, size]), [[`${name}-a`, 'room', 3]]);
    assert.deepEqual((await does(['toUser', sub], ['users'])).map(({ id, username, roles, sockets: size }) => [id, username, roles, size]), [[sub, 'Eve', ['admin'], 3]]);
    assert.equal((await does(['user', sub])).sockets, 3);
    const its = await does(['socket', sockets[0].id]);
    assert.deepEqual([its.id, its.user.id, its.rooms, its.data], [sockets[0].id, sub, [`${name}-a`], {}]);
    assert.deepEqual([await does(['socket', 'nobody']), await does(['user', 'nobody'])], [null, null]);
    assert.equal(await does(['toSocket', sockets[0].id], ['socketsLeave', `${name}-a`]), 1);
    assert.equal(await does(['to', `${name}-a`], ['disconnectSockets', true]), 2);
    for (const socket of sockets.slice(1)) await disconnected(socket);
    assert.equal(await does(['disconnectUser', sub]), 1);
    await disconnected(sockets[0]);
  });

  test(`a refusal has the server's code and details: ${name}`, async () => {
    await assert.rejects(does(['emit', 'disconnect']), (error) => {
      assert.deepEqual([error.code, error.status, error.temporary, error.refused], ['invalid_payload', 400, false, true]);
      return /reserved/.test(error.message);
    });
    await assert.rejects(start('http://127.0.0.1:1')([['clientsCount']], { retries: 0 }), (error) => error.code === 'unreachable' && error.temporary);
  });

  test(`what fails for now is sent again, with one key, when it is time: ${name}`, async (t) => {
    const busy = { error: { code: 'rate_limited', message: 'too many', temporary: true, retry_after_ms: 300 } };
    const lost = (_, response) => response.destroy();
    const json = (status, body, headers) => (_, response) => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    const ok = json(200, { delivered: 1, count: 1 });
    const proxy = (_, response) => response.writeHead(503, { 'retry-after': '1' }).end('<h1>busy</h1>');
    const drip = (_, response) => {
      const dripping = setInterval(() => response.write(' '), 100);
      response.on('close', () => clearInterval(dripping));
    };
    const half = (_, response) => response.writeHead(200, { 'content-length': 20 }).write('{"delivered":', () => response.destroy());
    const dripHead = (_, { socket }) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      const dripping = setInterval(() => socket.write('x: y\r\n'), 100);
      socket.on('close', () => clearInterval(dripping));
    };
    const failDripping = (request, response) => drip(request, response.writeHead(503));
    const emit = [['emit', 'x']];
    const notify = [['sendUserNotification', '1', {}]];
    for (const [what, calls, answers, seen, least] of [
      ['an answer that was lost', emit, [lost, ok], 2, 50],
      ['too often', emit, [json(429, busy), ok], 2, 300],
      ['Retry-After alone', [['clientsCount']], [proxy, ok], 2, 1000],
      ['a refusal of a notification', notify, [json(429, busy), ok], 2, 300],
      ['no answer to a notification', notify, [lost, ok], 2, 50],
      ['half an answer', emit, [half, ok], 2, 50],
      ['a head that drips', emit, [dripHead, ok], 2, 1000],
      ['another address', emit, [(_, response) => response.writeHead(302, { location: '/' }).end(), ok], 'http_302', 0],
      ['a refusal for good', emit, [json(403, { error: { code: 'permission_denied', message: 'no', temporary: false } }), ok], 'permission_denied', 0],
      ['as often as it is told', emit, [lost, lost, lost, lost, ok], 'unreachable', 0],
      ['a wait that is too long', emit, [json(429, { error: { ...busy.error, retry_after_ms: 60_000 } }), ok], 'rate_limited', 0],
      ['no answer in time', emit, [() => {}, ok], 2, 200],
      ['an answer that is none', emit, [(_, response) => response.end('hello'), ok], 'http_200', 0],
      ['an answer that is nothing', emit, [json(200, null), ok], 'http_200', 0],
      ["a proxy's answer in JSON", emit, [json(503, { error: 'Service Unavailable' }), ok], 2, 50],
      ['a wait that is no number', emit, [json(503, { error: { ...busy.error, retry_after_ms: 'soon' } }), ok], 2, 50],
      ['an answer that drips', emit, [drip, ok], 2, 1000],
      ['an error that drips', emit, [failDripping, ok], 2, 1000],
    ]) {
      const requests = [];
      const web = createServer((request, response) => {
        requests.push(request.headers);
        request.resume().on('end', () => answers[Math.min(requests.length, answers.length) - 1](request, response));
      });
      web.listen(0, '127.0.0.1');
      await once(web, 'listening');
      t.after(() => web.close() && web.closeAllConnections());
      const began = performance.now();
      const done = start(`http://127.0.0.1:${web.address().port}`)(calls, { timeout: name === 'Node' ? 1500 : 1.5 });
      if (typeof seen === 'string') {
        await assert.rejects(done, (error) => error.code === seen, what);
        assert.equal(requests.length, what.startsWith('as often') ? 4 : 1, what);
      } else {
        assert.equal(await done, 1, what);
        assert.equal(requests.length, seen, what);
        assert.ok(performance.now() - began >= least, what);
      }
      const keys = new Set(requests.map((headers) => headers['idempotency-key']));
      assert.equal(keys.size, 1, `${what}: one key for all`);
      assert.equal([...keys][0] !== undefined, calls === emit || calls === notify, what);
      assert.ok(requests.every(({ authorization }) => authorization === `Bearer ${API_KEY}`));
    }
  });

  test(`a key from a file is good, and one that is none is never shown: ${name}`, async () => {
    const count = (key) => start(server.url)([['clientsCount']], { key });
    assert.equal(typeof (await count(`${API_KEY}\n`)), 'number');
    for (const key of [' ', 'SECRET\nKEY', 'SECRETKEY\u2013', 'SECRET KEY']) {
      await assert.rejects(count(key), ({ message }) => /API key/.test(message) && !message.includes('SECRET'));
    }
  });

  test(`options that make no sense are refused, and none is shown that may hold a secret: ${name}`, async () => {
    for (const options of [{ timeout: -1 }, { timeout: '5' }, { retries: -1 }, { retries: null }, { [name === 'Node' ? 'maxWait' : 'max_wait']: 'x' }]) {
      const [option] = Object.keys(options);
      await assert.rejects(start(server.url)([['clientsCount']], options), new RegExp(`${option}: expected a number from`));
    }
    for (const url of ['localhost:3000', 'ftp://127.0.0.1', 'http://', 'http://a:99999', 'http://user:pa55@127.0.0.1', 'http://127.0.0.1/?pa55', 'http://127.0.0.1/#pa55']) {
      await assert.rejects(start(url)([['clientsCount']]), ({ message }) => /the URL /.test(message) && !message.includes('pa55'), url);
    }
  });

  test(`what has no name reaches nobody: ${name}`, async () => {
    for (const calls of [[['toUser', null], ['emit', 'x']], [['disconnectUser', null]], [['sendUserNotification', null, {}]]]) {
      await assert.rejects(start(server.url)(calls), /is no name/, calls[0][0]);
    }
    for (const key of ['', 'a\nb', 'é', 'x'.repeat(256)]) {
      await assert.rejects(start(server.url)([['idempotencyKey', key], ['emit', 'x']]), /1 to 255 visible characters/);
    }
  });

  test(`no name leads to another path: ${name}`, async () => {
    for (const calls of [['disconnectUser', '..'], ['user', '.'], ['socket', '..'], ['broadcastToRole', 'a', '..', 1], ['sendUserNotification', '..', {}]]) {
      await assert.rejects(start(server.url)([calls]), /no request can name/, calls[0]);
    }
  });

  test(`the key goes nowhere else: ${name}`, async (t) => {
    const seen = [];
    const other = createServer((request, response) => seen.push(request) && response.end('{}'));
    const web = createServer((_, response) => response.writeHead(307, { location: `http://127.0.0.1:${other.address().port}/` }).end());
    for (const it of [other, web]) {
      it.listen(0, '127.0.0.1');
      await once(it, 'listening');
      t.after(() => it.close());
    }
    await assert.rejects(start(`http://127.0.0.1:${web.address().port}`)([['emit', 'x']], { retries: 0 }));
    assert.deepEqual(seen, []);
  });

  test(`a proxy of the environment is not theirs: ${name}`, async (t) => {
    const { seen, url } = await startProxy(t);
    for (const variable of ['http_proxy', 'HTTP_PROXY', 'all_proxy']) {
      const former = process.env[variable];
      process.env[variable] = url;
      t.after(() => (former === undefined ? delete process.env[variable] : (process.env[variable] = former)));
    }
    assert.equal(typeof (await does(['clientsCount'])), 'number');
    assert.deepEqual(seen, []);
  });
}

/** A proxy that answers itself, and the URLs that it was asked for. */
async function startProxy(t) {
  const seen = [];
  const proxy = createServer((request, response) => {
    seen.push(request.url);
    response.end('{"count":7}');
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.after(() => proxy.close());
  return { seen, url: `http://127.0.0.1:${proxy.address().port}` };
}

test('requests go through the proxy that is named', async (t) => {
  const { seen, url: proxy } = await startProxy(t);
  const nowhere = 'http://mixlab.example:3000';
  assert.equal(await python(nowhere)([['clientsCount']], { proxy }), 7);
  assert.deepEqual(seen, [`${nowhere}/api/v1/clients/count`]);
  const through = (url, options) => fetch(`${proxy}/?${url}`, options);
  assert.equal(await node(nowhere)([['clientsCount']], { fetch: through }), 7);
  assert.deepEqual(seen.slice(1), [`/?${nowhere}/api/v1/clients/count`]);
});

test('bytes among arguments arrive as bytes', async (t) => {
  const socket = await connect(t, server);
  const io = new MixLab({ url: server.url, key: API_KEY });
  await io.toSocket(socket.id).emit('bytes', Buffer.from([0, 255]), { deep: [new Uint8Array([1]).buffer] });
  assert.deepEqual(await nextEvent(socket, 'bytes'), [Buffer.from([0, 255]), { deep: [Buffer.from([1])] }]);
  await python(server.url)([['toSocket', socket.id], ['emit', 'bytes', { $bytes: 'AP8=' }, { deep: [{ $bytes: 'AQ==' }] }]]);
  assert.deepEqual(await nextEvent(socket, 'bytes'), [Buffer.from([0, 255]), { deep: [Buffer.from([1])] }]);
});

test('a selection that was made of another leaves that one as it is, and an empty list is nobody', async (t) => {
  const socket = await connect(t, server);
  const io = new MixLab({ url: server.url, key: API_KEY });
  const room = io.to('nobody-is-here');
  assert.equal(await room.toSocket(socket.id).emit('x'), 1);
  assert.equal(await room.emit('x'), 0);
  await assert.rejects(io.to([]).emit('x'), (error) => error instanceof MixLabError && error.code === 'invalid_payload');
  assert.deepEqual(await io.to([]).fetchSockets(), []);
  await until(async () => (await io.fetchSockets()).length === 1);
  assert.throws(() => new MixLab({ key: '' }), /no API key/);
});

/** A folder in which the package for Node is installed. */
function installed(t) {
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-backend-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'node_modules/@mixlab'), { recursive: true });
  symlinkSync(join(ROOT, 'host/backend/node'), join(folder, 'node_modules/@mixlab/backend'));
  return folder;
}

const DOCUMENTS = ['host/backend/node/README.md', 'host/backend/python/README.md', 'host/docs/running/backends.md'];
for (const { language, text, where } of DOCUMENTS.flatMap(blocks).filter(({ text }) => /[@_]?mixlab[/_]backend/.test(text))) {
  test(`what the documents say works: ${where}`, async (t) => {
    const file = join(installed(t), language === 'js' ? 'said.mjs' : 'said.py');
    const key = language === 'js' ? '' : `key = ${JSON.stringify(API_KEY)}\n`;
    writeFileSync(file, key + text.replace('http://127.0.0.1:3000', server.url));
    const env = { ...process.env, MIXLAB_API_KEY: API_KEY, PYTHONPATH: join(ROOT, 'host/backend/python'), PYTHONDONTWRITEBYTECODE: '1' };
    const child = spawn(language === 'js' ? process.execPath : PYTHON, [file], { env, stdio: ['ignore', 'inherit', 'inherit'] });
    const [code] = await within(once(child, 'exit'), 'its end');
    assert.equal(code, 0);
  });
}

test("TypeScript knows the package's types", (t) => {
  const folder = installed(t);
  const program = (text) => {
    const file = join(folder, 'backend.mts');
    writeFileSync(file, `import { MixLab, MixLabError, type Socket } from '@mixlab/backend';\nconst io = new MixLab();\n${text}`);
    const options = { strict: true, noEmit: true, module: typescript.ModuleKind.NodeNext, target: typescript.ScriptTarget.ES2022, lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'], types: [] };
    const all = typescript.getPreEmitDiagnostics(typescript.createProgram([file], options));
    return all.map(({ messageText }) => typescript.flattenDiagnosticMessageText(messageText, '\n'));
  };
  assert.deepEqual(program(`
    const count: number | null = await io.to('a').in(['b']).toUser(4).toRole('r').except('c').of('/x').volatile.keep('t').emit('e', 1, {});
    const all: Socket[] = await io.fetchSockets();
    for await (const { name, kind } of io.rooms({ kind: ['room', 'user'] })) console.log(name, kind === 'role');
    const [one]: (number | null)[] = await io.emitAll([io.to('a').event('x')]);
    const roles: string[] | undefined = (await io.user(1))?.roles;
    await io.revoke({ user: 1, for: '24h' });
    try { await io.clientsCount(); } catch (error) { if (error instanceof MixLabError) console.log(error.code, error.retryAfterMs); }
  `), []);
  for (const wrong of ['io.to(1)', 'new MixLab({ kee: "" })', 'io.rooms({ kind: "other" })', 'io.revoke({})', 'await io.emit()', 'io.emitAll(["x"])']) {
    assert.equal(program(wrong).length, 1, wrong);
  }
});
