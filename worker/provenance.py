"""What a result must be able to tell years later: on what, with what, from what. Pure."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from db.records import Assignment, NewResult
from npuq import __version__
from npuq.canonical_json import canonical_json
from npuq.errors import Blame, ErrorInfo
from npuq.states import JobKind, Quality, Scope
from tasks.steps import StepOutcome

#: What a job inherits from the conversion at the root of its inputs.
_CONVERSION: Final = "conversion"
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # in JSON text; an escaped backslash before `u0000` is none
_OF_CONVERSION: Final = (
    "command",
    "atc_options",
    "toolchain",
    "cann_version",
    "om_sha256",
    "atc_seconds",
    "soc_version",
    "host",
)


def facts_of(assignment: Assignment, outcome: StepOutcome) -> dict[str, Any]:
    """Return the facts kept with a job: its own, where it ran, and which conversion its model came from."""
    device = assignment.device
    facts: dict[str, Any] = {
        **outcome.facts,
        "quality": outcome.quality,
        "npuq_version": __version__,
        "host": device.host,
        "device_id": device.device_id,
        "soc_version": assignment.params.get("soc_version") or device.soc_version,
        "toolchain": outcome.facts.get("toolchain") or next(iter(device.toolchains), ""),
        "emulated": device.emulated,
    }
    if assignment.inputs.get("om"):
        facts["om_digest"] = assignment.inputs["om"][0]
    conversion = _conversion(assignment)
    if conversion is not None:
        facts[_CONVERSION] = conversion
    return facts


def trouble_of(outcome: StepOutcome) -> ErrorInfo | None:
    """Return why what a step says cannot be kept; None when it can.

    A measurement that is no number never enters the history, and facts must be JSON that every database takes.
    """
    odd = sorted(name for name, metric in outcome.metrics.items() if not math.isfinite(metric.value))
    reason = f"{', '.join(odd)} is no number" if odd else ""
    try:
        if _NUL.search(canonical_json(dict(outcome.facts))):
            reason = "its facts hold a NUL character"
    except (TypeError, ValueError) as error:
        reason = f"its facts are no JSON: {error}"
    if not reason:
        return None
    message = f"the step ended well, but {reason}; this is a mistake of the recipe or the tool, nothing was recorded"
    return ErrorInfo(code="bad_outcome", blame=Blame.INPUT, message=message, retry=False)


def _conversion(assignment: Assignment) -> dict[str, Any] | None:
    for model in assignment.input_facts.get("om", ()):
        return {name: model[name] for name in _OF_CONVERSION if name in model}
    for shard in assignment.input_facts.get("predictions", ()):
        found: dict[str, Any] | None = shard.get(_CONVERSION)
        return found
    return None


def result_of(assignment: Assignment, outcome: StepOutcome, facts: Mapping[str, Any]) -> NewResult | None:
    """Return the row of the history that a job leaves; None for the kinds that measure nothing."""
    match assignment.kind:
        case JobKind.EVALUATE:
            return _accuracy(assignment, outcome, facts)
        case JobKind.BENCHMARK:
            return _performance(assignment, outcome, facts)
        case _:
            return None


def _accuracy(assignment: Assignment, outcome: StepOutcome, facts: Mapping[str, Any]) -> NewResult:
    shards = assignment.input_facts.get("predictions", ())
    chips = _distinct(shard.get("device_id") for shard in shards)
    conversion = facts.get(_CONVERSION, {})
    return NewResult(
        kind="accuracy",
        dataset=assignment.params.get("dataset"),
        dataset_digest=assignment.params.get("dataset_digest"),
        samples=outcome.facts.get("samples"),
        dataset_samples=outcome.facts.get("dataset_samples"),
        images_digest=assignment.params.get("images", {}).get("digest"),
        soc_version=assignment.params.get("soc_version"),
        device_id=chips[0] if len(chips) == 1 else None,
        emulated=any(bool(shard.get("emulated")) for shard in shards),
        batch_size=assignment.params["batch_size"],
        precision=assignment.params["precision"],
        quality=Quality(outcome.quality),
        om_digest=_model(shards),
        toolchain=str(conversion.get("toolchain", "")),
        facts={**facts, "devices": chips, "params": dict(assignment.params)},
        metrics=_metrics(outcome),
    )


def _performance(assignment: Assignment, outcome: StepOutcome, facts: Mapping[str, Any]) -> NewResult:
    conversion = facts.get(_CONVERSION, {})
    models = assignment.inputs.get("om", ())
    return NewResult(
        kind="performance",
        dataset=None,
        dataset_digest=None,
        samples=None,
        soc_version=assignment.soc_version,
        device_id=None if assignment.params.get("chips", 1) > 1 else assignment.device.device_id,
        scope=assignment.params.get("scope", Scope.CHIP),
        emulated=assignment.device.emulated,
        batch_size=assignment.params["batch_size"],
        precision=assignment.params["precision"],
        quality=Quality(outcome.quality),
        om_digest=models[0] if models else None,
        toolchain=str(conversion.get("toolchain", "")),
        facts={**facts, "params": dict(assignment.params)},
        metrics=_metrics(outcome),
    )


def _metrics(outcome: StepOutcome) -> dict[str, tuple[float, str]]:
    return {name: (metric.value, metric.unit) for name, metric in outcome.metrics.items()}


def _model(shards: Iterable[Mapping[str, Any]]) -> str | None:
    found = _distinct(shard.get("om_digest") for shard in shards)
    return found[0] if len(found) == 1 else None


def _distinct(values: Iterable[Any]) -> list[str]:
    return sorted({str(value) for value in values if value is not None})
