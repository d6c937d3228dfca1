"""Decoding that cannot name what the database lacks: after every token, only those that keep the text a possible query.

The rules are those of the target form (`target`), looked at letter by letter: words are SQL's own, or names of this schema,
written out in the pieces that the tokenizer makes of them; tables stand in FROM; quotes and brackets are closed. What a query
means is left to the model.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from helpers.names import Names

KEYWORDS = frozenset(
    "SELECT DISTINCT FROM WHERE GROUP BY HAVING ORDER ASC DESC LIMIT OFFSET UNION ALL INTERSECT EXCEPT AND OR NOT IN "
    "LIKE BETWEEN IS NULL EXISTS AS JOIN LEFT ON TRUE CASE WHEN THEN ELSE END CAST INTEGER REAL TEXT COUNT SUM AVG "
    "MIN MAX ABS ROUND LENGTH LOWER UPPER SUBSTRING STRFTIME DATE DATETIME JULIANDAY INSTR REPLACE COALESCE IIF "
    "NULLIF TRIM".split()
)
SETS = frozenset(("UNION", "INTERSECT", "EXCEPT"))
CLAUSES = frozenset(("SELECT", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT")) | SETS
UNFINISHED = SETS | frozenset(  # words and signs that something must follow
    "SELECT DISTINCT FROM WHERE GROUP BY HAVING ORDER LIMIT OFFSET AND OR NOT IN LIKE BETWEEN IS AS JOIN LEFT ON "
    "CASE WHEN THEN ELSE , ( = < > + - / ! |".split()
)
ALIASES = tuple(f"t{number}" for number in range(1, 7))
NAMED = tuple(f"c{number}" for number in range(1, 5))
TYPES = ("INTEGER", "REAL", "TEXT")
NUMBER = re.compile(r"\d+(\.\d*)?")
SIGNS = frozenset("(),=!<>+-*/|%' ")
LIKELIEST = 32  # tokens looked at before all others
LONGEST_TEXT = 80  # letters of a value in quotes
BEFORE = (" ", "(", "")  # what may stand before a word; tokens join with some of it


class State(NamedTuple):
    """Where a text stands.

    Attributes:
        word: the beginning of a word that may go on.
        last: the word or sign before it.
        text: letters of the value in quotes that is open, else -1.
        levels: for the query and each open bracket, outermost first, whether the text is in FROM there (F) or not (Q).
    """

    word: str
    last: str
    text: int
    levels: str


START = State("", "", -1, "Q")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer's tokens as the texts that they add.

    Attributes:
        texts: by token id; '' for special tokens.
        ends: tokens that end an answer.
    """

    tokenizer: Any
    texts: tuple[str, ...]
    ends: frozenset[int]

    @functools.cache  # noqa: B019 - one vocabulary lives as long as its model
    def cuts(self, word: str) -> frozenset[int]:
        """After how many letters the tokenizer cuts a word, its end among them."""
        found: set[int] = set()
        for before in BEFORE:
            offsets = self.tokenizer(before + word, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            found |= {end - len(before) for _, end in offsets if end > len(before)}
        return frozenset(found)


def vocabulary(tokenizer: Any, ends: Iterable[int]) -> Vocabulary:
    """The vocabulary of a tokenizer, looked at once: every question needs it.

    Args:
        ends: tokens that end an answer.
    """
    return vocabulary_of(tokenizer, frozenset(ends))


@functools.lru_cache(maxsize=2)
def vocabulary_of(tokenizer: Any, ends: frozenset[int]) -> Vocabulary:
    """`vocabulary`, of what can be a key."""
    # A token alone may lose a space at its front; behind another it keeps it.
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    pairs = [[*anchor, token] for token in range(len(tokenizer))]
    texts = tokenizer.batch_decode(pairs, clean_up_tokenization_spaces=False)
    return Vocabulary(
        tokenizer=tokenizer,
        texts=tuple("" if token in special else text[1:] for token, text in enumerate(texts)),
        ends=ends,
    )


class Checker:
    """Which texts are possible beginnings of a query in target form, for one schema."""

    def __init__(self, names: Names, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        columns = {shown for _, shown in names.column_of}
        self.tables = frozenset(names.table_of)
        self.words = frozenset(
            {f"{table}.{column}" for table, column in names.column_of}
            | {f"{table}.*" for table in self.tables}
            | {f"{alias}.{column}" for alias in ALIASES for column in columns}
            | {f"{alias}.{name}" for alias in ALIASES for name in (*NAMED, "*")}
            | set(NAMED)
            | KEYWORDS
        )
        self.open_words = self.beginnings(self.words)
        self.open_tables = self.beginnings(self.tables)
        self.open_aliases = self.beginnings((*ALIASES, *NAMED, *TYPES))
        self.steps: dict[tuple[State, int], State | None] = {}

    def beginnings(self, words: Iterable[str]) -> frozenset[str]:
        """The beginnings of words where the tokenizer cuts them."""
        return frozenset(word[:cut] for word in words for cut in self.vocabulary.cuts(word))

    def allowed(self, state: State, token: int) -> State | None:
        """The state after one more token; None if it makes the text impossible."""
        if token in self.vocabulary.ends:
            return state if self.may_end(state) else None
        key = (state, token)
        if key not in self.steps:
            text = self.vocabulary.texts[token] if token < len(self.vocabulary.texts) else ""
            self.steps[key] = self.read(state, text) if text else None
        return self.steps[key]

    def read(self, state: State, text: str) -> State | None:
        """The state after more text."""
        for letter in text:
            after = self.letter(state, letter)
            if after is None:
                return None
            state = after
        if state.word and state.text < 0 and not self.may_go_on(state):
            return None
        return state

    def letter(self, state: State, letter: str) -> State | None:
        """The state after one more letter."""
        if state.text >= 0:
            if letter == "'":
                return state._replace(text=-1, last="'")
            return state._replace(text=state.text + 1) if state.text < LONGEST_TEXT and letter != "\n" else None
        part_of_name = letter == "_" or letter.isalnum() or (letter == "*" and state.word.endswith("."))
        if part_of_name or (letter == "." and state.word):
            return state._replace(word=state.word + letter)
        if state.word:
            closed = self.close(state)
            if closed is None:
                return None
            state = closed
        if letter not in SIGNS or state.last == "":
            return None
        return state if letter == " " else self.sign(state, letter)

    def sign(self, state: State, letter: str) -> State | None:
        """The state after a sign."""
        if self.expects_table(state) and letter != "(":
            return None
        if letter == "'":  # two in a row are one inside of the text
            return state._replace(text=0) if state.last not in self.tables or not self.in_from(state) else None
        if letter == "(":
            return state._replace(last="(", levels=state.levels + "Q")
        if letter == ")":
            if len(state.levels) == 1 or state.last in UNFINISHED:
                return None
            return state._replace(last=")", levels=state.levels[:-1])
        if letter == "," and state.last in UNFINISHED:
            return None
        return state._replace(last=letter)

    def in_from(self, state: State) -> bool:
        """Whether the text is in a FROM."""
        return state.levels[-1] == "F"

    def close(self, state: State) -> State | None:
        """The state once the open word is whole; None if there is no such word here."""
        word, levels = state.word, state.levels
        if not self.is_word(state):
            return None
        if word in ("FROM", "JOIN"):
            levels = levels[:-1] + "F"
        elif word in CLAUSES or word == "ON":
            levels = levels[:-1] + "Q"
        return state._replace(word="", last=word, levels=levels)

    def expects_table(self, state: State) -> bool:
        """Whether a table must come next. A comma in FROM behind an ON is never written."""
        return self.in_from(state) and state.last in ("FROM", "JOIN", ",")

    def is_word(self, state: State) -> bool:
        """Whether the open word may end here."""
        word, last = state.word, state.last
        if last == "":
            return word == "SELECT"
        if self.expects_table(state):
            return word in self.tables
        if last == "AS":
            return word in ALIASES or word in NAMED or word in TYPES
        if word[0].isdigit():
            return bool(NUMBER.fullmatch(word)) and not word.endswith(".")
        if self.in_from(state) and last in self.tables and word not in ("AS", "JOIN", "LEFT", "ON") and word not in CLAUSES:
            return False
        return word in self.words

    def may_go_on(self, state: State) -> bool:
        """Whether the open word is a beginning of one that may stand here, cut where the tokenizer cuts it."""
        word, last = state.word, state.last
        if last == "":
            return "SELECT".startswith(word)
        if self.expects_table(state):
            return word in self.open_tables
        if last == "AS":
            return word in self.open_aliases
        if word[0].isdigit():
            return bool(NUMBER.fullmatch(word))
        return word in self.open_words

    def may_end(self, state: State) -> bool:
        """Whether the text is whole."""
        if state.text >= 0 or len(state.levels) > 1:
            return False
        closed = self.close(state) if state.word else state
        return closed is not None and closed.last not in UNFINISHED and closed.last != ""


class Constraint:
    """A logits processor (transformers) that lets each row write only what its checker allows.

    The likeliest tokens are looked at first; all others only where none of those is allowed. All but what was found allowed is
    set to minus infinity, so that samples and beams keep to it as well.

    Args:
        checkers: one a prompt.
        width: tokens of the padded prompts.
    """

    def __init__(self, checkers: Sequence[Checker], width: int) -> None:
        self.checkers = checkers
        self.width = width
        self.states: list[dict[tuple[int, ...], State | None]] = [{(): START} for _ in checkers]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores of the next token, (rows, vocabulary), for what rows of ids hold so far, (rows, length)."""
        import torch

        rows_each = scores.shape[0] // len(self.checkers)
        written = input_ids[:, self.width :].tolist()
        found = scores.topk(min(LIKELIEST, scores.shape[1]), dim=-1).indices.tolist()
        rows: list[int] = []
        tokens: list[int] = []
        for row, (ids, likely) in enumerate(zip(written, found, strict=True)):
            number = row // rows_each
            good = self.good(number, tuple(ids), likely)
            if not good:  # rare: all tokens in order
                good = self.good(number, tuple(ids), scores[row].argsort(descending=True).tolist(), first=True)
            if not good:  # nothing fits: the answer ends here
                good = [next(iter(self.checkers[number].vocabulary.ends))]
            rows += [row] * len(good)
            tokens += good
        at = (torch.tensor(rows, device=scores.device), torch.tensor(tokens, device=scores.device))
        bounded = torch.full_like(scores, -torch.inf)
        bounded[at] = scores[at].clamp(min=torch.finfo(scores.dtype).min / 2)
        return bounded

    def good(self, number: int, ids: tuple[int, ...], tokens: Sequence[int], *, first: bool = False) -> list[int]:
        """Those of some tokens that may come next; with `first`, the first of them only."""
        checker, states = self.checkers[number], self.states[number]
        ends = checker.vocabulary.ends
        if ids and ids[-1] in ends:  # a row that has ended is padded
            return [ids[-1]]
        if ids not in states:
            before = states.get(ids[:-1])
            states[ids] = checker.allowed(before, ids[-1]) if before is not None else None
        state = states[ids]
        if state is None:  # a beam that had run out of possible tokens
            return [next(iter(ends))]
        found = (token for token in tokens if checker.allowed(state, token) is not None)
        return list(itertools.islice(found, 1)) if first else list(found)
