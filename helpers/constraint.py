"""Decoding that writes nothing but queries of the target form over the tables and columns of one schema.

The form is a grammar, written out here with the schema's names in it; after every token llguidance says which may come next.
What a query means is left to the model.

Source: Willard and Louf, "Efficient Guided Generation for Large Language Models", 2023; https://github.com/guidance-ai/llguidance
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from helpers.names import Names

ALIASES = tuple(f"t{number}" for number in range(1, 7))
NAMED = tuple(f"c{number}" for number in range(1, 5))
LONGEST_TEXT = 80  # letters of a value in quotes
# Nearly every token may stand in a value; llguidance need not look at those one by one that one of these covers.
SLICES = (r"[^'\n]{1,10}", r"[^'\n]{1,30}", r"[^'\n]+")
# Every gold query of Spider's train and dev is in it. Of a schema's own: COLUMN and TABLE.
GRAMMAR = rf"""
start: select ((" UNION ALL " | " UNION " | " INTERSECT " | " EXCEPT ") select)*
select: "SELECT " "DISTINCT "? item (", " item)* from? (" WHERE " condition)? group? order? limit?
item: "*" | expression (" AS " NAMED)?
from: " FROM " source (", " source | " LEFT"? " JOIN " source " ON " condition)*
source: TABLE (" AS " ALIAS)? | "(" start ")" (" AS " ALIAS)?
group: " GROUP BY " expression (", " expression)* (" HAVING " condition)?
order: " ORDER BY " ordered (", " ordered)*
ordered: condition " DESC"?
limit: " LIMIT " NUMBER (" OFFSET " NUMBER)?
condition: test ((" AND " | " OR ") test)*
test: "NOT "? ("(" condition ")" | "EXISTS(" start ")" | expression comparison?)
comparison: COMPARED expression | " IS" " NOT"? " NULL" | " NOT"? " IN (" (start | expression (", " expression)*) ")"
    | " NOT"? " LIKE " expression | " NOT"? " BETWEEN " expression " AND " expression
expression: term (CALCULATED term)*
term: COLUMN | NUMBER | "-" NUMBER | TEXT | "NULL" | "TRUE" | call | "(" start ")" | "(" expression ")" | case
    | "CAST(" expression " AS " TYPE ")"
case: "CASE" (" WHEN " condition " THEN " expression)+ (" ELSE " expression)? " END"
call: "COUNT(" ("*" | "DISTINCT "? expression (", " expression)*) ")" | AGGREGATE "(" "DISTINCT "? expression ")"
    | OF_ONE "(" expression ")" | OF_TWO "(" expression ", " expression ")" | OF_ANY "(" expression (", " expression)* ")"
    | "ROUND(" expression (", " expression)? ")" | "SUBSTRING(" expression ", " expression (", " expression)? ")"
    | "IIF(" condition ", " expression ", " expression ")" | "REPLACE(" expression ", " expression ", " expression ")"
NUMBER: /[0-9]+(\.[0-9]+)?/
TEXT: /'([^'\n]|''){{0,{LONGEST_TEXT}}}'/
COMPARED: / (=|!=|<|>|<=|>=) /
CALCULATED: / (\+|-|\*|\/|\|\|) /
TYPE: /INTEGER|REAL|TEXT/
ALIAS: /{"|".join(ALIASES)}/
NAMED: /{"|".join(NAMED)}/
AGGREGATE: /SUM|AVG|MIN|MAX/
OF_ONE: /ABS|LENGTH|LOWER|UPPER|TRIM|JULIANDAY/
OF_TWO: /INSTR|NULLIF/
OF_ANY: /COALESCE|DATE|DATETIME|STRFTIME/
"""


def vocabulary(tokenizer: Any, ends: Iterable[int]) -> Any:
    """A tokenizer as llguidance reads it, once: every question needs it.

    Args:
        ends: tokens that end an answer.
    """
    return vocabulary_of(tokenizer, frozenset(ends))


@functools.lru_cache(maxsize=2)
def vocabulary_of(tokenizer: Any, ends: frozenset[int]) -> Any:
    """`vocabulary`, of what can be a key."""
    from llguidance.hf import from_tokenizer

    return from_tokenizer(tokenizer, eos_token=sorted(ends), slices=list(SLICES))


class Checker:
    """Which texts are queries in target form over one schema, and which are beginnings of one.

    Args:
        vocabulary: from `vocabulary`.
    """

    def __init__(self, names: Names, vocabulary: Any) -> None:
        from llguidance import LLMatcher

        self.vocabulary = vocabulary
        form = LLMatcher.grammar_from_lark(grammar(names))
        fault = LLMatcher.validate_grammar(form, vocabulary)
        if fault:
            raise ValueError(f"The names of {names.schema.db_id} make no grammar: {fault}")
        self.beginning = LLMatcher(vocabulary, form, log_level=0)  # reading the grammar takes longer than copying

    def matcher(self) -> Any:
        """What follows one answer from its first token on."""
        return self.beginning.deep_copy()


def grammar(names: Names) -> str:
    """The grammar of the target form with the names of one schema, in llguidance's Lark."""
    columns: dict[str, list[str]] = defaultdict(list)
    for table, column in names.column_of:
        columns[table].append(column)
    every = {column for _, column in names.column_of} | set(NAMED)
    of_tables = [rf"{re.escape(table)}\.({either([*columns[table], '*'])})" for table in names.table_of]
    of_aliases = [rf"({either(ALIASES)})\.({either([*every, '*'])})"]
    return "\n".join(
        [GRAMMAR, f"TABLE: /{either(names.table_of)}/", f"COLUMN: /{'|'.join([*of_tables, *of_aliases, either(NAMED)])}/"]
    )


def either(words: Iterable[str]) -> str:
    """A regular expression for one of several words."""
    return "|".join(re.escape(word) for word in sorted(words))


class Constraint:
    """A logits processor (transformers) that lets each row write only what its checker allows.

    All that is not allowed is set to minus infinity, so that greedy answers, samples and beams keep to it alike.

    Args:
        checkers: one a prompt.
        width: tokens of the padded prompts.
    """

    def __init__(self, checkers: Sequence[Checker], width: int) -> None:
        self.checkers = checkers
        self.width = width
        self.matchers: dict[tuple[int, ...], Any] = {}  # by the number of a prompt and the tokens written behind it

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores of the next token, (rows, vocabulary), for what rows of ids hold so far, (rows, length)."""
        import numpy as np
        import torch
        from llguidance.numpy import fill_next_token_bitmask

        rows_each = scores.shape[0] // len(self.checkers)
        answers = [(row // rows_each, *ids) for row, ids in enumerate(input_ids[:, self.width :].tolist())]
        self.follow(answers)
        place = {one: at for at, one in enumerate(self.matchers)}
        bits = np.zeros((len(place), -(-self.checkers[0].vocabulary.vocab_size // 32)), dtype=np.int32)
        # No threads: the matchers of a database share what they learn of its grammar, behind one lock.
        for one, at in place.items():
            fill_next_token_bitmask(self.matchers[one], bits, at)
        bits = torch.from_numpy(bits[[place[one] for one in answers]]).to(scores.device)
        allowed = ((bits[:, :, None] >> torch.arange(32, dtype=torch.int32, device=scores.device)) & 1).bool().flatten(1)
        beyond = scores.shape[1] - allowed.shape[1]  # a model may have more places than its tokenizer has tokens, or fewer bits
        allowed = torch.nn.functional.pad(allowed, (0, beyond))
        allowed[~allowed.any(1), self.checkers[0].vocabulary.eos_token] = True  # a beam that is none
        return scores.clamp(min=torch.finfo(scores.dtype).min / 2).masked_fill(~allowed, -torch.inf)

    def follow(self, answers: Sequence[tuple[int, ...]]) -> None:
        """Bring a matcher to where each answer stands, from where the answer without its last token stood."""
        before, self.matchers = self.matchers, {}
        answers = list(dict.fromkeys(answers))
        heirs = Counter(one[:-1] for one in answers)
        for one in answers:
            known = before.get(one[:-1]) if len(one) > 1 else None
            heirs[one[:-1]] -= 1
            matcher = (known.deep_copy() if heirs[one[:-1]] else known) if known else self.checkers[one[0]].matcher()
            new = one[-1:] if known else one[1:]
            if new and not matcher.is_stopped():  # an answer that has ended is filled up with ends
                matcher.consume_tokens(list(new))
            self.matchers[one] = matcher
