/**
 * The example page: every button is one call of `socketClient` or of the HTTP API, and whatever
 * crosses the connection is written to the log. Data from the network becomes text, never HTML.
 */

const MAX_ROWS = 200; // log rows kept: a demo's worth, and the page stays light under a flood
const MAX_TEXT = 20_000; // characters of one payload shown
const TOAST_MS = 8_000; // time to read a notification; the log keeps it

const $ = (id) => document.getElementById(id);
const secrets = new Set(); // tokens and keys used so far; the log hides them
let toastTimer;
let logged = 0; // rows since the page was opened or the log cleared

// Connection

function connect() {
  const token = $('token').value.trim();
  keepSecret(token);
  show('connection-result', '');
  socketClient.connect(token);
  showUser(null);
  showConnection('connecting');

  const { socket } = socketClient;
  socket.onAny((event, ...args) => {
    // With connection recovery on (`recovered` is a boolean then), the last argument is the place
    // in the stream to resume from, and not part of the event.
    const resumable = typeof socket.recovered === 'boolean' && typeof args.at(-1) === 'string';
    const note = resumable ? `offset ${args.pop()}` : '';
    log('in', event, args, 'event', note);
  });
  socket.onAnyOutgoing((event, ...args) => log('out', event, event === 'authenticate' ? ['(token)'] : args));
  socket.io.on('reconnect_attempt', (attempt) => showConnection('connecting', `attempt ${attempt}`));
}

function disconnect() {
  socketClient.disconnect();
  showDisconnected();
}

socketClient.onConnect = () => {
  const { socket } = socketClient;
  const { engine } = socket.io;
  const state = socket.recovered ? 'recovered' : 'connected';
  const detail = () => `${engine.transport.name} · ${socket.id}`;
  showConnection(state, detail());
  // An upgrade that was under way ends even when the page disconnects meanwhile.
  engine.on('upgrade', () => {
    if (socket.connected) showConnection(state, detail());
  });
  show('connection-result', '');
  // A recovered connection is still the same user's; a new one hears `authenticated` if it is.
  if (!socket.recovered) showUser(null);
  log('info', state, [{ id: socket.id, transport: engine.transport.name }]);
};

socketClient.onDisconnect = (reason) => {
  log('info', 'disconnected', [{ reason, reconnecting: socketClient.active }]);
  if (socketClient.active) showConnection('connecting', reason);
  else showDisconnected(reason);
};

socketClient.onAuthenticated = (user) => {
  showUser(user);
  show('connection-result', '');
  // Offer the user's own id, but leave one that was typed in.
  const field = $('notification-user');
  if (field.value === field.defaultValue) field.value = field.defaultValue = user.id;
};

socketClient.onError = (error) => {
  show('connection-result', describe(error), false);
  if (socketClient.connected) return; // a failed event or token: the log has its row already
  log('info', 'connect_error', [{ error }]);
  if (!socketClient.active) showDisconnected();
};

socketClient.onPaymentUpdate = ({ data }) => {
  const facts = [data.invoiceId, data.status, data.amount].filter((fact) => fact !== undefined);
  show('payments-last', `Last update: ${facts.join(' · ')}`);
};

socketClient.onNotification = ({ title, message, type }) => {
  $('toast-title').textContent = title;
  $('toast-message').textContent = message;
  $('toast').dataset.type = type;
  $('toast').hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(hideToast, TOAST_MS);
};

/** Hides the notification, unless somebody is just reading it. */
function hideToast() {
  if ($('toast').matches(':hover, :focus-within')) toastTimer = setTimeout(hideToast, TOAST_MS);
  else $('toast').hidden = true;
}

const STATES = { disconnected: 'Disconnected', connecting: 'Connecting', connected: 'Connected', recovered: 'Recovered' };

function showConnection(state, detail = '') {
  $('badge').dataset.state = state;
  $('badge-state').textContent = STATES[state];
  $('badge-detail').textContent = detail;
  const connected = socketClient.connected;
  for (const button of document.querySelectorAll('[data-needs-connection]')) button.disabled = !connected;
  $('disconnect').disabled = state === 'disconnected';
  $('connect').textContent = state === 'disconnected' ? 'Connect' : 'Reconnect';
}

function showDisconnected(reason) {
  showConnection('disconnected', reason);
  showUser(null);
  show('payments-result', '');
}

function showUser(user) {
  $('user').dataset.authenticated = Boolean(user);
  $('user-name').textContent = user?.username ?? (socketClient.connected ? 'anonymous' : 'not connected');
  $('user-id').textContent = user?.id ?? '–';
  $('user-roles').textContent = user?.roles?.join(', ') || user?.role || '–';
}

// Events to the server

/** Sends an event and shows its reply in the log and below the form. */
function send(event, args, resultId, success) {
  show(resultId, 'Waiting for the reply…');
  try {
    socketClient.emit(event, ...args, onReply(event, resultId, success));
  } catch (error) {
    show(resultId, error.message, false); // such as a name that socket.io keeps for itself
  }
}

function onReply(event, resultId, success) {
  const sent = performance.now();
  return (...reply) => {
    log('in', event, reply, 'ack', `reply after ${elapsed(sent)}`);
    const error = reply[0]?.error;
    show(resultId, error ? describe(error) : success(reply[0]), !error);
  };
}

function authenticate() {
  const token = $('token').value.trim();
  if (!token) return show('connection-result', 'Enter a token first.', false);
  keepSecret(token);
  // What went wrong comes with the event `authenticated` too, and onError shows it.
  const sent = performance.now();
  socketClient.authenticate(token, (reply) => log('in', 'authenticate', [reply], 'ack', `reply after ${elapsed(sent)}`));
}

function subscribe() {
  socketClient.subscribeToPayments(onReply('subscribe:payments', 'payments-result', () => 'Subscribed.'));
}

function unsubscribe() {
  socketClient.unsubscribeFromPayments(onReply('unsubscribe:payments', 'payments-result', () => 'Not subscribed.'));
}

/** Parses the JSON field; says what is wrong with it and returns undefined if it is not JSON. */
function customData() {
  let data;
  let problem = '';
  try {
    data = JSON.parse($('custom-data').value);
  } catch (error) {
    problem = `Not valid JSON: ${error.message}`;
  }
  $('custom-data').setAttribute('aria-invalid', Boolean(problem));
  $('custom-error').textContent = problem;
  return data;
}

function sendCustom() {
  const data = customData();
  if (data === undefined) return $('custom-data').focus();
  send($('custom-event').value.trim(), [data], 'custom-result', () => 'Handled.');
}

function createBooking() {
  const booking = {
    studio: $('booking-studio').value.trim(),
    start: new Date($('booking-start').value).toISOString(),
    hours: $('booking-hours').valueAsNumber,
  };
  send('booking:create', [booking], 'booking-result', () => `${booking.studio} is booked for ${booking.hours} h.`);
}

// The HTTP API, as a backend would call it

async function push(path, body) {
  const key = $('api-key').value.trim();
  if (!key) {
    show('push-result', 'Enter an API key first.', false);
    return $('api-key').focus();
  }
  keepSecret(key);
  const name = `POST ${path}`;
  const sent = performance.now();
  log('out', name, [body], 'http');
  let status = 0;
  let reply;
  try {
    const response = await fetch(path, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    status = response.status;
    reply = await response.json();
  } catch (error) {
    // No server, or something in between that does not answer in JSON.
    reply = { error: { code: status ? `http_${status}` : 'connection_failed', message: error.message } };
  }
  log('in', name, [reply], 'http', `${status || 'no answer'} after ${elapsed(sent)}`);
  if (reply?.error) return show('push-result', describe(reply.error), false);
  const sockets = reply.delivered === 1 ? '1 socket' : `${reply.delivered} sockets`;
  show('push-result', `Delivered to ${sockets}.`, true);
}

function pushPayment() {
  push('/api/v1/payments/updates', {
    invoiceId: $('payment-invoice').value,
    status: $('payment-status').value,
    amount: $('payment-amount').valueAsNumber,
  });
}

function pushNotification() {
  push(`/api/v1/users/${encodeURIComponent($('notification-user').value.trim())}/notifications`, {
    title: $('notification-title').value,
    message: $('notification-message').value,
    type: $('notification-type').value,
  });
}

// The log

/**
 * @param {'in'|'out'|'info'} direction
 * @param {string} name of the event, or method and path of an HTTP call
 * @param {Array} args shown as one value if there is only one
 * @param {'event'|'ack'|'http'} [kind]
 * @param {string} [note] shown beside the name
 */
function log(direction, name, args, kind = 'event', note = '') {
  const now = new Date();
  const row = document.createElement('li');
  logged += 1;
  row.id = `log-${logged}`;
  Object.assign(row.dataset, { event: name, direction, kind });
  const error = args[0]?.error;
  if (error) row.dataset.error = error.code ?? 'error';

  const title = text('span', name, 'name');
  if (note) title.append(text('span', note, 'note'));
  const time = text('time', `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, '0')}`);
  time.dateTime = now.toISOString();
  row.append(text('span', kind === 'event' ? direction : `${direction} ${kind}`, 'direction'), title, time);
  if (args.length) row.append(text('pre', pretty(args.length === 1 ? args[0] : args)));

  $('log').prepend(row);
  while ($('log').children.length > MAX_ROWS) $('log').lastChild.remove();
  $('log-announcer').textContent = `${direction} ${name}`;
  showLogCount();
}

function clearLog() {
  $('log').replaceChildren();
  logged = 0;
  showLogCount();
}

function showLogCount() {
  $('log-empty').hidden = logged > 0;
  $('log-count').textContent = logged > MAX_ROWS ? `last ${MAX_ROWS} of ${logged}` : logged || '';
}

function pretty(value) {
  const binary = (_, v) => {
    const bytes = v instanceof ArrayBuffer ? v.byteLength : v instanceof Blob ? v.size : undefined;
    return bytes === undefined ? v : `(binary, ${bytes} bytes)`;
  };
  let json = JSON.stringify(value, binary, 2) ?? String(value);
  for (const secret of secrets) json = json.replaceAll(secret, '(hidden)');
  return json.length > MAX_TEXT ? `${json.slice(0, MAX_TEXT)}\n… and ${json.length - MAX_TEXT} more characters` : json;
}

function keepSecret(secret) {
  if (secret.length >= 8) secrets.add(secret); // a shorter one would blot out ordinary text
}

// Small things

function text(tag, content, className = '') {
  const element = document.createElement(tag);
  element.textContent = content;
  if (className) element.className = className;
  return element;
}

function show(id, message, ok) {
  $(id).textContent = message;
  $(id).dataset.ok = ok ?? '';
}

function describe({ code, message, retry_after_ms: wait }) {
  const reason = message && message !== code ? `${code}: ${message}` : code;
  return wait ? `${reason} (try again in ${Math.ceil(wait / 1000)} s)` : reason;
}

function elapsed(since) {
  return `${Math.round(performance.now() - since)} ms`;
}

/** Tomorrow at the next full hour, as a datetime-local field wants it: local time, no zone. */
function nextStart() {
  const start = new Date();
  start.setDate(start.getDate() + 1);
  start.setHours(start.getHours() + 1, 0, 0, 0);
  return new Date(start - start.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** Takes token and key out of a link like `#token=…&key=…`, leaving neither in the address bar. */
function takeFragment() {
  const given = new URLSearchParams(location.hash.slice(1));
  const token = given.get('token');
  const key = given.get('key');
  if (token === null && key === null) return;
  history.replaceState(null, '', location.pathname + location.search);
  $('token').value = token ?? $('token').value;
  $('api-key').value = key ?? $('api-key').value;
  if (globalThis.io) connect();
}

// Wiring

function onSubmit(id, action) {
  $(id).addEventListener('submit', (event) => {
    event.preventDefault();
    action();
  });
}

onSubmit('connection-form', connect);
onSubmit('custom-form', sendCustom);
onSubmit('booking-form', createBooking);
onSubmit('payment-form', pushPayment);
onSubmit('notification-form', pushNotification);
$('disconnect').addEventListener('click', disconnect);
$('authenticate').addEventListener('click', authenticate);
$('subscribe').addEventListener('click', subscribe);
$('unsubscribe').addEventListener('click', unsubscribe);
$('custom-data').addEventListener('input', customData);
$('clear').addEventListener('click', clearLog);
$('toast-close').addEventListener('click', () => { $('toast').hidden = true; });
for (const button of document.querySelectorAll('[data-shows]')) {
  button.addEventListener('click', () => {
    const field = $(button.dataset.shows);
    const hidden = field.type === 'password';
    field.type = hidden ? 'text' : 'password';
    button.setAttribute('aria-pressed', hidden);
  });
}

$('booking-start').value = nextStart();
if (!globalThis.io) {
  $('missing-client').hidden = false;
  $('connect').disabled = true;
}
window.addEventListener('hashchange', takeFragment); // a new link opened in the same tab
takeFragment();
