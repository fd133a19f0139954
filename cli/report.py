"""`npuq report`: the short form of `npuq results report`."""

from typing import Final

from cli.results.report import command

__all__ = ["EXAMPLES", "command"]

EXAMPLES: Final = ("npuq report @last", "npuq report @last --format modelzoo")
