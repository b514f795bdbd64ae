// The JSON Schema of mixlab.toml, which editors check it by: it takes what the server takes, and says what is wrong by its form.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import Ajv from 'ajv';
import { parse } from 'smol-toml';
import { blocks, DOCUMENTS } from '../support/documents.mjs';
import { FULL } from '../support/full.mjs';
import { makeFolder, PROGRAM, ROOT } from '../support/server.mjs';

const PRINTED = execFileSync(PROGRAM, ['schema'], { encoding: 'utf8' });
const isValid = new Ajv({ allErrors: true }).compile(JSON.parse(PRINTED));

/** What the schema has against a text, in words; none if it takes it. */
function faults(text) {
  // A number that JavaScript does not have is none here, and for the server too many.
  if (isValid(parse(text, { integersAsBigInt: 'asNeeded' }))) return '';
  return isValid.errors.map(({ instancePath, message }) => `${instancePath} ${message}`).join('; ');
}

const read = (...path) => readFileSync(join(ROOT, ...path), 'utf8');
const cases = (kind) => readdirSync(join(ROOT, 'tests/config', kind)).map((name) => [name, read('tests/config', kind, name, 'mixlab.toml')]);

test('the schema in the repository is the one that is printed, and the shipped file names it', () => {
  assert.equal(read('host/mixlab.schema.json'), PRINTED, '`mixlab schema >host/mixlab.schema.json` writes it');
  assert.match(read('mixlab.toml'), /^#:schema host\/mixlab\.schema\.json$/m);
});

test('what is shipped and what documents say is of the form', () => {
  const shipped = ['.', 'examples/migration', 'plugins/c', 'plugins/python', 'tests/load', 'tests/load/languages'];
  for (const folder of shipped) assert.equal(faults(read(folder, 'mixlab.toml')), '', folder);
  // With all its examples, too.
  const examples = read('mixlab.toml').replaceAll(/^#(?=[a-z[].*(= |\]$))/gm, '');
  assert.ok(examples.includes('\nping_interval = '));
  assert.equal(faults(examples), '');
  const written = DOCUMENTS.flatMap(blocks).filter(({ language, text }) => language === 'toml' && !/^\[(package\]|profile\.|\[case)/m.test(text));
  assert.ok(written.length > 15);
  for (const { text, where } of written) assert.equal(faults(text), '', where);
});

test('what is valid is of the form', () => {
  for (const [name, text] of cases('valid')) assert.equal(faults(text), '', name);
});

/** What is wrong with what a value means, with another key, the environment or TOML itself, and not with the form. */
const OF_MEANING = `
  admin-grant admin-main-namespace admin-mode-without-login admin-password-in-the-clear
  admin-password-that-takes-too-long admin-without-password affinity-cookie-of-other-sites affinity-cookie-with-attributes-in-its-path api-key-variable-not-set api-key-with-both api-key-with-plugin-right api-key-with-spaces
  api-key-without-key auth-cookie-nobody-reads auth-cookie-without-check-of-origins auth-empty-audience auth-empty-issuer auth-header-of-cookies
  auth-header-without-check-of-origins bad-socket-path build-without-source cluster-address-without-cluster
  cluster-address-without-secret cluster-secret-short cookies-without-check-of-origins
  credentials-of-anonymous-clients-without-check-of-origins duplicate-api-key duplicate-api-key-name
  duplicate-plugin-name empty-build empty-plugin-path guard-no-namespace guard-not-granted
  http-grant-with-bare-suffix http-grant-with-query http-grant-without-host http-header-of-host http-header-value
  http-header-variable-not-set http-pattern http-right-of-api-key inspect-grant no-connections no-id-claims no-time-to-compile
  no-time-to-migrate nobody-can-connect operate-grant payments-room-grant ping-beyond-timers plugin-budget-below-tick
  plugin-config-without-json plugin-named-reload rate-beyond-the-clock reserved-room-grant size-beyond-memory slow-tick
  store-in-no-redis tls-redirect-from-itself tls-redirect-without-certificate tls-without-key too-many-threads
  wall-below-cpu webhook-remember-below-max-age webhook-secret-without-scheme webhook-without-secret
  zero-ping-timeout zero-send-buffer
`.trim().split(/\s+/);

test('what is wrong by its form is said to be', () => {
  const wrong = cases('invalid').filter(([name]) => !/^(duplicate-(key|section)|syntax-.*)$/.test(name));
  const taken = wrong.filter(([, text]) => faults(text) === '').map(([name]) => name);
  assert.deepEqual(taken.sort(), OF_MEANING.sort());
  assert.ok(wrong.length - taken.length >= 40, `${wrong.length - taken.length} are refused`);
});

/** Values of every form that some key has. */
const VALUES = ['true', '0', '-1', '1.5', '"x"', '"10s"', '"1MiB"', '"5/1s"', '"127.0.0.1:80"', '["a"]', '[]', '{}', '{ a = 1 }', '1979-05-27'];
/** So many of those that the schema refuses are shown to the server, of each key. */
const OF_EACH_KEY = FULL ? VALUES.length : 1;

test('what the schema refuses, the server refuses: no value that it takes is marked', async (t) => {
  const { properties, definitions } = JSON.parse(PRINTED);
  const tables = Object.entries(properties).filter(([, { $ref, allOf }]) => $ref ?? allOf);
  assert.ok(tables.length > 15);
  const refused = tables.flatMap(([table, { $ref, allOf }]) => {
    const [name] = ($ref ?? allOf[0].$ref).split('/').slice(-1);
    return Object.keys(definitions[name].properties).flatMap((key, turn) => {
      const texts = VALUES.map((value) => `[${table}]\n${key} = ${value}\n`).filter((text) => faults(text) !== '');
      assert.ok(texts.length > VALUES.length / 2, `${table}.${key}`);
      // Another one for each key.
      return Array.from({ length: Math.min(OF_EACH_KEY, texts.length) }, (_, at) => texts[(turn + at) % texts.length]);
    });
  });
  assert.ok(refused.length > 100);
  const home = makeFolder(t);
  const check = async () => {
    for (let text; (text = refused.pop()); ) {
      const path = join(home.folder, `${refused.length}.toml`);
      writeFileSync(path, text);
      const { code, stderr } = await home.mixlab('check', '-c', path);
      assert.equal(code, 2, `${text}${stderr}`);
    }
  };
  await Promise.all([check(), check()]);
});

test('each key is explained, with an example', () => {
  const { properties, definitions } = JSON.parse(PRINTED);
  // But for tables, and what one text over all of their keys explains.
  const explained = Object.entries(definitions).filter(([name, { properties }]) => properties && !/^(KeyFile|FormerKeyFile|HttpFile|Issuer|FormerSecret)$/.test(name));
  assert.ok(explained.length > 20);
  for (const [name, { properties }] of explained) {
    for (const [key, { description, $ref }] of Object.entries(properties)) assert.ok($ref || description?.length > 5, `${name} ${key}`);
  }
  assert.match(definitions.Socket.properties.ping_interval.description, /^How often a client is asked/);
  assert.deepEqual(definitions.Socket.properties.ping_interval.examples, ['25s']);
  assert.deepEqual(properties.listen.examples, ['127.0.0.1:3000']);
});

test('what mixlab new makes names the schema, which is there', (t) => {
  const { folder } = makeFolder(t);
  const make = (name) => execFileSync(PROGRAM, ['new', name, '--lang', 'ts', '-c', 'app/mixlab.toml'], { cwd: folder, stdio: 'pipe' });
  make('talk');
  const made = readFileSync(join(folder, 'app/mixlab.toml'), 'utf8');
  assert.match(made, /^#:schema mixlab\.schema\.json\n/);
  assert.equal(faults(made), '');
  assert.equal(readFileSync(join(folder, 'app/mixlab.schema.json'), 'utf8'), PRINTED);
  // Another plugin changes neither.
  make('chat');
  assert.equal(readFileSync(join(folder, 'app/mixlab.toml'), 'utf8').match(/#:schema/g).length, 1);
});
