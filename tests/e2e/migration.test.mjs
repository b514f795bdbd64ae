// The guide for those who come from Node: the stock client sees the same on both servers.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { TRANSPORTS, askAll, connect, disconnected, nextEvent, received } from '../support/client.mjs';
import { ROOT, startServer, wasm } from '../support/server.mjs';
import { SECRET, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const EXAMPLE = join(ROOT, 'examples/migration');

/** Beside the packages that it imports. */
const CACHE = join(ROOT, 'tests/node_modules/.cache');

/** The example's server on Node. */
async function startNode(t) {
  mkdirSync(CACHE, { recursive: true });
  const folder = mkdtempSync(join(CACHE, 'migration-'));
  cpSync(join(EXAMPLE, 'node/server.mjs'), join(folder, 'server.mjs'));
  const env = { PATH: process.env.PATH, PORT: '0', JWT_SECRET: SECRET };
  const child = spawn(process.execPath, [join(folder, 'server.mjs')], { env });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  t.after(() => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  });
  const port = () => output.match(/listening on port (\d+)/)?.[1];
  await until(port, { message: () => `Node's server listens: ${output}` });
  return { url: `http://127.0.0.1:${port()}` };
}

/** The example's plugin, with the example's configuration. */
function startMixLab(t) {
  const config = readFileSync(join(EXAMPLE, 'mixlab.toml'), 'utf8');
  const path = '"../../target/plugins/studio.wasm"';
  assert.ok(config.includes(path));
  return startServer(t, { config: config.replace(path, JSON.stringify(wasm('studio'))), recovery: true });
}

/** A day in the studio: what each client was told, in an order that does not depend on the server. */
async function visit(t, server, transports) {
  const seen = [];
  const note = (what, value) => seen.push([what, value]);
  // The texts of refusals are each server's own; programs go by the code.
  const answer = async (socket, ...event) => {
    const reply = await askAll(socket, ...event);
    note(event, reply[0]?.error ? { code: reply[0].error.code, temporary: reply[0].error.temporary } : reply);
  };
  // With recovery, both servers add an argument.
  const told = async (socket, name) => note(name, (await nextEvent(socket, name))[0]);
  const join = (sub, username, role) =>
    connect(t, server, {
      transports,
      token: token({ sub, username, role }),
      reconnectionDelay: 10,
    });

  for (const auth of [{}, { token: 'no token' }]) {
    const refused = connect(t, server, { transports, auth });
    note('refused', await refused.then(() => 'connected', (error) => error.message));
  }
  const ada = await join('1', 'ada', 'admin');
  const grace = await join('2', 'grace', 'student');

  await answer(ada, 'say', { studio: 'a', text: 'anybody?' });
  await answer(grace, 'enter', 'a');
  await answer(ada, 'enter', 'a');
  await told(grace, 'entered');
  await answer(ada, 'say', { studio: 'a', text: 'hello' });
  await told(grace, 'said');
  await told(ada, 'said');
  for (const bad of [{}, { studio: 'a', text: '' }, { studio: 'a', text: 'x'.repeat(501) }, null]) {
    await answer(ada, 'say', bad);
  }
  await answer(grace, 'announce', 'I own this place');
  await answer(ada, 'announce', 'lunch');
  await told(ada, 'announced');
  await told(grace, 'announced');

  grace.io.engine.close();
  note('dropped', await disconnected(grace));
  await told(ada, 'left');
  await answer(ada, 'say', { studio: 'a', text: 'missed' });
  grace.connect();
  await until(() => grace.connected, { message: 'grace is back' });
  note('recovered', grace.recovered);
  await told(grace, 'said');
  await answer(grace, 'say', { studio: 'a', text: 'back' });

  ada.disconnect();
  await told(grace, 'left');
  note('nothing else', received(ada, 'entered').length);
  return seen;
}

for (const transport of TRANSPORTS) {
  test(`a client sees the same of the server on Node and of the plugin, ${transport}`, async (t) => {
    const node = await visit(t, await startNode(t), [transport]);
    const mixlab = await visit(t, await startMixLab(t), [transport]);
    assert.deepEqual(mixlab, node);
    // And it is what the example is about.
    const find = (name) => node.filter(([what]) => what === name).map(([, value]) => value);
    assert.deepEqual(find('refused'), ['unauthorized', 'unauthorized']);
    assert.deepEqual(find('recovered'), [true]);
    assert.deepEqual(find('left').map(({ user }) => user.name), ['grace', 'ada']);
  });
}
