import contextlib
from collections.abc import Callable
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npuq.errors import Blame
from worker import npu_smi, npu_smi_values
from worker.npu_smi import (
    CardCount,
    MapRow,
    NpuSmiError,
    NpuSmiInfo,
    PhysicalId,
    parse_info,
    parse_list,
    parse_map,
    soc_version,
)

DUO = """\
someone@host:~$ npu-smi info
+------------------------------------------------------------+
| npu-smi 24.1.0              Version: 24.1.1                |
+---------------+-----------------+--------------------------+
| NPU     Name  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device| Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============+=================+==========================+
| 3       310P3 | OK              | NA           -                 12    / 40            |
| 0       0     | 0000:05:00.0    | 7            902/ 44280      |
| 3       310P3 | Alarm           | 31.5         61                0     / 0             |
| 1       1     | 0000:05:00.0    | NA           NA   / 43693                            |
+===============+=================+==========================+
| NPU     Chip  | Process id      | Process name             | Process memory(MB) | Process id in container |
+===============+=================+==========================+
| 3       0     | 71              | python                   | 500                | 9                       |
| 3       1     | 72              |                          | NA                 | -                       |
"""
MAP = """\
NPU ID       Chip ID      Chip Logic ID   Chip Phy-ID   Chip Name
5            0            2               4             Ascend 310P3
5            1            -               -             Mcu
"""


#: Every parser that takes any text.
PARSERS: tuple[Callable[[str], object], ...] = tuple(
    getattr(npu_smi, name) for name in npu_smi.__all__ if name.startswith("parse_")
)


def test_numbers_are_found_by_their_headers() -> None:
    """Absent values are None, a pair may be glued to its slash, and both chips of a card are there."""
    info = parse_info(DUO)
    first, second = info.chips
    assert (info.tool_version, info.driver_version) == ("24.1.0", "24.1.1")
    assert (first.power_w, first.temp_c, first.hugepages_used, first.hugepages_total) == (None, None, 12, 40)
    assert (first.memory_used_mb, first.memory_total_mb, first.aicore_percent) == (902, 44280, 7)
    assert (second.health, second.power_w, second.memory_used_mb, second.aicore_percent) == ("Alarm", 31.5, None, None)
    assert (second.npu_id, second.chip_id, second.device_id, second.bus_id) == (3, 1, 1, "0000:05:00.0")


def test_processes_may_lack_name_and_memory() -> None:
    """The fifth column of new drivers is the pid inside the container."""
    named, unnamed = parse_info(DUO).processes
    assert (named.pid, named.name, named.memory_mb, named.container_pid) == (71, "python", 500, 9)
    assert (unnamed.pid, unnamed.name, unnamed.memory_mb, unnamed.container_pid) == (72, "", None, None)


def test_process_table_keyed_by_card_only() -> None:
    """On 950 the process table has no chip column."""
    head, _, _ = DUO.partition("| NPU     Chip ")
    process = parse_info(
        head + "| NPU ID | Process id | Process name | Process memory(MB) |\n| 3 | 8 | python | 77 |\n"
    ).processes[0]
    assert (process.npu_id, process.chip_id, process.pid, process.memory_mb) == (3, None, 8, 77)


def test_missing_process_table_is_not_idle() -> None:
    """Only a card that the tool speaks of is known to be free."""
    without, _, _ = DUO.partition("| NPU     Chip ")
    assert not parse_info(without).knows_processes(3)
    assert parse_info(without + "| No running processes found in NPU 3 |\n").knows_processes(3)
    assert parse_info(DUO).knows_processes(3)


@pytest.mark.parametrize("nothing", ["NA", "N/A", "-", "", "Null", "none"])
@pytest.mark.parametrize("name", ["310P3", "310", "910", "xxx"])
def test_a_chip_whose_health_is_not_told_stays_in_the_table(name: str, nothing: str) -> None:
    """It must not be taken for gone: its health is unknown, also where the name is a number or hidden."""
    text = DUO.replace("310P3", name.ljust(5)).replace("OK   ", nothing.ljust(5)).replace("Alarm", nothing.ljust(5))
    first, second = parse_info(text).chips
    assert [(chip.npu_id, chip.chip_id, chip.name) for chip in (first, second)] == [(3, 0, name), (3, 1, name)]
    assert first.health == second.health == ("UNKNOWN" if nothing in npu_smi_values.ABSENT else nothing)
    assert (first.memory_used_mb, first.bus_id) == (902, "0000:05:00.0")


@pytest.mark.parametrize("nothing", ["NA", "-", "", "Null", "none"])
@pytest.mark.parametrize("name", ["310P3", "310", "xxx"])
@pytest.mark.parametrize("health", ["OK   ", "NA   ", "Fault"])
def test_a_chip_without_a_bus_stays_in_the_table(health: str, name: str, nothing: str) -> None:
    """Whatever word stands for no address, also when the health is not told either."""
    text = DUO.replace("0000:05:00.0", nothing.ljust(12)).replace("310P3", name.ljust(5)).replace("OK   ", health)
    chips = parse_info(text).chips
    assert [(chip.chip_id, chip.name, chip.bus_id) for chip in chips] == [(0, name, None), (1, name, None)]


def test_lower_rows_alone_are_no_chips() -> None:
    """A logic id is not taken for a name, though nothing but rows of one kind is left."""
    rows = "| 0       0     | NA              | 7            902/ 44280      |\n" * 3
    assert parse_info(f"{DUO}\n{rows}").chips == parse_info(DUO).chips
    with pytest.raises(NpuSmiError):
        parse_info(rows)


def test_a_chip_may_be_colder_than_ice() -> None:
    """Boards stand outdoors."""
    assert parse_info(DUO.replace("61   ", "-5   ")).chips[1].temp_c == -5


@pytest.mark.parametrize(("value", "lost"), [("31.5", "power_w"), ("61", "temp_c")])
def test_a_blank_value_is_unknown_and_its_neighbours_do_not_take_its_place(value: str, lost: str) -> None:
    """A wrong number is worse than none."""
    chip = parse_info(DUO.replace(value, " " * len(value))).chips[1]
    assert getattr(chip, lost) is None
    assert chip.power_w in {None, 31.5}
    assert chip.temp_c in {None, 61}
    assert chip.memory_total_mb == 43693


def test_a_blank_load_leaves_the_memory_unknown() -> None:
    """Without a header and with one."""
    _, _, rows = DUO.partition("+===============+=================+==========================+\n")
    for text in (DUO, rows):
        first = parse_info(text.replace("| 7 ", "|   ")).chips[0]
        assert (first.aicore_percent, first.memory_used_mb) == (None, None)


def test_half_a_chip_is_left_out() -> None:
    """A chip whose upper or lower row is lost is not reported, and its neighbours are unharmed."""
    lines = DUO.splitlines()
    without_upper = "\n".join(line for line in lines if "NA           -" not in line)
    without_lower = "\n".join(line for line in lines if "902/" not in line)
    assert [chip.chip_id for chip in parse_info(without_upper).chips] == [1]
    assert [chip.chip_id for chip in parse_info(without_lower).chips] == [1]


def test_damaged_borders_and_missing_headers_are_tolerated() -> None:
    """The usual order of the columns is assumed when the headers were cut off."""
    rows = "\n".join(line for line in DUO.splitlines() if line.startswith(("| 3       310P3", "| 0       0 ", "| 1")))
    chips = parse_info(rows).chips
    assert [(chip.chip_id, chip.memory_total_mb) for chip in chips] == [(0, 44280), (1, 43693)]


def test_a_line_that_was_cut_off_leaves_no_half_values() -> None:
    """Half an address names another chip, half a number another amount; what is whole stays."""
    lines = DUO.splitlines()
    chips = {chip.chip_id: asdict(chip) | {"health": {chip.health, "UNKNOWN"}} for chip in parse_info(DUO).chips}
    memory_mb = {process.pid: {process.memory_mb, None} for process in parse_info(DUO).processes}
    for number, line in enumerate(lines):
        for end in range(len(line)):
            info = parse_info("\n".join([*lines[:number], line[:end], *lines[number + 1 :]]))
            for chip in info.chips:
                whole = chips[chip.chip_id]
                assert chip.health in whole["health"]
                found = {name: value for name, value in asdict(chip).items() if name != "health" and value is not None}
                assert found == {name: whole[name] for name in found}, line[:end]
            assert all(each.memory_mb in memory_mb[each.pid] for each in info.processes), line[:end]


def test_a_number_without_its_heading_is_no_logic_id() -> None:
    """On A3 it is the physical id, and a job would run on a stranger's chip; `info -m` tells."""
    text = "\n".join(line for line in DUO.splitlines() if "Bus-Id" not in line)
    assert [(chip.device_id, chip.phy_id) for chip in parse_info(text).chips] == [(None, None)] * 2


def test_a_layout_with_single_spaces_is_read() -> None:
    """Forums collapse the spaces; units tell where one column's name ends."""
    info = parse_info(
        "| npu-smi 23.0.5 Version: 23.0.5 |\n"
        "| NPU Name | Health | Power(W) Temp(C) Hugepages-Usage(page) |\n"
        "| Chip Device | Bus-Id | AICore(%) Memory-Usage(MB) |\n"
        "| 0 310B1 | Alarm | 0.0 49 15 / 15 |\n"
        "| 0 3 | 0000:11:00.0 | 0 600 / 7578 |\n"
    )
    (chip,) = info.chips
    assert (chip.name, chip.health, chip.temp_c, chip.hugepages_used, chip.device_id) == ("310B1", "Alarm", 49, 15, 3)
    assert (chip.memory_used_mb, chip.memory_total_mb, info.driver_version) == (600, 7578, "23.0.5")


def test_processes_without_chips_are_kept_but_are_no_table() -> None:
    """The state of the chips stays unknown."""
    info = parse_info("| NPU ID | Process id | Process name | Process memory(MB) |\n| 3 | 8 | python | 77 |\n")
    assert not info.ok
    assert info.error is None
    assert [(process.npu_id, process.pid) for process in info.processes] == [(3, 8)]


def test_driver_failure_is_a_value() -> None:
    """The tool's line and code are kept."""
    info = parse_info("noise\ndcmi module initialize failed. ret is -8005\n")
    assert not info.ok
    assert info.error is not None
    assert (info.error.dcmi_code, info.error.text) == (-8005, "dcmi module initialize failed. ret is -8005")


@pytest.mark.parametrize("text", ["", "npu-smi: command not found", "+----+\n| x |\n+----+"])
def test_no_table_is_an_error_that_blames_the_host(text: str) -> None:
    """What cannot be read is unknown, with the tool's words kept."""
    with pytest.raises(NpuSmiError, match="unknown") as caught:
        parse_info(text)
    assert caught.value.info.blame is Blame.HOST
    assert caught.value.info.retry
    assert caught.value.info.detail == text


def test_map_skips_controllers_and_unknown_columns() -> None:
    """A controller has no logic id; a Phy-ID column changes nothing."""
    parsed = parse_map(MAP)
    assert parsed.map == (MapRow(npu_id=5, chip_id=0, logic_id=2, chip_name="Ascend 310P3"),)
    assert parsed.mcu_rows == 1
    assert parsed.physical == (PhysicalId(npu_id=5, chip_id=0, phy_id=4),)


def test_list_in_the_old_words() -> None:
    """Old drivers say Card Count and more per card."""
    parsed = parse_list("Card Count : 1\n\nNPU ID : 8\nProduct Name : x\nSerial Number : y\nChip Count : 4\n")
    assert parsed.total_count == 1
    assert parsed.npus == (CardCount(npu_id=8, chip_count=4),)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("310P3", "Ascend310P3"), ("Ascend310P3", "Ascend310P3"), (" 910B4 ", "Ascend910B4"), ("310", "Ascend310")],
)
def test_soc_version_has_one_prefix(name: str, expected: str) -> None:
    """A leading Ascend is not doubled."""
    assert soc_version(name) == expected


TABLE_TEXT = st.lists(
    st.one_of(
        st.sampled_from(DUO.splitlines() + MAP.splitlines()),
        st.text(alphabet="|+-= 0123456789.:/NAOKChipNPUMcu\t", max_size=80),
        st.text(max_size=40),
    ),
    max_size=20,
).map("\n".join)


@settings(max_examples=200, deadline=None)
@given(TABLE_TEXT)
def test_any_text_gives_a_value_or_the_typed_error(text: str) -> None:
    """Cut, shuffled and foreign lines never raise anything else, and every chip has its numbers."""
    for parse in PARSERS:
        try:
            parsed = parse(text)
        except NpuSmiError:
            continue
        if not isinstance(parsed, NpuSmiInfo):
            continue
        for chip in parsed.chips:
            assert chip.npu_id >= 0
            assert chip.name
            assert chip.memory_total_mb is None or chip.memory_total_mb >= 0


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@pytest.mark.parametrize(
    "piece", ["(", "| ", "npu-smi ", "dcmi ret is ", "Process id ", "Chip ID : 0\n", "\t", "Error Code : ", "| NPU ("]
)
def test_damage_does_not_cost_more_than_its_length(parse: Callable[[str], object], piece: str) -> None:
    """A regular expression that backtracks would need hours for this, and run into the test's limit."""
    with contextlib.suppress(NpuSmiError):
        parse("Process name" + piece * 100_000 + "x")
