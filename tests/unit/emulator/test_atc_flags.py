import json
from pathlib import Path

import pytest

from emulator.aipp import AippOp
from emulator.atc_errors import AtcError
from emulator.atc_flags import OutputTypes, parse
from emulator.precision import Scope

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
    assert options.input_shapes["image"].sizes == (1, 3, 8, 8)
    assert (options.soc_version, options.precision_mode) == ("Ascend310P3", "force_fp16")
    assert options.lowering.scope is Scope.EVERYTHING


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
        ({"input_shape": "image:0,3,8,8"}, "E10011", "positive integers"),
        ({"input_shape": "image:8~2,3"}, "E10002", "correct sample is"),
        ({"input_shape_range": "image:[1~8,3]"}, "E10047", "mutually exclusive"),
        ({"auto_tune_mode": "RL,XX"}, "E10001", '"RL", "GA" or "RL,GA"'),
        ({"auto_tune_mode": ""}, "E10001", "[--auto_tune_mode]"),
        ({"aicore_num": "0"}, "E10001", "positive integer"),
        ({"out_nodes": "conv"}, "E10001", "correct sample is"),
        ({"output_type": "INT8"}, "E10001", "FP32, FP16, UINT8"),
        ({"output_type": "conv:FP16"}, "E10001", "FP32, FP16, UINT8"),
        ({"optypelist_for_implmode": "Gelu"}, "E10001", "needs --op_select_implmode"),
        ({"precision_mode": "allow_mix_precision_bf16"}, "E10001", "bfloat16"),
        ({"wrong": "1"}, "E10001", "unknown parameter"),
        ({"external_weight": "1"}, "E10001", "not emulated"),
        ({"insert_op_conf": "aipp.cfg"}, "E10001", "does not exist"),
        ({"op_precision_mode": "none.ini"}, "E10001", "does not exist"),
        ({"keep_dtype": "none.cfg"}, "E10410", "does not exist"),
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
    ("flag", "mode", "scope", "rounds"),
    [
        ("precision_mode", "force_fp16", Scope.EVERYTHING, True),
        ("precision_mode", "allow_mix_precision", Scope.MATRIX, True),
        ("precision_mode", "allow_fp32_to_fp16", Scope.MATRIX, True),
        ("precision_mode", "cube_fp16in_fp32out", Scope.MATRIX, False),
        ("precision_mode", "force_fp32", Scope.NOTHING, False),
        ("precision_mode", "must_keep_origin_dtype", Scope.NOTHING, False),
        ("precision_mode_v2", "fp16", Scope.EVERYTHING, True),
        ("precision_mode_v2", "mixed_float16", Scope.MATRIX, True),
        ("precision_mode_v2", "origin", Scope.NOTHING, False),
    ],
)
def test_precision_modes(flag: str, mode: str, scope: Scope, rounds: bool) -> None:  # noqa: FBT001 - a column of the table
    """Every mode lowers everything, matrices or nothing, and rounds results or leaves them."""
    lowering = parse(_arguments(**{flag: mode})).lowering
    assert (lowering.scope, lowering.rounds_results) == (scope, rounds)


def test_mix_list_is_read_in_mixed_precision_only(tmp_path: Path) -> None:
    """EfficientDet's guide gives one, in Ascend's names; with another mode it is a mistake."""
    path = tmp_path / "mix.json"
    path.write_text(json.dumps({"black-list": {"to-add": ["Conv2D"]}, "white-list": {"to-add": ["Add"]}}))
    lowering = parse(_arguments(precision_mode="allow_mix_precision", modify_mixlist=str(path))).lowering
    assert (lowering.keep_types, lowering.lower_types) == (frozenset({"Conv"}), frozenset({"Add"}))
    with pytest.raises(AtcError, match="mixed precision mode only"):
        parse(_arguments(modify_mixlist=str(path)))
    path.write_text("[]")
    with pytest.raises(AtcError, match="not a mix list"):
        parse(_arguments(precision_mode="allow_mix_precision", modify_mixlist=str(path)))


def test_operators_that_are_singled_out(tmp_path: Path) -> None:
    """Precision per type, implementation per type, kept nodes and switched-off passes become one lowering."""
    (tmp_path / "op.ini").write_text("SoftmaxV2 = high_precision\nAdd=high_performance\n")
    (tmp_path / "keep.cfg").write_text("Conv_0\nConv_7\nOpType::SoftmaxV2\n")
    (tmp_path / "fusion.cfg").write_text('{"Switch": {"GraphFusion": {"ConvBatchnormFusionPass": "off"}}}')
    lowering = parse(
        _arguments(
            op_precision_mode=str(tmp_path / "op.ini"),
            keep_dtype=str(tmp_path / "keep.cfg"),
            fusion_switch_file=str(tmp_path / "fusion.cfg"),
            op_select_implmode="high_precision",
            optypelist_for_implmode="Sigmoid,Gelu",
        )
    ).lowering
    assert lowering.precise_types == frozenset({"Softmax", "Sigmoid", "Gelu"})
    assert (*sorted(lowering.keep_nodes), *lowering.keep_types) == ("Conv_0", "Conv_7", "Softmax")
    assert not lowering.folds_batchnorm
    assert not lowering.precise_vectors
    assert parse(_arguments(op_select_implmode="high_precision_for_all")).lowering.precise_vectors


@pytest.mark.parametrize(
    ("flag", "text", "words"),
    [
        ("op_precision_mode", "Softmax = low", "no precision mode"),
        ("fusion_switch_file", '{"Switch": {"GraphFusion": {"X": "maybe"}}}', "neither on nor off"),
        ("fusion_switch_file", "{}", "not a list of switches"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path: Path, flag: str, text: str, words: str) -> None:
    """They are refused with the flag's name."""
    (tmp_path / "file").write_text(text)
    with pytest.raises(AtcError, match=words):
        parse(_arguments(**{flag: str(tmp_path / "file")}))


def test_outputs_and_inputs_of_other_types() -> None:
    """One type for all outputs, or one per node; inputs by name."""
    assert parse(_arguments(output_type="FP16")).output_types == OutputTypes(everywhere="float16")
    options = parse(_arguments(output_type="a:0:FP16;b:1:UINT8", out_nodes="a:0;b:1", input_fp16_nodes="image;"))
    assert options.output_types == OutputTypes(single=(("a:0", "float16"), ("b:1", "uint8")))
    assert options.out_nodes == ("a:0", "b:1")
    assert options.fp16_inputs == ("image",)


def test_aipp_is_read_with_the_command_line(tmp_path: Path) -> None:
    """A configuration that is wrong stops the conversion before the model is read."""
    path = tmp_path / "aipp.cfg"
    path.write_text("aipp_op { aipp_mode: static\n input_format: RGB888_U8 }")
    assert parse(_arguments(insert_op_conf=str(path))).aipp == (AippOp(input_format="RGB888_U8"),)
