"""Memory in use, of the GPU and of this process, and the limits on it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from helpers.run import machine

if TYPE_CHECKING:
    import pandas as pd


def table() -> pd.DataFrame:
    """Return the memory in use now as a pandas table in GiB: of the GPU where there is one, and of this process."""
    import pandas as pd
    import psutil

    rows = {}
    if machine.gpu() is not None:
        import torch

        free, total = torch.cuda.mem_get_info()
        rows["GPU"] = {"in use": (total - free), "highest so far": torch.cuda.max_memory_reserved(), "in all": total}
    memory, process = psutil.virtual_memory(), psutil.Process().memory_info()
    rows["this process"] = {
        "in use": process.rss,
        "highest so far": getattr(process, "peak_wset", 0) or peak_rss(),
        "in all": memory.total,
    }
    return (pd.DataFrame(rows).T / machine.GIB).round(2)


def peak_rss() -> int:
    """Return the most memory that this process has held, in bytes; 0 where the system does not report it."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_memory_gib() -> float:
    """Return the most memory held so far, in GiB: what torch reserved on the GPU, or this process's without one."""
    if machine.gpu() is not None:
        import torch

        return torch.cuda.max_memory_reserved() / machine.GIB
    return peak_rss() / machine.GIB


def reset_peak_memory() -> None:
    """Free unused GPU memory and reset the peak. Without a GPU the peak is the process's, which cannot be reset."""
    empty_cache()
    if machine.gpu() is not None:
        import torch

        torch.cuda.reset_peak_memory_stats()


def empty_cache() -> None:
    """Release the GPU memory that torch caches, for other processes to use."""
    if machine.gpu() is not None:
        import torch

        torch.cuda.empty_cache()


def synchronize() -> None:
    """Wait until the GPU has finished its queued work, so that a clock is right."""
    if machine.gpu() is not None:
        import torch

        torch.cuda.synchronize()


def free_gpu_bytes() -> int:
    """Return the bytes that torch may still take on the GPU: free there or kept unused by torch, within the limit set."""
    import torch

    free, total = torch.cuda.mem_get_info()
    used = torch.cuda.memory_allocated()
    limit = torch.cuda.get_per_process_memory_fraction() * total
    return int(min(free + torch.cuda.memory_reserved() - used, limit - used))


def limit_gpu_memory() -> None:
    """Limit torch's allocator to the GiB in the environment variable GPU_MEMORY_GIB, to try the recipe on a smaller card.

    The CUDA context comes on top, about 0.5 GiB: set 3.4 for a card of 4 GiB.

    Raises:
        ValueError: the variable is no number.
    """
    gib, device = float(os.environ.get("GPU_MEMORY_GIB") or 0), machine.gpu()
    if gib and device is not None:
        import torch

        torch.cuda.set_per_process_memory_fraction(min(1.0, gib / device.memory_gib))
