// Tokens of a provider of OpenID whose keys the server fetches.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, connect, FOR_NOW } from '../support/client.mjs';
import { AUDIENCE, startProvider } from '../support/oidc.mjs';
import { editConfig, reload } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

/** A server that trusts a provider. */
const trusting = (t, { issuer }, keys = '') =>
  startServer(t, {
    config: `[auth]
anonymous = false
[[auth.issuers]]
issuer = "${issuer}"
audiences = ["${AUDIENCE}"]
algorithms = ["RS256"]
jwks_url = "${issuer}/jwks"
${keys}`,
    plugins: ['echo'],
  });

/** What a client hears that comes with a token. */
const told = (t, server, token) => connect(t, server, { token }).then(() => 'it is in', ({ message }) => message);

/** The token as if it had been signed with another key. */
function withKey(token, kid) {
  const [head, ...rest] = token.split('.');
  const header = { ...JSON.parse(Buffer.from(head, 'base64url')), kid };
  return [Buffer.from(JSON.stringify(header)).toString('base64url'), ...rest].join('.');
}

const isReady = async (server) => (await server.api('GET', '/readyz', undefined, null)).status === 200;

test('a client comes in with a token of the provider', async (t) => {
  const provider = await startProvider(t);
  const server = await trusting(t, provider);
  const token = await provider.token();
  const socket = await connect(t, server, { token });
  assert.equal(await ask(socket, 'echo', 'x'), 'x');
  const answer = await ask(socket, 'authenticate', token);
  assert.equal(answer.user.id, 'reporter');
  const [head, claims] = token.split('.');
  assert.equal(await told(t, server, `${head}.${claims}.${'A'.repeat(342)}`), 'unauthorized');
  assert.equal(provider.fetches, 1, 'what is here is not fetched');
  const { code, stdout } = await server.mixlab('token', 'check', token);
  assert.equal(code, 0);
  assert.equal(JSON.parse(stdout).id, 'reporter');
});

test('a provider that changes its keys under load is followed, and nobody notices', async (t) => {
  const provider = await startProvider(t);
  const server = await trusting(t, provider);
  const before = await provider.token();
  const socket = await connect(t, server, { token: before });
  provider.rotate();
  const tokens = await Promise.all(Array.from({ length: 20 }, () => provider.token()));
  const answers = await Promise.all([
    ...tokens.map((token) => told(t, server, token)),
    ask(socket, 'authenticate', tokens[0]).then(({ success }) => success),
  ]);
  assert.deepEqual(new Set(answers), new Set(['it is in', true]));
  assert.ok(provider.fetches <= 3, `${provider.fetches} times`);
  assert.equal(await told(t, server, before), 'unauthorized', 'the former key is gone');
  assert.equal(await ask(socket, 'echo', 'x'), 'x');
});

test('a provider whose keys have no names is followed, too', async (t) => {
  const provider = await startProvider(t);
  provider.isNameless = true;
  const server = await trusting(t, provider);
  const before = await provider.token();
  for (let times = 0; times < 2; times++) assert.equal(await told(t, server, before), 'it is in');
  assert.equal(provider.fetches, 1, 'what is here is not fetched');
  provider.rotate();
  const token = await provider.token();
  const forged = `${token.split('.').slice(0, 2).join('.')}.${'A'.repeat(342)}`;
  const answers = await Promise.all([token, token, forged].map((one) => told(t, server, one)));
  assert.deepEqual(answers, ['it is in', 'it is in', 'unauthorized']);
  assert.equal(await told(t, server, before), 'unauthorized', 'the former key is gone');
  assert.ok(provider.fetches <= 3, `${provider.fetches} times`);
});

test('under load nobody is lost while the provider is down and comes back with other keys', async (t) => {
  const provider = await startProvider(t);
  const server = await trusting(t, provider);
  const token = await provider.token();
  const sockets = await Promise.all(Array.from({ length: 50 }, () => connect(t, server, { token })));
  let isOver = false;
  const loads = sockets.map(async (socket) => {
    for (let number = 0; !isOver; number++) assert.equal(await ask(socket, 'echo', number), number);
  });
  provider.isDown = true;
  const many = (one) => Promise.all(Array.from({ length: 30 }, () => told(t, server, one)));
  assert.deepEqual(new Set(await many(token)), new Set(['it is in']));
  assert.deepEqual(new Set(await many(withKey(token, 'new'))), new Set([FOR_NOW]));
  provider.isDown = false;
  provider.rotate();
  const fresh = await provider.token();
  // Whoever asks for a key that is not known is told to come again until the keys have been fetched.
  await until(async () => (await told(t, server, fresh)) === 'it is in', { timeout: 60_000 });
  assert.deepEqual(new Set(await many(fresh)), new Set(['it is in']));
  assert.deepEqual(new Set(await many(token)), new Set(['unauthorized']), 'the former key is gone');
  isOver = true;
  await Promise.all(loads);
  assert.ok(sockets.every((socket) => socket.connected), 'who is in stays');
});

test('keys that nobody has do not have the provider asked again and again', async (t) => {
  const provider = await startProvider(t);
  const server = await trusting(t, provider);
  const token = await provider.token();
  await connect(t, server, { token });
  const before = performance.now();
  const answers = Array.from({ length: 200 }, (_, number) => told(t, server, withKey(token, `none-${number}`)));
  await connect(t, server, { token });
  assert.deepEqual(new Set(await Promise.all(answers)), new Set(['unauthorized']));
  const seconds = (performance.now() - before) / 1000;
  assert.ok(provider.fetches <= 2 + seconds / 5, `${provider.fetches} times in ${seconds} s`);
});

test('while the provider is down the last keys are taken, and others may be good', async (t) => {
  const provider = await startProvider(t);
  const server = await trusting(t, provider);
  const token = await provider.token();
  await connect(t, server, { token });
  provider.isDown = true;
  assert.equal(await told(t, server, withKey(token, 'new')), FOR_NOW, 'nobody knows yet');
  const socket = await connect(t, server, { token });
  const { error } = await ask(socket, 'authenticate', withKey(token, 'new'));
  assert.deepEqual([error.code, error.temporary], ['issuer_unavailable', true]);
  const failure = /ERROR.*the keys of an issuer cannot be fetched: it answers with status 503/g;
  await server.waitForLog(failure);
  assert.equal(server.log().match(failure).length, 1, 'told once');
  const { body } = await server.api('GET', '/metrics', undefined, null);
  assert.match(body, new RegExp(`mixlab_key_fetches_total{issuer="${provider.issuer}",result="ok"} 1\n`));
  assert.match(body, new RegExp(`mixlab_key_fetches_total{issuer="${provider.issuer}",result="failed"} [1-9]`));
  assert.ok(await isReady(server), 'it serves all others');
  provider.isDown = false;
  await server.waitForLog(/INFO.*the keys of an issuer are here[^]*INFO.*the keys of an issuer are here/, { timeout: 60_000 });
  assert.equal(await told(t, server, withKey(token, 'new')), 'unauthorized');
});

test('a server is not ready before it had the keys once, and keeps them over a reload', async (t) => {
  const provider = await startProvider(t);
  provider.isDown = true;
  const server = await trusting(t, provider);
  await until(async () => (await server.api('GET', '/readyz', undefined, null)).body.includes(`the keys of ${provider.issuer}`));
  assert.equal(await isReady(server), false);
  provider.isDown = false;
  const token = await provider.token();
  await until(() => isReady(server), { timeout: 60_000 });
  assert.equal(await told(t, server, token), 'it is in');
  const { fetches } = provider;
  provider.isDown = true;
  editConfig(server, (text) => text.replace('anonymous = false', 'anonymous = true'));
  await reload(server);
  assert.equal(await told(t, server, token), 'it is in');
  assert.equal(provider.fetches, fetches);
});

test('where keys come from is checked', async (t) => {
  const server = await startServer(t);
  const check = async (keys, algorithms = ['RS256']) => {
    editConfig(server, () => `[[auth.issuers]]
issuer = "x"
audiences = ["y"]
algorithms = ${JSON.stringify(algorithms)}
${keys}`);
    return server.mixlab('check');
  };
  const url = 'jwks_url = "https://login.example.com/jwks"';
  assert.equal((await check(url)).code, 0);
  assert.equal((await check('jwks_url = "http://localhost:1/jwks"')).code, 0);
  for (const [keys, reason, algorithms] of [
    ['', /either in jwks_file or at jwks_url/],
    [`${url}\njwks_file = "keys.json"`, /either in jwks_file or at jwks_url/],
    ['jwks_url = "http://login.example.com/jwks"', /jwks_url: .*https, unless it is on this machine/],
    ['jwks_url = "login.example.com"', /jwks_url: /],
    [`${url}\njwks_outage = "1s"`, /jwks_outage: from 5m to 30d/],
    [url, /algorithms: a key that is published is no secret/, ['HS256']],
  ]) {
    const { code, stderr } = await check(keys, algorithms);
    assert.equal(code, 2, keys);
    assert.match(stderr.replace(/\n\s*/g, ' '), reason);
  }
});
