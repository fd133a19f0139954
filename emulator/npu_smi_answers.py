"""The answers of the emulated `npu-smi info -t ...`. Pure; standard library only.

With `-c` the tool prints one chip's numbers alone; without it a block per chip, which `-t common` and `-t memory`
begin with the chip's number and the others end with it, and `-t common` adds the board's controller.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from emulator.fleet import Chip, Fleet
from emulator.npu_smi_layouts import Family, family_of
from emulator.npu_smi_tables import aicore_percent, health_of, memory_used_mb, power_text, processes_on
from emulator.occupancy import Occupant

Fields = list[tuple[str, object]]
_KEY_CHARACTERS: Final = 31
_PROCESS_NAME_CHARACTERS: Final = 13
_FAULT_CODE: Final = "80E3A203"
_FIRMWARE: Final = "7.1.0.7.220"


class QueryError(Exception):
    """The query is malformed or not for this card; the message is what the tool prints."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is to be told about.

    Attributes:
        fleet: the emulated host.
        holders: who holds memory.
        computing: logic ids of the chips that execute.
    """

    fleet: Fleet
    holders: Sequence[Occupant]
    computing: Collection[int]


def answer(scene: Scene, kind: str, card: Sequence[Chip], chip_id: int | None) -> str:
    """Return what `-t kind -i ... [-c chip_id]` prints.

    Args:
        scene: the host.
        kind: what follows `-t`.
        card: the chips of the card asked for.
        chip_id: what follows `-c`, None without it.

    Raises:
        QueryError: no such kind, no such chip, or not for this card.
    """
    if kind not in _KINDS:
        raise QueryError(
            f"This device does not support querying {kind}." if kind in _OTHER else "Error parameter of -t"
        )
    if kind == "proc-mem" and card[0].name.startswith("310B"):
        raise QueryError("This device does not support querying proc-mem.")
    if chip_id is None:
        return _whole_card(scene, kind, card)
    chip = next((each for each in card if each.chip_id == chip_id), None)
    if chip is None and kind == "board" and chip_id == len(card):
        return _lines([("NPU ID", card[0].npu_id), ("Chip ID", chip_id), ("Chip Type", "mcu"), ("Chip Name", "MCU")])
    if chip is None:
        raise QueryError("Error parameter of -c")
    if kind == "board":
        return _lines(_chip_board(chip))
    return _processes(scene, chip) if kind == "proc-mem" else _lines(_KINDS[kind](scene, chip))


def _whole_card(scene: Scene, kind: str, card: Sequence[Chip]) -> str:
    if kind == "board":
        return _lines(_card_board(scene, card))
    head = _lines([("NPU ID", card[0].npu_id), ("Chip Count", len(card))])
    if kind == "proc-mem":
        return head + "".join(_processes(scene, chip) + _lines([("Chip ID", chip.chip_id)]) for chip in card)
    blocks = []
    for chip in card:
        number: Fields = [("Chip ID", chip.chip_id)]
        numbers = _KINDS[kind](scene, chip)
        blocks.append(_lines([*number, *numbers] if kind in _NUMBER_FIRST else [*numbers, *number]))
    if kind == "common":
        blocks.append(_lines([("Chip Name", "mcu"), ("Temperature(C)", 48), ("NPU Real-time Power(W)", 45.2)]))
    return "\n".join([head, *blocks])


def _lines(fields: Iterable[tuple[str, object]]) -> str:
    return "".join(f"\t{key:<{_KEY_CHARACTERS}}: {value}\n" for key, value in fields)


def _percent(part: int, whole: int) -> int:
    return 0 if whole == 0 else round(100 * part / whole)


def _memory(_scene: Scene, chip: Chip) -> Fields:
    if family_of(chip.name) is Family.INFERENCE:
        return [("Capacity(MB)", chip.memory_total_mb), ("Clock Speed(MHz)", 2133)]
    return [
        ("DDR Capacity(MB)", chip.ddr_total_mb),
        ("DDR Clock Speed(MHz)", 1200),
        ("HBM Capacity(MB)", chip.memory_total_mb),
        ("HBM Clock Speed(MHz)", 1600),
        ("HBM Temperature(C)", chip.temp_c),
        ("HBM Manufacturer ID", "0x46"),
    ]


def _usages(scene: Scene, chip: Chip) -> Fields:
    used = _percent(memory_used_mb(scene.fleet, chip, scene.holders), chip.memory_total_mb)
    load = aicore_percent(chip, scene.computing)
    if family_of(chip.name) is Family.INFERENCE:
        memory: Fields = [("Memory Capacity(MB)", chip.memory_total_mb), ("Memory Usage Rate(%)", used)]
    else:
        memory = [
            ("DDR Capacity(MB)", chip.ddr_total_mb),
            ("DDR Usage Rate(%)", _percent(chip.ddr_used_mb, chip.ddr_total_mb)),
            ("HBM Capacity(MB)", chip.memory_total_mb),
            ("HBM Usage Rate(%)", used),
        ]
    return [*memory, ("Aicore Usage Rate(%)", load), ("Aicpu Usage Rate(%)", 0), ("Ctrlcpu Usage Rate(%)", 0)]


def _common(scene: Scene, chip: Chip) -> Fields:
    used = _percent(memory_used_mb(scene.fleet, chip, scene.holders), chip.memory_total_mb)
    rate = "Memory Usage Rate(%)" if family_of(chip.name) is Family.INFERENCE else "HBM Usage Rate(%)"
    return [
        (rate, used),
        ("Aicore Usage Rate(%)", aicore_percent(chip, scene.computing)),
        ("Temperature(C)", chip.temp_c),
        ("NPU Real-time Power(W)", power_text(chip)),
    ]


def _health(scene: Scene, chip: Chip) -> Fields:
    health = health_of(scene.fleet, chip)
    code, words = ("NA", "NA") if health == "OK" else (_FAULT_CODE, "a fault injected into the emulator")
    return [("Health Status", health), ("Error Code", code), ("Error Information", words)]


def _power(_scene: Scene, chip: Chip) -> Fields:
    return [("Power Dissipation(W)", power_text(chip))]


def _temp(_scene: Scene, chip: Chip) -> Fields:
    return [("NPU Temperature (C)", chip.temp_c)]


def _ecc(_scene: Scene, chip: Chip) -> Fields:
    if family_of(chip.name) is Family.INFERENCE:
        return [("Single-bit Error Count", 0), ("Double-bit Error Count", 0)]
    names = ("Single Bit Error Count", "Double Bit Error Count", "Single Bit Aggregate Total Err Cnt")
    return [(f"{memory} {name}", 0) for memory in ("DDR", "HBM") for name in names]


def _processes(scene: Scene, chip: Chip) -> str:
    found = [
        f"Process id:{each.pid}  Process name:{each.name[:_PROCESS_NAME_CHARACTERS]:<18}"
        f"Process memory(MB):{each.memory_mb}"
        for each in processes_on(chip, scene.holders)
    ]
    return f"\t{'  '.join(found) or 'No process in device.'}\n"


def _chip_board(chip: Chip) -> Fields:
    family = family_of(chip.name)
    die = chip.die_id or "NA"
    kind: Fields = [("Chip Type", "Ascend"), ("Chip Name", chip.name)]
    if family is Family.A3:
        kind = [("Chip Name", chip.name), ("NPU Name", chip.soc_version.partition("_")[2] or "NA")]
    ids: Fields = [("Die ID", die)] if family is Family.INFERENCE else [("VDie ID", die), ("NDie ID", "NA")]
    return [
        ("NPU ID", chip.npu_id),
        ("Chip ID", chip.chip_id),
        *kind,
        ("Chip Version", "V1"),
        ("Board ID", "0x02"),
        ("PCB ID", "NA"),
        ("BOM ID", 1),
        *ids,
        ("Chip Position ID", chip.chip_id),
        ("PCIe Bus Info", chip.bus_id),
        ("Firmware Version", _FIRMWARE),
    ]


def _card_board(scene: Scene, card: Sequence[Chip]) -> Fields:
    return [
        ("NPU ID", card[0].npu_id),
        ("Product Name", "NA"),
        ("Model", "NA"),
        ("Manufacturer", "npuq emulator"),
        ("Serial Number", "NA"),
        ("Software Version", scene.fleet.driver_version),
        ("Firmware Version", _FIRMWARE),
        ("Board ID", "0x02"),
        ("PCB ID", "A"),
        ("BOM ID", 1),
        ("PCIe Bus Info", card[0].bus_id),
        ("Chip Count", len(card)),
        ("Faulty Chip Count", sum(health_of(scene.fleet, chip) != "OK" for chip in card)),
    ]


_KINDS: Final[dict[str, Callable[[Scene, Chip], Fields]]] = {
    "board": lambda _scene, chip: _chip_board(chip),
    "usages": _usages,
    "common": _common,
    "memory": _memory,
    "proc-mem": lambda _scene, _chip: [],
    "health": _health,
    "power": _power,
    "temp": _temp,
    "ecc": _ecc,
}
_NUMBER_FIRST: Final = frozenset({"common", "memory"})
#: Kinds that the real tool knows and the emulator does not: refused as a card refuses what it does not support.
_OTHER: Final = frozenset(
    {
        *("flash", "sensors", "volt", "mac-addr", "product", "ip", "sys-time", "i2c_check", "work-mode", "ecc-enable"),
        *("p2p-enable", "ssh-enable", "license", "customized-info", "device-share", "nve-level", "aicpu-config"),
        *("pcie-err", "mcu-monitor"),
    }
)
