"""Several runs as one: what their pooled candidates are, which runs may be pooled, and that 05 and `ask` pool them."""

import json
import math
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import adapter, answers, ask, ensemble, generation, prompts, runs
from helpers.__main__ import REFUSED, main
from helpers.config import RunConfig
from helpers.runs import Run

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from helpers import models  # noqa: E402

found = st.lists(st.tuples(st.sampled_from("abcde"), st.floats(-50, 0)), max_size=6)


def by_text(answers):
    """The probability of each text."""
    return {text: math.exp(log) for text, log in answers}


# The mean


@given(st.lists(found, min_size=1, max_size=4))
def test_a_pooled_probability_is_the_mean_of_the_members_own(several):
    own = []
    for some in several:
        total = sum(math.exp(log) for _, log in some)
        own.append({text: sum(math.exp(log) for other, log in some if other == text) / total for text, _ in some})
    pooled = by_text(ensemble.pooled(several))
    assert set(pooled) == set().union(*own)
    for text, probability in pooled.items():
        assert probability == pytest.approx(sum(one.get(text, 0.0) for one in own) / len(own))


@given(st.lists(found, min_size=1, max_size=4), st.randoms())
def test_pooled_answers_are_ordered_and_the_order_of_members_changes_no_probability(several, chance):
    pooled = ensemble.pooled(several)
    logs = [log for _, log in pooled]
    assert logs == sorted(logs, reverse=True)
    shuffled = chance.sample(several, len(several))
    assert by_text(ensemble.pooled(shuffled)) == pytest.approx(by_text(pooled))


def test_what_two_of_three_find_wins_over_what_one_is_surer_of():
    surest = [("SELECT 1", math.log(0.7)), ("SELECT 2", math.log(0.3))]
    others = [[("SELECT 2", math.log(0.6)), ("SELECT 3", math.log(0.4))]] * 2
    assert ensemble.pooled([surest, *others])[0][0] == "SELECT 2"


def test_improbable_answers_are_not_lost():
    assert [text for text, _ in ensemble.pooled([[("a", 0.0), ("b", -2000.0)], [("a", 0.0)]])] == ["a", "b"]


# Which runs


@pytest.fixture(scope="module")
def several(smoke, sample, tmp_path_factory):
    """Three runs of the tiny model that have answered four questions, the adapter of each moved at random in its own way, the
    second with its candidates read again."""
    place, made = tmp_path_factory.mktemp("runs"), []
    changes = {"prompt_style": "linked", "constrained": True, "max_seq_length": 700, "candidates": 3, "eval_questions": 4}
    for number in range(3):
        settings = smoke.with_overrides(changes | {"rereadings": number % 2}, "this test")
        run = Run(place / f"run{number}")
        runs.save_config(run, settings)
        run.add_to_record(data_sha256=sample.sha256)
        model, tokenizer = models.load(settings)
        torch.manual_seed(number)
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights.data, std=0.3)
        prompts.write_data(run, sample, tokenizer, settings)
        with run.new_folder("adapter") as folder:
            model.save_pretrained(folder)
        answer(run, settings, model, tokenizer, sample)
        made.append(run)
    return made


def answer(run, settings, model, tokenizer, sample):
    """As 05 does: the answers to each question, and the seconds."""
    examples, messages = prompts.read_dev(run, settings)
    about = {"questions": [one.question for one in examples], "views": prompts.views_of(examples, sample, settings)}
    return answers.found(model, tokenizer, messages, settings, run, **about, base=False)


def pooling(run, *others, **changes):
    """The run's settings with others named."""
    return run.config().with_overrides({"ensemble_runs": tuple(str(one.path) for one in others)} | changes, "this test")


def test_members_come_in_the_order_that_they_are_named_in(several):
    first, *others = several
    assert [one.path for one in ensemble.members(first, pooling(first, *reversed(others)))] == [
        one.path for one in reversed(others)
    ]
    assert ensemble.members(first, first.config()) == []


def test_no_run_counts_twice(several, tmp_path):
    first, second, _ = several
    (tmp_path / "link").symlink_to(first.path)
    for others in ([first], [second, second], [Run(tmp_path / "link")]):
        with pytest.raises(ValueError, match="named in ensemble_runs, is this run itself or named twice"):
            ensemble.members(first, pooling(first, *others))


def changed(run, folder, **changes):
    """A copy of a run, with other settings."""
    copy = Run(shutil.copytree(run.path, folder))
    runs.save_config(copy, copy.config().with_overrides(changes, "this test"))
    return copy


def test_a_run_that_is_not_there_is_refused_and_those_that_are_named(several):
    first = several[0]
    with pytest.raises(
        runs.MissingStep,
        match=r"nowhere, named in ensemble_runs, is no run with data and a tuned model .there are: .*run0.*run2.*or set",
    ):
        ensemble.members(first, pooling(first, Run(first.path.parent / "nowhere")))


VALUES = {
    "data_source": "spider",
    "held_out_databases": 2,
    "held_out_part": 0,
    "eval_questions": 0,
    "prompt_style": "schema",
    "readable_names": False,
    "seed": 7,
}


@pytest.mark.parametrize("field", [name for name in (*ensemble.SAME, "seed") if name != "held_out_part"])
def test_runs_that_were_asked_otherwise_are_not_pooled(several, field):
    first, second, _ = several
    with pytest.raises(ValueError, match=f"run1, named in ensemble_runs, has {field}=.*this run {VALUES[field]!r}: pooled are"):
        ensemble.members(first, pooling(first, second, **{field: VALUES[field]}))


def test_seeds_may_differ_where_all_questions_are_asked(several, tmp_path):
    everything = changed(several[1], tmp_path / "all", eval_questions=0)
    settings = pooling(several[0], everything, eval_questions=0, seed=7)
    assert len(ensemble.members(several[0], settings)) == 1


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"candidates": 1, "rereadings": 0}, "copy, named in ensemble_runs, answers greedily: run 05 Evaluate there"),
        ({"ensemble_runs": ("runs/c",)}, "copy, named in ensemble_runs, is an ensemble itself: name its members here"),
    ],
)
def test_members_that_would_not_count_alike_are_refused(several, tmp_path, changes, says):
    copy = changed(several[1], tmp_path / "copy", **changes)
    with pytest.raises(ValueError, match=says):
        ensemble.members(several[0], pooling(several[0], copy))


def test_answers_by_what_a_run_no_longer_is_are_not_pooled(several, tmp_path):
    def refused(member, file):
        with pytest.raises(runs.OtherConfiguration, match=f"as they are now .evaluation/{file}.json.: run 05 Evaluate there"):
            answers.check_members(several[0], pooling(several[0], member))

    answers.check_members(several[0], pooling(several[0], several[1]))
    refused(changed(several[1], tmp_path / "longer", max_new_tokens=7), "tuned")
    refused(changed(several[1], tmp_path / "weighed", rereadings=2), "reread")
    silent = changed(several[1], tmp_path / "silent")
    (silent / "evaluation/tuned.json").unlink()
    refused(silent, "tuned")
    trained_anew = changed(several[1], tmp_path / "anew")
    shutil.copy(several[2] / "adapter/adapter_model.safetensors", trained_anew / "adapter")
    refused(trained_anew, "tuned")
    with pytest.raises(runs.MissingStep, match="has no twin/adapter: run 04 Train again"):
        answers.check_members(several[0], pooling(several[0], changed(several[1], tmp_path / "untrained", twin_weight=1)))
    bare = changed(several[1], tmp_path / "bare")
    shutil.rmtree(bare / "data")
    with pytest.raises(runs.MissingStep, match="bare, named in ensemble_runs, is no run with data"):
        answers.check_members(several[0], pooling(several[0], bare))


def test_what_a_further_adapter_said_rests_on_its_bytes(several, tmp_path):
    run, made = Run(tmp_path), []
    (tmp_path / "twin/adapter").mkdir(parents=True)
    for content in (b"one", b"two", b"one"):
        (tmp_path / "twin/adapter/adapter_model.safetensors").write_bytes(content)
        made.append([answers.weighed_identity("before", name, 1.0, RunConfig(), run) for name in ("twin", "reread")])
    assert made[0] == made[2] and made[0][0] != made[1][0] and made[0][1] == made[1][1]


def test_answers_with_candidates_rest_on_no_engine_but_the_one_that_gives_them(several):
    fingerprints = {
        answers.fingerprint([[1]], RunConfig(engine=engine, candidates=count), several[0], base=False)
        for count in (1, 2)
        for engine in ("auto", "transformers")
    }
    assert len(fingerprints) == 3


def test_runs_of_other_data_are_not_pooled(several, tmp_path, sample):
    first, second, _ = several
    other = changed(second, tmp_path / "other")
    lines = other.read_jsonl("data/dev.jsonl")
    other.write_jsonl("data/dev.jsonl", [one | {"question": f"{one['question']}?"} for one in lines])
    model, tokenizer = models.load(first.config())
    with pytest.raises(runs.OtherConfiguration, match="was asked 4 questions, which are not the 4 of this run"):
        answer(first, pooling(first, other), model, tokenizer, sample)
    with pytest.raises(runs.OtherConfiguration, match="was asked 4 questions, which are not the 4 of this run"):
        answers.check_members(first, pooling(first, other))


def test_a_command_refuses_before_it_writes_anything(several, tmp_path, capsys):
    names = ["-p", "ensemble_runs", str(tmp_path / "nowhere"), "-p", "candidates", "2"]
    assert main(["run", "--preset", "smoke", "--run-dir", str(tmp_path / "new"), *names]) == REFUSED
    assert "nowhere, named in ensemble_runs, is no run with data and a tuned model" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_ensemble_is_given_up_by_an_empty_name(several, tmp_path):
    run = changed(several[0], tmp_path / "mine", ensemble_runs=(str(several[1].path),))
    kept = runs.open_run(run.path, None, stage="evaluate", needs="train", ensemble_runs=None)[1]
    assert kept.ensemble_runs == (str(several[1].path),)
    assert runs.open_run(run.path, None, stage="evaluate", needs="train", ensemble_runs="")[1].ensemble_runs == ()
    assert run.config().ensemble_runs == ()


def test_one_candidate_is_nothing_to_pool():
    with pytest.raises(ValueError, match="ensemble_runs pools candidates: set candidates to 2 or more"):
        RunConfig(ensemble_runs=("runs/b",))
    assert RunConfig(ensemble_runs=("runs/b",), candidates=2).decoding.endswith("2 runs pooled")


# Pooled in 05, and in ask


def test_what_several_runs_kept_is_pooled_and_not_found_again(several, sample, monkeypatch):
    model, tokenizer = models.load(several[0].config())
    monkeypatch.setattr(generation, "search", None)
    alone = [answer(run, run.config(), model, tokenizer, sample) for run in several]
    assert alone[1][0] == several[1].read_json("evaluation/reread.json")["answers"]
    some, seconds = answer(several[0], pooling(*several), model, tokenizer, sample)
    assert seconds == pytest.approx(sum(its for _, its in alone))
    assert some == [ensemble.pooled(own) for own in zip(*(own for own, _ in alone), strict=True)]
    assert any(len(one) > len(own) for one, own in zip(some, alone[0][0], strict=True)), "each found something of its own"


def test_an_assistant_asks_every_member(several, concert_db, tmp_path, monkeypatch):
    first, _, second = several
    both = Run(shutil.copytree(first.path, tmp_path / "both"))
    runs.save_config(both, pooling(both, second))
    assistant = ask.load(both.path)
    (other,) = assistant.others
    assert list(assistant.write(concert_db, "Who?")) != list(other.write(concert_db, "Who?"))
    assert [list(one.write(concert_db, "Who?")) for one in (assistant, other)] == [
        list(ask.load(run.path).write(concert_db, "Who?")) for run in (first, second)
    ]
    name, age, country = "SELECT name FROM singer", "SELECT age FROM singer", "SELECT country FROM singer"
    said = {
        assistant.model: [(name, math.log(0.4)), (country, math.log(0.1))],
        other.model: [(age, math.log(0.03)), (name, math.log(0.01))],
    }
    asked = []
    monkeypatch.setattr(generation, "search", lambda model, *_, **__: asked.append(model) or [said[model]])
    pooled = {one.sql: one.probability for one in assistant.ask(concert_db, "Who?").candidates}
    assert pooled == pytest.approx({name: (0.8 + 0.25) / 2, age: 0.75 / 2, country: 0.2 / 2})
    asked.clear()
    assert {one.sql for one in assistant.ask(concert_db, "Who?", candidates=1).candidates} == {name, country}
    assert asked == [assistant.model], "one answer is the first run's own"


def test_every_member_weighs_its_own_candidates(several, concert_db, tmp_path, monkeypatch):
    both = changed(several[1], tmp_path / "both")
    runs.save_config(both, pooling(both, several[0]))
    assistant, heard = ask.load(both.path), []
    monkeypatch.setattr(answers, "weighed", lambda model, tokenizer, some, *_: heard.append(model) or some)
    assistant.ask(concert_db, "Who?")
    assert heard == [assistant.model, assistant.others[0].model]


def test_a_member_alone_does_not_claim_what_all_reached_together(several, tmp_path):
    settings = pooling(several[0], several[1])
    record = several[0].record() | {"train": {"steps": 1, "first_loss": 1.0, "final_loss": 0.5}, "data_name": "Spider"}
    tuned = {"questions": 4, "ex": 80.0, "ex_low": 70.0, "ex_high": 90.0, "em": 50.0}
    record["evaluation"] = {"questions": 4, "decoding": settings.decoding, "tuned": tuned}
    assert "It had further runs then, which this folder lacks" in ask.trust(record, settings.helped_by)
    assert "lacks" not in ask.trust(record, several[0].config().helped_by)
    assert "That was with further runs to choose among candidates" in adapter.model_card(settings, record)
    assert "That was with" not in adapter.model_card(several[0].config(), record)
    folder = shutil.copytree(several[0] / "adapter", tmp_path / "taken")
    adapter.write_course(folder, settings, record)
    kept = json.loads((folder / adapter.COURSE).read_text())
    kept["settings"]["model_name"] = settings.model_name  # the tiny model lies in a folder of this test's
    (folder / adapter.COURSE).write_text(json.dumps(kept))
    assert "It had further runs then" in ask.load(model=str(folder)).trust


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"rereadings": 1}, ""),
        ({"twin_weight": 1.0}, "further adapters"),
        ({"ensemble_runs": ("runs/b",)}, "further runs"),
        ({"question_weight": 0.7, "ensemble_runs": ("runs/b",)}, "further adapters and further runs"),
    ],
)
def test_what_helps_a_run_is_said(changes, words):
    assert RunConfig(candidates=2, prompt_style="linked", **changes).helped_by == words
