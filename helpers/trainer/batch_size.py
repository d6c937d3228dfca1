"""The batch-size finder: time a few steps to find the fastest micro-batch that fits the memory, and what training will cost."""

from __future__ import annotations

import dataclasses
import gc
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers import models
from helpers.prompts.tokens import Row
from helpers.run import machine, processes
from helpers.run.config import RunConfig
from helpers.run.folder import Run
from helpers.run.memory import peak_memory_gib, reset_peak_memory
from helpers.run.progress import tqdm
from helpers.trainer import checkpoints
from helpers.trainer.trainer import BatchLayout, make_dataset, make_trainer, split_batch

if TYPE_CHECKING:
    import pandas as pd

STORED = "probe.json"
TIMED_STEPS = 2


class OutOfMemory(RuntimeError):
    """Not even one example at a time fits the GPU; the message names what to lower."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One layout, tried.

    Attributes:
        seconds, tokens: of a step of average length, tokens without padding; None if the longest examples did not fit.
        peak_memory_gib: the most memory held; None likewise.
    """

    layout: BatchLayout
    seconds: float | None = None
    tokens: float | None = None
    peak_memory_gib: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The layouts tried, and what training will cost with the fastest.

    Attributes:
        trials: in the order tried; at least one fits.
        steps: optimiser steps of the whole training.
        examples: how many rows there are to learn from.
    """

    trials: tuple[Trial, ...]
    steps: int
    examples: int

    @property
    def best(self) -> Trial:
        """The fastest of those that fit."""
        return min((one for one in self.trials if one.seconds), key=lambda one: one.seconds)

    def table(self) -> pd.DataFrame:
        """Return the trials as a pandas table, a row a layout."""
        import pandas as pd

        rows = {
            str(one.layout): {
                "s/step": f"{one.seconds:.3f}" if one.seconds else "out of memory",
                "tokens/s": f"{one.tokens / one.seconds:,.0f}" if one.seconds else "",
                "peak memory (GiB)": f"{one.peak_memory_gib:.2f}" if one.seconds else "",
                "": "taken" if one is self.best else "",
            }
            for one in self.trials
        }
        return pd.DataFrame(rows).T.rename_axis("micro-batch x accumulation")

    def __str__(self) -> str:
        best = self.best
        seen = self.steps * best.layout.batch_size
        return (
            f"{self.steps:,} steps x {best.layout.batch_size} examples = {seen:,} of {self.examples:,} "
            f"({seen / self.examples:.2f} epochs), about {self.steps * best.tokens * best.layout.processes:,.0f} tokens; "
            f"about {self.steps * best.seconds / 60:.1f} min on this machine"
        )


def plan(model: Any, tokenizer: Any, rows: Sequence[Row], settings: RunConfig, run: Run) -> Plan:
    """Time the layouts that the settings leave open, and store the answer in the run folder (probe.json).

    A given micro-batch is the only one tried. Each trial is a few steps of the trainer itself, the first over the longest
    examples, so that a layout which passes does not run out of memory later. The largest comes first, for as long as smaller ones
    are faster. The adapter is left as it was. Where several processes will train, one of them tries with its share of a batch.

    Raises:
        OutOfMemory: not even the smallest layout fits.
        ValueError: several processes run already, and none has searched before.
    """
    examples = len(make_dataset(rows, settings)) if settings.packing else len(rows)
    found = load_trials(settings, rows, run)
    if found is None:
        if processes.is_distributed():
            raise ValueError(
                "Several processes cannot search for the micro-batch: set per_device_train_batch_size, "
                "and gradient_checkpointing to another value than 'auto'"
            )
        found = search(model, tokenizer, rows, settings, run)
        trials = [dataclasses.asdict(one) for one in found]
        for one in trials:
            one["shape"] = one.pop("layout")
        run.write_json(STORED, {"made_with": identity(settings, rows), "tries": trials})
    return Plan(trials=tuple(found), steps=settings.steps(examples), examples=examples)


def load_trials(settings: RunConfig, rows: Sequence[Row], run: Run) -> list[Trial] | None:
    """Return the trials of an earlier call for the same settings, rows and GPU, or None."""
    if not (run / STORED).is_file():
        return None
    stored = run.read_json(STORED)
    if stored["made_with"] != identity(settings, rows):
        return None
    return [Trial(layout=BatchLayout(**one.pop("shape")), **one) for one in stored["tries"]]


def identity(settings: RunConfig, rows: Sequence[Row]) -> dict[str, Any]:
    """Return everything that decides the outcome of a search."""
    device = machine.gpu()
    here = {"gpu": device and device.name, "processes": process_count(settings)}
    return checkpoints.identity(settings, rows) | here


def process_count(settings: RunConfig) -> int:
    """Return how many processes train: those that run already, else as many as the settings ask for."""
    return processes.world_size() if processes.is_distributed() else settings.num_processes


def search(model: Any, tokenizer: Any, rows: Sequence[Row], settings: RunConfig, run: Run) -> list[Trial]:
    """Try, for each kind of checkpointing, the largest micro-batch that fits, then smaller ones while they are faster."""
    from peft import set_peft_model_state_dict

    untrained = models.adapter_weights(model)
    dataset = make_dataset(trial_rows(rows, settings), settings)
    trials: list[Trial] = []
    with tqdm(desc="trying micro-batches", unit="layout") as bar:
        for checkpointing in kinds_of_checkpointing(settings):
            best = float("inf")
            for size in micro_batches(settings):
                layout = split_batch(settings.batch_share(process_count(settings)), size, checkpointing, process_count(settings))
                one = measure(model, tokenizer, dataset, settings, run, layout)
                trials.append(one)
                bar.update()
                if one.seconds is not None:
                    if one.seconds >= best:
                        break
                    best = one.seconds
            if trials[-1].seconds and not any(one.seconds is None for one in trials):
                break  # all of it fits: computing activations twice can only cost time
    set_peft_model_state_dict(model, untrained)
    if not any(one.seconds for one in trials):
        raise OutOfMemory(advice(settings))
    return trials


def kinds_of_checkpointing(settings: RunConfig) -> list[str]:
    """Return the kinds of checkpointing to try: for `auto` none and then the engine's, else the one given."""
    if settings.gradient_checkpointing != "auto":
        return [settings.gradient_checkpointing]
    return ["off", "unsloth" if machine.engine(settings.engine) == "unsloth" else "standard"]


def micro_batches(settings: RunConfig) -> list[int]:
    """Return the micro-batches to try, largest first: all that divide a process's share of a batch.

    If one is given: only that, or the next smaller divisor of the share.
    """
    share, given = settings.batch_share(process_count(settings)), settings.per_device_train_batch_size
    sizes = [size for size in range(share, 0, -1) if share % size == 0]
    return [size for size in sizes if size <= given][:1] if given else sizes


def trial_rows(rows: Sequence[Row], settings: RunConfig) -> list[Row]:
    """Return rows for the steps of a trial: first the longest, then steps as training takes them, random or of similar length.

    Steps of similar length are taken about the quarters of all lengths. A random step would be padded to a length that grouped
    ones rarely have, which slows large micro-batches most.
    """
    packed = 1
    if settings.packing:
        packed = max(1, settings.max_seq_length // round(statistics.fmean(len(row.input_ids) for row in rows)))
    count = settings.batch_share(process_count(settings)) * packed
    longest = sorted(rows, key=lambda row: -len(row.input_ids))
    first = [longest[index % len(longest)] for index in range(count)]
    if settings.train_sampling_strategy != "group_by_length":
        return first + random.Random(settings.seed).choices(rows, k=TIMED_STEPS * count)
    middles = [len(longest) * (2 * step + 1) // (2 * TIMED_STEPS) for step in range(TIMED_STEPS)]
    return first + [longest[(middle - count // 2 + index) % len(longest)] for middle in middles for index in range(count)]


def measure(model: Any, tokenizer: Any, dataset: Any, settings: RunConfig, run: Run, layout: BatchLayout) -> Trial:
    """Take a few steps in one layout."""
    import torch

    from helpers.trainer.callbacks import StepTimer

    timer = StepTimer()
    options = {"max_steps": 1 + TIMED_STEPS, "train_sampling_strategy": "sequential", "save_strategy": "no"}
    reset_peak_memory()
    trainer = None
    try:
        trainer = make_trainer(model, tokenizer, dataset, settings, run, layout, **options)
        trainer.add_callback(timer)
        trainer.train()
        fits = True
    except torch.cuda.OutOfMemoryError:
        fits = False
    # outside of the except block: its error holds on to the tensors that are to be freed
    if trainer is not None:
        trainer.accelerator.free_memory()
    del trainer
    model.zero_grad(set_to_none=True)
    if not fits:
        gc.collect()
        return Trial(layout=layout)
    timed = timer.steps[1:]
    return Trial(
        layout=layout,
        seconds=round(statistics.median(seconds for seconds, _ in timed), 5),
        tokens=statistics.fmean(tokens for _, tokens in timed),
        peak_memory_gib=round(peak_memory_gib(), 3),
    )


def advice(settings: RunConfig) -> str:
    """Return what to lower when the memory does not hold one example, in order, and what each costs."""
    return (
        "The GPU's memory does not hold one example at a time. Lower, in this order:\n"
        f"  max_seq_length (now {settings.max_seq_length}): drops the longest examples, in 02 Data and a new run_dir;\n"
        f"  gradient_checkpointing='unsloth' (now {settings.gradient_checkpointing!r}): a little slower;\n"
        f"  load_in_4bit=True (now {settings.load_in_4bit}): a quarter of the weights' memory, a little less accurate."
    )
