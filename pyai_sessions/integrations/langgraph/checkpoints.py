"""What `LangGraphSaver` does with checkpoints: the calls of a manager that it makes, one after another."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple
from zlib import crc32

from pyai_sessions import Message, Session, SessionConflictError, SessionNotFoundError
from pyai_sessions.integrations.langchain import items_of, messages_of
from pyai_sessions.integrations.langgraph.log import NAME, Log, leave_out, part_of, record, remove, start_of
from pyai_sessions.values.checks import Anyone, check_choice, check_id
from pyai_sessions.values.recent import Recent

_START = "00000000-0000-6000-8000-000000000000"
"""The id of the checkpoint of a session that has none yet: it is before all others."""

_NEWEST = 32
"""Messages that are read first: the newest checkpoint is among them, as a rule."""

_SPARSE = 32
"""One of so many checkpoints is in the index."""


def _framework() -> Any:
    return import_module("langgraph.checkpoint.base")


Steps = Generator[tuple[str, tuple[Any, ...], dict[str, Any]], Any, Any]
"""Calls of a manager, which are sent their results: a sync or an async manager makes them."""


class Tip(NamedTuple):
    """The newest checkpoint of a thread that this saver has read or stored.

    Attributes:
        checkpoint_id: The checkpoint's id.
        said: Its messages, those objects that the graph has.
        kept: The same as ours, which no graph changes: what a graph is given if *revision* is that of the session.
        revision: The revision of the session that this saver knows whole; empty if others have changed it.

    """

    checkpoint_id: str
    said: Sequence[Any] = ()
    kept: Sequence[Message] = ()
    revision: str = ""


class Tips(Recent[Tip]):
    """The newest checkpoints of the threads that a saver used last."""

    def __init__(self) -> None:
        super().__init__(64 << 20)

    def remember(self, thread_id: str, tip: Tip) -> None:
        """Keep the newest checkpoint of a thread. A message is taken for 1,000 bytes."""
        self.put(thread_id, tip, 1000 * len(tip.said))


def thread_of(config: Any) -> str:
    """Return the id of the thread that a config names."""
    return _thread_id(config["configurable"]["thread_id"])


def _thread_id(given: object) -> str:
    """Return the id of a thread as text, as LangGraph does; of None it would make "None"."""
    return check_id(None if given is None else str(given), "thread_id")


class _Thread(NamedTuple):
    """What a config names."""

    thread_id: str
    namespace: str
    checkpoint_id: str | None
    user_id: str | None

    @classmethod
    def of(cls, config: Any) -> _Thread:
        named = config["configurable"]
        user_id, checkpoint_id = named.get("user_id"), named.get("checkpoint_id")
        return cls(
            thread_of(config),
            str(named.get("checkpoint_ns") or ""),
            None if checkpoint_id is None else str(checkpoint_id),
            None if user_id is None else str(user_id),
        )

    def config(self, checkpoint_id: str) -> dict[str, Any]:
        """Return the config of a checkpoint of the thread."""
        made = {"thread_id": self.thread_id, "checkpoint_ns": self.namespace, "checkpoint_id": checkpoint_id}
        return {"configurable": made if self.user_id is None else {**made, "user_id": self.user_id}}


class Checkpoints:
    """Reads and stores checkpoints. A method returns the calls that are to be made, in turn."""

    serde: Any
    get_next_version: Any
    _user_id: str | Anyone
    _key: str
    _tips: Tips

    # Storing --------------------------------------------------------------------------------------------------------

    def _put(self, config: Any, checkpoint: Any, metadata: Any) -> Steps:
        thread, values = _Thread.of(config), checkpoint["channel_values"]
        said: list[Any] | None = None
        if not thread.namespace and _are_messages(values.get(self._key)):
            said = list(values[self._key])
            kept = {name: each for name, each in values.items() if name != self._key}
            checkpoint = {**checkpoint, "channel_values": kept}
        made = record(
            checkpoint=checkpoint["id"],
            ns=thread.namespace,
            parent=thread.checkpoint_id,
            said=said is not None,
            data=self._packed([checkpoint, _framework().get_checkpoint_metadata(config, metadata)]),
        )
        tip = self._tips.get(thread.thread_id)
        new = said or []
        held: Sequence[Message] = ()
        if (
            said is not None
            and tip is not None
            and tip.checkpoint_id == thread.checkpoint_id
            and _begin(said, tip.said)
        ):
            new, held = said[len(tip.said) :], tip.kept
        elif said is not None:
            session: Session | None = yield self._session(thread)
            new, gone = (said, []) if session is None else self._compared(said, Log(session.messages))
            tip = None
            if session is not None and gone:
                leave_out(session, gone, made)
                session.add_messages([*self._messages(new), made])
                yield _call("save", session)
                self._remember(thread, Tip(checkpoint["id"], said))
                return thread.config(checkpoint["id"])
        options: dict[str, Any] = {}
        if tip is None or crc32(checkpoint["id"].encode()) % _SPARSE == 0:
            options["metadata"] = {NAME: {"at": {checkpoint["id"]: made.message_id}}}
        messages = self._messages(new)
        revision = yield from self._update(thread, tip, *messages, made, **options)
        self._remember(thread, Tip(checkpoint["id"], said or [], [*held, *messages], revision))
        return thread.config(checkpoint["id"])

    def _put_writes(self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str) -> Steps:
        thread, places = _Thread.of(config), _framework().WRITES_IDX_MAP
        made = record(
            writes=thread.checkpoint_id,
            ns=thread.namespace,
            task=task_id,
            path=task_path,
            data=[[places.get(name, n), name, self._packed(value)] for n, (name, value) in enumerate(writes)],
        )
        tip, options = self._tips.get(thread.thread_id), dict[str, Any]()
        if tip is not None and not thread.namespace and str(thread.checkpoint_id) < tip.checkpoint_id:
            options["metadata"] = {NAME: {"late": {thread.checkpoint_id: {made.message_id: 0}}}}
        revision = yield from self._update(thread, tip, made, **options)
        if tip is not None and self._tips.get(thread.thread_id) is tip:
            self._tips.remember(thread.thread_id, tip._replace(revision=revision))

    def _update(self, thread: _Thread, tip: Tip | None, *messages: Message, **options: Any) -> Steps:
        """Append to a thread, and return its revision if nobody else has changed it since *tip*, else nothing."""
        options["user_id"] = self._user_id if thread.user_id is None else thread.user_id
        if tip is not None and tip.revision:
            try:
                return (yield _call("update", thread.thread_id, *messages, if_revision=tip.revision, **options))
            except (SessionConflictError, SessionNotFoundError):
                pass  # others have changed the session, or deleted it
        yield _call("update", thread.thread_id, *messages, create=True, **options)
        return ""

    def _compared(self, said: list[Any], log: Log) -> tuple[list[Any], list[Message]]:
        """Return what a state says that a log does not, and the messages of the log that the state lacks."""
        place, spoken = 0, list(log.spoken())
        for n, each in enumerate(spoken):
            items = items_of([each], unpack=self._unpacked)
            if said[place : place + len(items)] != items:
                return said[place:], spoken[n:]
            place += len(items)
        return said[place:], []

    def _remember(self, thread: _Thread, tip: Tip) -> None:
        if not thread.namespace:
            self._tips.remember(thread.thread_id, tip)

    def _messages(self, items: Sequence[Any]) -> list[Message]:
        return messages_of(items, pack=self._packed)

    def _packed(self, value: Any) -> list[str]:
        kind, data = self.serde.dumps_typed(value)
        return [kind, b64encode(data).decode()]

    def _unpacked(self, packed: Sequence[str]) -> Any:
        return self.serde.loads_typed((packed[0], b64decode(packed[1])))

    # Reading --------------------------------------------------------------------------------------------------------

    def _session(self, thread: _Thread, **options: Any) -> Any:
        user_id = self._user_id if thread.user_id is None else thread.user_id
        return _call("get_session", thread.thread_id, user_id=user_id, **options)

    def _pages(self, thread: _Thread, **options: Any) -> Any:
        user_id = self._user_id if thread.user_id is None else thread.user_id
        return _call("get_messages", thread.thread_id, user_id=user_id, **options)

    def _get(self, config: Any) -> Steps:
        thread = _Thread.of(config)
        session = yield self._session(thread, last=_NEWEST)
        if session is None:
            return None
        log, index = Log(session.messages, len(session.messages) == session.message_count), part_of(session)
        wanted = None if thread.checkpoint_id == _START else thread.checkpoint_id
        if wanted is not None and log.find(thread.namespace, wanted) is None and not log.is_whole:
            log = (yield from self._around(thread, wanted, start_of(index.get("at", {}), wanted))) or log
        # The namespace of a subgraph that a task runs begins after the checkpoint of the task.
        above: Mapping[str, str] = config["configurable"].get("checkpoint_map") or {}
        since = [above[""]] if ":" in thread.namespace and "" in above else []
        while not log.reaches(thread.namespace, wanted, since):
            page = yield self._pages(thread, before=log.messages[0], limit=4 * len(log.messages))
            log = log.older(page, is_whole=not page.has_older)
        n = log.find(thread.namespace, wanted)
        if n is None and (thread.namespace or wanted is not None):
            return None
        tip = None if n is None or wanted is not None or thread.namespace else self._tips.get(thread.thread_id)
        if n is not None and tip is not None and tip.revision == session.revision:
            made = self._tuple(thread, log, n, tip.kept)
            self._remember(thread, tip._replace(said=list(made.checkpoint["channel_values"].get(self._key, ()))))
            return made
        if not log.is_whole and (n is None or part_of(log.messages[n])["said"]):
            page = yield self._pages(thread, before=log.messages[0], limit=None)
            log, n = log.older(page, is_whole=True), None if n is None else n + len(page)
        if n is None:
            return self._started(thread, log)
        late: list[Message] = []
        for each in index.get("late", {}).get(part_of(log.messages[n])["checkpoint"], ()):
            message = yield _call("get_message", thread.thread_id, each)
            late += [] if message is None else [message]
        spoken = list(log.spoken(n)) if part_of(log.messages[n])["said"] else []
        made = self._tuple(thread, log, n, spoken, late)
        if thread.checkpoint_id is None and not thread.namespace:
            said = list(made.checkpoint["channel_values"][self._key]) if spoken else []
            self._remember(thread, Tip(made.checkpoint["id"], said, spoken, session.revision))
        return made

    def _around(self, thread: _Thread, checkpoint_id: str, start: str | None) -> Steps:
        """Return the part of the log that holds a checkpoint and the writes after it; None if it is not found."""
        first = None if start is None else (yield _call("get_message", thread.thread_id, start))
        if first is None:
            return None
        before = yield self._pages(thread, before=first, limit=_NEWEST // 2)
        log = Log([*before, first], is_whole=not before.has_older, is_newest=False)
        n = log.find(thread.namespace, checkpoint_id)
        while not (log.is_newest or (n is not None and log.is_followed(n))):
            page = yield self._pages(thread, after=log.messages[-1], limit=_NEWEST)
            log = log.newer(page, is_newest=not page.has_newer)
            n = log.find(thread.namespace, checkpoint_id)
        return None if n is None else log

    def _tuple(self, thread: _Thread, log: Log, n: int, spoken: Iterable[Message], late: Iterable[Message] = ()) -> Any:
        """Return the checkpoint of a record of the log, with the messages that it says."""
        part = part_of(log.messages[n])
        checkpoint, metadata = self._unpacked(part["data"])
        if part["said"]:
            checkpoint["channel_values"][self._key] = items_of(spoken, unpack=self._unpacked)
        thread = thread._replace(namespace=part["ns"])
        return _framework().CheckpointTuple(
            thread.config(part["checkpoint"]),
            checkpoint,
            metadata,
            None if part["parent"] is None else thread.config(part["parent"]),
            [(task, channel, self._unpacked(value)) for task, channel, value in log.writes(n, late)],
        )

    def _started(self, thread: _Thread, log: Log) -> Any:
        """Return the checkpoint with which a graph goes on from a session that other code has written."""
        said = items_of(log.spoken(), unpack=self._unpacked)
        if not said:
            return None
        checkpoint = _framework().empty_checkpoint()
        checkpoint |= {
            "id": _START,
            "ts": log.messages[-1].timestamp.isoformat(),
            "channel_values": {self._key: said},
            "channel_versions": {self._key: self.get_next_version(None, None)},
        }
        self._remember(thread, Tip(_START, said))
        metadata: dict[str, Any] = {"source": "update", "step": -1, "parents": {}}
        return _framework().CheckpointTuple(thread.config(_START), checkpoint, metadata, None, [])

    def _list(self, config: Any, wanted: dict[str, Any] | None, before: Any, session: Any) -> Iterator[Any]:
        """Yield the checkpoints of a loaded session, newest first, that fulfil the *wanted* metadata."""
        if session is None:
            return
        named: dict[str, Any] = {} if config is None else config["configurable"]
        namespace, checkpoint_id = named.get("checkpoint_ns"), named.get("checkpoint_id")
        end = None if before is None else _Thread.of(before).checkpoint_id
        thread = _Thread.of({"configurable": {**named, "thread_id": session.session_id}})
        log = Log(session.messages)
        for n in range(len(log.messages) - 1, -1, -1):
            part = part_of(log.messages[n])
            if (
                "checkpoint" in part
                and namespace in (None, part["ns"])
                and checkpoint_id in (None, part["checkpoint"])
                and (end is None or part["checkpoint"] < end)
            ):
                made = self._tuple(thread, log, n, log.spoken(n))
                if all(made.metadata.get(key) == value for key, value in (wanted or {}).items()):
                    yield made

    def _threads(self) -> Steps:
        """Return the ids of all sessions with checkpoints."""
        page = yield _call("list_sessions", self._user_id, status=None)
        return [each.session_id for each in page if NAME in each.metadata]

    def _listed(self, config: Any) -> Steps:
        """Return the threads that a config means."""
        if config is not None:
            return [_Thread.of(config)]
        return [_Thread(each, "", None, None) for each in (yield from self._threads())]

    def _whole(self, thread: _Thread) -> Steps:
        return (yield self._session(thread))

    # Removing -------------------------------------------------------------------------------------------------------

    def _delete(self, thread_ids: Iterable[str]) -> Steps:
        for each in map(_thread_id, thread_ids):
            self._tips.pop(each)
            yield _call("delete", each, user_id=self._user_id)

    def _copy(self, source: str, target: str) -> Steps:
        yield _call("fork", _thread_id(source), new_id=_thread_id(target), last=1, owned_by=self._user_id)

    def _delete_for_runs(self, run_ids: Iterable[str]) -> Steps:
        runs = set(run_ids)
        for each in (yield from self._threads()) if runs else ():
            session = yield _call("get_session", each)
            if session is not None:
                log = Log(session.messages)
                gone = [n for n in log.checkpoints() if self._data(log, n)[1].get("run_id") in runs]
                if gone:
                    remove(session, gone)
                    yield _call("save", session)

    def _prune(self, thread_ids: Iterable[str], strategy: str) -> Steps:
        check_choice(strategy, "strategy", "keep_latest", "delete")
        if strategy == "delete":
            yield from self._delete(thread_ids)
            return
        for each in map(_thread_id, thread_ids):
            session = yield _call("get_session", each, user_id=self._user_id)
            if session is not None:
                log = Log(session.messages)
                kept = self._needed(log)
                remove(session, [n for n in log.checkpoints() if n not in kept], and_left=True)
                yield _call("save", session)

    def _needed(self, log: Log) -> set[int]:
        """Return the places of the newest checkpoints, and of those from which their DeltaChannels are restored."""
        needed: set[int] = set()
        for namespace in {part_of(log.messages[n])["ns"] for n in log.checkpoints()}:
            n = log.find(namespace, None)
            lacking = None
            while n is not None:
                needed.add(n)
                checkpoint, metadata = self._data(log, n)
                if lacking is None:
                    lacking = set(metadata.get("counters_since_delta_snapshot", ()))
                lacking -= checkpoint["channel_values"].keys()
                parent = part_of(log.messages[n])["parent"]
                n = log.find(namespace, parent) if lacking and parent is not None else None
        return needed

    def _data(self, log: Log, n: int) -> Any:
        """Return the checkpoint of a record without the conversation, and its metadata."""
        return self._unpacked(part_of(log.messages[n])["data"])


def _call(name: str, *arguments: Any, **options: Any) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    return name, arguments, options


def _are_messages(value: object) -> bool:
    """Return whether a channel holds messages of LangChain's."""
    if not isinstance(value, list):
        return False
    kind = import_module("langchain_core.messages").BaseMessage
    return all(isinstance(each, kind) for each in value)  # pyright: ignore[reportUnknownVariableType]


def _begin(said: Sequence[Any], former: Sequence[Any]) -> bool:
    """Return whether a list begins with another."""
    return len(said) >= len(former) and all(one is two or one == two for one, two in zip(said, former, strict=False))
