// Payments: the plugin hears of them from the provider, and this page from the plugin.
const element = (id) => document.getElementById(id);

function showState(state, text) {
  element('badge').dataset.state = state;
  element('badge-state').textContent = text;
}

const showProblem = ({ message }) => (element('problem').textContent = message);

function money({ amount, currency }) {
  const format = new Intl.NumberFormat(undefined, { style: 'currency', currency });
  return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
}

const cell = (tag, textContent) => {
  const cell = document.createElement('td');
  cell.append(Object.assign(document.createElement(tag), { textContent }));
  return cell;
};

/** One row for each payment, the last that changed first. */
function show(payment, changed) {
  const row = [...element('payments').rows].find(({ dataset }) => dataset.id === payment.id);
  const status = cell('span', payment.status.replaceAll('_', ' '));
  status.firstChild.dataset.status = payment.status;
  const shown = row ?? document.createElement('tr');
  shown.dataset.id = payment.id;
  const time = cell('time', new Date(changed).toLocaleTimeString());
  shown.replaceChildren(cell('span', payment.id), cell('span', money(payment)), status, time);
  element('payments').prepend(shown);
  element('none').hidden = true;
}

socketClient.onConnect = () => showState('connected', 'Connected');
socketClient.onDisconnect = () => showState('connecting', 'Reconnecting …');
socketClient.onError = showProblem;
socketClient.onPaymentUpdate = ({ data, timestamp }) => show(data, timestamp);
socketClient.subscribeToPayments(({ error }) => {
  if (error) return showProblem(error);
  element('none').textContent = 'Waiting for payments …';
});

element('connect').addEventListener('submit', (event) => {
  event.preventDefault();
  showProblem({ message: '' });
  showState('connecting', 'Connecting …');
  socketClient.connect(element('token').value.trim());
});

element('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  const answered = (payment) => {
    const answer = element('answer');
    answer.dataset.ok = !payment.error;
    answer.textContent = payment.error?.message ?? `${payment.status}: ${money(payment)}`;
  };
  try {
    socketClient.emit('payment:get', { id: element('payment').value.trim() }, answered);
  } catch (error) {
    answered({ error });
  }
});

// `payments.html#token=…` connects at once.
const token = new URLSearchParams(location.hash.slice(1)).get('token');
if (token) {
  element('token').value = token;
  element('connect').requestSubmit();
}
