'use strict';

/**
 * A thin wrapper around the stock Socket.IO client: one connection, the events every MixLab
 * server speaks, and handlers that survive a reconnect. In a page, load
 * `/socket.io/socket.io.min.js` first; this script then defines `socketClient` and `SocketClient`.
 * In Node: `const { SocketClient } = require('./socket-client.js')`.
 *
 *     socketClient.onPaymentUpdate = (update) => console.log(update.data);
 *     socketClient.connect(token);
 *     socketClient.subscribeToPayments();
 *
 * @typedef {{id: number|string, username: string, role: string, roles: string[]}} User
 * @typedef {object} SocketError
 * @property {string} code         stable, for programs: `token_expired`, `rate_limited`, …
 * @property {string} message      for people
 * @property {boolean} [temporary] the same call may succeed later
 * @property {number} [retry_after_ms]
 * @property {*} [details]
 * @property {string} [trace_id]   names this failure in the server's log
 * @typedef {{success: true} | {error: SocketError}} Reply
 */
class SocketClient {
  /** The socket.io socket of the current connection, or null. Replaced by every connect(). */
  socket = null;
  _handlers = []; // [event, handler] pairs, put on every new socket
  _payments = null; // the last wish about payments: { wanted, state, onReply }

  // Override these six.
  onConnect() {}
  /** @param {string} reason as socket.io names it, such as `transport close` */
  onDisconnect(reason) {}
  /** @param {User} user */
  onAuthenticated(user) {}
  /** @param {{type: 'payment_update', data: object, timestamp: string}} update */
  onPaymentUpdate(update) {}
  /** @param {{title: string, message: string, type: string, timestamp: string}} notification */
  onNotification(notification) {}
  /**
   * A refused or failed connection (`unauthorized`, `token_expired`, `connection_failed`), a
   * refused token, or an event that failed where nobody waited for its reply. `token_expired` also
   * comes some time before the connection ends with its token: authenticate() with a fresh one then,
   * or connect() again.
   * @param {SocketError} error
   */
  onError(error) {
    console.warn(`socket: ${error.code}: ${error.message}`);
  }

  get connected() {
    return this.socket?.connected ?? false;
  }

  /** Whether the client is connected or still trying. False once the server refused the token. */
  get active() {
    return this.socket?.active ?? false;
  }

  /**
   * Opens a connection; one that is open is closed first. A lost connection is opened again with
   * the same token. A refused token is not tried again: call connect() with a better one.
   * @param {string} [token] without one the connection is anonymous
   * @param {string} [url] of the server; by default the one that the page came from
   */
  connect(token, url) {
    const open = globalThis.io ?? (typeof require === 'function' && require('socket.io-client').io);
    if (!open) throw new Error('The Socket.IO client is missing: load /socket.io/socket.io.min.js first');

    this.disconnect();
    const options = { auth: token ? { token } : {}, forceNew: true };
    const socket = url ? open(url, options) : open(options);
    this.socket = socket;

    socket.on('connect', () => {
      this._restorePayments(socket.recovered);
      this.onConnect();
    });
    socket.on('disconnect', (reason) => this.onDisconnect(reason));
    socket.on('connect_error', ({ message }) => {
      // While the socket stays active the network failed and socket.io tries again by itself;
      // otherwise the server refused the connection, and the message is the code.
      const temporary = socket.active;
      this.onError({ code: temporary ? 'connection_failed' : message, message, temporary });
    });
    socket.on('authenticated', (reply) => {
      if (!reply.success) return this.onError(reply.error);
      // What an anonymous connection was refused, this user may be allowed.
      if (this._payments?.wanted && this._payments.state === 'refused') this._sendPayments();
      this.onAuthenticated(reply.user);
    });
    socket.on('payment_update', (update) => this.onPaymentUpdate(update));
    socket.on('notification', (notification) => this.onNotification(notification));
    socket.on('mixlab:error', ({ error }) => this.onError(error));
    for (const [event, handler] of this._handlers) socket.on(event, handler);
  }

  /** Closes the connection. Handlers and the payments subscription are kept for the next one. */
  disconnect() {
    this.socket?.disconnect();
    this.socket = null;
  }

  /**
   * Signs in on the open connection. A token that the server accepts is used for reconnects too.
   * @param {string} token
   * @param {(reply: object) => void} [onReply] gets what the event `authenticated` carries
   */
  authenticate(token, onReply) {
    const socket = this.socket;
    this.emit('authenticate', token, (reply) => {
      if (reply?.success) socket.auth = { token };
      onReply?.(reply);
    });
  }

  /**
   * Asks for payment updates: now if connected, and again after every reconnect that lost them,
   * since rooms belong to a connection. May be called before connect().
   * @param {(reply: Reply) => void} [onReply] called each time the server answers; without it a
   *   refusal goes to onError
   */
  subscribeToPayments(onReply) {
    this._wishPayments(true, onReply);
  }

  /** @param {(reply: Reply) => void} [onReply] */
  unsubscribeFromPayments(onReply) {
    this._wishPayments(false, onReply);
  }

  /**
   * Sends an event. A function as last argument is called with the server's reply (its ack).
   * While a lost connection is being restored the event waits.
   */
  emit(event, ...args) {
    // Without a live socket, socket.io would keep the event for ever and nobody would know.
    if (!this.active) throw new Error(`Cannot send ${event}: not connected`);
    this.socket.emit(event, ...args);
  }

  /** Adds a handler for an event from the server, on this connection and every later one. */
  on(event, handler) {
    this._handlers.push([event, handler]);
    this.socket?.on(event, handler);
  }

  /** Removes one handler, or all that on() added for the event. */
  off(event, handler) {
    const goes = ([e, h]) => e === event && (!handler || h === handler);
    for (const [, h] of this._handlers.filter(goes)) this.socket?.off(event, h);
    this._handlers = this._handlers.filter((entry) => !goes(entry));
  }

  _wishPayments(wanted, onReply) {
    this._payments = { wanted, onReply, state: 'unsent' };
    if (this.connected) this._sendPayments();
  }

  _restorePayments(recovered) {
    const wish = this._payments;
    if (wish && (recovered ? wish.state !== 'done' : wish.wanted)) this._sendPayments();
  }

  _sendPayments() {
    const wish = this._payments;
    wish.state = 'sent';
    this.socket.emit(wish.wanted ? 'subscribe:payments' : 'unsubscribe:payments', (reply) => {
      wish.state = reply?.error ? 'refused' : 'done';
      if (wish.onReply) wish.onReply(reply);
      else if (reply?.error) this.onError(reply.error);
    });
  }
}

/** The one connection that most pages need. */
const socketClient = new SocketClient();

if (typeof module === 'object' && module.exports) module.exports = { SocketClient, socketClient };
else Object.assign(globalThis, { SocketClient, socketClient });
