"""`npu-smi info -m` and `npu-smi info -l`: which chips there are, and by which numbers. Pure."""

import re
from typing import Final

from worker.npu_smi_values import CardCount, MapRow, NpuSmiError, NpuSmiList, NpuSmiMap, PhysicalId, integer

_MAP_COLUMNS: Final = ("NPU ID", "Chip ID", "Chip Logic ID", "Chip Name")
_PHYSICAL_COLUMN: Final = re.compile(r"Chip Phy(?:sical)?[- ]ID", re.IGNORECASE)
_GAP: Final = re.compile(r"\s{2,200}|\t|\|")


def parse_map(text: str) -> NpuSmiMap:
    """Read `npu-smi info -m`; board controllers (`Mcu`) have no logic id and are only counted.

    Raises:
        NpuSmiError: there is no such table in the text.
    """
    header: list[str] | None = None
    rows: list[MapRow] = []
    physical: list[PhysicalId] = []
    mcu_rows = 0
    for line in text.splitlines():
        cells = [cell.strip() for cell in _GAP.split(line.strip().strip("|").strip()) if cell.strip()]
        if set(_MAP_COLUMNS) <= set(cells):
            header = cells
        elif header is not None and len(cells) == len(header):
            row = dict(zip(header, cells, strict=True))
            mcu_rows += row["Chip Name"].lower() == "mcu"
            npu_id, chip_id, logic_id = (integer(row[column]) for column in _MAP_COLUMNS[:3])
            if npu_id is not None and chip_id is not None and logic_id is not None:
                name = row["Chip Name"]
                rows.append(MapRow(npu_id=npu_id, chip_id=chip_id, logic_id=logic_id, chip_name=name))
                physical += _physical(row, npu_id, chip_id)
    if header is None:
        raise NpuSmiError("npu-smi printed no table of logic ids: they are unknown", detail=text)
    return NpuSmiMap(map=tuple(rows), mcu_rows=mcu_rows, physical=tuple(physical))


def _physical(row: dict[str, str], npu_id: int, chip_id: int) -> list[PhysicalId]:
    numbers = [integer(value) for column, value in row.items() if _PHYSICAL_COLUMN.fullmatch(column)]
    return [PhysicalId(npu_id=npu_id, chip_id=chip_id, phy_id=number) for number in numbers if number is not None]


def parse_list(text: str) -> NpuSmiList:
    """Read `npu-smi info -l`, in the new (`Total Count`) and the old form (`Card Count`).

    Raises:
        NpuSmiError: there is no count in the text.
    """
    pairs = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in text.splitlines())]
    total = next((integer(value) for key, value in pairs if key in {"Total Count", "Card Count"}), None)
    if total is None:
        raise NpuSmiError("npu-smi printed no list of cards: their number is unknown", detail=text)
    cards: list[CardCount] = []
    npu_id: int | None = None
    for key, value in pairs:
        if key == "NPU ID":
            npu_id = integer(value)
        elif key == "Chip Count" and npu_id is not None:
            cards.append(CardCount(npu_id=npu_id, chip_count=integer(value) or 0))
    return NpuSmiList(total_count=total, npus=tuple(cards))
