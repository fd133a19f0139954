"""An emulator's tools are known wherever they are found, and a driver's are not taken for them."""

import os
import platform
from pathlib import Path

import pytest

from emulator.install import FleetPlan, install
from npuq.config import Settings
from worker import discovery
from worker.emulated_tools import has_emulated_chips, has_emulated_host_tools


@pytest.fixture
def emulator(tmp_path: Path) -> Path:
    """Return an emulator's home."""
    return install(tmp_path / "an emulator", FleetPlan(cards=1)).root


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Return a folder with programs of the same names that are nobody's emulation."""
    folder = tmp_path / "driver" / "bin"
    folder.mkdir(parents=True)
    for name in ("npu-smi", "atc"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def test_the_first_npu_smi_on_the_path_tells(emulator: Path, driver: Path, tmp_path: Path) -> None:
    """No variable has to be set for it, and none makes a driver's cards emulated; a link to it is the same tool."""
    programs = emulator / "bin"
    links = tmp_path / "links"
    links.mkdir()
    (links / "npu-smi").symlink_to(programs / "npu-smi")
    for first, second, verdict in ((programs, driver, True), (driver, programs, False), (links, driver, True)):
        environment = {"PATH": f"{first}{os.pathsep}{second}", "NPUQ_EMULATOR_HOME": str(emulator)}
        assert has_emulated_chips(environment) is verdict
        del environment["NPUQ_EMULATOR_HOME"]
        assert has_emulated_chips(environment) is verdict
    assert not has_emulated_chips({})


def test_what_computes_tells_too(emulator: Path, driver: Path) -> None:
    """Numbers of an emulated runtime are emulated, whichever cards are listed."""
    environment = {"PATH": str(driver), "PYTHONPATH": f"{driver}{os.pathsep}{emulator / 'python'}"}
    assert has_emulated_chips(environment)
    assert not has_emulated_chips(environment | {"PYTHONPATH": str(driver)})


def test_conversions_by_an_emulated_toolkit_or_atc_are_emulated(emulator: Path, driver: Path, tmp_path: Path) -> None:
    """On a host whose cards are not: only its slots are."""
    toolkit = tmp_path / "toolkit"
    info = toolkit / f"{platform.machine()}-linux" / "ascend_toolkit_install.info"
    info.parent.mkdir(parents=True)
    info.write_text("version=8.0.RC2\n")
    real = {"PATH": str(driver), "ASCEND_TOOLKIT_HOME": str(toolkit)}
    assert not has_emulated_host_tools(real)
    (driver / "atc").unlink()
    atc_beside = real | {"PATH": f"{driver}{os.pathsep}{emulator / 'bin'}"}
    for environment in (real | {"ASCEND_TOOLKIT_HOME": str(emulator / "toolkit")}, atc_beside):
        assert has_emulated_host_tools(environment)
        assert not has_emulated_chips(environment)
    assert has_emulated_host_tools({"PATH": str(emulator / "bin")})


def test_slots_are_marked(emulator: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a slot converts with the emulated CANN is never taken for the hardware's."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(emulator / "toolkit"))
    assert {slot.emulated for slot in discovery.slots(settings)} == {True}
