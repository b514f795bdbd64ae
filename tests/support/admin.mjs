// Socket.IO's admin page: the account that test servers have for it, pages as bare clients, and the official page itself.
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { open } from './client.mjs';
import { within } from './wait.mjs';

export const USERNAME = 'admin';
export const PASSWORD = 'correct horse';

/** Its hash, with the least cost that there is, so that tests do not wait for it. */
export const HASH = '$2a$04$xtN7vuAfZyORb23iHIIbjuO7GXWoM.GtMYgXfSW/wLRvrkt8zc6xS';

export const CREDENTIALS = { username: USERNAME, password: PASSWORD };

/** The section `[admin]`, with more keys. */
export const adminConfig = (more = {}) => {
  const keys = Object.entries({ username: USERNAME, password: HASH, ...more });
  return ['[admin]', ...keys.map(([key, value]) => `${key} = ${JSON.stringify(value)}`), ''].join('\n');
};

/** A page as a bare client: a socket that is about to connect. */
export const openAdmin = (t, server, auth = CREDENTIALS, options = {}) => open(t, server, { namespace: '/admin', auth, ...options });

/** Resolves to `connected`, or to the message of the refusal. */
export const outcome = (socket) =>
  within(
    new Promise((resolve) => {
      socket.once('connect', () => resolve('connected'));
      socket.once('connect_error', (error) => resolve(error.message));
    }),
    'the answer to the page',
  );

const DIST = join(fileURLToPath(new URL('../node_modules/@socket.io/admin-ui', import.meta.url)), 'ui/dist');
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.png': 'image/png', '.svg': 'image/svg+xml' };

/** The official page, served from a site of its own until `t` ends; resolves to its origin. */
export async function serveOfficialPage(t) {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, 'http://localhost').pathname);
    const file = join(DIST, path === '/' ? 'index.html' : path);
    try {
      response.setHeader('content-type', TYPES[extname(file)] ?? 'application/octet-stream').end(await readFile(file));
    } catch {
      response.writeHead(404).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}
