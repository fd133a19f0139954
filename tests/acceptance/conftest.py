"""Fleets that tests share, each of two emulated chips that really compute."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from tasks.demo_data import make_demo
from tests.fleet.fleet import Fleet, FleetPlan
from tests.fleet.laptop import Laptop, Person

PICTURES: Final = 24


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """Return a fleet with a person at it."""
    folder = tmp_path_factory.mktemp("recipe")
    demo = make_demo(folder / "demo", classes=4, train=16, val=PICTURES)
    with Fleet(folder / "home", FleetPlan(chips=2, service_ms=None)) as fleet:
        found = Laptop(fleet, demo, folder)
        found.add_dataset("demo", demo.dataset_root)
        yield found


@pytest.fixture(scope="session")
def detecting() -> Iterator[Person]:
    """Return a person at a fleet for the detectors, which gives both chips something of a few pictures.

    Its home goes with it: a detector's files have hundreds of megabytes.
    """
    plan = FleetPlan(chips=2, service_ms=None, least_shard=1)
    with TemporaryDirectory(prefix="detecting") as folder, Fleet(Path(folder) / "home", plan) as fleet:
        yield Person(fleet)
