// Handlers without a host, for node:test, vitest and the like: a plugin's module runs in this process, what its
// handlers did is recorded, and what they read is what the test puts there.
import { milliseconds } from "./arguments.js";
import { HostError, Refusal, Rejection, read, show, write } from "./call.js";
import * as entry from "./entry.js";
import { fetch } from "./http.js";
import { missing } from "./missing.js";
import { Answer, described, done, noAck, pass } from "./plugin.js";
import { bucketOf, decode, surround } from "./natives.js";

/** A plugin, with a host around it that is none. An error is that of the plugin, which would be refused at load. */
export function host(plugin, options = {}) {
    return new Host(plugin, options);
}

/** One call runs at a time, of all hosts: while it does, what is global is the script's. */
let turn = Promise.resolve();

async function alone(call) {
    const former = turn;
    let end;
    turn = new Promise((resolve) => (end = resolve));
    await former;
    try {
        return await call();
    } finally {
        end();
    }
}

export class Host {
    #script;
    #state;

    constructor(plugin, { config = {}, name = "plugin", at = Date.now() } = {}) {
        this.#script = described(plugin, JSON.parse(JSON.stringify(config)), name);
        this.#state = {
            now: new Date(at).getTime(),
            connection: { id: "socket-1", namespace: "/", address: "127.0.0.1", user: undefined, recovered: false },
            // What happens if the handler succeeds.
            effects: {
                rooms: new Set(),
                data: "null",
                store: new Map(),
                timers: new Map(),
                present: new Map(),
                emitted: [],
                broadcasts: [],
                moved: [],
                disconnected: [],
            },
            // What happens at once.
            acts: { http: [], requests: [], answers: [], asked: [], log: [] },
            present: new Map(),
            handshake: { query: [], headers: [] },
            sockets: [],
            history: new Map(),
            clients: 0,
        };
    }

    get connection() {
        return this.#state.connection;
    }

    logIn(id, roles = [], username = undefined) {
        this.connection.user = { id: String(id), username, roles: roles.map(String) };
    }

    async send(event, ...args) {
        const { handlers } = this.#script;
        if (!handlers.has(event) && !handlers.has("*")) throw new TypeError(`the plugin has no event ${show(event)}`);
        const { text, bytes } = write(args);
        const outcome = await this.#call(() => entry.handle(event, text, bytes));
        if (outcome === undefined) return [];
        if (typeof outcome === "string") return read(outcome);
        const [kind, answer, attachments] = outcome;
        if (kind === "no-ack") return undefined;
        return kind === "reply" ? read(answer, attachments) : [];
    }

    async connect(auth = {}) {
        await this.#call(() => entry.connect(JSON.stringify(auth)));
    }

    async disconnect(reason = "client namespace disconnect") {
        await this.#call(() => entry.disconnect(reason));
    }

    async filter(event, ...args) {
        const { text, bytes } = write(args);
        const [kind, answer, attachments] = await this.#call(() => entry.filter(event, text, bytes));
        const word = [pass, done, noAck].find((word) => word.kind === kind);
        return word ?? new Answer(kind, read(answer, attachments));
    }

    async fire(name) {
        const { effects, now } = this.#state;
        const set = effects.timers.get(name);
        const payload = JSON.stringify(set?.payload ?? null);
        await this.#withoutConnection(() => entry.fire(name, payload, set?.due ?? now, 1));
        // One that the handler has set again is another.
        const { timers } = this.#state.effects;
        const after = timers.get(name);
        if (set === undefined || after === undefined || !isSame(after, set)) return;
        if (set.every === undefined) timers.delete(name);
        else timers.set(name, { ...set, due: set.due + set.every });
    }

    async advance(duration) {
        const end = this.#state.now + milliseconds(duration, "advance", "duration");
        for (;;) {
            const due = [...this.#state.effects.timers].filter(([, timer]) => timer.due <= end);
            const [next] = due.toSorted(([, a], [, b]) => a.due - b.due);
            if (next === undefined) break;
            this.#state.now = Math.max(this.#state.now, next[1].due);
            await this.fire(next[0]);
        }
        this.#state.now = end;
    }

    async post(body) {
        return this.webhook({ headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    }

    async webhook({ method = "POST", path = "/", query = {}, headers = {}, body = "", delivery } = {}) {
        if (this.#script.parts.onWebhook === undefined) throw new Rejection("not_found", "The plugin takes no webhooks");
        const before = this.#state.effects;
        const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body.slice();
        const [status, answered, answer] = await this.#withoutConnection(() =>
            entry.webhook(method, path, JSON.stringify(Object.entries(query)), JSON.stringify(Object.entries(headers)), bytes, delivery),
        );
        if (status >= 400) this.#state.effects = before;
        return { status, headers: Object.fromEntries(JSON.parse(answered)), body: shown(answer) };
    }

    get rooms() {
        return [...this.#state.effects.rooms];
    }

    get data() {
        return JSON.parse(this.#state.effects.data);
    }

    get timers() {
        const { effects, now } = this.#state;
        const told = ([name, { due, ...timer }]) => [name, { after: due - now, ...timer }];
        return Object.fromEntries([...effects.timers].map(told));
    }

    get now() {
        return new Date(this.#state.now);
    }

    takeEmitted() {
        return this.#take("emitted").map(({ selection, event, message, volatile, keep }) => ({
            target: target(selection),
            event,
            arguments: read(message.text, message.bytes),
            ...(volatile ? { volatile } : {}),
            ...(keep === undefined ? {} : { keep }),
        }));
    }

    takeBroadcasts() {
        return this.#take("broadcasts");
    }

    takeMoved() {
        return this.#take("moved").map(({ selection, ...moved }) => ({ selection: target(selection), ...moved }));
    }

    takeDisconnected() {
        return this.#take("disconnected").map(({ selection, close }) => ({ target: target(selection), close }));
    }

    put(key, value, bucket = undefined) {
        const bytes = value instanceof Uint8Array ? value.slice() : new TextEncoder().encode(JSON.stringify(value));
        bucketOf(this.#state, bucket).set(key, { bytes, until: Infinity });
    }

    stored(key, bucket = undefined) {
        const found = bucketOf(this.#state, bucket).get(key);
        if (found === undefined || found.until <= this.#state.now) return undefined;
        try {
            return JSON.parse(decode(found.bytes, true));
        } catch {
            return found.bytes.slice();
        }
    }

    answerHttp(answer) {
        if (answer instanceof Error) return void this.#state.acts.http.push(answer);
        const { status = 200, headers = {}, json, body = json === undefined ? "" : JSON.stringify(json) } = answer;
        const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body.slice();
        this.#state.acts.http.push([status, JSON.stringify(Object.entries(headers)), bytes]);
    }

    takeRequests() {
        return this.#takeAct("requests").map(({ body, ...request }) => ({ ...request, body: shown(body) }));
    }

    answerAsk(...answer) {
        const { text, bytes } = write(answer);
        this.#state.acts.answers.push(answer[0] instanceof Error ? answer[0] : [text, bytes]);
    }

    takeAsked() {
        return this.#takeAct("asked").map(({ event, message }) => ({ event, arguments: read(message.text, message.bytes) }));
    }

    takeLog() {
        return this.#takeAct("log");
    }

    setHandshake({ query = {}, headers = {} }) {
        this.#state.handshake = { query: Object.entries(query), headers: Object.entries(headers) };
    }

    setSockets(sockets) {
        this.#state.sockets = sockets.map(({ id, namespace = "/", address = "127.0.0.1", recovered = false, user = null, rooms = [], data = null }) => ({
            connection: { id, namespace, address, recovered, user },
            rooms,
            data: JSON.stringify(data),
        }));
    }

    setHistory(topic, events) {
        const entry = ({ event, arguments: args, position, at_ms = this.#state.now }, number) => ({
            position: position ?? String(number + 1),
            at_ms,
            event,
            message: { arguments: JSON.stringify(args), attachments: [] },
        });
        this.#state.history.set(topic, events.map(entry));
    }

    setClients(count) {
        this.#state.clients = count;
    }

    #take(name) {
        return this.#state.effects[name].splice(0);
    }

    #takeAct(name) {
        return this.#state.acts[name].splice(0);
    }

    async #withoutConnection(call) {
        const { connection } = this.#state;
        this.#state.connection = undefined;
        try {
            return await this.#call(call);
        } finally {
            this.#state.connection = connection;
        }
    }

    /** Calls a handler. One that fails has done nothing, but for what acts at once. */
    #call(call) {
        return alone(async () => {
            const state = this.#state;
            const before = state.effects;
            state.effects = structuredClone(before);
            state.present = structuredClone(before.present);
            surround(state);
            entry.enterScript(this.#script);
            const restore = replaceGlobals(state);
            try {
                return await call();
            } catch (error) {
                state.effects = before;
                throw passing(error);
            } finally {
                restore();
            }
        });
    }
}

/** What becomes of an error of the host that may be otherwise another time, and that no handler has caught. */
function passing(error) {
    if (!(error instanceof HostError)) return error;
    const { code, text, temporary } = JSON.parse(entry.tell(error, false, false));
    return code === undefined ? error : Object.assign(new Rejection(code, text, { temporary }), { cause: error });
}

const isSame = (a, b) => a.due === b.due && a.every === b.every && show(a.payload, 10) === show(b.payload, 10);

/** Bytes as the text that they are, if they are one. */
function shown(bytes) {
    try {
        return decode(bytes, true);
    } catch {
        return bytes;
    }
}

const NAMES = { namespace: "namespace", rooms: "rooms", users: "users", roles: "roles", sockets: "sockets", except: "except", include_sender: "includeSender" };

/** Whom something is for: the sender, or a selection, of which only what was said is there. */
function target(selection) {
    if (selection === null) return "sender";
    const isSaid = ([, value]) => value !== null && value !== false && !(Array.isArray(value) && value.length === 0);
    const said = Object.entries(JSON.parse(selection)).filter(isSaid);
    return Object.fromEntries(said.map(([name, value]) => [NAMES[name], value]));
}

const LEVELS = { debug: "debug", trace: "debug", log: "info", info: "info", warn: "warn", error: "error" };

/** Lets handlers find what they find in MixLab: the clock of the test, its answers to requests, a log, and none of
 * what runs after a call. Returns what puts everything back. */
function replaceGlobals(state) {
    const former = [];
    const replace = (object, name, value) => {
        former.push([object, name, Object.getOwnPropertyDescriptor(object, name)]);
        Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
    };
    for (const [name, refuse] of Object.entries(missing)) replace(globalThis, name, refuse);
    replace(globalThis, "fetch", fetch);
    replace(globalThis, "Date", clock(() => state.now));
    for (const [name, level] of Object.entries(LEVELS)) {
        const write = console[name].bind(console);
        replace(console, name, (...parts) => {
            state.acts.log.push({ level, text: parts.map((part) => (typeof part === "string" ? part : show(part))).join(" ") });
            write(...parts);
        });
    }
    return () => {
        for (const [object, name, descriptor] of former.toReversed()) {
            if (descriptor === undefined) delete object[name];
            else Object.defineProperty(object, name, descriptor);
        }
    };
}

/** `Date`, at the time of the test. */
function clock(now) {
    const Machine = Date;
    const told = new Proxy(Machine, {
        apply: () => new Machine(now()).toString(),
        construct: (_, args, made) => Reflect.construct(Machine, args.length > 0 ? args : [now()], made === told ? Machine : made),
        get: (_, name) => (name === "now" ? now : Reflect.get(Machine, name)),
    });
    return told;
}

export { HostError, Refusal, Rejection };
