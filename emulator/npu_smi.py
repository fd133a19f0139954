"""The emulated `npu-smi`: `info`, `info -m`, `info -l`, `-h`, in the layout of drivers 23.0 and 24.1 for 310 and 310P.

Reads the fleet and who holds memory; changes nothing. Standard library only, so that it answers within 0.1 s.
"""

import sys
from itertools import groupby

from emulator.fleet import Chip, FaultKind, Fleet, FleetFileError
from emulator.home import Home
from emulator.occupancy import Occupant, occupants

_EDGE = "+" + "-" * 104 + "+"
_CHIP_LINE = "+" + "-" * 31 + "+" + "-" * 17 + "+" + "-" * 54 + "+"
_CARD_LINE = _CHIP_LINE.replace("-", "=")
_PROCESS_NAME_CHARACTERS = 15
_USAGE = """\
Usage: npu-smi info [-h] [-l] [-m]

Emulated by npuq; it knows these commands only:
       info             Show all device's information (default).
       info -l          Show all device's topology.
       info -m          Show all device's mapping information.
       -h, --help       Show this help text.
       -v               Show the version.
"""


def main(arguments: list[str]) -> int:
    """Run the program; returns its exit code."""
    if not arguments or arguments[-1] in {"-h", "--help"}:
        sys.stdout.write(_USAGE)
        return 0
    try:
        home = Home.from_environment()
        fleet = home.fleet()
        holders = occupants(home)
    except FleetFileError as error:
        sys.stderr.write(f"npu-smi (emulated): {error}\n")
        return 1
    chips = visible_chips(fleet)
    if arguments == ["-v"]:
        sys.stdout.write(f"npu-smi version: {fleet.driver_version}\n")
    elif not chips:
        sys.stdout.write("dcmi module initialize failed. ret is -8005\n")
        return 1
    elif arguments == ["info"]:
        sys.stdout.write(render_info(fleet, holders))
    elif arguments == ["info", "-m"]:
        sys.stdout.write(render_map(chips))
    elif arguments == ["info", "-l"]:
        sys.stdout.write(render_list(chips))
    else:
        sys.stdout.write(f"Error parameter of {arguments[-1]}\n{_USAGE}")
        return 1
    return 0


def visible_chips(fleet: Fleet) -> list[Chip]:
    """Return the chips that are not lost, by card."""
    chips = [chip for chip in fleet.chips if fleet.fault(chip.logic_id, FaultKind.LOST) is None]
    return sorted(chips, key=lambda chip: (chip.npu_id, chip.chip_id))


def render_info(fleet: Fleet, holders: list[Occupant]) -> str:
    """Return the table of chips and the table of processes."""
    version = fleet.driver_version
    lines = [
        _EDGE,
        f"| npu-smi {version:<40} Version: {version:<45}|",
        _CHIP_LINE,
        f"| {'NPU':<8}{'Name':<22}| {'Health':<16}| {'Power(W)':<13}{'Temp(C)':<18}{'Hugepages-Usage(page)':<22}|",
        f"| {'Chip':<8}{'Device':<22}| {'Bus-Id':<16}| {'AICore(%)':<13}{'Memory-Usage(MB)':<40}|",
        _CARD_LINE,
    ]
    chips = visible_chips(fleet)
    for _, card in groupby(chips, key=lambda chip: chip.npu_id):
        rows = [_chip_rows(fleet, chip, holders) for chip in card]
        for row in rows[:-1]:
            lines += [*row, _CHIP_LINE]
        lines += [*rows[-1], _CARD_LINE]
    return "\n".join([*lines, *_process_lines(chips, holders)]) + "\n"


def _chip_rows(fleet: Fleet, chip: Chip, holders: list[Occupant]) -> list[str]:
    held = sum(each.memory_mb for each in holders if each.logic_id == chip.logic_id)
    used = min(chip.memory_idle_mb + held, chip.memory_total_mb)
    health = "Alarm" if fleet.fault(chip.logic_id, FaultKind.ALARM) else "OK"
    power = "NA" if chip.power_w is None else f"{chip.power_w:.1f}"
    return [
        f"| {chip.npu_id:<8}{chip.name:<22}| {health:<16}| {power:<13}{chip.temp_c:<18}{0:<6}/ {0:<14}|",
        f"| {chip.chip_id:<8}{chip.logic_id:<22}| {chip.bus_id:<16}| {0:<13}{used:<5}/ {chip.memory_total_mb:<33}|",
    ]


def _process_lines(chips: list[Chip], holders: list[Occupant]) -> list[str]:
    # The real tool draws this table with the borders of the one above, though it has a column more.
    lines = [
        _CHIP_LINE,
        f"| {'NPU':<8}{'Chip':<22}| {'Process id':<16}| {'Process name':<25}| {'Process memory(MB)':<26}|",
        _CARD_LINE,
    ]
    for npu_id, card in groupby(chips, key=lambda chip: chip.npu_id):
        rows = [row for chip in card for row in _process_rows(chip, holders)]
        lines += [*(rows or [f"| {f'No running processes found in NPU {npu_id}':<103}|"]), _CARD_LINE]
    return lines


def _process_rows(chip: Chip, holders: list[Occupant]) -> list[str]:
    mine = [each for each in holders if each.logic_id == chip.logic_id]
    rows = []
    for pid, uses in groupby(mine, key=lambda each: each.pid):
        held = list(uses)
        name = held[0].name[:_PROCESS_NAME_CHARACTERS]
        memory_mb = sum(each.memory_mb for each in held)
        rows.append(f"| {chip.npu_id:<8}{chip.chip_id:<22}| {pid:<16}| {name:<25}| {memory_mb:<26}|")
    return rows


def render_map(chips: list[Chip]) -> str:
    """Return `info -m`: which (NPU, chip) has which logic id; each card's controller is listed too, without one."""
    lines = [f"{'NPU ID':<31}{'Chip ID':<31}{'Chip Logic ID':<31}Chip Name"]
    for npu_id, card in groupby(chips, key=lambda chip: chip.npu_id):
        members = list(card)
        lines += [f"{npu_id:<31}{chip.chip_id:<31}{chip.logic_id:<31}Ascend {chip.name}" for chip in members]
        lines.append(f"{npu_id:<31}{members[-1].chip_id + 1:<31}{'-':<31}Mcu")
    return "\n".join(lines) + "\n"


def render_list(chips: list[Chip]) -> str:
    """Return `info -l`: the cards and how many chips each has."""
    cards = [(npu_id, len(list(card))) for npu_id, card in groupby(chips, key=lambda chip: chip.npu_id)]
    blocks = [f"{'Total Count':<31}: {len(cards)}"]
    blocks += [f"{'NPU ID':<31}: {npu_id}\n{'Chip Count':<31}: {count}" for npu_id, count in cards]
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
