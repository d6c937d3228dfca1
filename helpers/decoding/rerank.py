"""Noisy-channel reranker: a second LoRA adapter that scores how well each candidate query explains the question.

The first adapter gives P(SQL | question). By Bayes' rule that grows with P(question | SQL), which the first adapter never learned
to estimate. The reranker is trained from SQL to question, so a candidate that ignores words of the question scores low.

Source: Yee, Dauphin and Auli, "Simple and Effective Noisy Channel Modeling for Neural Machine Translation", EMNLP 2019.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.decoding import generate
from helpers.decoding.generate import Beams
from helpers.prompts import tokens
from helpers.run.config import RunConfig
from helpers.run.folder import MissingStep, Run

NAME = "channel"  # of the adapter, and of its folder in a run


def attach(model: Any, run: Run) -> None:
    """Load the run's reranker into the model, inactive, beside the first adapter.

    Raises:
        MissingStep: the run has none.
    """
    folder = run / NAME / "adapter"
    if not folder.is_dir():
        raise MissingStep(
            f"rerank_weight is set, but {run.path.name} has no {NAME}/adapter.\n"
            "  Run 04 Train again: it trains only what is missing. Or set rerank_weight=0."
        )
    model.load_adapter(str(folder), adapter_name=NAME)


def is_attached(model: Any) -> bool:
    """Whether the model holds a reranker."""
    return NAME in getattr(model, "peft_config", {})


@contextlib.contextmanager
def active(model: Any) -> Iterator[None]:
    """Activate the reranker in place of the first adapter within the block."""
    first = model.active_adapter
    model.set_adapter(NAME)
    try:
        yield
    finally:
        model.set_adapter(first)


def rescore(
    model: Any, tokenizer: Any, beams: Beams, questions: Sequence[str], settings: RunConfig, *, progress: str = ""
) -> Beams:
    """Add the reranker's score to each candidate: log P(SQL | question) + rerank_weight * log P(question | SQL).

    Args:
        beams: for each question its candidates, (text, log probability) each.
        questions: the text of each.
        progress: title of a progress bar; '' shows none.

    Returns:
        the same texts with their new log probabilities (nats), normalized for each question (`normalized`).
    """
    pairs = [(number, text) for number, candidates in enumerate(beams) for text, _ in candidates]
    messages = [text.strip() for _, text in pairs]
    ids = {message: tokens.prompt_ids(tokenizer, message) for message in dict.fromkeys(messages)}
    with active(model):
        scores = generate.score(
            model,
            tokenizer,
            [ids[message] for message in messages],
            [questions[number] for number, _ in pairs],
            batch_size=settings.per_device_eval_batch_size or generate.fitting_batch(model, settings.max_seq_length),
            progress=progress,
        )
    remaining = iter(scores)
    weight = settings.rerank_weight
    return [normalized([(text, log + weight * next(remaining)) for text, log in candidates]) for candidates in beams]


def normalized(candidates: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return the candidates of one question, best first, their log probabilities shifted so that the probabilities sum to 1."""
    if not candidates:
        return []
    highest = max(log for _, log in candidates)
    total = highest + math.log(sum(math.exp(log - highest) for _, log in candidates))
    return sorted(((text, log - total) for text, log in candidates), key=lambda candidate: -candidate[1])
