"""A schema cut to fit: what the question names stays, and nothing that is kept is broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.databases.schema import Column, ForeignKey, Schema, Table
from helpers.prompts import linking
from helpers.prompts.names import name_map


def table(name, *columns):
    return Table(
        name=name, columns=tuple(Column(name=column, type="", primary_key=place == 0) for place, column in enumerate(columns))
    )


SHOP = Schema(
    db_id="shop",
    tables=(
        table("customer", "customer_id", "name", "city"),
        table("invoice", "invoice_id", "customer_id", "total"),
        table("StockItem", "item_id", "itemName", "unitPrice"),
        table("audit_log", "log_id", "stamp", "actor"),
    ),
    foreign_keys=(ForeignKey(table="invoice", columns=("customer_id",), to_table="customer", to_columns=("customer_id",)),),
)


def cut(question, most):
    """The part of the shop's schema that a prompt of so many columns shows, and what it leaves out."""
    order = linking.truncate(linking.rank(question, name_map(SHOP), ()), most)
    return linking.sub_schema(SHOP, order), linking.left_out(SHOP, order)


def test_a_schema_that_fits_stays_whole():
    assert cut("anything", 12) == (SHOP, ())


def test_tables_that_the_question_names_stay_and_the_rest_is_named():
    part, left_out = cut("How many stock items cost more than 5?", 3)
    assert [one.name for one in part.tables] == ["StockItem"]
    assert left_out == ("customer", "invoice", "audit_log")


def test_of_a_table_too_wide_the_columns_asked_for_stay():
    part, left_out = cut("the unit price of a stock item", 2)
    assert [column.name for column in part.tables[0].columns] == ["item_id", "unitPrice"]
    assert left_out == ("customer", "invoice", "StockItem.itemName", "audit_log")


@pytest.mark.parametrize("most, kept", [(6, SHOP.foreign_keys), (3, ())])
def test_a_foreign_key_stays_only_with_both_its_ends(most, kept):
    part, _ = cut("the total of each invoice of a customer", most)
    assert part.foreign_keys == kept


@given(st.text(max_size=60), st.integers(1, 14))
def test_whatever_is_asked_what_is_kept_fits_and_everything_else_is_named(question, most):
    part, left_out = cut(question, most)
    there = {(one.name, column.name) for one in part.tables for column in one.columns}
    everything = {(one.name, column.name) for one in SHOP.tables for column in one.columns}
    named = {(table, column) for table, column in everything if table in left_out or f"{table}.{column}" in left_out}
    assert 0 < len(there) <= most
    assert there | named == everything and not there & named
    for key in part.foreign_keys:
        assert key.ends() <= there
