"""The rule for golden weights and inputs: the same bits on every platform, so that no weights have to be stored.

Random numbers are raw 64-bit words of PCG64, seeded with the CRC32 of a text tag, made into floats by integer sums and
one float64 multiplication.
"""

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rule = tuple[str, float | list[float], float]

_SQRT_3: Final = 1.7320508075688772
_SQRT_2: Final = 1.4142135623730951

#: Per model: pattern searched in the key, rule; the first hit wins, then `_COMMON`. See `_numbers` for what they mean.
_RULES: Final[Mapping[str, Sequence[tuple[str, Rule]]]] = {
    "ssd_mobilenetv2": [
        (r"classification_headers\.(\d\.3|5)\.bias$", ("cycle", [5.0] + [0.0] * 20, 0.8)),
        (r"(classification|regression)_headers\.(\d\.3|5)\.weight$", ("scaled", 0.7, 0)),
    ],
    "efficientdet_d0": [
        (r"cell\.1\.fnode\.[24]\..*edge_weights$", ("cycle", [-0.3, 0.9, 1.1], 0.1)),
        (r"edge_weights$", ("linear", 0.4, 1.2)),
        (r"class_net\.predict\.conv_pw\.bias$", ("normal", -4.5, 0.5)),
        (r"class_net\.predict\.conv_pw\.weight$", ("scaled", 0.5, 0)),
        (r"box_net\.predict\.conv_pw\.weight$", ("scaled", 0.3, 0)),
        (r"(after_combine.*|conv_rep\.\d\.)conv_pw\.weight$", ("scaled", 1.3, 0)),
        (r"se\.conv_expand\.weight$", ("scaled", 2.0, 0)),
    ],
    "nas_fpn": [
        (r"retina_cls\.bias$", ("normal", -4.5, 0.5)),
        (r"retina_cls\.weight$", ("scaled", 1.0, 0)),
        (r"retina_reg\.weight$", ("scaled", 0.25, 0)),
        (r"(cls|reg)_convs\.\d\.\d\.conv\.weight$", ("scaled", 1.2, 0)),
        (r"bn3\.weight$", ("linear", 0.2, 0.3)),
        (r"out_conv\.conv\.weight$", ("scaled", 0.95, 0)),
        (r"lateral_convs\.\d\.conv\.weight$", ("scaled", 0.6, 0)),
        (r"downsample\.0\.weight$", ("scaled", 1.0, 0)),
    ],
    "pyramidbox": [
        (r"vgg\.0\.weight$", ("scaled", 0.03, 0)),
        (r"conf_layers\.0\.bias$", ("cycle", [4.7, 4.7, 4.7, 0.0, 3.0, 3.0, 3.0, 0.0], 0.3)),
        (r"conf_layers\.\d\.bias$", ("cycle", [4.7, 0.0, 0.0, 0.0, 3.0, 0.0], 0.3)),
        (r"conf_layers\.\d\.weight$", ("scaled", 1.3, 0)),
        (r"loc_layers\.\d\.weight$", ("scaled", 1.5, 0)),
        (r"L2Norm3_3\.weight$", ("linear", 7.0, 6.0)),
        (r"L2Norm4_3\.weight$", ("linear", 5.5, 5.0)),
        (r"L2Norm5_3\.weight$", ("linear", 3.5, 3.0)),
        (r"cpm\.[012]\.branch(1|2a)\.conv1\.weight$", ("scaled", 2.5, 0)),
    ],
}
_COMMON: Final[Sequence[tuple[str, Rule]]] = [
    (r"num_batches_tracked$", ("constant", 1, 0)),
    (r"running_mean$", ("normal", 0.0, 0.2)),
    (r"running_var$", ("linear", 0.6, 0.8)),
    (r"bias$", ("normal", 0.0, 0.1)),
]


def state_dict(model: str, seed: int, entries: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Return the arrays of a `state_dict.json` list, in order; entries that share a tensor (`alias_of`) are equal."""
    return {
        entry["key"]: _tensor(model, seed, entry.get("alias_of", entry["key"]), entry["shape"], entry["dtype"])
        for entry in entries
    }


def digest(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 over key, NUL byte and raw little-endian bytes of each array, in order."""
    hasher = hashlib.sha256()
    for key, value in arrays.items():
        hasher.update(key.encode() + b"\0" + np.ascontiguousarray(value).tobytes())
    return hasher.hexdigest()


def input_tensor(seed: int, name: str, shape: tuple[int, int, int, int], scale: float = 1.0) -> Array:
    """Return float32 (N, C, H, W): a plain background, 48 overlapping rectangles, and noise, all times `scale`."""
    count, channels, height, width = shape
    out = np.empty(shape, dtype=np.float64)
    for number in range(count):
        tag = f"{seed}:input:{name}:{number}"
        image = np.empty((channels, height, width))
        image[:] = _bell(f"{tag}:bg", channels)[:, None, None]
        places = _uniform(f"{tag}:pos", 48 * 4).reshape(48, 4)
        values = _bell(f"{tag}:val", 48 * channels).reshape(48, channels)
        for (left, top, wide, high), value in zip(places, values, strict=True):
            x0, y0 = int(left * width), int(top * height)
            x1, y1 = x0 + 1 + int(wide * width * 0.5), y0 + 1 + int(high * height * 0.5)
            image[:, y0:y1, x0:x1] = value[:, None, None]
        out[number] = image + 0.35 * _bell(f"{tag}:noise", channels * height * width).reshape(image.shape)
    return (out * scale).astype(np.float32)


def sparse_maps(
    index: Array, value: Array, *, base: float, sizes: Sequence[int], anchors: int, width: int
) -> list[Array]:
    """Return dense head maps, float32 (1, anchors * width, size, size) each, from what differs from `base`.

    Args:
        index: over (level, y, x, anchor, column) where `value` is flat; over (level, y, x, anchor) where it is
            (n, width).
        value: the numbers there.
        base: the number everywhere else.
        sizes: of the levels, finest first.
        anchors: per cell.
        width: numbers per anchor.
    """
    table = np.full((sum(size * size for size in sizes) * anchors, width), base, dtype=np.float32)
    target = table.reshape(-1) if value.ndim == 1 else table
    target[index] = value
    maps, start = [], 0
    for size in sizes:
        stop = start + size * size * anchors
        cells = table[start:stop].reshape(size, size, anchors * width)
        maps.append(np.ascontiguousarray(cells.transpose(2, 0, 1))[None])
        start = stop
    return maps


def _tensor(model: str, seed: int, key: str, shape: Sequence[int], dtype: str) -> Array:
    rules = [*_RULES.get(model, ()), *_COMMON]
    weight: Rule = ("scaled", _SQRT_2, 0) if len(shape) > 1 else ("linear", 0.75, 0.5)
    rule = next((rule for pattern, rule in rules if re.search(pattern, key)), weight)
    return _numbers(f"{seed}:{model}:{key}", rule, shape).astype(dtype).reshape(shape)


def _numbers(tag: str, rule: Rule, shape: Sequence[int]) -> Array:
    """Return the numbers of a tensor, flat.

    constant: `first`; linear: first + second * uniform; normal: first + second * bell; cycle: the list over and over,
    + second * bell; scaled: first * bell / sqrt(fan-in).
    """
    kind, first, second = rule
    count = int(np.prod(shape, dtype=np.int64))
    if kind == "constant":
        return np.full(count, first)
    if kind == "linear":
        return np.asarray(first + second * _uniform(tag, count))
    if kind in ("normal", "cycle"):
        return np.asarray(np.resize(first, count) + second * _bell(tag, count))
    fan_in = int(np.prod(shape[1:], dtype=np.int64))
    return np.asarray(_bell(tag, count) * (np.asarray(first) / fan_in**0.5))


def _words(tag: str, count: int) -> NDArray[np.uint64]:
    return np.random.PCG64(zlib.crc32(tag.encode("utf-8"))).random_raw(count).astype("<u8")


def _uniform(tag: str, count: int) -> Array:
    """Return float64 in [0, 1)."""
    return np.asarray((_words(tag, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _bell(tag: str, count: int) -> Array:
    """Return float64, zero mean, unit variance, within 3.47 of zero: sums of four 16-bit numbers."""
    quarters = _words(tag, count).view("<u2")
    total = quarters[0::4].astype(np.int32)  # column by column, which is several times as quick as `sum` over four
    for column in (1, 2, 3):
        total += quarters[column::4]
    return np.asarray((total - 131_070) * (_SQRT_3 / 65_536.0))
