"""Whether this host can serve its cards: driver, group, devices, CANN, aclruntime. Looks only, changes nothing."""

import getpass
import grp
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from cli.doctoring.findings import Finding, failed, ok, skipped
from cli.doctoring.surroundings import tools_of
from npuq.config import Settings
from npuq.errors import ConfigError, NpuqError
from tasks import cann
from tasks.ascend_errors import classify
from tasks.ascend_signals import OWN_FILE_NAME, Tool, read_signals, signals
from worker.emulated_tools import has_emulated_chips
from worker.locks import lock_folder
from worker.npu_smi import NpuSmiError, NpuSmiInfo
from worker.npu_smi_tool import NpuSmi

GROUP: Final = "HwHiAiUser"
IMPORT_LIMIT_SECONDS: Final = 60.0
_HEALTHY: Final = frozenset({"OK", "Warning"})
_DEVICE_FILES: Final = ("davinci_manager", "devmm_svm", "hisi_hdc")
_WHEEL_TAG: Final = re.compile(r"\.cpython-3(\d{1,2})-")


def check_host(settings: Settings, shell: Mapping[str, str]) -> list[Finding]:
    """Return the findings about this host, with the tools of the shell or of the emulated fleet in NPUQ_HOME."""
    environment, tools = tools_of(settings, shell)
    emulated = has_emulated_chips(environment)
    npu_smi = NpuSmi(
        shutil.which("npu-smi", path=environment.get("PATH", "")) or "npu-smi",
        lock_path=lock_folder(settings.home, emulated=emulated) / "npu-smi.lock",
        timeout_seconds=settings.timing.tool_timeout_seconds,
        cache_seconds=settings.timing.tool_timeout_seconds,
    )
    driver, info = check_driver(npu_smi, emulated=emulated)
    return [
        *([] if tools is None else [tools]),
        driver,
        check_group(emulated=emulated),
        check_device_files(Path("/dev"), emulated=emulated),
        check_chips(npu_smi, info),
        check_cann(environment),
        check_aclruntime(sys.path, environment),
        check_own_signals(settings),
    ]


def check_driver(npu_smi: NpuSmi, *, emulated: bool) -> tuple[Finding, NpuSmiInfo | None]:
    """Return whether `npu-smi` answers, and what it said."""
    try:
        info = npu_smi.info()
    except NpuqError as error:
        what, _, fix = str(error).partition("; ")
        advice = fix or "install the Ascend driver; in a container, mount npu-smi and the driver's libraries"
        return failed("driver", what, advice), None
    kind = ", emulated" if emulated else ""
    return ok("driver", f"{info.driver_version or 'unknown version'}{kind}, {len(info.chips)} chips"), info


def check_group(*, emulated: bool) -> Finding:
    """Return whether this user may open chips."""
    if emulated:
        return skipped("group", "emulated chips need no group")
    if os.geteuid() == 0:
        return ok("group", "root")
    try:
        group = grp.getgrnam(GROUP)
    except KeyError:
        return failed("group", f"there is no group {GROUP}", "install the Ascend driver, which makes it")
    if group.gr_gid in {os.getegid(), *os.getgroups()}:
        return ok("group", GROUP)
    user = getpass.getuser()
    return failed("group", f"{user} is not in {GROUP}", f"run: sudo usermod -aG {GROUP} {user}; then log in anew")


def check_device_files(folder: Path, *, emulated: bool) -> Finding:
    """Return whether the device files are there and may be opened; chips' are named `davinci` and a number."""
    if emulated:
        return skipped("device_files", "emulated chips have none")
    chips = sorted(path for path in folder.glob("davinci*") if path.name.removeprefix("davinci").isdigit())
    missing = [name for name in _DEVICE_FILES if not (folder / name).exists()]
    if not chips or missing:
        names = ", ".join(missing or ["davinci0 and further"])
        fix = "load the driver (a reboot after its installation); in a container, pass them with --device"
        return failed("device_files", f"{folder} lacks {names}", fix)
    shut = [path.name for path in [*chips, *(folder / name for name in _DEVICE_FILES)] if not _may_open(path)]
    if shut:
        return failed("device_files", f"may not open {', '.join(shut)}", f"join the group {GROUP} and log in anew")
    return ok("device_files", f"{len(chips)} chips")


def _may_open(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


def check_chips(npu_smi: NpuSmi, info: NpuSmiInfo | None) -> Finding:
    """Return whether every chip is healthy; of a sick one the driver's codes are told."""
    if info is None:
        return skipped("chips", "npu-smi does not answer")
    sick = [
        f"NPU {chip.npu_id} chip {chip.chip_id}: {chip.health}{_codes(npu_smi, chip.npu_id, chip.chip_id)}"
        for chip in info.chips
        if chip.health not in _HEALTHY
    ]
    if sick:
        fix = "look the codes up in the driver's fault list; a reset by the operator, or a reboot, may help"
        return failed("chips", "; ".join(sick), fix)
    names = sorted({chip.name for chip in info.chips})
    return ok("chips", f"{len(info.chips)} x {', '.join(names)}, all healthy")


def _codes(npu_smi: NpuSmi, npu_id: int, chip_id: int) -> str:
    try:
        health = npu_smi.health(npu_id, chip_id)
    except NpuSmiError:
        return ""
    told = [*health.error_codes, *([health.error_information] if health.error_information else [])]
    return f" ({', '.join(told)})" if told else ""


def check_cann(environment: Mapping[str, str]) -> Finding:
    """Return which CANN there is."""
    found = cann.toolkits(environment)
    if not found:
        return failed("cann", "no CANN toolkit was found", "install it, and source its set_env.sh before the worker")
    others = f", also {', '.join(each.version for each in found[1:])}" if found[1:] else ""
    return ok("cann", f"{found[0].version} in {found[0].root}{others}")


def check_aclruntime(search_path: Iterable[str], environment: Mapping[str, str]) -> Finding:
    """Return whether `aclruntime` can be imported by this Python; it is tried in a process of its own."""
    wanted = f"cp{sys.version_info.major}{sys.version_info.minor}"
    install = f"install the aclruntime wheel for {wanted} into this Python's environment"
    other = _other_python(search_path)
    done = _import_aclruntime(environment)
    if done is None:
        return failed("aclruntime", f"importing it takes more than {IMPORT_LIMIT_SECONDS:g} s", "look at the driver")
    code, said = done
    if code == 0:
        return ok("aclruntime", f"for {wanted}")
    if "No module named 'aclruntime'" in said:
        return failed("aclruntime", f"it is for Python 3.{other}" if other else "it is not installed", install)
    signal = classify(said, signals(Tool.RUNTIME, {}))
    last = said.strip().splitlines()[-1] if said.strip() else f"exit status {code}"
    return failed("aclruntime", f"it cannot be imported: {last}", signal.advice if signal else install)


def _import_aclruntime(environment: Mapping[str, str]) -> tuple[int, str] | None:
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", "import aclruntime"],
            env=dict(environment),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=IMPORT_LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode, done.stdout + done.stderr


def _other_python(search_path: Iterable[str]) -> str | None:
    """Return the minor version of a Python for which an aclruntime lies on the path, when it is not ours."""
    for folder in search_path:
        for path in Path(folder or ".").glob("aclruntime*.so"):
            tag = _WHEEL_TAG.search(path.name)
            if tag is not None and tag[1] != str(sys.version_info.minor):
                return tag[1]
    return None


def check_own_signals(settings: Settings) -> Finding:
    """Return whether this host's own table of known failures can be read."""
    path = settings.home / OWN_FILE_NAME
    if not path.exists():
        return skipped("known_failures", f"no {path}")
    try:
        rows = read_signals(path)
    except ConfigError as error:
        return failed("known_failures", str(error), f"correct {path}, or take it away")
    return ok("known_failures", f"{sum(len(rows[tool]) for tool in Tool)} rows of this host's own")
