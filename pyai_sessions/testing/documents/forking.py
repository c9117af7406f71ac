"""Tests of the documents of forks: which pages are shared, and when they are removed."""

from collections.abc import Callable
from contextlib import closing
from itertools import permutations, product
from typing import Any

import pytest

from pyai_sessions import InvalidDocumentError, SessionManager
from pyai_sessions.testing.documents.fixtures import DocumentFixtures
from pyai_sessions.testing.samples import contents, fill, ids
from pyai_sessions.testing.store.forking import told


class ForkingOfDocuments(DocumentFixtures):
    @pytest.fixture
    def talk(self, manager: Any) -> Callable[..., Any]:
        """Return a function that stores a session of *count* messages."""

        def talk(session_id: str = "parent", count: int = 100) -> Any:
            session = manager.create_session("ada", session_id=session_id)
            fill(session, count)
            manager.save(session)
            return session

        return talk

    @staticmethod
    def pages(raw: Any) -> list[str]:
        """Return the keys of all pages."""
        return sorted(key for key in raw if key.startswith("messages/"))

    def test_a_fork_copies_no_page(self, manager: Any, raw: Any, talk: Any) -> None:
        """A fork adds a head and a reference, however long the session is, and loads 50 messages by default."""
        talk(count=500)
        before = self.ours(raw)

        fork = manager.fork("parent", new_id="fork")

        added = set(self.ours(raw)) - set(before)
        assert {key.rpartition("/")[0] for key in added} == {"session", "forks/parent/fork"}
        assert (len(fork.messages), fork.message_count) == (50, 500)
        assert contents(manager.fork("parent", last=3)) == told(500)[-3:]
        manager.load_history(fork)
        assert contents(fork) == told(500)

    def test_sessions_of_any_ids_fork_and_go_by_themselves(self, manager: Any, raw: Any, talk: Any) -> None:
        """Sessions of any ids can be forked, listed and deleted, and no other session is touched."""
        likely = ["s", "/", "a/b", "..", "%2F", "*", "a\0b", "\ud800", "session/s", "messages/s/b/0", "forks/s/a/b"]
        hostile = [each for each in likely if self.takes_id(each)]
        for each in hostile:
            talk(each, 40)
        forks = {each: manager.fork(each, new_id=f"{each}'").session_id for each in hostile}
        assert sorted(ids(manager.list_sessions(limit=None))) == sorted([*forks, *forks.values()])
        assert self.sound(manager)

        for each in hostile:
            assert manager.delete(each)
            assert contents(manager.get_session(forks[each])) == told(40)
        assert sorted(ids(manager.list_sessions(limit=None))) == sorted(forks.values())
        assert self.sound(manager)
        for each in forks.values():
            assert manager.delete(each)

        assert self.ours(raw) == []

    def test_a_fork_of_a_short_session_shares_nothing(self, manager: Any, raw: Any, talk: Any) -> None:
        """A fork of a short session is one document. The parent's document stays unchanged."""
        talk(count=20)
        before = raw["session/parent"]

        manager.fork("parent", new_id="fork")

        assert self.ours(raw) == ["session/fork", "session/parent"]
        assert raw["session/parent"] == before

    def test_shared_pages_go_with_the_last_that_names_them(self, manager: Any, raw: Any, talk: Any) -> None:
        """A shared page stays until the last session that names it is deleted, whether owner or fork."""
        for order in permutations(["parent", "fork", "second"]):
            talk()
            shared = self.pages(raw)
            manager.fork("parent", new_id="fork")
            manager.fork("fork", new_id="second")
            for n, name in enumerate(order, start=1):
                assert self.pages(raw) == shared
                assert manager.delete(name)
                assert manager.verify().problems == []
                assert sorted(ids(manager.list_sessions("ada"))) == sorted(order[n:])
            assert self.ours(raw) == []

    def test_a_rewritten_parent_leaves_its_forks_their_pages(
        self, manager: Any, other: Any, raw: Any, talk: Any
    ) -> None:
        """When a parent rewrites its history, pages that a fork shares stay. All others of the old history go."""
        session = talk(count=200)
        manager.fork("parent", 70, new_id="fork")
        session.replace_message("m40", content="edited")
        manager.save(session)  # a copy that was loaded before the fork
        assert contents(other.get_session("fork")) == told(70)
        kept = [key for key in self.pages(raw) if key.endswith(("/0", "/1"))]
        assert manager.verify().problems == []

        manager.delete("fork")

        assert set(kept) > set(self.pages(raw)) & set(kept)
        assert manager.verify().problems == []
        assert other.get_session("parent") == session
        manager.delete("parent")
        assert self.ours(raw) == []

    def test_a_fork_that_rewrites_its_history_lets_its_parents_pages_go(
        self, manager: Any, other: Any, raw: Any, talk: Any
    ) -> None:
        """A fork keeps its reference to the parent's pages as long as it names one of them."""
        talk()
        fork = manager.fork("parent", new_id="fork", last=None)
        manager.delete("parent")
        fork.replace_message("m50", content="edited")
        manager.save(fork)
        assert [key for key in raw if key.startswith("forks/")]
        assert manager.verify().problems == []
        for each in list(fork.messages):
            fork.replace_message(each.message_id, content="edited")
        manager.save(fork)

        assert not [key for key in self.ours(raw) if "parent" in key]
        assert manager.verify().problems == []
        assert other.get_session("fork") == fork
        fork.clear_messages()
        manager.save(fork)
        assert self.ours(raw) == ["session/fork"]

    def test_a_switch_leaves_no_page_behind(self, manager: Any, other: Any, raw: Any, talk: Any) -> None:
        """A switch in a forked session, or in the fork, removes the page of the branch that it takes."""
        talk()
        manager.fork("parent", new_id="fork", last=None)
        for name in ("parent", "fork"):
            session = manager.get_session(name)
            session.rewind("m80")
            manager.save(session)

            manager.switch(name, session.branches[0])

            assert contents(other.get_session(name)) == told(100)
            assert manager.verify().problems == []
        for name in ("parent", "fork"):
            manager.delete(name)
        assert self.ours(raw) == []

    def test_a_deleted_parent_is_gone_for_all_but_its_forks(
        self, manager: Any, other: Any, raw: Any, talk: Any
    ) -> None:
        """A deleted parent's id is free. Sessions created under it later do not affect the forks."""
        talk()
        manager.fork("parent", new_id="fork")
        manager.delete("parent")
        assert other.get_session("parent") is None
        assert (ids(other.list_sessions()), other.count(), other.count("ada"), other.reindex()) == (["fork"], 1, 1, 1)
        for rewrites in (False, True):
            successor = talk(count=90)
            if rewrites:
                successor.pop()
                successor.replace_message("m1", content="edited")
                manager.save(successor)
            manager.fork("parent", new_id="second")
            assert contents(other.get_session("fork")) == told(100)
            manager.delete("parent")
            manager.delete("second")
        assert contents(other.get_session("fork")) == told(100)
        assert manager.verify().problems == []
        manager.delete("fork")
        assert self.ours(raw) == []

    def test_a_deleted_session_may_come_back_from_its_fork(self, manager: Any, other: Any, raw: Any, talk: Any) -> None:
        """A fork stored under its deleted parent's id names the shared pages again, and writes none anew."""
        talk(count=200)
        manager.fork("parent", new_id="whole")
        manager.fork("parent", 80, new_id="fork")
        manager.delete("parent")

        back = manager.fork("fork", new_id="parent", last=None)
        fill(back, 70, 80)
        manager.save(back)

        assert contents(other.get_session("whole")) == told(200)
        assert contents(other.get_session("parent")) == told(150)
        back.replace_message("m40", content="edited")
        manager.save(back)
        manager.append("parent", *({"role": "user", "content": f"message {n}"} for n in range(150, 220)))
        assert contents(other.get_session("whole")) == told(200)
        assert manager.verify().problems == []
        manager.delete("parent")
        assert contents(other.get_session("whole")) == told(200)
        assert contents(other.get_session("fork")) == told(80)
        manager.delete("whole")
        assert contents(other.get_session("fork")) == told(80)
        assert manager.verify().problems == []
        manager.delete("fork")
        assert self.ours(raw) == []

    def test_stale_copies_of_a_fork_merge(self, manager: Any, other: Any, raw: Any, talk: Any) -> None:
        """Stale copies of a fork merge across shared pages, even if the parent is gone."""
        talk()
        manager.fork("parent", new_id="fork")
        manager.delete("parent")
        mine, theirs = manager.get_session("fork", last=5), other.get_session("fork")
        theirs.replace_message("m10", content="edited")
        fill(theirs, 50, 100)
        other.save(theirs)
        mine.add_message("user", "mine")

        manager.save(mine)

        assert contents(other.get_session("fork")) == [*told(10), "edited", *told(150)[11:], "mine"]
        assert other.get_session("fork").parent == theirs.parent
        assert manager.verify().problems == []

    @pytest.mark.parametrize("act", ["clear_all", "delete_user"])
    def test_nothing_is_left_where_all_are_deleted(self, manager: Any, raw: Any, talk: Any, act: Any) -> None:
        """When parents and forks are deleted, no page and no reference is left."""
        for name in ("a", "b"):
            talk(name)
            manager.fork(name, new_id=f"fork of {name}")
            manager.fork(f"fork of {name}", new_id=f"second of {name}")
        manager.delete("a")

        assert (manager.clear_all() if act == "clear_all" else len(manager.delete_user("ada"))) == 5

        assert self.ours(raw) == []
        assert manager.verify().problems == []

    def test_verify_rights_references(self, manager: Any, other: Any, raw: Any, talk: Any, another: Any) -> None:
        """A repair adds missing references, and removes those of absent forks with the pages that only these kept."""
        talk()
        for name in ("fork", "torn", "lost"):
            manager.fork("parent", new_id=name)
        references = {key.split("/")[2]: key for key in raw if key.startswith("forks/")}
        raw[references["torn"]] = "torn"
        del raw[references["lost"]], raw["session/fork"]
        manager.delete("parent")
        with closing(another(timeout=0.2)) as store:
            patient = SessionManager(store)
            found = {(each.kind, each.session_id) for each in patient.verify().problems if each.kind != "index"}
            assert found == {
                ("orphan reference", "fork"),
                ("missing reference", "torn"),
                ("missing reference", "lost"),
            }

            assert patient.verify(repair=True)
            assert patient.verify().problems == []
        for name in ("lost", "torn"):
            assert contents(other.get_session(name)) == told(100)
            other.delete(name)
        assert self.ours(raw) == []

    @pytest.mark.parametrize("act", ["delete", "repair"])
    def test_an_unreadable_parent_leaves_its_forks_whole(self, manager: Any, raw: Any, talk: Any, act: Any) -> None:
        """Deleting an unreadable parent, or setting it aside, leaves the pages that its forks name."""
        talk()
        manager.fork("parent", 70, new_id="fork")
        raw["session/parent"] = "torn"

        if act == "delete":
            manager.delete("parent")
        else:
            manager.verify(repair=True)

        assert manager.get_session("parent") is None
        assert contents(manager.get_session("fork")) == told(70)
        assert not [each for each in manager.verify().problems if each.kind != "index"]
        assert len(self.pages(raw)) == 2
        manager.delete("fork")
        assert self.ours(raw) == []

    @pytest.mark.parametrize("text", [None, "torn"])
    def test_a_fork_that_cannot_be_loaded_is_not_stored(
        self, manager: Any, raw: Any, talk: Any, *, text: str | None
    ) -> None:
        """If a page to share is missing or damaged, `fork` raises, stores nothing, and leaves the id free."""
        talk()
        page = self.pages(raw)[1]
        whole = raw[page]
        for at, last in product((None, 64, 70), (50, 100, None)):
            del raw[page]
            if text is not None:
                raw[page] = text
            before = self.ours(raw)

            with pytest.raises(InvalidDocumentError) as caught:
                manager.fork("parent", at, new_id="fork", last=last)

            assert caught.value.key == page
            assert self.ours(raw) == before
            assert manager.count("ada") == 1
            raw[page] = whole
            assert contents(manager.fork("parent", at, new_id="fork", last=None)) == told(at or 100)
            manager.delete("fork")

    def test_a_fork_is_returned_as_it_is_loaded(self, manager: Any, talk: Any) -> None:
        """`fork` returns the same session as loading it does."""
        talk()
        for at, last in product((None, 0, 3, 64, 70, 99), (0, 1, 50, None)):
            fork = manager.fork("parent", at, new_id=f"fork at {at}, {last}", last=last)

            loaded = manager.get_session(fork.session_id, last=last)
            assert (fork, fork.revision, contents(fork)) == (loaded, loaded.revision, contents(loaded))
            fork.add_message("user", "more")
            manager.save(fork)
            assert contents(manager.get_session(fork.session_id))[-1] == "more"

    def test_a_fork_that_is_set_aside_keeps_the_pages_that_it_shares(self, manager: Any, raw: Any, talk: Any) -> None:
        """Shared pages of a fork that is set aside stay. If its head is mended and put back, it is whole."""
        talk()
        manager.fork("parent", new_id="fork")
        whole = raw["session/fork"]
        raw["session/fork"] = "torn"
        manager.delete("parent")

        manager.verify(repair=True)

        raw["session/fork"] = whole
        assert contents(manager.get_session("fork")) == told(100)

    def test_an_unreadable_shared_page_is_dropped_by_each_that_names_it(
        self, manager: Any, other: Any, raw: Any, talk: Any
    ) -> None:
        """A repair drops an unreadable shared page from each session, and keeps it aside. Other messages stay."""
        talk()
        manager.fork("parent", new_id="fork")
        raw[self.pages(raw)[1]] = "torn"

        manager.verify(repair=True)
        manager.verify(repair=True)

        assert manager.verify().problems == []
        for name in ("parent", "fork"):
            assert contents(other.get_session(name)) == told(32) + told(100)[64:]
        assert [raw[key] for key in raw if key.startswith("unreadable/parent/")] == ["torn"]
