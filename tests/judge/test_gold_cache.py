"""Kept results of gold queries: found by content, never wrong, and nothing but time lost where the store fails."""

import math
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from conftest import ROOT, make_database

from helpers.databases.sandbox import Result
from helpers.judge import gold_cache
from helpers.judge.gold_cache import GoldCache

SQL = "SELECT name FROM singer"
ADA = Result(outcome="ok", columns=("name",), rows=(("Ada",),), seconds=0.5)


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("COURSE_CACHE", str(folder))
    return folder


def kept(database, result=ADA, sql=SQL):
    """Put a result in with one cache and ask another for it."""
    with GoldCache() as cache:
        cache.put(database, sql, result)
    return found(database, sql)


def found(database, sql=SQL):
    with GoldCache() as cache:
        return cache.get(database, sql)


def test_a_result_is_found_by_content_wherever_the_database_lies(cache_folder, concert_db, tmp_path):
    assert found(concert_db) is None
    assert kept(concert_db) == ADA
    copy = tmp_path / "elsewhere" / "copy.sqlite"
    copy.parent.mkdir()
    copy.write_bytes(concert_db.read_bytes())
    assert found(copy) == ADA


def test_a_changed_database_or_query_is_not_found(cache_folder, concert_db):
    assert kept(concert_db) == ADA
    assert found(concert_db, SQL + " ") is None
    assert found(concert_db, SQL.lower()) is None
    with closing(sqlite3.connect(concert_db)) as connection, connection:
        connection.execute("UPDATE singer SET age = 31 WHERE name = 'Ada'")
    assert found(concert_db) is None


def test_another_version_of_sqlite_runs_the_query_again(cache_folder, concert_db, monkeypatch):
    assert kept(concert_db) == ADA
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.99.0")
    assert found(concert_db) is None


def test_a_later_result_replaces_an_earlier_one(cache_folder, concert_db):
    later = Result(outcome="ok", columns=("name",), rows=(("Bo",),))
    assert kept(concert_db) == ADA
    assert kept(concert_db, later) == later


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        0.1,
        1.0,
        -0.0,
        1e308,
        math.inf,
        -math.inf,
        "",
        "é🎵\n\0",
        "\ufffd",
        "null",
        b"",
        b"\0\xff",
    ],
)
def test_values_of_every_type_come_back_as_they_were(cache_folder, concert_db, value):
    result = Result(outcome="ok", columns=("a", "a"), rows=((value, 1), (value, value)))
    back = kept(concert_db, result)
    assert back == result
    assert [[type(one) for one in row] for row in back.rows] == [[type(one) for one in row] for row in result.rows]
    assert str(back.rows) == str(result.rows)  # -0.0 equals 0.0


@pytest.mark.parametrize(("columns", "rows"), [((), ()), (("a",), ()), ((), ((),)), (("base64",), (("AAAA",),))])
def test_results_of_every_shape_come_back_as_they_were(cache_folder, concert_db, columns, rows):
    result = Result(outcome="ok", columns=columns, rows=rows)
    assert kept(concert_db, result) == result


def test_what_did_not_run_or_is_too_large_is_not_kept(cache_folder, concert_db, monkeypatch):
    assert kept(concert_db, Result(outcome="timeout", error="stopped after 5 s")) is None
    monkeypatch.setattr(gold_cache, "LARGEST", 10_000)
    many = Result(outcome="ok", columns=("a",), rows=((1,),) * 2_501)
    large = Result(outcome="ok", columns=("a",), rows=(("x" * 10_000,),))
    assert kept(concert_db, many, "many") is kept(concert_db, large, "large") is None
    assert kept(concert_db, Result(outcome="ok", columns=("a",), rows=((1,),) * 1_000), "fewer") is not None


def store(folder):
    return folder / "gold_results.sqlite"


@pytest.mark.parametrize(
    "content", [b"", b"no database" * 1000, b"SQLite format 3\0" + bytes(5000)], ids=["empty", "text", "zeros"]
)
def test_a_store_that_is_no_database_costs_nothing_but_time(cache_folder, concert_db, content):
    cache_folder.mkdir()
    store(cache_folder).write_bytes(content)
    assert kept(concert_db) in (None, ADA)


@pytest.mark.parametrize("place", [0, 20, 100, 4096, 4100, 4104, 5000, 8000])
def test_a_damaged_store_gives_the_right_result_or_none(cache_folder, concert_db, place):
    assert kept(concert_db) == ADA
    content = bytearray(store(cache_folder).read_bytes())
    content[place : place + 60] = b"\xa5" * len(content[place : place + 60])
    store(cache_folder).write_bytes(content)
    assert found(concert_db) in (None, ADA)
    assert kept(concert_db) in (None, ADA)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "7", "[]", '{"outcome": "ok"}', '{"rows": 1, "columns": 2}', '{"a": 1, "columns": [], "rows": []}']
)
def test_an_entry_of_another_form_is_none(cache_folder, concert_db, text):
    assert kept(concert_db) == ADA
    with closing(sqlite3.connect(store(cache_folder))) as connection, connection:
        connection.execute("UPDATE results SET result = ?", (text,))
    assert found(concert_db) is None


def test_a_store_with_another_table_costs_nothing_but_time(cache_folder, concert_db):
    make_database(store(cache_folder), "CREATE TABLE results (other)")
    assert kept(concert_db) is None


def test_a_folder_in_the_stores_place_costs_nothing_but_time(cache_folder, concert_db):
    store(cache_folder).mkdir(parents=True)
    assert kept(concert_db) is None


def test_a_file_in_the_cache_folders_place_costs_nothing_but_time(cache_folder, concert_db):
    cache_folder.write_text("a file", encoding="utf-8")
    assert kept(concert_db) is None


def test_a_cache_that_cannot_be_written_still_answers(cache_folder, concert_db):
    assert kept(concert_db) == ADA
    store(cache_folder).chmod(0o444)
    cache_folder.chmod(0o555)
    try:
        assert found(concert_db) == ADA
        assert kept(concert_db, sql="another") in (None, ADA)  # root may write all the same
    finally:
        cache_folder.chmod(0o755)


def test_many_results_against_a_locked_store_cost_no_more_than_one(cache_folder, concert_db):
    assert kept(concert_db) == ADA
    with closing(sqlite3.connect(store(cache_folder), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        begin = time.monotonic()
        with GoldCache() as cache:
            for number in range(8):
                assert cache.get(concert_db, f"SELECT {number}") is None
                cache.put(concert_db, f"SELECT {number}", ADA)
        assert time.monotonic() - begin < 4
    assert found(concert_db) == ADA
    assert kept(concert_db, sql="another") == ADA


def test_two_processes_at_once_lose_at_most_results(cache_folder, concert_db):
    script = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from helpers.databases.sandbox import Result
from helpers.judge.gold_cache import GoldCache
for number in range(40):
    with GoldCache() as cache:
        sql = f"SELECT {{number}}"
        got = cache.get(Path(sys.argv[1]), sql)
        assert got is None or got.rows == ((number,),), got
        cache.put(Path(sys.argv[1]), sql, Result(outcome="ok", columns=("a",), rows=((number,),)))
"""
    command = [sys.executable, "-c", script, str(concert_db)]
    both = [subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    assert all(found(concert_db, f"SELECT {number}").rows == ((number,),) for number in range(40))


@pytest.mark.parametrize("size", [3, 600_000])
def test_two_judges_at_once_do_not_wait_for_each_other_at_every_query(cache_folder, concert_db, size):
    with GoldCache() as first, GoldCache() as second:
        for number in range(8):  # more than SQLite holds in memory: it begins to write, and keeps the file to itself
            large = Result(outcome="ok", columns=("a",), rows=(("x" * size,),))
            first.put(concert_db, f"SELECT {number} AS large", large)
        begin = time.monotonic()
        for number in range(6):
            second.get(concert_db, f"SELECT {number}")
            second.put(concert_db, f"SELECT {number}", ADA)
        assert time.monotonic() - begin < 3


@pytest.mark.parametrize(
    "sql",
    [
        *[
            "SELECT CURRENT_TIMESTAMP",
            "SELECT date('now')",
            "SELECT julianday()",
            "SELECT random()",
            "SELECT unixepoch('subsec')",
        ],
        *[
            "SELECT strftime('%s')",
            "SELECT max( strftime ( '%Y-%m' ) )",
            "SELECT strftime('%s' /* now */) + 1",
            "SELECT strftime('%d, %Y')",
            "SELECT date(/**/)",
        ],
    ],
)
def test_what_changes_with_time_is_not_kept(cache_folder, concert_db, sql):
    assert kept(concert_db, Result(outcome="ok", columns=("a",), rows=((1,),)), sql) is None


@pytest.mark.parametrize(
    "sql", ["SELECT strftime('%Y', '2024-05-01')", "SELECT strftime('%m', date('2024-05-01')) AS now_and_then"]
)
def test_a_format_of_a_given_time_is_kept(cache_folder, concert_db, sql):
    assert kept(concert_db, sql=sql) == ADA


def test_what_a_view_asks_of_the_clock_is_not_kept(cache_folder, tmp_path):
    database = make_database(tmp_path / "clock.sqlite", "CREATE TABLE t (a); CREATE VIEW v AS SELECT date('now') AS today")
    assert kept(database, sql="SELECT today FROM v") is None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT date(/**/)", "SELECT strftime(name) FROM singer", "SELECT \"date\"('now')", "SELECT date(name) FROM singer",
        "SELECT date('n' || 'ow')", "SELECT datetime('2020-01-01', 'local' || 'time')", "SELECT strftime(substr('%s', 1))",
        "SELECT strftime('%s', date('2020-01-01'), 'loc' || 'altime')", "SELECT unixepoch ( -- now\n)",
    ],
)  # fmt: skip
def test_gold_that_may_mean_now_is_not_kept(cache_folder, concert_db, sql):
    assert kept(concert_db, sql=sql) is None


def test_gold_over_a_view_that_means_now_is_not_kept_whatever_the_file_calls_it(cache_folder, tmp_path):
    script = "CREATE TABLE singer (name); CREATE VIEW v AS SELECT datetime() x; PRAGMA writable_schema = 1;"
    script += "UPDATE sqlite_master SET type = CAST('view' AS BLOB) WHERE name = 'v'"
    assert kept(make_database(tmp_path / "a.sqlite", script), sql="SELECT * FROM v") is None


def test_rows_of_a_file_that_changed_while_the_query_ran_are_not_kept(cache_folder, concert_db):
    with GoldCache() as cache:
        assert cache.get(concert_db, SQL) is None
        with closing(sqlite3.connect(concert_db)) as connection, connection:
            connection.execute("UPDATE singer SET age = 31 WHERE name = 'Ada'")
        cache.put(concert_db, SQL, ADA)
        assert cache.get(concert_db, SQL) is None
    assert found(concert_db) is None
