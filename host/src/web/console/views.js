// What the console shows, made of what the API answers.
import { create, shown } from './text.js';

const number = (value) => value.toLocaleString('en-US', { maximumFractionDigits: value < 10 ? 2 : 0 });

function bytes(value) {
  if (value < 1024) return `${value} B`;
  const power = Math.min(Math.floor(Math.log2(value) / 10), 4);
  return `${(value / 1024 ** power).toFixed(1)} ${['', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}

function duration(ms) {
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${number(ms)} ms`;
  const [unit, of] = ms < 120_000 ? ['s', 1000] : ms < 7_200_000 ? ['min', 60_000] : ['h', 3_600_000];
  return `${number(ms / of)} ${unit}`;
}

/** So many of something that is called this. */
const some = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

const text = (tag, value, kind) => {
  const made = create(tag, { textContent: shown(value) });
  if (kind) made.dataset.kind = kind;
  return made;
};
const time = (at) => create('time', { dateTime: at, textContent: new Date(at).toLocaleString() });
const cell = (value) => create('td', { className: 'number', textContent: value });

function table(heads, rows) {
  const numbers = ['ok', 'failures'];
  const titled = (name) => create('th', { scope: 'col', textContent: name, className: numbers.includes(name) ? 'number' : '' });
  const head = create('tr', {}, ...heads.map(titled));
  return create('table', {}, create('thead', {}, head), create('tbody', {}, ...rows));
}

/** A plugin in the list of all. */
export function pluginRow({ name, state, version, calls, failures, p99_ms: p99, paused, paused_addresses: addresses }, rate) {
  const badge = create('span', { className: 'state', textContent: paused ? 'paused' : state.replace('-', ' ') });
  badge.dataset.state = paused ? 'paused' : state;
  const parts = [`${shown(version ?? '–')}`, `${number(rate)} calls/s`, some(calls, 'call')];
  if (p99 !== null) parts.push(`p99 ${duration(p99)}`);
  const troubles = [];
  if (failures) troubles.push(some(failures, 'failure'));
  if (addresses) troubles.push(`paused for ${some(addresses, 'address', 'addresses')}`);
  return [
    create('b', { textContent: shown(name) }),
    badge,
    create('small', { textContent: parts.join(' · ') }),
    troubles.length ? text('small', troubles.join(' · '), 'bad') : null,
  ];
}

/** How one plugin stands. */
export function facts(plugin, rate) {
  const pairs = [
    ['Version', plugin.version ?? '–'],
    ['Generation', number(plugin.generation)],
    ['Calls', `${number(plugin.calls)} (${number(rate)}/s)`],
    ['p99', plugin.p99_ms === null ? '–' : duration(plugin.p99_ms)],
    ['Failures', number(plugin.failures)],
    ['Ran again', number(plugin.repeated_calls)],
    ['Timers given up', number(plugin.timers_given_up)],
    ['Data version', plugin.data_version ?? '–'],
    ['Namespaces', plugin.namespaces.join(', ') || '–'],
    ['Filters', plugin.filters.join(', ') || '–'],
    ['Webhooks', plugin.webhooks ? `/hooks/${plugin.name}` : '–'],
    ['File', plugin.path],
  ];
  const pair = ([name, value]) => create('div', { className: name === 'File' ? 'wide' : '' }, text('dt', name), text('dd', value));
  const list = create('dl', {}, ...pairs.map(pair));
  const said = [];
  if (plugin.state === 'rolled-back') {
    said.push(text('p', 'Rolled back: its file holds another version, which serves again when the file changes or is reloaded.', 'warn'));
  }
  if (plugin.waiting) said.push(text('p', `Waited for: ${plugin.waiting}`, 'warn'));
  if (plugin.refusal) said.push(text('p', `The file is refused: ${plugin.refusal}`, 'bad'));
  if (plugin.paused) said.push(text('p', 'Paused for everybody, since its calls kept failing.', 'bad'));
  if (plugin.paused_addresses) said.push(text('p', `Paused for ${plugin.paused_addresses} of the clients' addresses.`, 'warn'));
  return [...said, list];
}

/** The last failure; `showLines` shows those of its call. */
export function failure(last, showLines) {
  if (!last) return null;
  const head = create('p', {}, time(last.at), ' in ', create('code', { textContent: shown(last.during) }));
  if (last.trace_id) {
    const button = create('button', { type: 'button', textContent: 'Show its lines' });
    button.addEventListener('click', () => showLines(last.trace_id));
    head.append(', trace ', create('code', { textContent: shown(last.trace_id) }), ' ', button);
  }
  return [text('h3', 'Last failure'), head, text('pre', last.reason)];
}

/** What a plugin has used of what it may use. */
export function budget(plugin) {
  const allowed = plugin.budget;
  if (!allowed) return text('p', '–');
  const instances = allowed.instances * allowed.memory_bytes;
  const used = [
    ['p99 of a call, of wall', plugin.p99_ms ?? 0, allowed.wall_ms, duration],
    [`Memory of ${some(allowed.instances, 'instance')}`, plugin.memory_bytes, instances, bytes],
    ['File', plugin.code_bytes ?? 0, allowed.file_bytes, bytes],
  ];
  if (plugin.stored) {
    used.push(['Keys in its bucket', plugin.stored.keys, plugin.stored.max_keys, number]);
    used.push(['Bytes in its bucket', plugin.stored.bytes, plugin.stored.max_bytes, bytes]);
  }
  const rows = used.map(([name, value, max, format]) => {
    const meter = create('meter', { max, value: Math.min(value, max), high: max * 0.8, optimum: 0 });
    meter.setAttribute('aria-label', name);
    return create('tr', {}, text('th', name), create('td', {}, meter), cell(`${format(value)} of ${format(max)}`));
  });
  const limits = [
    ['CPU', duration(allowed.cpu_ms)],
    ['boundary', bytes(allowed.boundary_bytes)],
    ['host calls', number(allowed.host_calls)],
    ['effects', number(allowed.effects)],
    ['log', bytes(allowed.log_bytes)],
    ['data', bytes(allowed.data_bytes)],
    ['asks', number(allowed.asks)],
    ['requests', number(allowed.requests)],
    ['compile', duration(allowed.compile_ms)],
    ['migration', duration(allowed.migration_ms)],
  ];
  return [
    create('table', {}, create('tbody', {}, ...rows)),
    text('p', `Of each call: ${limits.map(([name, value]) => `${name} ${value}`).join(' · ')}`),
  ].map((made) => (made.tagName === 'P' ? Object.assign(made, { className: 'hint' }) : made));
}

/** What came of its events, and why calls failed. */
export function events(plugin) {
  const rows = plugin.events.map((event) => {
    const { ok = 0, ...others } = plugin.outcomes[event] ?? {};
    const rest = Object.entries(others).map(([outcome, count]) => `${outcome} ${number(count)}`);
    return create('tr', {}, create('td', {}, create('code', { textContent: shown(event) })), cell(number(ok)), text('td', rest.join(', ')));
  });
  const reasons = Object.entries(plugin.failures_by_reason).map(([reason, count]) => `${reason} ${number(count)}`);
  const made = [rows.length ? table(['event', 'ok', 'others'], rows) : text('p', 'It handles no events.')];
  if (reasons.length) made.push(text('p', `Failed calls: ${reasons.join(', ')}`));
  return made;
}

/** What it asks for, and what it is granted. */
export function grants(plugin) {
  const list = (name, all) => [
    create('p', { className: 'hint', textContent: name }),
    create('ul', {}, ...(all.length ? all : ['nothing']).map((grant) => create('li', {}, create('code', { textContent: shown(grant) })))),
  ];
  const made = [list('Granted', plugin.grants), list('Needs', plugin.needs)];
  if (plugin.may_need.length) made.push(list('May need besides', plugin.may_need));
  if (plugin.guards.length) made.push(list('Guards', plugin.guards));
  return made.flat();
}

const OUTCOMES = { served: ['loaded', 'good'], 'rolled-back': ['rolled back', 'warn'], refused: ['refused', 'bad'] };

/** One load of it. */
export function load({ at, outcome, by, version, generation, took_ms: took, reason, changes, more_changes: more }) {
  const [word, kind] = OUTCOMES[outcome];
  const parts = [];
  if (version !== null) parts.push(`version ${version}, generation ${generation}, in ${duration(took)}`);
  parts.push(by === null ? 'as its file says' : `by ${by}`);
  const made = create('li', {}, text('b', word, kind), ' ', text('span', parts.join(' · ')), ' ', time(at));
  if (reason !== null) made.append(text('pre', reason));
  const items = changes.map(({ what, breaking }) => {
    const item = text('li', breaking ? `breaks clients: ${what}` : what);
    if (breaking) item.dataset.breaking = '';
    return item;
  });
  if (more) items.push(text('li', `and ${more} more`));
  if (items.length) made.append(create('ul', {}, ...items));
  return made;
}

/** The timers of one plugin. */
export function timers(all) {
  if (!all.length) return text('p', 'none');
  const rows = all.slice(0, 200).map(({ name, due, every, rule, failures, given_up: over }) => {
    const when = over ? text('td', 'given up', 'bad') : create('td', {}, time(new Date(due).toISOString()));
    const again = every === null ? (rule ?? 'once') : `every ${duration(every)}`;
    return create('tr', {}, create('td', {}, create('code', { textContent: shown(name) })), when, text('td', again), cell(number(failures)));
  });
  const made = [table(['timer', 'due', 'again', 'failures'], rows)];
  if (all.length > rows.length) made.push(text('p', `and ${all.length - rows.length} more`));
  return made;
}

/** Lines of its log. */
export function lines(all) {
  return all.map(({ at, level, during, text: said }) => {
    const line = create('li', {}, time(at), ` ${level} `, shown(during ? `in ${during}: ${said}` : said));
    line.dataset.level = level;
    return line;
  });
}

/** What is not as it should be. */
export function notices(status, problems) {
  const made = [];
  const add = (reason, said, kind) => reason && made.push(text('p', `${said}: ${reason}`, kind));
  add(status.config_error, 'mixlab.toml is not in force', 'bad');
  add(status.certificate_error, 'The certificates are refused', 'bad');
  add(status.config_waiting, 'mixlab.toml is waited for', 'warn');
  add(problems.join(', '), 'Not ready', 'bad');
  return made;
}

function card(title, big, ...more) {
  return create('div', {}, create('h2', { textContent: title }), create('strong', { textContent: shown(big) }), ...more.filter(Boolean));
}

/** The server, its limits and its cluster. */
export function server({ phase, clients, namespaces, limits, store, cluster }) {
  const limited = Object.entries(limits.rate_limited).map(([scope, count]) => text('li', `${number(count)} by ${scope}`));
  const hits = Object.values(limits.rate_limited).reduce((sum, count) => sum + count, 0);
  const made = [
    card('Clients', number(clients.here), text('p', `${number(clients.all)} in all · ${some(namespaces, 'namespace')} · ${phase}`)),
    card(
      'Over a limit',
      number(hits),
      create('ul', {}, ...limited),
      text('p', `${some(limits.refused_connections, 'connection')} refused · ${some(limits.dropped_emits, 'packet')} dropped`),
    ),
    card('Store', store.failure ? 'failing' : (store.on ?? 'not used'), store.failure ? text('p', store.failure, 'bad') : null),
  ];
  if (!cluster) return [...made, card('Cluster', 'none', text('p', 'This server is on its own.'))];
  const others = (cluster.others ?? []).map(({ name, sockets }) => text('li', `${name}: ${some(sockets, 'socket')}`));
  const silent = cluster.silent;
  const missing = silent && `${number(silent.servers)} did not answer${silent.names.length ? `: ${silent.names.join(', ')}` : ''}`;
  const members = card(
    'Cluster',
    some(1 + others.length + (silent?.servers ?? 0), 'server'),
    text('p', `this one is ${cluster.name}`),
    create('ul', {}, ...others),
    missing ? text('p', missing, 'bad') : null,
    cluster.unheard ? text('p', cluster.unheard, 'bad') : null,
    cluster.connected ? null : text('p', 'Redis is not connected', 'bad'),
    text('p', `${some(cluster.waiting_entries, 'entry', 'entries')} to be sent`),
  );
  return [...made, members];
}
