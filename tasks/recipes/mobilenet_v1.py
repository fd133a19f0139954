"""MobileNetV1 on ImageNet: 224 x 224, 1000 classes, the network of wjc852456/pytorch-mobilenet-v1.

Everything that the ModelZoo guide "MobileNet-v1" spreads over three scripts. The guide's figures lie in
`references.toml`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks import checkpoints, onnx_export
from tasks.protocols import Array, ClassScores, Dataset, Prediction, Recipe, Sample, TensorSpec

if TYPE_CHECKING:
    import torch

CLASSES: Final = 1000
FEATURES: Final = 1024
RESIZED: Final = 256  #: pixels of the short side
CROPPED: Final = 224  #: pixels of both sides
MEAN: Final = (0.485, 0.456, 0.406)  #: ImageNet's, RGB, of values in [0, 1]
STD: Final = (0.229, 0.224, 0.225)

#: The depthwise-separable blocks after the first convolution: channels in, channels out, stride.
_BLOCKS: Final = (
    (32, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
    (256, 512, 2),
    *((512, 512, 1),) * 5,
    (512, 1024, 2),
    (1024, 1024, 1),
)


class MobileNetV1:
    """The recipe; see `tasks.protocols.Recipe` for what each part promises."""

    id = "mobilenet_v1"
    version = 1
    dataset_format = "imagenet"
    passes: tuple[str, ...] = ("main",)
    inputs: tuple[TensorSpec, ...] = (TensorSpec(name="image", dtype="float32", shape=("N", 3, CROPPED, CROPPED)),)
    outputs: tuple[TensorSpec, ...] = (TensorSpec(name="class", dtype="float32", shape=("N", CLASSES)),)
    preprocessing_version = 1
    dynamic_batch = True

    def network(self) -> "torch.nn.Module":
        """Return the network in eval mode; keys `model.<block>.<layer>.*` and `fc.*`, as published."""
        from torch import nn

        model = nn.Sequential(
            _convolution(3, 32, stride=2),
            *(_separable(channels, out, stride) for channels, out, stride in _BLOCKS),
            nn.AvgPool2d(7),
        )
        parts = {"model": model, "flatten": nn.Flatten(1), "fc": nn.Linear(FEATURES, CLASSES)}
        network = nn.Sequential()
        for name, part in parts.items():
            network.add_module(name, part)
        return network.eval()

    def load_weights(self, network: "torch.nn.Module", path: Path) -> None:
        """Load `{'state_dict': ...}` or a bare state dict, with or without DataParallel's `module.`.

        Raises:
            CheckpointError: damaged, of another model, or holding more than weights.
        """
        checkpoints.load_strictly(network, checkpoints.read_state_dict(path))

    def export(self, network: "torch.nn.Module", onnx_path: Path, batch_size: int | None) -> None:
        """Write ONNX, opset 11: `image` float32 (N, 3, 224, 224) to `class` float32 (N, 1000)."""
        onnx_export.write_onnx(network, onnx_path, inputs=self.inputs, outputs=self.outputs, batch_size=batch_size)

    def preprocess(self, image_path: Path, pass_name: str = "main") -> Sample:  # noqa: ARG002 - one pass only
        """Return float32 (3, 224, 224), RGB, normalised; nothing of the original is needed afterwards.

        Raises:
            DatasetError: naming a file that cannot be read.
        """
        from tasks import images

        image = images.centre_crop(images.resize_short_side(images.read_rgb(image_path), RESIZED), CROPPED)
        return Sample(array=images.normalise(image, mean=MEAN, std=STD), meta={})

    def postprocess(
        self,
        outputs: Sequence[Array],
        metas: Sequence[Mapping[str, Any]],
        pass_name: str = "main",  # noqa: ARG002 - one pass only
    ) -> list[Prediction]:
        """Return the logits of each sample; rows past `len(metas)` are padding.

        Args:
            outputs: one array (batch, 1000).
            metas: one per sample that counts.
            pass_name: always `main`.
        """
        import numpy as np

        (logits,) = outputs
        return [ClassScores(scores=np.array(row)) for row in logits[: len(metas)]]

    def merge(self, predictions: Mapping[str, Prediction]) -> Prediction:
        """Return the prediction of the only pass."""
        return predictions["main"]

    def evaluate(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, float]:
        """Return `top1` and `top5` in percent, not rounded.

        Raises:
            DatasetError: an image without a prediction, a prediction without an image, or a dataset without labels.
        """
        from tasks import top_k

        counts = top_k.score(predictions, dataset)
        return {"top1": counts.percent(1), "top5": counts.percent(5)}

    def evaluation_facts(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, Any]:
        """Return `correct_at_rank` (images right among the best 1 to 5) and the `guide_report` block."""
        from tasks import top_k

        counts = top_k.score(predictions, dataset)
        return {"correct_at_rank": list(counts.correct_at_rank), "guide_report": counts.guide_report()}


def _convolution(channels: int, out: int, *, stride: int) -> "torch.nn.Sequential":
    from torch import nn

    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _separable(channels: int, out: int, stride: int) -> "torch.nn.Sequential":
    """Return a depthwise 3 x 3 and a pointwise 1 x 1 convolution, each with BatchNorm and ReLU."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, out, 1, 1, 0, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


RECIPE: Final[Recipe] = MobileNetV1()
