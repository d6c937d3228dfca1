"""Gold whose result is left to chance, and gold whose result is not."""

import functools

import pytest
from conftest import make_database

from helpers.databases.sandbox import Result, Sandbox
from helpers.judge.ties import is_tied


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Whether a query is tied on three singers, two of them of the same age."""
    script = """
        CREATE TABLE singer (name TEXT, age INT, country TEXT);
        INSERT INTO singer VALUES ('Ada', 30, 'France'), ('Bo', 30, 'Spain'), ('Cy', 41, 'France'), ('Di', 50, NULL);
        CREATE TABLE twin (name TEXT, age INT);
        INSERT INTO twin VALUES ('Ed', 20), ('Ed', 20), ('Flo', 30);
    """
    database = make_database(tmp_path_factory.mktemp("ties") / "singers.sqlite", script)
    with Sandbox() as sandbox:
        run = functools.partial(sandbox.execute, database)

        def ask(sql):
            expected = run(sql)
            assert expected.ok, expected.error
            return is_tied(sql, expected, run)

        yield ask


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM singer ORDER BY age",
        "SELECT name FROM singer ORDER BY age LIMIT 1",
        "SELECT name FROM singer ORDER BY age LIMIT 2",
        "SELECT name, age FROM singer ORDER BY age DESC LIMIT 3",
        "SELECT name AS n FROM singer AS T1 ORDER BY T1.age",
        "SELECT name FROM singer ORDER BY age > 40",
        "SELECT country FROM singer GROUP BY country ORDER BY count(name) = 2 LIMIT 1",
        "SELECT name FROM singer ORDER BY 1 = 1",
        "SELECT name FROM singer ORDER BY age, country IS NULL",
        "SELECT T1.name FROM singer AS T1 JOIN twin AS T2 ON T1.age = T2.age ORDER BY T2.age LIMIT 1",
    ],
)
def test_rows_of_one_key_and_different_values_are_a_tie(asked, sql):
    assert asked(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM singer",
        "SELECT name FROM singer LIMIT 1",
        "SELECT name FROM singer ORDER BY name",
        "SELECT name FROM singer ORDER BY age DESC LIMIT 1",
        "SELECT name FROM singer ORDER BY age DESC LIMIT 2",
        "SELECT name FROM singer ORDER BY age, name",
        "SELECT age FROM singer ORDER BY age",
        "SELECT age FROM singer ORDER BY age LIMIT 1",
        "SELECT name, age FROM twin ORDER BY age LIMIT 1",
        "SELECT max(age) FROM singer ORDER BY 1",
        "SELECT name FROM singer WHERE age > 99 ORDER BY age",
        "SELECT count(*) FROM (SELECT name FROM singer ORDER BY age)",
        "SELECT name FROM singer ORDER BY age LIMIT 100 - 98",  # not looked into, like the next three
        "SELECT DISTINCT country FROM singer ORDER BY age > 0",
        "SELECT name FROM singer UNION SELECT name FROM twin ORDER BY name",
        "WITH a AS (SELECT name, age FROM singer) SELECT name FROM a UNION ALL SELECT 'x' ORDER BY 1",
    ],
)
def test_what_no_other_order_changes_is_no_tie(asked, sql):
    assert not asked(sql)


def test_a_tie_that_limit_cuts_is_found_by_the_row_beyond_it(asked):
    assert not asked("SELECT name FROM singer ORDER BY age DESC LIMIT 2")
    assert asked("SELECT name FROM singer ORDER BY age DESC LIMIT 3")


@pytest.mark.parametrize(
    "sql", ["", "SELECT", "SELECT 'open", "no SQL at all ORDER BY", "DELETE FROM singer", f"SELECT {'(' * 9000}"]
)
def test_what_cannot_be_read_is_not_run_and_no_tie(sql):
    def never(sql):
        raise AssertionError(f"{sql} was run")

    assert not is_tied(sql, Result(outcome="ok"), never)


def test_a_query_that_fails_the_second_time_is_no_tie():
    expected = Result(outcome="ok", rows=(("Ada",),))
    assert not is_tied("SELECT name FROM singer ORDER BY age", expected, lambda sql: Result(outcome="timeout"))


@pytest.mark.parametrize("key", ["years", "2", "age"])
def test_a_tie_is_seen_whatever_its_key_is_called(concert_db, key):
    sql = f"SELECT name, age AS years FROM singer ORDER BY {key} LIMIT 1"
    with Sandbox() as sandbox:
        run = functools.partial(sandbox.execute, concert_db)
        assert is_tied(sql, run(sql), run)
        other = sql.replace("LIMIT 1", "DESC LIMIT 1")
        assert not is_tied(other, run(other), run)
