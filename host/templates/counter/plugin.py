# Counts, and remembers.
from dataclasses import dataclass
from typing import Annotated

from mixlab import Context, Number, Plugin

plugin = Plugin("{{name}}", "0.1.0")


@dataclass
class By:
    by: Annotated[int, Number(1, 100)]


@plugin.event("{{name}}:count", anyone=True)
def count(cx: Context, wanted: By) -> dict:
    count = cx.store.update("count", lambda count: count + wanted.by, 0)
    cx.broadcast.include_sender().emit("{{name}}:counted", {"count": count})
    return {"count": count}
