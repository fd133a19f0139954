import os
from pathlib import Path

import pytest

from tasks import atc_environment as surroundings
from tasks.cann import Toolkit

GIB = 2**30
DEFAULT = Toolkit(root=Path("/opt/latest"), version="8.0", is_default=True)


def environment_of(attempt: int = 1, toolkit: Toolkit = DEFAULT, **given: str) -> dict[str, str]:
    """Return what a conversion in /work sees."""
    sourced = {"ASCEND_TOOLKIT_HOME": str(DEFAULT.root)} | given
    return surroundings.atc_environment(sourced, toolkit, Path("/work"), attempt=attempt)


@pytest.mark.parametrize(
    ("cores", "memory_gib", "slots", "processes"),
    [(192, 1024, 24, 6), (192, 1024, 4, 8), (4, 8, 1, 3), (4, 4, 1, 2), (1, 2, 4, 1), (64, 32, 4, 4)],
)
def test_a_slot_has_its_share(cores: int, memory_gib: int, slots: int, processes: int) -> None:
    """Cores and memory of the host divided by its slots, within 1 and ATC's own 8."""
    assert surroundings.compile_processes(cores=cores, memory_bytes=memory_gib * GIB, slots=slots) == processes


def test_what_the_administrator_set_stays() -> None:
    """A slot's share is a default."""
    assert surroundings.slot_environment({"TE_PARALLEL_COMPILER": "3"}, 6) == {
        "TE_PARALLEL_COMPILER": "3",
        "MAX_COMPILE_CORE_NUMBER": "6",
    }


@pytest.mark.parametrize(("attempt", "processes", "serial"), [(1, "8", False), (2, "2", False), (3, "1", True)])
def test_each_further_attempt_takes_less(attempt: int, processes: str, serial: bool) -> None:  # noqa: FBT001 - a column
    """What ran out of memory is compiled with a quarter of the processes, then one operator after another."""
    seen = environment_of(attempt, MAX_COMPILE_CORE_NUMBER="8", TE_PARALLEL_COMPILER="8")
    assert seen["MAX_COMPILE_CORE_NUMBER"] == seen["TE_PARALLEL_COMPILER"] == processes
    assert (seen.get("MULTI_THREAD_COMPILE") == "0") is serial


def test_caches_and_logs_are_private() -> None:
    """ATC keeps caches and logs below HOME, where parallel conversions would meet."""
    seen = environment_of(HOME="/root")
    assert (seen["HOME"], seen["ASCEND_PROCESS_LOG_PATH"]) == ("/work/home", "/work/ascend_log")


def test_another_toolkit_brings_its_own_surroundings() -> None:
    """Folders of the default toolkit leave the paths, everything else stays."""
    seen = environment_of(
        toolkit=Toolkit(root=Path("/opt/7.0"), version="7.0"),
        ASCEND_TOOLKIT_HOME="/opt/latest",
        PATH="/opt/latest/bin:/usr/bin",
        PYTHONPATH="/opt/latest/python/site-packages:/site",
    )
    assert seen["ASCEND_TOOLKIT_HOME"] == "/opt/7.0"
    assert seen["ASCEND_OPP_PATH"] == "/opt/7.0/opp"
    assert seen["PATH"].split(os.pathsep)[0] == "/opt/7.0/bin"
    assert seen["PATH"].endswith(":/usr/bin")
    assert seen["PYTHONPATH"].endswith(":/site")
    assert not [name for name, value in seen.items() if "/opt/latest" in value]


def test_a_toolkit_that_nobody_sourced_is_complete() -> None:
    """One in a usual place needs no set_env.sh in the worker's shell."""
    seen = surroundings.atc_environment({"PATH": "/usr/bin"}, DEFAULT, Path("/work"), attempt=1)
    assert (seen["ASCEND_TOOLKIT_HOME"], seen["ASCEND_OPP_PATH"]) == ("/opt/latest", "/opt/latest/opp")
    assert seen["PATH"].endswith("/opt/latest/compiler/ccec_compiler/bin:/usr/bin")


def test_the_stub_driver_is_added_where_no_driver_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converting needs no card, but the driver's library or its stub."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(surroundings, "_DRIVER_LIBRARIES", ())
    stub = tmp_path / "aarch64-linux" / "devlib"
    stub.mkdir(parents=True)
    toolkit = Toolkit(root=tmp_path, version="8.0", is_default=True)
    assert environment_of(toolkit=toolkit, LD_LIBRARY_PATH="/driver")["LD_LIBRARY_PATH"] == f"/driver:{stub}"
    (tmp_path / "libascend_hal.so").touch()
    assert environment_of(toolkit=toolkit, LD_LIBRARY_PATH=str(tmp_path))["LD_LIBRARY_PATH"] == str(tmp_path)
