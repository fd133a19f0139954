"""The tables of the emulated `npu-smi`: `info`, `info -m`, `info -l`. Pure; standard library only."""

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Final

from emulator.fleet import Chip, FaultKind, Fleet
from emulator.npu_smi_layouts import Family, Layout, family_of, layout_of
from emulator.occupancy import Occupant

_PROCESS_NAME_CHARACTERS: Final = 15
_BUSY_PERCENT: Final = 87
_MAP_CELL: Final = 31
_NO_LOGIC_ID: Final = "-"


def visible_chips(fleet: Fleet) -> list[Chip]:
    """Return the chips that are not lost, by card."""
    chips = [chip for chip in fleet.chips if fleet.fault(chip.logic_id, FaultKind.LOST) is None]
    return sorted(chips, key=lambda chip: (chip.npu_id, chip.chip_id))


def health_of(fleet: Fleet, chip: Chip) -> str:
    """Return the word for a chip's health."""
    fault = fleet.fault(chip.logic_id, FaultKind.ALARM)
    return "OK" if fault is None else fault.health


def memory_used_mb(fleet: Fleet, chip: Chip, holders: Iterable[Occupant]) -> int:
    """Return what is in use: idle, held by processes, and leaked."""
    leak = fleet.fault(chip.logic_id, FaultKind.LEAK)
    held = sum(each.memory_mb for each in holders if each.logic_id == chip.logic_id)
    return min(chip.memory_idle_mb + held + (leak.memory_mb if leak else 0), chip.memory_total_mb)


def aicore_percent(chip: Chip, computing: Collection[int]) -> int:
    """Return a chip's load at this instant; `computing`: logic ids of those that execute."""
    return _BUSY_PERCENT if chip.logic_id in computing else 0


def render_info(fleet: Fleet, holders: Sequence[Occupant], computing: Collection[int] = ()) -> str:
    """Return the table of chips and, where the driver has one, the table of processes."""
    chips = visible_chips(fleet)
    layout = layout_of(family_of(chips[0].name), fleet.driver_version)
    edge, chip_line = f"+{'-' * layout.width}+", _line(layout.cells, "-")
    between = chip_line if layout.crossed_chip_line else edge
    card_line = _line(layout.cells, "=")
    lines = [edge, _version_line(layout, fleet.driver_version), chip_line, *_headings(layout), card_line]
    for _, card in groupby(chips, key=lambda chip: chip.npu_id):
        rows = [_chip_rows(layout, fleet, chip, holders, computing) for chip in card]
        for row in rows[:-1]:
            lines += [*row, between]
        lines += [*rows[-1], card_line]
    if layout.process_cells:
        lines += _process_lines(layout, chips, holders)
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[int], dash: str) -> str:
    return f"+{'+'.join(dash * width for width in cells)}+"


def _row(cells: Sequence[int], texts: Sequence[str]) -> str:
    return f"|{'|'.join(f' {text}'.ljust(width) for text, width in zip(texts, cells, strict=True))}|"


def _version_line(layout: Layout, version: str) -> str:
    return f"|{f' npu-smi {version:<{layout.version_width}}Version: {version}'.ljust(layout.width)}|"


def _headings(layout: Layout) -> list[str]:
    ids, hugepages = layout.id_width, "" if layout.hugepages_width is None else "Hugepages-Usage(page)"
    hbm = "HBM-Usage(MB)" if layout.has_hbm else ""
    return [
        _row(layout.cells, [f"{'NPU':<{ids}}Name", "Health", _values(layout, "Power(W)", "Temp(C)", hugepages)]),
        _row(
            layout.cells,
            [f"{'Chip':<{ids}}{layout.id_column}", "Bus-Id", _values(layout, "AICore(%)", "Memory-Usage(MB)", hbm)],
        ),
    ]


def _values(layout: Layout, first: str, second: str, third: str) -> str:
    return f"{first:<{layout.values[0]}}{second:<{layout.values[1]}}{third}".rstrip()


def _pair(used: int, total: int, width: int = 5) -> str:
    return f"{used:<{width}}/ {total}"


def _chip_rows(
    layout: Layout, fleet: Fleet, chip: Chip, holders: Sequence[Occupant], computing: Collection[int]
) -> list[str]:
    used = _pair(memory_used_mb(fleet, chip, holders), chip.memory_total_mb)
    ddr = _pair(chip.ddr_used_mb, chip.ddr_total_mb)
    hugepages = "" if layout.hugepages_width is None else _pair(0, 0, layout.hugepages_width)
    number = {"Device": chip.logic_id, "Phy-ID": chip.logic_id}.get(layout.id_column, "")
    load = str(aicore_percent(chip, computing))
    above = _values(layout, power_text(chip), str(chip.temp_c), hugepages)
    below = _values(layout, load, ddr, used) if layout.has_hbm else _values(layout, load, used, "")
    ids = layout.id_width
    return [
        _row(layout.cells, [f"{chip.npu_id:<{ids}}{chip.name}", health_of(fleet, chip), above]),
        _row(layout.cells, [f"{chip.chip_id:<{ids}}{number}", chip.bus_id, below]),
    ]


def power_text(chip: Chip) -> str:
    """Return a chip's power as printed: A3 shows a card's power with its first die only."""
    if family_of(chip.name) is Family.A3 and chip.chip_id > 0:
        return "-"
    return "NA" if chip.power_w is None else f"{chip.power_w:.1f}"


def _process_lines(layout: Layout, chips: Sequence[Chip], holders: Sequence[Occupant]) -> list[str]:
    # The real tool draws this table with the borders of the one above, though it has more columns.
    cells = layout.process_cells
    headings = ["NPU     Chip", "Process id", "Process name", "Process memory(MB)", "Process id in container"]
    chip_line, card_line = _line(layout.cells, "-"), _line(layout.cells, "=")
    lines = [chip_line, _row(cells, headings[: len(cells)]), card_line]
    for npu_id, card in groupby(chips, key=lambda chip: chip.npu_id):
        rows = [row for chip in card for row in _process_rows(cells, chip, holders)]
        nobody = f"| {f'No running processes found in NPU {npu_id}':<{layout.width - 1}}|"
        lines += [*(rows or [nobody]), card_line]
    return lines


def _process_rows(cells: Sequence[int], chip: Chip, holders: Sequence[Occupant]) -> list[str]:
    rows = []
    for process in processes_on(chip, holders):
        name = process.name[:_PROCESS_NAME_CHARACTERS]
        texts = [f"{chip.npu_id:<8}{chip.chip_id}", str(process.pid), name, str(process.memory_mb), "NA"]
        rows.append(_row(cells, texts[: len(cells)]))
    return rows


def processes_on(chip: Chip, holders: Iterable[Occupant]) -> list[Occupant]:
    """Return one entry per process that holds memory of a chip, with the sum of its uses."""
    mine = sorted((each for each in holders if each.logic_id == chip.logic_id), key=lambda each: each.pid)
    merged = []
    for _, uses in groupby(mine, key=lambda each: each.pid):
        held = list(uses)
        merged.append(held[0].with_memory(sum(each.memory_mb for each in held)))
    return merged


def render_map(chips: Sequence[Chip]) -> str:
    """Return `info -m`: which (NPU, chip) has which logic id; each card's controller is listed too, without one."""
    physical = family_of(chips[0].name) is Family.A3
    headings = ["NPU ID", "Chip ID", "Chip Logic ID", *(["Chip Phy-ID"] if physical else []), "Chip Name"]
    lines = [_map_row(headings)]
    for npu_id, card in groupby(chips, key=lambda chip: chip.npu_id):
        members = list(card)
        for chip in members:
            ids = [npu_id, chip.chip_id, chip.logic_id, *([chip.logic_id] if physical else [])]
            lines.append(_map_row([*ids, f"Ascend {chip.name.removeprefix('Ascend')}"]))
        none = [_NO_LOGIC_ID] * (2 if physical else 1)
        lines.append(_map_row([npu_id, members[-1].chip_id + 1, *none, "Mcu"]))
    return "\n".join(lines) + "\n"


def _map_row(cells: Sequence[object]) -> str:
    *ids, name = cells
    return "".join(f"{cell:<{_MAP_CELL}}" for cell in ids) + str(name)


def render_list(chips: Sequence[Chip], driver_version: str) -> str:
    """Return `info -l`: the cards and how many chips each has."""
    cards = [(npu_id, len(list(card))) for npu_id, card in groupby(chips, key=lambda chip: chip.npu_id)]
    layout = layout_of(family_of(chips[0].name), driver_version)
    label = "Total Count" if layout.total_count else "Card Count"
    product = "" if layout.total_count else f"{'Product Name':<31}: NA\n{'Serial Number':<31}: NA\n"
    blocks = [f"{label:<31}: {len(cards)}"]
    blocks += [f"{'NPU ID':<31}: {npu_id}\n{product}{'Chip Count':<31}: {count}" for npu_id, count in cards]
    return "\n\n".join(blocks) + "\n"
