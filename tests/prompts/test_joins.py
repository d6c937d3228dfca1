"""Joins rebuilt: which tables a FROM needs, in which order, and on what."""

import time

import pytest
from conftest import make_database

from helpers.databases import schema
from helpers.databases.schema import Column, Schema, Table
from helpers.prompts import joins

SCHOOL = """
CREATE TABLE student (stu_id INTEGER PRIMARY KEY, name TEXT, advisor INT REFERENCES teacher(id), room INT);
CREATE TABLE teacher (id INTEGER PRIMARY KEY, name TEXT, room INT);
CREATE TABLE has_pet (stu_id INT REFERENCES student(stu_id), pet_id INT REFERENCES pets(pet_id));
CREATE TABLE pets (pet_id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE marks (stu_id INT, mark INT);
CREATE TABLE weather (day TEXT, id INT, name TEXT);
"""


@pytest.fixture
def school(tmp_path):
    return schema.read(make_database(tmp_path / "school.sqlite", SCHOOL))


@pytest.fixture
def join(school):
    """The steps of a join, in short."""

    def steps(*wanted):
        return [
            ": ".join([table, *(" = ".join(f"{one}.{column}" for one, column in ends) for ends in conditions)])
            for table, conditions in joins.join(wanted, school)
        ]

    return steps


def test_one_table_needs_no_condition(join):
    assert join("pets") == ["pets"]


def test_two_tables_are_joined_by_their_key_whichever_comes_first(join):
    assert join("has_pet", "pets") == ["has_pet", "pets: has_pet.pet_id = pets.pet_id"]
    assert join("pets", "has_pet") == ["pets", "has_pet: pets.pet_id = has_pet.pet_id"]


def test_tables_come_in_the_order_wanted_as_far_as_keys_allow(join):
    assert join("student", "has_pet", "pets") == [
        "student",
        "has_pet: student.stu_id = has_pet.stu_id",
        "pets: has_pet.pet_id = pets.pet_id",
    ]
    assert join("student", "pets", "has_pet") == join("student", "has_pet", "pets")


def test_a_table_that_lies_between_is_put_in(join):
    assert join("student", "pets") == join("student", "has_pet", "pets")
    assert join("pets", "teacher") == [
        "pets",
        "has_pet: pets.pet_id = has_pet.pet_id",
        "student: has_pet.stu_id = student.stu_id",
        "teacher: student.advisor = teacher.id",
    ]


def test_a_column_of_one_name_that_is_a_primary_key_joins_where_no_foreign_key_does(join):
    assert join("marks", "student") == ["marks", "student: marks.stu_id = student.stu_id"]


def test_a_foreign_key_goes_before_a_column_of_one_name(join):
    assert join("marks", "student", "has_pet")[2] == "has_pet: student.stu_id = has_pet.stu_id"


def test_columns_called_id_or_name_or_that_are_no_key_join_nothing(school):
    assert joins.links(school)["weather"] == ()
    assert {other for other, *_ in joins.links(school)["teacher"]} == {"student"}


def test_a_table_that_nothing_leads_to_stands_alone(join):
    assert join("pets", "weather") == ["pets", "weather"]
    assert join("weather", "has_pet", "pets") == ["weather", "has_pet", "pets: has_pet.pet_id = pets.pet_id"]


def test_a_table_wanted_twice_is_joined_once(join):
    assert join("pets", "has_pet", "pets", "has_pet") == join("pets", "has_pet")


def test_the_first_of_two_keys_between_tables_is_taken(tmp_path):
    script = """
        CREATE TABLE team (id INTEGER PRIMARY KEY);
        CREATE TABLE game (home INT REFERENCES team(id), away INT REFERENCES team(id));
        CREATE TABLE part (id INTEGER PRIMARY KEY, whole INT REFERENCES part(id));
    """
    found = schema.read(make_database(tmp_path / "games.sqlite", script))
    assert joins.join(["team", "game"], found)[1] == ("game", ((("team", "id"), ("game", "home")),))
    assert joins.links(found)["part"] == (), "a key to its own table links it to no other"


@pytest.mark.parity
@pytest.mark.spider
def test_all_tables_of_every_database_of_spider_are_joined_once_each_on_its_own_columns(spider_dir):
    import json

    for entry in json.loads((spider_dir / "tables.json").read_text(encoding="utf-8")):
        found = schema.from_spider(entry)
        columns = found.columns()
        steps = joins.join(list(columns), found)
        assert sorted(table for table, _ in steps) == sorted(columns)
        for number, (table, conditions) in enumerate(steps):
            for (other, its), (this, own) in conditions:
                assert this == table and own in columns[table] and its in columns[other]
                assert other in {one for one, _ in steps[:number]}


def test_a_column_name_that_hundreds_of_tables_share_links_none():
    def tables(number):
        columns = (Column(name="code", type="", primary_key=True),)
        return Schema(db_id="d", tables=tuple(Table(name=f"t{at}", columns=columns) for at in range(number)), foreign_keys=())

    assert all(joins.links(tables(5)).values())
    begin = time.monotonic()
    assert not any(joins.links(tables(3_000)).values())
    assert time.monotonic() - begin < 5
