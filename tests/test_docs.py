"""Tests of the README and docs/: each block runs and prints what the page shows, and every name exists."""

import builtins
import re
import sys

import pytest

import pyai_sessions
from pyai_sessions import AsyncSessionManager, Session, SessionManager
from pyai_sessions.values.codec import Document
from tests.guide import FENCE, INDEX, LINK, ROOT, blocks_of, packages_of, pages, run_block, text_of

PAGES = pages()
OTHERS = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
ONCE = [blocks_of(ROOT / "docs" / page)[0].code for page in ("tutorial.md", "how-to/move-in.md")]
"""Programs that run once: the page says so, or it is the old program of the reader that made a table."""
BASES = {"SessionError", "SessionStateError", "StorageError"}


def name_of(path):
    return str(path.relative_to(ROOT))


def check(block, page, folder, url):
    """Run a block. It must succeed, write nothing to standard error, and print what the page shows."""
    code, output, errors = run_block(block, folder, url)

    assert (code, errors) == (0, ""), f"{name_of(page)}:{block.line}"
    return output


@pytest.mark.parametrize("page", [each for each in PAGES if blocks_of(each)], ids=name_of)
def test_the_blocks_of_a_page_run_in_order_in_one_folder(page, tmp_path, valkey_server):
    """The blocks of a page run from top to bottom in an empty folder, and print what the page shows.

    Those that open a file run a second time over what they kept, as a reader does who tries them again.
    """
    for block in blocks_of(page):
        output = check(block, page, tmp_path, valkey_server.url.removesuffix("/0"))

        assert output == block.output, f"{name_of(page)}:{block.line}"
    for block in blocks_of(page):
        if ".db" in block.code and block.code not in ONCE:
            check(block, page, tmp_path, valkey_server.url.removesuffix("/0"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_block_is_of_a_kind_that_is_checked(page):
    """Programs run, `text` is what they print; of `console` tests/cli/test_documented.py runs the commands.

    A program that needs a framework is `py`: tests/integrations/frameworks runs it. Nothing else stands between
    fences, and no output without a program.
    """
    kinds = [kind for kind, _ in FENCE.findall(text_of(page))]
    outputs = [block.output for block in blocks_of(page) if block.output]

    others = {"command-line": {"console"}, "frameworks": {"py"}}.get(page.stem, set())
    assert set(kinds) <= {"python", "text"} | others
    assert kinds.count("text") == len(outputs) + kinds.count("py")


def anchors_of(page):
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name_of)
def test_each_link_leads_somewhere(page):
    """Each link leads to a file of the checkout, and to a heading in it if it names one."""
    for link in LINK.findall(text_of(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page

        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_index_names_every_page():
    """The index names each page."""
    assert sorted(INDEX.parent.rglob("*.md")) == sorted(PAGES[1:])


def test_the_readme_is_short():
    """The README has at most 200 lines."""
    assert len(text_of(PAGES[0]).splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_names_exists(page):
    """Each method, error and public name that a page writes as code exists."""
    text = text_of(page)
    for name in re.findall(r"`(\w+Error)`", text):
        assert hasattr(pyai_sessions, name) or hasattr(builtins, name), name
    for of, name in re.findall(r"`(?:await )?(manager|session)\.(\w+)", text):
        assert hasattr(SessionManager if of == "manager" else Session, name) or name in Session.__annotations__, name
    for name in re.findall(r"`([A-Z]\w+)\(", text):
        assert hasattr(pyai_sessions, name) or name in KNOWN, name


KNOWN = {"SqliteDict", "Cache", "Index", "RedisCluster", "Sentinel", "TypeAdapter"}


def test_the_reference_lists_every_method():
    """The tables of the reference list every public method."""
    text = text_of(ROOT / "docs" / "reference" / "methods.md")
    for kind, prefix in ((SessionManager, "manager"), (Session, "session")):
        ours = [each for each in kind.__mro__ if each.__module__.startswith("pyai_sessions.") and each is not Document]
        names = {name for each in ours for name in vars(each)} - vars(Document).keys()
        public = {name for name in names if not name.startswith("_") and callable(getattr(kind, name))}
        shown = set(re.findall(rf"`{prefix}\.(\w+)", text))

        assert public - shown == set(), prefix
    assert {name for name in vars(AsyncSessionManager) if name[0] != "_"} <= set(dir(SessionManager))


def test_the_reference_lists_every_error():
    """Each exception has a row that says what to do."""
    rows = re.findall(r"^\| `(\w+Error)`", text_of(ROOT / "docs" / "reference" / "errors.md"), re.MULTILINE)

    assert sorted(rows) == sorted(name for name in pyai_sessions.__all__ if name.endswith("Error"))


def test_each_make_goal_that_is_named_exists():
    """Each `make` goal that a page names is in the Makefile."""
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for page in [*PAGES, *OTHERS]:
        named = set(re.findall(r"(?:^    |`)make ((?:[a-z-]+ ?)+)", text_of(page), re.MULTILINE))

        assert {goal for line in named for goal in line.split()} <= goals, name_of(page)


def test_a_page_says_what_to_install():
    """A page has a `pip install` line for each package that its blocks import and the library does not bring."""
    brought = {"pyai_sessions", "redis", "diskcache", "sqlitedict"}
    for page in PAGES:
        for block in blocks_of(page):
            imported = set(re.findall(r"^(?:from|import) (\w+)", block.code, re.MULTILINE))
            needed = {each for each in imported - brought if each not in sys.stdlib_module_names}
            if "Encrypted(" in block.code:
                needed.add("cryptography")

            assert needed <= set(packages_of(page)), f"{name_of(page)}:{block.line}"


@pytest.mark.parametrize(("number", "db"), [(2, "agent.db"), (3, "async-agent.db")])
def test_the_loops_of_the_readme_keep_the_question_of_an_agent_that_fails(number, db, tmp_path):
    """The README's loops store the question if the agent fails, and make one session of concurrent calls."""
    block = blocks_of(PAGES[0])[number - 1]
    failing = block._replace(code=block.code.replace('return f"I read', 'raise ConnectionError(f"I read'))
    failing = failing._replace(code=failing.code.replace('messages."', 'messages.")'))

    code, _, errors = run_block(failing, tmp_path, "redis://nowhere")

    assert (code, errors.splitlines()[-1][:15]) == (1, "ConnectionError")
    with SessionManager(f"sqlite:///{tmp_path / db}") as manager:
        [session] = manager.get_sessions_for_user("ada")
    assert {each.content for each in session.messages} <= {"Hello!", "Are you there?"}
    assert {each.role for each in session.messages} == {"user"}
