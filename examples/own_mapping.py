"""A mapping of one's own: a file for each document in a folder, replaced in one step. Sessions are kept in it.

python own_mapping.py            # a conversation that goes on at each run
pytest test_own_mapping.py       # the rules of a mapping, and of sessions in it, tried on it
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from pyai_sessions import SessionManager


class Folder:
    """Texts in files. After a crash a file holds the former text or the new one: `os.replace` is one step."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    def file(self, key: str) -> Path:
        """Return where a key's text is."""
        return self.path / ("+" + quote(key, safe=""))  # no key is "", "." or ".." then; a name has at most 255 bytes

    def __getitem__(self, key: str) -> str:
        try:
            return self.file(key).read_bytes().decode()
        except FileNotFoundError:  # no other error: what cannot be read is not absent
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: str) -> None:
        new = self.path / f"new-{os.getpid()}-{threading.get_ident()}"
        new.write_bytes(value.encode())
        new.replace(self.file(key))

    def __delitem__(self, key: str) -> None:
        try:
            self.file(key).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return iter([unquote(each.name[1:]) for each in self.path.glob("+*")])


if __name__ == "__main__":
    manager = SessionManager(Folder("sessions"))
    session = manager.get_or_create_session("chat", user_id="ada")
    session.add_message("user", "Hello!")
    manager.save(session)
    print(f"{session.message_count} messages in {sorted(manager.store.mapping)}")
