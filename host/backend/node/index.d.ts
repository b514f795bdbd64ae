/** How a server is reached. */
export interface Options {
  /** Where the server is; `MIXLAB_URL`, or `http://127.0.0.1:3000`, if it is left out. */
  url?: string | URL;
  /** An API key of the server; `MIXLAB_API_KEY` if it is left out. */
  key?: string;
  /** How long an answer may take, in milliseconds, each time that it is tried; 10,000 if it is left out. */
  timeout?: number;
  /** How often a request is sent again that failed for a passing reason; 3 if it is left out. */
  retries?: number;
  /** A request is not sent again that would have to wait longer than this, in milliseconds; 30,000 if it is left out. */
  maxWait?: number;
  /** What sends the requests, as behind a proxy; the `fetch` of Node if it is left out. */
  fetch?: typeof globalThis.fetch;
}

export interface Socket {
  /** What clients know as `socket.id`. */
  id: string;
  namespace: string;
  /** Whose it is; null if nobody's. */
  user: { id: string; username: string | null; roles: string[] } | null;
  /** The rooms that it is in and that the key may know of. */
  rooms: string[];
  address: string;
  /** Whether its client lost it and has it back. */
  recovered: boolean;
  /** When its client came, as `toISOString` writes it. */
  since: string;
  /** What plugins keep with it, by their names, where it was asked for. */
  data?: unknown;
}

export interface User {
  id: string;
  username: string | null;
  roles: string[];
  /** How many the user has in the namespace. */
  sockets: number;
  since: string;
}

export type RoomKind = 'room' | 'user' | 'role' | 'payments';

export interface Room {
  name: string;
  kind: RoomKind;
  sockets: number;
}

/** How many sockets it was for; null in a cluster, where nobody knows. */
export type Count = number | null;

type Names = string | number | readonly (string | number)[];

/** An event that is not sent yet, for `MixLab.emitAll`. */
export interface Emit {
  toJSON(): Record<string, unknown>;
}

/**
 * Whom something is for. Each call returns a selection with more in it. Rooms, users, roles and sockets add up; where
 * none is named, it is everybody.
 */
export interface Selection {
  /** And those in these rooms. */
  to(rooms: string | readonly string[]): Selection;
  /** The same as `to`. */
  in(rooms: string | readonly string[]): Selection;
  /** And those of these users. */
  toUser(ids: Names): Selection;
  /** And those of users with these roles. */
  toRole(roles: string | readonly string[]): Selection;
  /** And those with these ids. */
  toSocket(ids: string | readonly string[]): Selection;
  /** But not those in these rooms (`user:ID` and `role:ROLE` are rooms, too), or with these ids. */
  except(rooms: string | readonly string[]): Selection;
  /** Of this namespace. */
  of(namespace: string): Selection;
  /** What is emitted may be dropped for clients that are not ready to receive. */
  readonly volatile: Selection;
  /** What is emitted is kept in this topic of the history. */
  keep(topic: string): Selection;
  /** What is emitted happens once with this key, whoever sends it how often. Each emit has one of its own otherwise. */
  idempotencyKey(key: string): Selection;
  /** An event for `MixLab.emitAll`. */
  event(name: string, ...args: unknown[]): Emit;
  /** Emits an event, bytes in its arguments as Socket.IO does. */
  emit(name: string, ...args: unknown[]): Promise<Count>;
  /** All sockets, of all pages. */
  fetchSockets(options?: { data?: boolean }): Promise<Socket[]>;
  /** The same one by one; a page of `limit` at a time is asked for. */
  sockets(options?: { data?: boolean; limit?: number }): AsyncGenerator<Socket, void, undefined>;
  /** The users of the sockets. */
  users(options?: { limit?: number }): AsyncGenerator<User, void, undefined>;
  /** The rooms of the namespace. Whom the selection names does not matter. */
  rooms(options?: { prefix?: string; kind?: RoomKind | readonly RoomKind[]; limit?: number }): AsyncGenerator<Room, void, undefined>;
  /** One socket of the namespace; null if it is not connected. */
  socket(id: string, options?: { data?: boolean }): Promise<Socket | null>;
  /** One user of the namespace; null if none of the user's sockets is connected. */
  user(id: string | number): Promise<User | null>;
  socketsJoin(rooms: string | readonly string[]): Promise<Count>;
  socketsLeave(rooms: string | readonly string[]): Promise<Count>;
  /** Ends the connections, and to `close` them, the transports of their clients. */
  disconnectSockets(close?: boolean): Promise<Count>;
}

export interface MixLab extends Selection {}

/** Everybody of `/`, and what is for no selection. */
export declare class MixLab {
  constructor(options?: Options);
  /** Emits all events, in order, or none of them. */
  emitAll(emits: readonly Emit[]): Promise<Count[]>;
  /** Ends the connections of a user to all namespaces; how many these were on the server that was asked. */
  disconnectUser(id: string | number, options?: { close?: boolean }): Promise<number>;
  clientsCount(): Promise<number>;
  /** `payment_update` to all that subscribed to payments. */
  broadcastPaymentUpdate(data: unknown): Promise<Count>;
  /** `notification` to all sockets of a user. */
  sendUserNotification(id: string | number, notification: object): Promise<Count>;
  broadcastToRole(role: string, event: string, data: unknown): Promise<Count>;
  /** Takes back the tokens of a user, with an id or of a session; until when, in seconds since 1970. */
  revoke(what: ({ user: string | number } | { tokenId: string } | { session: string }) & { for?: string }): Promise<{ at: number; until: number }>;
}

/** Why a request failed. */
export declare class MixLabError extends Error {
  /** A stable word for programs: one of the server's, or `timeout`, `unreachable` or `http_STATUS`. */
  readonly code: string;
  /** Of the HTTP answer, if there was one. */
  readonly status?: number;
  /** Whether the same may succeed later. */
  readonly temporary: boolean;
  /** Whether the server said no: nothing of it has happened. */
  readonly refused: boolean;
  readonly retryAfterMs?: number;
  readonly details?: unknown;
  /** Finds the line of the server's log. */
  readonly traceId?: string;
}
