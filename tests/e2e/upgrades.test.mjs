// While a session moves from polling to a websocket: it is as quick as before, and ends as a whole. What
// is quick is told by a race against a neighbour and not by a clock.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { startNode } from '../support/node-server.mjs';
import { poller, websocket } from '../support/protocol.mjs';
import { CONFORMANCE, startServer } from '../support/server.mjs';
import { until } from '../support/wait.mjs';

const PLUGINS = [CONFORMANCE];
const SERVERS = {
  MixLab: await startServer({ after }, { plugins: PLUGINS }),
  Node: await startNode({ after }),
};

/** How often the one that upgrades has its turn. */
const ROUNDS = 20;
/** How often its neighbour may have its own meanwhile. What waits for a tick of 100 ms loses by far more. */
const LEAD = 4 * ROUNDS;

/** A websocket for a polling session that has been probed, and whose upgrade goes no further. */
async function probed(t, server, client) {
  const socket = await websocket(t, server, { sid: client.sid });
  socket.send('2probe');
  assert.equal(await socket.next(), '3probe');
  return socket;
}

/** Polls until a packet matches. */
async function polled(client, pattern) {
  for (;;) {
    const { status, body } = await client.get();
    assert.equal(status, 200, body);
    if (body.split('\x1e').some((packet) => pattern.test(packet))) return;
    if (body.split('\x1e').includes('2')) await client.post('3');
  }
}

/** Does both until the first has had its turns; resolves to how many turns the other one had. */
async function race(first, other) {
  let done = false;
  let turns = 0;
  const racing = (async () => {
    for (; !done; turns++) await other();
  })();
  for (let round = 0; round < ROUNDS; round++) await first(round);
  done = true;
  await racing;
  return turns;
}

async function joined(server) {
  const client = await poller(server);
  await client.post('40');
  await polled(client, /^42\["auth"/);
  return client;
}

/** Sends an event and polls for its ack. */
const turn = (client) => async () => {
  await client.post('427["message-with-ack",1]');
  await polled(client, /^437\[1\]$/);
};

/** The same with the poll under way first, as clients have it. */
const turnWithPoll = (client) => async () => {
  const answer = polled(client, /^437\[1\]$/);
  await client.post('427["message-with-ack",1]');
  await answer;
};

for (const [name, server] of Object.entries(SERVERS)) {
  describe(`${name}, while a session upgrades`, () => {
    for (const [what, make] of Object.entries({ 'behind the event': turn, 'ahead of the event': turnWithPoll })) {
      test(`acks come as quickly as before, with a poll ${what}`, async (t) => {
        const [client, neighbour] = [await joined(server), await joined(server)];
        await probed(t, server, client);
        const turns = await race(make(client), make(neighbour));
        t.diagnostic(`${turns} turns of a neighbour`);
        assert.ok(turns < LEAD, `${turns} turns of a neighbour for ${ROUNDS}`);
      });
    }

    test('the answer to CONNECT comes as quickly as before', async (t) => {
      const connect = async (upgrades) => {
        const client = await poller(server);
        const socket = upgrades ? await probed(t, server, client) : await websocket(t, server);
        await client.post('40');
        await polled(client, /^42\["auth"/);
        socket.socket.terminate();
        await client.post('1');
      };
      const turns = await race(
        () => connect(true),
        () => connect(false),
      );
      t.diagnostic(`${turns} turns of a neighbour`);
      assert.ok(turns < LEAD, `${turns} turns of a neighbour for ${ROUNDS}`);
    });

    test('upgrades are through as quickly as sessions that begin with a websocket', async (t) => {
      const upgraded = async () => {
        const client = await joined(server);
        const poll = client.get();
        const socket = await probed(t, server, client);
        await poll;
        socket.send('5', '427["message-with-ack",1]');
        assert.equal(await socket.nextMessage(), '437[1]');
        socket.socket.terminate();
      };
      const direct = async () => {
        const client = await joined(server);
        const socket = await websocket(t, server);
        socket.socket.terminate();
        await client.post('1');
      };
      // The poll is sent back when Node looks, every 100 ms.
      const turns = await race(upgraded, direct);
      assert.ok(turns < 20 * LEAD, `${turns} turns of a neighbour for ${ROUNDS}`);
    });

    for (const [how, end] of Object.entries({
      'a packet "1"': (client) => client.post('1'),
      'a packet that is none': (client) => client.post('x').catch(() => {}),
      'a Socket.IO packet that is none': (client) => client.post('47').catch(() => {}),
    })) {
      test(`the websocket closes at once when the session ends by ${how}`, async (t) => {
        const client = await joined(server);
        const socket = await probed(t, server, client);
        const poll = client.get().catch(() => {});
        await end(client);
        // An upgrade that is left alone is given up after ten seconds, which is too late.
        await until(socket.isClosed, { timeout: 5_000, message: 'the websocket is closed' });
        await poll;
      });
    }

    test('the websocket that is closed leaves the session as it was', async (t) => {
      const client = await joined(server);
      const socket = await probed(t, server, client);
      socket.socket.close();
      await socket.closed();
      await turn(client)();
    });

    test('what was sent over both arrives once and in order', async (t) => {
      const client = await joined(server);
      const answers = [];
      const numbers = (packets) => packets.flatMap((packet) => packet.match(/^42\["message-back",(\d+)\]$/)?.[1] ?? []).map(Number);
      const send = (from) => Array.from({ length: 50 }, (_, i) => `42["message",${from + i}]`);
      await client.post(send(0).join('\x1e'));
      const socket = await probed(t, server, client);
      await client.post(send(50).join('\x1e'));
      answers.push(...numbers((await client.get()).body.split('\x1e')));
      socket.send('5', ...send(100));
      await until(() => answers.length + numbers(socket.waiting).length === 150, {
        message: () => `150 answers, and not ${answers.length} and ${socket.waiting.length}`,
      });
      answers.push(...numbers(socket.waiting));
      assert.deepEqual(answers, Array.from({ length: 150 }, (_, i) => i));
    });
  });
}
