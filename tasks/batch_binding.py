"""Giving a loaded model the batch size of a job, whether it was compiled for one or for several."""

from npuq.errors import InvalidRequestError
from tasks.protocols import InferenceSession


def bind_batch(session: InferenceSession, batch_size: int) -> None:
    """Bind a dynamic model to a batch size; a static one must have it.

    Raises:
        InvalidRequestError: it was compiled for another batch size, or is dynamic in more than that.
        NpuqError: it has no gear for this batch size; the input is to blame.
    """
    shapes = [(batch_size, *rest) if first == -1 else (first, *rest) for first, *rest in session.compiled_shapes]
    if any(-1 in shape for shape in shapes):
        raise InvalidRequestError(
            f"The OM is dynamic in more than the batch size: {list(session.compiled_shapes)}. Convert it with fixed "
            "sizes, or with gears of the batch size."
        )
    if any(-1 in shape for shape in session.compiled_shapes):
        session.bind(shapes)
    compiled_for = session.inputs[0].shape[0]
    if compiled_for != batch_size:
        raise InvalidRequestError(f"The OM was compiled for batch size {compiled_for}, the job says {batch_size}.")
