"""The outcome of a training: its log, speed and memory."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SKIPPED_STEPS = 2  # left out of the speed: the first steps compile kernels and grow the memory pool


@dataclass(kw_only=True)
class Outcome:
    """The outcome of a training.

    Attributes:
        log: one entry a step: step, loss (nats/token), learning_rate, seconds, tokens (without padding), peak_memory_gib (so far,
            of the GPU, or of this process without one).
        per_device_train_batch_size: the micro-batch in the end, smaller than asked for if memory ran out.
        new_steps: how many steps of the log this call made, not an earlier one.
    """

    log: list[dict[str, float]] = field(default_factory=list)
    per_device_train_batch_size: int = 0
    gradient_accumulation_steps: int = 0
    processes: int = 1
    new_steps: int = field(default=0, compare=False)

    def measured(self) -> list[dict[str, float]]:
        """Return the steps that count for the speed."""
        return self.log[SKIPPED_STEPS:] or self.log

    def record(self) -> dict[str, Any]:
        """Return the `train` entry of record.json."""
        seconds = sum(entry["seconds"] for entry in self.measured())
        return {
            "steps": len(self.log),
            "seconds": round(sum(entry["seconds"] for entry in self.log), 1),
            "seconds_per_step": round(statistics.median(entry["seconds"] for entry in self.measured()), 4),
            "tokens_per_second": round(sum(entry["tokens"] for entry in self.measured()) / seconds, 1),
            "peak_memory_gib": round(max(entry["peak_memory_gib"] for entry in self.log), 3),
            "first_loss": round(self.log[0]["loss"], 5),
            "final_loss": round(statistics.fmean(entry["loss"] for entry in self.log[-10:]), 5),
            "per_device_train_batch_size": self.per_device_train_batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "processes": self.processes,
        }

    def table(self) -> pd.DataFrame:
        """Return the record as a pandas table."""
        import pandas as pd

        names = {
            "steps": "steps",
            "seconds": "seconds, all steps",
            "seconds_per_step": "s/step (median)",
            "tokens_per_second": "tokens/s (without padding)",
            "peak_memory_gib": "peak memory (GiB)",
            "first_loss": "loss of the first step",
            "final_loss": "loss, mean of the last 10 steps",
            "per_device_train_batch_size": "micro-batch",
            "gradient_accumulation_steps": "micro-batches a step",
            "processes": "processes, a GPU each",
        }
        return pd.Series({names[key]: f"{value:,}" for key, value in self.record().items()}, name="measured").to_frame()
