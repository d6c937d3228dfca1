"""Schema-name augmentation: training examples whose tables and columns have other names, in question, schema and answer alike.

A model that sees each of 7,000 questions several times learns them by heart, names included. Names drawn from other databases
make it read the schema.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from helpers.databases.schema import fold, type_group
from helpers.prompts.linking import ColumnId
from helpers.prompts.names import NameMap, identifier, make_unique, needs_no_alias
from helpers.prompts.words import split_words, stem_set

# Probability that a name changes: of a needed column that the question names once, another column, a table.
NEEDED, UNNEEDED, TABLE = 0.5, 0.25, 0.4
MAX_WORDS = 3
TOO_PLAIN = frozenset(("id", "name"))
SHORT = frozenset(("id", "of"))  # words of two letters that may be part of a name
BEFORE_VERBS = re.compile(r"\b(who|not|never|also)\s+$", re.IGNORECASE)


@dataclass(frozen=True)
class NamePool:
    """Names to draw from, as words: of tables, and of columns by the group of their type (`schema.type_group`)."""

    tables: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]

    def names(self, group: str) -> tuple[str, ...]:
        """Return the names for a type group, or with '' those of tables."""
        return self.columns.get(group, ()) if group else self.tables


def name_pool(maps: Iterable[NameMap]) -> NamePool:
    """Return the names of some databases that are short and meaningful."""
    found: dict[str, set[str]] = defaultdict(set)
    for names in maps:
        groups = type_groups(names)
        for item, name in names.display_names.items():
            words = split_words(name)
            if (
                1 <= len(words) <= MAX_WORDS
                and all(word in SHORT or (word.isalpha() and len(word) > 2) for word in words)
                and name not in TOO_PLAIN
            ):
                found[groups[item]].add(" ".join(words))
    tables = tuple(sorted(found.pop("", ())))
    return NamePool(tables=tables, columns={group: tuple(sorted(some)) for group, some in found.items()})


def type_groups(names: NameMap) -> dict[ColumnId, str]:
    """Return the type group of each column; '' for each table."""
    found = {(fold(table.name), ""): "" for table in names.schema.tables}
    for table in names.schema.tables:
        found |= {(fold(table.name), fold(column.name)): type_group(column.type) for column in table.columns}
    return found


def rename(
    question: str, names: NameMap, needed: Collection[ColumnId], pool: NamePool, chance: random.Random
) -> tuple[str, NameMap]:
    """Return a question and its database's names, some of both replaced by names of the same type group.

    A name that the answer needs is replaced only where the question has it literally, once, so that it still says the same.
    Another name is replaced only where the question has no word of it. No new name exists already or shares a word with the
    question.

    Args:
        needed: tables (with '' for the column) and columns of the gold answer.
    """
    display, question_stems, groups = dict(names.display_names), stem_set(question), type_groups(names)
    changed: list[ColumnId] = []  # in order, so that numbered names are the same in every run
    for item, name in names.display_names.items():
        share = TABLE if not item[1] else NEEDED if item in needed else UNNEEDED
        if name in TOO_PLAIN or not pool.names(groups[item]) or chance.random() >= share:
            continue
        new = chance.choice(pool.names(groups[item]))
        if new in display.values() or stem_set(new) & question_stems:
            continue
        if item not in needed:
            if stem_set(name) & question_stems:
                continue
        elif can_replace(question, item, new, names, display, needed):
            question = phrase(name).sub(lambda found, new=new: plural_as(new, found), question)
        else:
            continue
        display[item] = new
        changed.append(item)
    return question, renamed(names, display, changed)


def can_replace(
    question: str,
    item: ColumnId,
    new: str,
    names: NameMap,
    display: Mapping[ColumnId, str],
    needed: Collection[ColumnId],
) -> bool:
    """Whether a needed name can be replaced in the question without changing what it asks."""
    name = names.display_names[item]
    of_tables = {word for (_, column), other in display.items() if not column for word in stem_set(other)}
    if len(phrase(name).findall(question)) != 1 or not is_alone(name, item, names, needed) or stem_set(new) & of_tables:
        return False
    # "who visits": no table's name there
    return not BEFORE_VERBS.search(question[: phrase(name).search(question).start()])


def phrase(name: str) -> re.Pattern:
    """Return a pattern for a name, singular or plural (group 1); it skips capitalised words, which may be values."""
    words = split_words(name)
    words[-1] = words[-1].removesuffix("s") if len(words[-1]) > 3 else words[-1]
    return re.compile(r"\b" + r"[ _]".join(map(re.escape, words)) + r"(e?s)?\b")


def plural_as(new: str, found: re.Match) -> str:
    """Return a new name in the number of the one that it replaces."""
    singular = new.removesuffix("s") if new.endswith("s") and not new.endswith("ss") else new
    return f"{singular}s" if found[1] else singular


def is_alone(name: str, item: ColumnId, names: NameMap, needed: Collection[ColumnId]) -> bool:
    """Whether no other needed name shares a word with this one: the question would refer to both."""
    others = {other for other in names.display_names if other in needed and other != item}
    return not any(stem_set(name) & stem_set(names.display_names[other]) for other in others)


def renamed(names: NameMap, display: dict[ColumnId, str], changed: Collection[ColumnId]) -> NameMap:
    """Return the names with these display names in place of some."""
    tables, columns = dict(names.tables), dict(names.columns)
    for table, column in changed:
        wanted = identifier(display[table, column])
        if column:
            others = {name for other, name in columns.items() if other[0] == table and other[1] != column}
            columns[table, column] = make_unique(wanted, dict.fromkeys(others, 1))
        else:
            others = {name for other, name in tables.items() if other != table}
            tables[table] = make_unique(wanted if needs_no_alias(wanted) else f"{wanted}_table", dict.fromkeys(others, 1))
    return dataclasses.replace(names, tables=tables, columns=columns, display_names=display)
