"""Does calls of host/backend/python, one after the other, each of what the last one returned: JSON on stdin and stdout.
Names are those of the package for Node; bytes are written as {"$bytes": BASE64}.
"""
import base64
import dataclasses
import json
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parents[2] / "host/backend/python"))

from mixlab_backend import MixLab, MixLabError  # noqa: E402

NAMES = {"except": "except_", "in": "in_"}


def decode(value):
    if isinstance(value, dict):
        if "$bytes" in value:
            return base64.b64decode(value["$bytes"])
        return {key: decode(field) for key, field in value.items()}
    return [decode(item) for item in value] if isinstance(value, list) else value


def encode(value):
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    return [encode(item) for item in value] if hasattr(value, "__next__") or isinstance(value, list) else value


def call(at, name, args):
    if name == "emitAll":
        args = [[at.to(room).event(event) for room, event in args[0]]]
    keywords = args.pop() if name in ("sockets", "users", "rooms") and args else {}
    method = getattr(at, NAMES.get(name) or re.sub("[A-Z]", lambda it: f"_{it[0].lower()}", name))
    return method(*args, **keywords) if callable(method) else method


asked = json.load(sys.stdin)
try:
    at = MixLab(sys.argv[1], **{"key": sys.argv[2], **asked["options"]})
    for name, *args in decode(asked["calls"]):
        at = call(at, name, args)
    answer = {"result": encode(at)}
except MixLabError as error:
    known = {key: getattr(error, key) for key in ("code", "status", "temporary", "refused", "details")}
    answer = {"error": {"message": str(error), **known}}
except ValueError as error:
    answer = {"error": {"message": str(error)}}
print(json.dumps(answer))
