# Runs the handlers without a server: mixlab build {{name}}, once, then pytest.
import pytest
from mixlab import Reject
from mixlab.testing import Fake

from {{module}} import plugin


def test_who_has_joined_gets_what_is_said():
    fake = Fake(plugin)
    with pytest.raises(Reject, match="Join first"):
        fake.send("{{name}}:say", {"text": "hi"})
    fake.send("{{name}}:join")
    fake.send("{{name}}:say", {"text": "hi"})
    [(selection, event, arguments)] = fake.emitted
    assert (selection.rooms, selection.has_sender) == (("{{name}}",), True)
    assert (event, arguments) == ("{{name}}:said", [{"text": "hi"}])
