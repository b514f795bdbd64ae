// Requests, which are tried again where that does no harm.
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';

/** The first pause before a request is tried again without being told when; twice as long each time. */
const PAUSE_MS = 200;
const MAX_PAUSE_MS = 5_000;

/** Timers take no more. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export class MixLabError extends Error {
  constructor(message, { status, code, temporary = false, refused = false, retry_after_ms, details, trace_id }, cause) {
    super(message, cause && { cause });
    this.name = 'MixLabError';
    Object.assign(this, { status, code, temporary, refused, retryAfterMs: retry_after_ms, details, traceId: trace_id });
  }
}

export class Backend {
  #url;
  #key;
  #timeout;
  #retries;
  #maxWait;
  #fetch;

  constructor({ url = process.env.MIXLAB_URL ?? 'http://127.0.0.1:3000', key = process.env.MIXLAB_API_KEY, timeout = 10_000, retries = 3, maxWait = 30_000, fetch = globalThis.fetch } = {}) {
    // A file that a key is read from ends with the end of a line.
    const trimmed = key?.trim();
    if (!trimmed) throw new TypeError('there is no API key: say { key }, or set MIXLAB_API_KEY');
    // What is wrong with it is said without it.
    if (!/^[\x21-\x7e]+$/.test(trimmed)) throw new TypeError('the API key has characters that no key has');
    this.#url = address(url);
    this.#key = trimmed;
    this.#timeout = inRange('timeout', timeout, 1, MAX_TIMEOUT_MS);
    this.#retries = inRange('retries', retries, 0);
    this.#maxWait = inRange('maxWait', maxWait, 0);
    this.#fetch = fetch;
  }

  get(path, query = {}) {
    const url = this.#to(path);
    for (const [name, value] of Object.entries(query)) {
      for (const one of [value ?? []].flat()) url.searchParams.append(name, one);
    }
    return this.#send(url, { method: 'GET' });
  }

  /**
   * `once`: it has an Idempotency-Key, this `key` or one of its own, with which it happens once however often it is
   * sent. Without one, it does no harm twice.
   */
  post(path, body, { once = false, key = randomUUID() } = {}) {
    const headers = { 'content-type': 'application/json', ...(once ? { 'idempotency-key': key } : {}) };
    return this.#send(this.#to(path), { method: 'POST', headers, body: JSON.stringify(body) });
  }

  silent(silent) {
    const message = `the list is not whole: ${silent.servers} servers of the cluster do not answer`;
    return new MixLabError(message, { status: 200, code: 'cluster_unavailable', temporary: true, details: silent });
  }

  #to(path) {
    const base = this.#url.pathname.replace(/\/$/, '');
    return new URL(`${base}/api/v1/${path}`, this.#url);
  }

  async #send(url, request) {
    for (let tries = 0; ; tries++) {
      let error;
      try {
        return await this.#try(url, request);
      } catch (thrown) {
        error = thrown;
      }
      const wait = error.retryAfterMs ?? Math.min(PAUSE_MS * 2 ** tries, MAX_PAUSE_MS) * (0.5 + Math.random() / 2);
      if (!error.temporary || tries >= this.#retries || wait > this.#maxWait) throw error;
      await pause(wait);
    }
  }

  async #try(url, request) {
    const headers = { authorization: `Bearer ${this.#key}`, ...request.headers };
    const fetch = this.#fetch;
    let response, text;
    try {
      response = await fetch(url, { ...request, headers, redirect: 'manual', signal: AbortSignal.timeout(this.#timeout) });
      text = await response.text();
    } catch (cause) {
      if (cause.name === 'TimeoutError') {
        const message = `no answer within ${this.#timeout} ms`;
        throw new MixLabError(message, { code: 'timeout', temporary: true }, cause);
      }
      throw new MixLabError(`no answer: ${cause.cause?.message ?? cause.message}`, { code: 'unreachable', temporary: true }, cause);
    }
    const answer = parsed(text);
    const isAnswer = typeof answer === 'object' && answer !== null;
    if (response.ok && isAnswer) return answer;
    const { status } = response;
    const refused = isRefusal(answer?.error);
    // A proxy in between may answer in its own words, or in none.
    const said = refused ? answer.error : { code: `http_${status}`, message: `${status} ${response.statusText}, and no answer of MixLab's`, temporary: [429, 502, 503, 504].includes(status) };
    const after = Number(response.headers.get('retry-after') ?? NaN) * 1000;
    const retry_after_ms = [said.retry_after_ms, after].find((wait) => Number.isFinite(wait) && wait >= 0);
    throw new MixLabError(said.message, { ...said, status, refused, retry_after_ms });
  }
}

/** Where the server is. What is wrong with it is said without it: it may hold a password. */
function address(url) {
  let read;
  try {
    read = new URL(url);
  } catch {
    throw new TypeError('the URL is none');
  }
  if (!/^https?:$/.test(read.protocol)) throw new TypeError('the URL begins with http:// or https://');
  if (read.username || read.password || read.search || read.hash) throw new TypeError('the URL has a user, a query or a fragment, which nobody would be sent');
  return read;
}

/** A number that an option may be. */
function inRange(option, value, least, most = Infinity) {
  if (typeof value === 'number' && value >= least && value <= most) return value;
  throw new TypeError(`${option}: expected a number from ${least}${most === Infinity ? '' : ` to ${most}`}`);
}

/** What somebody or something is called. */
export function named(value) {
  // It would be a name like any other: of nobody who was meant.
  if (value === undefined || value === null) throw new TypeError(`${value} is no name`);
  return String(value);
}

/** One part of a path. `.` and `..` would be taken for folders, however they are written. */
export function segment(value) {
  const text = named(value);
  if (text === '.' || text === '..') throw new TypeError(`no request can name ${JSON.stringify(text)}`);
  return encodeURIComponent(text);
}

/** Whether this is how MixLab says no. */
const isRefusal = (error) => typeof error?.code === 'string' && typeof error.message === 'string';

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
