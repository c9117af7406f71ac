"""A conversation as one HTML page that needs no network, and an index of many pages with a search."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyai_sessions.cli.output import ACTIVE, counted, one_line
from pyai_sessions.cli.texts import blocks_of
from pyai_sessions.cli.times import shown

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict

    from pyai_sessions import Message, Session

_ASSETS = Path(__file__).with_name("assets")
STYLE = (_ASSETS / "page.css").read_text("utf-8")
SCRIPT = (_ASSETS / "index.js").read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _head(title: str, *, script: bool = False) -> str:
    """Return how a page begins. It may load nothing from anywhere, and run no script but the index's own."""
    policy = f"default-src 'none'; style-src {_hash(STYLE)}"
    policy += f"; script-src {_hash(SCRIPT)}" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    )


def parser() -> MarkdownIt:
    """Return a parser of Markdown that takes HTML for text, and loads no image."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False}).enable("table")
    made.add_render_rule("image", _image)
    for name in ("td_open", "th_open"):
        made.add_render_rule(name, _cell)
    return made


def _image(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: Any) -> str:
    """Return a link in place of an image; within a link only its name."""
    url = str(tokens[at].attrs.get("src", ""))
    name = self.renderInlineAsText(tokens[at].children or [], options, env) or url
    text = f"[image: {escape(name)}]"
    in_link = sum(each.nesting for each in tokens[:at] if each.type in ("link_open", "link_close"))
    return text if in_link else f'<a href="{escape(url)}">{text}</a>'


def _cell(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: Any) -> str:
    """Return the begin of a cell, aligned by a class: the page's policy takes no style but the page's own."""
    style = str(tokens[at].attrs.pop("style", ""))
    if style:
        tokens[at].attrs["class"] = style.removeprefix("text-align:")
    return self.renderToken(tokens, at, options, env)


def page_of(session: Session, title: str, *, index: bool = False) -> Iterator[str]:
    """Iterate over the parts of a conversation's page."""
    title, markdown = inert(one_line(title)), parser()
    yield _head(title)
    if index:
        yield '<p class="back"><a href="index.html">All conversations</a></p>\n'
    whose = "" if session.user_id is None else f" · {_name(session.user_id)}"
    about = f"{_name(session.session_id)}{whose} · {shown(session.created_at)} · "
    count = counted(len(session.messages), "message")
    yield f'<h1 dir="auto">{escape(title)}</h1>\n<p class="about">{about}{count}</p>\n'
    for message in session.messages:
        yield _article(message, markdown)
    yield "</body>\n</html>\n"


def _article(message: Message, markdown: MarkdownIt) -> str:
    name = f" ({_name(message.name)})" if message.name else ""
    kind = ' class="user"' if message.role in ("user", "human") else ""
    time = f'<time datetime="{message.timestamp.isoformat()}">{shown(message.timestamp)}</time>'
    parts = [f"<article{kind}>\n<header><b>{_name(message.role)}{name}</b>{time}</header>\n"]
    for block in blocks_of(message):
        if block.kind == "text":
            parts.append(f'<div dir="auto">{markdown.render(inert(block.text))}</div>\n')
        elif block.kind == "media":
            parts.append(f"<p><em>{_shown(block.title)}</em></p>\n")
        else:
            text = escape(inert(block.text))
            parts.append(f"<details><summary>{_shown(block.title)}</summary><pre>{text}</pre></details>\n")
    return "".join([*parts, "</article>\n"])


def _shown(text: str) -> str:
    return escape(one_line(text))


def _name(text: str) -> str:
    """Return a name that is written from right to left, or not, and moves nothing beside it."""
    return f"<bdi>{_shown(text)}</bdi>"


def inert(text: str) -> str:
    """Return a text of several lines in which no character turns others around or is invisible."""
    return re.sub(
        ACTIVE, lambda found: found[0] if found[0] in "\n\t" else _visible(found[0]), text.replace("\r\n", "\n")
    )


def _visible(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def searched_of(session: Session, title: str) -> str:
    """Return what the search of an index looks at in a conversation: each word once, in lower case.

    The search looks for words, so it finds in them what it finds in the text, and the index of long ones stays small.
    """
    texts = (f"{block.title} {block.text}" for message in session.messages for block in blocks_of(message))
    return " ".join(dict.fromkeys(inert(" ".join([title, session.user_id or "", *texts])).lower().split()))


def row_of(session: Session, title: str, path: str) -> str:
    """Return the row of a conversation in the index."""
    whose = "" if session.user_id is None else f"{_name(session.user_id)} · "
    about = f"{whose}{counted(session.message_count, 'message')} · {shown(session.active_at)}"
    return f'<li><a href="{escape(path)}" dir="auto">{_shown(title)}</a><div class="about">{about}</div></li>\n'


def index_of(rows: Iterable[str], texts: Iterable[str]) -> Iterator[str]:
    """Iterate over the parts of the index: a row for each conversation, and a search in their texts."""
    yield _head("Conversations", script=True)
    yield '<h1>Conversations</h1>\n<input type="search" placeholder="Search" aria-label="Search" hidden autofocus>\n'
    yield '<ol class="list">\n'
    yield from rows
    yield '</ol>\n<p class="none" hidden>No conversation has these words.</p>\n'
    yield '<script type="application/json" id="texts">['
    for n, text in enumerate(texts):
        yield f"{',' if n else ''}{_data(text)}"
    yield f"]</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"


def _data(text: str) -> str:
    """Return a text as JSON that may stand in a script's element: it ends none."""
    return json.dumps(text).replace("<", "\\u003c")
