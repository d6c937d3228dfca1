"""The noisy-channel reranker: its arithmetic, on numbers worked out by hand and with a real adapter."""

import math
from types import MappingProxyType

import pytest
from conftest import varied
from hypothesis import given
from hypothesis import strategies as st

from helpers.decoding import generate, rerank
from helpers.prompts import tokens
from helpers.run import presets
from helpers.run.folder import MissingStep, Run

WEIGHED = presets.preset("cpu").with_overrides({"candidates": 2, "rerank_weight": 0.5}, "this test")
CANDIDATES = [("SELECT a", math.log(0.6)), ("SELECT b", math.log(0.3))]


class Letters:
    """A tokenizer of one letter a token, without control tokens, whose chat template adds nothing."""

    added_tokens_decoder = MappingProxyType({})

    def __call__(self, texts, **options):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

    def apply_chat_template(self, messages, **options):
        return messages[0]["content"]


class Adapters:
    """A model that only remembers which adapter is active."""

    active_adapter = "default"

    def set_adapter(self, name):
        self.active_adapter = name


@pytest.fixture
def scored(monkeypatch):
    """Stands in for the reranker's log probability of a question given SQL: a table by SQL. What was scored is kept."""
    asked = []

    def put_in(table):
        def score(model, tokenizer, ids, questions, **options):
            pairs = [("".join(map(chr, one)), question) for one, question in zip(ids, questions, strict=True)]
            asked.extend((model.active_adapter, *pair) for pair in pairs)
            return [table[sql] for sql, _ in pairs]

        monkeypatch.setattr(generate, "score", score)
        return asked

    return put_in


def test_the_score_of_a_candidate_is_its_own_log_probability_plus_the_weighted_log_probability_of_the_question(scored):
    scored({"SELECT a": math.log(0.01), "SELECT b": math.log(0.16)})
    ((best, log), (other, less)) = rerank.rescore(Adapters(), Letters(), [CANDIDATES], ["How many?"], WEIGHED)[0]
    # 0.6 * sqrt(0.01) = 0.06 against 0.3 * sqrt(0.16) = 0.12: two thirds for the second
    assert (best, other) == ("SELECT b", "SELECT a")
    assert (math.exp(log), math.exp(less)) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_each_candidate_is_scored_by_the_reranker_with_its_own_question_and_the_first_adapter_comes_back(scored):
    asked = scored({"SELECT a": -1.0, "SELECT b": -1.0})
    model = Adapters()
    rerank.rescore(model, Letters(), [CANDIDATES, [], [(" SELECT a\n", -2.0)]], ["one?", "two?", "three?"], WEIGHED)
    assert asked == [("channel", "SELECT a", "one?"), ("channel", "SELECT b", "one?"), ("channel", "SELECT a", "three?")]
    assert model.active_adapter == "default"


def test_a_question_without_candidates_stays_without(scored):
    scored({})
    assert rerank.rescore(Adapters(), Letters(), [[]], ["How many?"], WEIGHED) == [[]]


def test_with_equal_scores_the_order_stays_as_it_was(scored):
    scored({"SELECT a": -7.0, "SELECT b": -7.0})
    found = rerank.rescore(Adapters(), Letters(), [CANDIDATES], ["How many?"], WEIGHED)[0]
    assert [text for text, _ in found] == ["SELECT a", "SELECT b"]
    assert math.exp(found[0][1]) == pytest.approx(2 / 3)


@given(st.lists(st.tuples(st.text(max_size=3), st.floats(-1e4, 0)), min_size=1, max_size=8), st.floats(-1e3, 1e3))
def test_normalized_probabilities_sum_to_one_whatever_the_scale(candidates, shift):
    found = rerank.normalized([(text, log + shift) for text, log in candidates])
    assert sum(math.exp(log) for _, log in found) == pytest.approx(1)
    logs = [log for _, log in found]
    assert logs == sorted(logs, reverse=True)
    assert sorted(text for text, _ in found) == sorted(text for text, _ in candidates)


def test_a_run_without_a_reranker_says_how_to_get_one(tmp_path):
    with pytest.raises(MissingStep, match=r"has no channel/adapter.\n  Run 04 Train again"):
        rerank.attach(None, Run(tmp_path / "run"))


def test_a_loaded_reranker_scores_as_the_same_adapter_does_alone(smoke, tmp_path):
    """With a real model: rescored differences are those of the log probabilities under the second adapter."""
    model, tokenizer = varied(smoke)
    run = Run(tmp_path / "run")
    run.path.mkdir()
    model.save_pretrained(run / "channel/adapter")
    ids = [tokens.prompt_ids(tokenizer, text) for text, _ in CANDIDATES]
    alone = generate.score(model, tokenizer, ids, ["How many?"] * 2, batch_size=2)
    from helpers import models

    fresh, tokenizer = models.load(smoke)
    assert not rerank.is_attached(fresh)
    rerank.attach(fresh, run)
    assert rerank.is_attached(fresh)
    found = dict(rerank.rescore(fresh, tokenizer, [CANDIDATES], ["How many?"], WEIGHED)[0])
    expected = math.log(2) + 0.5 * (alone[0] - alone[1])
    assert found["SELECT a"] - found["SELECT b"] == pytest.approx(expected, abs=1e-3)
    assert fresh.active_adapter == "default"
