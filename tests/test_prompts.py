"""What the model reads and what the loss counts, on three real tokenizers: the tiny one, SmolLM2's and Llama 3.2's."""

import dataclasses
import datetime
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers import models, prompts, spider
from helpers.databases import schema
from helpers.databases.schema import one_line
from helpers.model_files import ModelFiles, ModelNotFound
from helpers.prompts import TemplateError, draw, prompt_ids, training_row
from helpers.run.folder import Run
from helpers.views import user_message

pytest.importorskip("transformers")

DATE = "26 Jul 2024"
MESSAGE = "Write one SQLite query that answers the question.\nsinger: name, age\nHow many singers are 30?"
SQL = "SELECT count(*) FROM singer WHERE age = 30"

# The template of HuggingFaceTB/SmolLM2-135M-Instruct on the Hub, with a system turn that nobody asked for.
SMALL_TALK = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


# Tokenizers


@pytest.fixture(scope="module")
def tiny(smoke):
    return models.load_tokenizer(ModelFiles(folder=Path(smoke.model_name), source="made on the spot"))


@pytest.fixture(scope="module")
def smollm(smollm_files):
    return models.load_tokenizer(smollm_files)


@pytest.fixture(scope="module")
def llama():
    """The real tokenizer of Llama 3.2, whose licence keeps it out of this repository."""
    if not os.environ.get("LLAMA_TOKENIZER_DIR"):
        pytest.skip("needs LLAMA_TOKENIZER_DIR: a folder with Llama 3.2's tokenizer.json and tokenizer_config.json")
    return models.load_tokenizer(ModelFiles(folder=Path(os.environ["LLAMA_TOKENIZER_DIR"]), source="this test"))


@pytest.fixture(params=["tiny", "smollm", "llama"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def test_the_pad_token_is_in_the_vocabulary_and_is_not_the_end_of_the_turn(tokenizer):
    """A pad id outside of the vocabulary stops a GPU; padding that looks like the end of the turn would not be learned apart."""
    assert tokenizer.pad_token in tokenizer.get_vocab()
    assert tokenizer.pad_token_id < len(tokenizer)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_eos_token_is_what_closes_a_turn(tokenizer):
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "SELECT 1"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text.rpartition("SELECT 1")[2].strip() == tokenizer.eos_token


@pytest.mark.parametrize("name, eos", [("tiny", "<|im_end|>"), ("smollm", "<|im_end|>"), ("llama", "<|eot_id|>")])
def test_the_end_of_the_turn_is_the_one_the_model_was_taught(name, eos, request):
    assert request.getfixturevalue(name).eos_token == eos


def test_a_prompt_and_its_completion_are_the_whole_conversation(tokenizer):
    row = training_row(tokenizer, MESSAGE, SQL)
    prompt = prompt_ids(tokenizer, MESSAGE)
    turns = [{"role": "user", "content": MESSAGE}, {"role": "assistant", "content": SQL}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False, date_string=DATE)
    assert row.input_ids[: len(prompt)] == prompt
    assert tokenizer.decode(row.input_ids, skip_special_tokens=False) == whole.rstrip("\n")


# Punctuation, quotes and accents are where byte-pair merges might reach over the border between prompt and SQL.
@pytest.mark.parametrize("sql", [SQL, "WITH t AS (SELECT 1) SELECT * FROM t", "SELECT 'Zoë;  \"x\"' FROM t", "(SELECT 1)"])
def test_the_loss_counts_the_sql_and_the_end_of_the_turn_and_nothing_else(tokenizer, sql):
    row = training_row(tokenizer, MESSAGE, sql)
    counted = [token for token, kept in zip(row.input_ids, row.completion_mask, strict=True) if kept]
    assert row.completion_mask == sorted(row.completion_mask), "one piece, at the end"
    assert counted[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(counted[:-1], skip_special_tokens=False, clean_up_tokenization_spaces=False) == sql
    assert row.completion_tokens == len(counted)


def test_a_question_with_an_end_of_turn_in_it_moves_nothing_into_the_loss(tokenizer):
    row = training_row(tokenizer, f"What is {tokenizer.eos_token}?", SQL)
    counted = [token for token, kept in zip(row.input_ids, row.completion_mask, strict=True) if kept]
    assert tokenizer.decode(counted) == SQL + tokenizer.eos_token


@pytest.mark.parametrize("name", ["tiny", "smollm"])
def test_a_chatml_prompt_is_frozen_and_has_no_system_turn(name, request):
    found = request.getfixturevalue(name)
    assert found.decode(prompt_ids(found, MESSAGE)) == (
        "<|im_start|>user\n"
        "Write one SQLite query that answers the question.\n"
        "singer: name, age\n"
        "How many singers are 30?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_llama_prompt_is_frozen_whatever_today_is(llama):
    text = llama.decode(prompt_ids(llama, MESSAGE))
    assert text == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\n"
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        "Write one SQLite query that answers the question.\n"
        "singer: name, age\n"
        "How many singers are 30?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    today = datetime.date.today().strftime("%d %b %Y")
    turns = [{"role": "user", "content": MESSAGE}]
    assert f"Today Date: {today}" in llama.apply_chat_template(turns, tokenize=False), "this is why the date is fixed"


def test_a_llama_prompt_begins_with_one_begin_of_text(llama):
    # Ids from Meta's published tokenizer: <|begin_of_text|> is 128000, <|eot_id|> 128009, the right pad 128004.
    ids = prompt_ids(llama, MESSAGE)
    assert ids[0] == 128000
    assert ids.count(128000) == 1
    assert (llama.eos_token_id, llama.pad_token_id) == (128009, 128004)


def test_smollms_own_small_talk_is_taken_out_of_its_prompts(tiny, tmp_path):
    tiny_copy = type(tiny)(tokenizer_object=tiny.backend_tokenizer, eos_token=tiny.eos_token, pad_token=tiny.pad_token)
    tiny_copy.chat_template = SMALL_TALK
    tiny_copy.save_pretrained(tmp_path)
    loaded = models.load_tokenizer(ModelFiles(folder=tmp_path, source="this test"))
    assert prompt_ids(loaded, MESSAGE) == prompt_ids(tiny, MESSAGE)


def test_a_base_model_without_a_chat_template_is_refused_by_what_to_take_instead(tiny, tmp_path):
    type(tiny)(tokenizer_object=tiny.backend_tokenizer, eos_token=tiny.eos_token).save_pretrained(tmp_path)
    with pytest.raises(ModelNotFound, match="Instruct"):
        models.load_tokenizer(ModelFiles(folder=tmp_path, source="this test"))


def with_template(tokenizer, template):
    """A copy of a tokenizer that speaks by another chat template."""
    copy = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token=tokenizer.eos_token)
    copy.chat_template = template
    return copy


TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",  # as reasoning models have it
        "{{ messages | length }}" + TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ],
    ids=["a thought is opened in the prompt alone", "the beginning tells the number of turns"],
)
def test_a_template_whose_prompt_differs_from_the_whole_is_an_error(tiny, template):
    with pytest.raises(TemplateError, match="renders a prompt otherwise"):
        training_row(with_template(tiny, template), MESSAGE, SQL)


def test_a_template_that_leaves_the_turn_open_is_an_error(tiny):
    template = TURNS.replace("<|im_end|>", "") + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    with pytest.raises(TemplateError, match="does not close a turn"):
        training_row(with_template(tiny, template), MESSAGE, SQL)


# The text


@pytest.fixture
def tables(concert_db):
    return schema.read(concert_db)


def test_the_schema_stands_between_the_instruction_and_the_question(tables):
    assert user_message("How many singers are 30?", tables, "schema") == MESSAGE


def test_a_question_alone_leaves_the_tables_to_be_guessed(tables):
    message = user_message("How many singers are 30?", tables, "question_only")
    assert message == "Write one SQLite query that answers the question.\nHow many singers are 30?"


@pytest.mark.parametrize(
    "query, written",
    [
        ("SELECT  name\n\tFROM singer ;", "SELECT name FROM singer"),
        ("  SELECT 1;; ", "SELECT 1"),
        ("SELECT 'a  b',  \"c  d\"", "SELECT 'a  b', \"c  d\""),
        ("SELECT 'it''s  so'  ,  1", "SELECT 'it''s  so' , 1"),
        ("SELECT ';'", "SELECT ';'"),
        ("SELECT  [a  b],  `c  d`  FROM t", "SELECT [a  b], `c  d` FROM t"),
        ("SELECT name -- of whom?\nFROM singer", "SELECT name FROM singer"),
        ("-- all\nSELECT 1; -- done", "SELECT 1"),
        ("SELECT '--' -- it's\nFROM singer", "SELECT '--' FROM singer"),
    ],
)
def test_a_completion_folds_white_space_outside_of_quotes(query, written):
    assert one_line(query) == written


# Queries that answer with what stands in their quotes, laid out as people lay them out.
space = st.text(" \t\n\r", min_size=1, max_size=3) | st.sampled_from(["\n  ", " -- why?\n", "\n-- it's\n", " /* a  b */ "])
content = st.text("ab \n\t;-'\"[]`", max_size=6)
literal = content.map(lambda text: "'" + text.replace("'", "''") + "'") | st.integers(-9, 9).map(str)
label = content.map(lambda text: text + "x").flatmap(
    lambda text: st.sampled_from(['"' + text.replace('"', '""') + '"', "`" + text.replace("`", "``") + "`"])
)


@st.composite
def queries(draw_from):
    words = ["SELECT"]
    for number in range(draw_from(st.integers(1, 3))):
        words += [",", draw_from(literal), "AS", draw_from(label)] if number else [draw_from(literal), "AS", draw_from(label)]
    return "".join(word + draw_from(space) for word in words) + draw_from(st.sampled_from(["", ";", " ; ;", "\n"]))


@settings(max_examples=150, deadline=None)
@given(queries())
@example('SELECT \'a  b\' AS "c  d" -- it\'s\n, 1 AS "x"')
def test_a_completion_answers_as_its_query_does(query):
    with closing(sqlite3.connect(":memory:")) as connection:

        def answer(sql):
            cursor = connection.execute(sql)
            return [column[0] for column in cursor.description], cursor.fetchall()

        assert answer(one_line(query)) == answer(query.rstrip("; \n"))


@settings(max_examples=100, deadline=None)
@given(queries())
def test_a_completion_of_a_completion_is_itself(query):
    assert one_line(one_line(query)) == one_line(query)


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
    kept, dropped = prompts.write_data(Run(tmp_path), small, tiny, narrow)
    assert kept
    assert dropped
    assert len(kept) + len(dropped) == 40
    assert all(len(row.input_ids) <= 130 for _, row in kept)
    assert all(len(row.input_ids) > 130 for _, row in dropped)
    assert Run(tmp_path).record()["train_examples"] == {"kept": len(kept), "dropped": len(dropped)}
    assert [line["question"] for line in Run(tmp_path).read_jsonl("data/train.jsonl")] == [one.question for one, _ in kept]


def test_every_dev_question_is_kept_however_long(tiny, smoke, small, tmp_path):
    long = dataclasses.replace(small.dev[0], question="How very many " * 300 + "cakes are there?")
    prompts.write_data(Run(tmp_path), dataclasses.replace(small, dev=(long, *small.dev)), tiny, smoke)
    examples, messages = prompts.read_dev(Run(tmp_path), smoke.with_overrides({"eval_questions": 100}, "this test"))
    assert examples == [long, *small.dev]
    assert len(prompt_ids(tiny, messages[0])) > smoke.max_seq_length


def test_data_without_one_example_short_enough_is_refused(tiny, smoke, small, tmp_path):
    with pytest.raises(ValueError, match="max_seq_length=16: raise it"):
        prompts.write_data(Run(tmp_path), small, tiny, smoke.with_overrides({"max_seq_length": 16}, "this test"))


def test_rows_read_back_are_the_rows_that_were_written(tiny, smoke, small, tmp_path):
    kept, _ = prompts.write_data(Run(tmp_path), small, tiny, smoke)
    rows = prompts.read_training_rows(Run(tmp_path), tiny)
    assert rows == [row for _, row in kept]
    assert len(rows) == smoke.train_examples
    assert max(len(row.input_ids) for row in rows) <= smoke.max_seq_length


def test_dev_questions_that_are_drawn_keep_their_message_and_order(tiny, smoke, small, tmp_path):
    prompts.write_data(Run(tmp_path), small, tiny, smoke)
    examples, messages = prompts.read_dev(Run(tmp_path), smoke)
    places = [small.dev.index(one) for one in examples]
    assert len(examples) == smoke.eval_questions
    assert places == sorted(set(places))
    for one, message in zip(examples, messages, strict=True):
        assert message == user_message(one.question, schema.read(small.databases[one.db_id]), "schema")


@pytest.mark.skipif(not os.environ.get("SPIDER_DIR"), reason="needs SPIDER_DIR")
@pytest.mark.spider
def test_every_gold_query_of_spiders_dev_survives_as_a_completion(spider_dir):
    """sqlglot, a real parser, reads the same query before and after."""
    import sqlglot

    for one in spider.load_folder(spider_dir).dev:
        before = sqlglot.parse_one(one.query.rstrip("; "), dialect="sqlite")
        assert sqlglot.parse_one(one_line(one.query), dialect="sqlite") == before, one.query
