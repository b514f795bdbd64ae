# Chat in rooms, as `chat/` has it in Rust: who is there, who is typing, what was said, and what somebody
# missed. The host does the work; what is left is who may do what.
from dataclasses import dataclass
from typing import Annotated

from mixlab import NO_ACK, Context, Plugin, Reject, Text

# The name of a room.
Room = Annotated[str, Text(1, 50, r"^\P{Cc}*$")]


@dataclass
class Person:
    """Somebody in a room. A guest's name is no more than what somebody said."""

    id: str
    name: str
    guest: bool


@dataclass
class Join:
    room: Room
    name: Annotated[str, Text(1, 40, r"\S")] | None = None


@dataclass
class InRoom:
    room: Room


@dataclass
class Say:
    room: Room
    id: Annotated[str, Text(1, 64)]
    text: Annotated[str, Text(max=2000, pattern=r"\S")]


@dataclass
class Missed:
    room: Room
    position: str | None = None


plugin = Plugin("chat", "0.1.0")
COMMON = {"anyone": True, "max_bytes": 8192}


@plugin.on_load
def check(config: dict) -> None:
    if not isinstance(config.get("page"), int):
        raise ValueError("config needs `page`, a number")


def key(room: str) -> str:
    """What the host knows a room by: the room, its presence and the topic of its history."""
    return f"chat:{room}"


def sender(cx: Context, room: str) -> dict:
    """Who the sender is in a room that it has joined."""
    person = cx.data if key(room) in cx.rooms else None
    if person is None:
        raise Reject("not_joined", "Join the room first")
    return person


@plugin.event("chat:join", limit={"socket": "20/10s"}, **COMMON)
def join(cx: Context, join: Join) -> dict:
    """Enters, and answers who was there before. The room hears of it by the host's event `presence`."""
    user = cx.user
    if user:
        me = Person(user.id, user.username or user.id, False)
    elif join.name is not None:
        me = Person(cx.id, join.name.strip(), True)
    else:
        raise Reject("name_missing", "Say who you are")
    cx.data = me
    presence = cx.presence(key(join.room))
    presence.enter(me)
    return {"me": me, "members": presence.members()}


@plugin.event("chat:leave", limit={"socket": "20/10s"}, **COMMON)
def leave(cx: Context, where: InRoom) -> None:
    cx.presence(key(where.room)).leave()


@plugin.event("chat:say", limit={"socket": "10/5s"}, **COMMON)
def say(cx: Context, said: Say) -> None:
    """Everybody in the room gets the message, the sender as well, and whoever comes later finds it."""
    message = {"room": said.room, "from": sender(cx, said.room), "id": said.id, "text": said.text}
    cx.to(key(said.room)).include_sender().keep(key(said.room)).emit("chat:message", message)


@plugin.event("chat:typing", limit={"socket": "10/5s"}, **COMMON)
def typing(cx: Context, where: InRoom):
    """Nothing is lost with one that is missed: whoever goes on typing is told of again."""
    cx.to(key(where.room)).volatile().emit("chat:typing", {"room": where.room, "from": sender(cx, where.room)})
    return NO_ACK


@plugin.event("chat:history", limit={"socket": "60/10s"}, **COMMON)
def history(cx: Context, missed: Missed) -> dict:
    """To be asked after joining, so that nothing falls between."""
    sender(cx, missed.room)
    return cx.history(key(missed.room), missed.position, cx.config["page"])
