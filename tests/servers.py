"""Real servers for the tests, each a process of its own on 127.0.0.1."""

import atexit
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

MADE_BY_MAKE = Path(__file__).parents[1] / ".servers"
DEADLINE = 15.0  # seconds for a server to start answering, or to end

# A byte of this file for each port: the process that was given the port keeps the byte locked until it ends.
_ports = os.open(Path(tempfile.gettempdir()) / f"test-servers-{os.getuid()}.ports", os.O_RDWR | os.O_CREAT, 0o600)
_given_out: set[int] = set()  # a process does not lock itself out


class MissingServerError(Exception):
    """A server's program is neither in .servers nor on PATH."""


def find_program(name: str) -> str:
    """Return the path of the server program *name*; without one the tests fail, they do not skip."""
    path = shutil.which(name, path=os.pathsep.join([str(MADE_BY_MAKE), os.environ.get("PATH", os.defpath)]))
    if path is None:
        msg = f"no {name} in {MADE_BY_MAKE} or on PATH: run `make servers`, which gets it"
        raise MissingServerError(msg)
    return path


def find_free_port() -> int:
    """Return a port that nothing listens on now, and that no test of this user is given again while this process runs.

    Asking the kernel for port 0 would give an ephemeral one: while a killed server is down, any outgoing connection on
    the machine could take it, and the server could not come back on its port.
    """
    while True:
        port = random.randrange(16_384, 32_768)
        if port in _given_out:
            continue
        try:
            fcntl.lockf(_ports, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            continue
        _given_out.add(port)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Server:
    """A Redis-like server of one's own: `Server("valkey-server", "--appendonly", "yes")`.

    It has a port that it keeps, and a folder of its own, which `close` removes. It stores nothing on disk unless *args*
    say so: without `--appendonly yes`, a stopped or killed server comes back empty.

    As a context manager it is started on entry and closed on exit. One that is open when Python exits is closed then.
    """

    def __init__(self, program: str, *args: str) -> None:
        self.program = program
        self.args = args
        self.port = find_free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{program}-"))
        self.log = self.folder / "log"
        self.paused = False
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        atexit.register(self.close)

    def __repr__(self) -> str:
        return f"<Server {self.program} {' '.join(self.args)} at {self.url}>"

    def __enter__(self) -> "Server":  # noqa: PYI034  typing.Self is Python 3.11's
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The process id, or None while the server is down."""
        return self._process.pid if self._process is not None else None

    def client(self, **options) -> redis.Redis:
        """Return a client that tries once and waits 5 seconds at most; the caller closes it."""
        defaults = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis.from_url(self.url, **(defaults | options))

    def start(self) -> None:
        """Start the server and return when it answers, its data loaded."""
        if self._process is not None:
            msg = f"{self!r} is already running, as process {self.pid}"
            raise RuntimeError(msg)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server in good order (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once (SIGKILL), as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server and start it on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let the server accept connections and answer nothing (SIGSTOP) until `resume`."""
        self._running().send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)
        self.paused = False

    def close(self) -> None:
        """End the server if it runs, and remove its folder; a second time does nothing."""
        if os.getpid() != self._owner:
            return  # a forked child leaves through here too, and the server is not its own
        atexit.unregister(self.close)
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self) -> list[str]:
        command = [find_program(self.program), "--port", str(self.port), "--bind", "127.0.0.1"]
        return [*command, "--dir", str(self.folder), "--save", "", "--loglevel", "warning", *self.args]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            msg = f"{self!r} is not running: start it first"
            raise RuntimeError(msg)
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process = self._running()
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a paused process would keep SIGTERM waiting
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)
            raise
        finally:
            self._process, self.paused = None, False

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + DEADLINE
        with self.client(socket_timeout=1.0) as client:
            while time.monotonic() < end:
                if process.poll() is not None:
                    break
                try:
                    # By its pid, lest another worker's server answer that took the port in between.
                    ours = client.info("server")["process_id"] == process.pid
                    if ours and not client.info("persistence").get("loading"):  # a sentinel does not speak of it
                        return
                except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
                    pass
                time.sleep(0.01)
        msg = f"{self!r} did not start in {DEADLINE} s (exit code {process.poll()}): {self.log.read_text()[-2000:]}"
        raise RuntimeError(msg)
