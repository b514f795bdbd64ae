// JSON Web Tokens made by hand, so that bad ones can be made too.
import { createHmac } from 'node:crypto';

/** The JWT_SECRET of every test server, as long as HS256 wants it. */
export const SECRET = 'test-secret-of-more-than-32-bytes';

const HASHES = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' };

/** Seconds since 1970, `offset` seconds from now. */
export const seconds = (offset = 0) => Math.floor(Date.now() / 1000) + offset;

/** Exactly these claims under exactly this header; `alg` decides the signature. */
export const sign = (claims, options) => signText(JSON.stringify(claims), options);

/** The same with the text of the claims, which need not be JSON. */
export function signText(claims, { secret = SECRET, alg = 'HS256', header = { alg, typ: 'JWT' } } = {}) {
  const encode = (part) => Buffer.from(part).toString('base64url');
  const signed = `${encode(JSON.stringify(header))}.${encode(claims)}`;
  const hash = HASHES[alg];
  const signature = hash ? createHmac(hash, secret).update(signed).digest('base64url') : '';
  return `${signed}.${signature}`;
}

/** A good token with these claims, for an hour: `token({ sub: '1', role: 'admin' })`. */
export const token = (claims) => sign({ exp: seconds(3600), ...claims });
