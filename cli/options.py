"""Options and arguments that several commands share, declared once so that they mean the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from cli.output import Format

Output = Annotated[Format, typer.Option("-o", "--output", help="How to write the records.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many records.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run: a unique beginning of its id, or @last.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job: a unique beginning of its id.")]
Target = Annotated[
    str, typer.Argument(metavar="[RUN|JOB]", help="A run or a job: a unique beginning of its id, or @last.")
]
Targets = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Runs or jobs: unique beginnings of their ids, or @last.")
]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="90s|5m|2h", help="Wait at most so long; then exit code 4.")
]
DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="A device: a unique beginning of its id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for those who look at the device later.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The dataset's folder, as the workers see it.")]

# --- submitting ---

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="The model; see: npuq recipes list")]
Weights = Annotated[Path | None, typer.Option("--weights", metavar="FILE", help="A checkpoint as it was published.")]
Onnx = Annotated[Path | None, typer.Option("--onnx", metavar="FILE", help="Begin at an ONNX model instead.")]
Om = Annotated[Path | None, typer.Option("--om", metavar="FILE", help="Begin at a converted model instead.")]
Dataset = Annotated[str | None, typer.Option("--dataset", metavar="NAME", help="See: npuq datasets list")]
BatchSizes = Annotated[str, typer.Option("--batch-sizes", "--batch-size", metavar="1,4,8", help="Separated by commas.")]
Precisions = Annotated[
    str, typer.Option("--precision", metavar="fp16,...", help="fp16, mixed, fp32, origin; separated by commas.")
]
Soc = Annotated[
    str | None, typer.Option("--soc", metavar="SOC", help="Chip to compile for; needed when the fleet has several.")
]
Atc = Annotated[
    list[str] | None,
    typer.Option(
        "--atc",
        metavar="NAME=VALUE",
        help="An option of ATC as its guides write it, again for each, for example --atc out_nodes=Concat_7:0. A file "
        "that is named is uploaded.",
    ),
]
AtcTable = Annotated[
    Path | None, typer.Option("--atc-table", metavar="FILE", help="A TOML file with such options in a table [atc].")
]
Cann = Annotated[
    str | None, typer.Option("--cann", metavar="VERSION", help="Convert with this CANN; default: the fleet's newest.")
]
SampleLimit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")]
Reference = Annotated[
    bool, typer.Option("--reference", help="Score the ONNX in float32 on a CPU: the baseline of an accuracy drop.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure anew, whatever is known (conversions are reused).")]
Priority = Annotated[int, typer.Option("--priority", min=-100, max=100, help="Higher goes first.")]
RunName = Annotated[str | None, typer.Option("--name", help="What to call the run.")]
Loops = Annotated[
    int | None,
    typer.Option("--loops", "--loop", min=1, help="Benchmark so many executions; default: until the median is sure."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and send nothing.")]
Watch = Annotated[bool, typer.Option("--watch/--detach", help="Follow the run until it is over.")]
