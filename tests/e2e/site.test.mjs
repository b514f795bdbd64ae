// The documents as a site: built, with every link and every page looked at, and found by its search.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, extname, join, posix } from 'node:path';
import { after, describe, test } from 'node:test';
import { linker } from '../../host/docs/site/links.mjs';
import { pages, sections, text } from '../../host/docs/site/pages.mjs';
import { launch, openPage } from '../support/browser.mjs';
import { DOCUMENTS } from '../support/documents.mjs';
import { PROGRAM, ROOT } from '../support/server.mjs';

const work = mkdtempSync(join(tmpdir(), 'mixlab-site-'));
after(() => rmSync(work, { recursive: true, force: true, maxRetries: 10 }));

process.env.MIXLAB_BIN = PROGRAM;
const SITE = join(work, 'site');
execFileSync('npm', ['run', '--silent', 'build', '--prefix', join(ROOT, 'host/docs'), '--', '--out', SITE], { stdio: ['ignore', 'ignore', 'inherit'] });

const read = (path) => readFileSync(join(SITE, path), 'utf8');
const html = new Map(readdirSync(SITE, { recursive: true }).filter((path) => path.endsWith('.html')).map((path) => [path, read(path)]));
const PAGES = pages();

test('every document of host/docs is a page, and every page is in the navigation', () => {
  const written = DOCUMENTS.filter((path) => path.startsWith('host/docs/'));
  assert.deepEqual(written.filter((path) => !PAGES.some(({ source }) => source === path)), []);
  assert.deepEqual([...html.keys()].filter((path) => path !== '404.html').toSorted(), PAGES.map(({ place }) => `${place}.html`).toSorted());
  const front = html.get('index.html');
  for (const { place } of PAGES.slice(1)) assert.ok(front.includes(`<a class="VPLink link link" href="/${place}.html"`), place);
});

test('the list calls pages what they call themselves', () => {
  for (const page of PAGES) assert.equal(text(page).match(/^# (.*)/)[1], page.title, page.source);
});

test('links and their anchors lead to something, within the site and into the repository', () => {
  let links = 0;
  for (const [path, page] of html) {
    for (const [, href] of page.matchAll(/<a[^>]* href="([^"]+)"/g)) {
      links += 1;
      const url = new URL(href.replaceAll('&amp;', '&'), `http://site/${path}`);
      const file = url.pathname.match(/^\/mixlab\/mixlab\/(?:blob|tree)\/main\/(.*)$/);
      if (url.host === 'github.com' && file) assert.ok(existsSync(join(ROOT, decodeURI(file[1]))), `${path}: ${href}`);
      if (url.host !== 'site') continue;
      const target = url.pathname.slice(1) || 'index.html';
      if (!html.has(target)) assert.fail(`${path}: ${href}`);
      const id = decodeURIComponent(url.hash.slice(1));
      if (id) assert.ok(html.get(target).includes(`id="${id}"`), `${path}: ${href}`);
    }
  }
  assert.ok(links > 1000, 'the links are found');
});

test('so do those of documents that are no pages', () => {
  const link = linker({ pages: PAGES, root: ROOT, repository: '', read: text });
  for (const source of DOCUMENTS) link({ source, place: 'elsewhere' }, readFileSync(join(ROOT, source), 'utf8'));
});

describe('a link that leads nowhere ends the build', () => {
  const files = { 'docs/a.md': '# A\n\n## Of `a`, too\n', 'docs/b.md': '# B\n' };
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(work, path)), { recursive: true });
    writeFileSync(join(work, path), content);
  }
  const known = [{ source: 'docs/a.md', place: 'a' }, { source: 'docs/b.md', place: 'sub/b' }];
  const link = linker({ pages: known, root: work, repository: 'https://example.com', read: ({ source }) => files[source] });
  const linked = (markdown) => link(known[1], markdown);
  for (const [markdown, expected] of [
    ['[a](a.md#of-a-too), [`b`](b.md), [docs](../docs)', '[a](../a.md#of-a-too), [`b`](b.md), [docs](https://example.com/tree/main/docs)'],
    ['`[a](gone.md)`\n```\n[a](gone.md)\n```\n', '`[a](gone.md)`\n```\n[a](gone.md)\n```\n'],
    ['[a](gone.md)', /docs\/b\.md: the link to gone\.md leads nowhere: there is no such file/],
    ['[a](a.md#gone)', /the link to a\.md#gone leads nowhere: there is no such heading/],
    ['[b](#gone)', /no such heading/],
    ['[out](../../out.md)', /no such file/],
  ]) {
    test(markdown, () => {
      if (typeof expected === 'string') assert.equal(linked(markdown), expected);
      else assert.throws(() => linked(markdown), expected);
    });
  }
});

test('llms.txt lists every page with a line, and llms-full.txt has all of them', () => {
  const lines = read('llms.txt').split('\n');
  const full = read('llms-full.txt');
  for (const { place, title, line } of PAGES.slice(1)) {
    assert.ok(lines.includes(`- [${title}](${place}.md): ${line}`), place);
    assert.ok(full.includes(read(`${place}.md`).trim()), place);
  }
  for (const [, target] of read('llms.txt').matchAll(/\]\(([^)]+)\)/g)) assert.ok(existsSync(join(SITE, target)), target);
});

describe('what is made of the source has all of it', () => {
  const of = (source) => text(PAGES.find((page) => page.source === source));

  test('every key of mixlab.toml', () => {
    const keys = [...readFileSync(join(ROOT, 'mixlab.toml'), 'utf8').matchAll(/^#?([a-z_]+) = /gm)].map(([, key]) => key);
    const headings = new Set([...of('mixlab.toml').matchAll(/^### (.*)$/gm)].map(([, key]) => key));
    // Those of a shipped plugin's own `config` are the plugin's.
    assert.deepEqual([...new Set(keys)].filter((key) => !headings.has(key)), ['round_ms', 'questions']);
  });

  test('every path of the HTTP API', () => {
    const { paths } = JSON.parse(readFileSync(join(ROOT, 'host/openapi.json'), 'utf8'));
    const page = of('host/openapi.json').replaceAll('\\', '');
    for (const path of Object.keys(paths)) assert.match(page, new RegExp(`^## [A-Z]+ ${path.replace(/[{}]/g, '\\$&')}$`, 'm'));
  });

  test('every command', () => {
    const page = of('host/src/cli');
    for (const name of ['up', 'plugin list', 'timers list', 'token gen']) assert.ok(page.includes(`## mixlab ${name}\n`), name);
  });

  test('the host events', () => {
    for (const name of ['authenticate', 'mixlab:error', 'presence']) assert.ok(of('host/src/contracts/host_events.rs').includes(`| \`${name}\` |`), name);
  });
});

/** The codes of errors that the host's source names. */
function codes() {
  const folder = join(ROOT, 'host/src');
  const files = readdirSync(folder, { recursive: true }).filter((path) => path.endsWith('.rs') && !/(^|\/)tests?(\.rs|\/)/.test(path));
  const source = files.map((path) => readFileSync(join(folder, path), 'utf8').split(/^#\[cfg\(test\)\]\s*\nmod tests/m)[0]).join('\n');
  const literal = [...source.matchAll(/WireError::(?:new|temporary)\(\s*"([a-z_]+)"/g)].map(([, code]) => code);
  const constant = [...source.matchAll(/WireError::(?:new|temporary)\(\s*([A-Z_]+),/g)].map(([, name]) => source.match(new RegExp(`const ${name}: &str = "([a-z_]+)"`))[1]);
  const [ofTokens] = source.match(/Self::Expired => "token_expired",[^]*?\n {8}\}/);
  return [...new Set([...literal, ...constant, ...[...ofTokens.matchAll(/=> "([a-z_]+)"/g)].map(([, code]) => code)])].toSorted();
}

test('the table of errors has the codes of the host, and no others', () => {
  const rows = [...readFileSync(join(ROOT, 'host/docs/reference/errors.md'), 'utf8').matchAll(/^\| `([a-z_]+)` \|/gm)];
  assert.deepEqual(rows.map(([, code]) => code), codes());
});

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.woff2': 'font/woff2' };

/** A server of files, as any. */
async function serve(t) {
  const server = createServer((request, response) => {
    const path = posix.normalize(decodeURI(new URL(request.url, 'http://site').pathname)).replace(/\/$/, '/index.html');
    const file = join(SITE, path);
    if (!existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'text/plain' }).end(readFileSync(file));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

/** For each section of the list: words that somebody looks for, and the page that has the answer. */
const QUESTIONS = {
  Start: ['componentize-py', 'start/python'],
  Plugins: ['serial_by', 'plugins/store'],
  Languages: ['structuredClone', 'plugins/scripts'],
  'Running it': ['requirepass', 'running/redis'],
  'Coming from Node': ['fetchSockets', 'examples/migration'],
  Reference: ['write_timeout', 'reference/configuration'],
};

test('a browser shows it, and its search finds what is in each section', { timeout: 300_000 }, async (t) => {
  assert.deepEqual(Object.keys(QUESTIONS), sections().map(({ title }) => title));
  const page = await openPage(t, await launch(t), await serve(t));
  await page.waitForSelector('h1:has-text("MixLab\'s documents")');
  for (const [words, place] of Object.values(QUESTIONS)) {
    await page.locator('.VPNavBarSearch button').click();
    await page.fill('.search-input', words);
    await page.waitForSelector(`.results a[href^="/${place}.html"]`);
    await page.keyboard.press('Escape');
  }
  await page.locator('.VPNavBarSearch button').click();
  await page.fill('.search-input', 'requirepass');
  await page.locator('.results a[href^="/running/redis.html"]').first().click();
  await page.waitForSelector('h1:has-text("The Redis of a cluster")');
  assert.deepEqual(page.errors, []);
});

test('on a phone nothing is wider than the screen', { timeout: 300_000 }, async (t) => {
  const url = await serve(t);
  const page = await openPage(t, await launch(t), url, { viewport: { width: 390, height: 844 } });
  for (const { place } of PAGES) {
    await page.goto(`${url}/${place}.html`);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0, place);
  }
});
