// A port in front of several servers, which takes turns as a balancer does.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from './proxy.mjs';

/** How often it looks who is ready. */
const LOOK = 50;

/**
 * Passes connections on to those of `servers` that are ready, in turns, until `t` ends; `url` is where to connect
 * instead. Servers may come to the list and go.
 */
export async function startBalancer(t, servers) {
  const open = new Set();
  let ready = [];
  let next = 0;
  const look = async () => {
    const answers = servers.map(async (server) => {
      const answer = await fetch(`${server.url}/readyz`).catch(() => ({ ok: false }));
      return answer.ok ? [server] : [];
    });
    ready = (await Promise.all(answers)).flat();
  };
  // Who finds none ready waits: a machine that is slow may let none be for a moment.
  const passOn = (near) => {
    if (near.destroyed) return;
    if (ready.length === 0) return setTimeout(passOn, LOOK, near);
    join(near, connect(ready[next++ % ready.length].port, '127.0.0.1'), open);
  };
  const listener = createServer((near) => {
    open.add(near);
    near.on('error', () => {});
    passOn(near);
  });
  await look();
  const timer = setInterval(look, LOOK);
  t.after(() => {
    clearInterval(timer);
    listener.close();
    open.forEach((socket) => socket.destroy());
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return { url: `http://127.0.0.1:${listener.address().port}` };
}
