// The example page in a real browser, served by the host.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get } from 'node:http';
import { after, test } from 'node:test';
import { keepScreenshot, launch, openPage } from '../support/browser.mjs';
import { ROOT, startServer } from '../support/server.mjs';
import { seconds, sign, token } from '../support/tokens.mjs';
import { until } from '../support/wait.mjs';

const WEB = `[web]\nroot = ${JSON.stringify(`${ROOT}examples/web`)}\n`;
const CLIENT = `client = ${JSON.stringify(`${ROOT}examples/web/node_modules/socket.io-client/dist`)}\n`;

const PLUGINS = [
  { wasm: 'custom-event', grants: ['emit:custom_response'] },
  { wasm: 'booking', grants: ['role:admin:new_booking', 'notify'] },
];

const browser = await launch({ after });

// Without a secret, as a newcomer starts it.
const server = await startServer(
  { after },
  {
    config: WEB + CLIENT,
    plugins: PLUGINS,
    // As it is by default.
    recovery: true,
    env: { JWT_SECRET: undefined, MIXLAB_API_KEY: undefined },
  },
);
const secret = await startServer({ after }, { config: WEB + CLIENT, plugins: PLUGINS, recovery: true });

const printed = await until(() => server.output().match(/backends\n/) && server.output());
const [ada, grace] = [...printed.matchAll(/^ +page +(\S+)$/gm)].map(([, link]) => link);

/** Waits until an element's text matches. */
async function shows(page, selector, pattern) {
  const locator = page.locator(selector);
  let text;
  await until(async () => pattern.test((text = await locator.innerText())), {
    // A browser that shares two cores with other tests stands still for seconds now and then.
    timeout: 30_000,
    message: () => `${selector} shows ${pattern} and not ${JSON.stringify(text)}; errors: ${page.errors}`,
  });
}

/** The newest row of the log for an event or a call. */
const row = (page, event, kind = 'event', direction = 'in') =>
  page.locator(`#log li[data-event="${event}"][data-kind="${kind}"][data-direction="${direction}"]`).first();

/** The JSON that the newest row shows. */
const logged = async (page, ...which) =>
  JSON.parse(
    await row(page, ...which)
      .locator('pre')
      .innerText(),
  );

async function connectedPage(t, link) {
  const page = await openPage(t, browser, link);
  await shows(page, '#badge-state', /^Connected$/);
  // A page that is closed in the midst of its upgrade is a socket until its next ping fails, and pushes count it.
  await shows(page, '#badge-detail', /^websocket · \S+$/);
  return page;
}

const noErrors = (page) => assert.deepEqual(page.errors, []);

for (const [name, id, role, link] of [
  ['ada', '1', 'admin', ada],
  ['grace', '2', 'student', grace],
]) {
  test(`the printed link connects as ${name} and takes token and key out of the address`, async (t) => {
    const page = await connectedPage(t, link);
    await shows(page, '#user-name', new RegExp(`^${name}$`));
    await shows(page, '#user-id', new RegExp(`^${id}$`));
    await shows(page, '#user-roles', new RegExp(`^${role}$`));
    assert.equal(page.url(), `${server.url}/socket-example.html`);
    assert.deepEqual((await logged(page, 'authenticated')).user, { id, username: name, role, roles: [role] });
      noErrors(page);
  });
}

test('the start page leads to the example page', async (t) => {
  const page = await openPage(t, browser, server.url);
  assert.equal(page.url(), `${server.url}/socket-example.html`);
  noErrors(page);
});

test('a pushed payment reaches a page that subscribed', async (t) => {
  const page = await connectedPage(t, ada);
  await page.click('#subscribe');
  await shows(page, '#payments-result', /^Subscribed\.$/);
  await page.fill('#payment-invoice', 'inv_from_the_page');
  await page.fill('#payment-amount', '12.5');
  await page.click('#push-payment');
  await shows(page, '#push-result', /^Delivered to 1 socket\.$/);
  const update = await logged(page, 'payment_update');
  assert.equal(update.type, 'payment_update');
  assert.deepEqual(update.data, { invoiceId: 'inv_from_the_page', status: 'paid', amount: 12.5 });
  await shows(page, '#payments-last', /inv_from_the_page · paid · 12\.5/);

  await page.click('#unsubscribe');
  await shows(page, '#payments-result', /^Not subscribed\.$/);
  await page.click('#push-payment');
  await shows(page, '#push-result', /^Delivered to 0 sockets\.$/);
  noErrors(page);
});

test('a pushed notification pops up', async (t) => {
  const page = await connectedPage(t, grace);
  await until(async () => (await page.inputValue('#notification-user')) === '2', { message: 'the own id is offered' });
  await page.fill('#notification-title', 'Hello <b>Grace</b>');
  await page.fill('#notification-message', 'from a backend');
  await page.click('#push-notification');
  await shows(page, '#push-result', /^Delivered to 1 socket\.$/);
  await shows(page, '#toast-title', /^Hello <b>Grace<\/b>$/);
  await shows(page, '#toast-message', /^from a backend$/);
  assert.equal((await logged(page, 'notification')).title, 'Hello <b>Grace</b>');
  await page.click('#toast-close');
  await until(() => page.locator('#toast').isHidden());
  noErrors(page);
});

test('a custom event is answered with custom_response', async (t) => {
  const page = await connectedPage(t, ada);
  await page.fill('#custom-data', '{ "some": ["data", 1, null] }');
  await page.click('#send-custom');
  await shows(page, '#custom-result', /^Handled\.$/);
  assert.deepEqual(await logged(page, 'custom_response'), { some: ['data', 1, null] });
  assert.deepEqual(await logged(page, 'custom_event', 'ack'), { some: ['data', 1, null] });
  assert.deepEqual(await logged(page, 'custom_event', 'event', 'out'), { some: ['data', 1, null] });
  noErrors(page);
});

test('what is not JSON is said and not sent', async (t) => {
  const page = await connectedPage(t, ada);
  await page.fill('#custom-data', '{ "some": ');
  await page.click('#send-custom');
  await shows(page, '#custom-error', /^Not valid JSON: /);
  assert.equal(await row(page, 'custom_event', 'event', 'out').count(), 0);
  noErrors(page);
});

test('an event that nobody handles shows its error', async (t) => {
  const page = await connectedPage(t, ada);
  await page.fill('#custom-event', 'nobody:knows');
  await page.click('#send-custom');
  await shows(page, '#custom-result', /^unknown_event: /);
  noErrors(page);
});

test('a booking is confirmed, and the admins hear of it', async (t) => {
  const admin = await connectedPage(t, ada);
  const page = await connectedPage(t, grace);
  await page.fill('#booking-studio', 'Studio 7');
  await page.fill('#booking-hours', '3');
  await page.click('#booking-create');
  await shows(page, '#booking-result', /^Studio 7 is booked for 3 h\.$/);
  await shows(page, '#toast-title', /^Booking Confirmed$/);
  await row(admin, 'new_booking').waitFor();
  const booking = await logged(admin, 'new_booking');
  assert.deepEqual([booking.studio, booking.hours, booking.userId], ['Studio 7', 3, '2']);
  assert.deepEqual(await logged(page, 'booking:create', 'ack'), booking);
  await keepScreenshot(page, 'example-page');
  noErrors(page);
  noErrors(admin);
});

test('a page disconnects and connects again', async (t) => {
  const page = await connectedPage(t, ada);
  await shows(page, '#user-name', /^ada$/);
  await page.click('#disconnect');
  await shows(page, '#badge-state', /^Disconnected$/);
  await shows(page, '#user-name', /^not connected$/);
  assert.equal(await page.locator('#send-custom').isDisabled(), true);
  await page.click('#connect');
  await shows(page, '#badge-state', /^Connected$/);
  await shows(page, '#user-name', /^ada$/);
  noErrors(page);
});

test('a page that disconnects in the midst of its upgrade is disconnected', async (t) => {
  const page = await openPage(t, browser, server.url);
  const transport = await page.evaluate(() => new Promise((resolve) => {
    // The upgrade's first packet is held back until the page is connected.
    const { send } = WebSocket.prototype;
    const held = [];
    WebSocket.prototype.send = function (data) {
      held.push(() => send.call(this, data));
    };
    const shown = socketClient.onConnect;
    socketClient.onConnect = () => {
      shown();
      const { engine } = socketClient.socket.io;
      engine.on('upgrading', () => {
        const { name } = engine.transport;
        engine.on('close', () => resolve(name));
        document.getElementById('disconnect').click();
      });
      WebSocket.prototype.send = send;
      held.forEach((again) => again());
    };
    document.getElementById('connect').click();
  }));
  assert.equal(transport, 'polling');
  await shows(page, '#badge-state', /^Disconnected$/);
  noErrors(page);
});

for (const [name, bad, pattern] of [
  ['a token that is garbage', 'garbage-as-a-token', /^unauthorized/],
  ['a token of another key', sign({ sub: 1, exp: seconds(60) }, { secret: 'another' }), /^unauthorized/],
  ['a token that has expired', sign({ sub: 1, exp: seconds(-60) }), /^token_expired/],
]) {
  test(`${name} is said, on connecting and on authenticating`, async (t) => {
    const page = await openPage(t, browser, `${secret.url}/socket-example.html#token=${bad}`);
    await shows(page, '#connection-result', pattern);
    await shows(page, '#badge-state', /^Disconnected$/);
    await page.fill('#token', '');
    await page.click('#connect');
    await shows(page, '#badge-state', /^Connected$/);
    await page.fill('#token', bad);
    await page.click('#authenticate');
    await shows(page, '#connection-result', pattern);
    await shows(page, '#badge-state', /^Connected$/);
    // A client that is refused hangs up between two polls, and the second may find no session.
    // Chromium complains of an upgrade that the client gave up, too.
    const hangingUp = /status of 400 .*transport=polling|WebSocket is closed before the connection is established/;
    page.errors = page.errors.filter((error) => !hangingUp.test(error));
    noErrors(page);
  });
}

test('an anonymous page is refused payments, and gets them once it has authenticated', async (t) => {
  const page = await openPage(t, browser, `${secret.url}/socket-example.html`);
  await page.click('#connect');
  await shows(page, '#user-name', /^anonymous$/);
  await page.click('#subscribe');
  await shows(page, '#payments-result', /^unauthorized: /);
  await page.fill('#token', token({ sub: 9, username: 'late', roles: ['a', 'b'] }));
  await page.click('#authenticate');
  await shows(page, '#user-name', /^late$/);
  await shows(page, '#user-roles', /^a, b$/);
  await page.click('#subscribe');
  await shows(page, '#payments-result', /^Subscribed\.$/);
  assert.deepEqual((await secret.api('POST', '/api/v1/payments/updates', { invoiceId: 'x' })).body, { delivered: 1 });
  await row(page, 'payment_update').waitFor();
  noErrors(page);
});

test('tokens and keys are never shown', async (t) => {
  const page = await connectedPage(t, ada);
  const { token: shown, key } = Object.fromEntries(new URLSearchParams(new URL(ada).hash.slice(1)));
  await page.fill('#custom-data', JSON.stringify({ shown, key }));
  await page.click('#push-payment');
  await shows(page, '#push-result', /^Delivered/);
  await page.click('#send-custom');
  await shows(page, '#custom-result', /^Handled\.$/);
  const log = await page.locator('#log').innerText();
  assert.ok(!log.includes(shown) && !log.includes(key));
  assert.match(log, /\(hidden\)/);
});

test('a wrong API key is said', async (t) => {
  const page = await connectedPage(t, ada);
  await page.fill('#api-key', 'wrong');
  await page.click('#push-payment');
  await shows(page, '#push-result', /^unauthorized: /);
  assert.equal(page.errors.length, 1, 'the browser itself notes a 401');
});

test('a page comes back, subscription and all, when the server does', async (t) => {
  const options = { config: WEB + CLIENT, plugins: PLUGINS };
  const first = await startServer(t, options);
  const page = await connectedPage(t, `${first.url}/socket-example.html#token=${token({ sub: 1, username: 'ada' })}`);
  await page.click('#subscribe');
  await shows(page, '#payments-result', /^Subscribed\.$/);
  assert.equal(await first.stop(), 0);
  await shows(page, '#badge-state', /^Connecting$/);
  const second = await startServer(t, { ...options, listen: first.address });
  await shows(page, '#badge-state', /^Connected$/);
  await shows(page, '#user-name', /^ada$/);
  await until(async () => (await second.api('POST', '/api/v1/payments/updates', {})).body.delivered === 1);
});

test('where origins are checked, own pages connect, and those of other sites do not', async (t) => {
  const checked = await startServer(t, {
    config: `${WEB}${CLIENT}[cors]\ncheck_origins = true\n`,
    plugins: PLUGINS,
  });
  const own = await connectedPage(t, `${checked.url}/socket-example.html#token=${token({ sub: 1, username: 'ada' })}`);
  noErrors(own);

  // Another port is another site, and a browser lets its page open a websocket here all the same.
  const foreign = await openPage(t, browser, `${server.url}/socket-example.html`);
  const connects = (url) =>
    foreign.evaluate(
      (url) =>
        new Promise((resolve) => {
          const socket = globalThis.io(url, { transports: ['websocket'], reconnection: false, forceNew: true });
          for (const event of ['connect', 'connect_error']) socket.once(event, () => resolve(event));
        }),
      url,
    );
  assert.equal(await connects(secret.url), 'connect', 'by default');
  assert.equal(await connects(checked.url), 'connect_error');
});

test('without the bundle of the client the page says what to do', async (t) => {
  const bare = await startServer(t, { config: `${WEB}client = "nowhere"\n`, plugins: PLUGINS });
  const page = await openPage(t, browser, `${bare.url}/socket-example.html`);
  await page.locator('#missing-client').waitFor();
  await shows(page, '#missing-client', /npm ci --prefix examples\/web/);
  assert.ok(
    page.errors.every((error) => error.includes('socket.io.min.js')),
    `${page.errors}`,
  );
});

test('installed packages, dot files and what is outside of the folder are not served', async () => {
  for (const path of [
    '/node_modules/ws/package.json',
    '/node_modules',
    '/.npmrc',
    '/%2enpmrc',
    '/../backend/push.sh',
    '/%2e%2e/backend/push.sh',
    '/..%2fbackend%2fpush.sh',
    '/%2e./backend/push.sh',
    '//etc/passwd',
    '/socket.io/../.npmrc',
    '/%00',
  ]) {
    // Unlike fetch, this sends the path as it is.
    const [answer] = await once(get({ port: server.port, host: '127.0.0.1', path }), 'response');
    answer.resume();
    assert.equal(answer.statusCode, 404, path);
  }
});
