// Whom this process trusts: authorities that tests make.
import { createRequire } from 'node:module';

// What all clients of Node's call, those by `fetch`, too.
const tls = createRequire(import.meta.url)('node:tls');

/** Has every TLS client of this process trust this authority, beside those that it trusts already. */
export function trust(certificate) {
  const create = tls.createSecureContext;
  tls.createSecureContext = (options) => {
    const made = create(options);
    made.context.addCACert(certificate);
    return made;
  };
}
