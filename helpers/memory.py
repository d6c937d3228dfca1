"""What a model weighs, how much of it learns, and how much memory is in use."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from helpers import environment

if TYPE_CHECKING:
    import pandas as pd


def weight_table(model: Any) -> pd.DataFrame:
    """Weights by kind as a pandas table: how many, GiB as loaded, and GiB in 16 and (the frozen matrices) 4 bits.

    NF4 takes half a byte a weight and, with double quantisation, 0.127 bits more for its scales (Dettmers et al., QLoRA,
    2023, section 3). Embeddings, norms and the adapter are not quantised.
    """
    import pandas as pd

    kinds = {"frozen matrices": [0, 0.0], "embeddings and norms": [0, 0.0], "adapter (trained)": [0, 0.0]}
    for name, parameter in model.named_parameters():
        count = full_count(parameter)
        kind = "adapter (trained)" if "lora_" in name else "frozen matrices" if "_proj" in name else "embeddings and norms"
        kinds[kind][0] += count
        kinds[kind][1] += parameter.numel() * parameter.element_size()
    rows = {}
    for kind, (count, loaded) in kinds.items():
        sixteen = 4 * count if kind.startswith("adapter") else 2 * count
        four = count * (4 + 0.127) / 8 if kind == "frozen matrices" else sixteen
        rows[kind] = {"weights": count, "as loaded (GiB)": loaded, "in 16 bit (GiB)": sixteen, "in 4 bit (GiB)": four}
    table = pd.DataFrame(rows).T
    table.loc["all"] = table.sum()
    table.iloc[:, 1:] /= environment.GIB
    return table.astype({"weights": int})


def full_count(parameter: Any) -> int:
    """How many weights a parameter stands for; bitsandbytes packs two into a byte."""
    packed = getattr(parameter, "quant_state", None)
    return packed.shape.numel() if packed is not None else parameter.numel()


def trainable(model: Any) -> tuple[int, int]:
    """(weights that training moves, all weights)."""
    counts = [(full_count(parameter), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, trained in counts if trained), sum(count for count, _ in counts)


def memory_table() -> pd.DataFrame:
    """Memory in use now as a pandas table in GiB: of the GPU where there is one, and of this process."""
    import pandas as pd
    import psutil

    rows = {}
    if environment.gpu() is not None:
        import torch

        free, total = torch.cuda.mem_get_info()
        rows["GPU"] = {"in use": (total - free), "highest so far": torch.cuda.max_memory_reserved(), "in all": total}
    memory, process = psutil.virtual_memory(), psutil.Process().memory_info()
    rows["this process"] = {
        "in use": process.rss,
        "highest so far": getattr(process, "peak_wset", 0) or peak_rss(),
        "in all": memory.total,
    }
    return (pd.DataFrame(rows).T / environment.GIB).round(2)


def peak_rss() -> int:
    """The most memory this process has held, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_memory_gib() -> float:
    """The most memory held so far: what torch reserved on the GPU, or this process without one."""
    if environment.gpu() is not None:
        import torch

        return torch.cuda.max_memory_reserved() / environment.GIB
    return peak_rss() / environment.GIB


def free_unused_memory() -> None:
    """Give the GPU memory back that torch keeps unused, to other processes."""
    if environment.gpu() is not None:
        import torch

        torch.cuda.empty_cache()


def reset_peak_memory() -> None:
    """Give unused GPU memory back and let the peak begin anew; without a GPU the peak is the process's, and stays."""
    free_unused_memory()
    if environment.gpu() is not None:
        import torch

        torch.cuda.reset_peak_memory_stats()


def limit_gpu_memory() -> None:
    """Bound torch's allocator to the GiB that the environment variable GPU_MEMORY_GIB names, to try the recipe on a smaller card.

    The CUDA context comes on top, about 0.5 GiB: set 3.4 for a card of 4 GiB.

    Raises:
        ValueError: it is no number.
    """
    gib, device = float(os.environ.get("GPU_MEMORY_GIB") or 0), environment.gpu()
    if gib and device is not None:
        import torch

        torch.cuda.set_per_process_memory_fraction(min(1.0, gib / device.memory_gib))


def free_gpu_memory() -> int:
    """Bytes that torch may still take on the GPU: what is free there or kept by torch unused, within the limit set."""
    import torch

    free, total = torch.cuda.mem_get_info()
    used = torch.cuda.memory_allocated()
    limit = torch.cuda.get_per_process_memory_fraction() * total
    return int(min(free + torch.cuda.memory_reserved() - used, limit - used))


def finish_gpu_work() -> None:
    """Wait until the GPU has done what it was given, for a clock to be right."""
    if environment.gpu() is not None:
        import torch

        torch.cuda.synchronize()
