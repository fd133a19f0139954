from dataclasses import replace

import pytest

from tasks.idleness import ChipState, disturbance, why_busy

IDLE = ChipState(health="OK", memory_used_mib=1000)


def test_a_healthy_chip_of_our_own_is_idle() -> None:
    """Nobody else, health OK."""
    assert why_busy(IDLE) is None
    assert disturbance(IDLE, replace(IDLE, memory_used_mib=1200, temperature_celsius=70)) is None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (ChipState(health=None), "does not show the chip"),
        (replace(IDLE, health="Alarm"), "health is Alarm"),
        (replace(IDLE, foreign_processes=("python (pid 7)",)), r"python \(pid 7\)"),
    ],
)
def test_what_spoils_a_measurement_is_named(state: ChipState, reason: str) -> None:
    """Before and after, the same things count."""
    import re

    assert re.search(reason, why_busy(state) or "")
    assert re.search(reason, disturbance(IDLE, state) or "")


def test_moving_memory_means_a_visitor() -> None:
    """A process that came and went may not be in the table any more, its memory may."""
    assert disturbance(IDLE, replace(IDLE, memory_used_mib=1500)) == "its memory in use moved by 500 MiB"
    assert disturbance(IDLE, replace(IDLE, memory_used_mib=None)) is None


def test_memory_that_nobody_holds_is_no_idle_chip() -> None:
    """A measurement waits for it to be freed; what cannot be told is no reason."""
    assert "3000 MiB" in str(why_busy(ChipState(health="OK", leaked_memory_mib=3000)))
    assert why_busy(ChipState(health="OK", leaked_memory_mib=0)) is None
    assert why_busy(ChipState(health="OK", leaked_memory_mib=None)) is None
