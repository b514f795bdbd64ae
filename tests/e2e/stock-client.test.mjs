// What the host sends, a stock client can read; and what it is refused for a while, it gets in the end.
import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { agentOf, ask, askAll, connect, nextEvent, open, received } from '../support/client.mjs';
import { startNode } from '../support/node-server.mjs';
import { editConfig, plugin, reload } from '../support/plugins.mjs';
import { rawPolling, rawSocket } from '../support/raw.mjs';
import { CONFORMANCE, startServer, wasm } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

/** The key of `[socket]` for how many attachments a packet may have. */
const MAX_ATTACHMENTS = 'max_attachments';

const named = (name, event) => ({ wasm: 'named', name, path: 'named.wasm', config: { event }, grants: ['emit:custom_response'] });

const server = await startServer(
  { after },
  { plugins: [CONFORMANCE, 'echo', 'million_items', named('forty-two', '42'), named('minus', '-1.5'), named('thousand', '1000')] },
);
const node = await startNode({ after });

const WAYS = { websocket: ['websocket'], polling: ['polling'], upgrade: ['polling', 'websocket'] };
const bytes = (...values) => Buffer.from(values);

// Attachments as text

for (const [way, transports] of Object.entries(WAYS)) {
  for (const [name, on] of Object.entries({ Node: node, MixLab: server })) {
    test(`a client with forceBase64 sends and gets bytes, ${way}, ${name}`, async (t) => {
      const socket = await connect(t, on, { transports, forceBase64: true });
      await until(() => socket.io.engine.transport.name === transports.at(-1));
      for (const args of [[bytes(1, 2, 3)], [bytes()], [{ a: [bytes(0, 255)] }, 'x', Buffer.alloc(70_000, 7)]]) {
        assert.deepEqual(await askAll(socket, 'message-with-ack', ...args), args);
        socket.emit('message', ...args);
        assert.deepEqual(await nextEvent(socket, 'message-back'), args);
      }
    });
  }
}

// Whoever asks for base64 gets bytes over a websocket here: no client that has websockets lacks them.
for (const [name, on] of Object.entries({ Node: node })) {
  test(`who asks for base64 over a websocket gets its attachments as text, ${name}`, async (t) => {
    const socket = await rawSocket(t, { url: on.url }, { query: '&b64=1' });
    const place = '{"_placeholder":true,"num":0}';
    socket.send(`451-7["message-with-ack",${place}]`, 'bAQID');
    await socket.frame(/^461-7\[/);
    await socket.frame(/^bAQID$/);
    // Others get bytes, whatever they send.
    const other = await rawSocket(t, { url: on.url });
    other.send(`451-7["message-with-ack",${place}]`, 'bAQID');
    await until(() => other.frames.some((frame) => Buffer.isBuffer(frame) && frame.equals(bytes(1, 2, 3))));
  });
}

// Names

test('a number is the name of an event, as it is written in JavaScript', async (t) => {
  for (const transports of Object.values(WAYS)) {
    const socket = await connect(t, server, { transports });
    for (const number of [42, -1.5, 1000]) {
      assert.deepEqual(await askAll(socket, number, 'x', bytes(1)), ['x', bytes(1)]);
      assert.deepEqual(await nextEvent(socket, 'custom_response'), ['x', bytes(1)]);
      assert.deepEqual(await askAll(socket, String(number), 1), [1]);
      assert.deepEqual(await nextEvent(socket, 'custom_response'), [1]);
    }
    assert.equal((await ask(socket, 43)).error.code, 'unknown_event');
    assert.equal(socket.connected, true);
  }
});

test('a number is the same name however it is written', async (t) => {
  const socket = await rawSocket(t, server);
  socket.send('421[42,1]', '422[42.0,2]', '423[4.2e1,3]', '424[1e3,4]', '425[1E+3,5]', '426[-1.50,6]');
  for (let id = 1; id <= 6; id++) await socket.frame(new RegExp(`^43${id}\\[${id}\\]$`));
});

// Half a character, as JavaScript makes of a text that it cuts

test('half a surrogate pair is kept, or refused and said, alike wherever it is', async (t) => {
  const half = '"\\ud83d"';
  const outcomes = {};
  const judge = (what, kept, texts) => {
    assert.ok(texts.length > 0, `${what}: an answer`);
    const [text] = texts;
    outcomes[what] = kept.test(text) ? 'kept' : /"code":"(?!internal)\w+"/.test(text) ? 'refused' : text;
  };
  const ofAuth = await rawSocket(t, server, { join: false });
  ofAuth.send(`40{"nick":${half}}`);
  await until(() => ofAuth.closed || ofAuth.frames.some((frame) => /^42\["auth"|^44/.test(frame)));
  judge('auth', /^42\["auth",\{"nick":"\\ud83d"\}\]$/, ofAuth.frames.filter((frame) => /^42\["auth"|^44/.test(frame)));

  const socket = await rawSocket(t, server);
  socket.send(`421["message-with-ack",${half}]`, `422["message-with-ack",{${half}:1}]`, `423[${half}]`);
  for (const [id, what, kept] of [
    [1, 'an argument', /^431\["\\ud83d"\]$/],
    [2, 'a key', /^432\[\{"\\ud83d":1\}\]$/],
    [3, 'a name', /"unknown_event"/],
  ]) {
    await socket.frame(new RegExp(`^43${id}`));
    judge(what, kept, socket.frames.filter((frame) => String(frame).startsWith(`43${id}`)));
  }
  assert.ok(['kept', 'refused'].includes(outcomes.auth), JSON.stringify(outcomes));
  assert.deepEqual(new Set(Object.values(outcomes)).size, 1, JSON.stringify(outcomes));
});

test('a token beside half a character is a token', async (t) => {
  // Nobody is anonymous without a word.
  const socket = await rawSocket(t, server, { join: false });
  socket.send(`40{"token":${JSON.stringify(token({ sub: 'cut' }))},"nick":"hi \\ud83d"}`);
  await until(() => socket.closed || socket.frames.some((frame) => /^42\["auth|^44/.test(frame)));
  const joined = socket.frames.some((frame) => String(frame).startsWith('40'));
  if (joined) await socket.frame(/^42\["authenticated",\{.*"id":"cut"/);
  else await socket.frame(/^44\{/);
});

for (const recovery of [true, false]) {
  test(`the keys "pid" and "offset" of an app's own auth object reach it, with recovery ${recovery}`, async (t) => {
    const own = await startServer(t, { recovery, plugins: [CONFORMANCE] });
    for (const auth of [
      { pid: 7, offset: { page: 2 } },
      { pid: null },
      { offset: 'here' },
      { pid: 'mine', offset: 'there', more: [1] },
    ]) {
      const socket = await connect(t, own, { auth });
      assert.deepEqual((await nextEvent(socket, 'auth'))[0], auth);
      assert.ok(!socket.recovered);
    }
  });
}

// How many attachments a packet has

const many = (count) => Array.from({ length: count }, (_, i) => bytes(i));

test('ten attachments go there and back', async (t) => {
  for (const transports of Object.values(WAYS)) {
    const socket = await connect(t, server, { transports });
    assert.deepEqual(await askAll(socket, 'message-with-ack', ...many(10)), many(10));
    socket.emit('message', ...many(10));
    assert.deepEqual(await nextEvent(socket, 'message-back'), many(10));
  }
});

test('an event with eleven attachments reaches nobody, and its sender hears of it', async (t) => {
  for (const transports of Object.values(WAYS)) {
    const other = await connect(t, server);
    const socket = await connect(t, server, { transports });
    socket.emit('message', ...many(11));
    socket.emit('message-with-ack', ...many(11), () => {});
    const isTold = () => received(socket, 'mixlab:error').some(([{ error }]) => /attachment/.test(error.message));
    await until(() => socket.disconnected || isTold(), { message: 'an error, or the end as with Node' });
    assert.deepEqual(received(socket, 'message-back'), []);
    assert.equal(await ask(other, 'message-with-ack', 'still'), 'still');
  }
});

test('a plugin that sends eleven attachments fails, and its client stays', async (t) => {
  const socket = await connect(t, server);
  assert.deepEqual(await askAll(socket, 'million_items', 10), []);
  const { error } = await ask(socket, 'million_items', 11);
  assert.equal(error.code, 'plugin_error');
  await server.waitForLog(/attachments/);
  assert.equal(await ask(socket, 'message-with-ack', 'still'), 'still');
});

test('more attachments are allowed in both directions, where all clients can read them', async (t) => {
  const own = await startServer(t, { config: `[socket]\n${MAX_ATTACHMENTS} = 20`, plugins: [CONFORMANCE] });
  const places = (count) => many(count).map((_, num) => JSON.stringify({ _placeholder: true, num })).join();
  const socket = await rawSocket(t, own);
  socket.send(`4520-7["message-with-ack",${places(20)}]`, ...many(20));
  await socket.frame(/^4620-7\[/);
  await until(() => socket.frames.filter(Buffer.isBuffer).length === 20);
  socket.send(`4521-7["message-with-ack",${places(21)}]`, ...many(21));
  await until(() => socket.closed || socket.frames.some((frame) => /^437\[\{"error"/.test(String(frame))));
  const session = await rawPolling(own);
  await session.post('40');
  await session.packet(/^40/);
  assert.equal((await session.post([`4520-7["message-with-ack",${places(20)}]`, ...many(20).map((part) => `b${part.toString('base64')}`)].join('\x1e'))).status, 200);
  let text = '';
  while (!/4620-7\[/.test(text)) ({ text } = await session.get());
});

// Attachments that are announced and do not come, or come unannounced: nothing is kept for ever

describe('attachments on which memory was spent in other servers', () => {
  const place = '{"_placeholder":true,"num":0}';
  const CASES = {
    'more than there may be': [`4511-["message",${place}]`, ...many(11)],
    'an endless number': [`4599999999-["message",${place}]`, ...many(20)],
    'none, and yet they come': ['450-["message"]', ...many(20)],
    'half of one': [`450.5-["message",${place}]`, ...many(20)],
    'fewer than none': [`45-1-["message",${place}]`, ...many(20)],
    'a number that is none': [`45NaN-["message",${place}]`, ...many(20)],
    'none in an ack, and yet they come': ['460-1[]', ...many(20)],
    'more than there may be in an ack': [`4611-1[${place}]`, ...many(11)],
    'without a packet': many(20),
  };
  for (const [what, frames] of Object.entries(CASES)) {
    test(what, async (t) => {
      for (const on of [node, server]) {
        const socket = await rawSocket(t, on);
        socket.send(...frames, '429["message-with-ack"]');
        // Where there are too many, it may also be told so.
        const isTold = () => /^more/.test(what) && socket.frames.includes('439[]');
        await until(() => socket.closed || isTold(), { message: () => `the end: ${socket.shown}` });
        assert.notEqual(socket.code, 1006);
      }
    });
  }
});

// Refused for a while

/** Reconnects as stock clients do, only faster. */
const LOYAL = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 };

/** Why a client is not let in, and how a server comes to that: not by a fault of the client's. */
const REFUSALS = {
  'a plugin is paused': {
    // Longer than the test: the plugin's next version begins without a pause.
    config: '[breaker]\nfailures = 1\npause = "1m"',
    wasm: 'on_connect_traps',
    // The client that finds out is told of a plugin's fault, which is no refusal for a while.
    first: 'plugin_error',
  },
  'a plugin takes too long': { wasm: 'on_connect_loops', budget: { cpu: '20ms' } },
};

for (const [way, transports] of Object.entries(WAYS)) {
  for (const [why, { config, first, ...table }] of Object.entries(REFUSALS)) {
    test(`who is refused while ${why} gets in by itself when it is good again, ${way}`, async (t) => {
      const own = await startServer(t, { config, plugins: [{ ...table, name: 'moody' }] });
      if (first) {
        const { message } = await new Promise((resolve) => open(t, own, { transports }).once('connect_error', resolve));
        assert.equal(message, first);
      }
      const patient = open(t, own, { transports, ...LOYAL });
      await new Promise((resolve) => patient.io.once('open', resolve));
      // Its CONNECT is there before what follows.
      await until(async () => (await plugin(own, 'moody')).calls > 0);
      // The plugin is mended under its name.
      cpSync(wasm('trips'), join(own.folder, 'mended.wasm'));
      editConfig(own, (toml) => toml.replace(`${table.wasm}.wasm`, 'mended.wasm'));
      await reload(own);
      await until(() => patient.connected, { message: 'the client is in' });
    });
  }

  test(`who connects while a plugin is paused gets in by itself after the pause, ${way}`, async (t) => {
    const own = await startServer(t, {
      config: '[breaker]\nfailures = 1\npause = "500ms"\nmax_pause = "500ms"',
      plugins: ['on_connect_traps', 'echo'],
    });
    await new Promise((resolve) => open(t, own).once('connect_error', resolve));
    const late = open(t, own, { transports, ...LOYAL });
    const reasons = [];
    late.on('connect_error', ({ message }) => reasons.push(message));
    // The plugin fails again then, and that is final.
    await until(() => reasons.includes('plugin_error'), { message: () => `a second call of the plugin, and not ${reasons}` });
  });

  test(`who connects too often gets in by itself when it may, ${way}`, async (t) => {
    const own = await startServer(t, { config: '[limits]\nconnections = "1/1s"', plugins: ['echo'] });
    const sockets = [1, 2, 3].map(() => open(t, own, { transports, ...LOYAL }));
    await until(() => sockets.every((socket) => socket.connected), { message: 'all clients are in' });
  });
}

/** A client at another address of this machine. */
const from = (localAddress) => ({ agent: agentOf(server, { localAddress }) });

test("one client's bad events do not close the door to clients at other addresses", async (t) => {
  const own = await startServer(t, { config: '[breaker]\nfailures = 3\npause = "1m"', plugins: ['trips', 'echo'] });
  const bad = await connect(t, own);
  const inside = await connect(t, own);
  for (let count = 0; count < 6; count++) await ask(bad, 'trips');
  assert.equal((await ask(bad, 'trips')).error.code, 'plugin_unavailable');
  for (const options of [from('127.0.0.2'), { transports: ['polling'], ...from('127.0.0.3') }]) {
    const neighbour = await connect(t, own, options);
    assert.equal(await ask(neighbour, 'echo', 1), 1);
  }
  assert.equal(await ask(inside, 'echo', 1), 1);
});

test("bad events do not close the door to newcomers, whatever their address, and ends are heard of", async (t) => {
  const own = await startServer(t, { config: '[breaker]\nfailures = 3\npause = "1m"', plugins: ['trips', 'echo'] });
  for (const address of ['127.0.0.1', '127.0.0.2']) {
    const bad = await connect(t, own, from(address));
    for (let count = 0; count < 4; count++) await ask(bad, 'trips');
    assert.equal((await ask(bad, 'trips')).error.code, 'plugin_unavailable');
    // The first time it is paused for the one address, and then for everybody.
    for (const options of [from(address), { transports: ['polling'] }, from('127.0.0.3')]) {
      const newcomer = await connect(t, own, options);
      assert.equal(await ask(newcomer, 'echo', 1), 1);
    }
    const heard = () => own.log().match(/trips hears of an end: client namespace disconnect/g)?.length ?? 0;
    const before = heard();
    bad.disconnect();
    await until(() => heard() > before, { message: () => own.log() });
  }
  assert.equal((await plugin(own, 'trips')).paused, true);
});

test('a plugin without on-connect has no say at connects', async (t) => {
  const own = await startServer(t, { config: '[breaker]\nfailures = 3\npause = "1m"', plugins: ['traps', 'echo'] });
  const sockets = [await connect(t, own), await connect(t, own, from('127.0.0.2'))];
  for (const socket of [...sockets, ...sockets]) await ask(socket, 'traps');
  assert.equal((await plugin(own, 'traps')).paused, true);
  for (const options of [{}, { transports: ['polling'] }, from('127.0.0.3')]) {
    assert.equal(await ask(await connect(t, own, options), 'echo', 1), 1);
  }
});
