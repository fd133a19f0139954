"""What a log says of the error that ended its attempt."""

from npuq.errors import Blame, CheckpointError, ErrorInfo
from worker.step_errors import SHOWN_FRAMES, log_text, origin


def _refuse(depth: int) -> None:
    if depth:
        _refuse(depth - 1)
    try:
        int("weights_only=False")
    except ValueError as error:
        raise CheckpointError("refused") from error


def test_the_origin_names_the_innermost_frames_and_the_cause() -> None:
    """As many as help; the words of the cause stay out, ours keep what is true of them."""
    try:
        _refuse(20)
    except CheckpointError as error:
        told = origin(error).splitlines()
    assert told[0].startswith(f"  at {__file__}:")
    assert told[0].endswith(" in _refuse")
    assert told.index("caused by ValueError") == SHOWN_FRAMES
    assert "weights_only" not in "".join(told)


def test_an_error_that_is_its_own_cause_is_told_once() -> None:
    """`raise error from error`, or a circle of two: the child died of endless recursion instead of answering."""
    first, second = CheckpointError("first"), ValueError("second")
    first.__cause__ = first
    assert origin(first) == ""
    first.__cause__, second.__cause__ = second, first
    assert origin(first) == "caused by ValueError"


def test_an_error_ends_a_log_with_its_sentence_and_its_detail() -> None:
    """The same as `npuq why` shows."""
    info = ErrorInfo(code="E1", blame=Blame.HOST, message="It failed.", retry=True, detail="one\ntwo\n")
    assert log_text(info) == "error: It failed. (E1, to blame: host)\n  | one\n  | two\n"
