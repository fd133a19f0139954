"""What `npu-smi` prints, as values. Pure functions over text: nothing is run here, see `worker/npu_smi_tool.py`.

The layouts differ by driver and card: columns come and go, widths change, copies lose borders, containers print noise
first, old drivers have no table of processes. So cells are split on `|`, and the headers say which number is which.
Whatever is not there is None: absent is *unknown*, never zero and never *idle*.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from npuq.errors import Blame, NpuqError


class NpuSmiError(NpuqError):
    """`npu-smi` did not answer, or its answer holds no table; the state of the chips is unknown."""

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
        ok: whether there is a table of chips.
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
class NpuSmiMap:
    """`npu-smi info -m`: the chips that have a logic id, and how many rows were board controllers without one."""

    map: tuple[MapRow, ...]
    mcu_rows: int


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


_DCMI_FAILURE: Final = re.compile(r"^.*dcmi\b.*\bret is (-?[0-9]{1,9}).*$", re.MULTILINE)
_VERSIONS: Final = re.compile(r"npu-smi\s+(\S+)\s+Version:\s*([^\s|]+)")
_NO_PROCESS: Final = re.compile(r"No running processes found in NPU\s+(\d+)")
_BUS_ID: Final = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]")
_SLASH: Final = re.compile(r"\s*/\s*")
_ABSENT: Final = frozenset({"NA", "N/A", "-", ""})
_UPPER_HEADER: Final = ("power", "temp", "hugepages-usage")
_LOWER_HEADER: Final = ("aicore", "memory-usage", "hbm-usage")
_MOST_DIGITS: Final = 18


def soc_version(name: str) -> str:
    """Return what ATC calls a chip whose npu-smi Name is given: `310P3` and `Ascend310P3` give `Ascend310P3`."""
    return f"Ascend{name.strip().removeprefix('Ascend')}"


def parse_info(text: str) -> NpuSmiInfo:
    """Read `npu-smi info`.

    Returns:
        The tables; or, when the driver does not answer, `ok=False` with the reason.

    Raises:
        NpuSmiError: neither a row of a chip nor a known failure is in the text.
    """
    reader = _InfoReader()
    for line in text.splitlines():
        reader.read(line)
    failure = _DCMI_FAILURE.search(text)
    if not reader.chips and failure is not None:
        return NpuSmiInfo(ok=False, error=DriverFailure(text=failure[0].strip(), dcmi_code=int(failure[1])))
    if not reader.chips:
        raise NpuSmiError("npu-smi printed no table of chips: their state is unknown", detail=text)
    versions = _VERSIONS.search(text)
    return NpuSmiInfo(
        ok=True,
        tool_version=versions[1] if versions else None,
        driver_version=versions[2] if versions else None,
        chips=tuple(reader.chips),
        processes=tuple(reader.processes),
        no_process_npus=tuple(int(found) for found in _NO_PROCESS.findall(text) if len(found) <= _MOST_DIGITS),
    )


class _InfoReader:
    """Goes through the lines; remembers the headers and the upper row of the chip that is being read."""

    def __init__(self) -> None:
        self.chips: list[Chip] = []
        self.processes: list[Process] = []
        self._upper: list[str] | None = None
        self._upper_header: Sequence[str] = _UPPER_HEADER
        self._lower_header: Sequence[str] = _LOWER_HEADER
        self._id_column = "device"
        self._process_header: list[str] | None = None

    def read(self, line: str) -> None:
        """Take one line; what is not a row of a table is passed over."""
        if not line.lstrip().startswith("|"):
            return
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        words = cells[0].split()
        if words and words[0] in {"NPU", "Chip"}:
            self._read_header([cell.lower() for cell in cells])
        elif len(cells) > 1 and words and _integer(words[0]) is not None:
            if self._process_header is not None:
                self._read_process(self._process_header, cells)
            else:
                self._read_chip_row(cells)

    def _read_header(self, cells: list[str]) -> None:
        names = [re.sub(r"\(.*?\)", "", name) for cell in cells[2:] for name in re.split(r"\s{2,}|(?<=\))\s*", cell)]
        names = [name.strip() for name in names if name.strip()]
        if any(cell == "process id" for cell in cells):
            self._process_header = cells
        elif cells[0].startswith("npu"):
            self._process_header = None
            self._upper_header = names
        else:
            self._lower_header = names
            self._id_column = cells[0].split()[-1]

    def _read_chip_row(self, cells: list[str]) -> None:
        is_lower = _BUS_ID.fullmatch(cells[1]) is not None or cells[1] in _ABSENT
        if self._upper is not None and is_lower:
            chip = self._chip(self._upper, cells)
            self.chips += [] if chip is None else [chip]
            self._upper = None
        else:
            # A lower row whose upper row was lost tells nothing by itself.
            self._upper = None if is_lower else cells

    def _chip(self, upper: list[str], lower: list[str]) -> Chip | None:
        npu_id, *name = upper[0].split()
        chip_id, *logic = lower[0].split()
        ids = _integer(npu_id), _integer(chip_id)
        if ids[0] is None or ids[1] is None or not name:
            return None
        above = dict(zip(self._upper_header, _values(upper[2:]), strict=False))
        below = dict(zip(self._lower_header, _values(lower[2:]), strict=False))
        number = _integer(logic[0]) if logic else None
        hugepages, memory, hbm = (
            _pair(row.get(key))
            for row, key in ((above, "hugepages-usage"), (below, "memory-usage"), (below, "hbm-usage"))
        )
        return Chip(
            npu_id=ids[0],
            chip_id=ids[1],
            name=" ".join(name),
            health=upper[1],
            power_w=_decimal(above.get("power")),
            temp_c=_integer(above.get("temp")),
            hugepages_used=hugepages[0],
            hugepages_total=hugepages[1],
            bus_id=None if lower[1] in _ABSENT else lower[1],
            aicore_percent=_integer(below.get("aicore")),
            memory_used_mb=memory[0],
            memory_total_mb=memory[1],
            hbm_used_mb=hbm[0],
            hbm_total_mb=hbm[1],
            device_id=None if self._id_column == "phy-id" else number,
            phy_id=number if self._id_column == "phy-id" else None,
        )

    def _read_process(self, header: list[str], cells: list[str]) -> None:
        row = dict(zip(header, cells, strict=False))
        ids = [_integer(word) for word in cells[0].split()]
        pid = _integer(row.get("process id"))
        if ids[0] is None or pid is None:
            return
        self.processes.append(
            Process(
                npu_id=ids[0],
                chip_id=ids[1] if len(ids) > 1 else None,
                pid=pid,
                name=row.get("process name", ""),
                memory_mb=_integer(row.get("process memory(mb)")),
                container_pid=_integer(row.get("process id in container")),
            )
        )


def _values(cells: Sequence[str]) -> Iterator[str]:
    """Yield the values of some cells; `used / total` is one value."""
    for cell in cells:
        yield from _SLASH.sub("/", cell.replace("N/A", "NA")).split()


def _integer(text: str | None) -> int | None:
    if text is None or re.fullmatch(rf"[0-9]{{1,{_MOST_DIGITS}}}", text) is None:
        return None
    return int(text)


def _decimal(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else None


def _pair(text: str | None) -> tuple[int | None, int | None]:
    used, _, total = (text or "").partition("/")
    return _integer(used), _integer(total)


_MAP_COLUMNS: Final = ("NPU ID", "Chip ID", "Chip Logic ID", "Chip Name")


def parse_map(text: str) -> NpuSmiMap:
    """Read `npu-smi info -m`; columns it does not know (Chip Phy-ID) are passed over.

    Raises:
        NpuSmiError: there is no such table in the text.
    """
    header: list[str] | None = None
    rows: list[MapRow] = []
    mcu_rows = 0
    for line in text.splitlines():
        cells = [cell for cell in re.split(r"\s{2,}|\t|\|", line.strip().strip("|").strip()) if cell]
        if set(_MAP_COLUMNS) <= set(cells):
            header = cells
        elif header is not None and len(cells) == len(header):
            row = dict(zip(header, cells, strict=True))
            mcu_rows += row["Chip Name"].lower() == "mcu"
            npu_id, chip_id, logic_id = (_integer(row[column]) for column in _MAP_COLUMNS[:3])
            if npu_id is not None and chip_id is not None and logic_id is not None:
                name = row["Chip Name"]
                rows.append(MapRow(npu_id=npu_id, chip_id=chip_id, logic_id=logic_id, chip_name=name))
    if header is None:
        raise NpuSmiError("npu-smi printed no table of logic ids: they are unknown", detail=text)
    return NpuSmiMap(map=tuple(rows), mcu_rows=mcu_rows)


def parse_list(text: str) -> NpuSmiList:
    """Read `npu-smi info -l`, in the new (`Total Count`) and the old form (`Card Count`).

    Raises:
        NpuSmiError: there is no count in the text.
    """
    pairs = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in text.splitlines())]
    total = next((_integer(value) for key, value in pairs if key in {"Total Count", "Card Count"}), None)
    if total is None:
        raise NpuSmiError("npu-smi printed no list of cards: their number is unknown", detail=text)
    cards: list[CardCount] = []
    npu_id: int | None = None
    for key, value in pairs:
        if key == "NPU ID":
            npu_id = _integer(value)
        elif key == "Chip Count" and npu_id is not None:
            cards.append(CardCount(npu_id=npu_id, chip_count=_integer(value) or 0))
    return NpuSmiList(total_count=total, npus=tuple(cards))
