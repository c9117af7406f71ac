"""What tests of SQLite files do: save a session, and open the file as another program does."""

from contextlib import closing

from sqlitedict import SqliteDict

from pyai_sessions import Session


def plain_dict(path, **options):
    """Open a SqliteDict of text as its documentation shows."""
    return closing(SqliteDict(str(path), **{"tablename": "sessions", "encode": str, "decode": str} | options))


def talk(store, session_id="s", user_id="ada", count=3):
    """Save a session with some messages, and return it."""
    session = Session(session_id=session_id, user_id=user_id)
    for n in range(count):
        session.add_message("user", f"message {n}")
    store.save(session)
    return session
