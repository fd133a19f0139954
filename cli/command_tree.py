"""Which commands there are, and where: a table of names, so that only the command that is asked for is imported.

One command per module, named as the command (`make-demo`: `make_demo`). The module's `command` is its function, its
`EXAMPLES` are one or two command lines that end its help. Nothing else happens here.
"""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, cast

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command.

    Attributes:
        module: where its function `command` is.
        panel: heading under which `npuq --help` lists it.
    """

    module: str
    panel: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A noun with its verbs."""

    help: str
    verbs: Mapping[str, Command]
    panel: str = ""


BEGIN: Final = "Begin"
WORK: Final = "Submit work"
FOLLOW: Final = "Follow and steer"
LOOK: Final = "Look things up"
RUN: Final = "Run a fleet"


def _verbs(noun: str, *verbs: str) -> dict[str, Command]:
    return {verb: Command(module=f"cli.{noun}.{verb.replace('-', '_')}") for verb in verbs}


TREE: Final[Mapping[str, Command | Group]] = {
    "demo": Command(module="cli.demo", panel=BEGIN),
    "up": Command(module="cli.up", panel=BEGIN),
    "down": Command(module="cli.down", panel=BEGIN),
    "status": Command(module="cli.status", panel=BEGIN),
    "sweep": Command(module="cli.sweep", panel=WORK),
    "submit": Group(
        help="Submit one goal: whatever leads to it is done first.",
        verbs=_verbs("submit", "export", "convert", "infer", "evaluate", "benchmark"),
        panel=WORK,
    ),
    "watch": Command(module="cli.watch", panel=FOLLOW),
    "wait": Command(module="cli.wait", panel=FOLLOW),
    "logs": Command(module="cli.logs", panel=FOLLOW),
    "why": Command(module="cli.why", panel=FOLLOW),
    "cancel": Command(module="cli.cancel", panel=FOLLOW),
    "retry": Command(module="cli.retry", panel=FOLLOW),
    "report": Command(module="cli.report", panel=LOOK),
    "results": Group(
        help="What was measured: the history.", verbs=_verbs("results", "list", "show", "report", "files"), panel=LOOK
    ),
    "runs": Group(help="What people submitted.", verbs=_verbs("runs", "list", "show"), panel=LOOK),
    "jobs": Group(help="The steps of runs.", verbs=_verbs("jobs", "list", "show"), panel=LOOK),
    "recipes": Group(help="The models that npuq knows.", verbs=_verbs("recipes", "list", "show"), panel=LOOK),
    "datasets": Group(
        help="The datasets that jobs may use.",
        verbs=_verbs("datasets", "add", "remove", "list", "show", "verify", "make-demo"),
        panel=LOOK,
    ),
    "devices": Group(
        help="The chips of the fleet.",
        verbs=_verbs("devices", "list", "show", "events", "drain", "resume", "quarantine"),
        panel=RUN,
    ),
    "worker": Command(module="cli.worker", panel=RUN),
    "scheduler": Command(module="cli.scheduler", panel=RUN),
    "db": Group(help="The database's schema.", verbs=_verbs("db", "upgrade", "check"), panel=RUN),
    "config": Group(help="The settings.", verbs=_verbs("config", "show"), panel=RUN),
    "doctor": Command(module="cli.doctor", panel=RUN),
    "version": Command(module="cli.version", panel=RUN),
    "emulator": Group(
        help="Cards that are not there, and what is wrong with them.",
        verbs=_verbs("emulator", "install", "show", "fault", "clear"),
        panel=RUN,
    ),
}


class LazyCommands(Mapping[str, TyperCommand | TyperGroup]):
    """Commands by name; a command's module is imported when the command is looked up."""

    def __init__(self, entries: Mapping[str, Command | Group]) -> None:
        self._entries = entries
        self._built: dict[str, TyperCommand | TyperGroup] = {}

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        if name not in self._built:
            self._built[name] = _build(name, self._entries[name])
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _build(name: str, entry: Command | Group) -> TyperCommand | TyperGroup:
    if isinstance(entry, Group):
        group = TyperGroup(
            name=name,
            help=entry.help,
            no_args_is_help=True,
            rich_help_panel=entry.panel,
            context_settings=_context_settings(),
        )
        return with_commands(group, entry.verbs)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    module = import_module(entry.module)
    register = app.command(
        name,
        context_settings=_context_settings(),
        rich_help_panel=entry.panel or None,
        no_args_is_help=False,
        epilog=_epilog(getattr(module, "EXAMPLES", ())),
    )
    register(module.command)
    return cast("TyperCommand", typer.main.get_command(app))


def _epilog(examples: Sequence[str]) -> str | None:
    """Return the end of a command's help; blank lines keep typer from joining its lines."""
    return "\n\n".join(["Examples:", *(f"  {example}" for example in examples)]) if examples else None


def with_commands(group: TyperGroup, entries: Mapping[str, Command | Group]) -> TyperGroup:
    """Give a group its commands, to be imported when they are needed; returns the group."""
    group.commands = cast("MutableMapping[str, Any]", LazyCommands(entries))  # it is only read
    return group


def _context_settings() -> dict[str, object]:
    return {"help_option_names": ["-h", "--help"], "max_content_width": 110}
