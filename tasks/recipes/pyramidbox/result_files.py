"""Detections as the text files that WIDER FACE's evaluators read: one per image, `<event>/<stem>.txt`."""

from pathlib import PurePosixPath

from tasks.protocols import Detections
from tasks.widerface_rounding import as_written


def path_of(image_id: str) -> PurePosixPath:
    """Return where an image's file lies within the folder of results; `image_id` is `<event>/<stem>`."""
    return PurePosixPath(f"{image_id}.txt")


def text_of(image_id: str, faces: Detections) -> str:
    """Return the text of an image's file: its name, the number of faces, and a line for each, best first.

    A line is `x y width height score`: pixels with one decimal, sides counted with both ends (one more than the
    difference), the score with three.
    """
    written = as_written(faces)
    rows = zip(written.boxes.tolist(), written.scores.tolist(), strict=True)
    lines = [f"{x:.1f} {y:.1f} {width:.1f} {height:.1f} {score:.3f}" for (x, y, width, height), score in rows]
    return "\n".join([f"{image_id}.jpg", str(len(lines)), *lines, ""])
