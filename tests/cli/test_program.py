"""The program itself: its exit codes, its help, what it does to a store that is not there, and to a broken pipe."""

import importlib.util
import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from pyai_sessions import SessionManager
from pyai_sessions.cli import exporting, main
from pyai_sessions.cli.app import COMMANDS, app, run

PROGRAM = [sys.executable, "-W", "error", "-m", "pyai_sessions"]
NAMES = [name for commands in COMMANDS.values() for name in commands]


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_help_with_examples_and_the_options_of_all(cli, name):
    """`--help` describes the command and its call, in the same words as the list of commands."""
    ran = cli(name, "--help")
    command = app.get_command(None, name)

    assert ran.code == 0
    assert "Examples:\n    pyai-sessions " in ran.out
    for option in ("--store", "--json", "--keys"):
        assert option in ran.out
    assert command.help
    assert command.name == name


def test_the_help_names_every_command_and_every_exit_code(cli):
    """One page tells what the program can do, and how a script knows how it went."""
    ran = cli("--help")

    assert ran.code == 0
    for each in [*NAMES, "Exit codes", "130"]:
        assert each in ran.out


def test_help_imports_little():
    """Help is printed at once: nothing of the library, of rich or of a storage is loaded for it."""
    code = (
        "import sys; from pyai_sessions.cli.app import run; run(['--help']);"
        "print([each for each in ('msgspec', 'rich', 'dateparser', 'sqlite3', 'redis') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_the_program_is_installed_and_a_module():
    """`pyai-sessions` and `python -m pyai_sessions` are the same."""
    installed = [str(Path(sys.executable).with_name("pyai-sessions")), "--version"]

    assert subprocess.check_output(installed) == subprocess.check_output([*PROGRAM, "--version"])


def test_without_its_packages_the_program_says_what_to_install(monkeypatch):
    """In a plain install the program says which packages to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("click", "rich") else name)

    with pytest.raises(SystemExit, match=r"pip install click rich$"):
        main()


@pytest.mark.parametrize(
    "url", ["nowhere.db", "sqlite:///nowhere.db", "diskcache://nowhere", "sqlite:///deep/nowhere.db?namespace=a"]
)
def test_looking_makes_no_store(cli, tmp_path, url):
    """A mistyped path makes no file and no folder, and is reported."""
    for command in ("ls", "show", "stats", "peek"):
        ran = cli(command, "--store", url)

        assert ran.code == 4
        assert "nowhere" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_looking_leaves_a_folder_as_it_was(cli, store, tmp_path):
    """After a command that only reads, no log of SQLite is left."""
    before = {each.name: each.stat().st_mtime_ns for each in tmp_path.iterdir()}

    for command in ("ls", "show", "stats", "peek", "verify"):
        assert cli(command, "--store", store).code == 0

    assert {each.name: each.stat().st_mtime_ns for each in tmp_path.iterdir()} == before


def test_without_a_store_the_text_says_how_one_is_named(cli):
    """Without a store, the text says how to name one. `sessions.db` is found by itself."""
    assert cli("ls").code == 2
    assert "PYAI_SESSIONS_STORE" in cli("ls").err

    with SessionManager("sqlite:///sessions.db") as manager:
        manager.create_session("ada", session_id="s")

    assert cli("ls", "--json").json["sessions"][0]["session_id"] == "s"


def test_a_password_in_a_url_is_never_shown(cli):
    """No output and no error shows a URL's password."""
    for url in ("redis://:hunter2@127.0.0.1:1/0", "redis://user:hunter2@127.0.0.1:1/x", "nothing://user:hunter2@host"):
        ran = cli("ls", "--store", url)

        assert ran.code in (2, 4)
        assert "hunter2" not in ran.out + ran.err


def test_an_error_is_json_where_json_is_asked_for(cli, store):
    """A script reads what went wrong, on standard error."""
    ran = cli("show", "nobody", "--json")

    assert (ran.code, ran.out) == (3, "")
    assert json.loads(ran.err)["error"] == {
        "type": "NotFoundError",
        "message": "there is no session 'nobody'; `pyai-sessions ls` lists them",
        "exit_code": 3,
    }
    assert store


@pytest.mark.parametrize("arguments", [["ls", "--since", "blurb"], ["fly"], ["show", "--last", "0"], ["ls", "--what"]])
def test_wrong_usage_is_code_2(cli, arguments):
    """Wrong usage exits with 2, and names the mistake."""
    ran = cli(*arguments)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["search", "--mode", "regex", "("], "--mode substring looks for text"),
        (["search", " "], "or list sessions with `pyai-sessions ls`"),
        (["title", "trip", ""], "or give --clear for no title of its own"),
        (["backup", "broken.jsonl"], "give --overwrite"),
        (["show", "hostile"], "`pyai-sessions verify --repair` sets aside what cannot be read"),
        (["copy", "chat.db", "copy.db"], "`pyai-sessions verify --repair` sets aside what cannot be read"),
        (["copy", "chat.db", "copy.db", "--skip-invalid"], "`pyai-sessions verify --repair` sets"),
        (["copy", "chat.db", "copy.db", "--skip-invalid", "--json"], "`pyai-sessions verify --repair` sets"),
        (["chat", "old"], "`pyai-sessions restore` makes it active again"),
        (["import", "broken.jsonl"], "line 1 is a damaged document, 'session/s', not a session\n"),
        (["import", "broken.jsonl", "--strict"], "line 1 is a damaged document, 'session/s', not a session\n"),
    ],
)
def test_the_advice_of_an_error_can_be_typed(cli, store, arguments, advice):
    """An error of the library names options as they are typed on the command line, not as Python writes them."""
    with SessionManager(store) as manager:
        manager.store.mapping["session/hostile"] = "{"
    Path("broken.jsonl").write_text('{"key": "session/s", "document": "{"}\n', "utf-8")

    ran = cli(*arguments)

    assert ran.code != 0
    assert advice in ran.out + ran.err
    assert "=True" not in ran.out + ran.err


class Terminal(io.StringIO):
    """A terminal of a person, as far as it is written to."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (["stats"], 4),
        (["stats", "--messages", "--user", "ada"], 2),
        (["stats", "--since", "2026-01-07"], 2),
        (["export", "-o", "all.jsonl"], 4),
        (["export", "--user", "ada", "-f", "html", "-o", "site/"], 2),
        (["reindex"], 4),
        (["verify"], 4),
        (["search-index"], 4),
        (["copy", "chat.db", "copy.db"], 4),
    ],
)
def test_the_bar_of_work_that_is_done_is_full(cli, store, monkeypatch, arguments, number):
    """A bar ends with as many as were done, of as many, whatever was chosen and whether the number was known before."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", terminal)

    assert cli(*arguments).code == 0

    assert f"{number}/{number}" in terminal.getvalue()
    assert store


def test_no_colour_is_shown_to_a_person_who_wants_none(store, monkeypatch):
    """NO_COLOR leaves bold, for hits as for headings."""
    for no_color, bold in (("", "\x1b[1;31m"), ("1", "\x1b[1m")):
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr(sys, "stdout", Terminal())
        assert run(["search", "vienna"]) == 0
        assert f"to {bold}Vienna\x1b[0m?" in sys.stdout.getvalue()
    assert store


def test_no_bar_stands_between_the_lines_of_an_export(cli, store, monkeypatch):
    """There is no bar where the export itself goes to the terminal."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(exporting.sys, "stdout", terminal)

    assert cli("export").code == 0

    assert [json.loads(each)["format"] for each in terminal.getvalue().splitlines()] == [1] * 4
    assert store


def test_ctrl_c_while_the_program_starts_is_quiet(monkeypatch, capsys):
    """Ctrl-C that comes while modules are still being imported ends the program as it does later."""

    class Interrupted:
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "pyai_sessions.cli.app", Interrupted())

    assert main() == 130
    assert capsys.readouterr().err.startswith("Interrupted")


def test_a_redis_server_is_looked_at(cli, valkey_server):
    """The commands work with a Redis URL."""
    url = f"{valkey_server.url}?prefix=cli:"
    with SessionManager(url) as manager:
        manager.create_session("ada", session_id="s", title="On a server")

    assert "On a server" in cli("ls", "--store", url).out
    assert cli("peek", "--store", url).out == "session/s\n"
    assert cli("stats", "--store", url, "--json").json["stored_bytes"] is None


def test_shells_complete_commands():
    """The completion script and its answers work."""
    environment = os.environ | {
        "_PYAI_SESSIONS_COMPLETE": "bash_complete",
        "COMP_WORDS": "pyai-sessions s",
        "COMP_CWORD": "1",
    }
    program = str(Path(sys.executable).with_name("pyai-sessions"))
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)

    assert {"plain,show", "plain,stats"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "begin", "found"),
    [
        (["show"], "", {"empty", "hostile", "trip", "old"}),
        (["rm", "trip"], "h", {"hostile"}),
        (["search", "--session"], "tr", {"trip"}),
        (["show", "--store", "chat.db"], "o", {"old"}),
        (["--store", "chat.db", "show"], "o", {"old"}),
        (["show", "--store", "nowhere.db"], "", set()),
    ],
)
def test_shells_complete_sessions(store, monkeypatch, words, begin, found):
    """The ids of the newest sessions complete what names a session, also where the store is named before."""
    if "--store" in words:
        monkeypatch.delenv("PYAI_SESSIONS_STORE")
    shell = BashComplete(app, {}, "pyai-sessions", "_PYAI_SESSIONS_COMPLETE")

    assert store
    assert {each.value for each in shell.get_completions(words, begin)} == found


@pytest.mark.parametrize(
    "arguments", [["ls", "--json", "-n", "0"], ["show", "s0", "--follow", "--json", "--interval", "0.05"]], ids=" ".join
)
def test_a_broken_pipe_is_quiet(tmp_path, arguments):
    """A command whose reader is gone, such as `head`, ends without an error, also where it waits for messages."""
    with SessionManager(f"sqlite:///{tmp_path}/chat.db") as manager:
        manager.import_sessions({"session_id": f"s{n}", "metadata": {"x": "y" * 9000}} for n in range(50))
    process = subprocess.Popen(
        [*PROGRAM, *arguments, "--store", "chat.db"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.readline()
    process.stdout.close()

    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["export"], "the output cannot be written: No space left on device"),
        (["ls", "-n", "0"], "the output cannot be written: No space left on device"),
        (["export", "-o", "all.jsonl"], "all.jsonl cannot be written: File too large (the folder .)"),
        (["export", "--format", "html", "-o", "site/"], "the output cannot be written: File too large"),
    ],
)
def test_a_full_disk_is_named_and_leaves_no_half_of_a_file(tmp_path, arguments, error):
    """A device that is full, and a file that may not grow, end a command with what cannot be written."""
    with SessionManager(f"sqlite:///{tmp_path}/chat.db") as manager:
        manager.import_sessions({"session_id": f"s{n}", "metadata": {"x": "y" * 9000}} for n in range(50))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [*PROGRAM, *arguments, "--store", "chat.db"],
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False, preexec_fn=limit,
        )  # fmt: skip

    assert ran.returncode == 1
    assert ran.stderr.startswith("Error: ")
    assert ran.stderr.endswith(f"{error}\n")
    assert not list(tmp_path.glob("**/*.jsonl"))
    assert not list(tmp_path.glob("**/.*"))


def test_follow_shows_messages_as_they_are_stored_until_ctrl_c(tmp_path):
    """`--follow` prints new messages of a session. Ctrl-C ends it with the exit code of an interruption."""
    with SessionManager(f"sqlite:///{tmp_path}/chat.db") as manager:
        manager.create_session("ada", session_id="s")
        process = subprocess.Popen(
            [*PROGRAM, "show", "s", "--follow", "--json", "--interval", "0.05", "--store", "chat.db"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (a job of a shell ignores it)
        )  # fmt: skip
        watchdog = threading.Timer(300, process.kill)  # a machine may be busy
        watchdog.start()
        assert json.loads(process.stdout.readline())["session"]["session_id"] == "s"
        for text in ("Hello!", "Are you there?"):
            manager.append("s", {"role": "user", "content": text})
            assert json.loads(process.stdout.readline())["message"]["content"] == text
        process.send_signal(signal.SIGINT)

        _, errors = process.communicate()
        watchdog.cancel()
    assert process.returncode == 130
    assert errors.strip().startswith("Interrupted")
