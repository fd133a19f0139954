"""Every flag that changes the OM, on a network of two branches, run with onnxruntime as the emulated runtime does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from emulator import om
from emulator.atc_errors import AtcError
from emulator.atc_flags import parse
from emulator.conversion import convert
from emulator.om import AippInfo, GearKind

RANDOM = np.random.default_rng(3)
KERNEL = RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32)
Compile = Callable[..., om.Om]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Write `image` (N, 3, H, W) -> Conv "conv" -> Relu "relu" -> `features`, and mean "pool" -> `means`; opset 11."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["features"], name="relu"),
            helper.make_node("GlobalAveragePool", ["features"], ["means"], name="pool"),
        ],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 4, "H", "W"]),
            helper.make_tensor_value_info("means", TensorProto.FLOAT, ["N", 4, 1, 1]),
        ],
        [numpy_helper.from_array(KERNEL, "kernel")],
    )
    path = tmp_path / "net.onnx"
    # In the newest file format that there is, which onnxruntime need not know: ATC writes another file.
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)]), path)
    return path


@pytest.fixture(params=["force_fp32", ""], ids=["force_fp32", "default"])
def precision(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the flags of a precision: none is what most guides give, and computes in half."""
    return {"precision_mode": request.param} if request.param else {}


@pytest.fixture
def compile_model(model: Path, precision: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Return a function that converts with more flags and reads the OM."""
    monkeypatch.chdir(tmp_path)

    def compile_with(**flags: str) -> om.Om:
        given = {
            "framework": "5",
            "model": str(model),
            "output": str(tmp_path / "out"),
            "soc_version": "Ascend310P3",
            "input_shape": "image:2,3,8,8",
            **precision,
            **flags,
        }
        return om.read(convert(parse([f"--{flag}={value}" for flag, value in given.items()]), "8.0-emulated"))

    return compile_with


def run(compiled: om.Om, *arrays: np.ndarray) -> dict[str, np.ndarray]:
    """Return the outputs of an OM by name."""
    session = onnxruntime.InferenceSession(compiled.onnx, providers=["CPUExecutionProvider"])
    names = [output.name for output in compiled.description.outputs]
    feeds = {info.name: array for info, array in zip(compiled.description.inputs, arrays, strict=True)}
    return dict(zip(names, session.run(names, feeds), strict=True))


def image(*shape: int) -> np.ndarray:
    """Return random numbers."""
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def test_batch_gears_bind(compile_model: Compile) -> None:
    """The OM names every gear's shapes; its ONNX takes each of them and computes what a static OM does."""
    compiled = compile_model(input_shape="image:-1,3,8,8", dynamic_batch_size="1,2,4")
    said = compiled.description
    assert (said.gear_kind, said.batch) == (GearKind.BATCH, 4)
    assert [gear.values for gear in said.gears] == [(1,), (2,), (4,)]
    assert said.gears[1].inputs == ((2, 3, 8, 8),)
    assert said.gears[1].outputs == ((2, 4, 8, 8), (2, 4, 1, 1))
    assert (said.inputs[0].shape, said.outputs[0].shape) == ((-1, 3, 8, 8), (-1, 4, 8, 8))
    static = run(compile_model(), image(2, 3, 8, 8))
    np.testing.assert_array_equal(run(compiled, image(2, 3, 8, 8))["features"], static["features"])


def test_image_and_dims_gears_bind(compile_model: Compile) -> None:
    """Height and width, or each open dimension in order."""
    sizes = compile_model(input_shape="image:1,3,-1,-1", dynamic_image_size="8,16;16,8").description
    assert sizes.gear_kind is GearKind.IMAGE_SIZE
    assert [gear.outputs[0] for gear in sizes.gears] == [(1, 4, 8, 16), (1, 4, 16, 8)]
    dims = compile_model(input_shape="image:-1,3,-1,8", dynamic_dims="1,8;2,4", input_format="ND").description
    assert [gear.inputs[0] for gear in dims.gears] == [(1, 3, 8, 8), (2, 3, 4, 8)]
    assert dims.inputs[0].format == 2


def test_a_ranged_shape_gives_a_dynamic_model(compile_model: Compile) -> None:
    """Without gears, with limits, and with the host's architecture in the file's name."""
    compiled = compile_model(input_shape="image:1~8,3,-1,-1")
    assert compiled.name.startswith("out_linux_")
    (info,) = compiled.description.inputs
    assert info.shape == (-1, 3, -1, -1)
    assert info.limits == ((1, 8), (3, 3), (1, -1), (1, -1))
    assert compiled.description.gears == ()
    assert run(compiled, image(3, 3, 5, 7))["features"].shape == (3, 4, 5, 7)


def test_a_gear_that_the_graph_cannot_take(tmp_path: Path, compile_model: Compile) -> None:
    """A model exported for one batch size contradicts every other."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["image", "two"], ["sum"], name="add")],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3, 8, 8])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [2, 3, 8, 8])],
        [numpy_helper.from_array(np.zeros((2, 3, 8, 8), np.float32), "two")],
    )
    path = tmp_path / "fixed.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), path)
    with pytest.raises(AtcError, match="E19999"):
        compile_model(model=str(path), input_shape="image:-1,3,8,8", dynamic_batch_size="2,3")


def test_out_nodes_cut_the_model(compile_model: Compile) -> None:
    """What comes after is gone, in the order that was asked for."""
    compiled = compile_model(out_nodes="conv:0")
    assert [info.name for info in compiled.description.outputs] == ["c"]
    types = [node.op_type for node in onnx.load_from_string(compiled.onnx).graph.node]
    assert (types.count("Conv"), {"Relu", "GlobalAveragePool"}.intersection(types)) == (1, set())
    assert compiled.description.out_nodes == ("conv:0",)
    assert run(compiled, image(2, 3, 8, 8))["c"].min() < 0
    both = compile_model(out_nodes="pool:0;relu:0").description
    assert [info.name for info in both.outputs] == ["means", "features"]


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ({"out_nodes": "nothing:0"}, "E10016"),
        ({"out_nodes": "conv:1"}, "E10016"),
        ({"output_type": "nothing:0:FP16"}, "E10016"),
        ({"output_type": "conv:0:FP16"}, "E10001"),
        ({"output_type": "pool:0:FP16", "out_nodes": "relu:0"}, "E10016"),
        ({"input_fp16_nodes": "nothing"}, "E10016"),
    ],
)
def test_names_that_the_model_lacks(compile_model: Compile, flags: dict[str, str], code: str) -> None:
    """The code of a node that is not found, or is no output."""
    with pytest.raises(AtcError) as caught:
        compile_model(**flags)
    assert caught.value.code == code


def test_outputs_and_inputs_take_other_types(compile_model: Compile) -> None:
    """One output or all of them, and an input that takes float16."""
    one = compile_model(output_type="pool:0:FP16")
    assert [info.dtype for info in one.description.outputs] == ["float32", "float16"]
    every = compile_model(output_type="UINT8", input_fp16_nodes="image")
    assert [info.dtype for info in every.description.outputs] == ["uint8", "uint8"]
    assert every.description.inputs[0].dtype == "float16"
    outputs = run(every, np.abs(image(2, 3, 8, 8)).astype(np.float16))
    assert {array.dtype for array in outputs.values()} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(
        run(one, image(2, 3, 8, 8))["means"], run(compile_model(), image(2, 3, 8, 8))["means"].astype(np.float16)
    )


def aipp(tmp_path: Path, text: str) -> str:
    """Write a configuration of static AIPP and return its path."""
    path = tmp_path / "aipp.cfg"
    path.write_text(f"aipp_op {{\n aipp_mode: static\n {text}\n}}\n")
    return str(path)


def test_aipp_takes_bytes_and_does_what_the_program_did(compile_model: Compile, tmp_path: Path) -> None:
    """Crop, swap, mean, minimum, factor and padding on RGB give what numpy gives before the plain model."""
    config = aipp(
        tmp_path,
        """input_format: RGB888_U8
        src_image_size_w: 10
        src_image_size_h: 12
        crop: true
        load_start_pos_w: 1
        load_start_pos_h: 2
        crop_size_w: 6
        crop_size_h: 8
        padding: true
        left_padding_size: 1
        right_padding_size: 1
        cpadding_value: 0.5
        rbuv_swap_switch: true
        mean_chn_0: 104
        mean_chn_1: 117
        mean_chn_2: 123
        min_chn_0: 0.5
        var_reci_chn_0: 0.0039
        var_reci_chn_1: 0.25
        var_reci_chn_2: 1.0""",
    )
    compiled = compile_model(insert_op_conf=config)
    (info,) = compiled.description.inputs
    assert (info.dtype, info.shape, info.format) == ("uint8", (2, 12, 10, 3), 1)
    assert info.aipp == AippInfo(input_format="RGB888_U8", source_height=12, source_width=10)
    picture = np.random.default_rng(7).integers(0, 256, (2, 12, 10, 3), np.uint8)
    cut = picture[:, 2:10, 1:7, ::-1].astype(np.float32).transpose(0, 3, 1, 2)
    shift = np.array([104.5, 117, 123], np.float32).reshape(1, 3, 1, 1)
    scaled = (cut - shift) * np.array([0.0039, 0.25, 1], np.float32).reshape(1, 3, 1, 1)
    fed = np.pad(scaled, ((0, 0), (0, 0), (0, 0), (1, 1)), constant_values=0.5).astype(np.float32)
    expected = run(compile_model(), fed)["features"]
    np.testing.assert_allclose(run(compiled, picture)["features"], expected, rtol=1e-5, atol=1e-4)


def test_aipp_converts_yuv(compile_model: Compile, tmp_path: Path) -> None:
    """A YUV420SP picture has one and a half rows per row; chroma is shared by four pixels."""
    matrix = "\n".join(
        f"matrix_r{row}c{column}: {value}"
        for row, values in enumerate([[256, 0, 359], [256, -88, -183], [256, 454, 0]])
        for column, value in enumerate(values)
    )
    config = aipp(
        tmp_path, f"input_format: YUV420SP_U8\ncsc_switch: true\n{matrix}\ninput_bias_1: 128\ninput_bias_2: 128"
    )
    compiled = compile_model(insert_op_conf=config)
    assert compiled.description.inputs[0].shape == (2, 12, 8, 1)
    picture = np.random.default_rng(8).integers(0, 256, (2, 12, 8, 1), np.uint8)
    luma = picture[:, :8, :, 0].astype(np.float32)
    chroma = picture[:, 8:, :, 0].reshape(2, 4, 4, 2).repeat(2, axis=1).repeat(2, axis=2).astype(np.float32) - 128
    red = luma + 359 / 256 * chroma[..., 1]
    green = luma - 88 / 256 * chroma[..., 0] - 183 / 256 * chroma[..., 1]
    blue = luma + 454 / 256 * chroma[..., 0]
    fed = np.clip(np.floor(np.stack([red, green, blue], axis=1)), 0, 255).astype(np.float32)
    expected = run(compile_model(), fed)["features"]
    np.testing.assert_allclose(run(compiled, picture)["features"], expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("input_format: RGB888_U8\nresize: true", "resize is not emulated"),
        ("input_format: YUYV_U8", "input_format is one of"),
        ("input_format: RGB888_U8\nmax_src_image_size: 9", "not emulated"),
        ("input_format: RGB888_U8\nwrong: 9", "is not a parameter"),
        ("input_format: RGB888_U8\ncrop: true\ncrop: true", "repeatedly"),
        ("input_format: RGB888_U8\nsrc_image_size_w: 20\nsrc_image_size_h: 20", "needs crop"),
        ("input_format: RGB888_U8\ncrop: true\ncrop_size_w: 4\ncrop_size_h: 8", "the model takes 8 x 8"),
        ("input_format: RGB888_U8\ncsc_switch: true", "no matrix"),
        ("input_format: YUV400_U8", "gives 1 channels"),
        ("input_format: RGB888_U8\nrelated_input_name: other", "Top name other"),
        ("input_format: RGB888_U8\nrelated_input_rank: 3", "related_input_rank 3"),
    ],
)
def test_aipp_that_is_wrong_or_not_emulated(compile_model: Compile, tmp_path: Path, text: str, words: str) -> None:
    """All have the code that the real tool has for AIPP."""
    with pytest.raises(AtcError, match=words) as caught:
        compile_model(insert_op_conf=aipp(tmp_path, text))
    assert caught.value.code == "E10052"


def test_dynamic_aipp_and_float16_inputs_are_refused(compile_model: Compile, tmp_path: Path) -> None:
    """Dynamic AIPP is not emulated; an input cannot take bytes and float16."""
    path = tmp_path / "dynamic.cfg"
    path.write_text("aipp_op { aipp_mode: dynamic\n max_src_image_size: 100 }")
    with pytest.raises(AtcError, match="E10052"):
        compile_model(insert_op_conf=str(path))
    with pytest.raises(AtcError, match="E10034"):
        compile_model(insert_op_conf=aipp(tmp_path, "input_format: RGB888_U8"), input_fp16_nodes="image")


def test_aipp_goes_with_batch_gears(compile_model: Compile, tmp_path: Path) -> None:
    """The bytes have the gear's batch."""
    config = aipp(tmp_path, "input_format: RGB888_U8")
    said = compile_model(insert_op_conf=config, input_shape="image:-1,3,8,8", dynamic_batch_size="1,2").description
    assert [gear.inputs for gear in said.gears] == [((1, 8, 8, 3),), ((2, 8, 8, 3),)]


@pytest.mark.parametrize(
    ("node", "code", "words"),
    [
        (helper.make_node("Det", ["image"], ["y"], name="det"), "EZ3003", r"found for \[det\], optype \[Det\]"),
        (helper.make_node("SequenceConstruct", ["image"], ["y"], name="seq"), "E19010", "ai.onnx::11::SequenceConstr"),
        (helper.make_node("AddDsl", ["image"], ["y"], name="own", domain="mine"), "E19010", r"mine::1::AddDsl"),
        (
            helper.make_node("AddDsl", ["image"], ["y"], name="own"),
            "E19010",
            r"\[own, optype \[ai.onnx::11::AddDsl\]\]",
        ),
        (helper.make_node("LayerNormalization", ["image"], ["y"], name="new"), "E19010", "ai.onnx::11::LayerNormaliz"),
    ],
)
def test_operators_that_no_chip_has(compile_model: Compile, tmp_path: Path, node: Any, code: str, words: str) -> None:
    """No parser, or a parser and no kernel."""
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
    )
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "odd.onnx")
    with pytest.raises(AtcError, match=words) as caught:
        compile_model(model=str(tmp_path / "odd.onnx"))
    assert caught.value.code == code


def test_operators_of_branches_are_looked_at_too(compile_model: Compile, tmp_path: Path) -> None:
    """One that nobody knows is found wherever it stands."""
    branches = [
        helper.make_graph(
            [helper.make_node(kind, ["image"], ["y"], name=kind)],
            "branch",
            [],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        )
        for kind in ("Relu", "AddDsl")
    ]
    graph = helper.make_graph(
        [helper.make_node("If", ["on"], ["z"], name="if", then_branch=branches[0], else_branch=branches[1])],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3, 8, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 3, 8, 8])],
        [numpy_helper.from_array(np.array(True), "on")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.save(model, tmp_path / "branches.onnx")
    with pytest.raises(AtcError, match=r"\[AddDsl, optype \[ai.onnx::11::AddDsl\]\]"):
        compile_model(model=str(tmp_path / "branches.onnx"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("conv\nnope\n", "config file contains 1 operator not in the graph, op name:nope"),
        ("OpType::Softmax\nnope", "contains 2 operators not in the graph, op name:nope op type:Softmax"),
        ("\n".join(f"n{number}" for number in range(10, 21)), "contains 11 operators .* op name:n19 \\.\\."),
    ],
)
def test_what_keeps_its_type_has_to_be_there(text: str, words: str, compile_model: Compile, tmp_path: Path) -> None:
    """A node that the model lacks would be kept by nobody, and the person would believe it."""
    (tmp_path / "keep.cfg").write_text(text)
    with pytest.raises(AtcError, match=words) as caught:
        compile_model(keep_dtype=str(tmp_path / "keep.cfg"))
    assert caught.value.code == "E10003"
    (tmp_path / "keep.cfg").write_text("conv\nOpType::Conv2D\n")
    compile_model(keep_dtype=str(tmp_path / "keep.cfg"))
