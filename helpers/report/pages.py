"""HTML: coloured tokens, predictions side by side, and executed notebooks as one page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.databases.sandbox import Sandbox
from helpers.prompts.question import Question
from helpers.prompts.tokens import Row
from helpers.report.tables import BEFORE_AFTER, result_table
from helpers.run.files import write_text
from helpers.run.say import say

SHOWN_ROWS = 5


def show(markup: str) -> Any:
    """Return markup as an object that a notebook displays."""
    from IPython.display import HTML

    return HTML(markup)


def show_text(text: str) -> None:
    """Print text of a database, a user's file or a model."""
    say(text)


def mask_markup(row: Row, tokenizer: Any) -> str:
    """Return one training example token by token: grey is the masked prompt, dark on yellow the completion."""
    spans = []
    for token, kept in zip(row.input_ids, row.completion_mask, strict=True):
        text = html.escape(tokenizer.decode([token])).replace("\n", "⏎\n")
        style = "background:#fff3b0;color:#111" if kept else "color:#888"
        spans.append(f'<span style="{style};border-right:1px solid #ddd">{text}</span>')
    return f'<pre style="white-space:pre-wrap;line-height:1.6">{"".join(spans)}</pre>'


def side_by_side(question: Question, base: str, tuned: str) -> str:
    """Return a question with its gold SQL and two predictions, each with its result, as a table in markup.

    Args:
        question: with its example.
        base, tuned: predicted SQL; it runs in a sandbox.
    """
    example, cells = question.example, []
    with Sandbox() as sandbox:
        for title, sql in zip(("gold", *BEFORE_AFTER), (example.query, base, tuned), strict=True):
            result = sandbox.execute(question.prompt.database, sql)
            table = result_table(result, SHOWN_ROWS).to_html(index=False, na_rep="NULL", border=0, max_rows=SHOWN_ROWS)
            more = f"<small>… {len(result.rows):,} rows in all</small>" if len(result.rows) > SHOWN_ROWS else ""
            code = f"<b>{title}</b><br><code>{html.escape(sql) or '(no SQL)'}</code>"
            cells.append(f'<td style="vertical-align:top;text-align:left">{code}{table}{more}</td>')
    title = f"<b>{html.escape(example.question)}</b> ({html.escape(example.db_id)}, {example.hardness})"
    return f"<p>{title}</p><table><tr>{''.join(cells)}</tr></table>"


def write_html(notebooks: Sequence[Path], target: Path, title: str) -> Path:
    """Write executed notebooks, one after another, as one HTML page that needs no other file; return its path."""
    import nbformat
    from nbconvert import HTMLExporter

    whole = nbformat.v4.new_notebook()
    whole.metadata["title"] = title
    for path in notebooks:
        part = nbformat.read(path, as_version=4)
        whole.metadata.setdefault("kernelspec", part.metadata.get("kernelspec", {}))
        for cell in part.cells:
            # Ids of cells must differ, and two notebooks may both have a cell "parameters".
            cell["id"] = f"{path.stem}-{cell['id']}"[:64]
            whole.cells.append(cell)
    page, _ = HTMLExporter(embed_images=True, exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(whole)
    return write_text(target, page)
