"""A worker's child process, for real: what it answers, what it knows, and how it and all it started end."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from npuq.errors import Blame, ErrorInfo
from npuq.states import JobKind
from tasks.steps import StepOutcome, StepRequest
from worker.attempt_log import AttemptLog
from worker.child import Child, ChildConfig, EndResult
from worker.child_protocol import Progress
from worker.process_keeper import session_members

FAKES = Path(__file__).parent / "child_fakes"
TIMEOUT = 30.0


class Bench:
    """Children of one test, and what they need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = AttemptLog(folder / "attempt.log", 2**20)
        self.progress: list[Progress] = []
        self.under_way = threading.Event()
        self._children: list[Child] = []

    def child(self, function: str, *, lock_fd: int | None = None, start: bool = True) -> Child:
        """Return a child whose export step is `function`."""
        child = Child(
            ChildConfig(
                name="child-under-test",
                device=None,
                lock_fd=lock_fd,
                env=dict(os.environ)
                | {"PYTHONPATH": str(FAKES), "NPUQ_DATABASE_URL": "secret", "ASCEND_RT_VISIBLE_DEVICES": "3"},
                feeders=1,
                sample_cache=self.folder / "samples",
                sample_cache_bytes=0,
                tool_timeout_seconds=5,
                steps={JobKind.EXPORT: f"fake_steps:{function}"},
            )
        )
        self._children.append(child)
        if start:
            child.start()
        return child

    def request(self, **params: object) -> StepRequest:
        """Return an attempt with these parameters."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        return StepRequest(
            job_id="0" * 32,
            attempt=1,
            kind=JobKind.EXPORT,
            recipe="none",
            params=params,
            inputs={},
            input_digests={},
            workdir=work,
        )

    def run(self, child: Child, timeout_seconds: float = TIMEOUT, **params: object) -> StepOutcome | ErrorInfo:
        """Run one attempt."""
        return child.run(self.request(**params), self.log, self._note, timeout_seconds)

    def run_aside(self, child: Child) -> Callable[[], StepOutcome | ErrorInfo]:
        """Start `run` in a thread, wait until the step reports progress; the returned function waits for the end."""
        answers: list[StepOutcome | ErrorInfo] = []
        thread = threading.Thread(target=lambda: answers.append(self.run(child)))
        thread.start()
        assert self.under_way.wait(TIMEOUT)

        def wait() -> StepOutcome | ErrorInfo:
            thread.join(TIMEOUT)
            return answers[0]

        return wait

    def close(self) -> None:
        """End all children."""
        for child in self._children:
            child.end(0)
        self.log.close()

    def _note(self, progress: Progress) -> None:
        self.progress.append(progress)
        self.under_way.set()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def members(session: int) -> list[int]:
    """Return the living processes of a session, the leader included."""
    leader = [] if is_zombie(session) else [session]
    return leader + [process.pid for process in session_members(session)]


def is_zombie(pid: int) -> bool:
    """Return whether a process has ended and waits to be reaped, or is gone."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_an_attempt_comes_back_with_outcome_log_and_progress(bench: Bench) -> None:
    """Everything a step printed, native code included, is in the log when `run` returns."""
    child = bench.child("echo")
    outcome = bench.run(child, lines=["hello", "50 %\r100 %"])
    assert isinstance(outcome, StepOutcome)
    assert outcome.metrics["top1"].value == 70.5
    assert outcome.outputs["onnx"][0].read_bytes() == b"onnx"
    assert outcome.facts["cwd"] == str(bench.folder / "work")
    assert bench.log.text() == "hello\n100 %\na line from native code\n"
    assert bench.progress == [Progress(done=1, total=2, unit="images"), Progress(done=2, total=2, unit="images")]


def test_a_child_knows_no_credentials_and_no_renumbering(bench: Bench) -> None:
    """Its environment is an allow-list."""
    outcome = bench.run(bench.child("echo"), lines=[])
    assert isinstance(outcome, StepOutcome)
    assert outcome.facts["environment"]["PATH"] == os.environ["PATH"]
    assert not {"NPUQ_DATABASE_URL", "ASCEND_RT_VISIBLE_DEVICES"} & set(outcome.facts["environment"])


def test_packages_of_the_same_name_elsewhere_do_not_shadow_ours(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the current directory nor PYTHONPATH can replace `worker` or `tasks`."""
    for name in ("worker", "tasks", "npuq"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"{__name__}.FAKES", f"{tmp_path}:{FAKES}")
    outcome = bench.run(bench.child("echo"), lines=[])
    assert isinstance(outcome, StepOutcome)
    assert Path(outcome.facts["worker"]).is_relative_to(Path(__file__).parents[2])


def test_a_child_is_kept_for_the_next_attempt(bench: Bench) -> None:
    """The same process works on attempt after attempt until it is ended."""
    child = bench.child("pid")
    pids = [outcome.facts["pid"] for _ in range(2) if isinstance(outcome := bench.run(child), StepOutcome)]
    assert pids == [child.pid, child.pid]
    assert child.alive
    assert child.end(TIMEOUT) is EndResult.GONE
    assert not child.alive


@pytest.mark.parametrize(
    ("function", "code", "blame", "detail"),
    [
        ("refuse", "dataset", Blame.INPUT, ""),
        ("stumble", "internal", Blame.HOST, "ZeroDivisionError: nobody foresaw this"),
        ("unspeakable", "internal", Blame.HOST, "not JSON serializable"),
    ],
)
def test_an_exception_comes_back_as_a_value(bench: Bench, function: str, code: str, blame: Blame, detail: str) -> None:
    """The child survives whatever a step raises."""
    child = bench.child(function)
    error = bench.run(child)
    assert isinstance(error, ErrorInfo)
    assert (error.code, error.blame) == (code, blame)
    assert detail in error.detail
    assert child.alive


def test_a_killed_child_is_noticed_and_named(bench: Bench) -> None:
    """SIGKILL in the middle of a step ends `run` with what happened, and leaves nothing behind."""
    child = bench.child("hang")
    wait = bench.run_aside(child)
    os.kill(child.pid, signal.SIGKILL)
    error = wait()
    assert isinstance(error, ErrorInfo)
    assert (error.code, error.blame, error.retry) == ("child_lost", Blame.HOST, True)
    assert "SIGKILL" in error.message
    assert error.detail.startswith("tool ")
    assert not child.alive
    assert members(child.pid) == []


def test_a_crash_keeps_the_last_words(bench: Bench) -> None:
    """What was printed before an abort is in the log and in the error."""
    error = bench.run(bench.child("crash"))
    assert isinstance(error, ErrorInfo)
    assert "SIGABRT" in error.message
    assert "EL0004: last words" in error.detail
    assert "EL0004: last words\n" in bench.log.text()


def test_end_frees_everything_though_step_and_tool_ignore_term(bench: Bench) -> None:
    """A cancel ends a running step and the tool below it, and the blocked `run` returns."""
    child = bench.child("hang")
    wait = bench.run_aside(child)
    session = child.pid
    assert len(members(session)) == 2
    assert child.end(0.2) is EndResult.GONE
    error = wait()
    assert isinstance(error, ErrorInfo)
    assert "ended by its worker" in error.message
    assert members(session) == []
    assert child.end(0) is EndResult.GONE


def test_what_cannot_be_killed_is_reported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that survives KILL, as in a driver call, makes the chip unusable: the caller is told."""
    child = bench.child("hang")
    wait = bench.run_aside(child)
    with monkeypatch.context() as patch:
        patch.setattr("worker.process_keeper.KILLED_WITHIN_SECONDS", 1.0)
        patch.setattr(psutil.Process, "kill", lambda _process: None)
        assert child.end(0.1) is EndResult.UNKILLABLE
        assert isinstance(wait(), ErrorInfo)
    for pid in members(child.pid):
        os.kill(pid, signal.SIGKILL)


def test_a_stopped_child_can_be_ended(bench: Bench) -> None:
    """A process that is stopped cannot handle TERM; KILL does not ask."""
    child = bench.child("pid")
    os.kill(child.pid, signal.SIGSTOP)
    assert child.end(0.1) is EndResult.GONE


def test_a_step_beyond_its_limit_is_ended(bench: Bench) -> None:
    """The limit is the worker's, because a chip call cannot be interrupted from within."""
    child = bench.child("wait_for_tool")
    error = bench.run(child, timeout_seconds=1.0)
    assert isinstance(error, ErrorInfo)
    assert error.code == "step_timeout"
    assert members(child.pid) == []


def test_a_dead_child_answers_at_once(bench: Bench) -> None:
    """Running on a child that is gone is an error value, not a hang."""
    child = bench.child("pid")
    child.end(0)
    error = bench.run(child)
    assert isinstance(error, ErrorInfo)
    assert error.code == "child_lost"


def test_an_end_before_the_start_counts(bench: Bench) -> None:
    """A cancel that comes while the child is being started is not lost."""
    child = bench.child("pid", start=False)
    assert child.end(0) is EndResult.GONE
    child.start()
    assert not child.alive
    assert isinstance(bench.run(child), ErrorInfo)
    assert members(child.pid) == []


def test_the_lock_is_held_until_the_child_is_gone(bench: Bench, tmp_path: Path) -> None:
    """The kernel frees an inherited lock with its last holder, not with the worker's own descriptor."""
    lock = os.open(tmp_path / "chip.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    child = bench.child("pid", lock_fd=lock)
    os.close(lock)
    with (tmp_path / "chip.lock").open() as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.end(0)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


PARENT = """
import sys, threading
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_child
bench = test_child.Bench(Path({folder!r}))
child = bench.child("wait_for_tool")
threading.Thread(target=bench.run, args=(child,), daemon=True).start()
assert bench.under_way.wait(30)
print(child.pid, flush=True)
threading.Event().wait()
"""


def test_child_and_tool_die_with_the_worker(tmp_path: Path) -> None:
    """SIGKILL of a worker leaves neither its child nor the tool that runs below it."""
    source = PARENT.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", source], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        session = int(parent.stdout.readline())
        processes = [psutil.Process(pid) for pid in members(session)]
        parent.kill()
    assert len(processes) == 2
    _, alive = psutil.wait_procs(processes, timeout=TIMEOUT)
    assert [process.pid for process in alive if not is_zombie(process.pid)] == []
