// Components as no compiler makes them: the sections of the module inside are edited.

const HEADER = 8;
/** A section of a component that holds a module. */
const MODULE = 1;
/** Sections of a module. */
export const [TYPES, FUNCTIONS, TABLES, MEMORIES, CODE] = [1, 3, 4, 5, 10];

/** A number as WebAssembly writes it (LEB128). */
export function number(value) {
  const bytes = [];
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    value >>>= 7;
  } while (value);
  return Buffer.from(bytes);
}

/** The number at `at`, and where it ends. */
function readNumber(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7, at += 1) {
    value += (bytes[at] & 0x7f) * 2 ** shift;
    if (bytes[at] < 0x80) return [value, at + 1];
  }
}

function split(bytes) {
  const sections = [];
  for (let at = HEADER; at < bytes.length; ) {
    const [size, start] = readNumber(bytes, at + 1);
    sections.push({ id: bytes[at], body: bytes.subarray(start, start + size) });
    at = start + size;
  }
  return sections;
}

function join(header, sections) {
  const parts = sections.flatMap(({ id, body }) => [Buffer.from([id]), number(body.length), body]);
  return Buffer.concat([header.subarray(0, HEADER), ...parts]);
}

/**
 * The component with more entries in its largest module. `entries` are lists of bytes by the id of
 * the section that they are added to; a function of them gets how many there were.
 */
export function withEntries(component, entries) {
  const sections = split(component);
  const size = ({ id, body }) => (id === MODULE ? body.length : 0);
  const main = sections.reduce((one, other) => (size(other) > size(one) ? other : one));
  const inner = split(main.body);
  const counts = new Map(inner.map(({ id, body }) => [id, readNumber(body, 0)]));
  for (const section of inner) {
    let added = entries[section.id];
    if (added === undefined) continue;
    if (typeof added === 'function') added = added((id) => counts.get(id)[0]);
    const [count, start] = counts.get(section.id);
    section.body = Buffer.concat([number(count + added.length), section.body.subarray(start), ...added]);
  }
  main.body = join(main.body, inner);
  return join(component, sections);
}

/** The component with a note in it that changes nothing but its bytes. */
export function annotated(component, note) {
  const body = Buffer.concat([number(4), Buffer.from(`note${note}`)]);
  return Buffer.concat([component, Buffer.from([0]), number(body.length), body]);
}
