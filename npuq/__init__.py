"""The vocabulary of npuq: states, specifications, messages, errors, settings, and the way in.

`npuq.Client` is the Python API; it is imported when it is asked for. Nothing here imports Celery, SQLAlchemy, torch,
ONNX or typer, so that every other package may build on it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npuq.client import Client

__all__ = ["Client", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module has
    if name == "Client":
        from npuq.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
