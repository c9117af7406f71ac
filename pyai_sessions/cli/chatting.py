"""`chat`: a conversation with a model, or with ELIZA, that is stored as it goes on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import click

from pyai_sessions.cli.errors import RefusedError, missing
from pyai_sessions.cli.listing import complete_sessions
from pyai_sessions.cli.output import inert
from pyai_sessions.cli.settings import Settings, command

if TYPE_CHECKING:
    from pyai_sessions import Session, SessionManager

_ANSWERED = 50
"""Messages, the newest, that the model is given."""

_PATIENCE = 60
"""Seconds that a model may be silent."""

Agent = Callable[[list[dict[str, Any]]], Iterator[str]]


@command(
    examples="chat --user ada\nchat trip --system 'You answer in rhymes.'\necho 'Hello!' | pyai-sessions chat trip"
)
@click.argument("session", required=False, shell_complete=complete_sessions)
@click.option("--user", "-u", metavar="USER", help="Whose a new session becomes.")
@click.option("--model", help="The model's name. Default: $OPENAI_MODEL.")
@click.option("--system", help="What a new session tells the model first.")
def chat(settings: Settings, *, session: str | None, user: str | None, model: str | None, system: str | None) -> None:
    """Chat, and go on another time: every message is stored at once. Ctrl-D ends.

    The model is one behind an OpenAI-compatible server: OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL. Without a
    server ELIZA answers, which the package nltk has. Without a SESSION a new one begins.
    """
    agent = _agent(model)
    with settings.creating() as manager:
        opened = _open(manager, session, user)
        if opened.status == "archived":
            msg = f"session '{inert(opened.session_id)}' is archived; `pyai-sessions restore` makes it active again"
            raise RefusedError(msg)
        if system and not opened.messages:
            opened.add_message("system", system)
        print(f"Session {inert(opened.session_id)}, {opened.message_count} messages", file=sys.stderr)
        if opened.messages and opened.messages[-1].role == "user":
            _answer(manager, opened, agent)  # it was interrupted
        for text in _typed():
            opened.add_message("user", text)
            manager.save(opened)  # now: the question is kept whatever becomes of the answer
            _answer(manager, opened, agent)


def _open(manager: SessionManager, session_id: str | None, user: str | None) -> Session:
    from pyai_sessions import SessionExistsError

    if session_id is None:
        return manager.create_session(user)
    if user is None:
        return manager.get_or_create_session(session_id)
    try:
        return manager.get_or_create_session(session_id, user)
    except SessionExistsError:
        msg = f"the session '{inert(session_id)}' is of another user; name another session, or leave --user out"
        raise RefusedError(msg) from None


def _typed() -> Iterator[str]:
    """Iterate over what a person types, or over the lines of standard input."""
    while True:
        try:
            line = input("you: " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line.strip()


def _answer(manager: SessionManager, session: Session, agent: Agent) -> None:
    parts: list[str] = []
    for part in agent(list(session.history(last=_ANSWERED))):
        parts.append(part)
        print("\n".join(map(inert, part.split("\n"))), end="", flush=True)
    print()
    session.add_message("assistant", "".join(parts))
    manager.save(session)


def _agent(model: str | None) -> Agent:
    """Return what answers: a model where the environment names a server, else ELIZA."""
    if "OPENAI_BASE_URL" in os.environ:
        return lambda history: ask_model(history, model or os.environ.get("OPENAI_MODEL", "gpt-4o-mini"))
    with missing("ELIZA, which answers where OPENAI_BASE_URL names no server,", "nltk"):
        eliza: Any = import_module("nltk.chat.eliza").eliza_chatbot

    return lambda history: iter([str(eliza.respond(str(history[-1]["content"]).rstrip("!.")))])


def ask_model(history: list[dict[str, Any]], model: str) -> Iterator[str]:
    """Yield the answer of a model on an OpenAI-compatible server, as it comes.

    Raises:
        RefusedError: The server cannot be reached, or the answer broke off. The question is stored.

    """
    body = {"model": model, "messages": history, "stream": True}
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}", "Content-Type": "application/json"}
    url = os.environ["OPENAI_BASE_URL"].rstrip("/") + "/chat/completions"
    request = Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (the url is the user's own choice)
    try:
        with urlopen(request, timeout=_PATIENCE) as events:  # noqa: S310 (as above)
            for line in events:
                event = line.removeprefix(b"data:").strip()
                if event == b"[DONE]":
                    return
                if line.startswith(b"data:"):
                    for choice in json.loads(event).get("choices", ()):
                        yield choice.get("delta", {}).get("content") or ""
    except (OSError, ValueError) as err:
        reason = getattr(err, "reason", err)
        msg = f"the model did not answer: {reason}. The question is stored; chat with the same session to ask again"
        raise RefusedError(msg) from err
    msg = "the answer broke off before its end. The question is stored; chat with the same session to ask again"
    raise RefusedError(msg)
