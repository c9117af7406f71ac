"""Python environments with the library, its dependencies and chosen extras."""

import shutil
import subprocess
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

import pyai_sessions

PACKAGE = Path(pyai_sessions.__file__).parent
DEPENDENCIES = ("dataclasses-json", "diskcache", "marshmallow", "msgspec", "redis", "sqlitedict", "typing-extensions")


def make_environment(folder: Path, *extras: str) -> Path:
    """Return the Python of a new environment in *folder* with the library, its dependencies and *extras*.

    The dependencies are links to those of the running environment, so nothing is downloaded.
    """
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-I", "-c", show], capture_output=True, encoding="utf-8", check=True)
    site = Path(done.stdout.strip())
    # A copy: type checkers would check the target of a link as the user's own code.
    shutil.copytree(PACKAGE, site / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for each in closure([*DEPENDENCIES, *extras]):
        for source in top_level_files(each):
            site.joinpath(source.name).symlink_to(source)
    return python


def closure(names: list[str]) -> list[Distribution]:
    """Return these distributions and everything that they need."""
    found: dict[str, Distribution] = {}
    while names:
        name = names.pop().lower().replace("_", "-")
        if name not in found:
            found[name] = distribution(name)
            for line in found[name].requires or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                    names.append(needed.name)
    return list(found.values())


def top_level_files(each: Distribution) -> set[Path]:
    """Return a distribution's folders and modules in its site-packages."""
    tops = {Path(file).parts[0] for file in each.files or ()} - {"..", "__pycache__"}
    return {Path(str(each.locate_file(top))) for top in tops}


def run_code(python: Path, code: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run a program with an environment's Python, and return the finished process."""
    command = [str(python), "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, **options)
