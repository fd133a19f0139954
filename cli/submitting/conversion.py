"""Options of ATC as a person writes them: `NAME=VALUE` on the command line, or a table `[atc]` in a TOML file."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npuq.atc_files import has_dynamic_aipp, read_file
from npuq.atc_options import FILE_OPTIONS, AtcOptions, read_options
from npuq.errors import InvalidRequestError


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """Checked options.

    Attributes:
        options: as the run's specification holds them.
        files: option -> file on this machine, for those that hold one.
        dynamic_aipp: whether the OM wants AIPP's parameters with every execution.
    """

    options: AtcOptions
    files: Mapping[str, Path]
    dynamic_aipp: bool = False


def read_conversion(typed: Sequence[str], table: Path | None) -> ConversionOptions:
    """Read options; those typed come before those of the table. The files they name are read and checked too.

    Raises:
        InvalidRequestError: an option, a file or the table is wrong; the message names it.
    """
    from db.artifacts import digest_of

    values = ({} if table is None else _table(table)) | _typed(typed)
    files = {option: Path(str(values[option])).expanduser() for option in FILE_OPTIONS if option in values}
    dynamic_aipp = False
    for option, file in files.items():
        text = read_file(option, file)
        dynamic_aipp |= option == "insert_op_conf" and has_dynamic_aipp(text)
        values[option] = digest_of(file).digest
    return ConversionOptions(options=read_options(values), files=files, dynamic_aipp=dynamic_aipp)


def _table(path: Path) -> dict[str, Any]:
    """Return the table `[atc]`, its files relative to the TOML file."""
    try:
        document = tomllib.loads(path.expanduser().read_text("utf-8"))
        values: dict[str, Any] = dict(document["atc"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequestError(f"--atc-table: {path} is no TOML file with a table [atc]: {error!r}") from error
    if len(document) > 1:
        raise InvalidRequestError(f"--atc-table: {path} holds more than the table [atc]")
    return {
        name: str(path.expanduser().parent / str(value)) if name in FILE_OPTIONS else value
        for name, value in values.items()
    }


def _typed(typed: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in typed:
        name, equals, value = text.removeprefix("--").partition("=")
        if not equals or not value:
            raise InvalidRequestError(f"--atc {text!r}: write NAME=VALUE, for example --atc output_type=FP16")
        if name in values:
            raise InvalidRequestError(f"--atc {name} is given twice")
        values[name] = value
    return values
