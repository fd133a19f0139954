from dataclasses import replace

import pytest

from emulator import npu_smi
from emulator.fleet import Chip, Fault, FaultKind, Fleet
from emulator.home import Home
from emulator.install import FleetPlan, build_fleet
from emulator.npu_smi_answers import QueryError, Scene, answer
from emulator.occupancy import Occupant
from worker.npu_smi import (
    CardReadings,
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

PLANS = [
    FleetPlan(cards=1, chip="310", chips_per_card=4, npu_ids=(215,)),
    FleetPlan(cards=1, chip="310P3", chips_per_card=2, npu_ids=(4,)),
    FleetPlan(cards=1, chip="910A"),
    FleetPlan(cards=1, chip="910B3"),
    FleetPlan(cards=1, chip="Ascend910", chips_per_card=2),
]
READERS = {
    "usages": parse_usages,
    "common": parse_common,
    "memory": parse_memory,
    "power": parse_power,
    "temp": parse_temp,
    "ecc": parse_ecc,
}


def _scene(plan: FleetPlan, *faults: Fault) -> Scene:
    fleet = replace(build_fleet(plan), faults=faults)
    holder = Occupant(logic_id=0, pid=70, start_ticks=1, name="a_very_long_process", memory_mb=100)
    return Scene(fleet=fleet, holders=[holder, replace(holder, memory_mb=50)], computing={0})


def _ask(scene: Scene, kind: str, chip_id: int | None = None) -> str:
    return answer(scene, kind, list(scene.fleet.chips), chip_id)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.chip)
@pytest.mark.parametrize("kind", READERS)
def test_numbers_of_a_card_and_of_one_chip_agree(plan: FleetPlan, kind: str) -> None:
    """The parser finds a block per chip, and with `-c` the same numbers without a block."""
    scene = _scene(plan)
    card: CardReadings = READERS[kind](_ask(scene, kind))
    assert card.npu_id == scene.fleet.chips[0].npu_id
    assert sorted(card.chips) == [chip.chip_id for chip in scene.fleet.chips]
    for chip in scene.fleet.chips:
        one: CardReadings = READERS[kind](_ask(scene, kind, chip.chip_id))
        assert one.of_chip(chip.chip_id) == card.chips[chip.chip_id]
        assert card.chips[chip.chip_id]


def test_load_and_memory_are_those_of_the_moment() -> None:
    """Chip 0 computes and holds memory, chip 1 does not."""
    scene = _scene(PLANS[1])
    usages = parse_usages(_ask(scene, "usages")).chips
    assert usages[0]["Aicore Usage Rate(%)"]
    assert usages[1]["Aicore Usage Rate(%)"] == 0
    assert usages[0]["Memory Usage Rate(%)"] == round(100 * (1074 + 150) / 21527)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.chip)
def test_boards_name_the_chip_and_its_die(plan: FleetPlan) -> None:
    """What ATC compiles for and the die id are those of the fleet, on every family."""
    scene = _scene(plan)
    for chip in scene.fleet.chips:
        board = parse_board(_ask(scene, "board", chip.chip_id))
        assert (board.soc_version, board.die_id) == (chip.soc_version, chip.die_id)
    assert parse_board(_ask(scene, "board")).fields["Chip Count"] == str(plan.chips_per_card)
    assert parse_board(_ask(scene, "board", plan.chips_per_card)).fields["Chip Type"] == "mcu"


def test_health_with_a_code() -> None:
    """A sick chip has a code and a sentence, a well one none."""
    scene = _scene(PLANS[1], Fault(device=1, kind=FaultKind.ALARM, health="Critical"))
    well, sick = (parse_health(_ask(scene, "health", chip_id)) for chip_id in (0, 1))
    assert (well.health, well.error_codes, well.error_information) == ("OK", (), None)
    assert (sick.health, bool(sick.error_codes), bool(sick.error_information)) == ("Critical", True, True)


def test_processes_with_their_memory() -> None:
    """Uses of a process are one entry; its name is cut to 13 characters; nobody is a word."""
    scene = _scene(PLANS[1])
    (process,) = parse_proc_mem(_ask(scene, "proc-mem", 0)).processes
    assert (process.pid, process.name, process.memory_mb) == (70, "a_very_long_p", 150)
    assert parse_proc_mem(_ask(scene, "proc-mem", 1)).processes == ()


@pytest.mark.parametrize(
    ("kind", "chip_id", "words"),
    [
        ("product", None, "This device does not support querying product."),
        ("nonsense", None, "Error parameter of -t"),
        ("usages", 9, "Error parameter of -c"),
    ],
)
def test_refusals(kind: str, chip_id: int | None, words: str) -> None:
    """What is not known is refused with the tool's words."""
    with pytest.raises(QueryError, match=words):
        _ask(_scene(PLANS[1]), kind, chip_id)


def test_boards_do_not_tell_processes() -> None:
    """A 310B refuses `proc-mem`."""
    scene = _scene(FleetPlan(cards=1, chip="310B4"))
    with pytest.raises(QueryError, match="does not support"):
        _ask(scene, "proc-mem", 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-t", "board"], "Error parameter of -i"),
        (["-t", "board", "-i", "7"], "Error parameter of -i"),
        (["-t", "board", "-i", "x"], "Error parameter of -i"),
        (["-t"], "Error parameter of -t"),
    ],
)
def test_malformed_queries(home: Home, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """The option at fault is named."""
    del home
    assert npu_smi.main(["info", *arguments]) == 1
    assert words in capsys.readouterr().out


def test_a_query_by_the_command_line(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Options may come in any order."""
    assert npu_smi.main(["info", "-i", "1", "-c", "0", "-t", "board"]) == 0
    chip: Chip = home.fleet().chips[1]
    fleet: Fleet = home.fleet()
    assert parse_board(capsys.readouterr().out).die_id == chip.die_id
    assert len({each.die_id for each in fleet.chips}) == len(fleet.chips)
