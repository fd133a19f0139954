import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from emulator import atc, om
from emulator.atc_errors import AtcError
from emulator.diary import read
from emulator.home import Home

Command = Callable[..., list[str]]


def _weights(path: Path) -> np.ndarray:
    return numpy_helper.to_array(onnx.load_from_string(om.read(path).onnx).graph.initializer[0])


def test_success_in_the_words_of_the_real_atc(
    home: Home, onnx_file: Path, atc_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Start line, success line, exit code 0, an OM for the asked shape, and the litter in the current folder."""
    del home
    assert atc.main(atc_command(onnx_file, "m_bs4", batch=4)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ATC start working now, please wait for a moment.",
        "ATC run success, welcome to the next use.",
    ]
    description = om.read(Path("m_bs4.om")).description
    assert (description.batch, description.soc_version) == (4, "Ascend310P3")
    assert "emulated" in description.toolkit_version
    assert [(info.name, info.dtype, info.shape, info.format) for info in description.inputs] == [
        ("image", "float32", (4, 3, 8, 8), 0)
    ]
    assert [(info.name, info.shape) for info in description.outputs] == [("features", (4, 4, 6, 6))]
    assert {path.name for path in Path.cwd().iterdir()} == {"m_bs4.om", "kernel_meta", "fusion_result.json"}


def test_fixed_model_computes_what_the_onnx_does(compiled: Callable[..., Path], onnx_file: Path) -> None:
    """Without lowering the outputs are bit-equal to plain onnxruntime."""
    image = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    fixed = onnxruntime.InferenceSession(om.read(compiled()).onnx).run(None, {"image": image})[0]
    plain = onnxruntime.InferenceSession(onnx_file).run(None, {"image": image})[0]
    np.testing.assert_array_equal(fixed, plain)


def test_lowering_rounds_weights_through_float16(compiled: Callable[..., Path], onnx_file: Path) -> None:
    """0.1 is no longer 0.1; keeping modes keep it."""
    original = numpy_helper.to_array(onnx.load(onnx_file).graph.initializer[0])
    rounded = _weights(compiled(precision="force_fp16", name="low"))
    np.testing.assert_array_equal(rounded, original.astype(np.float16).astype(np.float32))
    assert rounded[0, 0, 0, 0] != np.float32(0.1)
    np.testing.assert_array_equal(_weights(compiled(precision="must_keep_origin_dtype", name="kept")), original)


def test_black_list_keeps_an_operators_weights(
    home: Home, onnx_file: Path, atc_command: Command, tmp_path: Path
) -> None:
    """Mixed precision leaves Conv alone when the mix list says so."""
    del home
    mixlist = tmp_path / "mix.json"
    mixlist.write_text('{"black-list": {"to-add": ["Conv"]}}')
    arguments = atc_command(onnx_file, "mixed")
    assert atc.main([*arguments, "--precision_mode=allow_mix_precision", f"--modify_mixlist={mixlist}"]) == 0
    assert _weights(Path("mixed.om"))[0, 0, 0, 0] == np.float32(0.1)


def test_converting_again_gives_the_same_bytes(compiled: Callable[..., Path]) -> None:
    """Reuse by content rests on it."""
    first = compiled().read_bytes()
    assert compiled().read_bytes() == first


def test_an_error_has_a_trace_only_with_a_place_in_it() -> None:
    """A heading with nothing below it looks like an output that was cut off."""
    plain = atc.error_block(AtcError("E10001", "Value", "Try again"))
    assert [line.split(":")[0].strip() for line in plain.splitlines()] == ["E10001", "Solution"]
    *_, heading, place = atc.error_block(AtcError("EZ3003", "No kernel", trace="failed[FUNC:f]")).splitlines()
    assert (heading.strip(), place) == ("TraceBack (most recent call last):", "        failed[FUNC:f]")


@pytest.mark.parametrize(
    ("shape", "code", "words"),
    [
        ("imag:2,3,8,8", "E10001", "Value [-1] for parameter [image] is invalid. Reason: maybe you should set"),
        ("image:2,3,8,8;other:1", "E10016", "Opname [other]"),
        ("image:2,3,8", "E10001", "has 4 dimensions"),
    ],
)
def test_shapes_that_do_not_fit_the_model(
    home: Home,
    onnx_file: Path,
    atc_command: Command,
    capsys: pytest.CaptureFixture[str],
    shape: str,
    code: str,
    words: str,
) -> None:
    """The failure is on stdout with the code, nothing is written, and the exit code is 255."""
    del home
    arguments = [word for word in atc_command(onnx_file, "m") if not word.startswith("--input_shape")]
    assert atc.main([*arguments, f"--input_shape={shape}"]) == 255
    start, failed, error, *_ = capsys.readouterr().out.splitlines()
    assert start.startswith("ATC start working now")
    assert failed.startswith("ATC run failed, Please check the detail log")
    assert error.startswith(f"{code}: [PID: ")
    assert words in error
    assert list(Path.cwd().iterdir()) == []


def test_too_new_an_opset_has_no_parser(
    home: Home,
    tmp_path: Path,
    atc_command: Command,
    make_onnx: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The text names the operator with domain and version."""
    del home
    model = make_onnx(tmp_path / "new.onnx", opset=19)
    assert atc.main(atc_command(model, "m")) == 255
    assert "No parser is registered for Op [conv, optype [ai.onnx::19::Conv]]." in capsys.readouterr().out


def test_a_batch_that_the_graph_cannot_take(
    home: Home, tmp_path: Path, atc_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where shapes of an inner operator contradict each other, the tool's inner error says so."""
    del home
    graph = helper.make_graph(
        [helper.make_node("Concat", ["image", "two"], ["features"], axis=1)],
        "concat",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 6, 8, 8])],
        [numpy_helper.from_array(np.zeros((2, 3, 8, 8), np.float32), "two")],
    )
    model = tmp_path / "concat.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), model)
    assert atc.main(atc_command(model, "m", batch=2)) == 0
    assert atc.main(atc_command(model, "m", batch=3)) == 255
    assert "E19999: " in capsys.readouterr().out


@pytest.mark.parametrize(("content", "code"), [(None, "E10001"), (b"not a model", "E16005")])
def test_unreadable_models(
    home: Home,
    tmp_path: Path,
    atc_command: Command,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    code: str,
) -> None:
    """Missing and foreign files are told apart."""
    del home
    model = tmp_path / "broken.onnx"
    if content is not None:
        model.write_bytes(content)
    assert atc.main(atc_command(model, "m")) == 255
    assert f"{code}: " in capsys.readouterr().out


def test_an_output_folder_that_is_missing(
    home: Home, onnx_file: Path, atc_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """E10022 names the path."""
    del home
    assert atc.main(atc_command(onnx_file, "no/such/m")) == 255
    assert "E10022" in capsys.readouterr().out


def test_the_diary_tells_start_and_end(home: Home, onnx_file: Path, atc_command: Command) -> None:
    """Failures end too."""
    atc.main(atc_command(onnx_file, "m"))
    atc.main(atc_command(onnx_file, "m", soc="Ascend999"))
    entries = [(entry["event"], entry["model"], entry.get("ok")) for entry in read(home.diary_path)]
    assert entries == [
        ("atc_start", None, None),
        ("atc_end", "m", True),
        ("atc_start", None, None),
        ("atc_end", None, False),
    ]


def test_the_installed_program_runs_from_anywhere(
    home: Home, onnx_file: Path, atc_command: Command, tmp_path: Path, plain_environment: dict[str, str]
) -> None:
    """Found by its path, in a foreign folder: it converts, and refuses with 255."""
    program = home.root / "bin" / "atc"
    done = [
        subprocess.run(
            [program, *arguments],
            cwd=tmp_path,
            env=plain_environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for arguments in (atc_command(onnx_file, "m"), ["--model=m.onnx"])
    ]
    assert [each.returncode for each in done] == [0, 255]
    assert (tmp_path / "m.om").read_bytes()[:4] == b"IMOD"
    assert "E10007: " in done[1].stdout
    assert done[1].stderr == ""
