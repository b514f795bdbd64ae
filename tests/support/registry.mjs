// A real OCI registry of a test's own, Debian's docker-registry.
import { spawn } from 'node:child_process';
import { createHash, sign } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './tcp.mjs';
import { until } from './wait.mjs';

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** Who may read a registry with `secured`. */
export const READER = 'reader:pa55-of-the-reader';
const HTPASSWD = 'reader:$2b$04$ViVGuohkZX22QVmJ2/dUN.VH.U.9GVV0b1Pu1181loswLnt/kDbzW\n';

const SIMPLE_SIGNING = 'application/vnd.dev.cosign.simplesigning.v1+json';

export const digestOf = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A registry that listens until `t` ends; `secured` is whether it wants to know who asks. */
export async function startRegistry(t, { secured = false } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'mixlab-registry-'));
  const port = await freePort();
  writeFileSync(join(folder, 'htpasswd'), HTPASSWD);
  const auth = secured ? `auth: { htpasswd: { realm: test, path: ${folder}/htpasswd } }\n` : '';
  const config = `version: 0.1\nlog: { level: error }\nstorage: { filesystem: { rootdirectory: ${folder}/data } }\nhttp: { addr: "127.0.0.1:${port}" }\n${auth}`;
  writeFileSync(join(folder, 'config.yml'), config);
  const child = spawn('docker-registry', ['serve', join(folder, 'config.yml')], { stdio: 'ignore' });
  running.add(child);
  const ended = once(child, 'exit').then(() => running.delete(child));
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  t.after(async () => {
    await stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const url = `http://127.0.0.1:${port}/v2/`;
  const headers = secured ? { authorization: `Basic ${Buffer.from(READER).toString('base64')}` } : {};
  const send = async (path, options) => {
    const response = await fetch(new URL(path, url), { ...options, headers: { ...headers, ...options?.headers } });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response;
  };
  await until(() => send('').then(() => true, () => false), { message: 'the registry answers' });

  async function upload(name, bytes) {
    const begun = await send(`${name}/blobs/uploads/`, { method: 'POST' });
    const place = new URL(begun.headers.get('location'), url);
    place.searchParams.set('digest', digestOf(bytes));
    await send(place, { method: 'PUT', body: bytes, headers: { 'content-type': 'application/octet-stream' } });
    return { digest: digestOf(bytes), size: bytes.length };
  }

  /** Puts a manifest there under a tag, or its digest; resolves to the digest and the layers. */
  async function put(name, layers, tag) {
    const kept = [];
    for (const { mediaType, bytes, annotations } of layers) kept.push({ mediaType, ...(await upload(name, bytes)), annotations });
    const config = { mediaType: 'application/vnd.wasm.config.v0+json', ...(await upload(name, Buffer.from('{}'))) };
    const mediaType = 'application/vnd.oci.image.manifest.v1+json';
    const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers: kept }));
    const digest = digestOf(manifest);
    await send(`${name}/manifests/${tag ?? digest}`, { method: 'PUT', body: manifest, headers: { 'content-type': mediaType } });
    return { digest, layers: kept };
  }

  return {
    address: `127.0.0.1:${port}`,
    stop,
    /** Where a digest is in the folder of the registry, for who tampers with it. */
    blob: (digest) => join(folder, 'data/docker/registry/v2/blobs/sha256', digest.slice(7, 9), digest.slice(7), 'data'),
    /** Puts an artifact there, each of `layers` as `{ mediaType, bytes }`; resolves to how it is referred to, and its layers. */
    async push(name, layers) {
      const { digest, layers: kept } = await put(name, layers);
      return { reference: `oci://127.0.0.1:${port}/${name}@${digest}`, layers: kept };
    },
    /**
     * Puts signatures there, as `cosign sign --key` does: for each private key one of a text about `about`, which is the artifact
     * that they are put beside.
     */
    async sign(reference, keys, { about = reference, type = 'cosign container image signature' } = {}) {
      const [, name, digest] = reference.match(/^oci:\/\/[^/]+\/(.+)@(.+)$/);
      const critical = { identity: { 'docker-reference': name }, image: { 'docker-manifest-digest': about.split('@')[1] }, type };
      const bytes = Buffer.from(JSON.stringify({ critical, optional: null }));
      const layers = keys.map((key) => {
        const signature = sign(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', bytes, key).toString('base64');
        return { mediaType: SIMPLE_SIGNING, bytes, annotations: { 'dev.cosignproject.cosign/signature': signature } };
      });
      await put(name, layers, `${digest.replace(':', '-')}.sig`);
    },
  };
}
