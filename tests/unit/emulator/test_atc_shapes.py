import pytest

from emulator.atc_errors import AtcError
from emulator.atc_shapes import InputShape, parse_gears, parse_shapes
from emulator.om import GearKind


def test_shapes_of_several_inputs() -> None:
    """TensorFlow-like names hold colons; a trailing semicolon is harmless; brackets are those of the older flag."""
    shapes = parse_shapes("a:0:1,2;b:3;")
    assert {name: shape.sizes for name, shape in shapes.items()} == {"a:0": (1, 2), "b": (3,)}
    assert parse_shapes("n:[1~20,3,5,-1]")["n"] == InputShape(
        sizes=(-1, 3, 5, -1), limits=((1, 20), (3, 3), (5, 5), (1, -1))
    )


@pytest.mark.parametrize(
    ("flag", "text", "shape", "bound"),
    [
        ("dynamic_batch_size", "1,4", "x:-1,3;y:-1,2", {"x": (4, 3), "y": (4, 2)}),
        ("dynamic_image_size", "8,8;16,32", "x:1,3,-1,-1", {"x": (1, 3, 16, 32)}),
        ("dynamic_dims", "1,6,2;2,8,3", "x:-1,-1;y:-1,5", {"x": (2, 8), "y": (3, 5)}),
        ("dynamic_dims", "1,4,4,1,4;2,8,8,2,8", "x:-1,3,-1,-1;y:-1,-1", {"x": (2, 3, 8, 8), "y": (2, 8)}),
    ],
)
def test_a_gear_binds_every_input(flag: str, text: str, shape: str, bound: dict[str, tuple[int, ...]]) -> None:
    """Batch and image size are shared, dims are dealt out in order."""
    shapes = parse_shapes(shape)
    gears = parse_gears({flag: text}, shapes)
    assert gears is not None
    assert gears.kind is GearKind(flag)
    assert gears.bind(shapes, gears.values[-1]) == bound


@pytest.mark.parametrize(
    ("flags", "shape", "code"),
    [
        ({"dynamic_batch_size": "1,2", "dynamic_dims": "1;2"}, "x:-1", "E10009"),
        ({"dynamic_batch_size": "1,2", "input_shape_range": "x:1~2"}, "x:-1", "E10009"),
        ({"dynamic_batch_size": "1,x"}, "x:-1", "E10014"),
        ({"dynamic_batch_size": "0,1"}, "x:-1", "E10038"),
        ({"dynamic_batch_size": "1"}, "x:-1", "E10035"),
        ({"dynamic_batch_size": ",".join(map(str, range(1, 102)))}, "x:-1", "E10036"),
        ({"dynamic_batch_size": "2,2"}, "x:-1", "E10039"),
        ({"dynamic_batch_size": "1,2"}, "x:1,3", "E10031"),
        ({"dynamic_batch_size": "1,2"}, "x:-1,-1", "E10018"),
        ({"dynamic_batch_size": "1,2"}, "x:1~4,3", "E10040"),
        ({"dynamic_image_size": "8,8,8;4,4,4"}, "x:1,3,-1,-1", "E10020"),
        ({"dynamic_image_size": "8,8;4,4"}, "x:-1,3,-1,8", "E10019"),
        ({"dynamic_image_size": "8,8;4,4"}, "x:1,3,8,8", "E10040"),
        ({"dynamic_dims": "1,2;3"}, "x:-1,-1", "E10037"),
        ({"dynamic_dims": "1,2;3,4"}, "x:-1,3", "E10046"),
        ({"dynamic_dims": "1,2,3,4,5;2,2,3,4,5"}, "x:-1,-1,-1,-1,-1", "E10001"),
    ],
)
def test_gears_that_the_real_one_refuses(flags: dict[str, str], shape: str, code: str) -> None:
    """Each contradiction has its own code."""
    with pytest.raises(AtcError) as caught:
        parse_gears(flags, parse_shapes(shape))
    assert caught.value.code == code
