"""The official evaluator's reading of SQL, faults included: for scores that must equal published ones to the letter.

`exact_match` decides by the same rules without the faults; which verdicts they change is listed in results/judge/faults.md.

Source: taoyds/test-suite-sql-eval at e97acc5 (Yu et al., EMNLP 2018; Zhong et al., EMNLP 2020). What it accepts, what it passes
over and in which order it looks is kept; the code is this project's own. Not kept: that it stops when gold does not run, that
a query may write, and that text which is not UTF-8 is an error.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
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
PIECES = re.compile(r"""'(?:''|[^'])*'|"(?:""|[^"])*"|`[^`]*`|--[^\n]*|/\*.*?\*/|\w+|.""", re.DOTALL)
NOT_READ = (IndexError, KeyError, ValueError, RecursionError)


# ---- what is executed


def as_read(prediction: str) -> str:
    """The prediction as the official code takes it up: cut at a tab, each "value" made "1", even in names (its issue 21)."""
    return prediction.strip().partition("\t")[0].replace("value", "1")


def join_operators(sql: str) -> str:
    """Split comparison signs put together: SQLite itself takes `> =` for an error."""
    return sql.replace("> =", ">=").replace("< =", "<=").replace("! =", "!=")


def first_statement(sql: str) -> str:
    """What comes up to the first semicolon."""
    pieces = PIECES.findall(sql)
    return "".join(pieces[: pieces.index(";") + 1] if ";" in pieces else pieces)


def without_distinct(sql: str) -> str:
    """Every DISTINCT taken out."""
    return "".join(piece for piece in PIECES.findall(sql) if piece.lower() != "distinct")


def in_2020(sql: str) -> str:
    """MySQL's current year made 2020."""
    return re.sub(r"YEAR\s*\(\s*CURDATE\s*\(\s*\)\s*\)\s*", "2020", sql, flags=re.IGNORECASE)


REWRITES = (join_operators, first_statement, without_distinct, in_2020)


def as_executed(sql: str) -> str:
    """The SQL that the official code runs in place of this."""
    for rewrite in REWRITES:
        sql = rewrite(sql)
    return sql


def mixed_numbers_agree(expected: Iterable[tuple], found: Iterable[tuple], *, ordered: bool) -> bool:
    """The official quick look at two results: each row sorted by its values as text, so that 10 and 10.0 may fall apart."""

    def rows(result: Iterable[tuple]) -> list[tuple]:
        return [tuple(sorted(row, key=lambda value: str(value) + str(type(value)))) for row in result]

    return rows(expected) == rows(found) if ordered else set(rows(expected)) == set(rows(found))


# ---- exact set match


@dataclass(frozen=True)
class Names:
    """A database's names in lower case.

    Attributes:
        columns: of each table.
        twins: `table.column` -> the one that stands for all that foreign keys link it to.
    """

    columns: Mapping[str, tuple[str, ...]]
    twins: Mapping[str, str]


def names(schema: Schema, keys: Schema) -> Names:
    """The names in a database, and its foreign keys as tables.json has them.

    A key joins the first group that holds one of its ends; groups that turn out to be linked later stay apart (as they do there).
    """
    order = [f"{table.name}.{column.name}".lower() for table in keys.tables for column in table.columns]
    place = {name: number for number, name in reversed(list(enumerate(order)))}
    groups: list[set[int]] = []
    for key in keys.foreign_keys:
        ends = {place[f"{key.table}.{key.column}".lower()], place[f"{key.to_table}.{key.to_column}".lower()]}
        group = next((some for some in groups if some & ends), None)
        if group is None:
            groups.append(ends)
        else:
            group |= ends
    return Names(schema.columns(), {order[one]: order[min(group)] for group in groups for one in group})


@dataclass(frozen=True)
class Query:
    """What the official parser keeps of a query.

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
    """Whether two queries agree by exact set match, as the official code has it; a prediction that it cannot read does not.

    Raises:
        ValueError: gold cannot be read; the official code stops here.
    """
    wanted = read(gold, names)
    if wanted is None:
        raise ValueError(f"The official parser cannot read the gold query {gold!r}")
    found = read(prediction, names) or NOTHING
    return key(wanted, renamed(wanted, names)) == key(found, renamed(found, names))


def read(sql: str, names: Names) -> Query | None:
    """The query as the official parser reads it; None where it gives up. What follows the query's end is passed over."""
    try:
        return Parser(words(sql), names).query()
    except NOT_READ:
        return None


def words(sql: str) -> list[str]:
    """The words of a query. A string in quotes of either kind is one; all others are in lower case.

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
    """What each alias stands for: one list for the whole query, wherever an `as` stands."""
    aliases = {words[at + 1]: words[at - 1] for at, word in enumerate(words) if word == "as"}
    if set(aliases) & set(names.columns):
        raise ValueError("an alias has the name of a table")
    return aliases | {name: name for name in names.columns}


class Parser:
    """The official parser's walk over the words of one query. A word where it expects another is an error of any kind."""

    def __init__(self, words: list[str], names: Names, aliases: dict[str, str] | None = None) -> None:
        self.words = words
        self.names = names
        self.aliases = find_aliases(words, names) if aliases is None else aliases
        self.within_from = 0  # values are forgotten, except within a query in FROM

    def at(self, at: int, *wanted: str) -> bool:
        return at < len(self.words) and self.words[at] in wanted

    def past(self, at: int, word: str) -> int:
        """The place after a word that must stand here."""
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
        """`table.column` of a column; without a table, the first one in FROM so far that has it."""
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
    """The columns that foreign keys link, with the one that stands for them: those of tables in the outermost FROM."""
    return {column: twin for column, twin in names.twins.items() if column.partition(".")[0] in query.tables}


def key(query: Query, twins: Mapping[str, str]) -> Hashable:
    """What must be equal for two queries to match.

    DISTINCT and values do not count, nor does the order of what is selected and of conditions; GROUP BY, HAVING and ORDER BY
    count in order. Nested queries must be the same in everything but values.
    """

    def column(one: tuple | None) -> Hashable:
        return one and (one[0], twins.get(one[1], one[1]))

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
        query.then and (query.then[0], key(query.then[1], twins)),
        keywords(query),
        bag(query.tables),
    )


def keywords(query: Query) -> frozenset[str]:
    """The words that must be in both queries or in neither."""
    everywhere = (query.on, query.where, query.having)
    found = {name for name in ("where", "group", "having", "order", "limit") if getattr(query, name)}
    found |= {query.order[0]} if query.order else set()
    found |= {query.then[0]} if query.then else set()
    found |= {"or" for some in everywhere if "or" in some[1::2]}
    found |= {word for some in everywhere for one in some[::2] for word in ("in", "like") if one[1] == word}
    return frozenset(found | {"not" for some in everywhere for one in some[::2] if one[0]})
