"""What can be said when submitting: every option once, grouped as commands take them together.

A command takes a dataclass made of groups (`cli.submitting.command.takes`); a field is an option, its type says how it
is typed, its value is the default. The groups of a class come in the help from the last to the first.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Output
from cli.output import Format
from npuq.states import Scope


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every submission takes: the recipe, and how its run is to be treated."""

    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The model; see: npuq recipes list")]
    recipe_option: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe-option",
            metavar="NAME=VALUE",
            help="An option of the recipe, again for each; see: npuq recipes show",
        ),
    ] = None
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure anew, whatever is known (conversions are reused).")
    ] = False
    priority: Annotated[int, typer.Option("--priority", min=-100, max=100, help="Higher goes first.")] = 0
    name: Annotated[str | None, typer.Option("--name", help="What to call the run.")] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and send nothing.")] = False
    watch: Annotated[bool, typer.Option("--watch/--detach", help="Follow the run until it is over.")] = False
    output: Output = Format.TABLE


@dataclass(frozen=True, kw_only=True)
class FromWeights:
    """Beginning at a checkpoint."""

    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="A checkpoint as it was published.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class FromOnnx:
    """Beginning at an ONNX model."""

    onnx: Annotated[Path | None, typer.Option("--onnx", metavar="FILE", help="Begin at an ONNX model instead.")] = None


@dataclass(frozen=True, kw_only=True)
class FromOm:
    """Beginning at a converted model."""

    om: Annotated[Path | None, typer.Option("--om", metavar="FILE", help="Begin at a converted model instead.")] = None


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images that a model runs over."""

    dataset: Annotated[str | None, typer.Option("--dataset", metavar="NAME", help="See: npuq datasets list")] = None
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")] = None
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FILE", help="Only the images of a list: an id a line, # for comments."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Pins:
    """Where the passes of the recipe run."""

    pin_pass: Annotated[
        list[str] | None,
        typer.Option(
            "--pin-pass",
            metavar="PASS=DEVICE",
            help="Run a pass on this device and nowhere else, again for each, for example --pin-pass "
            "flipped=h1.npu1.0. Default: every pass on every free chip.",
        ),
    ] = None


BatchSizes = Annotated[
    str | None,
    typer.Option("--batch-sizes", "--batch-size", metavar="1,4,8", help="Separated by commas."),
]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What is made of the model for the chip."""

    batch_sizes: BatchSizes = "1"
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="fp16,...",
            help="fp16, mixed, fp32, origin; separated by commas. Default: fp16, or what the recipe prefers.",
        ),
    ] = None
    soc: Annotated[
        str | None,
        typer.Option("--soc", metavar="SOC", help="Chip to compile for; needed when the fleet has several."),
    ] = None
    atc: Annotated[
        list[str] | None,
        typer.Option(
            "--atc",
            metavar="NAME=VALUE",
            help="An option of ATC as its guides write it, again for each, for example --atc out_nodes=Concat_7:0. "
            "A file that is named is uploaded.",
        ),
    ] = None
    atc_table: Annotated[
        Path | None,
        typer.Option("--atc-table", metavar="FILE", help="A TOML file with such options in a table \\[atc]."),
    ] = None
    cann: Annotated[
        str | None,
        typer.Option("--cann", metavar="VERSION", help="Convert with this CANN; default: the fleet's newest."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Loops:
    """How long throughput is measured."""

    loops: Annotated[
        int | None,
        typer.Option(
            "--loops", "--loop", min=1, help="Benchmark so many executions; default: until the median is sure."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What throughput is measured of."""

    scope: Annotated[
        Scope,
        typer.Option("--scope", help="chip: one idle chip. card: besides, all chips of a whole card at once."),
    ] = Scope.CHIP


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What accuracy is held against."""

    reference: Annotated[
        bool,
        typer.Option("--reference", help="Score the ONNX in float32 on a CPU: the baseline of an accuracy drop."),
    ] = False
    test_scales: Annotated[
        str | None,
        typer.Option(
            "--test-scales",
            metavar="guide|reference",
            help="Short for --recipe-option test_scales=...: how large a recipe that asks shows pictures.",
        ),
    ] = None
