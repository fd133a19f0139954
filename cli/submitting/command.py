"""Commands whose options are the fields of a dataclass: typer reads a signature, and this writes it."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def takes(options: type[T]) -> Callable[[Callable[[typer.Context, T], int]], Callable[..., int]]:
    """Let typer call a command that takes a context and a dataclass: a parameter for each field, in their order."""
    hints = get_type_hints(options, include_extras=True)
    parameters = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(options)
    ]
    context = Parameter("ctx", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

    def decorate(command: Callable[[typer.Context, T], int]) -> Callable[..., int]:
        @wraps(command)
        def called(ctx: typer.Context, **typed: Any) -> int:  # noqa: ANN401 - as the fields say
            return command(ctx, options(**typed))

        called.__signature__ = Signature([context, *parameters])  # type: ignore[attr-defined]
        called.__annotations__ = {"ctx": typer.Context} | hints
        return called

    return decorate
