"""How findings are shown: for people a line each, and below it what to do."""

from collections.abc import Sequence
from typing import Final

from cli.doctoring.findings import Finding, Verdict
from cli.invocation import as_called
from cli.output import Column, View

_STYLES: Final = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red", Verdict.SKIPPED: ""}


def _style(finding: Finding) -> str:
    return _STYLES[finding.verdict]


def as_lines(findings: Sequence[Finding]) -> str:
    """Return the findings for a person, who gets a fix line below each failure and warning."""
    verdict_width = max((len(finding.verdict) for finding in findings), default=0)
    check_width = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<{verdict_width}}  {finding.check:<{check_width}}  {finding.found}")
        if finding.fix:
            lines.append(f"{'':<{verdict_width + check_width + 4}}fix: {as_called(finding.fix)}")
    return "".join(f"{line}\n" for line in lines)


def findings_view() -> View[Finding]:
    """Return the view of findings for every format but the table."""
    return View(
        columns=(
            Column(header="CHECK", text=lambda finding: finding.check),
            Column(
                header="VERDICT", text=lambda finding: finding.verdict, style=lambda finding: _STYLES[finding.verdict]
            ),
            Column(header="FOUND", text=lambda finding: finding.found),
            Column(header="FIX", text=lambda finding: as_called(finding.fix)),
        ),
        document=Finding.document,
        fields=("check", "verdict", "found", "fix"),
        name=lambda finding: finding.check,
        empty="nothing was checked",
    )
