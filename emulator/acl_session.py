"""`InferenceSession` of the emulated `aclruntime` as it was until mid 2023: feeds in, executions, outputs out.

`emulator.acl_pipeline` adds what came later. What is loaded and executed is in `emulator.acl_model`, which shapes count
in `emulator.acl_shapes`; this module has the Python API with its checks, their order and their words.
"""

import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from emulator.acl_device import ALLOCATION_FAILED, FAILED, GENERAL_FAILURE, LogLevel, log, reset_devices
from emulator.acl_model import Execution, LoadedModel
from emulator.acl_shapes import BoundShapes, TensorDescription
from emulator.acl_tensors import Array, BaseTensor, Tensor
from emulator.engines import Binding

Feeds = Sequence[Tensor | BaseTensor] | Mapping[str, Tensor]
Timing = float | tuple[float, float]

_MILLISECONDS: Final = 1000


class SessionOptions:
    """Options of a session; `loop` may be changed through `session.options()`."""

    def __init__(self) -> None:
        self.loop = 1
        self.log_level = int(LogLevel.INFO)
        self.acl_json_path = ""


class Summary:
    """Device times of the executions since the last reset: ms, or (start, end) pairs of ms since the session began.

    It stays connected with its session; each look at the list is a copy. The numbers are single precision, so pairs of
    a session that is open for hours are coarse.
    """

    def __init__(self) -> None:
        self._times: list[Timing] = []

    @property
    def exec_time_list(self) -> list[Timing]:
        """Return a copy of the times, oldest first."""
        return list(self._times)

    @exec_time_list.setter
    def exec_time_list(self, times: Iterable[Timing]) -> None:
        self._times = list(times)

    def add(self, times: Iterable[Timing]) -> None:
        """Append times."""
        self._times.extend(times)


class InferenceSession:
    """A model on a chip. All arguments are positional and required, as with the real one; no options is a crash."""

    def __init__(self, model_path: str, device_id: int, options: SessionOptions | None, /) -> None:
        if options is None:  # the real one follows the pointer without looking
            signal.raise_signal(signal.SIGSEGV)
            raise RuntimeError(FAILED)  # where somebody handles the signal
        self._options = options
        self._device = device_id
        self._model = LoadedModel(device_id, model_path, options.log_level)
        self._bound = BoundShapes(self._model.description, options.log_level)
        self._zero = time.perf_counter()
        self._summary = Summary()

    def get_inputs(self) -> list[TensorDescription]:
        """Return the inputs in the model's order; they follow what is set on the session."""
        return list(self._bound.inputs)

    def get_outputs(self) -> list[TensorDescription]:
        """Return the outputs in the model's order; with gears, as of the largest."""
        return list(self._bound.outputs)

    def options(self) -> SessionOptions:
        """Return the live options: what is changed there counts for the next run."""
        return self._options

    def sumary(self) -> Summary:
        """Return the times of all executions since the last reset."""
        return self._summary

    def reset_sumaryinfo(self) -> None:
        """Forget the times."""
        self._summary.exec_time_list = []

    def set_staticbatch(self) -> int:
        """Forget which gear or shape was set; sizes stay as they are."""
        self._bound.set_static()
        return 0

    def set_dynamic_batchsize(self, batch_size: int, /) -> int:
        """Choose a gear by its batch size; raises RuntimeError for a wrong one, which stdout explains."""
        self._bound.set_batch(batch_size)
        return 0

    def set_dynamic_hw(self, height: int, width: int, /) -> int:
        """Choose a gear by its image size; raises RuntimeError.

        The real one calls the numbers width and height, and passes them on as height and width.
        """
        self._bound.set_image_size(height, width)
        return 0

    def set_dynamic_dims(self, dims: str, /) -> int:
        """Choose a gear by the shapes of all inputs, `n1:1,3,224,224;n2:1,10`; raises RuntimeError."""
        self._bound.set_dims(dims)
        return 0

    def set_dynamic_shape(self, shapes: str, /) -> int:
        """Set the shapes of all inputs, written as for `set_dynamic_dims`; raises RuntimeError."""
        self._bound.set_shape(shapes)
        return 0

    def set_custom_outsize(self, sizes: list[int], /) -> int:
        """Set how many bytes the outputs get, by position."""
        self._bound.custom_output_bytes = list(sizes)
        return 0

    def run(self, output_names: list[str], feeds: Feeds, /) -> list[Tensor]:
        """Execute `loop` times and return the outputs on the device, in the order of `output_names`.

        Args:
            output_names: which outputs; one asked for twice comes without memory the second time.
            feeds: tensors on the device, in the model's order or by name; or BaseTensors, which are copied.

        Raises:
            RuntimeError: with the texts of the real runtime; the reason is on stdout.
        """
        inputs = self._read(feeds)
        binding = self._prepare(inputs)
        return self._collect(output_names, self._repeat(inputs, binding, self._options.loop))

    def create_tensor_from_fileslist(self, description: TensorDescription, files: list[str], /) -> Tensor:
        """Return a tensor on the device that holds the files' bytes, one after another; raises RuntimeError."""
        if min(description.shape, default=1) < 0:
            self._log(LogLevel.ERROR, "TensorBaseMalloc failed ret:2")
            raise RuntimeError(ALLOCATION_FAILED)
        size = int(np.prod(description.shape, dtype=np.int64)) * description.datatype.item_bytes
        memory = bytearray(size)
        offset = 0
        for index, name in enumerate(files):
            content = self._file_content(name, offset, size)
            if content is None:
                self._log(LogLevel.ERROR, "ReadBinFile ToMemory failed ret:1")
                self._log(LogLevel.ERROR, f"TensorBaseMalloc i:{index} file:{name} failed ret:1")
                raise RuntimeError(FAILED)
            memory[offset : offset + len(content)] = content
            offset += len(content)
        created = Tensor(np.frombuffer(memory, description.datatype.numpy_name).reshape(description.shape))
        created.to_device(self._device)
        return created

    def finalize(self) -> None:
        """Unload the model and reset the devices."""
        self._model.unload()
        reset_devices(self._options.log_level)

    def _file_content(self, name: str, offset: int, size: int) -> bytes | None:
        """Return what goes into memory at an offset, or None when it cannot."""
        try:
            content = Path(name).read_bytes()
        except OSError:
            self._log(LogLevel.ERROR, f"open file {name} failed")
            return None
        if not content:
            self._log(LogLevel.ERROR, f"binfile is empty, filename is {name}")
            return None
        if offset + len(content) > size:
            self._log(LogLevel.ERROR, f"offset:{offset} filesize:{len(content)} > size:{size} invalid")
            return None
        return content

    def _read(self, feeds: Feeds) -> list[bytes]:
        """Return the bytes of every input; raises RuntimeError when they do not fit."""
        self._model.check_usable()
        inputs = []
        for index, feed in enumerate(self._in_order(feeds)):
            data = feed.copy_bytes() if isinstance(feed, BaseTensor) else feed.device_bytes()
            if data is None:
                self._refuse(f"input i:{index} is not on the device")
            inputs.append(data)
        self._check_inputs(inputs)
        return inputs

    def _check_inputs(self, inputs: Sequence[bytes]) -> None:
        """Check the number of bytes and of inputs; neither element types nor shapes are looked at."""
        wanted = self._bound.inputs
        for index, (data, each) in enumerate(zip(inputs, wanted, strict=False)):
            if len(data) != each.realsize:
                sizes = f"in size:{len(data)} needsize:{each.realsize}"
                self._log(LogLevel.ERROR, f"Check i:{index} name:{each.name} {sizes} not match")
                self._refuse("Check InVector failed ret:-1")
        if len(inputs) != len(wanted):
            self._log(LogLevel.WARN, f"intensors in:{len(inputs)} need:{len(wanted)} not match")
            self._refuse("Set InputsData failed ret:-1")

    def _in_order(self, feeds: Feeds) -> Sequence[Tensor | BaseTensor]:
        """Return the feeds in the model's order."""
        if not isinstance(feeds, Mapping):
            return feeds
        wanted = self._bound.inputs
        if len(feeds) != len(wanted):
            self._log(LogLevel.ERROR, f"intensors size:{len(feeds)} need size:{len(wanted)} not match")
            self._refuse("Check InVector failed ret:-1")
        for index, each in enumerate(wanted):
            if each.name not in feeds:
                self._log(LogLevel.ERROR, f"intensors i:{index} name:{each.name} not find")
                self._refuse("Check InVector failed ret:-1")
        return [feeds[each.name] for each in wanted]

    def _prepare(self, inputs: Sequence[bytes]) -> Binding:
        """Return the shapes of an execution; raises RuntimeError when none fit."""
        self._bound.check_set()
        self._bound.check_outputs_sized()
        binding = self._bound.binding()
        if isinstance(binding, str):
            self._model.refuse(binding)
        sizes = [
            int(np.prod(shape, dtype=np.int64)) * each.datatype.item_bytes
            for shape, each in zip(binding.inputs, self._bound.inputs, strict=True)
        ]
        if sizes != [len(data) for data in inputs]:
            self._model.refuse(f"the inputs have {[len(data) for data in inputs]} bytes, the shapes set need {sizes}")
        return binding

    def _repeat(self, inputs: Sequence[bytes], binding: Binding, loops: int) -> list[Array]:
        """Execute so many times and return the outputs of the last; each is timed."""
        outputs: list[Array] = []
        with self._model.noted_run(binding, loops):
            for index in range(loops):
                execution = self._model.execute(inputs, binding)
                self._summary.add([self._timing(execution)])
                outputs = execution.outputs
                self._check_memory(outputs)
                if loops > 1:
                    os.write(1, f"\rloop inference exec: ({index + 1}/{loops})".encode())
        if loops > 1:
            os.write(1, b"\n")
        return outputs

    def _check_memory(self, outputs: Sequence[Array]) -> None:
        for output, size in zip(outputs, self._bound.output_bytes, strict=True):
            if output.nbytes > size:
                self._model.refuse(f"an output takes {output.nbytes} bytes, and has memory for {size}")

    def _timing(self, execution: Execution) -> Timing:
        return float(np.float32((execution.ended - execution.begun) * _MILLISECONDS))

    def _collect(self, names: Sequence[str], outputs: Sequence[Array]) -> list[Tensor]:
        by_name = dict(zip((each.name for each in self._bound.outputs), outputs, strict=True))
        for name in names:
            if name not in by_name:
                self._log(LogLevel.ERROR, f"outnames {name} not valid")
                self._refuse("Get OutTensors failed ret:-1")
        tensors = [Tensor.output(by_name[name], self._device) for name in names]
        return [tensor.taken() if names[index] in names[:index] else tensor for index, tensor in enumerate(tensors)]

    def _log(self, level: LogLevel, text: str) -> None:
        log(level, self._options.log_level, text)

    def _refuse(self, reason: str) -> NoReturn:
        self._log(LogLevel.ERROR, reason)
        raise RuntimeError(GENERAL_FAILURE)

    def __del__(self) -> None:
        # A constructor that raised leaves an object without a model.
        if hasattr(self, "_model"):
            self._model.unload()

    def __str__(self) -> str:
        lines = ["<Model>", f"device:\t{self._device}"]
        for title, descriptions in (("input", self._bound.inputs), ("output", self._bound.outputs)):
            lines.append(f"{title}:")
            lines += [
                f"  #{index}    {each.name}  ({', '.join(str(size) for size in each.shape)})  {each.datatype.text}"
                f"  {each.size}  {each.realsize}"
                for index, each in enumerate(descriptions)
            ]
        return "\n".join([*lines, ""])

    __repr__ = __str__
