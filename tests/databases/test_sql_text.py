"""Files of gold queries and predictions, and the one rule by which SQL is taken out of an answer."""

import sqlite3
import time
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.databases.sql_text import extract_sql

# The rule


@pytest.mark.parametrize(
    "answer, sql",
    [
        ("SELECT name FROM singer", "SELECT name FROM singer"),
        ("  SELECT name\n\tFROM   singer\n", "SELECT name FROM singer"),
        ("select count(*) from singer;", "select count(*) from singer"),
        # fences
        ("```sql\nSELECT name\nFROM singer;\n```", "SELECT name FROM singer"),
        ("```\nSELECT 1\n```\n", "SELECT 1"),
        ("```SELECT 1```", "SELECT 1"),
        ("```sqlite\nSELECT 1", "SELECT 1"),  # cut off before the fence closed
        ("You select from singer:\n```sql\nSELECT name FROM singer\n```\nThis selects.", "SELECT name FROM singer"),
        ("The tables:\n```\nsinger: name\n```\nTo select from it:\n```sql\nSELECT name FROM t\n```", "SELECT name FROM t"),
        ("```sql\nSELECT 1\n```\nor\n```sql\nSELECT 2\n```", "SELECT 1"),
        # prose
        ("Here you are: SELECT name FROM singer; it lists the names.", "SELECT name FROM singer"),
        ("SELECT name FROM singer\n\nThis lists the names.", "SELECT name FROM singer"),
        ("SELECT name FROM singer\n  \t\nThis lists the names.", "SELECT name FROM singer"),
        ("With the table singer: SELECT name FROM singer", "SELECT name FROM singer"),
        # WITH
        ("WITH old AS (SELECT 1 AS x) SELECT x FROM old", "WITH old AS (SELECT 1 AS x) SELECT x FROM old"),
        ("So:\nwith recursive n(i) as (SELECT 1) SELECT i FROM n", "with recursive n(i) as (SELECT 1) SELECT i FROM n"),
        # several statements
        ("SELECT 1; SELECT 2;", "SELECT 1"),
        ("SELECT 1; DROP TABLE singer", "SELECT 1"),
        ("DROP TABLE singer; SELECT 1", "SELECT 1"),
        # quotes
        ("SELECT ';' FROM t; SELECT 2", "SELECT ';' FROM t"),
        ("SELECT 'it''s; so' FROM t;", "SELECT 'it''s; so' FROM t"),
        ('SELECT "a;b" FROM t;', 'SELECT "a;b" FROM t'),
        ("SELECT 'a  b' FROM t", "SELECT 'a  b' FROM t"),
        ("SELECT 'a\nb'", "SELECT 'a b'"),
        ("SELECT name FROM singer WHERE name = 'Ann", "SELECT name FROM singer WHERE name = 'Ann"),  # cut off
        # comments, which would swallow the rest of the line that everything is put on
        ("SELECT name -- of the singer; its name\nFROM singer", "SELECT name FROM singer"),
        ("SELECT name /* all\nof them; */ FROM singer", "SELECT name FROM singer"),
        ("SELECT '--' FROM t -- it's\nWHERE 1", "SELECT '--' FROM t WHERE 1"),
        # nothing
        ("", ""),
        ("I do not know.", ""),
        ("The selected rows are preselected.", ""),
        ("```\nDROP TABLE singer\n```", ""),
    ],
)
def test_the_one_statement_is_taken_out_of_an_answer(answer, sql):
    assert extract_sql(answer) == sql


scraps = st.sampled_from(
    [
        *("SELECT", "select", "WITH t AS (", "with recursive n(i) as (", "WITH", "AS (", "FROM t", "x", "1", ",", "*", "=", ")"),
        *(
            ";",
            "'",
            '"',
            "`",
            "```",
            "```sql\n",
            "--",
            "-",
            "/*",
            "*/",
            "/",
            "'a;b'",
            '"c  d"',
            "it's",
            "Here it is: ",
            "SELECTED ",
        ),
        *(" ", "  ", "\n", "\n\n", "\n \n", "\t", "\r\n", "\r", "\u00a0", "\u2028"),
    ]
)
answers = st.lists(scraps, max_size=14).map("".join) | st.lists(scraps, max_size=14).map(" ".join) | st.text(max_size=40)


@settings(max_examples=200, deadline=None)
@given(answers)
def test_what_is_taken_out_is_one_line_that_begins_with_select_or_with(answer):
    sql = extract_sql(answer)
    assert "\n" not in sql
    assert "\r" not in sql
    assert sql == sql.strip()
    assert sql == "" or sql.split(maxsplit=1)[0].upper().startswith(("SELECT", "WITH"))


@settings(max_examples=200, deadline=None)
@given(answers)
def test_taking_sql_out_of_sql_changes_nothing(answer):
    sql = extract_sql(answer)
    assert extract_sql(sql) == sql


space = st.text(" \t\n", min_size=1, max_size=2).filter(lambda text: text.count("\n") < 2)
literals = st.text('ab ;-"', max_size=6).map(lambda text: f"'{text}'") | st.integers(0, 9).map(str)
wrappings = st.sampled_from(["{}", "{};", "```sql\n{}\n```", "So: {}\n\nThat's it."])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(literals, space), min_size=1, max_size=4), wrappings)
def test_sql_taken_out_of_an_answer_gives_what_the_sql_in_it_gives(columns, wrapped):
    query = "SELECT" + columns[0][1] + ",".join(literal + gap for literal, gap in columns) + "AS x"
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.execute(extract_sql(wrapped.format(query))).fetchall() == connection.execute(query).fetchall()


# Thoughts, and blank lines within a statement


@pytest.mark.parametrize(
    ("answer", "sql"),
    [
        ("<think>Perhaps SELECT 1?</think>\nSELECT 2", "SELECT 2"),
        ("<think>\n\n</think>\n\n```sql\nSELECT 3\n```", "SELECT 3"),
        ("<think>SELECT 1 would", ""),
        (
            "```sql\nWITH a AS (\n  SELECT 1 AS n\n),\n\nb AS (SELECT 2 AS m)\n\nSELECT n, m FROM a, b;\n```\nSo.",
            "WITH a AS ( SELECT 1 AS n ), b AS (SELECT 2 AS m) SELECT n, m FROM a, b",
        ),
        ("WITH a AS (SELECT 1 AS n)\n\nSELECT n FROM a\n\nSELECT 2", "WITH a AS (SELECT 1 AS n) SELECT n FROM a"),
        (
            "SELECT a\n\nFROM t\n\nLEFT JOIN u ON t.x = u.x\n\nORDER BY a\n\nOrder matters here.",
            "SELECT a FROM t LEFT JOIN u ON t.x = u.x ORDER BY a",
        ),
        ("select a\n\nfrom t\n\nFrom this you see all.", "select a from t"),
        ("SELECT a FROM (\n\nSELECT 1 AS a\n\n)\n\nThis is it.", "SELECT a FROM ( SELECT 1 AS a )"),
        ("SELECT ';', '(' FROM t\n\nText", "SELECT ';', '(' FROM t"),
        ("SELECT\n\na FROM\n\nt\n\nUNION ALL\n\nSELECT b FROM u", "SELECT a FROM t UNION ALL SELECT b FROM u"),
        ("Select a From t\n\nWhere x = 1", "Select a From t Where x = 1"),
        ("SELECT a FROM t\n\nGROUP BY a\n\nhaving count(*) > 1", "SELECT a FROM t GROUP BY a having count(*) > 1"),
        ("select a from t\n\nor you may write: select 1", "select a from t"),
        ("Perhaps SELECT 1.</think>\n\nSELECT 2", "SELECT 2"),
        ("<THINKING>x</THINKING>SELECT 2", "SELECT 2"),
        # what stands around SQL within a line
        ("The query is `SELECT a FROM t` which selects.", "SELECT a FROM t"),
        ("**SELECT a FROM t**", "SELECT a FROM t"),
        ('{"sql": "SELECT a FROM t"}', "SELECT a FROM t"),
        ("~~~sql\nSELECT a\n~~~", "SELECT a"),
        ("(SELECT a FROM t)", "SELECT a FROM t"),
        ("SELECT 1\n\nSELECT 2", "SELECT 1"),
    ],
)
def test_a_statement_is_taken_whole_and_thoughts_are_passed_over(answer, sql):
    assert extract_sql(answer) == sql


@pytest.mark.parametrize(
    "text", ["SELECT (" + "\n\na" * 30_000, "SELECT /*" * 30_000, "WITH a(" * 30_000, "<think>" * 30_000, "```" * 30_000]
)
def test_an_answer_of_any_kind_costs_no_more_than_its_length(text):
    begin = time.perf_counter()
    extract_sql(text)
    assert time.perf_counter() - begin < 5
