"""Examples drawn, written and read back."""

import dataclasses
import os
from pathlib import Path

import pytest

from helpers import data, models
from helpers.data import draw
from helpers.databases.schema import one_line
from helpers.prompts.message import database_prompt
from helpers.run.folder import OtherConfiguration, Run
from helpers.sources import spider
from helpers.sources.model_files import ModelFiles

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tiny(smoke):
    return models.load_tokenizer(ModelFiles(folder=Path(smoke.model_name), source="made on the spot"))


# Drawing


def test_drawn_items_are_the_same_for_a_seed_and_keep_their_order():
    drawn = draw(range(1000), 50, seed=3407)
    assert drawn == draw(range(1000), 50, seed=3407)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 50
    assert drawn != draw(range(1000), 50, seed=3408)


@pytest.mark.parametrize("count", [0, 5, 6])
def test_drawing_all_there_is_leaves_everything_as_it_was(count):
    assert draw("abcde", count, seed=0) == list("abcde")


# Files


@pytest.fixture(scope="module")
def small(sample):
    """The sample with forty training examples, and dev's first twenty."""
    return dataclasses.replace(sample, train=sample.train[:40], dev=sample.dev[:20])


def test_training_examples_that_are_too_long_are_dropped_and_counted_not_cut(tiny, smoke, small, tmp_path):
    narrow = smoke.with_overrides({"train_examples": 40, "max_seq_length": 130}, "this test")
    kept, dropped = data.write_data(Run(tmp_path), small, tiny, narrow)
    assert kept
    assert dropped
    assert len(kept) + len(dropped) == 40
    assert all(len(row.input_ids) <= 130 for _, row in kept)
    assert all(len(row.input_ids) > 130 for _, row in dropped)
    assert Run(tmp_path).record()["train_examples"] == {"kept": len(kept), "dropped": len(dropped)}
    assert [line["question"] for line in Run(tmp_path).read_jsonl("data/train.jsonl")] == [one.question for one, _ in kept]


def test_every_dev_question_is_kept_however_long(tiny, smoke, small, tmp_path):
    long = dataclasses.replace(small.dev[0], question="How very many " * 300 + "cakes are there?")
    data.write_data(Run(tmp_path), dataclasses.replace(small, dev=(long, *small.dev)), tiny, smoke)
    every = smoke.with_overrides({"eval_questions": 100}, "this test")
    questions = data.dev_questions(Run(tmp_path), every, small)
    assert [question.example for question in questions] == [long, *small.dev]
    assert len(questions[0].ids(tiny)) > smoke.max_seq_length


def test_data_without_one_example_short_enough_is_refused(tiny, smoke, small, tmp_path):
    with pytest.raises(ValueError, match="max_seq_length=16: raise it"):
        data.write_data(Run(tmp_path), small, tiny, smoke.with_overrides({"max_seq_length": 16}, "this test"))


def test_rows_read_back_are_the_rows_that_were_written(tiny, smoke, small, tmp_path):
    kept, _ = data.write_data(Run(tmp_path), small, tiny, smoke)
    rows = data.read_training_rows(Run(tmp_path), tiny)
    assert rows == [row for _, row in kept]
    assert len(rows) == smoke.train_examples
    assert max(len(row.input_ids) for row in rows) <= smoke.max_seq_length


def test_dev_questions_that_are_drawn_keep_their_message_and_order(tiny, smoke, small, tmp_path):
    data.write_data(Run(tmp_path), small, tiny, smoke)
    questions = data.dev_questions(Run(tmp_path), smoke, small)
    numbers = [small.dev.index(question.example) for question in questions]
    assert len(questions) == smoke.eval_questions
    assert numbers == sorted(set(numbers))
    for question in questions:
        database = small.databases[question.example.db_id]
        assert question.message == database_prompt(database, "schema").message(question.example.question)


def test_data_that_has_changed_since_is_refused(tiny, smoke, small, sample, tmp_path):
    run = Run(tmp_path)
    data.write_data(run, sample, tiny, smoke)
    assert data.load_for_run(run, smoke).sha256 == sample.sha256
    run.add_to_record(data_sha256=small.sha256)
    with pytest.raises(OtherConfiguration, match="is not what this run's examples were made from"):
        data.load_for_run(run, smoke)


@pytest.mark.skipif(not os.environ.get("SPIDER_DIR"), reason="needs SPIDER_DIR")
@pytest.mark.spider
def test_every_gold_query_of_spiders_dev_survives_as_a_completion(spider_dir):
    """sqlglot, a real parser, reads the same query before and after."""
    import sqlglot

    for one in spider.load_folder(spider_dir).dev:
        before = sqlglot.parse_one(one.query.rstrip("; "), dialect="sqlite")
        assert sqlglot.parse_one(one_line(one.query), dialect="sqlite") == before, one.query
