import platform
import subprocess
import sys

import pytest

from npuq.entry import INSTALLATION

#: Takes and gives back 64 MiB, twice, and prints how many pages the kernel had to give for the second time.
PROBE = """
import ctypes, resource, sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "keep":
    from tasks import torch_memory
    print(torch_memory.keep_blocks())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def probe(how: str) -> list[str]:
    """Return what the probe prints, in a process of its own: the setting stays."""
    command = [sys.executable, "-c", PROBE, str(INSTALLATION), how]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_large_block_is_not_taken_from_the_kernel_again() -> None:
    """Without it, each of its pages is."""
    took_effect, faults = probe("keep")
    (usual,) = probe("leave")
    assert took_effect == "True"
    assert int(faults) < int(usual) / 10
