"""Which of several queries is the answer, and that trying them does no harm."""

import hashlib

import pytest

from helpers.databases.sandbox import Result
from helpers.decoding import select


def candidate(sql, *rows, outcome="ok", probability=0.5):
    return select.Candidate(sql=sql, probability=probability, result=Result(outcome=outcome, rows=rows))


FAILS = candidate("fails", outcome="no such column")
EMPTY = candidate("empty")
ROWS = candidate("rows", (None, 0))


@pytest.mark.parametrize(
    "candidates, expected",
    [
        ([FAILS, EMPTY, ROWS], "rows"),
        ([FAILS, EMPTY], "empty"),
        ([FAILS, candidate("fails too", outcome="timeout")], "fails"),
        ([candidate("first", (1,)), candidate("second", (2,))], "first"),
        ([candidate("fails with rows", (1,), outcome="timeout"), EMPTY], "empty"),
        ([candidate("empty", probability=0.8), candidate("rows", (1,), probability=0.2)], "rows"),
        ([candidate("empty", probability=0.9), candidate("rows", (1,), probability=0.01)], "empty"),
    ],
)
def test_the_likeliest_that_runs_is_taken_and_rows_count(candidates, expected):
    assert select.select(candidates).sql == expected


def test_of_none_none_is_taken():
    assert select.select([]) is None


def test_candidates_are_run_in_the_order_of_their_probability(concert_db):
    probable = {"SELECT 1": 0.1, "SELECT name FROM singer WHERE age > 40": 0.6, "SELECT colour FROM singer": 0.3}
    tried = select.execute_candidates(concert_db, probable, 5.0)
    assert [(one.sql, one.probability) for one in tried] == sorted(probable.items(), key=lambda item: -item[1])
    assert tried[0].result.rows == (("Cy",),)
    assert tried[1].result.outcome == "no such column"
    assert select.execute_candidates(concert_db, {}, 5.0) == ()


def test_hostile_candidates_change_nothing_and_stop_no_other(concert_db):
    before = hashlib.sha256(concert_db.read_bytes()).hexdigest()
    hostile = [
        "DROP TABLE singer",
        "DELETE FROM singer",
        "SELECT 1; DROP TABLE singer",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
        "ATTACH DATABASE 'other.sqlite' AS other",
        "",
    ]
    probable = {sql: 0.1 for sql in hostile} | {"SELECT count(*) FROM singer": 0.01}
    tried = select.execute_candidates(concert_db, probable, 0.5)
    assert [one.result.ok for one in tried] == [False] * len(hostile) + [True]
    assert select.select(tried).result.rows == ((3,),)
    assert hashlib.sha256(concert_db.read_bytes()).hexdigest() == before
    assert list(concert_db.parent.iterdir()) == [concert_db]
