// Two processes, as Socket.IO's documentation has it: a primary that hands connections to the worker
// that has their session, and the adapter that takes broadcasts to the other one. Listens on a free
// port of 127.0.0.1 and says which.
import cluster from 'node:cluster';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createAdapter, setupPrimary } from '@socket.io/cluster-adapter';
import { setupMaster, setupWorker } from '@socket.io/sticky';

const WORKERS = 2;

async function primary() {
  const http = createServer();
  setupMaster(http, { loadBalancingMethod: 'least-connection' });
  setupPrimary();
  cluster.setupPrimary({ serialization: 'advanced' });
  const workers = Array.from({ length: WORKERS }, () => cluster.fork());
  // A worker that ends takes its clients with it: nothing measured afterwards would count.
  cluster.on('exit', () => process.exit(1));
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  process.once('SIGTERM', () => {
    cluster.removeAllListeners('exit');
    cluster.disconnect(() => process.exit(0));
    for (const worker of workers) worker.kill();
  });
  http.listen(0, '127.0.0.1', () => console.log(`Node is listening on http://127.0.0.1:${http.address().port}`));
}

async function worker() {
  const { countHere, io, others } = await import('./app.mjs');
  io.adapter(createAdapter());
  setupWorker(io);
  io.on('count', (room, reply) => reply(countHere(room ?? undefined)));
  others.counts = (room) => io.serverSideEmitWithAck('count', room ?? null);
  // The workers have found each other when both are heard.
  while ((await io.of('/').adapter.serverCount()) < WORKERS) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  process.send({ type: 'ready' });
  process.once('SIGTERM', () => process.exit(0));
}

await (cluster.isPrimary ? primary() : worker());
