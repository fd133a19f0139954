import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tasks.protocols import Array
from worker.sample_cache import CachedSample, SampleCache, cache_key, chunk_samples, shrink

SHAPE = (3, 4, 5)
ROW_BYTES = 3 * 4 * 5 * 4


def sample(image_id: str, value: float) -> CachedSample:
    """Return a sample of one value."""
    return CachedSample(image_id=image_id, array=np.full(SHAPE, value, np.float32), meta={"value": value})


def wanted(*image_ids: str) -> dict[str, Array]:
    """Return somewhere to put samples."""
    return {image_id: np.zeros(SHAPE, np.float32) for image_id in image_ids}


@pytest.fixture
def cache(tmp_path: Path) -> SampleCache:
    return SampleCache(tmp_path, 2**20, "key", SHAPE)


def chunk_file(root: Path) -> Path:
    """Return the only chunk."""
    (path,) = root.glob("key/*")
    return path


def test_samples_come_back_as_they_were(cache: SampleCache) -> None:
    """Arrays and metas are what was written; what was not asked for is not touched."""
    cache.write(7, [sample("a", 1), sample("b", 2)])
    rows = wanted("b", "c")
    assert cache.read(7, rows) == {"b": {"value": 2}}
    assert (rows["b"] == 2).all()
    assert (rows["c"] == 0).all()
    assert cache.read(8, rows) == {}


def test_a_chunk_grows_by_what_others_prepared(cache: SampleCache) -> None:
    """Shards meet within chunks; each adds its part."""
    cache.write(0, [sample("a", 1)])
    cache.write(0, [sample("b", 2), sample("a", 3)])
    assert cache.read(0, wanted("a", "b")) == {"a": {"value": 3}, "b": {"value": 2}}


def test_a_changed_byte_costs_that_sample_only(cache: SampleCache, tmp_path: Path) -> None:
    """What does not read back as it was written is not there."""
    cache.write(0, [sample("a", 1), sample("b", 2)])
    path = chunk_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert cache.read(0, wanted("a", "b")) == {"a": {"value": 1}}


@pytest.mark.parametrize("damage", [b"", b"NPUQSMP1", b"NPUQSMP1\xff\xff\xff\x00[]", b"something else entirely"])
def test_a_damaged_chunk_is_as_if_it_were_not_there(cache: SampleCache, tmp_path: Path, damage: bytes) -> None:
    """Damage costs time, never a result; the next write repairs it."""
    cache.write(0, [sample("a", 1)])
    chunk_file(tmp_path).write_bytes(damage)
    assert cache.read(0, wanted("a")) == {}
    cache.write(0, [sample("a", 1)])
    assert cache.read(0, wanted("a")) == {"a": {"value": 1}}


def test_a_truncated_chunk_and_another_shape_are_refused(cache: SampleCache, tmp_path: Path) -> None:
    """Size and shape are checked before anything is read."""
    cache.write(0, [sample("a", 1)])
    other = SampleCache(tmp_path, 2**20, "key", (1, 4, 5))
    assert other.read(0, {"a": np.zeros((1, 4, 5), np.float32)}) == {}
    os.truncate(chunk_file(tmp_path), chunk_file(tmp_path).stat().st_size - 1)
    assert cache.read(0, wanted("a")) == {}


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    """The bound holds over all keys; reading counts as use."""
    cache = SampleCache(tmp_path, 2**20, "key", SHAPE)
    for chunk in range(10):
        cache.write(chunk, [sample("a", chunk)])
        os.utime(tmp_path / "key" / f"{chunk:08d}.samples", (chunk, chunk))
    cache.read(0, wanted("a"))
    size = chunk_file_size(tmp_path)
    shrink(tmp_path, 5 * size)
    left = sorted(int(path.stem) for path in tmp_path.glob("key/*"))
    assert left == [0, 7, 8, 9]


def chunk_file_size(root: Path) -> int:
    """Return the size of the greatest chunk."""
    return max(path.stat().st_size for path in root.glob("key/*"))


def test_writing_keeps_the_bound(tmp_path: Path) -> None:
    """A small bound is kept by the writers themselves."""
    cache = SampleCache(tmp_path, 5_000, "key", SHAPE)
    for chunk in range(50):
        cache.write(chunk, [sample("a", chunk)])
    assert sum(path.stat().st_size for path in tmp_path.glob("key/*")) <= 5_000
    assert cache.read(49, wanted("a")) != {}


def test_a_cache_of_no_bytes_keeps_nothing(tmp_path: Path) -> None:
    """0 switches it off."""
    cache = SampleCache(tmp_path, 0, "key", SHAPE)
    cache.write(0, [sample("a", 1)])
    assert cache.read(0, wanted("a")) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_costs_nothing_but_time(tmp_path: Path) -> None:
    """Where the folder should be is a file: nothing is kept, nothing raised."""
    (tmp_path / "key").write_text("in the way")
    cache = SampleCache(tmp_path, 2**20, "key", SHAPE)
    cache.write(0, [sample("a", 1)])
    assert cache.read(0, wanted("a")) == {}


def test_keys_differ_by_everything_that_changes_a_sample() -> None:
    """Recipe, its preprocessing, the dataset and the pass."""
    key = partial(cache_key, recipe="r", preprocessing_version=1, dataset_digest="d", pass_name="main")  # noqa: S106
    others = [key(recipe="s"), key(preprocessing_version=2), key(dataset_digest="e"), key(pass_name="flipped")]  # noqa: S106
    keys = {key(), *others}
    assert len(keys) == 5


@pytest.mark.parametrize(("sample_bytes", "samples"), [(768, 32), (3 * 224 * 224 * 4, 13), (100 * 2**20, 1)])
def test_chunks_have_a_bounded_size(sample_bytes: int, samples: int) -> None:
    """Small samples are grouped, large ones stand alone."""
    assert chunk_samples(sample_bytes) == samples
