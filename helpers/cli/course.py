"""`run` executes the course's notebooks through papermill; `runs` lists what it made."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers import models, setup
from helpers.cli.exit import DONE, FAILED, REFUSALS, refuse
from helpers.run import config, machine, presets
from helpers.run.files import check_writable, is_disk_full, write_text
from helpers.run.folder import OUTPUTS, Run, find_runs
from helpers.run.parameters import as_type, literal
from helpers.run.say import say
from helpers.sources import spider

COURSE = [machine.ROOT / "notebooks" / OUTPUTS[stage][1] for stage in config.STAGES]


def add_commands(commands: Any) -> None:
    """Add `run` and `runs` to the parser."""
    run = commands.add_parser(
        "run", help="run the course, 01 to 05", description="Run the notebooks 01 to 05 one after the other, without asking."
    )
    run.add_argument(
        "--preset",
        metavar="P",
        help=f"{', '.join(presets.PRESETS)} or auto (seed with a CUDA GPU, else cpu); default: RUN_PRESET, else auto",
    )
    run.add_argument("--run-dir", metavar="DIR", help="folder for all results (default: RUN_DIR, else runs/course)")
    run.add_argument(
        "--num-processes", type=int, metavar="N", help="processes that train and answer together, a GPU each (default: 1)"
    )
    run.add_argument(
        "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="a setting that differs from the preset, such as -p max_steps 200; may be repeated",
    )  # fmt: skip
    run.set_defaults(command=run_course, resumes=True)
    listing = commands.add_parser(
        "runs", help="list runs with their scores", description="List the runs under runs/ with their scores."
    )
    listing.set_defaults(command=list_runs)


# ---- run


def run_course(options: argparse.Namespace) -> int:
    """Execute the notebooks, then print the scores and the path of the report."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(Run(machine.run_path(options.run_dir)).alone())
        except REFUSALS as error:
            return refuse(error)
        return run_alone(options)


def run_alone(options: argparse.Namespace) -> int:
    """Do what `run_course` does, while no other program works in the run folder."""
    from helpers.report import pages  # pandas and matplotlib: not for every command

    try:
        run, switches = prepare(options)
    except REFUSALS as error:
        return refuse(error)
    try:
        if not execute_all(COURSE, run, switches):
            return FAILED
        executed = [run / "notebooks" / notebook.name for notebook in COURSE]
        page = pages.write_html(executed, run / "report.html", f"Run {run.path.name}")
    except OSError as error:
        say(f"\nFailed: {error}{advice(run, str(error))}", error=True)
        return FAILED
    say(f"\n{machine.short_path(run.path)}")
    say((run / "evaluation/scores.txt").read_text(encoding="utf-8").rstrip())
    say(f"\nReport: {machine.short_path(page)}\nRecord: {machine.short_path(run / 'record.json')}")
    return DONE


def prepare(options: argparse.Namespace) -> tuple[Run, dict[str, Any]]:
    """Check everything that can be checked before anything slow, and make the run folder.

    Returns:
        the run, and the notebooks' switches (parameters that are no settings) with their values.

    Raises: one of REFUSALS.
    """
    given = {name: literal(value) for name, value in options.parameters}
    if options.num_processes is not None:
        given["num_processes"] = options.num_processes
    switches = {name: as_type(name, given.pop(name), bool) for name in ("resume",) if name in given}
    known = [field.name for field in config.settings_fields()]
    for name in given:
        if name not in known:
            raise ValueError(f"No parameter is called {name!r}.{config.suggestion(name, [*known, 'resume'])}")
    run = Run(machine.run_path(options.run_dir))
    wanted = run.config() if run.has("setup") else presets.preset(options.preset or presets.default_preset())
    wanted = wanted.with_overrides(given, "command line")
    models.check_machine(wanted)
    spider.check_source(wanted.data_source)
    check_writable(machine.cache_dir(), "The cache folder (COURSE_CACHE)")
    check_writable(run.path, "The run folder")
    run, _ = setup.start(options.run_dir, options.preset, origin="command line", **given)
    return run, switches


def execute_all(notebooks: Sequence[Path], run: Run, switches: dict[str, Any]) -> bool:
    """Execute notebooks into the run folder, one after another, up to the first that fails; return whether all succeeded."""
    os.environ["COURSE_HEADLESS"] = "1"  # notebooks inherit it: nobody is there to log in or to take a download
    return all(execute(notebook, run, switches) for notebook in notebooks)


def execute(source: Path, run: Run, switches: dict[str, Any]) -> bool:
    """Execute one notebook into the run folder; on a failing cell print its error and return False."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    name, target = source.name, run / "notebooks" / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    running = target.with_name(f".{name}")
    known = papermill.inspect_notebook(str(source))
    parameters = {"run_dir": machine.short_path(run.path)} | {key: value for key, value in switches.items() if key in known}
    say(f"{name}", error=True)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # on Ctrl-C nbclient ends the kernel and forgets a task
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            papermill.execute_notebook(
                str(source),
                str(running),
                parameters,
                cwd=str(machine.ROOT),
                log_output=False,
                shutdown_kernel="immediate",  # all is written; Python would take seconds to clear torch away
            )
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":  # Ctrl-C also reaches the notebook's process, sometimes first
            raise KeyboardInterrupt from None
        said = f"{error.ename}: {error.evalue}"
        say(f"\n{name} failed in its cell {error.exec_count}:\n{said}{advice(run, said)}", error=True)
        keep(running, target)
        if target.is_file():
            say(f"The notebook up to there: {machine.short_path(target)}", error=True)
        return False
    except DeadKernelError:
        say(
            f"\n{name}: its process ended, by Ctrl-C or because memory ran out. Run the same command to resume.",
            error=True,
        )
        return False
    finally:
        keep(running, target)
    return True


def advice(run: Run, said: str) -> str:
    """Return what to do where an error's text says that the disk is full; else ''."""
    if not is_disk_full(said):
        return ""
    free = shutil.disk_usage(run.path).free / 1e6
    return (
        f"\nThe disk that holds {run} is full ({free:,.0f} MB free). Make room, then run the same command: it goes on from here."
    )


def keep(running: Path, target: Path) -> None:
    """Put an executed notebook in its place. One that the disk had no room for is removed: the error itself has been raised."""
    if not running.is_file():
        return
    try:
        tidy(running)
        running.replace(target)
    except (OSError, ValueError):
        running.unlink(missing_ok=True)


def tidy(path: Path) -> None:
    """Prepare an executed notebook for keeping: progress bars as they ended, and no paths of papermill's own."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.get("papermill", {}).update(input_path=path.name.lstrip("."), output_path=path.name.lstrip("."))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    write_text(path, nbformat.writes(notebook) + "\n")


def merged(outputs: list[Any]) -> list[Any]:
    """Return outputs with adjacent pieces of one stream joined, each line as its last carriage return left it."""
    kept: list[Any] = []
    for output in outputs:
        if kept and output.output_type == "stream" and kept[-1].output_type == "stream" and output.name == kept[-1].name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in output.text.split("\n"))
    return [output for output in kept if output.output_type != "stream" or output.text.strip()]


# ---- runs


def list_runs(options: argparse.Namespace) -> int:
    """Print a line for each run under runs/ (or beside RUN_DIR)."""
    import pandas as pd

    parent = machine.run_path().parent
    rows, damaged = [], 0
    for run in find_runs(parent):
        try:
            record = run.record()
            parts = {name: record.get(name) or {} for name in ("evaluation", "train")}
            before, after = ((parts["evaluation"].get(name) or {}).get("ex") for name in ("base", "tuned"))
            scores, steps = parts["evaluation"], parts["train"].get("steps")
        except (ValueError, TypeError, AttributeError) as error:
            said = error if isinstance(error, ValueError) else f"{run}/record.json is damaged, or another program's"
            say(said, error=True)
            damaged += 1
            continue
        rows.append(
            {
                "run": run.path.name,
                "preset": record.get("preset"),
                "model": record.get("model_name"),
                "data": record.get("data_source"),
                "steps": steps,
                "questions": scores.get("questions"),
                "EX before": before,
                "EX after": after,
                "GPU": record.get("gpu"),
                "note": record.get("data_note") or None,
            }
        )
    if not rows and damaged:
        return FAILED
    if not rows:
        say(f"There is no run in {machine.short_path(parent)} yet: `python -m helpers run` makes one.")
        return DONE
    table = pd.DataFrame(rows).astype(object)
    say(table.where(table.notna(), "-").to_string(index=False))
    return FAILED if damaged else DONE
