"""A user's files: SQLite as it is, CSV as typed tables, and plain words for what cannot be read."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.apps import own_files
from helpers.databases import schema
from helpers.databases.schema import BadDatabase


def rows(database, query):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_a_csv_file_becomes_a_table_of_its_name_with_plain_columns_and_types(tmp_path):
    file = write(
        tmp_path / "2024 sales.csv", "Order date,Unit price,Zip,Note,\n2024-01-02,3.50,00123,,a\n2024-01-03,4,10115,late,b\n"
    )
    database = own_files.open_database(file, tmp_path)
    assert database.suffix == ".sqlite"
    (table,) = schema.read(database).tables
    assert table.name == "data_2024_sales"
    assert [column.name for column in table.columns] == ["Order_date", "Unit_price", "Zip", "Note", "column"]
    assert rows(database, f"SELECT * FROM {table.name}") == [
        ("2024-01-02", 3.5, "00123", None, "a"),
        ("2024-01-03", 4.0, "10115", "late", "b"),
    ], "a code that starts with 0 stays text, an empty cell is NULL"


def test_a_folder_of_csv_files_becomes_a_database_with_a_table_each(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    write(folder / "items.csv", "id;name\n1;tea\n2;Müsli\n", "utf-8-sig")
    write(folder / "stock.tsv", "item_id\tcount\n1\t12\n2\t\n")
    write(folder / "notes.txt", "nothing to read")
    database = own_files.open_database(folder, tmp_path)
    assert {table.name for table in schema.read(database).tables} == {"items", "stock"}
    assert rows(database, "SELECT name FROM items ORDER BY id") == [("tea",), ("Müsli",)]
    assert rows(database, "SELECT count, typeof(count) FROM stock") == [(12, "integer"), (None, "null")]


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "cannot be read as CSV"),
        (b"a,b\n", "no rows below its header"),
        (b"a,b\n1,2\n1,2,3\n", "line 3"),
        (b"name\n\x00\xfcller\n", "is no text"),
        (b'a,b\n"1,2\n', "cannot be read as CSV"),
        (
            ",".join(f"c{number}" for number in range(501)).encode() + b"\n" + b",".join([b"1"] * 501),
            "501 columns, 500 are allowed",
        ),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_named_with_the_reason(tmp_path, content, words):
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    with pytest.raises(BadDatabase, match=words) as caught:
        own_files.open_database(file, tmp_path)
    assert "bad.csv" in str(caught.value)


def test_csv_files_too_large_to_hold_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(own_files, "CSV_BYTES", 10)
    file = write(tmp_path / "large.csv", "a,b\n1,2\n3,4\n")
    with pytest.raises(BadDatabase, match="import it into an SQLite file"):
        own_files.open_database(file, tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12), min_size=1, max_size=6))
def test_whatever_columns_are_called_their_names_are_plain_and_differ(names):
    made = own_files.distinct([own_files.plain(name, "column") for name in names])
    assert len({name.lower() for name in made}) == len(names)
    assert all(name.replace("_", "a").isalnum() and not name[0].isdigit() for name in made)


def test_an_sqlite_file_is_taken_as_it_is(concert_db, tmp_path):
    assert own_files.open_database(concert_db, tmp_path) == concert_db


def test_what_is_no_database_is_named(tmp_path):
    bad = write(tmp_path / "bad.sqlite", "no database at all, but long enough" * 10)
    with pytest.raises(BadDatabase, match="file is not a database"):
        own_files.open_database(bad, tmp_path)
    empty = tmp_path / "empty.sqlite"
    sqlite3.connect(empty).close()
    empty.touch()
    with pytest.raises(BadDatabase, match="has no table"):
        own_files.open_database(empty, tmp_path)
    with pytest.raises(BadDatabase, match="folder without a CSV file"):
        (tmp_path / "nothing").mkdir()
        own_files.open_database(tmp_path / "nothing", tmp_path)
    with pytest.raises(BadDatabase, match=r"no file nowhere.*\n.*marina"):
        own_files.open_database("nowhere", tmp_path)


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_a_database_that_somebody_is_writing_to_is_refused(concert_db, tmp_path, ending):
    concert_db.with_name(concert_db.name + ending).write_bytes(b"changes")
    with pytest.raises(BadDatabase, match=f"lie beside it in concert.sqlite{ending}: close the program"):
        own_files.open_database(concert_db, tmp_path)


def test_databases_that_come_with_the_course_go_by_name(tmp_path):
    assert own_files.open_database("marina", tmp_path).name == "marina.sqlite"
    assert {"marina", "bakery"} <= set(own_files.named())


def test_the_examples_questions_all_return_rows_and_are_in_no_training_data():
    from helpers.databases import layout
    from helpers.databases.sandbox import Sandbox
    from helpers.sources import spider

    database = own_files.named()["marina"]
    asked = [row for _, row in layout.read_rows(own_files.EXAMPLE / "dev.csv")]
    assert len(asked) == 40
    with Sandbox() as sandbox:
        assert all(sandbox.execute(database, row["query"]).rows for row in asked)
    assert "marina" not in {
        row["db_id"] for name in ("train.csv", "dev.csv") for _, row in layout.read_rows(spider.SAMPLE / name)
    }
