import dataclasses
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npuq.errors import Blame, InvalidRequestError, ToolError, ToolMissingError
from npuq.states import JobKind
from tasks import atc, cann, convert
from tasks.steps import StepRequest
from worker.host_process import HostContext

GOOD_ATC = """#!{python}
import json, os, sys
from pathlib import Path
options = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
Path("seen.json").write_text(json.dumps({{"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}}))
print("ATC start working now, please wait for a moment.")
Path(options["output"] + "{suffix}").write_bytes({content!r})
print("{said}")
print("W11001: a warning that comes after the verdict", file=sys.stderr)
raise SystemExit({status})
"""


def context(request: StepRequest) -> HostContext:
    """Return what a convert step runs in."""
    return HostContext(request, lambda _done, _total, _unit: None)


@pytest.fixture
def request_(tmp_path: Path) -> StepRequest:
    (tmp_path / "work").mkdir()
    (tmp_path / "m.onnx").write_bytes(b"onnx")
    return StepRequest(
        job_id="0" * 32,
        attempt=1,
        kind=JobKind.CONVERT,
        recipe="mobilenet_v1",
        params={"batch_size": 4, "precision": "fp16", "soc_version": "Ascend310P3"},
        inputs={"onnx": (tmp_path / "m.onnx",)},
        input_digests={"onnx": ("0" * 64,)},
        workdir=tmp_path / "work",
    )


@pytest.fixture
def toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "toolkit"
    (root / "bin").mkdir(parents=True)
    (root / "compiler").mkdir()
    (root / "compiler" / "version.info").write_text("Version=8.0.RC2\nversion_dir=8.0\n")
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(root))
    monkeypatch.setenv("PATH", "/nowhere")
    return root


def install_atc(
    toolkit: Path,
    *,
    suffix: str = ".om",
    content: bytes = b"IMOD....",
    said: str = "ATC run success, welcome to the next use.",
    status: int = 0,
) -> None:
    program = toolkit / "bin" / "atc"
    program.write_text(GOOD_ATC.format(python=sys.executable, suffix=suffix, content=content, said=said, status=status))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_a_conversion_leaves_an_om_and_its_provenance(request_: StepRequest, toolkit: Path) -> None:
    """The outcome traces back to the exact command line."""
    install_atc(toolkit)
    outcome = convert.run(context(request_))
    work = request_.workdir
    assert outcome.outputs == {"om": (work / "mobilenet_v1_bs4.om",)}
    seen = json.loads((work / "seen.json").read_text())
    assert seen["cwd"] == str(work)
    assert outcome.facts["command"] == [str(toolkit / "bin" / "atc"), *seen["argv"]]
    assert seen["argv"] == [
        "--framework=5",
        f"--model={request_.inputs['onnx'][0]}",
        f"--output={work}/mobilenet_v1_bs4",
        "--input_format=NCHW",
        "--input_shape=image:4,3,224,224",
        "--soc_version=Ascend310P3",
        "--precision_mode=force_fp16",
        "--log=error",
    ]
    assert seen["env"]["ASCEND_PROCESS_LOG_PATH"] == f"{work}/ascend_log"
    assert int(seen["env"]["TE_PARALLEL_COMPILER"]) >= 1
    assert outcome.facts["cann_version"] == "8.0.RC2"
    assert len(outcome.facts["om_sha256"]) == 64


def test_the_suffix_of_models_with_host_code_is_found(request_: StepRequest, toolkit: Path) -> None:
    """ATC appends the host's architecture to the name of some models."""
    install_atc(toolkit, suffix="_linux_aarch64.om")
    (om,) = convert.run(context(request_)).outputs["om"]
    assert om.name == "mobilenet_v1_bs4_linux_aarch64.om"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"status": 255}, "exit status 255"),
        ({"said": "ATC is done"}, "does not report success"),
        ({"content": b"nonsense"}, "wrote no OM file"),
        ({"suffix": ".json"}, "wrote no OM file"),
    ],
)
def test_success_needs_all_three_witnesses(
    request_: StepRequest, toolkit: Path, changes: dict[str, Any], sentence: str
) -> None:
    """Exit status, success line and file must agree."""
    install_atc(toolkit, **changes)
    with pytest.raises(ToolError, match=sentence) as caught:
        convert.run(context(request_))
    assert "W11001" in caught.value.info.detail


def test_a_killed_atc_is_the_hosts_trouble(request_: StepRequest, toolkit: Path) -> None:
    """Exit status 137 usually is the kernel's out-of-memory killer."""
    install_atc(toolkit, status=137)
    with pytest.raises(ToolError, match="killed") as caught:
        convert.run(context(request_))
    assert (caught.value.info.code, caught.value.info.blame) == ("atc_out_of_memory", Blame.HOST)


def test_no_atc_says_what_to_install(request_: StepRequest, toolkit: Path) -> None:
    """A host without CANN is told about CANN."""
    with pytest.raises(ToolMissingError, match="CANN"):
        convert.run(context(request_))


@pytest.mark.parametrize(
    "params",
    [
        {"batch_size": 4, "precision": "fp16"},
        {"batch_size": 0, "precision": "fp16", "soc_version": "Ascend310P3"},
        {"batch_size": 4, "precision": "int4", "soc_version": "Ascend310P3"},
        {"batch_size": 4, "precision": "fp16", "soc_version": "Ascend310P3 --output=/etc/passwd"},
        {"batch_size": 4, "precision": "fp16", "soc_version": "310P3"},
    ],
)
def test_impossible_parameters_are_refused(request_: StepRequest, toolkit: Path, params: dict[str, Any]) -> None:
    """Nothing unchecked reaches a command line."""
    install_atc(toolkit)
    with pytest.raises(InvalidRequestError):
        convert.run(context(dataclasses.replace(request_, params=params)))
    assert not (request_.workdir / "seen.json").exists()


@settings(deadline=None)  # the machine may be busy
@given(name=st.text(max_size=30))
def test_an_input_name_stays_one_argument_or_is_refused(name: str) -> None:
    """No name can add an option, an input or a shape."""
    try:
        options = atc.AtcOptions(
            model=Path("/m.onnx"),
            output=Path("/out"),
            input_shapes={name: (1, 3, 2, 2)},
            soc_version="Ascend310",
            precision_mode="force_fp16",
        )
    except InvalidRequestError:
        return
    assert len(options.arguments()) == 8
    assert f"--input_shape={name}:1,3,2,2" in options.arguments()
    assert not set(name) & set(";: \n,")


def test_a_toolkit_without_version_is_no_toolchain(toolkit: Path) -> None:
    """Content keys need a version."""
    (toolkit / "compiler" / "version.info").write_text("nothing")
    with pytest.raises(ToolMissingError, match="does not say its version"):
        cann.fingerprint(os.environ)


def test_the_install_info_wins(toolkit: Path) -> None:
    """The toolkit's own version is preferred to the compiler's."""
    (toolkit / "x86_64-linux").mkdir()
    (toolkit / "x86_64-linux" / "ascend_toolkit_install.info").write_text("package=x\nversion=8.0.0-emulated\n")
    assert cann.fingerprint(os.environ) == "cann-8.0.0-emulated"


def test_the_stub_driver_is_added_where_no_driver_is(toolkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converting needs no card, but the driver's library or its stub."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(cann, "_DRIVER_LIBRARIES", ())
    stub = toolkit / "aarch64-linux" / "devlib"
    stub.mkdir(parents=True)
    environment = {"ASCEND_TOOLKIT_HOME": str(toolkit), "LD_LIBRARY_PATH": "/driver"}
    assert cann.atc_environment(environment, toolkit)["LD_LIBRARY_PATH"] == f"/driver:{stub}"
    (toolkit / "libascend_hal.so").touch()
    environment["LD_LIBRARY_PATH"] = str(toolkit)
    assert cann.atc_environment(environment, toolkit)["LD_LIBRARY_PATH"] == str(toolkit)
