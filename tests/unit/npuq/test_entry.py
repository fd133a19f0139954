import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

from npuq.entry import INSTALLATION, OUR_PACKAGES

PROBE = """
import sys
sys.path.insert(0, {installation!r})
from npuq.entry import pin_own_packages
del sys.path[0]
pin_own_packages()
import {name}
print({name}.__file__)
"""


def imported_from(name: str, *, cwd: Path, environment: Mapping[str, str]) -> Path:
    """Return the file that another program imports under a name of ours."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(installation=str(INSTALLATION), name=name)],
        cwd=cwd,
        env={"PATH": "/usr/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return Path(done.stdout.strip())


def test_a_module_in_the_current_directory_does_not_shadow_ours(tmp_path: Path) -> None:
    """People have files called `tasks.py`."""
    (tmp_path / "tasks.py").write_text("raise SystemExit('the wrong tasks')")
    assert imported_from("tasks", cwd=tmp_path, environment={}).is_relative_to(INSTALLATION / "tasks")


def test_a_package_on_a_vendors_path_does_not_shadow_ours(tmp_path: Path) -> None:
    """CANN puts folders on PYTHONPATH; our packages still come from our installation, and so do their modules."""
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "__init__.py").write_text("raise SystemExit('the wrong db')")
    found = imported_from("db.engine", cwd=tmp_path, environment={"PYTHONPATH": str(tmp_path)})
    assert found == INSTALLATION / "db" / "engine.py"


def test_every_package_of_ours_is_pinned() -> None:
    """A folder that is shipped and not pinned could be shadowed."""
    folders = {path.parent.name for path in INSTALLATION.glob("*/__init__.py")}
    assert folders <= OUR_PACKAGES | {"tests", "benchmarks"}


def test_no_other_distribution_writes_our_packages() -> None:
    """Two distributions that install the same top-level name overwrite each other."""
    owners = packages_distributions()
    assert {name: owners[name] for name in OUR_PACKAGES if name in owners and set(owners[name]) != {"npuq"}} == {}


ENDING = """
import atexit, gc, sys
sys.path.insert(0, sys.argv[1])
from npuq.entry import search_garbage_seldom
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # handlers run from the last one to the first
search_garbage_seldom()
print(gc.get_freeze_count() > 0)
"""


def test_a_process_searches_for_garbage_until_it_ends_and_then_no_more() -> None:
    """Other exit handlers run as ever."""
    command = [sys.executable, "-c", ENDING, str(INSTALLATION)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["False", "True"]
