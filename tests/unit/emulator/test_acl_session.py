import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from emulator import aclruntime, atc
from emulator.acl_pipeline import PipelinedSession
from emulator.diary import read
from emulator.fleet import Api, Fault, FaultKind, Mode, ServiceTime
from emulator.home import Home
from emulator.install import CHECKOUT
from emulator.occupancy import occupants

Compiled = Callable[..., Path]
IMAGE = np.random.default_rng(2).standard_normal((2, 3, 8, 8)).astype(np.float32)
LOAD_FAILED = "[1][ACL: invalid parameter] "


def _open(path: Path, device: int = 0, log_level: int = 2) -> PipelinedSession:
    options = aclruntime.session_options()
    options.log_level = log_level
    session: PipelinedSession = aclruntime.InferenceSession(str(path), device, options)
    return session


def _on_device(array: Any, device: int = 0) -> aclruntime.Tensor:
    tensor = aclruntime.Tensor(array)
    tensor.to_device(device)
    return tensor


def _put(home: Home, kind: FaultKind, **more: Any) -> None:
    fault = Fault(device=0, kind=kind, **more)
    home.edit(lambda fleet: replace(fleet, faults=(fault,)))


def _error(call: Callable[[], object]) -> str:
    with pytest.raises(RuntimeError) as caught:
        call()
    return str(caught.value)


def test_outputs_are_those_of_the_onnx(compiled: Compiled, onnx_file: Path) -> None:
    """By order, by name and by pointer; outputs stay on the device until moved."""
    session = _open(compiled())
    array = IMAGE.copy()
    pointer = aclruntime.BaseTensor(array.__array_interface__["data"][0], array.nbytes)
    expected = onnxruntime.InferenceSession(onnx_file).run(None, {"image": IMAGE})[0]
    for feeds in ([_on_device(IMAGE)], {"image": _on_device(IMAGE)}, [pointer]):
        (output,) = session.run(["features"], feeds)
        assert output.device == 0
        output.to_host()
        np.testing.assert_array_equal(np.array(output), expected)


def test_descriptions(compiled: Compiled) -> None:
    """Names, ACL types and formats, shapes, and sizes in bytes."""
    session = _open(compiled())
    (described,) = session.get_inputs()
    assert (described.name, described.datatype, described.format) == ("image", aclruntime.dtype.float32, 0)
    assert (described.shape, described.size, described.realsize) == ([2, 3, 8, 8], 1536, 1536)
    assert [each.name for each in session.get_outputs()] == ["features"]
    assert "#0    image  (2, 3, 8, 8)  float32  1536  1536" in str(session)


def test_times_are_pairs_and_count_every_loop(compiled: Compiled, capfd: pytest.CaptureFixture[str]) -> None:
    """One (start, end) per execution, ascending; the loop shows its progress with carriage returns."""
    session = _open(compiled())
    session.options().loop = 3
    session.run(["features"], [_on_device(IMAGE)])
    times: Any = session.sumary().exec_time_list
    assert len(times) == 3
    assert all(start < end for start, end in times)
    assert "\rloop inference exec: (3/3)" in capfd.readouterr().out
    session.reset_sumaryinfo()
    assert session.sumary().exec_time_list == []


def test_times_of_the_old_api_are_floats(home: Home, compiled: Compiled) -> None:
    """fleet.json chooses the generation."""
    home.edit(lambda fleet: replace(fleet, api=Api.FLOATS))
    session = _open(compiled())
    session.run(["features"], [_on_device(IMAGE)])
    (milliseconds,) = session.sumary().exec_time_list
    assert isinstance(milliseconds, float)


def test_log_lines_of_a_load_go_to_stdout(compiled: Compiled, capfd: pytest.CaptureFixture[str]) -> None:
    """Below sys.stdout, once per process and device; the level silences them."""
    model = compiled()
    capfd.readouterr()
    _open(model).free_resource()
    *opened, unloaded = capfd.readouterr().out.splitlines()
    assert opened == [
        "[INFO] acl init success",
        "[INFO] open device 0 success",
        f"[INFO] load model {model} success",
        "[INFO] create model description success",
    ]
    assert unloaded.startswith("[INFO] unload model success, model Id is ")
    _open(model, log_level=4).free_resource()
    assert capfd.readouterr().out == ""


def test_wrong_feeds(compiled: Compiled, capfd: pytest.CaptureFixture[str]) -> None:
    """Sizes, numbers, names and places are checked; dtype and shape are not."""
    session = _open(compiled())
    small = _on_device(IMAGE[:1])
    assert _error(lambda: session.run(["features"], [small])) == "[-1][ACL: general failure] "
    assert "[ERROR] Check i:0 name:image in size:768 needsize:1536 not match" in capfd.readouterr().out
    whole = _on_device(IMAGE)
    bad_feeds: list[Any] = [[whole, whole], {"imag": whole}, [aclruntime.Tensor(IMAGE)]]
    for feeds in bad_feeds:
        assert _error(partial(session.run, ["features"], feeds)) == "[-1][ACL: general failure] "
    assert _error(partial(session.run, ["nothing"], [whole])) == "[-1][ACL: general failure] "
    assert "[ERROR] outnames nothing not valid" in capfd.readouterr().out
    session.run(["features"], [_on_device(IMAGE.astype(np.float64).ravel()[: IMAGE.size // 2])])


def test_a_model_that_cannot_compute_fails_when_it_runs(
    home: Home, onnx_file: Path, atc_command: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Shape inference passes over a wrong number of channels; the execution does not."""
    del home
    arguments = [word for word in atc_command(onnx_file, "m") if not word.startswith("--input_shape")]
    assert atc.main([*arguments, "--input_shape=image:2,5,8,8"]) == 0
    session = _open(Path("m.om"))
    wrong = _on_device(np.zeros((2, 5, 8, 8), np.float32))
    assert _error(lambda: session.run(["features"], [wrong])) == "[-1][ACL: general failure] "
    assert "507011" in capfd.readouterr().out


def test_om_for_another_chip_is_refused_at_load(compiled: Compiled, capfd: pytest.CaptureFixture[str]) -> None:
    """The exception misleads as the real one does; the reason is on stdout."""
    assert _error(lambda: _open(compiled(soc="Ascend310"))) == LOAD_FAILED
    printed = capfd.readouterr().out
    assert "E19999: Inner Error!" in printed
    assert "[ERROR] load model from file failed, model file is" in printed


@pytest.mark.parametrize("content", [None, b"IMODxxxx"])
def test_unreadable_om(home: Home, tmp_path: Path, content: bytes | None) -> None:
    """Missing and corrupt look the same from outside."""
    del home
    path = tmp_path / "x.om"
    if content is not None:
        path.write_bytes(content)
    assert _error(lambda: _open(path)) == LOAD_FAILED


def test_wrong_device_number(compiled: Compiled, capfd: pytest.CaptureFixture[str]) -> None:
    """107001 with the runtime's text."""
    model = compiled()
    assert _error(lambda: _open(model, device=2)) == "[107001][Error code unknown] "
    assert "input data rang[0-2)" in capfd.readouterr().out


def test_visible_devices_are_numbered_anew(home: Home, compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ASCEND_RT_VISIBLE_DEVICES=1 device 0 is chip 1, and there is no device 1."""
    model = compiled()
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1")
    session = _open(model)
    assert [each.logic_id for each in occupants(home)] == [1]
    assert "107001" in _error(lambda: _open(model, device=1))
    session.free_resource()


def test_memory_is_held_while_the_model_is_loaded(home: Home, compiled: Compiled) -> None:
    """From load to free; freeing twice is harmless, running afterwards is not."""
    session = _open(compiled())
    (held,) = occupants(home)
    assert held.memory_mb > 0
    session.free_resource()
    session.free_resource()
    assert occupants(home) == []
    assert "general failure" in _error(lambda: session.run(["features"], [_on_device(IMAGE)]))


def test_a_dropped_session_frees_its_memory(home: Home, compiled: Compiled) -> None:
    """As the destructor of the real one."""
    session = _open(compiled())
    del session
    assert occupants(home) == []


def test_a_session_does_not_survive_a_fork(home: Home, compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a child process there is no context, and the parent's model stays loaded."""
    session = _open(compiled())
    tensor = _on_device(IMAGE)
    with monkeypatch.context() as forked:
        forked.setattr("emulator.acl_model.os.getpid", lambda: -1)
        assert _error(lambda: session.run(["features"], [tensor])) == "[107002][Error code unknown] "
        session.free_resource()
    assert len(occupants(home)) == 1
    session.run(["features"], [tensor])


def test_a_full_chip_refuses_the_model(home: Home, compiled: Compiled, capfd: pytest.CaptureFixture[str]) -> None:
    """Two models where one fits: EL0004, and the other chip still takes it."""
    model = compiled()
    chips = home.fleet().chips
    tight = replace(chips[0], memory_total_mb=chips[0].memory_idle_mb + 150)
    home.edit(lambda fleet: replace(fleet, chips=(tight, *chips[1:])))
    first = _open(model)
    assert _error(lambda: _open(model)) == LOAD_FAILED
    assert "runtime result = 207001" in capfd.readouterr().out
    _open(model, device=1).free_resource()
    first.free_resource()
    _open(model).free_resource()


@pytest.mark.parametrize(
    ("kind", "text", "printed"),
    [
        (FaultKind.OPEN_FAILED, "[507033][Error code unknown] ", "SetDevice failed.ret=507033"),
        (FaultKind.OOM, LOAD_FAILED, "EL0004"),
        (FaultKind.WRONG_SOC, LOAD_FAILED, "stream_list.size(): 0"),
        (FaultKind.LOST, "[507901][Error code unknown] ", "[ERROR] acl open device 0 failed"),
    ],
)
def test_faults_at_load(
    home: Home, compiled: Compiled, capfd: pytest.CaptureFixture[str], kind: FaultKind, text: str, printed: str
) -> None:
    """Exception text and stdout are those of the field; nothing stays behind on the chip."""
    model = compiled()
    _put(home, kind)
    assert _error(lambda: _open(model)) == text
    assert printed in capfd.readouterr().out
    assert occupants(home) == []


@pytest.mark.parametrize(
    ("kind", "text", "printed"),
    [
        (FaultKind.OOM, "[207001][Error code unknown] ", "EL0004"),
        (FaultKind.LOST, "[-1][ACL: general failure] ", "507010"),
        (FaultKind.BAD_EXECUTE, "[-1][ACL: general failure] ", "507011"),
    ],
)
def test_faults_at_execution(
    home: Home, compiled: Compiled, capfd: pytest.CaptureFixture[str], kind: FaultKind, text: str, printed: str
) -> None:
    """A loaded model fails when it runs."""
    session = _open(compiled())
    _put(home, kind)
    assert _error(lambda: session.run(["features"], [_on_device(IMAGE)])) == text
    assert printed in capfd.readouterr().out
    assert read(home.diary_path)[-1]["ok"] is False


def test_without_a_driver_no_chip_opens(home: Home, compiled: Compiled, capfd: pytest.CaptureFixture[str]) -> None:
    """The host's own fault strikes every chip at once."""
    path = compiled()
    home.edit(lambda fleet: replace(fleet, faults=(Fault(device=None, kind=FaultKind.NO_DRIVER),)))
    assert _error(lambda: _open(path, 1)) == "[507899][Error code unknown] "
    assert "acl init failed" in capfd.readouterr().out


def test_a_fault_that_counts_once_heals(home: Home, compiled: Compiled) -> None:
    """The next try works: what a retry on the same chip relies on."""
    model = compiled()
    _put(home, FaultKind.OPEN_FAILED, count=1)
    _error(lambda: _open(model))
    _open(model).free_resource()
    assert [entry["kind"] for entry in read(home.diary_path) if entry["event"] == "fault"] == ["open_failed"]


def test_diary_of_a_session(home: Home, compiled: Compiled) -> None:
    """Open, run with batch and loop, close: chip and model are named."""
    session = _open(compiled(), device=1)
    session.options().loop = 2
    session.run(["features"], [_on_device(IMAGE, 1)])
    session.free_resource()
    entries = [entry for entry in read(home.diary_path) if not entry["event"].startswith("atc")]
    assert [entry["event"] for entry in entries] == ["session_open", "run_start", "run_end", "session_close"]
    assert {entry["device"] for entry in entries} == {1}
    assert {entry["model"].partition("/")[0] for entry in entries} == {"m_bs2"}
    assert (entries[1]["batch"], entries[1]["loop"], entries[2]["ok"]) == (2, 2, True)


def _timed(home: Home, base_ms: float) -> None:
    model = ServiceTime(base_ms=base_ms, per_sample_ms=0.0)
    home.edit(lambda fleet: replace(fleet, mode=Mode.TIMED, service_time=model))


def _milliseconds(session: PipelinedSession) -> list[float]:
    times: Any = session.sumary().exec_time_list
    return [end - start for start, end in times]


def test_timed_mode_answers_zeros_after_its_time(home: Home, compiled: Compiled) -> None:
    """Shape and type are the model's; slow multiplies the time."""
    session_of = compiled()
    _timed(home, base_ms=5)
    session = _open(session_of)
    (output,) = session.run(["features"], [_on_device(IMAGE)])
    output.to_host()
    array = np.array(output)
    assert (array.shape, array.dtype.name) == ((2, 4, 6, 6), "float32")
    assert not array.any()
    _put(home, FaultKind.SLOW, factor=4.0)
    session.run(["features"], [_on_device(IMAGE)])
    usual, slow = _milliseconds(session)
    assert usual >= 5
    assert slow >= 20


def test_timed_mode_needs_no_onnxruntime(home: Home, compiled: Compiled) -> None:
    """So that many device processes start fast."""
    model = compiled()
    _timed(home, base_ms=1)
    script = (
        "import sys, aclruntime\n"
        f"aclruntime.InferenceSession({str(model)!r}, 0, aclruntime.session_options())\n"
        "print('onnxruntime' in sys.modules, 'onnx' in sys.modules)\n"
    )
    assert "False False" in _python(home, script).stdout.splitlines()


def test_a_chip_executes_one_thing_at_a_time(home: Home, compiled: Compiled) -> None:
    """While somebody executes on the chip, a run waits, noted as started; it ends once the chip is free."""
    session = _open(compiled())
    runner = threading.Thread(target=session.run, args=(["features"], [_on_device(IMAGE)]))
    with home.locked("chip-0"):
        runner.start()
        _wait_until(lambda: read(home.diary_path)[-1]["event"] == "run_start")
        runner.join(0.2)
        assert runner.is_alive()
    runner.join()
    assert read(home.diary_path)[-1]["event"] == "run_end"


def _python(home: Home, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script that finds `aclruntime` as the real one is found."""
    return subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={"PYTHONPATH": f"{home.root / 'python'}{os.pathsep}{CHECKOUT}", "PATH": "/nowhere"},
        cwd=home.root,
        capture_output=True,
        text=True,
        check=False,
    )


RUN_ONCE = (
    "import aclruntime, numpy, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "session = aclruntime.InferenceSession(sys.argv[1], 0, aclruntime.session_options())\n"
    "tensor = aclruntime.Tensor(numpy.zeros((2, 3, 8, 8), 'f')); tensor.to_device(0)\n"
    "session.run(['features'], [tensor])\n"
)


def _start(home: Home, model: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-c", RUN_ONCE, str(model)],
        env={"PYTHONPATH": f"{home.root / 'python'}{os.pathsep}{CHECKOUT}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_crash_aborts_the_process(home: Home, compiled: Compiled) -> None:
    """SIGABRT, and the memory of the dead process counts no more."""
    model = compiled()
    _put(home, FaultKind.CRASH)
    process = _start(home, model)
    assert process.wait() == -signal.SIGABRT
    assert occupants(home) == []
    assert [entry["event"] for entry in read(home.diary_path)][-2:] == ["run_start", "fault"]


def test_hang_yields_to_sigkill_only(home: Home, compiled: Compiled) -> None:
    """A Python handler of SIGTERM never runs, as while the real binding holds the GIL."""
    model = compiled()
    _put(home, FaultKind.HANG)
    process = _start(home, model)
    try:
        _wait_until(lambda: any(entry["event"] == "fault" for entry in read(home.diary_path)))
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert occupants(home) == []


def _wait_until(happened: Callable[[], bool], limit_seconds: float = 20.0) -> None:
    end = time.monotonic() + limit_seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_finalize_resets_devices(compiled: Compiled, capfd: pytest.CaptureFixture[str]) -> None:
    """Callable on class and session, as both generations of the API do; the next session opens the device anew."""
    session = _open(compiled())
    session.finalize()
    aclruntime.InferenceSession.finalize()
    capfd.readouterr()
    _open(compiled())
    assert "[INFO] open device 0 success" in capfd.readouterr().out
