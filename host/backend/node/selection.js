// Whom something is for: each call adds to a selection and leaves the one that it was made of as it is.
import { pack } from './binary.js';
import { named, segment } from './request.js';

const list = (value) => [value].flat().map(named);

export class Selection {
  #backend;
  #whom;

  constructor(backend, whom) {
    this.#backend = backend;
    this.#whom = whom;
  }

  to(rooms) {
    return this.#with({ rooms: list(rooms) });
  }

  in(rooms) {
    return this.to(rooms);
  }

  toUser(ids) {
    return this.#with({ users: list(ids) });
  }

  toRole(roles) {
    return this.#with({ roles: list(roles) });
  }

  toSocket(ids) {
    return this.#with({ sockets: list(ids) });
  }

  except(rooms) {
    return this.#with({ except: list(rooms) });
  }

  of(namespace) {
    return this.#with({ namespace });
  }

  get volatile() {
    return this.#with({ volatile: true });
  }

  keep(topic) {
    return this.#with({ keep: topic });
  }

  idempotencyKey(key) {
    if (!/^[\x20-\x7e]{1,255}$/.test(named(key))) throw new TypeError('an Idempotency-Key has 1 to 255 visible characters');
    return this.#with({ key });
  }

  event(name, ...args) {
    return new Emit(this.#named({ withEmit: true }), name, args);
  }

  async emit(name, ...args) {
    const { key } = this.#whom;
    const { delivered } = await this.#backend.post('emit', this.event(name, ...args).toJSON(), { once: true, key });
    return delivered;
  }

  async fetchSockets({ data = true } = {}) {
    const all = [];
    for await (const socket of this.sockets({ data })) all.push(socket);
    return all;
  }

  sockets({ data = false, limit } = {}) {
    return this.#list('sockets', { ...this.#query(), ...(data ? { data } : {}), limit });
  }

  users({ limit } = {}) {
    return this.#list('users', { ...this.#query(), limit });
  }

  rooms({ prefix, kind, limit } = {}) {
    const { namespace } = this.#whom;
    return this.#list('rooms', { namespace, prefix, kind, limit });
  }

  socket(id, { data = true } = {}) {
    return this.#one(`sockets/${segment(id)}`, { ...(data ? { data } : {}) });
  }

  user(id) {
    return this.#one(`users/${segment(id)}`, {});
  }

  socketsJoin(rooms) {
    return this.#move('join', { join: list(rooms) });
  }

  socketsLeave(rooms) {
    return this.#move('leave', { leave: list(rooms) });
  }

  disconnectSockets(close = false) {
    return this.#move('disconnect', { close });
  }

  #with(more) {
    const whom = { ...this.#whom };
    for (const [key, value] of Object.entries(more)) {
      whom[key] = Array.isArray(value) ? [...(whom[key] ?? []), ...value] : value;
    }
    return new Selection(this.#backend, whom);
  }

  /** As a body names them. Nobody in particular is everybody, as in Socket.IO. */
  #named({ withEmit = false } = {}) {
    const { namespace, rooms, users, roles, sockets, except, volatile, keep } = this.#whom;
    const isNamed = [rooms, users, roles, sockets].some((names) => names !== undefined);
    const whom = { namespace, rooms, users, roles, sockets, except, everyone: isNamed ? undefined : true };
    return withEmit ? { ...whom, volatile, keep } : whom;
  }

  #query() {
    const { namespace, rooms, users, roles, sockets, except } = this.#whom;
    // An empty list names nobody; a query without names is for everybody.
    const names = [rooms, users, roles, sockets].filter((it) => it !== undefined);
    const isNobody = names.length > 0 && names.every((it) => it.length === 0);
    return { namespace, room: rooms, user: users, role: roles, socket: sockets, except, isNobody };
  }

  async *#list(name, { isNobody, ...query }) {
    if (isNobody) return;
    for (let cursor; ; ) {
      const page = await this.#backend.get(name, { ...query, cursor });
      if (page.silent) throw this.#backend.silent(page.silent);
      yield* page[name];
      if (page.next === null) return;
      cursor = page.next;
    }
  }

  async #one(path, query) {
    const { namespace } = this.#whom;
    try {
      return await this.#backend.get(path, { namespace, ...query });
    } catch (error) {
      if (error.code === 'not_found') return null;
      throw error;
    }
  }

  async #move(path, what) {
    const { selected } = await this.#backend.post(`sockets/${path}`, { ...this.#named(), ...what });
    return selected;
  }
}

/** An event that is not sent yet. */
class Emit {
  #body;

  constructor(whom, event, args) {
    const { value, attachments } = pack(args);
    this.#body = { ...whom, event, arguments: value, ...(attachments.length > 0 ? { attachments } : {}) };
  }

  toJSON() {
    return this.#body;
  }
}
