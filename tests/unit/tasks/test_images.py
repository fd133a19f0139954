"""Pictures of all modes are read; damaged ones are named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from npuq.errors import Blame, DatasetError
from tasks import images, registry

Reader = Callable[[Path], Any]
READERS = pytest.mark.parametrize("read", [images.read_rgb, images.read_bgr])


def noise(size: tuple[int, int]) -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "png"), ("P", "png"), ("LA", "png"), ("1", "png")]
)
def test_odd_modes_are_read_as_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    """Grey, CMYK, alpha and palette pictures become what Pillow's own conversion makes of them."""
    path = tmp_path / f"odd.{suffix}"
    noise((61, 97)).convert(mode).save(path)
    sample = registry.get("mobilenet_v1").preprocess(path)
    assert (sample.array.shape, str(sample.array.dtype)) == ((3, 224, 224), "float32")
    with Image.open(path) as original:
        assert np.array_equal(np.asarray(images.read_rgb(path)), np.asarray(original.convert("RGB")))


def test_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    """Pillow warns about transparency that is not used; the log stays quiet."""
    path = tmp_path / "palette.png"
    noise((20, 20)).convert("P").save(path, transparency=bytes(range(256)))
    assert images.read_rgb(path).mode == "RGB"


@READERS
@pytest.mark.parametrize("kept", [0, 3, 200, 4000])
def test_truncated_file_is_named(tmp_path: Path, kept: int, read: Reader) -> None:
    """A half-copied picture is the input's fault, and the message says which one it is."""
    path = tmp_path / "ILSVRC2012_val_00000007.JPEG"
    noise((120, 90)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DatasetError, match=r"ILSVRC2012_val_00000007\.JPEG is damaged") as caught:
        read(path)
    assert (caught.value.info.blame, caught.value.info.retry) == (Blame.INPUT, False)


@READERS
def test_truncated_png_is_named(tmp_path: Path, read: Reader) -> None:
    """The PNG decoder complains in its own way; the answer is the same."""
    path = tmp_path / "half.png"
    noise((120, 90)).save(path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DatasetError, match=r"half\.png is damaged"):
        read(path)


@READERS
def test_absent_file_is_named(tmp_path: Path, read: Reader) -> None:
    """A picture that vanished after the listing is told as that."""
    with pytest.raises(DatasetError, match=r"gone\.JPEG is gone"):
        read(tmp_path / "gone.JPEG")


@READERS
def test_unreadable_file_blames_the_host(tmp_path: Path, read: Reader) -> None:
    """What the disk refuses may work on another host, or later."""
    with pytest.raises(DatasetError, match="cannot be read") as caught:
        read(tmp_path)
    assert (caught.value.info.blame, caught.value.info.retry) == (Blame.HOST, True)


@READERS
def test_decompression_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, read: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file that claims to be a huge picture costs no memory; a merely large one is read in silence."""
    path = tmp_path / "bomb.png"
    noise((100, 90)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8999)
    assert np.asarray(read(path)).shape == (90, 100, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4499)
    with pytest.raises(DatasetError, match=r"bomb\.png is damaged.*exceeds limit"):
        read(path)


@READERS
@pytest.mark.parametrize("size", [(1, 1), (10_000, 1), (1, 10_000)])
def test_extreme_sizes_are_read(tmp_path: Path, read: Reader, size: tuple[int, int]) -> None:
    """One pixel, and sides of ten thousand, are pictures like others."""
    noise(size).save(tmp_path / "extreme.png")
    assert np.asarray(read(tmp_path / "extreme.png")).shape == (size[1], size[0], 3)


def test_opencv_order_is_blue_green_red(tmp_path: Path) -> None:
    """The same pixels as Pillow's, last channel first."""
    noise((12, 7)).save(tmp_path / "small.png")
    expected = np.asarray(images.read_rgb(tmp_path / "small.png"))[..., ::-1]
    np.testing.assert_array_equal(images.read_bgr(tmp_path / "small.png"), expected)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_only_opencv_turns_a_rotated_picture(tmp_path: Path, suffix: str) -> None:
    """The scripts of mmcv see a picture as the camera meant it, those of Pillow as it was stored."""
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored picture has to be turned right by 90 degrees
    noise((12, 7)).save(path, exif=exif)
    stored = np.asarray(images.read_rgb(path))
    turned = images.read_bgr(path)[..., ::-1]
    assert (stored.shape, turned.shape) == ((7, 12, 3), (12, 7, 3))
    np.testing.assert_array_equal(turned, np.rot90(stored, -1))


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "jpg"), ("CMYK", "jpg"), ("RGBA", "png"), ("P", "png"), ("LA", "png"), ("I;16", "png")]
)
def test_opencv_reads_odd_modes_as_three_channels(tmp_path: Path, mode: str, suffix: str) -> None:
    """Grey, CMYK, alpha, palette and 16-bit pictures become what OpenCV's own colour flag makes of them."""
    path = tmp_path / f"odd.{suffix}"
    (Image.new(mode, (12, 7), 40_000) if mode == "I;16" else noise((12, 7)).convert(mode)).save(path)
    pixels = images.read_bgr(path)
    assert (pixels.shape, str(pixels.dtype)) == ((7, 12, 3), "uint8")
    np.testing.assert_array_equal(pixels, cv2.imread(str(path), cv2.IMREAD_COLOR))


def test_what_opencv_cannot_decode_is_named(tmp_path: Path) -> None:
    """Pillow knows formats that OpenCV does not."""
    noise((12, 7)).save(tmp_path / "odd.jpg", format="PCX")
    with pytest.raises(DatasetError, match=r"odd\.jpg is damaged: OpenCV cannot decode it"):
        images.read_bgr(tmp_path / "odd.jpg")


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((400, 300), (341, 256)),
        ((241, 360), (256, 382)),
        ((256, 999), (256, 999)),
        ((5, 11), (256, 563)),
        ((300, 300), (256, 256)),
    ],
)
def test_short_side_is_resized_and_the_long_one_cut(size: tuple[int, int], resized: tuple[int, int]) -> None:
    """The long side keeps whole pixels only; a short side that fits already is left alone."""
    assert images.resize_short_side(noise(size), 256).size == resized


@pytest.mark.parametrize("size", [(4000, 3), (3, 4001), (4002, 7), (1, 4003), (2999, 2), (31, 2001)])
def test_middle_of_a_line_is_that_of_the_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out at the ends moves nothing in a centre crop; Pillow's float32 box may round a grey level away."""
    whole = np.asarray(images.centre_crop(images.resize_short_side(noise(size), 256), 224))
    monkeypatch.setattr(images, "_LONGEST_RESIZED", 1000)
    resized = images.resize_short_side(noise(size), 256)
    assert max(resized.size) < 1004
    middle = np.asarray(images.centre_crop(resized, 224))
    np.testing.assert_allclose(middle.astype(np.int16), whole, rtol=0, atol=1)


@pytest.mark.parametrize("size", [(65_000, 1), (1, 65_000), (10_000, 3)])
def test_line_of_pixels_does_not_fill_the_memory(size: tuple[int, int]) -> None:
    """Resized as a whole, the longest one would have four thousand million pixels."""
    assert min(images.resize_short_side(noise(size), 256).size) == 256
    assert max(images.resize_short_side(noise(size), 256).size) < 2**16 + 4


def test_odd_margin_is_rounded_to_even() -> None:
    """341 - 224 leaves 58.5, which is cut at 58; 227 - 224 leaves 1.5, which is cut at 2."""
    picture = noise((341, 227))
    assert np.array_equal(np.asarray(images.centre_crop(picture, 224)), np.asarray(picture)[2:226, 58:282])


def test_normalised_values_are_channels_first_in_rgb_order() -> None:
    """Full red is (1 - mean) / deviation in channel 0."""
    picture = Image.new("RGB", (2, 2), (255, 0, 0))
    array = images.normalise(picture, mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 1.0))
    assert (str(array.dtype), array.flags["C_CONTIGUOUS"]) == ("float32", True)
    assert array[:, 0, 0].tolist() == [1.0, -0.5, 0.0]
