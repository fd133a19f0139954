"""The parser against verbatim outputs of real cards, each with what a correct parser must return."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from worker.npu_smi import parse_info, parse_list, parse_map

SHARED = Path(os.environ.get("NPUQ_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
SAMPLES = sorted((SHARED / "npu-smi").glob("*.json"))
NOT_DATA = {"source", "notes", "command"}

pytestmark = pytest.mark.skipif(not SAMPLES, reason=f"no samples in {SHARED / 'npu-smi'}; set NPUQ_SHARED")


def _parsed(name: str, text: str) -> dict[str, Any]:
    if "-info-m-" in name:
        return asdict(parse_map(text))
    if "-info-l-" in name:
        return asdict(parse_list(text))
    return asdict(parse_info(text))


@pytest.mark.parametrize("path", [path for path in SAMPLES if "-t-" not in path.name], ids=lambda path: path.stem)
def test_sample_is_read_as_checked_by_hand(path: Path) -> None:
    """Every field of every chip, process and map row is what the sample's JSON says."""
    expected = {key: value for key, value in json.loads(path.read_text("utf-8")).items() if key not in NOT_DATA}
    text = path.with_suffix(".txt").read_text("utf-8")
    parsed = json.loads(json.dumps(_parsed(path.stem, text)))
    assert {key: parsed[key] for key in expected} == expected
