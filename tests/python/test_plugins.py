# What the package `mixlab` makes of a plugin's types, and what its fake host shows.
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import pytest

from mixlab import PASS, Items, Number, Plugin, Reject, Reply, Text
from mixlab.schema import read, schema_of
from mixlab.testing import Fake


@dataclass
class Circle:
    kind: Literal["circle"]
    size: int


@dataclass
class Square:
    kind: Literal["square"]
    size: int


@dataclass
class Node:
    next: "Node | None" = None


def test_a_value_is_of_the_type_that_it_keeps():
    square = {"kind": "square", "size": 1}
    assert read(Circle | Square, square) == Square("square", 1)
    assert read(list[Circle] | list[Square], [square]) == [Square("square", 1)]
    assert read(dict[str, Circle | Square], {"a": square}) == {"a": Square("square", 1)}
    assert read(list[str] | Circle, {"kind": "circle", "size": 2}) == Circle("circle", 2)
    assert read(int | str, True) is True
    assert type(read(int, 1.0)) is int
    assert type(read(int | None, 1.0)) is int


def test_a_type_without_a_schema_is_refused():
    assert schema_of(Annotated[str | None, Text(1, 5)])["minLength"] == 1
    assert schema_of(Annotated[int, Number(1)]) == {"type": "integer", "minimum": 1}
    for wanted, reason in [
        (Annotated[int, Text(1, 5)], "says nothing of it"),
        (Annotated[str, Number(1)], "says nothing of it"),
        (Annotated[str, Items(1)], "says nothing of it"),
        (Annotated[str, Text], r"write Text\(…\)"),
        (dict[int, str], "the keys of JSON are str"),
        (Node, "a part of itself"),
        (bytes, "has no JSON Schema"),
    ]:
        with pytest.raises(TypeError, match=reason):
            schema_of(wanted)


def test_a_handler_that_no_event_could_call_is_refused():
    async def waits(cx): ...
    def with_keyword(cx, *, text: str): ...
    def with_keywords(cx, **more): ...
    def with_rest(cx, text: str, *more: str): ...
    def without_context(): ...

    plugin = Plugin("strict")
    for handler, reason in [
        (waits, "no plain function"),
        (with_keyword, "in order, and not as text"),
        (with_keywords, "in order, and not as \\*\\*more"),
        (with_rest, "in order, and not as \\*more"),
        (without_context, "takes no context"),
    ]:
        with pytest.raises(TypeError, match=reason):
            plugin.event(handler.__name__)(handler)
    plugin.event("twice")(lambda cx: None)
    for name, keys, reason in [
        ("twice", {}, "is there already"),
        ("both", {"anyone": True, "roles": ["admin"]}, "for anyone, or for roles"),
        ("text", {"roles": "admin"}, "roles is a list"),
    ]:
        with pytest.raises(TypeError, match=reason):
            plugin.event(name, **keys)(lambda cx: None)
    assert list(plugin.events) == ["twice"]


def test_one_filter_sees_an_event_and_it_is_that_of_the_host():
    plugin = Plugin("filters")

    @plugin.filter("a[1]*")
    def first(cx, event, arguments):
        return PASS

    @plugin.filter("*")
    def second(cx, event, arguments):
        raise Reject("no")

    fake = Fake(plugin)
    assert fake.filter("a[1]x") is PASS
    for event in ["a1x", "A[1]x", "b"]:
        with pytest.raises(Reject):
            fake.filter(event)


def test_the_fake_host_takes_and_tells_what_a_host_does():
    plugin = Plugin("fakes")
    plugin.event("leave")(lambda cx: cx.leave("never"))
    plugin.event("*")(lambda cx, *arguments: Reply(*arguments))

    @plugin.event("join")
    def join(cx):
        cx.join("here")
        cx.join("here")

    @plugin.event("keep")
    def keep(cx):
        kept = {"list": [1]}
        cx.store.set("key", kept)
        kept["list"].append(2)
        cx.store.get("key")["list"].append(3)
        cx.data = (1, 2)
        return cx.store.get("key")

    fake = Fake(plugin)
    fake.send("leave")
    fake.send("join")
    assert fake.joined == ["here"]
    assert fake.send("keep") == {"list": [1]}
    assert fake.kept_data == [1, 2]
    assert fake.send("whatever", 1, (2,)).arguments == (1, [2])
    for what in [lambda cx: cx.emit("at", datetime.now()), lambda cx: {1, 2}, lambda cx: float("nan"),
                 lambda cx: cx.store.set("at", datetime.now())]:
        plugin.events.pop("cannot", None)
        plugin.event("cannot")(what)
        with pytest.raises((TypeError, ValueError)):
            fake.send("cannot")
    assert fake.emitted == [] and list(fake.stored) == [(None, "key")]
