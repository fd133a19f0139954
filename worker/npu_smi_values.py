"""What `npu-smi` says, as values, and the words and numbers that all its answers share. Pure.

Whatever is not there is None: absent is *unknown*, never zero and never *idle*.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from npuq.errors import Blame, NpuqError

UNSUPPORTED: Final = "npu_smi_unsupported"
"""Code of the error that says that this card or driver does not know a query; asking again is of no use."""
TIMEOUT: Final = "npu_smi_timeout"
"""Code of the error that says that the tool hung, or somebody who uses it."""
ABSENT: Final = frozenset({"NA", "N/A", "-", "--", ""})
"""How the tool writes that there is no value."""
_MOST_DIGITS: Final = 18


class NpuSmiError(NpuqError):
    """`npu-smi` did not answer, or its answer cannot be read; the state of the chips is unknown."""

    code = "npu_smi"
    blame = Blame.HOST
    retry = True


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip of `npu-smi info`; None where the table says `NA` or `-`, or has no such column.

    Attributes:
        npu_id: the card's number; neither dense nor from 0.
        chip_id: which chip of the card.
        name: for example `310P3`; `soc_version` makes ATC's name of it.
        health: `OK`, `Warning`, `Alarm`, `Critical`, `UNKNOWN`.
        power_w: watts.
        temp_c: degrees Celsius.
        hugepages_used: pages.
        hugepages_total: pages.
        bus_id: PCIe address; the chips of a Duo share one.
        aicore_percent: load at this instant; 0 does not mean idle.
        memory_used_mb: device memory; not 0 when idle.
        memory_total_mb: device memory.
        hbm_used_mb: high bandwidth memory, 910 family.
        hbm_total_mb: high bandwidth memory, 910 family.
        device_id: logic id, where the table has a `Device` column; else `info -m` tells.
        phy_id: physical id, on A3.
    """

    npu_id: int
    chip_id: int
    name: str
    health: str
    power_w: float | None
    temp_c: int | None
    hugepages_used: int | None
    hugepages_total: int | None
    bus_id: str | None
    aicore_percent: int | None
    memory_used_mb: int | None
    memory_total_mb: int | None
    hbm_used_mb: int | None
    hbm_total_mb: int | None
    device_id: int | None
    phy_id: int | None


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that holds a chip; `name` is cut to 15 characters and may be empty, `chip_id` is unknown on 950."""

    npu_id: int
    chip_id: int | None
    pid: int
    name: str
    memory_mb: int | None
    container_pid: int | None


@dataclass(frozen=True, kw_only=True)
class DriverFailure:
    """The driver does not answer: the tool's line, and the DCMI code in it."""

    text: str
    dcmi_code: int


@dataclass(frozen=True, kw_only=True)
class NpuSmiInfo:
    """`npu-smi info`.

    Attributes:
        ok: whether there is a table of chips; a table of processes alone is kept, but not `ok`.
        tool_version: as printed, None when cut off.
        driver_version: as printed, None when cut off.
        chips: in the order printed.
        processes: in the order printed.
        no_process_npus: NPU ids that are said to run nothing; a card neither here nor in `processes` is unknown.
        error: why there is no table.
    """

    ok: bool
    tool_version: str | None = None
    driver_version: str | None = None
    chips: tuple[Chip, ...] = ()
    processes: tuple[Process, ...] = ()
    no_process_npus: tuple[int, ...] = ()
    error: DriverFailure | None = None

    def knows_processes(self, npu_id: int) -> bool:
        """Return whether the tool said anything about processes on a card; if not, "idle" must not be concluded."""
        return npu_id in self.no_process_npus or any(process.npu_id == npu_id for process in self.processes)


@dataclass(frozen=True, kw_only=True)
class MapRow:
    """A row of `npu-smi info -m`; `chip_name` is no source for a soc version."""

    npu_id: int
    chip_id: int
    logic_id: int
    chip_name: str


@dataclass(frozen=True, kw_only=True)
class PhysicalId:
    """The number in `/dev/davinciN` of a chip, by which containers are given it."""

    npu_id: int
    chip_id: int
    phy_id: int


@dataclass(frozen=True, kw_only=True)
class NpuSmiMap:
    """`npu-smi info -m`.

    Attributes:
        map: the chips that have a logic id.
        mcu_rows: how many rows were board controllers, which have none.
        physical: physical ids, where the table has such a column.
    """

    map: tuple[MapRow, ...]
    mcu_rows: int
    physical: tuple[PhysicalId, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CardCount:
    """A block of `npu-smi info -l`."""

    npu_id: int
    chip_count: int


@dataclass(frozen=True, kw_only=True)
class NpuSmiList:
    """`npu-smi info -l`; `npus` may be shorter than `total_count` in a cut text."""

    total_count: int
    npus: tuple[CardCount, ...]


Reading = int | float | str | None
"""A value of a `-t` answer: a number as a number, `NA` as None, any other word as it is."""


@dataclass(frozen=True, kw_only=True)
class CardReadings:
    """A `-t` answer that is a list of numbers: usages, common, memory, power, temp, ecc.

    Attributes:
        npu_id: the card, None when the answer does not say.
        chips: chip id -> name of the number, as printed, with its unit -> value. Board controllers are left out.
        fields: numbers under no chip id: with `-c` the tool prints those of the one chip that was asked for.
    """

    npu_id: int | None
    chips: Mapping[int, Mapping[str, Reading]] = field(default_factory=dict)
    fields: Mapping[str, Reading] = field(default_factory=dict)

    def of_chip(self, chip_id: int) -> Mapping[str, Reading]:
        """Return the numbers of a chip, also when it was asked for with `-c` and is not named; empty: unknown."""
        return self.chips.get(chip_id, {} if self.chips else self.fields)


@dataclass(frozen=True, kw_only=True)
class Board:
    """`-t board` of a card, or with `-c` of a chip: `fields` as printed."""

    fields: Mapping[str, str]

    @property
    def die_id(self) -> str | None:
        """Return the chip's own number, the same in every slot, host and boot; None when it is not shown."""
        return next(
            (self.fields[key] for key in ("VDie ID", "Die ID") if self.fields.get(key, "NA") not in ABSENT), None
        )

    @property
    def soc_version(self) -> str | None:
        """Return what ATC calls the chip, where the board names it: A3 and 950 by the NPU's name, others by type."""
        name, npu = self.fields.get("Chip Name", ""), self.fields.get("NPU Name", "NA")
        if name in ABSENT or name.lower() in {"xxx", "mcu"}:
            return None
        if npu not in ABSENT:
            return soc_version(f"{name}_{npu.removeprefix(f'{name}_')}")
        return soc_version(name)


@dataclass(frozen=True, kw_only=True)
class ChipHealth:
    """`-t health` of a chip.

    Attributes:
        health: `OK`, `Warning`, `Alarm`, `Critical`, `UNKNOWN`.
        error_codes: for example `80E3A203`; empty when there is none.
        error_information: the driver's own words, None when there are none.
    """

    health: str
    error_codes: tuple[str, ...]
    error_information: str | None


@dataclass(frozen=True, kw_only=True)
class ProcessMemory:
    """A process of `-t proc-mem`; its name is cut to 13 characters."""

    pid: int
    name: str
    memory_mb: int | None


@dataclass(frozen=True, kw_only=True)
class ChipProcesses:
    """`-t proc-mem` of a chip; no processes means that the tool says so."""

    processes: tuple[ProcessMemory, ...]


def soc_version(name: str) -> str:
    """Return what ATC calls a chip whose npu-smi Name is given: `310P3` and `Ascend310P3` give `Ascend310P3`."""
    return f"Ascend{name.strip().removeprefix('Ascend')}"


def integer(text: str | None) -> int | None:
    """Return a whole number that is not negative, or None when the text is anything else."""
    if text is None or re.fullmatch(rf"[0-9]{{1,{_MOST_DIGITS}}}", text) is None:
        return None
    return int(text)


def signed_integer(text: str | None) -> int | None:
    """Return a whole number that may be negative, as temperatures outdoors are, or None."""
    size = None if text is None else integer(text.removeprefix("-"))
    return -size if size is not None and text is not None and text.startswith("-") else size


def decimal(text: str | None) -> float | None:
    """Return a number that is not negative, or None when the text is anything else."""
    return float(text) if text is not None and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else None


def reading(text: str) -> Reading:
    """Return a printed value: a number with its sign if it is one, None for `NA`, else the words."""
    if text in ABSENT:
        return None
    if re.fullmatch(rf"-?[0-9]{{1,{_MOST_DIGITS}}}", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?[0-9]{1,9}\.[0-9]{1,9}", text) else text
