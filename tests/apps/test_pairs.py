"""Training pairs from a database alone: they run, they return rows, and they make a folder that can be trained on."""

import sqlite3
from contextlib import closing

import pytest
from conftest import make_database
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.__main__ import main
from helpers.apps import pair_words, pairs
from helpers.apps.pair_rules import RULES
from helpers.databases import schema
from helpers.databases.schema import Column, Table
from helpers.sources import spider


@pytest.fixture(scope="module")
def made(marina):
    return pairs.make(marina, 300)


def test_every_pair_runs_and_returns_something(made, marina):
    with closing(sqlite3.connect(marina)) as connection:
        for pair in made:
            assert any(value is not None for row in connection.execute(pair.query) for value in row), pair.query


def test_pairs_are_of_every_kind_each_query_once_and_the_same_for_a_seed(made, marina):
    assert len(made) == 300 == len({pair.query for pair in made})
    assert {pair.kind for pair in made} == {rule.__name__.replace("_", " ") for rule in RULES}
    assert pairs.make(marina, 300) == made
    assert pairs.make(marina, 300, seed=1) != made


def test_values_in_a_question_are_those_of_its_query(made):
    for pair in made:
        if pair.kind in ("where equal", "count where equal", "of parent"):
            assert pair.query.rpartition("= ")[2].strip("'").replace("''", "'") in pair.question


def test_a_database_with_odd_names_and_values_is_asked_in_quotes(tmp_path):
    odd = make_database(
        tmp_path / "odd.sqlite",
        """CREATE TABLE "order" ("select" TEXT, "unit price" REAL, "a""b" TEXT);
        INSERT INTO "order" VALUES ('O''Brien', 2.5, 'x'), ('"; DROP TABLE "order"; --', 3.5, 'y'), ('plain', 1, 'x');""",
    )
    before = odd.read_bytes()
    made = pairs.make(odd, 60)
    assert len(made) > 20
    assert any("O''Brien" in pair.query for pair in made)
    with closing(sqlite3.connect(odd)) as connection:
        assert all(connection.execute(pair.query).fetchall() for pair in made)
    assert odd.read_bytes() == before


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12))
@settings(max_examples=80, deadline=None)
def test_a_quoted_name_is_that_name_to_sqlite(name):
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (" + '"' + name.replace('"', '""') + '"' + ")")
        connection.execute("INSERT INTO t VALUES (7)")
        assert connection.execute(f"SELECT {pair_words.quoted(name)} FROM t WHERE {pair_words.quoted(name)} = 7").fetchall() == [
            (7,)
        ]


@pytest.mark.parametrize(
    "name, single, plural",
    [("boats", "boat", "boats"), ("city", "city", "cities"), ("Categories", "category", "categories"), ("OrderItem", "order item", "order items"),
     ("boxes", "box", "boxes"), ("addresses", "address", "addresses"), ("class", "class", "classes"), ("days", "day", "days")],
)  # fmt: skip
def test_tables_are_named_in_singular_and_plural(name, single, plural):
    table = Table(name=name, columns=(Column(name="x", type=""),))
    assert (pair_words.singular(table), pair_words.plural(table)) == (single, plural)


def test_fewer_pairs_come_from_a_database_that_holds_little(concert_db):
    made = pairs.make(concert_db, 500)
    assert 10 < len(made) < 500


def test_a_database_with_nothing_to_ask_is_refused(tmp_path):
    empty = make_database(tmp_path / "empty.sqlite", "CREATE TABLE t (a BLOB); INSERT INTO t VALUES (NULL);")
    assert [pair.kind for pair in pairs.make(empty, 10)] == ["how many"] * len(pairs.make(empty, 10))
    with pytest.raises(schema.BadDatabase):
        pairs.make(tmp_path / "none.sqlite", 10)


def test_a_folder_of_pairs_is_one_to_train_on(tmp_path, capsys, marina):
    folder = tmp_path / "mine"
    assert main(["pairs", "marina", "--to", str(folder), "--count", "40"]) == 0
    out = capsys.readouterr().out
    assert "40 pairs" in out and f"run -p data_source {folder}" in out
    data = spider.load(str(folder))
    assert len(data.train) + len(data.dev) == 40
    assert data.databases == {"marina": folder / "marina.sqlite"}


def test_the_sample_comes_along_when_asked_for(tmp_path):
    assert main(["pairs", "marina", "--to", str(tmp_path / "mix"), "--count", "20", "--with-sample"]) == 0
    data = spider.load(str(tmp_path / "mix"))
    assert len(data.train) + len(data.dev) == 20 + 620
    assert {"marina", "bakery"} <= set(data.databases)


def test_an_edited_folder_is_never_overwritten(tmp_path, made, marina, capsys):
    folder = tmp_path / "edited"
    pairs.write_folder(marina, folder, made[:5])
    text = (folder / "train.csv").read_text()
    with pytest.raises(FileExistsError, match=r"has a train\.csv already"):
        pairs.write_folder(marina, folder, made[5:9])
    assert main(["pairs", "marina", "--to", str(folder)]) == 2
    assert "exists: name a new folder" in capsys.readouterr().err
    assert (folder / "train.csv").read_text() == text
