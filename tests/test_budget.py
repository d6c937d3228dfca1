"""How much of gold a prompt of few columns lacks."""

import dataclasses

import pytest

from helpers import config, linking, spider
from tools import budget


def test_wider_prompts_lack_less_and_whole_ones_nothing(sample):
    found = budget.whole(sample, sample.dev, config.preset("cpu"))
    assert found["questions"] == len(sample.dev)
    counts = list(found["widths"].values())
    assert [one["whole"] for one in counts] == sorted(one["whole"] for one in counts)
    assert [one["cut"] for one in counts] == sorted((one["cut"] for one in counts), reverse=True)
    for most, one in found["widths"].items():
        assert one["whole"] >= found["questions"] - one["cut"], "what is not cut lacks nothing"
        assert (one["cut"] == 0) == (found["widest"] <= int(most))


def test_a_column_that_is_cut_is_missed(sample, monkeypatch):
    monkeypatch.setattr(linking, "cut", lambda order, most: [(table, names[:-1]) for table, names in order])
    example = sample.dev[0]
    monkeypatch.setattr(linking, "rank", lambda *_: [("t", ["a", "b"])])
    monkeypatch.setattr(budget.target, "needed", lambda sql, names: ({"t"}, {("t", "b")} if "b" in sql else {("t", "a")}))
    asked = [dataclasses.replace(example, query=f"SELECT {name} FROM t") for name in "ab"]
    found = budget.whole(sample, asked, config.preset("cpu"))
    assert {one["whole"] for one in found["widths"].values()} == {1}


def test_gold_that_the_target_form_cannot_say_is_not_counted(sample):
    odd = dataclasses.replace(sample.dev[0], query="no query")
    assert budget.whole(sample, [odd, sample.dev[1]], config.preset("cpu"))["questions"] == 1


@pytest.mark.spider
def test_no_prompt_of_dev_lacks_what_gold_needs(spider_dir):
    dataset = spider.load(str(spider_dir))
    found = budget.whole(dataset, dataset.dev, config.preset("full"))
    assert found["widths"][str(linking.MOST_COLUMNS)] == {"cut": 0, "whole": 1034}
