# Reminds users of something, later.
from dataclasses import dataclass
from typing import Annotated

from mixlab import Context, Number, Plugin, Text, Timer

plugin = Plugin("{{name}}", "0.1.0")


@dataclass
class Reminder:
    text: Annotated[str, Text(1, 200)]
    seconds: Annotated[int, Number(1, 86_400)]


@plugin.event("{{name}}:remind", limit={"user": "10/1m"})
def remind(cx: Context, wanted: Reminder) -> None:
    user = cx.user.id
    cx.timers.set(f"user:{user}", {"user": user, "text": wanted.text}, after_ms=wanted.seconds * 1000)


@plugin.on_timer
def is_due(cx: Context, timer: Timer) -> None:
    cx.to_user(timer.payload["user"]).emit("{{name}}:reminder", {"text": timer.payload["text"]})
