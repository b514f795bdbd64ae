// Makes a site of the documents: `npm run build`, with `-- --out FOLDER` and `--base /PATH/` for one that is not at
// the root of its host. MIXLAB_BIN is the program that the command line's reference is asked of; without it, cargo
// runs the one of this repository.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, posix, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'vitepress';
import { linker } from './links.mjs';
import { DOCS, ROOT, pages as list, sections, text } from './pages.mjs';

const { values } = parseArgs({ options: { out: { type: 'string' }, base: { type: 'string', default: '/' } } });
const out = resolve(values.out ?? join(ROOT, 'target/docs'));

const [, repository] = readFileSync(join(ROOT, 'Cargo.toml'), 'utf8').match(/^repository = "(.*)"$/m);
const pages = list();
const texts = new Map(pages.map((page) => [page, text(page)]));
const link = linker({ pages, root: ROOT, repository, read: (page) => texts.get(page) });
const written = pages.map((page) => ({ ...page, markdown: link(page, texts.get(page)) }));

function write(folder, name, content) {
  mkdirSync(dirname(join(folder, name)), { recursive: true });
  writeFileSync(join(folder, name), content);
}

/** What programs read first (https://llmstxt.org): each page with a line. */
function llms() {
  const lines = sections().flatMap((section) => [
    `\n## ${section.title}\n`,
    ...section.pages.map(({ title, place, line }) => `- [${title}](${place}.md): ${line}`),
  ]);
  return `# MixLab\n\n> ${pages[0].line}\n${lines.join('\n')}\n`;
}

// Where VitePress finds its packages, and nobody takes it for documents.
const staged = mkdtempSync(join(ROOT, DOCS, 'node_modules/.site-'));
process.on('exit', () => rmSync(staged, { recursive: true, force: true }));
for (const { place, markdown } of written) write(staged, `${place}.md`, markdown);
cpSync(fileURLToPath(new URL('config.mjs', import.meta.url)), join(staged, '.vitepress/config.mjs'));
const sidebar = sections().map((section) => ({
  text: section.title,
  items: section.pages.map(({ title, place }) => ({ text: title, link: `/${place}` })),
}));
const descriptions = Object.fromEntries(pages.map(({ place, line }) => [`${place}.md`, line]));
write(staged, '.vitepress/site.json', JSON.stringify({ sidebar, descriptions, repository }));

await build(staged, { outDir: out, base: values.base });

for (const { place, markdown } of written) write(out, `${place}.md`, markdown);
write(out, 'llms.txt', llms());
write(out, 'llms-full.txt', written.map(({ place, markdown }) => `<!-- ${posix.join('/', place)} -->\n\n${markdown.trim()}\n`).join('\n'));
console.log(`wrote ${out}`);
