"""The base class of all contracts, which keeps subclasses from overriding their tests."""

from typing import Any


class Contract:
    """The base class of the contracts. A subclass adds fixtures and tests, but does not change a contract's tests.

    If a subclass overrides a test or sets it to None, a broken rule would go unnoticed. Such a class raises
    TypeError. If you know that a rule does not hold, mark its test, so that it stays in the report::

        class TestMyStore(SessionStoreContract):
            @pytest.mark.xfail(reason="the database cuts times to milliseconds")
            def test_all_fields_are_read_as_they_were_saved(self, manager, other, clock):
                super().test_all_fields_are_read_as_they_were_saved(manager, other, clock)
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in sorted({name for base in cls.__mro__ if _is_ours(base) for name in vars(base)}):
            if not name.startswith("test_"):
                continue
            owner = next(base for base in cls.__mro__ if name in vars(base))
            if not _is_ours(owner) and not _is_expected_to_fail(vars(owner)[name]):
                standard = next(base for base in cls.__mro__ if _is_ours(base) and name in vars(base))
                done = "removes" if vars(owner)[name] is None else "overrides"
                msg = (
                    f"{cls.__name__} {done} {name}, a test of {standard.__module__}: "
                    f"{(vars(standard)[name].__doc__ or '').strip()} Leave it as it is, or, where the rule is known "
                    'not to hold, mark what overrides it with @pytest.mark.xfail(reason="...")'
                )
                raise TypeError(msg)


def _is_ours(base: type) -> bool:
    """Return whether a class is one of this package's contracts, or a part of one."""
    return issubclass(base, Contract) and f"{base.__module__}.".startswith(f"{__package__}.")


def _is_expected_to_fail(test: Any) -> bool:
    marks = getattr(test, "pytestmark", [])
    return any(each.name == "xfail" and each.kwargs.get("reason") for each in marks)
