// How the site looks. It is copied beside `site.json`, in which is what the documents say.
import { readFileSync } from 'node:fs';
import { defineConfig } from 'vitepress';
import { anchor } from '../../../site/links.mjs';

const { sidebar, descriptions, repository } = JSON.parse(readFileSync(new URL('site.json', import.meta.url), 'utf8'));

export default defineConfig({
  title: 'MixLab',
  lang: 'en',
  markdown: {
    // What looks like HTML in a document is text.
    html: false,
    anchor: { slugify: anchor },
  },
  transformPageData: (page) => ({ description: descriptions[page.relativePath] }),
  themeConfig: {
    sidebar,
    search: { provider: 'local' },
    socialLinks: [{ icon: 'github', link: repository }],
    outline: [2, 3],
  },
  // Nothing is asked of the internet.
  head: [['link', { rel: 'icon', href: 'data:,' }]],
});
