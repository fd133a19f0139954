from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from db.records import ActiveAttempt, DeviceRecord
from npuq.states import AttemptState, DeviceState, JobKind
from scheduler.placement import LOOK_AHEAD_SECONDS, can_run, is_working, place, to_withdraw
from tests.unit.scheduler.snapshots import attempt, device, host_slot, job

SHORT = {("mobilenet_v1", JobKind.INFER): 1.0}
LONG = {("mobilenet_v1", JobKind.INFER): LOOK_AHEAD_SECONDS + 1}
SOCS = st.sampled_from(["Ascend310P3", "Ascend910B4"])
KINDS = st.sampled_from(list(JobKind))

DEVICES = st.lists(
    st.builds(
        lambda soc, state, health, host, slot: (soc, state, health, host, slot),
        SOCS,
        st.sampled_from(list(DeviceState)),
        st.sampled_from(["OK", "Warning", "Alarm", "Critical", ""]),
        st.sampled_from(["h1", "h2"]),
        st.booleans(),
    ),
    max_size=6,
)
JOBS = st.lists(st.tuples(KINDS, SOCS, st.integers(-2, 2), st.sampled_from(["r1", "r2"]), st.booleans()), max_size=10)


def _fleet(drawn: list[tuple[str, DeviceState, str, str, bool]]) -> list[DeviceRecord]:
    return [
        host_slot(f"{host}.host.{number}", state=state, health=health)
        if slot
        else device(f"{host}.npu{number}.0", soc_version=soc, state=state, health=health)
        for number, (soc, state, health, host, slot) in enumerate(drawn)
    ]


@given(drawn=DEVICES, wanted=JOBS, busy=st.sets(st.integers(0, 5)))
def test_placements_are_always_legal(
    drawn: list[tuple[str, DeviceState, str, str, bool]],
    wanted: list[tuple[JobKind, str, int, str, bool]],
    busy: set[int],
) -> None:
    """Never two jobs to one device, never one job twice, only able and working devices, and no free one idles."""
    fleet = _fleet(drawn)
    queued = [
        job(f"j{n}", kind, soc_version=soc if kind in {JobKind.INFER, JobKind.BENCHMARK} else None, priority=priority,
            run_id=run, refused_hosts=("h2",) if refused else ())
        for n, (kind, soc, priority, run, refused) in enumerate(wanted)
    ]  # fmt: skip
    active = [attempt(f"a{n}", fleet[n].device_id) for n in busy if n < len(fleet)]
    chosen = place(queued, fleet, active, models={}, estimates=SHORT)
    assert len({item.job_id for item in chosen}) == len({item.device_id for item in chosen}) == len(chosen)
    by_id = {item.device_id: item for item in fleet}
    jobs = {item.job_id: item for item in queued}
    for item in chosen:
        assert is_working(by_id[item.device_id])
        assert can_run(by_id[item.device_id], jobs[item.job_id])
    taken = {item.device_id for item in chosen} | {item.device_id for item in active}
    left = [item for item in queued if item.job_id not in {placed.job_id for placed in chosen}]
    idle = [item for item in fleet if item.device_id not in taken and is_working(item)]
    assert not [pair for pair in ((seat, item) for seat in idle for item in left) if can_run(*pair)]


def test_a_device_runs_its_own_kind_chip_and_toolchain_only() -> None:
    """Chips take chip work for their SoC, slots take host work with their toolchain, refused hosts take nothing."""
    chip, slot = device(), host_slot()
    assert can_run(chip, job("j"))
    assert not can_run(chip, job("j", soc_version="Ascend910B4"))
    assert not can_run(chip, job("j", JobKind.EXPORT))
    assert can_run(slot, job("j", JobKind.CONVERT, toolchain=slot.toolchain))
    assert not can_run(slot, job("j", JobKind.CONVERT, toolchain="another"))
    assert not can_run(slot, job("j", JobKind.EXPORT, refused_hosts=("h1",)))


def test_higher_priority_goes_first() -> None:
    """One free chip, and the later but more urgent job gets it."""
    (chosen,) = place([job("low"), job("high", priority=5)], [device()], [], models={}, estimates={})
    assert chosen.job_id == "high"


def test_runs_share_the_fleet() -> None:
    """A big run that came first does not keep a second one waiting."""
    queued = [*(job(f"big{n}", run_id="big") for n in range(10)), job("small", run_id="small")]
    fleet = [device(f"h1.npu{n}.0") for n in range(2)]
    assert {item.job_id for item in place(queued, fleet, [], models={}, estimates={})} == {"big0", "small"}
    active = [attempt("x", "h1.npu0.0", run_id="big")]
    (only,) = place(queued, fleet, active, models={}, estimates={})
    assert only.job_id == "small"


def test_the_chip_that_has_the_model_loaded_is_preferred() -> None:
    """Loading costs seconds; else an emptier chip is taken, so that others keep what they have."""
    fleet = [device("h1.npu0.0", loaded=("x",)), device("h1.npu1.0", loaded=("m", "x")), device("h1.npu2.0")]
    (chosen,) = place([job("j")], fleet, [], models={"j": "m"}, estimates={})
    assert chosen.device_id == "h1.npu1.0"
    (chosen,) = place([job("j")], fleet, [], models={"j": "other"}, estimates={})
    assert chosen.device_id == "h1.npu2.0"


def test_a_device_that_failed_the_job_is_the_last_resort() -> None:
    """Another one is better, and the avoided one is better than none."""
    avoided = job("j", avoid_devices=("h1.npu0.0",))
    fleet = [device("h1.npu0.0", loaded=("m",)), device("h1.npu1.0")]
    (chosen,) = place([avoided], fleet, [], models={"j": "m"}, estimates={})
    assert chosen.device_id == "h1.npu1.0"
    (chosen,) = place([avoided], fleet[:1], [], models={}, estimates={})
    assert chosen.device_id == "h1.npu0.0"


def test_only_short_jobs_are_given_ahead_and_only_one() -> None:
    """A chip that runs a short job gets one more; unknown or long ones are not stacked, nor a third."""
    running = [attempt("now")]
    queued = [job("next"), job("later")]
    assert [item.job_id for item in place(queued, [device()], running, models={}, estimates=SHORT)] == ["next"]
    assert place(queued, [device()], running, models={}, estimates=LONG) == []
    assert place(queued, [device()], running, models={}, estimates={}) == []
    two = [*running, attempt("ahead", state=AttemptState.DISPATCHED)]
    assert place(queued, [device()], two, models={}, estimates=SHORT) == []
    assert place(queued, [device()], [attempt("sent", state=AttemptState.DISPATCHED)], models={}, estimates=SHORT) == []


def test_host_slots_are_not_given_jobs_ahead() -> None:
    """Host work is long and its memory is bounded by the slots."""
    estimates = {("mobilenet_v1", JobKind.EXPORT): 1.0}
    running = [attempt("now", "h1.host.0", kind=JobKind.EXPORT)]
    assert place([job("next", JobKind.EXPORT)], [host_slot()], running, models={}, estimates=estimates) == []


def _withdrawn(active: list[ActiveAttempt], fleet: list[DeviceRecord]) -> list[tuple[str, str]]:
    jobs = {item.job_id: job(item.job_id) for item in active}
    found = to_withdraw(active, fleet, jobs, max_publishes=3, resend_seconds=20.0)
    return [(item.job_id, reason) for item, reason in found]


def test_what_a_device_cannot_begin_is_taken_back() -> None:
    """Draining, sick, lost and unknown devices give back; running attempts stay where they are."""
    sent = attempt("sent", state=AttemptState.DISPATCHED)
    assert _withdrawn([sent], [device(state=DeviceState.DRAINING)]) == [("sent", "h1.npu0.0 is draining")]
    assert _withdrawn([sent], [device(state=DeviceState.LOST)]) == [("sent", "h1.npu0.0 is lost")]
    assert _withdrawn([sent], []) == [("sent", "h1.npu0.0 is gone")]
    assert len(_withdrawn([sent], [device(health="Alarm")])) == 1
    assert _withdrawn([attempt("running")], [device(state=DeviceState.DRAINING)]) == []


def test_a_doorbell_that_nobody_answers_is_taken_back_after_three_rings() -> None:
    """Two rings are not enough, nor a third that was just sent, nor one behind a running job."""
    unanswered: dict[str, Any] = {"state": AttemptState.DISPATCHED, "publishes": 3, "unanswered_seconds": 21.0}
    assert _withdrawn([attempt("a", **unanswered)], [device()]) == [("a", "h1.npu0.0 does not answer")]
    assert _withdrawn([attempt("a", **(unanswered | {"publishes": 2}))], [device()]) == []
    assert _withdrawn([attempt("a", **(unanswered | {"unanswered_seconds": 19.0}))], [device()]) == []
    assert _withdrawn([attempt("now"), attempt("a", **unanswered)], [device()]) == []


def test_one_idle_device_takes_one_waiting_job_over() -> None:
    """Two jobs wait behind others, one chip is idle: one moves."""
    fleet = [device(f"h1.npu{n}.0") for n in range(3)]
    active = [attempt(f"now{n}", f"h1.npu{n}.0") for n in range(2)]
    active += [attempt(f"next{n}", f"h1.npu{n}.0", state=AttemptState.DISPATCHED) for n in range(2)]
    assert _withdrawn(active, fleet) == [("next0", "h1.npu2.0 can run it sooner")]
