"""A schema cut to fit: what the question names stays, and nothing that is kept is broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import linking, schema
from helpers.schema import Column, ForeignKey, Schema, Table


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
    foreign_keys=(ForeignKey(table="invoice", column="customer_id", to_table="customer", to_column="customer_id"),),
)


def at_most(columns):
    return lambda part: sum(len(one.columns) for one in part.tables) <= columns


def names(part):
    return [one.name for one in part.tables]


def test_a_schema_that_fits_stays_whole():
    assert linking.fit("anything", SHOP, lambda part: True) == (SHOP, ())


def test_tables_that_the_question_names_stay_and_the_rest_is_said():
    part, left_out = linking.fit("How many stock items cost more than 5?", SHOP, at_most(3))
    assert names(part) == ["StockItem"]
    assert left_out == ("customer", "invoice", "audit_log")


def test_a_table_that_a_join_leads_to_comes_before_one_that_has_nothing_to_do_with_it():
    part, _ = linking.fit("the total of each invoice", SHOP, at_most(6))
    assert names(part) == ["customer", "invoice"]
    assert part.foreign_keys == SHOP.foreign_keys


def test_of_a_table_too_wide_the_columns_asked_for_and_its_key_stay():
    wide = Schema(
        db_id="w",
        tables=(table("sensor", "id", *(f"field{n}" for n in range(50)), "temperature"), table("x", "y")),
        foreign_keys=(),
    )
    part, left_out = linking.fit("highest temperature of a sensor", wide, lambda part: len(part.tables) == 1 and at_most(3)(part))
    assert names(part) == ["x"] or [column.name for column in part.tables[0].columns][:1] == ["id"]
    only = Schema(db_id="w", tables=wide.tables[:1], foreign_keys=())
    part, left_out = linking.fit("highest temperature of a sensor", only, at_most(3))
    assert [column.name for column in part.tables[0].columns] == ["id", "field0", "temperature"]
    assert len(left_out) == 49 and "sensor.field1" in left_out


def test_a_question_that_leaves_no_room_is_refused():
    with pytest.raises(linking.DoesNotFit, match="too long"):
        linking.fit("?", SHOP, lambda part: False)


@given(st.text(max_size=60), st.integers(0, 14))
def test_whatever_is_asked_what_is_kept_fits_and_nothing_is_lost_unsaid(question, columns):
    try:
        part, left_out = linking.fit(question, SHOP, at_most(columns))
    except linking.DoesNotFit:
        assert columns == 0
        return
    assert at_most(columns)(part)
    there = {(one.name, column.name) for one in part.tables for column in one.columns}
    everything = {(one.name, column.name) for one in SHOP.tables for column in one.columns}
    said = {(table, column) for table, column in everything if table in left_out or f"{table}.{column}" in left_out}
    assert there | said == everything and not there & said
    for key in part.foreign_keys:
        assert {(key.table, key.column), (key.to_table, key.to_column)} <= there
    assert isinstance(part, schema.Schema)
