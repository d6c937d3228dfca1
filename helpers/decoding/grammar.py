"""Grammar-constrained decoding: the model can only write IR over the tables and columns of one schema.

After every token llguidance says which tokens may follow, by the grammar of `prompts.ir_grammar`.

Source: Willard and Louf, "Efficient Guided Generation for Large Language Models", 2023; https://github.com/guidance-ai/llguidance
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from helpers.prompts.ir_grammar import lark
from helpers.prompts.names import NameMap

# Nearly every token may stand in a value. llguidance checks tokens that one of these patterns covers all at once.
SLICES = (r"[^'\n]{1,10}", r"[^'\n]{1,30}", r"[^'\n]+")


@functools.lru_cache(maxsize=2)
def vocabulary(tokenizer: Any, ends: frozenset[int]) -> Any:
    """Return a tokenizer in llguidance's form, made once: every question needs it.

    Args:
        ends: tokens that end an answer.
    """
    from llguidance.hf import from_tokenizer

    return from_tokenizer(tokenizer, eos_token=sorted(ends), slices=list(SLICES))


class Grammar:
    """The IR over one schema, compiled for one vocabulary.

    Args:
        vocabulary: from `vocabulary`.

    Raises:
        ValueError: llguidance does not accept the schema's names.
    """

    def __init__(self, names: NameMap, vocabulary: Any) -> None:
        from llguidance import LLMatcher

        self.vocabulary = vocabulary
        compiled = LLMatcher.grammar_from_lark(lark(names))
        fault = LLMatcher.validate_grammar(compiled, vocabulary)
        if fault:
            raise ValueError(f"The names of {names.schema.db_id} make no grammar: {fault}")
        self._start = LLMatcher(vocabulary, compiled, log_level=0)

    def matcher(self) -> Any:
        """Return a matcher for one answer, before its first token. Copying one is faster than compiling the grammar again."""
        return self._start.deep_copy()


class GrammarLogitsProcessor:
    """A logits processor for transformers: each row may only continue as its grammar allows.

    The scores of all other tokens become minus infinity, so greedy decoding, sampling and beam search obey alike.

    Args:
        grammars: one a prompt.
        width: length in tokens of the padded prompts.
    """

    def __init__(self, grammars: Sequence[Grammar], width: int) -> None:
        self.grammars = grammars
        self.width = width
        self.matchers: dict[tuple[int, ...], Any] = {}  # key: number of the prompt, then the tokens of the answer so far

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the masked scores of the next token, (rows, vocabulary).

        Args:
            input_ids: prompts and answers so far, (rows, length). Beam search has several rows a prompt, side by side.
            scores: (rows, vocabulary).
        """
        import numpy as np
        import torch
        from llguidance.numpy import fill_next_token_bitmask

        beams = scores.shape[0] // len(self.grammars)
        answers = [(row // beams, *ids) for row, ids in enumerate(input_ids[:, self.width :].tolist())]
        self.advance(answers)
        index = {answer: number for number, answer in enumerate(self.matchers)}
        vocabulary = self.grammars[0].vocabulary
        bits = np.zeros((len(index), -(-vocabulary.vocab_size // 32)), dtype=np.int32)
        # One after another: matchers of one database share a lexer behind one lock, so threads would only wait.
        for answer, number in index.items():
            fill_next_token_bitmask(self.matchers[answer], bits, number)
        bits = torch.from_numpy(bits[[index[answer] for answer in answers]]).to(scores.device)
        allowed = ((bits[:, :, None] >> torch.arange(32, dtype=torch.int32, device=scores.device)) & 1).bool().flatten(1)
        missing = scores.shape[1] - allowed.shape[1]  # the model's scores and the tokenizer's bits may differ in number
        allowed = torch.nn.functional.pad(allowed, (0, missing))
        allowed[~allowed.any(1), vocabulary.eos_token] = True  # a row that only fills up the beams
        return scores.clamp(min=torch.finfo(scores.dtype).min / 2).masked_fill(~allowed, -torch.inf)

    def advance(self, answers: Sequence[tuple[int, ...]]) -> None:
        """Give each answer a matcher that has read it, made from the matcher of the same answer without its last token."""
        before, self.matchers = self.matchers, {}
        answers = list(dict.fromkeys(answers))
        users = Counter(answer[:-1] for answer in answers)  # answers that still continue a matcher: the last need not copy it
        for answer in answers:
            known = before.get(answer[:-1]) if len(answer) > 1 else None
            users[answer[:-1]] -= 1
            if known:
                matcher, new = (known.deep_copy() if users[answer[:-1]] else known), answer[-1:]
            else:
                matcher, new = self.grammars[answer[0]].matcher(), answer[1:]
            if new and not matcher.is_stopped():  # an answer that has ended is padded with end tokens
                matcher.consume_tokens(list(new))
            self.matchers[answer] = matcher
