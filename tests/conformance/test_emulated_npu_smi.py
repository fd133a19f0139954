"""The emulator's tables against verbatim outputs of real cards: the same chips are drawn character by character."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from emulator.fleet import Chip, Fleet
from emulator.npu_smi_tables import render_info
from emulator.occupancy import Occupant

SHARED = Path(os.environ.get("NPUQ_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
#: Samples without hugepages in use, which the emulator does not have; one per layout.
NAMES = (
    "01-310-4chips-20.2.0",
    "17-910A-2cards-21.0.2-nohugepages",
    "24-910B2C-2cards-noprocess-23.0.3",
    "27-910B4-26.0.rc1-widelayout",
    "29-A3-Ascend910-2chips-25.2.0",
)
SAMPLES = [path for path in (SHARED / "npu-smi" / f"{name}.json" for name in NAMES) if path.exists()]

pytestmark = pytest.mark.skipif(not SAMPLES, reason=f"no samples in {SHARED / 'npu-smi'}; set NPUQ_SHARED")


def _fleet(sample: dict[str, Any]) -> Fleet:
    held = {(each["npu_id"], each["chip_id"]): each["memory_mb"] for each in sample["processes"]}
    chips = []
    for logic_id, chip in enumerate(sample["chips"]):
        memory = "hbm" if chip["hbm_total_mb"] is not None else "memory"
        idle = chip[f"{memory}_used_mb"] - held.get((chip["npu_id"], chip["chip_id"]), 0)
        chips.append(
            Chip(
                logic_id=logic_id,
                npu_id=chip["npu_id"],
                chip_id=chip["chip_id"],
                bus_id=chip["bus_id"],
                name=chip["name"],
                memory_total_mb=chip[f"{memory}_total_mb"],
                memory_idle_mb=idle,
                power_w=chip["power_w"],
                temp_c=chip["temp_c"],
                ddr_used_mb=chip["memory_used_mb"] if memory == "hbm" else 0,
                ddr_total_mb=chip["memory_total_mb"] if memory == "hbm" else 0,
            )
        )
    return Fleet(chips=tuple(chips), driver_version=sample["driver_version"])


def _holders(sample: dict[str, Any]) -> list[Occupant]:
    numbers = {(chip["npu_id"], chip["chip_id"]): index for index, chip in enumerate(sample["chips"])}
    return [
        Occupant(
            logic_id=numbers[each["npu_id"], each["chip_id"]],
            pid=each["pid"],
            start_ticks=1,
            name=each["name"],
            memory_mb=each["memory_mb"],
        )
        for each in sample["processes"]
    ]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_emulator_draws_what_the_card_drew(path: Path) -> None:
    """Every line of the sample that is part of the table."""
    sample = json.loads(path.read_text("utf-8"))
    drawn = render_info(_fleet(sample), _holders(sample)).splitlines()
    real = [line for line in path.with_suffix(".txt").read_text("utf-8").splitlines() if line.startswith(("|", "+"))]
    assert drawn[: len(real)] == real
