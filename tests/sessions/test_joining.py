"""Tests of joining runs of pages, so that a head does not grow with the number of changes."""

import json

import pytest

from pyai_sessions import SessionManager
from pyai_sessions.documents.reading import read_head
from pyai_sessions.sessions import forks, joining
from pyai_sessions.sessions.backend import backend_of
from tests.sessions.test_changing import named, pages, stored


class Told(dict):
    """A mapping, its manager, and the cost of the manager's calls."""

    def __init__(self):
        self.manager = SessionManager(self, on_event=self._keep)
        self.ended = []

    def _keep(self, event):
        if event.name == "ended":
            self.ended.append(event)

    @property
    def runs(self):
        return json.loads(self["session/s"])["sealed"]


def rate_each_page(told, ids):
    """Rate a message of each page without loading the session."""
    for n in range(5, len(ids), 32):
        told.manager.replace_message("s", ids[n], metadata={"rating": n})


def save_each_page(told, ids):
    """Rate a message of each page of a loaded session, and save each time."""
    session = told.manager.get_session("s")
    for n in range(5, len(ids), 32):
        session.replace_message(ids[n], metadata={"rating": n})
        told.manager.save(session)


def save_all_pages(told, ids):
    """Rate a message of each page of a loaded session, and save once."""
    session = told.manager.get_session("s")
    for n in range(5, len(ids), 32):
        session.replace_message(ids[n], metadata={"rating": n})
    told.manager.save(session)


def rewind_each_page(told, ids):
    """Rewind and answer again at the end of each page."""
    told.manager.clear_messages("s")
    for _ in range(0, len(ids), 32):
        told.manager.append("s", *[{"role": "user", "content": "word " * 20}] * 33)
        told.manager.rewind("s", 1)


@pytest.mark.parametrize("change", [rate_each_page, save_each_page, save_all_pages, rewind_each_page])
def test_a_head_does_not_grow_with_the_changes_of_a_long_session(change):
    """However many pages changed, the head names few runs, and a turn writes no more than before."""
    told = Told()
    ids = [each.message_id for each in stored(told, 3200).messages]

    change(told, ids)
    session = told.manager.get_session("s", last=50)
    session.add_message("user", "And?")
    told.ended.clear()
    told.manager.save(session)

    assert len(told.runs) <= joining.MAX_RUNS
    assert len(told["session/s"]) < 16_000
    assert [(each.trips, each.bytes_written < 16_000) for each in told.ended] == [(1, True)]
    assert set(pages(told)) >= named(told)
    assert told.manager.verify().problems == []
    if change is not rewind_each_page:
        assert set(pages(told)) == named(told)
        found = told.manager.get_session("s").messages
        assert [each.message_id for each in found[:-1]] == ids
        assert [n for n, each in enumerate(found) if each.metadata] == list(range(5, 3200, 32))


def test_a_fork_sees_that_the_pages_which_it_is_to_share_were_copied(monkeypatch):
    """A fork notices that its parent no longer names the pages to share, which may be removed."""
    monkeypatch.setattr(joining, "MAX_RUNS", 2)
    monkeypatch.setattr(joining, "JOINED", 2)
    mapping = {}
    ids = [each.message_id for each in stored(mapping, 400).messages]
    backend = backend_of(mapping)
    with monkeypatch.context() as patch:
        patch.setattr(joining, "MAX_RUNS", 64)
        SessionManager(mapping).replace_message("s", ids[200], metadata={"rating": 1})
    before = read_head(mapping["session/s"], "s")

    assert forks._names(mapping["session/s"], before.head, before.head.sealed)
    assert joining.join_runs(backend, before).head.edition == before.head.edition
    assert not forks._names(mapping["session/s"], before.head, before.head.sealed)


def test_a_save_whose_runs_were_joined_leaves_a_copy_that_is_not_stale(monkeypatch):
    """After a save that joined runs, the next takes one round trip, and other copies merge."""
    monkeypatch.setattr(joining, "MAX_RUNS", 4)
    monkeypatch.setattr(joining, "JOINED", 3)
    told = Told()
    ids = [each.message_id for each in stored(told, 400).messages]
    other = SessionManager(told).get_session("s", last=40)
    session = told.manager.get_session("s")
    for n in range(0, 320, 64):
        session.replace_message(ids[n], metadata={"rating": n})
        told.manager.save(session)
        session.set_state("n", n)
        told.ended.clear()
        told.manager.save(session)
        assert [each.trips for each in told.ended] == [1]
        assert len(told.runs) <= 4
    other.add_message("user", "theirs")
    SessionManager(told).save(other)

    assert told.manager.get_session("s").message_count == 401
    assert set(pages(told)) == named(told)
    assert told.manager.verify().problems == []


class Full(Told):
    """A mapping that fails if more than one page is written for a head."""

    fails, _pages = False, 0

    def __setitem__(self, key, value):
        self._pages = self._pages + 1 if key.startswith("messages/") else 0
        if self.fails and self._pages > 1:
            raise OSError(28, "No space left on device")
        super().__setitem__(key, value)


def test_runs_stay_where_too_much_would_be_copied_or_the_storage_fails(monkeypatch):
    """If joining would copy too much, or fails, the change is stored, and a later one joins."""
    monkeypatch.setattr(joining, "MAX_RUNS", 2)
    monkeypatch.setattr(joining, "JOINED", 2)
    monkeypatch.setattr(joining, "MAX_COPIED", 1)
    told = Full()
    ids = [each.message_id for each in stored(told, 400).messages]
    for n in (40, 120, 200):
        told.manager.replace_message("s", ids[n], metadata={"rating": n})
    assert len(told.runs) == 7

    monkeypatch.setattr(joining, "MAX_COPIED", 100)
    told.fails = True
    told.manager.replace_message("s", ids[300], metadata={"rating": 300})
    assert len(told.runs) == 9
    told.fails = False
    told.manager.replace_message("s", ids[301], metadata={"rating": 301})

    assert len(told.runs) == 8
    assert [told.manager.get_message("s", ids[n]).metadata["rating"] for n in (40, 300, 301)] == [40, 300, 301]
    assert set(pages(told)) == named(told)
    assert told.manager.verify().problems == []
