"""Documents without the words of one message: JSON in, JSON out."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from pyai_sessions.model.heads import Head
from pyai_sessions.model.titles import first_words
from pyai_sessions.values.json import is_array, is_mapping, read

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_LEAST = 8
"""Characters of a text of the message that is looked for inside longer texts; a shorter one as a whole value alone."""

_CUT = 4
"""Characters of what is to go by which it is known where the first words of a question end in the middle of it."""

_NAMED = 1000
"""Ids of other messages that are named."""

_POINTERS = frozenset({"role", "message_id", "timestamp", "tool_call_id"})
"""The fields of a message that hold none."""

_ARGUMENTS = frozenset({"arguments", "args", "input", "parameters"})
_KEPT = frozenset({"id", "call_id", "type", "name"})
"""Of a tool's call: what was given to the tool, and what says which call it is."""

_STRUCTURE = _KEPT | {"role", "tool_use_id", "tool_call_id", "media_type", "mime_type", "mimeType", "detail", "format"}

_HEAD = frozenset(Head.__struct_fields__) | {"leading", "branch_id", "last_message_id", "after"}
"""The fields of heads and of branches' documents."""


class Blanker:
    """Takes one message, and what was said in it, out of documents.

    Args:
        message_id: The id of the message.
        content: What takes the place of its content.
        words: Texts that are to go wherever they stand, in other messages, too.

    Attributes:
        texts: What the message says, of all copies that were met.
        times: When it was made, likewise. A message of its id from another time, in a fork, is another message.
        met: How many copies were met, blank ones among them.
        copies: How many of them were blanked.
        mentions: The ids of other messages that have a text of the message, or that or the words packed, and were left.

    """

    def __init__(self, message_id: str, content: Any, words: Iterable[str]) -> None:
        self.message_id = message_id
        self.texts: set[str] = set()
        self.times: set[object] = set()
        self.met = self.copies = 0
        self.mentions: set[str] = set()
        self._content = content
        self._filler = content if isinstance(content, str) else "[removed]"
        self._words = sorted({each for word in words for each in _spellings(word)}, key=len, reverse=True)

    def probe(self) -> Blanker:
        """Return one that looks for the same message alone."""
        made = Blanker(self.message_id, self._content, ())
        made.times = self.times
        return made

    # Learning ----------------------------------------------------------------------------------------------------

    def learn(self, document: Any, times: Collection[object] | None = None) -> None:
        """Take note of what the copies of the message in a document say, and when it was made: at one of *times*."""
        for message in self._copies(document):
            if times is not None and message.get("timestamp") not in times:
                continue
            self.times.add(message.get("timestamp"))
            if message != self._blank(message):
                self.texts.update(_said(message.get("content")), _said(message.get("tool_calls")))
        self.texts.discard(self._filler)
        self.texts.discard("")

    def _copies(self, value: Any) -> Iterator[Mapping[str, Any]]:
        if is_mapping(value):
            if self._is_copy(value):
                yield value
            for each in value.values():
                yield from self._copies(each)
        elif is_array(value):
            for each in value:
                yield from self._copies(each)

    def _is_copy(self, value: Mapping[Any, Any]) -> bool:
        return value.get("message_id") == self.message_id and "role" in value

    # Blanking ----------------------------------------------------------------------------------------------------

    def document(self, value: Any) -> Any:
        """Return a page, a head or the document of a branch without the message's words."""
        if not is_mapping(value):
            return self._value(value)
        return {name: self._field(name, each) for name, each in value.items()}

    def field(self, name: str, value: Any) -> Any:
        """Return a field of a head without them."""
        return self._field(name, value)

    def _field(self, name: str, value: Any) -> Any:
        if name == "checkpoints" and is_array(value):
            return [{**each, "state": self._value(each.get("state"))} if is_mapping(each) else each for each in value]
        if name == "summary" and is_mapping(value):
            return {**value, "content": self._value(value.get("content"))}
        if name == "left" and is_array(value):
            return [self.document(each) for each in value]
        if name == "question" and is_array(value):
            return [self._begins(each) if isinstance(each, str) else each for each in value]
        if name in ("messages", "state", "metadata", "title") or name not in _HEAD:
            return self._value(value)
        return value

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if is_array(value):
            return [self._value(each) for each in value]
        if not is_mapping(value):
            return value
        if self._is_copy(value):
            return self._copy(value)
        if "message_id" in value and "role" in value:
            return self._other(value)
        return {self._text(name): self._value(each) for name, each in value.items()}

    def _copy(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        blank = self._blank(message)
        if message.get("timestamp") not in self.times:
            return self._other(message)
        self.met += 1
        self.copies += message != blank
        return blank

    def _blank(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message that says nothing but when it was made, by whom, and which calls it has or answers."""
        calls = message.get("tool_calls")
        known = {
            name: message[name]
            for name in ("role", "timestamp", "message_id", "tool_call_id", "name")
            if name in message
        }
        made: dict[str, Any] = {**known, "content": self._content, "metadata": {}}
        if "tool_calls" in message:
            made["tool_calls"] = [self._call(each) for each in calls] if is_array(calls) else None
        return {name: made[name] for name in message if name in made} | made

    def _call(self, call: Any) -> Any:
        if not is_mapping(call):
            return self._filler if isinstance(call, str) else None
        made: dict[str, Any] = {}
        for name, value in call.items():
            if name in _ARGUMENTS:
                made[name] = "{}" if isinstance(value, str) else {}
            elif name in _KEPT:
                made[name] = value
            elif is_mapping(value):
                made[name] = self._call(value)
            else:
                made[name] = self._filler if isinstance(value, str) else None
        return made

    def _other(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return another message: as it is, but for words that were asked for."""
        if self._words:
            message = {name: each if name in _POINTERS else self._spoken(each) for name, each in message.items()}
        texts = (text for name in message if name not in _POINTERS for text in _texts(message[name]))
        found = any(self._says(text) or self._packs(text) for text in texts)
        if found and len(self.mentions) < _NAMED:
            self.mentions.add(str(message["message_id"]))
        return message

    def _spoken(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.raw(value)
        if is_array(value):
            return [self._spoken(each) for each in value]
        if is_mapping(value):
            return {self.raw(name): self._spoken(each) for name, each in value.items()}
        return value

    def _says(self, text: str) -> bool:
        return any(len(each) >= _LEAST and each in text for each in self.texts)

    def _packs(self, text: str) -> bool:
        """Return whether a text is base64 in which the message's texts or the words stand, as frameworks pack objects.

        They cannot be taken out: what packed the object would no longer read it.
        """
        if len(text) < _LEAST or not _BASE64.fullmatch(text):
            return False
        packed = b64decode(text)
        words = (*(each for each in self.texts if len(each) >= _LEAST), *self._words)
        return any(each.encode("utf-8", "surrogatepass") in packed for each in words)

    def _text(self, text: str) -> str:
        """Return a text that is none of a message's: without what the message says, and without the words."""
        for each in sorted(self.texts, key=len, reverse=True):
            if text == each or len(each) >= _LEAST:
                text = text.replace(each, self._filler)
        return self.raw(text)

    def _begins(self, words: str) -> str:
        """Return the first words of a question: of what they say with the message's words in them, if not all is left.

        They may end in the middle of what is to go.
        """
        lines = [" ".join(each.split()) for each in self.texts]
        if words in map(first_words, lines) or (len(words) >= _LEAST and any(each.startswith(words) for each in lines)):
            return first_words(self._filler)
        made = self._text(words)
        for each in () if made.endswith(self._filler) else (*self._words, *self.texts):
            line = " ".join(each.split())
            size = next((n for n in range(min(len(line) - 1, len(made)), _CUT - 1, -1) if made.endswith(line[:n])), 0)
            made = made[: len(made) - size] + self._filler if size else made
        return first_words(made)

    def raw(self, text: str, *, spelled: bool = False) -> str:
        """Return any text without the words; *spelled*: text of a damaged document, in which JSON escapes stand."""
        words = self._words
        if spelled:
            long = (spelling for each in self.texts if len(each) >= _LEAST for spelling in _spellings(each))
            words = sorted({*words, *long}, key=len, reverse=True)
        filler = json.dumps(self._filler)[1:-1] if spelled else self._filler
        for each in words:
            text = text.replace(each, filler)
        return text


def _spellings(text: str) -> set[str]:
    """Return how a text stands in JSON, also in JSON within JSON, as in the arguments of a tool's call."""
    found = {text}
    for ascii_only in (True, False):
        once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        found |= {once, json.dumps(once, ensure_ascii=ascii_only)[1:-1]}
    return found


def _said(value: Any) -> Iterator[str]:
    """Iterate over the texts of a content or of calls, without the words of their structure."""
    if isinstance(value, str):
        yield value
        with suppress(ValueError):  # the arguments of a call
            found = read(value)
            yield from _said(found) if is_mapping(found) else ()
    elif is_array(value):
        for each in value:
            yield from _said(each)
    elif is_mapping(value):
        for name, each in value.items():
            if name not in _STRUCTURE:
                yield from _said(each)


def _texts(value: Any) -> Iterator[str]:
    """Iterate over the texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif is_array(value):
        for each in value:
            yield from _texts(each)
    elif is_mapping(value):
        for name, each in value.items():
            yield name
            yield from _texts(each)
