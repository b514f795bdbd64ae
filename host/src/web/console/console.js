// The console: shows how plugins and the server stand, and has plugins reloaded and rolled back. All that plugins,
// clients and files say is set as text, never as HTML.
import { create, shown } from './text.js';
import { budget, events, facts, failure, grants, lines, load, notices, pluginRow, server, timers } from './views.js';

/** How often what is shown is fetched while the page is seen, and how long an answer is waited for. */
const PACE_MS = 2000;
const PATIENCE_MS = 10_000;
/** Reloads compile. */
const WORK_PATIENCE_MS = 180_000;

/** So many lines of a log are shown. */
const MAX_LINES = 500;

const KEY = 'mixlab-console-key';

const element = (id) => document.getElementById(id);

/** What the API refuses, with its `code` and the HTTP `status`. */
class Refusal extends Error {
  constructor(status, { code, message }) {
    super(message);
    Object.assign(this, { status, code });
  }
}

async function request(method, path, { body, patience = PATIENCE_MS } = {}) {
  const headers = { authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ''}` };
  const response = await fetch(path, { method, headers, body, cache: 'no-store', signal: AbortSignal.timeout(patience) });
  const answer = await response.json();
  if (!response.ok) throw new Refusal(response.status, answer.error);
  return answer;
}

/** The session that runs, counted: with each, what the one before still waits for is nobody's any more. */
let session = 0;

/** Asks the API. Whoever asked in a session that has ended meanwhile is told nothing. */
function api(...args) {
  const asked = session;
  return new Promise((resolve, reject) => {
    const inSession = (settle) => (outcome) => asked === session && settle(outcome);
    request(...args).then(inSession(resolve), inSession(reject));
  });
}

const pathOf = (name, more = '') => `/api/v1/plugins/${encodeURIComponent(name)}${more}`;

// What is shown changes only where it says something else: what somebody reads, selects or is about to press stays.

const drawn = new WeakMap();

/** Fills an element with what `view` makes of the values, if these have changed. */
function draw(target, view, ...values) {
  const said = JSON.stringify(values);
  if (drawn.get(target) === said) return;
  drawn.set(target, said);
  target.replaceChildren(...[view(...values)].flat().filter(Boolean));
}

function clear(ids) {
  for (const id of ids) {
    drawn.delete(element(id));
    element(id).replaceChildren();
  }
}

/** What was fetched last. */
let status;
let standing;
/** The name of the plugin that is looked at, and how it stood last. */
let chosen;
let looked;
let mayOperate = false;
/** Reloads and roll backs that are under way, by plugin. */
const busy = new Set();
/** How many calls there were by plugin, and when; and how many there are in a second. */
const counts = new Map();
const rates = new Map();

function measure(plugins) {
  const now = performance.now();
  for (const { name, calls } of plugins) {
    const before = counts.get(name);
    if (before && calls >= before.calls) rates.set(name, ((calls - before.calls) * 1000) / (now - before.at));
    counts.set(name, { calls, at: now });
  }
}

function drawPlugins() {
  const list = element('plugins');
  const rows = new Map([...list.children].map((row) => [row.dataset.name, row]));
  const wanted = status.plugins.map(({ name }) => name);
  for (const [name, row] of rows) if (!wanted.includes(name)) row.remove();
  status.plugins.forEach((plugin, index) => {
    let row = rows.get(plugin.name);
    if (!row) {
      const button = create('button', { type: 'button' });
      button.addEventListener('click', () => choose(plugin.name));
      row = create('li', {}, button);
      row.dataset.name = plugin.name;
    }
    if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
    row.firstChild.setAttribute('aria-pressed', plugin.name === chosen);
    draw(row.firstChild, pluginRow, plugin, rates.get(plugin.name) ?? 0);
  });
}

function drawPlugin(plugin) {
  looked = plugin;
  if (isOutdated()) element('confirm').close('outdated');
  element('plugin').hidden = false;
  element('name').textContent = shown(plugin.name);
  element('state').className = 'state';
  element('state').dataset.state = plugin.state;
  element('state').textContent = plugin.state.replace('-', ' ');
  draw(element('facts'), facts, plugin, rates.get(plugin.name) ?? 0);
  draw(element('failure'), (last) => failure(last, showLogOf), plugin.last_failure);
  draw(element('budget'), budget, plugin);
  draw(element('events'), events, plugin);
  draw(element('grants'), grants, plugin);
  draw(element('loads'), (loads) => loads.map(load), plugin.loads);
  element('actions').hidden = !mayOperate;
  element('reload').disabled = busy.has(plugin.name) || plugin.state === 'disabled';
  element('rollback').disabled = busy.has(plugin.name) || !plugin.rollback_to;
  element('rollback').textContent = plugin.rollback_to ? `Roll back to ${shown(plugin.rollback_to.version)}` : 'Roll back';
}

function drawServer() {
  element('about').textContent = `${standing.version} · up ${standing.uptime}`;
  draw(element('server'), server, standing);
}

/** Another plugin is looked at, or none: nothing stays of the one before. */
function look(name) {
  chosen = name;
  looked = undefined;
  element('plugin').hidden = true;
  element('confirm').close('no');
  clear(['name', 'state', 'facts', 'failure', 'budget', 'events', 'grants', 'loads', 'timer-list', 'rollback', 'question']);
  say('');
  beginLog(null);
}

function choose(name) {
  if (name !== chosen) look(name);
  drawPlugins();
  fetchPlugin().catch(failed);
}

// Fetching.

async function fetchPlugins() {
  status = await api('GET', '/api/v1/plugins');
  measure(status.plugins);
  if (!status.plugins.some(({ name }) => name === chosen)) look(status.plugins[0]?.name);
  drawPlugins();
  if (chosen) await fetchPlugin();
}

async function fetchPlugin() {
  const name = chosen;
  const plugin = await api('GET', pathOf(name));
  // Somebody may have chosen another one meanwhile.
  if (name !== chosen) return;
  drawPlugin(plugin);
  if (element('timers').open) {
    const all = await api('GET', '/api/v1/timers');
    if (name === chosen) draw(element('timer-list'), timers, all.timers.filter((timer) => timer.plugin === name));
  }
  if (element('log').open) await fetchLog();
}

/**
 * The log that is shown: of which plugin, and of which failure if not all of it; which journal of the server it is,
 * as far as that is known, and the number of its last line.
 */
let log;

function beginLog(trace) {
  log = { name: chosen, trace, journal: undefined, last: 0 };
  clear(['lines']);
  element('log-of').hidden = !trace;
  element('log-of').firstChild.textContent = `Lines of the call that failed with ${trace}.`;
}

async function fetchLog() {
  const asked = log;
  const query = `?after=${asked.last}${asked.trace ? `&trace=${encodeURIComponent(asked.trace)}` : ''}`;
  const answer = await api('GET', pathOf(asked.name, `/log${query}`));
  if (asked !== log) return;
  // A server that was started again counts its lines anew, and so does a plugin that was switched off meanwhile.
  if (asked.journal && answer.journal !== asked.journal) {
    beginLog(asked.trace);
    return fetchLog();
  }
  log.journal = answer.journal;
  // Two of these may be under way at once.
  const fresh = answer.lines.filter(({ number }) => number > log.last);
  if (!fresh.length) return;
  log.last = fresh.at(-1).number;
  element('lines').append(...lines(fresh.slice(-MAX_LINES)));
  while (element('lines').childElementCount > MAX_LINES) element('lines').firstChild.remove();
  element('lines').scrollTop = element('lines').scrollHeight;
}

function showLogOf(trace) {
  beginLog(trace);
  element('log').open = true;
  fetchLog().catch(failed);
}

async function fetchServer() {
  standing = await api('GET', '/api/v1/server');
  mayOperate = standing.key.operate;
  const minutes = Math.floor(standing.uptime_seconds / 60);
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
  standing.uptime = days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
  drawServer();
}

function showFresh(state, text) {
  element('freshness').dataset.state = state;
  element('freshness').textContent = text;
}

function failed(error) {
  if (error instanceof Refusal && [401, 403].includes(error.status)) return signOut(error.message);
  const reason = error instanceof Refusal ? error.message : 'the server does not answer';
  showFresh('late', `Not up to date: ${shown(reason)}`);
}

async function follow(fetchIt) {
  const begun = session;
  while (begun === session) {
    if (!document.hidden) {
      try {
        await fetchIt();
        if (status && standing) draw(element('notices'), notices, status, standing.problems);
        if (fetchIt === fetchPlugins) showFresh('on', `As of ${new Date().toLocaleTimeString()}`);
      } catch (error) {
        failed(error);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, PACE_MS));
  }
}

// What operators do.

function say(text, kind = 'good') {
  element('outcome').dataset.kind = kind;
  element('outcome').textContent = shown(text);
}

async function operate(name, what, done, told) {
  busy.add(name);
  element('reload').disabled = element('rollback').disabled = true;
  if (name === chosen) say('…');
  try {
    const body = told && JSON.stringify(told);
    const plugin = await api('POST', pathOf(name, `/${what}`), { body, patience: WORK_PATIENCE_MS });
    if (name === chosen) say(done(plugin));
  } catch (error) {
    if (name === chosen) say(error instanceof Refusal ? error.message : 'The server did not answer.', 'bad');
  }
  busy.delete(name);
  await fetchPlugins().catch(failed);
}

element('reload').addEventListener('click', () => {
  operate(chosen, 'reload', ({ version }) => `Version ${version} of the file serves.`);
});

/** The roll back that is asked about: from which generation to which. */
let step;

/** Whether what is asked about is not what would be done. */
const isOutdated = () => step && (looked.generation !== step.from || looked.rollback_to?.generation !== step.to);

element('rollback').addEventListener('click', async () => {
  const { name, version, generation, rollback_to: to } = looked;
  if (!to) return;
  step = { from: generation, to: to.generation };
  element('question').textContent = shown(`Roll ${name} back from version ${version} to ${to.version}?`);
  element('consequence').textContent =
    'The former version serves until the file changes, or Reload loads the file again. The file stays as it is: after a start of the server its version serves.';
  const dialog = element('confirm');
  dialog.returnValue = 'no';
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener('close', resolve, { once: true }));
  const asked = step;
  step = undefined;
  if (dialog.returnValue === 'outdated') say('Nothing was rolled back: the plugin has been loaded anew meanwhile.', 'bad');
  if (dialog.returnValue === 'yes') operate(name, 'rollback', (plugin) => `Version ${plugin.version} serves again.`, asked);
});

element('whole-log').addEventListener('click', () => showLogOf(null));
for (const id of ['timers', 'log']) element(id).addEventListener('toggle', () => element(id).open && fetchPlugin().catch(failed));

// Who looks.

function signOut(reason = '') {
  session += 1;
  sessionStorage.removeItem(KEY);
  [status, standing, mayOperate] = [undefined, undefined, false];
  for (const known of [busy, counts, rates]) known.clear();
  element('signed-in').hidden = element('sign-out').hidden = true;
  look(undefined);
  clear(['about', 'notices', 'server', 'plugins']);
  showFresh('on', '');
  element('refusal').textContent = shown(reason);
  element('sign-in').hidden = false;
  element('key').focus();
}

function begin() {
  element('sign-in').hidden = true;
  element('signed-in').hidden = element('sign-out').hidden = false;
  session += 1;
  follow(fetchServer);
  follow(fetchPlugins);
}

element('sign-in').addEventListener('submit', async (submitted) => {
  submitted.preventDefault();
  element('refusal').textContent = '';
  // What cannot stand in a header is no key.
  const key = element('key').value.trim();
  if (!/^[\x21-\x7e]+$/.test(key)) return signOut('A key has visible ASCII characters only.');
  sessionStorage.setItem(KEY, key);
  element('key').value = '';
  try {
    await fetchServer();
    begin();
  } catch (error) {
    signOut(error instanceof Refusal ? error.message : 'The server does not answer.');
  }
});
element('sign-out').addEventListener('click', () => signOut());

if (sessionStorage.getItem(KEY)) begin();
else signOut();
