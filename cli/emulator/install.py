"""`npuq emulator install`."""

import sys
from typing import Annotated, Final

import typer

EXAMPLES: Final = ("npuq emulator install --cards 2 --chips-per-card 2 --memory-mb 44280",)


def command(  # noqa: PLR0913 - one option per property of the fleet
    ctx: typer.Context,
    *,
    cards: Annotated[int, typer.Option("--cards", metavar="N", min=1, help="Number of cards.")],
    chip: Annotated[str, typer.Option("--chip", help="Which chip (npu-smi's Name), for example 910B3.")] = "310P3",
    chips_per_card: Annotated[
        int, typer.Option("--chips-per-card", metavar="N", min=1, help="2: 300I Duo; 4: 300I (310).")
    ] = 1,
    npu_ids: Annotated[
        str | None, typer.Option("--npu-ids", metavar="0,1", help="NPU id of each card; default: from 0.")
    ] = None,
    memory_mb: Annotated[
        int | None, typer.Option("--memory-mb", min=1, metavar="MB", help="Of each chip; default: as the chip's.")
    ] = None,
    driver: Annotated[
        str, typer.Option("--driver", metavar="VERSION", help="npu-smi's version and layout (20.2 ... 26.0).")
    ] = "24.1.0-emulated",
    timed: Annotated[bool, typer.Option("--timed", help="Do not compute: answer zeros after a modelled time.")] = False,
    service_ms: Annotated[float, typer.Option("--service-ms", metavar="MS", help="Timed: per execution.")] = 2.0,
    per_sample_ms: Annotated[float, typer.Option("--per-sample-ms", metavar="MS", help="Timed: per sample.")] = 0.5,
    jitter: Annotated[
        float, typer.Option("--jitter", metavar="SHARE", min=0, max=1, help="Timed: largest deviation.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Timed: of the jitter.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the fleet that is there, with its faults.")] = False,
) -> None:
    """Write an emulated fleet of any shape, and print what a shell needs to use its tools.

    `npuq up --emulate N` does this for cards of one chip. All that is printed may be evaluated:
    eval "$(npuq emulator install ...)", then `npuq up`. The example is two 300I Duo.
    """
    from cli.emulator.program import emulator_home
    from cli.fleet.emulated import run_emulator

    given = {
        "--cards": cards,
        "--chip": chip,
        "--chips-per-card": chips_per_card,
        "--npu-ids": npu_ids,
        "--memory-mb": memory_mb,
        "--driver": driver,
        "--service-ms": service_ms,
        "--per-sample-ms": per_sample_ms,
        "--jitter": jitter,
        "--seed": seed,
    }
    flags = [name for name, wanted in (("--timed", timed), ("--force", force)) if wanted]
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    done = run_emulator(emulator_home(ctx), ["install", *options, *flags])
    sys.stderr.write(done.stderr)
    sys.stdout.write(done.stdout)
