// JSON Web Tokens made by hand, so that bad ones can be made too.
import { createHmac } from 'node:crypto';

/** The JWT_SECRET of every test server. */
export const SECRET = 'test-secret';

const HASHES = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' };

/** Seconds since 1970, `offset` seconds from now. */
export const seconds = (offset = 0) => Math.floor(Date.now() / 1000) + offset;

/** Exactly these claims under exactly this header; `alg` decides the signature. */
export function sign(claims, { secret = SECRET, alg = 'HS256', header = { alg, typ: 'JWT' } } = {}) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const signed = `${encode(header)}.${encode(claims)}`;
  const hash = HASHES[alg];
  const signature = hash ? createHmac(hash, secret).update(signed).digest('base64url') : '';
  return `${signed}.${signature}`;
}

/** A good token with these claims, for an hour: `token({ sub: '1', role: 'admin' })`. */
export const token = (claims) => sign({ exp: seconds(3600), ...claims });
