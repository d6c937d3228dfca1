"""The judge: what counts as the same result and as the same query, copies of databases, files in and verdicts out."""

import functools
import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from conftest import make_database
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.databases import layout, schema
from helpers.databases.sandbox import Limits
from helpers.databases.schema import BadDatabase
from helpers.judge import verdicts as verdicts_module
from helpers.judge.files import judge_files, read_gold, write_verdicts
from helpers.judge.hardness import LEVELS
from helpers.judge.same_result import same_result
from helpers.judge.verdicts import NO_ROWS, TIED, WRONG_ON_A_COPY, Judge, Verdict, copies, judge_all

ROOT = Path(__file__).resolve().parent.parent
AGES = "SELECT age FROM singer"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Results of gold queries are kept where no other program looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def judge(concert_db):
    """What the judge says of one prediction, about the three singers unless another database is given."""

    def judge_one(gold, prediction, *, database=concert_db, **options):
        (verdict,) = judge_all([(gold, "it")], [prediction], {"it": database}, progress="", **options)
        return verdict

    return judge_one


# The same result


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], id="rows in another order"),
        pytest.param([(1, "a"), (2, "b")], [("a", 1), ("b", 2)], id="columns in another order"),
        pytest.param([(1, 1), (2, 2)], [(2, 2), (1, 1)], id="a column twice"),
        pytest.param([(1, 2, 1), (2, 1, 2)], [(1, 1, 2), (2, 2, 1)], id="a column twice and another of its values"),
        pytest.param([(1,)], [(1.0,)], id="1 and 1.0"),
        pytest.param([(None, "a"), (1, "b")], [(1, "b"), (None, "a")], id="NULL"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_these_are_the_same_result_where_order_does_not_matter(expected, found):
    assert same_result(expected, found, ordered=False)
    assert same_result(found, expected, ordered=False)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param([(1,), (1,)], [(1,)], id="a duplicate is missing"),
        pytest.param([(1,), (1,), (2,)], [(1,), (2,), (2,)], id="another row is the duplicate"),
        pytest.param([(1, "a"), (2, "b")], [(1, "b"), (2, "a")], id="right values in wrong rows"),
        pytest.param([(1, 1), (2, 2)], [(1, 2), (2, 1)], id="[A, A] against [A, B] of the same values"),
        pytest.param([(1, 1), (2, 2)], [(1, 5), (2, 6)], id="[A, A] against [A, B]"),
        pytest.param([(1, 1, 5), (2, 2, 6)], [(1, 5, 5), (2, 6, 6)], id="[A, A, B] against [A, B, B]"),
        pytest.param([(1,), (2,)], [(1, 1), (2, 2)], id="a column too many"),
        pytest.param([(1, 2)], [(1,)], id="a column too few"),
        pytest.param([(1,)], [("1",)], id="1 and '1'"),
        pytest.param([("a",)], [("A",)], id="a and A"),
        pytest.param([("a",)], [(b"a",)], id="text and blob"),
        pytest.param([(None,)], [(0,)], id="NULL and 0"),
        pytest.param([(None,)], [("",)], id="NULL and ''"),
        pytest.param([(None,)], [], id="NULL and nothing"),
        pytest.param([], [(1,)], id="nothing and a row"),
    ],
)
def test_these_are_different_results(expected, found, ordered):
    assert not same_result(expected, found, ordered=ordered)
    assert not same_result(found, expected, ordered=ordered)


def test_where_order_matters_rows_must_stand_in_it_and_columns_need_not():
    expected = [(1, "a"), (2, "b"), (2, "c")]
    assert same_result(expected, [("a", 1), ("b", 2), ("c", 2)], ordered=True)
    assert not same_result(expected, [(1, "a"), (2, "c"), (2, "b")], ordered=True)


def test_results_without_rows_agree_whatever_their_columns():
    """So the official evaluator has it: its SELECT that finds nobody says nothing about columns."""
    assert same_result([], [], ordered=True) and same_result([], [], ordered=False)


cells = st.sampled_from([None, 0, 1, "0", "1", "x", b"x", 1.5])


def tables(most_columns, values=cells, most_rows=6):
    """Lists of rows of equal width."""
    widths = st.integers(1, most_columns)
    return widths.flatmap(lambda width: st.lists(st.tuples(*[values] * width), min_size=1, max_size=most_rows))


@settings(deadline=None, max_examples=150)
@given(rows=tables(9), randomness=st.randoms(use_true_random=False))
def test_a_shuffled_result_is_the_same_result(rows, randomness):
    order = list(range(len(rows[0])))
    randomness.shuffle(order)
    in_order = [tuple(row[at] for at in order) for row in rows]
    shuffled = randomness.sample(in_order, len(rows))

    assert same_result(rows, shuffled, ordered=False)
    assert same_result(rows, in_order, ordered=True)


@settings(deadline=None, max_examples=150)
@given(rows=tables(6), place=st.tuples(st.integers(0), st.integers(0)), randomness=st.randoms(use_true_random=False))
def test_one_other_value_makes_another_result(rows, place, randomness):
    row, column = place[0] % len(rows), place[1] % len(rows[0])
    changed = [list(one) for one in rows]
    changed[row][column] = "new"
    randomness.shuffle(changed)
    assert not same_result(rows, [tuple(one) for one in changed], ordered=False)


def bits(width):
    """Three rows of zeros and ones."""
    return st.lists(st.tuples(*[st.integers(0, 1)] * width), min_size=3, max_size=3)


@settings(deadline=None, max_examples=300)
@given(pair=st.integers(1, 4).flatmap(lambda width: st.tuples(bits(width), bits(width))))
def test_results_agree_exactly_if_some_order_of_columns_gives_the_same_bag_of_rows(pair):
    expected, found = pair
    orders = itertools.permutations(range(len(found[0])))
    same_bag = any(Counter(tuple(row[at] for at in order) for row in found) == Counter(expected) for order in orders)
    assert same_result(expected, found, ordered=False) == same_bag


def rows_of(*columns):
    return list(zip(*columns, strict=True))


def test_many_columns_of_equal_values_are_compared_in_a_moment():
    """Twelve columns can stand in 479,001,600 orders."""
    shuffle = random.Random(0).sample
    first = list(range(2_000))
    second, third = shuffle(first, len(first)), shuffle(first, len(first))
    begin = time.monotonic()
    assert same_result([(1,) * 12] * 500, [(1,) * 12] * 500, ordered=False)
    assert not same_result(rows_of(*[first] * 11, second), rows_of(*[first] * 11, third), ordered=False)
    assert time.monotonic() - begin < 5


def test_the_order_of_many_different_columns_of_the_same_values_is_found():
    columns = [random.Random(seed).sample(range(20), 20) for seed in range(10)]
    assert same_result(rows_of(*columns), rows_of(*columns[::-1]), ordered=False)


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


# The official evaluator's faults, each by name


def test_official_quirk_value_in_a_prediction_becomes_one(judge, tmp_path):
    """Its issue 21: even in names."""
    database = make_database(tmp_path / "meter.sqlite", "CREATE TABLE reading (value INT); INSERT INTO reading VALUES (5)")
    sql = "SELECT value FROM reading"
    assert (judge(sql, sql, database=database).exec, judge(sql, sql, database=database).exact) == (1, 1)
    verdict = judge(sql, sql, database=database, official_quirks=True)
    assert (verdict.exec, verdict.exact) == (0, 0)
    assert judge("SELECT 1 FROM reading", sql, database=database, official_quirks=True).exec == 1


@pytest.mark.parametrize(
    ("gold", "prediction", "plain", "official"),
    [
        pytest.param(
            "SELECT DISTINCT age FROM singer", AGES, (0, 0, "wrong result"), (1, 1, "correct"), id="DISTINCT is ignored"
        ),
        pytest.param(
            "SELECT name FROM singer WHERE age >= 41",
            "SELECT name FROM singer WHERE age > = 41",
            (0, 0, "syntax error"),
            (1, 1, "correct"),
            id="split operators are joined",
        ),
        pytest.param(AGES, f"{AGES}; DROP TABLE singer", (0, 0, "refused"), (1, 1, "correct"), id="what follows ; is dropped"),
        pytest.param(
            "SELECT name FROM singer WHERE age > YEAR(CURDATE()) - 1985",
            "SELECT name FROM singer WHERE age > 35",
            (0, 0, "gold does not run"),
            (1, 0, "correct"),
            id="YEAR(CURDATE()) is 2020",
        ),
    ],
)
def test_official_quirk(judge, gold, prediction, plain, official):
    for quirks, expected in ((False, plain), (True, official)):
        verdict = judge(gold, prediction, official_quirks=quirks)
        assert (verdict.exec, verdict.exact, verdict.outcome) == expected


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
    program = f"import sys; from helpers import spider; from helpers.judge import files; from helpers.databases import sandbox; print({heavy} & set(sys.modules) or 'none')"
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


# Files


def written(path, text):
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def spider_folder(tmp_path, concert_db):
    """A folder of databases in Spider's layout."""
    (tmp_path / "database" / "concert").mkdir(parents=True)
    concert_db.rename(tmp_path / "database" / "concert" / "concert.sqlite")
    return tmp_path / "database"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_verdicts_of_a_file_are_written_one_a_line_empty_last_lines_too(tmp_path, spider_folder, line_end):
    gold = written(tmp_path / "gold.txt", f"{AGES}\tconcert\n" * 5)
    pred = written(tmp_path / "pred.txt", line_end.join([f" {AGES} ", "", "SELECT 'Zoë'", "", "", ""]))

    golds, returned = judge_files(gold, pred, spider_folder)
    write_verdicts(returned, tmp_path / "new" / "verdicts.json")

    rows = json.loads((tmp_path / "new" / "verdicts.json").read_text(encoding="utf-8"))
    assert [Verdict(**row) for row in rows] == returned
    assert golds == read_gold(gold)
    assert [row["outcome"] for row in rows] == ["correct", "empty", "wrong result", "empty", "empty"]
    assert rows[0] == {"exec": 1, "exact": 1, "hardness": "easy", "outcome": "correct", "error": None, "note": None}


@pytest.mark.parametrize(("predictions", "lines"), [(f"{AGES}\n", "1"), (f"{AGES}\n{AGES}\n{AGES}\n", "3"), ("", "0")])
def test_a_file_with_another_number_of_lines_is_refused(tmp_path, spider_folder, predictions, lines):
    gold = written(tmp_path / "gold.json", json.dumps([{"query": AGES, "db_id": "concert"}] * 2))
    pred = written(tmp_path / "pred.txt", predictions)
    with pytest.raises(ValueError, match=rf"gold\.json has 2 questions and .*pred\.txt {lines} predictions"):
        judge_files(gold, pred, spider_folder)


def test_a_db_id_that_leads_out_of_the_folder_finds_no_database(tmp_path, spider_folder):
    make_database(tmp_path / "secret.sqlite", "CREATE TABLE singer (age)")
    gold = written(tmp_path / "gold.txt", f"{AGES}\t../secret\n")
    with pytest.raises(ValueError, match=r"no database for \.\./secret"):
        judge_files(gold, written(tmp_path / "pred.txt", f"{AGES}\n"), spider_folder)


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("gold.txt", f"{AGES}\tconcert\n{AGES}\tzoo\n", "line 2"),
        ("gold.json", json.dumps([{"query": AGES, "db_id": "concert"}, {"query": AGES, "db_id": "zoo"}]), "entry 1"),
    ],
)
def test_an_unknown_database_is_refused_with_file_and_line(tmp_path, spider_folder, name, text, place):
    gold = written(tmp_path / name, text)
    with pytest.raises(ValueError, match=rf"{name}, {place}: no database for zoo under .*database"):
        judge_files(gold, written(tmp_path / "pred.txt", f"{AGES}\n{AGES}\n"), spider_folder)


def test_predictions_of_a_file_are_judged_without_what_stands_around_them(tmp_path, spider_folder):
    gold = written(tmp_path / "gold.txt", f"{AGES}\tconcert\n" * 5)
    answers = [f"```sql\n{AGES}\n```", f"{AGES}; These are the ages.", f"{AGES}\tconcert", f"INSERT INTO singer {AGES}", None]
    pred = written(tmp_path / "pred.json", json.dumps([{"answer": one} for one in answers]))
    _, found = judge_files(gold, pred, spider_folder, field="answer", progress="")
    assert [one.outcome for one in found] == ["correct", "correct", "correct", "refused", "empty"]


def test_with_official_quirks_predictions_of_a_file_are_taken_to_the_letter(tmp_path, spider_folder):
    gold = written(tmp_path / "gold.txt", f"{AGES}\tconcert\n" * 3)
    pred = written(tmp_path / "pred.txt", f"```{AGES}```\n{AGES}\tnonsense\n{AGES}; nonsense\n")
    _, found = judge_files(gold, pred, spider_folder, official_quirks=True, progress="")
    assert [one.exec for one in found] == [0, 1, 1]


def test_foreign_keys_of_tables_json_count_for_the_official_exact_match(tmp_path):
    script = (
        "CREATE TABLE singer (id INT, name TEXT); CREATE TABLE song (by INT, title TEXT); INSERT INTO singer VALUES (1, 'Ada')"
    )
    make_database(tmp_path / "database" / "concert" / "concert.sqlite", script)
    declared = script.replace("by INT", "by INT REFERENCES singer(id)")
    entry = schema.read(make_database(tmp_path / "declared.sqlite", declared)).as_spider() | {"db_id": "concert"}
    tables = written(tmp_path / "tables.json", json.dumps([entry]))
    join = "FROM singer JOIN song ON singer.id = song.by"
    gold = written(tmp_path / "gold.txt", f"SELECT singer.id {join}\tconcert\n")
    pred = written(tmp_path / "pred.txt", f"SELECT song.by {join}\n")
    found = [judge_files(gold, pred, tmp_path, given, official_quirks=True, progress="")[1] for given in (None, tables)]
    assert [one.exact for (one,) in found] == [0, 1]
    assert [one.exact for one in judge_files(gold, pred, tmp_path, progress="")[1]] == [1], "the join says that they are equal"


def test_a_search_for_the_order_of_columns_gives_up_in_time():
    """Each column alone, and each few together, look like any other: the columns could be put in 9! orders."""
    bits = list(itertools.product((0, 1), repeat=9))
    even, odd = ([row for row in bits if sum(row) % 2 == kind] for kind in (0, 1))
    begin = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("helpers.judge.same_result.TRIED_VALUES", 1_000_000)
        assert not same_result(even, odd, ordered=False)
    assert time.monotonic() - begin < 5


def test_a_copy_that_cannot_be_read_is_refused_by_name_and_a_hidden_file_is_none(spider_folder):
    folder = spider_folder / "concert"
    (folder / "._concert.sqlite").write_bytes(b"Mac OS X")
    database = folder / "concert.sqlite"
    judge = functools.partial(judge_all, [(AGES, "concert")], [AGES], {"concert": database}, progress="")
    assert [one.outcome for one in judge()] == ["correct"]
    (folder / "concert_1.sqlite").touch()
    with pytest.raises(ValueError, match=r"concert_1\.sqlite"):
        judge()


# Real Spider


@pytest.fixture(scope="module")
def official():
    """Official verdicts on pairs of gold and prediction, by the name of their file."""
    folder = Path(os.environ["PARITY_DIR"])
    return lambda name: json.loads((folder / f"official_verdicts_{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def judge_rows(spider_dir):
    """Judge pairs as the parity files have them."""

    def judge(rows, **options):
        databases = {row["db_id"]: spider_dir / "database" / row["db_id"] / f"{row['db_id']}.sqlite" for row in rows}
        golds, tables = [(row["gold"], row["db_id"]) for row in rows], layout.read_tables(spider_dir / "tables.json")
        return judge_all(golds, [row["pred"] for row in rows], databases, tables, progress="", **options)

    return judge


def disagreeing(rows, found, field):
    """Places where official verdicts are others."""
    return {place for place, (row, one) in enumerate(zip(rows, found, strict=True)) if row[field] != getattr(one, field)}


@pytest.mark.spider
@pytest.mark.parametrize(("name", "count"), [("dev", 1034), ("mutated", 3000)])
def test_with_official_quirks_every_verdict_is_the_official_one(official, judge_rows, name, count):
    rows = official(name)
    found = judge_rows(rows, official_quirks=True, limits=Limits(seconds=1.5))
    assert len(found) == count
    assert [disagreeing(rows, found, field) for field in ("exec", "exact", "hardness")] == [set(), set(), set()]


@pytest.mark.spider
def test_verdicts_on_spider_dev_differ_from_the_official_ones_exactly_where_its_faults_decide(official, judge_rows):
    rows = official("dev")
    found = judge_rows(rows)
    by_result, by_match = disagreeing(rows, found, "exec"), disagreeing(rows, found, "exact")
    assert by_result == {321, 322, 520, 751}
    twins = {249, 884, 885, 886, 889}  # columns that refer to one table, taken for one whatever the query joins
    assert by_match == {944, 945} | twins
    distinct = by_result | by_match - twins
    assert all("distinct" in f"{rows[at]['gold']} {rows[at]['pred']}".lower() for at in distinct)
    assert all(rows[at]["exact"] for at in twins)
    assert [one.hardness for one in found] == [row["hardness"] for row in rows]


@pytest.mark.spider
def test_every_gold_query_of_spider_dev_is_judged_correct_against_itself(spider_dir, judge_rows):
    golds = read_gold(spider_dir / "dev.json")
    found = judge_rows([{"gold": one.query, "db_id": one.db_id, "pred": one.query} for one in golds])
    assert Counter((one.outcome, one.exact) for one in found) == {("correct", 1): 1034}
    counts = Counter(one.hardness for one in found)
    assert [counts[level] for level in LEVELS] == [248, 446, 174, 166]  # as published with Spider


@pytest.mark.spider
def test_files_in_the_official_form_get_the_official_verdicts(spider_dir, official, tmp_path):
    some = official("dev")[:40]
    gold = written(tmp_path / "gold.sql", "".join(f"{row['gold']}\t{row['db_id']}\n" for row in some))
    pred = written(tmp_path / "pred.sql", "".join(f"{row['pred']}\n" for row in some))
    _, found = judge_files(gold, pred, spider_dir, spider_dir / "tables.json", progress="")
    assert [(one.exec, one.exact) for one in found] == [(row["exec"], row["exact"]) for row in some]
