"""Tests of titles, and of what counts as activity in lists."""

from collections.abc import Callable
from typing import Any

import pytest

from pyai_sessions import InvalidValueError, Session, SessionManager
from pyai_sessions.testing.samples import HOSTILE_IDS, fill, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures

_CHANGES: dict[str, Callable[[Any], object]] = {
    "title": lambda session: setattr(session, "title", "Another"),
    "metadata": lambda session: session.metadata.update(stars=5),
    "state": lambda session: session.set_state("mood", "calm"),
    "checkpoint": lambda session: session.checkpoint("here"),
    "summary": lambda session: session.compact("They greeted."),
    "touch": lambda session: session.touch(),
}
_MESSAGES: dict[str, Callable[[Any], object]] = {
    "added": lambda session: session.add_message("user", "More."),
    "removed": lambda session: session.pop(),
    "replaced": lambda session: session.replace_message(session.messages[0], content="Other words."),
    "rewound": lambda session: session.rewind(1),
}


class Titles(StoreFixtures):
    """Titles, and the activity that lists are ordered by."""

    def test_a_title_is_given_at_the_creation_or_later(self, manager: Any, other: Any) -> None:
        """A title is a field of sessions and summaries. None removes it."""
        session = manager.create_session("ada", session_id="s", title="To Vienna")
        assert (session.title, other.get_session("s").title) == ("To Vienna", "To Vienna")
        assert other.list_sessions("ada")[0].title == "To Vienna"

        session.title = "To Lisbon"
        manager.save(session)
        assert (other.get_session("s").title, other.list_sessions("ada")[0].title) == ("To Lisbon", "To Lisbon")

        session.title = None
        manager.save(session)
        assert (other.get_session("s").title, other.list_sessions("ada")[0].title) == (None, None)
        assert manager.get_or_create_session("t", "ada", title="New").title == "New"
        assert manager.get_or_create_session("t", "ada", title="Newer").title == "New"

    def test_any_text_is_a_title(self, manager: Any, other: Any) -> None:
        """Any text is kept as a title, in sessions and in lists."""
        titles = [*HOSTILE_IDS, "x" * 1000, "two\nlines", "\U0001f600 Reise"]
        made = {manager.create_session("ada", title=each).session_id: each for each in titles if each.strip()}

        assert {each: other.get_session(each).title for each in made} == made
        for order in ("newest", "title"):
            listed = other.list_sessions("ada", order=order, limit=None)
            assert {each.session_id: each.title for each in listed} == made

    def test_what_cannot_be_a_title_is_refused_by_name(self, manager: Any) -> None:
        """An invalid or blank title raises when it is given or assigned."""
        session = manager.create_session("ada", session_id="s")
        for title in ("", "  \n", *(each for each in HOSTILE_IDS if not each.strip()), "x" * 1001, b"x", 7, ["x"]):
            with pytest.raises(InvalidValueError) as caught:
                manager.create_session("ada", session_id="t", title=title)
            assert caught.value.path == "title", title
            with pytest.raises(InvalidValueError):
                session.title = title

        assert session.title is None
        assert manager.get_session("t") is None

    def test_without_a_title_a_list_shows_how_the_first_question_begins(self, manager: Any, other: Any) -> None:
        """Without a title, lists show the first question in one line of at most 60 characters, cut after a word."""
        session = manager.create_session("ada", session_id="saved")
        session.add_message("system", "You are kind.")
        session.add_message("user", "Is there a night train\nfrom Vienna  to Lisbon, and which of them has a bed?")
        session.add_message("user", "Or a bus?")
        manager.save(session)
        manager.create_session("ada", session_id="appended")
        manager.append("appended", {"role": "system", "content": "You are kind."})
        manager.append("appended", {"role": "user", "content": [{"type": "text", "text": "A  bus?"}]})
        manager.append("appended", {"role": "user", "content": "A plane?"})
        manager.create_session("ada", session_id="empty")

        titles = {each.session_id: each.title for each in other.list_sessions("ada")}

        assert titles == {
            "saved": "Is there a night train from Vienna to Lisbon, and which of",
            "appended": "A bus?",
            "empty": None,
        }
        assert other.get_session("saved").title is None

    def test_the_first_question_is_told_of_a_long_session(self, manager: Any, other: Any) -> None:
        """A summary shows what is now the first question of a session, long, forked, rewound or changed."""
        session = manager.create_session("ada", session_id="s")
        session.add_message("user", "The first question", message_id="first")
        fill(session, 100)
        manager.save(session)
        part = other.get_session("s", last=5)
        part.add_message("user", "The last question")
        other.save(part)
        other.append("s", {"role": "user", "content": "One more"})
        other.fork("s", new_id="fork")
        assert {each.title for each in manager.list_sessions("ada")} == {"The first question"}

        whole = other.get_session("s")
        whole.replace_message("first", content="Said anew")
        other.save(whole)
        assert {each.session_id: each.title for each in manager.list_sessions("ada")} == {
            "s": "Said anew",
            "fork": "The first question",
        }
        branch = whole.rewind("first")
        whole.remove_message("first")
        whole.add_message("user", "All anew")
        other.save(whole)
        assert manager.list_sessions("ada")[0].title == "All anew"
        other.switch("s", branch)
        assert manager.list_sessions("ada")[0].title == "Said anew"

    @pytest.mark.parametrize("change", _CHANGES)
    def test_what_changes_no_message_moves_no_session(
        self, manager: Any, other: Any, clock: Any, ten: Any, change: str
    ) -> None:
        """A title, metadata, state, a checkpoint or a summary changes ``updated_at``, but moves no session in lists."""
        session = manager.get_session("s3")
        session.add_message("user", "Hello!")
        manager.save(session)
        clock.advance(minutes=1)
        manager.append("s5", {"role": "user", "content": "Hello!"})
        before = manager.list_sessions("ada")
        assert ids(before)[:3] == ["s5", "s3", "s9"]
        clock.advance(minutes=1)

        session = manager.get_session("s3")
        _CHANGES[change](session)
        manager.save(session)

        assert ids(other.list_sessions("ada")) == ids(other.get_sessions_for_user("ada")) == ids(before)
        found = other.get_session("s3")
        assert (found.active_at, found.updated_at) == (before[1].active_at, clock.now)
        assert other.list_sessions("ada")[1].active_at == found.active_at
        assert ids(other.get_sessions_for_user("ada", before=found.active_at))[0] == "s9"
        assert Session.from_json(found.to_json()).active_at == found.active_at
        assert self.sound(other)

    @pytest.mark.parametrize("change", _MESSAGES)
    def test_a_change_of_messages_moves_a_session_to_the_front(
        self, manager: Any, other: Any, clock: Any, ten: Any, change: str
    ) -> None:
        """Adding, removing, replacing or rewinding messages moves a session to the front."""
        session = manager.get_session("s3")
        session.add_messages([{"role": "user", "content": f"{n}"} for n in range(3)])
        manager.save(session)
        clock.advance(minutes=1)
        manager.append("s5", {"role": "user", "content": "Hello!"})
        session.title = "Moved"
        manager.save(session)
        assert ids(other.list_sessions("ada"))[0] == "s5"
        clock.advance(minutes=1)

        _MESSAGES[change](session)
        manager.save(session)

        assert ids(other.list_sessions("ada"))[0] == "s3"
        assert other.get_session("s3").active_at == other.get_session("s3").updated_at >= clock.now

    def test_two_writers_of_a_title_and_of_messages_keep_both(self, manager: Any, other: Any, clock: Any) -> None:
        """One writer's title and another's messages are both kept. Of two titles the later save counts."""
        manager.create_session("ada", session_id="s")
        one, two = manager.get_session("s"), other.get_session("s")
        clock.advance(minutes=1)
        two.add_message("user", "Hello!")
        other.save(two)
        active_at = two.active_at
        clock.advance(minutes=1)
        one.title = "Greetings"
        manager.save(one)

        assert (one.title, one.message_count, one.active_at) == ("Greetings", 1, active_at)
        assert other.list_sessions("ada")[0].active_at == active_at
        two.title = "Hello"
        other.save(two)
        assert manager.get_session("s").title == "Hello"

    def test_an_import_keeps_titles_and_activity(self, manager: Any, clock: Any) -> None:
        """An imported session is listed with its title and activity."""
        session = manager.create_session("ada", session_id="s")
        session.add_message("user", "Hello!")
        manager.save(session)
        clock.advance(minutes=1)
        session.title = "Greetings"
        manager.save(session)
        elsewhere: Any = SessionManager(clock=clock)

        elsewhere.import_sessions([manager.get_session("s").to_dict()])
        found, [summary] = elsewhere.get_session("s"), elsewhere.list_sessions("ada")

        assert (found.title, found.active_at) == (summary.title, summary.active_at) == ("Greetings", session.active_at)
        assert found.active_at < found.updated_at
        assert elsewhere.import_sessions([manager.get_session("s")]).identical == 1

    def test_redacted_words_go_from_titles_and_first_questions(self, manager: Any, other: Any) -> None:
        """Redaction also removes text from titles and first questions, even if cut off. A repetition finds nothing."""
        words = "open sesame and much more than that"
        session = manager.create_session("ada", session_id="s", title=f"On {words}")
        session.add_message("user", f"Please keep in mind that the words of my bank are {words}.", message_id="asked")
        session.add_message("user", "And so on.", message_id="other")
        manager.save(session)

        assert manager.redact("s", "other", text=words).documents
        found = other.get_session("s")
        assert found.title == "On [removed]"
        found.title = None
        other.save(found)
        assert "sesame" not in str(other.list_sessions("ada")[0].title)
        manager.redact("s", "asked")
        assert other.list_sessions("ada")[0].title == "[removed]"
        assert manager.redact("s", "asked").documents == 0
