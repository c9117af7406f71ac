"""Which pages a head no longer names."""

from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st

from pyai_sessions.documents.keys import page_keys
from pyai_sessions.documents.pages import no_longer_named
from pyai_sessions.model.heads import FORMAT, Head, Run, StoredHead

RUNS = st.lists(
    st.builds(
        Run,
        owner=st.sampled_from(["s", "another"]),
        generation=st.sampled_from(["g", "h"]),
        pages=st.integers(0, 6),
        messages=st.just(0),
        start=st.integers(0, 6),
    ),
    max_size=4,
)


@given(RUNS, RUNS)
def test_what_is_left_is_what_a_look_at_each_page_says(before, after):
    """Exactly the session's own pages that the old head names and the new one does not are removed, last first."""
    now = datetime.now(timezone.utc)
    head = Head(FORMAT, session_id="s", created_at=now, updated_at=now, sealed=tuple(before))

    garbage, dropped = no_longer_named(StoredHead(head, "", {}), after)

    gone = [key for key in page_keys([run for run in before if run.owner == "s"]) if key not in page_keys(after)]
    assert garbage == gone[::-1]
    starts = {f"messages/s/{each}" for each in dropped}
    before_it = {key: f"{key.rpartition('/')[0]}/{int(key.rpartition('/')[2]) - 1}" for key in gone}
    assert {key for key in gone if before_it[key] not in gone} <= starts <= set(gone)
