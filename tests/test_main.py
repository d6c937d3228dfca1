"""The command line: the course headless, its exit codes, and the judge on files: one system, two, and altered copies."""

import json
import os
import signal
import subprocess
import sys
import time

import matplotlib
import nbformat
import pytest
from conftest import make_database

from helpers import __main__ as cli
from helpers.databases import schema
from helpers.judge.verdicts import NO_ROWS, WRONG_ON_A_COPY
from helpers.run import machine
from helpers.run.folder import Run, find_runs

matplotlib.use("Agg")


def command(*arguments, **options):
    line = [sys.executable, "-m", "helpers", *map(str, arguments)]
    return subprocess.run(line, cwd=machine.ROOT, capture_output=True, text=True, **options)


# ---- run


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """One smoke run of the whole course, by the command that users call."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("course") / "run"
    packages = installed_packages()
    done = command("run", "--preset", "smoke", "--run-dir", folder, "-p", "eval_questions", "5")
    assert done.returncode == 0, done.stderr
    assert installed_packages() == packages, "the course installs nothing"
    return folder, done.stdout


def installed_packages():
    return subprocess.run([sys.executable, "-m", "pip", "freeze"], capture_output=True, text=True).stdout


def test_a_run_ends_with_scores_the_difference_and_the_report(course):
    folder, printed = course
    assert "before training" in printed and "after training" in printed
    assert "95 % interval" in printed
    assert f"Report: {folder / 'report.html'}" in printed


def test_a_run_leaves_what_the_design_promises(course):
    folder, _ = course
    expected = ["config.json", "record.json", "report.html", "data/train.jsonl", "data/dev.jsonl", "adapter/README.md", "adapter.zip",
                "training.jsonl", "evaluation/predictions.txt", "evaluation/verdicts.jsonl", "plots/scores.png", "plots/training.png"]  # fmt: skip
    expected += [f"notebooks/{name}" for name in cli.COURSE]
    assert [name for name in expected if not (folder / name).is_file()] == []
    assert [path.name for path in folder.rglob(".*")] == [], "no temporary file is left"


def test_the_record_has_what_the_design_lists(course):
    folder, _ = course
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))

    assert record["overrides"] == {"eval_questions": 5}
    assert {
        "preset", "model_name", "model_source", "model_revision", "engine", "data_source", "data_sha256", "prompt_style", "date_string",
        "git_commit", "gpu", "seed", "overrides", "versions", "train", "evaluation",
    } <= set(record)  # fmt: skip
    assert {"steps", "seconds", "seconds_per_step", "tokens_per_second", "peak_memory_gib", "final_loss"} <= set(record["train"])
    assert {"ex", "ex_low", "ex_high", "em", "by_hardness"} <= set(record["evaluation"]["tuned"])
    assert record["evaluation"]["questions"] == 5
    assert "/" not in record["versions"]["sqlite"]


def test_predictions_are_one_line_a_question(course):
    folder, _ = course
    assert len((folder / "evaluation/predictions.txt").read_text(encoding="utf-8").splitlines()) == 5


def test_the_report_is_one_page_with_every_notebook_and_plot(course):
    folder, _ = course
    page = (folder / "report.html").read_text(encoding="utf-8")
    for title in ("1 · Setup", "2 · Data", "3 · Model", "4 · Train", "5 · Evaluate"):
        assert title in page
    assert page.count("data:image/png;base64") >= 5
    assert "Traceback" not in page


def test_kept_notebooks_hold_no_machine_path_but_the_run_folder(course):
    folder, _ = course
    for name in cli.COURSE:
        notebook = nbformat.read(folder / "notebooks" / name, as_version=4)
        text = nbformat.writes(notebook).replace(str(folder), "")
        assert str(machine.ROOT) not in text, name
        assert sys.prefix not in text, name


def test_running_it_again_makes_no_step_and_no_answer_anew(course):
    folder, _ = course
    before = (folder / "adapter/adapter_model.safetensors").read_bytes(), (folder / "evaluation/tuned.json").read_bytes()

    done = command("run", "--run-dir", folder)

    assert done.returncode == 0, done.stderr
    assert (
        (folder / "adapter/adapter_model.safetensors").read_bytes(),
        (folder / "evaluation/tuned.json").read_bytes(),
    ) == before


def test_another_preset_in_an_existing_folder_is_refused(course):
    folder, _ = course
    done = command("run", "--run-dir", folder, "--preset", "cpu")
    assert done.returncode == cli.REFUSED
    assert "was made with preset 'smoke'" in done.stderr


def test_a_setting_that_results_rest_on_is_refused(course):
    folder, _ = course
    done = command("run", "--run-dir", folder, "-p", "prompt_style", "question_only")
    assert done.returncode == cli.REFUSED
    assert "is not what this run was made with" in done.stderr


def test_runs_lists_it_with_its_scores(course):
    folder, _ = course
    done = command("runs", env=os.environ | {"RUN_DIR": str(folder)})
    assert done.returncode == 0
    assert folder.name in done.stdout and "EX after" in done.stdout and "smoke" in done.stdout


def test_the_judge_agrees_with_the_run_on_its_predictions(course, tmp_path):
    folder, _ = course
    rows = [json.loads(line) for line in (folder / "evaluation/verdicts.jsonl").read_text(encoding="utf-8").splitlines()]
    gold = tmp_path / "gold.txt"
    gold.write_text("".join(f"{row['query']}\t{row['db_id']}\n" for row in rows), encoding="utf-8")
    databases = next(machine.cache_dir().glob("sample-*/database"))

    done = command(
        "judge", "--gold", gold, "--pred", folder / "evaluation/predictions.txt", "--db", databases, "--out", tmp_path / "v.json"
    )

    assert done.returncode == 0, done.stderr
    verdicts = json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))
    assert [one["outcome"] for one in verdicts] == [row["tuned"]["outcome"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "sead"], "Did you mean 'seed'?"),
        (
            ["--preset", "smoke", "-p", "learning_rat", "1e-3"],
            "No parameter is called 'learning_rat'. Did you mean 'learning_rate'?",
        ),
        (["--preset", "smoke", "-p", "max_steps", "many"], "max_steps='many' must be a whole number"),
        (["--preset", "smoke", "-p", "r", "0"], "out of range"),
        (["--preset", "smoke", "-p", "resume", "false"], "write False"),
        (["--preset", "smoke", "-p", "load_in_4bit", "True"], "needs a CUDA GPU"),
        (["--preset", "smoke", "-p", "data_source", "no/such/folder"], "neither 'spider' nor 'sample' nor a folder"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(tmp_path, arguments, message):
    if machine.gpu() is not None and "load_in_4bit" in arguments:
        pytest.skip("this machine has a GPU")
    done = command("run", "--run-dir", tmp_path / "run", *arguments)
    assert done.returncode == cli.REFUSED
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_failing_step_stops_the_run_and_shows_its_error(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "data").mkdir()
    done = command("run", "--preset", "smoke", "--run-dir", tmp_path / "run", "-p", "data_source", tmp_path / "data")
    assert done.returncode == cli.FAILED
    assert "02_data.ipynb failed" in done.stderr
    assert "has no train_spider.json" in done.stderr
    assert (tmp_path / "run/notebooks/02_data.ipynb").is_file()
    assert not (tmp_path / "run/notebooks/03_model.ipynb").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no process group to interrupt")
def test_ctrl_c_ends_a_run_in_words(tmp_path):
    pytest.importorskip("torch")
    line = [sys.executable, "-m", "helpers", "run", "--preset", "smoke", "--run-dir", str(tmp_path / "run")]
    process = subprocess.Popen(
        line,
        cwd=machine.ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background job ignores it
    )
    deadline = time.monotonic() + 60
    # Not while packages are loaded: Python ends by the signal where that comes while text is executed, whoever handles it.
    while not (tmp_path / "run/notebooks/01_setup.ipynb").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == cli.FAILED
    assert "The same command goes on from what is there." in printed


def test_ctrl_c_is_known_as_such_where_it_reaches_the_notebook_first(tmp_path, monkeypatch, capsys):
    papermill = pytest.importorskip("papermill")

    def interrupted(*_, **__):
        raise papermill.PapermillExecutionError(3, 2, "train()", "KeyboardInterrupt", "", [])

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cli.execute("04_train.ipynb", Run(tmp_path), {})
    assert "failed" not in capsys.readouterr().err


def test_runs_says_how_to_make_one_where_there_is_none(tmp_path):
    done = command("runs", env=os.environ | {"RUN_DIR": str(tmp_path / "none" / "run")})
    assert done.returncode == 0
    assert "python -m helpers run" in done.stdout


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


@pytest.fixture
def call(capsys):
    """Run a command in this process: its exit code and what it prints. An exception is a traceback to the user."""

    def main(*arguments):
        code = cli.main([str(one) for one in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return main


def refused(answer, words):
    """Whether a command was refused in one line that holds these words."""
    code, printed, error = answer
    line = error.removesuffix("\n")
    return code == cli.REFUSED and not printed and line.startswith("Refused: ") and "\n" not in line and words in line


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
    assert code == cli.DONE
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
    assert call("judge", *files(judged))[0] == cli.DONE
    assert [(one["exec"], one["exact"]) for one in written_verdicts(judged)] == [(1, 0), (1, 0)]
    assert call("judge", *files(judged), "--official-quirks")[0] == cli.DONE
    assert [(one["exec"], one["exact"]) for one in written_verdicts(judged)] == [(1, 1), (1, 1)]


def test_the_judge_reads_predictions_from_json_by_their_name(judged, call):
    rows = [{"sql": "SELECT 1", "answer": "```sql\nSELECT name FROM singer\n```"}, {"sql": "SELECT 1", "answer": None}]
    for name, text in (("pred.json", json.dumps(rows)), ("pred.jsonl", "\n".join(map(json.dumps, rows)))):
        (judged / name).write_text(text, encoding="utf-8")
        assert call("judge", *files(judged, pred=judged / name), "--field", "answer")[0] == cli.DONE
        assert [one["outcome"] for one in written_verdicts(judged)] == ["correct", "empty"]
        assert call("judge", *files(judged, pred=judged / name))[0] == cli.DONE
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
        assert call("judge", *files(judged), *more, "--official-quirks")[0] == cli.DONE
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
    assert done.returncode == cli.REFUSED
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
    assert code == cli.DONE
    for title in ("By hardness:", "By SQL feature:", "By database:", "By outcome:", "EX % pred", "EM % better", "concert"):
        assert title in printed
    assert "better minus pred: +50.0 points of EX" in printed and "McNemar's p = 1" in printed
    assert "Right in better alone, by number: 1\nRight in pred alone, by number: none" in printed


def test_two_files_of_one_name_are_told_apart(judged, better, call):
    (judged / "second").mkdir()
    second = better.rename(judged / "second" / "pred.txt")
    code, printed, _ = call(*compare(judged, judged / "pred.txt", second))
    assert code == cli.DONE
    assert "EX % A" in printed and "EX % B" in printed
    assert "B minus A: +50.0" in printed and "Right in B alone, by number: 1" in printed


def test_a_comparison_is_drawn_where_a_plot_is_asked_for(judged, better, call):
    code, printed, _ = call(*compare(judged, judged / "pred.txt", better, "--plot", judged / "plots" / "both.png"))
    assert code == cli.DONE
    assert f"Plot: {judged / 'plots' / 'both.png'}" in printed
    assert (judged / "plots" / "both.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("first", [True, False])
def test_a_comparison_of_files_of_different_length_is_refused(judged, better, call, first):
    short = judged / "short.txt"
    short.write_text("SELECT 1\n", encoding="utf-8")
    pair = (short, better) if first else (better, short)
    code, printed, error = call(*compare(judged, *pair))
    assert (code, printed) == (cli.REFUSED, "")
    assert error.splitlines()[-1].startswith("Refused: ") and "short.txt 1 predictions: there must be one a question" in error


def test_a_plot_that_cannot_be_written_is_refused_in_words(judged, better, call):
    code, _, error = call(*compare(judged, judged / "pred.txt", better, "--plot", judged / "databases"))
    assert code == cli.REFUSED
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
    assert code == cli.DONE
    assert str(judged / "copies") in printed and "without copies" not in printed

    code, printed, _ = call("judge", *files(judged, db=judged / "copies"))

    assert code == cli.DONE
    assert [one["outcome"] for one in written_verdicts(judged)] == [WRONG_ON_A_COPY, "correct"]
    assert "on altered copies as well 50.0" in printed
    assert call("judge", *files(judged))[0] == cli.DONE
    assert [one["outcome"] for one in written_verdicts(judged)] == ["correct", "correct"]


def test_neighbours_are_made_of_what_gold_asks_about(judged, call):
    make_database(judged / "databases" / "zoo" / "zoo.sqlite", "CREATE TABLE animal (name)")
    asked = ["neighbours", "--db", judged / "databases", "--gold", judged / "gold.txt", "--out", judged / "copies"]
    assert call(*asked)[0] == cli.DONE
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
    assert code == cli.DONE
    assert f"without copies: {broken} cannot be read" in printed
    assert [path.name for path in (judged / "copies" / "broken").iterdir()] == ["broken.sqlite"]
    assert len(list((judged / "copies" / "concert").iterdir())) > 1


# ---- all commands


@pytest.mark.parametrize("name", ["", "run", "runs", "judge", "compare", "neighbours"])
def test_help_reads_in_english_and_quickly(name):
    done = command(*([name] if name else []), "--help", timeout=20)
    assert done.returncode == 0
    assert "usage: python -m helpers" in done.stdout


def test_the_judge_imports_nothing_that_needs_torch():
    code = "import sys, helpers.judge.verdicts, helpers.databases.sandbox; print([m for m in ('torch', 'transformers', 'trl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=machine.ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_run_lists_only_complete_folders(tmp_path):
    (tmp_path / "half").mkdir()
    assert find_runs(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_what_is_no_regular_file_is_not_written_over(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for out in (tmp_path / "pipe", tmp_path / "file" / "below.json"):
        arguments = ["judge", "--gold", "gold.txt", "--pred", "pred.txt", "--db", str(tmp_path), "--out", str(out)]
        assert cli.main(arguments) == 2
        assert capsys.readouterr().err.startswith(f"Refused: --out {out}")
    assert (tmp_path / "pipe").is_fifo()
