"""Read CSV files as people write them: a column's type is what all of its cells agree on.

pandas splits the text into cells. Types are our own rules, because pandas and DuckDB's reader leave `+5`, `1,234`, `3,50` and
numbers beside NA as text, or lose digits of long ones; DuckDB also turns yes into true.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.databases.schema import BadDatabase

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".csv", ".tsv")
COLUMNS, CELLS = 500, 5_000_000
QUOTED = re.compile('"[^"]*"')
LONGEST_NUMBER = 100  # characters
SAMPLE = 200  # rows by which the delimiter is judged
SEPARATOR_LINE = re.compile(r'\s*"?sep=(.)"?[^\S\n]*\r?\n', re.IGNORECASE)  # how Excel names the delimiter, above the header
MISSING = frozenset(("na", "n/a", "#n/a", "nan", "null", "none", "-", "–", "—"))  # among numbers; Namibia's NA is text
NUMBERLIKE = re.compile(r"[\d+\-.,eE \u00a0\u202f'’]+")
WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)")
DECIMAL = re.compile(r"[+-]?((0|[1-9]\d*)?\.\d+|(0|[1-9]\d*)\.?)([eE][+-]?\d{1,3})?")
# As people write numbers: what stands between thousands, and before decimals.
GROUPED = ((",", "."), (".", ","), (" \u00a0\u202f'’", ".,"))
DECIMAL_COMMA = re.compile(r"[+-]?(0|[1-9]\d*)?,\d+|[+-]?(0|[1-9]\d*)")
SIGNED_DIGITS = 9  # a column whose numbers all begin with + and are longer holds telephone numbers
EXACT_DIGITS = 15  # of a whole number that a float holds


def read(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return a CSV file as a table with typed columns, and what had to be guessed, in sentences.

    Column names are the file's own.

    Raises:
        BadDatabase: the file cannot be read.
    """
    import pandas as pd

    text, notes = decode(file)
    named = SEPARATOR_LINE.match(text)
    if named:
        text = text[named.end() :]
        notes.append(f"{file.name}: its first line says that {named[1]!r} stands between cells")
    mark = named[1] if named else delimiter(text)
    check_size(file, text, mark)
    options = {"dtype": str, "keep_default_na": False, "na_values": [""], "index_col": False, "skipinitialspace": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop cells that lie right of the header
            table = pd.read_csv(io.StringIO(text), sep=mark, **options)
    except (ValueError, pd.errors.ParserWarning, csv.Error) as error:  # pandas' own errors are ValueErrors
        raise BadDatabase(f"{file} cannot be read as CSV: {' '.join(str(error).split())}") from error
    if table.empty:
        raise BadDatabase(f"{file} has no rows below its header")
    return pd.DataFrame({at: typed(table.iloc[:, at], mark) for at in range(table.shape[1])}).set_axis(
        table.columns, axis=1
    ), notes


def decode(file: Path) -> tuple[str, list[str]]:
    """Return a file's text: UTF-8, UTF-16 where it begins with its mark, else a guess, which is said.

    Raises:
        BadDatabase: the file cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadDatabase(f"{file} cannot be read: {error}") from error
    marked = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(marked)
        if "\0" not in text:
            return text, []
    except UnicodeDecodeError:
        pass
    half = content[: len(content) // 2 * 2]
    zeros = (half[::2].count(0), half[1::2].count(0))  # of Latin letters, every other byte is 0
    encoding = "utf-16-le" if zeros[1] > len(half) / 4 else "utf-16-be" if zeros[0] > len(half) / 4 else "cp1252"
    text = content.decode(encoding, errors="replace")
    if "\0" in text:
        raise BadDatabase(f"{file} is no text: it holds NUL characters")
    said = {"cp1252": "Windows-1252"}.get(encoding, "UTF-16")
    return text, [
        f"{file.name} is no UTF-8, so it was read as {said}: look at its letters, and save it as “CSV UTF-8” if they are wrong"
    ]


def check_size(file: Path, text: str, mark: str) -> None:
    """Refuse a table too wide or too large, before pandas makes a column for each mark.

    Raises:
        BadDatabase: it has too many columns or cells.
    """
    lines = text.replace("\r", "\n").split("\n")
    if max(line.count(mark) for line in lines) >= COLUMNS:  # some may stand within quotes
        lines = QUOTED.sub("", text).replace("\r", "\n").split("\n")
    if (columns := 1 + max(line.count(mark) for line in lines)) > COLUMNS:
        raise BadDatabase(f"{file} has {columns:,} columns, {COLUMNS} are allowed")
    if (cells := text.count(mark) + len(lines)) > CELLS:
        raise BadDatabase(f"{file} has about {cells:,} cells, {CELLS:,} are allowed: import it into an SQLite file first")


def delimiter(text: str) -> str:
    """Return the character between cells: that of comma, semicolon, tab and bar which gives the first rows most alike widths."""
    best, mark = (0.0, 1), ","
    for one in ",;\t|":
        try:
            widths = [
                len(row)
                for row, _ in zip(
                    csv.reader(io.StringIO(text), delimiter=one, skipinitialspace=True), range(SAMPLE), strict=False
                )
                if row
            ]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            best, mark = max((best, mark), ((widths.count(widths[0]) / len(widths), widths[0]), one), key=lambda found: found[0])
    return mark


def typed(column: pd.Series, mark: str) -> pd.Series:
    """Return a column of text as whole numbers, decimal numbers, or as it is.

    Args:
        mark: the character between cells. Where it is a semicolon, 1,234 is a decimal number.
    """
    import pandas as pd

    places, texts = pd.factorize(column.astype(object))  # each text once: columns repeat themselves
    texts = pd.Series([text.strip().replace("\u2212", "-") for text in texts], dtype=object)
    given = texts[[text.lower() not in MISSING for text in texts]]
    numbers = as_numbers(given, mark) if len(given) and all(map(NUMBERLIKE.fullmatch, given)) else None
    if numbers is None:
        return column
    return pd.Series(pd.api.extensions.take(numbers.reindex(texts.index).array, places, allow_fill=True), index=column.index)


def as_numbers(texts: pd.Series, mark: str) -> pd.Series | None:
    """Return texts as whole numbers (Int64) or floats; None where they do not all agree to be numbers, or would lose digits."""
    if texts.str.len().max() > LONGEST_NUMBER:
        return None
    if texts.str.match(r"\+\d").all() and texts.str.len().max() > SIGNED_DIGITS:
        return None
    if not all(map(DECIMAL.fullmatch, texts)):
        plain = ungrouped(texts, mark)
        if plain is None:
            return None
        texts = plain
    if all(map(WHOLE.fullmatch, texts)):
        wholes = [int(text) for text in texts]
        fits = all(-(2**63) <= whole < 2**63 for whole in wholes)
        return texts.map(int).astype("Int64") if fits else None
    longest = max((len(text.lstrip("+-")) for text in texts if WHOLE.fullmatch(text)), default=0)
    return texts.astype(float) if longest <= EXACT_DIGITS else None


def ungrouped(texts: pd.Series, mark: str) -> pd.Series | None:
    """Return numbers without separators of thousands and with a decimal point; None where they do not agree."""
    if mark == ";" and all(map(DECIMAL_COMMA.fullmatch, texts)):
        return texts.str.replace(",", ".")
    for thousands, decimal in GROUPED:
        pattern = rf"(?=.*\d)[+-]?(0|[1-9]\d{{0,2}}([{thousands}]\d{{3}})*)?([{decimal}]\d+)?"
        if all(map(re.compile(pattern).fullmatch, texts)):
            return texts.str.replace(f"[{thousands}]", "", regex=True).str.replace(",", ".")
    return texts.str.replace(",", ".") if all(map(DECIMAL_COMMA.fullmatch, texts)) else None
