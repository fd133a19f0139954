"""A person at the command line of a running fleet, with the demo's data."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cli.documents import job_document, result_document
from db import job_queries
from emulator import diary
from npuq.entry import INSTALLATION
from npuq.states import JobKind, RunState
from tasks.demo_data import DATASET_FORMAT, RECIPE, DemoFiles
from tests.fleet.fleet import Fleet

LIMIT_SECONDS: Final = 90.0


@dataclass(frozen=True)
class Person:
    """A person at the command line of a running fleet."""

    fleet: Fleet

    def npuq(
        self, *arguments: str, code: int = 0, limit_seconds: float = LIMIT_SECONDS
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command; it must exit with `code`."""
        done = self.fleet.npuq(*arguments, limit_seconds=limit_seconds)
        assert done.returncode == code, f"npuq {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def read(self, *arguments: str) -> Any:
        """Run a reading command and return what it says."""
        return json.loads(self.npuq(*arguments, "-o", "json").stdout)

    def wait(self, run_id: str, code: int = 0, limit_seconds: float = LIMIT_SECONDS) -> None:
        """Wait until a run is over; it must end with `code`."""
        if code == 0:  # the common case, without a program to be started
            run = self.fleet.client.wait(run_id, timeout_seconds=limit_seconds)
            assert run.state is RunState.SUCCEEDED, (run.state, run.reason)
            return
        self.npuq(
            "wait", run_id, "--timeout", f"{limit_seconds:g}s", code=code, limit_seconds=limit_seconds + LIMIT_SECONDS
        )

    def evaluate_at(self, batch_sizes: Sequence[int], recipe: str, weights: Path, dataset: str, *options: str) -> str:
        """Evaluate at batch sizes; returns the run's id when it has succeeded."""
        command = ("submit", "evaluate", recipe, "--weights", str(weights), "--dataset", dataset, *options)
        run_id = self.npuq(*command, "--batch-sizes", ",".join(map(str, batch_sizes)), "-o", "name").stdout.strip()
        self.wait(run_id)
        return run_id

    def jobs(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        """Return the jobs of one kind, as `npuq jobs list -o json` has them."""
        with self.fleet.client.database.read() as connection:
            return [job_document(job) for job in job_queries.find(connection, run_id=run_id, kind=JobKind(kind))]

    def accuracies(self, run_id: str) -> list[dict[str, Any]]:
        """Return the accuracy results of a run, as `npuq results list -o json` has them."""
        return [result_document(result) for result in self.fleet.client.results(run_id) if result.kind == "accuracy"]

    def accuracy(self, run_id: str) -> dict[str, Any]:
        """Return the one accuracy result of a run."""
        (result,) = self.accuracies(run_id)
        return result


@dataclass(frozen=True)
class Laptop(Person):
    """A person with the demo's data."""

    demo: DemoFiles
    folder: Path

    def submit(self, goal: str, *options: str) -> str:
        """Submit a run of the recipe; returns its id."""
        return self.npuq("submit", goal, RECIPE, *options, "-o", "name").stdout.strip()

    def evaluate(self, dataset: str = "demo", weights: Path | None = None, *options: str) -> str:
        """Submit an evaluation at batch size 1; returns the run's id."""
        return self.submit("evaluate", "--weights", str(weights or self.demo.weights), "--dataset", dataset, *options)

    def add_dataset(self, name: str, root: Path) -> None:
        """Register a dataset."""
        self.npuq("datasets", "add", name, str(root), "--format", DATASET_FORMAT)

    def emulator(self, *arguments: str) -> None:
        """Steer the emulated chips."""
        command = [sys.executable, "-m", "emulator", *arguments, "--home", str(self.fleet.emulator_home)]
        subprocess.run(command, cwd=INSTALLATION, check=True, capture_output=True, timeout=LIMIT_SECONDS)

    def executions(self, kind: str, job_ids: set[str]) -> list[dict[str, Any]]:
        """Return the diary's entries of one kind for some jobs."""
        entries = diary.read(self.fleet.emulator_home / "diary.jsonl")
        return [
            entry
            for entry in entries
            if entry["event"] == kind and any(f"/{job_id}." in (entry["cwd"] or "") for job_id in job_ids)
        ]
