// Whom this process trusts: authorities that tests make.
import { createRequire } from 'node:module';

// What all clients of Node's call, those by `fetch`, too.
const tls = createRequire(import.meta.url)('node:tls');

/** Has every TLS client of this process, and those in Python that it starts, trust this authority. */
export function trust({ ca: certificate, path }) {
  Object.assign(process.env, { SSL_CERT_FILE: path, REQUESTS_CA_BUNDLE: path });
  const create = tls.createSecureContext;
  tls.createSecureContext = (options) => {
    const made = create(options);
    made.context.addCACert(certificate);
    return made;
  };
}
