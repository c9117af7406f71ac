"""A program under gevent whose greenlets save under time limits, which interrupt them wherever they wait.

Its argument is the url of a store. It prints how many saves were cut off, and what was wrong afterwards.
"""

from gevent import monkey

monkey.patch_all()

import random
import sys
from collections import Counter

import gevent

from pyai_sessions import SessionManager

CHATS, ROUNDS = 4, 100


def chat(manager, other, name, seen):
    """Save one message at a time under a limit, and repeat until that succeeds."""
    dice = random.Random(name)
    session = manager.create_session(name, session_id=name)
    for n in range(ROUNDS):
        session.add_message("user", f"{name} {n}")
        limit = dice.choice([0.000001, 0.0002, 0.0004, 0.001])
        with gevent.Timeout(limit, False):
            manager.save(session)
            seen["in time"] += 1
            continue
        seen["cut off"] += 1
        manager.save(session)  # without a limit
        for each in (manager, other):
            found = each.get_session(name)
            if found is None or found.session_id != name or found.messages[-1].content != f"{name} {n}":
                seen["wrong"] += 1


def main(url):
    seen = Counter()
    manager = SessionManager(url)
    other = manager if url.startswith("memory:") else SessionManager(url)
    chats = [gevent.spawn(chat, manager, other, f"user{n}", seen) for n in range(CHATS)]
    gevent.joinall(chats, raise_error=True, timeout=240)
    seen["hung"] = sum(not each.dead for each in chats)
    for n in range(CHATS):
        session = other.get_session(f"user{n}")
        contents = [each.content for each in session.messages]
        seen["wrong"] += contents != [f"user{n} {k}" for k in range(ROUNDS)]
        seen["wrong"] += [each.session_id for each in other.list_sessions(f"user{n}")] != [f"user{n}"]
    print(seen["in time"], seen["cut off"], seen["wrong"], seen["hung"])


if __name__ == "__main__":
    main(sys.argv[1])
