"""Following a run: honest estimates, what each device does, and plain lines for logs."""

from datetime import timedelta

import pytest

from cli.watching.eta import remaining_seconds
from cli.watching.lines import changes, states_of, summary
from cli.watching.live import amount, doing, timing
from cli.watching.snapshot import Progress, Snapshot, occupations, read_progress
from npuq.errors import Blame, ErrorInfo
from npuq.states import DeviceKind, DeviceState, JobKind, JobState, RunState
from tests.unit.cli.records import NOW, device_record, job_record, run_record

SLOTS = {DeviceKind.NPU: 2, DeviceKind.HOST: 1}
DONE = job_record(
    job_id="d",
    state=JobState.SUCCEEDED,
    started_at=NOW - timedelta(seconds=20),
    finished_at=NOW - timedelta(seconds=10),
)
OPEN = job_record(job_id="o", params={"start": 100, "stop": 500})
RUNNING = job_record(
    job_id="run", state=JobState.RUNNING, started_at=NOW - timedelta(seconds=4), device_id="h1.npu0.0", attempt=1
)


def test_an_estimate_scales_with_samples_and_devices() -> None:
    """100 samples took 10 s, 400 are left, two chips share them."""
    assert remaining_seconds([DONE, OPEN], shares={}, slots=SLOTS, now=NOW) == pytest.approx(20)


def test_without_a_finished_job_of_a_kind_there_is_no_estimate() -> None:
    """A guess would be read as a promise."""
    convert = job_record(job_id="c", kind=JobKind.CONVERT, params={})
    assert remaining_seconds([OPEN], shares={}, slots=SLOTS, now=NOW) is None
    assert remaining_seconds([DONE, OPEN, convert], shares={}, slots=SLOTS, now=NOW) is None


def test_earlier_runs_stand_in_for_kinds_without_a_finished_job() -> None:
    """The run's own pace counts more, once there is one."""
    earlier = job_record(
        state=JobState.SUCCEEDED,
        started_at=NOW - timedelta(seconds=1),
        finished_at=NOW,
        params={"start": 0, "stop": 10},
    )
    assert remaining_seconds([OPEN], shares={}, slots=SLOTS, now=NOW, earlier=[earlier]) == pytest.approx(20)
    slow = job_record(state=JobState.SUCCEEDED, started_at=NOW - timedelta(seconds=100), finished_at=NOW)
    assert remaining_seconds([DONE, OPEN], shares={}, slots=SLOTS, now=NOW, earlier=[slow]) == pytest.approx(20)


def test_reused_jobs_say_nothing_of_the_pace() -> None:
    """They took no time."""
    reused = job_record(job_id="x", state=JobState.SUCCEEDED, reused_from="y", finished_at=NOW)
    assert remaining_seconds([reused, OPEN], shares={}, slots=SLOTS, now=NOW) is None


def test_a_running_job_counts_by_its_own_progress() -> None:
    """A quarter took 4 s, so 12 s are left, whatever its kind took before."""
    assert remaining_seconds([RUNNING], shares={"run": 0.25}, slots={DeviceKind.NPU: 1}, now=NOW) == pytest.approx(12)


def test_nothing_is_left_of_a_finished_run_and_nothing_moves_without_devices() -> None:
    """Zero is an estimate, no device is none."""
    assert remaining_seconds([DONE], shares={}, slots=SLOTS, now=NOW) == 0
    assert remaining_seconds([DONE, OPEN], shares={}, slots={}, now=NOW) is None


def test_what_took_longer_than_its_like_has_no_estimate() -> None:
    """A zero that stays, minute after minute, is no estimate."""
    late = job_record(job_id="l", state=JobState.RUNNING, started_at=NOW - timedelta(seconds=60), attempt=1)
    assert remaining_seconds([DONE, late], shares={}, slots=SLOTS, now=NOW) is None
    assert remaining_seconds([DONE, late, OPEN], shares={}, slots=SLOTS, now=NOW) == pytest.approx(20)


@pytest.mark.parametrize("data", [None, {}, {"done": "1", "total": 2, "unit": "x"}, {"done": 1, "total": 2}])
def test_progress_that_cannot_be_read_is_none(data: dict[str, object] | None) -> None:
    """What a worker of another version writes must not end the picture."""
    assert read_progress(data) is None


def test_every_chip_is_shown_and_slots_only_while_they_work() -> None:
    """The running job wins over the one dispatched ahead; lost chips are left out when idle."""
    ahead = job_record(job_id="n", state=JobState.DISPATCHED, device_id="h1.npu0.0", label="next one")
    fleet = [
        device_record(),
        device_record(device_id="h1.npu1.0"),
        device_record(device_id="h1.npu2.0", state=DeviceState.LOST),
        device_record(device_id="h1.host.0", kind=DeviceKind.HOST),
    ]
    seen = occupations(fleet, [ahead, RUNNING], {"run": Progress(done=40, total=100, unit="images")}, NOW)
    assert [(item.device.device_id, item.job and item.job.job_id) for item in seen] == [
        ("h1.npu0.0", "run"),
        ("h1.npu1.0", None),
    ]
    assert amount(seen[0]) == "40/100 images, 10.0/s"
    assert doing(seen[0]) == "infer 1/1 (emulated)"
    assert doing(seen[1]) == "online (emulated)"


def _snapshot(*jobs: object, **changes: object) -> Snapshot:
    values = {"run": run_record(), "jobs": jobs, "occupations": (), "remaining_seconds": None, "taken_at": NOW}
    return Snapshot(**(values | changes))  # type: ignore[arg-type]


def test_lines_tell_each_change_once() -> None:
    """Start and end of a job, and nothing when nothing changed."""
    first = _snapshot(RUNNING, OPEN)
    assert changes({}, first) == ["infer 1/1: running on h1.npu0.0"]
    assert changes(states_of(first.jobs), first) == []
    error = ErrorInfo(code="x", blame=Blame.INPUT, message="no such\ninput", retry=False)
    failed = job_record(**(vars(RUNNING) | {"state": JobState.FAILED, "finished_at": NOW, "error": error}))
    assert changes(states_of(first.jobs), _snapshot(failed, OPEN)) == [
        "infer 1/1: failed on h1.npu0.0 after 4.0s: no such input"
    ]


def test_the_summary_says_what_an_unplanned_run_waits_for() -> None:
    """The planner's reason, not an empty line."""
    waiting = _snapshot(run=run_record(state=RunState.SUBMITTED, reason="no chip is online"))
    assert summary(waiting) == "run r1: submitted, no chip is online"


def test_an_unknown_remaining_time_is_left_out() -> None:
    """Only what is known is shown."""
    later = NOW + timedelta(seconds=30)
    assert timing(_snapshot(OPEN, taken_at=later)) == "30s"
    assert timing(_snapshot(OPEN, taken_at=later, remaining_seconds=65.0)) == "30s, about 1m05s left"


def test_benchmarks_are_compared_by_the_samples_that_they_execute() -> None:
    """100 loops at batch size 1 took 10 s; 100 at batch size 8 are eight times that, on two chips."""
    done = job_record(**(vars(DONE) | {"kind": JobKind.BENCHMARK, "params": {"loops": 100, "batch_size": 1}}))
    todo = job_record(job_id="o", kind=JobKind.BENCHMARK, params={"loops": 100, "batch_size": 8})
    assert remaining_seconds([done, todo], shares={}, slots=SLOTS, now=NOW) == pytest.approx(40)
    until_sure = job_record(job_id="s", kind=JobKind.BENCHMARK, params={"loops": None, "batch_size": 1})
    assert remaining_seconds([done, until_sure], shares={}, slots=SLOTS, now=NOW) is None
