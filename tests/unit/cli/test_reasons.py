"""`npuq why`: a sentence for every state, and what to do."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cli.reasons import Circumstances, explain_job, explain_run
from npuq.errors import Blame, ErrorInfo
from npuq.states import AttemptState, DeviceKind, DeviceState, JobKind, JobState, RunState
from tests.unit.cli.records import NOW, attempt_record, device_record, job_record, run_record

ALONE = Circumstances(parents=(), attempts=(), devices=(device_record(),), led=True, now=NOW)


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_is_explained(state: JobState) -> None:
    """No state falls through."""
    sentences = explain_job(job_record(state=state), ALONE)
    assert sentences[0].startswith(f"infer 1/1 is {state}")


def test_a_waiting_job_names_the_inputs_that_are_missing() -> None:
    """Those that are there are not named."""
    parents = [job_record(label=f"convert {number}", kind=JobKind.CONVERT) for number in range(7)]
    there = job_record(label="export", state=JobState.SUCCEEDED)
    (sentence,) = explain_job(job_record(), replace(ALONE, parents=[there, *parents]))
    assert sentence.endswith("convert 4 (waiting) and 2 more")
    assert "export" not in sentence


def test_a_waiting_job_with_all_inputs_says_what_the_scheduler_noted() -> None:
    """The same words as in the list of jobs, and which CANN there is instead; not that it is queued next."""
    host = device_record(kind=DeviceKind.HOST, soc_version=None, toolchain="cann-8.0.RC2 cann-7.0")
    job = job_record(kind=JobKind.CONVERT, reason="no host with CANN 9.9 is online", params={"cann": "9.9"})
    assert explain_job(job, replace(ALONE, devices=[host])) == [
        "infer 1/1 is waiting: no host with CANN 9.9 is online",
        "no CANN 9.9 is in the fleet now (it has 7.0, 8.0.RC2): the conversions with it wait until one is",
    ]
    (sentence,) = explain_job(job_record(params={"cann": "7.0"}), replace(ALONE, devices=[host]))
    assert sentence.endswith("the scheduler queues it next")


@pytest.mark.parametrize(
    ("changes", "devices", "expected"),
    [
        ({"soc_version": "Ascend910B"}, [device_record()], "the fleet has no Ascend910B"),
        ({"refused_hosts": ("h1",)}, [device_record()], "every host with a chip refused it: h1"),
        ({}, [device_record(state=DeviceState.QUARANTINED)], "chip: 1 quarantined"),
        ({"not_before": NOW + timedelta(seconds=30)}, [device_record()], "it is not tried again for 30s"),
    ],
)
def test_a_queued_job_says_what_it_waits_for(changes: dict[str, object], devices: list[object], expected: str) -> None:
    """No chip of that kind, refused everywhere, sick, or its back-off."""
    around = replace(ALONE, devices=devices)  # type: ignore[arg-type]
    assert expected in explain_job(job_record(state=JobState.QUEUED, **changes), around)


def test_a_job_with_a_place_of_its_own_says_which() -> None:
    """Its pinned device and how that is; the whole card; the job that it accompanies."""
    sick = device_record(npu_id=0, chip_id=0, state=DeviceState.QUARANTINED, state_reason="Alarm")
    around = replace(ALONE, devices=[sick])
    pinned = explain_job(job_record(state=JobState.QUEUED, pinned_device="h1.npu0.0"), around)
    assert "quarantined (Alarm); it waits for that device and runs nowhere else" in pinned[-1]
    of_card = {"state": JobState.QUEUED, "kind": JobKind.BENCHMARK, "soc_version": "Ascend310P3"}
    lead = explain_job(job_record(lead_id="a" * 32, params={"chips": 2}, **of_card), around)
    assert "it needs a card with 2 chips of Ascend310P3: card 0 of h1 has 1" in lead
    companion = explain_job(job_record(lead_id="b" * 32, params={"chips": 2}, **of_card), around)
    assert "b" * 32 in companion[-1]


def test_without_a_leader_nothing_moves_and_that_is_said() -> None:
    """The commonest reason has its remedy beside it."""
    around = replace(ALONE, led=False)
    assert any("npuq up" in sentence for sentence in explain_job(job_record(state=JobState.QUEUED), around))
    assert any("npuq up" in sentence for sentence in explain_run(run_record(state=RunState.SUBMITTED), led=False))
    assert len(explain_run(run_record(state=RunState.SUCCEEDED), led=False)) == 1


def test_a_failure_shows_blame_tool_lines_tries_and_what_to_do() -> None:
    """Everything that a person would ask next."""
    error = ErrorInfo(code="E10001", blame=Blame.INPUT, message="ATC refused.", retry=False, detail="one\ntwo")
    tried = attempt_record(state=AttemptState.FAILED, error_code="E10001")
    sentences = explain_job(job_record(state=JobState.FAILED, error=error), replace(ALONE, attempts=[tried]))
    assert sentences == [
        "infer 1/1 is failed: ATC refused.",
        "to blame: what was submitted (E10001)",
        "  | one",
        "  | two",
        "try 1 on h1.npu0.0: failed (E10001)",
        "its log: npuq logs aaaaaaaaaaaa",
        "try again with: npuq retry aaaaaaaaaaaa",
    ]


def test_a_dispatched_job_says_how_often_its_worker_was_called() -> None:
    """So that a silent worker shows."""
    (sentence,) = explain_job(
        job_record(state=JobState.DISPATCHED, device_id="h1.npu0.0"), replace(ALONE, attempts=[attempt_record()])
    )
    assert sentence.endswith("given to h1.npu0.0 now, sent 2 times; its worker has not begun yet")
