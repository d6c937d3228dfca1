"""The command line: the course headless, its exit codes, and the judge on files."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from helpers import __main__ as cli
from helpers import environment, runs


def command(*arguments, **options):
    line = [sys.executable, "-m", "helpers", *map(str, arguments)]
    return subprocess.run(line, cwd=environment.ROOT, capture_output=True, text=True, **options)


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
        assert str(environment.ROOT) not in text, name
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
    databases = next(environment.cache_dir().glob("sample-*/database"))

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
    if environment.gpu() is not None and "load_in_4bit" in arguments:
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
        cwd=environment.ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background job ignores it
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run/config.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == cli.FAILED
    assert "The same command goes on from what is there." in printed


def test_runs_says_how_to_make_one_where_there_is_none(tmp_path):
    done = command("runs", env=os.environ | {"RUN_DIR": str(tmp_path / "none" / "run")})
    assert done.returncode == 0
    assert "python -m helpers run" in done.stdout


# ---- judge


@pytest.fixture
def judged(tmp_path, concert_db):
    """Two questions about the concert database, one answered rightly."""
    folder = tmp_path / "databases" / "concert"
    folder.mkdir(parents=True)
    concert_db.rename(folder / "concert.sqlite")
    (tmp_path / "gold.txt").write_text(
        "SELECT name FROM singer\tconcert\nSELECT max(age) FROM singer\tconcert\n", encoding="utf-8"
    )
    (tmp_path / "pred.txt").write_text("SELECT name FROM singer\n\n", encoding="utf-8")
    return tmp_path


def judge(folder, *more):
    files = [
        "--gold",
        folder / "gold.txt",
        "--pred",
        folder / "pred.txt",
        "--db",
        folder / "databases",
        "--out",
        folder / "out.json",
    ]
    return command("judge", *files, *more)


def test_the_judge_writes_one_verdict_a_line_and_leaves_em_open(judged):
    done = judge(judged)
    assert done.returncode == 0, done.stderr
    verdicts = json.loads((judged / "out.json").read_text(encoding="utf-8"))
    assert [one["exec"] for one in verdicts] == [1, 0]
    assert [one["exact"] for one in verdicts] == [None, None]
    assert [one["outcome"] for one in verdicts] == ["correct", "empty"]
    assert set(verdicts[0]) == {"exec", "exact", "hardness", "outcome", "error"}


def test_official_quirks_are_refused_until_they_exist(judged):
    done = judge(judged, "--official-quirks")
    assert done.returncode == cli.REFUSED
    assert "not available yet" in done.stderr
    assert not (judged / "out.json").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("pred.txt", "SELECT 1\n", "there must be one line a question"),
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


@pytest.mark.parametrize("name", ["", "run", "runs", "judge"])
def test_help_reads_in_english_and_quickly(name):
    done = command(*([name] if name else []), "--help", timeout=20)
    assert done.returncode == 0
    assert "usage: python -m helpers" in done.stdout


def test_the_judge_imports_nothing_that_needs_torch():
    code = "import sys, helpers.evaluation, helpers.execution; print([m for m in ('torch', 'transformers', 'trl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=environment.ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_run_lists_only_complete_folders(tmp_path):
    (tmp_path / "half").mkdir()
    assert runs.find_runs(tmp_path) == []
