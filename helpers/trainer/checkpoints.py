"""Checkpoints of a training: whether they belong to these settings, and which is the newest that can be read."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.prompts.tokens import Row
from helpers.run import machine
from helpers.run.config import RunConfig, stage_of, upgrade
from helpers.run.folder import OtherConfiguration, Run
from helpers.run.say import say

FOLDER = "checkpoints"
PARTS = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


def prepare(run: Run, settings: RunConfig, rows: Sequence[Row], *, resume: bool) -> None:
    """Check that existing checkpoints belong to these settings and rows, or delete them if `resume` is False.

    Raises:
        OtherConfiguration: they belong to others; the message names what differs.
    """
    made_with = identity(settings, rows)
    if not resume:
        shutil.rmtree(run / FOLDER, ignore_errors=True)
    stored = f"{FOLDER}/made_with.json"
    if (run / stored).is_file() and any((run / FOLDER).glob("checkpoint-*")):
        before = upgrade(run.read_json(stored))
        defaults = RunConfig().values()  # what a setting meant before it existed
        changed = [name for name in made_with if before.get(name, defaults.get(name)) != made_with[name]]
        if changed:
            listed = ", ".join(f"{name} {before.get(name)!r} → {made_with[name]!r}" for name in changed)
            raise OtherConfiguration(
                f"{machine.short_path(run / FOLDER)} was made with other settings ({listed}).\n"
                "  Set resume=False to train again from the start, or run_dir to a new folder."
            )
    run.write_json(stored, made_with)


def identity(settings: RunConfig, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what decides a training: the settings up to 04, and the tokens of all rows."""
    values = {name: value for name, value in settings.values().items() if stage_of(name) != "evaluate"}
    return values | {"tokens": sum(len(row.input_ids) for row in rows)}


def newest(run: Run) -> Path | None:
    """Return the newest checkpoint that can be read. Damaged ones are named and removed."""
    found = sorted((run / FOLDER).glob("checkpoint-*"), key=step, reverse=True)
    for checkpoint in found:
        fault = damage(checkpoint)
        if fault is None:
            return checkpoint
        say(f"{checkpoint.name} is damaged ({fault}): it is removed, the one before it is used")
        shutil.rmtree(checkpoint)
    return None


def step(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    missing = [name for name in PARTS if not (checkpoint / name).is_file()]
    if missing:
        return f"without {', '.join(missing)}"
    try:
        load_file(checkpoint / "adapter_model.safetensors")
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        for path in (*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")):  # zip files, with checksums
            with zipfile.ZipFile(path) as parts:
                if parts.testzip():
                    return f"{path.name}: wrong checksum"
    except (SafetensorError, ValueError, OSError, zipfile.BadZipFile) as error:
        return (str(error) or type(error).__name__).splitlines()[0][:80]
    return None
