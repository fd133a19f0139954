from emulator.engines import Binding, TimedEngine
from emulator.fleet import ServiceTime
from emulator.om import Om, OmDescription, TensorInfo

OM = Om(
    name="m",
    description=OmDescription(
        soc_version="Ascend310P3",
        toolkit_version="8.0.0-emulated",
        precision_mode="force_fp16",
        batch=4,
        inputs=(),
        outputs=(TensorInfo(name="a", dtype="int64", shape=(4, 2)), TensorInfo(name="b", dtype="float16", shape=(4,))),
    ),
    onnx=b"",
    digest="0" * 64,
    size_bytes=0,
)


def test_zeros_have_the_types_of_the_outputs() -> None:
    """All outputs, in order."""
    binding = Binding(inputs=(), outputs=((4, 2), (4,)))
    outputs = TimedEngine(OM, ServiceTime(base_ms=0.0, per_sample_ms=0.0), 0).execute([], binding)
    assert [(output.shape, output.dtype.name) for output in outputs] == [((4, 2), "int64"), ((4,), "float16")]


def test_jitter_is_seeded_by_chip() -> None:
    """The same seed and chip draw the same times; another chip draws others."""
    model = ServiceTime(jitter=0.5, seed=3)
    draws = [TimedEngine(OM, model, chip)._random.random() for chip in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
