"""A TCP proxy before a Redis-like server that breaks a connection at a chosen command."""

import socket
import threading
from contextlib import suppress

SETTING_UP = {b"HELLO", b"CLIENT", b"AUTH", b"SELECT", b"PING", b"INFO"}
"""Commands that clients send when they connect, and stores before the first call. They are not counted."""


class Proxy:
    """Forwards to a server on 127.0.0.1, and counts commands.

    `cut` closes the connection at a command instead of forwarding it, `drop_reply` forwards it and closes the
    connection when the server answers: then the command was applied.
    """

    def __init__(self, port):
        self._to = ("127.0.0.1", port)
        self._lock = threading.Lock()
        self._left = None
        self._dropping = False
        self.broke = False
        self._sockets = []
        self._threads = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self, at):
        """Close the connection instead of forwarding command number *at*."""
        self._arm(at, dropping=False)

    def drop_reply(self, at):
        """Forward command number *at*, and close the connection before its reply."""
        self._arm(at, dropping=True)

    def _arm(self, at, *, dropping):
        with self._lock:
            self._left, self._dropping, self.broke = at, dropping, False

    def heal(self):
        """Stop breaking connections, and return whether one was broken."""
        with self._lock:
            self._left = None
            return self.broke

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in [self._listener, *self._sockets]:
            _close(each)
        for each in self._threads:
            each.join(10)

    def _start(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._to)
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                broken = threading.Event()
                self._start(self._requests, client, server, broken)
                self._start(self._replies, client, server, broken)

    def _requests(self, client, server, broken):
        with suppress(OSError, EOFError), client.makefile("rb") as requests:
            while True:
                name, command = _read_command(requests)
                if name not in SETTING_UP and self._is_due():
                    if not self._dropping:
                        break
                    broken.set()
                server.sendall(command)
        if not broken.is_set():
            _close(client)
            _close(server)

    def _replies(self, client, server, broken):
        with suppress(OSError):
            while data := server.recv(65_536):
                if broken.is_set():
                    break
                client.sendall(data)
        _close(client)
        _close(server)

    def _is_due(self):
        with self._lock:
            if self._left is None:
                return False
            self._left -= 1
            self.broke |= self._left == 0
            return self._left == 0


def _read_command(stream):
    """Return a command's name and its bytes in the protocol."""
    head = _read_line(stream)
    parts, name = [head], b""
    for n in range(int(head[1:])):
        length = _read_line(stream)
        body = stream.read(int(length[1:]) + 2)
        name = body[:-2].upper() if n == 0 else name
        parts += [length, body]
    return name, b"".join(parts)


def _read_line(stream):
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    return line


def _close(each):
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
