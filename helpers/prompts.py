"""What the model reads and what it shall write: chat messages, tokens, and the mask of what counts in the loss."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from helpers import augment, spider, target
from helpers.databases.layout import Example
from helpers.run.config import RunConfig
from helpers.run.folder import OtherConfiguration, Run
from helpers.run.progress import tqdm
from helpers.spider import DataSet
from helpers.views import View, view

T = TypeVar("T")
DATE = "26 Jul 2024"  # given to chat templates: Llama 3.2's would write today's date, and so another prompt every day


class TemplateError(RuntimeError):
    """A chat template that renders a prompt otherwise alone than before its completion."""


def prompt_ids(tokenizer: Any, message: str) -> list[int]:
    """The tokens of a prompt, up to where the assistant begins to write."""
    return rendered(tokenizer, [[{"role": "user", "content": message}]], add_generation_prompt=True)[0]


def prompt_text(tokenizer: Any, message: str) -> str:
    """The prompt as text, special tokens included, up to where the assistant begins to write."""
    return chat_text(tokenizer, [{"role": "user", "content": message}], add_generation_prompt=True)


def chat_text(tokenizer: Any, messages: list[dict], **options: Any) -> str:
    """A conversation by the tokenizer's own chat template, with a fixed date (`DATE`)."""
    return tokenizer.apply_chat_template(messages, tokenize=False, date_string=DATE, **options)


def rendered(tokenizer: Any, conversations: Sequence[list[dict]], **options: Any) -> list[list[int]]:
    """Token ids of conversations, a list each."""
    texts = [chat_text(tokenizer, messages, **options) for messages in conversations]
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A tokenised example.

    Attributes:
        input_ids: prompt and completion, (length,).
        completion_mask: 0 for the prompt, 1 for what the loss counts: the SQL and the end of the turn, (length,).
    """

    input_ids: list[int]
    completion_mask: list[int]

    @property
    def completion_tokens(self) -> int:
        """How many tokens the loss counts."""
        return sum(self.completion_mask)


def training_row(tokenizer: Any, message: str, sql: str) -> Row:
    """One example to learn from.

        input_ids         <|user|> schema question <|assistant|>  SELECT … <|end|>
        completion_mask        0      0       0         0            1   1    1

    Raises:
        TemplateError: the prompt alone is not the beginning of the whole, so a mask by its length would be wrong.
    """
    return training_rows(tokenizer, [(message, sql)])[0]


def training_rows(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[Row]:
    """`training_row` for many pairs of a message and what is to be written, tokenised together.

    Raises: as `training_row`.
    """
    asked = [[{"role": "user", "content": message}] for message, _ in pairs]
    told = [[*turns, {"role": "assistant", "content": sql}] for turns, (_, sql) in zip(asked, pairs, strict=True)]
    if not pairs:
        return []
    prompts = rendered(tokenizer, asked, add_generation_prompt=True)
    return [as_row(tokenizer, *one) for one in zip(prompts, rendered(tokenizer, told), strict=True)]


def as_row(tokenizer: Any, prompt: list[int], whole: list[int]) -> Row:
    """The row of a rendered prompt, and of the same with its completion."""
    if whole[: len(prompt)] != prompt:
        raise TemplateError(
            "This tokenizer's chat template renders a prompt otherwise alone than before its completion, "
            "so the loss mask would be wrong. Use a model whose template has a generation prompt."
        )
    # Templates close the turn with a line end after the end-of-turn token; generation stops before it, so it is not learned.
    eos = tokenizer.eos_token_id  # looked up once: it takes longer than a comparison
    end = max((at for at, token in enumerate(whole) if token == eos), default=-1) + 1
    if end <= len(prompt):
        raise TemplateError(f"This tokenizer's chat template does not close a turn with its eos token {tokenizer.eos_token!r}")
    whole = whole[:end]
    return Row(input_ids=whole, completion_mask=[0] * len(prompt) + [1] * (len(whole) - len(prompt)))


def write_data(
    run: Run, dataset: DataSet, tokenizer: Any, settings: RunConfig
) -> tuple[list[tuple[Example, Row]], list[tuple[Example, Row]]]:
    """Write the run's data/train.jsonl and data/dev.jsonl: examples with the message that the model reads.

    An example makes `prompts_per_example` rows. Rows over `max_seq_length` tokens are set apart, never cut; examples whose
    gold the target form cannot say are left out, and counted. No dev question is left out.

    Returns:
        (kept, dropped) training examples, each with its tokens; an example stands there once a row.
    """
    seen = views(dataset, settings)
    chance = random.Random(settings.seed)
    trained_on = sorted({example.db_id for example in dataset.train})
    pool = augment.pool(seen(db_id).names for db_id in trained_on) if settings.renamed else None
    pairs, unsaid = [], 0
    for example in tqdm(draw(dataset.train, settings.train_examples, settings.seed), desc="training rows", unit="example"):
        view = seen(example.db_id)
        try:
            made = view.training_pairs(example.question, example.query, chance, pool)
        except target.Outside:
            unsaid += 1
            continue
        pairs += [(example, pair) for pair in made]
    rows = training_rows(tokenizer, [(pair.message, pair.completion) for _, pair in pairs])
    kept, dropped, train = [], [], []
    for (example, pair), row in zip(pairs, rows, strict=True):
        if len(row.input_ids) > settings.max_seq_length:
            dropped.append((example, row))
            continue
        kept.append((example, row))
        train.append(asdict(example) | pair._asdict())
    if not kept:
        raise ValueError(
            f"All {len(dropped):,} training examples are longer than max_seq_length={settings.max_seq_length}: raise it"
        )
    dev = [asdict(example) | {"message": seen(example.db_id).message(example.question)} for example in dataset.dev]
    run.write_jsonl("data/dev.jsonl", dev)
    run.write_jsonl("data/train.jsonl", train)
    unsaid_examples = {"outside_target_form": unsaid} if unsaid else {}
    run.add_to_record(
        data_name=dataset.name,
        data_note=dataset.note,
        date_string=DATE,
        data_sha256=dataset.sha256,
        train_examples={"kept": len(kept), "dropped": len(dropped)} | unsaid_examples,
    )
    return kept, dropped


def views(dataset: DataSet, settings: RunConfig) -> Callable[[str], View]:
    """Each database of a data set as the model sees it, by db_id, looked at once."""
    return functools.cache(lambda db_id: view(dataset.databases[db_id], settings, dataset.schema_of(db_id)))


def views_of(examples: Sequence[Example], dataset: DataSet, settings: RunConfig) -> list[View]:
    """The database of each example as the model sees it."""
    seen = views(dataset, settings)
    return [seen(example.db_id) for example in examples]


def load_dataset(run: Run, settings: RunConfig) -> DataSet:
    """The data set that the run's examples were made from, for a notebook after 02.

    Raises:
        OtherConfiguration: the data has changed since then, or another copy was found: verdicts would not fit the questions.
    """
    dataset, expected = spider.load_for(settings), run.record().get("data_sha256")
    if dataset.sha256 != expected:
        raise OtherConfiguration(
            f"The data at hand ({dataset.name}, SHA-256 {dataset.sha256[:12]}) is not what this run's examples were made from "
            f"({str(expected)[:12]}).\n  Run 02 Data again in a new run_dir, or bring the old data back."
        )
    return dataset


def read_training_rows(run: Run, tokenizer: Any) -> list[Row]:
    """The tokenised examples of the run's data/train.jsonl."""
    examples = run.read_jsonl("data/train.jsonl")
    return training_rows(tokenizer, [(one["message"], one["completion"]) for one in examples])


def read_dev(run: Run, settings: RunConfig) -> tuple[list[Example], list[str]]:
    """The dev examples to be judged, `eval_questions` of them drawn at random, in dev's order, and their messages."""
    rows = draw(run.read_jsonl("data/dev.jsonl"), settings.eval_questions, settings.seed)
    messages = [row.pop("message") for row in rows]
    return [Example(**row) for row in rows], messages


def draw(items: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` items drawn at random (always the same ones for a seed), in their old order; 0 takes all."""
    if not 0 < count < len(items):
        return list(items)
    return [items[at] for at in sorted(random.Random(seed).sample(range(len(items)), count))]
