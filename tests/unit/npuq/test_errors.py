import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuq import errors
from npuq.errors import MAX_DETAIL_CHARACTERS, Blame, ErrorInfo, NpuqError

CLASSES = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, NpuqError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_who_is_to_blame_and_has_a_code_of_its_own(kind: type[NpuqError]) -> None:
    """Codes are stable names that programs match on, so no two classes share one."""
    assert [other for other in CLASSES if other.code == kind.code] == [kind]
    info = kind("what is wrong; what to do").info
    assert (info.code, info.blame, info.retry) == (kind.code, kind.blame, kind.retry)
    assert kind.__doc__


@given(
    st.builds(
        ErrorInfo,
        code=st.text(min_size=1),
        blame=st.sampled_from(list(Blame)),
        message=st.text(),
        retry=st.booleans(),
        detail=st.text(),
    )
)
def test_an_error_survives_the_wire(info: ErrorInfo) -> None:
    """Its value form is the same on both ends, and builds the same error again."""
    assert ErrorInfo.from_dict(info.as_dict()) == info
    assert NpuqError.from_info(info).info == info


@pytest.mark.parametrize("data", [{}, {"code": "x"}, {"code": "x", "blame": "nobody", "message": "", "retry": True}])
def test_what_is_no_error_is_refused(data: dict[str, object]) -> None:
    """A message from a child is checked, not trusted."""
    with pytest.raises((KeyError, ValueError)):
        ErrorInfo.from_dict(data)


def test_of_a_long_output_the_newest_lines_are_kept() -> None:
    """A tool's last words say what went wrong."""
    info = NpuqError("it failed", detail="x" * MAX_DETAIL_CHARACTERS + "the end").info
    assert len(info.detail) == MAX_DETAIL_CHARACTERS
    assert info.detail.endswith("the end")
