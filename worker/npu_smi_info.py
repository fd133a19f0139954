"""The tables of `npu-smi info`. Pure.

The layouts differ by driver and card: columns come and go, widths change, copies lose borders, containers print noise
first, old drivers have no table of processes. So cells are split on `|`, the headers say which number is which, and
what each row is follows from its words and from the row before it: no list of words for "nothing" is ever complete.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from worker.npu_smi_values import (
    ABSENT,
    Chip,
    DriverFailure,
    NpuSmiError,
    NpuSmiInfo,
    Process,
    decimal,
    integer,
    signed_integer,
)

# Every repetition is bounded: a damaged text must not cost more than its length.
_DCMI_CODE: Final = re.compile(r"\bret is (-?[0-9]{1,9})")
_VERSIONS: Final = re.compile(r"npu-smi\s{1,200}(\S{1,100})\s{1,200}Version:\s{0,200}([^\s|]{1,100})")
_NO_PROCESS: Final = re.compile(r"No running processes found in NPU\s{1,40}(\d{1,18})\b")
_UNIT: Final = re.compile(r"\([^()]{0,40}\)")
_COLUMN_GAP: Final = re.compile(r"\s{2,200}|(?<=\))\s{0,200}")
_SLASH: Final = re.compile(r"\s{0,40}/\s{0,40}")
_UPPER_HEADER: Final = ("power", "temp", "hugepages-usage")
_LOWER_HEADER: Final = ("aicore", "memory-usage", "hbm-usage")
_PAIR_SUFFIX: Final = "-usage"  #: of columns with `used / total`
_HEALTH_WORDS: Final = frozenset({"ok", "warning", "alarm", "critical", "unknown"})
_UNKNOWN_HEALTH: Final = "UNKNOWN"
#: A bus id that was cut off would name another chip.
_BUS_ID: Final = re.compile(r"(?:[0-9A-Fa-f]{4,8}:)?[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]")
#: Every kind of chip has such a number in its name: 310P3, 910, Ascend950.
_CHIP_NUMBER: Final = re.compile(r"[0-9]{3}")


def parse_info(text: str) -> NpuSmiInfo:
    """Read `npu-smi info`.

    Returns:
        The tables; `ok=False` when there is no table of chips: with the reason when the driver does not answer, with
        the processes when only their table was printed.

    Raises:
        NpuSmiError: neither a row of a table nor a known failure is in the text.
    """
    reader = _InfoReader()
    for line in text.splitlines():
        reader.read(line)
    idle = tuple(int(found) for found in _NO_PROCESS.findall(text))
    if not reader.chips:
        failure = _driver_failure(text)
        if failure is None and not reader.processes and not idle:
            raise NpuSmiError("npu-smi printed no table of chips: their state is unknown", detail=text)
        return NpuSmiInfo(ok=False, processes=tuple(reader.processes), no_process_npus=idle, error=failure)
    versions = _VERSIONS.search(text)
    return NpuSmiInfo(
        ok=True,
        tool_version=versions[1] if versions else None,
        driver_version=versions[2] if versions else None,
        chips=tuple(reader.chips),
        processes=tuple(reader.processes),
        no_process_npus=idle,
    )


def _driver_failure(text: str) -> DriverFailure | None:
    for line in text.splitlines():
        code = _DCMI_CODE.search(line) if "dcmi" in line else None
        if code is not None:
            return DriverFailure(text=line.strip(), dcmi_code=int(code[1]))
    return None


class _InfoReader:
    """Goes through the lines; remembers the headers and the upper row of the chip that is being read."""

    def __init__(self) -> None:
        self.chips: list[Chip] = []
        self.processes: list[Process] = []
        self._upper: list[str] | None = None
        self._upper_header: Sequence[str] | None = None
        self._lower_header: Sequence[str] | None = None
        self._id_column: str | None = None
        self._has_border = False  # copies may have lost all of it
        self._process_header: list[str] | None = None

    def read(self, line: str) -> None:
        """Take one line; what is not a row of a table is passed over."""
        if not line.lstrip().startswith("|"):
            return
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        has_border = line.rstrip().endswith("|")
        if self._has_border and not has_border:
            cells[-1] = " ".join(cells[-1].split()[:-1])  # the line was cut, perhaps in the middle of a number
        words = cells[0].split()
        if words and words[0] in {"NPU", "Chip"}:
            self._has_border = has_border
            self._read_header([cell.lower() for cell in cells])
        elif len(cells) > 1 and words and integer(words[0]) is not None:
            if self._process_header is not None:
                self._read_process(self._process_header, cells)
            else:
                self._read_chip_row(cells)

    def _read_header(self, cells: list[str]) -> None:
        names = [_UNIT.sub("", name).strip() for cell in cells[2:] for name in _COLUMN_GAP.split(cell)]
        names = [name for name in names if name]
        if any(cell == "process id" for cell in cells):
            self._process_header = cells
        elif cells[0].startswith("npu"):
            self._process_header = None
            self._upper_header = names
        else:
            self._lower_header = names
            self._id_column = cells[0].split()[-1]

    def _read_chip_row(self, cells: list[str]) -> None:
        is_lower = _is_lower(cells, after_upper=self._upper is not None)
        if self._upper is None or not is_lower:
            # A lower row whose upper row was lost tells nothing by itself.
            self._upper = None if is_lower else cells
            return
        chip = self._chip(self._upper, cells)
        self.chips += [] if chip is None else [chip]
        self._upper = None

    def _chip(self, upper: list[str], lower: list[str]) -> Chip | None:
        npu_id, *name = upper[0].split()
        chip_id, *logic = lower[0].split()
        ids = integer(npu_id), integer(chip_id)
        if ids[0] is None or ids[1] is None or not name:
            return None
        row = _by_header(self._upper_header, _UPPER_HEADER, upper) | _by_header(
            self._lower_header, _LOWER_HEADER, lower
        )
        # Without its heading, a number may be of either kind: then `info -m` tells.
        number = integer(logic[0]) if logic else None
        hugepages, memory, hbm = (_pair(row.get(key)) for key in ("hugepages-usage", "memory-usage", "hbm-usage"))
        return Chip(
            npu_id=ids[0],
            chip_id=ids[1],
            name=" ".join(name),
            health=_UNKNOWN_HEALTH if upper[1] in ABSENT else upper[1],
            power_w=decimal(row.get("power")),
            temp_c=signed_integer(row.get("temp")),
            hugepages_used=hugepages[0],
            hugepages_total=hugepages[1],
            bus_id=lower[1] if _BUS_ID.fullmatch(lower[1]) else None,
            aicore_percent=integer(row.get("aicore")),
            memory_used_mb=memory[0],
            memory_total_mb=memory[1],
            hbm_used_mb=hbm[0],
            hbm_total_mb=hbm[1],
            device_id=number if self._id_column == "device" else None,
            phy_id=number if self._id_column == "phy-id" else None,
        )

    def _read_process(self, header: list[str], cells: list[str]) -> None:
        # Of two columns of one name the first counts: the last heading may be a longer one that was cut off.
        row = dict(reversed(list(zip(header, cells, strict=False))))
        ids = [integer(word) for word in cells[0].split()]
        pid = integer(row.get("process id"))
        if ids[0] is None or pid is None:
            return
        self.processes.append(
            Process(
                npu_id=ids[0],
                chip_id=ids[1] if len(ids) > 1 else integer(row.get("chip") or row.get("chip id")),
                pid=pid,
                name=row.get("process name", ""),
                memory_mb=integer(row.get("process memory(mb)")),
                container_pid=integer(row.get("process id in container")),
            )
        )


def _is_lower(cells: Sequence[str], *, after_upper: bool) -> bool:
    """Tell a lower row (chip, perhaps its logic id; a bus id or none) from an upper one (card, name; a word of health).

    Args:
        cells: of the row.
        after_upper: whether the row before it was an upper one: where the words leave a doubt, rows alternate.
    """
    words = cells[0].split()[1:]
    if ":" in cells[1] or not words:
        return True
    if cells[1].lower() in _HEALTH_WORDS or len(words) > 1:
        return False
    has_number = _CHIP_NUMBER.search(words[0]) is not None
    if integer(words[0]) is None:
        return not has_number and after_upper
    return not has_number or after_upper  # the chips 310 and 910 are called by a number, like a logic id


def _by_header(header: Sequence[str] | None, usual: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Return name -> value; nothing when a value is missing: every other one might be its neighbour's.

    A header that was cut off is taken for the usual one, whose last columns not every card has.
    """
    names = usual if header is None else header
    values = list(_values(cells[2:]))
    if len(values) < len(names):
        expected = sum(not name.endswith(_PAIR_SUFFIX) for name in names)
        if header is not None or sum("/" not in value for value in values) != expected:
            return {}
    return dict(zip(names, values, strict=False))


def _values(cells: Sequence[str]) -> Iterator[str]:
    """Yield the values of some cells; `used / total` is one value."""
    for cell in cells:
        yield from _SLASH.sub("/", cell.replace("N/A", "NA")).split()


def _pair(text: str | None) -> tuple[int | None, int | None]:
    """Return used and total; nothing where one is missing, as the other may be half a number."""
    used, _, total = (text or "").partition("/")
    return (integer(used), integer(total)) if used and total else (None, None)
