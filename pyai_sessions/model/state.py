"""The state of a session: JSON values by key, which several writers may change, and values that are not stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.model.rewinding import Rewinding
from pyai_sessions.values.checks import check_text, kind_of
from pyai_sessions.values.json import is_array, is_mapping

TEMP = "_temp"
"""The attribute that holds `Stateful.temp`."""


class Stateful(Rewinding):
    """The part of `Session` that holds its state."""

    @property
    def temp(self) -> dict[str, Any]:
        """Values that are not stored: a plain dict of any objects, which exists as long as this session object.

        Saving does not change it. It is in no store, export, copy or pickle, and comparisons ignore it: a session that
        `get_session` returns has an empty one.

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
        """Set a value of the state: a JSON value, which is copied.

        If two writers save the same session, dicts are merged by key, at every depth. If both set the same key to
        different values, the value of the later save is kept; ``save(session, on_conflict="error")`` raises instead.
        For values that several writers count or collect, use `increment_state` and `extend_state`.

        Raises:
            InvalidValueError: JSON cannot hold it; the error names the part.

        """
        key = check_text(key, "key")
        self.state[key] = value
        self._history.added_to.discard(key)
        self.touch()

    def increment_state(self, key: str, by: float = 1) -> Any:
        """Add to a number of the state, 0 if absent, and return it. If two writers do so, both additions count.

        You may repeat a save that failed: the addition is stored once. If the store cannot know whether it was stored,
        the repeated save raises `SessionConflictError`.

        Raises:
            InvalidValueError: *by* or the value is not a number.

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
        """Append items to a list of the state, empty if absent, and return it. If two writers do so, all are kept.

        Items of the earlier save come first, as with messages. You may repeat a save that failed: see
        `increment_state`.

        Raises:
            InvalidValueError: *items* or the value is not a list, or JSON cannot hold one of the items.

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
        """Remove a value of the state. It is no error if there is none."""
        if check_text(key, "key") in self.state:
            del self.state[key]
            self._history.added_to.discard(key)
            self.touch()
