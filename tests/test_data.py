"""Examples drawn, written and read back."""

import contextlib
import dataclasses
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from helpers import data, models
from helpers.data import draw
from helpers.databases import schema
from helpers.databases.layout import Example
from helpers.databases.schema import one_line
from helpers.prompts.message import DatabasePrompt, database_prompt
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
    written = data.write_data(Run(tmp_path), small, tiny, narrow)
    kept, dropped = written.kept, written.dropped
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
    kept = data.write_data(Run(tmp_path), small, tiny, smoke).kept
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


# Gold that the model could not write


@pytest.fixture
def odd(sample):
    """The sample's first examples, and some of each kind that cannot be learned."""
    db_id = sample.train[0].db_id
    table = schema.read(sample.databases[db_id]).tables[0].name
    queries = {
        "no IR": f"WITH a AS (SELECT count(*) AS n FROM {table}) SELECT n FROM a",
        "outside the grammar": f"SELECT count(*) << 1 FROM {table}",
    }
    examples = [Example(question=f"{kind}?", query=query, db_id=db_id, hardness="easy") for kind, query in queries.items()]
    return dataclasses.replace(sample, train=(*sample.train[:6], *examples), dev=(*sample.dev[:4], examples[0], sample.train[0]))


def test_gold_that_cannot_be_written_is_left_out_counted_and_named(tiny, smoke, odd, tmp_path):
    settings = smoke.with_overrides(
        {"prompt_style": "linked", "constrained": True, "train_examples": 0, "max_seq_length": 2048}, "this test"
    )
    written = data.write_data(Run(tmp_path), odd, tiny, settings)
    assert [(one.kind, one.example.question) for one in written.unsayable["train"]] == [
        (kind, f"{kind}?") for kind in ("no IR", "outside the grammar")
    ]
    assert {example.question for example, _ in written.kept} == {example.question for example in odd.train[:6]}
    notes = written.notes()
    assert "2 training examples are left out" in notes and "1 of 6 dev questions cannot be right" in notes
    assert all(one.example.query in notes for one in written.unsayable["train"])
    record = Run(tmp_path).record()
    assert record["unsayable"] == {"train": {"no IR": 1, "outside the grammar": 1}, "dev": {"no IR": 1}}
    assert len(Run(tmp_path).read_jsonl("data/dev.jsonl")) == 6, "no dev question is left out"


def test_gold_whose_ir_gives_other_rows_is_left_out(tiny, smoke, odd, tmp_path, monkeypatch):
    monkeypatch.setattr(DatabasePrompt, "sql", lambda self, answer: "SELECT 12345")
    settings = smoke.with_overrides({"prompt_style": "linked", "train_examples": 0, "max_seq_length": 2048}, "this test")
    with pytest.raises(ValueError, match="cannot write the SQL of any of the 8 training examples"):
        data.write_data(Run(tmp_path), odd, tiny, settings)


def test_a_question_that_train_and_dev_share_is_counted_and_said(tiny, smoke, odd, tmp_path):
    written = data.write_data(Run(tmp_path), odd, tiny, smoke)
    assert [example.question for example in written.repeated] == [odd.train[6].question, odd.train[0].question]
    assert "2 of 6 dev questions are asked in training too" in written.notes()
    assert Run(tmp_path).record()["repeated_dev_questions"] == 2


def test_what_sqlite_cannot_read_in_a_database_is_named(tiny, smoke, odd, tmp_path):
    db_id = odd.train[0].db_id
    broken = tmp_path / odd.databases[db_id].name
    shutil.copy(odd.databases[db_id], broken)
    with contextlib.closing(sqlite3.connect(broken)) as connection:
        connection.executescript("CREATE VIEW bad AS SELECT * FROM gone")
    changed = dataclasses.replace(odd, databases=odd.databases | {db_id: broken})
    written = data.write_data(Run(tmp_path / "run"), changed, tiny, smoke)
    assert f"{db_id}: bad (no such table: main.gone)" in written.notes()
