// What plugins, clients and files say is read on terminals and in logs. Nothing of it may pass for what MixLab says,
// end a line, move a cursor or turn what stands beside it.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { makeFolder, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

/** Ends a line and forges one, clears a terminal in two ways, and turns and hides what follows. */
const BAD = 'x\nFORGED serving\r\u001b[2J\u009b31m\u202e\u2066\u200b\ufeff\u2028y';

/** A plugin that says it wherever it has its say. */
const script = ({ emits = 'said', limit = '5/1s', fails = false } = {}) => `import { event, plugin, reject, t } from "mixlab";
const bad = ${JSON.stringify(BAD)};
export default plugin(
    { emits: { [bad + ${JSON.stringify(emits)}]: [t.any()] } },
    () => {
        if (${fails}) throw new Error(bad);
        return {
            [bad]: event({ access: "anyone", limit: { socket: ${JSON.stringify(limit)} }, args: [t.schema({ description: bad })] }, async (cx, value) => {
                console.log(bad);
                cx.join("r:" + bad);
                cx.timers.set(bad, bad, { after: "1h" });
                await cx.store.set(bad, bad);
                cx.emit(bad + "said", bad);
                return bad;
            }),
            fails: event({ access: "anyone" }, () => { throw new Error(bad); }),
        };
    },
).onTimer(() => {});
`;

const PLUGIN = { script: 'bad.ts', grants: ['emit', 'room:*', 'store', 'timers'] };

/** Fails if a text does anything to who reads it. */
function assertHarmless(what, text) {
  assert.ok(text.length > 0, `${what} says something`);
  const acting = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/.exec(text);
  assert.equal(acting, null, `${what}: ${JSON.stringify(text)}`);
  assert.doesNotMatch(text, /^FORGED/m, `${what}: ${text}`);
}

const CASES = `grants = ["emit", "room:*", "store", "timers"]
[[case]]
name = ${JSON.stringify(BAD)}
clients.ann = {}
[[case.step]]
from = "ann"
send = [${JSON.stringify(BAD)}, 1]
[[case.step]]
from = "ann"
send = ["fails"]
`;

/** Each is a command in a folder with two versions of the plugin, with what of it stands in the text, too. */
const COMMANDS = {
  check: [],
  'plugin inspect': ['scripts/bad.ts'],
  'plugin diff': ['scripts/bad.ts', 'other.ts'],
  call: ['scripts/bad.ts', BAD, '1'],
  test: ['bad.test.toml', '--junit', 'junit.xml'],
};

test('what a plugin says does nothing to who reads what a command prints', { timeout: 120_000 }, async (t) => {
  const files = { 'other.ts': script({ emits: 'other', limit: '1/1s' }), 'bad.test.toml': `path = "scripts/bad.ts"\n${CASES}` };
  const home = makeFolder(t, { files, plugins: [{ ...PLUGIN, text: script() }] });
  for (const [command, args] of Object.entries(COMMANDS)) {
    const { stdout, stderr } = await home.mixlab(...command.split(' '), ...args);
    assertHarmless(command, stdout + stderr);
    assert.match(stdout, /x\\nFORGED serving\\r\\u001b\[2J\\u009b31m\\u202e/, command);
    if (command === 'test') continue;
    const json = await home.mixlab(...command.split(' '), ...args, '--format', 'json');
    assertHarmless(`${command} as JSON`, json.stdout);
    assert.ok(JSON.stringify(JSON.parse(json.stdout)).includes(JSON.stringify(BAD).slice(1, -1)), 'programs read it as it is');
  }
  assertHarmless('JUnit', readFileSync(join(home.folder, 'junit.xml'), 'utf8'));

  // As the reason of a failure.
  writeFileSync(join(home.folder, 'scripts/bad.ts'), script({ fails: true }));
  for (const [command, args] of Object.entries(COMMANDS)) {
    const { code, stdout, stderr } = await home.mixlab(...command.split(' '), ...args);
    assert.notEqual(code, 0, command);
    assertHarmless(`${command} that fails`, stdout + stderr);
    assert.match(stdout + stderr, /FORGED serving\\r/, command);
  }
});

test('what a plugin and its clients say does nothing to who reads the log, lists and records', { timeout: 120_000 }, async (t) => {
  const server = await startServer(t, { args: ['--record', 'calls.jsonl'], plugins: [{ ...PLUGIN, text: script() }] });
  const socket = await connect(t, server);
  assert.equal(await ask(socket, BAD, 1), BAD);
  const { error } = await ask(socket, 'fails');
  await server.waitForLog(new RegExp(error.trace_id));
  await ask(socket, BAD, 1, 2);
  await ask(socket, `nobody ${BAD}`, 1);
  for (const args of [['plugin', 'list'], ['plugin', 'reload'], ['logs', '--plugin', 'bad'], ['timers', 'list']]) {
    const { code, stdout, stderr } = await server.mixlab(...args);
    assert.equal(code, 0, stderr);
    assertHarmless(args.join(' '), stdout);
    assert.match(stdout, /FORGED serving\\r/, args.join(' '));
  }
  // Programs read those, for which a name is a name; it ends no line.
  assert.doesNotMatch((await server.api('GET', '/metrics')).body, /^FORGED|\nx$/m);
  writeFileSync(join(server.folder, 'scripts/bad.ts'), script({ fails: true }));
  await until(async () => /refused/.test((await server.mixlab('plugin', 'list')).stdout));
  const list = await server.mixlab('plugin', 'list');
  assertHarmless('a list with what is refused', list.stdout);
  assert.equal(await server.stop(), 0);
  assertHarmless('the log', server.log());
  assertHarmless('what is printed', server.output());

  writeFileSync(join(server.folder, 'scripts/bad.ts'), script({ emits: 'other' }).replace('return bad;', 'return 1;'));
  const replayed = await server.mixlab('replay', 'calls.jsonl');
  assertHarmless('replay', replayed.stdout + replayed.stderr);
  assert.match(replayed.stdout, /call \d+ {2}event x\\nFORGED serving\\r/);
  const asCase = await server.mixlab('replay', 'calls.jsonl', '--trace', error.trace_id, '--as-case');
  assertHarmless('a case of a record', asCase.stdout);
});
