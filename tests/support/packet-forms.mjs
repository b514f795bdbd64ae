// Every form that a packet may have, good and bad, and how a server is asked what it makes of it.
import { Decoder, PacketType } from 'socket.io-parser';
import { rawPolling, rawSocket } from './raw.mjs';
import { until, within } from './wait.mjs';

const PLACE = (number) => `{"_placeholder":true,"num":${number}}`;
const [ZERO, ONE] = [PLACE(0), PLACE(1)];
const bytes = (...values) => Buffer.from(values);
const nested = (depth) => '['.repeat(depth) + ']'.repeat(depth);
const attachments = (count) => Array.from({ length: count }, (_, i) => bytes(i));
const places = (count) => attachments(count).map((_, i) => PLACE(i)).join();

/** Waits for a packet before the next one is sent. */
const answered = (pattern) => ({ pattern });
/** A text as bytes, for what is no UTF-8. */
const raw = (...parts) => ({ raw: Buffer.concat(parts.map((part) => Buffer.from(part))) });

/**
 * What each form sends: texts, Buffers (attachments), what `answered` and `raw` make. Attachments go as
 * base64 over polling. A form of one text needs no other name.
 */
export const FORMS = {
  // CONNECT
  ...texts(
    '40', '40{}', '40{"a":1}', '40 {}', '40{} ', '40{', '40[]', '40custom', '40null', '40"x"', '401', '40true', '40{}x',
    '40{"a":1,"a":2}', '40{"n":12345678901234567890}', '40{"n":1e400}', '407', '407{}', '40-1',
    '40/', '40/,', '40/,{"a":1}', '40//', '40,', '40,{}',
    '40/custom', '40/custom,', '40/custom,{"a":1}', '40/custom,{', '40/custom,[]', '40/custom,null', '40/custom,x',
    '40/custom{"a":1}', '40/custom,7{"a":1}', '40/custom?token=1', '40/custom?token=1,{}',
    '40/nobody', '40/nobody,', '40/nobody,{"a":1}', '40/nobody,{', '40custom,{}',
    '40{"pid":"mine","offset":"here"}', '40{"pid":7,"offset":{"x":null}}', '40{"pid":null}',
    '40{"nick":"\\ud83d"}', '40{"\\ud83d":1}', '40{"nick":"\\ud83d\\ude00"}', '40/custom,{"nick":"\\udc00\\ud800"}',
    '40{"__proto__":{"x":1}}',
  ),
  'an auth object nested 200 times': [`40{"a":${nested(200)}}`],
  'an auth object that is no UTF-8': [raw('40{"nick":"', [0xff], '"}')],
  'a second CONNECT right behind the first': ['40/custom', '40/custom'],
  'an event right behind its CONNECT': ['40/custom', '42/custom,["message",1]', answered(/^42\/custom,\["message-back"/)],

  // DISCONNECT
  ...texts('41', '41,', '41/', '41{}', '41[]', '41null', '411', '41x', '41/nobody', '41/nobody,', '41/custom,'),
  'leaving another namespace': ['40/custom', answered(/^42\/custom/), '41/custom,'],
  'leaving another namespace, without a comma': ['40/custom', answered(/^42\/custom/), '41/custom'],
  'leaving with an object': ['40/custom', answered(/^42\/custom/), '41/custom,{}'],
  'leaving twice': ['41', '41'],
  'an event behind the leaving': ['41', '42["message",1]'],
  'coming back': ['41', '40'],

  // EVENT
  ...texts(
    '42', '42[]', '42{}', '42"message"', '42null', '42true', '42["message"]', '42["message",1]', '42["message",null,[],{}]',
    '42[ "message" , 1 ]', '42["message",1] ', '42["message",1]\n', '42["message",1]x',
    '42["message",1]42["message",1]', '42["message",1', '42["message",1,]', '42[,"message"]', "42['message']",
    '42["message",NaN]', '42["message",Infinity]', '42["message",undefined]', '42["message",01]', '42["message",1.]',
    '42["message",.5]', '42["message",+1]', '42["message",0x10]', '42["message",/**/1]',
    '42["message","\u0000"]', '42["message","\t"]', '42["message","\u2028"]', '42["message","\\u0000"]', '42["message","\\x41"]',
    '42["message",-0]', '42["message",1.0]', '42["message",1e400]', '42["message",12345678901234567890]',
    '42["message",{"a":1,"a":2}]', '42["message",{"__proto__":1}]', `42["message",${ZERO}]`,
    '42["mess\\u0061ge",1]', '42[""]', '42["nobody"]', '42["__proto__",1]', '42["constructor"]', '42["toString"]',
    '42["error"]', '42["connection"]',
    '42["connect"]', '42["connect_error"]', '42["disconnect"]', '42["disconnecting"]', '42["newListener"]', '42["removeListener"]',
    '42["c\\u006fnnect"]', '427["disconnect"]',
    '42[1]', '42[0,"a"]', '42[-1.5]', '42[1e3]', '42[1e400]', '427[1]', '42[01]',
    '42[null]', '42[true]', '42[{}]', '42[["message"]]', '42[{"message":1}]',
    '42/,["message",1]', '42/foo,["message",1]', '42/foo["message",1]', '42/foo', '42/foo,', '42/nobody,["message",1]',
    '42/custom,["message",1]', '42,["message",1]',
    '42["message","\\ud83d"]', '42["message",{"\\ud83d":1}]', '42["message","\\udc00\\ud800"]', '42["message","\\ud83d\\ude00"]',
    '42["\\ud83d",1]', '427["\\ud83d",1]',
  ),
  'arguments nested 100 times': [`42["message",${nested(100)}]`],
  'arguments nested 1,000 times': [`42["message",${nested(1000)}]`],
  'arguments nested 100,000 times': [`42["nobody",${nested(100_000)}]`],
  'arguments that never close': [`42["message",${'['.repeat(100_000)}`],
  'an argument that is no UTF-8': [raw('42["message","', [0xff], '"]')],
  'a surrogate as raw bytes': [raw('42["message","', [0xed, 0xa0, 0xbd], '"]')],
  'an overlong slash': [raw('42["message","', [0xc0, 0xaf], '"]')],
  'a type that is no UTF-8': [raw([0xff], '["message",1]')],

  // Ack ids
  ...texts(
    '42 ["message-with-ack",1]', '42\ufeff["message-with-ack",1]', '427["message-with-ack",1]', '420["message-with-ack"]', '42007["message-with-ack",1]', '42-1["message-with-ack",1]',
    '42+1["message-with-ack",1]', '421.5["message-with-ack",1]', '421e3["message-with-ack",1]', '42 7["message-with-ack",1]',
    '42\t7["message-with-ack",1]', '427 ["message-with-ack",1]', '42٣["message-with-ack",1]', '42x["message-with-ack",1]',
    '420x10["message-with-ack",1]', '427', '427{}', '42/foo,7["message-with-ack",1]', '42/foo7["message-with-ack",1]',
    '422147483648["message-with-ack",1]', '429007199254740991["message-with-ack",1]', '429007199254740993["message-with-ack",1]',
    '429223372036854775808["message-with-ack",1]', '4218446744073709551616["message-with-ack",1]', '427["nobody"]',
  ),
  'an ack id of a thousand digits': [`42${'9'.repeat(1000)}["message-with-ack",1]`],

  // ACK
  ...texts(
    '43', '43[]', '43["x"]', '430[]', '43999["x"]', '430', '430{}', '430"x"', '430[', '43-1[]', '43/foo,0[]', '43/nobody,0[]',
    '4318446744073709551616[]',
  ),

  // CONNECT_ERROR
  ...texts('44', '44{}', '44{"message":"x"}', '44"x"', '44[]', '44/foo,{}', '44/nobody,{}'),

  // BINARY_EVENT
  ...texts('45', '45["message"]', '45-["message"]', '450-["message"]', '45-1-["message"]', '451["message"]', '451-', '451-{}'),
  'no attachments, and one comes': ['450-["message"]', bytes(1)],
  'one attachment': [`451-["message",${ZERO}]`, bytes(1, 2)],
  'an attachment of no bytes': [`451-["message",${ZERO}]`, bytes()],
  'an attachment with an ack': [`451-7["message-with-ack",${ZERO}]`, bytes(1)],
  'an attachment in another namespace': [`451-/foo,["message",${ZERO}]`, bytes(1)],
  'an attachment in another namespace, with an ack': [`451-/foo,7["message-with-ack",${ZERO}]`, bytes(1)],
  'an attachment for a namespace that is none': [`451-/nobody,["message",${ZERO}]`, bytes(1)],
  'two attachments': [`452-["message",${ZERO},${ONE}]`, bytes(1), bytes(2)],
  'two attachments, the other way round': [`452-["message",${ONE},${ZERO}]`, bytes(1), bytes(2)],
  'a nested attachment': [`451-["message",{"a":[${ZERO}]}]`, bytes(1)],
  'ten attachments': [`4510-["message",${places(10)}]`, ...attachments(10)],
  'eleven attachments': [`4511-["message",${places(11)}]`, ...attachments(11)],
  'eleven attachments, announced': [`4511-["message",${places(11)}]`],
  'more attachments than memory': [`4599999999999-["message",${ZERO}]`],
  'more attachments than numbers': [`45${'9'.repeat(400)}-["message",${ZERO}]`],
  'one and a half attachments': [`451.5-["message",${ZERO}]`, bytes(1), bytes(2)],
  'attachments counted with an exponent': [`451e0-["message",${ZERO}]`, bytes(1)],
  'attachments counted with a zero in front': [`4501-["message",${ZERO}]`, bytes(1)],
  'attachments counted with a plus': [`45+1-["message",${ZERO}]`, bytes(1)],
  'attachments counted with a space': [`45 1-["message",${ZERO}]`, bytes(1)],
  'attachments counted in hexadecimal': [`450x1-["message",${ZERO}]`, bytes(1)],
  'attachments counted to NaN': [`45NaN-["message",${ZERO}]`, bytes(1)],
  'an attachment too few': [`452-["message",${ZERO},${ONE}]`, bytes(1)],
  'an attachment too many': [`451-["message",${ZERO}]`, bytes(1), bytes(2)],
  'an attachment that nobody announced': [bytes(1, 2, 3)],
  'an attachment of no bytes that nobody announced': [bytes()],
  'a packet as an attachment': [Buffer.from('42["message",1]')],
  'a text between attachments': [`452-["message",${ZERO},${ONE}]`, bytes(1), '42["message",1]', bytes(2)],
  'another event between attachments': [`452-["message",${ZERO},${ONE}]`, bytes(1), `451-["message",${ZERO}]`, bytes(2)],
  'a pong between attachments': [`452-["message",${ZERO},${ONE}]`, bytes(1), '3', bytes(2)],
  'an attachment without a placeholder': ['451-["message",1]', bytes(1)],
  'two attachments for one placeholder': [`452-["message",${ZERO}]`, bytes(1), bytes(2)],
  'one attachment for two placeholders': [`451-["message",${ZERO},${ZERO}]`, bytes(1)],
  'a placeholder beyond the attachments': [`451-["message",${PLACE(5)}]`, bytes(1)],
  'a placeholder below 0': [`451-["message",${PLACE(-1)}]`, bytes(1)],
  'half a placeholder': [`451-["message",${PLACE(0.5)}]`, bytes(1)],
  'a placeholder with a text': [`451-["message",${PLACE('"0"')}]`, bytes(1)],
  'a placeholder without a number': ['451-["message",{"_placeholder":true}]', bytes(1)],
  'a placeholder that is false': ['451-["message",{"_placeholder":false,"num":0}]', bytes(1)],
  'a placeholder with more': ['451-["message",{"_placeholder":true,"num":0,"more":1}]', bytes(1)],
  'a placeholder as the name': [`451-[${ZERO}]`, bytes(1)],
  'a number as the name of a binary event': [`451-[1,${ZERO}]`, bytes(1)],
  'a reserved name of a binary event': [`451-["disconnect",${ZERO}]`, bytes(1)],
  'a binary event with broken JSON': [`451-["message",${ZERO}`, bytes(1)],
  'half a binary event, and a leaving': [`452-["message",${ZERO},${ONE}]`, bytes(1), '41'],

  // BINARY_ACK
  ...texts('46', '460-0[]', '46-0[]', '460[]', '461-0{}'),
  'an ack with an attachment': [`461-0[${ZERO}]`, bytes(1)],
  'an ack with an attachment and no id': [`461-[${ZERO}]`, bytes(1)],
  'an ack with an attachment, and a text': [`461-0[${ZERO}]`, '3'],
  'an ack with eleven attachments': [`4611-0[${places(11)}]`],
  'an ack with a placeholder beyond the attachments': [`461-0[${PLACE(1)}]`, bytes(1)],

  // Attachments as text, as clients with `forceBase64` have them
  'an attachment as base64': [`451-["message",${ZERO}]`, 'bAQID'],
  'an attachment as base64, padded': [`451-["message",${ZERO}]`, 'bAQI='],
  'an attachment as base64 of no bytes': [`451-["message",${ZERO}]`, 'b'],
  'an attachment as base64 without its padding': [`451-["message",${ZERO}]`, 'bAQI'],
  'an attachment as base64 of URLs': [`451-["message",${ZERO}]`, 'b-_8='],
  'an attachment as what is no base64': [`451-["message",${ZERO}]`, 'b!!!!'],
  'an attachment as base64 that nobody announced': ['bAQID'],

  // engine.io
  ...texts(
    '', '0', '0{"sid":"x"}', '1', '2', '2probe', '3', '3probe', '3x', '4', '4 ', '47', '48["message"]', '4x', '4-1', '5', '5x',
    '6', '6x', '7', '9', 'x', 'message', 'é', '-1', '٤2["message",1]',
  ),
  'the end, and more': ['1', '42["message",1]'],
  'packets behind a broken one': ['42["message"', '42["message",1]', '40/custom'],
  'packets behind an unknown type': ['9', '42["message",1]', '40/custom'],
  'packets behind an empty one': ['', '42["message",1]', '40/custom'],
};

/** Bodies of a POST that no packets make. */
export const BODIES = {
  'nothing at all': '',
  'a separator': '\x1e',
  'separators': '\x1e\x1e\x1e',
  'a separator behind': '42["message",1]\x1e',
  'a separator in front': '\x1e42["message",1]',
  'an empty packet in the middle': '42["message",1]\x1e\x1e42["message",2]',
  'the format of version 3': '15:42["message",1]',
  'a line break in front': '\n42["message",1]',
};

function texts(...packets) {
  return Object.fromEntries(packets.map((packet) => [JSON.stringify(packet), [packet]]));
}

export const TRANSPORTS = ['websocket', 'polling'];

/** Whether the client has joined `/` before it sends the form; it is in `/foo` in any case. */
export const PHASES = ['before CONNECT', 'after CONNECT'];

/** An event that is answered as long as the session is open. */
const MARKER = '42/foo,99["message-with-ack","marker"]';
const MARKED = '43/foo,99["marker"]';
const count = (packets) => packets.filter((packet) => packet === MARKED).length;

/**
 * What a server makes of a form: `answers`, as the stock client reads them, and `end`: `open`, or how
 * the session was closed.
 */
export async function outcome(t, server, transport, phase, form) {
  const session = transport === 'websocket' ? await overWebsocket(t, server) : await overPolling(server);
  await session.exchange('40/foo', /^40\/foo/);
  if (phase === 'after CONNECT') await session.exchange('40', /^42\["auth"/);
  session.packets.length = 0;
  await session.sendAll(form);
  // The second time around, what a server sends a little later than the first answer is here, too.
  let end = await session.probe();
  if (end === 'open') end = await session.probe();
  await session.leave();
  return { answers: readable(session.packets.filter((packet) => packet !== MARKED)), end };
}

/** What the stock client makes of packets, but for what is different each time or in other words elsewhere. */
function readable(packets) {
  const read = [];
  const decoder = new Decoder();
  decoder.on('decoded', ({ type, nsp, id, data }) => {
    const text = data === undefined ? '' : ` ${JSON.stringify(data, shown)}`;
    read.push(`${PacketType[type]} ${nsp}${id === undefined ? '' : ` ${id}`}${text}`.replace(/\{"error":\{"code":"(\w+)".*\}\}/, '{"error":"$1"}'));
  });
  for (const packet of packets) {
    if (typeof packet === 'string' && packet[0] !== '4') {
      read.push(`engine.io ${packet}`);
      continue;
    }
    try {
      decoder.add(typeof packet === 'string' ? packet.slice(1) : packet);
    } catch (error) {
      read.push(`unreadable: ${packet}: ${error.message}`);
    }
  }
  return read;
}

/** For JSON: bytes as a text, no id of a connection, and the keys of an object in one order. */
function shown(key, value) {
  if (value?.type === 'Buffer') return `bytes ${Buffer.from(value.data).toString('hex')}`;
  if (key === 'sid') return '…';
  const isObject = value !== null && typeof value === 'object' && !Array.isArray(value);
  return isObject ? Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1))) : value;
}

async function overWebsocket(t, server) {
  const socket = await rawSocket(t, server, { join: false });
  socket.frames.length = 0;
  const hasAnswered = (pattern) => socket.frames.some((frame) => typeof frame === 'string' && pattern.test(frame));
  const answered = (pattern) =>
    until(() => socket.closed || hasAnswered(pattern), { message: () => `${pattern} among ${socket.shown}` });
  return {
    packets: socket.frames,
    async exchange(packet, pattern) {
      socket.send(packet);
      await socket.frame(pattern);
    },
    async sendAll(form) {
      for (const part of form) {
        if (part.pattern) await answered(part.pattern);
        else if (part.raw) socket.ws.send(part.raw, { binary: false });
        else socket.send(part);
      }
    },
    async probe() {
      const due = count(socket.frames) + 1;
      socket.send(MARKER);
      await until(() => socket.closed || count(socket.frames) === due, {
        message: () => `an answer to the event behind it, or the end: ${socket.shown}`,
      });
      return socket.closed ? `closed with ${socket.code}` : 'open';
    },
    leave: () => socket.ws.terminate(),
  };
}

async function overPolling(server) {
  const session = await rawPolling(server);
  const packets = [];
  let closed = false;
  /** Takes what one poll brings. */
  async function poll() {
    const { status, text } = await session.get();
    const got = text.split('\x1e');
    if (status !== 200 || got.includes('1')) closed = true;
    else packets.push(...got.filter((packet) => packet !== '2' && packet !== '6').map(decoded));
    if (got.includes('2')) await session.post('3');
  }
  async function pollUntil(condition) {
    while (!closed && !condition()) await within(poll(), `more than ${JSON.stringify(packets)} to poll`);
  }
  const post = (body) => session.post(body).then(({ status }) => status, () => undefined);
  const state = {
    packets,
    /** What the POSTs with the form were answered with: a status, or nothing if they were cut off. */
    statuses: [],
    async exchange(packet, pattern) {
      await session.post(packet);
      await pollUntil(() => packets.some((packet) => pattern.test(packet)));
    },
    async sendAll(form) {
      for (const { pattern, body } of requests(form)) {
        if (pattern) await pollUntil(() => packets.some((packet) => pattern.test(packet)));
        else state.statuses.push(await post(body));
      }
    },
    async probe() {
      const due = count(packets) + 1;
      if ((await post(MARKER)) !== 200) closed = true;
      await pollUntil(() => count(packets) === due);
      return closed ? 'closed' : 'open';
    },
    leave: () => closed || post('1'),
  };
  return state;
}

const decoded = (packet) => (packet[0] === 'b' ? Buffer.from(packet.slice(1), 'base64') : packet);

/** The parts of a form as requests: the bodies of POSTs, and what is waited for between them. */
function* requests(form) {
  if (typeof form === 'string') return yield { body: form };
  let packets = [];
  for (const part of form) {
    if (part.pattern) {
      yield { body: joined(packets) };
      yield part;
      packets = [];
    } else packets.push(part);
  }
  if (packets.length > 0 || form.length === 0) yield { body: joined(packets) };
}

function joined(packets) {
  const parts = packets.map((packet) => {
    if (packet.raw) return packet.raw;
    return Buffer.from(Buffer.isBuffer(packet) ? `b${packet.toString('base64')}` : packet);
  });
  return Buffer.concat(parts.flatMap((part, i) => (i ? [Buffer.from('\x1e'), part] : [part])));
}
