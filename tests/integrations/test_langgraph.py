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


def test_a_message_that_a_checkpoint_left_out_is_in_no_later_checkpoint():
    """If a checkpoint leaves a message out, only the checkpoints before it have the message."""
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
    """A message after the newest checkpoint belongs to that checkpoint, and to no earlier one."""
    log = Log([Message("user", "one"), of("1"), of("2", "1"), Message("user", "beside")])

    assert [said(log, n) for n in log.checkpoints()] == [["one"], ["one", "beside"]]


def test_the_first_write_of_a_place_counts():
    """If a task ran again, its first writes count. Writes are in the order of tasks."""
    log = Log([of("1"), wrote("1", "u", "a", "b"), wrote("1", "t", "c"), wrote("1", "u", "d"), wrote("2", "t", "e")])

    assert log.writes(0) == [("t", "c", "c"), ("u", "c", "a"), ("u", "c", "b")]


def test_removing_a_checkpoint_brings_no_message_back():
    """What a removed checkpoint left out stays left out, and its writes are removed."""
    session = Session()
    second = of("2", "1")
    session.add_messages([Message("user", "one"), of("1")])
    leave_out(session, [session.messages[0]], second)
    session.add_messages([second, wrote("2", "t", "a"), of("3", "2")])

    remove(session, [Log(session.messages).find("", "2")])

    log = Log(session.messages)
    assert (said(log), said(log, log.find("", "1"))) == ([], ["one"])
    assert len(session.messages) == 4
