"""Show answers in a terminal: highlighted SQL, the result as a table; and read one question after another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.apps import own_files
from helpers.databases import schema
from helpers.run import machine
from helpers.run.say import printable

if TYPE_CHECKING:
    from rich.console import Console

    from helpers.apps.ask import Answer

ROWS, CELL = 20, 60  # rows shown, characters of a cell
HISTORY = "questions.txt"


def show(answer: Answer, console: Console) -> None:
    """Print an answer: the query, its rows, and notes on both."""
    from rich.syntax import Syntax

    if answer.left_out:
        console.print(printable(answer.left_out_note), style="dim", markup=False)
    best = answer.best
    if best is None:
        console.print("The model wrote no SQL. Use other words, with names of tables or columns.", style="red")
        return
    console.print(Syntax(printable(best.sql), "sql", word_wrap=True, background_color="default"))
    if best.result.ok:
        console.print(table(best.result.columns, best.result.rows))
    else:
        console.print(
            f"None of {len(answer.candidates)} candidates ran: {printable(best.result.error or '')}", style="red", markup=False
        )
        if answer.hint:
            console.print(printable(answer.hint), markup=False)
    tried = f", {len(answer.candidates)} candidates" if len(answer.candidates) > 1 else ""
    console.print(f"{answer.seconds:.1f} s{tried}", style="dim")


def table(columns: tuple[str, ...], rows: tuple[tuple, ...], most: int = ROWS):  # noqa: ANN201 rich is imported late
    """Return a result as a table of rich: its first `most` rows, and the count of all rows."""
    from rich.table import Table
    from rich.text import Text

    made = Table(caption=f"{len(rows):,} row{'s' * (len(rows) != 1)}" + (f", {most} shown" if len(rows) > most else ""))
    for column in columns:
        made.add_column(Text(printable(column)), overflow="fold")
    for row in rows[:most]:
        made.add_row(*(Text(cell(value)) for value in row))
    return made


def opened(database: Path, console: Console) -> None:
    """Print what to know of a database before the first question: what its columns became, if it was made from CSV files."""
    if own_files.is_imported(database):
        columns = own_files.columns_table(database)
        console.print(table(tuple(columns.columns), tuple(columns.itertuples(index=False, name=None)), most=len(columns)))
    for note in own_files.notes(database):
        console.print(printable(note), markup=False, highlight=False)


def cell(value: object) -> str:
    """Return a value as text."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = printable(str(value))
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def schema_lines(database: Path) -> str:
    """Return the tables of a database and their columns, a line each."""
    return printable("\n".join(schema.read(database).lines()))


def questions(console: Console) -> Iterator[str]:
    """Yield questions from the keyboard, with editing and history, until Ctrl-D; from a pipe, one a line."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory

    console.print("Ask a question; Ctrl-D ends.", style="dim")
    session = PromptSession(history=FileHistory(str(Path(machine.cache_dir(), HISTORY))))
    while True:
        try:
            question = session.prompt("? ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if question:
            yield question
