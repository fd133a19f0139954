"""Fleets that tests share, each of two emulated chips that really compute."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from tasks.demo_data import make_demo
from tests.fleet.fleet import Fleet, FleetPlan
from tests.fleet.laptop import Laptop, Person

PICTURES: Final = 24


class SharedFleets:
    """Ends a fleet after the last test that asks for it: an idle one takes a tenth of a core from all that follow."""

    _FIXTURES: Final = ("laptop", "detecting")

    def __init__(self) -> None:
        self._waiting: dict[str, set[str]] = {}
        self._running: dict[str, ExitStack] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note who will ask; `tests.spread` sends all of them to one process."""
        for name in self._FIXTURES:
            self._waiting[name] = {item.nodeid for item in session.items if name in getattr(item, "fixturenames", ())}

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """End what nobody waits for any more."""
        for name, waiting in self._waiting.items():
            waiting.discard(item.nodeid)
            if not waiting and name in self._running:
                self._running.pop(name).close()

    def running(self, name: str) -> ExitStack:
        """Return what is closed with a fixture, which closes it, too, where its last test never came."""
        return self._running.setdefault(name, ExitStack())


_SHARED_FLEETS: Final = SharedFleets()


def pytest_configure(config: pytest.Config) -> None:
    """Have the fleets end in time."""
    config.pluginmanager.register(_SHARED_FLEETS)


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """Return a fleet with a person at it."""
    folder = tmp_path_factory.mktemp("recipe")
    demo = make_demo(folder / "demo", classes=4, train=16, val=PICTURES)
    with _SHARED_FLEETS.running("laptop") as until_the_last:
        fleet = until_the_last.enter_context(Fleet(folder / "home", FleetPlan(chips=2, service_ms=None)))
        found = Laptop(fleet, demo, folder)
        found.add_dataset("demo", demo.dataset_root)
        yield found


@pytest.fixture(scope="session")
def detecting() -> Iterator[Person]:
    """Return a person at a fleet for the detectors, which gives both chips something of a few pictures.

    Its home goes with it: a detector's files have hundreds of megabytes.
    """
    plan = FleetPlan(chips=2, service_ms=None, least_shard=1)
    with _SHARED_FLEETS.running("detecting") as until_the_last:
        folder = until_the_last.enter_context(TemporaryDirectory(prefix="detecting"))
        yield Person(until_the_last.enter_context(Fleet(Path(folder) / "home", plan)))
