// Each bad thing behind each door: an event, a timer, a webhook, a filter. The one who called is told a code, the
// admin why, nothing of what was written and emitted before has happened, and nobody else notices.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect, received } from '../support/client.mjs';
import { assertFailed, plugin } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { startUpstream } from '../support/upstream.mjs';
import { until } from '../support/wait.mjs';

const upstream = await startUpstream({ after });

/** Small, so that the tests are quick. */
const CONFIG = `
[budget]
cpu = "400ms"
wall = "3s"
memory = "16MiB"
effects = 100
host_calls = 500
log = "2KiB"
boundary = "2MiB"
[breaker]
failures = 1000
[store]
bucket_keys = 50
bucket_bytes = "1MiB"
max_value = "2MiB"
`;
const MISBEHAVES = {
  wasm: 'misbehaves',
  grants: ['store', 'store:shared-*', 'timers', 'emit', 'everyone', 'webhook:unverified', 'filter:echo', `http:${upstream.url}`],
  config: { filters: ['echo'] },
};
const server = await startServer({ after }, { config: CONFIG, plugins: ['echo', 'stamped', MISBEHAVES] });

/** What each deed comes to. */
const DEEDS = [
  ['loop', 'plugin_timeout', /the budget (cpu = 400ms|wall = 3s) is used up/],
  ['sleep', 'plugin_timeout', /the budget wall = 3s is used up/],
  ['trap', 'plugin_error', /it panics on purpose/],
  ['recurse', 'plugin_error', /call stack exhausted/],
  ['grow', 'plugin_error', /the budget memory = 16.* is used up/],
  [{ reads: 1_000_000 }, 'plugin_error', /the budget host_calls = 500 is used up/],
  [{ writes: 1_000_000 }, 'plugin_error', /the budget effects = 100 is used up/],
  [{ writes: 90 }, 'plugin_error', /the budget bucket_keys = 50 of the bucket plugin\/misbehaves is used up/],
  [{ deletes: 1_000_000 }, 'plugin_error', /the budget effects = 100 is used up/],
  [{ fills: [90, 1_000_000] }, 'plugin_error', /the budget boundary = 2.* is used up/],
  [{ fills: [2, 600_000] }, 'plugin_error', /the budget bucket_bytes = 1.* of the bucket plugin\/misbehaves is used up/],
  [{ scans: [1_000_000, 1000] }, 'plugin_error', /the budget host_calls = 500 is used up/],
  [{ buckets: 1_000_000 }, 'plugin_error', /the budget effects = 100 is used up/],
  [{ timers: [1_000_000, 0] }, 'plugin_error', /the budget effects = 100 is used up/],
  [{ requests: [1_000_000, 'http://127.0.0.1:1/'] }, 'plugin_error', /the budget host_calls = 500 is used up/],
  // The first is waited for until little time is left, in which the others fail at once: which budget ends first depends
  // on the machine.
  [{ requests: [1_000_000, `${upstream.url}/held`] }, ['plugin_error', 'plugin_timeout'], /the budget (effects = 100|wall = 3s) is used up/],
  [{ emits: 1_000_000 }, 'plugin_error', /the budget effects = 100 is used up/],
  [{ logs: 1_000_000 }, 'plugin_error', /the budget log = 2.* is used up/],
  [{ prints: 1_000_000 }, 'plugin_error', /the budget log = 2.* is used up/],
  [{ answers: 100_000_000 }, 'plugin_error', /the budget memory = 16.* is used up/],
];

async function post(path, json) {
  const response = await fetch(`${server.url}/hooks/${path}`, { method: 'POST', body: JSON.stringify(json) });
  return { status: response.status, error: response.status < 400 ? undefined : await response.json() };
}

/** How the plugin is called by each door; resolves to what the caller is told, or to nothing if that is nobody. */
const DOORS = {
  event: ({ socket, deed }) => ask(socket, 'misbehaves', deed),
  filter: ({ socket, deed }) => ask(socket, 'echo', deed),
  async webhook({ deed }) {
    const { status, error } = await post('misbehaves', deed);
    assert.ok([500, 503].includes(status), `${status}`);
    return error.error ? error : { error };
  },
  timer: async ({ socket, deed }) => assert.equal(await ask(socket, 'misbehaves:later', deed), undefined),
};

for (const [door, call] of Object.entries(DOORS)) {
  for (const [deed, code, reason] of DEEDS) {
    test(`${door}: ${JSON.stringify(deed)} fails, and nobody else notices`, async (t) => {
      const [socket, witness] = [await connect(t, server), await connect(t, server)];
      const { failures } = await plugin(server, 'misbehaves');
      const [told, other] = await Promise.all([call({ socket, deed }), ask(witness, 'stamped', 1)]);
      assert.equal(other.data, 1);
      if (told === undefined) {
        await until(async () => (await plugin(server, 'misbehaves')).failures > failures, { timeout: 30_000 });
        // What is good takes the place of the one that fails, which would be tried again.
        await ask(socket, 'misbehaves:later', 'nothing');
        await until(async () => (await ask(socket, 'misbehaves:seen', 'done')) === 1, { timeout: 30_000 });
        await ask(socket, 'misbehaves:forget', 'done');
      } else {
        const codes = [code].flat();
        assert.ok(codes.includes(told.error?.code), `${codes} and not ${JSON.stringify(told)}`);
        await assertFailed(server, told, told.error.code);
      }
      const { state, last_failure: last, memory_bytes: bytes } = await plugin(server, 'misbehaves');
      assert.equal(state, 'serving');
      assert.match(last.reason, reason);
      assert.ok(bytes < 32 << 20, `its instances hold ${bytes} bytes`);
      assert.equal(await ask(socket, 'misbehaves:ping'), 'pong');
      assert.equal((await ask(witness, 'stamped', 2)).data, 2);
      assert.equal(await ask(socket, 'misbehaves:seen', 'done'), null, 'nothing is written');
      const emitted = received(witness, 'misbehaves:done');
      assert.equal(emitted.length, told === undefined ? 1 : 0, 'nothing is emitted but by the good timer');
    });
  }
}
