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

from helpers.databases.layout import Example
from helpers.databases.sandbox import Result
from helpers.judge.hardness import LEVELS
from helpers.judge.scores import paired_difference, score, summary, without
from helpers.judge.verdicts import NO_ROWS, TIED, WRONG_ON_A_COPY, Verdict
from helpers.prompts import Row
from helpers.run.files import write_text
from helpers.run.folder import Run

SHOWN_ROWS = 5
BEFORE_AFTER = ("before training", "after training")


# ---- tables


def result_table(result: Result, limit: int = 10) -> pd.DataFrame:
    """The first rows of a query's result, or its error, for looking at."""
    if not result.ok:
        return pd.DataFrame({"error": [result.error]})
    return pd.DataFrame([list(row) for row in result.rows[:limit]], columns=list(result.columns) or None, dtype=object)


def score_table(verdicts: Sequence[Verdict], labels: Sequence[Sequence[str]] | None = None) -> pd.DataFrame:
    """One row a group and one for all: examples, EX in percent, its 95 % interval, EM in percent.

    Args:
        labels: the groups that each question is in; without them, its hardness.
    """
    rows = {name: score(some) for name, some in grouped(verdicts, labels).items() if some}
    names = {"questions": "examples", "ex": "EX %", "ex_low": "low %", "ex_high": "high %", "em": "EM %"}
    return pd.DataFrame(rows).T.rename(columns=names).astype({"examples": int})


def grouped(verdicts: Sequence[Verdict], labels: Sequence[Sequence[str]] | None = None) -> dict[str, list[Verdict]]:
    """Verdicts by label, the largest group first (levels of hardness in their own order), and all of them."""
    given = [[one.hardness] for one in verdicts] if labels is None else labels
    counts = Counter(label for some in given for label in some)
    order = LEVELS if labels is None else [label for label, _ in counts.most_common()]
    groups = {label: [one for one, some in zip(verdicts, given, strict=True) if label in some] for label in order}
    return groups | {"all": list(verdicts)}


def compare_table(
    base: Sequence[Verdict],
    tuned: Sequence[Verdict],
    labels: Sequence[Sequence[str]] | None = None,
    names: tuple[str, str] = BEFORE_AFTER,
) -> pd.DataFrame:
    """EX of two systems by group, each with its 95 % interval, and EM, as text.

    Args:
        labels: as in `score_table`.
        names: what the columns call the two.
    """
    tables = [score_table(one, labels) for one in (base, tuned)]
    columns: dict[str, Any] = {"questions": tables[1]["examples"]}
    for name, table in zip(names, tables, strict=True):
        columns[f"EX % {name}"] = [f"{row['EX %']:.1f} ({row['low %']:.1f}-{row['high %']:.1f})" for _, row in table.iterrows()]
    for name, table in zip(names, tables, strict=True):
        columns[f"EM % {name}"] = [f"{value:.1f}" for value in table["EM %"]]
    return pd.DataFrame(columns)


def difference_sentence(paired: Mapping[str, float], names: tuple[str, str] = ("base", "tuned")) -> str:
    """The paired difference in one sentence, with what it means."""
    before, after = names
    if paired["low"] <= 0 <= paired["high"]:
        meaning = "the interval holds 0: these questions do not show which is better"
    else:
        meaning = f"the interval excludes 0: {after} is {'better' if paired['low'] > 0 else 'worse'}"
    flips = f"{paired['gained']} questions gained, {paired['lost']} lost; McNemar's p = {paired['p_value']:.2g}"
    return (
        f"{after} minus {before}: {paired['difference']:+.1f} points of EX, 95 % interval {paired['low']:+.1f} to"
        f" {paired['high']:+.1f} ({flips}); {meaning}"
    )


def weak_lines(verdicts: Sequence[Verdict], differing: Sequence[int] = ()) -> list[str]:
    """What a reader of the scores must know of the questions: those whose gold says little, by number, and what copies change.

    Args:
        differing: places of questions about data that is known to differ from the release's.
    """
    lines = []
    failing = [place for place, one in enumerate(verdicts) if one.outcome == "gold does not run"]
    for words, places in [
        ("gold does not run, which counts as wrong", failing),
        *((note, [place for place, one in enumerate(verdicts) if one.note == note]) for note in (NO_ROWS, TIED)),
    ]:
        if places:
            lines.append(f"{counted(places)}: {words} ({numbers(places)})")
    if 0 < len(differing) < len(verdicts):
        rest = score(without(verdicts, differing))
        lines.append(
            f"{counted(differing)}: the data is known to differ from the release's ({numbers(differing)});"
            f" EX without them {rest['ex']:.1f} ({rest['ex_low']:.1f}-{rest['ex_high']:.1f})"
        )
    caught = [place for place, one in enumerate(verdicts) if one.outcome == WRONG_ON_A_COPY]
    if caught:
        lines.append(
            f"{len(caught):,} predictions are right on the database and wrong on an altered copy of it ({numbers(caught)}):"
            f" EX {score(verdicts)['ex']:.1f}, on altered copies as well {score(verdicts, on_copies=True)['ex']:.1f}"
        )
    return lines


def counted(places: Sequence[int]) -> str:
    """How many questions these are, in words."""
    return f"{len(places):,} question{'' if len(places) == 1 else 's'}"


def numbers(places: Sequence[int], limit: int = 12) -> str:
    """The first of some question numbers, counted from 0 in the order of the predictions."""
    return ", ".join(map(str, places[:limit])) + (", …" if len(places) > limit else "")


def outcome_table(base: Sequence[Verdict], tuned: Sequence[Verdict], names: tuple[str, str] = BEFORE_AFTER) -> pd.DataFrame:
    """Counts of two systems by outcome, the most frequent of the second first."""
    counts = {name: Counter(one.outcome for one in some) for name, some in zip(names, (base, tuned), strict=True)}
    return pd.DataFrame(counts).fillna(0).astype(int).sort_values(names[1], ascending=False)


def mistakes_table(kinds: Mapping[int, str], questions: Sequence[str]) -> pd.DataFrame:
    """Kinds of mistake, the most frequent first, with the first question of each.

    Args:
        kinds: of the wrong predictions, by their places (`mistakes.kind`).
    """
    first: dict[str, int] = {}
    for place, kind in kinds.items():
        first.setdefault(kind, place)
    rows = [
        {
            "differs first in": kind,
            "wrong": count,
            "share %": round(100 * count / len(kinds), 1),
            "such as": questions[first[kind]],
        }
        for kind, count in Counter(kinds.values()).most_common()
    ]
    return pd.DataFrame(rows, columns=["differs first in", "wrong", "share %", "such as"]).set_index("differs first in")


def flip_table(places: Sequence[int], limit: int = 5, **columns: Sequence[str]) -> pd.DataFrame:
    """Some of the questions that flipped: a row a question, by its number.

    Args:
        columns: texts of all questions by the column's title.
    """
    table = pd.DataFrame({name.replace("_", " "): [texts[place] for place in places[:limit]] for name, texts in columns.items()})
    return table.set_index(pd.Index(places[:limit], name="question no."))


def write_evaluation(
    run: Run,
    examples: Sequence[Example],
    base_sql: Sequence[str],
    base: Sequence[Verdict],
    tuned_sql: Sequence[str],
    tuned: Sequence[Verdict],
    *,
    seconds: float,
    differing: Sequence[int] = (),
) -> None:
    """Keep an evaluation in the run folder: predictions and verdicts of both systems, the scores as text, and in record.json.

    Args:
        seconds: what the tuned model's answers took.
        differing: places of questions about data that is known to differ from the release's.
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
    note = run.record().get("data_note")
    run.write_text("evaluation/scores.txt", scores_text(base, tuned, differing, note))
    asked = {
        "questions": len(examples),
        "seen_databases": sum(example.seen for example in examples),
        "decoding": run.config().decoding,
    }
    run.add_to_record(evaluation=asked | {"seconds": round(seconds, 1)} | scores_entries(base, tuned, differing))


def scores_text(base: Sequence[Verdict], tuned: Sequence[Verdict], differing: Sequence[int], note: str | None) -> str:
    """The scores as text: EX and EM by hardness, the paired difference, and what to know of the questions and the data."""
    lines = [compare_table(base, tuned).to_string(), "", difference_sentence(paired_difference(base, tuned))]
    return "\n".join([*lines, *weak_lines(tuned, differing), *([f"Note: {note}"] if note else [])]) + "\n"


def scores_entries(base: Sequence[Verdict], tuned: Sequence[Verdict], differing: Sequence[int]) -> dict[str, Any]:
    """The scores as record.json keeps them."""
    paired = paired_difference(base, tuned)
    return {
        "base": summary(base, differing),
        "tuned": summary(tuned, differing),
        "difference": {name: float(f"{value:.6g}") for name, value in paired.items()},
    }


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
    gold: tuple[str, Result],
    base: tuple[str, Result],
    tuned: tuple[str, Result],
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


def plot_scores(tuned: pd.DataFrame, base: pd.DataFrame, title: str, names: tuple[str, str] = BEFORE_AFTER) -> Axes:
    """Bars with 95 % intervals for the tuned model (the second name), a diamond for the base (the first).

    Args:
        tuned, base: tables of `score_table` with the same groups.
    """
    labels = [f"{level} (n={count:,})" for level, count in tuned["examples"].items()]
    # at 0 and 100 % the interval ends at the bar, give or take a rounding error that matplotlib would refuse
    spread = [(tuned["EX %"] - tuned["low %"]).clip(lower=0), (tuned["high %"] - tuned["EX %"]).clip(lower=0)]
    _, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
    axes.barh(labels, tuned["EX %"], xerr=spread, capsize=3, color="#88aacc", label=names[1])
    # a diamond, not cut at the frame: before training a score is often 0
    axes.plot(base["EX %"], labels, "D", color="black", markersize=5, clip_on=False, label=names[0])
    axes.set(xlabel="execution accuracy (%)", xlim=(0, 100), title=title)
    axes.invert_yaxis()
    axes.figure.legend(loc="outside lower center", ncols=2)  # inside it would lie on a bar or a diamond
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
