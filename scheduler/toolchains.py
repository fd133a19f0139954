"""Which toolchain converts: part of a conversion's content key, so it is chosen before anything is looked up. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from db.records import DeviceRecord
from npuq.specs import TOOLCHAIN_PREFIX
from npuq.states import DeviceKind
from scheduler.placement import is_working


@dataclass(frozen=True, kw_only=True)
class Toolchains:
    """Those of the working hosts.

    Attributes:
        newest: of those that are a host's default.
        known: all.
    """

    newest: str | None = None
    known: frozenset[str] = frozenset()

    @classmethod
    def of(cls, devices: Iterable[DeviceRecord]) -> Self:
        """Return those of a fleet; a host that does not work now is no reason to wait for it."""
        slots = [each for each in devices if each.kind is DeviceKind.HOST and each.toolchains and is_working(each)]
        return cls(
            newest=max((slot.toolchains[0] for slot in slots), default=None),
            known=frozenset(toolchain for slot in slots for toolchain in slot.toolchains),
        )

    def choose(self, params: Mapping[str, Any]) -> tuple[str | None, str]:
        """Return the toolchain for a conversion of these parameters, or None and what the job waits for."""
        asked = params.get("cann")
        if asked is None:
            return self.newest, "no host with ATC is online"
        wanted = f"{TOOLCHAIN_PREFIX}{asked}"
        return (wanted if wanted in self.known else None), f"no host with CANN {asked} is online"
