// `fetch`, and what goes with it.
import * as natives from "mixlab:natives";
import { string, wait, wellFormed, wrong } from "mixlab:arguments";
import { view } from "mixlab:call";

/** The headers of a request or an answer. */
export class Headers {
    #pairs = [];
    constructor(init = []) {
        const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
        for (const [name, value] of pairs) this.append(name, value);
    }
    append(name, value) {
        this.#pairs.push([String(name).toLowerCase(), String(value).trim()]);
    }
    set(name, value) {
        this.delete(name);
        this.append(name, value);
    }
    delete(name) {
        const lower = String(name).toLowerCase();
        this.#pairs = this.#pairs.filter(([other]) => other !== lower);
    }
    get(name) {
        const lower = String(name).toLowerCase();
        const values = this.#pairs.filter(([other]) => other === lower).map(([, value]) => value);
        return values.length === 0 ? null : values.join(", ");
    }
    has(name) {
        return this.get(name) !== null;
    }
    entries() {
        return this.#pairs.map((pair) => [...pair])[Symbol.iterator]();
    }
    keys() {
        return this.#pairs.map(([name]) => name)[Symbol.iterator]();
    }
    values() {
        return this.#pairs.map(([, value]) => value)[Symbol.iterator]();
    }
    forEach(callback, self) {
        for (const [name, value] of this.#pairs) callback.call(self, value, name, this);
    }
    [Symbol.iterator]() {
        return this.entries();
    }
}
/** What a server answered. All of it is there. */
class Response {
    #body;
    constructor(url, status, headers, body) {
        this.url = url;
        this.status = status;
        this.ok = status >= 200 && status < 300;
        this.headers = new Headers(headers);
        this.#body = body;
        Object.freeze(this);
    }
    async bytes() {
        return this.#body;
    }
    async arrayBuffer() {
        return this.#body.buffer.slice(this.#body.byteOffset, this.#body.byteOffset + this.#body.byteLength);
    }
    async text() {
        return natives.decode(this.#body, false);
    }
    async json() {
        return JSON.parse(natives.decode(this.#body, false));
    }
}

export async function fetch(url, { method = "GET", headers, body, timeout } = {}) {
    if (typeof url !== "string" && !(url instanceof URL)) throw wrong("fetch", "url", "a string or a URL", url);
    const sent = new Headers(headers ?? []);
    let bytes;
    if (body === undefined || body === null) bytes = new Uint8Array();
    else if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) bytes = view(body);
    else {
        if (body instanceof URLSearchParams && !sent.has("content-type")) sent.set("content-type", "application/x-www-form-urlencoded;charset=UTF-8");
        bytes = natives.encode(wellFormed(String(body)));
    }
    const waits = timeout === undefined ? undefined : wait(timeout, "fetch", "timeout");
    const [status, answered, answer] = natives.http(string(method, "fetch", "method").toUpperCase(), wellFormed(String(url)), JSON.stringify([...sent]), bytes, waits);
    return new Response(String(url), status, JSON.parse(answered), answer);
}
