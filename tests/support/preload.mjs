// A server on a machine with a bad disk, a bad clock and a bad name server: tests/fixtures/preload.c.
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, ROOT } from './server.mjs';

/**
 * What a server needs for such a machine (`env`), and what may happen to it. Without a C compiler the test is
 * skipped, and there is none.
 */
export function badMachine(t) {
  const { folder } = makeFolder(t);
  const at = (name) => join(folder, name);
  const source = join(ROOT, 'tests/fixtures/preload.c');
  if (spawnSync('cc', ['-shared', '-fPIC', '-o', at('preload.so'), source]).status !== 0) {
    t.skip('there is no C compiler');
    return null;
  }
  return {
    env: { LD_PRELOAD: at('preload.so'), HANG: at('hang'), JUMP: at('jump'), ADDRESSES: at('addresses') },
    /** The disk takes no more, until it answers. */
    hang: () => writeFileSync(at('hang'), ''),
    answer: () => rmSync(at('hang')),
    /** The clock is wrong by so many seconds. */
    setClock: (seconds) => writeFileSync(at('jump'), String(seconds)),
    /** What the name `rebinds.test` has at each look-up, the last one for ever. */
    setAddresses: (...addresses) => writeFileSync(at('addresses'), `${addresses.join('\n')}\n`),
  };
}
