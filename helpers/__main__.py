"""The command line: the whole course headless, a list of its runs, and the judge on its own."""

from __future__ import annotations

import argparse
import ast
import logging
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import models, setup, spider
from helpers.databases import layout
from helpers.judge import test_suite
from helpers.judge.files import JSON, Gold, judge_files, read_gold, write_verdicts
from helpers.judge.verdicts import WRONG_ON_A_COPY, Verdict
from helpers.run import config, machine, presets
from helpers.run.files import write_text
from helpers.run.folder import OUTPUTS, Run, find_runs
from helpers.run.parameters import as_type, nearest

if TYPE_CHECKING:
    from helpers import ask

EXPORTS = ("adapter", "merged", "gguf", "ollama")
COURSE = [OUTPUTS[stage][1] for stage in config.STAGES]
DONE, FAILED, REFUSED = 0, 1, 2
PREDICTIONS = "one SQL a line in the order of gold, an empty line for none; or .json, .jsonl"
# What people can put right themselves: a line without a traceback. Anything else is a fault of ours, and shows one.
REFUSALS = (ValueError, RuntimeError, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 when done, 1 when a step failed, 2 when refused before starting."""
    options = make_parser().parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        resumed = " The same command goes on from what is there." if options.command is run_course else ""
        print(f"\nStopped.{resumed}", file=sys.stderr)
        return FAILED


def make_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run", help="run the course, 01 to 05", description="Run the notebooks 01 to 05 one after the other, without asking."
    )
    run.add_argument(
        "--preset", metavar="P", help=f"{', '.join(presets.PRESETS)} or auto (seed with a CUDA GPU, else cpu; the default)"
    )
    run.add_argument("--run-dir", metavar="DIR", help="folder for all results (default: RUN_DIR, else runs/course)")
    run.add_argument(
        "--num-processes", type=int, metavar="N", help="processes that train and answer together, a GPU each (default: 1)"
    )
    run.add_argument(
        "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="a setting that differs from the preset, such as -p max_steps 200; may be repeated",
    )  # fmt: skip
    run.set_defaults(command=run_course)

    listing = commands.add_parser(
        "runs", help="list runs with their scores", description="List the runs under runs/ with their scores."
    )
    listing.set_defaults(command=list_runs)

    judge = commands.add_parser(
        "judge",
        help="judge a file of predictions",
        description="Judge any system's predictions by execution accuracy and exact set match, and write a verdict for each.",
    )
    judge.add_argument("--pred", type=Path, required=True, help=PREDICTIONS)
    judge.add_argument("--out", type=Path, required=True, help="JSON file for the verdicts")
    judge.set_defaults(command=judge_predictions)

    compare = commands.add_parser(
        "compare",
        help="compare two files of predictions",
        description="Judge two systems on the same questions: is one better, by how much, and where.",
    )
    compare.add_argument("pred", type=Path, metavar="PRED_A", help=PREDICTIONS)
    compare.add_argument("pred_b", type=Path, metavar="PRED_B", help="the same of the other system")
    compare.add_argument("--plot", type=Path, metavar="PNG", help="file for a plot of both by hardness")
    compare.set_defaults(command=compare_predictions)

    for command in (judge, compare):
        command.add_argument(
            "--gold", type=Path, required=True, help="Spider's JSON, or the official text form (SQL<tab>db_id a line)"
        )
        command.add_argument(
            "--db",
            type=Path,
            required=True,
            help="folder with <db_id>/<db_id>.sqlite; other SQLite files there must agree as well",
        )
        command.add_argument("--tables", type=Path, help="tables.json: its foreign keys count for the official exact set match")
        command.add_argument("--field", help="name of the prediction in .json and .jsonl files")
        command.add_argument("--official-quirks", action="store_true", help="with the official evaluator's faults, to the letter")

    asking = commands.add_parser(
        "ask",
        help="ask a database",
        description="Answer questions about a database with a tuned model: SQL, and the rows that it gives.",
    )
    asking.add_argument(
        "database", metavar="DATABASE", help="SQLite file, CSV file or folder of them, or a database that comes with the course"
    )
    asking.add_argument("question", metavar="QUESTION", nargs="?", help="without one, questions are asked for")
    asking.add_argument("--candidates", type=int, default=4, metavar="N", help="queries to try, 1 to 16 (default: 4)")
    shape = asking.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object a question")
    shape.add_argument("--sql-only", action="store_true", help="the query alone")
    asking.set_defaults(command=ask_database)
    page = commands.add_parser(
        "demo", help="a page to ask databases", description="Open a page on this machine to ask databases with a tuned model."
    )
    page.add_argument("--port", type=int, metavar="N", help="port (default: the first free one from 7860 on)")
    page.add_argument("--share", action="store_true", help="give the page a public address for a week")
    page.set_defaults(command=open_page)

    pairing = commands.add_parser(
        "pairs",
        help="make training pairs from a database",
        description="Write questions with their SQL, made from a database alone, into a folder to train on; read and edit them.",
    )
    pairing.add_argument("database", metavar="DATABASE", help="as for ask")
    pairing.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="new folder for train.csv and the database")
    pairing.add_argument("--count", type=int, default=300, metavar="N", help="pairs to make (default: 300)")
    pairing.add_argument("--with-sample", action="store_true", help="add the embedded sample's training examples")
    pairing.set_defaults(command=make_pairs)

    exporting = commands.add_parser(
        "export",
        help="take a tuned model away",
        description="Write a run's model as other programs read it, and check that it still answers dev questions as well.",
    )
    exporting.add_argument("kind", choices=[*EXPORTS, "hub"], help="what to write; hub uploads the adapter")
    exporting.add_argument(
        "--to", metavar="PATH", help="folder (default: export/KIND in the run); for hub the name, you/your-model"
    )
    exporting.add_argument(
        "--questions", type=int, default=60, metavar="N", help="dev questions for the check, 0 for none (default: 60)"
    )
    exporting.add_argument("--public", action="store_true", help="hub: for all to see (default: private)")
    exporting.set_defaults(command=export_model)

    for command in (asking, page, exporting):
        command.add_argument("--run-dir", metavar="DIR", help="run with the tuned model (default: RUN_DIR, else runs/course)")
    for command in (asking, page):
        command.add_argument("--model", metavar="NAME", help="exported folder, or name on the Hub, in place of a run")

    copies = commands.add_parser(
        "neighbours",
        help="make altered copies of databases",
        description="Write each database with altered copies beside it: `judge --db OUT` then catches what is right by accident.",
    )
    copies.add_argument("--db", type=Path, required=True, help="folder with <db_id>/<db_id>.sqlite")
    copies.add_argument("--out", type=Path, required=True, help="new folder for databases and copies")
    copies.add_argument("--gold", type=Path, help="only the databases that this file asks about")
    copies.set_defaults(command=make_neighbours)
    return parser


# ---- run


def run_course(options: argparse.Namespace) -> int:
    """Execute the notebooks, then print the scores and the path of the report."""
    from helpers import report  # pandas and matplotlib: not for every command

    try:
        run, switches = prepare(options)
    except REFUSALS as error:
        return refuse(error)
    os.environ["COURSE_HEADLESS"] = "1"  # notebooks inherit it: nobody is there to log in or to take a download
    for name in COURSE:
        if not execute(name, run, switches):
            return FAILED
    page = report.write_html([run / "notebooks" / name for name in COURSE], run / "report.html", f"Run {run.path.name}")
    print_scores(run)
    print(f"\nReport: {machine.short_path(page)}\nRecord: {machine.short_path(run / 'record.json')}")
    return DONE


def prepare(options: argparse.Namespace) -> tuple[Run, dict[str, Any]]:
    """Check everything that can be checked before anything slow, and make the run folder."""
    given = {name: literal(value) for name, value in options.parameters}
    if options.num_processes is not None:
        given["num_processes"] = options.num_processes
    switches = {name: as_type(name, given.pop(name), bool) for name in ("resume",) if name in given}
    known = [field.name for field in config.settings_fields()]
    for name in given:
        if name not in known:
            raise ValueError(f"No parameter is called {name!r}.{nearest(name, [*known, 'resume'])}")
    run = Run(machine.run_path(options.run_dir))
    wanted = run.config() if run.has("setup") else presets.preset(options.preset or presets.default_preset())
    wanted = wanted.with_overrides(given, "command line")
    models.check_machine(wanted)
    spider.check_source(wanted.data_source)
    run, _ = setup.start(options.run_dir, options.preset, origin="command line", **given)
    return run, switches


def literal(text: str) -> Any:
    """`text` as Python reads it (3e-4, False, None), or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def execute(name: str, run: Run, switches: dict[str, Any]) -> bool:
    """Execute one notebook into the run folder; on a failing cell print its error."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    source, target = machine.ROOT / "notebooks" / name, run / "notebooks" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    running = target.with_name(f".{name}")
    known = papermill.inspect_notebook(str(source))
    parameters = {"run_dir": machine.short_path(run.path)} | {key: value for key, value in switches.items() if key in known}
    print(f"{name}", file=sys.stderr)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # on Ctrl-C nbclient ends the kernel and forgets a task
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            papermill.execute_notebook(str(source), str(running), parameters, cwd=str(machine.ROOT), log_output=False)
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":  # Ctrl-C reaches the notebook's process as well, and now and then first
            raise KeyboardInterrupt from None
        print(f"\n{name} failed in its cell {error.exec_count}:\n{error.ename}: {error.evalue}", file=sys.stderr)
        print(f"The notebook as far as it came: {machine.short_path(target)}", file=sys.stderr)
        return False
    except DeadKernelError:
        print(
            f"\n{name}: its process ended, by Ctrl-C or for want of memory. The same command goes on from what is there.",
            file=sys.stderr,
        )
        return False
    finally:
        if running.is_file():
            tidy(running)
            running.replace(target)
    return True


def tidy(path: Path) -> None:
    """Make an executed notebook fit to be kept: progress bars as they ended, and no paths of papermill's own."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.get("papermill", {}).update(input_path=path.name.lstrip("."), output_path=path.name.lstrip("."))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    write_text(path, nbformat.writes(notebook) + "\n")


def merged(outputs: list[Any]) -> list[Any]:
    """Outputs with neighbouring pieces of one stream put together, each line as the last carriage return left it."""
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


def print_scores(run: Run) -> None:
    """The run's scores as 05 Evaluate left them."""
    print(f"\n{machine.short_path(run.path)}")
    print((run / "evaluation/scores.txt").read_text(encoding="utf-8").rstrip())


# ---- runs


def list_runs(options: argparse.Namespace) -> int:
    """Print a line for each run under runs/ (or beside RUN_DIR)."""
    import pandas as pd

    parent = machine.run_path().parent
    rows = []
    for run in find_runs(parent):
        try:
            record = run.record()
        except ValueError as error:
            print(error, file=sys.stderr)
            continue
        scores, trained = record.get("evaluation", {}), record.get("train", {})
        rows.append(
            {
                "run": run.path.name,
                "preset": record.get("preset"),
                "model": record.get("model_name"),
                "data": record.get("data_source"),
                "steps": trained.get("steps"),
                "questions": scores.get("questions"),
                "EX before": scores.get("base", {}).get("ex"),
                "EX after": scores.get("tuned", {}).get("ex"),
                "GPU": record.get("gpu"),
                "note": record.get("data_note") or None,
            }
        )
    if not rows:
        print(f"There is no run in {machine.short_path(parent)} yet: `python -m helpers run` makes one.")
        return DONE
    table = pd.DataFrame(rows).astype(object)
    print(table.where(table.notna(), "-").to_string(index=False))
    return DONE


# ---- judge


def judge_predictions(options: argparse.Namespace) -> int:
    """Judge a file of predictions and print the scores."""
    try:
        check_target(options.out, "--out")
        golds, verdicts = judged(options, options.pred)
    except REFUSALS as error:
        return refuse(error)
    write_verdicts(verdicts, options.out)
    from helpers import report  # pandas and matplotlib: after the errors that need neither

    print(report.score_table(verdicts).round(1).to_string())
    for outcome, count in Counter(one.outcome for one in verdicts).most_common():
        print(f"{count:6,}  {outcome}")
    print("\n".join(report.weak_lines(verdicts, differing(golds, options.db))))
    print(f"Verdicts: {options.out}")
    return DONE


def compare_predictions(options: argparse.Namespace) -> int:
    """Judge two files of predictions and print where they differ."""
    try:
        if options.plot:
            check_target(options.plot, "--plot")
        golds, first = judged(options, options.pred)
        _, second = judged(options, options.pred_b)
    except REFUSALS as error:
        return refuse(error)
    from helpers import report
    from helpers.judge import scores

    names = (options.pred.stem, options.pred_b.stem) if options.pred.stem != options.pred_b.stem else ("A", "B")
    groups = {
        "hardness": None,
        "SQL feature": [scores.features(one.query) for one in golds],
        "database": [[one.db_id] for one in golds],
    }
    for title, labels in groups.items():
        print(f"By {title}:\n{report.compare_table(first, second, labels, names).to_string()}\n")
    print(f"By outcome:\n{report.outcome_table(first, second, names).to_string()}\n")
    print(report.difference_sentence(scores.paired_difference(first, second), names))
    if any(one.outcome == WRONG_ON_A_COPY for one in (*first, *second)):
        strict = scores.paired_difference(first, second, on_copies=True)
        print(f"On altered copies as well: {report.difference_sentence(strict, names)}")
    for name, places in zip(reversed(names), scores.flipped(first, second), strict=True):
        print(f"Right in {name} alone, by number: {report.numbers(places, limit=len(places)) or 'none'}")
    known = differing(golds, options.db)
    for name, path, some in zip(names, (options.pred, options.pred_b), (first, second), strict=True):
        print("\n  ".join([f"{name} ({path}):", *report.weak_lines(some, known)]))
    if options.plot:
        tables = report.score_table(second), report.score_table(first)
        report.save_plot(report.plot_scores(*tables, "Execution accuracy", names), options.plot)
        print(f"Plot: {options.plot}")
    return DONE


def check_target(path: Path, option: str) -> None:
    """Refuse a file that cannot be written before the work that it shall hold.

    Raises:
        OSError: it is a folder, a device or a link to one, or lies where nothing can be written.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{option} {path} is no regular file: name a file")
    check_place(path, option)


def check_place(path: Path, option: str) -> None:
    """Refuse a file or folder to come where nothing can be written.

    Raises:
        OSError: the nearest folder above it that exists takes no files.
    """
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise NotADirectoryError(f"{option} {path} cannot be written: {parent} is no folder that can be written")


def judged(options: argparse.Namespace, pred: Path) -> tuple[list[Gold], list[Verdict]]:
    """The gold queries and the verdicts on one file of predictions."""
    if options.field and all(
        path.suffix.lower() not in JSON for path in (options.pred, getattr(options, "pred_b", options.pred))
    ):
        raise ValueError(f"--field names a prediction in .json and .jsonl files, and {pred} is read as text, one SQL a line")
    if not options.db.is_dir():
        raise FileNotFoundError(f"--db {options.db} is not a folder")
    return judge_files(
        options.gold,
        pred,
        options.db,
        options.tables,
        field=options.field if pred.suffix.lower() in JSON else None,
        official_quirks=options.official_quirks,
        progress=f"judging {pred.name}",
    )


def differing(golds: list[Gold], db: Path) -> list[int]:
    """Places of the questions about data that is known to differ from the release's."""
    databases = {db_id: layout.find_database(db, db_id) for db_id in {one.db_id for one in golds}}
    return spider.differing([(one.query, one.db_id) for one in golds], databases)


# ---- ask


def ask_database(options: argparse.Namespace) -> int:
    """Answer one question, or one after the other; the exit code is 0 if the last one got a query that runs."""
    from rich.console import Console

    from helpers import terminal
    from helpers.apps import own_files
    from helpers.databases import schema

    console, aside = Console(), Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            if not 1 <= options.candidates <= 16:
                raise ValueError(f"--candidates {options.candidates} must be 1 to 16")
            if options.question is not None and not options.question.strip():
                raise ValueError("The question is empty")
            database = own_files.open_database(options.database, Path(folder))
            assistant = load_assistant(options)
        except REFUSALS as error:
            return refuse(error)
        if options.question is None and not (options.json or options.sql_only):
            aside.print(terminal.schema_lines(schema.read(database)), markup=False, highlight=False)
        done = FAILED
        asked = [options.question] if options.question is not None else terminal.questions(aside)
        for question in asked:
            try:
                answer = assistant.ask(database, question, candidates=options.candidates)
            except ValueError as error:
                print(f"{error}", file=sys.stderr)
                done = FAILED
                continue
            if options.json:
                print(answer.as_json(), flush=True)
            elif options.sql_only:
                print(answer.best.sql if answer.best else "", flush=True)
            else:
                terminal.show(answer, console)
            done = DONE if answer.best and answer.best.result.ok else FAILED
        if not (options.json or options.sql_only):
            aside.print(assistant.trust, style="dim", markup=False, soft_wrap=True)
        return done


# ---- demo


def open_page(options: argparse.Namespace) -> int:
    """Serve the demo until Ctrl-C."""
    try:
        assistant = load_assistant(options)
        from helpers import demo

        demo.launch(assistant, port=options.port, share=options.share)
    except REFUSALS as error:
        return refuse(error)
    return DONE


# ---- pairs


def make_pairs(options: argparse.Namespace) -> int:
    """Write a folder of training data made from a database."""
    from helpers import pairs
    from helpers.apps import own_files

    with tempfile.TemporaryDirectory() as folder:
        try:
            if options.to.exists():
                raise FileExistsError(f"--to {options.to} exists: name a new folder")
            if options.count < 2:
                raise ValueError(f"--count {options.count} must be at least 2")
            check_place(options.to, "--to")
            database = own_files.open_database(options.database, Path(folder))
            made = pairs.make(database, options.count)
            file = pairs.write_folder(database, options.to, made, with_sample=options.with_sample)
        except REFUSALS as error:
            return refuse(error)
    short = f" (of {options.count:,}: the database has no more to ask about)" if len(made) < options.count else ""
    print(
        f"{len(made):,} pairs{short}: {file}\n"
        f"Read and edit them. Questions of your own, in {options.to}/dev.csv, judge the result:"
    )
    longer = "-p max_seq_length 1024 -p max_new_tokens 192"  # preset cpu is sized for the sample's short schemas
    print(f"  python -m helpers run -p data_source {options.to} {longer} --run-dir runs/{options.to.name}")
    return DONE


# ---- export


def export_model(options: argparse.Namespace) -> int:
    """Write a run's model in another form, and check it."""
    from helpers import ask, export

    try:
        run = ask.trained_run(options.run_dir)
        if options.kind == "hub":
            if not options.to:
                raise ValueError("export hub needs the name to upload to: --to you/your-model")
            print(f"Uploaded: {export.export_hub(run, options.to, private=not options.public)}")
            return DONE
        target = Path(options.to) if options.to else run / "export" / options.kind
        if target.exists() and not is_export(target):
            raise FileExistsError(f"--to {target} exists and is no earlier export: name a new folder")
        check_place(target, "--to")
        if options.kind in ("gguf", "ollama"):
            export.converter()  # before the minutes that merging takes
    except REFUSALS as error:
        return refuse(error)
    try:
        export.EXPORTS[options.kind](run, target)
        print(f"Written: {machine.short_path(target.absolute())}")
        if options.kind == "ollama":
            print(f"Try it: cd {machine.short_path(target.absolute())} && ollama create my-sql -f Modelfile && ollama run my-sql")
        if options.questions:
            print(export.check(run, options.kind, target, questions=options.questions))
    except REFUSALS as error:
        print(f"Failed: {error}", file=sys.stderr)
        return FAILED
    return DONE


def is_export(folder: Path) -> bool:
    """Whether a folder was made by this command, and may be replaced."""
    return (folder / "course.json").is_file()


def load_assistant(options: argparse.Namespace) -> ask.Assistant:
    """The model that --model or --run-dir names."""
    from helpers import ask

    if options.model and options.run_dir:
        raise ValueError("--model and --run-dir name two models: give one of them")
    if not options.model:
        ask.trained_run(options.run_dir)  # before the seconds that importing takes
    print("Loading the model …", file=sys.stderr)
    return ask.load(options.run_dir, options.model)


def make_neighbours(options: argparse.Namespace) -> int:
    """Write databases with altered copies into a new folder."""
    try:
        if options.out.exists():
            raise FileExistsError(f"--out {options.out} exists: name a new folder")
        if not options.db.is_dir():
            raise FileNotFoundError(f"--db {options.db} is not a folder")
        databases = layout.find_databases(options.db)
        if options.gold:
            databases = {one.db_id: databases.get(one.db_id) for one in read_gold(options.gold)}
        missing = [db_id for db_id, path in databases.items() if path is None]
        if missing or not databases:
            raise FileNotFoundError(f"{options.db} has no database {missing[0] if missing else '(<db_id>/<db_id>.sqlite)'}")
        left_out = test_suite.write_copies(databases, options.out)
    except REFUSALS as error:
        return refuse(error)
    if len(left_out) == len(databases):
        print("No database could have copies:\n" + "\n".join(left_out), file=sys.stderr)
        return FAILED
    print(f"{len(databases) - len(left_out):,} databases with {test_suite.COPIES} altered copies each: {options.out}")
    for reason in left_out:
        print(f"without copies: {reason}")
    return DONE


def refuse(error: Exception) -> int:
    """Say in plain words why nothing was started."""
    print(f"Refused: {error}", file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
