// The command line, in its own words.
import { code, mixlab } from './repository.mjs';

/** The commands that a help text lists. */
function listed(help) {
  const [, list = ''] = help.match(/^Commands:\n([^]*?)(?:\n\n|$(?![^]))/m) ?? [];
  return [...list.matchAll(/^ {2}(\S+) /gm)].map(([, name]) => name).filter((name) => name !== 'help');
}

function describe(path) {
  const help = mixlab(['help', ...path]);
  const heading = path.length === 0 ? '' : `## mixlab ${path.join(' ')}\n\n`;
  return [`${heading}${code('text', help)}`, ...listed(help).flatMap((name) => describe([...path, name]))];
}

export const commands = () => `What \`mixlab help\` says of each command.\n\n${describe([]).join('\n')}`;
