"""`ask`, `demo` and `export` use a trained model; `pairs` makes training data from a database."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.cli.exit import DONE, FAILED, REFUSALS, check_place, refuse
from helpers.run import machine
from helpers.run.say import say

if TYPE_CHECKING:
    from helpers.apps.ask import Assistant

EXPORTS = ("adapter", "merged", "gguf", "ollama")


def add_commands(commands: Any) -> None:
    """Add `ask`, `demo`, `pairs` and `export` to the parser."""
    asking = commands.add_parser(
        "ask",
        help="ask a database",
        description="Answer questions about a database with a trained model: SQL, and its rows.",
    )
    asking.add_argument(
        "database", metavar="DATABASE", help="SQLite file, CSV file or folder of them, or a database that comes with the course"
    )
    asking.add_argument("question", metavar="QUESTION", nargs="?", help="without one, the command asks for questions")
    asking.add_argument("--candidates", type=int, default=4, metavar="N", help="queries to try, 1 to 16 (default: 4)")
    output = asking.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object a question")
    output.add_argument("--sql-only", action="store_true", help="only the query")
    asking.set_defaults(command=ask_database)

    page = commands.add_parser(
        "demo", help="a page to ask databases", description="Open a page on this machine to ask databases with a trained model."
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
    pairing.add_argument("--with-sample", action="store_true", help="add the training examples of the embedded demo data")
    pairing.set_defaults(command=make_pairs)

    exporting = commands.add_parser(
        "export",
        help="export a trained model",
        description="Write a run's model in the form that other programs read, and check that it still answers as well.",
    )
    exporting.add_argument("kind", choices=[*EXPORTS, "hub"], help="what to write; hub uploads the adapter")
    exporting.add_argument(
        "--to", metavar="PATH", help="folder (default: export/KIND in the run); for hub the name, you/your-model"
    )
    exporting.add_argument(
        "--questions", type=int, default=60, metavar="N", help="dev questions for the check, 0 for none (default: 60)"
    )
    exporting.add_argument("--public", action="store_true", help="hub: for everybody to see (default: private)")
    exporting.set_defaults(command=export_model)

    for command in (asking, page, exporting):
        command.add_argument("--run-dir", metavar="DIR", help="run with the trained model (default: RUN_DIR, else runs/course)")
    for command in (asking, page):
        command.add_argument("--model", metavar="NAME", help="exported folder, or name on the Hub, in place of a run")


def load_assistant(options: argparse.Namespace) -> Assistant:
    """Load the model that --model or --run-dir names.

    Raises: one of REFUSALS.
    """
    from helpers.apps import ask

    if options.model and options.run_dir:
        raise ValueError("--model and --run-dir name two models: give one of them")
    if not options.model:
        ask.trained_run(options.run_dir)  # before the seconds that importing takes
    say("Loading the model …", error=True)
    return ask.load(options.run_dir, options.model)


# ---- ask


def ask_database(options: argparse.Namespace) -> int:
    """Answer one question, or one after another; the exit code is 0 if the last one got a query that runs."""
    from rich.console import Console

    from helpers.apps import own_files, terminal

    console, aside = Console(), Console(stderr=True)
    quiet = options.json or options.sql_only
    with tempfile.TemporaryDirectory() as folder:
        try:
            if not 1 <= options.candidates <= 16:
                raise ValueError(f"--candidates {options.candidates} must be 1 to 16")
            if options.question is not None and not options.question.strip():
                raise ValueError("The question is empty")
            database = own_files.open_database(options.database, Path(folder))
            if not quiet:
                terminal.opened(database, aside)
            assistant = load_assistant(options)
        except REFUSALS as error:
            return refuse(error)
        if options.question is None and not quiet:
            aside.print(terminal.schema_lines(database), markup=False, highlight=False)
        done = FAILED
        for question in [options.question] if options.question is not None else terminal.questions(aside):
            try:
                answer = assistant.ask(database, question, candidates=options.candidates)
            except (ValueError, OSError) as error:
                say(f"{error}", error=True)
                done = FAILED
                continue
            if options.json:
                say(answer.as_json())
            elif options.sql_only:
                say(answer.best.sql if answer.best else "")
            else:
                terminal.show(answer, console)
            done = DONE if answer.best and answer.best.result.ok else FAILED
        if not quiet:
            aside.print(assistant.trust, style="dim", markup=False, soft_wrap=True)
        return done


# ---- demo


def open_page(options: argparse.Namespace) -> int:
    """Serve the demo until Ctrl-C."""
    try:
        assistant = load_assistant(options)
        from helpers.apps import demo

        demo.launch(assistant, port=options.port, share=options.share)
    except REFUSALS as error:
        return refuse(error)
    return DONE


# ---- pairs


def make_pairs(options: argparse.Namespace) -> int:
    """Write a folder of training data made from a database."""
    from helpers.apps import own_files, pairs

    with tempfile.TemporaryDirectory() as folder:
        try:
            if options.to.exists():
                raise FileExistsError(f"--to {options.to} exists: name a new folder")
            if options.count < 2:
                raise ValueError(f"--count {options.count} must be at least 2")
            check_place(options.to, "--to")
            database = own_files.open_database(options.database, Path(folder))
            for note in own_files.notes(database):
                say(note, error=True)
            made = pairs.make(database, options.count)
            file = pairs.write_folder(database, options.to, made, with_sample=options.with_sample)
        except REFUSALS as error:
            return refuse(error)
    short = f" (of {options.count:,}: the database has no more to ask about)" if len(made) < options.count else ""
    say(
        f"{len(made):,} pairs{short}: {file}\n"
        f"Read and edit them. To judge the result, put questions of your own into {options.to}/dev.csv. Then train:\n"
        f"  {pairs.how_to_train(options.to)}"
    )
    return DONE


# ---- export


def export_model(options: argparse.Namespace) -> int:
    """Write a run's model in another form, and check it."""
    from helpers.apps import export
    from helpers.apps.ask import trained_run

    try:
        run = trained_run(options.run_dir)
        if options.kind == "hub":
            if not options.to:
                raise ValueError("export hub needs the name to upload to: --to you/your-model")
            say(f"Uploaded: {export.export_hub(run, options.to, private=not options.public)}")
            return DONE
        target = Path(options.to) if options.to else run / "export" / options.kind
        if target.exists() and not export.is_export(target):
            raise FileExistsError(f"--to {target} exists and is no earlier export: name a new folder")
        check_place(target, "--to")
        if options.kind in ("gguf", "ollama"):
            export.converter()  # before the minutes that merging takes
    except REFUSALS as error:
        return refuse(error)
    try:
        export.EXPORTS[options.kind](run, target)
        say(f"Written: {machine.short_path(target.absolute())}")
        if options.kind == "ollama":
            say(f"Try it: cd {machine.short_path(target.absolute())} && ollama create my-sql -f Modelfile && ollama run my-sql")
        if options.questions:
            say(export.check(run, options.kind, target, questions=options.questions))
    except REFUSALS as error:
        say(f"Failed: {error}", error=True)
        return FAILED
    return DONE
