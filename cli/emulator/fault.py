"""`npuq emulator fault`."""

from enum import StrEnum
from typing import Annotated, Final

import typer

EXAMPLES: Final = ("npuq emulator fault 0 hang --count 1", "npuq emulator fault host atc_killed --count 1")


class FaultKind(StrEnum):
    """What may be put on a chip, or on the host (the last four); the emulator has the same list."""

    HANG = "hang"
    SLOW = "slow"
    OOM = "oom"
    OPEN_FAILED = "open_failed"
    BAD_EXECUTE = "bad_execute"
    WRONG_SOC = "wrong_soc"
    CRASH = "crash"
    ALARM = "alarm"
    LOST = "lost"
    LEAK = "leak"
    NO_DRIVER = "no_driver"
    ATC_SLOW = "atc_slow"
    ATC_KILLED = "atc_killed"
    ATC_FAILED = "atc_failed"


def command(  # noqa: PLR0913 - one option per property of a fault
    ctx: typer.Context,
    device: Annotated[
        str, typer.Argument(metavar="DEVICE", help="A chip's logic id or device id; host for no_driver and atc_*.")
    ],
    kind: Annotated[FaultKind, typer.Argument(metavar="KIND", help=f"One of {', '.join(FaultKind)}.")],
    *,
    count: Annotated[
        int | None,
        typer.Option("--count", min=1, max=1_000_000, help="Strike so many times, then heal; default: until cleared."),
    ] = None,
    factor: Annotated[float, typer.Option("--factor", min=1, max=1_000_000, help="slow: how many times slower.")] = 2.0,
    health: Annotated[str, typer.Option("--health", help="alarm: Warning, Alarm, Critical or UNKNOWN.")] = "Alarm",
    memory_mb: Annotated[
        int, typer.Option("--memory-mb", min=1, max=1_048_576, metavar="MB", help="leak: how much is held.")
    ] = 1024,
    seconds: Annotated[float, typer.Option("--seconds", min=0, max=86_400, help="atc_slow: how much longer.")] = 10.0,
    signal: Annotated[int, typer.Option("--signal", min=1, max=64, help="atc_killed: number of the signal.")] = 9,
    text: Annotated[str, typer.Option("--text", help="atc_failed: what atc prints.")] = "E19999: Inner Error!",
) -> None:
    """Make an emulated chip, or the host, sick: to see what npuq does about it.

    hang: an execution never returns; slow: it takes longer

    oom: no device memory; leak: memory is held that no process holds

    open_failed: the device cannot be opened (507033)

    bad_execute: a kernel fails (507011); crash: the process aborts (SIGABRT)

    wrong_soc: models are refused as made for another chip

    alarm: bad health; lost: gone from npu-smi

    no_driver: npu-smi answers -8005

    atc_slow, atc_killed, atc_failed: what happens to conversions
    """
    from cli.emulator.program import place, run
    from cli.output import tell

    given = {
        "--count": count,
        "--factor": factor,
        "--health": health,
        "--memory-mb": memory_mb,
        "--seconds": seconds,
        "--signal": signal,
        "--text": text,
    }
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    run(ctx, ["fault", place(ctx, device), kind.value, *options])
    tell(f"{kind} on {device}; take it away with: npuq emulator clear {device}")
