// Secrets and keys that are likely a mistake: who starts the server is told, and nobody sees them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, nextEvent } from '../support/client.mjs';
import { editConfig } from '../support/plugins.mjs';
import { startRedis } from '../support/redis.mjs';
import { startServer } from '../support/server.mjs';
import { SECRET, seconds, sign } from '../support/tokens.mjs';

const DOUBTED = {
  'is too short': ['x'.repeat(31), /WARN .*JWT_SECRET has less than 32 bytes/],
  'is a line break': ['\n', /WARN .*JWT_SECRET has less than 32 bytes/],
  'ends with a line break': [`${SECRET}\n`, /WARN .*JWT_SECRET begins or ends with white space/],
  'stands in quotes': [`"${SECRET}"`, /WARN .*JWT_SECRET stands in quotes/],
};

for (const [name, [secret, warning]] of Object.entries(DOUBTED)) {
  test(`on this machine a secret that ${name} is good, and warned of`, async (t) => {
    const server = await startServer(t, { env: { JWT_SECRET: secret } });
    const socket = await connect(t, server, { token: sign({ sub: 1, exp: seconds(60) }, { secret }) });
    await nextEvent(socket, 'authenticated');
    await server.waitForLog(warning);
    assert.ok(!server.log().includes(secret.trim() || 'eyJ'), 'and is not shown');
    const { code, stderr } = await server.mixlab('check');
    assert.equal(code, 0);
    assert.match(stderr, /^warning: JWT_SECRET /);
  });
}

test('no secret is doubted that is as it should be', async (t) => {
  const server = await startServer(t);
  assert.doesNotMatch(server.log(), /WARN .*(secret|JWT_SECRET|API key)/i);
});

test('a short key of a backend is warned of by its name, at the start and when it comes', async (t) => {
  const key = (name) => `[[api.keys]]\nname = "${name}"\nkey = "k3y-${name}"\nrights = []\n`;
  const server = await startServer(t, { config: key('first') });
  await server.waitForLog(/WARN .*the API key "first" has less than 16 characters/);
  editConfig(server, (text) => text + key('second'));
  await server.waitForLog(/WARN .*the API key "second" has less than 16 characters/);
  assert.equal(server.log().match(/the API key "first" has less/g).length, 1);
  assert.ok(!server.log().includes('k3y'));
});

test("neither Redis' password nor the cluster's secret is shown, whatever goes wrong", async (t) => {
  const redis = await startRedis(t);
  const [password, wrong, secret] = ['passw0rd-of-redis', 'passw0rd-that-is-none', `s3cret-of-the-cluster-${SECRET}`];
  await redis.send('ACL', 'SETUSER', 'mixlab', 'on', `>${password}`, '~*', '&*', '+@all');
  const config = (password, scheme = 'redis') =>
    `[log]\nlevel = "trace"\n[cluster]\nurl = "${scheme}://mixlab:${password}@${redis.url.split('//')[1]}"\n`;
  const start = (password) => startServer(t, { config: config(password), env: { MIXLAB_CLUSTER__SECRET: secret } });
  const isShown = (text) => [password, wrong, secret].filter((hidden) => text.includes(hidden));
  const refused = await start(wrong);
  await refused.waitForLog(/Password authentication failed/);
  const { body } = await refused.api('GET', '/readyz');
  assert.deepEqual(isShown(refused.log() + JSON.stringify(body)), []);

  const server = await start(password);
  await redis.stop();
  await server.waitForLog(/the connection to Redis is lost/);
  // What is wrong is said without what is secret in it.
  editConfig(server, () => config(password, 'http'));
  await server.waitForLog(/not the URL of a Redis/);
  const checked = await server.mixlab('check');
  assert.notEqual(checked.code, 0);
  assert.deepEqual(isShown(server.log() + checked.stdout + checked.stderr), []);
});
