"""Fixtures of the fault tests."""

import secrets
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.places import InFile, InMapping, OnServer
from tests.faults.proxy import Proxy
from tests.faults.storages import EXAMPLE, ON_SERVERS, Storage
from tests.storage.mappings import Folder

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (the folder made in it has a name of its own)


@pytest.fixture
def storage(request, tmp_path):
    """An empty storage of the parametrized kind."""
    kind = request.param
    if kind == "dict":
        return Storage(kind, {})
    if kind in ON_SERVERS:
        return Storage(kind, (request.getfixturevalue(f"{kind}_server").url, f"{secrets.token_hex(8)}:"))
    if kind == EXAMPLE:
        return Storage(kind, request.getfixturevalue("postgres_url"))
    return Storage(kind, tmp_path)


@pytest.fixture
def memory_path():
    """An empty folder in memory where the system has one, for tests whose many writes need to survive nothing."""
    with TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture
def check(request, long_form, capsys):
    """Assert that nothing was hung, locked, lost or doubled. Print the counts in the long form."""

    def check(tally):
        if long_form:
            with capsys.disabled():
                sys.stdout.write(f"\n{request.node.callspec.id:40} {tally}")
                sys.stdout.flush()
        assert tally.points
        assert not tally.wrong, "\n".join(tally.examples)

    return check


@pytest.fixture
def place(request, tmp_path):
    """An empty place of the parametrized kind."""
    if request.param == "dict":
        return InMapping({})
    if request.param == "folder":
        return InMapping(Folder(tmp_path / "items"))
    if request.param == "sqlite":
        return InFile(tmp_path / "chat.db")
    server = request.getfixturevalue(f"{request.param}_server")
    return OnServer(server.url, f"{secrets.token_hex(8)}:")


@pytest.fixture
def proxy(place):
    """Put a proxy in front of the connections that are opened first, if the place is on a server."""
    if not isinstance(place, OnServer):
        yield
        return
    with Proxy(int(place.url.split(":")[2].partition("/")[0])) as place.proxy:
        yield


@pytest.fixture
def tell(request, long_form, capsys):
    """Print the number of writes or reads that were tried, in the long form."""

    def tell(tried):
        if long_form:
            with capsys.disabled():
                sys.stdout.write(f"\n{request.node.callspec.id:50} {tried} tried")
                sys.stdout.flush()

    return tell
