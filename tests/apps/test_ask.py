"""Asking a database: which candidate is shown, what is said when none runs, and who may answer."""

import io
import json
import math
import shutil

import pytest

from helpers import models
from helpers.apps import ask, own_files, terminal
from helpers.apps.ask import PROMPT_TOKENS, Answer, for_this_machine, load, nearest_names, trust
from helpers.databases import schema
from helpers.databases.sandbox import Result
from helpers.decoding import generate
from helpers.decoding.select import Candidate
from helpers.prompts import tokens
from helpers.run import machine
from helpers.run.folder import MissingStep, OtherConfiguration
from helpers.sources import model_files
from helpers.trainer import adapter

torch = pytest.importorskip("torch")


def result(outcome="ok", rows=(), columns=("a",), error=None):
    return Result(outcome=outcome, rows=tuple(rows), columns=columns, error=error)


def candidate(sql, probability, found):
    return Candidate(sql=sql, probability=probability, result=found)


def answer(*candidates, hint="", left_out=()):
    return Answer(question="q", candidates=candidates, left_out=left_out, hint=hint, seconds=0.5)


WRONG = candidate("SELECT b", 0.6, result("no such column", error="no such column: b"))
EMPTY = candidate("SELECT a WHERE 0", 0.3, result())
GOOD = candidate("SELECT a", 0.1, result(rows=[(1,), (None,)]))


@pytest.mark.parametrize(
    "candidates, shown",
    [((WRONG, EMPTY, GOOD), GOOD), ((WRONG, EMPTY), EMPTY), ((WRONG,), WRONG), ((), None), ((GOOD, EMPTY), GOOD)],
)
def test_shown_is_the_most_probable_that_gives_rows_else_that_runs_else_any(candidates, shown):
    assert answer(*candidates).best is shown


def test_the_json_of_an_answer_holds_what_a_program_needs():
    odd = candidate("SELECT x", 0.9, result(rows=[(b"\x00\xff", float("inf"), None, "ü")] * 1001, columns=("a", "b", "c", "d")))
    content = json.loads(answer(odd, WRONG, left_out=("log",)).as_json())
    assert content["sql"] == "SELECT x" and content["outcome"] == "ok" and content["error"] is None
    assert content["rows"][0] == ["00ff", "inf", None, "ü"] and len(content["rows"]) == 1000 and content["row_count"] == 1001
    assert [one["outcome"] for one in content["candidates"]] == ["ok", "no such column"]
    assert content["left_out"] == ["log"]
    assert json.loads(answer().as_json())["error"] == "the model wrote no SQL"


def test_names_that_are_not_there_are_answered_with_the_nearest(concert_db):
    tables = schema.read(concert_db)
    hints = nearest_names(["no such column: T1.nam", "no such table: singers", "no such column: xyz", "syntax error"], tables)
    assert hints.splitlines() == [
        "There is no column nam; nearest: singer.name",
        "There is no table singers; nearest: singer",
        "There is no column xyz; there are: singer.name, singer.age",
    ]


# With a model


@pytest.fixture(scope="module")
def assistant(trained_run):
    return load(trained_run.path)


def written_instead(monkeypatch, *texts):
    """Let the model write these texts, the first with probability a half, each further one with half of that."""
    logs = [math.log(0.5 ** (place + 1)) for place in range(len(texts))]
    monkeypatch.setattr(generate, "generate_candidates", lambda *_, **__: [list(zip(texts, logs, strict=True))])


def test_candidates_are_run_and_the_same_query_counts_once(assistant, concert_db, monkeypatch):
    written_instead(
        monkeypatch, "SELECT nam FROM singer", "SELECT name  FROM singer;", "no idea", "```sql\nSELECT name FROM singer\n```"
    )
    found = assistant.ask(concert_db, "Who?")
    assert [one.sql for one in found.candidates] == ["SELECT nam FROM singer", "SELECT name FROM singer"]
    assert found.candidates[1].probability == pytest.approx(0.25 + 0.0625)
    assert found.best.result.rows == (("Ada",), ("Bo",), ("Cy",))
    assert found.hint == ""


@pytest.mark.parametrize("hostile", ["DROP TABLE singer", "SELECT 1; DELETE FROM singer", "PRAGMA writable_schema = 1"])
def test_what_a_model_writes_changes_no_database(assistant, concert_db, monkeypatch, hostile):
    before = concert_db.read_bytes()
    written_instead(monkeypatch, hostile, "WITH x AS (SELECT 1) DELETE FROM singer")
    assistant.ask(concert_db, "Drop all tables")
    assert concert_db.read_bytes() == before


def test_when_nothing_runs_the_answer_says_what_is_missing(assistant, concert_db, monkeypatch):
    written_instead(monkeypatch, "SELECT title FROM singers")
    found = assistant.ask(concert_db, "Titles?")
    assert found.best.result.outcome == "no such table"
    assert "nearest: singer" in found.hint


def test_beams_are_ordered_by_probability_and_the_first_of_one_is_the_greedy_answer(assistant):
    ids = tokens.prompt_ids(assistant.tokenizer, "Which singers are there?")
    (beams,) = generate.generate_candidates(assistant.model, assistant.tokenizer, [ids], count=4, max_new_tokens=12, batch_size=1)
    logs = [log for _, log in beams]
    assert len(beams) == 4 and logs == sorted(logs, reverse=True) and all(log < 0 for log in logs)
    ((single,),) = generate.generate_candidates(
        assistant.model, assistant.tokenizer, [ids], count=1, max_new_tokens=12, batch_size=1
    )
    greedy = generate.greedy_answers(assistant.model, assistant.tokenizer, [ids], max_new_tokens=12, batch_size=1)
    assert [single[0]] == greedy
    pieces = "".join(generate.stream(assistant.model, assistant.tokenizer, ids, max_new_tokens=12))
    assert pieces == greedy[0], "written piece by piece it is the same"


def test_the_base_writes_otherwise_than_the_tuned_model(assistant, concert_db):
    assert list(assistant.write(concert_db, "Who?"))[-1] != list(assistant.write(concert_db, "Who?", base=True))[-1]


@pytest.fixture
def wide(tmp_path):
    """A database whose columns no prompt has room for."""
    from conftest import make_database

    columns = ", ".join(f"measurement_of_sensor_{number} REAL" for number in range(60))
    script = "CREATE TABLE people (name TEXT, age INT);" + "".join(f"CREATE TABLE t{n} ({columns});" for n in range(3))
    return make_database(tmp_path / "wide.sqlite", script)


def test_a_schema_too_wide_for_the_prompt_is_cut_and_said(assistant, wide):
    question = assistant.fit("How old are the people?", assistant.prompt(wide))
    ids, left_out = question.ids(assistant.tokenizer), question.prompt.left_out(question.text)
    assert "people: name, age" in assistant.tokenizer.decode(ids)
    assert left_out and all(name.startswith("t") for name in left_out)
    assert len(ids) <= PROMPT_TOKENS


def test_an_empty_question_is_refused(assistant, concert_db):
    with pytest.raises(ValueError, match="no question"):
        assistant.ask(concert_db, "  \n ")


# Who answers


def test_a_run_without_a_tuned_model_names_the_command_that_makes_one(tmp_path, trained_run):
    with pytest.raises(MissingStep, match=r"python -m helpers run --run-dir .*(\n.*)*found: .*run"):
        load(trained_run.path.parent / "other")


def copied(trained_run, folder, **settings):
    """The adapter's folder somewhere else, some of its settings changed."""
    shutil.copytree(trained_run / "adapter", folder)
    kept = json.loads((folder / adapter.PROMPT_CONFIG).read_text())
    (folder / adapter.PROMPT_CONFIG).write_text(json.dumps(kept | {"settings": kept["settings"] | settings}))
    return folder


def test_an_adapter_answers_from_its_folder_alone(trained_run, assistant, concert_db, tmp_path, smoke):
    folder = copied(trained_run, tmp_path / "taken", model_name=smoke.model_name)
    alone = load(model=str(folder))
    assert list(alone.write(concert_db, "Who?")) == list(assistant.write(concert_db, "Who?"))


def test_an_adapter_of_an_older_version_answers_as_well(trained_run, assistant, concert_db, tmp_path, smoke):
    folder = copied(trained_run, tmp_path / "old", model_name=smoke.model_name)
    (folder / adapter.PROMPT_CONFIG).rename(folder / "course.json")
    assert list(load(model=str(folder)).write(concert_db, "Who?")) == list(assistant.write(concert_db, "Who?"))


def test_a_folder_that_is_no_export_is_refused_by_name(trained_run, tmp_path):
    (copied(trained_run, tmp_path / "strange") / adapter.PROMPT_CONFIG).unlink()
    with pytest.raises(model_files.ModelNotFound, match=r"strange has no prompt_config\.json"):
        load(model=str(tmp_path / "strange"))
    with pytest.raises(model_files.ModelNotFound, match="holds no model"):
        (tmp_path / "empty").mkdir()
        load(model=str(tmp_path / "empty"))


def test_an_adapter_of_another_base_model_is_refused(trained_run, tmp_path, smoke):
    folder = copied(trained_run, tmp_path / "adapter", model_name=smoke.model_name, r=8)
    with pytest.raises(OtherConfiguration, match="does not fit"):
        load(model=str(folder))


def test_an_adapter_trained_in_four_bits_on_a_gpu_answers_in_32_on_a_cpu(plain_machine):
    from helpers.run.presets import preset

    settings = for_this_machine(preset("seed"))
    models.check_machine(settings)
    assert (settings.engine, settings.load_in_4bit, machine.precision(settings.precision)) == ("transformers", False, "fp32")
    assert settings.prompt_style == preset("seed").prompt_style


def test_trust_is_what_was_measured_or_said_not_to_be():
    tuned = {"questions": 60, "ex": 26.7, "ex_low": 17.1, "ex_high": 39.0}
    assert "60 questions of Spider, it was right in 27 of 100 (17 to 39)" in trust(
        {"data_name": "Spider", "evaluation": {"tuned": tuned}}
    )
    assert "not been measured" in trust({})


# In a terminal


def shown(one):
    from rich.console import Console

    out = io.StringIO()
    terminal.show(one, Console(file=out, width=100))
    return out.getvalue()


def test_a_terminal_shows_sql_rows_and_how_many_there_are():
    rows = [(number, "name" * 30, None, b"1234") for number in range(30)]
    text = shown(answer(candidate("SELECT x", 0.9, result(rows=rows, columns=("id", "[bold]name", "c", "d"))), left_out=("log",)))
    assert "SELECT x" in text and "30 rows, 20 shown" in text and "NULL" in text and "4 bytes" in text and "[bold]name" in text
    assert "Too much for the prompt, left out: log" in text


def test_a_value_cannot_command_the_terminal():
    assert "\x1b" not in shown(
        answer(candidate("SELECT '\x1b[2J'", 0.9, result(rows=[("\x1b]0;owned\x07\x1b[2J",)], columns=("\x1b[31m",))))
    )


def test_a_terminal_says_why_nothing_is_shown():
    text = shown(answer(WRONG, hint="There is no column b; nearest: t.a"))
    assert "None of 1 candidates ran: no such column: b" in text and "nearest: t.a" in text
    assert "wrote no SQL" in shown(answer())


def test_piped_questions_come_one_a_line(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("first?\n\n second? \n"))
    assert list(terminal.questions(None)) == ["first?", "second?"]


def test_at_a_keyboard_questions_have_a_history_and_end_with_the_end_of_input(monkeypatch, tmp_path):
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput
    from rich.console import Console

    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("How many boats?\n\nWho?\n\x04")
        asked = list(terminal.questions(Console(file=io.StringIO())))
    assert asked == ["How many boats?", "Who?"]
    assert [line for line in (tmp_path / terminal.HISTORY).read_text().splitlines() if line[:1] == "+"] == [
        "+How many boats?",
        "+Who?",
    ]


# The command


@pytest.fixture
def command(trained_run, capsys):
    """Run `ask` and give exit code, output and messages."""
    from helpers.__main__ import main

    def run(*arguments, run_dir=trained_run.path):
        code = main(["ask", *arguments, *(["--run-dir", str(run_dir)] if run_dir else [])])
        return code, *capsys.readouterr()

    return run


def test_the_command_gives_json_or_sql_alone(command, monkeypatch, concert_db):
    written_instead(monkeypatch, "SELECT count(*) FROM singer")
    code, out, _ = command(str(concert_db), "How many?", "--json")
    assert code == 0 and json.loads(out)["rows"] == [[3]]
    code, out, _ = command(str(concert_db), "How many?", "--sql-only")
    assert (code, out) == (0, "SELECT count(*) FROM singer\n")


def test_the_command_takes_questions_from_a_pipe_and_ends_as_the_last_one_did(command, monkeypatch, concert_db):
    written_instead(monkeypatch, "SELECT x FROM nowhere")
    monkeypatch.setattr("sys.stdin", io.StringIO("How many?\nWho?\n"))
    code, out, err = command(str(concert_db))
    assert code == 1 and out.count("no such table: nowhere") == 2
    assert "singer: name, age" in err and "read it before you rely on it" in err


def test_the_command_refuses_before_it_loads_a_model(command, tmp_path, concert_db, monkeypatch):
    monkeypatch.setattr(ask, "load", lambda *_: pytest.fail("loaded"))
    empty = tmp_path / "empty.sqlite"
    empty.touch()
    for arguments, words in (
        ((str(tmp_path / "none.sqlite"), "q"), "There is no file"),
        ((str(empty), "q"), "has no table"),
        ((str(concert_db), " "), "question is empty"),
        ((str(concert_db), "q", "--candidates", "99"), "must be 1 to 16"),
        ((str(concert_db), "q", "--model", "x"), "name two models"),
    ):
        code, out, err = command(*arguments)
        assert code == 2 and out == "" and words in err and "Traceback" not in err
    code, _, err = command(str(concert_db), "q", run_dir=tmp_path / "norun")
    assert code == 2 and "has no tuned model yet" in err


def test_csv_is_asked_like_any_database(command, monkeypatch, tmp_path):
    (tmp_path / "cats.csv").write_text("name,weight\nTom,4.2\nKit,3.1\n")
    written_instead(monkeypatch, "SELECT name FROM cats WHERE weight > 4")
    assert json.loads(command(str(tmp_path / "cats.csv"), "Heavy cats?", "--json")[1])["rows"] == [["Tom"]]


def test_databases_of_the_course_are_asked_by_name(command, monkeypatch):
    assert "marina" in own_files.named()
    written_instead(monkeypatch, "SELECT count(*) FROM boats")
    assert json.loads(command("marina", "How many boats?", "--json")[1])["rows"] == [[16]]
