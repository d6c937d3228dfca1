"""The grammar of the IR: what the model may write about one schema when decoding is constrained.

It is everyday SQLite: all that Spider's queries use, aggregates with FILTER, window functions, CASE, casts, JSON, collations.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from helpers.prompts.names import NameMap

ALIASES = tuple(f"t{number}" for number in range(1, 7))
NAMED = tuple(f"c{number}" for number in range(1, 5))
LONGEST_TEXT = 80  # characters of a value in quotes
# It accepts the IR of every gold query of Spider's train and dev. A schema adds COLUMN and TABLE. llguidance takes the longest
# text that any terminal allowed here may begin with, so no terminal may be the beginning of another one's text.
GRAMMAR = rf"""
start: select ((" UNION ALL " | " UNION " | " INTERSECT " | " EXCEPT ") select)*
select: "SELECT " ("DISTINCT "? item (", " item)* from (" WHERE " condition)? group? order? limit? | fixed (", " fixed)*)
fixed: "EXISTS(" start ")" | scalars (COMPARED scalars)?
scalars: scalar (CALCULATED scalar)*
scalar: "(" start ")" | "(" scalars ")" | NUMBER | "-" NUMBER | TEXT | "CAST(" scalars " AS " TYPE ")"
    | "ROUND(" scalars (", " scalars)? ")"
item: "*" | condition (" AS " NAMED)?
from: " FROM " source (", " source | " LEFT"? " JOIN " source " ON " condition)*
source: TABLE (" AS " ALIAS)? | "(" start ")" (" AS " ALIAS)?
group: " GROUP BY " condition (", " condition)* (" HAVING " condition)?
order: " ORDER BY " sorted
sorted: ordered (", " ordered)*
ordered: condition " DESC"? (" NULLS " ("FIRST" | "LAST"))?
limit: " LIMIT " NUMBER (" OFFSET " NUMBER)?
condition: test ((" AND " | " OR ") test)*
test: "NOT "? ("(" condition ")" | "EXISTS(" start ")" | expression comparison?)
comparison: COMPARED expression | " IS" " NOT"? (" NULL" | " " expression)
    | " NOT"? " IN (" (start | expression (", " expression)*) ")" | " GLOB " expression
    | " NOT"? " LIKE " expression (" ESCAPE " TEXT)? | " NOT"? " BETWEEN " expression " AND " expression
expression: term (CALCULATED term)*
term: (COLUMN | NUMBER | TEXT | "NULL" | "TRUE" | "FALSE" | call | "(" start ")" | "(" condition ")" | case
    | "-" (COLUMN | NUMBER | call | "(" expression ")") | "CAST(" expression " AS " TYPE ")") (" COLLATE " COLLATION)?
case: "CASE" (" " expression)? (" WHEN " condition " THEN " expression)+ (" ELSE " expression)? " END"
call: aggregate (" FILTER(WHERE " condition ")")? (" OVER (" window ")")? | WINDOWED_ALONE " OVER (" window ")"
    | WINDOWED "(" expression (", " expression)* ")" " OVER (" window ")"
    | OF_NONE | OF_ONE "(" expression ")" | OF_ONE_OR_TWO "(" expression (", " expression)? ")"
    | OF_TWO "(" expression ", " expression ")" | OF_ANY "(" expression (", " expression)* ")"
    | "ROUND(" expression (", " expression)? ")" | "SUBSTRING(" expression ", " expression (", " expression)? ")"
    | "IIF(" condition ", " expression ", " expression ")" | "REPLACE(" expression ", " expression ", " expression ")"
aggregate: "COUNT(" ("*" | "DISTINCT "? condition (", " condition)*) ")" | AGGREGATE "(" "DISTINCT "? condition ")"
    | EXTREME "(" "DISTINCT "? condition (", " condition)* ")" | "GROUP_CONCAT(" "DISTINCT "? expression (", " expression)? ")"
window: part | part " " framed | framed | ""
part: "PARTITION BY " expression (", " expression)*
framed: "ORDER BY " sorted (" " FRAME " BETWEEN " bound " AND " bound)?
bound: "CURRENT ROW" | ("UNBOUNDED" | NUMBER) " " ("PRECEDING" | "FOLLOWING")
NUMBER: /[0-9]+(\.[0-9]+)?/
TEXT: /'([^'\n]|''){{0,{LONGEST_TEXT}}}'/
COMPARED: / (=|!=|<|>|<=|>=) /
CALCULATED: / (\+|-|\*|\/|%|\|\||->>?) /
TYPE: /INTEGER|REAL|TEXT|NUMERIC|BLOB/
COLLATION: /NOCASE|BINARY|RTRIM/
FRAME: /ROWS|RANGE|GROUPS/
ALIAS: /{"|".join(ALIASES)}/
NAMED: /{"|".join(NAMED)}/
AGGREGATE: /SUM|AVG|TOTAL|JSON_GROUP_ARRAY/
EXTREME: /MIN|MAX/
WINDOWED_ALONE: /(ROW_NUMBER|RANK|DENSE_RANK|PERCENT_RANK|CUME_DIST)\(\)/
WINDOWED: /LAG|LEAD|NTILE|FIRST_VALUE|LAST_VALUE|NTH_VALUE/
OF_NONE: /CURRENT_DATE|CURRENT_TIME|CURRENT_TIMESTAMP|RANDOM\(\)|PI\(\)/
OF_ONE: /ABS|LENGTH|LOWER|UPPER|TYPEOF|HEX|QUOTE|UNICODE|CEIL|FLOOR|TRUNC|SQRT|EXP|LN|SIGN/
OF_ONE_OR_TWO: /TRIM|LTRIM|RTRIM|LOG|JSON_ARRAY_LENGTH|JSON_TYPE/
OF_TWO: /INSTR|NULLIF|POWER|MOD/
OF_ANY: /COALESCE|DATE|TIME|DATETIME|JULIANDAY|UNIXEPOCH|STRFTIME|PRINTF|FORMAT|CHAR|JSON_EXTRACT|JSON_ARRAY|JSON_OBJECT/
"""


def lark(names: NameMap) -> str:
    """Return the grammar of the IR with the names of one schema, in llguidance's dialect of Lark."""
    columns: dict[str, list[str]] = defaultdict(list)
    for table, column in names.column_of:
        columns[table].append(column)
    every = {column for _, column in names.column_of} | set(NAMED)
    of_tables = [rf"{re.escape(table)}\.({either([*columns[table], '*'])})" for table in names.table_of]
    of_aliases = [rf"({either(ALIASES)})\.({either([*every, '*'])})"]
    return "\n".join(
        [GRAMMAR, f"TABLE: /{either(names.table_of)}/", f"COLUMN: /{'|'.join([*of_tables, *of_aliases, either(NAMED)])}/"]
    )


def either(words: Iterable[str]) -> str:
    """Return a regular expression for one of several words."""
    return "|".join(re.escape(word) for word in sorted(words))


@functools.lru_cache(maxsize=256)
def _matcher(names: NameMap) -> tuple[Any, Any]:
    from llguidance import LLMatcher, LLTokenizer

    letters = LLTokenizer("byte")  # a token a byte: no model's vocabulary is needed to ask what the grammar accepts
    return letters, LLMatcher(letters, LLMatcher.grammar_from_lark(lark(names)), log_level=0)


def accepts(ir: str, names: NameMap) -> bool:
    """Whether a model whose decoding is constrained could write this query."""
    letters, start = _matcher(names)
    matcher = start.deep_copy()
    return bool(matcher.consume_tokens(letters.tokenize_str(ir))) and matcher.is_accepting()
