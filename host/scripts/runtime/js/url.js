// `URL` and `URLSearchParams`. Reading a URL is the host language's; this changes its parts.
import { wellFormed } from "mixlab:arguments";
import * as natives from "mixlab:natives";

const parsed = (url, base) => natives.parseUrl(wellFormed(String(url)), base === undefined ? undefined : wellFormed(String(base)));

const PARTS = ["href", "protocol", "username", "password", "hostname", "port", "pathname", "search", "hash", "origin"];

export class URL {
    #parts;
    #params;
    constructor(url, base) {
        const parts = parsed(url, base);
        if (parts === undefined || parts === null) throw new TypeError(`Invalid URL: ${url}`);
        this.#set(parts);
    }
    static canParse(url, base) {
        const parts = parsed(url, base);
        return parts !== undefined && parts !== null;
    }
    static parse(url, base) {
        return URL.canParse(url, base) ? new URL(url, base) : null;
    }
    #set(parts) {
        const [href, scheme, username, password, hostname, port, pathname, query, fragment, origin] = parts;
        const search = query === "" ? "" : `?${query}`;
        const hash = fragment === "" ? "" : `#${fragment}`;
        this.#parts = { href, protocol: `${scheme}:`, username, password, hostname, port, pathname, search, hash, origin };
    }
    /** The same URL with other parts; it stays as it is if that is none, as the standard has it. */
    #change(changed) {
        const { protocol, username, password, hostname, port, pathname, search, hash } = { ...this.#parts, ...changed };
        const user = username === "" && password === "" ? "" : `${username}${password === "" ? "" : `:${password}`}@`;
        const slashes = this.#parts.href.startsWith(`${this.#parts.protocol}//`) ? "//" : "";
        const href = `${protocol}${slashes}${user}${hostname}${port === "" ? "" : `:${port}`}${pathname}${search}${hash}`;
        const parts = natives.parseUrl(href, undefined);
        if (parts !== undefined && parts !== null) this.#set(parts);
    }
    get href() {
        return this.#parts.href;
    }
    set href(href) {
        this.#set(new URL(href).#list());
    }
    #list() {
        return PARTS.map((name) => this.#parts[name]).map((part, i) => ([1, 7, 8].includes(i) ? part.replace(/^[?#]|:$/, "") : part));
    }
    get origin() {
        return this.#parts.origin;
    }
    get host() {
        const { hostname, port } = this.#parts;
        return port === "" ? hostname : `${hostname}:${port}`;
    }
    set host(host) {
        const [, hostname, port = ""] = /^(.*?)(?::(\d*))?$/.exec(String(host));
        this.#change({ hostname, port });
    }
    get searchParams() {
        this.#params ??= new URLSearchParams(this.#parts.search, (search) => this.#change({ search: search === "" ? "" : `?${search}` }));
        return this.#params;
    }
    toString() {
        return this.#parts.href;
    }
    toJSON() {
        return this.#parts.href;
    }
    static {
        const encode = (text) => encodeURIComponent(text);
        const written = {
            protocol: (text) => `${text.replace(/:.*$/, "")}:`,
            username: encode,
            password: encode,
            hostname: (text) => text,
            port: (text) => text,
            pathname: (text) => (text.startsWith("/") ? text : `/${text}`).replace(/[?#]/g, encode),
            search: (text) => (text === "" || text === "?" ? "" : `?${text.replace(/^\?/, "").replace(/#/g, "%23")}`),
            hash: (text) => (text === "" || text === "#" ? "" : `#${text.replace(/^#/, "")}`),
        };
        for (const [name, write] of Object.entries(written)) {
            Object.defineProperty(URL.prototype, name, {
                get() {
                    return this.#parts[name];
                },
                set(text) {
                    this.#change({ [name]: write(String(text)) });
                    if (name === "search") this.#params?.read(this.#parts.search);
                },
                enumerable: true,
                configurable: true,
            });
        }
    }
}

const decode = (text) => {
    const spaced = text.replaceAll("+", " ");
    const bytes = natives.encode(spaced);
    if (!spaced.includes("%")) return spaced;
    const out = [];
    for (let i = 0; i < bytes.length; i++) {
        const hex = bytes[i] === 0x25 ? /^[0-9a-f]{2}$/i.exec(String.fromCharCode(bytes[i + 1] ?? 0, bytes[i + 2] ?? 0)) : null;
        if (hex === null) out.push(bytes[i]);
        else {
            out.push(Number.parseInt(hex[0], 16));
            i += 2;
        }
    }
    return natives.decode(Uint8Array.from(out), false);
};
const encode = (text) => encodeURIComponent(text).replace(/[!'()~]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`).replaceAll("%20", "+");

export class URLSearchParams {
    #pairs = [];
    #changed;
    constructor(init = "", changed = () => {}) {
        this.#changed = changed;
        if (typeof init === "object" && init !== null) {
            const pairs = typeof init[Symbol.iterator] === "function" ? [...init] : Object.entries(init);
            this.#pairs = pairs.map(([name, value]) => [String(name), String(value)]);
        } else this.read(String(init));
    }
    /** Takes the pairs of a query in place of those that are there. */
    read(query) {
        const parts = query.replace(/^\?/, "").split("&").filter((part) => part !== "");
        this.#pairs = parts.map((part) => {
            const at = part.indexOf("=");
            return at < 0 ? [decode(part), ""] : [decode(part.slice(0, at)), decode(part.slice(at + 1))];
        });
    }
    #change(pairs) {
        this.#pairs = pairs;
        this.#changed(this.toString());
    }
    append(name, value) {
        this.#change([...this.#pairs, [String(name), String(value)]]);
    }
    delete(name, value) {
        this.#change(this.#pairs.filter(([other, its]) => other !== String(name) || (value !== undefined && its !== String(value))));
    }
    get(name) {
        return this.#pairs.find(([other]) => other === String(name))?.[1] ?? null;
    }
    getAll(name) {
        return this.#pairs.filter(([other]) => other === String(name)).map(([, value]) => value);
    }
    has(name, value) {
        return this.#pairs.some(([other, its]) => other === String(name) && (value === undefined || its === String(value)));
    }
    set(name, value) {
        const at = this.#pairs.findIndex(([other]) => other === String(name));
        if (at < 0) return this.append(name, value);
        const others = this.#pairs.filter(([other], i) => i <= at || other !== String(name));
        others[at] = [String(name), String(value)];
        this.#change(others);
    }
    sort() {
        this.#change(this.#pairs.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
    }
    get size() {
        return this.#pairs.length;
    }
    forEach(callback, self) {
        for (const [name, value] of this.#pairs) callback.call(self, value, name, this);
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
    [Symbol.iterator]() {
        return this.entries();
    }
    toString() {
        return this.#pairs.map(([name, value]) => `${encode(name)}=${encode(value)}`).join("&");
    }
}
