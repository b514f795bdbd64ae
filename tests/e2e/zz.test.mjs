// Connections that drop, by the hundreds, while events go on: who recovers misses nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FULL } from '../support/full.mjs';
import { Member, speak } from '../support/member.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const CLIENTS = FULL ? 200 : 40;
const DROPS = FULL ? 1000 : 100;
/** How many are away at once. */
const AT_ONCE = CLIENTS / 2;
const ROOM = 'studio';
/**
 * A poll that does not come is noticed by the heartbeat alone, and only then the client is away. It is long, so that
 * no client that is here counts as away where all of them have little of a processor.
 */
const CONFIG = `
[socket]
ping_interval = "1s"
ping_timeout = "5s"
`;
const PLUGINS = [CONFORMANCE];

for (const transport of ['websocket', 'polling']) {
  test(`clients over ${transport} that drop again and again have every event once and in order`, async (t) => {
    const server = await startServer(t, { config: CONFIG, plugins: PLUGINS, recovery: true });
    const members = await Promise.all(Array.from({ length: CLIENTS }, () => Member.join(t, server, transport, ROOM)));
    const speaker = await speak(t, server, ROOM);
    const counts = { drops: 0, recovered: 0, refused: 0, lost: 0 };

    // Connections are destroyed while broadcasts and answers are on their way to them.
    const isHere = async (count) => (await server.api('GET', '/api/v1/clients/count')).body.count === count;
    const all = CLIENTS + 1;
    while (counts.drops < DROPS) {
      const start = counts.drops % CLIENTS;
      const dropped = members.slice(start, start + AT_ONCE);
      const { told } = speaker;
      await Promise.all(dropped.map((member) => member.destroy()));
      // Every other time they are back before the server notices.
      if ((counts.drops / AT_ONCE) % 2) {
        await until(() => isHere(all - dropped.length), { message: 'the server notices', timeout: 30_000 }).catch(async (e) => { console.log('COUNT', (await server.api('GET','/api/v1/clients/count')).body, all, dropped.length, members.map(m => [m.isAway, m.faults]).flat().filter(Boolean).length, server.log?.().slice?.(-3000)); throw e; });
      }
      await until(() => speaker.told > told + 10, { message: 'events go on', timeout: 60_000 });
      const recovered = await Promise.all(dropped.map((member) => member.comeBack()));
      counts.drops += dropped.length;
      counts.recovered += recovered.filter(Boolean).length;
    }
    counts.refused = counts.drops - counts.recovered;
    const last = await speaker.stop();

    for (const member of members) await member.catchUp(last);
    for (const member of members) counts.lost += member.lost;
    t.diagnostic(`${transport}: ${JSON.stringify(counts)}, ${last} broadcasts to ${CLIENTS} clients`);
    const faults = members.flatMap((member) => member.faults);
    assert.deepEqual(faults.slice(0, 5), []);
    assert.equal(counts.lost, 0);
    assert.equal(counts.drops, DROPS);
    assert(counts.recovered > DROPS * 0.9, 'most recover');
  });
}
