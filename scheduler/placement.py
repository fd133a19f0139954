"""Which job goes to which device. Pure: a function of a snapshot.

Jobs are taken by priority, then by fair share (the run with the fewest active jobs first), then in the order of their
plans. A device that has the model loaded is preferred, one that failed the job before is avoided while there are
others. A device is given its next job one ahead when the running one is short, which hides the hand-over.

Jobs for all chips of a card are placed together or not at all, so that none waits on its chip for another that cannot
come. While they wait for a card that is not free, what follows them in this order gets nothing on it: it runs empty.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from db.records import ActiveAttempt, DeviceRecord, JobRecord
from npuq.states import DEVICE_KIND_OF_JOB, AttemptState, DeviceKind, DeviceState, JobKind
from scheduler.cards import cards_of, choose_card

LOOK_AHEAD_SECONDS: Final = 30.0
"""A job longer than this is worth waiting for; a shorter one is given its successor in advance."""
_WORKING: Final = frozenset({DeviceState.ONLINE, DeviceState.BUSY})
_HEALTHY: Final = frozenset({"OK", "Warning", ""})

Estimates = Mapping[tuple[str, JobKind], float]
"""(recipe, kind) -> seconds that such a job took lately."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A decision: this job, at this attempt, to this device."""

    job_id: str
    attempt: int
    device_id: str


def can_run(device: DeviceRecord, job: JobRecord) -> bool:
    """Tell whether a device is of the kind, chip and toolchain that a job needs, and its host has not refused it.

    A job that is pinned is for its device only, whatever becomes of that.
    """
    if job.pinned_device not in {None, device.device_id}:
        return False
    if device.kind is not DEVICE_KIND_OF_JOB[job.kind] or device.host in job.refused_hosts:
        return False
    if device.kind is DeviceKind.NPU and job.soc_version is not None and device.soc_version != job.soc_version:
        return False
    return job.toolchain is None or job.toolchain in device.toolchains


def is_working(device: DeviceRecord) -> bool:
    """Tell whether a device may be given work at all."""
    return device.state in _WORKING and device.health in _HEALTHY


def place(
    queued: Sequence[JobRecord],
    devices: Iterable[DeviceRecord],
    active: Sequence[ActiveAttempt],
    *,
    models: Mapping[str, str],
    estimates: Estimates,
    together: Mapping[str, Sequence[JobRecord]] = MappingProxyType({}),
) -> list[Placement]:
    """Return placements for as many queued jobs as there are places.

    Args:
        queued: jobs that may run now, best first; of those for all chips of a card, the leading ones.
        devices: the fleet.
        active: what the devices have already.
        models: job id -> digest of the model it runs, for jobs that run one.
        estimates: how long such jobs took lately; unknown ones are not given ahead.
        together: id of a leading job -> the jobs for all chips of its card that may run now, the leading one first.
    """
    devices = list(devices)
    working = [device for device in devices if is_working(device)]
    of_device: dict[str, list[ActiveAttempt]] = {}
    per_run: dict[str, int] = {}
    for attempt in active:
        of_device.setdefault(attempt.device_id, []).append(attempt)
        per_run[attempt.run_id] = per_run.get(attempt.run_id, 0) + 1
    free = [device for device in working if device.device_id not in of_device]
    cards = _Cards(devices, working, of_device, together)
    placements, rest = _fill(_fair(queued, per_run), free, working, models, cards)
    short = {key for key, seconds in estimates.items() if seconds <= LOOK_AHEAD_SECONDS}
    ahead = [
        device
        for device in working
        if device.device_id not in cards.kept
        and _may_look_ahead(device, of_device.get(device.device_id, []), estimates)
    ]
    more, _ = _fill([job for job in rest if (job.recipe, job.kind) in short], ahead, working, models, None)
    return placements + more


class _Cards:
    """Which cards go to the jobs that need one as a whole; `kept` are their devices, which nothing else is given."""

    def __init__(
        self,
        devices: Sequence[DeviceRecord],
        working: Sequence[DeviceRecord],
        of_device: Mapping[str, Sequence[ActiveAttempt]],
        together: Mapping[str, Sequence[JobRecord]],
    ) -> None:
        self._devices = devices
        self._working = working
        self._load = {device_id: len(attempts) for device_id, attempts in of_device.items()}
        self._together = together
        self.kept: set[str] = set()

    def seat(self, lead: JobRecord, seats: list[DeviceRecord], model: str | None) -> list[Placement]:
        """Return a placement for each job of a card, and take their seats; none unless there is one for all.

        Then a card that is whole and well is kept for them.
        """
        jobs = self._together.get(lead.job_id, ())
        chips = int(lead.params["chips"])
        if len(jobs) != chips:  # one of them still runs, or may not be tried yet
            return []
        able = frozenset(
            device.device_id
            for device in self._working
            if device.device_id not in self.kept and all(can_run(device, job) for job in jobs)
        )
        card = choose_card(
            cards_of(self._devices, lead.soc_version),
            chips,
            working=able,
            load=self._load,
            avoid=frozenset(each for job in jobs for each in job.avoid_devices),
            loaded=frozenset(device.device_id for device in self._working if model in device.loaded),
        )
        if card is None:
            return []
        ids = [chip.device_id for chip in card.chips]
        self.kept.update(ids)
        free = {seat.device_id for seat in seats}
        seats[:] = [seat for seat in seats if seat.device_id not in self.kept]
        if not free.issuperset(ids):
            return []
        return [
            Placement(job_id=job.job_id, attempt=job.attempt, device_id=device_id)
            for job, device_id in zip(jobs, ids, strict=True)
        ]


def open_seats(
    devices: Iterable[DeviceRecord], active: Sequence[ActiveAttempt], estimates: Estimates
) -> list[DeviceRecord]:
    """Return the devices that can take a job now, or one ahead."""
    of_device: dict[str, list[ActiveAttempt]] = {}
    for attempt in active:
        of_device.setdefault(attempt.device_id, []).append(attempt)
    return [
        device
        for device in devices
        if is_working(device)
        and (device.device_id not in of_device or _may_look_ahead(device, of_device[device.device_id], estimates))
    ]


def _may_look_ahead(device: DeviceRecord, has: Sequence[ActiveAttempt], estimates: Estimates) -> bool:
    if device.kind is not DeviceKind.NPU or len(has) != 1 or has[0].state is not AttemptState.RUNNING:
        return False
    known = [seconds for (_, kind), seconds in estimates.items() if kind is has[0].kind]
    return bool(known) and max(known) <= LOOK_AHEAD_SECONDS


def _fair(queued: Sequence[JobRecord], per_run: Mapping[str, int]) -> list[JobRecord]:
    """Order by priority, then deal the runs out in turn, those with the fewest active jobs first."""
    order: list[tuple[int, int, int, JobRecord]] = []
    seen: dict[str, int] = dict(per_run)
    for position, job in enumerate(queued):
        rank = seen.get(job.run_id, 0)
        seen[job.run_id] = rank + 1
        order.append((-job.priority, rank, position, job))
    return [job for *_, job in sorted(order, key=lambda item: item[:3])]


def _fill(
    jobs: Sequence[JobRecord],
    seats: list[DeviceRecord],
    working: Sequence[DeviceRecord],
    models: Mapping[str, str],
    cards: _Cards | None,
) -> tuple[list[Placement], list[JobRecord]]:
    placements: list[Placement] = []
    rest: list[JobRecord] = []
    for job in jobs:
        if job.lead_id is not None:
            placements += [] if cards is None else cards.seat(job, seats, models.get(job.job_id))
            continue
        best = _best_seat(job, seats, working, models.get(job.job_id))
        if best is None:
            rest.append(job)
            continue
        seats.remove(best)
        placements.append(Placement(job_id=job.job_id, attempt=job.attempt, device_id=best.device_id))
    return placements, rest


def _best_seat(
    job: JobRecord, seats: Sequence[DeviceRecord], working: Sequence[DeviceRecord], model: str | None
) -> DeviceRecord | None:
    able = [seat for seat in seats if can_run(seat, job)]
    avoid = frozenset(job.avoid_devices)
    if avoid and any(can_run(device, job) and device.device_id not in avoid for device in working):
        # Another device can run it, if not now: the one that failed it is often free just because it fails.
        able = [seat for seat in able if seat.device_id not in avoid]
    if not able:
        return None
    return min(
        able,
        key=lambda seat: (
            model is None or model not in seat.loaded,
            len(seat.loaded),
            seat.device_id,
        ),
    )


def to_withdraw(
    active: Sequence[ActiveAttempt],
    devices: Iterable[DeviceRecord],
    jobs: Mapping[str, JobRecord],
    *,
    max_publishes: int,
    resend_seconds: float,
) -> list[tuple[ActiveAttempt, str]]:
    """Return dispatched attempts to take back, with the reason.

    A device that may no longer be given work, a doorbell that nobody answers, or a job waiting behind another while
    an idle device could run it now.
    """
    by_id = {device.device_id: device for device in devices}
    running = {attempt.device_id for attempt in active if attempt.state is AttemptState.RUNNING}
    has = {attempt.device_id for attempt in active}
    idle = [device for device in by_id.values() if is_working(device) and device.device_id not in has]
    found: list[tuple[ActiveAttempt, str]] = []
    for attempt in active:
        if attempt.state is not AttemptState.DISPATCHED:
            continue
        device = by_id.get(attempt.device_id)
        if device is None or not is_working(device):
            found.append((attempt, f"{attempt.device_id} is {'gone' if device is None else device.state}"))
        elif attempt.device_id not in running:
            if attempt.publishes >= max_publishes and (attempt.unanswered_seconds or 0.0) > resend_seconds:
                found.append((attempt, f"{attempt.device_id} does not answer"))
        else:
            job = jobs.get(attempt.job_id)
            better = next((seat for seat in idle if job is not None and can_run(seat, job)), None)
            if better is not None:
                idle.remove(better)
                found.append((attempt, f"{better.device_id} can run it sooner"))
    return found
