# Whoever joins gets what is said.
from dataclasses import dataclass
from typing import Annotated

from mixlab import Context, Plugin, Reject, Text


@dataclass
class Said:
    text: Annotated[str, Text(1, 500)]


plugin = Plugin("{{name}}", "0.1.0", emits={"{{name}}:said": [Said]})


@plugin.event("{{name}}:join", anyone=True)
def join(cx: Context) -> None:
    cx.join("{{name}}")


@plugin.event("{{name}}:say", anyone=True, limit={"socket": "10/5s"})
def say(cx: Context, said: Said) -> None:
    if "{{name}}" not in cx.rooms:
        raise Reject("not_joined", "Join first")
    cx.to("{{name}}").include_sender().emit("{{name}}:said", said)
