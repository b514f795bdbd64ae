"""Whom something is for, and what a backend does with them."""

from __future__ import annotations

import base64
from dataclasses import dataclass, fields, replace
from typing import Any, Callable, Iterable, Iterator, Literal, Mapping, TypeVar, cast

from ._request import Backend, MixLabError, named, segment

RoomKind = Literal["room", "user", "role", "payments"]
Row = TypeVar("Row")


@dataclass(frozen=True)
class Person:
    """Who a user is."""

    id: str
    username: str | None
    roles: list[str]


@dataclass(frozen=True)
class Socket:
    """A socket that is connected."""

    id: str
    namespace: str
    user: Person | None
    """Whose it is; none if nobody's."""
    rooms: list[str]
    """The rooms that it is in and that the key may know of."""
    address: str
    recovered: bool
    """Whether its client lost it and has it back."""
    since: str
    """When its client came, like `2026-01-01T12:00:00.000Z`."""
    data: Any = None
    """What plugins keep with it, by their names, where it was asked for."""


@dataclass(frozen=True)
class User(Person):
    """A user that is connected."""

    sockets: int
    since: str


@dataclass(frozen=True)
class Room:
    """A room with sockets in it."""

    name: str
    kind: RoomKind
    sockets: int


@dataclass(frozen=True)
class Emit:
    """An event that is not sent yet, for `MixLab.emit_all`."""

    body: Mapping[str, Any]


@dataclass(frozen=True)
class _Whom:
    namespace: str | None = None
    rooms: tuple[str, ...] | None = None
    users: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None
    sockets: tuple[str, ...] | None = None
    excepted: tuple[str, ...] | None = None
    volatile: bool | None = None
    keep: str | None = None
    key: str | None = None

    def names(self) -> dict[str, tuple[str, ...]]:
        """Whom it names; nobody in particular is everybody, as in Socket.IO."""
        all_names = {"rooms": self.rooms, "users": self.users, "roles": self.roles, "sockets": self.sockets}
        return {name: names for name, names in all_names.items() if names is not None}

    def body(self) -> dict[str, Any]:
        names = self.names()
        body: dict[str, Any] = dict(names) if names else {"everyone": True}
        if self.excepted is not None:
            body["except"] = self.excepted
        if self.namespace is not None:
            body["namespace"] = self.namespace
        return body

    def query(self) -> dict[str, Any]:
        query: dict[str, Any] = {name.removesuffix("s"): names for name, names in self.names().items()}
        return {**query, "except": self.excepted, "namespace": self.namespace}


class Selection:
    """Whom something is for. Each call returns a selection with more in it. Rooms, users, roles and sockets add up;
    where none is named, it is everybody."""

    def __init__(self, backend: Backend, whom: _Whom) -> None:
        self._backend = backend
        self._whom = whom

    def to(self, *rooms: str) -> Selection:
        """And those in these rooms."""
        return self._with(rooms=(self._whom.rooms or ()) + rooms)

    in_ = to

    def to_user(self, *ids: str | int) -> Selection:
        """And those of these users."""
        return self._with(users=(self._whom.users or ()) + tuple(map(named, ids)))

    def to_role(self, *roles: str) -> Selection:
        """And those of users with these roles."""
        return self._with(roles=(self._whom.roles or ()) + roles)

    def to_socket(self, *ids: str) -> Selection:
        """And those with these ids."""
        return self._with(sockets=(self._whom.sockets or ()) + ids)

    def except_(self, *rooms: str) -> Selection:
        """But not those in these rooms (`user:ID` and `role:ROLE` are rooms, too), or with these ids."""
        return self._with(excepted=(self._whom.excepted or ()) + rooms)

    def of(self, namespace: str) -> Selection:
        """Of this namespace."""
        return self._with(namespace=namespace)

    @property
    def volatile(self) -> Selection:
        """What is emitted may be dropped for clients that are not ready to receive."""
        return self._with(volatile=True)

    def keep(self, topic: str) -> Selection:
        """What is emitted is kept in this topic of the history."""
        return self._with(keep=topic)

    def idempotency_key(self, key: str) -> Selection:
        """What is emitted happens once with this key, whoever sends it how often. Each emit has one of its own
        otherwise."""
        if not 1 <= len(key) <= 255 or not all(" " <= character <= "~" for character in key):
            raise ValueError("an Idempotency-Key has 1 to 255 visible characters")
        return self._with(key=key)

    def event(self, name: str, *args: Any) -> Emit:
        """An event for `MixLab.emit_all`."""
        attachments: list[str] = []
        body = {**self._whom.body(), "event": name, "arguments": [_packed(arg, attachments) for arg in args]}
        if attachments:
            body["attachments"] = attachments
        if self._whom.volatile:
            body["volatile"] = True
        if self._whom.keep is not None:
            body["keep"] = self._whom.keep
        return Emit(body)

    def emit(self, name: str, *args: Any) -> int | None:
        """Emits an event, bytes in its arguments as Socket.IO does. How many sockets got it; none in a cluster, where
        nobody knows."""
        body = self.event(name, *args).body
        answer = self._backend.post("emit", body, once=True, key=self._whom.key)
        return _count(answer["delivered"])

    def sockets(self, *, data: bool = False, limit: int | None = None) -> Iterator[Socket]:
        """The sockets one by one; a page of `limit` at a time is asked for."""
        query = {**self._whom.query(), "data": "true" if data else None}
        return self._list("sockets", query, limit, _socket)

    def fetch_sockets(self, *, data: bool = True) -> list[Socket]:
        """All sockets, of all pages."""
        return list(self.sockets(data=data))

    def users(self, *, limit: int | None = None) -> Iterator[User]:
        """The users of the sockets."""
        return self._list("users", self._whom.query(), limit, lambda row: _row(User, row))

    def rooms(
        self, *, prefix: str | None = None, kinds: Iterable[RoomKind] = (), limit: int | None = None
    ) -> Iterator[Room]:
        """The rooms of the namespace. Whom the selection names does not matter."""
        query = {"namespace": self._whom.namespace, "prefix": prefix, "kind": tuple(kinds)}
        return self._list("rooms", query, limit, lambda row: _row(Room, row), is_of_selection=False)

    def socket(self, id: str, *, data: bool = True) -> Socket | None:
        """One socket of the namespace; none if it is not connected."""
        row = self._one(f"sockets/{segment(id)}", {"data": "true" if data else None})
        return None if row is None else _socket(row)

    def user(self, id: str | int) -> User | None:
        """One user of the namespace; none if none of the user's sockets is connected."""
        row = self._one(f"users/{segment(id)}", {})
        return None if row is None else _row(User, row)

    def sockets_join(self, *rooms: str) -> int | None:
        return self._move("join", {"join": rooms})

    def sockets_leave(self, *rooms: str) -> int | None:
        return self._move("leave", {"leave": rooms})

    def disconnect_sockets(self, close: bool = False) -> int | None:
        """Ends the connections, and to `close` them, the transports of their clients."""
        return self._move("disconnect", {"close": close})

    def _with(self, **more: Any) -> Selection:
        return Selection(self._backend, replace(self._whom, **more))

    def _list(
        self,
        name: str,
        query: dict[str, Any],
        limit: int | None,
        read: Callable[[dict[str, Any]], Row],
        is_of_selection: bool = True,
    ) -> Iterator[Row]:
        names = self._whom.names()
        if is_of_selection and names and not any(names.values()):
            return  # A query without names is for everybody.
        query["limit"] = None if limit is None else str(limit)
        while True:
            page = self._backend.get(name, query)
            if page["silent"] is not None:
                servers = page["silent"]["servers"]
                message = f"the list is not whole: {servers} servers of the cluster do not answer"
                raise MixLabError(message, "cluster_unavailable", status=200, temporary=True, details=page["silent"])
            yield from map(read, page[name])
            if page["next"] is None:
                return
            query["cursor"] = page["next"]

    def _one(self, path: str, query: dict[str, Any]) -> dict[str, Any] | None:
        try:
            row: dict[str, Any] = self._backend.get(path, {"namespace": self._whom.namespace, **query})
            return row
        except MixLabError as error:
            if error.code == "not_found":
                return None
            raise

    def _move(self, path: str, what: dict[str, Any]) -> int | None:
        answer = self._backend.post(f"sockets/{path}", {**self._whom.body(), **what})
        return _count(answer["selected"])


class MixLab(Selection):
    """Everybody of `/`, and what is for no selection.

    `timeout` is how long an answer may take, in seconds, each time that it is tried; a request that failed for a
    passing reason is sent again `retries` times, unless it would have to wait longer than `max_wait` seconds.
    `proxy` is the URL of a proxy that requests go through; `HTTP_PROXY` and the like are not looked at.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 10.0,
        retries: int = 3,
        max_wait: float = 30.0,
        proxy: str | None = None,
    ) -> None:
        super().__init__(Backend(url, key, timeout, retries, max_wait, proxy), _Whom())

    def emit_all(self, emits: Iterable[Emit]) -> list[int | None]:
        """Emits all events, in order, or none of them."""
        answers = self._backend.post("emit", [emit.body for emit in emits], once=True)
        return [_count(answer["delivered"]) for answer in answers]

    def disconnect_user(self, id: str | int, *, close: bool = False) -> int:
        """Ends the connections of a user to all namespaces; how many these were on the server that was asked."""
        answer = self._backend.post(f"users/{segment(id)}/disconnect", {"close": close})
        return int(answer["disconnected"])

    def clients_count(self) -> int:
        return int(self._backend.get("clients/count")["count"])

    def broadcast_payment_update(self, data: Any) -> int | None:
        """`payment_update` to all that subscribed to payments."""
        return self._push("payments/updates", data)

    def send_user_notification(self, id: str | int, notification: Mapping[str, Any]) -> int | None:
        """`notification` to all sockets of a user."""
        return self._push(f"users/{segment(id)}/notifications", notification)

    def broadcast_to_role(self, role: str, event: str, data: Any) -> int | None:
        return self._push(f"roles/{segment(role)}/events/{segment(event)}", data)

    def revoke(
        self,
        *,
        user: str | int | None = None,
        token_id: str | None = None,
        session: str | None = None,
        duration: str | None = None,
    ) -> tuple[int, int]:
        """Takes back the tokens of a user, with an id or of a session, for a `duration` like `"24h"`. Since and until
        when, in seconds since 1970."""
        what = {
            "user": None if user is None else str(user),
            "token_id": token_id,
            "session": session,
            "for": duration,
        }
        answer = self._backend.post("revocations", {name: it for name, it in what.items() if it is not None})
        return int(answer["at"]), int(answer["until"])

    def _push(self, path: str, data: Any) -> int | None:
        return _count(self._backend.post(path, data, once=True)["delivered"])


def _packed(value: Any, attachments: list[str]) -> Any:
    """The value with a placeholder for each bytes object, which becomes an attachment."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        attachments.append(base64.b64encode(value).decode())
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(value, Mapping):
        return {key: _packed(field, attachments) for key, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(element, attachments) for element in value]
    return value


def _socket(row: dict[str, Any]) -> Socket:
    user = row["user"]
    return _row(Socket, {**row, "user": None if user is None else _row(Person, user)})


def _row(kind: Callable[..., Row], row: dict[str, Any]) -> Row:
    """What is known here of a row: a newer server may tell more."""
    known = {field.name for field in fields(cast(Any, kind))}
    return kind(**{name: value for name, value in row.items() if name in known})


def _count(value: Any) -> int | None:
    return None if value is None else int(value)
