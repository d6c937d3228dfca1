"""Questions in other words: by rule, only where gold needs the name, and never one that the schema has for something else."""

import pytest
from conftest import make_database

from helpers import config, spider, views
from helpers.spider import Example
from tools import wordings

SCRIPT = """
CREATE TABLE singer (singer_id INTEGER PRIMARY KEY, last_name TEXT, country TEXT, salary INT, price INT);
CREATE TABLE concert (concert_id INTEGER PRIMARY KEY, singer_id INT REFERENCES singer, year INT);
"""


@pytest.fixture
def view(tmp_path):
    return views.view(make_database(tmp_path / "shows.sqlite", SCRIPT), config.preset("cpu"))


def example(question, query):
    return Example(question=question, query=query, db_id="shows", hardness="easy", seen=False)


@pytest.mark.parametrize(
    ("question", "query", "reworded"),
    [
        ("How many singers are there?", "SELECT COUNT(*) FROM singer", "How many vocalists are there?"),
        ("Which country pays a singer?", "SELECT country FROM singer", "Which nation pays a vocalist?"),
        ("Each singer's last name?", "SELECT last_name FROM singer", "Each vocalist's last name?"),
        ("The salary of all?", "SELECT salary FROM singer", "The pay of all?"),
        ("What price has a concert?", "SELECT concert_id FROM concert", "What price has a show?"),  # gold needs no price
        ("All, country by country?", "SELECT country FROM singer", None),  # which of the two?
        ("Who is the oldest?", "SELECT last_name FROM singer", None),
    ],
)
def test_names_that_gold_needs_get_other_words(view, question, query, reworded):
    assert wordings.with_synonyms(example(question, query), view) == reworded


def test_a_word_that_the_schema_has_for_something_else_is_not_used(tmp_path):
    script = "CREATE TABLE singer (name TEXT); CREATE TABLE vocalist (name TEXT);"
    view = views.view(make_database(tmp_path / "two.sqlite", script), config.preset("cpu"))
    assert wordings.with_synonyms(example("How many singers?", "SELECT COUNT(*) FROM singer"), view) is None


@pytest.mark.parametrize(
    ("question", "where", "reworded"),
    [
        ("Singers from the country France?", "country = 'France'", "Singers from France?"),
        ("Singers whose last name is 'Ray'?", "last_name = 'Ray'", "Singers with 'Ray'?"),
        ("Singers with salary 7?", "salary = 7", None),  # 7 of what?
        ("Singers with country Spain?", "country = 'France'", None),  # not gold's value
        ("French singers?", "country = 'France'", None),
    ],
)
def test_columns_are_left_out_before_their_values(view, question, where, reworded):
    found = wordings.with_columns_left_out(example(question, f"SELECT singer_id FROM singer WHERE {where}"), view)
    assert found == reworded


@pytest.mark.spider
def test_enough_of_dev_is_reworded_to_say_something(spider_dir):
    from helpers import prompts

    settings = config.preset("cpu")
    dataset = spider.load(str(spider_dir))
    seen = prompts.views_of(dataset.dev, dataset, settings)
    counts = {name: len(wordings.reworded(dataset.dev, seen, rule)) for name, rule in wordings.RULES.items()}
    assert counts["synonyms"] > 700
    assert counts["left out"] > 30
