"""Every fault of a chip through a real fleet: what the person sees, what becomes of the chip, how the run ends.

One fleet of two chips for all tests; each test starts with both chips in service. A test that wants the fault
to meet its job drains the other chip until it has.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from npuq.states import AttemptState, DeviceCause, DeviceState, JobKind, JobState, RunState
from tests.fleet.fleet import FAST_TIMING, Fleet, FleetPlan
from tests.fleet.ward import LIMIT_SECONDS, Ward
from tests.services.waiting import wait_until
from worker.npu_smi import parse_info

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

#: What hangs waits for it; two busy cores make 15 s of a benchmark that takes 4.
STEP_LIMIT_SECONDS: Final = 30.0
PROBE_SECONDS: Final = 1.5  #: between two looks at npu-smi; several good ones bring a chip back
FIRST: Final = "h1.npu0.0"
SECOND: Final = "h1.npu1.0"
#: Compile processes that the administrator allows; a second try has a quarter of them.
COMPILE_PROCESSES: Final = 8
#: Of a model that is converted once; the others are drawn from 1 on.
KNOWN_SEED: Final = 0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Return the module's fleet."""
    timing = FAST_TIMING.model_copy(update={"probe_seconds": PROBE_SECONDS})
    plan = FleetPlan(chips=2, service_ms=2.0, job_timeout_seconds=STEP_LIMIT_SECONDS, timing=timing)
    with pytest.MonkeyPatch.context() as surroundings:
        for name in ("MAX_COMPILE_CORE_NUMBER", "TE_PARALLEL_COMPILER"):
            surroundings.setenv(name, str(COMPILE_PROCESSES))
        fleet = Fleet(tmp_path_factory.mktemp("faults") / "home", plan)
    with fleet:
        yield fleet


@pytest.fixture
def ward(running: Fleet, tmp_path: Path) -> Ward:
    """Return the fleet with well chips."""
    ward = Ward(running, tmp_path)
    ward.heal()
    return ward


def test_a_chip_that_cannot_be_opened_is_quarantined_and_the_run_succeeds_elsewhere(ward: Ward) -> None:
    """507033 twice; the person reads why, and only the chip pays for it."""
    ward.set_state(SECOND, DeviceState.DRAINING)
    ward.fault("0", "open_failed")
    run_id = ward.submit()
    ward.becomes(FIRST, DeviceState.QUARANTINED, DeviceCause.ERRORS)
    shown = ward.npuq("devices", "show", FIRST)
    assert "device_open 2 times" in shown
    assert "quarantined  errors" in shown, "also among the events"
    ward.set_state(SECOND, DeviceState.ONLINE)
    job = ward.ends(run_id, RunState.SUCCEEDED)
    assert (job.device_id, job.failures) == (SECOND, 0)
    assert [(each.device_id, each.error_code) for each in ward.attempts(run_id)] == [
        (FIRST, "device_open"),
        (FIRST, "device_open"),
        (SECOND, None),
    ]


def test_a_kernel_that_fails_on_two_chips_fails_the_job_and_no_chip(ward: Ward) -> None:
    """507011: once elsewhere, then the model is at fault; the chips stay in service."""
    for chip in ("0", "1"):
        ward.fault(chip, "bad_execute")
    job = ward.ends(ward.submit(), RunState.FAILED)
    assert job.error is not None
    assert (job.error.code, job.error.blame.value) == ("device_exception", "input")
    assert "twice" in job.error.message
    assert "507011" in job.error.detail
    tries = ward.attempts(job.run_id)
    assert {each.device_id for each in tries} == {FIRST, SECOND}
    assert len(tries) == 2
    assert ward.fleet.working_chips() == 2
    told = ward.npuq("why", job.run_id)
    assert "to blame: what was submitted (device_exception)" in told
    assert f"try 2 on {tries[1].device_id}: failed" in told


@pytest.mark.parametrize(("kind", "code"), [("oom", "device_memory"), ("wrong_soc", "om_wrong_chip")])
def test_what_no_chip_can_do_fails_at_once(ward: Ward, kind: str, code: str) -> None:
    """Alone on the chip and still no memory, or an OM for another chip: one try, with advice, and well chips."""
    for chip in ("0", "1"):
        ward.fault(chip, kind)
    job = ward.ends(ward.submit(), RunState.FAILED)
    assert job.error is not None
    assert (job.error.code, job.error.blame.value, job.attempt) == (code, "input", 1)
    assert ward.fleet.working_chips() == 2
    assert job.error.message in ward.npuq("why", job.run_id)


@pytest.mark.parametrize(("kind", "code"), [("crash", "child_lost"), ("hang", "step_timeout")])
def test_a_process_that_dies_or_hangs_is_replaced_and_the_job_done_again(ward: Ward, kind: str, code: str) -> None:
    """SIGABRT, or no answer within the limit: another try succeeds, and burns none of the job's own."""
    ward.set_state(SECOND, DeviceState.DRAINING)
    ward.fault("0", kind, "--count", "1")
    run_id = ward.submit()
    job = ward.ends(run_id, RunState.SUCCEEDED)
    assert (job.failures, job.losses) == (0, 1)
    tries = json.loads(ward.npuq("jobs", "show", job.job_id, "-o", "json"))["attempts"]
    assert [(each["state"], each["error_code"]) for each in tries] == [("failed", code), ("succeeded", None)]
    assert ward.cause(FIRST)[0] is DeviceState.ONLINE


def test_a_slow_chip_measures_as_slow(ward: Ward) -> None:
    """Nothing is wrong but the number; one chip made so by the command, the other in the fleet's file."""
    ward.fault("0", "slow", "--factor", "20")
    path = ward.fleet.emulator_home / "fleet.json"
    fleet = json.loads(path.read_text("utf-8"))
    fleet["faults"].append({"device": 1, "kind": "slow", "factor": 20})
    path.write_text(json.dumps(fleet), "utf-8")
    assert ward.npuq("emulator", "show").count("slow until cleared") == 2
    job = ward.ends(ward.submit(loops=5), RunState.SUCCEEDED)
    (result,) = ward.fleet.client.results(job.run_id)
    assert result.metrics["latency_p50_ms"] > 30
    assert result.emulated


@pytest.mark.parametrize(
    ("fault", "outcomes"),
    [
        (("alarm", "--health", "Critical"), {(DeviceState.QUARANTINED, DeviceCause.CRITICAL)}),
        # Whoever notices first: the job, whose chip stopped answering, or the next look at npu-smi.
        (("lost",), {(DeviceState.LOST, DeviceCause.VANISHED), (DeviceState.QUARANTINED, DeviceCause.ERRORS)}),
    ],
    ids=["critical", "lost"],
)
def test_a_chip_that_falls_ill_at_work_hands_its_job_over(
    ward: Ward, fault: tuple[str, ...], outcomes: set[tuple[DeviceState, str]]
) -> None:
    """The chip is out of service, and the job is done elsewhere without burning a try of its own."""
    ward.set_state(SECOND, DeviceState.DRAINING)
    run_id = ward.submit(loops=2000)
    wait_until(lambda: ward.benchmark(run_id).state is JobState.RUNNING, "the benchmark runs", LIMIT_SECONDS)
    ward.set_state(SECOND, DeviceState.ONLINE)
    ward.fault("0", *fault)
    wait_until(lambda: ward.cause(FIRST) in outcomes, "the chip is out of service", LIMIT_SECONDS)
    job = ward.ends(run_id, RunState.SUCCEEDED)
    assert (job.device_id, job.failures) == (SECOND, 0)
    first, second = [(each.device_id, each.state, each.error_code) for each in ward.attempts(run_id)]
    assert first in {(FIRST, AttemptState.RELEASED, None), (FIRST, AttemptState.FAILED, "device_lost")}
    assert second == (SECOND, AttemptState.SUCCEEDED, None)


def test_an_idle_chip_that_vanishes_comes_back_after_good_looks(ward: Ward) -> None:
    """By itself, and the other chip is not disturbed."""
    ward.fault("0", "lost")
    ward.becomes(FIRST, DeviceState.LOST, DeviceCause.VANISHED)
    assert ward.cause(SECOND)[0] is DeviceState.ONLINE
    ward.npuq("emulator", "clear")
    ward.becomes(FIRST, DeviceState.ONLINE, DeviceCause.RETURNED)


def test_an_alarm_takes_the_chip_out_until_it_is_over(ward: Ward) -> None:
    """New work goes to the other chip; the history says when it went and when it came back."""
    ward.fault("0", "alarm")
    ward.becomes(FIRST, DeviceState.QUARANTINED, DeviceCause.ALARM)
    assert "its health is Alarm; see: npu-smi info -t health" in ward.npuq("devices", "list")
    assert ward.ends(ward.submit(), RunState.SUCCEEDED).device_id == SECOND
    ward.npuq("emulator", "clear")
    ward.becomes(FIRST, DeviceState.ONLINE, DeviceCause.RETURNED)
    events = json.loads(ward.npuq("devices", "events", FIRST, "--limit", "2", "-o", "json"))
    assert [(event["state"], event["cause"]) for event in events] == [("online", "returned"), ("quarantined", "alarm")]


def test_npu_smi_shows_who_computes(ward: Ward) -> None:
    """The chip's device process with its pid and memory; an AICore share that is not zero on its chip only."""
    ward.set_state(SECOND, DeviceState.DRAINING)
    run_id = ward.submit(loops=500)

    def computes() -> bool:
        return bool(parse_info(ward.npu_smi()).chips[0].aicore_percent)

    wait_until(computes, "AICore % is not zero", LIMIT_SECONDS)
    info = parse_info(ward.npu_smi())
    ours = {process.pid for process in ward.fleet.device_processes()}
    holders = [process for process in info.processes if process.npu_id == 0]
    assert holders
    assert all(process.pid in ours and process.memory_mb for process in holders)
    assert info.chips[1].aicore_percent == 0
    ward.ends(run_id, RunState.SUCCEEDED)


def test_leaked_memory_takes_the_chip_out_until_it_is_free(ward: Ward) -> None:
    """Memory that no process holds; what happened is kept with its reason."""
    wait_until(lambda: all(chip.memory_baseline_mib for chip in ward.chips()), "idle memory is learned", LIMIT_SECONDS)
    ward.fault("0", "leak", "--memory-mb", "4000")
    ward.becomes(FIRST, DeviceState.QUARANTINED, DeviceCause.DIRTY)
    assert ward.listed(FIRST)["state"] == "quarantined"
    assert ward.cause(SECOND)[0] is DeviceState.ONLINE
    assert ward.ends(ward.submit(), RunState.SUCCEEDED).device_id == SECOND
    ward.npuq("emulator", "clear")
    ward.becomes(FIRST, DeviceState.ONLINE, DeviceCause.RETURNED)
    events = json.loads(ward.npuq("devices", "show", FIRST, "-o", "json"))["events"]
    assert [event["cause"] for event in events[:2]] == ["returned", "dirty"]
    assert "MiB are in use that no process holds" in events[1]["reason"]


def test_a_driver_that_is_down_stops_new_work_and_loses_nothing(ward: Ward) -> None:
    """-8005: unknown is not gone; the run waits, and goes on when the driver does."""
    ward.fault("host", "no_driver")
    for chip in (FIRST, SECOND):
        ward.becomes(chip, DeviceState.DRAINING, DeviceCause.NO_ANSWER)
    assert "-8005" in ward.npu_smi()
    run_id = ward.submit()
    ward.npuq("emulator", "clear")
    ward.becomes(FIRST, DeviceState.ONLINE, DeviceCause.RETURNED)
    assert ward.ends(run_id, RunState.SUCCEEDED).attempt == 1


def test_what_atc_refuses_fails_the_run_with_its_words(ward: Ward) -> None:
    """The tool's own code, one try, and the benchmark is skipped."""
    ward.fault("host", "atc_failed", "--text", "EZ3003: No supported Ops kernel and engine are found for [AddDsl].")
    run_id = ward.submit()
    assert ward.ends(run_id, RunState.FAILED).state is JobState.SKIPPED
    convert = ward.job(run_id, JobKind.CONVERT)
    assert convert.error is not None
    assert (convert.error.code, convert.attempt) == ("EZ3003", 1)
    assert "AddDsl" in convert.error.detail
    told = ward.npuq("why", run_id)
    assert "to blame: what was submitted (EZ3003)" in told
    assert "[AddDsl]" in told


def test_an_operator_that_atc_has_no_parser_for_fails_the_run_and_is_named(ward: Ward) -> None:
    """One of nobody's in the default domain: E19010, one try, what was submitted is to blame, no host is."""
    run_id = ward.submit(first="AddDsl")
    assert ward.ends(run_id, RunState.FAILED).state is JobState.SKIPPED
    convert = ward.job(run_id, JobKind.CONVERT)
    assert convert.error is not None
    assert (convert.error.code, convert.error.blame.value, convert.attempt) == ("E19010", "input", 1)
    assert "[first, optype [ai.onnx::13::AddDsl]]" in ward.npuq("why", run_id)


def test_a_slow_atc_holds_up_its_own_run_only(ward: Ward) -> None:
    """What is converted already is measured meanwhile; a person reads where the run stands, and may cancel it."""
    ward.ends(ward.submit(seed=KNOWN_SEED), RunState.SUCCEEDED)
    ward.fault("host", "atc_slow", "--seconds", "60", "--count", "1")
    slow = ward.submit()
    wait_until(lambda: "atc_slow" not in ward.npuq("emulator", "show"), "atc is slow", LIMIT_SECONDS)
    ward.ends(ward.submit(seed=KNOWN_SEED), RunState.SUCCEEDED)
    assert " is running on h1.host." in ward.npuq("why", slow)
    ward.npuq("cancel", slow)
    ward.ends(slow, RunState.CANCELLED)


def test_an_atc_that_is_only_slow_ends_well(ward: Ward) -> None:
    """One try, and the time it took is kept."""
    ward.fault("host", "atc_slow", "--seconds", "1", "--count", "1")
    run_id = ward.submit()
    ward.ends(run_id, RunState.SUCCEEDED)
    convert = ward.job(run_id, JobKind.CONVERT)
    assert convert.attempt == 1
    assert convert.facts["atc_seconds"] >= 1


def test_a_killed_atc_is_tried_once_more_with_less(ward: Ward) -> None:
    """As the kernel kills it when memory is short: fewer compile processes get through, and both tries show."""
    ward.fault("host", "atc_killed", "--count", "1")
    run_id = ward.submit()
    ward.ends(run_id, RunState.SUCCEEDED)
    convert = json.loads(ward.npuq("jobs", "show", ward.job(run_id, JobKind.CONVERT).job_id, "-o", "json"))
    assert [(each["state"], each["error_code"]) for each in convert["attempts"]] == [
        ("failed", "atc_out_of_memory"),
        ("succeeded", None),
    ]
    assert "ran out of memory" in convert["attempts"][0]["error_message"]
    assert convert["facts"]["compile_processes"] == COMPILE_PROCESSES // 4


def test_an_atc_that_is_always_killed_fails_after_its_second_try(ward: Ward) -> None:
    """No host is large enough: the run ends, the host is to blame, and the person reads that less was tried."""
    ward.fault("host", "atc_killed")
    run_id = ward.submit()
    ward.ends(run_id, RunState.FAILED)
    assert [each.error_code for each in ward.attempts(run_id, JobKind.CONVERT)] == ["atc_out_of_memory"] * 2
    told = ward.npuq("why", run_id)
    assert "tried with fewer compile processes too: this host is too small for the model" in told
    assert "to blame: the host (atc_out_of_memory)" in told
