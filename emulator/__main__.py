"""`python -m emulator`: install a home, look at it, and put faults on its chips."""

import argparse
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from emulator.fleet import DRIVER_VERSION, HEALTH_WORDS, Fault, FaultKind, Fleet, FleetFileError, Mode, ServiceTime
from emulator.home import ENVIRONMENT_VARIABLE, Home
from emulator.install import CHIP_PROFILES, FleetPlan, install

_HOST: Final = "host"
_EVERYWHERE: Final = object()


def main(arguments: list[str]) -> int:
    """Run a command; returns the exit code: 0 done, 1 not possible, 2 usage."""
    options = _parser().parse_args(arguments)
    home = Home(options.home)
    try:
        if options.command == "install":
            _install(options)
        elif options.command == "show":
            fleet = home.fleet()
            sys.stdout.write(f"{json.dumps(fleet.to_json())}\n" if options.json else describe(fleet))
        elif options.command == "fault":
            _put_fault(home, options)
        else:
            _clear_faults(home, options.device)
    except FleetFileError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emulator", description="An Ascend fleet without a card.")
    commands = parser.add_subparsers(dest="command", required=True)
    at_home = argparse.ArgumentParser(add_help=False)
    told = os.environ.get(ENVIRONMENT_VARIABLE)
    at_home.add_argument(
        "--home",
        type=Path,
        required=told is None,
        default=told,
        help=f"the emulator's folder [${ENVIRONMENT_VARIABLE}]",
    )
    _add_install(commands.add_parser("install", parents=[at_home], help="write a home with programs, module and fleet"))
    show = commands.add_parser("show", parents=[at_home], help="print the chips and their faults")
    show.add_argument("--json", action="store_true", help="as fleet.json, with the defaults")
    _add_fault(commands.add_parser("fault", parents=[at_home], help="put a fault on a chip, or on the host"))
    clear = commands.add_parser("clear", parents=[at_home], help="take away the faults of a chip, or all")
    clear.add_argument(
        "device",
        type=_place,
        nargs="?",
        default=_EVERYWHERE,
        metavar="DEVICE",
        help="logic id, or `host` (default: all)",
    )
    return parser


def _add_fault(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", type=_place, metavar="DEVICE", help="logic id; `host` for atc_* and no_driver")
    parser.add_argument("kind", type=FaultKind, choices=list(FaultKind), metavar="KIND", help=", ".join(FaultKind))
    parser.add_argument("--count", type=_positive, help="strike so many times, then heal (default: until cleared)")
    parser.add_argument("--factor", type=float, default=2.0, help="how much slower, for `slow` (default 2)")
    parser.add_argument("--health", default="Alarm", choices=HEALTH_WORDS, help="for `alarm` (default Alarm)")
    parser.add_argument("--memory-mb", type=_positive, default=1024, metavar="MB", help="for `leak` (default 1024)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how much longer, for `atc_slow` (default 10)")
    parser.add_argument("--signal", type=_positive, default=9, help="its number, for `atc_killed` (default 9)")
    parser.add_argument("--text", default="E19999: Inner Error!", help="what atc prints, for `atc_failed`")


def _add_install(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cards", type=_positive, required=True, metavar="N", help="number of cards")
    parser.add_argument("--chip", default="310P3", choices=list(CHIP_PROFILES), help="npu-smi Name (default 310P3)")
    parser.add_argument("--chips-per-card", type=_positive, default=1, metavar="N", help="2: 300I Duo; 4: 300I (310)")
    parser.add_argument("--npu-ids", type=_numbers, default=(), metavar="0,1", help="NPU id of each card")
    parser.add_argument("--memory-mb", type=_positive, metavar="MB", help="memory of each chip (default: as the chip)")
    parser.add_argument(
        "--driver", default=DRIVER_VERSION, metavar="VERSION", help="npu-smi's version and layout (20.2 ... 26.0)"
    )
    parser.add_argument("--timed", action="store_true", help="do not compute: answer zeros after a modelled time")
    parser.add_argument("--service-ms", type=float, default=2.0, metavar="MS", help="timed: per execution (default 2)")
    parser.add_argument(
        "--per-sample-ms", type=float, default=0.5, metavar="MS", help="timed: per sample (default 0.5)"
    )
    parser.add_argument(
        "--jitter", type=float, default=0.0, metavar="SHARE", help="timed: deviation, 0 to 1 (default 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="timed: of the jitter (default 0)")
    parser.add_argument("--force", action="store_true", help="replace the fleet that is there")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _place(text: str) -> int | None:
    """Read a logic id; None stands for the host."""
    return None if text == _HOST else int(text)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _install(options: argparse.Namespace) -> None:
    try:
        service_time = ServiceTime(
            base_ms=options.service_ms, per_sample_ms=options.per_sample_ms, jitter=options.jitter, seed=options.seed
        )
    except ValueError as error:
        raise FleetFileError(str(error)) from error
    plan = FleetPlan(
        cards=options.cards,
        chip=options.chip,
        chips_per_card=options.chips_per_card,
        npu_ids=options.npu_ids,
        memory_mb=options.memory_mb,
        driver=options.driver,
        mode=Mode.TIMED if options.timed else Mode.COMPUTED,
        service_time=service_time,
    )
    kept = Home(options.home).fleet_path.exists() and not options.force
    home = install(options.home, plan, force=options.force)
    if kept:
        sys.stderr.write("kept the fleet that is there; --force replaces it\n")
    told = "".join(f"# {line}".rstrip() + "\n" for line in describe(home.fleet()).splitlines())
    sys.stdout.write(f"{told}{_exports(home.root)}")  # a shell may evaluate all of it


def _exports(root: Path) -> str:
    """Return what a shell needs to use the tools of a home, in the shell's own words."""
    programs, modules, toolkit = (shlex.quote(str(root / name)) for name in ("bin", "python", "toolkit"))
    return (
        f"export PATH={programs}:$PATH\nexport PYTHONPATH={modules}${{PYTHONPATH:+:$PYTHONPATH}}\n"
        f"export ASCEND_TOOLKIT_HOME={toolkit}\nexport {ENVIRONMENT_VARIABLE}={shlex.quote(str(root))}\n"
    )


def _put_fault(home: Home, options: argparse.Namespace) -> None:
    names = ("device", "kind", "count", "factor", "health", "memory_mb", "seconds", "signal", "text")
    try:
        fault = Fault(**{name: getattr(options, name) for name in names})
    except ValueError as error:
        raise FleetFileError(str(error)) from error

    def put(fleet: Fleet) -> Fleet:
        if fault.device is not None and fleet.chip(fault.device) is None:
            raise FleetFileError(f"no chip has logic id {fault.device}; `show` lists them")
        others = tuple(each for each in fleet.faults if (each.device, each.kind) != (fault.device, fault.kind))
        return replace(fleet, faults=(*others, fault))

    home.edit(put)


def _clear_faults(home: Home, place: object) -> None:
    """Take away the faults of one place (logic id, None: the host), or `_EVERYWHERE`."""
    home.edit(
        lambda fleet: replace(
            fleet, faults=tuple(fault for fault in fleet.faults if place is not _EVERYWHERE and fault.device != place)
        )
    )


def describe(fleet: Fleet) -> str:
    """Return the fleet for people, a line per chip and a line per fault."""
    lines = [f"emulated fleet: {fleet.mode}, driver {fleet.driver_version}, CANN {fleet.toolkit_version}"]
    lines += [
        f"  {chip.logic_id}: {chip.soc_version}, NPU {chip.npu_id} chip {chip.chip_id}, {chip.bus_id}, "
        f"{chip.memory_total_mb} MB"
        for chip in fleet.chips
    ]
    for fault in fleet.faults:
        often = "until cleared" if fault.count is None else f"{fault.count} more times"
        place = _HOST if fault.device is None else fault.device
        lines.append(f"  fault on {place}: {fault.kind}, {often}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
