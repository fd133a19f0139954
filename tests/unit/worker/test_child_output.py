import errno
import os

import pytest

from worker.child_output import MAX_LINE_CHARACTERS, ChildOutput, LineSplitter, clean_line

MARKER = f"npuq-end-{'0' * 32}"


class Collected:
    """A log sink that keeps everything."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        """Keep the text."""
        self.text += text


@pytest.mark.parametrize(
    ("line", "cleaned"),
    [
        ("plain", "plain"),
        ("\rloop inference exec: (1/3)\rloop inference exec: (3/3)", "loop inference exec: (3/3)"),
        ("windows\r", "windows"),
        ("\x1b[31mred\x1b[0m \x07bell\ttab", "red bell\ttab"),
        ("", ""),
    ],
)
def test_lines_are_cleaned(line: str, cleaned: str) -> None:
    """Progress that rewrites its line shows its last state; terminal codes never reach a reader's terminal."""
    assert clean_line(line) == cleaned


def test_characters_may_arrive_in_pieces() -> None:
    """A read may end within a character or a line."""
    splitter = LineSplitter()
    data = "grün\nblau".encode()
    lines = [line for index in range(len(data)) for line in splitter.feed(data[index : index + 1])]
    assert lines == ["grün"]
    assert splitter.finish() == ["blau"]
    assert splitter.finish() == []


def test_endless_lines_are_bounded() -> None:
    """Neither an endless line nor endless progress without a newline fills the memory."""
    splitter = LineSplitter()
    assert sum(len(line) for line in splitter.feed(b"x" * 20_000)) == 20_000
    for number in range(5_000):
        splitter.feed(b"\rprogress %d" % number)
    assert len(splitter._rest) <= MAX_LINE_CHARACTERS
    assert splitter.finish() == ["progress 4999"]


def test_output_before_a_marker_is_in_the_log_and_the_marker_is_not() -> None:
    """The marker also ends a line that has no newline."""
    reading, writing = os.pipe()
    output, sink = ChildOutput("test", reading), Collected()
    output.attach(sink)
    os.write(writing, f"first\nsecond{MARKER}\n{MARKER}\n".encode())
    assert output.wait_for_marker(MARKER, 10)
    assert sink.text == "first\nsecond\n"
    assert output.tail() == "first\nsecond"
    os.close(writing)
    assert output.wait_closed(10)


class FullDisk:
    """A log sink that cannot write."""

    def write(self, text: str) -> None:
        """Refuse."""
        raise OSError(errno.ENOSPC, f"No space left for {text!r}")


def test_a_log_that_cannot_be_written_does_not_stop_the_child() -> None:
    """The pipe is read on, and what was printed can still be asked for."""
    reading, writing = os.pipe()
    output = ChildOutput("test", reading)
    output.attach(FullDisk())
    os.write(writing, f"first\nEL0004: second\n{MARKER}\n".encode())
    assert output.wait_for_marker(MARKER, 10)
    assert "first" in output.take_recent()
    os.close(writing)
    assert output.wait_closed(10)


def test_recent_lines_are_those_since_the_last_question() -> None:
    """An error is classified by what was printed for it, not by an earlier one that was overcome."""
    reading, writing = os.pipe()
    output = ChildOutput("test", reading)
    output.attach(Collected())
    markers = [f"npuq-tail-{number:032x}" for number in range(2)]
    for marker, line in zip(markers, ("EL0004: overcome", "needsize"), strict=True):
        os.write(writing, f"{line}\n{marker}\n".encode())
        assert output.wait_for_marker(marker, 10)
        assert output.take_recent() == line
    assert output.tail() == "EL0004: overcome\nneedsize"
    os.close(writing)
    assert output.wait_closed(10)


def test_lines_before_the_first_attempt_open_its_log() -> None:
    """What a child prints while it starts is not lost."""
    reading, writing = os.pipe()
    output, sink = ChildOutput("test", reading), Collected()
    os.write(writing, f"a warning at start\n{MARKER}\n".encode())
    assert output.wait_for_marker(MARKER, 10)
    output.attach(sink)
    os.write(writing, b"unfinished")
    os.close(writing)
    assert output.wait_closed(10)
    assert sink.text == "a warning at start\nunfinished\n"
    assert not output.wait_for_marker(MARKER, 0)
