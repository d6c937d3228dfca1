"""The official evaluator's faults in executing and comparing, each by name."""

import pytest
from conftest import AGES, make_database

pytestmark = pytest.mark.usefixtures("own_gold_results")


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
