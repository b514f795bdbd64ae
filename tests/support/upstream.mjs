// A server that plugins send requests to.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

/** How long it rests between two bytes. */
const DRIP_MS = 20;

const read = async (request) => {
  let body = '';
  for await (const piece of request) body += piece;
  return body;
};

/** What is answered, by the first segment of the path; the second is passed on. */
const ANSWERS = {
  /** What was sent, as JSON. */
  async echo(request, response) {
    const { method, url, rawHeaders } = request;
    const body = await read(request);
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ method, url, headers: rawHeaders, body }));
  },
  status: (request, response, status) => response.writeHead(Number(status), { 'x-status': status }).end('no more'),
  /** And ends the connection. */
  last: (request, response) => response.writeHead(204, { connection: 'close' }).end(),
  redirect: (request, response, to) => response.writeHead(302, { location: decodeURIComponent(to) }).end(),
  /** So many bytes, and it says how many. */
  bytes: (request, response, count) => response.writeHead(200, { 'content-length': count }).end('x'.repeat(Number(count))),
  /** Bytes without end, as fast as they are taken. */
  endless(request, response) {
    const piece = Buffer.alloc(64 << 10, 'x');
    const write = () => {
      while (!response.destroyed && response.write(piece));
    };
    response.on('drain', write);
    write();
  },
  /** A byte now and then, without end. */
  drip(request, response) {
    const timer = setInterval(() => response.write('x'), DRIP_MS);
    response.on('close', () => clearInterval(timer));
  },
  /** Fewer bytes than it says. */
  broken(request, response) {
    response.writeHead(200, { 'content-length': 100 });
    response.write('x', () => response.destroy());
  },
  /** What nobody else may know. */
  cookie: (request, response) => response.writeHead(200, { 'set-cookie': 'session=s3cret-c00kie' }).end(),
  /** Nothing, until a test says so. */
  held: () => {},
};

/**
 * A server on this machine, closed when `t` ends. `tls` makes it one of https, with the certificate of
 * [`authority`]. `requests` are those that came, with their `response` and whether it has `ended`;
 * `connections` how many TCP connections there were.
 */
export async function startUpstream(t, { host = '127.0.0.1', tls } = {}) {
  const upstream = { requests: [], connections: 0 };
  const answer = (request, response) => {
    const [, name, parameter] = request.url.split(/[/?]/);
    const { method, url, headers, rawHeaders } = request;
    const record = { method, url, headers, rawHeaders, response, ended: false };
    response.on('close', () => (record.ended = true));
    upstream.requests.push(record);
    if (!ANSWERS[name]) return response.writeHead(204).end();
    return ANSWERS[name](request, response, parameter);
  };
  const server = tls ? https.createServer(tls, answer) : http.createServer(answer);
  server.on('connection', () => (upstream.connections += 1));
  await new Promise((resolve) => server.listen(0, host, resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address();
  const named = host.includes(':') ? `[${host}]` : host;
  return Object.assign(upstream, { port, url: `${tls ? 'https' : 'http'}://${named}:${port}` });
}

/** A certificate authority of one's own, its `file`, and a certificate by it for `names`; gone when `t` ends. */
export function authority(t, names) {
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-test-ca-'));
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));
  const openssl = (...args) => execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl('req', '-x509', ...key, '-days', '2', '-subj', `/CN=${basename(folder)}`, '-keyout', 'ca.key', '-out', 'ca.pem');
  openssl('req', ...key, '-subj', '/CN=server', '-keyout', 'server.key', '-out', 'server.csr');
  writeFileSync(join(folder, 'names'), `subjectAltName = ${names.join(',')}\n`);
  const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', 'names'];
  openssl('x509', '-req', '-in', 'server.csr', ...by, '-out', 'server.pem');
  const tls = { key: readFileSync(join(folder, 'server.key')), cert: readFileSync(join(folder, 'server.pem')) };
  return { file: join(folder, 'ca.pem'), tls };
}
