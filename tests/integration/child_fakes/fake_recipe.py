"""A recipe without a network, found as third parties' recipes are: images are small text files."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npuq.errors import DatasetError
from tasks.protocols import Array, ClassScores, Dataset, Prediction, Sample, TensorSpec

if TYPE_CHECKING:
    import torch

SHAPE = (3, 8, 8)


class FakePixels:
    """An image file holds a number: the value of all its pixels, and its only class score."""

    id = "fake_pixels"
    version = 1
    dataset_format = "imagenet"
    passes: tuple[str, ...] = ("main", "stuck")
    inputs = (TensorSpec(name="image", dtype="float32", shape=("N", *SHAPE)),)
    outputs = (TensorSpec(name="class", dtype="float32", shape=("N", 2)),)
    preprocessing_version = 1
    dynamic_batch = True

    def network(self) -> "torch.nn.Module":
        """Refuse."""
        raise NotImplementedError

    def load_weights(self, network: "torch.nn.Module", path: Path) -> None:
        """Refuse."""
        raise NotImplementedError

    def export(self, network: "torch.nn.Module", onnx_path: Path, batch_size: int | None) -> None:
        """Refuse."""
        raise NotImplementedError

    def preprocess(self, image_path: Path, pass_name: str = "main") -> Sample:
        """Read the number; the pass `stuck` never comes back."""
        if pass_name == "stuck":
            threading.Event().wait()
        with (image_path.parent.parent / "read.log").open("a") as reads:
            reads.write(f"{image_path.stem}\n")
        try:
            value = float(image_path.read_text())
        except ValueError as error:
            raise DatasetError(f"{image_path} is damaged") from error
        return Sample(array=np.full(SHAPE, value, np.float32), meta={"value": value})

    def postprocess(
        self,
        outputs: Sequence[Array],
        metas: Sequence[Mapping[str, Any]],
        pass_name: str = "main",  # noqa: ARG002
    ) -> list[Prediction]:
        """Pair what the chip said with what preprocessing noted."""
        return [
            ClassScores(scores=np.array([row[0], meta["value"]], np.float32))
            for row, meta in zip(outputs[0][: len(metas)], metas, strict=True)
        ]

    def merge(self, predictions: Mapping[str, Prediction]) -> Prediction:
        """Return the prediction of the main pass."""
        return predictions["main"]

    def evaluate(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, float]:
        """Refuse."""
        raise NotImplementedError


RECIPE = FakePixels()
