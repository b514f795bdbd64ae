// The page on the largest clusters says what its model says.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { cost, LOADS, servers, tables } from '../load/scale.mjs';

test('the tables of the page are those of the model', () => {
  const page = readFileSync(new URL('../load/SCALE.md', import.meta.url), 'utf8');
  assert.ok(page.includes(tables().trim()), 'run `node tests/load/scale.mjs` and put its tables into SCALE.md');
});

test('the simulation agrees with what can be calculated, and one stream ends where a reader does', () => {
  for (const [size, count] of [[8, 100], [20, 10], [2, 2]]) {
    const expected = count * (1 - (1 - 1 / count) ** size);
    assert.ok(Math.abs(servers(size, count, 5_000) / expected - 1) < 0.03, `${size} on ${count}`);
  }
  const [chat] = Object.values(LOADS);
  assert.ok(cost('one stream', chat(1e6)));
  assert.equal(cost('one stream', chat(1e7)), undefined);
});
