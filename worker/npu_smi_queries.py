"""The answers of `npu-smi info -t ...`: lines of `Key : Value`. Pure.

Chips of one card come as blocks. A block names its chip in its first line (`-t common`) or in its last (`-t usages`),
and the block of the board's controller (`Chip Name : mcu`) must not overwrite a chip's numbers.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from worker.npu_smi_values import (
    UNSUPPORTED,
    Board,
    CardReadings,
    ChipHealth,
    ChipProcesses,
    NpuSmiError,
    ProcessMemory,
    Reading,
    integer,
    reading,
)

_CHIP_ID: Final = "Chip ID"
_CHIP_NAME: Final = "Chip Name"
_OF_CARD: Final = frozenset({"NPU ID", "Chip Count"})
_IDS: Final = _OF_CARD | {_CHIP_ID}  #: what was asked for, said again: no answer by itself
_BAD_QUERY: Final = "Error parameter of"
_NO_SUPPORT: Final = re.compile(r"\b(?:not\s{1,8}support|unsupported\b)", re.IGNORECASE)
_ERROR_CODE: Final = re.compile(r"\b(?:0x)?[0-9A-Fa-f]{6,16}\b")
_NO_PROCESS: Final = re.compile(r"\bno (?:running )?process", re.IGNORECASE)
_PAIR_KEYS: Final = ("Process id", "Process name", "Process memory(MB)")


def parse_board(text: str) -> Board:
    """Read `-t board`; of a key that comes twice the first counts. Raises NpuSmiError."""
    fields: dict[str, str] = {}
    for key, value in _pairs(text, "board"):
        fields.setdefault(key, value)
    return Board(fields=fields)


def parse_usages(text: str) -> CardReadings:
    """Read `-t usages`: capacities in MB, rates in percent. Raises NpuSmiError."""
    return _readings(text, "usages")


def parse_common(text: str) -> CardReadings:
    """Read `-t common`: rates in percent, MHz, degrees Celsius, watts. Raises NpuSmiError."""
    return _readings(text, "common")


def parse_memory(text: str) -> CardReadings:
    """Read `-t memory`: capacities in MB, clock speeds in MHz. Raises NpuSmiError."""
    return _readings(text, "memory")


def parse_power(text: str) -> CardReadings:
    """Read `-t power`: watts. Raises NpuSmiError."""
    return _readings(text, "power")


def parse_temp(text: str) -> CardReadings:
    """Read `-t temp`: degrees Celsius. Raises NpuSmiError."""
    return _readings(text, "temp")


def parse_ecc(text: str) -> CardReadings:
    """Read `-t ecc`: counts of errors. Raises NpuSmiError."""
    return _readings(text, "ecc")


def parse_health(text: str) -> ChipHealth:
    """Read `-t health` of one chip. Raises NpuSmiError when it does not say a health."""
    fields = dict(reversed(list(_pairs(text, "health"))))
    health = next((fields[key] for key in ("Health Status", "Health") if fields.get(key)), None)
    if health is None:
        raise NpuSmiError("npu-smi does not say the health of the chip: it is unknown", detail=text)
    information = reading(fields.get("Error Information", ""))
    return ChipHealth(
        health=health,
        error_codes=tuple(_ERROR_CODE.findall(fields.get("Error Code", ""))),
        error_information=None if information is None else str(information),
    )


def parse_proc_mem(text: str) -> ChipProcesses:
    """Read `-t proc-mem` of one chip, with several processes on a line or one to a line.

    Raises:
        NpuSmiError: neither a process nor the word that there is none: unknown, not idle.
    """
    _refuse_failure(text)
    found = [each for part in text.split(_PAIR_KEYS[0])[1:] for each in _process(part)]
    if not found and _NO_PROCESS.search(text) is None:
        _refuse_refusal(text, "proc-mem")
        raise NpuSmiError("npu-smi says nothing about processes on the chip: they are unknown", detail=text)
    return ChipProcesses(processes=tuple(found))


def _process(part: str) -> Iterator[ProcessMemory]:
    """Yield the process of the text after `Process id`."""
    pid, _, rest = part.partition(_PAIR_KEYS[1])
    name, _, memory = rest.partition(_PAIR_KEYS[2])
    number = integer(_value(pid))
    if number is not None:
        words = _value(memory).split()
        yield ProcessMemory(pid=number, name=_value(name), memory_mb=integer(words[0] if words else None))


def _value(text: str) -> str:
    return text.strip().removeprefix(":").strip()


def _readings(text: str, kind: str) -> CardReadings:
    pairs = _pairs(text, kind)
    npu_id = next((integer(value) for key, value in pairs if key == "NPU ID"), None)
    blocks = list(_blocks([(key, value) for key, value in pairs if key not in _OF_CARD]))
    chips: dict[int, Mapping[str, Reading]] = {}
    fields: dict[str, Reading] = {}
    for block in blocks:
        chip_id = integer(block.get(_CHIP_ID))
        numbers = {key: reading(value) for key, value in block.items() if key != _CHIP_ID}
        if block.get(_CHIP_NAME, "").lower() == "mcu":
            continue
        if chip_id is not None:
            chips.setdefault(chip_id, numbers)
        else:
            fields = numbers | fields
    return CardReadings(npu_id=npu_id, chips=chips, fields=fields)


def _blocks(pairs: list[tuple[str, str]]) -> Iterator[dict[str, str]]:
    """Yield the blocks of an answer; a key that comes again begins a new one."""
    last = bool(pairs) and pairs[0][0] != _CHIP_ID
    block: dict[str, str] = {}
    for key, value in pairs:
        begins = key in block or (key == _CHIP_ID and not last) or (key == _CHIP_NAME and value.lower() == "mcu")
        if begins and not (set(block) <= {_CHIP_ID} and key == _CHIP_NAME) and block:
            yield block
            block = {}
        block[key] = value
        if key == _CHIP_ID and last:
            yield block
            block = {}
    if block:
        yield block


def _pairs(text: str, kind: str) -> list[tuple[str, str]]:
    """Return the lines `Key : Value`; a line that says "not supported" is as if it were not there.

    Raises:
        NpuSmiError: there is none; code UNSUPPORTED when all that the tool says is that it cannot.
    """
    _refuse_failure(text)
    # After a wrong query comes the tool's help, which has colons too.
    answered = [] if _BAD_QUERY in text else [line for line in text.splitlines() if not _NO_SUPPORT.search(line)]
    split = (line.partition(":") for line in answered)
    pairs = [(key.strip(), value.strip()) for key, colon, value in split if colon and key.strip()]
    if not any(value for key, value in pairs if key not in _IDS):
        _refuse_refusal(text, kind)
    if not any(key in {"NPU ID", _CHIP_ID, "Health Status"} or value for key, value in pairs):
        raise NpuSmiError(f"npu-smi printed no answer to -t {kind}: it is unknown", detail=text)
    return pairs


def _refuse_refusal(text: str, kind: str) -> None:
    if _BAD_QUERY in text or _NO_SUPPORT.search(text):
        raise NpuSmiError(
            f"this card or driver does not answer npu-smi info -t {kind}", code=UNSUPPORTED, retry=False, detail=text
        )


def _refuse_failure(text: str) -> None:
    if "dcmi" in text and "ret is" in text:
        raise NpuSmiError("the driver does not answer npu-smi: the chips' state is unknown", detail=text)
