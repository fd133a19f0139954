from collections.abc import Iterator
from pathlib import Path

import pytest

from worker import device_process
from worker.device_process import LoadedModels


class FakeSession:
    """A loaded model."""

    def __init__(self) -> None:
        self.clock_is_coarse = False
        self.closed = False

    def close(self) -> None:
        """Note it."""
        self.closed = True


class FakeRuntime:
    """Loads anything."""

    def __init__(self, *_: object) -> None:
        self.read_output = object()

    def open(self, model: Path) -> FakeSession:
        """Return a new session."""
        del model
        return FakeSession()

    def finalize(self) -> None:
        """Do nothing."""


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadedModels]:
    """The models of a chip whose runtime loads anything."""
    monkeypatch.setattr(device_process, "AclRuntime", FakeRuntime)
    loaded = LoadedModels(0)
    yield loaded
    loaded.close()


def test_a_measurement_loads_a_model_with_a_coarse_clock_anew(models: LoadedModels) -> None:
    """Nobody else does, and it stays loaded afterwards."""

    def get(*, sharp_clock: bool) -> object:
        return models.get("0" * 64, Path("m.om"), lambda: "", lambda _error: None, sharp_clock=sharp_clock)

    first = get(sharp_clock=False)
    assert isinstance(first, FakeSession)
    assert get(sharp_clock=True) is first
    first.clock_is_coarse = True
    assert get(sharp_clock=False) is first
    second = get(sharp_clock=True)
    assert (second is not first, first.closed) == (True, True)
    assert get(sharp_clock=True) is second
