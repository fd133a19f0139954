"""`npuq doctor`: every check at its best and at its worst, and the command as a whole."""

import grp
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.doctoring import fleet_checks, host_checks
from cli.doctoring.findings import Finding, Verdict
from cli.doctoring.surroundings import tools_of
from cli.fleet.embedded import WORKER
from cli.fleet.processes import ProcessTable
from emulator.install import FleetPlan, install
from npuq.config import Settings
from npuq.entry import INSTALLATION
from tests.services.redis_server import RedisServer
from tests.services.world import World
from tests.unit.cli.answers import Npuq
from worker.npu_smi_tool import NpuSmi

Emulated = Callable[..., NpuSmi]


@pytest.fixture
def emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emulated:
    """Return a function that puts an emulated host on PATH and returns its `npu-smi`."""
    home = tmp_path / "npus"

    def start(*fault: str) -> NpuSmi:
        emulator = [sys.executable, "-m", "emulator"]
        for command in (["install", "--cards", "2"], *([["fault", *fault]] if fault else [])):
            subprocess.run(
                [*emulator, *command, "--home", str(home)], cwd=INSTALLATION, check=True, capture_output=True
            )
        monkeypatch.setenv("NPUQ_EMULATOR_HOME", str(home))
        monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("PYTHONPATH", f"{home / 'python'}{os.pathsep}{INSTALLATION}")
        monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(home / "toolkit"))
        return NpuSmi(lock_path=home / "lock", cache_seconds=0)

    return start


def _is(finding: Finding, verdict: Verdict, words: str = "") -> None:
    """Check a finding: a failure and a warning say what to do, and nothing else does."""
    assert finding.verdict is verdict, finding
    assert words in finding.found
    assert bool(finding.fix) is (verdict in {Verdict.FAILED, Verdict.WARNING})


def test_a_driver_that_answers(emulated: Emulated) -> None:
    """Its version, and that it is emulated."""
    finding, info = host_checks.check_driver(emulated(), emulated=True)
    _is(finding, Verdict.OK, "emulated, 2 chips")
    assert info is not None


def test_a_driver_that_is_not_there_or_down(emulated: Emulated, tmp_path: Path) -> None:
    """Both are failures, with what to do."""
    finding, info = host_checks.check_driver(NpuSmi("no-such-tool", lock_path=tmp_path / "lock"), emulated=False)
    _is(finding, Verdict.FAILED, "cannot run")
    finding, info = host_checks.check_driver(emulated("host", "no_driver"), emulated=True)
    _is(finding, Verdict.FAILED, "-8005")
    assert info is None


def test_sick_chips_are_told_with_their_codes(emulated: Emulated) -> None:
    """Which chip, and what the driver says of it."""
    npu_smi = emulated("1", "alarm", "--health", "Critical")
    _is(host_checks.check_chips(npu_smi, npu_smi.info()), Verdict.FAILED, "NPU 1 chip 0: Critical (80E3A203")
    _is(host_checks.check_chips(npu_smi, None), Verdict.SKIPPED)


def test_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root and members may, others are told the command, and no group means no driver."""
    _is(host_checks.check_group(emulated=True), Verdict.SKIPPED)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    _is(host_checks.check_group(emulated=False), Verdict.OK, "root")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [4711])
    group = grp.struct_group(("HwHiAiUser", "x", 4711, []))
    monkeypatch.setattr(grp, "getgrnam", lambda _name: group)
    _is(host_checks.check_group(emulated=False), Verdict.OK)
    monkeypatch.setattr(os, "getgroups", lambda: [1])
    finding = host_checks.check_group(emulated=False)
    _is(finding, Verdict.FAILED)
    assert "usermod -aG HwHiAiUser" in finding.fix

    def missing(_name: str) -> grp.struct_group:
        raise KeyError

    monkeypatch.setattr(grp, "getgrnam", missing)
    _is(host_checks.check_group(emulated=False), Verdict.FAILED, "no group")


def test_device_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All four kinds have to be there and open."""
    _is(host_checks.check_device_files(tmp_path, emulated=True), Verdict.SKIPPED)
    _is(host_checks.check_device_files(tmp_path, emulated=False), Verdict.FAILED, "davinci_manager, devmm_svm")
    for name in ("davinci_manager", "devmm_svm", "hisi_hdc"):
        (tmp_path / name).touch()
    _is(host_checks.check_device_files(tmp_path, emulated=False), Verdict.FAILED, "davinci0")
    (tmp_path / "davinci3").touch()
    _is(host_checks.check_device_files(tmp_path, emulated=False), Verdict.OK, "1 chips")
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != "davinci3")
    _is(host_checks.check_device_files(tmp_path, emulated=False), Verdict.FAILED, "davinci3")


def test_cann_and_aclruntime(emulated: Emulated, tmp_path: Path) -> None:
    """The emulator's are found; without them there is something to install."""
    emulated()
    _is(host_checks.check_cann(os.environ), Verdict.OK, "8.0.0-emulated")
    _is(host_checks.check_cann({"ASCEND_TOOLKIT_HOME": str(tmp_path)}), Verdict.FAILED)
    _is(host_checks.check_aclruntime([], os.environ), Verdict.OK)
    _is(host_checks.check_aclruntime([], {}), Verdict.FAILED, "not installed")
    (tmp_path / "aclruntime.cpython-37m-x86_64-linux-gnu.so").touch()
    (tmp_path / "aclruntime.cpython-39-x86_64-linux-gnu.so").touch()
    finding = host_checks.check_aclruntime([str(tmp_path)], {})
    _is(finding, Verdict.FAILED, "it is for Python 3.9")
    assert f"cp3{sys.version_info.minor}" in finding.fix


def test_an_aclruntime_whose_libraries_are_missing(tmp_path: Path) -> None:
    """The advice is that of the table of known failures."""
    text = "libstdc++.so.6: version `GLIBCXX_3.4.29' not found"
    (tmp_path / "aclruntime.py").write_text(f"raise ImportError({text!r})\n")
    finding = host_checks.check_aclruntime([], {"PYTHONPATH": str(tmp_path)})
    _is(finding, Verdict.FAILED, "GLIBCXX_3.4.29")
    assert "set_env.sh" in finding.fix


def test_an_emulated_fleet_of_this_home_is_looked_at_with_its_own_tools(
    npuq: Npuq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell beside it has none of them, and that is no failure; it is said."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    install(tmp_path / "emulator", FleetPlan(cards=2))
    found = {finding["check"]: finding for finding in npuq("doctor", "-o", "json").json}
    assert found["tools"]["found"] == f"emulated, of the fleet in {tmp_path / 'emulator'}; this shell's are not used"
    verdicts = {check: found[check]["verdict"] for check in ("driver", "group", "device_files", "chips", "cann")}
    assert verdicts == {"driver": "ok", "group": "skipped", "device_files": "skipped", "chips": "ok", "cann": "ok"}
    assert found["aclruntime"]["verdict"] == "ok"
    assert "emulated, 2 chips" in found["driver"]["found"]


def test_the_running_worker_tells_whose_tools_count(settings: Settings, tmp_path: Path) -> None:
    """An emulated fleet beside real cards is looked at when it runs; without a worker, the cards that there are."""
    install(settings.home / "emulator", FleetPlan(cards=1))
    driver = tmp_path / "npu-smi"
    driver.write_text("#!/bin/sh\n")
    driver.chmod(0o755)
    cards, none = {"PATH": str(tmp_path)}, {"PATH": "/nowhere"}
    assert tools_of(settings, cards) == (cards, None)
    assert tools_of(settings, none)[1] is not None
    (settings.home / "run").mkdir()
    table = ProcessTable(settings.home / "run", settings.home / "log")
    table.adopt(WORKER, os.getpid(), command=[], facts={"cards": "1 emulated Ascend310P3"})
    environment, told = tools_of(settings, cards)
    assert (environment["NPUQ_EMULATOR_HOME"], told is None) == (str(settings.home / "emulator"), False)
    table.adopt(WORKER, os.getpid(), command=[], facts={"cards": None})
    assert tools_of(settings, none) == (none, None)


def test_a_table_of_ones_own(settings: Settings) -> None:
    """Absent is fine, damaged is named."""
    _is(host_checks.check_own_signals(settings), Verdict.SKIPPED)
    settings.home.mkdir()
    own = settings.home / "ascend_errors.toml"
    own.write_text("[[atc]]\ncode='x'\npatterns=['y']\nblame='host'\nretry='no'\nadvice='Call the lab.'\n")
    _is(host_checks.check_own_signals(settings), Verdict.OK, "1 rows")
    own.write_text("[[atc]]\n")
    _is(host_checks.check_own_signals(settings), Verdict.FAILED, str(own))


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 40, 1), Verdict.WARNING), ((3, 51, 3), Verdict.OK), ((3, 53, 0), Verdict.OK)]
)
def test_versions_of_sqlite(version: tuple[int, ...], verdict: Verdict) -> None:
    """Those with the bug in the log's reset are warned of."""
    _is(fleet_checks.check_sqlite(version), verdict)


@pytest.mark.parametrize(
    ("file", "verdict"), [("/home/a/npuq.sqlite3", Verdict.FAILED), ("/data/npuq.sqlite3", Verdict.OK)]
)
def test_file_systems(file: str, verdict: Verdict) -> None:
    """The innermost mount counts; a network's has no shared memory."""
    mounts = [("/", "ext4"), ("/home", "nfs4"), ("/homes", "xfs")]
    _is(fleet_checks.check_file_system(Path(file), mounts), verdict)


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(0.5, Verdict.OK), (-3.0, Verdict.WARNING), (45.0, Verdict.FAILED), (-45.0, Verdict.FAILED)],
)
def test_clocks(seconds: float, verdict: Verdict) -> None:
    """A little is fine, much makes times and limits wrong."""
    _is(fleet_checks.judge_skew(seconds), verdict)


def test_the_store_gives_back_what_it_was_given(settings: Settings, tmp_path: Path) -> None:
    """Twice, as everybody may look; a store that cannot be written is a failure."""
    for _ in range(2):
        _is(fleet_checks.check_store(settings), Verdict.OK)
    (tmp_path / "file").touch()
    shut = settings.model_copy(update={"store_url": f"file://{tmp_path / 'file' / 'store'}"})
    _is(fleet_checks.check_store(shut), Verdict.FAILED)


def test_the_database_and_its_clock(sqlite_world: World, settings: Settings) -> None:
    """A migrated one is well, an empty one says what to run."""
    _is(fleet_checks.check_database(sqlite_world.database, settings), Verdict.OK, "schema")
    _is(fleet_checks.check_clock(sqlite_world.database), Verdict.OK)


def test_a_broker_that_may_drop_messages(redis_server: RedisServer, settings: Settings) -> None:
    """What is lost is sent again, but somebody waits for it."""
    ours = settings.model_copy(update={"broker_url": redis_server.url})
    _is(fleet_checks.check_broker(ours), Verdict.OK)
    redis_server.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        _is(fleet_checks.check_broker(ours), Verdict.WARNING, "allkeys-lru")
    finally:
        redis_server.client.config_set("maxmemory-policy", "noeviction")


def test_the_command_tells_failures_and_fixes(npuq: Npuq, sqlite_world: World) -> None:
    """Exit code 1 because no Redis answers here; JSON has every finding, the table every fix."""
    del sqlite_world
    answer = npuq("doctor", "--services", "-o", "json")
    found = {finding["check"]: finding for finding in answer.json}
    assert answer.code == 1
    assert found["broker"]["verdict"] == "failed"
    assert found["database"]["verdict"] == "ok"
    assert {"store", "clock", "sqlite", "file_system"} <= found.keys()
    assert "driver" not in found
    table = npuq("doctor", "--services").out
    assert "fix: start a fleet with: npuq up" in table


def test_without_a_fleet_the_command_says_how_to_start_one(npuq: Npuq) -> None:
    """And makes no empty database."""
    answer = npuq("doctor", "--services", "-o", "json")
    found = {finding["check"]: finding for finding in answer.json}
    assert answer.code == 1
    assert (found["database"]["verdict"], found["clock"]["verdict"]) == ("failed", "skipped")
    assert not Path("npuq.sqlite3").exists()
