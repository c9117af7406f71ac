"""The state of a session: JSON by keys, which several writers may change; and what is not stored of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.model.rewinding import Rewinding
from pyai_sessions.values.checks import check_text, kind_of
from pyai_sessions.values.json import is_array, is_mapping

TEMP = "_temp"
"""The attribute that holds what a session does not store."""


class Stateful(Rewinding):
    """The part of `Session` that holds its state."""

    @property
    def temp(self) -> dict[str, Any]:
        """State that is not stored: a plain dict of any values, which lives as long as this object of the session.

        Saving leaves it as it is. It is in no store, export, copy or pickle, and does not count in comparisons: the
        session that `get_session` returns has an empty one.

        >>> from pyai_sessions import Session
        >>> session = Session()
        >>> session.temp["client"] = object()
        >>> "client" in session.temp, "temp" in session.to_dict()
        (True, False)

        """
        found: dict[str, Any] = vars(self).setdefault(TEMP, {})
        return found

    @temp.setter
    def temp(self, value: dict[str, Any]) -> None:
        if not isinstance(value, dict):
            raise InvalidValueError("temp", f"is {kind_of(value)}; it is a dict")
        vars(self)[TEMP] = value

    def set_state(self, key: str, value: Any) -> None:
        """Set a value of the state: JSON, copied.

        Where two writers save the same session, dicts are merged by key, at every depth. Where both set the same key to
        different values the later save's stays; ``save(session, on_conflict="error")`` raises instead. What several
        writers count or collect is changed by `increment_state` and `extend_state`.

        Raises:
            InvalidValueError: JSON cannot hold it; the error names the part.

        """
        key = check_text(key, "key")
        self.state[key] = value
        self._history.added_to.discard(key)
        self.touch()

    def increment_state(self, key: str, by: float = 1) -> Any:
        """Add to a number of the state, 0 if absent, and return it. Where two writers do so, both additions count.

        Also in a save that is repeated after a failure: it raises `SessionConflictError` where it cannot be told
        whether the addition was stored already.

        Raises:
            InvalidValueError: *by* is no number, or the value is not.

        >>> from pyai_sessions import Session
        >>> session = Session(state={"turns": 2})
        >>> session.increment_state("turns"), session.increment_state("tokens", by=512)
        (3, 512)

        """
        key, old = check_text(key, "key"), self.state.get(key, 0)
        for name, value in (("by", by), (f"state[{key!r}]", old)):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InvalidValueError(name, f"is {kind_of(value)}; increment_state adds a number to a number")
        self.state[key] = old + by
        self._history.added_to.add(key)
        self.touch()
        return self.state[key]

    def extend_state(self, key: str, items: Iterable[Any]) -> list[Any]:
        """Append items to a list of the state, empty if absent, and return it. Where two writers do so, both stay.

        Theirs come first, as with messages; a repeated save is safe as `increment_state` says.

        Raises:
            InvalidValueError: *items* are no list, the value is not, or JSON cannot hold one of them.

        >>> from pyai_sessions import Session
        >>> Session(state={"cart": ["tea"]}).extend_state("cart", ["milk"])
        ['tea', 'milk']

        """
        key, old = check_text(key, "key"), self.state.get(key, [])
        if isinstance(items, (str, bytes)) or is_mapping(items) or not isinstance(items, Iterable):
            raise InvalidValueError("items", f"is {kind_of(items)}; it is a list of what to append")
        if not is_array(old):
            raise InvalidValueError(f"state[{key!r}]", f"is {kind_of(old)}; extend_state appends to a list")
        self.state[key] = [*old, *items]
        self._history.added_to.add(key)
        self.touch()
        extended: list[Any] = self.state[key]
        return extended

    def get_state(self, key: str, default: Any = None) -> Any:
        """Return a value of the state, or *default*."""
        return self.state.get(check_text(key, "key"), default)

    def delete_state(self, key: str) -> None:
        """Remove a value of the state; absent is fine."""
        if check_text(key, "key") in self.state:
            del self.state[key]
            self._history.added_to.discard(key)
            self.touch()
