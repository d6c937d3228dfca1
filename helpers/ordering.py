"""The order of training examples, the same in any number of processes and after a resumption. Imports TRL, so import it late."""

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


class ByLength(LengthGroupedSampler):
    """Examples of like length together, a step's at a time, in an order of its own in every epoch.

    Its parent draws from torch's global generator, which a resumed training has in another state, and goes from long steps to
    short ones over and over: here the steps are mixed.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch."""
        self.generator.manual_seed(self.seed + epoch)

    def __iter__(self) -> Iterator[int]:
        """The places of the examples, one step's behind another's."""
        places = list(super().__iter__())
        steps = [places[begin : begin + self.batch_size] for begin in range(0, len(places), self.batch_size)]
        whole = len(places) // self.batch_size  # a step that is not full stays the last: it would shift those behind it
        order = torch.randperm(whole, generator=self.generator).tolist()
        return iter([place for step in [*order, *range(whole, len(steps))] for place in steps[step]])


class Whole(Sampler):
    """A sampler's order, the last step of each epoch filled up with examples of the first.

    Several processes would fill a step that is not whole each in its own way, and so learn from other examples than one does.
    """

    def __init__(self, sampler: Any, step: int) -> None:
        self.sampler, self.step = sampler, step

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.step) * self.step

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        """The places of the examples, one step's behind another's."""
        return itertools.islice(itertools.cycle(list(self.sampler)), len(self))


class Epochs(TrainerCallback):
    """Tells the sampler the epoch: accelerate does not, where several processes skip what was trained before."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, train_dataloader: Any, **kwargs: Any
    ) -> None:
        """Look for the sampler under the shards of each process."""
        batches = train_dataloader.batch_sampler
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        if hasattr(batches.sampler, "set_epoch"):
            batches.sampler.set_epoch(int(state.epoch or 0))


class Trainer(SFTTrainer):
    """TRL's, with steps that are whole, and groups by length of the whole step and not of one process's share."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(Epochs())

    def _get_train_sampler(self, *args: Any) -> Any:
        sampler, seed, together = super()._get_train_sampler(*args), self.args.data_seed, self.args.world_size
        if isinstance(sampler, LengthGroupedSampler):
            order = ByLength(sampler.batch_size * together, sampler.lengths, seed)
        elif isinstance(sampler, RandomSampler):
            order = SeedableRandomSampler(sampler.data_source, data_seed=seed)
        else:
            return sampler
        return Whole(order, self._train_batch_size * self.args.gradient_accumulation_steps * together)
