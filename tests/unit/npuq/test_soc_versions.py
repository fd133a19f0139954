import pytest

from emulator.atc_flags import SOC_VERSIONS
from npuq.soc_versions import KNOWN, closest, is_known


@pytest.mark.parametrize("name", ["Ascend310P3", "Ascend910B4-1", "Ascend910_9391", "Ascend950PR_9599"])
def test_chips_of_every_generation_are_known(name: str) -> None:
    """Also those of a family that is still growing."""
    assert is_known(name)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Ascend310p3", "Ascend310P3"),
        ("Ascend310P33", "Ascend310P3"),
        ("Ascend910b3", "Ascend910B3"),
        ("Ascend9109391", "Ascend910_9391"),
        ("Ascend9999", None),
    ],
)
def test_what_is_meant_perhaps(typed: str, meant: str | None) -> None:
    """Letters of the wrong case are the commonest mistake."""
    assert not is_known(typed)
    assert closest(typed) == meant


def test_the_emulated_atc_compiles_for_no_chip_that_npuq_refuses() -> None:
    """Its list stands for the tool's, ours is what a person may ask for."""
    assert SOC_VERSIONS <= KNOWN
