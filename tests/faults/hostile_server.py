"""A TCP server that speaks Redis's protocol, and gives chosen replies."""

import socket
import threading
from contextlib import suppress

SETTING_UP = {b"CLIENT", b"SELECT", b"PING", b"AUTH"}

HELLO = (
    b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n"
    b"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
)


def bulk(text):
    """Return a text as a bulk reply."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def array(*items):
    """Return replies as an array reply."""
    return b"*%d\r\n" % len(items) + b"".join(items)


class HostileServer:
    """Gives one of `replies` to each command; None closes the connection. After the last it closes, too.

    With *endless* the last is given to all further commands. With *info* each INFO is given that, and uses up none: a
    store's first call asks for the server's memory before it reads or writes.
    """

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = []
        self.answer([])
        threading.Thread(target=self._accept, daemon=True).start()

    def answer(self, replies, *, endless=False, info=None):
        """Give these replies from now on."""
        self._replies, self._endless, self._info = list(replies), endless, info

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._sockets.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with suppress(OSError, ValueError), connection, connection.makefile("rb") as file:
            while header := file.readline():
                command = [file.read(int(file.readline()[1:]) + 2)[:-2] for _ in range(int(header[1:]))]
                reply = self._reply(command[0].upper())
                if reply is None:
                    return
                connection.sendall(reply)

    def _reply(self, name):
        if name == b"HELLO":
            return HELLO
        if name in SETTING_UP:
            return b"+OK\r\n"
        if name == b"INFO" and self._info is not None:
            return self._info
        if not self._replies:
            return None
        return self._replies[0] if self._endless and len(self._replies) == 1 else self._replies.pop(0)
