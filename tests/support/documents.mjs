// The documents of the repository, and the code in them.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './server.mjs';

/** What is in the repository's folder and not in the repository, and the record of what was. */
const OTHERS = new Set(['node_modules', 'target', '.git', 'CHANGELOG.md']);

function find(folder) {
  return readdirSync(join(ROOT, folder), { withFileTypes: true })
    .filter(({ name }) => !OTHERS.has(name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return find(path);
      return path.endsWith('.md') ? [path] : [];
    });
}

/** All documents, by their paths in the repository. */
export const DOCUMENTS = find('');

const BLOCK = /^```(\S*)\n(.*?)^```$/gms;

/** The blocks of code of a document, in order: `{ language, text, where, before }`, `before` is the line over it. */
export function blocks(document) {
  const text = readFileSync(join(ROOT, document), 'utf8');
  const line = (at) => text.slice(0, at).split('\n').length;
  return [...text.matchAll(BLOCK)].map(({ 1: language, 2: code, index }) => ({
    language,
    text: code,
    where: `${document}:${line(index)}`,
    before: text.slice(0, index).trimEnd().split('\n').at(-1),
  }));
}

/** A call of the program or of its load tool, by its name or through cargo. */
const COMMAND = /(?:^|(?<!-p)\s)(?:cargo run(?: --release)?(?: -p (?<load>mixlab-load))? --|(?:\S+\/)?(?<name>mixlab(?:-load)?)) (?<args>[^#]*)/;

/** The commands of a document, in its shell and between backticks, as `{ program, args }`. */
export function commands(document) {
  const shell = blocks(document).filter(({ language }) => ['sh', 'bash'].includes(language));
  const lines = shell.flatMap(({ text }) => text.replaceAll('\\\n', '').split('\n'));
  const prose = readFileSync(join(ROOT, document), 'utf8').replaceAll(BLOCK, '');
  const quoted = [...prose.matchAll(/`([^`]+)`/g)].map(([, text]) => text);
  const found = [...lines, ...quoted].map((line) => line.match(COMMAND)?.groups).filter(Boolean);
  return found.map(({ load, name, args }) => ({
    program: load ?? name ?? 'mixlab',
    // What may be left out is in brackets.
    args: args.replaceAll(/[[\]]/g, '').trim().split(/\s+/),
  }));
}
