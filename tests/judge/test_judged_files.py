"""Files of predictions become verdicts, one a line."""

import functools
import itertools
import json
import time

import pytest
from conftest import AGES, make_database, written

from helpers.databases import schema
from helpers.judge.files import judge_files, read_gold, write_verdicts
from helpers.judge.same_result import same_result
from helpers.judge.verdicts import Verdict, judge_all

pytestmark = pytest.mark.usefixtures("own_gold_results")


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
