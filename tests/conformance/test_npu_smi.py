"""The parser against verbatim outputs of real cards, each with what a correct parser must return."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from worker import npu_smi

SHARED = Path(os.environ.get("NPUQ_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
SAMPLES = sorted((SHARED / "npu-smi").glob("*.json"))
NOT_DATA = {"source", "notes", "command"}

pytestmark = pytest.mark.skipif(not SAMPLES, reason=f"no samples in {SHARED / 'npu-smi'}; set NPUQ_SHARED")


#: What a sample's name says after its number -> the parser; everything else is `npu-smi info`.
PARSERS: dict[str, Callable[[str], Any]] = {
    "info-m": npu_smi.parse_map,
    "info-l": npu_smi.parse_list,
    "t-board": npu_smi.parse_board,
    "t-usages": npu_smi.parse_usages,
    "t-common": npu_smi.parse_common,
    "t-memory": npu_smi.parse_memory,
    "t-proc-mem": npu_smi.parse_proc_mem,
    "t-health": npu_smi.parse_health,
    "t-power": npu_smi.parse_power,
    "t-temp": npu_smi.parse_temp,
    "t-ecc": npu_smi.parse_ecc,
}


def _parsed(name: str, text: str) -> dict[str, Any]:
    what = name.partition("-")[2]
    parse = next((parser for start, parser in PARSERS.items() if what.startswith(start)), npu_smi.parse_info)
    parsed: dict[str, Any] = json.loads(json.dumps(asdict(parse(text))))
    return parsed


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_is_read_as_checked_by_hand(path: Path) -> None:
    """Every field and value, of chips, processes, map rows and readings, is what the sample's JSON says."""
    expected = {key: value for key, value in json.loads(path.read_text("utf-8")).items() if key not in NOT_DATA}
    parsed = _parsed(path.stem, path.with_suffix(".txt").read_text("utf-8"))
    assert {key: parsed[key] for key in expected} == expected
