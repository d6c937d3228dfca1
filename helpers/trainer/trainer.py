"""Construct TRL's SFTTrainer from the settings, and lay out its batches."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from helpers import models
from helpers.prompts.tokens import Row
from helpers.run import machine
from helpers.run.config import RunConfig
from helpers.run.folder import Run
from helpers.trainer import checkpoints


@dataclass(frozen=True, kw_only=True)
class BatchLayout:
    """How one batch is cut into forward passes, in each of `processes` at the same time. Field names are TRL's."""

    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    gradient_checkpointing: str
    processes: int = 1

    @property
    def batch_size(self) -> int:
        """Examples behind one optimiser step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.processes

    def smaller(self) -> BatchLayout | None:
        """Return the layout with the next smaller micro-batch that divides the batch; None below one example."""
        share = self.batch_size // self.processes
        sizes = [size for size in range(1, self.per_device_train_batch_size) if share % size == 0]
        return split_batch(share, sizes[-1], self.gradient_checkpointing, self.processes) if sizes else None

    def __str__(self) -> str:
        checkpointing = {"off": "no checkpointing", "standard": "checkpointing", "unsloth": "Unsloth's checkpointing"}
        counts = f"{self.per_device_train_batch_size} x {self.gradient_accumulation_steps}"
        together = f" in {self.processes} processes" if self.processes > 1 else ""
        return f"{counts}{together}, {checkpointing[self.gradient_checkpointing]}"


def split_batch(share: int, micro_batch: int, checkpointing: str, processes: int = 1) -> BatchLayout:
    """Cut each process's share of a batch into micro-batches of one size.

    Args:
        share: examples of a batch that fall to each process.
        micro_batch: must divide `share`.
    """
    return BatchLayout(
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=share // micro_batch,
        gradient_checkpointing=checkpointing,
        processes=processes,
    )


def make_dataset(rows: Sequence[Row], settings: RunConfig) -> Any:
    """Return what the trainer reads: one example a row, or with packing as many as fit max_seq_length, none of them cut.

    Packed examples keep their own positions, by which attention knows where one ends: they do not see each other.
    """
    from datasets import Dataset, disable_progress_bars
    from trl import pack_dataset

    disable_progress_bars()  # three bars for one second of work
    columns = {"input_ids": [row.input_ids for row in rows], "completion_mask": [row.completion_mask for row in rows]}
    dataset = Dataset.from_dict(columns)
    return pack_dataset(dataset, settings.max_seq_length, "bfd") if settings.packing else dataset


def make_trainer(
    model: Any, tokenizer: Any, dataset: Any, settings: RunConfig, run: Run, layout: BatchLayout, **options: Any
) -> Any:
    """Return TRL's trainer for these settings, silent: `callbacks.ProgressLog` shows the progress.

    Args:
        dataset: from `make_dataset`.
        options: arguments of SFTConfig that replace those of the settings.
    """
    from transformers import PrinterCallback
    from transformers.trainer_callback import ProgressCallback
    from trl import SFTConfig

    from helpers.trainer.order import Trainer

    if settings.gradient_checkpointing == "auto":
        models.set_checkpointing(model, layout.gradient_checkpointing != "off")
    arguments = trainer_arguments(settings, run, layout) | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        trainer = Trainer(model=model, args=SFTConfig(**arguments), train_dataset=dataset, processing_class=tokenizer)
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def trainer_arguments(settings: RunConfig, run: Run, layout: BatchLayout) -> dict[str, Any]:
    """Return the arguments of TRL's SFTConfig. Defaults that would slow a CPU or cut examples are set explicitly."""
    kind = machine.precision(settings.precision)
    return {
        "output_dir": str(run / checkpoints.FOLDER),
        # what is learned from
        "max_length": None if settings.packing else settings.max_seq_length,  # `train` has checked that nothing is cut
        "packing": False,  # the rows are packed already
        "padding_free": settings.packing,  # always set, for Unsloth turns it on where it is not
        "completion_only_loss": True,
        # Neither loss ever holds the logits of all tokens: TRL's computes those of the completions, in chunks, Unsloth's its own.
        "loss_type": "nll" if machine.engine(settings.engine) == "unsloth" else "chunked_nll",
        # how much at a time, and how long
        "per_device_train_batch_size": layout.per_device_train_batch_size,
        "gradient_accumulation_steps": layout.gradient_accumulation_steps,
        "train_sampling_strategy": settings.train_sampling_strategy,
        "max_steps": settings.max_steps or -1,
        "num_train_epochs": settings.num_train_epochs,
        # the optimiser
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_scheduler_type,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "optim": settings.optim,
        "seed": settings.seed,
        "data_seed": settings.seed,
        # the machine: TRL's own defaults (bf16, checkpointing) would slow a CPU
        "bf16": kind == "bf16",
        "fp16": kind == "fp16",
        "use_cpu": machine.gpu() is None,
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,  # they are tables of positions, and never change
        "gradient_checkpointing": layout.gradient_checkpointing != "off",
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "dataloader_pin_memory": False,
        # what is kept and shown
        "logging_steps": 1,
        "include_num_input_tokens_seen": "non_padding",
        "save_steps": settings.save_steps,
        "save_total_limit": 2,  # the one before is the way back from a damaged one
        "report_to": "none",
        "disable_tqdm": True,
    }
