// Pages of other sites: whether they may connect where browsers themselves let them.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';
import WebSocket from 'ws';
import { ask, connect, TRANSPORTS } from '../support/client.mjs';
import { editConfig, plugin, reload } from '../support/plugins.mjs';
import { makeFolder, startServer } from '../support/server.mjs';

const LISTED = 'https://app.example.com';
const CORS = `[cors]\nallowed_origins = ["${LISTED}"]\n`;

const checked = await startServer({ after }, { config: `${CORS}check_origins = true\n` });
const unchecked = await startServer({ after }, { config: CORS });

const own = (server) => server.url;
const ownBehindTls = (server) => server.url.replace('http:', 'https:');

/** The status that the handshake of a page gets. */
async function handshake(server, transport, origin, host) {
  const headers = { ...(origin === undefined ? {} : { origin }), ...(host && { host }) };
  const url = `${server.url}/socket.io/?EIO=4&transport=${transport}`;
  if (transport === 'polling') return (await fetch(url, { headers })).status;
  const socket = new WebSocket(url.replace('http', 'ws'), { headers });
  const opened = once(socket, 'open').then(() => 101);
  const refused = once(socket, 'unexpected-response').then(([, answer]) => answer.statusCode);
  opened.catch(() => {});
  refused.catch(() => {});
  const status = await Promise.race([opened, refused]);
  socket.on('error', () => {});
  socket.terminate();
  return status;
}

const OF_OTHERS = [
  'https://evil.example.com',
  'http://app.example.com',
  `${LISTED}:8443`,
  `${LISTED}.evil.com`,
  'http://127.0.0.1',
  'http://127.0.0.1:1',
  'null',
  '',
];

for (const transport of TRANSPORTS) {
  const good = transport === 'polling' ? 200 : 101;

  test(`with check_origins, pages of other sites are refused over ${transport}`, async () => {
    for (const origin of OF_OTHERS) assert.equal(await handshake(checked, transport, origin), 403, origin);
  });

  test(`with check_origins, listed sites, own pages and other programs connect over ${transport}`, async () => {
    for (const origin of [LISTED, own(checked), ownBehindTls(checked), undefined]) {
      assert.equal(await handshake(checked, transport, origin), good, origin);
    }
  });

  test(`without it every page may connect over ${transport}: tokens protect`, async () => {
    for (const origin of [...OF_OTHERS, LISTED, undefined]) {
      assert.equal(await handshake(unchecked, transport, origin), good, origin);
    }
  });

  test(`a stock client on a listed site connects over ${transport}`, async (t) => {
    const options = { transports: [transport] };
    await connect(t, checked, { ...options, extraHeaders: { origin: LISTED } });
    await assert.rejects(connect(t, checked, { ...options, extraHeaders: { origin: 'https://evil.example.com' } }));
  });
}

test('a refused page hears why as from Node, and is told of no permission', async () => {
  const url = `${checked.url}/socket.io/?EIO=4&transport=polling`;
  const answer = await fetch(url, { headers: { origin: 'https://evil.example.com' } });
  assert.deepEqual([answer.status, await answer.json()], [403, { code: 4, message: 'Forbidden' }]);
  assert.equal(answer.headers.get('access-control-allow-origin'), null);
});

/** What the plugin cannot be loaded without. */
const NEEDED = ['payments', 'notify', 'role:*', 'clients', 'room:*', 'emit', 'ask', 'find', 'disconnect', 'handshake'];
const COOKIES = { wasm: 'capabilities', grants: [...NEEDED, 'header:cookie'] };

test('no plugin reads cookies of clients that need no token, unless origins are checked', async (t) => {
  for (const config of ['', '[auth]\nenabled = false\n', CORS]) {
    const { code, stderr } = await makeFolder(t, { config, plugins: [COOKIES] }).mixlab('check');
    assert.equal(code, 2);
    assert.match(stderr, /"header:cookie": set \[cors\] check_origins = true/);
  }
});

test('a grant for cookies comes into force with the check of origins, and not without', async (t) => {
  const server = await startServer(t, {
    config: `[auth]\nenabled = false\n${CORS}check_origins = false\n`,
    plugins: [{ ...COOKIES, grants: NEEDED }],
  });
  const evil = () => handshake(server, 'websocket', 'https://evil.example.com');
  editConfig(server, (toml) => toml.replace('"handshake"', '"handshake", "header:cookie"'));
  const { config_error: error } = await reload(server);
  assert.match(error, /header:cookie/);
  assert.equal(await evil(), 101);
  editConfig(server, (toml) => toml.replace('check_origins = false', 'check_origins = true'));
  assert.equal((await reload(server)).config_error, null);
  assert.equal(await evil(), 403);
  const socket = await connect(t, server, { extraHeaders: { cookie: 'id=1', origin: LISTED } });
  const [{ granted }] = await ask(socket, 'capabilities', [{ call: 'handshake' }]);
  assert.deepEqual(granted.headers, [['cookie', 'id=1']]);
  assert.equal((await plugin(server, 'capabilities')).state, 'serving');
});
