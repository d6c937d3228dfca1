"""Keep a run as evidence: python -m tools.keep RUN results/NAME, or as a line of the ledger: python -m tools.keep RUN --ledger.

The first copies record.json, the predictions, the ablation where there is one, plots and executed notebooks into the folder. The
second appends the record to results/ledger.jsonl, under the run folder's name. Folders of this machine are taken out of both.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

from helpers.run import machine
from helpers.run.files import replaced_folder, write_text
from helpers.run.folder import Run
from tools import ablation

KEPT = ("predictions.txt", "predictions_base.txt", "scores.txt")
PLOTS = ("scores.png", "training.png")
LEDGER = machine.ROOT / "results/ledger.jsonl"
# An absolute path up to its last part; not part of an address, a relative path, a markup tag or a fraction.
FOLDER = re.compile(r"(?<![\w:/.<~+=-])/(?:[\w.@+-]+/)+(?=[\w.@+-])")


def without_folders(value: Any) -> Any:
    """Text with `/a/b/c.py` turned into `c.py`, also inside lists and dicts; pictures are left as they are."""
    if isinstance(value, str):
        return FOLDER.sub("", value)
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if isinstance(value, dict):
        return {key: item if key.startswith("image/") else without_folders(item) for key, item in value.items()}
    return value


def keep(run: Run, target: Path) -> None:
    """Copy what is worth keeping of a run into the folder `target`, which is replaced."""
    with replaced_folder(target) as folder:
        write_without_folders(run / "record.json", folder)
        for name in KEPT:
            shutil.copy(run / "evaluation" / name, folder / name)
        if (run / ablation.FILE).is_file():
            write_without_folders(run / ablation.FILE, folder)
        for name in PLOTS:
            shutil.copy(run / "plots" / name, folder / name)
        for notebook in sorted((run / "notebooks").glob("[0-9]*.ipynb")):
            write_without_folders(notebook, folder)


def add_to_ledger(run: Run, ledger: Path = LEDGER) -> None:
    """Append a trial's record to the ledger, in place of an older line of the same name."""
    line = {"trial": run.path.name} | without_folders(run.record())
    kept = [old for old in ledger.read_text(encoding="utf-8").splitlines() if json.loads(old)["trial"] != line["trial"]]
    write_text(ledger, "\n".join([*kept, json.dumps(line, ensure_ascii=False)]) + "\n")


def write_without_folders(source: Path, folder: Path) -> None:
    """Copy a JSON file, a notebook among them, into a folder."""
    content = without_folders(json.loads(source.read_text(encoding="utf-8")))
    write_text(folder / source.name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.keep", description=__doc__)
    parser.add_argument("run_dir", metavar="RUN")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("target", nargs="?", metavar="results/NAME")
    where.add_argument("--ledger", action="store_true", help="append the record to results/ledger.jsonl")
    options = parser.parse_args()
    source = Run(machine.resolve(options.run_dir))
    if options.ledger:
        add_to_ledger(source)
    else:
        source.require("evaluate", "keeping a run")
        keep(source, machine.resolve(options.target))
