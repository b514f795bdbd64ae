# Runs the handlers without a server: mixlab build {{name}}, once, then pytest.
import pytest
from mixlab import PASS, Reject
from mixlab.testing import Fake

from {{module}} import plugin


def test_spam_goes_no_further_and_all_else_does():
    fake = Fake(plugin)
    assert fake.filter("echo", "hi") is PASS
    with pytest.raises(Reject):
        fake.filter("echo", "spam")
