"""The run folder: what passes between notebooks, written whole or not at all, and its record."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from helpers import config, environment

# What each stage leaves in the run folder, the notebook that makes it, and its name for people.
OUTPUTS = {
    "setup": ("config.json", "01_setup.ipynb", "01 Setup"),
    "data": ("data/train.jsonl", "02_data.ipynb", "02 Data"),
    "model": ("model.json", "03_model.ipynb", "03 Model"),
    "train": ("adapter/adapter_config.json", "04_train.ipynb", "04 Train"),
    "evaluate": ("evaluation/verdicts.jsonl", "05_evaluate.ipynb", "05 Evaluate"),
}


COLAB_ADVICE = "\n  On Colab each notebook opens a machine of its own: set use_drive = True in every one."


class MissingStep(RuntimeError):
    """A notebook was opened before the one whose results it reads."""


class OtherConfiguration(ValueError):
    """A run folder holds results of another configuration than the one asked for."""


class Run:
    """A run folder. Paths are relative to it; every write is atomic."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Run({environment.shown(self.path)})"

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def has(self, stage: str) -> bool:
        """Whether a stage has left its result."""
        return (self / OUTPUTS[stage][0]).is_file()

    def require(self, stage: str, reader: str) -> None:
        """Check that the result of a stage is there, for the notebook called `reader`.

        Raises:
            MissingStep: naming the notebook that writes it, and the runs that have it.
        """
        if self.has(stage):
            return
        file, notebook, name = OUTPUTS[stage]
        others = [environment.shown(run.path) for run in find_runs(self.path.parent) if run.has(stage)]
        raise MissingStep(
            f"{environment.shown(self.path)} has no {file}, which {reader} reads.\n"
            f"  {name} writes it: run notebooks/{notebook} with run_dir={environment.shown(self.path)!r},\n"
            f"  or set run_dir to a folder that has it (found: {', '.join(others) or 'none'})."
            + (COLAB_ADVICE if environment.place() == "Colab" else "")
        )

    def read_json(self, name: str) -> Any:
        """The content of a JSON file.

        Raises:
            ValueError: it is damaged.
        """
        try:
            return json.loads((self / name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{environment.shown(self / name)} is damaged ({error}): delete it and run its notebook again"
            ) from error

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file, whole or not at all."""
        return write_text(self / name, text)

    def write_json(self, name: str, content: Any) -> Path:
        """Write a JSON file, whole or not at all."""
        return self.write_text(name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def read_jsonl(self, name: str) -> list[dict]:
        """The objects of a file with one JSON object a line."""
        with open(self / name, encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def write_jsonl(self, name: str, rows: Iterable[Mapping]) -> Path:
        """Write one JSON object a line, whole or not at all."""
        return self.write_text(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    @contextlib.contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """An empty folder to fill, which takes the place of folder `name` when the block ends without an error."""
        with replaced_folder(self / name) as folder:
            yield folder

    def config(self) -> config.RunConfig:
        """The configuration that the run was made with."""
        stored = self.read_json("config.json")
        return config.from_stored(stored["values"], stored["preset"], stored["origin"])

    def record(self) -> dict[str, Any]:
        """What is known of the run so far (record.json), empty for a new one."""
        return self.read_json("record.json") if (self / "record.json").is_file() else {}

    def add_to_record(self, **entries: Any) -> None:
        """Add entries to record.json, in place of older ones of the same name; programs of this machine wait for each other."""
        name = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:16]
        # not in the run folder: that may lie on a Drive, which has no locks
        with FileLock(Path(tempfile.gettempdir(), f"course-{name}.lock"), mode=0o666):
            self.write_json("record.json", self.record() | entries)


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text file under a temporary name and rename it, so that a killed program leaves no half file.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private; a results file is not
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return path


@contextlib.contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, renamed to it when the block ends; on an error the old one stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    old = folder.with_name(folder.name + ".old")
    try:
        yield folder
        folder.chmod(0o755)
        if target.exists():
            target.rename(old)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def find_runs(parent: Path) -> list[Run]:
    """The run folders directly under `parent`, by name."""
    return [Run(file.parent) for file in sorted(parent.glob("*/config.json"))]


def start(
    run_dir: str | Path | None,
    preset: str | None,
    *,
    use_drive: bool = False,
    switches: Mapping[str, bool] | None = None,
    origin: str = "this notebook",
    **overrides: Any,
) -> tuple[Run, config.RunConfig]:
    """Make or reopen a run folder (01 Setup), with the configuration asked for.

    Args:
        run_dir: the folder; None is the default one.
        preset: None is an existing run's own, else RUN_PRESET, else `auto`.
        use_drive: keep the run on Google Drive (Colab only).
        switches: further parameters of the notebook that are True or False and no settings of the run.
        origin: where the overrides come from, for the table of settings.
        overrides: settings that differ from the preset; None keeps the preset's.

    Raises:
        ValueError: an unknown preset or setting, or a value out of range.
        OtherConfiguration: the folder holds results that were made with other settings.
    """
    run = check_parameters(run_dir, use_drive, switches or {}, overrides)
    if run.has("setup"):
        return run, amend(run, "setup", preset, overrides, origin)
    settings = config.preset(config.as_type("preset", preset, str | None) or config.default_preset())
    settings = settings.with_overrides(overrides, origin)
    save_config(run, settings)
    run.add_to_record(**machine())
    return run, settings


def open_run(
    run_dir: str | Path | None,
    preset: str | None,
    *,
    stage: str,
    needs: str,
    use_drive: bool = False,
    switches: Mapping[str, bool] | None = None,
    **overrides: Any,
) -> tuple[Run, config.RunConfig]:
    """Open the run folder for a notebook from 02 on.

    Args:
        stage: the notebook's own stage, one of config.STAGES.
        needs: the stage whose result it reads.
        use_drive, switches, overrides: as for `start`.

    Raises: as `start`, and MissingStep.
    """
    run = check_parameters(run_dir, use_drive, switches or {}, overrides)
    run.require("setup", OUTPUTS[stage][2])
    run.require(needs, OUTPUTS[stage][2])
    return run, amend(run, stage, preset, overrides, "this notebook")


def check_parameters(
    run_dir: str | Path | None, use_drive: bool, switches: Mapping[str, bool], overrides: Mapping[str, Any]
) -> Run:
    """The run folder that a notebook's parameters name, once they are known to be the notebook's and of the right kind."""
    config.refuse_unknown_parameters({"run_dir", "preset", "use_drive", *switches, *overrides})
    for name, value in {"use_drive": use_drive, **switches}.items():
        config.as_type(name, value, bool)
    return Run(
        environment.run_path(
            config.as_type("run_dir", str(run_dir) if isinstance(run_dir, Path) else run_dir, str | None), use_drive
        )
    )


def amend(run: Run, stage: str, preset: str | None, overrides: Mapping[str, Any], origin: str) -> config.RunConfig:
    """The run's configuration with new values for a notebook's parameters, unless results exist that they would belie."""
    current = run.config()
    preset = config.as_type("preset", preset, str | None)
    if preset is not None and preset != current.preset and config.preset(preset).preset != current.preset:
        raise OtherConfiguration(
            f"{environment.shown(run.path)} was made with preset {current.preset!r}, not {preset!r}: "
            "leave preset at None, or set run_dir to a new folder"
        )
    settings = current.with_overrides(overrides, origin)
    changed = [name for name, value in settings.values().items() if value != current.values()[name]]
    for name in changed:
        refuse_stale(run, stage, name, current, settings)
    if changed:
        save_config(run, settings)
        return settings
    return current


def refuse_stale(run: Run, stage: str, name: str, current: config.RunConfig, wanted: config.RunConfig) -> None:
    """Refuse a new value for a setting on which existing results rest, except those that the notebook itself makes anew.

    An evaluation is always made anew by whoever changes how it is made.
    """
    if config.stage_of(name) == "evaluate":
        return
    first = config.STAGES.index(config.stage_of(name))
    for later in config.STAGES[first:]:
        if later != stage and run.has(later):
            raise OtherConfiguration(
                f"{name}={getattr(wanted, name)!r} is not what this run was made with ({getattr(current, name)!r}), "
                f"and {environment.shown(run.path)} already has {OUTPUTS[later][0]}.\n"
                f"  Set run_dir to a new folder, or leave {name} at None."
            )


def save_config(run: Run, settings: config.RunConfig) -> None:
    """Keep a configuration in the run folder, each value with its origin."""
    origin = dict.fromkeys(settings.origin, "run folder")
    run.write_json("config.json", {"preset": settings.preset, "origin": origin, "values": settings.values()})
    run.add_to_record(
        preset=settings.preset,
        model_name=portable(settings.model_name),
        data_source=portable(settings.data_source),
        prompt_style=settings.prompt_style,
        seed=settings.seed,
        overrides={name: portable(settings.values()[name]) for name in settings.origin},
    )


def machine() -> dict[str, Any]:
    """The entries of record.json that say on what code and machine a result was made."""
    device = environment.gpu()
    return {
        "git_commit": git_commit(),
        "gpu": device and device.name,
        "cpu_cores": os.cpu_count(),
        "versions": environment.versions(),
    }


def portable(value: Any) -> Any:
    """A setting as a record keeps it: a path is cut to its last part, for a record travels between machines."""
    if isinstance(value, list):
        return [portable(one) for one in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def git_commit() -> str | None:
    """The repository's commit, '…+' when files differ from it; GIT_COMMIT where there is no repository; else None."""
    command = ["git", "-C", str(environment.ROOT), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return os.environ.get("GIT_COMMIT") or None
