"""One question on its way through the course: its example, its database's prompt, and the message that the model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helpers.databases.layout import Example
from helpers.prompts.message import DatabasePrompt
from helpers.prompts.tokens import prompt_ids


@dataclass(frozen=True, eq=False)
class Question:
    """A question about one database.

    Attributes:
        text: the question in English.
        prompt: how prompts about its database are written and answers read.
        message: the user's turn.
        example: the example that it comes from, with its gold SQL; None for a question that a user asks.
    """

    text: str
    prompt: DatabasePrompt
    message: str
    example: Example | None = None

    def ids(self, tokenizer: Any) -> list[int]:
        """Return the prompt's token ids, (length,)."""
        return prompt_ids(tokenizer, self.message)

    def sql(self, answer: str) -> str:
        """Return the SQL that an answer of the model stands for; with linked prompts the answer is IR."""
        return self.prompt.sql(answer)
