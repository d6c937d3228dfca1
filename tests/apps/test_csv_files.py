"""CSV files as people write them: delimiters, numbers, missing cells, encodings; a wrong guess is seen."""

import contextlib
import os
import sqlite3
import time
from contextlib import closing

import pytest
from conftest import written
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.apps import csv_files, own_files
from helpers.databases import schema
from helpers.databases.schema import BadDatabase


@pytest.fixture
def imported(tmp_path):
    """A CSV file's rows, the types of its columns, and what was guessed."""

    def imported(content, encoding="utf-8"):
        file = tmp_path / "t.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        database = own_files.open_database(file, tmp_path)
        with closing(sqlite3.connect(database)) as connection:
            types = [row[2] for row in connection.execute("PRAGMA table_info(t)")]
            return connection.execute("SELECT * FROM t").fetchall(), types, own_files.notes(database)

    return imported


CELLS = {
    "lists between semicolons": (
        "n;tags;price\n1;['a', 'b'];12.50\n2;['c'];8.00\n",
        [(1, "['a', 'b']", 12.5), (2, "['c']", 8.0)],
    ),
    "bars": ("a|b\n1,5|x\n2,75|y\n", [(1.5, "x"), (2.75, "y")]),
    "tabs": ("a\tb\n1\tx, y\n2\tz\n", [(1, "x, y"), (2, "z")]),
    "delimiter in quotes": ('a;b\n"x;y";1\n"z\nw";2\n', [("x;y", 1), ("z\nw", 2)]),
    "a line that names the delimiter": ("sep=;\na;b\n1;x\n", [(1, "x")]),
    "the same in quotes": ('"sep=|"\r\na|b\r\n1|x\r\n', [(1, "x")]),
    "spaces behind the delimiter": ('a, b, c\n1, 10, Oslo\n2, 9, "Bern, CH"\n', [(1, 10, "Oslo"), (2, 9, "Bern, CH")]),
    "64 bits": ("a,b\n9223372036854775807,x\n-9223372036854775808,y\n", [(2**63 - 1, "x"), (-(2**63), "y")]),
    "longer than 64 bits": ("a,b\n9223372036854775808,x\n1,y\n", [("9223372036854775808", "x"), ("1", "y")]),
    "decimals that would lose digits": ("a,b\n12345678901234567,x\n1.5,y\n", [("12345678901234567", "x"), ("1.5", "y")]),
    "codes": ("a,b\n007,x\n10,y\n", [("007", "x"), ("10", "y")]),
    "signs": ("a,b\n+5,x\n-3,y\n", [(5, "x"), (-3, "y")]),
    "a minus sign of typesetting": ("a,b\n\u22125,x\n3,y\n", [(-5, "x"), (3, "y")]),
    "telephone numbers": ("a,b\n+4712345678,x\n+4798765432,y\n", [("+4712345678", "x"), ("+4798765432", "y")]),
    "bare points": ("a,b\n.301,x\n5.,y\n", [(0.301, "x"), (5.0, "y")]),
    "thousands": ('a,b\n"709,037",x\n900,y\n', [(709037, "x"), (900, "y")]),
    "thousands with decimals": ('a,b\n"1,234.50",x\n9.25,y\n', [(1234.5, "x"), (9.25, "y")]),
    "thousands by spaces": ("a,b\n1 234,x\n22\u00a0500,y\n", [(1234, "x"), (22500, "y")]),
    "decimal commas": ("a;b\n3,50;x\n12;y\n", [(3.5, "x"), (12.0, "y")]),
    "decimal commas with thousands": ("a;b\n1.234,50;x\n10,00;y\n", [(1234.5, "x"), (10.0, "y")]),
    "no agreement": ('a,b\n"1,2,3",x\n5,y\n', [("1,2,3", "x"), ("5", "y")]),
    "missing among numbers": ("a,b\n432,NA\nN/A,139\n-,null\n", [(432, None), (None, 139), (None, None)]),
    "missing among words": ("a,b\nNA,1\nNO,2\n", [("NA", 1), ("NO", 2)]),
    "dates, times, versions, shares": ("a,b,c,d\n2024-01-02,12:30,1.2.3,5%\n", [("2024-01-02", "12:30", "1.2.3", "5%")]),
    "truth": ("a,b\nyes,true\nno,false\n", [("yes", "true"), ("no", "false")]),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells_become_what_people_mean(imported, name):
    content, expected = CELLS[name]
    rows, _, _ = imported(content)
    assert rows == expected
    assert [list(map(type, row)) for row in rows] == [list(map(type, row)) for row in expected]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_encoding_with_its_mark_is_no_guess(imported, encoding):
    rows, _, notes = imported("name,n\nMüller,1\nÅse,2\n", encoding)
    assert (rows, notes) == ([("Müller", 1), ("Åse", 2)], [])


@pytest.mark.parametrize(("encoding", "said"), [("cp1252", "Windows-1252"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16")])
def test_a_guessed_encoding_is_said(imported, encoding, said):
    rows, _, notes = imported("name,n\nMüller,1\nÅse,2\n", encoding)
    assert rows == [("Müller", 1), ("Åse", 2)]
    assert len(notes) == 1 and said in notes[0]


def test_bytes_that_are_no_text_are_refused(imported):
    with pytest.raises(BadDatabase, match="no text"):
        imported(b"a,b\n\x00\x01\xff\xfe,2\n")


def test_the_table_of_columns_shows_what_each_became(tmp_path):
    (tmp_path / "t.csv").write_text("plane,speed\nN10,432\nN11,NA\n")
    table = own_files.columns_table(own_files.open_database(tmp_path / "t.csv", tmp_path))
    assert table.to_dict("records") == [
        {"table": "t", "column": "plane", "type": "TEXT", "empty": 0, "example": "N11"},
        {"table": "t", "column": "speed", "type": "INTEGER", "empty": 1, "example": 432},
    ]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.none()), min_size=1, max_size=8).filter(any),
    st.sampled_from([",", ";", "\t", "|"]),
)
def test_whole_numbers_come_back_to_the_last_digit(tmp_path_factory, numbers, mark):
    folder = tmp_path_factory.mktemp("csv")
    (folder / "t.csv").write_text(f"n{mark}x\n" + "".join(f"{'' if one is None else one}{mark}y\n" for one in numbers))
    with closing(sqlite3.connect(own_files.open_database(folder / "t.csv", folder))) as connection:
        assert connection.execute("SELECT n FROM t").fetchall() == [(one,) for one in numbers]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(-(10**11), 10**11), min_size=1, max_size=6),
    st.sampled_from([(",", "."), (".", ","), (" ", ","), ("'", "."), ("", "."), ("", ",")]),
    st.sampled_from([",", ";", "\t"]),
)
def test_numbers_come_back_however_people_write_them(cents, style, mark):
    import pandas as pd

    thousands, decimal = style
    texts = [f"{one / 100:,.2f}".replace(",", "T").replace(".", decimal).replace("T", thousands) for one in cents]
    assert csv_files.typed(pd.Series(texts, dtype=object), mark).tolist() == [one / 100 for one in cents]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (",".join(f"c{number}" for number in range(200_000)) + "\n1\n", "200,000 columns, 500 are allowed"),
        ("a\n" + "1," * 200_000 + "\n", "200,001 columns"),
        ("sep=|\n" + "|" * 100_000 + "\n1\n", "100,001 columns"),
        ("a;b\n" + "1," * 200_000 + ";2\n", "columns"),
        ("a,b\n" + "1,2\n" * 2_600_000, "cells, 5,000,000 are allowed"),
    ],
)
def test_a_table_too_wide_or_too_large_is_refused_before_it_is_read(tmp_path, text, why):
    begin = time.monotonic()
    with pytest.raises(schema.BadDatabase, match=why):
        own_files.open_database(written(tmp_path / "t.csv", text), tmp_path)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    "text", ['"a\n' * 15_000, 'a,b\n"x\n' + '"y""\n' * 50_000, "a\n" + "9" * 100_000 + "\n", "a,b\r" * 10_000]
)
def test_text_that_once_took_for_ever_is_read_or_refused_at_once(tmp_path, text):
    begin = time.monotonic()
    with contextlib.suppress(schema.BadDatabase):
        own_files.open_database(written(tmp_path / "t.csv", text), tmp_path)
    assert time.monotonic() - begin < 5


def test_many_marks_within_quotes_are_no_columns(tmp_path):
    database = own_files.open_database(written(tmp_path / "t.csv", 'a,b\n"' + "1," * 1_000 + '",2\n'), tmp_path)
    assert [column.name for column in schema.read(database).tables[0].columns] == ["a", "b"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_is_no_csv_file(tmp_path):
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(schema.BadDatabase, match="no regular file"):
        own_files.open_database(tmp_path / "x.csv", tmp_path)
