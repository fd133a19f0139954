from pathlib import Path

import pytest

from npuq.atc_files import MAX_FILE_BYTES, check_aipp, has_dynamic_aipp, read_file
from npuq.errors import InvalidRequestError

GOOD = {
    "insert_op_conf": "# resnet\naipp_op {\n  aipp_mode: static\n  input_format: RGB888_U8\n}\n",
    "modify_mixlist": '{"black-list": {"to-add": ["Softmax"], "to-remove": []}, "gray-list": {}}',
    "op_precision_mode": "Softmax = high_precision\nGelu=high_performance\n",
    "fusion_switch_file": '{"Switch": {"GraphFusion": {"ConvBatchnormFusionPass": "off"}, "UBFusion": {}}}',
    "keep_dtype": "Conv_0\n/head/Add\n\n",
}


@pytest.mark.parametrize("option", GOOD)
def test_files_as_the_guides_have_them_are_taken(option: str, tmp_path: Path) -> None:
    """The text is returned as it is."""
    path = tmp_path / "file"
    path.write_text(GOOD[option])
    assert read_file(option, path) == GOOD[option]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("insert_op_conf", "input_format: RGB888_U8"),
        ("insert_op_conf", "aipp_op { input_format: RGB888_U8 }"),
        ("insert_op_conf", "aipp_op { aipp_mode: static"),
        ("insert_op_conf", f"aipp_op{' ' * 200_000}"),
        ("modify_mixlist", "[]"),
        ("modify_mixlist", '{"blacklist": {}}'),
        ("modify_mixlist", '{"black-list": {"to-add": "Softmax"}}'),
        ("op_precision_mode", "nothing"),
        ("op_precision_mode", "[ByOpType]\n"),
        ("fusion_switch_file", '{"Switch": {"GraphFusion": {"X": "maybe"}}}'),
        ("fusion_switch_file", '{"Switch": {"GraphFusion": {"X": []}}}'),
        ("fusion_switch_file", "[" * 100_000),
        ("keep_dtype", "a name with blanks"),
        ("keep_dtype", ""),
        ("model", "x"),
    ],
)
def test_other_text_is_refused(option: str, text: str, tmp_path: Path) -> None:
    """A wrong file costs a sentence now, not a conversion later."""
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match=option):
        read_file(option, path)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("aipp_op { aipp_mode: static }", False),
        ("aipp_op { aipp_mode: static # or aipp_mode: dynamic\n}", False),
        ("aipp_op { aipp_mode: static }\naipp_op { aipp_mode : dynamic\n max_src_image_size: 9 }", True),
        ('aipp_op { aipp_mode:"dynamic" }', True),
    ],
)
def test_dynamic_aipp_is_known(text: str, verdict: bool) -> None:  # noqa: FBT001 - a column of the table
    """Of any input, outside of comments; ATC takes both kinds."""
    check_aipp(text)
    assert has_dynamic_aipp(text) is verdict


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """Missing, binary and huge ones."""
    path = tmp_path / "file"
    with pytest.raises(InvalidRequestError, match="cannot read"):
        read_file("keep_dtype", path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequestError, match="cannot read"):
        read_file("keep_dtype", path)
    path.write_bytes(b"a" * (MAX_FILE_BYTES + 1))
    with pytest.raises(InvalidRequestError, match="larger"):
        read_file("keep_dtype", path)
