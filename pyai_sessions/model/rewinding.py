"""Going back in a conversation: checkpoints, rewinds, and the branches that rewinds leave behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from pyai_sessions.errors import InvalidValueError, SessionStateError
from pyai_sessions.model.branches import MAX_BRANCHES, check_branch, line_of, stored_of
from pyai_sessions.model.conversation import PARTIAL
from pyai_sessions.model.history import History, Line
from pyai_sessions.model.points import Branch, Checkpoint
from pyai_sessions.model.prompting import Prompting
from pyai_sessions.prompts.windows import is_users
from pyai_sessions.values.checks import check_id, counted, shown
from pyai_sessions.values.json import plain_object
from pyai_sessions.values.messages import Message


class Rewinding(Prompting):
    """The part of `Session` that goes back to earlier points of its conversation."""

    state: dict[str, Any]
    checkpoints: list[Checkpoint]

    @property
    def branches(self) -> list[Branch]:
        """The newest 32 branches that rewinds left, oldest first. ``manager.switch`` continues one, `prune` removes it.

        They stay in the store: `to_dict` contains only those that were left since the session was loaded, or that a
        custom store gave.
        """
        return [each.branch for each in self._history.branches]

    def checkpoint(self, name: str) -> Checkpoint:
        """Remember this point of the conversation, state included, under *name*, and return it.

        A checkpoint of the same name is replaced.
        """
        name = check_id(name, "name")
        log = self._history.log
        last = log[-1].message_id if log else None
        made = Checkpoint(name, self.message_count, last, plain_object(self.state, "state"), self._history.clock())
        self.checkpoints = [each for each in self.checkpoints if each.name != name] + [made]
        self.touch()
        return made

    def rewind(self, to: str | int | Checkpoint | Message) -> Branch | None:
        """Go back to a point of the conversation; return the messages after it as a branch, or None if there are none.

        *to* is a checkpoint or its name: the state becomes what it was then. Or it is a message or its id: that becomes
        the last message. Or it is a number of turns to remove; a turn begins with a user's message. The branch stays in
        `branches` until `prune`, or until 32 newer ones exist; ``manager.switch`` continues it.

        Raises:
            InvalidValueError: There is no such checkpoint or message.
            SessionStateError: The messages before the checkpoint were changed, or there are fewer turns, or the point
                is not in the loaded part of the session.

        """
        to = to.message_id if isinstance(to, Message) else to
        found = to if isinstance(to, Checkpoint) else None
        if isinstance(to, str):
            found = next((each for each in self.checkpoints if each.name == to), None)
        elif found is not None and found not in self.checkpoints:
            raise InvalidValueError("to", f"is {shown(found)}, none of session.checkpoints; give one of those")
        if found is not None:
            keep = self._kept_by(found)
        elif isinstance(to, str):
            keep = self._kept_up_to(to)
        else:
            keep = self._kept_without(cast("int", to))
        branch = None
        if keep < len(self._history.log):
            branch = leave(self, self._history)
            self._rewrite(keep, [])
        count = self.message_count
        self.checkpoints = [each for each in self.checkpoints if each.message_count <= count]
        if found is not None:
            self.state = plain_object(found.state, "state")
            self._history.added_to.clear()
        self.touch()
        return branch

    def _kept_by(self, checkpoint: Checkpoint) -> int:
        """Return how many loaded messages precede a checkpoint."""
        log, unloaded = self._history.log, self._history.unloaded
        keep = checkpoint.message_count - unloaded
        if unloaded and keep <= 0:
            raise SessionStateError(self.session_id, PARTIAL)
        if keep > len(log) or (keep and log[keep - 1].message_id != checkpoint.last_message_id):
            raise SessionStateError(self.session_id, f"no longer has the history of checkpoint {checkpoint.name!r}")
        return keep

    def _kept_up_to(self, message_id: str) -> int:
        index = self._history.find(message_id)
        if index is not None:
            return index + 1
        names = ", ".join(repr(each.name) for each in self.checkpoints) or "none"
        partly = f"; it {PARTIAL}" if self._history.unloaded else ""
        raise InvalidValueError(
            "to", f"is {shown(message_id)}, no id of a message; the session's checkpoints are: {names}{partly}"
        )

    def _kept_without(self, turns: int) -> int:
        if isinstance(turns, bool) or not isinstance(turns, int) or turns < 0:
            raise InvalidValueError("to", f"is {shown(turns)}; it is a checkpoint, a message id, or a number of turns")
        log = self._history.log
        begins = [n for n, each in enumerate(log) if is_users(each)]
        if turns > len(begins):
            problem, remedy = f"has {counted(len(begins), 'turn')}, not {shown(turns)}", "give at most so many"
            if not begins and log:
                roles = ", ".join(sorted({repr(each.role) for each in log}))
                problem += f": a message of the role 'user' begins one, and its roles are {roles}"
                remedy = "give the last message to keep, or its id"
            remedy = f"it {PARTIAL}" if self._history.unloaded else remedy
            raise SessionStateError(self.session_id, f"{problem}; {remedy}")
        return begins[-turns] if turns else len(log)

    def prune(self, branch: str | Branch | None = None) -> None:
        """Remove a branch, given by itself or by its id, or all branches; saving the session frees their storage."""
        branches = self._history.branches
        gone = branches if branch is None else [line_of(self._history, check_branch(branch), self.session_id)]
        self._history.branches = [each for each in branches if each not in gone]
        self.touch()


def leave(session: Rewinding, history: History) -> Branch:
    """Add the conversation as it is now to the branches of a session, and return that branch."""
    last = history.log[-1].message_id if history.log else None
    branch = Branch(history.count, last, history.clock())
    values = {
        "state": plain_object(session.state, "state"),
        "checkpoints": list(session.checkpoints),
        "summary": session.summary,
    }
    left = replace(history, log=list(history.log), edits=dict(history.edits), branches=[])
    history.branches = [*history.branches, Line(stored_of(branch), left=left, values=values)][-MAX_BRANCHES:]
    return branch
