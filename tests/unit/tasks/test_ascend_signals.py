from pathlib import Path

import pytest

from npuq.errors import Blame, ConfigError
from tasks.ascend_signals import (
    OURS,
    OWN_FILE_VARIABLE,
    USUAL_QUARANTINE_AFTER,
    Retry,
    Tool,
    quarantine_after,
    read_signals,
    signals,
)

ROW = """\
[[runtime]]
code = "our_lab_fan"
patterns = ['fan \\d+ stopped', '507015']
blame = "host"
retry = "no"
advice = "Call the lab."
"""


def test_a_persons_rows_come_first(tmp_path: Path) -> None:
    """A known text gets their meaning, everything else keeps ours; a file that is not there changes nothing."""
    own = tmp_path / "own.toml"
    assert signals(Tool.RUNTIME, {OWN_FILE_VARIABLE: str(tmp_path / "absent.toml")}) == signals(Tool.RUNTIME, {})
    own.write_text(ROW)
    rows = signals(Tool.RUNTIME, {OWN_FILE_VARIABLE: str(own)})
    assert (rows[0].code, rows[0].blame, rows[0].retry) == ("our_lab_fan", Blame.HOST, Retry.NO)
    assert rows[0].matches("fan 3 stopped, 507015")
    assert not rows[0].matches("507015")
    assert rows[1:] == signals(Tool.RUNTIME, {})


def test_a_person_may_mean_error_codes_only(tmp_path: Path) -> None:
    """In angle brackets a number is a code, and no process id."""
    own = tmp_path / "own.toml"
    own.write_text(ROW.replace("'507015'", "'<507015|507016>'"))
    (row,) = read_signals(own)[Tool.RUNTIME]
    assert row.matches("fan 3 stopped, ret = 507016")
    assert not row.matches("fan 3 stopped [PID: 507016]")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("'507015'", "'('"), "no regular expression"),
        (('"host"', '"weather"'), "blame"),
        (('"no"', '"maybe"'), "retry"),
        (("advice", "advise"), "advi"),
        (("[[runtime]]", "[[gpu]]"), "gpu"),
        (("[[runtime]]", "[["), "own.toml"),
    ],
)
def test_a_damaged_file_is_named_with_its_row(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    """What is wrong, and where."""
    own = tmp_path / "own.toml"
    own.write_text(ROW.replace(*change))
    with pytest.raises(ConfigError, match=words) as caught:
        read_signals(own)
    assert str(own) in str(caught.value)


def test_how_often_a_chip_may_fail() -> None:
    """Dead ones never again, one that cannot be opened twice, what may be the model's fault does not count."""
    assert quarantine_after("device_lost") == 1
    assert quarantine_after("device_open") == 2
    assert quarantine_after("device_exception") == 0
    assert quarantine_after("child_lost") == USUAL_QUARANTINE_AFTER


def test_every_row_says_what_to_do() -> None:
    """Every advice is a sentence."""
    for tool in Tool:
        for row in read_signals(OURS)[tool]:
            assert row.advice[-1] in ".?"
            assert len(row.advice) > 20
