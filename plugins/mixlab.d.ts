// What a script of MixLab imports, and what it finds without an import. For editors and tsc: in the
// tsconfig.json beside the scripts, "include" this file, and leave "lib" without "dom" (see host/docs/plugins/scripts.md).

declare module "mixlab" {
    /** A type of values: what the host checks, and what TypeScript knows of them. */
    export interface Type<T> {
        /** JSON Schema, draft 2020-12. */
        readonly schema: object;
        readonly isOptional: boolean;
        /** For TypeScript only: nothing is there. */
        readonly "~value"?: T;
    }
    /** A value that may be missing. */
    export interface OptionalType<T> extends Type<T> {
        readonly isOptional: true;
    }
    /** A schema of a library that can say it as JSON Schema, as Zod 4 does. */
    export interface StandardSchema<T> {
        readonly "~standard": {
            readonly types?: { readonly output: T } | undefined;
            readonly jsonSchema: { input(options: { target: string }): object };
        };
    }
    export type AnyType = Type<any> | StandardSchema<any>;
    /** What values of a type are. */
    export type Infer<T> = T extends OptionalType<infer V> ? V | undefined
        : T extends Type<infer V> ? V
        : T extends StandardSchema<infer V> ? V
        : never;

    type Fields = Record<string, AnyType>;
    type OptionalKeys<F extends Fields> = { [K in keyof F]: F[K] extends OptionalType<any> ? K : never }[keyof F];
    type Flat<T> = { [K in keyof T]: T[K] };
    type Obj<F extends Fields> = Flat<
        { [K in Exclude<keyof F, OptionalKeys<F>>]: Infer<F[K]> } & { [K in OptionalKeys<F>]?: Infer<F[K]> }
    >;
    type Args<A extends readonly AnyType[]> = A extends readonly [infer First, ...infer Rest extends readonly AnyType[]]
        ? First extends OptionalType<any> ? [Infer<First>?, ...Args<Rest>] : [Infer<First>, ...Args<Rest>]
        : [];
    type NumberOptions = { min?: number; max?: number; above?: number; below?: number; multipleOf?: number };

    /** Types of values. */
    export const t: {
        /** `min` and `max` count characters; of a `pattern` the flags do not count. */
        string(options?: { min?: number; max?: number; pattern?: RegExp | string }): Type<string>;
        number(options?: NumberOptions): Type<number>;
        integer(options?: NumberOptions): Type<number>;
        boolean(): Type<boolean>;
        null(): Type<null>;
        /** Whatever it is. */
        any(): Type<any>;
        literal<const V extends string | number | boolean | null>(value: V): Type<V>;
        enum<const V extends string | number | boolean | null>(...values: V[]): Type<V>;
        array<T extends AnyType>(item: T, options?: { min?: number; max?: number; unique?: boolean }): Type<Infer<T>[]>;
        tuple<const A extends readonly AnyType[]>(...items: A): Type<Args<A>>;
        /** Other keys may be there as well, unless it is `strict`. */
        object<F extends Fields>(fields: F, options?: { strict?: boolean }): Type<Obj<F>>;
        record<T extends AnyType>(value: T, options?: { max?: number }): Type<Record<string, Infer<T>>>;
        union<const A extends readonly AnyType[]>(...types: A): Type<Infer<A[number]>>;
        optional<T extends AnyType>(type: T): OptionalType<Infer<T>>;
        nullable<T extends AnyType>(type: T): Type<Infer<T> | null>;
        /** Bytes: an attachment of the message. */
        bytes(): Type<Uint8Array>;
        /** Anything that a JSON Schema says. */
        schema<T = any>(schema: object | boolean): Type<T>;
    };

    /** Milliseconds, or a text like `"250ms"`, `"5s"`, `"10m"`, `"1h"`, `"2d"`, without a space. */
    export type Duration = number | `${number}${"ms" | "s" | "m" | "h" | "d"}`;
    /** `"100/10s"`, or that with how many may come at once: `"100/10s burst 20"`. */
    export type Rate = string;

    /** An authenticated user, as its token says. */
    export interface User {
        readonly id: string;
        readonly username?: string;
        readonly roles: readonly string[];
    }

    export interface RejectionOptions {
        /** Whether the same may succeed later; true if there is a `retryAfter`. */
        temporary?: boolean;
        retryAfter?: Duration;
        /** Anything more that the client should know. */
        details?: unknown;
    }
    /** A "no" to the client: `{ error: { code, message, … } }`. Nothing of what the call did happens. */
    export class Rejection extends Error {
        constructor(code: string, message?: string, options?: RejectionOptions);
        readonly code: string;
    }
    /** Throws a `Rejection`. */
    export function reject(code: string, message?: string, options?: RejectionOptions): never;
    /** Why a client is not let in: its `connect_error` has the message, and the data. */
    export class Refusal extends Error {
        constructor(message: string, data?: unknown);
    }
    /** What the host did not do. */
    export class HostError extends Error {
        readonly code:
            | "denied" | "invalid" | "over-budget" | "busy" | "unavailable" | "no-connection"
            | "timed-out" | "disconnected" | "unreachable";
    }

    /** What a handler or a filter may answer beside a value. */
    export interface Answer {
        readonly kind: string;
    }
    /** Of a handler or a filter: no ack, even if the client asked for one. */
    export const noAck: Answer;
    /** Of a handler or a filter: an ack with these arguments. */
    export function reply(...args: unknown[]): Answer;
    /** Of a filter: on with the event, as it is. */
    export const pass: Answer;
    /** Of a filter: on with the event, with these arguments. */
    export function replace(...args: unknown[]): Answer;
    /** Of a filter: the event is done, and its ack has no arguments. */
    export const done: Answer;

    export interface EventOptions<A extends readonly AnyType[], R extends AnyType> {
        /** What clients send. Those at the end may be `t.optional`. */
        args?: A;
        /** What the ack holds. */
        reply?: R;
        /** Who may send it; `"authenticated"` if nothing is said. */
        access?: "anyone" | "authenticated";
        /** Only users with one of these roles. */
        roles?: readonly string[];
        /** How often. By what it counts: each connection, user, address, primary role, or all together. */
        limit?: { [scope in "socket" | "user" | "ip" | "role" | "event"]?: Rate | readonly Rate[] };
        /** What becomes of it over a limit. */
        onExcess?: "answer" | "drop";
        /** The largest payload. */
        maxBytes?: number;
        /** Calls run one after the other that have this in common: a JSON Pointer into the arguments like `"/0/room"`. */
        serialBy?: `/${string}` | "namespace" | { name: string };
        /** Whether a call that asked a client or sent a request may run again. */
        repeatable?: boolean;
    }
    /** An event's contract and its handler. */
    export interface HandledEvent {
        readonly contract: object;
    }
    type Replied<R> = R | Answer | void | Promise<R | Answer | void>;

    /** Handles an event. What the handler returns is the ack. */
    export function event(handler: (cx: Context, ...args: any[]) => unknown): HandledEvent;
    export function event<const A extends readonly AnyType[], R extends AnyType = Type<any>>(
        options: EventOptions<A, R> & { args: A },
        handler: (cx: Context, ...args: Args<A>) => Replied<Infer<R>>,
    ): HandledEvent;
    export function event<R extends AnyType = Type<any>>(
        options: EventOptions<readonly AnyType[], R> & { args?: undefined },
        handler: (cx: Context, ...args: any[]) => Replied<Infer<R>>,
    ): HandledEvent;

    export interface PluginOptions {
        /** For people; `mixlab.toml` gives the name that counts. */
        name?: string;
        /** A semantic version. */
        version?: string;
        /** The namespaces whose events it handles; `/` if none is named. Grant: `namespace:/PATH`. */
        namespaces?: string | readonly string[];
        /** What it emits. The host holds it to that. */
        emits?: Record<string, readonly AnyType[]>;
    }
    type Events = Record<string, HandledEvent>;
    /** What a script is: its default export. `config` is that of `mixlab.toml`. */
    export function plugin<C = any>(events: Events | ((config: C) => Events)): Plugin<C>;
    export function plugin<C = any>(options: PluginOptions, events: Events | ((config: C) => Events)): Plugin<C>;

    export interface Timer {
        readonly name: string;
        readonly payload: any;
        readonly due: Date;
        /** From 1. */
        readonly attempt: number;
    }
    export interface WebhookRequest {
        readonly method: string;
        /** Behind `/hooks/PLUGIN`. */
        readonly path: string;
        readonly query: URLSearchParams;
        readonly headers: Headers;
        readonly body: Uint8Array;
        /** The id of the delivery; none if the host does not check who sends. */
        readonly delivery?: string;
        text(): string;
        json(): any;
    }
    export interface WebhookResponse {
        /** 200 if nothing is said. From 400 on, nothing of the call happens. */
        status?: number;
        headers?: Record<string, string>;
        body?: string | Uint8Array;
        json?: unknown;
    }
    type Maybe<T> = T | Promise<T>;

    export interface Plugin<C = any> {
        /** Before a client is told that it is connected. Throwing a `Refusal` or a `Rejection` keeps it out. */
        onConnect(hook: (cx: Context<C>, auth: any) => Maybe<void>): this;
        /** After the last event of a connection. */
        onDisconnect(hook: (cx: Context<C>, reason: string) => Maybe<void>): this;
        /** Timers that are due. Grant: `timers`. */
        onTimer(handler: (cx: Context<C>, timer: Timer) => Maybe<void>): this;
        /** A timer that is there as long as the script declares it. Grant: `timers`. */
        every(name: string, interval: Duration, handler: (cx: Context<C>, timer: Timer) => Maybe<void>, options?: { missed?: "skip" | "once" }): this;
        /** The same by a cron expression, e.g. `"0 9 * * MON-FRI Europe/Berlin"`. Grant: `timers`. */
        cron(name: string, expression: string, handler: (cx: Context<C>, timer: Timer) => Maybe<void>, options?: { missed?: "skip" | "once" }): this;
        /** Events of other plugins, before their handlers; `*` stands for any characters. Grant: `filter:EVENT`. */
        filter(event: string, filter: (cx: Context<C>, ...args: any[]) => Maybe<Answer | void>): this;
        /** Requests of other services to `/hooks/PLUGIN/…`. */
        onWebhook(handler: (cx: Context<C>, request: WebhookRequest) => Maybe<WebhookResponse | void>): this;
        /** Brings what former versions have stored into the form of `version`; returns where to go on. */
        migration(version: number, migrate: (cx: Context<C>, from: number, cursor?: string) => Maybe<string | void>): this;
    }

    /** The call that is under way: who it is for, and what can be done. What sends, joins, leaves and writes is an
     * effect: it happens when the handler has succeeded, in order, and before the ack. */
    export interface Context<C = any> extends Selecting {
        /** The event's name. */
        readonly event: string;
        readonly config: C;
        /** The client's `socket.id`. */
        readonly id: string;
        readonly namespace: string;
        readonly address: string;
        /** Whether its client lost the connection and has it back. */
        readonly recovered: boolean;
        /** None if the connection is anonymous. */
        readonly user?: User;
        /** The rooms that it is in, of those that are granted. */
        readonly rooms: string[];
        /** What the plugin keeps with the connection; `null` at first. */
        data: any;
        /**
         * What the client said when it connected, and as headers `claim:NAME` the JSON of claims of its user's token.
         * Grant: `handshake`, and `header:NAME` or `claim:NAME`.
         */
        readonly handshake: { readonly query: URLSearchParams; readonly headers: Headers };
        /** Grant: `room:ROOM`. */
        join(...rooms: string[]): void;
        leave(...rooms: string[]): void;
        /** To the sender. Grant: `emit` or `emit:EVENT`. */
        emit(event: string, ...args: unknown[]): void;
        /** May be dropped if the client is not ready to receive. */
        volatileEmit(event: string, ...args: unknown[]): void;
        /** Emits at once and waits up to 3 seconds for the ack, whose first argument this is. Grant: `ask`. */
        ask<T = any>(event: string, ...args: unknown[]): Promise<T>;
        timeout(wait: Duration): { ask<T = any>(event: string, ...args: unknown[]): Promise<T> };
        /** All others of the namespace. Grant: `everyone`. */
        readonly broadcast: Selection;
        /** The plugin's own bucket. Grant: `store`. */
        readonly store: Store;
        /** A bucket that plugins share. Grant: `store:BUCKET`. */
        bucket(name: string): Store;
        readonly timers: Timers;
        /** Grant: `presence:ROOM`. */
        presence(room: string): Presence;
        /** Events that were kept. Grant: `history:TOPIC`. */
        history(topic: string, options?: { position?: string | null; limit?: number }): Promise<History>;
        broadcastPaymentUpdate(data: unknown): void;
        sendUserNotification(userId: string | number, notification: object): void;
        broadcastToRole(role: string, event: string, data: unknown): void;
        connectedClientsCount(): Promise<number>;
        /** Ends the connection to the namespace, behind the ack. Grant: `disconnect`. */
        disconnect(): void;
        /** Ends the client's transport, behind the ack. Grant: `disconnect`. */
        close(): void;
        uuid(): string;
    }

    interface Selecting {
        /** Sockets in one of these rooms, of which there has to be one, without the sender. Grant: `room:ROOM`. */
        to(...rooms: string[]): Selection;
        toUser(...ids: (string | number)[]): Selection;
        toRole(...roles: string[]): Selection;
        toSocket(...ids: string[]): Selection;
        /** In another namespace. */
        of(namespace: string): Selection;
    }
    /** Sockets of one namespace. Each method returns another selection. */
    export interface Selection extends Selecting {
        /** But not those in these rooms, or with these ids. */
        except(...rooms: string[]): Selection;
        includeSender(): Selection;
        volatile(): Selection;
        /** Keeps what is emitted in this topic of the history. Grant: `history:TOPIC`. */
        keep(topic: string): Selection;
        /** How long `ask` waits. */
        timeout(wait: Duration): Selection;
        emit(event: string, ...args: unknown[]): void;
        /** Asks every socket, and waits until all have answered or the time is over. Grant: `ask`. */
        ask<T = any>(event: string, ...args: unknown[]): Promise<{ answers: { socket: string; reply: T }[]; missing: string[] }>;
        /** Grant: `find`. */
        find(): Promise<Socket[]>;
        count(): Promise<number>;
        join(room: string): void;
        leave(room: string): void;
        disconnect(): void;
        close(): void;
    }
    export interface Socket {
        readonly id: string;
        readonly namespace: string;
        readonly address: string;
        readonly recovered: boolean;
        readonly user?: User;
        readonly rooms: string[];
        readonly data: any;
    }

    /** What the plugin remembers, beyond reloads and restarts. What is read makes the call a transaction. */
    export interface Store {
        get<T = any>(key: string): Promise<T | undefined>;
        getBytes(key: string): Promise<Uint8Array | undefined>;
        exists(key: string): Promise<boolean>;
        /** At most `limit` (100, up to 1000) of the keys that begin with `prefix` and come behind `after`. */
        scan<T = any>(prefix: string, options?: { after?: string; limit?: number }): Promise<{ key: string; value: T }[]>;
        /** Bytes, or JSON, which `undefined` and functions are not. */
        set(key: string, value: {} | null, options?: { ttl?: Duration }): void;
        delete(key: string): void;
        /** Adds to a whole number, without reading it. */
        add(key: string, delta?: number): void;
        /** Reads, changes and writes what `change` returns. */
        update<T = any>(key: string, change: (value: T | undefined) => Maybe<T>, options?: { ttl?: Duration }): Promise<T>;
    }
    /** Grant: `timers`. */
    export interface Timers {
        /** Due after `after` or at `at`, at once if neither is said, and again and again with `every`. */
        set(name: string, payload?: unknown, when?: { after?: Duration; at?: Date | number; every?: Duration; serial?: string }): void;
        cancel(name: string): void;
    }
    export interface Member<T = any> {
        readonly id: string;
        readonly anonymous: boolean;
        readonly connections: number;
        readonly data: T;
    }
    export interface Presence {
        enter(data?: unknown): void;
        leave(): void;
        members<T = any>(): Promise<Member<T>[]>;
        count(): Promise<number>;
    }
    export interface History {
        readonly events: { position: string; at_ms: number; event: string; arguments: any[] }[];
        readonly position: string;
        readonly gap: boolean;
        readonly more: boolean;
    }
}

interface Console {
    debug(...parts: unknown[]): void;
    trace(...parts: unknown[]): void;
    log(...parts: unknown[]): void;
    info(...parts: unknown[]): void;
    dir(value: unknown): void;
    table(value: unknown): void;
    warn(...parts: unknown[]): void;
    error(...parts: unknown[]): void;
    assert(holds: unknown, ...parts: unknown[]): void;
    count(label?: string): void;
}
/** Writes into the server's log. */
declare const console: Console;

declare class URLSearchParams {
    constructor(init?: string | Record<string, string> | Iterable<readonly [string, string]>);
    append(name: string, value: string): void;
    delete(name: string, value?: string): void;
    get(name: string): string | null;
    getAll(name: string): string[];
    has(name: string, value?: string): boolean;
    set(name: string, value: string): void;
    sort(): void;
    readonly size: number;
    forEach(callback: (value: string, name: string, params: URLSearchParams) => void): void;
    entries(): IterableIterator<[string, string]>;
    keys(): IterableIterator<string>;
    values(): IterableIterator<string>;
    [Symbol.iterator](): IterableIterator<[string, string]>;
    toString(): string;
}
declare class URL {
    constructor(url: string | URL, base?: string | URL);
    static canParse(url: string, base?: string): boolean;
    static parse(url: string, base?: string): URL | null;
    href: string;
    readonly origin: string;
    protocol: string;
    username: string;
    password: string;
    host: string;
    hostname: string;
    port: string;
    pathname: string;
    search: string;
    readonly searchParams: URLSearchParams;
    hash: string;
    toString(): string;
    toJSON(): string;
}
declare class TextEncoder {
    readonly encoding: string;
    encode(text?: string): Uint8Array;
    encodeInto(text: string, into: Uint8Array): { read: number; written: number };
}
/** UTF-8 only. */
declare class TextDecoder {
    constructor(encoding?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
    readonly encoding: string;
    readonly fatal: boolean;
    decode(bytes?: ArrayBuffer | ArrayBufferView): string;
}
declare class Headers {
    constructor(init?: Record<string, string> | Iterable<readonly [string, string]>);
    append(name: string, value: string): void;
    set(name: string, value: string): void;
    delete(name: string): void;
    get(name: string): string | null;
    has(name: string): boolean;
    entries(): IterableIterator<[string, string]>;
    keys(): IterableIterator<string>;
    values(): IterableIterator<string>;
    forEach(callback: (value: string, name: string, headers: Headers) => void): void;
    [Symbol.iterator](): IterableIterator<[string, string]>;
}
interface Response {
    readonly url: string;
    readonly status: number;
    readonly ok: boolean;
    readonly headers: Headers;
    bytes(): Promise<Uint8Array>;
    arrayBuffer(): Promise<ArrayBuffer>;
    text(): Promise<string>;
    json(): Promise<any>;
}
/** Sends a request and waits for the whole answer. Redirects are not followed. Grant: `http:URL`. */
declare function fetch(
    url: string | URL,
    options?: {
        method?: string;
        headers?: Record<string, string> | Headers | Iterable<readonly [string, string]>;
        body?: string | URLSearchParams | ArrayBuffer | ArrayBufferView | null;
        timeout?: import("mixlab").Duration;
    },
): Promise<Response>;
declare const crypto: {
    getRandomValues<T extends ArrayBufferView>(array: T): T;
    randomUUID(): string;
};
declare const performance: { now(): number };
declare function structuredClone<T>(value: T): T;
declare function queueMicrotask(callback: () => void): void;
declare function atob(text: string): string;
declare function btoa(text: string): string;
