"""Answers of a tuned model: batches, the end of the turn, and answers kept."""

import pytest
from conftest import QUESTIONS

from helpers import models, train
from helpers.decoding import generate as generate_module
from helpers.decoding.generate import context_length, fitting_batch, greedy_answers, stop_tokens
from helpers.prompts import tokens
from helpers.run import machine, memory
from helpers.run.folder import Run

torch = pytest.importorskip("torch")

# Answers of the tiny model


def ids(tokenizer, questions=QUESTIONS):
    return [tokens.prompt_ids(tokenizer, question) for question in questions]


def alone(model, tokenizer, prompts_ids, max_new_tokens=12):
    """Each answer on its own."""
    return [greedy_answers(model, tokenizer, [one], max_new_tokens=max_new_tokens, batch_size=1)[0] for one in prompts_ids]


@pytest.mark.parametrize("batch_size", [2, 4, 6])
def test_a_question_is_answered_in_a_batch_as_alone_and_in_its_place(tiny, batch_size):
    model, tokenizer = tiny
    single = alone(model, tokenizer, ids(tokenizer))
    assert len(set(single)) > 3, "answers all alike would hide a mistaken order"
    assert greedy_answers(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=batch_size) == single


def test_smollm_answers_in_a_batch_as_alone(smollm_files):
    """The real model, as preset cpu trains it: left padding has been wrong in released versions of the libraries."""
    from helpers.run.presets import preset

    model, tokenizer = models.load(preset("cpu"), smollm_files)
    asked = ids(tokenizer)[:3]
    answers = greedy_answers(model, tokenizer, asked, max_new_tokens=4, batch_size=3)
    assert answers == alone(model, tokenizer, asked, max_new_tokens=4)
    assert len(set(answers)) > 1


def test_no_questions_have_no_answers(tiny):
    assert greedy_answers(*tiny, [], max_new_tokens=12, batch_size=4) == []


def test_an_answer_is_cut_at_the_number_of_new_tokens(tiny, monkeypatch):
    model, tokenizer = tiny
    monkeypatch.setattr(generate_module, "stop_tokens", lambda *_: [])
    short, long = (greedy_answers(model, tokenizer, ids(tokenizer), max_new_tokens=most, batch_size=6) for most in (3, 9))
    assert all(after.startswith(before.rstrip("\ufffd")) and after != before for before, after in zip(short, long, strict=True))


@pytest.fixture(scope="module")
def learned(smoke, tmp_path_factory):
    """A tiny model that knows two answers of different length by heart."""
    known = {"How many?": "SELECT 1", "Name the oldest three of all the libraries.": "SELECT name FROM t ORDER BY age LIMIT 3"}
    by_heart = smoke.with_overrides(
        {
            "max_steps": 150,
            "learning_rate": 0.02,
            "r": 32,
            "train_batch_size": 2,
            "per_device_train_batch_size": 2,
            "save_steps": 1000,
        },
        "this test",
    )
    model, tokenizer = models.load(by_heart)
    rows = [tokens.training_row(tokenizer, question, sql) for question, sql in known.items()]
    train.train(model, tokenizer, rows, by_heart, Run(tmp_path_factory.mktemp("learned")))
    return model, tokenizer, known


def test_what_was_learned_is_answered_and_ends_with_the_turn(learned):
    """From training to answering with nothing lost: template, mask, end of the turn, padding."""
    model, tokenizer, known = learned
    found = greedy_answers(model, tokenizer, ids(tokenizer, known), max_new_tokens=60, batch_size=2)
    assert found == list(known.values())


def test_the_base_knows_nothing_of_what_the_adapter_learned(learned):
    model, tokenizer, known = learned
    found = greedy_answers(model, tokenizer, ids(tokenizer, known), max_new_tokens=20, batch_size=2, base=True)
    assert not set(found) & set(known.values())


@pytest.mark.parametrize("named", [None, 0, [0, 1]])
def test_every_token_that_the_model_or_the_tokenizer_ends_with_is_a_stop(tiny, named):
    model, tokenizer = tiny
    model.generation_config.eos_token_id = named
    expected = {tokenizer.eos_token_id} | set(named if isinstance(named, list) else [named] if named is not None else [])
    assert set(stop_tokens(model, tokenizer)) == expected


def test_a_prompt_that_leaves_no_room_for_an_answer_gets_none_and_the_others_theirs(tiny, capsys):
    model, tokenizer = tiny
    room = context_length(model)
    assert room == 2048
    known = ids(tokenizer)[:2]
    filling = [known[0][0]] * (room - 12)
    found = greedy_answers(model, tokenizer, [known[0], [*filling, 5], known[1]], max_new_tokens=12, batch_size=3)
    assert found == [alone(model, tokenizer, known[:1])[0], "", alone(model, tokenizer, known[1:])[0]]
    assert "1 prompts are longer than 2,036 tokens" in capsys.readouterr().out
    assert greedy_answers(model, tokenizer, [filling], max_new_tokens=12, batch_size=1) != [""]


def limit_memory(monkeypatch, model, most):
    """Let `generate` run out of memory for batches of more than `most`; the sizes it was asked for."""
    generate, sizes = model.generate, []

    def limited(**options):
        sizes.append(len(options["input_ids"]))
        if sizes[-1] > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return generate(**options)

    monkeypatch.setattr(model, "generate", limited)
    return sizes


def test_short_memory_halves_the_batch_and_changes_no_answer(tiny, monkeypatch):
    model, tokenizer = tiny
    whole = greedy_answers(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=6)
    sizes = limit_memory(monkeypatch, model, most=2)
    assert greedy_answers(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=6) == whole
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1], "what did not fit once is not tried again"


def test_memory_too_short_for_one_question_is_an_error(tiny, monkeypatch):
    model, tokenizer = tiny
    limit_memory(monkeypatch, model, most=0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        greedy_answers(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=6)
    assert model.active_adapter, "the model is left as it was"


def test_answers_can_be_cut_each_at_a_length_of_its_own(tiny):
    model, tokenizer = tiny
    lengths = [3, 7, 1, 12, 5, 9]
    cut = [alone(model, tokenizer, [one], max_new_tokens=length)[0] for one, length in zip(ids(tokenizer), lengths, strict=True)]
    found = greedy_answers(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=6, lengths=lengths)
    assert all(text.startswith(short) for text, short in zip(found, cut, strict=True)), "none ends before its length"


@pytest.mark.parametrize("free, length", [(2**30, 100), (2**34, 100), (2**34, 2000)])
def test_a_batch_takes_what_the_gpu_has_free_and_no_more(tiny, monkeypatch, free, length):
    """Of keys and values alone, known to the byte, a batch may need nine tenths of what is free at most."""
    model, _ = tiny
    monkeypatch.setattr(machine, "gpu", lambda: machine.Gpu(name="a GPU", memory_gib=16, capability=(9, 0)))
    monkeypatch.setattr(memory, "free_gpu_bytes", lambda: free)
    one = model.config
    each = 2 * one.num_hidden_layers * one.num_key_value_heads * (one.hidden_size // one.num_attention_heads) * 4
    size = fitting_batch(model, length)
    assert size >= 1 and size * length * each <= 0.9 * free
    monkeypatch.setattr(memory, "free_gpu_bytes", lambda: 2 * free)
    assert fitting_batch(model, length) == pytest.approx(2 * size, abs=1)


def test_a_gpu_with_no_room_is_asked_for_one_answer_at_a_time(tiny, monkeypatch):
    monkeypatch.setattr(machine, "gpu", lambda: machine.Gpu(name="a GPU", memory_gib=16, capability=(9, 0)))
    monkeypatch.setattr(memory, "free_gpu_bytes", lambda: 0)
    assert fitting_batch(tiny[0], 100) == 1


# Log probabilities


def test_a_score_is_the_sum_of_log_probabilities_whatever_the_batch(tiny):
    model, tokenizer = tiny
    asked = [tokens.prompt_ids(tokenizer, text) for text in ("How many?", "Name the oldest three of all.", "?")]
    texts = ["SELECT 1", "SELECT count(*) FROM t WHERE name = 'größer'", ""]
    expected = []
    model.eval()
    for prompt, answer in zip(asked, texts, strict=True):
        end = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([[*prompt, *end]])).logits[0].log_softmax(-1)
        expected.append(sum(logs[len(prompt) - 1 + at, token].item() for at, token in enumerate(end)))
    for batch_size in (1, 2, 3):
        assert generate_module.score(model, tokenizer, asked, texts, batch_size=batch_size) == pytest.approx(expected, abs=1e-3)
    assert generate_module.score(model, tokenizer, [], [], batch_size=2) == []


def test_a_beam_is_at_least_as_probable_as_its_text_with_the_end_of_the_turn(tiny):
    model, tokenizer = tiny
    asked = [tokens.prompt_ids(tokenizer, "How many?")]
    (found,) = generate_module.generate_candidates(model, tokenizer, asked, count=3, max_new_tokens=4, batch_size=1)
    scores = generate_module.score(model, tokenizer, asked * 3, [text for text, _ in found], batch_size=3)
    for (_, log), score in zip(found, scores, strict=True):  # the score counts the end of the turn as well
        assert score <= log + 1e-3
