"""Real servers for the tests, each a process on 127.0.0.1."""

import atexit
import fcntl
import functools
import itertools
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
DEADLINE = 60.0  # seconds for a server to start answering, or to end

# One byte of this file per port: the process that uses the port keeps the byte locked until it ends.
_ports = os.open(Path(tempfile.gettempdir()) / f"test-servers-{os.getuid()}.ports", os.O_RDWR | os.O_CREAT, 0o600)
_given_out: set[int] = set()  # a process does not lock itself out


class MissingServerError(Exception):
    """A server's program is neither in .servers nor on PATH."""


def find_program(name: str) -> str:
    """Return the path of a server's program. If it is missing, tests fail; they are not skipped."""
    path = shutil.which(name, path=os.pathsep.join([str(MADE_BY_MAKE), os.environ.get("PATH", os.defpath)]))
    if path is None:
        msg = f"no {name} in {MADE_BY_MAKE} or on PATH: run `make servers`, which gets it"
        raise MissingServerError(msg)
    return path


def find_free_port() -> int:
    """Return a port on which nothing listens. No other test of this user gets it while this process runs.

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
    """A Redis-like server for tests: `Server("valkey-server", "--appendonly", "yes")`.

    It keeps its port. `close` removes its folder. It stores nothing on disk unless *args*
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
        """Return the process id, or None if the server is down."""
        return self._process.pid if self._process is not None else None

    def client(self, **options) -> redis.Redis:
        """Return a client that tries once and waits at most 30 seconds. The caller closes it."""
        defaults = {"socket_timeout": 30.0, "socket_connect_timeout": 30.0, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis.from_url(self.url, **(defaults | options))

    def start(self) -> None:
        """Start the server, and return when it answers with its data loaded."""
        if self._process is not None:
            msg = f"{self!r} is already running, as process {self.pid}"
            raise RuntimeError(msg)
        with self.log.open("ab") as log:
            self._process = self._spawn(log)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop the server cleanly (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server (SIGKILL), like a crash."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server and start it on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Suspend the server (SIGSTOP): it accepts connections, but does not answer until `resume`."""
        self._running().send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """Let a paused server continue (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)
        self.paused = False

    def close(self) -> None:
        """Stop the server if it runs, and remove its folder. A second call does nothing."""
        if os.getpid() != self._owner:
            return  # a forked child comes here, too, but the server belongs to its parent
        atexit.unregister(self.close)
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _spawn(self, log) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

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
        process.send_signal(signal.SIGCONT)  # a paused process does not react to SIGTERM
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
        while time.monotonic() < end and process.poll() is None:
            if self._answers(process):
                return
            time.sleep(0.01)
        msg = f"{self!r} did not start in {DEADLINE} s (exit code {process.poll()}): {self.log.read_text()[-2000:]}"
        raise RuntimeError(msg)

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        try:
            with self.client(socket_timeout=1.0) as client:
                # Compare the pid: another worker's server may have taken the port meanwhile.
                ours = client.info("server")["process_id"] == process.pid
                return ours and not client.info("persistence").get("loading")  # a sentinel does not report it
        except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
            return False


NOBODY = 65534  # an unprivileged user, and its group, on any Unix


def unprivileged() -> dict[str, object]:
    """Return options to run a child as user nobody if this process is root, since PostgreSQL refuses to run as root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


@functools.cache
def find_postgres() -> Path:
    """Return the folder of `initdb` and `postgres`, readable for the user that runs them.

    A checkout below /root, or one made with a strict umask, is closed to nobody: the programs are then copied to a
    temporary folder, with the libraries and files that they find by their own place, once a process.
    """
    programs = Path(find_program("postgres")).resolve().parent
    initdb = programs / "initdb"
    if not initdb.exists():
        msg = f"no initdb beside {programs / 'postgres'}: run `make servers`, which gets both"
        raise MissingServerError(msg)
    try:
        subprocess.run([initdb, "--version"], stdout=subprocess.DEVNULL, check=True, **unprivileged())
    except (PermissionError, subprocess.CalledProcessError):
        copy = Path(tempfile.mkdtemp(prefix="postgres-"))
    else:
        return programs
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    package = programs.parents[1]
    shutil.copytree(
        programs.parent, copy / package.name / programs.parent.name, ignore=shutil.ignore_patterns("include")
    )
    for libraries in package.parent.glob("*.libs"):
        shutil.copytree(libraries, copy / libraries.name)
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else path.stat().st_mode | 0o444 | (path.stat().st_mode & 0o100 and 0o111))
    return copy / package.name / programs.parent.name / programs.name


class PostgresServer(Server):
    """A PostgreSQL server for tests: `PostgresServer("-c", "log_statement=all")`.

    Its settings are the default ones, with fsync; what it stored is there after `stop`, `kill` and `start`. A paused
    one keeps new connections waiting, and goes on serving those that it has.
    """

    def __init__(self, *args: str) -> None:
        super().__init__("postgres", *args)
        self.data = self.folder / "data"
        self._names = (f"test_{n}" for n in itertools.count(1))

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def client(self, **options):
        """Return a psycopg connection with autocommit. The caller closes it."""
        import psycopg  # benchmarks import this module without psycopg installed

        return psycopg.connect(self.url, **({"autocommit": True, "connect_timeout": 30} | options))

    def create_database(self) -> str:
        """Create an empty database in about 30 ms, and return its URL. It needs no cleaning up."""
        name = next(self._names)
        with self.client() as client:
            client.execute(f"CREATE DATABASE {name}")
        return self.url_of(name)

    def start(self) -> None:
        """Start the server, and return when it answers, after recovery if it had crashed."""
        if not self.data.exists():
            self._initialise()
        super().start()

    def stop(self) -> None:
        """Stop the server cleanly (SIGINT, since SIGTERM would wait for clients)."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server like a crash. Nothing is written any more, and the next start recovers.

        That is SIGQUIT, PostgreSQL's immediate shutdown. After SIGKILL its children would go on with their statements,
        and until they have ended no other server can start on the data.
        """
        self._end(signal.SIGQUIT)

    def _initialise(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            [find_postgres() / "initdb", "-D", self.data, *options],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            **unprivileged(),
        )
        if done.returncode != 0:
            msg = f"initdb failed (exit code {done.returncode}): {(done.stdout + done.stderr)[-2000:]}"
            raise RuntimeError(msg)

    def _spawn(self, log) -> subprocess.Popen[bytes]:
        options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": self.folder}
        return subprocess.Popen(self._command(), **options, **unprivileged())

    def _command(self) -> list[str]:
        command = [str(find_postgres() / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        return [*command, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", *self.args]

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        import psycopg

        try:
            with self.client() as client:
                return client.execute("SHOW data_directory").fetchone() == (str(self.data),)
        except psycopg.OperationalError:
            return False
