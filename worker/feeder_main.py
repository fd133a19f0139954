"""The program of a feeder process: decodes and preprocesses into shared memory, postprocesses the chip's outputs.

It never touches the chip, knows one order at a time, and dies with the process that owns the chip.
"""

import argparse
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npuq.errors import DatasetError
from tasks import registry
from tasks.dataset_files import check_content, file_state, preprocess_registered
from tasks.dataset_manifest import FileEntry
from tasks.protocols import Array, Recipe, Sample
from tasks.steps import DatasetRef
from worker.feeder_wire import Frame, FrameKind, pack_predictions, receive_frame, send_frame
from worker.parent_death import die_with_parent
from worker.sample_cache import CachedSample, SampleCache, preparation_key
from worker.shared_batches import ArraySpec, map_arrays
from worker.step_errors import error_info


class Assignment:
    """One order, as a feeder sees it."""

    def __init__(self, message: dict[str, Any], descriptor: int, cache_root: Path, cache_bytes: int) -> None:
        self.number: int = message["order"]
        self._recipe: Recipe = registry.get(message["recipe"], message["recipe_options"])
        self._pass_name: str = message["pass_name"]
        ring = ArraySpec.from_json(message["ring"])
        (self._ring,) = map_arrays([ring], descriptor)
        self._outputs: list[Array] = []
        self._outputs_per_slot = 0
        self._shape = ring.shape[1:]
        self._dataset = DatasetRef.from_json(message["dataset"])
        preparation = preparation_key(
            recipe=self._recipe.id,
            recipe_options=message["recipe_options"],
            preprocessing_version=self._recipe.preprocessing_version,
            pass_name=self._pass_name,
        )
        self._cache = SampleCache(cache_root, cache_bytes, preparation, self._shape)

    def take_outputs(self, message: dict[str, Any], descriptor: int) -> None:
        """Map the memory of the chip's outputs: `slots` times the same arrays."""
        specs = [ArraySpec.from_json(data) for data in message["specs"]]
        self._outputs_per_slot = len(specs)
        self._outputs = map_arrays(specs * message["slots"], descriptor)

    def prepare(self, first_row: int, files: Sequence[FileEntry]) -> list[dict[str, Any]]:
        """Put images into consecutive rows of the ring; returns their metas."""
        ring = len(self._ring)
        return [dict(self._prepare(file, self._ring[(first_row + index) % ring])) for index, file in enumerate(files)]

    def _prepare(self, file: FileEntry, row: Array) -> Mapping[str, Any]:
        """Put one image into its row, from the cache or decoded; it is what was registered either way.

        A dataset's own folder must still hold what the cached sample was made of; a file that is kept in the store need
        not even be here.
        """
        kept = self._cache.read(file.sha256, row)
        if kept is not None:
            if self._dataset.source is None and file_state(self._dataset, file) != kept.source:
                check_content(self._dataset, file)
            return kept.meta
        sample, state = preprocess_registered(self._recipe, self._dataset, file, self._pass_name)
        row[...] = self._checked(sample, file).array
        self._cache.write(file.sha256, row, CachedSample(meta=sample.meta, source=state))
        return sample.meta

    def postprocess(self, slot: int, metas: list[dict[str, Any]]) -> tuple[list[str], tuple[Array, ...]]:
        """Make predictions of a slot's outputs; rows past `len(metas)` are padding."""
        outputs = self._outputs[slot * self._outputs_per_slot : (slot + 1) * self._outputs_per_slot]
        return pack_predictions(self._recipe.postprocess(outputs, metas, self._pass_name))

    def _checked(self, sample: Sample, file: FileEntry) -> Sample:
        if sample.array.shape != self._shape or sample.array.dtype != np.float32:
            raise DatasetError(
                f"{self._dataset.root / file.path} became {sample.array.dtype} {sample.array.shape}, the model takes "
                f"float32 {self._shape}: the recipe {self._recipe.id!r} contradicts itself."
            )
        return sample


class Feeder:
    """The loop of a feeder."""

    def __init__(self, channel: socket.socket, cache_root: Path, cache_bytes: int) -> None:
        self._channel = channel
        self._cache_root = cache_root
        self._cache_bytes = cache_bytes
        self._assignment: Assignment | None = None

    def serve(self) -> None:
        """Work until the pool is gone."""
        while True:
            try:
                frame = receive_frame(self._channel)
            except (EOFError, OSError):
                return
            reply = self._reply(frame)
            if reply is not None:
                send_frame(self._channel, reply)

    def _reply(self, frame: Frame) -> Frame | None:
        message = frame.message
        try:
            return self._handle(FrameKind(message["kind"]), message, frame.descriptor)
        except Exception as error:  # noqa: BLE001 - the seam: whatever happens here becomes a value
            reply = {"kind": FrameKind.FAILED, "of": message["kind"], "order": message["order"]}
            return Frame(message=reply | {"error": error_info(error).as_dict()})
        finally:
            if frame.descriptor is not None:
                os.close(frame.descriptor)

    def _handle(self, kind: FrameKind, message: dict[str, Any], descriptor: int | None) -> Frame | None:
        if kind in (FrameKind.ORDER, FrameKind.FORGET):
            self._assignment = None  # its memory goes before the next order's comes
        if kind is FrameKind.FORGET:
            return None
        if kind is FrameKind.ORDER and descriptor is not None:
            self._assignment = Assignment(message, descriptor, self._cache_root, self._cache_bytes)
            return None
        if self._assignment is None or self._assignment.number != message["order"]:
            raise RuntimeError(f"a {kind} frame without its order")
        if kind is FrameKind.OUTPUTS and descriptor is not None:
            self._assignment.take_outputs(message, descriptor)
            return None
        return self._work(self._assignment, kind, message)

    @staticmethod
    def _work(assignment: Assignment, kind: FrameKind, message: dict[str, Any]) -> Frame:
        if kind is FrameKind.PREPARE:
            metas = assignment.prepare(message["row"], [FileEntry(**values) for values in message["files"]])
            reply = {"kind": FrameKind.PREPARED, "first": message["first"], "metas": metas}
            return Frame(message=reply | {"order": message["order"]})
        if kind is FrameKind.POSTPROCESS:
            kinds, arrays = assignment.postprocess(message["slot"], message["metas"])
            reply = {"kind": FrameKind.POSTPROCESSED, "batch": message["batch"], "slot": message["slot"]}
            return Frame(message=reply | {"order": message["order"], "predictions": kinds}, arrays=arrays)
        raise RuntimeError(f"a {kind} frame is nothing for a feeder")


def main(argv: Sequence[str]) -> int:
    """Run a feeder; `argv` is made by `worker.feeders`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="npuq feeder", description="Started beside a chip; not for people.")
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--sample-cache", type=Path, required=True)
    parser.add_argument("--sample-cache-bytes", type=int, required=True)
    options = parser.parse_args(argv)
    die_with_parent(options.parent_pid, signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the owner of the chip ends first, the end of the channel tells
    os.set_inheritable(options.channel_fd, False)
    with socket.socket(fileno=options.channel_fd) as channel:
        Feeder(channel, options.sample_cache, options.sample_cache_bytes).serve()
    return 0
