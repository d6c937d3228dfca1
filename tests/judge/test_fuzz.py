"""Thousands of statements that nobody wrote, against the sandbox: each ends in time, within memory, and changes nothing."""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
from conftest import ROOT, make_database

from helpers.databases.sandbox import MIB, Limits, Sandbox
from helpers.databases.sandbox_worker import OUTCOMES

GIB = 1024 * MIB
SEED = 20_26
KNOWN_OUTCOMES = {"ok", "empty", "error", *(name for _, name in OUTCOMES)}
# A deadline as short as a loaded machine can keep; limits in the proportion of the usual ones.
LIMITS = Limits(seconds=0.4, rows=20_000, bytes=16 * MIB, memory=128 * MIB)

HUGE = [
    "0",
    "-1",
    "1e308",
    "9223372036854775807",
    "-9223372036854775808",
    "2000000000",
    "100000000",
    "1e6",
    "NULL",
    "0.1",
    "x'ff'",
]
TEXTS = [
    "''",
    "'a'",
    "'%'",
    "'it''s'",
    '"name"',
    "'é🎵'",
    "x'00ff'",
    "'\0'",
    "'{\"a\": [1, 2]}'",
    "'[['",
    "'%d%s%n'",
    "'now'",
    "'+9999 years'",
]
FUNCTIONS = """abs char coalesce glob hex ifnull iif instr last_insert_rowid length like likelihood load_extension lower ltrim max min
    nullif printf format quote random randomblob replace round rtrim sign soundex sqlite_version substr total_changes trim typeof
    unicode unixepoch upper zeroblob date time datetime julianday strftime json json_array json_extract json_object json_valid
    json_each json_quote count sum avg total group_concat row_number rank ntile lag nth_value ceil floor exp ln log pow sqrt acos
    readfile writefile edit fts3_tokenizer fts5 rtreecheck sqlite_compileoption_get changes unistr concat concat_ws octet_length
    generate_series sqlite_offset sqlite_log matchinfo snippet optimize zipfile sha3 eval"""
BINARY = "+ - * / % || = == <> < >= AND OR IS LIKE GLOB REGEXP MATCH IN & | << >> -> ->> , COLLATE ISNULL"
WORDS = """SELECT FROM WHERE GROUP BY HAVING ORDER LIMIT OFFSET UNION ALL EXCEPT INTERSECT JOIN LEFT NATURAL CROSS USING ON AS DISTINCT
    CASE WHEN THEN ELSE END NOT NULL EXISTS BETWEEN IN WITH RECURSIVE VALUES OVER PARTITION WINDOW FILTER CAST COLLATE RETURNING
    ( ) , ; . * = < ' " ` [ ] ? :a @b $c -- /* */ 1 0x1F 1e999 NaN rowid sqlite_master pragma_table_info('a') \0 \ud800 \ufeff"""
FORBIDDEN = """
    INSERT INTO {t} DEFAULT VALUES; UPDATE {t} SET {c} = NULL; DELETE FROM {t}; DROP TABLE {t}; ALTER TABLE {t} RENAME TO gone;
    REPLACE INTO {t} SELECT * FROM {t}; CREATE TABLE new AS SELECT * FROM {t}; CREATE INDEX i ON {t} ({c}); REINDEX; ANALYZE; VACUUM;
    VACUUM INTO 'copy.sqlite'; ATTACH 'new.sqlite' AS other; ATTACH ':memory:' AS other; DETACH main; BEGIN; COMMIT; ROLLBACK; SAVEPOINT a;
    PRAGMA journal_mode = WAL; PRAGMA user_version = 7; PRAGMA writable_schema = 1; PRAGMA hard_heap_limit = 0; PRAGMA query_only = 0;
    PRAGMA trusted_schema = 1; PRAGMA temp_store_directory = '.'; PRAGMA integrity_check; PRAGMA wal_checkpoint; PRAGMA table_info({t});
    CREATE TEMP TABLE new (a); CREATE TRIGGER g AFTER INSERT ON {t} BEGIN SELECT 1; CREATE VIRTUAL TABLE v USING fts5(a);
    UPDATE sqlite_master SET sql = 'x'; EXPLAIN SELECT * FROM {t}; EXPLAIN QUERY PLAN DELETE FROM {t}; SELECT load_extension('x');
    WITH a AS (SELECT 1) DELETE FROM {t}; INSERT INTO {t} SELECT * FROM {t} RETURNING *; SELECT * FROM pragma_database_list;
    SELECT * FROM dbstat; SELECT * FROM sqlite_dbpage; SELECT writefile('new.txt', 'x')"""
ENDLESS = [
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {e} FROM n",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i * 2 % 1000003 FROM n) SELECT max(i) FROM n a, n b, n c",
    "WITH RECURSIVE n(i) AS (SELECT 'x' UNION ALL SELECT i || i FROM n) SELECT length(i) FROM n",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, hex(zeroblob(9000)) FROM n ORDER BY random()",
    "SELECT count(*) FROM {t} a, {t} b, {t} c, {t} d, {t} e, {t} f",
    "SELECT group_concat(hex(randomblob(9999))) FROM {t} a, {t} b, {t} c",
    "SELECT hex(zeroblob(6000000)) LIKE '%{p}'",
    "SELECT hex(zeroblob(6000000)) GLOB '*{p}'",
    "SELECT length(replace(hex(zeroblob(6000000)), hex(zeroblob(2000)) || '1', 'x'))",
]


class Grammar:
    """Makes statements at random: good ones, bad ones, and good ones gone bad."""

    def __init__(self, seed, tables, golds):
        self.rng = random.Random(seed)
        self.tables = tables
        self.golds = golds

    def statement(self):
        kinds = (self.query, self.changed_gold, self.forbidden, self.several, self.words, self.bytes, self.deep, self.endless)
        return self.rng.choices(kinds, weights=(30, 30, 12, 6, 8, 6, 6, 2))[0]()

    def table(self):
        return self.rng.choice([*self.tables, "sqlite_master", "gone"])

    def column(self):
        return self.rng.choice([*(column for columns in self.tables.values() for column in columns), "*", "rowid", "gone"])

    def expression(self, depth=0):
        kind = self.rng.random()
        if depth > 4 or kind < 0.3:
            return self.rng.choice([self.column(), self.rng.choice(HUGE), self.rng.choice(TEXTS)])
        if kind < 0.6:
            some = ", ".join(self.expression(depth + 1) for _ in range(self.rng.randrange(4)))
            return f"{self.rng.choice(FUNCTIONS.split())}({self.rng.choice(['', '', '', 'DISTINCT '])}{some})"
        if kind < 0.8:
            return f"({self.expression(depth + 1)} {self.rng.choice(BINARY.split())} {self.expression(depth + 1)})"
        if kind < 0.87:
            return f"CASE WHEN {self.expression(depth + 1)} THEN {self.expression(depth + 1)} END"
        if kind < 0.93:
            return f"CAST({self.expression(depth + 1)} AS {self.rng.choice(['INT', 'TEXT', 'BLOB', 'REAL', 'x(1,2)'])})"
        return f"({self.query(depth + 2)})"

    def query(self, depth=0):
        parts = ["SELECT", ", ".join(self.expression(depth + 1) for _ in range(self.rng.randrange(1, 4)))]
        if self.rng.random() < 0.9:
            join = self.rng.choice([" JOIN ", ", ", " LEFT JOIN ", " NATURAL JOIN ", " CROSS JOIN "])
            parts.append("FROM " + join.join(self.table() for _ in range(self.rng.choice([1, 1, 1, 2, 3]))))
            for word, chance in (("WHERE", 0.5), ("GROUP BY", 0.2), ("HAVING", 0.1), ("ORDER BY", 0.3), ("LIMIT", 0.3)):
                if self.rng.random() < chance:
                    parts.append(f"{word} {self.expression(depth + 1)}")
        if depth < 2 and self.rng.random() < 0.1:
            parts.append(self.rng.choice(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]) + " " + self.query(depth + 2))
        return " ".join(parts)

    def changed_gold(self):
        words = self.rng.choice(self.golds).split()
        for _ in range(self.rng.randrange(4)):
            place = self.rng.randrange(len(words))
            change = self.rng.randrange(4)
            if change == 0:
                words[place] = self.rng.choice([self.expression(3), self.rng.choice(WORDS.split())])
            elif change == 1 and len(words) > 1:
                del words[place]
            elif change == 2:
                words.insert(place, self.rng.choice(self.golds).split()[-1])
            else:
                words[place] = "".join(self.rng.sample(words[place], len(words[place])))
        return " ".join(words)

    def filled(self, text):
        table = self.rng.choice(list(self.tables))
        filled = {"{t}": table, "{c}": self.tables[table][0], "{e}": self.expression(3), "{p}": "0" * 900 + "1"}
        for mark, value in filled.items():
            text = text.replace(mark, value)
        return text.strip()

    def forbidden(self):
        return self.filled(self.rng.choice(FORBIDDEN.split(";")))

    def endless(self):
        return self.filled(self.rng.choice(ENDLESS))

    def several(self):
        return self.rng.choice(["; ", ";\0", ";--\n", " ; /* */ "]).join(
            [self.rng.choice(self.golds), self.forbidden(), self.query()]
        )

    def words(self):
        return " ".join(self.rng.choice(WORDS.split()) for _ in range(self.rng.randrange(30)))

    def bytes(self):
        junk = self.rng.randbytes(self.rng.randrange(1, 200)).decode(
            *self.rng.choice([("latin-1",), ("utf-8", "surrogateescape")])
        )
        return self.rng.choice(["", "SELECT ", "SELECT '", self.rng.choice(self.golds) + " "]) + junk

    def deep(self):
        number = self.rng.choice([10, 100, 199, 500, 3000, 20_000])
        before, after = self.rng.choice(
            [("(", ")"), ("abs(", ")"), ("NOT ", ""), ("- ", ""), ("1 + ", ""), ("SELECT * FROM (", ")"), ("CASE WHEN 1 THEN ", " END"),
             ("SELECT 1 UNION ALL ", ""), ("1, ", ""), ("hex(", ")"), ("EXISTS (SELECT ", ")"), ("'%' || ", "")]
        )  # fmt: skip
        return f"SELECT {before * number}1{after * number}"


def peak(process):
    """The most memory that a process has held so far, in bytes; what it holds now where the system does not say."""
    try:
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def digest(database):
    return hashlib.sha256(database.read_bytes()).hexdigest(), sorted(path.name for path in database.parent.iterdir())


def fuzz(grammars, databases, count, monkeypatch):
    """Run `count` statements and check each; gives figures."""
    outcomes, slowest, memory, workers = Counter(), (0.0, ""), 0, set()
    before = {db_id: digest(path) for db_id, path in databases.items()}
    mine, others = psutil.Process(), {child.pid for child in psutil.Process().children()}
    started = mine.memory_info().rss
    chooser = random.Random(SEED)
    with Sandbox(LIMITS) as sandbox:
        for _ in range(count):
            db_id = chooser.choice(sorted(databases))
            monkeypatch.chdir(databases[db_id].parent)  # where a file without a folder would be written
            sql = grammars[db_id].statement()
            begin = time.monotonic()
            result = sandbox.execute(databases[db_id], sql)
            seconds = time.monotonic() - begin
            assert result.outcome in KNOWN_OUTCOMES, sql
            assert result.ok or (result.rows == () and result.error), sql
            assert seconds < 2 * LIMITS.seconds, sql
            assert digest(databases[db_id]) == before[db_id], sql
            running = [child for child in mine.children() if child.pid not in others]
            workers |= {child.pid for child in running}
            memory = max(memory, mine.memory_info().rss - started + sum(map(peak, running)))
            outcomes[result.outcome] += 1
            slowest = max(slowest, (seconds, sql[:200]))
    assert memory < GIB
    return {"outcomes": dict(outcomes), "slowest": slowest, "memory MiB": memory // MIB, "workers": len(workers)}


@pytest.fixture
def fuzzed(sample, tmp_path):
    """Copies of three databases of the sample, and a grammar for each: to be called with a seed."""
    chosen = {db_id: sample.databases[db_id] for db_id in sorted(sample.databases)[:3]}
    databases = {}
    for db_id, path in chosen.items():
        databases[db_id] = tmp_path / db_id / path.name
        databases[db_id].parent.mkdir()
        shutil.copyfile(path, databases[db_id])

    def grammars(seed):
        from helpers.databases import schema

        return {
            db_id: Grammar(
                f"{seed} {db_id}",
                {table.name: [column.name for column in table.columns] for table in schema.read(path).tables},
                [example.query for example in (*sample.train, *sample.dev) if example.db_id == db_id],
            )
            for db_id, path in databases.items()
        }

    return databases, grammars


def test_hundreds_of_statements_at_random_cost_nothing_but_an_outcome(fuzzed, monkeypatch):
    databases, grammars = fuzzed
    found = fuzz(grammars(SEED), databases, 200, monkeypatch)
    assert {"ok", "refused", "syntax error", "no such column"} <= set(found["outcomes"])


@pytest.mark.slow
def test_ten_thousand_statements_at_random_cost_nothing_but_an_outcome(fuzzed, monkeypatch):
    databases, grammars = fuzzed
    found = fuzz(grammars(time.time_ns() if os.environ.get("FUZZ_ANEW") else SEED + 1), databases, 10_000, monkeypatch)
    print(found)
    assert set(found["outcomes"]) >= {
        "ok",
        "refused",
        "syntax error",
        "timeout",
        "too large",
        "no such table",
        "no such function",
    }


ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {}) SELECT {} FROM n"
LARGEST = {
    "200,000 rows of several numbers": ROWS.format(200_000, "i, -i, i + 0.5, i + 1000, i * 3"),
    "as many as are kept between runs": ROWS.format(131_000, "i, -i, i * 7, i * 11, i * 13, i + 0.5, i * 1.5, i * 2.5"),
    "many columns": ROWS.format(30_000, ", ".join(f"i + {number}000" for number in range(50))),
    "short texts": ROWS.format(200_000, "'text ' || i, 'other ' || i, i"),
    "texts that grow in another encoding": ROWS.format(3_000, "i || replace(hex(zeroblob(2000)), '0', 'é')"),
    "one blob": "SELECT zeroblob(66000000)",
    "one text": "SELECT hex(zeroblob(33000000))",
    "NULLs": ROWS.format(60_000, ", ".join(["NULL"] * 40)),
    "hundreds of columns": ROWS.format(4_000, ", ".join(f"i + {number}000" for number in range(400))),
    "ordered rows": ROWS.format(100_000, "i AS a, -i AS b, i * 7 AS c") + " ORDER BY i / 2, a",
}
QUICK = ("texts that grow in another encoding", "one text")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say what a process held at most")
@pytest.mark.parametrize("names", [QUICK, pytest.param(tuple(LARGEST), marks=pytest.mark.slow)], ids=["quick", "all"])
def test_the_largest_results_that_are_allowed_fit_into_a_gibibyte(tmp_path, names):
    """Judge and worker together, gold and prediction both as large as they may be, several in a row."""
    database = make_database(tmp_path / "one.sqlite", "CREATE TABLE one (a); INSERT INTO one VALUES (1)")
    script = f"""\
import sys, threading, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import psutil
from helpers.judge import verdicts
def peak(pid):
    with open(f"/proc/{{pid}}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
workers = [0]
def watch():
    while True:
        for child in psutil.Process().children():
            try:
                workers[0] = max(workers[0], peak(child.pid))
            except (OSError, StopIteration):
                pass
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
some = {[LARGEST[name] for name in names]!r}
verdicts = verdicts.judge_all([(sql, "one") for sql in some], [sql + " " for sql in some], {{"one": Path(sys.argv[1])}}, progress="")
print([one.outcome for one in verdicts])
print(peak("self") // 1024, workers[0] // 1024)
"""
    command = [sys.executable, "-c", script, str(database)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"COURSE_CACHE": str(tmp_path / "cache")},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes, peaks = done.stdout.strip().split("\n")
    print(outcomes, peaks)
    assert outcomes == str(["correct"] * len(names))
    assert sum(map(int, peaks.split())) < 1024
