"""The feeder pool: decodes the next batches and postprocesses the last ones while the chip computes.

The chip's runtime holds the interpreter while it computes, so there are no threads here: frames are exchanged between
executions, and every feeder has enough work in hand to last until then. Every wait has a limit.
"""

import os
import select
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from npuq.errors import ChildLostError, DatasetChangedError, DatasetError, ErrorInfo, InvalidRequestError, NpuqError
from tasks import registry
from tasks.dataset_manifest import Manifest, SampleEntry
from tasks.datasets import check_listing, chosen_samples, read_manifest
from tasks.protocols import Array, FedBatch, FeedOrder, Prediction
from tasks.steps import DatasetRef
from worker.feeder_process import FeederProcess, FeederSettings
from worker.feeder_wire import Frame, FrameKind, unpack_predictions
from worker.interpreter import job_environment
from worker.shared_batches import ArraySpec, OrderLedger, map_arrays, new_memory, ring_rows, samples_per_unit

UNITS_PER_FEEDER: Final = 3
STALL_SECONDS: Final = 120.0
_SPARE_OUTPUT_SLOTS: Final = 2


class _Order:
    """An order under way: its ledger, its memory, what came back."""

    def __init__(self, number: int, order: FeedOrder, samples: Sequence[SampleEntry], feeders: int) -> None:
        recipe = registry.get(order.recipe, order.recipe_options)
        self.number = number
        self.order = order
        self.samples = samples
        self.image_ids = tuple(sample.image_id for sample in self.samples)
        shape = recipe.inputs[0].at_batch(order.batch_size)[1:]
        unit_samples = samples_per_unit(4 * int(np.prod(shape, dtype=np.int64)))
        rows = ring_rows(
            batch_size=order.batch_size, unit_samples=unit_samples, units_in_flight=feeders * UNITS_PER_FEEDER
        )
        self.ledger = OrderLedger(
            samples=len(self.image_ids),
            batch_size=order.batch_size,
            rows=rows,
            unit_samples=unit_samples,
        )
        self.ring_spec = ArraySpec(shape=(rows, *shape), dtype="<f4")
        self.ring_memory = new_memory([self.ring_spec])
        (self.ring,) = map_arrays([self.ring_spec], self.ring_memory)
        self.metas: dict[int, Mapping[str, Any]] = {}
        self.waiting_postprocess: deque[tuple[int, int]] = deque()
        self.output_slots: list[list[Array]] = []
        self.free_slots: list[int] = []
        self.predictions: dict[int, list[Prediction]] = {}

    def batch(self, index: int) -> FedBatch:
        """Return a batch that is ready, its last rows padded with its first."""
        samples = self.ledger.samples_of(index)
        size = self.order.batch_size
        first_row = samples.start % len(self.ring)
        array = self.ring[first_row : first_row + size]
        array[len(samples) :] = array[0]
        return FedBatch(
            index=index,
            image_ids=self.image_ids[samples.start : samples.stop],
            metas=tuple(self.metas[sample] for sample in samples),
            array=array,
        )


class ProcessFeederPool:
    """Feeder processes, kept between orders. Implements `tasks.protocols.FeederPool`; belongs to one thread.

    Start it before the chip's runtime is initialised, which no later start of a process should have to survive.
    """

    def __init__(self, settings: FeederSettings) -> None:
        self._feeders = [FeederProcess(settings, job_environment(os.environ)) for _ in range(settings.count)]
        self._poller = select.poll()
        self._by_descriptor = {feeder.channel.fileno(): feeder for feeder in self._feeders}
        for descriptor in self._by_descriptor:
            self._poller.register(descriptor, select.POLLIN)
        self._numbers = 0
        self._order: _Order | None = None
        self._known: tuple[str, Manifest] | None = None  # digest and manifest of the last dataset
        self._chosen: tuple[tuple[str, str], Sequence[SampleEntry]] | None = None  # digests of it and of its part
        self.fit = True
        """False once a feeder is lost: this pool takes no further order."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the feeders."""
        return tuple(feeder.pid for feeder in self._feeders)

    def batches(self, order: FeedOrder) -> Iterator[FedBatch]:
        """Yield every batch of an order, in order; the feeders begin at once, before the first is asked for.

        Raises:
            DatasetError, DatasetMissingError, DatasetChangedError: the dataset is not here as it was registered, or a
                file cannot be read; the message names it. The pool stays usable.
            InvalidRequestError: it asks for images that the dataset does not have. The pool stays usable.
            ChildLostError: a feeder is gone or silent.
            RuntimeError: the next batch needs memory of batches that were never handed to `postprocess`.
        """
        return self._ready(self._begin(order))

    def postprocess(self, batch: FedBatch, outputs: Sequence[Array]) -> None:
        """Hand over the chip's outputs of a batch; its buffers may be reused afterwards. Raises as `batches`."""
        under_way = self._current()
        self._provide_outputs(under_way, outputs)
        while not under_way.free_slots:
            self._pump(under_way, wait=True)
        slot = under_way.free_slots.pop()
        for target, output in zip(under_way.output_slots[slot], outputs, strict=True):
            target[...] = output
        under_way.waiting_postprocess.append((batch.index, slot))
        under_way.ledger.release(batch.index)
        self._pump(under_way, wait=False)

    def predictions(self) -> Iterator[tuple[str, Prediction]]:
        """Wait for the rest of the order and yield (image id, prediction) in dataset order. Raises as `batches`.

        Raises:
            RuntimeError: a batch was not handed to `postprocess`.
        """
        under_way = self._current()
        if not under_way.ledger.all_released:
            raise RuntimeError("predictions were asked for before every batch was postprocessed")
        while len(under_way.predictions) < under_way.ledger.batches:
            self._pump(under_way, wait=True)
        found = [prediction for index in sorted(under_way.predictions) for prediction in under_way.predictions[index]]
        self._finish()
        yield from zip(under_way.image_ids, found, strict=True)

    def close(self) -> None:
        """End the feeders."""
        self._drop_order()
        for feeder in self._feeders:
            self._poller.unregister(feeder.channel)
            feeder.close()
        self._feeders = []

    def _begin(self, order: FeedOrder) -> _Order:
        self._drop_order()
        self._numbers += 1
        samples = self._samples_of(order)
        under_way = self._order = _Order(self._numbers, order, samples, len(self._feeders))
        message = {
            "kind": FrameKind.ORDER,
            "order": under_way.number,
            "recipe": order.recipe,
            "recipe_options": dict(order.recipe_options),
            "pass_name": order.pass_name,
            "dataset": order.dataset.to_json(),
            "ring": under_way.ring_spec.to_json(),
        }
        self._tell_all(Frame(message=message, descriptor=under_way.ring_memory))
        self._pump(under_way, wait=False)
        return under_way

    def _manifest_of(self, dataset: DatasetRef) -> Manifest:
        """Return the dataset's manifest; the folder is looked at every time, the manifest is parsed once."""
        if self._known is None or self._known[0] != dataset.digest:
            self._known = (dataset.digest, read_manifest(dataset))
        manifest = self._known[1]
        check_listing(dataset, manifest)
        return manifest

    def _samples_of(self, order: FeedOrder) -> Sequence[SampleEntry]:
        """Return the samples of an order; a list of images is read once, as the manifest is."""
        manifest, images = self._manifest_of(order.dataset), order.dataset.images
        key = (order.dataset.digest, images.digest if images else "")
        if self._chosen is None or self._chosen[0] != key:
            self._chosen = (key, chosen_samples(order.dataset, manifest))
        samples = self._chosen[1][order.start : order.stop]
        if len(samples) != order.stop - order.start:
            raise InvalidRequestError(
                f"Samples {order.start} to {order.stop} are not all there: of {order.dataset.name!r}, "
                f"{len(self._chosen[1])} images are used."
            )
        return samples

    def _ready(self, under_way: _Order) -> Iterator[FedBatch]:
        for index in range(under_way.ledger.batches):
            while not under_way.ledger.is_ready(index):
                self._pump(under_way, wait=True)
            self._pump(under_way, wait=False)
            yield under_way.batch(index)

    def _current(self) -> _Order:
        if self._order is None:
            raise RuntimeError("no order is under way")
        return self._order

    def _finish(self) -> None:
        self._tell_all(Frame(message={"kind": FrameKind.FORGET, "order": self._current().number}))
        self._drop_order()

    def _drop_order(self) -> None:
        if self._order is not None:
            os.close(self._order.ring_memory)
            self._order = None

    def _provide_outputs(self, under_way: _Order, outputs: Sequence[Array]) -> None:
        """Make memory for the chip's outputs when their shapes are known, that is, at the first batch."""
        if under_way.output_slots:
            return
        slots = len(self._feeders) + _SPARE_OUTPUT_SLOTS
        specs = [ArraySpec.of(output) for output in outputs]
        memory = new_memory(specs * slots)
        try:
            views = map_arrays(specs * slots, memory)
            under_way.output_slots = [views[slot * len(specs) : (slot + 1) * len(specs)] for slot in range(slots)]
            under_way.free_slots = list(range(slots))
            message = {"kind": FrameKind.OUTPUTS, "order": under_way.number, "slots": slots}
            described = {"specs": [spec.to_json() for spec in specs]}
            self._tell_all(Frame(message=message | described, descriptor=memory))
        finally:
            os.close(memory)

    def _pump(self, under_way: _Order, *, wait: bool) -> None:
        """Take what feeders sent, give them what there is to do; with `wait`, wait for at least one frame."""
        try:
            self._dispatch(under_way)
            for feeder in self._heard(wait=wait):
                self._take(under_way, feeder, feeder.receive())
            self._dispatch(under_way)
        except ChildLostError:
            self.fit = False
            self._drop_order()
            raise
        except NpuqError:
            self._finish()
            raise

    def _heard(self, *, wait: bool) -> list[FeederProcess]:
        """Return the feeders that sent something, or are gone."""
        if wait and not any(feeder.in_flight for feeder in self._feeders):
            raise RuntimeError("nothing is under way: earlier batches were not handed to postprocess")
        ready = self._poller.poll(STALL_SECONDS * 1000 if wait else 0)
        if wait and not ready:
            raise ChildLostError(f"No feeder process has answered for {STALL_SECONDS:g} s; is the storage stuck?")
        return [self._by_descriptor[descriptor] for descriptor, _ in ready]

    def _dispatch(self, under_way: _Order) -> None:
        """Keep every feeder in work; postprocessing goes first, because it frees memory."""
        while True:
            feeder = min(self._feeders, key=lambda feeder: feeder.in_flight)
            if feeder.in_flight >= UNITS_PER_FEEDER:
                return
            if under_way.waiting_postprocess:
                message = self._postprocess_message(under_way, *under_way.waiting_postprocess.popleft())
            elif (unit := under_way.ledger.take_unit()) is not None:
                message = self._prepare_message(under_way, unit)
            else:
                return
            feeder.send(Frame(message=message | {"order": under_way.number}))
            feeder.in_flight += 1

    @staticmethod
    def _postprocess_message(under_way: _Order, index: int, slot: int) -> dict[str, Any]:
        metas = [dict(under_way.metas.pop(sample)) for sample in under_way.ledger.samples_of(index)]
        return {"kind": FrameKind.POSTPROCESS, "batch": index, "slot": slot, "metas": metas}

    @staticmethod
    def _prepare_message(under_way: _Order, unit: range) -> dict[str, Any]:
        files = under_way.samples[unit.start : unit.stop]
        return {
            "kind": FrameKind.PREPARE,
            "first": unit.start,
            "row": unit.start % len(under_way.ring),
            "files": [{"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in files],
        }

    def _take(self, under_way: _Order, feeder: FeederProcess, frame: Frame) -> None:
        message = frame.message
        kind = FrameKind(message["kind"])
        if kind is not FrameKind.FAILED or message["of"] in (FrameKind.PREPARE, FrameKind.POSTPROCESS):
            feeder.in_flight -= 1
        if message["order"] != under_way.number:
            return  # the rest of an order that was given up
        if kind is FrameKind.FAILED:
            raise _feeders_error(ErrorInfo.from_dict(message["error"]))
        if kind is FrameKind.PREPARED:
            unit = range(message["first"], message["first"] + len(message["metas"]))
            under_way.metas.update(zip(unit, message["metas"], strict=True))
            under_way.ledger.prepared(unit)
        else:
            under_way.predictions[message["batch"]] = unpack_predictions(message["predictions"], frame.arrays)
            under_way.free_slots.append(message["slot"])

    def _tell_all(self, frame: Frame) -> None:
        try:
            for feeder in self._feeders:
                feeder.send(frame)
        except ChildLostError:
            self.fit = False
            raise


def _feeders_error(info: ErrorInfo) -> NpuqError:
    """Return what a feeder raised, as what it was where callers distinguish it."""
    kinds: dict[str, type[NpuqError]] = {kind.code: kind for kind in (DatasetError, DatasetChangedError)}
    return kinds.get(info.code, NpuqError).from_info(info)
