"""The third adapter: what it reads, the mistakes it learns from, and its word in the choice; and candidates read again."""

import dataclasses
import math

import pytest

from helpers import answers, config, extra, generation, prompts, reread, runs, spider, twin, verifier, views, worker
from helpers.config import RunConfig, preset
from helpers.execution import Result
from helpers.runs import Run

LINKED = preset("cpu").with_overrides({"candidates": 3, "held_out_databases": 2, "constrained": True}, "this test")


class Letters:
    """A tokenizer of one letter a token, whose chat template adds nothing."""

    def __call__(self, texts, **options):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

    def apply_chat_template(self, messages, **options):
        return messages[0]["content"]


@pytest.fixture
def speaks(monkeypatch):
    """`score` in place of a model: the log probability that a test gives to each prompt and answer; no adapter is switched."""
    asked = []

    def put_in(log):
        def score(model, tokenizer, ids, texts, **options):
            pairs = [("".join(map(chr, one)), text) for one, text in zip(ids, texts, strict=True)]
            asked.extend(pairs)
            return [log(*pair) for pair in pairs]

        monkeypatch.setattr(generation, "score", score)
        monkeypatch.setattr(extra, "speaking", lambda name, model: pytest.MonkeyPatch.context())
        return asked

    return put_in


# What it reads


@pytest.mark.parametrize(
    "result, text",
    [
        (Result(outcome="ok", columns=("n",), rows=((3,),)), "1 row of 1 column | 3"),
        (Result(outcome="ok", columns=("a", "b"), rows=()), "0 rows of 2 columns"),
        (
            Result(outcome="ok", columns=("a",), rows=((None,), (b"\0",), ("it's\na",), (4,))),
            "4 rows of 1 column | NULL | a blob | 'it''s a'",
        ),
        (Result(outcome="no such column", error="no such column: x"), "error: no such column"),
    ],
)
def test_a_result_is_one_line(result, text):
    assert verifier.result_text(result) == text


def test_a_result_is_cut_short():
    wide = Result(outcome="ok", columns=tuple("abcdefg"), rows=(("x" * 500,) * 7,) * 500)
    assert len(verifier.result_text(wide)) < 600
    assert "500 rows of 7 columns" in verifier.result_text(wide)


def test_the_message_asks_for_yes_or_no_and_for_no_query(sample):
    view = prompts.views(sample, LINKED)(sample.dev[0].db_id)
    said = verifier.message(view.message("How many?"), "SELECT 1", Result(outcome="ok", columns=("1",), rows=((1,),)))
    assert said.startswith(verifier.TASK) and said.endswith("How many?\nSELECT 1\n1 row of 1 column | 1")
    assert views.INSTRUCTION not in said


# What it learns from


@pytest.fixture
def made(sample, tmp_path, monkeypatch):
    """A run that held out two databases of the sample and found for every question gold, gold again and something wrong."""
    run = Run(tmp_path / "other")
    runs.save_config(run, LINKED.with_overrides({"eval_questions": 0}, "this test"))
    held = spider.hold_out(sample, 2)
    monkeypatch.setattr(spider, "load", lambda *names: held)
    run.add_to_record(data_sha256=held.sha256)
    seen = prompts.views(held, LINKED)
    dev = [dataclasses.asdict(one) | {"message": seen(one.db_id).message(one.question)} for one in held.dev]
    run.write_jsonl("data/dev.jsonl", dev)
    found = []
    for one in held.dev:
        gold = seen(one.db_id).completion(one.query)
        found.append([[gold, -0.1], [f" {gold} ", -2.0], ["SELECT 'certainly wrong'", -3.0]])
    run.write_json("evaluation/tuned.json", {"made_with": "", "seconds": 1.0, "answers": found})
    return run, held


def learning_from(run):
    """Settings of a run whose third adapter learns from this one."""
    return LINKED.with_overrides({"verifier_weight": 1.0, "verifier_runs": (str(run.path),)}, "this test")


def test_candidates_are_judged_once_a_result(made):
    run, held = made
    found = list(verifier.judged(run, set()))
    assert sum(one.is_right for one in found) == len(held.dev)
    assert sum(not one.is_right for one in found) == len(held.dev)
    assert held.dev[0].question in found[0].message and found[0].is_right
    assert "'certainly wrong'" in found[1].message and not found[1].is_right


def test_what_a_run_is_judged_on_it_does_not_learn_from(made):
    run, held = made
    asked = {(one.db_id, one.question) for one in held.dev[1:]}
    assert {held.dev[0].question in one.message for one in verifier.judged(run, asked)} == {True}


def test_without_another_question_there_is_nothing_to_learn(made, tmp_path):
    run, held = made
    own = Run(tmp_path / "own")
    own.write_jsonl("data/dev.jsonl", [dataclasses.asdict(one) for one in held.dev])
    settings = learning_from(run)
    with pytest.raises(ValueError, match="every candidate there is about a question that this run is judged on"):
        verifier.rows(own, Letters(), settings)
    assert not (own / "verifier/candidates.jsonl").exists()


def test_a_verifier_of_other_runs_is_not_taken_for_this_one(made, tmp_path):
    run, _ = made
    own = Run(tmp_path / "own")
    own.write_json("verifier/sources.json", {"runs/elsewhere": ""})
    own.write_jsonl("verifier/candidates.jsonl", [{"message": "", "is_right": True}])
    settings = learning_from(run)
    with pytest.raises(runs.OtherConfiguration, match="learned from runs/elsewhere"):
        verifier.rows(own, Letters(), settings)


@pytest.mark.parametrize("changes", [{"held_out_databases": 0}, {"candidates": 1}])
def test_a_run_that_cannot_teach_is_named(made, changes):
    run, _ = made
    runs.save_config(run, run.config().with_overrides(changes, "this test"))
    with pytest.raises(
        ValueError, match="other, named in verifier_runs, needs held_out_databases above 0 and candidates above 1"
    ):
        verifier.check(learning_from(run))


def test_a_run_without_candidates_is_named(tmp_path):
    with pytest.raises(runs.MissingStep, match="nowhere, named in verifier_runs, has no candidates"):
        verifier.check(learning_from(Run(tmp_path / "nowhere")))
    verifier.check(learning_from(Run(tmp_path / "nowhere")).with_overrides({"verifier_weight": 0.0}, ""))


def test_candidates_for_other_questions_are_not_judged(made):
    run, held = made
    run.write_jsonl("data/dev.jsonl", run.read_jsonl("data/dev.jsonl")[1:])
    with pytest.raises(runs.OtherConfiguration, match=f"candidates for {len(held.dev):,} questions"):
        next(verifier.judged(run, set()))


@pytest.mark.parametrize("changes", [{"prompt_style": "schema"}, {"readable_names": False}])
def test_candidates_from_other_prompts_are_refused(made, changes):
    run, _ = made
    with pytest.raises(ValueError, match=f"{next(iter(changes))}=.* candidates must come from prompts of one form"):
        verifier.check(learning_from(run).with_overrides(changes, "this test"))


def test_candidates_found_anew_make_a_verifier_old(made, tmp_path, monkeypatch):
    run, held = made
    own = Run(tmp_path / "own")
    own.write_jsonl("data/dev.jsonl", [dataclasses.asdict(held.dev[0])])
    monkeypatch.setattr(prompts, "training_rows", lambda tokenizer, pairs, date: [answer for _, answer in pairs])
    first = verifier.rows(own, Letters(), learning_from(run))
    assert set(first) == {"no", "yes"} and first == verifier.rows(own, Letters(), learning_from(run))
    run.write_json("evaluation/tuned.json", run.read_json("evaluation/tuned.json") | {"made_with": "another model"})
    with pytest.raises(runs.OtherConfiguration, match="as they were then"):
        verifier.rows(own, Letters(), learning_from(run))


# Its word in the choice


@pytest.fixture
def asked(sample):
    """A question of the sample, its database as the model sees it, and two candidates, the likelier one first."""
    view = prompts.views(sample, LINKED)(sample.dev[0].db_id)
    table = next(iter(view.names.tables.values()))
    return "How many?", view, [(f"SELECT COUNT(*) FROM {table}", -0.5), ("SELECT 'nothing'", -1.5)]


def test_what_the_verifier_believes_comes_first(asked, speaks):
    question, view, some = asked
    heard = speaks(lambda prompt, text: math.log(0.01 if "COUNT" in prompt else 0.9))
    settings = LINKED.with_overrides({"verifier_weight": 1.0, "verifier_runs": ("runs/other",)}, "this test")
    ((best, log), (other, less)) = verifier.weigh(None, Letters(), [some], [question], [view], settings)[0]
    assert (best, other) == (some[1][0], some[0][0])
    assert math.exp(log) + math.exp(less) == pytest.approx(1)
    assert log - less == pytest.approx(-1.0 + math.log(90))
    assert [text for _, text in heard] == ["yes", "yes"]


def test_one_candidate_needs_no_word(asked, speaks):
    question, view, some = asked
    heard = speaks(lambda prompt, text: 0.0)
    settings = LINKED.with_overrides({"verifier_weight": 1.0, "verifier_runs": ("runs/other",)}, "this test")
    assert verifier.weigh(None, Letters(), [some[:1], []], [question] * 2, [view] * 2, settings) == [[(some[0][0], 0.0)], []]
    assert not heard


def test_readings_are_averaged(asked, speaks):
    question, view, some = asked
    heard = speaks(lambda prompt, text: -3.0 if "COUNT" in text else -0.5)
    settings = LINKED.with_overrides({"rereadings": 2}, "this test")
    again = dict(reread.weigh(None, Letters(), [some], [question], [view], settings)[0])
    first, second = (text for text, _ in some)
    assert again[first] - again[second] == pytest.approx((-0.5 - 6) / 3 - (-1.5 - 1) / 3)
    assert len(heard) == 4 and all(prompt.endswith(question) for prompt, _ in heard)
    assert len({prompt for prompt, _ in heard} | {view.message(question)}) == 3, "each reading has an order of its own"


def test_readings_are_the_same_each_time(asked, speaks):
    question, view, some = asked
    heard = speaks(lambda prompt, text: 0.0)
    settings = LINKED.with_overrides({"rereadings": 3}, "this test")
    for _ in range(2):
        reread.weigh(None, Letters(), [some], [question], [view], settings)
    assert heard[: len(heard) // 2] == heard[len(heard) // 2 :]


def test_a_twin_speaks_of_each_candidate_as_it_was_asked(asked, speaks):
    question, view, some = asked
    heard = speaks(lambda prompt, text: -4.0 if "COUNT" in text else -0.5)
    settings = LINKED.with_overrides({"twin_weight": 3.0}, "this test")
    ((best, log), (other, less)) = twin.weigh(None, Letters(), [some], [question], [view], settings)[0]
    assert (best, other) == (some[1][0], some[0][0])
    assert math.exp(log) + math.exp(less) == pytest.approx(1)
    assert log - less == pytest.approx((-1.5 - 1.5) / 4 - (-0.5 - 12.0) / 4)
    assert heard == [(view.message(question), text) for text, _ in some]


def test_each_weigher_has_its_turn_in_order():
    settings = LINKED.with_overrides(
        {"rereadings": 1, "twin_weight": 1, "question_weight": 0.7, "verifier_weight": 2.0, "verifier_runs": ("a",)}, ""
    )
    names = [name for name, _, _ in answers.weighers(None, None, [], [], settings)]
    assert names == ["reread", "twin", "channel", "verifier"]
    assert not list(answers.weighers(None, None, [], [], LINKED))
    assert settings.decoding.endswith("rereadings 1, twin_weight 1, question_weight 0.7, verifier_weight 2")


def test_every_further_adapter_can_be_learned_by_several_processes():
    assert set(answers.ADAPTERS) <= set(worker.JOBS)
    assert [config.stage_of(setting) for setting in answers.ADAPTERS.values()] == ["evaluate"] * len(answers.ADAPTERS)


def test_answers_weighed_otherwise_are_not_taken_for_these(tmp_path):
    run = Run(tmp_path / "mine")
    with pytest.raises(runs.OtherConfiguration, match=r"mine is set to weigh with channel 0\.7"):
        answers.weighed_before(run, "channel", 0.7)
    run.write_json("evaluation/channel.json", {"made_with": "", "weight": 0.5, "seconds": 1.0, "answers": []})
    with pytest.raises(runs.OtherConfiguration, match="found without that: answer again"):
        answers.weighed_before(run, "channel", 0.7)
    assert answers.weighed_before(run, "channel", 0.5)["seconds"] == 1.0


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"candidates": 2, "verifier_weight": 1.0}, "name runs that made them in verifier_runs"),
        ({"candidates": 1, "verifier_weight": 1.0, "verifier_runs": ("a",)}, "verifier_weight chooses among candidates"),
        ({"candidates": 1, "twin_weight": 1.0}, "twin_weight chooses among candidates"),
        ({"candidates": 1, "rereadings": 1}, "rereadings chooses among candidates"),
        ({"candidates": 2, "rereadings": 1, "prompt_style": "schema"}, "rereadings shakes the order of linked prompts"),
        ({"candidates": 2, "rereadings": 1, "prompt_parts": ("values",)}, "rereadings shakes the order of linked prompts"),
        ({"held_out_part": 1}, "held_out_part is a group of held_out_databases"),
    ],
)
def test_weights_without_what_they_need_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        RunConfig(**({"prompt_style": "linked"} | changes))


def test_runs_are_named_in_one_string_or_in_none():
    assert LINKED.with_overrides({"verifier_runs": "runs/a, runs/b"}, "").verifier_runs == ("runs/a", "runs/b")
    assert RunConfig().verifier_runs == () == RunConfig(verifier_runs=[]).verifier_runs


# Groups of databases


def test_groups_held_out_share_no_database_and_make_up_the_whole(sample):
    there = {one.db_id for one in sample.train}
    groups = [{one.db_id for one in spider.hold_out(sample, 3, part).dev} for part in range(len(there) // 3)]
    assert all(len(group) == 3 for group in groups)
    assert len(set().union(*groups)) == 3 * len(groups)
    with pytest.raises(spider.BadData, match=f"only {len(groups)} groups of 3"):
        spider.hold_out(sample, 3, len(groups))
