"""Find the SQL in a model's answer, as text: before anything can be parsed."""

from __future__ import annotations

import re

FENCE = re.compile(r"(?:```|~~~)([\w-]*)\n?(.*?)(?:```|~~~|$)", re.DOTALL)
NAME = r"""(?:\w+|"[^"]+"|`[^`]+`|\[[^\]]+\])"""
START = re.compile(
    rf"\b(?:SELECT\b|WITH\s+(?:RECURSIVE\s+)?{NAME}\s*(?:\([^)]{{0,2000}}\)\s*)?AS\s*(?:(?:NOT\s+)?MATERIALIZED\s*)?\()",
    re.IGNORECASE,
)
COMMENTS = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))+", re.DOTALL)
PIECES = re.compile(
    r"""'[^']*'|"[^"]*"|`[^`\n]+`(?!`)|\[[^\]\n]*\]|(?P<gap>(?:\s|--[^\n]*|/\*.*?(?:\*/|$))+)|(?P<end>;|```|~~~)|[\w.,()*=<>]+|.""",
    re.DOTALL,
)
BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
# Up to the last closing tag, for a template may have written the opening one; all, where a thought is not closed.
THOUGHT = re.compile(r"\A(?:.*</think(?:ing)?>|\s*<think(?:ing)?>.*)", re.DOTALL | re.IGNORECASE)
CLAUSES = re.compile(
    r"(?:FROM|WHERE|GROUP\s+BY|HAVING|ORDER\s+BY|LIMIT|OFFSET|UNION|INTERSECT|EXCEPT|WINDOW"
    r"|(?:(?:NATURAL|LEFT|RIGHT|FULL|INNER|CROSS)\s+)*(?:OUTER\s+)?JOIN|(?-i:AND|OR|ON|USING))\b",
    re.IGNORECASE,
)
# Words that no statement ends with.
UNFINISHED = frozenset(
    "SELECT DISTINCT ALL FROM WHERE AND OR NOT ON BY HAVING LIMIT OFFSET UNION INTERSECT EXCEPT JOIN LEFT INNER CROSS "
    "CASE WHEN THEN ELSE IN LIKE GLOB BETWEEN AS IS EXISTS WITH RECURSIVE OVER = < > <= >= <> != + - * / ||".split()
) - {"*"}
CLOSED_BY = {"`": "`", '"': '"', "'": "'", "*": "**"}  # what stands before SQL within a line, and what ends it then


def extract_sql(answer: str) -> str:
    """Return the one SQL statement in a model's answer, on one line; '' if there is none.

    The rule: what a model thinks aloud first (`<think>`) is passed over. An answer that begins with SQL is searched itself.
    Otherwise search the first code fence called sql that holds SQL, else the first fence of any name, else the whole answer.
    Comments before the statement are skipped. The statement begins at the first SELECT (or `WITH name AS (`), and ends at the
    first semicolon or fence outside of quotes. Outside of a fence it also ends at a blank line, unless a parenthesis is open or
    the next line goes on with the statement. White space and comments are folded.
    """
    answer = THOUGHT.sub("", answer, count=1)
    text, is_fenced = uncommented(answer), False
    if not START.match(text):
        fences = sorted(FENCE.finditer(answer), key=lambda fence: fence[1].lower() not in ("sql", "sqlite"))
        fenced = next((inner for fence in fences if START.search(inner := uncommented(fence[2]))), None)
        text, is_fenced = fenced or answer, fenced is not None
    begin = START.search(text)
    if begin is None:
        return ""
    if closed_by := CLOSED_BY.get(text[begin.start() - 1 : begin.start()]):
        text = text[: text.find(closed_by, begin.end())] if closed_by in text[begin.end() :] else text
    kept = [" ".join(begin[0].split())]
    depth, is_complete = begin[0].count("(") - begin[0].count(")"), begin[0][:4].upper() != "WITH"
    for piece in PIECES.finditer(text, begin.end()):
        is_blank = not is_fenced and piece["gap"] and BLANK_LINE.search(piece["gap"])
        is_open = depth > 0 or kept[-1].endswith(",") or kept[-1].upper() in UNFINISHED
        if piece["end"] or (is_blank and not is_open and not goes_on(text[piece.end() :], is_complete, begin[0])):
            break
        kept.append(" " if piece["gap"] else piece[0])
        if piece[0][0] not in "'\"`[":
            depth += piece[0].count("(") - piece[0].count(")")
            is_complete |= depth <= 0 and "SELECT" in piece[0].upper()
    statement = re.sub(r"[\r\n]+", " ", "".join(kept)).strip()
    return statement.removesuffix(")").rstrip() if depth == -1 else statement


def goes_on(rest: str, is_complete: bool, first: str) -> bool:
    """Whether the text behind a blank line goes on with the statement before it: by a clause, or the query that WITH lacks.

    A sentence begins with one capital, so a clause that is written so belongs only to a statement that is written so.

    Args:
        is_complete: whether the statement has its SELECT outside of parentheses.
        first: the statement's first word.
    """
    if rest[:1] in (",", ")"):
        return True
    found = CLAUSES.match(rest) or (None if is_complete else re.match(r"SELECT\b", rest, re.IGNORECASE))
    return found is not None and (found[0].isupper() or found[0].islower() or first[:6].istitle())


def uncommented(text: str) -> str:
    """Return text without leading white space and comments."""
    begin = COMMENTS.match(text)
    return text[begin.end() :] if begin else text
