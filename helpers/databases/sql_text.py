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
THOUGHT = re.compile(r"\s*<think>.*?(?:</think>|$)", re.DOTALL)
CLAUSES = re.compile(
    r"(?:FROM|WHERE|GROUP\s+BY|HAVING|ORDER\s+BY|LIMIT|OFFSET|UNION|INTERSECT|EXCEPT|WINDOW|AND|OR|ON|USING"
    r"|(?:(?:NATURAL|LEFT|RIGHT|FULL|INNER|CROSS)\s+)*(?:OUTER\s+)?JOIN)\b",
    re.IGNORECASE,
)


def extract_sql(answer: str) -> str:
    """Return the one SQL statement in a model's answer, on one line; '' if there is none.

    The rule: what a model thinks aloud first (`<think>`) is passed over. An answer that begins with SQL is searched itself.
    Otherwise search the first code fence called sql that holds SQL, else the first fence of any name, else the whole answer.
    Comments before the statement are skipped. The statement begins at the first SELECT (or `WITH name AS (`), and ends at the
    first semicolon or fence outside of quotes. Outside of a fence it also ends at a blank line, unless a parenthesis is open or
    the next line goes on with the statement. White space and comments are folded.
    """
    answer = THOUGHT.sub("", answer, count=1) if THOUGHT.match(answer) else answer
    text, is_fenced = uncommented(answer), False
    if not START.match(text):
        fences = sorted(FENCE.finditer(answer), key=lambda fence: fence[1].lower() not in ("sql", "sqlite"))
        fenced = next((inner for fence in fences if START.search(inner := uncommented(fence[2]))), None)
        text, is_fenced = fenced or answer, fenced is not None
    begin = START.search(text)
    if begin is None:
        return ""
    kept, capitals = [" ".join(begin[0].split())], begin[0][:4].isupper()
    depth, is_complete = begin[0].count("(") - begin[0].count(")"), begin[0][:4].upper() != "WITH"
    for piece in PIECES.finditer(text, begin.end()):
        is_blank = not is_fenced and piece["gap"] and BLANK_LINE.search(piece["gap"])
        is_open = depth > 0 or kept[-1].endswith(",")
        if piece["end"] or (is_blank and not is_open and not goes_on(text[piece.end() :], is_complete, capitals)):
            break
        kept.append(" " if piece["gap"] else piece[0])
        if piece[0][0] not in "'\"`[":
            depth += piece[0].count("(") - piece[0].count(")")
            is_complete |= depth <= 0 and "SELECT" in piece[0].upper()
    return re.sub(r"[\r\n]+", " ", "".join(kept)).strip()


def goes_on(rest: str, is_complete: bool, capitals: bool) -> bool:
    """Whether the text behind a blank line goes on with the statement before it: by a clause, or the query that WITH lacks.

    A clause is written as the statement's first word is, all in capitals or all in small letters; a sentence begins otherwise.

    Args:
        is_complete: whether the statement has its SELECT outside of parentheses.
    """
    found = CLAUSES.match(rest) or (None if is_complete else re.match(r"SELECT\b", rest, re.IGNORECASE))
    return found is not None and (found[0].isupper() if capitals else found[0].islower())


def uncommented(text: str) -> str:
    """Return text without leading white space and comments."""
    begin = COMMENTS.match(text)
    return text[begin.end() :] if begin else text
