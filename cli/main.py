"""The program `npuq`: parses, calls one command, and turns its ending into an exit code and a sentence.

No command's work is here, and nothing heavy is imported: `npuq --help` answers at once.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException

from cli.command_tree import TREE, with_commands
from cli.invocation import as_called
from npuq.errors import Blame, ErrorInfo, ExitCode, NpuqError

DETAIL_LINES: Final = 20
_USAGE_CODES: Final = frozenset({"invalid_request", "not_found", "config"})

_HELP = """A distributed job queue for fleets of Ascend NPU cards.

Try it without a card: [bold]npuq demo[/bold]
"""


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        from npuq import __version__

        sys.stdout.write(f"npuq {__version__}\n")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    *,
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", help="Where npuq keeps its files.", show_envvar=True, envvar="NPUQ_HOME"),
    ] = None,
    version: Annotated[  # noqa: ARG001 - eager, see its callback
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    ctx.obj = home


def program() -> TyperGroup:
    """Return the whole command line."""
    app = typer.Typer(
        name="npuq",
        help=_HELP,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback()(_root)
    return with_commands(typer.main.get_group(app), TREE)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; `arguments` None: the process's own."""
    try:
        code = program().main(arguments, prog_name="npuq", standalone_mode=False)
    except TyperException as error:
        return _usage(error)
    except NpuqError as error:
        _debug_traceback()
        _say_error(error.info)
        return exit_code_of(error.info)
    except (KeyboardInterrupt, Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads what Python still flushes
        return ExitCode.DONE
    except Exception as error:  # noqa: BLE001 - a person must never meet a traceback unasked
        _debug_traceback()
        _say_error(
            ErrorInfo(
                code="internal",
                blame=Blame.FLEET,
                message=f"npuq failed unexpectedly: {type(error).__name__}: {error}\n"
                "this is a bug in npuq; NPUQ_DEBUG=1 shows where it happened",
                retry=False,
            )
        )
        return ExitCode.FLEET
    return code if isinstance(code, int) else ExitCode.DONE


def main(arguments: list[str]) -> int:
    """Run one command as `worker.interpreter.program_command` starts it."""
    return run(arguments)


def exit_code_of(error: ErrorInfo) -> int:
    """Return the exit code that an error stands for: 1 failed, 2 usage, 3 nothing wrong with the input."""
    if error.blame is not Blame.INPUT:
        return ExitCode.FLEET
    return ExitCode.USAGE if error.code in _USAGE_CODES else ExitCode.FAILED


def _usage(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is its message, and already out
        return ExitCode.USAGE
    said = error.format_message().replace("Value error, ", "")  # pydantic's, which reads values for typer
    sys.stderr.write(f"error: {said}\n")
    if context is not None:
        sys.stderr.write(as_called(f"see: {context.command_path} --help\n"))
    return ExitCode.USAGE


def _say_error(error: ErrorInfo) -> None:
    sys.stderr.write(as_called(f"error: {error.message}\n"))
    for line in error.detail.rstrip().splitlines()[-DETAIL_LINES:]:
        sys.stderr.write(f"  | {line}\n")


def _debug_traceback() -> None:
    if os.environ.get("NPUQ_DEBUG") == "1":
        traceback.print_exc()
