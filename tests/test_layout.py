"""The package's order: which module may import which, how large one may be, what an import costs."""

import ast
import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pyai_sessions

PACKAGE = Path(pyai_sessions.__file__).parent

# A wing, which is a folder or a module of the package itself, imports only from those before it.
WINGS = [
    "errors",
    "events",
    "concurrency",
    "values",
    "storage",
    "prompts",
    "model",
    "documents",
    "encryption",
    "sessions",
    "upkeep",
    "search",
    "stores",
    "manager",
    "awaiting",
    "aio",
    "",
    "testing",
    "cli",
    "__main__",
    "integrations",
]

MODULES = sorted(["pyai_sessions", *(each.name for each in pkgutil.walk_packages([str(PACKAGE)], "pyai_sessions."))])


def source_of(module):
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def text_of(module):
    return source_of(module).read_text(encoding="utf-8")


@cache
def nodes_of(module):
    return list(ast.walk(ast.parse(text_of(module))))


def short(module):
    return module.removeprefix("pyai_sessions").removeprefix(".")


@cache
def imports_of(module):
    """Return the modules that a module imports, lazily or not; `from a import b` gives a.b where b is a module."""
    package = module if source_of(module).name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in nodes_of(module):
        if isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parts, *([node.module] if node.module else [])])
            names = {f"{origin}.{each.name}" for each in node.names}
            found.update(names & set(MODULES) or {origin})
    return frozenset(found)


def ours_of(module):
    """Return the modules of the package that a module imports."""
    return {each for each in imports_of(module) if each.split(".")[0] == "pyai_sessions"}


def wing_of(module):
    return short(module).partition(".")[0]


def test_imports_go_in_one_direction():
    """A module imports only from its own wing and those before it, also within functions."""
    place = {wing: n for n, wing in enumerate(WINGS)}
    assert set(map(wing_of, MODULES)) == set(WINGS)

    imports = {(module, each) for module in MODULES for each in ours_of(module)}

    assert not {(by, each) for by, each in imports if place[wing_of(each)] > place[wing_of(by)]}


def test_the_command_line_uses_what_users_use():
    """The program imports only public names."""
    ours = set().union(*[ours_of(each) for each in MODULES if wing_of(each) == "cli"])

    assert {each for each in ours if wing_of(each) != "cli"} <= {"pyai_sessions", "pyai_sessions.errors"}


def test_an_adapter_of_a_framework_works_over_public_names():
    """An adapter imports only public names, formats and values, and no other adapter or storage."""
    shared = {"", "integrations.differences", "integrations.langchain"}
    for module in (each for each in MODULES if wing_of(each) == "integrations"):
        ours = {short(each) for each in ours_of(module) if wing_of(each) not in ("prompts", "values")}
        own = ".".join(short(module).split(".")[:2])

        assert {each for each in ours if not f"{each}.".startswith(f"{own}.")} <= shared


def test_no_two_modules_need_each_other():
    """No two modules import each other."""
    needs = {each: imports_of(each).intersection(MODULES) - {each} for each in MODULES}

    assert set(TopologicalSorter(needs).static_order()) == set(MODULES)


def test_a_module_is_read_in_one_sitting():
    """No file has more than 500 lines."""
    assert not [each for each in MODULES if text_of(each).count("\n") > 500]


RUNNING = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"}


def test_nothing_is_unpickled():
    """No module imports what could run code that a file or a server holds."""
    assert not [each for each in MODULES if {name.split(".")[0] for name in imports_of(each)} & RUNNING]
    names = {node.id for module in MODULES for node in nodes_of(module) if isinstance(node, ast.Name)}
    assert not names & {"eval", "exec", "__import__"}


def test_sql_has_no_numbered_parameters():
    """No SQL has `?1` for a parameter: Python 3.12.0 to 3.12.3 warn of it, and a warning may be an error."""
    assert not [each for each in MODULES if re.search(r"\?\d", text_of(each))]


def test_a_module_says_what_it_is():
    """Every module has a docstring."""
    assert not [each for each in MODULES if not importlib.import_module(each).__doc__]


def imported_by(statement):
    """Return the names of the modules that a fresh Python has after a statement, and had not before."""
    show = "print(json.dumps(sorted(set(sys.modules) - before)))"
    code = f"import sys, json; before = set(sys.modules); {statement}; {show}"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


HEAVY = {
    "sqlite3", "redis", "valkey", "diskcache", "diskcache_community", "sqlitedict", "shelve", "dbm",
    "hypothesis", "pytest", "nltk", "numpy", "zict", "cachetools", "cryptography", "zstandard",
}  # fmt: skip


def test_an_import_is_light():
    """`import pyai_sessions` imports no client, framework or test kit."""
    assert not imported_by("from pyai_sessions import SessionManager, Session, Message") & HEAVY


def test_an_import_alone_imports_nothing():
    """A module is imported when one of its names is used first, so `pyai-sessions --help` is fast."""
    imported = imported_by("import pyai_sessions")

    assert {each for each in imported if each.startswith("pyai_sessions")} == {"pyai_sessions"}
    assert not imported & {"msgspec", "dataclasses_json", "marshmallow"}


def test_each_public_name_is_found_where_type_checkers_find_it():
    """A type checker and a program find each public name in the same module."""
    checked = {
        alias.name: node.module
        for node in nodes_of("pyai_sessions")
        if isinstance(node, ast.ImportFrom) and node.module.startswith("pyai_sessions.")
        for alias in node.names
    }

    assert checked == pyai_sessions._HOMES
    assert set(checked) == set(pyai_sessions.__all__)


def test_an_import_needs_no_event_loop():
    """`SessionManager` does not import asyncio."""
    assert "asyncio" not in imported_by("from pyai_sessions import SessionManager") - imported_by(
        "import dataclasses_json, msgspec"
    )


@pytest.mark.parametrize(
    ("statement", "needed"),
    [
        ("import pyai_sessions; pyai_sessions.SessionManager({}).create_session('u')", set()),
        ("import pyai_sessions; pyai_sessions.SQLiteSessionStore(':memory:').close()", {"sqlite3"}),
        ("import pyai_sessions; pyai_sessions.RedisSessionStore().close()", {"redis"}),
        ("import pyai_sessions; pyai_sessions.Encrypted({}, {'a': bytes(32)})", {"cryptography"}),
    ],
)
def test_a_store_imports_its_own_client_alone(statement, needed):
    """A store imports only its own client."""
    imported = imported_by(statement)

    assert needed <= imported
    assert not (imported & {"sqlite3", "redis", "valkey", "diskcache", "sqlitedict", "zstandard"}) - needed


def test_no_hint_installs_this_package_by_its_name():
    """No hint says to install this package, whose name may be a stranger's until it is published."""
    hints = [each for module in MODULES for each in text_of(module).splitlines() if "pip install" in each]

    assert [each for each in hints if "pyai" in each.partition("pip install")[2]] == []


def test_a_public_name_is_documented():
    """Each public name has its own docstring."""
    words = {name: getattr(pyai_sessions, name).__doc__ for name in pyai_sessions.__all__}

    # A dataclass or an Enum makes up one that begins with its name.
    assert not [name for name, text in words.items() if not text or text.startswith(f"{name}(")]


def test_the_public_names_are_in_order():
    """The public names are sorted and unique."""
    assert sorted(set(pyai_sessions.__all__)) == sorted(pyai_sessions.__all__)


def test_an_unknown_name_is_an_attribute_error():
    """An unknown name raises AttributeError."""
    with pytest.raises(AttributeError, match="has no attribute 'SessionManger'"):
        pyai_sessions.SessionManger  # noqa: B018


@pytest.mark.parametrize("module", [each for each in MODULES if ">>> " in text_of(each)])
def test_the_examples_in_docstrings_are_right(module, tmp_path, monkeypatch):
    """Every doctest runs and prints what it shows."""
    monkeypatch.chdir(tmp_path)

    result = doctest.testmod(
        importlib.import_module(module), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )

    assert result.failed == 0


def test_there_are_examples_in_docstrings():
    """There are examples for the test above."""
    examples = [
        len(each.examples)
        for module in MODULES
        for each in doctest.DocTestFinder().find(importlib.import_module(module))
    ]

    assert sum(examples) > 10
