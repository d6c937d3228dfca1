"""A page to ask a database: the SQL as it is written, the rows it gives, and the model before training beside it."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import spider, views
from helpers.apps import own_files
from helpers.ask import Assistant, tried
from helpers.databases import layout, schema
from helpers.databases.sandbox import Result

if TYPE_CHECKING:
    import gradio as gr
    import pandas as pd

UPLOAD = "50mb"
ROWS = 200  # shown of a result
BARS = 30  # at most in a chart
EXAMPLES = 4  # questions to click, a database
KEPT_SECONDS = 3600  # after which uploads are deleted
CELL = 200  # characters of a value shown
TOO_FAR = 1_000  # characters of a question


def make_page(assistant: Assistant) -> gr.Blocks:
    """The page, ready to be launched.

    Only the newest question of a visitor counts, and the model answers one at a time.
    """
    import gradio as gr

    uploads = tempfile.TemporaryDirectory(prefix="uploads-")
    known = own_files.named()
    first = next(iter(known))
    with gr.Blocks(title="Ask your database", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        page.uploads = uploads  # lives as long as the page
        chosen = gr.State(str(known[first]))
        gr.Markdown(f"# Ask your database\n{assistant.trust}")
        with gr.Row():
            with gr.Column(scale=1):
                name = gr.Dropdown(list(known), value=first, label="Database", elem_id="database")
                file = gr.File(
                    label="… or your own: SQLite or CSV, up to 50 MB",
                    file_types=[".sqlite", ".sqlite3", ".db", *own_files.CSV],
                    elem_id="upload",
                )
                tables = gr.Markdown(tables_of(known[first]), elem_id="tables")
            with gr.Column(scale=3):
                question = gr.Textbox(label="Question", lines=2, max_length=TOO_FAR, elem_id="question", autofocus=True)
                examples = gr.Dataset(
                    components=[question], samples=examples_of(known[first]), label="For example", elem_id="examples"
                )
                compare = gr.Checkbox(label="Ask the model before training as well", value=False, elem_id="compare")
                button = gr.Button("Ask", variant="primary", elem_id="ask")
                with gr.Row():
                    tuned = result_parts("After training", "tuned")
                    base = result_parts("Before training", "base", visible=False)

        def pick(name: str) -> tuple:
            return name, str(known[name]), tables_of(known[name]), gr.Dataset(samples=examples_of(known[name]))

        def take(file: str | None) -> tuple:
            if file is None:
                return pick(first)
            try:
                database = own_files.open_database(file, Path(tempfile.mkdtemp(dir=uploads.name)))
                return None, str(database), tables_of(database), gr.Dataset(samples=[])
            except (schema.BadDatabase, OSError) as error:
                raise gr.Error(str(error).replace(str(file), Path(file).name), duration=None, print_exception=False) from error

        def answer(question: str, database: str, compare: bool) -> Iterator[dict]:
            if not question.strip():
                raise gr.Error("There is no question yet: write one, or click one of the examples", print_exception=False)
            yield {base.column: gr.Column(visible=compare), **nothing(tuned), **nothing(base)}
            try:
                yield from asked(assistant, Path(database), question, tuned, base=False)
                if compare:
                    yield from asked(assistant, Path(database), question, base, base=True)
            except ValueError as error:  # no room for the question, or a database that has gone
                raise gr.Error(str(error), print_exception=False) from error

        name.input(pick, name, [name, chosen, tables, examples], api_visibility="private")
        file.change(take, file, [name, chosen, tables, examples], api_visibility="private")
        examples.click(lambda row: row[0], examples, question, api_visibility="private")
        gr.on(
            [button.click, question.submit],
            answer,
            [question, chosen, compare],
            [*tuned.all(), *base.all()],
            concurrency_limit=1,
            concurrency_id="model",
            trigger_mode="once",
            api_visibility="private",
            show_progress="minimal",
        )
    return page


class Parts:
    """The components of one model's answer."""

    def __init__(self, column: Any, sql: Any, said: Any, rows: Any, chart: Any) -> None:
        self.column, self.sql, self.said, self.rows, self.chart = column, sql, said, rows, chart

    def all(self) -> list[Any]:
        """In the order made."""
        return [self.column, self.sql, self.said, self.rows, self.chart]


def result_parts(title: str, name: str, *, visible: bool = True) -> Parts:
    """A column for an answer, empty."""
    import gradio as gr

    with gr.Column(visible=visible) as column:
        sql = gr.Code(label=title, language="sql", lines=3, wrap_lines=True, interactive=False, elem_id=f"{name}-sql")
        said = gr.Markdown(elem_id=f"{name}-said")
        rows = gr.Dataframe(visible=False, interactive=False, max_height=320, wrap=True, elem_id=f"{name}-rows")
        chart = gr.BarPlot(visible=False, x="x", y="y", height=260, elem_id=f"{name}-chart")
    return Parts(column, sql, said, rows, chart)


def nothing(parts: Parts) -> dict:
    """An answer's components as they are before it."""
    import gradio as gr

    return {
        parts.sql: "",
        parts.said: "",
        parts.rows: gr.Dataframe(visible=False),
        parts.chart: gr.BarPlot(visible=False),
    }


def asked(assistant: Assistant, database: Path, question: str, parts: Parts, *, base: bool) -> Iterator[dict]:
    """The SQL as it grows, then what it gives; where it gives nothing, the best of several candidates."""
    text = ""
    for text in assistant.write(database, question, base=base):
        yield {parts.sql: text}
    sql = views.view(database, assistant.settings).sql(text)
    found = tried(database, {sql: 1.0} if sql else {}, assistant.settings.query_timeout)
    note = hint = ""
    if not base and not (found and found[0].result.ok and found[0].result.rows):
        yield {parts.said: "That gave nothing. Looking at other candidates …"}
        wider = assistant.ask(database, question)
        if wider.best and (wider.best.result.ok or not found):
            changed = found and wider.best.sql != found[0].sql
            note = (
                f"The first query gave nothing ({reason(found[0].result)}); this is the best of {len(wider.candidates)}. "
                if changed
                else ""
            )
            found = (wider.best,)
        note += wider.left_out_note + " " * bool(wider.left_out)
        hint = wider.hint
    if not found:
        advice = "" if base else " Ask in other words, with names of the tables or columns."
        yield {parts.said: f"The model wrote no SQL.{advice}"}
        return
    result = found[0].result
    shown = {parts.sql: found[0].sql, parts.said: plain_lines(f"{note}{reason(result)}\n{hint}")}
    yield shown | rows_and_chart(result, parts)


def reason(result: Result) -> str:
    """What a query came to, in plain words."""
    if result.ok:
        count = len(result.rows)
        more = f", the first {ROWS} shown" if count > ROWS else ""
        return f"{count:,} row{'s' * (count != 1)}{more}" if count else "No rows"
    words = {
        "refused": "Refused: only queries that read are run",
        "timeout": f"It took too long and was {result.error}",
        "too large": f"The result is too large: {result.error}",
    }
    return words.get(result.outcome, f"It does not run: {result.error}")


def rows_and_chart(result: Result, parts: Parts) -> dict:
    """The rows as a table, and as bars where a name or year stands beside a number."""
    import gradio as gr

    if not result.ok or not result.rows:
        return {}
    bars = chart_of(result)
    update = {parts.rows: gr.Dataframe(value=as_frame(result), visible=True)}
    if bars is not None:
        update[parts.chart] = gr.BarPlot(
            value=bars, x="x", y="y", x_title=result.columns[0], y_title=result.columns[1], sort=None, visible=True
        )
    return update


def as_frame(result: Result) -> pd.DataFrame:
    """The first rows of a result as text, ready to be shown."""
    import pandas as pd

    def text(value: object) -> str:
        if isinstance(value, bytes):
            return f"{len(value):,} bytes"
        shown = "NULL" if value is None else str(value)
        return shown if len(shown) <= CELL else shown[: CELL - 1] + "…"

    columns = own_files.distinct([column or "column" for column in result.columns])
    return pd.DataFrame([[text(value) for value in row] for row in result.rows[:ROWS]], columns=columns)


def chart_of(result: Result) -> pd.DataFrame | None:
    """Columns x and y for bars: two columns, names that differ and a number each, and not too many of them; else None."""
    import pandas as pd

    if len(result.columns) != 2 or not 2 <= len(result.rows) <= BARS:
        return None
    names, numbers = zip(*result.rows, strict=True)
    if len({str(name) for name in names}) < len(names) or any(name is None for name in names):
        return None
    if not all(isinstance(number, (int, float)) for number in numbers):
        return None
    return pd.DataFrame({"x": [str(name)[:40] for name in names], "y": numbers})


def tables_of(database: Path) -> str:
    """A database's tables and columns as Markdown, nothing in their names taken for markup."""
    lines = [f"### {plain(database.stem)}"]
    for table in schema.read(database).tables:
        columns = ", ".join(plain(column.name) for column in table.columns)
        lines.append(f"**{plain(table.name)}** · {columns}")
    return "\n\n".join(lines)


def plain_lines(text: str) -> str:
    """Lines of text as Markdown, a paragraph each; names and messages may come from a hostile file."""
    return "\n\n".join(plain(line) for line in text.splitlines() if line)


def plain(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    return "".join(sign if sign.isalnum() or sign in " _" else f"&#{ord(sign)};" for sign in text).replace("_", "&#95;")


def examples_of(database: Path) -> list[list[str]]:
    """Questions to click for a database that comes with the course, none of which was trained on."""
    file = own_files.EXAMPLE / "dev.csv" if database.stem == "marina" else spider.SAMPLE / "dev.csv"
    questions = [row["question"] for _, row in layout.read_rows(file) if row["db_id"] == database.stem]
    random.Random(0).shuffle(questions)
    return [[question] for question in questions[:EXAMPLES]]


def launch(assistant: Assistant, *, port: int | None = None, share: bool = False, wait: bool = True) -> gr.Blocks:
    """Serve the page on this machine alone, or with `share` at a public address of Gradio's for a week.

    Args:
        wait: until Ctrl-C; False goes on, for a notebook.

    Raises:
        OSError: the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing leaves this machine unasked
    import gradio as gr

    page = make_page(assistant)
    page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=share,
        max_file_size=UPLOAD,
        prevent_thread_lock=not wait,
        footer_links=[],
        ssr_mode=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )
    return page
