// Certificates that are made when a test wants them, by OpenSSL.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });

/** What `openssl` says with this on its standard input; its output of both kinds, whether it fails or not. */
export function opensslSays(args, input = '') {
  try {
    return execFileSync('bash', ['-c', 'timeout 20 openssl "$@" 2>&1', 'bash', ...args], { input, encoding: 'utf8' });
  } catch (error) {
    return error.stdout;
  }
}

/** An authority of its own, in a folder that is removed when `t` ends. */
export function makeAuthority(t) {
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-authority-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const at = (name) => join(folder, name);
  openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', at('ca.key'));
  const subject = ['-subj', '/CN=Authority of a test'];
  openssl('req', '-x509', '-new', '-key', at('ca.key'), '-out', at('ca.pem'), '-days', '3650', ...subject);
  let count = 0;
  return {
    /** The file of its own certificate. */
    path: at('ca.pem'),
    /** Its own certificate. */
    ca: readFileSync(at('ca.pem'), 'utf8'),
    /**
     * A certificate for these names and addresses: `{ certificate, key, serial, paths }`, both as PEM and as
     * files. `from` and `until` are days from now, `kind` is the key's: `ec` or `rsa`.
     */
    issue({ names = ['localhost'], addresses = ['127.0.0.1'], from = -1, until = 90, kind = 'ec' } = {}) {
      const own = (ending) => at(`${count}.${ending}`);
      count += 1;
      const algorithm = kind === 'ec' ? ['-name', 'prime256v1', '-genkey', '-noout'] : [];
      if (kind === 'ec') openssl('ecparam', ...algorithm, '-out', own('key'));
      else openssl('genrsa', '-out', own('key'), '2048');
      openssl('req', '-new', '-key', own('key'), '-out', own('csr'), '-subj', '/CN=mixlab');
      const hosts = [...names.map((name) => `DNS:${name}`), ...addresses.map((address) => `IP:${address}`)];
      writeFileSync(
        own('cnf'),
        [
          '[ca]', 'default_ca = own', '[own]', `new_certs_dir = ${folder}`, `database = ${own('index')}`,
          `serial = ${own('serial')}`, 'default_md = sha256', 'policy = any', 'x509_extensions = server',
          '[any]', 'commonName = supplied', '[server]', 'basicConstraints = CA:FALSE',
          ...(hosts.length > 0 ? [`subjectAltName = ${hosts.join()}`] : []),
        ].join('\n'),
      );
      writeFileSync(own('index'), '');
      const serial = (0x1000 + count).toString(16).toUpperCase();
      writeFileSync(own('serial'), `${serial}\n`);
      const authority = ['-cert', at('ca.pem'), '-keyfile', at('ca.key')];
      const validity = ['-startdate', day(from), '-enddate', day(until)];
      openssl('ca', '-batch', '-notext', '-config', own('cnf'), ...authority, ...validity, '-in', own('csr'), '-out', own('pem'));
      const certificate = readFileSync(own('pem'), 'utf8') + readFileSync(at('ca.pem'), 'utf8');
      writeFileSync(own('chain.pem'), certificate);
      return {
        certificate,
        key: readFileSync(own('key'), 'utf8'),
        serial,
        paths: { certificate: own('chain.pem'), key: own('key') },
      };
    },
  };
}

/** So many days from now, as OpenSSL wants it. */
const day = (days) => new Date(Date.now() + days * 86_400_000).toISOString().replace(/[-:T]|\.\d+/g, '');
