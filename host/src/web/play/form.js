// Forms made of JSON Schemas. The server judges what they give: a form helps to write a value, and says what the
// schema allows. What a form cannot do is a field for JSON.
//
// A field is { element, read }: read resolves to the value, or throws a Problem. All texts of schemas are set as
// text, never as HTML.
import { create, shown } from './text.js';

/** So many fields are made at once, and so deep: schemas may be endless. */
const MAX_FIELDS = 200;
const MAX_DEPTH = 8;

/** Longer chains of references are followed no further. */
const MAX_REFERENCES = 32;

/** A longer list of values is JSON. */
const MAX_ITEMS = 50;

/** What is told of a value beside its type. */
const BOUNDS = [
  'format', 'minLength', 'maxLength', 'pattern', 'minimum', 'exclusiveMinimum', 'maximum', 'exclusiveMaximum',
  'multipleOf', 'minItems', 'maxItems', 'uniqueItems', 'minProperties', 'maxProperties',
];

/** What is wrong with what was entered, and where. */
export class Problem extends Error {
  constructor(input, message) {
    super(message);
    this.input = input;
  }
}

/** A field for the argument list of an event. Without a schema it is JSON. */
export function argumentsField(schema) {
  const at = place(schema);
  const simple = resolved(schema, at);
  const isList = schema && kindOf(simple) === 'array';
  return isList ? tupleField(simple, undefined, at) : jsonField(simple, 'Arguments, a list', [], Array.isArray);
}

/** A field for the argument list as JSON. */
export const argumentsAsJson = (value = []) => jsonField({}, 'Arguments, a list', value, Array.isArray);

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Where a field is made: in which schema, how deep, and how many more may be. */
const place = (root) => ({ root, depth: 0, budget: { left: MAX_FIELDS } });
const deeper = (at) => ({ ...at, depth: at.depth + 1 });
/** For what is made when somebody asks for it. */
const later = (at) => ({ ...at, depth: 0, budget: { left: MAX_FIELDS } });

function field(schema, label, at) {
  const simple = resolved(schema, at);
  at.budget.left -= 1;
  if (at.depth > MAX_DEPTH || at.budget.left < 0) return jsonField(simple, label);
  const make = FIELDS[kindOf(simple)] ?? jsonField;
  return make(simple, label, deeper(at));
}

const FIELDS = {
  constant: constantField,
  choice: choiceField,
  variants: variantsField,
  attachment: attachmentField,
  object: objectField,
  array: arrayField,
  string: stringField,
  number: numberField,
  integer: numberField,
  boolean: booleanField,
  null: (schema, label) => constantField({ ...schema, const: null }, label),
};

function kindOf(schema) {
  if (!isObject(schema)) return 'json';
  if (Object.hasOwn(schema, 'const')) return 'constant';
  if (Array.isArray(schema.enum)) return 'choice';
  if (schema.properties?._placeholder?.const === true) return 'attachment';
  if (variantsOf(schema)) return 'variants';
  if (typeof schema.type === 'string') return schema.type;
  if (isObject(schema.properties) || Array.isArray(schema.required)) return 'object';
  if (Array.isArray(schema.prefixItems) || isObject(schema.items)) return 'array';
  return 'json';
}

/** The schemas of which one is to fit. */
function variantsOf(schema) {
  const several = [schema.oneOf, schema.anyOf].find((it) => Array.isArray(it) && it.length > 0);
  if (several) {
    const { oneOf, anyOf, ...base } = schema;
    return several.map((one) => merged(base, one));
  }
  if (Array.isArray(schema.type)) return schema.type.map((type) => ({ ...schema, type }));
}

/** The schema with what it refers to and what it is put together of. */
function resolved(schema, at, fuel = { left: MAX_REFERENCES }) {
  let simple = schema;
  while (isObject(simple) && fuel.left > 0) {
    const { $ref, allOf, ...own } = simple;
    fuel.left -= 1;
    if (typeof $ref === 'string') simple = merged(pointed($ref, at.root), { ...own, ...(allOf && { allOf }) });
    else if (Array.isArray(allOf)) simple = allOf.reduce((all, part) => merged(all, resolved(part, at, fuel)), own);
    else return simple;
  }
  return simple;
}

/** What both schemas say, in one. */
function merged(base, more) {
  if (!isObject(base) || !isObject(more)) return isObject(more) ? more : base;
  const both = { ...base, ...more };
  if (base.properties && more.properties) both.properties = { ...base.properties, ...more.properties };
  if (base.required && more.required) both.required = [...new Set([...base.required, ...more.required])];
  return both;
}

/** What a reference into the same schema leads to. */
function pointed(reference, root) {
  if (!reference.startsWith('#')) return {};
  let path;
  try {
    path = decodeURIComponent(reference.slice(1)).split('/').slice(1);
  } catch {
    return {};
  }
  let found = root;
  for (const part of path) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, key)) return {};
    found = found[key];
  }
  return found;
}

// What a field looks like.

let count = 0;
const newId = () => `field-${(count += 1)}`;

function hintOf(schema) {
  const bounds = BOUNDS.filter((key) => schema[key] !== undefined).map((key) => `${key}: ${JSON.stringify(schema[key])}`);
  const said = [schema.title, schema.description].filter((text) => typeof text === 'string');
  const text = shown([...said, bounds.join(', ')].filter(Boolean).join(' · '));
  return text ? create('small', { id: newId(), className: 'hint', textContent: text }) : undefined;
}

function labelled(input, schema, label) {
  input.id = newId();
  const hint = isObject(schema) ? hintOf(schema) : undefined;
  if (hint) input.setAttribute('aria-describedby', hint.id);
  const element = create('div', { className: 'field' });
  element.append(create('label', { htmlFor: input.id, textContent: shown(label) }), input, ...(hint ? [hint] : []));
  return element;
}

function group(schema, label, ...children) {
  const hint = isObject(schema) ? hintOf(schema) : undefined;
  const element = create('fieldset');
  if (hint) element.setAttribute('aria-describedby', hint.id);
  element.append(create('legend', { textContent: shown(label) }), ...(hint ? [hint] : []), ...children);
  return element;
}

/** What a schema proposes. */
const proposal = (schema) => (isObject(schema) ? (schema.default ?? schema.examples?.[0]) : undefined);

// The kinds of fields.

function jsonField(schema, label, value = proposal(schema), fits = () => true) {
  const text = value === undefined ? '' : JSON.stringify(value, undefined, 2);
  const input = create('textarea', { rows: 3, spellcheck: false, value: text, placeholder: 'JSON' });
  input.className = 'json';
  const read = async () => {
    let parsed;
    try {
      parsed = JSON.parse(input.value);
    } catch (error) {
      throw new Problem(input, `${shown(label)} is no JSON: ${error.message}`);
    }
    if (!fits(parsed)) throw new Problem(input, `${shown(label)} is JSON of another kind`);
    return parsed;
  };
  return { element: labelled(input, schema, label), read };
}

function constantField(schema, label) {
  const input = create('output', { textContent: shown(JSON.stringify(schema.const)) });
  return { element: labelled(input, schema, label), read: async () => schema.const };
}

function choiceField(schema, label) {
  const texts = schema.enum.map((value) => shown(typeof value === 'string' ? value : JSON.stringify(value)));
  const input = create('select', {}, ...texts.map((text, index) => create('option', { value: index, textContent: text })));
  const proposed = schema.enum.indexOf(proposal(schema));
  input.selectedIndex = Math.max(0, proposed);
  return { element: labelled(input, schema, label), read: async () => schema.enum[input.selectedIndex] };
}

function stringField(schema, label) {
  const proposed = proposal(schema);
  const value = typeof proposed === 'string' ? proposed : '';
  const input = schema.maxLength > 120 ? create('textarea', { rows: 2, value }) : create('input', { value });
  input.autocomplete = 'off';
  return { element: labelled(input, schema, label), read: async () => input.value };
}

function numberField(schema, label) {
  const isInteger = schema.type === 'integer';
  const input = create('input', { type: 'number', step: isInteger ? '1' : 'any', autocomplete: 'off' });
  if (typeof schema.minimum === 'number') input.min = schema.minimum;
  if (typeof schema.maximum === 'number') input.max = schema.maximum;
  input.value = proposal(schema) ?? schema.minimum ?? '';
  const read = async () => {
    const value = Number(input.value);
    if (input.value.trim() === '' || !Number.isFinite(value)) throw new Problem(input, `${shown(label)} is no number`);
    return value;
  };
  return { element: labelled(input, schema, label), read };
}

function booleanField(schema, label) {
  const input = create('input', { type: 'checkbox', checked: proposal(schema) === true });
  const element = labelled(input, schema, label);
  element.classList.add('check');
  return { element, read: async () => input.checked };
}

function attachmentField(schema, label) {
  const input = create('input', { type: 'file' });
  const read = async () => {
    const [file] = input.files;
    if (!file) throw new Problem(input, `${shown(label)}: choose a file`);
    return file.arrayBuffer();
  };
  return { element: labelled(input, {}, `${label} (bytes)`), read };
}

function variantsField(schema, label, at) {
  const variants = variantsOf(schema).map((variant) => resolved(variant, at));
  const options = variants.map((variant, index) =>
    create('option', { value: index, textContent: shown(nameOf(variant) ?? `variant ${index + 1}`) }),
  );
  const select = create('select', {}, ...options);
  select.setAttribute('aria-label', `Kind of ${shown(label)}`);
  const body = create('div');
  let current;
  const choose = (at) => {
    current = field(variants[select.selectedIndex], label, at);
    body.replaceChildren(current.element);
  };
  choose(at);
  select.addEventListener('change', () => choose(later(at)));
  return { element: group({}, label, select, body), read: () => current.read() };
}

/** What tells a variant from the others. */
function nameOf(variant) {
  if (!isObject(variant)) return undefined;
  if (typeof variant.title === 'string') return variant.title;
  if (Object.hasOwn(variant, 'const')) return JSON.stringify(variant.const);
  const [name, mark] = Object.entries(variant.properties ?? {}).find(([, it]) => isObject(it) && Object.hasOwn(it, 'const')) ?? [];
  if (mark) return `${name}: ${JSON.stringify(mark.const)}`;
  return typeof variant.type === 'string' ? variant.type : undefined;
}

/** A field that need not be there, made when somebody wants it. */
function optionalField(schema, label, at, isWanted = false) {
  const box = create('input', { type: 'checkbox', id: newId() });
  const body = create('div');
  let made;
  const show = (at) => {
    made = box.checked ? field(schema, label, at) : undefined;
    body.replaceChildren(...(made ? [made.element] : []));
  };
  box.checked = isWanted;
  show(at);
  box.addEventListener('change', () => show(later(at)));
  const choice = create('label', { htmlFor: box.id, className: 'check' }, box, ` with ${shown(label)}`);
  return { box, element: create('div', { className: 'optional' }, choice, body), read: () => made?.read() };
}

function objectField(schema, label, at) {
  const properties = Object.entries(isObject(schema.properties) ? schema.properties : {});
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  const known = new Set(properties.map(([name]) => name));
  const unknown = [...required].filter((name) => !known.has(name)).map((name) => [name, {}]);
  const all = [...properties, ...unknown];
  if (all.length > MAX_FIELDS) return jsonField(schema, label);
  const fields = all.map(([name, of]) => [name, required.has(name) ? field(of, name, at) : optionalField(of, name, at)]);
  const isOpen = all.length === 0 || schema.patternProperties || (schema.additionalProperties ?? false) !== false;
  const isShut = schema.additionalProperties === false && !schema.patternProperties;
  const others = isOpen && !isShut ? jsonField({}, `${label}: more fields, an object`, {}, isObject) : undefined;
  const elements = fields.map(([, { element }]) => element);
  const element = group(schema, label, ...elements, ...(others ? [others.element] : []));
  const read = async () => {
    const entries = Object.entries((await others?.read()) ?? {});
    for (const [name, { box, read }] of fields) {
      if (box && !box.checked) continue;
      entries.push([name, await read()]);
    }
    return Object.fromEntries(entries);
  };
  return { element, read };
}

function arrayField(schema, label, at) {
  return Array.isArray(schema.prefixItems) || schema.minItems > MAX_ITEMS ? tupleField(schema, label, at) : listField(schema, label, at);
}

/** A list whose first places have schemas of their own. */
function tupleField(schema, label, at) {
  const places = Array.isArray(schema.prefixItems) ? schema.prefixItems : [];
  if (places.length > MAX_ITEMS || schema.minItems > MAX_ITEMS) {
    return jsonField(schema, label ?? 'Arguments, a list', [], Array.isArray);
  }
  const least = Math.min(schema.minItems ?? 0, places.length);
  const nameOfPlace = (index) => (label ? `${label} ${index + 1}` : `Argument ${index + 1}`);
  const fields = places.map((of, index) =>
    index < least ? field(of, nameOfPlace(index), at) : optionalField(of, nameOfPlace(index), at, schema.minItems === undefined),
  );
  const most = schema.maxItems ?? Infinity;
  const mayBeMore = schema.items !== false && most > places.length && (isObject(schema.items) || places.length === 0);
  const rest = mayBeMore
    ? listField({ items: schema.items, minItems: Math.max(0, (schema.minItems ?? 0) - places.length) }, `${label ?? 'Arguments'}: more`, at)
    : undefined;
  const elements = [...fields, ...(rest ? [rest] : [])].map(({ element }) => element);
  const element = label ? group(schema, label, ...elements) : create('div', {}, ...elements);
  if (elements.length === 0) element.append(create('p', { className: 'hint', textContent: 'None.' }));
  const read = async () => {
    const values = [];
    let missing;
    const add = async (read) => {
      if (missing) throw new Problem(missing, 'What stands before it is to be given, too');
      values.push(await read());
    };
    for (const { box, read } of fields) {
      if (box && !box.checked) missing ??= box;
      else await add(read);
    }
    for (const value of (await rest?.read()) ?? []) await add(async () => value);
    return values;
  };
  return { element, read };
}

/** A list of as many values of one kind as somebody adds. */
function listField(schema, label, at) {
  const items = create('ol');
  let made = [];
  const add = (at) => {
    const one = field(schema.items ?? {}, `${label} ${made.length + 1}`, at);
    const remove = create('button', { type: 'button', textContent: 'Remove' });
    remove.setAttribute('aria-label', `Remove ${shown(label)} ${made.length + 1}`);
    const item = create('li', {}, one.element, remove);
    remove.addEventListener('click', () => {
      made = made.filter((other) => other !== one);
      item.remove();
      more.focus();
    });
    made.push(one);
    items.append(item);
  };
  const more = create('button', { type: 'button', textContent: 'Add' });
  more.setAttribute('aria-label', `Add to ${shown(label)}`);
  more.addEventListener('click', () => add(later(at)));
  for (let left = Math.min(schema.minItems ?? 0, MAX_ITEMS); left > 0; left -= 1) add(at);
  const read = async () => {
    const values = [];
    for (const one of made) values.push(await one.read());
    return values;
  };
  return { element: group(schema, label, items, more), read };
}
