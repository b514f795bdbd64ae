// sbom.mjs TARGET: prints what a package is made of, as a CycloneDX document: the crates of the program for this target and of
// the shipped plugins, those of the components that the program carries, and what of npm is in the pages' bundle. It is made
// of the lock files and of cargo's metadata alone, so that the same sources have the same document.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const [target] = process.argv.slice(2);
if (!target) throw new Error('usage: sbom.mjs TARGET');

const read = (path) => readFileSync(join(ROOT, path), 'utf8');

/** The crates of a lock file, `{ name, version, checksum }`; those of this repository have no checksum. */
function locked(path) {
  const [, ...packages] = read(path).split('[[package]]\n');
  const field = (text, name) => text.match(new RegExp(`^${name} = "(.*)"$`, 'm'))?.[1];
  return packages.map((text) => ({ name: field(text, 'name'), version: field(text, 'version'), checksum: field(text, 'checksum') }));
}

const CHECKSUMS = new Map(locked('Cargo.lock').map(({ name, version, checksum }) => [`${name}@${version}`, checksum]));

/** What cargo links into these crates for a target: without what only tests and builds need. */
function linked(roots, target) {
  const args = ['metadata', '--locked', '--format-version', '1', '--filter-platform', target];
  const { packages, resolve } = JSON.parse(execFileSync('cargo', args, { cwd: ROOT, encoding: 'utf8', maxBuffer: 2 ** 26, stdio: ['ignore', 'pipe', 'ignore'] }));
  const all = new Map(packages.map((one) => [one.id, one]));
  const needs = new Map(resolve.nodes.map(({ id, deps }) => [id, deps.filter((dep) => dep.dep_kinds.some(({ kind }) => kind === null))]));
  const seen = new Set(packages.filter(({ name, source }) => source === null && roots.includes(name)).map(({ id }) => id));
  if (seen.size !== roots.length) throw new Error(`not all of ${roots} are crates of this repository`);
  for (const id of seen) for (const { pkg } of needs.get(id)) seen.add(pkg);
  const crates = [...seen].map((id) => all.get(id));
  const isMacro = (crate) => crate.targets.some(({ kind }) => kind.includes('proc-macro'));
  return crates.filter((crate) => !isMacro(crate));
}

const crate = ({ name, version, license, checksum = CHECKSUMS.get(`${name}@${version}`) }) => ({
  type: 'library',
  'bom-ref': `pkg:cargo/${name}@${version}`,
  name,
  version,
  purl: `pkg:cargo/${name}@${version}`,
  ...(checksum && { hashes: [{ alg: 'SHA-256', content: checksum }] }),
  // What crates write of old: "MIT/Apache-2.0" is a choice.
  ...(license && { licenses: [{ expression: license.replaceAll(/ ?\/ ?/g, ' OR ') }] }),
});

function bundled() {
  const { packages } = JSON.parse(read('examples/web/package-lock.json'));
  const { '': root, ...others } = packages;
  return Object.entries(others).map(([path, { version, integrity, license }]) => {
    const name = path.replace(/^.*node_modules\//, '');
    const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`;
    const hashes = [{ alg: 'SHA-512', content: Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex') }];
    return { type: 'library', 'bom-ref': purl, name, version, purl, hashes, ...(license && { licenses: [{ expression: license }] }) };
  });
}

const PLUGINS = ['booking', 'chat', 'custom-event', 'payments', 'quiz'];
const CARRIED = ['encoder', 'runtime', 'types'];

const program = linked(['mixlab'], target);
const [mixlab] = program.filter(({ name }) => name === 'mixlab');
const own = new Set(['mixlab', ...PLUGINS]);
const components = [
  ...[...program, ...linked(PLUGINS, 'wasm32-wasip2')].filter(({ name }) => !own.has(name)).map(crate),
  ...CARRIED.flatMap((name) => locked(`host/scripts/${name}/Cargo.lock`)).filter(({ checksum }) => checksum).map(crate),
  ...bundled(),
];
const unique = new Map(components.map((component) => [component.purl, component]).reverse());
const sorted = [...unique.values()].sort((a, b) => (a.purl < b.purl ? -1 : 1));
const document = {
  bomFormat: 'CycloneDX',
  specVersion: '1.5',
  version: 1,
  metadata: { component: { ...crate(mixlab), type: 'application' } },
  components: sorted,
};
process.stdout.write(`${JSON.stringify(document, null, 1)}\n`);
