"""Check gold queries before training: whether the IR gives the same rows, and whether constrained decoding could write it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from helpers.databases.layout import Example
from helpers.databases.sandbox import Sandbox
from helpers.judge.same_result import is_ordered, same_result
from helpers.prompts import ir_grammar
from helpers.prompts.message import DatabasePrompt
from helpers.prompts.to_ir import NotExpressible


@dataclass(frozen=True, kw_only=True)
class Unsayable:
    """A gold query that the model could never answer with.

    Attributes:
        kind: "no IR", "other rows" or "outside the grammar".
        why: the same in a sentence.
    """

    example: Example
    kind: str
    why: str


def fault_of(example: Example, prompt: DatabasePrompt, sandbox: Sandbox, *, constrained: bool) -> Unsayable | None:
    """Return why a linked prompt's model could never answer with an example's gold; None if it could.

    A gold query that does not run is not at fault here: the judge names it.

    Args:
        constrained: the grammar must accept the IR as well.
    """
    try:
        ir = prompt.completion(example.query)
    except NotExpressible as error:
        return Unsayable(example=example, kind="no IR", why=f"the IR cannot express it, {error}")
    expected = sandbox.execute(prompt.database, example.query)
    if expected.ok:
        found = sandbox.execute(prompt.database, prompt.sql(ir))
        if not found.ok or not same_result(expected.rows, found.rows, ordered=is_ordered(example.query)):
            return Unsayable(example=example, kind="other rows", why="its IR gives other rows")
    if constrained and not ir_grammar.accepts(ir, prompt.names):
        return Unsayable(example=example, kind="outside the grammar", why="the grammar lacks something that it uses")
    return None


def same_questions(train: Iterable[Example], dev: Iterable[Example]) -> list[Example]:
    """Return the dev questions that training asks as well, of the same database: their answers may be known by heart."""
    asked = {(example.db_id, _words(example.question)) for example in train}
    return [example for example in dev if (example.db_id, _words(example.question)) in asked]


def _words(question: str) -> str:
    return " ".join(question.lower().split()).rstrip(" ?.!")
