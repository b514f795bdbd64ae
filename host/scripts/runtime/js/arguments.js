// What scripts hand to the functions of the module `mixlab`. What fits passes; of what does not, the author is told the
// function (`where`) and the argument (`name`). The checks are on the way of every event, and cost a `typeof` each.

// Scripts may change what is built in. What their arguments are taken for does not depend on that.
const { stringify } = JSON;
const { isArray } = Array;
const { isFinite, isInteger, isNaN, MAX_SAFE_INTEGER: LONGEST } = Number;
const { round } = Math;
const { keys } = Object;
const { call } = Function.prototype;
const isWellFormed = call.bind(String.prototype.isWellFormed);
const AnyDate = Date;
const AnyPromise = Promise;

/** A text that the host takes: one with half a surrogate pair, such as half of an emoji, is no text to it. */
export const wellFormed = call.bind(String.prototype.toWellFormed);

/** Whether a value is a text that the host takes. */
export const isText = (value) => typeof value === "string" && isWellFormed(value);

/** The error of an argument that is not what it must be. */
export function wrong(where, name, expected, value) {
    return new TypeError(`${where}: ${name} must be ${expected}, not ${named(value)}`);
}

/** How many characters of a text an error shows. */
const SHOWN = 50;

/** A value as errors name it: as it is where that is short, and else what it is. */
function named(value) {
    if (typeof value === "string") return stringify(value.length > SHOWN ? `${value.slice(0, SHOWN)}…` : value);
    if (value === null || ["undefined", "number", "boolean"].includes(typeof value)) return String(value);
    if (typeof value !== "object") return `a ${typeof value}`;
    if (isArray(value)) return "an array";
    if (value instanceof AnyPromise) return "a promise";
    if (value instanceof AnyDate) return isNaN(value.getTime()) ? "an invalid Date" : "a Date";
    return "an object";
}

export function string(value, where, name) {
    if (isText(value)) return value;
    if (typeof value === "string") throw new TypeError(`${where}: ${name} has half a surrogate pair, which is no character: ${named(value)}`);
    throw wrong(where, name, "a string", value);
}

/** Texts of which there may be none. */
export function strings(values, where, name) {
    for (let i = 0; i < values.length; i++) string(values[i], where, name);
    return values;
}

/** Names of which there has to be one: without any, what is for some would be for all. */
export function some(values, where, name) {
    if (values.length === 0) throw new TypeError(`${where}: it takes one ${name} at least`);
    return strings(values, where, name);
}

/** The id of a user, of which numbers are told by their text. */
export function id(value, where, name) {
    if (typeof value === "string") return string(value, where, name);
    if (isFinite(value)) return `${value}`;
    throw wrong(where, name, "a string or a number", value);
}

export function boolean(value, where, name) {
    if (typeof value === "boolean") return value;
    throw wrong(where, name, "a boolean", value);
}

export function callable(value, where, name) {
    if (typeof value === "function") return value;
    throw wrong(where, name, "a function", value);
}

/** The largest number that the host takes where it counts. */
const MOST = 2 ** 32 - 1;

export function count(value, where, name) {
    if (isInteger(value) && value >= 0 && value <= MOST) return value;
    throw wrong(where, name, `a whole number from 0 to ${MOST}`, value);
}

export function object(value, where, name) {
    if (typeof value === "object" && value !== null && !isArray(value)) return value;
    throw wrong(where, name, "an object", value);
}

/** Options, of which one by another name would be lost. */
export function known(options, names, where, name = "options") {
    const written = keys(object(options, where, name));
    for (let i = 0; i < written.length; i++) {
        let known = 0;
        while (known < names.length && names[known] !== written[i]) known++;
        if (known === names.length) throw new TypeError(`${where} knows no ${stringify(written[i])}; it knows ${names.join(", ")}`);
    }
    return options;
}

/** The JSON text of a value. */
export function json(value, where, name, expected = "JSON") {
    // A promise that nobody has waited for would be the text of an empty object.
    const text = value instanceof AnyPromise ? undefined : stringify(value);
    if (text === undefined) throw wrong(where, name, expected, value);
    return text;
}

/** The same of a value that may be left out, and is `null` then. */
export const jsonOrNull = (value, where, name) => (value === undefined ? "null" : json(value, where, name));

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;
const parsed = call.bind(DURATION.exec, DURATION);

/** Milliseconds of a number of them, or of a text like "250ms", "5s", "10m", "1h" or "2d". */
export function milliseconds(duration, where, name, most = LONGEST) {
    let ms = duration;
    if (typeof duration === "string") {
        const parts = parsed(duration);
        ms = parts === null ? undefined : parts[1] * UNITS[parts[2]];
    }
    if (!isFinite(ms) || ms < 0) {
        throw new TypeError(`${where}: ${name}: ${named(duration)} is no duration: write milliseconds as a number, or "250ms", "5s", "10m", "1h", "2d"`);
    }
    if (ms > most) throw new TypeError(`${where}: ${name}: ${named(duration)} is too long: it may be ${most} ms`);
    return round(ms);
}

/** The same where the host counts them in 32 bits. */
export const wait = (duration, where, name) => milliseconds(duration, where, name, MOST);

/** The time of a `Date`, or of milliseconds since 1970. */
export function time(value, where, name) {
    const ms = value instanceof AnyDate ? value.getTime() : value;
    if (isFinite(ms) && ms >= 0 && ms <= LONGEST) return round(ms);
    throw wrong(where, name, "a Date or milliseconds since 1970", value);
}
