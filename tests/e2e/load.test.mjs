// The load tool, in short: it counts what it should, and nothing is lost, double or out of order. Of
// what anything costs, only memory is asserted here.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { FULL } from '../support/full.mjs';
import { API_KEY, GUESTS, LOAD, PROGRAM, startServer } from '../support/server.mjs';
import { SECRET } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const GUEST = ['--guest', join(GUESTS, 'stamped.wasm')];
const SHORT = ['--warm-up', '200ms', '--time', '500ms'];

/** Runs a scenario against servers of its own, none of which it leaves behind; resolves to its result. */
async function load(scenario, ...args) {
  const mark = randomUUID();
  const options = { env: { ...process.env, MARK: mark } };
  const { stdout } = await promisify(execFile)(LOAD, [scenario, ...args, '--server', PROGRAM, '--format', 'json'], options);
  const isLeft = (process) => {
    try {
      return readFileSync(`/proc/${process}/environ`, 'latin1').includes(mark);
    } catch {
      return false;
    }
  };
  assert.deepEqual(readdirSync('/proc').filter(isLeft), [], 'processes that were left behind');
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

function assertFaultless(result) {
  const names = ['disconnects', 'lost', 'lost_acks', 'double', 'double_acks', 'out_of_order', 'wrong_answers', 'wrong_version', 'errors'];
  const faults = names.filter((name) => name in result);
  assert.ok(faults.length >= 5, JSON.stringify(result));
  for (const name of faults) assert.equal(result[name], 0, `${name} in ${JSON.stringify(result)}`);
}

describe('mixlab-load', { concurrency: 1 }, () => {
  for (const [name, args] of Object.entries({
    'one question after the other': ['echo', '--sockets', '8', ...SHORT],
    'many questions at once': ['echo', '--sockets', '4', '--in-flight', '32', ...SHORT],
    'questions at a fixed rate': ['echo', '--sockets', '8', '--rate', '500', ...SHORT],
    'questions with acks': ['ack', '--sockets', '8', ...SHORT],
    'pushes to many': ['fanout', '--subscribers', '500', '--pushes', '50', '--every', '1ms'],
  })) {
    test(name, async () => {
      const result = await load(...args);
      assertFaultless(result);
      assert.ok(result.messages > 0);
      assert.equal(result.miscounted_pushes ?? 0, 0);
    });
  }

  for (const transport of ['websocket', 'polling']) {
    test(`clients connect and leave, ${transport}`, async () => {
      const result = await load('connect', '--clients', '50', '--transport', transport);
      assertFaultless(result);
      assert.equal(result.left_at_end, 0);
    });
  }

  // With polling, a connection has a request under way, and with it the buffers of the HTTP server.
  for (const [transport, most] of [
    ['websocket', 6],
    ['polling', 30],
  ]) {
    test(`connections at rest take little memory, ${transport}`, async (t) => {
      const many = ['--sockets', '1000', '--recovery', '--transport', transport];
      const result = await load('idle', ...many, '--rest', '500ms', '--hold', '100ms');
      assertFaultless(result);
      assert.ok(result.kib_per_connection < most, `${result.kib_per_connection} KiB`);
      t.diagnostic(`${result.kib_per_connection} KiB a connection`);
    });
  }

  test('the memory of a crowd that has left is given back', { skip: !FULL && 'takes a minute' }, async (t) => {
    // What a client leaves behind for longest are the times at which it was to be looked at.
    const config = '[socket]\nping_interval = "2s"\nconnect_timeout = "2s"';
    const server = await startServer(t, { recovery: true, config });
    const memory = () => Number(readFileSync(`/proc/${server.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+) kB/)[1]);
    const attached = ['--attach', server.url, '--pid', `${server.pid}`, '--secret', SECRET, '--api-key', API_KEY];
    const crowd = async (clients) => {
      const { stdout } = await promisify(execFile)(LOAD, ['connect', '--clients', clients, ...attached, '--format', 'json']);
      return JSON.parse(stdout.trim().split('\n').at(-1));
    };
    assertFaultless(await crowd('50'));
    const before = memory();
    const { server_peak_rss_kib: peak, ...result } = await crowd('5000');
    assertFaultless(result);
    assert.equal(result.left_at_end, 0);
    await until(() => memory() - before < (peak - before) / 2, { timeout: 90_000 });
    t.diagnostic(`${before} KiB, at most ${peak} KiB, then ${memory()} KiB`);
  });

  test('a plugin is replaced under load', async () => {
    const [sockets, swaps] = FULL ? [1000, 50] : [20, 5];
    const result = await load('reload', '--sockets', `${sockets}`, '--swaps', `${swaps}`, ...GUEST);
    assertFaultless(result);
    assert.deepEqual([result.sockets, result.swaps, result.connected_at_end], [sockets, swaps, sockets]);
    assert.ok(result.events > 0 && result.refused_swaps > 0);
  });

  test('a cluster fails in every way, and no client misses anything unknowingly', async (t) => {
    const each = ['redis-holds', 'redis-kills', 'redis-losses', 'kills', 'holds', 'leaves'].flatMap((name) => [`--${name}`, '1']);
    const size = FULL ? ['--max-time', '9m'] : ['--servers', '2', '--clients', '20', '--calm', '200ms', ...each];
    // Its exit code tells of faults.
    const result = await load('cluster', ...size);
    assert.ok(result.copies > 0 && result.recovered > 0, JSON.stringify(result));
    t.diagnostic(JSON.stringify(result));
  });

  test('a good plugin among bad ones', async (t) => {
    const size = FULL ? [] : ['--sockets', '10', '--rate', '100', '--troublemakers', '2', '--turns', '1', '--time', '2s'];
    const result = await load('mixed', ...size, ...GUEST);
    assertFaultless(result);
    assert.ok(result.good_events > 0 && result.loops_stopped > 0);
    t.diagnostic(`its 99th percentile is ${result.good_p99_ratio} times what it is without them`);
  });

  for (const [study, ...args] of [['start'], ['curves', '--only', 'rooms'], ...(FULL ? [['admission'], ['languages']] : [])]) {
    test(`${study} writes its results`, async (t) => {
      const folder = mkdtempSync(join(tmpdir(), 'mixlab-load-'));
      t.after(() => rmSync(folder, { recursive: true }));
      const own = ['--rounds', '1', '--mixlab', PROGRAM, '--output', folder, ...GUEST, '--format', 'json'];
      // Its exit code tells of faults.
      const { stdout } = await promisify(execFile)(LOAD, [study, ...args, ...own]);
      assert.equal(JSON.parse(stdout.trim().split('\n').at(-1)).scenario, study);
      assert.match(readFileSync(join(folder, `${study}.md`), 'utf8'), /^# .*\n(.*\n)*\|/);
    });
  }
});
