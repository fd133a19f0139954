from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from npuq.canonical_json import canonical_json
from npuq.precision import ATC_PRECISION_MODE, Precision
from npuq.specs import (
    Source,
    SourceKind,
    content_key,
    derived_id,
    id_component,
)
from npuq.states import JobKind
from tests.services.world import run_spec

WORK: dict[str, Any] = {
    "kind": JobKind.CONVERT,
    "recipe": "mobilenet_v1",
    "recipe_version": 1,
    "inputs": {"onnx": ("a" * 64,)},
    "params": {"batch_size": 1, "precision": "fp16"},
    "toolchain": "cann-8",
}
LISTED: dict[str, Any] = {"digest": "1" * 64, "count": 3}
PART = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": JobKind.INFER},
        {"recipe": "vgg16"},
        {"recipe_version": 2},
        {"inputs": {"onnx": ("b" * 64,)}},
        {"inputs": {"weights": ("a" * 64,)}},
        {"inputs": {"onnx": ("a" * 64, "a" * 64)}},
        {"params": {"batch_size": 2, "precision": "fp16"}},
        {"params": {"batch_size": 1}},
        {"toolchain": "cann-9"},
    ],
)
def test_everything_that_changes_the_outcome_changes_the_key(change: dict[str, Any]) -> None:
    """Two jobs share a key only when they do the same work."""
    assert content_key(**WORK) != content_key(**(WORK | change))


def test_the_order_of_parameters_does_not_change_the_key() -> None:
    """The order of inputs does: shards are scored in order."""
    turned = WORK | {"params": {"precision": "fp16", "batch_size": 1}}
    assert content_key(**WORK) == content_key(**turned)
    two = [{"predictions": ("a", "b")}, {"predictions": ("b", "a")}]
    assert content_key(**(WORK | {"inputs": two[0]})) != content_key(**(WORK | {"inputs": two[1]}))


def test_a_key_has_no_accidents() -> None:
    """A number that is none cannot be part of a key."""
    with pytest.raises(ValueError, match="JSON"):
        content_key(**(WORK | {"params": {"x": float("nan")}}))


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_a_value_has_one_text(value: dict[str, Any]) -> None:
    """Insertion order is invisible, and the text is ASCII."""
    text = canonical_json(value)
    assert text == canonical_json(dict(reversed(value.items())))
    assert text.isascii()


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=3), st.integers(0, 2)
)
def test_derived_ids_are_stable_and_told_apart(parts: list[str], at: int) -> None:
    """The same parts make the same id; where one part ends is part of it."""
    assert derived_id(*parts) == derived_id(*parts)
    changed = [*parts]
    changed[at % len(parts)] += "x"
    assert derived_id(*parts) != derived_id(*changed)
    assert derived_id("ab", "c") != derived_id("a", "bc")


@given(st.text())
def test_a_component_of_an_id_is_safe_in_names_of_files_and_queues(text: str) -> None:
    """No slash, no blank, no leading dot, never empty, and stable."""
    safe = id_component(text)
    assert safe
    assert safe.isascii()
    assert not set(safe) & set("/\\ \0:\n")
    assert safe[0] not in "-."
    assert id_component(safe) == safe


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"goals": (JobKind.INFER,), "dataset": None}, "needs a dataset"),
        ({"goals": ()}, "goals"),
        ({"batch_sizes": (1, 1)}, "listed twice"),
        ({"batch_sizes": (0,)}, "batch_sizes"),
        ({"batch_sizes": tuple(range(1, 80))}, "batch_sizes"),
        ({"soc_version": "310P3"}, "soc_version"),
        ({"recipe": "../etc"}, "recipe"),
        ({"name": "two\nlines"}, "name"),
        ({"run_id": "not-a-uuid"}, "run_id"),
        ({"submitted_at": datetime(2026, 1, 1)}, "submitted_at"),  # noqa: DTZ001 - naive on purpose
        ({"priority": 101}, "priority"),
        ({"surprise": 1}, "surprise"),
        ({"images": LISTED, "limit": 5}, "limit and images exclude each other"),
        ({"images": LISTED, "goals": (JobKind.BENCHMARK,), "dataset": None}, "a list of images needs a dataset"),
        ({"images": LISTED | {"count": 0}}, "images.count"),
        ({"images": LISTED | {"digest": "../x"}}, "images.digest"),
    ],
)
def test_a_specification_that_makes_no_sense_is_refused(change: dict[str, Any], reason: str) -> None:
    """Before anything acts on it, and with the name of what is wrong."""
    with pytest.raises(ValidationError, match=reason):
        run_spec(**change)


@pytest.mark.parametrize(
    ("kind", "goal"),
    [(SourceKind.ONNX, JobKind.EXPORT), (SourceKind.OM, JobKind.EXPORT), (SourceKind.OM, JobKind.CONVERT)],
)
def test_a_source_cannot_be_asked_for_what_comes_before_it(kind: SourceKind, goal: JobKind) -> None:
    """An OM is not converted, and nothing but weights is exported."""
    source = Source(kind=kind, digest="a" * 64, size_bytes=1, name="file")
    with pytest.raises(ValidationError, match=f"{goal.value} starts from weights"):
        run_spec(source=source, goals=(goal,))


def test_every_precision_has_a_mode_of_atc() -> None:
    """Our words are all known to the tool."""
    assert set(ATC_PRECISION_MODE) == set(Precision)
