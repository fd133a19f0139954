"""What `npu-smi` prints, as values: one door to all its parsers. Nothing is run here, see `worker/npu_smi_tool.py`.

The parsers are pure functions over text. Any text gives a value or a `NpuSmiError`.
"""

from worker.npu_smi_info import parse_info
from worker.npu_smi_lists import parse_list, parse_map
from worker.npu_smi_queries import (
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
from worker.npu_smi_values import (
    TIMEOUT,
    UNSUPPORTED,
    Board,
    CardCount,
    CardReadings,
    Chip,
    ChipHealth,
    ChipProcesses,
    DriverFailure,
    MapRow,
    NpuSmiError,
    NpuSmiInfo,
    NpuSmiList,
    NpuSmiMap,
    PhysicalId,
    Process,
    ProcessMemory,
    Reading,
    soc_version,
)

__all__ = [
    "TIMEOUT",
    "UNSUPPORTED",
    "Board",
    "CardCount",
    "CardReadings",
    "Chip",
    "ChipHealth",
    "ChipProcesses",
    "DriverFailure",
    "MapRow",
    "NpuSmiError",
    "NpuSmiInfo",
    "NpuSmiList",
    "NpuSmiMap",
    "PhysicalId",
    "Process",
    "ProcessMemory",
    "Reading",
    "parse_board",
    "parse_common",
    "parse_ecc",
    "parse_health",
    "parse_info",
    "parse_list",
    "parse_map",
    "parse_memory",
    "parse_power",
    "parse_proc_mem",
    "parse_temp",
    "parse_usages",
    "soc_version",
]
