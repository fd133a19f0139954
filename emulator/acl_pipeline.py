"""`InferenceSession` of the emulated `aclruntime` since mid 2023: pairs of times, inner runs and the pipeline.

The real pipeline reads, copies, computes and writes in threads of its own, several sessions at once; here one file
follows another. What can be seen is the same: files, results, number of executions, and that an error inside ends the
process (SIGABRT), as an exception in a C++ thread does.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from emulator.acl_aipp import DynamicAippSettings
from emulator.acl_device import LogLevel, reset_devices
from emulator.acl_model import Execution
from emulator.acl_outputs import save
from emulator.acl_session import Feeds, InferenceSession, Timing
from emulator.acl_tensors import Array, BaseTensor, Tensor
from emulator.engines import Binding

_MILLISECONDS: Final = 1000
_ARRAY_TAILS: Final = (".npy", ".NPY")
_TAILS: Final = (*_ARRAY_TAILS, ".bin", ".BIN")
_ZEROS: Final = "pure_infer_data_zero"
_RANDOM_BYTES: Final = 255  # from 0 to 254: the next would make infinities of floats


@dataclass(kw_only=True)
class InferOptions:
    """`aclruntime.infer_options`: what a pipeline over files does.

    Attributes:
        output_dir: where outputs go; empty: nowhere.
        auto_dym_shape: set the shape of each npy file before it is executed.
        auto_dym_dims: likewise, the gear of its dims.
        out_format: `BIN`, `NPY` or `TXT`.
        pure_infer_mode: the names are no files, but say what to make up.
        output_names: not read, by the real one neither.
        shapes_list: likewise.
    """

    output_dir: str = ""
    auto_dym_shape: bool = False
    auto_dym_dims: bool = False
    out_format: str = ""
    pure_infer_mode: bool = False
    output_names: list[str] = field(default_factory=list)
    shapes_list: list[list[list[int]]] = field(default_factory=list)


@dataclass(kw_only=True)
class _Kept:
    """What inner runs go on from."""

    inputs: list[bytes]
    outputs: list[Array]
    binding: Binding


class PipelinedSession(InferenceSession, DynamicAippSettings):
    """A model on a chip; see `InferenceSession`."""

    _kept: _Kept | None = None

    def get_max_dym_batchsize(self) -> int:
        """Return the largest batch size of the gears, 0 when there are none."""
        return self._bound.largest_batch

    def free_resource(self) -> int:
        """Unload the model; again is harmless."""
        self._model.unload()
        return 0

    @staticmethod
    def finalize() -> None:
        """Reset the devices; whoever still has a model loaded has to have unloaded it."""
        reset_devices()

    def run(self, output_names: list[str], feeds: Feeds, /) -> list[Tensor]:
        """Execute; see `InferenceSession.run`. What inner runs went on from is gone."""
        self._kept = None
        return super().run(output_names, feeds)

    def first_inner_run(self, output_names: list[str], feeds: list[BaseTensor], /) -> list[Tensor]:  # noqa: ARG002 - the signature of the real one
        """Execute and keep inputs and outputs on the chip for `inner_run`; returns nothing. Raises RuntimeError."""
        inputs = self._read(feeds)
        binding = self._prepare(inputs)
        outputs = self._repeat(inputs, binding, self._options.loop)
        self._kept = _Kept(inputs=inputs, outputs=outputs, binding=binding)
        return []

    def inner_run(
        self,
        in_out_list: list[int],
        output_names: list[str],
        get_outputs: bool,  # noqa: FBT001 - as above
        mem_copy: bool,  # noqa: FBT001 - as above
        /,
    ) -> list[Tensor]:
        """Execute on what the last execution left on the chip.

        Args:
            in_out_list: for each input, the output that becomes it; negative: it stays.
            output_names: which outputs to return.
            get_outputs: whether to return any.
            mem_copy: copy an output to the input and execute `loop` times; without, use its memory and execute once.

        Raises:
            RuntimeError: there was no `first_inner_run`, or the list does not fit.
        """
        self._model.check_usable()
        kept = self._kept
        if kept is None:
            self._log(LogLevel.ERROR, "can't find inputdatas")
            self._log(LogLevel.ERROR, "can't find outputdatas")
            self._refuse_update()
        self._feed_back(kept, in_out_list, mem_copy=mem_copy)
        kept.outputs = self._repeat(kept.inputs, kept.binding, self._options.loop if mem_copy else 1)
        return self._collect(output_names, kept.outputs) if get_outputs else []

    def run_pipeline(self, *arguments: Any) -> list[list[Tensor]] | None:  # noqa: ANN401 - two signatures, see below
        """Execute many feeds, from files or from memory; an error ends the process.

        `run_pipeline(infiles_list, infer_options, extra_sessions)`: each element of the list has one file per input;
        outputs are written as `<output_dir>/<first file without its ending>_<output>.<format>`. Returns nothing.

        `run_pipeline(output_names, inputs_list, shapes_list, auto_dym_shape, auto_dym_dims)`: each element has one
        BaseTensor per input. Returns the outputs of each element, in host memory.
        """
        self._model.check_usable()
        self._kept = None
        if isinstance(arguments[1], InferOptions):
            self._pipe_files(*arguments)
            return None
        return self._pipe_tensors(*arguments)

    def _timing(self, execution: Execution) -> Timing:
        begun, ended = ((moment - self._zero) * _MILLISECONDS for moment in (execution.begun, execution.ended))
        return float(np.float32(begun)), float(np.float32(ended))

    def _feed_back(self, kept: _Kept, in_out_list: Sequence[int], *, mem_copy: bool) -> None:
        if len(in_out_list) != len(kept.inputs):
            sizes = f"inputsNum: {len(kept.inputs)}, inOutList size: {len(in_out_list)}"
            self._log(LogLevel.ERROR, f"wrong inOutRelation size, {sizes}")
            self._refuse_update()
        for index, source in enumerate(in_out_list):
            if source < 0:
                continue
            if source >= len(kept.outputs):
                self._log(LogLevel.ERROR, "find outputdata index out of range")
                self._refuse_update()
            wanted, output = len(kept.inputs[index]), kept.outputs[source].tobytes()
            if wanted > len(output) or (not mem_copy and wanted != len(output)):
                self._log(LogLevel.ERROR, "inputSize_current and outputSize_last not matched")
                self._refuse_update()
            kept.inputs[index] = output[:wanted]

    def _refuse_update(self) -> NoReturn:
        self._log(LogLevel.ERROR, "create inputdataset failed:1")
        self._refuse("UpdateInputsData failed ret:-1")

    def _pipe_files(
        self, infiles_list: Sequence[Sequence[str]], options: InferOptions, extra_sessions: list["PipelinedSession"]
    ) -> None:
        sessions = [self, *extra_sessions]
        if len({id(session) for session in sessions}) != len(sessions):
            self._log(LogLevel.ERROR, "InferPipeline failed: cannot have session in same context")
            return
        for extra in extra_sessions:
            extra._zero = self._zero  # noqa: SLF001 - all times of a pipeline count from one moment
        with _thread_of_cpp():
            for index, files in enumerate(infiles_list):
                sessions[index % len(sessions)]._pipe_one(files, options)  # noqa: SLF001 - one pipeline, many sessions
        for extra in extra_sessions:
            self._summary.add(extra.sumary().exec_time_list)

    def _pipe_one(self, files: Sequence[str], options: InferOptions) -> None:
        if options.pure_infer_mode:
            arrays = [_made_up(name, each.realsize) for name, each in zip(files, self._bound.inputs, strict=True)]
        else:
            arrays = [_read_file(name) for name in files]
        shapes = [array.shape if name.endswith(_ARRAY_TAILS) else () for name, array in zip(files, arrays, strict=True)]
        feeds = [BaseTensor(array.__array_interface__["data"][0], array.nbytes) for array in arrays]
        outputs = self._pipe(feeds, shapes, auto_shape=options.auto_dym_shape, auto_dims=options.auto_dym_dims)
        if options.output_dir:
            name = Path(files[0]).name
            stem = next((name.removesuffix(tail) for tail in _TAILS if name.endswith(tail)), name)
            for index, output in enumerate(outputs):
                save(f"{options.output_dir}/{stem}_{index}", output.array(), options.out_format)

    def _pipe_tensors(
        self,
        output_names: list[str],
        inputs_list: list[list[BaseTensor]],
        shapes_list: Sequence[Sequence[Sequence[int]]],
        auto_shape: bool,  # noqa: FBT001 - as above
        auto_dims: bool,  # noqa: FBT001 - as above
    ) -> list[list[Tensor]]:
        with _thread_of_cpp():
            return [
                self._pipe(feeds, shapes, auto_shape=auto_shape, auto_dims=auto_dims, output_names=output_names)
                for feeds, shapes in zip(inputs_list, shapes_list, strict=True)
            ]

    def _pipe(
        self,
        feeds: Sequence[BaseTensor],
        shapes: Sequence[Sequence[int]],
        *,
        auto_shape: bool,
        auto_dims: bool,
        output_names: list[str] | None = None,
    ) -> list[Tensor]:
        """Execute once through the pipeline and return the outputs in host memory."""
        names = [each.name for each in self._bound.inputs]
        text = ";".join(f"{name}:{','.join(map(str, shape))}" for name, shape in zip(names, shapes, strict=False))
        inputs = [feed.copy_bytes() for feed in feeds]
        if auto_shape:
            self.set_dynamic_shape(text)
        if auto_dims:
            self.set_dynamic_dims(text)
        wanted = output_names if output_names is not None else [each.name for each in self._bound.outputs]
        self._check_inputs(inputs)
        outputs = self._collect(wanted, self._repeat(inputs, self._prepare(inputs), self._options.loop))
        for output in outputs:
            output.to_host()
        return outputs


@contextmanager
def _thread_of_cpp() -> Iterator[None]:
    """End the process on an error, as an exception does that leaves a C++ thread."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        text = f"terminate called after throwing an instance of 'std::runtime_error'\n  what():  {error}\n"
        os.write(2, text.encode())
        os.abort()


def _made_up(name: str, size: int) -> Array:
    if name == _ZEROS:
        return np.zeros(size, np.uint8)
    return np.random.default_rng().integers(0, _RANDOM_BYTES, size, np.uint8)


def _read_file(name: str) -> Array:
    """Return the array of an npy file, or the bytes of another; the memory's order is that of the file."""
    if name.endswith(_ARRAY_TAILS):
        array: Array = np.load(name, allow_pickle=False)
        return array
    return np.fromfile(name, np.uint8)
