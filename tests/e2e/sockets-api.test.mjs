// Backends ask who is connected and where, and move and end sockets, as `io` does in Node.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, disconnected, received, TRANSPORTS } from '../support/client.mjs';
import { startNode } from '../support/node-server.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const RIGHTS = {
  nothing: [],
  finds: ['find'],
  everyone: ['find', 'everyone', 'room:*'],
  room: ['find', 'room:hall'],
  user: ['find', 'user:ada'],
  'user-event': ['find', 'user:ada:news'],
  role: ['find', 'role:agent'],
  socket: ['find', 'socket'],
  namespace: ['find', 'everyone', 'namespace:/staff'],
  emits: ['emit', 'room:*', 'everyone', 'socket', 'user:*', 'role:*'],
  moves: ['move', 'room:hall', 'room:lobby*'],
  ends: ['disconnect', 'room:hall'],
};
const keys = Object.entries(RIGHTS).map(
  ([name, rights]) => `[[api.keys]]\nname = "${name}"\nkey = "key-of-${name}"\nrights = ${JSON.stringify(rights)}\n`,
);
const CAPABILITIES = {
  wasm: 'capabilities',
  grants: ['payments', 'notify', 'role:*', 'clients', 'room:*', 'socket', 'everyone', 'emit', 'ask', 'handshake', 'find', 'disconnect', 'namespace:/staff'],
  config: { namespaces: ['/', '/staff'] },
};
const server = await startServer({ after }, { config: keys.join(''), plugins: [CAPABILITIES], recovery: true });

const get = (path, as) => server.api('GET', `/api/v1/${path}`, undefined, as && `key-of-${as}`);
const post = (path, body, as) => server.api('POST', `/api/v1/sockets/${path}`, body, as && `key-of-${as}`);

/** What a list has, all pages of it. */
async function all(path, limit = 1000) {
  const [name] = path.split('?');
  const [rows, pages] = [[], []];
  for (let cursor = ''; cursor !== null; ) {
    const answer = await get(`${path}${path.includes('?') ? '&' : '?'}limit=${limit}${cursor && `&cursor=${cursor}`}`);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    assert.equal(answer.body.silent, null);
    assert.ok(answer.body[name].length <= limit);
    rows.push(...answer.body[name]);
    pages.push(answer.body[name].length);
    cursor = answer.body.next;
  }
  return Object.assign(rows, { pages });
}

const ids = (rows) => rows.map(({ id }) => id).sort();

async function crowd(t, options) {
  const user = (sub, role, more) => connect(t, server, { token: token({ sub, role, name: `${sub}!` }), ...options, ...more });
  const sockets = {
    ada: await user('ada', 'admin'),
    tab: await user('ada', 'admin'),
    bob: await user('bob', 'agent'),
    nobody: await connect(t, server, options),
    staff: await user('ada', 'admin', { namespace: '/staff' }),
  };
  assert.equal((await post('join', { sockets: [sockets.bob.id, sockets.nobody.id], join: ['hall'] })).status, 200);
  return sockets;
}

/** Nobody of another test is there any more. */
const alone = () => until(async () => (await get('clients/count')).body.count === 0);

function assertRefused({ status, body }, expected, code, message) {
  assert.equal(status, expected, JSON.stringify(body));
  assert.equal(body.error.code, code);
  assert.match(body.error.message, message);
}

for (const transport of TRANSPORTS) {
  test(`a backend learns all that there is to know of a socket, ${transport}`, async (t) => {
    await alone();
    const before = Date.now();
    const { ada, staff } = await crowd(t, { transports: [transport] });
    await ask(ada, 'capabilities', [{ call: 'join', room: 'desk' }, { call: 'set_data', data: { colour: 'red' } }]);
    const { status, body } = await get(`sockets/${ada.id}?data=true`);
    assert.equal(status, 200);
    const { since, ...known } = body;
    assert.deepEqual(known, {
      id: ada.id,
      namespace: '/',
      user: { id: 'ada', username: 'ada!', roles: ['admin'] },
      rooms: ['desk'],
      address: '127.0.0.1',
      recovered: false,
      data: { capabilities: { colour: 'red' } },
    });
    const time = Date.parse(since);
    assert.ok(time >= before - 1000 && time <= Date.now() && new Date(time).toISOString() === since, since);
    assert.deepEqual((await get(`sockets?socket=${ada.id}`)).body, {
      sockets: [{ since, ...known, data: undefined }].map((it) => JSON.parse(JSON.stringify(it))),
      next: null,
      silent: null,
    });
    assertRefused(await get(`sockets/${staff.id}`), 404, 'not_found', /no socket/);
    assert.equal((await get(`sockets/${staff.id}?namespace=/staff`)).body.namespace, '/staff');
  });
}

test('sockets are found by room, user, role, id and namespace', async (t) => {
  await alone();
  const { ada, tab, bob, nobody, staff } = await crowd(t);
  const cases = {
    sockets: [ada, tab, bob, nobody],
    'sockets?room=hall': [bob, nobody],
    'sockets?user=ada': [ada, tab],
    'sockets?role=agent': [bob],
    'sockets?role=agent&user=ada': [ada, tab, bob],
    [`sockets?socket=${tab.id}&room=hall`]: [tab, bob, nobody],
    'sockets?except=user:ada': [bob, nobody],
    [`sockets?room=hall&except=${bob.id}`]: [nobody],
    'sockets?room=none': [],
    'sockets?namespace=/staff': [staff],
    'sockets?namespace=/staff&user=ada': [staff],
    'sockets?namespace=/nowhere': [],
  };
  for (const [path, expected] of Object.entries(cases)) {
    for (const limit of [1, 1000]) assert.deepEqual(ids(await all(path, limit)), ids(expected), path);
  }
});

test('users that are connected are listed, with how many sockets they have', async (t) => {
  await alone();
  const { staff } = await crowd(t);
  await connect(t, server, { token: token({ sub: 'ada', roles: ['guest'] }) });
  const users = (await all('users')).map(({ since, ...user }) => user);
  assert.deepEqual(users.map(({ id, sockets }) => [id, sockets]), [['ada', 3], ['bob', 1]]);
  assert.deepEqual(users[0].roles.sort(), ['admin', 'guest']);
  assert.deepEqual(users[1], { id: 'bob', username: 'bob!', roles: ['agent'], sockets: 1 });
  assert.deepEqual((await all('users?room=hall')).map(({ id }) => id), ['bob']);
  assert.equal((await get('users/ada')).body.sockets, 3);
  assert.equal((await get('users/ada?namespace=/staff')).body.sockets, 1);
  assertRefused(await get('users/eve'), 404, 'not_found', /not connected/);
  staff.disconnect();
  await until(async () => (await get('users/ada?namespace=/staff')).status === 404);
});

test("rooms are listed with their sizes, the host's own only where they are asked for", async (t) => {
  await alone();
  const { ada, tab } = await crowd(t);
  await post('join', { sockets: [ada.id, tab.id], join: ['hall', 'hall:1', 'ünder'] });
  await ask(ada, 'subscribe:payments');
  const named = async (path) => (await all(path)).map(({ name, kind, sockets }) => [name, kind, sockets]);
  const own = [['hall', 'room', 4], ['hall:1', 'room', 2], ['ünder', 'room', 2]];
  assert.deepEqual(await named('rooms'), own);
  assert.deepEqual(await named('rooms?prefix=hall:'), [own[1]]);
  assert.deepEqual(await named('rooms?kind=user'), [['user:ada', 'user', 2], ['user:bob', 'user', 1]]);
  assert.deepEqual(await named('rooms?kind=role&prefix=role:ad'), [['role:admin', 'role', 2]]);
  assert.equal((await named('rooms?kind=room&kind=user&kind=role&kind=payments')).length, 8);
  assert.deepEqual(await named('rooms?kind=payments'), [['payments', 'payments', 1]]);
  assert.deepEqual(await named('rooms?namespace=/staff'), []);
  // What a key may not know of is not told.
  assert.deepEqual((await get('rooms', 'room')).body.rooms.map(({ name }) => name), ['hall']);
  assert.deepEqual((await get('rooms?kind=user', 'room')).body.rooms, []);
  assert.deepEqual((await get('rooms?kind=user', 'user')).body.rooms.map(({ name }) => name), ['user:ada']);
});

test('pages are small, in one order, and nothing that stays is left out or told twice', async (t) => {
  await alone();
  const sockets = await Promise.all(Array.from({ length: 25 }, () => connect(t, server)));
  const pages = await all('sockets', 10);
  assert.deepEqual(pages.pages, [10, 10, 5]);
  assert.deepEqual(pages.map(({ id }) => id), ids(sockets));
  const stay = ids(sockets).filter((id) => id !== pages[9].id && id !== pages[15].id);
  // Some go and some come between the pages.
  const first = (await get('sockets?limit=10')).body;
  const gone = sockets.filter(({ id }) => id === first.sockets[9].id || id === pages[15].id);
  gone.forEach((socket) => socket.disconnect());
  await until(async () => (await get('clients/count')).body.count === 23);
  const more = await Promise.all(Array.from({ length: 5 }, () => connect(t, server)));
  const rest = [];
  for (let cursor = first.next; cursor; ) {
    const { body } = await get(`sockets?limit=10&cursor=${cursor}`);
    rest.push(...body.sockets);
    cursor = body.next;
  }
  const told = ids([...first.sockets, ...rest]);
  assert.equal(new Set(told).size, told.length);
  for (const id of stay) assert.ok(told.includes(id));
  for (const id of told) assert.ok(id === pages[9].id || [...stay, ...ids(more)].includes(id), id);
});

test('a page is bounded in bytes, too', async (t) => {
  await alone();
  const sockets = await Promise.all(Array.from({ length: 5 }, () => connect(t, server)));
  const long = Array.from({ length: 90 }, (_, index) => `${index}`.padEnd(500, 'x'));
  for (let times = 0; times < 10; times++) {
    const { status } = await post('join', { everyone: true, join: long.map((room) => `${times}${room}`) });
    assert.equal(status, 200);
  }
  const pages = await all('sockets');
  assert.deepEqual(ids(pages), ids(sockets));
  assert.deepEqual(pages.pages, [2, 2, 1], 'each socket takes 450 kB');
});

test('what is no cursor of a list, and what is not understood, is refused', async () => {
  const sockets = await Promise.all([1, 2, 3].map(() => connect({ after }, server)));
  const { next } = (await get('sockets?limit=1')).body;
  const cursors = ['x', '!', '', `${next}AAAA`, next.slice(1), encodeURIComponent(sockets[0].id)];
  for (const cursor of cursors) assertRefused(await get(`sockets?cursor=${cursor}`), 400, 'invalid_payload', /cursor: it is none/);
  for (const list of ['users', 'rooms', 'sockets?room=hall', 'sockets?namespace=/staff']) {
    const path = `${list}${list.includes('?') ? '&' : '?'}cursor=${next}`;
    assertRefused(await get(path), 400, 'invalid_payload', /cursor: it is none of this list/);
  }
  for (const [path, message] of [
    ['sockets?room=%FF', /the query is not UTF-8/],
    ['sockets?limit=0', /limit: expected 1 to 1000/],
    ['sockets?limit=1001', /limit: expected 1 to 1000/],
    ['sockets?limit=x', /limit: expected/],
    ['sockets?limit=1&limit=2', /limit: it is there twice/],
    ['sockets?namespace=/&namespace=/staff', /namespace: it is there twice/],
    ['sockets?data=1', /data: expected true or false/],
    ['sockets?colour=red', /a parameter that is not known here; known: namespace, room, /],
    ['rooms?kind=user&kind=other', /kind: expected one of room, user, role, payments/],
    ['rooms?room=hall', /not known here/],
    ['users?data=true', /not known here/],
    ['sockets/x?limit=1', /not known here/],
    ['sockets?user=', /users: "" is no user id/],
    [`users/${'x'.repeat(129)}`, /not valid/],
  ]) assertRefused(await get(path), 400, 'invalid_payload', message);
  assert.equal((await get('sockets?limit=1000')).status, 200);
  sockets.forEach((socket) => socket.disconnect());
});

// Each key may ask for this and nothing else of it.
const LISTS = {
  'sockets': ['everyone', 'namespace'],
  'sockets?room=hall': ['everyone', 'room'],
  'sockets?room=user:ada': [],
  'sockets?except=hall': ['everyone'],
  'sockets?except=user:ada': [],
  'sockets?except=role:agent': [],
  'users?room=hall&except=lobby': ['everyone'],
  'sockets?user=ada': ['user'],
  'sockets?user=bob': [],
  'sockets?role=agent': ['role'],
  'sockets/x': ['socket'],
  'users': ['everyone', 'namespace'],
  'users/ada': ['user'],
  'sockets?namespace=/staff': ['namespace'],
  'rooms?namespace=/staff': ['namespace'],
  'rooms': ['finds', 'everyone', 'room', 'user', 'user-event', 'role', 'socket', 'namespace'],
};
for (const [path, may] of Object.entries(LISTS)) {
  test(`GET ${path} needs rights`, async () => {
    for (const as of Object.keys(RIGHTS)) {
      const answer = await get(path, as);
      if (may.includes(as)) assert.ok([200, 404].includes(answer.status), `${as}: ${JSON.stringify(answer.body)}`);
      else assertRefused(answer, 403, 'permission_denied', /this API key does not have the right "/);
    }
  });
}

test('of the rooms of a socket a key is told those that it may know of', async (t) => {
  const { bob } = await crowd(t);
  await post('join', { sockets: [bob.id], join: ['lobby'] });
  const its = async (as) => (await get('sockets?room=hall', as)).body.sockets.find(({ id }) => id === bob.id).rooms;
  assert.deepEqual([await its('room'), await its('everyone')], [['hall'], ['hall', 'lobby']]);
});

test('sockets join and leave rooms', async (t) => {
  await alone();
  const { ada, tab, bob, nobody } = await crowd(t);
  const inRoom = async (room) => ids(await all(`sockets?room=${room}`));
  for (const [whom, expected] of [
    [{ users: ['ada'] }, [ada, tab]],
    [{ roles: ['agent'] }, [bob]],
    [{ rooms: ['hall'] }, [bob, nobody]],
    [{ sockets: [tab.id] }, [tab]],
    [{ everyone: true, except: ['hall'] }, [ada, tab]],
    [{ everyone: true }, [ada, tab, bob, nobody]],
    [{ rooms: ['none'] }, []],
  ]) {
    const selected = { selected: expected.length };
    assert.deepEqual((await post('join', { ...whom, join: ['one', 'two'] })).body, selected, JSON.stringify(whom));
    for (const room of ['one', 'two']) assert.deepEqual(await inRoom(room), ids(expected));
    assert.deepEqual((await post('leave', { ...whom, leave: ['one'] })).body, selected);
    assert.deepEqual([await inRoom('one'), await inRoom('two')], [[], ids(expected)]);
    await post('leave', { everyone: true, leave: ['two'] });
  }
  // What is joined counts for emits at once.
  await post('join', { users: ['ada'], join: ['vip'] });
  const { body } = await server.api('POST', '/api/v1/emit', { rooms: ['vip'], event: 'told' });
  assert.deepEqual(body, { delivered: 2 });
  await until(() => received(ada, 'told').length === 1);
});

test('the connections of a selection end', async (t) => {
  await alone();
  const { ada, tab, bob, staff } = await crowd(t);
  assert.deepEqual((await post('disconnect', { users: ['ada'] })).body, { selected: 2 });
  for (const socket of [ada, tab]) assert.equal(await disconnected(socket), 'io server disconnect');
  assert.ok(bob.connected && staff.connected, 'nobody of another namespace');
  const beside = bob.io.socket('/staff', {}).connect();
  await until(() => beside.connected);
  assert.deepEqual((await post('disconnect', { rooms: ['hall'], close: true })).body, { selected: 2 });
  assert.equal(await disconnected(bob), 'io server disconnect');
  await until(() => !beside.connected && bob.io.engine.readyState === 'closed');
  assert.ok(staff.connected);
  assert.deepEqual((await post('disconnect', { namespace: '/staff', everyone: true })).body, { selected: 1 });
  await disconnected(staff);
});

const hall = { rooms: ['hall'] };
const MOVES = {
  'join hall': ['join', { ...hall, join: ['lobby:1'] }, ['moves']],
  'join other': ['join', { ...hall, join: ['lobby', 'other'] }, []],
  "join a user's room": ['join', { ...hall, join: ['user:ada'] }, []],
  'leave hall': ['leave', { ...hall, leave: ['hall'] }, ['moves']],
  'leave of everyone': ['leave', { everyone: true, leave: ['hall'] }, []],
  'join in a namespace': ['join', { ...hall, namespace: '/staff', join: ['lobby'] }, []],
  disconnect: ['disconnect', hall, ['ends']],
  'disconnect everyone': ['disconnect', { everyone: true }, []],
};
for (const [name, [path, body, may]] of Object.entries(MOVES)) {
  test(`to have sockets ${name} needs rights`, async () => {
    for (const as of Object.keys(RIGHTS)) {
      const answer = await post(path, body, as);
      if (may.includes(as)) assert.deepEqual([answer.status, answer.body], [200, { selected: 0 }], as);
      else assertRefused(answer, 403, 'permission_denied', /this API key does not have the right "/);
    }
  });
}

const MANY = Array.from({ length: 101 }, (_, index) => `room-${index}`);
for (const [path, body, message] of [
  ['join', { join: ['a'] }, /name "rooms", "users", "roles" or "sockets", or say "everyone": true/],
  ['join', { everyone: true, rooms: ['a'], join: ['a'] }, /"everyone" is for nobody in particular/],
  ['join', { everyone: true }, /say the rooms to "join", and nothing else/],
  ['join', { everyone: true, leave: ['a'] }, /say the rooms to "join"/],
  ['join', { everyone: true, join: ['a'], leave: ['a'] }, /say the rooms to "join"/],
  ['leave', { everyone: true, join: ['a'] }, /say the rooms to "leave"/],
  ['join', { everyone: true, join: [] }, /name 1 to 100 rooms/],
  ['join', { everyone: true, join: MANY }, /name 1 to 100 rooms/],
  ['join', { everyone: true, join: ['x'.repeat(513)] }, /room: a name has at most 512 bytes/],
  ['join', { everyone: true, join: 'a' }, /the body is not understood: invalid type/],
  ['join', { everyone: true, join: ['a'], rooom: [] }, /unknown field `rooom`/],
  ['disconnect', { everyone: true, join: ['a'] }, /nothing is joined or left here/],
  ['disconnect', { everyone: true, close: 1 }, /not understood/],
  ['disconnect', [], /not a JSON object/],
]) {
  test(`${path} with ${JSON.stringify(body).slice(0, 70)} is refused`, async () => {
    assertRefused(await post(path, body), 400, 'invalid_payload', message);
  });
}

test('at the bound, a hundred rooms are joined at once', async (t) => {
  const socket = await connect(t, server);
  assert.equal((await post('join', { sockets: [socket.id], join: MANY.slice(1) })).status, 200);
  assert.equal((await get(`sockets/${socket.id}`)).body.rooms.length, 100);
});

test("the same selections have the same sockets as with Node's io", async (t) => {
  await alone();
  const { io, url } = await startNode(t);
  const options = { transports: ['websocket'] };
  const node = [];
  for (let index = 0; index < 4; index++) node.push(await connect(t, { url }, options));
  const mixlab = [];
  for (let index = 0; index < 4; index++) mixlab.push(await connect(t, server, options));
  const name = (sockets, rows) => rows.map(({ id }) => sockets.findIndex((socket) => socket.id === id)).sort();
  const both = async (query, select) => {
    const theirs = name(node, await select(io).fetchSockets());
    assert.deepEqual(name(mixlab, await all(`sockets${query(mixlab)}`)), theirs);
    return theirs;
  };
  const change = async (path, body, does) => {
    does(io);
    assert.equal((await post(path, body(mixlab))).status, 200);
  };
  assert.deepEqual(await both(() => '', (it) => it), [0, 1, 2, 3]);
  await change('join', ([a, b]) => ({ sockets: [a.id, b.id], join: ['one'] }), (it) => it.in([node[0].id, node[1].id]).socketsJoin('one'));
  await change('join', ([, , c]) => ({ sockets: [c.id], join: ['two', 'three'] }), (it) => it.in(node[2].id).socketsJoin(['two', 'three']));
  assert.deepEqual(await both(() => '?room=one', (it) => it.in('one')), [0, 1]);
  assert.deepEqual(await both(() => '?room=one&room=two', (it) => it.in('one').in('two')), [0, 1, 2]);
  assert.deepEqual(await both(() => '?except=one', (it) => it.except('one')), [2, 3]);
  assert.deepEqual(await both(([a]) => `?room=one&except=${a.id}`, (it) => it.in('one').except(node[0].id)), [1]);
  assert.deepEqual(await both(() => '?room=none', (it) => it.in('none')), []);
  await change('leave', ([a]) => ({ sockets: [a.id], leave: ['one', 'never'] }), (it) => it.in(node[0].id).socketsLeave(['one', 'never']));
  assert.deepEqual(await both(() => '?room=one', (it) => it.in('one')), [1]);
  await change('join', () => ({ rooms: ['one', 'two'], join: ['both'] }), (it) => it.in(['one', 'two']).socketsJoin('both'));
  assert.deepEqual(await both(() => '?room=both', (it) => it.in('both')), [1, 2]);
  const sizes = (await all('rooms')).map(({ name: room, sockets }) => [room, sockets]);
  const theirs = [...io.of('/').adapter.rooms].filter(([room]) => !node.some(({ id }) => id === room));
  assert.deepEqual(sizes, theirs.map(([room, { size }]) => [room, size]).sort());
  await change('disconnect', () => ({ rooms: ['both'] }), (it) => it.in('both').disconnectSockets());
  for (const sockets of [node, mixlab]) {
    for (const socket of sockets.slice(1, 3)) assert.equal(await disconnected(socket), 'io server disconnect');
  }
  assert.deepEqual(await both(() => '', (it) => it), [0, 3]);
  await change('disconnect', () => ({ everyone: true, close: true }), (it) => it.disconnectSockets(true));
  for (const socket of [node[0], mixlab[0]]) await disconnected(socket);
  assert.deepEqual(await both(() => '', (it) => it), []);
});
