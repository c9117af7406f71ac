"""Fixtures for all tests: real servers and clusters, and the long form of the fault tests."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clusters import Cluster
from tests.environments import make_environment
from tests.servers import PostgresServer, Server

PROGRAMS = {"valkey": "valkey-server", "redis": "redis-server"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long form of the fault tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what is marked `long` to the long form, and to it alone what has such a form, or tests faults."""
    long = config.getoption("--long")
    kept = [each for each in items if (has_long_form(each) if long else each.get_closest_marker("long") is None)]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=set(items).difference(kept))
        items[:] = kept


def has_long_form(item: pytest.Item) -> bool:
    """Whether a test is of the long form."""
    fixtures = getattr(item, "fixturenames", ())
    return "long_form" in fixtures or item.get_closest_marker("long") is not None or "faults" in item.path.parts


def pytest_collection_finish() -> None:
    """Leave the tests themselves out of each later collection of garbage: it would take a third of a second longer."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave out the warnings of what a store lacks, which the line below counts: they are for who writes that store."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and "warnings" in reporter.stats:
        others = [each for each in reporter.stats["warnings"] if "MissingPowerWarning: " not in each.message]
        reporter.stats["warnings"] = others
        if not others:
            del reporter.stats["warnings"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line why tests were skipped; the failures follow, as the last that is printed."""
    reasons = [str(each.longrepr[2]) for each in terminalreporter.stats.get("skipped", ())]
    optional = [each for each in reasons if " has no " in each]  # see pyai_sessions/testing/store/powers.py
    for reason in sorted(set(reasons) - set(optional)):
        terminalreporter.write_line(reason)
    if optional:
        terminalreporter.write_line(
            f"Skipped: {len(optional)} rules of what a store may lack, for stores that lack it (-rs lists them)"
        )


@pytest.fixture
def own_garbage() -> Iterator[None]:
    """Collect what a test leaves in cycles while its own filters of warnings hold: in a later test they do not."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def long_form(request: pytest.FixtureRequest) -> bool:
    """Whether the long form of the fault tests is asked for, by `--long`."""
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the library and no optional package."""
    return make_environment(tmp_path_factory.mktemp("plain") / "environment")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    """A Valkey server, shared by the tests of one worker: leave it running."""
    with Server(PROGRAMS["valkey"]) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """A Redis server, shared by the tests of one worker: leave it running."""
    with Server(PROGRAMS["redis"]) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server, shared by the tests of one worker: leave it running, and take a database of your own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The url of an empty PostgreSQL database, of this test alone."""
    return postgres_server.create_database()


@pytest.fixture(scope="session", params=PROGRAMS)
def any_server(request: pytest.FixtureRequest) -> Server:
    """The shared Valkey server, then the shared Redis server."""
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[Cluster]:
    """A Valkey cluster, shared by the tests of one worker: fail and move what you like, but leave it ok."""
    with Cluster(PROGRAMS["valkey"]) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    """A Redis cluster, shared by the tests of one worker: fail and move what you like, but leave it ok."""
    with Cluster(PROGRAMS["redis"]) as cluster:
        yield cluster


@pytest.fixture(scope="session", params=PROGRAMS)
def any_cluster(request: pytest.FixtureRequest) -> Cluster:
    """The shared Valkey cluster, then the shared Redis cluster."""
    return request.getfixturevalue(f"{request.param}_cluster")


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Start a server for this test alone, to stop, kill or fill: `start_server("redis", "--appendonly", "yes")`."""
    servers: list[Server] = []

    def start(kind: str, *args: str) -> Server:
        servers.append(Server(PROGRAMS[kind], *args))
        servers[-1].start()
        return servers[-1]

    yield start

    for server in servers:
        server.close()
