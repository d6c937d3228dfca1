"""The words of questions and of names, told alike however they are joined and whatever their endings."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W\d_]+|\d+")
# What a word may lose, and what takes its place. Not "es", but where it is the whole ending: names, courses and ages lose an s.
ENDINGS = {"ies": "y", "sses": "ss", "ches": "ch", "shes": "sh", "xes": "x", "ing": "", "ed": "", "s": ""}


def pieces(text: str) -> list[str]:
    """The words of a text, or those that CamelCase and snake_case put together, in lower case."""
    return [piece.lower() for word in WORD.findall(text) for piece in humps(word)]


def humps(word: str) -> list[str]:
    """A word cut where a capital begins another: `HTTPServer` is HTTP and Server."""
    begins = [
        at
        for at in range(1, len(word))
        if word[at].isupper() and (word[at - 1].islower() or (word[at + 1 : at + 2].islower() and word[at - 1].isupper()))
    ]
    return [word[begin:end] for begin, end in zip([0, *begins], [*begins, len(word)], strict=True)]


def stem_set(text: str) -> set[str]:
    """The words of a text or a name in lower case, endings off: `SingerNames` and “singer's name” share both."""
    return {stem(piece) for piece in pieces(text)}


def stem(word: str) -> str:
    """A word without its ending, where three letters remain: of classes and class, class."""
    for ending, rest in ENDINGS.items():
        if word.endswith(ending) and not word.endswith("ss"):
            stem = word[: -len(ending)] + rest
            return stem if len(stem) >= 3 else word
    return word
