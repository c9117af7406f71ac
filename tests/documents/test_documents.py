"""Tests of the stored format: the two codecs, keys, pages, upgrades and damage."""

import itertools
import json
import pickle
import shutil
import string
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyai_sessions import (
    Checkpoint,
    Encrypted,
    InvalidDocumentError,
    InvalidValueError,
    KVSessionStore,
    Message,
    Session,
    SessionManager,
    SessionStatus,
    SQLiteMapping,
)
from pyai_sessions.documents import reading as documents
from pyai_sessions.documents import writing as drafts
from pyai_sessions.documents.keys import decode_id, encode_id, head_key, page_keys, page_prefix, session_of_key
from pyai_sessions.documents.limits import KEPT
from pyai_sessions.documents.reading import read_head, read_messages, restore, write_messages
from pyai_sessions.documents.writing import PAGE_BYTES, PAGE_MESSAGES, appended, compose
from pyai_sessions.testing import NOON, StoppedClock
from pyai_sessions.values.json import MAX_DEPTH

FROZEN = Path(__file__).parent / "frozen" / "format-1"

# What can be stored -----------------------------------------------------------------------------------------------

# All of Unicode: NUL, lone surrogates, and characters that some readers treat as line ends.
texts = st.text(st.characters(), max_size=20) | st.sampled_from(
    ["", "\x00", "\ud800", "\udfff\ud800", "\U0001f600", "\u2028", '"\\', "\x7f", "e\u0301", "\r\n", "NaN"]
)
ids = texts.filter(lambda text: 0 < len(text.encode("utf-8", "surrogatepass")) <= 1024)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.sampled_from([2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400])
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
objects = st.dictionaries(texts, values, max_size=3)
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(timezone.utc))  # noqa: DTZ001
unknown = st.dictionaries(texts.map(lambda text: f"x-{text}"), values, max_size=2)


@st.composite
def messages(draw):
    message = Message(
        role=draw(texts),
        content=draw(values),
        metadata=draw(objects),
        timestamp=draw(times),
        message_id=draw(ids),
        tool_calls=draw(st.none() | st.lists(values, max_size=2)),
        tool_call_id=draw(st.none() | texts),
        name=draw(st.none() | texts),
    )
    return Message.from_dict({**message.to_dict(), **draw(unknown)})


@st.composite
def checkpoints(draw):
    made = Checkpoint(draw(ids), draw(st.integers(0, 9)), draw(st.none() | ids), draw(objects), draw(times))
    return Checkpoint.from_dict({**made.to_dict(), **draw(unknown)})


@st.composite
def sessions(draw):
    session = Session(
        session_id=draw(ids),
        user_id=draw(st.none() | ids),
        metadata=draw(objects),
        state=draw(objects),
        status=draw(st.sampled_from(SessionStatus)),
        created_at=draw(times),
        updated_at=draw(times),
        checkpoints=draw(st.lists(checkpoints(), max_size=2, unique_by=lambda each: each.name)),
        messages=draw(st.lists(messages(), max_size=3, unique_by=lambda each: each.message_id)),
    )
    return Session.from_dict({**session.to_dict(), **draw(unknown)})


def nested(depth):
    value = "core"
    for n in range(depth):
        value = [value] if n % 2 else {"k": value}
    return value


def in_full(session):
    """Return a session without its revision, but with unknown fields and with types that == ignores."""
    found = session.to_dict()
    found.pop("revision", None)
    return json.dumps(found, sort_keys=True)


def restored(draft):
    """Return the session in the documents of a draft."""
    stored = read_head(draft.head, draft.session_id)
    pages = [read_messages(text, key, draft.session_id) for key, text in draft.pages.items()]
    return restore(stored, pages, StoppedClock())


DEEP = Session(session_id="deep", state={"deep": nested(MAX_DEPTH - 2)}, messages=[Message("user", nested(MAX_DEPTH))])


# One JSON, two codecs ---------------------------------------------------------------------------------------------


@given(sessions())
@settings(max_examples=60)
@example(Session())
@example(DEEP)
def test_the_fast_codec_stores_all_of_a_session(session):
    """`read_head` and `restore` read an equal session from what `compose` wrote."""
    made = restored(compose(session))

    assert made == session
    assert in_full(made) == in_full(session)


@given(sessions())
@settings(max_examples=60)
@example(Session())
@example(DEEP)
def test_the_declared_codec_reads_what_the_fast_one_wrote(session):
    """`Session.from_json` and `json.loads` read a stored conversation of one page."""
    draft = compose(session)
    if draft.pages:  # larger than a page
        return

    made = Session.from_json(draft.head)

    assert made == session
    assert in_full(made) == in_full(session)


@given(sessions())
@settings(max_examples=60)
@example(Session())
@example(DEEP)
def test_the_fast_codec_reads_what_the_declared_one_wrote(session):
    """The text of `to_json` is a valid document, and can be put into a mapping by hand."""
    text = session.to_json()

    made = restore(read_head(text, session.session_id), [], StoppedClock())

    assert made == session
    assert in_full(made) == in_full(session)


@given(st.lists(messages(), max_size=4))
@settings(max_examples=60)
@example([])
@example([Message("user", nested(MAX_DEPTH))])
def test_a_page_is_an_array_of_messages_in_both_codecs(given_messages):
    """`write_messages` and `Message.to_json` write the same, and read each other's text."""
    page = write_messages(given_messages)
    declared = "[" + ",".join(each.to_json() for each in given_messages) + "]"

    by_fast = read_messages(declared, "key", "s")
    by_declared = [Message.from_json(json.dumps(each)) for each in json.loads(page)]

    assert json.loads(page) == json.loads(declared)
    for made in (read_messages(page, "key", "s"), by_fast, by_declared):
        assert made == given_messages
        assert [each.to_dict() for each in made] == [each.to_dict() for each in given_messages]


@given(sessions())
@settings(max_examples=60)
def test_what_a_session_was_read_from_is_written_again(session):
    """Storing, reading and storing again changes only the tokens of the commit."""
    once = restored(compose(session))

    again = restored(compose(once))

    assert in_full(again) == in_full(session)


SPELLINGS = {
    "ours": lambda head: head,
    "escaped": lambda head: json.dumps(json.loads(head), separators=(",", ":")),
    "by hand": lambda head: json.dumps(json.loads(head), indent=1, ensure_ascii=False),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(sessions(), st.lists(messages(), max_size=3, unique_by=lambda each: each.message_id))
@settings(max_examples=25)
def test_messages_are_written_after_what_is_stored(spelling, session, added):
    """New messages are added to the stored text as it is. Changed or removed messages are left out of it."""
    head = SPELLINGS[spelling](compose(session).head)
    grown = restore(read_head(head, session.session_id), [], StoppedClock())
    grown._history.extend([each for each in added if grown._history.find(each.message_id) is None])
    changed = restore(read_head(compose(grown).head, session.session_id), [], StoppedClock())
    if changed.message_count:
        changed.pop()
        changed.add_message("user", "instead")

    for each in (grown, changed):
        stored = restored(compose(each))
        assert [one.to_dict() for one in stored.messages] == [one.to_dict() for one in each.messages]
        assert stored == each


def test_a_long_message_is_written_again_with_what_follows():
    """A session does not keep a second copy of a long message's text."""
    session = restored(compose(Session(messages=[Message("user", "x" * 100_000, message_id="long")])))
    session.add_message("user", "short")

    stored = restored(compose(session))

    assert [len(each.content) for each in stored.messages] == [100_000, 5]
    assert bytes(session._history.origin.head.messages) == b""


@pytest.mark.parametrize("size", [1, 300, 7_900, 9_000])
@pytest.mark.parametrize("turn", [1, 2, 5, 32, 33])
def test_what_is_appended_unseen_is_stored_as_what_is_saved(size, turn):
    """An append turns a full tail into a page without reading it. No page is larger than those of saves."""
    session = Session(session_id="s")
    stored, pages = read_head(compose(session).head, "s"), {}
    for _ in range(20):
        added = [Message("user", "x" * size) for _ in range(turn)]
        session._history.extend(added)

        draft = appended(stored, added, [], KEPT)

        if draft is None:
            assert turn > PAGE_MESSAGES or turn * size > 0.9 * PAGE_BYTES
            return
        assert read_head(draft.head, "s").head == draft.stored.head
        assert not pages.keys() & draft.pages.keys()
        assert all(len(each) <= PAGE_BYTES for each in draft.pages.values())
        pages |= draft.pages
        stored = draft.stored
        keys = page_keys(stored.head.sealed)
        assert sorted(keys) == sorted(pages)
        read = [read_messages(pages[key], key, "s") for key in keys]
        assert list(restore(stored, read, StoppedClock()).messages) == list(session.messages)


@pytest.mark.parametrize("kind", [bytes.decode, bytes, bytearray, memoryview])
def test_a_document_may_come_as_text_or_bytes(kind):
    """Documents may be read as text or bytes."""
    session = Session(session_id="s", messages=[Message("user", "ü", message_id="m", timestamp=NOON)])

    head = kind(compose(session).head)

    assert restore(read_head(head, "s"), [], StoppedClock()) == session


def test_a_document_may_be_formatted_by_hand():
    """White space, the order of fields, and fields with defaults are free in a document."""
    text = '{\n  "state": {"k": 1},\n  "session_id": "s",\n  "format": 1\n}'

    made = restore(read_head(text, "s"), [], StoppedClock())

    assert (made.session_id, made.state, made.message_count) == ("s", {"k": 1}, 0)


SPLIT = "\ud83d\ude00"  # an emoji that was cut in two by a stream, and joined again: in JSON there is no such thing


def test_an_emoji_that_was_cut_in_two_is_stored_as_it_will_be_read():
    """Joined halves of an emoji are equal in the saved and the loaded session."""
    manager = SessionManager({})
    session = manager.create_session(metadata={SPLIT: SPLIT}, state={SPLIT: [SPLIT]})
    session.add_message(SPLIT, SPLIT, name=SPLIT, metadata={SPLIT: SPLIT})

    manager.save(session)

    assert manager.get_session(session.session_id) == session
    assert session.messages[0].content == "\U0001f600"


@pytest.mark.parametrize("name", ["session_id", "user_id"])
def test_a_session_of_any_id_that_was_accepted_can_be_found(name):
    """An id that cannot be read back raises before the write, or is normalized to one that can."""
    manager = SessionManager({})
    try:
        session = manager.create_session(**{name: SPLIT})
    except InvalidValueError:
        return

    assert manager.get_session(session.session_id) == session
    assert name == "session_id" or manager.get_sessions_for_user(SPLIT) == [session]


# Keys -------------------------------------------------------------------------------------------------------------

hostile_ids = [
    "a/b", "../../etc/passwd", ".", "..", "%2F", "%", "session/a", "messages/a/g/0", "a/g/0", "a\x00b", " ", "a b",
    "\ud800", "\U0001f600", "*", "a:b", "{a}", "~", "a%00", "CON", "\n", "\u2028", "é", "e\u0301",
]  # fmt: skip


@given(ids)
@settings(max_examples=200)
@example("." * 1024)
def test_an_id_is_read_back_from_its_key(session_id):
    """Encoding an id loses nothing, and is safe in keys, paths and URLs."""
    text = encode_id(session_id)

    assert decode_id(text) == session_id
    assert set(text) <= set(string.ascii_letters + string.digits + "_.-~%")
    assert not text.startswith(".")


@given(ids, ids)
@settings(deadline=None)
@example("a", "a/b")
@example("a", "a%2Fb")
@example("\ud83d\ude00", "\U0001f600")
def test_no_id_forges_the_key_of_another(one, other):
    """Keys of two sessions are never equal, and never lie below each other."""
    if one == other:
        return

    assert head_key(one) != head_key(other)
    assert not page_prefix(one).startswith(page_prefix(other))
    assert not head_key(one).startswith(page_prefix(other))
    assert not page_prefix(one).startswith("session/")


@pytest.mark.parametrize("session_id", hostile_ids, ids=ascii)
def test_a_key_tells_whose_it_is(session_id):
    """The key of a head or a page gives the session's id."""
    assert session_of_key(head_key(session_id)) == session_id
    assert session_of_key(f"{page_prefix(session_id)}g-_1/0") == session_id


@pytest.mark.parametrize(
    "key",
    [
        "session", "session/", "session/a/b", "session/a b", "session/%2f", "session/%zz", "session/..", "session/%ED",
        "messages/a", "messages/a/g", "messages/a/g/", "messages/a/g/x", "messages/a/g/0/1", "messages//g/0",
        "Session/a", "sessions/a", "", "a", "/session/a", b"session/a", None, 7, ("session", "a"),
    ],
)  # fmt: skip
def test_a_foreign_key_is_nobody_s(key):
    """Keys that we would not write are ignored, since a mapping may hold other items."""
    assert session_of_key(key) is None


def test_sessions_of_hostile_ids_lie_beside_each_other():
    """Sessions of hostile ids can be stored, found and deleted without touching each other or foreign keys."""
    mapping = {"other": "thing", "session": "x", "messages/": "y"}
    manager = SessionManager(mapping)
    for session_id in hostile_ids:
        session = manager.create_session("u", session_id=session_id)
        for n in range(PAGE_MESSAGES + 1):
            session.add_message("user", f"{encode_id(session_id)} {n}")
        manager.save(session)

    for session_id in hostile_ids:
        assert manager.get_session(session_id).messages[-1].content == f"{encode_id(session_id)} {PAGE_MESSAGES}"
        assert manager.delete(session_id)

    assert mapping == {"other": "thing", "session": "x", "messages/": "y"}


# Pages ------------------------------------------------------------------------------------------------------------


def pages_of(mapping):
    return {key: json.loads(text) for key, text in mapping.items() if key.startswith("messages/")}


def saved(count, size=1, *, step=None):
    """Return a mapping with a session of *count* messages of *size* characters, saved every *step* messages."""
    mapping = {}
    manager = SessionManager(mapping, clock=StoppedClock())
    session = manager.create_session(session_id="s")
    for n in range(count):
        session.add_message("user", "x" * size, message_id=f"m{n}")
        if step and n % step == 0:
            manager.save(session)
    manager.save(session)
    return mapping


@pytest.mark.parametrize("count", [0, 1, PAGE_MESSAGES - 1, PAGE_MESSAGES])
def test_a_conversation_of_a_page_is_one_json_document(count):
    """`json.loads` and `Session.from_json` read the stored document."""
    mapping = saved(count, step=7)

    assert list(mapping) == ["session/s"]
    document = json.loads(mapping["session/s"])
    assert document["format"] == 1
    assert document["sealed"] == []
    assert document["message_count"] == len(document["messages"]) == count
    assert Session.from_json(mapping["session/s"]) == SessionManager(mapping).get_session("s")


@pytest.mark.parametrize("step", [None, 1, 2, 5, 31, 33, 100])
@pytest.mark.parametrize("count", [33, 64, 65, 200])
def test_older_messages_lie_in_pages_of_at_most_32(count, step):
    """Pages and the tail hold each message once, in order, however many a save adds."""
    mapping = saved(count, step=step)

    head, pages = json.loads(mapping["session/s"]), pages_of(mapping)
    in_order = [pages[f"messages/s/{run['generation']}/{n}"] for run in head["sealed"] for n in range(run["pages"])]
    everything = [each["message_id"] for page in [*in_order, head["messages"]] for each in page]

    assert everything == [f"m{n}" for n in range(count)]
    assert len(in_order) == len(pages)
    assert all(0 < len(page) <= PAGE_MESSAGES for page in in_order)
    assert 0 < len(head["messages"]) <= PAGE_MESSAGES
    assert sum(run["messages"] for run in head["sealed"]) + len(head["messages"]) == head["message_count"] == count


@pytest.mark.parametrize("size", [600, 5000, PAGE_BYTES - 300, PAGE_BYTES, 100_000])
@pytest.mark.parametrize("step", [None, 1, 3])
def test_a_page_holds_at_most_16_kib_of_text_or_a_single_message(size, step):
    """A message larger than a page's limit has its own page."""
    mapping = saved(40, size, step=step)

    for key, text in mapping.items():
        if key.startswith("messages/"):
            assert len(text) <= PAGE_BYTES + PAGE_MESSAGES + 2 or len(json.loads(text)) == 1
    assert [each.message_id for each in SessionManager(mapping).get_session("s").messages] == [
        f"m{n}" for n in range(40)
    ]


def test_a_page_is_written_once():
    """Appending writes the head and new pages, and never changes a page."""
    mapping = {}
    manager = SessionManager(mapping)
    session = manager.create_session(session_id="s")
    before = {}
    for n in range(200):
        session.add_message("user", f"{n}")
        manager.save(session)

        pages = pages_of(mapping)
        assert before.items() <= pages.items()
        before = pages

    assert len(before) >= 200 // PAGE_MESSAGES - 1


@pytest.mark.parametrize("last", range(0, 110, 7))
def test_a_part_of_the_history_is_the_last_of_it(last):
    """`last=n` loads the last n of all messages, on any page."""
    mapping = saved(100, step=9)
    manager = SessionManager(mapping)
    whole = manager.get_session("s")

    part = manager.get_session("s", last=last)

    assert part.message_count == 100
    assert part.messages == whole.messages[max(0, 100 - last) :]
    manager.load_history(part)
    assert part.messages == whole.messages


@pytest.mark.parametrize("at", [0, 1, 31, 32, 33, 63, 64, 70, 99])
def test_a_changed_message_leaves_all_other_pages_as_they_are(at):
    """Changing a message writes its page anew, removes the old one, and touches no other."""
    mapping = saved(100)
    before = pages_of(mapping)
    manager = SessionManager(mapping)
    session = manager.get_session("s")

    session.replace_message(f"m{at}", content="edited")
    manager.save(session)

    after = pages_of(mapping)
    head = json.loads(mapping["session/s"])
    starts = [(run["generation"], run.get("start", 0), run["pages"]) for run in head["sealed"]]
    assert set(after) == {f"messages/s/{name}/{start + n}" for name, start, pages in starts for n in range(pages)}
    assert len(before.keys() - after.keys()) == len(after.keys() - before.keys()) == (at < 96)
    assert all(before.get(key, page) == page for key, page in after.items())
    assert manager.get_session("s") == session
    assert [each.content for each in session.messages].index("edited") == at
    assert sum(each.content == "edited" for each in session.messages) == 1


@given(st.lists(st.sampled_from(["add", "add40", "pop", "drop", "edit", "clear", "save", "part"]), max_size=25))
@settings(max_examples=60)
def test_pages_and_head_always_hold_what_the_session_holds(steps):
    """After any mix of appends, changes and saves, nothing is lost and no page is left over."""
    mapping = {}
    manager = SessionManager(mapping)
    session = manager.create_session(session_id="s")
    numbers = itertools.count()
    for step in [*steps, "save"]:
        if step.startswith("add"):
            for _ in range(40 if step == "add40" else 1):
                session.add_message("user", next(numbers))
        elif step == "pop" and session.messages:
            session.pop()
        elif step == "drop" and session.messages:
            session.remove_message(session.messages[len(session.messages) // 2].message_id)
        elif step == "edit" and session.messages:
            session.replace_message(session.messages[len(session.messages) // 3].message_id, content="edited")
        elif step == "clear":
            session.clear_messages()
        elif step == "part":
            manager.save(session)
            whole = manager.get_session("s")
            session = manager.get_session("s", last=3)
            assert list(session.messages) == whole.messages[-3:]
            manager.load_history(session)
            assert session == whole
        else:
            manager.save(session)

    assert manager.get_session("s") == session
    assert len(pages_of(mapping)) == sum(run["pages"] for run in json.loads(mapping["session/s"])["sealed"])
    assert manager.verify()


# Formats, unknown fields ------------------------------------------------------------------------------------------


def test_an_older_format_is_upgraded_when_it_is_read(monkeypatch):
    """A document of an older format is upgraded when it is read. The next save writes today's."""
    old = {"format": 0, "id": "s", "user": "ada", "turns": [["user", "Hello!"]]}

    def upgrade(head):
        turns = [
            {"role": role, "content": content, "message_id": f"m{n}", "timestamp": "2026-01-31T12:00:00Z"}
            for n, (role, content) in enumerate(head["turns"])
        ]
        return {"format": 1, "session_id": head["id"], "user_id": head["user"], "messages": turns}

    monkeypatch.setitem(documents.UPGRADES, 0, upgrade)
    mapping = {"session/s": json.dumps(old)}
    manager = SessionManager(mapping)

    session = manager.get_session("s")

    assert (session.user_id, session.messages[0].content) == ("ada", "Hello!")
    session.add_message("assistant", "Hi!")
    manager.save(session)
    assert json.loads(mapping["session/s"])["format"] == 1
    assert [each.content for each in manager.get_session("s").messages] == ["Hello!", "Hi!"]
    assert [each.session_id for each in manager.get_sessions_for_user("ada")] == ["s"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"format":2,"session_id":"s"}', "it has format 2, written by a newer release; this one reads up to 1"),
        ('{"format":2,"session_id":"s","messages":7}', "it has format 2, written by a newer release"),
        ('{"format":0,"session_id":"s"}', "it has format 0, which never was"),
        ('{"format":-1,"session_id":"s"}', "it has format -1, which never was"),
        ('{"session_id":"s"}', 'it is not a JSON object with a whole number as "format"'),
        ('{"format":"1","session_id":"s"}', 'it is not a JSON object with a whole number as "format"'),
        ('{"format":true,"session_id":"s"}', 'it is not a JSON object with a whole number as "format"'),
        ('{"format":1,"session_id":"t"}', "it is the head of session 't'"),
        ('{"format":1}', "it is the head of session ''"),
        ("[]", "it is not a JSON object"),
        ("7", "it is not a JSON object"),
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ('{"format":1,"session_id":"s","messages":{}}', "it is not a JSON array"),
        ('{"format":1,"session_id":"s","messages":[{}]}', "an element is not a message"),
        ('{"format":1,"session_id":"s","messages":[],"message_count":1}', "its message count does not fit"),
        ('{"format":1,"session_id":"s","state":[]}', "it does not have the expected shape"),
        ('{"format":1,"session_id":"s","checkpoints":7}', ""),
        ('{"format":1,"session_id":"s","checkpoints":[{}]}', ""),
        ('{"format":1,"session_id":"s","updated_at":"2026-01-31T12:00:00"}', ""),
        ('{"format":1,"session_id":"s","status":"gone"}', ""),
        ('{"format":1,"session_id":"s","user_id":7}', ""),
        ("[" * 100_000, "it is nested too deeply"),
        (7, "it is an int, not JSON text"),
        (b"\xff", "its bytes are not UTF-8 text"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_what_is_not_a_head_of_this_session_is_refused(text, reason):
    """The error has the key, session, document and reason. The document stays as it is."""
    mapping = {"session/s": text}
    manager = SessionManager(mapping)

    with pytest.raises(InvalidDocumentError) as caught:
        manager.get_session("s")

    error = caught.value
    assert (error.key, error.session_id) == ("session/s", "s")
    assert reason in error.reason
    assert error.reason in str(error)
    assert mapping == {"session/s": text}


def test_an_unreadable_document_is_never_overwritten():
    """A new session, a save, an append and a change of status do not overwrite an unreadable document."""
    mapping = {}
    manager = SessionManager(mapping)
    session = manager.create_session("u", session_id="s")
    mapping["session/s"] = damaged = mapping["session/s"][:20]
    session.add_message("user", "x")

    for write in (
        lambda: manager.save(session),
        lambda: manager.save(session, on_conflict="overwrite"),
        lambda: manager.create_session("u", session_id="s"),
        lambda: manager.get_or_create_session("s"),
        lambda: manager.append("s", {"role": "user", "content": "x"}),
        lambda: manager.archive("s"),
    ):
        with pytest.raises(InvalidDocumentError):
            write()

    assert mapping == {"session/s": damaged}


def test_the_document_of_another_session_is_refused():
    """A document that was copied under another key cannot be read as that session."""
    mapping = saved(40)
    mapping["session/t"] = mapping["session/s"]

    with pytest.raises(InvalidDocumentError, match="it is the head of session 's'"):
        SessionManager(mapping).get_session("t")


def test_unknown_fields_survive_a_load_and_a_save():
    """Unknown fields of the head, of messages and of checkpoints are kept."""
    mapping = saved(40)
    manager = SessionManager(mapping)
    session = manager.get_session("s")
    session.checkpoint("c")
    manager.save(session)
    page = next(key for key in mapping if key.startswith("messages/"))
    head, sealed = json.loads(mapping["session/s"]), json.loads(mapping[page])
    head["language"] = {"code": "it", "\ud800": [2**70]}
    head["messages"][0]["reactions"] = ["+1"]
    head["checkpoints"][0]["label"] = "L"
    sealed[3]["edited_by"] = "bob"
    mapping["session/s"], mapping[page] = json.dumps(head), json.dumps(sealed)

    session = manager.get_session("s")
    session.add_message("user", "more")
    session.set_state("k", 1)
    manager.save(session)
    manager.append("s", {"role": "user", "content": "even more"})
    manager.archive("s")

    after = json.loads(mapping["session/s"])
    assert after["language"] == {"code": "it", "\ud800": [2**70]}
    assert after["messages"][0]["reactions"] == ["+1"]
    assert after["checkpoints"][0]["label"] == "L"
    assert json.loads(mapping[page])[3]["edited_by"] == "bob"
    assert manager.get_session("s").messages[3].to_dict()["edited_by"] == "bob"
    assert manager.get_session("s").to_dict()["language"] == head["language"]


def test_unknown_fields_of_messages_are_sealed_with_them():
    """Unknown fields of messages move with them into a page, also when the page is rewritten."""
    mapping = {}
    manager = SessionManager(mapping)
    session = manager.create_session(session_id="s")
    manager.append("s", Message.from_dict({"role": "user", "content": "", "message_id": "m", "x-kept": 1}))
    manager.append("s", *({"role": "user", "content": n} for n in range(PAGE_MESSAGES)))

    session = manager.get_session("s")
    session.pop()
    session.replace_message("m", content="edited")
    manager.save(session)

    assert manager.get_session("s").messages[0].to_dict()["x-kept"] == 1


def test_a_session_that_cannot_be_stored_writes_nothing():
    """A value that JSON cannot hold raises before the first write, wherever it was put."""
    mapping = saved(40)
    manager = SessionManager(mapping)
    before = dict(mapping)

    for name, path in [("state", "state['cursor']"), ("metadata", "metadata['cursor']")]:
        session = manager.get_session("s")
        for n in range(40):  # a page is full
            session.add_message("user", n)
        vars(session)[name] = {"cursor": {1, 2}}  # past the check
        with pytest.raises(InvalidValueError) as caught:
            manager.save(session)

        assert caught.value.path == path
        assert mapping == before


@pytest.mark.parametrize("given_messages", [[], [Message("user", "x", message_id="m")], None, "x"], ids=repr)
def test_a_history_that_was_assigned_to_is_refused(given_messages):
    """A history replaced by assignment raises an error that names the methods to use. Nothing is written."""
    mapping = saved(3)
    manager = SessionManager(mapping)
    session = manager.get_session("s")
    before = dict(mapping)

    with pytest.raises(InvalidValueError, match=r"^messages was assigned to"):
        session.messages = given_messages
    vars(session)["messages"] = given_messages  # past the check

    with pytest.raises(InvalidValueError, match=r"^messages was assigned to"):
        manager.save(session)
    assert mapping == before


# Damage -----------------------------------------------------------------------------------------------------------

_HOSTILE = pickle.dumps({"format": 1, "session_id": "s"})


def small_document():
    session = Session("s", "ada", {"t": "\u00fc"}, {"k": [1, 2.5]}, created_at=NOON, updated_at=NOON)
    session.add_message("user", "Hi \U0001f600", message_id="m", timestamp=NOON, metadata={"a": None})
    mapping = {}
    KVSessionStore(mapping).save(session)
    return mapping["session/s"].encode()


def reads_or_refuses(manager):
    """Call everything that reads. Only InvalidDocumentError may be raised, and it must not quote the document."""
    for read in (
        lambda: manager.get_session("s"),
        lambda: manager.get_session("s", last=1),
        lambda: manager.get_sessions_for_user("ada"),
        manager.list_sessions,
        manager.count,
        manager.verify,
    ):
        error = refusal(read)
        assert error is None or (error.session_id == "s" and "Hi" not in str(error))


def refusal(read):
    try:
        read()
    except InvalidDocumentError as err:
        return err
    return None


def damages():
    document = small_document()
    for n in range(len(document)):
        for bit in (0x01, 0x20, 0x80):
            yield document[:n] + bytes([document[n] ^ bit]) + document[n + 1 :]
        yield document[:n]
        yield document[:n] + document[n + 1 :]
    yield _HOSTILE
    yield document + document
    yield document + b"\x00"
    yield b"\x00" * 4096


def as_text(document):
    try:
        return document.decode()
    except UnicodeDecodeError:
        return document


def test_any_damaged_byte_is_a_clean_read_or_an_invalid_document():
    """Any flipped or missing byte, and a pickle, gives a session or InvalidDocumentError."""
    count = 0
    for document in damages():
        for value in {document, as_text(document)}:
            mapping = {"session/s": value}
            reads_or_refuses(SessionManager(mapping))
            assert mapping == {"session/s": value}
            count += 1

    assert count > 1000


def test_any_damaged_byte_in_sqlite_is_a_clean_read_or_an_invalid_document():
    """The same holds in SQLite, for text and for blobs."""
    for document in itertools.islice(damages(), 0, None, 3):
        for value in {document, as_text(document)}:
            mapping = SQLiteMapping(":memory:")
            with mapping.connections.writing() as connection:
                connection.execute("INSERT INTO sessions VALUES ('session/s', ?)", (value,))
            reads_or_refuses(SessionManager(mapping))
            mapping.close()


@pytest.mark.parametrize(
    "value", ["", "x", "{}", "[7]", "[[]]", '[{"role":1}]', b"\xff", _HOSTILE, 7, "[" * 9999], ids=ascii
)
def test_a_damaged_page_is_an_invalid_document(value):
    """The error names the page. Messages in the head can still be read."""
    mapping = saved(40)
    page = next(key for key in mapping if key.startswith("messages/"))
    mapping[page] = value

    with pytest.raises(InvalidDocumentError) as caught:
        SessionManager(mapping).get_session("s")

    assert (caught.value.key, caught.value.session_id, caught.value.document) == (page, "s", value)
    assert len(SessionManager(mapping).get_session("s", last=1).messages) == 1


def test_a_page_of_fewer_messages_than_its_head_says_is_an_invalid_document():
    """A page with fewer messages than its head says raises."""
    mapping = saved(40)
    page = next(key for key in mapping if key.startswith("messages/"))
    mapping[page] = json.dumps(json.loads(mapping[page])[1:])

    with pytest.raises(InvalidDocumentError, match="message count does not fit"):
        SessionManager(mapping).get_session("s")


def test_a_missing_page_is_an_invalid_document():
    """A missing page raises an error that names it."""
    mapping = saved(40)
    page = next(key for key in mapping if key.startswith("messages/"))
    del mapping[page]

    with pytest.raises(InvalidDocumentError, match="the page is missing") as caught:
        SessionManager(mapping).get_session("s")

    assert caught.value.key == page


# The format, held still -------------------------------------------------------------------------------------------


def pin_tokens(monkeypatch):
    revisions = itertools.count(1)
    monkeypatch.setattr(drafts, "new_token", lambda size: f"revision{next(revisions)}" if size == 12 else "sixbytes")


def test_the_text_written_today_is_this(monkeypatch):
    """If you change this text, you make a new format, and must add an upgrade from this one."""
    pin_tokens(monkeypatch)
    mapping = {}
    manager = SessionManager(mapping, clock=StoppedClock())
    session = manager.create_session("ada", session_id="a/b", metadata={"title": "Röm"}, state={"k": 1})
    session.add_message("user", "Hello! \U0001f600", message_id="m0")
    session.add_message("assistant", None, message_id="m1", tool_calls=[{"id": "c"}], metadata={"ms": 5}, name="bot")
    session.add_message("tool", {"temp": 21.5}, message_id="m2", tool_call_id="c")
    session.checkpoint("c")
    manager.save(session)

    assert list(mapping) == ["session/a%2Fb"]
    assert mapping["session/a%2Fb"] == (
        '{"format":1,"revision":"revision2","session_id":"a/b","user_id":"ada","status":"active",'
        '"created_at":"2026-01-31T12:00:00Z","updated_at":"2026-01-31T12:00:00.000004Z","message_count":3,'
        '"incarnation":"sixbytes","edition":"sixbytes","sealed":[],"dropped":[],'
        '"question":[0,"Hello! \U0001f600"],"metadata":{"title":"Röm"},"state":{"k":1},'
        '"checkpoints":[{"name":"c","message_count":3,"last_message_id":"m2","state":{"k":1},'
        '"created_at":"2026-01-31T12:00:00Z"}],"messages":['
        '{"role":"user","content":"Hello! \U0001f600","metadata":{},"timestamp":"2026-01-31T12:00:00Z",'
        '"message_id":"m0","tool_calls":null,"tool_call_id":null,"name":null},'
        '{"role":"assistant","content":null,"metadata":{"ms":5},"timestamp":"2026-01-31T12:00:00Z",'
        '"message_id":"m1","tool_calls":[{"id":"c"}],"tool_call_id":null,"name":"bot"},'
        '{"role":"tool","content":{"temp":21.5},"metadata":{},"timestamp":"2026-01-31T12:00:00Z",'
        '"message_id":"m2","tool_calls":null,"tool_call_id":"c","name":null}]}'
    )


def test_the_pages_written_today_are_these(monkeypatch):
    """A page is an array. The head names it by owner, generation, pages and messages."""
    pin_tokens(monkeypatch)
    mapping = {}
    manager = SessionManager(mapping, clock=StoppedClock())
    session = manager.create_session(session_id="s")
    for n in range(PAGE_MESSAGES + 1):
        session.add_message("user", "", message_id=f"m{n}", timestamp=NOON)
    manager.save(session)

    head = json.loads(mapping["session/s"])
    (run,) = head["sealed"]
    assert run == {"owner": "s", "generation": run["generation"], "pages": 1, "messages": PAGE_MESSAGES}
    assert mapping[f"messages/s/{run['generation']}/0"] == (
        "["
        + ",".join(
            '{"role":"user","content":"","metadata":{},"timestamp":"2026-01-31T12:00:00Z",'
            f'"message_id":"m{n}","tool_calls":null,"tool_call_id":null,"name":null}}'
            for n in range(PAGE_MESSAGES)
        )
        + "]"
    )
    assert [each["message_id"] for each in head["messages"]] == [f"m{PAGE_MESSAGES}"]


def check_frozen(manager):
    """Compare all that the frozen documents hold. They are never made anew."""
    assert manager.count(status=None) == 4
    assert [each.session_id for each in manager.list_sessions(limit=None)] == [
        "anonymous",
        "long",
        "tools/\u00fc \U0001f600",
    ]
    assert [each.session_id for each in manager.list_sessions(status="archived")] == ["old"]
    assert [each.session_id for each in manager.get_sessions_for_user("ada")] == ["long", "tools/\u00fc \U0001f600"]
    assert manager.verify()

    tools = manager.get_session("tools/\u00fc \U0001f600")
    assert (tools.user_id, tools.title) == ("ada", "Wetter in K\u00f6ln")
    assert tools.metadata == {"title": "Wetter in K\u00f6ln", "tags": ["a", {"b": None}]}
    assert tools.state == {"cursor": {"page": 2}, "big": 2**70, "\u043a\u043b\u044e\u0447": [1.5, True, None]}
    assert tools.created_at == NOON
    assert [(each.message_id, each.role, each.content) for each in tools.messages] == [
        ("m0", "user", "Wie ist das Wetter in K\u00f6ln? \U0001f326\ufe0f \x00"),
        ("m1", "assistant", None),
        ("m2", "tool", {"temp": 21.5, "wind": [1, 2]}),
        ("m3", "assistant", [{"type": "text", "text": "21,5 \u00b0C \ud83d"}]),
    ]
    assert tools.messages[1].tool_calls == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "K\u00f6ln"}'}}
    ]
    assert (tools.messages[2].tool_call_id, tools.messages[2].name) == ("call_1", "weather")
    assert tools.messages[0].metadata == {"client": "web"}
    assert tools.messages[0].timestamp == NOON
    assert tools.messages[0].to_dict()["x-reactions"] == ["+1"]
    assert tools.to_dict()["x-language"] == {"code": "de"}
    assert tools.checkpoints == [Checkpoint("asked", 1, "m0", {"cursor": {"page": 1}}, NOON)]
    assert tools.checkpoints[0].to_dict()["x-label"] == "L"

    long = manager.get_session("long")
    assert [each.content for each in long.messages] == [f"turn {n}" for n in range(80)]
    assert [each.message_id for each in long.messages] == [f"m{n}" for n in range(80)]
    assert {each.timestamp for each in long.messages} == {NOON + timedelta(hours=1)}
    assert manager.get_session("long", last=50).messages == long.messages[30:]

    old, anonymous = manager.get_session("old"), manager.get_session("anonymous")
    assert (old.active_at, old.updated_at) == (NOON - timedelta(minutes=90), NOON - timedelta(hours=1))
    titles = [each.title for each in manager.list_sessions(status=None)]
    assert titles == [None, "turn 0", "Wetter in K\u00f6ln", "Bye."]
    assert (old.status, old.user_id, old.messages[0].content) == (SessionStatus.ARCHIVED, "bob", "Bye.")
    assert (anonymous.user_id, anonymous.message_count, anonymous.metadata, anonymous.state) == (None, 0, {}, {})

    long.add_message("user", "today")
    manager.save(long)
    assert manager.get_session("long").message_count == 81
    manager.restore("old")
    assert manager.count() == 4


def test_documents_of_format_1_are_read_for_ever():
    """Documents of the first release are read in full, and can be changed."""
    mapping = json.loads((FROZEN / "mapping.json").read_text())

    assert sum(key.startswith("messages/long/") for key in mapping) == 2
    check_frozen(SessionManager(mapping))


def test_changed_documents_of_format_1_are_read_for_ever():
    """Runs in pieces, a branch, a fork, and answers that were stored while they grew are read, and can be changed."""
    mapping = json.loads((FROZEN / "changed.json").read_text())
    manager, turns = SessionManager(mapping), [f"turn {n}" for n in range(130)]
    assert [len(json.loads(mapping[f"session/{each}"])["sealed"]) for each in ("changed", "fork")] == [4, 2]
    assert manager.verify()

    session = manager.get_session("changed")
    assert [each.content for each in session.messages] == [
        *turns[:70],
        "said anew",
        *turns[72:129],
        "Once upon a time",
        "Once ",
        "Once upon ",
    ]
    assert session.messages[40].metadata == {"rating": 5}
    now = NOON + timedelta(minutes=1)
    assert [each.status_at(now) for each in session.messages[-3:]] == ["complete", "cut off", "growing"]
    assert [each.content for each in manager.get_session("fork").messages] == turns[:100]
    [branch] = session.branches
    left = manager.switch("changed", branch)
    assert [each.content for each in left.messages] == [*turns[:70], "said anew", *turns[72:]]

    manager.replace_message("changed", "m70", content="said once more")
    manager.append("fork", {"role": "user", "content": "more"})
    assert manager.get_message("changed", "m70").content == "said once more"
    assert manager.get_session("fork").message_count == 101
    assert manager.verify()


def test_a_sqlite_file_of_format_1_is_read_for_ever(tmp_path):
    """A file of the first release can be opened and changed."""
    shutil.copy(FROZEN / "sessions.db", tmp_path)

    with SessionManager(f"sqlite:///{tmp_path}/sessions.db") as manager:
        check_frozen(manager)


def test_encrypted_documents_of_format_1_are_read_for_ever():
    """Encrypted documents of the first release can be read, compressed or not."""
    mapping = json.loads((FROZEN / "encrypted.json").read_text())
    keys = {"index": b"index key, for ever: 32 bytes ok", "2026-01": b"an old key, for ever: 32 bytes k"}

    check_frozen(SessionManager(KVSessionStore(Encrypted(mapping, keys))))


def test_the_frozen_documents_are_what_is_written_today():
    """Today's documents have the same keys, and the same fields in the same order, as the frozen ones."""
    mapping = json.loads((FROZEN / "mapping.json").read_text())
    rewritten = {}

    for session_id in ("tools/\u00fc \U0001f600", "long", "old", "anonymous"):
        session = KVSessionStore(mapping).get(session_id)
        KVSessionStore(rewritten).save(Session.from_dict(session.to_dict()))

    tokens = {"revision", "incarnation", "edition", "sealed"}
    for key, text in mapping.items():
        if key.startswith("session/"):
            old, new = json.loads(text), json.loads(rewritten[key])
            assert list(new) == list(old)
            assert {k: v for k, v in new.items() if k not in tokens} == {
                k: v for k, v in old.items() if k not in tokens
            }


@pytest.mark.parametrize("user_id", ["", "u" * 1025])
@pytest.mark.parametrize("make", [dict, lambda: SQLiteMapping(":memory:")], ids=["dict", "SQLite"])
def test_a_head_of_an_impossible_user_is_refused_and_stops_nothing_else(make, user_id):
    """A head with an invalid user id raises an error that names it, and does not break the index."""
    mapping = make()
    manager = SessionManager(mapping)
    manager.create_session("ada", session_id="a")
    mapping["session/b"] = json.dumps({"format": 1, "session_id": "b", "user_id": user_id})

    manager.reindex()

    assert [each.kind for each in manager.verify().problems] == ["unreadable head"]
    assert [each.session_id for each in manager.get_sessions_for_user("ada")] == ["a"]
    with pytest.raises(InvalidDocumentError, match="user_id"):
        manager.get_session("b")


@pytest.mark.parametrize("start", [-1, 10**6, 10**18, "1"])
def test_a_head_whose_pages_begin_where_none_can_lie_is_refused(start):
    """A head with an absurd page number raises before a list of keys is made."""
    mapping = saved(100)
    head = json.loads(mapping["session/s"])
    head["sealed"][0]["start"] = start
    mapping["session/s"] = json.dumps(head)

    with pytest.raises(InvalidDocumentError):
        SessionManager(mapping).get_session("s")
