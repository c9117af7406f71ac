"""`browse`: the conversations of a store on the whole screen of a terminal."""

from __future__ import annotations

from pyai_sessions.cli.errors import missing
from pyai_sessions.cli.settings import Settings, command


@command(examples="browse\nbrowse --store chat.db")
def browse(settings: Settings) -> None:
    """Look through conversations: a list, and the transcript of the one that is chosen.

    Keys: j and k or the arrows choose, / searches as you type, Enter goes to the transcript, Escape back, r reads
    anew, q ends. What others store meanwhile appears by itself. Needs the package textual.
    """
    with missing("browse", "textual"):
        from pyai_sessions.cli.browser import Browser

    with settings.reading() as manager:
        Browser(manager).run()
