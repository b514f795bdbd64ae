// A quiz: the plugin asks, times and counts; this shows it, and says what was chosen.
const socket = io({ autoConnect: false });
const element = (id) => document.getElementById(id);
const room = () => element('room').value;
/** So long is shown what was right, while the next question waits. */
const RESULT_MS = 1000;
let asked;
/** Until then, what was right is shown. */
let resultUntil = 0;

/** Emits; shows what the server has against it. */
async function ask(event, data) {
  const answer = await socket.timeout(5000).emitWithAck(event, { room: room(), ...data });
  element('notice').textContent = answer?.error?.message ?? '';
  return answer?.error ? undefined : answer;
}

async function join() {
  const quiz = await ask('quiz:join', { name: element('name').value });
  if (!quiz) return;
  element('start').disabled = false;
  showScores(quiz.scores);
}

function showScores(scores) {
  const players = Object.entries(scores).toSorted((one, other) => other[1] - one[1]);
  element('scores').replaceChildren(
    ...players.map(([name, score]) => Object.assign(document.createElement('li'), { textContent: `${name}: ${score}` })),
  );
}

element('join').addEventListener('submit', (event) => {
  event.preventDefault();
  if (socket.connected) join();
  else socket.connect();
});
element('start').addEventListener('click', () => ask('quiz:start'));

// Whoever was away joins again: the quiz has gone on.
socket.on('connect', join);
socket.on('connect_error', (error) => (element('notice').textContent = error.message));
socket.on('quiz:joined', (name) => {
  element('notice').textContent = `${name} has joined`;
});
socket.on('quiz:question', (question) => {
  asked = { began: performance.now(), time: question.ends_in_ms };
  setTimeout(showQuestion, Math.max(0, resultUntil - performance.now()), question);
});
socket.on('quiz:ended', ({ right, scores, is_last: isLast }) => {
  asked = undefined;
  resultUntil = performance.now() + RESULT_MS;
  for (const button of element('choices').children) button.disabled = true;
  element('choices').children[right].dataset.right = true;
  showScores(scores);
  if (isLast) element('notice').textContent = 'The quiz is over';
});

function showQuestion({ text, choices }) {
  element('round').hidden = false;
  element('question').textContent = text;
  element('choices').replaceChildren(
    ...choices.map((text, choice) => {
      const button = Object.assign(document.createElement('button'), { textContent: text });
      button.addEventListener('click', async () => {
        if (!(await ask('quiz:answer', { choice })) && element('notice').textContent) return;
        for (const other of element('choices').children) other.dataset.chosen = other === button;
      });
      return button;
    }),
  );
  requestAnimationFrame(showTime);
}

function showTime() {
  if (!asked) return;
  element('time').value = Math.min(1, (performance.now() - asked.began) / asked.time);
  requestAnimationFrame(showTime);
}
