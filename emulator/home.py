"""The emulator's home on disk: where things lie, reading and editing the fleet, and the locks between processes.

Standard library only: `npu-smi` has to answer at once.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from emulator.fleet import Fault, FaultKind, Fleet, FleetFileError

ENVIRONMENT_VARIABLE: Final = "NPUQ_EMULATOR_HOME"


class Home:
    """One emulator home, for example `Home(Path("/tmp/npus"))`; see the module's docstring."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._seen: tuple[tuple[int, int, int], Fleet] | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """Return the home that the launchers name; raises FleetFileError when there is none."""
        root = os.environ.get(ENVIRONMENT_VARIABLE)
        if not root:
            raise FleetFileError(
                f"{ENVIRONMENT_VARIABLE} is not set: run the programs in HOME/bin and the module in HOME/python, "
                "which `python -m emulator install --home HOME --cards N` writes"
            )
        return cls(Path(root))

    @property
    def fleet_path(self) -> Path:
        """Return the file that describes the fleet."""
        return self.root / "fleet.json"

    @property
    def diary_path(self) -> Path:
        """Return the file in which everything that happens on a chip is noted."""
        return self.root / "diary.jsonl"

    @property
    def processes_path(self) -> Path:
        """Return the folder with one record per use of device memory."""
        return self.root / "processes"

    def fleet(self) -> Fleet:
        """Return the fleet as the file says now; raises FleetFileError."""
        try:
            status = self.fleet_path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._seen is None or self._seen[0] != stamp:
                self._seen = (stamp, Fleet.from_json(json.loads(self.fleet_path.read_text("utf-8"))))
        except (OSError, ValueError) as error:
            raise FleetFileError(
                f"cannot read {self.fleet_path}: {error}; run `python -m emulator install --home {self.root} --cards N`"
            ) from error
        return self._seen[1]

    def write_fleet(self, fleet: Fleet) -> None:
        """Replace the fleet file at once, so that no reader sees half of it."""
        temporary = self.fleet_path.with_name(f".fleet.{os.getpid()}.json")
        temporary.write_text(json.dumps(fleet.to_json(), indent=2) + "\n", "utf-8")
        temporary.replace(self.fleet_path)

    def edit(self, change: Callable[[Fleet], Fleet]) -> Fleet:
        """Apply a change to the fleet file under its lock and return the new fleet."""
        with self.locked("fleet"):
            before = self.fleet()
            after = change(before)
            if after != before:
                self.write_fleet(after)
        return after

    def take_fault(self, logic_id: int | None, kind: FaultKind) -> Fault | None:
        """Return the fault of a chip (None: of the host) that strikes now; of a counted one, a strike is used up."""
        if self.fleet().fault(logic_id, kind) is None:
            return None
        taken: list[Fault] = []

        def strike(fleet: Fleet) -> Fleet:
            fault = fleet.fault(logic_id, kind)
            if fault is None:
                return fleet
            taken.append(fault)
            return fleet.struck(fault)

        self.edit(strike)
        return taken[0] if taken else None

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a lock of this home, against threads and processes alike; the kernel frees it when the holder dies."""
        path = self.root / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def is_locked(self, name: str) -> bool:
        """Return whether somebody holds a lock of this home at this instant; does not wait for it."""
        try:
            with (self.root / "locks" / f"{name}.lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False
