"""Tests of streamed answers with both managers."""

from contextlib import suppress

import pytest

from pyai_sessions import AsyncSessionManager, SessionManager, SessionNotFoundError
from tests.loops import run, settled
from tests.test_events import in_order


async def _break_off(stream):
    """Write to a stream, and end its block by an exception."""
    if hasattr(stream, "__aenter__"):
        async with stream as answer:
            await answer.write("One, ")
            raise RuntimeError
    with stream as answer:
        answer.write("One, ")
        raise RuntimeError


@pytest.mark.parametrize("face", [SessionManager, AsyncSessionManager])
def test_each_time_that_an_answer_is_stored_while_it_grows_is_a_call_of_stream(face):
    """Each time that a stream stores is reported as a call of `stream`. A piece that stores nothing is not."""
    told = []

    async def main():
        manager = face(on_event=told.append)
        await settled(manager.create_session("ada", session_id="s"))
        for every, pieces in ((0, ("One, ", "", "two")), (60, ("One, ", "two", "three"))):
            answer = manager.stream("s", every=every)
            for piece in pieces:
                await settled(answer.write(piece))
            await settled(answer.store())
            await settled(answer.finish())
        with suppress(RuntimeError):
            await _break_off(manager.stream("s", every=60))
        with suppress(SessionNotFoundError):
            await settled(manager.stream("t").write("One, "))

    run(main)
    ended = [each for each in told if each.name == "ended" and each.method != "create_session"]

    assert in_order(told)
    assert {each.method for each in ended} == {"stream"}
    assert [each.session_id for each in ended] == ["s"] * 9 + ["t"]
    assert [each.outcome for each in ended] == ["ok"] * 9 + ["SessionNotFoundError"]
    assert all(each.trips and each.bytes_written for each in ended[:-1])
