// What tests of plugins share: their state, their files, and how a call that failed must look.
import assert from 'node:assert/strict';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { nextEvent } from './client.mjs';
import { wasm } from './server.mjs';
import { until } from './wait.mjs';

/** The state of all plugins: `{ config_error, plugins: [{ name, state, generation, … }] }`. */
export const status = async (server) => (await server.api('GET', '/api/v1/plugins')).body;

/** The same after a look at all files. */
export async function reload(server) {
  const { status, body } = await server.api('POST', '/api/v1/plugins/reload');
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

/** The state of one plugin. */
export async function plugin(server, name) {
  const { plugins } = await status(server);
  return plugins.find((plugin) => plugin.name === name) ?? assert.fail(`no plugin ${name}`);
}

/** What is not as the files say, by /readyz: names of plugins and `mixlab.toml`; empty: ready. */
export async function notReady(server) {
  const { status, body } = await server.api('GET', '/readyz', undefined, null);
  if (status === 200) return [];
  assert.equal(status, 503);
  return body.match(/^not ready: (.*)\n/)[1].split(', ');
}

/**
 * Waits until a server is ready. Events see a new version a moment before the server tells of it, so who waited
 * for an answer of the new version waits for this, too.
 */
export const ready = (server) =>
  until(async () => (await notReady(server)).length === 0, { message: () => server.log() });

/** Puts a file in place as a whole, as an editor or a build does. */
export function replaceFile(path, content) {
  writeFileSync(`${path}.new`, content);
  renameSync(`${path}.new`, path);
}

/** Replaces `mixlab.toml` by what `edit` makes of its text; returns what it was. */
export function editConfig({ configPath }, edit) {
  const former = readFileSync(configPath, 'utf8');
  const edited = edit(former);
  assert.notEqual(edited, former, 'the edit found nothing to change');
  replaceFile(configPath, edited);
  return former;
}

/** The first argument of the next event of this name. The last one may be its place in the recovery log. */
export const nextArgument = async (socket, name) => (await nextEvent(socket, name))[0];

/** The guest `stamped` as this version of itself. */
export function stamped(version) {
  const file = readFileSync(wasm('stamped'));
  const at = file.indexOf('STAMP:') + 'STAMP:'.length;
  assert(at > 'STAMP:'.length && file.indexOf('STAMP:', at) === -1, 'one stamp in the file');
  file.write(String(version).padStart(8, '0'), at, 'latin1');
  return file;
}

/** What clients are told of a failed call, by its code; nothing else, for a trap's text is for the log. */
const FAILED = {
  plugin_timeout: { message: 'the plugin took too long', temporary: true },
  plugin_error: { message: 'the plugin failed', temporary: false },
  plugin_unavailable: { message: 'the plugin is not available', temporary: true },
};

/**
 * Checks what a client got for a call that failed: this code, no word of the reason, and a trace
 * id whose log line tells it. Resolves to that line, which goes on over the lines of a trap.
 */
export async function assertFailed(server, answer, code) {
  assert.ok(answer?.error, `an error and not ${JSON.stringify(answer)}`);
  const { trace_id: traceId, ...told } = answer.error;
  assert.deepEqual(told, { code, ...FAILED[code] });
  assert.match(traceId, /^[0-9a-f]{32}$/);
  await server.waitForLog(new RegExp(`${traceId} a call failed[^]*\\n$`));
  const line = /^\d{4}-\d\d-\d\dT\S+ +(?:ERROR|WARN|INFO|DEBUG|TRACE) /m;
  return server
    .log()
    .split(new RegExp(`(?=${line.source})`, 'm'))
    .find((line) => line.includes(`${traceId} a call failed`));
}
