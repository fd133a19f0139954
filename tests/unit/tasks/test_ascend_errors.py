import re
from pathlib import Path

import pytest

from npuq.errors import Blame, DeviceError, ToolError
from tasks.ascend_errors import atc_error, classify, runtime_error, tool_code
from tasks.ascend_signals import OWN_FILE_VARIABLE, Tool, signals

#: What a tool prints -> the row it leads to: (tool, place among the rows of that code).
ATC_TEXTS = (
    (
        "driver_library_missing",
        (
            "atc.bin: error while loading shared libraries: libascend_hal.so: cannot open shared "
            "object file: No such file or directory"
        ),
    ),
    (
        "atc_libraries",
        "atc.bin: error while loading shared libraries: libge_compiler.so: cannot open shared object file",
    ),
    ("atc_python", "EC0010: [PID: 1] Failed to import Python module [ModuleNotFoundError: No module named 'attr'.]."),
    ("atc_python", "E40000: Failed to import te.platform.log_util."),
    ("atc_out_of_memory", "kernel: atc.bin invoked oom-killer"),
    ("atc_tuning_memory", "E10044: Current available mem is 1024 kB."),
    ("atc_soc_version", "E10001: Value [310P3] for parameter [--soc_version] is invalid. Reason: not supported."),
    (
        "atc_parameter",
        (
            "E10001: Value [-1] for parameter [input_2] is invalid. Reason: maybe you should set input_shape "
            "to specify its shape."
        ),
    ),
    ("atc_exclusive", "E10047: [--precision_mode] and [--precision_mode_v2] are mutually exclusive."),
    ("atc_gears", "E10036: The number of dynamic gears [120] exceeds [100]."),
    ("atc_node", "E10016: Opname [imagex] specified in [input_shape] is not found in the model."),
    ("atc_output_path", "E10021: Path [/x] of [--output] cannot be written."),
    ("atc_opset", "E19010: No parser is registered for Op [div node, optype [ai.onnx::23::Div]]."),
    ("atc_operator", "EZ3003: No supported Ops kernel and engine are found for [AddDsl], optype [AddDsl]."),
    ("atc_operator", "E20001: Failed to compile Op [x]. (optype: [StridedSliceD])"),
    ("atc_file", "E13001: cannot open file"),
    ("atc_model", "E16005: The model has [2] [--domain_version] fields"),
    ("atc_model", "[Node:176Squeeze] Check input shape faild"),
    ("atc_parameter", "E10007: [PID: 10490] 2025-03-18-09:02:18.501.341 [--framework] is required."),
    ("atc_inner", "E19999: Inner Error!"),
    ("atc_inner", "EZ9999: Inner Error!"),
)
RUNTIME_TEXTS = (
    ("runtime_libraries", "ImportError: libstdc++.so.6: version `GLIBCXX_3.4.29' not found"),
    ("device_lost", "runtime result = 507010, ts lost heartbeat"),
    ("device_lost", "SetDevice failed.ret=507901"),
    ("device_misaddressed", "EE1001: set ASCEND_RT_VISIBLE_DEVICES:4 error, input data rang[0-2)"),
    ("device_memory", "EL0004: Failed to allocate memory.\naclInit failed, ret 507899, runtime result = 207001"),
    ("device_not_accessible", "[ERROR] acl init failed, ret 507899"),
    ("device_memory_at_open", "EL0004: Failed to allocate memory.\nSetDevice failed.ret=507033"),
    ("cann_mismatch", "[FUNC:Init] version_verify failed\nopen device 0 failed,runtime result = 507033"),
    ("device_open", "EL003: The argument is invalid.\nretCode=0x7020014\nSetDevice failed.ret=507033"),
    (
        "device_memory",
        (
            "EL0004: [PID: 28794] Failed to allocate memory.\nmalloc failed, runtime result = 207001\n"
            "[ERROR] load model from file failed, model file is m.om"
        ),
    ),
    ("device_memory", "[ERROR] Malloc ptrData failed.\n[2][ACL: memory allocation fail] "),
    ("device_memory", "[200000][Failed to apply for memory] "),
    ("residual_process", "EJ0001: Maybe the last training process is running"),
    ("device_sub_healthy", "ge result = 345102"),
    ("device_dma", "System Direct Memory Access (DMA) hardware execution error, runtime result = 507013"),
    ("device_timeout", "aicore timeout, runtime result = 507014"),
    ("device_exception", "EZ9999: aicore exception\nruntime result = 507015"),
    ("om_wrong_chip", "E19999 index:0 > stream_list.size(): 0, check invalid\n[ERROR] load model from file failed"),
    ("om_other_cann", "ACL_ERROR_RT_TASK_TYPE_NOT_SUPPORT\n[ERROR] load model from file failed, model file is m.om"),
    ("feed_size", "Check i:0 name:x in size:4 needsize:8 not match"),
    ("output_size", "Infer: find outputsize is zero please check outputsize is set correct"),
    ("om_load", "[ERROR] load model from file failed, model file is /m.om"),
    ("runtime_use", "[107002][Error code unknown] "),
    ("driver_unusable", "dcmi module initialize failed. ret is -8005"),
)
TEXTS = [(Tool.ATC, *pair) for pair in ATC_TEXTS] + [(Tool.RUNTIME, *pair) for pair in RUNTIME_TEXTS]


@pytest.mark.parametrize(("tool", "code", "text"), TEXTS)
def test_texts_in_the_wild_are_recognised(tool: Tool, code: str, text: str) -> None:
    """Each leads to its row, though more general rows match as well."""
    signal = classify(text, signals(tool))
    assert signal is not None
    assert signal.code == code


@pytest.mark.parametrize("tool", Tool)
def test_every_row_has_a_text_of_its_own(tool: Tool) -> None:
    """No row is there without a test: each is the first that some text meets."""
    rows = signals(tool)
    met = {id(classify(text, rows)) for of, _, text in TEXTS if of is tool}
    assert [row.code for row in rows if id(row) not in met] == []


@pytest.mark.parametrize(
    "text",
    [
        (
            "EL0004: [PID: {n}] 2025-03-18-09:02:18.501.341 Failed to allocate memory.\n"
            "        malloc physical memory failed, runtime result = 207001"
        ),
        "[ERROR] GE({n},main):2025-05-19-15:59:07.739.753 [file.cc:288]{n} Func: EL0004 allocate",
        "[ERROR] RUNTIME({n},python3):2025-05-19 [device.cc:211]{n} Init:[LINE:{n}] EL0004",
        "EL0004: alloc size {n} failed, taskid={n}, stream_id:{n}, shape [{n}]",
        "Check i:0 name:x in size:{n} needsize:{n} not match\nEL0004: Value [{n}]",
    ],
)
def test_a_number_that_is_no_error_code_is_no_sign(text: str) -> None:
    """A process id of six digits took a sound chip out of service."""
    rows = signals(Tool.RUNTIME)
    numbers = {number for row in rows for pattern in row.patterns for number in re.findall("[0-9]{6}", pattern.pattern)}
    assert len(numbers) > 20
    assert {signal.code for n in numbers if (signal := classify(text.format(n=n), rows))} == {"device_memory"}


@pytest.mark.parametrize(
    "text",
    [
        "SetDevice failed.ret=507010",
        "Check failed:Load, ret:507010",
        "open device 0 failed,runtime result = 507010.[FUNC:Report]",
        "[507010][Error code unknown] ",
        "aclmdlExecute failed, modelId is 1, errorCode is 507010",
        "NPU function error: aclrtSynchronizeStream, error code is 507010",
        "ge result[507010]",
        "ACL_ERROR_RT_LOST_HEARTBEAT(507010)",
        "init failed, ret 507010",
        "retCode=507010, [the model stream execute failed]",
    ],
)
def test_the_tools_ways_to_give_a_code(text: str) -> None:
    """All are signs."""
    met = classify(text, signals(Tool.RUNTIME))
    assert met is not None
    assert met.code == "device_lost"


def test_noise_at_the_end_of_good_runs_is_no_sign() -> None:
    """A dying compile child says that its parent is gone, also when all went well."""
    noise = "[ERROR] TBE Subprocess[task_distribute] raise error[E19999], main process disappeared!\n"
    assert classify(noise, signals(Tool.ATC)) is None
    met = classify(f"{noise}EZ3003: x\n", signals(Tool.ATC))
    assert met is not None
    assert met.code == "atc_operator"


def test_an_error_of_atc_carries_the_tools_own_code_and_words() -> None:
    """People search for the tool's code, so it is the error's code."""
    output = "ATC run failed\nE10001: [PID: 7] Value [x] for parameter [--input_shape] is invalid.\n"
    info = atc_error(output, "exit status 255").info
    assert (info.code, info.blame, info.retry) == ("E10001", Blame.INPUT, False)
    assert "exit status 255" in info.message
    assert info.detail == output


def test_an_unknown_failure_of_atc_is_permanent_and_kept() -> None:
    """What nobody knows is shown as it is."""
    info = atc_error("something else", "exit status 1").info
    assert (info.code, info.blame, info.retry) == ("atc_failed", Blame.INPUT, False)


def test_a_codes_own_line_counts_and_its_mention_does_not() -> None:
    """A code in the middle of a sentence is not the tool's verdict."""
    assert tool_code("see E10001 in the manual\n  EZ3003: No kernel") == "EZ3003"
    assert tool_code("nothing") is None


def test_the_exceptions_text_and_the_printed_text_are_read_together() -> None:
    """The exception alone misleads: `invalid parameter` stands for a full chip, too."""
    error = RuntimeError("[1][ACL: invalid parameter] ")
    assert isinstance(runtime_error(error, "EL0004: x", "loading"), ToolError)
    assert isinstance(runtime_error(error, "runtime result = 507010", "loading"), DeviceError)
    unknown = runtime_error(error, "", "loading m.om").info
    assert (unknown.code, unknown.blame, unknown.retry) == ("device_failed", Blame.DEVICE, True)
    assert "loading m.om: [1][ACL: invalid parameter]." in unknown.message


def test_what_helps_only_once_says_so() -> None:
    """A kernel that fails is worth one other chip, an inner error of ATC one more try; a wrong size none."""
    general = RuntimeError("[-1][ACL: general failure] ")
    kernel = runtime_error(general, "runtime result = 507011", "executing").info
    assert (kernel.blame, kernel.retry, kernel.once) == (Blame.DEVICE, True, True)
    assert atc_error("E19999: Inner Error!", "exit status 255").info.once
    assert not runtime_error(general, "needsize:8", "executing").info.retry


def test_a_persons_damaged_table_does_not_hide_the_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Our rows explain it, and the log names the file."""
    own = tmp_path / "ascend_errors.toml"
    own.write_text("[[atc]]\ncode = 'x'\n")
    monkeypatch.setenv(OWN_FILE_VARIABLE, str(own))
    assert atc_error("EZ3003: x", "exit status 255").info.code == "EZ3003"
    assert str(own) in capsys.readouterr().err
