"""Keys that rows keep to: found where nothing declares them, and never where rows or names speak against it."""

import dataclasses

import pytest
from conftest import make_database
from hypothesis import given
from hypothesis import strategies as st

from helpers.databases import schema
from helpers.prompts import foreign_keys, message
from helpers.prompts.foreign_keys import Content
from helpers.sources import spider

SHOP = """
CREATE TABLE customers (customer_id INTEGER PRIMARY KEY, name TEXT, level INT);
CREATE TABLE airlines (uid INTEGER PRIMARY KEY, airline TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INT, paid_by_customer_id INT, airline INT, level INT);
INSERT INTO customers VALUES (1, 'Ada', 1), (2, 'Bo', 2), (3, 'Cy', 3);
INSERT INTO airlines VALUES (1, 'Delta'), (2, 'United');
INSERT INTO orders VALUES (1, 1, 2, 1, 1), (2, 1, 3, 2, 2), (3, 3, NULL, 1, 2);
"""


def pairs(keys):
    return {(f"{key.table}.{one}", f"{key.to_table}.{other}") for key in keys for one, other in key.pairs}


@pytest.fixture
def shop(tmp_path):
    return make_database(tmp_path / "shop.sqlite", SHOP)


def test_columns_whose_values_and_name_speak_of_a_key_refer_to_it(shop):
    found = foreign_keys.with_inferred_keys(schema.read(shop), shop)
    assert pairs(found.foreign_keys) == {
        ("orders.customer", "customers.customer_id"),
        ("orders.paid_by_customer_id", "customers.customer_id"),
        ("orders.airline", "airlines.uid"),
    }, "level's values stand in the key as well, and its name says nothing"


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO orders VALUES (4, 9, 9, 9, 1)",  # a value that no key has
        "UPDATE orders SET customer = 1, paid_by_customer_id = 1, airline = 1",  # one value says nothing
        "DELETE FROM orders",
    ],
)
def test_rows_that_speak_against_a_key_or_say_nothing_make_none(tmp_path, change):
    database = make_database(tmp_path / "other.sqlite", SHOP + change)
    assert foreign_keys.with_inferred_keys(schema.read(database), database).foreign_keys == ()


def test_declared_keys_stay_and_nothing_is_added_between_their_tables(tmp_path):
    script = """
    CREATE TABLE singer (singer_id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE song (song_id INTEGER PRIMARY KEY, singer INT REFERENCES singer (singer_id), second_singer INT);
    INSERT INTO singer VALUES (1, 'Ada'), (2, 'Bo');
    INSERT INTO song VALUES (1, 1, 2), (2, 2, 1);
    """
    database = make_database(tmp_path / "songs.sqlite", script)
    declared = schema.read(database)
    assert foreign_keys.with_inferred_keys(declared, database) == declared


def test_the_first_keys_of_two_tables_are_not_taken_for_one_another(tmp_path):
    script = """
    CREATE TABLE part_fault (part_fault_id INTEGER PRIMARY KEY, kind TEXT);
    CREATE TABLE fault_log (fault_log_id INTEGER PRIMARY KEY, day TEXT);
    INSERT INTO part_fault VALUES (1, 'a'), (2, 'b');
    INSERT INTO fault_log VALUES (1, 'x'), (2, 'y');
    """
    database = make_database(tmp_path / "faults.sqlite", script)
    assert foreign_keys.with_inferred_keys(schema.read(database), database).foreign_keys == ()


def test_a_question_over_two_tables_is_joined_by_what_was_found(shop):
    prompt = message.database_prompt(shop, "linked")
    sql = prompt.sql("SELECT COUNT(*) FROM airlines, orders WHERE airlines.airline = 'Delta'")
    assert "ON airlines.uid = orders.airline" in sql
    assert "keys: " in prompt.message("How many orders has Delta?")


@given(st.lists(st.integers(0, 5), max_size=6), st.lists(st.integers(0, 5), max_size=6))
def test_every_value_of_a_column_that_refers_stands_in_the_key(here, there):
    tables = schema.Schema(
        db_id="x",
        tables=(
            schema.Table(name="city", columns=(schema.Column(name="city_id", type="INT"),)),
            schema.Table(name="visit", columns=(schema.Column(name="city", type="INT"),)),
        ),
        foreign_keys=(),
    )
    contents = {
        ("city", "city_id"): Content(frozenset(there), len(set(there)) == len(there)),
        ("visit", "city"): Content(frozenset(here), len(set(here)) == len(here)),
    }
    found = pairs(foreign_keys.infer_keys(tables, contents))
    fits = len(set(here)) >= foreign_keys.FEWEST and set(here) <= set(there) and len(set(there)) == len(there)
    way, back = ("visit.city", "city.city_id"), ("city.city_id", "visit.city")
    assert fits or way not in found
    assert not fits or {way, back} & found, "either way round, where both columns could be the key"


@pytest.mark.parity
@pytest.mark.spider
def test_of_spiders_declared_keys_most_are_found_in_the_rows_and_hardly_another(spider_dir):
    dataset = spider.load(str(spider_dir))
    right = wrong = declared = 0
    for db_id, path in dataset.databases.items():
        tables = dataset.schema_of(db_id)
        known = pairs(tables.foreign_keys) | {(b, a) for a, b in pairs(tables.foreign_keys)}
        linked = {frozenset((key.table, key.to_table)) for key in tables.foreign_keys}
        found = foreign_keys.with_inferred_keys(dataclasses.replace(tables, foreign_keys=()), path).foreign_keys
        about_linked = {key for key in found if frozenset((key.table, key.to_table)) in linked}
        right += len(pairs(about_linked) & known)
        wrong += len(pairs(about_linked) - known)
        declared += len(tables.foreign_keys)
    assert right > 0.7 * declared
    assert wrong < 0.01 * right
