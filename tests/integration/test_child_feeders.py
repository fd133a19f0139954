"""Feeder processes, for real: order, back-pressure, damage, death."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from db.artifacts import ArtifactStore
from npuq.errors import Blame, ChildLostError, DatasetChangedError, DatasetError, InvalidRequestError, NpuqError
from tasks.datasets import read_manifest
from tasks.protocols import ClassScores, FedBatch, FeedOrder, Prediction
from tasks.steps import DatasetRef, ImageListRef
from tests.services.kept import keep, own_folder
from tests.services.registered import register_folder
from worker.dataset_source import DatasetSource
from worker.feeder_process import FeederSettings
from worker.feeders import ProcessFeederPool

FAKES = Path(__file__).parent / "child_fakes"
SAMPLES = 150


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetRef:
    """A dataset of text files that look like images by name."""
    root = tmp_path / "dataset"
    (root / "val").mkdir(parents=True)
    for number in range(SAMPLES):
        (root / "val" / f"image_{number:04d}.JPEG").write_text(str(number))
    (root / "val_label.txt").write_text("".join(f"image_{number:04d}.JPEG 0\n" for number in range(SAMPLES)))
    return register_folder(root, tmp_path / "manifest.json", name="numbers")


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessFeederPool]:
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    pool = ProcessFeederPool(FeederSettings(count=2, sample_cache=tmp_path / "samples", sample_cache_bytes=2**24))
    yield pool
    pool.close()


def image(dataset: DatasetRef, number: int) -> Path:
    """Return the file of an image."""
    return dataset.root / "val" / f"image_{number:04d}.JPEG"


def order(
    dataset: DatasetRef, *, batch_size: int, start: int = 0, stop: int = SAMPLES, name: str = "main"
) -> FeedOrder:
    """Return an order for a part of the dataset."""
    return FeedOrder(
        recipe="fake_pixels", pass_name=name, dataset=dataset, start=start, stop=stop, batch_size=batch_size
    )


def through(pool: ProcessFeederPool, what: FeedOrder) -> tuple[list[FedBatch], dict[str, Prediction]]:
    """Send an order through a chip that doubles its input."""
    batches = []
    for batch in pool.batches(what):
        pool.postprocess(batch, [batch.array[:, 0, 0, :2] * 2])
        batches.append(batch)
    return batches, dict(pool.predictions())


def scores(predictions: dict[str, Prediction]) -> list[list[float]]:
    """Return the class scores, in order."""
    return [prediction.scores.tolist() for prediction in predictions.values() if isinstance(prediction, ClassScores)]


def reads(dataset: DatasetRef) -> Sequence[str]:
    """Return which images were preprocessed, once per time."""
    log = dataset.root / "read.log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200])
def test_every_sample_goes_through_once_and_in_order(
    pool: ProcessFeederPool, dataset: DatasetRef, batch_size: int
) -> None:
    """Batches come in order, with their own metas, and predictions in the dataset's order."""
    batches, predictions = through(pool, order(dataset, batch_size=batch_size))
    assert [batch.index for batch in batches] == list(range(-(-SAMPLES // batch_size)))
    assert list(predictions) == [f"image_{number:04d}" for number in range(SAMPLES)]
    assert scores(predictions) == [[2.0 * number, float(number)] for number in range(SAMPLES)]


def test_the_last_batch_is_padded_with_its_first_sample(pool: ProcessFeederPool, dataset: DatasetRef) -> None:
    """Rows that do not count are a real sample, so that they cannot upset a chip."""
    for batch in pool.batches(order(dataset, batch_size=8, start=100, stop=110)):
        values = batch.array[:, 0, 0, 0].tolist()
        pool.postprocess(batch, [batch.array[:, 0, 0, :2]])
    assert batch.image_ids == ("image_0108", "image_0109")
    assert values == [108, 109] + [108] * 6
    assert len(dict(pool.predictions())) == 10


def test_preprocessed_samples_are_shared_by_batch_sizes_and_shards(
    pool: ProcessFeederPool, dataset: DatasetRef
) -> None:
    """The second time nothing is preprocessed, however the order is cut."""
    through(pool, order(dataset, batch_size=4, stop=75))
    through(pool, order(dataset, batch_size=5, start=75))
    assert sorted(reads(dataset)) == [f"image_{number:04d}" for number in range(SAMPLES)]
    _, predictions = through(pool, order(dataset, batch_size=16))
    assert len(reads(dataset)) == SAMPLES
    assert scores(predictions) == [[2.0 * number, float(number)] for number in range(SAMPLES)]


def test_an_order_over_a_part_takes_its_images_in_the_datasets_order(
    pool: ProcessFeederPool, dataset: DatasetRef, tmp_path: Path
) -> None:
    """A list is in any order; positions count its images, and other images are not even read."""
    listed = tmp_path / "part.txt"
    listed.write_text("".join(f"image_{number:04d}\n" for number in reversed(range(0, SAMPLES, 10))))
    part = replace(dataset, images=ImageListRef(path=listed, digest="1" * 64, count=15))
    batches, predictions = through(pool, order(part, batch_size=4, start=5, stop=15))
    assert list(predictions) == [f"image_{number:04d}" for number in range(50, SAMPLES, 10)]
    assert [len(batch.image_ids) for batch in batches] == [4, 4, 2]
    assert sorted(reads(dataset)) == list(predictions)
    with pytest.raises(InvalidRequestError, match="15 images are used"):
        pool.batches(order(part, batch_size=4, start=5, stop=16))
    assert len(through(pool, order(dataset, batch_size=64))[1]) == SAMPLES  # a list is its own orders' only


def test_images_in_the_store_are_brought_as_they_are_decoded(
    pool: ProcessFeederPool, dataset: DatasetRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the shard and no others; what is prepared already is not even brought."""
    monkeypatch.setattr("worker.dataset_source.AHEAD", 4)
    store = ArtifactStore(f"file://{tmp_path / 'store'}", tmp_path / "unused")
    kept = keep(store, dataset)
    first, second = (own_folder(kept, tmp_path / name / "dataset") for name in ("first", "second"))
    with DatasetSource(store, first, slice(10, 40)) as source:
        _, predictions = through(pool, order(replace(first, source=source.address), batch_size=4, start=10, stop=40))
    assert scores(predictions) == [[2.0 * number, float(number)] for number in range(10, 40)]
    brought = {path.stem for path in (first.root / "val").iterdir()}
    assert brought == set(predictions) == set(reads(first))
    with DatasetSource(store, second, slice(0, SAMPLES)) as source:
        part = order(replace(second, source=source.address), batch_size=8, start=10, stop=40)
        assert list(through(pool, part)[1]) == list(predictions)
    assert list(second.root.iterdir()) == []


def test_an_image_that_the_store_lost_is_named_and_the_pool_stays_usable(
    pool: ProcessFeederPool, dataset: DatasetRef, tmp_path: Path
) -> None:
    """With the blame that the worker found."""
    store = ArtifactStore(f"file://{tmp_path / 'store'}", tmp_path / "unused")
    ours = own_folder(keep(store, dataset), tmp_path / "work" / "dataset")
    lost = read_manifest(dataset).samples[20]
    (path,) = tmp_path.glob(f"store/*/*/{lost.sha256}")
    path.rename(tmp_path / "lost")
    with DatasetSource(store, ours, slice(0, SAMPLES)) as source:
        asking = replace(ours, source=source.address)
        with pytest.raises(NpuqError, match=r"image_0020\.JPEG of .* is not in the store") as caught:
            through(pool, order(asking, batch_size=4))
        assert (caught.value.info.blame, caught.value.info.retry) == (Blame.FLEET, False)
        (tmp_path / "lost").rename(path)
        assert pool.fit
        assert len(through(pool, order(asking, batch_size=4))[1]) == SAMPLES


def test_a_damaged_image_is_named_and_the_pool_stays_usable(
    pool: ProcessFeederPool, dataset: DatasetRef, tmp_path: Path
) -> None:
    """A file that was bad when it was registered ends its order, not the next one."""
    bad = image(dataset, 77)
    bad.write_text("damaged")
    registered_so = register_folder(dataset.root, tmp_path / "other.json")
    with pytest.raises(DatasetError, match=r"image_0077\.JPEG is damaged"):
        through(pool, order(registered_so, batch_size=4))
    assert pool.fit
    bad.write_text("77")
    _, predictions = through(pool, order(dataset, batch_size=4))
    assert len(predictions) == SAMPLES


@pytest.mark.parametrize("warm", [False, True], ids=["decoded", "cached"])
def test_an_image_of_other_content_is_named_and_the_pool_stays_usable(
    pool: ProcessFeederPool, dataset: DatasetRef, *, warm: bool
) -> None:
    """No look at names and sizes shows it, and an old sample in the cache does not hide it."""
    if warm:
        through(pool, order(dataset, batch_size=4))
    swapped = image(dataset, 77)
    swapped.rename(swapped.with_suffix(".old"))
    swapped.write_text("78")
    with pytest.raises(
        DatasetChangedError, match=r"image_0077\.JPEG of the dataset 'numbers' on host h1 is not what was"
    ):
        through(pool, order(dataset, batch_size=4))
    assert pool.fit
    through(pool, order(dataset, batch_size=4, stop=77))  # a shard answers for its own samples
    swapped.with_suffix(".old").rename(swapped)
    _, predictions = through(pool, order(dataset, batch_size=4))
    assert scores(predictions) == [[2.0 * number, float(number)] for number in range(SAMPLES)]


def test_files_of_other_sizes_or_names_are_refused_before_anything_is_decoded(
    pool: ProcessFeederPool, dataset: DatasetRef
) -> None:
    """The whole folder is looked at, not only the shard's part."""
    image(dataset, 140).unlink()
    image(dataset, 141).write_text("1410")
    with pytest.raises(DatasetChangedError, match=r"1 missing \(val/image_0140\.JPEG\); 1 of another size"):
        pool.batches(order(dataset, batch_size=4, stop=10))
    assert pool.fit
    assert reads(dataset) == []


def test_a_copy_of_an_image_is_not_decoded_again(pool: ProcessFeederPool, dataset: DatasetRef, tmp_path: Path) -> None:
    """What is kept belongs to the content: another dataset with the same images shares it, however it is labelled."""
    through(pool, order(dataset, batch_size=4))
    copied = tmp_path / "copied"
    shutil.copytree(dataset.root, copied, ignore=shutil.ignore_patterns("read.log"))
    (copied / "val_label.txt").write_text("".join(f"image_{number:04d}.JPEG 1\n" for number in range(SAMPLES)))
    other = register_folder(copied, tmp_path / "copied.json", name="copied")
    assert other.digest != dataset.digest
    _, predictions = through(pool, order(other, batch_size=8))
    assert reads(other) == []
    assert scores(predictions) == [[2.0 * number, float(number)] for number in range(SAMPLES)]


def test_a_killed_feeder_is_noticed(pool: ProcessFeederPool, dataset: DatasetRef) -> None:
    """The wait for a batch ends with the feeder, and the pool is not used again."""
    batches = pool.batches(order(dataset, batch_size=4, name="stuck"))
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(ChildLostError, match=str(pool.pids[0])):
        next(batches)
    assert not pool.fit


def test_a_consumer_that_keeps_everything_is_told(
    pool: ProcessFeederPool, dataset: DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded: without `postprocess` the order cannot go on, and says so instead of hanging."""
    monkeypatch.setattr("worker.feeders.UNITS_PER_FEEDER", 1)
    with pytest.raises(RuntimeError, match="handed to postprocess"):
        list(pool.batches(order(dataset, batch_size=1)))
    with pytest.raises(RuntimeError, match="before every batch"):
        next(pool.predictions())


def test_the_memory_of_an_order_goes_with_it(pool: ProcessFeederPool, dataset: DatasetRef) -> None:
    """Neither side holds shared memory of an order that is over, and none of it ever has a name."""
    through(pool, order(dataset, batch_size=16))
    gc.collect()
    through(pool, order(dataset, batch_size=1, stop=1))  # its predictions come after the feeders forgot the first
    gc.collect()
    for pid in (os.getpid(), *pool.pids):
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert maps.count("memfd:npuq-batches") <= 2, pid


def test_feeders_end_with_the_pool(pool: ProcessFeederPool) -> None:
    """Closing leaves no process."""
    pids = pool.pids
    pool.close()
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


def test_an_outputs_dtype_crosses_unchanged(pool: ProcessFeederPool, dataset: DatasetRef) -> None:
    """A chip may answer in float16; nothing converts on the way."""
    for batch in pool.batches(order(dataset, batch_size=2, stop=2)):
        pool.postprocess(batch, [np.array([[1.5, 0], [2.5, 0]], np.float16)])
    assert scores(dict(pool.predictions())) == [[1.5, 0.0], [2.5, 1.0]]
