# Runs the handlers without a server: mixlab build {{name}}, once, then pytest.
from mixlab.testing import Fake

from {{module}} import plugin


def test_what_is_counted_is_remembered():
    fake = Fake(plugin)
    fake.stored[None, "count"] = 40
    assert fake.send("{{name}}:count", {"by": 2}) == {"count": 42}
    assert fake.stored[None, "count"] == 42
