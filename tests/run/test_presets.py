"""Presets: the published recipe to the letter, and what each machine gets."""

import pytest
from conftest import T4

from helpers.run import presets
from helpers.run.machine import NoGpuOnColab

# Unsloth's published Llama-3.2 notebook; the table of presets in the design.
PUBLISHED = {
    "model_name": "unsloth/Llama-3.2-1B-Instruct",
    "data_source": "spider",
    "load_in_4bit": True,
    "r": 16,
    "lora_alpha": 16,
    "lora_dropout": 0,
    "target_modules": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "max_seq_length": 1024,
    "per_device_train_batch_size": 0,  # 8 examples a step in whichever shape is fastest; 1 is the recipe's own
    "train_batch_size": 8,
    "gradient_checkpointing": "unsloth",
    "optim": "adamw_8bit",
    "learning_rate": 2e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 10,
    "weight_decay": 0.01,
    "max_steps": 100,
    "packing": False,
    "precision": "auto",
}


@pytest.mark.parametrize(("name", "value"), PUBLISHED.items(), ids=PUBLISHED.keys())
def test_preset_seed_is_the_published_recipe(plain_machine, name, value):
    assert getattr(presets.preset("seed"), name) == value


def test_one_optimiser_step_of_the_published_recipe_sees_eight_examples(plain_machine):
    assert presets.preset("seed").train_batch_size == 8


def test_the_micro_batch_leaves_the_batch_size_as_it_is(plain_machine):
    full = presets.preset("full")
    assert (full.per_device_train_batch_size, full.train_batch_size) == (0, 32)
    assert full.with_overrides({"per_device_train_batch_size": 2}, "this test").train_batch_size == 32


@pytest.mark.parametrize(("gpu", "chosen"), [(T4, "seed"), (None, "cpu")])
def test_auto_is_seed_with_a_gpu_and_else_cpu(plain_machine, gpu, chosen):
    plain_machine(gpu)

    settings = presets.preset("auto")

    assert settings == presets.preset(chosen)
    assert settings.preset == chosen, "scores must name the preset that was really taken"


@pytest.mark.parametrize("name", ["cpu", "smoke"])
def test_the_presets_without_a_gpu_ask_for_nothing_that_needs_one(plain_machine, name):
    settings = presets.preset(name)
    assert not settings.load_in_4bit
    assert (settings.engine, settings.data_source, settings.optim) == ("transformers", "sample", "adamw_torch")


def test_an_unknown_preset_is_refused_with_the_nearest(plain_machine):
    with pytest.raises(ValueError, match=r"No preset is called 'sede'\. Did you mean 'seed'\?"):
        presets.preset("sede")


@pytest.mark.parametrize("name", ["auto", "seed", "full"])
def test_colab_without_a_gpu_stops_with_the_clicks_that_help(plain_machine, monkeypatch, name):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    with pytest.raises(NoGpuOnColab, match="Runtime → Change runtime type → T4 GPU"):
        presets.preset(name)


@pytest.mark.parametrize("name", ["cpu", "smoke"])
def test_colab_without_a_gpu_runs_the_presets_that_need_none(plain_machine, monkeypatch, name):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert presets.preset(name).preset == name


def test_colab_with_a_gpu_runs_the_published_recipe(plain_machine, monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    plain_machine(T4)
    assert presets.preset("auto").preset == "seed"


@pytest.mark.parametrize(("variable", "chosen"), [(None, "auto"), ("", "auto"), ("smoke", "smoke")])
def test_an_unnamed_preset_is_run_preset_and_else_auto(plain_machine, monkeypatch, variable, chosen):
    if variable is not None:
        monkeypatch.setenv("RUN_PRESET", variable)
    assert presets.default_preset() == chosen
