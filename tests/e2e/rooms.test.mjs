// How many rooms one connection may be in, however they come: by its own calls, by those of others, over
// several plugins, present or not, and when it comes back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const MAX = 5;
const FULL = { over_budget: `socket.max_rooms = ${MAX}` };
const DONE = { granted: null };

const GRANTS = ['payments', 'notify', 'role:*', 'clients', 'room:*', 'socket', 'everyone', 'emit', 'ask', 'handshake', 'find', 'disconnect'];

/** A server with two plugins that join rooms for whoever sends them events. */
const start = (t, options) =>
  startServer(t, {
    config: `[socket]\nmax_rooms = ${MAX}\n`,
    plugins: [
      { wasm: 'capabilities', grants: GRANTS },
      { wasm: 'lobby', grants: ['room:*', 'presence:*', 'history:*', 'user:*', 'emit'] },
    ],
    ...options,
  });

const call = (socket, ...calls) => ask(socket, 'capabilities', calls);
const enter = (socket, room) => ask(socket, 'lobby', [{ call: 'enter', room, data: null }]);
const join = (room) => ({ call: 'join', room });
const names = (count, prefix = 'room') => Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
const joined = async (socket) => (await call(socket, { call: 'joined' }))[0].granted;

for (const recovery of [true, false]) {
  test(`a connection is in as many rooms as it may be and in no more, recovery ${recovery ? 'on' : 'off'}`, async (t) => {
    const server = await start(t, { recovery });
    const socket = await connect(t, server, { token: token({ sub: 'ada', roles: names(7, 'role') }) });
    const rooms = names(MAX);
    assert.deepEqual(await call(socket, ...rooms.slice(1).map(join)), rooms.slice(1).map(() => DONE));
    const answers = await call(socket, join(rooms[0]), join('one-more'), join(rooms[0]), { call: 'leave', room: rooms[1] }, join('instead'));
    assert.deepEqual(answers, [DONE, FULL, DONE, DONE, DONE], 'a call sees what it has joined and left itself');
    const expected = [rooms[0], ...rooms.slice(2), 'instead'].sort();
    assert.deepEqual(await joined(socket), expected);

    assert.deepEqual(await enter(socket, 'present'), [FULL], 'present or not');
    assert.deepEqual(await enter(socket, 'instead'), [DONE], 'it is there already');
    const [mover, other] = await Promise.all([connect(t, server), connect(t, server)]);
    assert.deepEqual(await call(mover, { call: 'join_sockets', sockets: [socket.id, other.id], room: 'moved' }), [DONE]);
    assert.deepEqual(await joined(other), ['moved']);
    assert.deepEqual(await joined(socket), expected, 'whoever asks');
    await until(() => /stay out of a room/.test(server.log()));

    await call(socket, { call: 'leave', room: 'instead' });
    assert.deepEqual(await enter(socket, 'present'), [DONE], 'there is room again');
    assert.deepEqual(await call(socket, join('one-more')), [FULL]);
  });
}

test('calls at the same moment do not join more together', async (t) => {
  const server = await start(t, {});
  const socket = await connect(t, server);
  const others = await Promise.all(names(4).map(() => connect(t, server)));
  const moves = names(20).map((room, index) =>
    call(others[index % others.length], { call: 'join_sockets', sockets: [socket.id], room }),
  );
  await Promise.all(moves);
  assert.equal((await joined(socket)).length, MAX);
});

test('a connection that is back has the rooms that it had, and may have no more than others', async (t) => {
  const server = await start(t, { recovery: true });
  const socket = await connect(t, server, { reconnection: true, reconnectionDelay: 10 });
  await call(socket, ...names(MAX).map(join));
  const { id } = socket;
  socket.io.engine.close();
  await until(() => socket.connected && socket.recovered);
  assert.equal(socket.id, id);
  assert.deepEqual(await joined(socket), names(MAX));
  assert.deepEqual(await call(socket, join('one-more')), [FULL]);
  assert.deepEqual(await call(socket, { call: 'leave', room: 'room-0' }, join('one-more')), [DONE, DONE]);
});

test('a name of a room has a bound as well', async (t) => {
  const server = await start(t, {});
  const socket = await connect(t, server);
  const longest = 'r'.repeat(512);
  const tooLong = `${longest}r`;
  const [fits, longer, moved] = await call(socket, join(longest), join(tooLong), { call: 'join_sockets', rooms: [longest], room: tooLong });
  assert.deepEqual(fits, DONE);
  for (const answer of [longer, moved, ...(await enter(socket, tooLong))]) assert.match(answer.invalid, /^room: /);
  assert.deepEqual(await joined(socket), [longest]);
});
