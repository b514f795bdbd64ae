# Sees the events of other plugins before they do: what has the word "spam" goes no further.
import json

from mixlab import PASS, Context, Plugin, Reject

plugin = Plugin("{{name}}", "0.1.0")


@plugin.filter("*")
def moderated(cx: Context, event: str, arguments: list):
    if "spam" in json.dumps(arguments):
        raise Reject("not_welcome", "Say something else")
    return PASS
