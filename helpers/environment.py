"""Where the course runs: Colab, Kaggle or a machine of one's own, its GPU, and what that GPU can really do."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shutil
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
DRIVE = Path("/content/drive/MyDrive")
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "unsloth", "bitsandbytes", "sqlglot", "papermill")
GIB = 1024**3


class NoGpuOnColab(RuntimeError):
    """A Colab runtime without a GPU, where the preset needs one."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A CUDA GPU: its name, memory in GiB and compute capability, (7, 5) for a T4."""

    name: str
    memory_gib: float
    capability: tuple[int, int]

    @property
    def has_bf16(self) -> bool:
        """Whether it computes in bf16. From capability 8.0 on; a T4 only emulates it, slowly, and torch says yes all the same."""
        return self.capability >= (8, 0)


@functools.cache
def gpu() -> Gpu | None:
    """The first CUDA GPU, or None: also where torch is not installed, for the judge needs neither."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return Gpu(
        name=properties.name,
        memory_gib=properties.total_memory / GIB,
        capability=(properties.major, properties.minor),
    )


def precision(wanted: str = "auto") -> str:
    """'bf16', 'fp16' or 'fp32': what `auto` means on this machine; any other wish is obeyed."""
    if wanted != "auto":
        return wanted
    device = gpu()
    if device is None:
        return "fp32"
    return "bf16" if device.has_bf16 else "fp16"


def engine(wanted: str = "auto") -> str:
    """'unsloth' or 'transformers'. Unsloth needs a CUDA GPU and raises at import without one.

    Raises:
        RuntimeError: Unsloth is asked for where it cannot run.
    """
    if wanted == "unsloth" and gpu() is None:
        raise RuntimeError("engine='unsloth' needs a CUDA GPU, and this machine has none: use engine='auto' or 'transformers'")
    if wanted == "auto":
        return "unsloth" if gpu() is not None else "transformers"
    return wanted


def place() -> str:
    """'Colab', 'Kaggle' or 'local'."""
    if "COLAB_RELEASE_TAG" in os.environ:
        return "Colab"
    return "Kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else "local"


def require_gpu_on_colab(has_gpu: bool) -> None:
    """Stop on a Colab runtime without a GPU: the preset at hand would take days there.

    Raises:
        NoGpuOnColab: with the clicks that help.
    """
    if place() == "Colab" and not has_gpu:
        raise NoGpuOnColab(
            "This Colab runtime has no GPU.\n"
            "  Choose Runtime → Change runtime type → T4 GPU, then run the cells again from the top,\n"
            "  or set preset = 'cpu' for the small model and the embedded sample."
        )


def cache_dir() -> Path:
    """The folder for models and databases that runs share: COURSE_CACHE, else the user's own cache folder."""
    base = os.environ.get("COURSE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "text-to-sql-course")
    path = resolve(base)
    path.mkdir(parents=True, exist_ok=True)
    return path


def run_path(run_dir: str | Path | None = None, use_drive: bool = False) -> Path:
    """The absolute path of a run folder.

    Args:
        run_dir: None is RUN_DIR, else runs/course; relative paths start at the repository's root.
        use_drive: relative paths start at the folder text-to-sql of Google Drive instead.

    Raises:
        RuntimeError: `use_drive` where there is no Drive, or Drive was not mounted in time.
    """
    if use_drive:
        return mounted_drive() / "text-to-sql" / (run_dir or "runs/course")
    return resolve(run_dir or os.environ.get("RUN_DIR") or "runs/course")


def mounted_drive() -> Path:
    """Google Drive's folder on Colab, mounted after the user's consent. Waits two minutes for it at most."""
    if place() != "Colab":
        raise RuntimeError("use_drive=True works on Colab only: elsewhere set run_dir to a folder that is backed up")
    if not DRIVE.is_dir():
        if headless():
            raise RuntimeError("use_drive=True needs a person to log in, and this run is headless: set run_dir instead")
        from google.colab import drive

        drive.mount(str(DRIVE.parent), timeout_ms=120_000)
    return DRIVE


def injected_cells() -> list[str]:
    """The cells that papermill put into this notebook: it begins them with `# Parameters`."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return [cell for cell in (shell.user_ns.get("In", []) if shell else []) if cell.startswith("# Parameters\n")]


def headless() -> bool:
    """Whether nobody is there to log in or to take a download: a run from the command line, or papermill's."""
    return bool(os.environ.get("COURSE_HEADLESS") or injected_cells())


def offer_download(path: Path) -> None:
    """On Colab, hand a file to the browser; elsewhere, or with nobody there to take it, say where it lies."""
    if place() == "Colab" and not headless():
        from google.colab import files

        files.download(str(path))
    else:
        print(f"It lies in {shown(path)}")


def resolve(path: str | Path) -> Path:
    """A path as the user meant it: relative ones start at the repository's root, whoever's working directory this is."""
    return (ROOT / Path(path).expanduser()).resolve()


def shown(path: Path) -> str:
    """A path for people: relative to the repository where it lies inside it, else with the home folder as ~."""
    for base, prefix in ((ROOT, ""), (Path.home(), "~/")):
        if path.is_relative_to(base) and path != base:
            return prefix + path.relative_to(base).as_posix()
    return str(path)


def versions() -> dict[str, str]:
    """Versions of Python, SQLite and the packages that decide a result; packages that are absent are left out."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # A package that lies on the path as plain files has no metadata, and one that is absent no spec.
            module = sys.modules.get(name)
            if module is not None and hasattr(module, "__version__"):
                found[name] = module.__version__
    return found


def table() -> pd.DataFrame:
    """This machine in a pandas table: place, Python, GPU and what it computes in, memory, free disk, versions."""
    import pandas as pd
    import psutil

    device = gpu()
    facts = {
        "place": place(),
        "processor cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / GIB:.1f} GiB",
        "free disk": f"{shutil.disk_usage(ROOT).free / GIB:.1f} GiB",
        "GPU": "none" if device is None else f"{device.name}, {device.memory_gib:.1f} GiB",
        "compute capability": "-" if device is None else ".".join(map(str, device.capability)),
        "arithmetic": precision(),
        "engine": engine(),
    }
    return pd.Series(facts | versions(), name="this machine").to_frame()
