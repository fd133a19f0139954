"""How many cores torch may take in a step: steps run side by side, and torch by itself takes them all."""

import os
from typing import Final

MAX_THREADS: Final = 2


def use_few_threads() -> None:
    """Limit torch, for this process, to `MAX_THREADS` or to the cores there are, whichever is less.

    Its threads wait asleep: spinning ones, the default, take a shared core from whoever has the work to be waited for,
    and a few seconds become minutes. To be called before anything else imports torch: that is when OpenMP reads it.

    Raises:
        ImportError: torch is not installed.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    torch.set_num_threads(min(MAX_THREADS, len(os.sched_getaffinity(0))))
