"""Answers of a tuned model: batches, the end of the turn, and answers kept."""

import pytest
from conftest import varied

from helpers import answers, generation, models, prompts, training, views
from helpers.databases.sql_text import extract_sql
from helpers.run import machine, memory
from helpers.run.folder import Run

torch = pytest.importorskip("torch")

QUESTIONS = [
    "How many?",
    "Name the oldest three of all the libraries in the country, with the town of each.",
    "Which cakes cost more than five?",
    "singer: singer_id, name, country, age\nconcert: concert_id, title, held_by\nWho sang in more than three concerts?",
    "Rooms?",
    "What is the average price of a ticket on a Sunday, and the highest?",
]


# Answers of the tiny model


@pytest.fixture
def tiny(smoke):
    """The tiny model with an adapter whose answers differ from the base's, and its tokenizer."""
    return varied(smoke)


def ids(tokenizer, questions=QUESTIONS):
    return [prompts.prompt_ids(tokenizer, question) for question in questions]


def alone(model, tokenizer, prompts_ids, max_new_tokens=12):
    """Each answer on its own."""
    return [generation.answer(model, tokenizer, [one], max_new_tokens=max_new_tokens, batch_size=1)[0] for one in prompts_ids]


@pytest.mark.parametrize("batch_size", [2, 4, 6])
def test_a_question_is_answered_in_a_batch_as_alone_and_in_its_place(tiny, batch_size):
    model, tokenizer = tiny
    single = alone(model, tokenizer, ids(tokenizer))
    assert len(set(single)) > 3, "answers all alike would hide a mistaken order"
    assert generation.answer(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=batch_size) == single


def test_smollm_answers_in_a_batch_as_alone(smollm_files):
    """The real model, as preset cpu trains it: left padding has been wrong in released versions of the libraries."""
    from helpers.run.presets import preset

    model, tokenizer = models.load(preset("cpu"), smollm_files)
    answers = generation.answer(model, tokenizer, ids(tokenizer), max_new_tokens=5, batch_size=6)
    assert answers == alone(model, tokenizer, ids(tokenizer), max_new_tokens=5)
    assert len(set(answers)) > 1


def test_no_questions_have_no_answers(tiny):
    assert generation.answer(*tiny, [], max_new_tokens=12, batch_size=4) == []


def test_an_answer_is_cut_at_the_number_of_new_tokens(tiny, monkeypatch):
    model, tokenizer = tiny
    monkeypatch.setattr(generation, "stop_tokens", lambda *_: [])
    short, long = (generation.answer(model, tokenizer, ids(tokenizer), max_new_tokens=most, batch_size=6) for most in (3, 9))
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
    rows = [prompts.training_row(tokenizer, question, sql) for question, sql in known.items()]
    training.train(model, tokenizer, rows, by_heart, Run(tmp_path_factory.mktemp("learned")))
    return model, tokenizer, known


def test_what_was_learned_is_answered_and_ends_with_the_turn(learned):
    """From training to answering with nothing lost: template, mask, end of the turn, padding."""
    model, tokenizer, known = learned
    found = generation.answer(model, tokenizer, ids(tokenizer, known), max_new_tokens=60, batch_size=2)
    assert found == list(known.values())


def test_the_base_knows_nothing_of_what_the_adapter_learned(learned):
    model, tokenizer, known = learned
    found = generation.answer(model, tokenizer, ids(tokenizer, known), max_new_tokens=20, batch_size=2, base=True)
    assert not set(found) & set(known.values())


@pytest.mark.parametrize("named", [None, 0, [0, 1]])
def test_every_token_that_the_model_or_the_tokenizer_ends_with_is_a_stop(tiny, named):
    model, tokenizer = tiny
    model.generation_config.eos_token_id = named
    expected = {tokenizer.eos_token_id} | set(named if isinstance(named, list) else [named] if named is not None else [])
    assert set(generation.stop_tokens(model, tokenizer)) == expected


def test_a_prompt_that_leaves_no_room_for_an_answer_gets_none_and_the_others_theirs(tiny, capsys):
    model, tokenizer = tiny
    room = generation.context(model)
    assert room == 2048
    known = ids(tokenizer)[:2]
    filling = [known[0][0]] * (room - 12)
    found = generation.answer(model, tokenizer, [known[0], [*filling, 5], known[1]], max_new_tokens=12, batch_size=3)
    assert found == [alone(model, tokenizer, known[:1])[0], "", alone(model, tokenizer, known[1:])[0]]
    assert "1 prompts are longer than 2,036 tokens" in capsys.readouterr().out
    assert generation.answer(model, tokenizer, [filling], max_new_tokens=12, batch_size=1) != [""]


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
    whole = generation.answer(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=6)
    sizes = limit_memory(monkeypatch, model, most=2)
    assert generation.answer(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=6) == whole
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1], "what did not fit once is not tried again"


def test_memory_too_short_for_one_question_is_an_error(tiny, monkeypatch):
    model, tokenizer = tiny
    limit_memory(monkeypatch, model, most=0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        generation.answer(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=6)
    assert model.active_adapter, "the model is left as it was"


def test_answers_can_be_cut_each_at_a_length_of_its_own(tiny):
    model, tokenizer = tiny
    lengths = [3, 7, 1, 12, 5, 9]
    cut = [alone(model, tokenizer, [one], max_new_tokens=length)[0] for one, length in zip(ids(tokenizer), lengths, strict=True)]
    found = generation.answer(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=6, lengths=lengths)
    assert all(text.startswith(short) for text, short in zip(found, cut, strict=True)), "none ends before its length"


@pytest.mark.parametrize("free, length", [(2**30, 100), (2**34, 100), (2**34, 2000)])
def test_a_batch_takes_what_the_gpu_has_free_and_no_more(tiny, monkeypatch, free, length):
    """Of keys and values alone, known to the byte, a batch may need nine tenths of what is free at most."""
    model, _ = tiny
    monkeypatch.setattr(machine, "gpu", lambda: machine.Gpu(name="a GPU", memory_gib=16, capability=(9, 0)))
    monkeypatch.setattr(memory, "free_gpu_bytes", lambda: free)
    one = model.config
    each = 2 * one.num_hidden_layers * one.num_key_value_heads * (one.hidden_size // one.num_attention_heads) * 4
    size = generation.fitting_batch(model, length)
    assert size >= 1 and size * length * each <= 0.9 * free
    monkeypatch.setattr(memory, "free_gpu_bytes", lambda: 2 * free)
    assert generation.fitting_batch(model, length) == pytest.approx(2 * size, abs=1)


def test_a_gpu_with_no_room_is_asked_for_one_answer_at_a_time(tiny, monkeypatch):
    monkeypatch.setattr(machine, "gpu", lambda: machine.Gpu(name="a GPU", memory_gib=16, capability=(9, 0)))
    monkeypatch.setattr(memory, "free_gpu_bytes", lambda: 0)
    assert generation.fitting_batch(tiny[0], 100) == 1


# Predictions kept in the run folder


@pytest.fixture
def run(tiny, tmp_path):
    """A run folder with the tiny model's adapter."""
    tiny[0].save_pretrained(tmp_path / "adapter")
    return Run(tmp_path)


def predict(model, tokenizer, settings, run, questions=QUESTIONS, *, base=False):
    """Predictions for questions about an example database."""
    about = [views.example(settings)] * len(questions)
    return answers.predict(model, tokenizer, questions, settings, run, questions=questions, views=about, base=base)


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
    assert texts == generation.answer(model, tokenizer, ids(tokenizer), max_new_tokens=12, batch_size=4)
    assert made == [extract_sql(answer) for answer in texts]


def was_made_anew(tokenizer, settings, run, questions=QUESTIONS, *, base=False):
    """Whether `predict` asks the model, instead of taking the answers kept."""
    try:
        predict(None, tokenizer, settings, run, questions, base=base)
    except AttributeError:  # there is no model to ask
        return True
    return False


def test_another_adapter_makes_tuned_predictions_anew_and_leaves_the_bases(tiny, smoke, run):
    model, tokenizer = tiny
    for base in (True, False):
        predict(model, tokenizer, smoke, run, base=base)
    torch.nn.init.zeros_(next(weights for name, weights in model.named_parameters() if "lora_B" in name).data)
    model.save_pretrained(run / "adapter")
    assert was_made_anew(tokenizer, smoke, run, base=False)
    assert not was_made_anew(tokenizer, smoke, run, base=True)


@pytest.mark.parametrize(
    "change, anew",
    [
        ({"max_new_tokens": 13}, True),
        ({"per_device_eval_batch_size": 3}, False),
        ({"query_timeout": 9.0}, False),
    ],
)
def test_settings_that_decide_the_answers_make_them_anew_and_others_do_not(tiny, smoke, run, change, anew):
    model, tokenizer = tiny
    predict(model, tokenizer, smoke, run)
    assert was_made_anew(tokenizer, smoke.with_overrides(change, "this test"), run) is anew


@pytest.mark.parametrize("questions", [QUESTIONS[:-1], QUESTIONS[::-1], [*QUESTIONS[:-1], "And now?"]])
def test_other_questions_make_predictions_anew(tiny, smoke, run, questions):
    model, tokenizer = tiny
    predict(model, tokenizer, smoke, run)
    assert was_made_anew(tokenizer, smoke, run, questions)
