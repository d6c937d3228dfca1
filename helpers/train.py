"""Step 4, Train: fit the adapter, and the reranker, with the loss on the completion only; measured and resumable."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from helpers import data, models
from helpers.prompts import tokens
from helpers.prompts.tokens import Row
from helpers.run import processes
from helpers.run.config import RunConfig
from helpers.run.folder import Run
from helpers.run.memory import reset_peak_memory
from helpers.run.say import say
from helpers.trainer import adapter, batch_size, checkpoints
from helpers.trainer.batch_size import Plan
from helpers.trainer.outcome import Outcome
from helpers.trainer.trainer import BatchLayout, make_dataset, make_trainer, split_batch

RERANKER = "channel"  # folder of the reranker's training in a run
RERANKER_LENGTH = {"num_train_epochs": 3.0, "max_steps": 0}


class TrainingStopped(RuntimeError):
    """Training ended before its last step; the message says how to resume."""


def load(run: Run, settings: RunConfig) -> tuple[Any, Any, list[Row]]:
    """Return the model with a fresh adapter, its tokenizer, and the run's tokenised training examples.

    Raises: as `models.load`.
    """
    model, tokenizer = models.load(settings)
    return model, tokenizer, data.read_training_rows(run, tokenizer)


def plan(model: Any, tokenizer: Any, rows: Sequence[Row], settings: RunConfig, run: Run) -> Plan:
    """Find the fastest micro-batch that fits, and estimate what training will cost (`batch_size.plan`)."""
    return batch_size.plan(model, tokenizer, rows, settings, run)


def save(model: Any, tokenizer: Any, settings: RunConfig, run: Run, outcome: Outcome) -> Path:
    """Write the adapter with tokenizer and model card, its zip, and its entry in record.json; return the zip's path."""
    return adapter.save(model, tokenizer, settings, run, outcome)


def train(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: RunConfig,
    run: Run,
    *,
    resume: bool = True,
    layout: BatchLayout | None = None,
    launch: Callable[..., None] | None = None,
) -> Outcome:
    """Train the adapter, and resume from the newest whole checkpoint in the run folder if there is one.

    Where the micro-batch is left open, the fastest that fits is taken (`plan`). If the GPU's memory runs out all the same, the
    micro-batch is made smaller and the batch size kept. With `num_processes` above 1, that many processes do the work, and what
    they have learned is loaded into this model.

    Args:
        rows: tokenised examples, none over settings.max_seq_length tokens.
        resume: False deletes existing checkpoints and starts afresh.
        layout: of a batch, where it is known.
        launch: starts the job that does this training in several processes; None is that of 04 Train.

    Raises:
        OtherConfiguration: the checkpoints belong to other settings or data.
        TrainingStopped: interrupted by the user, or one of several processes ended; the checkpoints are kept.
        batch_size.OutOfMemory: a micro-batch of one example does not fit.
        ValueError: a row is too long.
    """
    import torch
    from peft import set_peft_model_state_dict

    refuse_long_rows(rows, settings)
    with processes.main_process_first():
        checkpoints.prepare(run, settings, rows, resume=resume)
    untrained = models.adapter_weights(model)
    dataset = make_dataset(rows, settings)
    layout = layout or choose_layout(model, tokenizer, rows, settings, run)
    launch = launch or functools.partial(processes.launch, "train", run)
    take = attempt if layout.processes == processes.world_size() else functools.partial(attempt_distributed, launch)
    reset_peak_memory()
    while True:
        try:
            return take(model, tokenizer, dataset, settings, run, layout)
        except torch.cuda.OutOfMemoryError as error:
            if processes.is_distributed():  # the others wait for this one: all end, and who started them uses a smaller layout
                raise
            smaller = layout.smaller()
            if smaller is None:
                raise batch_size.OutOfMemory(batch_size.advice(settings)) from error
        # Outside of the except block: its error holds on to the tensors that are to be freed.
        say(
            f"Out of GPU memory with {layout.per_device_train_batch_size} examples at a time: going on with "
            f"{smaller.per_device_train_batch_size}; the batch size stays {settings.train_batch_size}"
        )
        layout = smaller
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        set_peft_model_state_dict(model, untrained)


def refuse_long_rows(rows: Sequence[Row], settings: RunConfig) -> None:
    """Raise ValueError if an example is longer than max_seq_length: the trainer would cut it."""
    longest = max(len(row.input_ids) for row in rows)
    if longest > settings.max_seq_length:
        raise ValueError(
            f"A row has {longest} tokens, max_seq_length is {settings.max_seq_length}: it would be cut. Run 02 Data again."
        )


def choose_layout(model: Any, tokenizer: Any, rows: Sequence[Row], settings: RunConfig, run: Run) -> BatchLayout:
    """Return the batch layout of the settings; what they leave open is searched for."""
    checkpointing, count = settings.gradient_checkpointing, batch_size.process_count(settings)
    if settings.per_device_train_batch_size and checkpointing != "auto":
        return split_batch(settings.batch_share(count), batch_size.micro_batches(settings)[0], checkpointing, count)
    return plan(model, tokenizer, rows, settings, run).best.layout


def attempt(model: Any, tokenizer: Any, dataset: Any, settings: RunConfig, run: Run, layout: BatchLayout) -> Outcome:
    """Train in one layout, from the newest whole checkpoint or the start."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    from helpers.trainer.callbacks import ProgressLog

    with processes.main_process_first():
        checkpoint = checkpoints.newest(run)
    steps = settings.steps(len(dataset))
    progress = ProgressLog(run, steps, checkpoint)
    if is_done(checkpoint, steps):  # the trainer would take one step more
        progress.bar.close()
        set_peft_model_state_dict(model, load_file(checkpoint / "adapter_model.safetensors"))
        micro_batch = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["train_batch_size"]
        share = layout.batch_size // layout.processes
        return outcome_of(progress.log, split_batch(share, micro_batch, layout.gradient_checkpointing, layout.processes), 0)
    trainer = make_trainer(model, tokenizer, dataset, settings, run, layout)
    trainer.add_callback(progress)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyboardInterrupt:
        raise TrainingStopped(f"Stopped by hand at step {trainer.state.global_step}; {how_to_resume(run)}.") from None
    finally:
        progress.bar.close()
        trainer.accelerator.free_memory()
    done = checkpoints.step(checkpoint) if checkpoint else 0
    return outcome_of(progress.log, layout, len(progress.log) - done)


def outcome_of(log: list[dict[str, float]], layout: BatchLayout, new_steps: int) -> Outcome:
    """Return the outcome of a training with this log, in this layout."""
    return Outcome(
        log=log,
        per_device_train_batch_size=layout.per_device_train_batch_size,
        gradient_accumulation_steps=layout.gradient_accumulation_steps,
        processes=layout.processes,
        new_steps=new_steps,
    )


def is_done(checkpoint: Path | None, steps: int) -> bool:
    """Whether a checkpoint is that of the last step."""
    return checkpoint is not None and checkpoints.step(checkpoint) >= steps


def attempt_distributed(
    launch: Callable[..., None], model: Any, tokenizer: Any, dataset: Any, settings: RunConfig, run: Run, layout: BatchLayout
) -> Outcome:
    """Train in several processes, then load their last checkpoint into this process's model."""
    try:
        if not is_done(checkpoints.newest(run), settings.steps(len(dataset))):
            launch(layout.processes, "--shape", json.dumps(dataclasses.asdict(layout)))
    except KeyboardInterrupt:
        raise TrainingStopped(f"Stopped by hand; {how_to_resume(run)}.") from None
    except processes.ProcessesFailed as error:
        raise TrainingStopped(f"{error}\n  {how_to_resume(run)}.") from None
    return attempt(model, tokenizer, dataset, settings, run, layout)


def how_to_resume(run: Run) -> str:
    """Return what is left of a training that was stopped, and how to go on."""
    kept = checkpoints.newest(run)
    if kept is None:
        return "there was no checkpoint yet: it will start again"
    return f"{kept.name} is kept: run the same again to resume from it"


# ---- the reranker


def train_reranker(run: Run, settings: RunConfig, layout: BatchLayout | None = None, *, resume: bool = True) -> Outcome | None:
    """Train the noisy-channel reranker from SQL to question, on the run's own training examples, in its folder `channel/`.

    Args:
        layout: of a batch, where it is known.
        resume: resume from its newest checkpoint; False deletes it.

    Returns:
        the outcome; None where `rerank_weight` is 0.

    Raises: as `train`, and
        ValueError: all examples are longer than max_seq_length.
    """
    if not settings.rerank_weight:
        return None
    own = settings.with_overrides(RERANKER_LENGTH, "the reranker")
    model, tokenizer = models.load(own)
    rows = reranker_rows(run, tokenizer)
    fitting = [row for row in rows if len(row.input_ids) <= own.max_seq_length]
    if not fitting:
        raise ValueError(
            f"All {len(rows):,} examples for the reranker are longer than max_seq_length={own.max_seq_length}: "
            "raise it in a new run"
        )
    part = Run(run / RERANKER)
    part.path.mkdir(exist_ok=True)
    launch = functools.partial(processes.launch, RERANKER, run)
    outcome = train(model, tokenizer, fitting, own, part, layout=layout, launch=launch, resume=resume)
    if processes.is_main_process():
        with part.new_folder("adapter") as folder:
            model.save_pretrained(folder)
        if outcome.new_steps:
            run.add_to_record(**{RERANKER: outcome.record()})
    return outcome


def reranker_rows(run: Run, tokenizer: Any) -> list[Row]:
    """Return each distinct pair once: the completion (SQL or IR) as prompt, the question as completion."""
    pairs = dict.fromkeys((one["completion"], one["question"]) for one in run.read_jsonl("data/train.jsonl"))
    return tokens.training_rows(tokenizer, list(pairs))
