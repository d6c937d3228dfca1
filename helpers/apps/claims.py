"""The recipe's claims beside what a GPU measured: tables, verdicts and plots from the results of `benchmark`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.apps.benchmark import FILE
from helpers.run import machine

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

KEPT = machine.ROOT / "results" / "h200-benchmark" / FILE
UNMEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim about the recipe: how much memory one variant saves over another, or how many times as fast it is.

    Attributes:
        quantity: what is compared: weights_gib, peak_memory_gib, optimizer_mib, or tokens_per_second.
        variant, against: names of the two variants.
        claimed: share saved (0.75 is 75 %), or ratio of speeds; None where no number is claimed.
    """

    text: str
    quantity: str
    variant: str
    against: str
    claimed: float | None = None

    @property
    def is_speed(self) -> bool:
        """Whether the claim is about speed, not memory."""
        return self.quantity == "tokens_per_second"

    def measured(self, results: Mapping[str, Mapping]) -> float | None:
        """Return the share saved or the ratio of speeds; None if a variant is missing or failed."""
        mine, other = (results.get(name, {}).get(self.quantity) for name in (self.variant, self.against))
        if not mine or not other:
            return None
        return mine / other if self.is_speed else 1 - mine / other

    def verdict(self, value: float | None) -> str:
        """Return whether a measured value bears the claim out, with a tenth of the claim as tolerance."""
        if value is None:
            return UNMEASURED
        if self.claimed is None:
            return "-"
        if value >= 0.9 * self.claimed:
            return "holds"
        return "less than claimed" if value > (1.05 if self.is_speed else 0.05) else "not here"

    def shown(self, value: float | None) -> str:
        """Return a value of this claim as text."""
        if value is None:
            return "-"
        return f"{value:.1f} x" if self.is_speed else f"{round(-100 * value):+d} %"  # an int: no -0


SPEED, PEAK = "tokens_per_second", "peak_memory_gib"
CLAIMS = (
    Claim(
        text="weights in 4 bits, not 16: memory", quantity="weights_gib", variant="8 x 1", against="16-bit weights", claimed=0.75
    ),
    Claim(text="… peak memory of training", quantity=PEAK, variant="8 x 1", against="16-bit weights"),
    Claim(
        text="Unsloth's checkpointing, not standard: peak",
        quantity=PEAK,
        variant="8 x 1",
        against="standard checkpointing",
        claimed=0.3,
    ),
    Claim(
        text="Unsloth's checkpointing, not none: peak", quantity=PEAK, variant="8 x 1", against="no checkpointing", claimed=0.3
    ),
    Claim(
        text="AdamW in 8 bits, not 32: its memory",
        quantity="optimizer_mib",
        variant="8 x 1",
        against="AdamW in 32 bits",
        claimed=0.5,
    ),
    Claim(text="Unsloth, not plain TRL: peak", quantity=PEAK, variant="8 x 1", against="without Unsloth"),
    Claim(text="loss on completions, not all tokens: peak", quantity=PEAK, variant="8 x 1", against="loss on all tokens"),
    Claim(text="bf16, not float32: speed", quantity=SPEED, variant="16-bit weights", against="float32", claimed=2.0),
    Claim(text="fp16, not float32: speed", quantity=SPEED, variant="16-bit weights, fp16", against="float32", claimed=2.0),
    Claim(
        text="Unsloth, not plain TRL, at 8 x 1: speed", quantity=SPEED, variant="8 x 1", against="without Unsloth", claimed=2.0
    ),
    Claim(
        text="Unsloth, not plain TRL, at 1 x 8: speed",
        quantity=SPEED,
        variant="1 x 8",
        against="without Unsloth, 1 x 8",
        claimed=2.0,
    ),
    Claim(text="8 x 1, not 1 x 8: speed", quantity=SPEED, variant="8 x 1", against="1 x 8", claimed=4.0),
    Claim(text="2 x 4, not 1 x 8: speed", quantity=SPEED, variant="2 x 4", against="1 x 8"),
    Claim(text="packing, not padding, at 8 x 1: speed", quantity=SPEED, variant="packing", against="8 x 1"),
    Claim(text="`full`, not `seed` at 1 x 8: speed", quantity=SPEED, variant="full", against="1 x 8"),
    Claim(text="`full` with Unsloth, not without: speed", quantity=SPEED, variant="full", against="full without Unsloth"),
    Claim(
        text="answers, as many as fit, not singly: speed", quantity=SPEED, variant="all answers", against="one answer at a time"
    ),
)


def stored() -> dict[str, Any]:
    """Return the benchmark record that comes with the project; it names its GPU."""
    return json.loads(KEPT.read_text(encoding="utf-8"))


def variants_table(results: Mapping[str, Mapping]) -> pd.DataFrame:
    """Return the measurements of every variant as a pandas table."""
    import pandas as pd

    columns = {
        "seconds_per_step": ("s/step", "{:.3f}"),
        "tokens_per_second": ("tokens/s", "{:,.0f}"),
        "weights_gib": ("weights (GiB)", "{:.2f}"),
        "peak_memory_gib": ("peak (GiB)", "{:.2f}"),
        "optimizer_mib": ("optimiser (MiB)", "{:.1f}"),
        "error": ("error", "{}"),
    }
    used = [key for key in columns if any(key in one for one in results.values())]
    rows = {
        name: {columns[key][0]: columns[key][1].format(one[key]) if key in one else "" for key in used}
        for name, one in results.items()
    }
    return pd.DataFrame(rows).T


def claims_table(results: Mapping[str, Mapping]) -> pd.DataFrame:
    """Return each claim with its number, what was measured here, and the verdict, as a pandas table."""
    import pandas as pd

    rows = []
    for claim in CLAIMS:
        value = claim.measured(results)
        rows.append(
            {
                "claim": claim.text,
                "claimed": claim.shown(claim.claimed),
                "measured here": claim.shown(value),
                "verdict": claim.verdict(value),
            }
        )
    return pd.DataFrame(rows).set_index("claim")


def largest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the largest difference between the losses of two trainings at the same step, as a share of the second's."""
    return max(abs(a - b) / b for a, b in zip(one, other, strict=True))


def loss_sentence(results: Mapping[str, Mapping]) -> str:
    """Return how much the losses differ between two batch layouts, between two runs of one, and between fp16 and bf16."""
    layouts = largest_difference(results["8 x 1"]["losses"], results["1 x 8"]["losses"])
    chance = largest_difference(results["8 x 1"]["losses"], results["8 x 1 again"]["losses"])
    return (
        f"Largest difference in loss at one step: {100 * layouts:.2f} % between 8 x 1 and 1 x 8, "
        f"{100 * chance:.2f} % between two runs of 8 x 1, "
        f"{100 * largest_difference(results['fp16']['losses'], results['8 x 1']['losses']):.2f} % between fp16 and bf16"
    )


def plot_claims(results: Mapping[str, Mapping]) -> tuple[Axes, Axes]:
    """Plot the measured values as bars, memory left and speed right, with a tick at each claimed value; return both Axes."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.1), layout="constrained")
    for ax, speed in zip(axes, (False, True), strict=True):
        shown = [(claim, value) for claim in CLAIMS if claim.is_speed is speed and (value := claim.measured(results)) is not None]
        scale = 1 if speed else 100
        labels = [claim.text for claim, _ in shown]
        ax.barh(labels, [scale * value for _, value in shown], color="tab:blue", label="measured")
        claimed = [(claim.text, scale * claim.claimed) for claim, _ in shown if claim.claimed]
        ax.plot(
            [value for _, value in claimed], [text for text, _ in claimed], "|", color="black", markersize=16, label="claimed"
        )
        ax.invert_yaxis()
        ax.set(xlabel="times as fast" if speed else "memory saved (%)")
        if speed:
            ax.axvline(1, color="grey", linewidth=0.8)
            ax.set_xscale("log")
    handles = axes[1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2)  # inside it would lie on a bar
    return axes[0], axes[1]


def plot_losses(results: Mapping[str, Mapping]) -> Axes:
    """Plot the losses of one batch size in two layouts, one of them run twice."""
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
    for name, style in (("1 x 8", "-"), ("8 x 1", "--"), ("8 x 1 again", ":")):
        losses = results.get(name, {}).get("losses", [])
        ax.plot(range(1, len(losses) + 1), losses, style, label=name)
    ax.set(xlabel="step", ylabel="loss", title="One batch size, two layouts")
    ax.legend()
    return ax
