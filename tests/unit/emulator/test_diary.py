import os
from pathlib import Path

import pytest

from emulator.diary import Event, note, read
from emulator.home import Home


def test_entries_say_who_did_what_where(home: Home) -> None:
    """Process, chip, model, folder and both clocks are in every entry."""
    note(home, Event.RUN_START, device=1, model="m/12345678", batch=4, loop=2)
    note(home, Event.ATC_START)
    run, conversion = read(home.diary_path)
    assert (run["event"], run["device"], run["model"], run["batch"], run["loop"]) == (
        "run_start",
        1,
        "m/12345678",
        4,
        2,
    )
    assert (run["pid"], run["cwd"]) == (os.getpid(), str(Path.cwd()))
    assert run["monotonic"] <= conversion["monotonic"]
    assert conversion["device"] is None


def test_a_torn_last_line_is_dropped(home: Home) -> None:
    """A writer that was killed costs its own entry only."""
    note(home, Event.RUN_START, device=0)
    with home.diary_path.open("a") as diary:
        diary.write('{"event": "run_e')
    assert [entry["event"] for entry in read(home.diary_path)] == ["run_start"]


def test_a_damaged_line_inside_is_an_error(home: Home) -> None:
    """A checker must not pass over what it cannot read."""
    home.diary_path.write_text("{broken\n")
    note(home, Event.RUN_START)
    with pytest.raises(ValueError, match="Expecting"):
        read(home.diary_path)


def test_no_diary_is_an_empty_one(tmp_path: Path) -> None:
    """Nothing happened yet."""
    assert read(tmp_path / "diary.jsonl") == []


def test_a_removed_folder_does_not_stop_the_diary(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work folders are cleared away while processes end."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    note(home, Event.SESSION_CLOSE)
    assert read(home.diary_path)[0]["cwd"] is None
