// What a plugin is: its events with their contracts, its hooks, and what the host is told of them.
import { boolean, callable, count, known, milliseconds, object, string, strings, wrong } from "mixlab:arguments";
import { Rejection, entries, place, show } from "mixlab:call";
import { reply as replySchema, tuple } from "mixlab:schema";

/** Ends the call with a "no" to the client. */
export function reject(code, message, options) {
    throw new Rejection(code, message, options, "reject");
}

/** What a handler or a filter may answer, beside a value. */
export class Answer {
    constructor(kind, args = []) {
        this.kind = kind;
        this.args = args;
        Object.freeze(this);
    }
}
export const noAck = new Answer("no-ack");
export const done = new Answer("done");
export const pass = new Answer("pass");
export const reply = (...args) => new Answer("reply", args);
export const replace = (...args) => new Answer("replace", args);

const own = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);

/** An event's contract and its handler. */
class HandledEvent {
    constructor(contract, handler, where) {
        this.contract = contract;
        this.handler = handler;
        this.where = where;
        Object.freeze(this);
    }
}

const EVENT_OPTIONS = ["args", "reply", "access", "roles", "limit", "onExcess", "maxBytes", "serialBy", "repeatable"];

export function event(options, handler) {
    if (typeof options === "function") return event({}, options);
    known(options, EVENT_OPTIONS, "event");
    callable(handler, "event", "handler");
    const [args, answer, maxBytes] = [own(options, "args"), own(options, "reply"), own(options, "maxBytes")];
    const contract = {
        access: access(own(options, "access"), own(options, "roles")),
        arguments: args === undefined ? null : JSON.stringify(tuple(args, "args")),
        reply: answer === undefined ? null : JSON.stringify(replySchema(answer, "reply")),
        limits: limits(own(options, "limit") ?? {}),
        on_excess: excess(own(options, "onExcess")),
        max_bytes: (maxBytes ?? null) === null ? null : count(maxBytes, "event", "maxBytes"),
        serial_by: serial(own(options, "serialBy")),
        repeatable: boolean(own(options, "repeatable") ?? false, "event", "repeatable"),
    };
    return new HandledEvent(contract, handler, place());
}

function access(who, roles) {
    if (roles !== undefined) {
        if (who !== undefined) throw new TypeError("event: either access or roles");
        if (!Array.isArray(roles)) throw wrong("event", "roles", "an array", roles);
        return { Roles: strings(roles, "event", "a role") };
    }
    if (who === undefined || who === "authenticated") return "Authenticated";
    if (who === "anyone") return "Anyone";
    throw new TypeError(`access: ${show(who)} is neither "anyone" nor "authenticated"; roles: ["admin"] names roles`);
}

const SCOPES = { socket: "Socket", user: "User", ip: "Ip", role: "Role", event: "Event" };

function limits(limit) {
    known(limit, Object.keys(SCOPES), "event: limit", "it");
    return Object.entries(limit).flatMap(([scope, rates]) => [rates].flat().map((rate) => ({ scope: SCOPES[scope], ...bucket(rate) })));
}

/** "100/10s", or that with how many may come at once: "100/10s burst 20". */
function bucket(rate) {
    const [, count, every, unit, burst] = /^(\d+)\s*\/\s*(\d*)\s*(ms|s|m|h)(?:\s+burst\s+(\d+))?$/.exec(rate) ?? [];
    if (unit === undefined) throw new TypeError(`limit: ${show(rate)} is no rate; write it like "100/10s" or "100/10s burst 20"`);
    return { count: Number(count), interval_ms: milliseconds(`${every || 1}${unit}`, "event", "limit"), burst: burst === undefined ? null : Number(burst) };
}

function excess(word) {
    if (word === undefined) return null;
    if (word === "answer") return "Answer";
    if (word === "drop") return "Drop";
    throw new TypeError(`onExcess: ${show(word)} is neither "answer" nor "drop"`);
}

function serial(key) {
    if (key === undefined) return null;
    if (key === "namespace") return "Namespace";
    if (typeof key === "string" && key.startsWith("/")) return { Pointer: key };
    if (typeof key === "object" && typeof key?.name === "string") return { Constant: key.name };
    throw new TypeError(`serialBy: ${show(key)} is no JSON Pointer into the arguments like "/0/room", nor "namespace", nor { name: "…" }`);
}

const PLUGIN_OPTIONS = ["name", "version", "namespaces", "emits", "config"];

/** What a script is. Its methods add to it. */
class Plugin {
    #parts;
    constructor(options, events) {
        this.#parts = { options, events, filters: [], schedules: [], scheduled: new Map() };
        Object.freeze(this);
    }
    /** For this component only. */
    static parts(plugin) {
        return plugin.#parts;
    }
    static is(plugin) {
        return typeof plugin === "object" && plugin !== null && #parts in plugin;
    }
    #once(name, value) {
        if (this.#parts[name] !== undefined) throw new TypeError(`${name} is there already`);
        this.#parts[name] = value;
        return this;
    }
    onConnect(hook) {
        return this.#once("onConnect", callable(hook, "onConnect", "hook"));
    }
    onDisconnect(hook) {
        return this.#once("onDisconnect", callable(hook, "onDisconnect", "hook"));
    }
    onTimer(handler) {
        return this.#once("onTimer", callable(handler, "onTimer", "handler"));
    }
    onWebhook(handler) {
        return this.#once("onWebhook", callable(handler, "onWebhook", "handler"));
    }
    migration(version, migrate) {
        if (count(version, "migration", "version") === 0) throw new TypeError("migration: versions of data count from 1");
        return this.#once("migration", { version, migrate: callable(migrate, "migration", "migrate") });
    }
    filter(pattern, filter) {
        this.#parts.filters.push([string(pattern, "filter", "event"), callable(filter, "filter", "filter")]);
        return this;
    }
    every(name, interval, handler, options) {
        return this.#schedule("every", name, { Every: milliseconds(interval, "every", "interval") }, handler, options);
    }
    cron(name, expression, handler, options) {
        return this.#schedule("cron", name, { Cron: string(expression, "cron", "expression") }, handler, options);
    }
    #schedule(where, name, rule, handler, options = {}) {
        known(options, ["missed"], where);
        const missed = own({ skip: "Skip", once: "Once" }, options.missed ?? "skip");
        if (missed === undefined) throw new TypeError(`missed: ${show(options.missed)} is neither "skip" nor "once"`);
        this.#parts.schedules.push({ name: string(name, where, "name"), rule, missed });
        this.#parts.scheduled.set(name, callable(handler, where, "handler"));
        return this;
    }
}
Object.freeze(Plugin.prototype);

export function plugin(options, events) {
    if (events === undefined) return plugin({}, options);
    known(options, PLUGIN_OPTIONS, "plugin");
    if (typeof events !== "function" && (events === null || typeof events !== "object")) {
        throw new TypeError(`plugin: ${show(events)} is neither an object of events nor a function that makes one`);
    }
    if (typeof events !== "function") entries(events, "plugin");
    for (const name of ["name", "version"]) string(own(options, name) ?? "", "plugin", name);
    strings([own(options, "namespaces") ?? []].flat(), "plugin", "a namespace");
    entries(object(own(options, "emits") ?? {}, "plugin", "emits"), "emits");
    return new Plugin(options, events);
}

/** What the host is told of a script's default export, and what stays here to answer it. */
export function described(exported, config, name) {
    if (!Plugin.is(exported)) {
        const found = exported === undefined ? "there is no default export" : `the default export is ${show(exported, 1)}`;
        throw new TypeError(`${found}: write export default plugin({ … })`);
    }
    const parts = Plugin.parts(exported);
    const { options } = parts;
    const made = typeof parts.events === "function" ? parts.events(config) : parts.events;
    if (made instanceof Promise) throw new TypeError("the function of plugin is async: what a plugin is has to be known at once");
    if (made === null || typeof made !== "object") throw new TypeError(`the function of plugin made ${show(made)} and no object of events`);
    const handlers = new Map();
    const contracts = [];
    for (const [eventName, handled] of entries(made, "plugin", Object.getPrototypeOf(made)?.where)) {
        if (!(handled instanceof HandledEvent)) throw new TypeError(`${JSON.stringify(eventName)}: ${show(handled, 1)} is no event({ … }, handler)`);
        handlers.set(eventName, handled);
        contracts.push({ name: eventName, ...handled.contract });
    }
    const emits = Object.entries(own(options, "emits") ?? {}).map(([eventName, args]) => ({
        name: eventName,
        arguments: JSON.stringify(tuple(args, `emits, ${JSON.stringify(eventName)}`)),
    }));
    const { filters, schedules, migration } = parts;
    const description = {
        name: own(options, "name") ?? name,
        version: own(options, "version") ?? "0.0.0",
        namespaces: [own(options, "namespaces") ?? []].flat(),
        events: contracts,
        emits,
        schedules,
        filters: filters.map(([pattern]) => pattern),
    };
    const offer = {
        connections: parts.onConnect !== undefined || parts.onDisconnect !== undefined,
        timer_handler: parts.onTimer !== undefined || schedules.length > 0,
        filters: filters.length > 0,
        webhooks: parts.onWebhook !== undefined,
    };
    const told = { description, offer, data_version: migration?.version ?? 0 };
    return { told, handlers, parts, config };
}
