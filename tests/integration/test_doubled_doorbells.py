"""One attempt runs once, however often its doorbell rings, also in a worker that does several things at once."""

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from db.artifacts import ArtifactStore
from npuq.config import Settings
from npuq.messages import RunAttempt
from npuq.states import JobKind, JobState
from tasks.steps import StepOutcome
from tests.services.world import SLOT, World
from worker.child import EndResult
from worker.runner import Runner

TIMEOUT_SECONDS = 20.0


class SilentSender:
    """A broker that nobody listens to."""

    def wake(self) -> None:
        """Tell nobody."""


@dataclass
class PatientChild:
    """A child whose step lasts until the test lets it end."""

    loaded: tuple[str, ...] = ()
    started: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    def run(self, *_arguments: Any) -> StepOutcome:
        """Work until told otherwise."""
        self.started.set()
        assert self.may_end.wait(TIMEOUT_SECONDS)
        return StepOutcome()

    def end(self, _grace_seconds: float) -> EndResult:
        """Be gone."""
        return EndResult.GONE


@pytest.fixture
def children() -> list[PatientChild]:
    """Return the children that were asked for, in order."""
    return []


@pytest.fixture
def runner(sqlite_world: World, settings: Settings, children: list[PatientChild]) -> Runner:
    """Return the runner of a host worker."""

    def child(_assignment: object) -> Any:
        children.append(PatientChild())
        return children[-1]

    store = ArtifactStore(settings.store, settings.home / "cache")
    sender: Any = SilentSender()
    return Runner(settings, sqlite_world.database, store, sender, [SLOT], child)


def test_a_doorbell_that_rings_during_its_attempt_changes_nothing(
    runner: Runner, sqlite_world: World, children: list[PatientChild]
) -> None:
    """The claim once recognised the worker's own token: a second thread ran the attempt again in the same folder."""
    placed = sqlite_world.job(JobState.DISPATCHED, JobKind.CONVERT, device_id=SLOT)
    payload = RunAttempt(job_id=placed.job_id, attempt=placed.attempt).model_dump()
    first = threading.Thread(target=runner.handle, args=(payload,))
    first.start()
    while not children:
        first.join(0.01)
    assert children[0].started.wait(TIMEOUT_SECONDS)
    second = threading.Thread(target=runner.handle, args=(payload,))
    second.start()
    second.join(TIMEOUT_SECONDS)
    assert not second.is_alive()
    assert len(children) == 1
    children[0].may_end.set()
    first.join(TIMEOUT_SECONDS)
    assert sqlite_world.state(placed) is JobState.SUCCEEDED
