"""Looking at the chips beside the launcher's turns: a driver that hangs must not silence the host's heartbeat."""

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from db.records import NewDevice
from npuq.config import Settings
from npuq.errors import NpuqError, ToolMissingError
from worker import discovery
from worker.npu_smi import NpuSmiInfo
from worker.npu_smi_tool import NpuSmi


@dataclass(frozen=True, kw_only=True)
class ChipLook:
    """What a look at the chips gave.

    Attributes:
        chips: those that are there; none where there is no `npu-smi`.
        info: the table; None where there is no `npu-smi`.
        error: why nothing is known of the chips, None when all went well.
    """

    chips: tuple[NewDevice, ...] = ()
    info: NpuSmiInfo | None = None
    error: Exception | None = None


class ChipProbe:
    """One look at a time, in a thread; npu-smi's own time limit ends every look."""

    def __init__(self, settings: Settings, npu_smi: NpuSmi) -> None:
        self._settings = settings
        self._npu_smi = npu_smi
        self._boards: Final = discovery.Boards(npu_smi)
        self._answers: queue.SimpleQueue[ChipLook] = queue.SimpleQueue()
        self._looking = False

    @property
    def looking(self) -> bool:
        """Return whether a look was begun whose answer was not taken yet."""
        return self._looking

    def begin(self, known: Mapping[str, str]) -> None:
        """Begin a look; `known` maps the identities of this host's rows to device ids."""
        self._looking = True
        # A daemon: a launcher that stops does not wait for a driver.
        threading.Thread(target=self._look, args=(dict(known),), name="npu-smi", daemon=True).start()

    def answer(self, timeout_seconds: float) -> ChipLook | None:
        """Return what the look gave, None when it is still going on after the time."""
        try:
            look = self._answers.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        self._looking = False
        return look

    def _look(self, known: Mapping[str, str]) -> None:
        try:
            chips, info = discovery.chips(self._settings, self._npu_smi, self._boards, known)
            look = ChipLook(chips=tuple(chips), info=info)
        except ToolMissingError:
            look = ChipLook()
        except NpuqError as error:
            look = ChipLook(error=error)
        except Exception as error:  # noqa: BLE001 - the launcher raises it where it is logged
            look = ChipLook(error=error)
        self._answers.put(look)
