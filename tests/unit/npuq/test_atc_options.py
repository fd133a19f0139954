import re
from typing import Any

import pytest

from npuq.atc_options import GEAR_OPTIONS, AtcOptions, read_options
from npuq.errors import InvalidRequestError
from npuq.precision import Precision

DIGEST = "a" * 64


@pytest.mark.parametrize(
    ("written", "flags"),
    [
        ({"dynamic_batch_size": "1,2,4"}, {"dynamic_batch_size": "1,2,4"}),
        ({"dynamic_image_size": "416,416; 832,832"}, {"dynamic_image_size": "416,416;832,832"}),
        ({"dynamic_dims": [[1, 600], [2, 600]]}, {"dynamic_dims": "1,600;2,600"}),
        ({"out_nodes": "Concat_1487:0;/head/Reshape:1"}, {"out_nodes": "Concat_1487:0;/head/Reshape:1"}),
        ({"output_type": "a:0:FP16;b:1:UINT8"}, {"output_type": "a:0:FP16;b:1:UINT8"}),
        ({"enable_small_channel": "1"}, {"enable_small_channel": "1"}),
        (
            {"op_select_implmode": "high_precision", "optypelist_for_implmode": "Gelu,Sigmoid"},
            {"op_select_implmode": "high_precision", "optypelist_for_implmode": "Gelu,Sigmoid"},
        ),
    ],
)
def test_options_are_read_and_written_as_atc_writes_them(written: dict[str, Any], flags: dict[str, str]) -> None:
    """A guide's text gives the same text again, also through JSON."""
    options = read_options(written)
    assert options.flags() == flags
    assert read_options(options.to_json()) == options


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"output": "/etc/passwd"}, "output is not an option that npuq passes on"),
        ({"soc_version": "Ascend310"}, "not an option"),
        ({"auto_tune_mode": "RL,GA"}, "not an option"),
        ({"out_nodes": "-x:0"}, "out_nodes"),
        ({"out_nodes": "x:0\0"}, "out_nodes"),
        ({"output_type": "FP16 --model=/x"}, "output_type"),
        ({"insert_op_conf": "/etc/passwd"}, "insert_op_conf"),
        ({"insert_op_conf": "../aipp.cfg"}, "insert_op_conf"),
        ({"input_shape": "image:1,3,x"}, "is not a dimension"),
        ({"input_shape": "image:0,3"}, "is not a dimension"),
        ({"input_shape": "image:8~2,3"}, "empty range"),
        ({"input_shape": "--model:1"}, "write NAME"),
        ({"input_shape": "a:1;a:2"}, "named twice"),
        ({"dynamic_batch_size": "0,1"}, "from 1 on"),
        ({"dynamic_batch_size": "1,1"}, "listed twice"),
        ({"dynamic_batch_size": ",".join(map(str, range(1, 102)))}, "2 to 100 batch sizes"),
        ({"dynamic_batch_size": "1"}, "2 to 100 batch sizes"),
        ({"dynamic_dims": "1,600"}, "2 to 100 gears"),
        ({"dynamic_dims": "1,2;3"}, "as many values"),
        ({"dynamic_dims": "1;2", "input_format": "NCHW"}, "needs input_format ND"),
        ({"dynamic_batch_size": "1,2", "dynamic_dims": "1;2"}, "exclude each other"),
        ({"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, "exclude each other"),
        ({"precision_mode": "int4"}, "precision_mode"),
        ({"optypelist_for_implmode": "Gelu"}, "needs op_select_implmode"),
        ({"input_fp16_nodes": "x", "insert_op_conf": DIGEST}, "takes uint8"),
        ({"buffer_optimize": "l9"}, "buffer_optimize"),
        ({"enable_small_channel": 2}, "enable_small_channel"),
        ({"log": "verbose"}, "log"),
    ],
)
def test_what_cannot_be_is_refused_by_name(values: dict[str, Any], words: str) -> None:
    """Nothing is queued, and the message says which option and why."""
    with pytest.raises(InvalidRequestError) as caught:
        read_options(values)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("values", "example"),
    [
        ({"out_nodes": "abc"}, "Concat_7:0;Reshape_9:1"),
        ({"out_nodes": "abc;b:0;c"}, "Concat_7:0;Reshape_9:1"),
        ({"output_type": "x:0:FP99"}, "Concat_7:0:FP16"),
        ({"input_fp16_nodes": "-"}, "image;mask"),
        ({"optypelist_for_implmode": "1", "op_select_implmode": "high_precision"}, "Gelu,Sigmoid"),
        ({"dynamic_batch_size": "a,b"}, "1,4,8"),
        ({"dynamic_image_size": "1"}, "416,416;832,832"),
        ({"dynamic_dims": "x"}, "1,600;2,600"),
    ],
)
def test_a_wrong_option_is_told_in_one_sentence_with_an_example(values: dict[str, Any], example: str) -> None:
    """No regular expression, and nothing about lengths of lists that follows from the same mistake."""
    with pytest.raises(InvalidRequestError) as caught:
        read_options(values)
    message = str(caught.value)
    assert message.endswith(f"for example {example}")
    assert not re.search(r"[\^\[]|Tuple", message)
    assert ";" not in message.replace(example, "")
    option = next(iter(values))
    assert option in read_options(values | {option: example}).to_json()


@pytest.mark.parametrize(
    ("values", "precision", "fits"),
    [
        ({"precision_mode": "allow_mix_precision"}, Precision.MIXED, True),
        ({"precision_mode": "allow_mix_precision"}, Precision.FP16, False),
        ({"precision_mode_v2": "origin"}, Precision.ORIGIN, True),
        ({"modify_mixlist": DIGEST}, Precision.MIXED, True),
        ({"modify_mixlist": DIGEST}, Precision.FP16, False),
        ({"modify_mixlist": DIGEST, "precision_mode": "cube_fp16in_fp32out"}, Precision.MIXED, False),
    ],
)
def test_modes_belong_to_precisions(values: dict[str, Any], precision: Precision, *, fits: bool) -> None:
    """A mode under another word would file its results wrongly; a mix list needs mixed precision."""
    options = read_options(values)
    if fits:
        options.check_precision(precision)
        return
    with pytest.raises(ValueError, match="precision"):
        options.check_precision(precision)


def test_options_name_their_gears_and_files() -> None:
    """What other modules ask of the options."""
    assert AtcOptions().gears is None
    for name in GEAR_OPTIONS:
        assert read_options({name: "1,2;3,4" if name != "dynamic_batch_size" else "1,2"}).gears == name
    assert read_options({"keep_dtype": DIGEST, "log": "info"}).files == {"keep_dtype": DIGEST}
    assert read_options({"input_shape": "a:0:-1,3;b:1~8"}).shapes == {"a:0": (-1, 3), "b": ("1~8",)}
