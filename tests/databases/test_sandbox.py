"""Foreign SQL against the sandbox: every query ends in time, changes nothing, and harms no later one."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import psutil
import pytest
from conftest import ROOT, make_database
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.databases import sandbox as sandbox_module
from helpers.databases.sandbox import MIB, Limits, Result, Sandbox, from_json
from helpers.databases.sandbox_worker import OUTCOMES

COUNT = "SELECT count(*) FROM singer"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
BOUNDED = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {})"
LONG = "hex(zeroblob(30000000))"  # 60 million zeros
WORDS = [*"(),*;='\"1", "SELECT", "FROM", "WHERE", "singer", "age", "name", "UNION", "NOT", "ORDER", "BY", "count(", "AS"]
KNOWN_OUTCOMES = {"ok", "empty", "error", *(name for _, name in OUTCOMES)}

HOSTILE = {
    "timeout": {
        "endless recursion": f"{ENDLESS} SELECT count(*) FROM n",
        "endless recursion without duplicates": f"{ENDLESS.replace(' ALL', '')} SELECT max(i) FROM n",
        "four-way cross join": f"{BOUNDED.format(300)} SELECT count(*) FROM n a, n b, n c, n d",
        "endless group_concat": f"{ENDLESS} SELECT group_concat(hex(zeroblob(1000))) FROM n",
        "sixty-way join": f"SELECT count(*) FROM {', '.join(f'singer t{i}' for i in range(60))}",
        "one step: replace": f"SELECT length(replace({LONG}, hex(zeroblob(2000)) || '1', 'x'))",
        "one step: instr": f"SELECT instr({LONG}, hex(zeroblob(4000000)) || '1')",
        "one step: LIKE": f"SELECT {LONG} LIKE '%{'0' * 900}1'",
        "one step: GLOB": f"SELECT {LONG} GLOB '*{'0' * 900}1'",
    },
    "too large": {
        "endless rows": f"{ENDLESS} SELECT i FROM n",
        "a string that doubles": "WITH RECURSIVE n(i) AS (SELECT 'x' UNION ALL SELECT i || i FROM n) SELECT length(i) FROM n",
        "gigabytes of randomblob": "SELECT length(randomblob(1000000000))",
        "gigabytes of zeroblob": "SELECT zeroblob(2000000000)",
        "gigabytes of replace": "SELECT replace(hex(zeroblob(10000)), '0', hex(zeroblob(10000)))",
        "many large values": f"SELECT {', '.join(['zeroblob(60000000)'] * 7)}",
        "deep parentheses": f"SELECT {'(' * 5000}1{')' * 5000}",
        "deep functions": f"SELECT {'abs(' * 2000}1{')' * 2000}",
        "a long sum": f"SELECT {'1 + ' * 5000}1",
        "a long row of NOT": f"SELECT {'NOT ' * 5000}1",
        "hundreds of UNION": " UNION ALL ".join(["SELECT 1"] * 600),
        "thousands of columns": f"SELECT {', '.join(['1'] * 5000)}",
        "a long LIKE pattern": f"SELECT 'a' LIKE '{'%a' * 1000}'",
        "a megabyte of SQL": f"SELECT '{'x' * MIB}'",
        "a megabyte of nonsense": "x" * MIB,
        "a gigabyte of column names": f'WITH a AS (SELECT 1 AS "{"x" * 90_000}") SELECT {", ".join(["a.*"] * 1900)} FROM a',
    },
    "refused": {
        "PRAGMA": "PRAGMA journal_mode = WAL",
        "PRAGMA that lifts a limit": "PRAGMA hard_heap_limit = 0",
        "PRAGMA as a table": "SELECT * FROM pragma_database_list",
        "ATTACH": "ATTACH 'new.sqlite' AS other",
        "DETACH": "DETACH main",
        "VACUUM INTO": "VACUUM INTO 'copy.sqlite'",
        "VACUUM": "VACUUM",
        "CREATE": "CREATE TABLE other (a)",
        "CREATE TEMP": "CREATE TEMP TABLE other (a)",
        "CREATE VIRTUAL": "CREATE VIRTUAL TABLE other USING fts5(a)",
        "INSERT": "INSERT INTO singer VALUES ('Di', 20)",
        "UPDATE": "UPDATE singer SET age = 1",
        "UPDATE of the schema": "UPDATE sqlite_master SET sql = ''",
        "DELETE": "DELETE FROM singer",
        "DROP": "DROP TABLE singer",
        "ALTER": "ALTER TABLE singer ADD COLUMN height",
        "BEGIN": "BEGIN EXCLUSIVE",
        "SAVEPOINT": "SAVEPOINT here",
        "ANALYZE": "ANALYZE",
        "several statements": "SELECT 1; SELECT 2",
        "a second statement that drops": f"{COUNT}; DROP TABLE singer",
        "load_extension": "SELECT load_extension('evil.so')",
        "LOAD_EXTENSION": "SELECT LOAD_EXTENSION('evil.so')",
        "fts3_tokenizer": "SELECT fts3_tokenizer('simple')",
    },
    "syntax error": {
        "NUL at the end": "SELECT 1\0",
        "NUL in a string": "SELECT '\0'",
        "a lone surrogate": "SELECT '\ud800'",
        "nothing but a lone surrogate": "\udcff",
    },
    "no such function": {
        "readfile": "SELECT readfile('secret.txt')",
        "writefile": "SELECT writefile('new.txt', 'x')",
    },
    "empty": {
        "nothing": "",
        "white space": " \n\t",
        "a comment": "-- nothing",
        "a semicolon": ";",
    },
}


@pytest.fixture(scope="module")
def good_db(tmp_path_factory):
    """A database that every good query of this file may ask."""
    script = "CREATE TABLE singer (name TEXT, age INT); INSERT INTO singer VALUES ('Ada', 30), ('Bo', 30), ('Cy', 41);"
    return make_database(tmp_path_factory.mktemp("good") / "good.sqlite", script)


@pytest.fixture(scope="module")
def sandbox():
    """One for all tests: whatever one of them does to it, the next must not notice."""
    with Sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def hasty_sandbox():
    """The same, for queries that never end."""
    with Sandbox(Limits(seconds=0.3)) as running:
        yield running


@pytest.fixture
def attack(sandbox, hasty_sandbox, good_db):
    """Run hostile SQL, or good SQL on a hostile file, and check what must hold whatever comes of it."""

    def run(database, sql, *, endless=False):
        used = hasty_sandbox if endless else sandbox
        assert used.execute(good_db, COUNT).rows == ((3,),)  # a worker is ready
        before = contents(database.parent)
        begin = time.monotonic()
        result = used.execute(database, sql)
        seconds = time.monotonic() - begin
        assert seconds < 2 * used.limits.seconds, "it ends in time"
        assert contents(database.parent) == before, "the file stays as it is, and alone"
        assert used.execute(good_db, COUNT).rows == ((3,),), "the next query gets its answer"
        assert result.ok or (result.rows == () and result.error), "an outcome other than ok comes with its reason, without rows"
        return result

    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def workers():
    return psutil.Process().children()


# Hostile SQL


@pytest.mark.parametrize(
    ("outcome", "sql"),
    [pytest.param(outcome, sql, id=name) for outcome, some in HOSTILE.items() for name, sql in some.items()],
)
def test_hostile_sql_costs_an_outcome_and_nothing_else(attack, concert_db, monkeypatch, outcome, sql):
    monkeypatch.chdir(concert_db.parent)  # where a file without a folder would be written
    assert attack(concert_db, sql, endless=outcome == "timeout").outcome == outcome


@pytest.mark.parametrize("sql", ["SELECT printf('%2000000000d', 1)", "SELECT printf('%.*c', 2000000000, 'x')"])
def test_gigabytes_of_printf_are_never_made(attack, concert_db, sql):
    """SQLite's versions differ in whether that is NULL or an error, and in how soon they see it."""
    result = attack(concert_db, sql, endless=True)
    assert result.outcome in ("too large", "timeout") or result.rows == ((None,),)


def test_a_database_cannot_bring_a_view_that_loads_code(attack, tmp_path):
    database = make_database(tmp_path / "trap.sqlite", "CREATE VIEW trap AS SELECT load_extension('evil.so') AS a")
    assert attack(database, "SELECT * FROM trap").outcome == "refused"


@settings(deadline=None, max_examples=100)
@given(sql=st.text(st.characters(), max_size=60) | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_no_text_at_all_raises_or_stops_the_sandbox(sandbox, good_db, sql):
    before = good_db.read_bytes()
    result = sandbox.execute(good_db, sql)
    assert result.outcome in KNOWN_OUTCOMES
    assert sandbox.execute(good_db, COUNT).rows == ((3,),)
    assert good_db.read_bytes() == before


# Hostile files


def test_a_corrupt_file_is_an_unreadable_database(attack, concert_db):
    script = "CREATE TABLE big (a); INSERT INTO big VALUES " + ", ".join([f"('{'x' * 500}')"] * 100)
    whole = make_database(concert_db, script).read_bytes()
    concert_db.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    assert attack(concert_db, "SELECT max(a) FROM big").outcome == "unreadable database"
    concert_db.write_bytes(whole[:8192])
    assert attack(concert_db, "SELECT max(a) FROM big").outcome == "unreadable database"


def test_a_file_that_is_no_database_is_an_unreadable_database(attack, tmp_path):
    (tmp_path / "notes.sqlite").write_text("These are notes, not tables.\n" * 1000, encoding="utf-8")
    assert attack(tmp_path / "notes.sqlite", COUNT).outcome == "unreadable database"


def test_an_empty_file_has_no_tables(attack, tmp_path):
    (tmp_path / "empty.sqlite").touch()
    assert attack(tmp_path / "empty.sqlite", COUNT).outcome == "no such table"


@settings(deadline=None, max_examples=60)
@given(damage=st.lists(st.tuples(st.integers(0, 8191), st.binary(min_size=1, max_size=40)), min_size=1, max_size=5))
def test_no_damage_to_a_file_stops_the_sandbox(sandbox, good_db, damage):
    damaged = good_db.with_name("damaged.sqlite")
    content = bytearray(good_db.read_bytes())
    for place, junk in damage:
        content[place : place + len(junk)] = junk
    damaged.write_bytes(content)

    result = sandbox.execute(damaged, "SELECT * FROM singer ORDER BY age")

    assert result.outcome in KNOWN_OUTCOMES
    assert damaged.read_bytes() == content
    assert sandbox.execute(good_db, COUNT).rows == ((3,),)


@pytest.mark.parametrize("name", ["a b", "what?", "no#1", "100%", "a%20b", "x?mode=rwc&y", "été 名", "it's"])
def test_a_path_with_signs_of_a_uri_is_just_a_path(attack, tmp_path, name):
    folder = tmp_path / name.replace("?", "_") if os.name == "nt" else tmp_path / name
    database = make_database(folder / f"{folder.name}.sqlite", "CREATE TABLE singer (name); INSERT INTO singer VALUES ('Ada')")
    assert attack(database, "SELECT name FROM singer").rows == (("Ada",),)


def test_a_database_in_wal_mode_is_read_without_a_file_beside_it(attack, concert_db):
    with closing(sqlite3.connect(concert_db)) as connection:
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    assert [path.name for path in concert_db.parent.iterdir()] == ["concert.sqlite"]
    assert attack(concert_db, COUNT).rows == ((3,),)


def test_a_database_that_another_program_is_writing_is_left_alone(attack, concert_db):
    with closing(sqlite3.connect(concert_db, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO singer VALUES ('Di', 20)")
        assert attack(concert_db, COUNT).rows == ((3,),)
        writer.execute("COMMIT")
        assert writer.execute(COUNT).fetchone() == (4,)


@pytest.mark.parametrize("name", ["missing.sqlite", "."])
def test_a_database_that_is_not_there_is_the_callers_mistake(sandbox, tmp_path, name):
    with pytest.raises(FileNotFoundError, match="no database"):
        sandbox.execute(tmp_path / name, "SELECT 1")
    assert list(tmp_path.iterdir()) == []


# Results


def test_a_result_has_names_and_values_of_every_type(sandbox, concert_db):
    result = sandbox.execute(concert_db, "SELECT 1 AS a, 2.5 AS b, 'é' AS a, x'00ff' AS \"c d\", NULL AS e;  -- done")
    assert result.ok and result.error is None
    assert result.columns == ("a", "b", "a", "c d", "e")
    assert result.rows == ((1, 2.5, "é", b"\x00\xff", None),)


def test_a_result_without_rows_still_has_its_columns(sandbox, concert_db):
    result = sandbox.execute(concert_db, "SELECT name, age FROM singer WHERE age > 99")
    assert (result.outcome, result.columns, result.rows) == ("ok", ("name", "age"), ())


def test_text_that_is_not_utf8_is_read_with_replacement_signs(sandbox, tmp_path):
    script = "CREATE TABLE player (name TEXT); INSERT INTO player VALUES (CAST(x'4d61ff72' AS TEXT))"
    database = make_database(tmp_path / "player.sqlite", script)
    assert sandbox.execute(database, "SELECT name FROM player").rows == (("Ma\ufffdr",),)


@pytest.mark.parametrize(
    ("sql", "outcome"),
    [
        ("SELECT * FROM band", "no such table"),
        ("SELECT height FROM singer", "no such column"),
        ("SELECT a.height FROM singer AS a", "no such column"),
        ("SELECT name FROM singer AS a JOIN singer AS b", "ambiguous column"),
        ("SELECT year(age) FROM singer", "no such function"),
        ("SELECT substr(name) FROM singer", "no such function"),
        ("SELECT name FORM singer", "syntax error"),
        ("SELECT name FROM singer WHERE (age", "syntax error"),
        ("SELECT name FROM singer WHERE name = 'Ada", "syntax error"),
        ("SELECT name FROM singer WHERE count(*) > 1", "syntax error"),
        ("SELECT name FROM singer UNION SELECT name, age FROM singer", "error"),
        ("SELECT abs(-9223372036854775808)", "error"),
        ("SELECT json('[')", "error"),
        ("SELECT ?", "error"),
    ],
)
def test_a_wrong_query_is_called_by_what_is_wrong_with_it(sandbox, concert_db, sql, outcome):
    result = sandbox.execute(concert_db, sql)
    assert (result.outcome, result.rows) == (outcome, ())
    assert result.error


def test_rows_beyond_the_limit_are_too_large_and_not_cut(concert_db):
    with Sandbox(Limits(rows=100)) as sandbox:
        assert len(sandbox.execute(concert_db, f"{BOUNDED.format(100)} SELECT i FROM n").rows) == 100
        result = sandbox.execute(concert_db, f"{BOUNDED.format(101)} SELECT i FROM n")
    assert (result.outcome, result.rows) == ("too large", ())


def test_bytes_beyond_the_limit_are_too_large_in_one_value_or_many(concert_db):
    with Sandbox(Limits(bytes=10_000)) as sandbox:
        assert sandbox.execute(concert_db, "SELECT zeroblob(9000)").rows == ((bytes(9000),),)
        assert sandbox.execute(concert_db, "SELECT zeroblob(10001)").outcome == "too large"
        assert sandbox.execute(concert_db, "SELECT zeroblob(4000), zeroblob(4000), zeroblob(4000)").outcome == "too large"
        assert sandbox.execute(concert_db, f"{BOUNDED.format(30)} SELECT zeroblob(500) FROM n").outcome == "too large"


def test_sql_of_the_longest_length_runs_even_in_four_byte_characters(concert_db):
    with Sandbox(Limits(sql_characters=1_000)) as sandbox:
        text = "🎵" * (1_000 - len("SELECT ''"))
        assert sandbox.execute(concert_db, f"SELECT '{text}'").rows == ((text,),)
        assert sandbox.execute(concert_db, f"SELECT '{text}x'").outcome == "too large"


# The worker


def test_one_worker_serves_many_queries_and_ends_with_the_block(concert_db):
    others = set(workers())
    with Sandbox() as sandbox:
        first = sandbox.execute(concert_db, COUNT)
        mine = set(workers()) - others
        assert sandbox.execute(concert_db, COUNT).rows == first.rows == ((3,),)
        assert set(workers()) - others == mine and len(mine) == 1
    assert set(workers()) <= others


def test_a_worker_that_is_killed_between_queries_costs_the_next_one_nothing(concert_db):
    others = set(workers())
    with Sandbox() as sandbox:
        sandbox.execute(concert_db, COUNT)
        (worker,) = set(workers()) - others
        worker.kill()
        worker.wait(5)
        assert sandbox.execute(concert_db, COUNT).rows == ((3,),)


def test_a_worker_that_is_killed_at_work_is_replaced(concert_db):
    others = set(workers())
    with Sandbox(Limits(seconds=20)) as sandbox:
        sandbox.execute(concert_db, COUNT)
        (worker,) = set(workers()) - others
        threading.Timer(0.2, worker.kill).start()
        result = sandbox.execute(concert_db, f"{ENDLESS} SELECT count(*) FROM n")
        assert (result.outcome, result.rows) == ("too large", ())  # the usual reason: the system was out of memory
        assert sandbox.execute(concert_db, COUNT).rows == ((3,),)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_an_answer_that_nobody_waited_for_does_not_go_to_the_next_query(concert_db):
    """A notebook's stop button interrupts the wait, and the sandbox lives on in a variable."""

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with Sandbox() as sandbox:
            sandbox.execute(concert_db, COUNT)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                sandbox.execute(concert_db, f"{ENDLESS} SELECT count(*) FROM n")
            assert sandbox.execute(concert_db, COUNT).rows == ((3,),)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_closed_sandbox_may_be_used_again(concert_db):
    sandbox = Sandbox()
    sandbox.close()
    assert sandbox.execute(concert_db, COUNT).ok
    sandbox.close()
    sandbox.close()


def test_modules_in_the_working_folder_do_not_reach_the_worker(concert_db, tmp_path, monkeypatch):
    for name in ("pickle", "sqlite3", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Sandbox() as sandbox:
        assert sandbox.execute(concert_db, COUNT).rows == ((3,),)


def run_script(folder, text, *arguments):
    """What a user's script prints that lies outside the repository and has no `if __name__ == "__main__"`."""
    script = folder / "script.py"
    script.write_text(text, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, env=environment, cwd=folder, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_a_script_without_a_main_guard_runs_once(tmp_path, concert_db):
    script = """\
import sys
from pathlib import Path
from helpers.databases.sandbox import Sandbox
print("started")
sandbox = Sandbox()
print(sandbox.execute(Path(sys.argv[1]), "SELECT count(*) FROM singer").rows)
"""
    assert run_script(tmp_path, script, concert_db) == ["started", "((3,),)"]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows have no such limit")
def test_no_query_takes_more_memory_than_twice_the_limit(tmp_path, concert_db):
    hogs = [
        HOSTILE["too large"]["many large values"],
        HOSTILE["too large"]["a string that doubles"],
        HOSTILE["too large"]["a gigabyte of column names"],
        HOSTILE["timeout"]["endless group_concat"],
        f"{ENDLESS} SELECT i, hex(zeroblob(2000)) FROM n ORDER BY random()",
        f"{ENDLESS} SELECT {', '.join(2000 * ['NULL'])} FROM n",
        f"{ENDLESS} SELECT {', '.join(2000 * [chr(39) * 2])} FROM n",  # empty strings: no bytes, but a place each
    ]
    script = f"""\
import resource, sys
from pathlib import Path
from helpers.databases import sandbox as sandbox_module
from helpers.databases.sandbox import MIB, Limits, Result, Sandbox, from_json
with Sandbox(Limits(seconds=0.7, memory=100 * MIB)) as sandbox:
    print([sandbox.execute(Path(sys.argv[1]), sql).ok for sql in {hogs!r}])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""
    ran, mebibytes = run_script(tmp_path, script, concert_db)
    assert "True" not in ran
    assert int(mebibytes) <= 200


# Virtual tables


@pytest.mark.parametrize(
    ("create", "row", "query"),
    [
        ("fts5(body)", "('hello world')", "SELECT body FROM found WHERE found MATCH 'hello'"),
        ("fts4(body)", "('hello world')", "SELECT body FROM found WHERE found MATCH 'hello'"),
        ("rtree(id, low, high)", "(1, 2, 3)", "SELECT id FROM found WHERE low > 1"),
    ],
)
def test_a_virtual_table_of_the_file_can_be_read_and_none_be_made(tmp_path, create, row, query):
    script = f"CREATE VIRTUAL TABLE found USING {create}; INSERT INTO found VALUES {row};"
    database = make_database(tmp_path / "found.sqlite", script)
    before = database.read_bytes()
    with Sandbox() as sandbox:
        assert len(sandbox.execute(database, query).rows) == 1
        for refused in (f"CREATE VIRTUAL TABLE more USING {create}", "DELETE FROM found", "PRAGMA page_size", "DROP TABLE found"):
            assert sandbox.execute(database, refused).outcome == "refused"
    assert database.read_bytes() == before


# What the worker is, and what becomes of it


@pytest.mark.parametrize("before", ["", "  ", ";", "\ufeff", "-- a comment\n", "/* EXPLAIN */", "/**/-- x\n;"])
@pytest.mark.parametrize("explain", ["EXPLAIN", "explain query plan"])
def test_explain_is_no_answer(sandbox, good_db, before, explain):
    result = sandbox.execute(good_db, f"{before}{explain} {COUNT}")
    assert (result.outcome, result.rows) == ("refused", ())


def test_a_long_comment_before_nothing_is_read_in_no_time(sandbox, good_db):
    begin = time.monotonic()
    sandbox.execute(good_db, "--" * 40_000 + "x")
    assert time.monotonic() - begin < 2


def test_virtual_tables_of_sqlite_work_and_others_say_that_they_are_not_there(sandbox, good_db):
    assert sandbox.execute(good_db, "SELECT value FROM json_each('[1, 2]')").rows == ((1,), (2,))
    assert len(sandbox.execute(good_db, "SELECT * FROM json_tree('[1, [2]]')").rows) == 4
    assert sandbox.execute(good_db, "SELECT * FROM dbstat").outcome in ("refused", "no such table")
    assert sandbox.execute(good_db, "SELECT * FROM generate_series(1, 3)").outcome in ("refused", "no such table")


ORPHAN = """\
import sys
from pathlib import Path
from helpers.databases.sandbox import Limits, Sandbox
sandbox = Sandbox(Limits(seconds=60))
sandbox.execute(Path(sys.argv[1]), "SELECT 1")
print(sandbox._worker.process.pid, flush=True)
sandbox.execute(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("sql", [HOSTILE["timeout"]["one step: LIKE"], HOSTILE["timeout"]["endless recursion"]])
def test_a_worker_whose_parent_is_killed_ends_itself(good_db, sql):
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, str(good_db), sql], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    worker = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.3)
    parent.kill()
    parent.communicate()
    worker.wait(5)  # raises where it still runs
    assert not worker.is_running()


@pytest.mark.parametrize(
    ("program", "why"),
    [("import sys; sys.exit(3)", "code 3"), ("print('hello')", "code"), ("raise OSError('no room')", "no room"), ("import time; time.sleep(60)", "not ready after 1 s")],
)  # fmt: skip
def test_a_worker_that_does_not_start_ends_in_words(good_db, monkeypatch, program, why):
    monkeypatch.setattr(sandbox_module, "WORKER", program)
    monkeypatch.setattr(sandbox_module, "START_SECONDS", 1.0)
    with Sandbox() as sandbox, pytest.raises(sandbox_module.NoWorker, match=f"cannot be started: .*{why}"):
        sandbox.execute(good_db, COUNT)


def test_a_python_that_is_not_there_is_said(good_db, monkeypatch):
    monkeypatch.setattr(sandbox_module.sys, "executable", "/no/such/python")
    with Sandbox() as sandbox, pytest.raises(sandbox_module.NoWorker, match="No such file"):
        sandbox.execute(good_db, COUNT)


@pytest.mark.parametrize("line", ["nonsense", "{}", '{"outcome": "ok"}', '{"columns": 5, "outcome": "ok"}', "[[1]]", "5"])
def test_a_worker_that_talks_nonsense_costs_an_outcome(good_db, monkeypatch, line):
    program = (
        f"import sys; sys.stdin.readline(); print('\"ready\"', flush=True); sys.stdin.readline(); print({line!r}, flush=True)"
    )
    monkeypatch.setattr(sandbox_module, "WORKER", program)
    with Sandbox() as sandbox:
        result = sandbox.execute(good_db, COUNT)
    assert (result.outcome, result.rows) == ("too large", ())


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.binary())), max_size=5))  # fmt: skip
def test_a_result_as_json_is_the_same_result(rows):
    result = Result(outcome="ok", columns=("a",), rows=tuple(rows), seconds=0.5)
    assert from_json(result.as_json()) == result
