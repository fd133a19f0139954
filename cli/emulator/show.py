"""`npuq emulator show`."""

from collections.abc import Mapping
from typing import Any, Final

import typer

from cli.options import Output
from cli.output import Column, Format, View

EXAMPLES: Final = ("npuq emulator show",)
_FIELDS: Final = (
    *("device", "soc_version", "npu_id", "chip_id", "bus_id", "memory_total_mib", "mode", "driver_version"),
    *("toolkit_version", "faults"),
)
Place = Mapping[str, Any]


def command(ctx: typer.Context, output: Output = Format.TABLE) -> None:
    """Show the emulated chips, the host, and the faults that somebody put on them."""
    from cli.emulator.program import read_fleet
    from cli.output import show_many

    show_many(places(read_fleet(ctx)), _view(), output)


def places(fleet: Mapping[str, Any]) -> list[Place]:
    """Return a document per chip of a fleet file, and the last one for the host."""
    common = {name: fleet[name] for name in ("mode", "driver_version", "toolkit_version")}
    chips = [
        {
            "device": str(chip["logic_id"]),
            "soc_version": chip["soc"] or f"Ascend{chip['name'].removeprefix('Ascend')}",
            "npu_id": chip["npu_id"],
            "chip_id": chip["chip_id"],
            "bus_id": chip["bus_id"],
            "memory_total_mib": chip["memory_total_mb"],
            "faults": _faults(fleet, chip["logic_id"]),
        }
        for chip in fleet["chips"]
    ]
    host = {**dict.fromkeys(chips[0] if chips else ()), "device": "host", "faults": _faults(fleet, None)}
    return [{**each, **common} for each in (*chips, host)]


def _faults(fleet: Mapping[str, Any], device: int | None) -> list[Mapping[str, Any]]:
    return [fault for fault in fleet["faults"] if fault["device"] == device]


def _view() -> View[Place]:
    return View(
        columns=(
            Column(header="DEVICE", text=lambda place: place["device"]),
            Column(header="SOC", text=lambda place: place["soc_version"] or "-"),
            Column(header="NPU", text=lambda place: _number(place["npu_id"]), right=True),
            Column(header="CHIP", text=lambda place: _number(place["chip_id"]), right=True),
            Column(header="BUS", text=lambda place: place["bus_id"] or "-"),
            Column(header="MEMORY MiB", text=lambda place: _number(place["memory_total_mib"]), right=True),
            Column(header="FAULTS", text=_words),
        ),
        document=dict,
        fields=_FIELDS,
        name=lambda place: str(place["device"]),
        empty="",
    )


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _words(place: Place) -> str:
    """Return the faults of a place: `slow until cleared, hang 2 more times`."""
    often = [
        (fault["kind"], "until cleared" if fault["count"] is None else f"{fault['count']} more times")
        for fault in place["faults"]
    ]
    return ", ".join(" ".join(words) for words in often)
