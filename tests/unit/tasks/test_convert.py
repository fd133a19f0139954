import dataclasses
import hashlib
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from npuq.errors import Blame, InvalidRequestError, ToolError, ToolMissingError
from npuq.states import JobKind
from tasks import convert
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
        "--op_compiler_cache_mode=disable",
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
    assert caught.value.info.retry


def test_a_second_kill_refuses_the_host(request_: StepRequest, toolkit: Path) -> None:
    """The second attempt had fewer compile processes; a third on this host would end alike."""
    install_atc(toolkit, status=137)
    with pytest.raises(ToolError, match="too small") as caught:
        convert.run(context(dataclasses.replace(request_, attempt=2)))
    info = caught.value.info
    assert (info.code, info.blame, info.retry) == ("atc_out_of_memory", Blame.HOST, False)


def test_options_and_their_files_reach_atc(request_: StepRequest, toolkit: Path, tmp_path: Path) -> None:
    """Uploaded files are copied into the private folder under the option's name, and the outcome tells the options."""
    install_atc(toolkit)
    mixlist = tmp_path / "uploaded"
    mixlist.write_text('{"black-list": {"to-add": ["Softmax"]}}')
    digest = hashlib.sha256(mixlist.read_bytes()).hexdigest()
    chosen = {"modify_mixlist": digest, "op_select_implmode": "high_precision", "log": "info"}
    request = dataclasses.replace(
        request_,
        params={**request_.params, "precision": "mixed", "atc": chosen},
        inputs={**request_.inputs, "modify_mixlist": (mixlist,)},
    )
    outcome = convert.run(context(request))
    argv = json.loads((request.workdir / "seen.json").read_text())["argv"]
    copy = request.workdir / "options" / "modify_mixlist.json"
    assert f"--modify_mixlist={copy}" in argv
    assert copy.read_bytes() == mixlist.read_bytes()
    assert {"--op_select_implmode=high_precision", "--log=info", "--precision_mode=allow_mix_precision"} <= set(argv)
    assert outcome.facts["atc_options"] == chosen


def test_another_file_than_the_named_one_is_refused(request_: StepRequest, toolkit: Path, tmp_path: Path) -> None:
    """The digest in the options is what counts, and a file that did not come is missed before ATC starts."""
    install_atc(toolkit)
    (tmp_path / "uploaded").write_text("{}")
    params = {**request_.params, "atc": {"keep_dtype": "a" * 64}}
    for inputs in ({}, {"keep_dtype": (tmp_path / "uploaded",)}):
        request = dataclasses.replace(request_, params=params, inputs={**request_.inputs, **inputs})
        with pytest.raises(InvalidRequestError, match="did not come with the job"):
            convert.run(context(request))


def test_gears_open_the_dimension_they_decide(request_: StepRequest, toolkit: Path) -> None:
    """One OM for several batch sizes: its name says so, the first dimension is open."""
    install_atc(toolkit)
    request = dataclasses.replace(request_, params={**request_.params, "atc": {"dynamic_batch_size": [1, 2, 8]}})
    (om,) = convert.run(context(request)).outputs["om"]
    assert om.name == "mobilenet_v1_dynamic_batch_size.om"
    argv = json.loads((request.workdir / "seen.json").read_text())["argv"]
    assert {"--input_shape=image:-1,3,224,224", "--dynamic_batch_size=1,2,8"} <= set(argv)


def test_the_version_asked_for_converts(request_: StepRequest, toolkit: Path, tmp_path: Path) -> None:
    """Of two toolkits side by side the named one runs, in its own surroundings."""
    other = tmp_path / "7.0.0"
    (other / "bin").mkdir(parents=True)
    (other / "version.info").write_text("Version=7.0.0\n")
    install_atc(toolkit)
    install_atc(other)
    request = dataclasses.replace(request_, params={**request_.params, "cann": "7.0.0"})
    outcome = convert.run(context(request))
    assert outcome.facts["cann_version"] == "7.0.0"
    assert outcome.facts["command"][0] == str(other / "bin" / "atc")
    seen = json.loads((request.workdir / "seen.json").read_text())["env"]
    assert seen["ASCEND_TOOLKIT_HOME"] == str(other)


def test_a_version_that_is_not_here_names_those_that_are(request_: StepRequest, toolkit: Path) -> None:
    """The person learns what the host has."""
    with pytest.raises(ToolMissingError, match=r"CANN 9\.9 is not on this host; it has 8\.0\.RC2"):
        convert.run(context(dataclasses.replace(request_, params={**request_.params, "cann": "9.9"})))


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
        {"batch_size": 4, "precision": "fp16", "soc_version": "Ascend310P3", "atc": {"output": "/etc/x"}},
        {"batch_size": 4, "precision": "fp16", "soc_version": "Ascend310P3", "atc": {"out_nodes": ["-a:0"]}},
    ],
)
def test_impossible_parameters_are_refused(request_: StepRequest, toolkit: Path, params: dict[str, Any]) -> None:
    """Nothing unchecked reaches a command line."""
    install_atc(toolkit)
    with pytest.raises(InvalidRequestError):
        convert.run(context(dataclasses.replace(request_, params=params)))
    assert not (request_.workdir / "seen.json").exists()
