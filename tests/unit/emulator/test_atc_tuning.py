from collections.abc import Callable
from pathlib import Path

import pytest

from emulator import atc, atc_tuning
from emulator.atc_errors import AtcError


def memory(tmp_path: Path, text: str) -> Path:
    """Write what the kernel would say of the host's memory."""
    path = tmp_path / "meminfo"
    path.write_text(text)
    return path


def test_a_host_with_memory_is_told_how_much(tmp_path: Path) -> None:
    """In the words of the real tool; a host that does not tell passes."""
    facts = memory(tmp_path, "MemTotal:  8000000 kB\nMemAvailable:    2097152 kB\n")
    assert atc_tuning.announce(facts) == "Current available mem is 2097152kB."
    assert atc_tuning.announce(tmp_path / "none") == "Current available mem is 0kB."


def test_a_host_with_less_than_two_gib_cannot_tune(tmp_path: Path) -> None:
    """E10044, as the table of known failures has it."""
    with pytest.raises(AtcError, match="2097151kB") as caught:
        atc_tuning.announce(memory(tmp_path, "MemAvailable:    2097151 kB\n"))
    assert caught.value.code == "E10044"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("available_kb", "status", "last"), [(4_000_000, 0, "ATC run success"), (1_000, 255, "E10044")]
)
def test_tuning_is_looked_at_before_the_conversion(
    onnx_file: Path,
    atc_command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    available_kb: int,
    status: int,
    last: str,
) -> None:
    """The line comes after the start; without memory nothing is converted."""
    facts = memory(tmp_path, f"MemAvailable: {available_kb} kB\n")
    monkeypatch.setattr(atc_tuning, "MEMORY_FACTS", facts)
    assert atc.main([*atc_command(onnx_file, "m"), "--auto_tune_mode=RL,GA"]) == status
    said = capsys.readouterr().out
    assert f"Current available mem is {available_kb}kB." in said
    assert last in said
    assert Path("m.om").exists() is (status == 0)
