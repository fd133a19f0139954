import json
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.home import Home
from emulator.occupancy import DeviceMemoryError, claim, occupants


def _record(home: Home) -> Path:
    (path,) = home.processes_path.glob("*.json")
    return path


def test_memory_is_counted_per_chip(home: Home) -> None:
    """What is held on one chip leaves the other free; given back, it can be taken again."""
    first, second = home.fleet().chips
    free_mb = first.memory_total_mb - first.memory_idle_mb
    held = claim(home, first, free_mb)
    with pytest.raises(DeviceMemoryError):
        claim(home, first, 1)
    claim(home, second, free_mb).release()
    held.release()
    claim(home, first, free_mb).release()


def test_a_dead_process_holds_nothing(home: Home) -> None:
    """A process that ended without giving back is forgotten, and its record cleared away."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from emulator.home import Home\n"
        "from emulator.occupancy import claim\n"
        "home = Home(Path(sys.argv[1]))\n"
        "claim(home, home.fleet().chips[0], 10)\n"
        "os._exit(0)\n"
    )
    checkout = str(Path(__file__).resolve().parents[3])
    subprocess.run([sys.executable, "-c", script, str(home.root)], env={"PYTHONPATH": checkout}, check=True)
    assert _record(home).exists()
    assert occupants(home) == []
    assert list(home.processes_path.iterdir()) == []


def test_a_reused_pid_is_another_process(home: Home) -> None:
    """Same number, other start time: the memory is free."""
    claim(home, home.fleet().chips[0], 10)
    path = _record(home)
    path.write_text(json.dumps({**json.loads(path.read_text()), "start_ticks": 1}))
    assert occupants(home) == []
