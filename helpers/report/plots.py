"""Plots. Each function returns its Axes; a notebook shows them, and `save_plot` writes them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from helpers.judge.hardness import LEVELS
from helpers.report.tables import BEFORE_AFTER


def plot_lengths(lengths: Sequence[int], limit: int) -> Axes:
    """Plot a histogram of example lengths in tokens, with max_seq_length marked."""
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
    """Plot the share of training and dev examples by hardness, in percent of each.

    Args:
        counts: from `DataSet.counts`.
    """
    levels = counts.loc[list(LEVELS)]
    shares = 100 * levels / levels.sum()
    axes = shares.plot.bar(figsize=(6, 2.6), color=["#4477aa", "#cc6677"], rot=0)
    axes.figure.set_layout_engine("constrained")
    axes.set(ylabel="share of examples (%)", title="Hardness")
    return axes


def plot_training(log: Sequence[Mapping[str, float]]) -> Axes:
    """Plot loss by step with its running mean, and below it the learning rate.

    Args:
        log: an entry a step with `step`, `loss` (nats/token) and `learning_rate`.
    """
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
    """Plot EX by group: bars with 95 % intervals for the tuned model (the second name), diamonds for the base model (the first).

    Args:
        tuned, base: from `score_table`, with the same groups.
    """
    labels = [f"{level} (n={count:,})" for level, count in tuned["examples"].items()]
    # at 0 and 100 % the interval ends at the bar, give or take a rounding error that matplotlib would refuse
    spread = [(tuned["EX %"] - tuned["low %"]).clip(lower=0), (tuned["high %"] - tuned["EX %"]).clip(lower=0)]
    _, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
    axes.barh(labels, tuned["EX %"], xerr=spread, capsize=3, color="#88aacc", label=names[1])
    # not cut at the frame: before training a score is often 0
    axes.plot(base["EX %"], labels, "D", color="black", markersize=5, clip_on=False, label=names[0])
    axes.set(xlabel="execution accuracy (%)", xlim=(0, 100), title=title)
    axes.invert_yaxis()
    axes.figure.legend(loc="outside lower center", ncols=2)  # inside it would lie on a bar or a diamond
    return axes


def plot_outcomes(table: pd.DataFrame) -> Axes:
    """Plot the counts of `outcome_table` as bars."""
    axes = table[::-1].plot.barh(figsize=(6, 0.9 + 0.35 * len(table)), color=["#bbbbbb", "#88aacc"])
    axes.figure.set_layout_engine("constrained")
    axes.set(xlabel="questions", ylabel="", title="Outcomes of the predictions")
    return axes


def save_plot(axes: Axes, path: Path) -> None:
    """Write a plot as a small PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    axes.figure.savefig(temporary, dpi=90, format="png")
    temporary.replace(path)
