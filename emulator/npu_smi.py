"""The emulated `npu-smi`: `info` with its tables and queries, in the layouts of several cards and drivers.

Reads the fleet and who holds memory; changes nothing. A fleet asks it over and over, so it imports little: within the
standard library, and nothing large of that (argparse).
"""

import sys
from collections.abc import Mapping
from itertools import zip_longest
from typing import Final

from emulator.fleet import Chip, FaultKind, Fleet, FleetFileError
from emulator.home import Home
from emulator.npu_smi_answers import QueryError, Scene, answer
from emulator.npu_smi_tables import render_info, render_list, render_map, visible_chips
from emulator.occupancy import computing_chips, occupants

_USAGE: Final = """\
Usage: npu-smi info <-h|-m|-l|-t type> [Options...]

Emulated by npuq; it knows these commands only:
       info             Show all device's information (default).
       info -l          Show all device's topology.
       info -m          Show all device's mapping information.
       info -t type -i id [-c chip_id]
                        Show information for type: board, usages, common, memory, proc-mem, health, power, temp, ecc.
       -h, --help       Show this help text.
       -v               Show the version.
"""
_OPTIONS: Final = frozenset({"-t", "-i", "-c"})
_NO_DRIVER: Final = "dcmi module initialize failed. ret is -8005"


def main(arguments: list[str]) -> int:
    """Run the program; returns its exit code."""
    if not arguments or arguments[-1] in {"-h", "--help"}:
        sys.stdout.write(_USAGE)
        return 0
    try:
        home = Home.from_environment()
        fleet = home.fleet()
        scene = Scene(fleet=fleet, holders=occupants(home), computing=computing_chips(home, fleet))
    except FleetFileError as error:
        sys.stderr.write(f"npu-smi (emulated): {error}\n")
        return 1
    try:
        sys.stdout.write(_output(scene, arguments))
    except QueryError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


def _output(scene: Scene, arguments: list[str]) -> str:
    """Return what a command prints; raises QueryError with what a refused one prints."""
    fleet = scene.fleet
    if arguments == ["-v"]:
        return f"npu-smi version: {fleet.driver_version}\n"
    chips = visible_chips(fleet)
    if not chips or fleet.fault(None, FaultKind.NO_DRIVER):
        raise QueryError(_NO_DRIVER)
    match arguments:
        case ["info"]:
            return render_info(fleet, scene.holders, scene.computing)
        case ["info", "-m"]:
            return render_map(chips)
        case ["info", "-l"]:
            return render_list(chips, fleet.driver_version)
        case ["info", *query] if "-t" in query:
            return _query(scene, query)
    raise _refused(arguments[-1])


def _query(scene: Scene, query: list[str]) -> str:
    options: dict[str, str] = {}
    for name, value in zip_longest(query[::2], query[1::2]):
        if name not in _OPTIONS or value is None:
            raise _refused(name)
        options[name] = value
    card = _card(scene.fleet, _number(options, "-i"))
    return answer(scene, options["-t"], card, _number(options, "-c") if "-c" in options else None)


def _number(options: Mapping[str, str], name: str) -> int:
    try:
        return int(options[name])
    except (KeyError, ValueError):
        raise _refused(name) from None


def _refused(option: str) -> QueryError:
    """Return the error of a parameter that is missing or wrong."""
    return QueryError(f"Error parameter of {option}\n{_USAGE}")


def _card(fleet: Fleet, npu_id: int) -> list[Chip]:
    card = [chip for chip in visible_chips(fleet) if chip.npu_id == npu_id]
    if not card:
        raise QueryError("Error parameter of -i")
    return card
