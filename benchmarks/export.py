"""What an export computes, with the memory that torch gave back kept for its next operator and without."""

import sys
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, quantile
from benchmarks.processor_time import processor_seconds
from npuq.entry import INSTALLATION

REPEATS: Final = 3
RECIPE: Final = "efficientdet_d0"
BATCH_SIZE: Final = 4
LIMIT_SECONDS: Final = 300.0
_EXPORT: Final = """\
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tasks import export, registry, torch_memory, torch_threads
if sys.argv[2] == "kept":
    torch_memory.keep_blocks()
torch_threads.use_few_threads()
recipe, path, batch_size = registry.get(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5])
network = recipe.network()
export.export_checked(recipe, network, path, batch_size)
export.compare(recipe, network, path, batch_size)
"""


def measure(folder: Path) -> list[Figure]:
    """Export a network as it is made, in turns; processor seconds of the whole process, torch's import included."""
    seconds: dict[str, list[float]] = {"kept": [], "given back": []}
    path = folder / "model.onnx"
    for _ in range(REPEATS):
        for how, taken in seconds.items():
            command = [sys.executable, "-c", _EXPORT, str(INSTALLATION), how, RECIPE, str(path), str(BATCH_SIZE)]
            taken.append(processor_seconds(command, limit_seconds=LIMIT_SECONDS))
    how = f"processor time of {RECIPE} at batch size {BATCH_SIZE}, median of {REPEATS} in turns"
    return [
        Figure(name=f"export, memory {name}", value=quantile(taken, 0.5), unit="s", how=how)
        for name, taken in seconds.items()
    ]
