"""Lists of images: a part of a dataset, as a person writes it down and as jobs get it. Pure; knows no dataset.

A line holds an image id. Blank lines do not count, nor does what follows a `#` that begins a line or stands after a
blank. Jobs get the canonical text, the sorted ids alone, so that equal parts have equal digests however they were
written. The order of a list means nothing: work and results follow the dataset's own order.
"""

import hashlib
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

from npuq.errors import InvalidRequestError

MAX_BYTES: Final = 64 * 2**20
_SHOWN: Final = 5
_COMMENT: Final = re.compile(r"(?:^|\s)#.*")


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """A list that was read.

    Attributes:
        name: of its file, for messages.
        lines: image id -> number of its line, from 1.
    """

    name: str
    lines: Mapping[str, int]

    @classmethod
    def read(cls, content: bytes, name: str) -> Self:
        """Read a list.

        Raises:
            InvalidRequestError: it is too long, not text, empty, or names an image twice; the message has the lines.
        """
        if len(content) > MAX_BYTES:
            raise InvalidRequestError(f"{name}: a list of images has at most {MAX_BYTES >> 20} MiB")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"{name} is no list of images: {error}; write an image id a line") from error
        lines: dict[str, int] = {}
        doubled: list[str] = []
        for number, line in enumerate(text.split("\n"), start=1):
            image_id = _COMMENT.sub("", line).strip()
            if image_id in lines:
                doubled.append(f"{image_id!r} (lines {lines[image_id]} and {number})")
            elif image_id:
                lines[image_id] = number
        if doubled:
            raise InvalidRequestError(f"{name}: images that are listed twice: {_some(doubled)}")
        if not lines:
            raise InvalidRequestError(f"{name} lists no image; write an image id a line")
        return cls(name=name, lines=lines)

    @cached_property
    def text(self) -> bytes:
        """Return the canonical text."""
        return "".join(f"{image_id}\n" for image_id in sorted(self.lines)).encode()

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the canonical text."""
        return hashlib.sha256(self.text).hexdigest()

    def check_known(self, known: Container[str], dataset: str, example: str) -> None:
        """Refuse images that a dataset does not have.

        Args:
            known: the ids of its images.
            dataset: its name.
            example: one of its ids, to show what they look like.

        Raises:
            InvalidRequestError: naming the first of them with their lines.
        """
        unknown = [f"{image_id!r} (line {number})" for image_id, number in self.lines.items() if image_id not in known]
        if unknown:
            raise InvalidRequestError(
                f"{self.name} lists images that the dataset {dataset!r} does not have, {len(unknown)} of "
                f"{len(self.lines)}: {_some(unknown)}. Its ids look like {example!r}."
            )


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
