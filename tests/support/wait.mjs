// Tests wait for conditions and never sleep for a fixed time.
import { setTimeout as pause } from 'node:timers/promises';

/** How long anything may take before a test gives up on it; generous, for slow machines. */
export const PATIENCE = 20_000;

const INTERVAL = 5;

/**
 * Waits until `predicate`, which may be async, returns something truthy, and returns that.
 * `message` says what was waited for: a text, or a function that makes it at the end.
 */
export async function until(predicate, { timeout = PATIENCE, message = String(predicate) } = {}) {
  const deadline = performance.now() + timeout;
  for (;;) {
    const value = await predicate();
    if (value) return value;
    if (performance.now() > deadline) {
      const what = typeof message === 'function' ? message() : message;
      throw new Error(`after ${timeout} ms still not: ${what}`);
    }
    await pause(INTERVAL);
  }
}

/** `promise`, or an error that says `what` did not happen in time. */
export async function within(promise, what, timeout = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`after ${timeout} ms still not: ${what}`)), timeout);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
