"""Samplers: an order of training examples that is the same in any number of processes and after a resumption.

Imports TRL, so import it late.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import RandomSampler, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTTrainer


class GroupedByLength(LengthGroupedSampler):
    """Examples of similar length together, one batch at a time, in another order each epoch.

    Its parent draws from torch's global generator, whose state a resumed training lacks, and goes from long batches to short ones
    over and over. Here the batches are shuffled.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch."""
        self.generator.manual_seed(self.seed + epoch)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of the examples, batch after batch."""
        indices = list(super().__iter__())
        batches = [indices[begin : begin + self.batch_size] for begin in range(0, len(indices), self.batch_size)]
        full = len(indices) // self.batch_size  # a batch that is not full stays the last: it would shift those behind it
        order = torch.randperm(full, generator=self.generator).tolist()
        return iter([index for batch in [*order, *range(full, len(batches))] for index in batches[batch]])


class FullBatches(Sampler):
    """A sampler's order, the last batch of each epoch filled up with examples of the first.

    Several processes would each fill an incomplete batch in their own way, and so learn from other examples than one process.
    """

    def __init__(self, sampler: Any, batch_size: int) -> None:
        self.sampler, self.batch_size = sampler, batch_size

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size) * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of the examples, batch after batch."""
        return itertools.islice(itertools.cycle(list(self.sampler)), len(self))


class SetEpoch(TrainerCallback):
    """Tells the sampler the epoch. Accelerate does not, where several processes skip what was trained before."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, train_dataloader: Any, **kwargs: Any
    ) -> None:
        """Find the sampler under the shards of each process."""
        batches = train_dataloader.batch_sampler
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        if hasattr(batches.sampler, "set_epoch"):
            batches.sampler.set_epoch(int(state.epoch or 0))


class Trainer(SFTTrainer):
    """TRL's SFTTrainer with full batches; it groups by length across the whole batch, not one process's share."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(SetEpoch())

    def _get_train_sampler(self, *args: Any) -> Any:
        sampler, seed, processes = super()._get_train_sampler(*args), self.args.data_seed, self.args.world_size
        if isinstance(sampler, LengthGroupedSampler):
            order = GroupedByLength(sampler.batch_size * processes, sampler.lengths, seed)
        elif isinstance(sampler, RandomSampler):
            order = SeedableRandomSampler(sampler.data_source, data_seed=seed)
        else:
            return sampler
        return FullBatches(order, self._train_batch_size * self.args.gradient_accumulation_steps * processes)
