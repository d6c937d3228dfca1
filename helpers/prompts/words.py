"""Split questions and names into words and strip their endings, so that both can be compared."""

from __future__ import annotations

import functools
import re
import unicodedata

WORD = re.compile(r"[^\W\d_]+|\d+")
# Endings that a word may lose, and what replaces them. Not "es" but where it is the whole ending: names, courses, ages lose an s.
ENDINGS = {"ies": "y", "sses": "ss", "ches": "ch", "shes": "sh", "xes": "x", "ing": "", "ed": "", "s": ""}


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, also those that CamelCase and snake_case join.

    Letters and digits count by what they mean, not by their shape (Unicode's NFKC): `area_m²` gives area, m and 2.
    """
    return list(_words(text))


@functools.lru_cache(maxsize=2**16)  # the names of a schema are split for each question
def _words(text: str) -> tuple[str, ...]:
    words = WORD.findall(unicodedata.normalize("NFKC", text))
    return tuple(part.lower() for word in words for part in split_camel_case(word))


def split_camel_case(word: str) -> list[str]:
    """Return the parts of a word that capitals begin: `HTTPServer` gives HTTP and Server."""
    begins = [
        at
        for at in range(1, len(word))
        if word[at].isupper() and (word[at - 1].islower() or (word[at + 1 : at + 2].islower() and word[at - 1].isupper()))
    ]
    return [word[begin:end] for begin, end in zip([0, *begins], [*begins, len(word)], strict=True)]


def stem_set(text: str) -> set[str]:
    """Return the stems of a text's words: `SingerNames` and “singer's name” share both."""
    return {stem(word) for word in split_words(text)}


@functools.lru_cache(maxsize=2**16)
def stem(word: str) -> str:
    """Return a word without its ending, if at least three letters remain: classes and class both give class."""
    for ending, rest in ENDINGS.items():
        if word.endswith(ending) and not word.endswith("ss"):
            stem = word[: -len(ending)] + rest
            return stem if len(stem) >= 3 else word
    return word
