"""The commands judge, compare and neighbours."""

import json

import matplotlib
import pytest
from conftest import command, make_database

from helpers.cli.exit import DONE, REFUSED
from helpers.databases import schema
from helpers.judge.verdicts import NO_ROWS, WRONG_ON_A_COPY

matplotlib.use("Agg")


# ---- judge


@pytest.fixture
def judged(tmp_path, concert_db, monkeypatch):
    """Two questions about the concert database, one answered rightly."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))  # results of gold are kept there
    folder = tmp_path / "databases" / "concert"
    folder.mkdir(parents=True)
    concert_db.rename(folder / "concert.sqlite")
    (tmp_path / "gold.txt").write_text(
        "SELECT name FROM singer\tconcert\nSELECT max(age) FROM singer\tconcert\n", encoding="utf-8"
    )
    (tmp_path / "pred.txt").write_text("SELECT name FROM singer\n\n", encoding="utf-8")
    return tmp_path


def refused(answer, words):
    """Whether a command was refused in one line that holds these words."""
    code, printed, error = answer
    line = error.removesuffix("\n")
    return code == REFUSED and not printed and line.startswith("Refused: ") and "\n" not in line and words in line


def files(folder, **changed):
    """The options of `judge`, some changed."""
    options = {
        name: folder / file
        for name, file in (("gold", "gold.txt"), ("pred", "pred.txt"), ("db", "databases"), ("out", "out.json"))
    }
    return [part for name, value in (options | changed).items() for part in (f"--{name}", value)]


def judge(folder, *more):
    return command("judge", *files(folder), *more)


def written_verdicts(folder):
    return json.loads((folder / "out.json").read_text(encoding="utf-8"))


def test_the_judge_writes_one_verdict_a_line(judged):
    done = judge(judged)
    assert done.returncode == 0, done.stderr
    verdicts = written_verdicts(judged)
    assert [one["exec"] for one in verdicts] == [1, 0]
    assert [one["exact"] for one in verdicts] == [1, 0]
    assert [one["outcome"] for one in verdicts] == ["correct", "empty"]
    assert set(verdicts[0]) == {"exec", "exact", "hardness", "outcome", "error", "note"}


def test_the_judge_prints_scores_outcomes_and_what_is_weak(judged, call):
    (judged / "gold.txt").write_text("SELECT name FROM singer WHERE age > 99\tconcert\nSELECT 1\tconcert\n", encoding="utf-8")
    code, printed, _ = call("judge", *files(judged))
    assert code == DONE
    assert "EX %" in printed and "EM %" in printed
    assert "1  empty" in printed
    assert f"1 question: {NO_ROWS} (0)" in printed
    assert f"Verdicts: {judged / 'out.json'}" in printed


def test_with_official_quirks_the_judge_makes_the_official_mistakes(judged, call):
    (judged / "pred.txt").write_text(
        "SELECT name FROM singer; nonsense\nSELECT DISTINCT max(age) FROM singer\n", encoding="utf-8"
    )
    (judged / "gold.txt").write_text(
        "SELECT DISTINCT name FROM singer\tconcert\nSELECT max(age) FROM singer\tconcert\n", encoding="utf-8"
    )
    assert call("judge", *files(judged))[0] == DONE
    assert [(one["exec"], one["exact"]) for one in written_verdicts(judged)] == [(1, 0), (1, 0)]
    assert call("judge", *files(judged), "--official-quirks")[0] == DONE
    assert [(one["exec"], one["exact"]) for one in written_verdicts(judged)] == [(1, 1), (1, 1)]


def test_the_judge_reads_predictions_from_json_by_their_name(judged, call):
    rows = [{"sql": "SELECT 1", "answer": "```sql\nSELECT name FROM singer\n```"}, {"sql": "SELECT 1", "answer": None}]
    for name, text in (("pred.json", json.dumps(rows)), ("pred.jsonl", "\n".join(map(json.dumps, rows)))):
        (judged / name).write_text(text, encoding="utf-8")
        assert call("judge", *files(judged, pred=judged / name), "--field", "answer")[0] == DONE
        assert [one["outcome"] for one in written_verdicts(judged)] == ["correct", "empty"]
        assert call("judge", *files(judged, pred=judged / name))[0] == DONE
        assert [one["outcome"] for one in written_verdicts(judged)] == ["wrong result", "wrong result"]


def test_the_judge_takes_foreign_keys_from_tables_json(judged, call):
    path = judged / "databases" / "concert" / "concert.sqlite"
    make_database(path, "CREATE TABLE song (by TEXT); INSERT INTO song VALUES ('Ada')")
    entry = schema.read(path).as_spider() | {"foreign_keys": [[3, 1]]}
    (judged / "tables.json").write_text(json.dumps([entry]), encoding="utf-8")
    join = "FROM singer JOIN song ON singer.name = song.by"
    (judged / "gold.txt").write_text(f"SELECT name {join}\tconcert\n", encoding="utf-8")
    (judged / "pred.txt").write_text(f"SELECT by {join}\n", encoding="utf-8")
    exact = []
    for more in ([], ["--tables", judged / "tables.json"]):
        assert call("judge", *files(judged), *more, "--official-quirks")[0] == DONE
        exact += [one["exact"] for one in written_verdicts(judged)]
    assert exact == [0, 1]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("pred.txt", "SELECT 1\n", "there must be one a question"),
        ("gold.txt", "SELECT name FROM singer concert\nSELECT 1\tconcert\n", "line 1: expected SQL, a tab and a db_id"),
        ("gold.txt", "SELECT 1\tconcert\nSELECT 1\tnowhere\n", "no database for nowhere"),
        ("gold.txt", None, "cannot be read"),
    ],
)
def test_bad_files_are_refused_by_name(judged, file, content, message):
    if content is None:
        (judged / file).unlink()
    else:
        (judged / file).write_text(content, encoding="utf-8")
    done = judge(judged)
    assert done.returncode == REFUSED
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.startswith("Refused: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"db": "nowhere"}, "is not a folder"),
        ({"db": "gold.txt"}, "is not a folder"),
        ({"out": "databases"}, "is no regular file: name a file"),
        ({"gold": "nowhere.json"}, "nowhere.json"),
        ({"pred": "nowhere.txt"}, "nowhere.txt cannot be read"),
        ({"pred": "bad.json"}, "bad.json, entry 1: expected SQL as text, found '5'"),
        ({"field": "answer"}, "--field names a prediction in .json and .jsonl files"),
        ({"tables": "bad.json"}, "bad.json cannot be read as Spider's tables.json"),
        ({"gold": "empty.txt", "pred": "empty.txt"}, "empty.txt"),
    ],
    ids=str,
)
def test_what_the_judge_cannot_use_is_refused_in_one_line(judged, call, changed, words):
    (judged / "bad.json").write_text('["SELECT 1", 5]', encoding="utf-8")
    (judged / "empty.txt").touch()
    paths = {name: value if name == "field" else judged / value for name, value in changed.items()}
    assert refused(call("judge", *files(judged, **paths)), words)
    assert not (judged / "out.json").exists()


# ---- compare


def compare(folder, *more):
    return ["compare", "--gold", folder / "gold.txt", "--db", folder / "databases", *more]


@pytest.fixture
def better(judged):
    """The answers of a second system, which knows both."""
    path = judged / "better.txt"
    path.write_text("SELECT name FROM singer\nSELECT age FROM singer ORDER BY age DESC LIMIT 1\n", encoding="utf-8")
    return path


def test_two_systems_are_compared_by_kind_of_question_with_what_flipped(judged, better, call):
    code, printed, _ = call(*compare(judged, judged / "pred.txt", better))
    assert code == DONE
    for title in ("By hardness:", "By SQL feature:", "By database:", "By outcome:", "EX % pred", "EM % better", "concert"):
        assert title in printed
    assert "better minus pred: +50.0 points of EX" in printed and "McNemar's p = 1" in printed
    assert "Right in better alone, by number: 1\nRight in pred alone, by number: none" in printed


def test_two_files_of_one_name_are_told_apart(judged, better, call):
    (judged / "second").mkdir()
    second = better.rename(judged / "second" / "pred.txt")
    code, printed, _ = call(*compare(judged, judged / "pred.txt", second))
    assert code == DONE
    assert "EX % A" in printed and "EX % B" in printed
    assert "B minus A: +50.0" in printed and "Right in B alone, by number: 1" in printed


def test_a_comparison_is_drawn_where_a_plot_is_asked_for(judged, better, call):
    code, printed, _ = call(*compare(judged, judged / "pred.txt", better, "--plot", judged / "plots" / "both.png"))
    assert code == DONE
    assert f"Plot: {judged / 'plots' / 'both.png'}" in printed
    assert (judged / "plots" / "both.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("first", [True, False])
def test_a_comparison_of_files_of_different_length_is_refused(judged, better, call, first):
    short = judged / "short.txt"
    short.write_text("SELECT 1\n", encoding="utf-8")
    pair = (short, better) if first else (better, short)
    code, printed, error = call(*compare(judged, *pair))
    assert (code, printed) == (REFUSED, "")
    assert error.splitlines()[-1].startswith("Refused: ") and "short.txt 1 predictions: there must be one a question" in error


def test_a_plot_that_cannot_be_written_is_refused_in_words(judged, better, call):
    code, _, error = call(*compare(judged, judged / "pred.txt", better, "--plot", judged / "databases"))
    assert code == REFUSED
    assert error.splitlines()[-1].startswith("Refused: ") and "databases" in error


# ---- neighbours


def test_neighbours_are_a_folder_that_the_judge_reads(judged, call):
    make_database(
        judged / "databases" / "concert" / "concert.sqlite",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50) INSERT INTO singer SELECT 'x' || i, i FROM n",
    )
    (judged / "gold.txt").write_text("SELECT count(*) FROM singer\tconcert\nSELECT name FROM singer\tconcert\n", encoding="utf-8")
    (judged / "pred.txt").write_text("SELECT 53\nSELECT name FROM singer\n", encoding="utf-8")
    code, printed, _ = call("neighbours", "--db", judged / "databases", "--out", judged / "copies")
    assert code == DONE
    assert str(judged / "copies") in printed and "without copies" not in printed

    code, printed, _ = call("judge", *files(judged, db=judged / "copies"))

    assert code == DONE
    assert [one["outcome"] for one in written_verdicts(judged)] == [WRONG_ON_A_COPY, "correct"]
    assert "on altered copies as well 50.0" in printed
    assert call("judge", *files(judged))[0] == DONE
    assert [one["outcome"] for one in written_verdicts(judged)] == ["correct", "correct"]


def test_neighbours_are_made_of_what_gold_asks_about(judged, call):
    make_database(judged / "databases" / "zoo" / "zoo.sqlite", "CREATE TABLE animal (name)")
    asked = ["neighbours", "--db", judged / "databases", "--gold", judged / "gold.txt", "--out", judged / "copies"]
    assert call(*asked)[0] == DONE
    assert [path.name for path in (judged / "copies").iterdir()] == ["concert"]


def test_neighbours_overwrite_nothing(judged, call):
    (judged / "copies").mkdir()
    assert refused(call("neighbours", "--db", judged / "databases", "--out", judged / "copies"), "exists: name a new folder")
    assert list((judged / "copies").iterdir()) == []


def test_neighbours_of_no_database_are_refused(judged, call):
    gold = judged / "other.txt"
    gold.write_text("SELECT 1\tzoo\n", encoding="utf-8")
    for more, words in (
        (["--db", judged / "nowhere"], "is not a folder"),
        (["--db", judged / "cache"], "has no database"),
        (["--db", judged / "databases", "--gold", gold], "has no database zoo"),
    ):
        (judged / "cache").mkdir(exist_ok=True)
        assert refused(call("neighbours", "--out", judged / "copies", *more), words)
        assert not (judged / "copies").exists()


def test_a_database_that_cannot_be_read_is_named_and_has_no_neighbours(judged, call):
    broken = judged / "databases" / "broken" / "broken.sqlite"
    broken.parent.mkdir()
    broken.write_text("These are notes, not tables.\n" * 100, encoding="utf-8")
    code, printed, _ = call("neighbours", "--db", judged / "databases", "--out", judged / "copies")
    assert code == DONE
    assert f"without copies: {broken} cannot be read" in printed
    assert [path.name for path in (judged / "copies" / "broken").iterdir()] == ["broken.sqlite"]
    assert len(list((judged / "copies" / "concert").iterdir())) > 1
