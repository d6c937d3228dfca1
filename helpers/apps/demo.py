"""The demo page: ask a database, see the SQL while it is written and its rows, and compare with the base model."""

from __future__ import annotations

import functools
import html
import os
import random
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from helpers.apps import own_files
from helpers.apps.ask import Assistant
from helpers.apps.visitors import KEPT_SECONDS, Visitors
from helpers.databases import layout, schema
from helpers.databases.sandbox import Result
from helpers.decoding.select import Candidate, execute_candidates
from helpers.run import machine
from helpers.run.say import printable
from helpers.sources import spider

if TYPE_CHECKING:
    import gradio as gr
    import pandas as pd

UPLOAD = "50mb"
ROWS = 200  # of a result shown at most
TABLES, COLUMNS = 100, 60  # of a database shown at most
BARS = 30  # in a chart at most
EXAMPLES = 4  # questions to click for each database
WAITING = 10  # questions and uploads in the queue; the next one is answered with “busy”
OWN_HOSTS = ("127.0.0.1", "localhost")
SHARED_HOSTS = ("*.gradio.live",)
COLAB_HOSTS = ("*.googleusercontent.com", "*.colab.dev", "*.prod.colab.dev")
CELL = 200  # characters of a value shown at most
QUESTION = 1_000  # characters of a question at most
FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?(?:[/\\][^/\\\s:]+)+[/\\](?=[^/\\\s])")  # all of a path but the file's name


class AnswerView(NamedTuple):
    """The components that show one model's answer."""

    column: Any
    sql: Any
    message: Any
    rows: Any
    chart: Any


def make_page(assistant: Assistant) -> gr.Blocks:
    """Return the page, ready to be launched. It answers one question at a time, and WAITING others wait."""
    uploads = tempfile.TemporaryDirectory(prefix="uploads-")
    os.environ["GRADIO_TEMP_DIR"] = str(Path(uploads.name, "gradio"))  # goes with the page
    import gradio as gr

    visitors = Visitors(Path(uploads.name, "visitors"))
    known = own_files.named()
    first = next(iter(known))
    with gr.Blocks(title="Ask your database", analytics_enabled=False, delete_cache=(KEPT_SECONDS // 12, KEPT_SECONDS)) as page:
        page.uploads, page.visitors = uploads, visitors  # live as long as the page
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
                tables = gr.Markdown(tables_markdown(known[first]), elem_id="tables")
            with gr.Column(scale=3):
                question = gr.Textbox(label="Question", lines=2, max_length=QUESTION, elem_id="question", autofocus=True)
                examples = gr.Dataset(
                    components=[question], samples=examples_of(known[first]), label="For example", elem_id="examples"
                )
                compare = gr.Checkbox(label="Ask the model before training as well", value=False, elem_id="compare")
                button = gr.Button("Ask", variant="primary", elem_id="ask")
                with gr.Row():
                    tuned = answer_view("After training", "tuned")
                    base = answer_view("Before training", "base", visible=False)
        shown = [name, chosen, tables, examples]
        private: dict[str, Any] = {"api_visibility": "private"}
        name.input(functools.partial(open_known, known), name, shown, **private)
        on_upload, on_question, on_leave = events(assistant, known, visitors, tuned, base)
        file.change(on_upload, file, shown, **private)
        examples.click(lambda row: row[0], examples, question, **private)
        gr.on(
            [button.click, question.submit],
            on_question,
            [question, chosen, compare],
            [*tuned, *base],
            concurrency_limit=1,
            concurrency_id="model",
            trigger_mode="once",
            show_progress="minimal",
            **private,
        )
        page.unload(on_leave)
    return page.queue(max_size=WAITING)


def answer_view(title: str, name: str, *, visible: bool = True) -> AnswerView:
    """Add a column for an answer, empty, to the page being built."""
    import gradio as gr

    with gr.Column(visible=visible) as column:
        sql = gr.Code(label=title, language="sql", lines=3, wrap_lines=True, interactive=False, elem_id=f"{name}-sql")
        message = gr.Markdown(elem_id=f"{name}-said")
        rows = gr.Dataframe(visible=False, interactive=False, max_height=320, wrap=True, elem_id=f"{name}-rows")
        chart = gr.BarPlot(visible=False, x="x", y="y", height=260, elem_id=f"{name}-chart")
    return AnswerView(column, sql, message, rows, chart)


# ---- events: each returns new values of components


def events(
    assistant: Assistant, known: Mapping[str, Path], visitors: Visitors, tuned: AnswerView, base: AnswerView
) -> tuple[Callable, Callable, Callable]:
    """Return what happens at an upload, at a question, and when a visitor closes the page."""
    import gradio as gr

    def on_upload(file, request):  # noqa: ANN001, ANN202 Gradio looks at the annotations, which are below
        return open_upload(known, visitors, str(request.session_hash), file)

    def on_question(question, database, compare, request):  # noqa: ANN001, ANN202
        visitors.see(str(request.session_hash))
        yield from answer(assistant, tuned, base, question, database, compare)

    def on_leave(request):  # noqa: ANN001, ANN202
        visitors.leave(str(request.session_hash))

    for event in (on_upload, on_question, on_leave):
        event.__annotations__ = {"request": gr.Request}  # as text it could not be found: Gradio is imported late
    return on_upload, on_question, on_leave


def open_known(known: Mapping[str, Path], name: str) -> tuple:
    """Show a database that comes with the course."""
    import gradio as gr

    return name, str(known[name]), tables_markdown(known[name]), gr.Dataset(samples=examples_of(known[name]))


def open_upload(known: Mapping[str, Path], visitors: Visitors, visitor: str, file: str | None) -> tuple:
    """Show an uploaded database; the first known one where the upload was removed."""
    import gradio as gr

    if file is None:
        visitors.leave(visitor)
        return open_known(known, next(iter(known)))
    taken = Path(file)
    try:
        taken = visitors.take(visitor, taken)
        database = own_files.open_database(taken, taken.parent)
        return None, str(database), tables_markdown(database), gr.Dataset(samples=[])
    except (schema.BadDatabase, OSError, MemoryError) as error:
        visitors.leave(visitor)
        raise refusal(error, taken, duration=None) from error


def refusal(error: Exception, file: Path, **options: Any) -> gr.Error:
    """Return an error as the page shows it: plain text, without the folders of this machine.

    Args:
        file: the database that it is about.
    """
    import gradio as gr

    text = str(error) if isinstance(error, ValueError) else f"{file.name} is no longer there, or cannot be read: upload it again"
    text = FOLDERS.sub("", text.replace(f"{file.parent}{os.sep}", ""))
    return gr.Error(html.escape(printable(text)), print_exception=False, **options)


def answer(
    assistant: Assistant, tuned: AnswerView, base: AnswerView, question: str, database: str, compare: bool
) -> Iterator[dict]:
    """Answer a question with the trained model and, if `compare`, the base model."""
    import gradio as gr

    if not isinstance(question, str) or not question.strip():
        raise gr.Error("There is no question yet: write one, or click one of the examples", print_exception=False)
    if len(question) > QUESTION:  # a page of this project's sends no more, but another program may
        said = f"The question has {len(question):,} characters, {QUESTION:,} are allowed"
        raise gr.Error(said, print_exception=False)
    yield {base.column: gr.Column(visible=compare), **cleared(tuned), **cleared(base)}
    try:
        yield from answer_of_tuned(assistant, Path(database), question, tuned)
        if compare:
            yield from answer_of_base(assistant, Path(database), question, base)
    except (ValueError, OSError) as error:  # no room for the question, or a database that has gone
        raise refusal(error, Path(database)) from error


def cleared(view: AnswerView) -> dict:
    """Return the values that empty an answer's components."""
    import gradio as gr

    return {view.sql: "", view.message: "", view.rows: gr.Dataframe(visible=False), view.chart: gr.BarPlot(visible=False)}


def answer_of_base(assistant: Assistant, database: Path, question: str, view: AnswerView) -> Iterator[dict]:
    """Yield the base model's SQL while it is written, then its result."""
    candidate = yield from written(assistant, database, question, view, base=True)
    yield executed(candidate, view) if candidate else {view.message: "The model wrote no SQL."}


def answer_of_tuned(assistant: Assistant, database: Path, question: str, view: AnswerView) -> Iterator[dict]:
    """Yield the trained model's SQL while it is written, then its result; without rows, the best of several candidates."""
    first = yield from written(assistant, database, question, view, base=False)
    if first and first.result.rows:
        yield executed(first, view)
        return
    yield {view.message: "That gave nothing. Looking at other candidates …"}
    found = assistant.ask(database, question)
    best, note = first, ""
    if found.best and (found.best.result.ok or not first):
        best = found.best
        if first and best.sql != first.sql:
            note = f"The first query gave nothing ({reason(first.result)}); this is the best of {len(found.candidates)}. "
    if best is None:
        yield {view.message: "The model wrote no SQL. Use other words, with names of tables or columns."}
        return
    yield executed(best, view, before=f"{note}{found.left_out_note}".strip(), after=found.hint)


def written(
    assistant: Assistant, database: Path, question: str, view: AnswerView, *, base: bool
) -> Generator[dict, None, Candidate | None]:
    """Yield a model's SQL while it is written; return it executed, None if it wrote none."""
    text = ""
    for text in assistant.write(database, question, base=base):
        yield {view.sql: printable(text)}
    sql = assistant.prompt(database).sql(text)
    return next(iter(execute_candidates(database, {sql: 1.0} if sql else {}, assistant.settings.query_timeout)), None)


def executed(candidate: Candidate, view: AnswerView, before: str = "", after: str = "") -> dict:
    """Return the values that show an executed query, with notes before and after the line on its result."""
    lines = f"{before} {reason(candidate.result)}\n{after}".strip()
    return {view.sql: printable(candidate.sql), view.message: plain_lines(lines), **rows_and_chart(candidate.result, view)}


# ---- what the components show


def reason(result: Result) -> str:
    """Return the outcome of a query in plain words."""
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


def rows_and_chart(result: Result, view: AnswerView) -> dict:
    """Return the values that show rows as a table, and as bars where a name or year stands beside a number."""
    import gradio as gr

    if not result.ok or not result.rows:
        return {}
    bars = chart_of(result)
    update = {view.rows: gr.Dataframe(value=as_frame(result), visible=True)}
    if bars is not None:
        update[view.chart] = gr.BarPlot(
            value=bars, x="x", y="y", x_title=result.columns[0], y_title=result.columns[1], sort=None, visible=True
        )
    return update


def as_frame(result: Result) -> pd.DataFrame:
    """Return the first rows of a result as text, in a pandas table."""
    import pandas as pd

    def text(value: object) -> str:
        if isinstance(value, bytes):
            return f"{len(value):,} bytes"
        shown = "NULL" if value is None else printable(str(value))
        return shown if len(shown) <= CELL else shown[: CELL - 1] + "…"

    columns = own_files.distinct([printable(column[:CELL]) or "column" for column in result.columns])
    return pd.DataFrame([[text(value) for value in row] for row in result.rows[:ROWS]], columns=columns)


def chart_of(result: Result) -> pd.DataFrame | None:
    """Return columns x and y for bars where a result has two columns, distinct names and numbers, and few rows; else None."""
    import pandas as pd

    if len(result.columns) != 2 or not 2 <= len(result.rows) <= BARS:
        return None
    names, numbers = zip(*result.rows, strict=True)
    if len({str(name) for name in names}) < len(names) or any(name is None for name in names):
        return None
    if not all(isinstance(number, (int, float)) for number in numbers):
        return None
    return pd.DataFrame({"x": [printable(str(name))[:40] for name in names], "y": numbers})


def tables_markdown(database: Path) -> str:
    """Return a database's tables and columns as Markdown, their names escaped."""
    lines = [f"### {plain(database.stem)}", *map(plain, own_files.notes(database))]
    with_types = own_files.is_imported(database)  # they were guessed
    tables = schema.read(database).tables
    for table in tables[:TABLES]:
        columns = ", ".join(
            plain(f"{column.name} ({column.type})" if with_types else column.name) for column in table.columns[:COLUMNS]
        )
        more = f" … {len(table.columns):,} columns" if len(table.columns) > COLUMNS else ""
        lines.append(f"**{plain(table.name)}** · {columns}{more}")
    lines += [f"… {len(tables):,} tables"] if len(tables) > TABLES else []
    return "\n\n".join(lines)


def plain_lines(text: str) -> str:
    """Return lines of text as escaped Markdown, a paragraph each; names and messages may come from a hostile file."""
    return "\n\n".join(plain(line) for line in text.splitlines() if line)


def plain(text: str) -> str:
    """Return text escaped for Markdown and HTML."""
    signs = (sign if sign.isalnum() or sign in " _" else f"&#{ord(sign)};" for sign in printable(text))
    return "".join(signs).replace("_", "&#95;")


def examples_of(database: Path) -> list[list[str]]:
    """Return example questions about a database that comes with the course; none of them is a training example."""
    file = own_files.EXAMPLE / "dev.csv" if database.stem == "marina" else spider.SAMPLE / "dev.csv"
    questions = [row["question"] for _, row in layout.read_rows(file) if row["db_id"] == database.stem]
    random.Random(0).shuffle(questions)
    return [[question] for question in questions[:EXAMPLES]]


def launch(assistant: Assistant, *, port: int | None = None, share: bool = False, wait: bool = True) -> gr.Blocks:
    """Serve the page on this machine alone, or with `share` at a public address of Gradio's for a week.

    Args:
        wait: serve until Ctrl-C or SIGTERM, and clean up; False returns at once, for a notebook.

    Raises:
        OSError: the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing leaves this machine unasked
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    page = make_page(assistant)
    hosts = [*OWN_HOSTS, *(SHARED_HOSTS if share else ()), *(COLAB_HOSTS if machine.platform() == "Colab" else ())]
    if wait and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=share,
        max_file_size=UPLOAD,
        # A page elsewhere may give its own name this address, and ask with it (DNS rebinding).
        app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]},
        prevent_thread_lock=not wait,
        footer_links=[],
        ssr_mode=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )
    return page
