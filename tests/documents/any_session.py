"""Hypothesis strategies: any session that can be stored."""

import json
from datetime import datetime, timezone

from hypothesis import strategies as st

from pyai_sessions import Checkpoint, Message, Session, SessionStatus
from pyai_sessions.documents.reading import read_head, read_messages, restore
from pyai_sessions.testing import StoppedClock
from pyai_sessions.values.json import MAX_DEPTH

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
