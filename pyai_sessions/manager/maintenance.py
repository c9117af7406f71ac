"""What a manager does with many sessions: import, archive, export, erase, redact, purge, verify, back up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, cast, overload

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.events import note
from pyai_sessions.manager.face import Face
from pyai_sessions.manager.opening import store_of
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.model.listed import SessionSummary
from pyai_sessions.model.session import Session
from pyai_sessions.sessions.backend import Progress
from pyai_sessions.sessions.trips import mending
from pyai_sessions.upkeep import erasure, exports
from pyai_sessions.upkeep import repair as upkeep
from pyai_sessions.upkeep.clearing import clear
from pyai_sessions.upkeep.erasure import Erasure
from pyai_sessions.upkeep.imports import Imported, Importer, OnTaken
from pyai_sessions.upkeep.purging import expired, purge_all
from pyai_sessions.upkeep.redaction import REMOVED, Redaction, Redactor, order
from pyai_sessions.upkeep.repair import Verification
from pyai_sessions.values.checks import (
    ANYONE,
    Anyone,
    AnyPath,
    check_choice,
    check_id,
    check_items,
    check_progress,
    check_user,
    existing_id,
    kind_of,
    shown,
)
from pyai_sessions.values.messages import Message, id_of

_TOLD = 100
"""Lines of an export after which *progress* is called."""

_MANY = "an open file, or a list, of sessions, dicts or lines of JSON"


class Maintains(Face):
    """The part of `SessionManager` that concerns many sessions."""

    @mending
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

        Something that is no session raises an error, which names its line or number, and its id if it has one; all
        sessions before it are stored. *skip_invalid* leaves it out instead, and `Imported.problems` has the reason.

        About 500 sessions are stored in one transaction or trip, and held in memory; *progress* is then called with the
        number of sessions done. A session whose id is taken costs reading what is stored.

        States of users and of the application, as `export_sessions` writes them, are stored too, by the same
        *on_conflict*: `Imported.states` counts them, `Imported.different_states` names those that were left out.

        Raises:
            InvalidValueError: Something that was given is no session, or cannot be stored.
            SessionExistsError: ``on_conflict="error"``, and other content is stored; up to 500 sessions that follow may
                be stored. StateConflictError if that is a state.
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
        check_progress(progress)
        check_choice(on_conflict, "on_conflict", "skip", "error", "overwrite", "newer")
        if isinstance(sessions, (str, bytes, Mapping, Session)):
            raise InvalidValueError("sessions", f"is {kind_of(cast('object', sessions))}; it is {_MANY}")
        given: Iterable[object] = check_items(sessions, "sessions", _MANY)
        engine = self._engine
        importer = Importer(engine.backend, engine.terms, on_conflict, skip_invalid=skip_invalid, default=self._default)
        return importer.store(given, progress)

    @mending
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
        user, sought, written = check_user(user_id), None if session_id is None else existing_id(session_id), 0
        exports.check_file(file)
        check_progress(progress)
        if scan and (user is None or sought is not None):
            raise InvalidValueError("scan", "is for the export of a user; leave it out, or give user_id alone")
        for line in exports.lines(self._engine.backend, sought, user, scan=scan, clock=self._store.clock):
            file.write(line)
            written += 1
            if progress and written % _TOLD == 0:
                progress(written)
        if progress and written % _TOLD:
            progress(written)
        return written

    @mending
    def copy_sessions(self, target: Any, *, skip_invalid: bool = False, progress: Progress | None = None) -> Imported:
        """Copy all sessions and states to another store, check each copy, and return what was new, the same or changed.

        *target* is a manager, or anything that a manager takes: a store, a mapping, a url. Active and archived sessions
        are copied with their branches, forks as whole sessions, which then share no storage; then the states of users
        and of the application. Expired sessions and states are not copied, nor documents that ``verify(repair=True)``
        set aside.

        Repeat it if it was interrupted, or to copy what has changed since: what is the same in both stores is compared
        and not written. A session or a state that was changed later in the target is kept there:
        `Imported.different_ids` and `Imported.different_states` name it. They also name a copy that is not as it was
        written, because another writer changed it or the target did not keep it.

        About 500 sessions are copied in one transaction or trip, and held in memory; *progress* is then called with the
        number of sessions done.

        Raises:
            InvalidDocumentError: A session or a state cannot be read; all before it are copied. *skip_invalid* leaves
                it out, and `Imported.problems` names it.
            InvalidValueError: *target* is None.
            UnsupportedOperationError: A custom store cannot list all sessions; or there are states, and the target is a
                custom store, which keeps none: the sessions are copied. *skip_invalid* leaves the states out.

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
        check_progress(progress)
        target, closes = store_of(target)
        to = target._engine  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        report = Imported()
        importer = Importer(to.backend, to.terms, "newer", skip_invalid=skip_invalid, checked=True)
        try:
            add_invalid = report.add_invalid if skip_invalid else None
            found = exports.contents(self._engine.backend, self._store.clock, add_invalid)
            return importer.store(found, progress, report)
        except BaseException:
            to.trips.mend()
            raise
        finally:
            if closes:
                target.close()

    @overload
    def archive_inactive(
        self, days: float = 30, *, dry_run: Literal[False] = False, progress: Progress | None = None
    ) -> int: ...

    @overload
    def archive_inactive(
        self, days: float = 30, *, dry_run: Literal[True], progress: Progress | None = None
    ) -> list[SessionSummary]: ...

    @mending
    def archive_inactive(
        self, days: float = 30, *, dry_run: bool = False, progress: Progress | None = None
    ) -> int | list[SessionSummary]:
        """Archive the sessions that got no message for so many days; return how many. Costs only those.

        *dry_run* archives nothing, and returns summaries of those that would be archived, idle longest first.

        Beside other writers: a session that gets a message meanwhile stays active. 100 are archived in one transaction
        or trip; *progress* is called with their number so far. One that was cut short goes on where it stopped.
        """
        idle_since = self._idle_since(days)
        check_progress(progress)
        if dry_run:
            return self._engine.archiver.summaries(idle_since, (SessionStatus.ACTIVE,))
        return self._engine.archiver.archive_inactive(idle_since, progress)

    @overload
    def delete_inactive(
        self, days: float, *, dry_run: Literal[False] = False, progress: Progress | None = None
    ) -> int: ...

    @overload
    def delete_inactive(
        self, days: float, *, dry_run: Literal[True], progress: Progress | None = None
    ) -> list[SessionSummary]: ...

    @mending
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
        check_progress(progress)
        if dry_run:
            return self._engine.archiver.summaries(idle_since, SessionStatus)
        return self._engine.deleter.delete_inactive(idle_since, progress)

    def _idle_since(self, days: object) -> datetime:
        if isinstance(days, bool) or not isinstance(days, (int, float)) or not 0 <= days < float("inf"):
            raise InvalidValueError("days", f"is {shown(days)}; it is a number of 0 or more")
        try:
            return self._store.clock() - timedelta(days=days)
        except OverflowError:  # before the year 1
            return datetime.min.replace(tzinfo=timezone.utc)

    @mending
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
        user_id = check_id(user_id, "user_id")
        erased = erasure.erase(self._engine.backend, user_id, scan=scan, clock=self._store.clock)
        for each in erased.session_ids:
            self._engine.deleter.forget(each)
        self._forget_words()
        return erased

    @mending
    def redact(
        self,
        session_id: str,
        message_id: str | Message,
        *,
        content: Any = REMOVED,
        text: str | Iterable[str] | None = None,
        user_id: str | Anyone = ANYONE,
        scan: bool = False,
    ) -> Redaction:
        """Take the words of a message out of all that is stored of a session; say what was done, and what is left.

        *message_id* names the message, or is the message. It stays, with its role, time and ids; *content* takes the
        place of what it says, its metadata and the arguments of its tool calls go. So do its copies in branches, in
        pages that no session names any more, in what was set aside, in the sessions that this one was forked from or
        into and that are of the same user; and what was taken over from it into metadata, state, checkpoints and the
        summary: values that are a text of the message, and texts of 8 characters or more inside longer ones.

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
        sought, owner = id_of(message_id, "message_id"), check_user(user_id)
        wanted = order(existing_id(session_id), sought, content, text, owner, scan=scan)
        done = Redactor(self._engine.backend, self._store.clock, wanted).run()
        for each in done.session_ids:
            self._engine.deleter.forget(each)
        self._forget_words()
        return done

    @overload
    def purge_expired(self, *, dry_run: Literal[False] = False, progress: Progress | None = None) -> int: ...

    @overload
    def purge_expired(self, *, dry_run: Literal[True], progress: Progress | None = None) -> list[SessionSummary]: ...

    @mending
    def purge_expired(self, *, dry_run: bool = False, progress: Progress | None = None) -> int | list[SessionSummary]:
        """Remove the sessions whose store's ``ttl`` has run out; return how many they were. No read finds them anyway.

        State that has expired goes, too, for which all state is read. What cannot be read stays: `verify` reports it.

        *dry_run* removes nothing, and returns summaries of the sessions that would be removed, first those that expired
        first. Redis forgets sessions by itself: it has only list entries to remove, which are counted and not returned.

        Costs only those, 100 in one transaction or a few trips; *progress* is called with their number so far. Beside
        other writers; one that was cut short goes on where it stopped.

        >>> from pyai_sessions import KVSessionStore, SessionManager
        >>> manager = SessionManager(KVSessionStore({}, ttl=60))
        >>> session = manager.create_session("ada")
        >>> manager.purge_expired(dry_run=True), manager.purge_expired()
        ([], 0)

        """
        check_progress(progress)
        if dry_run:
            return expired(self._engine.backend, self._store.clock)
        purged = purge_all(self._engine.backend, self._store.clock, progress)
        if purged:
            note("purged", count=purged)
        return purged

    @mending
    def clear_all(self) -> int:
        """Delete all sessions, and the state of users and of the application; return how many sessions there were.

        Nothing else that lies in the mapping goes.
        """
        cleared = clear(self._engine.backend, self._engine.deleter.delete)
        self._forget_words()
        return cleared

    @mending
    def reindex(self, *, progress: Progress | None = None) -> int:
        """Rebuild both indexes from the documents, while others write; return how many sessions there are.

        Reads all heads, and writes what is wrong. *progress* is called with the number of sessions so far. A search
        index is made anew, too.
        """
        check_progress(progress)
        self._store.require("reindex")
        found = upkeep.reindex(self._engine.backend, progress)
        index = self._search_index()
        if index is not None and index.is_made():
            index.rebuild()
        return found

    @mending
    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> Verification:
        """Read everything and report what is damaged; *repair* mends what can be, and throws nothing away.

        *progress* is called with the number of sessions so far.
        """
        check_progress(progress)
        found = upkeep.verify(self._engine.backend, repair=repair, clock=self._store.clock, progress=progress)
        repaired = sum(each.repaired for each in found.problems)
        if repaired:
            note("repaired", count=repaired)
        return found

    @mending
    def backup(self, path: AnyPath, *, overwrite: bool = False) -> None:
        """Copy the SQLite file, or the diskcache directory, of the store to *path*, while others write.

        A plain copy of an open file, by ``shutil.copy`` or ``cp``, may lack all that was stored last. This copy is
        whole, as of one moment, and opens like any other: ``SQLiteSessionStore(path)``, or
        ``DiskCacheSessionStore(path)``. It is made under another name and then renamed. What lies at *path* is replaced
        only with *overwrite*. The copy holds all tables and namespaces, and is encrypted as the store is. Writers need
        not wait, unless the file is not in WAL mode: a SqliteDict makes such files.

        Raises:
            InvalidValueError: *path* is there already, or cannot be that of a copy.
            UnsupportedOperationError: The store has neither; the error says how it is backed up.

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
        self._engine.backend.backup(path, overwrite=overwrite)

    @mending
    def rotate_keys(self, *, progress: Progress | None = None) -> int:
        """Encrypt with the newest key what is not, while others write; return how many documents those were.

        Repeat it where it was cut short. *progress* is called with the number of documents so far.

        Raises:
            UnsupportedOperationError: The mapping is not `Encrypted`.
            EncryptionError: The ring lacks the key of some document; all others are done.
            OversizedDocumentError: Some document would expand too far; all others are done.

        """
        return self._engine.backend.rotate(progress)
