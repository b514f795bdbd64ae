// Which pages there are: those that the list of the documents names, in its order.
import { existsSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { REFERENCES } from './reference.mjs';

/** The repository's folder. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** The documents' folder in it, and the list. */
export const DOCS = 'host/docs';
export const LIST = `${DOCS}/README.md`;

const ENTRY = /^- \[([^\]]+)\]\(([^)]+)\): ([^]*?)(?=\n- |\s*(?![^]))/gm;

/** Where the page of a file is in the site, without an ending. */
function place(source) {
  if (source === LIST) return 'index';
  if (REFERENCES.has(source)) return `reference/${REFERENCES.get(source).name}`;
  return source.replace(`${DOCS}/`, '').replace(/(\/README)?\.md$/, '').toLowerCase();
}

function page(source, title, line) {
  if (!existsSync(join(ROOT, source))) throw new Error(`${LIST} names ${source}, which is not there`);
  return { source, place: place(source), title, line };
}

/**
 * The sections of the list, `{ title, pages }`. A page is `{ source, place, title, line }`: the file in the
 * repository that it is made of, where it is in the site, what the list calls it and says of it.
 */
export function sections() {
  const [, ...parts] = readFileSync(join(ROOT, LIST), 'utf8').split(/^## /m);
  return parts.map((part) => {
    const [title] = part.split('\n', 1);
    const pages = [...part.matchAll(ENTRY)].map(([, name, path, line]) =>
      page(posix.join(DOCS, path), name, line.replace(/\s+/g, ' ')),
    );
    return { title, pages };
  });
}

/** All pages; the list itself is the first. */
export function pages() {
  const [, title, summary] = readFileSync(join(ROOT, LIST), 'utf8').match(/^# (.*)\n\n([^]*?)\n\n/);
  const words = summary.replace(/\s+/g, ' ').replace(/\[([^\]]+)\]\([^)]+\)/g, '$1');
  const first = page(LIST, title, words);
  return [first, ...sections().flatMap((section) => section.pages)];
}

/** The Markdown of a page as its author wrote it, or as it is made of its source. */
export function text({ source, title }) {
  const reference = REFERENCES.get(source);
  if (reference) return `# ${title}\n\n${reference.make()}`;
  return readFileSync(join(ROOT, source), 'utf8');
}
