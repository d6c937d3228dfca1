"""Hardness: the official evaluator's levels, on all of Spider and rule by rule."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.judge.hardness import LEVELS, hardness

DEEP = 3_000  # deeper than Python's stack


def levels(*queries):
    return [hardness(sql) for sql in queries]


@pytest.mark.parametrize(
    ("level", "sql"),
    [
        ("easy", "SELECT COUNT(*) FROM cars_data WHERE cylinders > 4"),
        (
            "medium",
            "SELECT T2.name, COUNT(*) FROM concert AS T1 JOIN stadium AS T2 ON T1.stadium_id = T2.stadium_id "
            "GROUP BY T1.stadium_id",
        ),
        (
            "extra",
            "SELECT AVG(life_expectancy) FROM country WHERE name NOT IN (SELECT T1.name FROM country AS T1 "
            "JOIN country_language AS T2 ON T1.code = T2.country_code WHERE T2.language = 'English' AND T2.is_official = 'T')",
        ),
    ],
)
def test_examples_of_the_paper_have_their_published_level(level, sql):
    # Yu et al., EMNLP 2018, figure 3; its "hard" example has four clauses, and the official code calls that extra.
    assert hardness(sql) == level


@pytest.mark.parametrize(
    "clause", ["WHERE x = 1", "GROUP BY a", "ORDER BY a", "LIMIT 1", "JOIN u ON t.i = u.i", ", u", "GROUP BY a HAVING x > 1"]
)
def test_one_clause_is_easy_and_two_are_not(clause):
    assert hardness(f"SELECT a FROM t {clause}") == "easy"
    assert hardness(f"SELECT a FROM v JOIN t {clause}") == "medium"


def test_clauses_alone_make_every_level():
    assert levels(
        "SELECT a FROM t",
        "SELECT a FROM t WHERE x = 1 GROUP BY a",
        "SELECT a FROM t WHERE x = 1 GROUP BY a ORDER BY a",
        "SELECT a FROM t WHERE x = 1 GROUP BY a ORDER BY a LIMIT 1",
    ) == ["easy", "medium", "hard", "extra"]


@pytest.mark.parametrize("condition", ["x LIKE 'y'", "x NOT LIKE 'y'", "x = 1 OR y = 2", "(x = 1) OR (y = 2)"])
def test_like_and_or_are_clauses_of_their_own(condition):
    """Without them each of these would have three clauses, and be hard."""
    assert hardness("SELECT a FROM t JOIN u WHERE x = 1 LIMIT 1") == "hard"
    assert hardness(f"SELECT a FROM t JOIN u WHERE {condition} LIMIT 1") == "extra"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a, b FROM t",
        "SELECT a FROM t WHERE x = 1 AND y = 2",
        "SELECT a FROM t GROUP BY a, b",
        "SELECT count(*), b FROM t",
        "SELECT count(*) FROM t ORDER BY max(x)",
        "SELECT a FROM t ORDER BY count(*), sum(x)",
    ],
)
def test_more_than_one_column_condition_grouping_or_aggregate_is_medium(sql):
    assert hardness(sql) == "medium"


@pytest.mark.parametrize(
    "sql", ["SELECT count(*) FROM t", "SELECT a FROM t ORDER BY count(*)", "SELECT max(a) - min(a) AS spread FROM t"]
)
def test_one_aggregate_is_easy(sql):
    assert hardness(sql) == "easy"


def test_three_others_are_hard():
    assert hardness("SELECT count(*), max(x) FROM t WHERE x = 1 AND y = 2") == "hard"


def test_two_others_are_extra_with_two_clauses_and_hard_with_three():
    """No mistake here: the official conditions leave this gap."""
    assert levels(
        "SELECT a, b FROM t WHERE x = 1 AND y = 2",
        "SELECT a, b FROM t WHERE x = 1 AND y = 2 ORDER BY a",
        "SELECT a, b FROM t WHERE x = 1 AND y = 2 ORDER BY a LIMIT 1",
    ) == ["medium", "extra", "hard"]


def test_a_not_in_where_counts_as_an_aggregate():
    assert hardness("SELECT count(*) FROM t WHERE x BETWEEN 1 AND 2") == "easy"
    assert hardness("SELECT count(*) FROM t WHERE x NOT BETWEEN 1 AND 2") == "medium"


@pytest.mark.parametrize("condition", ["x NOT LIKE 'y'", "NOT x LIKE 'y'"])
def test_a_not_before_like_counts_as_an_aggregate_too(condition):
    """With two clauses, three others are hard and two are extra."""
    assert hardness("SELECT a, count(*) FROM t WHERE x LIKE 'y' AND z = 1") == "extra"
    assert hardness(f"SELECT a, count(*) FROM t WHERE {condition} AND z = 1") == "hard"


@pytest.mark.parametrize("word", ["AND", "OR"])
def test_an_and_or_or_in_having_counts_as_an_aggregate(word):
    assert hardness("SELECT count(a) FROM t GROUP BY a HAVING sum(x) > 1") == "easy"
    assert hardness(f"SELECT count(a) FROM t GROUP BY a HAVING sum(x) > 1 {word} sum(x) < 5") == "medium"


@pytest.mark.parametrize("word", ["UNION", "INTERSECT", "EXCEPT"])
def test_a_set_operation_is_hard_and_extra_beside_anything_else(word):
    assert hardness(f"SELECT a FROM t {word} SELECT a FROM u") == "hard"
    assert hardness(f"SELECT a FROM t WHERE x = 1 AND y = 2 {word} SELECT a FROM u") == "extra"


@pytest.mark.parametrize(
    "place", ["WHERE x > ({})", "GROUP BY a HAVING x IN ({})", "JOIN u ON t.i = ({})", "WHERE x NOT IN ({})"]
)
def test_a_query_in_a_condition_is_hard_and_two_are_extra(place):
    inner = "SELECT avg(x) FROM t"
    assert hardness(f"SELECT a FROM t {place.format(inner)}") == "hard"
    assert hardness(f"SELECT a FROM t {place.format(inner)} INTERSECT SELECT a FROM u") == "extra"


def test_only_the_outermost_query_counts():
    much = "SELECT y FROM u JOIN v WHERE z LIKE 'q' OR w = 1 GROUP BY z, y ORDER BY count(*), max(w) LIMIT 1"
    assert hardness(f"SELECT a FROM t WHERE x IN ({much})") == hardness("SELECT a FROM t WHERE x IN (SELECT y FROM u)") == "hard"
    assert hardness(f"SELECT a FROM t UNION {much}") == hardness("SELECT a FROM t UNION SELECT y FROM u") == "hard"
    assert hardness(f"SELECT count(*) FROM ({much})") == "easy"


def test_what_follows_an_or_after_a_comparison_of_columns_is_lost():
    assert hardness("SELECT a FROM t WHERE x < y OR z = 2") == "easy"
    assert hardness("SELECT a FROM t WHERE x < 1 OR z = 2") == "medium"


def test_a_name_in_double_quotes_is_a_string():
    assert hardness('SELECT a FROM t WHERE x = "y" OR z = 2') == hardness("SELECT a FROM t WHERE x = 'y' OR z = 2") == "medium"


def test_parentheses_and_a_closing_semicolon_change_nothing():
    assert hardness("SELECT a FROM t WHERE ((x = 1) AND (y = 2 AND z = 3)) LIMIT 1;") == hardness(
        "SELECT a FROM t WHERE x = 1 AND y = 2 AND z = 3 LIMIT 1"
    )
    assert hardness("(SELECT a FROM t)") == "easy"


@pytest.mark.parametrize("sql", ["", ";", "SELECT FROM WHERE", "SELECT 'open", "INSERT INTO t VALUES (1)", "VALUES (1)"])
def test_what_is_no_query_is_extra(sql):
    assert hardness(sql) == "extra"


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT {'(' * DEEP}1{')' * DEEP}",
        f"SELECT {'NOT ' * DEEP}1",
        f"SELECT 1 WHERE {'a = 1 AND ' * DEEP}1",
        f"{'SELECT * FROM (' * DEEP}SELECT 1{')' * DEEP}",
    ],
    ids=["parentheses", "NOT", "AND", "queries"],
)
def test_a_query_nested_deeper_than_the_stack_has_a_level(sql):
    assert hardness(sql) in LEVELS


WORDS = (
    "SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT UNION INTERSECT EXCEPT NOT AND OR LIKE IN BETWEEN AS JOIN ON CASE WHEN END "
    "EXISTS WITH VALUES CREATE PRAGMA SET ( ) , . ; * = < ' \" ` [ ] ? @ -- /* a b T1.a 'x' 1 1e 0x count( max( \ud800 \0"
)


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(), max_size=80) | st.lists(st.sampled_from(WORDS.split(" ")), max_size=30).map(" ".join))
def test_any_text_has_a_level(sql):
    assert hardness(sql) in LEVELS


def test_what_cannot_be_parsed_is_not_logged(capsys):
    assert hardness("CREATE \ud800 anything") in LEVELS
    assert not capsys.readouterr().err  # a log that quotes half a character cannot be written


# Real Spider


@pytest.mark.parity
@pytest.mark.spider
def test_every_training_query_has_its_official_level(spider_dir, parity_dir):
    questions = json.loads((spider_dir / "train_spider.json").read_text(encoding="utf-8"))
    official = json.loads((parity_dir / "hardness_train.json").read_text(encoding="utf-8"))
    found = [hardness(question["query"]) for question in questions]

    assert len(found) == 7000
    # 3153 breaks the official parser, and has no official level.
    wrong = [number for number, level in enumerate(official) if level != found[number]]
    assert (wrong, official[3153], found[3153]) == ([3153], None, "extra")


@pytest.mark.spider
@pytest.mark.parametrize(("name", "rows"), [("dev", 1034), pytest.param("mutated", 3000, marks=pytest.mark.parity)])
def test_every_judged_gold_query_has_its_official_level(parity_dir, name, rows):
    judged = json.loads((parity_dir / f"official_verdicts_{name}.json").read_text(encoding="utf-8"))
    assert len(judged) == rows
    assert [row["gold"] for row in judged if hardness(row["gold"]) != row["hardness"]] == []
