"""What tests of stores on Redis do: save a session, and look at the keys on the server."""

import time

from pyai_sessions import Session


def talk(store, session_id="s", user_id="ada", count=1):
    """Save a session with some messages, and return it."""
    session = Session(session_id=session_id, user_id=user_id)
    for n in range(count):
        session.add_message("user", f"message {n}")
    store.save(session)
    return session


def keys(client, prefix):
    """Return the types of the keys with a prefix, by key."""
    return {key.decode().removeprefix(prefix): client.type(key).decode() for key in client.keys(f"{prefix}*")}


def wait_until_gone(client, *names):
    """Wait until the server has let keys expire."""
    deadline = time.monotonic() + 60
    while client.exists(*names):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_expired(client, prefix, *names):
    """Wait until the server has let hashes of sessions expire, and our own clock says so, too."""
    wait_until_gone(client, *(prefix + each for each in names))
    end = max((score for _, score in client.zrange(prefix + "/expiry", 0, -1, withscores=True)), default=0)
    while time.time() * 1e6 <= end:  # the server's clock may be some milliseconds ahead
        time.sleep(0.001)
