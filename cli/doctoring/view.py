"""How findings are shown."""

from typing import Final

from cli.doctoring.findings import Finding, Verdict
from cli.output import Column, View

_STYLES: Final = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red", Verdict.SKIPPED: ""}


def _style(finding: Finding) -> str:
    return _STYLES[finding.verdict]


def findings_view() -> View[Finding]:
    """Return the view of findings: a line each, with what to do about it."""
    return View(
        columns=(
            Column(header="CHECK", text=lambda finding: finding.check),
            Column(
                header="VERDICT", text=lambda finding: finding.verdict, style=lambda finding: _STYLES[finding.verdict]
            ),
            Column(header="FOUND", text=lambda finding: finding.found),
            Column(header="FIX", text=lambda finding: finding.fix),
        ),
        document=Finding.document,
        name=lambda finding: finding.check,
        empty="nothing was checked",
    )
