"""How the differences between a dataset and its manifest look in tables and JSON. Pure."""

from typing import TYPE_CHECKING

from cli.output import Column, View

if TYPE_CHECKING:
    from tasks.dataset_files import Difference


def differences_view(none: str) -> "View[Difference]":
    """Return the view of differences; `none` is said when there are none."""
    return View(
        columns=(
            Column(header="FILE", text=lambda difference: difference.path),
            Column(header="IS", text=lambda difference: difference.change.value),
        ),
        document=lambda difference: {"path": difference.path, "change": difference.change.name.lower()},
        fields=("path", "change"),
        name=lambda difference: difference.path,
        empty=none,
    )
