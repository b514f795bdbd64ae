// `cx`: what a handler knows, and what it may do.
import * as natives from "mixlab:natives";
import { callable, count, id, isText, json, jsonOrNull, known, milliseconds, some, string, strings, time, wait, wrong } from "mixlab:arguments";
import { read, write } from "mixlab:call";

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
        return new Selection(this.#cx, { ...this.#who, [list]: [...this.#who[list], ...names] }, this.#how);
    }
    #text() {
        live(this.#cx);
        return stringify(this.#who);
    }
    of(namespace) {
        return new Selection(this.#cx, { ...this.#who, namespace: string(namespace, "selection.of", "namespace") }, this.#how);
    }
    to(...rooms) {
        return this.#with("rooms", some(rooms, "selection.to", "room"));
    }
    toUser(...ids) {
        return this.#with("users", users(ids, "selection.toUser"));
    }
    toRole(...roles) {
        return this.#with("roles", some(roles, "selection.toRole", "role"));
    }
    toSocket(...ids) {
        return this.#with("sockets", some(ids, "selection.toSocket", "id"));
    }
    except(...rooms) {
        return this.#with("except", strings(rooms, "selection.except", "room"));
    }
    includeSender() {
        return new Selection(this.#cx, { ...this.#who, include_sender: true }, this.#how);
    }
    volatile() {
        return new Selection(this.#cx, this.#who, { ...this.#how, volatile: true });
    }
    keep(topic) {
        return new Selection(this.#cx, this.#who, { ...this.#how, keep: string(topic, "selection.keep", "topic") });
    }
    timeout(duration) {
        return new Selection(this.#cx, this.#who, { ...this.#how, timeout: wait(duration, "selection.timeout", "duration") });
    }
    emit(event, ...args) {
        string(event, "selection.emit", "event");
        const { volatile, keep } = this.#how;
        const { text, bytes } = write(args);
        natives.emit(this.#text(), event, text, bytes, volatile, keep);
    }
    async ask(event, ...args) {
        string(event, "selection.ask", "event");
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
        natives.joinSockets(this.#text(), string(room, "selection.join", "room"));
    }
    leave(room) {
        natives.leaveSockets(this.#text(), string(room, "selection.leave", "room"));
    }
    disconnect() {
        natives.disconnect(this.#text(), false);
    }
    close() {
        natives.disconnect(this.#text(), true);
    }
}

const users = (ids, where) => some(ids.map((one) => id(one, where, "id")), where, "id");

const person = ({ user, ...rest }) => ({ ...rest, user: named(user) });
const named = (user) => (user === null ? undefined : Object.freeze({ ...user, username: user.username ?? undefined }));

const NOBODY = Object.freeze({ namespace: null, rooms: [], users: [], roles: [], sockets: [], except: [], include_sender: false });
const PLAIN = Object.freeze({ volatile: false, keep: undefined, timeout: ASK_MS });

const STORE_OPTIONS = ["ttl"];
const SCAN_OPTIONS = ["after", "limit"];

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
    /** The name of a method, as the script has called it. */
    #where(method) {
        return this.#bucket === undefined ? `cx.store.${method}` : `cx.bucket(${stringify(this.#bucket)}).${method}`;
    }
    #key(key, method) {
        return isText(key) ? key : string(key, this.#where(method), "key");
    }
    #ttl(options, method) {
        if (options === undefined) return undefined;
        const where = this.#where(method);
        const { ttl } = known(options, STORE_OPTIONS, where);
        return ttl === undefined ? undefined : milliseconds(ttl, where, "ttl");
    }
    #set(key, value, ttl, method, name) {
        const stored = value instanceof Uint8Array ? value : json(value, this.#where(method), name, "JSON or a Uint8Array");
        natives.storeSet(this.#live(), key, stored, ttl);
    }
    async get(key) {
        return parsed(natives.storeGet(this.#live(), this.#key(key, "get"), false));
    }
    async getBytes(key) {
        return natives.storeGet(this.#live(), this.#key(key, "getBytes"), true) ?? undefined;
    }
    async exists(key) {
        return natives.storeExists(this.#live(), this.#key(key, "exists"));
    }
    async scan(prefix, options = {}) {
        const where = this.#where("scan");
        string(prefix, where, "prefix");
        const { after, limit = 100 } = known(options, SCAN_OPTIONS, where);
        if (after !== undefined && after !== null) string(after, where, "after");
        const list = natives.storeScan(this.#live(), prefix, after, count(limit, where, "limit"), false);
        const entries = [];
        for (let i = 0; i < list.length; i += 2) entries.push({ key: list[i], value: parsed(list[i + 1]) });
        return entries;
    }
    set(key, value, options) {
        this.#set(this.#key(key, "set"), value, this.#ttl(options, "set"), "set", "value");
    }
    delete(key) {
        natives.storeDelete(this.#live(), this.#key(key, "delete"));
    }
    add(key, delta = 1) {
        this.#key(key, "add");
        if (!Number.isSafeInteger(delta)) throw wrong(this.#where("add"), "delta", "a whole number", delta);
        natives.storeAdd(this.#live(), key, delta);
    }
    async update(key, change, options) {
        this.#key(key, "update");
        callable(change, this.#where("update"), "change");
        const ttl = this.#ttl(options, "update");
        const value = await change(await this.get(key));
        this.#set(key, value, ttl, "update", "what change returns");
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

const TIMER_OPTIONS = ["after", "at", "every", "serial"];

/** Calls at a time that the plugin says. */
class Timers {
    #cx;
    constructor(cx) {
        this.#cx = cx;
    }
    set(name, payload, options = {}) {
        live(this.#cx);
        string(name, "cx.timers.set", "name");
        const { after, at, every, serial } = known(options, TIMER_OPTIONS, "cx.timers.set");
        if (after !== undefined && at !== undefined) throw new TypeError("cx.timers.set: either after or at");
        const interval = every === undefined ? null : milliseconds(every, "cx.timers.set", "every");
        const due =
            at !== undefined
                ? { At: time(at, "cx.timers.set", "at") }
                : { After: after === undefined ? (interval ?? 0) : milliseconds(after, "cx.timers.set", "after") };
        natives.timerSet(
            stringify({
                name,
                due,
                payload: jsonOrNull(payload, "cx.timers.set", "payload"),
                every_ms: interval,
                serial: serial === undefined || serial === null ? null : string(serial, "cx.timers.set", "serial"),
            }),
        );
    }
    cancel(name) {
        live(this.#cx);
        natives.timerCancel(string(name, "cx.timers.cancel", "name"));
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
        natives.presenceEnter(this.#room, jsonOrNull(data, "presence.enter", "data"));
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

const HISTORY_OPTIONS = ["position", "limit"];

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
        natives.setData(jsonOrNull(value, "cx.data", "what it is set to"));
    }
    get handshake() {
        live(this);
        const { query, headers } = parse(natives.handshake());
        return { query: new URLSearchParams(query), headers: new Headers(headers) };
    }
    join(...rooms) {
        live(this);
        strings(rooms, "cx.join", "room");
        for (const room of rooms) natives.join(room);
    }
    leave(...rooms) {
        live(this);
        strings(rooms, "cx.leave", "room");
        for (const room of rooms) natives.leave(room);
    }
    emit(event, ...args) {
        live(this);
        string(event, "cx.emit", "event");
        const { text, bytes } = write(args);
        natives.emit(null, event, text, bytes, false, undefined);
    }
    volatileEmit(event, ...args) {
        live(this);
        string(event, "cx.volatileEmit", "event");
        const { text, bytes } = write(args);
        natives.emit(null, event, text, bytes, true, undefined);
    }
    async ask(event, ...args) {
        return asked(this, ASK_MS, event, args);
    }
    timeout(duration) {
        const ms = wait(duration, "cx.timeout", "duration");
        return { ask: async (event, ...args) => asked(this, ms, event, args) };
    }
    to(...rooms) {
        return new Selection(this, { ...NOBODY, rooms: some(rooms, "cx.to", "room") }, PLAIN);
    }
    toUser(...ids) {
        return new Selection(this, { ...NOBODY, users: users(ids, "cx.toUser") }, PLAIN);
    }
    toRole(...roles) {
        return new Selection(this, { ...NOBODY, roles: some(roles, "cx.toRole", "role") }, PLAIN);
    }
    toSocket(...ids) {
        return new Selection(this, { ...NOBODY, sockets: some(ids, "cx.toSocket", "id") }, PLAIN);
    }
    of(namespace) {
        return new Selection(this, { ...NOBODY, namespace: string(namespace, "cx.of", "namespace") }, PLAIN);
    }
    get broadcast() {
        return new Selection(this, NOBODY, PLAIN);
    }
    get store() {
        return new Store(this, undefined);
    }
    bucket(name) {
        return new Store(this, string(name, "cx.bucket", "name"));
    }
    get timers() {
        return new Timers(this);
    }
    presence(room) {
        return new Presence(this, string(room, "cx.presence", "room"));
    }
    async history(topic, options = {}) {
        live(this);
        string(topic, "cx.history", "topic");
        const { position, limit = 50 } = known(options, HISTORY_OPTIONS, "cx.history");
        if (position !== undefined && position !== null) string(position, "cx.history", "position");
        const page = parse(natives.since(topic, position ?? undefined, count(limit, "cx.history", "limit")));
        const events = page.entries.map(({ message, ...entry }) => ({
            ...entry,
            arguments: read(message.arguments, message.attachments.length === 0 ? undefined : message.attachments.map((bytes) => Uint8Array.from(bytes))),
        }));
        return { events, position: page.position, gap: page.gap, more: page.more };
    }
    broadcastPaymentUpdate(data) {
        live(this);
        natives.paymentUpdate(jsonOrNull(data, "cx.broadcastPaymentUpdate", "data"));
    }
    sendUserNotification(userId, notification) {
        live(this);
        natives.userNotification(id(userId, "cx.sendUserNotification", "userId"), jsonOrNull(notification, "cx.sendUserNotification", "notification"));
    }
    broadcastToRole(role, event, data) {
        live(this);
        string(role, "cx.broadcastToRole", "role");
        string(event, "cx.broadcastToRole", "event");
        natives.toRole(role, event, jsonOrNull(data, "cx.broadcastToRole", "data"));
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
    string(event, "cx.ask", "event");
    const { text, bytes } = write(args);
    const [reply, attached] = natives.ask(event, text, bytes, ms);
    return read(reply, attached)[0];
}

for (const type of [Selection, Store, Timers, Presence, Context]) Object.freeze(type.prototype);
