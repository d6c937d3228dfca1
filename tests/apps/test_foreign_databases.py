"""SQLite files that nobody meant well: each is read or refused in words, in bounded time and memory, by all that reads a user's file."""

import contextlib
import dataclasses
import random
import resource
import sqlite3
import sys
import time
from contextlib import closing

import pytest
from conftest import command

from helpers.apps import ask, demo, own_files, pairs, terminal
from helpers.databases import schema
from helpers.prompts import foreign_keys, message, values

QUICK, ALL = 30, 2_000  # schemas at random
SECONDS = 10.0
SLOW = "hex(zeroblob(30000000)) LIKE '%" + "0" * 900 + "1'"
QUESTION = "How many rows of tab1 have x1 above 3?"


def make(path, *statements):
    """An SQLite file; statements that this SQLite refuses are passed over."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            with contextlib.suppress(sqlite3.Error):
                connection.execute(statement)
    return path


HOSTILE = {
    "a computed column of gigabytes": ["CREATE TABLE t (a, g AS (hex(zeroblob(100000000)) || a))", "INSERT INTO t (a) VALUES (1), (2)"],
    "a computed column of one long step": [  # added last: inserting a row would compute it
        "CREATE TABLE t (a)",
        "INSERT INTO t (a) VALUES (1), (2)",
        f"ALTER TABLE t ADD COLUMN g AS ({SLOW})",
    ],
    "many computed values": [
        "CREATE TABLE t (a, g AS (hex(zeroblob(4000000))))",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) INSERT INTO t (a) SELECT i FROM n",
    ],
    "views of one long step": ["CREATE TABLE t (a)", "INSERT INTO t VALUES (1)", *(f"CREATE VIEW v{i} AS SELECT {SLOW} x FROM t" for i in range(30))],
    "views that double": [
        "CREATE TABLE t (a)",
        "CREATE VIEW v0 AS SELECT a FROM t",
        *(f"CREATE VIEW v{i} AS SELECT x.a FROM v{i - 1} x, v{i - 1} y" for i in range(1, 26)),
    ],
    "thousands of tables": [f"CREATE TABLE tab{i} (a, b)" for i in range(4_000)],
    "more tables than are allowed": [f"CREATE TABLE tab{i} (a)" for i in range(6_000)],
    "tables of a thousand columns": [f"CREATE TABLE tab{i} ({', '.join(f'x{i}_{j}' for j in range(1_900))})" for i in range(5)],
    "more columns than are allowed": [f"CREATE TABLE tab{i} ({', '.join(f'x{i}_{j}' for j in range(1_900))})" for i in range(20)],
    "many tables with alike rows": [
        line for i in range(1_000) for line in (f"CREATE TABLE tab{i} (id INTEGER PRIMARY KEY, tab_id)", f"INSERT INTO tab{i} (tab_id) VALUES (1), (2)")
    ],
    "names of 90,000 characters": [f'CREATE TABLE "{"n" * 90_000}" (a)', f'CREATE TABLE ok (a, "{"m" * 90_000}")'],
    "keys between all tables": [
        f"CREATE TABLE t{i} (id INTEGER PRIMARY KEY, {', '.join(f'c{j} REFERENCES t{j}' for j in range(60))})" for i in range(60)
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_read_or_refused_in_words_within_ten_seconds(tmp_path, name):
    database = make(tmp_path / "hostile.sqlite", *HOSTILE[name])
    for use in (read_for_a_prompt, lambda path: pairs.make(path, 50)):
        begin = time.monotonic()
        with contextlib.suppress(schema.BadDatabase, pairs.NothingToAsk):
            use(database)
        assert time.monotonic() - begin < SECONDS
    memory = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    assert memory < 2 * 1024**2 or "torch" in sys.modules, "KiB; torch and its libraries take one GiB alone"


def read_for_a_prompt(database):
    own_files.notes(database)
    demo.tables_markdown(database)
    prompt = message.database_prompt(database, "linked")
    prompt.message(QUESTION)
    prompt.left_out(QUESTION)


def test_a_file_with_too_much_is_refused_with_what_to_do(tmp_path, call):
    database = make(tmp_path / "wide.sqlite", *HOSTILE["more columns than are allowed"])
    code, _, err = call("pairs", database, "--to", tmp_path / "made")
    assert code == 2
    assert err.startswith(f"Refused: {database} has 38,000 columns, 10,000 are allowed: copy those")


def test_every_reader_has_the_same_view_of_a_file(tmp_path):
    database = make(
        tmp_path / "some.sqlite",
        "CREATE TABLE a (x, y AS (x + 1))",
        "CREATE VIEW good AS SELECT x FROM a",
        "CREATE VIEW bad AS SELECT x FROM gone",
        "CREATE VIRTUAL TABLE f USING fts5(body)",
        "INSERT INTO a (x) VALUES (1)",
    )
    seen = schema.read(database)
    assert [table.name for table in seen.tables] == ["a", "f", "good"]
    assert [column.name for column in seen.tables[0].columns] == ["x", "y"]
    assert message.database_prompt(database, "schema").schema == seen
    assert [name.split()[0] for name in seen.unreadable] == ["bad"]
    assert "bad" not in demo.tables_markdown(database).partition("**")[2]
    assert own_files.notes(database) == ["Left out, because it cannot be read: bad (no such table: main.gone)"]
    assert "bad" not in terminal.schema_lines(database)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="this system has no such limit")
def test_ask_takes_a_computed_column_of_gigabytes_in_little_memory(trained_run, tmp_path):
    database = make(tmp_path / "hostile.sqlite", *HOSTILE["a computed column of gigabytes"])
    done = command("ask", database, "How many?", "--run-dir", trained_run.path, "--sql-only", timeout=60)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr


# ---- schemas at random

NAMES = [
    *("a", "b", "tab1", "x1", "name", "id", "order", "select", "group", "Äpfel", "naïve", "日本", "t2", "json_each", "sqlite"),
    *("", " ", "a b", "a.b", "a,b", "a;b", "a'b", 'a"b', "a`b", "[a]", "a\nb", "a\tb", "\x1b[31mred", "\u202egpj.exe", "\x9b1m"),
    *("<img src=x onerror=alert(1)>", "**b** [c](http://d)", "1st", "_", "%s", "{0}", "😀", "e\u0301", "A", "Name", "x" * 150, "x" * 300),
    *("rowid", "oid", "NULL", "true", "CURRENT_DATE", "<|im_end|>", "\ud7ff", "ſ", "K", "ı"),
]  # fmt: skip
TYPES = [
    "",
    "INT",
    "INTEGER",
    "TEXT",
    "REAL",
    "BLOB",
    "NUMERIC",
    "VARCHAR(10)",
    "DATE",
    "BOOLEAN",
    "ANY",
    "json",
    "DECIMAL(10, 2)",
]
CELLS = ["NULL", "0", "-1", "9223372036854775807", "1e308", "9e999", "'x'", "''", "x'00ff'", "'2024-05-01'", "'<b>'", "'\u202e'", "'it''s'", "CAST(x'c328' AS TEXT)", "zeroblob(1000)"]  # fmt: skip
COMPUTED = [
    "1",
    "hex(zeroblob(100000))",
    "length(hex(zeroblob(3000000)))",
    "abs(-1)",
    "'a' || 'b'",
    "x'00'",
    "random()",
    "gone(1)",
]
VIEWS = [
    "SELECT * FROM {0}",
    "SELECT count(*) FROM {0}, {1}",
    "SELECT 1 AS {2}, 2 AS {2}",
    "SELECT * FROM gone",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
    "SELECT json_each.value FROM json_each('[1, 2]')",
    "SELECT * FROM view0",
]
VIRTUAL = ["fts5({0}, {1})", "fts4({0})", "rtree(id, x0, x1)", "gone({0})", "fts5vocab({0}, row)", "json_each"]


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def random_schema(chance):
    """The statements of a schema at random: tables, keys, generated columns, views, triggers, virtual tables, rows."""

    def name():
        return quoted(chance.choice(NAMES))

    tables, statements = [name() for _ in range(chance.randint(1, 5))], []
    for table in tables:
        columns = [name() for _ in range(chance.randint(1, 6))]
        parts = [f"{column} {chance.choice(TYPES)}" for column in columns]
        parts[0] += chance.choice(["", " PRIMARY KEY", " UNIQUE", " NOT NULL"])
        parts += [f"{name()} AS ({chance.choice(COMPUTED)}) {chance.choice(['', 'STORED'])}" for _ in range(chance.randint(0, 2))]
        parts += [
            f"FOREIGN KEY ({chance.choice(columns)}) REFERENCES {chance.choice([*tables, 'gone'])}"
            for _ in range(chance.randint(0, 2))
        ]
        statements.append(f"CREATE TABLE {table} ({', '.join(parts)}) {chance.choice(['', '', 'WITHOUT ROWID', 'STRICT'])}")
        cells = ", ".join(chance.choice(CELLS) for _ in columns)
        statements += [f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({cells})"] * chance.randint(0, 3)
        if chance.random() < 0.3:
            statements.append(f"CREATE TRIGGER {name()} AFTER INSERT ON {table} BEGIN SELECT {SLOW}; END")
        if chance.random() < 0.3:
            statements.append(f"CREATE INDEX {name()} ON {table} ({chance.choice([*columns, 'abs(1)'])})")
    for number in range(chance.randint(0, 3)):
        view = chance.choice(VIEWS).format(chance.choice(tables), chance.choice(tables), name())
        statements.append(f"CREATE VIEW {chance.choice([name(), f'view{number}'])} AS {view}")
    if chance.random() < 0.4:
        statements.append(f"CREATE VIRTUAL TABLE {name()} USING {chance.choice(VIRTUAL).format(name(), name())}")
    if chance.random() < 0.2:
        bad = chance.choice(["CREATE TABLE x", "", "CREATE VIRTUAL TABLE q USING gone(a)", "garbage", "CREATE TABLE z(a)\x00b"])
        statements += [
            "PRAGMA writable_schema = 1",
            f"UPDATE sqlite_master SET sql = '{bad}' WHERE rowid = {chance.randint(1, 4)}",
        ]
    return statements


@pytest.fixture(scope="module")
def assistant(trained_run, smoke):
    """The tiny model, on prompts that the tables are linked in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ask, "ANSWER_TOKENS", 8)
        loaded = ask.load(trained_run.path)
        linked = loaded.settings.with_overrides({"prompt_style": "linked", "constrained": True, "max_new_tokens": 8}, "this test")
        yield dataclasses.replace(loaded, settings=linked)


@pytest.mark.parametrize("number", [QUICK, pytest.param(ALL, marks=pytest.mark.slow)])
def test_schemas_at_random_bring_neither_a_traceback_nor_an_overrun(tmp_path, assistant, number):
    slowest, refused = (0.0, 0), 0
    for seed in range(number):
        database = make(tmp_path / f"{seed}.sqlite", *random_schema(random.Random(seed)))
        begin = time.monotonic()
        try:
            use_everything(assistant, database)
        except (schema.BadDatabase, ValueError) as error:
            assert str(error), seed
            refused += 1
        except Exception as error:
            raise AssertionError(f"schema {seed}") from error
        slowest = max(slowest, (time.monotonic() - begin, seed))
        database.unlink()
    print(f"{number} schemas, {refused} refused, slowest {slowest[0]:.1f} s (schema {slowest[1]})")
    assert slowest[0] < 2 * SECONDS, slowest
    assert refused < number / 2


def use_everything(assistant, database):
    """Everything that reads a user's file: schema, page, prompt, an answer of the tiny model, pairs."""
    schema.read(database)
    read_for_a_prompt(database)
    values.value_index(database)
    foreign_keys.with_inferred_keys(schema.read(database), database)
    answer = assistant.ask(database, QUESTION, candidates=1)
    answer.as_json()
    with contextlib.suppress(pairs.NothingToAsk):
        pairs.make(database, 10)
