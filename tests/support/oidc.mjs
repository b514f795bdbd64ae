// A provider of OpenID, as others run one: node-oidc-provider, with keys that can be changed.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import * as http from 'node:http';
import Provider from 'oidc-provider';

export const AUDIENCE = 'urn:chat';
const CLIENT = { client_id: 'reporter', client_secret: 'a secret of the client' };

/** A key that it signs by, as a JWK. */
function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function providerOf(issuer, key) {
  const provider = new Provider(issuer, {
    clients: [{ ...CLIENT, grant_types: ['client_credentials'], redirect_uris: [], response_types: [] }],
    jwks: { keys: [key] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({ scope: '', audience: AUDIENCE, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } }),
      },
    },
  });
  return provider.callback();
}

/**
 * A provider on this machine, closed when `t` ends. `fetches` counts how often its keys were asked for;
 * while it `isDown`, it answers nothing but errors; while it `isNameless`, its keys are published without their ids.
 */
export async function startProvider(t) {
  const provider = { fetches: 0, isDown: false, isNameless: false };
  let answer, nameless;
  const server = http.createServer((request, response) => {
    if (request.url === '/jwks') provider.fetches += 1;
    if (provider.isDown) return response.writeHead(503).end();
    if (provider.isNameless && request.url === '/jwks') return response.end(JSON.stringify({ keys: [nameless] }));
    return answer(request, response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const issuer = `http://127.0.0.1:${server.address().port}`;
  /** From now on it signs by another key, and knows the former one no more. */
  const rotate = () => {
    const key = newKey();
    const { kty, n, e } = key;
    nameless = { kty, n, e };
    answer = providerOf(issuer, key);
  };
  rotate();
  /** A token as a client of it gets one. */
  const token = async () => {
    const { client_id: id, client_secret: secret } = CLIENT;
    const body = new URLSearchParams({ grant_type: 'client_credentials', resource: AUDIENCE });
    const encoded = [id, secret].map(encodeURIComponent).join(':');
    const authorization = `Basic ${Buffer.from(encoded).toString('base64')}`;
    const answered = await fetch(`${issuer}/token`, { method: 'POST', body, headers: { authorization } });
    const { access_token: given, ...rest } = await answered.json();
    if (!given) throw new Error(JSON.stringify(rest));
    return given;
  };
  return Object.assign(provider, { issuer, rotate, token });
}
