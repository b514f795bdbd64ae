"""The plugin as a component. Only there its imports are to be had: `mixlab build` adds this module."""

import json
import traceback

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import connections, events, filters, lifecycle, offers, webhooks
from wit_world.imports import ask, connection, emit, history, presence, rooms, sockets, store, timers, types

from .context import Context, HostError, User
from .plugin import DONE, NO_ACK, PASS, Plugin, Reject, Replace, Reply, Request, Timer
from .schema import plain

__all__ = ["Connections", "Events", "Filters", "Lifecycle", "Migrations", "Offers", "TimerHandler", "Webhooks"]


def _text(value) -> str:
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def _asked(function, *arguments):
    """What the host answers, or a HostError."""
    try:
        return function(*arguments)
    except Err as error:
        name = type(error.value).__name__.removeprefix("Error_")
        code = "".join("-" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("-")
        raise HostError(code, getattr(error.value, "value", "")) from None


def _message(arguments) -> types.Message:
    return types.Message(_text(arguments), [])


def _target(selection):
    if selection is None:
        return types.Target_Sender()
    return types.Target_Sockets(_selection(selection))


def _selection(of) -> types.Selection:
    names = [list(names) for names in (of.rooms, of.users, of.roles, of.sockets, of.excepted)]
    return types.Selection(of.namespace, *names, of.has_sender)


class Host:
    """What a context asks, of the host that runs the component."""

    id = staticmethod(lambda: _asked(connection.id))
    namespace = staticmethod(lambda: _asked(connection.namespace))
    address = staticmethod(lambda: _asked(connection.address))
    rooms = staticmethod(lambda: _asked(rooms.joined))
    join = staticmethod(lambda room: _asked(rooms.join, room))
    leave = staticmethod(lambda room: _asked(rooms.leave, room))
    data = staticmethod(lambda: json.loads(_asked(sockets.data)))
    set_data = staticmethod(lambda value: _asked(sockets.set_data, _text(value)))
    count = staticmethod(lambda selection: _asked(sockets.count, _selection(selection)))
    disconnect = staticmethod(lambda selection, close: _asked(sockets.disconnect, _target(selection), close))
    presence_enter = staticmethod(lambda room, data: _asked(presence.enter, room, _text(data)))
    presence_leave = staticmethod(lambda room: _asked(presence.leave, room))
    store_delete = staticmethod(lambda bucket, key: _asked(store.delete, bucket, key))
    store_add = staticmethod(lambda bucket, key, delta: _asked(store.add, bucket, key, delta))
    timer_cancel = staticmethod(lambda name: _asked(timers.cancel, name))

    @staticmethod
    def user():
        user = _asked(connection.user)
        return user and User(user.id, user.username, user.roles)

    @staticmethod
    def emit(selection, event, arguments):
        volatile, topic = (False, None) if selection is None else (selection.is_volatile, selection.topic)
        _asked(emit.emit, _target(selection), event, _message(arguments), emit.Options(volatile, topic))

    @staticmethod
    def ask(event, arguments, timeout_ms):
        answer = json.loads(_asked(ask.ask, event, _message(arguments), timeout_ms).arguments)
        return answer[0] if answer else None

    @staticmethod
    def presence_members(room):
        members = _asked(presence.members, room)
        return [
            {"id": one.id, "anonymous": one.anonymous, "connections": one.connections, "data": json.loads(one.data)}
            for one in members
        ]

    @staticmethod
    def history(topic, position, limit):
        page = _asked(history.since, topic, position, limit)
        entries = [
            {"position": one.position, "at_ms": one.at_ms, "event": one.event, "arguments": json.loads(one.message.arguments)}
            for one in page.entries
        ]
        return {"events": entries, "position": page.position, "gap": page.gap, "more": page.more}

    @staticmethod
    def store_get(bucket, key, default):
        value = _asked(store.get, bucket, key)
        return default if value is None else json.loads(value)

    @staticmethod
    def store_set(bucket, key, value, ttl_ms):
        _asked(store.set, bucket, key, _text(value).encode(), ttl_ms)

    @staticmethod
    def timer_set(name, payload, after_ms, every_ms):
        _asked(timers.set, timers.Timer(name, timers.When_After(after_ms), _text(payload), every_ms, None))


HOST = Host()


def _rejection(error: Exception) -> Err:
    """What becomes of what a handler raised."""
    if isinstance(error, Reject):
        details = None if error.details is None else _text(error.details)
        is_temporary = error.retry_after_ms is not None
        return Err(types.Rejection(error.code, error.message, is_temporary, error.retry_after_ms, details))
    # The host logs it, and does not tell the client.
    words = "".join(traceback.format_exception(error))
    return Err(types.Rejection("plugin_error", words, False, None, None))


def _call(handler, *arguments):
    """Calls a handler with the context; whatever it raises is the call's rejection."""
    try:
        return handler(Context(HOST, Plugin.current.config), *arguments)
    except Exception as error:
        raise _rejection(error) from None


def _reply(answer):
    arguments = answer.arguments if isinstance(answer, Reply) else [answer]
    try:
        return _message(list(arguments))
    except Exception as error:
        raise _rejection(error) from None


class Lifecycle(exports.Lifecycle):
    def describe(self, config: str) -> lifecycle.Description:
        plugin = Plugin.current
        if plugin is None:
            raise Err("its module makes no Plugin")
        plugin.config = json.loads(config)
        try:
            plugin.hooks.get("load", lambda config: None)(plugin.config)
        except ValueError as error:
            raise Err(str(error)) from None
        return lifecycle.Description(
            plugin.name,
            plugin.version,
            plugin.namespaces,
            [_contract(event) for event in plugin.events.values()],
            [lifecycle.EmitContract(name, json.dumps(schema)) for name, schema in plugin.emits.items()],
            [],
            [pattern for pattern, _ in plugin.filters],
        )


def _contract(event) -> lifecycle.EventContract:
    access = lifecycle.Access_Anyone() if event.anyone else lifecycle.Access_Authenticated()
    if event.roles is not None:
        access = lifecycle.Access_Roles(event.roles)
    limits = [
        lifecycle.RateLimit(lifecycle.Scope[one.scope.upper()], one.count, one.interval_ms, one.burst) for one in event.limits
    ]
    schema = event.signature.schema()
    serial = None if event.serial_by is None else lifecycle.SerialKey_Pointer(event.serial_by)
    return lifecycle.EventContract(
        event.name,
        access,
        None if schema is None else json.dumps(schema),
        None if event.reply is None else json.dumps(event.reply),
        limits,
        None,
        event.max_bytes,
        serial,
        False,
    )


class Events(exports.Events):
    def handle(self, event: str, message: types.Message) -> events.Outcome:
        known = Plugin.current.events
        handled = known.get(event) or known["*"]
        answer = _call(handled.handler, *handled.signature.read(json.loads(message.arguments)))
        if answer is None or answer is DONE:
            return events.Outcome_Done()
        if answer is NO_ACK:
            return events.Outcome_NoAck()
        return events.Outcome_Reply(_reply(answer))


class Filters(exports.Filters):
    def filter(self, event: str, message: types.Message) -> filters.Verdict:
        answer = _call(Plugin.current.filter_of(event), event, json.loads(message.arguments))
        if answer is PASS:
            return filters.Verdict_Pass()
        if answer is DONE:
            return filters.Verdict_Done()
        if answer is NO_ACK:
            return filters.Verdict_NoAck()
        if isinstance(answer, Replace):
            return filters.Verdict_Replace(types.Message(_reply(answer).arguments, message.attachments))
        if isinstance(answer, Reply):
            return filters.Verdict_Reply(_reply(answer))
        raise _rejection(TypeError(f"a filter answered {answer!r}: it answers PASS, DONE, NO_ACK, Replace or Reply"))


class Connections(exports.Connections):
    def on_connect(self, auth: str) -> None:
        handler = Plugin.current.hooks.get("connect")
        try:
            if handler:
                handler(Context(HOST, Plugin.current.config), json.loads(auth))
        except Reject as refusal:
            raise Err(connections.Refusal(refusal.code, _text(refusal.message))) from None
        except Exception as error:
            words = "".join(traceback.format_exception(error))
            raise Err(connections.Refusal("plugin_error", _text(words))) from None

    def on_disconnect(self, reason: str) -> None:
        handler = Plugin.current.hooks.get("disconnect")
        if handler:
            handler(Context(HOST, Plugin.current.config), reason)


class TimerHandler(exports.TimerHandler):
    def fire(self, name: str, payload: str, due_ms: int, attempt: int) -> None:
        _call(Plugin.current.hooks["timer"], Timer(name, json.loads(payload), attempt))


class Webhooks(exports.Webhooks):
    def handle(self, request: webhooks.Request) -> webhooks.Response:
        told = Request(request.method, request.path, request.query, dict(request.headers), request.body, request.delivery)
        answer = _call(Plugin.current.hooks["webhook"], told)
        return webhooks.Response(answer.status, list(answer.headers.items()), answer.body)


class Migrations(exports.Migrations):
    def data_version(self) -> int:
        return 0

    def migrate(self, stored: int, cursor: str | None) -> str | None:
        return None


class Offers(exports.Offers):
    def offered(self) -> offers.Offer:
        hooks = Plugin.current.hooks
        has_connections = "connect" in hooks or "disconnect" in hooks
        return offers.Offer(has_connections, "timer" in hooks, bool(Plugin.current.filters), "webhook" in hooks)
