// Chat in rooms, as `chat/` has it in Rust: who is there, who is typing, what was said, and what somebody
// missed. To serve it, let `path` of the plugin `chat` in mixlab.toml be "plugins/chat.ts".
import { event, type Context, noAck, plugin, reject, t, type Infer } from "mixlab";

/** The name of a room. */
const room = t.string({ min: 1, max: 50, pattern: /^\P{Cc}*$/u });
const inRoom = t.object({ room });

/** Somebody in a room. A guest's name is no more than what somebody said. */
const person = t.object({ id: t.string(), name: t.string(), guest: t.boolean() });
type Person = Infer<typeof person>;

/** What the host knows a room by: the room, its presence and the topic of its history. */
const key = (name: string) => `chat:${name}`;

/** Who the sender is in a room that it has joined. */
function sender(cx: Context, name: string): Person {
    const who: Person | null = cx.rooms.includes(key(name)) ? cx.data : null;
    return who ?? reject("not_joined", "Join the room first");
}

const common = { access: "anyone", maxBytes: 8192 } as const;

export default plugin(
    {
        name: "chat",
        version: "0.1.0",
        emits: {
            // A message is known by its sender and its id.
            "chat:message": [t.object({ room, from: person, id: t.string(), text: t.string() })],
            "chat:typing": [t.object({ room, from: person })],
        },
    },
    ({ page }: { page: number }) => ({
        // The room hears of it by the host's event `presence`.
        "chat:join": event(
            { ...common, args: [t.object({ room, name: t.optional(t.string({ min: 1, max: 40, pattern: /\S/ })) })], limit: { socket: "20/10s" } },
            async (cx, join) => {
                const me: Person = cx.user
                    ? { id: cx.user.id, name: cx.user.username ?? cx.user.id, guest: false }
                    : { id: cx.id, name: join.name?.trim() ?? reject("name_missing", "Say who you are"), guest: true };
                cx.data = me;
                const presence = cx.presence(key(join.room));
                presence.enter(me);
                return { me, members: await presence.members<Person>() };
            },
        ),

        "chat:leave": event({ ...common, args: [inRoom], limit: { socket: "20/10s" } }, (cx, { room }) => {
            cx.presence(key(room)).leave();
        }),

        // Everybody in the room gets the message, the sender as well, and whoever comes later finds it.
        "chat:say": event(
            {
                ...common,
                args: [t.object({ room, id: t.string({ min: 1, max: 64 }), text: t.string({ max: 2000, pattern: /\S/ }) })],
                limit: { socket: "10/5s" },
            },
            (cx, { room, id, text }) => {
                const from = sender(cx, room);
                cx.to(key(room)).includeSender().keep(key(room)).emit("chat:message", { room, from, id, text });
            },
        ),

        // Nothing is lost with one that is missed: whoever goes on typing is told of again.
        "chat:typing": event({ ...common, args: [inRoom], limit: { socket: "10/5s" } }, (cx, { room }) => {
            cx.to(key(room)).volatile().emit("chat:typing", { room, from: sender(cx, room) });
            return noAck;
        }),

        // To be asked after joining, so that nothing falls between.
        "chat:history": event(
            { ...common, args: [t.object({ room, position: t.optional(t.nullable(t.string())) })], limit: { socket: "60/10s" } },
            async (cx, { room, position }) => {
                sender(cx, room);
                return cx.history(key(room), { position, limit: page });
            },
        ),
    }),
);
