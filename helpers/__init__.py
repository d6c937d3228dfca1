"""The thin package behind the notebooks: fine-tune a small model for text-to-SQL, and judge it honestly."""

import os
import sys


def grow_memory_in_place() -> None:
    """Have torch (from 2.10 on) enlarge what it holds of a GPU's memory rather than ask for another piece.

    An answer's keys and values grow with every token, so a piece that has become free is seldom large enough for the next.
    Unsloth asks for the same. Not under WSL, whose drivers cannot do it, and only on x86-64, where it has been tried.

    Source: PyTorch, "CUDA semantics", on PYTORCH_ALLOC_CONF.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64" or "microsoft" in os.uname().release.lower():
        return
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # its older name
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


grow_memory_in_place()  # here, before anything imports torch
