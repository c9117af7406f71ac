"""The log of a graph's checkpoints, without LangGraph."""

import pytest

from pyai_sessions import Message, MissingPackageError, Session
from pyai_sessions.integrations.langgraph import LangGraphSaver
from pyai_sessions.integrations.langgraph.log import Log, leave_out, record, remove


def test_a_saver_without_langgraph_says_what_to_install():
    """The adapter is imported without its framework, and names it when it is used."""
    with pytest.raises(MissingPackageError, match="pip install langgraph"):
        LangGraphSaver(None)


def of(checkpoint, parent=None):
    return record(checkpoint=checkpoint, ns="", parent=parent, said=True, data=["null", ""])


def wrote(checkpoint, task, *values):
    return record(writes=checkpoint, ns="", task=task, path="", data=[[n, "c", each] for n, each in enumerate(values)])


def said(log, n=None):
    return [each.content for each in log.spoken(n)]


def test_a_checkpoint_says_what_was_said_before_it_and_left_out_by_none_before_it():
    """A message that a later checkpoint left out is in the conversation of the earlier ones alone."""
    session = Session()
    second = of("2", "1")
    session.add_messages([Message("user", "one"), Message("assistant", "two"), of("1")])
    leave_out(session, [session.messages[1]], second)
    session.add_messages([Message("assistant", "three"), second])
    log = Log(session.messages)

    assert said(log, log.find("", "1")) == ["one", "two"]
    assert said(log, log.find("", "2")) == said(log) == ["one", "three"]
    assert [each["content"] for each in session.history(format="openai")] == ["one", "three"]


def test_what_others_add_belongs_to_the_newest_checkpoint():
    """Messages after the newest checkpoint's record are in its conversation, and in no earlier one."""
    log = Log([Message("user", "one"), of("1"), of("2", "1"), Message("user", "beside")])

    assert [said(log, n) for n in log.checkpoints()] == [["one"], ["one", "beside"]]


def test_of_writes_of_one_place_the_first_counts():
    """A task that ran again has written what it wrote first; writes are in the order of tasks."""
    log = Log([of("1"), wrote("1", "u", "a", "b"), wrote("1", "t", "c"), wrote("1", "u", "d"), wrote("2", "t", "e")])

    assert log.writes(0) == [("t", "c", "c"), ("u", "c", "a"), ("u", "c", "b")]


def test_removing_a_checkpoint_keeps_what_it_left_out_left_out():
    """A removed checkpoint leaves an empty record where messages name it; its writes go."""
    session = Session()
    second = of("2", "1")
    session.add_messages([Message("user", "one"), of("1")])
    leave_out(session, [session.messages[0]], second)
    session.add_messages([second, wrote("2", "t", "a"), of("3", "2")])

    remove(session, [Log(session.messages).find("", "2")])

    log = Log(session.messages)
    assert (said(log), said(log, log.find("", "1"))) == ([], ["one"])
    assert len(session.messages) == 4
