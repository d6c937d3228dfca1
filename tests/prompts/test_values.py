"""Cells that a question speaks of: found by their words, and never told of a place where they do not stand."""

import sqlite3
from contextlib import closing

import pytest
from conftest import make_database
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.databases import schema
from helpers.prompts import values
from helpers.prompts.names import name_map

SHOP = """
    CREATE TABLE dog (dog_id INT PRIMARY KEY, name TEXT, breed TEXT, size TEXT, story TEXT);
    INSERT INTO dog VALUES (1, 'Rex', 'German Shepherd', 'big', 'He was found on a rainy day beside the old mill, wet and hungry.');
    INSERT INTO dog VALUES (2, 'Bello', 'Shepherd', 'small', '');
    INSERT INTO dog VALUES (3, 'Bea', 'Dachshund', 'big', '   ');
    INSERT INTO dog VALUES (4, 'Ben', 'Basset', 'small', NULL);
    INSERT INTO dog VALUES (5, 'Bo', 'Terriers', 'small', 'kind');
    CREATE TABLE town (name TEXT, founded TEXT, people INT);
    INSERT INTO town VALUES ('São Paulo', '1554', 12), ('Breed', '2005', 3), ('St. John''s', '1583', 2), ('Ulm', '854', 1);
    INSERT INTO town VALUES ('New York', '1624', 5), ('York', '71', 4);
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return make_database(tmp_path_factory.mktemp("values") / "shop.sqlite", SHOP)


def found(database, question):
    return values.match_values(question, values.value_index(database), name_map(schema.read(database)))


@pytest.mark.parametrize(
    "question, expected",
    [
        ("How heavy is rex?", {("dog", "name"): ["Rex"]}),
        ("How many BASSETS are there?", {("dog", "breed"): ["Basset"]}),
        ("Which terrier is fat?", {("dog", "breed"): ["Terriers"]}),
        ("Who lives in são paulo?", {("town", "name"): ["São Paulo"]}),
        ("What was founded in 2005?", {("town", "founded"): ["2005"]}),
        ("How many of 3 people own 5 of them?", {}),
        ("How many are there?", {}),
        ("", {}),
    ],
)
def test_a_cell_is_found_by_its_words_without_case_and_endings(shop, question, expected):
    assert found(shop, question) == expected


@pytest.mark.parametrize("quotes", ["'{}'", '"{}"', "“{}”", "‘{}’"])
@pytest.mark.parametrize("text, cell", [("St. John's", "St. John's"), ("sao paolo", None), ("São Paolo", "São Paulo")])
def test_a_text_in_quotes_is_found_even_if_it_is_misspelt(shop, quotes, text, cell):
    if quotes == "‘{}’":
        text = text.replace("'", "’") if cell != "St. John's" else "St John s"
    assert found(shop, f"Who lives in {quotes.format(text)}?") == ({("town", "name"): [cell]} if cell else {})


def test_a_name_with_a_capital_is_found_even_if_it_is_misspelt(shop):
    assert found(shop, "Weight of all Dachshound dogs") == {("dog", "breed"): ["Dachshund"]}
    assert found(shop, "Weight of all dachshound dogs") == {}


def test_what_is_in_quotes_comes_first(shop):
    assert found(shop, "Is Bea, Bello or Rex older than 'Ben'?")["dog", "name"] == ["Ben", "Bea"]


def test_the_longest_cell_wins(shop):
    assert found(shop, "Who owns a German Shepherd in New York?") == {
        ("dog", "breed"): ["German Shepherd"],
        ("town", "name"): ["New York"],
    }


def test_a_word_that_names_a_column_is_a_value_only_in_quotes_or_with_a_capital(shop):
    assert found(shop, "What breed is it?") == {}
    assert found(shop, "Breed of each?") == {}, "the first word has a capital anyhow"
    for question in ("Who lives in Breed?", "Who lives in 'breed'?"):
        assert found(shop, question) == {("town", "name"): ["Breed"]}


def test_at_most_two_cells_of_a_column_and_eight_columns_are_shown(tmp_path):
    colours = ("red", "green", "blue", "white")
    tables = "".join(f"CREATE TABLE t{n} (c{n} TEXT); INSERT INTO t{n} VALUES ('red'), ('green'), ('blue');" for n in range(12))
    database = make_database(tmp_path / "colours.sqlite", tables)
    there = found(database, f"Is it {', '.join(colours)}?")
    assert len(there) == 8
    assert all(len(texts) == 2 for texts in there.values())


def test_a_column_of_few_short_texts_is_listed(shop):
    lists = values.value_index(shop).lists
    assert set(lists["dog", "size"]) == {"big", "small"}
    assert {("dog", "breed"), ("dog", "dog_id"), ("town", "people"), ("town", "name")}.isdisjoint(lists), "five texts, or numbers"


def test_a_column_of_few_texts_with_a_long_one_is_not_listed(tmp_path):
    database = make_database(
        tmp_path / "w.sqlite", "CREATE TABLE w (a TEXT); INSERT INTO w VALUES ('x'), ('a text of 26 letters or so');"
    )
    assert values.value_index(database).lists == {}


@pytest.mark.parametrize(
    "texts, listed", [(["F", "M"], True), (["2016-09-22 16:41:31"], False), (["555-1234"], False), (["B52"], False)]
)
def test_dates_and_codes_are_not_listed(tmp_path, texts, listed):
    rows = ", ".join(f"('{text}')" for text in texts)
    database = make_database(tmp_path / "w.sqlite", f"CREATE TABLE w (a TEXT); INSERT INTO w VALUES {rows};")
    assert (values.value_index(database).lists == {("w", "a"): tuple(texts)}) is listed


def test_long_texts_are_left_out(shop):
    assert "rainy" not in " ".join(values.value_index(shop).cells)
    assert found(shop, "Who was found on a 'rainy day beside the old mill'?") == {}


def test_a_changed_file_has_another_index(tmp_path):
    database = make_database(tmp_path / "d.sqlite", "CREATE TABLE dog (name TEXT); INSERT INTO dog VALUES ('Rex')")
    assert found(database, "Where is Rex?") and not found(database, "Where is Bello?")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE dog SET name = 'Bello'")
    assert found(database, "Where is Bello?") and not found(database, "Where is Rex?")
    assert values.value_index(database) is values.value_index(database)


# Hostile files


def test_cells_of_no_valid_utf_8_do_no_harm(tmp_path):
    database = make_database(
        tmp_path / "b.sqlite",
        "CREATE TABLE b (a TEXT); INSERT INTO b VALUES (CAST(x'ff41fe' AS TEXT)), (CAST(x'526578' AS TEXT)), ('nul' || char(0) || 'l')",
    )
    assert found(database, "Where is rex?") == {("b", "a"): ["Rex"]}


def test_names_with_quotes_are_read_like_others(tmp_path):
    script = """CREATE TABLE "a ""b"" 'c'; --" ("x"" y' [z]" TEXT, "SELECT" TEXT);
        INSERT INTO "a ""b"" 'c'; --" VALUES ('Rex', 'Ulm')"""
    database = make_database(tmp_path / "q.sqlite", script)
    table = "a \"b\" 'c'; --"
    assert found(database, "Is rex in ulm?") == {(table, "x\" y' [z]"): ["Rex"], (table, "select"): ["Ulm"]}


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_a_bad_database(tmp_path, content):
    (tmp_path / "bad.sqlite").write_bytes(content)
    with pytest.raises(schema.BadDatabase):
        values.value_index(tmp_path / "bad.sqlite")


def test_a_damaged_page_costs_its_own_cells_only(tmp_path):
    script = "PRAGMA page_size = 1024; CREATE TABLE a (x TEXT); CREATE TABLE b (y TEXT);"
    whole = make_database(
        tmp_path / "p.sqlite", script + "INSERT INTO a VALUES ('Rex'); INSERT INTO b VALUES ('Bello');"
    ).read_bytes()
    at = whole.index(b"Rex") // 1024 * 1024
    (tmp_path / "damaged.sqlite").write_bytes(whole[:at] + b"\xff" * 1024 + whole[at + 1024 :])
    assert found(tmp_path / "damaged.sqlite", "Is it rex or bello?") == {("b", "y"): ["Bello"]}


@settings(max_examples=60, deadline=None)
@given(damage=st.lists(st.tuples(st.integers(0, 30_000), st.binary(min_size=1, max_size=40)), min_size=1, max_size=5))
def test_no_damage_to_a_file_raises_anything_but_bad_database(shop, damage):
    content = bytearray(shop.read_bytes())
    for place, junk in damage:
        place %= len(content)
        content[place : place + len(junk)] = junk
    damaged = shop.with_name("damaged.sqlite")
    damaged.write_bytes(content)
    schema._read.cache_clear()
    try:
        index = values.value_index(damaged)
        values.match_values("Is 'Rex' in Ulm?", index, name_map(schema.read(damaged)))
    except schema.BadDatabase:
        pass


WORDS = "Rex rex shepherd German Shepherd New York the Dachshound 'Bela' “são paulo” \"St. John's\" ' \" breed Breed 2005 ? São".split(
    " "
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), st.text(max_size=60)))
def test_what_is_found_really_stands_there(shop, question):
    cells = found(shop, question)
    assert len(cells) <= values.COLUMNS
    with closing(sqlite3.connect(shop)) as connection:
        for (table, column), texts in cells.items():
            assert 0 < len(texts) <= values.PER_COLUMN and len(set(texts)) == len(texts)
            for text in texts:
                query = f"SELECT count(*) FROM {schema.quote_name(table)} WHERE {schema.quote_name(column)} = ?"
                assert connection.execute(query, (text,)).fetchone()[0], (table, column, text)
