// Components from an OCI registry: by digest, within their bound, and with credentials that nobody sees.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect } from '../support/client.mjs';
import { editConfig, notReady, plugin, ready, reload } from '../support/plugins.mjs';
import { digestOf, READER, startRegistry } from '../support/registry.mjs';
import { makeFolder, startServer, wasm } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const ECHO = readFileSync(wasm('echo'));
const COMPONENT = { mediaType: 'application/wasm', bytes: ECHO };

test('a component is pulled by its digest, and a server that waits for its file serves it', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('plugins/echo', [COMPONENT]);
  const server = await startServer(t, { config: '[[plugins]]\nname = "echo"\npath = "pulled/echo.wasm"\n' });
  const { code, stdout, stderr } = await server.mixlab('plugin', 'pull', reference, 'pulled/echo.wasm');
  assert.equal(code, 0, stderr);
  assert.equal(stdout, `wrote pulled/echo.wasm: ${ECHO.length} bytes\n`);
  assert.ok(readFileSync(join(server.folder, 'pulled/echo.wasm')).equals(ECHO));
  const client = await connect(t, server);
  await until(async () => (await ask(client, 'echo', 1).catch(() => {})) === 1);
});

test('what has no digest, or another one, is refused, and the file that was there stays', async (t) => {
  const registry = await startRegistry(t);
  const { reference, layers } = await registry.push('echo', [COMPONENT]);
  const home = makeFolder(t, { files: { 'echo.wasm': 'former' } });
  const pull = (from, ...more) => home.mixlab('plugin', 'pull', from, 'echo.wasm', ...more);
  const assertRefused = async (from, said, expected = 1) => {
    const { code, stderr } = await pull(from);
    assert.match(stderr, said);
    assert.equal(code, expected, stderr);
    assert.equal(readFileSync(join(home.folder, 'echo.wasm'), 'utf8'), 'former');
    assert.deepEqual(readdirSync(home.folder).filter((name) => name.endsWith('.part')), []);
  };
  await assertRefused(`oci://${registry.address}/echo:latest`, /may be another content tomorrow/, 2);
  await assertRefused(`oci://${registry.address}/echo@sha256:${'0'.repeat(64)}`, /answered with 404/);
  await assertRefused(reference.replace('echo@', 'other@'), /answered with 404/);
  for (const layers of [[{ ...COMPONENT, mediaType: 'application/x-tar' }], [COMPONENT, COMPONENT], []]) {
    const { reference } = await registry.push('wrong', layers);
    await assertRefused(reference, /of "application\/x-tar" and not of|layers and not one/);
  }
  // Whoever has the registry cannot pass anything else for it.
  const blob = registry.blob(layers[0].digest);
  writeFileSync(blob, Buffer.concat([ECHO.subarray(0, -1), Buffer.from([ECHO.at(-1) ^ 1])]));
  await assertRefused(reference, /another digest/);
  writeFileSync(blob, ECHO);
  const { code, stderr } = await pull(reference);
  assert.equal(code, 0, stderr);
  assert.equal(digestOf(readFileSync(join(home.folder, 'echo.wasm'))), layers[0].digest);
});

test('what somebody has put in the way is neither followed nor overwritten, and nothing half is left', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const home = makeFolder(t, { files: { victim: 'dear' }, links: { 'echo.wasm.part': 'victim' } });
  assert.equal((await home.mixlab('plugin', 'pull', reference, 'echo.wasm')).code, 0);
  assert.equal(readFileSync(join(home.folder, 'victim'), 'utf8'), 'dear');
  mkdirSync(join(home.folder, 'folder.wasm'));
  assert.equal((await home.mixlab('plugin', 'pull', reference, 'folder.wasm')).code, 1);
  assert.deepEqual(readdirSync(home.folder).filter((name) => name.includes('folder.wasm')), ['folder.wasm']);
});

test('what is larger than a component may be is not fetched', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  for (const [bytes, expected] of [[ECHO.length, 0], [ECHO.length - 1, 1]]) {
    const home = makeFolder(t, { config: `[budget]\nfile = ${bytes}\n` });
    const { code, stderr } = await home.mixlab('plugin', 'pull', reference, 'echo.wasm');
    assert.equal(code, expected, stderr);
    assert.equal(existsSync(join(home.folder, 'echo.wasm')), expected === 0);
    if (expected) assert.match(stderr, /more than \[budget\] file/);
  }
});

test('a registry that wants to know who asks is told, and nobody else', async (t) => {
  const registry = await startRegistry(t, { secured: true });
  const { reference } = await registry.push('echo', [COMPONENT]);
  const home = makeFolder(t, { env: { READER, NOBODY: 'reader:pa55-that-is-none' } });
  const pull = (...more) => home.mixlab('plugin', 'pull', reference, 'echo.wasm', ...more);
  for (const more of [[], ['--credentials-env', 'NOBODY'], ['--credentials-env', 'NOT_THERE']]) {
    const { code, stdout, stderr } = await pull(...more);
    assert.equal(code, 1);
    assert.match(stderr, /answered with 401|NOT_THERE is not set/);
    assert.doesNotMatch(stdout + stderr, /pa55/);
  }
  const { code, stdout, stderr } = await pull('--credentials-env', 'READER');
  assert.equal(code, 0, stderr);
  assert.doesNotMatch(stdout + stderr, /pa55/);
});

test('a registry that is not there is said', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  await registry.stop();
  const { code, stderr } = await makeFolder(t).mixlab('plugin', 'pull', reference, 'echo.wasm');
  assert.equal(code, 1);
  assert.match(stderr, /Connection refused/);
});

test('a token is fetched for the credentials, and where blobs are elsewhere nobody is told either', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const listen = async (answer) => {
    const server = createServer(answer).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    t.after(() => server.close());
    return `127.0.0.1:${server.address().port}`;
  };
  const seen = [];
  // As large registries do it: one who has tokens, one who asks for them, and one who has the blobs.
  const blobs = await listen(async ({ url, headers }, response) => {
    seen.push(headers.authorization);
    const found = await fetch(`http://${registry.address}${url}`);
    response.end(Buffer.from(await found.arrayBuffer()));
  });
  const front = await listen(async ({ url, headers }, response) => {
    if (url.startsWith('/token?')) {
      const isReader = headers.authorization === `Basic ${Buffer.from(READER).toString('base64')}`;
      const isMeant = url === '/token?service=front&scope=repository%3Aecho%3Apull';
      return response.writeHead(isReader && isMeant ? 200 : 403).end(JSON.stringify({ token: 't0ken' }));
    }
    if (headers.authorization !== 'Bearer t0ken') {
      const challenge = `Bearer realm="http://${headers.host}/token",service="front",scope="repository:echo:pull"`;
      // Several may stand in one line, and in several.
      return response.writeHead(401, { 'www-authenticate': ['Basic realm="front"', `Digest realm="front", ${challenge}`] }).end();
    }
    if (url.includes('/blobs/')) return response.writeHead(307, { location: `http://${blobs}${url}` }).end();
    const found = await fetch(`http://${registry.address}${url}`, { headers: { accept: headers.accept } });
    response.end(Buffer.from(await found.arrayBuffer()));
  });
  const home = makeFolder(t, { env: { READER } });
  const from = reference.replace(registry.address, front);
  const { code, stdout, stderr } = await home.mixlab('plugin', 'pull', from, 'echo.wasm', '--credentials-env', 'READER');
  assert.equal(code, 0, stderr);
  assert.ok(readFileSync(join(home.folder, 'echo.wasm')).equals(ECHO));
  assert.deepEqual(seen, [undefined]);
  const refused = await home.mixlab('plugin', 'pull', from, 'echo.wasm');
  assert.match(refused.stderr, new RegExp(`/v2/echo/manifests/sha256:.*: no token came from http://${front}/token: it answers with 403`));
  assert.doesNotMatch(stdout + stderr + refused.stderr, /pa55|t0ken/);
});

/** What is pulled is kept over tests otherwise. */
const OWN_CACHE = { MIXLAB_RUNTIME__CACHE: 'own-cache' };
const ofRegistry = (reference, more = '') => `[[plugins]]\nname = "echo"\npath = "${reference}"\n${more}\n`;
const answers = (client) => until(async () => (await ask(client, 'echo', 1).catch(() => {})) === 1);

test('a plugin whose path is a component of a registry is served, and without the registry from then on', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('plugins/echo', [COMPONENT]);
  const options = { config: ofRegistry(reference), env: OWN_CACHE };
  const server = await startServer(t, options);
  const client = await connect(t, server);
  await answers(client);
  const [file] = readdirSync(join(server.folder, 'own-cache/pulled'));
  assert.equal(file, `${reference.split('sha256:')[1]}.wasm`);
  assert.ok(readFileSync(join(server.folder, 'own-cache/pulled', file)).equals(ECHO));
  await registry.stop();
  await reload(server);
  assert.equal((await plugin(server, 'echo')).state, 'serving');
  const { code, stdout, stderr } = await server.mixlab('check');
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^echo 1\.0\.0: /m);
});

test('another digest in mixlab.toml is another version, and one that does not come leaves the old one serving', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const other = await registry.push('other', [{ ...COMPONENT, bytes: readFileSync(wasm('traps')) }]);
  const server = await startServer(t, { config: ofRegistry(reference), env: OWN_CACHE });
  const client = await connect(t, server);
  await answers(client);
  const missing = reference.replace(/sha256:.*/, `sha256:${'0'.repeat(64)}`);
  editConfig(server, (text) => text.replace(reference, missing));
  await until(async () => (await plugin(server, 'echo')).state === 'serving-old');
  assert.match((await plugin(server, 'echo')).refusal, /no such file; http:.* the registry answered with 404/);
  assert.equal(await ask(client, 'echo', 1), 1);
  editConfig(server, (text) => text.replace(missing, other.reference));
  await until(async () => (await ask(client, 'traps:ping')) === 'pong');
  assert.ok(client.connected);
});

test('a plugin waits for a registry that is not there yet, and nobody else waits for it', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const elsewhere = createServer((request, response) => request.socket.destroy()).listen(0, '127.0.0.1');
  await new Promise((resolve) => elsewhere.once('listening', resolve));
  t.after(() => elsewhere.close());
  const { port } = elsewhere.address();
  const from = reference.replace(registry.address, `127.0.0.1:${port}`);
  const server = await startServer(t, { config: ofRegistry(from), env: OWN_CACHE, plugins: [{ wasm: 'traps' }] });
  const { code, stderr } = await server.mixlab('check');
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(`echo: http://127\\.0\\.0\\.1:${port}/v2/echo/manifests/sha256:`));
  await until(async () => (await plugin(server, 'echo')).state === 'refused');
  assert.deepEqual(await notReady(server), ['echo']);
  assert.equal((await plugin(server, 'traps')).state, 'serving');
  elsewhere.removeAllListeners('request');
  elsewhere.on('request', async ({ url, headers }, response) => {
    const found = await fetch(`http://${registry.address}${url}`, { headers: { accept: headers.accept } });
    response.end(Buffer.from(await found.arrayBuffer()));
  });
  await answers(await connect(t, server));
  await ready(server);
});

test('credentials for a registry are those of a variable, and stand nowhere else', async (t) => {
  const registry = await startRegistry(t, { secured: true });
  const { reference } = await registry.push('echo', [COMPONENT]);
  const config = `[log]\nlevel = "trace"\n${ofRegistry(reference, 'credentials_env = "READER"')}`;
  const server = await startServer(t, { config, env: { ...OWN_CACHE, READER } });
  await answers(await connect(t, server));
  const { body } = await server.api('GET', '/api/v1/plugins');
  assert.doesNotMatch(server.log() + JSON.stringify(body), /pa55/);
  const missing = await makeFolder(t, { config, env: OWN_CACHE }).mixlab('check');
  assert.equal(missing.code, 2);
  assert.match(missing.stderr, /plugins\.echo\.credentials_env: the environment variable READER is not set/);
  const useless = await makeFolder(t, { config: '[[plugins]]\nname = "a"\npath = "a.wasm"\ncredentials_env = "A"\n' }).mixlab('check');
  assert.match(useless.stderr, /credentials_env is of no use without a path that begins with oci:/);
  const tagged = await makeFolder(t, { config: ofRegistry('oci://ghcr.io/a/b:1.0') }).mixlab('check');
  assert.match(tagged.stderr, /may be another content tomorrow/);
});

test('the end of a server does not wait for a registry that does not answer', async (t) => {
  const asked = [];
  const silent = createServer((request) => asked.push(request.url)).listen(0, '127.0.0.1');
  await new Promise((resolve) => silent.once('listening', resolve));
  t.after(() => silent.close() && silent.closeAllConnections());
  const config = ofRegistry(`oci://127.0.0.1:${silent.address().port}/echo@sha256:${'0'.repeat(64)}`);
  const server = await startServer(t, { config, env: OWN_CACHE });
  await until(() => asked.length > 0);
  assert.match((await plugin(server, 'echo')).waiting, /it is being pulled/);
  assert.equal(await server.stop(), 0);
});

const KINDS = { 'ECDSA P-256': ['ec', { namedCurve: 'P-256' }], 'Ed25519': ['ed25519'], 'RSA': ['rsa', { modulusLength: 2048 }] };

const makeKey = (kind = 'ECDSA P-256') => {
  const { privateKey, publicKey } = generateKeyPairSync(...KINDS[kind]);
  const pem = publicKey.export({ type: 'spki', format: 'pem' });
  return { privateKey, pem, line: pem.split('\n').slice(1, -2).join('') };
};

for (const kind of Object.keys(KINDS)) {
  test(`a component that must be signed is taken with a signature by that key: ${kind}`, async (t) => {
    const registry = await startRegistry(t);
    const { reference } = await registry.push('plugins/echo', [COMPONENT]);
    const [meant, other] = [makeKey(kind), makeKey(kind)];
    const home = makeFolder(t, { files: { 'meant.pub': meant.pem, 'none.pub': 'none' } });
    const assertRefused = async (said, key = 'meant.pub') => {
      const { code, stderr } = await home.mixlab('plugin', 'pull', reference, 'echo.wasm', '--signed-by', key);
      assert.equal(code, 1);
      assert.match(stderr, said);
      assert.ok(!existsSync(join(home.folder, 'echo.wasm')));
    };
    const digest = reference.split('@')[1].replace(':', '-');
    await assertRefused(/none\.pub: expected a public key, as PEM/, 'none.pub');
    await assertRefused(/absent\.pub: No such file/, 'absent.pub');
    await assertRefused(new RegExp(`nobody has signed it: there is no ${digest}\\.sig`));
    await registry.sign(reference, [other.privateKey]);
    await assertRefused(/no signature of sha256-.* is by the key of signed_by/);
    // What the key has signed is about something else.
    const elsewhere = await registry.push('plugins/echo', [{ ...COMPONENT, bytes: readFileSync(wasm('traps')) }]);
    await registry.sign(reference, [meant.privateKey], { about: elsewhere.reference });
    await assertRefused(/no signature of/);
    await registry.sign(reference, [meant.privateKey], { type: 'something else' });
    await assertRefused(/no signature of/);
    await registry.sign(reference, Array(33).fill(meant.privateKey));
    await assertRefused(/has more than 32 signatures/);
    await registry.sign(reference, [...Array(31).fill(other.privateKey), meant.privateKey]);
    const { code, stderr } = await home.mixlab('plugin', 'pull', reference, 'echo.wasm', '--signed-by', 'meant.pub');
    assert.equal(code, 0, stderr);
    assert.ok(readFileSync(join(home.folder, 'echo.wasm')).equals(ECHO));
  });
}

test('signed_by holds for what was pulled without it, and another key for what was pulled by this one', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const [first, second] = [makeKey(), makeKey()];
  const server = await startServer(t, { config: ofRegistry(reference), env: OWN_CACHE });
  await answers(await connect(t, server));
  const path = `path = "${reference}"\n`;
  const sign = (from, to) => editConfig(server, (text) => text.replace(path + from, path + to));
  const refused = async () => {
    await until(async () => (await plugin(server, 'echo')).state === 'serving-old');
    return (await plugin(server, 'echo')).refusal;
  };
  const byFirst = `signed_by = "${first.line}"\n`;
  const bySecond = `signed_by = '''\n${second.pem}'''\n`;
  sign('', byFirst);
  assert.match(await refused(), /nobody has signed it/);
  await registry.sign(reference, [first.privateKey]);
  await until(async () => (await plugin(server, 'echo')).state === 'serving');
  sign(byFirst, bySecond);
  assert.match(await refused(), /no signature of .* is by the key of signed_by/);
  await registry.sign(reference, [first.privateKey, second.privateKey]);
  await until(async () => (await plugin(server, 'echo')).state === 'serving');
  await registry.stop();
  sign(bySecond, byFirst);
  await reload(server);
  assert.equal((await plugin(server, 'echo')).state, 'serving', 'what was checked once is kept');
  assert.equal(readdirSync(join(server.folder, 'own-cache/pulled')).length, 3);
});

test('a signed_by that is no key, or of no use, is refused', async (t) => {
  const check = async (config) => (await makeFolder(t, { config }).mixlab('check')).stderr;
  const { line } = makeKey();
  const reference = `oci://ghcr.io/a/b@sha256:${'0'.repeat(64)}`;
  for (const key of ['', 'cosign.pub', line.slice(4), `${line}AAAA`]) {
    assert.match(await check(ofRegistry(reference, `signed_by = "${key}"`)), /plugins\.echo\.signed_by: expected a public key, as PEM/, key);
  }
  const useless = `[[plugins]]\nname = "a"\npath = "a.wasm"\nsigned_by = "${line}"\n`;
  assert.match(await check(useless), /plugins\.a\.signed_by: signed_by is of no use without a path that begins with oci:/);
});

test('whom a registry sends to for a blob gets no credentials, whatever it asks for', async (t) => {
  const registry = await startRegistry(t);
  const { reference } = await registry.push('echo', [COMPONENT]);
  const seen = [];
  const listen = async (answer) => {
    const server = createServer(answer).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    t.after(() => server.close());
    return `127.0.0.1:${server.address().port}`;
  };
  const blobs = await listen(({ url, headers }, response) => {
    seen.push(headers.authorization);
    if (url.startsWith('/token')) return response.end(JSON.stringify({ token: 't0ken' }));
    response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${headers.host}/token"` }).end();
  });
  // Manifests are for everybody.
  const front = await listen(async ({ url, headers }, response) => {
    if (url.includes('/blobs/')) return response.writeHead(307, { location: `http://${blobs}${url}` }).end();
    const found = await fetch(`http://${registry.address}${url}`, { headers: { accept: headers.accept } });
    response.end(Buffer.from(await found.arrayBuffer()));
  });
  const home = makeFolder(t, { env: { READER } });
  const from = reference.replace(registry.address, front);
  const { code, stderr } = await home.mixlab('plugin', 'pull', from, 'echo.wasm', '--credentials-env', 'READER');
  assert.equal(code, 1);
  assert.match(stderr, /answered with 401/);
  assert.deepEqual(seen, [undefined]);
});

test('a signed_by that no signature could be by is refused: two keys, and kinds that are not known', async (t) => {
  const { pem } = makeKey();
  const of = (...kind) => generateKeyPairSync(...kind).publicKey.export({ type: 'spki', format: 'pem' });
  for (const [text, said] of [
    [pem + makeKey().pem, /has more than one key/],
    [of('x25519'), /of no kind that is known/],
    [of('ec', { namedCurve: 'P-521' }), /of no kind that is known/],
    [of('ec', { namedCurve: 'secp256k1' }), /of no kind that is known/],
    [of('dsa', { modulusLength: 2048, divisorLength: 256 }), /of no kind that is known/],
    [of('ed448'), /of no kind that is known/],
    [generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }), /expected a public key, as PEM/],
  ]) {
    const home = makeFolder(t, { files: { 'key.pub': text } });
    const reference = `oci://127.0.0.1:1/a@sha256:${'0'.repeat(64)}`;
    const { code, stderr } = await home.mixlab('plugin', 'pull', reference, 'a.wasm', '--signed-by', 'key.pub');
    assert.equal(code, 1);
    assert.match(stderr, said, text);
  }
});
