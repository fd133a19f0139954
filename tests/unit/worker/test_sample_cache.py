import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tasks.protocols import Array
from worker.sample_cache import CachedSample, SampleCache, preparation_key, shrink

SHAPE = (3, 4, 5)
SOURCE = (1, 2, 3)


def row(value: float = 0) -> Array:
    """Return a sample of one value."""
    return np.full(SHAPE, value, np.float32)


def put(cache: SampleCache, content: str, value: float) -> CachedSample:
    """Keep a sample of one value; returns what stands beside it."""
    sample = CachedSample(meta={"value": value}, source=SOURCE)
    cache.write(content, row(value), sample)
    return sample


def has(cache: SampleCache, content: str) -> bool:
    """Tell whether a sample is there and intact."""
    return cache.read(content, row()) is not None


@pytest.fixture
def cache(tmp_path: Path) -> SampleCache:
    return SampleCache(tmp_path, 2**20, "key", SHAPE)


def file_of(root: Path, content: str) -> Path:
    """Return the file of a sample."""
    return root / "key" / f"{content}.sample"


def test_samples_come_back_as_they_were(cache: SampleCache) -> None:
    """Array, meta and the state of the image's file are what was written, by content."""
    first, second = put(cache, "a", 1), put(cache, "b", 2)
    into = row()
    assert cache.read("b", into) == second
    assert (into == 2).all()
    assert cache.read("a", into) == first
    assert (into == 1).all()
    assert cache.read("c", into) is None


def test_the_last_writer_wins(cache: SampleCache) -> None:
    """Two processes that prepared the same sample leave one."""
    put(cache, "a", 1)
    assert cache.read("a", row()) != put(cache, "a", 3) == cache.read("a", row())


def test_a_changed_byte_costs_that_sample_only(cache: SampleCache, tmp_path: Path) -> None:
    """What does not read back as it was written is not there."""
    put(cache, "a", 1)
    put(cache, "b", 2)
    data = bytearray(file_of(tmp_path, "b").read_bytes())
    data[-1] ^= 1
    file_of(tmp_path, "b").write_bytes(data)
    assert (has(cache, "a"), has(cache, "b")) == (True, False)


@pytest.mark.parametrize("damage", [b"", b"NPUQSMP2", b"NPUQSMP2\xff\xff\xff\x00[]", b"something else entirely"])
def test_a_damaged_file_is_as_if_it_were_not_there(cache: SampleCache, tmp_path: Path, damage: bytes) -> None:
    """Damage costs time, never a result; the next write repairs it."""
    put(cache, "a", 1)
    file_of(tmp_path, "a").write_bytes(damage)
    assert not has(cache, "a")
    put(cache, "a", 1)
    assert has(cache, "a")


def test_a_truncated_file_and_another_shape_are_refused(cache: SampleCache, tmp_path: Path) -> None:
    """Nothing that is not a whole sample of this shape is used."""
    put(cache, "a", 1)
    other = SampleCache(tmp_path, 2**20, "key", (1, 4, 5))
    assert other.read("a", np.zeros((1, 4, 5), np.float32)) is None
    os.truncate(file_of(tmp_path, "a"), file_of(tmp_path, "a").stat().st_size - 1)
    assert not has(cache, "a")


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    """The bound holds over all keys; reading counts as use."""
    caches = [SampleCache(tmp_path, 2**20, key, SHAPE) for key in ("key", "other")]
    for number in range(10):
        put(caches[number % 2], f"{number}", 1)
        os.utime(tmp_path / ("key", "other")[number % 2] / f"{number}.sample", (number, number))
    assert has(caches[0], "0")
    shrink(tmp_path, 5 * file_of(tmp_path, "0").stat().st_size)
    assert sorted(path.stem for path in tmp_path.glob("*/*")) == ["0", "7", "8", "9"]


def test_writing_keeps_the_bound(tmp_path: Path) -> None:
    """A small bound is kept by the writers themselves."""
    cache = SampleCache(tmp_path, 5_000, "key", SHAPE)
    for number in range(50):
        put(cache, f"{number}", number)
    assert sum(path.stat().st_size for path in tmp_path.glob("key/*")) <= 5_000
    assert has(cache, "49")


def test_a_cache_of_no_bytes_keeps_nothing(tmp_path: Path) -> None:
    """0 switches it off."""
    cache = SampleCache(tmp_path, 0, "key", SHAPE)
    put(cache, "a", 1)
    assert not has(cache, "a")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_costs_nothing_but_time(tmp_path: Path) -> None:
    """Where the folder should be is a file: nothing is kept, nothing raised."""
    (tmp_path / "key").write_text("in the way")
    cache = SampleCache(tmp_path, 2**20, "key", SHAPE)
    put(cache, "a", 1)
    assert not has(cache, "a")


def test_keys_differ_by_everything_that_is_done_to_an_image() -> None:
    """Recipe, its options, its preprocessing and the pass."""
    key = partial(preparation_key, recipe="r", preprocessing_version=1, pass_name="main")  # noqa: S106
    others = [key(recipe="s"), key(preprocessing_version=2), key(pass_name="flipped")]  # noqa: S106
    others += [key(recipe_options={"side": "64"}), key(recipe_options={"side": "128"})]
    assert len({key(), *others}) == 6
    assert key(recipe_options={}) == key()
    assert key(recipe_options={"a": "1", "b": "2"}) == key(recipe_options={"b": "2", "a": "1"})
