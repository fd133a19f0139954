import os
from pathlib import Path

import pytest

from npuq.outbox import Outbox
from tests.services.world import run_spec


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """Return an outbox whose folder does not exist yet."""
    return Outbox(tmp_path / "outbox")


def test_a_submission_is_kept_until_it_is_removed(outbox: Outbox) -> None:
    """Put twice it is there once, as it was; removing it twice is no error."""
    spec = run_spec()
    assert list(outbox.pending()) == []
    outbox.put(spec)
    outbox.put(spec)
    assert list(outbox.pending()) == [spec]
    outbox.remove(spec.run_id)
    outbox.remove(spec.run_id)
    assert list(outbox.pending()) == []


def test_older_submissions_come_first(outbox: Outbox) -> None:
    """Run ids are ordered by time, and so are their files."""
    specs = [run_spec() for _ in range(3)]
    for spec in reversed(specs):
        outbox.put(spec)
    assert [spec.run_id for spec in outbox.pending()] == sorted(spec.run_id for spec in specs)


def test_a_crash_while_writing_leaves_no_half_submission(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name appears when the content is durable; the same command put again succeeds."""
    spec = run_spec()

    def power_cut(_descriptor: int) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", power_cut)
        with pytest.raises(OSError, match="power cut"):
            outbox.put(spec)
    assert list(outbox.pending()) == []
    outbox.put(spec)
    assert list(Outbox(tmp_path / "outbox").pending()) == [spec]


def test_a_submission_that_was_never_sent_is_sent_by_a_later_command(outbox: Outbox) -> None:
    """After a crash between put and send nothing says that it was sent."""
    spec = run_spec()
    outbox.put(spec)
    assert outbox.seconds_since_sent(spec.run_id) is None
    outbox.mark_sent(spec.run_id)
    sent = outbox.seconds_since_sent(spec.run_id)
    assert sent is not None
    assert sent >= 0
    outbox.remove(spec.run_id)
    assert outbox.seconds_since_sent(spec.run_id) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"run_id": 1}'])
def test_a_file_that_is_no_submission_is_set_aside(outbox: Outbox, tmp_path: Path, content: bytes) -> None:
    """It does not keep the others waiting, and it is not deleted: a person may look at it."""
    spec = run_spec()
    outbox.put(spec)
    bad = tmp_path / "outbox" / "000.json"
    bad.write_bytes(content)
    assert list(outbox.pending()) == [spec]
    assert not bad.exists()
    assert (tmp_path / "outbox" / "000.bad").read_bytes() == content


def test_of_sending_and_taking_back_at_once_one_gives_way(outbox: Outbox) -> None:
    """Whoever dies or is overtaken in between: what may have been sent is never said to be taken back."""
    spec = run_spec()
    outbox.put(spec)
    assert outbox.begin_sending(spec.run_id)  # and dies after it has sent
    assert not outbox.take_back(spec)
    assert list(outbox.pending()) == [spec]
    outbox.was_not_sent(spec.run_id)
    assert outbox.take_back(spec)
    assert not outbox.begin_sending(spec.run_id)  # read it before it was taken back
    assert list(outbox.pending()) == []
    assert outbox.seconds_since_sent(spec.run_id) is None
