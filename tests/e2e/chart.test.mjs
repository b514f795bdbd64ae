// The Helm chart, by Helm itself: what it makes is of a form that Kubernetes takes, and what it is not told rightly it refuses.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { ask, connect } from '../support/client.mjs';
import { ready } from '../support/plugins.mjs';
import { PYTHON } from '../support/python.mjs';
import { makeFolder, ROOT, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const CHART = join(ROOT, 'examples/deploy/helm');
const tool = (name) => join(dirname(PYTHON), name);

/** What Helm says to values in Helm's notation, as `{ code, stdout, stderr }`. */
function helm(command, values = [], release = ['mixlab']) {
  const set = values.flatMap((value) => (value.startsWith('config=/') ? ['--set-file', value] : ['--set', value]));
  const { status, stdout, stderr } = spawnSync(tool('helm'), [command, ...release, CHART, ...set], { encoding: 'utf8' });
  return { code: status, stdout, stderr };
}

/** The objects that the chart makes, by their kinds. */
function render(...values) {
  const { code, stdout, stderr } = helm('template', values);
  assert.equal(code, 0, stderr);
  return { text: stdout, objects: byKind(stdout) };
}

const byKind = (text) =>
  Object.fromEntries(parseAllDocuments(text).map((document) => document.toJS()).map((object) => [object.kind, object]));

const containerOf = ({ Deployment }) => Deployment.spec.template.spec.containers[0];

const CLUSTER = ['cluster.enabled=true', 'replicas=3'];

test('Helm finds nothing wrong with the chart, which is of this version of MixLab', () => {
  const { code, stdout } = helm('lint', [], ['--strict']);
  assert.equal(code, 0, stdout);
  const [, version] = readFileSync(join(ROOT, 'Cargo.toml'), 'utf8').match(/^version = "(.*)"$/m);
  assert.ok(containerOf(render().objects).image.endsWith(`:${version}`));
});

test('what it makes is of a form that Kubernetes takes', (t) => {
  const { folder } = makeFolder(t);
  for (const values of [
    [],
    ['persistence.enabled=true', 'persistence.storageClass=fast', 'config=[server]'],
    [...CLUSTER, 'ingress.enabled=true', 'ingress.tlsSecret=chat', `image.digest=sha256:${'0'.repeat(64)}`],
    ['cluster.enabled=true', 'replicas=null', 'service.type=LoadBalancer', 'service.annotations.a=b'],
    ['podLabels.team=chat', 'podAnnotations.a=b', 'nodeSelector.disk=fast', 'imagePullSecrets[0].name=registry', 'priorityClassName=high',
      'tolerations[0].operator=Exists', 'env[0].name=RUST_BACKTRACE', 'env[0].value=full',
      'topologySpreadConstraints[0].maxSkew=1', 'topologySpreadConstraints[0].topologyKey=zone', 'topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway',
      'affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution=null'],
  ]) {
    const file = join(folder, 'made.yml');
    writeFileSync(file, render(...values).text);
    for (const version of ['1.30', '1.37']) {
      const said = execFileSync(tool('kubernetes-validate'), ['--strict', '-k', version, file], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
      assert.doesNotMatch(said, /ERROR|WARN/, String(values));
    }
  }
});

test('it makes the manifest that is beside it', () => {
  const made = render(...CLUSTER, 'ingress.enabled=true', 'image.tag=1', 'config=[server]').objects;
  const written = byKind(readFileSync(join(ROOT, 'examples/deploy/kubernetes/mixlab.yml'), 'utf8'));
  delete made.ConfigMap;
  delete containerOf(made).imagePullPolicy;
  delete made.Service.spec.type;
  for (const object of Object.values(made)) delete object.metadata.labels;
  assert.deepEqual(made, written);
});

test('a server has more time to end than it takes, and one that has a store is alone with it', () => {
  const slow = render('shutdown.notice=60', 'shutdown.drain=300').objects;
  assert.ok(slow.Deployment.spec.template.spec.terminationGracePeriodSeconds > 370);
  const values = containerOf(slow).env.map(({ name, value }) => `${name}=${value}`);
  assert.deepEqual(values, ['MIXLAB_SHUTDOWN__NOTICE=60s', 'MIXLAB_SHUTDOWN__DRAIN=300s']);
  const kept = render('persistence.enabled=true').objects;
  assert.deepEqual(kept.Deployment.spec.strategy, { type: 'Recreate' });
  assert.equal(kept.PersistentVolumeClaim.metadata.annotations['helm.sh/resource-policy'], 'keep');
});

test('it is installed as the document says', () => {
  const document = readFileSync(join(ROOT, 'examples/deploy/README.md'), 'utf8');
  const [, words] = document.match(/^helm install ((?:.*\\\n)*.*)$/m);
  const line = ['template', ...words.replaceAll('\\\n', ' ').split(/ +/)];
  const made = byKind(execFileSync(tool('helm'), line, { cwd: ROOT, encoding: 'utf8' }));
  assert.equal(made.Deployment.metadata.name, 'chat-mixlab');
  assert.deepEqual(containerOf(made).envFrom, [{ secretRef: { name: 'chat' } }]);
  assert.equal(made.Ingress.spec.rules[0].host, 'chat.example.com');
});

test('values that cannot be meant are refused by name', () => {
  for (const [values, said] of [
    [['replicas=3'], /several servers are a cluster: set cluster\.enabled/],
    [['replicas=null'], /several servers are a cluster/],
    [[...CLUSTER, 'persistence.enabled=true'], /a cluster keeps everything in Redis/],
    [['replicas=0'], /replicas: Must be greater than or equal to 1/],
    [['cluster.enabld=true'], /cluster: Additional property enabld is not allowed/],
    [['image.digest=latest'], /image\.digest: Does not match/],
    [['secret='], /secret: Does not match/],
    [['service.port=0'], /service\.port/],
    [['shutdown.drain=30s'], /shutdown\.drain: Invalid type/],
    [['persistence.size=lots'], /persistence\.size/],
    [['persistence.storageClass=-'], /persistence\.storageClass: Does not match/],
    [['shutdown.drain=null'], /shutdown: drain is required/],
    [['cluster=null'], /cluster is required/],
    [['podLabels.app\\.kubernetes\\.io/name=mine'], /podLabels\.app\.kubernetes\.io\/name/],
    [['env[0].name=MIXLAB_SHUTDOWN__DRAIN', 'env[0].value=1h'], /env\.0\.name/],
    [['env[0].name=A', 'env[0].valu=b'], /env\.0: Additional property valu is not allowed/],
  ]) {
    const { code, stderr } = helm('template', values);
    assert.notEqual(code, 0, String(values));
    assert.match(stderr, said);
  }
});

test('whatever a release is called, its objects have names that they may have', () => {
  for (const [release, name] of [
    ['chat', 'chat-mixlab'],
    ['mixlab', 'mixlab'],
    ['chat.one', 'chat-one-mixlab'],
    ['1.2', 'r-1-2-mixlab'],
    ['7mixlab', 'r-7mixlab'],
    ['a'.repeat(53), `${'a'.repeat(53)}-mixlab`],
  ]) {
    const { code, stdout, stderr } = helm('template', ['config=[server]', 'ingress.enabled=true'], [release]);
    assert.equal(code, 0, stderr);
    const made = byKind(stdout);
    assert.match(name, /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/);
    assert.deepEqual([...new Set(Object.values(made).map(({ metadata }) => metadata.name))], [name]);
    assert.equal(made.Service.spec.selector['app.kubernetes.io/instance'], release);
  }
});

test('what looks like a number or a word of YAML is passed on as the text that it is', (t) => {
  const { folder } = makeFolder(t, {
    files: { 'values.yml': 'image: { tag: 20261128 }\nsecret: "1234"\nreplicas: 1000000\ncluster: { enabled: true }\nshutdown: { notice: 0, drain: 2000000 }\n' },
  });
  const { stdout } = helm('template', [], ['mixlab', '-f', join(folder, 'values.yml')]);
  const made = byKind(stdout);
  const { image, env, envFrom } = containerOf(made);
  assert.equal(image, 'registry.example.com/mixlab:20261128');
  assert.deepEqual(envFrom, [{ secretRef: { name: '1234' } }]);
  assert.deepEqual(env.slice(-2).map(({ value }) => value), ['0s', '2000000s']);
  assert.equal(made.Deployment.spec.replicas, 1000000);
  assert.match(stdout, /replicas: 1000000\n/);
});

test('the text of mixlab.toml comes as it is, and running servers take a change of it', async (t) => {
  const shipped = join(ROOT, 'mixlab.toml');
  assert.equal(render(`config=${shipped}`).objects.ConfigMap.data['mixlab.toml'], readFileSync(shipped, 'utf8'));

  const server = await startServer(t, { plugins: [{ wasm: 'versioned', config: { version: 1 } }] });
  const first = readFileSync(server.configPath, 'utf8');
  // Kubernetes puts a ConfigMap into a folder of its own, to which a link leads.
  const put = (name, text) => {
    mkdirSync(join(server.folder, name));
    writeFileSync(join(server.folder, name, 'mixlab.toml'), text);
    symlinkSync(name, join(server.folder, '..data.new'));
    renameSync(join(server.folder, '..data.new'), join(server.folder, '..data'));
  };
  put('..first', first);
  rmSync(server.configPath);
  symlinkSync('..data/mixlab.toml', server.configPath);
  const client = await connect(t, server);
  assert.deepEqual(await ask(client, 'versioned'), { version: 1 });
  put('..second', first.replace('"version" = 1', '"version" = 2'));
  rmSync(join(server.folder, '..first'), { recursive: true });
  await until(async () => (await ask(client, 'versioned')).version === 2);
  await ready(server);
});
