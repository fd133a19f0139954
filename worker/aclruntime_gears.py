"""Telling an `aclruntime` session which shapes come next: by batch size, image size, dims or shape.

The API has a setter for each of ATC's ways to make a model dynamic, and does not say which way a model was made. It
can be seen: outputs without a size are those of a dynamic shape, and the open axes of the inputs tell the kinds of
gears apart. Nothing here loads or executes.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

_BATCH_AXES: Final = frozenset({0})
_IMAGE_AXES: Final = (frozenset({2, 3}), frozenset({1, 2}))  # of NCHW and of NHWC
_IMAGE_RANK: Final = 4

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class OpenInput:
    """An input of a dynamic model.

    Attributes:
        name: of the input.
        compiled: its shape, -1 where it is open.
        wanted: the shape that it is to have.
    """

    name: str
    compiled: Shape
    wanted: Shape

    @property
    def fits(self) -> bool:
        """Return whether what is wanted differs from what was compiled in open axes only."""
        same_rank = len(self.compiled) == len(self.wanted)
        return same_rank and all(
            wanted > 0 and compiled in (-1, wanted) for compiled, wanted in zip(self.compiled, self.wanted, strict=True)
        )

    @property
    def open_axes(self) -> frozenset[int]:
        """Return the axes that are open."""
        return frozenset(axis for axis, size in enumerate(self.compiled) if size == -1)


def choose(session: Any, inputs: Sequence[OpenInput], *, outputs_sized: bool) -> None:  # noqa: ANN401 - a foreign object
    """Set the shapes of the next executions; raises RuntimeError as the session does when it has none like them.

    Args:
        session: of `aclruntime`.
        inputs: all of the model's, in its order.
        outputs_sized: whether the session knows how large every output can become.
    """
    text = ";".join(f"{each.name}:{','.join(str(size) for size in each.wanted)}" for each in inputs)
    if not outputs_sized:
        session.set_dynamic_shape(text)
        return
    setter = _special_setter(session, inputs)
    if setter is not None:
        with contextlib.suppress(RuntimeError):  # gears of dims may look the same, and are asked for next
            setter()
            return
    session.set_dynamic_dims(text)


def _special_setter(session: Any, inputs: Sequence[OpenInput]) -> Callable[[], object] | None:  # noqa: ANN401 - as above
    """Return the setter that the open axes allow besides that of dims: of a batch size, or of an image size."""
    dynamic = [each for each in inputs if each.open_axes]
    (axes, *others) = {each.open_axes for each in dynamic}
    sizes = {tuple(each.wanted[axis] for axis in sorted(axes)) for each in dynamic if not others}
    if others or len(sizes) != 1:
        return None
    (size,) = sizes
    if axes == _BATCH_AXES:
        return partial(session.set_dynamic_batchsize, *size)
    if axes in _IMAGE_AXES and all(len(each.compiled) == _IMAGE_RANK for each in dynamic):
        return partial(session.set_dynamic_hw, *size)
    return None
