"""The benchmark step of a whole card: every chip of it runs the same OM at the same time.

Each chip has a job of its own, so that leases, locks and health are as ever. One leads: it waits until all have loaded
the model, lets them look at their chips and begin together, ends them together, and makes the card's result of what
each did in their common window. The others measure their chip for it and have no result of their own.

    companion: hello, loaded -> (look) -> ready -> (go) -> at_work -> (begun) -> at_work ... -> (stop) -> measured
    lead:                        look               go                 begun       on ...         stop

A companion may say `failed` at any time. Executions count when all have begun.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from npuq.errors import DeviceBusyError, InvalidRequestError, NpuqError
from npuq.specs import BenchmarkProtocol
from npuq.states import Quality, Scope
from tasks.batch_binding import bind_batch
from tasks.benchmark_setup import HALF_WIDTH, INPUT_SEED, LEAST_EXECUTIONS, parameters, random_feeds, slice_size
from tasks.card_meeting import CardIncompleteError, Gathering, GoneError, LeadGoneError, Line, Patience, join
from tasks.card_window import CardRate, Slice, card_rate
from tasks.idleness import ChipState, disturbance, why_busy
from tasks.metrics import measured
from tasks.protocols import Array, InferenceSession
from tasks.statistics import latencies, median_interval
from tasks.steps import StepContext, StepOutcome

_PATIENCE: Final = Patience()


def run(context: StepContext, patience: Patience = _PATIENCE) -> StepOutcome:
    """Measure a whole card as its leading chip, or one chip of it for the job that leads.

    Params: as `tasks.benchmark.run`, and `chips` (how many the card has); of the others `companion` (from 1) and `lead`
    (its job id). The outcome of the others is empty.

    Raises:
        InvalidRequestError: parameters or inputs that cannot be.
        CardIncompleteError: a chip did not come, or went away; not by a companion.
        LeadGoneError: the leading job did not come, or ended before it had this chip's part; by companions only.
        DeviceBusyError: one of the chips is not idle, and the protocol requires it.
        NpuqError: as sessions and `npu-smi` classify it.
    """
    params = context.request.params
    try:
        chips, companion = int(params["chips"]), int(params.get("companion", 0))
        lead = str(params["lead"]) if companion else context.request.job_id
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"A benchmark of a card needs to know its chips; wrong is: {error}.") from error
    if companion:
        return _accompany(context, lead, companion, patience)
    return _lead(context, chips, patience)


@dataclass
class _Chip:
    """This job's chip at work."""

    context: StepContext
    session: InferenceSession
    feeds: list[Array]
    protocol: BenchmarkProtocol
    batch_size: int
    before: ChipState | None = None
    slices: list[Slice] = field(default_factory=list)
    narrow: bool = False
    alone: int | None = None  # executions before all had begun; None: not all have
    _size: int = 1

    @classmethod
    def warmed_up(cls, context: StepContext) -> "_Chip":
        """Load the model and run it a few times."""
        model, batch_size, protocol = parameters(context.request)
        session = context.session(model)
        bind_batch(session, batch_size)
        feeds = random_feeds(session.inputs)
        if protocol.warmup:
            session.run(feeds, loop=protocol.warmup)
        return cls(context=context, session=session, feeds=feeds, protocol=protocol, batch_size=batch_size)

    def look(self, friends: frozenset[int]) -> None:
        """Look at the chip before it begins; raises DeviceBusyError when that would not count."""
        self.before = self.context.chip_state(friends)
        busy = why_busy(self.before)
        if busy is not None and self.protocol.require_idle:
            raise DeviceBusyError(f"A measurement of this card would not count: {busy}. It is tried again later.")

    def begin(self) -> None:
        """Forget the warm-up."""
        self.session.reset_times()

    @property
    def done(self) -> int:
        """Return how many executions there were."""
        return sum(each.executions for each in self.slices)

    def all_have_begun(self) -> None:
        """Count from now on: what was done before has no company on every other chip."""
        self.alone = self.done

    @property
    def is_enough(self) -> bool:
        """Return whether this chip has executed as often as the protocol wants, and its median is known."""
        if self.alone is None:
            return False
        together = self.done - self.alone
        if self.protocol.loops is not None:
            return together >= self.protocol.loops
        return self.narrow and together >= LEAST_EXECUTIONS

    def work(self) -> None:
        """Execute one slice."""
        done = self.done
        started = time.monotonic()
        self.session.run(self.feeds, loop=self._size)
        ended = time.monotonic()
        times = self.session.times().execute_ms
        execute_ms = float(sum(times[done:]))
        self.slices.append(Slice(start=started, end=ended, executions=len(times) - done, execute_ms=execute_ms))
        interval = median_interval(times)
        self.narrow = interval is not None and interval.relative_half_width <= HALF_WIDTH
        self._size = slice_size(len(times), max(1e-6, ended - self.slices[0].start))

    def report(self, friends: frozenset[int]) -> dict[str, Any]:
        """Return what this chip did, as JSON values."""
        device = self.context.request.device
        after = self.context.chip_state(friends)
        before = self.before or after
        times = self.session.times()
        execute = latencies(times.execute_ms)
        return {
            "device_id": "" if device is None else device.device_id,
            "chip_id": None if device is None else device.chip_id,
            "slices": [each.to_json() for each in self.slices],
            "stable": self.protocol.loops is not None or self.narrow,
            "latency_p50_ms": execute.p50,
            "latency_p99_ms": execute.p99,
            "h2d_ms": latencies(times.h2d_ms).p50,
            "d2h_ms": latencies(times.d2h_ms).p50,
            "chip_before": before.as_facts(),
            "chip_after": after.as_facts(),
            "disturbed_by": why_busy(before) or disturbance(before, after),
        }


def _accompany(context: StepContext, lead: str, companion: int, patience: Patience) -> StepOutcome:
    device = context.request.device
    hello = {
        "companion": companion,
        "device_id": "" if device is None else device.device_id,
        "npu_id": None if device is None else device.npu_id,
    }
    line = join(lead, hello, patience)
    try:
        try:
            chip = _Chip.warmed_up(context)
            line.send(loaded=True)
            _measure_for(line, chip, patience)
        except NpuqError as error:
            line.send(failed=error.info.message, busy=error.info.code == DeviceBusyError.code)
            raise
    except GoneError as error:
        raise LeadGoneError(f"The job that leads the measurement of the card ended early: {error}.") from error
    finally:
        line.close()
    return StepOutcome()


def _measure_for(line: Line, chip: _Chip, patience: Patience) -> None:
    friends = frozenset(line.receive(patience.meet_seconds + patience.answer_seconds).get("look", ()))
    chip.look(friends)
    line.send(ready=True)
    line.receive(patience.answer_seconds + patience.answer_seconds)  # go: the others look at their chips first
    chip.begin()
    while True:
        chip.work()
        line.send(at_work=chip.done, enough=chip.is_enough)
        chip.context.progress(chip.done, chip.done, "executions")
        if _is_over(line, chip):
            break
        if time.monotonic() - line.heard > patience.answer_seconds:
            raise GoneError("it said nothing for too long")
    line.send(measured=chip.report(friends))


def _is_over(line: Line, chip: _Chip) -> bool:
    while (said := line.poll()) is not None:
        if said.get("begun"):
            chip.all_have_begun()
        if said.get("stop"):
            return True
    return False


def _lead(context: StepContext, chips: int, patience: Patience) -> StepOutcome:
    device = context.request.device
    npu_id = None if device is None else device.npu_id
    with Gathering(context.request.job_id, chips - 1, patience, npu_id) as others:
        chip = _Chip.warmed_up(context)
        others.gather()
        for number, line in others.lines.items():
            _hear(others, number, partial(line.receive, patience.meet_seconds))
        pids = [line.pid for line in others.lines.values()]
        others.tell(look=[*pids, os.getpid()])
        chip.look(frozenset(pids))
        for number, line in others.lines.items():
            _hear(others, number, partial(line.receive, patience.answer_seconds))
        others.tell(go=True)
        _work_with(others, chip, patience)
        others.tell(stop=True)
        reports: list[Mapping[str, Any]] = [chip.report(frozenset(pids))]
        reports += [_report_of(others, number, patience) for number in sorted(others.lines)]
    return _outcome(context, chip, reports)


def _hear(others: Gathering, number: int, listen: Callable[[], Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    """Return what a companion says, None when it says nothing; raises its failure, or that it is gone."""
    try:
        said = listen()
    except GoneError as error:
        raise others.lost(number, error) from error
    if said is None or "failed" not in said:
        return said
    if said.get("busy"):
        raise DeviceBusyError(f"{others.names[number]}: {said['failed']}")
    raise others.lost(number, said["failed"])


def _work_with(others: Gathering, chip: _Chip, patience: Patience) -> None:
    """Execute until every chip has done enough, or the time is over."""
    chip.begin()
    enough: dict[int, bool] = {}
    started = time.monotonic()
    while True:
        # One more slice after everybody has done enough, so that the window holds what made it enough.
        ready = chip.is_enough and all(enough.values())
        chip.work()
        _listen(others, enough, patience)
        begins = chip.alone is None and len(enough) == len(others.lines)
        if begins:
            chip.all_have_begun()
        others.tell(on=True, begun=begins)
        elapsed = time.monotonic() - started
        _show(chip, elapsed)
        if ready:
            return
        if chip.protocol.loops is None and elapsed >= chip.protocol.max_seconds:
            return


def _listen(others: Gathering, enough: dict[int, bool], patience: Patience) -> None:
    """Take in what the companions have said so far: that they are at work, and whether they have done enough."""
    for number, line in others.lines.items():
        while (said := _hear(others, number, line.poll)) is not None:
            enough[number] = bool(said.get("enough"))
        if time.monotonic() - line.heard > patience.answer_seconds:
            raise others.lost(number, f"it said nothing for {patience.answer_seconds:g} s")


def _show(chip: _Chip, elapsed: float) -> None:
    if chip.protocol.loops is None:
        limit = int(chip.protocol.max_seconds)
        chip.context.progress(min(int(elapsed), limit), limit, "seconds")
    else:
        chip.context.progress(min(chip.done, chip.protocol.loops), chip.protocol.loops, "executions")


def _report_of(others: Gathering, number: int, patience: Patience) -> Mapping[str, Any]:
    """Return what a companion did; what it said before it heard the end is passed over."""
    line = others.lines[number]
    while True:
        said = _hear(others, number, partial(line.receive, patience.answer_seconds))
        report = None if said is None else said.get("measured")
        if isinstance(report, Mapping):
            return report


def _outcome(context: StepContext, chip: _Chip, reports: list[Mapping[str, Any]]) -> StepOutcome:
    try:
        timelines = [[Slice.from_json(each) for each in report["slices"]] for report in reports]
    except (KeyError, TypeError, ValueError) as error:
        raise CardIncompleteError(f"A chip of the card gave no measurement: {error}.") from error
    rate = card_rate(timelines, chip.batch_size)
    if rate is None:
        raise CardIncompleteError("The chips of the card were not all at work at the same time.")
    disturbed = [f"{report['device_id']}: {report['disturbed_by']}" for report in reports if report["disturbed_by"]]
    stable = all(report["stable"] for report in reports)
    steady = Quality.CLEAN if stable else Quality.UNSTABLE
    return StepOutcome(
        metrics={
            "throughput_fps": measured("throughput_fps", rate.fps),
            "latency_mean_ms": measured("latency_mean_ms", rate.mean_ms),
        },
        facts=_facts(context, chip, reports, rate) | {"disturbed_by": "; ".join(disturbed) or None},
        quality=Quality.CONTAMINATED if disturbed else steady,
    )


def _facts(context: StepContext, chip: _Chip, reports: list[Mapping[str, Any]], rate: CardRate) -> dict[str, Any]:
    device = context.request.device
    chips = [
        {
            **{name: value for name, value in report.items() if name != "slices"},
            "throughput_fps": share.fps,
            "latency_mean_ms": share.mean_ms,
            "executions": share.executions,
        }
        for report, share in zip(reports, rate.chips, strict=True)
    ]
    return {
        "protocol": chip.protocol.model_dump(mode="json"),
        "scope": Scope.CARD.value,
        "card": {"npu_id": None if device is None else device.npu_id, "chips": chips},
        "window_seconds": rate.window_seconds,
        "executions": sum(share.executions for share in rate.chips),
        "input_seed": INPUT_SEED,
    }
