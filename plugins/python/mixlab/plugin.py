"""What a plugin is: its events with their contracts, and its hooks."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Callable

from .schema import Signature, tuple_schema


class Reject(Exception):
    """A "no" to the client: a word for programs, and a sentence for people."""

    def __init__(self, code: str, message: str = "", *, retry_after_ms: int | None = None, details: Any = None):
        super().__init__(message or code)
        self.code, self.message = code, message or code
        self.retry_after_ms, self.details = retry_after_ms, details


class _Word:
    def __init__(self, name: str):
        self._name = name

    def __repr__(self) -> str:
        return self._name


# What handlers and filters may answer beside a value.
DONE, NO_ACK, PASS = _Word("DONE"), _Word("NO_ACK"), _Word("PASS")


class Reply:
    """An ack with several arguments; of a filter, the ack in place of the handler's."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments


class Replace(Reply):
    """Of a filter: these arguments instead."""


@dataclass(frozen=True)
class Timer:
    name: str
    payload: Any
    attempt: int


@dataclass(frozen=True)
class Request:
    """A webhook."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes
    delivery: str | None = None

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    scope: str
    count: int
    interval_ms: int
    burst: int | None


_RATE = re.compile(r"(\d+)\s*/\s*(\d*)\s*(ms|s|m|h)(?:\s+burst\s+(\d+))?")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
SCOPES = ("socket", "user", "ip", "role", "event")


def _limits(limit: dict[str, str | list[str]]) -> list[Limit]:
    limits = []
    for scope, rates in limit.items():
        if scope not in SCOPES:
            raise TypeError(f"limit knows no {scope!r}; it knows {', '.join(SCOPES)}")
        for rate in [rates] if isinstance(rates, str) else rates:
            match = _RATE.fullmatch(rate)
            if not match:
                raise TypeError(f'{rate!r} is no rate; write it like "100/10s" or "100/10s burst 20"')
            count, every, unit, burst = match.groups()
            limits.append(Limit(scope, int(count), int(every or 1) * _UNITS[unit], int(burst) if burst else None))
    return limits


@dataclass
class Event:
    name: str
    handler: Callable
    signature: Signature
    anyone: bool
    roles: list[str] | None
    reply: dict | None
    limits: list[Limit]
    max_bytes: int | None
    serial_by: str | None


class Plugin:
    """The plugin of a module. Its methods are decorators of functions whose first parameter is the `Context`."""

    # The one that the component is of.
    current: "Plugin | None" = None

    def __init__(self, name: str, version: str = "0.0.0", *, namespaces: list[str] | None = None, emits: dict | None = None):
        self.name, self.version = name, version
        self.namespaces = namespaces or []
        self.emits = {event: tuple_schema(list(types)) for event, types in (emits or {}).items()}
        self.events: dict[str, Event] = {}
        self.hooks: dict[str, Callable] = {}
        self.filters: list[tuple[str, Callable]] = []
        self.config: dict = {}
        Plugin.current = self

    def event(self, name: str, *, anyone: bool = False, roles: list[str] | None = None, reply: Any = None,
              limit: dict | None = None, max_bytes: int | None = None, serial_by: str | None = None) -> Callable:
        """An event. Its schema is that of the function's parameters behind the context."""
        def add(handler: Callable) -> Callable:
            if name in self.events:
                raise TypeError(f"the event {name!r} is there already")
            if anyone and roles is not None:
                raise TypeError(f"the event {name!r}: it is for anyone, or for roles")
            if isinstance(roles, str):
                raise TypeError(f"the event {name!r}: roles is a list")
            schema = None if reply is None else tuple_schema([reply])
            self.events[name] = Event(
                name, handler, Signature(handler), anyone, roles, schema, _limits(limit or {}), max_bytes, serial_by
            )
            return handler
        return add

    def _hook(self, name: str, handler: Callable) -> Callable:
        if name in self.hooks:
            raise TypeError(f"{name} is there already")
        self.hooks[name] = handler
        return handler

    def on_load(self, check: Callable) -> Callable:
        """Called with `config` of mixlab.toml before anything else. A ValueError says why it is no good."""
        return self._hook("load", check)

    def on_connect(self, handler: Callable) -> Callable:
        return self._hook("connect", handler)

    def on_disconnect(self, handler: Callable) -> Callable:
        return self._hook("disconnect", handler)

    def on_timer(self, handler: Callable) -> Callable:
        return self._hook("timer", handler)

    def on_webhook(self, handler: Callable) -> Callable:
        return self._hook("webhook", handler)

    def filter(self, pattern: str) -> Callable:
        """Sees events of other plugins before they do: gets the context, the name and the arguments."""
        def add(handler: Callable) -> Callable:
            self.filters.append((pattern, handler))
            return handler
        return add

    def filter_of(self, event: str) -> Callable | None:
        """The filter that sees an event: the first whose pattern matches, as the host has patterns, in which only `*` stands
        for something else."""
        for pattern, handler in self.filters:
            if re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), event, re.DOTALL):
                return handler
        return None
