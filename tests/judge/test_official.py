"""The official evaluator's reading of SQL: what it takes in, what it gives up on, and what it calls a match."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.databases import layout, schema
from helpers.judge import official, official_execution
from helpers.judge.hardness import hardness

SINGER = ("id", "name", "age", "country")
CONCERT = ("id", "title", "year", "stadium_id")
STADIUM = ("id", "name", "capacity")
PLAYED = ("concert_id", "singer_id")
LENGTH = 100_000  # characters of junk


def schema_of(tables, keys):
    """A schema from {table: names of its columns} and (table.column, table.column) pairs."""
    return schema.Schema(
        db_id="concerts",
        tables=tuple(
            schema.Table(name=name, columns=tuple(schema.Column(name=column, type="") for column in columns))
            for name, columns in tables.items()
        ),
        foreign_keys=tuple(
            schema.ForeignKey(table=a, columns=(b,), to_table=c, to_columns=(d,))
            for (a, b), (c, d) in ((one.split("."), other.split(".")) for one, other in keys)
        ),
    )


CONCERTS = schema_of(
    {"Singer": SINGER, "concert": CONCERT, "stadium": STADIUM, "played": PLAYED},
    [("concert.stadium_id", "stadium.id"), ("played.concert_id", "concert.id"), ("played.singer_id", "Singer.id")],
)
NAMES = official.names(CONCERTS, CONCERTS)


def same(gold, prediction):
    return official.matches(gold, prediction, NAMES)


def reads(sql):
    return official.read(sql, NAMES) is not None


# What is read

READ = {
    "the plainest query": "SELECT name FROM singer",
    "any case": "sElEcT NAME FrOm SINGER",
    "a table without an alias, in a column's name": "SELECT singer.name FROM singer",
    "an alias with AS": "SELECT T1.name FROM singer AS T1",
    "joins": "SELECT T1.name FROM singer AS T1 JOIN played AS T2 ON T1.id = T2.singer_id JOIN concert AS T3 ON T2.concert_id = T3.id",
    "a join without ON": "SELECT singer.name FROM singer JOIN concert",
    "a condition of several parts": "SELECT name FROM singer WHERE age > 20 AND age < 30 OR country = 'France'",
    "both kinds of quotes": "SELECT name FROM singer WHERE country = 'France' OR country = \"Spain\"",
    "a quote of one kind and one of the other": "SELECT name FROM singer WHERE country = 'France\"",
    "BETWEEN": "SELECT name FROM singer WHERE age BETWEEN 20 AND 30",
    "NOT LIKE": "SELECT name FROM singer WHERE name NOT LIKE '%a%'",
    "!= with and without a space": "SELECT name FROM singer WHERE age != 1 AND age ! = 2",
    ">= with a space within": "SELECT name FROM singer WHERE age > = 1 AND age < = 2",
    "a comparison without spaces that the tokenizer cuts": "SELECT name FROM singer WHERE age>20",
    "IN with a query": "SELECT name FROM singer WHERE id NOT IN (SELECT singer_id FROM played)",
    "a query as a value": "SELECT name FROM singer WHERE age > (SELECT avg(age) FROM singer)",
    "a query in FROM": "SELECT count(*) FROM (SELECT name FROM singer WHERE age > 20)",
    "aggregates, DISTINCT, HAVING": "SELECT country, count(DISTINCT name) FROM singer GROUP BY country HAVING count(*) > 1",
    "arithmetic of two columns": "SELECT age - id FROM singer ORDER BY max(age) - min(age) DESC LIMIT 3",
    "a set operation": "SELECT name FROM singer UNION SELECT name FROM stadium",
    "three of them": "SELECT id FROM singer UNION SELECT id FROM stadium EXCEPT SELECT id FROM concert",
    "UNION in a query in FROM": "SELECT count(*) FROM (SELECT id FROM singer UNION SELECT id FROM stadium)",
    "a query in parentheses": "(SELECT name FROM singer)",
    "semicolons": "SELECT name FROM singer ;;",
    "numbers of any form": "SELECT name FROM singer WHERE age = 1e3 OR age = -2 OR age = .5",
    "a list of one value": "SELECT name FROM singer WHERE age IN (20)",
    "a column as a value": "SELECT name FROM singer WHERE age > id",
    "nan, which Python calls a number": "SELECT name FROM singer WHERE age = nan",
    "commas left out of SELECT": "SELECT name age FROM singer",
    "a table that is named twice without JOIN": "SELECT singer.name FROM singer concert",
}
NOT_READ = {
    "nothing": "",
    "no FROM": "SELECT 1",
    "an equals sign without spaces": "SELECT name FROM singer WHERE age=20",
    "a comma without a space before a digit": "SELECT name FROM singer WHERE age IN (1,2)",
    "a list of values": "SELECT name FROM singer WHERE age IN (20, 30)",
    "IS NULL": "SELECT name FROM singer WHERE age IS NULL",
    "IS NOT NULL": "SELECT name FROM singer WHERE age IS NOT NULL",
    "an alias without AS": "SELECT T1.name FROM singer T1",
    "<>": "SELECT name FROM singer WHERE age <> 20",
    "==": "SELECT name FROM singer WHERE age == 20",
    "INNER JOIN": "SELECT singer.name FROM singer INNER JOIN played ON singer.id = played.singer_id",
    "LEFT JOIN": "SELECT singer.name FROM singer LEFT JOIN played ON singer.id = played.singer_id",
    "USING": "SELECT singer.name FROM singer JOIN stadium USING (id)",
    "tables with a comma": "SELECT singer.name FROM singer, concert",
    "a select alias": "SELECT name AS n FROM singer",
    "a number in SELECT": "SELECT age + 1 FROM singer",
    "a function": "SELECT length(name) FROM singer",
    "three columns added": "SELECT age + id + age FROM singer",
    "parentheses around conditions": "SELECT name FROM singer WHERE (age > 20 AND age < 30) OR age = 50",
    "NOT before a condition": "SELECT name FROM singer WHERE NOT age > 20",
    "EXISTS": "SELECT name FROM singer WHERE EXISTS (SELECT * FROM played)",
    "CASE": "SELECT CASE WHEN age > 20 THEN 1 END FROM singer",
    "CAST": "SELECT CAST(age AS INT) FROM singer",
    "WITH": "WITH a AS (SELECT name FROM singer) SELECT name FROM a",
    "UNION ALL": "SELECT name FROM singer UNION ALL SELECT name FROM stadium",
    "LIMIT without a number": "SELECT name FROM singer LIMIT",
    "a column that is not there": "SELECT height FROM singer",
    "a table that is not there": "SELECT name FROM band",
    "a column of a table that is not in FROM": "SELECT title FROM singer",
    "a column in quotes of MySQL": "SELECT `name` FROM singer",
    "a column in double quotes": 'SELECT "name" FROM singer',
    "an alias that is a table's name": "SELECT concert.name FROM singer AS concert",
    "a doubled quote in a string": "SELECT name FROM singer WHERE name = 'O''Brien'",
    "an odd number of quotes": "SELECT name FROM singer WHERE name = 'Ada",
    "an apostrophe in a string in double quotes": 'SELECT name FROM singer WHERE name = "O\'Brien"',
    "a column of an alias of a query": "SELECT a.name FROM (SELECT name FROM singer) AS a",
    "a number before the operator": "SELECT name FROM singer WHERE 20 < age",
    "a database's name before the table's": "SELECT main.singer.name FROM singer",
    "HAVING without GROUP BY": "SELECT name FROM singer HAVING age > 20",
    "a write": "DELETE FROM singer",
}


@pytest.mark.parametrize("sql", READ.values(), ids=READ)
def test_it_reads(sql):
    assert reads(sql)
    assert same(sql, sql)


@pytest.mark.parametrize("sql", NOT_READ.values(), ids=NOT_READ)
def test_it_gives_up_on(sql):
    assert not reads(sql)
    assert not same("SELECT name FROM singer", sql)


def test_gold_that_it_cannot_read_is_an_error_in_words():
    with pytest.raises(ValueError, match="cannot read the gold query 'SELECT name FROM band'"):
        same("SELECT name FROM band", "SELECT name FROM singer")


@pytest.mark.parametrize("more", ["; SELECT id FROM singer", ") and so on", "; DROP TABLE singer", "LIMIT 3 OFFSET 2", "; ' '"])
def test_what_follows_the_end_is_passed_over(more):
    sql = f"SELECT name FROM singer WHERE age > 20 {more}"
    assert reads(sql)
    assert same(sql, sql)
    assert same(
        "SELECT name FROM singer WHERE age > 3 LIMIT 1" if "LIMIT" in more else "SELECT name FROM singer WHERE age > 3", sql
    )


def test_between_compares_nothing_but_the_column():
    assert same("SELECT name FROM singer WHERE age BETWEEN 1 AND 2", "SELECT name FROM singer WHERE age BETWEEN id AND id")


JUNK = {
    "NUL": "SELECT name FROM singer WHERE name = '\0'",
    "nothing but NUL": "\0" * LENGTH,
    "dots": "." * LENGTH,
    "dots apart": ". " * (LENGTH // 2),
    "parentheses": "(" * LENGTH,
    "closed parentheses": ")" * LENGTH,
    "quotes": "'" * LENGTH,
    "an odd number of quotes": '"' * (LENGTH - 1),
    "spaces": " " * LENGTH,
    "one word": "x" * LENGTH,
    "equals signs": "= " * (LENGTH // 2),
    "AS": "as " * (LENGTH // 3),
    "colons": ":" * LENGTH,
    "dots and quotes": '." ' * (LENGTH // 3),
    "dots and parentheses": ".)" * (LENGTH // 2),
    "marks of values": "__value_0__ " * (LENGTH // 12),
    "lone surrogates": "\udcff" * LENGTH,
    "columns": "SELECT " + "name , " * (LENGTH // 7) + "name FROM singer",
    "columns that are not there": "SELECT " + "height , " * (LENGTH // 9) + "height FROM singer",
    "conditions": "SELECT name FROM singer WHERE " + "age = 1 AND " * (LENGTH // 12) + "age = 1",
    "half a condition, again and again": "SELECT name FROM singer WHERE age = " + "age age " * (LENGTH // 8),
    "nested queries": "SELECT name FROM singer WHERE id IN ( " * (LENGTH // 38),
    "nested queries in FROM": "SELECT name FROM ( " * (LENGTH // 19),
    "set operations": "SELECT name FROM singer UNION " * (LENGTH // 30),
    "queries that begin and end": "( SELECT name FROM singer ) " * (LENGTH // 28),
    "semicolons": "SELECT name FROM singer " + ";" * LENGTH,
    "tables": "SELECT name FROM " + "singer " * (LENGTH // 7),
}


@pytest.mark.parametrize("sql", JUNK.values(), ids=JUNK)
def test_junk_of_any_kind_ends_soon_and_raises_nothing(sql):
    begin = time.process_time()
    reads(sql)
    same("SELECT name FROM singer", sql)
    official_execution.executed_sql(official_execution.read_prediction(sql))
    assert time.process_time() - begin < 2


PARTS = "SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT JOIN ON AS ( ) , ; = ! > < ' \" . singer name age T1 T1.name count( * not in and 1 ."


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(), max_size=60) | st.lists(st.sampled_from(PARTS.split(" ")), max_size=25).map(" ".join))
def test_any_text_is_read_or_not_and_raises_nothing(sql):
    found = reads(sql)
    assert official_execution.executed_sql(official_execution.read_prediction(sql)) is not None
    assert not found or same(sql, sql)


# What matches

MATCH = {
    "other values": ("SELECT name FROM singer WHERE age > 20", "SELECT name FROM singer WHERE age > 99"),
    "a number and a string": ("SELECT name FROM singer WHERE age = 20", "SELECT name FROM singer WHERE age = 'twenty'"),
    "a value and a column": ("SELECT name FROM singer WHERE age > 20", "SELECT name FROM singer WHERE age > id"),
    "another number after LIMIT": (
        "SELECT name FROM singer ORDER BY age LIMIT 1",
        "SELECT name FROM singer ORDER BY age LIMIT 5",
    ),
    "DISTINCT": ("SELECT name FROM singer", "SELECT DISTINCT name FROM singer"),
    "DISTINCT in an aggregate": ("SELECT count(name) FROM singer", "SELECT count(DISTINCT name) FROM singer"),
    "selected columns in another order": ("SELECT name, age FROM singer", "SELECT age, name FROM singer"),
    "conditions in another order": (
        "SELECT name FROM singer WHERE age > 20 AND country = 'France'",
        "SELECT name FROM singer WHERE country = 'France' AND age > 20",
    ),
    "another nesting of AND and OR": (
        "SELECT name FROM singer WHERE age > 20 AND country = 'France' OR id = 1",
        "SELECT name FROM singer WHERE age > 20 OR country = 'France' AND id = 1",
    ),
    "other aliases": ("SELECT T1.name FROM singer AS T1", "SELECT a.name FROM singer AS a"),
    "an alias and none": ("SELECT T1.name FROM singer AS T1", "SELECT name FROM singer"),
    "another ON": (
        "SELECT singer.name FROM singer JOIN played ON singer.id = played.singer_id",
        "SELECT singer.name FROM played JOIN singer ON singer.age > played.concert_id",
    ),
    "directions of which the last agree": (
        "SELECT name FROM singer ORDER BY age DESC, name",
        "SELECT name FROM singer ORDER BY age, name DESC",
    ),
    "ASC and nothing": ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer ORDER BY age ASC"),
    "foreign-key twins": (
        "SELECT played.singer_id FROM played JOIN singer ON played.singer_id = singer.id",
        "SELECT singer.id FROM played JOIN singer ON played.singer_id = singer.id",
    ),
    "values in a query of a condition": (
        "SELECT name FROM singer WHERE id IN (SELECT singer_id FROM played WHERE concert_id = 1)",
        "SELECT name FROM singer WHERE id IN (SELECT singer_id FROM played WHERE concert_id = 2)",
    ),
    "values in a set operation": (
        "SELECT name FROM singer WHERE age > 1 UNION SELECT name FROM stadium WHERE capacity > 1",
        "SELECT name FROM singer WHERE age > 2 UNION SELECT name FROM stadium WHERE capacity > 2",
    ),
    "a set operation's side in another order": (
        "SELECT id FROM singer UNION SELECT id, name FROM stadium",
        "SELECT id FROM singer UNION SELECT name, id FROM stadium",
    ),
    "the same query in FROM": (
        "SELECT count(*) FROM (SELECT name FROM singer)",
        "SELECT count(*) FROM ( SELECT name FROM singer )",
    ),
}
DIFFER = {
    "another column": ("SELECT name FROM singer", "SELECT age FROM singer"),
    "one column more": ("SELECT name FROM singer", "SELECT name, name FROM singer"),
    "another table": ("SELECT name FROM singer", "SELECT name FROM stadium"),
    "a table more": ("SELECT singer.name FROM singer", "SELECT singer.name FROM singer JOIN played"),
    "another aggregate": ("SELECT max(age) FROM singer", "SELECT min(age) FROM singer"),
    "another operator": ("SELECT name FROM singer WHERE age > 20", "SELECT name FROM singer WHERE age >= 20"),
    "AND for OR": ("SELECT name FROM singer WHERE age > 2 AND id = 1", "SELECT name FROM singer WHERE age > 2 OR id = 1"),
    "NOT": ("SELECT name FROM singer WHERE name LIKE 'a'", "SELECT name FROM singer WHERE name NOT LIKE 'a'"),
    "the last direction": ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer ORDER BY age DESC"),
    "keys of ORDER BY in another order": ("SELECT id FROM singer ORDER BY age, name", "SELECT id FROM singer ORDER BY name, age"),
    "LIMIT": ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer ORDER BY age LIMIT 1"),
    "LIMIT without ORDER BY": ("SELECT name FROM singer", "SELECT name FROM singer LIMIT 1"),
    "GROUP BY in another order": (
        "SELECT count(*) FROM singer GROUP BY age, country",
        "SELECT count(*) FROM singer GROUP BY country, age",
    ),
    "HAVING": (
        "SELECT age FROM singer GROUP BY age HAVING count(*) > 1",
        "SELECT age FROM singer GROUP BY age HAVING count(*) < 1",
    ),
    "conditions of HAVING in another order": (
        "SELECT age FROM singer GROUP BY age HAVING count(*) > 1 AND sum(id) > 1",
        "SELECT age FROM singer GROUP BY age HAVING sum(id) > 1 AND count(*) > 1",
    ),
    "sides of a set operation": (
        "SELECT name FROM singer EXCEPT SELECT name FROM stadium",
        "SELECT name FROM stadium EXCEPT SELECT name FROM singer",
    ),
    "another set operation": (
        "SELECT name FROM singer EXCEPT SELECT name FROM stadium",
        "SELECT name FROM singer INTERSECT SELECT name FROM stadium",
    ),
    "values in a query in FROM": (
        "SELECT count(*) FROM (SELECT name FROM singer WHERE age > 1)",
        "SELECT count(*) FROM (SELECT name FROM singer WHERE age > 2)",
    ),
    "a nested query's columns in another order": (
        "SELECT name FROM singer WHERE id IN (SELECT concert_id, singer_id FROM played)",
        "SELECT name FROM singer WHERE id IN (SELECT singer_id, concert_id FROM played)",
    ),
    "a nested query's conditions in another order": (
        "SELECT name FROM singer WHERE id IN (SELECT id FROM concert WHERE year > 1 AND title = 'a')",
        "SELECT name FROM singer WHERE id IN (SELECT id FROM concert WHERE title = 'a' AND year > 1)",
    ),
    "a nested query's tables in another order": (
        "SELECT name FROM singer WHERE id IN (SELECT concert.id FROM concert JOIN played)",
        "SELECT name FROM singer WHERE id IN (SELECT concert.id FROM played JOIN concert)",
    ),
    "DISTINCT in a nested query": (
        "SELECT name FROM singer WHERE id IN (SELECT id FROM concert)",
        "SELECT name FROM singer WHERE id IN (SELECT DISTINCT id FROM concert)",
    ),
    "an ON's form in a nested query": (
        "SELECT name FROM singer WHERE id IN (SELECT title FROM concert JOIN played ON played.concert_id = concert.id)",
        "SELECT name FROM singer WHERE id IN (SELECT title FROM concert JOIN played ON concert.id = played.concert_id)",
    ),
    "foreign-key twins within a nested query": (
        "SELECT name FROM singer WHERE id IN (SELECT concert.id FROM concert JOIN played ON concert.id = played.concert_id)",
        "SELECT name FROM singer WHERE id IN (SELECT played.concert_id FROM concert JOIN played ON concert.id = played.concert_id)",
    ),
    "a twin of a table that is not in FROM": ("SELECT singer_id FROM played", "SELECT id FROM singer"),
    "a query in FROM and the table itself": ("SELECT count(*) FROM (SELECT name FROM singer)", "SELECT count(*) FROM singer"),
}


@pytest.mark.parametrize(("gold", "prediction"), MATCH.values(), ids=MATCH)
def test_queries_match_in_spite_of(gold, prediction):
    assert same(gold, prediction)
    assert same(prediction, gold)


@pytest.mark.parametrize(("gold", "prediction"), DIFFER.values(), ids=DIFFER)
def test_queries_do_not_match_because_of(gold, prediction):
    assert reads(gold) and reads(prediction)
    assert not same(gold, prediction)
    assert not same(prediction, gold)


def test_keys_that_are_linked_only_later_stay_apart():
    """Two groups that a third key joins: the key goes to the first, and the second does not follow."""
    tables = {name: ("id", "other") for name in ("a", "b", "c", "d")}
    keys = [("a.id", "b.id"), ("c.id", "d.id"), ("b.id", "c.id")]
    found = official.names(schema_of(tables, keys), schema_of(tables, keys))
    select = "SELECT {} FROM a JOIN b JOIN c JOIN d"
    assert official.matches(select.format("a.id"), select.format("b.id"), found)
    assert not official.matches(select.format("a.id"), select.format("d.id"), found)


# Real queries


def names_of(database):
    found = schema.read(database)
    return official.names(found, found)


def test_gold_of_the_sample_matches_itself_where_it_is_read(sample):
    read, names = 0, {db_id: names_of(path) for db_id, path in sample.databases.items()}
    for example in (*sample.train, *sample.dev):
        if official.read(example.query, names[example.db_id]) is not None:
            read += 1
            assert official.matches(example.query, example.query, names[example.db_id])
            assert official.matches(example.query, example.query.upper() + " ;", names[example.db_id])
    assert read > 700  # of 792; NULL, lists of values and doubled quotes are the others


CONDITIONS = ["age > 20", "country = 'France'", "id IN (SELECT singer_id FROM played)", "name NOT LIKE '%a'", "age < id"]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), items=st.lists(st.sampled_from(["*", "name", "age - id", "count(*)", "max(age)"]), min_size=1))
def test_the_order_of_select_items_and_of_and_conditions_never_matters(data, items):
    conditions = data.draw(st.lists(st.sampled_from(CONDITIONS), min_size=1))
    shuffled = data.draw(st.permutations(items)), data.draw(st.permutations(conditions))
    query = "SELECT {} FROM singer WHERE {}"
    assert same(
        query.format(", ".join(items), " AND ".join(conditions)), query.format(", ".join(shuffled[0]), " AND ".join(shuffled[1]))
    )


# What is executed


def test_a_prediction_is_taken_up_to_its_first_tab_and_without_the_word_value():
    assert official_execution.read_prediction("  SELECT name\tFROM singer ") == "SELECT name"
    assert official_execution.read_prediction("SELECT value FROM values_of") == "SELECT 1 FROM 1s_of"
    assert official_execution.read_prediction("SELECT Value FROM a") == "SELECT Value FROM a"


@pytest.mark.parametrize(
    ("sql", "executed"),
    [
        ("SELECT a FROM b", "SELECT a FROM b"),
        ("SELECT a FROM b WHERE c > = 1 AND d < = 2 AND e ! = 3", "SELECT a FROM b WHERE c >= 1 AND d <= 2 AND e != 3"),
        ("SELECT DISTINCT a FROM b", "SELECT  a FROM b"),
        ("SELECT count(distinct a) FROM b", "SELECT count( a) FROM b"),
        ("SELECT distinct_id FROM b", "SELECT distinct_id FROM b"),
        ("SELECT a FROM b WHERE c = 'DISTINCT'", "SELECT a FROM b WHERE c = 'DISTINCT'"),
        ('SELECT a FROM b WHERE c = "it is distinct"', 'SELECT a FROM b WHERE c = "it is distinct"'),
        ("SELECT 1; SELECT 2", "SELECT 1;"),
        ("SELECT ';' ; DROP TABLE a", "SELECT ';' ;"),
        ("SELECT YEAR(CURDATE()) - a FROM b", "SELECT 2020- a FROM b"),
        ("SELECT year ( curdate ( ) ) FROM b", "SELECT 2020FROM b"),
        ("", ""),
    ],
)
def test_what_the_official_code_runs(sql, executed):
    assert official_execution.executed_sql(sql) == executed


def test_mixed_numbers_agree_only_in_the_same_form():
    assert official_execution.mixed_numbers_agree([(1, 2)], [(2, 1)], ordered=True)
    assert official_execution.mixed_numbers_agree([(1,), (2,)], [(2,), (1,)], ordered=False)
    assert not official_execution.mixed_numbers_agree([(1,), (2,)], [(2,), (1,)], ordered=True)
    assert official_execution.mixed_numbers_agree([(1,)], [(1.0,)], ordered=True)
    # As text 10 stands behind 10.5, and 10.0 before it.
    assert not official_execution.mixed_numbers_agree([(10, 10.5)], [(10.0, 10.5)], ordered=False)


# Real Spider


@pytest.mark.spider
@pytest.mark.parametrize(("name", "rows"), [("dev", 1034), pytest.param("mutated", 3000, marks=pytest.mark.parity)])
def test_every_judged_prediction_is_read_and_matched_as_the_official_code_does(spider_dir, parity_dir, name, rows):
    judged = json.loads((parity_dir / f"official_verdicts_{name}.json").read_text(encoding="utf-8"))
    tables = layout.read_tables(spider_dir / "tables.json")
    names = {
        db_id: official.names(schema.read(layout.find_database(spider_dir, db_id)), tables[db_id])
        for db_id in {row["db_id"] for row in judged}
    }
    assert len(judged) == rows
    wrong = []
    for place, row in enumerate(judged):
        prediction = official_execution.read_prediction(row["pred"])
        parses = official.read(prediction, names[row["db_id"]]) is not None
        exact = official.matches(row["gold"], prediction, names[row["db_id"]])
        if (parses, exact, hardness(row["gold"])) != (row["pred_parses"], bool(row["exact"]), row["hardness"]):
            wrong.append(place)
    assert wrong == []
