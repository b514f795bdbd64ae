// What scripts ask of the host, in a test: what they read is what the test has put there, and what they do is
// recorded. These are the functions of the module `mixlab:natives` that handlers reach.

/** What is around the handler that runs. */
let around;

/** Takes this for what is around handlers. */
export function surround(state) {
    around = state;
}

let HostError;
export function hostError(constructor) {
    HostError = constructor;
}

function fail(code, text) {
    throw new HostError(code, text);
}

/** The connection that the call is for. */
function connection() {
    return around.connection ?? fail("no-connection", "The call is for no connection");
}

const encoder = new TextEncoder();
export const encode = (text) => encoder.encode(String(text));

export function decode(bytes, isFatal) {
    try {
        return new TextDecoder("utf-8", { fatal: isFatal, ignoreBOM: true }).decode(bytes);
    } catch {
        throw new TypeError("the bytes are not UTF-8");
    }
}

export const random = (count) => crypto.getRandomValues(new Uint8Array(count));

export const id = () => connection().id;
export const namespace = () => connection().namespace;
export const address = () => connection().address;
export const recovered = () => connection().recovered;
export const user = () => JSON.stringify(connection().user ?? null);

export function handshake() {
    connection();
    return JSON.stringify(around.handshake);
}

export function data() {
    connection();
    return around.effects.data;
}

export function setData(data) {
    connection();
    around.effects.data = data;
}

export function join(room) {
    connection();
    around.effects.rooms.add(room);
}

export function leave(room) {
    connection();
    around.effects.rooms.delete(room);
}

export function joined() {
    connection();
    return [...around.effects.rooms];
}

function move(selection, room, joins) {
    around.effects.moved.push({ selection, room, joins });
}
export const joinSockets = (selection, room) => move(selection, room, true);
export const leaveSockets = (selection, room) => move(selection, room, false);

/** A message that the script may change the bytes of afterwards. */
const message = (text, bytes) => ({ text, bytes: bytes?.map((one) => one.slice()) });

export function emit(selection, event, text, bytes, volatile, keep) {
    if (selection === null) connection();
    around.effects.emitted.push({ selection, event, message: message(text, bytes), volatile, keep });
}

export const paymentUpdate = (data) => void around.effects.broadcasts.push({ paymentUpdate: JSON.parse(data) });
export const userNotification = (user, data) => void around.effects.broadcasts.push({ user, notification: JSON.parse(data) });
export const toRole = (role, event, data) => void around.effects.broadcasts.push({ role, event, data: JSON.parse(data) });
export const clients = () => around.clients;

export function disconnect(selection, close) {
    if (selection === null) connection();
    around.effects.disconnected.push({ selection, close });
}

export function ask(event, text, bytes) {
    connection();
    around.acts.asked.push({ event, message: message(text, bytes) });
    const answer = around.acts.answers.shift() ?? fail("timed-out", "There was no answer in time");
    if (answer instanceof Error) throw answer;
    return answer;
}

/** Each socket that is there gives the next answer. */
export function askSockets(selection, event, text, bytes) {
    around.acts.asked.push({ event, message: message(text, bytes) });
    const [answers, missing] = [[], []];
    for (const { connection } of around.sockets) {
        const answer = around.acts.answers.shift();
        if (answer === undefined || answer instanceof Error) missing.push(connection.id);
        else answers.push([connection.id, ...answer]);
    }
    return [answers, missing];
}

export const find = () => JSON.stringify(around.sockets);
export const count = () => around.sockets.length;

export function http(method, url, headers, body) {
    around.acts.requests.push({ method, url, headers: Object.fromEntries(JSON.parse(headers)), body: body.slice() });
    const answer = around.acts.http.shift() ?? fail("unreachable", "the test has no answer for it");
    if (answer instanceof Error) throw answer;
    return answer;
}

/** Of the events of a topic, those behind the one at a position. */
export function since(topic, position, limit) {
    const kept = around.history.get(topic) ?? [];
    const from = position === undefined ? Math.max(0, kept.length - limit) : kept.findIndex((entry) => entry.position === position) + 1;
    const entries = kept.slice(from, from + limit);
    const last = entries.at(-1)?.position ?? position ?? "";
    return JSON.stringify({ entries, position: last, gap: false, more: from + entries.length < kept.length });
}

/** Who the connection is among those who are present. */
function self() {
    const { id, user } = connection();
    return user?.id ?? id;
}

export function presenceEnter(room, data) {
    const id = self();
    join(room);
    const others = (around.effects.present.get(room) ?? []).filter((other) => other.id !== id);
    const member = { id, anonymous: connection().user === undefined, connections: 1, data };
    around.effects.present.set(room, [...others, member]);
}

export function presenceLeave(room) {
    const id = self();
    leave(room);
    around.effects.present.set(room, (around.effects.present.get(room) ?? []).filter((other) => other.id !== id));
}

/** Those who were there before this call. */
const present = (room) => around.present.get(room) ?? [];
export const presenceMembers = (room) => JSON.stringify(present(room));
export const presenceCount = (room) => present(room).length;

/** A bucket of the store: what it holds by its keys. */
export function bucketOf(state, name) {
    const { store } = state.effects;
    if (!store.has(name)) store.set(name, new Map());
    return store.get(name);
}

function stored(bucket, key) {
    const found = bucketOf(around, bucket).get(key);
    return found === undefined || found.until <= around.now ? undefined : found.bytes;
}

/** What is stored, as text where it is one and nobody wants the bytes. */
function valueOf(bytes, isRaw) {
    if (isRaw) return bytes.slice();
    try {
        return decode(bytes, true);
    } catch {
        return bytes.slice();
    }
}

export function storeGet(bucket, key, isRaw) {
    const bytes = stored(bucket, key);
    return bytes === undefined ? undefined : valueOf(bytes, isRaw);
}

export const storeExists = (bucket, key) => stored(bucket, key) !== undefined;

export function storeScan(bucket, prefix, after, limit, isRaw) {
    const keys = [...bucketOf(around, bucket).keys()].filter((key) => key.startsWith(prefix) && (after === undefined || key > after));
    const found = keys.toSorted().filter((key) => storeExists(bucket, key));
    return found.slice(0, limit).flatMap((key) => [key, storeGet(bucket, key, isRaw)]);
}

export function storeSet(bucket, key, value, ttl) {
    const bytes = typeof value === "string" ? encode(value) : value.slice();
    bucketOf(around, bucket).set(key, { bytes, until: ttl === undefined ? Infinity : around.now + ttl });
}

export const storeDelete = (bucket, key) => void bucketOf(around, bucket).delete(key);

export function storeAdd(bucket, key, delta) {
    const text = storeGet(bucket, key, false) ?? "0";
    if (typeof text !== "string" || !/^-?\d+$/.test(text)) fail("invalid", `${key} is not a whole number`);
    storeSet(bucket, key, String(BigInt(text) + BigInt(delta)), undefined);
}

export function timerSet(text) {
    const { name, due, payload, every_ms: every, serial } = JSON.parse(text);
    const timer = { due: due.At ?? around.now + due.After, payload: JSON.parse(payload) };
    if (every !== null) timer.every = every;
    if (serial !== null) timer.serial = serial;
    around.effects.timers.set(name, timer);
}

export const timerCancel = (name) => void around.effects.timers.delete(name);
