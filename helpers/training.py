"""Text -> a tuned model: TRL's SFTTrainer with the loss on the completion alone, measured and resumable."""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import checkpoints, models, probe, prompts, rerank
from helpers.prompts import Row
from helpers.run import config, processes
from helpers.run.folder import Run
from helpers.run.memory import reset_peak_memory
from helpers.trainer import Shape, cut, dataset_of, make_trainer

if TYPE_CHECKING:
    import pandas as pd

SKIPPED_STEPS = 2  # left out of the speed: the first steps compile kernels and grow the memory pool


class TrainingStopped(RuntimeError):
    """Training ended before its last step; the message says how to go on."""


@dataclass(kw_only=True)
class Outcome:
    """What a training came to.

    Attributes:
        log: one entry a step: step, loss, learning_rate, seconds, tokens (padding left out), peak_memory_gib (so far, of the GPU,
            or of this process without one).
        per_device_train_batch_size: the micro-batch in the end, smaller than asked for if memory ran out.
        new_steps: how many steps of the log were made just now, not in an earlier call.
    """

    log: list[dict[str, float]] = field(default_factory=list)
    per_device_train_batch_size: int = 0
    gradient_accumulation_steps: int = 0
    processes: int = 1
    new_steps: int = field(default=0, compare=False)

    def measured(self) -> list[dict[str, float]]:
        """The steps that count for the speed."""
        return self.log[SKIPPED_STEPS:] or self.log

    def record(self) -> dict[str, Any]:
        """The `train` entry of record.json."""
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
        """The record as a pandas table."""
        import pandas as pd

        names = {
            "steps": "steps",
            "seconds": "seconds, all steps",
            "seconds_per_step": "s/step (median)",
            "tokens_per_second": "tokens/s (padding left out)",
            "peak_memory_gib": "peak memory (GiB)",
            "first_loss": "loss of the first step",
            "final_loss": "loss, mean of the last 10 steps",
            "per_device_train_batch_size": "micro-batch",
            "gradient_accumulation_steps": "micro-batches a step",
            "processes": "processes, a GPU each",
        }
        return pd.Series({names[key]: f"{value:,}" for key, value in self.record().items()}, name="measured").to_frame()


def train(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: config.RunConfig,
    run: Run,
    *,
    resume: bool = True,
    shape: Shape | None = None,
    start: Callable[..., None] | None = None,
) -> Outcome:
    """Train the adapter, and go on from the newest whole checkpoint in the run folder if there is one.

    With an automatic micro-batch it takes the fastest that fits (`probe.plan`). When the GPU's memory runs out all the same, the
    micro-batch is made smaller and the effective batch kept. With `num_processes` over 1 it starts so many for the work and
    takes over what they have learned.

    Args:
        rows: tokenised examples, none over settings.max_seq_length tokens.
        resume: False throws existing checkpoints away and starts afresh.
        shape: of a step, where it is known.
        start: `processes.start` with the job that does this training in several processes; None is that of 04 Train.

    Raises:
        runs.OtherConfiguration: the checkpoints belong to other settings or data.
        TrainingStopped: interrupted by the user, or one of several processes ended; the checkpoints are kept.
        probe.OutOfMemory: a micro-batch of one example does not fit.
    """
    import torch
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    too_long = max(len(row.input_ids) for row in rows)
    if too_long > settings.max_seq_length:
        raise ValueError(
            f"A row has {too_long} tokens, max_seq_length is {settings.max_seq_length}: it would be cut. Run 02 Data again."
        )
    with processes.main_process_first():
        checkpoints.prepare(run, settings, rows, resume=resume)
    untrained = {name: weights.detach().cpu().clone() for name, weights in get_peft_model_state_dict(model).items()}
    dataset = dataset_of(rows, settings)
    shape = shape or chosen_shape(model, tokenizer, rows, settings, run)
    start = start or functools.partial(processes.launch, "train", run)
    take = attempt if shape.processes == processes.world_size() else functools.partial(attempt_together, start)
    reset_peak_memory()
    while True:
        try:
            return take(model, tokenizer, dataset, settings, run, shape)
        except torch.cuda.OutOfMemoryError as error:
            if processes.is_distributed():  # the others wait for this one: all end, and who started them makes the shape smaller
                raise
            smaller = shape.smaller()
            if smaller is None:
                raise probe.OutOfMemory(probe.advice(settings)) from error
        # Outside of the except block: its error holds on to the tensors that are to be freed.
        print(
            f"Out of GPU memory with {shape.per_device_train_batch_size} examples at a time: going on with "
            f"{smaller.per_device_train_batch_size}; the batch size stays {settings.train_batch_size}"
        )
        shape = smaller
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        set_peft_model_state_dict(model, untrained)


def chosen_shape(model: Any, tokenizer: Any, rows: Sequence[Row], settings: config.RunConfig, run: Run) -> Shape:
    """The shape of a step: as the settings say, and what they leave open as a probe finds it."""
    checkpointing, together = settings.gradient_checkpointing, probe.together(settings)
    if settings.per_device_train_batch_size and checkpointing != "auto":
        return cut(settings.batch_share(together), probe.micro_batches(settings)[0], checkpointing, together)
    return probe.plan(model, tokenizer, rows, settings, run).best.shape


def attempt(model: Any, tokenizer: Any, dataset: Any, settings: config.RunConfig, run: Run, shape: Shape) -> Outcome:
    """Train in one shape of step, from the newest whole checkpoint or the start."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    from helpers.meter import Meter

    with processes.main_process_first():
        checkpoint = checkpoints.newest(run)
    steps = settings.steps(len(dataset))
    meter = Meter(run, steps, checkpoint)
    if is_done(checkpoint, steps):  # the trainer would take one step more
        meter.bar.close()
        set_peft_model_state_dict(model, load_file(checkpoint / "adapter_model.safetensors"))
        micro_batch = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["train_batch_size"]
        accumulation = shape.effective_batch // shape.processes // micro_batch
        return Outcome(
            log=meter.log,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=accumulation,
            processes=shape.processes,
        )
    trainer = make_trainer(model, tokenizer, dataset, settings, run, shape)
    trainer.add_callback(meter)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyboardInterrupt:
        raise TrainingStopped(f"Stopped by hand at step {trainer.state.global_step}; {how_to_go_on(run)}.") from None
    finally:
        meter.bar.close()
        trainer.accelerator.free_memory()
    done = checkpoints.step(checkpoint) if checkpoint else 0
    return Outcome(
        log=meter.log,
        per_device_train_batch_size=shape.per_device_train_batch_size,
        gradient_accumulation_steps=shape.gradient_accumulation_steps,
        processes=shape.processes,
        new_steps=len(meter.log) - done,
    )


def is_done(checkpoint: Path | None, steps: int) -> bool:
    """Whether a checkpoint is that of the last step."""
    return checkpoint is not None and checkpoints.step(checkpoint) >= steps


def attempt_together(
    start: Callable[..., None], model: Any, tokenizer: Any, dataset: Any, settings: config.RunConfig, run: Run, shape: Shape
) -> Outcome:
    """`attempt` by several processes, started for it; then their last checkpoint goes into this process's model."""
    try:
        if not is_done(checkpoints.newest(run), settings.steps(len(dataset))):
            start(shape.processes, "--shape", json.dumps(dataclasses.asdict(shape)))
    except KeyboardInterrupt:
        raise TrainingStopped(f"Stopped by hand; {how_to_go_on(run)}.") from None
    except processes.ProcessesFailed as error:
        raise TrainingStopped(f"{error}\n  {how_to_go_on(run)}.") from None
    return attempt(model, tokenizer, dataset, settings, run, shape)


def how_to_go_on(run: Run) -> str:
    """What is left of a training that was stopped."""
    kept = checkpoints.newest(run)
    if kept is None:
        return "there was no checkpoint yet: it will start again"
    return f"{kept.name} is kept: run the same again to go on from it"


RERANKER_LENGTH = {"num_train_epochs": 3.0, "max_steps": 0}


def train_reranker(
    run: Run, tokenizer: Any, settings: config.RunConfig, shape: Shape | None = None, *, resume: bool = True
) -> Outcome | None:
    """Train the noisy-channel reranker from SQL to question, on the run's own training examples, in its folder `channel/`.

    Args:
        shape: of a step, where it is known.
        resume: go on from its newest checkpoint; False throws it away.

    Returns:
        what the training came to; None where `rerank_weight` is 0.

    Raises: as `train`, and
        ValueError: all examples are longer than max_seq_length.
    """
    if not settings.rerank_weight:
        return None
    own = settings.with_overrides(RERANKER_LENGTH, "the reranker")
    rows = reranker_rows(run, tokenizer)
    fitting = [row for row in rows if len(row.input_ids) <= own.max_seq_length]
    if not fitting:
        raise ValueError(
            f"All {len(rows):,} examples for the reranker are longer than max_seq_length={own.max_seq_length}: "
            "raise it in a new run"
        )
    part = Run(run / rerank.NAME)
    part.path.mkdir(exist_ok=True)
    model, _ = models.load(own)
    start = functools.partial(processes.launch, "channel", run)
    outcome = train(model, tokenizer, fitting, own, part, shape=shape, start=start, resume=resume)
    if processes.is_main_process():
        with part.new_folder("adapter") as folder:
            model.save_pretrained(folder)
        if outcome.new_steps:
            run.add_to_record(channel=outcome.record())
    return outcome


def reranker_rows(run: Run, tokenizer: Any) -> list[Row]:
    """Each training example once, the SQL as prompt and the question as completion."""
    pairs = dict.fromkeys((one["completion"], one["question"]) for one in run.read_jsonl("data/train.jsonl"))
    return prompts.training_rows(tokenizer, list(pairs))
