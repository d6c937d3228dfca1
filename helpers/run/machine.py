"""The machine: Colab, Kaggle or the user's own, its GPU and what that can really compute, paths and versions."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform as python_platform
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.run.say import say

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
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
    """Return the first CUDA GPU; None without one, and where torch is not installed (the judge needs neither)."""
    prepare_torch()
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


def prepare_torch() -> None:
    """Set the environment variables that torch reads when it is imported. A variable that the user has set stays.

    torch's threads spin while they wait for each other. On a busy machine a waiting thread then takes the core from the one it
    waits for. Told to wait passively, it sleeps. A calm machine is as fast either way (results/speed.md).

    torch (from 2.10 on) may enlarge a block of GPU memory in place. An answer's keys and values grow with every token, so a
    freed block is rarely large enough for the next. Unsloth sets the same. It needs Linux
    on x86_64; WSL's drivers cannot do it.

    Source: PyTorch, "CUDA semantics", on PYTORCH_ALLOC_CONF; OpenMP 5.2, section 21.9, on OMP_WAIT_POLICY.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform != "linux" or os.uname().machine != "x86_64" or "microsoft" in os.uname().release.lower():
        return
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # its older name
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def precision(wanted: str = "auto") -> str:
    """Return 'bf16', 'fp16' or 'fp32': what `auto` means on this machine; any other value is returned as it is."""
    if wanted != "auto":
        return wanted
    device = gpu()
    if device is None:
        return "fp32"
    return "bf16" if device.has_bf16 else "fp16"


def engine(wanted: str = "auto") -> str:
    """Return 'unsloth' or 'transformers'. Unsloth needs a CUDA GPU and raises at import without one.

    Raises:
        RuntimeError: Unsloth is asked for where it cannot run.
    """
    if wanted == "unsloth" and gpu() is None:
        raise RuntimeError("engine='unsloth' needs a CUDA GPU, and this machine has none: use engine='auto' or 'transformers'")
    if wanted == "auto":
        return "unsloth" if gpu() is not None else "transformers"
    return wanted


# ---- the platform


def platform() -> str:
    """Return 'Colab', 'Kaggle' or 'local'."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:  # Kaggle's image is made from Colab's, and sets its variable too
        return "Kaggle"
    return "Colab" if "COLAB_RELEASE_TAG" in os.environ else "local"


def require_gpu_on_colab() -> None:
    """Stop on a Colab runtime without a GPU, where the chosen preset would take days.

    Raises:
        NoGpuOnColab: names the clicks that help.
    """
    if platform() == "Colab" and gpu() is None:
        raise NoGpuOnColab(
            "This Colab runtime has no GPU.\n"
            "  Choose Runtime → Change runtime type → T4 GPU, then run the cells again from the top,\n"
            "  or set preset = 'cpu' for the small model and the embedded demo data."
        )


def injected_cells() -> list[str]:
    """Return the cells that papermill put into this notebook. It begins them with `# Parameters`."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return [cell for cell in (shell.user_ns.get("In", []) if shell else []) if cell.startswith("# Parameters\n")]


def is_headless() -> bool:
    """Whether nobody can log in or accept a download: a run from the command line, or one by papermill."""
    return bool(os.environ.get("COURSE_HEADLESS") or injected_cells())


def offer_download(path: Path) -> None:
    """On Colab, hand a file to the browser. Elsewhere, and headless, print where it is."""
    if platform() == "Colab" and not is_headless():
        from google.colab import files

        files.download(str(path))
    else:
        say(f"Saved as {short_path(path)}")


# ---- paths


def cache_dir() -> Path:
    """Return the folder for models and databases that runs share: COURSE_CACHE, else one in the user's cache folder.

    Raises:
        OSError: it cannot be made.
    """
    base = os.environ.get("COURSE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "text-to-sql-course")
    path = resolve(base)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"The cache folder {path} cannot be made ({error.strerror}): set COURSE_CACHE to a folder that can be written"
        raise type(error)(said) from error
    return path


def run_path(run_dir: str | Path | None = None, use_drive: bool = False) -> Path:
    """Return the absolute path of a run folder.

    Args:
        run_dir: None is RUN_DIR, else runs/course. A relative path starts at the repository's root.
        use_drive: a relative path starts at the folder text-to-sql on Google Drive instead; RUN_DIR does not count.

    Raises:
        RuntimeError: `use_drive` where there is no Drive, or Drive was not mounted in time.
    """
    if use_drive:
        return mounted_drive() / "text-to-sql" / (run_dir or "runs/course")
    return resolve(run_dir or os.environ.get("RUN_DIR") or "runs/course")


def mounted_drive() -> Path:
    """Return Google Drive's folder on Colab, mounted with the user's consent. Waits for at most two minutes.

    Raises:
        RuntimeError: this is not Colab, or nobody is there to log in.
    """
    if platform() != "Colab":
        raise RuntimeError("use_drive=True works on Colab only: elsewhere set run_dir to a folder that is backed up")
    if not DRIVE.is_dir():
        if is_headless():
            raise RuntimeError("use_drive=True needs a person to log in, and this run is headless: set run_dir instead")
        from google.colab import drive

        drive.mount(str(DRIVE.parent), timeout_ms=120_000)
    return DRIVE


def resolve(path: str | Path) -> Path:
    """Return an absolute path; relative ones start at the repository's root, whatever the working directory is."""
    return (ROOT / Path(path).expanduser()).resolve()


def short_path(path: Path) -> str:
    """Return a path for people: relative to the repository where it lies inside it, else with the home folder as ~."""
    for base, prefix in ((ROOT, ""), (Path.home(), "~/")):
        if path.is_relative_to(base) and path != base:
            return prefix + path.relative_to(base).as_posix()
    return str(path)


# ---- for records and tables


def versions() -> dict[str, str]:
    """Return the versions of Python, SQLite and the packages that decide a result. Absent packages are left out."""
    found = {"python": python_platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # A package that lies on the path as plain files has no metadata, and one that is absent no spec.
            module = sys.modules.get(name)
            if module is not None and hasattr(module, "__version__"):
                found[name] = module.__version__
    return found


def provenance() -> dict[str, Any]:
    """Return the entries of record.json that name the code and machine behind a result."""
    device = gpu()
    return {
        "git_commit": git_commit(),
        "gpu": device and device.name,
        "cpu_cores": os.cpu_count(),
        "versions": versions(),
    }


def git_commit() -> str | None:
    """Return the repository's commit, '…+' when files differ from it; GIT_COMMIT where there is no repository; else None."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return os.environ.get("GIT_COMMIT") or None


def table() -> pd.DataFrame:
    """Return this machine as a pandas table: platform, cores, memory, free disk, GPU and what it computes in, versions."""
    import pandas as pd
    import psutil

    device = gpu()
    facts = {
        "platform": platform(),
        "processor cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / GIB:.1f} GiB",
        "free disk": f"{shutil.disk_usage(ROOT).free / GIB:.1f} GiB",
        "GPU": "none" if device is None else f"{device.name}, {device.memory_gib:.1f} GiB",
        "compute capability": "-" if device is None else ".".join(map(str, device.capability)),
        "arithmetic": precision(),
        "engine": engine(),
    }
    return pd.Series(facts | versions(), name="this machine").to_frame()
