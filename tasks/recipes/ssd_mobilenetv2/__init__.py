"""SSD-MobileNetV2 on Pascal VOC 2007: 300 x 300, 20 classes, `mb2-ssd-lite` of qfgaohao/pytorch-ssd.

Everything that the ModelZoo guide "SSD-MobileNetV2" spreads over three scripts. The guide's figures lie in
`references.toml`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks import checkpoints, onnx_export
from tasks.protocols import Array, Dataset, Prediction, Recipe, Sample, TensorSpec

if TYPE_CHECKING:
    import torch


class SsdMobileNetV2:
    """The recipe; see `tasks.protocols.Recipe` for what each part promises."""

    id = "ssd_mobilenetv2"
    version = 1
    dataset_format = "voc"
    passes: tuple[str, ...] = ("main",)
    inputs: tuple[TensorSpec, ...] = (TensorSpec(name="image", dtype="float32", shape=("N", 3, 300, 300)),)
    outputs: tuple[TensorSpec, ...] = (
        TensorSpec(name="scores", dtype="float32", shape=("N", 3000, 21)),
        TensorSpec(name="boxes", dtype="float32", shape=("N", 3000, 4)),
    )
    preprocessing_version = 1
    dynamic_batch = True

    def network(self) -> "torch.nn.Module":
        """Return the network in eval mode; keys under `base_net`, `extras` and the two `*_headers`, as published."""
        from tasks.recipes.ssd_mobilenetv2.network import SSDLite

        return SSDLite().eval()

    def load_weights(self, network: "torch.nn.Module", path: Path) -> None:
        """Load a bare state dict (as published) or `{'state_dict': ...}`, with or without DataParallel's `module.`.

        Raises:
            CheckpointError: damaged, of another model, or holding more than weights.
        """
        checkpoints.load_strictly(network, checkpoints.read_state_dict(path))

    def export(self, network: "torch.nn.Module", onnx_path: Path, batch_size: int | None) -> None:
        """Write ONNX, opset 11: `image` to `scores` and `boxes`; softmax and the decoding of boxes are in the graph."""
        onnx_export.write_onnx(network, onnx_path, inputs=self.inputs, outputs=self.outputs, batch_size=batch_size)

    def preprocess(self, image_path: Path, pass_name: str = "main") -> Sample:  # noqa: ARG002 - one pass only
        """Return float32 (3, 300, 300), RGB, about -1 to 1; meta `width` and `height` of the original.

        Raises:
            DatasetError: naming a file that cannot be read.
        """
        from tasks.recipes.ssd_mobilenetv2 import preprocess

        return preprocess.prepare(image_path)

    def postprocess(
        self,
        outputs: Sequence[Array],
        metas: Sequence[Mapping[str, Any]],
        pass_name: str = "main",  # noqa: ARG002 - one pass only
    ) -> list[Prediction]:
        """Return the detections of each sample, labels 1 to 20; rows past `len(metas)` are padding.

        Args:
            outputs: scores (batch, 3000, 21) and boxes (batch, 3000, 4).
            metas: one per sample that counts.
            pass_name: always `main`.
        """
        from tasks.recipes.ssd_mobilenetv2 import postprocess

        scores, boxes = outputs
        return [postprocess.detect(scores[row], boxes[row], meta) for row, meta in enumerate(metas)]

    def merge(self, predictions: Mapping[str, Prediction]) -> Prediction:
        """Return the prediction of the only pass."""
        return predictions["main"]

    def evaluate(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, float]:
        """Return `mAP` (VOC 2007, IoU 0.5), `mAP_iou45` (the guide's), `mAP_area` and `mAP_area_iou45`, fractions.

        Raises:
            DatasetError: an image without a prediction, a prediction without an image, no dataset of VOC's, or no
                object in it.
        """
        from tasks import voc_scores

        return voc_scores.metrics(predictions, dataset)

    def evaluation_facts(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, Any]:
        """Return `per_class` and `classes_without_objects`, see `tasks.voc_scores.facts`."""
        from tasks import voc_scores

        return voc_scores.facts(predictions, dataset)


RECIPE: Final[Recipe] = SsdMobileNetV2()
