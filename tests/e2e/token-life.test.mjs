// A connection ends with the token of its user, and its client can help it.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { ask, connect, disconnected, nextEvent, open, received, TRANSPORTS } from '../support/client.mjs';
import { editConfig, reload } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { seconds, sign, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const EXPIRES = '[auth]\nleeway = "0s"\nexpiry_warning = "1s"\n';

const server = await startServer({ after }, { config: EXPIRES });
const recovering = await startServer({ after }, { config: EXPIRES, recovery: true });

/** A token that is good for about five seconds: no test has to be faster than that. */
const short = (claims) => sign({ exp: seconds(5), ...claims });

const notified = async (id, on = server) =>
  (await on.api('POST', `/api/v1/users/${id}/notifications`, { title: id })).body.delivered;

// Side by side: most of the time they wait.
describe('tokens expire', { concurrency: true }, () => {
  for (const transport of TRANSPORTS) {
    test(`a client is told before its token expires, and then its connection is cut, ${transport}`, async (t) => {
      const exp = seconds(5);
      const socket = await connect(t, server, { token: sign({ sub: `cut-${transport}`, exp }), transports: [transport] });
      const [{ error }] = await nextEvent(socket, 'mixlab:error');
      const { message, details } = error;
      assert.deepEqual(error, { code: 'token_expired', message, temporary: false, details });
      assert.ok(details.expires_in_ms >= 0 && details.expires_in_ms <= 1000, `${details.expires_in_ms}`);
      // Not "io server disconnect", after which a stock client stays away.
      assert.match(await disconnected(socket), /^transport /);
      assert.ok(seconds() >= exp, 'not before');
      assert.equal(await notified(`cut-${transport}`), 0);
      assert.equal(received(socket, 'mixlab:error').length, 1, 'it is told once');
    });

    test(`a client that authenticates again in time stays, ${transport}`, async (t) => {
      const socket = await connect(t, server, { token: short({ sub: `stays-${transport}` }), transports: [transport] });
      const witness = await connect(t, server, { token: sign({ sub: 'witness', exp: seconds(6) }) });
      await nextEvent(socket, 'mixlab:error');
      assert.equal((await ask(socket, 'authenticate', token({ sub: `stays-${transport}` }))).success, true);
      // Its token was good for longer.
      await disconnected(witness);
      assert.equal(socket.connected, true);
      assert.equal(await notified(`stays-${transport}`), 1);
      socket.disconnect();
    });
  }

  test('a stock client comes back by itself with a fresh token', async (t) => {
    const tokens = [short({ sub: 'back' }), token({ sub: 'back' })];
    const used = [];
    const auth = (answer) => answer({ token: used[used.push(tokens[used.length] ?? tokens.at(-1)) - 1] });
    const socket = await connect(t, server, { auth, reconnection: true, reconnectionDelay: 10 });
    await nextEvent(socket, 'authenticated');
    await nextEvent(socket, 'authenticated');
    assert.deepEqual(used, tokens);
    assert.equal(await notified('back'), 1);
  });

  test('a stock client without a fresh token is told so when it comes back', async (t) => {
    const stale = short({ sub: 'stale' });
    const socket = await connect(t, recovering, { token: stale, reconnection: true, reconnectionDelay: 10 });
    const refusal = await new Promise((resolve) => socket.once('connect_error', resolve));
    assert.equal(refusal.message, 'token_expired');
    assert.equal(socket.active, false, 'it stays away');
    assert.equal(await notified('stale', recovering), 0);
  });

  test('what a client had it has back with a fresh token, and with no other', async (t) => {
    const claims = { sub: 'recovers' };
    for (const [then, recovered, userId] of [
      [token(claims), true, 'recovers'],
      [undefined, false, undefined],
      [token({ sub: 'other' }), false, 'other'],
    ]) {
      let current = short(claims);
      const auth = (answer) => answer(current === undefined ? {} : { token: current });
      const socket = await connect(t, recovering, { auth, reconnection: true, reconnectionDelay: 10 });
      await nextEvent(socket, 'authenticated');
      const { id } = socket;
      current = then;
      await disconnected(socket);
      await until(() => socket.connected);
      assert.equal(socket.recovered ?? false, recovered, `${userId}`);
      assert.equal(socket.id === id, recovered);
      if (userId) assert.equal((await nextEvent(socket, 'authenticated'))[0].user.id, userId);
      else assert.equal(received(socket, 'authenticated').length, 1, 'nobody');
      assert.equal(await notified('recovers', recovering), recovered ? 1 : 0);
      socket.disconnect();
    }
  });

  test('a connection that becomes a user later ends with the token, too', async (t) => {
    const socket = await connect(t, server);
    await ask(socket, 'authenticate', short({ sub: 'later' }));
    await nextEvent(socket, 'mixlab:error');
    assert.match(await disconnected(socket), /^transport /);
  });

  test('a shorter token in place of a longer one counts', async (t) => {
    const socket = await connect(t, server, { token: token({ sub: 'shorter' }) });
    await ask(socket, 'authenticate', short({ sub: 'shorter' }));
    await disconnected(socket);
  });

  test('anonymous connections do not expire', async (t) => {
    const socket = await connect(t, server);
    const witness = await connect(t, server, { token: short({ sub: 'w' }) });
    await disconnected(witness);
    assert.equal(socket.connected, true);
    assert.deepEqual(received(socket, 'mixlab:error'), []);
  });

  test('whether connections expire changes with the file', async (t) => {
    const own = await startServer(t, { config: `${EXPIRES}expire_connections = false\n` });
    const kept = short({ sub: 'kept' });
    const socket = await connect(t, own, { token: kept });
    await until(() =>
      connect(t, own, { token: kept }).then(
        (again) => void again.disconnect(),
        (error) => error.message === 'token_expired',
      ),
    );
    assert.equal(socket.connected, true);
    assert.deepEqual(received(socket, 'mixlab:error'), []);
    editConfig(own, (text) => text.replace('expire_connections = false', 'expire_connections = true'));
    await reload(own);
    assert.match(await disconnected(socket), /^transport /);
  });
});
