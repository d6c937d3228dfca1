"""Verdicts, losses and lengths -> tables, plots and one HTML report. Plots return their Axes and never call show."""

from __future__ import annotations

import html
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from helpers import execution
from helpers.evaluation import Verdict, paired_difference, score, summary
from helpers.hardness import LEVELS
from helpers.prompts import Row
from helpers.runs import Run, write_text
from helpers.spider import Example

SHOWN_ROWS = 5


# ---- tables


def result_table(result: execution.Result, limit: int = 10) -> pd.DataFrame:
    """The first rows of a query's result, or its error, for looking at."""
    if not result.ok:
        return pd.DataFrame({"error": [result.error]})
    return pd.DataFrame([list(row) for row in result.rows[:limit]], columns=list(result.columns) or None, dtype=object)


def score_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row a hardness level and one for all: examples, EX in percent, its 95 % interval."""
    groups = {level: [one for one in verdicts if one.hardness == level] for level in LEVELS} | {"all": list(verdicts)}
    rows = {name: score(some) for name, some in groups.items() if some}
    table = pd.DataFrame(rows).T.rename(columns={"questions": "examples", "ex": "EX %", "ex_low": "low %", "ex_high": "high %"})
    return table.astype({"examples": int})


def compare_table(base: Sequence[Verdict], tuned: Sequence[Verdict]) -> pd.DataFrame:
    """EX of base and tuned by hardness, each with its 95 % interval, as text."""
    tables = {"before training": score_table(base), "after training": score_table(tuned)}
    columns: dict[str, Any] = {"questions": tables["after training"]["examples"]}
    for name, table in tables.items():
        columns[f"EX % {name}"] = [f"{row['EX %']:.1f} ({row['low %']:.1f}-{row['high %']:.1f})" for _, row in table.iterrows()]
    return pd.DataFrame(columns)


def difference_sentence(paired: Mapping[str, float]) -> str:
    """The paired difference in one sentence, with what it means."""
    if paired["low"] <= 0 <= paired["high"]:
        meaning = "the interval holds 0: these questions do not show which is better"
    else:
        meaning = f"the interval excludes 0: training {'helped' if paired['low'] > 0 else 'hurt'}"
    return (
        f"tuned minus base: {paired['difference']:+.1f} points of EX, 95 % interval {paired['low']:+.1f} to {paired['high']:+.1f}"
        f" ({paired['gained']} questions gained, {paired['lost']} lost); {meaning}"
    )


def outcome_table(base: Sequence[Verdict], tuned: Sequence[Verdict]) -> pd.DataFrame:
    """Counts by outcome, before and after training, the most frequent after training first."""
    counts = {
        "before training": Counter(one.outcome for one in base),
        "after training": Counter(one.outcome for one in tuned),
    }
    table = pd.DataFrame(counts).fillna(0).astype(int)
    return table.sort_values("after training", ascending=False)


def write_evaluation(
    run: Run,
    examples: Sequence[Example],
    base_sql: Sequence[str],
    base: Sequence[Verdict],
    tuned_sql: Sequence[str],
    tuned: Sequence[Verdict],
    *,
    seconds: float,
) -> None:
    """Keep an evaluation in the run folder: predictions and verdicts of both systems, the scores as text, and in record.json.

    Args:
        seconds: what the tuned model's answers took.
    """
    for name, predictions in (("predictions", tuned_sql), ("predictions_base", base_sql)):
        run.write_text(f"evaluation/{name}.txt", "".join(f"{sql}\n" for sql in predictions))
    rows = zip(examples, base_sql, base, tuned_sql, tuned, strict=True)
    run.write_jsonl(
        "evaluation/verdicts.jsonl",
        [
            asdict(example) | {"base": {"sql": sql_0} | asdict(verdict_0), "tuned": {"sql": sql_1} | asdict(verdict_1)}
            for example, sql_0, verdict_0, sql_1, verdict_1 in rows
        ],
    )
    paired = paired_difference(base, tuned)
    note = run.record().get("data_note")
    lines = [compare_table(base, tuned).to_string(), "", difference_sentence(paired), *([f"Note: {note}"] if note else [])]
    run.write_text("evaluation/scores.txt", "\n".join(lines) + "\n")
    run.add_to_record(
        evaluation={
            "questions": len(examples),
            "seen_databases": sum(example.seen for example in examples),
            "decoding": "greedy",
            "seconds": round(seconds, 1),
            "base": summary(base),
            "tuned": summary(tuned),
            "difference": {name: round(value, 2) for name, value in paired.items()},
        }
    )


# ---- text with markup


def show(markup: str) -> Any:
    """Markup as a notebook shows it."""
    from IPython.display import HTML

    return HTML(markup)


def mask_markup(row: Row, tokenizer: Any) -> str:
    """One training example token by token: grey is the masked prompt, dark on yellow the completion that is learned."""
    spans = []
    for token, kept in zip(row.input_ids, row.completion_mask, strict=True):
        text = html.escape(tokenizer.decode([token])).replace("\n", "⏎\n")
        style = "background:#fff3b0;color:#111" if kept else "color:#888"
        spans.append(f'<span style="{style};border-right:1px solid #ddd">{text}</span>')
    return f'<pre style="white-space:pre-wrap;line-height:1.6">{"".join(spans)}</pre>'


def side_by_side(
    example: Example,
    gold: tuple[str, execution.Result],
    base: tuple[str, execution.Result],
    tuned: tuple[str, execution.Result],
) -> str:
    """One question with its gold SQL and both predictions, each with its result, as a table in markup."""
    cells = []
    for title, (sql, result) in (("gold", gold), ("before training", base), ("after training", tuned)):
        table = result_table(result, SHOWN_ROWS).to_html(index=False, na_rep="NULL", border=0, max_rows=SHOWN_ROWS)
        more = f"<small>… {len(result.rows):,} rows in all</small>" if len(result.rows) > SHOWN_ROWS else ""
        code = f"<b>{title}</b><br><code>{html.escape(sql) or '(no SQL)'}</code>"
        cells.append(f'<td style="vertical-align:top;text-align:left">{code}{table}{more}</td>')
    question = f"<b>{html.escape(example.question)}</b> ({html.escape(example.db_id)}, {example.hardness})"
    return f"<p>{question}</p><table><tr>{''.join(cells)}</tr></table>"


# ---- plots


def plot_lengths(lengths: Sequence[int], limit: int) -> Axes:
    """Histogram of example lengths in tokens, with max_seq_length marked."""
    _, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
    axes.hist(lengths, bins=40, color="#4477aa")
    axes.axvline(limit, color="black", linestyle="--", label=f"max_seq_length = {limit:,}")
    axes.axvline(statistics.median(lengths), color="#cc6677", label=f"median = {statistics.median(lengths):,.0f}")
    axes.set(
        xlabel="prompt and completion (tokens)",
        ylabel="training examples",
        title="Lengths",
        xlim=(0, max(limit, max(lengths)) * 1.05),
    )
    axes.legend()
    return axes


def plot_counts(counts: pd.DataFrame) -> Axes:
    """Bars of training and dev examples by hardness, in percent of each."""
    levels = counts.loc[list(LEVELS)]
    shares = 100 * levels / levels.sum()
    axes = shares.plot.bar(figsize=(6, 2.6), color=["#4477aa", "#cc6677"], rot=0)
    axes.figure.set_layout_engine("constrained")
    axes.set(ylabel="share of examples (%)", title="Hardness")
    return axes


def plot_training(log: Sequence[Mapping[str, float]]) -> Axes:
    """Loss by step with its running mean, and the learning rate below."""
    table = pd.DataFrame(log).set_index("step")
    _, (upper, lower) = plt.subplots(2, 1, figsize=(6, 3.8), sharex=True, height_ratios=[3, 1], layout="constrained")
    upper.plot(table.index, table["loss"], color="#bbccdd", label="each step")
    width = max(3, len(table) // 15)
    upper.plot(
        table.index,
        table["loss"].rolling(width, center=True, min_periods=1).mean(),
        color="#4477aa",
        label=f"mean of {width}",
    )
    upper.set(ylabel="loss (nats/token)", title="Training", ylim=(0, None))
    upper.legend()
    lower.plot(table.index, table["learning_rate"], color="#cc6677")
    lower.set(xlabel="optimiser step", ylabel="learning rate", ylim=(0, None))
    return upper


def plot_scores(tuned: pd.DataFrame, base: pd.DataFrame, title: str) -> Axes:
    """Bars with 95 % intervals for the tuned model, a diamond for the same model before training.

    Args:
        tuned, base: tables of `score_table`.
    """
    labels = [f"{level} (n={count:,})" for level, count in tuned["examples"].items()]
    # at 0 and 100 % the interval ends at the bar, give or take a rounding error that matplotlib would refuse
    spread = [(tuned["EX %"] - tuned["low %"]).clip(lower=0), (tuned["high %"] - tuned["EX %"]).clip(lower=0)]
    _, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
    axes.barh(labels, tuned["EX %"], xerr=spread, capsize=3, color="#88aacc", label="after training")
    # a diamond, not cut at the frame: before training a score is often 0
    axes.plot(base["EX %"], labels, "D", color="black", markersize=5, clip_on=False, label="before training")
    axes.set(xlabel="execution accuracy (%)", xlim=(0, 100), title=title)
    axes.invert_yaxis()
    axes.legend(loc="best")
    return axes


def plot_outcomes(table: pd.DataFrame) -> Axes:
    """Bars of the counts of `outcome_table`."""
    axes = table[::-1].plot.barh(figsize=(6, 0.9 + 0.35 * len(table)), color=["#bbbbbb", "#88aacc"])
    axes.figure.set_layout_engine("constrained")
    axes.set(xlabel="questions", ylabel="", title="What became of the predictions")
    return axes


def save_plot(axes: Axes, path: Path) -> None:
    """Keep a plot as a small PNG, written whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    axes.figure.savefig(temporary, dpi=90, format="png")
    temporary.replace(path)


# ---- one page of it all


def write_html(notebooks: Sequence[Path], target: Path, title: str) -> Path:
    """One HTML page of executed notebooks, one after the other; it needs no other file to be read."""
    import nbformat
    from nbconvert import HTMLExporter

    whole = nbformat.v4.new_notebook()
    whole.metadata["title"] = title
    for path in notebooks:
        part = nbformat.read(path, as_version=4)
        whole.metadata.setdefault("kernelspec", part.metadata.get("kernelspec", {}))
        for cell in part.cells:
            # A cell's id must not come twice, and two notebooks may both call theirs "parameters".
            cell["id"] = f"{path.stem}-{cell['id']}"[:64]
            whole.cells.append(cell)
    page, _ = HTMLExporter(embed_images=True, exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(whole)
    return write_text(target, page)
