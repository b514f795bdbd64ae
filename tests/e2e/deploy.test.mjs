// Stock clients through real proxies, with the files of examples/deploy: they work, and go on when a server leaves.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join as joinPath } from 'node:path';
import { test } from 'node:test';
import { connect } from '../support/client.mjs';
import { startMember } from '../support/cluster.mjs';
import { startDeployed } from '../support/deploy.mjs';
import { assertAll, join, send } from '../support/numbers.mjs';
import { PYTHON } from '../support/python.mjs';
import { startRedis } from '../support/redis.mjs';
import { ROOT } from '../support/server.mjs';
import { freePort } from '../support/tcp.mjs';
import { SECRET } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

/** Longer than a balancer needs to see that a server leaves. */
const NOTICE = { nginx: '0s', haproxy: '4s' };

const WAYS = [['polling'], ['polling', 'websocket'], ['websocket']];

const here = async (server) => (await server.api('GET', '/api/v1/clients/count')).body.here;

for (const proxy of ['nginx', 'haproxy']) {
  for (const name of ['any', 'sticky']) {
    test(`clients behind ${proxy} work and go on when a server leaves: ${name}`, async (t) => {
      const redis = await startRedis(t);
      const start = async () => {
        const listen = `127.0.0.1:${await freePort()}`;
        const own = { MIXLAB_CLUSTER__ADDRESS: `http://${listen}`, MIXLAB_CLUSTER__SECRET: SECRET };
        const config = `[shutdown]\nnotice = "${NOTICE[proxy]}"\ndrain = "1s"\n[limits]\ntrusted_proxies = ["127.0.0.1"]\n`;
        return startMember(t, redis, { listen, config, env: name === 'any' ? own : {} });
      };
      const servers = [await start(), await start()];
      const front = await startDeployed(t, proxy, name, servers);
      const sockets = [];
      for (const transports of [...WAYS, ...WAYS]) sockets.push(await join(t, front, { transports, withCredentials: true }));
      await until(() => sockets.every((socket, index) => socket.io.engine.transport.name === WAYS[index % 3].at(-1)));
      for (const path of ['/healthz', '/readyz', '/metrics']) assert.equal((await fetch(front.url + path)).status, 404, path);

      const counts = await Promise.all(servers.map(here));
      assert.equal(counts[0] + counts[1], sockets.length);
      const [leaving, staying] = counts[0] > 0 ? servers : servers.toReversed();
      const sender = send(await connect(t, staying));
      await sender.more(20);
      const { code, stdout } = await leaving.mixlab('drain');
      assert.equal(code, 0, stdout);
      await sender.more(20);
      await until(async () => (await here(staying)) === sockets.length + 1);
      await assertAll(sockets, await sender.stop());
    });
  }
}

test('what Kubernetes is told is of a form that it takes, and fits the image', () => {
  const path = joinPath(ROOT, 'examples/deploy/kubernetes/mixlab.yml');
  // One of its oldest versions that are in use, and the newest.
  for (const version of ['1.30', '1.37']) {
    const said = execFileSync(joinPath(dirname(PYTHON), 'kubernetes-validate'), ['--strict', '-k', version, path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    assert.doesNotMatch(said, /ERROR|WARN/);
  }
  const told = readFileSync(path, 'utf8');
  const image = readFileSync(joinPath(ROOT, 'host/packaging/image'), 'utf8');
  const [, user] = image.match(/^user=(\d+)$/m);
  const [, writable] = image.match(/^writable="(.*)"$/m);
  for (const key of ['runAsUser', 'runAsGroup', 'fsGroup']) assert.ok(told.includes(`${key}: ${user}\n`), key);
  for (const folder of writable.split(' ')) assert.ok(told.includes(`mountPath: /${folder} }`), folder);
});
