import json
from pathlib import Path

import pytest

from emulator.atc_flags import AtcError, Mixlist, parse, parse_shapes

GOOD = {
    "framework": "5",
    "model": "m.onnx",
    "output": "out/m_bs1",
    "soc_version": "Ascend310P3",
    "input_shape": "image:1,3,8,8",
}


def _arguments(**changes: str | None) -> list[str]:
    return [f"--{flag}={value}" for flag, value in {**GOOD, **changes}.items() if value is not None]


def test_the_guides_command_line_is_understood() -> None:
    """All flags of a guide, written with `=` or with a blank."""
    options = parse(
        [
            *_arguments(input_format="NCHW", log="error", op_select_implmode="high_performance"),
            *("--enable_small_channel", "1"),
        ]
    )
    assert options.output == Path("out/m_bs1")
    assert options.input_shapes == {"image": (1, 3, 8, 8)}
    assert (options.soc_version, options.precision_mode, options.rounds_weights) == ("Ascend310P3", "force_fp16", True)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"framework": None}, "E10007", "[--framework] is required"),
        ({"framework": "7"}, "E10007", "5(Onnx)"),
        ({"framework": "3"}, "E10001", "ONNX (5) only"),
        ({"model": None}, "E10054", "The requied parameter [--model] for ATC is empty"),
        ({"output": ""}, "E10054", "[--output]"),
        ({"soc_version": None}, "E10054", "[--soc_version]"),
        ({"soc_version": "310P3"}, "E10001", "Value [310P3] for parameter [--soc_version] is invalid"),
        ({"soc_version": "ascend310p3"}, "E10001", "[--soc_version]"),
        ({"input_format": "NHWC"}, "E10001", "only support NCHW, ND, NCDHW in ONNX model"),
        ({"log": "verbose"}, "E10010", "[--log]"),
        ({"enable_small_channel": "2"}, "E10006", "[0, 1]"),
        ({"precision_mode": "fp16"}, "E10001", "[--precision_mode]"),
        ({"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, "E10047", "mutually exclusive"),
        ({"input_shape": "image"}, "E10002", "correct sample is"),
        ({"input_shape": "image:1,x"}, "E10002", "correct sample is"),
        ({"input_shape": "image:-1,3,8,8"}, "E10001", "dynamic"),
        ({"wrong": "1"}, "E10001", "unknown parameter"),
        ({"dynamic_batch_size": "1,2"}, "E10001", "not emulated"),
        ({"insert_op_conf": "aipp.cfg"}, "E10001", "not emulated"),
        ({"fusion_switch_file": "none.cfg"}, "E10001", "does not exist"),
        ({"modify_mixlist": "none.json", "precision_mode": "allow_mix_precision"}, "E10001", "does not exist"),
    ],
)
def test_wrong_values_have_the_codes_of_the_real_atc(changes: dict[str, str | None], code: str, words: str) -> None:
    """Each mistake of the guides' readers has its code and names the parameter."""
    with pytest.raises(AtcError) as caught:
        parse(_arguments(**changes))
    assert caught.value.code == code
    assert words in caught.value.text


def test_a_value_that_fell_apart_is_refused() -> None:
    """Quotes forgotten around a value with blanks leave a word that is no parameter."""
    with pytest.raises(AtcError, match="begins with --"):
        parse([*_arguments(), "3,8,8"])


@pytest.mark.parametrize(
    ("flag", "mode", "rounds"),
    [
        ("precision_mode", "force_fp16", True),
        ("precision_mode", "allow_mix_precision", True),
        ("precision_mode", "allow_fp32_to_fp16", True),
        ("precision_mode", "cube_fp16in_fp32out", True),
        ("precision_mode", "force_fp32", False),
        ("precision_mode", "must_keep_origin_dtype", False),
        ("precision_mode_v2", "fp16", True),
        ("precision_mode_v2", "mixed_float16", True),
        ("precision_mode_v2", "origin", False),
    ],
)
def test_precision_modes(flag: str, mode: str, rounds: bool) -> None:  # noqa: FBT001 - a column of the table
    """Every mode either rounds the weights or keeps them."""
    assert parse(_arguments(**{flag: mode})).rounds_weights is rounds


def test_mix_list_is_read_in_mixed_precision_only(tmp_path: Path) -> None:
    """EfficientDet's guide gives one; with another mode it is a mistake."""
    path = tmp_path / "mix.json"
    path.write_text(json.dumps({"black-list": {"to-add": ["Conv"]}, "white-list": {"to-add": ["Add"]}}))
    options = parse(_arguments(precision_mode="allow_mix_precision", modify_mixlist=str(path)))
    assert options.mixlist == Mixlist(keep_float32=frozenset({"Conv"}), lower=frozenset({"Add"}))
    with pytest.raises(AtcError, match="mixed precision mode only"):
        parse(_arguments(modify_mixlist=str(path)))
    path.write_text("[]")
    with pytest.raises(AtcError, match="not a mix list"):
        parse(_arguments(precision_mode="allow_mix_precision", modify_mixlist=str(path)))


def test_shapes_of_several_inputs() -> None:
    """TensorFlow-like names hold colons; a trailing semicolon is harmless."""
    assert parse_shapes("a:0:1,2;b:3;") == {"a:0": (1, 2), "b": (3,)}
