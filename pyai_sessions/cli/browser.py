"""The screen of `browse`: a list of conversations, a search, and a transcript."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import WorkerCancelled, get_current_worker  # pyright: ignore[reportUnknownVariableType]

from pyai_sessions.cli.finding import found_ids, newest
from pyai_sessions.cli.output import counted, inert, one_line
from pyai_sessions.cli.times import shown

if TYPE_CHECKING:
    from pyai_sessions import Session, SessionManager, SessionSummary

_LISTED = 200
_SHOWN = 200
"""Sessions of the list, and messages of the transcript: the newest."""

_WIDTH = 37
"""Cells of a line in the list, so that it is not wrapped."""

_COLOURS = {"user": "bold cyan", "assistant": "bold green", "tool": "bold yellow", "system": "bold magenta"}


class Browser(App[None]):
    """Shows the conversations of a manager, as they are now, and every *interval* seconds.

    It searches when a person who types makes a *pause* of so many seconds: a search of a large store takes some.
    """

    TITLE = "pyai-sessions"
    CSS = """
    #left { width: 42; border-right: solid $panel; }
    #list { height: 1fr; border: none; }
    #about { color: $text-muted; height: auto; padding: 0 1; }
    #transcript { padding: 0 1; }
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
        self._searched: tuple[object, set[str]] | None = None
        self._listed: list[str] = []
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
        self._revision = None
        if event.option_id is not None:
            self._load(self._listed[int(event.option_id)])

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
            self._load(self._listed[options.highlighted])

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
            found = self._search(text, anew) if text.strip() else None
            listed = newest(self._manager, _stop_if_cancelled)
            fitting = (each for each in listed if found is None or each.session_id in found)
            self._tell_screen(self._show_list, list(islice(fitting, _LISTED if found is None else len(found))))
        except WorkerCancelled:
            pass
        except SessionError as err:
            self._tell_screen(self._tell, str(err))

    def _search(self, text: str, anew: bool) -> set[str]:
        """Return the ids of what is found: unless *anew*, what the same search found, if nothing was stored since."""
        last = [(each.session_id, each.active_at) for each in self._manager.list_sessions(limit=1, skip_invalid=True)]
        asked = (text, self._manager.count(), last)
        known = self._searched
        if anew or known is None or known[0] != asked:
            known = self._searched = asked, set(found_ids(self._manager, text, _stop_if_cancelled))
        return known[1]

    @work(thread=True, exclusive=True, group="session")
    def _load(self, session_id: str) -> None:
        from pyai_sessions import SessionError

        try:
            self._tell_screen(self._show, self._manager.get_session(session_id, last=_SHOWN))
        except SessionError as err:
            self._tell_screen(self._tell, str(err))

    def _tell_screen(self, show: Callable[[Any], None], found: Any) -> None:
        """Show what a thread has read, unless something else was asked for meanwhile, or the screen is gone."""

        def show_if_there() -> None:
            if self.query("#list"):
                show(found)

        if not get_current_worker().is_cancelled and self.is_running:
            self.call_from_thread(show_if_there)

    # What is shown -------------------------------------------------------------------------------------------------

    def _show_list(self, found: list[SessionSummary]) -> None:
        options = self.query_one("#list", OptionList)
        ids = [each.session_id for each in found]
        rows = [_row(each) for each in found]
        if ids == self._listed:
            for n, row in enumerate(rows):
                options.replace_option_prompt_at_index(n, row)
            return
        chosen = self._listed[options.highlighted] if options.highlighted is not None and self._listed else None
        self._listed = ids
        options.clear_options()
        options.add_options([Option(row, id=str(n)) for n, row in enumerate(rows)])
        if ids:
            options.highlighted = ids.index(chosen) if chosen in ids else 0
        else:
            self._tell("Nothing fits." if self._text else "There are no sessions.")

    def _show(self, session: Session | None) -> None:
        if session is None or session.revision == self._revision:
            return
        scroll = self.query_one("#scroll", VerticalScroll)
        goes_on = self._revision is not None and scroll.scroll_offset.y >= scroll.max_scroll_y
        self._revision = session.revision
        whose = "of no user" if session.user_id is None else f"of {inert(session.user_id)}"
        count = counted(session.message_count, "message")
        about = f"{inert(session.session_id)}, {whose}, {session.status}, {count}"
        self.query_one("#about", Static).update(Text(about))
        self.query_one("#transcript", Static).update(transcript_of(session))
        (scroll.scroll_end if goes_on else scroll.scroll_home)(animate=False)

    def _tell(self, text: str) -> None:
        self._revision = None
        self.query_one("#about", Static).update(Text(one_line(text)))
        self.query_one("#transcript", Static).update(Text())


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


def transcript_of(session: Session) -> Text:
    """Return a conversation as text in colours. What was said is inert, and no markup of it is taken as such."""
    made = Text()
    for line in session.transcript(zone="local").split("\n"):
        heading = line[:1].strip() and not line.startswith("(")
        made.append(f"{line}\n", _COLOURS.get(line.split(",")[0].split(" ")[0], "bold") if heading else "")
    return made
