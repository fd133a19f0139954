import pytest

from npuq.errors import Blame, DeviceError, ToolError
from tasks.ascend_errors import ATC_SIGNALS, RUNTIME_SIGNALS, atc_error, classify, runtime_error, tool_code

ATC_TEXTS = {
    "driver_library_missing": "atc.bin: error while loading shared libraries: libascend_hal.so: cannot open shared "
    "object file: No such file or directory",
    "atc_python": "EC0010: [PID: 1] Failed to import Python module [ModuleNotFoundError: No module named 'attr'.].",
    "atc_out_of_memory": "kernel: atc.bin invoked oom-killer",
    "atc_parameter": "E10001: Value [-1] for parameter [input_2] is invalid. Reason: maybe you should set input_shape "
    "to specify its shape.",
    "atc_node": "E10016: Opname [imagex] specified in [input_shape] is not found in the model.",
    "atc_opset": "E19010: No parser is registered for Op [div node, optype [ai.onnx::23::Div]].",
    "atc_operator": "EZ3003: No supported Ops kernel and engine are found for [AddDsl], optype [AddDsl].",
    "atc_file": "E13001: cannot open file",
    "atc_inner": "E19999: Inner Error!",
}
OTHER_ATC_TEXTS = {
    "atc_python": "E40000: Failed to import te.platform.log_util.",
    "atc_parameter": "E10007: [PID: 10490] 2025-03-18-09:02:18.501.341 [--framework] is required.",
    "atc_operator": "E20001: Failed to compile Op [x]. (optype: [StridedSliceD])",
}
RUNTIME_TEXTS = {
    "device_lost": "runtime result = 507010, ts lost heartbeat",
    "device_misaddressed": "EE1001: set ASCEND_RT_VISIBLE_DEVICES:4 error, input data rang[0-2)",
    "device_not_accessible": "[ERROR] acl init failed, ret 507899",
    "device_memory_at_open": "EL0004: Failed to allocate memory.\nSetDevice failed.ret=507033",
    "cann_mismatch": "[FUNC:Init] version_verify failed\nopen device 0 failed,runtime result = 507033",
    "device_open": "EL003: The argument is invalid.\nretCode=0x7020014\nSetDevice failed.ret=507033",
    "device_memory": "EL0004: [PID: 28794] Failed to allocate memory.\nmalloc failed, runtime result = 207001\n"
    "[ERROR] load model from file failed, model file is m.om",
    "residual_process": "EJ0001: Maybe the last training process is running",
    "device_timeout": "aicore timeout, runtime result = 507014",
    "device_exception": "EZ9999: aicore exception\nruntime result = 507015",
    "om_wrong_chip": "E19999 index:0 > stream_list.size(): 0, check invalid\n[ERROR] load model from file failed",
    "feed_size": "Check i:0 name:x in size:4 needsize:8 not match",
    "om_load": "[ERROR] load model from file failed, model file is /m.om",
    "driver_unusable": "dcmi module initialize failed. ret is -8005",
}


@pytest.mark.parametrize(("code", "text"), [*ATC_TEXTS.items(), *OTHER_ATC_TEXTS.items()])
def test_texts_of_atc_are_recognised(code: str, text: str) -> None:
    """Each text in the wild leads to its row, though more general rows match as well."""
    signal = classify(text, ATC_SIGNALS)
    assert signal is not None
    assert signal.code == code


@pytest.mark.parametrize(("code", "text"), RUNTIME_TEXTS.items())
def test_texts_of_the_runtime_are_recognised(code: str, text: str) -> None:
    """Each text in the wild leads to its row, though more general rows match as well."""
    signal = classify(text, RUNTIME_SIGNALS)
    assert signal is not None
    assert signal.code == code


def test_every_row_has_a_text_of_its_own() -> None:
    """No row is there without a test."""
    assert {signal.code for signal in ATC_SIGNALS} == set(ATC_TEXTS)
    assert {signal.code for signal in RUNTIME_SIGNALS} == set(RUNTIME_TEXTS)


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
    assert isinstance(runtime_error(error, RUNTIME_TEXTS["device_memory"], "loading"), ToolError)
    assert isinstance(runtime_error(error, RUNTIME_TEXTS["device_lost"], "loading"), DeviceError)
    unknown = runtime_error(error, "", "loading m.om").info
    assert (unknown.code, unknown.blame, unknown.retry) == ("device_failed", Blame.DEVICE, True)
    assert "loading m.om: [1][ACL: invalid parameter]." in unknown.message
