"""Tests of streaming: a message that is stored while it grows."""

import json
from datetime import timedelta
from typing import Any

import pytest

from pyai_sessions import InvalidValueError, Message, SessionNotFoundError, SessionStateError
from pyai_sessions.testing.samples import contents, fill
from pyai_sessions.testing.store.fixtures import StoreFixtures


def _newest(manager: Any) -> Any:
    return manager.get_messages("s", limit=1)[0]


def _break_off(stream: Any, error: Exception) -> None:
    with stream as answer:
        answer.write("One, ")
        answer.write("two")
        raise error


class Streaming(StoreFixtures):
    def test_an_answer_is_stored_while_it_grows(self, manager: Any, other: Any, clock: Any) -> None:
        """A growing message is stored with its first piece, then from time to time, then whole, as one message."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        manager.save(session)
        with manager.stream("s", every=1, patience=60, metadata={"model": "m"}) as answer:
            seen = []
            for piece in ("One, ", "two, ", "three, ", "four"):
                answer.write(piece)
                seen.append(_newest(other).content)
                clock.advance(seconds=0.4)
            growing = _newest(other)
            assert growing.status_at(clock.now) == "growing"
            assert growing.status_at(clock.now + timedelta(seconds=61)) == "cut off"
        whole = _newest(other)

        assert seen == ["One, ", "One, ", "One, ", "One, two, three, four"]
        assert answer.content == whole.content == "One, two, three, four"
        assert (whole.role, whole.metadata, whole.status) == ("assistant", {"model": "m"}, "complete")
        assert whole.message_id == growing.message_id
        assert contents(other.get_session("s")) == [*(f"message {n}" for n in range(40)), whole.content]
        assert "growing" not in json.dumps(other.get_session("s").to_dict())
        assert self.sound(other)

    def test_what_others_do_meanwhile_stays(self, manager: Any, other: Any, clock: Any) -> None:
        """Messages, ratings and saves of others during a stream are kept."""
        manager.save(manager.create_session("ada", session_id="s"))
        with manager.stream("s", every=0) as answer:
            answer.write("One, ")
            session = other.get_session("s")
            other.append("s", *[{"role": "user", "content": f"theirs {n}"} for n in range(40)])
            answer.write("two, ")
            other.replace_message("s", answer.message, metadata={"rating": 5})
            session.add_message("user", "from a copy in hand")
            other.save(session)
            clock.advance(seconds=1)
            answer.write("three")

        found = other.get_session("s")
        assert contents(found) == ["One, two, three", *(f"theirs {n}" for n in range(40)), "from a copy in hand"]
        assert found.messages[0].metadata == {"rating": 5}
        assert found.messages[0].status == "complete"
        assert self.sound(other)

    def test_an_exception_leaves_what_was_said_as_cut_off(self, manager: Any, other: Any) -> None:
        """After an exception, the whole text so far is stored as cut off. The exception is passed on."""
        manager.append(manager.create_session("ada", session_id="s").session_id, {"role": "user", "content": "Well?"})
        error = RuntimeError("the model is gone")
        with pytest.raises(RuntimeError, match="the model is gone"):
            _break_off(manager.stream("s", every=60), error)

        message = _newest(other)
        assert (message.content, message.status) == ("One, two", "cut off")
        assert other.get_session("s").history() == [
            {"role": "user", "content": "Well?"},
            {"role": "assistant", "content": "One, two"},
        ]
        assert Message.from_dict(json.loads(json.dumps(message.to_dict()))).status == "cut off"
        other.append("s", {"role": "user", "content": "Go on."})
        assert manager.get_session("s", last=2).messages[0].status == "cut off"

    def test_a_writer_that_dies_leaves_what_was_stored(self, manager: Any, other: Any, clock: Any) -> None:
        """If the writer dies, the message reads as growing for a while, and then as cut off."""
        manager.create_session("ada", session_id="s")
        manager.stream("s", patience=30).write("One, ")

        for message in (_newest(other), other.get_session("s").messages[0], other.get_session("s", last=1).messages[0]):
            assert message.content == "One, "
            assert message.status_at(clock.now) == "growing"
            assert message.status_at(clock.now + timedelta(seconds=31)) == "cut off"
        fields = {name for name in _newest(other).to_dict() if name not in Message.__dataclass_fields__}
        assert fields == {"growing_until"}

    def test_the_end_may_have_other_fields(self, manager: Any, other: Any) -> None:
        """The end of a stream may set other fields, such as tool calls, even without any text."""
        manager.create_session("ada", session_id="s")
        calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        with manager.stream("s") as answer:
            answer.write("I look. ")
            answer.finish(tool_calls=calls, metadata={"tokens": 3})
            with pytest.raises(SessionStateError, match="was finished"):
                answer.write("more")
        with manager.stream("s") as silent:
            silent.finish(tool_calls=calls)

        one, two = other.get_session("s").messages
        assert (one.content, one.metadata, two.content) == ("I look. ", {"tokens": 3}, "")
        assert [list(each.tool_calls) for each in (one, two)] == [calls, calls]
        assert {each.status for each in (one, two)} == {"complete"}

    def test_where_nothing_is_said_nothing_is_stored(self, manager: Any, other: Any) -> None:
        """A stream without a piece stores no message, whether its block ends well or not."""
        manager.create_session("ada", session_id="s")
        with manager.stream("s") as answer:
            answer.write("")
        with pytest.raises(RuntimeError), manager.stream("s"):
            raise RuntimeError

        assert answer.message is None
        assert other.get_session("s").messages == []

    def test_a_long_answer_is_one_message(self, manager: Any, other: Any) -> None:
        """A message that grows larger than a page is still one message."""
        manager.create_session("ada", session_id="s")
        with manager.stream("s", every=0) as answer:
            for n in range(30):
                answer.write(f"{n} " * 300)
                if n % 10 == 0:
                    other.append("s", {"role": "user", "content": f"theirs {n}"})

        found = other.get_session("s")
        assert contents(found) == [answer.content, "theirs 0", "theirs 10", "theirs 20"]
        assert self.sound(other)

    def test_what_cannot_be_streamed_is_refused(self, manager: Any, other: Any) -> None:
        """Invalid options and pieces raise at once. A piece for an absent session or a removed message raises."""
        manager.create_session("ada", session_id="s")
        refused: list[dict[str, Any]] = [
            {"content": "x"},
            {"tool_calls": []},
            {"metadata": {1: {2}}},
            {"role": 3},
            {"every": -1},
            {"every": "1"},
            {"every": 5, "patience": 4},
            {"unknown": 1},
        ]
        for options in refused:
            with pytest.raises(InvalidValueError):
                manager.stream("s", **options)
        with pytest.raises(InvalidValueError, match="piece"):
            manager.stream("s").write(b"x")
        for stream in (manager.stream("t"), manager.stream("s", user_id="bob")):
            with pytest.raises(SessionNotFoundError):
                stream.write("x")
        assert other.get_session("s").messages == []
        answer = manager.stream("s", every=0)
        answer.write("One, ")
        other.clear_messages("s")
        with pytest.raises(SessionStateError, match="has no message"):
            answer.write("two")
        other.delete("s")
        with pytest.raises(SessionNotFoundError):
            answer.write("three")
