"""A mapping that fails on demand."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Literal

Operation = Literal["write", "delete", "read"]


class FaultyMapping(MutableMapping[str, Any]):
    """Another mapping's items, with faults that you plan: shows what your code does when a storage fails.

    Args:
        mapping: The mapping that holds the items. A fault leaves them as they are.

    Attributes:
        faults: The number of faults raised so far.

    Notes:
        A store may try out a new mapping with a write, so use the store once before you call `fail`. If the mapping
        raises an OSError, the store raises a StorageError.

    >>> from pyai_sessions import SessionManager, StorageError
    >>> mapping = FaultyMapping({})
    >>> manager = SessionManager(mapping)
    >>> session = manager.create_session("ada", session_id="s")
    >>> mapping.fail(OSError("disk full"))
    >>> _ = session.add_message("user", "Hello!")
    >>> try:
    ...     manager.save(session)
    ... except StorageError as err:
    ...     print(type(err.__cause__).__name__, err.__cause__)
    OSError disk full
    >>> manager.save(session)
    >>> manager.get_session("s").message_count
    1

    """

    def __init__(self, mapping: Any) -> None:
        self.mapping = mapping
        self.faults = 0
        self._plans: dict[str, _Plan] = {}

    def fail(
        self,
        error: BaseException | type[BaseException],
        *,
        of: Operation | tuple[Operation, ...] = "write",
        at: int = 1,
        applied: bool = False,
        once: bool = True,
    ) -> None:
        """Raise *error* at the *at*-th operation from now on. Unless *once*, raise it at every later one, too.

        Args:
            error: The exception, or its class.
            of: ``"write"``, ``"delete"`` or ``"read"``. A tuple of several counts them together.
            at: The first operation that fails, counted from now; 1 is the next one.
            applied: The first failing operation takes effect all the same, as when a server's reply is lost. Later
                ones do not.
            once: Later operations succeed again.

        A later call replaces the plan for the operations that it names.

        """
        if at < 1:
            msg = f"at is 1 for the next operation, or more; got {at!r}"
            raise ValueError(msg)
        names = (of,) if isinstance(of, str) else of
        unknown = set(names) - {"write", "delete", "read"}
        if unknown or not names:
            msg = f"of is 'write', 'delete' or 'read', or several of them; got {of!r}"
            raise ValueError(msg)
        plan = _Plan(error, at, applied=applied, once=once)
        self._plans |= dict.fromkeys(names, plan)

    def mend(self) -> None:
        """Stop failing."""
        self._plans.clear()

    def _do(self, operation: Operation, act: Callable[[], Any]) -> Any:
        plan = self._plans.get(operation)
        due = plan.due() if plan else None
        if plan is None or due is None:
            return act()
        if due == "applied":
            act()
        self.faults += 1
        raise plan.error

    def __getitem__(self, key: str) -> Any:
        return self._do("read", lambda: self.mapping[key])

    def __setitem__(self, key: str, value: Any) -> None:
        self._do("write", lambda: self.mapping.__setitem__(key, value))

    def __delitem__(self, key: str) -> None:
        self.mapping[key]  # an absent key raises KeyError and is not counted
        self._do("delete", lambda: self.mapping.__delitem__(key))

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.mapping))

    def __len__(self) -> int:
        return sum(1 for _ in self.mapping)

    def __repr__(self) -> str:
        return f"<FaultyMapping of a {type(self.mapping).__name__}, {self.faults} faults so far>"


class _Plan:
    """Decides which of the coming operations fail, and how."""

    def __init__(self, error: BaseException | type[BaseException], at: int, *, applied: bool, once: bool) -> None:
        self.error = error
        self._left = at
        self._applied = applied
        self._once = once

    def due(self) -> Literal["applied", "refused"] | None:
        """Count one operation. Return None if it succeeds, else whether it takes effect before it fails."""
        self._left -= 1
        if self._left > 0 or (self._once and self._left < 0):
            return None
        return "applied" if self._applied and self._left == 0 else "refused"
