"""Handlers without a host, for pytest: what they did is recorded, and what they read is what the test puts there."""

import copy
import json
from typing import Any, Callable

from .context import Context, User
from .plugin import DONE, NO_ACK, Plugin, Reply
from .schema import plain


def named(those: dict[str, Any], what: str, name: str) -> Any:
    """What the plugin has under this name."""
    if name not in those:
        raise LookupError(f"the plugin has no {what} {name!r}; it has: {', '.join(sorted(those)) or 'none'}")
    return those[name]


def told(value: Any) -> Any:
    """What the host is told and tells: a value of its own, of JSON. One that JSON cannot say is a TypeError or ValueError, as
    behind a server."""
    return json.loads(json.dumps(plain(value), allow_nan=False))


class Fake:
    """Stands for the host. What a handler reads can be set; what it did is in `emitted` and the rest."""

    def __init__(self, plugin: Plugin, *, config: dict | None = None, user: User | None = None, id: str = "socket"):
        self._plugin = plugin
        self._user, self._id = user, id
        self.config = config or {}
        # (selection or None for the sender, event, arguments)
        self.emitted: list[tuple[Any, str, list]] = []
        self.joined: list[str] = []
        self.kept_data: Any = None
        self.stored: dict[tuple[str | None, str], Any] = {}
        self.timers: dict[str, tuple[Any, int]] = {}
        self.present: dict[str, list[dict]] = {}
        self.answers: dict[str, Any] = {}
        self.is_connected = True

    def send(self, event: str, *arguments: Any) -> Any:
        """Calls an event's handler; returns what it answers, and raises what it raises."""
        events = self._plugin.events
        handled = named(events, "event", event if event in events or "*" not in events else "*")
        return self._run(lambda *given: _answered(handled.handler(*given)), *handled.signature.read(told(arguments)))

    def call(self, hook: str, *arguments: Any) -> Any:
        """Calls a hook: "connect", "disconnect", "timer" or "webhook"."""
        return self._run(named(self._plugin.hooks, "hook", hook), *arguments)

    def filter(self, event: str, *arguments: Any) -> Any:
        """Calls the filter that sees an event; returns what it answers, and raises what it raises."""
        handler = self._plugin.filter_of(event)
        if handler is None:
            raise KeyError(f"no filter sees {event!r}")
        return self._run(handler, event, told(arguments))

    def _run(self, handler: Callable, *arguments: Any) -> Any:
        """Runs a handler. One that raises has done nothing, as behind a server."""
        effects = ("emitted", "joined", "kept_data", "stored", "timers", "present", "is_connected")
        before = {name: copy.deepcopy(getattr(self, name)) for name in effects}
        try:
            return handler(Context(self, self.config), *arguments)
        except BaseException:
            vars(self).update(before)
            raise

    # What a context asks.

    def id(self) -> str:
        return self._id

    def namespace(self) -> str:
        return "/"

    def address(self) -> str:
        return "127.0.0.1"

    def user(self) -> User | None:
        return self._user

    def rooms(self) -> list[str]:
        return list(self.joined)

    def join(self, room: str) -> None:
        if room not in self.joined:
            self.joined.append(room)

    def leave(self, room: str) -> None:
        if room in self.joined:
            self.joined.remove(room)

    def data(self) -> Any:
        return copy.deepcopy(self.kept_data)

    def set_data(self, value: Any) -> None:
        self.kept_data = told(value)

    def emit(self, selection: Any, event: str, arguments: Any) -> None:
        self.emitted.append((selection, event, told(arguments)))

    def ask(self, event: str, arguments: Any, timeout_ms: int) -> Any:
        return self.answers[event]

    def count(self, selection: Any) -> int:
        return 0

    def disconnect(self, selection: Any, close: bool) -> None:
        self.is_connected = self.is_connected and selection is not None

    def presence_enter(self, room: str, data: Any) -> None:
        told(data)
        self.join(room)

    def presence_leave(self, room: str) -> None:
        self.leave(room)

    def presence_members(self, room: str) -> list[dict]:
        return self.present.get(room, [])

    def history(self, topic: str, position: str | None, limit: int) -> dict:
        return {"events": [], "position": "", "gap": False, "more": False}

    def store_get(self, bucket: str | None, key: str, default: Any) -> Any:
        return copy.deepcopy(self.stored.get((bucket, key), default))

    def store_set(self, bucket: str | None, key: str, value: Any, ttl_ms: int | None) -> None:
        self.stored[bucket, key] = told(value)

    def store_delete(self, bucket: str | None, key: str) -> None:
        self.stored.pop((bucket, key), None)

    def store_add(self, bucket: str | None, key: str, delta: int) -> None:
        self.stored[bucket, key] = self.stored.get((bucket, key), 0) + delta

    def timer_set(self, name: str, payload: Any, after_ms: int, every_ms: int | None) -> None:
        self.timers[name] = (told(payload), after_ms)

    def timer_cancel(self, name: str) -> None:
        self.timers.pop(name, None)


def _answered(answer: Any) -> Any:
    """What the client would be answered."""
    if answer is DONE or answer is NO_ACK:
        return answer
    return Reply(*told(answer.arguments)) if isinstance(answer, Reply) else told(answer)
