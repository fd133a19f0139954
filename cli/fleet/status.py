"""What `npuq status` tells: the processes of this home, the devices of the fleet, and what is queued."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from cli.fleet.embedded import EmbeddedFleet, ProcessStatus
from cli.output import Column, View
from cli.session import Session
from cli.text_tables import aligned
from cli.views import counts_in_words
from cli.words import ago, counted, iso
from db import devices, leadership, runs
from db.records import DeviceRecord
from npuq.errors import DatabaseError
from npuq.states import DeviceKind, DeviceState, JobState


@dataclass(frozen=True, kw_only=True)
class FleetStatus:
    """A fleet at a moment.

    Attributes:
        home: NPUQ_HOME.
        processes: those that `npuq up` keeps here.
        problem: why the database cannot be asked, "" when it can.
        led: a scheduler leads, here or elsewhere.
        npus: the chips.
        open_runs: runs that are not over.
        open_jobs: their jobs by state.
        outbox: submissions that nobody has taken yet.
    """

    home: str
    processes: Sequence[ProcessStatus]
    problem: str = ""
    led: bool = False
    npus: Sequence[DeviceRecord] = ()
    open_runs: int = 0
    open_jobs: Mapping[JobState, int] = field(default_factory=dict)
    outbox: int = 0
    embedded: bool = False
    """The fleet lives here or nowhere: no other broker is set."""

    @property
    def up(self) -> bool:
        """Tell whether work submitted now would be taken: a scheduler leads, and nothing started here has died."""
        started_here = [process.record is not None for process in self.processes]
        return self.led and (all(started_here) or not (any(started_here) or self.embedded))


def read_status(session: Session) -> FleetStatus:
    """Return the status of the fleet; never raises for one that is away."""
    home = str(session.settings.home)
    processes = EmbeddedFleet(session.settings, lambda _line: None).processes()
    outbox = session.client.flush_outbox()
    try:
        with session.read() as connection:
            open_runs = runs.find(connection, only_open=True, limit=1000)
            jobs: Counter[JobState] = Counter()
            for run in open_runs:
                jobs.update(run.jobs)
            return FleetStatus(
                embedded=session.settings.broker_url is None,
                home=home,
                processes=processes,
                led=leadership.leader(connection) is not None,
                npus=devices.find(
                    connection, suspect_seconds=session.settings.timing.suspect_seconds, kind=DeviceKind.NPU
                ),
                open_runs=len(open_runs),
                open_jobs=jobs,
                outbox=outbox,
            )
    except DatabaseError as error:
        return FleetStatus(
            embedded=session.settings.broker_url is None,
            home=home,
            processes=processes,
            problem=str(error),
            outbox=outbox,
        )


def status_document(status: FleetStatus) -> dict[str, Any]:
    """Return the JSON form."""
    return {
        "home": status.home,
        "up": status.up,
        "problem": status.problem or None,
        "scheduler_leads": status.led,
        "processes": [
            {
                "role": process.role,
                "pid": None if process.record is None else process.record.pid,
                "started_at": None if process.record is None else iso(_started(process.record.create_time)),
                "log": None if process.record is None else process.record.log,
            }
            for process in status.processes
        ],
        "devices": dict(Counter(device.state.value for device in status.npus)),
        "open_runs": status.open_runs,
        "jobs": {state.value: count for state, count in status.open_jobs.items()},
        "outbox": status.outbox,
    }


STATUS_FIELDS: Final = (
    *("home", "up", "problem", "scheduler_leads", "processes"),
    *(f"devices.{state.value}" for state in DeviceState),
    "open_runs",
    *(f"jobs.{state.value}" for state in JobState),
    "outbox",
)


def status_view() -> View[FleetStatus]:
    """Return the view of the one fleet of a home; its name is the home."""
    return View(
        columns=(
            Column(header="HOME", text=lambda status: status.home),
            Column(header="UP", text=lambda status: "yes" if status.up else "no"),
        ),
        document=status_document,
        fields=STATUS_FIELDS,
        name=lambda status: status.home,
        empty="",
    )


def as_lines(status: FleetStatus, now: datetime) -> str:
    """Return the status for people."""
    rows = [["home", status.home]]
    for process in status.processes:
        if process.record is None:
            rows.append([process.role, "not running"])
        else:
            since = ago(_started(process.record.create_time), now)
            rows.append([process.role, f"running, started {since}, pid {process.record.pid}, {process.record.log}"])
    if status.problem:
        rows.append(["problem", status.problem])
    else:
        rows.append(["lead", "a scheduler leads" if status.led else "no scheduler leads: start one with npuq up"])
        rows.append(["chips", _chips(status.npus)])
        rows.append(["open runs", f"{status.open_runs} ({counts_in_words(status.open_jobs)})"])
    if status.outbox:
        rows.append(["outbox", f"{counted(status.outbox, 'submission')} that nobody has taken yet"])
    return aligned(rows, [False, False])


def _chips(npus: Sequence[DeviceRecord]) -> str:
    if not npus:
        return "none"
    states = Counter(device.state.value for device in npus)
    emulated = " (emulated)" if all(device.emulated for device in npus) else ""
    return f"{', '.join(f'{count} {state}' for state, count in sorted(states.items()))}{emulated}"


def _started(create_time: float) -> datetime:
    return datetime.fromtimestamp(create_time, UTC)
