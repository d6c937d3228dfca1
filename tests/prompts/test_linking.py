"""Columns in the order of what they have to do with a question, and what stays of them."""

import random

import pytest
from conftest import make_table
from hypothesis import given
from hypothesis import strategies as st

from helpers.databases.schema import Schema
from helpers.prompts import linking, message
from helpers.prompts.names import name_map
from helpers.prompts.to_ir import needed_columns
from helpers.prompts.values import match_values
from helpers.sources import spider

SHOP = name_map(
    Schema(
        db_id="shop",
        tables=(
            make_table("audit", "stamp", "actor"),
            make_table("customer", "customer_id", "first_name", "name", "city"),
            make_table("invoice", "invoice_id", "customer_id", "total", "paid_on"),
            make_table("item", "item_id", "item_name", "unit_price"),
        ),
        foreign_keys=(),
    )
)


def places(order):
    return [(table, column) for table, columns in order for column in columns]


EVERYTHING = set(places(linking.rank("", SHOP, ())))


def test_what_shares_words_with_the_question_comes_first():
    order = linking.rank("What is the total of all invoices paid on Monday?", SHOP, ())
    assert order[0] == ("invoice", ["total", "paid_on", "invoice_id", "customer_id"])


def test_without_a_shared_word_the_order_is_the_schemas():
    assert linking.rank("¿Qué?", SHOP, ()) == [(name, list(columns)) for name, columns in SHOP.schema.columns().items()]


def test_a_whole_name_comes_before_a_part_of_one():
    columns = dict(linking.rank("the first name of each customer", SHOP, ()))["customer"]
    assert columns[0] == "first_name"
    columns = dict(linking.rank("the name of each customer", SHOP, ()))["customer"]
    assert columns.index("name") < columns.index("first_name")


def test_words_count_only_in_their_order_as_a_whole_name():
    whole, parts = (linking.overlap("unit price", words) for words in (["the", "unit", "price"], ["price", "of", "a", "unit"]))
    assert whole > parts > linking.overlap("unit price", ["price"]) > linking.overlap("unit price", ["city"]) == 0


def test_words_in_every_question_count_less():
    assert linking.overlap("city", ["city"]) > linking.overlap("name", ["name"]) > 0
    assert linking.overlap("", ["city"]) == 0 == linking.overlap("city", [])


def test_a_cell_that_the_question_speaks_of_lifts_its_column_and_table():
    question = "Who lives in Ulm?"
    assert places(linking.rank(question, SHOP, {("customer", "city")}))[0] == ("customer", "city")
    assert places(linking.rank(question, SHOP, ()))[0] == ("audit", "stamp")


def test_order_is_shaken_only_by_chance_and_the_same_by_the_same_chance():
    question = "What is the total of all invoices?"
    still = linking.rank(question, SHOP, ())
    assert linking.rank(question, SHOP, ()) == still
    shuffled = [linking.rank(question, SHOP, (), random.Random(seed)) for seed in range(20)]
    assert shuffled == [linking.rank(question, SHOP, (), random.Random(seed)) for seed in range(20)]
    assert len({str(order) for order in shuffled}) > 10
    assert all(set(places(order)) == EVERYTHING for order in shuffled)
    assert all(order[0][0] == "invoice" for order in shuffled), "what is plain stays where it is"


NEEDED = st.sets(st.sampled_from(sorted(EVERYTHING)), max_size=5)


@given(seed=st.integers(0, 10_000), needed=NEEDED, keys=NEEDED)
def test_what_is_needed_is_never_left_out(seed, needed, keys):
    order = linking.rank("total", SHOP, ())
    kept = linking.drop_distractors(order, {*needed, ("audit", "")}, keys, random.Random(seed))
    assert needed <= set(places(kept)) <= EVERYTHING
    assert "audit" in dict(kept), "a table of which no column is needed, as in count(*)"
    assert {place for place in keys if place[0] in dict(kept)} <= set(places(kept))
    assert [place for place in places(order) if place in places(kept)] == places(kept)


def test_half_of_the_orders_stay_whole():
    order = linking.rank("total", SHOP, ())
    whole = sum(linking.drop_distractors(order, (), (), random.Random(seed)) == order for seed in range(400))
    assert 160 <= whole <= 260


@given(most=st.integers(1, 14), needed=NEEDED, seed=st.integers(0, 100))
def test_a_cut_keeps_to_its_number_and_to_what_is_needed(most, needed, seed):
    order = linking.rank("total", SHOP, (), random.Random(seed))
    kept = linking.truncate(order, most, needed)
    assert needed <= set(places(kept)) <= EVERYTHING
    assert len(places(kept)) <= most + len(needed)
    assert len(places(linking.truncate(order, most))) <= most
    assert [name for name, _ in order if name in dict(kept)] == [name for name, _ in kept]
    assert all(columns for _, columns in kept)
    if most >= len(EVERYTHING):
        assert kept == order


@pytest.mark.parametrize("widths", [(100,), (40, 40), (9, 50, 9, 9)])
def test_a_cut_leaves_no_room_unused(widths):
    order = [(f"t{number}", [f"c{column}" for column in range(width)]) for number, width in enumerate(widths)]
    assert len(places(linking.truncate(order, 60))) == 60


@pytest.mark.spider
def test_at_thirty_columns_hardly_a_column_of_gold_is_lost(spider_dir):
    data = spider.load_folder(spider_dir)
    seen, kept, all_of = {}, 0, 0
    for one in data.dev[::2]:
        if one.db_id not in seen:
            seen[one.db_id] = message.database_prompt(data.databases[one.db_id], "linked", schema=data.schema_of(one.db_id))
        prompt = seen[one.db_id]
        if len(prompt.names.columns) <= 30:
            continue
        found = match_values(one.question, prompt.values, prompt.names)
        there = set(places(linking.truncate(linking.rank(one.question, prompt.names, found), 30)))
        needed = {column for column in needed_columns(one.query, prompt.names) if column[1]}
        kept, all_of = kept + len(needed & there), all_of + len(needed)
    assert all_of > 100
    assert kept / all_of >= 0.97
