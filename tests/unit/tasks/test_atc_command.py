import json
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npuq.atc_options import FILE_OPTIONS, AtcOptions, read_options
from npuq.errors import InvalidRequestError
from npuq.precision import Precision
from tasks.atc_command import AtcCommand

#: Text that is often almost right: what a typo or an attack looks like.
NEARLY = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[A-Za-z0-9_./:;,~ \x00\n=-]{0,40}", fullmatch=True),
    st.sampled_from(["FP16", "node:0", "1,2,4", "416,416;832,832", "image:-1,3,8,8", "Gelu,Sigmoid", "a" * 64]),
)
OPTION = st.sampled_from(sorted(AtcOptions.model_fields))


def command(options: AtcOptions, shapes: dict[str, Any] | None = None) -> AtcCommand:
    """Return a command with files for all options that name one."""
    return AtcCommand(
        model=Path("/m.onnx"),
        output=Path("/out"),
        input_shapes=shapes or {"image": (1, 3, 8, 8)},
        soc_version="Ascend310P3",
        precision=options.precision or (Precision.MIXED if options.modify_mixlist else Precision.FP16),
        options=options,
        files={option: Path("/work") / option for option in options.files},
    )


@given(values=st.dictionaries(OPTION, NEARLY, max_size=4), name=st.one_of(st.just("image"), NEARLY))
def test_no_text_becomes_another_argument(values: dict[str, str], name: str) -> None:
    """Whatever is typed is refused, or is the value of exactly the flag it was given for."""
    try:
        options = read_options(values)
        told = command(options, {name: (1, 3, 8, 8)})
    except InvalidRequestError:
        return
    arguments = told.arguments()
    flags = [argument.split("=", 1)[0] for argument in arguments]
    assert len(set(flags)) == len(flags)
    expected = {"--framework", "--model", "--output", "--input_format", "--input_shape", "--soc_version"}
    mode = set() if options.precision else {"--precision_mode"}
    assert set(flags) == expected | mode | {"--op_compiler_cache_mode", "--log"} | {f"--{flag}" for flag in values}
    assert not any("\0" in argument or "\n" in argument for argument in arguments)
    for option in FILE_OPTIONS.keys() & values.keys():
        assert f"--{option}=/work/{option}" in arguments


@pytest.fixture
def heard(tmp_path: Path) -> Callable[[list[str]], list[str]]:
    """Return a function that starts a fake atc and returns the arguments as it sees them."""
    program = tmp_path / "atc"
    program.write_text(f"#!{sys.executable} -IS\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def hear(arguments: list[str]) -> list[str]:
        done = subprocess.run([program, *arguments], check=True, capture_output=True, text=True)
        said: list[str] = json.loads(done.stdout)
        return said

    return hear


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    nodes=st.lists(st.from_regex(r"[A-Za-z0-9_/][A-Za-z0-9_./-]{0,30}:[0-9]", fullmatch=True), min_size=1, unique=True),
    types=st.sampled_from(["FP16", "UINT8", "n:0:FP16;m:1:FP32"]),
)
def test_what_is_taken_reaches_atc_unchanged(
    heard: Callable[[list[str]], list[str]], nodes: list[str], types: str
) -> None:
    """Each option is one element of the program's argument list, as it was written."""
    arguments = command(read_options({"out_nodes": nodes, "output_type": types})).arguments()
    seen = heard(arguments)
    assert seen == arguments
    assert seen.count(f"--out_nodes={';'.join(nodes)}") == 1
    assert seen.count(f"--output_type={types}") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"model": Path("m.onnx")},
        {"output": Path("/out\0")},
        {"soc_version": "Ascend310P3\n"},
        {"soc_version": "310P3"},
        {"input_shapes": {"": (1,)}},
        {"input_shapes": {"a;b:1": (1,)}},
        {"input_shapes": {"a": (0,)}},
        {"input_shapes": {"a": ()}},
        {"files": {"keep_dtype": Path("/x")}},
        {"options": read_options({"keep_dtype": "a" * 64})},
        {"options": read_options({"precision_mode": "force_fp32"})},
    ],
)
def test_values_that_atc_must_not_see(changes: dict[str, Any]) -> None:
    """They are refused where the command is built, whoever built it."""
    with pytest.raises(InvalidRequestError):
        replace(command(AtcOptions()), **changes)


def test_the_options_mode_replaces_that_of_the_precision() -> None:
    """One of the two flags, never both."""
    told = command(read_options({"precision_mode_v2": "mixed_float16"}))
    assert "--precision_mode_v2=mixed_float16" in told.arguments()
    assert not [argument for argument in told.arguments() if argument.startswith("--precision_mode=")]
    assert told.precision_mode == "mixed_float16"


def test_the_format_follows_the_inputs() -> None:
    """NCHW for images, ND for everything else and where dims are dynamic, unless it is given."""
    assert "--input_format=NCHW" in command(AtcOptions()).arguments()
    assert "--input_format=ND" in command(AtcOptions(), {"a": (1, 2)}).arguments()
    dims = read_options({"dynamic_dims": "1;2"})
    assert "--input_format=ND" in command(dims, {"a": (-1, 3, 8, 8)}).arguments()
    assert "--input_format=NCDHW" in command(read_options({"input_format": "NCDHW"})).arguments()
