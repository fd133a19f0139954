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
