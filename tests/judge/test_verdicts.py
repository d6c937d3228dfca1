"""The judge: what counts as the same result and as the same query, copies of databases, files in and verdicts out."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from conftest import AGES, ROOT, make_database

from helpers.databases.sandbox import Limits
from helpers.databases.schema import BadDatabase
from helpers.judge import verdicts as verdicts_module
from helpers.judge.verdicts import NO_ROWS, TIED, WRONG_ON_A_COPY, Judge, Verdict, copies, judge_all

pytestmark = pytest.mark.usefixtures("own_gold_results")

# One prediction


def test_another_way_to_say_it_is_correct(judge):
    verdict = judge("SELECT count(*) FROM singer", "select COUNT(name) from singer as s")
    assert verdict == Verdict(exec=1, exact=0, hardness="easy", outcome="correct", error=None, note=None)


def test_a_missing_duplicate_row_is_a_wrong_result(judge):
    """As sets the two answers agree; a user who counts singers would not."""
    gold = f"{AGES} WHERE age = 30"
    assert judge(gold, f"{gold} LIMIT 1").outcome == "wrong result"
    assert judge(gold, gold.replace("SELECT", "SELECT DISTINCT")).outcome == "wrong result"


def test_order_counts_exactly_where_gold_asks_for_it(judge):
    assert judge(f"{AGES} ORDER BY age", f"{AGES} ORDER BY age DESC").outcome == "wrong result"
    assert judge(f"{AGES} order by age desc", f"{AGES} ORDER BY age DESC").outcome == "correct"
    assert judge(AGES, f"{AGES} ORDER BY age DESC").outcome == "correct"


def test_a_prediction_that_does_not_run_is_wrong_for_its_own_reason(judge):
    verdict = judge(AGES, "SELECT height FROM singer")
    assert (verdict.exec, verdict.outcome, verdict.error) == (0, "no such column", "no such column: height")


@pytest.mark.parametrize("prediction", ["", "  ", ";", "-- I do not know"])
def test_no_query_is_wrong_even_where_gold_finds_nothing(judge, prediction):
    assert judge("SELECT name FROM singer WHERE age > 99", prediction).outcome == "empty"


def test_a_gold_query_that_does_not_run_is_said_to_be_the_reason(judge):
    verdict = judge("SELECT height FROM singer", "SELECT height FROM singer")
    assert (verdict.exec, verdict.outcome, verdict.error) == (0, "gold does not run", "no such column: height")


def test_asking_for_the_same_things_is_an_exact_match_whatever_the_values_and_the_result(judge):
    gold = "SELECT name FROM singer WHERE age > 30"
    for prediction, executed, exact in [
        ("select T1.name from singer as T1 where T1.age > 30", 1, 1),
        ("SELECT name FROM singer WHERE age > 20", 0, 1),
        ("SELECT name FROM singer WHERE age = 41", 1, 0),
        ("SELECT age FROM singer WHERE age > 30", 0, 0),
    ]:
        verdict = judge(gold, prediction)
        assert (verdict.exec, verdict.exact) == (executed, exact), prediction


def test_a_prediction_that_sqlite_does_not_run_is_no_exact_match(judge):
    """LIMIT's number does not count for the match, and yet it must be one."""
    assert judge(f"{AGES} LIMIT 1", f"{AGES} LIMIT 2").exact == 1
    verdict = judge(f"{AGES} LIMIT 1", f"{AGES} LIMIT 'x'")
    assert (verdict.exec, verdict.exact, verdict.outcome) == (0, 0, "error")


@pytest.mark.parametrize(
    "gold",
    [
        f"{AGES} WHERE age IN (SELECT age FROM singer ORDER BY age)",
        "SELECT age FROM (SELECT age FROM singer ORDER BY age)",
        f"{AGES} WHERE name <> 'order by'",
    ],
)
def test_an_order_by_that_is_not_gold_s_outermost_asks_for_no_order(judge, gold):
    assert judge(gold, f"{AGES} ORDER BY age DESC").outcome == "correct"
    assert judge(gold, f"{AGES} ORDER BY age DESC", official_quirks=True).outcome == "wrong result"


def test_the_order_by_of_a_set_operation_asks_for_order(judge):
    gold = f"{AGES} UNION SELECT 20 ORDER BY age"
    assert judge(gold, f"SELECT 20 AS age UNION {AGES} ORDER BY age").outcome == "correct"
    assert judge(gold, f"{gold} DESC").outcome == "wrong result"


# Weak questions


def test_a_question_whose_gold_finds_nothing_is_noted(judge):
    verdict = judge(f"{AGES} WHERE age > 99", "SELECT 1, 2 WHERE 0")
    assert (verdict.outcome, verdict.note) == ("correct", NO_ROWS)
    assert judge(f"{AGES} WHERE age > 99", AGES).note == judge(f"{AGES} WHERE age > 99", "SELECT x").note == NO_ROWS
    assert judge(AGES, AGES).note is None
    assert judge("SELECT max(age) FROM singer WHERE age > 99", AGES).note is None, "one row of NULL is a row"


def test_a_question_whose_gold_leaves_the_choice_to_chance_is_noted(judge):
    """Ada and Bo are both the youngest."""
    gold = "SELECT name FROM singer ORDER BY age LIMIT 1"
    assert judge(gold, gold).note == TIED
    assert judge(gold, "SELECT x").note == TIED
    assert judge("SELECT name FROM singer ORDER BY age DESC LIMIT 1", gold).note is None
    assert judge("SELECT age FROM singer ORDER BY age LIMIT 1", gold).note is None, "either way the answer is 30"
    assert judge(gold, gold, official_quirks=True).note is None


# Copies of the database

RICH = "INSERT INTO singer VALUES ('Di', 35)"
TOP = "SELECT name FROM singer ORDER BY age DESC LIMIT 1"


@pytest.fixture
def family(tmp_path, concert_db):
    """A folder of the database's name with the database in it. Call it to add a copy with changes."""
    folder = tmp_path / "concert"
    folder.mkdir()
    database = concert_db.rename(folder / "concert.sqlite")

    def add(name, script):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(database, path)
        return make_database(path, script)

    add.database = database
    return add


def test_a_prediction_must_be_right_on_every_copy_of_the_database(family, judge):
    family("concert_1.sqlite", "DELETE FROM singer WHERE name = 'Ada'")
    family("concert_2.sqlite", RICH)
    gold, lucky, right = (f"SELECT name FROM singer WHERE age {test}" for test in ("> 30", "> 35", ">= 31"))

    verdict = judge(gold, lucky, database=family.database)

    assert (verdict.exec, verdict.exact, verdict.outcome) == (0, 1, WRONG_ON_A_COPY)
    assert verdict.error == "on concert_2.sqlite"
    assert judge(gold, right, database=family.database).outcome == "correct"
    assert judge(gold, AGES, database=family.database).outcome == "wrong result", "what is wrong anyway is called so"


def test_what_is_right_on_the_database_itself_is_known_whatever_its_copies_say(family, judge):
    family("concert_1.sqlite", RICH)
    golds = ["SELECT name FROM singer WHERE age > 30"] * 3
    verdicts = [
        judge(gold, sql, database=family.database) for gold, sql in zip(golds, ["SELECT 'Cy'", AGES, golds[0]], strict=True)
    ]
    assert [one.outcome for one in verdicts] == [WRONG_ON_A_COPY, "wrong result", "correct"]

    (family.database.parent / "concert_1.sqlite").unlink()

    without = [
        judge(gold, sql, database=family.database) for gold, sql in zip(golds, ["SELECT 'Cy'", AGES, golds[0]], strict=True)
    ]
    assert [one.right for one in verdicts] == [one.right for one in without] == [True, False, True]
    assert [one.exec for one in verdicts] == [0, 0, 1] != [one.exec for one in without]


def test_a_copy_on_which_gold_is_left_to_chance_says_nothing(family, judge):
    guess = "SELECT name FROM singer WHERE age = (SELECT max(age) FROM singer)"
    family("concert_1.sqlite", "INSERT INTO singer VALUES ('Di', 50), ('Ed', 50)")
    verdict = judge(TOP, guess, database=family.database)
    assert (verdict.outcome, verdict.note) == ("correct", None), "the question is a weak one on the copy alone"
    family("concert_2.sqlite", RICH)
    assert judge(TOP, "SELECT 'Cy'", database=family.database).outcome == "correct"
    family("concert_3.sqlite", "INSERT INTO singer VALUES ('Di', 50)")
    assert judge(TOP, "SELECT 'Cy'", database=family.database).outcome == WRONG_ON_A_COPY


def test_a_copy_on_which_gold_finds_nothing_makes_no_weak_question(family, judge):
    family("concert_1.sqlite", "DELETE FROM singer")
    assert judge(AGES, AGES, database=family.database).note is None


def test_a_prediction_that_fails_on_a_copy_alone_is_wrong(family, judge):
    family("concert_1.sqlite", "INSERT INTO singer VALUES ('Di', -9223372036854775807 - 1)")
    assert judge(AGES, "SELECT abs(age) FROM singer", database=family.database).exec == 0


def test_other_files_are_no_copies(family, judge, tmp_path):
    changed = "DELETE FROM singer"
    for name in ("notes.db", "concert.sqlite.bak", "older/concert.sqlite", "../concert_1.sqlite"):
        family(name, changed)
    assert copies(family.database) == [family.database]
    assert judge("SELECT name FROM singer WHERE age > 40", "SELECT 'Cy'", database=family.database).outcome == "correct"


def test_databases_that_share_a_folder_of_another_name_are_no_copies_of_each_other(tmp_path, concert_db, judge):
    make_database(tmp_path / "zoo.sqlite", "CREATE TABLE animal (name)")
    assert copies(concert_db) == [concert_db]
    assert judge(AGES, AGES).outcome == "correct"


# Many predictions


def test_each_question_gets_its_verdict_in_order_whatever_the_others_do(concert_db, tmp_path):
    other = make_database(tmp_path / "other.sqlite", "CREATE TABLE singer (age); INSERT INTO singer VALUES (99)")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    one_step = f"SELECT hex(zeroblob(30000000)) LIKE '%{'0' * 900}1'"  # only the worker's end stops it
    predictions = [AGES, endless, "SELECT 99", one_step, "", "DROP TABLE singer", "SELECT 99", AGES]
    golds = [(AGES, "concert")] * 6 + [(AGES, "other")] * 2

    found = judge_all(golds, predictions, {"concert": concert_db, "other": other}, limits=Limits(seconds=0.3), progress="")

    expected = ["correct", "timeout", "wrong result", "timeout", "empty", "refused", "correct", "correct"]
    assert [one.outcome for one in found] == expected
    assert [one.exec for one in found] == [1, 0, 0, 0, 0, 0, 1, 1]


def test_there_must_be_one_prediction_a_question(concert_db):
    with pytest.raises(ValueError, match=r"2 gold queries and 1 predictions"):
        judge_all([(AGES, "concert")] * 2, [AGES], {"concert": concert_db})


def test_databases_that_are_missing_are_named_before_anything_runs(concert_db):
    golds = [(AGES, db_id) for db_id in ("concert", "zoo", "airline", "zoo")]
    with pytest.raises(ValueError, match="no database for airline, zoo"):
        judge_all(golds, [AGES] * 4, {"concert": concert_db})


def test_the_progress_bar_has_its_title_or_is_not_there(concert_db, capsys):
    judge_all([(AGES, "concert")], [AGES], {"concert": concert_db}, progress="")
    assert capsys.readouterr() == ("", "")
    judge_all([(AGES, "concert")], [AGES], {"concert": concert_db}, progress="judging, before")
    assert "judging, before: 100%" in capsys.readouterr().err


def run_python(text, *arguments):
    """What a Python program prints."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_judge_does_not_import_what_only_training_needs():
    heavy = "{'torch', 'transformers', 'trl', 'peft', 'datasets', 'unsloth'}"
    program = f"import sys; from helpers.sources import spider; from helpers.judge import files; from helpers.databases import sandbox; print({heavy} & set(sys.modules) or 'none')"
    assert run_python(program) == "none\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc: getrusage inherits the parent's")
def test_results_do_not_pile_up_in_memory(concert_db):
    program = """
import re, sys
from pathlib import Path
from helpers.judge.verdicts import judge_all
predictions = [f"SELECT {number}, zeroblob(20000000)" for number in range(30)]
judge_all([("SELECT 1", "concert")] * 30, predictions, {"concert": Path(sys.argv[1])}, progress="")
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""
    assert int(run_python(program, concert_db)) < 400  # MiB; all of them would be 600


CHANCE = "SELECT name FROM singer ORDER BY age LIMIT 1"


def working_threads():
    """All threads but the one that progress bars share from the first of them on."""
    return {thread for thread in threading.enumerate() if thread.name != "tqdm_monitor"}


def tidy(children, threads, seconds=2):
    """Whether no more processes and threads are there than before; watchers look up a few times a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if set(psutil.Process().children()) <= children and working_threads() <= threads:
            return True
        time.sleep(0.02)
    return False


def judge_until_stopped(database, predictions, *, seconds, comment=""):
    """Judge predictions up to the KeyboardInterrupt that comes; each gold query runs twice, to see whether it is tied."""
    golds = [(f"{CHANCE} -- {comment} {number}", "concert") for number in range(len(predictions))]
    with pytest.raises(KeyboardInterrupt):
        judge_all(golds, predictions, {"concert": database}, limits=Limits(seconds=seconds), progress="")


@pytest.mark.parametrize("answered", [0, 1, 10, 31, 60])
def test_a_stop_in_the_middle_leaves_no_process_and_no_thread(concert_db, monkeypatch, answered):
    def stopped(pairs, **_options):
        for number, pair in enumerate(pairs):
            if number == answered:
                raise KeyboardInterrupt
            yield pair

    monkeypatch.setattr(verdicts_module, "tqdm", stopped)
    children, threads = set(psutil.Process().children()), working_threads()
    for number in range(4):  # it may come at any point of a question
        judge_until_stopped(concert_db, [AGES] * 500, seconds=0.5, comment=f"{answered} {number}")
    assert tidy(children, threads)


@pytest.mark.parametrize("delay", [0, 0.2])
def test_a_stop_ends_the_query_that_runs(concert_db, monkeypatch, delay):
    def stop(*_):
        time.sleep(delay)
        raise KeyboardInterrupt

    monkeypatch.setattr(Judge, "verdict", stop)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    children, threads = set(psutil.Process().children()), working_threads()
    begin = time.monotonic()
    judge_until_stopped(concert_db, [AGES, *[endless] * 8], seconds=4)
    assert time.monotonic() - begin < 3
    assert tidy(children, threads)


def test_a_database_with_open_changes_is_refused_before_anything_runs(concert_db, tmp_path, capsys):
    """What lies in the file beside it would not be looked at."""
    other = make_database(tmp_path / "other.sqlite", "CREATE TABLE singer (age)")
    with closing(sqlite3.connect(other, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO singer VALUES (1)")
        golds = [(AGES, "concert"), (AGES, "other")]
        with pytest.raises(BadDatabase, match=r"other\.sqlite has changes .* in other\.sqlite-wal"):
            judge_all(golds, [AGES] * 2, {"concert": concert_db, "other": other}, progress="judging")
    assert "judging" not in capsys.readouterr().err
    assert judge_all(golds, [AGES] * 2, {"concert": concert_db, "other": other}, progress="")[1].exec == 1
