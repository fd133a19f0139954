"""The private folder of one attempt, and what lies in it before the step begins."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from db import artifacts, datasets
from db.artifacts import ArtifactStore
from db.engine import Database
from db.records import Assignment, DeviceRecord
from npuq.errors import DatasetError
from npuq.states import DeviceKind
from tasks.steps import DatasetRef, DeviceRef, ImageListRef, StepRequest
from worker.dataset_source import DatasetSource

_SUFFIX: Final = {"weights": ".pth", "onnx": ".onnx", "om": ".om", "predictions": ".npz", "images": ".txt"}

_MAX_NAME_BYTES: Final = 200  # file systems take 255, and tools add endings


class Workspace:
    """A folder that exists for one attempt: `inputs/` beside `step/`, where the step runs."""

    def __init__(self, root: Path, assignment: Assignment) -> None:
        self._path = root / f"{assignment.job_id}.{assignment.attempt}"
        self._assignment = assignment
        self._open = ExitStack()

    def __enter__(self) -> Self:
        shutil.rmtree(self._path, ignore_errors=True)
        self.step.mkdir(parents=True)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._open.close()
        shutil.rmtree(self._path, ignore_errors=True)

    @property
    def step(self) -> Path:
        """Return the step's current directory, empty at first."""
        return self._path / "step"

    @property
    def log(self) -> Path:
        """Return the file of the attempt's log."""
        return self._path / "log.txt"

    def request(self, database: Database, store: ArtifactStore) -> StepRequest:
        """Bring the inputs here and return what the step is asked.

        Raises:
            ArtifactError: an input is missing from the store or damaged.
            DatasetError: the dataset was changed since the run was planned, or was registered without a manifest.
            DatabaseError: the database cannot be reached.
        """
        given = self._assignment
        files = {
            role: tuple(
                artifacts.materialise(store, digest, self._path / "inputs" / self._file_name(role, number))
                for number, digest in enumerate(digests)
            )
            for role, digests in given.inputs.items()
        }
        return StepRequest(
            job_id=given.job_id,
            attempt=given.attempt,
            kind=given.kind,
            recipe=given.recipe,
            params=given.params,
            inputs=files,
            input_digests=given.inputs,
            workdir=self.step,
            dataset=self._dataset(database, store, files.get("images", ())),
            device=device_ref(given.device),
        )

    def _file_name(self, role: str, number: int) -> Path:
        """Return where an input lies below `inputs/`; its last part is what errors call it.

        A checkpoint keeps the name that its owner knows it by. ATC is particular about names, so the others get one.
        """
        name = self._assignment.source_name
        if role == "weights" and _is_file_name(name):
            return Path(f"{role}{number}", name)
        return Path(f"{role}{number}{_SUFFIX.get(role, '')}")

    def _dataset(self, database: Database, store: ArtifactStore, lists: Sequence[Path]) -> DatasetRef | None:
        name = self._assignment.params.get("dataset")
        if name is None:
            return None
        with database.read() as connection:
            found = datasets.get(connection, name)
        planned = self._assignment.params["dataset_digest"]
        if found is None or found.digest != planned:
            raise DatasetError(
                f"dataset {name!r} was changed or removed since this run was planned; submit the run again"
            )
        host = self._assignment.device.host
        folder = found.folder_on(host)
        ref = DatasetRef(
            name=found.name,
            format=found.format,
            root=Path(folder or found.root),
            digest=found.digest,
            samples=found.samples,
            manifest=datasets.fetch_manifest(store, found, self._path / "inputs" / "dataset.json"),
            images=self._images(lists),
            host=host,
        )
        if found.in_store and (folder is None or not ref.root.is_dir()):
            return self._from_store(ref, store)
        return ref

    def _from_store(self, dataset: DatasetRef, store: ArtifactStore) -> DatasetRef:
        """Return a dataset whose files come from the store, into a folder of this attempt, as they are asked for."""
        params = self._assignment.params
        samples = slice(params.get("start", 0), params.get("stop", params.get("limit")))
        ours = replace(dataset, root=self._path / "inputs" / "dataset")
        ours.root.mkdir(parents=True)
        source = self._open.enter_context(DatasetSource(store, ours, samples))
        return replace(ours, source=source.address)

    def _images(self, lists: Sequence[Path]) -> ImageListRef | None:
        chosen = self._assignment.params.get("images")
        if chosen is None:
            return None
        (path,) = lists
        return ImageListRef(path=path, digest=chosen["digest"], count=chosen["count"])


def _is_file_name(text: str) -> bool:
    """Tell whether a file may be called so: one part of a path, not too long. Names come with messages."""
    return (
        text not in {"", ".", ".."}
        and "/" not in text
        and text.isprintable()
        and len(text.encode(errors="replace")) <= _MAX_NAME_BYTES
    )


def device_ref(device: DeviceRecord) -> DeviceRef | None:
    """Return a chip as a step sees it, None for a host slot."""
    if device.kind is not DeviceKind.NPU:
        return None
    if device.npu_id is None or device.chip_id is None or device.logic_id is None or device.soc_version is None:
        raise ValueError(f"{device.device_id} is registered without its ids")
    return DeviceRef(
        device_id=device.device_id,
        npu_id=device.npu_id,
        chip_id=device.chip_id,
        logic_id=device.logic_id,
        soc_version=device.soc_version,
        emulated=device.emulated,
        memory_baseline_mib=device.memory_baseline_mib,
    )
