// Plugins without a server: `mixlab call` and `mixlab test`.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { makeFolder, PROGRAM, ROOT } from '../support/server.mjs';
import { PATIENCE, until } from '../support/wait.mjs';

const run = promisify(execFile);

const SHOP = `
import { event, noAck, plugin, reject, t } from "mixlab";

export default plugin({ version: "1.0.0" }, (config) => ({
    buy: event({ args: [t.object({ item: t.string() })] }, async (cx, { item }) => {
        if (item === "moon") reject("sold_out", "There is only one");
        await cx.store.set("last", { item, at: Date.now() });
        cx.join("buyers");
        cx.to("buyers").emit("bought", { item, by: cx.user.id });
        cx.timers.set("remind", { item }, { after: "1h" });
        console.log("sold", item);
        return { item, shop: config.name ?? null };
    }),
    price: event({ args: [t.string()] }, async (cx, item) => {
        const response = await fetch("https://prices.example.com/v1", { method: "POST", body: JSON.stringify({ item }) });
        return (await response.json()).price;
    }),
    change: event({}, async (cx) => {
        cx.store.delete("last");
        cx.leave("buyers");
        cx.timers.cancel("remind");
    }),
    sure: event({}, (cx) => cx.ask("really")),
    keep: event({}, (cx) => { cx.data = { seen: true }; }),
    large: event({}, () => 9007199254740992),
    tidy: event({}, async (cx) => {
        for (const key of ["a", "a!"]) await cx.store.delete(key);
    }),
    crash: event({}, () => { throw new Error("out of order"); }),
    quiet: event({ access: "anyone" }, () => noAck),
})).onTimer(async (cx, timer) => {
    await cx.store.set("reminded", Date.now());
    cx.toUser("7").emit("reminder", timer.payload);
});
`;

const PLUGINS = [
  {
    script: 'shop.ts',
    text: SHOP,
    grants: ['emit', 'room:buyers', 'user:7', 'store', 'timers', 'ask', 'http:https://prices.example.com'],
  },
];

const shop = (t, options) => makeFolder(t, { plugins: PLUGINS, ...options });

const BUY = `[[case.step]]
from = "ann"
send = ["buy", { item = "lamp" }]
ack = [{ item = "lamp", shop = "$null" }]
joins.ann = ["buyers"]
stores.last = { item = "lamp", at = 1767225600000 }
timers.remind = "1h"
`;

const ANN = '[[case]]\nname = "one"\nclients.ann = { user = "7" }\n';

/** Runs cases with the shop. */
async function cases(t, text, ...args) {
  const home = shop(t, { files: { 'scripts/shop.test.toml': text } });
  return { ...(await home.mixlab('test', ...args)), folder: home.folder };
}

describe('mixlab call', () => {
  test('shows the ack, what happens, the log and what was used', async (t) => {
    const home = shop(t);
    const args = ['call', 'scripts/shop.ts', 'buy', '{"item":"lamp"}', '--user', '7'];
    const { code, stdout, stderr } = await home.mixlab(...args);
    assert.equal(code, 0, stderr);
    for (const line of [
      /^ack +\{"item":"lamp","shop":null\}$/m,
      /^join +buyers$/m,
      /^emit +room buyers but the sender +bought +\[\{"by":"7","item":"lamp"\}\]$/m,
      /^store +plugin\/shop last +\{"at":\d+,"item":"lamp"\}$/m,
      /^set timer +remind +\{"due":\d+,"every":null,"payload":\{"item":"lamp"\}\}$/m,
      /^info +sold lamp$/m,
      /^used +cpu \d+ µs of 50ms$/m,
      /^ +memory .+ of 64\.0 MiB$/m,
      /^ +effects \d of 1000$/m,
    ]) {
      assert.match(stdout, line);
    }
    const json = JSON.parse((await home.mixlab(...args, '--plugin-config', '{"name":"Blue"}', '--format', 'json')).stdout);
    assert.deepEqual(json.ack, [{ item: 'lamp', shop: 'Blue' }]);
    assert.deepEqual(
      json.effects.map(({ what }) => what),
      ['join', 'emit'],
    );
    assert.ok(json.used.cpu_us[0] > 0);
  });

  test('ends with 1 where the event is refused or fails, and says why', async (t) => {
    const home = shop(t);
    const call = (...args) => home.mixlab('call', 'scripts/shop.ts', ...args);
    const refused = await call('buy', '{"item":"moon"}', '--user', '7', '--role', 'admin');
    assert.deepEqual([refused.code, refused.stdout.includes('"code":"sold_out"')], [1, true], refused.stdout);
    assert.doesNotMatch(refused.stdout, /^(join|emit|store)/m);
    const nobody = await call('buy', '{"item":"lamp"}');
    assert.match(nobody.stdout, /"code":"unauthorized"/);
    const failed = await call('crash', '--user', '7');
    assert.equal(failed.code, 1);
    assert.match(failed.stdout, /^warn .*\n.*shop\.ts:\d+:\d+/m);
    const noAck = await call('quiet');
    assert.deepEqual([noAck.code, noAck.stdout.startsWith('no ack')], [0, true]);
  });

  test('ends with 2 where it cannot be tried', async (t) => {
    const home = shop(t, { files: { 'broken.ts': 'export default 1 +' } });
    for (const [args, expected] of [
      [['scripts/shop.ts', 'buy', '{item}'], /it is no JSON/],
      [['scripts/shop.ts', 'buy', '--plugin-config', '[]'], /it is no JSON object/],
      [['missing.ts', 'buy'], /missing/],
      [['broken.ts', 'buy'], /broken\.ts:1/],
      [['scripts/shop.ts', 'buy', '--namespace', '/nowhere'], /not let in.*Invalid namespace/],
    ]) {
      const { code, stderr } = await home.mixlab('call', ...args);
      assert.equal(code, 2, stderr);
      assert.match(stderr, expected);
    }
  });

  test('a plugin that no configuration names has all grants, or those that are given', async (t) => {
    const home = makeFolder(t, { files: { 'shop.ts': SHOP } });
    const call = (...args) => home.mixlab('call', 'shop.ts', 'buy', '{"item":"lamp"}', '--user', '7', ...args);
    assert.equal((await call()).code, 0);
    const narrow = await call('--grant', 'room:buyers');
    assert.equal(narrow.code, 1);
    assert.match(narrow.stdout, /does not grant "store"/);
  });
});

describe('mixlab test', () => {
  test('the plugins of this repository pass their cases', { timeout: 600_000 }, async () => {
    const env = { ...process.env, PAYMENTS_SECRET: undefined };
    for (const args of [
      ['test'],
      ['test', 'plugins'],
      ['test', '-c', 'examples/migration/mixlab.toml', 'examples/migration/plugin'],
      ['test', '-c', 'plugins/c/mixlab.toml'],
      ['test', '-c', 'plugins/python/mixlab.toml'],
    ]) {
      const { stdout } = await run(PROGRAM, args, { cwd: ROOT, env });
      assert.match(stdout, /^\d+ cases? passed$/m);
      if (args[1] === 'plugins') assert.match(stdout, /plugins\/chat\/chat\.test\.toml {2}chat: .*\n(.*\n)*.*chat: /);
    }
  });

  test('a case sees acks, emits, rooms, the store, timers and requests, with a clock that it moves', async (t) => {
    const text = `${ANN}clients.bob = { user = "8", answers.really = [true] }

[[case.step]]
from = "bob"
send = ["buy", { item = "pen" }]
joins.bob = ["buyers"]
stores.last = "$any"
timers.remind = "1h"

${BUY.replace('timers.remind = "1h"\n', '')}gets.bob = [["bought", { item = "lamp", by = "7" }]]

[[case.step]]
from = "ann"
send = ["buy", { item = "moon" }]
refused = "sold_out"

[[case.step]]
from = "ann"
send = ["price", "lamp"]
ack = [12]
http = [{ request = "POST https://prices.example.com/v1", body = { item = "lamp" }, answer = { body = { price = 12 } } }]

[[case.step]]
from = "bob"
send = ["sure"]
ack = [true]
gets.bob = [["really"]]

[[case.step]]
advance = "59m 59s"

[[case.step]]
advance = "1s"
stores.reminded = 1767229200000
gets.ann = [["reminder", { item = "lamp" }]]

[[case.step]]
from = "ann"
send = ["buy", { item = "lamp" }]
gets.bob = [["bought", "$any"]]
stores.last = { item = "lamp", at = "$number" }
timers.remind = "1h"

[[case.step]]
from = "ann"
send = ["change"]
leaves.ann = ["buyers"]
deletes = ["last"]
cancels = ["remind"]

[[case.step]]
disconnect = "bob"
leaves.bob = ["buyers"]
`;
    const { code, stdout, stderr } = await cases(t, text);
    assert.equal(code, 0, stdout + stderr);
  });

  const UNEXPECTED = {
    'an ack': ['ack = [{ item = "lamp", shop = "$null" }]', 'ack = [{ item = "pen", shop = "$null" }]', /ack\[0\]\.item\n +expected +"pen"\n +found +"lamp"/],
    'a room': ['joins.ann = ["buyers"]\n', '', /joins\.ann\n +expected +nothing\n +found +\["buyers"\]/],
    'a value in the store': ['stores.last = { item = "lamp", at = 1767225600000 }\n', '', /stores\.last\n +expected +nothing/],
    'a timer': ['timers.remind = "1h"\n', '', /timers\.remind\n +expected +nothing\n +found +"1h"/],
    'a timer at another time': ['timers.remind = "1h"', 'timers.remind = "2h"', /timers\.remind\n +expected +"2h"\n +found +"1h"/],
    'an emit': ['ack =', 'gets.ann = [["bought"]]\nack =', /gets\.ann\n +expected +\[\["bought"\]\]\n +found +nothing/],
  };
  for (const [what, [from, to, expected]] of Object.entries(UNEXPECTED)) {
    test(`what is not expected fails the case, and is shown: ${what}`, async (t) => {
      const { code, stdout, stderr } = await cases(t, ANN + BUY.replace(from, to));
      assert.equal(code, 1, stdout + stderr);
      assert.match(stdout, /^FAILED +scripts\/shop\.test\.toml:4 +shop: one$/m);
      assert.match(stdout, expected);
      assert.match(stdout, /info +sold lamp/);
      assert.match(stderr, /^error: 1 of 1 cases failed$/m);
    });
  }

  test('a request that nobody expects has no answer, and fails the case', async (t) => {
    const { code, stdout } = await cases(t, `${ANN}[[case.step]]\nfrom = "ann"\nsend = ["price", "lamp"]\nrefused = "$any"\n`);
    assert.equal(code, 1);
    assert.match(stdout, /http\[0\]\n +expected +nothing\n +found +\{"request":"POST https:\/\/prices\.example\.com\/v1"\}/);
  });

  test('a plugin that fails, fails the case; one that is expected to, does not', async (t) => {
    const step = '[[case.step]]\nfrom = "ann"\nsend = ["crash"]\n';
    const failed = await cases(t, ANN + step);
    assert.equal(failed.code, 1);
    assert.match(failed.stdout, /shop\.ts:\d+:\d+/);
    const expected = await cases(t, `${ANN}${step}refused = "plugin_error"\n`);
    assert.equal(expected.code, 0, expected.stdout);
  });

  test('a case fails where nothing would happen, and sees what the plugin keeps and what is a number', async (t) => {
    const send = (event, from = 'ann') => `[[case.step]]\nfrom = "${from}"\nsend = ["${event}"]\n`;
    const both = `${ANN}clients.eve = { user = "9" }\nstored = { a = 1, "a!" = 2 }\n`;
    const leave = '[[case.step]]\ndisconnect = "ann"\n';
    for (const [steps, expected] of [
      [`${send('keep')}data.ann = { seen = true }\n${send('keep')}`, /1 case passed/],
      [send('keep'), /data\.ann\n +expected +nothing\n +found +\{"seen":true\}/],
      [`${send('keep')}data.ann = 1\n`, /data\.ann\n +expected +1\n/],
      [`${send('large')}ack = [9007199254740992]\n`, /1 case passed/],
      [`${send('large')}ack = [9007199254740993]\n`, /ack\[0\]\n +expected +9007199254740993\n +found +9007199254740992/],
      [leave + send('keep'), /ann is connected\n +expected +true\n +found +false/],
      [leave + leave, /ann is connected\n +expected +true/],
      [`${send('keep', 'eve')}[[case.step]]\nconnect = "eve"\n`, /eve is connected\n +expected +true/],
      ['[[case.step]]\nconnect = "eve"\ngets.eve = [["authenticated", "$any"]]\n'.repeat(2), /eve is connected\n +expected +false/],
      [`${send('tidy')}deletes = ["a", "a!"]\n`, /1 case passed/],
    ]) {
      const { code, stdout } = await cases(t, both + steps);
      assert.match(stdout, expected, steps);
      assert.equal(code, stdout.includes('FAILED') ? 1 : 0, steps);
    }
  });

  test('ends with 2 where nothing can be run', async (t) => {
    for (const [text, expected] of [
      ['[[case]]\n', /shop\.test\.toml:1: missing field `name`/],
      [`${ANN}[[case.step]]\nsend = ["buy"]\n`, /shop\.test\.toml:4: send and from belong together/],
      [`plugin = "nobody"\n${ANN}${BUY}`, /there is no plugin "nobody"/],
      ['', /shop\.test\.toml: there is no \[\[case\]\] in it/],
      [ANN, /shop\.test\.toml:1: there is no \[\[case\.step\]\] in it/],
      [`${ANN}[[case.step]]\nfrom = "ann"\nsend = ["change"]\nack = 1\n`, /shop\.test\.toml:4: ack: invalid type/],
      [`${ANN}[[case.step]]\nadvance = "1s"\ngets.ann = ["x"]\n`, /shop\.test\.toml:4: gets\.ann\[0\]: invalid type/],
    ]) {
      const { code, stdout } = await cases(t, text);
      assert.equal(code, 2, stdout);
      assert.match(stdout, expected);
    }
    const nothing = await makeFolder(t).mixlab('test');
    assert.deepEqual([nothing.code, /there are no cases/.test(nothing.stderr)], [2, true]);
    const broken = makeFolder(t, { files: { 'a.ts': 'export default 1 +', 'a.test.toml': ANN + BUY } });
    const refused = await broken.mixlab('test', 'a.test.toml');
    assert.equal(refused.code, 2, refused.stderr);
    assert.match(refused.stdout, /^NOT RUN a\.test\.toml.*\n.*a\.ts:1/m);
  });

  test('a file of no use is one case that is not run, and keeps none of the others from it', async (t) => {
    const files = { 'cases/shop.test.toml': `path = "../scripts/shop.ts"\n${ANN}${BUY}`, 'cases/a.test.toml': '[[case]', 'cases/b.test.toml': '' };
    const home = shop(t, { files });
    writeFileSync(join(home.folder, 'cases/b.test.toml'), Buffer.from([0x23, 0xff, 0x0a]));
    symlinkSync('nowhere', join(home.folder, 'cases/c.test.toml'));
    symlinkSync('d.test.toml', join(home.folder, 'cases/d.test.toml'));
    mkdirSync(join(home.folder, 'cases/e.test.toml'));
    const { code, stdout, stderr } = await home.mixlab('test', 'cases', '--junit', 'report.xml');
    assert.equal(code, 2);
    assert.match(stderr, /^error: 4 of 5 cases could not be run$/m);
    assert.match(stdout, /^ok {6}cases\/shop\.test\.toml {2}shop: one/m);
    for (const name of ['a', 'b', 'c', 'd']) {
      assert.match(stdout, new RegExp(`^NOT RUN cases/${name}\\.test\\.toml {2}all cases\\n {2}cases/${name}\\.test\\.toml.*: .`, 'm'));
    }
    const xml = readFileSync(join(home.folder, 'report.xml'), 'utf8');
    assert.match(xml, /tests="5" failures="0" errors="4"/);
    assert.match(xml, /<testcase classname="cases\/b\.test\.toml" name="all cases" [^>]*><error>.*UTF-8<\/error>/);
  });

  test('a file’s name is one line of what is printed', async (t) => {
    const name = 'scripts/a\nok      all.test.toml';
    const home = shop(t, { files: { [name]: `plugin = "shop"\n${ANN}${BUY}\n[[case]]\nname = "two"\nclients.ann = { user = "7" }\n[[case.step]]\nfrom = "ann"\nsend = ["change"]\nrefused = "no"\n` } });
    const { code, stdout } = await home.mixlab('test', 'scripts');
    assert.equal(code, 1);
    assert.match(stdout, /^ok {6}scripts\/a\\nok {6}all\.test\.toml {2}shop: one/m);
    assert.match(stdout, /^FAILED {2}scripts\/a\\nok {6}all\.test\.toml:\d+ {2}shop: two$/m);
  });

  test('writes what JUnit reads', async (t) => {
    const text = `${ANN}${BUY}\n[[case]]\nname = "<two> & \\"three\\""\nclients.ann = { user = "7" }\n[[case.step]]\nfrom = "ann"\nsend = ["change"]\nrefused = "no"\n`;
    const { code, folder } = await cases(t, text, '--junit', 'report.xml');
    assert.equal(code, 1);
    const xml = readFileSync(join(folder, 'report.xml'), 'utf8');
    assert.match(xml, /<testsuite name="mixlab" tests="2" failures="1" errors="0" time="[\d.]+">/);
    assert.match(xml, /name="shop: &lt;two&gt; &amp; &quot;three&quot;" time="[\d.]+"><failure message="scripts\/shop\.test\.toml:\d+">/);
  });

  test('with --watch, runs them again when the plugin or the cases change', async (t) => {
    const home = shop(t, { files: { 'scripts/shop.test.toml': ANN + BUY } });
    const { watching, rounds } = watch(home);
    await rounds(1);
    assert.match(watching.stdout(), /^1 case passed$/m);
    writeFileSync(join(home.folder, 'scripts/shop.ts'), SHOP.replace('"buyers").emit', '"buyers").includeSender().emit'));
    await rounds(2);
    assert.match(watching.stdout(), /gets\.ann\n +expected +nothing/);
    writeFileSync(join(home.folder, 'scripts/shop.test.toml'), `${ANN}${BUY}gets.ann = [["bought", "$any"]]\n`);
    await rounds(3);
    assert.match(watching.stdout(), /1 case passed\nwaiting for changes\n$/);
  });

  test('with --watch, runs them again when the first cases are there, and others', async (t) => {
    const home = shop(t);
    const { watching, rounds } = watch(home);
    await rounds(1);
    assert.match(watching.stdout(), /^there are no cases/);
    writeFileSync(join(home.folder, 'scripts/shop.test.toml'), 'cases = "../all.toml"\n');
    await rounds(2);
    assert.match(watching.stdout(), /all\.toml.*No such file/);
    writeFileSync(join(home.folder, 'all.toml'), ANN + BUY);
    await rounds(3);
    assert.match(watching.stdout(), /1 case passed\nwaiting for changes\n$/);
    writeFileSync(join(home.folder, 'all.toml'), ANN + BUY.replace('"buy"', '"steal"'));
    await rounds(4);
    assert.match(watching.stdout(), /1 of 1 cases failed\nwaiting for changes\n$/);
  });

  test('with --watch, runs them again when a folder has more of them, or their plugin is there', async (t) => {
    const home = shop(t, { files: { 'more/one.test.toml': 'plugin = "shop"\n' + ANN + BUY } });
    const { watching, rounds } = watch(home, 'more');
    await rounds(1);
    mkdirSync(join(home.folder, 'more/below'));
    writeFileSync(join(home.folder, 'more/below/late.test.toml'), ANN + BUY);
    await rounds(2);
    assert.match(watching.stdout(), /there is no plugin "late"/);
    writeFileSync(join(home.folder, 'more/below/late.ts'), 'export default 1;\n');
    await rounds(3);
    assert.doesNotMatch(watching.stdout().split('waiting for changes')[2], /there is no plugin "late"/);
  });

  test('with --watch, runs them again when what a script imports changes', async (t) => {
    const files = {
      'scripts/shop.ts': `import "./parts/first";\n${SHOP}`,
      'scripts/parts/first.ts': 'export const one = 1;\n',
      'scripts/shop.test.toml': ANN + BUY,
    };
    const home = shop(t, { files });
    const { watching, rounds } = watch(home);
    await rounds(1);
    assert.match(watching.stdout(), /^1 case passed$/m);
    writeFileSync(join(home.folder, 'scripts/parts/first.ts'), 'throw new Error("the first part");\n');
    await rounds(2);
    assert.match(watching.stdout(), /the first part/);
  });

  test('with --watch, sees what has changed while they ran', async (t) => {
    const home = shop(t, { files: { 'scripts/shop.test.toml': ANN + BUY } });
    const report = join(home.folder, 'report.xml');
    // Nobody reads it: they run until somebody does.
    execFileSync('mkfifo', [report]);
    const { watching, rounds } = watch(home, '--junit', report);
    await until(() => /^ok /m.test(watching.stdout()), { message: watching.stdout });
    writeFileSync(join(home.folder, 'scripts/shop.test.toml'), ANN + BUY.replace('"buy"', '"steal"'));
    const read = async () => (await run('cat', [report], { timeout: PATIENCE })).stdout;
    assert.match(await read(), /failures="0"/);
    assert.match(await read(), /failures="1"/);
    await rounds(2);
  });
});

/** `mixlab test --watch`, and what waits until it has run so many times. */
function watch(home, ...args) {
  const watching = home.start('test', '--watch', ...args);
  const rounds = (count) => until(() => watching.stdout().split('waiting for changes').length > count, { message: watching.stdout });
  return { watching, rounds };
}

/** A component with a section that means nothing, so that it is as large as one in Python. */
function enlarged(name) {
  const component = readFileSync(join(process.env.MIXLAB_GUESTS ?? join(ROOT, 'target/wasm32-wasip2/release/examples'), `${name}.wasm`));
  const size = 5 << 20;
  const length = [...Array(5).keys()].map((place) => ((size >>> (7 * place)) & 0x7f) | (place < 4 ? 0x80 : 0));
  return Buffer.concat([component, Buffer.from([0, ...length]), Buffer.from([3, 0x70, 0x61, 0x64]), Buffer.alloc(size - 4)]);
}

test('what takes the compiler long is said once, and kept', async (t) => {
  const home = makeFolder(t, { config: '' });
  writeFileSync(join(home.folder, 'large.wasm'), enlarged('echo'));
  const env = { ...process.env, MIXLAB_RUNTIME__CACHE: join(home.folder, 'cache') };
  const said = /^compiling large, which has 5\.\d MiB: this may take a minute, and it is kept for the next time$/m;
  const call = () => run(PROGRAM, ['call', 'large.wasm', 'echo', '1'], { cwd: home.folder, env });
  assert.match((await call()).stderr, said);
  assert.doesNotMatch((await call()).stderr, /compiling/);
});
