"""Pickles that leave a mark when they are opened, since nothing may ever open one."""

import os
import pickle

import pytest

from pyai_sessions import InvalidDocumentError, SessionManager


class Bomb:
    """An object whose pickle makes the folder *mark* when it is loaded. *ballast* makes the pickle big."""

    def __init__(self, mark, ballast=0):
        self.mark = str(mark)
        self.ballast = ballast

    def __reduce__(self):
        return _explode, (self.mark, "x" * self.ballast)


def _explode(mark, _):
    os.makedirs(mark, exist_ok=True)  # noqa: PTH103 (it runs while a pickle is read: as little as can be)
    return '{"format":1}'


def check_that_it_would_explode(bomb):
    """Assert that loading the bomb makes the mark."""
    pickle.loads(pickle.dumps(bomb))  # noqa: S301 (that is the point)
    assert os.path.isdir(bomb.mark)  # noqa: PTH112


def meet_bombs(store):
    """Make all calls that read the bombs in the head of "s" and in a page of "paged"."""
    manager = SessionManager(store)
    for session_id in ("s", "paged"):
        with pytest.raises(InvalidDocumentError) as caught:
            store.get(session_id)
        assert caught.value.session_id == session_id
    store.list_for_user("ada", skip_invalid=True)
    manager.reindex()
    assert not manager.verify()
    manager.verify(repair=True)
    manager.clear_all()
