// `cx`: what a handler knows, and what it may do.
import * as natives from "mixlab:natives";
import { milliseconds, read, write } from "mixlab:call";

const { parse, stringify } = JSON;

/** How long clients are waited for, unless a call says otherwise. */
const ASK_MS = 3000;

/** The context of the call that is under way. */
let current;

/** Begins a call. */
export function enter(cx) {
    current = cx;
}

/** The name of what the call is for; none if there is none. */
export const underWay = () => current?.event;

function live(cx) {
    if (cx !== current) throw new Error("this cx is of a call that has ended");
}

const json = (value) => stringify(value === undefined ? null : value);

/** Whom something is for, or about. It is made by `cx`, and does nothing until one of its methods is called. */
class Selection {
    #cx;
    #who;
    #how;
    constructor(cx, who, how) {
        this.#cx = cx;
        this.#who = who;
        this.#how = how;
    }
    #with(list, names) {
        return new Selection(this.#cx, { ...this.#who, [list]: [...this.#who[list], ...names.map(String)] }, this.#how);
    }
    #text() {
        live(this.#cx);
        return stringify(this.#who);
    }
    of(namespace) {
        return new Selection(this.#cx, { ...this.#who, namespace: String(namespace) }, this.#how);
    }
    to(...rooms) {
        return this.#with("rooms", rooms);
    }
    toUser(...ids) {
        return this.#with("users", ids);
    }
    toRole(...roles) {
        return this.#with("roles", roles);
    }
    toSocket(...ids) {
        return this.#with("sockets", ids);
    }
    except(...rooms) {
        return this.#with("except", rooms);
    }
    includeSender() {
        return new Selection(this.#cx, { ...this.#who, include_sender: true }, this.#how);
    }
    volatile() {
        return new Selection(this.#cx, this.#who, { ...this.#how, volatile: true });
    }
    keep(topic) {
        return new Selection(this.#cx, this.#who, { ...this.#how, keep: String(topic) });
    }
    timeout(duration) {
        return new Selection(this.#cx, this.#who, { ...this.#how, timeout: milliseconds(duration) });
    }
    emit(event, ...args) {
        const { volatile, keep } = this.#how;
        const { text, bytes } = write(args);
        natives.emit(this.#text(), event, text, bytes, volatile, keep);
    }
    async ask(event, ...args) {
        const { text, bytes } = write(args);
        const asked = natives.askSockets(this.#text(), event, text, bytes, this.#how.timeout);
        const answers = asked[0].map(([socket, text, bytes]) => ({ socket, reply: read(text, bytes)[0] }));
        return { answers, missing: asked[1] };
    }
    async find() {
        return parse(natives.find(this.#text())).map(({ connection, rooms, data }) => ({
            ...person(connection),
            rooms,
            data: parse(data),
        }));
    }
    async count() {
        return natives.count(this.#text());
    }
    join(room) {
        natives.joinSockets(this.#text(), room);
    }
    leave(room) {
        natives.leaveSockets(this.#text(), room);
    }
    disconnect() {
        natives.disconnect(this.#text(), false);
    }
    close() {
        natives.disconnect(this.#text(), true);
    }
}

const person = ({ user, ...rest }) => ({ ...rest, user: named(user) });
const named = (user) => (user === null ? undefined : Object.freeze({ ...user, username: user.username ?? undefined }));

const NOBODY = Object.freeze({ namespace: null, rooms: [], users: [], roles: [], sockets: [], except: [], include_sender: false });
const PLAIN = Object.freeze({ volatile: false, keep: undefined, timeout: ASK_MS });

/** What the plugin remembers. */
class Store {
    #cx;
    #bucket;
    constructor(cx, bucket) {
        this.#cx = cx;
        this.#bucket = bucket;
    }
    #live() {
        live(this.#cx);
        return this.#bucket;
    }
    async get(key) {
        return parsed(natives.storeGet(this.#live(), key, false));
    }
    async getBytes(key) {
        return natives.storeGet(this.#live(), key, true) ?? undefined;
    }
    async exists(key) {
        return natives.storeExists(this.#live(), key);
    }
    async scan(prefix, { after, limit = 100 } = {}) {
        const list = natives.storeScan(this.#live(), prefix, after, limit, false);
        const entries = [];
        for (let i = 0; i < list.length; i += 2) entries.push({ key: list[i], value: parsed(list[i + 1]) });
        return entries;
    }
    set(key, value, { ttl } = {}) {
        const stored = value instanceof Uint8Array ? value : json(value);
        natives.storeSet(this.#live(), key, stored, ttl === undefined ? undefined : milliseconds(ttl));
    }
    delete(key) {
        natives.storeDelete(this.#live(), key);
    }
    add(key, delta = 1) {
        if (!Number.isSafeInteger(delta)) throw new TypeError("store.add adds whole numbers");
        natives.storeAdd(this.#live(), key, delta);
    }
    async update(key, change, options) {
        const value = await change(await this.get(key));
        this.set(key, value, options);
        return value;
    }
}

// What is no JSON is bytes that were stored as they are.
function parsed(stored) {
    if (stored === undefined || stored === null) return undefined;
    if (typeof stored !== "string") return stored;
    try {
        return parse(stored);
    } catch {
        return natives.encode(stored);
    }
}

/** Calls at a time that the plugin says. */
class Timers {
    #cx;
    constructor(cx) {
        this.#cx = cx;
    }
    set(name, payload, { after, at, every, serial } = {}) {
        live(this.#cx);
        if (after !== undefined && at !== undefined) throw new TypeError("timers.set: either after or at");
        const due = at !== undefined ? { At: Math.round(Number(at)) } : { After: milliseconds(after ?? every ?? 0) };
        natives.timerSet(
            stringify({
                name,
                due,
                payload: json(payload),
                every_ms: every === undefined ? null : milliseconds(every),
                serial: serial ?? null,
            }),
        );
    }
    cancel(name) {
        live(this.#cx);
        natives.timerCancel(name);
    }
}

/** Who is present in a room. */
class Presence {
    #cx;
    #room;
    constructor(cx, room) {
        this.#cx = cx;
        this.#room = room;
    }
    enter(data) {
        live(this.#cx);
        natives.presenceEnter(this.#room, json(data));
    }
    leave() {
        live(this.#cx);
        natives.presenceLeave(this.#room);
    }
    async members() {
        live(this.#cx);
        return parse(natives.presenceMembers(this.#room)).map((member) => ({ ...member, data: parse(member.data) }));
    }
    async count() {
        live(this.#cx);
        return natives.presenceCount(this.#room);
    }
}

export class Context {
    #event;
    #config;
    #user;
    constructor(event, config) {
        this.#event = event;
        this.#config = config;
    }
    get event() {
        return this.#event;
    }
    get config() {
        return this.#config;
    }
    get id() {
        live(this);
        return natives.id();
    }
    get namespace() {
        live(this);
        return natives.namespace();
    }
    get address() {
        live(this);
        return natives.address();
    }
    get recovered() {
        live(this);
        return natives.recovered();
    }
    get user() {
        if (this.#user === undefined) {
            live(this);
            this.#user = [named(parse(natives.user()))];
        }
        return this.#user[0];
    }
    get rooms() {
        live(this);
        return natives.joined();
    }
    get data() {
        live(this);
        return parse(natives.data());
    }
    set data(value) {
        live(this);
        natives.setData(json(value));
    }
    get handshake() {
        live(this);
        const { query, headers } = parse(natives.handshake());
        return { query: new URLSearchParams(query), headers: new Headers(headers) };
    }
    join(...rooms) {
        live(this);
        for (const room of rooms) natives.join(room);
    }
    leave(...rooms) {
        live(this);
        for (const room of rooms) natives.leave(room);
    }
    emit(event, ...args) {
        live(this);
        const { text, bytes } = write(args);
        natives.emit(null, event, text, bytes, false, undefined);
    }
    volatileEmit(event, ...args) {
        live(this);
        const { text, bytes } = write(args);
        natives.emit(null, event, text, bytes, true, undefined);
    }
    async ask(event, ...args) {
        return asked(this, ASK_MS, event, args);
    }
    timeout(duration) {
        const ms = milliseconds(duration);
        return { ask: async (event, ...args) => asked(this, ms, event, args) };
    }
    to(...rooms) {
        return new Selection(this, { ...NOBODY, rooms: rooms.map(String) }, PLAIN);
    }
    toUser(...ids) {
        return new Selection(this, { ...NOBODY, users: ids.map(String) }, PLAIN);
    }
    toRole(...roles) {
        return new Selection(this, { ...NOBODY, roles: roles.map(String) }, PLAIN);
    }
    toSocket(...ids) {
        return new Selection(this, { ...NOBODY, sockets: ids.map(String) }, PLAIN);
    }
    of(namespace) {
        return new Selection(this, { ...NOBODY, namespace: String(namespace) }, PLAIN);
    }
    get broadcast() {
        return new Selection(this, NOBODY, PLAIN);
    }
    get store() {
        return new Store(this, undefined);
    }
    bucket(name) {
        return new Store(this, String(name));
    }
    get timers() {
        return new Timers(this);
    }
    presence(room) {
        return new Presence(this, String(room));
    }
    async history(topic, { position, limit = 50 } = {}) {
        live(this);
        const page = parse(natives.since(topic, position ?? undefined, limit));
        const events = page.entries.map(({ message, ...entry }) => ({
            ...entry,
            arguments: read(message.arguments, message.attachments.length === 0 ? undefined : message.attachments.map((bytes) => Uint8Array.from(bytes))),
        }));
        return { events, position: page.position, gap: page.gap, more: page.more };
    }
    broadcastPaymentUpdate(data) {
        live(this);
        natives.paymentUpdate(json(data));
    }
    sendUserNotification(userId, notification) {
        live(this);
        natives.userNotification(String(userId), json(notification));
    }
    broadcastToRole(role, event, data) {
        live(this);
        natives.toRole(role, event, json(data));
    }
    async connectedClientsCount() {
        live(this);
        return natives.clients();
    }
    disconnect() {
        live(this);
        natives.disconnect(null, false);
    }
    close() {
        live(this);
        natives.disconnect(null, true);
    }
    uuid() {
        return crypto.randomUUID();
    }
}

function asked(cx, ms, event, args) {
    live(cx);
    const { text, bytes } = write(args);
    const [reply, attached] = natives.ask(event, text, bytes, ms);
    return read(reply, attached)[0];
}

for (const type of [Selection, Store, Timers, Presence, Context]) Object.freeze(type.prototype);
