// HTTPS and WSS: who is shown which certificate, and that all else is as it is without.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { renameSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { makeAuthority, opensslSays } from '../support/certificates.mjs';
import { TRANSPORTS, ask, askAll, connect, connectFrom, disconnected, nextEvent } from '../support/client.mjs';
import { rawSocket } from '../support/raw.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { head, tcp } from '../support/tcp.mjs';
import { trust } from '../support/trust.mjs';
import { until, within } from '../support/wait.mjs';

const authority = makeAuthority({ after });
trust(authority.ca);

/** `[tls]` with the files of [`filesOf`], and more lines. */
const section = (...lines) => ['[tls]', 'certificate = "server.pem"', 'key = "server.key"', ...lines, ''].join('\n');

const filesOf = ({ certificate, key }, name = 'server') => ({ [`${name}.pem`]: certificate, [`${name}.key`]: key });

const issued = authority.issue({ names: ['localhost', 'app.example.com'] });
const server = await startServer(
  { after },
  { config: section(), files: filesOf(issued), plugins: [CONFORMANCE] },
);

/** What `openssl s_client` says of a server. */
const shown = ({ address }, ...args) =>
  opensslSays(['s_client', '-connect', address, '-CAfile', authority.path, ...args]);

/** The serial number of the certificate that a client is shown which asks for a name. */
async function serialOf(server, servername) {
  const socket = connectTls({ port: server.port, host: '127.0.0.1', servername, checkServerIdentity: () => undefined });
  await within(once(socket, 'secureConnect'), 'the handshake');
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

/** The value of a series at /metrics. */
async function metric(server, series) {
  const { body } = await server.api('GET', '/metrics');
  return Number(body.split('\n').find((line) => line.startsWith(`${series} `))?.split(' ')[1] ?? 0);
}

const outcome = (word) => `mixlab_tls_handshakes_total{outcome="${word}"}`;

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
    const answers = await Promise.all(Array.from({ length: 500 }, (_, i) => ask(socket, 'message-with-ack', i)));
    assert.deepEqual(answers, answers.map((_, i) => i));
  });
}

test('backends call over HTTPS', async () => {
  const { status, body } = await server.api('GET', '/api/v1/clients/count');
  assert.deepEqual([status, typeof body.count], [200, 'number']);
});

for (const [version, flag] of [['TLSv1.2', '-tls1_2'], ['TLSv1.3', '-tls1_3']]) {
  test(`OpenSSL agrees on ${version} and trusts the certificate`, () => {
    const said = shown(server, flag, '-verify_return_error', '-servername', 'localhost', '-alpn', 'h2,http/1.1');
    assert.match(said, new RegExp(`Protocol *: ${version}|New, ${version}`));
    assert.match(said, /Verify return code: 0 \(ok\)/);
    assert.match(said, /ALPN protocol: http\/1\.1/);
  });
}
