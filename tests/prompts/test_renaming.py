"""Training examples under other names: what may be renamed, and that question, schema and answer stay one."""

import random

import pytest
from conftest import make_database

from helpers.databases import schema
from helpers.prompts import renaming
from helpers.prompts.from_ir import to_sql
from helpers.prompts.names import name_map
from helpers.prompts.renaming import NamePool, name_pool, rename
from helpers.prompts.to_ir import needed_columns, to_ir
from helpers.sources import spider

SCRIPT = """
CREATE TABLE singer (singer_id INT PRIMARY KEY, name TEXT, country TEXT, net_worth REAL);
CREATE TABLE concert (concert_id INT PRIMARY KEY, venue TEXT, singer_id INT REFERENCES singer(singer_id));
"""
SOURCE = NamePool(tables=("harbour", "orchards"), columns={"number": ("tonnage", "berths"), "text": ("ripe month", "flag")})


@pytest.fixture
def named(tmp_path):
    return name_map(schema.read(make_database(tmp_path / "concerts.sqlite", SCRIPT)))


def tries(question, sql, named, count=200):
    needed = needed_columns(sql, named)
    for seed in range(count):
        asked, other = rename(question, named, needed, SOURCE, random.Random(seed))
        yield asked, other, to_ir(sql, other)


def test_a_column_that_the_question_names_once_changes_in_question_and_answer_alike(named):
    sql = "SELECT max(net_worth) FROM singer"
    found = {(asked, answer) for asked, _, answer in tries("What is the highest net worth?", sql, named)}
    assert ("What is the highest tonnage?", "SELECT MAX(singer.tonnage) FROM singer") in found
    assert all(("net worth" in asked) == ("net_worth" in answer) for asked, answer in found)


def test_the_answer_stays_the_same_query(named):
    sql = "SELECT T1.country FROM singer AS T1 JOIN concert AS T2 ON T1.singer_id = T2.singer_id WHERE T2.venue = 'Hall'"
    plain = to_sql(to_ir(sql, named), named)
    for _, other, answer in tries("Which country has a venue Hall?", sql, named):
        assert to_sql(answer, other) == plain


@pytest.mark.parametrize(
    "question",
    [
        "Which country is it, the country of the singer?",  # twice
        "Which nations are there?",  # not literally
        "Which Country is there?",  # perhaps a value
    ],
)
def test_what_the_answer_needs_stays_where_the_question_has_it_otherwise(named, question):
    for asked, _, answer in tries(question, "SELECT country FROM singer", named):
        assert ".country" in answer and (asked == question or "singer" in question)


def test_a_plural_stays_one(named):
    found = {asked for asked, _, _ in tries("How many singers are there?", "SELECT count(*) FROM singer", named)}
    assert found == {"How many singers are there?", "How many harbours are there?", "How many orchards are there?"}


def test_new_names_share_no_word_with_the_question(named):
    for asked, other, _ in tries("What is the tonnage of all berths?", "SELECT sum(net_worth) FROM singer", named):
        assert asked == "What is the tonnage of all berths?"
        assert not {"tonnage", "berths"} & set(other.display_names.values())


def test_a_pool_has_short_names_that_say_something(named):
    columns = {"number": ("concert id", "net worth", "singer id"), "text": ("country", "venue")}
    assert name_pool([named]) == NamePool(tables=("concert", "singer"), columns=columns)


def test_a_column_takes_the_name_of_one_that_holds_the_same(named):
    found = {asked for asked, _, _ in tries("Which country is it?", "SELECT country FROM singer", named)}
    assert found == {"Which country is it?", "Which ripe month is it?", "Which flag is it?"}


def test_a_verb_is_not_taken_for_a_table(named):
    needed = "SELECT count(*) FROM concert"
    assert all("concert" in asked for asked, _, _ in tries("How many are there who concert in town?", needed, named))


@pytest.mark.parity
@pytest.mark.spider
def test_renamed_gold_goes_back_to_the_same_query(spider_dir):
    data = spider.load(str(spider_dir))
    seen = {db_id: name_map(data.schema_of(db_id)) for db_id in {example.db_id for example in data.dev}}
    drawn, chance, changed = renaming.name_pool(seen.values()), random.Random(0), 0
    for example in data.dev:
        own = seen[example.db_id]
        asked, other = rename(example.question, own, needed_columns(example.query, own), drawn, chance)
        plain = to_sql(to_ir(example.query, own), own)
        assert to_sql(to_ir(example.query, other), other) == plain
        changed += asked != example.question
    assert changed > 100
