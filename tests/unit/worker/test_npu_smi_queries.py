import pytest

from npuq.errors import Blame
from worker.npu_smi import (
    UNSUPPORTED,
    NpuSmiError,
    ProcessMemory,
    parse_board,
    parse_common,
    parse_ecc,
    parse_health,
    parse_memory,
    parse_power,
    parse_proc_mem,
    parse_temp,
    parse_usages,
)

DUO_USAGES = """\
\tNPU ID                         : 2
\tChip Count                     : 2

\tDDR Capacity(MB)               : 44280
\tAicore Usage Rate(%)           : 7
\tChip ID                        : 0

\tDDR Capacity(MB)               : 43693
\tAicore Usage Rate(%)           : NA
\tChip ID                        : 1
"""
DUO_COMMON = """\
NPU ID : 2
Chip Count : 2

Chip ID : 0
Temperature(C) : 46
NPU Real-time Power(W) : 69.0

Chip ID : 1
Temperature(C) : -3

Chip ID : 2
Chip Name : mcu
Temperature(C) : 99

Chip Name : MCU
Temperature(C) : 98
"""
BOARD = """\
        NPU ID                         : 0
        Chip ID                        : 0
        Chip Name                      : {name}
        Die ID                         : {die}
        PCIe Bus Info                  : 0000:61:00.0
{more}"""


def test_blocks_that_end_with_their_chip() -> None:
    """`-t usages` names the chip last; `NA` is None."""
    card = parse_usages(DUO_USAGES)
    assert card.npu_id == 2
    assert card.chips == {
        0: {"DDR Capacity(MB)": 44280, "Aicore Usage Rate(%)": 7},
        1: {"DDR Capacity(MB)": 43693, "Aicore Usage Rate(%)": None},
    }


def test_blocks_that_begin_with_their_chip_and_the_controllers_own() -> None:
    """`-t common` names the chip first; the controller is left out, with and without a chip id of its own."""
    card = parse_common(DUO_COMMON)
    assert card.chips == {0: {"Temperature(C)": 46, "NPU Real-time Power(W)": 69.0}, 1: {"Temperature(C)": -3}}
    assert card.fields == {}


def test_blocks_survive_lost_blank_lines() -> None:
    """What separates chips is that a name comes again, not the blank line."""
    for parse, text in ((parse_usages, DUO_USAGES), (parse_common, DUO_COMMON)):
        assert parse(text.replace("\n\n", "\n")) == parse(text)


@pytest.mark.parametrize("parse", [parse_memory, parse_ecc, parse_power, parse_temp])
def test_an_answer_about_one_chip_need_not_name_it(parse: object) -> None:
    """Asked with `-c`, the tool prints the numbers alone."""
    card = parse("\tSingle-bit Error Count                   : 0\n\tPower Dissipation(W) : 12.8\n")  # type: ignore[operator]
    assert card.npu_id is None
    assert card.of_chip(1) == {"Single-bit Error Count": 0, "Power Dissipation(W)": 12.8}


def test_a_chip_that_is_not_named_is_unknown() -> None:
    """Numbers of other chips are never taken for it."""
    assert parse_usages(DUO_USAGES).of_chip(7) == {}


@pytest.mark.parametrize(
    ("name", "more", "soc"),
    [
        ("310P3", "Chip Type : Ascend\n", "Ascend310P3"),
        ("910B3", "Chip Type : Ascend\nNPU Name : NA\n", "Ascend910B3"),
        ("Ascend910", "NPU Name : 9391\n", "Ascend910_9391"),
        ("Ascend910_9391", "", "Ascend910_9391"),
        ("Ascend950", "NPU Name : 9599\n", "Ascend950_9599"),
        ("xxx", "", None),
        ("MCU", "", None),
    ],
)
def test_soc_version_of_a_board(name: str, more: str, soc: str | None) -> None:
    """A3 and 950 are named by two lines, older chips by one."""
    assert parse_board(BOARD.format(name=name, die="NA", more=more)).soc_version == soc


def test_die_of_a_board() -> None:
    """VDie ID or Die ID as printed; colons in values are values; NA is none."""
    board = parse_board(BOARD.format(name="310B1", die="V1,010A88C4 00A1A210", more=""))
    assert board.die_id == "V1,010A88C4 00A1A210"
    assert board.fields["PCIe Bus Info"] == "0000:61:00.0"
    assert parse_board(BOARD.format(name="310B1", die="NA", more="")).die_id is None
    assert parse_board(BOARD.format(name="910B3", die="NA", more="VDie ID : 42C7 20B0\n")).die_id == "42C7 20B0"


def test_health_with_its_codes() -> None:
    """Several codes may stand on a line; information is the driver's sentence."""
    sick = parse_health(" Health Status : Alarm\n Error Code : 80E3A203, 0x40F84E00\n Error Information : node lost\n")
    assert (sick.health, sick.error_codes) == ("Alarm", ("80E3A203", "0x40F84E00"))
    assert sick.error_information == "node lost"
    with pytest.raises(NpuSmiError, match="unknown"):
        parse_health("Error Code : NA\n")


def test_processes_on_one_line_and_on_their_own() -> None:
    """Names may be cut or empty; a word about no process is an answer, silence is none."""
    line = (
        "Process id:7  Process name:VLLMEngineCor     Process memory(MB):55 "
        "Process id:8  Process name:  Process memory(MB):NA"
    )
    assert parse_proc_mem(line).processes == (
        ProcessMemory(pid=7, name="VLLMEngineCor", memory_mb=55),
        ProcessMemory(pid=8, name="", memory_mb=None),
    )
    spaced = "NPU ID : 0\nProcess id : 7\nProcess name : a b\nProcess memory(MB) : 3\n"
    assert parse_proc_mem(spaced).processes == (ProcessMemory(pid=7, name="a b", memory_mb=3),)
    assert parse_proc_mem("No process in device.\n").processes == ()
    with pytest.raises(NpuSmiError, match="unknown"):
        parse_proc_mem("NPU ID : 0\n")


@pytest.mark.parametrize("text", ["This device does not support querying proc-mem.", "Error parameter of -t"])
def test_a_refusal_is_told_from_an_unknown_state(text: str) -> None:
    """Asking again is of no use, and nothing is concluded."""
    for parse in (parse_proc_mem, parse_usages, parse_board, parse_health):
        with pytest.raises(NpuSmiError) as caught:
            parse(text)
        assert (caught.value.info.code, caught.value.info.retry) == (UNSUPPORTED, False)
        assert caught.value.info.blame is Blame.HOST


def test_a_line_that_is_not_supported_leaves_the_others() -> None:
    """A board without a slot has a die all the same; what is not supported is not there, and no value."""
    board = parse_board(
        BOARD.format(name="310P3", die="Not supported", more="Slot ID : Not Support\nVDie ID : 1 2 3\n")
    )
    assert (board.die_id, board.soc_version) == ("1 2 3", "Ascend310P3")
    assert "Slot ID" not in board.fields
    card = parse_common("Chip ID : 0\nTemperature(C) : -5\nNPU Real-time Power(W) : not supported\n")
    assert card.of_chip(0) == {"Temperature(C)": -5}
    assert parse_health("Health Status : OK\nError Code : unsupported\n").error_codes == ()
    assert parse_proc_mem(
        "This tool does not support names.\nProcess id:7 Process name: Process memory(MB):5"
    ).processes


@pytest.mark.parametrize(
    "text",
    [
        "NPU ID : 0\nChip ID : 0\nThis device does not support querying board.",
        "NPU ID : 0\nDie ID : Not supported\nChip Name : not supported\n",
        "Error parameter of -t\nUsage: npu-smi info -t type [Options...]\n  -i %d : card id\n",
    ],
)
def test_where_nothing_is_supported_the_query_is_refused(text: str) -> None:
    """The numbers that were asked for, and the tool's help, are no answer."""
    for parse in (parse_board, parse_common, parse_proc_mem):
        with pytest.raises(NpuSmiError) as caught:
            parse(text)
        assert caught.value.info.code == UNSUPPORTED


def test_a_driver_that_is_down_is_no_answer() -> None:
    """Its line holds a colon-free failure, and must not become a reading."""
    with pytest.raises(NpuSmiError, match="driver"):
        parse_usages("dcmi module initialize failed. ret is -8005\n")
