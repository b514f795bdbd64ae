# Runs the handlers without a server: mixlab build {{name}}, once, then pytest.
from mixlab import Timer, User
from mixlab.testing import Fake

from {{module}} import plugin


def test_a_user_is_reminded_when_it_is_time():
    fake = Fake(plugin, user=User("7"))
    fake.send("{{name}}:remind", {"text": "tea", "seconds": 60})
    payload, after_ms = fake.timers["user:7"]
    assert after_ms == 60_000
    fake.call("timer", Timer("user:7", payload, 1))
    [(selection, event, arguments)] = fake.emitted
    assert (selection.users, event, arguments) == (("7",), "{{name}}:reminder", [{"text": "tea"}])
