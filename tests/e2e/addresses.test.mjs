// Who counts as one client: addresses as sockets and proxies write them.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { startServer } from '../support/server.mjs';

const CONFIG = '[budget]\ncpu = "500ms"\n';
const PROXIED = `${CONFIG}[limits]\ntrusted_proxies = ["127.0.0.1", "::ffff:10.0.0.0/104"]\n`;
const LIMITED = {
  wasm: 'contracts',
  config: { events: [{ name: 'limited', limits: [{ scope: 'ip', rate: '1/1000h' }] }], answer: 'ok' },
};

const from = (t, server, forwarded) => connect(t, server, { extraHeaders: { 'x-forwarded-for': forwarded } });

/** Whether an event that an address may send once is answered. */
async function mayStill(t, server, forwarded) {
  const answer = await ask(await from(t, server, forwarded), 'limited');
  if (answer === 'ok') return true;
  assert.equal(answer.error.code, 'rate_limited');
  return false;
}

const server = await startServer(
  { after },
  { config: PROXIED, plugins: [LIMITED, { wasm: 'places', grants: ['namespace:/places'], config: { name: 'p', namespaces: ['/places'] } }] },
);

test('limits by address count however it is written, and an IPv6 network as one', async (t) => {
  for (const [forwarded, first] of [
    ['203.0.113.7:51234', true],
    ['203.0.113.7', false],
    ['::ffff:203.0.113.7', false],
    ['"203.0.113.7:99"', false],
    ['203.0.113.8:51234', true],
    ['[2001:db8::1]:443', true],
    ['2001:db8::ffff:2', false],
    ['[2001:db8:0:0:1::]', false],
    ['2001:db8:0:1::1', true],
    ['198.51.100.1, 203.0.113.7:1, 10.1.2.3:8080', false],
    ['198.51.100.1', true],
  ]) {
    assert.equal(await mayStill(t, server, forwarded), first, forwarded);
  }
});

test('plugins are told the address alone, an IPv4 one as such', async (t) => {
  for (const [forwarded, told] of [
    ['192.0.2.1:51234', '192.0.2.1'],
    ['::ffff:192.0.2.2', '192.0.2.2'],
    ['[2001:DB8::5]:443', '2001:db8::5'],
  ]) {
    await connect(t, server, { namespace: '/places', extraHeaders: { 'x-forwarded-for': forwarded } });
    await server.waitForLog(new RegExp(`somebody comes to /places from ${told} plugin`));
  }
});

test('an address of a trusted proxy that cannot be read is warned of, once', async (t) => {
  for (const forwarded of ['unknown', '192.0.2.77, 203.0.113']) await from(t, server, forwarded);
  await server.waitForLog(/WARN .*X-Forwarded-For of a trusted proxy cannot be read.*"unknown" proxy=127\.0\.0\.1/);
  await from(t, server, '_hidden');
  assert.equal(server.log().match(/cannot be read/g).length, 1);
});

test('an IPv4 client of an IPv6 socket is an IPv4 client, and may be a proxy', async (t) => {
  const both = await startServer(t, { listen: '[::]:0', config: PROXIED, plugins: [LIMITED] });
  const mapped = { ...both, url: `http://127.0.0.1:${both.port}` };
  assert.equal(await mayStill(t, mapped, '192.0.2.1'), true);
  assert.equal(await mayStill(t, mapped, '192.0.2.2'), true);
  assert.equal(await mayStill(t, mapped, '192.0.2.1:80'), false);
});
