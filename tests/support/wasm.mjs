// Components as no compiler makes them: the sections of the module inside are edited.

const HEADER = 8;
/** Sections of a component: a module, instances of modules, a component, instances of components. */
const [MODULE, MODULE_INSTANCES, COMPONENT, INSTANCES] = [1, 2, 4, 5];
/** Sections of a module. */
export const [TYPES, FUNCTIONS, TABLES, MEMORIES, GLOBALS, CODE] = [1, 3, 4, 5, 6, 10];
const MODULE_HEADER = Buffer.from('\0asm\x01\0\0\0', 'latin1');
const COMPONENT_HEADER = Buffer.from('\0asm\x0d\0\x01\0', 'latin1');

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

const repeat = (count, entry) => Array.from({ length: count }, () => entry);
const vector = (entries) => Buffer.concat([number(entries.length), ...entries]);
/** So many instances of one thing that takes no arguments. */
const instances = (count, index) => vector(repeat(count, Buffer.concat([Buffer.from([0]), number(index), Buffer.from([0])])));

/** The component with so many instances more of a module, which has so many globals. */
export function withGlobals(component, globals, count) {
  const entries = vector(repeat(globals, Buffer.from([0x7f, 0, 0x41, 0, 0x0b])));
  const module = join(MODULE_HEADER, [{ id: GLOBALS, body: entries }]);
  const sections = split(component);
  const index = sections.filter(({ id }) => id === MODULE).length;
  return join(component, [
    ...sections,
    { id: MODULE, body: module },
    { id: MODULE_INSTANCES, body: instances(count, index) },
  ]);
}

/** The component with one more inside, which has two of one that has two, and so on to this depth. */
export function withDoubles(component, depth) {
  let inner = join(COMPONENT_HEADER, [
    { id: MODULE, body: MODULE_HEADER },
    { id: MODULE_INSTANCES, body: instances(1, 0) },
  ]);
  for (let level = 0; level < depth; level += 1) {
    inner = join(COMPONENT_HEADER, [
      { id: COMPONENT, body: inner },
      { id: INSTANCES, body: instances(2, 0) },
    ]);
  }
  const sections = split(component);
  const index = sections.filter(({ id }) => id === COMPONENT).length;
  return join(component, [...sections, { id: COMPONENT, body: inner }, { id: INSTANCES, body: instances(1, index) }]);
}

/** The component with a note in it that changes nothing but its bytes. */
export function annotated(component, note) {
  const body = Buffer.concat([number(4), Buffer.from(`note${note}`)]);
  return Buffer.concat([component, Buffer.from([0]), number(body.length), body]);
}
