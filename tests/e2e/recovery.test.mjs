// Connection state recovery, as the stock client does it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Decoder, Encoder } from 'socket.io-parser';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { seconds, sign, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const PLUGINS = [CONFORMANCE];
const AUTO = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 50, randomizationFactor: 0 };
const ALL = { websocket: ['websocket'], polling: ['polling'], upgrade: ['polling', 'websocket'] };

/** A server with the conformance plugin, and with recovery. */
const serve = (t, config = '', options = {}) =>
  startServer(t, { config, plugins: PLUGINS, recovery: true, ...options });

/** A socket that has joined a room and seen an event, so that it has something to come back to. */
async function member(t, server, options = {}) {
  const socket = await connect(t, server, { ...AUTO, ...options });
  await nextEvent(socket, 'auth');
  if (options.transports?.length === 2) await until(() => socket.io.engine.transport.name === 'websocket');
  await ask(socket, 'join', 'studio');
  return socket;
}

/** Cuts the connection without a goodbye; the client does not come back before `resume` is called. */
function cut(socket) {
  socket.io.reconnection(false);
  socket.io.engine.close();
  return until(() => !socket.connected);
}

async function resume(socket) {
  socket.io.reconnection(true);
  socket.connect();
  await until(() => socket.connected);
}

const texts = (socket) => received(socket, 'told').map(([text]) => text);

for (const [name, transports] of Object.entries(ALL)) {
  test(`a client over ${name} comes back as itself and gets what it missed, once and in order`, async (t) => {
    const server = await serve(t);
    const socket = await member(t, server, { transports });
    const other = await connect(t, server);
    assert.equal(socket.recovered, false);
    const { id } = socket;
    assert.equal(await ask(socket, 'id'), id);
    await ask(other, 'tell', 'studio', 'before');
    await until(() => texts(socket).length === 1);

    await cut(socket);
    await ask(other, 'tell', 'studio', 'first');
    await ask(other, 'tell', 'elsewhere', 'not for it');
    await ask(other, 'tell', 'studio', 'second');
    await resume(socket);
    assert.equal(socket.recovered, true);
    assert.equal(socket.id, id);
    await ask(other, 'tell', 'studio', 'after');
    await until(() => texts(socket).includes('after'));
    assert.deepEqual(texts(socket), ['before', 'first', 'second', 'after']);
    assert.equal(await ask(socket, 'id'), id);
    assert.deepEqual(await ask(socket, 'rooms'), ['studio']);

    // And once more: what came by replay has a place in the log as well.
    await cut(socket);
    await ask(other, 'tell', 'studio', 'third');
    await resume(socket);
    assert.equal(socket.recovered, true);
    assert.equal(socket.id, id);
    await until(() => texts(socket).includes('third'));
    assert.deepEqual(texts(socket), ['before', 'first', 'second', 'after', 'third']);
  });
}

test('events to a single socket are replayed, too', async (t) => {
  const server = await serve(t);
  const socket = await member(t, server, { token: token({ sub: '7', role: 'admin' }) });
  const notify = (title) => server.api('POST', '/api/v1/users/7/notifications', { title });
  await cut(socket);
  await notify('missed');
  await resume(socket);
  assert.equal(socket.recovered, true);
  const [notification] = await nextEvent(socket, 'notification');
  assert.equal(notification.title, 'missed');
});

test('live events never overtake missed ones', async (t) => {
  const server = await serve(t);
  const socket = await member(t, server);
  const other = await connect(t, server);
  let sent = 0;
  const tell = () => other.emit('tell', 'studio', String(sent++));
  for (let round = 0; round < 5; round++) {
    const seen = texts(socket).length;
    await cut(socket);
    for (let count = 0; count < 200; count++) tell();
    socket.io.reconnection(true);
    socket.connect();
    for (let burst = 0; !socket.connected; burst++) {
      // There is a limit to how much may wait on the server.
      if (burst < 1000) tell();
      await new Promise(setImmediate);
    }
    for (let count = 0; count < 200; count++) tell();
    assert.equal(socket.recovered, true);
    // Whoever sees nothing between its drops may be one that cannot read what it missed.
    await until(() => texts(socket).length > seen);
  }
  const count = sent;
  await until(() => texts(socket).length >= count, {
    message: () => `${count} events; there were ${texts(socket).length}, and ${received(other, 'mixlab:error').length} refused`,
  });
  assert.deepEqual(texts(socket), Array.from({ length: count }, (_, index) => String(index)));
});

test('a client that says goodbye, or is sent away, recovers nothing', async (t) => {
  const server = await serve(t);
  const socket = await member(t, server);
  const { id } = socket;
  socket.disconnect();
  socket.connect();
  await until(() => socket.connected);
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
  assert.deepEqual(await ask(socket, 'rooms'), []);
});

test('with a gap nothing is recovered', async (t) => {
  const server = await serve(t, '[recovery]\nmax_events = 5');
  const socket = await member(t, server);
  const other = await connect(t, server);
  await cut(socket);
  for (let count = 0; count < 10; count++) await ask(other, 'tell', 'studio', 'too many');
  await resume(socket);
  assert.equal(socket.recovered, false);
  assert.deepEqual(texts(socket), []);
});

test('the log is bounded by its size', async (t) => {
  const server = await serve(t, '[recovery]\nmax_bytes = "10KiB"');
  const socket = await member(t, server);
  const other = await connect(t, server);
  await cut(socket);
  await ask(other, 'tell', 'studio', 'small');
  await resume(socket);
  assert.equal(socket.recovered, true);
  await cut(socket);
  for (let count = 0; count < 3; count++) await ask(other, 'tell', 'studio', 'x'.repeat(5000));
  await resume(socket);
  assert.equal(socket.recovered, false);
});

test('who stays away for too long recovers nothing', async (t) => {
  const server = await serve(t, '[recovery]\nmax_age = "200ms"');
  const socket = await member(t, server);
  await cut(socket);
  // Its time counts from when the server has noticed.
  await until(async () => (await server.api('GET', '/api/v1/clients/count')).body.count === 0);
  const left = performance.now();
  await until(() => performance.now() - left > 300);
  await resume(socket);
  assert.equal(socket.recovered, false);
});

test('nothing is recovered where recovery is switched off', async (t) => {
  const server = await serve(t, '', { recovery: false });
  const socket = await member(t, server);
  assert.deepEqual(received(socket, 'auth'), [[{}]], 'no argument is added');
  await cut(socket);
  await resume(socket);
  assert.ok(!socket.recovered);
});

test('a foreign or made-up private id opens nothing, and each can be used once', async (t) => {
  const server = await serve(t);
  const socket = await member(t, server);
  const { _pid: pid, _lastOffset: offset, id } = socket;
  await cut(socket);
  for (const auth of [{ pid: 'A'.repeat(20), offset }, { pid, offset: 'nonsense' }, { pid, offset: `${offset}0` }]) {
    const stranger = await connect(t, server, { auth });
    assert.notEqual(stranger.id, id);
  }
  const first = await connect(t, server, { auth: { pid, offset } });
  assert.equal(first.id, id);
  const clients = async () => (await server.api('GET', '/api/v1/clients/count')).body.count;
  const before = await clients();
  first.disconnect();
  await until(async () => (await clients()) < before, { message: 'its goodbye has been read' });
  const second = await connect(t, server, { auth: { pid, offset } });
  assert.notEqual(second.id, id);
});

for (const [name, transports] of Object.entries(ALL)) {
  test(`a client over ${name} whose former connection seems to be there still has it back`, async (t) => {
    const server = await serve(t);
    const user = token({ sub: '7' });
    const socket = await member(t, server, { transports, token: user, reconnection: false });
    const { _pid: pid, _lastOffset: offset, id } = socket;
    const speaker = await connect(t, server);
    const thief = await connect(t, server, { token: token({ sub: '8' }), auth: { pid, offset } });
    assert.notEqual(thief.id, id);
    await ask(speaker, 'tell', 'studio', 'missed');
    await nextEvent(socket, 'told');
    assert.ok(socket.connected, 'it is nobody else who ends it');

    const back = await connect(t, server, { token: user, auth: { pid, offset } });
    assert.equal(back.id, id);
    assert.equal((await nextEvent(back, 'told'))[0], 'missed');
    await until(() => !socket.connected);
    await ask(speaker, 'tell', 'studio', 'now');
    await until(() => texts(back).length === 2);
    assert.deepEqual([texts(socket), texts(back)], [['missed'], ['missed', 'now']]);
  });
}

test('the user of then is the user of now, or nobody', async (t) => {
  const server = await serve(t);
  const user = token({ sub: '7', role: 'admin' });
  const expired = sign({ sub: '7', exp: seconds(-60) });
  const missed = () => server.api('POST', '/api/v1/users/7/notifications', { title: 'secret' });
  const seen = (socket) => received(socket, 'notification').length;

  const socket = await member(t, server, { token: user });
  const { _pid: pid, _lastOffset: offset, id } = socket;
  const strangers = async () => {
    for (const shown of [undefined, token({ sub: '8' }), token({ sub: '8', role: 'admin' })]) {
      for (const auth of [{ pid, offset }, { pid }]) {
        const stranger = await connect(t, server, { token: shown, auth });
        assert.notEqual(stranger.id, id);
        await ask(stranger, 'id');
        assert.equal(seen(stranger), 0);
      }
    }
    await assert.rejects(connect(t, server, { token: expired, auth: { pid, offset } }), /token_expired/);
  };
  await missed();
  await strangers();
  await nextEvent(socket, 'notification');
  assert.ok(socket.connected, 'strangers do not end a connection that is there');
  await cut(socket);
  await missed();
  await strangers();
  await resume(socket);
  assert.equal(socket.recovered, true, 'nor take it from its client');
  assert.equal(socket.id, id);
  await until(() => seen(socket) === 2);
});

test('a client without a token has back what had none', async (t) => {
  const server = await serve(t);
  const socket = await member(t, server);
  const { _pid: pid, _lastOffset: offset, id } = socket;
  await cut(socket);
  const user = await connect(t, server, { token: token({ sub: '7' }), auth: { pid, offset } });
  assert.notEqual(user.id, id);
  await resume(socket);
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
});

test('a client that said who it is later says so when it comes back', async (t) => {
  const server = await serve(t);
  const socket = await member(t, server);
  const own = token({ sub: '7' });
  await ask(socket, 'authenticate', own);
  await nextEvent(socket, 'authenticated');
  const { id } = socket;
  await cut(socket);
  await server.api('POST', '/api/v1/users/7/notifications', { title: 'secret' });
  socket.auth = { token: own };
  await resume(socket);
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
  await nextEvent(socket, 'notification');

  await cut(socket);
  socket.auth = {};
  await resume(socket);
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
});

test('a token that expires while the client is away is renewed, and all is there', async (t) => {
  const server = await serve(t, '[auth]\nleeway = "0s"');
  const brief = sign({ sub: '7', exp: seconds(2) });
  const socket = await member(t, server, { token: brief });
  const { id } = socket;
  await cut(socket);
  await server.api('POST', '/api/v1/users/7/notifications', { title: 'secret' });
  await until(() => seconds(0) >= JSON.parse(atob(brief.split('.')[1])).exp + 1);
  const refused = new Promise((resolve) => socket.once('connect_error', resolve));
  socket.connect();
  assert.equal((await refused).message, 'token_expired');
  socket.auth = { token: token({ sub: '7' }) };
  await resume(socket);
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
  await nextEvent(socket, 'notification');
});

for (const [name, transports] of Object.entries(ALL)) {
  test(`a volatile event over ${name} leaves a client its place`, async (t) => {
    const server = await serve(t);
    const socket = await member(t, server, { transports });
    const other = await connect(t, server);
    const { id } = socket;
    const hints = () => received(socket, 'hinted');
    const hint = async (say) => {
      const before = hints().length;
      // A client that is just between two polls misses it, so it is said until it is heard.
      await until(async () => {
        await say();
        return hints().length > before;
      });
      const [text, place] = hints().at(-1);
      assert.equal(text, 'psst');
      assert.match(place, /^~[\w.-]{4,}$/);
      assert.equal(socket._lastOffset, place);
    };
    const ways = [() => ask(socket, 'hint', 'psst'), () => ask(other, 'hint-to', 'studio', 'psst')];
    for (const [round, say] of [...ways, ...ways].entries()) {
      await ask(other, 'tell', 'studio', `before ${round}`);
      await until(() => texts(socket).includes(`before ${round}`));
      await hint(say);
      await cut(socket);
      await ask(other, 'hint-to', 'studio', 'nobody keeps this');
      await ask(other, 'tell', 'studio', `missed ${round}`);
      await resume(socket);
      assert.equal(socket.recovered, true);
      assert.equal(socket.id, id);
      await until(() => texts(socket).includes(`missed ${round}`));
    }
    const rounds = [0, 1, 2, 3].flatMap((round) => [`before ${round}`, `missed ${round}`]);
    assert.deepEqual(texts(socket), rounds);
    assert.ok(hints().every(([text]) => text === 'psst'), 'and none that nobody keeps');
  });
}

test('what a client is asked, and errors and answers, leave it its place', async (t) => {
  const server = await serve(t, '', { plugins: [CONFORMANCE, { wasm: 'asks', grants: ['ask', 'emit'] }] });
  const socket = await member(t, server);
  const other = await connect(t, server);
  const events = {
    'mixlab:error': () => socket.emit('nobody handles this'),
    authenticated: () => socket.emit('authenticate', 'no token'),
  };
  for (const [event, provoke] of Object.entries(events)) {
    provoke();
    const args = await nextEvent(socket, event);
    assert.equal(args.length, 2, event);
    assert.equal(socket._lastOffset, args[1], event);
  }
  const before = socket._lastOffset;
  socket.on('question', (...args) => args.at(-1)('an answer'));
  await ask(socket, 'asks', [{ event: 'question', arguments: ['a text at the end'], wait_ms: 4000 }]);
  assert.equal(received(socket, 'question').length, 1);
  assert.equal(socket._lastOffset, before);
  await cut(socket);
  await ask(other, 'tell', 'studio', 'missed');
  await resume(socket);
  assert.equal(socket.recovered, true);
  await until(() => texts(socket).includes('missed'));
});

const QUIET = { plugins: [{ ...CONFORMANCE, config: { quiet: true } }] };

for (const [name, transports] of Object.entries(ALL)) {
  test(`a client over ${name} that was sent nothing yet comes back`, async (t) => {
    const server = await serve(t, '', QUIET);
    const socket = await connect(t, server, { ...AUTO, transports });
    const other = await connect(t, server);
    await ask(socket, 'join', 'studio');
    const { id } = socket;
    assert.equal(socket._lastOffset, undefined);
    for (const text of ['first', 'second']) {
      await cut(socket);
      await ask(other, 'tell', 'studio', text);
      await resume(socket);
      assert.equal(socket.recovered, true);
      assert.equal(socket.id, id);
      await until(() => texts(socket).includes(text));
    }
    assert.deepEqual(texts(socket), ['first', 'second']);
  });
}

test('a client that was sent nothing since the server started again comes back', async (t) => {
  const former = await serve(t, '', QUIET);
  const socket = await connect(t, former, AUTO);
  await ask(socket, 'count', 1);
  await nextEvent(socket, 'number');
  await cut(socket);
  await former.stop();
  const server = await serve(t, '', { ...QUIET, listen: former.address });
  await resume(socket);
  assert.equal(socket.recovered, false);
  const { id } = socket;
  const other = await connect(t, server);
  await ask(socket, 'join', 'studio');
  await cut(socket);
  await ask(other, 'tell', 'studio', 'missed');
  await resume(socket);
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
  await until(() => texts(socket).includes('missed'));
});

test('an event that a client cannot read is not replayed for ever', async (t) => {
  const server = await serve(t);
  const poison = 'this client cannot read it';
  let refused = 0;
  class Picky extends Decoder {
    add(packet) {
      if (typeof packet === 'string' && packet.includes(poison)) {
        refused += 1;
        throw new Error('unreadable');
      }
      super.add(packet);
    }
  }
  const socket = await member(t, server, { parser: { Encoder, Decoder: Picky } });
  const other = await connect(t, server);
  const { id } = socket;
  await ask(other, 'tell', 'studio', poison);
  // It comes back by itself, as stock clients do, until it starts afresh.
  await until(() => socket.connected && socket.id !== id);
  assert.equal(socket.recovered, false);
  assert.equal(refused, 3, 'once as it was sent, and twice as it was missed');
  await ask(socket, 'join', 'studio');
  await ask(other, 'tell', 'studio', 'readable');
  await until(() => texts(socket).includes('readable'));
});

test('a crowd that connects and drops takes nobody\'s place', async (t) => {
  const server = await serve(t, '[recovery]\nmax_clients = 20');
  const kept = [await member(t, server), await member(t, server, { token: token({ sub: '7' }) })];
  const other = await connect(t, server);
  const clients = async () => (await server.api('GET', '/api/v1/clients/count')).body.count;
  for (const socket of kept) await cut(socket);
  // Until the server has noticed, they have been sent what comes.
  await until(async () => (await clients()) === 1, { message: 'the server has noticed the first' });
  await ask(other, 'tell', 'studio', 'missed');
  for (let count = 0; count < 40; count++) {
    const stranger = await connect(t, server, { reconnection: false });
    await nextEvent(stranger, 'auth');
    stranger.io.engine.close();
  }
  await until(async () => (await clients()) === 1, { message: 'the server has noticed' });
  for (const socket of kept) {
    await resume(socket);
    assert.equal(socket.recovered, true);
    await until(() => texts(socket).includes('missed'));
  }
});

test('a client that a plugin refuses as it comes back may come back another time', async (t) => {
  const server = await serve(t);
  const socket = await member(t, server);
  const other = await connect(t, server);
  const { _pid: pid, _lastOffset: offset, id } = socket;
  await cut(socket);
  await ask(other, 'tell', 'studio', 'first');
  for (let count = 0; count < 4; count++) {
    await assert.rejects(connect(t, server, { auth: { pid, offset }, query: { fail: 1 } }), /Auth failed/);
  }
  await ask(other, 'tell', 'studio', 'second');
  await resume(socket);
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
  await until(() => texts(socket).length === 2);
  assert.deepEqual(texts(socket), ['first', 'second']);
  assert.deepEqual(await ask(socket, 'rooms'), ['studio']);
});

test('a role that is lost meanwhile brings no events any more', async (t) => {
  const server = await serve(t);
  const socket = await member(t, server, { token: token({ sub: '7', role: 'admin' }) });
  await cut(socket);
  await server.api('POST', '/api/v1/roles/admin/events/secret', {});
  await server.api('POST', '/api/v1/users/7/notifications', { title: 'yours' });
  socket.auth = { token: token({ sub: '7', role: 'student' }) };
  await resume(socket);
  assert.equal(socket.recovered, true);
  await nextEvent(socket, 'notification');
  assert.equal(received(socket, 'secret').length, 0);
});

test('each namespace recovers for itself', async (t) => {
  const server = await serve(t);
  const main = await member(t, server);
  const custom = main.io.socket('/custom', {});
  t.after(() => custom.disconnect());
  await new Promise((resolve) => custom.once('auth', resolve));
  const ids = [main.id, custom.id];
  assert.notEqual(...ids);
  main.io.engine.close();
  await until(() => !main.connected && !custom.connected);
  await until(() => main.connected && custom.connected);
  assert.deepEqual([main.recovered, custom.recovered], [true, true]);
  assert.deepEqual([main.id, custom.id], ids);
});
