// Writes tests/fixtures/packets.json: what Socket.IO's own server on Node makes of every packet.
//
//   node tests/support/record-packets.mjs
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { startNode } from './node-server.mjs';
import { BODIES, FORMS, outcome, PHASES, TRANSPORTS } from './packet-forms.mjs';

export const TABLE = fileURLToPath(new URL('../fixtures/packets.json', import.meta.url));

/** How many forms are tried at once: each mostly waits. */
const AT_ONCE = 8;

/** The table for a server: `{ [form]: { [transport]: { [phase]: outcome } } }`. */
export async function record(t, server) {
  const rows = [...Object.entries(FORMS), ...Object.entries(BODIES)];
  const table = Object.fromEntries(rows.map(([name]) => [name]));
  const waiting = rows.values();
  const work = async () => {
    for (const [name, form] of waiting) table[name] = await row(t, server, form);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return table;
}

/** One row of it. A text is the body of a POST, which is nothing over a websocket. */
export async function row(t, server, form) {
  const row = {};
  for (const transport of typeof form === 'string' ? ['polling'] : TRANSPORTS) {
    row[transport] = {};
    for (const phase of PHASES) row[transport][phase] = await outcome(t, server, transport, phase, form);
  }
  return row;
}

/** The table as a file of one line a form. */
export function written(table) {
  const lines = Object.entries(table).map(([name, row]) => `${JSON.stringify(name)}: ${JSON.stringify(row)}`);
  return `{\n${lines.join(',\n')}\n}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const hooks = [];
  const t = { after: (hook) => hooks.push(hook) };
  const server = await startNode(t);
  const table = await record(t, server);
  writeFileSync(TABLE, written(table));
  for (const hook of hooks.reverse()) await hook();
}
