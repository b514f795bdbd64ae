// What calls have in common: messages, and the errors that end them.
import { boolean, known, milliseconds, string } from "mixlab:arguments";
import * as natives from "mixlab:natives";

// Scripts may change what is built in. What this module does with what clients send must not depend on that.
const { parse, stringify } = JSON;
const { isArray } = Array;
const { defineProperty, hasOwn, keys } = Object;
const Bytes = Uint8Array;
const AnyError = Error;
const AnyAggregateError = AggregateError;

const REJECTION_OPTIONS = ["temporary", "retryAfter", "details"];

/** A "no" to the client. `where` is the function that the script has called. */
export class Rejection extends Error {
    constructor(code, message = "", options = {}, where = "Rejection") {
        super(string(message, where, "message"));
        const { temporary, retryAfter, details } = known(options, REJECTION_OPTIONS, where);
        this.code = string(code, where, "code");
        this.retryAfter = retryAfter === undefined ? undefined : milliseconds(retryAfter, where, "retryAfter");
        this.temporary = temporary === undefined ? retryAfter !== undefined : boolean(temporary, where, "temporary");
        this.details = details;
    }
    get name() {
        return "Rejection";
    }
}

/** Why a client is not let in, in words of the plugin's own. */
export class Refusal extends Error {
    constructor(message, data) {
        super(string(message, "Refusal", "message"));
        this.data = data;
    }
    get name() {
        return "Refusal";
    }
}

/** What the host did not do. */
export class HostError extends Error {
    constructor(code, text) {
        super(text);
        this.code = code;
    }
    get name() {
        return "HostError";
    }
}
natives.hostError(HostError);

/** The names and values that a script has written in an object. `"__proto__": …` in one is no name but what the object
 * inherits from, and nobody would hear of it again: that is refused, with the line, if it is not that of the caller. */
export function entries(object, where, line) {
    const inherited = Object.getPrototypeOf(object);
    if (inherited !== null && !hasOwn(inherited, "constructor")) {
        const at = line === undefined ? "" : `\n    at ${line}`;
        throw new TypeError(`${where}: the object inherits what it should have itself; the name __proto__ is written ["__proto__"]${at}`);
    }
    return Object.entries(object);
}

// Bytes on their way: those of the message that is being written.
let attached;

/** The text of arguments and the list of their bytes, if there are any, which stand as placeholders in the text. */
export function write(args) {
    const bytes = (attached = []);
    try {
        const text = stringify(args);
        return { text, bytes: bytes.length === 0 ? undefined : bytes };
    } finally {
        attached = undefined;
    }
}

// `JSON.stringify` asks these of bytes, wherever they are in a value.
function placeholder() {
    if (attached === undefined) return { ...this };
    attached[attached.length] = this instanceof Bytes ? this : new Bytes(this.buffer ?? this, this.byteOffset ?? 0, this.byteLength);
    return { _placeholder: true, num: attached.length - 1 };
}
for (const type of [Object.getPrototypeOf(Uint8Array), ArrayBuffer, DataView]) {
    Object.defineProperty(type.prototype, "toJSON", { value: placeholder, writable: true, configurable: true });
}

/** The arguments of a message, with the bytes in place of their placeholders. */
export function read(text, attachments) {
    const args = parse(text);
    return attachments === undefined || attachments === null ? args : filled(args, attachments);
}

function filled(value, attachments) {
    if (value === null || typeof value !== "object") return value;
    if (value._placeholder === true && hasOwn(value, "num")) return attachments[value.num] ?? value;
    if (isArray(value)) {
        for (let i = 0; i < value.length; i++) value[i] = filled(value[i], attachments);
    } else {
        const names = keys(value);
        for (let i = 0; i < names.length; i++) {
            // A key that names the prototype is a key of the client's and nothing else.
            const inner = filled(value[names[i]], attachments);
            defineProperty(value, names[i], { value: inner, writable: true, enumerable: true, configurable: true });
        }
    }
    return value;
}

/** The bytes of what is bytes in any way. */
export const view = (bytes) => (bytes instanceof Uint8Array ? bytes : ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes ?? 0));

/** A value as it is shown to people: in the log, and in errors. */
export function show(value, depth = 3) {
    if (typeof value === "string") return stringify(value);
    if (typeof value === "function") return `[Function ${value.name || "(anonymous)"}]`;
    if (typeof value === "bigint") return `${value}n`;
    if (value === null || typeof value !== "object") return String(value);
    if (value instanceof AnyError) return told(value);
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
    if (value instanceof RegExp || value instanceof URL) return String(value);
    if (depth === 0) return isArray(value) ? "[…]" : "{…}";
    const inner = (one) => show(one, depth - 1);
    if (isArray(value)) return `[${value.slice(0, 100).map(inner).join(", ")}${value.length > 100 ? ", …" : ""}]`;
    if (ArrayBuffer.isView(value) && value.length !== undefined) return `${value.constructor.name} [${[...value.slice(0, 50)].join(", ")}${value.length > 50 ? ", …" : ""}]`;
    if (value instanceof Map) return `Map {${[...value].map(([key, one]) => `${inner(key)} => ${inner(one)}`).join(", ")}}`;
    if (value instanceof Set) return `Set {${[...value].map(inner).join(", ")}}`;
    if (value instanceof Promise) return "Promise";
    return `{${keys(value).slice(0, 100).map((key) => `${key}: ${inner(value[key])}`).join(", ")}}`;
}

/** How many errors are told of one, with its causes and those that it has collected. */
const TOLD = 20;

/** An error with the lines of the script that it passed, and the errors within. The lines of this component tell its
 * author nothing. */
export function told(error, before = new Set()) {
    before.add(error);
    const stack = typeof error.stack === "string" ? error.stack : "";
    const lines = stack.split("\n").filter((line) => line.trim() !== "" && !/\(?mixlab(:[a-z]+)?:\d+:\d+\)?$|\(native\)$/.test(line));
    const parts = [String(error), ...lines.map((line) => line.trimEnd())];
    if (error instanceof AnyAggregateError && isArray(error.errors)) {
        const { errors } = error;
        for (let i = 0; i < errors.length && before.size < TOLD; i++) {
            parts.push(`Error ${i + 1} of ${errors.length}: ${within(errors[i], before)}`.replaceAll("\n", "\n    "));
        }
    }
    if (error.cause !== undefined) parts.push(`Caused by: ${within(error.cause, before)}`);
    return parts.join("\n");
}

function within(error, before) {
    if (!(error instanceof AnyError)) return show(error);
    return before.has(error) || before.size >= TOLD ? `${error} …` : told(error, before);
}

/** What was thrown, which may be anything. */
export const thrown = (error) => (error instanceof AnyError ? told(error) : `${show(error)} was thrown, which is no Error`);

/** Where in the script this is called from, like `chat.ts:12:5`; none if it is called from elsewhere. */
export function place() {
    const [, line = ""] = told(new AnyError()).split("\n");
    return /\(?([^\s()]+:\d+:\d+)\)?$/.exec(line)?.[1];
}
