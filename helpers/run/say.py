"""Print text that may come from elsewhere: names and cells of a user's file, a model's SQL, an error that quotes them."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any

JOINERS = "\u200c\u200d"  # Persian and emoji need them
KEPT = "\n\t"
# Controls (escape codes among them), bidi and other format signs, halves of pairs, private and unassigned signs, line separators
HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def is_plain(sign: str) -> bool:
    """Whether a character shows itself and does nothing else."""
    return sign.isprintable() or sign in KEPT or sign in JOINERS or unicodedata.category(sign) not in HIDDEN


def printable(text: str) -> str:
    """Return text in which nothing commands a terminal or reorders what is read; such characters become �."""
    return text if text.isascii() and text.isprintable() else "".join(sign if is_plain(sign) else "�" for sign in text)


def say(text: object, *, error: bool = False) -> None:
    """Print lines of plain text at once. Everything that this project prints goes through here.

    Args:
        error: print to standard error, where progress and refusals go.
    """
    print(printable(str(text)), file=sys.stderr if error else sys.stdout, flush=True)


def as_json(content: Any) -> str:
    """Return content as JSON of characters that show themselves; others are escaped, so nothing is lost."""
    text = json.dumps(content, ensure_ascii=False, indent=1)
    return "".join(sign if is_plain(sign) else json.dumps(sign)[1:-1] for sign in text)
