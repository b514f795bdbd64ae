// A backend's side of MixLab's HTTP API, in the style of Socket.IO's `io`. Types and their docs are in index.d.ts.
import { Backend, segment } from './request.js';
import { Selection } from './selection.js';

export { MixLabError } from './request.js';

export class MixLab extends Selection {
  #backend;

  constructor(options) {
    const backend = new Backend(options);
    super(backend, {});
    this.#backend = backend;
  }

  async emitAll(emits) {
    const body = emits.map((emit) => emit.toJSON());
    const answers = await this.#backend.post('emit', body, { once: true });
    return answers.map(({ delivered }) => delivered);
  }

  disconnectUser(id, { close = false } = {}) {
    return this.#backend.post(`users/${segment(id)}/disconnect`, { close }).then(({ disconnected }) => disconnected);
  }

  clientsCount() {
    return this.#backend.get('clients/count').then(({ count }) => count);
  }

  broadcastPaymentUpdate(data) {
    return this.#push('payments/updates', data);
  }

  sendUserNotification(id, notification) {
    return this.#push(`users/${segment(id)}/notifications`, notification);
  }

  broadcastToRole(role, event, data) {
    return this.#push(`roles/${segment(role)}/events/${segment(event)}`, data);
  }

  revoke({ user, tokenId, session, for: time }) {
    const what = { user: user === undefined ? undefined : String(user), token_id: tokenId, session, for: time };
    return this.#backend.post('revocations', what);
  }

  #push(path, data) {
    return this.#backend.post(path, data, { once: true }).then(({ delivered }) => delivered);
  }
}
