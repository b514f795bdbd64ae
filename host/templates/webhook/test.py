# Runs the handlers without a server: mixlab build {{name}}, once, then pytest.
import json

from mixlab import Request
from mixlab.testing import Fake

from {{module}} import plugin


def test_an_order_that_is_paid_is_kept():
    fake = Fake(plugin)
    body = json.dumps({"order": "7", "amount": 500}).encode()
    assert fake.call("webhook", Request("POST", "/", [], {}, body)).status == 204
    assert fake.stored[None, "paid:7"] == 500
    assert fake.emitted[0][0].roles == ("admin",)
