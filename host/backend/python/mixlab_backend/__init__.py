"""A backend's side of MixLab's HTTP API, in the style of Socket.IO's `io`.

    from mixlab_backend import MixLab

    io = MixLab("http://127.0.0.1:3000", key)
    io.to("studio:7").emit("booked", {"hours": 2})
"""

from ._request import MixLabError
from ._selection import Emit, MixLab, Person, Room, Selection, Socket, User

__all__ = ["Emit", "MixLab", "MixLabError", "Person", "Room", "Selection", "Socket", "User"]
