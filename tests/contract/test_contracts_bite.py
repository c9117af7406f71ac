"""Broken mappings and stores, each of which must fail its contract."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.wide

ROOT = Path(__file__).parents[2]
BROKEN = Path(__file__).with_name("broken")
"""A folder of modules with the contracts of broken classes, each of which is run as a test file."""
OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull]

# For each broken class, run the rule that catches it; without an entry run all rules up to the first failure.
# For sound classes run every rule that catches something. Other files run the whole contract on their like.
CAUGHT_BY = json.loads(Path(__file__).with_name("caught_by.json").read_text("utf-8"))
"""By kind, the rule that catches each broken class. Sound classes have no entry."""

FIRST_FAILURE_IS_ENOUGH = """
    import json
    from pathlib import Path

    import pytest

    rules = json.loads(Path(__file__).with_name("rules.json").read_text())
    failed = set()

    def pytest_collection_modifyitems(items):
        wanted = [(each, rules.get(each.parent.name.removeprefix("Test"))) for each in items]
        items[:] = [each for each, names in wanted if names is None or each.originalname in names]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(item, call):
        report = (yield).get_result()
        if report.failed:
            failed.add(item.cls)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(item, nextitem):
        if item.cls not in failed:
            return None
        item.session._setupstate.teardown_exact(nextitem)  # as the end of a test that ran does
        return True
"""


def run(folder, module, rules):
    """Run a module of contract classes, and only these *rules* if given.

    Return by class how many tests passed, failed and ended in an error.
    """
    (folder / "rules.json").write_text(json.dumps(rules))
    (folder / "conftest.py").write_text(textwrap.dedent(FIRST_FAILURE_IS_ENOUGH))
    (folder / "test_broken.py").write_text((BROKEN / module).read_text("utf-8"), "utf-8")
    report = folder / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, "--rootdir", folder, "--junitxml", report, folder],
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # 1: tests ran, some failed
    counts = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 (pytest wrote it, just now)
        name = case.get("classname").rpartition(".Test")[2]
        found = next((each.tag for each in case if each.tag in ("failure", "error", "skipped")), "passed")
        counts.setdefault(name, dict.fromkeys(("passed", "failure", "error", "skipped"), 0))[found] += 1
    return counts


@pytest.mark.parametrize(
    ("kind", "module", "sound"),
    [
        ("mapping", "mappings.py", ["Sound"]),
        ("store", "stores.py", ["SoundMapping", "SoundManager"]),
        ("custom", "custom.py", ["Sound", "SoundAsync"]),
        ("powers", "powers.py", ["Sound"]),
    ],
    ids=["mapping", "store", "custom", "powers"],
)
def test_what_is_broken_fails_its_contract_and_what_is_sound_passes(tmp_path, kind, module, sound):
    """Each broken class fails a rule, without an error of its fixtures. Sound classes fail none."""
    catching = CAUGHT_BY[kind]
    rules = {name: [rule] for name, rule in catching.items()} | dict.fromkeys(sound, sorted({*catching.values()}))
    counts = run(tmp_path, module, rules)

    assert counts.keys() >= rules.keys()
    assert [name for name, each in counts.items() if not each["failure"]] == sound
    assert [name for name, each in counts.items() if each["error"]] == []
