"""A model and its adapter: what learns, what it weighs, and that switching the adapter off gives the base back."""

import pytest

from helpers import models
from helpers.decoding import generate
from helpers.prompts import tokens
from helpers.run import machine, memory
from helpers.run.config import PROJECTIONS, RunConfig
from helpers.run.folder import OtherConfiguration, Run
from helpers.run.presets import preset
from helpers.sources import model_files

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

MESSAGES = ["How many cakes are there?", "Which is the oldest library?", "Name all the rooms."]


@pytest.fixture
def loaded(smoke):
    """A fresh model and its tokenizer."""
    return models.load(smoke)


def answers(model, tokenizer, settings, *, base=False):
    """Answers to three questions."""
    prompts_ids = [tokens.prompt_ids(tokenizer, message) for message in MESSAGES]
    return generate.greedy_answers(model, tokenizer, prompts_ids, max_new_tokens=12, batch_size=4, base=base)


def train_at_random(model):
    """Give the adapter weights as if it had been trained, large enough to change every answer."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter.data)


def adapter_of(model):
    """The adapter's weights, copied."""
    return {name: weights.detach().clone() for name, weights in model.named_parameters() if weights.requires_grad}


# Loading


def test_only_the_seven_projections_get_an_adapter(loaded):
    model, _ = loaded
    trained = {name.split(".lora_")[0].rpartition(".")[2] for name, weights in model.named_parameters() if weights.requires_grad}
    assert trained == set(PROJECTIONS)
    assert all("lora_" in name for name, weights in model.named_parameters() if weights.requires_grad)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_what_learns_is_r_times_inputs_and_outputs_of_each_projection(smoke, rank):
    model, _ = models.load(smoke.with_overrides({"r": rank}, "this test"))
    hidden, between, keys, layers = 64, 128, 32, 2  # the tiny model's own shape
    attention = (hidden + hidden) + (hidden + keys) + (hidden + keys) + (hidden + hidden)
    feed_forward = (hidden + between) + (hidden + between) + (between + hidden)
    trained, _ = models.trainable(model)
    assert trained == layers * rank * (attention + feed_forward)


def test_a_choice_of_projections_is_obeyed(smoke):
    model, _ = models.load(smoke.with_overrides({"target_modules": ("q_proj", "v_proj")}, "this test"))
    assert models.trainable(model)[0] == 2 * smoke.r * ((64 + 64) + (64 + 32))


def test_a_fresh_adapter_changes_no_answer(loaded, smoke):
    model, tokenizer = loaded
    assert answers(model, tokenizer, smoke) == answers(model, tokenizer, smoke, base=True)


def test_a_fresh_adapter_is_the_same_for_a_seed(smoke):
    one, again = adapter_of(models.load(smoke)[0]), adapter_of(models.load(smoke)[0])
    other = adapter_of(models.load(smoke.with_overrides({"seed": 1}, "this test"))[0])
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_adapter_learns_in_32_bits_whatever_the_arithmetic(smoke):
    model, _ = models.load(smoke.with_overrides({"precision": "bf16"}, "this test"))
    kinds = {(weights.requires_grad, weights.dtype) for weights in model.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


def test_model_and_tokenizer_agree_on_the_pad_token(loaded):
    model, tokenizer = loaded
    assert model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id


# Answering


def test_the_base_answers_as_before_the_training(loaded, smoke):
    model, tokenizer = loaded
    before = answers(model, tokenizer, smoke)
    train_at_random(model)
    assert answers(model, tokenizer, smoke) != before
    assert answers(model, tokenizer, smoke, base=True) == before
    assert answers(model, tokenizer, smoke) != before, "the adapter is on again"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("base", [True, False])
def test_answering_leaves_the_model_in_the_mode_it_was_in(loaded, training, base):
    model, _ = loaded
    model.train(training)
    with models.answering(model, base=base) as ready:
        assert not ready.training
    assert model.training is training
    assert models.trainable(model)[0] > 0, "the adapter still learns"


def test_an_error_while_answering_leaves_the_adapter_on(loaded, smoke):
    model, tokenizer = loaded
    train_at_random(model)
    model.train()
    tuned = answers(model, tokenizer, smoke)
    with pytest.raises(KeyboardInterrupt), models.answering(model, base=True):
        raise KeyboardInterrupt
    assert model.training
    assert answers(model, tokenizer, smoke) == tuned


# A trained adapter


@pytest.fixture
def trained(loaded, tmp_path):
    """A run folder with an adapter, and the model that it was saved from."""
    model, _ = loaded
    train_at_random(model)
    model.save_pretrained(tmp_path / "adapter")
    return Run(tmp_path), model


def test_a_trained_model_has_the_weights_that_were_saved(trained, smoke):
    run, model = trained
    again, tokenizer = models.load_trained(smoke, run / "adapter")
    saved, found = adapter_of(model), adapter_of(again)
    assert saved.keys() == found.keys()
    assert all(torch.equal(saved[name], found[name]) for name in saved)
    assert answers(again, tokenizer, smoke) == answers(model, tokenizer, smoke)


def test_an_adapter_of_another_rank_is_refused(trained, smoke):
    with pytest.raises(OtherConfiguration, match="r=8"):
        models.load_trained(smoke.with_overrides({"r": 8}, "this test"), trained[0] / "adapter")


def test_an_adapter_of_another_model_is_refused(trained, smoke):
    run, _ = trained
    file = run / "adapter/adapter_model.safetensors"
    safetensors.save_file(
        {name.replace("q_proj", "query"): weights for name, weights in safetensors.load_file(file).items()}, file
    )
    with pytest.raises(OtherConfiguration, match="does not fit"):
        models.load_trained(smoke, run / "adapter")


def test_an_adapter_that_lacks_a_projection_is_refused(trained, smoke):
    """Its layers would stay untrained without a word."""
    run, _ = trained
    file = run / "adapter/adapter_model.safetensors"
    safetensors.save_file({name: weights for name, weights in safetensors.load_file(file).items() if "q_proj" not in name}, file)
    with pytest.raises(OtherConfiguration, match="does not fit"):
        models.load_trained(smoke, run / "adapter")


# Machines


@pytest.fixture
def no_gpu(monkeypatch):
    """This machine, without its GPU if it has one."""
    monkeypatch.setattr(machine, "gpu", lambda: None)


def test_a_machine_without_a_gpu_refuses_four_bits_and_names_what_to_change(no_gpu):
    with pytest.raises(ValueError) as caught:
        models.check_machine(RunConfig())
    message = str(caught.value)
    assert "load_in_4bit=True" in message
    assert "adamw_8bit" in message
    assert "preset='cpu'" in message


@pytest.mark.parametrize("wish", [{"load_in_4bit": True}, {"precision": "fp16"}, {"optim": "adamw_8bit"}])
def test_each_wish_that_needs_a_gpu_is_refused_by_its_name(no_gpu, wish):
    with pytest.raises(ValueError, match=next(iter(wish))):
        models.check_machine(preset("cpu").with_overrides(wish, "this test"))


def test_unsloth_is_refused_before_it_is_imported(no_gpu):
    with pytest.raises(RuntimeError, match="engine='unsloth' needs a CUDA GPU"):
        models.check_machine(preset("cpu").with_overrides({"engine": "unsloth"}, "this test"))


@pytest.mark.parametrize("name", ["cpu", "smoke"])
def test_the_presets_for_small_machines_run_on_them(no_gpu, name):
    models.check_machine(preset(name))


def test_four_bits_are_refused_before_the_model_is_looked_for(no_gpu):
    with pytest.raises(ValueError, match="needs a CUDA GPU"):
        models.load(RunConfig(model_name="/no/such/folder"))


def test_a_model_that_is_not_there_is_named(smoke):
    with pytest.raises(model_files.ModelNotFound, match="/no/such/folder"):
        models.load(smoke.with_overrides({"model_name": "/no/such/folder"}, "this test"))


# Weights and memory


def test_the_weight_table_adds_up_to_the_models_parameters(loaded):
    model, _ = loaded
    table = models.weight_table(model)
    parts = table.drop(index="all")
    trained, everything = models.trainable(model)
    assert table.loc["all", "weights"] == parts["weights"].sum() == everything
    assert table.loc["adapter (trained)", "weights"] == trained
    assert everything == sum(parameter.numel() for parameter in model.parameters())
    loaded_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    assert table.loc["all", "as loaded (GiB)"] * machine.GIB == pytest.approx(loaded_bytes)


def test_four_bits_shrink_the_frozen_matrices_alone(loaded):
    table = models.weight_table(loaded[0])
    ratio = table["in 4 bit (GiB)"] / table["in 16 bit (GiB)"]
    # QLoRA (Dettmers et al., 2023), section 3: 0.127 bits a weight for the scales, doubly quantised.
    assert ratio["frozen matrices"] == pytest.approx((4 + 0.127) / 16)
    assert ratio["embeddings and norms"] == ratio["adapter (trained)"] == 1


def test_memory_in_use_is_no_more_than_the_machine_has():
    table = memory.table()
    assert 0 < table.loc["this process", "in use"] <= table.loc["this process", "in all"]
    assert memory.peak_memory_gib() > 0
