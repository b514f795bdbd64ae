"""What a handler knows, and what it may do."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Callable

from .schema import plain


class HostError(Exception):
    """The host did not do what a plugin asked. `code` is e.g. "denied" or "timed-out"."""

    def __init__(self, code: str, message: str = ""):
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


@dataclass(frozen=True)
class User:
    id: str
    username: str | None = None
    roles: list[str] = field(default_factory=list)


@dataclass(frozen=True, repr=False)
class Selection:
    """Whom something is for. Nothing happens before one of the last methods is called."""

    # Two selections of the same are equal, whoever they were made by.
    host: Any = field(default=None, compare=False)
    namespace: str | None = None
    rooms: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    has_sender: bool = False
    is_volatile: bool = False
    topic: str | None = None

    def __repr__(self) -> str:
        said = ((it.name, getattr(self, it.name)) for it in fields(self) if it.compare and getattr(self, it.name) != it.default)
        return f"Selection({', '.join(f'{name}={value!r}' for name, value in said)})"

    def to(self, *rooms: str) -> "Selection":
        return replace(self, rooms=self.rooms + rooms)

    def to_user(self, *ids: str) -> "Selection":
        return replace(self, users=self.users + ids)

    def to_role(self, *roles: str) -> "Selection":
        return replace(self, roles=self.roles + roles)

    def to_socket(self, *ids: str) -> "Selection":
        return replace(self, sockets=self.sockets + ids)

    def except_(self, *rooms: str) -> "Selection":
        return replace(self, excepted=self.excepted + rooms)

    def include_sender(self) -> "Selection":
        return replace(self, has_sender=True)

    def volatile(self) -> "Selection":
        return replace(self, is_volatile=True)

    def keep(self, topic: str) -> "Selection":
        return replace(self, topic=topic)

    def emit(self, event: str, *arguments: Any) -> None:
        self.host.emit(self, event, plain(arguments))

    def count(self) -> int:
        return self.host.count(self)

    def disconnect(self, close: bool = False) -> None:
        self.host.disconnect(self, close)


@dataclass(frozen=True)
class Presence:
    """Who is present in a room."""

    host: Any
    room: str

    def enter(self, data: Any) -> None:
        self.host.presence_enter(self.room, plain(data))

    def leave(self) -> None:
        self.host.presence_leave(self.room)

    def members(self) -> list[dict]:
        return self.host.presence_members(self.room)


@dataclass(frozen=True)
class Store:
    """What the plugin remembers, as JSON. Writes happen when the handler has succeeded."""

    host: Any
    bucket: str | None = None

    def get(self, key: str, default: Any = None) -> Any:
        return self.host.store_get(self.bucket, key, default)

    def set(self, key: str, value: Any, ttl_ms: int | None = None) -> None:
        self.host.store_set(self.bucket, key, plain(value), ttl_ms)

    def delete(self, key: str) -> None:
        self.host.store_delete(self.bucket, key)

    def add(self, key: str, delta: int = 1) -> None:
        self.host.store_add(self.bucket, key, delta)

    def update(self, key: str, change: Callable[[Any], Any], default: Any = None) -> Any:
        value = change(self.get(key, default))
        self.set(key, value)
        return value


class Timers:
    def __init__(self, host: Any):
        self._host = host

    def set(self, name: str, payload: Any = None, after_ms: int = 0, every_ms: int | None = None) -> None:
        self._host.timer_set(name, plain(payload), after_ms, every_ms)

    def cancel(self, name: str) -> None:
        self._host.timer_cancel(name)


class Context:
    """Of one call."""

    def __init__(self, host: Any, config: dict):
        self._host = host
        self.config = config
        self.store = Store(host)
        self.timers = Timers(host)

    @property
    def id(self) -> str:
        return self._host.id()

    @property
    def namespace(self) -> str:
        return self._host.namespace()

    @property
    def address(self) -> str:
        return self._host.address()

    @property
    def user(self) -> User | None:
        return self._host.user()

    @property
    def rooms(self) -> list[str]:
        return self._host.rooms()

    @property
    def data(self) -> Any:
        """What the plugin keeps with the connection."""
        return self._host.data()

    @data.setter
    def data(self, value: Any) -> None:
        self._host.set_data(plain(value))

    def join(self, room: str) -> None:
        self._host.join(room)

    def leave(self, room: str) -> None:
        self._host.leave(room)

    def emit(self, event: str, *arguments: Any) -> None:
        """To the sender."""
        self._host.emit(None, event, plain(arguments))

    def ask(self, event: str, *arguments: Any, timeout_ms: int = 3000) -> Any:
        """Asks the sender, and waits for its answer."""
        return self._host.ask(event, plain(arguments), timeout_ms)

    def disconnect(self, close: bool = False) -> None:
        self._host.disconnect(None, close)

    @property
    def broadcast(self) -> Selection:
        """Everybody in the namespace but the sender."""
        return Selection(self._host)

    def of(self, namespace: str) -> Selection:
        return Selection(self._host, namespace)

    def to(self, *rooms: str) -> Selection:
        return self.broadcast.to(*rooms)

    def to_user(self, *ids: str) -> Selection:
        return self.broadcast.to_user(*ids)

    def to_role(self, *roles: str) -> Selection:
        return self.broadcast.to_role(*roles)

    def to_socket(self, *ids: str) -> Selection:
        return self.broadcast.to_socket(*ids)

    def presence(self, room: str) -> Presence:
        return Presence(self._host, room)

    def history(self, topic: str, position: str | None = None, limit: int = 100) -> dict:
        """Events that were kept, for a client."""
        return self._host.history(topic, position, limit)

    def bucket(self, name: str) -> Store:
        return Store(self._host, name)
