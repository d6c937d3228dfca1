"""Text -> a tuned model: TRL's SFTTrainer with the loss on the completion alone, forecast, measured and resumable."""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helpers import checkpoints, config, environment, models, runs
from helpers.prompts import Row

if TYPE_CHECKING:
    import pandas as pd

SKIPPED_STEPS = 2  # left out of the speed: the first steps compile kernels and grow the memory pool


class TrainingStopped(RuntimeError):
    """Training ended before its last step; the message says how to go on."""


class OutOfMemory(RuntimeError):
    """Not even one example at a time fits the GPU; the message names what to lower."""


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
        }
        return pd.Series({names[key]: f"{value:,}" for key, value in self.record().items()}, name="measured").to_frame()


# ---- before


def forecast(model: Any, rows: Sequence[Row], settings: config.RunConfig) -> str:
    """Steps, tokens and minutes of the training to come, in one sentence.

    The time is that of one forward pass over a micro-batch of rows of middle length, times three, for a backward pass costs about
    two forward ones; times four with gradient checkpointing, which makes the forward pass twice. A real backward pass here would
    spoil the kernels that Unsloth compiles for the trainer.
    """
    steps = settings.steps(len(rows))
    lengths = [len(row.input_ids) for row in rows]
    middle = sorted(rows, key=lambda row: len(row.input_ids))[len(rows) // 2]
    forward_pass(model, [middle], settings)  # warms up
    begin = time.perf_counter()
    forward_pass(model, [middle] * settings.per_device_train_batch_size, settings)
    seconds = (3 if settings.gradient_checkpointing == "off" else 4) * (time.perf_counter() - begin)
    examples = steps * settings.effective_batch
    return (
        f"{steps:,} steps x {settings.effective_batch} examples = {examples:,} of {len(rows):,} "
        f"({examples / len(rows):.2f} epochs), about {examples * statistics.fmean(lengths):,.0f} tokens; "
        f"about {steps * settings.gradient_accumulation_steps * seconds / 60:.1f} min on this machine"
    )


def forward_pass(model: Any, rows: Sequence[Row], settings: config.RunConfig) -> None:
    """One forward pass over rows of one length, waited for."""
    import torch

    ids = torch.tensor([row.input_ids for row in rows], device=model.device)
    kind = environment.precision(settings.precision)
    with torch.no_grad(), torch.autocast(model.device.type, dtype=models.torch_dtype(settings), enabled=kind != "fp32"):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=1)
    if environment.gpu() is not None:
        torch.cuda.synchronize()


# ---- the training


def train(
    model: Any, tokenizer: Any, rows: Sequence[Row], settings: config.RunConfig, run: runs.Run, *, resume: bool = True
) -> Outcome:
    """Train the adapter, and go on from the newest whole checkpoint in the run folder if there is one.

    When the GPU's memory runs out, the micro-batch is halved and the effective batch kept.

    Args:
        rows: tokenised examples, none over settings.max_seq_length tokens.
        resume: False throws existing checkpoints away and starts afresh.

    Raises:
        runs.OtherConfiguration: the checkpoints belong to other settings or data.
        TrainingStopped: interrupted by the user; the checkpoints are kept.
        OutOfMemory: a micro-batch of one example does not fit.
    """
    import torch
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    too_long = max(len(row.input_ids) for row in rows)
    if too_long > settings.max_seq_length:
        raise ValueError(
            f"A row has {too_long} tokens, max_seq_length is {settings.max_seq_length}: it would be cut. Run 02 Data again."
        )
    checkpoints.prepare(run, settings, rows, resume=resume)
    untrained = {name: weights.detach().cpu().clone() for name, weights in get_peft_model_state_dict(model).items()}
    micro_batch, accumulation = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    while True:
        try:
            return attempt(model, tokenizer, rows, settings, run, micro_batch, accumulation)
        except torch.cuda.OutOfMemoryError as error:
            if micro_batch == 1:
                raise OutOfMemory(out_of_memory_advice(settings)) from error
        # Outside of the except block: its error holds on to the tensors that are to be freed.
        smaller = max(size for size in range(1, micro_batch) if settings.effective_batch % size == 0)
        print(
            f"Out of GPU memory with {micro_batch} examples at a time: going on with {smaller}; "
            f"the effective batch stays {settings.effective_batch}"
        )
        micro_batch, accumulation = smaller, settings.effective_batch // smaller
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        set_peft_model_state_dict(model, untrained)


def out_of_memory_advice(settings: config.RunConfig) -> str:
    """What to lower, in order, and what each costs."""
    return (
        "The GPU's memory does not hold one example at a time. Lower, in this order:\n"
        f"  max_seq_length (now {settings.max_seq_length}): drops the longest examples, in 02 Data and a new run_dir;\n"
        f"  gradient_checkpointing='unsloth' (now {settings.gradient_checkpointing!r}): a little slower;\n"
        f"  load_in_4bit=True (now {settings.load_in_4bit}): a quarter of the weights' memory, a little less accurate."
    )


def attempt(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: config.RunConfig,
    run: runs.Run,
    micro_batch: int,
    accumulation: int,
) -> Outcome:
    """Train with one size of micro-batch, from the newest whole checkpoint or the start."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    from helpers.meter import Meter

    checkpoint, steps = checkpoints.newest(run), settings.steps(len(rows))
    meter = Meter(run, steps, checkpoint)
    if checkpoint and checkpoints.step(checkpoint) >= steps:  # the trainer would take one step more
        meter.bar.close()
        set_peft_model_state_dict(model, load_file(checkpoint / "adapter_model.safetensors"))
        micro_batch = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["train_batch_size"]
        accumulation = settings.effective_batch // micro_batch
        return Outcome(log=meter.log, per_device_train_batch_size=micro_batch, gradient_accumulation_steps=accumulation)
    trainer = make_trainer(model, tokenizer, rows, settings, run, micro_batch, accumulation)
    trainer.add_callback(meter)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyboardInterrupt:
        kept = checkpoints.newest(run)
        where = (
            f"{kept.name} is kept: run the same again to go on from it"
            if kept
            else "there was no checkpoint yet: it will start again"
        )
        raise TrainingStopped(f"Stopped by hand at step {trainer.state.global_step}; {where}.") from None
    finally:
        meter.bar.close()
        trainer.accelerator.free_memory()
    done = checkpoints.step(checkpoint) if checkpoint else 0
    return Outcome(
        log=meter.log,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        new_steps=len(meter.log) - done,
    )


def make_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: config.RunConfig,
    run: runs.Run,
    micro_batch: int,
    accumulation: int,
) -> Any:
    """TRL's trainer for these settings, silent: the meter shows the progress."""
    from datasets import Dataset, disable_progress_bars
    from transformers import PrinterCallback
    from transformers.trainer_callback import ProgressCallback
    from trl import SFTConfig, SFTTrainer

    kind = environment.precision(settings.precision)
    arguments = SFTConfig(
        output_dir=str(run / checkpoints.FOLDER),
        # what is learned from
        max_length=settings.max_seq_length,  # asserted above: nothing is cut
        completion_only_loss=True,
        packing=settings.packing,
        padding_free=settings.packing,  # set, for Unsloth turns it on where it is not
        # how much at a time, and how long
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        max_steps=settings.max_steps or -1,
        num_train_epochs=settings.num_train_epochs,
        # the optimiser
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        optim=settings.optim,
        seed=settings.seed,
        data_seed=settings.seed,
        # the machine: TRL's own defaults (bf16, checkpointing) would slow a CPU
        bf16=kind == "bf16",
        fp16=kind == "fp16",
        use_cpu=environment.gpu() is None,
        gradient_checkpointing=settings.gradient_checkpointing != "off",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        dataloader_pin_memory=settings.dataloader_pin_memory,
        # what is kept and shown
        logging_steps=1,
        include_num_input_tokens_seen="non_padding",
        save_steps=settings.save_steps,
        save_total_limit=2,  # the one before is the way back from a damaged one
        report_to="none",
        disable_tqdm=True,
    )
    disable_progress_bars()  # three bars for one second of work
    columns = [{"input_ids": row.input_ids, "completion_mask": row.completion_mask} for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        trainer = SFTTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(columns), processing_class=tokenizer)
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer
