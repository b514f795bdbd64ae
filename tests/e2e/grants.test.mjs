// Every function of wit/ that plugins import: without a grant it is refused at load, with a grant for something
// else at the call, and with the grant it does what it is for.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { plugin } from '../support/plugins.mjs';
import { ROOT, startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';

const URL_OF_NOBODY = 'http://127.0.0.1:1';

/** The guests that call the functions: the grants with which they may, and those for something else. */
const GUESTS = {
  capabilities: {
    enough: ['payments', 'notify', 'role:*', 'clients', 'room:*', 'emit', 'ask', 'handshake', 'find', 'disconnect'],
    other: ['payments', 'notify:8', 'role:staff', 'clients', 'room:c', 'emit:olds', 'ask:olds', 'handshake', 'find', 'disconnect'],
  },
  requests: { enough: [`http:${URL_OF_NOBODY}`], other: [`http:${URL_OF_NOBODY}/other`] },
  lobby: {
    enough: ['presence:*', 'history:*', 'room:*', 'user:*', 'emit'],
    other: ['presence:c', 'history:c', 'room:c', 'user:8', 'emit:olds'],
  },
  remembers: {
    enough: ['store', 'store:tally', 'emit', 'ask', 'everyone'],
    other: ['store', 'store:other', 'emit', 'ask', 'everyone'],
  },
  alarms: { enough: ['timers', 'store', 'emit', 'everyone'], other: ['timers', 'store', 'emit', 'everyone'] },
};

/** What a guest is asked for to have it call a function. */
const capable = (call, rest) => ['capabilities', 'capabilities', [{ call, ...rest }]];
const present = (call, rest) => ['lobby', 'lobby', [{ call, room: 'a', ...rest }]];
const stored = (step) => ['remembers', 'remembers', 'tally', [step]];

/**
 * By function: how to have it called, the grant that it needs at load, and the grant that is named as missing
 * where there is one for something else; none where the grant has no parameter or none is needed.
 */
const FUNCTIONS = {
  'connection.id': [capable('connection')],
  'connection.namespace': [capable('connection')],
  'connection.address': [capable('connection')],
  'connection.user': [capable('connection')],
  'connection.recovered': [capable('connection')],
  'log.write': [capable('log', { message: 'a line of its own' })],
  'sockets.data': [capable('data')],
  'sockets.set-data': [capable('set_data', { data: 1 })],

  'broadcast.broadcast-payment-update': [capable('broadcast_payment_update', { data: 1 }), 'payments'],
  'broadcast.send-user-notification': [
    capable('send_user_notification', { user: '7', notification: { title: 'x' } }),
    'notify',
    'notify:7',
  ],
  'broadcast.broadcast-to-role': [
    capable('broadcast_to_role', { role: 'admin', event: 'news', data: 1 }),
    'role:ROLE',
    'role:admin:news',
  ],
  'broadcast.connected-clients-count': [capable('connected_clients_count'), 'clients'],
  'rooms.join': [capable('join', { room: 'a' }), 'room:ROOM', 'room:a'],
  'rooms.leave': [capable('leave', { room: 'a' }), 'room:ROOM', 'room:a'],
  'rooms.joined': [capable('joined'), 'room:ROOM'],
  'rooms.join-sockets': [capable('join_sockets', { rooms: ['a'], room: 'c' }), 'room:ROOM', 'room:a'],
  'rooms.leave-sockets': [capable('leave_sockets', { rooms: ['c'], room: 'a' }), 'room:ROOM', 'room:a'],
  'emit.emit': [capable('emit', { event: 'news', data: 1 }), 'emit', 'emit:news'],
  'ask.ask': [capable('ask', { event: 'news', data: 1 }), 'ask', 'ask:news'],
  'ask.ask-sockets': [capable('ask', { event: 'news', data: 1, rooms: ['a'] }), 'ask', 'ask:news'],
  'sockets.handshake': [capable('handshake'), 'handshake'],
  'sockets.find': [capable('find', { rooms: ['a'] }), 'find', 'room:a'],
  'sockets.count': [capable('count', { rooms: ['a'] }), 'find', 'room:a'],
  'sockets.disconnect': [capable('disconnect', { rooms: ['a'], close: false }), 'disconnect', 'room:a'],
  'http.send': [['requests', 'requests', [{ url: `${URL_OF_NOBODY}/` }]], 'http:URL', `http:${URL_OF_NOBODY}/`],
  'history.since': [['lobby', 'lobby', [{ call: 'since', topic: 'a', limit: 1 }]], 'history:TOPIC', 'history:a'],
  'presence.enter': [present('enter', { data: 1 }), 'presence:ROOM', 'presence:a'],
  'presence.leave': [present('exit'), 'presence:ROOM', 'presence:a'],
  'presence.members': [present('members'), 'presence:ROOM', 'presence:a'],
  'presence.count': [present('count'), 'presence:ROOM', 'presence:a'],
  'store.get': [stored({ get: 'k' }), 'store', 'store:tally:read'],
  'store.exists': [stored({ exists: 'k' }), 'store', 'store:tally:read'],
  'store.scan': [stored({ scan: ['', null, 1] }), 'store', 'store:tally:read'],
  'store.set': [stored({ set: ['k', 1] }), 'store', 'store:tally'],
  'store.delete': [stored({ delete: 'k' }), 'store', 'store:tally'],
  'store.add': [stored({ add: ['k', 1] }), 'store', 'store:tally'],
  'timers.set': [['alarms', 'alarms', 'name', 3_600_000, {}, false], 'timers'],
  'timers.cancel': [['alarms', 'alarms:cancel', 'name'], 'timers'],
};

/** The functions of the interfaces that a plugin imports. */
function imported() {
  const wit = readFileSync(join(ROOT, 'wit/mixlab.wit'), 'utf8');
  const [, world] = wit.match(/\nworld plugin \{\n([^]*?)\n\}/);
  const interfaces = [...world.matchAll(/import ([\w-]+);/g)].map(([, name]) => name);
  return interfaces.flatMap((name) => {
    const [, body] = wit.match(new RegExp(`\\ninterface ${name} \\{\\n([^]*?)\\n\\}`));
    return [...body.matchAll(/^    ([\w-]+): func/gm)].map(([, func]) => `${name}.${func}`);
  });
}

const withGrants = (which) => Object.entries(GUESTS).map(([wasm, grants]) => ({ wasm, grants: grants[which] }));
/** Whether this grant, or one for some parameter of it, makes that a plugin may be loaded. */
const isFor = (needed, grant) => grant.split(':')[0] === needed.split(':')[0];
const lacking = Object.entries(FUNCTIONS).flatMap(([name, [[wasm], needed]]) =>
  needed === undefined
    ? []
    : [{ wasm, name: name.replace('.', '-'), grants: GUESTS[wasm].enough.filter((grant) => !isFor(needed, grant)) }],
);

const granting = await startServer({ after }, { plugins: withGrants('enough') });
const narrow = await startServer({ after }, { plugins: withGrants('other') });
const ungranting = await startServer({ after }, { plugins: lacking });

/** What the host said to the call, whether or not the guest answers with a list. */
async function said(t, server, [, event, ...args]) {
  const socket = await connect(t, server, { token: token({ sub: '7', role: 'admin' }) });
  const answer = await ask(socket, event, ...args);
  return Array.isArray(answer) ? answer[0] : answer;
}

test('every function that a plugin imports is in the table', () => {
  assert.deepEqual(Object.keys(FUNCTIONS).sort(), imported().sort());
});

for (const [name, [call, needed, missing]] of Object.entries(FUNCTIONS)) {
  if (needed !== undefined) {
    test(`${name} without a grant is refused at load`, async () => {
      const { state, refusal } = await plugin(ungranting, name.replace('.', '-'));
      assert.equal(state, 'refused');
      const [, first, grant] = refusal.match(/^it imports mixlab:plugin\/(\S+), which needs a grant: add "(.*)" to its grants/) ?? [];
      // The first of those that need the same is named.
      assert.deepEqual([FUNCTIONS[first]?.[1], grant], [needed, needed], refusal);
    });
  }
  if (missing !== undefined) {
    test(`${name} with a grant for something else is denied at the call`, async (t) => {
      const { denied } = await said(t, narrow, call);
      assert.equal(denied, `mixlab.toml does not grant "${missing}"`);
    });
  }
  test(`${name} with the grant is called`, async (t) => {
    for (const server of missing === undefined ? [granting, narrow] : [granting]) {
      const answer = (await said(t, server, call)) ?? null;
      const { denied, invalid, error } = answer ?? {};
      assert.deepEqual([denied, invalid, error], [undefined, undefined, undefined], JSON.stringify(answer));
    }
  });
}
