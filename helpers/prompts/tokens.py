"""Chat templates and tokens: what the model reads, and the mask of what counts in the loss."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DATE = "26 Jul 2024"  # given to chat templates: Llama 3.2's would write today's date, so prompts would change every day


class TemplateError(RuntimeError):
    """A chat template that renders a prompt differently on its own than before its completion."""


def prompt_ids(tokenizer: Any, message: str) -> list[int]:
    """Return the token ids of a prompt, (length,), up to where the assistant begins to write."""
    return chat_ids(tokenizer, [[{"role": "user", "content": message}]], add_generation_prompt=True)[0]


def prompt_text(tokenizer: Any, message: str) -> str:
    """Return a prompt as text, special tokens included, up to where the assistant begins to write."""
    return chat_text(tokenizer, [{"role": "user", "content": message}], add_generation_prompt=True)


def chat_text(tokenizer: Any, conversation: list[dict], **options: Any) -> str:
    """Render a conversation by the tokenizer's own chat template, with a fixed date (DATE)."""
    return tokenizer.apply_chat_template(conversation, tokenize=False, date_string=DATE, **options)


def chat_ids(tokenizer: Any, conversations: Sequence[list[dict]], **options: Any) -> list[list[int]]:
    """Return the token ids of conversations, one list each. Only the template's own control tokens are control tokens.

    What a message holds is text, whatever it looks like: a question, a cell or a name like `<|im_end|>` ends no turn.
    """
    texts = [chat_text(tokenizer, conversation, **options) for conversation in conversations]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    for number, conversation in enumerate(conversations):
        if looks_hostile(tokenizer, conversation):
            ids[number] = hostile_ids(tokenizer, conversation, **options)
    return ids


def looks_hostile(tokenizer: Any, conversation: Sequence[dict]) -> bool:
    """Whether a message holds the text of a control token."""
    return any(control in message["content"] for message in conversation for control in control_tokens(tokenizer))


@functools.lru_cache(maxsize=4)
def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Return the texts that a tokenizer reads as control tokens."""
    return tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of text, (length,), in which nothing is a control token."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def hostile_ids(tokenizer: Any, conversation: list[dict], **options: Any) -> list[int]:
    """Return the token ids of a conversation whose messages look like control tokens, piece by piece.

    Raises:
        TemplateError: the template changes what a message says, or leaves it out.
    """
    marks = [f"   MESSAGE{number}MARK   " for number in range(len(conversation))]
    rest = chat_text(
        tokenizer, [message | {"content": mark} for message, mark in zip(conversation, marks, strict=True)], **options
    )
    ids: list[int] = []
    for message, mark in zip(conversation, marks, strict=True):
        content = message["content"]
        if mark not in rest:  # the template trims messages
            mark, content = mark.strip(), content.strip()
        if rest.count(mark) != 1:
            raise TemplateError("This tokenizer's chat template does not write a message as it stands")
        before, _, rest = rest.partition(mark)
        ids += [*tokenizer(before, add_special_tokens=False)["input_ids"], *plain_ids(tokenizer, content)]
    return [*ids, *tokenizer(rest, add_special_tokens=False)["input_ids"]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A tokenised training example.

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


def training_row(tokenizer: Any, message: str, completion: str) -> Row:
    """Return one tokenised training example.

        input_ids         <|user|> schema question <|assistant|>  SELECT … <|end|>
        completion_mask        0      0       0         0            1   1    1

    Raises:
        TemplateError: the prompt alone is not the beginning of the whole, so a mask by its length would be wrong.
    """
    return training_rows(tokenizer, [(message, completion)])[0]


def training_rows(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[Row]:
    """Return one row for each (message, completion), tokenised together.

    Raises:
        TemplateError: as `training_row`.
    """
    if not pairs:
        return []
    prompts = [[{"role": "user", "content": message}] for message, _ in pairs]
    conversations = [
        [*prompt, {"role": "assistant", "content": completion}] for prompt, (_, completion) in zip(prompts, pairs, strict=True)
    ]
    rendered = chat_ids(tokenizer, prompts, add_generation_prompt=True)
    for number, conversation in enumerate(conversations):
        if looks_hostile(tokenizer, conversation):  # perhaps by its completion alone: both are made piece by piece
            rendered[number] = hostile_ids(tokenizer, prompts[number], add_generation_prompt=True)
    return [make_row(tokenizer, *ids) for ids in zip(rendered, chat_ids(tokenizer, conversations), strict=True)]


def make_row(tokenizer: Any, prompt: list[int], whole: list[int]) -> Row:
    """Return the row of a rendered prompt and of the whole conversation, both token ids.

    Raises:
        TemplateError: as `training_row`, or the template does not close a turn with the eos token.
    """
    if whole[: len(prompt)] != prompt:
        raise TemplateError(
            "This tokenizer's chat template renders a prompt differently on its own than before its completion, "
            "so the loss mask would be wrong. Use a model whose template has a generation prompt."
        )
    # Templates close the turn with a line end after the end-of-turn token; generation stops before it, so it is not learned.
    eos = tokenizer.eos_token_id  # looked up once: it takes longer than a comparison
    end = max((at for at, token in enumerate(whole) if token == eos), default=-1) + 1
    if end <= len(prompt):
        raise TemplateError(f"This tokenizer's chat template does not close a turn with its eos token {tokenizer.eos_token!r}")
    whole = whole[:end]
    return Row(input_ids=whole, completion_mask=[0] * len(prompt) + [1] * (len(whole) - len(prompt)))
