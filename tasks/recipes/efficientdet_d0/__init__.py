"""EfficientDet-D0 on COCO: 512 x 512, ids 1 to 90, the network `tf_efficientdet_d0` of rwightman/efficientdet-pytorch.

Everything that the ModelZoo guide "EfficientDetD0" spreads over a patch and four scripts. The guide's figures lie in
`tasks/recipes/references.toml`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from npuq.errors import InvalidRequestError
from tasks import checkpoints, onnx_export
from tasks.protocols import Array, Dataset, Prediction, Recipe, Sample, TensorSpec
from tasks.recipes.efficientdet_d0.shapes import ANCHORS_PER_CELL, CLASSES, CODES, FIRST_LEVEL, SIDE, STRIDES

if TYPE_CHECKING:
    import torch


def _maps(kind: str, values: int) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=f"{kind}_p{level}",
            dtype="float32",
            shape=("N", ANCHORS_PER_CELL * values, SIDE // stride, SIDE // stride),
        )
        for level, stride in enumerate(STRIDES, start=FIRST_LEVEL)
    )


class EfficientDetD0:
    """The recipe; see `tasks.protocols.Recipe` for what each part promises.

    The input is called `x.1`, as in the guide. The outputs have the guide's order. Its names for them are numbers that
    change with the exporter; here they are `class_p3` to `class_p7` (logits, 9 anchors x 90 classes), then `box_p3` to
    `box_p7` (codes, 9 anchors x (ty, tx, th, tw)).

    The guide sets the padding of the maximum pools to 0 in its graph. Here it stays minus infinity, as checkpoints were
    trained: with 0, features near the right and the lower border change where all of them are negative. (onnxruntime
    could not show the guide's graph: it takes a padding of 0 before such a pool for one of minus infinity.)
    """

    id = "efficientdet_d0"
    version = 1
    dataset_format = "coco"
    passes: tuple[str, ...] = ("main",)
    inputs: tuple[TensorSpec, ...] = (TensorSpec(name="x.1", dtype="float32", shape=("N", 3, SIDE, SIDE)),)
    outputs: tuple[TensorSpec, ...] = (*_maps("class", CLASSES), *_maps("box", CODES))
    preprocessing_version = 1
    dynamic_batch = False  #: one ONNX per batch size, as in the guide

    @property
    def atc_table(self) -> Path:
        """Return the file with the mix list of the convert step."""
        return Path(__file__).parent / "atc.toml"

    def network(self) -> "torch.nn.Module":
        """Return the network in eval mode; keys `backbone`, `fpn`, `class_net` and `box_net`, as published."""
        from tasks.recipes.efficientdet_d0.network import EfficientDet

        return EfficientDet(classes=CLASSES, anchors=ANCHORS_PER_CELL).eval()

    def load_weights(self, network: "torch.nn.Module", path: Path) -> None:
        """Load a bare state dict, as published, or `{'state_dict': ...}`, with or without `module.`.

        Raises:
            CheckpointError: damaged, of another model, or holding more than weights.
        """
        checkpoints.load_strictly(network, checkpoints.read_state_dict(path))

    def export(self, network: "torch.nn.Module", onnx_path: Path, batch_size: int | None) -> None:
        """Write ONNX, opset 11, simplified: no shape arithmetic, and padding within convolutions and pools.

        Raises:
            InvalidRequestError: no batch size; this model is exported for one.
            ToolMissingError: onnxslim is not installed.
        """
        if batch_size is None:
            raise InvalidRequestError(f"{self.id} is exported for one batch size, as in the guide: name it.")
        from tasks import onnx_simplification

        onnx_export.write_onnx(network, onnx_path, inputs=self.inputs, outputs=self.outputs, batch_size=batch_size)
        onnx_simplification.simplify(onnx_path)

    def preprocess(self, image_path: Path, pass_name: str = "main") -> Sample:  # noqa: ARG002 - one pass only
        """Return float32 (3, 512, 512), RGB, normalised, the picture top left; its own scale and size as meta.

        Raises:
            DatasetError: naming a file that cannot be read.
        """
        from tasks.recipes.efficientdet_d0 import preprocess

        return preprocess.prepare(image_path)

    def postprocess(
        self,
        outputs: Sequence[Array],
        metas: Sequence[Mapping[str, Any]],
        pass_name: str = "main",  # noqa: ARG002 - one pass only
    ) -> list[Prediction]:
        """Return at most 100 detections per sample, labels are category ids; rows past `len(metas)` are padding.

        Args:
            outputs: ten arrays (batch, 810 or 36, S, S), in the order of `outputs`.
            metas: one per sample that counts, from `preprocess`.
            pass_name: always `main`.
        """
        from tasks.recipes.efficientdet_d0 import postprocess

        return [postprocess.detect([output[row] for output in outputs], meta) for row, meta in enumerate(metas)]

    def merge(self, predictions: Mapping[str, Prediction]) -> Prediction:
        """Return the prediction of the only pass."""
        return predictions["main"]

    def evaluate(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, float]:
        """Return COCO's twelve numbers, fractions; -1 where the dataset has no object of that size.

        Raises:
            DatasetError: an image without a prediction, a prediction without an image, or a dataset without boxes.
        """
        from tasks import coco_scores

        return coco_scores.score(predictions, dataset).metrics()

    def evaluation_facts(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, Any]:
        """Return `per_category`: mAP, AP50, AP75 and the number of objects, for categories that have some."""
        from tasks import coco_scores

        return {"per_category": coco_scores.score(predictions, dataset).per_category()}


RECIPE: Final[Recipe] = EfficientDetD0()
