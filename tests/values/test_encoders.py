"""Tests of sessions in FastAPI, pydantic, msgspec, yaml and json: complete, or an error."""

import copy
import dataclasses
import json
import pickle

import msgspec
import pydantic
import pydantic_core
import pytest
import yaml
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.testclient import TestClient

from pyai_sessions import (
    ImmutableError,
    InvalidValueError,
    Message,
    MessagePage,
    Session,
    SessionError,
    SessionManager,
    SessionSummary,
    SummaryPage,
    jsonable,
)
from tests.values.conftest import filled

AS_JSON = {
    "to_json": lambda s: json.loads(s.to_json()),
    "jsonable": jsonable,
    "json.dumps": lambda s: json.loads(json.dumps(s, default=jsonable)),
    "yaml": lambda s: yaml.safe_load(yaml.safe_dump(s.to_dict())),
    "pydantic": lambda s: json.loads(pydantic.TypeAdapter(Session).dump_json(s)),
    "pydantic in Python": lambda s: pydantic.TypeAdapter(Session).dump_python(s),
}


@pytest.mark.parametrize("encode", AS_JSON)
def test_an_encoder_writes_the_whole_session(session, encode):
    """An encoder writes what `to_dict` returns, and it can be read back."""
    written = AS_JSON[encode](session)

    assert written == session.to_dict()
    assert Session.from_dict(written) == session


OF_FIELDS = {
    "asdict": lambda s: json.loads(json.dumps(dataclasses.asdict(s), default=jsonable)),
    "asdict, changed": lambda s: json.loads(json.dumps(dataclasses.asdict(s) | {"state": s.state}, default=jsonable)),
    "msgspec": lambda s: json.loads(msgspec.json.encode(s)),
    "msgspec in Python": lambda s: json.loads(json.dumps(msgspec.to_builtins(s))),
    "pydantic_core": lambda s: json.loads(pydantic_core.to_json(s)),
    "pydantic_core in Python": lambda s: json.loads(json.dumps(pydantic_core.to_jsonable_python(s))),
    "fastapi": lambda s: json.loads(json.dumps(jsonable_encoder(s))),
}


@pytest.mark.parametrize("encode", OF_FIELDS)
def test_an_encoder_of_dataclasses_loses_no_message(session, encode):
    """An encoder of dataclasses writes all fields and messages as JSON."""
    written = OF_FIELDS[encode](session)

    plain = session.to_dict()
    assert set(written) >= {each.name for each in dataclasses.fields(Session)} - {"parent", "summary"}
    assert [each["content"] for each in written["messages"]] == [each["content"] for each in plain["messages"]]
    assert [each["tool_calls"] for each in written["messages"]] == [each["tool_calls"] for each in plain["messages"]]
    assert {name: written[name] for name in ("session_id", "user_id", "metadata", "state", "status")} == {
        name: plain[name] for name in ("session_id", "user_id", "metadata", "state", "status")
    }
    assert Session.from_dict(written) == dataclasses.replace(session)


def test_what_asdict_gives_is_plain(session):
    """`asdict` gives plain dicts and lists."""
    made = dataclasses.asdict(session)

    made["state"]["cart"].append({1})
    made["messages"].append("x")
    made["checkpoints"].clear()

    assert type(made["state"]) is type(made["state"]["cart"][0]) is dict
    assert type(made["messages"]) is list


@pytest.mark.parametrize("encode", [json.dumps, msgspec.json.encode, yaml.safe_dump])
def test_messages_by_themselves_are_written_whole_or_refused(session, encode):
    """No encoder writes an empty list for messages."""
    try:
        written = encode(session.messages)
    except (TypeError, yaml.YAMLError):
        return
    assert len(json.loads(written)) == 2


def test_messages_and_a_default_are_json(session):
    """`json.dumps(session.messages, default=jsonable)` writes all messages."""
    assert json.loads(json.dumps(session.messages, default=jsonable)) == [each.to_dict() for each in session.messages]


class Reply(pydantic.BaseModel):
    session: Session
    messages: list[Message]
    last: Message | None = None


def test_a_pydantic_model_holds_sessions_and_messages(session):
    """A model validates objects, dicts and JSON, and writes what `to_dict` returns."""
    reply = Reply(session=session, messages=session.messages, last=session.messages[-1])

    again = Reply.model_validate_json(reply.model_dump_json())

    assert reply.session is session
    assert again == reply
    assert Reply(**reply.model_dump()) == reply
    schema = Reply.model_json_schema()
    assert "message_id" in json.dumps(schema)
    assert Reply.model_json_schema(mode="serialization")


@pytest.mark.parametrize("given", [5, None, {"role": 5}, {"content": "x"}, {"role": "user", "timestamp": "noon"}])
def test_pydantic_refuses_what_is_no_message(given):
    """An invalid message raises ValidationError with our text."""
    with pytest.raises(pydantic.ValidationError, match="is "):
        pydantic.TypeAdapter(Message).validate_python(given)


def test_fastapi_takes_and_returns_sessions(manager):
    """A route may return a session, messages, summaries or a page, with and without annotation."""
    app = FastAPI()
    manager.save(filled(manager.create_session("ada", session_id="s")))

    def session() -> Session:
        return manager.get_session("s")

    def messages() -> list[Message]:
        return manager.get_session("s").messages

    def bare():
        return manager.get_session("s")

    def bare_messages():
        return manager.get_session("s").messages

    def bare_page():
        return manager.list_sessions("ada")

    def part():
        return manager.get_session("s", last=1)

    def take(message: Message) -> Message:
        return message

    for function in (session, messages, bare, bare_messages, bare_page, part):
        app.get(f"/{function.__name__}")(function)
    app.post("/take")(take)
    whole = manager.get_session("s").to_dict()

    with TestClient(app) as client:
        assert client.get("/session").json() == whole
        assert client.get("/messages").json() == whole["messages"]
        assert [each["content"] for each in client.get("/bare").json()["messages"]] == [
            each["content"] for each in whole["messages"]
        ]
        assert [each["message_id"] for each in client.get("/bare_messages").json()] == ["m0", "m1"]
        assert client.get("/bare_page").json()["sessions"][0]["metadata"] == {"title": "T"}
        assert [each["message_id"] for each in client.get("/part").json()["messages"]] == ["m1"]
        assert client.post("/take", json={"role": "user", "content": "x"}).json()["content"] == "x"
        assert client.post("/take", json={"role": 5}).status_code == 422
        assert client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"exclude": {"state", "messages"}}, lambda d: {k: v for k, v in d.items() if k not in ("state", "messages")}),
        ({"include": {"session_id", "metadata"}}, lambda d: {"session_id": "s", "metadata": d["metadata"]}),
        (
            {"exclude": {"messages": {"__all__": {"content"}}}},
            lambda d: d | {"messages": [{k: v for k, v in m.items() if k != "content"} for m in d["messages"]]},
        ),
        (
            {"exclude_none": True},
            lambda d: d | {"messages": [{k: v for k, v in m.items() if v is not None} for m in d["messages"]]},
        ),
        ({"include": {"state", "user_id"}, "exclude_none": True}, lambda d: {"state": d["state"], "user_id": "ada"}),
        ({"include": {"status", "user_id"}, "exclude_defaults": True}, lambda _: {"user_id": "ada"}),
    ],
)
def test_what_is_excluded_is_not_written(session, options, left):
    """`exclude=` and `response_model_exclude=` leave fields out, also those of messages."""
    session.set_state("none", None)  # what JSON of the user's own holds is no field
    expected = left(session.to_dict())
    app = FastAPI()
    named = {f"response_model_{name}": value for name, value in options.items()}
    app.get("/one", response_model=Session, **named)(lambda: session)
    app.get(
        "/many", response_model=list[Session] | None, response_model_exclude_none=options.get("exclude_none", False)
    )(lambda: [session])

    assert pydantic.TypeAdapter(Session).dump_python(session, **options) == expected
    assert json.loads(pydantic.TypeAdapter(Session).dump_json(session, **options)) == expected
    assert json.loads(Reply(session=session, messages=[]).model_dump_json(exclude={"messages"})) == {
        "session": session.to_dict(),
        "last": None,
    }
    with TestClient(app) as client:
        assert client.get("/one").json() == expected
        assert "none" in client.get("/many").json()[0]["state"]


def test_half_a_character_does_not_keep_a_session_from_going_out(session):
    """JSON in UTF-8 has U+FFFD for a lone surrogate. Python values and ASCII keep it."""
    session.add_message("assistant", ["cut \ud83d", {"\udc00": "\U0001f600"}])
    adapter = pydantic.TypeAdapter(Session)

    sent = adapter.validate_json(adapter.dump_json(session))

    assert sent.messages[-1].content == ["cut \ufffd", {"\ufffd": "\U0001f600"}]
    assert adapter.validate_python(adapter.dump_python(session)) == session
    assert Session.from_json(session.to_json()) == session


def test_a_page_of_a_list_goes_out_with_its_cursor(manager):
    """Every encoder and route writes a page with its cursor."""
    for n in range(3):
        manager.create_session("ada", session_id=f"s{n}", metadata={"n": [n]})
    app = FastAPI()

    def annotated(cursor: str | None = None) -> SummaryPage:
        return manager.list_sessions("ada", limit=2, cursor=cursor)

    app.get("/annotated")(annotated)
    app.get("/bare")(lambda: manager.list_sessions("ada", limit=2))
    app.get("/one")(lambda: manager.list_sessions("ada")[0])
    page = manager.list_sessions("ada", limit=2)

    with TestClient(app) as client:
        first = client.get("/annotated").json()
        second = client.get("/annotated", params={"cursor": first["next_cursor"]}).json()
        bare = client.get("/bare").json()
        one = client.get("/one").json()
        schemas = client.get("/openapi.json").json()["components"]["schemas"]

    assert first == page.to_dict() == json.loads(json.dumps(page, default=jsonable)) == json.loads(page.to_json())
    assert [each["session_id"] for each in first["sessions"] + second["sessions"]] == ["s2", "s1", "s0"]
    assert second["next_cursor"] is None
    assert SummaryPage.from_dict(bare) == SummaryPage.from_dict(first) == page
    assert SessionSummary.from_dict(one) == page[0]
    assert json.loads(msgspec.json.encode(page)).keys() == {"sessions", "next_cursor"}
    assert schemas["SummaryPage"]["properties"]["sessions"]["items"]["properties"]["status"] == {
        "type": "string",
        "enum": ["active", "archived"],
    }


def test_a_page_is_a_sequence_of_summaries(manager):
    """A page has a length, indexes and slices, and equals a list or tuple of the same."""
    for n in range(3):
        manager.create_session("ada", session_id=f"s{n}")
    page = manager.list_sessions("ada")

    assert len(page) == 3
    assert bool(page)
    assert page[0] is next(iter(page)) is page[:1][0]
    assert page == list(page)
    assert page == tuple(page)
    assert page == manager.list_sessions("ada") == pickle.loads(pickle.dumps(page)) == copy.deepcopy(page)  # noqa: S301
    assert page != manager.list_sessions("ada", limit=2)
    assert manager.list_sessions("ada", limit=2) != dataclasses.replace(
        manager.list_sessions("ada", limit=2), next_cursor=None
    )
    assert manager.list_sessions("bob") == []
    assert not manager.list_sessions("bob")
    with pytest.raises(ImmutableError, match="give its next_cursor to list_sessions"):
        page.next_cursor = "x"


def test_a_page_of_messages_goes_out_with_what_it_says_of_others(manager):
    """Every encoder and route writes whether more messages lie beyond the page."""
    session = manager.create_session("ada", session_id="s")
    for n in range(5):
        session.add_message("user", f"text {n}", metadata={"n": [n]})
    manager.save(session)
    page = manager.get_messages("s", before=session.messages[4], limit=2)
    app = FastAPI()

    def annotated() -> MessagePage:
        return page

    app.get("/annotated")(annotated)
    app.get("/bare")(lambda: page)

    with TestClient(app) as client:
        found = client.get("/annotated").json()
        bare = client.get("/bare").json()

    assert found == page.to_dict() == json.loads(json.dumps(page, default=jsonable)) == json.loads(page.to_json())
    assert ([each["content"] for each in found["messages"]], found["has_older"], found["has_newer"]) == (
        ["text 2", "text 3"],
        True,
        True,
    )
    assert MessagePage.from_dict(bare) == page == list(page)
    assert page == pickle.loads(pickle.dumps(page)) == copy.deepcopy(page)  # noqa: S301
    assert "text 2" not in repr(page)
    with pytest.raises(InvalidValueError, match="has_older is a str; it is True or False"):
        MessagePage.from_dict({"has_older": "no"})


def test_a_part_is_not_written_as_the_whole(manager):
    """`to_dict` of a partly loaded session raises, through pydantic too."""
    long = manager.create_session("ada", session_id="s")
    for n in range(100):
        long.add_message("user", f"text {n}")
    manager.save(long)
    part = manager.get_session("s", last=5)

    with pytest.raises(Exception, match=r"load all of it with manager\.load_history\(session\)"):  # pydantic's own
        pydantic.TypeAdapter(Session).dump_json(part)
    with pytest.raises(SessionError):
        jsonable(part)


@pytest.mark.parametrize("encode", OF_FIELDS)
def test_a_part_that_an_encoder_of_fields_writes_says_so(manager, encode):
    """An encoded part has the number of all messages, and cannot be read or imported as a whole."""
    long = manager.create_session("ada", session_id="s")
    for n in range(100):
        long.add_message("user", f"text {n}")
    manager.save(long)

    written = OF_FIELDS[encode](manager.get_session("s", last=5))

    assert (len(written["messages"]), written["message_count"]) == (5, 100)
    for read in (Session.from_dict, lambda each: SessionManager().import_sessions([each])):
        with pytest.raises(
            InvalidValueError, match=r"messages are 5 of the session's 100 messages, .* leave message_count"
        ):
            read(written)
    assert Session.from_dict({**written, "message_count": 5}).message_count == 5


def test_a_summary_is_no_session(manager):
    """A summary's JSON cannot be read as a session without messages."""
    manager.save(filled(manager.create_session("ada", session_id="s")))

    with pytest.raises(InvalidValueError, match="messages are 0 of the session's 2 messages"):
        Session.from_dict(manager.list_sessions()[0].to_dict())


# What does not change -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "remedy"),
    [
        (lambda s: setattr(s.messages[0], "content", "x"), "use session.replace_message(message, ...)"),
        (lambda s: delattr(s.messages[0], "content"), "use session.replace_message(message, ...)"),
        (lambda s: setattr(s.messages[0], "new", "x"), "use session.replace_message(message, ...)"),
        (lambda s: s.messages[0].metadata.update(a=1), "use session.replace_message"),
        (lambda s: s.messages[1].content.append(1), "use session.replace_message"),
        (lambda s: s.messages.append(Message("user", "x")), "change it by session.add_message"),
        (lambda s: setattr(s.checkpoints[0], "name", "x"), "make another of that name: session.checkpoint(name)"),
        (lambda s: s.checkpoints[0].state.update(a=1), "use session."),
    ],
)
def test_a_change_of_what_does_not_change_says_what_to_do(session, act, remedy):
    """Changing a message raises an error that names the method to use."""
    before = session.to_dict()

    with pytest.raises(ImmutableError) as caught:
        act(session)

    assert remedy in str(caught.value)
    assert isinstance(caught.value, dataclasses.FrozenInstanceError)
    assert session.to_dict() == before
