// The shipped payments: told by signed webhooks, kept, and shown live, each once.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { keepScreenshot, launch, openPage } from '../support/browser.mjs';
import { ask, connect, nextEvent, received } from '../support/client.mjs';
import { plugin } from '../support/plugins.mjs';
import { ROOT, startServer } from '../support/server.mjs';
import { seconds, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const PAYMENTS_SECRET = 'whsec_of_the_provider';
const PAYMENTS = {
  wasm: 'payments',
  grants: ['payments', 'store'],
  webhook: { verify: 'stripe', secret_env: 'PAYMENTS_SECRET' },
};
const WEB = `[web]\nroot = "${ROOT}examples/web"\nclient = "${ROOT}examples/web/node_modules/socket.io-client/dist"\n`;
const ADA = token({ sub: '1', username: 'Ada', role: 'student' });
const start = (t, options) => startServer(t, { plugins: [PAYMENTS], env: { PAYMENTS_SECRET }, ...options });
let events = 0;

/** The body of a webhook: `pi_1` of user 1, unless said otherwise. */
function told(status, { created = seconds(), type = `payment_intent.${status}`, ...changed } = {}) {
  const object = { id: 'pi_1', amount: 4200, currency: 'eur', status, metadata: { user_id: '1' }, ...changed };
  return JSON.stringify({ id: `evt_${events++}`, type, created, data: { object } });
}

async function deliver(server, body, secret = PAYMENTS_SECRET) {
  const time = seconds();
  const signature = createHmac('sha256', secret).update(`${time}.${body}`).digest('hex');
  const headers = { 'stripe-signature': `t=${time},v1=${signature}` };
  const response = await fetch(`${server.url}/hooks/payments`, { method: 'POST', headers, body });
  return response.status;
}

const get = (socket, id = 'pi_1') => ask(socket, 'payment:get', { id });
const updates = (socket) => received(socket, 'payment_update').map(([{ data }]) => data.status);

async function subscribed(t, server) {
  const socket = await connect(t, server, { token: ADA });
  assert.deepEqual(await ask(socket, 'subscribe:payments'), { success: true });
  return socket;
}

test('a payment is kept and shown once, however often and in whatever order it is told', async (t) => {
  const server = await start(t);
  const ada = await subscribed(t, server);
  const now = seconds();
  const succeeded = told('succeeded', { created: now });
  assert.equal(await deliver(server, succeeded), 204);
  const [update] = await nextEvent(ada, 'payment_update');
  const payment = { id: 'pi_1', amount: 4200, currency: 'eur', status: 'succeeded' };
  assert.deepEqual(update.data, payment);
  const again = await Promise.all([1, 2, 3].map(() => deliver(server, succeeded)));
  assert.deepEqual(again, [204, 204, 204]);
  // Told late, and of the same second.
  assert.equal(await deliver(server, told('processing', { created: now - 1 })), 204);
  assert.equal(await deliver(server, told('processing', { created: now })), 204);
  assert.equal(await deliver(server, told('succeeded', { type: 'charge.succeeded' })), 204, 'is no payment');
  assert.deepEqual(await get(ada), payment);
  assert.equal(await deliver(server, told('canceled', { created: now + 1 })), 204);
  await until(() => updates(ada).includes('canceled'));
  assert.deepEqual(updates(ada), ['succeeded', 'canceled']);
});

test('nobody else tells of payments, and what is none is not taken', async (t) => {
  const server = await start(t);
  const ada = await subscribed(t, server);
  assert.equal(await deliver(server, told('succeeded'), 'a guess'), 401);
  assert.equal(await deliver(server, told('succeeded', { amount: -1 })), 400);
  assert.equal(await deliver(server, 'succeeded'), 400);
  assert.equal((await get(ada)).error.code, 'not_found');
  assert.deepEqual(updates(ada), []);
});

test('who pays may ask for a payment, and admins, also after the server was killed', async (t) => {
  const server = await start(t);
  assert.equal(await deliver(server, told('succeeded')), 204);
  await server.kill();
  const again = server.start('up', '--listen', '127.0.0.1:0');
  const url = await until(() => again.stdout().match(/listening on (http:\/\/\S+)\n/)?.[1], { timeout: 60_000 });
  for (const [claims, code] of [
    [{ sub: '1' }, undefined],
    [{ sub: '2', role: 'admin' }, undefined],
    [{ sub: '2' }, 'not_found'],
  ]) {
    const answer = await get(await connect(t, { url }, { token: token(claims) }));
    assert.equal(answer.error?.code, code, JSON.stringify(claims));
  }
  assert.equal((await get(await connect(t, { url }))).error.code, 'unauthorized');
  again.signal('SIGTERM');
  assert.equal(await again.exited, 0);
});

test('without a secret, the server starts and says so, and webhooks wait for it', async (t) => {
  const server = await start(t, { env: {} });
  await server.waitForLog(/PAYMENTS_SECRET of the plugin "payments" is not set: its webhooks are refused/);
  assert.equal((await plugin(server, 'payments')).state, 'serving');
  assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
  for (const secret of [PAYMENTS_SECRET, '']) assert.equal(await deliver(server, told('succeeded'), secret), 503);
  const check = await server.mixlab('check');
  assert.equal(check.code, 0);
  assert.match(check.stderr + check.stdout, /PAYMENTS_SECRET/);
});

test('the page shows what pay.mjs has somebody pay', async (t) => {
  const server = await start(t, { config: WEB });
  const page = await openPage(t, await launch(t), `${server.url}/payments.html#token=${ADA}`);
  await page.waitForSelector('#none >> text=Waiting for payments');
  const env = { ...process.env, MIXLAB_URL: server.url, PAYMENTS_SECRET };
  const pay = () => promisify(execFile)(process.execPath, [`${ROOT}examples/backend/pay.mjs`], { env });
  const { stdout } = await pay();
  assert.deepEqual(stdout.trim().split('\n').map((line) => line.split(' ')[0]), ['204', '204', '204', '204']);
  await pay();
  await page.waitForFunction(() => document.querySelectorAll('[data-status="succeeded"]').length === 2);
  const [, id] = await page.locator('#payments tr td:first-child').allTextContents();
  await page.fill('#payment', id);
  await page.click('text=Ask');
  await page.waitForSelector('#answer >> text=succeeded: €42.00');
  await keepScreenshot(page, 'payments');
  assert.deepEqual(page.errors, []);
});
