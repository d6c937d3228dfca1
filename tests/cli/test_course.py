"""`run` and `runs`: the course headless, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata

import matplotlib
import pytest
from conftest import cells_of, command

from helpers.cli import course as course_module
from helpers.run import machine
from helpers.run.folder import Run

matplotlib.use("Agg")


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
    return sorted((one.name, one.version) for one in metadata.distributions())


def test_a_run_ends_with_scores_the_difference_and_the_report(course):
    folder, printed = course
    assert "before training" in printed and "after training" in printed
    assert "95 % interval" in printed
    assert f"Report: {folder / 'report.html'}" in printed


def test_a_run_leaves_what_the_design_promises(course):
    folder, _ = course
    expected = ["config.json", "record.json", "report.html", "data/train.jsonl", "data/dev.jsonl", "adapter/README.md", "adapter.zip",
                "training.jsonl", "evaluation/predictions.txt", "evaluation/verdicts.jsonl", "plots/scores.png", "plots/training.png"]  # fmt: skip
    expected += [f"notebooks/{notebook.name}" for notebook in course_module.COURSE]
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
    for name in (notebook.name for notebook in course_module.COURSE):
        text = (folder / "notebooks" / name).read_text(encoding="utf-8").replace(str(folder), "")
        assert str(machine.ROOT) not in text, name
        assert sys.prefix not in text, name


@pytest.mark.slow
def test_running_it_again_makes_no_step_and_no_answer_again(course):
    folder, _ = course
    kept = ("adapter/adapter_model.safetensors", "evaluation/tuned.json")
    before = [(folder / name).read_bytes() for name in kept]
    done = command("run", "--run-dir", folder)
    assert done.returncode == 0, done.stderr
    assert [(folder / name).read_bytes() for name in kept] == before


def test_runs_lists_it_with_its_scores(course, call, monkeypatch):
    folder, _ = course
    monkeypatch.setenv("RUN_DIR", str(folder))
    code, out, _ = call("runs")
    assert code == 0
    assert folder.name in out and "EX after" in out and "smoke" in out


def test_the_judge_agrees_with_the_run_on_its_predictions(course, call, tmp_path):
    folder, _ = course
    rows = [json.loads(line) for line in (folder / "evaluation/verdicts.jsonl").read_text(encoding="utf-8").splitlines()]
    gold = tmp_path / "gold.txt"
    gold.write_text("".join(f"{row['query']}\t{row['db_id']}\n" for row in rows), encoding="utf-8")
    databases = next(machine.cache_dir().glob("sample-*/database"))

    code, _, err = call(
        "judge", "--gold", gold, "--pred", folder / "evaluation/predictions.txt", "--db", databases, "--out", tmp_path / "v.json"
    )

    assert code == 0, err
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
        (["--preset", "smoke", "-p", "question_weight", "0.7"], "It is now 'rerank_weight'."),
        (["--preset", "smoke", "-p", "max_steps", "many"], "max_steps='many' must be a whole number"),
        (["--preset", "smoke", "-p", "r", "0"], "out of range"),
        (["--preset", "smoke", "-p", "resume", "false"], "write False"),
        (["--preset", "smoke", "-p", "load_in_4bit", "True"], "needs a CUDA GPU"),
        (["--preset", "smoke", "-p", "data_source", "no/such/folder"], "neither 'spider' nor 'sample' nor a folder"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(plain_machine, tmp_path, call, arguments, message):
    code, _, err = call("run", "--run-dir", tmp_path / "run", *arguments)
    assert (code, message in err, "Traceback" in err) == (2, True, False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "cpu"], "was made with preset 'smoke'"),
        (["-p", "prompt_style", "question_only"], "is not what this run was made with"),
    ],
)
def test_what_an_existing_run_contradicts_is_refused(course, call, arguments, message):
    code, _, err = call("run", "--run-dir", course[0], *arguments)
    assert (code, message in err) == (2, True)


# ---- a course of two small notebooks


def write_notebook(path, *cells):
    """A notebook with a parameters cell and these."""
    import nbformat

    parameters = nbformat.v4.new_code_cell("run_dir = None", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, *map(nbformat.v4.new_code_cell, cells)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


def test_a_failing_step_stops_the_run_and_shows_its_error(tmp_path, call, monkeypatch):
    first = write_notebook(tmp_path / "first.ipynb", "print(run_dir)", "raise ValueError('no such column')")
    second = write_notebook(tmp_path / "second.ipynb", "1")
    monkeypatch.setattr(course_module, "COURSE", [first, second])
    code, _, err = call("run", "--preset", "smoke", "--run-dir", tmp_path / "run")
    assert code == 1
    assert "first.ipynb failed in its cell 4:\nValueError: no such column" in err
    (printed,) = [cell["outputs"][0] for cell in cells_of(tmp_path / "run/notebooks/first.ipynb") if "print" in cell["source"]]
    assert "".join(printed["text"]).strip() == str(tmp_path / "run")
    assert not (tmp_path / "run/notebooks/second.ipynb").exists()


INTERRUPTED = """
import sys
from pathlib import Path
from helpers.__main__ import main
from helpers.cli import course

course.COURSE = [Path(sys.argv[1])]
sys.exit(main(["run", "--preset", "smoke", "--run-dir", sys.argv[2]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no process group to interrupt")
def test_ctrl_c_ends_a_run_with_a_clear_message(tmp_path):
    cells = "import pathlib, time", "pathlib.Path(run_dir, 'begun').touch()\ntime.sleep(60)"
    line = [sys.executable, "-c", INTERRUPTED, write_notebook(tmp_path / "long.ipynb", *cells), tmp_path / "run"]
    process = subprocess.Popen(
        list(map(str, line)),
        cwd=machine.ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background job ignores it
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run/begun").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Run the same command to resume." in printed


def test_ctrl_c_ends_with_how_to_go_on(tmp_path, call, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(course_module, "execute_all", interrupted)
    code, _, err = call("run", "--preset", "smoke", "--run-dir", tmp_path / "run")
    assert code == 1
    assert "Run the same command to resume." in err


def test_ctrl_c_is_known_as_such_where_it_reaches_the_notebook_first(tmp_path, monkeypatch, capsys):
    papermill = pytest.importorskip("papermill")

    def interrupted(*_, **__):
        raise papermill.PapermillExecutionError(3, 2, "train()", "KeyboardInterrupt", "", [])

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        course_module.execute(machine.ROOT / "notebooks/04_train.ipynb", Run(tmp_path), {})
    assert "failed" not in capsys.readouterr().err


def test_runs_says_how_to_make_one_where_there_is_none(tmp_path, call, monkeypatch):
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "none" / "run"))
    code, out, _ = call("runs")
    assert code == 0
    assert "python -m helpers run" in out
