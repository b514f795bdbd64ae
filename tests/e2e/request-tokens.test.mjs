// Tokens in a cookie or a header of the request by which a session begins.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { after, describe, test } from 'node:test';
import { launch, openPage, STOCK_CLIENT } from '../support/browser.mjs';
import { ask, connect, disconnected, nextEvent, received, TRANSPORTS } from '../support/client.mjs';
import { editConfig, reload } from '../support/plugins.mjs';
import { rawPolling } from '../support/raw.mjs';
import { EMBED, startServer } from '../support/server.mjs';
import { seconds, sign, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const CONFIG = `
[log]
level = "trace"

[auth]
cookie = "session"
header = "authorization"
leeway = "0s"
expiry_warning = "1s"

[cors]
check_origins = true
`;

const PLUGINS = [
  {
    wasm: 'capabilities',
    grants: ['payments', 'notify', 'role:*', 'clients', 'room:*', 'emit', 'ask', 'find', 'disconnect', 'handshake', 'header:x-*'],
  },
  { wasm: 'conformance', grants: ['emit', 'ask', 'room:*', 'namespace:/*', 'handshake', 'disconnect'] },
];

const server = await startServer({ after }, { config: CONFIG, plugins: PLUGINS });

const cookie = (of, name = 'session') => ({ cookie: `theme=dark; ${name}=${of}` });
const bearer = (of) => ({ authorization: `Bearer ${of}` });
const of = (sub) => token({ sub });

/** Whose a connection is that is opened so; null is nobody, and a text in brackets why it is refused. */
async function whose(t, options, on = server) {
  try {
    const socket = await connect(t, on, options);
    // `authenticated` is sent before any answer.
    await ask(socket, 'capabilities', [{ call: 'handshake' }]);
    const [said] = received(socket, 'authenticated');
    socket.disconnect();
    return said ? said[0].user.id : null;
  } catch (error) {
    return `[${error.message}]`;
  }
}

for (const transport of TRANSPORTS) {
  const transports = [transport];

  test(`a token is taken from the auth object, then from the header, then from the cookie: ${transport}`, async (t) => {
    const [good, other, third] = [of('auth'), of('header'), of('cookie')];
    const bad = `${good}x`;
    for (const [options, user] of [
      [{ extraHeaders: cookie(third) }, 'cookie'],
      [{ extraHeaders: bearer(other) }, 'header'],
      [{ extraHeaders: { ...cookie(third), ...bearer(other) } }, 'header'],
      [{ token: good, extraHeaders: { ...cookie(third), ...bearer(other) } }, 'auth'],
      [{ auth: { token: null }, extraHeaders: cookie(third) }, 'cookie'],
      [{ extraHeaders: { ...cookie(third), authorization: 'Basic YTpi' } }, 'cookie'],
      [{ token: bad, extraHeaders: cookie(third) }, '[unauthorized]'],
      [{ extraHeaders: { ...cookie(third), ...bearer(bad) } }, '[unauthorized]'],
      [{ extraHeaders: cookie(bad) }, '[unauthorized]'],
      [{ extraHeaders: cookie(sign({ sub: 'late', exp: seconds(-60) })) }, '[token_expired]'],
      [{ extraHeaders: { cookie: `session=${third}; session=${other}` } }, '[unauthorized]'],
      [{ extraHeaders: cookie('') }, null],
      [{ extraHeaders: cookie(third, 'Session') }, null],
      [{}, null],
    ]) {
      assert.equal(await whose(t, { transports, ...options }), user, JSON.stringify(options));
    }
  });

  test(`no plugin learns the token, and no log has it: ${transport}`, async (t) => {
    const mine = of('hidden');
    const extraHeaders = { ...cookie(mine), ...bearer(mine), 'x-mine': '1' };
    const socket = await connect(t, server, { transports, extraHeaders });
    const [{ granted }] = await ask(socket, 'capabilities', [{ call: 'handshake' }]);
    assert.deepEqual(granted, { query: [], headers: [['x-mine', '1']] });
    await connect(t, server, { transports, extraHeaders: cookie(`${mine}x`) }).catch(() => {});
    await server.waitForLog(/connection refused: the token is not valid/);
    assert.ok(!server.log().includes(mine.split('.')[2]));
  });

  test(`a connection ends with the token of its cookie, and its client is back with a fresh one: ${transport}`, async (t) => {
    const extraHeaders = cookie(sign({ sub: 'first', exp: seconds(4) }));
    const socket = await connect(t, server, { transports, extraHeaders, reconnection: true, reconnectionDelay: 10 });
    assert.equal((await nextEvent(socket, 'authenticated'))[0].user.id, 'first');
    const [{ error }] = await nextEvent(socket, 'mixlab:error');
    assert.equal(error.code, 'token_expired');
    // As a browser does when the site has renewed the cookie.
    extraHeaders.cookie = cookie(of('second')).cookie;
    assert.match(await disconnected(socket), /^transport /);
    assert.equal((await nextEvent(socket, 'authenticated'))[0].user.id, 'second');
  });
}

test('all namespaces of a session have its token, each by itself', async (t) => {
  const extraHeaders = cookie(of('everywhere'));
  const main = await connect(t, server, { extraHeaders, multiplex: true, forceNew: false });
  const other = main.io.socket('/custom', { auth: { token: of('there') } });
  const third = main.io.socket('/foo');
  const user = (socket) => new Promise((resolve) => socket.once('authenticated', ({ user }) => resolve(user.id)));
  const [there, everywhere] = [user(other), user(third)];
  for (const socket of [other, third]) socket.connect();
  t.after(() => main.io.engine.close());
  assert.deepEqual([await there, await everywhere], ['there', 'everywhere']);
});

test('authenticate goes over the cookie, and what is revoked is refused', async (t) => {
  const extraHeaders = cookie(token({ sub: 'gone', jti: 'gone-1' }));
  const socket = await connect(t, server, { extraHeaders });
  assert.equal((await ask(socket, 'authenticate', of('somebody'))).user.id, 'somebody');
  assert.equal((await server.api('POST', '/api/v1/revocations', { token_id: 'gone-1' })).status, 200);
  assert.equal(await whose(t, { extraHeaders }), '[token_revoked]');
  assert.equal(socket.connected, true, 'it is somebody else by now');
});

test('only the request by which a session begins counts', async (t) => {
  const polls = await rawPolling(server);
  const headers = cookie(of('later'));
  for (const body of ['40', '427["message-with-ack",1]']) {
    assert.equal((await fetch(polls.url, { method: 'POST', body, headers })).status, 200);
  }
  const heard = [];
  await until(async () => /\b437\[1\]/.test(heard[heard.push((await polls.get({ headers })).text) - 1]));
  assert.match(heard.join(), /40\{"sid"/);
  // It came as nobody, although all later requests have a token.
  assert.ok(!heard.join().includes('authenticated'), heard.join());
});

test('a token that is too large is refused', async () => {
  const open = async (size) => {
    const answer = await fetch(`${server.url}/socket.io/?EIO=4&transport=polling`, { headers: cookie('x'.repeat(size)) });
    return answer.status;
  };
  assert.equal(await open(16_000), 200);
  assert.equal(await open(16_385), 431);
});

test('a cookie that is not read any more lets nobody in', async (t) => {
  const server = await startServer(t, { config: CONFIG, plugins: PLUGINS });
  const extraHeaders = cookie(of('former'));
  const main = await connect(t, server, { extraHeaders, multiplex: true, forceNew: false });
  editConfig(server, (toml) => toml.replace(/^(cookie|header) = .*$/gm, ''));
  await reload(server);
  assert.equal(await whose(t, { extraHeaders }, server), null);
  const other = main.io.socket('/custom');
  let user = null;
  other.on('authenticated', (said) => (user = said.user.id));
  other.connect();
  await until(() => other.connected);
  await ask(other, 'message-with-ack', 1);
  assert.equal(user, null, 'a session that began before has no more than others');
});

test('any header may hold the token', async (t) => {
  const config = '[auth]\nanonymous = false\nheader = "X-Access-Token"\n[cors]\ncheck_origins = true\n';
  const server = await startServer(t, { config, plugins: PLUGINS });
  assert.equal(await whose(t, { extraHeaders: { 'x-access-token': of('raw') } }, server), 'raw');
  assert.equal(await whose(t, { extraHeaders: bearer(of('bearer')) }, server), '[unauthorized]');
});

test('native handlers have it, too', async (t) => {
  const server = await startServer(t, { embedding: EMBED, config: CONFIG, plugins: [] });
  for (const transport of TRANSPORTS) {
    for (const extraHeaders of [cookie(of('native')), bearer(of('native'))]) {
      const socket = await connect(t, server, { path: '/native.io', transports: [transport], extraHeaders });
      assert.equal((await ask(socket, 'who')).user.id, 'native');
    }
  }
});

/** A page of another origin, same host and other port, to which browsers send the same cookies; those that came. */
async function otherSite(t) {
  const cookies = [];
  const page = createServer(({ headers }, answer) => cookies.push(headers.cookie) && answer.setHeader('content-type', 'text/html').end('<!doctype html><title>x</title>'));
  page.listen(0, '127.0.0.1');
  await once(page, 'listening');
  t.after(() => page.close());
  return { url: `http://127.0.0.1:${page.address().port}/`, cookies };
}

describe('in Chromium', () => {
  /** What the stock client in a page hears that connects to the server. */
  const inPage = (page, url, transport) =>
    page.evaluate(
      async ([url, transport]) => {
        const socket = window.io(url, { transports: [transport], withCredentials: true, reconnection: false, forceNew: true });
        const heard = await new Promise((resolve) => {
          socket.on('authenticated', ({ user }) => resolve(user.id));
          socket.on('connect_error', (error) => resolve(`[${error.message}]`));
        });
        socket.disconnect();
        return heard;
      },
      [url, transport],
    );

  test('a page of the server is its visitor by a cookie that it cannot read; one of another site is not', async (t) => {
    const browser = await launch(t);
    const page = await openPage(t, browser, `${server.url}/healthz`);
    await page.addScriptTag({ path: STOCK_CLIENT });
    await page.context().addCookies([
      { name: 'session', value: of('visitor'), url: server.url, httpOnly: true, sameSite: 'Lax' },
    ]);
    assert.equal(await page.evaluate(() => document.cookie), '');
    for (const transport of TRANSPORTS) assert.equal(await inPage(page, server.url, transport), 'visitor');

    // The attack. Ports are no part of a site, so that SameSite does not help.
    const evil = await page.context().newPage();
    const site = await otherSite(t);
    await evil.goto(site.url);
    assert.match(site.cookies[0], /^session=/, 'the browser sends the cookie there, too');
    await evil.addScriptTag({ path: STOCK_CLIENT });
    for (const transport of TRANSPORTS) {
      assert.match(await inPage(evil, server.url, transport), /^\[(websocket|xhr poll) error\]$/);
    }
    const sent = await evil.evaluate(
      (url) => fetch(`${url}/socket.io/?EIO=4&transport=polling`, { credentials: 'include', mode: 'no-cors' }).then((answer) => answer.type),
      server.url,
    );
    assert.equal(sent, 'opaque', 'it reads nothing of what it is answered');
  });
});
