"""How a dataset is cut into shards. Pure.

Guided self-scheduling: each shard takes a share of what is left, so that fast chips come back for more and the last
shards are small enough that all chips finish together. Sizes are whole batches, so that padding happens once, at the
very end of the dataset, and not once per shard.
"""

from typing import Final

MIN_SAMPLES: Final = 32
"""A smaller shard costs more in hand-over than it wins in balance."""
SHARE: Final = 2
"""Each shard takes 1 / (SHARE x chips) of what is left."""


def shard_ranges(samples: int, *, batch_size: int, chips: int) -> list[tuple[int, int]]:
    """Return contiguous (start, stop) ranges that cover `range(samples)` exactly once, in order.

    Args:
        samples: number of samples, 0 or more.
        batch_size: every range but the last is a multiple of it.
        chips: how many chips share the work, 1 or more.

    Raises:
        ValueError: a negative number of samples, or no chips, or no batch.
    """
    if samples < 0 or batch_size < 1 or chips < 1:
        raise ValueError(f"cannot cut {samples} samples into batches of {batch_size} for {chips} chips")
    ranges: list[tuple[int, int]] = []
    start = 0
    for size in _sizes(-(-samples // batch_size), smallest=max(1, -(-MIN_SAMPLES // batch_size)), chips=chips):
        stop = min(samples, start + size * batch_size)
        ranges.append((start, stop))
        start = stop
    return ranges


def _sizes(batches: int, *, smallest: int, chips: int) -> list[int]:
    """Return how many batches each shard has, none more than the one before it."""
    sizes: list[int] = []
    left = batches
    while left:
        size = min(left, max(smallest, -(-left // (SHARE * chips))))
        if left - size < smallest / 2:  # what stays is no shard of its own: join it, or share it between the last two
            size = left if not sizes or left <= sizes[-1] else -(-left // 2)
        sizes.append(size)
        left -= size
    return sizes
