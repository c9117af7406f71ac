"""What a manager does with many sessions: import, archive, export, erase, redact, purge, verify, back up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, cast, overload

from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.errors import InvalidValueError
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.model.listed import SessionSummary
from pyai_sessions.model.session import Session
from pyai_sessions.sessions.backend import Progress
from pyai_sessions.stores.kv import KVSessionStore
from pyai_sessions.upkeep.erasure import Erasure
from pyai_sessions.upkeep.imports import Imported, OnTaken
from pyai_sessions.upkeep.redaction import REMOVED, Redaction
from pyai_sessions.upkeep.repair import Verification
from pyai_sessions.values.checks import ANYONE, Anyone, AnyPath, shown
from pyai_sessions.values.json import Default, converting, is_mapping, plain


class Maintenance(OfOneProcess):
    """The part of `SessionManager` that concerns many sessions."""

    _store: KVSessionStore
    _default: Default | None

    def _store_of(self, target: object) -> tuple[KVSessionStore, bool]:
        """Return the store that *target* means, and whether to close it afterwards."""
        raise NotImplementedError

    def import_sessions(
        self,
        sessions: Iterable[Session | Mapping[str, Any] | str | bytes],
        *,
        on_conflict: OnTaken = "skip",
        skip_invalid: bool = False,
        progress: Progress | None = None,
    ) -> Imported:
        """Store sessions as they are, and return how many were new, stored already, replaced, or different.

        *sessions* is an open file that `export_sessions` wrote, or any other iterable: of lines of JSON, of `Session`
        objects of any store, of what `Session.to_dict` returned. Users, times, status, messages and branches stay as
        they are. Where two messages of a session have the same id, the second gets a new one.

        If other content is stored under the id of a session, *on_conflict* says what is done: ``"skip"`` leaves it as
        it is, and `Imported.different_ids` names it; ``"error"`` raises; ``"overwrite"`` replaces it; ``"newer"``
        replaces it unless it was changed later than the given session. A stored session that cannot be read is never
        replaced. Repeat an import that was cut short: what is stored already is counted as identical.

        Something that is no session raises an error, which names the line; all sessions before it are stored.
        *skip_invalid* leaves it out instead, and `Imported.problems` has the line and the reason.

        About 500 sessions are stored in one transaction or trip, and held in memory; *progress* is then called with the
        number of sessions done. A session whose id is taken costs reading what is stored.

        The state of a user, as `export_sessions` writes it, is taken, too: `Imported.states` counts those.

        Raises:
            InvalidValueError: Something that was given is no session, or cannot be stored.
            SessionExistsError: ``on_conflict="error"``, and other content is stored; up to 500 sessions that follow may
                be stored.
            InvalidDocumentError: ``on_conflict="error"``, and what is stored cannot be read.

        >>> from pyai_sessions import SessionManager
        >>> old, new = SessionManager(), SessionManager()
        >>> session = old.create_session("ada", session_id="s")
        >>> new.import_sessions([session]).inserted
        1
        >>> session.set_state("n", 1)
        >>> new.import_sessions([session]).different_ids
        ['s']
        >>> new.import_sessions([session], on_conflict="overwrite").overwritten
        1

        """
        given = sessions if self._default is None else converted(sessions, self._default)
        return self._store.import_sessions(given, on_conflict=on_conflict, skip_invalid=skip_invalid, progress=progress)

    def export_sessions(
        self,
        file: Any,
        *,
        session_id: str | None = None,
        user_id: str | Anyone = ANYONE,
        scan: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Write sessions to an open text file, a line of JSON each; return how many lines.

        All sessions are written, or the one of *session_id*, or those of *user_id*; with both, the session must be that
        user's. A line is a session, active or archived, with its branches, as `Session.to_dict` returns it:
        `import_sessions` takes the file. A fork is written as a whole session, with the messages that it shares; an
        imported one shares no storage with its parent. Expired sessions are left out, but for those of a user. Holds
        one session at a time. *progress* is called with the number of lines so far.

        Of a damaged session each document is a line of its own, ``{"key": …, "document": …}``, with its text as far as
        it can be decrypted (None: it is missing), and so is each document that ``verify(repair=True)`` set aside.
        ``import_sessions(file, skip_invalid=True)`` leaves these lines out. The states of users and of the application
        are lines, too: ``{"user_id": …, "shared_state": …}``; with *user_id* that user's, with *session_id* none.

        Of a user, the indexes say which sessions these are. *scan* reads everything that is stored, as `delete_user`
        does, for what no index lists. Where others write meanwhile, a session may come twice.

        Raises:
            InvalidValueError: *file* is not open for text. Or *scan* is given without a user.
            SessionNotFoundError: There is no session of *session_id*.
            UnsupportedOperationError: A custom store cannot list all sessions.

        >>> from pyai_sessions import SessionManager
        >>> import io
        >>> manager, other, file = SessionManager(), SessionManager(), io.StringIO()
        >>> _ = manager.create_session("ada"), manager.create_session("bob")
        >>> manager.export_sessions(file, user_id="ada")
        1
        >>> _ = file.seek(0)
        >>> other.import_sessions(file).inserted
        1

        """
        return self._store.export_sessions(file, session_id=session_id, user_id=user_id, scan=scan, progress=progress)

    def copy_sessions(self, target: Any, *, skip_invalid: bool = False, progress: Progress | None = None) -> Imported:
        """Copy all sessions to another store, check each copy, and return how many were new, the same, or changed.

        *target* is a manager, or anything that a manager takes: a store, a mapping, a url. Active and archived sessions
        are copied, with their branches; forks as whole sessions, which then share no storage. Expired sessions are left
        out, and so are the states of users and what ``verify(repair=True)`` set aside.

        Repeat it where it was cut short, or to copy what has changed since: sessions that are the same in both stores
        are read and compared, not written. A session that was changed later in the target stays there as it is:
        `Imported.different_ids` names it, as it does a copy that is not what was written, because another writer has
        changed it or the target did not keep it.

        About 500 sessions are copied in one transaction or trip, and held in memory; *progress* is then called with the
        number of sessions done.

        Raises:
            InvalidDocumentError: A session cannot be read; all before it are copied. *skip_invalid* leaves it out, and
                `Imported.problems` names it.
            InvalidValueError: *target* is None.
            UnsupportedOperationError: A custom store cannot list all sessions.

        >>> from pyai_sessions import SessionManager
        >>> old, new = SessionManager(), SessionManager()
        >>> _ = old.create_session("ada", session_id="s"), old.create_session("bob", session_id="t")
        >>> old.copy_sessions(new).inserted
        2
        >>> old.append("s", {"role": "user", "content": "Hello!"})
        >>> report = old.copy_sessions(new)
        >>> report.inserted, report.identical, report.overwritten
        (0, 1, 1)

        """
        made, closes = self._store_of(target)
        return self._store.copy_sessions(made, skip_invalid=skip_invalid, progress=progress, close_target=closes)

    @overload
    def archive_inactive(
        self, days: float = 30, *, dry_run: Literal[False] = False, progress: Progress | None = None
    ) -> int: ...

    @overload
    def archive_inactive(
        self, days: float = 30, *, dry_run: Literal[True], progress: Progress | None = None
    ) -> list[SessionSummary]: ...

    def archive_inactive(
        self, days: float = 30, *, dry_run: bool = False, progress: Progress | None = None
    ) -> int | list[SessionSummary]:
        """Archive the sessions that got no message for so many days; return how many. Costs only those.

        *dry_run* archives nothing, and returns summaries of those that would be archived, idle longest first.

        Beside other writers: a session that gets a message meanwhile stays active. 100 are archived in one transaction
        or trip; *progress* is called with their number so far. One that was cut short goes on where it stopped.
        """
        idle_since = self._idle_since(days)
        if dry_run:
            return self._store.inactive(idle_since, SessionStatus.ACTIVE, progress)
        return self._store.archive_inactive(idle_since, progress)

    @overload
    def delete_inactive(
        self, days: float, *, dry_run: Literal[False] = False, progress: Progress | None = None
    ) -> int: ...

    @overload
    def delete_inactive(
        self, days: float, *, dry_run: Literal[True], progress: Progress | None = None
    ) -> list[SessionSummary]: ...

    def delete_inactive(
        self, days: float, *, dry_run: bool = False, progress: Progress | None = None
    ) -> int | list[SessionSummary]:
        """Delete the sessions that got no message for so many days, archived ones too; return how many.

        *dry_run* deletes nothing, and returns summaries of those that would be deleted, idle longest first.

        Each is deleted as `SessionManager.delete` does: it stays deleted, and its forks stay whole. A session that gets
        a message meanwhile stays. One that cannot be read stays, too: `verify` reports it. *progress* is called with
        the number deleted so far. One that was cut short goes on where it stopped.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> session = manager.create_session("ada")
        >>> manager.delete_inactive(days=365, dry_run=True), manager.delete_inactive(days=365)
        ([], 0)

        """
        idle_since = self._idle_since(days)
        if dry_run:
            return self._store.inactive(idle_since, None, progress)
        return self._store.delete_inactive(idle_since, progress)

    def _idle_since(self, days: object) -> datetime:
        if isinstance(days, bool) or not isinstance(days, (int, float)) or not 0 <= days < float("inf"):
            raise InvalidValueError("days", f"is {shown(days)}; it is a number of 0 or more")
        try:
            return self._store.clock() - timedelta(days=days)
        except OverflowError:  # before the year 1
            return datetime.min.replace(tzinfo=timezone.utc)

    def delete_user(self, user_id: str, *, scan: bool = False) -> Erasure:
        """Erase all that is held of a user, and return what that was; its length is the number of sessions.

        That is: the user's state; all sessions, archived and damaged ones too, with their branches; what
        ``verify(repair=True)`` set aside of them, and what crashes left; all that the indexes say of the user. Forks
        that other users made of these sessions stay, with the messages that they share: ``Erasure.shared`` names them.
        What the storage itself keeps of deleted text, SECURITY.md says.

        *scan* then reads everything that is stored, and erases what the indexes did not know: sessions that no index
        lists, damaged documents that still tell the user, and what crashes left, of whomever: pages and references that
        no session names. It is the check that nothing is left, and costs reading every key and every head once or
        twice, as `verify` does. A custom store needs a list of all users for it.

        Repeat it where it was cut short, then with *scan*. Beside other writers a session that the user creates
        meanwhile may stay. Costs two trips or transactions a session, and three listings of its keys; on a mapping that
        cannot list those (any but SQLite, diskcache, Redis) four walks through all keys. Holds the keys of what it
        erases.

        Raises:
            UnsupportedOperationError: A custom store cannot list all sessions; nothing was erased.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> _ = manager.create_session("ada", session_id="s"), manager.create_session("bob")
        >>> erased = manager.delete_user("ada", scan=True)
        >>> erased.session_ids, erased.unlisted, manager.count()
        (['s'], [], 1)

        """
        return self._store.delete_user(user_id, scan=scan)

    def redact(
        self,
        session_id: str,
        message_id: str,
        *,
        content: Any = REMOVED,
        text: str | Iterable[str] | None = None,
        user_id: str | Anyone = ANYONE,
        scan: bool = False,
    ) -> Redaction:
        """Take the words of a message out of all that is stored of a session; say what was done, and what is left.

        The message stays, with its role, time and ids; *content* takes the place of what it says, its metadata and the
        arguments of its tool calls go. So do its copies in branches, in pages that no session names any more, in what
        was set aside, in the sessions that this one was forked from or into and that are of the same user; and what
        was taken over from it into metadata, state, checkpoints and the summary: values that are a text of the message,
        and texts of 8 characters or more inside longer ones.

        *text* names words that go wherever they stand in these sessions, in other messages too: give the password, not
        only the message that has it. *user_id* says whose the session must be, as in the methods above.

        What cannot be reached, the result names: forks by other users, which stay as they are; other messages that
        repeat the words; documents that cannot be read. Forks by others that share no page are known with *scan* alone,
        which reads all heads. Copies of the session in the hands of other processes cannot bring the words back by
        a save that merges, only by ``on_conflict="overwrite"``. What lies outside of the storage is yours to find:
        backups, logs, exports. What the storage itself keeps of overwritten text, SECURITY.md says.

        Repeat it where it was cut short. Costs reading all that is stored of these sessions twice, and the heads of the
        user's sessions.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionStateError: Neither it nor a branch of it has such a message.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> session = manager.create_session("ada", session_id="s")
        >>> _ = session.add_message("user", "My password is hunter2.", message_id="pw")
        >>> _ = session.add_message("assistant", "You should not tell me hunter2.")
        >>> manager.save(session)
        >>> manager.redact("s", "pw", text="hunter2").copies
        1
        >>> [each.content for each in manager.get_session("s").messages]
        ['[removed]', 'You should not tell me [removed].']

        """
        return self._store.redact(session_id, message_id, content=content, text=text, user_id=user_id, scan=scan)

    def purge_expired(self, *, progress: Progress | None = None) -> int:
        """Remove the sessions whose store's ``ttl`` has run out; return how many they were. No read finds them anyway.

        State that has expired goes, too, for which all state is read.

        Costs only those, 100 in one transaction or a few trips; *progress* is called with their number so far. Beside
        other writers; one that was cut short goes on where it stopped. Redis forgets sessions by itself.
        """
        return self._store.purge_expired(progress)

    def clear_all(self) -> int:
        """Delete all sessions, and the state of users and of the application; return how many sessions there were.

        Nothing else that lies in the mapping goes.
        """
        return self._store.clear()

    def reindex(self, *, progress: Progress | None = None) -> int:
        """Rebuild both indexes from the documents, while others write; return how many sessions there are.

        Reads all heads, and writes what is wrong. *progress* is called with the number of sessions so far.
        """
        return self._store.reindex(progress)

    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> Verification:
        """Read everything and report what is damaged; *repair* mends what can be, and throws nothing away.

        *progress* is called with the number of sessions so far.
        """
        return self._store.verify(repair=repair, progress=progress)

    def backup(self, path: AnyPath, *, overwrite: bool = False) -> None:
        """Copy the SQLite file in which the sessions lie to *path*, as it is at one moment, while others write.

        A plain copy of a file that is open, by ``shutil.copy`` or ``cp``, may lack all that was stored last. This copy
        is whole, and opened as any: ``SQLiteSessionStore(path)``. It is made under another name and then renamed. A
        file at *path* is replaced only with *overwrite*. It holds the whole file, with all its tables and namespaces,
        and is encrypted as the store is. A file that is not in WAL mode, as a SqliteDict makes it, makes writers wait
        meanwhile.

        Raises:
            InvalidValueError: *path* is there already, or cannot be that of a copy.
            UnsupportedOperationError: The sessions lie in no SQLite file; the error says how they are backed up.

        >>> from pyai_sessions import SessionManager
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> manager = SessionManager(f"sqlite:///{folder.name}/chat.db")
        >>> _ = manager.create_session("ada")
        >>> manager.backup(f"{folder.name}/backup.db")
        >>> with SessionManager(f"sqlite:///{folder.name}/backup.db") as copy:
        ...     copy.count("ada")
        1
        >>> manager.close(); folder.cleanup()

        """
        return self._store.backup(path, overwrite=overwrite)

    def rotate_keys(self, *, progress: Progress | None = None) -> int:
        """Encrypt with the newest key what is not, while others write; return how many documents those were.

        Repeat it where it was cut short. *progress* is called with the number of documents so far.

        Raises:
            UnsupportedOperationError: The mapping is not `Encrypted`.
            EncryptionError: The ring lacks the key of some document; all others are done.
            OversizedDocumentError: Some document would expand too far; all others are done.

        """
        return self._store.rotate_keys(progress)


def converted(sessions: Any, default: Default) -> Any:
    """Return an iterable of sessions, the dicts among them as JSON; anything else is returned as it is."""
    if not isinstance(sessions, Iterable) or isinstance(sessions, (str, bytes, Mapping, Session)):
        return cast("Any", sessions)
    return _converted(cast("Iterable[object]", sessions), default)


def _converted(sessions: Iterable[object], default: Default) -> Iterator[object]:
    for n, each in enumerate(sessions):
        with converting(default):
            made: object = plain(each, f"sessions[{n}]") if is_mapping(each) else each
        yield made
