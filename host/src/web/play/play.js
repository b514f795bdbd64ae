// The playground: sends events as any user, and shows what comes of them and of what is saved meanwhile. All that
// plugins, clients and the log say is set as text, never as HTML.
import { Problem, argumentsAsJson, argumentsField } from './form.js';
import { create, shown } from './text.js';

/** So many entries are shown, and so much of each. */
const MAX_ENTRIES = 500;
const MAX_SHOWN = 20_000;

/** How long an ack is waited for, and how long until a server that does not answer is asked again. */
const ACK_MS = 20_000;
const RETRY_MS = 1000;

const KEY = 'mixlab-key';
const USER = 'mixlab-user';

const element = (id) => document.getElementById(id);

// The key of this run comes with the link, and leaves the address at once.
addEventListener('hashchange', () => location.reload());
const given = new URLSearchParams(location.hash.slice(1)).get('key');
if (given) {
  sessionStorage.setItem(KEY, given);
  history.replaceState(null, '', location.pathname);
}
const authorization = { authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ''}` };

function showNotice(text) {
  element('notice').textContent = text;
  element('notice').hidden = !text;
}

// What happens.

/** Values as JSON that people read; of bytes, how many there are. */
function toText(values) {
  const replace = (_, value) => (value instanceof ArrayBuffer ? `(${value.byteLength} bytes)` : value);
  const text = JSON.stringify(values, replace, 2) ?? String(values);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)} …` : text;
}

/** Adds an entry on top: what `group` it is of, its `kind`, and what it says. */
function tell({ group, kind, name, note = '', text = '', isBad = false, at = Date.now() }) {
  const entry = create('li');
  Object.assign(entry.dataset, { group, kind, name });
  if (isBad) entry.dataset.bad = '';
  const head = create('p', {}, create('b', { textContent: kind }), ' ', create('span', { className: 'name', textContent: shown(name) }));
  if (note) head.append(' ', create('small', { textContent: shown(note) }));
  head.append(create('time', { textContent: new Date(at).toLocaleTimeString() }));
  entry.append(head);
  if (text) entry.append(create('pre', { textContent: shown(text) }));
  element('feed').prepend(entry);
  while (element('feed').childElementCount > MAX_ENTRIES) element('feed').lastElementChild.remove();
}

element('clear').addEventListener('click', () => element('feed').replaceChildren());
for (const box of document.querySelectorAll('[data-shows]')) {
  box.addEventListener('change', () => element('feed').classList.toggle(`no-${box.dataset.shows}`, !box.checked));
}

// Who sends.

/** The client's library, when the server has said where it is. */
let library;
let socketPath;
/** The manager of the current user's connection, and its sockets by namespace. */
let manager;
let sockets = new Map();
let token;

function user() {
  const text = (id) => element(id).value.trim();
  const roles = text('user-roles').split(',').map((role) => role.trim()).filter(Boolean);
  return { id: text('user-id'), username: text('user-name') || null, roles, anonymous: element('anonymous').checked };
}

function showUser({ id, username, roles, anonymous }) {
  element('user-id').value = id;
  element('user-name').value = username ?? '';
  element('user-roles').value = roles.join(', ');
  element('anonymous').checked = anonymous;
  enableUser();
}

function enableUser() {
  for (const id of ['user-id', 'user-name', 'user-roles']) element(id).disabled = element('anonymous').checked;
}

function showConnection(state, text) {
  element('connection').dataset.state = state;
  element('connection').textContent = shown(text);
}

async function askToken({ id, username, roles }) {
  const headers = { ...authorization, 'content-type': 'application/json' };
  const response = await fetch('/mixlab/play/token', { method: 'POST', headers, body: JSON.stringify({ id, username, roles }) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer.token;
}

/** Connects anew as the user that is entered. */
async function connect() {
  const who = user();
  for (const socket of sockets.values()) socket.disconnect();
  sockets = new Map();
  sessionStorage.setItem(USER, JSON.stringify(who));
  showConnection('off', 'Connecting …');
  try {
    token = who.anonymous ? undefined : await askToken(who);
  } catch (error) {
    return showConnection('off', error.message);
  }
  manager = new library.Manager(location.origin, { path: socketPath });
  socketOf('/');
}

const nameOfUser = ({ id, username, roles, anonymous }) =>
  anonymous ? 'without a token' : `as ${username ?? id}${roles.length ? ` (${roles.join(', ')})` : ''}`;

/** The connection to a namespace. */
function socketOf(namespace) {
  const known = sockets.get(namespace);
  if (known) return known.connect();
  const who = nameOfUser(user());
  const socket = manager.socket(namespace, { auth: token ? { token } : {} });
  sockets.set(namespace, socket);
  const isCurrent = () => sockets.get(namespace) === socket;
  socket.on('connect', () => {
    if (namespace === '/') showConnection('on', `Connected ${who}`);
    tell({ group: 'event', kind: 'connected', name: namespace, note: who });
  });
  socket.on('disconnect', (reason) => {
    if (namespace === '/' && isCurrent()) showConnection('off', `Not connected: ${reason}`);
    tell({ group: 'event', kind: 'disconnected', name: namespace, note: reason });
  });
  socket.on('connect_error', (error) => {
    if (namespace === '/' && isCurrent()) showConnection('off', `Not connected: ${error.message}`);
    tell({ group: 'event', kind: 'refused', name: namespace, note: error.message, text: error.data ? toText(error.data) : '', isBad: true });
  });
  socket.onAny((event, ...values) => {
    // By the last argument a client that was away says what it has, where connections are recovered.
    const place = typeof values.at(-1) === 'string' && values.at(-1).startsWith('~') ? values.pop() : '';
    const note = `${namespace === '/' ? '' : namespace} ${place}`.trim();
    tell({ group: 'event', kind: 'got', name: event, note, text: toText(values), isBad: event === 'mixlab:error' });
  });
  return socket;
}

element('user').addEventListener('submit', (event) => {
  event.preventDefault();
  if (library) connect();
});
element('anonymous').addEventListener('change', enableUser);

/** Loads the client when the server has said where its Socket.IO endpoint is. */
async function begin(path) {
  if (library) return;
  socketPath = path;
  try {
    library = await import(`${path}/socket.io.esm.min.js`);
  } catch {
    return showNotice('The Socket.IO client is not installed here: set client in [web] of mixlab.toml to the folder dist of the npm package socket.io-client.');
  }
  await connect();
}

// What is sent.

/** The plugins that serve, as they describe themselves. */
let plugins = [];
/** The event whose form is shown: { plugin, event }, both undefined for one that is typed. */
let chosen;
/** What reads the arguments. */
let entered;

const isChosen = (plugin, event) => chosen?.plugin?.name === plugin.name && chosen.event.name === event.name;

function showEvents() {
  const wanted = element('filter').value.toLowerCase();
  const groups = plugins.flatMap((plugin) => {
    const events = plugin.events.filter(({ name }) => name.toLowerCase().includes(wanted));
    if (events.length === 0) return [];
    const buttons = events.map((event) => {
      const button = create('button', { type: 'button', textContent: event.name === '*' ? '* (any other)' : shown(event.name) });
      button.dataset.event = event.name;
      button.setAttribute('aria-pressed', isChosen(plugin, event));
      button.addEventListener('click', () => choose({ plugin, event }));
      return create('li', {}, button);
    });
    const title = create('h3', { textContent: shown(plugin.name) }, create('small', { textContent: ` ${shown(plugin.version)}` }));
    return [title, create('ul', {}, ...buttons)];
  });
  element('events').replaceChildren(...(groups.length ? groups : [create('p', { className: 'hint', textContent: 'None.' })]));
}

function choose(next) {
  chosen = next;
  const { plugin, event } = chosen;
  const isNamed = event && event.name !== '*';
  element('event-title').textContent = isNamed ? shown(event.name) : 'Another event';
  element('composer').hidden = false;
  element('event-name').value = isNamed ? event.name : '';
  element('event-name').readOnly = Boolean(isNamed);
  const namespaces = plugin?.namespaces ?? ['/'];
  element('namespace').value = namespaces.includes('/') ? '/' : (namespaces[0] ?? '/');
  element('namespaces').replaceChildren(...namespaces.map((value) => create('option', { value })));
  element('about').replaceChildren(...aboutEvent(plugin, event).map((text) => create('p', { className: 'hint', textContent: shown(text) })));
  element(event?.arguments ? 'as-form' : 'as-json').checked = true;
  element('as-form').disabled = !event?.arguments;
  element('outcome').textContent = '';
  showArguments(event?.arguments ? argumentsField(event.arguments) : argumentsAsJson());
  showEvents();
}

function aboutEvent(plugin, event) {
  if (!event) return ['An event of any name, whether somebody handles it or not.'];
  return [
    `Who may send it: ${event.access}.`,
    event.limits.length ? `How often: ${event.limits.join(', ')}.` : '',
    event.max_bytes ? `How large: ${event.max_bytes} bytes.` : '',
    plugin.emits.length ? `Its plugin emits: ${plugin.emits.map(({ name }) => name).join(', ')}.` : '',
  ].filter(Boolean);
}

function showArguments(field) {
  entered = field;
  element('arguments').replaceChildren(field.element);
}

for (const id of ['as-form', 'as-json']) {
  element(id).addEventListener('change', async () => {
    if (element('as-form').checked) return showArguments(argumentsField(chosen.event.arguments));
    // What the form has so far, if it has all that it needs.
    const values = await entered.read().catch(() => []);
    showArguments(argumentsAsJson(values));
  });
}
element('filter').addEventListener('input', showEvents);
element('other').addEventListener('click', () => choose({}));

function showOutcome(text, isGood) {
  element('outcome').textContent = shown(text);
  element('outcome').dataset.good = isGood;
}

element('composer').addEventListener('submit', async (submitted) => {
  submitted.preventDefault();
  for (const input of document.querySelectorAll('[aria-invalid]')) input.removeAttribute('aria-invalid');
  const event = element('event-name').value;
  const namespace = element('namespace').value;
  let values;
  try {
    if (!manager) throw new Problem(element('user-id'), 'Connect first');
    if (!event) throw new Problem(element('event-name'), 'An event has a name');
    if (!namespace.startsWith('/') || namespace.includes('*')) throw new Problem(element('namespace'), 'A namespace is like /chat');
    values = await entered.read();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    error.input.setAttribute('aria-invalid', 'true');
    error.input.focus();
    return showOutcome(error.message, false);
  }
  send(namespace, event, values);
});

function send(namespace, event, values) {
  const socket = socketOf(namespace);
  const note = namespace === '/' ? '' : namespace;
  tell({ group: 'event', kind: 'sent', name: event, note, text: toText(values) });
  try {
    if (!element('wants-ack').checked) {
      socket.emit(event, ...values);
      return showOutcome('Sent.', true);
    }
    const began = performance.now();
    showOutcome('Sent; waiting for its ack …', true);
    socket.timeout(ACK_MS).emit(event, ...values, (late, ...answer) => {
      const took = `${note} ${Math.round(performance.now() - began)} ms`.trim();
      const failure = late ? { code: 'no ack', message: `nothing came in ${ACK_MS / 1000} s` } : answer[0]?.error;
      tell({ group: 'event', kind: 'ack', name: event, note: took, text: late ? failure.message : toText(answer), isBad: Boolean(failure) });
      showOutcome(failure ? `${failure.code}: ${failure.message}` : 'Handled.', !failure);
    });
  } catch (error) {
    // The client keeps some names for itself.
    showOutcome(error.message, false);
  }
}

// What the server tells: contracts, how plugins stand, and its log.

/** The last line of the log that was told. */
let lastLine = 0;
/** How each plugin stood; none before the server has said it. */
let standing;

const TAKES = {
  contracts({ socket_path: path, plugins: now }) {
    plugins = now;
    const { plugin, event } = chosen ?? {};
    const same = plugins.find(({ name }) => name === plugin?.name);
    const sameEvent = same?.events.find(({ name }) => name === event?.name);
    // A form that somebody fills in stays, unless its schema is another one.
    if (sameEvent && JSON.stringify(sameEvent) === JSON.stringify(event)) chosen = { plugin: same, event: sameEvent };
    else if (sameEvent) choose({ plugin: same, event: sameEvent });
    showEvents();
    begin(path);
  },
  standing({ problems, plugins: now }) {
    showProblems(problems);
    const loaded = new Map(now.map((plugin) => [plugin.name, plugin]));
    for (const { name, generation, version, state } of now) {
      const former = standing?.loaded.get(name);
      if (standing && generation !== (former?.generation ?? 0) && state === 'serving') {
        tell({ group: 'reload', kind: 'reloaded', name, note: `version ${version}, load ${generation}` });
      }
      if (former && former.state !== 'disabled' && state === 'disabled') tell({ group: 'reload', kind: 'switched off', name });
    }
    const known = new Set(standing?.problems.map(JSON.stringify));
    for (const problem of problems.filter((problem) => !known.has(JSON.stringify(problem)))) {
      tell({ group: 'reload', kind: problem.is_waiting ? 'waiting' : 'refused', name: problem.of, text: problem.reason, isBad: !problem.is_waiting });
    }
    standing = { loaded, problems };
  },
  log({ number, at, level, target, message, fields }) {
    lastLine = number;
    const { plugin, ...more } = fields;
    const note = Object.entries(more).map(([name, value]) => `${name}=${value}`).join(' ');
    tell({ group: 'log', kind: level.toLowerCase(), name: plugin ?? target, note, text: message, isBad: level === 'ERROR', at });
  },
  lost({ lines }) {
    tell({ group: 'log', kind: 'lost', name: `${lines} lines`, note: 'of the log came too fast for this page' });
  },
};

function showProblems(problems) {
  const items = problems.map(({ of, reason, old_serves: oldServes, is_waiting: isWaiting }) => {
    const title = create('h2', { textContent: shown(of) });
    const note = isWaiting ? 'is waited for' : oldServes ? 'was refused; what was there before goes on serving' : 'was refused, and does not serve';
    title.append(create('small', { textContent: ` ${note}` }));
    const item = create('article', {}, title, create('pre', { textContent: shown(reason) }));
    item.dataset.waiting = isWaiting;
    return item;
  });
  element('problems').replaceChildren(...items);
  element('problems').hidden = items.length === 0;
}

/** What is read when the page is seen: browsers have few connections for one server. */
let reading;

async function follow() {
  const current = (reading = new AbortController());
  while (!current.signal.aborted) {
    try {
      const response = await fetch(`/mixlab/play/news/${lastLine}`, { headers: authorization, signal: current.signal });
      if (response.status === 401 || response.status === 403) return showNotice((await response.json()).error.message);
      if (!response.ok) throw new Error(`status ${response.status}`);
      showNotice('');
      await takeAll(response.body);
    } catch (error) {
      if (!current.signal.aborted) showNotice(`The server does not answer (${error.message}).`);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** Takes lines of JSON to their end. */
async function takeAll(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines.filter(Boolean)) {
      const told = JSON.parse(line);
      TAKES[told.kind]?.(told);
    }
  }
}

document.addEventListener('visibilitychange', () => {
  reading?.abort();
  if (!document.hidden) follow();
});

const former = JSON.parse(sessionStorage.getItem(USER) ?? 'null');
showUser(former ?? { id: '1', username: 'ada', roles: ['admin'], anonymous: false });
if (!document.hidden) follow();
