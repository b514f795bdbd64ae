//! Chat in rooms: who is there, who is typing, what was said, and what somebody missed.
//!
//! The host does the work: it knows who is present (and tells the room), keeps the last messages, checks what
//! clients send and how often. What is left is who may do what. A connection is in as many rooms as it likes.
use mixlab_plugin::{Member, PastEvents, prelude::*};

mixlab_plugin::export!(plugin);

/// `config` in `mixlab.toml`.
#[data]
#[serde(deny_unknown_fields)]
struct Settings {
    /// How many messages a client gets at once of those that it missed.
    page: u32,
}

fn plugin(config: &Config) -> Result<Plugin, String> {
    let Settings { page } = config.get()?;
    let event = |name: &str, rate: &str| {
        let event = Event::new(name).anyone();
        event.limit(Scope::Socket, rate).max_bytes(8192)
    };
    Ok(
        Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .event(event("chat:join", "20/10s").handle(join))
            .event(event("chat:leave", "20/10s").handle(leave))
            .event(event("chat:say", "10/5s").handle(say))
            .event(event("chat:typing", "10/5s").handle(typing))
            .event(
                event("chat:history", "60/10s")
                    .handle(move |cx: &Context, missed: Missed| history(cx, &missed, page)),
            )
            .emits::<Said>("chat:message")
            .emits::<Typing>("chat:typing"),
    )
}

/// The name of a room.
#[data]
#[serde(transparent)]
struct Room(#[schemars(length(min = 1, max = 50), regex(pattern = r"^\P{Cc}*$"))] String);

#[data]
struct Join {
    room: Room,
    /// Who has no token says a name; of others, the token does.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"\S"))]
    name: Option<String>,
}

#[data]
struct InRoom {
    room: Room,
}

#[data]
struct Say {
    room: Room,
    /// Made up by the client, to know its messages again.
    #[schemars(length(min = 1, max = 64))]
    id: String,
    /// Anything but blank.
    #[schemars(length(max = 2000), regex(pattern = r"\S"))]
    text: String,
}

#[data]
struct Missed {
    room: Room,
    /// The place behind the last message that the client has; none if it has none.
    position: Option<String>,
}

/// Somebody in a room.
#[data]
#[derive(Clone)]
struct Person {
    /// Of the user; of a guest, that of the connection, as the host's presence has it.
    id: String,
    name: String,
    /// Whether the name is no more than what somebody said.
    guest: bool,
}

#[data(Serialize, JsonSchema)]
struct Joined {
    me: Person,
    members: Vec<Member<Person>>,
}

/// A message, which is known by its sender and its id.
#[data]
struct Said {
    room: Room,
    from: Person,
    id: String,
    text: String,
}

#[data]
struct Typing {
    room: Room,
    from: Person,
}

impl Room {
    /// What the host knows it by: the room, its presence and the topic of its history.
    fn key(&self) -> String {
        format!("chat:{}", self.0)
    }
}

/// Enters, and answers who was there before. The room hears of it by the host's event `presence`.
fn join(cx: &Context, join: Join) -> Result<Joined, Rejection> {
    let me = match (cx.user(), join.name) {
        (Ok(user), _) => Person {
            id: user.id.clone(),
            name: user.username.as_ref().unwrap_or(&user.id).clone(),
            guest: false,
        },
        (Err(_), Some(name)) => Person {
            id: cx.id(),
            name: name.trim().to_owned(),
            guest: true,
        },
        (Err(_), None) => return Err(Rejection::new("name_missing", "Say who you are")),
    };
    cx.set_data(&me)?;
    let presence = cx.presence(join.room.key());
    presence.enter(&me)?;
    let members = presence.members()?;
    Ok(Joined { me, members })
}

fn leave(cx: &Context, InRoom { room }: InRoom) -> Result<(), Rejection> {
    Ok(cx.presence(room.key()).leave()?)
}

/// Everybody in the room gets the message, the sender as well, and whoever comes later finds it.
fn say(cx: &Context, Say { room, id, text }: Say) -> Result<(), Rejection> {
    let from = person(cx, &room)?;
    let to_room = cx.to(room.key()).include_sender().keep(room.key());
    let said = Said {
        room,
        from,
        id,
        text,
    };
    Ok(to_room.emit("chat:message", &said)?)
}

/// Nothing is lost with one that is missed: whoever goes on typing is told of again.
fn typing(cx: &Context, InRoom { room }: InRoom) -> Result<NoAck, Rejection> {
    let from = person(cx, &room)?;
    let to_others = cx.to(room.key()).volatile();
    to_others.emit("chat:typing", &Typing { room, from })?;
    Ok(NoAck)
}

/// To be asked after joining, so that nothing falls between.
fn history(cx: &Context, missed: &Missed, page: u32) -> Result<PastEvents, Rejection> {
    person(cx, &missed.room)?;
    let position = missed.position.as_deref();
    Ok(cx.history(&missed.room.key(), position, page)?.into())
}

/// Who the sender is in a room that it has joined.
fn person(cx: &Context, room: &Room) -> Result<Person, Rejection> {
    let person = match cx.joined()?.contains(&room.key()) {
        true => cx.data()?,
        false => None,
    };
    person.ok_or_else(|| Rejection::new("not_joined", "Join the room first"))
}
