"""The chips of a card measured together: threads stand for the processes, fake sessions for the chips."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from npuq.errors import DeviceBusyError, NpuqError, ToolMissingError
from npuq.states import JobKind
from tasks import card_benchmark
from tasks.card_meeting import CardIncompleteError, LeadGoneError, Patience
from tasks.card_window import Slice, card_rate
from tasks.idleness import ChipState
from tasks.protocols import InferenceSession
from tasks.steps import DeviceRef, StepOutcome, StepRequest
from tests.unit.tasks.chip_context import ChipContext

SHORT = Patience(meet_seconds=0.3, answer_seconds=5.0)
LONG = Patience(meet_seconds=5.0, answer_seconds=5.0)
BUSY = ChipState(health="OK", foreign_processes=("stranger (pid 1)",))


def _always(ms: float, _execution: int) -> float:
    return ms


class BrokenContext(ChipContext):
    """A chip that cannot load the model."""

    def session(self, model: Path) -> InferenceSession:
        """Refuse."""
        raise ToolMissingError(f"no room for {model.name}")


def contexts(folder: Path, chips: int, kind: type[ChipContext] = ChipContext, **params: Any) -> list[ChipContext]:
    """Return the contexts of a card's jobs, the leading one first; chip n takes n + 1 ms for each execution."""
    lead = secrets.token_hex(16)
    protocol = {"batch_size": 4, "precision": "fp16", "loops": 20, "scope": "card", "chips": chips} | params
    return [
        (kind if number else ChipContext)(
            StepRequest(
                job_id=lead if number == 0 else f"{number}" * 32,
                attempt=1,
                kind=JobKind.BENCHMARK,
                recipe="any",
                params=protocol | ({"companion": number, "lead": lead} if number else {}),
                inputs={"om": (folder / "m.om",)},
                input_digests={"om": ("0" * 64,)},
                workdir=folder,
                device=DeviceRef(
                    device_id=f"h1.npu2.{number}",
                    npu_id=2,
                    chip_id=number,
                    logic_id=number,
                    soc_version="Ascend310",
                    emulated=True,
                ),
            ),
            next_ms=partial(_always, number + 1.0),
        )
        for number in range(chips)
    ]


def run_all(jobs: list[ChipContext], patience: Patience = LONG) -> list[StepOutcome | NpuqError]:
    """Run the jobs at the same time; returns what became of each."""

    def one(context: ChipContext) -> StepOutcome | NpuqError:
        try:
            return card_benchmark.run(context, patience)
        except NpuqError as error:
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(one, jobs))


def test_the_cards_number_is_what_its_chips_did_together(tmp_path: Path) -> None:
    """Each chip by the guides' formula, summed; the others keep no result; processes of the card are no strangers."""
    jobs = contexts(tmp_path, 3)
    lead, *others = run_all(jobs)
    assert isinstance(lead, StepOutcome)
    assert others == [StepOutcome(), StepOutcome()]
    assert lead.quality == "clean"
    assert lead.metrics["throughput_fps"].value == pytest.approx(4000 / 1 + 4000 / 2 + 4000 / 3)
    chips = lead.facts["card"]["chips"]
    assert lead.facts["card"]["npu_id"] == 2
    assert [chip["device_id"] for chip in chips] == ["h1.npu2.0", "h1.npu2.1", "h1.npu2.2"]
    assert [chip["throughput_fps"] for chip in chips] == pytest.approx([4000, 2000, 4000 / 3])
    assert all(chip["executions"] > 0 for chip in chips)
    assert lead.facts["window_seconds"] > 0
    assert all(context.friends for context in jobs)


def test_a_card_with_one_chip_is_measured_alone(tmp_path: Path) -> None:
    """There is nobody to wait for."""
    (alone,) = run_all(contexts(tmp_path, 1, loops=None, max_seconds=1.0), SHORT)
    assert isinstance(alone, StepOutcome)
    assert alone.metrics["throughput_fps"].value == pytest.approx(4000)


def test_a_chip_of_another_card_is_sent_away(tmp_path: Path) -> None:
    """One that is left over from an earlier attempt, say: what it does is not this card's."""
    lead, other = contexts(tmp_path, 2)
    assert other.request.device is not None
    other.request = replace(other.request, device=replace(other.request.device, npu_id=3))
    led, accompanied = run_all([lead, other], SHORT)
    assert isinstance(led, CardIncompleteError)
    assert isinstance(accompanied, LeadGoneError)


def test_a_chip_that_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """Half a card is no card; the one that came hears that it is over."""
    lead, other, _ = contexts(tmp_path, 3)
    led, accompanied = run_all([lead, other], SHORT)
    assert isinstance(led, CardIncompleteError)
    assert "Only 2 of the card's 3 chips" in str(led)
    assert isinstance(accompanied, LeadGoneError)
    assert isinstance(run_all([other], SHORT)[0], LeadGoneError)


def test_a_chip_that_fails_is_told_of_at_once(tmp_path: Path) -> None:
    """The leading job does not wait out its limit, and says what the other one said."""
    led, accompanied = run_all(contexts(tmp_path, 2, kind=BrokenContext))
    assert isinstance(led, CardIncompleteError)
    assert "lost the chip h1.npu2.1: no room for m.om" in str(led)
    assert isinstance(accompanied, ToolMissingError)


@pytest.mark.parametrize("number", [0, 1])
def test_a_busy_chip_makes_the_card_busy(number: int, tmp_path: Path) -> None:
    """Nothing is burnt by it, and who is on the chip is said."""
    jobs = contexts(tmp_path, 2)
    jobs[number].states[0] = BUSY
    outcomes = run_all(jobs)
    assert isinstance(outcomes[0], DeviceBusyError)
    assert "stranger (pid 1)" in str(outcomes[0])
    assert isinstance(outcomes[1], DeviceBusyError if number else LeadGoneError)


def test_what_disturbs_one_chip_spoils_the_cards_number(tmp_path: Path) -> None:
    """It is kept, and marked with the chip."""
    jobs = contexts(tmp_path, 2)
    jobs[1].states[1] = replace(BUSY)
    lead = run_all(jobs)[0]
    assert isinstance(lead, StepOutcome)
    assert lead.quality == "contaminated"
    assert lead.facts["disturbed_by"].startswith("h1.npu2.1: other processes use it")


def _steady(start: float, stop: float, ms: float) -> list[Slice]:
    return [
        Slice(start=float(second), end=second + 1.0, executions=10, execute_ms=10 * ms)
        for second in range(int(start), int(stop))
    ]


def test_only_what_was_done_at_the_same_time_counts() -> None:
    """A chip that ran alone for a while was faster then, and that is left out."""
    alone = Slice(start=0.0, end=1.0, executions=10, execute_ms=1.0)
    rate = card_rate([[alone, *_steady(1, 5, 2.0)], _steady(1, 4, 4.0)], batch_size=8)
    assert rate is not None
    assert rate.window_seconds == pytest.approx(3.0)
    assert [chip.executions for chip in rate.chips] == [30, 30]
    assert [chip.fps for chip in rate.chips] == pytest.approx([4000, 2000])
    assert (rate.fps, rate.mean_ms) == pytest.approx((6000, 3.0))


def test_chips_that_took_turns_are_no_card() -> None:
    """There is no common window, or nothing whole in it."""
    assert card_rate([_steady(0, 2, 1.0), _steady(3, 5, 1.0)], batch_size=1) is None
    assert card_rate([_steady(0, 2, 1.0), []], batch_size=1) is None
