import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.shards import MIN_SAMPLES, shard_ranges

SAMPLES = st.integers(min_value=0, max_value=60_000)
BATCH = st.integers(min_value=1, max_value=300)
CHIPS = st.integers(min_value=1, max_value=64)


@given(samples=SAMPLES, batch_size=BATCH, chips=CHIPS)
def test_shards_cover_every_sample_exactly_once_in_order(samples: int, batch_size: int, chips: int) -> None:
    """Ranges are contiguous, begin at 0, end at the last sample, and none is empty."""
    ranges = shard_ranges(samples, batch_size=batch_size, chips=chips)
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])][: len(ranges)]
    assert (ranges[-1][1] if ranges else 0) == samples
    assert all(start < stop for start, stop in ranges)


@given(samples=SAMPLES, batch_size=BATCH, chips=CHIPS)
def test_shards_are_whole_batches_but_for_the_last(samples: int, batch_size: int, chips: int) -> None:
    """Padding happens once, at the very end."""
    ranges = shard_ranges(samples, batch_size=batch_size, chips=chips)
    assert all((stop - start) % batch_size == 0 for start, stop in ranges[:-1])


@given(samples=SAMPLES, batch_size=BATCH, chips=CHIPS)
def test_shards_shrink_to_a_floor(samples: int, batch_size: int, chips: int) -> None:
    """No shard is larger than the one before it, and only a rest of the last two is smaller than the floor."""
    sizes = [stop - start for start, stop in shard_ranges(samples, batch_size=batch_size, chips=chips)]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size >= MIN_SAMPLES for size in sizes[:-2])
    assert all(size >= MIN_SAMPLES / 2 for size in sizes[:-1])


@given(samples=st.integers(min_value=2_000, max_value=60_000), chips=st.integers(min_value=2, max_value=8))
def test_no_chip_gets_more_than_its_share_at_once(samples: int, chips: int) -> None:
    """The first shard leaves enough for the others, and there are more shards than chips."""
    ranges = shard_ranges(samples, batch_size=8, chips=chips)
    assert ranges[0][1] <= samples / chips
    assert len(ranges) > chips


@pytest.mark.parametrize(("samples", "batch_size", "chips"), [(-1, 1, 1), (10, 0, 1), (10, 1, 0)])
def test_nonsense_is_refused(samples: int, batch_size: int, chips: int) -> None:
    """A negative dataset, no batch or no chip is a mistake of the caller."""
    with pytest.raises(ValueError, match="cannot cut"):
        shard_ranges(samples, batch_size=batch_size, chips=chips)
