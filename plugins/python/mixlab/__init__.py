"""Plugins of MixLab in Python. See host/docs/plugins/python.md."""

from .context import Context, HostError, Selection, User
from .plugin import DONE, NO_ACK, PASS, Plugin, Reject, Replace, Reply, Request, Response, Timer
from .schema import Items, Number, Text

__all__ = [
    "DONE", "NO_ACK", "PASS", "Context", "HostError", "Items", "Number", "Plugin", "Reject", "Replace", "Reply", "Request",
    "Response", "Selection", "Text", "Timer", "User",
]
