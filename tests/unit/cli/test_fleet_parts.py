"""The pure parts of the embedded fleet: environments, sockets, and what the demo says of torch."""

import os
from pathlib import Path

import pytest

from cli.demo_agreement import Agreement
from cli.fleet import broker_server, emulated
from cli.fleet.emulated import Emulation
from npuq.config import MAX_SOCKET_PATH, Settings, load_settings
from npuq.errors import InvalidRequestError


def test_emulated_tools_are_found_before_all_others(tmp_path: Path) -> None:
    """As the real ones are: on PATH and PYTHONPATH; everything else stays."""
    made = emulated.environment(tmp_path, {"PATH": "/usr/bin", "LANG": "C"})
    assert made["PATH"] == f"{tmp_path}/bin:/usr/bin"
    assert made["PYTHONPATH"] == f"{tmp_path}/python"
    assert made["LANG"] == "C"
    assert made["ASCEND_TOOLKIT_HOME"] == f"{tmp_path}/toolkit"


def test_an_emulated_fleet_that_fits_is_kept_with_its_faults(tmp_path: Path) -> None:
    """A person put them there; another number of cards replaces the fleet."""
    emulated.install(tmp_path, Emulation(cards=1))
    fleet = tmp_path / "fleet.json"
    marked = fleet.read_text().replace('"temp_c": 45', '"temp_c": 46')
    fleet.write_text(marked)
    emulated.install(tmp_path, Emulation(cards=1))
    assert fleet.read_text() == marked
    emulated.install(tmp_path, Emulation(cards=2))
    assert fleet.read_text().count('"temp_c": 45') == 2


def test_an_unknown_chip_is_refused_in_the_emulators_words(tmp_path: Path) -> None:
    """With the chips that it knows."""
    with pytest.raises(InvalidRequestError, match="310P3"):
        emulated.install(tmp_path, Emulation(cards=1, chip="9000"))


def test_the_server_listens_on_a_private_socket_only(tmp_path: Path) -> None:
    """No TCP port, no eviction, everything appended to a file."""
    command = broker_server.server_command(Settings(home=tmp_path))
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--port"] == "0"
    assert options["--unixsocketperm"] == "700"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"


def test_a_long_home_gets_a_short_socket_that_everybody_agrees_on() -> None:
    """The kernel refuses long socket paths."""
    home = Path("/") / ("x" * 90) / "npuq"
    socket = Settings(home=home).broker_socket
    assert len(os.fsencode(socket)) <= MAX_SOCKET_PATH
    assert socket == Settings(home=home).broker_socket
    assert socket != Settings(home=home / "other").broker_socket


def test_settings_survive_the_way_through_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child reads exactly what its parent had, wherever it runs."""
    settings = load_settings(home=tmp_path / "a b%c", host_slots=3, database_url="postgresql://u:p@h/d")
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


@pytest.mark.parametrize(
    ("top1", "same", "holds", "said"),
    [
        ([87.5, 87.5], 240, True, "They agree: the same class on 240 of 240 images at every batch size."),
        ([87.1, 87.5], 239, True, "87.10 % to 87.50 %"),
        ([60.0], 150, False, "THEY DISAGREE: the same class on 150 of 240 images."),
        ([87.5], 120, False, "THEY DISAGREE: the same class on 120 of 240 images."),
        ([87.5], 237, False, "THEY DISAGREE: the same class on 237 of 240 images."),
        ([], 0, False, "nothing to hold against torch"),
    ],
)
def test_the_demo_says_whether_chips_and_torch_agree(top1: list[float], same: int, holds: bool, said: str) -> None:  # noqa: FBT001
    """Both numbers, the verdict, and on how many images."""
    agreement = Agreement(chip_top1=top1, torch_top1=87.5, samples=240, same=same)
    assert agreement.holds is holds
    assert said in agreement.sentence()


@pytest.mark.parametrize(("same", "holds"), [(40, True), (39, True), (38, False)])
def test_a_close_call_is_allowed_among_few_images_too(*, same: int, holds: bool) -> None:
    """One of forty is more than a percent."""
    assert Agreement(chip_top1=[87.5], torch_top1=90.0, samples=40, same=same).holds is holds
