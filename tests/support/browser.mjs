// Chromium, and pages whose errors are collected.
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';

const ARGUMENTS = [
  '--no-sandbox',
  '--headless',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** The stock client as pages load it: `page.addScriptTag({ path: STOCK_CLIENT })`. */
export const STOCK_CLIENT = fileURLToPath(new URL('../node_modules/socket.io-client/dist/socket.io.min.js', import.meta.url));

/** A browser that is closed when `t` ends. */
export async function launch(t) {
  const browser = await chromium.launch({ executablePath: EXECUTABLE, args: ARGUMENTS });
  t.after(() => browser.close());
  return browser;
}

/**
 * A page at `url` in a profile of its own, closed when `t` ends; `page.errors` is what the console said.
 * `options` are more of the profile's.
 */
export async function openPage(t, browser, url, options = {}) {
  const context = await browser.newContext({ locale: 'en-US', viewport: { width: 1280, height: 1000 }, ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.errors = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) page.errors.push(`${message.text()} ${message.location().url}`);
  });
  page.on('pageerror', (error) => page.errors.push(error.message));
  await page.goto(url);
  return page;
}

/** Keeps what the page looks like, in $MIXLAB_ARTIFACTS or in the system's temporary folder. */
export async function keepScreenshot(page, name) {
  const folder = process.env.MIXLAB_ARTIFACTS ?? join(tmpdir(), 'mixlab-tests-artifacts');
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}
