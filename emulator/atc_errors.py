"""How ATC says no: the error with its code, and the sentences that several checks share.

Codes and sentences are the real tool's where they are known (its table of errors); where only the family is known the
code is of that family and the sentence is ours.
"""


class AtcError(Exception):
    """A failure that ATC reports.

    Args:
        code: for example `E10001`.
        text: what comes after it.
        solution: what ATC advises; empty: nothing.
        trace: the line below "TraceBack", which a failure in a late stage has; empty: none, and no such heading.
    """

    def __init__(self, code: str, text: str, solution: str = "", *, trace: str = "") -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.solution = solution
        self.trace = trace


def invalid_value(flag: str, value: str, reason: str, code: str = "E10001") -> AtcError:
    """Return the error that most wrong values give."""
    return AtcError(code, f"Value [{value}] for parameter [{flag}] is invalid. Reason: {reason}")


def not_found(name: str, flag: str) -> AtcError:
    """Return the error for a node or an input that a flag names and the model lacks."""
    return AtcError(
        "E10016",
        f"Opname [{name}] specified in [--{flag}] is not found in the model. Confirm whether this node name exists, or "
        "the node is not split with the specified delimiter ';'.",
        "Specify the name of an existing node in the graph.",
    )


def inner_error(text: str) -> AtcError:
    """Return the error for what the real tool does not foresee."""
    return AtcError("E19999", f"Inner Error! {text}")
