from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.attempt_log import MIN_LIMIT_BYTES, AttemptLog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AttemptLog]:
    with AttemptLog(tmp_path / "attempt.log", 4096) as log:
        yield log


def test_short_output_is_kept_whole(log: AttemptLog, tmp_path: Path) -> None:
    """What fits the limit is kept as it is, in memory and on disk."""
    log.write("one\n")
    log.write("zwei: äöü\n")
    assert log.text() == "one\nzwei: äöü\n"
    log.close()
    assert (tmp_path / "attempt.log").read_text() == "one\nzwei: äöü\n"


def test_long_output_keeps_beginning_and_end_and_says_how_much_is_missing(log: AttemptLog, tmp_path: Path) -> None:
    """A tool that prints far too much leaves its first and last words, within the limit."""
    lines = [f"line {number:06d}\n" for number in range(10_000)]
    for line in lines:
        log.write(line)
    log.close()
    text = (tmp_path / "attempt.log").read_text()
    assert text == log.text()
    assert text.startswith(lines[0])
    assert text.endswith(lines[-1])
    dropped = sum(map(len, lines)) - 4096
    assert f"[... {dropped} bytes of output not kept ...]" in text
    assert len(text) < 4096 + 100


def test_one_huge_write_is_cut_in_its_middle(log: AttemptLog) -> None:
    """The limit holds within one write as well."""
    log.write("a" * 2000 + "b" * 50_000 + "c" * 2000)
    assert log.text().startswith("a" * 2000 + "b")
    assert log.text().endswith("b" + "c" * 2000)
    assert len(log.text()) < 4096 + 100


def test_the_beginning_is_on_disk_before_the_end_is_known(log: AttemptLog, tmp_path: Path) -> None:
    """A worker that dies leaves the beginning of the log."""
    log.write("begun\n")
    assert (tmp_path / "attempt.log").read_text() == "begun\n"


def test_new_text_is_handed_out_once(log: AttemptLog) -> None:
    """Live readers get each part once, and only the newest of a flood."""
    log.write("one\n")
    assert log.take_new() == "one\n"
    assert log.take_new() == ""
    log.write("x" * 10_000 + "end")
    taken = log.take_new()
    assert taken.endswith("end")
    assert len(taken) < 2200


def test_late_output_is_dropped(log: AttemptLog) -> None:
    """After the end of the attempt nothing is added."""
    log.close()
    log.write("too late")
    log.close()
    assert log.text() == ""


def test_a_useless_limit_is_refused(tmp_path: Path) -> None:
    """A limit without room for two ends is a mistake."""
    with pytest.raises(ValueError, match="too short"):
        AttemptLog(tmp_path / "log", MIN_LIMIT_BYTES - 1)


@settings(deadline=None)  # the machine may be busy
@given(texts=st.lists(st.text(alphabet="aß\n", max_size=900), max_size=12))
def test_no_sequence_of_writes_exceeds_the_limit(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    """Whatever is written: complete if it fits, bounded if not, and never undecodable."""
    with AttemptLog(tmp_path_factory.mktemp("log") / "log", 2048) as log:
        for text in texts:
            log.write(text)
        whole = "".join(texts)
        if len(whole.encode()) <= 2048:
            assert log.text() == whole
        else:
            assert len(log.text().encode()) <= 2048 + 60
            assert "bytes of output not kept" in log.text()
