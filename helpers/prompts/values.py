"""Value retrieval: index the texts in a database's cells, and find those that a question mentions."""

from __future__ import annotations

import difflib
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.databases.reading import NotRead, reading
from helpers.databases.schema import Schema, fold, quote_name, read, stored_columns
from helpers.prompts.linking import ColumnId
from helpers.prompts.names import NameMap
from helpers.prompts.words import WORD, stem

LONGEST_VALUE = 60  # characters; longer texts are prose, which no question quotes whole
MAX_WORDS = 8
MAX_VALUES = 300_000  # of one database
SECONDS = 2.5  # to read one database; what has been read until then is used
PER_COLUMN, COLUMNS = 2, 8  # matches shown
LIST_OF, LIST_SHOWN, LIST_LENGTH = 4, 3, 20  # a column of at most 4 short texts shows 3 of them
MAX_NEAR = 2_000  # texts that a misspelt one is compared with
CLOSE = 0.85  # similarity (difflib's ratio) at which a quoted text or a proper name counts as a misspelt value
QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']+(?:'\w[^']*)?)'(?!\w)|‘([^’]+)’")
COMMON = frozenset(
    "a about all also among an and any are as at be between both but by can did do does each find for from give had "
    "has have how i id in is it its least less list many me more most much name no not number of on one or other our "
    "out over own please return same show some than that the their them there these they this those to two under us "
    "was we were what when where which who whom whose will with you your".split()
)


@dataclass(frozen=True, eq=False)
class ValueIndex:
    """The texts of one database.

    Attributes:
        cells: (table, column, text) of each place where a text occurs, by the text's stems.
        near: texts by their first three letters, to find those that are spelled a little differently.
        lists: the texts of each column that has only a few short ones.
    """

    cells: dict[str, tuple[tuple[str, str, str], ...]]
    near: dict[str, tuple[str, ...]]
    lists: dict[ColumnId, tuple[str, ...]]


EMPTY = ValueIndex(cells={}, near={}, lists={})


def value_index(database: Path) -> ValueIndex:
    """Return the index of an SQLite file, kept for as long as its size and time of change stay the same.

    Raises:
        OSError: there is no such file.
        schema.BadDatabase: it cannot be read as an SQLite database.
    """
    found = database.stat()
    return _value_index(database, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _value_index(database: Path, _size: int, _changed: int) -> ValueIndex:
    cells: dict[str, dict[tuple[str, str, str], None]] = defaultdict(dict)
    lists: dict[ColumnId, tuple[str, ...]] = {}
    count = 0
    for column, texts in read_texts(database, read(database)):
        if 0 < len(texts) <= LIST_OF and all(is_category(text) for text in texts):
            lists[column] = tuple(texts)
        for text in texts:
            key = " ".join(stems(text))
            if key and key.count(" ") < MAX_WORDS:
                cells[key][(*column, text)] = None
        count += len(texts)
        if count > MAX_VALUES:
            break
    near: dict[str, list[str]] = defaultdict(list)
    for key in cells:
        near[key[:3]].append(key)
    return ValueIndex(
        cells={key: tuple(places) for key, places in cells.items()},
        near={start: tuple(keys) for start, keys in near.items()},
        lists=lists,
    )


def is_category(text: str) -> bool:
    """Whether to list a text: it is short and has more letters than digits (no date, number or code)."""
    return len(text) <= LIST_LENGTH and sum(map(str.isalpha, text)) > sum(map(str.isdigit, text))


def read_texts(database: Path, schema: Schema) -> Iterator[tuple[ColumnId, list[str]]]:
    """Yield each column's distinct short texts, until the time is up. Views and generated columns show what others hold."""
    with reading(database, SECONDS) as reader:
        for table in schema.tables:
            for column in stored_columns(table):
                name = quote_name(column.name)
                query = (
                    f"SELECT DISTINCT {name} FROM {quote_name(table.name)} WHERE typeof({name}) = 'text' "
                    f"AND length({name}) <= {LONGEST_VALUE} LIMIT {MAX_VALUES}"
                )
                try:
                    texts = [text for (text,) in reader.rows(query) if text.strip()]
                except NotRead:  # a damaged page, too many texts, or the time is up: the prompt does without
                    continue
                yield (fold(table.name), fold(column.name)), texts


def stems(text: str) -> list[str]:
    """Return the stems of a text's words, in order."""
    return [stem(word.lower()) for word in WORD.findall(text)]


def match_values(question: str, index: ValueIndex, names: NameMap) -> dict[ColumnId, list[str]]:
    """Return the cell values that a question mentions, by column: quoted ones first, then longer before shorter.

    Words that only name a table or column count as values where they are quoted or capitalised.
    """
    found: dict[ColumnId, list[str]] = {}

    def add(key: str) -> bool:
        for table, column, text in index.cells.get(key, ()):
            texts = found.get((table, column), [])
            if len(texts) < PER_COLUMN and text not in texts and (texts or len(found) < COLUMNS):
                found.setdefault((table, column), []).append(text)
        return key in index.cells

    for groups in QUOTED.findall(question):
        key = " ".join(stems("".join(groups)))
        if key and not add(key):
            add(nearest_value(key, index))
    words = [(match.group(), stem(match.group().lower())) for match in WORD.finditer(question)]
    named = {word for name in names.display_names.values() for word in stems(name)}
    used: set[int] = set()
    for length in range(min(MAX_WORDS, len(words)), 0, -1):
        for begin in range(len(words) - length + 1):
            span = range(begin, begin + length)
            if used & set(span) or (length == 1 and not may_be_value(*words[begin], begin == 0, named)):
                continue
            key = " ".join(word for _, word in words[begin : begin + length])
            proper = all(raw[0].isupper() for raw, _ in words[begin : begin + length]) and begin > 0
            if add(key) or (proper and add(nearest_value(key, index))):
                used |= set(span)
    return found


def may_be_value(raw: str, stemmed: str, is_first: bool, named: set[str]) -> bool:
    """Whether a single word of a question may be a cell value.

    Args:
        raw, stemmed: the word as written, and its stem.
        is_first: whether it begins the question, where a capital says nothing.
        named: stems of the names of tables and columns.
    """
    proper = raw[0].isupper() and not is_first
    return raw.lower() not in COMMON and (proper or stemmed not in named) and (len(raw) > 1 or proper)


def nearest_value(key: str, index: ValueIndex) -> str:
    """Return a value that is spelled nearly like this; '' if there is none."""
    near = index.near.get(key[:3], ())[:MAX_NEAR] if len(key) > 3 else ()
    return next(iter(difflib.get_close_matches(key, near, n=1, cutoff=CLOSE)), "")
