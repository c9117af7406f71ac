"""A support chat of 2,100 messages: what of it a model is given, another try, a copy for a colleague, and back again.

The conversation is real: ``pip install chatterbot-corpus PyYAML`` brings it.
"""

import sys
from importlib.resources import files

from pyai_sessions import Session, SessionManager, SQLiteSessionStore

try:
    import yaml

    CORPUS = files("chatterbot_corpus").joinpath("data", "english", "tech_support.yml")
except ModuleNotFoundError as err:
    sys.exit(f"{err}; this example needs: pip install chatterbot-corpus PyYAML")
BUDGET = 1_000


def tokens(session: Session) -> str:
    """Say what a model would be given of a session within the budget."""
    window = session.history(max_tokens=BUDGET)
    everything = len(session.history())
    return f"{len(window)} of {everything} messages, from {window[1]['content'][:40]!r} on"


with SessionManager(store=SQLiteSessionStore(":memory:"), close_store=True) as manager:
    session = manager.create_session("ada", metadata={"title": "Computers"})
    session.add_message("system", "You help with computers.")
    for question, answer in yaml.safe_load(CORPUS.read_text("utf-8"))["conversations"]:
        session.add_message("user", str(question))
        session.add_message("assistant", str(answer))
    session.checkpoint("before the last question")
    session.add_message("user", "My screen stays black. What now?")
    session.add_message("assistant", "Reinstall everything.")
    manager.save(session)
    print("in", BUDGET, "tokens:", tokens(session))

    # Another try: what is left so stays within reach.
    first_try = session.rewind("before the last question")
    session.add_message("user", "My screen stays black, but the fan runs. What now?")
    session.add_message("assistant", "Check the cable.")
    manager.save(session)
    print("second try:", session.messages[-1].content, "- left:", session.branches)

    # A copy for a colleague: it shares the stored messages, and goes its own way.
    copy = manager.fork(session.session_id, user_id="bob")
    copy.add_message("user", "The cable is fine.")
    manager.save(copy)
    print("the copy:", copy.message_count, "messages; the original:", session.message_count)

    # Back to the first try, as if nothing had been.
    again = manager.switch(session.session_id, first_try, last=2)
    print("first try:", again.messages[-1].content)

    # A summary in the place of the older messages: all of them stay stored.
    again.compact("Ada's computer had many problems; the last one is a black screen.", keep_last=2)
    manager.save(again)
    print("after the summary:", [each["role"] for each in again.history(max_tokens=BUDGET)])
    print("stored:", manager.get_session(again.session_id).message_count, "messages")
