"""The vocabulary of npuq: states, specifications, messages, errors, settings, and the way in.

Nothing here imports Celery, SQLAlchemy, torch, ONNX or typer, so that every other package may build on it.
"""

__version__ = "0.1.0"
