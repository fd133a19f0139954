import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npuq.errors import InvalidRequestError
from npuq.messages import MAX_MESSAGE_BYTES, RunAttempt, device_queue, host_queue, parse_run_attempt, parse_run_spec
from tests.services.world import run_spec

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
SPEC = json.loads(run_spec().model_dump_json())
JOB_ID = "0123456789abcdef" * 2


@given(payload=ANY_JSON | st.binary())
def test_no_foreign_payload_passes_as_a_doorbell(payload: Any) -> None:
    """Whatever comes, it is refused with a sentence and not with a traceback."""
    with pytest.raises(InvalidRequestError, match="not a run_attempt message"):
        parse_run_attempt(payload)


@given(field=st.sampled_from(["job_id", "attempt", "schema_version", "extra"]), value=ANY_JSON)
def test_a_doorbell_with_one_wrong_field_is_refused(field: str, value: Any) -> None:
    """Only what is a doorbell in every field gets through, and unchanged."""
    payload = {"schema_version": 1, "job_id": JOB_ID, "attempt": 1} | {field: value}
    try:
        message = parse_run_attempt(payload)
    except InvalidRequestError:
        return
    assert message.model_dump() == payload


@pytest.mark.parametrize(
    "change", [{"attempt": 0}, {"attempt": 2_000_000}, {"job_id": "../../etc"}, {"schema_version": 2}, {"shell": "rm"}]
)
def test_a_doorbell_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    """Numbers have limits, ids have a form, unknown fields and versions are not guessed."""
    with pytest.raises(InvalidRequestError):
        parse_run_attempt({"job_id": JOB_ID, "attempt": 1} | change)


def test_a_doorbell_survives_the_wire() -> None:
    """What one end sends the other end reads."""
    message = RunAttempt(job_id=JOB_ID, attempt=3)
    assert parse_run_attempt(json.loads(json.dumps(message.model_dump()))) == message


@given(payload=ANY_JSON | st.binary() | ANY_JSON.map(json.dumps))
@example(payload="\ud800")
@example(payload="[" * 100_000)
@example(payload='{"run_id": "\\ud800"}')
def test_no_foreign_payload_passes_as_a_specification(payload: Any) -> None:
    """Text that is no JSON, JSON that is no specification, and what is no text are refused with a sentence."""
    with pytest.raises(InvalidRequestError):
        parse_run_spec(payload)


@given(field=st.sampled_from([*sorted(SPEC), "extra"]), value=ANY_JSON)
def test_a_specification_with_one_changed_field_is_refused_or_whole(field: str, value: Any) -> None:
    """What passes is a valid specification again; everything else is refused with a sentence."""
    try:
        spec = parse_run_spec(json.dumps(SPEC | {field: value}))
    except InvalidRequestError:
        return
    assert parse_run_spec(spec.model_dump_json()) == spec


@pytest.mark.parametrize("field", [*sorted(SPEC), "extra"])
def test_a_refused_specification_names_the_field(field: str) -> None:
    """A person can find what to change."""
    with pytest.raises(InvalidRequestError, match=f"specification: {field}"):
        parse_run_spec(json.dumps(SPEC | {field: {"no": ["such"]}}))


def test_a_specification_has_a_size_limit() -> None:
    """The limit is in bytes, before anything is parsed."""
    text = run_spec().model_dump_json()
    spec = parse_run_spec(text + " " * (MAX_MESSAGE_BYTES - len(text)))
    assert spec.model_dump_json() == text
    for padded in (text + " " * MAX_MESSAGE_BYTES, text + "\u3000" * (MAX_MESSAGE_BYTES // 2)):
        with pytest.raises(InvalidRequestError, match=f"at most {MAX_MESSAGE_BYTES} bytes"):
            parse_run_spec(padded)


def test_queues_are_told_apart_by_device_and_host() -> None:
    """A chip and a host of the same name have queues of their own."""
    assert device_queue("h1") != host_queue("h1")
