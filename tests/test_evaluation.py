"""The judge: what counts as the same result, files in and out, and scores that say how sure they are."""

import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import make_database
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import spider
from helpers.evaluation import (
    Verdict,
    failures,
    judge,
    judge_all,
    judge_files,
    paired_difference,
    read_gold,
    read_lines,
    same_result,
    score,
    summary,
    wilson_interval,
)
from helpers.execution import Limits, Sandbox
from helpers.hardness import LEVELS

ROOT = Path(__file__).resolve().parent.parent
AGES = "SELECT age FROM singer"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as running:
        yield running


@pytest.fixture
def outcome(sandbox, concert_db):
    """What the judge says of a prediction about the three singers."""
    return lambda gold, prediction: judge(sandbox, concert_db, gold=gold, prediction=prediction).outcome


def verdicts(*correct, hardness="easy"):
    """Verdicts on questions that were answered right (1) or wrong (0)."""
    return [Verdict(exec=one, hardness=hardness, outcome="correct" if one else "wrong result") for one in correct]


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


def test_another_way_to_say_it_is_correct(sandbox, concert_db):
    verdict = judge(sandbox, concert_db, gold="SELECT count(*) FROM singer", prediction="select COUNT(name) from singer as s")
    assert verdict == Verdict(exec=1, exact=None, hardness="easy", outcome="correct", error=None)


def test_a_missing_duplicate_row_is_a_wrong_result(outcome):
    """As sets the two answers agree; a user who counts singers would not."""
    gold = f"{AGES} WHERE age = 30"
    assert outcome(gold, f"{gold} LIMIT 1") == "wrong result"
    assert outcome(gold, gold.replace("SELECT", "SELECT DISTINCT")) == "wrong result"


def test_order_counts_exactly_where_gold_asks_for_it(outcome):
    assert outcome(f"{AGES} ORDER BY age", f"{AGES} ORDER BY age DESC") == "wrong result"
    assert outcome(f"{AGES} order by age desc", f"{AGES} ORDER BY age DESC") == "correct"
    assert outcome(AGES, f"{AGES} ORDER BY age DESC") == "correct"


def test_a_prediction_that_does_not_run_is_wrong_for_its_own_reason(sandbox, concert_db):
    verdict = judge(sandbox, concert_db, gold=AGES, prediction="SELECT height FROM singer")
    assert (verdict.exec, verdict.outcome, verdict.error) == (0, "no such column", "no such column: height")


@pytest.mark.parametrize("prediction", ["", "  ", ";", "-- I do not know"])
def test_no_query_is_wrong_even_where_gold_finds_nothing(outcome, prediction):
    assert outcome("SELECT name FROM singer WHERE age > 99", prediction) == "empty"


def test_a_gold_query_that_does_not_run_is_said_to_be_the_reason(sandbox, concert_db):
    verdict = judge(sandbox, concert_db, gold="SELECT height FROM singer", prediction="SELECT height FROM singer")
    assert (verdict.exec, verdict.outcome, verdict.error) == (0, "gold does not run", "no such column: height")


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
    program = f"import sys; from helpers import evaluation, execution, spider; print({heavy} & set(sys.modules) or 'none')"
    assert run_python(program) == "none\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc: getrusage inherits the parent's")
def test_results_do_not_pile_up_in_memory(concert_db):
    program = """
import re, sys
from pathlib import Path
from helpers.evaluation import judge_all
predictions = [f"SELECT {number}, zeroblob(20000000)" for number in range(30)]
judge_all([("SELECT 1", "concert")] * 30, predictions, {"concert": Path(sys.argv[1])}, progress="")
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""
    assert int(run_python(program, concert_db)) < 400  # MiB; all of them would be 600


# Files

GOLD = [(AGES, "concert"), ("SELECT name FROM singer WHERE name = 'Zoë, the \"1st\"'", "concert")]


def written(path, text):
    path.write_bytes(text.encode())
    return path


def as_csv(text):
    return '"{}"'.format(text.replace('"', '""'))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dev.json", json.dumps([{"question": "?", "query": sql, "db_id": db_id} for sql, db_id in GOLD])),
        ("sql.json", json.dumps([{"question": "?", "sql": sql, "db_id": db_id} for sql, db_id in GOLD])),
        ("bom.json", "\ufeff" + json.dumps([{"query": sql, "db_id": db_id} for sql, db_id in GOLD], ensure_ascii=False)),
        ("dev.jsonl", "\n".join(json.dumps({"query": sql, "db_id": db_id}) for sql, db_id in GOLD)),
        ("dev.csv", "question,query,db_id\r\n" + "".join(f"?,{as_csv(sql)},{db_id}\r\n" for sql, db_id in GOLD)),
        ("dev_gold.sql", "".join(f"{sql}\t{db_id}\n" for sql, db_id in GOLD)),
        ("no_last_line_end.txt", "\n".join(f"{sql}\t{db_id}" for sql, db_id in GOLD)),
        ("windows.txt", "\ufeff" + "".join(f"{sql} \t {db_id}\r\n" for sql, db_id in GOLD)),
    ],
)
def test_gold_is_read_from_spiders_json_and_from_official_text(tmp_path, name, text):
    assert read_gold(written(tmp_path / name, text)) == GOLD


def test_a_tab_within_official_sql_stays_in_it(tmp_path):
    gold = written(tmp_path / "gold.txt", "SELECT\tage FROM singer\tconcert\n")
    assert read_gold(gold) == [("SELECT\tage FROM singer", "concert")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gold.txt", f"{AGES}\tconcert\n{AGES} concert\n", r"gold\.txt, line 2: expected SQL, a tab and a db_id, found 'SELECT"),
        ("gold.txt", f"{AGES}\tconcert\n\n", "line 2"),
        ("gold.txt", f"{AGES}\t \n", "line 1"),
        ("gold.txt", " \tconcert\n", "line 1"),
        ("gold.json", json.dumps([{"query": AGES, "db_id": "concert"}, {"query": AGES}]), r"gold\.json, entry 1: no db_id"),
        ("gold.json", json.dumps([{"query": " ", "db_id": "concert"}]), "entry 0: no query"),
        ("gold.json", json.dumps([{"query": 5, "db_id": "concert"}]), "entry 0: no query"),
        ("gold.jsonl", json.dumps({"db_id": "concert"}), "line 1: no query"),
        ("gold.json", "[{", "cannot be read"),
        ("gold.json", "{}", "no examples"),
        ("gold.csv", "query,db_id\nSELECT 1,\n", "line 2: no db_id"),
    ],
)
def test_bad_gold_is_refused_with_its_place(tmp_path, name, text, message):
    with pytest.raises(spider.BadData, match=message):
        read_gold(written(tmp_path / name, text))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n", [""]),
        ("a\nb\n", ["a", "b"]),
        ("a\nb", ["a", "b"]),
        ("a\n\n\n", ["a", "", ""]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("\ufeffa\n", ["a"]),
        ("a\u2028b\x0cc\n", ["a\u2028b\x0cc"]),
    ],
)
def test_a_line_ends_at_a_line_end_and_nowhere_else(tmp_path, text, lines):
    assert read_lines(written(tmp_path / "pred.txt", text)) == lines


def test_text_that_cannot_be_read_is_bad_data(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"SELECT '\xe9'\n")
    for name in ("latin.txt", "missing.txt"):
        with pytest.raises(spider.BadData, match=f"{name} cannot be read"):
            read_lines(tmp_path / name)


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

    returned = judge_files(gold, pred, spider_folder, tmp_path / "new" / "verdicts.json")

    rows = json.loads((tmp_path / "new" / "verdicts.json").read_text(encoding="utf-8"))
    assert [Verdict(**row) for row in rows] == returned
    assert [row["outcome"] for row in rows] == ["correct", "empty", "wrong result", "empty", "empty"]
    assert rows[0] == {"exec": 1, "exact": None, "hardness": "easy", "outcome": "correct", "error": None}


@pytest.mark.parametrize(("predictions", "lines"), [(f"{AGES}\n", "1"), (f"{AGES}\n{AGES}\n{AGES}\n", "3"), ("", "0")])
def test_a_file_with_another_number_of_lines_is_refused_and_writes_nothing(tmp_path, spider_folder, predictions, lines):
    gold = written(tmp_path / "gold.json", json.dumps([{"query": AGES, "db_id": "concert"}] * 2))
    pred = written(tmp_path / "pred.txt", predictions)
    with pytest.raises(ValueError, match=rf"gold\.json has 2 questions and .*pred\.txt {lines} lines"):
        judge_files(gold, pred, spider_folder, tmp_path / "verdicts.json")
    assert not (tmp_path / "verdicts.json").exists()


def test_a_db_id_that_leads_out_of_the_folder_finds_no_database(tmp_path, spider_folder):
    make_database(tmp_path / "secret.sqlite", "CREATE TABLE singer (age)")
    gold = written(tmp_path / "gold.txt", f"{AGES}\t../secret\n")
    with pytest.raises(ValueError, match=r"no database for \.\./secret"):
        judge_files(gold, written(tmp_path / "pred.txt", f"{AGES}\n"), spider_folder, tmp_path / "verdicts.json")


# Scores


@pytest.mark.parametrize(
    ("correct", "total", "interval"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_interval_agrees_with_the_published_examples(correct, total, interval):
    # 95 %: Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert wilson_interval(correct, total) == pytest.approx(interval, abs=5e-5)


@settings(deadline=None)
@given(counts=st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_interval_holds_the_share_keeps_a_width_and_narrows_with_more_questions(counts):
    correct, total = counts
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total + 1e-12 and correct / total - 1e-12 <= high <= 1
    more_low, more_high = wilson_interval(4 * correct, 4 * total)
    assert 0 < more_high - more_low < high - low


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 5), (6, 5), (0, -1)])
def test_counts_that_no_sample_can_have_are_refused(correct, total):
    with pytest.raises(ValueError, match=f"got correct={correct}, total={total}"):
        wilson_interval(correct, total)


def test_no_verdicts_have_no_score():
    with pytest.raises(ValueError):
        score([])


pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=400)


@settings(deadline=None, max_examples=60)
@given(pairs=pairs, seed=st.integers(0, 5))
def test_the_interval_of_a_paired_difference_holds_the_difference(pairs, seed):
    base, tuned = (verdicts(*ones) for ones in zip(*pairs, strict=True))
    found = paired_difference(base, tuned, seed=seed)
    assert found["low"] <= found["difference"] + 1e-9 and found["difference"] <= found["high"] + 1e-9
    assert found["difference"] == pytest.approx(score(tuned)["ex"] - score(base)["ex"])
    assert found["gained"] == pairs.count((0, 1)) and found["lost"] == pairs.count((1, 0))


@pytest.mark.parametrize("answers", [(1, 0, 1), (0,), (1,) * 50])
def test_a_system_does_not_differ_from_itself(answers):
    found = paired_difference(verdicts(*answers), verdicts(*answers))
    assert found == {"difference": 0, "low": 0, "high": 0, "gained": 0, "lost": 0}


def test_the_interval_of_a_paired_difference_is_that_of_the_normal_approximation_for_many_questions():
    # 70 gained, 30 lost of 1,000: 4 points; the gains' standard deviation is sqrt(0.1 - 0.04^2) = 0.3137, so 4 ± 1.96 x 0.992.
    base, tuned = verdicts(*[0] * 70, *[1] * 30, *[1] * 900), verdicts(*[1] * 70, *[0] * 30, *[1] * 900)
    found = paired_difference(base, tuned)
    assert (found["low"], found["high"]) == pytest.approx((2.06, 5.94), abs=0.15)


def test_a_paired_difference_is_the_same_every_time_and_moves_with_its_seed():
    base, tuned = verdicts(*[0, 1] * 200), verdicts(*[1, 1, 0, 1] * 100)
    assert paired_difference(base, tuned) == paired_difference(base, tuned, seed=0)
    assert len({paired_difference(base, tuned, seed=seed)["low"] for seed in range(5)}) > 1


@pytest.mark.parametrize(("base", "tuned"), [((1, 0), (1,)), ((), ())])
def test_a_paired_difference_needs_both_verdicts_on_each_question(base, tuned):
    with pytest.raises(ValueError, match=f"got {len(base)} and {len(tuned)}"):
        paired_difference(verdicts(*base), verdicts(*tuned))


def test_a_summary_has_the_fields_of_a_record_in_percent():
    some = [*verdicts(1, 1, 0), *verdicts(0, hardness="extra"), Verdict(exec=0, hardness="extra", outcome="timeout")]
    found = summary(some)
    low, high = wilson_interval(2, 5)

    assert list(found) == ["questions", "ex", "ex_low", "ex_high", "em", "by_hardness", "outcomes"]
    assert (found["questions"], found["ex"], found["em"]) == (5, 40.0, None)
    assert (found["ex_low"], found["ex_high"]) == pytest.approx((100 * low, 100 * high), abs=0.005)
    assert found["outcomes"] == {"correct": 2, "wrong result": 2, "timeout": 1}
    assert list(found["by_hardness"]) == ["easy", "extra"], "levels without questions have no score"
    assert found["by_hardness"]["easy"]["questions"] == 3 and found["by_hardness"]["easy"]["ex"] == 66.6667
    assert set(found["by_hardness"]["extra"]) == {"questions", "ex", "ex_low", "ex_high"}
    assert json.loads(json.dumps(found)) == found


def test_failures_show_each_kind_before_a_second_of_one():
    outcomes = ["wrong result", "correct", "wrong result", "timeout", "wrong result", "empty"]
    some = [Verdict(exec=int(one == "correct"), hardness="easy", outcome=one) for one in outcomes]
    assert failures(some, limit=4) == [0, 3, 5, 2]
    assert failures(some, limit=99) == [0, 3, 5, 2, 4]
    assert failures(verdicts(1, 1)) == []


# Real Spider


@pytest.fixture
def official(parity_dir):
    return json.loads((parity_dir / "official_verdicts_dev.json").read_text(encoding="utf-8"))


def databases(spider_dir, rows):
    return {row["db_id"]: spider_dir / "database" / row["db_id"] / f"{row['db_id']}.sqlite" for row in rows}


@pytest.mark.spider
def test_ex_agrees_with_the_official_evaluator_on_spider_dev(spider_dir, official):
    """All but the pairs from which it strips a DISTINCT."""
    golds = [(row["gold"], row["db_id"]) for row in official]
    found = judge_all(golds, [row["pred"] for row in official], databases(spider_dir, official), progress="")

    disagreeing = [row for row, one in zip(official, found, strict=True) if row["exec"] != one.exec]
    assert len(official) == 1034
    assert len(disagreeing) <= 4
    assert all("distinct" in f"{row['gold']} {row['pred']}".lower() for row in disagreeing)
    assert [one.hardness for one in found] == [row["hardness"] for row in official]


@pytest.mark.spider
def test_every_gold_query_of_spider_dev_is_judged_correct_against_itself(spider_dir):
    golds = read_gold(spider_dir / "dev.json")
    rows = [{"db_id": db_id} for _, db_id in golds]
    found = judge_all(golds, [sql for sql, _ in golds], databases(spider_dir, rows), progress="")
    assert Counter(one.outcome for one in found) == {"correct": 1034}
    counts = Counter(one.hardness for one in found)
    assert [counts[level] for level in LEVELS] == [248, 446, 174, 166]  # as published with Spider


@pytest.mark.spider
def test_files_in_the_official_form_get_the_official_verdicts(spider_dir, official, tmp_path):
    some = official[:40]
    gold = written(tmp_path / "gold.sql", "".join(f"{row['gold']}\t{row['db_id']}\n" for row in some))
    pred = written(tmp_path / "pred.sql", "".join(f"{row['pred']}\n" for row in some))
    found = judge_files(gold, pred, spider_dir, tmp_path / "out.json")
    assert [one.exec for one in found] == [row["exec"] for row in some]
