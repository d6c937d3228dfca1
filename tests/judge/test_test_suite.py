"""Altered copies of databases: still of the same kind, fair to what is right, and hard on what was right by accident."""

import hashlib
import json
import sqlite3
from contextlib import closing

import pytest
from conftest import make_database

from helpers.databases import layout, schema
from helpers.judge import test_suite
from helpers.judge.verdicts import WRONG_ON_A_COPY, copies, judge_all

SCHOOL = """
    CREATE TABLE teacher (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, age INT);
    CREATE TABLE course (code TEXT PRIMARY KEY, title TEXT, teacher_id INT REFERENCES teacher (id), room TEXT, level INT);
    CREATE TABLE takes (student TEXT, course TEXT REFERENCES course (code), grade REAL, PRIMARY KEY (student, course));
"""


def school_rows():
    teachers = [(number, f"t{number}@school.org", ["Ada", "Bo", "Cy"][number % 3], 20 + number % 10) for number in range(1, 31)]
    courses = [
        (f"C{number}", f"Course {number}", number % 9 + 1, None if number % 7 == 0 else f"R{number % 4}", number % 5)
        for number in range(30)
    ]
    takes = [
        (f"s{student}", f"C{course}", (student * course) % 7 / 2)
        for student in range(12)
        for course in range(0, 30, student % 5 + 2)
    ]
    return {"teacher": teachers, "course": courses, "takes": takes}


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """A database beside its copies: its path, and those of the copies."""
    folder = tmp_path_factory.mktemp("school")
    database = make_database(folder / "school.sqlite", SCHOOL)
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, rows in school_rows().items():
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    return made(database, folder / "made")


def made(database, folder, **options):
    """The path of a database that was written with its copies, and theirs."""
    test_suite.make_copies(database.stem, database, folder / database.stem, **options)
    return copies(folder / database.stem / database.name)


def ask(database, sql):
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        return connection.execute(sql).fetchall()


def dangling(database):
    """How many values lead nowhere."""
    count = 0
    for key in schema.read(database).foreign_keys:
        leads = " AND ".join(f'child."{one}" = parent."{other}"' for one, other in key.pairs)
        is_set = " AND ".join(f'child."{one}" IS NOT NULL' for one in key.columns)
        query = f'''SELECT count(*) FROM "{key.table}" AS child WHERE {is_set}
            AND NOT EXISTS (SELECT * FROM "{key.to_table}" AS parent WHERE {leads})'''
        count += ask(database, query)[0][0]
    return count


# What stays


def test_the_original_is_copied_to_the_byte_and_left_alone(tmp_path, concert_db):
    before = concert_db.read_bytes()
    original, *copies = made(concert_db, tmp_path / "made")
    assert concert_db.read_bytes() == original.read_bytes() == before
    assert len(copies) == test_suite.COPIES
    assert sorted(path.name for path in original.parent.iterdir()) == sorted(path.name for path in (original, *copies))


def test_copies_have_the_same_schema_and_are_sound(school):
    original, *copies = school
    for copy in copies:
        assert schema.read(copy).tables == schema.read(original).tables
        assert schema.read(copy).foreign_keys == schema.read(original).foreign_keys
        assert ask(copy, "SELECT type, name, sql FROM sqlite_master") == ask(
            original, "SELECT type, name, sql FROM sqlite_master"
        )
        assert ask(copy, "PRAGMA integrity_check") == [(b"ok",)]
        assert ask(copy, "PRAGMA foreign_key_check") == []


def test_unique_columns_and_primary_keys_stay_unique(school):
    for copy in school[1:]:
        for column, table in (("id", "teacher"), ("email", "teacher"), ("code", "course"), ("title", "course")):
            assert ask(copy, f"SELECT count({column}) - count(DISTINCT {column}) FROM {table}") == [(0,)]
        assert ask(copy, "SELECT count(*) - count(DISTINCT student || ' ' || course) FROM takes") == [(0,)]


def test_values_come_from_their_column_or_are_new_in_a_unique_one(school):
    original, *copies = school
    for copy in copies:
        for table, column, unique in (
            ("teacher", "name", False),
            ("teacher", "age", False),
            ("course", "room", False),
            ("takes", "grade", False),
            ("takes", "student", False),
            ("teacher", "id", True),
            ("teacher", "email", True),
        ):
            known = set(ask(original, f"SELECT {column} FROM {table}"))
            new = {value for (value,) in set(ask(copy, f"SELECT {column} FROM {table}")) - known}
            assert not new or unique, (table, column)
            old = [value for (value,) in known]
            assert all(value > max(old) if isinstance(value, int) else value.rpartition(b" ")[0] in old for value in new)


def test_a_database_always_has_the_same_copies(school, tmp_path):
    again = made(school[0], tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in school]


def test_each_copy_differs_from_the_original_and_from_the_others(school):
    contents = [
        tuple(tuple(sorted(map(repr, ask(path, f"SELECT * FROM {table}")))) for table in school_rows()) for path in school
    ]
    assert len(set(contents)) == 1 + test_suite.COPIES
    assert all(table for content in contents for table in content)


# What is caught


ACCIDENTS = {
    ">= and >": ("SELECT name FROM teacher WHERE age >= 29", "SELECT name FROM teacher WHERE age > 28"),
    "a limit that no value reaches": ("SELECT count(*) FROM teacher", "SELECT count(*) FROM teacher WHERE age >= 20"),
    "a forgotten join": (
        "SELECT count(*) FROM teacher JOIN course ON teacher.id = course.teacher_id",
        "SELECT count(*) FROM course JOIN takes ON course.code <> takes.course WHERE takes.student = 's0' AND takes.course = 'C0'",
    ),
    "count(*) and count(DISTINCT)": ("SELECT count(*) FROM course", "SELECT count(DISTINCT title) FROM course"),
    "another table with as many rows": ("SELECT count(*) FROM teacher", "SELECT count(*) FROM course"),
    "a constant": ("SELECT count(*) FROM teacher", "SELECT 30"),
}


def outcomes(database, pairs):
    golds = [(gold, "school") for gold, _ in pairs]
    verdicts = judge_all(golds, [other for _, other in pairs], {"school": database}, progress="")
    return [one.outcome for one in verdicts]


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))


def test_classic_accidents_are_caught(no_cache, school):
    # ages are whole numbers and titles unique, so two of them are right whatever the tables hold
    found = dict(zip(ACCIDENTS, outcomes(school[0], ACCIDENTS.values()), strict=True))
    always = {">= and >": "correct", "a limit that no value reaches": "correct", "count(*) and count(DISTINCT)": "correct"}
    assert found.pop("a forgotten join") in (WRONG_ON_A_COPY, "wrong result")
    assert found == {name: always.get(name, WRONG_ON_A_COPY) for name in found}


def test_a_comparison_that_is_too_wide_or_too_narrow_is_caught(no_cache, tmp_path):
    """Right on the original alone: nobody there has the age on the border, or a second row for the same name."""
    rows = ", ".join(f"({number}, 'n{number % 20}', {number if number % 20 else 40})" for number in range(1, 60) if number != 30)
    script = f"CREATE TABLE school (id INTEGER PRIMARY KEY, name TEXT, age INT); INSERT INTO school VALUES {rows};"
    original, *_ = made(make_database(tmp_path / "school.sqlite", script), tmp_path / "made")
    pairs = [
        ("SELECT max(age) FROM school", "SELECT age FROM school WHERE id = 59"),
        ("SELECT name FROM school WHERE age > 58", "SELECT name FROM school WHERE id = 59"),
        ("SELECT count(*) FROM school", "SELECT max(id) - 1 FROM school"),
        ("SELECT count(*) FROM school WHERE name = 'n3'", "SELECT count(DISTINCT age) FROM school WHERE name = 'n3'"),
    ]
    assert outcomes(original, pairs) == [WRONG_ON_A_COPY] * 4


def test_right_queries_in_another_form_stay_right(no_cache, school):
    pairs = [
        (
            "SELECT T1.name, count(*) FROM teacher AS T1 JOIN course AS T2 ON T1.id = T2.teacher_id GROUP BY T1.id",
            "SELECT name, (SELECT count(*) FROM course WHERE teacher_id = id) FROM teacher "
            "WHERE id IN (SELECT teacher_id FROM course)",
        ),
        (
            "SELECT name FROM teacher WHERE id NOT IN (SELECT teacher_id FROM course)",
            "SELECT name FROM teacher EXCEPT SELECT 'x'",
        ),
        ("SELECT count(*) FROM teacher WHERE age BETWEEN 22 AND 25", "SELECT sum(age >= 22 AND age <= 25) FROM teacher"),
    ]
    assert outcomes(school[0], pairs)[::2] == ["correct", "correct"]


def test_gold_of_the_sample_is_right_on_all_copies(sample, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    examples = [*sample.dev, *sample.train[::40]]
    copied = test_suite.cached_copies(sample.databases, progress="")
    assert all(copied[db_id] != path and len(copies(copied[db_id])) == 5 for db_id, path in sample.databases.items())
    golds = [(example.query, example.db_id) for example in examples]
    verdicts = judge_all(golds, [gold for gold, _ in golds], copied, progress="")
    assert [(gold, one) for (gold, _), one in zip(golds, verdicts, strict=True) if not one.exec] == []


def test_copies_of_the_sample_have_no_more_that_leads_nowhere(sample, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    for database in test_suite.cached_copies(sample.databases, progress="").values():
        original, *altered = copies(database)
        assert [dangling(copy) for copy in altered] == [dangling(original)] * 4 == [0] * 4


# Hostile databases


def make_hostile(folder, script, name="hostile"):
    return make_database(folder / f"{name}.sqlite", script)


def test_triggers_do_not_fire(tmp_path):
    script = """
        CREATE TABLE a (id INTEGER PRIMARY KEY, b TEXT);
        CREATE TABLE log (what TEXT);
        INSERT INTO a (b) VALUES ('x'), ('y'), ('x'), ('y'), ('z'), ('x'), ('y'), ('x'), ('y'), ('z');
        CREATE TRIGGER loud AFTER INSERT ON a BEGIN INSERT INTO log VALUES ('inserted'); END;
        CREATE TRIGGER "gone ""too" BEFORE DELETE ON a BEGIN SELECT RAISE(ABORT, 'no'); END;
    """
    original, *copies = made(make_hostile(tmp_path, script), tmp_path / "made")
    assert all(ask(path, "SELECT count(*) FROM log") == [(0,)] for path in (original, *copies))
    assert len({str(ask(path, "SELECT * FROM a")) for path in (original, *copies)}) > 1


HOSTILE = {
    "an empty table": "CREATE TABLE a (b); CREATE TABLE c (d); INSERT INTO c VALUES (1), (2), (3)",
    "nothing but empty tables": "CREATE TABLE a (b UNIQUE); CREATE TABLE c (d REFERENCES a (b))",
    "a view": "CREATE TABLE a (b); INSERT INTO a VALUES (1), (2); CREATE VIEW v AS SELECT load_extension('x'), b FROM a",
    "WITHOUT ROWID": "CREATE TABLE a (b TEXT PRIMARY KEY, c) WITHOUT ROWID; INSERT INTO a VALUES ('x', 1), ('y', 2), ('z', 3)",
    "generated columns": """CREATE TABLE a (b INT, c AS (b + 1), d AS (b * 2) STORED, e TEXT);
        INSERT INTO a (b, e) VALUES (1, 'x'), (2, 'y'), (3, 'z')""",
    "a CHECK between columns": "CREATE TABLE a (b INT, c INT, CHECK (b < c)); INSERT INTO a VALUES (1, 2), (3, 4), (5, 6), (7, 8)",
    "a CHECK that nothing passes any more": """CREATE TABLE a (b INT CHECK (b > 0)); INSERT INTO a VALUES (1), (2);
        PRAGMA ignore_check_constraints = 1; INSERT INTO a VALUES (-1), (-2)""",
    "NOT NULL": "CREATE TABLE a (b TEXT NOT NULL, c); INSERT INTO a VALUES ('x', NULL), ('y', 1), ('z', NULL)",
    "keys of several columns": """CREATE TABLE a (b, c, PRIMARY KEY (b, c)); INSERT INTO a VALUES (1, 1), (1, 2), (2, 1), (2, 2);
        CREATE TABLE d (e, f, FOREIGN KEY (e, f) REFERENCES a (b, c)); INSERT INTO d VALUES (1, 1), (2, 2), (1, 2)""",
    "a table that refers to itself": """CREATE TABLE a (id INTEGER PRIMARY KEY, boss INT REFERENCES a (id));
        INSERT INTO a VALUES (1, NULL), (2, 1), (3, 2), (4, 3), (5, 1)""",
    "tables that refer to each other": """CREATE TABLE a (id INTEGER PRIMARY KEY, b INT REFERENCES b (id));
        CREATE TABLE b (id INTEGER PRIMARY KEY, a INT REFERENCES a (id));
        INSERT INTO a VALUES (1, 1), (2, 2), (3, 1); INSERT INTO b VALUES (1, 3), (2, 1)""",
    "a key that leads nowhere": """CREATE TABLE a (b INT REFERENCES gone (id), c INT REFERENCES d (id));
        CREATE TABLE d (id INTEGER PRIMARY KEY); INSERT INTO a VALUES (1, 7), (2, 8), (3, NULL); INSERT INTO d VALUES (1)""",
    "names with quotes and spaces": """CREATE TABLE "a ""b"" 'c'; --" ("d e" INT, "f""g" TEXT, "[h]" TEXT, "select" INT);
        INSERT INTO "a ""b"" 'c'; --" VALUES (1, 'x', 'y', 1), (2, 'z', NULL, 1), (3, 'x', 'y', 2)""",
    "names that are not ASCII": 'CREATE TABLE "é🎵" ("ü" INT); INSERT INTO "é🎵" VALUES (1), (2), (3)',
    "AUTOINCREMENT": "CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, b); INSERT INTO a (b) VALUES (1), (2), (3)",
    "indexes": """CREATE TABLE a (b INT, c INT); CREATE UNIQUE INDEX i ON a (b, c); CREATE UNIQUE INDEX j ON a (b) WHERE c > 1;
        CREATE INDEX k ON a (b + c); INSERT INTO a VALUES (1, 1), (1, 2), (2, 1), (2, 2), (3, 3)""",
    "a sequence of its own collation": "CREATE TABLE a (b TEXT COLLATE NOCASE UNIQUE); INSERT INTO a VALUES ('x'), ('Y'), ('z')",
    "values of every type in one column": """CREATE TABLE a (b, c UNIQUE);
        INSERT INTO a VALUES (1, 1), ('x', 'x'), (NULL, NULL), (x'00ff', x'00ff'), (2.5, 2.5), (9e999, 9e999), (-9e999, -9e999)""",
    "infinity in a unique column of texts": """CREATE TABLE a (b UNIQUE); INSERT INTO a VALUES (9e999), ('x'), ('y'), ('z'), ('u'),
        ('v'), ('w'), ('p'), ('q'), ('r'), ('s'), ('t')""",
    "text that is not UTF-8": """CREATE TABLE a (b TEXT, c TEXT);
        INSERT INTO a VALUES (CAST(x'4d61ff72' AS TEXT), 'x'), (CAST(x'ff' AS TEXT), 'y'), ('z', CAST(x'fe' AS TEXT))""",
    "STRICT": "CREATE TABLE a (b INT, c TEXT, d ANY) STRICT; INSERT INTO a VALUES (1, 'x', 2.5), (2, 'y', NULL), (3, 'z', x'00')",
    "rows of one value": "CREATE TABLE a (b INT); INSERT INTO a VALUES (1), (1), (1), (1), (1), (1), (1), (1), (1), (1)",
    "one row": "CREATE TABLE a (b INT); INSERT INTO a VALUES (1)",
    "UTF-16": "PRAGMA encoding = 'UTF-16'; CREATE TABLE a (b TEXT); INSERT INTO a VALUES ('é'), ('🎵'), ('x')",
    "a function in an index": "CREATE TABLE a (b TEXT); CREATE INDEX i ON a (lower(b)); INSERT INTO a VALUES ('x'), ('Y'), ('z')",
    "a DEFAULT that calls": "CREATE TABLE a (b INT DEFAULT (random()), c INT); INSERT INTO a (c) VALUES (1), (2), (3)",
}


@pytest.mark.parametrize("script", HOSTILE.values(), ids=HOSTILE)
def test_a_schema_of_any_kind_has_sound_copies(tmp_path, script):
    database = make_hostile(tmp_path, script)
    before = hashlib.sha256(database.read_bytes()).hexdigest()
    original, *copies = made(database, tmp_path / "made")
    assert hashlib.sha256(database.read_bytes()).hexdigest() == before
    assert len(copies) == 4
    sound = ask(original, "PRAGMA integrity_check")
    for copy in copies:
        assert schema.read(copy).tables == schema.read(original).tables
        assert ask(copy, "PRAGMA integrity_check") == sound or ask(copy, "PRAGMA integrity_check") == [(b"ok",)]
        assert dangling(copy) <= dangling(original)
    assert [path.read_bytes() for path in made(database, tmp_path / "again")][1:] == [path.read_bytes() for path in copies]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("CREATE TABLE a (b); CREATE VIRTUAL TABLE v USING fts5(c)", "v is a virtual table"),
        ("CREATE TABLE a (b); create  virtual table v using fts5(c)", "virtual table|cannot be copied"),
        ("CREATE VIEW v AS SELECT * FROM gone", "has no table"),
    ],
)
def test_what_cannot_have_copies_is_refused_in_words_and_stands_for_itself(tmp_path, monkeypatch, script, why):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    try:
        database = make_hostile(tmp_path, script)
    except sqlite3.OperationalError as error:
        pytest.skip(str(error))
    before = database.read_bytes()
    with pytest.raises(schema.BadDatabase, match=why):
        test_suite.make_copies("hostile", database, tmp_path / "made")
    assert list((tmp_path / "made").glob("*_neighbour_*")) == []
    assert test_suite.cached_copies({"hostile": database}, progress="") == {"hostile": database}
    assert database.read_bytes() == before
    assert not any((tmp_path / "cache").rglob("*.sqlite"))


@pytest.mark.parametrize(
    "content", [b"", b"no database" * 500, b"SQLite format 3\0" + b"\xa5" * 8000], ids=["empty", "text", "damaged"]
)
def test_a_file_that_is_no_database_is_refused_in_words(tmp_path, content):
    database = tmp_path / "bad.sqlite"
    database.write_bytes(content)
    with pytest.raises(schema.BadDatabase, match=r"bad\.sqlite"):
        test_suite.make_copies("bad", database, tmp_path / "made")


def test_the_largest_numbers_have_no_next_ones(tmp_path):
    rows = ", ".join(f"({2**63 - 1 - number}, {2**63 - 1 - number})" for number in range(20))
    database = make_hostile(tmp_path, f"CREATE TABLE a (id INTEGER PRIMARY KEY, b UNIQUE); INSERT INTO a VALUES {rows}")
    with pytest.raises(schema.BadDatabase, match=r"hostile\.sqlite cannot be copied with changes"):
        test_suite.make_copies("hostile", database, tmp_path / "made")


def test_a_database_that_is_too_large_is_refused_in_words(tmp_path, concert_db, monkeypatch):
    monkeypatch.setattr(test_suite, "LARGEST", 100)
    with pytest.raises(schema.BadDatabase, match="too large for altered copies"):
        test_suite.make_copies("concert", concert_db, tmp_path / "made")


def test_a_view_that_never_ends_is_not_looked_at(tmp_path):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    script = f"CREATE TABLE a (b INT); INSERT INTO a VALUES (1); CREATE VIEW v AS {endless}"
    assert len(made(make_hostile(tmp_path, script), tmp_path / "made")) == 5


def test_a_copy_that_takes_too_long_is_given_up_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(test_suite, "SECONDS", 0)
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) SELECT i FROM n"
    database = make_hostile(tmp_path, f"CREATE TABLE a (b INT); INSERT INTO a {many}")
    with pytest.raises(schema.BadDatabase, match="interrupted"):
        test_suite.make_copies("hostile", database, tmp_path / "made")


def test_write_all_names_what_has_no_copies(tmp_path, concert_db):
    bad = make_hostile(tmp_path, "CREATE TABLE a (b); CREATE VIRTUAL TABLE v USING fts5(c)", "bad")
    left_out = test_suite.write_copies({"concert": concert_db, "bad": bad}, tmp_path / "made", progress="")
    assert len(left_out) == 1 and "v is a virtual table" in left_out[0]
    assert len(copies(tmp_path / "made" / "concert" / "concert.sqlite")) == 5
    assert len(copies(tmp_path / "made" / "bad" / "bad.sqlite")) == 1


def test_cached_copies_are_made_once_and_again_for_other_content(tmp_path, concert_db, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    first = test_suite.cached_copies({"concert": concert_db}, progress="")["concert"]
    times = [path.stat().st_mtime_ns for path in copies(first)]
    assert test_suite.cached_copies({"concert": concert_db}, progress="")["concert"] == first
    assert [path.stat().st_mtime_ns for path in copies(first)] == times
    with closing(sqlite3.connect(concert_db)) as connection, connection:
        connection.execute("INSERT INTO singer VALUES ('Di', 50)")
    assert test_suite.cached_copies({"concert": concert_db}, progress="")["concert"] != first


# Real Spider


@pytest.mark.parity
@pytest.mark.spider
def test_on_dev_exactly_these_predictions_were_right_by_accident(spider_dir, parity_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    judged = json.loads((parity_dir / "official_verdicts_dev.json").read_text(encoding="utf-8"))
    databases = {db_id: layout.find_database(spider_dir, db_id) for db_id in {row["db_id"] for row in judged}}
    verdicts = judge_all(
        [(row["gold"], row["db_id"]) for row in judged],
        [row["pred"] for row in judged],
        test_suite.cached_copies(databases, progress=""),
        layout.read_tables(spider_dir / "tables.json"),
        progress="",
    )
    caught = [place for place, one in enumerate(verdicts) if one.outcome == WRONG_ON_A_COPY]
    assert caught == [321, 322, 521, 567, 568, 691, 992]
