// A client on a thread of its own that measures how long the server takes to answer it.
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
import { io } from 'socket.io-client';
import { PATIENCE } from './wait.mjs';

/** Asks the server for `id` again and again until `stop`, which resolves to the answers' times in ms, sorted. */
export async function startEcho(server) {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: server.url });
  const message = () => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await message();
  return {
    async stop() {
      worker.postMessage('stop');
      const times = await message();
      await worker.terminate();
      return times.sort((a, b) => a - b);
    },
  };
}

/** The time that so many of 100 stay below. */
export const percentile = (sorted, percent) => sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];

async function measure(url) {
  const socket = io(url, { transports: ['websocket'], reconnection: false });
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject));
  let goesOn = true;
  parentPort.once('message', () => (goesOn = false));
  parentPort.postMessage('ready');
  const times = [];
  while (goesOn) {
    const start = performance.now();
    await socket.timeout(PATIENCE).emitWithAck('id');
    times.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  socket.disconnect();
  parentPort.postMessage(times);
}

if (!isMainThread) await measure(workerData);
