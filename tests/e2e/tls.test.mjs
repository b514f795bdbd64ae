// HTTPS and WSS: who is shown which certificate, and that all else is as it is without. Tests of the protocol
// run with TLS, too: MIXLAB_TESTS_TLS=1.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { launch, openPage } from '../support/browser.mjs';
import { makeAuthority, opensslSays } from '../support/certificates.mjs';
import { TRANSPORTS, ask, askAll, connect, nextEvent } from '../support/client.mjs';
import { CLOSE, frame, upgrade } from '../support/frames.mjs';
import { editConfig } from '../support/plugins.mjs';
import { pythonClient } from '../support/python.mjs';
import { CONFORMANCE, ROOT, makeFolder, startServer } from '../support/server.mjs';
import { head, tcp } from '../support/tcp.mjs';
import { trust } from '../support/trust.mjs';
import { until, within } from '../support/wait.mjs';

const authority = makeAuthority({ after });
trust(authority);

/** `[tls]` with the files of [`filesOf`], and more lines. */
const section = (...lines) => ['[tls]', 'certificate = "server.pem"', 'key = "server.key"', ...lines, ''].join('\n');

const filesOf = ({ certificate, key }, name = 'server') => ({ [`${name}.pem`]: certificate, [`${name}.key`]: key });

/** Replaces files of a server as a tool does that renews certificates: each by a rename. */
function replace({ folder }, files) {
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    writeFileSync(`${path}.new`, text, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
}

const issued = authority.issue({ names: ['localhost', 'app.example.com'] });
const WEB = `[web]\nroot = ${JSON.stringify(`${ROOT}examples/web`)}\nclient = ${JSON.stringify(`${ROOT}examples/web/node_modules/socket.io-client/dist`)}\n`;
const server = await startServer(
  { after },
  { config: section(), files: filesOf(issued), plugins: [CONFORMANCE] },
);

/** What `openssl s_client` says of a server. */
const shown = ({ address }, args = [], input) =>
  opensslSays(['s_client', '-connect', address, '-CAfile', authority.path, ...args], input);

/** A connection over TLS, closed when `t` ends. Names are not compared. */
async function dialed(t, { port }, options = {}) {
  const socket = connectTls({ port, host: '127.0.0.1', checkServerIdentity: () => undefined, ...options });
  t.after(() => socket.destroy());
  await within(once(socket, 'secureConnect'), 'the handshake');
  // A server that ends may cut it off.
  socket.on('error', () => {});
  return socket;
}

/** The serial number of the certificate that a client is shown which asks for a name. */
async function serialOf(t, server, servername) {
  const socket = await dialed(t, server, { servername });
  return socket.getPeerCertificate().serialNumber;
}

/** The value of a series at /metrics. */
async function metric(server, series) {
  const { body } = await server.api('GET', '/metrics');
  return Number(body.split('\n').find((line) => line.startsWith(`${series} `))?.split(' ')[1] ?? 0);
}

const handshakes = (server, outcome) => metric(server, `mixlab_tls_handshakes_total{outcome="${outcome}"}`);

/** Waits until so many have come to this. One that fails is counted when its client knows already. */
const handshakesAre = (server, outcome, count) =>
  until(async () => (await handshakes(server, outcome)) === count, { message: () => `${count} handshakes with the outcome ${outcome}:\n${server.log()}` });

// Clients

test('it says where it is by HTTPS', () => assert.match(server.url, /^https:\/\/127\.0\.0\.1:\d+$/));

for (const transports of [...TRANSPORTS.map((one) => [one]), ['polling', 'websocket']]) {
  test(`a stock client talks over TLS: ${transports}`, async (t) => {
    const socket = await connect(t, server, { transports });
    await until(() => socket.io.engine.transport.name === transports.at(-1));
    const large = Buffer.alloc(400_000, 7);
    for (const args of [['x'], [1, { a: large }], ['y'.repeat(300_000)]]) {
      assert.deepEqual(await askAll(socket, 'message-with-ack', ...args), args);
      socket.emit('message', ...args);
      assert.deepEqual(await nextEvent(socket, 'message-back'), args);
    }
    // Many at once, in their order.
    const numbers = Array.from({ length: 500 }, (_, i) => i);
    assert.deepEqual(await Promise.all(numbers.map((i) => ask(socket, 'message-with-ack', i))), numbers);
  });

  test(`python-socketio talks over TLS: ${transports}`, async (t) => {
    const client = pythonClient(t, server, transports);
    await client.connect({});
    assert.equal(await client.transport(), transports.at(-1));
  });
}

test('a client that stops reading holds up nobody, and gets all of it when it reads on', async (t) => {
  const slow = await connect(t, server);
  const other = await connect(t, server);
  const text = 'z'.repeat(100_000);
  await ask(slow, 'join', 'slow');
  const { _socket: raw } = slow.io.engine.transport.ws;
  raw.pause();
  const numbers = Array.from({ length: 120 }, (_, i) => i);
  for (const i of numbers) await ask(other, 'tell', 'slow', `${i}${text}`);
  raw.resume();
  for (const i of numbers) assert.equal((await nextEvent(slow, 'told'))[0].slice(0, -text.length), String(i));
});

test('backends call over HTTPS', async () => {
  const { status, body } = await server.api('GET', '/api/v1/clients/count');
  assert.deepEqual([status, typeof body.count], [200, 'number']);
});

test('the command line finds the server and trusts it as this machine, and another by its certificate', async (t) => {
  const found = await server.mixlab('plugin', 'list');
  assert.deepEqual([found.code, /^conformance {2}serving/.test(found.stdout)], [0, true], found.stderr);
  const named = (env) => makeFolder(t, { config: section(), files: filesOf(issued), env });
  const listen = ['--listen', `localhost:${server.port}`];
  const trusting = await named({ SSL_CERT_FILE: authority.path }).mixlab('plugin', 'list', ...listen);
  assert.equal(trusting.code, 0, trusting.stderr);
  const doubting = await named({ SSL_CERT_FILE: '/dev/null' }).mixlab('plugin', 'list', ...listen);
  assert.equal(doubting.code, 1);
  assert.match(doubting.stderr, /UnknownIssuer/);
});

test('a page in a browser connects over TLS', async (t) => {
  const own = await startServer(t, {
    config: section() + WEB,
    files: filesOf(issued),
    env: { JWT_SECRET: undefined, MIXLAB_API_KEY: undefined },
  });
  const printed = await until(() => own.output().match(/^ +page +(https:\S+)$/m));
  const browser = await launch(t);
  const page = await openPage(t, browser, printed[1], { ignoreHTTPSErrors: true });
  const shows = (selector, pattern) =>
    until(async () => pattern.test(await page.locator(selector).innerText()), { timeout: 30_000, message: () => `${selector}; ${page.errors}` });
  await shows('#badge-state', /^Connected$/);
  await shows('#badge-detail', /^websocket · \S+$/);
  assert.equal(await page.evaluate(() => location.protocol), 'https:');
  assert.deepEqual(page.errors, []);
});

// The protocol

for (const [version, flag] of [['TLSv1.2', '-tls1_2'], ['TLSv1.3', '-tls1_3']]) {
  test(`OpenSSL agrees on ${version} and trusts the certificate`, () => {
    const said = shown(server, [flag, '-verify_return_error', '-servername', 'localhost', '-alpn', 'h2,http/1.1']);
    assert.match(said, new RegExp(`New, ${version}`));
    assert.match(said, /Verify return code: 0 \(ok\)/);
    assert.match(said, /ALPN protocol: http\/1\.1/);
  });
}

test('a client that speaks only what nobody should gets no connection', async () => {
  const before = await handshakes(server, 'nothing_in_common');
  // OpenSSL's own level of security would not let it ask.
  const said = shown(server, ['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0']);
  assert.match(said, /alert (protocol version|handshake failure)/);
  assert.match(shown(server, ['-alpn', 'h2']), /alert no application protocol/);
  await handshakesAre(server, 'nothing_in_common', before + 2);
  // Once, however many there are.
  await server.waitForLog(/clients speak no version or cipher of TLS/);
  assert.equal(server.log().match(/clients speak no version or cipher of TLS/g).length, 1);
});

test('clients that refuse the certificate are counted, and the log says so once', async () => {
  const before = await handshakes(server, 'certificate_refused');
  for (let i = 0; i < 3; i++) {
    opensslSays(['s_client', '-connect', server.address, '-verify_return_error', '-no-CAfile', '-no-CApath', '-no-CAstore']);
  }
  await handshakesAre(server, 'certificate_refused', before + 3);
  await server.waitForLog(/WARN .*clients refuse the certificate/);
  assert.equal(server.log().match(/WARN .*clients refuse the certificate/g).length, 1);
});

test('a client can resume what it had', async (t) => {
  const first = await dialed(t, server, { servername: 'localhost', maxVersion: 'TLSv1.2' });
  const session = first.getSession();
  const again = await dialed(t, server, { servername: 'localhost', maxVersion: 'TLSv1.2', session });
  assert.equal(again.isSessionReused(), true);
});

test('each connection ends with a word of TLS, so that nobody takes a part for the whole', () => {
  const said = (...parts) => shown(server, ['-state', '-ign_eof'], Buffer.concat(parts.map((part) => Buffer.from(part))));
  for (const answered of [said(head('GET', '/healthz', 'connection: close')), said(upgrade(server), frame(CLOSE))]) {
    assert.match(answered, /HTTP\/1\.1 (200 OK|101 Switching)/);
    assert.match(answered, /alert read:warning:close notify/);
  }
});

test('who does not speak TLS is told to', async (t) => {
  const before = await handshakes(server, 'not_tls');
  const plain = await tcp(t, { port: server.port }, head('GET', '/'));
  await until(() => plain.received() !== '');
  assert.match(plain.received(), /^HTTP\/1\.1 400 [^]*\r\n\r\nThis port is for HTTPS: use https or wss\.\n$/);
  plain.socket.end();
  await plain.end();
  await handshakesAre(server, 'not_tls', before + 1);
});

test('only the newest version is spoken where that is asked for, from now on', async (t) => {
  const own = await startServer(t, { config: section(), files: filesOf(issued) });
  assert.match(shown(own, ['-tls1_2']), /New, TLSv1\.2/);
  editConfig(own, (text) => text.replace('[tls]', '[tls]\nmin_version = "1.3"'));
  await own.waitForLog(/new connections are shown the new certificates/);
  assert.match(shown(own, ['-tls1_2']), /alert protocol version/);
  assert.match(shown(own, ['-tls1_3']), /New, TLSv1\.3/);
});

// Names

test('each name has its certificate, and all others the first', async (t) => {
  const [own, wild, exact] = [['localhost'], ['*.example.org', 'example.org'], ['www.example.org']].map((names) => authority.issue({ names }));
  const rsa = authority.issue({ names: ['localhost'], kind: 'rsa' });
  const tables = ['wild', 'exact', 'rsa'].map((name) => `[[tls.certificates]]\ncertificate = "${name}.pem"\nkey = "${name}.key"\n`);
  const files = { ...filesOf(own), ...filesOf(wild, 'wild'), ...filesOf(exact, 'exact'), ...filesOf(rsa, 'rsa') };
  const several = await startServer(t, { config: section() + tables.join(''), files });
  for (const [name, { serial }] of [
    ['localhost', own],
    [undefined, own],
    ['example.com', own],
    ['a.b.example.org', own],
    ['example.org', wild],
    ['chat.example.org', wild],
    ['CHAT.EXAMPLE.ORG', wild],
    ['www.example.org', exact],
  ]) {
    assert.equal(await serialOf(t, several, name), serial, name);
  }
  const signed = (algorithm) => shown(several, ['-servername', 'localhost', '-tls1_3', '-sigalgs', algorithm]);
  assert.match(signed('rsa_pss_rsae_sha256'), /Peer signature type: RSA-PSS/);
  assert.match(signed('ecdsa_secp256r1_sha256'), /Peer signature type: ECDSA/);
  assert.ok((await metric(several, 'mixlab_tls_certificate_expiry_seconds{certificate="*.example.org"}')) * 1000 > Date.now());
});

// Certificates that change

test('certificates are replaced under load: nobody is dropped, and who comes later is shown the new one', async (t) => {
  const own = await startServer(t, { config: section(), files: filesOf(issued), plugins: [CONFORMANCE] });
  const sockets = await Promise.all(
    Array.from({ length: 50 }, (_, i) => connect(t, own, { transports: [TRANSPORTS[i % 5 === 0 ? 1 : 0]] })),
  );
  let goesOn = true;
  const talks = sockets.map(async (socket) => {
    let count = 0;
    while (goesOn) assert.equal(await ask(socket, 'message-with-ack', ++count), count);
    return count;
  });
  for (let i = 0; i < 3; i++) {
    const next = authority.issue();
    replace(own, filesOf(next));
    await until(async () => (await serialOf(t, own)) === next.serial, { message: () => own.log() });
  }
  goesOn = false;
  const counts = await Promise.all(talks);
  assert.ok(Math.min(...counts) > 0);
  assert.deepEqual(sockets.map(({ connected, endReason }) => [connected, endReason]), sockets.map(() => [true, undefined]));
  assert.ok((await metric(own, 'mixlab_reloads_total{result="ok",what="[tls]"}')) >= 3);
});

test('certificates that a link leads to are replaced by another link, and more are added', async (t) => {
  const [first, second, third] = [issued, authority.issue(), authority.issue({ names: ['new.example.com'] })];
  const own = await startServer(t, {
    // As certbot and Kubernetes have them.
    config: '[tls]\ncertificate = "live/server.pem"\nkey = "live/server.key"\n',
    files: { 'one/server.pem': first.certificate, 'one/server.key': first.key, 'two/server.pem': second.certificate, 'two/server.key': second.key },
    links: { live: 'one' },
  });
  assert.equal(await serialOf(t, own), first.serial);
  symlinkSync('two', join(own.folder, 'next'));
  renameSync(join(own.folder, 'next'), join(own.folder, 'live'));
  await until(async () => (await serialOf(t, own)) === second.serial, { message: () => own.log() });
  replace(own, filesOf(third, 'third'));
  editConfig(own, (text) => `${text}\n[[tls.certificates]]\ncertificate = "third.pem"\nkey = "third.key"\n`);
  await until(async () => (await serialOf(t, own, 'new.example.com')) === third.serial, { message: () => own.log() });
  assert.equal(await serialOf(t, own), second.serial);
});

test('files that do not fit are kept out, and said, until they do', async (t) => {
  const own = await startServer(t, { config: section(), files: filesOf(issued) });
  const other = authority.issue();
  const list = async () => JSON.parse((await own.mixlab('plugin', 'list', '--format', 'json')).stdout).certificate_error;
  for (const [files, expected] of [
    [{ 'server.key': other.key }, /server\.key: the key is not that of the first certificate in \S+server\.pem/],
    [{ 'server.pem': issued.certificate.slice(0, 300), 'server.key': issued.key }, /server\.pem: its end is missing: it is written in part/],
    [{ 'server.pem': '' }, /server\.pem: it holds no certificate/],
    [{ 'server.pem': issued.key }, /server\.pem: it holds no certificate/],
    [{ 'server.pem': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' }, /server\.pem: it is no certificate/],
    [{ 'server.pem': issued.certificate, 'server.key': '' }, /server\.key: it holds no private key/],
  ]) {
    replace(own, files);
    await until(async () => expected.test(await list()), { message: () => `${expected}\n${own.log()}` });
    await own.waitForLog(new RegExp(`ERROR .*the former certificates stay in force: \\S*${expected.source}`));
    assert.equal(await serialOf(t, own), issued.serial);
    assert.equal((await fetch(`${own.url}/readyz`)).status, 200);
  }
  rmSync(join(own.folder, 'server.pem'));
  await until(async () => /server\.pem: No such file/.test(await list()));
  replace(own, filesOf(other));
  await until(async () => (await serialOf(t, own)) === other.serial, { message: () => own.log() });
  assert.equal(await list(), null);
});

test('a server that has no good certificate does not start, and says why', async (t) => {
  for (const [files, expected] of [
    [{ 'server.pem': issued.certificate }, /error: \[tls\] \S+server\.key: No such file/],
    [{ ...filesOf(issued), 'server.key': authority.issue().key }, /error: \[tls\] \S+server\.key: the key is not that of/],
  ]) {
    const { code, stderr } = await makeFolder(t, { config: section(), files }).mixlab('up', '--listen', '127.0.0.1:0');
    assert.equal(code, 1);
    assert.match(stderr, expected);
  }
});

test('check says what is wrong with certificates and keys', async (t) => {
  const encrypted = '-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n';
  for (const [what, files, code, expected] of [
    ['good', filesOf(issued), 0, /mixlab\.toml is good/],
    ['no key', { 'server.pem': issued.certificate }, 1, /error: \[tls\] \S+server\.key: No such file/],
    ['another key', { ...filesOf(issued), 'server.key': authority.issue().key }, 1, /error: \[tls\] \S+server\.key: the key is not that/],
    ['a password', { ...filesOf(issued), 'server.key': encrypted }, 1, /server\.key: the key has a password/],
    ['expired', filesOf(authority.issue({ from: -10, until: -1 })), 1, /error: \S+server\.pem: the certificate expired at \d{4}-\S+: clients refuse it/],
    ['to come', filesOf(authority.issue({ from: 1 })), 1, /error: \S+server\.pem: the certificate is good from \d{4}-\S+ on, and not yet/],
    ['for nobody', filesOf(authority.issue({ names: [], addresses: [] })), 1, /error: \S+server\.pem: the certificate names no host/],
    ['soon', filesOf(authority.issue({ from: -89, until: 5 })), 0, /warning: \S+server\.pem: the certificate expires at \d{4}-\S+, and has not been renewed/],
  ]) {
    const home = makeFolder(t, { config: section(), files });
    const said = await home.mixlab('check');
    assert.equal(said.code, code, `${what}: ${said.stderr}`);
    assert.match(said.stdout + said.stderr, expected, what);
  }
  const open = makeFolder(t, { config: section(), files: filesOf(issued) });
  chmodSync(join(open.folder, 'server.key'), 0o644);
  const { code, stderr } = await open.mixlab('check');
  assert.equal(code, 0);
  assert.match(stderr, /warning: \S+server\.key: other users of this machine may read or change the key \(mode 644\)/);
  const { stdout } = await open.mixlab('check', '--format', 'json');
  assert.equal(JSON.parse(stdout).warnings.length, 1);
});

// Bounds

test('a client that does not finish its handshake takes one of its places, until its time is over', async (t) => {
  const own = await startServer(t, {
    config: `${section('handshake_timeout = "5s"')}[socket]\nmax_connections_per_address = 6\n`,
    files: filesOf(issued),
  });
  // One does not begin, one begins and stops, one has sent half of its first message.
  const texts = ['', '\x16\x03\x01', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'];
  const unfinished = [];
  while (!/alert internal error/.test(shown(own))) {
    assert.ok(unfinished.length < 20, 'there is a bound');
    const { socket, end } = await tcp(t, { port: own.port });
    socket.write(Buffer.from(texts[unfinished.length % texts.length], 'latin1'));
    unfinished.push(end());
  }
  assert.ok(unfinished.length >= texts.length);
  await Promise.all(unfinished);
  assert.match(shown(own), /New, TLSv1\.3/);
  await handshakesAre(own, 'timeout', unfinished.length);
  await own.waitForLog(/max_connections_per_address=6/);
});

// From HTTP

/** What a request without TLS is answered with. */
async function plainly(port, path, headers, method = 'GET') {
  const sent = request({ port, host: '127.0.0.1', path, method, headers, agent: false }).end();
  const [response] = await within(once(sent, 'response'), 'an answer');
  response.resume();
  return { status: response.statusCode, location: response.headers.location, hsts: response.headers['strict-transport-security'] };
}

test('HTTP is sent to HTTPS, where a certificate is for the host, and nowhere else', async (t) => {
  const hosts = authority.issue({ names: ['localhost', '*.example.org'], addresses: ['127.0.0.1', '::1'] });
  const free = await startServer(t, {});
  const { port } = free;
  await free.stop();
  const own = await startServer(t, {
    config: section(`redirect_from = "127.0.0.1:${port}"`, 'hsts = "180days"'),
    files: filesOf(hosts),
  });
  const at = (host, path = '/') => `https://${host}:${own.port}${path}`;
  for (const [host, path, status, location] of [
    ['localhost', '/', 308, at('localhost')],
    [`localhost:${port}`, '/a%20b?c=d&e', 308, at('localhost', '/a%20b?c=d&e')],
    ['127.0.0.1', '/', 308, at('127.0.0.1')],
    [`[::1]:${port}`, '/', 308, at('[::1]')],
    ['chat.example.org', '//evil.example/x', 308, at('chat.example.org', '//evil.example/x')],
    ['example.org', '/', 421, undefined],
    ['evil.example', '/', 421, undefined],
    ['localhost.evil.example', '/', 421, undefined],
    ['10.0.0.1', '/', 421, undefined],
    ['me@localhost', '/', 400, undefined],
    ['localhost/evil', '/', 400, undefined],
  ]) {
    const { status: was, location: to, hsts } = await plainly(port, path, { host });
    assert.deepEqual([was, to, hsts], [status, location, undefined], host);
  }
  assert.equal((await plainly(port, '/api/v1/emit', { host: 'localhost' }, 'POST')).status, 308);
  const withKey = { host: 'localhost', authorization: 'Bearer key' };
  assert.equal((await plainly(port, '/api/v1/emit', withKey, 'POST')).status, 403);
  const { headers } = await own.api('GET', '/healthz');
  assert.equal(headers.get('strict-transport-security'), 'max-age=15552000');
  assert.equal((await server.api('GET', '/healthz')).headers.get('strict-transport-security'), null);
});

test('who comes by HTTP takes one of the places of all', async (t) => {
  const free = await startServer(t, {});
  await free.stop();
  const own = await startServer(t, {
    config: `${section(`redirect_from = "127.0.0.1:${free.port}"`)}[socket]\nmax_connections_per_address = 6\n`,
    files: filesOf(issued),
  });
  for (let silent = 0; !/alert internal error/.test(shown(own)); silent++) {
    assert.ok(silent < 20, 'there is a bound');
    await tcp(t, { port: free.port });
  }
});

test('the port in the place is another where clients see another', async (t) => {
  const free = await startServer(t, {});
  await free.stop();
  await startServer(t, {
    config: section(`redirect_from = "127.0.0.1:${free.port}"`, 'redirect_port = 443'),
    files: filesOf(issued),
  });
  assert.equal((await plainly(free.port, '/', { host: 'app.example.com' })).location, 'https://app.example.com/');
});
