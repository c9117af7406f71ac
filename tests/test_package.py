"""Tests of an installed package: names, versions and types, with and without optional packages."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyai_sessions
from pyai_sessions import Encrypted, MissingPackageError
from tests.environments import make_environment, run_code

pytestmark = pytest.mark.wide

SCRIPT = Path(__file__).with_name("typed_script.py")
EXTRAS = ("cryptography", "zstandard", "pytest", "hypothesis")


@pytest.fixture(scope="session")
def full_python(tmp_path_factory):
    """Return the Python of an environment with all optional packages."""
    return make_environment(tmp_path_factory.mktemp("full") / "environment", *EXTRAS)


@pytest.fixture(params=["plain_python", "full_python"])
def python(request):
    """Return each of both Pythons in turn."""
    return request.getfixturevalue(request.param)


def printed(python, code, **options):
    """Return a program's output. It must succeed without a warning."""
    done = run_code(python, code, **options)

    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_plain_environment_lacks_the_optional_packages(plain_python):
    """The plain environment has no optional package, as the tests below assume."""
    for name in EXTRAS:
        assert "ModuleNotFoundError" in run_code(plain_python, f"import {name}").stderr


def test_a_star_import_gives_all_public_names(python):
    """`from pyai_sessions import *` works in a plain install, and imports no optional package."""
    code = "from pyai_sessions import *; import sys; print(sorted(globals())); print('cryptography' in sys.modules)"

    names, optional = printed(python, code).splitlines()

    assert set(ast.literal_eval(names)) >= set(pyai_sessions.__all__)
    assert optional == "False"


def test_each_public_name_can_be_asked_for(python):
    """`hasattr` is true for each public name and false for others, in both installs."""
    code = "import pyai_sessions as p; print(all(hasattr(p, each) for each in p.__all__), hasattr(p, 'Encryption'))"

    assert printed(python, code) == "True False\n"


@pytest.mark.parametrize("before", ["", "p.Encrypted, p.RedisMapping;", "from pyai_sessions import testing;"])
def test_dir_shows_the_public_names_and_no_others(full_python, before):
    """`dir` shows exactly the public names, before and after one is used."""
    code = (
        f"import pyai_sessions as p; {before} print([each for each in dir(p) if each[0] != '_'] == sorted(p.__all__))"
    )

    assert printed(full_python, code) == "True\n"


def test_the_version_is_the_distribution_s(python):
    """`__version__` equals the version of the built wheel."""
    assert printed(python, "import pyai_sessions as p; print(p.__version__)") == f"{pyai_sessions.__version__}\n"
    root = Path(__file__).parents[1]
    assert 'path = "pyai_sessions/__init__.py"' in root.joinpath("pyproject.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("code", "install"),
    [
        ("p.Encrypted({}, {'a': bytes(32)})", "pip install cryptography"),
        ("import pyai_sessions.testing", "pip install pytest hypothesis"),
    ],
)
def test_a_missing_package_is_named_when_it_is_needed(plain_python, code, install):
    """The error is our own and an ImportError, and says what to install."""
    done = run_code(plain_python, f"import pyai_sessions as p; {code}")

    last = done.stderr.splitlines()[-1]
    assert last.startswith("pyai_sessions.errors.MissingPackageError: ")
    assert last.endswith(install)
    assert issubclass(MissingPackageError, ImportError)


def test_compression_without_its_package_is_told_when_the_store_is_opened(monkeypatch):
    """A missing package for compression raises when the store is opened."""
    monkeypatch.setitem(sys.modules, "zstandard", None)

    with pytest.raises(MissingPackageError, match=r"pip install zstandard$") as caught:
        Encrypted({}, {"a": bytes(32)}, compress=True)

    assert (caught.value.packages, caught.value.name) == (("zstandard",), "zstandard")


def test_help_begins_with_what_to_look_at_first(python):
    """The first screen of `help(pyai_sessions)` names the classes to begin with."""
    page = printed(python, "import pydoc, pyai_sessions as p; print(pydoc.plain(pydoc.render_doc(p)))")

    first_screen = "\n".join(page.splitlines()[:30])
    for name in ("SessionManager", "AsyncSessionManager", "Session.add_message", "SQLiteSessionStore", "open_store"):
        assert name in first_screen


def mypy(python, script, text):
    """Run strict mypy on a script with an environment's packages, and return its output."""
    script.write_text(text, "utf-8")  # outside of the checkout, whose package would be found first
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", python]
    done = subprocess.run(
        [*command, "--cache-dir", script.with_suffix(""), script],
        cwd=script.parent,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return done.stdout + done.stderr


def test_a_user_s_script_passes_mypy(python, tmp_path):
    """A script that uses the main classes passes ``mypy --strict`` in both installs."""
    said = mypy(python, tmp_path / "script.py", SCRIPT.read_text("utf-8"))

    assert said == "Success: no issues found in 1 source file\n"


def test_a_user_s_mistake_is_found_by_mypy(plain_python, tmp_path):
    """mypy finds a wrong argument, a wrong name and a missing await."""
    text = """from pyai_sessions import *
SessionManager().create_session(user_id=1)
SessionManager().sav
async def chat(manager: AsyncSessionManager) -> int:
    return manager.count('ada')
Encrypted({}, 'secret')
"""

    said = mypy(plain_python, tmp_path / "script.py", text)

    found = re.findall(r":(\d+): error: .*\[([a-z-]+)\]$", said, re.MULTILINE)
    assert found == [("2", "arg-type"), ("3", "attr-defined"), ("5", "return-value"), ("6", "arg-type")], said


def test_the_script_runs(python, tmp_path):
    """The script of the type checkers runs."""
    code = f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"

    assert len(printed(python, code, cwd=tmp_path).splitlines()) == 18
