# What `mixlab-load languages` compares: the shipped plugin custom-event, in Python.
from dataclasses import dataclass
from typing import Annotated

from mixlab import Context, Number, Plugin, Text

plugin = Plugin("echo", "1.0.0")


@dataclass
class Asked:
    socket: Annotated[int, Number(0)]
    n: Annotated[int, Number(0)]
    text: Annotated[str, Text(0, 100_000)]


@plugin.event("custom_event", anyone=True, limit={"socket": "1000000/1s"})
def answer(cx: Context, data: Asked) -> Asked:
    cx.emit("custom_response", data)
    return data
