// What MixLab is made of: crates and packages of others, as deny.toml and the lock files have them, and our own code
// that the compiler does not vouch for.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { PYTHON } from '../support/python.mjs';
import { ROOT } from '../support/server.mjs';

const OTHERS = new Set(['node_modules', 'target', '.git']);

/** The paths in the repository of all files whose names match. */
function find(pattern, folder = '') {
  return readdirSync(join(ROOT, folder), { withFileTypes: true })
    .filter(({ name }) => !OTHERS.has(name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return find(pattern, path);
      return pattern.test(entry.name) ? [path] : [];
    });
}

const read = (path) => readFileSync(join(ROOT, path), 'utf8');

test('every crate has a licence, a source and a version that deny.toml allows', () => {
  // So that it is asked of nobody else: crates of other systems are part of what cargo-deny reads.
  execFileSync('cargo', ['fetch', '--locked'], { cwd: ROOT, stdio: 'ignore' });
  const args = ['--offline', '--locked', 'check', '--deny', 'warnings', 'bans', 'licenses', 'sources'];
  const { status, stderr } = spawnSync(join(dirname(PYTHON), 'cargo-deny'), args, { cwd: ROOT, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
});

test('every crate and package is one that its lock file knows by a checksum', () => {
  const locks = find(/^Cargo\.lock$/);
  assert.equal(locks.length, 4);
  for (const path of locks) {
    const [, ...packages] = read(path).split('[[package]]\n');
    const foreign = packages.filter((text) => text.includes('\nsource = '));
    assert.ok(foreign.length > 5, path);
    for (const text of foreign) assert.match(text, /^source = "registry\+\S+crates\.io-index"\nchecksum = "[0-9a-f]{64}"$/m, path);
  }
  const packages = find(/^package-lock\.json$/).flatMap((path) => Object.entries(JSON.parse(read(path)).packages));
  assert.ok(packages.length > 100);
  for (const [name, { integrity, link }] of packages) {
    if (name !== '' && !link) assert.match(integrity ?? '', /^sha512-/, name);
  }
});

/** Where our own code may have `unsafe`, and how often. */
const UNSAFE = {
  'host/scripts/runtime/src/values.rs': 1,
  'host/src/memory.rs': 1,
  'host/src/plugin/cache/mod.rs': 1,
  'tests/fixtures/examples/invalid_utf8.rs': 1,
  'tests/fixtures/examples/start_loops.rs': 1,
  'tests/load/src/pacer.rs': 1,
  'tests/load/src/procfs.rs': 1,
};

/** Where others write it, who are named there. */
const GENERATED = /^(host\/src\/guest\.rs|plugins\/sdk\/src\/lib\.rs|tests\/fixtures\/examples\/\w+\.rs)$/;

test('unsafe is where it is known to be, with the reason beside it, and denied everywhere else', () => {
  const found = {};
  for (const path of find(/\.rs$/)) {
    const source = read(path);
    const lines = source.split('\n');
    for (const [at, line] of lines.entries()) {
      if (!/\bunsafe\b\s*(\{|fn\b|impl\b|extern\b|trait\b)|#!?\[unsafe\(/.test(line.replace(/\/\/.*|"(\\.|[^"\\])*"/g, ''))) continue;
      found[path] = (found[path] ?? 0) + 1;
      const above = lines.slice(Math.max(0, at - 6), at).join('\n');
      assert.match(above, /\/\/ SAFETY: |\breason = "/, `${path}:${at + 1} says why`);
    }
    for (const [allow] of source.matchAll(/#!?\[(?:allow|expect)\([^\]]*\bunsafe_code\b[^\]]*\]/g)) {
      const [, reason] = allow.match(/reason = "([^"]+)"/) ?? [];
      assert.ok(reason, `${path}: ${allow}`);
      assert.ok(UNSAFE[path] || (GENERATED.test(path) && /^generated/.test(reason)), `${path} is known: ${reason}`);
    }
  }
  assert.deepEqual(found, UNSAFE);
  assert.match(read('Cargo.toml'), /^unsafe_code = "deny"$/m);
  const members = find(/^Cargo\.toml$/).filter((path) => path !== 'Cargo.toml' && !path.startsWith('host/scripts/'));
  assert.ok(members.length > 10);
  for (const path of members) assert.match(read(path), /^\[lints\]\nworkspace = true$/m, path);
});
