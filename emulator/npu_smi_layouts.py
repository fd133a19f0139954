"""How the table of `npu-smi info` is drawn: by family of chips and generation of drivers, as real tables are. Pure.

Widths and headings are those of tables of real cards; what no sample shows (a 310P on driver 26) follows its nearest
relative.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

_HUGEPAGES_SINCE: Final = (21, 0, 4)
_PROCESSES_SINCE: Final = (23, 0, 0)
_TOTAL_COUNT_SINCE: Final = (23, 0, 0)
_WIDE_SINCE: Final = (26, 0, 0)
_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")


class Family(StrEnum):
    """Chips whose tables look alike."""

    INFERENCE = "inference"  #: 310, 310P, 310B: DDR only, a `Device` column with the logic id
    TRAINING = "training"  #: 910A, 910ProB: DDR and HBM, no logic id
    A2 = "a2"  #: 910B1 ... 910B4: HBM only, no logic id
    A3 = "a3"  #: Ascend910, two dies per card: HBM only, a `Phy-ID` column


def family_of(name: str) -> Family:
    """Return the family of a chip by npu-smi's Name."""
    if name in {"Ascend910", "Ascend950"}:
        return Family.A3
    if re.fullmatch(r"910B[1-9].*", name):
        return Family.A2
    return Family.TRAINING if name.startswith("910") else Family.INFERENCE


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A layout; all widths in characters.

    Attributes:
        cells: of the three cells of a row, between the bars.
        id_width: of the NPU and chip number.
        version_width: from the tool's version to the word `Version:`.
        values: of the first and second value in the third cell; the last takes the rest.
        hugepages_width: before the slash of the hugepages; None: no such column.
        id_column: heading of the number after the chip; "": no such column.
        has_hbm: whether there is a column for high bandwidth memory.
        process_cells: of the cells of the process table; empty: there is none.
        crossed_chip_line: whether the line between chips of one card has inner crossings.
        total_count: whether `-l` says `Total Count` (else `Card Count`, with product and serial number).
    """

    cells: tuple[int, int, int]
    id_width: int
    version_width: int
    values: tuple[int, int]
    hugepages_width: int | None
    id_column: str
    has_hbm: bool
    process_cells: tuple[int, ...]
    crossed_chip_line: bool = True
    total_count: bool = True

    @property
    def width(self) -> int:
        """Return the width of a row between its outer bars."""
        return sum(self.cells) + 2


_INFERENCE: Final = Layout(
    cells=(31, 17, 54),
    id_width=8,
    version_width=41,
    values=(13, 18),
    hugepages_width=6,
    id_column="Device",
    has_hbm=False,
    process_cells=(31, 17, 26, 27),
)
_INFERENCE_OLD: Final = replace(_INFERENCE, cells=(19, 17, 40), version_width=29, values=(18, 18))
_TRAINING: Final = Layout(
    cells=(22, 15, 52),
    id_width=6,
    version_width=34,
    values=(12, 18),
    hugepages_width=5,
    id_column="",
    has_hbm=True,
    process_cells=(22, 15, 26, 25),
)
_TRAINING_OLD: Final = replace(_TRAINING, cells=(22, 15, 45), version_width=25, values=(11, 18))
_A2: Final = replace(_TRAINING, cells=(27, 15, 52), version_width=25, process_cells=(27, 15, 26, 25))
_A2_WIDE: Final = replace(
    _A2, cells=(27, 15, 70), version_width=36, values=(21, 24), process_cells=(27, 15, 20, 23, 25)
)
_A3: Final = replace(_A2, id_column="Phy-ID", crossed_chip_line=False)
_A3_WIDE: Final = replace(_A2_WIDE, id_column="Phy-ID", crossed_chip_line=False)
_INFERENCE_WIDE: Final = replace(_A2_WIDE, id_column="Device", has_hbm=False)

#: family -> layouts of drivers without hugepages, with them, and the wide one.
_LAYOUTS: Final[dict[Family, tuple[Layout, Layout, Layout]]] = {
    Family.INFERENCE: (_INFERENCE_OLD, _INFERENCE, _INFERENCE_WIDE),
    Family.TRAINING: (_TRAINING_OLD, _TRAINING, _A2_WIDE),
    Family.A2: (_TRAINING_OLD, _A2, _A2_WIDE),
    Family.A3: (_A3, _A3, _A3_WIDE),
}


def layout_of(family: Family, driver_version: str) -> Layout:
    """Return the layout of a family under a driver; a version that is no number is taken for a new one."""
    found = _VERSION.search(driver_version)
    version = tuple(int(part or 0) for part in found.groups()) if found else _PROCESSES_SINCE
    old, usual, wide = _LAYOUTS[family]
    if version >= _WIDE_SINCE:
        return wide
    layout = usual if version >= _HUGEPAGES_SINCE else replace(old, hugepages_width=None)
    return replace(
        layout,
        process_cells=layout.process_cells if version >= _PROCESSES_SINCE else (),
        total_count=version >= _TOTAL_COUNT_SINCE,
    )
