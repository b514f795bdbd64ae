// The shipped chat: who is there, who is typing, what was said, and what somebody missed.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join as pathOf } from 'node:path';
import { test } from 'node:test';
import { keepScreenshot, launch, openPage } from '../support/browser.mjs';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import { ROOT, startServer } from '../support/server.mjs';
import { token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const SERVED = { grants: ['emit', 'room:chat:*', 'presence:chat:*', 'history:chat:*'], config: { page: 3 } };
const CHAT = { wasm: 'chat', ...SERVED };
/** The same plugin in several languages. */
const LANGUAGES = {
  Rust: CHAT,
  C: { wasm: 'chat_c', ...SERVED },
  Python: { wasm: 'chat_python', ...SERVED },
  TypeScript: { script: 'chat.ts', text: readFileSync(pathOf(ROOT, 'plugins/chat.ts'), 'utf8'), ...SERVED },
};
const room = 'lobby';
const ADA = { sub: '1', username: 'Ada' };
let ids = 0;
const say = (socket, text) => ask(socket, 'chat:say', { room, id: `m${ids++}`, text });
const join = (socket, name) => ask(socket, 'chat:join', { room, name });
const history = (socket, position) => ask(socket, 'chat:history', { room, position });
const texts = ({ events }) => events.map(({ arguments: [{ text }] }) => text);
const names = ({ members }) => members.map(({ data }) => data.name).toSorted();

for (const [language, chat] of Object.entries(LANGUAGES)) {
  test(`${language}: whoever is in a room is there once, with a name that is not made up if there is a token`, async (t) => {
    const server = await startServer(t, { plugins: [chat] });
    const bob = await connect(t, server);
    assert.equal((await ask(bob, 'chat:join', { room })).error.code, 'name_missing');
    const { me, members } = await join(bob, ' Bob ');
    assert.deepEqual([me, members], [{ id: bob.id, name: 'Bob', guest: true }, []]);
    const windows = await Promise.all([1, 2].map(() => connect(t, server, { token: token(ADA) })));
    for (const ada of windows) assert.deepEqual((await join(ada, 'Bob')).me, { id: '1', name: 'Ada', guest: false });
    const told = () => received(bob, 'presence').map(([change]) => change);
    const ada = () => told().flatMap(({ joined, updated }) => [...joined, ...updated]).findLast(({ id }) => id === '1');
    await until(() => ada()?.connections === 2);
    assert.deepEqual(names(await join(bob, 'Bob')), ['Ada', 'Bob']);

    await ask(windows[0], 'chat:leave', { room });
    await until(() => ada().connections === 1);
    assert.ok(told().every(({ left }) => left.length === 0), 'her other window is there');
    windows[1].disconnect();
    await until(() => told().some(({ left }) => left.some(({ id }) => id === '1')));
    assert.deepEqual(names(await join(bob, 'Bob')), ['Bob']);
  });

  test(`${language}: everybody who joined gets what is said, and who comes later finds the last of it`, async (t) => {
    const server = await startServer(t, { config: '[history]\nevents = 5\n', plugins: [chat] });
    const [ada, bob] = await Promise.all([connect(t, server, { token: token(ADA) }), connect(t, server)]);
    assert.equal((await say(bob, 'Hello?')).error.code, 'not_joined');
    assert.equal((await history(bob)).error.code, 'not_joined');
    await Promise.all([join(ada), join(bob, 'Bob')]);
    await say(ada, 'one');
    const [said] = await nextEvent(bob, 'chat:message');
    assert.deepEqual([said.room, said.from.name, said.text], [room, 'Ada', 'one']);
    assert.deepEqual(await nextEvent(ada, 'chat:message'), [said], 'the sender, too');
    const { position, gap, more, ...first } = await history(bob);
    assert.deepEqual([texts(first), gap, more], [['one'], false, false]);

    await ask(bob, 'chat:leave', { room });
    for (const text of ['two', 'three', 'four', 'five']) await say(ada, text);
    await join(bob, 'Bob');
    const second = await history(bob, position);
    assert.deepEqual([texts(second), second.gap, second.more], [['two', 'three', 'four'], false, true]);
    const third = await history(bob, second.position);
    assert.deepEqual([texts(third), third.more], [['five'], false]);
    assert.deepEqual(received(bob, 'chat:message').length, 1, 'nothing that was said while he was away');

    for (const text of ['six', 'seven']) await say(ada, text);
    const late = await history(bob, position);
    assert.deepEqual([texts(late), late.gap], [['three', 'four', 'five'], true], 'the second is gone');
  });

  test(`${language}: others see who is typing, and nobody sends what is no message, or too much`, async (t) => {
    const server = await startServer(t, { plugins: [chat] });
    const [ada, bob] = await Promise.all([connect(t, server), connect(t, server)]);
    await Promise.all([join(ada, 'Ada'), join(bob, 'Bob')]);
    ada.emit('chat:typing', { room });
    const [{ from }] = await nextEvent(bob, 'chat:typing');
    assert.equal(from.name, 'Ada');
    for (const wrong of [
      { room, id: 'x', text: ' \n' },
      { room, id: 'x', text: 'a'.repeat(2001) },
      { room, id: '', text: 'a' },
      { room: '', id: 'x', text: 'a' },
      { room: 'a\nb', id: 'x', text: 'a' },
    ]) {
      assert.equal((await ask(ada, 'chat:say', wrong)).error?.code, 'invalid_payload', JSON.stringify(wrong));
    }
    const answers = await Promise.all(Array.from({ length: 30 }, (_, index) => say(ada, `${index}`)));
    const refused = answers.filter((answer) => answer?.error);
    assert.ok(refused.length > 0 && refused.every(({ error }) => error.code === 'rate_limited'));
    assert.equal(received(ada, 'chat:typing').length, 0, 'not who types');
  });
}

const WEB = `[web]\nroot = "${ROOT}examples/web"\nclient = "${ROOT}examples/web/node_modules/socket.io-client/dist"`;

test('the page shows who is there also where the news of it come before the answer', async (t) => {
  const server = await startServer(t, { config: WEB, plugins: [CHAT] });
  const page = await openPage(t, await launch(t), `${server.url}/chat.html`);
  // Answers come later than all that is told within a batch.
  await page.addInitScript(() => {
    let connect;
    Object.defineProperty(globalThis, 'io', {
      get: () => connect,
      set(io) {
        connect = (...args) => {
          const socket = io(...args);
          const { onack } = socket;
          socket.onack = (packet) => setTimeout(() => onack.call(socket, packet), 600);
          return socket;
        };
      },
    });
  });
  await page.reload();
  await page.fill('#name', 'Bob');
  await page.click('text=Join');
  await page.waitForSelector('#text:enabled');
  assert.equal(await page.locator('#count').textContent(), '1');
  assert.deepEqual(page.errors, []);
});

test('the page shows all of it, and what was said while it was away', async (t) => {
  const server = await startServer(t, { config: WEB, plugins: [CHAT], recovery: true });
  const browser = await launch(t);
  const [ada, bob] = await Promise.all([
    openPage(t, browser, `${server.url}/chat.html#token=${token(ADA)}`),
    openPage(t, browser, `${server.url}/chat.html`),
  ]);
  await bob.fill('#name', 'Bob');
  for (const page of [ada, bob]) await page.click('text=Join');
  for (const page of [ada, bob]) await page.waitForFunction(() => document.getElementById('count').textContent === '2');
  await ada.fill('#text', 'Hello Bob');
  await bob.waitForSelector('#typing >> text=Ada is typing');
  await ada.press('#text', 'Enter');
  await bob.waitForSelector('#messages >> text=Hello Bob');
  await ada.waitForSelector('#messages .own >> text=Hello Bob');
  await bob.fill('#text', 'Hi Ada, shall we?');
  await bob.press('#text', 'Enter');
  await ada.waitForSelector('#messages >> text=Bob (guest)');

  await ada.reload();
  for (const text of ['Are you', 'still', 'there?', '…']) {
    await bob.fill('#text', text);
    await bob.press('#text', 'Enter');
    await bob.waitForSelector(`#messages .own >> text="${text}"`);
  }
  await ada.click('text=Join');
  await ada.waitForSelector('#messages >> text=there?');
  await ada.fill('#text', 'I am');
  await bob.waitForSelector('#typing >> text=Ada is typing');
  await bob.waitForSelector('#people [data-away="false"] >> text=Ada');
  await keepScreenshot(bob, 'chat');
  assert.deepEqual(await bob.locator('#people li').allTextContents(), ['Ada', 'Bobguest, you']);
  for (const page of [ada, bob]) assert.deepEqual(page.errors, []);
});
