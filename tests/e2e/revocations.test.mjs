// Tokens that a backend takes back: nobody comes with them any more, and who is there with one is cut off.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import { after, describe, test } from 'node:test';
import { ask, connect, disconnected, nextEvent, open, TRANSPORTS } from '../support/client.mjs';
import { startMember } from '../support/cluster.mjs';
import { startRedis } from '../support/redis.mjs';
import { EMBED, startServer } from '../support/server.mjs';
import { seconds, sign, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const KEYS = `
[[api.keys]]
name = "revokes"
key = "a-key-that-may-revoke"
rights = ["revoke"]
[[api.keys]]
name = "pays"
key = "a-key-that-may-pay"
rights = ["payments"]
`;

const server = await startServer({ after }, { embedding: EMBED, plugins: ['echo'], config: KEYS, recovery: true });

const revoke = async (body, on = server, key) => {
  const answer = await on.api('POST', '/api/v1/revocations', body, key);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer.body;
};

/** The code with which a client with this token is refused; none if it is let in. */
async function refusal(t, claims, { on = server, ...options } = {}) {
  const socket = open(t, on, { token: sign({ exp: seconds(3600), ...claims }), ...options });
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(socket.disconnect() && undefined));
    socket.once('connect_error', ({ message }) => resolve(message));
  });
}

/** How whoever comes first comes. */
const AT_ONCE = { transports: ['websocket'] };

/** The URL of a Redis whose answers take their time. */
async function farAway(t, { port }) {
  const open = new Set();
  const listener = createServer((near) => {
    const far = createConnection(port, '127.0.0.1');
    near.pipe(far);
    far.on('data', (answer) => setTimeout(() => near.write(answer), 200));
    for (const [socket, other] of [[near, far], [far, near]]) {
      open.add(socket);
      socket.on('error', () => {}).on('close', () => other.destroy());
    }
  }).listen(0, '127.0.0.1');
  t.after(() => listener.close() && open.forEach((socket) => socket.destroy()));
  await once(listener, 'listening');
  return `redis://127.0.0.1:${listener.address().port}`;
}

const ENDPOINTS = { plugins: {}, native: { path: '/native.io' } };

for (const [endpoint, options] of Object.entries(ENDPOINTS)) {
  for (const transport of TRANSPORTS) {
    const connected = (t, claims) => connect(t, server, { ...options, token: token(claims), transports: [transport] });

    test(`who is there with a token of the user is cut off, and does not come back with it: ${endpoint}, ${transport}`, async (t) => {
      const sub = `user-${endpoint}-${transport}`;
      const [one, other] = [await connected(t, { sub }), await connected(t, { sub: `${sub}-other` })];
      const { at, until: kept } = await revoke({ user: sub });
      assert.ok(Math.abs(at - seconds()) < 60 && kept - at === 30 * 86_400 + 5, 'and the leeway of tokens');
      // Not "io server disconnect": the client comes back, and hears why it may not.
      assert.match(await disconnected(one), /^transport /);
      assert.equal(await refusal(t, { sub }, options), 'token_revoked');
      assert.equal(await refusal(t, { sub, iat: at }, options), 'token_revoked');
      assert.equal(await refusal(t, { sub, iat: at + 1 }, options), undefined, 'it has logged in again');
      assert.equal(await ask(other, 'echo', 1), 1, 'another user stays');
    });

    test(`a token and a session are revoked by their names: ${endpoint}, ${transport}`, async (t) => {
      for (const [field, claim] of [['token_id', 'jti'], ['session', 'sid']]) {
        const name = `${claim}-${endpoint}-${transport}`;
        const claims = { sub: 'named', iat: seconds(), [claim]: name };
        const [one, other] = [await connected(t, claims), await connected(t, { ...claims, [claim]: 'another' })];
        await revoke({ [field]: name });
        assert.match(await disconnected(one), /^transport /);
        assert.equal(await refusal(t, claims, options), 'token_revoked');
        assert.equal(await ask(other, 'echo', 1), 1, 'another one of the same user stays');
      }
    });
  }

  test(`tokens that never expire are cut off, too: ${endpoint}`, async (t) => {
    const own = await startServer(t, { embedding: EMBED, plugins: ['echo'], config: '[auth]\nrequire_exp = false\n' });
    const socket = await connect(t, own, { ...options, token: sign({ sub: 'for-ever' }) });
    await revoke({ user: 'for-ever' }, own);
    assert.match(await disconnected(socket), /^transport /);
  });

  test(`authenticate with a revoked token changes nothing: ${endpoint}`, async (t) => {
    await revoke({ user: `late-${endpoint}` });
    const socket = await connect(t, server, { ...options, token: token({ sub: 'stays' }) });
    const answer = await ask(socket, 'authenticate', token({ sub: `late-${endpoint}` }));
    assert.equal(answer.error.code, 'token_revoked');
    assert.equal(await ask(socket, 'echo', 1), 1);
  });
}

test('a connection that has authenticated as somebody else meanwhile stays', async (t) => {
  const socket = await connect(t, server, { token: token({ sub: 'was' }) });
  const witness = await connect(t, server, { token: token({ sub: 'was' }) });
  assert.equal((await ask(socket, 'authenticate', token({ sub: 'is' }))).success, true);
  await revoke({ user: 'was' });
  assert.match(await disconnected(witness), /^transport /);
  assert.equal(await ask(socket, 'echo', 1), 1);
});

test('a client over a websocket is told why', async (t) => {
  const socket = await connect(t, server, { token: token({ sub: 'told' }), transports: ['websocket'] });
  const told = nextEvent(socket, 'mixlab:error');
  await revoke({ user: 'told' });
  assert.equal((await told)[0].error.code, 'token_revoked');
});

test('a client that was away has nothing back with a revoked token', async (t) => {
  const old = token({ sub: 'away' });
  const socket = await connect(t, server, { token: old });
  socket.io.engine.close();
  await revoke({ user: 'away' });
  const error = await new Promise((resolve) => {
    socket.once('connect_error', resolve);
    socket.connect();
  });
  assert.equal(error.message, 'token_revoked');
});

test('revocations are there after a restart, and after the kill of a server that has answered', async (t) => {
  const before = await startServer(t, { plugins: ['echo'] });
  await revoke({ user: 'out' }, before);
  await before.kill();
  const config = `[store]\npath = "${before.folder}/data/store.redb"\n`;
  const back = await startServer(t, { plugins: ['echo'], config });
  assert.equal(await refusal(t, { sub: 'out' }, { on: back, ...AT_ONCE }), 'token_revoked');
  await revoke({ token_id: 'second' }, back);
  await back.stop();
  const again = await startServer(t, { plugins: ['echo'], config });
  assert.equal(await refusal(t, { sub: 'in', jti: 'second' }, { on: again, ...AT_ONCE }), 'token_revoked');
  assert.equal(await refusal(t, { sub: 'out' }, { on: again }), 'token_revoked');
});

test('one is in force for as long as was said, and tokens are good after their expiry', async (t) => {
  const { at, until: kept } = await revoke({ user: 'short', for: '1500ms' });
  assert.equal(kept - at, 2 + 5);
  assert.equal(await refusal(t, { sub: 'short' }), 'token_revoked');
  await until(async () => (await refusal(t, { sub: 'short' })) === undefined);
});

test('a token that was revoked for the rest of its life is not good again before it is refused anyway', async (t) => {
  const own = await startServer(t, { plugins: ['echo'], config: '[auth]\nleeway = "1h"\n' });
  const exp = seconds(2);
  const claims = { sub: 'late', jti: 'late', exp };
  await revoke({ token_id: 'late', for: '2s' }, own);
  await until(() => seconds() > exp);
  assert.equal(await refusal(t, { ...claims, jti: 'another' }, { on: own }), undefined);
  assert.equal(await refusal(t, claims, { on: own }), 'token_revoked');
});

describe('in a cluster', () => {
  test('all servers hold what one was told, those that start later, too', async (t) => {
    const redis = await startRedis(t);
    const [one, other] = await Promise.all([startMember(t, redis), startMember(t, redis)]);
    const sockets = await Promise.all([one, other].map((on) => connect(t, on, { token: token({ sub: 'both' }) })));
    await revoke({ user: 'both' }, one);
    for (const socket of sockets) assert.match(await disconnected(socket), /^transport /);
    for (const on of [one, other]) assert.equal(await refusal(t, { sub: 'both' }, { on }), 'token_revoked');
    const third = await startMember(t, { url: await farAway(t, redis) });
    assert.equal(await refusal(t, { sub: 'both' }, { on: third, ...AT_ONCE }), 'token_revoked');
  });

  test('many that come at once, at both, are all in force at both', async (t) => {
    const redis = await startRedis(t);
    const servers = await Promise.all([startMember(t, redis), startMember(t, redis)]);
    const users = Array.from({ length: 200 }, (_, i) => `at-once-${i}`);
    await Promise.all(users.map((user, i) => revoke({ user }, servers[i % 2])));
    for (const on of servers) {
      await until(async () => {
        const refused = await Promise.all(users.map((sub) => refusal(t, { sub }, { on })));
        return refused.every((code) => code === 'token_revoked');
      });
    }
  });

  test('while Redis is away none is taken that would be forgotten, and what was known holds', async (t) => {
    const redis = await startRedis(t);
    const member = await startMember(t, redis);
    await revoke({ user: 'before' }, member);
    await redis.stop();
    const { status, body } = await member.api('POST', '/api/v1/revocations', { user: 'during' });
    assert.deepEqual([status, body.error.code, body.error.temporary], [503, 'store_unavailable', true]);
    assert.equal(await refusal(t, { sub: 'before' }, { on: member }), 'token_revoked');
    await until(async () => /what is revoked cannot be read/.test((await member.api('GET', '/readyz')).body));
    await redis.start();
    await until(async () => (await member.api('POST', '/api/v1/revocations', { user: 'during' })).status === 200);
    assert.equal(await refusal(t, { sub: 'during' }, { on: member }), 'token_revoked');
  });
});

test('what is asked wrongly is refused with what is wrong', async () => {
  for (const [body, message] of [
    [{}, /one of user, token_id and session/],
    [{ user: 'a', session: 'b' }, /one of user, token_id and session/],
    [{ user: {} }, /id is not valid/],
    [{ user: '' }, /id is not valid/],
    [{ token_id: '' }, /1 to 256 bytes/],
    [{ session: 'x'.repeat(257) }, /1 to 256 bytes/],
    [{ token_id: 7 }, /invalid type/],
    [{ user: 'a', for: 7 }, /expected a number with a unit/],
    [{ user: 'a', for: '400d' }, /longer than a year/],
    [{ user: 'a', until: 7 }, /unknown field `until`/],
    [[], /not a JSON object/],
  ]) {
    const { status, body: answer } = await server.api('POST', '/api/v1/revocations', body);
    assert.deepEqual([status, answer.error.code], [400, 'invalid_payload'], JSON.stringify(body));
    assert.match(answer.error.message, message);
  }
});

test('only a key with the right may revoke', async () => {
  for (const [key, status] of [['a-key-that-may-pay', 403], [null, 401], ['a-key-that-may-revoke', 200]]) {
    assert.equal((await server.api('POST', '/api/v1/revocations', { user: 'nobody' }, key)).status, status);
  }
});

test('crowds are cut off, and the others go on', async (t) => {
  const sub = (i) => (i % 2 ? 'crowd' : `other-${i}`);
  const sockets = await Promise.all(Array.from({ length: 200 }, (_, i) => connect(t, server, { token: token({ sub: sub(i) }) })));
  await revoke({ user: 'crowd' });
  await until(() => sockets.every((socket, i) => socket.connected === (i % 2 === 0)));
  assert.deepEqual(await Promise.all(sockets.filter((_, i) => i % 2 === 0).map((socket) => ask(socket, 'echo', 1))), Array(100).fill(1));
});

test('one after the other is cut off under load, and the others are answered all the time', async (t) => {
  const sub = (i) => (i % 2 ? `loaded-${i}` : `other-loaded-${i}`);
  const sockets = await Promise.all(Array.from({ length: 200 }, (_, i) => connect(t, server, { token: token({ sub: sub(i) }) })));
  let isOver = false;
  const loads = sockets.map(async (socket, i) => {
    let answered = 0;
    for (; !isOver && socket.connected; answered++) {
      const answer = await ask(socket, 'echo', answered).catch((error) => (socket.connected && i % 2 === 0 ? assert.fail(error) : undefined));
      if (answer === undefined) break;
      assert.equal(answer, answered);
    }
    return answered;
  });
  const times = [];
  for (let i = 1; i < sockets.length; i += 2) {
    await revoke({ user: sub(i) });
    const since = performance.now();
    await disconnected(sockets[i]);
    times.push(performance.now() - since);
  }
  isOver = true;
  const answered = (await Promise.all(loads)).reduce((sum, count) => sum + count);
  assert.ok(sockets.every((socket, i) => socket.connected === (i % 2 === 0)));
  t.diagnostic(`100 of 200 were cut off at most ${Math.max(...times).toFixed(0)} ms after the answer, among ${answered} echoes`);
});

test('many that come at once are all in force', async (t) => {
  const users = Array.from({ length: 200 }, (_, i) => `at-once-${i}`);
  await Promise.all(users.map((user) => revoke({ user })));
  const refused = await Promise.all(users.map((sub) => refusal(t, { sub })));
  assert.deepEqual(refused, users.map(() => 'token_revoked'));
});
