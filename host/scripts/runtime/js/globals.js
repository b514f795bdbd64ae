// What scripts find without an import, beside the language itself. What is not here is missing on purpose,
// and says so.
import * as natives from "mixlab:natives";
import { wellFormed } from "mixlab:arguments";
import { show, view } from "mixlab:call";
import { Headers, fetch } from "mixlab:http";
import { missing } from "mixlab:missing";
import { URL, URLSearchParams } from "mixlab:url";

function define(object, name, value) {
    Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
}

const line = (parts) => wellFormed(parts.map((part) => (typeof part === "string" ? part : show(part))).join(" "));
const counts = new Map();
define(globalThis, "console", {
    debug: (...parts) => natives.log("debug", line(parts)),
    trace: (...parts) => natives.log("debug", line([...parts, new Error("trace")])),
    log: (...parts) => natives.log("info", line(parts)),
    info: (...parts) => natives.log("info", line(parts)),
    dir: (value) => natives.log("info", line([value])),
    table: (value) => natives.log("info", line([value])),
    warn: (...parts) => natives.log("warn", line(parts)),
    error: (...parts) => natives.log("error", line(parts)),
    assert: (holds, ...parts) => holds || natives.log("error", line(["assertion failed:", ...parts])),
    count: (label = "default") => {
        counts.set(label, (counts.get(label) ?? 0) + 1);
        natives.log("info", line([`${label}: ${counts.get(label)}`]));
    },
});

define(globalThis, "URL", URL);
define(globalThis, "URLSearchParams", URLSearchParams);

define(globalThis, "TextEncoder", class TextEncoder {
    get encoding() {
        return "utf-8";
    }
    encode(text = "") {
        return natives.encode(wellFormed(String(text)));
    }
    encodeInto(text, into) {
        let read = 0;
        let written = 0;
        for (const character of String(text)) {
            const bytes = natives.encode(wellFormed(character));
            if (written + bytes.length > into.length) break;
            into.set(bytes, written);
            written += bytes.length;
            read += character.length;
        }
        return { read, written };
    }
});

define(globalThis, "TextDecoder", class TextDecoder {
    #fatal;
    #keepsBom;
    constructor(encoding = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
        if (!/^(utf-?8|unicode-1-1-utf-8)$/i.test(encoding.trim())) throw new RangeError(`TextDecoder knows UTF-8 only, and not ${show(encoding)}`);
        this.#fatal = fatal;
        this.#keepsBom = ignoreBOM;
    }
    get encoding() {
        return "utf-8";
    }
    get fatal() {
        return this.#fatal;
    }
    decode(bytes, { stream = false } = {}) {
        if (stream) throw new TypeError("TextDecoder decodes what is there as a whole: there are no streams");
        const text = natives.decode(view(bytes), this.#fatal);
        return this.#keepsBom ? text : text.replace(/^\uFEFF/, "");
    }
});

const hex = (byte) => byte.toString(16).padStart(2, "0");
define(globalThis, "crypto", {
    getRandomValues(array) {
        if (array.byteLength > 65_536) throw new RangeError("getRandomValues makes 65536 bytes at most");
        view(array).set(natives.random(array.byteLength));
        return array;
    },
    randomUUID() {
        const bytes = natives.random(16);
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        const text = [...bytes].map(hex).join("");
        return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(20)}`;
    },
    get subtle() {
        throw new Error("crypto.subtle is not there");
    },
});

define(globalThis, "structuredClone", (value) => {
    const seen = new Map();
    const copy = (one) => {
        if (typeof one === "function" || typeof one === "symbol") throw new TypeError(`structuredClone: ${show(one)} cannot be cloned`);
        if (one === null || typeof one !== "object") return one;
        if (seen.has(one)) return seen.get(one);
        const kept = (made) => {
            seen.set(one, made);
            return made;
        };
        if (one instanceof Date) return kept(new Date(one));
        if (one instanceof RegExp) return kept(new RegExp(one.source, one.flags));
        if (one instanceof ArrayBuffer) return kept(one.slice(0));
        if (one instanceof DataView) return kept(new DataView(copy(one.buffer), one.byteOffset, one.byteLength));
        if (ArrayBuffer.isView(one)) return kept(new one.constructor(copy(one.buffer), one.byteOffset, one.length));
        if (one instanceof Promise || one instanceof WeakMap || one instanceof WeakSet) throw new TypeError(`structuredClone: ${show(one)} cannot be cloned`);
        if (one instanceof Map) {
            const made = kept(new Map());
            for (const [key, its] of one) made.set(copy(key), copy(its));
            return made;
        }
        if (one instanceof Set) {
            const made = kept(new Set());
            for (const its of one) made.add(copy(its));
            return made;
        }
        if (one instanceof Error) {
            const made = kept(new (globalThis[one.name] ?? Error)(one.message));
            define(made, "stack", one.stack);
            return made;
        }
        const made = kept(Array.isArray(one) ? new Array(one.length) : {});
        for (const key of Object.keys(one)) Object.defineProperty(made, key, { value: copy(one[key]), writable: true, enumerable: true, configurable: true });
        return made;
    };
    return copy(value);
});

// What it throws is heard of, as of any promise.
define(globalThis, "queueMicrotask", (callback) => {
    Promise.resolve().then(() => void callback());
});

define(globalThis, "Headers", Headers);
define(globalThis, "fetch", fetch);

for (const [name, refuse] of Object.entries(missing)) define(globalThis, name, refuse);

// Code that stands in no file has no line, and nobody has read it.
const refuse = () => {
    throw new EvalError("there is no code from text here: neither eval nor new Function");
};
define(globalThis, "eval", refuse);
for (const made of [function () {}, async function () {}, function* () {}, async function* () {}]) {
    const prototype = Object.getPrototypeOf(made);
    const Function = function () {
        refuse();
    };
    Function.prototype = prototype;
    define(prototype, "constructor", Function);
}
define(globalThis, "Function", (() => {}).constructor);
