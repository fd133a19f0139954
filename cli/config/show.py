"""`npuq config show`."""

import os
from typing import Annotated, Final

import typer

from cli.options import Output
from cli.output import Format
from cli.session import settings_of

EXAMPLES: Final = ("npuq config show --origin",)


def command(
    ctx: typer.Context,
    *,
    origin: Annotated[bool, typer.Option("--origin", help="Also where each setting comes from.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show the settings as every npuq program here reads them; passwords are masked."""
    from cli.output import Column, View, show_many, write_json
    from cli.text_tables import flatten

    settings = settings_of(ctx).public()
    if output is Format.JSON and not origin:
        write_json(settings)
        return
    origins = _origins(ctx) if origin else {}
    rows = [(name, value, origins.get(name, "default")) for name, value in flatten(settings).items()]
    columns = [
        Column[tuple[str, object, str]](header="SETTING", text=lambda row: row[0]),
        Column[tuple[str, object, str]](header="VALUE", text=lambda row: "-" if row[1] is None else str(row[1])),
    ]
    if origin:
        columns.append(Column(header="FROM", text=lambda row: row[2]))
    view = View(
        columns=columns,
        document=lambda row: {"setting": row[0], "value": row[1]} | ({"from": row[2]} if origin else {}),
        fields=("setting", "value", "from") if origin else ("setting", "value"),
        name=lambda row: row[0],
        empty="no settings",
    )
    show_many(rows, view, output)


def _origins(ctx: typer.Context) -> dict[str, str]:
    """Return flat setting -> where it was set; the highest in rank is kept."""
    import tomllib

    from cli.text_tables import flatten
    from npuq.config import PROJECT_FILE, user_file

    found: dict[str, str] = {}
    for path in (user_file(), PROJECT_FILE):
        if path.is_file():
            found |= dict.fromkeys(flatten(tomllib.loads(path.read_text("utf-8"))), str(path))
    for variable in os.environ:
        if variable.startswith("NPUQ_"):
            found[variable.removeprefix("NPUQ_").lower().replace("__", ".")] = f"${variable}"
    if ctx.obj is not None and "NPUQ_HOME" not in os.environ:
        found["home"] = "--home"
    return found
