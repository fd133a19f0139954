"""The emulated `npu-smi`: `info` with its tables and queries, in the layouts of several cards and drivers.

Reads the fleet and who holds memory; changes nothing. Standard library only, so that it answers within 0.1 s.
"""

import argparse
import sys
from typing import Final, NoReturn

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
    raise QueryError(f"Error parameter of {arguments[-1]}\n{_USAGE}")


class _Parser(argparse.ArgumentParser):
    """A parser that refuses as the real tool does."""

    def error(self, message: str) -> NoReturn:
        option = next((word.rstrip(":") for word in message.split() if word.startswith("-")), "-t")
        raise QueryError(f"Error parameter of {option.partition('/')[0]}\n{_USAGE}")


def _query(scene: Scene, query: list[str]) -> str:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-t", required=True)
    parser.add_argument("-i", type=int, required=True)
    parser.add_argument("-c", type=int)
    options = parser.parse_args(query)
    card = _card(scene.fleet, options.i)
    return answer(scene, options.t, card, options.c)


def _card(fleet: Fleet, npu_id: int) -> list[Chip]:
    card = [chip for chip in visible_chips(fleet) if chip.npu_id == npu_id]
    if not card:
        raise QueryError("Error parameter of -i")
    return card


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
