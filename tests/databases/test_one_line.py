"""A query on one line answers as it did before."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.databases.schema import one_line

pytest.importorskip("transformers")


@pytest.mark.parametrize(
    "query, written",
    [
        ("SELECT  name\n\tFROM singer ;", "SELECT name FROM singer"),
        ("  SELECT 1;; ", "SELECT 1"),
        ("SELECT 'a  b',  \"c  d\"", "SELECT 'a  b', \"c  d\""),
        ("SELECT 'it''s  so'  ,  1", "SELECT 'it''s  so' , 1"),
        ("SELECT ';'", "SELECT ';'"),
        ("SELECT  [a  b],  `c  d`  FROM t", "SELECT [a  b], `c  d` FROM t"),
        ("SELECT name -- of whom?\nFROM singer", "SELECT name FROM singer"),
        ("-- all\nSELECT 1; -- done", "SELECT 1"),
        ("SELECT '--' -- it's\nFROM singer", "SELECT '--' FROM singer"),
    ],
)
def test_a_completion_folds_white_space_outside_of_quotes(query, written):
    assert one_line(query) == written


# Queries that answer with what stands in their quotes, laid out as people lay them out.
space = st.text(" \t\n\r", min_size=1, max_size=3) | st.sampled_from(["\n  ", " -- why?\n", "\n-- it's\n", " /* a  b */ "])
content = st.text("ab \n\t;-'\"[]`", max_size=6)
literal = content.map(lambda text: "'" + text.replace("'", "''") + "'") | st.integers(-9, 9).map(str)
label = content.map(lambda text: text + "x").flatmap(
    lambda text: st.sampled_from(['"' + text.replace('"', '""') + '"', "`" + text.replace("`", "``") + "`"])
)


@st.composite
def queries(draw_from):
    words = ["SELECT"]
    for number in range(draw_from(st.integers(1, 3))):
        words += [",", draw_from(literal), "AS", draw_from(label)] if number else [draw_from(literal), "AS", draw_from(label)]
    return "".join(word + draw_from(space) for word in words) + draw_from(st.sampled_from(["", ";", " ; ;", "\n"]))


@settings(max_examples=150, deadline=None)
@given(queries())
@example('SELECT \'a  b\' AS "c  d" -- it\'s\n, 1 AS "x"')
def test_a_completion_answers_as_its_query_does(query):
    with closing(sqlite3.connect(":memory:")) as connection:

        def answer(sql):
            cursor = connection.execute(sql)
            return [column[0] for column in cursor.description], cursor.fetchall()

        assert answer(one_line(query)) == answer(query.rstrip("; \n"))


@settings(max_examples=100, deadline=None)
@given(queries())
def test_a_completion_of_a_completion_is_itself(query):
    assert one_line(one_line(query)) == one_line(query)
