"""Fixtures for all tests: real servers and clusters, and the long form of the fault tests."""

import gc
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.clusters import Cluster
from tests.environments import make_environment
from tests.servers import PostgresServer, Server

settings.register_profile("tests", deadline=None)  # a machine may be busy
settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("tests")

PROGRAMS = {"valkey": "valkey-server", "redis": "redis-server"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--frameworks", action="store_true", help="run the tests of the framework that is installed")
    parser.addoption("--long", action="store_true", help="run the long form of the fault tests")
    parser.addoption("--quick", action="store_true", help="run what takes a minute: no server, no kill, no example")


VARIANTS = re.compile("redis|redis-7.*|sqlitedict|.*(cluster|postgres|sentinel|encrypted namespace).*")
"""Parameters and fixtures that stand for another server or variant of a storage."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests of other servers as `wide`. Select tests by `--long` or `--quick`."""
    for each in items:
        parameters = each.callspec.params.values() if hasattr(each, "callspec") else ()
        if any(isinstance(name, str) and VARIANTS.fullmatch(name) for name in (*parameters, *fixtures_of(each))):
            each.add_marker("wide")
    if config.getoption("--long"):
        kept = [each for each in items if has_long_form(each)]
    elif config.getoption("--quick"):
        kept = [each for each in items if is_quick(each)]
    else:
        kept = [each for each in items if each.get_closest_marker("long") is None]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=set(items).difference(kept))
        items[:] = kept


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples in the quick form."""
    if config.getoption("--quick"):
        settings.load_profile("quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip files that are not selected, since collecting takes long: frameworks' tests, and slow ones for `--quick`."""
    folder, file = collection_path.parts[-2:]
    if folder == "frameworks" and file.startswith("test_"):
        return None if config.getoption("--frameworks") else True
    if not config.getoption("--quick") or not file.startswith("test_"):
        return None
    slow = folder in ("faults", "storage") or file in SLOW or (folder == "contract" and file != "test_store.py")
    return True if slow else None


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item] | None:
    """Skip classes without a selected test, since making all their tests takes seconds in each worker."""
    if not (isinstance(obj, type) and name.startswith("Test")):
        return None
    option = collector.config.getoption
    if option("--quick") and collector.path.parts[-2] == "contract" and name not in ("TestDict", "TestSQLite"):
        return []  # of the store contract, run two
    marked = getattr(obj, "pytestmark", [])
    marks = {each.name for each in (*(marked if isinstance(marked, list) else [marked]), *collector.iter_markers())}
    unwanted = {"wide"} if option("markexpr") == "not wide" else set()
    if not option("--long"):
        unwanted.add("long")
    return None if marks.isdisjoint(unwanted) else []


def is_quick(item: pytest.Item) -> bool:
    """Return whether a test needs no server, is fast, and tries no variant of another test."""
    if item.get_closest_marker("long") or item.get_closest_marker("wide"):
        return False
    names = [*fixtures_of(item), *(item.callspec.params.values() if hasattr(item, "callspec") else ())]
    return not any(isinstance(name, str) and ("server" in name or "valkey" in name.lower()) for name in names)


SLOW = (
    "test_examples.py",
    "test_docs.py",
    "test_testing.py",
    "test_wrong_calls.py",
    "test_any_window.py",
    "test_damaged.py",
    "test_custom.py",
    "test_doors.py",
    "test_powers.py",
    "test_two_writers.py",
    "test_translations.py",
    "test_indexes.py",
    "test_lists.py",
    "test_imports.py",
    "test_round_trips.py",
    "test_erasure.py",
    "test_backup.py",
    "test_redaction.py",
    "test_neighbours.py",
    "test_using.py",
)


def fixtures_of(item: pytest.Item) -> tuple[str, ...]:
    """Return the names of the fixtures that a test uses."""
    return tuple(getattr(item, "fixturenames", ()))


def has_long_form(item: pytest.Item) -> bool:
    """Return whether a test belongs to the long form."""
    return (
        "long_form" in fixtures_of(item) or item.get_closest_marker("long") is not None or "faults" in item.path.parts
    )


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """With -q, print a dot per 50 passed tests. Thousands of dots would push failures off the screen."""
    if config.get_verbosity() < 0 and report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
        return "passed", "" if next(PASSED) % 50 else ".", "PASSED"
    return None


PASSED = itertools.count(1)


def pytest_collection_finish() -> None:
    """Exclude the collected tests from later garbage collections, each of which would take 0.3 s longer."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hide the warnings about missing powers, which the summary counts. They are for authors of stores."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and "warnings" in reporter.stats:
        others = [each for each in reporter.stats["warnings"] if "MissingPowerWarning: " not in each.message]
        reporter.stats["warnings"] = others
        if not others:
            del reporter.stats["warnings"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print in one line why tests were skipped, before the failures."""
    reasons = [str(each.longrepr[2]) for each in terminalreporter.stats.get("skipped", ())]
    optional = [each for each in reasons if " has no " in each]  # see pyai_sessions/testing/store/powers.py
    for reason in sorted(set(reasons) - set(optional)):
        terminalreporter.write_line(reason)
    if optional:
        terminalreporter.write_line(
            f"Skipped: {len(optional)} rules of what a store may lack, for stores that lack it (-rs lists them)"
        )


@pytest.fixture(params=["asyncio", "trio"])
def framework(request: pytest.FixtureRequest) -> str:
    """The framework of the event loop."""
    return request.param


@pytest.fixture
def own_garbage() -> Iterator[None]:
    """Collect each test's garbage while the test's own warning filters apply."""
    yield
    gc.collect()
    gc.freeze()  # otherwise each test would scan everything that earlier ones loaded


@pytest.fixture(scope="session")
def long_form(request: pytest.FixtureRequest) -> bool:
    """Return whether `--long` was given."""
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the library and no optional package."""
    return make_environment(tmp_path_factory.mktemp("plain") / "environment")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    """A Valkey server shared by the tests of a worker. Leave it running."""
    with Server(PROGRAMS["valkey"]) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """A Redis server shared by the tests of a worker. Leave it running."""
    with Server(PROGRAMS["redis"]) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server shared by the tests of a worker. Leave it running, and create your own database."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty PostgreSQL database of this test."""
    return postgres_server.create_database()


@pytest.fixture(scope="session", params=PROGRAMS)
def any_server(request: pytest.FixtureRequest) -> Server:
    """The shared Valkey server, then the shared Redis server."""
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[Cluster]:
    """A Valkey cluster shared by the tests of a worker. You may fail and move anything, but leave it ok."""
    with Cluster(PROGRAMS["valkey"]) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    """A Redis cluster shared by the tests of a worker. You may fail and move anything, but leave it ok."""
    with Cluster(PROGRAMS["redis"]) as cluster:
        yield cluster


@pytest.fixture(scope="session", params=PROGRAMS)
def any_cluster(request: pytest.FixtureRequest) -> Cluster:
    """The shared Valkey cluster, then the shared Redis cluster."""
    return request.getfixturevalue(f"{request.param}_cluster")


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server for this test: `start_server("redis", "--appendonly", "yes")`."""
    servers: list[Server] = []

    def start(kind: str, *args: str) -> Server:
        servers.append(Server(PROGRAMS[kind], *args))
        servers[-1].start()
        return servers[-1]

    yield start

    for server in servers:
        server.close()
