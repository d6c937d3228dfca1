"""The embedded sample: small, self-consistent, and fit to train on and to judge by."""

import hashlib
import json
import re
import sqlite3
from collections import Counter

import pytest
import sqlglot
from sqlglot import exp

from helpers.databases import schema
from helpers.databases.sandbox import Sandbox
from helpers.judge.hardness import LEVELS
from helpers.sources import spider

DB_IDS = sorted(path.stem for path in (spider.SAMPLE / "database").glob("*.sql"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample, just built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return spider.load("sample")


@pytest.fixture(scope="module")
def results(sample):
    """What the gold of each example gives in the sandbox."""
    with Sandbox() as sandbox:
        return [(e, sandbox.execute(sample.databases[e.db_id], e.query)) for e in (*sample.train, *sample.dev)]


@pytest.fixture
def databases(sample):
    """A connection to each database by its db_id."""
    connections = {db_id: sqlite3.connect(path) for db_id, path in sample.databases.items()}
    yield connections
    for connection in connections.values():
        connection.close()


def plain(question):
    """A question without its case and punctuation."""
    return " ".join(re.findall(r"\w+", question.casefold()))


def rounded(rows):
    """Rows without the noise of adding numbers in another order."""
    return [tuple(round(value, 6) if isinstance(value, float) else value for value in row) for row in rows]


# What it offers


def test_it_is_large_enough_to_learn_from_and_to_judge_by(sample):
    assert len(DB_IDS) >= 10
    assert len(sample.train) >= 600
    assert len(sample.dev) >= 150


def test_it_takes_under_400_kilobytes_of_the_repository():
    assert sum(path.stat().st_size for path in spider.SAMPLE.rglob("*") if path.is_file()) < 400_000


@pytest.mark.parametrize("part", ["train", "dev"])
def test_every_hardness_is_there(sample, part):
    counts = Counter(example.hardness for example in getattr(sample, part))
    assert set(counts) == set(LEVELS)
    assert min(counts.values()) >= 10


def test_most_dev_questions_are_about_unseen_databases_and_the_others_are_marked(sample):
    trained = {example.db_id for example in sample.train}
    assert all(example.seen == (example.db_id in trained) for example in sample.dev)
    assert 0.1 < sum(example.seen for example in sample.dev) / len(sample.dev) < 0.5
    assert len({example.db_id for example in sample.dev} - trained) >= 3


def test_every_database_is_asked_about(sample):
    assert {example.db_id for example in (*sample.train, *sample.dev)} == set(DB_IDS) == set(sample.databases)


def test_it_is_called_what_it_is_beside_every_score(sample):
    assert (sample.name, sample.note) == ("embedded sample", "")


# Its questions


def test_no_question_repeats_and_none_leaks_from_train_to_dev(sample):
    counts = Counter(plain(example.question) for example in (*sample.train, *sample.dev))
    assert [question for question, count in counts.items() if count > 1] == []


def test_no_dev_query_is_one_that_train_asks_of_the_same_database(sample):
    trained = {(example.db_id, example.query.casefold()) for example in sample.train}
    assert [e.query for e in sample.dev if (e.db_id, e.query.casefold()) in trained] == []


def test_the_strings_of_a_query_are_written_in_its_question(sample):
    """Nobody could guess how a value is stored. A year stands for its first day."""
    for example in (*sample.train, *sample.dev):
        for literal in sqlglot.parse_one(example.query, dialect="sqlite").find_all(exp.Literal):
            value = literal.this.strip("% ").removesuffix("-01-01")
            assert not literal.is_string or value in example.question, example


# Its gold


def test_every_gold_query_runs_and_gives_something_to_compare(results):
    for example, result in results:
        assert result.ok, (example, result.error)
        assert 1 <= len(result.rows) <= 100, example
        assert any(value is not None for row in result.rows for value in row), example


def test_every_gold_query_is_a_single_select_that_sqlglot_parses(sample):
    for example in (*sample.train, *sample.dev):
        statements = sqlglot.parse(example.query, dialect="sqlite")
        assert len(statements) == 1, example
        assert isinstance(statements[0], exp.Query), example


def test_no_tie_decides_a_result(results, databases):
    """A superlative with two right answers would call one of them wrong."""
    for example, result in results:
        connection = databases[example.db_id]
        connection.execute("PRAGMA reverse_unordered_selects = 1")
        reverse = rounded(connection.execute(example.query))
        ordered = sqlglot.parse_one(example.query, dialect="sqlite").args.get("order")
        key = (lambda rows: rows) if ordered else Counter
        assert key(reverse) == key(rounded(result.rows)), example


# Its databases


@pytest.mark.parametrize("db_id", DB_IDS)
def test_foreign_keys_hold(databases, db_id):
    declared = "SELECT count(*) FROM sqlite_master AS tables, pragma_foreign_key_list(tables.name)"
    assert databases[db_id].execute(declared).fetchone()[0] >= 2
    assert databases[db_id].execute("PRAGMA foreign_key_check").fetchall() == []
    assert databases[db_id].execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("db_id", DB_IDS)
def test_some_values_have_apostrophes_and_accents(databases, db_id):
    text = "\n".join(databases[db_id].iterdump()).split("INSERT INTO", 1)[1]
    assert re.search(r"\w''\w", text)
    assert re.search(r"[À-ɏ]", text)


@pytest.mark.parametrize("db_id", DB_IDS)
def test_tables_json_agrees_with_the_database(sample, databases, db_id):
    """Read back from SQLite's own pragmas, by names instead of the file's numbers."""
    entries = json.loads((sample.databases[db_id].parents[2] / "tables.json").read_text(encoding="utf-8"))
    (entry,) = (entry for entry in entries if entry["db_id"] == db_id)
    tables, columns = entry["table_names_original"], entry["column_names_original"]
    named = [(tables[table], column) if table >= 0 else ("", column) for table, column in columns]

    infos = [(table, info) for table in tables for info in databases[db_id].execute(f"PRAGMA table_info({table})")]
    links = [(table, link) for table in tables for link in databases[db_id].execute(f"PRAGMA foreign_key_list({table})")]
    in_file = databases[db_id].execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()

    assert tables == [name for (name,) in in_file]
    assert named == [("", "*"), *((table, info[1]) for table, info in infos)]
    assert [named[at] for at in entry["primary_keys"]] == [(table, info[1]) for table, info in infos if info[5]]
    found = sorted((named[a], named[b]) for a, b in entry["foreign_keys"])
    assert found == sorted(((table, link[3]), (link[2], link[4])) for table, link in links)
    kinds = {"INTEGER": "number", "REAL": "number", "TEXT": "text"}
    assert entry["column_types"] == ["text", *(kinds[info[2]] for _, info in infos)]


def test_the_sql_files_rebuild_to_the_same_bytes(tmp_path):
    spider.build_sample(tmp_path / "one")
    spider.build_sample(tmp_path / "two")
    assert checksums(tmp_path / "one") == checksums(tmp_path / "two")
    assert len(checksums(tmp_path / "one")) == len(DB_IDS) + 3


def checksums(folder):
    """SHA-256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_sample_is_built_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    first = spider.load_sample()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    second = spider.load_sample()

    assert second == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert len(list(tmp_path.iterdir())) == 1, "no half-built folder stays"


@pytest.mark.parametrize("db_id", DB_IDS)
def test_names_are_plain_words(sample, db_id):
    for table in schema.read(sample.databases[db_id]).tables:
        for name in (table.name, *(column.name for column in table.columns)):
            assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
