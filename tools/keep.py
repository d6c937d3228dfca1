"""Keep a run as evidence: python -m tools.keep runs/NAME results/NAME [record].

Copies record.json, the predictions, ladder and other wordings where there are some, the plots of scores and loss and the
executed notebooks, with folders of this machine taken out. With the word `record`, record.json alone: a row of a table.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from helpers import environment, runs
from tools import ladder, wordings

KEPT = ("predictions.txt", "predictions_base.txt", "scores.txt")
PLOTS = ("scores.png", "training.png")
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


def keep(run: runs.Run, target: Path, *, record_only: bool = False) -> None:
    """Copy what is worth keeping of a run into the folder `target`, which is replaced."""
    with runs.replaced_folder(target) as folder:
        write_without_folders(run / "record.json", folder)
        if record_only:
            return
        for name in KEPT:
            shutil.copy(run / "evaluation" / name, folder / name)
        for name in (ladder.FILE, wordings.FILE):
            if (run / name).is_file():
                write_without_folders(run / name, folder)
        for name in PLOTS:
            shutil.copy(run / "plots" / name, folder / name)
        for notebook in sorted((run / "notebooks").glob("[0-9]*.ipynb")):
            write_without_folders(notebook, folder)


def write_without_folders(source: Path, folder: Path) -> None:
    """Copy a JSON file, a notebook among them, into a folder."""
    content = without_folders(json.loads(source.read_text(encoding="utf-8")))
    runs.write_text(folder / source.name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[3:] not in ([], ["record"]):
        sys.exit("usage: python -m tools.keep runs/NAME results/NAME [record]")
    source = runs.Run(environment.resolve(sys.argv[1]))
    if "evaluation" not in source.record():  # a trial has no more than that
        source.require("evaluate", "keeping a run")
    keep(source, environment.resolve(sys.argv[2]), record_only=bool(sys.argv[3:]))
    print(f"{sys.argv[2]}: {sum(path.stat().st_size for path in environment.resolve(sys.argv[2]).iterdir()) / 1e3:,.0f} kB")
