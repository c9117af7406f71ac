"""The servers that the other tests rely on are real, are the releases we claim, and fail as servers do."""

import random
import subprocess
import sys

import pytest
import redis

from tests import servers
from tests.servers import MissingServerError, Server, find_free_port, find_program


@pytest.fixture(params=["valkey", "redis"])
def kind(request):
    return request.param


def test_a_server_answers(any_server):
    """Each server answers PING at its url."""
    with redis.Redis.from_url(any_server.url) as client:
        assert client.ping()


def test_valkey_is_9_or_newer(valkey_server):
    """The Valkey server is Valkey, not Redis under its name, and a current release."""
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
    """After SIGKILL nothing listens on the port; the server then comes back on it, empty."""
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
    with server.client(socket_timeout=0.1) as client:
        client.set("kept", "yes")

        server.pause()

        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
    with server.client() as client:
        assert client.get("kept") == b"yes"


def test_a_closed_server_leaves_nothing_behind(start_server, kind):
    """Closing ends the process and removes the folder, even of a paused server; a second close does nothing."""
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
    """A program that is not there raises; no test is skipped for it."""
    with pytest.raises(MissingServerError, match="make servers"):
        find_program("no-such-server")


def test_a_port_is_given_out_once(monkeypatch):
    """Neither this process nor another that draws the same numbers gets it again, though nothing listens there."""
    ports = []
    for _ in range(2):
        monkeypatch.setattr(servers, "random", random.Random(7))
        ports.append(find_free_port())
    draw = "import random; random.seed(7); from tests.servers import find_free_port; print(find_free_port())"
    ports.append(int(subprocess.check_output([sys.executable, "-c", draw], cwd=servers.MADE_BY_MAKE.parent)))

    assert len(set(ports)) == 3
