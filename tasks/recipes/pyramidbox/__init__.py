"""PyramidBox on WIDER FACE: 1000 x 1000, faces, the network of yxlijun/Pyramidbox.pytorch; two passes per picture.

Everything that the ModelZoo guide "PyramidBox" spreads over a fork, two scripts and an evaluator. The guide's figures
lie in `tasks/recipes/references.toml`.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeVar

from npuq.errors import InvalidRequestError
from npuq.precision import Precision
from tasks import checkpoints, onnx_export
from tasks.protocols import Array, Dataset, Detections, Prediction, Recipe, RecipeOption, Sample, TensorSpec
from tasks.recipes.pyramidbox import shapes

if TYPE_CHECKING:
    import torch


_Choice = TypeVar("_Choice", bound=StrEnum)

SMALLEST_SIDE: Final = 64  #: the third pool and the levels above it need some pixels
LARGEST_SIDE: Final = 4000


class Upsampling(StrEnum):
    """How the corners of a map meet those of the larger one that it is upsampled to."""

    ALIGN_CORNERS = "align_corners"  #: the centres of the corner cells lie on each other; torch up to 0.3
    HALF_PIXEL = "half_pixel"  #: the edges of the maps do; torch since 0.4, unless told otherwise


class Scales(StrEnum):
    """At which scales a picture is looked at."""

    GUIDE = "guide"  #: one, in a square of a fixed size
    REFERENCE = "reference"  #: several, each as large as it comes out; see `reference_scales`


class PyramidBox:
    """The recipe; see `tasks.protocols.Recipe` for what each part promises.

    The guide's graph ends in a suppression operator that only Ascend's runtime has, in a fork that is not public. This
    one ends in corrections and scores of the 83,250 priors, which every runtime can compute; what follows is on the
    host. Opset 11 instead of the guide's 9, which cannot say how upsampling aligns.

    Args:
        upsampling: what the weights were trained with. The published ones come from torch 0.3, which knew only
            `align_corners`, and the public repository that loads the same file says so too; whether the guide's fork
            did is not known. With the other one, outputs of the golden network change by up to 2.4.
        side: of the square input in pixels; other sides than the guide's find other faces.
    """

    id = "pyramidbox"
    version = 1
    dataset_format = "widerface"
    passes: tuple[str, ...] = ("original", "flipped")
    preprocessing_version = 1
    _test_scales = Scales.GUIDE
    preferred_precision = Precision.FP32  #: the guide's: the squares that `L2Norm` sums up easily exceed float16
    dynamic_batch = False  #: one ONNX per batch size
    preferred_batch_sizes = (1,)  #: the guide's: more pictures do not fit on its chip
    options: tuple[RecipeOption, ...] = (
        RecipeOption(
            name="upsampling",
            default=Upsampling.ALIGN_CORNERS.value,
            help="align_corners (weights of torch 0.3, as published) or half_pixel (weights trained with torch >= 0.4)",
        ),
        RecipeOption(name="side", default=str(shapes.SIDE), help="of the square input, in pixels"),
        RecipeOption(
            name="test_scales",
            default=Scales.GUIDE.value,
            help="guide (one) or reference (several, without padding: for evaluate --reference only)",
        ),
    )

    def __init__(self, *, upsampling: Upsampling = Upsampling.ALIGN_CORNERS, side: int = shapes.SIDE) -> None:
        self._upsampling = upsampling
        self._side = side
        count = shapes.priors(side, side)
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec(name="image", dtype="float32", shape=("N", 3, side, side)),)
        self.outputs: tuple[TensorSpec, ...] = (
            TensorSpec(name="locations", dtype="float32", shape=("N", count, 4)),
            TensorSpec(name="scores", dtype="float32", shape=("N", count, 2)),
        )

    @property
    def chosen(self) -> Mapping[str, str]:
        """Return the options that differ from the defaults."""
        now = {"upsampling": self._upsampling.value, "side": str(self._side), "test_scales": self._test_scales.value}
        return {option.name: now[option.name] for option in self.options if now[option.name] != option.default}

    def configured(self, chosen: Mapping[str, str]) -> Recipe:
        """Return the recipe with options; raises InvalidRequestError for values that cannot be."""
        scales = _read(Scales, chosen, "test_scales", Scales.GUIDE)
        kind = PyramidBox if scales is Scales.GUIDE else AnySizePyramidBox
        upsampling = _read(Upsampling, chosen, "upsampling", Upsampling.ALIGN_CORNERS)
        return kind(upsampling=upsampling, side=_read_side(chosen))

    def network(self) -> "torch.nn.Module":
        """Return the network in eval mode; keys `vgg`, `extras`, `L2Norm*`, `lfpn_*`, `cpm` and heads, as published."""
        from tasks.recipes.pyramidbox.network import PyramidBoxNet

        return PyramidBoxNet(align_corners=self._upsampling is Upsampling.ALIGN_CORNERS).eval()

    def load_weights(self, network: "torch.nn.Module", path: Path) -> None:
        """Load a bare state dict, as published, or `{'weight': ...}`, as training saves it, with or without `module.`.

        Raises:
            CheckpointError: damaged, of another model, or holding more than weights.
        """
        checkpoints.load_strictly(network, checkpoints.read_state_dict(path, wrapper="weight"))

    def export(self, network: "torch.nn.Module", onnx_path: Path, batch_size: int | None) -> None:
        """Write ONNX, opset 11, simplified, of a fixed batch size: `image` to `locations` and `scores` (after softmax).

        Raises:
            InvalidRequestError: no batch size.
            ToolMissingError: onnxslim is not installed.
        """
        if batch_size is None:
            raise InvalidRequestError(f"{self.id} is exported for one batch size, as in the guide: name it.")
        from tasks import onnx_simplification
        from tasks.recipes.pyramidbox.network import KnownSize, PyramidBoxNet

        if not isinstance(network, PyramidBoxNet):
            raise TypeError(f"this recipe exports its own network, not {type(network).__name__}")
        fixed = KnownSize(network, self._side, self._side).eval()
        onnx_export.write_onnx(fixed, onnx_path, inputs=self.inputs, outputs=self.outputs, batch_size=batch_size)
        onnx_simplification.simplify(onnx_path)  # upsampling to a known size would compute it from shapes

    def preprocess(self, image_path: Path, pass_name: str = "original") -> Sample:
        """Return float32 (3, side, side), RGB grey levels minus a mean, the picture (or its mirror image) top left.

        Raises:
            DatasetError: naming a file that cannot be read.
        """
        from tasks.recipes.pyramidbox import preprocess

        return preprocess.prepare(image_path, pass_name, self._side)

    def postprocess(
        self, outputs: Sequence[Array], metas: Sequence[Mapping[str, Any]], pass_name: str = "original"
    ) -> list[Prediction]:
        """Return a pass's votes on each sample, see `postprocess.on_picture`; rows past `len(metas)` are padding.

        Args:
            outputs: locations (batch, P, 4) and scores (batch, P, 2).
            metas: one per sample that counts, from `preprocess`.
            pass_name: of the samples.
        """
        from tasks.recipes.pyramidbox import postprocess

        locations, scores = outputs
        return [
            postprocess.on_picture(postprocess.on_square(locations[row], scores[row], self._side), meta, pass_name)
            for row, meta in enumerate(metas)
        ]

    def merge(self, predictions: Mapping[str, Prediction]) -> Prediction:
        """Return the faces that the passes' votes elect, at most 750; see `voting.vote`."""
        from tasks.recipes.pyramidbox import voting

        return voting.vote([found for found in predictions.values() if isinstance(found, Detections)])

    def evaluate(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, float]:
        """Return `AP_easy`, `AP_medium` and `AP_hard` of WIDER FACE at an overlap of 0.5, fractions.

        Without the one of a difficulty that no face of these images counts for.

        Raises:
            DatasetError: an image without a prediction, a prediction without an image, or no dataset of WIDER FACE's.
        """
        from tasks import widerface_scores

        return widerface_scores.score(predictions, dataset).metrics()

    def evaluation_facts(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, Any]:
        """Return what `tasks.widerface_scores.facts` does, and `AP_easy_at_0.4`, ...: likely what the guide shows."""
        from tasks import widerface_scores

        found = widerface_scores.facts(predictions, dataset)
        ports = found["iou"][str(widerface_scores.PORTS_IOU)]
        return found | {f"{name}_at_{widerface_scores.PORTS_IOU}": value for name, value in ports.items()}

    def result_file(self, image_id: str, prediction: Prediction) -> tuple[PurePosixPath, str]:
        """Return an image's file as WIDER FACE's own tools read it; see `result_files`."""
        from tasks.recipes.pyramidbox import result_files

        if not isinstance(prediction, Detections):
            raise TypeError(f"the prediction for {image_id} is no detections")
        return result_files.path_of(image_id), result_files.text_of(image_id, prediction)


class AnySizePyramidBox(PyramidBox):
    """The recipe at the reference's scales: its ONNX takes any size, and is compared with torch at `side`."""

    passes = ("original", "flipped", "shrunk", "enlarged")
    _test_scales = Scales.REFERENCE

    def export(self, network: "torch.nn.Module", onnx_path: Path, batch_size: int | None) -> None:
        """Write ONNX, opset 11, with open height and width.

        Raises:
            InvalidRequestError: a batch of another size than 1: no two pictures have the same size.
        """
        if batch_size != 1:
            raise InvalidRequestError(f"{self.id} at the scales of the reference takes one picture at a time.")
        axes = {"image": {2: "H", 3: "W"}, "locations": {1: "P"}, "scores": {1: "P"}}
        onnx_export.write_onnx(
            network, onnx_path, inputs=self.inputs, outputs=self.outputs, batch_size=batch_size, open_axes=axes
        )

    def predict_picture(self, image_path: Path, run: Callable[[Array], Sequence[Array]]) -> Mapping[str, Prediction]:
        """Return the votes of each pass; see `reference_scales.predict`."""
        import numpy as np

        from tasks import images
        from tasks.recipes.pyramidbox import reference_scales

        return reference_scales.predict(np.asarray(images.read_rgb(image_path)), run)


def _read(kind: type[_Choice], chosen: Mapping[str, str], name: str, default: _Choice) -> _Choice:
    text = chosen.get(name, default.value)
    try:
        return kind(text)
    except ValueError as error:
        raise InvalidRequestError(f"{name}={text}: choose from {', '.join(kind)}") from error


def _read_side(chosen: Mapping[str, str]) -> int:
    text = chosen.get("side", str(shapes.SIDE))
    if not text.isdecimal() or not SMALLEST_SIDE <= int(text) <= LARGEST_SIDE:
        raise InvalidRequestError(f"side={text}: pixels, from {SMALLEST_SIDE} to {LARGEST_SIDE}")
    return int(text)


RECIPE: Final[Recipe] = PyramidBox()
