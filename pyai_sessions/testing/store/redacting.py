"""Tests of redaction: a message's text is removed wherever it is stored."""

from base64 import b64encode
from typing import Any

import pytest

from pyai_sessions import InvalidValueError, KVSessionStore, SessionNotFoundError, SessionStateError
from pyai_sessions.testing.samples import contents, fill
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import of_all_users

WORD = "hunter2"
SECRET = f"My password is {WORD}, h\u00fcsh!"


def with_a_secret(manager: Any, before: int = 40, after: int = 60) -> Any:
    """Store a session with the message "pw", whose text is in branches, state, checkpoints and the summary, too."""
    session = manager.create_session("ada", session_id="s", metadata={"said": SECRET})
    fill(session, before)
    session.add_message("user", SECRET, message_id="pw", metadata={"draft": SECRET})
    session.set_state("last", {"said": [SECRET], "as a key": {SECRET: 1}, "quoted": f"> {SECRET} <"})
    session.checkpoint("then")
    fill(session, after, 1000)
    session.compact(f"The user said: {SECRET}", keep_last=2)
    manager.save(session)
    session.rewind("pw")
    fill(session, 80, 3000)
    manager.save(session)
    return session


class Redacting(StoreFixtures):
    def words_of(self, manager: Any, *session_ids: str) -> str:
        """Return everything that can be read of sessions and their branches, as text."""
        found = ""
        for each in session_ids:
            session = manager.get_session(each)
            found += session.to_json()
            found += "".join([manager.switch(each, branch).to_json() for branch in session.branches])
        return found

    def test_a_redacted_message_says_nothing_any_more_wherever_it_is(self, manager: Any, other: Any) -> None:
        """The text goes from history, branches, state, checkpoints, summary and metadata. All else stays in place."""
        session = with_a_secret(manager)
        before = other.get_session("s")

        report = manager.redact("s", "pw")

        after = other.get_session("s")
        place = contents(before).index(SECRET)
        assert contents(after) == [*contents(before)[:place], "[removed]", *contents(before)[place + 1 :]]
        message = after.messages[place]
        assert (message.role, message.message_id, message.metadata) == ("user", "pw", {})
        assert message.timestamp == before.messages[place].timestamp
        assert after.metadata == {"said": "[removed]"}
        assert after.state["last"]["said"] == ["[removed]"]
        assert after.state["last"]["quoted"] == "> [removed] <"
        assert after.updated_at == before.updated_at
        assert report.session_ids == ["s"]
        assert report.documents > 0
        assert (report.shared, report.mentions, report.unread) == ([], [], [])
        assert WORD not in self.words_of(other, "s")
        assert session.branches
        assert self.sound(other)

    def test_a_redaction_may_be_repeated(self, manager: Any, other: Any) -> None:
        """A repeated redaction finds nothing to do."""
        with_a_secret(manager)
        manager.redact("s", "pw")
        before = other.get_session("s")

        report = other.redact("s", "pw")

        assert (report.session_ids, report.documents, report.copies) == (["s"], 0, 0)
        assert other.get_session("s") == before

    def test_words_that_are_named_go_from_other_messages_too(self, manager: Any, other: Any) -> None:
        """`words=` also removes text from other messages. Without it, messages that repeat the text are reported."""
        session = with_a_secret(manager)
        session.add_message("assistant", [{"type": "text", "text": f"You said: {SECRET}"}], message_id="echo")
        session.add_message(
            "assistant",
            None,
            message_id="call",
            tool_calls=[
                {"id": "c", "type": "function", "function": {"name": "login", "arguments": f'{{"pw":"{WORD}"}}'}}
            ],
        )
        manager.save(session)

        assert manager.redact("s", "pw").mentions == ["echo"]
        assert other.get_session("s").messages[-2].content[0]["text"] == f"You said: {SECRET}"

        assert manager.redact("s", "pw", text=[WORD]).mentions == []
        last = other.get_session("s").messages[-2:]
        assert last[0].content[0]["text"] == "You said: My password is [removed], h\u00fcsh!"
        assert last[1].tool_calls[0]["function"]["arguments"] == '{"pw":"[removed]"}'
        assert WORD not in self.words_of(other, "s")

    def test_messages_that_hold_the_words_packed_are_named(self, manager: Any, other: Any) -> None:
        """An object that a framework packed in base64 stays readable to it, and the report names its message."""
        session = with_a_secret(manager)
        for n, text in enumerate((SECRET, f"{WORD}!", "something else")):
            packed = b64encode(b"\x82\xa7" + text.encode()).decode()
            session.add_message("assistant", None, message_id=f"packed {n}", metadata={"graph": {"data": packed}})
        manager.save(session)

        assert manager.redact("s", "pw").mentions == ["packed 0"]
        assert manager.redact("s", "pw", text=[WORD]).mentions == ["packed 0", "packed 1"]
        assert [each.metadata for each in other.get_session("s").messages[-3:]] == [
            each.metadata for each in session.messages[-3:]
        ]

    def test_a_short_text_is_taken_out_as_a_whole_value_alone(self, manager: Any, other: Any) -> None:
        """A short text is removed only where it is a whole value: "ok" does not change "book"."""
        session = manager.create_session("ada", session_id="s", state={"book": "took", "answer": "ok"})
        session.add_message("user", "ok", message_id="pw")
        session.add_message("assistant", "ok", message_id="other")
        manager.save(session)

        manager.redact("s", "pw", content=None)

        assert other.get_session("s").state == {"book": "took", "answer": "[removed]"}
        assert contents(other.get_session("s")) == [None, "ok"]

    def test_calls_of_tools_keep_their_ids_and_lose_what_was_given_to_them(self, manager: Any, other: Any) -> None:
        """A redacted tool call loses its arguments and keeps its id, so that its result still has a call."""
        session = manager.create_session("ada", session_id="s")
        session.add_message("user", "Log me in.")
        function = {"name": "login", "arguments": f'{{"password":"{WORD}!!"}}'}
        session.add_message(
            "assistant", None, message_id="pw", tool_calls=[{"id": "c", "type": "function", "function": function}]
        )
        session.add_message("tool", "Done.", tool_call_id="c")
        session.set_state("given", f"{WORD}!!")
        manager.save(session)

        manager.redact("s", "pw")

        (call,) = other.get_session("s").messages[1].tool_calls
        assert call == {"id": "c", "type": "function", "function": {"name": "login", "arguments": "{}"}}
        assert [each["role"] for each in other.get_session("s").history()] == ["user", "assistant", "tool"]
        assert WORD not in self.words_of(other, "s")

    @of_all_users
    @pytest.mark.parametrize("asked", ["s", "own", "own of own"])
    @pytest.mark.parametrize("before", [2, 40])
    def test_forks_of_the_same_user_are_redacted_others_are_named(
        self, manager: Any, other: Any, asked: Any, before: Any
    ) -> None:
        """Forks of the same user that have the message are redacted. Other users' forks are reported."""
        with_a_secret(manager, before)
        manager.fork("s", new_id="own")
        manager.fork("own", new_id="own of own")
        manager.fork("s", before, new_id="before")
        manager.fork("own", user_id="bob", new_id="bob's")
        manager.create_session("ada", session_id="unrelated", metadata={"said": SECRET})
        theirs = other.get_session("bob's")
        untouched = [other.get_session(each) for each in ("before", "unrelated")]

        report = manager.redact(asked, "pw", scan=True)

        assert report.session_ids == ["own", "own of own", "s"]
        assert report.shared == ["bob's"]
        assert WORD not in self.words_of(other, "s", "own", "own of own")
        assert other.get_session("bob's") == theirs
        assert contents(theirs).count(SECRET) == 1
        assert [each.messages for each in untouched] == [
            other.get_session(each.session_id).messages for each in untouched
        ]
        assert other.get_session("unrelated") == untouched[1]
        assert self.sound(other)
        manager.delete("s")
        manager.delete("own of own")
        assert other.get_session("bob's") == theirs
        assert contents(other.get_session("own"))[before] == "[removed]"
        assert self.sound(other)

    def test_a_session_of_another_user_is_not_found(self, manager: Any, other: Any) -> None:
        """Absent sessions and messages, and another user's, are not found."""
        with_a_secret(manager)
        before = other.get_session("s")

        with pytest.raises(SessionNotFoundError):
            manager.redact("s", "pw", user_id="bob")
        with pytest.raises(SessionNotFoundError):
            manager.redact("t", "pw")
        with pytest.raises(SessionStateError, match="no message 'none'"):
            manager.redact("s", "none")
        with pytest.raises(SessionNotFoundError):
            manager.redact(None, "pw")
        for text in ("", ["a", ""], [1], 7, b"x"):
            with pytest.raises(InvalidValueError) as caught:
                manager.redact("s", "pw", text=text)
            assert caught.value.path.startswith("text")
        with pytest.raises(InvalidValueError):
            manager.redact("s", "pw", content={1})

        assert other.get_session("s") == before
        message = next(each for each in before.messages if each.message_id == "pw")
        assert manager.redact("s", message, user_id="ada").session_ids == ["s"]

    def test_an_archived_session_is_redacted_and_stays_archived(self, manager: Any, other: Any) -> None:
        """An archived session can be redacted, and stays archived."""
        with_a_secret(manager)
        manager.archive("s")

        manager.redact("s", "pw")

        assert other.get_session("s").status == "archived"
        assert WORD not in other.get_session("s").to_json()

    @of_all_users
    def test_another_message_of_the_same_id_in_a_fork_stays(self, manager: Any, other: Any, clock: Any) -> None:
        """A different message of the same id, added to a fork later, stays."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 3)
        manager.save(session)
        fork = manager.fork("s", new_id="fork")
        session = manager.get_session("s")
        session.add_message("user", SECRET, message_id="pw")
        manager.save(session)
        clock.advance(seconds=1)
        fork.add_message("user", "The weather is nice today.", message_id="pw")
        manager.save(fork)

        assert manager.redact("s", "pw").session_ids == ["s"]

        assert contents(other.get_session("fork"))[-1] == "The weather is nice today."

    @pytest.mark.parametrize("change", ["append", "rewrite", "rewrite all", "state"])
    def test_a_copy_in_hand_does_not_bring_the_words_back(self, manager: Any, other: Any, change: Any) -> None:
        """Saving a copy from before the redaction does not store the text again. It is merged or refused."""
        with_a_secret(manager)
        session, part = other.get_session("s"), other.get_session("s", last=1)

        manager.redact("s", "pw")

        for each in (session, part):
            if change == "append":
                each.add_message("user", "And now?")
            elif change == "state":
                each.set_state("more", 1)
            else:
                each.remove_message(each.messages[0 if change == "rewrite all" else -1].message_id)
            try:
                other.save(each)
            except SessionStateError:
                assert change.startswith("rewrite")
            assert WORD not in manager.get_session("s").to_json()
            if isinstance(manager.store, KVSessionStore):
                other.load_history(other.get_session("s", last=1))
