// Handlers without a host: what they did is recorded, and what they read is what the test puts there. Contracts,
// grants and budgets are not looked at: `mixlab test` has all of that.
import type { Answer, Duration, HostError, Plugin, Refusal, Rejection, User } from "mixlab";

export { HostError, Refusal, Rejection } from "mixlab";

export interface HostOptions<C> {
    /** That of `mixlab.toml`. */
    config?: C;
    /** What the plugin is called if it does not say so. */
    name?: string;
    /** When the clock stands still; the time at which the host is made if nothing is said. */
    at?: Date | string | number;
}

/** A plugin, with a host around it that is none. It throws what the plugin throws when it is loaded. */
export function host<C>(plugin: Plugin<C>, options?: HostOptions<C>): Host;

/** Whom something is for: `"sender"`, or a selection, of which only what was said is there. */
export type Target = "sender" | Selected;
export interface Selected {
    namespace?: string;
    rooms?: string[];
    users?: string[];
    roles?: string[];
    sockets?: string[];
    except?: string[];
    includeSender?: true;
}

/** An event that a handler has sent. */
export interface Emitted {
    target: Target;
    event: string;
    arguments: any[];
    /** Whether it may be dropped. */
    volatile?: true;
    /** The topic of the history that it is kept in. */
    keep?: string;
}

export interface Connection {
    id: string;
    namespace: string;
    address: string;
    user: User | undefined;
    recovered: boolean;
}

export interface SetTimer {
    /** Milliseconds until it is due. */
    after: number;
    payload: any;
    every?: number;
    serial?: string;
}

export type Broadcast =
    | { paymentUpdate: any }
    | { user: string; notification: any }
    | { role: string; event: string; data: any };

export interface HttpAnswer {
    /** 200 if nothing is said. */
    status?: number;
    headers?: Record<string, string>;
    body?: string | Uint8Array;
    json?: unknown;
}

/** Text where it is one, bytes otherwise. */
export type Body = string | Uint8Array;

export interface Host {
    /** The connection that events come from. */
    readonly connection: Connection;
    /** The connection is a user's from now on. */
    logIn(id: string | number, roles?: readonly string[], username?: string): void;

    /** Sends an event. What comes back is the list of the ack's arguments, none for `noAck`; a handler that rejects
     * or fails throws here, and has done nothing. */
    send(event: string, ...args: unknown[]): Promise<any[] | undefined>;
    /** The client asks to be let in. */
    connect(auth?: object): Promise<void>;
    /** The connection has ended. */
    disconnect(reason?: string): Promise<void>;
    /** An event of another plugin comes by. */
    filter(event: string, ...args: unknown[]): Promise<Answer>;
    /** A timer that was set, or that the plugin declares, is due. */
    fire(name: string): Promise<void>;
    /** Moves the clock on, and calls the timers that are due until then, in order. */
    advance(duration: Duration): Promise<void>;
    /** Another service posts JSON. */
    post(body: unknown): Promise<{ status: number; headers: Record<string, string>; body: Body }>;
    /** Another service sends a request. With a status from 400 on, nothing of the call happens. */
    webhook(request: {
        method?: string;
        path?: string;
        query?: Record<string, string>;
        headers?: Record<string, string>;
        body?: string | Uint8Array;
        delivery?: string;
    }): Promise<{ status: number; headers: Record<string, string>; body: Body }>;

    /** The rooms that the connection is in. */
    readonly rooms: string[];
    /** What the plugin keeps with the connection. */
    readonly data: any;
    /** The timers that are set, by their names. */
    readonly timers: Record<string, SetTimer>;
    /** The time of the clock. */
    readonly now: Date;

    /** What handlers have emitted since this was last asked. */
    takeEmitted(): Emitted[];
    /** What handlers have sent by `broadcastPaymentUpdate`, `sendUserNotification` and `broadcastToRole`. */
    takeBroadcasts(): Broadcast[];
    /** Which other sockets were put into rooms, or taken out of them. */
    takeMoved(): { selection: Target; room: string; joins: boolean }[];
    /** Whose connections were ended, and whether with their transports. */
    takeDisconnected(): { target: Target; close: boolean }[];

    /** Stores a value, in the plugin's own bucket if none is named. */
    put(key: string, value: unknown, bucket?: string): void;
    /** What is stored. */
    stored<T = any>(key: string, bucket?: string): T | undefined;

    /** What the next request is answered; without one, the server cannot be reached. */
    answerHttp(answer: HttpAnswer | Error): void;
    /** The requests that were sent since this was last asked. */
    takeRequests(): { method: string; url: string; headers: Record<string, string>; body: Body }[];
    /** What the next client that is asked answers; without one, it does not. */
    answerAsk(...answer: unknown[]): void;
    /** The events that clients were asked since this was last asked. */
    takeAsked(): { event: string; arguments: any[] }[];
    /** What was logged since this was last asked. It is written to the console, too. */
    takeLog(): { level: "debug" | "info" | "warn" | "error"; text: string }[];

    /** What the client said when it connected. */
    setHandshake(handshake: { query?: Record<string, string>; headers?: Record<string, string> }): void;
    /** The sockets that every selection finds. */
    setSockets(sockets: { id: string; namespace?: string; address?: string; recovered?: boolean; user?: User; rooms?: string[]; data?: unknown }[]): void;
    /** The events that are kept in a topic, the oldest first. */
    setHistory(topic: string, events: { event: string; arguments: unknown[]; position?: string; at_ms?: number }[]): void;
    /** How many clients are connected. */
    setClients(count: number): void;
}
