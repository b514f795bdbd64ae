// Static files: what of a folder is served, however a path is written.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { startServer } from '../support/server.mjs';

const site = mkdtempSync(join(tmpdir(), 'mixlab-files-'));
after(() => rmSync(site, { recursive: true, force: true, maxRetries: 10 }));

const FILES = {
  'public/page.html': 'page',
  'public/a b.txt': 'space',
  'public/ü.txt': 'umlaut',
  'public/50%25.txt': 'percent',
  'public/sub/deep.txt': 'deep',
  'public/sub/index.html': 'index',
  'public/.env': 'private',
  'public/.well/known.txt': 'private',
  'public/.well-known/acme-challenge/token': 'challenge',
  'public/.well-known/.env': 'private',
  'public/sub/.well-known/known.txt': 'private',
  'public/sub/.env': 'private',
  'public/node_modules/ws/package.json': 'private',
  'public/sub/node_modules/x.js': 'private',
  'outside/secret.txt': 'private',
  'outside/index.html': 'private',
};
for (const [file, content] of Object.entries(FILES)) {
  mkdirSync(join(site, file, '..'), { recursive: true });
  writeFileSync(join(site, file), content);
}
const LINKS = {
  'link-inside.html': 'page.html',
  'link-folder': 'sub',
  'link-out.txt': '../outside/secret.txt',
  'link-out': '../outside',
  'link-absolute.txt': join(site, 'outside/secret.txt'),
  'link-env.txt': '.env',
  'link-packages': 'node_modules',
  'link-back.html': '../public/page.html',
  'link-loop': 'link-loop',
  'link-nowhere': 'nowhere',
};
for (const [link, target] of Object.entries(LINKS)) symlinkSync(target, join(site, 'public', link));
mkdirSync(join(site, 'public/linked-index'));
symlinkSync('../../outside/secret.txt', join(site, 'public/linked-index/index.html'));
execFileSync('mkfifo', [join(site, 'public/pipe.txt')]);

const server = await startServer({ after }, { config: `[web]\nroot = ${JSON.stringify(join(site, 'public'))}\n` });

/** Unlike fetch, this sends the path as it is. */
async function send(method, path) {
  const call = request({ port: server.port, host: '127.0.0.1', method, path });
  call.end();
  const [answer] = await once(call, 'response');
  let body = '';
  for await (const part of answer.setEncoding('utf8')) body += part;
  return { status: answer.statusCode, headers: answer.headers, body };
}

const SERVED = {
  '/.well-known/acme-challenge/token': 'challenge',
  '/page.html': 'page',
  '/page%2ehtml': 'page',
  '/%70age.html': 'page',
  '/page.html?x=/../.env': 'page',
  '/a%20b.txt': 'space',
  '/%C3%BC.txt': 'umlaut',
  '/50%2525.txt': 'percent',
  '/sub/deep.txt': 'deep',
  '/./sub/./deep.txt': 'deep',
  '/sub/': 'index',
  '/link-inside.html': 'page',
  '/link-back.html': 'page',
  '/link-folder/deep.txt': 'deep',
};

for (const [path, content] of Object.entries(SERVED)) {
  test(`${path} is served`, async () => {
    const { status, body } = await send('GET', path);
    assert.deepEqual([status, body], [200, content]);
  });
}

const NOT_SERVED = [
  '/.env',
  '/%2eenv',
  '/%2Eenv',
  '/sub/.env',
  '/sub/%2eenv',
  '/.well/known.txt',
  '/%2ewell/known.txt',
  '/.well-known/.env',
  '/sub/.well-known/known.txt',
  '/node_modules/ws/package.json',
  '/node%5fmodules/ws/package.json',
  '/node%5Fmodules/ws/package.json',
  '/%6eode_modules/ws/package.json',
  '/node_modules',
  '/node%5Fmodules/',
  '/sub/node%5Fmodules/x.js',
  '/./node_modules/ws/package.json',
  '/link-out.txt',
  '/link-out/secret.txt',
  '/link-out',
  '/link-out/',
  '/link-absolute.txt',
  '/link-env.txt',
  '/link-packages/ws/package.json',
  '/linked-index/',
  '/link-loop',
  '/link-nowhere',
  '/pipe.txt',
  '/../outside/secret.txt',
  '/sub/../page.html',
  '/sub/../../outside/secret.txt',
  '/%2e%2e/outside/secret.txt',
  '/%2e./outside/secret.txt',
  '/..%2foutside%2fsecret.txt',
  '/..%5coutside%5csecret.txt',
  '/..\\outside\\secret.txt',
  '/sub%2fdeep.txt',
  '/sub%2Fdeep.txt',
  '/sub%5cdeep.txt',
  '/sub\\deep.txt',
  '/%2fetc/passwd',
  '//etc/passwd',
  '//page.html',
  '//sub',
  '/sub//deep.txt',
  '/page.html%00',
  '/page.html%00.txt',
  '/%0apage.html',
  '/page.html%7f',
  '/%252e%252e/outside/secret.txt',
  '/node%255fmodules/ws/package.json',
  '/%c0%ae%c0%ae/outside/secret.txt',
  '/%ff',
  '/%',
  '/%2',
  '/%zz',
  '/page.html/',
  '/PAGE.HTML',
  `/${'x'.repeat(300)}`,
  `/${'x/'.repeat(3000)}`,
];

for (const path of NOT_SERVED) {
  test(`there is nothing at ${path}`, async () => {
    for (const method of ['GET', 'HEAD']) {
      const { status, body, headers } = await send(method, path);
      assert.equal(status, 404, method);
      assert.equal(headers.location, undefined);
      assert.ok(!body.includes('private'), body);
      if (method === 'GET') assert.equal(JSON.parse(body).error.code, 'not_found');
    }
  });
}

for (const path of ['/page.html', '/nothing', '/socket.io/socket.io.js']) {
  test(`${path} cannot be written to, and that is said in the one error shape`, async () => {
    for (const method of ['POST', 'PUT', 'DELETE']) {
      const { status, body, headers } = await send(method, path);
      assert.equal(status, 405, method);
      assert.equal(JSON.parse(body).error.code, 'method_not_allowed');
      assert.match(headers.allow, /GET/);
    }
  });
}

// Other paths are compared as they are: who keeps them from the public in a proxy can rely on that.
for (const path of ['/%6Detrics', '//metrics', '/metrics/', '/METRICS', '/./metrics', '/x/../metrics', '/%68ealthz']) {
  test(`${path} is not another way to write the path`, async () => {
    assert.equal((await send('GET', path)).status, 404);
  });
}
