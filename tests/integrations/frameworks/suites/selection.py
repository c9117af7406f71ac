"""A plugin of pytest that leaves out of a framework's tests those that tables.py names, and says why.

It is imported as `suites.selection`: a framework may have a package of tests that is also named `tests`.
"""

from __future__ import annotations

from collections import Counter

import pytest
from suites.tables import SUITES


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite", choices=[*SUITES], required=True, help="the framework whose tests run")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is left out. A name without a test is an error: the framework has another test by now."""
    reasons = SUITES[config.getoption("--suite")].left_out
    named = {each: each.nodeid.partition("::")[2].partition("[")[0] for each in items}
    left_out = {each: name for each, name in named.items() if name in reasons}
    unknown = sorted(set(reasons) - set(named.values()))
    if unknown and not session.testsfailed:
        raise pytest.UsageError(f"tests/integrations/frameworks/suites/tables.py names no test: {', '.join(unknown)}")
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [each for each in items if each not in left_out]
    config.stash[REASONS] = Counter(reasons[each] for each in left_out.values())


REASONS = pytest.StashKey[Counter[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how many tests were left out for each reason."""
    for reason, count in config.stash.get(REASONS, Counter()).items():
        terminalreporter.write_line(f"left out: {count}, each {reason}")
