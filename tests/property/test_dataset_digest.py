"""A dataset's digest follows its content, and nothing else that a disk may do."""

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import datasets
from tasks.dataset_manifest import Manifest

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_ .-]{0,11}", fullmatch=True).map(lambda stem: f"{stem}.JPEG")
FILES = st.dictionaries(NAMES, st.binary(min_size=1, max_size=40), min_size=1, max_size=8)
SEEDS = st.integers(0, 2**16)


@contextmanager
def folder(files: dict[str, bytes], seed: int) -> Iterator[Path]:
    """Write a dataset, its files in an order and with times that follow from the seed."""
    chance = random.Random(seed)
    names = sorted(files)
    chance.shuffle(names)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "val").mkdir()
        for name in names:
            path = root / "val" / name
            path.write_bytes(files[name])
            os.utime(path, (chance.randrange(2**30), chance.randrange(2**30)))
        (root / "val_label.txt").write_text("".join(f"{name} {index}\n" for index, name in enumerate(sorted(files))))
        yield root


def digest(root: Path) -> str:
    """Return the digest of a folder."""
    return datasets.inspect(root, "imagenet").digest


@settings(deadline=None, max_examples=30)  # the machine may be busy
@given(FILES, SEEDS, SEEDS)
def test_neither_order_nor_time_nor_place_matters(files: dict[str, bytes], one: int, other: int) -> None:
    """The same files, written in another order, at other times, elsewhere, are the same dataset."""
    with folder(files, one) as here, folder(files, other) as there:
        assert digest(here) == digest(there)


@settings(deadline=None, max_examples=30)
@given(FILES, st.data())
def test_any_byte_matters(files: dict[str, bytes], data: st.DataObject) -> None:
    """One bit of one image, or of the labels, makes another dataset."""
    with folder(files, 0) as root:
        before = digest(root)
        path = data.draw(st.sampled_from(sorted((root / "val").iterdir())))
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        changed = digest(root)
        (root / "val_label.txt").write_text((root / "val_label.txt").read_text() + "\n")
        assert len({before, changed, digest(root)}) == 3


@settings(deadline=None, max_examples=30)
@given(FILES)
def test_a_manifest_reads_back_as_itself(files: dict[str, bytes]) -> None:
    """The text is canonical: reading and writing it changes no byte, and so no digest."""
    with folder(files, 0) as root:
        manifest = datasets.inspect(root, "imagenet").manifest
    again = Manifest.parse(manifest.text, digest=manifest.digest)
    assert again == manifest
    assert again.text == manifest.text
