"""Find the SQL in a model's answer, as text: before anything can be parsed."""

from __future__ import annotations

import re

FENCE = re.compile(r"```([\w-]*)\n?(.*?)(?:```|$)", re.DOTALL)
NAME = r"""(?:\w+|"[^"]+"|`[^`]+`|\[[^\]]+\])"""
START = re.compile(
    rf"\b(?:SELECT\b|WITH\s+(?:RECURSIVE\s+)?{NAME}\s*(?:\([^)]*\)\s*)?AS\s*(?:(?:NOT\s+)?MATERIALIZED\s*)?\()", re.IGNORECASE
)
COMMENTS = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)+", re.DOTALL)
PIECES = re.compile(
    r"""'[^']*'|"[^"]*"|`[^`\n]+`(?!`)|\[[^\]\n]*\]|(?P<gap>(?:\s|--[^\n]*|/\*.*?\*/)+)|(?P<end>;|```)|[\w.,()*=<>]+|.""",
    re.DOTALL,
)
BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


def extract_sql(answer: str) -> str:
    """Return the one SQL statement in a model's answer, on one line; '' if there is none.

    The rule: an answer that begins with SQL is searched itself. Otherwise search the first code fence called sql that holds SQL,
    else the first fence of any name, else the whole answer. Comments before the statement are skipped. The statement begins at
    the first SELECT (or `WITH name AS (`) and ends at the first semicolon, blank line or fence outside of quotes. White space and
    comments are folded.
    """
    text = uncommented(answer)
    if not START.match(text):
        fences = sorted(FENCE.finditer(answer), key=lambda fence: fence[1].lower() not in ("sql", "sqlite"))
        text = next((inner for fence in fences if START.search(inner := uncommented(fence[2]))), answer)
    begin = START.search(text)
    if begin is None:
        return ""
    kept = [" ".join(begin[0].split())]
    for piece in PIECES.finditer(text, begin.end()):
        if piece["end"] or (piece["gap"] and BLANK_LINE.search(piece["gap"])):
            break
        kept.append(" " if piece["gap"] else piece[0])
    return re.sub(r"[\r\n]+", " ", "".join(kept)).strip()


def uncommented(text: str) -> str:
    """Return text without leading white space and comments."""
    begin = COMMENTS.match(text)
    return text[begin.end() :] if begin else text
