"""Tests of changing messages of a session without loading it: what is written, and what stays."""

import json
from collections import UserDict
from random import Random

import pytest

from pyai_sessions import (
    KVSessionStore,
    Message,
    SessionManager,
)
from pyai_sessions.documents.limits import Terms
from pyai_sessions.sessions import joining
from pyai_sessions.sessions.backend import backend_of
from pyai_sessions.sessions.changing import Changer
from pyai_sessions.testing import StoppedClock
from pyai_sessions.values.messages import replaced
from pyai_sessions.values.recent import Recent


def changer(mapping, clock=None):
    return Changer(backend_of(mapping), Terms(clock or StoppedClock()), Recent(10**6))


def rated(rating):
    return lambda message: replaced(message, {"metadata": {"rating": rating}})


def said(content):
    return lambda message: replaced(message, {"content": content})


def gone(_):
    return None


def apply(works, message_id, change, *user_id):
    """Let a Changer change or remove a message."""
    if change is gone:
        return works.remove("s", message_id, *user_id)
    return works.replace("s", message_id, change, *user_id)


def stored(mapping, count=100, **options):
    manager = SessionManager(mapping)
    session = manager.create_session("ada", session_id="s", **options)
    for n in range(count):
        session.add_message("user" if n % 2 == 0 else "assistant", f"message {n}", message_id=f"m{n}")
    manager.save(session)
    return session


def told(session):
    return [(each.message_id, each.content, dict(each.metadata)) for each in session.messages]


def named(mapping):
    """Return the keys of the pages that the head names."""
    return {
        f"messages/s/{run['generation']}/{run.get('start', 0) + n}"
        for run in json.loads(mapping["session/s"])["sealed"]
        for n in range(run["pages"])
    }


def pages(mapping):
    return {key: mapping[key] for key in mapping if key.startswith("messages/s/")}


@pytest.mark.parametrize("change", [rated(5), said("another"), gone])
@pytest.mark.parametrize("at", [2, 31, 32, 50, 95, 96, 99])
def test_one_page_is_written_and_no_other(at, change):
    """A change writes only the message's page anew, and removes the old one, however far back it is."""
    mapping = {}
    stored(mapping)
    before = pages(mapping)

    apply(changer(mapping), f"m{at}", change)

    after = pages(mapping)
    assert len(after.keys() - before.keys()) == len(before.keys() - after.keys()) == (at < 96)
    assert all(before.get(key, page) == page for key, page in after.items())
    assert set(after) == named(mapping)
    session = SessionManager(mapping).get_session("s")
    expected = [f"message {n}" for n in range(100)]
    expected[at : at + 1] = [each.content for each in [change(Message("user", expected[at]))] if each]
    assert [each.content for each in session.messages] == expected
    assert SessionManager(mapping).verify().problems == []


def test_a_page_without_messages_is_named_no_more():
    """An empty page is not named any more. Its number is not used again, since a reader may have the old head."""
    mapping = {}
    stored(mapping, 40)
    works = changer(mapping)
    for n in range(40):
        apply(works, f"m{n}", gone)
        assert [each.message_id for each in SessionManager(mapping).get_session("s").messages] == [
            f"m{each}" for each in range(n + 1, 40)
        ]
        assert set(pages(mapping)) == named(mapping)

    SessionManager(mapping).append("s", *[{"role": "user", "content": f"new {n}"} for n in range(70)])
    assert len(SessionManager(mapping).get_session("s").messages) == 70
    assert SessionManager(mapping).verify().problems == []


def test_messages_that_grow_are_cut_into_several_pages():
    """Messages that grow larger than a page are split into several."""
    mapping = {}
    stored(mapping)
    works = changer(mapping)
    for n in range(32, 64):
        apply(works, f"m{n}", said("x" * 3000))

    head = json.loads(mapping["session/s"])
    assert sum(run["pages"] for run in head["sealed"]) > 10
    assert max(map(len, pages(mapping).values())) < 20_000
    assert [len(each.content) for each in SessionManager(mapping).get_session("s").messages[32:64]] == [3000] * 32
    assert SessionManager(mapping).verify().problems == []


def test_a_change_that_changes_nothing_is_not_written():
    """A change to the same values keeps the revision."""
    mapping = {}
    stored(mapping)
    apply(changer(mapping), "m3", rated(5))
    before = dict(mapping)

    assert apply(changer(mapping), "m3", rated(5)).metadata == {"rating": 5}

    assert mapping == before


def test_a_rating_is_no_activity():
    """A rating does not move the session in lists or extend its life. New content and a removal do."""
    mapping, clock = {}, StoppedClock()
    manager = SessionManager(KVSessionStore(mapping, ttl=3600), clock=clock)
    session = manager.create_session("ada", session_id="s")
    session.add_messages([{"role": "user", "content": f"{n}"} for n in range(70)])
    manager.save(session)
    works = Changer(backend_of(mapping), manager.store._engine.terms, Recent(10**6))
    then, end = session.active_at, session.expires_at
    for at, change, is_active in [(0, rated(1), False), (69, rated(1), False), (40, said("x"), True), (5, gone, True)]:
        clock.advance(minutes=1)
        apply(works, session.messages[at].message_id, change)

        now = manager.get_session("s")
        assert (now.active_at > then, now.expires_at > end) == (is_active, is_active)
        assert now.updated_at >= clock.now
        then, end = now.active_at, now.expires_at


def test_the_title_the_instructions_and_the_question_follow_their_messages():
    """After a change of the first messages, the head's title, instructions and question are right."""
    mapping = {}
    manager = SessionManager(mapping)
    session = manager.create_session("ada", session_id="s")
    for n, role in enumerate(["system", "assistant", "system", "user", "user"] + ["assistant", "user"] * 50):
        session.add_message(role, f"{role} {n}", message_id=f"m{n}")
    manager.save(session)
    works = changer(mapping)

    apply(works, "m3", said("which trains?"))
    assert manager.list_sessions("ada")[0].title == "which trains?"
    apply(works, "m3", gone)
    assert manager.list_sessions("ada")[0].title == "user 4"
    apply(works, "m0", said("be kind"))
    apply(works, "m1", gone)
    part = manager.get_session("s", last=3)
    assert [each["content"] for each in part.history()][:2] == ["be kind", "system 2"]
    apply(works, "m2", lambda old: replaced(old, {"role": "user"}))
    assert manager.list_sessions("ada")[0].title == "system 2"
    assert manager.get_session("s", last=3).history()[0]["content"] == "be kind"
    assert manager.verify().problems == []


def test_a_summary_counts_the_messages_that_are_left():
    """If a summed-up message is removed, the summary counts one less."""
    mapping = {}
    session = stored(mapping)
    session.compact("so far", keep_last=20)
    SessionManager(mapping).save(session)
    count = session.summary.message_count

    apply(changer(mapping), "m5", gone)
    apply(changer(mapping), "m6", rated(1))
    apply(changer(mapping), "m99", gone)

    assert SessionManager(mapping).get_session("s").summary.message_count == count - 1


@pytest.mark.parametrize("last", [1, 10, 40])
def test_a_copy_loaded_in_part_merges_with_a_rating_far_back_without_reading_what_lies_between(last):
    """A partly loaded copy merges with a change far back, without reading the pages between."""
    mapping, seen = {}, []
    stored(mapping, 1000)
    manager = SessionManager(mapping, on_event=seen.append)
    session = manager.get_session("s", last=last)
    apply(changer(mapping), "m300", rated(5))
    apply(changer(mapping), "m999", rated(4))
    session.add_message("user", "more")
    manager.save(session)

    ended = [each for each in seen if each.method == "save" and each.name == "ended"][-1]
    assert ended.bytes_read < 50_000
    assert len(session.messages) == last + 1
    whole = SessionManager(mapping).get_session("s")
    assert told(session) == told(whole)[-last - 1 :]
    assert (whole.message_count, whole.messages[300].metadata) == (1001, {"rating": 5})


@pytest.mark.parametrize("make", [dict, UserDict])
def test_what_a_message_said_before_it_was_changed_is_kept_nowhere_but_in_forks_and_branches(make):
    """The old page is removed. If a fork shares it, `redact` removes the text there, too."""
    mapping = make()
    stored(mapping)
    manager, works = SessionManager(mapping), changer(mapping)
    apply(works, "m40", said("SECRET"))
    apply(works, "m40", said("nothing"))
    apply(works, "m41", said("SECRET too"))
    apply(works, "m41", gone)
    assert not [key for key, text in mapping.items() if "SECRET" in str(text)]

    apply(works, "m50", said("SECRET"))
    manager.fork("s", new_id="f")
    apply(works, "m50", said("SECRET in other words"))
    manager.redact("s", "m50", text="SECRET")

    assert not [key for key, text in mapping.items() if "SECRET" in str(text)]
    assert manager.get_message("f", "m50").content == manager.get_message("s", "m50").content == "[removed]"
    assert manager.verify().problems == []


def test_pages_in_pieces_that_others_share_are_copied_whole():
    """Before a redaction, another user's fork gets its own copies of shared pages, and keeps the text."""
    mapping = {}
    stored(mapping)
    manager, works = SessionManager(mapping), changer(mapping)
    apply(works, "m40", rated(1))
    apply(works, "m70", gone)
    manager.fork("s", new_id="f", user_id="bob")
    before = told(manager.get_session("f"))
    apply(works, "m5", said("SECRET"))

    manager.redact("s", "m50")

    assert told(manager.get_session("f")) == before
    assert manager.get_message("s", "m50").content == "[removed]"
    assert manager.verify().problems == []
    manager.delete("s")
    assert told(manager.get_session("f")) == before
    assert manager.verify().problems == []


class Histories:
    """A session that two writers change at random, compared with a list."""

    def __init__(self, mapping, seed):
        self.random, self.mapping, self.step = Random(seed), mapping, 0
        self.managers = [SessionManager(mapping), SessionManager(mapping)]
        self.changers = [changer(mapping), changer(mapping)]
        session = self.manager.create_session("ada", session_id="s")
        for n in range(300):
            session.add_message("user" if n % 2 == 0 else "assistant", f"m{n} " * self.random.randint(1, 40))
        self.manager.save(session)
        self.model, self.forks = told(session), {}

    @property
    def manager(self):
        return self.random.choice(self.managers)

    @property
    def changer(self):
        return self.random.choice(self.changers)

    def rate(self, at):
        apply(self.changer, self.model[at][0], rated(self.step))
        self.model[at] = (*self.model[at][:2], {"rating": self.step})

    def reword(self, at):
        content = f"new {self.step} " * self.random.choice([1, 1000])
        apply(self.changer, self.model[at][0], said(content))
        self.model[at] = (self.model[at][0], content, self.model[at][2])

    def remove(self, at):
        apply(self.changer, self.model.pop(at)[0], gone)

    def pop(self, _):
        assert apply(self.changer, None, gone).message_id == self.model.pop()[0]

    def append(self, _):
        for n in range(self.random.choice([1, 40])):
            message_id, content = f"a{self.step}-{n}", f"add {self.step}"
            self.manager.append("s", {"role": "user", "content": content, "message_id": message_id})
            self.model.append((message_id, content, {}))

    def fork(self, at):
        made = told(self.manager.fork("s", at=self.random.choice([None, at]), new_id=f"f{self.step}", last=None))
        assert made == self.model[: len(made)]
        self.forks[f"f{self.step}"] = made

    def save(self, _):
        manager = self.manager
        session = manager.get_session("s", last=self.random.choice([None, 60, 5]))
        session.add_message("user", f"hand {self.step}", message_id=f"h{self.step}")
        self.model.append((f"h{self.step}", f"hand {self.step}", {}))
        for _ in range(self.random.randrange(min(4, len(session.messages)))):
            each = self.random.choice(session.messages)
            at = [each[0] for each in self.model].index(each.message_id)
            if self.random.random() < 0.5:
                session.remove_message(each)
                del self.model[at]
            else:
                session.replace_message(each, metadata={"hand": self.step})
                self.model[at] = (*self.model[at][:2], {"hand": self.step})
        manager.save(session)

    def rewind(self, at):
        if self.random.random() < 0.5:
            self.changer.rewind("s", self.model[at][0])
            del self.model[at + 1 :]
        else:
            manager = self.manager
            session = manager.get_session("s")
            session.rewind(min(2, sum(each.role == "user" for each in session.messages)))
            manager.save(session)
            self.model = told(session)

    def check(self):
        reader, middle = SessionManager(self.mapping), len(self.model) // 2
        assert told(reader.get_session("s")) == self.model
        assert told(reader.get_session("s", last=5)) == self.model[-5:]
        assert reader.get_session("s", last=5).message_count == len(self.model)
        assert reader.verify().problems == []
        if self.model:
            page = self.managers[0].get_messages("s", before=self.model[middle][0], limit=40)
            assert [each.message_id for each in page] == [each[0] for each in self.model[max(0, middle - 40) : middle]]

    kinds = (rate, reword, remove, pop, append, fork, save, rewind)
    weights = (40, 10, 15, 5, 10, 4, 9, 7)


@pytest.mark.parametrize("runs", [64, 2])
@pytest.mark.parametrize("make", [dict, UserDict])
@pytest.mark.parametrize("seed", range(3))
def test_any_history_of_changes_is_what_a_list_says(make, seed, runs, monkeypatch):
    """After any changes by two writers, with appends, copies, forks and rewinds, the session equals the list."""
    monkeypatch.setattr(joining, "MAX_RUNS", runs)
    monkeypatch.setattr(joining, "JOINED", min(runs, joining.JOINED))
    mapping = make()
    tried = Histories(mapping, seed)
    for tried.step in range(100):
        [kind] = tried.random.choices(tried.kinds, tried.weights) if tried.model else [Histories.append]
        kind(tried, tried.random.randrange(len(tried.model)) if tried.model else 0)
        tried.check()
    manager = tried.manager
    for session_id in ["s", *tried.forks]:
        manager.delete(session_id)
        left = {each: told(manager.get_session(each)) for each in tried.forks if manager.get_session(each)}
        assert all(tried.forks[each] == messages for each, messages in left.items())
    assert list(mapping) == []
