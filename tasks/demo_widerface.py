"""A small synthetic dataset in WIDER FACE's layout: drawn faces of many sizes, and four .mat files like the official.

What its rules care about is in it: faces that count for nothing, a face without a size, pictures without a face that
counts, lists of files in no order. Beside the faces are the same heads in blue, so that swapped channels find the wrong
ones.
"""

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

from npuq.errors import InvalidRequestError
from tasks.datasets_widerface import IMAGE_PLACES, IMAGE_SUFFIX, TRUTH_PLACES
from tasks.protocols import Array, WiderFaces
from tasks.widerface_truth import DIFFICULTY_FILES, FACE_FILE

#: In the official order, which is not that of the numbers.
EVENTS: Final = ("0--Parade", "1--Handshaking", "10--People_Marching", "2--Demonstration")
#: Difficulty -> pixels in height from which on a face counts for it.
LEAST_HEIGHT: Final = {"easy": 40, "medium": 24, "hard": 12}

_SHORT_SIDE: Final = (128, 200)  # pixels
_MAX_ASPECT: Final = 1.28
_MOST: Final = 4  # faces in a picture
_HEIGHT: Final = (9, 96)  # pixels
_LARGE: Final = 56  # pixels: the first picture has a face of this height or more, so that there is one of each kind
_WIDTH: Final = (0.76, 0.88)  # of the height
_INVALID: Final = 0.06  # of all faces
_SIZELESS: Final = 0.04  # of all pictures
_STRANGERS: Final = 2  # blue heads in a picture, at most
_APART: Final = 2  # pixels
_TRIES: Final = 30
_NOISE: Final = 10.0  # grey levels
_FINER: Final = 4  # drawn at this scale, for smooth edges
_JPEG_QUALITY: Final = 92
_LABELS: Final = ("blur", "expression", "illumination", "occlusion", "pose")
_HEADER_BYTES: Final = 116
_HEADER: Final = b"MATLAB 5.0 MAT-file, npuq's synthetic faces"

Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Face:
    """A face: x y width height in whole pixels, and whether it counts for nothing whatever its size."""

    box: Box
    invalid: bool = False

    def counts(self, difficulty: str) -> bool:
        """Return whether it is to be found."""
        return not self.invalid and self.box[3] >= LEAST_HEIGHT[difficulty]


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture, RGB, and the faces in it."""

    image: Image.Image
    faces: tuple[Face, ...]

    @property
    def truth(self) -> WiderFaces:
        """Return the faces as the evaluation takes them."""
        return WiderFaces(
            boxes=np.array([face.box for face in self.faces], dtype=np.float64).reshape(-1, 4),
            counted={
                difficulty: np.array([face.counts(difficulty) for face in self.faces], dtype=bool)
                for difficulty in LEAST_HEIGHT
            },
        )


def write(folder: Path, *, images: int, seed: int) -> str:
    """Write a dataset that `tasks.datasets` reads as `widerface`: images by event, and the four .mat files.

    Args:
        folder: new or empty.
        images: at least 1.
        seed: equal seeds give equal bytes (with the same Pillow, numpy and scipy).

    Returns:
        What was written, in words.

    Raises:
        InvalidRequestError: no picture asked for, or the folder holds something.
    """
    if images < 1:
        raise InvalidRequestError(f"A dataset of {images} images shows nothing; ask for 1 or more.")
    if folder.exists() and any(folder.iterdir()):
        raise InvalidRequestError(f"{folder} holds something; name an empty or a new folder for the demo's data.")
    drawn: dict[str, dict[str, Picture]] = {event: {} for event in EVENTS[:images]}
    for number, picture in enumerate(pictures(images, seed=seed)):
        event = EVENTS[number % len(EVENTS)]
        stem = f"{event.replace('--', '_')}_demo_{number}"
        path = folder / IMAGE_PLACES[0] / event / f"{stem}{IMAGE_SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(picture, path)
        drawn[event] = {stem: picture, **drawn[event]}  # the last one first
    truth = folder / TRUTH_PLACES[0]
    truth.mkdir(parents=True)
    for name, content in truth_files(drawn).items():
        (truth / name).write_bytes(content)
    faces = sum(len(picture.faces) for of_event in drawn.values() for picture in of_event.values())
    return f"{images} images of {len(drawn)} events with {faces} faces"


def pictures(count: int, *, seed: int) -> Iterator[Picture]:
    """Yield pictures; fewer of one seed are the first ones of more."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        yield _draw(generator, least=_LARGE if number == 0 else _HEIGHT[0])


def save(picture: Picture, path: Path) -> None:
    """Write the image as JPEG."""
    picture.image.save(path, "JPEG", quality=_JPEG_QUALITY)


def truth_files(drawn: Mapping[str, Mapping[str, Picture]]) -> dict[str, bytes]:
    """Return the four .mat files by name, from event -> stem -> picture; no picture has more than 255 faces."""
    variables = _annotations(drawn)
    return {
        FACE_FILE: _mat(variables),
        **{
            name: _mat(variables | {"gt_list": _per_image(drawn, _numbers, difficulty)})
            for difficulty, name in DIFFICULTY_FILES.items()
        },
    }


def _draw(generator: np.random.Generator, *, least: int) -> Picture:
    """Draw a picture; its first face is at least so high."""
    short = int(generator.integers(*_SHORT_SIDE))
    long = int(short * generator.uniform(1, _MAX_ASPECT))
    width, height = (short, long) if generator.random() < 0.5 else (long, short)  # noqa: PLR2004 - a fair coin
    wanted = int(generator.integers(1, _MOST + 1))
    strangers = int(generator.integers(0, _STRANGERS + 1))
    boxes = _place(generator, width, height, [least, *[_HEIGHT[0]] * (wanted + strangers - 1)])
    faces = [Face(box=boxes[0]), *(Face(box=box, invalid=_chance(generator, _INVALID)) for box in boxes[1:wanted])]
    ground = tuple(int(level) for level in generator.integers(60, 170, 3))
    canvas = Image.new("RGB", (width * _FINER, height * _FINER), ground)
    pen = ImageDraw.Draw(canvas)
    for place, box in enumerate(boxes):
        _draw_head(pen, box, _skin(generator, blue=place >= len(faces)))
    plain = np.asarray(canvas.reduce(_FINER), dtype=np.float32)
    noisy = plain + _NOISE * generator.standard_normal((height, width, 3), dtype=np.float32)
    if _chance(generator, _SIZELESS):
        faces.append(Face(box=(width // 2, height // 2, 0, 0)))
    return Picture(image=Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), faces=tuple(faces))


def _chance(generator: np.random.Generator, share: float) -> bool:
    return bool(generator.random() < share)


def _place(generator: np.random.Generator, width: int, height: int, least: Sequence[int]) -> list[Box]:
    """Return boxes that lie apart, of these heights or more; fewer where there is no room, but at least one."""
    placed: list[Box] = []
    for smallest in least:
        for _ in range(_TRIES):
            high = round(math.exp(generator.uniform(math.log(smallest), math.log(_HEIGHT[1]))))
            wide = round(high * generator.uniform(*_WIDTH))
            x, y = (int(corner) for corner in generator.integers([0, 0], [width - wide, height - high]))
            if all(_apart((x, y, wide, high), other) for other in placed):
                placed.append((x, y, wide, high))
                break
    return placed


def _apart(one: Box, other: Box) -> bool:
    return any(
        one[axis] + one[axis + 2] + _APART <= other[axis] or other[axis] + other[axis + 2] + _APART <= one[axis]
        for axis in (0, 1)
    )


def _skin(generator: np.random.Generator, *, blue: bool) -> tuple[int, int, int]:
    light = generator.uniform(0.75, 1.0)
    red, green, dark = (round(light * level) for level in generator.uniform([215, 150, 95], [250, 185, 140]))
    return (dark, green, red) if blue else (red, green, dark)


def _draw_head(pen: ImageDraw.ImageDraw, box: Box, skin: tuple[int, int, int]) -> None:
    """Draw a head that fills a box: hair, two eyes, a mouth."""
    x, y, wide, high = (_FINER * side for side in box)

    def part(left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
        return (x + left * wide, y + top * high, x + right * wide - 1, y + bottom * high - 1)

    pen.ellipse(part(0, 0, 1, 1), fill=skin)
    pen.chord(part(0, 0, 1, 1), 205, 335, fill=(45, 40, 40))
    for eye in (0.22, 0.6):
        pen.ellipse(part(eye, 0.4, eye + 0.18, 0.52), fill=(25, 25, 25))
    pen.chord(part(0.27, 0.6, 0.73, 0.86), 10, 170, fill=(120, 40, 70))


def _annotations(drawn: Mapping[str, Mapping[str, Picture]]) -> dict[str, Array]:
    """Return the variables that all four files have, as the official ones have them."""
    return {
        "event_list": _column(list(drawn)),
        "file_list": _column([_column(list(of_event)) for of_event in drawn.values()]),
        "face_bbx_list": _per_image(drawn, _boxes),
        **{f"{label}_label_list": _per_image(drawn, _zeros) for label in _LABELS},
        "invalid_label_list": _per_image(drawn, _invalid),
    }


def _boxes(picture: Picture) -> Array:
    return picture.truth.boxes.astype(np.int32)


def _zeros(picture: Picture) -> Array:
    return np.zeros((len(picture.faces), 1), dtype=np.uint8)


def _invalid(picture: Picture) -> Array:
    return np.array([[face.invalid] for face in picture.faces], dtype=np.uint8)


def _numbers(picture: Picture, difficulty: str) -> Array:
    """Return the numbers, from 1, of the faces that count: uint8 (K, 1)."""
    numbers = np.flatnonzero(picture.truth.counted[difficulty]) + 1
    return numbers.astype(np.uint8).reshape(-1, 1)


def _per_image(drawn: Mapping[str, Mapping[str, Picture]], value: Callable[..., Array], *arguments: str) -> Array:
    return _column(
        [_column([value(picture, *arguments) for picture in of_event.values()]) for of_event in drawn.values()]
    )


def _column(items: Sequence[Any]) -> Array:
    """Return a cell array (N, 1)."""
    cells = np.empty((len(items), 1), dtype=object)
    for place, item in enumerate(items):
        cells[place, 0] = item
    return cells


def _mat(variables: dict[str, Array]) -> bytes:
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, variables, do_compression=True)
    return _HEADER.ljust(_HEADER_BYTES) + stream.getvalue()[_HEADER_BYTES:]  # scipy would write the time
