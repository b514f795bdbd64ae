// What calls have in common: messages, durations, and the errors that end them.
import * as natives from "mixlab:natives";

// Scripts may change what is built in. What this module does with what clients send must not depend on that.
const { parse, stringify } = JSON;
const { isArray } = Array;
const { defineProperty, hasOwn, keys } = Object;
const Bytes = Uint8Array;
const AnyError = Error;

/** A "no" to the client. */
export class Rejection extends Error {
    constructor(code, message = "", { temporary, retryAfter, details } = {}) {
        super(message);
        this.code = String(code);
        this.retryAfter = retryAfter === undefined ? undefined : milliseconds(retryAfter);
        this.temporary = temporary ?? retryAfter !== undefined;
        this.details = details;
    }
    get name() {
        return "Rejection";
    }
}

/** Why a client is not let in, in words of the plugin's own. */
export class Refusal extends Error {
    constructor(message, data) {
        super(message);
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

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of a number of them, or of a text like "250ms", "5s", "10m", "1h" or "2d". */
export function milliseconds(duration) {
    if (typeof duration === "number" && duration >= 0) return Math.round(duration);
    const [, count, unit] = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(duration) ?? [];
    if (unit === undefined) {
        throw new TypeError(`${show(duration)} is no duration: write milliseconds as a number, or "250ms", "5s", "10m", "1h", "2d"`);
    }
    return Math.round(Number(count) * UNITS[unit]);
}

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

/** An error with the lines of the script that it passed. Those of this component tell its author nothing. */
export function told(error) {
    const stack = typeof error.stack === "string" ? error.stack : "";
    const lines = stack.split("\n").filter((line) => line.trim() !== "" && !/\(?mixlab(:[a-z]+)?:\d+:\d+\)?$|\(native\)$/.test(line));
    const head = error instanceof AnyError ? String(error) : show(error);
    const text = [head, ...lines.map((line) => line.trimEnd())].join("\n");
    return error.cause === undefined ? text : `${text}\nCaused by: ${error.cause instanceof AnyError ? told(error.cause) : show(error.cause)}`;
}

/** Where in the script this is called from, like `chat.ts:12:5`; none if it is called from elsewhere. */
export function place() {
    const [, line = ""] = told(new AnyError()).split("\n");
    return /\(?([^\s()]+:\d+:\d+)\)?$/.exec(line)?.[1];
}
