// Tokens of issuers with keys of their own, by algorithms and what may be wrong, through a real handshake.
import assert from 'node:assert/strict';
import { constants, createHmac, generateKeyPairSync, randomBytes, sign as signed } from 'node:crypto';
import { after, test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { editConfig, reload, replaceFile } from '../support/plugins.mjs';
import { startServer } from '../support/server.mjs';
import { seconds, sign, token } from '../support/tokens.mjs';

const AUDIENCE = 'chat';
const issuerOf = (algorithm) => `https://${algorithm.toLowerCase()}.example`;

/** What each kind of key is: how it is made, and what is sent with a signature of it. */
const rsa = (bits = 2048) => generateKeyPairSync('rsa', { modulusLength: bits });
const curve = (namedCurve) => generateKeyPairSync('ec', { namedCurve });
const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
const raw = { dsaEncoding: 'ieee-p1363' };
const asymmetric = (hash, make, options) => ({
  make,
  jwk: ({ publicKey }) => publicKey.export({ format: 'jwk' }),
  sign: ({ privateKey }, data) => signed(hash, data, { key: privateKey, ...options }),
});
const hmac = (hash) => ({
  make: () => randomBytes(64),
  jwk: (secret) => ({ kty: 'oct', k: secret.toString('base64url') }),
  sign: (secret, data) => createHmac(hash, secret).update(data).digest(),
});
const ALGORITHMS = {
  RS256: asymmetric('sha256', rsa),
  RS384: asymmetric('sha384', rsa),
  RS512: asymmetric('sha512', rsa),
  PS256: asymmetric('sha256', rsa, pss),
  PS384: asymmetric('sha384', rsa, pss),
  PS512: asymmetric('sha512', rsa, pss),
  ES256: asymmetric('sha256', () => curve('P-256'), raw),
  ES384: asymmetric('sha384', () => curve('P-384'), raw),
  EdDSA: asymmetric(null, () => generateKeyPairSync('ed25519')),
  HS256: hmac('sha256'),
  HS384: hmac('sha384'),
  HS512: hmac('sha512'),
};
const NAMES = Object.keys(ALGORITHMS);
const keys = Object.fromEntries(NAMES.map((name) => [name, ALGORITHMS[name].make()]));
const jwkOf = (name, kid = 'current') => ({ ...ALGORITHMS[name].jwk(keys[name]), kid, use: 'sig' });
const setOf = (...jwks) => JSON.stringify({ keys: jwks });

const encode = (part) => Buffer.from(typeof part === 'string' ? part : JSON.stringify(part)).toString('base64url');

/** A token of an algorithm; all of it may be another. */
function tokenOf(name, { claims, header, key = keys[name], by = name } = {}) {
  const own = { sub: '7', iss: issuerOf(name), aud: AUDIENCE, exp: seconds(3600), ...claims };
  const head = encode({ alg: name, kid: 'current', typ: 'JWT', ...header });
  const data = `${head}.${encode(own)}`;
  return `${data}.${ALGORITHMS[by].sign(key, Buffer.from(data)).toString('base64url')}`;
}

/** What else a key of this kind could sign by: it is not what its issuer signs by. */
const OTHERS = {
  RS256: 'PS256', RS384: 'RS256', RS512: 'RS384', PS256: 'RS256', PS384: 'PS256', PS512: 'RS512',
  HS256: 'HS512', HS384: 'HS256', HS512: 'HS256',
};

/** What is wrong with a token, by what makes it. All of them are refused with `unauthorized` unless they say else. */
const FAULTS = {
  'another key': (name) => tokenOf(name, { key: ALGORITHMS[name].make() }),
  'a key that is not known': (name) => tokenOf(name, { header: { kid: 'former' } }),
  'the id of a key that is no text': (name) => tokenOf(name, { header: { kid: 7 } }),
  'another algorithm of the same key': (name) => OTHERS[name] && tokenOf(name, { header: { alg: OTHERS[name] }, by: OTHERS[name] }),
  'its header names another algorithm': (name) => tokenOf(name, { header: { alg: NAMES[(NAMES.indexOf(name) + 1) % NAMES.length] } }),
  'no algorithm': (name) => `${tokenOf(name, { header: { alg: 'none' } }).split('.').slice(0, 2).join('.')}.`,
  'its public key as a secret': (name) => {
    const { publicKey } = keys[name];
    if (!publicKey) return undefined;
    const secret = publicKey.export({ format: 'pem', type: 'spki' });
    return tokenOf(name, { header: { alg: 'HS256' }, by: 'HS256', key: secret });
  },
  'the secret of the server': (name) => sign({ sub: '7', iss: issuerOf(name), aud: AUDIENCE, exp: seconds(60) }),
  'claims of another token': (name) => {
    const [head, , signature] = tokenOf(name).split('.');
    return [head, encode({ sub: '8', iss: issuerOf(name), aud: AUDIENCE, exp: seconds(60) }), signature].join('.');
  },
  'half a signature': (name) => tokenOf(name).slice(0, -40),
  'no signature': (name) => `${tokenOf(name).split('.').slice(0, 2).join('.')}.`,
  'another audience': (name) => tokenOf(name, { claims: { aud: ['shop'] } }),
  'no audience': (name) => tokenOf(name, { claims: { aud: undefined } }),
  'another issuer': (name) => tokenOf(name, { claims: { iss: 'https://nobody.example' } }),
  'the issuer of another key': (name) => tokenOf(name, { claims: { iss: issuerOf(NAMES[(NAMES.indexOf(name) + 1) % NAMES.length]) } }),
  'not good yet': (name) => tokenOf(name, { claims: { nbf: seconds(600) } }),
  'good for ever': (name) => tokenOf(name, { claims: { exp: undefined } }),
  'an extension that is not known': (name) => tokenOf(name, { header: { crit: ['b64'], b64: false } }),
  expired: (name) => [tokenOf(name, { claims: { exp: seconds(-60) } }), 'token_expired'],
};

const table = (name) =>
  `{ issuer = "${issuerOf(name)}", audiences = ["${AUDIENCE}", "other"], algorithms = ["${name}"], jwks_file = "${name}.json", id_prefix = "${name}:" }`;
const server = await startServer(
  { after },
  {
    config: `[auth]\nanonymous = false\nissuers = [${NAMES.map(table).join(', ')}]`,
    files: Object.fromEntries(NAMES.map((name) => [`${name}.json`, setOf(jwkOf(name), jwkOf(name, 'next'))])),
    plugins: ['echo'],
  },
);

for (const name of NAMES) {
  test(`tokens by ${name} are good, and none that is wrong in any way`, async (t) => {
    const good = await connect(t, server, { token: tokenOf(name) });
    assert.equal(await ask(good, 'echo', 'x'), 'x');
    const unnamed = tokenOf(name, { header: { kid: undefined }, claims: { aud: ['shop', 'other'] } });
    await connect(t, server, { token: unnamed });
    for (const [fault, make] of Object.entries(FAULTS)) {
      const [wrong, code = 'unauthorized'] = [make(name)].flat();
      if (wrong === undefined) continue;
      const told = await connect(t, server, { token: wrong }).then(() => 'it is in', ({ message }) => message);
      assert.equal(told, code, fault);
    }
  });
}

test('tokens of the server itself are good beside those of issuers', async (t) => {
  await connect(t, server, { token: token({ sub: '7' }) });
});

test('the user of an issuer is nobody else, whatever their ids are', async (t) => {
  const [own, rs, es] = await Promise.all(
    [token({ sub: '7' }), tokenOf('RS256'), tokenOf('ES256')].map((token) => connect(t, server, { token })),
  );
  const got = [];
  for (const [index, socket] of [own, rs, es].entries()) socket.on('told', () => got.push(index));
  const sent = await server.api('POST', '/api/v1/emit', { users: ['RS256:7'], event: 'told', arguments: [1] });
  if (sent.status !== 200) assert.fail(JSON.stringify(sent.body));
  await ask(own, 'echo', 1);
  await ask(es, 'echo', 1);
  await ask(rs, 'echo', 1);
  assert.deepEqual(got, [1]);
});

test('keys that nobody should trust are passed over, and a file without any others is refused', async (t) => {
  const weak = { ...rsa(1024).publicKey.export({ format: 'jwk' }), kid: 'weak' };
  const short = { kty: 'oct', k: randomBytes(16).toString('base64url'), kid: 'short' };
  const encrypts = { ...jwkOf('RS256'), use: 'enc' };
  const named = { ...jwkOf('RS256'), alg: 'RS512' };
  const odd = [{ kty: 'AKP', kid: 'new' }, 'nothing', { kty: 'RSA' }];
  for (const [content, reason] of [
    [setOf(weak, encrypts, named, jwkOf('ES256'), ...odd), /none of its keys is for RS256/],
    [setOf(), /none of its keys is for RS256/],
    ['{}', /it is no JWK Set/],
    ['no JSON', /it is no JWK Set/],
    [setOf(...Array(101).fill(jwkOf('RS256'))), /more than 100 keys/],
  ]) {
    replaceFile(`${server.folder}/RS256.json`, content);
    const { code, stderr } = await server.mixlab('check');
    assert.notEqual(code, 0);
    assert.match(stderr, reason);
    assert.match(stderr, /auth\.issuers\[0\]\.jwks_file/);
  }
  replaceFile(`${server.folder}/RS256.json`, setOf(jwkOf('RS256')));
  replaceFile(`${server.folder}/HS256.json`, setOf(short));
  assert.match((await server.mixlab('check')).stderr, /none of its keys is for HS256/);
  replaceFile(`${server.folder}/HS256.json`, setOf(jwkOf('HS256')));

  // What a bad file would change stays as it was; a good one holds.
  await reload(server);
  await connect(t, server, { token: tokenOf('RS256') });
  keys.RS256 = rsa();
  replaceFile(`${server.folder}/RS256.json`, setOf(...odd, jwkOf('RS256')));
  await reload(server);
  await connect(t, server, { token: tokenOf('RS256') });
});

test('a former secret is good until its time, and no longer', async (t) => {
  const [former, over] = [randomBytes(32).toString('hex'), randomBytes(32).toString('hex')];
  const list = (...entries) => `former_secrets = [${entries.join(', ')}]`;
  const config = `[auth]\nanonymous = false\n${list('{ env = "FORMER" }', '{ env = "OVER", until = "2020-01-01T00:00:00Z" }')}`;
  const rotated = await startServer(t, { config, env: { FORMER: former, OVER: over }, plugins: ['echo'] });
  const signedWith = (secret) => sign({ sub: '1', exp: seconds(60) }, { secret });
  await connect(t, rotated, { token: token({ sub: '1' }) });
  await connect(t, rotated, { token: signedWith(former) });
  for (const secret of [over, 'nobody']) {
    await assert.rejects(connect(t, rotated, { token: signedWith(secret) }), { message: 'unauthorized' });
  }
  editConfig(rotated, (toml) => toml.replace(/former_secrets = .*/, 'former_secrets = []'));
  await reload(rotated);
  await assert.rejects(connect(t, rotated, { token: signedWith(former) }), { message: 'unauthorized' });
});
