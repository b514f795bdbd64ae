"""From the types of a handler to JSON Schemas, which the host checks, and from JSON to these types."""

import dataclasses
import inspect
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Text:
    """Of a text: how many characters, and a regular expression."""

    min: int | None = None
    max: int | None = None
    pattern: str | None = None

    def schema(self) -> dict:
        return _said(minLength=self.min, maxLength=self.max, pattern=self.pattern)


@dataclass(frozen=True)
class Number:
    """Of a number: from where to where."""

    min: float | None = None
    max: float | None = None

    def schema(self) -> dict:
        return _said(minimum=self.min, maximum=self.max)


@dataclass(frozen=True)
class Items:
    """Of a list: how many."""

    min: int | None = None
    max: int | None = None

    def schema(self) -> dict:
        return _said(minItems=self.min, maxItems=self.max)


def _said(**keys: Any) -> dict:
    return {key: value for key, value in keys.items() if value is not None}


_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema_of(wanted: Any) -> dict | bool:
    """The JSON Schema of a type."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return True
    if wanted in _PLAIN:
        return {"type": _PLAIN[wanted]}
    if origin is Annotated:
        schema = schema_of(inner[0])
        for more in inner[1:]:
            schema = schema | more.schema() if hasattr(more, "schema") else schema
        return schema
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one) for one in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if wanted is list or origin is list:
        return {"type": "array"} | ({"items": schema_of(inner[0])} if inner else {})
    if wanted is dict or origin is dict:
        return {"type": "object"} | ({"additionalProperties": schema_of(inner[1])} if inner else {})
    if dataclasses.is_dataclass(wanted):
        hints = get_type_hints(wanted, include_extras=True)
        fields = dataclasses.fields(wanted)
        return {
            "type": "object",
            "properties": {field.name: schema_of(hints[field.name]) for field in fields},
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


class Signature:
    """What a handler takes behind its context."""

    def __init__(self, handler):
        parameters = list(inspect.signature(handler).parameters.values())[1:]
        hints = get_type_hints(handler, include_extras=True)
        self.is_any = any(one.kind is one.VAR_POSITIONAL for one in parameters)
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
    """Whether it is this one of several types, by what JSON shows."""
    if get_origin(wanted) is Annotated:
        return _fits(get_args(wanted)[0], value)
    if dataclasses.is_dataclass(wanted):
        return isinstance(value, dict) and all(key in value for key in schema_of(wanted)["required"])
    kind = get_origin(wanted) or wanted
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind) if isinstance(kind, type) else False


def plain(value: Any) -> Any:
    """What JSON can say of a value: dataclasses are objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value
