"""`--atc`, `--atc-table` and `--cann`: read, checked, uploaded with the run, and refused before anything is sent."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.submitting.conversion import read_conversion
from npuq.outbox import Outbox
from tests.unit.cli.answers import Answer, Npuq

MIXLIST = '{"black-list": {"to-add": ["SoftmaxV2"]}}'
Convert = Callable[..., Answer]


@pytest.fixture
def convert(npuq: Npuq, tmp_path: Path) -> Convert:
    """Return `npuq submit convert` of a small file, in a folder that has a mix list."""
    (tmp_path / "m.onnx").write_bytes(b"onnx")
    (tmp_path / "mix.json").write_text(MIXLIST)
    return lambda *options: npuq("submit", "convert", "mobilenet_v1", "--onnx", "m.onnx", *options)


def test_options_travel_with_the_run_and_files_as_artifacts(convert: Convert, tmp_path: Path) -> None:
    """The specification names the digest; the precision follows from the mode."""
    answer = convert(
        *("--atc", "--precision_mode=allow_mix_precision", "--atc", "modify_mixlist=mix.json"),
        *("--atc", "out_nodes=a:0;b:1", "--cann", "8.0.RC2", "--soc", "Ascend310P3"),
    )
    assert answer.code == 0, answer.err
    (spec,) = Outbox(tmp_path / "outbox").pending()
    digest = hashlib.sha256(MIXLIST.encode()).hexdigest()
    assert spec.atc.to_json() == {
        "out_nodes": ["a:0", "b:1"],
        "precision_mode": "allow_mix_precision",
        "modify_mixlist": digest,
    }
    assert (spec.cann, spec.precisions) == ("8.0.RC2", ("mixed",))
    assert (tmp_path / "store" / digest[:2] / digest[2:4] / digest).read_text() == MIXLIST


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--atc", "output=/etc/passwd"), "output is not an option that npuq passes on"),
        (("--atc", "out_nodes"), "write NAME=VALUE"),
        (("--atc", "log=info", "--atc", "log=debug"), "given twice"),
        (("--atc", "modify_mixlist=nowhere.json", "--precision", "mixed"), "cannot read nowhere.json"),
        (("--atc", "modify_mixlist=m.onnx", "--precision", "mixed"), "is not what this option takes"),
        (("--atc", "modify_mixlist=mix.json"), "mixed precision only"),
        (("--atc", "dynamic_image_size=9,9;8,8", "--batch-sizes", "1,2"), "ask for one batch size"),
        (("--atc", "input_shape=nope:1,3,224,224"), "the recipe has no input nope; its inputs are "),
        (("--atc-table", "m.onnx"), "no TOML file with a table [atc]"),
        (("--cann", "../8"), "cann"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(
    options: tuple[str, ...], expected: str, convert: Convert, tmp_path: Path
) -> None:
    """Exit code 2, one sentence, nothing uploaded."""
    answer = convert(*options)
    assert answer.code == 2
    assert expected in answer.err
    assert not list(Outbox(tmp_path / "outbox").pending())
    assert not (tmp_path / "store").exists()


def test_a_dry_run_shows_what_atc_will_be_asked(convert: Convert) -> None:
    """The chip, the options and the files by their digest: nothing else tells what was understood."""
    answer = convert(
        *("--atc", "modify_mixlist=mix.json", "--atc", "out_nodes=a:0;b:1", "--precision", "mixed"),
        *("--cann", "8.0.RC2", "--soc", "Ascend310P3", "--dry-run", "-o", "md"),
    )
    assert answer.code == 0, answer.err
    (line,) = [line for line in answer.out.splitlines() if line.startswith("| convert")]
    digest = hashlib.sha256(MIXLIST.encode()).hexdigest()[:12]
    assert f"bs 1, mixed, out_nodes=a:0;b:1, modify_mixlist={digest}, CANN 8.0.RC2 | Ascend310P3 |" in line


def test_dynamic_aipp_is_for_conversions_alone(npuq: Npuq, convert: Convert, tmp_path: Path) -> None:
    """The steps feed pictures and no parameters of their preparation; who only converts has a program that does."""
    (tmp_path / "aipp.cfg").write_text("aipp_op { aipp_mode: dynamic\n max_src_image_size: 150528 }")
    options = ("--onnx", "m.onnx", "--atc", "insert_op_conf=aipp.cfg", "--soc", "Ascend310P3")
    answer = npuq("submit", "benchmark", "mobilenet_v1", *options)
    assert (answer.code, "write aipp_mode: static" in answer.err) == (2, True)
    assert not list(Outbox(tmp_path / "outbox").pending())
    assert convert("--atc", "insert_op_conf=aipp.cfg").code == 0


def test_a_table_holds_what_a_guide_needs(tmp_path: Path) -> None:
    """Its files lie beside it; what is typed comes first."""
    (tmp_path / "mix.json").write_text(MIXLIST)
    (tmp_path / "atc.toml").write_text('[atc]\nmodify_mixlist = "mix.json"\nlog = "info"\nenable_small_channel = 1\n')
    read = read_conversion(["log=error"], tmp_path / "atc.toml")
    assert read.files == {"modify_mixlist": tmp_path / "mix.json"}
    assert json.loads(json.dumps(read.options.to_json())) == {
        "modify_mixlist": hashlib.sha256(MIXLIST.encode()).hexdigest(),
        "enable_small_channel": 1,
        "log": "error",
    }
