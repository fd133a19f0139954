"""The command line of `atc`: typed values in, an argument list out. Runs nothing.

Every argument is one element `--flag=value`; no value can add another.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from npuq.atc_options import FILE_OPTIONS, AtcOptions
from npuq.atc_shapes import parse_shapes
from npuq.errors import InvalidRequestError
from npuq.precision import ATC_PRECISION_MODE, Precision
from tasks.atc_request import Shapes

_ONNX: Final = 5
_IMAGE_RANK: Final = len("NCHW")
_SOC_VERSION: Final = re.compile(r"Ascend[0-9][0-9A-Za-z_-]{1,30}")


@dataclass(frozen=True, kw_only=True)
class AtcCommand:
    """What `atc` is told; every value is checked when it is built.

    Attributes:
        model: the ONNX file, absolute.
        output: where the OM goes, absolute and without `.om`.
        input_shapes: input name -> dimensions; -1 where a gear decides.
        soc_version: for example `Ascend310P3`.
        precision: decides the precision mode where the options name none.
        options: everything else; see `npuq.atc_options`.
        files: option -> file, absolute, for each of `options.files`.

    Raises:
        InvalidRequestError: a value that `atc` must not see.
    """

    model: Path
    output: Path
    input_shapes: Shapes
    soc_version: str
    precision: Precision
    options: AtcOptions = field(default_factory=AtcOptions)
    files: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        paths = (self.model, self.output, *self.files.values())
        if not all(path.is_absolute() for path in paths) or any("\0" in str(path) for path in paths):
            raise InvalidRequestError("ATC is given absolute paths only")
        if self.files.keys() != self.options.files.keys():
            raise InvalidRequestError("ATC options: a file that an option names is not there")
        if not _SOC_VERSION.fullmatch(self.soc_version):
            raise InvalidRequestError(f"{self.soc_version!r} is not a soc_version; write it as in Ascend310P3")
        try:
            readable = parse_shapes(self._shape_text) == dict(self.input_shapes)
            self.options.check_precision(self.precision)
        except ValueError as error:
            raise InvalidRequestError(f"this cannot be given to ATC: {error}") from error
        if not readable:
            raise InvalidRequestError(f"inputs {dict(self.input_shapes)} cannot be given to ATC")

    @property
    def precision_mode(self) -> str:
        """Return the value of `--precision_mode`, or of `--precision_mode_v2`."""
        return self.options.precision_mode or self.options.precision_mode_v2 or ATC_PRECISION_MODE[self.precision]

    @property
    def _shape_text(self) -> str:
        return ";".join(f"{name}:{','.join(map(str, shape))}" for name, shape in self.input_shapes.items())

    def arguments(self) -> list[str]:
        """Return the argument list, without the program."""
        named_mode = self.options.precision is not None
        flags = {
            "framework": str(_ONNX),
            "model": str(self.model),
            "output": str(self.output),
            "input_format": self._input_format(),
            "input_shape": self._shape_text,
            "soc_version": self.soc_version,
            **({} if named_mode else {"precision_mode": self.precision_mode}),
            "op_compiler_cache_mode": "disable",  # a shared cache is where parallel conversions disturb each other
            "log": "error",
            **self.options.flags(),
            **{option: str(self.files[option]) for option in FILE_OPTIONS if option in self.files},
        }
        return [f"--{flag}={value}" for flag, value in flags.items()]

    def _input_format(self) -> str:
        if self.options.input_format is not None:
            return self.options.input_format
        images = all(len(shape) == _IMAGE_RANK for shape in self.input_shapes.values())
        return "NCHW" if images and self.options.dynamic_dims is None else "ND"
