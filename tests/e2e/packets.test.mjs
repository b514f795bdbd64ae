// What clients send and get: arguments, acks and attachments, as they should be and as they
// should not. Whatever comes, the server and the other sockets go on.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, askAll, connect, disconnected, nextEvent, open, received, TRANSPORTS } from '../support/client.mjs';
import { rawPolling, rawSocket } from '../support/raw.mjs';
import { startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const PLUGINS = [
  'echo',
  { wasm: 'custom-event', grants: ['emit:custom_response'] },
  { wasm: 'booking', grants: ['role:admin:new_booking', 'notify'] },
];

const server = await startServer({ after }, { plugins: PLUGINS });

/** A socket of somebody else, who must not notice anything of what the others do. */
const bystander = await connect({ after }, server);

/** The service goes on for those who are connected and for those who come. */
async function assertServing(t, on = server, other = bystander) {
  assert.deepEqual(await askAll(other, 'echo', 'still', { here: 1 }), ['still', { here: 1 }]);
  assert.equal(await ask(await connect(t, on), 'echo:ping'), 'pong');
}

// Arguments

const bytes = (...values) => Buffer.from(values);
const BIG = Buffer.alloc(300_000, 'MixLab');

const ARGUMENTS = {
  none: [],
  one: ['text'],
  several: [1, 'two', { three: 3 }, [4], null, true, 5.5],
  'null alone': [null],
  'an empty text': [''],
  'empty things': [{}, [], [[]], [{}], ''],
  'a list of lists': [[[1, [2, [3]]], []]],
  'unicode of every kind': ['ä ß € 漢字 עברית 🇩🇪 👩‍👩‍👧 e\u0301 \u2028\u2029\u0000\u001f\ufeff\uffff', { 'ключ 🔑': '值' }],
  'what JSON escapes': ['"\\/\b\f\n\r\t</script>', { '"': '\\' }],
  'names that objects have': [{ constructor: 1, toString: 2, hasOwnProperty: 3, length: 4, '': 5 }],
  numbers: [
    0,
    -1,
    1e21,
    1e-7,
    0.1,
    123456789.12345678,
    Number.MAX_SAFE_INTEGER,
    Number.MIN_SAFE_INTEGER,
    Number.MAX_VALUE,
    5e-324,
  ],
  'a long text': ['é'.repeat(200_000)],
  'many of them': Array.from({ length: 1000 }, (_, i) => i),
  'deep nesting': [JSON.parse('['.repeat(126) + ']'.repeat(126))],
  'what looks like an attachment': [
    { _placeholder: true, num: 0 },
    { _placeholder: true, num: -1 },
  ],
  'what looks like an error': [{ error: { code: 'x', message: 'y' } }],
  bytes: [bytes(1, 2, 3)],
  'no bytes': [bytes()],
  'every byte': [Buffer.from(Array.from({ length: 256 }, (_, i) => i))],
  'nested bytes': [{ a: [{ b: bytes(0, 255) }, bytes(1)], c: bytes(2) }, bytes(3), [[bytes(4)]]],
  'bytes between other things': ['a', bytes(1), 2, { b: null }, bytes(3)],
  'the same bytes twice': [BIG, { again: BIG }],
  'much of both': [{ file: BIG, name: 'x'.repeat(100_000) }],
};

for (const transport of TRANSPORTS) {
  for (const [name, args] of Object.entries(ARGUMENTS)) {
    test(`arguments go there and back unchanged, in an ack and in an event: ${name}, ${transport}`, async (t) => {
      const socket = await connect(t, server, { transports: [transport] });
      assert.deepEqual(await askAll(socket, 'echo', ...args), args);
      assert.deepEqual(await askAll(socket, 'custom_event', ...args), args);
      assert.deepEqual(await nextEvent(socket, 'custom_response'), args);
    });
  }

  test(`an event without an ack is handled and not answered, ${transport}`, async (t) => {
    const socket = await connect(t, server, { transports: [transport] });
    socket.emit('custom_event', 1);
    assert.deepEqual(await nextEvent(socket, 'custom_response'), [1]);
    assert.deepEqual(received(socket, 'mixlab:error'), []);
  });

  test(`every ack goes to its own event, ${transport}`, async (t) => {
    const socket = await connect(t, server, { transports: [transport] });
    const acks = await Promise.all([...Array(300).keys()].map((i) => ask(socket, 'echo', i % 3 ? i : bytes(i % 256))));
    acks.forEach((ack, i) => assert.deepEqual(ack, i % 3 ? i : bytes(i % 256)));
  });

  test(`an unknown event is answered with unknown_event, ${transport}`, async (t) => {
    const socket = await connect(t, server, { transports: [transport] });
    for (const event of ['nobody:knows', '', '__proto__', 'Echo', 'echo ', '😀']) {
      const error = { code: 'unknown_event', message: `no plugin handles event "${event}"`, temporary: false };
      assert.deepEqual(await askAll(socket, event, 1, bytes(1)), [{ error }]);
      socket.emit(event, 1, bytes(1));
      assert.deepEqual(await nextEvent(socket, 'mixlab:error'), [{ error }]);
    }
    assert.equal(socket.connected, true);
  });
}

test("an event's name may hold what JSON escapes", async (t) => {
  for (const event of ['say "hi"', 'back\\slash', 'line\nbreak', 'tab\t']) {
    const socket = await connect(t, server);
    assert.equal((await ask(socket, event, 1)).error.code, 'unknown_event');
    assert.equal(await ask(socket, 'echo:ping'), 'pong');
  }
});

test('a namespace that nobody serves is refused', async (t) => {
  await assert.rejects(connect(t, server, { namespace: '/nobody' }), { message: 'Invalid namespace' });
});

// The shipped booking plugin, and arguments that are not what it wants

const BOOKING = { studio: 'Studio A', start: '2026-12-24T18:00', hours: 2 };

const BAD_BOOKINGS = {
  'no arguments': [[], 'arguments'],
  null: [[null], '/0'],
  'a number': [[42], '/0'],
  'a text': [['Studio A'], '/0'],
  'a list': [[[BOOKING]], '/0'],
  true: [[true], '/0'],
  bytes: [[bytes(1, 2)], '/0'],
  'an empty object': [[{}], '/0'],
  'two bookings': [[BOOKING, BOOKING], 'arguments'],
  'a key too many': [[{ ...BOOKING, admin: true }], '/0'],
  'a key too few': [[{ studio: 'Studio A', hours: 2 }], '/0'],
  'no studio': [[{ ...BOOKING, studio: '' }], '/0/studio'],
  'a studio of 101 characters': [[{ ...BOOKING, studio: 'x'.repeat(101) }], '/0/studio'],
  'a number as studio': [[{ ...BOOKING, studio: 1 }], '/0/studio'],
  'no hours': [[{ ...BOOKING, hours: 0 }], '/0/hours'],
  '13 hours': [[{ ...BOOKING, hours: 13 }], '/0/hours'],
  'one hour and a half': [[{ ...BOOKING, hours: 1.5 }], '/0/hours'],
  'hours in a text': [[{ ...BOOKING, hours: '2' }], '/0/hours'],
};

const userOf = (t, sub, options) => connect(t, server, { token: token({ sub, ...options }) });

for (const [name, [args, path]] of Object.entries(BAD_BOOKINGS)) {
  test(`booking:create refuses with invalid_payload: ${name}`, async (t) => {
    const socket = await userOf(t, `bad ${name}`);
    const { error, ...more } = await ask(socket, 'booking:create', ...args);
    assert.deepEqual(more, {});
    assert.deepEqual(error, {
      code: 'invalid_payload',
      message: `${path}: ${error.details?.message}`,
      temporary: false,
      details: { ...error.details, path },
    });
    const { expected, found } = error.details;
    assert.ok(expected.length > 0 && found.length > 0 && found.length <= 101, JSON.stringify(error.details));
    socket.emit('booking:create', ...args);
    assert.deepEqual(await nextEvent(socket, 'mixlab:error'), [{ error }]);
    assert.deepEqual(received(socket, 'notification'), [], 'and nothing of it happens');
  });
}

test('a booking reaches the client, the admins and all devices of the user', async (t) => {
  const socket = await userOf(t, 'booker');
  const phone = await userOf(t, 'booker');
  const admin = await userOf(t, 'boss', { role: 'admin' });
  const booking = await ask(socket, 'booking:create', BOOKING);
  assert.deepEqual(booking, { id: booking.id, ...BOOKING, userId: 'booker' });
  assert.deepEqual(await nextEvent(admin, 'new_booking'), [booking]);
  for (const device of [socket, phone]) {
    const [{ timestamp, ...notification }] = await nextEvent(device, 'notification');
    assert.ok(Date.parse(timestamp) > 0);
    assert.deepEqual(notification, {
      title: 'Booking Confirmed',
      message: 'Your studio booking has been confirmed',
      type: 'success',
      bookingId: booking.id,
    });
  }
});

test("the plugin's own refusal has the plugin's code", async (t) => {
  const socket = await userOf(t, 'when');
  const { error } = await ask(socket, 'booking:create', { ...BOOKING, start: 'tomorrow' });
  assert.equal(error.code, 'invalid_start');
  assert.deepEqual(received(socket, 'notification'), []);
});

test('an event that needs a user is unauthorized before authentication and works after it', async (t) => {
  const socket = await connect(t, server);
  const { error } = await ask(socket, 'booking:create', BOOKING);
  assert.deepEqual(error, { code: 'unauthorized', message: error.message, temporary: false });
  socket.emit('booking:create', BOOKING);
  assert.deepEqual(await nextEvent(socket, 'mixlab:error'), [{ error }]);
  await ask(socket, 'authenticate', token({ sub: 'patient' }));
  assert.equal((await ask(socket, 'booking:create', BOOKING)).userId, 'patient');
});

test('a payload over the cap of its event is refused', async (t) => {
  const socket = await userOf(t, 'long');
  const { error } = await ask(socket, 'booking:create', { ...BOOKING, studio: 'x'.repeat(5000) });
  assert.equal(error.code, 'payload_too_large');
});

// Sizes

for (const transport of TRANSPORTS) {
  for (const [name, big] of [
    ['text', 'x'.repeat(2_000_000)],
    ['bytes', Buffer.alloc(2_000_000)],
  ]) {
    test(`2 MB of ${name} end the connection of the client that sends them, as with Node, ${transport}`, async (t) => {
      const socket = await connect(t, server, { transports: [transport] });
      socket.emit('echo', big);
      assert.match(await disconnected(socket), /^transport (close|error)$/);
      await assertServing(t);
    });
  }

  test(`900 kB go through, ${transport}`, async (t) => {
    const socket = await connect(t, server, { transports: [transport] });
    const big = 'x'.repeat(900_000);
    assert.equal(await ask(socket, 'echo', big), big);
  });
}

test('a WebSocket message that is too large is answered with close code 1009 or cut off', async (t) => {
  const socket = await rawSocket(t, server);
  socket.send(`42["echo","${'x'.repeat(1_100_000)}"]`);
  assert.ok([1009, 1005, 1006].includes(await socket.end()));
});

test('a polling request that is too large is refused with 413', async (t) => {
  const session = await rawPolling(server);
  assert.equal((await session.post(`42["echo","${'x'.repeat(1_100_000)}"]`)).status, 413);
  await assertServing(t);
});

// On the wire

const NUMBERS =
  '12345678901234567890,-9223372036854775808,18446744073709551615,9007199254740993,1.10,1.0,-0,-0.0,1e400,1E+2,0.1000000000000000055511151231257827,123456789012345678901234567890.123456789';

test('numbers keep every digit', async (t) => {
  const socket = await rawSocket(t, server);
  socket.send(`427["echo",${NUMBERS},{"n":[${NUMBERS}]}]`);
  assert.equal((await socket.frame(/^437(.*)$/))[1], `[${NUMBERS},{"n":[${NUMBERS}]}]`);
  socket.send(`42["custom_event",${NUMBERS}]`);
  assert.equal((await socket.frame(/^42\["custom_response",(.*)\]$/))[1], NUMBERS);
});

test('numbers that backends push keep every digit', async (t) => {
  const socket = await rawSocket(t, server, { auth: { token: token({ sub: 'digits', role: 'digits' }) } });
  await server.api('POST', '/api/v1/roles/digits/events/n', `[${NUMBERS}]`);
  assert.equal((await socket.frame(/^42\["n",\[(.*)\]\]$/))[1], NUMBERS);
  await server.api('POST', '/api/v1/users/digits/notifications', `{"n":[${NUMBERS}]}`);
  assert.equal((await socket.frame(/^42\["notification",\{"n":\[(.*?)\],"timestamp"/))[1], NUMBERS);
});

test('names of one object that come twice, and their order, are left alone', async (t) => {
  const socket = await rawSocket(t, server);
  socket.send('427["echo",{"b":1,"a":2,"b":3,"2":1,"1":2}]');
  assert.equal((await socket.frame(/^437(.*)$/))[1], '[{"b":1,"a":2,"b":3,"2":1,"1":2}]');
});

test('attachments go on the wire as the protocol has them', async (t) => {
  const socket = await rawSocket(t, server);
  socket.send('452-5["echo",{"_placeholder":true,"num":1},"x",{"_placeholder":true,"num":0}]', bytes(1), bytes(2));
  await socket.frame(/^462-5\[\{"_placeholder":true,"num":1\},"x",\{"_placeholder":true,"num":0\}\]$/);
  await until(() => socket.frames.length >= 2 && Buffer.isBuffer(socket.frames.at(-1)));
  assert.deepEqual(socket.frames.slice(-2), [bytes(1), bytes(2)]);
});

test('an escaped name is the same name', async (t) => {
  const socket = await rawSocket(t, server);
  socket.send('421["ec\\u0068o",1]');
  await socket.frame(/^431\[1\]$/);
});

test('a message in fragments is the same message, wherever it is cut', async (t) => {
  const socket = await rawSocket(t, server);
  for (const name of ['say "hi"', 'echo']) {
    const packet = `420[${JSON.stringify(name)},"é"]`;
    for (let cut = 0; cut <= Buffer.byteLength(packet); cut++) {
      const bytes = Buffer.from(packet);
      socket.ws.send(bytes.subarray(0, cut), { binary: false, fin: false });
      socket.ws.ping();
      socket.ws.send(bytes.subarray(cut), { binary: false, fin: true });
      const [answer] = await socket.frame(/^430.*$/);
      assert.match(answer, name === 'echo' ? /^430\["é"\]$/ : /"unknown_event"/);
      socket.frames.length = 0;
    }
  }
});

for (const name of [
  'connect',
  'connect_error',
  'disconnect',
  'disconnecting',
  'newListener',
  'removeListener',
]) {
  test(`the reserved name ${name} is no event from a client, and ends its connection as in Node`, async (t) => {
    const socket = await rawSocket(t, server);
    socket.send(`421["${name}",{}]`, '422["echo:ping"]');
    await until(() => socket.closed);
    assert.ok(!socket.frames.some((frame) => /^43/.test(frame)), String(socket.frames));
  });
}

test("the host's own name for errors means nothing as an event from a client", async (t) => {
  const socket = await rawSocket(t, server);
  socket.send('421["mixlab:error",{}]', '422["echo:ping"]');
  await socket.frame(/^431\[\{"error":\{"code":"unknown_event"/);
  await socket.frame(/^432\["pong"\]$/);
});

// Frames that a client of good will does not send. After them the connection works or is closed;
// it never hangs.
const NESTED = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
const PLACEHOLDER = '{"_placeholder":true,"num":0}';

const MALFORMED = {
  'text after the arguments': ['42["echo"]garbage'],
  'two packets in one frame': ['42["echo"]42["echo"]'],
  'arguments that do not end': ['42["echo",{"a":'],
  'a comma too many': ['420["echo",1,]'],
  'JSON that is none': ['420["echo",NaN]'],
  'a control character': ['420["echo","\u0000"]'],
  'half a surrogate pair': ['420["echo","\\ud800"]'],
  'no arguments': ['42'],
  'an empty array': ['42[]'],
  'an object': ['42{}'],
  'a text': ['42"echo"'],
  'null as name': ['42[null]'],
  'a number as name': ['42[1]'],
  'a list as name': ['42[["echo"]]'],
  'arguments nested 100,000 times deep': [`420["echo",${NESTED}]`],
  'arguments nested and never closed': [`420["echo",${'['.repeat(500_000)}`],
  'a name of 100 kB': [`420["${'x'.repeat(100_000)}"]`],
  'the largest ack id': ['429223372036854775807["echo"]'],
  'an ack id over it': ['429223372036854775808["echo"]'],
  'an ack id of a thousand digits': [`42${'9'.repeat(1000)}["echo"]`],
  'an ack id below 0': ['42-1["echo"]'],
  'an ack that nobody waits for': ['43999["x"]'],
  'an ack without an id': ['43["x"]'],
  'an ack with an attachment': [`461-0[${PLACEHOLDER}]`, bytes(1)],
  'a binary event without its number of attachments': [`45["echo",${PLACEHOLDER}]`],
  'a binary event without attachments': ['450-["echo"]'],
  'more attachments than memory': [`4599999999999-["echo",${PLACEHOLDER}]`],
  'more attachments than numbers': [`45${'9'.repeat(100)}-["echo",${PLACEHOLDER}]`],
  'as many attachments as there may be, and none comes': [`4510000-["echo",${PLACEHOLDER}]`],
  'an attachment in the middle of others': [`452-["echo",${PLACEHOLDER},${PLACEHOLDER}]`, bytes(1), `451-["echo",${PLACEHOLDER}]`],
  'an ack with too many attachments': [`465999999-0[${PLACEHOLDER}]`],
  'attachments below 0': [`45-1-["echo",${PLACEHOLDER}]`],
  'text where an attachment is due': [`452-["echo",${PLACEHOLDER},${PLACEHOLDER}]`, bytes(1), '42["echo"]'],
  'an attachment too many': [`451-["echo",${PLACEHOLDER}]`, bytes(1), bytes(2)],
  'an attachment that nobody announced': [bytes(1, 2, 3)],
  'an attachment of no bytes that nobody announced': [bytes()],
  'an attachment instead of the packet': [Buffer.from('42["echo"]')],
  'a packet type that is none': ['47["echo"]', '4x'],
  'a frame type that is none': ['9', 'x'],
  'an empty frame': [''],
  'an empty packet': ['4'],
  'a second connect': ['40', '40{"token":"garbage"}'],
  'a connect that is no JSON': ['40{', '40/x,{'],
  'a connect error from the client': ['44{"message":"x"}'],
  'a namespace that is none': ['40/nobody,', '42/nobody,["echo"]', '41/nobody,', '42/nobody["echo"]'],
  'a namespace of 100 kB': [`40/${'x'.repeat(100_000)},`],
  'a pong that nobody asked for': ['3', '3probe', '3'],
  'a ping from the client': ['2', '2probe'],
  'an upgrade of what is a WebSocket already': ['5'],
  'an open from the client': ['0{"sid":"x"}'],
  'a no-op': ['6'],
  'the end, and more': ['1', '42["echo"]'],
  'leaving the namespace, and more': ['41', '42["echo"]', '40', '42["echo"]'],
  'a thousand broken packets': Array(1000).fill('42["echo"'),
};

for (const [name, frames] of Object.entries(MALFORMED)) {
  test(`the server and other sockets go on after malformed frames: ${name}`, async (t) => {
    const socket = await rawSocket(t, server);
    socket.send(...frames, '4277["echo:ping"]');
    await until(() => socket.closed || socket.frames.includes('4377["pong"]'), {
      message: () => `answered or closed: ${JSON.stringify(socket.frames).slice(0, 1000)}`,
    });
    await assertServing(t);
  });
}

test('attachments that never come hold up nobody else', async (t) => {
  const socket = await rawSocket(t, server);
  socket.send(`453-0["echo",${PLACEHOLDER}]`, bytes(1));
  await assertServing(t);
  assert.equal(socket.closed, false);
  assert.ok(!socket.frames.some((frame) => /^4[36]/.test(frame)), 'half an event is no event');
});

test('a placeholder without its attachment is refused and not passed on', async (t) => {
  const socket = await rawSocket(t, server);
  // Whoever got it back would have to close its connection.
  socket.send('451-0["echo",{"_placeholder":true,"num":5}]', bytes(1), '421["echo:ping"]');
  await until(() => socket.closed || socket.frames.includes('431["pong"]'));
  assert.ok(!socket.frames.some((frame) => /^46/.test(frame)), JSON.stringify(socket.frames));
});

test('an event before the namespace is joined is not handled', async (t) => {
  const socket = await rawSocket(t, server, { join: false });
  socket.send('421["echo:ping"]');
  await until(() => socket.closed || socket.send('40') || socket.frames.some((frame) => /^40/.test(frame)));
  assert.ok(!socket.frames.some((frame) => /^43/.test(frame)));
  await assertServing(t);
});

test('bytes that are no UTF-8 end the connection', async (t) => {
  const socket = await rawSocket(t, server);
  socket.ws.send(Buffer.from([0x34, 0x32, 0xff, 0xfe]), { binary: false });
  await socket.end();
  await assertServing(t);
});

const BAD_POSTS = {
  garbage: 'garbage',
  'an empty body': '',
  separators: '\x1e\x1e',
  'bad base64': 'b!!!!',
  'broken JSON': '42["echo"',
  'an unknown type': '4x',
  bytes: Buffer.from([0xff, 0xfe, 0]),
};

for (const [name, body] of Object.entries(BAD_POSTS)) {
  test(`a malformed polling request does no harm: ${name}`, async (t) => {
    const session = await rawPolling(server);
    await session.post('40');
    const { status } = await session.post(body);
    assert.ok([200, 400].includes(status), `${status}`);
    await assertServing(t);
  });
}

for (const [name, query] of Object.entries({
  'another protocol version': 'EIO=3&transport=polling',
  'no version': 'transport=polling',
  'no transport': 'EIO=4',
  'a transport that is none': 'EIO=4&transport=carrier-pigeon',
  'a session that is none': 'EIO=4&transport=polling&sid=abc',
  'a session that is nobody’s': 'EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA',
  nothing: '',
})) {
  test(`a handshake that is none is a bad request: ${name}`, async () => {
    for (const method of ['GET', 'POST']) {
      const { status } = await server.api(method, `/socket.io/?${query}`, method === 'POST' ? '40' : undefined, null);
      assert.equal(status, 400, method);
    }
  });
}

// Clients that do not read

// The clients that stay are in this process, which may stand still for a while on a busy machine.
const HEARTBEAT = 'ping_interval = "300ms"\nping_timeout = "3s"';
const WRITE_TIMEOUT = 'write_timeout = "2s"';

/** How many clients are connected. */
const count = async (on) => (await on.api('GET', '/api/v1/clients/count')).body.count;

for (const [name, heartbeat] of [
  ['and answers no pings', HEARTBEAT],
  ['long before the next ping', 'ping_interval = "60s"'],
]) {
  test(`a client that stops reading is evicted while others go on, ${name}`, async (t) => {
    const config = `[socket]\n${WRITE_TIMEOUT}\n${heartbeat}`;
    const other = await startServer(t, { config, plugins: PLUGINS });
    const stalled = await rawSocket(t, other, { auth: { token: token({ sub: 1, role: 'crowd' }) } });
    const reader = await connect(t, other, { token: token({ sub: 2, role: 'crowd' }) });
    stalled.ws.pause();
    // More than the buffers of both ends hold.
    const data = 'x'.repeat(900_000);
    for (let i = 0; i < 20; i++) {
      await other.api('POST', '/api/v1/roles/crowd/events/load', JSON.stringify(data));
      const [load] = await nextEvent(reader, 'load');
      assert.equal(load.length, data.length);
    }
    await until(async () => (await count(other)) === 1, { message: 'the stalled client is gone' });
    await assertServing(t, other, reader);
  });
}

test('a client that sends and never reads its answers is evicted', async (t) => {
  const config = `[socket]\n${WRITE_TIMEOUT}\n${HEARTBEAT}`;
  const other = await startServer(t, { config, plugins: PLUGINS });
  const reader = await connect(t, other);
  const stalled = await rawSocket(t, other);
  stalled.ws.pause();
  const packet = `420["echo","${'x'.repeat(500_000)}"]`;
  const sending = setInterval(() => stalled.ws.bufferedAmount < 5_000_000 && stalled.send(packet), 1);
  t.after(() => clearInterval(sending));
  await until(async () => (await count(other)) === 1, { message: 'the stalled client is gone' });
  await assertServing(t, other, reader);
});

test('a client whose send buffer is full is disconnected, and nothing is dropped silently', async (t) => {
  const config = '[socket]\nsend_buffer = 16\nwrite_timeout = "60s"';
  const other = await startServer(t, { config, plugins: PLUGINS });
  const stalled = await rawSocket(t, other, { auth: { token: token({ sub: 1, role: 'crowd' }) } });
  const reader = await connect(t, other, { token: token({ sub: 2, role: 'crowd' }) });
  stalled.ws.pause();
  const data = 'x'.repeat(900_000);
  let last;
  for (let i = 0; i < 60; i++) {
    last = (await other.api('POST', '/api/v1/roles/crowd/events/load', JSON.stringify(data))).body.delivered;
    await nextEvent(reader, 'load');
  }
  assert.equal(last, 1, 'a push says that the other did not get it');
  await until(async () => (await count(other)) === 1, {
    message: () => `the stalled client is disconnected: ${other.log().slice(-500)}`,
  });
  await assertServing(t, other, reader);
});

test('a client that does not answer pings is disconnected, others stay', async (t) => {
  const other = await startServer(t, { config: `[socket]\n${HEARTBEAT}`, plugins: PLUGINS });
  const reader = await connect(t, other);
  const silent = await rawSocket(t, other, { pong: false });
  await silent.end();
  await until(async () => (await count(other)) === 1);
  await assertServing(t, other, reader);
});

test('a client that never polls again is disconnected', async (t) => {
  const other = await startServer(t, { config: `[socket]\n${HEARTBEAT}`, plugins: PLUGINS });
  const session = await rawPolling(other);
  await session.post('40');
  await session.packet(/^40/);
  assert.equal(await count(other), 1);
  await until(async () => (await count(other)) === 0);
});

test('a connection that joins no namespace is ended', async (t) => {
  const other = await startServer(t, { config: '[socket]\nconnect_timeout = "200ms"' });
  const idle = await rawSocket(t, other, { join: false });
  await idle.end();
});

test('a client that reconnects gets a new connection and its events', async (t) => {
  const socket = open(t, server, { token: token({ sub: 'again' }), reconnection: true, reconnectionDelay: 1 });
  await nextEvent(socket, 'authenticated');
  const before = socket.id;
  socket.io.engine.close();
  await nextEvent(socket, 'authenticated');
  assert.notEqual(socket.id, before);
  assert.equal(await ask(socket, 'echo', 1), 1);
});
