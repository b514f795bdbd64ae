// `mixlab/test`: handlers of scripts by themselves, in Node, with the module `mixlab` that runs them in the server.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { blocks } from '../support/documents.mjs';
import { PYTHON } from '../support/python.mjs';
import { makeFolder, PROGRAM, ROOT } from '../support/server.mjs';

const home = {};
let host, HostError, mixlab;

before(async (t) => {
  Object.assign(home, makeFolder(t));
  rmSync(home.configPath);
  execFileSync(PROGRAM, ['new', 'first', '--lang', 'ts'], { cwd: home.folder });
  const module = (name) => import(pathToFileURL(join(home.folder, 'plugins/.mixlab', name)));
  ({ host, HostError } = await module('host.js'));
  mixlab = await module('mixlab.js');
});

const install = () => execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund'], { cwd: join(home.folder, 'plugins'), stdio: 'ignore' });

/** The plugin that the tests below have. */
function votes() {
  const { event, noAck, pass, plugin, reject, replace, reply, t } = mixlab;
  const choice = t.object({ for: t.string({ max: 40 }) });
  return plugin((config) => ({
    vote: event({ args: [choice] }, async (cx, choice) => {
      cx.join('voters');
      cx.timers.set('count', { by: cx.user?.id }, { after: '10m' });
      const votes = await cx.store.update(choice.for, (votes = 0) => votes + config.weight);
      cx.to('voters').except('bots').volatile().keep('votes').emit('voted', { votes });
      cx.emit('thanks', new Uint8Array([1, 2]));
      cx.data = { votes };
      console.log('voted', { votes });
      if (choice.for === 'nobody') reject('no_choice', 'Somebody has to win');
      return votes;
    }),
    quiet: event(() => noAck),
    nothing: event(() => {}),
    several: event((cx, ...all) => reply(...all)),
    time: event(() => [Date.now(), new Date().toISOString(), new Date(5).getTime(), new Date() instanceof Date]),
    later: event(() => setTimeout(() => {}, 5)),
    price: event(async (cx, of) => {
      const response = await fetch(`https://prices.example/${of}`, { method: 'post', body: '?' });
      return (await response.json()).price;
    }),
    ask: event((cx) => cx.ask('sure?', 1)),
    all: event(async (cx) => (await cx.to('voters').ask('sure?')).missing),
    who: event(async (cx) => [await cx.broadcast.find(), await cx.connectedClientsCount(), cx.handshake.headers.get('x')]),
    enter: event(async (cx) => {
      cx.presence('hall').enter({ seat: 1 });
      return cx.presence('hall').members();
    }),
    past: event((cx, options) => cx.history('votes', options)),
    kept: event(async (cx) => {
      cx.store.set('short', 1, { ttl: '1m' });
      cx.bucket('shared').add('sum', 2);
      return (await cx.store.scan('')).map(({ key }) => key);
    }),
    push: event((cx) => {
      cx.broadcastToRole('admin', 'hey', 1);
      cx.toUser(7).join('room');
      cx.toSocket('x').close();
      cx.disconnect();
    }),
  }))
    .onConnect((cx, auth) => {
      if (auth.team === undefined) throw new mixlab.Refusal('which team?');
      cx.join(auth.team);
    })
    .onTimer((cx, timer) => cx.to('voters').emit('counted', timer.payload, timer.due.getTime()))
    .every('hourly', '1h', (cx) => cx.store.set('hours', 1))
    .filter('chat:*', (cx, text) => (text === 'rude' ? reject('rude') : text === 'darn' ? replace('…') : pass))
    .onWebhook(async (cx, request) => {
      const { status } = request.json();
      cx.store.set('status', status);
      return { status, json: { at: request.path } };
    });
}

const AT = Date.parse('2026-01-01T00:00:00Z');
const started = (options = {}) => host(votes(), { config: { weight: 2 }, at: AT, ...options });

test('what a handler answered and did is there, in the words of cases', async () => {
  const fake = started();
  fake.logIn(42, ['member'], 'Ada');
  assert.deepEqual(await fake.send('vote', { for: 'cats' }), [2]);
  assert.deepEqual([fake.rooms, fake.data, fake.stored('cats')], [['voters'], { votes: 2 }, 2]);
  assert.deepEqual(fake.timers, { count: { after: 600_000, payload: { by: '42' } } });
  const target = { rooms: ['voters'], except: ['bots'] };
  assert.deepEqual(fake.takeEmitted(), [
    { target, event: 'voted', arguments: [{ votes: 2 }], volatile: true, keep: 'votes' },
    { target: 'sender', event: 'thanks', arguments: [new Uint8Array([1, 2])] },
  ]);
  assert.deepEqual([fake.takeEmitted(), fake.takeLog()], [[], [{ level: 'info', text: 'voted {votes: 2}' }]]);
  assert.deepEqual(await fake.send('nothing'), []);
  assert.equal(await fake.send('quiet'), undefined);
  assert.deepEqual(await fake.send('several', 1, new Uint8Array([7])), [1, new Uint8Array([7])]);
  await fake.send('push');
  assert.deepEqual(fake.takeBroadcasts(), [{ role: 'admin', event: 'hey', data: 1 }]);
  assert.deepEqual(fake.takeMoved(), [{ selection: { users: ['7'] }, room: 'room', joins: true }]);
  assert.deepEqual(fake.takeDisconnected(), [{ target: { sockets: ['x'] }, close: true }, { target: 'sender', close: false }]);
  await assert.rejects(fake.send('unknown'), /the plugin has no event "unknown"/);
});

test('a handler that rejects has done nothing, and neither has a webhook that is refused', async () => {
  const fake = started();
  await assert.rejects(fake.send('vote', { for: 'nobody' }), { code: 'no_choice', message: 'Somebody has to win' });
  assert.deepEqual([fake.rooms, fake.data, fake.timers, fake.takeEmitted(), fake.stored('nobody')], [[], null, {}, [], undefined]);
  assert.equal(fake.takeLog().length, 1);
  assert.deepEqual(await fake.post({ status: 400 }), { status: 400, headers: { 'content-type': 'application/json' }, body: '{"at":"/"}' });
  assert.equal(fake.stored('status'), undefined);
  assert.equal((await fake.webhook({ path: '/a', body: '{"status":201}' })).body, '{"at":"/a"}');
  assert.equal(fake.stored('status'), 201);
  await assert.rejects(fake.connect({}), { name: 'Refusal', message: 'which team?' });
  await fake.connect({ team: 'red' });
  assert.deepEqual(fake.rooms, ['red']);
});

test('the clock is the test’s: what is due is called, what is over is gone', async () => {
  const fake = started();
  await fake.send('vote', { for: 'cats' });
  await fake.send('kept');
  assert.deepEqual(await fake.send('kept'), [['cats', 'short']]);
  assert.equal(fake.stored('sum', 'shared'), 4);
  fake.takeEmitted();
  await fake.advance('9m');
  assert.deepEqual([fake.takeEmitted(), fake.stored('short'), fake.timers.count.after], [[], undefined, 60_000]);
  await fake.advance('2m');
  assert.deepEqual(fake.takeEmitted(), [{ target: { rooms: ['voters'] }, event: 'counted', arguments: [{}, AT + 600_000] }]);
  assert.deepEqual(fake.timers, {});
  const now = AT + 660_000;
  assert.deepEqual(await fake.send('time'), [[now, new Date(now).toISOString(), 5, true]]);
  assert.ok(Date.now() > now, 'outside of a call it is the machine’s');
  await assert.rejects(fake.send('later'), /setTimeout is not there: .*cx\.timers\.set/);
  await fake.fire('hourly');
  assert.equal(fake.stored('hours'), 1);
});

test('what handlers read is what the test puts there', async () => {
  const fake = started();
  await assert.rejects(fake.send('price', 'tea'), { code: 'plugin_unavailable' });
  fake.answerHttp({ json: { price: 5 } });
  assert.deepEqual(await fake.send('price', 'tea'), [5]);
  assert.deepEqual(fake.takeRequests()[1], { method: 'POST', url: 'https://prices.example/tea', headers: {}, body: '?' });
  fake.answerHttp(new HostError('denied', 'grant http:…'));
  await assert.rejects(fake.send('price', 'tea'), { name: 'HostError', code: 'denied' });
  await assert.rejects(fake.send('ask'), { code: 'no_answer' });
  fake.answerAsk('yes');
  assert.deepEqual(await fake.send('ask'), ['yes']);
  assert.deepEqual(fake.takeAsked()[1], { event: 'sure?', arguments: [1] });
  fake.put('cats', 40);
  assert.deepEqual(await fake.send('vote', { for: 'cats' }), [42]);
  fake.setSockets([{ id: 'a', rooms: ['voters'], data: 5 }, { id: 'b' }]);
  fake.setClients(3);
  fake.setHandshake({ headers: { X: 'y' } });
  const [[sockets, clients, header]] = await fake.send('who');
  assert.deepEqual([sockets.map(({ id, data }) => [id, data]), clients, header], [[['a', 5], ['b', null]], 3, 'y']);
  fake.answerAsk(1);
  assert.deepEqual(await fake.send('all'), [['b']]);
  assert.deepEqual(await fake.send('enter'), [[]]);
  assert.deepEqual((await fake.send('enter'))[0].map(({ id, data }) => [id, data]), [['socket-1', { seat: 1 }]]);
  fake.setHistory('votes', [1, 2, 3].map((vote) => ({ event: 'voted', arguments: [vote] })));
  const [{ events, position, more }] = await fake.send('past', { position: '1', limit: 1 });
  assert.deepEqual([events[0].arguments, position, more], [[2], '2', true]);
  assert.equal(await fake.filter('chat:say', 'hi'), mixlab.pass);
  assert.deepEqual(await fake.filter('chat:say', 'darn'), mixlab.replace('…'));
  await assert.rejects(fake.filter('chat:say', 'rude'), { code: 'rude' });
});

test('a plugin that would be refused is refused, and hosts do not know of each other', async () => {
  assert.throws(() => host({}), /the default export is \{\}: write export default plugin/);
  assert.throws(() => host(mixlab.plugin(() => ({ a: () => 1 }))), /"a": .* is no event/);
  const [one, other] = [started(), started({ config: { weight: 5 } })];
  const acks = await Promise.all([one, other, one].map((fake) => fake.send('vote', { for: 'cats' })));
  assert.deepEqual(acks, [[2], [5], [4]]);
});

test('the test in the documents passes, with the plugin there', () => {
  const folder = join(home.folder, 'plugins');
  for (const [name, language] of [['votes.ts', 'ts'], ['votes.test.mjs', 'js']]) {
    const block = blocks('host/docs/plugins/testing.md').find((block) => block.language === language && block.before.includes(name));
    writeFileSync(join(folder, name), block.text);
  }
  install();
  // Not a part of this test.
  const { NODE_TEST_CONTEXT, ...env } = process.env;
  const node = ['--import', join(ROOT, 'tests/support/typescript.mjs'), '--test', '--test-reporter=tap', 'votes.test.mjs'];
  const tested = spawnSync(process.execPath, node, { cwd: folder, env, encoding: 'utf8' });
  assert.match(tested.stdout, /^# pass 1$/m, tested.stdout + tested.stderr);
});

test('pytest shows what a handler in Python did otherwise, and what a test has wrong', (t) => {
  const [plugin, greets] = blocks('host/docs/plugins/python.md').filter(({ language, text }) => language === 'python' && /greeter|"greet"/.test(text));
  const wrong = `
from mixlab import Selection


def test_tells_everyone():
    fake = Fake(plugin)
    fake.send("greet", "Ada")
    assert fake.emitted == [(Selection(rooms=("hall",)), "greeted", ["Bob"])]


def test_leaves():
    Fake(plugin).send("leave")
`;
  const { folder } = makeFolder(t, { files: { 'greeter.py': plugin.text, 'test_greeter.py': greets.text + wrong } });
  const env = { ...process.env, PYTHONPATH: join(ROOT, 'plugins/python') };
  const tested = spawnSync(PYTHON, ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_greeter.py'], { cwd: folder, env, encoding: 'utf8' });
  assert.match(tested.stdout, /^2 failed, 1 passed/m, tested.stdout + tested.stderr);
  assert.match(tested.stdout, /At index 0 diff: \(Selection\(\), 'greeted', \['Ada'\]\) != \(Selection\(rooms=\('hall',\)\), 'greeted', \['Bob'\]\)/);
  assert.match(tested.stdout, /the plugin has no event 'leave'; it has: greet$/m);
});

test('host.d.ts and the documents have what a host has', () => {
  const types = readFileSync(join(ROOT, 'host/scripts/node/host.d.ts'), 'utf8');
  const [, body] = types.match(/^export interface Host \{\n([^]*?)^\}/m);
  const declared = [...body.matchAll(/^ {4}(?:readonly )?(\w+)[(<:]/gm)].map(([, name]) => name);
  const names = Object.getOwnPropertyNames(Object.getPrototypeOf(started())).filter((name) => name !== 'constructor');
  assert.deepEqual(names.toSorted(), declared.toSorted());
  const documented = readFileSync(join(ROOT, 'host/docs/plugins/testing.md'), 'utf8');
  const missing = names.filter((name) => !new RegExp(`\\b${name}\\b`).test(documented));
  assert.deepEqual(missing, []);
});

test('TypeScript knows what tests say, and what they say wrong', () => {
  const folder = join(home.folder, 'plugins');
  install();
  writeFileSync(
    join(folder, 'typed.ts'),
    `import { event, plugin } from "mixlab";
import { host, type Emitted } from "mixlab/test";
const fake = host(plugin((config: { page: number }) => ({ a: event(() => 1) })), { config: { page: 1 }, at: "2026-01-01" });
const ack: any[] | undefined = await fake.send("a", 1);
const [{ event: name, arguments: [first] }]: Emitted[] = fake.takeEmitted();
await fake.advance("5s");
host(plugin((config: { page: number }) => ({})), { config: { page: "1" } });
fake.takeEmited();
await fake.advance("5 seconds");
fake.timers.count.payload.any;
fake.timers.count.due;
`,
  );
  const tsc = spawnSync(process.execPath, [join(ROOT, 'tests/node_modules/typescript/bin/tsc'), '-p', '.'], { cwd: folder, encoding: 'utf8' });
  const wrong = [...tsc.stdout.matchAll(/^(\S+)\((\d+),/gm)].map(([, file, line]) => `${file}:${line}`);
  assert.deepEqual(wrong, ['typed.ts:7', 'typed.ts:8', 'typed.ts:9', 'typed.ts:11'], tsc.stdout);
});
