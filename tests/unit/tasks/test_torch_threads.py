"""Torch's threads must not spin: on shared cores a few seconds of work become minutes."""

import subprocess
import sys
from pathlib import Path

import pytest

from npuq.entry import INSTALLATION

#: Stands in torch's way and says what its OpenMP would have read.
WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch with", os.environ.get("OMP_WAIT_POLICY"))
            raise ImportError("not here")
sys.meta_path.insert(0, Watch())
"""

DEMO = """
from pathlib import Path
from tasks.demo_data import make_demo
make_demo(Path(sys.argv[1]) / "demo", classes=2, train=4, val=4)
"""

EXPORT = """
from pathlib import Path
from npuq.states import JobKind
from tasks import export
from tests.unit.tasks.recording_context import host_context
weights = Path(sys.argv[1]) / "weights.pth"
weights.touch()
export.run(host_context(JobKind.EXPORT, Path(sys.argv[1]), inputs={"weights": (weights,)}))
"""


@pytest.mark.parametrize("steps", [DEMO, EXPORT], ids=["demo", "export"])
def test_torch_is_never_loaded_before_its_threads_are_told_to_sleep(steps: str, tmp_path: Path) -> None:
    """OpenMP reads the variable when it is loaded; later is too late."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(INSTALLATION), "NPUQ_HOME": str(tmp_path)}
    command = [sys.executable, "-c", WATCH + steps, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split("\n")[0] == "torch with PASSIVE", done.stderr
