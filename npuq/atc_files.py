"""The files that ATC options name: is the text what the option takes? Pure; ATC has the last word on the details."""

import configparser
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from npuq.atc_options import FILE_OPTIONS
from npuq.errors import InvalidRequestError

MAX_FILE_BYTES: Final = 2**20
_MIXLIST_KEYS: Final = frozenset({"black-list", "white-list", "gray-list"})
_MIXLIST_VERBS: Final = frozenset({"to-add", "to-remove"})
_NODE_LINE: Final = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./:-]*")


def read_file(option: str, path: Path) -> str:
    """Return the text of a file that is fit for an option.

    Raises:
        InvalidRequestError: it is missing, too large, not text, or not what the option takes.
    """
    if option not in FILE_OPTIONS:
        raise InvalidRequestError(f"ATC option {option} takes no file")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidRequestError(f"{option}: {path} is larger than {MAX_FILE_BYTES} bytes")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{option}: cannot read {path} as text: {error}") from error
    try:
        _CHECKS[option](text)
    except (ValueError, configparser.Error, RecursionError) as error:
        raise InvalidRequestError(f"{option}: {path} is not what this option takes: {error}") from error
    return text


def check_mixlist(text: str) -> None:
    """Check `{"black-list": {"to-add": ["Conv2D"]}, ...}`; raises ValueError."""
    document = json.loads(text)
    if not isinstance(document, dict) or not document.keys() <= _MIXLIST_KEYS or not document:
        raise ValueError(f"an object with {', '.join(sorted(_MIXLIST_KEYS))}")
    for name, verbs in document.items():
        if not isinstance(verbs, dict) or not verbs.keys() <= _MIXLIST_VERBS:
            raise ValueError(f"{name} is an object with {', '.join(sorted(_MIXLIST_VERBS))}")
        for verb, types in verbs.items():
            if not isinstance(types, list) or not all(isinstance(item, str) for item in types):
                raise ValueError(f"{name}.{verb} is a list of operator types")


def check_fusion_switches(text: str) -> None:
    """Check `{"Switch": {"GraphFusion": {"SomePass": "off"}}}`; raises ValueError."""
    document = json.loads(text)
    switches = document.get("Switch") if isinstance(document, dict) else None
    if not isinstance(switches, dict) or not all(isinstance(passes, dict) for passes in switches.values()):
        raise ValueError('an object with "Switch", in it "GraphFusion" and "UBFusion"')
    for passes in switches.values():
        if not all(isinstance(value, str) and value in {"on", "off"} for value in passes.values()):
            raise ValueError("every pass is on or off")


def check_op_precision(text: str) -> None:
    """Check lines `Softmax = high_precision`, with or without sections; raises ValueError or configparser.Error."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text if text.lstrip().startswith("[") else f"[ByOpType]\n{text}")
    if not any(parser.items(section) for section in parser.sections()):
        raise ValueError("lines such as: Softmax = high_precision")


def check_node_names(text: str) -> None:
    """Check one node name a line; raises ValueError."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not all(_NODE_LINE.fullmatch(line) for line in lines):
        raise ValueError("one name of a node a line")


def check_aipp(text: str) -> None:
    """Check `aipp_op { ... }`, once or more; raises ValueError."""
    without_comments = re.sub(r"#[^\n]*", "", text)
    blocks = re.fullmatch(r"\s*(?:aipp_op\s*(?::\s*)?\{[^{}]*\}\s*)+", without_comments)
    if blocks is None:
        raise ValueError("aipp_op { ... }, once for each input")
    if len(re.findall(r"\baipp_mode\s*:", without_comments)) != without_comments.count("{"):
        raise ValueError("each aipp_op says its aipp_mode: static or dynamic")


def has_dynamic_aipp(text: str) -> bool:
    """Tell whether a file of `insert_op_conf` leaves its parameters to each execution; the emulated ATC refuses it."""
    return re.search(r"\baipp_mode\s*:\s*[\"']?dynamic\b", re.sub(r"#[^\n]*", "", text)) is not None


_CHECKS: Final[Mapping[str, Callable[[str], None]]] = {
    "insert_op_conf": check_aipp,
    "modify_mixlist": check_mixlist,
    "op_precision_mode": check_op_precision,
    "fusion_switch_file": check_fusion_switches,
    "keep_dtype": check_node_names,
}
