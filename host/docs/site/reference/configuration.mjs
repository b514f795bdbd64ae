// Every key of mixlab.toml, by the comments of the shipped one.
import { code, plain, read } from './repository.mjs';

const TABLE = /^#?(\[\[?[\w.]+\]\]?)$/;
const KEY = /^#?([a-z_]+) = (.*)$/;
/** What a shipped plugin is told, which is that plugin's. */
const OF_PLUGIN = '[plugins.config]';
const DOCUMENT = /host\/docs\/[\w/-]+\.md/g;

/** A comment as Markdown: sentences are paragraphs, what is indented stays as it is. */
function prose(lines) {
  const parts = [];
  for (const line of lines) {
    const isTable = line.startsWith('  ');
    const last = parts.at(-1);
    if (last?.isTable === isTable && line !== '') last.lines.push(line);
    else if (line !== '') parts.push({ isTable, lines: [line] });
    else parts.push({ isTable: null, lines: [] });
  }
  return parts
    .filter((part) => part.lines.length > 0)
    .map((part) => (part.isTable ? code('text', part.lines.join('\n')) : `${linked(plain(part.lines.join('\n')))}\n`))
    .join('\n');
}

/** Where a comment names a document, a link to it. */
const linked = (text) =>
  text.replace(DOCUMENT, (path) => {
    const [, heading] = read(path).match(/^# (.*)/);
    return `[${heading}](${path})`;
  });

export function configuration() {
  let comment = [];
  let heading = 'Beside the tables';
  const written = [];
  const seen = new Set();
  const isNew = (name) => !seen.has(name) && seen.add(name);
  for (const line of read('mixlab.toml').split('\n')) {
    const [, table] = line.match(TABLE) ?? [];
    const [, key, value] = line.match(KEY) ?? [];
    if (table && table !== OF_PLUGIN && isNew(table)) {
      heading = table;
      // What stands over a table is about it.
      written.push(`## ${plain(table)}\n`, prose(comment));
      comment = [];
    } else if (table) {
      // A table that comes again says nothing new.
      heading = null;
      comment = [];
    } else if (key && heading && isNew(`${heading} ${key}`)) {
      if (heading === 'Beside the tables') written.push(`## ${heading}\n`);
      written.push(`### ${key}\n`, prose(comment), code('toml', `${key} = ${value}`));
      comment = [];
    } else if (/^#( |$)/.test(line)) comment.push(line.slice(2));
    else if (line === '' && comment.length > 0 && seen.size === 0) {
      written.push(prose(comment));
      comment = [];
    } else if (line === '' && comment.length > 0) comment.push('');
  }
  return written.join('\n');
}
