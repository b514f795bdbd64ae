// A chat: the plugin says who is there, who is typing and what was said; this shows it.
const element = (id) => document.getElementById(id);
/** `chat.html#token=…` is for users; all others are guests, and say a name. */
const token = new URLSearchParams(location.hash.slice(1)).get('token');
const socket = io({ autoConnect: false, auth: token ? { token } : {} });
/** How long somebody counts as typing after the last word of it, and how often this page says so. */
const TYPING_MS = 3000;
const SAY_TYPING_MS = 2000;

let room;
/** Our own id in the room. */
let me;
/** Behind the last message of the history that is shown. */
let position;
let saidTyping = 0;
const people = new Map();
/** Changes of who is there that came before the answer to `chat:join`; none while no answer is waited for. */
let early;
const typing = new Map();
/** The messages that are shown: what comes live may come with the history, too. */
const shown = new Set();

/** Emits, shows what the server has against it, and returns its answer. */
async function ask(event, data) {
  try {
    const answer = await socket.timeout(5000).emitWithAck(event, { room, ...data });
    element('problem').textContent = answer?.error?.message ?? '';
    return answer?.error ? undefined : (answer ?? true);
  } catch {
    element('problem').textContent = 'The server does not answer';
  }
}

/** Enters, and then asks for what was said meanwhile, so that nothing falls between. */
async function join() {
  const changes = (early = []);
  const answer = await ask('chat:join', token ? {} : { name: element('name').value });
  if (early === changes) early = undefined;
  if (!answer) return;
  me = answer.me.id;
  people.clear();
  for (const change of [{ joined: answer.members, left: [], updated: [] }, ...changes]) changePeople(change);
  for (const field of element('say').elements) field.disabled = false;
  element('text').placeholder = `Say something in ${room}`;
  element('text').focus();
  await catchUp();
}

async function catchUp() {
  for (let page = { more: true }; page?.more; ) {
    page = await ask('chat:history', { position });
    if (!page) return;
    const [first] = page.events;
    const isGap = page.gap && !(first && shown.has(key(first.arguments[0])));
    if (isGap) show('gap', 'Older messages are gone');
    for (const { arguments: [message], at_ms: at } of page.events) showMessage(message, at);
    position = page.position;
  }
}

const key = ({ from, id }) => `${from.id}/${id}`;

function showMessage(message, at) {
  if (message.room !== room || shown.has(key(message))) return;
  shown.add(key(message));
  typing.delete(message.from.id);
  showTyping();
  const { id, name, guest } = message.from;
  const who = Object.assign(document.createElement('b'), { textContent: guest ? `${name} (guest)` : name });
  const time = Object.assign(document.createElement('time'), { textContent: new Date(at).toLocaleTimeString() });
  if (id === me) show('own', message.text, time);
  else show('other', who, message.text, time);
}

function show(className, ...parts) {
  const item = Object.assign(document.createElement('li'), { className });
  item.append(...parts);
  element('messages').append(item);
  item.scrollIntoView({ block: 'end' });
}

function changePeople({ joined, left, updated }) {
  for (const person of [...joined, ...updated]) people.set(person.id, person);
  for (const { id } of left) people.delete(id);
  showPeople();
}

function showPeople() {
  element('count').textContent = people.size;
  const item = ({ data, connections }) => {
    const item = Object.assign(document.createElement('li'), { textContent: data.name });
    item.dataset.away = connections === 0;
    const note = [data.guest && 'guest', data.id === me && 'you', connections > 1 && `${connections} windows`];
    item.append(Object.assign(document.createElement('small'), { textContent: note.filter(Boolean).join(', ') }));
    return item;
  };
  element('people').replaceChildren(...[...people.values()].map(item));
}

function showTyping() {
  const now = Date.now();
  const names = [...typing.values()].filter(({ until }) => until > now).map(({ name }) => name);
  const are = names.length > 1 ? 'are' : 'is';
  element('typing').textContent = names.length ? `${names.join(', ')} ${are} typing …` : '';
}

function showState(state, text) {
  element('badge').dataset.state = state;
  element('badge-state').textContent = text;
}

element('join').addEventListener('submit', async (event) => {
  event.preventDefault();
  const entered = element('room-name').value;
  if (room !== undefined && room !== entered) {
    await ask('chat:leave');
    shown.clear();
    typing.clear();
    element('messages').replaceChildren();
    position = undefined;
  }
  room = entered;
  if (socket.connected) join();
  else socket.connect();
});
element('say').addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = element('text').value;
  element('text').value = '';
  saidTyping = 0;
  const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
  if (!(await ask('chat:say', { id, text }))) element('text').value ||= text;
});
element('text').addEventListener('input', () => {
  if (Date.now() - saidTyping < SAY_TYPING_MS) return;
  saidTyping = Date.now();
  socket.volatile.emit('chat:typing', { room });
});

// Whoever was away joins again, and sees what was said meanwhile.
socket.on('connect', () => {
  showState('connected', 'Connected');
  join();
});
socket.on('disconnect', () => showState('connecting', 'Reconnecting …'));
socket.on('connect_error', (error) => (element('problem').textContent = error.message));
socket.on('presence', (change) => {
  if (change.room !== `chat:${room}`) return;
  if (early) early.push(change);
  else changePeople(change);
});
socket.on('chat:message', (message) => showMessage(message, Date.now()));
socket.on('chat:typing', ({ room: where, from }) => {
  if (where !== room) return;
  typing.set(from.id, { name: from.name, until: Date.now() + TYPING_MS });
  showTyping();
  setTimeout(showTyping, TYPING_MS + 100);
});

if (token) {
  element('name').required = false;
  element('name').disabled = true;
  element('name').placeholder = 'as your token says';
}
