"""The texts in a database's cells, and which of them a question speaks of."""

from __future__ import annotations

import difflib
import functools
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.databases.schema import Schema, open_readonly, quote_name, read
from helpers.linking import Place
from helpers.names import Names
from helpers.run.files import file_sha256
from helpers.words import WORD, stem

LONGEST_VALUE = 60  # letters; longer texts are prose, which no question quotes whole
MOST_WORDS = 8
MOST_VALUES = 300_000  # of one database
SECONDS = 10.0  # to read one database; what was read until then is used
PER_COLUMN, COLUMNS = 2, 8  # matches shown
LIST_OF, LIST_SHOWN, LIST_LENGTH = 4, 3, 20  # a column of at most 4 short texts shows 3 of them
MOST_NEAR = 2_000  # texts that a misspelt one is compared with
CLOSE = 0.85  # likeness (difflib's ratio) at which a quoted text or a proper name is a misspelt value
QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']+(?:'\w[^']*)?)'(?!\w)|‘([^’]+)’")
COMMON = frozenset(
    "a about all also among an and any are as at be between both but by can did do does each find for from give had "
    "has have how i id in is it its least less list many me more most much name no not number of on one or other our "
    "out over own please return same show some than that the their them there these they this those to two under us "
    "was we were what when where which who whom whose will with you your".split()
)


@dataclass(frozen=True, eq=False)
class Index:
    """The texts of one database.

    Attributes:
        places: where a text stands, as (table, column, text as it is), by its words without endings.
        near: texts by the first three letters of each, for those that are spelt a little differently.
        lists: the few words of a column that has no other texts.
    """

    places: dict[str, tuple[tuple[str, str, str], ...]]
    near: dict[str, tuple[str, ...]]
    lists: dict[Place, tuple[str, ...]]


EMPTY = Index(places={}, near={}, lists={})


def index(database: Path) -> Index:
    """The index of an SQLite file, made once for the bytes that it has.

    Raises:
        schema.BadDatabase: the file cannot be read.
    """
    found = database.stat()
    return index_of(database, sha256_of(database, found.st_size, found.st_mtime_ns))


@functools.lru_cache(maxsize=512)
def sha256_of(database: Path, size: int, changed: int) -> str:
    """A file's checksum, taken once as long as its size and the time of its last change stay."""
    return file_sha256(database)


@functools.lru_cache(maxsize=256)
def index_of(database: Path, sha256: str) -> Index:
    """`index`, for a file with this checksum."""
    places: dict[str, dict[tuple[str, str, str], None]] = defaultdict(dict)
    lists: dict[Place, tuple[str, ...]] = {}
    count = 0
    for place, texts in columns_of_texts(database, read(database)):
        if 0 < len(texts) <= LIST_OF and all(is_word(text) for text in texts):
            lists[place] = tuple(texts)
        for text in texts:
            found = " ".join(stems(text))
            if found and found.count(" ") < MOST_WORDS:
                places[found][(*place, text)] = None
        count += len(texts)
        if count > MOST_VALUES:
            break
    near: dict[str, list[str]] = defaultdict(list)
    for found in places:
        near[found[:3]].append(found)
    return Index(
        places={found: tuple(there) for found, there in places.items()},
        near={start: tuple(there) for start, there in near.items()},
        lists=lists,
    )


def is_word(text: str) -> bool:
    """Whether a text is worth a place in a list: short, and no date, number or code, which no question chooses by."""
    return len(text) <= LIST_LENGTH and sum(map(str.isalpha, text)) > sum(map(str.isdigit, text))


def columns_of_texts(database: Path, tables: Schema) -> Iterator[tuple[Place, list[str]]]:
    """Each column's distinct texts, none of them long, until the time is up."""
    with open_readonly(database, SECONDS) as connection:
        for table in tables.tables:
            for column in table.columns:
                name = quote_name(column.name)
                query = (
                    f"SELECT DISTINCT {name} FROM {quote_name(table.name)} WHERE typeof({name}) = 'text' "
                    f"AND length({name}) <= {LONGEST_VALUE} LIMIT {MOST_VALUES}"
                )
                try:
                    texts = [text for (text,) in connection.execute(query) if text.strip()]
                except (sqlite3.Error, UnicodeDecodeError):  # a damaged page, or the time is up: the prompt does without
                    continue
                yield (table.name.lower(), column.name.lower()), texts


def stems(text: str) -> list[str]:
    """The words of a text without endings, in lower case."""
    return [stem(word.lower()) for word in WORD.findall(text)]


def find(question: str, values: Index, names: Names) -> dict[Place, list[str]]:
    """The cell values that a question speaks of, by column: longer ones first, what it puts in quotes before all.

    Words that only name a table or column count as values where they are quoted or begin with a capital.
    """
    found: dict[Place, list[str]] = {}

    def add(key: str) -> bool:
        for table, column, text in values.places.get(key, ()):
            there = found.get((table, column), [])
            if len(there) < PER_COLUMN and text not in there and (there or len(found) < COLUMNS):
                found.setdefault((table, column), []).append(text)
        return key in values.places

    for groups in QUOTED.findall(question):
        key = " ".join(stems("".join(groups)))
        if key and not add(key):
            add(nearest(key, values))
    words = [(match.group(), stem(match.group().lower())) for match in WORD.finditer(question)]
    named = {word for label in names.labels.values() for word in stems(label)}
    used: set[int] = set()
    for length in range(min(MOST_WORDS, len(words)), 0, -1):
        for begin in range(len(words) - length + 1):
            span = range(begin, begin + length)
            if used & set(span) or (length == 1 and not speaks(*words[begin], begin == 0, named)):
                continue
            key = " ".join(word for _, word in words[begin : begin + length])
            proper = all(raw[0].isupper() for raw, _ in words[begin : begin + length]) and begin > 0
            if add(key) or (proper and add(nearest(key, values))):
                used |= set(span)
    return found


def speaks(raw: str, word: str, first: bool, named: set[str]) -> bool:
    """Whether one word alone may be a value."""
    proper = raw[0].isupper() and not first
    return raw.lower() not in COMMON and (proper or word not in named) and (len(raw) > 1 or proper)


def nearest(key: str, values: Index) -> str:
    """A value spelt nearly like this; '' if there is none."""
    near = values.near.get(key[:3], ())[:MOST_NEAR] if len(key) > 3 else ()
    return next(iter(difflib.get_close_matches(key, near, n=1, cutoff=CLOSE)), "")
