"""The fastest shape of a training step that fits the memory, found by timing a few steps, and what the training will cost."""

from __future__ import annotations

import dataclasses
import gc
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.prompts import Row
from helpers.run import config, machine, processes
from helpers.run.folder import Run
from helpers.run.memory import peak_memory_gib, reset_peak_memory
from helpers.run.progress import tqdm
from helpers.trainer import Shape, cut, dataset_of, make_trainer

if TYPE_CHECKING:
    import pandas as pd

STORED = "probe.json"
TIMED_STEPS = 2


class OutOfMemory(RuntimeError):
    """Not even one example at a time fits the GPU; the message names what to lower."""


@dataclass(frozen=True, kw_only=True)
class Try:
    """One shape, tried: seconds and tokens (padding left out) of a step of middle length, and the most memory it took.

    Both are None if the memory did not hold the longest examples.
    """

    shape: Shape
    seconds: float | None = None
    tokens: float | None = None
    peak_memory_gib: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was tried, and what the training will cost with the fastest.

    Attributes:
        tries: in the order tried, at least one of them fitting.
        steps, examples: of the whole training; `examples` is how many there are to learn from.
    """

    tries: tuple[Try, ...]
    steps: int
    examples: int

    @property
    def best(self) -> Try:
        """The fastest of those that fit."""
        return min((one for one in self.tries if one.seconds), key=lambda one: one.seconds)

    def table(self) -> pd.DataFrame:
        """The tries as a pandas table, a row a shape."""
        import pandas as pd

        rows = {
            str(one.shape): {
                "s/step": f"{one.seconds:.3f}" if one.seconds else "out of memory",
                "tokens/s": f"{one.tokens / one.seconds:,.0f}" if one.seconds else "",
                "peak memory (GiB)": f"{one.peak_memory_gib:.2f}" if one.seconds else "",
                "": "taken" if one is self.best else "",
            }
            for one in self.tries
        }
        return pd.DataFrame(rows).T.rename_axis("micro-batch x accumulation")

    def __str__(self) -> str:
        best = self.best
        seen = self.steps * best.shape.effective_batch
        return (
            f"{self.steps:,} steps x {best.shape.effective_batch} examples = {seen:,} of {self.examples:,} "
            f"({seen / self.examples:.2f} epochs), about {self.steps * best.tokens * best.shape.processes:,.0f} tokens; "
            f"about {self.steps * best.seconds / 60:.1f} min on this machine"
        )


def plan(model: Any, tokenizer: Any, rows: Sequence[Row], settings: config.RunConfig, run: Run) -> Plan:
    """Time the shapes that the settings leave open, and keep the answer in the run folder (probe.json).

    A given micro-batch is the only one tried. Each try is a few steps of the trainer itself, the first over the longest
    examples, so that a shape which passes does not run out of memory later. Largest first, for as long as smaller ones are
    faster. The adapter is left as it was. Where several processes will train, one tries with its share of a step.

    Raises:
        OutOfMemory: not even the smallest shape fits.
        ValueError: several processes run already, and none has tried before.
    """
    dataset = dataset_of(rows, settings)
    steps = settings.steps(len(dataset))
    found = kept(settings, rows, run)
    if found is None:
        if processes.is_distributed():
            raise ValueError(
                "Several processes cannot search for the micro-batch: set per_device_train_batch_size, "
                "and gradient_checkpointing to another value than 'auto'"
            )
        found = fastest(model, tokenizer, rows, settings, run)
        stored = {"made_with": identity(settings, rows), "tries": [dataclasses.asdict(one) for one in found]}
        run.write_json(STORED, stored)
    return Plan(tries=tuple(found), steps=steps, examples=len(dataset))


def kept(settings: config.RunConfig, rows: Sequence[Row], run: Run) -> list[Try] | None:
    """The tries of an earlier call for the same settings, rows and GPU, or None."""
    if not (run / STORED).is_file():
        return None
    stored = run.read_json(STORED)
    if stored["made_with"] != identity(settings, rows):
        return None
    return [Try(**(one | {"shape": Shape(**one["shape"])})) for one in stored["tries"]]


def identity(settings: config.RunConfig, rows: Sequence[Row]) -> dict[str, Any]:
    """What decides the outcome of a probe."""
    device = machine.gpu()
    values = {name: value for name, value in settings.values().items() if config.stage_of(name) != "evaluate"}
    tokens = sum(len(row.input_ids) for row in rows)
    return values | {"gpu": device and device.name, "tokens": tokens, "processes": together(settings)}


def together(settings: config.RunConfig) -> int:
    """How many processes train: those that run already, else as many as the settings ask for."""
    return processes.world_size() if processes.is_distributed() else settings.num_processes


def fastest(model: Any, tokenizer: Any, rows: Sequence[Row], settings: config.RunConfig, run: Run) -> list[Try]:
    """The tries: in each kind of checkpointing the largest micro-batch that fits, then smaller ones while they are faster."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    untrained = {name: weights.detach().cpu().clone() for name, weights in get_peft_model_state_dict(model).items()}
    dataset = dataset_of(probe_rows(rows, settings), settings)
    tries: list[Try] = []
    with tqdm(desc="trying shapes of a step", unit="shape") as bar:
        for checkpointing in kinds_of_checkpointing(settings):
            best = float("inf")
            for size in micro_batches(settings):
                tried = cut(settings.batch_share(together(settings)), size, checkpointing, together(settings))
                one = measure(model, tokenizer, dataset, settings, run, tried)
                tries.append(one)
                bar.update()
                if one.seconds is not None:
                    if one.seconds >= best:
                        break
                    best = one.seconds
            if tries[-1].seconds and not any(one.seconds is None for one in tries):
                break  # all of it fits: computing activations twice can only cost time
    set_peft_model_state_dict(model, untrained)
    if not any(one.seconds for one in tries):
        raise OutOfMemory(advice(settings))
    return tries


def kinds_of_checkpointing(settings: config.RunConfig) -> list[str]:
    """What `auto` stands for, in the order to try; else what the settings say."""
    if settings.gradient_checkpointing != "auto":
        return [settings.gradient_checkpointing]
    return ["off", "unsloth" if machine.engine(settings.engine) == "unsloth" else "standard"]


def micro_batches(settings: config.RunConfig) -> list[int]:
    """The sizes of micro-batch to try: all that divide a process's share of a step, largest first; of a given one, it or the next
    smaller that does.
    """
    share, given = settings.batch_share(together(settings)), settings.per_device_train_batch_size
    sizes = [size for size in range(share, 0, -1) if share % size == 0]
    return [size for size in sizes if size <= given][:1] if given else sizes


def probe_rows(rows: Sequence[Row], settings: config.RunConfig) -> list[Row]:
    """Rows for the steps of a try: the longest first, then steps as the training takes them: drawn at random, or of like length.

    Of like length are those about the quarters of all lengths; a step drawn at random would be padded to a length that grouped
    ones seldom have, which larger micro-batches suffer from most.
    """
    packed = 1
    if settings.packing:
        packed = max(1, settings.max_seq_length // round(statistics.fmean(len(row.input_ids) for row in rows)))
    count = settings.batch_share(together(settings)) * packed
    longest = sorted(rows, key=lambda row: -len(row.input_ids))
    first = [longest[place % len(longest)] for place in range(count)]
    if settings.train_sampling_strategy != "group_by_length":
        return first + random.Random(settings.seed).choices(rows, k=TIMED_STEPS * count)
    middles = [len(longest) * (2 * step + 1) // (2 * TIMED_STEPS) for step in range(TIMED_STEPS)]
    return first + [longest[(middle - count // 2 + place) % len(longest)] for middle in middles for place in range(count)]


def measure(model: Any, tokenizer: Any, dataset: Any, settings: config.RunConfig, run: Run, tried: Shape) -> Try:
    """Take a few steps in one shape."""
    import torch

    from helpers.meter import Stopwatch

    watch = Stopwatch()
    options = {"max_steps": 1 + TIMED_STEPS, "train_sampling_strategy": "sequential", "save_strategy": "no"}
    reset_peak_memory()
    trainer = None
    try:
        trainer = make_trainer(model, tokenizer, dataset, settings, run, tried, **options)
        trainer.add_callback(watch)
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
        return Try(shape=tried)
    timed = watch.steps[1:]
    return Try(
        shape=tried,
        seconds=round(statistics.median(seconds for seconds, _ in timed), 5),
        tokens=statistics.fmean(tokens for _, tokens in timed),
        peak_memory_gib=round(peak_memory_gib(), 3),
    )


def advice(settings: config.RunConfig) -> str:
    """What to lower when the memory does not hold one example, in order, and what each costs."""
    return (
        "The GPU's memory does not hold one example at a time. Lower, in this order:\n"
        f"  max_seq_length (now {settings.max_seq_length}): drops the longest examples, in 02 Data and a new run_dir;\n"
        f"  gradient_checkpointing='unsloth' (now {settings.gradient_checkpointing!r}): a little slower;\n"
        f"  load_in_4bit=True (now {settings.load_in_4bit}): a quarter of the weights' memory, a little less accurate."
    )
