// Where calls of the host come in.
import * as natives from "mixlab:natives";
import { object, wellFormed, wrong } from "mixlab:arguments";
import { HostError, Refusal, Rejection, place, read, show, thrown, write } from "mixlab:call";

export { place };
import { Context, enter, underWay } from "mixlab:context";
import { Answer, described } from "mixlab:plugin";

// Scripts may change what is built in. What their handlers answer does not depend on that.
const { parse, stringify } = JSON;
const { apply } = Reflect;
const { then: whenSettled } = Promise.prototype;
const AnyError = Error;
const AnyPromise = Promise;

let script;

/** Which script is called from now on. A component has one; in a test there may be several. */
export function enterScript(one) {
    script = one;
}

export function describe(exported, config, name) {
    enterScript(described(exported, parse(config), name));
    return stringify(script.told);
}

function begin(event) {
    const cx = new Context(event, script.config);
    enter(cx);
    return cx;
}

/** What `answered` makes of a value, now or when it is there. */
const then = (value, answered) => (value instanceof AnyPromise ? apply(whenSettled, value, [answered]) : answered(value));

/** Calls a handler with its context and the arguments of a message. */
function call(handler, cx, text, attachments) {
    const args = read(text, attachments);
    const all = [cx];
    for (let i = 0; i < args.length; i++) all[i + 1] = args[i];
    return apply(handler, undefined, all);
}

export function handle(event, text, attachments) {
    const cx = begin(event);
    const { handler } = script.handlers.get(event) ?? script.handlers.get("*");
    return then(call(handler, cx, text, attachments), outcome);
}

function outcome(value) {
    if (value === undefined) return undefined;
    if (value instanceof Answer) return answerOf(value);
    const { text, bytes } = write([value]);
    return bytes === undefined ? text : ["reply", text, bytes];
}

function answerOf(answer) {
    const { text, bytes } = write(answer.args);
    return [answer.kind, text, bytes];
}

export function filter(event, text, attachments) {
    const cx = begin(event);
    const [, filter] = script.parts.filters.find(([pattern]) => matches(pattern, event));
    return then(call(filter, cx, text, attachments), (value) => {
        if (value === undefined) return ["pass"];
        if (value instanceof Answer) return answerOf(value);
        throw new TypeError(`a filter answered ${show(value)}, and not pass, replace(…), done, reply(…) or noAck`);
    });
}

/** Whether an event is one of a pattern, in which `*` stands for any run of characters. */
function matches(pattern, event) {
    const [start, ...parts] = pattern.split("*");
    if (parts.length === 0) return pattern === event;
    const end = parts.pop();
    if (!event.startsWith(start)) return false;
    let at = start.length;
    for (const part of parts) {
        const found = event.indexOf(part, at);
        if (found < 0) return false;
        at = found + part.length;
    }
    return event.length - at >= end.length && event.endsWith(end);
}

export function connect(auth) {
    return script.parts.onConnect?.(begin("connect"), parse(auth));
}

export function disconnect(reason) {
    return script.parts.onDisconnect?.(begin("disconnect"), reason);
}

export function fire(name, payload, due, attempt) {
    const handler = script.parts.scheduled.get(name) ?? script.parts.onTimer;
    if (handler === undefined) throw new Error(`the timer ${show(name)} is due, and the script has no onTimer`);
    return handler(begin(name), { name, payload: parse(payload), due: new Date(due), attempt });
}

export function webhook(method, path, query, headers, body, delivery) {
    const request = {
        method,
        path,
        query: new URLSearchParams(parse(query)),
        headers: new Headers(parse(headers)),
        body,
        delivery: delivery ?? undefined,
        text: () => natives.decode(body, false),
        json: () => parse(natives.decode(body, true)),
    };
    return then(script.parts.onWebhook(begin("webhook"), request), answer);
}

function answer(response = {}) {
    object(response, "onWebhook", "what it answers");
    const headers = Object.entries(response.headers ?? {}).map(([name, value]) => [name, String(value)]);
    let { body = "" } = response;
    if (response.json !== undefined) {
        body = stringify(response.json);
        headers.push(["content-type", "application/json"]);
    }
    if (typeof body !== "string" && !(body instanceof Uint8Array)) throw wrong("onWebhook", "the body of its answer", "a string or a Uint8Array", body);
    const status = response.status ?? 200;
    if (!Number.isInteger(status) || status < 100 || status > 599) throw wrong("onWebhook", "the status of its answer", "a whole number from 100 to 599", status);
    return [status, stringify(headers), typeof body === "string" ? natives.encode(wellFormed(body)) : body];
}

export function migrate(stored, cursor) {
    const next = script.parts.migration.migrate(begin("migration"), stored, cursor ?? undefined);
    return then(next, (value) => (value === undefined || value === null ? null : String(value)));
}

/** What of the host's errors is nobody's fault, and may be otherwise another time. */
const PASSING = {
    busy: ["plugin_unavailable", "The plugin is busy, try again"],
    unavailable: ["plugin_unavailable", "The store is not available"],
    unreachable: ["plugin_unavailable", "A server that the plugin needs does not answer, try again"],
    "timed-out": ["no_answer", "There was no answer in time"],
    disconnected: ["no_answer", "The connection ended before the client answered"],
};

/** What is said of a call that never ends: where its handler is, or where the last promise was made. */
export function stuck(made, wasStopped) {
    const name = underWay();
    const where = script?.handlers.get(name)?.where ?? made;
    const what = name === undefined ? "the script" : `the handler of ${show(name)}`;
    const does = wasStopped ? "has used up the budget of CPU time in promises" : "waits for a promise that nothing will settle";
    return `${what} ${does}${where === undefined ? "" : `\n    at ${where}`}`;
}

/** What became of an error that the script let go, as JSON text. One that fails when it is looked at is no better than
 * what it fails with. */
export function tell(error, wasStopped, isOutOfTime) {
    try {
        return telling(error, wasStopped, isOutOfTime);
    } catch (inner) {
        return stringify({ text: placed(thrown(inner)) });
    }
}

function telling(error, wasStopped, isOutOfTime) {
    const text = () => placed(thrown(error));
    const isOutOfMemory = error instanceof AnyError && error.name === "InternalError" && error.message === "out of memory";
    // Without time there is no more memory, either.
    if (wasStopped || (isOutOfMemory && isOutOfTime)) return stringify({ text: `the budget of CPU time is used up, here:\n${text().split("\n").slice(1).join("\n")}`, is_final: true });
    if (error instanceof Rejection) {
        return stringify({
            code: wellFormed(String(error.code)) || "rejected",
            text: wellFormed(String(error.message)),
            temporary: error.temporary === true,
            retry_after_ms: Number.isSafeInteger(error.retryAfter) ? error.retryAfter : undefined,
            details: error.details === undefined ? undefined : stringify(error.details),
        });
    }
    if (error instanceof Refusal) {
        return stringify({ code: "", text: wellFormed(String(error.message)), details: error.data === undefined ? undefined : stringify(error.data) });
    }
    if (error instanceof HostError && Object.hasOwn(PASSING, error.code)) {
        const [code, text] = PASSING[error.code];
        return stringify({ code, text, temporary: true });
    }
    return stringify({ text: text(), is_final: isOutOfMemory });
}

/** What is told of an error, with the place of its handler where the error does not know its own: one that was made
 * when there was no memory left, or what is thrown and is no error. */
function placed(text) {
    const where = script?.handlers.get(underWay())?.where;
    return wellFormed(/\n\s+at /.test(text) || where === undefined ? text : `${text}\n    at ${where}`);
}
