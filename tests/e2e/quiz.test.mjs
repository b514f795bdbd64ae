// The shipped quiz: rounds that end by themselves, scores, and a restart in the middle of a round.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keepScreenshot, launch, openPage } from '../support/browser.mjs';
import { ask, connect, nextEvent } from '../support/client.mjs';
import { ROOT, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const QUIZ = { wasm: 'quiz', grants: ['emit', 'room:quiz:*', 'store', 'timers'] };
const config = (round_ms) => ({
  round_ms,
  questions: [
    { text: 'One?', choices: ['1', '2'], right: 0 },
    { text: 'Two?', choices: ['1', '2'], right: 1 },
  ],
});
const room = 'friday';
const join = (socket, name) => ask(socket, 'quiz:join', { room, name });

test('who is right gets points, and the rounds end by themselves', async (t) => {
  // Long enough for both answers on a slow machine.
  const server = await startServer(t, { plugins: [{ ...QUIZ, config: config(2_000) }] });
  const [ada, bob] = await Promise.all([connect(t, server), connect(t, server)]);
  assert.equal((await ask(ada, 'quiz:answer', { room, choice: 0 })).error.code, 'not_joined');
  await join(ada, 'ada');
  assert.deepEqual((await join(bob, 'bob')).scores, { ada: 0, bob: 0 });
  assert.deepEqual(await nextEvent(ada, 'quiz:joined'), ['bob']);
  assert.equal((await ask(ada, 'quiz:answer', { room, choice: 0 })).error.code, 'no_round');
  await ask(ada, 'quiz:start', { room });
  assert.equal((await ask(bob, 'quiz:start', { room })).error.code, 'quiz_running');
  for (const [round, choices, scores] of [
    [0, [0, 1], { ada: 1, bob: 0 }],
    [1, [1, 1], { ada: 2, bob: 1 }],
  ]) {
    const [asked] = await nextEvent(ada, 'quiz:question');
    assert.equal(asked.round, round);
    assert.equal(asked.right, undefined, 'nobody is told what is right');
    await ask(ada, 'quiz:answer', { room, choice: choices[0] });
    await ask(bob, 'quiz:answer', { room, choice: choices[1] });
    const [ended] = await nextEvent(bob, 'quiz:ended');
    assert.deepEqual([ended.round, ended.scores, ended.is_last], [round, scores, round === 1]);
  }
  assert.equal((await join(ada, 'ada')).round, null, 'it is over');
});

test('a quiz goes on where it was when the server is killed in the middle of a round', async (t) => {
  const server = await startServer(t, { plugins: [{ ...QUIZ, config: config(3_000) }] });
  const ada = await connect(t, server);
  await join(ada, 'ada');
  await ask(ada, 'quiz:start', { room });
  await ask(ada, 'quiz:answer', { room, choice: 0 });
  await server.kill();
  ada.disconnect();
  const again = server.start('up', '--listen', '127.0.0.1:0');
  const url = await until(() => again.stdout().match(/listening on (http:\/\/\S+)\n/)?.[1], { timeout: 60_000 });
  const back = await connect(t, { url });
  const { scores, round } = await join(back, 'ada');
  // The round may have ended meanwhile.
  assert.ok(round === 0 || (round === 1 && scores.ada === 1), JSON.stringify({ scores, round }));
  const [ended] = await nextEvent(back, 'quiz:ended', { timeout: 20_000 });
  assert.equal(ended.scores.ada, 1);
  if (ended.round === 0) assert.equal((await nextEvent(back, 'quiz:ended', { timeout: 20_000 }))[0].round, 1);
  again.signal('SIGTERM');
  assert.equal(await again.exited, 0);
});

test('the page plays it', async (t) => {
  const web = `[web]\nroot = "${ROOT}examples/web"\nclient = "${ROOT}examples/web/node_modules/socket.io-client/dist"`;
  const server = await startServer(t, { config: web, plugins: [{ ...QUIZ, config: config(3_000) }] });
  const page = await openPage(t, await launch(t), `${server.url}/quiz.html`);
  await page.fill('#name', 'ada');
  await page.fill('#room', room);
  await page.click('text=Join');
  await page.click('text=Start');
  for (const right of ['1', '2']) {
    await page.click(`#choices >> text="${right}"`);
    await page.waitForSelector(`#choices button[data-right="true"]:has-text("${right}")`);
  }
  await page.waitForSelector('#scores >> text=ada: 2');
  await keepScreenshot(page, 'quiz');
  assert.deepEqual(page.errors, []);
});
