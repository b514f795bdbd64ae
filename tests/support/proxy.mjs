// A way to the server that can be cut: connections end without a goodbye, as in a tunnel.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** Passes bytes on between two connections, both of which are in `open` until they end, which they do together. */
export function join(near, far, open) {
  for (const [socket, other] of [
    [near, far],
    [far, near],
  ]) {
    open.add(socket);
    socket.setNoDelay(true);
    socket.pipe(other);
    socket.on('error', () => {});
    socket.on('close', () => {
      open.delete(socket);
      other.destroy();
    });
  }
}

/** Passes bytes on to `server` until `t` ends; `url` is where to connect instead. */
export async function startProxy(t, server) {
  let passes = true;
  const open = new Set();
  const waiting = new Map();
  const listener = createServer((near) => {
    if (!passes) return near.destroy();
    const far = connect(server.port, '127.0.0.1');
    near.on('data', (bytes) => bytes.toString('latin1', 0, 4) === 'GET ' && waiting.set(near, far));
    far.on('data', () => waiting.delete(near));
    near.on('close', () => waiting.delete(near));
    join(near, far, open);
  });
  const cut = () => {
    passes = false;
    open.forEach((socket) => socket.destroy());
  };
  t.after(() => {
    listener.close();
    cut();
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    url: `http://127.0.0.1:${listener.address().port}`,
    /** Whether a GET waits for its answer at the server: with long polling, that hears of a cut only then. */
    hasPoll: () => [...waiting.values()].some((far) => !far.connecting && far.writableLength === 0),
    /** Destroys every connection, and those that are yet to come. */
    cut,
    /** Lets connections through again. */
    mend: () => (passes = true),
  };
}
