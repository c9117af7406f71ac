"""Tests that each rule of the storages' contract catches a broken storage."""

import inspect
import threading

import pytest
from hypothesis import Phase, settings

from pyai_sessions.testing.storage import StorageContract
from tests.storage.broken import RULES
from tests.storage.plain import Data, PlainStorage

pytestmark = pytest.mark.wide


class Kit(StorageContract):
    __test__ = False


class Free:
    """A context that excludes nobody."""

    def __enter__(self):
        pass

    def __exit__(self, *exc_info):
        pass


def follow(rule, kind, parameters):
    """Run a rule of the contract on a kind of storage."""
    data = Data()
    data.threads = threading.active_count()
    data.was_read = threading.Event()
    data.two = threading.Barrier(2)
    data.nothing = Free()
    data.closed = False
    test = getattr(Kit(), rule)
    fixtures = {
        "storage": kind(data),
        "other": kind(data),
        "reopen": lambda: kind(data),
        "impatient": lambda: kind(data, timeout=0.1),
        **parameters,
    }
    test(**{name: fixtures[name] for name in inspect.signature(test).parameters})


def test_each_rule_has_a_storage_that_breaks_it():
    """Each rule has a broken storage, so a new rule needs one."""
    assert sorted(RULES) == sorted(name for name in dir(StorageContract) if name.startswith("test_"))


@pytest.fixture
def _without_shrinking():
    """Make machines deterministic, and stop them at the first failure."""
    settings.register_profile("without shrinking", phases=[Phase.generate], derandomize=True)
    settings.load_profile("without shrinking")
    yield
    settings.load_profile("default")


@pytest.mark.usefixtures("_without_shrinking")
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_fails_on_a_broken_storage_alone(rule):
    """A rule passes on the simplest storage, and fails on one that differs in one method."""
    kind, parameters = RULES[rule]
    follow(rule, PlainStorage, parameters)

    with pytest.raises((Exception, pytest.fail.Exception)):
        follow(rule, kind, parameters)
