"""NAS-FPN on COCO: RetinaNet with ResNet-50 and NAS-FPN, 640 x 640, 80 classes, the network of mmdetection.

Everything that the ModelZoo guide "NAS_FPN" spreads over patches and five scripts. The guide's figures lie in
`tasks/recipes/references.toml`.

Its graph ends in a suppression operator that only Ascend's runtime has, and its ATC command names the two tensors
around it as outputs (`--out_nodes="Concat_1487:0;Reshape_1489:0"`). This recipe exports the ten raw maps of the heads
instead, which every runtime can compute, and decodes on the host: that option does not apply here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from npuq.errors import InvalidRequestError
from tasks import checkpoints, onnx_export
from tasks.protocols import Array, Dataset, Prediction, Recipe, Sample, TensorSpec
from tasks.recipes.nas_fpn import shapes

if TYPE_CHECKING:
    import torch


def _maps(kind: str, values: int) -> tuple[TensorSpec, ...]:
    channels = shapes.ANCHORS_PER_CELL * values
    sides = {level: shapes.side(level) for level in shapes.LEVELS}
    return tuple(
        TensorSpec(name=f"{kind}_p{level}", dtype="float32", shape=("N", channels, side, side))
        for level, side in sides.items()
    )


class NasFpn:
    """The recipe; see `tasks.protocols.Recipe` for what each part promises.

    Outputs: `cls_p3` ... `cls_p7`, logits of 9 anchors x 80 classes, then `reg_p3` ... `reg_p7`, deltas of 9 anchors
    x (dx, dy, dw, dh); a level's maps have sides of 80, 40, 20, 10 and 5 cells.

    Args:
        exact_placement: bring boxes back to the picture by where it lay on the canvas. The guide's script computes
            scale and pads anew, from sides that are not rounded to pixels, and is off by a pixel of the canvas for
            every fourth size of picture; its figures, and so `RECIPE`, come from that.
    """

    id = "nas_fpn"
    version = 1
    dataset_format = "coco"
    passes: tuple[str, ...] = ("main",)
    inputs: tuple[TensorSpec, ...] = (
        TensorSpec(name="input", dtype="float32", shape=("N", 3, shapes.CANVAS, shapes.CANVAS)),
    )
    outputs: tuple[TensorSpec, ...] = (*_maps("cls", shapes.CLASSES), *_maps("reg", shapes.BOX_VALUES))
    preprocessing_version = 1
    dynamic_batch = False  #: one ONNX per batch size, as in the guide
    preferred_batch_sizes = (1,)  #: the guide's only one

    def __init__(self, *, exact_placement: bool = False) -> None:
        self._exact_placement = exact_placement

    def network(self) -> "torch.nn.Module":
        """Return the network in eval mode; keys `backbone.*`, `neck.*` and `bbox_head.*`, as published."""
        from tasks.recipes.nas_fpn.network import NasFpnRetinaNet

        return NasFpnRetinaNet().eval()

    def load_weights(self, network: "torch.nn.Module", path: Path) -> None:
        """Load mmcv's `{'state_dict': ..., 'meta': ...}` or a bare state dict, with or without `module.`.

        Raises:
            CheckpointError: damaged, of another model, holding more than weights, or with weights of the head that
                the levels share but that differ between them.
        """
        checkpoints.load_strictly(network, checkpoints.read_state_dict(path))

    def export(self, network: "torch.nn.Module", onnx_path: Path, batch_size: int | None) -> None:
        """Write ONNX, opset 11, of a fixed batch size: the guide has a batch of one; more takes more memory.

        Raises:
            InvalidRequestError: no batch size.
        """
        if batch_size is None:
            raise InvalidRequestError(f"{self.id} is exported with a fixed batch size only: name one.")
        onnx_export.write_onnx(network, onnx_path, inputs=self.inputs, outputs=self.outputs, batch_size=batch_size)

    def preprocess(self, image_path: Path, pass_name: str = "main") -> Sample:  # noqa: ARG002 - one pass only
        """Return float32 (3, 640, 640), RGB, normalised, centred on the canvas; see `preprocess.prepare`.

        Raises:
            DatasetError: naming a file that cannot be read.
        """
        from tasks.recipes.nas_fpn import preprocess

        return preprocess.prepare(image_path)

    def postprocess(
        self,
        outputs: Sequence[Array],
        metas: Sequence[Mapping[str, Any]],
        pass_name: str = "main",  # noqa: ARG002 - one pass only
    ) -> list[Prediction]:
        """Return at most 100 detections of each sample, labelled with COCO's category ids; see `postprocess.detect`.

        A box that was found wholly in the padding has a negative side, as in the guide's own files.
        """
        from tasks.recipes.nas_fpn import postprocess

        return [*postprocess.detect(outputs, metas, exact_placement=self._exact_placement)]

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
        """Return `per_category`, see `tasks.coco_scores`, and the `guide_report`, whose limits are not COCO's."""
        from tasks import coco_scores
        from tasks.recipes.nas_fpn import guide_report

        scores = coco_scores.score(predictions, dataset)
        return {
            "per_category": scores.per_category(),
            "guide_report": guide_report.lines(predictions, dataset),
        }


RECIPE: Final[Recipe] = NasFpn()
