"""From the types of a handler to JSON Schemas, which the host checks, and from JSON to these types."""

import dataclasses
import inspect
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Text:
    """Of a text: how many characters, and a regular expression."""

    of = ("string",)

    min: int | None = None
    max: int | None = None
    pattern: str | None = None

    def schema(self) -> dict:
        return _said(minLength=self.min, maxLength=self.max, pattern=self.pattern)


@dataclass(frozen=True)
class Number:
    """Of a number: from where to where."""

    of = ("integer", "number")

    min: float | None = None
    max: float | None = None

    def schema(self) -> dict:
        return _said(minimum=self.min, maximum=self.max)


@dataclass(frozen=True)
class Items:
    """Of a list: how many."""

    of = ("array",)

    min: int | None = None
    max: int | None = None

    def schema(self) -> dict:
        return _said(minItems=self.min, maxItems=self.max)


def _said(**keys: Any) -> dict:
    return {key: value for key, value in keys.items() if value is not None}


_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema_of(wanted: Any, within: tuple = ()) -> dict | bool:
    """The JSON Schema of a type, which is a part of dataclasses."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return True
    if wanted in _PLAIN:
        return {"type": _PLAIN[wanted]}
    if origin is Annotated:
        schema = schema_of(inner[0], within)
        for more in inner[1:]:
            if more in (Text, Number, Items):
                raise TypeError(f"{wanted!r}: write {more.__name__}(…)")
            if isinstance(more, (Text, Number, Items)):
                # JSON Schema has no bound for values of another type: it would hold for whatever comes.
                if not any(one.get("type") in more.of for one in schema.get("anyOf", [schema])):
                    raise TypeError(f"{wanted!r}: {more!r} says nothing of it")
                schema = schema | more.schema()
        return schema
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one, within) for one in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if wanted is list or origin is list:
        return {"type": "array"} | ({"items": schema_of(inner[0], within)} if inner else {})
    if origin is dict and inner[0] is not str:
        raise TypeError(f"{wanted!r} has no JSON Schema: the keys of JSON are str")
    if wanted is dict or origin is dict:
        return {"type": "object"} | ({"additionalProperties": schema_of(inner[1], within)} if inner else {})
    if dataclasses.is_dataclass(wanted):
        if wanted in within:
            raise TypeError(f"{wanted!r} has no JSON Schema: it is a part of itself")
        within += (wanted,)
        hints = get_type_hints(wanted, include_extras=True)
        fields = dataclasses.fields(wanted)
        return {
            "type": "object",
            "properties": {field.name: schema_of(hints[field.name], within) for field in fields},
            "required": [field.name for field in fields if not _has_default(field)],
        }
    raise TypeError(f"{wanted!r} has no JSON Schema: take str, int, float, bool, list, dict, a dataclass, Literal or Any")


def _has_default(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def tuple_schema(wanted: list, needed: int | None = None) -> dict:
    """The JSON Schema of an array with these types, so many of them at least."""
    needed = len(wanted) if needed is None else needed
    # JSON Schema has no empty list of items.
    items = {"prefixItems": [schema_of(one) for one in wanted]} if wanted else {}
    return {"type": "array", **items, "minItems": needed, "maxItems": len(wanted)}


_IN_ORDER = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Signature:
    """What a handler takes behind its context."""

    def __init__(self, handler):
        context, *parameters = inspect.signature(handler).parameters.values() or [None]
        if context is None or context.kind not in _IN_ORDER:
            raise TypeError(f"{handler.__qualname__} takes no context")
        if inspect.iscoroutinefunction(handler) or inspect.isgeneratorfunction(handler):
            raise TypeError(f"{handler.__qualname__} is no plain function: a handler is one call, and nothing waits for it")
        hints = get_type_hints(handler, include_extras=True)
        # One like `*arguments` takes what comes, and no contract says what.
        self.is_any = [one.kind for one in parameters] == [inspect.Parameter.VAR_POSITIONAL]
        for one in parameters:
            if one.kind not in _IN_ORDER and not self.is_any:
                raise TypeError(f"{handler.__qualname__}: arguments of events come in order, and not as {one}")
        self.types = [hints.get(one.name, Any) for one in parameters]
        self.needed = sum(one.default is one.empty for one in parameters)

    def schema(self) -> dict | None:
        return None if self.is_any else tuple_schema(self.types, self.needed)

    def read(self, arguments: list) -> list:
        """The arguments as the handler takes them."""
        return arguments if self.is_any else [read(one, value) for one, value in zip(self.types, arguments)]


def read(wanted: Any, value: Any) -> Any:
    """A value of this type, of JSON that keeps its schema."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if wanted is int:
        # JSON has one kind of numbers: 1.0 is an integer.
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if origin is Annotated:
        return read(inner[0], value)
    if origin in (Union, types.UnionType):
        return next((read(one, value) for one in inner if _fits(one, value)), value)
    if origin is list and inner:
        return [read(inner[0], one) for one in value]
    if origin is dict and inner:
        return {key: read(inner[1], one) for key, one in value.items()}
    if dataclasses.is_dataclass(wanted):
        hints = get_type_hints(wanted, include_extras=True)
        known = [field.name for field in dataclasses.fields(wanted) if field.name in value]
        return wanted(**{name: read(hints[name], value[name]) for name in known})
    return value


def _fits(wanted: Any, value: Any) -> bool:
    """Whether it is this one of several types."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return True
    if origin is Annotated:
        return _fits(inner[0], value)
    if origin in (Union, types.UnionType):
        return any(_fits(one, value) for one in inner)
    if origin is Literal:
        # True is no 1 here.
        return any(type(one) is type(value) and one == value for one in inner)
    if origin is list and inner:
        return isinstance(value, list) and all(_fits(inner[0], one) for one in value)
    if origin is dict and inner:
        return isinstance(value, dict) and all(_fits(inner[1], one) for one in value.values())
    if dataclasses.is_dataclass(wanted):
        hints = get_type_hints(wanted, include_extras=True)
        return isinstance(value, dict) and all(
            _fits(hints[field.name], value[field.name]) if field.name in value else _has_default(field)
            for field in dataclasses.fields(wanted)
        )
    if wanted in (int, float):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and (wanted is float or value == int(value))
    return isinstance(value, wanted) if isinstance(wanted, type) else False


def plain(value: Any) -> Any:
    """What JSON can say of a value: dataclasses are objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value
