// Texts of others as parts of a page: set as text, never as HTML.

/** An element with these properties. Children may be texts. */
export function create(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Characters that do more than stand there: they turn the direction of what is read, or are not seen at all. */
const ACTING = /[\p{Cc}\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** A text of others in which nothing but what is seen does anything. */
export function shown(text) {
  const escaped = (character) =>
    character === '\n' || character === '\t' ? character : `\\u{${character.codePointAt(0).toString(16)}}`;
  return String(text).replace(ACTING, escaped);
}
