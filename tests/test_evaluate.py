"""Predictions: kept in the run folder, selected among candidates, judged."""

import shutil
import zipfile

import pytest
from conftest import QUESTIONS, make_database

from helpers import data, evaluate, models
from helpers.databases.layout import Example
from helpers.databases.sql_text import extract_sql
from helpers.decoding.generate import greedy_answers
from helpers.prompts.message import database_prompt, example_prompt
from helpers.prompts.question import Question
from helpers.prompts.tokens import prompt_ids
from helpers.run.config import RunConfig
from helpers.run.folder import Run
from helpers.run.presets import preset

torch = pytest.importorskip("torch")


@pytest.fixture
def run(tiny, tmp_path):
    """A run folder with the tiny model's adapter."""
    tiny[0].save_pretrained(tmp_path / "adapter")
    return Run(tmp_path)


def predict(model, tokenizer, settings, run, questions=QUESTIONS, *, base=False):
    """Predictions for questions about an example database, each question its own message."""
    prompt = example_prompt("schema")
    asked = [Question(question, prompt, question) for question in questions]
    return evaluate.predict(model, tokenizer, asked, settings, run, base=base)


@pytest.mark.parametrize("base", [True, False])
def test_predictions_once_made_are_not_made_again(tiny, smoke, run, base):
    model, tokenizer = tiny
    made, seconds = predict(model, tokenizer, smoke, run, base=base)
    kept, as_before = predict(None, tokenizer, smoke, run, base=base)  # without a model
    assert kept == made
    assert as_before == pytest.approx(seconds, abs=0.01)


def test_predictions_are_the_sql_in_the_answers(tiny, smoke, run):
    model, tokenizer = tiny
    made, _ = predict(model, tokenizer, smoke, run)
    kept = run.read_json("evaluation/tuned.json")["answers"]
    assert all(len(some) == 1 and some[0][1] == 0 for some in kept), "greedy: one answer each, of no known probability"
    texts = [text for ((text, _),) in kept]
    assert texts == greedy_answers(
        model, tokenizer, [prompt_ids(tokenizer, one) for one in QUESTIONS], max_new_tokens=12, batch_size=4
    )
    assert made == [extract_sql(answer) for answer in texts]


def was_made_again(tokenizer, settings, run, questions=QUESTIONS, *, base=False):
    """Whether `predict` asks the model, instead of taking the answers kept."""
    try:
        predict(None, tokenizer, settings, run, questions, base=base)
    except AttributeError:  # there is no model to ask
        return True
    return False


def test_another_adapter_makes_tuned_predictions_again_and_leaves_the_bases(tiny, smoke, run):
    model, tokenizer = tiny
    for base in (True, False):
        predict(model, tokenizer, smoke, run, base=base)
    torch.nn.init.zeros_(next(weights for name, weights in model.named_parameters() if "lora_B" in name).data)
    model.save_pretrained(run / "adapter")
    assert was_made_again(tokenizer, smoke, run, base=False)
    assert not was_made_again(tokenizer, smoke, run, base=True)


@pytest.mark.parametrize(
    "change, again",
    [
        ({"max_new_tokens": 13}, True),
        ({"per_device_eval_batch_size": 3}, False),
        ({"query_timeout": 9.0}, False),
    ],
)
def test_settings_that_decide_the_answers_make_them_again_and_others_do_not(tiny, smoke, run, change, again):
    model, tokenizer = tiny
    predict(model, tokenizer, smoke, run)
    assert was_made_again(tokenizer, smoke.with_overrides(change, "this test"), run) is again


@pytest.mark.parametrize("questions", [QUESTIONS[:-1], QUESTIONS[::-1], [*QUESTIONS[:-1], "And now?"]])
def test_other_questions_make_predictions_again(tiny, smoke, run, questions):
    model, tokenizer = tiny
    predict(model, tokenizer, smoke, run)
    assert was_made_again(tokenizer, smoke, run, questions)


# Candidates

PETS = """
    CREATE TABLE Pets (PetID INTEGER PRIMARY KEY, PetType TEXT, weight REAL);
    INSERT INTO Pets VALUES (1, 'cat', 1.0), (2, 'dog', 2.0), (3, 'cat', 3.0), (4, 'dog', 4.0), (5, 'ape', 5.0), (6, 'cat', 6.0);
"""


@pytest.fixture
def pets(tmp_path):
    """A question about a database of two pets, with linked prompts, and its gold."""
    prompt = database_prompt(make_database(tmp_path / "pets" / "pets.sqlite", PETS), "linked")
    text, gold = "Which pets are cats?", "SELECT PetID FROM Pets WHERE PetType = 'cat'"
    return Question(text, prompt, prompt.message(text), Example(question=text, query=gold, db_id="pets", hardness="easy"))


def test_candidates_that_mean_the_same_sql_share_their_probability(pets):
    answers = [("SELECT pets.weight FROM pets", -1.0), ("```SELECT pets.weight  FROM pets```", -2.0), ("?", -0.1)]
    assert evaluate.merge_duplicates(answers, pets) == {"SELECT Pets.weight FROM Pets": pytest.approx(0.3679 + 0.1353, abs=1e-4)}


def test_the_most_probable_candidate_that_gives_rows_is_selected(pets):
    fails, empty, says = (
        f"SELECT {part}" for part in ("abc(1)", "pets.weight FROM pets WHERE pets.weight > 9", "pets.weight FROM pets")
    )
    beams = [[(fails, -0.1), (empty, -1.0), (says, -2.0)], [(fails, -0.1), (empty, -1.0)], []]
    assert evaluate.select_all(beams, [pets] * 3, RunConfig()) == [pets.sql(says), pets.sql(empty), ""]
    assert evaluate.select_all([[(fails, 0.0)], []], [pets] * 2, RunConfig()) == [pets.sql(fails), ""], "an only one is not tried"


def test_grammars_are_made_once_a_schema_and_only_where_they_are_wanted(smoke, pets):
    model, tokenizer = models.load(smoke)
    other = Question("?", example_prompt("linked"), "?")
    settings = preset("full")
    made = evaluate.grammars(model, tokenizer, [pets, other, pets], settings)
    assert made[0] is made[2] is not made[1]
    for free in (settings.with_overrides({"constrained": False}, "this test"), preset("seed")):
        assert evaluate.grammars(model, tokenizer, [pets], free) is None


# Verdicts


def test_predictions_are_judged_on_the_database_and_on_altered_copies_of_it(pets, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    accident = "SELECT PetID FROM Pets WHERE weight IN (1, 3, 6)"  # what the cats weigh
    right, lucky, wrong = evaluate.judge([pets] * 3, [pets.example.query, accident, "SELECT 1"], RunConfig(), progress="")
    assert (right.exec, right.right) == (1, True)
    assert (lucky.exec, lucky.right, lucky.outcome) == (0, True, "wrong on a copy")
    assert (wrong.exec, wrong.right) == (0, False)


def test_a_query_that_takes_too_long_ends_by_the_settings_of_the_run(pets, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    (verdict,) = evaluate.judge([pets], [endless], RunConfig(query_timeout=0.2), progress="")
    assert verdict.outcome == "timeout"


def test_the_zip_that_is_handed_out_has_the_scores_that_were_judged(trained_run, tmp_path):
    shutil.copytree(trained_run.path, tmp_path / "run")
    run = Run(tmp_path / "run")
    settings, questions = run.config(), data.dev_questions(run, run.config())
    predictions = evaluate.Predictions(sql=[question.example.query for question in questions], seconds=1.0)
    verdicts = evaluate.judge(questions, predictions.sql, settings, progress="")
    evaluate.write_evaluation(run, questions, (predictions, verdicts), (predictions, verdicts))
    with zipfile.ZipFile(run / "adapter.zip") as packed:
        card = packed.read("README.md").decode()
    assert card == (run / "adapter/README.md").read_text(encoding="utf-8")
    assert f"on {len(questions):,} dev questions" in card
    assert "not judged" not in card
