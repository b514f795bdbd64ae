// Links of the documents: in the repository they lead to files, in the site to pages.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join, posix } from 'node:path';

const CODE = /^```[^]*?^```|`[^`\n]+`/gm;
const LINK = /\]\(([^)\s]+)\)/g;

/** What stands for a heading in a link, as GitHub has it. */
export function anchor(heading) {
  const words = heading.replace(/[^\p{L}\p{N}\s_-]/gu, '').trim();
  return words.toLowerCase().replace(/\s/g, '-');
}

/** The anchors of a Markdown text. */
export function anchors(markdown) {
  const prose = markdown.replace(/^```[^]*?^```/gm, '');
  const found = [...prose.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchor(heading));
  // Where a heading comes again, GitHub and VitePress number it.
  return new Set(found.map((name, at) => (found.indexOf(name) < at ? `${name}-${found.slice(0, at).filter((other) => other === name).length}` : name)));
}

/** A text with what `change` makes of the target of each link, code left alone. */
function mapLinks(markdown, change) {
  let end = 0;
  let mapped = '';
  const prose = (text) => text.replace(LINK, (_, target) => `](${change(target)})`);
  for (const { 0: code, index } of markdown.matchAll(CODE)) {
    // A link may have code in its text.
    mapped += prose(markdown.slice(end, index)) + code;
    end = index + code.length;
  }
  return mapped + prose(markdown.slice(end));
}

/**
 * What makes links of a file's text lead to where they should from the site: to other pages, or to the file
 * in `repository` (a URL). A link that leads nowhere is an error.
 *
 * `pages` are those of the site, `root` is the repository's folder, and `read(page)` has a page's text.
 */
export function linker({ pages, root, repository, read }) {
  const bySource = new Map(pages.map((page) => [page.source, page]));
  return (page, markdown) =>
    mapLinks(markdown, (target) => {
      if (/^[a-z]+:/.test(target)) return target;
      const fail = (why) => {
        throw new Error(`${page.source}: the link to ${target} leads nowhere: ${why}`);
      };
      const [path, fragment] = target.split('#');
      const source = path ? posix.join(posix.dirname(page.source), path).replace(/\/$/, '') : page.source;
      if (source.startsWith('..') || !existsSync(join(root, source))) fail('there is no such file');
      const other = bySource.get(source);
      if (fragment !== undefined) {
        const text = other ? read(other) : readFileSync(join(root, source), 'utf8');
        if (!anchors(text).has(fragment)) fail('there is no such heading');
      }
      const suffix = fragment === undefined ? '' : `#${fragment}`;
      if (other) return posix.relative(posix.dirname(page.place), `${other.place}.md`) + suffix;
      const kind = statSync(join(root, source)).isDirectory() ? 'tree' : 'blob';
      return `${repository}/${kind}/main/${source}${suffix}`;
    });
}
