"""The screen of `browse`: a list of conversations, a search, and a transcript."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import WorkerCancelled, get_current_worker  # pyright: ignore[reportUnknownVariableType]

from pyai_sessions.cli.finding import found_messages, messages_around, newest
from pyai_sessions.cli.output import counted, inert, one_line
from pyai_sessions.cli.times import shown

if TYPE_CHECKING:
    from pyai_sessions import Message, Session, SessionManager, SessionSummary

_LISTED = 200
_SHOWN = 200
"""Sessions of the list, and messages of the transcript: the newest."""

_WIDTH = 37
"""Cells of a line in the list, so that it is not wrapped."""

_COLOURS = {"user": "bold cyan", "assistant": "bold green", "tool": "bold yellow", "system": "bold magenta"}


class Opened(NamedTuple):
    """A conversation that is shown, or a part of it.

    Attributes:
        session: The session.
        earlier: The messages before the one that a search has found; none if it was not found by a message.
        messages: That message and those after it, or all that are shown.

    """

    session: Session
    earlier: Sequence[Message]
    messages: Sequence[Message]


class Searched(NamedTuple):
    """What a search has found.

    Attributes:
        text: What was searched for.
        stored: What tells whether something was stored since.
        found: The sessions, each with the message that is shown first; None: the newest ones are shown.

    """

    text: str
    stored: object
    found: Mapping[str, str | None]


class Browser(App[None]):
    """Shows the conversations of a manager, as they are now, and every *interval* seconds.

    A conversation that a search has found is shown from the message found on; what was said before is above it. It
    searches when a person who types makes a *pause* of so many seconds: a search of a large store takes some.
    """

    TITLE = "pyai-sessions"
    CSS = """
    #left { width: 42; border-right: solid $panel; }
    #list { height: 1fr; border: none; }
    #about { color: $text-muted; height: auto; padding: 0 1; }
    #earlier, #transcript { padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "move(1)", "Next"),
        Binding("k", "move(-1)", "Previous"),
        Binding("slash", "search", "Search"),
        Binding("escape", "list", "List"),
        Binding("r", "read", "Read anew"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(self, manager: SessionManager, *, interval: float = 2.0, pause: float = 0.2) -> None:
        super().__init__()
        self._manager = manager
        self._interval = interval
        self._pause = pause
        self._typing: Timer | None = None
        self._text = ""
        self._searched: Searched | None = None
        self._listed: list[str] = []
        self._found: Mapping[str, str | None] = {}
        self._revision: object = None

    def compose(self) -> ComposeResult:
        """Make the screen."""
        with Horizontal():
            with Vertical(id="left"):
                yield Input(placeholder="Search", id="search")
                yield OptionList(id="list")
            with Vertical():
                yield Static(id="about")
                with VerticalScroll(id="scroll"):
                    yield Static(id="earlier")
                    yield Static(id="transcript")
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        self.query_one("#list").focus()
        self._read()
        self.set_interval(self._interval, self._read_again)

    # What a person does --------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        """Choose the next conversation, or the one before."""
        options = self.query_one("#list", OptionList)
        (options.action_cursor_down if by > 0 else options.action_cursor_up)()

    def action_search(self) -> None:
        """Go to the search."""
        self.query_one("#search").focus()

    def action_list(self) -> None:
        """Go back to the list."""
        self.query_one("#list").focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search for what is typed, soon."""
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(self._pause, partial(self._search_for, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search now, and go to what is found."""
        self._search_for(event.value)
        self.action_list()

    def _search_for(self, text: str) -> None:
        if self._typing is not None:
            self._typing.stop()
            self._typing = None
        self._text = text
        self._read()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show the conversation that is chosen."""
        if event.option_id is not None:
            self._open(self._listed[int(event.option_id)])

    def _open(self, session_id: str) -> None:
        self._revision = None
        self._load(session_id, self._found.get(session_id))

    def on_option_list_option_selected(self) -> None:
        """Go to the transcript, to scroll in it."""
        self.query_one("#scroll").focus()

    def action_read(self) -> None:
        """Read the list anew, and the conversation that is shown; search again, too."""
        self._read(anew=True)

    def _read(self, *, anew: bool = False) -> None:
        if not self.query("#list"):  # the screen is gone
            return
        self._list(self._text, anew)
        options = self.query_one("#list", OptionList)
        if options.highlighted is not None and options.highlighted < len(self._listed):
            chosen = self._listed[options.highlighted]
            self._load(chosen, self._found.get(chosen))

    def _read_again(self) -> None:
        """Read anew what has changed since, unless a person is typing.

        A read that is still at work goes on: it would never end otherwise.
        """
        if self._typing is None and not any(not each.is_finished for each in self.workers):
            self._read()

    # What is read, in a thread of its own, so that the screen answers ----------------------------------------------

    @work(thread=True, exclusive=True, group="list")
    def _list(self, text: str, anew: bool) -> None:
        from pyai_sessions import SessionError

        try:
            searched = self._search(text, anew) if text.strip() else None
            found = None if searched is None else searched.found
            listed = newest(self._manager, _stop_if_cancelled)
            fitting = (each for each in listed if found is None or each.session_id in found)
            shown = list(islice(fitting, _LISTED if found is None else len(found)))
            self._tell_screen(self._show_list, (shown, searched))
        except WorkerCancelled:
            pass
        except SessionError as err:
            self._tell_screen(self._tell, str(err))

    def _search(self, text: str, anew: bool) -> Searched:
        """Search, unless the search before was the same and nothing was stored since. *anew* does so all the same.

        A session is shown from the same message while the text is the same, though another fits better by now.
        """
        last = [(each.session_id, each.active_at) for each in self._manager.list_sessions(limit=1, skip_invalid=True)]
        stored = self._manager.count(), last
        known = self._searched
        if known is None or anew or known.text != text:
            return Searched(text, stored, found_messages(self._manager, text, _stop_if_cancelled))
        if known.stored == stored:
            return known
        found = found_messages(self._manager, text, _stop_if_cancelled)
        return Searched(text, stored, {**found, **{each: known.found[each] for each in found if each in known.found}})

    @work(thread=True, exclusive=True, group="session")
    def _load(self, session_id: str, message_id: str | None) -> None:
        from pyai_sessions import SessionError

        try:
            self._tell_screen(self._show, self._opened(session_id, message_id))
        except SessionError as err:
            self._tell_screen(self._tell, str(err))

    def _opened(self, session_id: str, message_id: str | None) -> Opened | None:
        """Return the newest messages of a session, or those around the one that a search has found."""
        from pyai_sessions import ANYONE, SessionStateError

        session = self._manager.get_session(session_id, last=_SHOWN)
        if session is None:
            return None
        messages: Sequence[Message] = session.messages
        if message_id is not None and all(each.message_id != message_id for each in messages):
            try:
                messages = messages_around(self._manager, session_id, message_id, _SHOWN, ANYONE)
            except SessionStateError:  # it was removed after the search
                message_id = None
        place = next((n for n, each in enumerate(messages) if each.message_id == message_id), 0)
        return Opened(session, messages[:place], messages[place:])

    def _tell_screen(self, show: Callable[[Any], None], found: Any) -> None:
        """Show what a thread has read, unless something else was asked for meanwhile, or the screen is gone."""
        worker: Any = get_current_worker()  # pyright: ignore[reportUnknownVariableType]

        def show_if_there() -> None:
            if not worker.is_cancelled and self.query("#list"):
                show(found)

        if not worker.is_cancelled and self.is_running:
            self.call_from_thread(show_if_there)

    # What is shown -------------------------------------------------------------------------------------------------

    def _show_list(self, found: tuple[list[SessionSummary], Searched | None]) -> None:
        options = self.query_one("#list", OptionList)
        summaries, self._searched = found
        messages: Mapping[str, str | None] = {} if self._searched is None else self._searched.found
        ids = [each.session_id for each in summaries]
        rows = [_row(each) for each in summaries]
        chosen = self._listed[options.highlighted] if options.highlighted is not None and self._listed else None
        known, self._found = self._found, messages
        if ids == self._listed:
            for n, row in enumerate(rows):
                options.replace_option_prompt_at_index(n, row)
            if chosen is not None and known.get(chosen) != messages.get(chosen):
                self._open(chosen)
            return
        self._listed = ids
        options.clear_options()
        options.add_options([Option(row, id=str(n)) for n, row in enumerate(rows)])
        if ids:
            options.highlighted = ids.index(chosen) if chosen in ids else 0
        else:
            self._tell("Nothing fits." if self._text else "There are no sessions.")

    def _show(self, opened: Opened | None) -> None:
        if opened is None or opened.session.revision == self._revision:
            return
        session, earlier, messages = opened
        scroll = self.query_one("#scroll", VerticalScroll)
        is_new, at_end = self._revision is None, scroll.scroll_offset.y >= scroll.max_scroll_y
        self._revision = session.revision
        whose = "of no user" if session.user_id is None else f"of {inert(session.user_id)}"
        shown = len(earlier) + len(messages)
        part = f", {shown:,} of them shown" if shown < session.message_count else ""
        count = counted(session.message_count, "message")
        about = f"{inert(session.session_id)}, {whose}, {session.status}, {count}{part}"
        self.query_one("#about", Static).update(Text(about))
        before, transcript = self.query_one("#earlier", Static), self.query_one("#transcript", Static)
        before.display = bool(earlier)
        before.update(transcript_of(earlier))
        transcript.update(transcript_of(messages))
        if is_new:
            self.call_after_refresh(scroll.scroll_to_widget, transcript, top=True, animate=False)
        elif at_end:
            scroll.scroll_end(animate=False)

    def _tell(self, text: str) -> None:
        self._revision = None
        self.query_one("#about", Static).update(Text(one_line(text)))
        for name in ("#earlier", "#transcript"):
            self.query_one(name, Static).update(Text())


def _stop_if_cancelled(_: int) -> None:
    """Raise in a thread whose result nobody waits for, since a person typed something else, or quit."""
    if get_current_worker().is_cancelled:
        raise WorkerCancelled


def _row(summary: SessionSummary) -> Text:
    title = Text(one_line(summary.title) if summary.title else inert(summary.session_id))
    whose = inert(summary.user_id or "")
    about = Text(f"{shown(summary.active_at)}  {counted(summary.message_count, 'message')}  {whose}", "dim")
    for line in (title, about):
        line.truncate(_WIDTH, overflow="ellipsis")
    return Text("\n").join([title, about])


def transcript_of(messages: Sequence[Message]) -> Text:
    """Return messages as text in colours. What was said is inert, and no markup of it is taken as such."""
    from pyai_sessions import Session

    made = Text()
    for line in Session(messages=messages).transcript(zone="local").split("\n") if messages else ():
        heading = line[:1].strip() and not line.startswith("(")
        made.append(f"{line}\n", _COLOURS.get(line.split(",")[0].split(" ")[0], "bold") if heading else "")
    return made
