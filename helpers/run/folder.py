"""The run folder: what passes between notebooks, and its record. Every file is written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import helpers
from helpers.run import config, files, machine

# The file that marks each stage as done, the notebook that writes it, and that notebook's title.
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


class RunInUse(RuntimeError):
    """A run folder that another program works in."""


class OtherConfiguration(ValueError):
    """A run folder holds results of another configuration than the one asked for."""


class Run:
    """A run folder. Paths are relative to it; every write is atomic."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Run({self})"

    def __str__(self) -> str:
        return machine.short_path(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def has(self, stage: str) -> bool:
        """Whether a stage has left its result."""
        return (self / OUTPUTS[stage][0]).is_file()

    def require(self, stage: str, reader: str) -> None:
        """Check that a stage's result exists, on behalf of `reader`, the title of the notebook that needs it.

        Raises:
            MissingStep: names the notebook that writes it, and the runs that have it.
        """
        if self.has(stage):
            return
        file, notebook, title = OUTPUTS[stage]
        others = [machine.short_path(run.path) for run in find_runs(self.path.parent) if run.has(stage)]
        raise MissingStep(
            f"{machine.short_path(self.path)} has no {file}, which {reader} reads.\n"
            f"  {title} writes it: run notebooks/{notebook} with run_dir={machine.short_path(self.path)!r},\n"
            f"  or set run_dir to a folder that has it (found: {', '.join(others) or 'none'})."
            + (COLAB_ADVICE if machine.platform() == "Colab" else "")
        )

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            return json.loads((self / name).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{machine.short_path(self / name)} is damaged ({error}): delete it and run its notebook again"
            ) from error

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file, whole or not at all."""
        return files.write_text(self / name, text)

    def write_json(self, name: str, content: Any) -> Path:
        """Write a JSON file, whole or not at all."""
        return self.write_text(name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def read_jsonl(self, name: str) -> list[dict]:
        """Return the objects of a file with one JSON object a line."""
        with open(self / name, encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def write_jsonl(self, name: str, rows: Iterable[Mapping]) -> Path:
        """Write one JSON object a line, whole or not at all."""
        return self.write_text(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    @contextlib.contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """Yield an empty folder, which replaces the folder `name` when the block ends without an error."""
        with files.replaced_folder(self / name) as folder:
            yield folder

    def config(self) -> config.RunConfig:
        """Return the configuration that the run was made with, also by an older version."""
        return config.from_file(self.read_json("config.json"), f"{self}/config.json", "values")

    def save_config(self, settings: config.RunConfig) -> None:
        """Write config.json, each value with its origin, and the settings' entries of record.json."""
        origin = dict.fromkeys(settings.origin, "run folder")
        stored = {"version": helpers.__version__, "preset": settings.preset, "origin": origin, "values": settings.values()}
        self.write_json("config.json", stored)
        self.add_to_record(
            preset=settings.preset,
            model_name=config.portable(settings.model_name),
            data_source=config.portable(settings.data_source),
            prompt_style=settings.prompt_style,
            seed=settings.seed,
            overrides={name: config.portable(settings.values()[name]) for name in settings.origin},
        )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the folder for one `run` on this machine, until the block ends.

        Raises:
            RunInUse: another one has it.
        """
        lock = self._lock("run")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunInUse(
                f"Another `python -m helpers run` works in {self}: wait until it has ended, or name another --run-dir"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _lock(self, kind: str) -> FileLock:
        name = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:16]
        # not in the run folder: that may lie on a Drive, which has no locks
        return FileLock(Path(tempfile.gettempdir(), f"course-{kind}-{name}.lock"), mode=0o666)

    def record(self) -> dict[str, Any]:
        """Return record.json, what is known of the run so far; empty for a new run.

        Raises:
            ValueError: the file is damaged.
        """
        content = self.read_json("record.json") if (self / "record.json").is_file() else {}
        if not isinstance(content, dict):
            raise ValueError(f"{self}/record.json is damaged: it is no JSON object")
        return content

    def add_to_record(self, **entries: Any) -> None:
        """Add entries to record.json, replacing older ones of the same name. Programs on this machine wait for each other."""
        with self._lock("record"):
            self.write_json("record.json", self.record() | entries)


def find_runs(parent: Path) -> list[Run]:
    """Return the run folders directly under `parent`, by name."""
    return [Run(file.parent) for file in sorted(parent.glob("*/config.json"))]
