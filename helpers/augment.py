"""Training examples under other names: tables and columns renamed alike in question, schema and answer.

A model that has seen each of 7,000 questions ten times knows them by heart, names and all. Names drawn from other databases make
it look into the schema.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from helpers.linking import pieces, words
from helpers.names import Names, identifier, unlike, usable

NEEDED, UNNEEDED, TABLE = 0.5, 0.25, 0.4  # of columns in the answer that the question names once; of other columns; of tables
MOST_WORDS = 3
TOO_PLAIN = frozenset(("id", "name"))


@dataclass(frozen=True)
class Pool:
    """Names to draw from, as words."""

    tables: tuple[str, ...]
    columns: tuple[str, ...]


def pool(many: Iterable[Names]) -> Pool:
    """The names of some databases that are short and say something."""
    tables, columns = set(), set()
    for names in many:
        for (_, column), label in names.labels.items():
            parts = pieces(label)
            if (
                1 <= len(parts) <= MOST_WORDS
                and all(word.isalpha() and len(word) > 2 for word in parts)
                and label not in TOO_PLAIN
            ):
                (columns if column else tables).add(" ".join(parts))
    return Pool(tables=tuple(sorted(tables)), columns=tuple(sorted(columns)))


def rename(
    question: str,
    names: Names,
    needed: tuple[Collection[str], Collection[tuple[str, str]]],
    source: Pool,
    chance: random.Random,
) -> tuple[str, Names]:
    """A question and the names of its database, some of both replaced.

    What the answer needs is renamed only where the question has the name literally, once, so that it still says the same; what it
    does not need, only where the question has no word of it. No new name shares a word with the question or with another name.

    Args:
        needed: tables and columns of the gold answer, by own names in lower case.
    """
    labels, said = dict(names.labels), words(question)
    taken = {word for label in labels.values() for word in words(label)}
    changed: set[tuple[str, str]] = set()
    for place, label in names.labels.items():
        is_needed = place in needed[1] if place[1] else place[0] in needed[0]
        share = TABLE if not place[1] else NEEDED if is_needed else UNNEEDED
        if label in TOO_PLAIN or chance.random() >= share:
            continue
        new = chance.choice(source.columns if place[1] else source.tables)
        new_words = words(new)
        if new_words & (said | taken):
            continue
        if is_needed:
            if not is_alone(label, place, names, needed) or len(phrase(label).findall(question)) != 1:
                continue
            question = phrase(label).sub(lambda found, new=new: plural_as(new, found), question)
        elif words(label) & said:
            continue
        labels[place] = new
        changed.add(place)
        taken |= new_words
    return question, renamed(names, labels, changed)


def phrase(label: str) -> re.Pattern:
    """A name where a text has it, alone or in the plural (group 1); not with a capital, where it may be a value's."""
    parts = pieces(label)
    parts[-1] = parts[-1].removesuffix("s") if len(parts[-1]) > 3 else parts[-1]
    return re.compile(r"\b" + r"[ _]".join(map(re.escape, parts)) + r"(e?s)?\b")


def plural_as(new: str, found: re.Match) -> str:
    """A new name in the number of the one that it replaces."""
    single = new.removesuffix("s") if new.endswith("s") and not new.endswith("ss") else new
    return f"{single}s" if found[1] else single


def is_alone(
    label: str, place: tuple[str, str], names: Names, needed: tuple[Collection[str], Collection[tuple[str, str]]]
) -> bool:
    """Whether nothing else that the answer needs shares a word with a name: the question would speak of both."""
    others = {other for other in names.labels if (other in needed[1] if other[1] else other[0] in needed[0]) and other != place}
    return not any(words(label) & words(names.labels[other]) for other in others)


def renamed(names: Names, labels: dict[tuple[str, str], str], changed: Collection[tuple[str, str]]) -> Names:
    """The names with these labels in place of some."""
    tables, columns = dict(names.tables), dict(names.columns)
    for table, column in changed:
        shown = identifier(labels[table, column])
        if column:
            others = {name for place, name in columns.items() if place[0] == table and place[1] != column}
            columns[table, column] = unlike(shown, others)
        else:
            others = {name for own, name in tables.items() if own != table}
            tables[table] = unlike(shown if usable(shown) else f"{shown}_table", others)
    return dataclasses.replace(names, tables=tables, columns=columns, labels=labels)
