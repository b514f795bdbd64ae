/**
 * How a backend pushes to connected clients: one HTTP call each, with Node's own fetch.
 *
 *     MIXLAB_API_KEY=… node push.mjs        pushes one payment and says how many sockets got it
 *
 * MIXLAB_URL names the server, http://127.0.0.1:3000 by default. Every function throws a
 * PushError when the server says no, and lets through what fetch throws when there is no server.
 */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const TIMEOUT_MS = 10_000; // a push takes milliseconds; this is for a server that does not answer

/** What the server answered instead of a result. */
export class PushError extends Error {
  /** @param {number} status of the HTTP answer */
  constructor(status, { code, message, temporary = false, retry_after_ms, details, trace_id }) {
    super(message);
    this.name = 'PushError';
    Object.assign(this, { status, code, temporary, retryAfterMs: retry_after_ms, details, traceId: trace_id });
  }
}

/**
 * Sends `payment_update` to everybody who subscribed to payments.
 * @param {object} data such as `{ invoiceId, status, amount }`
 * @returns {Promise<number>} how many sockets got it
 */
export async function broadcastPaymentUpdate(data) {
  return (await call('POST', 'payments/updates', data)).delivered;
}

/**
 * Sends `notification` to all sockets of one user.
 * @param {number|string} userId
 * @param {object} notification such as `{ title, message, type }`
 * @returns {Promise<number>} how many sockets got it
 */
export async function sendUserNotification(userId, notification) {
  return (await call('POST', `users/${segment(userId)}/notifications`, notification)).delivered;
}

/**
 * Sends an event of any name to all users of a role.
 * @param {string} role
 * @param {string} event
 * @param {*} data any JSON
 * @returns {Promise<number>} how many sockets got it
 */
export async function broadcastToRole(role, event, data) {
  return (await call('POST', `roles/${segment(role)}/events/${segment(event)}`, data)).delivered;
}

/**
 * Sends events of any name to rooms, users, roles, sockets or everybody, of any namespace: one, or a list of
 * which all are sent or none.
 * @param {object|object[]} emits such as `{ users: ['123'], event: 'booked', arguments: [{ hours: 2 }] }`;
 *   whom: `rooms`, `users`, `roles`, `sockets` or `everyone: true`, but not `except`; in `namespace`
 * @param {{ idempotencyKey?: string }} [options] with a key, the same emit that is tried again after an error
 *   of the network happens once
 * @returns {Promise<number|number[]>} how many sockets got it, of a list for each
 */
export async function emit(emits, { idempotencyKey } = {}) {
  const headers = idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey };
  const answer = await call('POST', 'emit', emits, headers);
  return Array.isArray(answer) ? answer.map(({ delivered }) => delivered) : answer.delivered;
}

/** @returns {Promise<number>} how many clients are connected now */
export async function getConnectedClientsCount() {
  return (await call('GET', 'clients/count')).count;
}

async function call(method, path, data, headers = {}) {
  const { MIXLAB_URL = 'http://127.0.0.1:3000', MIXLAB_API_KEY } = process.env;
  if (!MIXLAB_API_KEY) throw new Error('MIXLAB_API_KEY must hold an API key of the server');
  const response = await fetch(new URL(`/api/v1/${path}`, MIXLAB_URL), {
    method,
    headers: { authorization: `Bearer ${MIXLAB_API_KEY}`, 'content-type': 'application/json', ...headers },
    body: data === undefined ? undefined : JSON.stringify(data),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const answer = await response.json().catch(() => null);
  if (response.ok && answer && !answer.error) return answer;
  // A proxy in between may answer in its own words, or in none.
  throw new PushError(response.status, answer?.error ?? {
    code: `http_${response.status}`,
    message: `${response.status} ${response.statusText}, without an answer in JSON`,
  });
}

function segment(value) {
  return encodeURIComponent(String(value));
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    const delivered = await broadcastPaymentUpdate({ invoiceId: 'inv_123', status: 'paid', amount: 1000 });
    console.log(`delivered to ${delivered} ${delivered === 1 ? 'socket' : 'sockets'}`);
  } catch (error) {
    const reason = error instanceof PushError ? `${error.code}: ${error.message}` : error.message;
    console.error(`not pushed: ${reason}${error.cause ? ` (${error.cause.message})` : ''}`);
    process.exitCode = 1;
  }
}
