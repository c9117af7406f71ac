"""Tests of hostile documents: a read is correct or raises our own error, in bounded time and memory."""

import copy
import io
import json
import tracemalloc
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import (
    InvalidDocumentError,
    InvalidValueError,
    KVSessionStore,
    Message,
    Session,
    SessionManager,
    SessionStateError,
)
from pyai_sessions.documents import reading as documents
from pyai_sessions.documents import writing as drafts
from pyai_sessions.documents.keys import session_of_key
from pyai_sessions.documents.reading import MAX_PAGES

NAMED = (InvalidDocumentError, InvalidValueError, SessionStateError)
"""What a hostile document may end a call with; a StorageError would say that the mapping failed, which it did not."""


def _stored():
    """Return the items of a mapping with every kind of document and every field of a head."""
    items = {}
    manager = SessionManager(KVSessionStore(items))
    session = manager.create_session("ada", session_id="s", metadata={"a": 1}, state={"b": [1, 2]})
    for n in range(80):
        session.add_message("user" if n else "system", f"message {n}", message_id=f"m{n}")
    session.checkpoint("late")
    manager.save(session)
    manager.fork("s", 40, new_id="early")
    session.rewind("m70")
    session.add_message("user", "another way")
    session.checkpoint("c")
    session.compact("in short", keep_last=5)
    manager.save(session)
    manager.fork("s", new_id="fork")
    return items


STORED = _stored()


def all_acts(manager):
    """Return calls of every kind on the documents of "s" and its forks. The last ones remove these."""

    def change(session_id, *, last=None, act=lambda session: session.add_message("user", "more")):
        session = manager.get_session(session_id, last=last)
        if session is not None:
            act(session)
            manager.save(session)
            manager.load_history(session)
            session.history(last=3)
            imported = Session.from_json(session.to_json())
            ids = {each.message_id for each in session.messages}
            assert imported == session or len(ids) < session.message_count == imported.message_count

    def switch():
        session = manager.get_session("s")
        if session is not None and session.branches:
            manager.switch("s", session.branches[0])

    return [
        lambda: manager.get_session("s"),
        lambda: manager.get_session("fork", last=40),
        lambda: manager.get_sessions_for_user("ada"),
        lambda: manager.list_sessions(status=None),
        lambda: manager.list_sessions("ada", limit=1),
        lambda: manager.count(where={"a": 1}),
        lambda: manager.append("s", Message("user", "more")),
        lambda: change("s"),
        lambda: change("s", last=1),
        lambda: manager.fork("s"),
        lambda: manager.fork("s", 3),
        lambda: manager.fork("s", "c"),
        lambda: manager.fork("fork", "m5"),
        switch,
        lambda: change("s", act=lambda session: session.rewind(3)),
        lambda: manager.archive_inactive(0),
        lambda: manager.archive("s"),
        lambda: manager.restore("s"),
        manager.reindex,
        manager.verify,
        lambda: manager.verify(repair=True),
        lambda: manager.delete("fork"),
        lambda: manager.delete("s"),
        lambda: manager.delete_user("ada"),
        manager.clear_all,
    ]


def endure(items):
    """Make every call on a mapping's items. Each error must name what is wrong."""
    manager = SessionManager(KVSessionStore(dict(items), timeout=0.2))
    refusals = []
    for act in all_acts(manager):
        try:
            act()
        except NAMED as err:  # noqa: PERF203 (one after another)
            refusals.append(err)
    assert [key for key in manager.store.mapping if session_of_key(key)] == []
    return refusals


def test_without_damage_every_call_works():
    """Without damage every call succeeds, so the other tests see only the effect of damage."""
    assert endure(STORED) == []


# Mutations ------------------------------------------------------------------------------------------------------------

OTHERS = st.sampled_from(
    [
        *(0, 1, -1, 10**12, 10**18, -(10**18), 2**63, 10**400, 1.5, 1e308, True, None),
        *("", "x", "s", "fork", "../x", "a/b", "%", "\ud800", "x\n", "x" * 2000, "archived"),
        *([], {}, [1], {"a": 1}, [[[]]], [{"owner": "s", "generation": "g", "pages": 10**12, "messages": 10**12}]),
        *(
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:59:59-14:00",
            "2026-01-31T12:00:00",
        ),
    ]
) | st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3))


def paths(value, path=()):
    """Iterate over the paths to all parts of a JSON value, and of arrays to their ends."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*path, key))
    elif isinstance(value, list):
        for n in {0, len(value) - 1} if value else ():
            yield from paths(value[n], (*path, n))


PATHS = [(key, path) for key, text in STORED.items() for path in paths(json.loads(text))]


def replaced(value, path, other):
    """Return a JSON value with one part replaced."""
    if not path:
        return other
    changed = copy.copy(value)
    changed[path[0]] = replaced(changed[path[0]], path[1:], other)
    return changed


@given(st.sampled_from(PATHS), OTHERS)
@settings(max_examples=60)
def test_any_other_value_in_any_place_is_read_or_refused(place, other):
    """Wrong types, extreme numbers and times, and invalid names are read or refused, in every document."""
    key, path = place

    endure({**STORED, key: json.dumps(replaced(json.loads(STORED[key]), path, other))})


@given(st.sampled_from(sorted(STORED)), st.binary(max_size=40) | st.text(max_size=40) | OTHERS.map(json.dumps))
@settings(max_examples=30)
def test_anything_in_place_of_a_document_is_refused_or_read(key, value):
    """Any bytes, text or JSON in place of a document are read or refused."""
    endure({**STORED, key: value})


@pytest.mark.parametrize("value", [b"\xff", "", "null", "{}", "[]", "7", 7, [], b'{"format":1,"x":"\xff"}'])
@pytest.mark.parametrize("key", range(len(STORED)))
def test_what_is_no_document_is_refused(key, value):
    """Invalid UTF-8, empty JSON and Python objects are refused in place of any document."""
    name = list(STORED)[key]

    assert endure({**STORED, name: value}) or name.startswith("forks/")


@given(st.sampled_from(sorted(STORED)), st.data())
@settings(max_examples=40)
def test_text_that_was_tampered_with_is_read_or_refused(key, data):
    """Text with parts cut out, doubled or inserted is read or refused."""
    text = STORED[key]
    start, end = (data.draw(st.integers(0, len(text))) for _ in range(2))
    piece = data.draw(
        st.sampled_from(["", "9" * 5000, "\\ud800", "\\u0000", "\\", '"', "NaN", "1e999", '"format":1,', "[", "}"])
    )

    endure({**STORED, key: text[:start] + piece + text[min(start, end) :]})


@pytest.mark.parametrize("depth", [90, 900, 100_000])
@pytest.mark.parametrize("field", ["state", "metadata", "sealed", "messages", "parent", "unheard_of"])
def test_deep_nesting_is_read_or_refused(field, depth):
    """Deep nesting does not exhaust the stack."""
    for opening, closing in ("[", "]"), ('{"a":', "}"):
        head = json.dumps({**json.loads(STORED["session/s"]), field: "@"})

        endure({**STORED, "session/s": head.replace('"@"', opening * depth + "1" + closing * depth)})


# Keys -----------------------------------------------------------------------------------------------------------------

FOREIGN = [
    *("forks/s", "forks/s/x", "forks/s/x/y/z", "forks//x/y", "forks/s/%/a", "forks/s/\ud800/a", "forks/%2E/s/a/"),
    *(
        "messages/s",
        "messages/s/x",
        "messages//x/0",
        "messages/s/x/-1",
        "messages/s/x/\u0665",
        "messages/s/x/" + "9" * 5000,
    ),
    *("session", "session/", "session/%", "session/s/", "unreadable", "unreadable/", "unreadable/s", "\ud800", "", "/"),
    *(7, None, b"\xff", ("session/s",)),
]


@pytest.mark.parametrize("head", [STORED["session/s"], "damaged"])
def test_keys_that_are_nearly_ours_are_left_alone(head):
    """Keys that resemble ours are neither read, counted, moved nor removed."""
    items = {**dict.fromkeys(FOREIGN, "foreign"), **STORED, "session/s": head}
    manager = SessionManager(KVSessionStore(items, timeout=0.2))

    for act in all_acts(manager):
        try:
            act()
        except NAMED:  # noqa: PERF203 (one after another)
            assert head == "damaged"

    assert {key: items[key] for key in FOREIGN} == dict.fromkeys(FOREIGN, "foreign")


# Claims ---------------------------------------------------------------------------------------------------------------


def claiming(pages, messages=None, **fields):
    """Return the text of a head that claims to have many pages."""
    head = json.loads(STORED["session/s"])
    messages = pages if messages is None else messages
    head["sealed"] = [{"owner": "s", "generation": "g", "pages": pages, "messages": messages}]
    return json.dumps({**head, "message_count": messages + len(head["messages"]), "branches": [], **fields})


def peak_of(act):
    """Return the largest number of bytes that a call held."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_head_that_claims_more_pages_than_can_be_is_refused_before_they_are_counted():
    """A head that claims absurdly many pages raises before a list of keys is made."""
    branch = json.loads(STORED["session/s"])["branches"][0]
    many = [{"owner": "s", "generation": f"g{n}", "pages": MAX_PAGES // 2, "messages": 1} for n in range(3)]
    for head in (
        claiming(10**12),
        claiming(MAX_PAGES + 1),
        claiming(1, branches=[{**branch, "sealed": many}]),
        claiming(1, branches=[{**branch, "branch_id": f"b{n}", "sealed": many[n : n + 1]} for n in range(3)]),
    ):
        items = {**STORED, "session/s": head}
        store = KVSessionStore(items)
        with pytest.raises(InvalidDocumentError, match=f"at most {MAX_PAGES} are accepted") as caught:
            store.get("s")
        assert caught.value.session_id == "s"

        assert peak_of(lambda items=items: endure(items)) < 20_000_000


def test_a_reference_that_claims_more_pages_than_can_be_is_refused():
    """A reference that claims absurdly many shared pages raises."""
    key = next(key for key in STORED if key.startswith("forks/s/fork/"))
    items = {**STORED, key: '{"format":1,"pages":{"g":1000000000000}}'}

    assert peak_of(lambda: endure(items)) < 20_000_000


def test_pages_that_are_claimed_and_missing_cost_no_more_than_some_of_them():
    """A head that claims many missing pages costs at most a few thousand reads, also in lists."""
    heads = {f"session/s{n}": claiming(300_000).replace('"session_id": "s"', f'"session_id": "s{n}"') for n in range(5)}
    manager = SessionManager(KVSessionStore({**heads, "session/s": claiming(300_000)}))

    def work():
        for act in (
            lambda: manager.get_session("s"),
            lambda: manager.get_session("s", last=10**9),
            lambda: manager.fork("s", 3),
            lambda: manager.get_sessions_for_user("ada"),
        ):
            with pytest.raises(InvalidDocumentError):
                act()
        assert not manager.verify()

    assert peak_of(work) < 50_000_000


class Counted(dict):
    """A dict that counts the accesses to its items."""

    done = 0

    def __getitem__(self, key):
        self.done += 1
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        self.done += 1
        super().__setitem__(key, value)

    def __delitem__(self, key):
        self.done += 1
        super().__delitem__(key)

    def __iter__(self):
        self.done += len(self)
        return super().__iter__()


BRANCH = {"branch_id": "b", "message_count": 1, "last_message_id": None, "created_at": "2026-01-31T12:00:00Z"}
MANY = [{"owner": "s", "generation": "g", "pages": 900_000, "messages": 900_000}]
CLAIMS = {
    "a head": {"session/s": claiming(900_000)},
    "a head of another's pages": {"session/s": claiming(1, sealed=[MANY[0] | {"owner": "other"}], message_count=-1)},
    "a branch": {"session/s": claiming(0, sealed=[], branches=[BRANCH | {"sealed": MANY}], message_count=-1)},
    "a reference": {"forks/s/fork/i": '{"format":1,"pages":{"g":900000}}'},
    "a head that is forked": {
        "session/s": claiming(900_000, forked=True),
        "forks/s/fork/i": '{"format":1,"pages":{"g":900000}}',
    },
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_is_done_costs_what_is_stored_and_not_what_is_claimed(claim):
    """Each call accesses and writes about as many items as are stored, not as many as are claimed."""
    done = {}
    for n in range(40):
        items = Counted({**STORED, **CLAIMS[claim]})
        manager, file = SessionManager(KVSessionStore(items)), io.StringIO()
        acts = [
            *all_acts(manager),
            *[partial(manager.export_sessions, file, user_id="ada", scan=scan) for scan in (False, True)],
        ]
        if n >= len(acts):
            break
        manager.count()
        items.done = 0
        with suppress(*NAMED):
            acts[n]()
        done[n] = items.done
        assert len(file.getvalue().splitlines()) <= len(STORED) + 2

    assert len(done) > 15
    assert {n: count for n, count in done.items() if count > 12_000} == {}


def test_a_session_is_not_stored_that_could_not_be_read(monkeypatch):
    """A save that would exceed the number of pages raises."""
    monkeypatch.setattr(drafts, "MAX_PAGES", 2)
    manager = SessionManager(KVSessionStore({}))
    session = manager.create_session(session_id="long")
    for n in range(96):
        session.add_message("user", str(n))
    manager.save(session)
    session.add_message("user", "96")
    for n in range(40):
        session.add_message("user", str(n))

    with pytest.raises(InvalidValueError, match="more than 2 pages"):
        manager.save(session)

    assert len(manager.get_session("long").messages) == 96


@pytest.mark.parametrize("cursor", ["--5:s", "\u0665:s", "9" * 20 + ":s", "9" * 5000 + ":s", ":s", "5:", "5:%", 5, "5"])
def test_a_cursor_that_was_made_up_is_refused(cursor):
    """A made-up cursor raises."""
    with pytest.raises(InvalidValueError, match="cursor"):
        SessionManager().list_sessions(cursor=cursor)


def test_the_limit_of_pages_is_far_from_what_conversations_have():
    """The limit allows 32 million messages, or 8 GB."""
    assert documents.MAX_PAGES * drafts.PAGE_MESSAGES == 32_000_000
