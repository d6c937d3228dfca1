"""Schemas: tables, columns and keys as an SQLite file has them, and errors for files that have none."""

import itertools
import json
import sqlite3
from contextlib import closing

import pytest
from conftest import make_database

from helpers.databases import schema
from helpers.databases.schema import BadDatabase, Column, ForeignKey

CONCERTS = """
CREATE TABLE singer (singer_id INTEGER PRIMARY KEY, name TEXT NOT NULL, born DATE);
CREATE TABLE concert (
    concert_id INT PRIMARY KEY,
    held_by INT REFERENCES singer(singer_id),
    singer_id INT REFERENCES singer(singer_id),
    price DECIMAL(8, 2), begins TIMESTAMP, note
);
"""


@pytest.fixture
def read(tmp_path):
    """The schema of a database made by SQL text."""
    return lambda script: schema.read(make_database(tmp_path / "concerts.sqlite", script))


def links(found):
    """The keys of a schema, in short."""
    return [f"{key.table}.{one} = {key.to_table}.{other}" for key in found.foreign_keys for one, other in key.pairs]


def names(found):
    return {table.name: [column.name for column in table.columns] for table in found.tables}


# Tables and columns


def test_tables_and_columns_stand_as_they_were_declared(read):
    found = read(CONCERTS)
    assert found.db_id == "concerts"
    assert names(found) == {
        "singer": ["singer_id", "name", "born"],
        "concert": ["concert_id", "held_by", "singer_id", "price", "begins", "note"],
    }
    singer, concert = found.tables
    assert singer.columns[0] == Column(name="singer_id", type="INTEGER", primary_key=True)
    assert concert.columns[3] == Column(name="price", type="DECIMAL(8, 2)", primary_key=False)
    assert concert.columns[5] == Column(name="note", type="", primary_key=False)


def test_indexes_triggers_and_sqlites_own_tables_are_left_out(read):
    found = read("""
        CREATE TABLE singer (id INTEGER PRIMARY KEY AUTOINCREMENT, name UNIQUE);
        CREATE INDEX by_name ON singer (name);
        CREATE TRIGGER watch AFTER INSERT ON singer BEGIN SELECT 1; END;
        INSERT INTO singer (name) VALUES ('Ada');
        ANALYZE;
    """)
    assert names(found) == {"singer": ["id", "name"]}


def test_a_table_whose_name_merely_looks_like_sqlites_own_is_there(read):
    assert names(read("CREATE TABLE sqlitex (a); CREATE TABLE sqlites_own (b)")) == {"sqlitex": ["a"], "sqlites_own": ["b"]}


def test_a_table_without_rowid_is_read_like_any_other(read):
    found = read("CREATE TABLE price (item TEXT, shop TEXT, cents INT, PRIMARY KEY (shop, item)) WITHOUT ROWID")
    assert names(found) == {"price": ["item", "shop", "cents"]}
    assert [column.primary_key for column in found.tables[0].columns] == [True, True, False]


def test_generated_columns_are_columns(read):
    """SELECT * shows them, so the model has to know them."""
    found = read("""
        CREATE TABLE shop (id INTEGER PRIMARY KEY);
        CREATE TABLE price (net INT, gross INT AS (net * 2), shop_id INT AS (net % 10) STORED REFERENCES shop(id), note TEXT);
    """)
    assert names(found)["price"] == ["net", "gross", "shop_id", "note"]
    assert links(found) == ["price.shop_id = shop.id"]
    assert found.as_spider()["foreign_keys"] == [[4, 1]]


NAMES = ["order items", 'the "best"', "it's", "naïve 名前", "select", "a.b", "x, y", "100%", "1st"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_read_as_it_is(read, name):
    quoted = '"{}"'.format(name.replace('"', '""'))
    script = f"CREATE TABLE {quoted} ({quoted} INT PRIMARY KEY, parent INT REFERENCES {quoted}({quoted}))"
    found = read(script)
    assert names(found) == {name: [name, "parent"]}
    assert found.foreign_keys == (ForeignKey(table=name, columns=("parent",), to_table=name, to_columns=(name,)),)
    assert found.as_spider()["column_names_original"] == [[-1, "*"], [0, name], [0, "parent"]]


# Keys


def test_keys_come_in_the_order_of_their_declaration(read):
    found = read("""
        CREATE TABLE a (id INT PRIMARY KEY);
        CREATE TABLE b (id INT PRIMARY KEY, z INT REFERENCES a(id), y INT REFERENCES a(id), x INT REFERENCES c(id));
        CREATE TABLE c (id INT PRIMARY KEY, w INT REFERENCES b(id));
    """)
    assert links(found) == ["b.z = a.id", "b.y = a.id", "b.x = c.id", "c.w = b.id"]


def test_a_key_without_a_target_column_refers_to_the_primary_key(read):
    assert links(read("CREATE TABLE a (x INT, id INT PRIMARY KEY); CREATE TABLE b (a_id INT REFERENCES a)")) == ["b.a_id = a.id"]


def test_a_composite_key_links_each_column_to_its_own(read):
    found = read("""
        CREATE TABLE seat (hall INT, line INT, number INT, PRIMARY KEY (number, hall));
        CREATE TABLE ticket (n INT, h INT, FOREIGN KEY (n, h) REFERENCES seat(number, hall));
        CREATE TABLE guest (n INT, h INT, FOREIGN KEY (n, h) REFERENCES seat);
    """)
    assert links(found) == ["ticket.n = seat.number", "ticket.h = seat.hall", "guest.n = seat.number", "guest.h = seat.hall"]


@pytest.mark.parametrize(
    "reference",
    ["missing(id)", "missing", "a(missing)", "keyless"],
    ids=["no table", "no table, no column", "no column", "no key"],
)
def test_a_key_that_leads_nowhere_is_left_out(read, reference):
    found = read(f"""
        CREATE TABLE a (id INT PRIMARY KEY);
        CREATE TABLE keyless (x INT);
        CREATE TABLE b (x INT REFERENCES {reference}, y INT REFERENCES a(id));
    """)
    assert links(found) == ["b.y = a.id"]
    assert found.as_spider()["foreign_keys"] == [[4, 1]]


def test_names_in_keys_are_matched_as_sqlite_matches_them(read):
    found = read("CREATE TABLE Singer (Id INT PRIMARY KEY); CREATE TABLE song (by INT REFERENCES SINGER(ID))")
    assert links(found) == ["song.by = Singer.Id"]


# What the model reads, and Spider's form


def test_lines_are_a_line_a_table_and_the_keys_that_names_do_not_show(read):
    assert read(CONCERTS).lines() == [
        "singer: singer_id, name, born",
        "concert: concert_id, held_by, singer_id, price, begins, note",
        "keys: concert.held_by = singer.singer_id",
    ]


def test_without_keys_to_tell_there_is_no_line_of_keys(read):
    assert read("CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (ID INT REFERENCES a(id))").lines() == ["a: id", "b: ID"]


def test_a_schema_in_spiders_form_numbers_columns_from_the_star(read):
    assert read(CONCERTS).as_spider() == {
        "db_id": "concerts",
        "table_names_original": ["singer", "concert"],
        "table_names": ["singer", "concert"],
        "column_names_original": [
            [-1, "*"],
            *[[0, name] for name in ("singer_id", "name", "born")],
            *[[1, name] for name in ("concert_id", "held_by", "singer_id", "price", "begins", "note")],
        ],
        "column_names": [
            [-1, "*"],
            *[[0, name] for name in ("singer id", "name", "born")],
            *[[1, name] for name in ("concert id", "held by", "singer id", "price", "begins", "note")],
        ],
        "column_types": ["text", "number", "text", "time", "number", "number", "number", "number", "time", "text"],
        "primary_keys": [1, 4],
        "foreign_keys": [[5, 1], [6, 1]],
    }


def test_a_schema_in_spiders_form_is_read_back(read):
    """Types come as Spider has them: text, number, time."""
    found = read(CONCERTS)
    again = schema.from_spider(found.as_spider())
    assert (again.db_id, names(again), again.foreign_keys) == (found.db_id, names(found), found.foreign_keys)
    assert again.as_spider() | {"column_types": None} == found.as_spider() | {"column_types": None}
    assert again.tables[0].columns[0] == Column(name="singer_id", type="number", primary_key=True, display_name="singer id")


def test_a_schema_in_spiders_form_may_have_keys_of_several_columns_and_keys_that_the_file_lacks(read):
    entry = read("CREATE TABLE seat (hall INT, number INT); CREATE TABLE ticket (hall INT)").as_spider()
    found = schema.from_spider(entry | {"primary_keys": [[1, 2]], "foreign_keys": [[3, 1]]})
    assert [column.primary_key for column in found.tables[0].columns] == [True, True]
    assert links(found) == ["ticket.hall = seat.hall"]


@pytest.mark.parametrize(
    "change",
    [{"foreign_keys": [[1, 99]]}, {"foreign_keys": [1]}, {"column_types": ["text"]}, {"column_names_original": [["*"]]}],
    ids=["a key that leads nowhere", "half a key", "too few types", "columns without tables"],
)
def test_what_is_no_schema_in_spiders_form_is_an_error(read, change):
    with pytest.raises((LookupError, TypeError, ValueError)):
        schema.from_spider(read(CONCERTS).as_spider() | change)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("INTEGER", "number"),
        ("bigint", "number"),
        ("REAL", "number"),
        ("DOUBLE PRECISION", "number"),
        ("NUMERIC(10,2)", "number"),
        ("datetime", "time"),
        ("DATE", "time"),
        ("VARCHAR(20)", "text"),
        ("BLOB", "text"),
        ("", "text"),
    ],
)
def test_types_are_numbers_times_or_text(declared, expected):
    assert schema.type_group(declared) == expected


# Files that cannot be used


def test_reading_changes_nothing_and_leaves_nothing(read, tmp_path):
    read(CONCERTS)
    path = tmp_path / "concerts.sqlite"
    content = path.read_bytes()
    schema.read(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a b", "no#1", "100%", "x?mode=rwc", "été"])
def test_the_path_may_hold_signs_of_a_uri(tmp_path, name):
    found = schema.read(make_database(tmp_path / f"{name}.sqlite", CONCERTS))
    assert (found.db_id, len(found.tables)) == (name, 2)


@pytest.mark.parametrize("name", ["missing.sqlite", "."])
def test_a_file_that_is_not_there_is_a_bad_database(tmp_path, name):
    with pytest.raises(BadDatabase, match="cannot be read as an SQLite database"):
        schema.read(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"name,age\nAda,30\n" * 100, id="text"),
        pytest.param(b"SQLite format 3\0", id="a header alone"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 8000, id="a header and junk"),
    ],
)
def test_a_file_that_is_no_database_is_a_bad_database(tmp_path, content):
    path = tmp_path / "table.sqlite"
    path.write_bytes(content)
    with pytest.raises(BadDatabase, match=r"table\.sqlite cannot be read as an SQLite database: file is not a database"):
        schema.read(path)


def test_a_file_whose_schema_is_damaged_is_a_bad_database(tmp_path):
    path = make_database(tmp_path / "damaged.sqlite", CONCERTS)
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE singer", b"CREATE TABLE \xff\xff(,\x01)"))
    with pytest.raises(BadDatabase, match=r"damaged\.sqlite cannot be read as an SQLite database: malformed"):
        schema.read(path)


def test_an_empty_file_has_no_table(tmp_path):
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(BadDatabase, match=r"empty.sqlite has no table"):
        schema.read(tmp_path / "empty.sqlite")


def test_names_that_are_not_utf8_are_read_with_replacement_signs(tmp_path):
    path = make_database(tmp_path / "latin.sqlite", "CREATE TABLE singer (zzzz TEXT)")
    path.write_bytes(path.read_bytes().replace(b"zzzz", b"n\xe9\xe9n"))
    assert names(schema.read(path)) == {"singer": ["n\ufffd\ufffdn"]}


def test_changes_that_lie_beside_a_database_are_refused_until_they_are_in_it(tmp_path):
    path = make_database(tmp_path / "open.sqlite", CONCERTS)
    schema.refuse_open_changes(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO singer VALUES (1, 'Ada', NULL)")
        with pytest.raises(BadDatabase, match=r"open\.sqlite has changes that lie beside it in open\.sqlite-wal"):
            schema.refuse_open_changes(path)
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        schema.refuse_open_changes(path)


# Real Spider


@pytest.fixture
def official(spider_dir):
    """The entries of Spider's tables.json."""
    return {entry["db_id"]: entry for entry in json.loads((spider_dir / "tables.json").read_text(encoding="utf-8"))}


def lower(entry, *fields):
    return json.loads(json.dumps([entry[field] for field in fields]).lower())


@pytest.mark.spider
@pytest.mark.parametrize("db_id", ["pets_1", "college_1", "cre_Doc_Template_Mgt", "flight_4", "wta_1", "tvshow", "car_1"])
def test_as_spider_agrees_with_the_release(spider_dir, official, db_id):
    """In names, columns and keys. The release's names for people were edited by people, so they are not compared."""
    found = schema.read(spider_dir / "database" / db_id / f"{db_id}.sqlite").as_spider()
    expected = official[db_id]
    fields = ("table_names_original", "column_names_original", "primary_keys")
    assert lower(found, *fields) == lower(expected, *fields)
    assert sorted(found["foreign_keys"]) == sorted(expected["foreign_keys"])


@pytest.mark.spider
def test_every_database_of_spider_is_read_in_the_form_of_the_release(spider_dir, official):
    for db_id, expected in official.items():
        found = schema.read(spider_dir / "database" / db_id / f"{db_id}.sqlite").as_spider()
        assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in expected.items()}
        columns = len(found["column_names_original"])
        assert len(found["column_names"]) == len(found["column_types"]) == columns
        assert set(found["column_types"]) <= {"text", "number", "time"}
        assert all(0 < at < columns for at in itertools.chain(found["primary_keys"], *found["foreign_keys"]))


@pytest.mark.spider
def test_the_schemas_of_the_release_are_read_and_written_without_a_loss(official):
    for entry in official.values():
        again = schema.from_spider(entry).as_spider()
        fields = ("db_id", "table_names_original", "column_names_original", "foreign_keys")
        assert {name: again[name] for name in fields} == {name: entry[name] for name in fields}


# What else a file may hold

WITHOUT_MODULE = """
CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT);
PRAGMA writable_schema = ON;
INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql)
    VALUES ('table', 'note_vec', 'note_vec', 0, 'CREATE VIRTUAL TABLE note_vec USING vec0(emb float[3])');
PRAGMA writable_schema = OFF;
CREATE TABLE note_vec_chunks (id); CREATE TABLE note_vec_vector_chunks00 (id); CREATE TABLE note_vec_rowids (id);
CREATE TABLE note_vec_archive (id);
"""


def test_a_virtual_table_without_its_module_is_left_out_and_named(read):
    found = read(WITHOUT_MODULE)
    assert list(names(found)) == ["note", "note_vec_archive"], "its own tables go as well, a user's with a similar name stays"
    assert found.unreadable == ("note_vec (no such module: vec0)",)


@pytest.mark.parametrize(
    "create",
    [
        "CREATE VIRTUAL TABLE mail_search USING fts5(subject, body)",
        'create virtual table "mail_search" using FTS5(subject, body, content=mail)',
        "CREATE VIRTUAL TABLE IF NOT EXISTS mail_search USING fts4(subject, body)",
        "CREATE VIRTUAL TABLE mail_search USING rtree(id, subject, body)",
    ],
)
def test_tables_in_which_a_virtual_one_keeps_its_content_are_no_tables(read, create):
    script = f"CREATE TABLE mail (id INTEGER PRIMARY KEY, subject, body); {create}; CREATE TABLE mail_search_notes (n);"
    found = read(script)
    assert list(names(found)) == ["mail", "mail_search", "mail_search_notes"]
    assert found.unreadable == ()


VIEWED = "CREATE TABLE singer (id INTEGER PRIMARY KEY, name); CREATE VIEW young AS SELECT id, name AS who FROM singer;"


def test_a_view_that_runs_is_a_table_without_keys(read):
    found = read(VIEWED)
    assert names(found) == {"singer": ["id", "name"], "young": ["id", "who"]}
    assert [table.kind for table in found.tables] == ["table", "view"]
    assert not any(column.primary_key for column in found.tables[1].columns)


@pytest.mark.parametrize(
    ("view", "why"),
    [
        ("SELECT * FROM gone", "no such table"),
        ("SELECT gone FROM singer", "no such column"),
        ("SELECT gone(name) FROM singer", "no such function"),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n", "stopped after"),
        ("SELECT zeroblob(1000000000) FROM (SELECT 1)", ""),
    ],
)
def test_a_view_that_does_not_run_is_left_out_and_named(read, monkeypatch, view, why):
    monkeypatch.setattr(schema, "VIEW_SECONDS", 0.5)
    found = read(f"{VIEWED} CREATE VIEW bad AS {view};")
    assert list(names(found)) == ["singer", "young"]
    (said,) = found.unreadable
    assert said.startswith("bad (") and why in said


def test_a_database_of_views_alone_is_read_and_one_of_broken_things_says_what(read, tmp_path):
    assert list(names(read("CREATE VIEW three AS SELECT 3 AS n;"))) == ["three"]
    with pytest.raises(BadDatabase, match=r"no table that can be read: bad \(no such table"):
        schema.read(make_database(tmp_path / "broken.sqlite", "CREATE VIEW bad AS SELECT * FROM gone;"))


def test_a_column_without_a_name_is_left_out(read):
    assert names(read('CREATE TABLE t ("" TEXT, " " INT, kept INT); CREATE TABLE u ("" TEXT);')) == {"t": ["kept"]}


def test_letters_beyond_ascii_keep_their_case_as_sqlite_has_it(read):
    found = read('CREATE TABLE "Ä" ("É" INT, "é" INT, A INT); CREATE TABLE "ä" (n INT);')
    assert found.columns() == {"Ä": ("É", "é", "a"), "ä": ("n",)}


def test_a_composite_key_is_one_key(read):
    found = read("""
        CREATE TABLE line (country, number, title, PRIMARY KEY (country, number));
        CREATE TABLE stop (country, number, FOREIGN KEY (country, number) REFERENCES line);
        CREATE TABLE half (country, number, FOREIGN KEY (country, number) REFERENCES line (country, gone));
    """)
    assert [key.pairs for key in found.foreign_keys] == [(("country", "country"), ("number", "number"))]
