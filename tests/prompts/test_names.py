"""Readable names: words for people, one word for the model, and each with its way back."""

import time

import pytest
from conftest import make_database
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot.dialects.sqlite import SQLite
from sqlglot.tokens import TokenType

from helpers.databases import schema
from helpers.databases.schema import Column, Schema, Table
from helpers.databases.sql import is_plain_word
from helpers.prompts.names import identifier, name_map, needs_no_alias, parses_as_column, readable


def schema_of(*tables, db_id="made"):
    """A schema of (table, its label, its columns); a column is a name or (name, label)."""
    pairs = [(name, label, [(one, "") if isinstance(one, str) else one for one in columns]) for name, label, columns in tables]
    return Schema(
        db_id=db_id,
        tables=tuple(
            Table(
                name=name, display_name=label, columns=tuple(Column(name=one, type="", display_name=its) for one, its in columns)
            )
            for name, label, columns in pairs
        ),
        foreign_keys=(),
    )


@pytest.mark.parametrize(
    "name, words",
    [
        ("StuID", "stu id"),
        ("student_id", "student id"),
        ("dept_name", "department name"),
        ("fname", "first name"),
        ("DOB", "date of birth"),
        ("HTTPServer", "http server"),
        ("Home Town", "home town"),
        ("qty2", "quantity 2"),
    ],
)
def test_an_identifier_is_taken_apart_and_its_short_forms_spelled_out(name, words):
    assert readable(name) == words.replace("stu ", "student ")


@pytest.mark.parametrize(
    "words, name",
    [
        ("first name", "first_name"),
        ("Home Town", "home_town"),
        ("2nd place", "_2_nd_place"),
        ("price (in $)", "price_in"),
        ("???", "x"),
        ("", "x"),
    ],
)
def test_words_become_one_name_that_needs_no_quotes(words, name):
    assert identifier(words) == name


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20))
def test_any_words_become_an_identifier(words):
    assert identifier(words).isidentifier()


@pytest.mark.parametrize("name", ["student", "has_pet", "t", "tt1", "t1x"])
def test_a_plain_name_needs_no_quotes(name):
    assert needs_no_alias(name)


@pytest.mark.parametrize("name", ["select", "from", "Home Town", "a.b", "", "t1", "t12"])
def test_a_keyword_a_name_with_a_space_and_an_alias_are_no_plain_names(name):
    assert not needs_no_alias(name)


@pytest.mark.parametrize("name", ["order", "group", "index", "table", "transaction", "to", "values", "check"])
def test_a_name_that_sqlite_reserves_is_no_plain_name(name):
    assert not needs_no_alias(name)


def test_display_names_go_before_identifiers_unless_they_are_ignored():
    made = schema_of(("emp", "staff member", [("EmpNo", "number"), ("DOB", "")]))
    shown, plain = name_map(made), name_map(made, use_display_names=False)
    assert shown.qualified("EMP", "empno") == "staff_member.number"
    assert shown.qualified("emp", "dob") == "staff_member.date_of_birth"
    assert (shown.display_names["emp", ""], shown.display_names["emp", "empno"]) == ("staff member", "number")
    assert plain.qualified("emp", "EmpNo") == "employee.employee_no"


def test_names_that_would_be_alike_are_numbered():
    made = schema_of(("Singer", "", ["first_name", "FirstName", "fname"]), ("singers", "singer", ["id"]))
    shown = name_map(made)
    assert list(shown.tables.values()) == ["singer", "singer_2"]
    assert list(shown.columns.values()) == ["first_name", "first_name_2", "first_name_3", "id"]


def test_a_table_whose_name_sql_would_not_take_is_called_a_table():
    assert list(name_map(schema_of(("t1", "", ["a"]), ("select", "", ["a"]))).tables.values()) == ["t_1", "select_table"]


def test_own_names_are_found_by_the_names_that_the_model_uses(tmp_path):
    found = name_map(schema.read(make_database(tmp_path / "a.sqlite", 'CREATE TABLE "Home Town" (StuID INT, "Zip" TEXT)')))
    assert found.table_of == {"home_town": "Home Town"}
    assert found.column_of == {("home_town", "student_id"): "StuID", ("home_town", "zip"): "Zip"}


ANY_NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(ANY_NAME, min_size=1, max_size=6, unique_by=str.lower))
def test_whatever_they_are_called_all_tables_and_columns_have_names_of_their_own(own):
    shown = name_map(schema_of(*((name, "", own) for name in own)))
    assert len(shown.table_of) == len(own)
    assert len(shown.column_of) == len(own) ** 2
    assert all(name.isidentifier() for name in shown.table_of)
    for table in own:
        for column in own:
            assert shown.column_of[tuple(shown.qualified(table, column).split("."))] == column


@pytest.mark.spider
def test_every_schema_of_spider_has_names_that_lead_back(spider_dir):
    from helpers.databases import layout

    for entry in layout.read_tables(spider_dir / "tables.json").values():
        made = schema.from_spider(entry) if isinstance(entry, dict) else entry
        for use_display_names in (True, False):
            shown = name_map(made, use_display_names=use_display_names)
            assert len(shown.table_of) == len(made.tables)
            assert len(shown.column_of) == len({(table.name, one.name) for table in made.tables for one in table.columns})


def test_a_plain_word_reads_as_a_column_also_where_the_parser_knows_it():
    """The shortcut for plain words holds for every word that sqlglot's parser knows, so also for those that it does not."""
    words = {word.lower() for name in SQLite.Parser.FUNCTIONS for word in (name, *name.split("_"))}
    words |= {word.lower() for name in vars(TokenType) if name.isupper() for word in (name, *name.split("_"))}
    plain = sorted(word for word in words if is_plain_word(word))
    assert len(plain) > 300
    assert [word for word in plain if not parses_as_column("x", word) or not parses_as_column(word, word)] == []


def test_a_thousand_columns_are_named_in_no_time():
    begin = time.monotonic()
    columns = tuple(Column(name=f"col{number}_x", type="") for number in range(5_000))
    made = name_map(Schema(db_id="d", tables=(Table(name="t", columns=columns),), foreign_keys=()))
    assert len(set(made.columns.values())) == 5_000
    assert time.monotonic() - begin < 5


def test_names_that_read_alike_stay_apart():
    columns = tuple(Column(name=name, type="") for name in ("a b", "a_b", "A-B", "a b 2", "a.b"))
    made = name_map(Schema(db_id="d", tables=(Table(name="t", columns=columns),), foreign_keys=()))
    assert len(set(made.columns.values())) == 5
