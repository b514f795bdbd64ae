// Every form of a packet against what Socket.IO's own server on Node makes of it, which is recorded in
// tests/fixtures/packets.json (tests/support/record-packets.mjs writes it), with a reason beside each
// form with which MixLab differs on purpose.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { startNode } from '../support/node-server.mjs';
import { BODIES, FORMS } from '../support/packet-forms.mjs';
import { record, row, TABLE, written } from '../support/record-packets.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';

// With one instance, a call begins when what came of the one before it is on its way, also that of another
// connection: the answer to a probe comes behind all answers to the form.
const server = await startServer({ after }, { plugins: [{ ...CONFORMANCE, budget: { instances: 1, asks: 1 } }] });
const recorded = JSON.parse(readFileSync(TABLE, 'utf8'));

// What a form may come to, beside what Node makes of it. `closed` always means an orderly end: over a
// websocket with a Close, and no packet in front of it.

/** The session ends, and nothing is answered. */
const closed = ({ end, answers }) => end === 'closed' && answers.length === 0;
/** The session ends at the bad packet; good ones before it may have been handled. */
const closedAtIt = ({ end, answers }) => end === 'closed' && !answers.some((answer) => /unreadable|engine/.test(answer));
/** Nothing happens. */
const ignored = ({ end, answers }) => end === 'open' && answers.length === 0;
/** The sender is told that this packet was refused, and the session goes on. */
const refused = ({ end, answers }) =>
  end === 'open' && answers.length === 1 && /"error":"(invalid_payload|payload_too_large|too_many_attachments)"|^CONNECT_ERROR /.test(answers[0]);
/** The event is one that nobody handles. */
const unknown = ({ end, answers }) =>
  end === 'open' && answers.length === 1 && answers[0].includes('{"error":"unknown_event"}');
/** The client is in the namespace, and then its event is answered. */
const inOrder = ({ end, answers }) =>
  end === 'open' && answers.length >= 2 && answers[0].startsWith('CONNECT /') && answers[1].startsWith('EVENT /');

/** The forms with which MixLab may differ from Node: why, what each may come to, and which they are. */
const DIFFERENCES = [
  {
    why:
      'A stock client that is told to connect twice sends CONNECT twice. Node takes both if the second comes ' +
      'before it has answered, and closes the client if it comes later. Here it has one connection, whenever it comes.',
    may: [ignored],
    forms: Object.keys({ ...FORMS, ...BODIES }).filter((name) => /^"40|CONNECT|auth object/.test(name)),
    phase: 'after CONNECT',
  },
  {
    why: 'It is one connection, as above, and in Node two.',
    may: [({ end }) => end === 'open'],
    forms: ['a second CONNECT right behind the first'],
  },
  {
    why: 'JSON is read up to 127 levels deep, here and in plugins.',
    may: [({ end, answers }) => end === 'open' && answers.every((answer) => /invalid_payload/.test(answer))],
    forms: ['an auth object nested 200 times'],
  },
  {
    why: "Node's emitter has to be kept from these names. Here they are names that no plugin can declare.",
    may: [unknown],
    forms: [
      ...['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener'].map(
        (name) => `"42[\\"${name}\\"]"`,
      ),
      String.raw`"42[\"c\\u006fnnect\"]"`,
      String.raw`"427[\"disconnect\"]"`,
      'a reserved name of a binary event',
    ],
  },
  {
    why: 'Node emits an event whose name is undefined. An event without a name is none.',
    may: [closed],
    forms: ['"42"', '"427"', '"427{}"', '"42/foo"', '"42/foo,"'],
  },
  {
    why: 'Node takes white space for the digit 0, as JavaScript makes numbers of it.',
    may: [closed, unknown, ignored],
    forms: [
      '"4 "',
      String.raw`"42 [\"message-with-ack\",1]"`,
      JSON.stringify('42\ufeff["message-with-ack",1]'),
      String.raw`"42 7[\"message-with-ack\",1]"`,
      String.raw`"42\t7[\"message-with-ack\",1]"`,
      String.raw`"427 [\"message-with-ack\",1]"`,
    ],
  },
  {
    why: 'Node rounds an ack id that is no safe integer and answers with another one.',
    may: [closed],
    forms: [
      String.raw`"429007199254740993[\"message-with-ack\",1]"`,
      String.raw`"429223372036854775808[\"message-with-ack\",1]"`,
      String.raw`"4218446744073709551616[\"message-with-ack\",1]"`,
      'an ack id of a thousand digits',
    ],
  },
  {
    why: 'Node looks for nobody who waits for an ack without an id or arguments. No client sends one.',
    may: [closed],
    forms: [
      '"43"',
      '"43[]"',
      String.raw`"43[\"x\"]"`,
      '"430"',
      '"4318446744073709551616[]"',
      'an ack with an attachment and no id',
    ],
  },
  {
    why: 'Node puts U+FFFD for what is no UTF-8 in the body of a POST. What is no text is refused here.',
    may: [closed],
    forms: ['an auth object that is no UTF-8', 'an argument that is no UTF-8', 'a surrogate as raw bytes', 'an overlong slash'],
    only: 'polling',
  },
  {
    why: 'Node takes for a number of attachments what JavaScript takes for a number. Digits are meant.',
    may: [closed],
    forms: [
      'attachments counted with an exponent',
      'attachments counted with a zero in front',
      'attachments counted with a plus',
      'attachments counted with a space',
      'attachments counted in hexadecimal',
    ],
  },
  {
    why: 'Node decodes what it can of base64 and drops the rest. Half an attachment is none.',
    may: [closed],
    forms: ['an attachment as base64 without its padding', 'an attachment as base64 of URLs', 'an attachment as what is no base64'],
  },
  {
    why: 'Who refers to an attachment that is not there is told which event it was.',
    may: [closed, refused],
    forms: [
      'a placeholder beyond the attachments',
      'a placeholder below 0',
      'half a placeholder',
      'a placeholder with a text',
      'a placeholder without a number',
    ],
  },
  {
    why: 'Who sends too many attachments is told so.',
    may: [closed, refused],
    forms: ['eleven attachments'],
  },
  {
    why: 'Nobody waits for the ack, so nobody looks into it.',
    may: [ignored],
    forms: ['an ack with a placeholder beyond the attachments'],
  },
  {
    why: 'Node connects twice, as it asks whether there is a connection before the first is through.',
    may: [closedAtIt],
    forms: ['a second CONNECT right behind the first'],
  },
  {
    why: 'Node has not let the client in yet. Here what comes meanwhile waits.',
    may: [closedAtIt, inOrder],
    forms: ['an event right behind its CONNECT'],
  },
  {
    why: 'Node notices the leaving a tick later. Here packets are handled one after the other.',
    may: [inOrder],
    forms: ['coming back'],
  },
  {
    why: 'Node handles no event of what it read together with a bad packet. Here those before it are.',
    may: [closedAtIt],
    forms: ['an attachment too many', 'a separator behind', 'an empty packet in the middle'],
  },
  {
    why: 'The protocol has it as the end of the session over every transport; Node heeds it over polling only.',
    may: [closed],
    forms: ['"1"', 'the end, and more'],
  },
  {
    why: 'Node ignores packets that only servers or upgrades send. A client that sends them is confused.',
    may: [closed],
    forms: ['"0"', String.raw`"0{\"sid\":\"x\"}"`, '"3probe"', '"5"', '"5x"', '"6"', '"6x"'],
  },
  {
    why: 'A request without a packet does no harm.',
    may: [ignored],
    forms: ['nothing at all', '""'],
    only: 'polling',
  },
  {
    why: 'Node parses JSON of any depth. What is parsed by plugins in any language has a bound, and who is over it is told.',
    may: [closed, refused],
    forms: ['arguments nested 1,000 times', 'arguments nested 100,000 times', 'an auth object nested 200 times'],
  },
  {
    why: 'Node makes infinity of it, and null of that. A number that is too large is said to be.',
    may: [refused],
    forms: [String.raw`"40{\"n\":1e400}"`],
  },
  {
    why: 'Half a surrogate pair is no text for most languages that plugins are written in: kept as it is, or refused and said.',
    may: [refused],
    forms: [
      String.raw`"40{\"nick\":\"\\ud83d\"}"`,
      String.raw`"40{\"\\ud83d\":1}"`,
      String.raw`"40/custom,{\"nick\":\"\\udc00\\ud800\"}"`,
      String.raw`"42[\"message\",\"\\ud83d\"]"`,
      String.raw`"42[\"message\",{\"\\ud83d\":1}]"`,
      String.raw`"42[\"message\",\"\\udc00\\ud800\"]"`,
      String.raw`"42[\"\\ud83d\",1]"`,
      String.raw`"427[\"\\ud83d\",1]"`,
    ],
  },
];

const rows = { ...FORMS, ...BODIES };

test('every difference is one of a form that there is', () => {
  for (const name of DIFFERENCES.flatMap(({ forms }) => forms)) assert.ok(name in rows, name);
});

test("the table has what Node's server makes of every form", async (t) => {
  assert.equal(written(await record(t, await startNode(t))), readFileSync(TABLE, 'utf8'));
});

/** Node sends no codes with its own Close; those that name a fault are what counts. */
const end = (text) => (/1006|1007|1009/.test(text) ? text : text.replace(/^closed.*/, 'closed'));

/** What differs from the recorded row where it must not: what was found, what was recorded, and where. */
function* differing(name, here) {
  const differences = DIFFERENCES.filter(({ forms }) => forms.includes(name));
  for (const [transport, phases] of Object.entries(here)) {
    for (const [phase, outcome] of Object.entries(phases)) {
      const there = recorded[name][transport][phase];
      const found = { ...outcome, end: end(outcome.end) };
      const applies = (difference) =>
        (difference.only ?? transport) === transport && (difference.phase ?? phase) === phase;
      const allowed = differences.filter(applies).flatMap(({ may }) => may);
      if (allowed.some((may) => may(found))) continue;
      const expected = { ...there, end: end(there.end) };
      if (!isDeepStrictEqual(found, expected)) yield [found, expected, `${transport}, ${phase}`];
    }
  }
}

for (const [name, form] of Object.entries(rows)) {
  test(`as with Node: ${name.slice(0, 80)}`, async (t) => {
    for (const [here, there, where] of differing(name, await row(t, server, form))) assert.deepEqual(here, there, where);
  });
}
