/**
 * Plays a payment provider: sends the webhooks of one payment, signed as Stripe signs them, to the plugin
 * `payments`. The last one is delivered twice, as happens.
 *
 *     PAYMENTS_SECRET=… node pay.mjs [USER]
 *
 * The secret is the one that the server was started with, USER the id of who pays (1 by default).
 * MIXLAB_URL names the server, http://127.0.0.1:3000 by default.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';

const { MIXLAB_URL = 'http://127.0.0.1:3000', PAYMENTS_SECRET } = process.env;
if (!PAYMENTS_SECRET) throw new Error('PAYMENTS_SECRET must hold the secret that the server has');
const random = () => randomBytes(6).toString('hex');

async function deliver(body) {
  const time = Math.floor(Date.now() / 1000);
  const signature = createHmac('sha256', PAYMENTS_SECRET).update(`${time}.${body}`).digest('hex');
  const headers = { 'content-type': 'application/json', 'stripe-signature': `t=${time},v1=${signature}` };
  const response = await fetch(new URL('/hooks/payments', MIXLAB_URL), { method: 'POST', headers, body });
  console.log(response.status, response.ok ? JSON.parse(body).type : await response.text());
  if (!response.ok) process.exitCode = 1;
}

const payment = { id: `pi_${random()}`, amount: 4200, currency: 'eur', metadata: { user_id: process.argv[2] ?? '1' } };
let body;
for (const [status, type] of [
  ['requires_payment_method', 'created'],
  ['processing', 'processing'],
  ['succeeded', 'succeeded'],
]) {
  const created = Math.floor(Date.now() / 1000);
  const data = { object: { ...payment, status } };
  body = JSON.stringify({ id: `evt_${random()}`, type: `payment_intent.${type}`, created, data });
  await deliver(body);
  await pause(500);
}
await deliver(body);
