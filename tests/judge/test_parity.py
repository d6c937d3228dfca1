"""Verdicts on real Spider beside the official evaluator's."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from conftest import written

from helpers.databases import layout
from helpers.databases.sandbox import Limits
from helpers.judge.files import judge_files, read_gold
from helpers.judge.hardness import LEVELS
from helpers.judge.verdicts import judge_all

pytestmark = pytest.mark.usefixtures("own_gold_results")


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
@pytest.mark.parametrize(("name", "count"), [("dev", 1034), pytest.param("mutated", 3000, marks=pytest.mark.parity)])
def test_with_official_quirks_every_verdict_is_the_official_one(official, judge_rows, name, count):
    rows = official(name)
    found = judge_rows(rows, official_quirks=True, limits=Limits(seconds=4))
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
