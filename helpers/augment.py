"""Training examples under other names: tables and columns renamed alike in question, schema and answer.

A model that has seen each of 7,000 questions ten times knows them by heart, names and all. Names drawn from other databases make
it look into the schema.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from helpers.databases.schema import type_group
from helpers.names import Names, identifier, unlike, usable
from helpers.words import pieces, stem_set

NEEDED, UNNEEDED, TABLE = 0.5, 0.25, 0.4  # of columns in the answer that the question names once; of other columns; of tables
MOST_WORDS = 3
TOO_PLAIN = frozenset(("id", "name"))
SHORT = frozenset(("id", "of"))  # words of two letters that may be part of a name
BEFORE_VERBS = re.compile(r"\b(who|not|never|also)\s+$", re.IGNORECASE)


@dataclass(frozen=True)
class Pool:
    """Names to draw from, as words: of tables, and of columns by the kind of what they hold (`schema.spider_type`)."""

    tables: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]

    def names(self, kind: str) -> tuple[str, ...]:
        """Those for a kind of column, or with '' for tables."""
        return self.columns.get(kind, ()) if kind else self.tables


def pool(many: Iterable[Names]) -> Pool:
    """The names of some databases that are short and say something."""
    found: dict[str, set[str]] = defaultdict(set)
    for names in many:
        kinds = kinds_of(names)
        for place, label in names.labels.items():
            parts = pieces(label)
            if (
                1 <= len(parts) <= MOST_WORDS
                and all(word in SHORT or (word.isalpha() and len(word) > 2) for word in parts)
                and label not in TOO_PLAIN
            ):
                found[kinds[place]].add(" ".join(parts))
    tables = tuple(sorted(found.pop("", ())))
    return Pool(tables=tables, columns={kind: tuple(sorted(some)) for kind, some in found.items()})


def kinds_of(names: Names) -> dict[tuple[str, str], str]:
    """What each column holds, by its table's and its own name in lower case; '' for each table."""
    found = {(table.name.lower(), ""): "" for table in names.schema.tables}
    for table in names.schema.tables:
        found |= {(table.name.lower(), column.name.lower()): type_group(column.type) for column in table.columns}
    return found


def rename(
    question: str,
    names: Names,
    needed: tuple[Collection[str], Collection[tuple[str, str]]],
    source: Pool,
    chance: random.Random,
) -> tuple[str, Names]:
    """A question and the names of its database, some of both replaced by names of the same kind.

    What the answer needs is renamed only where the question has the name literally, once, so that it still says the same; what it
    does not need, only where the question has no word of it. No new name is there already or shares a word with the question, and
    none that the answer needs shares one with a table's.

    Args:
        needed: tables and columns of the gold answer, by own names in lower case.
    """
    labels, said, kinds = dict(names.labels), stem_set(question), kinds_of(names)
    changed: set[tuple[str, str]] = set()
    for place, label in names.labels.items():
        is_needed = place in needed[1] if place[1] else place[0] in needed[0]
        share = TABLE if not place[1] else NEEDED if is_needed else UNNEEDED
        if label in TOO_PLAIN or not source.names(kinds[place]) or chance.random() >= share:
            continue
        new = chance.choice(source.names(kinds[place]))
        if new in labels.values() or stem_set(new) & said:
            continue
        if is_needed:
            found = phrase(label).findall(question)
            of_tables = {word for (_, column), other in labels.items() if not column for word in stem_set(other)}
            if len(found) != 1 or not is_alone(label, place, names, needed) or stem_set(new) & of_tables:
                continue
            if BEFORE_VERBS.search(question[: phrase(label).search(question).start()]):  # "who visits": no table's name there
                continue
            question = phrase(label).sub(lambda found, new=new: plural_as(new, found), question)
        elif stem_set(label) & said:
            continue
        labels[place] = new
        changed.add(place)
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
    return not any(stem_set(label) & stem_set(names.labels[other]) for other in others)


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
