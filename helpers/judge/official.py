"""Decide exact set match as the official evaluator does, faults included, for scores that must equal published ones exactly.

`exact_match` decides by the same rules without the faults; results/judge/faults.md lists the verdicts that they change.

Source: taoyds/test-suite-sql-eval at e97acc5 (Yu et al., EMNLP 2018; Zhong et al., EMNLP 2020). This parser accepts, skips and
reads in the same order as the official one; the code is this project's own. Three things differ: it does not stop when gold does
not run, a query cannot write, and text that is not UTF-8 is no error.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from helpers.databases.schema import Schema
from helpers.databases.sql import bag

CLAUSES = ("select", "from", "where", "group", "order", "limit", "intersect", "union", "except")
JOIN_WORDS = ("join", "on", "as")
OPERATORS = ("not", "between", "=", ">", "<", ">=", "<=", "!=", "in", "like", "is", "exists")
AGGREGATES = ("none", "max", "min", "count", "sum", "avg")
ARITHMETIC = ("none", "-", "+", "*", "/")
SET_OPERATIONS = ("intersect", "union", "except")
ENDS = (*CLAUSES, ")", ";")
# Words as the natural-language tokenizer of the official code cuts them: `a=1` is one word, and so is `a,1`.
SIGNS = re.compile(r"[*;@#$%&?!()\[\]{}<>]|`+|[«»“”‘’„‒-―]|\.{2,}|--|[:,](?!\d)|(?<=[^.])\.(?=[\])}>\"' ]*+\s*$)")
NOT_READ = (IndexError, KeyError, ValueError, RecursionError)


@dataclass(frozen=True)
class Names:
    """A database's names in lower case.

    Attributes:
        columns: of each table.
        equal: `table.column` -> the column that represents all that foreign keys link it to.
    """

    columns: Mapping[str, tuple[str, ...]]
    equal: Mapping[str, str]


def names(schema: Schema, keys: Schema) -> Names:
    """Return the names in a database, and its foreign keys as tables.json lists them.

    A key joins the first group that holds one of its ends. Groups that a later key links stay apart, as in the official code.
    """
    order = [f"{table.name}.{column.name}".lower() for table in keys.tables for column in table.columns]
    index = {name: number for number, name in reversed(list(enumerate(order)))}
    groups: list[set[int]] = []
    for key in keys.foreign_keys:
        for column, to_column in key.pairs:
            ends = {index[f"{key.table}.{column}".lower()], index[f"{key.to_table}.{to_column}".lower()]}
            group = next((some for some in groups if some & ends), None)
            if group is None:
                groups.append(ends)
            else:
                group |= ends
    return Names(schema.columns(), {order[one]: order[min(group)] for group in groups for one in group})


@dataclass(frozen=True)
class Query:
    """The parts of a query that the official parser keeps.

    A column is (aggregate, `table.column`, distinct), a unit (operator, column, column or None), a condition (negated, operator,
    unit, value, value); `where`, `having` and `on` alternate conditions with 'and' and 'or'. A value is a Query, or None.
    """

    select: tuple
    distinct: bool
    tables: tuple
    on: tuple
    where: tuple
    group: tuple
    having: tuple
    order: tuple
    limit: bool
    then: tuple[str, Query] | None


NOTHING = Query((), False, (), (), (), (), (), (), False, None)


def matches(gold: str, prediction: str, names: Names) -> bool:
    """Whether two queries agree by the official exact set match. A prediction that its parser cannot read never agrees.

    Raises:
        ValueError: gold cannot be read; here the official code stops.
    """
    wanted = read(gold, names)
    if wanted is None:
        raise ValueError(f"The official parser cannot read the gold query {gold!r}")
    found = read(prediction, names) or NOTHING
    return key(wanted, renamed(wanted, names)) == key(found, renamed(found, names))


def read(sql: str, names: Names) -> Query | None:
    """Return the query as the official parser reads it; None where it gives up. Text after the query's end is ignored."""
    try:
        return Parser(words(sql), names).query()
    except NOT_READ:
        return None


def words(sql: str) -> list[str]:
    """Return the words of a query. A string in quotes of either kind is one word; all others are in lower case.

    Raises:
        ValueError: an odd number of quotes.
    """
    pieces = sql.replace("'", '"').split('"')
    if len(pieces) % 2 == 0:
        raise ValueError("a quote is left open")
    marks = {f"__value_{number}__": f'"{text}"' for number, text in enumerate(pieces[1::2])}
    plain = "".join(a + b for a, b in zip(pieces[::2], [*marks, ""], strict=True))
    found = [marks.get(word.lower(), word.lower()) for word in SIGNS.sub(r" \g<0> ", plain).split()]
    for at in range(len(found) - 1, 0, -1):
        if found[at] == "=" and found[at - 1] in ("!", ">", "<"):
            found[at - 1 : at + 1] = [found[at - 1] + "="]
    return found


def find_aliases(words: list[str], names: Names) -> dict[str, str]:
    """Return the table that each alias stands for: one list for the whole query, wherever an `as` occurs."""
    aliases = {words[at + 1]: words[at - 1] for at, word in enumerate(words) if word == "as"}
    if set(aliases) & set(names.columns):
        raise ValueError("an alias has the name of a table")
    return aliases | {name: name for name in names.columns}


class Parser:
    """Walks over the words of one query as the official parser does. An unexpected word raises an error of any kind."""

    def __init__(self, words: list[str], names: Names, aliases: dict[str, str] | None = None) -> None:
        self.words = words
        self.names = names
        self.aliases = find_aliases(words, names) if aliases is None else aliases
        self.within_from = 0  # values are forgotten, except within a query in FROM

    def at(self, at: int, *wanted: str) -> bool:
        return at < len(self.words) and self.words[at] in wanted

    def past(self, at: int, word: str) -> int:
        """Return the position after a word that must come here."""
        if self.words[at] != word:
            raise ValueError(f"{word} is missing")
        return at + 1

    def query(self) -> Query:
        return self.read_query(0)[1]

    def read_query(self, at: int) -> tuple[int, Query]:
        block = self.words[at] == "("
        begin = at + block
        at, tables, on, known = self.read_from(at)
        distinct, select = self.read_select(begin, known)
        at, where = self.read_conditions(at + 1, known) if self.at(at, "where") else (at, ())
        at, group = self.read_group(at, known) if self.at(at, "group") else (at, ())
        at, having = self.read_conditions(at + 1, known) if self.at(at, "having") else (at, ())
        at, order = self.read_order(at, known) if self.at(at, "order") else (at, ())
        limit = self.at(at, "limit")
        if limit:
            _, at = self.words[at + 1], at + 2  # what follows the word is passed over, but it must be there
        at = self.past_semicolons(at)
        if block:
            at = self.past_semicolons(self.past(at, ")"))
        then = None
        if self.at(at, *SET_OPERATIONS):
            operation = self.words[at]
            at, other = self.read_query(at + 1)
            then = (operation, other)
        return at, Query(select, distinct, tables, on, where, group, having, order, limit, then)

    def past_semicolons(self, at: int) -> int:
        while self.at(at, ";"):
            at += 1
        return at

    def read_from(self, at: int) -> tuple[int, tuple, tuple, list[str]]:
        at = self.words.index("from", at) + 1
        tables: list = []
        known: list[str] = []
        on: list = []
        while at < len(self.words):
            block = self.words[at] == "("
            at += block
            if self.words[at] == "select":
                self.within_from += 1
                at, inner = self.read_query(at)
                self.within_from -= 1
                tables.append(inner)
            else:
                at += self.words[at] == "join"
                name = self.aliases[self.words[at]]
                self.names.columns[name]  # an alias of something else than a table is an error
                tables.append(name)
                known.append(name)
                at += 3 if self.at(at + 1, "as") else 1
            if self.at(at, "on"):
                at, links = self.read_conditions(at + 1, known)
                on += ["and", *links] if on else links
            if block:
                at = self.past(at, ")")
            if self.at(at, *ENDS):
                break
        return at, tuple(tables), tuple(on), known

    def read_select(self, at: int, known: list[str]) -> tuple[bool, tuple]:
        at = self.past(at, "select")
        distinct = self.at(at, "distinct")
        at += distinct
        kept = []
        while at < len(self.words) and self.words[at] not in CLAUSES:
            aggregate = self.words[at] if self.words[at] in AGGREGATES else "none"
            at += self.words[at] in AGGREGATES
            at, unit = self.read_unit(at, known)
            kept.append((aggregate, unit))
            at += self.at(at, ",")
        return distinct, tuple(kept)

    def read_group(self, at: int, known: list[str]) -> tuple[int, tuple]:
        at = self.past(at + 1, "by")
        kept = []
        while at < len(self.words) and self.words[at] not in ENDS:
            at, column = self.read_column(at, known)
            kept.append(column)
            if not self.at(at, ","):
                break
            at += 1
        return at, tuple(kept)

    def read_order(self, at: int, known: list[str]) -> tuple[int, tuple]:
        at = self.past(at + 1, "by")
        kept, direction = [], "asc"
        while at < len(self.words) and self.words[at] not in ENDS:
            at, unit = self.read_unit(at, known)
            kept.append(unit)
            if self.at(at, "asc", "desc"):
                direction = self.words[at]  # the last one holds for all
                at += 1
            if not self.at(at, ","):
                break
            at += 1
        return at, (direction, tuple(kept))

    def read_conditions(self, at: int, known: list[str]) -> tuple[int, tuple]:
        kept: list = []
        while at < len(self.words):
            at, unit = self.read_unit(at, known)
            negated = self.words[at] == "not"
            at += negated
            operator, second = self.words[at], None
            if operator not in OPERATORS:
                raise ValueError(f"{operator} is no operator")
            at, first = self.read_value(at + 1, known)
            if operator == "between":
                at, second = self.read_value(self.past(at, "and"), known)
            kept.append((negated, operator, unit, first, second))
            if self.at(at, *ENDS, *JOIN_WORDS):
                break
            if self.at(at, "and", "or"):
                kept.append(self.words[at])
                at += 1
        return at, tuple(kept)

    def read_value(self, at: int, known: list[str]) -> tuple[int, Hashable]:
        begin = at
        block = self.words[at] == "("
        at += block
        value: Hashable
        if self.words[at] == "select":
            at, value = self.read_query(at)
        elif '"' in self.words[at]:
            at, value = at + 1, self.words[at]
        else:
            try:
                at, value = at + 1, float(self.words[at])
            except ValueError:
                # everything up to the next border counts as one column, of which only the beginning is read
                while at < len(self.words) and self.words[at] not in (",", ")", "and", *CLAUSES, *JOIN_WORDS):
                    at += 1
                value = Parser(self.words[begin:at], self.names, self.aliases).read_column(0, known)[1]
        if block:
            at = self.past(at, ")")
        return at, value if isinstance(value, Query) or self.within_from else None

    def read_unit(self, at: int, known: list[str]) -> tuple[int, tuple]:
        block = self.words[at] == "("
        at, first = self.read_column(at + block, known)
        operator, second = "none", None
        if self.at(at, *ARITHMETIC):
            operator = self.words[at]
            at, second = self.read_column(at + 1, known)
        return self.past(at, ")") if block else at, (operator, first, second)

    def read_column(self, at: int, known: list[str]) -> tuple[int, tuple]:
        block = self.words[at] == "("
        at += block
        aggregate = self.words[at]
        if aggregate in AGGREGATES:
            at = self.past(at + 1, "(")
            distinct = self.words[at] == "distinct"
            at += distinct
            column = self.name(self.words[at], known)
            return self.past(at + 1, ")"), (aggregate, column, distinct)  # a `(` before the aggregate is never closed
        distinct = self.words[at] == "distinct"
        at += distinct
        column = self.name(self.words[at], known)
        return self.past(at + 1, ")") if block else at + 1, ("none", column, distinct)

    def name(self, word: str, known: list[str]) -> str:
        """Return `table.column` of a column; without a table, that of the first one in FROM so far that has it."""
        if word == "*":
            return "*"
        if "." in word:
            alias, column = word.split(".")
            tables = [self.aliases[alias]]
        else:
            tables, column = known, word
        for table in tables:
            if column in self.names.columns[table]:
                return f"{table}.{column}"
        raise ValueError(f"there is no column {word}")


def renamed(query: Query, names: Names) -> dict[str, str]:
    """Return the columns of tables in the outermost FROM that foreign keys link, with the one that represents them."""
    return {column: same for column, same in names.equal.items() if column.partition(".")[0] in query.tables}


def key(query: Query, equal: Mapping[str, str]) -> Hashable:
    """Return what must be equal for two queries to match.

    DISTINCT, values, and the order of selected columns and conditions are ignored. GROUP BY, HAVING and ORDER BY count in order.
    Nested queries must be the same in everything but values.
    """

    def column(one: tuple | None) -> Hashable:
        return one and (one[0], equal.get(one[1], one[1]))

    def unit(one: tuple) -> Hashable:
        return one[0], column(one[1]), column(one[2])

    def conditions(some: tuple) -> list:
        return [one if isinstance(one, str) else (*one[:2], unit(one[2]), *one[3:]) for one in some]

    where = conditions(query.where)
    order = query.order and (query.order[0], tuple(unit(one) for one in query.order[1]), query.limit)
    return (
        bag((aggregate, unit(one)) for aggregate, one in query.select),
        bag(where[::2]),
        frozenset(where[1::2]),
        query.group and (tuple(column(one)[1] for one in query.group), tuple(conditions(query.having))),
        order,
        query.then and (query.then[0], key(query.then[1], equal)),
        keywords(query),
        bag(query.tables),
    )


def keywords(query: Query) -> frozenset[str]:
    """Return the keywords that must be in both queries or in neither."""
    everywhere = (query.on, query.where, query.having)
    found = {name for name in ("where", "group", "having", "order", "limit") if getattr(query, name)}
    found |= {query.order[0]} if query.order else set()
    found |= {query.then[0]} if query.then else set()
    found |= {"or" for some in everywhere if "or" in some[1::2]}
    found |= {word for some in everywhere for one in some[::2] for word in ("in", "like") if one[1] == word}
    return frozenset(found | {"not" for some in everywhere for one in some[::2] if one[0]})
