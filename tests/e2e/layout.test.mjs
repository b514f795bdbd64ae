// The files of the host: who needs whom, so that each room can be read by itself.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const SOURCE = new URL('../../host/src', import.meta.url).pathname;
/** So many modules may pass something on to each other. */
const MOST_HOPS = 6;
const IS_TEST = /(^|\/)(tests?|interleavings)(\.rs|\/)/;

/** What each module says, by its path in the crate, without its tests. */
function modules() {
  const files = readdirSync(SOURCE, { recursive: true }).filter((path) => path.endsWith('.rs') && !IS_TEST.test(path));
  const entries = files.map((path) => {
    const name = path.replace(/(\/mod)?\.rs$/, '').replaceAll('/', '::');
    const [text] = readFileSync(join(SOURCE, path), 'utf8').split(/^#\[cfg\(test\)\]\s*\nmod tests/m);
    return [name, text];
  });
  return new Map(entries.filter(([name]) => name !== 'lib' && name !== 'main'));
}

/** The paths that a tree of `use` names. */
function paths(tree) {
  const [, stem, group] = /^((?:\w+::)*)\{([^]*)\}$/.exec(tree.trim()) ?? [];
  if (group === undefined) return [tree.trim().replace(/\s+as\s+\w+$/, '')];
  const parts = [''];
  let depth = 0;
  for (const char of group) {
    depth += { '{': 1, '}': -1 }[char] ?? 0;
    if (char === ',' && depth === 0) parts.push('');
    else parts[parts.length - 1] += char;
  }
  return parts.filter((part) => part.trim()).flatMap((part) => paths(stem + part.trim()));
}

/** A path from the crate's root, as it is meant in a module. */
function absolute(path, module) {
  const parts = path.split('::');
  if (parts[0] === 'crate') return parts.slice(1);
  const from = module.split('::');
  while (parts[0] === 'self' || parts[0] === 'super') if (parts.shift() === 'super') from.pop();
  return [...from, ...parts];
}

/** Which modules each module uses, where what others pass on counts as theirs who have it. */
function needs() {
  const all = modules();
  const passedOn = new Map();
  const uses = new Map();
  for (const [name, text] of all) {
    const found = [...text.matchAll(/^ *(pub(?:\([\w: ]+\))? )?use ([^;]+);/gm)].filter(
      ([, isPublic, tree]) => isPublic || /^(crate|super|self)::/.test(tree),
    );
    const inline = [...text.matchAll(/\bcrate::(?:\w+::)+\w+/g)].map(([path]) => absolute(path, name));
    const own = found.filter(([, isPublic]) => !isPublic).flatMap(([, , tree]) => paths(tree));
    uses.set(name, [...inline, ...own.map((path) => absolute(path, name))]);
    for (const path of found.filter(([, isPublic]) => isPublic).flatMap(([, , tree]) => paths(tree))) {
      const full = absolute(path, name);
      passedOn.set(`${name}::${full.at(-1)}`, full);
    }
  }
  const longest = (parts, table) => {
    for (let n = parts.length; n > 0; n--) if (table.has(parts.slice(0, n).join('::'))) return n;
    return 0;
  };
  const owner = (parts) => {
    for (let hops = 0, n; hops < MOST_HOPS && (n = longest(parts, passedOn)); hops++) {
      parts = [...passedOn.get(parts.slice(0, n).join('::')), ...parts.slice(n)];
    }
    return parts.slice(0, longest(parts, all)).join('::');
  };
  return new Map([...uses].map(([name, used]) => [name, new Set(used.map(owner).filter((it) => it && it !== name))]));
}

test('no circle of files goes through several rooms', () => {
  const graph = needs();
  assert(graph.size > 200 && graph.get('transport::engine::front').has('transport::engine::sessions'));
  const reach = (from) => {
    const seen = new Set();
    const queue = [from];
    for (const name of queue) {
      for (const next of graph.get(name) ?? []) if (!seen.has(next)) seen.add(next) && queue.push(next);
    }
    return seen;
  };
  const reached = new Map([...graph.keys()].map((name) => [name, reach(name)]));
  const room = (name) => name.split('::')[0];
  const circles = [...graph].flatMap(([name, used]) =>
    [...used].filter((other) => room(other) !== room(name) && reached.get(other).has(name)).map((other) => `${name} -> ${other}`),
  );
  assert.deepEqual(circles, []);
});
