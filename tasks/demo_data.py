"""The demo's input: a small dataset in ImageNet's layout, a checkpoint that was fitted to it, and torch's own score.

What torch says about the same pictures is kept beside them, so that the whole chain from export to scoring has
something to be held against. Everything follows from the seed, is made once, and is checked when it is used again.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from npuq.errors import InvalidRequestError, NpuqError, ToolMissingError
from tasks import datasets, demo_checkpoint, demo_images, demo_transform, registry, torch_memory, torch_threads
from tasks.protocols import Array, ClassScores, Dataset, Prediction, Recipe
from tasks.steps import DatasetRef

RECIPE: Final = "mobilenet_v1"
DATASET_FORMAT: Final = "imagenet"
_SCHEMA: Final = 3
_REFERENCE: Final = "reference.json"
_MANIFEST: Final = "manifest.json"
_WEIGHTS: Final = "mobilenet_v1_demo.pth.tar"
_BATCH: Final = 8  # as in `demo_checkpoint`


@dataclass(frozen=True, kw_only=True)
class DemoParameters:
    """What the demo's data depend on; equal parameters mean equal data.

    Attributes:
        classes: number of classes, 2 to 16.
        train: pictures the classifier is fitted on; not kept.
        val: pictures of the dataset.
        seed: of everything random.
    """

    classes: int
    train: int
    val: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class DemoFiles:
    """The demo's data on disk.

    Attributes:
        weights: checkpoint in the published format.
        dataset_root: folder of the dataset, format `imagenet`.
        dataset_digest: as `tasks.datasets.inspect` gives it.
        manifest: its manifest, the bytes of that digest.
        samples: number of pictures.
        torch_top1, torch_top5: percent, of the same network run in torch on the same pictures.
        torch_classes: image id -> class that torch ranks first.
        reused: whether they were there already.
    """

    weights: Path
    dataset_root: Path
    dataset_digest: str
    manifest: Path
    samples: int
    torch_top1: float
    torch_top5: float
    torch_classes: Mapping[str, int]
    reused: bool


def make_demo(
    folder: Path,
    *,
    classes: int = 16,
    train: int = 200,
    val: int = 240,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> DemoFiles:
    """Make the demo's data, or find them made.

    Args:
        folder: where they go; made whole or not at all.
        classes: number of classes, 2 to 16.
        train: pictures to fit on.
        val: pictures of the dataset.
        seed: of everything random.
        on_stage: told what is being done, for people.

    Raises:
        InvalidRequestError: the folder holds something else, or there are too few or too many classes or pictures.
        ToolMissingError: torch is not installed.
    """
    demo_images.class_ids(classes)
    if min(train, val) < classes:
        raise InvalidRequestError(f"{classes} classes need at least as many pictures; asked were {train} and {val}.")
    wanted = DemoParameters(classes=classes, train=train, val=val, seed=seed)
    found = _find(folder, wanted)
    if found is not None:
        return found
    _refuse_foreign(folder)
    _prepare_torch()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".npuq-demo-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        _make(made, wanted, on_stage)
        if folder.exists():
            folder.rename(Path(scratch) / "replaced")
        made.rename(folder)
    return _load(folder, _read_reference(folder), reused=False)


def _make(folder: Path, wanted: DemoParameters, on_stage: Callable[[str], None]) -> None:
    recipe = registry.get(RECIPE)
    root = folder / "dataset"
    on_stage(f"drawing {wanted.val} pictures of {wanted.classes} classes")
    demo_images.make_dataset(root, classes=wanted.classes, count=wanted.val, seed=2 * wanted.seed)
    on_stage(f"fitting a checkpoint to {wanted.train} others")
    _fit(recipe, folder / _WEIGHTS, wanted)
    on_stage("asking torch what it sees")
    reference = _ask_torch(recipe, folder / _WEIGHTS, root, folder / _MANIFEST)
    content = {"schema": _SCHEMA, "parameters": asdict(wanted), "weights_sha256": _sha256(folder / _WEIGHTS)}
    (folder / _REFERENCE).write_text(json.dumps(content | reference, indent=1) + "\n", encoding="utf-8")


def _fit(recipe: Recipe, weights: Path, wanted: DemoParameters) -> None:
    import torch

    with tempfile.TemporaryDirectory(dir=weights.parent) as scratch:
        folder = Path(scratch)
        labels = demo_images.write_images(folder, classes=wanted.classes, count=wanted.train, seed=2 * wanted.seed + 1)
        images = torch.from_numpy(np.stack([demo_transform.network_input(folder / name) for name in labels]))
    network = recipe.network()
    demo_checkpoint.fit(network, images, list(labels.values()), seed=wanted.seed)
    demo_checkpoint.save_published(network, weights)


def _ask_torch(recipe: Recipe, weights: Path, root: Path, manifest: Path) -> dict[str, Any]:
    """Score the checkpoint as a user would in torch: load the file, transform each picture, run, rank."""
    facts = datasets.inspect(root, DATASET_FORMAT)
    manifest.write_bytes(facts.manifest.text)
    dataset = datasets.open_dataset(
        DatasetRef(
            name="demo",
            format=DATASET_FORMAT,
            root=root,
            digest=facts.digest,
            samples=facts.samples,
            manifest=manifest,
        )
    )
    predictions = predict_in_torch(recipe, weights, dataset, demo_transform.network_input)
    return {
        "dataset_digest": facts.digest,
        "samples": facts.samples,
        **recipe.evaluate(predictions, dataset),
        "classes": {
            image_id: int(np.argmax(prediction.scores))
            for image_id, prediction in predictions.items()
            if isinstance(prediction, ClassScores)
        },
    }


def predict_in_torch(
    recipe: Recipe, weights: Path, dataset: Dataset, transform: Callable[[Path], Array]
) -> dict[str, Prediction]:
    """Run a checkpoint on a dataset in torch, on the CPU; image id -> prediction.

    Args:
        recipe: of the network.
        weights: the checkpoint.
        dataset: whose pictures.
        transform: file of a picture -> what the network is to see of it.
    """
    import torch
    from torch.nn.utils import convert_conv2d_weight_memory_format

    network = recipe.network()
    recipe.load_weights(network, weights)
    convert_conv2d_weight_memory_format(network, torch.channels_last)  # half the time
    predictions: dict[str, Prediction] = {}
    image_ids = dataset.image_ids
    for start in range(0, len(image_ids), _BATCH):
        batch_ids = image_ids[start : start + _BATCH]
        seen = np.stack([transform(dataset.image_path(image_id)) for image_id in batch_ids])
        with torch.inference_mode():
            outputs = network(torch.from_numpy(seen).contiguous(memory_format=torch.channels_last))
        found = recipe.postprocess([outputs.numpy()], [{}] * len(batch_ids))
        predictions.update(zip(batch_ids, found, strict=True))
    return predictions


def _find(folder: Path, wanted: DemoParameters) -> DemoFiles | None:
    """Return the data of an earlier call; None when they are others, or no longer what they were."""
    reference = _read_reference(folder)
    if reference.get("schema") != _SCHEMA or reference.get("parameters") != asdict(wanted):
        return None
    expected = {_WEIGHTS: reference["weights_sha256"], _MANIFEST: reference["dataset_digest"]}
    for name, digest in expected.items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            return None
    try:
        found = datasets.inspect(folder / "dataset", DATASET_FORMAT)
    except NpuqError:
        return None
    return _load(folder, reference, reused=True) if found.digest == reference["dataset_digest"] else None


def _load(folder: Path, reference: Mapping[str, Any], *, reused: bool) -> DemoFiles:
    return DemoFiles(
        weights=folder / _WEIGHTS,
        dataset_root=folder / "dataset",
        dataset_digest=reference["dataset_digest"],
        manifest=folder / _MANIFEST,
        samples=reference["samples"],
        torch_top1=reference["top1"],
        torch_top5=reference["top5"],
        torch_classes=reference["classes"],
        reused=reused,
    )


def _read_reference(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / _REFERENCE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _refuse_foreign(folder: Path) -> None:
    """Only a folder of ours, or an empty one, may be replaced."""
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / _REFERENCE).is_file()):
        raise InvalidRequestError(f"{folder} holds something else; name an empty or a new folder for the demo's data.")


def _prepare_torch() -> None:
    torch_memory.keep_blocks()
    try:
        torch_threads.use_few_threads()
    except ImportError as error:
        raise ToolMissingError(
            f"Making the demo's checkpoint needs torch: {error}. Install it: pip install 'npuq[worker,export]'."
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
