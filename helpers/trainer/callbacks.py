"""Callbacks of the trainer: step times, and a progress bar with a log. It imports transformers, so import it late."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from helpers.run import processes
from helpers.run.folder import Run
from helpers.run.memory import peak_memory_gib, synchronize
from helpers.run.progress import tqdm
from helpers.trainer import checkpoints

LOG = "training.jsonl"


class StepTimer(TrainerCallback):
    """Times the steps of a trainer, waiting for the GPU.

    Args:
        pauses: functions to call after a step, by its number; they are not timed.

    Attributes:
        steps: (seconds, tokens without padding) of every step.
        peaks: the most memory held up to the end of every step, in GiB.
        losses: one a step, in nats per token.
    """

    def __init__(self, pauses: Mapping[int, Callable[[], None]] | None = None) -> None:
        self.pauses = pauses or {}
        self.peaks: list[float] = []
        self.steps: list[tuple[float, int]] = []
        self.losses: list[float] = []
        self.begin = 0.0
        self.tokens = 0

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock."""
        synchronize()
        self.begin = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Record the step."""
        synchronize()
        seen = int(state.num_input_tokens_seen)
        self.steps.append((time.perf_counter() - self.begin, seen - self.tokens))
        self.peaks.append(peak_memory_gib())
        self.tokens = seen
        if pause := self.pauses.get(state.global_step):
            pause()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


class ProgressLog(TrainerCallback):
    """Shows a bar with loss and time left, and keeps a log in the run folder.

    Attributes:
        log: one entry a step: step, loss (nats/token), learning_rate, seconds, tokens (without padding), peak_memory_gib (so
            far).
    """

    def __init__(self, run: Run, steps: int, checkpoint: Path | None) -> None:
        done = checkpoints.step(checkpoint) if checkpoint else 0
        kept = run.read_jsonl(LOG) if done and (run / LOG).is_file() else []
        self.run = run
        self.log: list[dict[str, float]] = [entry for entry in kept if entry["step"] <= done]
        self.tokens = sum(entry["tokens"] for entry in self.log)
        self.begin = time.perf_counter()
        self.bar = tqdm(total=steps, initial=done, desc="training", unit="step", disable=not processes.is_main_process())

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock."""
        self.begin = time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the step."""
        if not logs or "loss" not in logs:
            return  # the closing summary
        seen = int(state.num_input_tokens_seen)
        self.log.append(
            {
                "step": state.global_step,
                "loss": float(logs["loss"]),
                "learning_rate": float(logs["learning_rate"]),
                "seconds": time.perf_counter() - self.begin,
                "tokens": seen - self.tokens,
                "peak_memory_gib": peak_memory_gib(),
            }
        )
        self.tokens = seen
        self.bar.set_postfix(loss=f"{self.log[-1]['loss']:.3f}", refresh=False)
        self.bar.update(state.global_step - self.bar.n)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the log as far as the checkpoint goes."""
        self.write()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the whole log."""
        self.write()

    def write(self) -> None:
        """Write the log, in the main process only."""
        if processes.is_main_process():
            self.run.write_jsonl(LOG, self.log)
