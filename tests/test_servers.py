"""Tests of the servers that other tests use: real ones, of the stated releases, that can fail."""

import functools
import os
import random
import shutil
import subprocess
import sys

import psycopg
import pytest
import redis

from tests import servers
from tests.servers import MissingServerError, PostgresServer, Server, find_free_port, find_postgres, find_program

pytestmark = pytest.mark.wide


@pytest.fixture(params=["valkey", "redis"])
def kind(request):
    return request.param


def test_a_server_answers(any_server):
    """Each server answers PING at its url."""
    with redis.Redis.from_url(any_server.url) as client:
        assert client.ping()


def test_valkey_is_9_or_newer(valkey_server):
    """The Valkey server is Valkey 9 or newer, and not Redis."""
    with valkey_server.client() as client:
        info = client.info("server")

    assert info["server_name"] == "valkey"
    assert int(info["valkey_version"].split(".")[0]) >= 9


def test_redis_is_7_0(redis_server):
    """The Redis server is the oldest release that we support."""
    with redis_server.client() as client:
        info = client.info("server")

    assert "server_name" not in info
    assert info["redis_version"].startswith("7.0.")


def test_a_restarted_server_keeps_its_port_and_its_appended_data(start_server, kind):
    """With `--appendonly yes` a write outlives a restart, and the url stays good."""
    server = start_server(kind, "--appendonly", "yes")
    url, pid = server.url, server.pid
    with server.client() as client:
        client.set("kept", "yes")

    server.restart()

    assert server.url == url
    assert server.pid != pid
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"


def test_a_killed_server_refuses_connections_until_it_is_started(start_server, kind):
    """After SIGKILL nothing listens on the port. The server then starts there, empty."""
    server = start_server(kind)
    with server.client() as client:
        client.set("lost", "yes")

        server.kill()

        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        assert client.get("lost") is None


def test_a_paused_server_answers_when_it_is_resumed(start_server, kind):
    """A paused server keeps its clients waiting and loses nothing."""
    server = start_server(kind)
    with server.client(socket_timeout=0.1) as hasty, server.client() as client:
        client.set("kept", "yes")

        server.pause()

        with pytest.raises(redis.TimeoutError):
            hasty.ping()
        server.resume()
        assert client.get("kept") == b"yes"


def test_a_closed_server_leaves_nothing_behind(start_server, kind):
    """Closing ends the process and removes the folder, also of a paused server. A second close does nothing."""
    server = start_server(kind)
    server.pause()

    server.close()
    server.close()

    assert server.pid is None
    assert not server.folder.exists()


def test_a_server_that_cannot_start_says_why():
    """The error shows the server's own words."""
    with (
        pytest.raises(RuntimeError, match="no-such-option"),
        Server("redis-server", "--no-such-option", "yes") as server,
    ):
        pytest.fail(f"started {server!r}")


def test_a_missing_server_is_a_failure_that_names_the_remedy():
    """A missing program raises an error that names the remedy."""
    with pytest.raises(MissingServerError, match="make servers"):
        find_program("no-such-server")


def test_a_port_is_given_out_once(monkeypatch):
    """Neither this process nor another gets the same port again."""
    ports = []
    for _ in range(2):
        monkeypatch.setattr(servers, "random", random.Random(7))
        ports.append(find_free_port())
    draw = "import random; random.seed(7); from tests.servers import find_free_port; print(find_free_port())"
    ports.append(int(subprocess.check_output([sys.executable, "-c", draw], cwd=servers.MADE_BY_MAKE.parent)))

    assert len(set(ports)) == 3


@pytest.fixture
def postgres():
    """A PostgreSQL server of this test with one row."""
    with PostgresServer() as server:
        with server.client() as client:
            client.execute("CREATE TABLE kept AS SELECT 'yes' AS answer")
        yield server


def answer(server):
    with server.client() as client:
        return client.execute("SELECT answer FROM kept").fetchall()


def test_postgres_is_16_or_newer_and_durable(postgres_server):
    """The PostgreSQL server is 16 or newer, and writes to disk what it acknowledges."""
    with postgres_server.client() as client:
        assert client.info.server_version >= 160_000
        settings = ["fsync", "synchronous_commit", "full_page_writes"]
        assert [client.execute(f"SHOW {each}").fetchone() for each in settings] == [("on",)] * 3


def test_each_database_is_empty_and_of_its_own(postgres_server):
    """Each test's database is empty and separate."""
    first, second = postgres_server.create_database(), postgres_server.create_database()
    with psycopg.connect(first) as client:
        client.execute("CREATE TABLE mine ()")

    with psycopg.connect(second) as client:
        assert client.execute("SELECT to_regclass('mine')").fetchone() == (None,)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_postgres_comes_back_with_its_data(postgres, end):
    """However it ended, it starts again on its port with the committed data."""
    url, pid = postgres.url, postgres.pid
    with postgres.client() as client:
        getattr(postgres, end)()

        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        postgres.client()
    postgres.start()
    assert (postgres.url, answer(postgres)) == (url, [("yes",)])
    assert postgres.pid != pid


def test_a_killed_postgres_recovers(postgres):
    """`kill` ends the server within a statement, too, and the next start recovers."""
    client = postgres.client()
    client.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000)")

    postgres.kill()

    postgres.start()
    assert answer(postgres) == [("yes",)]
    assert "was not properly shut down" in postgres.log.read_text()
    client.close()


def test_a_paused_postgres_answers_when_it_is_resumed(postgres):
    """New connections wait, and nothing is lost."""
    postgres.pause()

    with pytest.raises(psycopg.errors.ConnectionTimeout):
        postgres.client(connect_timeout=2)
    postgres.resume()
    assert answer(postgres) == [("yes",)]


def test_a_closed_postgres_leaves_nothing_behind(postgres):
    """Closing ends the process and removes the folder, also of a paused server. A second close does nothing."""
    postgres.pause()

    postgres.close()
    postgres.close()

    assert postgres.pid is None
    assert not postgres.folder.exists()


def test_a_postgres_that_cannot_start_says_why():
    """The error shows the server's own words."""
    with pytest.raises(RuntimeError, match="no_such_option"), PostgresServer("-c", "no_such_option=1") as server:
        pytest.fail(f"started {server!r}")


def test_postgres_is_copied_from_where_nobody_may_read(tmp_path, monkeypatch):
    """If the programs are in a private folder, root's tests start them from a copy."""
    programs = find_postgres()
    package = programs.parents[1]
    for name in (package.name, *(each.name for each in package.parent.glob("*.libs"))):
        shutil.copytree(package.parent / name, tmp_path / "closed" / name, ignore=shutil.ignore_patterns("include"))
    (tmp_path / "closed").chmod(0o700)
    closed = tmp_path / "closed" / package.name / programs.parent.name / programs.name
    monkeypatch.setattr(servers, "find_program", lambda name: str(closed / name))
    monkeypatch.setattr(servers, "find_postgres", functools.cache(find_postgres.__wrapped__))

    found = servers.find_postgres()

    assert (found == closed) is (os.geteuid() != 0)
    with PostgresServer() as server, server.client() as client:
        assert client.execute("SELECT 1").fetchone() == (1,)


def test_a_missing_postgres_is_a_failure_that_names_the_remedy(monkeypatch):
    """A missing postgres or initdb raises an error that names the remedy."""
    monkeypatch.setattr(servers, "find_program", lambda name: sys.executable)
    with pytest.raises(MissingServerError, match="make servers"):
        find_postgres.__wrapped__()
