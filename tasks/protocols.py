"""The seams of the work: recipes, inference sessions and feeders. Values and Protocols only.

Planning on a laptop needs what recipes say of themselves, and no array: this module imports no numpy.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

from npuq.precision import Precision

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from tasks.dataset_manifest import FileEntry
    from tasks.steps import DatasetRef

Array: TypeAlias = "NDArray[Any]"


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A named input or output of a network; the batch axis is written "N"."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def at_batch(self, batch_size: int) -> tuple[int, ...]:
        """Return the shape with the batch axis filled in."""
        return tuple(batch_size if axis == "N" else int(axis) for axis in self.shape)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One preprocessed image.

    Attributes:
        array: float32 (C, H, W), in the range the recipe says.
        meta: what postprocessing needs to know of the original (sizes, scales), JSON values.
    """

    array: Array
    meta: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """Boxes of one image, best first.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the original image.
        scores: float32 (N,).
        labels: int64 (N,), the dataset's own label ids.
    """

    boxes: Array
    scores: Array
    labels: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassScores:
    """Scores of one image, float32 (C,), any monotone scale (logits are fine)."""

    scores: Array


Prediction = Detections | ClassScores


class Dataset(Protocol):
    """An opened dataset, or the part of it that a job uses: which images there are and what is true of them."""

    @property
    def ref(self) -> "DatasetRef":
        """Return what the fleet knows of it."""

    @property
    def image_ids(self) -> Sequence[str]:
        """Return the dataset's own names of its images, in its fixed order."""

    def image_path(self, image_id: str) -> Path:
        """Return the file of an image; raises DatasetError for an unknown id."""

    def registered(self, image_id: str) -> "FileEntry":
        """Return that file as it was registered; raises DatasetError for an unknown id."""


@runtime_checkable
class ClassLabels(Protocol):
    """What a dataset of one class per image knows besides: the truth of a classifier."""

    def label(self, image_id: str) -> int:
        """Return the class id of an image, from 0; raises DatasetError for an unknown id."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VocObjects:
    """What is true of one image of a VOC dataset.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the image, counted from 0 (one less than in the files).
        labels: int64 (N,), from 1: positions in `VocTruth.class_names`, 0 is the background's.
        difficult: bool (N,), objects that count neither when found nor when missed.
    """

    boxes: Array
    labels: Array
    difficult: Array


@runtime_checkable
class VocTruth(Protocol):
    """What a VOC dataset knows besides: the objects in its images."""

    @property
    def class_names(self) -> Sequence[str]:
        """Return the names of the labels; the first one, label 0, is the background."""

    def objects(self, image_id: str) -> VocObjects:
        """Return the objects of an image, maybe none; raises DatasetError for an unknown id."""


@runtime_checkable
class CocoTruth(Protocol):
    """What a COCO dataset knows besides: the objects in its images."""

    @property
    def instances(self) -> Mapping[str, Any]:
        """Return `images`, `annotations` and `categories` as in instances_val2017.json, of its own images only.

        Annotations have `image_id`, `category_id`, `bbox` (x y width height), `area` and `iscrowd`.
        """

    def coco_image_id(self, image_id: str) -> int:
        """Return the number by which annotations name an image; raises DatasetError for an unknown id."""


#: What a face of WIDER FACE may count for, each harder than the one before.
WIDER_DIFFICULTIES: Final = ("easy", "medium", "hard")


@dataclass(frozen=True, kw_only=True, eq=False)
class WiderFaces:
    """What is true of one image of WIDER FACE.

    Attributes:
        boxes: float64 (N, 4), x y width height in pixels, as in the files; the official ones have faces without a size,
            and one of negative width.
        counted: difficulty -> bool (N,), the faces that are to be found. Finding another one counts for nothing.
    """

    boxes: Array
    counted: Mapping[str, Array]


@runtime_checkable
class WiderTruth(Protocol):
    """What a WIDER FACE dataset knows besides: the faces in its images."""

    def faces(self, image_id: str) -> WiderFaces:
        """Return the faces of an image, maybe none; raises DatasetError for an unknown id."""


class Recipe(Protocol):
    """Everything about one model (design, section 10).

    Its module imports numpy, torch and the like within its methods: the attributes are all that planning needs, and a
    laptop that plans has none of them.
    """

    id: str
    version: int
    dataset_format: str
    passes: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing_version: int
    dynamic_batch: bool
    """Whether `export` can leave the batch axis open; if not, there is one ONNX per batch size."""

    def network(self) -> "torch.nn.Module":
        """Return the published architecture in eval mode, keys as published."""

    def load_weights(self, network: "torch.nn.Module", path: Path) -> None:
        """Load a published checkpoint, strictly; raises CheckpointError and refuses pickled code."""

    def export(self, network: "torch.nn.Module", onnx_path: Path, batch_size: int | None) -> None:
        """Write ONNX with the names of `inputs` and `outputs`; None: a dynamic batch axis."""

    def preprocess(self, image_path: Path, pass_name: str = "main") -> Sample:
        """Read and prepare one image; raises DatasetError naming the file."""

    def postprocess(
        self, outputs: Sequence[Array], metas: Sequence[Mapping[str, Any]], pass_name: str = "main"
    ) -> list[Prediction]:
        """Return one prediction per sample of a batch; outputs in the order of `outputs`."""

    def merge(self, predictions: Mapping[str, Prediction]) -> Prediction:
        """Join the predictions of the passes of one image."""

    def evaluate(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, float]:
        """Score predictions by image id; raises DatasetError when an image is missing or unknown."""


@runtime_checkable
class ReportsFacts(Protocol):
    """What a recipe may offer besides: the counts behind its metrics, and its guide's own report block."""

    def evaluation_facts(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, Any]:
        """Return JSON values to keep beside the metrics; same arguments and errors as `Recipe.evaluate`."""


@runtime_checkable
class WritesResultFiles(Protocol):
    """What a recipe may offer besides: its predictions as the text files that its dataset's own tools read."""

    def result_file(self, image_id: str, prediction: Prediction) -> tuple[PurePosixPath, str]:
        """Return where an image's file lies within the folder of results, and its text; passes are merged already."""


@runtime_checkable
class SuggestsAtcOptions(Protocol):
    """What a recipe may offer besides: options of ATC that its model needs."""

    @property
    def atc_table(self) -> Path:
        """Return the TOML file with the table `[atc]`; see `tasks.atc_request`."""


@dataclass(frozen=True, kw_only=True)
class RecipeOption:
    """What a person may choose of a recipe.

    Attributes:
        name: as it is typed, and kept with each job.
        default: its value where nothing is chosen.
        help: what it decides, and which values there are.
    """

    name: str
    default: str
    help: str


@runtime_checkable
class Configurable(Protocol):
    """What a recipe may offer besides: options, which make another model of it or other work (`tasks.registry.get`)."""

    @property
    def options(self) -> Sequence[RecipeOption]:
        """Return what can be chosen."""

    @property
    def chosen(self) -> Mapping[str, str]:
        """Return the options of this very recipe that differ from the defaults, each value in its one spelling.

        They are parameters of every job, and so part of its content key.
        """

    def configured(self, chosen: Mapping[str, str]) -> "Recipe":
        """Return the recipe with other options.

        Args:
            chosen: name -> value as typed; names of `options` only. What is not named is as by default.

        Raises:
            InvalidRequestError: a value that cannot be, with those that can.
        """


@runtime_checkable
class PredictsAnySize(Protocol):
    """What a recipe may be besides: one that shows its network each picture in several sizes, and in its own ones.

    A chip's model has one size of input, so runs of such a recipe are references (`tasks.reference`).
    """

    def predict_picture(self, image_path: Path, run: Callable[[Array], Sequence[Array]]) -> Mapping[str, Prediction]:
        """Return what each pass predicts for a picture; raises DatasetError naming a file that cannot be read.

        Args:
            image_path: the picture.
            run: executes the ONNX on float32 (1, C, H, W), whatever the last two; returns its outputs.
        """


@runtime_checkable
class PrefersPrecision(Protocol):
    """What a recipe may offer besides: the precision that its model needs, where a person asks for none."""

    @property
    def preferred_precision(self) -> Precision:
        """Return what a submission takes in place of float16."""


@runtime_checkable
class PrefersBatchSizes(Protocol):
    """What a recipe may offer besides: the batch sizes worth measuring, where a person sweeps without naming any."""

    @property
    def preferred_batch_sizes(self) -> Sequence[int]:
        """Return them, as a sweep measures them; its guide's, and such that its chip has the memory for."""


@runtime_checkable
class PublishesReferences(Protocol):
    """What a recipe of another distribution may offer besides: the published figures of its model."""

    @property
    def references_file(self) -> Path:
        """Return the TOML file; see `tasks.references`."""


@dataclass(frozen=True, kw_only=True)
class BoundTensor:
    """An input or output of a loaded model; -1 in `shape` where nothing is bound, or only a run tells."""

    name: str
    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RunTimes:
    """Device times of executions since the last reset, in milliseconds.

    Attributes:
        execute_ms: one per execution, each repeat of a loop included; copies and file access excluded.
        h2d_ms, d2h_ms: copies to and from the device.
    """

    execute_ms: tuple[float, ...]
    h2d_ms: tuple[float, ...]
    d2h_ms: tuple[float, ...]


class InferenceSession(Protocol):
    """A model loaded on a chip (or, for reference, on the CPU)."""

    @property
    def compiled_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the inputs as compiled, -1 where `bind` decides."""

    @property
    def inputs(self) -> tuple[BoundTensor, ...]:
        """Return the inputs in model order."""

    @property
    def outputs(self) -> tuple[BoundTensor, ...]:
        """Return the outputs in model order."""

    def bind(self, shapes: Sequence[tuple[int, ...]], *, output_bytes: Sequence[int] = ()) -> None:
        """Fix the shapes of the runs that follow, until the next call. A static model takes its own shapes only.

        Args:
            shapes: of the inputs, in model order; what is not open must be as compiled.
            output_bytes: memory for each output, for models that cannot say how large their outputs become.

        Raises:
            NpuqError: the model was not compiled for them (code `shape_unknown`), or memory has to be given
                (`output_size_unknown`); the input is to blame.
        """

    def run(self, feeds: Sequence[Array], *, loop: int = 1) -> list[Array]:
        """Execute `loop` times on one batch; returns host arrays of the last execution.

        Args:
            feeds: C-contiguous arrays with exactly the shapes and dtypes of `inputs`.
            loop: number of executions of the same batch.

        Raises:
            NpuqError: classified: input, device or host.
        """

    def times(self) -> RunTimes:
        """Return the times since the last `reset_times`."""

    def reset_times(self) -> None:
        """Forget the times so far (after warm-up)."""

    def close(self) -> None:
        """Unload the model."""


@dataclass(frozen=True, kw_only=True)
class FeedOrder:
    """What a feeder pool is asked to prepare: a contiguous range of a dataset, one pass of a recipe.

    Attributes:
        recipe: recipe id.
        pass_name: which pass.
        dataset: where the images are.
        start, stop: range over the images that are used (`tasks.datasets.chosen_samples`).
        batch_size: samples per batch.
        recipe_options: what was chosen of the recipe, name -> value.
    """

    recipe: str
    pass_name: str
    dataset: "DatasetRef"
    start: int
    stop: int
    batch_size: int
    recipe_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class FedBatch:
    """A batch ready for the chip, in shared memory.

    Attributes:
        index: number of the batch within the order, from 0.
        image_ids: the samples that count; the last batch may hold fewer than its rows.
        metas: one per image id.
        array: float32 (batch_size, C, H, W); rows past `len(image_ids)` repeat the first row (padding).
    """

    index: int
    image_ids: tuple[str, ...]
    metas: tuple[Mapping[str, Any], ...]
    array: Array


class FeederPool(Protocol):
    """Processes beside the chip that decode, preprocess and postprocess."""

    def batches(self, order: FeedOrder) -> Iterator[FedBatch]:
        """Yield every batch of an order, in order; raises DatasetError naming a file that cannot be read."""

    def postprocess(self, batch: FedBatch, outputs: Sequence[Array]) -> None:
        """Hand over the chip's outputs of a batch; its buffers may be reused afterwards."""

    def predictions(self) -> Iterator[tuple[str, Prediction]]:
        """Wait for the rest of the order and yield (image id, prediction) in dataset order."""
